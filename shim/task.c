/* SPDX-License-Identifier: MIT */
/*
 * task.c: a task's life: created, adopted, joined, ended.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "debug.h"
#include "libc.h"
#include "runtime.h"
#include "slot.h"
#include "switch.h"

/*
 * Bits of task.done, which is one word so that an end meets a detach or join exactly once.
 * DETACHED and JOINING are never set together, and each has one owner, who frees the slot:
 * a detach before the end leaves it to task_finish(), one after it does it itself; the
 * joiner does it after the end.  A joiner whose time is up may clear JOINING before the end
 * only; once ENDED is there it has joined.  One that is cancelled in the middle has not,
 * whenever that is, and clears it too.
 */
enum { DETACHED = 1, JOINING = 2, ENDED = 4 };

__thread struct task *self_task;
struct host host;

static struct task main_task;

/* Main and the adopted tasks, which have no slot. */
static struct {
	struct task *main;
	struct lock lock;  /* writing the lists */
	struct task *free; /* adopted tasks that ended */
	/* Those that ever were, by next; their memory stays.  Read without the lock. */
	struct task *_Atomic all;
	_Atomic int n_adopted; /* alive */
} foreign;

_Static_assert(offsetof(struct task, tid) == 0, "task_tid() reads the first word");

/* --- creation ---------------------------------------------------------------------- */

/* Whatever the slot's last task may have left behind: a cancel unwinds from the middle of a
 * wait, and a handler may jump out of one. */
static void begin_life(struct task *t, const struct task_spec *spec)
{
	t->start = spec->start;
	t->arg = spec->arg;
	t->c11 = spec->c11;
	t->result = NULL;
	store_relaxed(&t->bound, false);
	store_relaxed(&t->rests, false);
	t->keeps_slot = t->keeps_stack = t->is_main = false;
	t->cpu_before = 0;
	store_relaxed(&t->kernel_tid, 0);
	t->cancel_point = t->cancel_anywhere = t->at_wait = false;
	store_relaxed(&t->interrupt, 0);
	store_relaxed(&t->in_door, false);
	t->handlers = NULL;
	t->pkru = switch_keeps_pkru ? pkru_read() : PKRU_FIRST;
	t->interrupted = NULL;
	store_relaxed(&t->cpu_tsc, 0);
	t->altstack = (stack_t){0};
	store_relaxed(&t->spins_held, 0);
	store_relaxed(&t->attention, 0);
	store_relaxed(&t->park, PARK_RUNNING);
	store_relaxed(&t->done, spec->detached ? DETACHED : 0);
	store_relaxed(&t->joining, NULL);
	store_relaxed(&t->wait_fd, -1);
	t->n_wait_fds = 0;
	store_relaxed(&t->was_cut, false);
	t->by_handlers = t->eintr_wanted = false;
	store_relaxed(&t->sigwait, 0);
	t->sigwait_counted = 0;
	store_relaxed(&t->sigmask, spec->sigmask);
	store_relaxed(&t->pending.set, 0);
	t->pending.queue = NULL;
	store_relaxed(&t->raised, 0);
	memset(t->ext, 0, sizeof(t->ext));
	memset(t->name, 0, sizeof(t->name));
}

/*
 * All tasks together are one of the threads that libc counts, as long as there is any: main
 * was the first.  The others are libc's own, for timers and the like, and the last of them all
 * ends the process, as natively.
 */
static void count_task(void)
{
	/* Only an adopted thread can find none. */
	if (add_acq_rel(&sched.n_tasks, 1) == 0)
		libc_count_threads(1);
}

/* Whether that was the last, and libc has no thread either. */
static bool uncount_task(void)
{
	return add_acq_rel(&sched.n_tasks, -1) == 1 && libc_count_threads(-1) == 0;
}

static void publish(struct task *t)
{
	/* Pairs with task_of_tid() and tasks_for_each(): t is filled in. */
	store_release(&t->life, TASK_LIVE);
}

