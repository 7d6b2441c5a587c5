/* SPDX-License-Identifier: MIT */
/*
 * park.c: door 1, waiting on memory.
 *
 * A table of buckets, hashed by address.  A bucket's chain has one entry for each address
 * that is waited on, the leader, which is woken first; the others of that address hang off
 * it in order.  So a thousand waiters of one object do not slow the neighbours in its
 * bucket (Go's semaRoot and WebKit's ParkingLot have the same aim).  The order is the
 * kernel's futexes': by real-time priority, and by age within one.
 *
 * The two races that matter:
 *
 *	waiter: lock bucket; word as expected?  enqueue; unlock; leave the stack
 *	waker:  change the word; lock bucket; dequeue; unlock; wake
 *
 * The waker finds either the waiter on the queue, or a waiter that has not looked at the
 * word yet.  A waiter that was dequeued before it left its stack finds WOKEN in its park
 * word and does not leave (runtime.h, enum park_state).
 *
 *	waiter: enqueue; attention?
 *	signal: set attention; still queued?  dequeue with -EINTR
 *
 * Both sides pass through the bucket's lock between store and load, so one of them sees
 * the other.
 */
#include <errno.h>

#include "runtime.h"

enum {
	N_BUCKETS = 4096,
	/* A waiter that has waited this long, and was woken in vain once, gets the mutex handed
	 * over: Go's starvation threshold (sync/mutex.go). */
	STARVATION_NS = 1000000,
	/* Tries for a held lock before parking: about a microsecond, a little more than the
	 * shortest critical sections; parking and waking costs some 200 ns on one processor
	 * and far more across two. */
	LOCK_WORD_SPINS = 40,
};
_Static_assert((N_BUCKETS & (N_BUCKETS - 1)) == 0, "N_BUCKETS is a power of two");

static struct bucket {
	struct lock lock;
	struct list chain; /* leaders; NULL pointers: never used */
	uint32_t signals;  /* of conditions: how often it was looked for their waiters */
	_Atomic bool interrupted; /* a condition's waiter left it for a handler, once */
	/* Who waits for its lock words is in the kernel: see lock_with_libc().  For good; the
	 * lock's. */
	bool is_libcs_too;
} __attribute__((aligned(CACHE_LINE))) buckets[N_BUCKETS];

static struct bucket *bucket_of(const void *addr)
{
	/* Fibonacci hashing: 2^64 / golden ratio. */
	uint64_t h = (uintptr_t)addr / 4 * 0x9e3779b97f4a7c15ULL;

	return &buckets[h >> 52];
}
_Static_assert(N_BUCKETS == 1 << (64 - 52), "the hash keeps the top bits");

static struct bucket *bucket_lock(const void *addr)
{
	struct bucket *b = bucket_of(addr);

	lock_acquire(&b->lock);
	if (unlikely(b->chain.next == NULL))
		list_init(&b->chain);
	return b;
}

/* The oldest waiter of addr, or NULL; b is locked. */
static struct waiter *leader_locked(struct bucket *b, const void *addr)
{
	for (struct list *l = b->chain.next; l != &b->chain; l = l->next) {
		struct waiter *w = container_of(l, struct waiter, chain);

		if (load_relaxed(&w->addr) == addr)
			return w;
	}
	return NULL;
}

static void lead_locked(struct bucket *b, struct waiter *w)
{
	w->leads = true;
	list_push_back(&b->chain, &w->chain);
}

static struct task *task_of_waiter(struct waiter *w)
{
	return container_of(w, struct task, wait);
}

static int own_priority(struct task *t)
{
	return likely(!load_relaxed(&t->worker->apart)) ? sched.priority
							: sys_own_priority();
}

static void fresh_waiter(struct waiter *w)
{
	w->mutex_word = NULL;
	w->bits = ~0U;
	w->priority = own_priority(task_of_waiter(w));
	w->moved = w->granted = w->lost = false;
}

/* Whom w goes before, of those that leader leads; NULL: it is the last.  The front is that
 * of its own priority. */
static struct waiter *follower_of(struct waiter *leader, const struct waiter *w,
				  bool front)
{
	struct waiter *at = leader;
	struct waiter *last = container_of(leader->peers.prev, struct waiter, peers);

	if (likely(!front && last->priority >= w->priority))
		return NULL;
	do {
		if (at->priority < w->priority || (front && at->priority == w->priority))
			return at;
		at = container_of(at->peers.next, struct waiter, peers);
	} while (at != leader);
	return NULL;
}

