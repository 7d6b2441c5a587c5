/* SPDX-License-Identifier: MIT */
/*
 * polling.h: what poll(), select() and epoll_wait() share.
 *
 * Each looks without waiting, parks until something may be ready (door 2), and looks again:
 * the kernel fills in the answer.  What cannot be waited for so waits in the kernel.
 *
 * The kernel reads what is asked for when the call begins, and the program's other threads may
 * change it from then on: so all looks are for a copy.
 */
#ifndef PGREEN_POLLING_H
#define PGREEN_POLLING_H

#include "wrap.h"

#include "attempt.h"
#include "waiting.h"

enum { SIGSET_SIZE = 8 }; /* the kernel's */

/*
 * Beyond it poll() and select() wait in the kernel: each descriptor costs a system call
 * here, and a fraction of that there.
 */
enum { POLLED_MOST = 256 };

struct polling {
	struct waiting w;
	ns_t deadline; /* NO_DEADLINE, or 0: not at all */
	ns_t since;    /* the last wakes that were good for nothing */
	unsigned n_fruitless;
	bool is_last; /* the deadline has passed, and it is looked once more */
	bool by_door; /* it waits in the kernel */
};

/* timeout NULL: for ever.  mask: the task's own while it waits, or NULL. */
void polling_begin(struct polling *p, struct task *t, const struct timespec *timeout,
		   const sigset_t *mask);

/* Whether a handler has run since the call began.  That ends it, but only once a look has
 * found nothing: the data that woke it may be gone by then, and may be there. */
static inline bool polling_is_interrupted(const struct polling *p)
{
	return unlikely(signal_handlers_run(p->w.t) != p->w.handlers);
}

/* Whether to wait, after a look that said *found. */
static inline bool polling_goes_on(const struct polling *p, long *found)
{
	if (*found != 0 || p->deadline == 0 || p->is_last)
		return false;
	if (polling_is_interrupted(p))
		*found = -EINTR;
	return *found == 0;
}

/* r is what fds_wait() or fd_wait() said.  True: look again; false: *r is the answer. */
bool polling_look_again(struct polling *p, long *r);

/* What is left of the time, NULL for ever. */
struct timespec *polling_left(const struct polling *p, struct timespec *left);

/* Waits for nothing but a signal and the end of *left, for ever if that is NULL.  Leaves in
 * *left what the time came short of it, as the kernel does.  Sets errno. */
int poll_nothing(struct task *t, struct timespec *left, const sigset_t *mask);

static inline bool is_valid_timeout(const struct timespec *ts)
{
	return ts == NULL || (timespec_is_valid(ts) && ts->tv_sec >= 0);
}

#endif
