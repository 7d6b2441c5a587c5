/* SPDX-License-Identifier: MIT */
/*
 * mutex.c: mutexes of every type.
 *
 * The words keep glibc's layout and meaning (nptl/pthread_mutex_lock.c): __lock 0 free, 1
 * held, 2 held with waiters; __owner the holder's tid; __count the depth of a recursive
 * one; __nusers holders, and who waits on a condition with it; __kind the type and flags.
 * So static initialisers and mutexes that were locked before the runtime woke stay valid.
 *
 * Priority-inheriting ones are like all others, but know their owner: the kernel does not
 * schedule tasks, so there is no priority to inherit.
 *
 * A robust one keeps libc's other protocol: __lock is the holder's tid with two bits, and the
 * task has it on the list that its TCB has for that.  One that ends walks the list.
 *
 * What other processes see goes to the real functions.  Where the kernel must know the owner
 * (it marks a robust mutex when its owner is killed, and lends priority through one), and
 * where holding the mutex changes the priority of a kernel thread (a ceiling), the owner is
 * the kernel thread: its task is bound, and while libc handles the mutex the TCB has the
 * kernel's tid (struct identity).  The kernel thread of a bound task is registered with the
 * TCB's list, where libc puts the mutex, so that a kill -9 finds it there.
 */
#include "mutex.h"

#include <linux/futex.h>

enum {
	KIND_TYPE = 3,
	KIND_ROBUST = 16,
	KIND_INHERIT = 32,
	KIND_CEILING = 64,
	KIND_SHARED = 128,
	KIND_OURS = 4096, /* see pthread_mutex_init() */
};

/* Of a robust mutex: libc's marks in __owner (nptl/pthreadP.h). */
enum { INCONSISTENT = 0x7fffffff, NOT_RECOVERABLE = 0x7ffffffe };

static inline _Atomic uint32_t *word_of(pthread_mutex_t *m)
{
	return (_Atomic uint32_t *)&m->__data.__lock;
}

static inline int kind_of(const pthread_mutex_t *m)
{
	return __atomic_load_n(&m->__data.__kind, __ATOMIC_RELAXED);
}

/* Normal or adaptive and of our own: no owner to look at.  Elision flags do not matter. */
static inline bool is_plain(int kind)
{
	int type =
	    kind & (KIND_TYPE | KIND_ROBUST | KIND_INHERIT | KIND_CEILING | KIND_SHARED);

	return type == PTHREAD_MUTEX_TIMED_NP || type == PTHREAD_MUTEX_ADAPTIVE_NP;
}

static inline bool is_shared(int kind)
{
	return (kind & (KIND_SHARED | KIND_OURS)) == KIND_SHARED;
}

/* For the real functions. */
static inline bool is_real(int kind)
{
	return (kind & KIND_CEILING) || is_shared(kind);
}

/* Whose owner is a kernel thread. */
static inline bool wants_kernel_thread(int kind)
{
	return (kind & KIND_CEILING) ||
	       (is_shared(kind) && (kind & (KIND_ROBUST | KIND_INHERIT)));
}

static inline void own(pthread_mutex_t *m, struct task *t)
{
	m->__data.__owner = task_tid(t);
	m->__data.__nusers++;
}

/* --- taking and leaving the word ---------------------------------------------------------- */

static inline bool word_try(pthread_mutex_t *m)
{
	uint32_t free = 0;

	/* Pairs with word_release: what the last holder wrote is visible. */
	return atomic_compare_exchange_strong_explicit(
	    word_of(m), &free, 1, memory_order_acquire, memory_order_relaxed);
}

/* As lock_slow. */
static int word_wait(pthread_mutex_t *m, struct task *t, bool others_wait, ns_t deadline)
{
	task_waits_for(t, WAIT_MUTEX, m);
	return lock_slow(word_of(m), others_wait, deadline);
}

