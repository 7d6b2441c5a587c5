/* SPDX-License-Identifier: MIT */
/*
 * signal.c: signals as the program sees them.
 *
 * A task has a mask and a pending set of its own.  The kernel knows neither: all floating
 * workers block every signal but faults, and the process's signals arrive at sysmon, whose
 * kernel mask while it sleeps is what all tasks block in common.  So the kernel itself
 * applies the default action or ignores, exactly when it would have done so natively, and
 * what has a handler is queued by sysmon for a task that does not block it.  The handler
 * then runs on that task, when it looks up: at the end of its wait, on its way out of the
 * runtime, or where preemption stopped it.  What a task waits for by sigwait sysmon takes in
 * the same way as a waiting thread would, without delivery.
 *
 * A bound task's kernel thread has the task's own mask, and the kernel delivers to it.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "libc.h"
#include "runtime.h"
#include "switch.h"

enum {
	N_SIGNALS = 65,
	N_QUEUED =
	    4096, /* signals pending at a time, as RLIMIT_SIGPENDING bounds natively */
	N_CLASSES = 64,
	SA_RESTORER_FLAG = 0x04000000,
	SIG_SETXID = 33, /* glibc's */
	MINSIGSTKSZ_KERNEL = 2048,
	RED_ZONE = 128,
	CALL_ROOM =
	    1024, /* of call_handler() itself, down to the handler's first frame */
	SS_AUTODISARM_FLAG = (int)(1U << 31), /* linux/signal.h */
};

#define SYNCHRONOUS                                                               \
	(SIG_BIT(SIGSEGV) | SIG_BIT(SIGBUS) | SIG_BIT(SIGFPE) | SIG_BIT(SIGILL) | \
	 SIG_BIT(SIGTRAP) | SIG_BIT(SIGSYS))
/* What the kernel sends to a kernel thread for a write that it makes, also inside libc. */
#define RAISED (SIG_BIT(SIGPIPE) | SIG_BIT(SIGXFSZ))
/* Of timers that count the process's CPU time. */
#define TICKS (SIG_BIT(SIGPROF) | SIG_BIT(SIGVTALRM))
#define OURS (SIG_BIT(SIG_PREEMPT) | SIG_BIT(SIG_SETXID))
#define REAL_TIME (~(SIG_BIT(SIG_SETXID + 1) - 1)) /* the program's */
#define IGNORED_BY_DEFAULT \
	(SIG_BIT(SIGCHLD) | SIG_BIT(SIGURG) | SIG_BIT(SIGWINCH) | SIG_BIT(SIGCONT))

uint64_t worker_sigmask = ~(SYNCHRONOUS | RAISED | OURS);

struct queued_signal {
	struct queued_signal *next;
	siginfo_t info;
};

static struct lock signal_lock;                    /* queues and actions; a leaf */
static struct kernel_sigaction actions[N_SIGNALS]; /* what the program asked for */
static struct pending_signals process_pending;
static struct queued_signal storage[N_QUEUED], *free_signals;
static bool storage_used;
/* For what sysmon takes from the kernel next.  Without one it leaves there what cannot be lost,
 * and whoever has room for it again wakes it. */
static struct queued_signal *sysmon_spare;

/* Of process_pending, by such a timer, and nobody's yet; sysmon only. */
static uint64_t ticks;

/* Of RAISED and SYNCHRONOUS, sent to the process and met by a worker; and by whom the last
 * was.  Not in process_pending yet. */
static _Atomic uint64_t strayed;
static _Atomic pid_t strayed_from;

/* Whether something is pending that t does not block. */
static bool is_let_through(const struct task *t)
{
	return ((load_relaxed(&t->raised) | load_relaxed(&strayed) |
		 load_acquire(&t->pending.set) | load_acquire(&process_pending.set)) &
		~load_relaxed(&t->sigmask)) != 0;
}

/* Masks in use, counted, so that their intersection is at hand: tasks by the thousand have
 * the same one.  signal_lock but for the counts of tasks that start and end. */
static struct mask_class {
	uint64_t mask;
	_Atomic int32_t n;
} classes[N_CLASSES];
static _Atomic uint64_t sigwaited;     /* signals that some floating task waits for */
static int n_waiters[N_SIGNALS];       /* how many, for each; signal_lock */
static _Atomic uint64_t sysmon_blocks; /* what all blocked when sysmon's sleep began */
static uint64_t sysmon_takes;          /* what some waited for then; signal_lock */
static _Atomic uint32_t
    sysmon_rounds; /* its sleeps, counted: a change has been adopted */
static _Atomic int sysmon_waited_for;

/*
 * A bound task's signals interrupt it anywhere, and their handler wants the lock too: they
 * are blocked while it is held.  Floating tasks and sysmon are never interrupted by a
 * handler that takes it.
 */
static void signals_lock(void)
{
	struct task *t = self_task;
	uint64_t all = ~0ULL, before = 0;

	if (t != NULL && is_bound(t))
		sys_sigmask(SIG_BLOCK, &all, &before);
	lock_acquire(&signal_lock);
	if (t != NULL && is_bound(t))
		t->kernel_mask = before;
}

static void signals_unlock(void)
{
	struct task *t = self_task;
	uint64_t before = t != NULL ? t->kernel_mask : 0;

	lock_release(&signal_lock);
	if (t != NULL && is_bound(t))
		sys_sigmask(SIG_SETMASK, &before, NULL);
}

/* --- storage ------------------------------------------------------------------------- */

static struct queued_signal *take_signal_locked(void)
{
	struct queued_signal *q = free_signals;

	if (!storage_used) {
		storage_used = true;
		for (int i = 0; i < N_QUEUED; i++) {
			storage[i].next = free_signals;
			free_signals = &storage[i];
		}
		q = free_signals;
	}
	if (q != NULL)
		free_signals = q->next;
	return q;
}

static void give_signal_locked(struct queued_signal *q)
{
	q->next = free_signals;
	free_signals = q;
}

/* A timer has one signal pending, and counts in it how often it expires meanwhile. */
static bool is_overrun_locked(struct pending_signals *p, const siginfo_t *info)
{
	if (info->si_code != SI_TIMER)
		return false;
	for (struct queued_signal *q = p->queue; q != NULL; q = q->next) {
		if (q->info.si_code != SI_TIMER || q->info.si_timerid != info->si_timerid)
			continue;
		q->info.si_overrun += info->si_overrun + 1;
		return true;
	}
	return false;
}

