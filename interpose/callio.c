/* SPDX-License-Identifier: MIT */
/*
 * callio.c: the program's own system calls on descriptors: syscall(SYS_read, ...).
 *
 * They wait and end waits as the functions of the same name do; but they are no cancellation
 * points.
 */
#include "io.h"

#include <sys/time.h>

/* --- through the functions of libc's names ------------------------------------------------- */

/* Those are cancellation points.  Under the asynchronous type everything is one. */
static int begin_uncancelled(void)
{
	int state;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	if (task_ext(task_self())->cancel_async)
		pthread_setcancelstate(state, NULL);
	return state;
}

static long end_uncancelled(int state, long r)
{
	int error = errno;

	pthread_setcancelstate(state, NULL);
	return r >= 0 ? r : -error;
}

/* The system calls leave in *ts what is left of the time, which libc's functions hide. */
struct countdown {
	struct timespec *ts;
	ns_t deadline;
};

static struct countdown countdown_begin(long timeout)
{
	struct countdown c = {.ts = (struct timespec *)timeout};

	if (c.ts != NULL)
		c.deadline = deadline_in(timespec_ns(c.ts));
	return c;
}

static void countdown_end(const struct countdown *c)
{
	if (c->ts == NULL || !timespec_is_valid(c->ts) || c->ts->tv_sec < 0)
		return;
	ns_t left = c->deadline - now_ns();
	left = left > 0 ? left : 0;
	*c->ts =
	    (struct timespec){.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000};
}

static bool is_mask_size(long mask, long size)
{
	return mask == 0 || size == sizeof(uint64_t);
}

static long call_ppoll(const long a[6])
{
	struct countdown c = countdown_begin(a[2]);
	int state = begin_uncancelled();
	long r = -1;

	if (is_mask_size(a[3], a[4]))
		r = ppoll((struct pollfd *)a[0], (nfds_t)a[1], (const void *)a[2],
			  (const void *)a[3]);
	else
		errno = EINVAL;
	r = end_uncancelled(state, r);
	countdown_end(&c);
	return r;
}

static long call_pselect(const long a[6])
{
	const struct {
		const sigset_t *mask;
		size_t size;
	} *arg = (const void *)a[5];
	struct countdown c = countdown_begin(a[4]);
	int state = begin_uncancelled();
	long r = -1;

	if (arg == NULL || is_mask_size((long)arg->mask, (long)arg->size))
		r = pselect((int)a[0], (fd_set *)a[1], (fd_set *)a[2], (fd_set *)a[3],
			    (const void *)a[4], arg != NULL ? arg->mask : NULL);
	else
		errno = EINVAL;
	r = end_uncancelled(state, r);
	countdown_end(&c);
	return r;
}

static long call_epoll(long nr, const long a[6])
{
	struct epoll_event *events = (struct epoll_event *)a[1];
	const sigset_t *mask = nr == SYS_epoll_wait ? NULL : (const sigset_t *)a[4];
	int state = begin_uncancelled();
	long r = -1;

	if (mask != NULL && a[5] != sizeof(uint64_t))
		errno = EINVAL;
	else if (nr == SYS_epoll_pwait2)
		r = epoll_pwait2((int)a[0], events, (int)a[2], (const void *)a[3], mask);
	else
		r = epoll_pwait((int)a[0], events, (int)a[2], (int)a[3], mask);
	return end_uncancelled(state, r);
}

static long call_several(long nr, const long a[6])
{
	int state = begin_uncancelled();
	long r;

	switch (nr) {
	case SYS_poll:
		r = poll((struct pollfd *)a[0], (nfds_t)a[1], (int)a[2]);
		break;
	case SYS_select:
		r = select((int)a[0], (fd_set *)a[1], (fd_set *)a[2], (fd_set *)a[3],
			   (struct timeval *)a[4]);
		break;
	case SYS_recvmmsg:
		r = recvmmsg((int)a[0], (struct mmsghdr *)a[1], (unsigned)a[2], (int)a[3],
			     (struct timespec *)a[4]);
		break;
	default:
		r = sendmmsg((int)a[0], (struct mmsghdr *)a[1], (unsigned)a[2],
			     (int)a[3]);
		break;
	}
	return end_uncancelled(state, r);
}

/* --- all of them --------------------------------------------------------------------------- */

static long call_with_buffer(struct task *t, long nr, const long a[6])
{
	int fd = (int)a[0];
	void *at = (void *)a[1];

	switch (nr) {
	case SYS_read:
		return io_read(t, false, fd, at, (size_t)a[2]);
	case SYS_readv:
		return io_readv(t, false, fd, at, (int)a[2]);
	case SYS_write:
		return io_write(t, false, fd, at, (size_t)a[2]);
	case SYS_writev:
		return io_writev(t, false, fd, at, (int)a[2]);
	case SYS_recvfrom:
		return io_recv(t, false, fd, at, (size_t)a[2], (int)a[3],
			       (struct sockaddr *)a[4], (socklen_t *)a[5]);
	case SYS_recvmsg:
		return io_recvmsg(t, false, fd, at, (int)a[2]);
	case SYS_sendto:
		return io_send(t, false, fd, at, (size_t)a[2], (int)a[3],
			       (const struct sockaddr *)a[4], (socklen_t)a[5]);
	default:
		return io_sendmsg(t, false, fd, at, (int)a[2]);
	}
}

bool io_call(struct task *t, long nr, const long a[6], long *r)
{
	switch (nr) {
	case SYS_read:
	case SYS_readv:
	case SYS_write:
	case SYS_writev:
	case SYS_recvfrom:
	case SYS_recvmsg:
	case SYS_sendto:
	case SYS_sendmsg:
		*r = call_with_buffer(t, nr, a);
		return true;
	case SYS_accept:
	case SYS_accept4:
		*r = io_accept(t, false, (int)a[0], (struct sockaddr *)a[1],
			       (socklen_t *)a[2], nr == SYS_accept ? 0 : (int)a[3]);
		return true;
	case SYS_connect:
		*r = io_connect(t, false, (int)a[0], (const struct sockaddr *)a[1],
				(socklen_t)a[2]);
		return true;
	case SYS_close:
		*r = io_close(t, false, (int)a[0]);
		return true;
	case SYS_dup2:
	case SYS_dup3:
		*r = io_dup3((int)a[0], (int)a[1],
			     nr == SYS_dup2 ? -1 : (int)(a[2] & INT_MAX));
		return true;
	case SYS_close_range:
		*r = io_close_range(t, (unsigned)a[0], (unsigned)a[1], (int)a[2]);
		return true;
	case SYS_ppoll:
		*r = call_ppoll(a);
		return true;
	case SYS_pselect6:
		*r = call_pselect(a);
		return true;
	case SYS_epoll_wait:
	case SYS_epoll_pwait:
	case SYS_epoll_pwait2:
		*r = call_epoll(nr, a);
		return true;
	case SYS_poll:
	case SYS_select:
	case SYS_recvmmsg:
	case SYS_sendmmsg:
		*r = call_several(nr, a);
		return true;
	default:
		return false;
	}
}
