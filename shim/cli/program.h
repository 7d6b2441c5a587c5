/* SPDX-License-Identifier: MIT */
/* program.h: finds the program that a command line names, and says whether it can run green. */
#ifndef CLI_PROGRAM_H
#define CLI_PROGRAM_H

#include <limits.h>

enum verdict {
	VERDICT_GREEN,      /* nothing speaks against it */
	VERDICT_NATIVE,     /* runs, but only natively: @reason */
	VERDICT_IMPOSSIBLE, /* refused: @reason */
};

struct program {
	char path[PATH_MAX];   /* the file that exec is given */
	char binary[PATH_MAX]; /* the ELF file that runs: path, or the #! interpreter */
	enum verdict verdict;
	char reason[256]; /* completes "PATH: ..." */
};

/* Finds @name as execvp(3) does and judges it.  0, or -errno when it cannot be run. */
int program_find(struct program *p, const char *name);

/* program_find, but ends the process as env(1) does when the program cannot be run. */
void program_require(struct program *p, const char *name);

/* Ends the process with one line and status 125 when the verdict is IMPOSSIBLE. */
void program_refuse_impossible(const struct program *p);

#endif