static int add_locked(struct pending_signals *p, const siginfo_t *info)
{
	uint64_t bit = SIG_BIT(info->si_signo);
	struct queued_signal *q, **at;

	/* A standard signal that is pending already is not queued again. */
	if (is_overrun_locked(p, info) ||
	    (!(REAL_TIME & bit) && (load_relaxed(&p->set) & bit)))
		return 0;
	q = take_signal_locked();
	/* As the kernel: what cannot be refused is pending without its siginfo. */
	if (q == NULL && (REAL_TIME & bit) && info->si_code != SI_USER)
		return -EAGAIN;
	for (at = &p->queue; *at != NULL; at = &(*at)->next)
		;
	if (q != NULL) {
		q->info = *info;
		q->next = NULL;
		*at = q;
	}
	or_acq_rel(&p->set, bit);
	return 0;
}

/* Takes the lowest signal of set, the oldest of its kind.  Returns its number or 0. */
static int take_locked(struct pending_signals *p, uint64_t set, siginfo_t *info)
{
	struct queued_signal **at, **found = NULL;
	bool more = false;

	set &= load_relaxed(&p->set);
	if (set == 0)
		return 0;
	int sig = __builtin_ctzll(set) + 1;
	for (at = &p->queue; *at != NULL; at = &(*at)->next) {
		if ((*at)->info.si_signo != sig)
			continue;
		more = found != NULL;
		if (more)
			break;
		found = at;
	}
	if (found == NULL) {
		*info = (siginfo_t){.si_signo = sig, .si_code = SI_USER};
	} else {
		struct queued_signal *q = *found;
		*found = q->next;
		*info = q->info;
		give_signal_locked(q);
		if (sysmon_spare == NULL)
			sysmon_wake();
	}
	if (!more)
		and_acq_rel(&p->set, ~SIG_BIT(sig));
	return sig;
}

static void drop_locked(struct pending_signals *p, uint64_t set)
{
	siginfo_t info;

	while (take_locked(p, set, &info) != 0)
		;
}

/* --- masks --------------------------------------------------------------------------- */

static int class_find_locked(uint64_t mask)
{
	int empty = 0;

	for (int i = 1; i < N_CLASSES; i++) {
		if (classes[i].n > 0 && classes[i].mask == mask)
			return i;
		if (classes[i].n <= 0 && empty == 0)
			empty = i;
	}
	/* Where masks are too many, class 0 counts the rest, by what they block in common: those
	 * that have left are counted on until all have. */
	if (empty != 0 || load_relaxed(&classes[0].n) <= 0)
		classes[empty].mask = mask;
	else
		classes[0].mask &= mask;
	return empty;
}

static uint64_t blocked_by_all_locked(void)
{
	uint64_t all = ~0ULL;

	for (int i = 0; i < N_CLASSES; i++)
		if (load_relaxed(&classes[i].n) > 0)
			all &= classes[i].mask;
	return all;
}

static void add_raised(struct pending_signals *p, uint64_t set, pid_t from)
{
	siginfo_t info = {.si_code = SI_USER};

	info.si_pid = from;
	info.si_uid = (uid_t)sys(SYS_getuid);
	signals_lock();
	for (; set != 0; set &= set - 1) {
		info.si_signo = __builtin_ctzll(set) + 1;
		add_locked(p, &info);
	}
	signals_unlock();
}

/* What raised_in_worker() could only note becomes pending.  t, by itself, or NULL: sysmon. */
static void collect_raised(struct task *t)
{
	if (unlikely(load_relaxed(&strayed))) {
		add_raised(&process_pending, swap_acq_rel(&strayed, 0),
			   load_relaxed(&strayed_from));
		/* It is whose turn sysmon says, who may have looked in between. */
		if (t != NULL)
			sysmon_wake();
	}
	if (t != NULL && unlikely(load_relaxed(&t->raised)))
		add_raised(&t->pending, swap_acq_rel(&t->raised, 0), sched.pid);
}

/* Queues for the process what arrived at sysmon; it is routed when its sleep ends. */
static void queue_for_process(const siginfo_t *info)
{
	uint64_t all = ~0ULL, before;

	if (info->si_code == SI_KERNEL)
		ticks |= SIG_BIT(info->si_signo) & TICKS;
	/* sysmon sleeps when this runs, so it holds no lock.  But another signal may come
	 * meanwhile: those of faults are open in handlers. */
	sys_sigmask(SIG_BLOCK, &all, &before);
	signals_lock();
	if (sysmon_spare != NULL)
		give_signal_locked(sysmon_spare);
	add_locked(&process_pending, info);
	sysmon_spare = take_signal_locked();
	signals_unlock();
	sys_sigmask(SIG_SETMASK, &before, NULL);
}

void signal_sleep(const struct timespec *ts)
{
	struct task *main_task = task_main();
	uint64_t all = ~0ULL;
	siginfo_t info = {0};

	/* Pairs with sysmon_adopt(): what was changed before it saw the new round is in the
	 * masks. */
	add_acq_rel(&sysmon_rounds, 1);
	if (load_acquire(&sysmon_waited_for))
		sys_futex_wake((void *)&sysmon_rounds, INT32_MAX);
	signals_lock();
	uint64_t mask = blocked_by_all_locked() & ~OURS;
	uint64_t waited = load_relaxed(&sigwaited);
	store_relaxed(&sysmon_blocks, mask);
	if (sysmon_spare == NULL)
		sysmon_spare = take_signal_locked();
	if (sysmon_spare == NULL) {
		mask |= REAL_TIME;
		waited &= ~REAL_TIME;
	}
	sysmon_takes = waited;
	signals_unlock();
	/* What a main that is bound waits for it takes from the kernel itself. */
	mask |= waited | (is_bound(main_task) ? load_relaxed(&main_task->sigwait) : 0);
	if (waited == 0) {
		sys(SYS_ppoll, 0, 0, ts, &mask, KERNEL_SIGSET_SIZE);
		return;
	}
	/* What some wait for is taken like they would, never delivered: its action may be the
	 * default.  That is for who leaves it open, if the kernel would have asked him first
	 * (signal_route()).  So is our own wake taken, which must not fall between the two
	 * calls. */
	waited |= SIG_BIT(SIG_PREEMPT);
	mask |= SIG_BIT(SIG_PREEMPT);
	sys_sigmask(SIG_SETMASK, &mask, NULL);
	long sig = sys(SYS_rt_sigtimedwait, &waited, &info, ts, KERNEL_SIGSET_SIZE);
	sys_sigmask(SIG_SETMASK, &all, NULL);
	if (sig == SIG_PREEMPT) {
		preempt_arrived(&sysmon_worker);
		setid_handle(&sysmon_worker);
	} else if (sig > 0) {
		queue_for_process(&info);
	}
}

/* Sees to it that sysmon has slept, or will, with a mask of this moment. */
static void sysmon_adopt(bool wait)
{
	uint32_t round = load_acquire(&sysmon_rounds);

	sysmon_wake();
	if (!wait)
		return;
	add_acq_rel(&sysmon_waited_for, 1);
	while (load_acquire(&sysmon_rounds) == round) {
		struct timespec ts = ns_timespec(1000000);
		sys_futex_wait((void *)&sysmon_rounds, round, &ts);
		sysmon_wake();
	}
	add_acq_rel(&sysmon_waited_for, -1);
}