static inline int word_take(pthread_mutex_t *m, struct task *t, ns_t deadline)
{
	return likely(word_try(m)) ? 0 : -word_wait(m, t, false, deadline);
}

static inline void word_release(pthread_mutex_t *m)
{
	uint32_t held = 1;

	/* Pairs with word_try and lock_slow.  A CAS and not a swap: a word that says waiters
	 * is only given up under the bucket's lock, so that it can be handed over. */
	if (unlikely(!atomic_compare_exchange_strong_explicit(
		word_of(m), &held, 0, memory_order_release, memory_order_relaxed)))
		unlock_slow(word_of(m));
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
	r = word_take(m, t, deadline);
	if (r != 0)
		return r;
	m->__data.__count = 1;
	own(m, t);
	return 0;
}

/* --- the real functions ------------------------------------------------------------------------ */

void mutex_bind(pthread_mutex_t *m, struct task *t)
{
	if (!wants_kernel_thread(kind_of(m)))
		return;
	task_bind(t);
	/* libc keeps there what it knows of its priority. */
	if (kind_of(m) & KIND_CEILING)
		task_keep_tcb(t);
}

/* The caller, whom mutex_bind() has bound, is to libc whom it may know as the owner. */
static void identify(pthread_mutex_t *m, struct task *t)
{
	int owner = m->__data.__lock & FUTEX_TID_MASK;

	/* Main may hold it since before the runtime woke, as the first kernel thread. */
	if (wants_kernel_thread(kind_of(m)) && owner != task_tid(t))
		task_set_identity(t, true);
}

void mutex_begin_real(pthread_mutex_t *m, struct task *t)
{
	mutex_bind(m, t);
	identify(m, t);
}

void mutex_end_real(struct task *t)
{
	task_set_identity(t, false);
}

static int lock_real(pthread_mutex_t *m, struct task *t)
{
	int r;

	/* The kernel door costs more than a try. */
	if (!wants_kernel_thread(kind_of(m)) &&
	    (r = real.pthread_mutex_trylock(m)) != EBUSY)
		return r;
	mutex_begin_real(m, t);
	enter_kernel();
	r = real.pthread_mutex_lock(m);
	leave_kernel();
	mutex_end_real(t);
	return r;
}

static int lock_real_until(pthread_mutex_t *m, struct task *t, clockid_t clock,
			   const struct timespec *abstime)
{
	mutex_begin_real(m, t);
	enter_kernel();
	int r = clock == CLOCK_REALTIME ? real.pthread_mutex_timedlock(m, abstime)
					: real.pthread_mutex_clocklock(m, clock, abstime);
	leave_kernel();
	mutex_end_real(t);
	return r;
}

static int trylock_real(pthread_mutex_t *m, struct task *t)
{
	mutex_begin_real(m, t);
	int r = real.pthread_mutex_trylock(m);
	mutex_end_real(t);
	return r;
}

static int unlock_real(pthread_mutex_t *m, struct task *t)
{
	mutex_begin_real(m, t);
	int r = real.pthread_mutex_unlock(m);
	mutex_end_real(t);
	return r;
}

/* --- robust ------------------------------------------------------------------------------------- */

/* libc's list: both pointers go to the __next of a node, for that is what the kernel follows;
 * the lowest bit says that priority is inherited. */
static struct __pthread_internal_list *node_of(const void *pointer)
{
	uintptr_t next = (uintptr_t)pointer & ~(uintptr_t)1;

	return (void *)(next - offsetof(struct __pthread_internal_list, __next));
}

static struct __pthread_internal_list *next_of(const struct __pthread_internal_list *node)
{
	return node_of(node->__next);
}

static void enqueue(pthread_mutex_t *m)
{
	struct __pthread_internal_list *head = libc_robust_list();
	struct __pthread_internal_list *node = &m->__data.__list;

	next_of(head)->__prev = (void *)&node->__next;
	node->__next = head->__next;
	node->__prev = (void *)&head->__next;
	/* The kernel may walk it at any moment. */
	atomic_signal_fence(memory_order_seq_cst);
	head->__next = (void *)&node->__next;
}

