/* SPDX-License-Identifier: MIT */
/*
 * tree.h: counts the kernel threads of everything that descends from us.
 *
 * The descendants are looked up in /proc now and then; their threads are counted
 * at every sample, with one stat each: /proc/PID/task has a link per thread.
 */
#ifndef CLI_TREE_H
#define CLI_TREE_H

#include <sys/types.h>

enum { TREE_MAX = 1024 }; /* more processes than this are not counted */

struct tree {
	pid_t pid[TREE_MAX];
	int n;
	int samples; /* since the descendants were looked up */
};

/* Starts with one process. */
void tree_init(struct tree *t, pid_t first);

/* How many kernel threads there are now. */
long tree_count_threads(struct tree *t);

#endif
