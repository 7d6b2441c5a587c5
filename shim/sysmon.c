/* SPDX-License-Identifier: MIT */
/*
 * sysmon.c: the kernel thread that watches.
 *
 * It is the process's first kernel thread, which the main task leaves when the runtime
 * wakes, and gets back when that goes to sleep again (rest.c).  It needs no processor.
 * Because the kernel prefers a process's first thread for signals that are sent to the
 * process, it also receives those, while it sleeps, and finds a task for each (signal.c).
 * After Go's sysmon and retake (proc.go).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <string.h>

#include "debug.h"
#include "libc.h"
#include "runtime.h"
#include "slot.h"

enum {
	SLEEP_MIN_NS = 20000,    /* Go's */
	SLEEP_MAX_NS = 10000000, /* Go's */
	/* While tasks queue: two looks find what blocks unannounced, within a millisecond.  Each
	 * costs some 13 us of CPU time in a guest. */
	SLEEP_QUEUE_NS = 450000,
	SLEEP_GOING_NS = 1000000, /* the same, while several processors go on */
	/* The longest, when for half a second nobody has been found to block, and no timer was
	 * late: what computes is hardly more than told of the end of its time slice. */
	SLEEP_CALM_NS = 1500000,
	TICKS_BEFORE_CALM = 1000,
	REST_AGAIN_NS =
	    20000000,    /* it is called back from rest 50 times a second at most */
	STAY_TICKS = 40, /* of that length: it is called back 50 times a second at most */
	SLEEP_IDLE_NS = 25000000,  /* while every processor is idle */
	SLEEP_REST_NS = 500000000, /* when that goes on: there is memory to give back */
	TICKS_BEFORE_RESTING = 100,
	TICKS_BEFORE_BACKING_OFF = 50, /* Go's: about a millisecond */
	/* About the kernel's own, not Go's 10 ms: programs that were written for kernel threads
	 * spin for one another, and each round of that costs them a slice. */
	SLICE_NS = 3000000,
	BLOCKED_NS = 200000, /* CPU clock still, and others wait: worth a closer look */
	BLOCKED_BLIND_NS = 2000000, /* the same where there is no closer look */
	PROBE_NS = 1000000,         /* for the closer look */
	HAND_OFF_NS = 20000, /* Go's: a processor in the kernel longer than one tick */
	CPU_SHARE = 8,       /* who had 1/8 of the time computes, on a busy machine too */
	STRAY_NS = 1000000,  /* of CPU time, after which a stray is stopped */
	TIMER_LATE_NS = 1000000,
	REFUSALS_MOST = 3, /* preemptions in vain before the processor is taken */
	TRIM_NS = 1000000000,
	SHRINK_NS = 5000000000,  /* parked for so long is parked for long */
	SHRINK_MOST = 4096,      /* tasks looked at in one turn: a millisecond or so */
	POLL_LATE_NS = 10000000, /* Go's */
	POLL_LATE_IDLE_NS = 500000,
};

struct lock retake_lock;
struct worker sysmon_worker;

void sysmon_wake(void)
{
	preempt_worker(&sysmon_worker);
}

void sysmon_call_back(void)
{
	store_relaxed(&sched.sysmon_sleep, SYSMON_WATCHES);
	sysmon_wake();
}

/* --- is it blocked? ----------------------------------------------------------------- */

/* The CPU time of a kernel thread of ours; measured: 750 ns. */
static ns_t cpu_of(struct worker *w)
{
	return sys_cpu_ns_of(load_relaxed(&w->tid));
}

static size_t put(char *at, const char *text)
{
	size_t n = 0;

	for (; text[n] != '\0'; n++)
		at[n] = text[n];
	return n;
}

enum answer { UNKNOWN, AWAKE, ASLEEP, NOT_YET };

/* The state of a kernel thread of ours by /proc; UNKNOWN where there is none. */
static enum answer read_state(unsigned tid)
{
	char path[64], digits[12], stat[256];
	size_t n = put(path, "/proc/self/task/"), i = sizeof(digits) - 1;

