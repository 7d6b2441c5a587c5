/* SPDX-License-Identifier: MIT */
/*
 * preempt.c: making a running task look up.
 *
 * Signal 32 is glibc's SIGCANCEL: the program can neither see nor block it, and cancelling
 * is ours.  Its handler runs on the worker's signal stack and never switches.  In the
 * program's own code it copies the signal frame to the task's stack, beyond the red zone,
 * and makes the task go on in preempt_trampoline: that calls preempted(), which may park or
 * run signal handlers like any other call into the runtime, and then returns to the
 * interrupted code by rt_sigreturn on the copy, which restores every register.
 *
 * The stack pointer may be elsewhere: on a coroutine's small stack, or, as that of Erlang's
 * compiled code, in the middle of a heap, where nothing may be written.  Natively such a
 * program has its handlers on an alternate stack, or no signals at all.  Then the task looks
 * up aside, on a stack that it gets for the purpose; also where its own is nearly full, or
 * closed below.
 *
 * Elsewhere the interrupted code is left alone: inside the runtime (it looks up when it
 * leaves, and sysmon tries again until it has), inside libc, ld.so and the vDSO (locks may
 * be held there: sysmon tries again, or hands the processor off), and while the task holds
 * a spinlock (trap 8).  But a call that it waited in, and that our signal has ended, it makes
 * once more.  The code of the runtime is all of shim/, which lies in a section of
 * its own; the wrappers' code is as preemptible as the program's.
 */
#include <errno.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <ucontext.h>

#include "libc.h"
#include "runtime.h"
#include "switch.h"

/* What rt_sigreturn finds at the stack pointer less 8 (arch/x86/kernel/signal_64.c). */
struct signal_frame {
	void *return_address;
	unsigned long flags;
	void *link;
	stack_t stack;
	greg_t gregs[NGREG];
	void *fpstate;
	uint64_t reserved[8];
	uint64_t sigmask;
	siginfo_t info; /* where the kernel puts it too */
	int sig;        /* the signal whose handler is to run; 0: just look up */
};
_Static_assert(offsetof(struct signal_frame, gregs) ==
		   8 + offsetof(ucontext_t, uc_mcontext.gregs),
	       "the frame is a return address and the kernel's ucontext");
_Static_assert(offsetof(struct signal_frame, sigmask) ==
		   8 + offsetof(ucontext_t, uc_sigmask),
	       "the frame is a return address and the kernel's ucontext");

enum {
	RED_ZONE = 128,
	/* The FPU's state in the kernel's frame: as FXSAVE writes it, then as XSAVE does. */
	FPSTATE_MXCSR = 24,
	FPSTATE_SW = 464, /* sw_reserved in struct _fpstate: magic1, extended_size */
	FPSTATE_LEGACY = 512,
	FPSTATE_BV = FPSTATE_LEGACY, /* which components are not in their initial state */
	BV_PKRU = 1 << 9,
	FP_XSTATE_MAGIC = 0x46505853,
	XSAVE_ALIGN = 64,
	/* Stack that preempted() and a handler need at least below the copy. */
	STACK_MARGIN = 2048,
	/* Of the stack aside; a cancel unwinds there. */
	ASIDE_SIZE = 128 * 1024,
};

static bool fpstate_is_xsave(const char *fpstate)
{
	uint32_t magic;

	memcpy(&magic, fpstate + FPSTATE_SW, sizeof(magic));
	return magic == FP_XSTATE_MAGIC;
}

static size_t fpstate_size(const char *fpstate)
{
	uint32_t size;

	memcpy(&size, fpstate + FPSTATE_SW + 4, sizeof(size));
	return fpstate_is_xsave(fpstate) ? size : FPSTATE_LEGACY;
}

/*
 * The state that every function may count on when it is called, and a handler of the
 * program's does: an empty x87 stack, all control words as at first.  What the interrupted
 * code has on that stack would go with the worker to the next task, and overflow there after
 * a few more: each value that it computes is then a NaN.
 */
