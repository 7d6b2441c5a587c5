/* SPDX-License-Identifier: MIT */
/*
 * slot.h: a task's memory.
 *
 *   low                                                                         high
 *   | unused | guard | stack, grows down ... | static TLS | TCB | struct task |
 *
 * Slots of one size class are cut from large MAP_NORESERVE slabs, so that the number of
 * tasks is bounded neither by vm.max_map_count nor by the memory that they do not touch.
 * A slot is never unmapped: its struct task and TCB stay valid for who looks at a stale
 * pthread_t, and are used again.  Its stack's pages are given back when it goes idle, or,
 * for the few that the next creation will use, soon after.
 *
 * The lock is a leaf.  Tasks, outside the runtime too: code of shim/ is not preempted.
 */
#ifndef PGREEN_SLOT_H
#define PGREEN_SLOT_H

#include "runtime.h"

enum {
	SLOT_INDEX_BITS = 22, /* four million tasks; a tid's low bits */
	SLOT_INDEX_MASK = (1 << SLOT_INDEX_BITS) - 1,
	SLOT_GENERATIONS = 252, /* so a tid stays below 2^30, as futex words demand */
	CLOCK_GENERATIONS = 63, /* and in a CPU clock's id below 2^28: task_clock_tid() */
};
_Static_assert(SLOT_GENERATIONS % CLOCK_GENERATIONS == 0, "they begin again together");
_Static_assert(1 << SLOT_INDEX_BITS == FIRST_TASK_TID, "generations count from 1");

int slot_init(void); /* 0 or -EAGAIN */

/* Takes a slot with room for stack_size bytes of stack above guard_size bytes of guard.
 * The TCB may be fresh (t->tls_ready is false) or used.  0, -EINVAL for sizes that
 * libc would refuse, or -EAGAIN when memory, mappings or tids have run out. */
int slot_take(size_t stack_size, size_t guard_size, struct task **t);

/* Gives a slot back.  Its task has left the stack. */
void slot_give(struct task *t);

/* Gives the stacks of idle slots back to the kernel; sysmon, once a second. */
void slot_trim(void);

/* Links a fresh slot's TCB on libc's list; after libc_tcb_init. */
void slot_link_tcb(struct task *t);

/* The first stack pointer of a slot's own stack. */
void *slot_stack_top(const struct task *t);

/* The task with this slot index, or NULL. */
struct task *slot_at(uint32_t index);
uint32_t slot_count(void);

/* The task of the slot that a virtual tid names, alive or not, or NULL. */
struct task *slot_of_tid(int tid);

/* After fork, in the child: every task but t is gone.  Their slots are not used again. */
void slot_fork_child(struct task *t);

#endif
