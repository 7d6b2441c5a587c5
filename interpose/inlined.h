/* SPDX-License-Identifier: MIT */
/*
 * inlined.h: code that makes system calls by instructions of its own.
 */
#ifndef PGREEN_INLINED_H
#define PGREEN_INLINED_H

#include "wrap.h"

/* The code at caller has created a thread: if it waits without calling anybody, we see to it
 * that it does not keep its kernel thread. */
void inlined_look_at(const void *caller);

/* In a forked child the kernel has forgotten what it was told. */
void inlined_fork_child(void);

/* syscall.c, for host: makes a call that was stopped.  The kernel's answer, or -E. */
long serve_system_call(struct task *t, long nr, const long a[6]);

#endif
