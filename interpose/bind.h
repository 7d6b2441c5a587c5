/* SPDX-License-Identifier: MIT */
/*
 * bind.h: which threads get a kernel thread of their own, and by which calls.
 */
#ifndef PGREEN_BIND_H
#define PGREEN_BIND_H

#include "wrap.h"

/* Whether PGREEN_NATIVE names the thread that creator starts with this routine. */
bool native_wants(struct task *creator, void *start);

/* Binds t if PGREEN_NATIVE names it. */
void native_look(struct task *t);

/* The system calls of this file by number.  False: nr is none of them. */
bool bind_call(struct task *t, long nr, const long a[6], long *result);

/* The same while the runtime sleeps, before the kernel makes the call. */
void bind_call_early(long nr, const long a[6]);

#endif
