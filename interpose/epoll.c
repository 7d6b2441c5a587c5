/* SPDX-License-Identifier: MIT */
/*
 * epoll.c: waiting for the program's own epoll descriptors, which can be polled themselves.
 */
#include "polling.h"

struct epoll {
	int fd;
	struct epoll_event *events;
	int most;
	uint32_t generation;
};

static long wait_in_kernel(struct polling *p, const struct epoll *e)
{
	int ms = -1;

	/* Rounded up; epoll_pwait2 came with 5.11. */
	if (p->deadline != NO_DEADLINE) {
		ns_t left = (p->deadline - now_ns() + 999999) / 1000000;

		ms = left < 0 ? 0 : left < INT_MAX ? (int)left : INT_MAX;
	}
	return kernel_call(SYS_epoll_wait, e->fd, (long)e->events, e->most, ms, 0, 0);
}

static long epoll_once(struct polling *p, const struct epoll *e)
{
	long r;

	do {
		if (p->by_door && p->deadline != 0)
			return wait_in_kernel(p, e);
		r = raw(SYS_epoll_wait, e->fd, e->events, e->most, 0);
		if (!polling_goes_on(p, &r))
			return r;
		r = fd_wait(e->fd, POLLIN, e->generation, p->deadline);
	} while (polling_look_again(p, &r));
	return r;
}

static int epoll_for(struct task *t, struct epoll e, const struct timespec *timeout,
		     const sigset_t *mask)
{
	struct polling p;
	long r;

	e.generation = fd_generation(e.fd);
	polling_begin(&p, t, timeout, mask);
	do
		r = p.w.over ? -EINTR : epoll_once(&p, &e);
	while (waiting_again(&p.w, r));
	return (int)waiting_end(&p.w, r);
}

static int epoll_ms(struct task *t, struct epoll e, int timeout_ms, const sigset_t *mask)
{
	struct timespec timeout = {.tv_sec = timeout_ms / 1000,
				   .tv_nsec = timeout_ms % 1000 * 1000000L};

	return epoll_for(t, e, timeout_ms < 0 ? NULL : &timeout, mask);
}

EXPORT int epoll_wait(int epfd, struct epoll_event *events, int most, int timeout_ms)
{
	struct epoll e = {.fd = epfd, .events = events, .most = most};
	struct task *t = task_self();

	return t == NULL ? real.epoll_wait(epfd, events, most, timeout_ms)
			 : epoll_ms(t, e, timeout_ms, NULL);
}

EXPORT int epoll_pwait(int epfd, struct epoll_event *events, int most, int timeout_ms,
		       const sigset_t *mask)
{
	struct epoll e = {.fd = epfd, .events = events, .most = most};
	struct task *t = task_self();

	return t == NULL ? real.epoll_pwait(epfd, events, most, timeout_ms, mask)
			 : epoll_ms(t, e, timeout_ms, mask);
}

EXPORT int epoll_pwait2(int epfd, struct epoll_event *events, int most,
			const struct timespec *timeout, const sigset_t *mask)
{
	struct epoll e = {.fd = epfd, .events = events, .most = most};
	struct task *t = task_self();

	if (t == NULL)
		return real.epoll_pwait2(epfd, events, most, timeout, mask);
	if (!is_valid_timeout(timeout))
		return (int)ret_errno(-EINVAL);
	return epoll_for(t, e, timeout, mask);
}
