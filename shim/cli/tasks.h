/* SPDX-License-Identifier: MIT */
/*
 * tasks.h: the runtime's tasks and workers, as ../debug.h lets another process read them.
 */
#ifndef CLI_TASKS_H
#define CLI_TASKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../debug.h"
#include "image.h"
#include "remote.h"

struct task_view {
	uint64_t at; /* of its struct, by which others name it */
	int tid;
	char name[16];
	bool is_live, is_done, is_bound, is_main, is_adopted, in_door;
	uint32_t park;
	uint64_t worker;
	uint64_t sp, tcb, stack_low, stack_size;
	uint64_t start;
	pid_t kernel_tid; /* bound; our number for it */
	/* What it waits on, if it does: wait_addr is 0 if not. */
	uint64_t wait_addr, wait_word, wait_object, never, done;
	enum debug_kind kind;
	int64_t deadline;
	int fd;
	short events;
	uint64_t fds; /* struct pollfd[n_fds] */
	unsigned n_fds;
	uint64_t sigwait, sigmask;
	/* Time stamps: it runs if it was run after it left. */
	uint64_t run_start, left_tsc;
	uint64_t next;
};

struct worker_view {
	uint64_t at;
	pid_t tid; /* our number for it */
	bool is_alive, in_runtime, is_spinning, is_stray;
	uint64_t proc, kernel_proc, current, left;
	bool is_switching; /* somebody's registers may not be saved yet */
	uint64_t self_tcb, next;
	int64_t lost_since;
};

struct proc_view {
	int id;
	uint32_t status, calls, seen_calls;
	uint64_t owner;
	int64_t seen_since;
};

struct runtime {
	struct remote *remote;
	const struct image *library;
	struct pgreen_debug layout;
	bool is_awake;
	int n_procs;
	uint64_t poller;
	uint64_t ns_per_tick; /* in 2^32nds */
	struct task_view *task;
	size_t n_tasks, n_done; /* done: ended, and not joined yet; not among them */
	const struct task_view **by_tid, **by_place; /* the same, sorted */
	struct worker_view *worker;
	size_t n_workers;
	struct worker_view sysmon, prober;
};

enum runtime_found {
	RUNTIME_FOUND,
	RUNTIME_NONE,  /* the library is not in that process */
	RUNTIME_OTHER, /* it is, of another version */
};

/* Finds the library among the images, and reads what it publishes. */
enum runtime_found runtime_find(struct runtime *rt, const struct images *all);

/* Reads all tasks and workers. */
void runtime_read(struct runtime *rt);
void runtime_free(struct runtime *rt);

/* Reads one anew.  False: it cannot be read. */
bool task_read(const struct runtime *rt, uint64_t at, struct task_view *t);
bool worker_read(const struct runtime *rt, uint64_t at, struct worker_view *w);
bool proc_read(const struct runtime *rt, uint64_t at, struct proc_view *p);

/* From the bytes of its struct, struct_size[] of them, that the caller has read. */
void task_parse(const struct runtime *rt, uint64_t at, const void *bytes,
		struct task_view *t);
void worker_parse(const struct runtime *rt, uint64_t at, const void *bytes,
		  struct worker_view *w);

/* The task with this tid, or this address; NULL. */
const struct task_view *runtime_task_of_tid(const struct runtime *rt, int tid);
const struct task_view *runtime_task_at(const struct runtime *rt, uint64_t at);

/* Whether @pc is in the library's function that calls a task's start routine: nothing of the
 * program's is behind it.  A stripped library does not say. */
bool runtime_calls_start(const struct runtime *rt, const struct images *all, uint64_t pc);

/* Whether it runs, by its time stamps; a bound one always owns its kernel thread. */
static inline bool task_runs(const struct task_view *t)
{
	return t->run_start > t->left_tsc;
}

/* Whether it is parked in a wait: its registers are saved, or its kernel thread's are. */
static inline bool task_is_parked(const struct task_view *t)
{
	return t->wait_addr != 0 &&
	       (t->park == DEBUG_PARKED || t->park == DEBUG_INTERRUPTED) &&
	       (t->is_bound || !task_runs(t));
}

#endif
