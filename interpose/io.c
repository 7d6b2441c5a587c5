/* SPDX-License-Identifier: MIT */
/*
 * io.c: reading and writing.
 *
 * What other tasks or processes let wait, sockets, pipes and devices, parks the task (door
 * 2).  Files go through the kernel door at once: it costs a few stores where the page is in
 * memory, and nobody waits behind it where the disk is asked.  RWF_NOWAIT would save those
 * stores, and give up what the kernel promises: a read that found half of its pages in
 * memory would have to go on with a second call, and another task that reads the same open
 * file could get what lies between.  Reading at an offset, which has no such trouble, is
 * offset.c's.
 */
#include "io.h"

#include <sys/eventfd.h>
#include <sys/ioctl.h>

/* --- reading -------------------------------------------------------------------------- */

/* One whose read() may return before it is ready, when its time is up. */
static bool is_timed_terminal(int fd)
{
	struct termios tty = {0};

	return raw(SYS_ioctl, fd, TCGETS, &tty) == 0 && !(tty.c_lflag & ICANON) &&
	       tty.c_cc[VMIN] == 0;
}

/* What is no socket; and vectors of sockets. */
static long read_other(struct attempt *a, const struct data *d, unsigned kind)
{
	struct iovec one;
	const struct iovec *v = attempt_vector(a, d, &one);
	int n = v == &one ? 1 : d->n;
	long r;

	/* A vector is looked at before that is refused: one of nothing does not wait. */
	if (!attempt_knows(a, HINT_ASK_IN) || d->buf == NULL) {
		r = raw(SYS_preadv2, a->fd, v, n, -1, 0, RWF_NOWAIT);
		if (likely(r != -EOPNOTSUPP && r != -ENOSYS))
			return r;
		attempt_learn(a, HINT_ASK_IN);
	}
	r = attempt_ask(a);
	if (r == -EAGAIN && kind == KIND_TERMINAL && is_timed_terminal(a->fd))
		return ATTEMPT_DOOR;
	return r;
}

static long read_socket(struct attempt *a, const struct data *d)
{
	size_t size = d->size;

	if (unlikely(shake_io))
		size = attempt_shaken_size(a, size);
	return raw(SYS_recvfrom, a->fd, d->buf, size, MSG_DONTWAIT);
}

static long read_once(struct attempt *a, void *call)
{
	const struct data *d = call;
	unsigned kind = attempt_kind(a);
	long r;

	if (unlikely(kind == KIND_TERMINAL) && (r = attempt_claim(a, SIGTTIN)) != 0)
		return r;
	if (kind == KIND_FILE || attempt_is_nonblocking(a) ||
	    (a->is_socket && socket_has_low_mark(a)))
		return ATTEMPT_DOOR;
	if (attempt_is_refused(a) || (kind <= KIND_PIPE && attempt_foresees(a, d)))
		return -EAGAIN;
	if (!a->is_socket || d->buf == NULL)
		return read_other(a, d, kind);
	r = read_socket(a, d);
	if (likely(r != -ENOTSOCK))
		return r;
	attempt_forget(a);
	return read_once(a, call);
}

static long read_data(struct task *t, bool is_point, int fd, struct data d)
{
	struct attempt a;
	long r;

	attempt_begin(&a, t, fd, POLLIN, is_point);
	r = attempt_run(&a, read_once, &d);
	if (r == ATTEMPT_DOOR && d.buf != NULL)
		r = attempt_door(&a, SYS_read, fd, (long)d.buf, (long)d.size, 0, 0, 0);
	else if (r == ATTEMPT_DOOR)
		r = attempt_door(&a, SYS_readv, fd, (long)d.v, d.n, 0, 0, 0);
	return attempt_end(&a, r);
}

long io_read(struct task *t, bool is_point, int fd, void *buf, size_t n)
{
	/* Of nothing: to a socket it is not what receiving nothing is. */
	if (unlikely(n == 0 || buf == NULL || !is_in_memory(buf, n)))
		return attempt_by_door(t, is_point, fd, POLLIN, SYS_read, (long)buf,
				       (long)n, 0, 0, 0);
	return read_data(t, is_point, fd, data_of(buf, n));
}

long io_readv(struct task *t, bool is_point, int fd, const struct iovec *v, int n)
{
	return read_data(t, is_point, fd, (struct data){.v = v, .n = n});
}

EXPORT ssize_t read(int fd, void *buf, size_t n)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.read(fd, buf, n);
	return ret_errno(io_read(t, true, fd, buf, n));
}
ALIAS(__read, read);

EXPORT ssize_t __read_chk(int fd, void *buf, size_t n, size_t buf_size)
{
	struct task *t = task_self();

	/* libc's own says what is wrong, and aborts. */
	if (t == NULL || n > buf_size)
		return real.__read_chk(fd, buf, n, buf_size);
	return ret_errno(io_read(t, true, fd, buf, n));
}

EXPORT ssize_t readv(int fd, const struct iovec *v, int n)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.readv(fd, v, n);
	return ret_errno(io_readv(t, true, fd, v, n));
}

/* No cancellation point in glibc: it calls its own read(), but that is. */
EXPORT int eventfd_read(int fd, eventfd_t *value)
{
	return read(fd, value, sizeof(*value)) == sizeof(*value) ? 0 : -1;
}

/* --- writing -------------------------------------------------------------------------- */

/* A part small enough to go in whole, once poll says so: to a FIFO that was opened by name,
 * which does not know RWF_NOWAIT. */
