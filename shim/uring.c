/* SPDX-License-Identifier: MIT */
/*
 * uring.c: reads from the disk that park the task instead of going through the kernel door.
 *
 * A read that the page cache cannot serve blocks for some 100 us: long enough to hand the
 * processor off, and so short that the hand-off, two kernel threads woken for each read, costs
 * more than the read.  Measured with 64 threads that read 4 KiB each at random from 2 GB
 * (docs/ARCHITECTURE.md has the figures): by the door 0.55 of native's rate, by io_uring as
 * native, on GOMAXPROCS kernel threads.
 *
 * One ring for the process, made when it is first wanted.  Who reads submits for itself and
 * parks; the poller sees the ring's descriptor become readable, and hands out what has
 * ended.  The wait cannot be interrupted, since the kernel writes into the caller's memory;
 * nor can native's.
 *
 * An error of a request may be the ring's own: the kernel cancels what an ending kernel
 * thread has submitted.  So the caller makes the call again by the door, whose error counts.
 */
#include <errno.h>
#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "runtime.h"

enum { ENTRIES = 256, CQ_ENTRIES = 4096 };

/* One read; on the stack of its task, which stays until it has ended. */
struct request {
	struct task *task;
	_Atomic bool ended;
	int result;
};

static struct {
	struct lock lock; /* starting, filling in requests, handing out results */
	bool tried;       /* starting it; lock */
	_Atomic int fd;   /* -1: none */
	_Atomic uint32_t in_flight;
	_Atomic uint32_t *sq_head, *sq_tail, *cq_head, *cq_tail;
	uint32_t *sq_array;
	uint32_t sq_mask, cq_mask;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
	void *rings;
	size_t rings_size;
} ring = {.fd = -1};

/* --- starting ----------------------------------------------------------------------- */

static void *map_ring(int fd, size_t size, long offset)
{
	long p = sys(SYS_mmap, 0, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);

	return p < 0 && p > -4096 ? NULL : (void *)p;
}

static bool map_locked(int fd, const struct io_uring_params *p)
{
	size_t size = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
	size_t sq_size = p->sq_off.array + p->sq_entries * sizeof(uint32_t);
	char *at;

	ring.rings_size = size > sq_size ? size : sq_size;
	ring.rings = at = map_ring(fd, ring.rings_size, IORING_OFF_SQ_RING);
	if (at == NULL)
		return false;
	ring.sqes =
	    map_ring(fd, p->sq_entries * sizeof(struct io_uring_sqe), IORING_OFF_SQES);
	if (ring.sqes == NULL)
		return false;
	ring.sq_head = (_Atomic uint32_t *)(at + p->sq_off.head);
	ring.sq_tail = (_Atomic uint32_t *)(at + p->sq_off.tail);
	ring.sq_array = (uint32_t *)(at + p->sq_off.array);
	ring.sq_mask = p->sq_entries - 1;
	ring.cq_head = (_Atomic uint32_t *)(at + p->cq_off.head);
	ring.cq_tail = (_Atomic uint32_t *)(at + p->cq_off.tail);
	ring.cqes = (struct io_uring_cqe *)(at + p->cq_off.cqes);
	ring.cq_mask = p->cq_entries - 1;
	return true;
}

/* Kernels before 5.5, and those where it is forbidden, have the door. */
static void start_locked(void)
{
	struct io_uring_params p = {.flags = IORING_SETUP_CQSIZE,
				    .cq_entries = CQ_ENTRIES};
	const uint32_t needed =
	    IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE;

	ring.tried = true;
	int fd = netpoll_own((int)sys(SYS_io_uring_setup, ENTRIES, &p));
	if (fd < 0)
		return;
	if ((p.features & needed) != needed || !map_locked(fd, &p) ||
	    !netpoll_watch(fd)) {
		sys(SYS_close, fd);
		return;
	}
	/* Pairs with is_live(): all of the above is there. */
	store_release(&ring.fd, fd);
}

static bool is_live(void)
{
	/* Pairs with start_locked(). */
	return load_acquire(&ring.fd) >= 0;
}

static bool start(void)
{
	if (likely(is_live()))
		return true;
	if (ring.tried) /* a hint: once set it stays */
		return false;
	lock_acquire(&ring.lock);
	if (!ring.tried)
		start_locked();
	lock_release(&ring.lock);
	return is_live();
}

int uring_fd(void)
{
	return load_relaxed(&ring.fd);
}

