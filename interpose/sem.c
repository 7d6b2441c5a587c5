/* SPDX-License-Identifier: MIT */
/*
 * sem.c: unnamed and named semaphores.
 *
 * The words are libc's (sysdeps/nptl/internaltypes.h, struct new_sem): the value in the low
 * half of one 64-bit word and the number of those who wait in the high half, so that
 * sem_post learns in the step that gives the token whether it must wake somebody.  After
 * that step it knows the semaphore by its address only: who took the token may have
 * destroyed it.
 *
 * The protocol is the same for those that other processes share; they wait in the kernel,
 * where libc's own would, by door 4.
 */
#include "waiting.h"

#include <linux/futex.h>

struct semaphore {
	_Atomic uint64_t data;
	int shared; /* libc's `private': 0 for a process's own */
};
_Static_assert(sizeof(struct semaphore) <= sizeof(sem_t), "it is libc's memory");

#define WAITER ((uint64_t)1 << 32)

static struct semaphore *of(sem_t *s)
{
	return (struct semaphore *)s;
}

static inline _Atomic uint32_t *value_of(struct semaphore *s)
{
	return (_Atomic uint32_t *)&s->data; /* the low half: little-endian */
}

/* Takes a token, and for one who waited the mark of it. */
static bool take(struct semaphore *s, uint64_t waited)
{
	uint64_t d = atomic_load_explicit(&s->data, memory_order_relaxed);

	while ((uint32_t)d != 0)
		/* Pairs with sem_post. */
		if (atomic_compare_exchange_weak_explicit(&s->data, &d, d - waited - 1,
							  memory_order_acquire,
							  memory_order_relaxed))
			return true;
	return false;
}

/* Until when a wait lasts; abstime NULL: for ever. */
struct until {
	clockid_t clock;
	const struct timespec *abstime;
	ns_t deadline;
};

/* Waits while the value is 0.  As park_on. */
static int wait_for_token(struct semaphore *s, const struct until *u)
{
	int op =
	    FUTEX_WAIT_BITSET | (u->clock == CLOCK_REALTIME ? FUTEX_CLOCK_REALTIME : 0);

	if (!s->shared) {
		task_waits_for(task_self(), WAIT_SEMAPHORE, s);
		return park_on(value_of(s), 0, u->deadline);
	}
	if (u->abstime != NULL && u->abstime->tv_sec < 0)
		return -ETIMEDOUT; /* the kernel would say EINVAL */
	return kernel_call(SYS_futex, (long)value_of(s), op, 0, (long)u->abstime, 0,
			   FUTEX_BITSET_MATCH_ANY);
}

/* Whether a wait that returned -EINTR ends so.  The kernel does not begin one with a
 * deadline anew, after any handler (signal(7), futex(2)). */
static bool ends(struct task *t, const struct until *u, uint32_t handlers)
{
	return is_interrupted(t, u->abstime != NULL, handlers) || task_cancel_wanted(t);
}

static int take_slow(struct semaphore *s, struct task *t, const struct until *u)
{
	atomic_fetch_add_explicit(&s->data, WAITER, memory_order_acq_rel);
	for (;;) {
		uint32_t handlers = signal_handlers_run(t);
		int r;

		if (take(s, WAITER))
			return 0;
		signal_take_eintr(t);
		r = wait_for_token(s, u);
		if (r == -ETIMEDOUT || (r == -EINTR && ends(t, u, handlers))) {
			atomic_fetch_sub_explicit(&s->data, WAITER, memory_order_acq_rel);
			return r;
		}
	}
}

static int wait_until(sem_t *sem, struct task *t, const struct until *u)
{
	struct semaphore *s = of(sem);

	cancel_test(t); /* also where there is no wait */
	if (likely(take(s, 0)))
		return 0;
	cancel_enter(t);
	int r = take_slow(s, t, u);
	cancel_leave(t, r != -EINTR);
	return ret_errno(r);
}

EXPORT int sem_wait(sem_t *s)
{
	struct task *t = task_self();
	const struct until forever = {.deadline = NO_DEADLINE};

	if (t == NULL)
		return real.sem_wait(s);
	return wait_until(s, t, &forever);
}

EXPORT int sem_clockwait(sem_t *s, clockid_t clock, const struct timespec *abstime)
{
	struct task *t = task_self();
	struct until u = {.clock = clock, .abstime = abstime};

	if (t == NULL)
		return real.sem_clockwait(s, clock, abstime);
	if ((clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC) ||
	    deadline_at(clock, abstime, &u.deadline) != 0)
		return ret_errno(-EINVAL);
	return wait_until(s, t, &u);
}

EXPORT int sem_timedwait(sem_t *s, const struct timespec *abstime)
{
	return task_self() == NULL ? real.sem_timedwait(s, abstime)
				   : sem_clockwait(s, CLOCK_REALTIME, abstime);
}

EXPORT int sem_trywait(sem_t *s)
{
	return take(of(s), 0) ? 0 : ret_errno(-EAGAIN);
}

EXPORT int sem_post(sem_t *sem)
{
	struct semaphore *s = of(sem);
	int shared = s->shared;
	uint64_t d = atomic_load_explicit(&s->data, memory_order_relaxed);

	if (task_self() == NULL || shared)
		return real.sem_post(sem);
	do {
		if ((uint32_t)d == SEM_VALUE_MAX)
			return ret_errno(-EOVERFLOW);
		/* Pairs with take(): what was written before is visible. */
	} while (!atomic_compare_exchange_weak_explicit(
	    &s->data, &d, d + 1, memory_order_release, memory_order_relaxed));
	if (d >= WAITER)
		wake(value_of(s), 1);
	return 0;
}

EXPORT int sem_init(sem_t *s, int pshared, unsigned value)
{
	return real.sem_init(s, pshared, value);
}

EXPORT int sem_destroy(sem_t *s)
{
	return real.sem_destroy(s);
}

EXPORT int sem_getvalue(sem_t *restrict s, int *restrict value)
{
	return real.sem_getvalue(s, value);
}