	digits[i] = '\0';
	do
		digits[--i] = '0' + tid % 10;
	while ((tid /= 10) != 0);
	n += put(path + n, digits + i);
	n += put(path + n, "/stat");
	path[n] = '\0';
	long fd = sys(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return UNKNOWN;
	long got = sys(SYS_read, fd, stat, sizeof(stat));
	sys(SYS_close, fd);
	/* "tid (name) S ...": the name may hold anything, so look from behind its end. */
	for (long k = got - 3; k > 0; k--)
		if (stat[k] == ')' && stat[k + 1] == ' ')
			return stat[k + 2] == 'S' || stat[k + 2] == 'D' ? ASLEEP : AWAKE;
	return UNKNOWN;
}

/*
 * The prober: a kernel thread that reads /proc for sysmon.  An open file takes the lowest
 * free descriptor, and a program may count on getting just that one; so the prober has a
 * table of descriptors of its own, empty.  Started when it is first needed.
 *
 * It gets that table in one system call.  In a copy made at its birth, and emptied as soon
 * as it runs, what the program closes meanwhile would stay open: until the machine had a CPU
 * for the prober no peer would see the end of a connection, and a pipe's writer no EPIPE.
 * For the few microseconds of the call whoever closes something waits.
 */
_Atomic bool fds_are_held;

static struct {
	struct worker worker;
	/* The low TID_BITS are a tid, or 0; the rest is the question's number.  Futex. */
	_Atomic uint32_t question;
	_Atomic uint32_t
	    answer; /* enum answer + 1 and the question's number, or 0; futex */
	uint32_t n_questions;
	bool started;
	_Atomic bool ends; /* at the next word that is no question */
} prober;

enum { TID_BITS = 22 }; /* the kernel's PID_MAX_LIMIT */

static void prober_main(void *arg)
{
	(void)arg;
	preempt_setup_thread(&prober.worker);
	setid_handle(&prober.worker);
	/* Before Linux 5.9 it stays blind. */
	store_release(&fds_are_held, true);
	bool is_apart = sys(SYS_close_range, 0, ~0U, CLOSE_RANGE_UNSHARE) == 0;
	store_release(&fds_are_held, false);
	for (;;) {
		uint32_t question = swap_acq_rel(&prober.question, 0);
		uint32_t tid = question & ((1U << TID_BITS) - 1);

		/* Pairs with prober_end(). */
		if (tid == 0 && load_acquire(&prober.ends))
			break;
		if (tid == 0) {
			sys_futex_wait(&prober.question, 0, NULL);
			continue;
		}
		enum answer answer = is_apart ? read_state(tid) : UNKNOWN;
		store_release(&prober.answer, question - tid + answer + 1);
		sys_futex_wake(&prober.answer, 1);
	}
	for (;;)
		sys(SYS_exit, 0);
}

static bool start_prober(void)
{
	struct worker *w = &prober.worker;

	if (prober.started)
		return true;
	if (w->stack == NULL && worker_init_self(w) < 0)
		return false;
	store_relaxed(&prober.ends, false);
	setid_inherit(w);
	prober.started = worker_spawn(w, prober_main);
	if (!prober.started || w->is_listed)
		return prober.started;
	/* For set*id: it has the process's ids, as all kernel threads. */
	lock_acquire(&sched.lock);
	w->is_listed = true;
	w->next_all = load_relaxed(&sched.all_workers);
	/* Pairs with whoever walks the list: the worker is filled in. */
	store_release(&sched.all_workers, w);
	lock_release(&sched.lock);
	return true;
}

void prober_end(void)
{
	if (!prober.started)
		return;
	prober.started = false;
	/* Pairs with prober_main(). */
	store_release(&prober.ends, true);
	store_release(&prober.question, 1U << TID_BITS);
	sys_futex_wake(&prober.question, 1);
}

static enum answer ask_prober(struct worker *w)
{
	struct timespec patience = ns_timespec(PROBE_NS);

