/* SPDX-License-Identifier: MIT */
/*
 * barrier.c: barriers.
 *
 * A barrier begins as libc's pthread_barrier_init leaves it, or after some rounds of libc's while the
 * runtime slept, and the words are then our own: nobody is inside one when the runtime wakes.
 * Process-shared ones are libc's, by door 4; and all where elders may be inside.
 *
 * A round ends when the last of its tasks arrives: one step sets the arrivals back to zero
 * and moves the round on, so that those who wait know it, and those who arrive next are in
 * another round.  Whoever comes out first may destroy the barrier and free its memory, while
 * the others are yet to look at the round: they are counted, and pthread_barrier_destroy
 * waits for the last.
 */
#include "wrap.h"

struct barrier {
	union {
		struct {
			_Atomic uint32_t arrived; /* of this round */
			_Atomic uint32_t round;   /* those who wait park here */
		};
		_Atomic uint64_t both;
	};
	uint32_t count;
	int shared; /* not 0: of other processes too */
	uint32_t libc_out;
	_Atomic uint32_t inside; /* inside pthread_barrier_wait, and DESTROYED */
};
_Static_assert(sizeof(struct barrier) <= sizeof(pthread_barrier_t),
	       "it is libc's memory");
_Static_assert(offsetof(struct barrier, shared) == 12, "libc's place (internaltypes.h)");

enum { DESTROYED = 1U << 31 }; /* pthread_barrier_destroy waits for the last to leave */

static struct barrier *of(pthread_barrier_t *b)
{
	return (struct barrier *)b;
}

static bool is_ours(const struct barrier *b, const struct task *t)
{
	return t != NULL && !b->shared && !elders_wait;
}

EXPORT int pthread_barrier_init(pthread_barrier_t *barrier,
				const pthread_barrierattr_t *attr, unsigned count)
{
	int r = real.pthread_barrier_init(barrier, attr, count);
	struct barrier *b = of(barrier);

	if (r == 0 && !b->shared)
		atomic_store_explicit(&b->inside, 0, memory_order_relaxed);
	return r;
}

/* Counts the caller in; its round.  True for the last of the round, which is over then. */
static bool arrive(struct barrier *b, uint32_t *round)
{
	uint64_t before = atomic_load_explicit(&b->both, memory_order_relaxed), after;

	do {
		uint32_t arrived = (uint32_t)before + 1;
		*round = before >> 32;
		/* libc's word counts on through the rounds: what it left there, and who writes
		 * what it would have (glibc's own tests do), is a number of whole ones. */
		if (unlikely(arrived > b->count))
			arrived = (arrived - 1) % b->count + 1;
		if (arrived == b->count)
			after = (uint64_t)(*round + 1) << 32;
		else
			after = (uint64_t)*round << 32 | arrived;
		/* Each pairs with all others': what was written before is visible after. */
	} while (!atomic_compare_exchange_weak_explicit(
	    &b->both, &before, after, memory_order_acq_rel, memory_order_relaxed));
	return (uint32_t)after == 0;
}

static void wait_for_round(struct barrier *b, struct task *t, uint32_t round)
{
	/* Pairs with arrive(). */
	while (atomic_load_explicit(&b->round, memory_order_acquire) == round) {
		task_waits_for(t, WAIT_BARRIER, b);
		park_on(&b->round, round, NO_DEADLINE);
	}
}

static void leave(struct barrier *b)
{
	_Atomic uint32_t *inside = &b->inside;

	/* Pairs with pthread_barrier_destroy.  The barrier may be gone after it. */
	if (atomic_fetch_sub_explicit(inside, 1, memory_order_acq_rel) == (1 | DESTROYED))
		wake(inside, 1);
}

static int wait_real(pthread_barrier_t *barrier)
{
	enter_kernel();
	int r = real.pthread_barrier_wait(barrier);
	leave_kernel();
	return r;
}

EXPORT int pthread_barrier_wait(pthread_barrier_t *barrier)
{
	struct task *t = task_self();
	struct barrier *b = of(barrier);
	uint32_t round;
	bool is_last;

	if (unlikely(!is_ours(b, t)))
		return t == NULL ? real.pthread_barrier_wait(barrier)
				 : wait_real(barrier);
	/* Before it arrives: who is let out by the arrival and destroys must see it. */
	atomic_fetch_add_explicit(&b->inside, 1, memory_order_acq_rel);
	is_last = arrive(b, &round);
	if (!is_last)
		wait_for_round(b, t, round);
	else if (b->count > 1)
		wake(&b->round, INT_MAX);
	leave(b);
	return is_last ? PTHREAD_BARRIER_SERIAL_THREAD : 0;
}

EXPORT int pthread_barrier_destroy(pthread_barrier_t *barrier)
{
	struct task *t = task_self();
	struct barrier *b = of(barrier);
	uint32_t inside;

	if (!is_ours(b, t))
		return real.pthread_barrier_destroy(barrier);
	if (atomic_load_explicit(&b->arrived, memory_order_relaxed) % b->count != 0)
		return EBUSY;
	/* Pairs with leave(). */
	inside = atomic_fetch_or_explicit(&b->inside, DESTROYED, memory_order_acq_rel);
	for (; (inside & ~DESTROYED) != 0;
	     inside = atomic_load_explicit(&b->inside, memory_order_acquire)) {
		task_waits_for(t, WAIT_BARRIER, b);
		park_on(&b->inside, inside | DESTROYED, NO_DEADLINE);
	}
	return 0;
}