static void dequeue(pthread_mutex_t *m)
{
	struct __pthread_internal_list *node = &m->__data.__list;

	next_of(node)->__prev = node->__prev;
	node_of(node->__prev)->__next = node->__next;
	node->__next = node->__prev = NULL;
}

static void robust_release(pthread_mutex_t *m, uint32_t mark)
{
	_Atomic uint32_t *word = word_of(m);
	uint32_t old = atomic_load_explicit(word, memory_order_relaxed);

	/* Pairs with robust_take(): what the holder wrote is visible. */
	while (!atomic_compare_exchange_weak_explicit(
	    word, &old, mark != 0 ? mark | (old & FUTEX_WAITERS) : 0,
	    memory_order_release, memory_order_relaxed))
		;
	if (!(old & FUTEX_WAITERS))
		return;
	/* For libc all robust ones are shared: see pthread_mutex_init(). */
	if (wake(word, 1) == 0 && unlikely(elders_wait))
		real.syscall(SYS_futex, word, FUTEX_WAKE, 1);
}

/* Of one that is held: 0: wait; -1: done; or an errno. */
static int robust_relock(pthread_mutex_t *m, struct task *t, int kind, uint32_t old,
			 bool waits)
{
	int type = kind & KIND_TYPE;

	if ((int)(old & FUTEX_TID_MASK) == task_tid(t)) {
		if (type == PTHREAD_MUTEX_ERRORCHECK_NP)
			return EDEADLK;
		if (type == PTHREAD_MUTEX_RECURSIVE_NP) {
			if (m->__data.__count + 1 == 0)
				return EAGAIN;
			m->__data.__count++;
			return -1;
		}
	}
	return waits ? 0 : EBUSY;
}

/* Waits for the word, once.  0: look again, or an errno. */
static int robust_wait(pthread_mutex_t *m, struct task *t, uint32_t old, clockid_t clock,
		       const struct timespec *abstime)
{
	ns_t deadline;
	int r = deadline_at(clock, abstime, &deadline);

	if (r != 0)
		return r;
	if (!(old & FUTEX_WAITERS) && !atomic_compare_exchange_strong_explicit(
					  word_of(m), &old, old | FUTEX_WAITERS,
					  memory_order_relaxed, memory_order_relaxed))
		return 0;
	task_waits_for(t, WAIT_MUTEX, m);
	return park_on(word_of(m), old | FUTEX_WAITERS, deadline) == -ETIMEDOUT
		   ? ETIMEDOUT
		   : 0;
}

/* What the new holder finds. */
static int robust_taken(pthread_mutex_t *m, struct task *t, uint32_t old)
{
	if (old & FUTEX_OWNER_DIED) {
		m->__data.__count = 1;
		m->__data.__owner = INCONSISTENT;
		enqueue(m);
		return EOWNERDEAD; /* __nusers counts the last owner still */
	}
	if (m->__data.__owner == NOT_RECOVERABLE) {
		m->__data.__count = 0;
		robust_release(m, 0);
		return ENOTRECOVERABLE;
	}
	m->__data.__count = 1;
	own(m, t);
	enqueue(m);
	return 0;
}

/* waits false: trylock; abstime NULL: for ever. */
static int robust_lock(pthread_mutex_t *m, struct task *t, int kind, bool waits,
		       clockid_t clock, const struct timespec *abstime)
{
	_Atomic uint32_t *word = word_of(m);
	uint32_t others = 0; /* who has waited cannot know whether others still do */

	for (;;) {
		uint32_t old = atomic_load_explicit(word, memory_order_relaxed);
		int r;

		if (old == 0 || (old & FUTEX_OWNER_DIED)) {
			uint32_t mine =
			    (uint32_t)task_tid(t) | (old & FUTEX_WAITERS) | others;
			/* Pairs with robust_release(). */
			if (atomic_compare_exchange_weak_explicit(word, &old, mine,
								  memory_order_acquire,
								  memory_order_relaxed))
				return robust_taken(m, t, old);
			continue;
		}
		r = robust_relock(m, t, kind, old, waits);
		if (r != 0)
			return r < 0 ? 0 : r;
		r = robust_wait(m, t, old, clock, abstime);
		if (r != 0)
			return r;
		others = FUTEX_WAITERS;
	}
}

