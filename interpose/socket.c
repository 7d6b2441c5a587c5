/* SPDX-License-Identifier: MIT */
/*
 * socket.c: receiving and sending (door 2).
 *
 * The try is the call itself, with MSG_DONTWAIT.  A few flags make the call one that cannot
 * be tried so and gone on with later: it goes through the kernel door.
 */
#include "io.h"

/* These answer at once whatever the socket is set to. */
enum { NEVER_WAIT_IN = MSG_DONTWAIT | MSG_ERRQUEUE | MSG_OOB };

/* These mean the call as a whole: urgent is its last byte; one notice tells that it is done;
 * it connects. */
enum { WHOLE_OUT = MSG_OOB | MSG_ZEROCOPY | MSG_FASTOPEN };

/* --- receiving -------------------------------------------------------------------------- */

struct receive {
	struct data d;
	int flags;
	struct sockaddr *addr;
	socklen_t *addr_len;
};

static bool is_stream(const struct attempt *a)
{
	int type = 0;
	socklen_t size = sizeof(type);

	return raw(SYS_getsockopt, a->fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 &&
	       type == SOCK_STREAM;
}

/* Whether MSG_WAITALL wants more after r bytes of size. */
static bool wants_rest(struct attempt *a, int flags, long r, size_t size)
{
	int at_mark = 0;

	if (likely(!(flags & MSG_WAITALL)) || r <= 0 || (size_t)r >= size ||
	    !is_stream(a))
		return false;
	/* Before an urgent byte it stops all the same. */
	return raw(SYS_ioctl, a->fd, SIOCATMARK, &at_mark) != 0 || !at_mark;
}

/* Some say at once that it is no socket, or that they do not know the flags. */
static bool foresees(struct attempt *a, const struct receive *c)
{
	/* Most often there is nothing to foresee, and no need to ask what it is. */
	if (!attempt_knows(a, HINT_VAIN) && likely(!shake_io))
		return false;
	unsigned kind = attempt_kind(a);

	a->is_socket = true;
	return (kind == KIND_STREAM || (kind <= KIND_SEQPACKET && c->flags == 0)) &&
	       attempt_foresees(a, &c->d);
}

static long recv_once(struct attempt *a, void *call)
{
	const struct receive *c = call;
	size_t size = c->d.size;

	a->is_socket = true;
	if (attempt_is_nonblocking(a) || socket_has_low_mark(a))
		return ATTEMPT_DOOR;
	if (attempt_is_refused(a) || foresees(a, c))
		return -EAGAIN;
	if (unlikely(shake_io))
		size = attempt_shaken_size(a, size);
	return raw(SYS_recvfrom, a->fd, c->d.buf, size, c->flags | MSG_DONTWAIT, c->addr,
		   c->addr_len);
}

long io_recv(struct task *t, bool is_point, int fd, void *buf, size_t n, int flags,
	     struct sockaddr *addr, socklen_t *addr_len)
{
	struct receive c = {
	    .d = data_of(buf, n), .flags = flags, .addr = addr, .addr_len = addr_len};
	struct attempt a;
	long r;

	attempt_begin(&a, t, fd, POLLIN, is_point);
	if (flags & NEVER_WAIT_IN)
		return raw(SYS_recvfrom, fd, buf, n, flags, addr, addr_len);
	/* What is peeked at leaves the socket ready, and is there again next time. */
	bool looks = unlikely((flags & MSG_WAITALL) && (flags & MSG_PEEK));
	for (;;) {
		r = looks ? ATTEMPT_DOOR : attempt_run(&a, recv_once, &c);
		if (r == ATTEMPT_DOOR) {
			r = attempt_door(&a, SYS_recvfrom, fd, (long)c.d.buf,
					 (long)c.d.size, flags, (long)addr,
					 (long)addr_len);
			if (!attempt_may_go_on(&a))
				break;
		}
		if (!wants_rest(&a, flags, r, c.d.size))
			break;
		if (looks)
			continue;
		attempt_moved(&a, (size_t)r);
		data_advance(&c.d, (size_t)r);
	}
	return attempt_end(&a, r);
}

EXPORT ssize_t recv(int fd, void *buf, size_t n, int flags)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.recv(fd, buf, n, flags);
	return ret_errno(io_recv(t, true, fd, buf, n, flags, NULL, NULL));
}

