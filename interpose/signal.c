/* SPDX-License-Identifier: MIT */
/*
 * signal.c: actions, masks, waiting for signals and sending them.
 *
 * Handlers are run by the runtime (shim/signal.c), and it keeps each task's mask.  Here are
 * libc's names and structures, and the question of where a signal that the program sends to
 * itself goes.
 */
#include "waiting.h"

#include "signal.h"

enum {
	SIGNAL_MOST = 64,
	RESTORER_FLAG = 0x04000000, /* the kernel's: the restorer is given */
};

#define SIGNAL_BIT(sig) (1ULL << ((sig)-1))

static bool is_signal(int sig)
{
	return sig >= 1 && sig <= SIGNAL_MOST;
}

/* glibc's own two, which it lets nobody touch. */
static bool is_internal(int sig)
{
	return sig == 32 || sig == 33;
}

/* The rest of the set is left alone, as the kernel leaves it. */
static void set_word(sigset_t *set, uint64_t word)
{
	set->__val[0] = word;
}

/* --- actions ---------------------------------------------------------------------------- */

static int set_action(int sig, const struct sigaction *act, struct sigaction *old)
{
	struct kernel_sigaction new, before;

	if (act != NULL)
		new = (struct kernel_sigaction){
		    .handler = (void *)act->sa_handler,
		    .flags = (unsigned)act->sa_flags & ~(unsigned)RESTORER_FLAG,
		    .mask = sigset_word(&act->sa_mask),
		};
	int r = signal_action(sig, act != NULL ? &new : NULL, &before);
	if (r < 0)
		return ret_errno(r);
	if (old != NULL) {
		old->sa_handler = (__sighandler_t)before.handler;
		old->sa_flags = (int)(before.flags & ~(unsigned long)RESTORER_FLAG);
		old->sa_restorer = NULL;
		sigemptyset(&old->sa_mask);
		set_word(&old->sa_mask, before.mask);
	}
	return 0;
}

EXPORT int sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	return task_self() == NULL ? real.sigaction(sig, act, old)
				   : set_action(sig, act, old);
}
ALIAS(__sigaction, sigaction);

/* As sigaction, for the old interfaces: the former handler or SIG_ERR. */
static __sighandler_t set_handler(int sig, __sighandler_t handler, int flags,
				  uint64_t mask)
{
	struct sigaction act = {.sa_handler = handler, .sa_flags = flags}, old;

	if (handler == SIG_ERR) {
		errno = EINVAL;
		return SIG_ERR;
	}
	set_word(&act.sa_mask, mask);
	return set_action(sig, &act, &old) < 0 ? SIG_ERR : old.sa_handler;
}

/* Those for which siginterrupt() asked that signal() shall not restart. */
static _Atomic uint64_t interrupting;

static void note_interrupting(int sig, bool on)
{
	if (!is_signal(sig))
		return;
	if (on)
		atomic_fetch_or_explicit(&interrupting, SIGNAL_BIT(sig),
					 memory_order_relaxed);
	else
		atomic_fetch_and_explicit(&interrupting, ~SIGNAL_BIT(sig),
					  memory_order_relaxed);
}

EXPORT __sighandler_t signal(int sig, __sighandler_t handler)
{
	if (task_self() == NULL)
		return real.signal(sig, handler);
	if (!is_signal(sig)) {
		errno = EINVAL;
		return SIG_ERR;
	}
	bool interrupts =
	    atomic_load_explicit(&interrupting, memory_order_relaxed) & SIGNAL_BIT(sig);
	return set_handler(sig, handler, interrupts ? 0 : SA_RESTART, SIGNAL_BIT(sig));
}
ALIAS(bsd_signal, signal);
ALIAS(ssignal, signal);

EXPORT __sighandler_t sysv_signal(int sig, __sighandler_t handler)
{
	if (task_self() == NULL)
		return real.sysv_signal(sig, handler);
	return set_handler(sig, handler, SA_RESETHAND | SA_NODEFER | SA_INTERRUPT, 0);
}
ALIAS(__sysv_signal, sysv_signal);

EXPORT int siginterrupt(int sig, int on)
{
	struct sigaction act;

	/* Also while the runtime sleeps: signal() may be called when it is awake. */
	note_interrupting(sig, on);
	if (task_self() == NULL)
		return real.siginterrupt(sig, on);
	if (set_action(sig, NULL, &act) < 0)
		return -1;
	act.sa_flags = on ? act.sa_flags & ~SA_RESTART : act.sa_flags | SA_RESTART;
	return set_action(sig, &act, NULL);
}

