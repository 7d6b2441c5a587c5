/* SPDX-License-Identifier: MIT */
/*
 * posix-cancel.c: what POSIX says of pthread_cancel, pthread_setcancelstate,
 * pthread_setcanceltype, pthread_testcancel, pthread_cleanup_push and pthread_exit, and of
 * the list of cancellation points (XSH 2.9.5).
 */
#include <aio.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <poll.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "check.h"

static _Atomic int step, ended;
static int order[8], n_order;

static void note_order(void *number)
{
	order[n_order++] = (int)(intptr_t)number;
}

static void note_end(void *arg)
{
	(void)arg;
	ended++;
}

static void wait_for_step(int least)
{
	for (long long end = now_ms() + 15000; step < least; sleep_ms(1))
		CHECK(now_ms() < end);
}

/* --- what the calls block on --------------------------------------------------------------- */

static int empty_pipe[2], full_pipe[2], sockets[2], full_sockets[2], listener, epoll,
    locked;
static int queue;
static mqd_t messages;
static FILE *empty_file, *full_file;
static char fifo[] = "/tmp/posix-cancel-XXXXXX";
static sem_t no_token;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_t sleeper;
static pid_t child;
static char buf[64];
static struct iovec iov = {buf, sizeof(buf)};
static struct aiocb request;
static const struct timespec long_time = {.tv_sec = 60};

static struct timespec later(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec += 60;
	return ts;
}

static void fill(int fd)
{
	static const char block[4096];

	CHECK(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
	while (write(fd, block, sizeof(block)) > 0)
		;
	while (write(fd, block, 1) > 0)
		;
	CHECK(fcntl(fd, F_SETFL, 0) == 0);
}

static void *sleep_on(void *arg)
{
	wait_for_step(INT32_MAX);
	return arg;
}

/* A child that holds the lock of a file, and stays. */
static void start_child(void)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	char c;
	int up[2];

	CHECK(pipe(up) == 0);
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		CHECK(fcntl(locked, F_SETLK, &lock) == 0);
		CHECK(write(up[1], "x", 1) == 1);
		for (;;)
			pause();
	}
	CHECK(read(up[0], &c, 1) == 1);
}

static void set_up(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct mq_attr attr = {.mq_maxmsg = 2, .mq_msgsize = sizeof(buf)};
	char name[] = "/tmp/posix-cancel-XXXXXX";
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	CHECK_OK(pthread_sigmask(SIG_BLOCK, &set, NULL));
	locked = mkstemp(name);
	CHECK(locked >= 0 && unlink(name) == 0);
	start_child();
	CHECK(pipe(empty_pipe) == 0 && pipe(full_pipe) == 0);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, full_sockets) == 0);
	fill(full_pipe[1]);
	fill(full_sockets[1]);
	listener = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK(bind(listener, (void *)&addr, sizeof(sa_family_t)) == 0);
	CHECK(listen(listener, 1) == 0);
	epoll = epoll_create1(0);
	CHECK(epoll >= 0);
	queue = msgget(IPC_PRIVATE, 0600);
	CHECK(queue >= 0);
	snprintf(name, sizeof(name), "/posix-cancel-%d", getpid());
	messages = mq_open(name, O_RDWR | O_CREAT, 0600, &attr);
	if (messages != (mqd_t)-1)
		mq_unlink(name);
	empty_file = fdopen(dup(empty_pipe[0]), "r");
	full_file = fdopen(dup(full_pipe[1]), "w");
	CHECK(empty_file != NULL && full_file != NULL);
	setbuf(full_file, NULL);
	CHECK(mkdtemp(fifo) != NULL && rmdir(fifo) == 0 && mkfifo(fifo, 0600) == 0);
	CHECK(sem_init(&no_token, 0, 0) == 0);
	request.aio_fildes = empty_pipe[0];
	request.aio_buf = buf;
	request.aio_nbytes = 1;
	sleeper = start(sleep_on, NULL);
}

static void clean_up(void)
{
	kill(child, SIGKILL);
	msgctl(queue, IPC_RMID, NULL);
	unlink(fifo);
}

static struct msghdr *message(void)
{
	static struct msghdr m;

	m = (struct msghdr){.msg_iov = &iov, .msg_iovlen = 1};
	return &m;
}

static sigset_t usr2(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	return set;
}

