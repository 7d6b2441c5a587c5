/* SPDX-License-Identifier: MIT */
/*
 * stacks.h: backtraces as they are shown, and the tasks that have the same.
 *
 * Of the library's own frames only those are shown that the program called by name: what it
 * sees natively is a function of libc there.
 */
#ifndef CLI_STACKS_H
#define CLI_STACKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "image.h"
#include "sight.h"
#include "unwind.h"

struct shown_frame {
	uint64_t pc;
	struct image *image; /* NULL: in none */
	struct symbol *function;
	bool is_handler; /* "<signal handler called>", and nothing else */
};

struct stack {
	struct shown_frame *frame;
	int n;
	bool is_cut;         /* there are more frames */
	bool is_new;         /* there is none yet: only that from which a task begins */
	const char *partial; /* why the rest is not known, or NULL */
	struct sight *sight; /* of the tasks that have it */
	size_t n_sights;
};

struct stacks {
	const struct images *images;
	const struct image *library; /* whose frames are hidden, or NULL: all are shown */
	struct stack **stack;        /* in the order in which they came */
	size_t n;
	uint32_t *table; /* by hash: index + 1; 0: empty */
	size_t table_size;
};

void stacks_init(struct stacks *all, const struct images *images,
		 const struct image *library);

/* Files a task under its stack. */
void stacks_add(struct stacks *all, const struct sight *s, const struct backtrace *b);

/* Makes a stack of a backtrace, for stack_print; the caller frees frame. */
void stack_make(const struct stacks *all, const struct backtrace *b, struct stack *s);
void stack_print(const struct stack *s, FILE *to);

#endif