EXPORT int sigignore(int sig)
{
	if (task_self() == NULL)
		return real.sigignore(sig);
	return set_handler(sig, SIG_IGN, 0, 0) == SIG_ERR ? -1 : 0;
}

/* --- masks ------------------------------------------------------------------------------ */

/* 0 or EINVAL. */
static int change_mask(struct task *t, int how, const sigset_t *set, sigset_t *old)
{
	uint64_t before = signal_get_mask(t), after = before;

	if (set != NULL) {
		uint64_t word = sigset_word(set);

		if (how == SIG_BLOCK)
			after |= word;
		else if (how == SIG_UNBLOCK)
			after &= ~word;
		else if (how == SIG_SETMASK)
			after = word;
		else
			return EINVAL;
	}
	/* Before handlers run, which may leave by longjmp. */
	if (old != NULL)
		set_word(old, before);
	signal_set_mask(t, after);
	return 0;
}

EXPORT int pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
	struct task *t = task_self();

	return t == NULL ? real.pthread_sigmask(how, set, old)
			 : change_mask(t, how, set, old);
}

EXPORT int sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
	struct task *t = task_self();

	return t == NULL ? real.sigprocmask(how, set, old)
			 : ret_errno(-change_mask(t, how, set, old));
}

/* The old interfaces: one signal, or 32 of them in an int. */
static int change_one(struct task *t, int sig, bool block)
{
	uint64_t mask = signal_get_mask(t);

	if (!is_signal(sig))
		return ret_errno(-EINVAL);
	signal_set_mask(t, block ? mask | SIGNAL_BIT(sig) : mask & ~SIGNAL_BIT(sig));
	return 0;
}

EXPORT int sighold(int sig)
{
	struct task *t = task_self();

	return t == NULL ? real.sighold(sig) : change_one(t, sig, true);
}

EXPORT int sigrelse(int sig)
{
	struct task *t = task_self();

	return t == NULL ? real.sigrelse(sig) : change_one(t, sig, false);
}

EXPORT __sighandler_t sigset(int sig, __sighandler_t handler)
{
	struct task *t = task_self();
	struct sigaction old;

	if (t == NULL)
		return real.sigset(sig, handler);
	if (!is_signal(sig) || handler == SIG_ERR) {
		errno = EINVAL;
		return SIG_ERR;
	}
	bool held = signal_get_mask(t) & SIGNAL_BIT(sig);
	if (handler == SIG_HOLD) {
		if (set_action(sig, NULL, &old) < 0)
			return SIG_ERR;
		change_one(t, sig, true);
	} else {
		old.sa_handler = set_handler(sig, handler, 0, 0);
		if (old.sa_handler == SIG_ERR)
			return SIG_ERR;
		change_one(t, sig, false);
	}
	return held ? SIG_HOLD : old.sa_handler;
}

EXPORT int sigblock(int mask)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.sigblock(mask);
	uint64_t before = signal_get_mask(t);
	signal_set_mask(t, before | (unsigned)mask);
	return (int)before;
}

EXPORT int sigsetmask(int mask)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.sigsetmask(mask);
	uint64_t before = signal_get_mask(t);
	signal_set_mask(t, (unsigned)mask);
	return (int)before;
}

EXPORT int siggetmask(void)
{
	struct task *t = task_self();

	return t == NULL ? real.siggetmask() : (int)signal_get_mask(t);
}

EXPORT int sigpending(sigset_t *set)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.sigpending(set);
	set_word(set, signal_pending(t));
	return 0;
}

/* --- waiting ---------------------------------------------------------------------------- */

static int suspend(struct task *t, uint64_t mask)
{
	cancel_enter(t);
	long r = signal_suspend(t, mask);
	cancel_leave(t, false);
	return ret_errno(r);
}

EXPORT int sigsuspend(const sigset_t *mask)
{
	struct task *t = task_self();

	return t == NULL ? real.sigsuspend(mask) : suspend(t, sigset_word(mask));
}
ALIAS(__sigsuspend, sigsuspend);

EXPORT int pause(void)
{
	struct task *t = task_self();

	return t == NULL ? real.pause() : suspend(t, signal_get_mask(t));
}

/* X/Open's opens one signal while it waits; BSD's has a mask of 32. */
EXPORT int __sigpause(int sig_or_mask, int is_sig)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.__sigpause(sig_or_mask, is_sig);
	if (!is_sig)
		return suspend(t, (unsigned)sig_or_mask);
	if (!is_signal(sig_or_mask))
		return ret_errno(-EINVAL);
	return suspend(t, signal_get_mask(t) & ~SIGNAL_BIT(sig_or_mask));
}