/* clang-format off */
#define CALL(name, ...) static void do_##name(void) { __VA_ARGS__; }
#define POINTS(P)                                                                        \
	P(accept, accept(listener, NULL, NULL))                                          \
	P(aio_suspend, { const struct aiocb *l[] = {&request}; aio_read(&request);       \
			 aio_suspend(l, 1, NULL); })                                     \
	P(clock_nanosleep, clock_nanosleep(CLOCK_MONOTONIC, 0, &long_time, NULL))        \
	P(epoll_wait, { struct epoll_event e; epoll_wait(epoll, &e, 1, -1); })           \
	P(fcntl, { struct flock l = {.l_type = F_WRLCK}; fcntl(locked, F_SETLKW, &l); }) \
	P(fgetc, fgetc(empty_file))                                                      \
	P(fgets, fgets(buf, sizeof(buf), empty_file))                                    \
	P(fread, fread(buf, 1, 1, empty_file))                                           \
	P(fputs, fputs("hello", full_file))                                              \
	P(fprintf, fprintf(full_file, "%d", 1))                                          \
	P(lockf, lockf(locked, F_LOCK, 0))                                               \
	P(mq_receive, mq_receive(messages, buf, sizeof(buf), NULL))                      \
	P(mq_timedreceive, { struct timespec t = later();                                \
			     mq_timedreceive(messages, buf, sizeof(buf), NULL, &t); })   \
	P(msgrcv, msgrcv(queue, buf, 8, 0, 0))                                           \
	P(nanosleep, nanosleep(&long_time, NULL))                                        \
	P(open, open(fifo, O_RDONLY))                                                    \
	P(pause, pause())                                                                \
	P(poll, { struct pollfd p = {empty_pipe[0], POLLIN, 0}; poll(&p, 1, -1); })      \
	P(poll_timeout, poll(NULL, 0, 60000))                                            \
	P(ppoll, { struct pollfd p = {empty_pipe[0], POLLIN, 0};                         \
		   ppoll(&p, 1, NULL, NULL); })                                          \
	P(pselect, { fd_set s; FD_ZERO(&s); FD_SET(empty_pipe[0], &s);                   \
		     pselect(empty_pipe[0] + 1, &s, NULL, NULL, NULL, NULL); })          \
	P(pthread_cond_timedwait, { struct timespec t = later();                         \
				    pthread_mutex_lock(&mutex);                          \
				    pthread_cond_timedwait(&cond, &mutex, &t); })        \
	P(pthread_cond_wait, { pthread_mutex_lock(&mutex);                               \
			       pthread_cond_wait(&cond, &mutex); })                      \
	P(pthread_join, pthread_join(sleeper, NULL))                                     \
	P(read, (void)!read(empty_pipe[0], buf, 1))                                      \
	P(readv, (void)!readv(empty_pipe[0], &iov, 1))                                   \
	P(recv, recv(sockets[0], buf, 1, 0))                                             \
	P(recvfrom, recvfrom(sockets[0], buf, 1, 0, NULL, NULL))                         \
	P(recvmsg, recvmsg(sockets[0], message(), 0))                                    \
	P(recvmmsg, { struct mmsghdr m = {.msg_hdr = *message()};                        \
		      recvmmsg(sockets[0], &m, 1, 0, NULL); })                           \
	P(select, { fd_set s; FD_ZERO(&s); FD_SET(empty_pipe[0], &s);                    \
		    select(empty_pipe[0] + 1, &s, NULL, NULL, NULL); })                  \
	P(sem_timedwait, { struct timespec t = later(); sem_timedwait(&no_token, &t); }) \
	P(sem_wait, sem_wait(&no_token))                                                 \
	P(send, send(full_sockets[1], buf, 1, 0))                                        \
	P(sendmsg, sendmsg(full_sockets[1], message(), 0))                               \
	P(sendto, sendto(full_sockets[1], buf, 1, 0, NULL, 0))                           \
	P(sigsuspend, { sigset_t s = usr2(); sigsuspend(&s); })                          \
	P(sigtimedwait, { sigset_t s = usr2(); sigtimedwait(&s, NULL, &long_time); })    \
	P(sigwait, { sigset_t s = usr2(); int n; sigwait(&s, &n); })                     \
	P(sigwaitinfo, { sigset_t s = usr2(); sigwaitinfo(&s, NULL); })                  \
	P(sleep, sleep(60))                                                              \
	P(usleep, usleep(60000000))                                                      \
	P(wait, wait(NULL))                                                              \
	P(waitid, { siginfo_t i; waitid(P_PID, child, &i, WEXITED); })                   \
	P(waitpid, waitpid(child, NULL, 0))                                              \
	P(write, (void)!write(full_pipe[1], buf, 1))                                     \
	P(writev, (void)!writev(full_pipe[1], &iov, 1))