static void robust_leave(pthread_mutex_t *m)
{
	/* Who has not made it consistent leaves it so for ever. */
	m->__data.__owner = m->__data.__owner == INCONSISTENT ? NOT_RECOVERABLE : 0;
	m->__data.__count = 0;
	m->__data.__nusers--;
	dequeue(m);
	robust_release(m, 0);
}

static bool robust_is_mine(pthread_mutex_t *m, struct task *t)
{
	return (int)(atomic_load_explicit(word_of(m), memory_order_relaxed) &
		     FUTEX_TID_MASK) == task_tid(t);
}

static int robust_unlock(pthread_mutex_t *m, struct task *t, int kind)
{
	if (!robust_is_mine(m, t))
		return EPERM;
	if ((kind & KIND_TYPE) == PTHREAD_MUTEX_RECURSIVE_NP && --m->__data.__count != 0)
		return 0;
	robust_leave(m);
	return 0;
}

/* One that others see, whose owner is our kernel thread: as the kernel does it. */
static void mark_shared(pthread_mutex_t *m)
{
	_Atomic uint32_t *word = word_of(m);
	uint32_t old = atomic_load_explicit(word, memory_order_relaxed);

	/* Pairs with whoever takes it next. */
	while (!atomic_compare_exchange_weak_explicit(
	    word, &old, (old & FUTEX_WAITERS) | FUTEX_OWNER_DIED, memory_order_release,
	    memory_order_relaxed))
		;
	if (old & FUTEX_WAITERS)
		real.syscall(SYS_futex, word, FUTEX_WAKE, 1);
}

void mutex_task_ends(struct task *t)
{
	struct __pthread_internal_list *head = libc_robust_list(), *node, *next;

	if (likely(next_of(head) == head))
		return;
	for (node = next_of(head); node != head; node = next) {
		pthread_mutex_t *m =
		    (void *)((char *)node - offsetof(pthread_mutex_t, __data.__list));

		next = next_of(node);
		/* The kernel alone can tell those that wait for one of these. */
		if (is_shared(kind_of(m)) && (kind_of(m) & KIND_INHERIT))
			continue;
		dequeue(m);
		if (is_shared(kind_of(m)))
			mark_shared(m);
		else
			robust_release(m, FUTEX_OWNER_DIED);
	}
	task_leave_robust(t, head);
}

/* --- every type ---------------------------------------------------------------------------------- */

EXPORT int pthread_mutex_lock(pthread_mutex_t *m)
{
	struct task *t = task_self();
	int kind = kind_of(m);

	if (unlikely(t == NULL))
		return real.pthread_mutex_lock(m);
	if (likely(is_plain(kind))) {
		if (unlikely(!word_try(m)))
			word_wait(m, t, false, NO_DEADLINE);
		own(m, t);
		return 0;
	}
	if (is_real(kind))
		return lock_real(m, t);
	if (kind & KIND_ROBUST)
		return robust_lock(m, t, kind, true, 0, NULL);
	return lock_checked(m, t, kind, NO_DEADLINE);
}
ALIAS(__pthread_mutex_lock, pthread_mutex_lock);

