/* SPDX-License-Identifier: MIT */
/*
 * interrupted.c: what a signal does to a thread that waits in a system call.
 *
 * Each call is made by a thread of its own, and signals rain on that thread.  Without
 * SA_RESTART the call fails with EINTR; with it, calls that the kernel begins again go on
 * until there is something to return, and the others still fail (signal(7)).
 */
#include <aio.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <mqueue.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/msg.h>
#include <sys/random.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "check.h"

static _Atomic int n_handled;

static void handler(int sig)
{
	(void)sig;
	n_handled++;
}

static void handle(int flags)
{
	struct sigaction act = {.sa_handler = handler, .sa_flags = flags};

	CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
}

struct wait {
	long (*call)(void);
	void (*satisfy)(void);
	_Atomic bool done;
	long result;
	int error;
};

static void *waiter(void *arg)
{
	struct wait *w = arg;

	errno = 0;
	w->result = w->call();
	w->error = errno;
	w->done = true;
	return NULL;
}

/* Signals until the call returns, or n handlers have run after the first. */
static void rain(struct wait *w, pthread_t thread, int n)
{
	int first = n_handled;
	long long end = now_ms() + 20000;

	while (!w->done && n_handled - first < n) {
		CHECK(now_ms() < end);
		CHECK_OK(pthread_kill(thread, SIGUSR1));
		sleep_ms(2);
	}
}

static void expect_eintr(int flags, long (*call)(void))
{
	struct wait w = {.call = call};

	handle(flags);
	pthread_t thread = start(waiter, &w);
	rain(&w, thread, 1 << 30);
	join(thread);
	CHECK(w.result == -1);
	errno = w.error;
	CHECK(w.error == EINTR);
	CHECK(n_handled > 0);
}

static void expect_restart(long (*call)(void), void (*satisfy)(void), long result)
{
	struct wait w = {.call = call};

	handle(SA_RESTART);
	pthread_t thread = start(waiter, &w);
	rain(&w, thread, 20);
	errno = w.error;
	CHECK(!w.done);
	satisfy();
	join(thread);
	errno = w.error;
	CHECK(w.result == result);
}

static void restarts(long (*call)(void), void (*satisfy)(void), long result)
{
	expect_eintr(0, call);
	expect_restart(call, satisfy, result);
}

static void never_restarts(long (*call)(void))
{
	expect_eintr(0, call);
	expect_eintr(SA_RESTART, call);
}

/* --- the calls --------------------------------------------------------------------------- */

static int fds[2];

static long call_read(void)
{
	char c[8];

	return read(fds[0], c, sizeof(c));
}

static long call_readv(void)
{
	char c[8];
	struct iovec v = {c, sizeof(c)};

	return readv(fds[0], &v, 1);
}

static void satisfy_read(void)
{
	CHECK(write(fds[1], "abc", 3) == 3);
}

static void test_read(void)
{
	CHECK(pipe(fds) == 0);
	restarts(call_read, satisfy_read, 3);
	restarts(call_readv, satisfy_read, 3);
}

static long call_write(void)
{
	return write(fds[1], "x", 1);
}

static void satisfy_write(void)
{
	char buf[65536];

	CHECK(read(fds[0], buf, sizeof(buf)) > 0);
}

static void fill_pipe(void)
{
	char buf[4096] = {0};

	CHECK(pipe(fds) == 0);
	CHECK(fcntl(fds[1], F_SETFL, O_NONBLOCK) == 0);
	while (write(fds[1], buf, sizeof(buf)) > 0)
		;
	CHECK(fcntl(fds[1], F_SETFL, 0) == 0);
}

static void test_write(void)
{
	fill_pipe();
	restarts(call_write, satisfy_write, 1);
}

/* --- inside libc ------------------------------------------------------------------------- */

static FILE *stream;

static long call_fgets(void)
{
	char line[8];

	clearerr(stream);
	return fgets(line, sizeof(line), stream) != NULL ? (long)strlen(line) : -1;
}

