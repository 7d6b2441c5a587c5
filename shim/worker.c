/* SPDX-License-Identifier: MIT */
/*
 * worker.c: the kernel threads that run tasks.
 *
 * They are made by clone(2), not by libc's pthread_create: a worker may have to be started
 * while a task holds malloc's lock and has lost its processor, and libc's would call
 * malloc.  A worker's own stack runs nothing but the scheduler, which calls no libc; its
 * TCB needs no more than what our own code reads through %fs.  All signals but those that
 * the kernel raises for a fault and our own are blocked in a worker (signal.c).
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>

#include "libc.h"
#include "runtime.h"
#include "switch.h"

enum {
	WORKER_STACK = 64 * 1024,
	SIGNAL_STACK = 64 * 1024, /* at least AT_MINSIGSTKSZ: 11 KiB with AMX */
};

int worker_init_self(struct worker *w)
{
	size_t align =
	    libc_facts.static_align > CACHE_LINE ? libc_facts.static_align : CACHE_LINE;
	size_t top = round_up(libc_facts.static_size + align, PAGE);
	size_t size = PAGE + SIGNAL_STACK + WORKER_STACK + top;
	long p = sys(SYS_mmap, 0, size, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);

	if (p < 0 && p > -4096)
		return -ENOMEM;
	/* The guard lies below the signal stack, which lies below the stack. */
	sys(SYS_mprotect, p, PAGE, PROT_NONE);
	w->stack = (char *)p;
	w->signal_stack = w->stack + PAGE;
	w->signal_stack_size = SIGNAL_STACK;
	uintptr_t tcb = (p + size - libc_facts.tcb_size) / align * align;
	w->self.tcb = (void *)tcb;
	store_relaxed(&w->self.worker, w);
	w->stack_top = (char *)((tcb + libc_facts.tcb_size - libc_facts.static_size) &
				~(uintptr_t)(CACHE_LINE - 1));
	libc_tcb_init_worker(w->self.tcb, 0, &w->self);
	w->random = (uint32_t)((uintptr_t)w >> 6) | 1;
	return 0;
}

