/* SPDX-License-Identifier: MIT */
/*
 * dispatch.c: system calls that a library makes by instructions of its own.
 *
 * libgomp waits on futexes without calling anybody (trap 17).  Such a wait blocks its worker
 * without a word: sysmon finds it some time later and hands the processor on, and at the
 * next barrier again.  Where the kernel can (PR_SYS_DISPATCH_INCLUSIVE_ON, Linux 6.16), it
 * stops the calls of one range of code with SIGSYS; the handler makes the call as if the
 * library had called syscall(), and puts the answer into the register where the instruction
 * would have.  Measured: 2.2 us for a call that is stopped, 35 ns for each that is not.
 *
 * The setting is each kernel thread's own.  A wake on a thread that has it finds tasks that
 * wait here, on one that has not yet it finds kernel threads in the kernel: so until all
 * have it no wait begins here, but ends at once, which a futex's wait always may.  One that
 * the kernel has already is interrupted by the broadcast, and begins again at its
 * instruction: it is stopped there, or sees that its word has changed.
 */
#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <ucontext.h>

#include "runtime.h"

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif
enum { DISPATCH_INCLUSIVE_ON = 2 }; /* linux/prctl.h, since 6.16 */

static struct {
	_Atomic uintptr_t low; /* 0: none */
	_Atomic size_t size;
	_Atomic bool everywhere; /* all kernel threads of tasks have it */
} range;

int calls_dispatch(uintptr_t low, size_t size)
{
	uintptr_t none = 0;

	if (!cas_acq_rel(&range.low, &none, low))
		return none == low ? 0 : -EBUSY;
	store_relaxed(&range.size, size);
	signal_serve_calls();
	long r = call_everywhere(SYS_prctl, PR_SET_SYSCALL_USER_DISPATCH,
				 DISPATCH_INCLUSIVE_ON, (long)low, (long)size);
	/* Pairs with dispatch_serve(). */
	store_release(&range.everywhere, r == 0);
	return (int)r;
}

void dispatch_setup_thread(void)
{
	/* Pairs with calls_dispatch(), which tells whoever is there later. */
	uintptr_t low = load_acquire(&range.low);
	size_t size = load_relaxed(&range.size);

	if (unlikely(size != 0))
		sys(SYS_prctl, PR_SET_SYSCALL_USER_DISPATCH, DISPATCH_INCLUSIVE_ON, low,
		    size);
}

void dispatch_fork_child(void)
{
	memset(&range, 0, sizeof(range)); /* the kernel has forgotten it too */
}

static bool is_futex_wait(long nr, const long args[6])
{
	int command = (int)args[1] & FUTEX_CMD_MASK;

	return nr == SYS_futex && (command == FUTEX_WAIT || command == FUTEX_WAIT_BITSET);
}

static long serve(struct task *t, long nr, const long args[6])
{
	/* Pairs with calls_dispatch(). */
	if (likely(load_acquire(&range.everywhere)))
		return host.system_call(t, nr, args);
	if (is_futex_wait(nr, args)) {
		task_yield();
		return 0;
	}
	return sys(nr, args[0], args[1], args[2], args[3], args[4], args[5]);
}

void dispatch_serve(struct task *t, void *context)
{
	greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
	const long args[6] = {regs[REG_RDI], regs[REG_RSI], regs[REG_RDX],
			      regs[REG_R10], regs[REG_R8],  regs[REG_R9]};

	regs[REG_RAX] = serve(t, regs[REG_RAX], args);
}