static bool is_live(const struct task *t)
{
	/* Pairs with publish(). */
	return load_acquire(&t->life) == TASK_LIVE;
}

/* A slot for what spec wants. */
static int find_slot(const struct task_spec *spec, struct task **t)
{
	size_t stack = spec->stack != NULL ? 0 : spec->stack_size;
	size_t guard = spec->stack != NULL ? 0 : spec->guard_size;
	int r = slot_take(stack, guard, t);

	/* Natively others end while the caller tries again and again: here it may have their
	 * processor. */
	if (unlikely(r == -EAGAIN) && work_anywhere()) {
		task_yield();
		r = slot_take(stack, guard, t);
	}
	return r;
}

int task_create(const struct task_spec *spec, uintptr_t *id)
{
	struct task *self = self_task, *t;
	void *top;

	if (spec->stack != NULL && spec->stack_len < libc_least_stack())
		return -EINVAL;
	/* slot_take and libc_tcb_init may call malloc and wait for libc's locks: not
	 * inside the runtime. */
	int r = find_slot(spec, &t);
	if (r < 0)
		return r;
	r = libc_tcb_init(t->tcb, t->tid, !t->tls_ready, t);
	if (r < 0) {
		slot_give(t);
		return -EAGAIN;
	}
	if (!t->tls_ready)
		slot_link_tcb(t);
	t->tls_ready = true;
	top = slot_stack_top(t);
	if (spec->stack != NULL) {
		t->stack_low = spec->stack;
		t->stack_size = spec->stack_len;
		top =
		    (void *)(((uintptr_t)spec->stack + spec->stack_len) & ~(uintptr_t)63);
	}
	begin_life(t, spec);
	memcpy(t->name, self->name, sizeof(t->name));
	if (spec->prepare != NULL)
		spec->prepare(t, spec->prepare_arg);
	t->sp = switch_prepare(top, task_first_run, t);
	count_task();
	publish(t);
	signal_task_start(t);
	*id = (uintptr_t)t->tcb;

	/* The caller has woken it.  But main was alone until now: it may rest again. */
	r = runtime_start();
	struct worker *w = runtime_enter(self);
	if (r == 0 && (spec->bound || load_relaxed(&w->apart)))
		r = worker_start_bound(t);
	else if (r == 0)
		ready(t);
	runtime_leave(self);
	if (r < 0) {
		uncount_task();
		signal_task_end(t);
		slot_give(t);
	}
	return r;
}

void task_init_main(void)
{
	struct task *t = &main_task;
	const struct task_spec spec = {0};

	begin_life(t, &spec);
	t->tcb = read_fs_base();
	t->tid = sys(SYS_getpid);
	t->is_main = true;
	sys(SYS_prctl, 16 /* PR_GET_NAME */, t->name);
	self_task = t;
	store_relaxed(&sched.n_tasks, 1);
	foreign.main = t;
	publish(t);
}

/* --- adoption ---------------------------------------------------------------------- */

static struct task *take_foreign(void)
{
	struct task *t;

	lock_acquire(&foreign.lock);
	t = foreign.free;
	if (t != NULL)
		foreign.free = t->free_next;
	lock_release(&foreign.lock);
	if (t != NULL)
		return t;
	size_t size = round_up(sizeof(struct task) + sizeof(struct worker), PAGE);
	long p = sys(SYS_mmap, 0, size, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p < 0 && p > -4096)
		fatal("no memory to adopt a thread", p);
	t = (struct task *)((char *)p + sizeof(struct worker));
	store_relaxed(&t->worker, (struct worker *)p);
	lock_acquire(&foreign.lock);
	store_relaxed(&t->next, load_relaxed(&foreign.all));
	/* Pairs with tasks_for_each(): t is filled in, and free still. */
	store_release(&foreign.all, t);
	lock_release(&foreign.lock);
	return t;
}