EXPORT int __xpg_sigpause(int sig)
{
	return __sigpause(sig, 1);
}

EXPORT int sigpause(int mask)
{
	return __sigpause(mask, 0);
}

/* The signal's number, or -E. */
static long wait_for(struct task *t, const sigset_t *set, siginfo_t *info, ns_t deadline)
{
	siginfo_t local;

	if (info == NULL)
		info = &local;
	cancel_enter(t);
	long r = signal_wait(t, sigset_word(set), info, deadline);
	cancel_leave(t, r != -EINTR);
	/* As libc: who took the trouble to send it to one thread is nobody's business. */
	if (r > 0 && info->si_code == SI_TKILL)
		info->si_code = SI_USER;
	return r;
}

EXPORT int sigwait(const sigset_t *set, int *sig)
{
	struct task *t = task_self();
	long r;

	if (t == NULL)
		return real.sigwait(set, sig);
	do
		r = wait_for(t, set, NULL, NO_DEADLINE);
	while (r == -EINTR);
	if (r < 0)
		return (int)-r;
	*sig = (int)r;
	return 0;
}

EXPORT int sigwaitinfo(const sigset_t *set, siginfo_t *info)
{
	struct task *t = task_self();

	return t == NULL ? real.sigwaitinfo(set, info)
			 : ret_errno(wait_for(t, set, info, NO_DEADLINE));
}

EXPORT int sigtimedwait(const sigset_t *set, siginfo_t *info,
			const struct timespec *timeout)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.sigtimedwait(set, info, timeout);
	if (timeout != NULL && (!timespec_is_valid(timeout) || timeout->tv_sec < 0))
		return ret_errno(-EINVAL);
	return ret_errno(
	    wait_for(t, set, info,
		     timeout == NULL ? NO_DEADLINE : deadline_in(timespec_ns(timeout))));
}

/* --- sending ---------------------------------------------------------------------------- */

static siginfo_t info_of(int sig, int code)
{
	siginfo_t info = {.si_signo = sig, .si_code = code};

	info.si_pid = getpid();
	info.si_uid = getuid();
	return info;
}

/* 0 or -E.  To itself it is delivered before this returns, if it is open. */
static long send_info(struct task *t, const siginfo_t *info)
{
	int sig = info->si_signo;

	if (!is_signal(sig))
		return -EINVAL;
	/* Nobody can catch these: they are the process's, whomever they are sent to. */
	if (sig == SIGKILL || sig == SIGSTOP)
		return real.kill(getpid(), sig) == 0 ? 0 : -errno;
	/* What main's kernel thread had pending would stay there when the runtime wakes. */
	if (task_kernel_tid(t) != task_tid(t) || task_rests(t))
		return signal_post(t, info);
	/* The kernel delivers to an adopted task.  It writes SI_TKILL itself or not at all. */
	long r = info->si_code == SI_TKILL ? real.tgkill(getpid(), task_tid(t), sig)
					   : real.syscall(SYS_rt_tgsigqueueinfo, getpid(),
							  task_tid(t), sig, info);
	return r == 0 ? 0 : -errno;
}

static long send_signal(struct task *t, int sig, int code)
{
	siginfo_t info = info_of(sig, code);

	return send_info(t, &info);
}

/* To a thread named by pthread_t; 0 or an errno. */
static int send_to_thread(pthread_t thread, siginfo_t *info)
{
	struct task *t = task_of(thread);

	if (is_internal(info->si_signo))
		return EINVAL;
	if (t == NULL)
		return ESRCH;
	/* Its id is good until it is joined, as glibc has it since 2.34. */
	if (task_is_done(t))
		return 0;
	if (info->si_signo == 0)
		return 0;
	return (int)-send_info(t, info);
}

EXPORT int pthread_kill(pthread_t thread, int sig)
{
	if (task_self() == NULL)
		return real.pthread_kill(thread, sig);
	siginfo_t info = info_of(sig, SI_TKILL);
	return send_to_thread(thread, &info);
}

EXPORT int pthread_sigqueue(pthread_t thread, int sig, const union sigval value)
{
	if (task_self() == NULL)
		return real.pthread_sigqueue(thread, sig, value);
	struct task *t = task_of(thread);
	/* Unlike pthread_kill's. */
	if (t != NULL && task_is_done(t))
		return ESRCH;
	siginfo_t info = info_of(sig, SI_QUEUE);
	info.si_value = value;
	return send_to_thread(thread, &info);
}

