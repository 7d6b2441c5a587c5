/* SPDX-License-Identifier: MIT */
/*
 * lock.h: the runtime's own lock: spin a little, then wait in the kernel.
 *
 * Held for tens of instructions, never across a switch, a program's function or a
 * blocking call.  Whoever holds one is inside the runtime and is not preempted by us; the
 * kernel may still stop it, hence the futex.  After Go's lock_futex.go and Drepper's
 * "Futexes are tricky", mutex 2.
 *
 * Order, outermost first: resize, timer heap, bucket (two buckets: the lower address
 * first), setid, sched.  Leaves, under which no other is taken: retake, signal, the pool of
 * slots, the adopted tasks, libc's list of stacks.  Nobody is woken under a bucket's lock:
 * ready() may start a kernel thread, which takes setid and sched.
 */
#ifndef PGREEN_LOCK_H
#define PGREEN_LOCK_H

#include "base.h"
#include "sys.h"

struct lock {
	_Atomic uint32_t word; /* 0 free, 1 held, 2 held and somebody sleeps */
};

enum { LOCK_SPINS = 100 }; /* about a microsecond: longer than any critical section */

static inline bool lock_try(struct lock *l)
{
	uint32_t free = 0;

	/* Pairs with lock_release: what the last holder wrote is visible. */
	return cas_acquire(&l->word, &free, 1);
}

static inline void lock_acquire(struct lock *l)
{
	for (int i = 0; i < LOCK_SPINS; i++) {
		if (likely(lock_try(l)))
			return;
		cpu_relax();
	}
	/* Pairs with lock_release. */
	while (atomic_exchange_explicit(&l->word, 2, memory_order_acquire) != 0)
		sys_futex_wait(&l->word, 2, NULL);
}

static inline void lock_release(struct lock *l)
{
	/* Pairs with lock_try and lock_acquire. */
	if (unlikely(atomic_exchange_explicit(&l->word, 0, memory_order_release) == 2))
		sys_futex_wake(&l->word, 1);
}

#endif
