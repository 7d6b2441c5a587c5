/* SPDX-License-Identifier: MIT */
/*
 * sched.c: who runs next.
 *
 * Go's scheduler, for Go's reasons (proc.go's opening comment).  Work is pushed to the
 * local queue of the processor that made it runnable, and stolen by those that have none.
 * The question is when to wake a sleeping worker.  Waking one at every push is right and
 * slow: a pair that plays ping-pong would thrash two CPUs.  Never waking one while any
 * worker runs leaves processors idle beside full queues.  The rule, as Go's: a push wakes
 * one worker if a processor is idle and nobody is spinning (looking for work); a spinning
 * worker that finds work wakes one more before it runs it.  So the number of workers rises
 * one by one while there is work, and at most one push in flight is not looked for.
 *
 * Two patterns race, and each side has a fence between its store and its load:
 *
 *	push:  put the task on a queue;  fence;  n_spinning == 0 and a processor idle?  wake
 *	sleep: n_spinning--;             fence;  look into every queue once more
 *
 * Either the pusher sees that nobody spins, or the last spinner sees the task.
 *
 * Tasks switch to each other directly.  What must happen only when the task that left has
 * its registers saved (tell the waker that it is parked, push it, free its stack) is
 * done by whoever runs next on the worker: finish_switch().
 */
#include <errno.h>

#include "runtime.h"
#include "switch.h"

enum {
	GLOBAL_TURN = 61, /* as Go's schedule(): keeps the global queue from starving */
	/* Time stamp ticks, at 1 to 4 GHz: about a slice, and a tenth of a millisecond. */
	AHEAD_MOST = 1 << 23,
	TOGETHER_MOST = 1 << 18,
	STEAL_ROUNDS = 4, /* as Go's stealWork() */
	/* How long an idle worker looks for work before it sleeps.  A futex wake across
	 * CPUs costs 5 to 45 us in a guest; looking costs its CPU's time. */
	SPIN_NS = 5000,
	STALE_SPINS = 50,
	SPARE_IDLE_NS = 1000000000, /* a worker beyond GOMAXPROCS goes away after this */
	FROM_GLOBAL_MOST = RUNQ_SIZE / 2,
};

struct sched sched;