static bool sysmon_has_room(void)
{
	signals_lock();
	bool has = sysmon_spare != NULL;
	signals_unlock();
	return has;
}

/* Has sysmon take of set what the kernel has pending for the process, and route it. */
static void take_pending(uint64_t set)
{
	uint64_t pending = 0;
	int rounds = N_QUEUED; /* not for ever: it may be sent faster than it is taken */

	do {
		/* Asked first: what is not pending now sysmon has taken in a sleep that may
		 * not be over yet. */
		sys(SYS_rt_sigpending, &pending, KERNEL_SIGSET_SIZE);
		/* One whole sleep: it has begun after this, and what it brought was routed
		 * before the next.  Each takes one signal, our own before others. */
		sysmon_adopt(true);
		sysmon_adopt(true);
	} while ((pending & set) && --rounds > 0 && sysmon_has_room());
}

/* Counts t's mask anew. */
static void set_class(struct task *t)
{
	uint64_t counted = load_relaxed(&t->sigmask);

	signals_lock();
	uint64_t before = blocked_by_all_locked();
	add_relaxed(&classes[t->mask_class].n, -1);
	t->mask_class = class_find_locked(counted);
	add_relaxed(&classes[t->mask_class].n, 1);
	uint64_t after = blocked_by_all_locked();
	signals_unlock();
	if (!runtime_is_running() || before == after)
		return;
	/* A signal newly blocked by all must not meet sysmon unblocked: wait.  One newly
	 * open that is pending in the kernel must come before the caller goes on (sigprocmask(2)). */
	uint64_t pending = 0;
	if ((before & ~after) != 0)
		sys(SYS_rt_sigpending, &pending, KERNEL_SIGSET_SIZE);
	if (pending & before & ~after)
		take_pending(before & ~after);
	else
		sysmon_adopt((after & ~before) != 0);
}

/* Counts what floating tasks wait for: sysmon takes it from the kernel for them.  Returns what
 * nobody had waited for. */
static uint64_t count_waited_locked(uint64_t set, int delta)
{
	uint64_t before = load_relaxed(&sigwaited), now = before;

	for (; set != 0; set &= set - 1) {
		int sig = __builtin_ctzll(set) + 1;

		n_waiters[sig] += delta;
		if (n_waiters[sig] > 0)
			now |= SIG_BIT(sig);
		else
			now &= ~SIG_BIT(sig);
	}
	store_relaxed(&sigwaited, now);
	return now & ~before;
}

/* t waits for set, until end_wait().  The kernel asks main first: what main waits for meets
 * sysmon blocked, though others leave it open. */
static void begin_wait(struct task *t, uint64_t set)
{
	uint64_t new = t->is_main ? set : 0;

	store_relaxed(&t->sigwait, set);
	signals_lock();
	/* A bound one takes them from the kernel itself: between it and sysmon they would lose
	 * their order. */
	t->sigwait_counted = is_bound(t) ? 0 : set;
	if (t->sigwait_counted != 0)
		new = count_waited_locked(set, 1);
	uint64_t open = new & ~blocked_by_all_locked();
	signals_unlock();
	/* It may be pending in the kernel already. */
	if (new != 0 && runtime_is_running())
		sysmon_adopt(open != 0);
	/* Pairs with signal_post(): it sees the set, or we see its signal. */
	fence_seq_cst();
}

/* By t, or when it has ended. */
static void end_wait(struct task *t)
{
	uint64_t set = load_relaxed(&t->sigwait);

	if (likely(set == 0))
		return;
	store_relaxed(&t->sigwait, 0);
	signals_lock();
	count_waited_locked(t->sigwait_counted, -1);
	t->sigwait_counted = 0;
	signals_unlock();
	/* What it was told about but did not come to is somebody else's now. */
	if (load_acquire(&process_pending.set) & set)
		sysmon_wake();
}

void signal_task_start(struct task *t)
{
	/* The usual case has the creator's mask and touches one counter. */
	struct task *self = self_task;

	if (self != NULL && load_relaxed(&classes[self->mask_class].n) > 0 &&
	    classes[self->mask_class].mask == load_relaxed(&t->sigmask)) {
		t->mask_class = self->mask_class;
		add_relaxed(&classes[t->mask_class].n, 1);
		return;
	}
	signals_lock();
	t->mask_class = class_find_locked(load_relaxed(&t->sigmask));
	add_relaxed(&classes[t->mask_class].n, 1);
	uint64_t now = blocked_by_all_locked();
	signals_unlock();
	if (runtime_is_running() && (load_relaxed(&sysmon_blocks) & ~now & ~OURS))
		sysmon_wake();
}

void signal_task_end(struct task *t)
{
	/* Pairs with signal_post(): it sees the end, or we its signal. */
	store_relaxed(&t->life, TASK_DONE);
	fence_seq_cst();
	end_wait(t); /* it was cancelled there */
	/* What it was told about but did not come to is somebody else's now. */
	if (load_relaxed(&process_pending.set) != 0)
		sysmon_wake();
	if (add_relaxed(&classes[t->mask_class].n, -1) == 1)
		sysmon_wake();
	if (load_relaxed(&t->pending.set) == 0)
		return;
	signals_lock();
	drop_locked(&t->pending, ~0ULL);
	signals_unlock();
}

/* --- who gets it --------------------------------------------------------------------- */

/* t has a pending signal that it does not block, or waits for: make it look. */
static void notice(struct task *t)
{
	or_acq_rel(&t->attention, ATTEND_SIGNAL);
	store_release(&t->interrupt, 1);
	park_rouse(t);
}

/* As notice, from a task or from sysmon; not inside the runtime. */
static void notice_from_outside(struct task *t)
{
	struct task *self = self_task;
	bool entered = !load_relaxed(&self->worker->in_runtime);

	if (entered)
		runtime_enter(self);
	notice(t);
	if (entered)
		runtime_leave(self);
}

static bool has_handler(const struct kernel_sigaction *act)
{
	return act->handler != (void *)SIG_DFL && act->handler != (void *)SIG_IGN;
}

/* Whether the kernel is to call us: for a handler, and where what it would do by itself is
 * wrong, because workers do not block the signal and their tasks may. */
static bool is_ours(int sig, const struct kernel_sigaction *act)
{
	return has_handler(act) ||
	       ((RAISED & SIG_BIT(sig)) && act->handler == (void *)SIG_DFL);
}

static bool is_dropped_locked(int sig)
{
	void *h = actions[sig].handler;

	return h == (void *)SIG_IGN ||
	       (h == (void *)SIG_DFL && (IGNORED_BY_DEFAULT & SIG_BIT(sig)));
}

