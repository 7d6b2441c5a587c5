/* SPDX-License-Identifier: MIT */
/*
 * netpoll.c: door 2, waiting on descriptors; after Go's netpoll.go and netpoll_epoll.go.
 *
 * One epoll descriptor for the process.  Each descriptor number that was ever waited on has
 * a record with the tasks that wait.  Go registers a descriptor once, edge-triggered, and
 * trusts that it owns it.  We own none: the program closes and replaces descriptors, in
 * ways that we do not see.  So a registration is never believed in: each wait arms it
 * anew with EPOLLONESHOT (MOD, or ADD where MOD says ENOENT), and epoll says at once if the
 * descriptor is ready already.  An event that belongs to a file that is gone wakes somebody
 * for nothing, who tries, and waits again.
 *
 *	waiter: lock record; enqueue; arm for all that wait; unlock; leave the stack
 *	poller: event; lock record; take those it concerns; unlock; make them runnable
 *
 * An event disarms.  Of the tasks that wait alone (in read, in accept) for the same thing
 * one is woken, and while others wait it arms again when it runs: the file is still ready
 * if it did not take all, and then the next one's turn comes.  Nobody else does: so a
 * hundred tasks in accept() are not woken by one connection.  Those that look on (in
 * poll()) are all woken.
 *
 * To signals, cancels and deadlines a waiter is one that sleeps: it is queued at its own
 * word in a bucket of park.c, and whoever takes it out of there wakes it.  The poller does
 * that under the record's lock, which the waiter must take before it goes on: so it never
 * wakes a task from a later wait.
 *
 * Who polls: an idle worker, for as long as there is nothing to run (sched.c); one that
 * runs out of work, without waiting; and sysmon, when all are busy.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "runtime.h"

enum {
	CHUNK = 1024, /* records allocated together: 64 KiB */
	N_CHUNKS = 1024,
	EVENTS_MOST = 128, /* taken from the kernel at once, as Go's netpoll() */
	/* Our descriptors lie about here: the lowest free numbers are the program's, which
	 * may count on them; far higher ones would make the kernel's table, and each fork,
	 * large. */
	OURS_FROM = 1000,
	WAITERS_ON_STACK = 8,
};

struct fd_record {
	struct lock lock;
	_Atomic uint32_t generation; /* closings that we know of; lock, read without */
	struct list waiters;         /* oldest first; lock; NULL pointers: never used */
	bool registered;       /* epoll may know it: which call to try first; lock */
	_Atomic uint16_t hint; /* interpose's */
} __attribute__((aligned(CACHE_LINE)));

/* One task's wait for one descriptor; on the stack of the task. */
struct fd_waiter {
	struct list link;         /* in the record's waiters; its lock */
	struct fd_record *record; /* where it is queued, or NULL; its lock */
	struct task *task;
	uint32_t events;
	bool alone; /* one of those is enough for an event */
};

static struct {
	struct lock lock; /* starting */
	_Atomic bool live;
	/* -1: none.  Written while starting. */
	_Atomic int epoll_fd;
	_Atomic int wake_fd; /* an eventfd: ends the poller's sleep */
	struct fd_record *_Atomic chunks[N_CHUNKS];
	bool no_nanoseconds; /* no epoll_pwait2 (5.11), or no leave to use it */
} net = {.epoll_fd = -1, .wake_fd = -1};

/* --- records ----------------------------------------------------------------------- */

static struct fd_record *chunk_make(struct fd_record *_Atomic *at)
{
	size_t size = CHUNK * sizeof(struct fd_record);
	struct fd_record *none = NULL;
	long p = sys(SYS_mmap, 0, size, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p < 0 && p > -4096)
		return NULL;
	/* Pairs with record_known(). */
	if (!cas_acq_rel(at, &none, (struct fd_record *)p)) {
		sys(SYS_munmap, p, size);
		return none;
	}
	return (struct fd_record *)p;
}

/* The record of fd if there is one. */
static struct fd_record *record_known(unsigned fd)
{
	if (fd >= CHUNK * N_CHUNKS)
		return NULL;
	/* Pairs with chunk_make(). */
	struct fd_record *chunk = load_acquire(&net.chunks[fd / CHUNK]);

	return chunk != NULL ? &chunk[fd % CHUNK] : NULL;
}

/* The record of fd; NULL: no descriptor, too high a number, or no memory. */
static struct fd_record *record_of(int fd)
{
	struct fd_record *r = record_known((unsigned)fd);

