/* SPDX-License-Identifier: MIT */
/*
 * signal.h: what syscall.c needs of signal.c.
 *
 * The name is also that of a header of libc's, which is meant wherever this directory is
 * searched first; so that one is included on the way.
 */
#include_next <signal.h>

#ifndef PGREEN_SIGNAL_H
#define PGREEN_SIGNAL_H

struct task;

/* Sends sig, as tgkill does, to the thread of this process that has the id tid: a task's,
 * or a kernel thread's that is nobody's.  0, or -E.  Sig 0 only asks. */
int thread_kill_tid(int tid, int sig);

/* The same of a task's id, as rt_tgsigqueueinfo does. */
int thread_queue_tid(struct task *self, int tid, int sig, const siginfo_t *asked);

/* The kernel has been made to send sig, with this result, perhaps to this process: if the
 * caller does not block it, it is delivered before this returns the result. */
long signal_sent(struct task *t, int sig, long r);

#endif
