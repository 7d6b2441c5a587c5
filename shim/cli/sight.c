/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "say.h"
#include "sight.h"

enum {
	TRIES = 40, /* a task that runs and parks all the time is caught by then */
	TRIES_AT_ONCE = 10,
	PAUSE_NS = 100000,
	STACK_AT_ONCE = 16 << 10,
	PAGE = 4096,
	/* switch_to's frame (switch_x86_64.S): control words, then these. */
	SAVED_R15 = 1,
	SAVED_RIP = 7,
	SAVED_WORDS = 8,
};

static uint64_t now_tsc(void)
{
	return __builtin_ia32_rdtsc();
}

static int64_t length_of(const struct runtime *rt, uint64_t from_tsc)
{
	uint64_t now = now_tsc();

	return from_tsc && now > from_tsc && rt->ns_per_tick > 0
		   ? (int64_t)((unsigned __int128)(now - from_tsc) * rt->ns_per_tick >>
			       32)
		   : -1;
}

/* --- one that does not run ------------------------------------------------------------ */

/* Why a walk that had all registers did not come to its stack's end. */
static const char *why_cut(const struct backtrace *b)
{
	return b->is_whole || b->n == MOST_FRAMES ? NULL
						  : "there are no unwind tables for it";
}

/* Registers as switch_to() saved them at the beginning of the copied stack. */
static bool take_saved(const struct stack_copy *stack, struct registers *r)
{
	static const int order[] = {15, 14, 13, REG_R12_, REG_RBX_, REG_RBP_, REG_RIP_};
	uint64_t words[SAVED_WORDS];

	*r = (struct registers){0};
	if (stack->n < sizeof(words))
		return false;
	memcpy(words, stack->bytes, sizeof(words));
	for (int i = SAVED_R15; i <= SAVED_RIP; i++)
		register_set(r, order[i - SAVED_R15], words[i]);
	register_set(r, REG_RSP_, stack->at + sizeof(words));
	return true;
}

/* The task's own stack.  In a slot the TCB is above it, a page beyond its end at most. */
static struct bounds stack_bounds(const struct task_view *t)
{
	uint64_t end = t->stack_low + t->stack_size;
	bool has_slot = t->tcb > t->stack_low && t->tcb < end + PAGE;

	if (t->stack_low == 0)
		return (struct bounds){0};
	return (struct bounds){t->stack_low, has_slot ? t->tcb : end};
}

/* Where the stack that it parked on ends, as far as we know. */
static uint64_t stack_end(const struct runtime *rt, const struct task_view *t)
{
	struct bounds b = stack_bounds(t);
	const struct mapping *m;

	if (t->sp >= b.low && t->sp < b.high)
		return b.high;
	m = remote_mapping(rt->remote, t->sp);
	return m ? m->end : (t->sp | (PAGE - 1)) + 1;
}

/* The bytes of the copies that make a sight. */
struct copies {
	char *before, *after, *worker, *stack;
};

static struct copies *the_copies(const struct runtime *rt)
{
	static struct copies c;
	const uint32_t *size = rt->layout.struct_size;

	if (c.before)
		return &c;
	c.before = malloc(size[DEBUG_SIZE_TASK]);
	c.after = malloc(size[DEBUG_SIZE_TASK]);
	c.worker = calloc(1, size[DEBUG_SIZE_WORKER]);
	c.stack = malloc(STACK_AT_ONCE);
	if (!c.before || !c.after || !c.worker || !c.stack)
		refuse(STATUS_REFUSED, "out of memory");
	return &c;
}

/* Copies the struct, its worker's, the stack from t->sp on, and the struct again. */
static bool copy_parked(const struct runtime *rt, const struct task_view *t,
			struct stack_copy *stack)
{
	struct copies *c = the_copies(rt);
	size_t task_size = rt->layout.struct_size[DEBUG_SIZE_TASK], whole = 0;
	size_t worker_size = t->worker ? rt->layout.struct_size[DEBUG_SIZE_WORKER] : 0;
	uint64_t end = stack_end(rt, t);
	struct iovec here[4] = {{c->before, task_size},
				{c->worker, worker_size},
				{c->stack, 0},
				{c->after, task_size}};
	struct iovec there[4];

