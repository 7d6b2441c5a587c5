/* SPDX-License-Identifier: MIT */
/*
 * runtime.c: waking the runtime, resizing it, and taking it through fork.
 *
 * It wakes at the program's first pthread_create.  The calling kernel thread, which must be the
 * process's first, leaves the main task to the workers and becomes sysmon.
 */
#include <errno.h>
#include <linux/membarrier.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include "libc.h"
#include "runtime.h"
#include "slot.h"
#include "switch.h"

/* How long a worker counts what its tasks use by itself: see sched.c, measure(). */
enum { ASSUME_NS = 100000 };

enum { HWCAP2_FSGSBASE_BIT = 1 << 1, RSEQ_UNREGISTER = 1, RSEQ_SIGNATURE = 0x53053053 };

uint8_t switch_has_fsgsbase, switch_keeps_pkru;

void switch_keep_pkru(void)
{
	switch_keeps_pkru = 1;
}

void *switch_prepare(void *top, void (*entry)(void *), void *arg)
{
	/* switch_to's frame, from low: control words, r15, r14, r13, r12, rbx, rbp, rip; and
	 * above it a word, so that entry sees the stack as after a call. */
	uint64_t *frame = (uint64_t *)top - 10;

	memset(frame, 0, 10 * sizeof(*frame));
	__asm__ volatile("stmxcsr %0" : "=m"(*(uint32_t *)frame));
	__asm__ volatile("fnstcw %0" : "=m"(*((uint16_t *)frame + 2)));
	frame[3] = (uintptr_t)arg;   /* r13 */
	frame[4] = (uintptr_t)entry; /* r12 */
	frame[7] = (uintptr_t)switch_first;
	return frame;
}

/* The first kernel thread's rseq area is main's, which leaves for other workers: the kernel
 * must not write there any more. */
static void unregister_rseq(void)
{
	static const unsigned sizes[] = {32, 20, 24, 28, 33, 36, 40, 48, 64};

	if (libc_facts.rseq == 0)
		return;
	char *area = (char *)read_fs_base() + libc_facts.rseq;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		if (sys(SYS_rseq, area, sizes[i], RSEQ_UNREGISTER, RSEQ_SIGNATURE) == 0)
			break;
	*(int *)(area + 4) = -2; /* cpu_id: RSEQ_CPU_ID_REGISTRATION_FAILED */
}

