/* SPDX-License-Identifier: MIT */
/*
 * rwlock.c: read-write locks of every kind.
 *
 * The word __readers means what it does in libc where nobody waits (nptl/
 * pthread_rwlock_common.c), so static initialisers and locks that were taken before the
 * runtime woke stay valid: the number of readers, a bit for a writer that holds it, and one
 * that says that the last holder was a writer, which we ignore.  __cur_writer is the
 * writer's tid and __flags the kind.  The other words are our own.
 *
 * Who takes or leaves a lock that nobody waits for does it in one step on the word.  When
 * somebody waits, which a bit of it says, whoever comes or goes first sets its bit BUSY,
 * which makes the other words his, decides who may go, and clears it in the same step that
 * changes the lock.  After that step the lock is known by its address alone: who was let in
 * may leave, destroy it and free its memory.
 *
 * Who may go:
 * - A writer that leaves lets in all readers that wait, in one step; else it wakes a writer.
 *   Where the kind prefers writers, it wakes a writer first.
 * - The last reader that leaves wakes a writer.
 * - A writer that was woken has not got the lock: another one may be faster, which saves a
 *   switch for each turn, as in sync.Mutex of Go.  One that has waited for a millisecond is
 *   handed the lock, and one that was woken in vain is the next to be woken.
 * - A new reader joins those inside, also when a writer waits, but for the kind
 *   PREFER_WRITER_NONRECURSIVE: it may hold the lock already, or somebody inside may wait
 *   for it.  That starves a writer where the readers overlap, natively too.  Here new ones
 *   are delayed for a while then, and let in for as long, in turns that double until the
 *   writer had its chance (see opens_at): it gets the lock, and who must enter does.
 *
 * Process-shared locks are libc's, by door 4; and all of them where elders may wait in libc, by
 * libc's other words.
 */
#include "wrap.h"

struct rwlock {
	_Atomic uint32_t state;
	uint32_t n_writers;      /* that wait; this and what follows: whoever is BUSY */
	_Atomic uint32_t let_in; /* times that readers were let in: they park here */
	_Atomic uint32_t writer_turn; /* times that a writer was woken: they park here */
	uint32_t n_readers;           /* that wait */
	_Atomic uint32_t retry_turn;  /* as writer_turn; those woken in vain park here */
	_Atomic int writer;           /* its tid; written by it, compared by all */
	int shared;                   /* not 0: of other processes too */
	int8_t elision;
	uint8_t handed;    /* a writer that waits has the lock, and is to find it out */
	uint8_t is_coming; /* one that waits does not park, or not again */
	ns_t since;        /* when the writer began to wait that has done so longest */
	uint32_t kind;
};
#define SAME_PLACE(ours, libcs)                                      \
	_Static_assert(offsetof(struct rwlock, ours) ==              \
			   offsetof(pthread_rwlock_t, __data.libcs), \
		       "libc's place")
SAME_PLACE(state, __readers);
SAME_PLACE(writer, __cur_writer);
SAME_PLACE(shared, __shared);
SAME_PLACE(kind, __flags);

enum {
	LAST_WROTE = 1, /* libc's WRPHASE */
	WRITER = 2,     /* a writer has the lock */
	WAITERS = 4,    /* somebody waits, and nobody comes who would see to it */
	READER = 8,     /* one reader */
	READERS = 0x3ffffff8,
	BUSY = 1 << 30,
	BUSY_SPINS = 100,
	BUSY_FOR_EVER = 1 << 20,
	/* Looks before parking, where there is another processor that may let us in: about
	 * a microsecond, as for mutexes (park.c). */
	SPINS = 40,
};

#define FIRST_TURN_NS 2000000LL
#define LAST_TURN_NS (FIRST_TURN_NS << 7)
#define STARVATION_NS (FIRST_TURN_NS / 2)

static inline struct rwlock *of(pthread_rwlock_t *l)
{
	return (struct rwlock *)l;
}

/* --- the word ------------------------------------------------------------------------ */

static inline uint32_t load(struct rwlock *l)
{
	return atomic_load_explicit(&l->state, memory_order_relaxed);
}

/* Pairs with itself: what the last holders wrote is visible. */
static inline bool cas(struct rwlock *l, uint32_t *from, uint32_t to)
{
	return atomic_compare_exchange_weak_explicit(
	    &l->state, from, to, memory_order_acq_rel, memory_order_relaxed);
}