	if (likely(r != NULL) || (unsigned)fd >= CHUNK * N_CHUNKS)
		return r;
	r = chunk_make(&net.chunks[fd / CHUNK]);
	return r != NULL ? &r[fd % CHUNK] : NULL;
}

static void record_lock(struct fd_record *r)
{
	lock_acquire(&r->lock);
	if (unlikely(r->waiters.next == NULL))
		list_init(&r->waiters);
}

uint32_t fd_generation(int fd)
{
	struct fd_record *r = record_of(fd);

	return r != NULL ? load_relaxed(&r->generation) : 0;
}

_Atomic uint16_t *fd_hint(int fd)
{
	struct fd_record *r = record_of(fd);

	return r != NULL ? &r->hint : NULL;
}

bool fd_is_ours(int fd)
{
	return fd >= 0 && (fd == load_relaxed(&net.epoll_fd) ||
			   fd == load_relaxed(&net.wake_fd) || fd == uring_fd());
}

/* --- waking ------------------------------------------------------------------------ */

/* Ends w's wait with result; if that makes its task runnable it is put on *chain.  The
 * record is locked. */
static void take_locked(struct fd_waiter *w, int result, struct task **chain)
{
	list_remove(&w->link);
	w->record = NULL;
	if (!park_take(w->task, result))
		return;
	store_relaxed(&w->task->next, *chain);
	*chain = w->task;
}

/* What all that wait for r want to hear of, but for the bits of without. */
static uint32_t wanted_locked(struct fd_record *r, uint32_t without)
{
	uint32_t events = 0;

	for (struct list *l = r->waiters.next; l != &r->waiters; l = l->next)
		events |= container_of(l, struct fd_waiter, link)->events;
	return events & ~without;
}

/* Arms fd for events, once.  0 or -E. */
static int arm_locked(struct fd_record *r, int fd, uint32_t events)
{
	struct epoll_event ev = {.events = events | EPOLLONESHOT,
				 .data.u64 = (uint32_t)fd};
	int epoll_fd = load_relaxed(&net.epoll_fd);
	long e;

	/* At most twice each: nobody else registers this number. */
	for (int i = 0; i < 4; i++) {
		e = sys(SYS_epoll_ctl, epoll_fd,
			r->registered ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &ev);
		if (e != -ENOENT && e != -EEXIST)
			break;
		r->registered = e == -EEXIST;
	}
	if (e == 0)
		r->registered = true;
	return (int)e;
}

/* Takes those whom an event on fd concerns. */
static void deliver(int fd, uint32_t got, struct task **chain)
{
	struct fd_record *r = record_known((unsigned)fd);
	uint32_t given = 0;

	if (r == NULL)
		return;
	bool over = (got & (EPOLLERR | EPOLLHUP)) != 0;
	record_lock(r);
	for (struct list *l = r->waiters.next, *next; l != &r->waiters; l = next) {
		struct fd_waiter *w = container_of(l, struct fd_waiter, link);
		uint32_t hit = over ? w->events : w->events & got;

		next = l->next;
		if (hit == 0 || (w->alone && !over && (hit & ~given) == 0))
			continue;
		if (w->alone)
			given |= hit;
		take_locked(w, 0, chain);
	}
	/* What was given is armed again by who got it. */
	uint32_t rest = wanted_locked(r, given);
	if (rest != 0)
		arm_locked(r, fd, rest);
	lock_release(&r->lock);
}

/* --- starting ----------------------------------------------------------------------- */

int netpoll_own(int fd)
{
	struct rlimit64 limit = {0};
	unsigned from = OURS_FROM;

	if (fd < 0)
		return fd;
	sys(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &limit);
	if (limit.rlim_cur < OURS_FROM + 24)
		from = limit.rlim_cur > 24 ? (unsigned)limit.rlim_cur - 24 : 0;
	int high = (int)sys(SYS_fcntl, fd, F_DUPFD_CLOEXEC, from);
	if (high < 0)
		return fd;
	sys(SYS_close, fd);
	return high;
}

void netpoll_prepare(void)
{
	int fd = netpoll_own((int)sys(SYS_eventfd2, 0, EFD_CLOEXEC));

	if (fd >= 0)
		sys(SYS_close, fd);
}

/* As long as fd is readable each poll tells it. */
static bool watch(int epoll_fd, int fd)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = (uint32_t)fd};

	return sys(SYS_epoll_ctl, epoll_fd, EPOLL_CTL_ADD, fd, &ev) == 0;
}

