/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <sys/mman.h>

#include "timer.h"

enum { ARITY = 4, FIRST_ROOM = 256 };

void timer_heap_init(struct timer_heap *h)
{
	store_relaxed(&h->next, NO_DEADLINE);
}

static void place(struct timer_heap *h, uint32_t i, struct timer_entry e)
{
	h->entries[i] = e;
	e.timer->index = i;
}

static void sift_up(struct timer_heap *h, uint32_t i, struct timer_entry e)
{
	while (i > 0) {
		uint32_t parent = (i - 1) / ARITY;

		if (h->entries[parent].when <= e.when)
			break;
		place(h, i, h->entries[parent]);
		i = parent;
	}
	place(h, i, e);
}

static void sift_down(struct timer_heap *h, uint32_t i, struct timer_entry e)
{
	for (;;) {
		uint32_t first = i * ARITY + 1, least = first;

		if (first >= h->n)
			break;
		for (uint32_t c = first + 1; c < first + ARITY && c < h->n; c++)
			if (h->entries[c].when < h->entries[least].when)
				least = c;
		if (h->entries[least].when >= e.when)
			break;
		place(h, i, h->entries[least]);
		i = least;
	}
	place(h, i, e);
}

static int grow_locked(struct timer_heap *h)
{
	uint32_t room = h->room == 0 ? FIRST_ROOM : h->room * 2;
	size_t size = room * sizeof(struct timer_entry);
	long p;

	if (h->room == 0)
		p = sys(SYS_mmap, 0, size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	else
		p = sys(SYS_mremap, h->entries, size / 2, size, MREMAP_MAYMOVE);
	if (p < 0 && p > -4096)
		return -ENOMEM;
	h->entries = (struct timer_entry *)p;
	h->room = room;
	return 0;
}

static void publish_next_locked(struct timer_heap *h)
{
	store_release(&h->next, h->n == 0 ? NO_DEADLINE : h->entries[0].when);
}

int timer_arm(struct timer_heap *h, struct timer *t, ns_t when, bool *first)
{
	lock_acquire(&h->lock);
	if (h->n == h->room && grow_locked(h) < 0) {
		lock_release(&h->lock);
		return -ENOMEM;
	}
	sift_up(h, h->n++, (struct timer_entry){when, t});
	*first = t->index == 0;
	store_relaxed(&t->heap, h);
	publish_next_locked(h);
	lock_release(&h->lock);
	return 0;
}

static void remove_locked(struct timer_heap *h, uint32_t i)
{
	struct timer_entry last = h->entries[--h->n];

	/* Pairs with timer_disarm: all that was done to the timer, and fire, is over. */
	store_release(&h->entries[i].timer->heap, NULL);
	if (i == h->n)
		return;
	if (i > 0 && h->entries[(i - 1) / ARITY].when > last.when)
		sift_up(h, i, last);
	else
		sift_down(h, i, last);
}

bool timer_disarm(struct timer *t)
{
	struct timer_heap *h;

	/* A heap only ever loses a timer by its lock: look again under it.  Pairs with
	 * remove_locked: who finds it fired may use it again without the lock. */
	while ((h = load_acquire(&t->heap)) != NULL) {
		lock_acquire(&h->lock);
		bool ours = load_relaxed(&t->heap) == h;
		if (ours) {
			remove_locked(h, t->index);
			publish_next_locked(h);
		}
		lock_release(&h->lock);
		if (ours)
			return true;
	}
	return false;
}

int timer_fire_due(struct timer_heap *h, ns_t now, void (*fire)(struct timer *))
{
	int n = 0;

	/* A hint: whoever arms an earlier one wakes the poller itself. */
	while (load_relaxed(&h->next) <= now) {
		lock_acquire(&h->lock);
		if (h->n > 0 && h->entries[0].when <= now) {
			struct timer *t = h->entries[0].timer;

			fire(t);
			remove_locked(h, t->index);
			n++;
		}
		publish_next_locked(h);
		lock_release(&h->lock);
	}
	return n;
}
