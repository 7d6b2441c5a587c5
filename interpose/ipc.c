/* SPDX-License-Identifier: MIT */
/*
 * ipc.c: System V's queues and semaphores, and POSIX's queues.
 *
 * Other processes share them.  System V's cannot be polled and wait in the kernel (door 4);
 * they fail with EINTR after any handler, SA_RESTART or not.  POSIX's are descriptors, and
 * park (door 2).
 */
#include "attempt.h"
#include "waiting.h"

EXPORT ssize_t msgrcv(int queue, void *msg, size_t size, long type, int flags)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.msgrcv(queue, msg, size, type, flags);
	return kernel_point_once(t, SYS_msgrcv, queue, (long)msg, (long)size, type, flags,
				 0);
}

EXPORT int msgsnd(int queue, const void *msg, size_t size, int flags)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.msgsnd(queue, msg, size, flags);
	return kernel_point_once(t, SYS_msgsnd, queue, (long)msg, (long)size, flags, 0,
				 0);
}

/* timeout NULL: for ever.  No cancellation point in glibc. */
static int operate(struct task *t, int set, struct sembuf *ops, size_t n,
		   const struct timespec *timeout)
{
	ns_t deadline = timeout == NULL ? 0 : deadline_in(timespec_ns(timeout));
	struct timespec left;
	uint32_t handlers;
	long r;

	if (timeout != NULL)
		left = *timeout;
	signal_take_eintr(t);
	do {
		handlers = signal_handlers_run(t);
		r = kernel_call(SYS_semtimedop, set, (long)ops, (long)n,
				timeout != NULL ? (long)&left : 0, 0, 0);
		ns_t rest = deadline - now_ns();
		rest = rest < 0 ? 0 : rest;
		left = (struct timespec){.tv_sec = rest / 1000000000,
					 .tv_nsec = rest % 1000000000};
	} while (r == -EINTR && !is_interrupted(t, true, handlers));
	return (int)ret_errno(r);
}

EXPORT int semop(int set, struct sembuf *ops, size_t n)
{
	struct task *t = task_self();

	return t == NULL ? real.semop(set, ops, n) : operate(t, set, ops, n, NULL);
}

EXPORT int semtimedop(int set, struct sembuf *ops, size_t n,
		      const struct timespec *timeout)
{
	struct task *t = task_self();

	return t == NULL ? real.semtimedop(set, ops, n, timeout)
			 : operate(t, set, ops, n, timeout);
}

/* --- POSIX's queues ------------------------------------------------------------------------ */

/*
 * A queue is a descriptor, and can be polled.  The try is the call with a deadline long past:
 * where it would wait it says ETIMEDOUT.  The program's deadlines are points in time.
 */
struct transfer {
	long nr;
	void *msg;
	size_t size;
	long prio; /* a number, or where it goes */
};

static long transfer_once(struct attempt *a, void *call)
{
	const struct transfer *c = call;
	struct timespec past = {0};
	long r;

	if (attempt_is_refused(a))
		return -EAGAIN;
	r = raw(c->nr, a->fd, c->msg, c->size, c->prio, &past);
	if (r != -ETIMEDOUT)
		/* O_NONBLOCK's answer: attempt_wait() gives it again. */
		return r;
	return a->deadline <= now_ns() ? r : -EAGAIN;
}

static long transfer(struct task *t, mqd_t queue, short events, struct transfer c,
		     const struct timespec *at)
{
	struct attempt a;
	ns_t deadline;
	long r;

	r = -deadline_at(CLOCK_REALTIME, at, &deadline);
	if (r == 0 && at != NULL && at->tv_sec < 0)
		r = -EINVAL;
	if (r < 0)
		return ret_errno(r);
	attempt_begin(&a, t, queue, events, true);
	a.is_timed = at != NULL;
	a.deadline = deadline;
	r = attempt_run(&a, transfer_once, &c);
	if (r == ATTEMPT_DOOR)
		r = attempt_door(&a, c.nr, queue, (long)c.msg, (long)c.size, c.prio,
				 (long)at, 0);
	return ret_errno(attempt_end(&a, r));
}

EXPORT ssize_t mq_timedreceive(mqd_t queue, char *restrict msg, size_t size,
			       unsigned *restrict prio,
			       const struct timespec *restrict deadline)
{
	struct transfer c = {SYS_mq_timedreceive, msg, size, (long)prio};
	struct task *t = task_self();

	if (t == NULL)
		return real.mq_timedreceive(queue, msg, size, prio, deadline);
	return transfer(t, queue, POLLIN, c, deadline);
}

EXPORT ssize_t mq_receive(mqd_t queue, char *msg, size_t size, unsigned *prio)
{
	struct transfer c = {SYS_mq_timedreceive, msg, size, (long)prio};
	struct task *t = task_self();

	if (t == NULL)
		return real.mq_receive(queue, msg, size, prio);
	return transfer(t, queue, POLLIN, c, NULL);
}

EXPORT int mq_timedsend(mqd_t queue, const char *msg, size_t size, unsigned prio,
			const struct timespec *deadline)
{
	struct transfer c = {SYS_mq_timedsend, (char *)msg, size, prio};
	struct task *t = task_self();

	if (t == NULL)
		return real.mq_timedsend(queue, msg, size, prio, deadline);
	return (int)transfer(t, queue, POLLOUT, c, deadline);
}

EXPORT int mq_send(mqd_t queue, const char *msg, size_t size, unsigned prio)
{
	struct transfer c = {SYS_mq_timedsend, (char *)msg, size, prio};
	struct task *t = task_self();

	if (t == NULL)
		return real.mq_send(queue, msg, size, prio);
	return (int)transfer(t, queue, POLLOUT, c, NULL);
}