static void fpstate_reset(char *fpstate)
{
	struct {
		uint16_t control, status, tags;
	} x87 = {.control = X87_CONTROL_FIRST};
	uint32_t mxcsr = MXCSR_FIRST;
	uint64_t bv;

	memcpy(fpstate, &x87, sizeof(x87));
	memcpy(fpstate + FPSTATE_MXCSR, &mxcsr, sizeof(mxcsr));
	if (!fpstate_is_xsave(fpstate))
		return;
	memcpy(&bv, fpstate + FPSTATE_BV, sizeof(bv));
	bv &= BV_PKRU; /* the task's own: switch_keeps_pkru */
	memcpy(fpstate + FPSTATE_BV, &bv, sizeof(bv));
}

static bool stack_has_room(struct task *t, uintptr_t sp, size_t need)
{
	uintptr_t low = (uintptr_t)t->stack_low;

	/* Main's stack, and one the program switched to itself, have no bounds of ours. */
	if (low == 0 || sp < low || sp > low + t->stack_size)
		return true;
	return sp - low > need + STACK_MARGIN;
}

/* --- standing aside ------------------------------------------------------------------- */

static bool is_on_own_stack(const struct task *t, uintptr_t sp)
{
	uintptr_t low = (uintptr_t)t->stack_low, high = low + t->stack_size;

	if (low == 0) {
		/* Main's: as far as it may grow. */
		struct rlimit limit = {.rlim_cur = RLIM_INFINITY};

		high = libc_facts.stack_end;
		if (high == 0)
			return true;
		sys(SYS_prlimit64, 0, RLIMIT_STACK, NULL, &limit);
		low = limit.rlim_cur < high ? high - limit.rlim_cur : 0;
	}
	return sp >= low && sp <= high;
}

bool task_is_aside(const struct task *t, uintptr_t sp)
{
	return t->aside != NULL && sp - (uintptr_t)t->aside < ASIDE_SIZE;
}

