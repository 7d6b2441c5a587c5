/* SPDX-License-Identifier: MIT */
/*
 * schedule.c: policies, priorities, CPUs and CPU time of a thread.
 *
 * A floating task has what all workers have, which is what the process had when the runtime
 * woke: as long as it asks for nothing else there is nothing to do.  What differs, the
 * kernel alone can give, to a kernel thread: so the task is bound, and the kernel told.  A
 * real-time priority or a nice value that was only remembered would be a lie, and so would
 * a mask of CPUs: who pins a thread to a CPU may count on sched_getcpu(), on being alone in
 * that CPU's data, or on a NUMA node's memory.  (A mask that leaves out nothing of what the
 * process may use binds nobody.)  The price is a kernel thread for each such task, as
 * natively.  A bound task's kernel thread is asked and told directly.
 *
 * A floating task can only be told by itself, for nobody else may change its worker.  Who
 * wants it told writes down the wish, makes it look, and waits until it has acted: it looks
 * also when it is parked.  One that does not come to it soon (it sits in a system call that
 * nobody announced) acts later, and until then the wish is what it is said to have.
 */
#include "schedule.h"

#include <string.h>
#include <sys/resource.h>

/* How long who asks waits at most. */
enum { PATIENCE_NS = 50000000 };

_Static_assert(sizeof(((struct wish *)0)->cpus) == sizeof(cpu_set_t), "wants_cpus()");

/* The kernel's struct sched_attr, as far as all versions have it. */
struct kernel_sched_attr {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

static long kernel(long nr, long a, long b, long c)
{
	return real.syscall(nr, a, b, c) == -1 ? -errno : 0;
}

/* --- wishes ---------------------------------------------------------------------------- */

/* One asks at a time; a word as a mutex's. */
static _Atomic uint32_t asking;

static void asking_acquire(void)
{
	uint32_t free = 0;

	/* Pairs with asking_release(): what the last holder wrote is visible. */
	if (!atomic_compare_exchange_strong_explicit(
		&asking, &free, 1, memory_order_acquire, memory_order_relaxed))
		lock_slow(&asking, false, NO_DEADLINE);
}

static void asking_release(void)
{
	uint32_t held = 1;

	/* Pairs with asking_acquire() and lock_slow(). */
	if (!atomic_compare_exchange_strong_explicit(
		&asking, &held, 0, memory_order_release, memory_order_relaxed))
		unlock_slow(&asking);
}

/* Who was asking, or waited to, is in the process that we are forked from. */
void sched_fork_child(void)
{
	atomic_store_explicit(&asking, 0, memory_order_relaxed);
}

static long fulfil(struct task *t, const struct wish *w, uint32_t what)
{
	const struct sched_param param = {.sched_priority = w->priority};
	long r = 0;

	if (what & WISH_BIND)
		task_bind(t);
	if (what & WISH_CPUS)
		r = task_bind_call(t, SYS_sched_setaffinity, 0, sizeof(w->cpus),
				   (long)w->cpus, 0, 0);
	if (r >= 0 && what & WISH_NICE)
		r = task_bind_call(t, SYS_setpriority, PRIO_PROCESS, 0, w->nice, 0, 0);
	if (r >= 0 && what & WISH_POLICY)
		r = task_bind_call(t, SYS_sched_setscheduler, 0, w->policy, (long)&param,
				   0, 0);
	return r < 0 ? r : 0;
}

int sched_fulfil(struct task *t, const struct wish *w)
{
	return (int)-fulfil(t, w, w->what);
}

void sched_asked(struct task *t)
{
	struct wish *w = &task_ext(t)->wish;

	/* Pairs with ask(). */
	uint32_t what = atomic_load_explicit(&w->what, memory_order_acquire);

	w->error = (int)-fulfil(t, w, what);
	/* Pairs with ask(): the error is visible. */
	atomic_fetch_and_explicit(&w->what, ~what, memory_order_release);
	wake(&w->what, INT_MAX);
}

/* t's wish has been filled in for what; asking is held.  0 or an errno. */
static int ask(struct task *t, uint32_t what)
{
	struct wish *w = &task_ext(t)->wish;
	ns_t deadline = deadline_in(PATIENCE_NS);
	uint32_t still;

	/* Pairs with sched_fulfil(): what is wished for is visible. */
	atomic_fetch_or_explicit(&w->what, what, memory_order_release);
	task_ask(t);
	while ((still = atomic_load_explicit(&w->what, memory_order_acquire)) & what)
		if (park_on(&w->what, still, deadline) == -ETIMEDOUT)
			return 0;
	return w->error;
}

/* Whether t is still to be told so. */
static bool is_wished(struct task *t, enum wish_kind what)
{
	return (atomic_load_explicit(&task_ext(t)->wish.what, memory_order_acquire) &
		what) != 0;
}

/* The task that a thread id names; 0 is the caller's.  NULL: it is not ours. */
static struct task *task_named(struct task *self, pid_t tid)
{
	return tid == 0 ? self : task_of_tid(tid);
}

/* The task that has not ended yet, or NULL: libc's functions would take what is left of a
 * joined one for a thread of the kernel's. */
static struct task *task_alive(pthread_t id)
{
	struct task *t = task_of(id);