static void enqueue_locked(struct bucket *b, struct waiter *w, const void *addr,
			   bool front)
{
	w->result = 0;
	w->leads = false;
	list_init(&w->peers);
	store_relaxed(&w->addr, addr);
	/* At its own word it is alone, and nobody asks who waits there: a chain would only
	 * be its neighbours' memory to be touched. */
	if (addr == &task_of_waiter(w)->never)
		return;
	struct waiter *leader = leader_locked(b, addr);
	if (leader == NULL) {
		lead_locked(b, w);
		return;
	}
	struct waiter *follower = follower_of(leader, w, front);
	/* Before the leader in the circle is both its front and its back. */
	list_push_back(follower == NULL ? &leader->peers : &follower->peers, &w->peers);
	if (follower == leader) {
		list_remove(&leader->chain);
		leader->leads = false;
		lead_locked(b, w);
	}
}

/* Off its queue; its address stays, for the caller to change under the same lock. */
static void unlink_locked(struct bucket *b, struct waiter *w)
{
	if (w->leads) {
		list_remove(&w->chain);
		if (!list_empty(&w->peers))
			lead_locked(b, container_of(w->peers.next, struct waiter, peers));
	}
	list_remove(&w->peers);
}

static void dequeue_locked(struct bucket *b, struct waiter *w)
{
	unlink_locked(b, w);
	store_relaxed(&w->addr, NULL);
}

/* Its waiter was dequeued by the caller, who owes it this. */
static void wake_task(struct task *t)
{
	bool bound = is_bound(t); /* before the swap: rule 5 of runtime.h */

	/* Pairs with the CAS to PARKED after its last switch: its registers are saved. */
	uint32_t was = swap_acq_rel(&t->park, PARK_WOKEN);

	if (was != PARK_PARKED && was != PARK_INTERRUPTED)
		return;
	if (bound)
		sys_futex_wake(&t->park, 1);
	else
		ready(t);
}

bool park_cancel(struct task *t, int result)
{
	const void *addr;
	struct bucket *b;

	for (;;) {
		addr = load_relaxed(&t->wait.addr);
		if (addr == NULL)
			return false;
		b = bucket_lock(addr);
		if (load_relaxed(&t->wait.addr) == addr)
			break;
		lock_release(&b->lock); /* it was moved: look again */
	}
	bool can = !(result == -ETIMEDOUT && t->wait.moved);
	if (can) {
		/* Before it is off the chain: nobody_is_signalled() sees either. */
		if (result == -EINTR && t->wait.kind == WAIT_COND)
			/* Pairs with nobody_is_signalled(). */
			swap_acq_rel(&b->interrupted, true);
		t->wait.seen = b->signals;
		dequeue_locked(b, &t->wait);
		t->wait.result = result;
	}
	lock_release(&b->lock);
	if (can)
		wake_task(t);
	return can;
}

void task_waits_for(struct task *t, enum wait_kind kind, const void *object)
{
	t->wait.kind = kind;
	t->wait.object = object;
}

void park_queue(struct task *t)
{
	struct bucket *b = bucket_lock(&t->never);

	task_waits_for(t, WAIT_DESCRIPTOR, NULL);
	fresh_waiter(&t->wait);
	enqueue_locked(b, &t->wait, &t->never, false);
	lock_release(&b->lock);
}

bool park_take(struct task *t, int result)
{
	struct bucket *b = bucket_lock(&t->never);
	bool waits = load_relaxed(&t->wait.addr) == &t->never;

	if (waits) {
		dequeue_locked(b, &t->wait);
		t->wait.result = result;
	}
	lock_release(&b->lock);
	/* Pairs with the CAS to PARKED after its last switch: its registers are saved. */
	return waits && swap_acq_rel(&t->park, PARK_WOKEN) != PARK_RUNNING;
}

static void timer_fired(struct timer *timer)
{
	park_cancel(container_of(timer, struct task, timer), -ETIMEDOUT);
}

int timers_fire(struct timer_heap *h, ns_t now)
{
	return timer_fire_due(h, now, timer_fired);
}

void park_rouse(struct task *t)
{
	/* Pairs with park_wait() and signal_waiter(): the attention is seen there, or we see it
	 * queued. */
	fence_seq_cst();
	if (park_cancel(t, -EINTR))
		return;
	/* None: it is main, and no worker has come to it yet. */
	struct worker *w = load_relaxed(&t->worker);
	if (w != NULL && t != self_task && load_relaxed(&w->current) == t)
		preempt_worker(w);
}

