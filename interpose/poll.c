/* SPDX-License-Identifier: MIT */
/*
 * poll.c: poll() and its kin, and what they share with select.c and epoll.c.
 *
 * A signal mask in the arguments becomes the task's while it waits, and the kernel is not
 * told: the worker's mask is none of the program's.  Where no descriptor is named, only
 * time is waited for.
 */
#include "polling.h"

/* --- what they share ---------------------------------------------------------------------- */

void polling_begin(struct polling *p, struct task *t, const struct timespec *timeout,
		   const sigset_t *mask)
{
	*p = (struct polling){.deadline = NO_DEADLINE};
	if (timeout != NULL)
		p->deadline = timeout->tv_sec == 0 && timeout->tv_nsec == 0
				  ? 0
				  : deadline_in(timespec_ns(timeout));
	waiting_begin(&p->w, t, mask);
	p->by_door = task_is_bound(t);
}

/* What is ready for epoll, again and again, and not for the call: someone who only asks for
 * urgent data has hung up.  The kernel waits better for that. */
static bool goes_round(struct polling *p)
{
	const ns_t per_wake = 20000;
	const unsigned many = 16;

	if (p->n_fruitless++ == 0)
		p->since = now_ns();
	if (p->n_fruitless <= many)
		return false;
	p->n_fruitless = 0;
	return now_ns() - p->since < many * per_wake;
}

bool polling_look_again(struct polling *p, long *r)
{
	switch (*r) {
	case 0:
		p->by_door = p->by_door || (goes_round(p) && !polling_is_interrupted(p));
		return true;
	case -ETIMEDOUT:
		p->is_last = true;
		return true;
	case -EINTR:
	case -EBADF:
		return false;
	default:
		p->by_door = true;
		return true;
	}
}

struct timespec *polling_left(const struct polling *p, struct timespec *left)
{
	if (p->deadline == NO_DEADLINE)
		return NULL;
	ns_t ns = p->deadline == 0 ? 0 : p->deadline - now_ns();
	ns = ns > 0 ? ns : 0;
	*left = (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
	return left;
}

int poll_nothing(struct task *t, struct timespec *left, const sigset_t *mask)
{
	struct polling p;
	long r;

	polling_begin(&p, t, left, mask);
	do
		r = p.w.over ? -EINTR : sleep_until(p.deadline);
	while (waiting_again(&p.w, r));
	if (left != NULL && r == 0)
		*left = (struct timespec){0};
	else if (left != NULL)
		polling_left(&p, left);
	return (int)waiting_end(&p.w, r);
}

/* --- poll ------------------------------------------------------------------------------ */

static long poll_look(struct pollfd *fds, nfds_t n)
{
	struct timespec none = {0};

	return raw(SYS_ppoll, fds, n, &none, NULL, SIGSET_SIZE);
}

/* A copy of what is asked for, once there is something to wait for. */
struct polled {
	nfds_t n; /* 0: there is none */
	struct pollfd fds[POLLED_MOST];
};

/* Who asks for nothing is told of errors and hang-ups all the same: so these are waited for. */
static void take_copy(struct polled *c, const struct pollfd *fds, nfds_t n)
{
	c->n = n;
	for (nfds_t i = 0; i < n; i++) {
		c->fds[i] = fds[i];
		if (c->fds[i].events == 0)
			c->fds[i].events = POLLERR | POLLHUP;
	}
}

static void tell(const struct polled *c, struct pollfd *fds)
{
	for (nfds_t i = 0; i < c->n; i++)
		fds[i].revents = c->fds[i].revents;
}

/* As fds_wait(). */
static long wait_for_fds(struct polled *copy, const struct pollfd *fds, nfds_t n,
			 ns_t deadline)
{
	if (n > POLLED_MOST)
		return -EPERM;
	if (copy->n == 0)
		take_copy(copy, fds, n);
	return fds_wait(copy->fds, (unsigned)n, deadline);
}

static long poll_once(struct polling *p, struct pollfd *fds, nfds_t n,
		      struct polled *copy)
{
	struct timespec left;
	long r;

	do {
		struct pollfd *asked = copy->n > 0 ? copy->fds : fds;

		if (p->by_door && p->deadline != 0)
			return kernel_call(SYS_ppoll, (long)asked, (long)n,
					   (long)polling_left(p, &left), 0, SIGSET_SIZE,
					   0);
		r = poll_look(asked, n);
		if (!polling_goes_on(p, &r))
			return r;
		r = wait_for_fds(copy, fds, n, p->deadline);
	} while (polling_look_again(p, &r));
	return r;
}

static int poll_fds(struct task *t, struct pollfd *fds, nfds_t n,
		    const struct timespec *timeout, const sigset_t *mask)
{
	struct timespec left;
	struct polled copy;
	struct polling p;
	long r;

	if (!is_valid_timeout(timeout))
		return (int)ret_errno(-EINVAL);
	if (n == 0) {
		if (timeout != NULL)
			left = *timeout;
		return poll_nothing(t, timeout != NULL ? &left : NULL, mask);
	}
	copy.n = 0;
	polling_begin(&p, t, timeout, mask);
	do
		r = p.w.over ? -EINTR : poll_once(&p, fds, n, &copy);
	while (waiting_again(&p.w, r));
	tell(&copy, fds);
	return (int)waiting_end(&p.w, r);
}

static int poll_ms(struct task *t, struct pollfd *fds, nfds_t n, int timeout_ms)
{
	struct timespec timeout = {.tv_sec = timeout_ms / 1000,
				   .tv_nsec = timeout_ms % 1000 * 1000000L};

	return poll_fds(t, fds, n, timeout_ms < 0 ? NULL : &timeout, NULL);
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
			 : poll_fds(t, fds, n, timeout, mask);
}

EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
		       const sigset_t *mask, size_t fds_size)
{
	struct task *t = task_self();

	if (t == NULL || fds_size / sizeof(*fds) < n)
		return real.__ppoll_chk(fds, n, timeout, mask, fds_size);
	return poll_fds(t, fds, n, timeout, mask);
}
