/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "debug.h"
#include "libc.h"
#include "slot.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* Linux 6.13 */
#define MADV_GUARD_REMOVE 103
#endif

enum {
	SLOT_MIN = 8 * PAGE,
	/* Up to 2^47 bytes, all that a process has; a class fits in a task's byte. */
	CLASS_STEPS = 8,
	N_CLASSES = 32 * CLASS_STEPS,
	/* A slab's first number of slots, doubled each time: a program of three threads
	 * reserves little, one of a million makes few mappings. */
	SLAB_FIRST = 16,
	SLAB_MOST = 4096,
	/* A slab's bytes where RLIMIT_AS bounds the address space: what is reserved for
	 * threads to come is missing elsewhere. */
	SLAB_SHORT_SIZE = 8 << 20,
	/* Idle slots of a class that keep their stack's pages, for the next creation:
	 * giving a page back and touching it again costs 2 us. */
	DIRTY_MOST = 64,
	/* A slab starts half a page table's reach off, so that the top of a slot and the
	 * guard of the next, which are both touched, share one page table. */
	PAGE_TABLE_REACH = 2 << 20,
};

struct slot_class {
	struct task *free; /* dirty ones first; pool.lock */
	struct task *free_clean;
	uint32_t n_dirty;
	uint32_t slab_slots;     /* of the next slab */
	char *fresh, *fresh_end; /* of the newest slab: never used yet */
};

static struct {
	struct lock lock;
	struct slot_class classes[N_CLASSES];
	struct task **table; /* SLOT_INDEX_MASK + 1 pointers, by index */
	_Atomic uint32_t n;  /* indices given out */
	uint32_t
	    salt; /* makes tids differ from other processes', which may share objects */
	bool no_guards; /* the kernel has no MADV_GUARD_INSTALL: mprotect */
} pool;

static size_t task_room(void)
{
	return round_up(sizeof(struct task), CACHE_LINE);
}

static size_t tcb_align(void)
{
	return libc_facts.static_align > CACHE_LINE ? libc_facts.static_align
						    : CACHE_LINE;
}

/* Bytes that a slot needs above its stack. */
static size_t top_room(void)
{
	return task_room() + tcb_align() + libc_facts.static_size;
}

/* Sizes go up by eighths of powers of two; class c has size class_size(c). */
static size_t class_size(int c)
{
	size_t base = (size_t)SLOT_MIN << (c / CLASS_STEPS);

	return base + base / CLASS_STEPS * (c % CLASS_STEPS);
}

/*
 * Where the stack that the program is told of ends.  As in libc's threads the static TLS
 * and the TCB count as part of it; a page on top of what was asked makes up for struct
 * task and for our wrappers' frames.
 */
static char *stack_end(const struct task *t)
{
	return t->slot_low + t->slot_size - PAGE;
}

static int class_of(size_t size)
{
	size_t n = (size - 1) / SLOT_MIN;

	if (n == 0)
		return 0;
	int power = 63 - __builtin_clzl(n);
	size_t base = (size_t)SLOT_MIN << power, step = base / CLASS_STEPS;
	int c = power * CLASS_STEPS + (int)((size - base + step - 1) / step);

	return c < N_CLASSES ? c : -1;
}

static void new_salt(void)
{
	/* Any bits that two processes are unlikely to share. */
	uint64_t mixed = (__builtin_ia32_rdtsc() ^ (uint64_t)sys(SYS_getpid) << 40) *
			 0x9e3779b97f4a7c15ULL;

	pool.salt = mixed >> 32 & SLOT_INDEX_MASK;
}

int slot_init(void)
{
	size_t size = (SLOT_INDEX_MASK + 1) * sizeof(struct task *);

	if (pool.table != NULL)
		return 0;
	long p = sys(SYS_mmap, 0, size, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p < 0 && p > -4096)
		return -EAGAIN;
	pool.table = (struct task **)p;
	pool.n = 1; /* index 0 is nobody's */
	new_salt();
	return 0;
}

