/* SPDX-License-Identifier: MIT */
#include "runq.h"

int runq_push(struct runq *q, struct task *t, struct task **batch)
{
	for (;;) {
		/* Pairs with the thieves' CAS: the slots before head are free. */
		uint32_t head = load_acquire(&q->head);
		uint32_t tail = load_relaxed(&q->tail);

		if (likely(tail - head < RUNQ_SIZE)) {
			store_relaxed(&q->slot[tail % RUNQ_SIZE], t);
			/* Pairs with the load of tail in pop and steal: the slot is filled. */
			store_release(&q->tail, tail + 1);
			return 0;
		}
		uint32_t n = RUNQ_SIZE / 2;

		for (uint32_t i = 0; i < n; i++)
			batch[i] = load_relaxed(&q->slot[(head + i) % RUNQ_SIZE]);
		/* Releases the slots to the owner's next push. */
		if (cas_release(&q->head, &head, head + n)) {
			batch[n] = t;
			return n + 1;
		}
	}
}

struct task *runq_push_next(struct runq *q, struct task *t)
{
	/* Pairs with the swaps in pop and steal: t's fields are visible to its taker. */
	return swap_acq_rel(&q->run_next, t);
}

struct task *runq_pop_ring(struct runq *q)
{
	for (;;) {
		/* Pairs with other workers' CAS: a tail read after it is no older. */
		uint32_t head = load_acquire(&q->head);
		uint32_t tail = load_relaxed(&q->tail);

		if (head == tail)
			return NULL;
		struct task *t = load_relaxed(&q->slot[head % RUNQ_SIZE]);
		if (cas_release(&q->head, &head, head + 1))
			return t;
	}
}

struct task *runq_pop(struct runq *q, bool *inherit)
{
	struct task *next = load_relaxed(&q->run_next);

	*inherit = false;
	if (next != NULL) {
		/* Only the owner fills it: if it changed, a thief has emptied it. */
		next = swap_acq_rel(&q->run_next, NULL);
		if (next != NULL) {
			*inherit = true;
			return next;
		}
	}
	return runq_pop_ring(q);
}

struct task *runq_steal(struct runq *q, struct runq *victim, bool with_next)
{
	uint32_t tail = load_relaxed(&q->tail);

	for (;;) {
		/* Pairs with other workers' CAS. */
		uint32_t head = load_acquire(&victim->head);
		/* Pairs with the owner's push: the slots before it are filled. */
		uint32_t n = load_acquire(&victim->tail) - head;

		n -= n / 2;
		if (n == 0) {
			if (with_next && load_relaxed(&victim->run_next) != NULL)
				return swap_acq_rel(&victim->run_next, NULL);
			return NULL;
		}
		if (n > RUNQ_SIZE / 2)
			continue; /* head and tail are not of one moment: read again */
		struct task *first = load_relaxed(&victim->slot[head % RUNQ_SIZE]);

		for (uint32_t i = 1; i < n; i++)
			store_relaxed(
			    &q->slot[(tail + i - 1) % RUNQ_SIZE],
			    load_relaxed(&victim->slot[(head + i) % RUNQ_SIZE]));
		/* Releases the slots to the victim's next push. */
		if (!cas_release(&victim->head, &head, head + n))
			continue;
		/* Pairs with pop and steal on q: what was copied is theirs to take. */
		store_release(&q->tail, tail + n - 1);
		return first;
	}
}