EXPORT ssize_t __recv_chk(int fd, void *buf, size_t n, size_t buf_size, int flags)
{
	struct task *t = task_self();

	/* libc's own says what is wrong, and aborts. */
	if (t == NULL || n > buf_size)
		return real.__recv_chk(fd, buf, n, buf_size, flags);
	return ret_errno(io_recv(t, true, fd, buf, n, flags, NULL, NULL));
}

EXPORT ssize_t recvfrom(int fd, void *buf, size_t n, int flags, struct sockaddr *addr,
			socklen_t *addr_len)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.recvfrom(fd, buf, n, flags, addr, addr_len);
	return ret_errno(io_recv(t, true, fd, buf, n, flags, addr, addr_len));
}

EXPORT ssize_t __recvfrom_chk(int fd, void *buf, size_t n, size_t buf_size, int flags,
			      struct sockaddr *addr, socklen_t *addr_len)
{
	struct task *t = task_self();

	if (t == NULL || n > buf_size)
		return real.__recvfrom_chk(fd, buf, n, buf_size, flags, addr, addr_len);
	return ret_errno(io_recv(t, true, fd, buf, n, flags, addr, addr_len));
}

struct message {
	struct msghdr *msg;
	int flags;
};

static long recvmsg_once(struct attempt *a, void *call)
{
	const struct message *c = call;

	a->is_socket = true;
	if (attempt_is_nonblocking(a) || socket_has_low_mark(a))
		return ATTEMPT_DOOR;
	if (attempt_is_refused(a))
		return -EAGAIN;
	return raw(SYS_recvmsg, a->fd, c->msg, c->flags | MSG_DONTWAIT);
}

/* A message header for what is left of d. */
static struct msghdr rest_of(struct data *d, struct iovec *one)
{
	if (d->buf != NULL) {
		*one = (struct iovec){d->buf, d->size};
		return (struct msghdr){.msg_iov = one, .msg_iovlen = 1};
	}
	return (struct msghdr){.msg_iov = (struct iovec *)d->v,
			       .msg_iovlen = (size_t)d->n};
}

static struct data data_of_msg(const struct msghdr *msg)
{
	return (struct data){.v = msg->msg_iov, .n = (int)msg->msg_iovlen};
}

/* The rest of what MSG_WAITALL wants, after r bytes. */
static long recvmsg_rest(struct attempt *a, struct msghdr *msg, int flags, long r)
{
	struct data d = data_of_msg(msg);
	struct iovec one;

	while (wants_rest(a, flags, r, data_size(&d))) {
		attempt_moved(a, (size_t)r);
		data_advance(&d, (size_t)r);
		struct msghdr rest = rest_of(&d, &one);
		r = attempt_run(a, recvmsg_once, &(struct message){&rest, flags});
		if (r == ATTEMPT_DOOR) {
			r = attempt_door(a, SYS_recvmsg, a->fd, (long)&rest, flags, 0, 0,
					 0);
			if (!data_is_part(&d, r) && !attempt_may_go_on(a))
				break;
		}
	}
	return r;
}