/* The end of what is free of the stack aside, or 0: no memory.  In our signal's handler. */
static uintptr_t aside_top(struct task *t)
{
	/* It is there already, below a handler that it runs. */
	for (struct activation *a = t->handlers; a != NULL; a = a->outer)
		if (a->aside != 0)
			return a->aside - RED_ZONE;
	if (t->aside == NULL) {
		long p =
		    sys(SYS_mmap, 0, ASIDE_SIZE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
		if (p < 0 && p > -4096)
			return 0;
		t->aside = (char *)p;
	}
	return (uintptr_t)t->aside + ASIDE_SIZE;
}

/* An alternate stack is often just large enough for what a handler needs natively. */
static bool altstack_has_room(const struct task *t, uintptr_t sp, size_t need)
{
	return signal_is_on_altstack(t, sp) &&
	       sp - (uintptr_t)t->altstack.ss_sp > RED_ZONE + need + STACK_MARGIN;
}

/*
 * The program may have closed pages of its own stack, as Java's machine does near the end of
 * its threads'.  Only the kernel can tell, without a fault, and is asked by having it write to
 * each page, where nothing is yet.
 */
static bool is_writable(uintptr_t low, uintptr_t high)
{
	for (uintptr_t at = (low + 7) & ~7UL; at < high; at = (at | (PAGE - 1)) + 1)
		if (sys(SYS_rt_sigprocmask, SIG_BLOCK, NULL, at, sizeof(uint64_t)) < 0)
			return false;
	return true;
}

/* Below which address a task may be made to look up that was met with this stack pointer,
 * and will have so many bytes copied there. */
static uintptr_t look_up_top(struct task *t, uintptr_t sp, size_t need)
{
	uintptr_t top = sp - RED_ZONE;

	if (altstack_has_room(t, sp, need) || task_is_aside(t, sp))
		return top;
	/* An alternate stack may lie in its own, and what was interrupted below. */
	if (!signal_is_on_altstack(t, sp) && is_on_own_stack(t, sp) &&
	    stack_has_room(t, top, need) && is_writable(top - need - STACK_MARGIN, top))
		return top;
	return aside_top(t);
}

/* --- interrupting ----------------------------------------------------------------------- */

bool task_interrupt(struct task *t, void *context, uintptr_t top, int sig,
		    const siginfo_t *info)
{
	ucontext_t *uc = context;
	char *fpstate = (char *)uc->uc_mcontext.fpregs;
	size_t size = fpstate_size(fpstate);
	size_t need = size + XSAVE_ALIGN + sizeof(struct signal_frame);
	uintptr_t sp = uc->uc_mcontext.gregs[REG_RSP];

	if (top == 0) /* a fault's handler runs where natively it would */
		top = sig != 0 ? sp - RED_ZONE : look_up_top(t, sp, need);
	if (top == 0 || !stack_has_room(t, top, need))
		return false;
	uintptr_t fp_copy = (top - size) & ~(uintptr_t)(XSAVE_ALIGN - 1);
	uintptr_t at = (fp_copy - sizeof(struct signal_frame)) & ~(uintptr_t)15;
	struct signal_frame *frame = (struct signal_frame *)(at - 8);

	memcpy((void *)fp_copy, fpstate, size);
	fpstate_reset(fpstate);
	memcpy(&frame->flags, uc, offsetof(struct signal_frame, info) - 8);
	frame->fpstate = (void *)fp_copy;
	frame->sig = sig;
	if (sig != 0)
		frame->info = *info;
	uc->uc_mcontext.gregs[REG_RSP] = (greg_t)frame;
	uc->uc_mcontext.gregs[REG_RBX] = (greg_t)frame; /* for unwinders: its tables */
	uc->uc_mcontext.gregs[REG_RIP] = (greg_t)preempt_trampoline;
	/* The direction flag is clear at every call, by the ABI. */
	uc->uc_mcontext.gregs[REG_EFL] &= ~0x400L;
	return true;
}

/* --- calls that it interrupts ------------------------------------------------------------- */

bool is_syscall(uintptr_t pc)
{
	static const unsigned char insn[SYSCALL_SIZE] = {0x0f, 0x05};

	return memcmp((const char *)pc, insn, SYSCALL_SIZE) == 0;
}

/* Whether the registers are those of a system call that our signal has ended, or that will be
 * made (again): where a cancel may act, because the call has had no effect. */
static bool is_at_call(const greg_t *regs)
{
	if (is_syscall(regs[REG_RIP] - SYSCALL_SIZE))
		return regs[REG_RAX] == -EINTR;
	return is_syscall(regs[REG_RIP]);
}

/* Calls that wait and change nothing before they end. */
static bool is_wait(long nr, long op)
{
	switch (nr) {
	case SYS_read:
	case SYS_readv:
	case SYS_pread64:
	case SYS_preadv:
	case SYS_preadv2:
	case SYS_write:
	case SYS_writev:
	case SYS_pwrite64:
	case SYS_pwritev:
	case SYS_pwritev2:
	case SYS_recvfrom:
	case SYS_recvmsg:
	case SYS_recvmmsg:
	case SYS_sendto:
	case SYS_sendmsg:
	case SYS_sendmmsg:
	case SYS_accept:
	case SYS_accept4:
	case SYS_open:
	case SYS_openat:
	case SYS_ioctl:
	case SYS_flock:
	case SYS_fcntl:
	case SYS_wait4:
	case SYS_waitid:
	case SYS_mq_timedreceive:
	case SYS_mq_timedsend:
	case SYS_getrandom:
		return true;
	case SYS_futex:
		op &= FUTEX_CMD_MASK;
		return op == FUTEX_WAIT || op == FUTEX_WAIT_BITSET;
	default:
		return false;
	}
}

/* The same, but no handler's SA_RESTART has the kernel begin them again (signal(7)). */
static bool is_wait_once(long nr)
{
	switch (nr) {
	case SYS_poll:
	case SYS_ppoll:
	case SYS_select:
	case SYS_pselect6:
	case SYS_epoll_wait:
	case SYS_epoll_pwait:
	case SYS_epoll_pwait2:
	case SYS_nanosleep:
	case SYS_clock_nanosleep:
	case SYS_semop:
	case SYS_semtimedop:
	case SYS_msgrcv:
	case SYS_msgsnd:
	case SYS_rt_sigtimedwait:
	case SYS_io_getevents:
	case SYS_io_uring_enter:
		return true;
	default:
		return false;
	}
}

void restarted_call_end(void *context)
{
	greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;

	/* %rcx: as in kernel_call_refuse(). */
	if (regs[REG_RCX] != regs[REG_RIP] + SYSCALL_SIZE || !is_syscall(regs[REG_RIP]) ||
	    !is_wait(regs[REG_RAX], regs[REG_RSI]))
		return;
	regs[REG_RAX] = -EINTR;
	regs[REG_RIP] += SYSCALL_SIZE;
}

/* The number that was loaded right before the instruction syscall, as libc's functions do it;
 * the kernel keeps it to itself.  -1: it was not. */
static long loaded_number(greg_t pc)
{
	enum { MOV_SIZE = 5, PAGE_MASK = 4095 };
	const unsigned char *before = (const unsigned char *)pc;
	uint32_t nr;

	/* Elsewhere the page before may be none. */
	if ((pc & PAGE_MASK) < MOV_SIZE && !libc_owns_pc(pc))
		return -1;
	memcpy(&nr, before - 4, sizeof(nr));
	if (before[-MOV_SIZE] == 0xb8 && nr < 1024) /* mov $nr, %eax */
		return nr;
	return before[-2] == 0x31 && before[-1] == 0xc0 ? 0 : -1; /* xor %eax, %eax */
}

/*
 * If our signal has ended a call though it has SA_RESTART, as the kernel does with some, the
 * task makes it once more: natively nothing has happened.  Time limits begin anew, so sysmon
 * does not interrupt who sleeps, as far as it can tell.  Wrappers see to their own calls.
 */
static void begin_again(const struct task *t, greg_t *regs)
{
	greg_t pc = regs[REG_RIP] - SYSCALL_SIZE;

	if (t->in_door || regs[REG_RAX] != -EINTR || regs[REG_RCX] != regs[REG_RIP] ||
	    !is_syscall(pc))
		return;
	long nr = loaded_number(pc);
	if (!is_wait(nr, regs[REG_RSI]) && !is_wait_once(nr))
		return;
	regs[REG_RAX] = nr;
	regs[REG_RIP] = pc;
}

static void look_up(struct task *t)
{
	/* A handler runs on a processor, also when libc was met in the kernel. */
	if (t->in_door) {
		leave_kernel();
		enter_kernel();
	} else {
		runtime_enter(t);
		runtime_leave(t);
	}
}

/* At a call with these registers perhaps: a handler of the program's leaves it ended. */
static void look_up_there(struct task *t, greg_t *regs)
{
	uint32_t ran = t->handlers_run;

	look_up(t);
	if (t->handlers_run == ran)
		begin_again(t, regs);
}

/* Called by preempt_trampoline, as if the task had called it. */
__attribute__((visibility("hidden"), used)) void preempted(struct signal_frame *frame)
{
	struct task *t = self_task;
	/* What the interrupted code has opened itself stays open: libc's abort() does that, and
	 * sends SIGABRT again when the handler comes back. */
	uint64_t opened = worker_sigmask & ~frame->sigmask;

	if (frame->sig != 0) {
		/* A fault: its handler sees, and may change, the registers of the fault. */
		bool inside = load_relaxed(&t->worker->in_runtime);

		store_relaxed(&t->worker->in_runtime, 0);
		signal_run_handler(t, frame->sig, &frame->info, &frame->flags);
		if (inside)
			store_relaxed(&t->worker->in_runtime, 1);
	} else {
		t->interrupted = &frame->flags;
		look_up_there(t, frame->gregs);
		t->interrupted = NULL;
		t->at_wait = false;
	}
	signal_frame_settings(t, &frame->stack, &frame->sigmask);
	if (!is_bound(t))
		frame->sigmask &= ~opened;
}

/* The interrupted code cannot look up now: sysmon asks again soon. */
static void ask_again(void)
{
	if (load_relaxed(&sched.reminders))
		return;
	store_relaxed(&sched.reminders, 1);
	sysmon_wake();
}

static bool is_in_kernel_call(uintptr_t pc)
{
	return pc >= (uintptr_t)kernel_call_begin && pc < (uintptr_t)kernel_call_end;
}

bool kernel_call_refuse(void *context)
{
	greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;

	/* %rcx: the instruction syscall leaves there where it returns to, and a call that the
	 * kernel would restart has been made. */
	if (!is_in_kernel_call(regs[REG_RIP]) || regs[REG_RCX] == (greg_t)kernel_call_end)
		return false;
	regs[REG_RIP] = (greg_t)kernel_call_refused;
	return true;
}

void preempt_arrived(struct worker *w)
{
	store_relaxed(&w->asked, 0);
	/* Pairs with preempt_worker(): it sends another, or we see what it is for. */
	fence_seq_cst();
}

static void handler(int sig, siginfo_t *info, void *context)
{
	struct task *t = self_task;
	ucontext_t *uc = context;
	uintptr_t pc = uc->uc_mcontext.gregs[REG_RIP];

	(void)sig;
	if (info->si_code != SI_TKILL || t == NULL)
		return;
	struct worker *w = t->worker;

	preempt_arrived(w);
	setid_handle(w);
	if (t == &w->self)
		return; /* the scheduler, or sysmon */
	if (is_in_kernel_call(pc)) {
		if (load_relaxed(&t->interrupt) && !kernel_call_refuse(uc))
			uc->uc_mcontext.gregs[REG_RIP] = (greg_t)kernel_call_interrupted;
		return;
	}
	if (pc == (uintptr_t)kernel_call_end)
		store_relaxed(&t->was_cut, true);
	bool wanted = load_relaxed(&t->attention) != 0 || load_relaxed(&w->stray);
	if (load_relaxed(&w->in_runtime) || runtime_owns_pc(pc)) {
		if (wanted) {
			store_relaxed(&w->preempt, 1);
			ask_again();
		}
		return;
	}
	greg_t *regs = uc->uc_mcontext.gregs;
	if (!wanted) {
		begin_again(t, regs);
		return;
	}
	bool in_libc = libc_owns_pc(pc), in_point = libc_in_cancel_point(t->tcb);

	t->at_wait = in_libc && in_point && is_at_call(regs);
	if ((load_relaxed(&t->attention) & ATTEND_CANCEL) && in_point && !t->at_wait)
		ask_again(); /* a cancel acts where libc waits */
	if (is_bound(t)) {
		/* Its kernel thread is its own, and so is the stack we are on. */
		signal_set_kernel_mask(load_relaxed(&t->sigmask));
		t->interrupted = uc;
		look_up_there(t, regs);
		t->interrupted = NULL;
		/* As signal_run_handler() leaves it; a handler that jumped has done more. */
		uint64_t mask = signal_kernel_mask(load_relaxed(&t->sigmask));
		memcpy(&uc->uc_sigmask, &mask, sizeof(mask));
		t->at_wait = false;
		return;
	}
	/* A handler of the program's runs anywhere, as natively. */
	bool must = (load_relaxed(&t->attention) & ATTEND_SIGNAL) != 0;

	bool may = (!in_libc || t->at_wait) && load_relaxed(&t->spins_held) == 0;
	if (!(must || may) || !task_interrupt(t, uc, 0, 0, NULL))
		begin_again(t, regs);
}

int preempt_init(void)
{
	/* SA_RESTART: a call inside libc that our signal meets goes on by itself (stdio's write
	 * would fail), unless a handler of the program's ends it: restarted_call_end().  A
	 * restarted kernel_call stands at its own system call again, where the handler can end
	 * it. */
	struct kernel_sigaction act = {
	    .handler = (void *)handler,
	    .flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART | 0x04000000 /* SA_RESTORER */,
	    .restorer = (void *)signal_restorer,
	    .mask = ~0ULL,
	};

	return sys_sigaction(SIG_PREEMPT, &act, NULL);
}

/* What t shall look at and may not have been told of: see preempt_hold(). */
static bool tell_again(struct task *t, void *arg)
{
	struct worker *w = load_relaxed(&t->worker);

	(void)arg;
	/* A time slice's end sysmon asks for again, and who sleeps is spared it. */
	if ((load_relaxed(&t->attention) & ~(ATTEND_PREEMPT | ATTEND_REST)) != 0 &&
	    w != NULL && t != self_task && load_relaxed(&w->current) == t)
		preempt_worker(w);
	return true;
}

/*
 * What was sent meanwhile is lost, and whoever sent it counts on it:
 *	who wants t to look:	t->attention; fence; sched.asking: is one on its way?
 *	the end of a hold:	sched.asking; fence; t->attention: tell it again
 * Either it sees that none is on its way any more, or we see what it wants.
 */
void preempt_hold(bool hold)
{
	struct kernel_sigaction ignore = {.handler = (void *)SIG_IGN};

	if (hold) {
		sys_sigaction(SIG_PREEMPT, &ignore, NULL);
		return;
	}
	preempt_init();
	preempt_forget();
	fence_seq_cst();
	tasks_for_each(tell_again, NULL);
	sysmon_wake();
}

void preempt_forget(void)
{
	if (add_acq_rel(&sched.asking, 1) == UINT32_MAX)
		add_acq_rel(&sched.asking, 1);
}

void preempt_worker(struct worker *w)
{
	int tid = load_relaxed(&w->tid);

	if (tid == 0)
		return;
	/* Pairs with preempt_arrived(): what the caller has written is seen, or another sent.
	 * And with preempt_hold(). */
	fence_seq_cst();
	uint32_t asking = load_relaxed(&sched.asking);
	if (swap_acq_rel(&w->asked, asking) == asking)
		return;
	/* The user's signal queue is full (RLIMIT_SIGPENDING): sysmon tries again. */
	if (sys(SYS_tgkill, sched.pid, tid, SIG_PREEMPT) == -EAGAIN) {
		store_relaxed(&w->asked, 0);
		store_relaxed(&w->unheard, true);
		store_relaxed(&sched.reminders, 1);
	}
}

void preempt_setup_thread(struct worker *w)
{
	stack_t stack = {.ss_sp = w->signal_stack, .ss_size = w->signal_stack_size};

	/* What was sent to the kernel thread that it had before is lost. */
	store_relaxed(&w->asked, 0);
	sys(SYS_sigaltstack, &stack, 0);
	sys_sigmask(SIG_SETMASK, &worker_sigmask, NULL);
	/* A program that asks the kernel for its thread's list of robust mutexes finds one,
	 * empty, as in any thread of libc's (stress-ng follows the pointer).  The process's
	 * first keeps main's: what main locked before the runtime woke is there, and has this
	 * thread's tid. */
	if (w->robust_list[0] == NULL)
		w->robust_list[0] = w->robust_list;
	if (load_relaxed(&w->tid) != sched.pid)
		sys(SYS_set_robust_list, w->robust_list, sizeof(w->robust_list));
	dispatch_setup_thread();
}

void preempt_setup_sysmon(struct worker *w)
{
	uint64_t all = ~0ULL;

	preempt_setup_thread(w);
	/* Outside its sleep nothing interrupts it, our own signal included: a wake that comes
	 * just before the sleep ends that. */
	sys_sigmask(SIG_SETMASK, &all, NULL);
}

void runtime_leave_slow(struct task *t)
{
	store_relaxed(&t->worker->preempt, 0);
	/* Queued on a bucket it may not wait for anything else: later, then. */
	if (load_relaxed(&t->wait.addr) != NULL)
		return;
	int want = load_relaxed(&t->attention);

	if (unlikely(sched.shake & SHAKE_PREEMPT))
		want |= ATTEND_PREEMPT;
	if (want & ATTEND_PREEMPT) {
		and_acq_rel(&t->attention, ~ATTEND_PREEMPT);
		if (!is_bound(t)) {
			runtime_enter(t);
			sched_leave(t, AFTER_REQUEUE);
			store_relaxed(&t->worker->in_runtime, 0);
			/* While it queued nobody could make it look. */
			want |= load_acquire(&t->attention);
		}
	}
	if (want & ATTEND_REST) {
		and_acq_rel(&t->attention, ~ATTEND_REST);
		runtime_rest(t);
		want |= load_acquire(&t->attention);
	}
	if (want & ATTEND_SIGNAL)
		signal_deliver(t);
	if (want & ATTEND_ASK) {
		and_acq_rel(&t->attention, ~ATTEND_ASK);
		host.asked(t);
	}
	if (want & ATTEND_CANCEL)
		host.cancel_now(t);
}