/* Adds it to what is pending for t, unless that has ended: then nobody would ever take it. */
static int add_for_task_locked(struct task *t, const siginfo_t *info)
{
	int r = add_locked(&t->pending, info);

	/* Pairs with signal_task_end(). */
	fence_seq_cst();
	if (load_relaxed(&t->life) != TASK_LIVE)
		drop_locked(&t->pending, ~0ULL);
	return r;
}

int signal_post(struct task *t, const siginfo_t *info)
{
	uint64_t bit = SIG_BIT(info->si_signo);
	int r = 0;

	signals_lock();
	bool waits = load_relaxed(&t->sigwait) & bit;
	bool open = waits || !(load_relaxed(&t->sigmask) & bit);
	if (!open || waits || !is_dropped_locked(info->si_signo))
		r = add_for_task_locked(t, info);
	signals_unlock();
	if (r == 0 && open)
		notice_from_outside(t);
	return r;
}

long signal_call(struct task *t, const long a[7])
{
	long r = sys(a[0], a[1], a[2], a[3], a[4], a[5], a[6]);

	/* Also to what it raised: raised_in_worker() asks for attention. */
	task_catch_up(t);
	return r;
}

struct choice {
	uint64_t bit;
	struct task *task;
};

static bool choose(struct task *t, void *arg)
{
	struct choice *c = arg;

	if ((load_relaxed(&t->sigwait) & c->bit) || !(load_relaxed(&t->sigmask) & c->bit))
		c->task = t;
	return c->task == NULL;
}

/* As choose, of the first of the table alone. */
static bool choose_main(struct task *t, void *arg)
{
	if (t->is_main)
		choose(t, arg);
	return false;
}

bool signal_is_mains(int sig)
{
	struct choice c = {.bit = SIG_BIT(sig)};

	signals_lock();
	bool handled = has_handler(&actions[sig]);
	signals_unlock();
	tasks_for_each(choose_main, &c);
	return c.task != NULL && (handled || (load_relaxed(&c.task->sigwait) & c.bit));
}

/* It is for who used the CPU time, as the kernel sends it to the thread that it meets running
 * (check_cpu_itimer): profiles count on it.  False: nobody runs who takes it, and it is
 * anybody's. */
static bool route_tick(uint64_t bit)
{
	struct task *t;
	siginfo_t info;

	if (!sysmon_ticked(bit, &t))
		return true;
	ticks &= ~bit;
	if (t == NULL)
		return false;
	signals_lock();
	if (take_locked(&process_pending, bit, &info) != 0)
		add_for_task_locked(t, &info);
	signals_unlock();
	notice(t);
	return true;
}

/* Tells some task about each signal pending for the process.  The first that the table
 * has, main before all, as the kernel does. */
void signal_route(void)
{
	collect_raised(NULL);
	uint64_t set = load_acquire(&process_pending.set);

	while (set != 0) {
		struct choice c = {.bit = set & -set};

		set &= set - 1;
		if (unlikely(ticks & c.bit) && route_tick(c.bit))
			continue;
		tasks_for_each(choose, &c);
		if (c.task != NULL)
			notice(c.task);
	}
}

/* The default action is to end or stop: let the kernel do it, to this thread's process. */
static void default_action(int sig)
{
	struct kernel_sigaction dfl = {0};
	uint64_t bit = SIG_BIT(sig);

	sys_sigaction(sig, &dfl, NULL);
	sys(SYS_tgkill, sched.pid, sys(SYS_gettid), sig);
	sys_sigmask(SIG_UNBLOCK, &bit, NULL);
	sys_sigmask(SIG_BLOCK, &bit, NULL);
}

int signal_post_process(const siginfo_t *info)
{
	struct choice c = {.bit = SIG_BIT(info->si_signo)};
	int r = -ENOENT;

	signals_lock();
	if (is_ours(info->si_signo, &actions[info->si_signo]))
		r = add_locked(&process_pending, info);
	signals_unlock();
	if (r < 0)
		return r;
	tasks_for_each(choose, &c);
	if (c.task == NULL)
		return 0;
	/* The kernel would not come back from this one. */
	if (actions[info->si_signo].handler == (void *)SIG_DFL &&
	    !(load_relaxed(&c.task->sigmask) & c.bit))
		default_action(info->si_signo);
	notice_from_outside(c.task);
	return 0;
}

static void settle(struct task *t, uint64_t set)
{
	if (set == 0 || !runtime_is_running())
		return;
	take_pending(set);
	/* Also what another one was told of and has not come to. */
	if (is_let_through(t))
		signal_deliver(t);
}

void signal_settle(struct task *t, int sig)
{
	settle(t, SIG_BIT(sig));
}

static uint64_t handled_signals(void)
{
	uint64_t handled = 0;

	signals_lock();
	for (int sig = 1; sig < N_SIGNALS; sig++)
		if (has_handler(&actions[sig]))
			handled |= SIG_BIT(sig);
	signals_unlock();
	return handled;
}

void signal_settle_mains(struct task *t)
{
	settle(t, handled_signals() & ~load_relaxed(&t->sigmask));
}

void signal_settle_own(struct task *t)
{
	struct task *main_task = task_main();
	uint64_t mains = 0;

	if (!t->is_main && load_acquire(&main_task->life) == TASK_LIVE)
		mains = ~load_relaxed(&main_task->sigmask);
	settle(t, handled_signals() & ~load_relaxed(&t->sigmask) & ~mains);
}

/* --- running handlers ---------------------------------------------------------------- */

static int take_for(struct task *t, uint64_t set, siginfo_t *info)
{
	int sig;

	collect_raised(t);
	if (((load_acquire(&t->pending.set) | load_acquire(&process_pending.set)) &
	     set) == 0)
		return 0;
	signals_lock();
	sig = take_locked(&t->pending, set, info);
	/* What main waits for nobody else is asked for: it may end the process. */
	if (!t->is_main)
		set &= ~load_relaxed(&task_main()->sigwait);
	if (sig == 0)
		sig = take_locked(&process_pending, set, info);
	signals_unlock();
	return sig;
}

typedef void handler_fn(int, siginfo_t *, void *);

/* Takes the action of sig for one delivery.  False: it has no handler; what the default or
 * an ignored signal wants is done. */
static bool take_action(int sig, struct kernel_sigaction *act)
{
	signals_lock();
	*act = actions[sig];
	if (act->flags & SA_RESETHAND)
		actions[sig].handler = (void *)SIG_DFL;
	signals_unlock();
	if (act->handler == (void *)SIG_DFL && !(IGNORED_BY_DEFAULT & SIG_BIT(sig)))
		default_action(sig);
	return has_handler(act);
}

bool signal_is_on_altstack(const struct task *t, uintptr_t sp)
{
	uintptr_t low = (uintptr_t)t->altstack.ss_sp;

	return sp > low && sp - low <= t->altstack.ss_size;
}