bool park_is_wanted(struct task *t)
{
	int want = ATTEND_SIGNAL | ATTEND_ASK |
		   (t->cancel_point || t->cancel_anywhere ? ATTEND_CANCEL : 0);

	return (load_acquire(&t->attention) & want) != 0 ||
	       (t->by_handlers && t->handlers_run != t->handlers_then);
}

static void arm_deadline(struct task *t, ns_t deadline)
{
	struct proc *p = load_relaxed(&load_relaxed(&t->worker)->proc);
	bool first = false;

	if (timer_arm(&p->timers, &t->timer, deadline, &first) < 0)
		fatal("out of memory for timers", deadline);
	if (first)
		timer_wake_poller(deadline);
}

/* The queued caller parks; returns its waiter's result.  Inside the runtime. */
int park_wait(struct task *t, ns_t deadline)
{
	t->wait.deadline = deadline;
	if (unlikely(park_is_wanted(t)))
		park_cancel(t, -EINTR);
	if (deadline == NO_DEADLINE) {
		sched_park(t, NO_DEADLINE);
	} else if (is_bound(t)) {
		if (!sched_park(t, deadline)) {
			park_cancel(t, -ETIMEDOUT);
			sched_park(t, NO_DEADLINE);
		}
	} else {
		arm_deadline(t, deadline);
		sched_park(t, deadline);
		timer_disarm(&t->timer);
	}
	return t->wait.result;
}

int park_on_bits(_Atomic uint32_t *addr, uint32_t expected, uint32_t bits, ns_t deadline)
{
	struct task *t = task_self();
	int result;

	runtime_enter(t);
	fresh_waiter(&t->wait);
	struct bucket *b = bucket_lock(addr);
	/* Pairs with the waker's store before its wake. */
	if (load_acquire(addr) != expected) {
		lock_release(&b->lock);
		result = -EAGAIN;
	} else {
		t->wait.bits = bits;
		enqueue_locked(b, &t->wait, addr, false);
		lock_release(&b->lock);
		result = park_wait(t, deadline);
	}
	runtime_leave(t);
	return result;
}

int park_on(_Atomic uint32_t *addr, uint32_t expected, ns_t deadline)
{
	return park_on_bits(addr, expected, ~0U, deadline);
}

int sleep_until(ns_t deadline)
{
	struct task *t = task_self();

	task_waits_for(t, WAIT_SLEEP, NULL);
	int result = park_on(&t->never, 0, deadline);

	return result == -ETIMEDOUT ? 0 : result;
}

/* Takes the next waiter of addr whose bits meet, or NULL; b is locked. */
static struct waiter *take_locked(struct bucket *b, const void *addr, uint32_t bits)
{
	struct waiter *leader = leader_locked(b, addr), *w = leader;

	if (leader == NULL)
		return NULL;
	do {
		if (w->bits & bits) {
			dequeue_locked(b, w);
			return w;
		}
		w = container_of(w->peers.next, struct waiter, peers);
	} while (w != leader);
	return NULL;
}

/* Collects up to n waiters; chained through chain.next, which dequeuing left unused. */
static int collect_locked(struct bucket *b, const void *addr, int n, uint32_t bits,
			  struct list *to)
{
	int got = 0;
	struct waiter *w;

	list_init(to);
	while (got < n && (w = take_locked(b, addr, bits)) != NULL) {
		list_push_back(to, &w->chain);
		got++;
	}
	return got;
}

static void wake_collected(struct list *from)
{
	while (!list_empty(from)) {
		struct waiter *w = container_of(from->next, struct waiter, chain);

		list_remove(&w->chain);
		wake_task(task_of_waiter(w));
	}
}

/* The caller inside the runtime?  A wake from there must not leave it. */
static bool enter_unless_inside(struct task *t)
{
	if (load_relaxed(&load_relaxed(&t->worker)->in_runtime))
		return false;
	runtime_enter(t);
	return true;
}

/*
 * Whether a wake can find nobody, without the lock.  A waiter looks at its word only after
 * it has taken the bucket's lock, so:
 *
 *	waiter: lock; word; enqueue; unlock
 *	waker:  change the word; fence; lock free?  chain empty?
 *
 * A waiter that locks after our look at the lock sees the changed word; one that has
 * unlocked before it is on the chain.
 */
static bool nobody_waits(const void *addr)
{
	struct bucket *b = bucket_of(addr);

	fence_seq_cst();
	if (load_acquire(&b->lock.word) != 0)
		return false;
	struct list *first = *(struct list *volatile *)&b->chain.next;
	return first == NULL || first == &b->chain;
}

