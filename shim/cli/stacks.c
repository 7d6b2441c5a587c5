/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "say.h"
#include "stacks.h"

/* --- what is shown -------------------------------------------------------------------- */

static void name_frame(const struct stacks *all, const struct frame *f,
		       struct shown_frame *s)
{
	/* A call may be the last instruction of a function that does not return. */
	uint64_t at = f->is_exact ? f->pc : f->pc - 1;

	*s = (struct shown_frame){.pc = f->pc, .image = image_at(all->images, at)};
	if (s->image)
		s->function = image_symbol(all->images, s->image, at, true);
}

static bool is_named(const struct shown_frame *f, const char *name)
{
	return f->function && strcmp(f->function->raw, name) == 0;
}

/*
 * Shows what is left of @n frames of the library that follow each other, innermost first:
 * that a handler was called from there (inner frames are the handler's), and the function
 * that the program has called.
 */
static void show_run(const struct stacks *all, const struct frame *frames, int n,
		     bool has_inner, struct stack *to)
{
	struct shown_frame f;
	bool has_handler = false;

	for (int i = 0; has_inner && i < n; i++) {
		name_frame(all, &frames[i], &f);
		has_handler |= frames[i].is_signal || is_named(&f, "run_handler");
	}
	if (has_handler)
		to->frame[to->n++] = (struct shown_frame){.is_handler = true};
	name_frame(all, &frames[n - 1], &f);
	if (f.function && f.function->is_exported)
		to->frame[to->n++] = f;
}

static bool is_hidden(const struct stacks *all, const struct frame *f)
{
	return all->library && image_at(all->images, f->pc) == all->library;
}

void stack_make(const struct stacks *all, const struct backtrace *b, struct stack *s)
{
	*s = (struct stack){.frame = calloc((size_t)b->n + 1, sizeof(*s->frame)),
			    .is_cut = b->n == MOST_FRAMES,
			    .is_new = b->n == 1 && b->is_whole};
	if (!s->frame)
		refuse(STATUS_REFUSED, "out of memory");
	for (int i = 0; i < b->n;) {
		int n = 0;

		while (i + n < b->n && is_hidden(all, &b->frame[i + n]))
			n++;
		if (n > 0) {
			show_run(all, &b->frame[i], n, i > 0, s);
			i += n;
		} else {
			name_frame(all, &b->frame[i], &s->frame[s->n]);
			s->frame[s->n++].is_handler = b->frame[i++].is_signal;
		}
	}
}

static void print_frame(const struct shown_frame *f, int number, FILE *to)
{
	fprintf(to, "    #%-3d ", number);
	if (f->is_handler) {
		fputs("<signal handler called>\n", to);
		return;
	}
	if (f->function)
		fprintf(to, "%s+0x%" PRIx64, symbol_name(f->function),
			f->pc - f->function->at);
	else
		fprintf(to, "0x%" PRIx64, f->image ? f->pc - f->image->bias : f->pc);
	fprintf(to, " (%s)\n", f->image ? f->image->name : "?");
}

void stack_print(const struct stack *s, FILE *to)
{
	for (int i = 0; i < s->n; i++)
		print_frame(&s->frame[i], i, to);
	if (s->is_cut)
		fputs("    ...\n", to);
	if (s->partial)
		fprintf(to, "    (the rest is not known: %s)\n", s->partial);
}

/* --- equal ones ----------------------------------------------------------------------- */

void stacks_init(struct stacks *all, const struct images *images,
		 const struct image *library)
{
	*all = (struct stacks){.images = images, .library = library};
}

static uint64_t hash(const struct stack *s)
{
	uint64_t h = (uint64_t)s->n;

	for (int i = 0; i < s->n; i++)
		h = XXH3_64bits_withSeed(&s->frame[i].pc, sizeof(s->frame[i].pc), h);
	return h;
}

static bool is_equal(const struct stack *a, const struct stack *b)
{
	if (a->n != b->n || a->partial != b->partial || a->is_cut != b->is_cut)
		return false;
	for (int i = 0; i < a->n; i++)
		if (a->frame[i].pc != b->frame[i].pc)
			return false;
	return true;
}

/* Where a stack is in the table, or is to be. */
static size_t slot_of(const struct stacks *all, const struct stack *s)
{
	size_t i = hash(s) % all->table_size;

	while (all->table[i] && !is_equal(all->stack[all->table[i] - 1], s))
		i = (i + 1) % all->table_size;
	return i;
}

/* Keeps the table at most half full. */
static void make_room(struct stacks *all)
{
	if (2 * (all->n + 1) <= all->table_size)
		return;
	free(all->table);
	all->table_size = all->table_size ? 2 * all->table_size : 64;
	all->table = calloc(all->table_size, sizeof(*all->table));
	all->stack = realloc(all->stack, all->table_size * sizeof(struct stack *));
	if (!all->table || !all->stack)
		refuse(STATUS_REFUSED, "out of memory");
	for (size_t i = 0; i < all->n; i++)
		all->table[slot_of(all, all->stack[i])] = (uint32_t)i + 1;
}

static struct stack *file_under(struct stacks *all, struct stack *s)
{
	make_room(all);
	size_t i = slot_of(all, s);

	if (all->table[i]) {
		free(s->frame);
		return all->stack[all->table[i] - 1];
	}
	struct stack *kept = malloc(sizeof(*kept));
	if (!kept)
		refuse(STATUS_REFUSED, "out of memory");
	*kept = *s;
	all->stack[all->n++] = kept;
	all->table[i] = (uint32_t)all->n;
	return kept;
}

void stacks_add(struct stacks *all, const struct sight *s, const struct backtrace *b)
{
	struct stack made, *stack;

	stack_make(all, b, &made);
	made.partial = s->partial;
	stack = file_under(all, &made);
	if ((stack->n_sights & (stack->n_sights - 1)) == 0) {
		size_t room = stack->n_sights ? 2 * stack->n_sights : 1;

		stack->sight = realloc(stack->sight, room * sizeof(*stack->sight));
		if (!stack->sight)
			refuse(STATUS_REFUSED, "out of memory");
	}
	stack->sight[stack->n_sights++] = *s;
}
