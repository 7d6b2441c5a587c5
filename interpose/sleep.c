/* SPDX-License-Identifier: MIT */
/*
 * sleep.c: sleeping and yielding (door 3).
 *
 * A sleep ends with EINTR after any handler, one with SA_RESTART too (signal(7)).  One
 * until a time of CLOCK_REALTIME does not notice that the clock is set meanwhile.
 */
#include "schedule.h"
#include "sleep.h"

/* Parks until the deadline: 0, or -EINTR after a handler or for a cancel. */
static int sleep_to(struct task *t, ns_t deadline)
{
	uint32_t handlers = signal_handlers_run(t);
	int r;

	if (deadline <= now_ns()) {
		task_yield(); /* programs sleep for no time to let others run */
		return 0;
	}
	do
		r = sleep_until(deadline);
	while (r == -EINTR && signal_handlers_run(t) == handlers &&
	       !task_cancel_wanted(t));
	signal_take_eintr(t);
	return r;
}

/* Whether a second of the clock is one of CLOCK_MONOTONIC. */
static bool is_like_ours(clockid_t clock)
{
	return clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC ||
	       clock == CLOCK_BOOTTIME;
}

static ns_t deadline_on(clockid_t clock, const struct timespec *time)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return deadline_in(timespec_ns(time) - timespec_ns(&now));
}

static int sleep_for(struct task *t, const struct timespec *time, struct timespec *left)
{
	ns_t deadline = deadline_in(timespec_ns(time));
	int r = sleep_to(t, deadline);

	if (r == 0)
		return 0;
	ns_t ns = deadline - now_ns();
	if (ns <= 0)
		return 0;
	if (left != NULL)
		*left = (struct timespec){ns / 1000000000, ns % 1000000000};
	return r;
}

/* A clock of the processor's or another that only the kernel knows.  A sleep for a time
 * that our own signal ends begins anew: late, but not early. */
static int sleep_in_kernel(struct task *t, clockid_t clock, int flags,
			   const struct timespec *time, struct timespec *left)
{
	uint32_t handlers = signal_handlers_run(t);
	long r;

	do
		r = kernel_call(SYS_clock_nanosleep, clock, flags, (long)time, (long)left,
				0, 0);
	while (r == -EINTR && signal_handlers_run(t) == handlers &&
	       !task_cancel_wanted(t));
	signal_take_eintr(t);
	return r;
}

/* The least time between two looks at another task's CPU clock. */
enum { CPU_CLOCK_LOOK_NS = 1000000 };

/* Until t has used so much CPU time, which takes at least as long as is missing. */
static int sleep_on_cpu_clock(struct task *t, struct task *whose, int flags,
			      const struct timespec *time, struct timespec *left)
{
	ns_t until = timespec_ns(time), missing;
	int r = 0;

	if (!(flags & TIMER_ABSTIME))
		until += task_cpu_ns(whose);
	while ((missing = until - task_cpu_ns(whose)) > 0 && r == 0 &&
	       !task_is_done(whose))
		r = sleep_to(t, deadline_in(missing > CPU_CLOCK_LOOK_NS
						? missing
						: CPU_CLOCK_LOOK_NS));
	if (r != 0 && left != NULL && !(flags & TIMER_ABSTIME))
		*left = (struct timespec){missing / 1000000000, missing % 1000000000};
	return r;
}

int sleep_on_clock(struct task *t, clockid_t clock, int flags,
		   const struct timespec *time, struct timespec *left)
{
	struct task *whose = cpu_clock_task(t, clock);

	/* Nobody can wait for the time that he uses himself. */
	if (whose == t)
		return -EINVAL;
	if (!is_like_ours(clock) && whose == NULL)
		return sleep_in_kernel(t, clock, flags, time, left);
	if (time == NULL)
		return -EFAULT;
	if (!timespec_is_valid(time) || time->tv_sec < 0)
		return -EINVAL;
	if (whose != NULL)
		return sleep_on_cpu_clock(t, whose, flags, time, left);
	if (flags & TIMER_ABSTIME)
		return sleep_to(t, deadline_on(clock, time));
	return sleep_for(t, time, left);
}

EXPORT int clock_nanosleep(clockid_t clock, int flags, const struct timespec *time,
			   struct timespec *left)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.clock_nanosleep(clock, flags, time, left);
	cancel_enter(t);
	int r = sleep_on_clock(t, clock, flags, time, left);
	cancel_leave(t, r != -EINTR);
	return -r;
}

EXPORT int nanosleep(const struct timespec *time, struct timespec *left)
{
	if (task_self() == NULL)
		return real.nanosleep(time, left);
	return ret_errno(-clock_nanosleep(CLOCK_REALTIME, 0, time, left));
}
ALIAS(__nanosleep, nanosleep);

EXPORT unsigned sleep(unsigned seconds)
{
	struct timespec time = {.tv_sec = seconds};

	if (task_self() == NULL)
		return real.sleep(seconds);
	return clock_nanosleep(CLOCK_REALTIME, 0, &time, &time) == 0 ? 0 : time.tv_sec;
}

EXPORT int usleep(useconds_t us)
{
	const struct timespec time = {us / 1000000, us % 1000000 * 1000L};

	if (task_self() == NULL)
		return real.usleep(us);
	return ret_errno(-clock_nanosleep(CLOCK_REALTIME, 0, &time, NULL));
}

EXPORT int sched_yield(void)
{
	if (task_self() == NULL)
		return real.sched_yield();
	task_yield();
	return 0;
}
ALIAS(__sched_yield, sched_yield);

EXPORT int pthread_yield(void)
{
	return sched_yield();
}