static int wake_tasks(const _Atomic uint32_t *addr, int n, uint32_t bits)
{
	struct task *t = task_self();
	struct list woken;

	if (nobody_waits(addr))
		return 0;
	bool entered = enter_unless_inside(t);
	struct bucket *b = bucket_lock(addr);
	int got = collect_locked(b, addr, n, bits, &woken);
	lock_release(&b->lock);
	wake_collected(&woken);
	if (entered)
		runtime_leave(t);
	return got;
}

bool elders_wait;
_Atomic bool futexes_wait_in_kernel;

/* wake_tasks() has a fence, and requeue() the buckets' locks, before they ask. */
static bool is_for_kernel_too(void)
{
	return unlikely(elders_wait || load_relaxed(&futexes_wait_in_kernel));
}

/* After got of n tasks, who waits in the kernel. */
static int wake_rest(const _Atomic uint32_t *addr, int n, int got, uint32_t bits)
{
	int more = got < n ? sys_futex_wake_bits(addr, n - got, bits) : 0;

	return got + (more > 0 ? more : 0);
}

int wake_bits(const _Atomic uint32_t *addr, int n, uint32_t bits)
{
	int got = wake_tasks(addr, n, bits);

	return is_for_kernel_too() ? wake_rest(addr, n, got, bits) : got;
}

int wake(const _Atomic uint32_t *addr, int n)
{
	int got = wake_tasks(addr, n, ~0U);

	return unlikely(elders_wait) ? wake_rest(addr, n, got, ~0U) : got;
}

static void lock_two(const void *a, const void *b)
{
	struct bucket *ba = bucket_of(a), *bb = bucket_of(b);

	if (ba == bb) {
		bucket_lock(a);
	} else {
		bucket_lock(ba < bb ? a : b);
		bucket_lock(ba < bb ? b : a);
	}
}

static void release_two(const void *a, const void *b)
{
	struct bucket *ba = bucket_of(a), *bb = bucket_of(b);

	lock_release(&ba->lock);
	if (ba != bb)
		lock_release(&bb->lock);
}

/* Moves up to n waiters of from to the queue of to; both buckets are locked.  All are taken off
 * before the first is queued anew, for the two may be the same. */
static int move_locked(const void *from, const void *to, int n)
{
	struct bucket *b = bucket_of(from);
	struct list moved;
	struct waiter *w;
	int got = 0;

	list_init(&moved);
	for (; got < n && (w = leader_locked(b, from)) != NULL; got++) {
		unlink_locked(b, w);
		list_push_back(&moved, &w->chain);
	}
	while (!list_empty(&moved)) {
		w = container_of(moved.next, struct waiter, chain);
		list_remove(&w->chain);
		enqueue_locked(bucket_of(to), w, to, false);
	}
	return got;
}

int requeue(_Atomic uint32_t *from, _Atomic uint32_t *to, int n_wake, int n_move,
	    bool check, uint32_t expected)
{
	struct task *t = task_self();
	struct list woken;
	int got = -EAGAIN;

	list_init(&woken);
	runtime_enter(t);
	lock_two(from, to);
	/* Pairs with the store of who changed it: as the kernel's FUTEX_CMP_REQUEUE. */
	if (!check || load_acquire(from) == expected) {
		got = collect_locked(bucket_of(from), from, n_wake, ~0U, &woken);
		n_wake -= got;
		int moved = move_locked(from, to, n_move);
		n_move -= moved;
		got += moved;
	}
	release_two(from, to);
	wake_collected(&woken);
	if (is_for_kernel_too() && got >= 0) {
		int more = sys_futex_requeue(from, to, n_wake, n_move);
		got += more > 0 ? more : 0;
	}
	runtime_leave(t);
	return got;
}

/* --- lock words -------------------------------------------------------------------- */

/* Where the processor has something else to run, that comes first, as in Go: its holder may
 * have no CPU, and each that meets the lock until then would spin in vain. */
static bool spin_for(struct task *t, _Atomic uint32_t *word, uint32_t as)
{
	struct proc *p = load_relaxed(&load_relaxed(&t->worker)->proc);

	if (load_relaxed(&sched.n_procs) == 1 || (p != NULL && proc_has_work(p)))
		return false;
	for (int i = 0; i < LOCK_WORD_SPINS; i++) {
		uint32_t free = 0;

		/* Pairs with the holder's release. */
		if (load_relaxed(word) == 0 && cas_acquire(word, &free, as))
			return true;
		cpu_relax();
	}
	return false;
}