	return t != NULL && !task_is_done(t) ? t : NULL;
}

/* What the kernel calls t, for whom it is to be asked about it. */
static pid_t kernel_name(struct task *self, pid_t tid)
{
	struct task *t = task_named(self, tid);

	return t == NULL ? tid : t == self && task_is_bound(t) ? 0 : task_twin_tid(t);
}

void sched_bind(struct task *t)
{
	if (t == task_self()) {
		task_bind(t);
		return;
	}
	asking_acquire();
	ask(t, WISH_BIND);
	asking_release();
}

/* A system call by number that changes t: its first argument, or with who_is_second its
 * second, names the kernel thread.  For bound tasks and the caller. */
static long change(struct task *self, struct task *t, long nr, bool who_is_second, long a,
		   long b, long c)
{
	int tid = t == self ? 0 : task_kernel_tid(t);

	if (who_is_second)
		b = tid;
	else
		a = tid;
	if (t == self)
		return task_bind_call(t, nr, a, b, c, 0, 0);
	long r = kernel(nr, a, b, c);
	if (r >= 0)
		task_set_apart(t);
	return r;
}

static bool can_be_told(struct task *self, struct task *t)
{
	return t == self || task_is_bound(t);
}

/* --- policy and priority --------------------------------------------------------------- */

static int policy_of(struct task *self, struct task *t)
{
	struct wish *w = &task_ext(t)->wish;

	return is_wished(t, WISH_POLICY)
		   ? w->policy
		   : real.sched_getscheduler(kernel_name(self, task_tid(t)));
}

static int priority_of(struct task *self, struct task *t)
{
	struct sched_param param = {0};

	if (is_wished(t, WISH_POLICY))
		return task_ext(t)->wish.priority;
	real.sched_getparam(kernel_name(self, task_tid(t)), &param);
	return param.sched_priority;
}

/* 0 or -E. */
static long set_policy(struct task *self, struct task *t, int policy,
		       const struct sched_param *param)
{
	struct wish *w = &task_ext(t)->wish;
	int plain = policy & ~SCHED_RESET_ON_FORK;
	int low = sched_get_priority_min(plain), high = sched_get_priority_max(plain);

	if (param == NULL || policy < 0 || low < 0 || param->sched_priority < low ||
	    param->sched_priority > high)
		return -EINVAL;
	if (policy == policy_of(self, t) && param->sched_priority == priority_of(self, t))
		return 0;
	asking_acquire();
	w->policy = policy;
	w->priority = param->sched_priority;
	long r = can_be_told(self, t) ? change(self, t, SYS_sched_setscheduler, false, 0,
					       policy, (long)param)
				      : -ask(t, WISH_POLICY);
	w->is_told = r == 0;
	asking_release();
	return r;
}

EXPORT int sched_setscheduler(pid_t tid, int policy, const struct sched_param *param)
{
	struct task *self = task_self(), *t = self ? task_named(self, tid) : NULL;

	return t == NULL ? real.sched_setscheduler(tid, policy, param)
			 : (int)ret_errno(set_policy(self, t, policy, param));
}
ALIAS(__sched_setscheduler, sched_setscheduler);

EXPORT int sched_setparam(pid_t tid, const struct sched_param *param)
{
	struct task *self = task_self(), *t = self ? task_named(self, tid) : NULL;

	return t == NULL ? real.sched_setparam(tid, param)
			 : (int)ret_errno(set_policy(self, t, policy_of(self, t), param));
}

EXPORT int sched_getscheduler(pid_t tid)
{
	struct task *self = task_self(), *t = self ? task_named(self, tid) : NULL;

	return t == NULL ? real.sched_getscheduler(tid) : policy_of(self, t);
}
ALIAS(__sched_getscheduler, sched_getscheduler);

EXPORT int sched_getparam(pid_t tid, struct sched_param *param)
{
	struct task *self = task_self(), *t = self ? task_named(self, tid) : NULL;

	if (t == NULL || param == NULL)
		return real.sched_getparam(tid, param);
	param->sched_priority = priority_of(self, t);
	return 0;
}
ALIAS(__sched_getparam, sched_getparam);

EXPORT int sched_rr_get_interval(pid_t tid, struct timespec *interval)
{
	struct task *self = task_self();

	return real.sched_rr_get_interval(self == NULL ? tid : kernel_name(self, tid),
					  interval);
}

EXPORT int pthread_setschedparam(pthread_t id, int policy,
				 const struct sched_param *param)
{
	struct task *self = task_self(), *t;

	if (self == NULL)
		return real.pthread_setschedparam(id, policy, param);
	if ((t = task_alive(id)) == NULL)
		return ESRCH;
	return (int)-set_policy(self, t, policy, param);
}

EXPORT int pthread_getschedparam(pthread_t id, int *policy, struct sched_param *param)
{
	struct task *self = task_self(), *t;

	if (self == NULL)
		return real.pthread_getschedparam(id, policy, param);
	if ((t = task_alive(id)) == NULL)
		return ESRCH;
	/* Not what a mutex's ceiling has made of it meanwhile, says POSIX. */
	bool told = task_ext(t)->wish.is_told;
	*policy = told ? task_ext(t)->wish.policy : policy_of(self, t);
	param->sched_priority = told ? task_ext(t)->wish.priority : priority_of(self, t);
	return 0;
}

EXPORT int pthread_setschedprio(pthread_t id, int priority)
{
	struct task *self = task_self(), *t;
	const struct sched_param param = {.sched_priority = priority};

	if (self == NULL)
		return real.pthread_setschedprio(id, priority);
	if ((t = task_alive(id)) == NULL)
		return ESRCH;
	return (int)-set_policy(self, t, policy_of(self, t), &param);
}

/* --- nice ------------------------------------------------------------------------------ */

/* As getpriority, which may answer -1; only for threads that are alive. */
static int nice_of(struct task *self, struct task *t)
{
	return is_wished(t, WISH_NICE)
		   ? task_ext(t)->wish.nice
		   : real.getpriority(PRIO_PROCESS, kernel_name(self, task_tid(t)));
}

static long set_nice(struct task *self, struct task *t, int nice)
{
	nice = nice < -20 ? -20 : nice > 19 ? 19 : nice;
	if (nice == nice_of(self, t))
		return 0;
	if (can_be_told(self, t))
		return change(self, t, SYS_setpriority, true, PRIO_PROCESS, 0, nice);
	asking_acquire();
	task_ext(t)->wish.nice = nice;
	int r = ask(t, WISH_NICE);
	asking_release();
	return -r;
}

EXPORT int getpriority(__priority_which_t which, id_t who)
{
	struct task *self = task_self();
	struct task *t =
	    self && which == PRIO_PROCESS ? task_named(self, (pid_t)who) : NULL;

	return t == NULL ? real.getpriority(which, who) : nice_of(self, t);
}

EXPORT int setpriority(__priority_which_t which, id_t who, int nice)
{
	struct task *self = task_self();
	struct task *t =
	    self && which == PRIO_PROCESS ? task_named(self, (pid_t)who) : NULL;

	return t == NULL ? real.setpriority(which, who, nice)
			 : (int)ret_errno(set_nice(self, t, nice));
}

EXPORT int nice(int by)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.nice(by);
	int now = nice_of(t, t);
	by = by < -40 ? -40 : by > 40 ? 40 : by;
	long r = set_nice(t, t, now + by);
	/* As libc's and POSIX's, which the kernel's error is not. */
	if (r < 0)
		return (int)ret_errno(r == -EACCES ? -EPERM : r);
	return nice_of(t, t);
}