/* The end of the alternate stack that a handler with these flags starts on, or 0: it runs
 * where sp is. */
static uintptr_t altstack_top(const struct task *t, unsigned long flags, uintptr_t sp)
{
	if (!(flags & SA_ONSTACK) || t->altstack.ss_size == 0 ||
	    signal_is_on_altstack(t, sp))
		return 0;
	return (uintptr_t)t->altstack.ss_sp + t->altstack.ss_size;
}

static bool serves_calls; /* SIGSYS may be a call that was stopped: see dispatch.c */

uint64_t signal_kernel_mask(uint64_t mask)
{
	return serves_calls ? mask & ~SIG_BIT(SIGSYS) : mask;
}

void signal_set_kernel_mask(uint64_t mask)
{
	mask = signal_kernel_mask(mask);
	sys_sigmask(SIG_SETMASK, &mask, NULL);
}

/* Whether the new mask lets something through, for the caller to deliver. */
static bool change_mask(struct task *t, uint64_t mask)
{
	uint64_t before = load_relaxed(&t->sigmask);

	mask &= ~(SIG_BIT(SIGKILL) | SIG_BIT(SIGSTOP) | OURS);
	if (mask == before)
		return false;
	store_relaxed(&t->sigmask, mask);
	/* In a bound task a handler may come between and change it: that came after. */
	if (is_bound(t))
		do {
			mask = load_relaxed(&t->sigmask);
			signal_set_kernel_mask(mask);
		} while (mask != load_relaxed(&t->sigmask));
	set_class(t);
	/* A fault that the program blocks is fatal natively too: see trampoline(). */
	return is_let_through(t);
}

/* With the task's mask as POSIX wants it.  sp is where the interrupted code stood.  What the
 * mask lets through at the end is the caller's: handlers follow one another, they do not
 * pile up on the stack.  If inside, it leaves the runtime as soon as the mask holds. */
static void call_handler(struct task *t, const struct kernel_sigaction *act, int sig,
			 siginfo_t *info, ucontext_t *uc, uintptr_t sp, bool inside)
{
	struct activation a = {
	    .outer = t->handlers, .sp = sp, .before = load_relaxed(&t->sigmask)};
	uint64_t after;
	uintptr_t here = (uintptr_t)__builtin_frame_address(0);
	uintptr_t top = altstack_top(t, act->flags, here);

	/* The handler runs where natively it would: the task alone stands aside. */
	if (task_is_aside(t, here) && !task_is_aside(t, sp)) {
		a.aside = here - CALL_ROOM;
		if (top == 0)
			top = sp - RED_ZONE;
	}
	end_wait(t); /* nor does it come back to one, or by a jump */
	t->handlers_run++;
	t->handlers = &a;
	/* The handler's own calls are cancellation points, or not, for themselves. */
	bool at_point = t->cancel_point;
	t->cancel_point = false;
	/* It may wait in the same way, and for less. */
	bool by_handlers = t->by_handlers;
	uint32_t handlers_then = t->handlers_then;
	t->by_handlers = false;
	t->interrupted = NULL; /* what comes while it runs interrupts the handler */
	memcpy(&uc->uc_sigmask, &a.before, sizeof(a.before));
	if (!is_bound(t))
		uc->uc_stack = t->altstack;
	uint64_t during =
	    a.before | act->mask | (act->flags & SA_NODEFER ? 0 : SIG_BIT(sig));

	store_relaxed(&t->sigmask, during);
	if (is_bound(t))
		signal_set_kernel_mask(during);
	if (inside)
		runtime_leave(t);
	struct fpu_env fpu;
	fpu_begin(&fpu);
	if (top != 0)
		call_on_stack((void *)(top & ~(uintptr_t)15), act->handler, sig, info,
			      uc);
	else
		((handler_fn *)act->handler)(sig, info, uc);
	fpu_end(&fpu);
	t->handlers = a.outer;
	t->cancel_point = at_point;
	t->by_handlers = by_handlers;
	t->handlers_then = handlers_then;
	/* Not before: the handler's own calls take it for theirs. */
	if (!(act->flags & SA_RESTART))
		t->eintr_wanted = true;
	memcpy(&after, &uc->uc_sigmask, sizeof(after));
	change_mask(t, after);
}

void signal_leave_handlers(struct task *t, uintptr_t sp, const uint64_t *saved)
{
	uint64_t before = 0;
	bool left = false;

	/* Stacks grow down: what a handler interrupted lies at or below who is jumped to. */
	for (; t->handlers != NULL && t->handlers->sp <= sp;
	     t->handlers = t->handlers->outer) {
		before = t->handlers->before;
		left = true;
	}
	if (saved == NULL) {
		/* It keeps the mask that it had in the handler, which was not counted. */
		if (left)
			set_class(t);
		return;
	}
	if (left)
		signal_set_mask(t, before);
	else if (*saved != worker_sigmask)
		signal_set_mask(t,
				*saved); /* saved before the runtime woke: a true mask */
	/* The kernel blocked more while the handler ran. */
	uint64_t mask = load_relaxed(&t->sigmask);
	if (is_bound(t))
		signal_set_kernel_mask(mask);
}

/* Not inlined: its frame shows pgreen dump where a handler was called. */
static __attribute__((noinline)) void
run_handler(struct task *t, int sig, siginfo_t *info, void *context, bool inside)
{
	struct kernel_sigaction act;
	ucontext_t own;
	volatile bool called = false;

	if (!take_action(sig, &act)) {
		if (inside)
			runtime_leave(t);
		return;
	}
	if (context == NULL)
		context_save(&own);
	else if (!(act.flags & SA_RESTART))
		restarted_call_end(context);
	/* The handler may have left by setcontext() with what it was given. */
	if (called)
		return;
	called = true;
	ucontext_t *uc = context != NULL ? context : &own;

	call_handler(t, &act, sig, info, uc, uc->uc_mcontext.gregs[REG_RSP], inside);
}

void signal_deliver(struct task *t)
{
	siginfo_t info;
	int sig;
	void *context = t->interrupted; /* each handler clears it while it runs */

	and_acq_rel(&t->attention, ~ATTEND_SIGNAL);
	for (;;) {
		/* From here until the handler's mask holds nothing comes between: it would
		 * overtake what is taken here. */
		runtime_enter(t);
		sig = take_for(t, ~load_relaxed(&t->sigmask), &info);
		if (sig == 0)
			break;
		run_handler(t, sig, &info, context, true);
	}
	runtime_leave(t);
}

void signal_run_handler(struct task *t, int sig, siginfo_t *info, void *context)
{
	run_handler(t, sig, info, context, false);
	if (is_let_through(t))
		signal_deliver(t);
}

bool signal_take_eintr(struct task *t)
{
	bool wanted = t->eintr_wanted;

	t->eintr_wanted = false;
	return wanted;
}