enum place { NOWHERE, IN_BUCKET, IN_KERNEL };

/* Where to wait if the word is still 2, which the caller is enqueued for; the front is for who has
 * waited before. */
static enum place enqueue_for_lock(struct task *t, _Atomic uint32_t *word, bool front)
{
	enum place place = NOWHERE;

	fresh_waiter(&t->wait);
	struct bucket *b = bucket_lock(word);

	if (unlikely(b->is_libcs_too)) {
		place = IN_KERNEL;
	} else if (load_relaxed(word) == 2) {
		place = IN_BUCKET;
		t->wait.lost = front;
		enqueue_locked(b, &t->wait, word, front);
	}
	lock_release(&b->lock);
	return place;
}

/* As libc does, while the word is 2.  As park_on. */
static int wait_in_kernel(_Atomic uint32_t *word, ns_t deadline)
{
	struct timespec ts = ns_timespec(deadline);

	return (int)kernel_call(
	    SYS_futex, (long)word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, 2,
	    deadline == NO_DEADLINE ? 0 : (long)&ts, 0, FUTEX_BITSET_MATCH_ANY);
}

int lock_slow(_Atomic uint32_t *word, bool others_wait, ns_t deadline)
{
	struct task *t = task_self();
	enum wait_kind kind = t->wait.kind;
	const void *object = t->wait.object;
	/* Who was moved here from a condition has had its turn in the queue. */
	bool waited = others_wait;
	int result;

	if (spin_for(t, word, others_wait ? 2 : 1))
		return 0;
	/* Pairs with the holder's release.  2: we cannot know whether others wait. */
	while (swap_acq_rel(word, 2) != 0) {
		runtime_enter(t);
		if (!waited)
			t->wait.since = now_ns();
		result = 0;
		/* Again: a handler may have waited for something else. */
		task_waits_for(t, kind, object);
		enum place place = enqueue_for_lock(t, word, waited);
		if (place == IN_BUCKET) {
			result = park_wait(t, deadline);
			waited = true;
		}
		bool granted = result == 0 && t->wait.granted;
		t->wait.granted = false;
		runtime_leave(t);
		if (granted)
			return 0;
		if (place == IN_KERNEL)
			result = wait_in_kernel(word, deadline);
		if (result == -ETIMEDOUT)
			return result;
	}
	return 0;
}

/*
 * libc sees to it that somebody is woken when it gives the word up if that is 2, but in the
 * kernel, and there it waits for the word itself.  So who wants a lock word of this bucket waits
 * there from now on, and who waits in the bucket for this one tries anew:
 *
 *	waiter: lock; libc's too?  unlock; wait in the kernel while the word is 2
 *	here:   lock; libc's too; collect; unlock; wake them; libc gives it up
 */
void lock_with_libc(_Atomic uint32_t *word)
{
	struct task *t = task_self();
	struct list woken;

	runtime_enter(t);
	struct bucket *b = bucket_lock(word);
	b->is_libcs_too = true;
	collect_locked(b, word, INT32_MAX, ~0U, &woken);
	lock_release(&b->lock);
	wake_collected(&woken);
	runtime_leave(t);
}

void unlock_slow(_Atomic uint32_t *word)
{
	struct task *t = task_self();
	bool entered = enter_unless_inside(t);
	struct bucket *b = bucket_lock(word);
	struct waiter *w = leader_locked(b, word);
	bool kernel_too = elders_wait || b->is_libcs_too;

	if (w == NULL) {
		/* Pairs with the next holder's acquire. */
		store_release(word, 0);
	} else {
		dequeue_locked(b, w);
		/*
		 * Only who was late once: were all that have waited long granted it, a crowd
		 * would never end.  The lock would belong to one that is still to be run, so
		 * whoever runs meets it taken, waits long, and is granted it in turn.
		 */
		if (w->lost && now_ns() - w->since > STARVATION_NS) {
			w->granted = true;
			/* The word stays 2: others may wait, and the new owner finds out. */
		} else {
			store_release(word, 0);
		}
	}
	lock_release(&b->lock);
	if (w != NULL)
		wake_task(task_of_waiter(w));
	if (unlikely(kernel_too))
		sys_futex_wake(word, 1);
	if (entered)
		runtime_leave(t);
}

/* --- condition variables ----------------------------------------------------------- */

