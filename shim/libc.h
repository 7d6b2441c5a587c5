/* SPDX-License-Identifier: MIT */
/*
 * libc.h: every private fact of glibc that the runtime stands on, in one place.
 *
 * Sizes and offsets come from what ld.so and libc.so export for debuggers (_thread_db_*),
 * or from looking at a thread that glibc itself made; nothing is assumed that is not
 * checked here.  When a check fails the program runs native, and is told so.
 */
#ifndef PGREEN_LIBC_H
#define PGREEN_LIBC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct libc_facts {
	size_t tcb_size;    /* sizeof(struct pthread) */
	size_t static_size; /* static TLS and TCB together, surplus included */
	size_t static_align;
	size_t tid; /* offsets in struct pthread */
	size_t list;
	size_t cancelhandling;
	size_t specific;      /* the first level of keys' values: 32 pointers */
	size_t specific_used; /* bool: some key has a value */
	size_t user_stack;    /* bool */
	size_t res;           /* the resolver's state; 0 until libc_learn() */
	ptrdiff_t resp;       /* of __resp, from the TCB */
	ptrdiff_t rseq;       /* of the rseq area, from the TCB; 0: none */
	ptrdiff_t self_task;  /* of our own thread-local, from the TCB */
	ptrdiff_t tls;        /* of libc's own TLS block, from the TCB */
	size_t tls_size;
	struct pthread_key_slot *keys; /* __pthread_keys */
	uintptr_t stack_end;           /* of the process's first stack */
	_Atomic unsigned *n_threads;   /* __nptl_nthreads, or NULL where it is not told */
};

/* One row of __pthread_keys, checked against _thread_db_sizeof_pthread_key_struct. */
struct pthread_key_slot {
	uintptr_t seq;
	void (*destructor)(void *);
};

/* One value of a key in a TCB, checked against _thread_db_sizeof_pthread_key_data. */
struct pthread_key_value {
	uintptr_t seq;
	void *data;
};

extern struct libc_facts libc_facts __attribute__((visibility("hidden")));

/* Learns the facts.  NULL, or a line for the user: why this libc will not do, and what comes
 * of it.  Once, before threads. */
const char *libc_probe(void);

/* Called in a thread that glibc made: what can only be seen there. */
void libc_learn(void *tcb);

/* The least that libc takes for a stack, of which the static TLS and the TCB are part. */
size_t libc_least_stack(void);

/* Whether it takes these sizes for a stack that it is to make: else pthread_create says EINVAL. */
bool libc_takes_sizes(size_t stack, size_t guard);

/* Adds by to the threads that libc counts, whose last one ends the process; how many there are
 * then, as far as libc tells. */
unsigned libc_count_threads(int by);

/* Makes a TCB, TLS included, at tcb: fresh memory, or one that libc_tcb_init made before,
 * whose libc caches are kept.  The caller is a task or the program's first thread; calls
 * the program's malloc.  0 or -ENOMEM. */
int libc_tcb_init(void *tcb, int tid, bool fresh, void *task);

/* A TCB for a worker: nothing in it but what our own code needs; no malloc. */
void libc_tcb_init_worker(void *tcb, int tid, void *task);

/* Links a TCB on ld.so's list of threads, so that a later dlopen gives it its TLS image and
 * fork's child finds itself there. */
void libc_link_tcb(void *tcb);

/* Whether the thread of a TCB is where libc itself would let a cancel act: inside a call that
 * is a cancellation point, and has not disabled it.  Anyone; it is over soon. */
bool libc_in_cancel_point(const void *tcb);

/* The thread is cancelled in libc's eyes: it acts at its own cancellation points.  Anyone. */
void libc_cancel(void *tcb);

/* Marks a TCB so that glibc's set*id broadcast passes it by: ours reaches every worker. */
void libc_hide_from_setxid(void *tcb);

/* Changes the tid that libc finds in a TCB. */
void libc_set_tid(void *tcb, int tid);

/* Tells the kernel where the TCB's list of robust mutexes is: the calling kernel thread's. */
void libc_register_robust(void *tcb);

/* Whether pc is in libc, ld.so, the vDSO or this library: not preempted there. */
bool libc_owns_pc(uintptr_t pc);
bool runtime_owns_pc(uintptr_t pc);

static inline void *read_fs_base(void)
{
	void *fs;

	/* %fs:0 is header.tcb, its own address (x86-64 TLS ABI). */
	__asm__("movq %%fs:0, %0" : "=r"(fs));
	return fs;
}

#endif