/* Makes the calling kernel thread a bound task's. */
static void bind_here(struct task *t)
{
	struct worker *w = load_relaxed(&t->worker);

	int tid = sys(SYS_gettid);

	store_relaxed(&t->kernel_tid, tid);
	store_relaxed(&w->tid, tid);
	store_relaxed(&w->kernel_tid, 1);
	setid_inherit(w);
	store_relaxed(&w->current, t);
	store_relaxed(&w->in_runtime, 0);
	store_relaxed(&w->asked,
		      0); /* what came for its last thread perhaps met no task */
	store_relaxed(&w->apart, false);
	w->owned = true;
	/* Pairs with is_bound(). */
	store_release(&t->bound, true);
}

struct task *task_self_slow(void)
{
	const struct task_spec spec = {0};
	uint64_t all = ~0ULL, mask = 0;

	if (!sched.live)
		return NULL;
	/* A handler would adopt the thread too, with our locks held. */
	sys_sigmask(SIG_SETMASK, &all, &mask);
	add_acq_rel(&foreign.n_adopted, 1);
	rest_wait();
	struct task *t = take_foreign();

	begin_life(t, &spec);
	t->adopted = true;
	t->tcb = read_fs_base();
	t->tid = sys(SYS_gettid);
	bind_here(t);
	dispatch_setup_thread();
	store_relaxed(&t->sigmask, mask);
	sys(SYS_prctl, 16 /* PR_GET_NAME */, t->name);
	publish(t);
	signal_task_start(t);
	self_task = t;
	signal_set_kernel_mask(mask);
	if (host.adopted != NULL)
		host.adopted(t);
	return t;
}

/* What task_self_slow() began; foreign.lock held, or nobody else is there. */
static void free_foreign(struct task *t)
{
	store_relaxed(&t->life, TASK_FREE);
	t->free_next = foreign.free;
	foreign.free = t;
}

void task_unadopt(struct task *t)
{
	uint64_t all = ~0ULL, mask;

	/* As in task_self_slow(). */
	sys_sigmask(SIG_SETMASK, &all, &mask);
	signal_task_end(t);
	store_relaxed(&t->worker->kernel_tid, 0);
	lock_acquire(&foreign.lock);
	free_foreign(t);
	lock_release(&foreign.lock);
	self_task = NULL;
	add_acq_rel(&foreign.n_adopted, -1);
	sys_sigmask(SIG_SETMASK, &mask, NULL);
}

/* The kernel thread of the bound t, from the moment that pthread_create returns: the kernel
 * tells it to the worker before it lets the thread run. */
static int kernel_tid_of(const struct task *t)
{
	int tid = load_relaxed(&t->kernel_tid);

	return likely(tid != 0) ? tid : load_relaxed(&load_relaxed(&t->worker)->tid);
}

/* --- CPU time ------------------------------------------------------------------------- */

void task_charge(struct task *t, ns_t used)
{
	store_relaxed(&t->cpu_tsc, ns_ticks(used));
}

ns_t task_cpu_ns(struct task *t)
{
	if (t == self_task && !is_bound(t)) {
		runtime_enter(t);
		sched_count_cpu(t);
		runtime_leave(t); /* it may be bound now */
	}
	if (is_bound(t))
		return t->cpu_before + sys_cpu_ns_of(kernel_tid_of(t));
	return ticks_ns(sched_cpu_so_far(t));
}

/* --- binding ------------------------------------------------------------------------- */

/*
 * The floating caller's worker becomes its own, inside the runtime.  Nobody looks at
 * `bound` meanwhile who would act on it: the task runs, so nobody is to wake it (rule 5);
 * sysmon asks who has a processor, and finds none here from now on.  The kernel delivers
 * signals to it as soon as the mask is its own, and not before it is bound.
 */
static void take_worker_over(struct task *t, struct worker *w)
{
	struct proc *p = load_relaxed(&w->proc);

	sched_count_cpu(t);
	t->cpu_before = ticks_ns(load_relaxed(&t->cpu_tsc)) - sys_cpu_ns();
	store_relaxed(&t->kernel_tid, load_relaxed(&w->tid));
	w->owned = true;
	add_relaxed(&sched.n_workers, -1);
	/* Pairs with is_bound(). */
	store_release(&t->bound, true);
	store_relaxed(&w->proc, NULL);
	proc_hand_off(p);
	task_own_thread(t);
}