static int init_procs(void)
{
	size_t size = MAX_PROCS * sizeof(struct proc);
	int n = config_gomaxprocs();

	if (sched.procs == NULL) {
		long p = sys(SYS_mmap, 0, size, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (p < 0 && p > -4096)
			return -EAGAIN;
		sched.procs = (struct proc *)p;
	}
	/* An earlier attempt may have come as far as this. */
	sched.idle_procs = NULL;
	sched.n_idle_procs = 0;
	sched.n_procs = n;
	sched.n_cpus = config_cpus();
	sched.n_procs_ever = n;
	for (int i = n - 1; i >= 0; i--) {
		sched.procs[i].id = i;
		timer_heap_init(&sched.procs[i].timers);
		proc_release(&sched.procs[i]);
	}
	return 0;
}

/* From now on there are n.  One at a time. */
static void resize(int n)
{
	int ever = sched.n_procs_ever;

	for (int i = ever; i < n; i++) {
		sched.procs[i].id = i;
		timer_heap_init(&sched.procs[i].timers);
	}
	if (n > ever)
		store_release(&sched.n_procs_ever, n);
	sched_resize(sched.n_procs, n);
}

/* a / b, in 2^32nds; 0 where that is none. */
static uint64_t ratio(uint64_t a, uint64_t b)
{
	for (; (a | b) >> 31 != 0; b >>= 1)
		a >>= 1;
	return b != 0 ? (a << 32) / b : 0;
}

static void measure_tsc(void)
{
	/* As long as waking the runtime takes anyway: good to a few parts in a thousand. */
	static ns_t ns;
	static uint64_t tsc;

	if (tsc == 0) {
		ns = now_ns();
		tsc = __builtin_ia32_rdtsc();
		return;
	}
	uint64_t ticks = __builtin_ia32_rdtsc() - tsc;
	ns_t passed = now_ns() - ns;
	sched.ns_per_tick = ratio((uint64_t)passed, ticks);
	sched.ticks_per_ns = ratio(ticks, (uint64_t)passed);
	sched.assume_most = sched.ticks_per_ns > 0 ? ns_ticks(ASSUME_NS) : UINT64_MAX;
}

static void start_sysmon(void *arg)
{
	struct worker *w = arg;
	struct task *main_task = w->left;

	preempt_setup_sysmon(w);
	/* main has left its stack: let a worker take it. */
	w->left = NULL;
	sched_push(main_task);
	sysmon_loop();
}

/* The main task's kernel thread becomes sysmon; main comes back on a worker. */
static void become_sysmon(struct task *t)
{
	struct worker *w = &sysmon_worker;

	w->tid = sys(SYS_gettid);
	w->kernel_tid = 1;
	w->in_runtime = 1;
	w->left = t;
	w->self.sp = switch_prepare(w->stack_top, start_sysmon, w);
	switch_to(&t->sp, w->self.sp, w->self.tcb);
	/* On a worker now; from its loop, or after a task that an adopted thread created. */
	finish_switch(load_relaxed(&t->worker));
	store_relaxed(&t->worker->in_runtime, 0);
}

static void sysmon_thread(void *arg)
{
	struct worker *w = arg;

	preempt_setup_sysmon(w);
	sysmon_loop();
}

static bool main_keeps_thread;

void runtime_keep_thread(void)
{
	main_keeps_thread = true;
}

/* In a forked child, or when main stays bound to it, the first kernel thread is the main task's:
 * sysmon gets its own. */
static int spawn_sysmon(void)
{
	struct worker *w = &sysmon_worker;

	w->in_runtime = 1;
	w->kernel_tid = 1;
	return worker_spawn(w, sysmon_thread) ? 0 : -EAGAIN;
}

static void learn(void)
{
	libc_learn(read_fs_base());
}

static int prepare_machine(void)
{
	switch_has_fsgsbase = (getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE_BIT) != 0;
	sched.need_fence =
	    sys(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) != 0;
	sched.asking = 1;
	sched.pid = sys(SYS_getpid);
	sched.priority = sys_own_priority();
	sched.shake = config_shake();
	return preempt_init();
}

/* GOMAXPROCS may have been set meanwhile, and what the first kernel thread is allowed. */
static void adopt_settings(void)
{
	int n = config_gomaxprocs();

	sched.priority = sys_own_priority();
	sched.n_cpus = config_cpus();
	if (n != sched.n_procs)
		resize(n);
}

/* As the first pthread_create wakes the runtime, if main floats; else as one in a forked child.
 * rest_lock held. */
static int leave_rest(struct task *t, bool floats)
{
	adopt_settings();
	/* Once main has left its kernel thread there is no way back: another must be there. */
	if (!(floats ? sched_start_worker() : worker_reserve()))
		return -EAGAIN;
	setid_inherit(&sysmon_worker);
	store_relaxed(&sysmon_worker.asked, 0);
	if (floats) {
		task_float(t);
		store_release(&sched.rest, REST_OFF);
		become_sysmon(t);
		return 0;
	}
	task_stays_bound(task_main());
	int r = spawn_sysmon();
	if (r == 0)
		store_release(&sched.rest, REST_OFF);
	return r;
}

static int wake_from_rest(struct task *t)
{
	uint64_t before;
	int r = 0;

	/* A handler may create a thread, too. */
	sys_sigmask(SIG_SETMASK, &worker_sigmask, &before);
	lock_acquire(&rest_lock);
	/* Unless somebody was faster. */
	if (load_relaxed(&sched.rest) == REST_ON) {
		signal_set_alone(false);
		r = leave_rest(t, task_may_float(t));
		if (r < 0)
			signal_set_alone(true);
	}
	lock_release(&rest_lock);
	/* A worker has the mask that it shall have. */
	if (is_bound(t))
		sys_sigmask(SIG_SETMASK, &before, NULL);
	return r;
}

int runtime_start(void)
{
	static bool started_before;
	int r;

	if (likely(runtime_is_running()))
		return 0;
	if (load_relaxed(&sched.rest) != REST_OFF)
		return wake_from_rest(task_self());
	bool again = started_before; /* in a forked child */
	/* Another could not take main off its kernel thread. */
	if (!again && sys(SYS_gettid) != sys(SYS_getpid)) {
		message("libc's own thread creates the first one: threads run native");
		return -ENOSYS;
	}
	netpoll_prepare();
	if (!again) {
		const char *why = libc_probe();
		if (why != NULL) {
			message(why);
			return -ENOSYS;
		}
		measure_tsc();
		r = host.first_thread(learn);
		if (r != 0)
			return -r;
	}
	r = prepare_machine();
	if (r == 0)
		r = slot_init();
	/* Once main has left its kernel thread there is no way back: its worker must have
	 * memory. */
	if (r == 0 &&
	    ((sysmon_worker.stack == NULL && worker_init_self(&sysmon_worker) < 0) ||
	     !worker_reserve()))
		r = -EAGAIN;
	if (r == 0)
		r = init_procs();
	if (r < 0)
		return r;
	started_before = true;
	setid_inherit(&sysmon_worker);
	if (again) {
		signal_set_alone(false);
		r = spawn_sysmon();
		if (r < 0)
			signal_set_alone(true);
		return r;
	}
	unregister_rseq();
	task_init_main();
	signal_init(self_task);
	debug_publish();
	libc_hide_from_setxid(self_task->tcb);
	measure_tsc();
	if (main_keeps_thread) {
		task_keep_first_thread(self_task);
		sched.live = true;
		return spawn_sysmon();
	}
	task_charge(self_task, sys_cpu_ns());
	sched.live = true;
	become_sysmon(self_task);
	return 0;
}

size_t runtime_stack_size(void)
{
	return config_stack_size();
}

const char *runtime_native(void)
{
	return config_native();
}

bool runtime_is_live(void)
{
	return sched.live;
}

bool runtime_is_running(void)
{
	return sched.live && load_relaxed(&sysmon_worker.tid) != 0;
}

static struct lock resize_lock;

int procs_set(int n)
{
	struct task *t = task_self();
	int before = runtime_is_running() ? sched.n_procs : config_gomaxprocs();

	if (n == 0)
		return before;
	if (n < 0 || n > MAX_PROCS)
		return -EINVAL;
	config_set_gomaxprocs(n);
	if (t == NULL || !runtime_is_running())
		return before;
	runtime_enter(t);
	lock_acquire(&resize_lock);
	before = sched.n_procs;
	resize(n);
	lock_release(&resize_lock);
	runtime_leave(t);
	return before;
}

/* --- fork ----------------------------------------------------------------------------- */

/*
 * The locks that code outside this file may hold when the address space is copied are
 * simply reset in the child, together with what they protect: none of it outlives the
 * fork but the task itself, its slot and the program's actions.
 */
void fork_child(void)
{
	struct task *t = self_task;
	struct proc *procs = sched.procs;
	uint64_t ns_per_tick = sched.ns_per_tick, ticks_per_ns = sched.ticks_per_ns;
	uint64_t assume_most = sched.assume_most;
	bool need_fence = sched.need_fence;
	int priority = sched.priority;
	uint32_t asking = sched.asking;
	int n = sched.n_procs_ever;

	for (int i = 0; i < n; i++)
		memset(&procs[i], 0, sizeof(procs[i]));
	memset(&sched, 0, sizeof(sched));
	sched.procs = procs;
	sched.ns_per_tick = ns_per_tick;
	sched.ticks_per_ns = ticks_per_ns;
	sched.assume_most = assume_most;
	sched.need_fence = need_fence;
	sched.priority = priority;
	sched.asking = asking;
	preempt_forget();
	sched.live = true;
	sched.pid = sys(SYS_getpid);
	sysmon_fork_child();
	dispatch_fork_child();
	setid_lock.word = 0;
	resize_lock.word = rest_lock.word = 0;
	park_fork_child();
	slot_fork_child(t);
	task_fork_child(t);
	signal_fork_child(t);
	netpoll_fork_child();
	uring_fork_child();
	preempt_init();
}
