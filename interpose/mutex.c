/* SPDX-License-Identifier: MIT */
/*
 * mutex.c: mutexes of every type.
 *
 * The words keep glibc's layout and meaning (nptl/pthread_mutex_lock.c): __lock 0 free, 1
 * held, 2 held with waiters; __owner the holder's tid; __count the depth of a recursive
 * one; __nusers holders; __kind the type and flags.  So static initialisers and mutexes
 * that were locked before the runtime woke stay valid.
 *
 * Process-shared and robust mutexes are seen by other processes or by the kernel, and go to
 * the real functions.  Priority-inheriting ones and those with a ceiling are like all
 * others: the kernel does not schedule tasks, so there is no priority to inherit or raise.
 */
#include "mutex.h"

enum {
	KIND_TYPE = 3,
	KIND_ROBUST = 16,
	KIND_PRIO_PROTECT = 64,
	KIND_SHARED = 128,
	KIND_REAL = KIND_ROBUST | KIND_SHARED,
};

/* The lock word.  Where the mutex has a ceiling libc keeps that in __lock, which is then
 * never 0, and leaves __spins and __elision alone. */
static inline _Atomic uint32_t *word_of(pthread_mutex_t *m, int kind)
{
	size_t at = unlikely(kind & KIND_PRIO_PROTECT)
			? offsetof(pthread_mutex_t, __data.__spins)
			: offsetof(pthread_mutex_t, __data.__lock);

	return (_Atomic uint32_t *)((char *)m + at);
}
_Static_assert(offsetof(pthread_mutex_t, __data.__spins) % 4 == 0 &&
		   offsetof(pthread_mutex_t, __data.__list) -
			   offsetof(pthread_mutex_t, __data.__spins) ==
		       4,
	       "two shorts make a word");

static inline int kind_of(const pthread_mutex_t *m)
{
	return __atomic_load_n(&m->__data.__kind, __ATOMIC_RELAXED);
}

/* Normal or adaptive and of our own: no owner to look at.  Elision flags do not matter. */
static inline bool is_plain(int kind)
{
	int type = kind & (KIND_TYPE | KIND_REAL | KIND_PRIO_PROTECT);

	return type == PTHREAD_MUTEX_TIMED_NP || type == PTHREAD_MUTEX_ADAPTIVE_NP;
}

static inline void own(pthread_mutex_t *m, struct task *t)
{
	m->__data.__owner = task_tid(t);
	m->__data.__nusers++;
}

/* --- taking and leaving the word ---------------------------------------------------------- */

static inline bool word_try(pthread_mutex_t *m, int kind)
{
	uint32_t free = 0;

	/* Pairs with word_release: what the last holder wrote is visible. */
	return atomic_compare_exchange_strong_explicit(
	    word_of(m, kind), &free, 1, memory_order_acquire, memory_order_relaxed);
}

/* As lock_slow. */
static int word_wait(pthread_mutex_t *m, struct task *t, int kind, bool others_wait,
		     ns_t deadline)
{
	task_waits_for(t, WAIT_MUTEX, m);
	return lock_slow(word_of(m, kind), others_wait, deadline);
}

static inline int word_take(pthread_mutex_t *m, struct task *t, int kind, ns_t deadline)
{
	return likely(word_try(m, kind)) ? 0 : -word_wait(m, t, kind, false, deadline);
}

static inline void word_release(pthread_mutex_t *m, int kind)
{
	uint32_t held = 1;

	/* Pairs with word_try and lock_slow.  A CAS and not a swap: a word that says waiters
	 * is only given up under the bucket's lock, so that it can be handed over. */
	if (unlikely(!atomic_compare_exchange_strong_explicit(
		word_of(m, kind), &held, 0, memory_order_release, memory_order_relaxed)))
		unlock_slow(word_of(m, kind));
}

/* --- lock ------------------------------------------------------------------------------------ */

/* Error checking and recursion.  0: take the word; -1: done, a recursive relock; or an
 * errno. */
