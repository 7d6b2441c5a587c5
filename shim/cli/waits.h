/* SPDX-License-Identifier: MIT */
/* waits.h: what a task waits on, in words, and whom it waits for. */
#ifndef CLI_WAITS_H
#define CLI_WAITS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "image.h"
#include "kthread.h"
#include "tasks.h"

struct waits {
	const struct runtime *rt;
	const struct images *images;
	int64_t now_ns; /* CLOCK_MONOTONIC */
};

/* The kind of a parked task's wait; DEBUG_WAIT_WORD where what it said last is not about
 * what it waits on now. */
enum debug_kind wait_kind(const struct task_view *t);

/* "wait for a mutex": what @n tasks do that wait so. */
const char *wait_words(enum debug_kind kind, size_t n);

/* Writes what a parked task waits on: "mutex 0x... (name), held by ...". */
void wait_print(const struct waits *w, const struct task_view *t, FILE *to);

/* Writes what a blocked kernel thread waits on: "read of descriptor 3 (...)". */
void wait_print_call(const struct waits *w, const struct kthread *k, FILE *to);

/* Writes how long: "1.234 s", "2 h 5 min". */
void print_length(int64_t ns, FILE *to);

/* Writes a text of the program's, which may hold anything, so that a terminal does not obey
 * it. */
void print_text(const char *text, FILE *to);

/* Writes a task as others name it: its tid and name. */
void print_task(const struct task_view *t, FILE *to);

/* An address, and the object of the program's that lies there. */
void print_object(const struct images *all, uint64_t at, FILE *to);

/* Who must act so that a parked task goes on: the owner of a mutex, the writer of a
 * read-write lock, or who is joined.  False: nobody in particular. */
struct awaited {
	enum debug_kind kind;
	uint64_t object;
	int tid; /* of a task that need not be one any more */
};
bool wait_awaited(const struct runtime *rt, const struct task_view *t, struct awaited *a);

#endif