/* --- CPUs ------------------------------------------------------------------------------ */

static int cpus_of(struct task *self, struct task *t, size_t size, cpu_set_t *set)
{
	const struct wish *w = &task_ext(t)->wish;

	if (!is_wished(t, WISH_CPUS))
		return real.sched_getaffinity(kernel_name(self, task_tid(t)), size, set);
	memset(set, 0, size);
	memcpy(set, w->cpus, size < sizeof(w->cpus) ? size : sizeof(w->cpus));
	return 0;
}

/* Whether a mask leaves a thread that may use what kernel thread whose may exactly that. */
static bool is_no_narrower(pid_t whose, size_t size, const cpu_set_t *set)
{
	cpu_set_t all, both;

	if (size > sizeof(all))
		size = sizeof(all);
	CPU_ZERO(&all);
	CPU_ZERO(&both);
	if (real.sched_getaffinity(whose, sizeof(all), &all) != 0)
		return false;
	memcpy(&both, set, size);
	bool wider = !CPU_EQUAL(&both, &all);
	CPU_AND(&both, &both, &all);
	return CPU_EQUAL(&both, &all) &&
	       (!wider || CPU_COUNT(&all) == sysconf(_SC_NPROCESSORS_ONLN));
}

static long set_cpus(struct task *self, struct task *t, size_t size, const cpu_set_t *set)
{
	struct wish *w = &task_ext(t)->wish;

	if (set == NULL)
		return -EFAULT;
	if (!task_is_bound(t) && !is_wished(t, WISH_CPUS) &&
	    is_no_narrower(task_twin_tid(t), size, set))
		return 0;
	if (can_be_told(self, t))
		return change(self, t, SYS_sched_setaffinity, false, 0, (long)size,
			      (long)set);
	asking_acquire();
	memset(w->cpus, 0, sizeof(w->cpus));
	memcpy(w->cpus, set, size < sizeof(w->cpus) ? size : sizeof(w->cpus));
	int r = ask(t, WISH_CPUS);
	asking_release();
	return -r;
}