/* These do not block here: a cancel that is pending acts in them. */
#define QUICK_POINTS(P)                                                                  \
	P(close, close(dup(locked)))                                                     \
	P(fdatasync, fdatasync(locked))                                                  \
	P(fsync, fsync(locked))                                                          \
	P(openat, openat(AT_FDCWD, "/dev/null", O_RDONLY))                               \
	P(pread, (void)!pread(locked, buf, 1, 0))                                        \
	P(pwrite, (void)!pwrite(locked, buf, 1, 0))                                      \
	P(pthread_testcancel, pthread_testcancel())                                      \
	P(fflush, { FILE *f = fopen("/dev/null", "w"); fputs("x", f); fflush(f); })
#define ROW(name, ...) {#name, do_##name},
POINTS(CALL)       /* NOLINT(bugprone-unused-return-value) */
QUICK_POINTS(CALL) /* NOLINT(bugprone-unused-return-value) */
static const struct point { const char *name; void (*call)(void); }
	points[] = {POINTS(ROW)}, quick_points[] = {QUICK_POINTS(ROW)};
/* clang-format on */

static void release_mutex(void *arg)
{
	(void)arg;
	/* A cancelled wait for a condition has taken its mutex again. */
	if (pthread_mutex_trylock(&mutex) == 0) {
		pthread_mutex_unlock(&mutex);
		return;
	}
	pthread_mutex_unlock(&mutex);
}

static void *do_point(void *arg)
{
	const struct point *p = arg;

	pthread_cleanup_push(note_end, NULL);
	pthread_cleanup_push(release_mutex, NULL);
	step = 1;
	p->call();
	CHECK(!"the call returned");
	pthread_cleanup_pop(0);
	pthread_cleanup_pop(0);
	return NULL;
}

/* A cancel that is pending when the call is made. */
static void *do_point_late(void *arg)
{
	CHECK_OK(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL));
	CHECK_OK(pthread_cancel(pthread_self()));
	pthread_testcancel();
	CHECK_OK(pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL));
	return do_point(arg);
}

static void check_cancelled(pthread_t thread, const struct point *p)
{
	if (join(thread) == PTHREAD_CANCELED && ended == 1)
		return;
	fprintf(stderr, "%s: not cancelled\n", p->name);
	exit(1);
}

static void check_point(const struct point *p, bool blocked)
{
	if (strncmp(p->name, "mq_", 3) == 0 && messages == (mqd_t)-1)
		return;
	step = ended = 0;
	pthread_t thread = start(blocked ? do_point : do_point_late, (void *)p);
	if (blocked) {
		wait_for_step(1);
		sleep_ms(5);
		CHECK_OK(pthread_cancel(thread));
	}
	check_cancelled(thread, p);
	/* Nothing that it held is left. */
	CHECK_OK(pthread_mutex_lock(&mutex));
	CHECK_OK(pthread_mutex_unlock(&mutex));
}

static void test_blocked(void)
{
	set_up();
	for (size_t i = 0; i < sizeof(points) / sizeof(*points); i++)
		check_point(&points[i], true);
	clean_up();
}

static void test_pending(void)
{
	set_up();
	for (size_t i = 0; i < sizeof(points) / sizeof(*points); i++)
		check_point(&points[i], false);
	for (size_t i = 0; i < sizeof(quick_points) / sizeof(*quick_points); i++)
		check_point(&quick_points[i], false);
	clean_up();
}

/* --- a call inside libc that never blocks -------------------------------------------------- */

static void *print_on(void *arg)
{
	FILE *f = fopen("/dev/null", "w");

	CHECK(f != NULL);
	pthread_cleanup_push(note_end, NULL);
	for (step = 1;;)
		fprintf(f, "%s", (const char *)arg);
	pthread_cleanup_pop(0);
	return NULL;
}

static void test_stdio(void)
{
	for (int i = 0; i < 20; i++) {
		step = ended = 0;
		pthread_t thread = start(print_on, "hello");
		wait_for_step(1);
		CHECK_OK(pthread_cancel(thread));
		CHECK(join(thread) == PTHREAD_CANCELED && ended == 1);
	}
}

/* --- state and type ------------------------------------------------------------------------- */

