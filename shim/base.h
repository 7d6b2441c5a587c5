/* SPDX-License-Identifier: MIT */
/*
 * base.h: the small words that every file of the runtime uses: lists, named-order
 * atomics, branch hints, static checks.  Includes nothing of ours.
 */
#ifndef PGREEN_BASE_H
#define PGREEN_BASE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define CACHE_LINE 64
enum { PAGE = 4096 };

/* The orders are in the names, so that a reader sees each one (nsync's habit). */
#define load_relaxed(p) atomic_load_explicit(p, memory_order_relaxed)
#define load_acquire(p) atomic_load_explicit(p, memory_order_acquire)
#define store_relaxed(p, v) atomic_store_explicit(p, v, memory_order_relaxed)
#define store_release(p, v) atomic_store_explicit(p, v, memory_order_release)
#define add_relaxed(p, v) atomic_fetch_add_explicit(p, v, memory_order_relaxed)
#define add_acq_rel(p, v) atomic_fetch_add_explicit(p, v, memory_order_acq_rel)
#define or_acq_rel(p, v) atomic_fetch_or_explicit(p, v, memory_order_acq_rel)
#define and_acq_rel(p, v) atomic_fetch_and_explicit(p, v, memory_order_acq_rel)
#define swap_acq_rel(p, v) atomic_exchange_explicit(p, v, memory_order_acq_rel)
#define cas_acquire(p, old, new)                                                   \
	atomic_compare_exchange_strong_explicit(p, old, new, memory_order_acquire, \
						memory_order_relaxed)
#define cas_release(p, old, new)                                                   \
	atomic_compare_exchange_strong_explicit(p, old, new, memory_order_release, \
						memory_order_relaxed)
#define cas_acq_rel(p, old, new)                                                   \
	atomic_compare_exchange_strong_explicit(p, old, new, memory_order_acq_rel, \
						memory_order_acquire)
#define fence_seq_cst() atomic_thread_fence(memory_order_seq_cst)

/* Orders against a signal handler of, or a membarrier on, the same kernel thread. */
#define compiler_barrier() atomic_signal_fence(memory_order_seq_cst)

static inline void cpu_relax(void)
{
	__builtin_ia32_pause();
}

static inline size_t round_up(size_t n, size_t to)
{
	return (n + to - 1) / to * to;
}

/* A circular doubly linked list; the head is a node.  Not atomic. */
struct list {
	struct list *next, *prev;
};

static inline void list_init(struct list *l)
{
	l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}

static inline void list_push_back(struct list *head, struct list *node)
{
	node->prev = head->prev;
	node->next = head;
	head->prev->next = node;
	head->prev = node;
}

static inline void list_remove(struct list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	node->next = node->prev = node;
}

#endif