void task_own_thread(struct task *t)
{
	libc_register_robust(t->tcb);
	signal_bind(t);
}

void task_bind(struct task *t)
{
	struct worker *w = runtime_enter(t);

	if (!is_bound(t))
		take_worker_over(t, w);
	task_stays_bound(t);
	runtime_leave(t);
}

long task_bind_call(struct task *t, long nr, long a, long b, long c, long d, long e)
{
	struct worker *w = runtime_enter(t);
	long r = sys(nr, a, b, c, d, e);

	/* While the runtime rests, what main changes is for all that come after, as before the
	 * runtime woke: they inherit it. */
	if (r >= 0 && !load_relaxed(&t->rests)) {
		store_relaxed(&w->apart, true);
		if (!is_bound(t))
			take_worker_over(t, w);
	}
	runtime_leave(t);
	return r;
}

int task_kernel_tid(const struct task *t)
{
	return is_bound(t) ? kernel_tid_of(t) : 0;
}

int task_twin_tid(const struct task *t)
{
	return is_bound(t) ? kernel_tid_of(t) : load_relaxed(&sysmon_worker.tid);
}

void task_set_identity(struct task *t, bool on)
{
	libc_set_tid(t->tcb, on && is_bound(t) ? kernel_tid_of(t) : t->tid);
}

void task_leave_robust(struct task *t, void *list)
{
	/* The node, and the rest of the kernel's struct robust_list_head. */
	struct {
		void *prev, **next;
		long offset;
	} *head = list;
	struct worker *w = load_relaxed(&t->worker);
	void **last = head->next;

	if (head->next == (void **)&head->next || !is_bound(t) || w->stack == NULL)
		return;
	w->robust_list[0] = head->next;
	w->robust_list[1] = (void *)head->offset;
	/* The lowest bit of a pointer is a mark. */
	for (void **at = head->next; at != (void **)&head->next; at = *last)
		last = (void **)((uintptr_t)at & ~(uintptr_t)1);
	*last = w->robust_list;
	head->next = (void **)&head->next;
	head->prev = &head->next;
}

void task_keep_tcb(struct task *t)
{
	t->keeps_slot = true;
}

void task_set_apart(struct task *t)
{
	store_relaxed(&t->worker->apart, true);
}

/* --- rest ---------------------------------------------------------------------------- */

/* The worker of who has the process's first kernel thread for its own: it has no stack. */
static struct worker first_worker;

struct task *task_main(void)
{
	return foreign.main;
}

bool task_may_rest(const struct task *t)
{
	/* main_task: what a fork made main in a child is bound, and stays so. */
	return t == &main_task && is_live(t) && !is_bound(t) &&
	       !load_relaxed(&t->in_door) && load_relaxed(&sched.n_tasks) == 1 &&
	       load_relaxed(&foreign.n_adopted) == 0;
}

/* Binds t to the calling kernel thread, the process's first. */
static void bind_to_first_thread(struct task *t)
{
	memset(&first_worker, 0, sizeof(first_worker));
	store_relaxed(&t->worker, &first_worker);
	bind_here(t);
}

void task_keep_first_thread(struct task *t)
{
	bind_to_first_thread(t);
	dispatch_setup_thread();
	signal_bind(t);
}

void task_take_first_thread(struct task *t)
{
	t->cpu_before = ticks_ns(load_relaxed(&t->cpu_tsc)) - sys_cpu_ns();
	store_relaxed(&t->rests, true);
	bind_to_first_thread(t);
	store_relaxed(&first_worker.in_runtime, 1);
}

bool task_rests(const struct task *t)
{
	return load_relaxed(&t->rests);
}

bool task_may_float(const struct task *t)
{
	return load_relaxed(&t->rests) && t->handlers == NULL &&
	       load_relaxed(&foreign.n_adopted) == 0;
}