static void *states(void *arg)
{
	int old;

	CHECK_OK(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old));
	CHECK(old == PTHREAD_CANCEL_ENABLE);
	CHECK_OK(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old));
	CHECK(old == PTHREAD_CANCEL_DISABLE);
	CHECK_OK(pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old));
	CHECK(old == PTHREAD_CANCEL_DEFERRED);
	CHECK_OK(pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &old));
	CHECK(old == PTHREAD_CANCEL_ASYNCHRONOUS);
	CHECK(pthread_setcancelstate(77, NULL) == EINVAL);
	CHECK(pthread_setcanceltype(77, NULL) == EINVAL);
	/* Held pending while disabled, at whatever point: also at those inside libc. */
	step = 1;
	wait_for_step(2);
	pthread_testcancel();
	sleep_ms(1);
	FILE *f = fopen("/dev/null", "w");
	CHECK(f != NULL && fputs("x", f) >= 0 && fclose(f) == 0);
	step = 3;
	CHECK_OK(pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL));
	step = 4;
	pthread_testcancel();
	CHECK(!"not cancelled");
	return arg;
}

static void test_states(void)
{
	pthread_t thread = start(states, NULL);

	wait_for_step(1);
	CHECK_OK(pthread_cancel(thread));
	step = 2;
	CHECK(join(thread) == PTHREAD_CANCELED && step == 4);
}

/* --- asynchronous ------------------------------------------------------------------------------ */

static void *compute(void *arg)
{
	CHECK_OK(pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL));
	pthread_cleanup_push(note_end, NULL);
	for (step = 1;;)
		;
	pthread_cleanup_pop(0);
	return arg;
}

static void *be_async_late(void *arg)
{
	CHECK_OK(pthread_cancel(pthread_self()));
	CHECK_OK(pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL));
	CHECK(!"not cancelled");
	return arg;
}

static void *cancel_self(void *arg)
{
	CHECK_OK(pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL));
	CHECK_OK(pthread_cancel(pthread_self()));
	CHECK(!"not cancelled");
	return arg;
}

/* Waits that are no cancellation points, but where an asynchronous cancel acts, as anywhere. */
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_spinlock_t spinlock;
static int word;

/* clang-format off */
#define ASYNC_WAITS(P)                                                                   \
	P(mutex_lock, pthread_mutex_lock(&mutex))                                        \
	P(mutex_timedlock, { struct timespec ts = later(); pthread_mutex_timedlock(&mutex, &ts); }) \
	P(rwlock_rdlock, pthread_rwlock_rdlock(&rwlock))                                 \
	P(rwlock_wrlock, pthread_rwlock_wrlock(&rwlock))                                 \
	P(spin_lock, pthread_spin_lock(&spinlock))                                       \
	P(sched_yield, for (;;) sched_yield())                                           \
	P(SYS_read, syscall(SYS_read, empty_pipe[0], buf, 1))                            \
	P(SYS_write, syscall(SYS_write, full_pipe[1], buf, 1))                           \
	P(SYS_accept4, syscall(SYS_accept4, listener, NULL, NULL, 0))                    \
	P(SYS_recvfrom, syscall(SYS_recvfrom, sockets[0], buf, 1, 0, NULL, NULL))        \
	P(SYS_sendto, syscall(SYS_sendto, full_sockets[1], buf, 1, 0, NULL, 0))          \
	P(SYS_recvmmsg, { struct mmsghdr m = {.msg_hdr = {.msg_iov = &iov, .msg_iovlen = 1}}; \
			  syscall(SYS_recvmmsg, sockets[0], &m, 1, 0, NULL); })          \
	P(SYS_poll, syscall(SYS_poll, NULL, 0, -1))                                      \
	P(SYS_ppoll, { struct pollfd p = {empty_pipe[0], POLLIN, 0};                     \
		       syscall(SYS_ppoll, &p, 1, NULL, NULL, 0); })                      \
	P(SYS_select, syscall(SYS_select, 0, NULL, NULL, NULL, NULL))                    \
	P(SYS_pselect6, syscall(SYS_pselect6, 0, NULL, NULL, NULL, NULL, NULL))          \
	P(SYS_epoll_wait, { struct epoll_event e; syscall(SYS_epoll_wait, epoll, &e, 1, -1); }) \
	P(SYS_nanosleep, syscall(SYS_nanosleep, &long_time, NULL))                       \
	P(SYS_clock_nanosleep, syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &long_time, NULL)) \
	P(SYS_futex, syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL, NULL, 0))            \
	P(SYS_pause, syscall(SYS_pause))                                                 \
	P(SYS_rt_sigtimedwait, { uint64_t s = 1 << (SIGUSR2 - 1);                        \
				 syscall(SYS_rt_sigtimedwait, &s, NULL, NULL, 8); })     \
	P(SYS_wait4, syscall(SYS_wait4, child, NULL, 0, NULL))                           \
	P(SYS_fcntl, { struct flock lock = {.l_type = F_WRLCK};                          \
		       syscall(SYS_fcntl, locked, F_SETLKW, &lock); })