static bool start_locked(void)
{
	int ep = netpoll_own((int)sys(SYS_epoll_create1, EPOLL_CLOEXEC));
	int wake = netpoll_own((int)sys(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK));

	if (ep >= 0 && wake >= 0 && watch(ep, wake)) {
		store_relaxed(&net.epoll_fd, ep);
		store_relaxed(&net.wake_fd, wake);
		if (uring_fd() >= 0)
			watch(ep, uring_fd());
		/* Pairs with netpoll_is_live(). */
		store_release(&net.live, true);
		return true;
	}
	if (ep >= 0)
		sys(SYS_close, ep);
	if (wake >= 0)
		sys(SYS_close, wake);
	return false;
}

/* Whether there is a netpoller, now if not before. */
static bool start(void)
{
	bool ok = true;

	if (likely(netpoll_is_live()))
		return true;
	lock_acquire(&net.lock);
	bool first = !netpoll_is_live();
	if (first)
		ok = start_locked();
	lock_release(&net.lock);
	/* A worker that sleeps for the next timer shall sleep in epoll from now on. */
	if (first && ok)
		sched_wake_poller();
	return ok;
}

bool netpoll_watch(int fd)
{
	return start() && watch(load_relaxed(&net.epoll_fd), fd);
}

bool netpoll_is_live(void)
{
	/* Pairs with start_locked(). */
	return load_acquire(&net.live);
}

/* The program has closed what is ours, by ways that we do not see: begins anew, and has all
 * waiters look again. */
static void begin_anew(int lost, struct task **chain)
{
	bool ok = true;

	lock_acquire(&net.lock);
	if (load_relaxed(&net.epoll_fd) == lost) {
		/* They may be the program's numbers now: not to be closed. */
		ok = start_locked();
	}
	lock_release(&net.lock);
	if (!ok)
		fatal("the program has closed the netpoller's descriptors", lost);
	for (int fd = 0; fd < CHUNK * N_CHUNKS; fd++) {
		struct fd_record *r = record_known((unsigned)fd);

		if (r == NULL) {
			fd |= CHUNK - 1;
			continue;
		}
		record_lock(r);
		r->registered = false;
		while (!list_empty(&r->waiters))
			take_locked(container_of(r->waiters.next, struct fd_waiter, link),
				    0, chain);
		lock_release(&r->lock);
	}
}

static bool is_lost(int epoll_fd)
{
	int wake_fd = load_relaxed(&net.wake_fd);
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = (uint32_t)wake_fd};

	/* It is registered, so an error means that one of them is not ours any more. */
	return sys(SYS_epoll_ctl, epoll_fd, EPOLL_CTL_MOD, wake_fd, &ev) != 0;
}

void netpoll_fork_child(void)
{
	/* They are the parent's as well: what the child did to them it would feel. */
	if (load_relaxed(&net.epoll_fd) >= 0) {
		sys(SYS_close, load_relaxed(&net.epoll_fd));
		sys(SYS_close, load_relaxed(&net.wake_fd));
	}
	store_relaxed(&net.epoll_fd, -1);
	store_relaxed(&net.wake_fd, -1);
	store_relaxed(&net.live, false);
	net.lock.word = 0;
	for (int i = 0; i < N_CHUNKS; i++)
		if (load_relaxed(&net.chunks[i]) != NULL)
			sys(SYS_madvise, load_relaxed(&net.chunks[i]),
			    CHUNK * sizeof(struct fd_record), MADV_DONTNEED);
}

/* --- polling ------------------------------------------------------------------------ */

static long wait_for_events(int epoll_fd, struct epoll_event *events, ns_t until)
{
	struct timespec ts, *timeout = NULL;
	ns_t left = 0;

	if (until != NO_DEADLINE && until != 0) {
		left = until - now_ns();
		if (left < 0)
			left = 0;
	}
	if (until != NO_DEADLINE) {
		ts = ns_timespec(left);
		timeout = &ts;
	}
	if (until != 0 && !net.no_nanoseconds) {
		long n = sys(SYS_epoll_pwait2, epoll_fd, events, EVENTS_MOST, timeout,
			     NULL, KERNEL_SIGSET_SIZE);
		/* A seccomp filter that has not heard of it says EPERM, which it itself never
		 * does. */
		if (n != -ENOSYS && n != -EPERM)
			return n;
		net.no_nanoseconds = true;
	}
	int ms = until == NO_DEADLINE ? -1 : (int)((left + 999999) / 1000000);
	return sys(SYS_epoll_wait, epoll_fd, events, EVENTS_MOST, ms);
}

