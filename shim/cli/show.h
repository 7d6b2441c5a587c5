/* SPDX-License-Identifier: MIT */
/* show.h: a dump's parts, as they are written to standard output. */
#ifndef CLI_SHOW_H
#define CLI_SHOW_H

#include <stdbool.h>

#include "image.h"
#include "remote.h"
#include "sight.h"
#include "stacks.h"
#include "tasks.h"
#include "unwind.h"
#include "waits.h"

struct dump {
	pid_t pid;
	char name[64];
	bool all;   /* the runtime's own frames too */
	bool brief; /* no line for each task */
	struct remote remote;
	struct images images;
	struct runtime rt;
	struct unwinder *unwinder;
	struct waits waits;
	struct stacks stacks;
	size_t n_state[N_SIGHT_STATES];
	size_t n_on_their_own; /* those that will or may run again without another task */
};

/* The kernel threads of the process, by number; the caller frees them. */
pid_t *show_list_kernel_threads(const struct dump *d, size_t *n);

/* The first lines: how many of what there are. */
void show_summary(const struct dump *d, size_t n_kernel_threads);

/* Every task, with its backtrace. */
void show_tasks(const struct dump *d);

/* Every kernel thread, and what it is. */
void show_kernel_threads(const struct dump *d, const pid_t *tid, size_t n);

/* A program whose runtime sleeps: its kernel threads, with their backtraces. */
void show_native(struct dump *d);

#endif