static void satisfy_line(void)
{
	CHECK(write(fds[1], "ab\n", 3) == 3);
}

static long call_fputc(void)
{
	clearerr(stream);
	return fputc('x', stream);
}

static struct aiocb request;

/* Waits for a request that was made before. */
static long call_aio_suspend(void)
{
	const struct aiocb *list[] = {&request};

	return aio_suspend(list, 1, NULL);
}

static void test_libc(void)
{
	static char byte;

	CHECK(pipe(fds) == 0);
	CHECK((stream = fdopen(fds[0], "r")) != NULL);
	restarts(call_fgets, satisfy_line, 3);

	fill_pipe();
	CHECK((stream = fdopen(fds[1], "w")) != NULL);
	CHECK(setvbuf(stream, NULL, _IONBF, 0) == 0);
	restarts(call_fputc, satisfy_write, 'x');

	CHECK(pipe(fds) == 0);
	request = (struct aiocb){.aio_fildes = fds[0], .aio_buf = &byte, .aio_nbytes = 1};
	CHECK(aio_read(&request) == 0);
	restarts(call_aio_suspend, satisfy_read, 0);
}

/* --- nobody sends a signal ----------------------------------------------------------------- */

enum { N_COMPUTE = 4, N_LINES = 30 };

static _Atomic bool computed;

static void *compute(void *arg)
{
	while (!computed)
		;
	return arg;
}

/* The kernel begins neither again after a handler: a read with a limit, and a poll. */
static void *read_lines(void *arg)
{
	char line[8];

	for (int i = 0; i < N_LINES; i++)
		CHECK(fgets(line, sizeof(line), stream) != NULL);
	return arg;
}

static void *poll_inlined(void *arg)
{
	for (int i = 0; i < N_LINES; i++) {
		long r;

		__asm__ volatile("mov $7, %%eax\n\tsyscall"
				 : "=&a"(r)
				 : "D"(NULL), "S"(0L), "d"(20L)
				 : "rcx", "r11", "memory");
		CHECK(r == 0);
	}
	return arg;
}

/* While others compute, which the library interrupts with signals of its own. */
static void test_undisturbed(void)
{
	struct timeval limit = {.tv_sec = 20};
	pthread_t computes[N_COMPUTE];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	CHECK(setsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) == 0);
	CHECK((stream = fdopen(fds[0], "r")) != NULL);
	pthread_t reads = start(read_lines, NULL), polls = start(poll_inlined, NULL);
	for (int i = 0; i < N_COMPUTE; i++)
		computes[i] = start(compute, NULL);
	for (int i = 0; i < N_LINES; i++) {
		sleep_ms(20);
		satisfy_line();
	}
	join(reads);
	join(polls);
	computed = true;
	for (int i = 0; i < N_COMPUTE; i++)
		join(computes[i]);
}

static long call_recv(void)
{
	char c[8];

	return recv(fds[0], c, sizeof(c), 0);
}

static long call_recvmsg(void)
{
	char c[8];
	struct iovec v = {c, sizeof(c)};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};

	return recvmsg(fds[0], &m, 0);
}

static void test_recv(void)
{
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	restarts(call_recv, satisfy_read, 3);
	restarts(call_recvmsg, satisfy_read, 3);
}

static struct sockaddr abstract = {.sa_family = AF_UNIX};
static socklen_t abstract_len;

static long call_accept(void)
{
	int fd = accept(fds[0], NULL, NULL);

	return fd < 0 ? -1 : 0;
}

static void satisfy_accept(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	CHECK(fd >= 0 && connect(fd, &abstract, abstract_len) == 0);
}

