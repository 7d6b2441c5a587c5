/* SPDX-License-Identifier: MIT */
/*
 * timer.h: deadlines; a 4-ary heap per processor, as Go's time.go keeps.
 *
 * A timer belongs to one waiting task, which arms it before it parks and disarms it when
 * it runs again, unless it fired.  It lies in the heap of the processor that armed it; any
 * worker may disarm it or, when that processor is idle, fire it: each heap has a lock.
 */
#ifndef PGREEN_TIMER_H
#define PGREEN_TIMER_H

#include "base.h"
#include "lock.h"
#include "shim.h"

struct timer {
	struct timer_heap *_Atomic heap; /* where it is armed, or NULL; heap's lock */
	uint32_t index;                  /* its place there; heap's lock */
};

struct timer_entry {
	ns_t when; /* copied here: the comparisons touch no timer */
	struct timer *timer;
};

struct timer_heap {
	struct lock lock;
	uint32_t n, room;            /* entries used and allocated; lock */
	struct timer_entry *entries; /* lock */
	_Atomic ns_t
	    next; /* the earliest deadline, or NO_DEADLINE; read without the lock */
};

void timer_heap_init(struct timer_heap *h);

/* Arms t in h.  Returns 0, or -ENOMEM; *first says that it is the earliest of h. */
int timer_arm(struct timer_heap *h, struct timer *t, ns_t when, bool *first);

/* Takes t out if it has not fired.  Returns whether it was still armed. */
bool timer_disarm(struct timer *t);

/*
 * Fires every timer due at now: calls fire under the heap's lock, and only then takes the
 * timer out, so that a task that disarms it cannot overtake its own time-out.  Returns how
 * many.  Any worker inside the runtime.
 */
int timer_fire_due(struct timer_heap *h, ns_t now, void (*fire)(struct timer *));

#endif