ASYNC_WAITS(CALL) /* NOLINT(bugprone-unused-return-value) */
static const struct point async_waits[] = {ASYNC_WAITS(ROW)};
/* clang-format on */

static void *be_async(void *arg)
{
	CHECK_OK(pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL));
	pthread_cleanup_push(note_end, NULL);
	step = 1;
	((const struct point *)arg)->call();
	CHECK(!"the call returned");
	pthread_cleanup_pop(0);
	return NULL;
}

static void test_async_waits(void)
{
	set_up();
	CHECK_OK(pthread_mutex_lock(&mutex));
	CHECK_OK(pthread_rwlock_wrlock(&rwlock));
	CHECK_OK(pthread_spin_init(&spinlock, 0));
	CHECK_OK(pthread_spin_lock(&spinlock));
	for (size_t i = 0; i < sizeof(async_waits) / sizeof(async_waits[0]); i++)
		for (int pause = 0; pause < 20; pause += 5) {
			step = ended = 0;
			pthread_t thread = start(be_async, (void *)&async_waits[i]);
			wait_for_step(1);
			sleep_ms(pause);
			CHECK_OK(pthread_cancel(thread));
			check_cancelled(thread, &async_waits[i]);
		}
	clean_up();
}

static void test_async(void)
{
	for (int i = 0; i < 30; i++) {
		step = ended = 0;
		pthread_t thread = start(compute, NULL);
		wait_for_step(1);
		CHECK_OK(pthread_cancel(thread));
		CHECK(join(thread) == PTHREAD_CANCELED && ended == 1);
	}
	CHECK(in_thread(be_async_late, NULL) == PTHREAD_CANCELED);
	CHECK(in_thread(cancel_self, NULL) == PTHREAD_CANCELED);
}

/* --- waits for a condition ------------------------------------------------------------------- */

/* It knows its owner: unlocking it tells whether the caller has it. */
static pthread_mutex_t checked;

static void unlock_checked(void *arg)
{
	(void)arg;
	CHECK_OK(pthread_mutex_unlock(&checked));
	ended++;
}

static void *wait_with_type(void *type)
{
	CHECK_OK(pthread_setcanceltype((int)(intptr_t)type, NULL));
	CHECK_OK(pthread_mutex_lock(&checked));
	pthread_cleanup_push(unlock_checked, NULL);
	step = 1;
	for (;;)
		CHECK_OK(pthread_cond_wait(&cond, &checked));
	pthread_cleanup_pop(0);
	return NULL;
}

static void stay_in_handler(int sig)
{
	(void)sig;
	step = 2;
	for (;;)
		sleep_ms(10000);
}

static sigjmp_buf before_wait;

static void jump_out(int sig)
{
	(void)sig;
	siglongjmp(before_wait, 1);
}

static void *wait_and_jump(void *arg)
{
	CHECK_OK(pthread_mutex_lock(&checked));
	step = 1;
	if (sigsetjmp(before_wait, 1) == 0)
		for (;;)
			CHECK_OK(pthread_cond_wait(&cond, &checked));
	CHECK_OK(pthread_mutex_unlock(&checked));
	return arg;
}

static pthread_t start_to_wait(void *(*routine)(void *), void *arg)
{
	step = ended = 0;
	pthread_t thread = start(routine, arg);
	wait_for_step(1);
	CHECK_OK(pthread_mutex_lock(&checked)); /* it waits */
	CHECK_OK(pthread_mutex_unlock(&checked));
	return thread;
}

static void check_unlocked(pthread_t thread)
{
	CHECK(join(thread) == PTHREAD_CANCELED && ended == 1);
	CHECK_OK(pthread_mutex_trylock(&checked));
	CHECK_OK(pthread_mutex_unlock(&checked));
}