static void test_accept(void)
{
	CHECK((fds[0] = socket(AF_UNIX, SOCK_STREAM, 0)) >= 0);
	/* The kernel finds a name, in its abstract space. */
	abstract_len = sizeof(abstract.sa_family);
	CHECK(bind(fds[0], &abstract, abstract_len) == 0);
	abstract_len = sizeof(abstract);
	CHECK(getsockname(fds[0], &abstract, &abstract_len) == 0);
	CHECK(listen(fds[0], 5) == 0);
	restarts(call_accept, satisfy_accept, 0);
}

static char path[64];

static int temporary_file(void)
{
	strcpy(path, "/tmp/interrupted.XXXXXX");
	int fd = mkstemp(path);

	CHECK(fd >= 0);
	return fd;
}

static long call_open(void)
{
	int fd = open(path, O_RDONLY);

	return fd < 0 ? -1 : 0;
}

static void satisfy_open(void)
{
	CHECK(open(path, O_WRONLY) >= 0);
}

static void test_open(void)
{
	close(temporary_file());
	unlink(path);
	CHECK(mkfifo(path, 0600) == 0);
	restarts(call_open, satisfy_open, 0);
	unlink(path);
}

static long call_flock(void)
{
	return flock(fds[1], LOCK_EX);
}

static void satisfy_flock(void)
{
	CHECK(flock(fds[0], LOCK_UN) == 0);
}

static void test_flock(void)
{
	fds[0] = temporary_file();
	fds[1] = open(path, O_RDWR);
	unlink(path);
	CHECK(flock(fds[0], LOCK_EX) == 0);
	restarts(call_flock, satisfy_flock, 0);
}

static long call_lock(void)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	return fcntl(fds[1], F_OFD_SETLKW, &lock);
}

static void satisfy_lock(void)
{
	struct flock lock = {.l_type = F_UNLCK, .l_whence = SEEK_SET};

	CHECK(fcntl(fds[0], F_OFD_SETLK, &lock) == 0);
}

static void test_fcntl(void)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	fds[0] = temporary_file();
	fds[1] = open(path, O_RDWR);
	unlink(path);
	CHECK(fcntl(fds[0], F_OFD_SETLKW, &lock) == 0);
	restarts(call_lock, satisfy_lock, 0);
}

static pid_t child;

static long call_waitpid(void)
{
	return waitpid(child, NULL, 0);
}

static long call_waitid(void)
{
	siginfo_t info;

	return waitid(P_PID, child, &info, WEXITED);
}

static void satisfy_wait(void)
{
	CHECK(kill(child, SIGKILL) == 0);
}

static void fork_child(void)
{
	child = fork();
	CHECK(child >= 0);
	if (child == 0)
		for (;;)
			pause();
}

static void test_wait(void)
{
	fork_child();
	restarts(call_waitpid, satisfy_wait, child);
	fork_child();
	restarts(call_waitid, satisfy_wait, 0);
}

static mqd_t queue;

static long call_mq_receive(void)
{
	char buf[16];

	return mq_receive(queue, buf, sizeof(buf), NULL);
}

static long call_mq_timedreceive(void)
{
	struct timespec at = in_ms(CLOCK_REALTIME, 30000);
	char buf[16];

	return mq_timedreceive(queue, buf, sizeof(buf), NULL, &at);
}

/* They wait for as long as they should, and no longer. */
static void *check_mq_timeouts(void *arg)
{
	char buf[16];

	for (int ms = 0; ms <= 60; ms += 30) {
		struct timespec at = in_ms(CLOCK_REALTIME, ms);
		long long before = now_ms();

		FAILS(mq_timedreceive(queue, buf, sizeof(buf), NULL, &at), ETIMEDOUT);
		CHECK(now_ms() - before >= ms - 1);
	}
	for (int i = 0; i < 2; i++)
		CHECK(mq_send(queue, "abc", 3, 0) == 0);
	for (int ms = 0; ms <= 60; ms += 30) {
		struct timespec at = in_ms(CLOCK_REALTIME, ms);
		long long before = now_ms();

		FAILS(mq_timedsend(queue, "abc", 3, 0, &at), ETIMEDOUT);
		CHECK(now_ms() - before >= ms - 1);
	}
	for (int i = 0; i < 2; i++)
		CHECK(mq_receive(queue, buf, sizeof(buf), NULL) == 3);
	return arg;
}