void signal_ends_waits(struct task *t, bool on)
{
	t->handlers_then = t->handlers_run;
	t->by_handlers = on;
}

uint32_t signal_handlers_run(const struct task *t)
{
	return t->handlers_run;
}

/* --- what the kernel calls ------------------------------------------------------------ */

/* Whether the code that it meets has made it: nobody has sent it. */
static bool is_fault(int sig, const siginfo_t *info)
{
	return (SYNCHRONOUS & SIG_BIT(sig)) && info->si_code > 0;
}

/* A bound task's kernel thread has the task's own mask and signal stack: the kernel has
 * done everything but the task's own record of its mask.  What handlers change of that the
 * interrupted code goes on with; but what it has blocked or opened itself, without the
 * record, as libc does in places, it finds as it was. */
static void deliver_bound(struct task *t, int sig, siginfo_t *info, ucontext_t *uc)
{
	uint64_t before = load_relaxed(&t->sigmask), kernel_mask;

	memcpy(&kernel_mask, &uc->uc_sigmask, sizeof(kernel_mask));
	if (!is_fault(sig, info) && load_relaxed(&t->worker->in_runtime)) {
		signals_lock();
		add_locked(&t->pending, info);
		signals_unlock();
		or_acq_rel(&t->attention, ATTEND_SIGNAL);
		park_interrupt(t);
		return;
	}
	signal_run_handler(t, sig, info, uc);
	uint64_t after = load_relaxed(&t->sigmask);
	kernel_mask = (kernel_mask | (after & ~before)) & ~(before & ~after);
	kernel_mask = signal_kernel_mask(kernel_mask);
	memcpy(&uc->uc_sigmask, &kernel_mask, sizeof(kernel_mask));
	/* A call that is about to be made: who makes it shall look first, since it may be one
	 * that waits for this. */
	store_release(&t->interrupt, 1);
	kernel_call_refuse(uc);
}

void signal_frame_settings(const struct task *t, stack_t *stack, uint64_t *mask)
{
	if (!is_bound(t)) {
		*stack = (stack_t){.ss_sp = t->worker->signal_stack,
				   .ss_size = t->worker->signal_stack_size};
		*mask = worker_sigmask;
		return;
	}
	*stack = t->altstack;
	if (t->altstack.ss_size == 0)
		stack->ss_flags = SS_DISABLE;
	*mask = signal_kernel_mask(load_relaxed(&t->sigmask));
}

/* On the task's own stack, with the kernel thread's mask as it was: it may switch here. */
static void handle_sigsys(struct task *t, siginfo_t *info, ucontext_t *uc)
{
	enum { SYS_USER_DISPATCH_CODE = 2 }; /* asm-generic/siginfo.h */
	uint64_t mask;

	if (info->si_code == SYS_USER_DISPATCH_CODE)
		dispatch_serve(t, uc);
	else if (is_bound(t))
		deliver_bound(t, SIGSYS, info, uc);
	else
		signal_run_handler(t, SIGSYS, info, uc);
	/* It may have changed workers, or bound itself, meanwhile. */
	signal_frame_settings(t, &uc->uc_stack, &mask);
	memcpy(&uc->uc_sigmask, &mask, sizeof(mask));
}

/* Whether the system call that has just returned raised it, a write of all or a part, and
 * nobody sent it: kill() returns 0. */
static bool is_raised_by_call(const siginfo_t *info, const ucontext_t *uc)
{
	const greg_t *regs = uc->uc_mcontext.gregs;
	greg_t r = regs[REG_RAX];

	return (RAISED & SIG_BIT(info->si_signo)) && info->si_code == SI_USER &&
	       info->si_pid == sched.pid && (r > 0 || r == -EPIPE || r == -EFBIG) &&
	       is_syscall(regs[REG_RIP] - SYSCALL_SIZE);
}

/* No fault, in a worker.  SIGPIPE or SIGXFSZ is its task's, if a write of it did that,
 * wherever the call was made; it comes to it at once, but in the runtime, which it leaves
 * soon.  What was sent to the process is sysmon's to route.  No lock: the task may hold it. */
static void raised_in_worker(struct task *t, int sig, siginfo_t *info, ucontext_t *uc)
{
	if (t == &t->worker->self || !is_raised_by_call(info, uc)) {
		/* It is nothing to the call that it met: see kernel_was_cut(). */
		if (uc->uc_mcontext.gregs[REG_RIP] == (greg_t)kernel_call_end)
			store_relaxed(&t->was_cut, true);
		store_relaxed(&strayed_from, info->si_pid);
		or_acq_rel(&strayed, SIG_BIT(sig));
		sysmon_wake();
		return;
	}
	or_acq_rel(&t->raised, SIG_BIT(sig));
	or_acq_rel(&t->attention, ATTEND_SIGNAL);
	store_release(&t->interrupt, 1);
	if (!load_relaxed(&t->worker->in_runtime) &&
	    !runtime_owns_pc(uc->uc_mcontext.gregs[REG_RIP]))
		task_interrupt(t, uc, 0, 0, NULL);
}

static void trampoline(int sig, siginfo_t *info, void *context)
{
	struct task *t = self_task;
	ucontext_t *uc = context;

	if (t == &sysmon_worker.self) {
		/* The kernel has not been told of its default action. */
		if ((RAISED & SIG_BIT(sig)) && actions[sig].handler == (void *)SIG_DFL)
			default_action(sig);
		queue_for_process(info);
		return;
	}
	if (sig == SIGSYS && serves_calls && is_fault(sig, info) && t != NULL &&
	    t != &t->worker->self) {
		handle_sigsys(t, info, uc);
		return;
	}
	if (t == NULL)
		t = task_self_slow();
	if (t == NULL)
		return;
	if (is_bound(t)) {
		deliver_bound(t, sig, info, uc);
		return;
	}
	if (((RAISED | SYNCHRONOUS) & SIG_BIT(sig)) && !is_fault(sig, info)) {
		raised_in_worker(t, sig, info, uc);
		return;
	}
	/* On a worker's signal stack.  The same fault inside its own handler ends the
	 * process, as natively; so does one that there is no stack left for. */
	uintptr_t top =
	    altstack_top(t, actions[sig].flags, uc->uc_mcontext.gregs[REG_RSP]);

	if (t == &t->worker->self ||
	    (is_fault(sig, info) && (load_relaxed(&t->sigmask) & SIG_BIT(sig))) ||
	    !task_interrupt(t, uc, top, sig, info)) {
		default_action(sig);
		return;
	}
	/* Where an exec exposes the task's mask: what was interrupted goes on under that, from
	 * the copy, but a handler may be switched away from, and the worker's loop is not to
	 * meet what it leaves open. */
	memcpy(&uc->uc_sigmask, &worker_sigmask, KERNEL_SIGSET_SIZE);
}

