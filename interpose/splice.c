/* SPDX-License-Identifier: MIT */
/*
 * splice.c: from descriptor to descriptor.
 *
 * The task parks until poll says that both ends are ready, and the call is then made by the
 * kernel door: it waits there if it finds less than it wants.  Of a file, only as much as
 * the socket that it goes to has room for is sent at a time, so that a slow reader does not
 * keep the kernel thread.
 */
#include "io.h"

#include <sys/sendfile.h>

struct ends {
	int in, out;
};

/* Waits for one end.  ATTEMPT_DOOR: it is ready, or cannot be waited for. */
static long ask_once(struct attempt *a, void *call)
{
	(void)call;
	return attempt_is_refused(a) ? -EAGAIN : attempt_ask(a);
}

static long wait_for_end(struct task *t, bool is_point, int fd, short events)
{
	struct attempt a;
	long r;

	attempt_begin(&a, t, fd, events, is_point);
	r = attempt_run(&a, ask_once, NULL);
	return r == ATTEMPT_DOOR ? 0 : attempt_end(&a, r);
}

static bool is_ready(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};
	struct timespec none = {0};

	return raw(SYS_ppoll, &p, 1, &none) != 0;
}

/* Until both are ready.  0, or -E; -EAGAIN: one of them has O_NONBLOCK or a timeout, and the
 * call itself shall say so. */
static long wait_for_both(struct task *t, bool is_point, struct ends e)
{
	long r;

	do {
		r = wait_for_end(t, is_point, e.in, POLLIN);
		if (r == 0)
			r = wait_for_end(t, is_point, e.out, POLLOUT);
	} while (r == 0 && !is_ready(e.in, POLLIN));
	return r == -EAGAIN ? 0 : r;
}

/* --- sendfile ---------------------------------------------------------------------------- */

/* Poll reports room when a third of a stream's buffer is free. */
static size_t room_of(int out)
{
	int size = 0;
	socklen_t len = sizeof(size);

	if (raw(SYS_getsockopt, out, SOL_SOCKET, SO_SNDBUF, &size, &len) < 0 || size <= 0)
		return MOST_AT_ONCE;
	return size / 4 > 4096 ? (size_t)size / 4 : 4096;
}

static long send_file(struct task *t, int out, int in, off_t *offset, size_t n)
{
	struct attempt whole;
	bool is_cut = false;
	size_t done = 0;
	long r;

	attempt_begin(&whole, t, out, POLLOUT, false);
	attempt_kind(&whole);
	do {
		size_t part = n - done;

		r = is_cut || n == 0 ? 0 : wait_for_end(t, false, out, POLLOUT);
		if (r < 0 && r != -EAGAIN)
			break;
		size_t room = room_of(out);
		if (part > room)
			part = room;
		r = attempt_by_door(t, false, out, POLLOUT, SYS_sendfile, in,
				    (long)offset, (long)part, 0, 0);
		if (r > 0)
			done += (size_t)r;
		/* A pipe takes what it has room for.  To a socket less went at the file's
		 * end, for a handler, or for our own signal: then again, and at once, since at
		 * the end nobody waits for the socket. */
		is_cut = r > 0 && r < (long)part;
		if (r <= 0 || (is_cut && !(whole.is_socket && attempt_may_go_on(&whole))))
			break;
	} while (done < n);
	return done > 0 ? (long)done : r;
}

/* No cancellation point in glibc. */
EXPORT ssize_t sendfile(int out, int in, off_t *offset, size_t n)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.sendfile(out, in, offset, n);
	return ret_errno(send_file(t, out, in, offset, n));
}
ALIAS(sendfile64, sendfile);

/* --- pipes ------------------------------------------------------------------------------ */

/* What the kernel answers before it waits: that there is nothing to do, or nothing that it
 * knows how to. */
static bool never_waits(size_t n, unsigned flags)
{
	const unsigned known =
	    SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT;

	return n == 0 || (flags & SPLICE_F_NONBLOCK) || (flags & ~known);
}

EXPORT ssize_t splice(int in, off64_t *in_offset, int out, off64_t *out_offset, size_t n,
		      unsigned flags)
{
	struct task *t = task_self();
	long r = 0;

	if (t == NULL)
		return real.splice(in, in_offset, out, out_offset, n, flags);
	if (!never_waits(n, flags))
		r = wait_for_both(t, true, (struct ends){in, out});
	if (r == 0)
		r = attempt_by_door(t, true, in, POLLIN, SYS_splice, (long)in_offset, out,
				    (long)out_offset, (long)n, flags);
	return ret_errno(r);
}

EXPORT ssize_t tee(int in, int out, size_t n, unsigned flags)
{
	struct task *t = task_self();
	long r = 0;

	if (t == NULL)
		return real.tee(in, out, n, flags);
	if (!never_waits(n, flags))
		r = wait_for_both(t, true, (struct ends){in, out});
	if (r == 0)
		r = attempt_by_door(t, true, in, POLLIN, SYS_tee, out, (long)n, flags, 0,
				    0);
	return ret_errno(r);
}

/* One end of a pipe: whichever it is, only that is ever reported. */
EXPORT ssize_t vmsplice(int fd, const struct iovec *v, size_t n, unsigned flags)
{
	struct task *t = task_self();
	long r = 0;

	if (t == NULL)
		return real.vmsplice(fd, v, n, flags);
	if (!never_waits(n, flags))
		r = wait_for_end(t, true, fd, POLLIN | POLLOUT);
	if (r == 0 || r == -EAGAIN)
		r = attempt_by_door(t, true, fd, POLLOUT, SYS_vmsplice, (long)v, (long)n,
				    flags, 0, 0);
	return ret_errno(r);
}

/* Files alone. */
EXPORT ssize_t copy_file_range(int in, off64_t *in_offset, int out, off64_t *out_offset,
			       size_t n, unsigned flags)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.copy_file_range(in, in_offset, out, out_offset, n, flags);
	return ret_errno(attempt_by_door(t, true, in, POLLIN, SYS_copy_file_range,
					 (long)in_offset, out, (long)out_offset, (long)n,
					 flags));
}
