/* SPDX-License-Identifier: MIT */
/*
 * select.c: select() and pselect().
 *
 * The kernel looks on copies of the sets, which it overwrites.  Sets larger than fd_set's,
 * or with very many members, wait in the kernel.
 */
#include "polling.h"

#include <sys/time.h>

enum { N_SETS = 3, WORDS = FD_SETSIZE / 64 };

/* The program's sets to read, to write and for exceptions, each perhaps NULL; and, unless it
 * waits in the kernel from the start, a copy of them. */
struct selecting {
	int n;
	fd_set *set[N_SETS];
	unsigned long asked[N_SETS][WORDS];
	unsigned long found[N_SETS][WORDS];
};

static size_t words_of(const struct selecting *s)
{
	return ((size_t)s->n + 63) / 64;
}

static bool are_large(const struct selecting *s)
{
	return s->n > FD_SETSIZE;
}

static void take_copy(struct selecting *s)
{
	for (int i = 0; i < N_SETS; i++)
		if (s->set[i] != NULL)
			__builtin_memcpy(s->asked[i], s->set[i], words_of(s) * 8);
}

/* Where the kernel shall read what is asked for, and write the answer. */
static void fill_in(struct selecting *s, long at[N_SETS])
{
	for (int i = 0; i < N_SETS; i++) {
		at[i] = s->set[i] != NULL ? (long)s->found[i] : 0;
		if (are_large(s))
			at[i] = (long)s->set[i];
		else if (s->set[i] != NULL)
			__builtin_memcpy(s->found[i], s->asked[i], words_of(s) * 8);
	}
}

static long look(struct selecting *s)
{
	struct timespec none = {0};
	long at[N_SETS];

	fill_in(s, at);
	return raw(SYS_pselect6, s->n, at[0], at[1], at[2], &none);
}

/* The answer, which is also given when the time is up. */
static void tell(struct selecting *s)
{
	for (int i = 0; i < N_SETS; i++)
		if (s->set[i] != NULL && !are_large(s))
			__builtin_memcpy(s->set[i], s->found[i], words_of(s) * 8);
}

static unsigned long word(const struct selecting *s, int set, size_t i)
{
	return s->set[set] != NULL ? s->asked[set][i] : 0;
}

/* Parks until one may be ready.  As fds_wait; -EPERM: there are too many. */
static long wait_for_sets(struct selecting *s, ns_t deadline)
{
	static const short events[N_SETS] = {POLLIN, POLLOUT, POLLPRI};
	struct pollfd fds[POLLED_MOST];
	unsigned n = 0;

	for (size_t i = 0; i < words_of(s); i++) {
		unsigned long left = word(s, 0, i) | word(s, 1, i) | word(s, 2, i);

		for (; left != 0; left &= left - 1) {
			int bit = __builtin_ctzl(left), fd = (int)i * 64 + bit;

			if (fd >= s->n)
				break;
			if (n == POLLED_MOST)
				return -EPERM;
			fds[n] = (struct pollfd){.fd = fd};
			for (int set = 0; set < N_SETS; set++)
				if (word(s, set, i) >> bit & 1)
					fds[n].events |= events[set];
			n++;
		}
	}
	return n > 0 ? fds_wait(fds, n, deadline) : -EPERM;
}

static long wait_in_kernel(struct polling *p, struct selecting *s)
{
	struct timespec left;
	long at[N_SETS];

	fill_in(s, at);
	return kernel_call(SYS_pselect6, s->n, at[0], at[1], at[2],
			   (long)polling_left(p, &left), 0);
}

static long select_once(struct polling *p, struct selecting *s)
{
	long r;

	do {
		if (p->by_door)
			return wait_in_kernel(p, s);
		r = look(s);
		if (!polling_goes_on(p, &r))
			return r;
		r = wait_for_sets(s, p->deadline);
	} while (polling_look_again(p, &r));
	return r;
}

/* Leaves in *left what the time came short of it. */
static int select_fds(struct task *t, struct selecting *s, struct timespec *left,
		      const sigset_t *mask)
{
	struct polling p;
	long r;

	if (!is_valid_timeout(left) || s->n < 0)
		return (int)ret_errno(-EINVAL);
	if (s->n == 0 || (s->set[0] == NULL && s->set[1] == NULL && s->set[2] == NULL))
		return poll_nothing(t, left, mask);
	polling_begin(&p, t, left, mask);
	p.by_door = p.by_door || are_large(s);
	if (!are_large(s))
		take_copy(s);
	do
		r = p.w.over ? -EINTR : select_once(&p, s);
	while (waiting_again(&p.w, r));
	if (r >= 0)
		tell(s);
	if (left != NULL)
		polling_left(&p, left);
	return (int)waiting_end(&p.w, r);
}

EXPORT int select(int n, fd_set *read_set, fd_set *write_set, fd_set *except_set,
		  struct timeval *timeout)
{
	struct selecting s = {.n = n, .set = {read_set, write_set, except_set}};
	struct task *t = task_self();
	struct timespec left;

	if (t == NULL)
		return real.select(n, read_set, write_set, except_set, timeout);
	if (timeout == NULL)
		return select_fds(t, &s, NULL, NULL);
	if (timeout->tv_sec < 0 || timeout->tv_usec < 0)
		return (int)ret_errno(-EINVAL);
	/* Microseconds beyond a second are fine here, as they always were on Linux. */
	time_t carry = timeout->tv_usec / 1000000;
	left.tv_sec =
	    timeout->tv_sec > LONG_MAX - carry ? LONG_MAX : timeout->tv_sec + carry;
	left.tv_nsec = timeout->tv_usec % 1000000 * 1000;
	int r = select_fds(t, &s, &left, NULL);
	TIMESPEC_TO_TIMEVAL(timeout, &left);
	return r;
}
ALIAS(__select, select);

EXPORT int pselect(int n, fd_set *read_set, fd_set *write_set, fd_set *except_set,
		   const struct timespec *timeout, const sigset_t *mask)
{
	struct selecting s = {.n = n, .set = {read_set, write_set, except_set}};
	struct task *t = task_self();
	struct timespec left;

	if (t == NULL)
		return real.pselect(n, read_set, write_set, except_set, timeout, mask);
	if (timeout != NULL)
		left = *timeout;
	return select_fds(t, &s, timeout != NULL ? &left : NULL, mask);
}
