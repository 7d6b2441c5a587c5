/* SPDX-License-Identifier: MIT */
/*
 * debug.c: tells other processes where the runtime's data are: see debug.h.
 */
#include "debug.h"
#include "runtime.h"

/* Exported, so that it is found in a stripped library too. */
extern struct pgreen_debug pgreen_debug;

#define FIELD(name, type, member) \
	[DEBUG_##                 \
	    name] = {offsetof(struct type, member), sizeof(((struct type *)0)->member)},
#define FITS(name, type, member)                                    \
	_Static_assert(offsetof(struct type, member) <= UINT16_MAX, \
		       "a place has 16 bits for it");
DEBUG_FIELDS(FITS)

__attribute__((visibility("default"))) struct pgreen_debug pgreen_debug = {
    .magic = DEBUG_MAGIC,
    .version = DEBUG_VERSION,
    .size = sizeof(pgreen_debug),
    .struct_size =
	{
	    [DEBUG_SIZE_TASK] = sizeof(struct task),
	    [DEBUG_SIZE_WORKER] = sizeof(struct worker),
	    [DEBUG_SIZE_PROC] = sizeof(struct proc),
	    [DEBUG_SIZE_SCHED] = sizeof(struct sched),
	},
    /* NOLINTNEXTLINE(bugprone-sizeof-expression): pointers' sizes are meant */
    .field = {DEBUG_FIELDS(FIELD)},
};

#define SAME(theirs, ours) \
	_Static_assert((int)(theirs) == (int)(ours), "a reader knows it by this number")
SAME(DEBUG_LIFE_LIVE, TASK_LIVE);
SAME(DEBUG_LIFE_DONE, TASK_DONE);
SAME(DEBUG_PARKED, PARK_PARKED);
SAME(DEBUG_INTERRUPTED, PARK_INTERRUPTED);
SAME(DEBUG_PROC_IDLE, PROC_IDLE);
SAME(DEBUG_PROC_IN_KERNEL, PROC_IN_KERNEL);
SAME(DEBUG_WAIT_WORD, WAIT_WORD);
SAME(DEBUG_WAIT_MUTEX, WAIT_MUTEX);
SAME(DEBUG_WAIT_COND, WAIT_COND);
SAME(DEBUG_WAIT_READ, WAIT_READ);
SAME(DEBUG_WAIT_WRITE, WAIT_WRITE);
SAME(DEBUG_WAIT_BARRIER, WAIT_BARRIER);
SAME(DEBUG_WAIT_SEMAPHORE, WAIT_SEMAPHORE);
SAME(DEBUG_WAIT_ONCE, WAIT_ONCE);
SAME(DEBUG_WAIT_FUTEX, WAIT_FUTEX);
SAME(DEBUG_WAIT_JOIN, WAIT_JOIN);
SAME(DEBUG_WAIT_SLEEP, WAIT_SLEEP);
SAME(DEBUG_WAIT_SIGNAL, WAIT_SIGNAL);
SAME(DEBUG_WAIT_DESCRIPTOR, WAIT_DESCRIPTOR);
SAME(DEBUG_WAIT_DISK, WAIT_DISK);

void debug_publish(void)
{
	struct pgreen_debug *d = &pgreen_debug;

	task_publish(d);
	slot_publish(d);
	sysmon_publish(d);
	/* Last: it says that the others are there. */
	d->address[DEBUG_SCHED] = (uintptr_t)&sched;
}
