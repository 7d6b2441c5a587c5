/* SPDX-License-Identifier: MIT */
/*
 * waiting.h: waits of several steps that any handler ends with EINTR.
 *
 * What kernel_point_once() does, in parts, for calls that it does not fit: their timeout
 * runs on when only our own signal interrupted them, or they have a signal mask of their
 * own for as long as they wait.
 *
 *	waiting_begin(&w, t, mask);
 *	do
 *		r = w.over ? -EINTR : kernel_call(...what time is left...);
 *	while (waiting_again(&w, r));
 *	return waiting_end(&w, r);
 */
#ifndef PGREEN_WAITING_H
#define PGREEN_WAITING_H

#include "wrap.h"

struct waiting {
	struct task *t;
	bool masked;       /* mask is to be put back */
	bool over;         /* a handler ran as soon as the mask was changed */
	uint64_t mask;     /* the task's own */
	uint32_t handlers; /* that had run at the beginning */
};

/* Only the first word of a sigset_t has a meaning, as to the kernel. */
static inline uint64_t sigset_word(const sigset_t *set)
{
	return set->__val[0];
}

/* Whether a handler ends the call that was begun when so many had run, and has just returned
 * -EINTR: one without SA_RESTART, or any. */
static inline bool is_interrupted(struct task *t, bool by_any, uint32_t handlers)
{
	bool must = signal_take_eintr(t);

	return must || (by_any && signal_handlers_run(t) != handlers);
}

static inline void waiting_begin(struct waiting *w, struct task *t, const sigset_t *mask)
{
	cancel_enter(t);
	w->t = t;
	w->handlers = signal_handlers_run(t);
	w->masked = mask != NULL;
	if (w->masked) {
		/* What the mask lets in comes now or while it waits, and ends it. */
		signal_ends_waits(t, true);
		w->mask = signal_get_mask(t);
		signal_set_mask(t, sigset_word(mask));
	}
	w->over = signal_handlers_run(t) != w->handlers;
}

/* Whether r means that only a signal of ours came by. */
static inline bool waiting_again(const struct waiting *w, long r)
{
	return r == -EINTR && !task_cancel_wanted(w->t) &&
	       signal_handlers_run(w->t) == w->handlers;
}

static inline long waiting_end(struct waiting *w, long r)
{
	if (w->masked) {
		signal_ends_waits(w->t, false);
		signal_set_mask(w->t, w->mask);
	}
	cancel_leave(w->t, r != -EINTR);
	return ret_errno(r);
}

#endif
