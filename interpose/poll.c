/* SPDX-License-Identifier: MIT */
/*
 * poll.c: waiting for descriptors.
 *
 * A signal mask in the arguments becomes the task's while it waits, and the kernel is not
 * told: the worker's mask is none of the program's.  Where no descriptor is named, only
 * time is waited for.
 */
#include "waiting.h"

#include <sys/time.h>

enum { SIGSET_SIZE = 8 }; /* the kernel's */

static struct timespec timespec_of_ms(int ms)
{
	return (struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
}

/* What is left until deadline, rounded up to milliseconds; -1 for no deadline. */
static int ms_left(ns_t deadline)
{
	if (deadline == NO_DEADLINE)
		return -1;
	ns_t left = deadline - now_ns();
	if (left <= 0)
		return 0;
	left = (left + 999999) / 1000000;
	return left < INT_MAX ? (int)left : INT_MAX;
}

/* Waits for nothing but a signal and the end of *left, for ever if that is NULL.  Leaves in
 * *left what the time came short of it, as the kernel does. */
static long wait_for_time(struct task *t, struct timespec *left, const sigset_t *mask)
{
	ns_t deadline = left == NULL ? NO_DEADLINE : deadline_in(timespec_ns(left));
	struct waiting w;
	long r;

	waiting_begin(&w, t, mask);
	do
		r = w.over ? -EINTR : sleep_until(deadline);
	while (waiting_again(&w, r));
	if (left != NULL) {
		ns_t rest = r == 0 ? 0 : deadline - now_ns();

		rest = rest < 0 ? 0 : rest;
		*left = (struct timespec){.tv_sec = rest / 1000000000,
					  .tv_nsec = rest % 1000000000};
	}
	return waiting_end(&w, r);
}

/* --- poll ------------------------------------------------------------------------------ */

/* The kernel keeps *left up to date, so that an interrupted call can be made again. */
static int poll_fds(struct task *t, struct pollfd *fds, nfds_t n, struct timespec *left,
		    const sigset_t *mask)
{
	struct waiting w;
	long r;

	if (left != NULL && (!timespec_is_valid(left) || left->tv_sec < 0))
		return ret_errno(-EINVAL);
	if (n == 0)
		return wait_for_time(t, left, mask);
	waiting_begin(&w, t, mask);
	do
		r = w.over ? -EINTR
			   : kernel_call(SYS_ppoll, (long)fds, (long)n, (long)left, 0,
					 SIGSET_SIZE, 0);
	while (waiting_again(&w, r));
	return waiting_end(&w, r);
}

static int poll_ms(struct task *t, struct pollfd *fds, nfds_t n, int timeout_ms)
{
	struct timespec left = timespec_of_ms(timeout_ms);

	return poll_fds(t, fds, n, timeout_ms < 0 ? NULL : &left, NULL);
}

static int poll_masked(struct task *t, struct pollfd *fds, nfds_t n,
		       const struct timespec *timeout, const sigset_t *mask)
{
	struct timespec left;

	if (timeout != NULL)
		left = *timeout;
	return poll_fds(t, fds, n, timeout != NULL ? &left : NULL, mask);
}

EXPORT int poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
	struct task *t = task_self();

	return t == NULL ? real.poll(fds, n, timeout_ms) : poll_ms(t, fds, n, timeout_ms);
}
ALIAS(__poll, poll);

EXPORT int __poll_chk(struct pollfd *fds, nfds_t n, int timeout_ms, size_t fds_size)
{
	struct task *t = task_self();

	/* libc's own says what is wrong, and aborts. */
	if (t == NULL || fds_size / sizeof(*fds) < n)
		return real.__poll_chk(fds, n, timeout_ms, fds_size);
	return poll_ms(t, fds, n, timeout_ms);
}

EXPORT int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
		 const sigset_t *mask)
{
	struct task *t = task_self();

	return t == NULL ? real.ppoll(fds, n, timeout, mask)
			 : poll_masked(t, fds, n, timeout, mask);
}

EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
		       const sigset_t *mask, size_t fds_size)
{
	struct task *t = task_self();

	if (t == NULL || fds_size / sizeof(*fds) < n)
		return real.__ppoll_chk(fds, n, timeout, mask, fds_size);
	return poll_masked(t, fds, n, timeout, mask);
}

/* --- select ---------------------------------------------------------------------------- */

/* As poll_fds. */
static int select_fds(struct task *t, int n, fd_set *read_set, fd_set *write_set,
		      fd_set *except_set, struct timespec *left, const sigset_t *mask)
{
	struct waiting w;
	long r;

	if (left != NULL && (!timespec_is_valid(left) || left->tv_sec < 0))
		return ret_errno(-EINVAL);
	if (n == 0 ||
	    (n > 0 && read_set == NULL && write_set == NULL && except_set == NULL))
		return wait_for_time(t, left, mask);
	waiting_begin(&w, t, mask);
	do
		r = w.over ? -EINTR
			   : kernel_call(SYS_pselect6, n, (long)read_set, (long)write_set,
					 (long)except_set, (long)left, 0);
	while (waiting_again(&w, r));
	return waiting_end(&w, r);
}

EXPORT int select(int n, fd_set *read_set, fd_set *write_set, fd_set *except_set,
		  struct timeval *timeout)
{
	struct task *t = task_self();
	struct timespec left;

	if (t == NULL)
		return real.select(n, read_set, write_set, except_set, timeout);
	if (timeout == NULL)
		return select_fds(t, n, read_set, write_set, except_set, NULL, NULL);
	if (timeout->tv_sec < 0 || timeout->tv_usec < 0)
		return ret_errno(-EINVAL);
	/* Microseconds beyond a second are fine here, as they always were on Linux. */
	time_t carry = timeout->tv_usec / 1000000;
	left.tv_sec =
	    timeout->tv_sec > LONG_MAX - carry ? LONG_MAX : timeout->tv_sec + carry;
	left.tv_nsec = timeout->tv_usec % 1000000 * 1000;
	int r = select_fds(t, n, read_set, write_set, except_set, &left, NULL);
	TIMESPEC_TO_TIMEVAL(timeout, &left);
	return r;
}
ALIAS(__select, select);

EXPORT int pselect(int n, fd_set *read_set, fd_set *write_set, fd_set *except_set,
		   const struct timespec *timeout, const sigset_t *mask)
{
	struct task *t = task_self();
	struct timespec left;

	if (t == NULL)
		return real.pselect(n, read_set, write_set, except_set, timeout, mask);
	if (timeout != NULL)
		left = *timeout;
	return select_fds(t, n, read_set, write_set, except_set,
			  timeout != NULL ? &left : NULL, mask);
}

/* --- epoll ----------------------------------------------------------------------------- */

static int epoll_masked(struct task *t, int epfd, struct epoll_event *events, int most,
			int timeout_ms, const sigset_t *mask)
{
	ns_t deadline =
	    timeout_ms < 0 ? NO_DEADLINE : deadline_in(timeout_ms * 1000000LL);
	struct waiting w;
	long r;

	waiting_begin(&w, t, mask);
	do {
		r = w.over ? -EINTR
			   : kernel_call(SYS_epoll_wait, epfd, (long)events, most,
					 timeout_ms, 0, 0);
		timeout_ms = ms_left(deadline);
	} while (waiting_again(&w, r));
	return waiting_end(&w, r);
}

EXPORT int epoll_wait(int epfd, struct epoll_event *events, int most, int timeout_ms)
{
	struct task *t = task_self();

	return t == NULL ? real.epoll_wait(epfd, events, most, timeout_ms)
			 : epoll_masked(t, epfd, events, most, timeout_ms, NULL);
}

EXPORT int epoll_pwait(int epfd, struct epoll_event *events, int most, int timeout_ms,
		       const sigset_t *mask)
{
	struct task *t = task_self();

	return t == NULL ? real.epoll_pwait(epfd, events, most, timeout_ms, mask)
			 : epoll_masked(t, epfd, events, most, timeout_ms, mask);
}