EXPORT int raise(int sig)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.raise(sig);
	if (is_internal(sig))
		return ret_errno(-EINVAL);
	return sig == 0 ? 0 : ret_errno(send_signal(t, sig, SI_TKILL));
}
ALIAS(gsignal, raise);

int thread_kill_tid(int tid, int sig)
{
	struct task *t = task_of_tid(tid);

	/* A kernel thread of ours that is no task, or none at all: the kernel knows. */
	if (t == NULL)
		return real.tgkill(getpid(), tid, sig) == 0 ? 0 : -errno;
	if (is_internal(sig))
		return 0;
	return sig == 0 ? 0 : (int)send_signal(t, sig, SI_TKILL);
}

int thread_queue_tid(struct task *self, int tid, int sig, const siginfo_t *asked)
{
	struct task *t = task_of_tid(tid);
	siginfo_t info = *asked;

	info.si_signo = sig;
	/* As the kernel: what it says itself, or tgkill() does, only of oneself. */
	if ((info.si_code >= 0 || info.si_code == SI_TKILL) && t != self)
		return -EPERM;
	if (t == NULL)
		return -ESRCH;
	return sig == 0 || is_internal(sig) ? 0 : (int)send_info(t, &info);
}

EXPORT int tgkill(pid_t process, pid_t tid, int sig)
{
	if (task_self() == NULL || process != getpid())
		return real.tgkill(process, tid, sig);
	return ret_errno(thread_kill_tid(tid, sig));
}

/*
 * Whether a signal to the own process goes straight to the caller.  If the caller does not
 * block it, and nobody else takes it, POSIX wants it delivered before kill() returns, and the
 * kernel would give it to a kernel thread that runs other tasks.  Main comes first, as
 * natively: many a program sends itself a signal to end main's wait.
 */
static bool is_served_here(struct task *t, int sig)
{
	return sig != SIGKILL && sig != SIGSTOP &&
	       !(signal_get_mask(t) & SIGNAL_BIT(sig)) &&
	       (task_is_main(t) || !signal_is_mains(sig));
}

long signal_sent(struct task *t, int sig, long r)
{
	if (r == 0 && is_signal(sig) && is_served_here(t, sig))
		signal_settle(t, sig);
	return r;
}

/* Sends to the own process.  -ENOENT: the kernel must. */
static long send_to_process(struct task *t, pid_t process, const siginfo_t *info)
{
	int sig = info->si_signo;

	if (process != getpid() || !is_signal(sig) || is_internal(sig))
		return -ENOENT;
	return is_served_here(t, sig) ? send_info(t, info) : signal_post_process(info);
}

/* The kernel takes the id of any thread for that of its process. */
static pid_t process_of(pid_t id)
{
	return id >= FIRST_TASK_TID && task_of_tid(id) != NULL ? getpid() : id;
}

EXPORT int kill(pid_t process, int sig)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.kill(process, sig);
	process = process_of(process);
	siginfo_t info = info_of(sig, SI_USER);
	long r = send_to_process(t, process, &info);
	if (r != -ENOENT)
		return ret_errno(r);
	r = real.kill(process, sig);
	/* Its own group, or everybody. */
	bool to_self = process == 0 || process == -1 || process == -getpgrp();
	return to_self ? signal_sent(t, sig, r) : r;
}

EXPORT int killpg(pid_t group, int sig)
{
	struct task *t = task_self();

	if (t == NULL || group < 0)
		return real.killpg(group, sig);
	return kill(-group, sig);
}

EXPORT int sigqueue(pid_t process, int sig, const union sigval value)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.sigqueue(process, sig, value);
	process = process_of(process);
	siginfo_t info = info_of(sig, SI_QUEUE);
	info.si_value = value;
	long r = send_to_process(t, process, &info);
	return r == -ENOENT ? real.sigqueue(process, sig, value) : ret_errno(r);
}

/* --- the process's timers --------------------------------------------------------------- */

/*
 * Natively a timer's signal interrupts whom it is for, and no handler runs any more once the
 * timer is disarmed: what it would jump to may be gone.  Ours comes by way of sysmon, so who
 * changes a timer that has expired, perhaps just now, waits until the signal has arrived.
 */
enum { ARRIVED_US = 20000 }; /* a signal that was sent so long ago has arrived */

static const int timer_signals[] = {SIGALRM, SIGVTALRM, SIGPROF}; /* by ITIMER_* */
static _Atomic bool timer_is_armed[3];

static long long usec(struct timeval tv)
{
	return tv.tv_sec * 1000000LL + tv.tv_usec;
}

static bool arm_timer(int which, bool on)
{
	return atomic_exchange_explicit(&timer_is_armed[which], on, memory_order_relaxed);
}