void signal_bind(struct task *t)
{
	stack_t none = {.ss_flags = SS_DISABLE};
	uint64_t mask = load_relaxed(&t->sigmask);

	sys(SYS_sigaltstack, t->altstack.ss_size != 0 ? &t->altstack : &none, 0);
	signal_set_kernel_mask(mask);
}

int signal_altstack(struct task *t, const stack_t *stack, stack_t *old)
{
	bool on = signal_is_on_altstack(t, (uintptr_t)__builtin_frame_address(0));

	if (is_bound(t)) {
		long r = sys(SYS_sigaltstack, stack, old);

		if (r == 0 && stack != NULL)
			t->altstack =
			    stack->ss_flags & SS_DISABLE ? (stack_t){0} : *stack;
		return (int)r;
	}
	if (stack != NULL) {
		if (on)
			return -EPERM;
		if (stack->ss_flags & ~(SS_DISABLE | SS_ONSTACK | SS_AUTODISARM_FLAG))
			return -EINVAL;
		if (!(stack->ss_flags & SS_DISABLE) &&
		    stack->ss_size < MINSIGSTKSZ_KERNEL)
			return -ENOMEM;
	}
	if (old != NULL) {
		*old = t->altstack;
		old->ss_flags = on                         ? SS_ONSTACK
				: t->altstack.ss_size == 0 ? SS_DISABLE
							   : 0;
	}
	if (stack != NULL)
		t->altstack = stack->ss_flags & SS_DISABLE ? (stack_t){0} : *stack;
	return 0;
}

/* --- actions ------------------------------------------------------------------------- */

/* There are no workers, whose signal stacks are ours: the one task is bound, and the kernel
 * puts its handlers where the program wants them.  signal_lock. */
static bool is_alone;

static int install(int sig, const struct kernel_sigaction *act)
{
	struct kernel_sigaction ours = *act;

	if (sig == SIGSYS && serves_calls) {
		/* Whatever the program wants: see handle_sigsys(). */
		ours = (struct kernel_sigaction){
		    .handler = (void *)trampoline,
		    .flags = SA_SIGINFO | SA_RESTART | SA_RESTORER_FLAG | SA_NODEFER,
		    .restorer = (void *)signal_restorer,
		};
	} else if (is_ours(sig, act)) {
		ours.handler = (void *)trampoline;
		/* SA_ONSTACK: a fault may be a full stack; a worker's signal stack is ours.
		 * A bound task has its handlers on its alternate stack, though, if it has one.
		 * SA_RESTART: in a kernel thread of a task's own the kernel does what the
		 * program wants.  Somebody may send a fault's signal to a worker, anywhere; and
		 * a default action that comes later must not be noticed before. */
		ours.flags =
		    SA_SIGINFO | SA_RESTORER_FLAG |
		    (is_alone ? act->flags & SA_ONSTACK : SA_ONSTACK) |
		    (act->flags & (SA_NOCLDSTOP | SA_NOCLDWAIT | SA_RESTART)) |
		    ((SYNCHRONOUS & SIG_BIT(sig)) || !has_handler(act) ? SA_RESTART : 0);
		ours.restorer = (void *)signal_restorer;
		ours.mask = ~SYNCHRONOUS;
	}
	return sys_sigaction(sig, &ours, NULL);
}

void signal_set_alone(bool on)
{
	signals_lock();
	is_alone = on;
	for (int sig = 1; sig < N_SIGNALS; sig++)
		if (is_ours(sig, &actions[sig]) && !(actions[sig].flags & SA_ONSTACK))
			install(sig, &actions[sig]);
	signals_unlock();
}

void signal_serve_calls(void)
{
	signals_lock();
	serves_calls = true;
	install(SIGSYS, &actions[SIGSYS]);
	signals_unlock();
}

static bool drop_of_task_locked(struct task *t, void *sig)
{
	drop_locked(&t->pending, SIG_BIT(*(int *)sig));
	return true;
}

int signal_action(int sig, const struct kernel_sigaction *act,
		  struct kernel_sigaction *old)
{
	int r = 0;

	if (sig < 1 || sig >= N_SIGNALS || sig == SIG_PREEMPT || sig == SIG_SETXID ||
	    (act != NULL && (sig == SIGKILL || sig == SIGSTOP)))
		return -EINVAL;
	struct task *t = self_task;
	/* What came before, and is open to the caller, has met the handler that there was:
	 * the caller itself would have been interrupted by it.  It may still be at sysmon. */
	if (act != NULL && !has_handler(act) && has_handler(&actions[sig]) &&
	    !(SYNCHRONOUS & SIG_BIT(sig)) && t != NULL && !is_bound(t) &&
	    !(load_relaxed(&t->sigmask) & SIG_BIT(sig)))
		signal_settle(t, sig);
	signals_lock();
	struct kernel_sigaction before = actions[sig];
	if (act != NULL)
		r = install(sig, act);
	if (act != NULL && r == 0) {
		actions[sig] = *act;
		/* What is pending and now ignored is gone, for every task. */
		if (is_dropped_locked(sig)) {
			drop_locked(&process_pending, SIG_BIT(sig));
			tasks_for_each(drop_of_task_locked, &sig);
		}
	}
	signals_unlock();
	if (old != NULL)
		*old = before;
	return r;
}

/* --- the calling task's mask and waits ------------------------------------------------- */

void signal_set_mask(struct task *t, uint64_t mask)
{
	if (change_mask(t, mask))
		signal_deliver(t);
}

uint64_t signal_get_mask(const struct task *t)
{
	return load_relaxed(&t->sigmask);
}

uint64_t signal_pending(struct task *t)
{
	uint64_t kernel = 0;

	collect_raised(t);
	sys(SYS_rt_sigpending, &kernel, KERNEL_SIGSET_SIZE);
	return (kernel | load_acquire(&t->pending.set) |
		load_acquire(&process_pending.set)) &
	       load_relaxed(&t->sigmask);
}

/* Takes what the kernel has pending; any kernel thread may take what is the process's.  For
 * a floating task only when its time is up: until then sysmon takes them, so that what it
 * holds in its hand is not overtaken by the next. */
static int take_from_kernel(uint64_t set, siginfo_t *info)
{
	static const struct timespec at_once;
	long r = sys(SYS_rt_sigtimedwait, &set, info, &at_once, KERNEL_SIGSET_SIZE);

	return r > 0 ? (int)r : 0;
}

/* One wait of a task that waits for set: sysmon brings a floating one what the kernel has; a
 * bound one asks itself.  As park_on; the signal's number when the wait itself took it. */
