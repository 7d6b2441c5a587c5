/* SPDX-License-Identifier: MIT */
/*
 * kthread.h: what a kernel thread of another process is at, with as little disturbance as
 * that takes.
 *
 * Of one that is blocked /proc tells the system call, its arguments, the stack pointer and
 * the program counter, and it is not touched.  Often that is enough to walk its stack.  When
 * it is not, or when the thread runs, it is stopped by ptrace(2), for as long as it takes to
 * read its registers and copy its stack.  A stop ends the wait of some system calls with
 * EINTR that no handler would explain (signal(7), "by stop signals"); so only who is in no
 * call, or in one that the kernel then goes on with, is stopped.
 */
#ifndef CLI_KTHREAD_H
#define CLI_KTHREAD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "remote.h"
#include "unwind.h"

enum kthread_state {
	KTHREAD_GONE,
	KTHREAD_RUNS,    /* or is about to: it computes, or waits for a CPU */
	KTHREAD_BLOCKED, /* in the kernel */
};

enum { NO_CALL = -1 }; /* blocked, but not by a call: a page fault, or stopped */

/* Where the stack that it is on probably lies; high is 0 where that is not known. */
struct bounds {
	uint64_t low, high;
};

struct kthread {
	pid_t tid;
	enum kthread_state state;
	long nr; /* blocked: the system call, or NO_CALL */
	uint64_t args[6];
	struct registers regs;
	struct stack_copy stack; /* the caller frees its bytes */
	bool has_all;            /* registers: it was stopped */
	uint64_t fs;             /* then: its thread pointer */
	const char *refused;     /* why it could not be stopped, or NULL */
};

/* Looks without touching it.  Of one that runs there are no registers, nor a stack. */
void kthread_look(const struct remote *r, pid_t tid, const struct bounds *b,
		  struct kthread *k);

/* Stops it, reads all registers and the stack, lets it go on; if it may be stopped where it
 * is (see above), else k->refused says why not. */
void kthread_stop(const struct remote *r, pid_t tid, const struct bounds *b,
		  struct kthread *k);

void kthread_free(struct kthread *k);

/* The name of a system call, or NULL; whether its first argument is a descriptor. */
const char *call_name(long nr, bool *has_descriptor);

#endif
