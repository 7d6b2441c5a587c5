/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kthread.h"
#include "say.h"

enum {
	PAGE = 4096,
	STACK_COPIED = 64 << 10,
	STOP_TRIES = 40000, /* of 50 us: on a busy machine it may not run before */
	STOP_PAUSE_NS = 50000,
	SYSCALL_SIZE = 2,
};

/* --- the system calls that threads are most often seen in ---------------------------- */

enum call_flags {
	HAS_FD = 1,    /* the first argument is a descriptor */
	IS_RESUMED = 2 /* goes on after a stop as if nothing had been (signal(7)) */
};

static const struct {
	const char *name;
	int flags;
} calls[] = {
    [SYS_read] = {"read", HAS_FD},
    [SYS_write] = {"write", HAS_FD},
    [SYS_poll] = {"poll", IS_RESUMED},
    [SYS_ioctl] = {"ioctl", HAS_FD},
    [SYS_pread64] = {"pread", HAS_FD},
    [SYS_pwrite64] = {"pwrite", HAS_FD},
    [SYS_readv] = {"readv", HAS_FD},
    [SYS_writev] = {"writev", HAS_FD},
    [SYS_select] = {"select", IS_RESUMED},
    [SYS_msync] = {"msync", 0},
    [SYS_sched_yield] = {"sched_yield", IS_RESUMED},
    [SYS_pause] = {"pause", IS_RESUMED},
    [SYS_nanosleep] = {"nanosleep", IS_RESUMED},
    [SYS_sendfile] = {"sendfile", HAS_FD},
    [SYS_connect] = {"connect", HAS_FD},
    [SYS_accept] = {"accept", HAS_FD},
    [SYS_accept4] = {"accept4", HAS_FD},
    [SYS_sendto] = {"send", HAS_FD},
    [SYS_recvfrom] = {"recv", HAS_FD},
    [SYS_sendmsg] = {"sendmsg", HAS_FD},
    [SYS_recvmsg] = {"recvmsg", HAS_FD},
    [SYS_recvmmsg] = {"recvmmsg", HAS_FD},
    [SYS_sendmmsg] = {"sendmmsg", HAS_FD},
    [SYS_vfork] = {"vfork", 0},
    [SYS_wait4] = {"wait4", IS_RESUMED},
    [SYS_waitid] = {"waitid", IS_RESUMED},
    [SYS_semop] = {"semop", 0},
    [SYS_semtimedop] = {"semtimedop", 0},
    [SYS_msgsnd] = {"msgsnd", IS_RESUMED},
    [SYS_msgrcv] = {"msgrcv", IS_RESUMED},
    [SYS_fcntl] = {"fcntl", HAS_FD},
    [SYS_flock] = {"flock", HAS_FD},
    [SYS_fsync] = {"fsync", HAS_FD},
    [SYS_fdatasync] = {"fdatasync", HAS_FD},
    [SYS_sync] = {"sync", 0},
    [SYS_syncfs] = {"syncfs", HAS_FD},
    [SYS_sync_file_range] = {"sync_file_range", HAS_FD},
    [SYS_ftruncate] = {"ftruncate", HAS_FD},
    [SYS_fallocate] = {"fallocate", HAS_FD},
    [SYS_getdents64] = {"getdents", HAS_FD},
    [SYS_open] = {"open", 0},
    [SYS_openat] = {"openat", 0},
    [SYS_close] = {"close", HAS_FD},
    [SYS_unlink] = {"unlink", 0},
    [SYS_unlinkat] = {"unlinkat", 0},
    [SYS_rename] = {"rename", 0},
    [SYS_rt_sigtimedwait] = {"sigtimedwait", 0},
    [SYS_rt_sigsuspend] = {"sigsuspend", IS_RESUMED},
    [SYS_futex] = {"futex", IS_RESUMED},
    [SYS_io_getevents] = {"io_getevents", 0},
    [SYS_restart_syscall] = {"restart_syscall", IS_RESUMED},
    [SYS_clock_nanosleep] = {"clock_nanosleep", IS_RESUMED},
    [SYS_epoll_wait] = {"epoll_wait", HAS_FD},
    [SYS_epoll_pwait] = {"epoll_pwait", HAS_FD},
    [441 /* SYS_epoll_pwait2 */] = {"epoll_pwait2", HAS_FD},
    [SYS_mq_timedsend] = {"mq_timedsend", HAS_FD},
    [SYS_mq_timedreceive] = {"mq_timedreceive", HAS_FD},
    [SYS_pselect6] = {"pselect", IS_RESUMED},
    [SYS_ppoll] = {"ppoll", IS_RESUMED},
    [SYS_splice] = {"splice", HAS_FD},
    [SYS_tee] = {"tee", HAS_FD},
    [SYS_copy_file_range] = {"copy_file_range", HAS_FD},
    [SYS_preadv] = {"preadv", HAS_FD},
    [SYS_pwritev] = {"pwritev", HAS_FD},
    [SYS_preadv2] = {"preadv2", HAS_FD},
    [SYS_pwritev2] = {"pwritev2", HAS_FD},
    [SYS_io_pgetevents] = {"io_pgetevents", 0},
    [SYS_io_uring_enter] = {"io_uring_enter", HAS_FD},
};

