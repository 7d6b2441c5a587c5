/* SPDX-License-Identifier: MIT */
/*
 * sight.h: one task as it was at one moment: its state and its backtrace.
 *
 * Of a task that does not run, the struct, the stack and the struct again are copied in one
 * call: if it has not run meanwhile, by its time stamps, they belong together.  One that
 * runs is seen on its worker's kernel thread (kthread.h).
 */
#ifndef CLI_SIGHT_H
#define CLI_SIGHT_H

#include <stdbool.h>
#include <stdint.h>

#include "kthread.h"
#include "tasks.h"
#include "unwind.h"

enum sight_state {
	SIGHT_WAITS, /* parked */
	SIGHT_READY, /* runnable, and waits for a processor */
	SIGHT_RUNS,
	SIGHT_IN_KERNEL, /* its kernel thread is blocked */
	SIGHT_ENDED,     /* while we looked */
	N_SIGHT_STATES
};

struct sight {
	struct task_view t;
	enum sight_state state;
	pid_t kernel_tid;    /* the kernel thread that it is on, or 0 */
	struct kthread k;    /* in the kernel: the call, without registers and stack */
	int64_t since_ns;    /* how long it has been so; -1: not known */
	const char *partial; /* why the backtrace is not whole, or NULL */
};

struct sighting {
	struct runtime *rt;
	const struct images *images;
	struct unwinder *unwinder;
	int64_t now_ns;
};

/* Looks at the task that @t was when the list was read. */
void sight_task(struct sighting *g, const struct task_view *t, struct sight *s,
		struct backtrace *b);

/* Looks at a kernel thread that is no task's. */
void sight_kthread(struct sighting *g, pid_t tid, struct kthread *k, struct backtrace *b,
		   const char **partial);

#endif