static struct worker *allocate_worker(void)
{
	long p = sys(SYS_mmap, 0, round_up(sizeof(struct worker), PAGE),
		     PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct worker *w = (struct worker *)p;

	if (p < 0 && p > -4096)
		return NULL;
	if (worker_init_self(w) < 0) {
		sys(SYS_munmap, w, round_up(sizeof(struct worker), PAGE));
		return NULL;
	}
	return w;
}

/* A worker whose kernel thread has ended, or a new one; sched.lock held. */
static struct worker *take_dead_locked(void)
{
	for (struct worker **at = &sched.dead_workers; *at != NULL;
	     at = &(*at)->next_idle) {
		struct worker *w = *at;

		/* Pairs with the kernel's clearing: the thread has left its stack. */
		if (load_acquire(&w->kernel_tid) != 0)
			continue;
		*at = w->next_idle;
		return w;
	}
	return NULL;
}

static void worker_main(void *arg)
{
	struct worker *w = arg;

	preempt_setup_thread(w);
	setid_handle(w);
	worker_loop(w);
}

bool worker_spawn(struct worker *w, void (*entry)(void *))
{
	unsigned long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND |
			      CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS |
			      CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
	/* Until it exits nobody takes the worker for dead. */
	store_relaxed(&w->kernel_tid, 1);
	w->in_runtime = 1;
	w->after = AFTER_NOTHING;
	w->robust_list[0] = w->robust_list[1] = w->robust_list[2] = NULL;
	/* It inherits the mask, and sets its own when it can handle what comes; the caller may be
	 * in the middle of changing its own, or sysmon, whose wake shall end its next sleep. */
	uint64_t all = ~0ULL, old;
	sys_sigmask(SIG_SETMASK, &all, &old);
	long tid = clone_thread(flags, w->stack_top, (int *)&w->tid,
				(int *)&w->kernel_tid, w->self.tcb, entry, w);
	sys_sigmask(SIG_SETMASK, &old, NULL);
	if (tid >= 0)
		return true;
	store_relaxed(&w->kernel_tid, 0);
	return false;
}

/* A worker without a kernel thread, or NULL. */
static struct worker *take_worker(void)
{
	lock_acquire(&sched.lock);
	struct worker *w = take_dead_locked();
	lock_release(&sched.lock);
	if (w == NULL)
		w = allocate_worker();
	if (w == NULL)
		return NULL;
	w->owned = w->spinning = false;
	store_relaxed(&w->apart, false);
	return w;
}

/* Starts its kernel thread; without one w is among the dead again. */
static bool launch(struct worker *w, void (*entry)(void *))
{
	store_relaxed(&w->wake_word, 0);
	lock_acquire(&setid_lock);
	setid_inherit(w);
	bool started = worker_spawn(w, entry);
	if (started && !w->is_listed) {
		lock_acquire(&sched.lock);
		w->is_listed = true;
		w->next_all = load_relaxed(&sched.all_workers);
		/* Pairs with sysmon's walk: the worker is filled in. */
		store_release(&sched.all_workers, w);
		lock_release(&sched.lock);
	}
	lock_release(&setid_lock);
	if (started)
		return true;
	lock_acquire(&sched.lock);
	w->next_idle = sched.dead_workers;
	sched.dead_workers = w;
	lock_release(&sched.lock);
	return false;
}

/* Tasks that could run wait for one of those that the kernel blocks: as long as it blocks all
 * of them the program stands still.  (Go ends it, at 10,000 kernel threads.) */
static void tell_that_there_are_no_more(void)
{
	static _Atomic bool told;

	if (!swap_acq_rel(&told, true))
		message(
		    "the machine has no more kernel threads: tasks wait until some that "
		    "block come back");
}

bool worker_start_new(struct proc *p, bool spinning)
{
	struct worker *w = take_worker();

	if (w == NULL)
		return false;
	w->spinning = spinning;
	store_relaxed(&w->given, p);
	if (!launch(w, worker_main))
		return false;
	add_relaxed(&sched.n_workers, 1);
	return true;
}

/* The same, unless this kernel thread must not start one: then sysmon tries. */
static bool worker_create(struct proc *p, bool spinning)
{
	if (load_relaxed(&self_task->worker->apart))
		return false;
	if (worker_start_new(p, spinning))
		return true;
	tell_that_there_are_no_more();
	return false;
}

/* --- a bound task's own -------------------------------------------------------------- */

static void bound_main(void *arg)
{
	struct worker *w = arg;
	struct task *t = load_relaxed(&w->current);

	preempt_setup_thread(w);
	setid_handle(w);
	store_relaxed(&t->kernel_tid, load_relaxed(&w->tid));
	worker_run_bound(w, t);
}

int worker_start_bound(struct task *t)
{
	struct worker *w = take_worker();

	if (w == NULL)
		return -EAGAIN;
	w->owned = true;
	store_relaxed(&w->apart, load_relaxed(&self_task->worker->apart));
	store_relaxed(&w->proc, NULL);
	store_relaxed(&w->given, NULL);
	store_relaxed(&w->current, t);
	store_relaxed(&t->worker, w);
	/* Nobody wakes it before it runs. */
	store_release(&t->bound, true);
	return launch(w, bound_main) ? 0 : -EAGAIN;
}

bool worker_reserve(void)
{
	if (sched.dead_workers != NULL)
		return true;
	struct worker *w = allocate_worker();
	if (w == NULL)
		return false;
	w->next_idle = NULL;
	sched.dead_workers = w;
	return true;
}

bool worker_start(struct proc *p, bool spinning)
{
	lock_acquire(&sched.lock);
	struct worker *w = idle_list_pop_locked();
	lock_release(&sched.lock);
	if (w == NULL) {
		if (worker_create(p, spinning))
			return true;
		store_relaxed(&sched.worker_failed, true);
		return false;
	}
	w->spinning = spinning;
	store_release(&w->given, p);
	worker_poke(w);
	return true;
}

_Noreturn void worker_exit(struct worker *w)
{
	if (!w->owned)
		add_relaxed(&sched.n_workers, -1);
	lock_acquire(&sched.lock);
	w->next_idle = sched.dead_workers;
	sched.dead_workers = w;
	lock_release(&sched.lock);
	/* The kernel clears kernel_tid when the stack is no longer used. */
	for (;;)
		sys(SYS_exit, 0);
}
