/* SPDX-License-Identifier: MIT */
/*
 * runq.h: a processor's local run queue.
 *
 * One producer, many consumers: the owner pushes at the tail, the owner and any thief
 * take from the head.  Beside the ring stands run_next: the task that was made runnable
 * last runs first and inherits the time slice, so that a pair that ping-pongs stays on
 * one processor.  Nothing here locks, allocates or sleeps.  After Go's proc.go (runqput,
 * runqget, runqgrab).
 */
#ifndef PGREEN_RUNQ_H
#define PGREEN_RUNQ_H

#include "base.h"

struct task;

enum { RUNQ_SIZE = 256 }; /* Go's (runtime2.go, p.runq); indices wrap by masking */
_Static_assert((RUNQ_SIZE & (RUNQ_SIZE - 1)) == 0, "RUNQ_SIZE is a power of two");

struct runq {
	_Atomic uint32_t head; /* next to take; by any worker, with a CAS */
	_Atomic uint32_t tail; /* next to fill; by the owner only */
	struct task
	    *_Atomic run_next; /* the owner fills it; any worker may swap it out */
	struct task *_Atomic slot[RUNQ_SIZE]; /* [head, tail) are runnable tasks */
};

/* Appends t.  Returns how many tasks were moved to batch because the ring was full: half of
 * it and t, to be put on the global queue; 0 mostly.  batch has room for
 * RUNQ_SIZE / 2 + 1.  Owner only. */
int runq_push(struct runq *q, struct task *t, struct task **batch);

/* Makes t the next to run; returns the task that was, to be pushed, or NULL.  Owner only. */
struct task *runq_push_next(struct runq *q, struct task *t);

/* Takes the next task, or NULL; *inherit is set when it was run_next.  Owner only. */
struct task *runq_pop(struct runq *q, bool *inherit);

/* Takes the next but for run_next, or NULL.  Owner only. */
struct task *runq_pop_ring(struct runq *q);

/* Moves half of victim's tasks to q and returns one of them, or NULL.  with_next allows
 * taking victim's run_next when the ring is empty.  q's owner only. */
struct task *runq_steal(struct runq *q, struct runq *victim, bool with_next);

/* Whether there seems to be nothing.  Anyone; a hint unless the owner asks. */
static inline bool runq_empty(const struct runq *q)
{
	/* Pairs with push: work pushed before our caller's fence is seen. */
	return load_acquire(&q->head) == load_acquire(&q->tail) &&
	       load_acquire(&q->run_next) == NULL;
}

#endif