/*
 * A waiter that a handler of the program's interrupts leaves the queue, since the handler
 * may wait itself, and goes on waiting after it, as glibc's does: unless somebody was to be
 * signalled meanwhile.  It may have been this one, so then it comes back, spuriously.
 *
 *	waiter: lock; bucket's signals? interrupted; dequeue; unlock; handler;
 *		lock; still as many?  enqueue; unlock
 *	signal: fence; lock free?  chain empty?  never interrupted?
 *		else lock; count; collect; unlock
 *
 * Once a wait in this bucket has been interrupted, signals trust no empty chain any more:
 * between the looks the waiter could leave and be back.
 */
static bool resume_cond(struct task *t, const void *cond, _Atomic uint32_t *mutex_word,
			uint32_t seen)
{
	task_waits_for(t, WAIT_COND, cond);
	fresh_waiter(&t->wait);
	t->wait.mutex_word = mutex_word;
	struct bucket *b = bucket_lock(cond);
	bool goes_on = b->signals == seen;
	if (goes_on)
		enqueue_locked(b, &t->wait, cond, false);
	lock_release(&b->lock);
	return goes_on;
}

static int cond_result(struct task *t, int result)
{
	if (result == 0 && t->wait.granted)
		return COND_GRANTED;
	return t->wait.moved ? COND_MOVED : result;
}

void cond_park(const void *cond, _Atomic uint32_t *mutex_word, void (*release)(void *),
	       void *arg, ns_t deadline, int *result)
{
	struct task *t = task_self();

	runtime_enter(t);
	task_waits_for(t, WAIT_COND, cond);
	fresh_waiter(&t->wait);
	t->wait.mutex_word = mutex_word;
	struct bucket *b = bucket_lock(cond);
	enqueue_locked(b, &t->wait, cond, false);
	lock_release(&b->lock);
	release(arg);

	*result = cond_result(t, park_wait(t, deadline));
	while (*result == -EINTR) {
		uint32_t seen = t->wait.seen;

		runtime_leave(t);
		if (task_cancel_wanted(t))
			return;
		runtime_enter(t);
		if (!resume_cond(t, cond, mutex_word, seen))
			break;
		*result = cond_result(t, park_wait(t, deadline));
	}
	runtime_leave(t);
}

/*
 * A signalled waiter goes to the queue of its mutex if that is held, else it wakes.
 *
 *	here:   enqueue; fence; attention?  dequeue with -EINTR, and wake
 *	signal: set attention; fence; queued?  dequeue with -EINTR
 *
 * Since it left the condition's queue nobody could end its wait: who wanted it to look then
 * counts on it to be on its way, and it would not look before the mutex is given up.
 */
static void signal_waiter(struct waiter *w)
{
	struct task *t = task_of_waiter(w);
	_Atomic uint32_t *word = w->mutex_word;
	uint32_t held = 0;

	if (word != NULL) {
		struct bucket *b = bucket_lock(word);

		held = b->is_libcs_too ? 0 : load_relaxed(word);
		/* Whoever holds it must look for us when it lets go. */
		while (held != 0 && !cas_acq_rel(word, &held, 2))
			;
		if (held != 0) {
			w->moved = true;
			task_waits_for(t, WAIT_MUTEX, word);
			w->since = now_ns();
			enqueue_locked(b, w, word, false);
			/* Pairs with park_rouse(). */
			fence_seq_cst();
			if (unlikely(park_is_wanted(t))) {
				dequeue_locked(b, w);
				w->result = -EINTR;
				held = 0;
			}
		}
		lock_release(&b->lock);
	}
	if (held == 0)
		wake_task(t);
}

static bool nobody_is_signalled(const void *cond)
{
	/* Pairs with park_cancel(). */
	return nobody_waits(cond) && !load_acquire(&bucket_of(cond)->interrupted);
}

void cond_wake(const void *cond, int n)
{
	struct task *t = task_self();
	struct list signalled;

	if (nobody_is_signalled(cond))
		return;
	bool entered = enter_unless_inside(t);
	struct bucket *b = bucket_lock(cond);
	b->signals++;
	collect_locked(b, cond, n, ~0U, &signalled);
	lock_release(&b->lock);
	while (!list_empty(&signalled)) {
		struct waiter *w = container_of(signalled.next, struct waiter, chain);

		list_remove(&w->chain);
		signal_waiter(w);
	}
	if (entered)
		runtime_leave(t);
}

void park_fork_child(void)
{
	for (int i = 0; i < N_BUCKETS; i++) {
		buckets[i].lock.word = 0;
		buckets[i].chain.next = buckets[i].chain.prev = NULL;
	}
}
