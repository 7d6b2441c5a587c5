/* SPDX-License-Identifier: MIT */
/*
 * sleep.h: the sleeps as system calls, for syscall().
 */
#ifndef PGREEN_SLEEP_H
#define PGREEN_SLEEP_H

#include "wrap.h"

/* As the system call clock_nanosleep: 0 or -E; ends early when the caller stands at a
 * cancellation point and is cancelled. */
int sleep_on_clock(struct task *t, clockid_t clock, int flags,
		   const struct timespec *time, struct timespec *left);

#endif
