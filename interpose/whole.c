/* SPDX-License-Identifier: MIT */
/*
 * whole.c: calls by the kernel door that answer with a part of what they were asked for when
 * any signal comes.
 *
 * One of ours comes whenever a worker has had its time, and natively none would: so the call
 * is made again for the rest, unless a handler of the program's ran, or a cancel is to act.
 * What is written to sockets and pipes goes on in its own way: attempt_may_go_on().
 */
#include "attempt.h"

#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

struct call {
	long nr, args[6];
	ns_t deadline; /* where the timeout is a length of time, and there is one */
	struct timespec left; /* till then: the timeout of what is made again */
};

/* Null, zero, random and their like, which alone break a read off for any signal. */
static bool is_memory_device(long fd)
{
	struct stat st = {0};

	return raw(SYS_fstat, fd, &st) == 0 && S_ISCHR(st.st_mode) &&
	       major(st.st_rdev) == MEMORY_DEVICES;
}

/* *buf and *size become those of what is left after r bytes. */
static bool bytes_are_left(long *buf, long *size, long r)
{
	if ((unsigned long)r >= (unsigned long)*size)
		return false;
	*buf += r;
	*size -= r;
	return true;
}

/* io_getevents: at least so many, at most so many, where to, how long. */
static bool events_are_left(struct call *c, long r)
{
	long *a = c->args;

	if (r >= a[1])
		return false;
	a[1] -= r;
	a[2] -= r;
	a[3] += r * (long)sizeof(struct io_event);
	if (a[4] == 0)
		return true;
	ns_t left = c->deadline - now_ns();
	if (left < 0)
		left = 0;
	c->left =
	    (struct timespec){.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000};
	a[4] = (long)&c->left;
	return true;
}

/* Whether c, which answered r, has a rest; then it has become the call for that. */
static bool has_rest(struct call *c, long r)
{
	long *a = c->args;

	if (r <= 0)
		return false;
	switch (c->nr) {
	case SYS_getrandom:
		return bytes_are_left(&a[0], &a[1], r);
	case SYS_read:
	case SYS_pread64:
		a[3] += r; /* pread's offset */
		return is_memory_device(a[0]) && bytes_are_left(&a[1], &a[2], r);
	case SYS_io_getevents:
	case SYS_io_pgetevents:
		return events_are_left(c, r);
	case SYS_io_uring_enter:
		/* All have been submitted, but the wait may have ended early. */
		if (r != a[1] || !(a[3] & IORING_ENTER_GETEVENTS))
			return false;
		a[1] = 0;
		return true;
	default:
		return false;
	}
}

static void note_deadline(struct call *c)
{
	const struct timespec *ts = (const struct timespec *)c->args[4];

	if ((c->nr == SYS_io_getevents || c->nr == SYS_io_pgetevents) && ts != NULL)
		c->deadline = deadline_in(timespec_ns(ts));
}

long kernel_whole(struct task *t, bool *begun, long nr, long a, long b, long c, long d,
		  long e, long f)
{
	struct call call = {.nr = nr, .args = {a, b, c, d, e, f}};
	uint32_t handlers = signal_handlers_run(t);
	const long *args = call.args;
	long done = 0, r;

	note_deadline(&call);
	for (;;) {
		r = kernel_try(begun, nr, args[0], args[1], args[2], args[3], args[4],
			       args[5]);
		if (likely(!kernel_was_cut(t) && done == 0))
			return r;
		if (signal_handlers_run(t) != handlers || task_cancel_wanted(t))
			break;
		if (done > 0 && r == -EINTR)
			continue;
		if (!kernel_was_cut(t) || !has_rest(&call, r))
			break;
		done += r;
	}
	return r >= 0 ? done + r : done > 0 ? done : r;
}