static void satisfy_mq(void)
{
	CHECK(mq_send(queue, "abc", 3, 0) == 0);
}

static void test_mq(void)
{
	struct mq_attr attr = {.mq_maxmsg = 2, .mq_msgsize = 16};
	char name[32];

	snprintf(name, sizeof(name), "/interrupted.%d", getpid());
	queue = mq_open(name, O_CREAT | O_RDWR, 0600, &attr);
	CHECK(queue >= 0);
	mq_unlink(name);
	restarts(call_mq_receive, satisfy_mq, 3);
	restarts(call_mq_timedreceive, satisfy_mq, 3);
	in_thread(check_mq_timeouts, NULL);
}

static long call_poll(void)
{
	struct pollfd p = {.fd = fds[0], .events = POLLIN};

	return poll(&p, 1, 20000);
}

static long call_poll_nothing(void)
{
	return poll(NULL, 0, -1);
}

static void test_poll(void)
{
	CHECK(pipe(fds) == 0);
	never_restarts(call_poll);
	never_restarts(call_poll_nothing);
}

static long call_select(void)
{
	fd_set set;

	FD_ZERO(&set);
	FD_SET(fds[0], &set);
	return select(fds[0] + 1, &set, NULL, NULL, NULL);
}

static long call_select_nothing(void)
{
	struct timeval tv = {.tv_sec = 20};

	return select(0, NULL, NULL, NULL, &tv);
}

static void test_select(void)
{
	CHECK(pipe(fds) == 0);
	never_restarts(call_select);
	never_restarts(call_select_nothing);
}

static int epfd;

static long call_epoll(void)
{
	struct epoll_event e;

	return epoll_wait(epfd, &e, 1, -1);
}

static void test_epoll(void)
{
	epfd = epoll_create1(0);
	CHECK(epfd >= 0);
	never_restarts(call_epoll);
}

static int ipc;

static long call_semop(void)
{
	struct sembuf op = {.sem_op = -1};

	return semop(ipc, &op, 1);
}

static long call_semtimedop(void)
{
	struct sembuf op = {.sem_op = -1};
	struct timespec ts = {.tv_sec = 20};

	return semtimedop(ipc, &op, 1, &ts);
}

static void test_semop(void)
{
	ipc = semget(IPC_PRIVATE, 1, 0600);
	CHECK(ipc >= 0);
	never_restarts(call_semop);
	never_restarts(call_semtimedop);
	semctl(ipc, 0, IPC_RMID);
}

static long call_msgrcv(void)
{
	struct {
		long type;
		char text[8];
	} m;

	return msgrcv(ipc, &m, sizeof(m.text), 0, 0);
}

static void test_msgrcv(void)
{
	ipc = msgget(IPC_PRIVATE, 0600);
	CHECK(ipc >= 0);
	never_restarts(call_msgrcv);
	msgctl(ipc, IPC_RMID, NULL);
}

static long call_sigwaitinfo(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	return sigwaitinfo(&set, NULL);
}

static void test_sigwaitinfo(void)
{
	never_restarts(call_sigwaitinfo);
}

static long call_pause(void)
{
	return pause();
}

static void test_pause(void)
{
	never_restarts(call_pause);
}

/* --- main itself, by another process ------------------------------------------------------- */

static pid_t start_rain(int n)
{
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid != 0)
		return pid;
	/* Slowly: who waits is in the kernel by then, and no second one comes to its aid. */
	for (int i = 0; i < n; i++) {
		sleep_ms(20);
		CHECK(kill(getppid(), SIGUSR1) == 0);
	}
	satisfy_read();
	_exit(0);
}