/* Takes the lock to read: 0, EAGAIN for too many readers, or EBUSY. */
static inline int try_fast_read(struct rwlock *l)
{
	uint32_t s = load(l);

	while ((s & (WRITER | WAITERS | BUSY)) == 0) {
		if (unlikely((s & READERS) == READERS))
			return EAGAIN;
		if (likely(cas(l, &s, (s & ~LAST_WROTE) + READER)))
			return 0;
	}
	return EBUSY;
}

static inline bool try_fast_write(struct rwlock *l)
{
	uint32_t s = load(l);

	while ((s & ~LAST_WROTE) == 0)
		if (likely(cas(l, &s, WRITER)))
			return true;
	return false;
}

/* How often to look before parking, and a look. */
static int n_looks(void)
{
	return procs_set(0) > 1 ? SPINS : 0;
}

static bool look_again(struct rwlock *l)
{
	__builtin_ia32_pause();
	return (load(l) & WAITERS) == 0;
}

/* Sets BUSY; the state without it. */
static uint32_t begin(struct rwlock *l)
{
	uint32_t s = load(l);

	for (int n = 0;; s = load(l)) {
		while ((s & BUSY) == 0)
			if (cas(l, &s, s | BUSY))
				return s & (WRITER | READERS);
		if (++n < BUSY_SPINS)
			__builtin_ia32_pause();
		else if (n < BUSY_FOR_EVER || task_count() > 1)
			task_yield();
		else /* whoever was busy is in the process that we are forked from */
			cas(l, &s, s & ~BUSY);
	}
}

/*
 * Clears BUSY.  From here on the lock may be gone, if s lets anybody in.
 *
 * While a writer is on its way that was woken, nobody need be woken for the others: whoever
 * comes and goes meanwhile does so in one step, and not by the dozen of wakes.
 */
static void end(struct rwlock *l, uint32_t s)
{
	bool is_coming =
	    l->is_coming && l->kind != PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP;

	if (l->n_readers != 0 || (l->n_writers != 0 && !is_coming))
		s |= WAITERS;
	/* Pairs with begin() and cas(). */
	atomic_store_explicit(&l->state, s, memory_order_release);
}

/* --- who may go ---------------------------------------------------------------------- */

static inline bool prefers_writers(const struct rwlock *l)
{
	return l->kind != PTHREAD_RWLOCK_PREFER_READER_NP;
}

