/* SPDX-License-Identifier: MIT */
/*
 * once.c: pthread_once, the running of a routine by the first who asks.
 *
 * libc's own runs the routine: it alone sets the control back when the routine is cancelled
 * or throws an exception (std::call_once relies on it), and knows a control that a fork
 * left in progress.  What it must not do is wait, so one caller only is let into it, and
 * the others park on the control.
 *
 * The control is libc's: 0, then a number of forks and IN_PROGRESS, then DONE.  A caller
 * claims it with a number of forks that there never is: libc takes that for a control which
 * a fork left, and begins anew.
 *
 * Where the routine ends otherwise than by returning, or began when the runtime slept, those
 * who wait are not told: they look again now and then.
 */
#include "wrap.h"

enum {
	IN_PROGRESS = 1,
	DONE = 2,
	FORK = 4, /* what libc adds to its number at each */
	CLAIMED = (int)0xfffffffcU | IN_PROGRESS,
	LOOK_NS = 10000000, /* how long after an exception the next one tries at most */
};

/* libc's own number of forks: it adds to it in the child before the handlers run. */
static int forks;

static void count_fork(void)
{
	forks += FORK;
}

__attribute__((constructor)) static void watch_fork(void)
{
	at_fork(NULL, NULL, count_fork);
}

static inline _Atomic int *word_of(pthread_once_t *once)
{
	return (_Atomic int *)once;
}

static int run(pthread_once_t *once, void (*routine)(void))
{
	int r = real.pthread_once(once, routine);

	/* The routine may have been what woke the runtime. */
	if (task_self() != NULL)
		wake((_Atomic uint32_t *)word_of(once), INT_MAX);
	return r;
}

/* Whether a fork took who ran it.  (Were our number wrong, libc's pthread_once would wait.) */
static bool is_abandoned(int state)
{
	return state != CLAIMED && state != (forks | IN_PROGRESS);
}

static int run_or_wait(pthread_once_t *once, void (*routine)(void))
{
	for (;;) {
		int state = 0;

		/* Pairs with libc's store: what the routine did is visible. */
		if (atomic_compare_exchange_strong_explicit(word_of(once), &state,
							    CLAIMED, memory_order_acquire,
							    memory_order_acquire))
			return run(once, routine);
		if (state & DONE)
			return 0;
		if (is_abandoned(state))
			return run(once, routine);
		task_waits_for(task_self(), WAIT_ONCE, once);
		if (park_on((_Atomic uint32_t *)word_of(once), state,
			    deadline_in(LOOK_NS)) == -ETIMEDOUT &&
		    state == CLAIMED)
			return run(once, routine); /* a fork took who claimed it */
	}
}

EXPORT int pthread_once(pthread_once_t *once, void (*routine)(void))
{
	/* Pairs with libc's store: what the routine did is visible. */
	if (likely(atomic_load_explicit(word_of(once), memory_order_acquire) & DONE))
		return 0;
	if (task_self() == NULL)
		return run(once, routine);
	return run_or_wait(once, routine);
}
ALIAS(__pthread_once, pthread_once);

EXPORT void call_once(once_flag *flag, void (*routine)(void))
{
	pthread_once((pthread_once_t *)flag, routine);
}