struct task *netpoll(ns_t until)
{
	struct epoll_event events[EVENTS_MOST];
	int epoll_fd = load_relaxed(&net.epoll_fd), wake_fd = load_relaxed(&net.wake_fd);
	struct task *chain = NULL;
	long n = wait_for_events(epoll_fd, events, until);
	uint64_t wakes;

	store_relaxed(&sched.last_poll, now_ns());
	if (unlikely(n < 0)) {
		if (n != -EINTR && is_lost(epoll_fd))
			begin_anew(epoll_fd, &chain);
		return chain;
	}
	/* From the last to the first: the chain is then in the kernel's order. */
	for (long i = n - 1; i >= 0; i--) {
		int fd = (int)events[i].data.u64;

		if (fd == uring_fd())
			uring_reap(&chain);
		else if (fd != wake_fd)
			deliver(fd, events[i].events, &chain);
		else if (until != 0) /* else it is the sleeper's to read */
			sys(SYS_read, wake_fd, &wakes, sizeof(wakes));
	}
	return chain;
}

void netpoll_wake(void)
{
	const uint64_t one = 1;

	sys(SYS_write, load_relaxed(&net.wake_fd), &one, sizeof(one));
}

/* --- waiting ------------------------------------------------------------------------ */

/* Queues w for fd and arms it.  0 or what arm_locked() says.  Inside the runtime. */
static int enqueue(struct fd_waiter *w, struct fd_record *r, int fd, uint32_t generation)
{
	int e;

	record_lock(r);
	if (load_relaxed(&r->generation) != generation) {
		lock_release(&r->lock);
		return -EBADF;
	}
	list_push_back(&r->waiters, &w->link);
	w->record = r;
	e = arm_locked(r, fd, wanted_locked(r, 0));
	if (unlikely(e < 0)) {
		list_remove(&w->link);
		w->record = NULL;
	}
	lock_release(&r->lock);
	return e;
}

/* The waiter is done: nobody will touch it any more.  Inside the runtime. */
static void dequeue(struct fd_waiter *w, struct fd_record *r, int fd)
{
	record_lock(r);
	if (w->record != NULL) {
		list_remove(&w->link);
	} else if (!list_empty(&r->waiters)) {
		/* It was given an event, which may be somebody else's as well. */
		arm_locked(r, fd, wanted_locked(r, 0));
	}
	lock_release(&r->lock);
}

/* The error of a descriptor that could not be armed, for the caller. */
static int arm_error(int e, struct task **chain)
{
	int epoll_fd = load_relaxed(&net.epoll_fd);

	switch (e) {
	case -EBADF:
		if (!is_lost(epoll_fd))
			return e;
		begin_anew(epoll_fd, chain);
		return 0;
	case -ENOMEM:
	case -ENOSPC: /* more than fs.epoll.max_user_watches */
		return -ENOMEM;
	default: /* EPERM; ELOOP and EINVAL of epoll descriptors in one another */
		return -EPERM;
	}
}

/* Enters the runtime for a wait here; NULL, and outside, for a bound task. */
static struct worker *enter_to_wait(struct task *t)
{
	struct worker *w = runtime_enter(t);

	if (likely(!is_bound(t)))
		return w;
	runtime_leave(t);
	return NULL;
}

int fd_wait(int fd, short events, uint32_t generation, ns_t deadline)
{
	struct task *t = task_self();
	struct fd_record *r = record_of(fd);
	struct fd_waiter w = {.task = t, .events = (uint16_t)events, .alone = true};
	struct task *chain = NULL;

	if (r == NULL || !start())
		return -EPERM;
	struct worker *worker = enter_to_wait(t);
	if (unlikely(worker == NULL))
		return -EPERM;
	store_relaxed(&t->wait_fd, fd);
	store_relaxed(&t->wait_events, events);
	park_queue(t);
	int e = enqueue(&w, r, fd, generation);
	if (unlikely(e < 0)) {
		if (load_relaxed(&r->generation) == generation)
			e = arm_error(e, &chain);
		park_cancel(t, e);
		sched_push_chain(worker, chain);
	}
	int result = park_wait(t, deadline);
	if (likely(e == 0))
		dequeue(&w, r, fd);
	store_relaxed(&t->wait_fd, -1);
	runtime_leave(t);
	return result;
}

/* Queues the caller everywhere, until one is ready, or one cannot be waited for: that ends the
 * wait with its -E.  Returns how many of fds it has been through. */
static unsigned enqueue_all(struct fd_waiter *ws, const struct pollfd *fds, unsigned n,
			    struct task *t, struct task **chain)
{
	unsigned i;