void task_float(struct task *t)
{
	task_charge(t, t->cpu_before + sys_cpu_ns());
	store_relaxed(&t->rests, false);
	store_relaxed(&first_worker.current, NULL);
	store_release(&t->bound, false);
}

void task_stays_bound(struct task *t)
{
	store_relaxed(&t->rests, false);
}

/* --- the end ------------------------------------------------------------------------ */

static _Noreturn void end_process(void)
{
	host.exit_process(0);
	__builtin_unreachable();
}

/* The slot of an ended task, if it has one, is nobody's now. */
static void free_ended(struct task *t)
{
	if (t->slot_low != NULL && !t->keeps_slot)
		slot_give(t);
	else if (t->slot_low != NULL)
		store_relaxed(&t->life, TASK_FREE);
}

void task_finish(struct task *t)
{
	signal_task_end(t);
	/* Pairs with task_join() and task_detach(): the result is visible. */
	if (or_acq_rel(&t->done, ENDED) & DETACHED)
		free_ended(t);
	else
		wake(&t->done, INT32_MAX); /* touches the address only: t may be reborn */
}

/* A bound task ends with its kernel thread: on its worker's own stack if that has one. */
static _Noreturn void exit_bound(struct task *t)
{
	struct worker *w = runtime_enter(t);
	uint64_t all = ~0ULL;

	/* No handler runs any more: neither the task's stack nor its alternate one is there. */
	sys_sigmask(SIG_SETMASK, &all, NULL);
	if (w->stack != NULL)
		sched_leave(t, AFTER_EXIT);
	store_relaxed(&w->kernel_tid, 0);
	task_finish(t);
	for (;;)
		sys(SYS_exit, 0);
}

_Noreturn void task_exit(void *result)
{
	struct task *t = task_self();

	/* What it was told of is still its own to handle, as until libc's threads block all
	 * signals at their end. */
	if (load_acquire(&t->attention) & ATTEND_SIGNAL)
		signal_deliver(t);
	t->result = result;
	if (uncount_task())
		end_process(); /* the last one: as return from main */
	if (is_bound(t))
		exit_bound(t);
	runtime_enter(t);
	sched_leave(t, AFTER_EXIT);
	__builtin_unreachable();
}

/* --- joining ------------------------------------------------------------------------ */

static int begin_join(struct task *self, struct task *t)
{
	uint32_t state = load_acquire(&t->done);

	if (state & DETACHED)
		return -EINVAL;
	/* Two that wait for each other, unless the other is about to be cancelled. */
	if (t == self || (load_relaxed(&t->joining) == self &&
			  !(load_relaxed(&t->attention) & ATTEND_CANCEL)))
		return -EDEADLK;
	do {
		if (state & (DETACHED | JOINING))
			return -EINVAL;
	} while (!cas_acq_rel(&t->done, &state, state | JOINING));
	store_relaxed(&self->joining, t);
	return 0;
}

int task_join(struct task *t, ns_t deadline, void **result)
{
	struct task *self = task_self();
	int r = begin_join(self, t);
	uint32_t state;

	if (r < 0)
		return r;
	/* Pairs with task_finish(). */
	while (!((state = load_acquire(&t->done)) & ENDED)) {
		task_waits_for(self, WAIT_JOIN, t);
		r = park_on(&t->done, state, deadline);
		if (r == -ETIMEDOUT || (r == -EINTR && self->cancel_point &&
					(load_relaxed(&self->attention) & ATTEND_CANCEL)))
			break;
		r = 0;
	}
	store_relaxed(&self->joining, NULL);
	/* Pairs with task_finish() and begin_join(): the end, or the next joiner, comes first
	 * or after, and never in between. */
	while (!(state & ENDED))
		if (cas_acq_rel(&t->done, &state, state & ~JOINING))
			return r;
	*result = t->result;
	free_ended(t);
	return 0;
}

