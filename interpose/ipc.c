/* SPDX-License-Identifier: MIT */
/*
 * ipc.c: System V's queues and semaphores, and POSIX's queues.
 *
 * Other processes share them, so that all wait in the kernel (door 4).  System V's calls
 * fail with EINTR after any handler, SA_RESTART or not.
 */
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

EXPORT int semop(int set, struct sembuf *ops, size_t n)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.semop(set, ops, n);
	return kernel_point_once(t, SYS_semtimedop, set, (long)ops, (long)n, 0, 0, 0);
}

EXPORT int semtimedop(int set, struct sembuf *ops, size_t n,
		      const struct timespec *timeout)
{
	struct task *t = task_self();
	struct timespec left;
	struct waiting w;
	long r;

	if (t == NULL)
		return real.semtimedop(set, ops, n, timeout);
	if (timeout == NULL)
		return kernel_point_once(t, SYS_semtimedop, set, (long)ops, (long)n, 0, 0,
					 0);
	left = *timeout;
	ns_t deadline = deadline_in(timespec_ns(timeout));
	waiting_begin(&w, t, NULL);
	do {
		r = kernel_call(SYS_semtimedop, set, (long)ops, (long)n, (long)&left, 0,
				0);
		ns_t rest = deadline - now_ns();
		rest = rest < 0 ? 0 : rest;
		left = (struct timespec){.tv_sec = rest / 1000000000,
					 .tv_nsec = rest % 1000000000};
	} while (waiting_again(&w, r));
	return waiting_end(&w, r);
}

/* --- POSIX's queues: the deadlines are points in time -------------------------------------- */

EXPORT ssize_t mq_receive(mqd_t queue, char *msg, size_t size, unsigned *prio)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.mq_receive(queue, msg, size, prio);
	return kernel_point(t, SYS_mq_timedreceive, queue, (long)msg, (long)size,
			    (long)prio, 0, 0);
}

EXPORT ssize_t mq_timedreceive(mqd_t queue, char *restrict msg, size_t size,
			       unsigned *restrict prio,
			       const struct timespec *restrict deadline)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.mq_timedreceive(queue, msg, size, prio, deadline);
	return kernel_point(t, SYS_mq_timedreceive, queue, (long)msg, (long)size,
			    (long)prio, (long)deadline, 0);
}

EXPORT int mq_send(mqd_t queue, const char *msg, size_t size, unsigned prio)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.mq_send(queue, msg, size, prio);
	return kernel_point(t, SYS_mq_timedsend, queue, (long)msg, (long)size, prio, 0,
			    0);
}

EXPORT int mq_timedsend(mqd_t queue, const char *msg, size_t size, unsigned prio,
			const struct timespec *deadline)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.mq_timedsend(queue, msg, size, prio, deadline);
	return kernel_point(t, SYS_mq_timedsend, queue, (long)msg, (long)size, prio,
			    (long)deadline, 0);
}