static int call_flags(long nr)
{
	return nr >= 0 && nr < (long)(sizeof(calls) / sizeof(calls[0])) ? calls[nr].flags
									: 0;
}

const char *call_name(long nr, bool *has_descriptor)
{
	*has_descriptor = (call_flags(nr) & HAS_FD) != 0;
	return nr >= 0 && nr < (long)(sizeof(calls) / sizeof(calls[0])) ? calls[nr].name
									: NULL;
}

/* --- looking ------------------------------------------------------------------------ */

/* Copies the stack that it is on; what lies deeper is read later. */
static void copy_stack(const struct remote *r, const struct bounds *b, struct kthread *k)
{
	uint64_t sp = k->regs.value[REG_RSP_];
	const struct mapping *m = remote_mapping(r, sp);
	/* A mapping that is newer than our list: what lies in one page is there. */
	uint64_t end = sp >= b->low && sp < b->high ? b->high
		       : m                          ? m->end
						    : (sp | (PAGE - 1)) + 1;
	size_t n = end - sp < STACK_COPIED ? end - sp : STACK_COPIED;
	struct iovec here = {malloc(n), n}, there = {(void *)(uintptr_t)sp, n};

	if (!here.iov_base)
		refuse(STATUS_REFUSED, "out of memory");
	ssize_t got = remote_read_pieces(r, &here, &there, 1);
	k->stack = (struct stack_copy){
	    .at = sp, .n = got > 0 ? (size_t)got : 0, .bytes = here.iov_base};
}

static bool read_proc(const struct remote *r, pid_t tid, const char *what, char *text,
		      size_t size)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/task/%d/%s", r->pid, tid, what);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, text, size - 1) : -1;

	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = 0;
	return n > 0;
}

/* The state that /proc's stat has of it, as ps(1) shows it; 0: it is gone. */
static char state_letter(const struct remote *r, pid_t tid)
{
	char text[512];

	if (!read_proc(r, tid, "stat", text, sizeof(text)))
		return 0;
	const char *after_name = strrchr(text, ')');
	return after_name && after_name[1] == ' ' ? after_name[2] : 0;
}

static void parse_call(const char *text, struct kthread *k)
{
	uint64_t sp = 0, pc = 0;
	uint64_t *a = k->args;

	k->state = KTHREAD_BLOCKED;
	if (sscanf(text, "-1 %" SCNx64 " %" SCNx64, &sp, &pc) == 2)
		k->nr = NO_CALL;
	else if (sscanf(text,
			"%ld %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64
			" %" SCNx64 " %" SCNx64 " %" SCNx64,
			&k->nr, &a[0], &a[1], &a[2], &a[3], &a[4], &a[5], &sp, &pc) != 9)
		k->state = KTHREAD_RUNS;
	register_set(&k->regs, REG_RSP_, sp);
	register_set(&k->regs, REG_RIP_, pc);
}

/* It is gone, or this kernel tells no system calls: then it must not be stopped. */
static void hidden(const struct remote *r, struct kthread *k)
{
	char text[512];

	if (!read_proc(r, k->tid, "stat", text, sizeof(text)))
		return;
	k->state = KTHREAD_RUNS;
	k->refused = "this kernel does not tell what it is at";
}

void kthread_look(const struct remote *r, pid_t tid, const struct bounds *b,
		  struct kthread *k)
{
	enum { TRIES = 4 };
	char before[256], after[256];

	for (int i = 0; i < TRIES; i++) {
		*k = (struct kthread){.tid = tid, .nr = NO_CALL};
		if (!read_proc(r, tid, "syscall", before, sizeof(before))) {
			hidden(r, k);
			return;
		}
		parse_call(before, k);
		if (k->state == KTHREAD_RUNS)
			return;
		copy_stack(r, b, k);
		/* The same call still: then it was in it all the time.  Unless it has been
		 * woken, and is still on its way to a CPU: of a call that never waits, too,
		 * at whose end a stop had met it. */
		if (read_proc(r, tid, "syscall", after, sizeof(after)) &&
		    strcmp(before, after) == 0 && state_letter(r, tid) != 'R')
			return;
		kthread_free(k);
	}
	k->state = KTHREAD_RUNS;
}

/* --- stopping ----------------------------------------------------------------------- */

static void pause_a_little(void)
{
	const struct timespec ts = {.tv_nsec = STOP_PAUSE_NS};

	nanosleep(&ts, NULL);
}

/* Waits for the stop.  Returns the signal to go on with, or -1: it does not stop. */
static int wait_for_stop(pid_t tid)
{
	enum { EVENT_SHIFT = 16, AT_ONCE = 20 };
	int status;

	for (int i = 0; i < STOP_TRIES; i++) {
		pid_t got = waitpid(tid, &status, __WALL | WNOHANG);

		if (got < 0 || (got == tid && !WIFSTOPPED(status)))
			return -1;
		/* One that was on its way to it when we came is its own again. */
		if (got == tid)
			return status >> EVENT_SHIFT == PTRACE_EVENT_STOP
				   ? 0
				   : WSTOPSIG(status);
		if (i >= AT_ONCE)
			pause_a_little();
	}
	return -1;
}