static void give_up_join(struct task *self)
{
	struct task *t = load_relaxed(&self->joining);

	if (t == NULL)
		return;
	store_relaxed(&self->joining, NULL);
	/* Pairs with begin_join() and task_detach(). */
	and_acq_rel(&t->done, ~JOINING);
}

void task_leave_waits(struct task *t)
{
	give_up_join(t);
	signal_leave_waits(t);
}

int task_detach(struct task *t)
{
	uint32_t state = load_acquire(&t->done);

	do {
		if (state & DETACHED)
			return -EINVAL;
		if (state & JOINING)
			return 0; /* as libc's: it stays joinable if the join gives up */
		/* Pairs with task_finish(), task_join() and begin_join(). */
	} while (!cas_acq_rel(&t->done, &state, state | DETACHED));
	if (state & ENDED)
		free_ended(t);
	return 0;
}

/* --- questions ----------------------------------------------------------------------- */

struct task *task_of(uintptr_t id)
{
	struct task *t;

	if (id == 0)
		return NULL;
	t = *(struct task **)(id + libc_facts.self_task);
	/* One that was joined, or ended detached, is nobody's. */
	return t != NULL && (uintptr_t)t->tcb == id && load_acquire(&t->life) != TASK_FREE
		   ? t
		   : NULL;
}

bool task_is_libcs(uintptr_t id)
{
	if (id == 0)
		return false;
	const struct task *t = *(struct task **)(id + libc_facts.self_task);
	return t == NULL || t->adopted;
}

int task_gone_error(uintptr_t id)
{
	struct task *t = id != 0 ? *(struct task **)(id + libc_facts.self_task) : NULL;

	return t != NULL && (load_relaxed(&t->done) & DETACHED) ? -EINVAL : -ESRCH;
}

struct task *task_of_tid(int tid)
{
	struct task *t = NULL;

	if (tid >= FIRST_TASK_TID) {
		t = slot_of_tid(tid);
		return t != NULL && is_live(t) && t->tid == tid ? t : NULL;
	}
	if (is_live(foreign.main) && foreign.main->tid == tid)
		return foreign.main;
	/* Pairs with take_foreign(). */
	for (t = load_acquire(&foreign.all); t != NULL; t = load_relaxed(&t->next))
		if (is_live(t) && t->tid == tid)
			break;
	return t;
}

/*
 * The slot's index and a generation that is counted in six bits instead of eight, from 1 on as
 * well: no kernel's tid.  The clock of one that has ended is nobody's until its slot has been
 * used 63 times more.
 */
int task_clock_tid(const struct task *t)
{
	int generation = t->tid >> SLOT_INDEX_BITS;

	if (generation == 0)
		return t->tid;
	generation = (generation - 1) % CLOCK_GENERATIONS + 1;
	return generation << SLOT_INDEX_BITS | (t->tid & SLOT_INDEX_MASK);
}

struct task *task_of_clock_tid(int tid)
{
	struct task *t = tid < FIRST_TASK_TID ? task_of_tid(tid) : slot_of_tid(tid);

	return t != NULL && is_live(t) && task_clock_tid(t) == tid ? t : NULL;
}

bool foreign_tasks_for_each(bool (*fn)(struct task *, void *), void *arg)
{
	struct task *t = foreign.main;

	if (is_live(t) && !fn(t, arg))
		return false;
	/* Pairs with take_foreign(). */
	for (t = load_acquire(&foreign.all); t != NULL; t = load_relaxed(&t->next))
		if (is_live(t) && t != foreign.main && !fn(t, arg))
			return false;
	return true;
}

void tasks_for_each(bool (*fn)(struct task *, void *), void *arg)
{
	uint32_t n = slot_count();

	if (!foreign_tasks_for_each(fn, arg))
		return;
	for (uint32_t i = 1; i < n; i++) {
		struct task *t = slot_at(i);
		if (t != NULL && is_live(t) && !fn(t, arg))
			return;
	}
}

bool task_is_done(const struct task *t)
{
	return (load_acquire(&t->done) & ENDED) != 0;
}

