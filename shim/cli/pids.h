/* SPDX-License-Identifier: MIT */
/*
 * pids.h: the numbers of a process's kernel threads, in its own PID namespace and in ours.
 *
 * What lies in its memory are its own numbers; /proc and ptrace want ours.  In a container
 * they differ.
 */
#ifndef CLI_PIDS_H
#define CLI_PIDS_H

#include <sys/types.h>

/* Our number for the kernel thread of @process that calls itself @inside; 0: there is none. */
pid_t pid_from_inside(pid_t process, pid_t inside);

#endif