/* In the child of a process with threads, main owns its kernel thread. */
static void test_main(void)
{
	char c[8];

	become_threaded();
	CHECK(pipe(fds) == 0);
	handle(0);
	pid_t pid = start_rain(1 << 20);
	CHECK(read(fds[0], c, sizeof(c)) == -1 && errno == EINTR);
	CHECK(call_poll() == -1 && errno == EINTR);
	CHECK(call_poll_nothing() == -1 && errno == EINTR);
	CHECK(call_pause() == -1 && errno == EINTR);
	CHECK(call_sigwaitinfo() == -1 && errno == EINTR);
	struct timespec ts = {.tv_sec = 20};
	CHECK(nanosleep(&ts, NULL) == -1 && errno == EINTR);
	CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid);
	handle(SA_RESTART);
	int before = n_handled;
	pid = start_rain(20);
	CHECK(read(fds[0], c, sizeof(c)) == 3);
	CHECK(n_handled > before);
	CHECK(waitpid(pid, NULL, 0) == pid);
}

/* --- masks -------------------------------------------------------------------------------- */

static _Atomic int n_asked;

/* A signal for each wait, which comes at any time: as it begins, or before. */
static void *answer(void *thread)
{
	int n_answered = 0;

	for (int asked; (asked = n_asked) >= 0; sched_yield())
		if (asked != n_answered) {
			for (volatile int i = 0; i < asked % 1000; i++)
				;
			CHECK_OK(pthread_kill(*(pthread_t *)thread, SIGUSR1));
			n_answered = asked;
		}
	return NULL;
}

/* Blocked but in the waits: each of them ends. */
static void test_masks(void)
{
	struct pollfd none = {.fd = -1};
	pthread_t self = pthread_self();
	struct epoll_event event;
	sigset_t block, open;
	int r;

	handle(SA_RESTART);
	int epoll = epoll_create1(0);
	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	CHECK_OK(pthread_sigmask(SIG_BLOCK, &block, &open));
	pthread_t other = start(answer, &self);
	for (int i = 1; i <= 10000; i++) {
		n_asked = i;
		if (i % 4 == 0)
			r = ppoll(&none, 1, NULL, &open);
		else if (i % 4 == 1)
			r = pselect(0, NULL, NULL, NULL, NULL, &open);
		else if (i % 4 == 2)
			r = epoll_pwait(epoll, &event, 1, -1, &open);
		else
			r = sigsuspend(&open);
		CHECK(r == -1 && errno == EINTR);
		CHECK(n_handled == i);
	}
	n_asked = -1;
	join(other);
}

/* --- files ---------------------------------------------------------------------------------- */

static _Atomic bool raining;

static void *rain_on(void *thread)
{
	while (raining) {
		CHECK_OK(pthread_kill(*(pthread_t *)thread, SIGUSR1));
		sched_yield();
	}
	return NULL;
}

/* Nothing here waits, so the handler runs before a call or after it, and ends none. */
static void test_files(void)
{
	char path[] = "interrupted.XXXXXX", block[64] = "";
	pthread_t self = pthread_self(), others[2];
	int fd = mkstemp(path);

	CHECK(fd >= 0);
	handle(0);
	raining = true;
	for (int i = 0; i < 2; i++)
		others[i] = start(rain_on, &self);
	for (int i = 0; i < 20000; i++) {
		CHECK(pwrite(fd, block, sizeof(block), 0) == sizeof(block));
		CHECK(pread(fd, block, sizeof(block), 0) == sizeof(block));
		CHECK(lseek(fd, 0, SEEK_SET) == 0);
		CHECK(write(fd, block, sizeof(block)) == sizeof(block));
		CHECK(lseek(fd, 0, SEEK_SET) == 0);
		CHECK(read(fd, block, sizeof(block)) == sizeof(block));
		int again = open(path, O_RDWR);
		CHECK(again >= 0);
		CHECK(ftruncate(again, sizeof(block)) == 0);
		CHECK(close(again) == 0);
	}
	raining = false;
	for (int i = 0; i < 2; i++)
		join(others[i]);
	CHECK(n_handled > 0);
	CHECK(unlink(path) == 0);
}

