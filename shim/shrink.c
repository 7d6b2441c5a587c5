/* SPDX-License-Identifier: MIT */
/*
 * shrink.c: the stacks of tasks that have been parked for long give back what lies below
 * their stack pointers: a connection that once ran something deep and has idled since keeps
 * the pages of its wait alone.
 *
 * sysmon makes a parked task its own for that time as a switch does (enum park_state): the
 * park word says RUNNING, so who wakes it meanwhile leaves WOKEN there, and sysmon then owes
 * it the push.
 *
 * Nothing is in use below the stack pointer of who only calls and returns.  Who has jumped may
 * have coroutines there, and its stack is left alone: interpose/jump.c.  (Those that a program
 * switches by instructions of its own, on stacks inside its thread's, nobody knows of.)
 */
#include <sys/mman.h>

#include "runtime.h"
#include "slot.h"

enum {
	RED_ZONE = 128, /* below the stack pointer, and in use: the System V ABI */
};

/* The program's own stacks are its memory; a stack pointer elsewhere is a coroutine's. */
static bool is_on_slot(const struct task *t)
{
	uintptr_t sp = (uintptr_t)t->sp, low = (uintptr_t)t->stack_low;

	return t->stack_low > t->slot_low && t->stack_low < t->slot_low + t->slot_size &&
	       sp > low && sp <= low + t->stack_size;
}

static void give_back(struct task *t)
{
	uintptr_t low = (uintptr_t)t->stack_low;
	uintptr_t end = ((uintptr_t)t->sp - RED_ZONE) & ~(uintptr_t)(PAGE - 1);

	if (end > low)
		sys(SYS_madvise, low, end - low, MADV_DONTNEED);
}

static void shrink(struct task *t, uint64_t before)
{
	uint32_t parked = PARK_PARKED, running = PARK_RUNNING;
	uint64_t left = t->left_tsc;

	/* A hint; it is looked at again when the task cannot run. */
	if (left == t->shrunk_tsc || left > before || is_bound(t) || t->slot_low == NULL)
		return;
	/* Pairs with finish_switch(): its registers are saved. */
	if (!cas_acq_rel(&t->park, &parked, PARK_RUNNING))
		return;
	/* It may have run, and bound itself, since. */
	bool bound = is_bound(t);
	left = t->left_tsc;
	/* In a handler it may stand on an alternate stack that lies in its own, and what was
	 * interrupted below. */
	if (!bound && left <= before && t->handlers == NULL && !t->keeps_stack &&
	    is_on_slot(t)) {
		give_back(t);
		t->shrunk_tsc = left;
	}
	/* Pairs with wake_task() and park_take(), which leave the push to us. */
	if (cas_acq_rel(&t->park, &running, PARK_PARKED))
		return;
	if (bound)
		sys_futex_wake(&t->park, 1);
	else
		ready(t);
}

void stacks_shrink(uint32_t most, ns_t patience)
{
	static uint32_t at;
	uint64_t before = __builtin_ia32_rdtsc() - ns_ticks(patience);
	uint32_t n = slot_count();

	for (uint32_t i = 0; i < most && i < n; i++) {
		at = at + 1 < n ? at + 1 : 1;
		struct task *t = slot_at(at);

		/* Pairs with publish(): it is filled in. */
		if (t != NULL && load_acquire(&t->life) == TASK_LIVE)
			shrink(t, before);
	}
}