EXPORT int setitimer(__itimer_which_t which, const struct itimerval *new,
		     struct itimerval *old)
{
	struct task *t = task_self();
	struct itimerval before = {0};
	int r = real.setitimer(which, new, &before);

	if (r != 0)
		return r;
	if (old != NULL)
		*old = before;
	bool was_armed = arm_timer((int)which, new != NULL &&usec(new->it_value) != 0);
	long long left = usec(before.it_value), interval = usec(before.it_interval);
	if (t != NULL && was_armed &&
	    (left == 0 || (interval != 0 && interval - left < ARRIVED_US)))
		signal_sent(t, timer_signals[which], 0);
	return 0;
}

EXPORT unsigned alarm(unsigned seconds)
{
	struct itimerval new = {.it_value.tv_sec = seconds}, before;

	if (setitimer(ITIMER_REAL, &new, &before) != 0)
		return 0;
	/* As libc: rounded, but never down to nothing. */
	unsigned left = (unsigned)before.it_value.tv_sec;
	return left + (before.it_value.tv_usec >= 500000 ||
		       (left == 0 && before.it_value.tv_usec > 0));
}

EXPORT useconds_t ualarm(useconds_t value, useconds_t interval)
{
	struct itimerval new = {.it_interval.tv_usec = interval,
				.it_value.tv_usec = value};
	struct itimerval before;

	return setitimer(ITIMER_REAL, &new, &before) == 0
		   ? (useconds_t)usec(before.it_value)
		   : (useconds_t)-1;
}

/*
 * The same with a timer of timer_create().  The kernel forgets the signal of one that is
 * disarmed (since 6.13), so an expiry that natively has been handled by now must have arrived
 * before; and one that comes just then, before this returns.
 */
enum { N_TIMER_BITS = 65536, LONG_BITS = 64 };

/* Those that were armed and may have expired since, by the kernel's number; those that share a
 * bit are far apart. */
static _Atomic uint64_t armed_timers[N_TIMER_BITS / LONG_BITS];

/* Whether it was.  Not one that tells a thread of libc's (SIGEV_THREAD): its number is a
 * pointer's, with the highest bit set. */
static bool is_armed(timer_t timer)
{
	uintptr_t id = (uintptr_t)timer;
	uint64_t bits = atomic_load_explicit(&armed_timers[id % N_TIMER_BITS / LONG_BITS],
					     memory_order_relaxed);

	return (intptr_t)id >= 0 && (bits >> id % LONG_BITS & 1);
}

static void note_armed(timer_t timer, bool on)
{
	uintptr_t id = (uintptr_t)timer;
	_Atomic uint64_t *bits = &armed_timers[id % N_TIMER_BITS / LONG_BITS];
	uint64_t bit = 1ULL << id % LONG_BITS;

	if (on)
		atomic_fetch_or_explicit(bits, bit, memory_order_relaxed);
	else
		atomic_fetch_and_explicit(bits, ~bit, memory_order_relaxed);
}

static bool is_set(struct timespec ts)
{
	return (ts.tv_sec | ts.tv_nsec) != 0;
}

static bool has_just_expired(const struct itimerspec *left)
{
	return !is_set(left->it_value) ||
	       (is_set(left->it_interval) &&
		timespec_ns(&left->it_interval) - timespec_ns(&left->it_value) <
		    ARRIVED_US * 1000LL);
}

EXPORT int timer_settime(timer_t timer, int flags, const struct itimerspec *new,
			 struct itimerspec *old)
{
	struct task *t = task_self();
	struct itimerspec before, after;

	bool settles = t != NULL && is_armed(timer) && timer_gettime(timer, &before) == 0;
	if (settles && has_just_expired(&before))
		signal_settle_own(t);
	/* Before it can expire. */
	bool arms = new != NULL &&is_set(new->it_value);
	if (arms)
		note_armed(timer, true);
	int r = real.timer_settime(timer, flags, new, &after);
	if (r != 0)
		return r;
	if (old != NULL)
		*old = after;
	if (!arms)
		note_armed(timer, false);
	if (settles && is_set(before.it_value) && has_just_expired(&after))
		signal_settle_own(t);
	return 0;
}

EXPORT int timer_delete(timer_t timer)
{
	static const struct itimerspec never;

	if (is_armed(timer))
		timer_settime(timer, 0, &never, NULL);
	return real.timer_delete(timer);
}

EXPORT int sigaltstack(const stack_t *stack, stack_t *old)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.sigaltstack(stack, old);
	return ret_errno(signal_altstack(t, stack, old));
}