bool task_is_detached(const struct task *t)
{
	return (load_acquire(&t->done) & DETACHED) != 0;
}

bool task_is_bound(const struct task *t)
{
	return is_bound(t);
}

bool task_is_main(const struct task *t)
{
	return t->is_main;
}

bool task_is_adopted(const struct task *t)
{
	return t->adopted;
}

char *task_name(struct task *t)
{
	return t->name;
}

bool task_has_stack(const struct task *t)
{
	return t->stack_low != NULL;
}

void task_get_stack(const struct task *t, void **low, size_t *size, size_t *guard)
{
	*low = t->stack_low;
	*size = t->stack_size;
	*guard = t->guard_size;
}

void task_keep_stack(struct task *t)
{
	t->keeps_stack = true;
}

void task_catch_up(struct task *t)
{
	/* Asked for its processor meanwhile, or bereft of it: now, then.  Inside a door it has
	 * none. */
	if (unlikely(load_relaxed(&t->attention) |
		     load_relaxed(&load_relaxed(&t->worker)->must_look)) &&
	    !load_relaxed(&t->in_door)) {
		runtime_enter(t);
		runtime_leave(t);
	}
}

void task_hold_spin(struct task *t, int delta)
{
	int held = load_relaxed(&t->spins_held) + delta;

	store_relaxed(&t->spins_held, held);
	if (held == 0)
		task_catch_up(t);
}

int task_count(void)
{
	return load_relaxed(&sched.n_tasks);
}

struct task_ext *task_ext(struct task *t)
{
	return (struct task_ext *)t->ext;
}

void *task_start_routine(const struct task *t, void **arg, bool *c11)
{
	*arg = t->arg;
	*c11 = t->c11;
	return (void *)t->start;
}

void task_set_cancel_point(struct task *t, bool on)
{
	t->cancel_point = on;
}

/* --- cancel ------------------------------------------------------------------------- */

static void notice(struct task *t, enum attention what)
{
	struct task *self = task_self();

	or_acq_rel(&t->attention, what);
	store_release(&t->interrupt, 1);
	runtime_enter(self);
	park_rouse(t);
	runtime_leave(self);
}

void task_notice_cancel(struct task *t)
{
	if (!task_is_adopted(t))
		libc_cancel(t->tcb);
	notice(t, ATTEND_CANCEL);
}

void task_ask(struct task *t)
{
	notice(t, ATTEND_ASK);
}

bool task_at_wait(const struct task *t)
{
	return t->at_wait;
}

void task_clear_cancel(struct task *t)
{
	and_acq_rel(&t->attention, ~ATTEND_CANCEL);
}

bool task_cancel_wanted(const struct task *t)
{
	return t->cancel_point && (load_relaxed(&t->attention) & ATTEND_CANCEL) != 0;
}

void task_set_cancel_anywhere(struct task *t, bool on)
{
	t->cancel_anywhere = on;
}

/* --- for dumps ---------------------------------------------------------------------- */

void task_publish(struct pgreen_debug *d)
{
	d->address[DEBUG_MAIN_TASK] = (uintptr_t)&foreign.main;
	d->address[DEBUG_FOREIGN_TASKS] = (uintptr_t)&foreign.all;
}

/* --- fork --------------------------------------------------------------------------- */

/* In the child: the task that forked is the only one, bound to the only kernel thread. */
void task_fork_child(struct task *t)
{
	foreign.lock.word = 0;
	foreign.free = NULL;
	for (struct task *f = load_relaxed(&foreign.all); f != NULL;
	     f = load_relaxed(&f->next))
		if (f != t)
			free_foreign(f);
	t->tid = sys(SYS_getpid);
	store_relaxed(&foreign.n_adopted, t->adopted);
	store_relaxed(&t->rests, false);
	bind_to_first_thread(t);
	t->cpu_before = 0;
	store_relaxed(&t->cpu_shown, 0);
	t->keeps_slot = t->is_main = true;
	foreign.main = t;
	store_relaxed(&sched.n_tasks, 1);
}