EXPORT int sched_setaffinity(pid_t tid, size_t size, const cpu_set_t *set)
{
	struct task *self = task_self(), *t = self ? task_named(self, tid) : NULL;

	return t == NULL ? real.sched_setaffinity(tid, size, set)
			 : (int)ret_errno(set_cpus(self, t, size, set));
}

EXPORT int sched_getaffinity(pid_t tid, size_t size, cpu_set_t *set)
{
	struct task *self = task_self(), *t = self ? task_named(self, tid) : NULL;

	return t == NULL ? real.sched_getaffinity(tid, size, set)
			 : cpus_of(self, t, size, set);
}

EXPORT int pthread_setaffinity_np(pthread_t id, size_t size, const cpu_set_t *set)
{
	struct task *self = task_self(), *t;

	if (self == NULL)
		return real.pthread_setaffinity_np(id, size, set);
	if ((t = task_alive(id)) == NULL)
		return ESRCH;
	return (int)-set_cpus(self, t, size, set);
}

EXPORT int pthread_getaffinity_np(pthread_t id, size_t size, cpu_set_t *set)
{
	struct task *self = task_self(), *t;

	if (self == NULL)
		return real.pthread_getaffinity_np(id, size, set);
	if ((t = task_alive(id)) == NULL)
		return ESRCH;
	return cpus_of(self, t, size, set) == 0 ? 0 : errno;
}

/* --- a new task's attributes ----------------------------------------------------------- */

static bool wants_policy(const pthread_attr_t *attr, struct task *self, struct wish *w)
{
	struct sched_param param = {0};
	int inherit = PTHREAD_INHERIT_SCHED;

	pthread_attr_getinheritsched(attr, &inherit);
	if (inherit != PTHREAD_EXPLICIT_SCHED)
		return false;
	pthread_attr_getschedpolicy(attr, &w->policy);
	pthread_attr_getschedparam(attr, &param);
	w->priority = param.sched_priority;
	return w->policy != policy_of(self, self) ||
	       w->priority != priority_of(self, self);
}

