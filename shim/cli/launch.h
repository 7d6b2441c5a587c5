/* SPDX-License-Identifier: MIT */
/* launch.h: turns a process into a green program: the library's place, the environment, exec. */
#ifndef CLI_LAUNCH_H
#define CLI_LAUNCH_H

#include <limits.h>

struct launch {
	char library[PATH_MAX]; /* libpgreen.so, absolute */
	const char *procs;      /* GOMAXPROCS, or NULL: the environment's */
	const char *stack;      /* PGREEN_STACK in bytes, or NULL */
};

/* Finds the library.  0 or -ENOENT. */
int launch_find_library(struct launch *l);

/* Finds the library and checks that LD_PRELOAD can name it, or ends with status 125. */
void launch_require_library(struct launch *l);

/* Checks the argument of -p or --stack, or ends with status 125. */
void launch_set_procs(struct launch *l, const char *argument);
void launch_set_stack(struct launch *l, const char *argument);

/* Sets this process's environment so that what it executes runs green, or natively. */
void launch_make_green(const struct launch *l);
void launch_make_native(const struct launch *l);

/* Executes; returns only to say why not, as an exit status. */
int launch_exec(const char *path, char **argv);

/* pgreen [run] */
int launch_main(int argc, char **argv);

#endif