static int relock(pthread_mutex_t *m, struct task *t, int kind)
{
	if ((kind & KIND_TYPE) != PTHREAD_MUTEX_RECURSIVE_NP &&
	    (kind & KIND_TYPE) != PTHREAD_MUTEX_ERRORCHECK_NP)
		return 0;
	if (m->__data.__owner != task_tid(t))
		return 0;
	if ((kind & KIND_TYPE) == PTHREAD_MUTEX_ERRORCHECK_NP)
		return EDEADLK;
	if (m->__data.__count + 1 == 0)
		return EAGAIN;
	m->__data.__count++;
	return -1;
}

static int lock_checked(pthread_mutex_t *m, struct task *t, int kind, ns_t deadline)
{
	int r = relock(m, t, kind);

	if (r != 0)
		return r < 0 ? 0 : r;
	r = word_take(m, t, kind, deadline);
	if (r != 0)
		return r;
	m->__data.__count = 1;
	own(m, t);
	return 0;
}

static int lock_real(pthread_mutex_t *m)
{
	int r = real.pthread_mutex_trylock(m);

	if (r != EBUSY)
		return r;
	enter_kernel();
	r = real.pthread_mutex_lock(m);
	leave_kernel();
	return r;
}

EXPORT int pthread_mutex_lock(pthread_mutex_t *m)
{
	struct task *t = task_self();
	int kind = kind_of(m);

	if (unlikely(t == NULL))
		return real.pthread_mutex_lock(m);
	if (likely(is_plain(kind))) {
		if (unlikely(!word_try(m, kind)))
			word_wait(m, t, kind, false, NO_DEADLINE);
		own(m, t);
		return 0;
	}
	if (kind & KIND_REAL)
		return lock_real(m);
	return lock_checked(m, t, kind, NO_DEADLINE);
}
ALIAS(__pthread_mutex_lock, pthread_mutex_lock);

EXPORT int pthread_mutex_trylock(pthread_mutex_t *m)
{
	struct task *t = task_self();
	int kind = kind_of(m);

	if (unlikely(t == NULL) || unlikely(kind & KIND_REAL))
		return real.pthread_mutex_trylock(m);
	int type = kind & KIND_TYPE;

	if (type == PTHREAD_MUTEX_RECURSIVE_NP) {
		int r = relock(m, t, kind);
		if (r != 0)
			return r < 0 ? 0 : r;
	}
	if (!word_try(m, kind))
		return EBUSY;
	if (type == PTHREAD_MUTEX_RECURSIVE_NP)
		m->__data.__count = 1;
	own(m, t);
	return 0;
}
ALIAS(__pthread_mutex_trylock, pthread_mutex_trylock);

static int lock_until(pthread_mutex_t *m, struct task *t, clockid_t clock,
		      const struct timespec *abstime)
{
	int kind = kind_of(m), r;
	ns_t deadline;

	/* POSIX: a mutex that can be had at once is had, whatever the time says. */
	r = relock(m, t, kind);
	if (r != 0)
		return r < 0 ? 0 : r;
	if (!word_try(m, kind)) {
		r = deadline_at(clock, abstime, &deadline);
		if (r != 0)
			return r;
		r = -word_wait(m, t, kind, false, deadline);
		if (r != 0)
			return r;
	}
	m->__data.__count = (kind & KIND_TYPE) == PTHREAD_MUTEX_RECURSIVE_NP;
	own(m, t);
	return 0;
}

EXPORT int pthread_mutex_timedlock(pthread_mutex_t *m, const struct timespec *abstime)
{
	struct task *t = task_self();

	if (t != NULL && !(kind_of(m) & KIND_REAL))
		return lock_until(m, t, CLOCK_REALTIME, abstime);
	if (t == NULL)
		return real.pthread_mutex_timedlock(m, abstime);
	enter_kernel();
	int r = real.pthread_mutex_timedlock(m, abstime);
	leave_kernel();
	return r;
}