static bool wants_cpus(const pthread_attr_t *attr, struct wish *w)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	/* All are set where the attribute has none. */
	if (pthread_attr_getaffinity_np(attr, sizeof(set), &set) != 0 ||
	    CPU_COUNT(&set) == CPU_SETSIZE)
		return false;
	memcpy(w->cpus, &set, sizeof(set));
	return !is_no_narrower(kernel_name(task_self(), 0), sizeof(set), &set);
}

uint32_t sched_read_attr(const pthread_attr_t *attr, struct wish *w)
{
	uint32_t what = 0;

	if (wants_policy(attr, task_self(), w))
		what |= WISH_POLICY;
	if (wants_cpus(attr, w))
		what |= WISH_CPUS;
	return what;
}

void sched_tell(struct task *t, pthread_attr_t *attr)
{
	struct task *self = task_self();
	const struct sched_param param = {.sched_priority = priority_of(self, t)};
	cpu_set_t set;

	pthread_attr_setschedpolicy(attr, policy_of(self, t));
	pthread_attr_setschedparam(attr, &param);
	if (cpus_of(self, t, sizeof(set), &set) == 0)
		pthread_attr_setaffinity_np(attr, sizeof(set), &set);
}

/* --- CPU time ---------------------------------------------------------------------------- */

/* The kernel's encoding of a thread's CPU clock: ~tid << 3 | per-thread, scheduler time. */
enum { CLOCK_OF_THREAD = 6, CLOCK_KIND_MASK = 7 };

struct task *cpu_clock_task(struct task *self, clockid_t clock)
{
	if (clock == CLOCK_THREAD_CPUTIME_ID)
		return self;
	if (clock >= 0 || (clock & CLOCK_KIND_MASK) != CLOCK_OF_THREAD)
		return NULL;
	int tid = ~(clock >> 3);
	return tid == 0 ? self : task_of_clock_tid(tid);
}

EXPORT int pthread_getcpuclockid(pthread_t id, clockid_t *clock)
{
	struct task *t;

	if (task_self() == NULL)
		return real.pthread_getcpuclockid(id, clock);
	if ((t = task_alive(id)) == NULL)
		return ESRCH;
	*clock = (clockid_t)(~(unsigned)task_clock_tid(t) << 3 | CLOCK_OF_THREAD);
	return 0;
}

static struct timespec cpu_time_of(struct task *t)
{
	ns_t ns = task_cpu_ns(t);

