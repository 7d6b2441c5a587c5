/* SPDX-License-Identifier: MIT */
/*
 * accept.c: connections, from either end (door 2).
 *
 * Neither call can be told not to block.
 *
 * accept() is made when poll says that a connection is there.  If another task or process
 * was faster it waits in the kernel, for the next one: that costs a kernel thread, and loses
 * nothing.
 *
 * connect() is made with a send timeout of a microsecond, which the kernel rounds up to a
 * tick: then it goes on in the background, as it would after a signal or the program's own
 * timeout, the task parks until it is decided, and a second connect() tells how it ended.
 * O_NONBLOCK would do the same, but it belongs to the open file: whoever shares that would
 * find his reads fail.  A send timeout belongs to the socket, and is looked at by nobody
 * before it is connected.  What is not TCP or its like decides at once, or cannot be polled
 * (Unix sockets wait for room in the listener's queue): it goes through the kernel door.
 */
#include "io.h"

/* --- accept ----------------------------------------------------------------------------- */

static bool listens(int fd)
{
	int yes = 0;
	socklen_t size = sizeof(yes);

	return raw(SYS_getsockopt, fd, SOL_SOCKET, SO_ACCEPTCONN, &yes, &size) == 0 &&
	       yes;
}

static long accept_once(struct attempt *a, void *call)
{
	long r;

	(void)call;
	if (attempt_is_nonblocking(a))
		return ATTEMPT_DOOR;
	if (attempt_is_refused(a))
		return -EAGAIN;
	r = attempt_ask(a);
	if (r != -EAGAIN || attempt_knows(a, HINT_LISTENS))
		return r;
	/* It will never be ready: accept() says why. */
	if (!listens(a->fd))
		return ATTEMPT_DOOR;
	attempt_learn(a, HINT_LISTENS);
	return r;
}

long io_accept(struct task *t, bool is_point, int fd, struct sockaddr *addr,
	       socklen_t *addr_len, int flags)
{
	struct attempt a;
	unsigned kind;
	long r;

	attempt_begin(&a, t, fd, POLLIN, is_point);
	kind = attempt_kind(&a);
	r = a.is_socket ? attempt_run(&a, accept_once, NULL) : ATTEMPT_DOOR;
	if (r == ATTEMPT_DOOR)
		r = attempt_door(&a, SYS_accept4, fd, (long)addr, (long)addr_len, flags,
				 0, 0);
	_Atomic uint16_t *hint = r >= 0 ? fd_hint((int)r) : NULL;
	if (hint != NULL)
		atomic_store_explicit(hint, kind, memory_order_relaxed);
	return attempt_end(&a, r);
}

EXPORT int accept(int fd, struct sockaddr *addr, socklen_t *addr_len)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.accept(fd, addr, addr_len);
	return (int)ret_errno(io_accept(t, true, fd, addr, addr_len, 0));
}

EXPORT int accept4(int fd, struct sockaddr *addr, socklen_t *addr_len, int flags)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.accept4(fd, addr, addr_len, flags);
	return (int)ret_errno(io_accept(t, true, fd, addr, addr_len, flags));
}

/* --- connect ---------------------------------------------------------------------------- */

/* TCP alone: to have begun is EINPROGRESS, and once it is connected poll says so.  SCTP would
 * say EISCONN to who asks again. */
static bool may_be_parked(struct attempt *a)
{
	int protocol = 0;
	socklen_t size = sizeof(protocol);

	if (task_is_bound(a->t) || attempt_kind(a) != KIND_STREAM ||
	    raw(SYS_getsockopt, a->fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) < 0 ||
	    protocol != IPPROTO_TCP)
		return false;
	return !(raw(SYS_fcntl, a->fd, F_GETFL) & O_NONBLOCK);
}

/* Begins to connect, and waits for a tick at most. */
static long begin_to_connect(struct attempt *a, const struct sockaddr *addr,
			     socklen_t len)
{
	const struct timeval tick = {.tv_usec = 1};
	struct timeval own;
	socklen_t size = sizeof(own);

	if (raw(SYS_getsockopt, a->fd, SOL_SOCKET, SO_SNDTIMEO, &own, &size) < 0)
		return ATTEMPT_DOOR;
	/* Not preempted, so that the timeout is the program's again soon. */
	task_hold_spin(a->t, 1);
	enter_kernel();
	raw(SYS_setsockopt, a->fd, SOL_SOCKET, SO_SNDTIMEO, &tick, sizeof(tick));
	long r = raw(SYS_connect, a->fd, addr, len);
	raw(SYS_setsockopt, a->fd, SOL_SOCKET, SO_SNDTIMEO, &own, sizeof(own));
	task_hold_spin(a->t, -1);
	leave_kernel();
	return r;
}

static bool is_under_way(long r)
{
	/* EINTR: our own signal ended the wait for a tick. */
	return r == -EINPROGRESS || r == -EALREADY || r == -EINTR;
}

static long decided_once(struct attempt *a, void *call)
{
	(void)call;
	return attempt_ask(a);
}

static long connect_parked(struct attempt *a, const struct sockaddr *addr, socklen_t len)
{
	long begun = begin_to_connect(a, addr, len), r;

	if (!is_under_way(begun))
		return begun;
	r = attempt_run(a, decided_once, NULL);
	/* The program's own timeout is over. */
	if (r == -EAGAIN)
		return begun == -EALREADY ? begun : -EINPROGRESS;
	return r;
}

long io_connect(struct task *t, bool is_point, int fd, const struct sockaddr *addr,
		socklen_t addr_len)
{
	struct attempt a;
	long r = ATTEMPT_DOOR;

	attempt_begin(&a, t, fd, POLLOUT, is_point);
	if (may_be_parked(&a))
		r = connect_parked(&a, addr, addr_len);
	if (r == ATTEMPT_DOOR)
		r = attempt_door(&a, SYS_connect, fd, (long)addr, addr_len, 0, 0, 0);
	return attempt_end(&a, r);
}

EXPORT int connect(int fd, const struct sockaddr *addr, socklen_t addr_len)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.connect(fd, addr, addr_len);
	return (int)ret_errno(io_connect(t, true, fd, addr, addr_len));
}
ALIAS(__connect, connect);
