/* SPDX-License-Identifier: MIT */
/*
 * debug.h: what another process is told about this one's tasks; the only header that the
 * launcher shares with the library.
 *
 * The library exports `pgreen_debug`, which says where its data are and how they are laid
 * out.  A reader finds it by its name, in the dynamic symbols, which no strip removes; it
 * copies it from the other's memory and from then on goes by it.  So the launcher reads
 * libraries that other compilers or other sizes of structs have made, and refuses one whose
 * version differs.
 *
 * Nobody waits for a reader, and no lock keeps anything still for it: it has to notice
 * itself that a task has run meanwhile (left_tsc).
 */
#ifndef PGREEN_DEBUG_H
#define PGREEN_DEBUG_H

#include <stdint.h>

/* Goes up whenever a field or address below comes, goes, or changes its meaning. */
enum { DEBUG_VERSION = 1 };

#define DEBUG_MAGIC "pgreen!"

/* F(name, struct, member): the members that a reader needs. */
#define DEBUG_FIELDS(F)                             \
	F(TASK_TID, task, tid)                      \
	F(TASK_WORKER, task, worker)                \
	F(TASK_SP, task, sp)                        \
	F(TASK_TCB, task, tcb)                      \
	F(TASK_NEXT, task, next)                    \
	F(TASK_PARK, task, park)                    \
	F(TASK_LIFE, task, life)                    \
	F(TASK_BOUND, task, bound)                  \
	F(TASK_IS_MAIN, task, is_main)              \
	F(TASK_ADOPTED, task, adopted)              \
	F(TASK_IN_DOOR, task, in_door)              \
	F(TASK_NEVER, task, never)                  \
	F(TASK_DONE, task, done)                    \
	F(TASK_KERNEL_TID, task, kernel_tid)        \
	F(TASK_WAIT_ADDR, task, wait.addr)          \
	F(TASK_WAIT_WORD, task, wait.mutex_word)    \
	F(TASK_WAIT_KIND, task, wait.kind)          \
	F(TASK_WAIT_OBJECT, task, wait.object)      \
	F(TASK_WAIT_DEADLINE, task, wait.deadline)  \
	F(TASK_WAIT_FD, task, wait_fd)              \
	F(TASK_WAIT_EVENTS, task, wait_events)      \
	F(TASK_WAIT_FDS, task, wait_fds)            \
	F(TASK_N_WAIT_FDS, task, n_wait_fds)        \
	F(TASK_START, task, start)                  \
	F(TASK_SIGMASK, task, sigmask)              \
	F(TASK_SIGWAIT, task, sigwait)              \
	F(TASK_STACK_LOW, task, stack_low)          \
	F(TASK_STACK_SIZE, task, stack_size)        \
	F(TASK_RUN_START, task, run_start)          \
	F(TASK_LEFT_TSC, task, left_tsc)            \
	F(TASK_NAME, task, name)                    \
	F(WORKER_IN_RUNTIME, worker, in_runtime)    \
	F(WORKER_PROC, worker, proc)                \
	F(WORKER_KERNEL_PROC, worker, kernel_proc)  \
	F(WORKER_CURRENT, worker, current)          \
	F(WORKER_LEFT, worker, left)                \
	F(WORKER_AFTER, worker, after)              \
	F(WORKER_SPINNING, worker, spinning)        \
	F(WORKER_SELF_TCB, worker, self.tcb)        \
	F(WORKER_TID, worker, tid)                  \
	F(WORKER_ALIVE, worker, kernel_tid)         \
	F(WORKER_NEXT, worker, next_all)            \
	F(WORKER_STRAY, worker, stray)              \
	F(WORKER_LOST_SINCE, worker, lost_since)    \
	F(PROC_STATUS, proc, status)                \
	F(PROC_ID, proc, id)                        \
	F(PROC_OWNER, proc, owner)                  \
	F(PROC_CALLS, proc, kernel_calls)           \
	F(PROC_SEEN_CALLS, proc, seen_kernel_calls) \
	F(PROC_SEEN_SINCE, proc, seen_since)        \
	F(SCHED_LIVE, sched, live)                  \
	F(SCHED_N_PROCS, sched, n_procs)            \
	F(SCHED_WORKERS, sched, all_workers)        \
	F(SCHED_POLLER, sched, poller)              \
	F(SCHED_NS_PER_TICK, sched, ns_per_tick)

#define DEBUG_FIELD_NUMBER(name, type, member) DEBUG_##name,
enum debug_field { DEBUG_FIELDS(DEBUG_FIELD_NUMBER) DEBUG_N_FIELDS };

enum debug_struct {
	DEBUG_SIZE_TASK,
	DEBUG_SIZE_WORKER,
	DEBUG_SIZE_PROC,
	DEBUG_SIZE_SCHED,
	DEBUG_N_STRUCTS
};

/* Addresses in the process; 0 until the runtime wakes. */
enum debug_address {
	DEBUG_SCHED,         /* struct sched */
	DEBUG_SYSMON,        /* struct worker: the kernel thread that watches */
	DEBUG_PROBER,        /* struct worker: its helper, which reads /proc */
	DEBUG_MAIN_TASK,     /* a pointer to it */
	DEBUG_FOREIGN_TASKS, /* a pointer to the first of those without a slot, by next */
	DEBUG_SLOT_TABLE,    /* a pointer to an array of tasks, from index 1 on */
	DEBUG_SLOT_COUNT,    /* its length, 32 bits */
	DEBUG_N_ADDRESSES
};

struct pgreen_debug {
	char magic[8];
	uint32_t version; /* DEBUG_VERSION */
	uint32_t size;    /* of this struct */
	uint64_t address[DEBUG_N_ADDRESSES];
	uint32_t struct_size[DEBUG_N_STRUCTS];
	struct debug_place {
		uint16_t offset;
		uint16_t size;
	} field[DEBUG_N_FIELDS];
};

/* The numbers in those fields; debug.c checks that they are the runtime's own. */
enum {
	DEBUG_LIFE_LIVE = 1,
	DEBUG_LIFE_DONE = 2,
	DEBUG_PARKED = 1,      /* TASK_PARK: its registers are saved, and it waits */
	DEBUG_INTERRUPTED = 3, /* the same, of a bound task */
	DEBUG_PROC_IDLE = 0,
	DEBUG_PROC_IN_KERNEL = 2,
};

enum debug_kind {
	DEBUG_WAIT_WORD,
	DEBUG_WAIT_MUTEX,
	DEBUG_WAIT_COND,
	DEBUG_WAIT_READ,
	DEBUG_WAIT_WRITE,
	DEBUG_WAIT_BARRIER,
	DEBUG_WAIT_SEMAPHORE,
	DEBUG_WAIT_ONCE,
	DEBUG_WAIT_FUTEX,
	DEBUG_WAIT_JOIN,
	DEBUG_WAIT_SLEEP,
	DEBUG_WAIT_SIGNAL,
	DEBUG_WAIT_DESCRIPTOR,
	DEBUG_WAIT_DISK,
	DEBUG_N_WAITS
};

#endif
