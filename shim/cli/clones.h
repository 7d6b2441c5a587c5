/* SPDX-License-Identifier: MIT */
/*
 * clones.h: counts the kernel threads that a process and its descendants create.
 *
 * Exact and nearly free: a perf event that counts nothing, inherited by every
 * child, whose ring buffers get a record of each fork and clone.  Where
 * perf_event_open is not allowed the answer is "unknown"; sampling would miss
 * most of a program's short threads, and ptrace would stop each of them.
 */
#ifndef CLI_CLONES_H
#define CLI_CLONES_H

#include <sys/types.h>

struct clones {
	int n_cpus; /* 0: not available */
	int *fd;
	void **ring;
	long n_threads;
	long n_lost; /* records that the kernel dropped: the count is too low */
};

/* Watches @pid from its next execve on.  0 or -errno. */
int clones_start(struct clones *c, pid_t pid);

/* Counts what has happened by now. */
void clones_read(struct clones *c);

/* The last count, and the end; -1 when it is not known exactly. */
long clones_stop(struct clones *c);

#endif