	*stack = (struct stack_copy){.at = t->sp, .bytes = (unsigned char *)c->stack};
	if (end > t->sp)
		stack->n = end - t->sp < STACK_AT_ONCE ? end - t->sp : STACK_AT_ONCE;
	here[2].iov_len = stack->n;
	for (int i = 0; i < 4; i++) {
		const uint64_t at[] = {t->at, t->worker, t->sp, t->at};

		there[i] = (struct iovec){(void *)(uintptr_t)at[i], here[i].iov_len};
		whole += here[i].iov_len;
	}
	if (worker_size == 0)
		memset(c->worker, 0, rt->layout.struct_size[DEBUG_SIZE_WORKER]);
	return remote_read_pieces(rt->remote, here, there, 4) == (ssize_t)whole;
}

static bool is_unchanged(const struct task_view *a, const struct task_view *b)
{
	return b->is_live && a->tid == b->tid && a->run_start == b->run_start &&
	       a->left_tsc == b->left_tsc && a->sp == b->sp && a->worker == b->worker;
}

/* True when the sight is whole; else *t is newer. */
static bool sight_parked(struct sighting *g, struct task_view *t, struct sight *s,
			 struct backtrace *b)
{
	const struct copies *c = the_copies(g->rt);
	struct task_view before, after;
	struct worker_view w;
	struct stack_copy stack;
	struct registers r;

	if (!copy_parked(g->rt, t, &stack)) {
		/* Its stack may be elsewhere by now; or the process is gone. */
		t->is_live = task_read(g->rt, t->at, t) && t->is_live;
		return false;
	}
	task_parse(g->rt, t->at, c->before, &before);
	worker_parse(g->rt, t->worker, c->worker, &w);
	task_parse(g->rt, t->at, c->after, &after);
	bool same = is_unchanged(t, &before) && is_unchanged(&before, &after);
	*t = after;
	/* It may be on its way off the stack still, or on its way to that. */
	if (!same || w.current == t->at || (w.left == t->at && w.is_switching) ||
	    !take_saved(&stack, &r))
		return false;
	unwind(g->unwinder, &r, &stack, b);
	if (b->read_more &&
	    (!task_read(g->rt, t->at, &after) || !is_unchanged(t, &after)))
		return false;
	s->t = after;
	s->partial = why_cut(b);
	s->state = task_is_parked(&after) ? SIGHT_WAITS : SIGHT_READY;
	s->since_ns = length_of(g->rt, after.left_tsc);
	return true;
}

/* --- one that runs -------------------------------------------------------------------- */

static void unwind_kthread(struct sighting *g, const struct bounds *bounds,
			   struct kthread *k, struct backtrace *b, const char **partial)
{
	unwind(g->unwinder, &k->regs, &k->stack, b);
	*partial = b->wants_more ? NULL : why_cut(b);
	if (!b->wants_more || k->has_all ||
	    runtime_calls_start(g->rt, g->images, b->frame[b->n - 1].pc))
		return;
	struct backtrace first = *b;

	kthread_stop(g->rt->remote, k->tid, bounds, k);
	*partial = k->refused;
	if (k->state == KTHREAD_GONE || k->refused) {
		*b = first;
		return;
	}
	unwind(g->unwinder, &k->regs, &k->stack, b);
	*partial = why_cut(b);
}

/* Of a kernel thread: the call that it is in, or a stop where it runs; and its stack. */
static void look_at(struct sighting *g, pid_t tid, const struct bounds *bounds,
		    struct kthread *k, struct backtrace *b, const char **partial)
{
	kthread_look(g->rt->remote, tid, bounds, k);
	if (k->state == KTHREAD_RUNS)
		kthread_stop(g->rt->remote, tid, bounds, k);
	*partial = k->refused;
	b->n = 0;
	if (k->state == KTHREAD_BLOCKED || k->has_all)
		unwind_kthread(g, bounds, k, b, partial);
	kthread_free(k);
}