/* Maps a slab of at most n slots, fewer when the address space does not allow it. */
static char *map_slab(size_t slot_size, uint32_t *n)
{
	for (; *n > 0; *n /= 2) {
		size_t size = slot_size * *n + (*n > 1 ? PAGE_TABLE_REACH : 0);
		long p =
		    sys(SYS_mmap, 0, size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);

		if (p < 0 && p > -4096)
			continue;
		sys(SYS_madvise, p, size, MADV_NOHUGEPAGE);
		if (*n == 1)
			return (char *)p;
		size_t off = (PAGE_TABLE_REACH / 2 - (size_t)p) % PAGE_TABLE_REACH;
		return (char *)p + off / PAGE * PAGE;
	}
	return NULL;
}

static bool address_space_is_short(void)
{
	struct rlimit limit = {.rlim_cur = RLIM_INFINITY};

	return sys(SYS_prlimit64, 0, RLIMIT_AS, NULL, &limit) == 0 &&
	       limit.rlim_cur != RLIM_INFINITY;
}

/* Cuts a slot that was never used; pool.lock held. */
static struct task *cut_locked(struct slot_class *k, int c)
{
	size_t size = class_size(c);

	if (pool.n > SLOT_INDEX_MASK)
		return NULL;
	if (k->fresh == k->fresh_end) {
		uint32_t n = k->slab_slots == 0 ? SLAB_FIRST : k->slab_slots;
		if (address_space_is_short())
			n = size < SLAB_SHORT_SIZE ? SLAB_SHORT_SIZE / size : 1;
		char *slab = map_slab(size, &n);
		if (slab == NULL)
			return NULL;
		k->fresh = slab;
		k->fresh_end = slab + size * n;
		k->slab_slots = n * 2 > SLAB_MOST ? SLAB_MOST : n * 2;
	}
	char *low = k->fresh;
	uintptr_t tcb = (uintptr_t)low + size - task_room() - libc_facts.tcb_size;
	struct task *t = (struct task *)(low + size - task_room());

	k->fresh += size;
	t->tcb = (void *)(tcb - tcb % tcb_align());
	t->slot_low = low;
	t->slot_size = size;
	t->slot_class = c;
	t->index = pool.n;
	pool.table[t->index] = t;
	/* Pairs with slot_count(): the table's entry is filled. */
	store_release(&pool.n, pool.n + 1);
	return t;
}

static struct task *take_locked(struct slot_class *k)
{
	struct task *t = k->free;

	if (t != NULL) {
		k->free = t->free_next;
		k->n_dirty--;
	} else if ((t = k->free_clean) != NULL) {
		k->free_clean = t->free_next;
	}
	return t;
}

/* Opens the guard that the slot's last task had. */
static void clear_guard(struct task *t)
{
	if (t->guard_size == 0)
		return;
	if (!t->guard_is_mapping)
		sys(SYS_madvise, t->guard_low, t->guard_size, MADV_GUARD_REMOVE);
	else
		sys(SYS_mprotect, t->guard_low, t->guard_size, PROT_READ | PROT_WRITE);
	t->guard_size = 0;
}

/* Puts a guard right below the stack.  Without the kernel's help it costs two mappings, and
 * when those have run out the slot goes without. */
static void set_guard(struct task *t, char *low, size_t size)
{
	if (t->guard_low == low && t->guard_size == size)
		return;
	clear_guard(t);
	if (size == 0)
		return;
	if (!pool.no_guards) {
		pool.no_guards = sys(SYS_madvise, low, size, MADV_GUARD_INSTALL) != 0;
		t->guard_is_mapping = false;
	}
	if (pool.no_guards) {
		if (sys(SYS_mprotect, low, size, PROT_NONE) != 0)
			return;
		t->guard_is_mapping = true;
	}
	t->guard_low = low;
	t->guard_size = size;
}