/* However the wait is left, the mutex is held then. */
static void test_cond(void)
{
	struct sigaction act = {.sa_handler = stay_in_handler};
	pthread_mutexattr_t attr;
	pthread_t thread;

	CHECK_OK(pthread_mutexattr_init(&attr));
	CHECK_OK(pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ERRORCHECK));
	CHECK_OK(pthread_mutex_init(&checked, &attr));
	for (int signalled = 0; signalled < 20; signalled++) {
		thread = start_to_wait(wait_with_type,
				       (void *)(intptr_t)PTHREAD_CANCEL_DEFERRED);
		for (int i = 0; i < signalled; i++)
			CHECK_OK(pthread_cond_signal(&cond));
		CHECK_OK(pthread_cancel(thread));
		check_unlocked(thread);
	}
	/* Asynchronously: natively while it is parked, at least. */
	ended = 0;
	thread =
	    start_waiting(wait_with_type, (void *)(intptr_t)PTHREAD_CANCEL_ASYNCHRONOUS);
	CHECK_OK(pthread_cancel(thread));
	check_unlocked(thread);
	/* In a handler that interrupts it. */
	CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
	thread = start_to_wait(wait_with_type, (void *)(intptr_t)PTHREAD_CANCEL_DEFERRED);
	CHECK_OK(pthread_kill(thread, SIGUSR1));
	wait_for_step(2);
	CHECK_OK(pthread_cancel(thread));
	check_unlocked(thread);
	/* By a jump out of a handler. */
	act.sa_handler = jump_out;
	CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
	thread = start_to_wait(wait_and_jump, NULL);
	CHECK_OK(pthread_kill(thread, SIGUSR1));
	join(thread);
}

/* Who is cancelled and must wait for the mutex uses no CPU meanwhile. */
static void test_cond_held(void)
{
	struct timespec used, before;

	CHECK_OK(pthread_mutex_init(&checked, NULL));
	pthread_t thread = start_to_wait(wait_with_type, NULL);
	CHECK_OK(pthread_mutex_lock(&checked));
	CHECK_OK(pthread_cancel(thread));
	sleep_ms(5);
	CHECK(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before) == 0);
	sleep_ms(500);
	CHECK(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used) == 0);
	CHECK(used.tv_sec - before.tv_sec + (used.tv_nsec - before.tv_nsec) / 1e9 < 0.05);
	CHECK_OK(pthread_mutex_unlock(&checked));
	check_unlocked(thread);
}

/* --- the end --------------------------------------------------------------------------------------- */

static pthread_key_t key;

static void key_ends(void *value)
{
	note_order(value);
}

static void check_main_order(void)
{
	if (n_order != 3 || order[0] != 3 || order[1] != 2 || order[2] != 1) {
		fprintf(stderr, "main's handlers: %d run\n", n_order);
		_exit(1);
	}
}

__attribute__((noinline)) static void fill_stack(void)
{
	volatile char garbage[4096];

	for (size_t i = 0; i < sizeof(garbage); i++)
		garbage[i] = -1;
}

__attribute__((noinline)) static void keep_type(void)
{
	int type;

	pthread_cleanup_push_defer_np(note_order, (void *)1);
	become_threaded();
	pthread_cleanup_pop_restore_np(0);
	CHECK_OK(pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type));
	CHECK(type == PTHREAD_CANCEL_DEFERRED);
}

/* The cancel type that main had before the first thread is the one that it gets back, whatever was
 * on the stack before. */
static void test_type_of_main(void)
{
	fill_stack();
	keep_type();
}

/* Of main, from before the first thread. */
static void test_order_of_main(void)
{
	int state, type;

	CHECK(atexit(check_main_order) == 0);
	CHECK_OK(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL));
	pthread_cleanup_push(note_order, (void *)1);
	pthread_cleanup_push_defer_np(note_order, (void *)2);
	pthread_cleanup_push(note_order, (void *)3);
	pthread_cleanup_push(note_order, (void *)4);
	become_threaded();
	CHECK_OK(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state));
	CHECK(state == PTHREAD_CANCEL_DISABLE);
	pthread_cleanup_pop(0);
	pthread_cleanup_pop(1);
	CHECK(n_order == 1);
	CHECK_OK(pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type));
	CHECK(type == PTHREAD_CANCEL_DEFERRED);
	pthread_exit(NULL);
	pthread_cleanup_pop_restore_np(0);
	pthread_cleanup_pop(0);
}

static void *end_in_order(void *arg)
{
	int state;

	CHECK_OK(pthread_setspecific(key, (void *)9));
	pthread_cleanup_push(note_order, (void *)1);
	pthread_cleanup_push(note_order, (void *)2);
	pthread_cleanup_push(note_order, (void *)3);
	pthread_cleanup_pop(0); /* removed, not called */
	pthread_cleanup_push(note_order, (void *)4);
	pthread_cleanup_pop(1); /* called at once */
	CHECK_OK(pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state));
	if (arg != NULL)
		pthread_exit(arg);
	CHECK_OK(pthread_cancel(pthread_self()));
	pthread_testcancel();
	pthread_cleanup_pop(0);
	pthread_cleanup_pop(0);
	return NULL;
}

static void *return_plainly(void *arg)
{
	pthread_cleanup_push(note_order, (void *)5);
	pthread_cleanup_pop(0);
	return arg;
}