long io_recvmsg(struct task *t, bool is_point, int fd, struct msghdr *msg, int flags)
{
	struct message c = {.msg = msg, .flags = flags};
	struct attempt a;
	long r;

	attempt_begin(&a, t, fd, POLLIN, is_point);
	if (flags & NEVER_WAIT_IN)
		return raw(SYS_recvmsg, fd, msg, flags);
	/* A second part would overwrite what came with the first. */
	bool is_over =
	    unlikely(flags & MSG_WAITALL) &&
	    ((flags & MSG_PEEK) || msg->msg_controllen != 0 || msg->msg_name != NULL);
	if (is_over)
		r = ATTEMPT_DOOR;
	else
		r = attempt_run(&a, recvmsg_once, &c);
	if (r == ATTEMPT_DOOR) {
		struct data d = data_of_msg(msg);
		bool again;

		do {
			r = attempt_door(&a, SYS_recvmsg, fd, (long)msg, flags, 0, 0, 0);
			again = attempt_may_go_on(&a);
		} while (again && (flags & MSG_PEEK) &&
			 wants_rest(&a, flags, r, data_size(&d)));
		is_over = is_over || !again;
	}
	if (unlikely(flags & MSG_WAITALL) && r > 0 && !is_over)
		r = recvmsg_rest(&a, msg, flags, r);
	return attempt_end(&a, r);
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.recvmsg(fd, msg, flags);
	return ret_errno(io_recvmsg(t, true, fd, msg, flags));
}

/* --- sending ---------------------------------------------------------------------------- */

struct sending {
	struct data d;
	int flags;
	const struct sockaddr *addr;
	socklen_t addr_len;
};

/* Only the next call is told of a connection that broke after a part has gone out. */
static int flags_out(const struct attempt *a, int flags)
{
	return flags | MSG_DONTWAIT | (a->done > 0 ? MSG_NOSIGNAL : 0);
}

static long send_once(struct attempt *a, void *call)
{
	const struct sending *c = call;
	size_t size = c->d.size;

	a->is_socket = true;
	if (attempt_is_refused(a))
		return -EAGAIN;
	if (unlikely(shake_io))
		size = attempt_shaken_size(a, size);
	return attempt_raw_out(a, SYS_sendto, a->fd, (long)c->d.buf, (long)size,
			       flags_out(a, c->flags), (long)c->addr, c->addr_len);
}

long io_send(struct task *t, bool is_point, int fd, const void *buf, size_t n, int flags,
	     const struct sockaddr *addr, socklen_t addr_len)
{
	struct sending c = {
	    .d = data_of(buf, n), .flags = flags, .addr = addr, .addr_len = addr_len};
	struct attempt a;
	long r;

	attempt_begin(&a, t, fd, POLLOUT, is_point);
	if (flags & MSG_DONTWAIT)
		return attempt_raw_out(&a, SYS_sendto, fd, (long)buf, (long)n, flags,
				       (long)addr, addr_len);
	bool by_door = unlikely(flags & WHOLE_OUT);
	for (;;) {
		r = by_door ? ATTEMPT_DOOR : attempt_run(&a, send_once, &c);
		if (r == ATTEMPT_DOOR) {
			r = attempt_door(&a, SYS_sendto, fd, (long)c.d.buf,
					 (long)c.d.size, flags, (long)addr, addr_len);
			if (by_door || !attempt_may_go_on(&a))
				break;
		}
		/* Only a stream takes part of it. */
		if (r <= 0 || likely((size_t)r == c.d.size))
			break;
		attempt_moved(&a, (size_t)r);
		data_advance(&c.d, (size_t)r);
	}
	return attempt_end(&a, r);
}

EXPORT ssize_t send(int fd, const void *buf, size_t n, int flags)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.send(fd, buf, n, flags);
	return ret_errno(io_send(t, true, fd, buf, n, flags, NULL, 0));
}
ALIAS(__send, send);

EXPORT ssize_t sendto(int fd, const void *buf, size_t n, int flags,
		      const struct sockaddr *addr, socklen_t addr_len)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.sendto(fd, buf, n, flags, addr, addr_len);
	return ret_errno(io_send(t, true, fd, buf, n, flags, addr, addr_len));
}

static long sendmsg_once(struct attempt *a, void *call)
{
	const struct message *c = call;
	struct msghdr part, *msg = c->msg;

	a->is_socket = true;
	if (attempt_is_refused(a))
		return -EAGAIN;
	if (unlikely(shake_io) && is_stream(a) && msg->msg_iovlen > 1 &&
	    msg->msg_iov->iov_len > 0) {
		part = *msg;
		part.msg_iovlen = attempt_shaken_size(a, part.msg_iovlen);
		msg = &part;
	}
	return attempt_raw_out(a, SYS_sendmsg, a->fd, (long)msg, flags_out(a, c->flags),
			       0, 0, 0);
}