EXPORT int pthread_mutex_trylock(pthread_mutex_t *m)
{
	struct task *t = task_self();
	int kind = kind_of(m);

	if (unlikely(t == NULL))
		return real.pthread_mutex_trylock(m);
	if (unlikely(is_real(kind)))
		return trylock_real(m, t);
	if (unlikely(kind & KIND_ROBUST))
		return robust_lock(m, t, kind, false, 0, NULL);
	int type = kind & KIND_TYPE;

	/* As libc's: of this type alone trylock looks at the owner. */
	if (type == PTHREAD_MUTEX_ERRORCHECK_NP && (kind & KIND_INHERIT) &&
	    relock(m, t, kind) != 0)
		return EDEADLK;

	if (type == PTHREAD_MUTEX_RECURSIVE_NP) {
		int r = relock(m, t, kind);
		if (r != 0)
			return r < 0 ? 0 : r;
	}
	if (!word_try(m))
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
	if (!word_try(m)) {
		r = deadline_at(clock, abstime, &deadline);
		if (r != 0)
			return r;
		r = -word_wait(m, t, false, deadline);
		if (r != 0)
			return r;
	}
	m->__data.__count = (kind & KIND_TYPE) == PTHREAD_MUTEX_RECURSIVE_NP;
	own(m, t);
	return 0;
}

static int lock_any_until(pthread_mutex_t *m, struct task *t, clockid_t clock,
			  const struct timespec *abstime)
{
	int kind = kind_of(m);

	if (is_real(kind))
		return lock_real_until(m, t, clock, abstime);
	if (kind & KIND_ROBUST)
		return robust_lock(m, t, kind, true, clock, abstime);
	return lock_until(m, t, clock, abstime);
}

EXPORT int pthread_mutex_timedlock(pthread_mutex_t *m, const struct timespec *abstime)
{
	struct task *t = task_self();

	return t == NULL ? real.pthread_mutex_timedlock(m, abstime)
			 : lock_any_until(m, t, CLOCK_REALTIME, abstime);
}

EXPORT int pthread_mutex_clocklock(pthread_mutex_t *m, clockid_t clock,
				   const struct timespec *abstime)
{
	struct task *t = task_self();

	if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC)
		return EINVAL;
	return t == NULL ? real.pthread_mutex_clocklock(m, clock, abstime)
			 : lock_any_until(m, t, clock, abstime);
}

/* --- unlock ------------------------------------------------------------------------------------ */

static int unlock_checked(pthread_mutex_t *m, struct task *t, int kind)
{
	int type = kind & KIND_TYPE;

	/* One that inherits priority of whatever type. */
	if (m->__data.__owner != task_tid(t) ||
	    (type == PTHREAD_MUTEX_ERRORCHECK_NP && *word_of(m) == 0))
		return EPERM;
	if (type == PTHREAD_MUTEX_RECURSIVE_NP && --m->__data.__count != 0)
		return 0;
	m->__data.__owner = 0;
	m->__data.__nusers--;
	word_release(m);
	return 0;
}

EXPORT int pthread_mutex_unlock(pthread_mutex_t *m)
{
	struct task *t = task_self();
	int kind = kind_of(m);

	if (unlikely(t == NULL))
		return real.pthread_mutex_unlock(m);
	if (unlikely(!is_plain(kind)))
		return is_real(kind)        ? unlock_real(m, t)
		       : kind & KIND_ROBUST ? robust_unlock(m, t, kind)
					    : unlock_checked(m, t, kind);
	m->__data.__owner = 0;
	m->__data.__nusers--;
	word_release(m);
	return 0;
}
ALIAS(__pthread_mutex_unlock, pthread_mutex_unlock);

/* libc marks every robust mutex as shared, because the kernel, which wakes those that wait for
 * a dead owner, takes all for shared.  One that was asked to be private keeps a mark of ours:
 * libc does not look at that bit, and treats it as ever while the runtime sleeps. */
EXPORT int pthread_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *attr)
{
	int r = real.pthread_mutex_init(m, attr), robust = 0, shared = 0;

	if (r != 0 || attr == NULL)
		return r;
	pthread_mutexattr_getrobust(attr, &robust);
	pthread_mutexattr_getpshared(attr, &shared);
	if (robust == PTHREAD_MUTEX_ROBUST && shared == PTHREAD_PROCESS_PRIVATE)
		m->__data.__kind |= KIND_OURS;
	return r;
}
ALIAS(__pthread_mutex_init, pthread_mutex_init);