static int wait_for_signal(struct task *t, uint64_t set, siginfo_t *info, ns_t deadline)
{
	if (!is_bound(t)) {
		task_waits_for(t, WAIT_SIGNAL, NULL);
		return park_on(&t->never, 0, deadline);
	}
	struct timespec ts = ns_timespec(deadline - now_ns());
	/* What is sent to it by its virtual tid interrupts the call, also just before it. */
	long r = kernel_call(SYS_rt_sigtimedwait, (long)&set, (long)info,
			     (long)(deadline == NO_DEADLINE ? NULL : &ts),
			     KERNEL_SIGSET_SIZE, 0, 0);

	return r == -EAGAIN ? -ETIMEDOUT : (int)r;
}

/* The last look of a wait that is over: also at what sysmon has in its hand, which has been
 * pending for long perhaps. */
static int take_last(struct task *t, uint64_t set, siginfo_t *info)
{
	signals_lock();
	bool held = (sysmon_takes & set) != 0;
	signals_unlock();
	if (held && runtime_is_running())
		sysmon_adopt(true);
	int sig = take_for(t, set, info);
	return sig != 0 ? sig : take_from_kernel(set, info);
}

int signal_wait(struct task *t, uint64_t set, siginfo_t *info, ns_t deadline)
{
	bool over = deadline <= now_ns();
	int sig, r = -ETIMEDOUT;

	set &= ~OURS;
	/* Any handler ends it, SA_RESTART or not (signal(7)). */
	signal_ends_waits(t, true);
	if (!over)
		begin_wait(t, set);
	while ((sig = take_for(t, set, info)) == 0 && !over) {
		r = wait_for_signal(t, set, info, deadline);
		if (r > 0) {
			sig = r;
			break;
		}
		over = r == -ETIMEDOUT || t->handlers_run != t->handlers_then ||
		       task_cancel_wanted(t);
	}
	signal_ends_waits(t, false);
	signal_take_eintr(t);
	end_wait(t);
	if (sig == 0)
		sig = take_last(t, set, info);
	return sig != 0 ? sig : r == -ETIMEDOUT ? -EAGAIN : -EINTR;
}

void signal_leave_waits(struct task *t)
{
	t->by_handlers = false;
	end_wait(t);
}

int signal_suspend(struct task *t, uint64_t mask)
{
	uint64_t before = load_relaxed(&t->sigmask);

	/* In a bound task one may run right before the wait is begun. */
	signal_ends_waits(t, true);
	signal_set_mask(t, mask);
	while (t->handlers_run == t->handlers_then && !task_cancel_wanted(t)) {
		task_waits_for(t, WAIT_SIGNAL, NULL);
		park_on(&t->never, 0, NO_DEADLINE);
	}
	signal_ends_waits(t, false);
	signal_take_eintr(t);
	signal_set_mask(t, before);
	return -EINTR;
}

/* The kernel thread's mask becomes the task's own, around calls whose child inherits it. */
void signal_expose_mask(struct task *t)
{
	uint64_t mask = load_relaxed(&t->sigmask);

	sys_sigmask(SIG_SETMASK, &mask, NULL);
}

void signal_hide_mask(struct task *t)
{
	if (!is_bound(t))
		sys_sigmask(SIG_SETMASK, &worker_sigmask, NULL);
}

/* Sends what waits there and is in mask to the kernel thread tid, but standard signals that
 * are pending there (*there).  Returns how many. */
static int show_locked(const struct pending_signals *p, uint64_t mask, int tid,
		       uint64_t *there)
{
	int n = 0;

	for (struct queued_signal *q = p->queue; q != NULL; q = q->next) {
		int sig = q->info.si_signo;

		if (!(mask & SIG_BIT(sig)) || (sig < SIGRTMIN && (*there & SIG_BIT(sig))))
			continue;
		*there |= SIG_BIT(sig);
		n += sys(SYS_rt_tgsigqueueinfo, sched.pid, tid, sig, &q->info) == 0;
	}
	return n;
}

int signal_show_pending(struct task *t)
{
	uint64_t mask = load_relaxed(&t->sigmask), all = ~0ULL, there = 0;
	int tid = (int)sys(SYS_gettid);

	/* A worker leaves some open that the task blocks; and a handler must not meet the lock. */
	sys_sigmask(SIG_SETMASK, &all, NULL);
	collect_raised(t);
	signals_lock();
	sys(SYS_rt_sigpending, &there, KERNEL_SIGSET_SIZE);
	int n = show_locked(&process_pending, mask, tid, &there);
	n += show_locked(&t->pending, mask, tid, &there);
	signals_unlock();
	return n;
}

void signal_hide_pending(struct task *t, int n)
{
	static const struct timespec now;
	uint64_t mask = load_relaxed(&t->sigmask);
	siginfo_t info;

	/* The kernel looks first at what is the thread's own. */
	while (n-- > 0)
		sys(SYS_rt_sigtimedwait, &mask, &info, &now, KERNEL_SIGSET_SIZE);
}

/* --- beginning and fork ---------------------------------------------------------------- */

void signal_init(struct task *main_task)
{
	uint64_t all = ~0ULL, mask;

	/* From the first that is installed on: main has no worker yet that could be asked. */
	sys_sigmask(SIG_SETMASK, &all, &mask);
	for (int sig = 1; sig < N_SIGNALS; sig++) {
		if (sig == SIG_PREEMPT || sig == SIG_SETXID)
			continue;
		sys_sigaction(sig, NULL, &actions[sig]);
		if (is_ours(sig, &actions[sig]))
			install(sig, &actions[sig]);
	}
	sys(SYS_sigaltstack, 0, &main_task->altstack);
	if (main_task->altstack.ss_flags & SS_DISABLE)
		main_task->altstack = (stack_t){0};
	sys_sigmask(SIG_SETMASK, &worker_sigmask, NULL);
	store_relaxed(&main_task->sigmask, mask & ~OURS);
	signals_lock();
	memset(classes, 0, sizeof(classes));
	main_task->mask_class = class_find_locked(mask & ~OURS);
	add_relaxed(&classes[main_task->mask_class].n, 1);
	signals_unlock();
}

/* Others, whom the child has not, may have been at the queues when it was forked: they are
 * made anew.  What is pending there is the parent's. */
static void forget_signals(struct task *t)
{
	storage_used = false;
	free_signals = sysmon_spare = NULL;
	store_relaxed(&process_pending.set, 0);
	process_pending.queue = NULL;
	strayed = 0;
	store_relaxed(&t->raised, 0);
	store_relaxed(&t->pending.set, 0);
	t->pending.queue = NULL;
}

void signal_fork_child(struct task *t)
{
	signal_lock.word = 0;
	forget_signals(t);
	sigwaited = 0;
	memset(n_waiters, 0, sizeof(n_waiters));
	memset(classes, 0, sizeof(classes));
	t->mask_class = class_find_locked(load_relaxed(&t->sigmask));
	add_relaxed(&classes[t->mask_class].n, 1);
	and_acq_rel(&t->attention, ~ATTEND_SIGNAL);
	signal_set_alone(true);
	signal_bind(t);
}