	if (!start_prober())
		return UNKNOWN;
	uint32_t number = ++prober.n_questions << TID_BITS;
	store_relaxed(&prober.answer, 0);
	store_release(&prober.question, number | (uint32_t)load_relaxed(&w->tid));
	sys_futex_wake(&prober.question, 1);
	sys_futex_wait(&prober.answer, 0, &patience);
	/* Pairs with prober_main().  It may be the answer to a former question, late. */
	uint32_t answer = load_acquire(&prober.answer) - number;
	return answer >= 1 && answer <= ASLEEP + 1 ? (enum answer)(answer - 1) : NOT_YET;
}

/*
 * Whether w, whose CPU clock has stood still for a while, is blocked.  The machine may also
 * have had no CPU for it: /proc knows the difference.  Who was awake and has not run since
 * is awake still: on a busy machine the closer look would be asked for all the time.
 */
static bool is_blocked(struct proc *p, struct worker *w, ns_t still)
{
	if (still < BLOCKED_NS || p->seen_awake)
		return false;
	enum answer answer = ask_prober(w);

	p->seen_awake = answer == AWAKE;
	return answer == ASLEEP || (answer == UNKNOWN && still > BLOCKED_BLIND_NS);
}

/*
 * Whether it may be interrupted by our signal, which does more than make it look up: some
 * waits in the kernel fail with EINTR though SA_RESTART is set, for instance a stream's read
 * of a socket with a time limit (signal(7)).  Inside libc nobody begins those again, and
 * natively nothing ends them.  So who sleeps is left alone.
 */
static bool is_awake(struct worker *w)
{
	return ask_prober(w) != ASLEEP;
}

static bool has_share(ns_t ran, ns_t time)
{
	return ran > 0 && ran * CPU_SHARE >= time;
}

void sysmon_publish(struct pgreen_debug *d)
{
	d->address[DEBUG_SYSMON] = (uintptr_t)&sysmon_worker;
	d->address[DEBUG_PROBER] = (uintptr_t)&prober.worker;
}

void sysmon_fork_child(void)
{
	memset(&prober, 0, sizeof(prober));
	fds_are_held = false;
	memset(&sysmon_worker, 0, sizeof(sysmon_worker));
	retake_lock.word = 0;
}

/* --- taking processors away ----------------------------------------------------------- */

static bool is_outside_with(struct worker *w, struct proc *p)
{
	/* Pairs with leave_kernel(), in this order: in a door it has none. */
	return !load_acquire(&w->in_runtime) && load_acquire(&w->proc) == p;
}

/* Takes p from w, which runs outside the runtime and does not know: see runtime_enter(). */
static bool take_unannounced(struct proc *p, struct worker *w)
{
	bool taken = false;

	lock_acquire(&retake_lock);
	if (load_relaxed(&w->proc) == p && !load_relaxed(&w->in_runtime)) {
		store_relaxed(&w->must_look, true);
		if (sched.need_fence)
			fence_seq_cst();
		else
			sys(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
		/* Twice: see runtime_enter(). */
		taken = is_outside_with(w, p) && is_outside_with(w, p);
		if (taken) {
			store_relaxed(&w->proc, NULL);
			w->seen_cpu = cpu_of(w);
			w->lost_since = p->still_since;
			store_relaxed(&w->stray, true);
		}
	}
	lock_release(&retake_lock);
	return taken;
}

/* A call into the kernel was seen for which others may have to wait: the next look is soon. */
static bool look_again;

/* Processors that have gone on to another task since the last look.  While two have, those who
 * queue are served, though one of the two may be blocked: no hurry. */
static int n_going;

/* Another call into the kernel, or what comes after it, in the same time slice. */
static void see_call(struct proc *p, ns_t now)
{
	p->seen_kernel_calls = load_relaxed(&p->kernel_calls);
	p->seen_since = now;
	p->seen_cpu = 0;
}

static void see_anew(struct proc *p, ns_t now)
{
	see_call(p, now);
	p->seen_switches = load_relaxed(&p->switches);
	p->slice_seen = now;
	p->preempt_sent = now;
	p->asked = false;
	p->refusals = 0;
}

/* Its worker announced the kernel.  Returns whether it was taken. */
static bool retake_announced(struct proc *p, ns_t now)
{
	bool wanted = proc_has_work(p) || now - p->seen_since > SLICE_NS;
	struct worker *w = load_relaxed(&p->owner);
	/* A hint, without the lock. */
	struct worker *idle = *(struct worker *volatile *)&sched.idle_workers;

	if (now - p->seen_since < HAND_OFF_NS || !wanted)
		return false;
	/* Where it takes one more kernel thread, make sure that w does not merely wait for a CPU:
	 * the more threads there are, the longer they all do. */
	enum answer state = idle == NULL ? ask_prober(w) : ASLEEP;
	if (state == AWAKE || state == NOT_YET)
		return false;
	w->lost_since = p->seen_since;
	return retake_kernel_proc(p);
}

static bool hand_off_unannounced(struct proc *p, struct worker *w, ns_t now)
{
	if (!take_unannounced(p, w))
		return false;
	see_anew(p, now);
	proc_hand_off(p);
	return true;
}

/* Others want p, or it is to go because GOMAXPROCS was lowered. */
static bool is_wanted(struct proc *p)
{
	return proc_has_work(p) || p->id >= load_relaxed(&sched.n_procs);
}

/* Asks for p when its time slice is over. */
static bool end_slice(struct proc *p, struct worker *w, ns_t now, bool computes)
{
	if (now - p->slice_seen < SLICE_NS || now - p->preempt_sent < SLICE_NS)
		return false;
	if (!computes && !load_relaxed(&w->in_runtime) && !is_awake(w))
		return false;
	/* Who had no CPU meanwhile has refused nothing. */
	ns_t cpu = cpu_of(w);
	if (cpu - p->asked_cpu > SLICE_NS / 2 && ++p->refusals > REFUSALS_MOST)
		return hand_off_unannounced(p, w, now);
	p->asked_cpu = cpu;
	p->preempt_sent = now;
	p->asked = true;
	struct task *t = load_relaxed(&w->current);
	if (t != NULL) {
		or_acq_rel(&t->attention, ATTEND_PREEMPT);
		/* Once a slice in any case: should one ever get lost. */
		store_relaxed(&w->asked, 0);
		preempt_worker(w);
	}
	return false;
}

/* Its worker computes, or the kernel blocks it without a word. */
static bool retake_running(struct proc *p, struct worker *w, ns_t now)
{
	bool computes = false;

	if (!load_relaxed(&w->in_runtime)) {
		ns_t cpu = cpu_of(w);
		if (cpu != p->seen_cpu) {
			computes = p->seen_cpu != 0 &&
				   has_share(cpu - p->seen_cpu, now - p->still_since);
			p->seen_cpu = cpu;
			p->still_since = now;
			p->seen_awake = false;
		} else if (is_blocked(p, w, now - p->still_since)) {
			return hand_off_unannounced(p, w, now);
		}
	}
	return end_slice(p, w, now, computes);
}

/* What the next look will compare with, if others wait: it may be blocked already. */
static void see_more(struct proc *p, struct worker *w, uint32_t status, ns_t now)
{
	if (w == NULL || !is_wanted(p))
		return;
	if (status == PROC_IN_KERNEL) {
		look_again = true;
	} else if (!load_relaxed(&w->in_runtime)) {
		p->seen_cpu = cpu_of(w);
		p->still_since = now;
		p->seen_awake = false;
	}
}

static bool retake_one(struct proc *p, ns_t now)
{
	/* Pairs with enter_kernel(). */
	uint32_t status = load_acquire(&p->status);
	struct worker *w = load_relaxed(&p->owner);

	if (status == PROC_IDLE) {
		see_anew(p, now);
		return false;
	}
	uint32_t switches = load_relaxed(&p->switches);
	if (p->seen_switches != switches) {
		/* One switch after we asked for one: the slice is as old as that. */
		ns_t since =
		    p->asked && switches == p->seen_switches + 1 ? p->preempt_sent : now;
		n_going++;
		see_anew(p, now);
		p->slice_seen = p->preempt_sent = since;
		see_more(p, w, status, now);
		return false;
	}
	if (p->seen_kernel_calls != load_relaxed(&p->kernel_calls)) {
		/* Calls that are short leave its time slice as it is: it ends at the next. */
		see_call(p, now);
		see_more(p, w, status, now);
		return w != NULL && is_wanted(p) && end_slice(p, w, now, false);
	}
	if (status == PROC_IN_KERNEL)
		return retake_announced(p, now);
	return w != NULL && is_wanted(p) && retake_running(p, w, now);
}

/* PGREEN_SHAKE: whatever runs is preempted, or loses its processor, at every look. */
static void shake(struct proc *p, ns_t now)
{
	struct worker *w = load_relaxed(&p->owner);
	struct task *t = w != NULL ? load_relaxed(&w->current) : NULL;

	if (t == NULL || load_relaxed(&p->status) != PROC_RUNNING)
		return;
	if ((sched.shake & SHAKE_HAND_OFF) && hand_off_unannounced(p, w, now))
		return;
	if (sched.shake & SHAKE_PREEMPT) {
		or_acq_rel(&t->attention, ATTEND_PREEMPT);
		preempt_worker(w);
	}
}

static bool retake(ns_t now)
{
	int n = load_relaxed(&sched.n_procs_ever);
	bool any = false;

	n_going = 0;
	if (unlikely(sched.shake & SHAKE_PREEMPT))
		stacks_shrink(4, 0);
	for (int i = 0; i < n; i++) {
		struct proc *p = &sched.procs[i];

		if (unlikely(sched.shake != 0))
			shake(p, now);
		any |= retake_one(p, now);
	}
	return any;
}

/* Whether w, a stray, computes: one that comes back from the kernel to wait there again has
 * nothing to queue for. */
static bool is_going(struct worker *w)
{
	ns_t cpu = cpu_of(w);

	if (cpu - w->seen_cpu < (sched.shake != 0 ? 1 : STRAY_NS))
		return false;
	w->seen_cpu = cpu;
	return sched.shake != 0 || is_awake(w);
}

/* Workers that lost their processor and run again: make them queue like all others. */
static bool stop_strays(void)
{
	bool any = false;
	/* Pairs with worker_create(). */
	struct worker *w = load_acquire(&sched.all_workers);

	for (; w != NULL; w = w->next_all) {
		if (!load_relaxed(&w->stray) || !is_going(w))
			continue;
		preempt_worker(w);
		any = true;
	}
	return any;
}

/* Whether w's task has to be told to look up, again. */
static bool remind_worker(struct worker *w)
{
	struct task *t = load_relaxed(&w->current);
	/* A cancel is only urgent where libc blocks; elsewhere its time comes. */
	int urgent = 0;

	if (unlikely(load_relaxed(&w->unheard))) {
		store_relaxed(&w->unheard, false);
		preempt_worker(w);
		return true;
	}
	/* An adopted one's TCB may be gone, with the thread. */
	if (t != NULL)
		urgent =
		    ATTEND_SIGNAL | ATTEND_ASK |
		    (!task_is_adopted(t) && libc_in_cancel_point(t->tcb) ? ATTEND_CANCEL
									 : 0);
	if (urgent == 0 || !(load_relaxed(&t->attention) & urgent))
		return false;
	preempt_worker(w);
	return true;
}

static bool remind_foreign(struct task *t, void *any)
{
	/* All others are among all_workers. */
	if (is_bound(t) && !load_relaxed(&t->worker)->is_listed)
		*(bool *)any |= remind_worker(load_relaxed(&t->worker));
	return true;
}

/*
 * A task that has a signal or cancel to look at and still runs on: the preemption was
 * refused, or fell between two looks.  Tried again until it has looked up.  And one that may
 * wait in the kernel, when the signal that shall end its call could not be sent.
 */
static bool remind(void)
{
	bool any = false;

	if (!load_relaxed(&sched.reminders))
		return false;
	store_relaxed(&sched.reminders, 0);
	/* Pairs with worker_create(). */
	struct worker *w = load_acquire(&sched.all_workers);
	for (; w != NULL; w = w->next_all)
		any |= remind_worker(w);
	foreign_tasks_for_each(remind_foreign, &any);
	if (any)
		store_relaxed(&sched.reminders, 1);
	return any;
}

/* The task that w runs, if it floats and does not block the signal. */
static struct task *ticking_task(struct worker *w, uint64_t bit)
{
	struct task *t = load_relaxed(&w->current);

	return t != NULL && !is_bound(t) && !(load_relaxed(&t->sigmask) & bit) ? t : NULL;
}

/* Whether one may run soon, or does by now, on another worker than this. */
static bool may_tick(const struct worker *but, uint64_t bit)
{
	int n = load_relaxed(&sched.n_procs_ever);

	for (int i = 0; i < n; i++) {
		struct proc *p = &sched.procs[i];
		struct worker *w = load_relaxed(&p->owner);

		if (load_relaxed(&p->status) == PROC_RUNNING &&
		    (w == NULL || load_relaxed(&w->proc) != p ||
		     load_relaxed(&w->current) == NULL ||
		     (w != but && ticking_task(w, bit) != NULL)))
			return true;
	}
	return work_anywhere();
}

/* Each has as many as it has used CPU time: next is who has used the most since its last. */
bool sysmon_ticked(uint64_t bit, struct task **who)
{
	struct worker *best = NULL;
	ns_t most = -1;
	/* Pairs with worker_create(). */
	struct worker *w = load_acquire(&sched.all_workers);

	*who = NULL;
	for (; w != NULL; w = w->next_all) {
		if (ticking_task(w, bit) == NULL)
			continue;
		ns_t cpu = cpu_of(w);
		if (cpu < w->ticked_cpu) /* another kernel thread's */
			w->ticked_cpu = 0;
		if (cpu - w->ticked_cpu > most) {
			most = cpu - w->ticked_cpu;
			best = w;
		}
	}
	if (best != NULL) {
		best->ticked_cpu += most;
		if (is_awake(best)) {
			/* Not who ran before we asked: it may wait by now, and its wait
			 * would end. */
			*who = ticking_task(best, bit);
			return *who != NULL;
		}
		/* It sleeps by now; who else has used some is next. */
		if (most > 0)
			return false;
	}
	return !may_tick(best, bit);
}

static bool fire_late_timers(ns_t now)
{
	int n = load_relaxed(&sched.n_procs_ever), fired = 0;

	for (int i = 0; i < n; i++)
		fired += timers_fire(&sched.procs[i].timers, now - TIMER_LATE_NS);
	return fired != 0;
}

/* Descriptors, when no worker has come to it for long: all are busy, or the one that would
 * poll computes while another sleeps. */
static void poll_late(ns_t now)
{
	ns_t late =
	    load_relaxed(&sched.n_idle_procs) != 0 ? POLL_LATE_IDLE_NS : POLL_LATE_NS;

	if (!netpoll_is_live() || load_relaxed(&sched.poller) != NULL ||
	    now - load_relaxed(&sched.last_poll) < late)
		return;
	struct task *chain = netpoll(0);
	if (sched_push_chain(&sysmon_worker, chain) > 0)
		sched_kick();
}

/* The machine had no kernel thread for us when there was work: perhaps it has now. */
static void retry_start(void)
{
	/* Pairs with sched_kick(): it has given back what it had. */
	if (!load_acquire(&sched.worker_failed))
		return;
	store_relaxed(&sched.worker_failed, false);
	sched_kick();
}

/* --- the loop --------------------------------------------------------------------------- */

/* Until the next time slice ends. */
static ns_t calm_sleep(ns_t now)
{
	int n = load_relaxed(&sched.n_procs);
	ns_t sleep = SLEEP_CALM_NS;

	for (int i = 0; i < n; i++) {
		struct proc *p = &sched.procs[i];
		ns_t left = p->preempt_sent + SLICE_NS - now;

		if (load_relaxed(&p->status) != PROC_IDLE && left < sleep)
			sleep = left;
	}
	return sleep > SLEEP_QUEUE_NS ? sleep : SLEEP_QUEUE_NS;
}

/*
 * Whether sysmon may rest, since all processors are idle: whoever takes one calls it back, or
 * a timer or descriptor that comes due while that computes would wait until it wakes by
 * itself.  On a server that is idle between any two requests each would pay for that: so when
 * it has been called lately it is not called again, but sleeps no longer than beside busy ones.
 */
static bool may_rest(bool called_lately)
{
	lock_acquire(&sched.lock);
	bool idle =
	    load_relaxed(&sched.n_idle_procs) >= (uint32_t)load_relaxed(&sched.n_procs);
	if (idle)
		store_relaxed(&sched.sysmon_sleep,
			      called_lately ? SYSMON_AWAY : SYSMON_RESTS);
	lock_release(&sched.lock);
	/* Pairs with sched_kick(): it sees that we are away, or we see the task. */
	fence_seq_cst();
	if (idle && !work_anywhere())
		return true;
	store_relaxed(&sched.sysmon_sleep, SYSMON_WATCHES);
	return false;
}

/* How long sysmon sleeps next.  It may be away for long only while no task queues, and
 * whoever queues one then calls it back: seldom, since it stays for a while. */
static ns_t next_sleep(ns_t now, ns_t sleep, int idle_ticks, int calm_ticks,
		       bool called_lately, int *stay)
{
	if (load_relaxed(&sched.n_idle_procs) >= (uint32_t)load_relaxed(&sched.n_procs) &&
	    may_rest(called_lately))
		return called_lately                       ? SLEEP_MAX_NS
		       : idle_ticks > TICKS_BEFORE_RESTING ? SLEEP_REST_NS
							   : SLEEP_IDLE_NS;
	if (idle_ticks == 0 || sched.shake != 0)
		return SLEEP_MIN_NS;
	if (idle_ticks > TICKS_BEFORE_BACKING_OFF)
		sleep *= 2;
	if (sleep <= SLEEP_QUEUE_NS)
		return sleep;
	ns_t queue_sleep = calm_ticks > TICKS_BEFORE_CALM ? calm_sleep(now)
			   : n_going >= 2                 ? SLEEP_GOING_NS
							  : SLEEP_QUEUE_NS;
	if (*stay > 0) {
		--*stay;
		return queue_sleep;
	}
	store_relaxed(&sched.sysmon_sleep, SYSMON_AWAY);
	/* Pairs with sched_kick(): it sees that we are away, or we see the task. */
	fence_seq_cst();
	if (work_anywhere()) {
		store_relaxed(&sched.sysmon_sleep, SYSMON_WATCHES);
		*stay = STAY_TICKS;
		return queue_sleep;
	}
	return sleep > SLEEP_MAX_NS ? SLEEP_MAX_NS : sleep;
}

_Noreturn void sysmon_loop(void)
{
	ns_t sleep = SLEEP_MIN_NS, trimmed = now_ns(), alone_since = NO_DEADLINE;
	ns_t called = 0; /* back from its rest, the last time */
	int idle_ticks = 0, calm_ticks = 0, stay = 0;
	bool is_second = false; /* this look, right after another */

	for (;;) {
		struct timespec ts = ns_timespec(is_second ? SLEEP_MIN_NS : sleep);
		int slept = load_relaxed(&sched.sysmon_sleep);

		signal_sleep(&ts);
		bool was_called = load_relaxed(&sched.sysmon_sleep) != slept;
		if (was_called && slept == SYSMON_AWAY)
			stay = STAY_TICKS;
		store_relaxed(&sched.sysmon_sleep, SYSMON_WATCHES);
		signal_route();
		rest_begin();
		ns_t now = now_ns();
		if (was_called && slept == SYSMON_RESTS)
			called = now;
		bool busy = retake(now);
		busy |= stop_strays();
		busy |= remind();
		bool was_late = fire_late_timers(now);
		poll_late(now);
		retry_start();
		alone_since = rest_look(alone_since, now);
		idle_ticks = busy ? 0 : idle_ticks + 1;
		calm_ticks = busy || was_late ? 0 : calm_ticks + 1;
		sleep = next_sleep(now, sleep, idle_ticks, calm_ticks,
				   now - called < REST_AGAIN_NS, &stay);
		/* Calls may be short, and each look see another one: not twice running. */
		is_second = look_again && !is_second;
		look_again = false;
		if (now - trimmed > TRIM_NS) {
			slot_trim();
			stacks_shrink(SHRINK_MOST, SHRINK_NS);
			trimmed = now;
		}
	}
}
