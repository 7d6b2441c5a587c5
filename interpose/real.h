/* SPDX-License-Identifier: MIT */
/*
 * real.h: libc's own functions behind the ones that we export.
 *
 * A call reads real.read(fd, buf, n) and has libc's exact type, because the table is
 * made of __typeof__(name) for each row of symbols.def and libc's headers are included
 * here.  For the same reason a wrapper with a wrong prototype does not compile.
 *
 * The table is filled once, by real_init, before anything of the program runs.  Other
 * libraries' constructors call wrapped functions, and ld.so runs them before that of a
 * library which none of them needs, unless it is linked with -z initfirst (libgnutls
 * locks a mutex there: without the option curl died at start).  So early, libc has not
 * set environ yet: a constructor gets it as its third argument.
 */
#ifndef PGREEN_REAL_H
#define PGREEN_REAL_H

/* Fortified headers define inline read, poll and others: these are ours to define. */
#undef _FORTIFY_SOURCE
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <features.h>
#if !defined(__USE_GNU) || __USE_FORTIFY_LEVEL > 0 || defined(_PTHREAD_H)
#error "real.h comes before any header of libc"
#endif

/* The header makes this another name of sched_yield; here libc's own symbol is meant. */
#define pthread_yield pthread_yield_as_renamed
/* The header makes this another name of __xpg_sigpause. */
#define sigpause sigpause_as_renamed

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <mqueue.h>
#include <netdb.h>
#include <poll.h>
#include <resolv.h>
#include <pthread.h>
#include <linux/capability.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/fsuid.h>
#include <sys/io.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/random.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <termios.h>
#include <threads.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#undef pthread_yield
#undef sigpause

/* Exported by libc and declared by no header. */
int pthread_yield(void);
__typeof__(pthread_mutex_init) __pthread_mutex_init;
__typeof__(pthread_mutex_destroy) __pthread_mutex_destroy;
__typeof__(pthread_mutex_lock) __pthread_mutex_lock;
__typeof__(pthread_mutex_trylock) __pthread_mutex_trylock;
__typeof__(pthread_mutex_unlock) __pthread_mutex_unlock;
__typeof__(pthread_rwlock_init) __pthread_rwlock_init;
__typeof__(pthread_rwlock_destroy) __pthread_rwlock_destroy;
__typeof__(pthread_rwlock_rdlock) __pthread_rwlock_rdlock;
__typeof__(pthread_rwlock_tryrdlock) __pthread_rwlock_tryrdlock;
__typeof__(pthread_rwlock_wrlock) __pthread_rwlock_wrlock;
__typeof__(pthread_rwlock_trywrlock) __pthread_rwlock_trywrlock;
__typeof__(pthread_rwlock_unlock) __pthread_rwlock_unlock;
__typeof__(pthread_once) __pthread_once;

void _pthread_cleanup_push(struct _pthread_cleanup_buffer *buf, void (*routine)(void *),
			   void *arg);
void _pthread_cleanup_pop(struct _pthread_cleanup_buffer *buf, int execute);
void _pthread_cleanup_push_defer(struct _pthread_cleanup_buffer *buf,
				 void (*routine)(void *), void *arg);
void _pthread_cleanup_pop_restore(struct _pthread_cleanup_buffer *buf, int execute);

__typeof__(nanosleep) __nanosleep;
__typeof__(sched_setscheduler) __sched_setscheduler;
__typeof__(sched_getscheduler) __sched_getscheduler;
__typeof__(sched_getparam) __sched_getparam;
int capset(cap_user_header_t header, const cap_user_data_t data);
__typeof__(sched_yield) __sched_yield;

__typeof__(fork) __fork;
__typeof__(vfork) __vfork;
__typeof__(wait) __wait;
__typeof__(waitpid) __waitpid;

__typeof__(sigaction) __sigaction;
__typeof__(signal) bsd_signal;
__typeof__(sigsuspend) __sigsuspend;
int sigpause(int mask);
int __sigpause(int sig_or_mask, int is_sig);
int __xpg_sigpause(int sig);

__typeof__(read) __read;
__typeof__(pread) __pread64;
__typeof__(write) __write;
__typeof__(pwrite) __pwrite64;
__typeof__(send) __send;
ssize_t __read_chk(int fd, void *buf, size_t n, size_t buf_size);
ssize_t __pread_chk(int fd, void *buf, size_t n, off_t offset, size_t buf_size);
ssize_t __pread64_chk(int fd, void *buf, size_t n, off_t offset, size_t buf_size);
ssize_t __recv_chk(int fd, void *buf, size_t n, size_t buf_size, int flags);
ssize_t __recvfrom_chk(int fd, void *buf, size_t n, size_t buf_size, int flags,
		       struct sockaddr *addr, socklen_t *addr_len);

__typeof__(poll) __poll;
__typeof__(select) __select;
int __poll_chk(struct pollfd *fds, nfds_t n, int timeout_ms, size_t fds_size);
int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
		const sigset_t *mask, size_t fds_size);

__typeof__(connect) __connect;
__typeof__(close) __close;
__typeof__(dup2) __dup2;
__typeof__(open) __open;
__typeof__(open64) __open64;
__typeof__(fcntl) __fcntl;
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int dir, const char *path, int flags);
int __openat64_2(int dir, const char *path, int flags);

_Noreturn void __longjmp_chk(struct __jmp_buf_tag env[1], int value);
void __ctype_init(void);
void __call_tls_dtors(void);

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
struct real {
#define REAL_POINTER_WRAP(name) __typeof__(name) *name;
#define REAL_POINTER_TWIN(name) __typeof__(name) *name;
#define REAL_POINTER_PASS(name)
#define REAL_POINTER_LATER(name)
#define SYM(name, family, version, verdict, why) REAL_POINTER_##verdict(name)
#define REALONLY(name, version) __typeof__(name) *name;
#include "symbols.def"
#undef SYM
};
#pragma GCC diagnostic pop

extern struct real real __attribute__((visibility("hidden")));

/*
 * Fills the table; returns NULL, or the name of a WRAP or REALONLY symbol that this libc
 * lacks: the first pthread_create says so, and the program runs native.
 * For constructors, ours or on demand another library's: repeated calls are free.
 * Takes no lock of ours, allocates nothing, and calls nobody: a lookup by dlsym that fails
 * calls malloc, which may be in the middle of calling us, and the program may have a
 * sanitizer that wraps the simplest functions and is not ready.
 */
const char *real_init(void) __attribute__((visibility("hidden")));

/*
 * The address of libc's own function, whatever another preloaded library has put in front of
 * it; NULL if libc has none of this name.  For what is called on a worker's stack, where the
 * thread-locals of other libraries are not.
 */
void *real_in_libc(const char *function) __attribute__((visibility("hidden")));

/* Whether some object of the process has a function of this name for others. */
_Bool real_is_loaded(const char *function) __attribute__((visibility("hidden")));

#endif