EXPORT int pthread_mutex_destroy(pthread_mutex_t *m)
{
	return real.pthread_mutex_destroy(m);
}
ALIAS(__pthread_mutex_destroy, pthread_mutex_destroy);

/* --- for condition variables --------------------------------------------------------------------- */

static bool is_recursive(int kind)
{
	return (kind & KIND_TYPE) == PTHREAD_MUTEX_RECURSIVE_NP;
}

_Atomic uint32_t *mutex_word(pthread_mutex_t *m)
{
	int kind = kind_of(m);

	if (is_real(kind) || (kind & KIND_ROBUST) ||
	    (is_recursive(kind) && m->__data.__count > 1))
		return NULL;
	return word_of(m);
}

bool mutex_suits_libc(const pthread_mutex_t *m)
{
	int kind = kind_of(m);

	return is_real(kind) || !(kind & (KIND_ROBUST | KIND_INHERIT));
}

/* Whether that is t, as libc may know it: see identify(). */
static bool is_owner(int tid, struct task *t)
{
	return tid != 0 && (tid == task_tid(t) || tid == task_kernel_tid(t));
}

int mutex_check_owner(pthread_mutex_t *m, struct task *t)
{
	int kind = kind_of(m), type = kind & KIND_TYPE;
	bool is_mine = true;

	if (kind & KIND_ROBUST || (is_shared(kind) && (kind & KIND_INHERIT)))
		is_mine = is_owner(m->__data.__lock & FUTEX_TID_MASK, t);
	else if (type == PTHREAD_MUTEX_RECURSIVE_NP ||
		 type == PTHREAD_MUTEX_ERRORCHECK_NP || (kind & KIND_INHERIT))
		is_mine = is_owner(m->__data.__owner, t);
	return is_mine ? 0 : EPERM;
}

void mutex_leave(pthread_mutex_t *m, struct task *t)
{
	int kind = kind_of(m);

	if (is_real(kind)) {
		identify(m, t);
		real.pthread_mutex_unlock(m);
		mutex_end_real(t);
	} else if (kind & KIND_ROBUST) {
		robust_unlock(m, t, kind);
	} else if (!is_recursive(kind) || --m->__data.__count == 0) {
		/* It stays a user, as with libc: pthread_mutex_destroy says EBUSY. */
		m->__data.__owner = 0;
		word_release(m);
	}
}

int mutex_return(pthread_mutex_t *m, struct task *t, bool had, bool contended)
{
	int kind = kind_of(m);

	if (is_real(kind))
		return lock_real(m, t);
	if (kind & KIND_ROBUST)
		return robust_lock(m, t, kind, true, 0, NULL);
	if (!had) {
		if (relock(m, t, kind) != 0)
			return 0; /* still locked, and deeper now */
		if (contended || !word_try(m))
			word_wait(m, t, contended, NO_DEADLINE);
	}
	if (is_recursive(kind))
		m->__data.__count = 1;
	m->__data.__owner = task_tid(t);
	return 0;
}

EXPORT int pthread_mutex_consistent(pthread_mutex_t *m)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.pthread_mutex_consistent(m);
	mutex_begin_real(m, t);
	int r = real.pthread_mutex_consistent(m);
	mutex_end_real(t);
	return r;
}

EXPORT int pthread_mutex_setprioceiling(pthread_mutex_t *m, int ceiling, int *old)
{
	struct task *t = task_self();

	if (t == NULL || !(kind_of(m) & KIND_CEILING))
		return real.pthread_mutex_setprioceiling(m, ceiling, old);
	/* It locks it. */
	mutex_begin_real(m, t);
	enter_kernel();
	int r = real.pthread_mutex_setprioceiling(m, ceiling, old);
	leave_kernel();
	mutex_end_real(t);
	return r;
}
