/* SPDX-License-Identifier: MIT */
/*
 * popen.h: what close.c and process.c need of popen.c, and others of process.c.
 */
#ifndef PGREEN_POPEN_H
#define PGREEN_POPEN_H

#include "wrap.h"

/* If f is a pipe of ours to a shell: closes it, waits for the shell and tells its status.  One
 * of libc's is forgotten. */
bool popen_close(FILE *f, int *status);

/* The kernel has told the caller that a child has ended: returns when what the child sent
 * before, and its SIGCHLD, have been handled if the caller is main.  Keeps errno. */
void child_ended(struct task *t);

/* process.c: the system call nr, one of exec's two: returns -E. */
long process_exec(struct task *t, long nr, const long a[6]);

/* In the child nobody is in the middle of popen(). */
void popen_fork_child(void);

#endif