/* The rest of a message whose first r bytes a stream has taken, with what came along. */
static long sendmsg_rest(struct attempt *a, const struct msghdr *msg, int flags, long r)
{
	struct data d = data_of_msg(msg);
	struct iovec one;

	while (r > 0 && (size_t)r < data_size(&d)) {
		attempt_moved(a, (size_t)r);
		data_advance(&d, (size_t)r);
		struct msghdr rest = rest_of(&d, &one);
		r = attempt_run(a, sendmsg_once, &(struct message){&rest, flags});
		if (r == ATTEMPT_DOOR) {
			r = attempt_door(a, SYS_sendmsg, a->fd, (long)&rest, flags, 0, 0,
					 0);
			if (!data_is_part(&d, r) && !attempt_may_go_on(a))
				break;
		}
	}
	return r;
}

/* One message, of which skip bytes have gone out before. */
static long send_message(struct task *t, bool is_point, int fd, const struct msghdr *msg,
			 int flags, size_t skip)
{
	struct message c = {.msg = (struct msghdr *)msg, .flags = flags};
	struct attempt a;
	long r;

	attempt_begin(&a, t, fd, POLLOUT, is_point);
	if (flags & MSG_DONTWAIT)
		return attempt_raw_out(&a, SYS_sendmsg, fd, (long)msg, flags, 0, 0, 0);
	bool by_door = unlikely(flags & WHOLE_OUT), is_over = false;
	if (skip > 0)
		r = (long)skip;
	else
		r = by_door ? ATTEMPT_DOOR : attempt_run(&a, sendmsg_once, &c);
	if (r == ATTEMPT_DOOR) {
		r = attempt_door(&a, SYS_sendmsg, fd, (long)msg, flags, 0, 0, 0);
		is_over = by_door || !attempt_may_go_on(&a);
	}
	if (r > 0 && !is_over)
		r = sendmsg_rest(&a, msg, flags, r);
	return attempt_end(&a, r);
}

long io_sendmsg(struct task *t, bool is_point, int fd, const struct msghdr *msg,
		int flags)
{
	return send_message(t, is_point, fd, msg, flags, 0);
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.sendmsg(fd, msg, flags);
	return ret_errno(io_sendmsg(t, true, fd, msg, flags));
}

/* --- several messages at once --------------------------------------------------------------- */

struct messages {
	struct mmsghdr *v;
	unsigned n;
	int flags;
};

static long recvmmsg_once(struct attempt *a, void *call)
{
	const struct messages *c = call;

	a->is_socket = true;
	if (attempt_is_refused(a))
		return -EAGAIN;
	return raw(SYS_recvmmsg, a->fd, c->v, c->n, c->flags | MSG_DONTWAIT);
}

/* What is left of *timeout is written there, as the kernel does. */
static bool is_over(ns_t deadline, struct timespec *timeout)
{
	ns_t left = deadline - now_ns();

	left = left > 0 ? left : 0;
	*timeout =
	    (struct timespec){.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000};
	return left == 0;
}

