/* SPDX-License-Identifier: MIT */
/*
 * wrap.c: what all wrappers share: beginning, deadlines, the kernel door.
 */
#include "wrap.h"

#include "config.h"

__attribute__((constructor)) static void init(int argc, char **argv, char **envp)
{
	(void)argc;
	(void)argv;
	real_init(); /* first: whatever is called from here on may call us */
	config_read(envp);
}

/* What pthread_atfork calls, with whose the handlers are: nobody's. */
int __register_atfork(void (*)(void), void (*)(void), void (*)(void), void *dso);

void at_fork(void (*before)(void), void (*in_parent)(void), void (*in_child)(void))
{
	__register_atfork(before, in_parent, in_child, NULL);
}

int deadline_at(clockid_t clock, const struct timespec *ts, ns_t *deadline)
{
	struct timespec now;
	ns_t at;

	if (ts == NULL) {
		*deadline = NO_DEADLINE;
		return 0;
	}
	if (!timespec_is_valid(ts))
		return EINVAL;
	at = timespec_ns(ts);
	if (clock == CLOCK_REALTIME || host.clock_gettime != real.clock_gettime) {
		clock_gettime(clock, &now);
		ns_t left = at - timespec_ns(&now);
		*deadline = left <= 0 ? 0 : deadline_in(left);
		return 0;
	}
	*deadline = at;
	return 0;
}

static long call_again(struct task *t, bool always, const long a[7])
{
	bool begun = false;
	long r;

	for (;;) {
		uint32_t handlers = signal_handlers_run(t);

		signal_take_eintr(t);
		r = kernel_whole(t, &begun, a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
		if (r != -EINTR || task_cancel_wanted(t))
			return r;
		bool ran = signal_handlers_run(t) != handlers;
		if ((signal_take_eintr(t) || (always && ran)) && begun)
			return r;
		/* Only our own signal, or a handler with SA_RESTART, or one that ran first. */
	}
}

long kernel_door(struct task *t, long nr, long a, long b, long c, long d, long e, long f)
{
	return ret_errno(call_again(t, false, (long[]){nr, a, b, c, d, e, f}));
}

long kernel_point(struct task *t, long nr, long a, long b, long c, long d, long e, long f)
{
	cancel_enter(t);
	long r = call_again(t, false, (long[]){nr, a, b, c, d, e, f});
	cancel_leave(t, r != -EINTR);
	return ret_errno(r);
}

long kernel_point_once(struct task *t, long nr, long a, long b, long c, long d, long e,
		       long f)
{
	cancel_enter(t);
	long r = call_again(t, true, (long[]){nr, a, b, c, d, e, f});
	cancel_leave(t, r != -EINTR);
	return ret_errno(r);
}