int slot_take(size_t stack_size, size_t guard_size, struct task **out)
{
	int c;
	struct task *t;

	/* 0: the program has a stack of its own. */
	if (stack_size != 0 && !libc_takes_sizes(stack_size, guard_size))
		return -EINVAL;
	if (stack_size > SIZE_MAX / 4 || guard_size > SIZE_MAX / 4)
		return -EAGAIN;
	stack_size = round_up(stack_size, PAGE);
	guard_size = round_up(guard_size, PAGE);
	c = class_of(stack_size + guard_size + round_up(top_room(), PAGE) + PAGE);
	if (c < 0)
		return -EAGAIN;

	lock_acquire(&pool.lock);
	t = take_locked(&pool.classes[c]);
	if (t == NULL)
		t = cut_locked(&pool.classes[c], c);
	lock_release(&pool.lock);
	if (t == NULL)
		return -EAGAIN;

	t->stack_low = stack_end(t) - stack_size;
	t->stack_size = stack_size;
	set_guard(t, t->stack_low - guard_size, guard_size);
	t->generation = t->generation % SLOT_GENERATIONS + 1;
	t->tid = (int)t->generation << SLOT_INDEX_BITS | (int)(t->index ^ pool.salt);
	*out = t;
	return 0;
}

void *slot_stack_top(const struct task *t)
{
	uintptr_t top = (uintptr_t)t->tcb + libc_facts.tcb_size - libc_facts.static_size;

	return (void *)(top & ~(uintptr_t)(CACHE_LINE - 1));
}

/* Gives back the pages below the one that the TLS begins in. */
static void discard_stack(struct task *t)
{
	uintptr_t end = (uintptr_t)slot_stack_top(t) & ~(uintptr_t)(PAGE - 1);

	sys(SYS_madvise, t->slot_low, end - (uintptr_t)t->slot_low, MADV_DONTNEED);
}

void slot_give(struct task *t)
{
	struct slot_class *k = &pool.classes[t->slot_class];
	/* A hint without the lock: a few more or less do not matter. */
	bool keep = load_relaxed((_Atomic uint32_t *)&k->n_dirty) < DIRTY_MOST;

	if (!keep)
		discard_stack(t);
	lock_acquire(&pool.lock);
	store_relaxed(&t->life, TASK_FREE);
	if (keep) {
		t->free_next = k->free;
		k->free = t;
		k->n_dirty++;
	} else {
		t->free_next = k->free_clean;
		k->free_clean = t;
	}
	lock_release(&pool.lock);
}

void slot_trim(void)
{
	for (int c = 0; c < N_CLASSES; c++) {
		struct slot_class *k = &pool.classes[c];

		while (load_relaxed((_Atomic uint32_t *)&k->n_dirty) > 0) {
			lock_acquire(&pool.lock);
			struct task *t = k->n_dirty > 0 ? take_locked(k) : NULL;
			lock_release(&pool.lock);
			if (t == NULL)
				break;
			discard_stack(t);
			lock_acquire(&pool.lock);
			t->free_next = k->free_clean;
			k->free_clean = t;
			lock_release(&pool.lock);
		}
	}
}

void slot_link_tcb(struct task *t)
{
	libc_link_tcb(t->tcb);
}

struct task *slot_of_tid(int tid)
{
	return slot_at(((uint32_t)tid & SLOT_INDEX_MASK) ^ pool.salt);
}

struct task *slot_at(uint32_t index)
{
	if (index == 0 || index >= slot_count())
		return NULL;
	return pool.table[index];
}

uint32_t slot_count(void)
{
	/* Pairs with cut_locked(). */
	return load_acquire(&pool.n);
}

void slot_publish(struct pgreen_debug *d)
{
	d->address[DEBUG_SLOT_TABLE] = (uintptr_t)&pool.table;
	d->address[DEBUG_SLOT_COUNT] = (uintptr_t)&pool.n;
}

void slot_fork_child(struct task *mine)
{
	pool.lock.word = 0;
	new_salt();
	for (int c = 0; c < N_CLASSES; c++) {
		struct slot_class *k = &pool.classes[c];
		k->free = k->free_clean = NULL;
		k->n_dirty = 0;
		/* Another thread may have been about to change them. */
		k->fresh = k->fresh_end = NULL;
	}
	/* Another task's TCB is not used again: what it held of libc's is lost, as the
	 * stacks of a native parent's threads are. */
	for (uint32_t i = 1; i < pool.n; i++) {
		struct task *t = pool.table[i];
		if (t == NULL || t == mine)
			continue;
		store_relaxed(&t->life, TASK_FREE);
	}
}