EXPORT int pthread_mutex_clocklock(pthread_mutex_t *m, clockid_t clock,
				   const struct timespec *abstime)
{
	struct task *t = task_self();

	if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC)
		return EINVAL;
	if (t != NULL && !(kind_of(m) & KIND_REAL))
		return lock_until(m, t, clock, abstime);
	if (t == NULL)
		return real.pthread_mutex_clocklock(m, clock, abstime);
	enter_kernel();
	int r = real.pthread_mutex_clocklock(m, clock, abstime);
	leave_kernel();
	return r;
}

/* --- unlock ------------------------------------------------------------------------------------ */

static int unlock_checked(pthread_mutex_t *m, struct task *t, int kind)
{
	int type = kind & KIND_TYPE;

	if (m->__data.__owner != task_tid(t) ||
	    (type == PTHREAD_MUTEX_ERRORCHECK_NP && *word_of(m, kind) == 0))
		return EPERM;
	if (type == PTHREAD_MUTEX_RECURSIVE_NP && --m->__data.__count != 0)
		return 0;
	m->__data.__owner = 0;
	m->__data.__nusers--;
	word_release(m, kind);
	return 0;
}

EXPORT int pthread_mutex_unlock(pthread_mutex_t *m)
{
	struct task *t = task_self();
	int kind = kind_of(m);

	if (unlikely(t == NULL))
		return real.pthread_mutex_unlock(m);
	if (unlikely(!is_plain(kind)))
		return kind & KIND_REAL ? real.pthread_mutex_unlock(m)
					: unlock_checked(m, t, kind);
	m->__data.__owner = 0;
	m->__data.__nusers--;
	word_release(m, kind);
	return 0;
}
ALIAS(__pthread_mutex_unlock, pthread_mutex_unlock);

EXPORT int pthread_mutex_destroy(pthread_mutex_t *m)
{
	return real.pthread_mutex_destroy(m);
}
ALIAS(__pthread_mutex_destroy, pthread_mutex_destroy);

/* --- for condition variables --------------------------------------------------------------------- */

_Atomic uint32_t *mutex_word(pthread_mutex_t *m)
{
	int kind = kind_of(m);

	return kind & KIND_REAL ? NULL : word_of(m, kind);
}

int mutex_check_owner(pthread_mutex_t *m, struct task *t)
{
	int type = kind_of(m) & KIND_TYPE;

	if ((type == PTHREAD_MUTEX_RECURSIVE_NP || type == PTHREAD_MUTEX_ERRORCHECK_NP) &&
	    !(kind_of(m) & KIND_REAL) && m->__data.__owner != task_tid(t))
		return EPERM;
	return 0;
}

/* Gives the mutex up whole, whatever its depth; the depth to put back. */
unsigned mutex_leave(pthread_mutex_t *m)
{
	unsigned depth = m->__data.__count;
	int kind = kind_of(m);

	if (kind & KIND_REAL) {
		real.pthread_mutex_unlock(m);
		return depth;
	}
	m->__data.__owner = 0;
	m->__data.__nusers--;
	word_release(m, kind);
	return depth;
}

/* Takes it back: had says that the word is ours already, contended that others may wait. */
void mutex_return(pthread_mutex_t *m, struct task *t, unsigned depth, bool had,
		  bool contended)
{
	int kind = kind_of(m);

	if (kind & KIND_REAL) {
		lock_real(m);
		return;
	}
	if (!had && (contended || !word_try(m, kind)))
		word_wait(m, t, kind, contended, NO_DEADLINE);
	m->__data.__count = depth;
	own(m, t);
}

EXPORT int pthread_mutex_consistent(pthread_mutex_t *m)
{
	return real.pthread_mutex_consistent(m);
}

EXPORT int pthread_mutex_setprioceiling(pthread_mutex_t *m, int ceiling, int *old)
{
	return real.pthread_mutex_setprioceiling(m, ceiling, old);
}