static void check_order(void)
{
	CHECK(n_order == 4);
	CHECK(order[0] == 4 && order[1] == 2 && order[2] == 1 && order[3] == 9);
	n_order = 0;
}

static void test_order(void)
{
	CHECK_OK(pthread_key_create(&key, key_ends));
	CHECK(in_thread(end_in_order, NULL) == PTHREAD_CANCELED);
	check_order();
	CHECK(in_thread(end_in_order, (void *)7) == (void *)7);
	check_order();
	CHECK(in_thread(return_plainly, (void *)8) == (void *)8 && n_order == 0);
}

/* Handlers run with the cancel done: points in them are none any more. */
static void use_points(void *arg)
{
	struct timespec ts = {.tv_nsec = 1000};

	pthread_testcancel();
	CHECK(nanosleep(&ts, NULL) == 0);
	ended++;
	(void)arg;
}

static void *end_with_points(void *arg)
{
	pthread_cleanup_push(use_points, NULL);
	CHECK_OK(pthread_cancel(pthread_self()));
	pthread_testcancel();
	pthread_cleanup_pop(0);
	return arg;
}

static void *wait_and_return(void *arg)
{
	CHECK_OK(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL));
	step = 1;
	wait_for_step(2);
	return arg;
}

static void test_end(void)
{
	CHECK(in_thread(end_with_points, NULL) == PTHREAD_CANCELED && ended == 1);
	/* Twice is as once; one that ends without a point is not cancelled. */
	pthread_t thread = start(wait_and_return, (void *)5);
	wait_for_step(1);
	CHECK_OK(pthread_cancel(thread));
	CHECK_OK(pthread_cancel(thread));
	step = 2;
	CHECK(join(thread) == (void *)5);
	/* One that has ended and is not yet joined. */
	thread = start(do_nothing, (void *)6);
	sleep_ms(20);
	CHECK_OK(pthread_cancel(thread));
	CHECK(join(thread) == (void *)6);
}

/* A join that was cancelled leaves its target joinable; and two may wait for each other when
 * the one is about to be cancelled. */
static void *join_it(void *arg)
{
	step = 1;
	pthread_join(*(pthread_t *)arg, NULL);
	CHECK(!"joined");
	return NULL;
}

static void *join_it_async(void *arg)
{
	CHECK_OK(pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL));
	return join_it(arg);
}

static void cancel_join(void *(*join_target)(void *))
{
	step = 0;
	pthread_t target = start(wait_and_return, (void *)4);

	wait_for_step(1);
	step = 0;
	pthread_t joiner = start(join_target, &target);
	wait_for_step(1);
	sleep_ms(20);
	CHECK_OK(pthread_cancel(joiner));
	CHECK(join(joiner) == PTHREAD_CANCELED);
	step = 2;
	CHECK(join(target) == (void *)4);
}

static void test_join(void)
{
	pthread_t self = pthread_self();

	cancel_join(join_it);
	cancel_join(join_it_async);

	step = 0;
	pthread_t joiner = start(join_it, &self);
	wait_for_step(1);
	sleep_ms(20);
	CHECK(pthread_join(self, NULL) == EDEADLK);
	CHECK_OK(pthread_cancel(joiner));
	CHECK(join(joiner) == PTHREAD_CANCELED);
	CHECK_OK(pthread_detach(self));
	CHECK(pthread_join(self, NULL) == EINVAL);
}

/* What a cancel has interrupted leaves no trace: not in the thread's own clean-up, and not in
 * the next thread, which may have the same memory. */
static _Atomic int n_handled;

static void handle(int sig)
{
	(void)sig;
	n_handled++;
}

static void sleep_after_handlers(void *arg)
{
	const struct timespec moment = {.tv_nsec = 20000000};

	(void)arg;
	n_handled = 0;
	CHECK_OK(pthread_kill(pthread_self(), SIGUSR1));
	CHECK_OK(pthread_kill(pthread_self(), SIGUSR2));
	CHECK(n_handled == 2);
	CHECK(nanosleep(&moment, NULL) == 0);
}

enum interrupted_wait { IN_PPOLL, IN_PSELECT, IN_SIGWAIT, N_INTERRUPTED_WAITS };