void uring_fork_child(void)
{
	/* The memory is shared with the parent, whose requests it holds. */
	if (is_live()) {
		sys(SYS_munmap, ring.rings, ring.rings_size);
		sys(SYS_munmap, ring.sqes, ENTRIES * sizeof(struct io_uring_sqe));
		sys(SYS_close, load_relaxed(&ring.fd));
	}
	store_relaxed(&ring.fd, -1);
	store_relaxed(&ring.in_flight, 0);
	ring.tried = false;
	ring.lock.word = 0;
}

/* --- results ------------------------------------------------------------------------ */

void uring_reap(struct task **chain)
{
	lock_acquire(&ring.lock);
	uint32_t head = load_relaxed(ring.cq_head);
	/* Pairs with the kernel, which fills in what it puts there. */
	for (; head != load_acquire(ring.cq_tail); head++) {
		struct io_uring_cqe *cqe = &ring.cqes[head & ring.cq_mask];
		struct request *r = (struct request *)(uintptr_t)cqe->user_data;
		struct task *t = r->task;

		r->result = cqe->res;
		/* Pairs with wait_for(): it sees the result. */
		store_release(&r->ended, true);
		if (park_take(t, 0)) {
			store_relaxed(&t->next, *chain);
			*chain = t;
		}
		add_relaxed(&ring.in_flight, -1);
	}
	/* Pairs with the kernel: the entries may be used again. */
	store_release(ring.cq_head, head);
	lock_release(&ring.lock);
}

/* Hands out what has ended by now, without asking the kernel. */
static void reap_here(struct worker *w)
{
	struct task *chain = NULL;

	uring_reap(&chain);
	if (chain != NULL && sched_push_chain(w, chain) > 0)
		sched_kick();
}

/* --- requests ----------------------------------------------------------------------- */

static bool fill_in(struct request *r, int fd, const struct iovec *v, int n,
		    int64_t offset)
{
	lock_acquire(&ring.lock);
	uint32_t tail = load_relaxed(ring.sq_tail);
	/* Pairs with the kernel: it has read what was there.  Both queues have room. */
	bool room = tail - load_acquire(ring.sq_head) <= ring.sq_mask &&
		    load_relaxed(&ring.in_flight) < CQ_ENTRIES;
	if (room) {
		uint32_t at = tail & ring.sq_mask;

		ring.sqes[at] = (struct io_uring_sqe){
		    .opcode = IORING_OP_READV,
		    .fd = fd,
		    .addr = (uintptr_t)v,
		    .len = (uint32_t)n,
		    .off = (uint64_t)offset,
		    .user_data = (uintptr_t)r,
		};
		ring.sq_array[at] = at;
		add_relaxed(&ring.in_flight, 1);
		/* Pairs with the kernel. */
		store_release(ring.sq_tail, tail + 1);
	}
	lock_release(&ring.lock);
	return room;
}

/* One of those that were filled in, its own or another's, whose submitter then takes ours. */
static void submit(struct worker *w)
{
	long r;

	while ((r = sys(SYS_io_uring_enter, load_relaxed(&ring.fd), 1, 0, 0, NULL, 0)) <
	       0) {
		if (r != -EAGAIN && r != -EBUSY && r != -EINTR)
			fatal("io_uring", r);
		reap_here(w);
		cpu_relax();
	}
}

/* Parks, whatever signals come, until r, a read of fd, has ended. */
static void wait_for(struct task *t, struct request *r, int fd)
{
	store_relaxed(&t->wait_fd, fd);
	t->wait.deadline = NO_DEADLINE;
	for (;;) {
		park_queue(t);
		task_waits_for(t, WAIT_DISK, NULL);
		/* Pairs with uring_reap(): it finds the waiter, or we its end. */
		if (load_acquire(&r->ended))
			park_cancel(t, 0);
		sched_park(t, NO_DEADLINE);
		if (load_acquire(&r->ended))
			break;
	}
	store_relaxed(&t->wait_fd, -1);
}

long disk_read(int fd, const struct iovec *v, int n, int64_t offset)
{
	struct task *t = task_self();
	struct request r = {.task = t};

	if (is_bound(t) || !start())
		return -ENOSYS;
	struct worker *w = runtime_enter(t);
	bool submitted = fill_in(&r, fd, v, n, offset);
	if (submitted) {
		submit(w);
		reap_here(w);
		if (!load_acquire(&r.ended))
			wait_for(t, &r, fd);
		/* Who saw that it has ended may still be about to wake us, by way of r: never
		 * from a later wait. */
		lock_acquire(&ring.lock);
		lock_release(&ring.lock);
	}
	runtime_leave(t);
	return submitted && r.result >= 0 ? r.result : -ENOSYS;
}
