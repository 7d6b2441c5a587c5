/* SPDX-License-Identifier: MIT */
/*
 * cond.c: condition variables.
 *
 * A process-private one needs none of its words: its waiters are found by its address.  The
 * words hold what glibc's pthread_cond_init put there (the clock and whether it is shared),
 * so one that was made before the runtime woke, or statically, is valid.
 *
 * A process-shared one goes to the real functions, with the mutex, which is most often shared as
 * well: see lock_with_libc() for one that is not.  Where libc cannot handle that, the wait is as
 * for a private condition, and who signals looks for both.
 */
#include "mutex.h"

/* nptl/pthread_cond_common.c: __wrefs bit 0 process-shared, bit 1 CLOCK_MONOTONIC. */
enum { COND_SHARED = 1, COND_MONOTONIC = 2 };

static bool is_shared(const pthread_cond_t *c)
{
	return (__atomic_load_n(&c->__data.__wrefs, __ATOMIC_RELAXED) & COND_SHARED) != 0;
}

static clockid_t clock_of(const pthread_cond_t *c)
{
	return c->__data.__wrefs & COND_MONOTONIC ? CLOCK_MONOTONIC : CLOCK_REALTIME;
}

/* A wait in its course. */
struct cond_wait {
	pthread_cond_t *cond;
	pthread_mutex_t *mutex;
	struct task *task;
	struct _pthread_cleanup_buffer cleanup;
	bool left;  /* the mutex */
	int result; /* cond_park's; -EINTR until then */
};

static void leave_mutex(void *arg)
{
	struct cond_wait *w = arg;

	mutex_leave(w->mutex, w->task);
	w->left = true;
}

/* No cancel ends the wait for the mutex: the program's cleanup handlers count on having it. */
static int come_back(struct cond_wait *w)
{
	bool async = cancel_hold(w->task);

	cleanup_pop(w->task, &w->cleanup);
	int r = mutex_return(w->mutex, w->task, w->result == COND_GRANTED,
			     w->result == COND_MOVED);
	cancel_release(w->task, async);
	return r;
}

/* The wait is left by unwinding or by a jump, because an asynchronous cancel acts, or from a
 * handler that interrupted it.  If it was signalled, that is another's: as with libc. */
static void wait_is_left(void *arg)
{
	struct cond_wait *w = arg;

	if (!w->left)
		return;
	come_back(w);
	if (w->result >= 0)
		cond_wake(w->cond, 1);
}

static int wait_on(pthread_cond_t *c, pthread_mutex_t *m, struct task *t, ns_t deadline)
{
	struct cond_wait w = {.cond = c, .mutex = m, .task = t, .result = -EINTR};
	int r = mutex_check_owner(m, t);

	if (r != 0)
		return r;
	mutex_bind(m, t);
	cancel_enter(t);
	cleanup_push(t, &w.cleanup, wait_is_left, &w);
	cond_park(c, mutex_word(m), leave_mutex, &w, deadline, &w.result);
	r = come_back(&w);
	/* A waiter that is cancelled has the mutex when its cleanup handlers run, and has
	 * used up no signal: one that has been signalled is not cancelled here. */
	cancel_leave(t, w.result != -EINTR);
	signal_take_eintr(t);
	if (r != 0)
		return r;
	/* -EINTR: a handler ran meanwhile, and somebody was signalled. */
	return w.result == -ETIMEDOUT ? ETIMEDOUT : 0;
}

static bool is_libcs(const pthread_cond_t *c, const pthread_mutex_t *m)
{
	return is_shared(c) && mutex_suits_libc(m);
}

/* A shared condition: the real functions, by door 4. */
static int wait_real(pthread_cond_t *c, pthread_mutex_t *m, clockid_t clock,
		     const struct timespec *abstime)
{
	struct task *t = task_self();
	_Atomic uint32_t *word = mutex_word(m);
	int r;

	if (word != NULL)
		lock_with_libc(word);
	mutex_begin_real(m, t);
	cancel_enter_libc(t);
	if (abstime == NULL)
		r = real.pthread_cond_wait(c, m);
	else
		r = real.pthread_cond_clockwait(c, m, clock, abstime);
	cancel_leave_libc(t);
	mutex_end_real(t);
	return r;
}

EXPORT int pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.pthread_cond_wait(c, m);
	if (is_libcs(c, m))
		return wait_real(c, m, 0, NULL);
	return wait_on(c, m, t, NO_DEADLINE);
}

static int wait_until(pthread_cond_t *c, pthread_mutex_t *m, struct task *t,
		      clockid_t clock, const struct timespec *abstime)
{
	ns_t deadline;

	if (is_libcs(c, m))
		return wait_real(c, m, clock, abstime);
	if (deadline_at(clock, abstime, &deadline) != 0)
		return EINVAL;
	return wait_on(c, m, t, deadline);
}

EXPORT int pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m,
				  const struct timespec *abstime)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.pthread_cond_timedwait(c, m, abstime);
	return wait_until(c, m, t, clock_of(c), abstime);
}

EXPORT int pthread_cond_clockwait(pthread_cond_t *c, pthread_mutex_t *m, clockid_t clock,
				  const struct timespec *abstime)
{
	struct task *t = task_self();

	if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC)
		return EINVAL;
	if (t == NULL)
		return real.pthread_cond_clockwait(c, m, clock, abstime);
	return wait_until(c, m, t, clock, abstime);
}

EXPORT int pthread_cond_signal(pthread_cond_t *c)
{
	if (task_self() == NULL)
		return real.pthread_cond_signal(c);
	if (is_shared(c) || unlikely(elders_wait))
		real.pthread_cond_signal(c);
	cond_wake(c, 1);
	return 0;
}

EXPORT int pthread_cond_broadcast(pthread_cond_t *c)
{
	if (task_self() == NULL)
		return real.pthread_cond_broadcast(c);
	if (is_shared(c) || unlikely(elders_wait))
		real.pthread_cond_broadcast(c);
	cond_wake(c, INT_MAX);
	return 0;
}

EXPORT int pthread_cond_init(pthread_cond_t *c, const pthread_condattr_t *attr)
{
	return real.pthread_cond_init(c, attr);
}

EXPORT int pthread_cond_destroy(pthread_cond_t *c)
{
	if (task_self() == NULL || is_shared(c))
		return real.pthread_cond_destroy(c);
	return 0;
}
