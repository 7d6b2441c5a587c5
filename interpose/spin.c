/* SPDX-License-Identifier: MIT */
/*
 * spin.c: spinlocks.
 *
 * The word has libc's values on x86: 1 free, 0 held.  (libc's own waiters count it below
 * zero; none are left when the runtime wakes.)  A task that holds one is not preempted, and
 * one that waits soon lets others run: the holder may be parked, or on no processor.
 */
#include "wrap.h"

enum {
	FREE = 1,
	HELD = 0,
	/* Looks before a yield: about a microsecond, longer than most of what spinlocks
	 * protect, and a small part of what a slice is. */
	TRIES = 40,
};

/* Locks that main took before the runtime woke are not counted as its own. */
static _Atomic int held_before;

static inline _Atomic int *word_of(pthread_spinlock_t *s)
{
	return (_Atomic int *)s;
}

static inline bool word_try(pthread_spinlock_t *s)
{
	int free = FREE;

	/* Pairs with pthread_spin_unlock: what the last holder wrote is visible. */
	return atomic_compare_exchange_strong_explicit(
	    word_of(s), &free, HELD, memory_order_acquire, memory_order_relaxed);
}

static void took(void)
{
	struct task *t = task_self();

	if (likely(t != NULL))
		task_hold_spin(t, 1);
	else
		atomic_fetch_add_explicit(&held_before, 1, memory_order_relaxed);
}

static bool wait_for(pthread_spinlock_t *s)
{
	for (int i = 0; i < TRIES; i++) {
		if (atomic_load_explicit(word_of(s), memory_order_relaxed) == FREE &&
		    word_try(s))
			return true;
		__builtin_ia32_pause();
	}
	if (task_self() != NULL)
		task_yield();
	else
		real.sched_yield();
	return false;
}

EXPORT int pthread_spin_lock(pthread_spinlock_t *s)
{
	if (unlikely(!word_try(s)))
		while (!wait_for(s) && !word_try(s))
			;
	took();
	return 0;
}

EXPORT int pthread_spin_trylock(pthread_spinlock_t *s)
{
	if (!word_try(s))
		return EBUSY;
	took();
	return 0;
}

static bool was_held_before(struct task *t)
{
	if (!task_is_main(t))
		return false;
	atomic_fetch_sub_explicit(&held_before, 1, memory_order_relaxed);
	return true;
}

EXPORT int pthread_spin_unlock(pthread_spinlock_t *s)
{
	struct task *t = task_self();

	/* Pairs with word_try: what the holder wrote is visible. */
	atomic_store_explicit(word_of(s), FREE, memory_order_release);
	if (unlikely(t == NULL))
		atomic_fetch_sub_explicit(&held_before, 1, memory_order_relaxed);
	else if (likely(atomic_load_explicit(&held_before, memory_order_relaxed) <= 0) ||
		 !was_held_before(t))
		task_hold_spin(t, -1);
	return 0;
}

EXPORT int pthread_spin_init(pthread_spinlock_t *s, int pshared)
{
	(void)pshared;
	atomic_store_explicit(word_of(s), FREE, memory_order_relaxed);
	return 0;
}

EXPORT int pthread_spin_destroy(pthread_spinlock_t *s)
{
	(void)s;
	return 0;
}