	for (i = 0; i < n; i++) {
		struct fd_waiter *w = &ws[i];

		*w = (struct fd_waiter){.task = t, .events = (uint16_t)fds[i].events};
		if (fds[i].fd < 0)
			continue;
		struct fd_record *r = record_of(fds[i].fd);
		if (unlikely(r == NULL)) {
			park_cancel(t, -EPERM);
			return i;
		}
		int e = enqueue(w, r, fds[i].fd, load_relaxed(&r->generation));
		if (unlikely(e < 0)) {
			e = arm_error(e, chain);
			/* Closed just now: the caller looks again and sees it. */
			park_cancel(t, e == -EBADF ? 0 : e);
		}
		/* Pairs with park_take(): no need to go on. */
		if (load_acquire(&t->park) != PARK_RUNNING)
			return i + 1;
	}
	return i;
}

static int wait_for_all(struct worker *worker, struct task *t, struct fd_waiter *ws,
			const struct pollfd *fds, unsigned n, ns_t deadline)
{
	struct task *chain = NULL;

	store_relaxed(&t->wait_fd, fds[0].fd);
	store_relaxed(&t->wait_events, fds[0].events);
	t->wait_fds = fds;
	t->n_wait_fds = n;
	park_queue(t);
	unsigned used = enqueue_all(ws, fds, n, t, &chain);
	if (unlikely(chain != NULL))
		sched_push_chain(worker, chain);
	int result = park_wait(t, deadline);
	for (unsigned i = 0; i < used; i++)
		if (fds[i].fd >= 0)
			dequeue(&ws[i], record_known((unsigned)fds[i].fd), fds[i].fd);
	store_relaxed(&t->wait_fd, -1);
	t->n_wait_fds = 0;
	return result;
}

int fds_wait(const struct pollfd *fds, unsigned n, ns_t deadline)
{
	struct fd_waiter few[WAITERS_ON_STACK], *ws = few;
	struct task *t = task_self();
	size_t size = n * sizeof(*ws);
	int result = -ENOMEM;

	if (n == 0 || !start())
		return -EPERM;
	struct worker *worker = enter_to_wait(t);
	if (unlikely(worker == NULL))
		return -EPERM;
	/* Made and gone inside the runtime: a handler or a cancel, which may never return, runs
	 * when the task leaves it. */
	if (n > WAITERS_ON_STACK) {
		long p = sys(SYS_mmap, 0, size, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		ws = p < 0 && p > -4096 ? NULL : (struct fd_waiter *)p;
	}
	if (ws != NULL)
		result = wait_for_all(worker, t, ws, fds, n, deadline);
	if (ws != NULL && ws != few)
		sys(SYS_munmap, ws, size);
	runtime_leave(t);
	return result;
}

/* --- closing ------------------------------------------------------------------------ */

/* Ends all waits for fd, and with count says that the number is another file's from now on. */
static void end_waits(struct fd_record *r, bool count, struct task **chain)
{
	record_lock(r);
	if (count) {
		store_relaxed(&r->generation, load_relaxed(&r->generation) + 1);
		store_relaxed(&r->hint, 0);
		r->registered = false;
	}
	while (!list_empty(&r->waiters)) {
		struct fd_waiter *w =
		    container_of(r->waiters.next, struct fd_waiter, link);

		take_locked(w, count && w->alone ? -EBADF : 0, chain);
	}
	lock_release(&r->lock);
}

/* Without the lock: who waits for fd since before it was closed is seen. */
static bool has_waiters(struct fd_record *r)
{
	struct list *first = *(struct list *volatile *)&r->waiters.next;

	return first != NULL && first != &r->waiters;
}

static void end_waits_of(unsigned first, unsigned last, bool count)
{
	struct task *t = task_self(), *chain = NULL;

	if (last >= CHUNK * N_CHUNKS)
		last = CHUNK * N_CHUNKS - 1;
	struct worker *w = runtime_enter(t);
	for (unsigned fd = first; fd <= last; fd++) {
		struct fd_record *r = record_known(fd);

		if (r == NULL)
			fd |= CHUNK - 1;
		else if (count || has_waiters(r))
			end_waits(r, count, &chain);
	}
	/* The caller goes on, and a bound one has no queue that anybody comes to. */
	if (chain != NULL && sched_push_chain(w, chain) > 0)
		sched_kick();
	runtime_leave(t);
}

void fds_closing(unsigned first, unsigned last)
{
	end_waits_of(first, last, true);
}

void fds_closed(unsigned first, unsigned last)
{
	/* Who came between was armed for the file that is gone: it shall look again. */
	end_waits_of(first, last, false);
}