static long write_part(struct attempt *a, struct data *d)
{
	if (d->buf == NULL && d->n <= IOV_MAX && data_size(d) > PIPE_BUF) {
		data_advance(d, 0); /* over empty ones */
		d->buf = d->v->iov_base;
		d->size = d->v->iov_len;
	}
	if (d->buf == NULL)
		return ATTEMPT_DOOR;
	return attempt_door(a, SYS_write, a->fd, (long)d->buf,
			    (long)(d->size < PIPE_BUF ? d->size : PIPE_BUF), 0, 0, 0);
}

static long write_other(struct attempt *a, struct data *d, unsigned kind)
{
	struct iovec one;
	const struct iovec *v = attempt_vector(a, d, &one);
	int n = v == &one ? 1 : d->n;
	long r;

	if (!attempt_knows(a, HINT_ASK_OUT) || d->buf == NULL) {
		r = attempt_raw_out(a, SYS_pwritev2, a->fd, (long)v, n, -1, 0,
				    RWF_NOWAIT);
		if (likely(r != -EOPNOTSUPP && r != -ENOSYS))
			return r;
		attempt_learn(a, HINT_ASK_OUT);
	}
	r = attempt_ask(a);
	return r == ATTEMPT_DOOR && kind == KIND_PIPE ? write_part(a, d) : r;
}

static bool stops_writers(int fd)
{
	struct termios tty = {0};

	return raw(SYS_ioctl, fd, TCGETS, &tty) == 0 && (tty.c_lflag & TOSTOP);
}

static long write_socket(struct attempt *a, const struct data *d, unsigned kind)
{
	size_t size = d->size;
	int flags = MSG_DONTWAIT;

	if (unlikely(shake_io))
		size = attempt_shaken_size(a, size);
	if (kind == KIND_SEQPACKET)
		flags |= MSG_EOR; /* as the kernel's write */
	if (a->done > 0)
		flags |= MSG_NOSIGNAL; /* only the next call is told */
	return attempt_raw_out(a, SYS_sendto, a->fd, (long)d->buf, (long)size, flags, 0,
			       0);
}

/* What is left of a vector after a part has gone out, to a stream: of a connection that breaks now
 * only the next call is told, and writev has no flag for that. */
static long write_rest(struct attempt *a, const struct data *d)
{
	struct iovec one;
	const struct iovec *v = attempt_vector(a, d, &one);
	struct msghdr rest = {.msg_iov = (struct iovec *)v,
			      .msg_iovlen = v == &one ? 1 : (size_t)d->n};

	return attempt_raw_out(a, SYS_sendmsg, a->fd, (long)&rest,
			       MSG_DONTWAIT | MSG_NOSIGNAL, 0, 0, 0);
}

static long write_once(struct attempt *a, void *call)
{
	struct data *d = call;
	unsigned kind = attempt_kind(a);
	long r;

	if (kind == KIND_FILE)
		return ATTEMPT_DOOR;
	/* Who may not be stopped may write. */
	if (unlikely(kind == KIND_TERMINAL) && stops_writers(a->fd) &&
	    attempt_claim(a, SIGTTOU) == -EINTR)
		return -EINTR;
	if (attempt_is_refused(a))
		return -EAGAIN;
	if (!a->is_socket || (d->buf == NULL && a->done == 0))
		return write_other(a, d, kind);
	r = d->buf != NULL ? write_socket(a, d, kind) : write_rest(a, d);
	if (likely(r != -ENOTSOCK))
		return r;
	attempt_forget(a);
	return write_once(a, call);
}

/* What is written to streams, pipes and terminals is written whole, however long it takes. */
static bool goes_on(struct attempt *a, const struct data *d, long r)
{
	unsigned kind;

	if (d->n == 0 && likely((size_t)r == d->size))
		return false;
	kind = attempt_kind(a);
	return (kind == KIND_STREAM || kind == KIND_PIPE || kind == KIND_TERMINAL) &&
	       (size_t)r < data_size(d);
}

static long write_by_door(struct attempt *a, const struct data *d)
{
	if (d->buf != NULL)
		return attempt_door(a, SYS_write, a->fd, (long)d->buf, (long)d->size, 0,
				    0, 0);
	return attempt_door(a, SYS_writev, a->fd, (long)d->v, d->n, 0, 0, 0);
}

static long write_data(struct task *t, bool is_point, int fd, struct data d)
{
	struct attempt a;
	long r;

	attempt_begin(&a, t, fd, POLLOUT, is_point);
	for (;;) {
		r = attempt_run(&a, write_once, &d);
		if (r == ATTEMPT_DOOR) {
			r = write_by_door(&a, &d);
			if (!data_is_part(&d, r) && !attempt_may_go_on(&a))
				break;
		}
		if (r <= 0 || !goes_on(&a, &d, r))
			break;
		data_advance(&d, (size_t)r);
		attempt_moved(&a, (size_t)r);
	}
	return attempt_end(&a, r);
}

long io_write(struct task *t, bool is_point, int fd, const void *buf, size_t n)
{
	if (unlikely(n == 0 || buf == NULL || !is_in_memory(buf, n)))
		return attempt_by_door(t, is_point, fd, POLLOUT, SYS_write, (long)buf,
				       (long)n, 0, 0, 0);
	return write_data(t, is_point, fd, data_of(buf, n));
}

long io_writev(struct task *t, bool is_point, int fd, const struct iovec *v, int n)
{
	return write_data(t, is_point, fd, (struct data){.v = v, .n = n});
}

EXPORT ssize_t write(int fd, const void *buf, size_t n)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.write(fd, buf, n);
	return ret_errno(io_write(t, true, fd, buf, n));
}
ALIAS(__write, write);

EXPORT ssize_t writev(int fd, const struct iovec *v, int n)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.writev(fd, v, n);
	return ret_errno(io_writev(t, true, fd, v, n));
}

EXPORT int eventfd_write(int fd, eventfd_t value)
{
	return write(fd, &value, sizeof(value)) == sizeof(value) ? 0 : -1;
}