	return (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
}

EXPORT int clock_gettime(clockid_t clock, struct timespec *ts)
{
	struct task *t;

	if (likely(clock >= 0 && clock != CLOCK_THREAD_CPUTIME_ID) || !runtime_is_live())
		return real.clock_gettime(clock, ts);
	t = cpu_clock_task(task_self(), clock);
	if (t == NULL)
		return real.clock_gettime(clock, ts);
	*ts = cpu_time_of(t);
	return 0;
}

EXPORT int clock_getres(clockid_t clock, struct timespec *res)
{
	struct task *self = task_self();

	/* All threads' clocks have the same. */
	if (self != NULL && cpu_clock_task(self, clock) != NULL)
		clock = CLOCK_THREAD_CPUTIME_ID;
	return real.clock_getres(clock, res);
}

/* A floating task's CPU time, divided into the two kinds as its worker's is. */
static void divide_cpu_time(struct task *t, struct rusage *usage)
{
	ns_t us = task_cpu_ns(t) / 1000;
	ns_t user = usage->ru_utime.tv_sec * 1000000 + usage->ru_utime.tv_usec;
	ns_t all = user + usage->ru_stime.tv_sec * 1000000 + usage->ru_stime.tv_usec;
	ns_t user_us = all > 0 ? (ns_t)((__int128)us * user / all) : us;
	ns_t system_us = us - user_us;

	usage->ru_utime = (struct timeval){user_us / 1000000, user_us % 1000000};
	usage->ru_stime = (struct timeval){system_us / 1000000, system_us % 1000000};
}

EXPORT int getrusage(__rusage_who_t who, struct rusage *usage)
{
	struct task *t = who == RUSAGE_THREAD ? task_self() : NULL;
	int r = real.getrusage(who, usage);

	if (r == 0 && t != NULL)
		divide_cpu_time(t, usage);
	return r;
}

/* --- by number ------------------------------------------------------------------------- */

static long call_setattr(struct task *self, const long a[6])
{
	const struct kernel_sched_attr *attr = (const void *)a[1];
	struct task *t = task_named(self, (pid_t)a[0]);

	if (t == NULL)
		return kernel(SYS_sched_setattr, a[0], a[1], a[2]);
	if (can_be_told(self, t))
		return change(self, t, SYS_sched_setattr, false, 0, a[1], a[2]);
	/* What else the structure may hold, the task's own kernel thread must be told. */
	sched_bind(t);
	return task_is_bound(t) && attr != NULL
		   ? change(self, t, SYS_sched_setattr, false, 0, a[1], a[2])
		   : -EAGAIN;
}

static long errno_of(int r)
{
	return r < 0 ? -errno : r;
}

/* The kernel's returns the size of its mask. */
static long call_getaffinity(struct task *self, const long a[6])
{
	struct task *t = task_named(self, (pid_t)a[0]);
	long r = real.syscall(SYS_sched_getaffinity, kernel_name(self, (pid_t)a[0]), a[1],
			      a[2]);

	if (r < 0)
		return -errno;
	if (t != NULL && is_wished(t, WISH_CPUS))
		cpus_of(self, t, r, (cpu_set_t *)a[2]);
	return r;
}

/* The kernel's answer lies between 1 and 40. */
static long call_getpriority(struct task *self, const long a[6])
{
	struct task *t = a[0] == PRIO_PROCESS ? task_named(self, (pid_t)a[1]) : NULL;

	if (t != NULL)
		return 20 - nice_of(self, t);
	long r = real.syscall(SYS_getpriority, a[0], a[1]);
	return r < 0 ? -errno : r;
}

bool sched_call(struct task *t, long nr, const long a[6], long *result)
{
	struct task *timed;

	switch (nr) {
	case SYS_sched_setscheduler:
		*result = errno_of(
		    sched_setscheduler((pid_t)a[0], (int)a[1], (const void *)a[2]));
		return true;
	case SYS_sched_setparam:
		*result = errno_of(sched_setparam((pid_t)a[0], (const void *)a[1]));
		return true;
	case SYS_sched_getscheduler:
		*result = errno_of(sched_getscheduler((pid_t)a[0]));
		return true;
	case SYS_sched_getparam:
		*result = errno_of(sched_getparam((pid_t)a[0], (void *)a[1]));
		return true;
	case SYS_sched_rr_get_interval:
		*result = errno_of(sched_rr_get_interval((pid_t)a[0], (void *)a[1]));
		return true;
	case SYS_sched_setattr:
		*result = call_setattr(t, a);
		return true;
	case SYS_sched_getattr:
		*result = errno_of(
		    (int)real.syscall(nr, kernel_name(t, (pid_t)a[0]), a[1], a[2], a[3]));
		return true;
	case SYS_sched_setaffinity:
		*result = errno_of(
		    sched_setaffinity((pid_t)a[0], (size_t)a[1], (const void *)a[2]));
		return true;
	case SYS_sched_getaffinity:
		*result = call_getaffinity(t, a);
		return true;
	case SYS_setpriority:
		*result = errno_of(setpriority((int)a[0], (id_t)a[1], (int)a[2]));
		return true;
	case SYS_getpriority:
		*result = call_getpriority(t, a);
		return true;
	/* Another clock is the kernel's to tell: a preloaded library that has its own
	 * clock_gettime() may be asking for it. */
	case SYS_clock_gettime:
		if ((timed = cpu_clock_task(t, (clockid_t)a[0])) == NULL)
			return false;
		*(struct timespec *)a[1] = cpu_time_of(timed);
		*result = 0;
		return true;
	case SYS_clock_getres:
		if (cpu_clock_task(t, (clockid_t)a[0]) == NULL)
			return false;
		*result =
		    errno_of(real.clock_getres(CLOCK_THREAD_CPUTIME_ID, (void *)a[1]));
		return true;
	case SYS_getrusage:
		*result = errno_of(getrusage((int)a[0], (void *)a[1]));
		return true;
	default:
		return false;
	}
}