/* --- beside threads that compute ------------------------------------------------------------- */

enum { N_BYTES = 8 << 20, N_IOS = 16, IO_SIZE = 1 << 20 };

static void *read_devices(void *arg)
{
	char *buf = malloc(N_BYTES);
	int fds[] = {open("/dev/urandom", O_RDONLY), open("/dev/zero", O_RDONLY)};

	memset(buf, 1, N_BYTES);
	for (int i = 0; i < 10; i++) {
		CHECK(getrandom(buf, N_BYTES, 0) == N_BYTES);
		CHECK(syscall(SYS_getrandom, buf, N_BYTES, 0) == N_BYTES);
		for (int k = 0; k < 2; k++)
			CHECK(read(fds[k], buf, N_BYTES) == N_BYTES);
	}
	for (int k = 0; k < 2; k++)
		close(fds[k]);
	free(buf);
	return arg;
}

/* As many as are asked for at least. */
static void *get_events(void *arg)
{
	char path[] = "interrupted.XXXXXX", *buf;
	struct iocb ios[N_IOS], *submitted[N_IOS];
	struct io_event events[N_IOS];
	aio_context_t context = 0;
	int fd = mkostemp(path, O_DIRECT);

	if (fd < 0)
		fd = mkstemp(path); /* tmpfs */
	CHECK(fd >= 0 && unlink(path) == 0);
	CHECK(posix_memalign((void **)&buf, 4096, N_IOS * IO_SIZE) == 0);
	memset(buf, 1, N_IOS * IO_SIZE);
	CHECK(syscall(SYS_io_setup, N_IOS, &context) == 0);
	for (int i = 0; i < 10; i++) {
		for (int k = 0; k < N_IOS; k++) {
			ios[k] = (struct iocb){.aio_lio_opcode = IOCB_CMD_PWRITE,
					       .aio_fildes = (unsigned)fd,
					       .aio_buf = (uintptr_t)(buf + k * IO_SIZE),
					       .aio_nbytes = IO_SIZE,
					       .aio_offset = (long long)k * IO_SIZE};
			submitted[k] = &ios[k];
		}
		CHECK(syscall(SYS_io_submit, context, N_IOS, submitted) == N_IOS);
		CHECK(syscall(SYS_io_getevents, context, N_IOS, N_IOS, events, NULL) ==
		      N_IOS);
	}
	CHECK(syscall(SYS_io_destroy, context) == 0);
	free(buf);
	close(fd);
	return arg;
}

/* Without a signal of the program's nothing comes in part. */
static void test_whole(void)
{
	pthread_t computing[4], calling[4];

	for (int i = 0; i < 4; i++)
		computing[i] = start(compute, NULL);
	for (int i = 0; i < 4; i++)
		calling[i] = start(i % 2 == 0 ? read_devices : get_events, NULL);
	for (int i = 0; i < 4; i++)
		join(calling[i]);
	computed = true;
	for (int i = 0; i < 4; i++)
		join(computing[i]);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
	    {"read", test_read},
	    {"write", test_write},
	    {"recv", test_recv},
	    {"accept", test_accept},
	    {"open", test_open},
	    {"flock", test_flock},
	    {"fcntl", test_fcntl},
	    {"wait", test_wait},
	    {"mq_receive", test_mq},
	    {"poll", test_poll},
	    {"select", test_select},
	    {"epoll_wait", test_epoll},
	    {"semop", test_semop},
	    {"msgrcv", test_msgrcv},
	    {"sigwaitinfo", test_sigwaitinfo},
	    {"pause", test_pause},
	    {"main", test_main},
	    {"masks", test_masks},
	    {"files", test_files},
	    {"whole", test_whole},
	    {"libc", test_libc},
	    {"undisturbed", test_undisturbed},
	};

	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