ns_t now_ns(void)
{
	struct timespec ts;

	host.clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

/* --- the global queue -------------------------------------------------------------- */

static void global_push_locked(struct task *t)
{
	store_relaxed(&t->next, NULL);
	if (load_relaxed(&sched.queue_head) == NULL)
		store_relaxed(&sched.queue_head, t);
	else
		store_relaxed(&sched.queue_tail->next, t);
	sched.queue_tail = t;
	store_relaxed(&sched.queue_len, load_relaxed(&sched.queue_len) + 1);
}

static struct task *global_pop_locked(void)
{
	struct task *t = load_relaxed(&sched.queue_head);

	if (t == NULL)
		return NULL;
	store_relaxed(&sched.queue_head, load_relaxed(&t->next));
	store_relaxed(&sched.queue_len, load_relaxed(&sched.queue_len) - 1);
	return t;
}

static void local_push(struct proc *p, struct task *t)
{
	struct task *batch[RUNQ_SIZE / 2 + 1];
	int n = runq_push(&p->runq, t, batch);

	if (likely(n == 0))
		return;
	lock_acquire(&sched.lock);
	for (int i = 0; i < n; i++)
		global_push_locked(batch[i]);
	lock_release(&sched.lock);
}

/* Takes one task, and a fair share of the rest into p's queue when that is empty. */
static struct task *global_take(struct proc *p, bool batch)
{
	if (load_relaxed(&sched.queue_len) == 0)
		return NULL;
	lock_acquire(&sched.lock);
	struct task *t = global_pop_locked();
	uint32_t share = load_relaxed(&sched.queue_len) / load_relaxed(&sched.n_procs);

	if (share > FROM_GLOBAL_MOST)
		share = FROM_GLOBAL_MOST;
	for (; batch && share > 0; share--) {
		struct task *more = global_pop_locked(), *over[RUNQ_SIZE / 2 + 1];
		/* At most half the ring, and only when it is empty: it fits. */
		if (more == NULL || runq_push(&p->runq, more, over) != 0)
			break;
	}
	lock_release(&sched.lock);
	return t;
}

int sched_push_chain(struct worker *w, struct task *chain)
{
	struct proc *p = load_relaxed(&w->proc);
	struct task *next;
	int n = 0;

	if (p == NULL)
		lock_acquire(&sched.lock);
	for (struct task *t = chain; t != NULL; t = next, n++) {
		next = load_relaxed(&t->next);
		if (p != NULL)
			local_push(p, t);
		else
			global_push_locked(t);
	}
	if (p == NULL)
		lock_release(&sched.lock);
	return n;
}

void sched_push(struct task *t)
{
	lock_acquire(&sched.lock);
	global_push_locked(t);
	lock_release(&sched.lock);
	sched_kick();
}

/* --- processors -------------------------------------------------------------------- */

static void idle_push_locked(struct proc *p)
{
	store_relaxed(&p->status, PROC_IDLE);
	p->idle_next = sched.idle_procs;
	sched.idle_procs = p;
	store_relaxed(&sched.n_idle_procs, load_relaxed(&sched.n_idle_procs) + 1);
}

static struct proc *proc_take_idle(void)
{
	bool sysmon_rests;

	if (load_relaxed(&sched.n_idle_procs) == 0)
		return NULL;
	lock_acquire(&sched.lock);
	struct proc *p = sched.idle_procs;
	if (p != NULL) {
		sched.idle_procs = p->idle_next;
		store_relaxed(&sched.n_idle_procs, load_relaxed(&sched.n_idle_procs) - 1);
		store_relaxed(&p->status, PROC_RUNNING);
	}
	/* Under the lock, as sysmon stores it: it sees p taken, or we see that it rests. */
	sysmon_rests = load_relaxed(&sched.sysmon_sleep) == SYSMON_RESTS;
	lock_release(&sched.lock);
	/* While p is in use nobody else sees to timers and descriptors that others wait for. */
	if (unlikely(sysmon_rests) && p != NULL)
		sysmon_call_back();
	return p;
}

static bool is_retired(const struct proc *p)
{
	return p->id >= load_relaxed(&sched.n_procs);
}

/* Nobody has p, which is beyond a lowered GOMAXPROCS: it leaves its tasks to the others. */
static void retire_locked(struct proc *p)
{
	bool inherit;
	struct task *t;

	while ((t = runq_pop(&p->runq, &inherit)) != NULL)
		global_push_locked(t);
	store_relaxed(&p->status, PROC_IDLE);
}

void sched_resize(int before, int after)
{
	lock_acquire(&sched.lock);
	store_relaxed(&sched.n_procs, after);
	/* Idle ones beyond the new number leave the list; others do when they look. */
	for (struct proc **at = &sched.idle_procs; *at != NULL;) {
		struct proc *p = *at;

		if (is_retired(p)) {
			*at = p->idle_next;
			store_relaxed(&sched.n_idle_procs,
				      load_relaxed(&sched.n_idle_procs) - 1);
			retire_locked(p);
		} else {
			at = &p->idle_next;
		}
	}
	/* One that was retired and is idle again, or is new. */
	for (int i = before; i < after; i++)
		if (load_relaxed(&sched.procs[i].status) == PROC_IDLE)
			idle_push_locked(&sched.procs[i]);
	lock_release(&sched.lock);
	sched_kick();
}

void proc_release(struct proc *p)
{
	lock_acquire(&sched.lock);
	/* Under the lock: see PROC_IDLE. */
	bool retired = is_retired(p);
	if (retired)
		retire_locked(p);
	else
		idle_push_locked(p);
	lock_release(&sched.lock);
	if (retired)
		sched_kick();
}

static void proc_own(struct worker *w, struct proc *p)
{
	store_relaxed(&p->owner, w);
	store_relaxed(&p->status, PROC_RUNNING);
	/* sysmon must not compare with a former owner's counts. */
	store_relaxed(&p->switches, load_relaxed(&p->switches) + 1);
	store_release(&w->proc, p);
}

void proc_hand_off(struct proc *p)
{
	if (!is_retired(p) && proc_has_work(p) && worker_start(p, false))
		return;
	proc_release(p);
	/* Work may have come between the look and the release. */
	fence_seq_cst();
	if (proc_has_work(p))
		sched_kick();
}

/* --- making runnable --------------------------------------------------------------- */

void sched_kick(void)
{
	int none = 0;

	/* Pairs with the fence in find_work: see the file's comment. */
	fence_seq_cst();
	if (load_relaxed(&sched.n_idle_procs) == 0) {
		/* Who holds the processors may block, and only sysmon sees it. */
		if (unlikely(load_relaxed(&sched.sysmon_sleep) != SYSMON_WATCHES))
			sysmon_call_back();
		return;
	}
	if (load_relaxed(&sched.n_spinning) != 0)
		return;
	if (!cas_acq_rel(&sched.n_spinning, &none, 1))
		return;
	struct proc *p = proc_take_idle();
	if (p == NULL) {
		add_acq_rel(&sched.n_spinning, -1);
	} else if (!worker_start(p, true)) {
		add_acq_rel(&sched.n_spinning, -1);
		proc_release(p);
		/* Only now, when nobody seems to spin, may sysmon try. */
		store_release(&sched.worker_failed, true);
		if (load_relaxed(&self_task->worker->apart))
			sysmon_wake();
	}
}

bool sched_start_worker(void)
{
	struct proc *p = proc_take_idle();

	if (p == NULL || worker_start_new(p, false))
		return true; /* who has them all, has workers */
	proc_release(p);
	return false;
}

void ready(struct task *t)
{
	struct worker *w = load_relaxed(&self_task->worker);
	struct proc *p = load_relaxed(&w->proc);

	if (p == NULL) {
		sched_push(t);
		return;
	}
	struct task *kicked = runq_push_next(&p->runq, t);
	if (kicked != NULL)
		local_push(p, kicked);
	sched_kick();
}

/* --- switching --------------------------------------------------------------------- */

void finish_switch(struct worker *w)
{
	struct task *t = w->left;
	enum after_switch after = w->after;
	uint32_t running = PARK_RUNNING;

	w->after = AFTER_NOTHING;
	switch (after) {
	case AFTER_NOTHING:
		break;
	case AFTER_PARK:
		/* Pairs with wake_task(): the waker finds the registers saved. */
		if (!cas_acq_rel(&t->park, &running, PARK_PARKED))
			ready(t);
		break;
	case AFTER_REQUEUE:
		sched_push(t);
		break;
	case AFTER_YIELD_LOCKED:
		global_push_locked(t);
		lock_release(&sched.lock);
		if (load_relaxed(&sched.n_idle_procs) != 0)
			sched_kick();
		break;
	case AFTER_EXIT:
		/* Its signal stack and list of robust mutexes were the task's. */
		if (w->owned)
			preempt_setup_thread(w);
		task_finish(t);
		break;
	case AFTER_REST:
		/* Pairs with rest_begin(). */
		store_release(&sched.to_rest, t);
		sysmon_wake();
		break;
	}
}

/*
 * What a task has used is counted in time stamp ticks between switches: asking the kernel
 * costs ten times a switch.  But a worker may have been blocked, or have had no CPU.  So for
 * every tenth of a millisecond that it claims to have run the kernel is asked once, and who
 * runs then gets what its clock says beyond what was assumed of the others.
 */
static uint64_t measure(struct worker *w, uint64_t most)
{
	uint64_t now = ns_ticks(sys_cpu_ns());
	int64_t used = (int64_t)(now - load_relaxed(&w->cpu_known));

	store_relaxed(&w->cpu_known, now);
	w->cpu_assumed = 0;
	return used < 0 ? 0 : (uint64_t)used < most ? (uint64_t)used : most;
}

/* Charges t with what it has used of w up to tsc. */
static inline void charge(struct worker *w, struct task *t, uint64_t tsc)
{
	uint64_t ticks = tsc - load_relaxed(&t->run_start);

	if (unlikely(w->cpu_assumed + ticks > sched.assume_most)) {
		ticks = measure(w, ticks);
	} else {
		w->cpu_assumed += ticks;
		store_relaxed(&w->cpu_known, load_relaxed(&w->cpu_known) + ticks);
	}
	store_relaxed(&t->cpu_tsc, load_relaxed(&t->cpu_tsc) + ticks);
}

void sched_count_cpu(struct task *t)
{
	struct worker *w = load_relaxed(&t->worker);
	uint64_t tsc = __builtin_ia32_rdtsc();
	uint64_t most = tsc - load_relaxed(&t->run_start);

	if (sched.ticks_per_ns > 0)
		most = measure(w, most);
	store_relaxed(&t->cpu_tsc, load_relaxed(&t->cpu_tsc) + most);
	store_relaxed(&t->run_start, tsc);
}

static uint64_t used_about(struct task *t)
{
	struct worker *w = load_acquire(&t->worker);
	uint64_t since = load_acquire(&t->run_start), used = load_acquire(&t->cpu_tsc);

	if (w == NULL || load_acquire(&w->current) != t || sched.ticks_per_ns == 0)
		return used;
	uint64_t known = load_acquire(&w->cpu_known);
	int tid = load_relaxed(&w->tid);
	uint64_t now = ns_ticks(sys_cpu_ns_of(tid));
	uint64_t most = __builtin_ia32_rdtsc() - since;
	/* It may have left the worker meanwhile, or come back. */
	if (load_acquire(&w->current) != t || load_relaxed(&t->run_start) != since ||
	    load_relaxed(&t->cpu_tsc) != used || (int64_t)(now - known) < 0)
		return load_relaxed(&t->cpu_tsc);
	/* What the worker used since it was last measured may have been the runtime's: a
	 * processor was looked for.  charge() will not give t that. */
	return used + (now - known < most ? now - known : most);
}

/*
 * A clock must not go back, and used_about() may: charge() stores what is known of the worker
 * before what the task has, and may have asked the kernel earlier than used_about() did.
 */
uint64_t sched_cpu_so_far(struct task *t)
{
	uint64_t low = 0xff, generation = t->generation;
	uint64_t shown = load_acquire(&t->cpu_shown);
	uint64_t mine = (used_about(t) & ~low) | generation;

	do {
		if ((shown & low) == generation && shown >= mine)
			return shown & ~low;
	} while (!cas_acq_rel(&t->cpu_shown, &shown, mine));
	return mine & ~low;
}

/* Makes t the worker's current task, at time stamp tsc.  The switch itself follows. */
static inline void run(struct worker *w, struct proc *p, struct task *t, bool inherit,
		       uint64_t tsc)
{
	store_relaxed(&t->worker, w);
	store_relaxed(&t->run_start, tsc);
	store_relaxed(&w->current, t);
	if (!inherit) {
		store_relaxed(&p->switches, load_relaxed(&p->switches) + 1);
		p->slice_since = tsc;
	}
	if (unlikely(sched.shake & SHAKE_PREEMPT))
		store_relaxed(&w->preempt,
			      1); /* it looks up when it leaves the runtime */
}

/* Asks for descriptors that are ready, if nobody waits for them; their tasks go to w's queue.
 * Returns whether there were any. */
static bool poll_now(struct worker *w)
{
	if (!netpoll_is_live() || load_relaxed(&sched.poller) != NULL)
		return false;
	struct task *chain = netpoll(0);

	if (chain == NULL)
		return false;
	if (sched_push_chain(w, chain) > 1)
		sched_kick();
	return true;
}

/*
 * Whose turn is it?  A processor's own queue is in a hurry: who was just woken is there.  In
 * the global queue is who has computed for a whole slice, who yields, but also who comes back
 * from the kernel and lost his processor there, perhaps with a lock that all others want.  So
 * while anybody waits there both get the same time: local_ahead is what those of the own
 * queue have had more of.  Those in a hurry seldom need half, and then never wait.
 *
 * And run_next: a pair that wakes each other stays together, in one slice, but if others
 * queue only for a tenth of a millisecond.  MariaDB's latches make crowds that wake each
 * other and find the holder still there; he was behind them in the queue.
 */
static inline void take_turns(struct proc *p, struct task *left, uint64_t tsc)
{
	int64_t ticks = (int64_t)(tsc - load_relaxed(&left->run_start));

	if (load_relaxed(&sched.queue_len) == 0) {
		p->local_ahead = 0;
		return;
	}
	if (ticks > AHEAD_MOST)
		ticks = AHEAD_MOST;
	p->local_ahead += p->runs_global ? -ticks : ticks;
	if (p->local_ahead > AHEAD_MOST)
		p->local_ahead = AHEAD_MOST;
	else if (p->local_ahead < -AHEAD_MOST)
		p->local_ahead = -AHEAD_MOST;
}

static inline bool is_turn_of_global(const struct proc *p)
{
	return load_relaxed(&sched.queue_len) != 0 && p->local_ahead > 0;
}

/* What p itself has to run, without a search, at time stamp tsc. */
static struct task *pick_local(struct worker *w, struct proc *p, bool *inherit,
			       uint64_t tsc)
{
	struct task *t = NULL;

	*inherit = false;
	if (unlikely(is_retired(p)))
		return NULL;
	if (unlikely(load_relaxed(&p->timers.next) != NO_DEADLINE))
		timers_fire(&p->timers, now_ns());
	store_relaxed(&p->tick, load_relaxed(&p->tick) + 1);
	p->runs_global = false;
	/* Turns are counted in time slices, not in tasks: else a pair that plays ping-pong by
	 * way of run_next, whose slice each turn would begin anew, keeps the local queue
	 * waiting for ever. */
	bool is_turn = load_relaxed(&p->switches) % GLOBAL_TURN == 0;
	if (unlikely(is_turn))
		poll_now(w);
	if (unlikely(is_turn || is_turn_of_global(p))) {
		t = global_take(p, false);
		p->runs_global = t != NULL;
	}
	if (t == NULL && unlikely(tsc - p->slice_since > TOGETHER_MOST))
		t = runq_pop_ring(&p->runq);
	if (t == NULL)
		t = runq_pop(&p->runq, inherit);
	if (t == NULL) {
		t = global_take(p, true);
		p->runs_global = true;
	}
	return t;
}

/* Leaves t's stack for next's, or for the worker's own when there is none. */
static inline void leave_for(struct task *t, struct worker *w, struct proc *p,
			     struct task *next, bool inherit, enum after_switch after,
			     uint64_t tsc)
{
	charge(w, t, tsc);
	if (unlikely(switch_keeps_pkru))
		t->pkru = pkru_read();
	t->left_tsc = tsc;
	w->left = t;
	w->after = after;
	if (next != NULL) {
		run(w, p, next, inherit, tsc);
		switch_to(&t->sp, next->sp, next->tcb);
	} else {
		store_relaxed(&w->current, NULL);
		store_relaxed(&w->self.run_start, tsc);
		switch_to(&t->sp, w->self.sp, w->self.tcb);
	}
	if (unlikely(switch_keeps_pkru))
		pkru_write(t->pkru);
	finish_switch(load_relaxed(&t->worker));
}

void sched_leave(struct task *t, enum after_switch after)
{
	struct worker *w = load_relaxed(&t->worker);
	struct proc *p = load_relaxed(&w->proc);
	uint64_t tsc = __builtin_ia32_rdtsc();
	bool inherit = false;
	struct task *next = NULL;

	if (p != NULL) {
		take_turns(p, t, tsc);
		next = pick_local(w, p, &inherit, tsc);
	}
	leave_for(t, w, p, next, inherit, after, tsc);
}

/*
 * A bound task parks in the kernel.  False: the deadline passed.  A signal of the kernel's
 * that arrives here is only queued; park_interrupt() sees to it that the wait ends, also
 * when it arrives just before the futex is entered.
 */
static bool park_bound(struct task *t, ns_t deadline)
{
	uint32_t state = PARK_RUNNING;

	t->left_tsc = __builtin_ia32_rdtsc();
	if (!cas_acq_rel(&t->park, &state, PARK_PARKED))
		goto woken;
	for (;;) {
		if (park_is_wanted(t))
			park_cancel(t, -EINTR);
		if (load_acquire(&t->park) == PARK_WOKEN)
			goto woken;
		struct timespec ts = ns_timespec(deadline - now_ns());
		long r = sys_futex_wait(&t->park, PARK_PARKED,
					deadline == NO_DEADLINE ? NULL : &ts);

		if (load_acquire(&t->park) == PARK_WOKEN)
			goto woken;
		state = PARK_PARKED;
		if (r == -ETIMEDOUT && cas_acq_rel(&t->park, &state, PARK_RUNNING))
			return false;
		state = PARK_INTERRUPTED;
		cas_acq_rel(&t->park, &state, PARK_PARKED);
	}
woken:
	store_relaxed(&t->park, PARK_RUNNING);
	return true;
}

void park_interrupt(struct task *t)
{
	uint32_t parked = PARK_PARKED;

	cas_acq_rel(&t->park, &parked, PARK_INTERRUPTED);
}

bool sched_park(struct task *t, ns_t deadline)
{
	if (is_bound(t))
		return park_bound(t, deadline);
	if (load_acquire(&t->park) != PARK_WOKEN)
		sched_leave(t, AFTER_PARK);
	store_relaxed(&t->park, PARK_RUNNING);
	return true;
}

/* Where a new task's first switch arrives. */
void task_first_run(void *arg)
{
	struct task *t = arg;

	if (unlikely(switch_keeps_pkru))
		pkru_write(t->pkru);
	finish_switch(load_relaxed(&t->worker));
	if (is_bound(t))
		task_own_thread(t);
	runtime_leave(t);
	host.task_main(t);
	__builtin_unreachable();
}

/* Switches to the head of the global queue and goes to its tail, under one hold of the lock:
 * it is kept over the switch, for the task may be taken only when its registers are saved.
 * False: nobody is there to go to. */
static bool yield_to_global(struct task *t, struct worker *w, struct proc *p)
{
	if (load_relaxed(&sched.queue_len) == 0)
		return false;
	lock_acquire(&sched.lock);
	struct task *next = global_pop_locked();
	if (next == NULL) {
		lock_release(&sched.lock);
		return false;
	}
	p->runs_global = true;
	leave_for(t, w, p, next, false, AFTER_YIELD_LOCKED, __builtin_ia32_rdtsc());
	return true;
}

void task_yield(void)
{
	struct task *t = task_self();

	if (is_bound(t)) {
		sys(SYS_sched_yield);
		return;
	}
	struct worker *w = runtime_enter(t);
	struct proc *p = load_relaxed(&w->proc);
	bool alone = false;

	if (!runq_empty(&p->runq) || load_relaxed(&p->timers.next) != NO_DEADLINE ||
	    is_retired(p))
		sched_leave(t, AFTER_REQUEUE);
	else
		alone = !yield_to_global(t, w, p);
	if (alone)
		store_relaxed(&p->switches, load_relaxed(&p->switches) + 1);
	runtime_leave(t);
	/* Whom it lets run may be on another worker, and that without a CPU: in another
	 * process, or because GOMAXPROCS is more than there are. */
	if (alone || load_relaxed(&sched.n_procs) > sched.n_cpus)
		sys(SYS_sched_yield);
}

/* --- the search for work ----------------------------------------------------------- */

static uint32_t next_random(struct worker *w)
{
	uint32_t x = w->random;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return w->random = x;
}

/*
 * Whether victim's run_next has been left alone for a microsecond or two: then its owner
 * computes, and it may be stolen.  Otherwise the owner is about to run it, as in a
 * ping-pong, and stealing it would only make the pair thrash (Go sleeps 3 us there).
 */
static bool next_is_stale(struct proc *victim)
{
	struct task *t = load_relaxed(&victim->runq.run_next);
	uint32_t tick = load_relaxed(&victim->tick);

	if (t == NULL)
		return false;
	for (int i = 0; i < STALE_SPINS; i++)
		cpu_relax();
	return load_relaxed(&victim->runq.run_next) == t &&
	       load_relaxed(&victim->tick) == tick;
}

static struct task *steal(struct worker *w, struct proc *p, bool with_next)
{
	uint32_t n = load_relaxed(&sched.n_procs), at = next_random(w);

	for (uint32_t i = 0; i < n; i++) {
		struct proc *victim = &sched.procs[(at + i) % n];
		struct task *t;

		if (victim == p)
			continue;
		t = runq_steal(&p->runq, &victim->runq,
			       with_next && next_is_stale(victim));
		if (t != NULL)
			return t;
	}
	return NULL;
}

/* Fires what is due anywhere, also on processors that were taken out of use; returns the
 * earliest deadline that is left. */
static ns_t timers_fire_all(ns_t now)
{
	uint32_t n = load_relaxed(&sched.n_procs_ever);
	ns_t least = NO_DEADLINE;

	for (uint32_t i = 0; i < n; i++) {
		struct timer_heap *h = &sched.procs[i].timers;
		ns_t next;

		timers_fire(h, now);
		next = load_acquire(&h->next);
		if (next < least)
			least = next;
	}
	return least;
}

static void start_spinning(struct worker *w)
{
	if (w->spinning)
		return;
	w->spinning = true;
	add_acq_rel(&sched.n_spinning, 1);
}

static bool may_spin(struct worker *w)
{
	int spinning = load_relaxed(&sched.n_spinning);
	/* Processors that may bring forth work: neither idle, nor ours, nor looking. */
	int busy = load_relaxed(&sched.n_procs) - (int)load_relaxed(&sched.n_idle_procs) -
		   1 - spinning;

	/* Like Go: no more look for work than can bring it forth. */
	return w->spinning || spinning < busy;
}

static struct task *spin_for_work(struct worker *w, struct proc *p)
{
	ns_t until = 0;

	for (int round = 0;; round++) {
		struct task *t = steal(w, p, round >= STEAL_ROUNDS - 1);

		if (t != NULL)
			return t;
		if (load_relaxed(&sched.queue_len) != 0)
			return global_take(p, true);
		if (round < STEAL_ROUNDS)
			continue;
		ns_t now = now_ns();
		if (load_relaxed(&p->timers.next) <= now)
			return NULL;
		if (until == 0)
			until = now + SPIN_NS;
		if (now >= until)
			return NULL;
		for (int i = 0; i < 20; i++)
			cpu_relax();
	}
}

bool work_anywhere(void)
{
	uint32_t n = load_relaxed(&sched.n_procs_ever);

	if (load_relaxed(&sched.queue_len) != 0)
		return true;
	for (uint32_t i = 0; i < n; i++)
		if (!runq_empty(&sched.procs[i].runq))
			return true;
	return false;
}

/* Gives the processor up, unless there is work after all. */
static void go_idle(struct worker *w, struct proc *p)
{
	bool spun = w->spinning;

	store_relaxed(&w->proc, NULL);
	proc_release(p);
	if (spun) {
		w->spinning = false;
		add_acq_rel(&sched.n_spinning, -1);
	}
	/* Pairs with the fence in sched_kick(): see the file's comment. */
	fence_seq_cst();
	if (!work_anywhere())
		return;
	p = proc_take_idle();
	if (p == NULL)
		return;
	proc_own(w, p);
	if (spun)
		start_spinning(w);
}

/* One try to find a task for p.  NULL: the processor may have been given up. */
static struct task *find_once(struct worker *w, struct proc *p)
{
	bool inherit;
	struct task *t;

	if (is_retired(p)) {
		go_idle(w, p);
		return NULL;
	}
	t = pick_local(w, p, &inherit, __builtin_ia32_rdtsc());
	if (t != NULL)
		return t;
	timers_fire_all(now_ns());
	poll_now(w);
	t = runq_pop(&p->runq, &inherit);
	if (t != NULL)
		return t;
	if (may_spin(w)) {
		start_spinning(w);
		t = spin_for_work(w, p);
		if (t != NULL)
			return t;
		if (load_relaxed(&p->timers.next) <= now_ns())
			return NULL;
	}
	go_idle(w, p);
	return NULL;
}

/* --- idle workers ------------------------------------------------------------------ */

static void idle_list_push(struct worker *w)
{
	lock_acquire(&sched.lock);
	w->next_idle = sched.idle_workers;
	sched.idle_workers = w;
	lock_release(&sched.lock);
}

/* Takes w off the list if it is still there: nobody has given it a processor. */
static bool idle_list_remove(struct worker *w)
{
	bool found = false;

	lock_acquire(&sched.lock);
	for (struct worker **at = &sched.idle_workers; *at != NULL;
	     at = &(*at)->next_idle) {
		if (*at != w)
			continue;
		*at = w->next_idle;
		found = true;
		break;
	}
	lock_release(&sched.lock);
	return found;
}

struct worker *idle_list_pop_locked(void)
{
	struct worker **at = &sched.idle_workers, *w = *at;

	/* The poller last: another one's futex is cheaper, and somebody must poll. */
	if (w != NULL && w->next_idle != NULL && load_relaxed(&sched.poller) == w) {
		at = &w->next_idle;
		w = *at;
	}
	if (w != NULL)
		*at = w->next_idle;
	return w;
}

static ns_t earliest_timer(void)
{
	uint32_t n = load_relaxed(&sched.n_procs_ever);
	ns_t least = NO_DEADLINE;

	for (uint32_t i = 0; i < n; i++) {
		ns_t next = load_acquire(&sched.procs[i].timers.next);
		if (next < least)
			least = next;
	}
	return least;
}

/* One of the idle workers is the poller: it sleeps no longer than the next timer, which it
 * tells in *until, and sees the descriptors that become ready. */
static bool become_poller(struct worker *w, ns_t *until)
{
	struct worker *none = NULL;

	*until = NO_DEADLINE;
	if (load_relaxed(&sched.poller) != NULL || !cas_acq_rel(&sched.poller, &none, w))
		return false;
	store_relaxed(&sched.poll_until, 0);
	/* Pairs with timer_wake_poller() and sched_wake_poller(): they see us, or we see their
	 * timer and the netpoller. */
	fence_seq_cst();
	*until = earliest_timer();
	store_relaxed(&sched.poll_until, *until);
	return true;
}

static void stop_polling(struct worker *w)
{
	struct worker *me = w;

	cas_acq_rel(&sched.poller, &me, NULL);
}

void worker_poke(struct worker *w)
{
	/* Pairs with worker_sleep(): what it shall look at was stored before. */
	store_release(&w->wake_word, 1);
	/* Pairs with sleep_in_epoll(): it sees the word, or we see where it sleeps. */
	fence_seq_cst();
	if (load_relaxed(&w->in_epoll))
		netpoll_wake();
	else
		sys_futex_wake(&w->wake_word, 1);
}

void sched_wake_poller(void)
{
	/* Pairs with become_poller(). */
	fence_seq_cst();
	struct worker *w = load_relaxed(&sched.poller);

	if (w != NULL)
		worker_poke(w);
}

void timer_wake_poller(ns_t when)
{
	/* Pairs with become_poller(). */
	fence_seq_cst();
	struct worker *w = load_relaxed(&sched.poller);

	if (w != NULL && load_relaxed(&sched.poll_until) > when)
		worker_poke(w);
}

static void take_given(struct worker *w, struct proc *p)
{
	store_relaxed(&w->given, NULL);
	proc_own(w, p);
}

/* The poller's sleep.  Returns the tasks that wait for a descriptor no longer. */
static struct task *sleep_in_epoll(struct worker *w, ns_t until)
{
	struct task *chain = NULL;

	store_relaxed(&w->in_epoll, true);
	/* Pairs with worker_poke(). */
	fence_seq_cst();
	if (load_acquire(&w->wake_word) == 0)
		chain = netpoll(until);
	store_relaxed(&w->in_epoll, false);
	return chain;
}

/* Sleeps in the futex until the deadline, and a second at most. */
static void sleep_in_futex(struct worker *w, ns_t until)
{
	ns_t now = now_ns(), patience = now + SPARE_IDLE_NS;
	struct timespec ts = ns_timespec((until < patience ? until : patience) - now);

	if (load_acquire(&w->wake_word) == 0)
		sys_futex_wait(&w->wake_word, 0, &ts);
}

/* There is something to run: takes an idle processor for it, if there is one and the worker
 * is not to be given one anyway. */
static bool take_proc_to_run(struct worker *w, bool *is_listed)
{
	*is_listed = idle_list_remove(w);
	if (!*is_listed)
		return false;
	struct proc *p = proc_take_idle();

	if (p == NULL) {
		idle_list_push(w);
		return false;
	}
	proc_own(w, p);
	return true;
}

/* Pushes what the poller found; true when it has a processor to run it on. */
static bool run_polled(struct worker *w, struct task *chain)
{
	bool is_listed, mine = take_proc_to_run(w, &is_listed);
	int n = sched_push_chain(w, chain);

	if (!mine || n > 1)
		sched_kick();
	return mine;
}

static bool is_spare(void)
{
	return load_relaxed(&sched.n_workers) > load_relaxed(&sched.n_procs);
}

/* Sleeps until somebody gives the worker a processor, or a timer or a descriptor wants one. */
static void worker_sleep(struct worker *w)
{
	struct proc *p = load_acquire(&w->given);

	/* A new worker begins with one, and is on no list. */
	if (p != NULL) {
		take_given(w, p);
		return;
	}
	store_relaxed(&w->wake_word, 0);
	idle_list_push(w);
	for (;;) {
		struct task *chain = NULL;
		ns_t until;
		bool polls = become_poller(w, &until), is_listed;

		if (polls && netpoll_is_live())
			chain = sleep_in_epoll(w, until);
		else
			sleep_in_futex(w, until);
		if (polls)
			stop_polling(w);
		bool woken = swap_acq_rel(&w->wake_word, 0) != 0;
		/* Pairs with worker_start(). */
		p = load_acquire(&w->given);
		if (p != NULL) {
			take_given(w, p);
			if (sched_push_chain(w, chain) > 0)
				sched_kick();
			return;
		}
		if (chain != NULL) {
			if (run_polled(w, chain))
				return;
		} else if (until <= now_ns()) {
			if (take_proc_to_run(w, &is_listed))
				return;
			struct timespec ts = ns_timespec(100000);
			if (is_listed) /* all are busy: they fire it */
				sys_futex_wait(&w->wake_word, 0, &ts);
		} else if ((rest_is_closing() ||
			    (!woken && until == NO_DEADLINE &&
			     !(polls && netpoll_is_live()) && is_spare())) &&
			   idle_list_remove(w)) {
			worker_exit(w);
		}
	}
}

/* --- the worker's own loop ---------------------------------------------------------- */

static void stop_spinning(struct worker *w)
{
	if (!w->spinning)
		return;
	w->spinning = false;
	add_acq_rel(&sched.n_spinning, -1);
	/* There may be more where this came from. */
	sched_kick();
}

_Noreturn void worker_loop(struct worker *w)
{
	store_relaxed(&w->cpu_known, 0);
	w->cpu_assumed = 0;
	store_relaxed(&w->self.run_start, __builtin_ia32_rdtsc());
	for (;;) {
		struct proc *p = load_relaxed(&w->proc);

		if (p == NULL) {
			worker_sleep(w);
			continue;
		}
		struct task *t = find_once(w, p);
		if (t == NULL)
			continue;
		p = load_relaxed(&w->proc);
		stop_spinning(w);
		uint64_t tsc = __builtin_ia32_rdtsc();
		charge(w, &w->self, tsc);
		run(w, p, t, false, tsc);
		/* Pairs with park_rouse(): it finds t here, or runtime_leave() its attention.  From
		 * task to task finish_switch() is in between, with a lock or a swap. */
		fence_seq_cst();
		switch_to(&w->self.sp, t->sp, t->tcb);
		finish_switch(w);
		if (w->owned) /* by the task that has just ended */
			worker_exit(w);
	}
}

_Noreturn void worker_run_bound(struct worker *w, struct task *t)
{
	switch_to(&w->self.sp, t->sp, t->tcb);
	finish_switch(w);
	worker_exit(w);
}

/* --- losing and finding a processor ------------------------------------------------ */

/* The calling task's worker has none: takes an idle one, or queues the task. */
static void want_proc(struct task *t)
{
	struct proc *p = proc_take_idle();

	if (p != NULL)
		proc_own(load_relaxed(&t->worker), p);
	else
		sched_leave(t, AFTER_REQUEUE);
}

/* Comes back from the announced kernel with a processor; inside the runtime. */
static void close_door(struct task *t, struct worker *w)
{
	struct proc *p = w->kernel_proc;
	uint32_t in_kernel = PROC_IN_KERNEL;

	store_relaxed(&t->in_door, false);
	w->kernel_proc = NULL;
	/* Pairs with whoever took it and ran on it. */
	if (likely(cas_acq_rel(&p->status, &in_kernel, PROC_RUNNING))) {
		store_relaxed(&p->owner, w);
		/* Pairs with take_unannounced(): it sees in_runtime. */
		store_release(&w->proc, p);
	} else {
		want_proc(t);
	}
}

void runtime_enter_slow(struct task *t)
{
	struct worker *w = load_relaxed(&t->worker);

	/* What libc calls inside a door has called us (malloc, and it a mutex): the door ends
	 * here, and leave_kernel() finds it closed. */
	if (load_relaxed(&t->in_door)) {
		close_door(t, w);
		return;
	}
	/* sysmon may be about to take it: see runtime_enter(). */
	lock_acquire(&retake_lock);
	store_relaxed(&w->must_look, false);
	store_relaxed(&w->stray, false);
	lock_release(&retake_lock);
	if (load_relaxed(&w->proc) == NULL && !is_bound(t))
		want_proc(t);
}

bool retake_kernel_proc(struct proc *p)
{
	uint32_t in_kernel = PROC_IN_KERNEL;

	/* Pairs with enter_kernel(), and with leave_kernel()'s CAS: one of us has it. */
	if (!cas_acq_rel(&p->status, &in_kernel, PROC_RUNNING))
		return false;
	proc_hand_off(p);
	return true;
}

void enter_kernel(void)
{
	struct task *t = task_self();

	if (is_bound(t))
		return;
	struct worker *w = runtime_enter(t);
	struct proc *p = load_relaxed(&w->proc);

	w->kernel_proc = p;
	store_relaxed(&t->in_door, true);
	store_relaxed(&p->kernel_calls, load_relaxed(&p->kernel_calls) + 1);
	store_relaxed(&w->proc, NULL);
	/* Pairs with sysmon's CAS: it finds the queues as we left them. */
	store_release(&p->status, PROC_IN_KERNEL);
	if (unlikely(sched.shake & SHAKE_HAND_OFF))
		retake_kernel_proc(p);
	store_relaxed(&w->in_runtime, 0);
}

void leave_kernel(void)
{
	struct task *t = task_self();

	if (is_bound(t)) {
		if (unlikely(load_relaxed(&t->attention)))
			runtime_leave_slow(t);
		return;
	}
	/* It may be closed already: see runtime_enter_slow() and preempted(). */
	if (!load_relaxed(&t->in_door))
		return;
	struct worker *w = load_relaxed(&t->worker);

	store_relaxed(&w->in_runtime, 1);
	close_door(t, w);
	runtime_leave(t);
}

/* Enters and leaves the runtime, so that what is pending is attended to. */
static void look_up(struct task *t)
{
	runtime_enter(t);
	runtime_leave(t);
}

long kernel_try(bool *begun, long nr, long a, long b, long c, long d, long e, long f)
{
	struct task *t = task_self();
	const long args[6] = {a, b, c, d, e, f};

	/* Pairs with who sets attention, then interrupt: after the swap we see the one or the
	 * system call sees the other. */
	swap_acq_rel(&t->interrupt, 0);
	store_relaxed(&t->was_cut, false);
	if (unlikely(park_is_wanted(t))) {
		look_up(t);
		return -EINTR;
	}
	enter_kernel();
	long r = kernel_call_asm(&t->interrupt, nr, args);
	leave_kernel();
	if (unlikely(r == CALL_REFUSED))
		return -EINTR;
	*begun = true;
	return r;
}

bool kernel_was_cut(const struct task *t)
{
	return load_relaxed(&t->was_cut);
}

long kernel_call(long nr, long a, long b, long c, long d, long e, long f)
{
	bool begun;

	return kernel_try(&begun, nr, a, b, c, d, e, f);
}