static void take_registers(const struct user_regs_struct *u, struct kthread *k)
{
	const unsigned long long in_order[N_REGS] = {
	    u->rax, u->rdx, u->rcx, u->rbx, u->rsi, u->rdi, u->rbp, u->rsp, u->r8,
	    u->r9,  u->r10, u->r11, u->r12, u->r13, u->r14, u->r15, u->rip};

	for (int i = 0; i < N_REGS; i++)
		register_set(&k->regs, i, in_order[i]);
	k->fs = u->fs_base;
	k->has_all = true;
	k->nr = (long)u->orig_rax;
}

/* Whether a signal waits that it does not block: then EINTR may be that one's. */
static bool has_pending(const struct remote *r, pid_t tid)
{
	char text[4096];
	uint64_t pending = 0, shared = 0, blocked = 0;

	if (!read_proc(r, tid, "status", text, sizeof(text)))
		return true;
	const char *p = strstr(text, "\nSigPnd:"), *s = strstr(text, "\nShdPnd:"),
		   *b = strstr(text, "\nSigBlk:");

	if (!p || !s || !b)
		return true;
	sscanf(p, "\nSigPnd: %" SCNx64, &pending);
	sscanf(s, "\nShdPnd: %" SCNx64, &shared);
	sscanf(b, "\nSigBlk: %" SCNx64, &blocked);
	return ((pending | shared) & ~blocked) != 0;
}

/*
 * It ran when we looked, and has entered, just before the stop, a call that a stop ends: we
 * have it make the call again.
 */
static void repair(const struct remote *r, pid_t tid, int signal,
		   struct user_regs_struct *u)
{
	static const unsigned char insn[] = {0x0f, 0x05};
	unsigned char at[sizeof(insn)];

	if (signal != 0 || (long)u->rax != -EINTR || (long)u->orig_rax < 0 ||
	    (call_flags((long)u->orig_rax) & IS_RESUMED) || has_pending(r, tid) ||
	    remote_read(r, u->rip - SYSCALL_SIZE, at, sizeof(at)) < 0 ||
	    memcmp(at, insn, sizeof(insn)) != 0)
		return;
	u->rax = u->orig_rax;
	u->orig_rax = ~0ULL;
	u->rip -= SYSCALL_SIZE;
	ptrace(PTRACE_SETREGS, tid, 0, u);
}

static const char *stop_and_read(const struct remote *r, pid_t tid,
				 const struct bounds *b, struct kthread *k)
{
	struct user_regs_struct u;

	if (ptrace(PTRACE_SEIZE, tid, 0, 0) < 0)
		return errno == ESRCH ? "it is gone"
				      : "it may not be stopped, or is traced already";
	if (ptrace(PTRACE_INTERRUPT, tid, 0, 0) < 0)
		return "it is gone";
	int signal = wait_for_stop(tid);
	if (signal < 0) /* our end lets go of it */
		return "it does not stop";
	if (ptrace(PTRACE_GETREGS, tid, 0, &u) == 0) {
		take_registers(&u, k);
		copy_stack(r, b, k);
		repair(r, tid, signal, &u);
	}
	ptrace(PTRACE_DETACH, tid, 0, (long)signal);
	return k->has_all ? NULL : "its registers cannot be read";
}

/* Why it is not stopped where it is, or NULL. */
static const char *why_not(const struct remote *r, const struct kthread *k)
{
	if (k->state != KTHREAD_BLOCKED)
		return NULL;
	if (k->nr != NO_CALL && !(call_flags(k->nr) & IS_RESUMED))
		return "a stop would disturb its system call";
	/* In the midst of a page fault, say: it would stop when the disk has answered. */
	char state = state_letter(r, k->tid);

	return state == 'D' || state == 0 ? "the kernel does not stop it now" : NULL;
}

void kthread_stop(const struct remote *r, pid_t tid, const struct bounds *b,
		  struct kthread *k)
{
	kthread_look(r, tid, b, k);
	if (k->state == KTHREAD_GONE || k->refused)
		return;
	k->refused = why_not(r, k);
	if (k->refused)
		return;
	struct kthread stopped = {.tid = tid, .state = k->state, .nr = k->nr};

	memcpy(stopped.args, k->args, sizeof(stopped.args));
	stopped.refused = stop_and_read(r, tid, b, &stopped);
	if (stopped.refused) {
		k->refused = stopped.refused;
		kthread_free(&stopped);
		return;
	}
	stopped.state = k->state;
	stopped.nr = k->state == KTHREAD_BLOCKED ? k->nr : NO_CALL;
	kthread_free(k);
	*k = stopped;
}

void kthread_free(struct kthread *k)
{
	free(k->stack.bytes);
	k->stack = (struct stack_copy){0};
}