static bool may_read(const struct rwlock *l, uint32_t s)
{
	return (s & WRITER) == 0 &&
	       (l->n_writers == 0 ||
		l->kind != PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
}

/*
 * When a reader may enter that may_read(): 0 for now.  A writer that starves has new readers
 * held up for the first half of a turn, and let in for the second.  A turn is as long as
 * the writer has waited before it, so that in one of them all who are inside will leave.
 */
static ns_t opens_at(const struct rwlock *l)
{
	ns_t now, waited, turn = FIRST_TURN_NS;

	if (l->n_writers == 0)
		return 0;
	now = now_ns();
	waited = now - l->since;
	if (waited < FIRST_TURN_NS)
		return 0;
	while (turn < LAST_TURN_NS && turn * 2 <= waited)
		turn *= 2;
	waited %= turn;
	return waited < turn / 2 ? now - waited + turn / 2 : 0;
}

/* Lets in all readers that wait.  The state. */
static uint32_t let_readers_in(struct rwlock *l, uint32_t s)
{
	s += l->n_readers * READER;
	l->n_readers = 0;
	atomic_fetch_add_explicit(&l->let_in, 1, memory_order_release);
	return s;
}

/* Whom a change has let go, to be woken when the lock may be gone already. */
enum woken { NOBODY, SOME_READERS, A_WRITER };

static void wake_them(struct rwlock *l, enum woken whom)
{
	if (whom == SOME_READERS)
		wake(&l->let_in, INT_MAX);
	else if (whom == A_WRITER && wake(&l->retry_turn, 1) == 0)
		wake(&l->writer_turn, 1);
}

/* The lock is free: gives it to those who wait.  A writer has left it, or readers. */
static void pass_on(struct rwlock *l, bool writer_left)
{
	bool readers_first = writer_left && !prefers_writers(l);
	enum woken whom = NOBODY;
	uint32_t s = 0;

	if (l->n_readers != 0 && (readers_first || l->n_writers == 0)) {
		s = let_readers_in(l, s);
		whom = SOME_READERS;
	} else if (l->n_writers != 0) {
		if (now_ns() - l->since >= STARVATION_NS) {
			l->handed = true;
			s = WRITER;
		}
		if (!l->is_coming) {
			/* Who has not parked yet sees the change, and does not. */
			atomic_fetch_add_explicit(&l->writer_turn, 1,
						  memory_order_release);
			atomic_fetch_add_explicit(&l->retry_turn, 1,
						  memory_order_release);
			l->is_coming = true;
			whom = A_WRITER;
		}
	}
	end(l, s);
	wake_them(l, whom);
}

/* --- reading --------------------------------------------------------------------------- */

/* How long to wait: abstime NULL is for ever.  It is valid. */
struct until {
	clockid_t clock;
	const struct timespec *abstime;
};

/* Parks a reader until it is let in, or until a time.  What park_on returns; *s is new. */
static int park_reader(struct rwlock *l, uint32_t *s, ns_t deadline)
{
	uint32_t let_in = atomic_load_explicit(&l->let_in, memory_order_relaxed);
	int r;

	l->n_readers++;
	end(l, *s);
	task_waits_for(task_self(), WAIT_READ, l);
	r = park_on(&l->let_in, let_in, deadline);
	/* Pairs with let_readers_in(); we are counted in the state then. */
	if (atomic_load_explicit(&l->let_in, memory_order_acquire) != let_in)
		return 0;
	*s = begin(l);
	if (atomic_load_explicit(&l->let_in, memory_order_relaxed) != let_in) {
		end(l, *s);
		return 0;
	}
	l->n_readers--;
	return r == 0 ? -EAGAIN : r;
}

static int read_slow(struct rwlock *l, const struct until *u)
{
	ns_t deadline = NO_DEADLINE, opens;
	uint32_t s = begin(l);
	bool is_late = false;
	int r;

	for (;;) {
		opens = NO_DEADLINE;
		if (may_read(l, s))
			opens = is_late ? 0 : opens_at(l);
		if (opens == 0) {
			r = (s & READERS) == READERS ? EAGAIN : 0;
			end(l, r == 0 ? s + READER : s);
			return r;
		}
		if (is_late) {
			end(l, s);
			return ETIMEDOUT;
		}
		if (deadline == NO_DEADLINE)
			deadline_at(u->clock, u->abstime, &deadline);
		r = park_reader(l, &s, opens < deadline ? opens : deadline);
		if (r == 0)
			return 0;
		is_late = r == -ETIMEDOUT && deadline <= opens;
	}
}

static int read_lock(struct rwlock *l, struct task *t, const struct until *u)
{
	int r;

	if (unlikely(atomic_load_explicit(&l->writer, memory_order_relaxed) ==
		     task_tid(t)))
		return EDEADLK;
	r = try_fast_read(l);
	return likely(r != EBUSY) ? r : read_slow(l, u);
}

static int try_read_slow(struct rwlock *l)
{
	uint32_t s = begin(l);
	int r = !may_read(l, s) ? EBUSY : (s & READERS) == READERS ? EAGAIN : 0;

	end(l, r == 0 ? s + READER : s);
	return r;
}

/* --- writing --------------------------------------------------------------------------- */

struct writer {
	ns_t since;         /* when it began to wait */
	bool waited;        /* it was counted among those who wait */
	bool woken_in_vain; /* another one was faster */
};

/* Whether a writer has the lock, or takes it; *s is the state then. */
static bool take_to_write(struct rwlock *l, const struct writer *w, uint32_t *s)
{
	if (w->waited && l->handed)
		l->handed = false;
	else if (*s != 0)
		return false;
	*s = WRITER;
	/* The others wait since now, unless one that was woken in vain knows better. */
	if (w->waited && l->n_writers != 0)
		l->since = now_ns();
	return true;
}

static int park_writer(struct rwlock *l, struct writer *w, uint32_t *s, ns_t deadline)
{
	_Atomic uint32_t *turn = w->woken_in_vain ? &l->retry_turn : &l->writer_turn;
	uint32_t seen = atomic_load_explicit(turn, memory_order_relaxed);
	int r;

	if (!w->waited)
		w->since = now_ns();
	w->waited = true;
	if (l->n_writers++ == 0 || w->since < l->since)
		l->since = w->since;
	end(l, *s);
	task_waits_for(task_self(), WAIT_WRITE, l);
	r = park_on(turn, seen, deadline);
	*s = begin(l);
	l->n_writers--;
	l->is_coming =
	    false; /* also where it is another one: that costs a wake at most */
	if (r == 0)
		w->woken_in_vain = true; /* or not: see take_to_write() */
	return r;
}

/* A writer goes without the lock.  Readers may have waited for it alone. */
static void give_up(struct rwlock *l, uint32_t s)
{
	bool let_in = l->n_readers != 0 && may_read(l, s);

	if (let_in)
		s = let_readers_in(l, s);
	end(l, s);
	if (let_in)
		wake_them(l, SOME_READERS);
}

static int write_slow(struct rwlock *l, const struct until *u)
{
	struct writer w = {0};
	ns_t deadline = NO_DEADLINE;
	uint32_t s = begin(l);
	int r = 0;

	while (!take_to_write(l, &w, &s)) {
		if (r == -ETIMEDOUT) {
			give_up(l, s);
			return ETIMEDOUT;
		}
		if (deadline == NO_DEADLINE)
			deadline_at(u->clock, u->abstime, &deadline);
		r = park_writer(l, &w, &s, deadline);
	}
	end(l, s);
	return 0;
}

static inline void own(struct rwlock *l, struct task *t)
{
	atomic_store_explicit(&l->writer, task_tid(t), memory_order_relaxed);
}

static int write_lock(struct rwlock *l, struct task *t, const struct until *u)
{
	if (unlikely(atomic_load_explicit(&l->writer, memory_order_relaxed) ==
		     task_tid(t)))
		return EDEADLK;
	bool had = try_fast_write(l);
	for (int n = had ? 0 : n_looks(); n > 0 && !had; n--)
		had = look_again(l) && try_fast_write(l);
	if (unlikely(!had)) {
		int r = write_slow(l, u);
		if (r != 0)
			return r;
	}
	own(l, t);
	return 0;
}

static bool try_write_slow(struct rwlock *l)
{
	uint32_t s = begin(l);
	bool is_free = s == 0;

	end(l, is_free ? WRITER : s);
	return is_free;
}

/* --- leaving --------------------------------------------------------------------------- */

static void write_unlock(struct rwlock *l)
{
	uint32_t s = load(l);

	atomic_store_explicit(&l->writer, 0, memory_order_relaxed);
	while (likely((s & (WAITERS | BUSY)) == 0))
		if (likely(cas(l, &s, 0)))
			return;
	begin(l);
	pass_on(l, true);
}

static int read_unlock(struct rwlock *l)
{
	uint32_t s = load(l);

	while (likely((s & READERS) != 0 && (s & BUSY) == 0 &&
		      ((s & WAITERS) == 0 || (s & READERS) != READER)))
		if (likely(cas(l, &s, s - READER)))
			return 0;
	s = begin(l);
	if ((s & READERS) == 0) {
		end(l, s);
		return EPERM; /* nobody's to leave */
	}
	if (s == READER)
		pass_on(l, false);
	else
		end(l, s - READER);
	return 0;
}

/* --- the functions ----------------------------------------------------------------------- */

static inline bool is_ours(const struct rwlock *l, const struct task *t)
{
	return likely(t != NULL) && likely(l->shared == 0) && likely(!elders_wait);
}

EXPORT int pthread_rwlock_init(pthread_rwlock_t *l, const pthread_rwlockattr_t *attr)
{
	return real.pthread_rwlock_init(l, attr);
}
ALIAS(__pthread_rwlock_init, pthread_rwlock_init);

EXPORT int pthread_rwlock_destroy(pthread_rwlock_t *l)
{
	return real.pthread_rwlock_destroy(l);
}
ALIAS(__pthread_rwlock_destroy, pthread_rwlock_destroy);

EXPORT int pthread_rwlock_tryrdlock(pthread_rwlock_t *lock)
{
	struct rwlock *l = of(lock);
	int r;

	if (!is_ours(l, task_self()))
		return real.pthread_rwlock_tryrdlock(lock);
	r = try_fast_read(l);
	return likely(r != EBUSY) ? r : try_read_slow(l);
}
ALIAS(__pthread_rwlock_tryrdlock, pthread_rwlock_tryrdlock);

EXPORT int pthread_rwlock_trywrlock(pthread_rwlock_t *lock)
{
	struct rwlock *l = of(lock);
	struct task *t = task_self();

	if (!is_ours(l, t))
		return real.pthread_rwlock_trywrlock(lock);
	if (!try_fast_write(l) && !try_write_slow(l))
		return EBUSY;
	own(l, t);
	return 0;
}
ALIAS(__pthread_rwlock_trywrlock, pthread_rwlock_trywrlock);

EXPORT int pthread_rwlock_rdlock(pthread_rwlock_t *lock)
{
	static const struct until forever;
	struct rwlock *l = of(lock);
	struct task *t = task_self();
	int r;

	if (is_ours(l, t))
		return read_lock(l, t, &forever);
	if (t == NULL)
		return real.pthread_rwlock_rdlock(lock);
	r = real.pthread_rwlock_tryrdlock(lock);
	if (r != EBUSY)
		return r;
	enter_kernel();
	r = real.pthread_rwlock_rdlock(lock);
	leave_kernel();
	return r;
}
ALIAS(__pthread_rwlock_rdlock, pthread_rwlock_rdlock);

EXPORT int pthread_rwlock_wrlock(pthread_rwlock_t *lock)
{
	static const struct until forever;
	struct rwlock *l = of(lock);
	struct task *t = task_self();
	int r;

	if (is_ours(l, t))
		return write_lock(l, t, &forever);
	if (t == NULL)
		return real.pthread_rwlock_wrlock(lock);
	r = real.pthread_rwlock_trywrlock(lock);
	if (r != EBUSY)
		return r;
	enter_kernel();
	r = real.pthread_rwlock_wrlock(lock);
	leave_kernel();
	return r;
}
ALIAS(__pthread_rwlock_wrlock, pthread_rwlock_wrlock);

/* As libc's, it looks before it takes the lock, and also when that is free. */
static bool is_valid(const struct until *u)
{
	return (u->clock == CLOCK_REALTIME || u->clock == CLOCK_MONOTONIC) &&
	       (u->abstime == NULL || timespec_is_valid(u->abstime));
}

EXPORT int pthread_rwlock_clockrdlock(pthread_rwlock_t *lock, clockid_t clock,
				      const struct timespec *abstime)
{
	const struct until u = {clock, abstime};
	struct rwlock *l = of(lock);
	struct task *t = task_self();
	int r;

	if (!is_valid(&u))
		return EINVAL;
	if (is_ours(l, t))
		return read_lock(l, t, &u);
	if (t == NULL)
		return real.pthread_rwlock_clockrdlock(lock, clock, abstime);
	enter_kernel();
	r = real.pthread_rwlock_clockrdlock(lock, clock, abstime);
	leave_kernel();
	return r;
}

EXPORT int pthread_rwlock_timedrdlock(pthread_rwlock_t *l, const struct timespec *abstime)
{
	return pthread_rwlock_clockrdlock(l, CLOCK_REALTIME, abstime);
}

EXPORT int pthread_rwlock_clockwrlock(pthread_rwlock_t *lock, clockid_t clock,
				      const struct timespec *abstime)
{
	const struct until u = {clock, abstime};
	struct rwlock *l = of(lock);
	struct task *t = task_self();
	int r;

	if (!is_valid(&u))
		return EINVAL;
	if (is_ours(l, t))
		return write_lock(l, t, &u);
	if (t == NULL)
		return real.pthread_rwlock_clockwrlock(lock, clock, abstime);
	enter_kernel();
	r = real.pthread_rwlock_clockwrlock(lock, clock, abstime);
	leave_kernel();
	return r;
}

EXPORT int pthread_rwlock_timedwrlock(pthread_rwlock_t *l, const struct timespec *abstime)
{
	return pthread_rwlock_clockwrlock(l, CLOCK_REALTIME, abstime);
}

EXPORT int pthread_rwlock_unlock(pthread_rwlock_t *lock)
{
	struct rwlock *l = of(lock);
	struct task *t = task_self();

	if (!is_ours(l, t))
		return real.pthread_rwlock_unlock(lock);
	if (atomic_load_explicit(&l->writer, memory_order_relaxed) != task_tid(t))
		return read_unlock(l);
	write_unlock(l);
	return 0;
}
ALIAS(__pthread_rwlock_unlock, pthread_rwlock_unlock);
