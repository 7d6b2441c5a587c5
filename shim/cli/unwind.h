/* SPDX-License-Identifier: MIT */
/*
 * unwind.h: who called whom, from saved registers and a copied stack.
 *
 * libunwind does it, with our own way to the other's memory and to its unwind tables.
 */
#ifndef CLI_UNWIND_H
#define CLI_UNWIND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "image.h"

enum { MOST_FRAMES = 256 };

/* DWARF's numbers (x86-64 psABI). */
enum { REG_RBX_ = 3, REG_RBP_ = 6, REG_RSP_ = 7, REG_R12_ = 12, REG_RIP_ = 16, N_REGS };

struct registers {
	uint64_t value[N_REGS];
	uint32_t known; /* a bit for each */
};

/* A copy of a stack, from @at on. */
struct stack_copy {
	uint64_t at;
	size_t n;
	unsigned char *bytes;
};

struct frame {
	uint64_t pc;
	bool is_exact;  /* the instruction itself, not where a call returns to */
	bool is_signal; /* a handler returns here: what it interrupted is behind it */
};

struct backtrace {
	struct frame frame[MOST_FRAMES];
	int n;
	bool is_whole;   /* the outermost frame is the first function of a stack */
	bool wants_more; /* it ended at a register that is not known */
	bool read_more;  /* it read memory beyond the copy */
};

static inline void register_set(struct registers *r, int number, uint64_t value)
{
	r->value[number] = value;
	r->known |= 1U << number;
}

struct unwinder;

struct unwinder *unwinder_new(const struct images *all);
void unwinder_free(struct unwinder *u);

/* Walks a stack.  No result but what is in @b. */
void unwind(struct unwinder *u, const struct registers *regs,
	    const struct stack_copy *stack, struct backtrace *b);

#endif