static void *wait_with_mask(void *which)
{
	sigset_t set;
	int sig;

	CHECK_OK(pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL));
	sigemptyset(&set);
	pthread_cleanup_push(sleep_after_handlers, NULL);
	step = 1;
	switch ((enum interrupted_wait)(intptr_t)which) {
	case IN_PPOLL:
		ppoll(NULL, 0, NULL, &set);
		break;
	case IN_PSELECT:
		pselect(0, NULL, NULL, NULL, NULL, &set);
		break;
	default:
		sigaddset(&set, SIGUSR2);
		sigwait(&set, &sig);
	}
	CHECK(!"the call returned");
	pthread_cleanup_pop(0);
	return NULL;
}

static void *sleep_in_turn(void *arg)
{
	sleep_after_handlers(NULL);
	return arg;
}

static void test_traces(void)
{
	struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};

	CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
	CHECK(sigaction(SIGUSR2, &action, NULL) == 0);
	for (intptr_t i = 0; i < N_INTERRUPTED_WAITS; i++) {
		step = 0;
		pthread_t thread = start(wait_with_mask, (void *)i);
		wait_for_step(1);
		sleep_ms(20);
		CHECK_OK(pthread_cancel(thread));
		CHECK(join(thread) == PTHREAD_CANCELED);
		in_thread(sleep_in_turn, NULL);
	}
}

/* Many at once, wherever they are. */
static void *anything(void *arg)
{
	switch ((intptr_t)arg % 4) {
	case 0:
		compute(NULL);
		break;
	case 1:
		sleep(60);
		break;
	case 2:
		print_on("hello");
		break;
	case 3:
		(void)!read(empty_pipe[0], buf, 1);
	}
	return NULL;
}

static void test_many(void)
{
	enum { N = 40 };
	pthread_t threads[N];

	CHECK(pipe(empty_pipe) == 0);
	for (int round = 0; round < 5; round++) {
		for (intptr_t i = 0; i < N; i++)
			threads[i] = start(anything, (void *)i);
		sleep_ms(round * 3);
		for (int i = 0; i < N; i++)
			CHECK_OK(pthread_cancel(threads[i]));
		for (int i = 0; i < N; i++)
			CHECK(join(threads[i]) == PTHREAD_CANCELED);
	}
}

/* Who cancels and then closes what the thread reads has done the one before the other. */
static void *read_soon(void *arg)
{
	for (volatile int i = 0; i < *(int *)arg; i++)
		;
	(void)!read(empty_pipe[0], buf, 1);
	return NULL;
}

static void test_closed(void)
{
	for (int round = 0; round < 5000; round++) {
		int before_read = round * 37 % 3000, before_cancel = round * 101 % 3000;

		CHECK(pipe(empty_pipe) == 0);
		pthread_t thread = start(read_soon, &before_read);
		for (volatile int i = 0; i < before_cancel; i++)
			;
		CHECK_OK(pthread_cancel(thread));
		CHECK(close(empty_pipe[0]) == 0);
		CHECK(join(thread) == PTHREAD_CANCELED);
		CHECK(close(empty_pipe[1]) == 0);
	}
}

/* Until it can be joined at once. */
static pthread_t start_ended(void)
{
	pthread_t thread = start(do_nothing, NULL);
	clockid_t clock;

	while (pthread_getcpuclockid(thread, &clock) == 0)
		sleep_ms(1);
	return thread;
}

static void *call_no_point(void *main_thread)
{
	pthread_t two[2] = {start_ended(), start_ended()};
	char name[16];

	CHECK_OK(pthread_cancel(pthread_self()));
	CHECK_OK(pthread_setname_np(pthread_self(), "one"));
	CHECK_OK(pthread_setname_np((pthread_t)main_thread, "main"));
	CHECK_OK(pthread_getname_np((pthread_t)main_thread, name, sizeof(name)));
	CHECK_OK(pthread_tryjoin_np(two[0], NULL));
	CHECK_OK(pthread_join(two[1], NULL));
	step = 1;
	pthread_testcancel();
	return NULL;
}

/* What POSIX does not list, and a join that does not wait. */
static void test_no_points(void)
{
	CHECK(in_thread(call_no_point, (void *)pthread_self()) == PTHREAD_CANCELED);
	CHECK(step == 1);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
	    {"blocked", test_blocked},
	    {"pending", test_pending},
	    {"stdio", test_stdio},
	    {"states", test_states},
	    {"async", test_async},
	    {"order", test_order},
	    {"order-of-main", test_order_of_main},
	    {"type-of-main", test_type_of_main},
	    {"end", test_end},
	    {"join", test_join},
	    {"traces", test_traces},
	    {"many", test_many},
	    {"closed", test_closed},
	    {"async-waits", test_async_waits},
	    {"cond", test_cond},
	    {"cond-held", test_cond_held},
	    {"no-points", test_no_points},
	};

	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