/* Since when a task is in the kernel where its worker may have lost its processor. */
static int64_t kernel_length(struct sighting *g, const struct worker_view *w)
{
	int64_t lost = w->lost_since ? g->now_ns - w->lost_since : -1;
	struct proc_view p;

	if (!w->kernel_proc || !proc_read(g->rt, w->kernel_proc, &p))
		return w->is_stray ? lost : -1;
	if (p.owner != w->at || p.status != DEBUG_PROC_IN_KERNEL)
		return lost;
	/* sysmon may not have looked since it entered: a moment. */
	return p.calls == p.seen_calls ? g->now_ns - p.seen_since : -1;
}

static bool sight_running(struct sighting *g, struct task_view *t, struct sight *s,
			  struct backtrace *b)
{
	struct bounds bounds = stack_bounds(t);
	struct worker_view w = {0};
	struct task_view now = {0};

	worker_read(g->rt, t->worker, &w);
	if (w.current == t->at)
		look_at(g, w.tid, &bounds, &s->k, b, &s->partial);
	bool was_there = w.current == t->at && s->k.state != KTHREAD_GONE &&
			 (!s->k.has_all || s->k.fs == t->tcb);
	/* And is it still?  Then it was all the time. */
	bool is = task_read(g->rt, t->at, &now) && now.run_start == t->run_start &&
		  worker_read(g->rt, t->worker, &w) && w.current == t->at;

	*t = now;
	if (!was_there || !is)
		return false;
	s->t = now;
	s->kernel_tid = w.tid;
	s->state = s->k.state == KTHREAD_BLOCKED ? SIGHT_IN_KERNEL : SIGHT_RUNS;
	s->since_ns = s->state == SIGHT_RUNS ? length_of(g->rt, now.run_start)
					     : kernel_length(g, &w);
	return true;
}

static bool sight_bound(struct sighting *g, struct task_view *t, struct sight *s,
			struct backtrace *b)
{
	struct bounds bounds = stack_bounds(t);
	struct task_view before = *t;

	look_at(g, t->kernel_tid, &bounds, &s->k, b, &s->partial);
	if (!task_read(g->rt, t->at, t) || !is_unchanged(&before, t) ||
	    task_is_parked(&before) != task_is_parked(t))
		return false;
	s->t = *t;
	s->kernel_tid = t->kernel_tid;
	s->state = task_is_parked(t)               ? SIGHT_WAITS
		   : s->k.state == KTHREAD_BLOCKED ? SIGHT_IN_KERNEL
						   : SIGHT_RUNS;
	if (s->state == SIGHT_WAITS)
		s->since_ns = length_of(g->rt, t->left_tsc);
	return true;
}

static bool sight_once(struct sighting *g, struct task_view *t, struct sight *s,
		       struct backtrace *b)
{
	if (t->is_bound)
		return sight_bound(g, t, s, b);
	return task_runs(t) ? sight_running(g, t, s, b) : sight_parked(g, t, s, b);
}

void sight_task(struct sighting *g, const struct task_view *known, struct sight *s,
		struct backtrace *b)
{
	const struct timespec pause = {.tv_nsec = PAUSE_NS};
	struct task_view t = *known;

	for (int i = 0; i < TRIES; i++) {
		*s = (struct sight){.t = *known, .state = SIGHT_ENDED, .since_ns = -1};
		b->n = 0;
		if (!t.is_live || t.tid != known->tid)
			return;
		s->t = t;
		if (sight_once(g, &t, s, b))
			return;
		if (i >= TRIES_AT_ONCE)
			nanosleep(&pause, NULL);
	}
	s->state = SIGHT_RUNS;
	s->partial = "it runs on and off faster than we look";
	b->n = 0;
}

void sight_kthread(struct sighting *g, pid_t tid, struct kthread *k, struct backtrace *b,
		   const char **partial)
{
	const struct bounds unknown = {0};

	look_at(g, tid, &unknown, k, b, partial);
}