/* The timeout is looked at after each message and ends no wait, as the kernel has it. */
static long receive_messages(struct task *t, int fd, struct mmsghdr *v, unsigned n,
			     int flags, struct timespec *timeout)
{
	struct messages c = {.v = v, .n = timeout != NULL ? 1 : n, .flags = flags};
	ns_t deadline = NO_DEADLINE;
	struct attempt a;
	long r;

	if (timeout != NULL && (!timespec_is_valid(timeout) || timeout->tv_sec < 0))
		return -EINVAL;
	if (timeout != NULL)
		deadline = deadline_in(timespec_ns(timeout));
	attempt_begin(&a, t, fd, POLLIN, true);
	if (flags & NEVER_WAIT_IN)
		return raw(SYS_recvmmsg, fd, v, n, flags, timeout);
	if (flags & (MSG_WAITALL | MSG_PEEK))
		return attempt_end(&a, attempt_door(&a, SYS_recvmmsg, fd, (long)v, n,
						    flags, (long)timeout, 0));
	while ((r = attempt_run(&a, recvmmsg_once, &c)) > 0) {
		attempt_moved(&a, (size_t)r);
		c.v += r;
		if (a.done >= n || (flags & MSG_WAITFORONE) ||
		    (c.v[-1].msg_hdr.msg_flags & MSG_OOB) ||
		    (timeout != NULL && is_over(deadline, timeout)))
			return attempt_end(&a, 0);
		c.n = timeout != NULL ? 1 : n - (unsigned)a.done;
	}
	if (r == ATTEMPT_DOOR)
		r = attempt_door(&a, SYS_recvmmsg, fd, (long)c.v, n - (long)a.done, flags,
				 (long)timeout, 0);
	return attempt_end(&a, r);
}

EXPORT int recvmmsg(int fd, struct mmsghdr *v, unsigned n, int flags,
		    struct timespec *timeout)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.recvmmsg(fd, v, n, flags, timeout);
	return (int)ret_errno(receive_messages(t, fd, v, n, flags, timeout));
}

/* As many as the kernel takes at once, and the rest of one that it took a part of. */
static long send_some(struct task *t, int fd, struct mmsghdr *v, unsigned n, int flags)
{
	struct attempt a;

	attempt_begin(&a, t, fd, POLLOUT, false);
	long r =
	    attempt_raw_out(&a, SYS_sendmmsg, fd, (long)v, n, flags | MSG_DONTWAIT, 0, 0);
	if (r <= 0 || (flags & MSG_DONTWAIT))
		return r;
	struct mmsghdr *last = &v[r - 1];
	struct data d = data_of_msg(&last->msg_hdr);
	if (last->msg_len < data_size(&d))
		last->msg_len = (unsigned)send_message(t, false, fd, &last->msg_hdr,
						       flags, last->msg_len);
	return r;
}

static long send_messages(struct task *t, int fd, struct mmsghdr *v, unsigned n,
			  int flags)
{
	unsigned done = 0;
	long r = 0;

	cancel_test(t);
	if (n > IOV_MAX)
		n = IOV_MAX; /* the kernel's bound, which is no error */
	while (done < n) {
		r = flags & WHOLE_OUT ? -EAGAIN
				      : send_some(t, fd, &v[done], n - done, flags);
		if (r == -EAGAIN && !(flags & MSG_DONTWAIT)) {
			/* The first that has to wait does so by itself. */
			r = send_message(t, done == 0, fd, &v[done].msg_hdr, flags, 0);
			if (r >= 0) {
				v[done].msg_len = (unsigned)r;
				r = 1;
			}
		}
		if (r <= 0 || (flags & MSG_DONTWAIT))
			break;
		done += (unsigned)r;
	}
	if (flags & MSG_DONTWAIT)
		return r;
	return done > 0 ? (long)done : r;
}

EXPORT int sendmmsg(int fd, struct mmsghdr *v, unsigned n, int flags)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.sendmmsg(fd, v, n, flags);
	return (int)ret_errno(send_messages(t, fd, v, n, flags));
}

/* --- options ---------------------------------------------------------------------------- */

EXPORT int setsockopt(int fd, int level, int name, const void *value, socklen_t size)
{
	/* The 64-bit kernel knows two names for each timeout. */
	if (level == SOL_SOCKET && (name == SO_RCVTIMEO || name == SO_SNDTIMEO ||
				    name == SO_RCVTIMEO_NEW || name == SO_SNDTIMEO_NEW))
		timeouts_are_used = true;
	if (level == SOL_SOCKET && name == SO_RCVLOWAT)
		low_marks_are_used = true;
	return real.setsockopt(fd, level, name, value, size);
}
