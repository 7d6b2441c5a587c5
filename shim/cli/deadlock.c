/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "deadlock.h"
#include "say.h"

/* A task, and who it waits for: an index of the list, or one of these. */
enum { NOBODY = -1 };

struct edge {
	struct task_view t; /* as it was when the owner was read */
	long to;
	struct awaited awaited;
	int mark; /* the walk that came by, or 0 */
	bool leads_there;
};

static long index_of(const struct runtime *rt, int tid)
{
	const struct task_view *t = runtime_task_of_tid(rt, tid);

	return t ? t - rt->task : NOBODY;
}

static bool is_same_wait(const struct task_view *a, const struct task_view *b)
{
	return b->is_live && a->tid == b->tid && task_is_parked(b) &&
	       a->left_tsc == b->left_tsc && a->wait_addr == b->wait_addr;
}

/* Who awaits whom now.  The tasks are read first, then the owners. */
static struct edge *read_edges(const struct runtime *rt)
{
	struct edge *e = calloc(rt->n_tasks + 1, sizeof(*e));

	if (!e)
		refuse(STATUS_REFUSED, "out of memory");
	for (size_t i = 0; i < rt->n_tasks; i++) {
		enum debug_kind kind = wait_kind(&rt->task[i]);

		e[i].to = NOBODY;
		if (kind != DEBUG_WAIT_MUTEX && kind != DEBUG_WAIT_READ &&
		    kind != DEBUG_WAIT_WRITE && kind != DEBUG_WAIT_JOIN)
			continue;
		if (task_read(rt, rt->task[i].at, &e[i].t) && e[i].t.is_live &&
		    task_is_parked(&e[i].t))
			e[i].to = 0;
	}
	for (size_t i = 0; i < rt->n_tasks; i++)
		if (e[i].to != NOBODY)
			e[i].to = wait_awaited(rt, &e[i].t, &e[i].awaited)
				      ? index_of(rt, e[i].awaited.tid)
				      : NOBODY;
	return e;
}

/* Whether nobody of the circle has run meanwhile. */
static bool still_waits(const struct runtime *rt, const struct edge *e, long first)
{
	struct task_view now;
	long i = first;

	do {
		if (!task_read(rt, e[i].t.at, &now) || !is_same_wait(&e[i].t, &now))
			return false;
		i = e[i].to;
	} while (i != first);
	return true;
}

/* How many others wait for one of the circle, or for one who does. */
static size_t count_followers(const struct runtime *rt, struct edge *e, long first)
{
	size_t n = 0, before;
	long i = first;

	for (size_t k = 0; k < rt->n_tasks; k++)
		e[k].leads_there = false;
	do {
		e[i].leads_there = true;
		i = e[i].to;
	} while (i != first);
	do {
		before = n;
		for (size_t k = 0; k < rt->n_tasks; k++)
			if (e[k].to != NOBODY && !e[k].leads_there &&
			    e[e[k].to].leads_there) {
				e[k].leads_there = true;
				n++;
			}
	} while (n != before);
	return n;
}

static void print_edge(const struct waits *w, const struct edge *e, FILE *to)
{
	static const char *const words[DEBUG_N_WAITS] = {
	    [DEBUG_WAIT_MUTEX] = "mutex ",
	    [DEBUG_WAIT_READ] = "read-write lock ",
	    [DEBUG_WAIT_WRITE] = "read-write lock ",
	};
	const struct task_view *other = &w->rt->task[e->to];

	fputs("  ", to);
	print_task(&e->t, to);
	fputs(" waits for ", to);
	if (e->awaited.kind == DEBUG_WAIT_JOIN) {
		fputs("the end of ", to);
		print_task(other, to);
	} else {
		fputs(words[e->awaited.kind], to);
		print_object(w->images, e->awaited.object, to);
		fputs(", held by ", to);
		if (other->at == e->t.at)
			fputs("itself", to);
		else
			print_task(other, to);
	}
	fputc('\n', to);
}

static void print_circle(const struct waits *w, struct edge *e, long first, FILE *to)
{
	size_t n = 0, followers = count_followers(w->rt, e, first);
	long i = first;

	do {
		n++;
		i = e[i].to;
	} while (i != first);
	if (n == 1)
		fputs("\nDEADLOCK: a task waits for itself\n", to);
	else
		fprintf(to, "\nDEADLOCK: %zu tasks wait for each other\n", n);
	do {
		print_edge(w, &e[i], to);
		i = e[i].to;
	} while (i != first);
	if (followers)
		fprintf(to, "  %zu more wait%s for them\n", followers,
			followers == 1 ? "s" : "");
}

int deadlocks_print(const struct waits *w, FILE *to)
{
	const struct runtime *rt = w->rt;
	struct edge *e = read_edges(rt);
	int n = 0, walk = 0;

	for (size_t start = 0; start < rt->n_tasks; start++) {
		long i = (long)start;

		for (walk++; i != NOBODY && e[i].mark == 0; i = e[i].to)
			e[i].mark = walk;
		/* It came back to where it has been itself. */
		if (i == NOBODY || e[i].mark != walk || !still_waits(rt, e, i))
			continue;
		print_circle(w, e, i, to);
		n++;
	}
	free(e);
	return n;
}
