/* SPDX-License-Identifier: MIT */
/*
 * streams.c: what reading and writing promises besides that it waits: whole writes, atomic
 * ones, partial results, SIGPIPE, flags, options, and descriptors known by several numbers
 * or to several processes.
 */
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <pty.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <termios.h>

#include "check.h"
#include "reading.h"

static bool is_shaken(void)
{
	const char *shake = getenv("PGREEN_SHAKE");

	return shake != NULL && strstr(shake, "io") != NULL;
}

static void make_tcp(int fds[2])
{
	struct sockaddr_in addr = {.sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(addr);
	int listener = socket(AF_INET, SOCK_STREAM, 0), size = 65536;

	/* Or it would grow to take all that is written to it. */
	CHECK(setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)) == 0);
	CHECK(bind(listener, (struct sockaddr *)&addr, len) == 0 &&
	      listen(listener, 1) == 0);
	CHECK(getsockname(listener, (struct sockaddr *)&addr, &len) == 0);
	fds[1] = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) == 0);
	CHECK(connect(fds[1], (struct sockaddr *)&addr, len) == 0);
	fds[0] = accept(listener, NULL, NULL);
	CHECK(fds[0] >= 0);
	close(listener);
}

static void make_unix(int fds[2])
{
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
}

static void make_pipe(int fds[2])
{
	CHECK(pipe(fds) == 0);
}

static void make_fifo(int fds[2])
{
	char path[] = "/tmp/streams.XXXXXX";

	close(mkstemp(path));
	unlink(path);
	CHECK(mkfifo(path, 0600) == 0);
	fds[0] = open(path, O_RDONLY | O_NONBLOCK);
	fds[1] = open(path, O_WRONLY);
	CHECK(fds[0] >= 0 && fds[1] >= 0);
	CHECK(fcntl(fds[0], F_SETFL, 0) == 0);
	unlink(path);
}

static void close_both(const int fds[2])
{
	close(fds[0]);
	close(fds[1]);
}

/* --- whole writes ---------------------------------------------------------------------------- */

enum { BIG = 3000000 };

static char pattern(size_t i)
{
	return (char)(i * 7 + i / 251);
}

static char *make_block(void)
{
	char *block = malloc(BIG);

	for (size_t i = 0; i < BIG; i++)
		block[i] = pattern(i);
	return block;
}

struct whole {
	int fd;
	int how; /* write, writev, send, sendmsg */
	const char *block;
};

static void *write_whole(void *arg)
{
	struct whole *w = arg;
	struct iovec v[4] = {{(char *)w->block, 10},
			     {NULL, 0},
			     {(char *)w->block + 10, 1000000},
			     {(char *)w->block + 1000010, BIG - 1000010}};
	struct msghdr m = {.msg_iov = v, .msg_iovlen = 4};

	switch (w->how) {
	case 0:
		CHECK(write(w->fd, w->block, BIG) == BIG);
		break;
	case 1:
		CHECK(writev(w->fd, v, 4) == BIG);
		break;
	case 2:
		CHECK(send(w->fd, w->block, BIG, 0) == BIG);
		break;
	default:
		CHECK(sendmsg(w->fd, &m, 0) == BIG);
		break;
	}
	return NULL;
}

static void read_whole(int fd)
{
	static char buf[50000];
	size_t at = 0;

	while (at < BIG) {
		ssize_t n = read(fd, buf, 1 + at % sizeof(buf));

		CHECK(n > 0);
		for (ssize_t i = 0; i < n; i++)
			CHECK(buf[i] == pattern(at + (size_t)i));
		at += (size_t)n;
	}
}

/* One write moves it all, however slowly it is read, and in order. */
static void test_whole(void)
{
	static void (*const makes[])(int fds[2]) = {make_pipe, make_fifo, make_unix,
						    make_tcp};
	char *block = make_block();

	for (int i = 0; i < 4; i++) {
		for (int how = 0; how < (i < 2 ? 2 : 4); how++) {
			struct whole w = {.how = how, .block = block};
			int fds[2];

			makes[i](fds);
			w.fd = fds[1];
			pthread_t writer = start(write_whole, &w);
			read_whole(fds[0]);
			join(writer);
			close_both(fds);
		}
	}
	free(block);
}

/* --- vectors --------------------------------------------------------------------------------- */

enum { N_PARTS = 40, N_VECTORS = 50 };

static size_t part_size(int i)
{
	return (size_t)(i * 37 % 91 * (i % 5));
}

static size_t cut(char *block, struct iovec v[N_PARTS])
{
	size_t at = 0;

	for (int i = 0; i < N_PARTS; i++) {
		v[i] = (struct iovec){block + at, part_size(i)};
		at += part_size(i);
	}
	return at;
}

static void *write_vectors(void *arg)
{
	struct whole *w = arg;
	struct iovec v[N_PARTS];
	size_t size = cut((char *)w->block, v);
	struct msghdr m = {.msg_iov = v, .msg_iovlen = N_PARTS};

	for (int i = 0; i < N_VECTORS; i++) {
		if (w->how == 1)
			CHECK(writev(w->fd, v, N_PARTS) == (ssize_t)size);
		else
			CHECK(sendmsg(w->fd, &m, 0) == (ssize_t)size);
	}
	return NULL;
}

static void read_vectors(int fd, bool is_socket, const char *block)
{
	static char got[N_PARTS * 91 * 5];
	struct iovec v[N_PARTS];
	struct msghdr m = {.msg_iov = v, .msg_iovlen = N_PARTS};
	size_t size = cut(got, v);

	for (int i = 0; i < N_VECTORS; i++) {
		memset(got, 0, size);
		if (is_socket)
			CHECK(recvmsg(fd, &m, MSG_WAITALL) == (ssize_t)size);
		for (size_t at = 0; !is_socket && at < size;) {
			ssize_t n = read(fd, got + at, size - at);

			CHECK(n > 0);
			at += (size_t)n;
		}
		CHECK(memcmp(got, block, size) == 0);
	}
}

/* What goes by many buffers goes whole, wherever it had to wait. */
static void test_vectors(void)
{
	static void (*const makes[])(int fds[2]) = {make_pipe, make_fifo, make_unix,
						    make_tcp};
	char *block = make_block();

	for (int i = 0; i < 4; i++) {
		for (int how = 1; how <= (i < 2 ? 1 : 2); how++) {
			struct whole w = {.how = how, .block = block};
			int fds[2];

			makes[i](fds);
			w.fd = fds[1];
			pthread_t writer = start(write_vectors, &w);
			read_vectors(fds[0], i >= 2, block);
			join(writer);
			close_both(fds);
		}
	}
	free(block);
}

enum { N_WRITERS = 8, N_RECORDS = 50, RECORD = 4096 };

static void *write_records(void *arg)
{
	int fd = *(int *)arg;
	static _Atomic char next = 'a';
	char record[RECORD];

	memset(record, next++, sizeof(record));
	for (int i = 0; i < N_RECORDS; i++)
		CHECK(write(fd, record, sizeof(record)) == sizeof(record));
	return NULL;
}

static void check_records(void (*make)(int fds[2]))
{
	pthread_t writers[N_WRITERS];
	char record[RECORD];
	int fds[2];

	make(fds);
	for (int i = 0; i < N_WRITERS; i++)
		writers[i] = start(write_records, &fds[1]);
	for (int i = 0; i < N_WRITERS * N_RECORDS; i++) {
		for (size_t at = 0; at < sizeof(record);) {
			ssize_t n = read(fds[0], record + at, sizeof(record) - at);

			CHECK(n > 0);
			at += (size_t)n;
		}
		for (size_t j = 1; j < sizeof(record); j++)
			CHECK(record[j] == record[0]);
	}
	for (int i = 0; i < N_WRITERS; i++)
		join(writers[i]);
	close_both(fds);
}

/* Writes of PIPE_BUF bytes are atomic. */
static void test_atomic(void)
{
	check_records(make_pipe);
	check_records(make_fifo);
}

/* --- partial results ------------------------------------------------------------------------- */

struct writing {
	int fd;
	bool sends;
	_Atomic bool done;
	ssize_t result;
	int error;
};

static void *write_much(void *arg)
{
	struct writing *w = arg;
	char *block = calloc(1, BIG);

	w->result = w->sends ? send(w->fd, block, BIG, 0) : write(w->fd, block, BIG);
	w->error = errno;
	w->done = true;
	free(block);
	return NULL;
}

static _Atomic int n_handled;
static pthread_t handled_by;

static void handler(int sig)
{
	(void)sig;
	handled_by = pthread_self();
	n_handled++;
}

static void handle(int sig, int flags)
{
	struct sigaction act = {.sa_handler = handler, .sa_flags = flags};

	CHECK(sigaction(sig, &act, NULL) == 0);
}

/* A write that a handler ends tells what it has written; so with all that ends it. */
static void check_partial(void (*make)(int fds[2]), bool sends,
			  void (*end)(pthread_t, int fds[2]))
{
	struct writing w = {.sends = sends};
	int fds[2], flags;
	char buf[4096];
	ssize_t got = 0;

	make(fds);
	w.fd = fds[1];
	pthread_t thread = start(write_much, &w);
	struct pollfd p = {.fd = fds[0], .events = POLLIN};
	CHECK(poll(&p, 1, 10000) == 1);
	sleep_ms(10);
	while (!w.done) {
		end(thread, fds);
		sleep_ms(1);
	}
	join(thread);
	errno = w.error;
	CHECK(w.result > 0);
	CHECK(w.result < BIG);
	flags = fcntl(fds[0], F_GETFL);
	if (flags < 0)
		return; /* closed */
	CHECK(fcntl(fds[0], F_SETFL, flags | O_NONBLOCK) == 0);
	for (long long limit = now_ms() + 5000; got < w.result && now_ms() < limit;) {
		ssize_t n = read(fds[0], buf, sizeof(buf));

		got += n > 0 ? n : 0;
	}
	CHECK(got == w.result);
	CHECK(read(fds[0], buf, sizeof(buf)) < 0);
	close_both(fds);
}

static void end_by_signal(pthread_t thread, int fds[2])
{
	(void)fds;
	CHECK_OK(pthread_kill(thread, SIGUSR1));
}

static void end_by_close(pthread_t thread, int fds[2])
{
	(void)thread;
	if (fds[0] >= 0)
		close(fds[0]);
	fds[0] = -1;
}

static void make_timed(int fds[2])
{
	struct timeval tv = {.tv_usec = 50000};

	make_unix(fds);
	CHECK(setsockopt(fds[1], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) == 0);
}

static void end_by_itself(pthread_t thread, int fds[2])
{
	(void)thread;
	(void)fds;
}

struct writing_vector {
	int fd;
	struct iovec v[2];
	ssize_t result;
};

static void *write_vector(void *arg)
{
	struct writing_vector *w = arg;

	w->result = writev(w->fd, w->v, 2);
	return NULL;
}

/* Of a reader that goes after it has read what was written so far, here just the first of two
 * buffers, only the next call is told. */
static void check_broken_vector(void)
{
	char *block = make_block();
	int fds[2];

	handle(SIGPIPE, 0);
	n_handled = 0;
	make_unix(fds);
	ssize_t room = send(fds[1], block, BIG, MSG_DONTWAIT);
	CHECK(room > 0 && room < BIG);
	close_both(fds);
	make_unix(fds);
	struct writing_vector w = {fds[1], {{block, (size_t)room}, {block, BIG}}, 0};
	pthread_t thread = start_waiting(write_vector, &w);
	for (ssize_t got = 0; got < room;
	     got += recv(fds[0], block, (size_t)(room - got), 0))
		;
	close(fds[0]);
	join(thread);
	CHECK(w.result >= room && n_handled == 0);
	close(fds[1]);
	free(block);
}

static void test_partial(void)
{
	handle(SIGUSR1, 0);
	signal(SIGPIPE, SIG_IGN);
	check_partial(make_pipe, false, end_by_signal);
	check_partial(make_fifo, false, end_by_signal);
	check_partial(make_unix, false, end_by_signal);
	check_partial(make_tcp, true, end_by_signal);
	check_partial(make_timed, true, end_by_itself);
	check_partial(make_pipe, false, end_by_close);
	check_partial(make_unix, true, end_by_close);
	check_partial(make_tcp, true, end_by_close);
	check_broken_vector();
}

/* --- signals that writing raises --------------------------------------------------------------- */

static void expect_raised(int sig, ssize_t result, int error)
{
	CHECK(result == -1 && errno == error);
	CHECK(n_handled == 1 && pthread_equal(handled_by, pthread_self()));
	n_handled = 0;
	(void)sig;
}

static void expect_quiet(ssize_t result, int error)
{
	CHECK(result == -1 && errno == error && n_handled == 0);
}

static void *raise_all(void *arg)
{
	int fds[2];
	struct iovec v = {"abc", 3};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};

	make_pipe(fds);
	close(fds[0]);
	expect_raised(SIGPIPE, write(fds[1], "abc", 3), EPIPE);
	expect_raised(SIGPIPE, writev(fds[1], &v, 1), EPIPE);
	expect_raised(SIGPIPE, dprintf(fds[1], "abc"), EPIPE); /* libc's own write */
	make_fifo(fds);
	close(fds[0]);
	expect_raised(SIGPIPE, write(fds[1], "abc", 3), EPIPE);
	make_unix(fds);
	close(fds[0]);
	expect_raised(SIGPIPE, write(fds[1], "abc", 3), EPIPE);
	expect_raised(SIGPIPE, send(fds[1], "abc", 3, 0), EPIPE);
	expect_raised(SIGPIPE, send(fds[1], "abc", 3, MSG_DONTWAIT), EPIPE);
	expect_raised(SIGPIPE, sendmsg(fds[1], &m, 0), EPIPE);
	expect_quiet(send(fds[1], "abc", 3, MSG_NOSIGNAL), EPIPE);
	expect_quiet(sendmsg(fds[1], &m, MSG_NOSIGNAL), EPIPE);
	make_tcp(fds);
	CHECK(shutdown(fds[1], SHUT_WR) == 0);
	expect_raised(SIGPIPE, write(fds[1], "abc", 3), EPIPE);
	/* Datagrams raise none. */
	CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds) == 0);
	CHECK(shutdown(fds[1], SHUT_WR) == 0);
	expect_quiet(send(fds[1], "abc", 3, 0), EPIPE);
	return arg;
}

static void run_quietly(char *const argv[])
{
	int status;
	pid_t pid;

	CHECK_OK(posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ));
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(status == 0);
}

static void *write_beyond(void *arg)
{
	char path[] = "/tmp/streams.XXXXXX";
	int fd = mkstemp(path);

	unlink(path);
	CHECK(write(fd, "0123456789", 10) == 10);
	expect_raised(SIGXFSZ, write(fd, "x", 1), EFBIG);
	expect_raised(SIGXFSZ, pwrite(fd, "x", 1, 100), EFBIG);
	expect_raised(SIGXFSZ, dprintf(fd, "x"), EFBIG);
	close(fd);
	return arg;
}

static void *die_of_it(void *is_libcs)
{
	int fds[2];

	make_pipe(fds);
	close(fds[0]);
	signal(SIGPIPE, SIG_DFL);
	if (is_libcs != NULL)
		dprintf(fds[1], "abc");
	else
		write(fds[1], "abc", 3);
	_exit(7);
}

static void expect_death(void *is_libcs)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		in_thread(do_nothing, NULL);
		in_thread(die_of_it, is_libcs);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE);
}

/* Blocked it stays pending for the thread that wrote, ignored it is nowhere. */
static void *hold_back(void *arg)
{
	const struct timespec none = {0};
	sigset_t set, pending;
	int fds[2];

	make_pipe(fds);
	close(fds[0]);
	sigemptyset(&set);
	sigaddset(&set, SIGPIPE);
	CHECK_OK(pthread_sigmask(SIG_BLOCK, &set, NULL));
	for (int i = 0; i < 2; i++) {
		if (i == 0)
			expect_quiet(write(fds[1], "abc", 3), EPIPE);
		else
			expect_quiet(dprintf(fds[1], "abc"), EPIPE);
		CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE));
		CHECK(sigtimedwait(&set, NULL, &none) == SIGPIPE);
		CHECK(sigpending(&pending) == 0 && !sigismember(&pending, SIGPIPE));
	}
	CHECK_OK(pthread_sigmask(SIG_UNBLOCK, &set, NULL));
	signal(SIGPIPE, SIG_IGN);
	expect_quiet(write(fds[1], "abc", 3), EPIPE);
	expect_quiet(dprintf(fds[1], "abc"), EPIPE);
	handle(SIGPIPE, 0);
	CHECK(n_handled == 0);
	close(fds[1]);
	return arg;
}

static _Atomic bool competed;

/* Wants the processor of who is in the kernel. */
static void *compete(void *arg)
{
	while (!competed)
		sched_yield();
	return arg;
}

/* SIGPIPE comes to the thread that wrote, before the call returns, and nowhere else. */
static void test_raises(void)
{
	pthread_t others[2] = {start(compete, NULL), start(compete, NULL)};
	char *const argv[] = {"sh", "-c", ":", NULL};
	struct rlimit limit = {.rlim_cur = 10, .rlim_max = RLIM_INFINITY};

	handle(SIGPIPE, 0);
	for (int i = 0; i < 20; i++)
		in_thread(raise_all, NULL);
	raise_all(NULL);
	for (int i = 0; i < 20; i++)
		in_thread(hold_back, NULL);
	hold_back(NULL);
	/* Nothing is left behind for those who are started later. */
	signal(SIGPIPE, SIG_DFL);
	for (int i = 0; i < 5; i++)
		run_quietly(argv);

	expect_death(NULL);
	expect_death("dprintf");

	handle(SIGXFSZ, 0);
	getrlimit(RLIMIT_FSIZE, &limit);
	limit.rlim_cur = 10;
	CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
	for (int i = 0; i < 20; i++)
		in_thread(write_beyond, NULL);
	competed = true;
	for (int i = 0; i < 2; i++)
		join(others[i]);
}

/* A handler that gives up its processor, and may come anywhere. */
static void yield_to_others(int sig)
{
	(void)sig;
	for (int i = 0; i < 3; i++)
		sched_yield();
}

static _Atomic int n_written; /* negative: no more */

/* One for each write: else there would always be another handler to run. */
static void *annoy(void *victim)
{
	for (int seen = 0, n; (n = n_written) >= 0; sched_yield())
		if (n != seen) {
			CHECK_OK(pthread_kill(*(pthread_t *)victim, SIGUSR1));
			seen = n;
		}
	return NULL;
}

/* SIGPIPE stays with its thread when a handler runs about the time of the write. */
static void test_raises_under_handlers(void)
{
	struct sigaction act = {.sa_handler = yield_to_others, .sa_flags = SA_RESTART};
	pthread_t self = pthread_self(), others[3];
	int fds[2];

	make_pipe(fds);
	close(fds[0]);
	handle(SIGPIPE, 0);
	CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
	others[0] = start(annoy, &self);
	others[1] = start(compete, NULL);
	others[2] = start(compete, NULL);
	for (n_written = 0; n_written < 5000; n_written++)
		expect_raised(SIGPIPE, write(fds[1], "abc", 3), EPIPE);
	n_written = -1;
	competed = true;
	for (int i = 0; i < 3; i++)
		join(others[i]);
}

/* --- flags and options -------------------------------------------------------------------------- */

struct gathering {
	int fd;
	int flags;
	bool by_msg;
	char buf[1000];
	ssize_t result;
	int error;
};

static void *gather(void *arg)
{
	struct gathering *g = arg;
	struct iovec v[3] = {
	    {g->buf, 3}, {g->buf + 3, 0}, {g->buf + 3, sizeof(g->buf) - 3}};
	struct msghdr m = {.msg_iov = v, .msg_iovlen = 3};

	g->result = g->by_msg ? recvmsg(g->fd, &m, g->flags)
			      : recv(g->fd, g->buf, sizeof(g->buf), g->flags);
	g->error = errno;
	return NULL;
}

static void send_pieces(int fd, int n)
{
	for (int i = 0; i < n; i++) {
		char c = pattern(i);

		CHECK(send(fd, &c, 1, 0) == 1);
		if (i % 100 == 0)
			sleep_ms(1);
	}
}

static void check_gathered(const struct gathering *g, ssize_t n)
{
	CHECK(g->result == n);
	for (ssize_t i = 0; i < n; i++)
		CHECK(g->buf[i] == pattern(i));
}

static void check_waitall(void (*make)(int fds[2]), bool by_msg)
{
	struct gathering g = {.flags = MSG_WAITALL, .by_msg = by_msg};
	int fds[2], left;

	/* All, the end before, a handler before. */
	make(fds);
	g.fd = fds[0];
	pthread_t thread = start(gather, &g);
	send_pieces(fds[1], 1000);
	join(thread);
	check_gathered(&g, 1000);

	thread = start(gather, &g);
	send_pieces(fds[1], 500);
	for (left = 1; left > 0; sleep_ms(5))
		CHECK(ioctl(fds[0], FIONREAD, &left) == 0);
	CHECK_OK(pthread_kill(thread, SIGUSR1));
	join(thread);
	check_gathered(&g, 500);

	thread = start(gather, &g);
	send_pieces(fds[1], 700);
	close(fds[1]);
	join(thread);
	check_gathered(&g, 700);
	gather(&g);
	CHECK(g.result == 0);
	close(fds[0]);

	/* A look at all of it leaves it there. */
	make(fds);
	g.fd = fds[0];
	g.flags = MSG_WAITALL | MSG_PEEK;
	thread = start(gather, &g);
	send_pieces(fds[1], 100);
	/* Unix sockets look at what is there, without waiting for all. */
	if (make == make_tcp) {
		CHECK(send(fds[1], g.buf, 900, 0) == 900);
		join(thread);
		CHECK(g.result == 1000);
	} else {
		join(thread);
		CHECK(g.result > 0);
	}
	g.flags = 0;
	for (size_t got = 0; got < 100; got += (size_t)g.result) {
		gather(&g);
		CHECK(g.result > 0 && g.buf[0] == pattern(got));
	}
	close_both(fds);
}

static void *count_150(void *fds)
{
	CHECK(recv(*(int *)fds, NULL, 150, MSG_WAITALL | MSG_TRUNC) == 150);
	return NULL;
}

static void test_waitall(void)
{
	struct gathering g = {.flags = MSG_WAITALL};
	int fds[2];

	handle(SIGUSR1, 0);
	for (int by_msg = 0; by_msg < 2; by_msg++) {
		check_waitall(make_unix, by_msg);
		check_waitall(make_tcp, by_msg);
	}
	/* What is only counted is counted together, too. */
	make_tcp(fds);
	send_pieces(fds[1], 100);
	pthread_t thread = start_waiting(count_150, fds);
	CHECK(send(fds[1], "0123456789", 10, 0) == 10);
	send_pieces(fds[1], 100);
	join(thread);
	g.fd = fds[0];
	g.flags = 0;
	gather(&g);
	CHECK(g.result > 0 && g.buf[0] == pattern(40));
	g.flags = MSG_WAITALL;
	close_both(fds);
	/* A datagram is one, whatever it holds. */
	CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds) == 0);
	g.fd = fds[0];
	CHECK(send(fds[1], "abc", 3, 0) == 3 && send(fds[1], "defg", 4, 0) == 4);
	gather(&g);
	CHECK(g.result == 3);
	/* What came before the time was up is told. */
	make_timed(fds);
	CHECK(setsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO,
			 &(struct timeval){.tv_usec = 50000},
			 sizeof(struct timeval)) == 0);
	g.fd = fds[0];
	send_pieces(fds[1], 10);
	gather(&g);
	check_gathered(&g, 10);
}

/* Wrong on purpose, and not for the compiler to see. */
static void *volatile bad = (void *)1;
static volatile size_t too_long = SIZE_MAX;
static volatile size_t long_enough = 1UL << 40;

/* Lengths that cannot be, as of a negative number, are errors, whatever is there. */
static void check_sizes(void)
{
	static void (*const makes[])(int fds[2]) = {make_pipe, make_unix, make_tcp};
	static char buf[100];
	struct iovec v = {.iov_base = buf, .iov_len = SIZE_MAX};
	int fds[2], file = open("/proc/self/exe", O_RDONLY);

	FAILS(read(file, buf, too_long), EFAULT);
	FAILS(pread(file, buf, too_long, 0), EFAULT);
	FAILS(pread(file, buf, too_long / 2, 0), EFAULT);
	close(file);
	file = open("/dev/null", O_WRONLY);
	FAILS(write(file, buf, too_long), EFAULT);
	close(file);
	for (int i = 0; i < 3; i++) {
		makes[i](fds);
		FAILS(write(fds[1], buf, too_long), EFAULT);
		FAILS(writev(fds[1], &v, 1), EINVAL);
		CHECK(write(fds[1], "abc", 3) == 3);
		FAILS(read(fds[0], buf, too_long), EFAULT);
		FAILS(read(fds[0], buf, too_long / 2), EFAULT);
		FAILS(readv(fds[0], &v, 1), EINVAL);
		CHECK(read(fds[0], buf, long_enough) == 3);
		close_both(fds);
	}
}

/* Who asks for nothing, or for what there is not, does not wait. */
static void check_nothing(void)
{
	int from[2], to[2], file = open("/proc/self/exe", O_RDONLY);
	char *block = make_block();

	make_pipe(from);
	make_pipe(to);
	CHECK(splice(from[0], NULL, to[1], NULL, 0, 0) == 0);
	CHECK(tee(from[0], to[1], 0, 0) == 0);
	FAILS(splice(from[0], NULL, to[1], NULL, 5, 1 << 10), EINVAL);
	FAILS(tee(from[0], to[1], 5, 1 << 10), EINVAL);
	close_both(from);
	close_both(to);
	make_unix(to);
	CHECK(send(to[1], block, BIG, MSG_DONTWAIT) < BIG);
	CHECK(sendfile(to[1], file, NULL, 0) == 0);
	close_both(to);
	close(file);
	free(block);
}

static void test_flags(void)
{
	char buf[100];
	int fds[2];

	check_sizes();
	check_nothing();

	CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds) == 0);
	CHECK(recv(fds[0], buf, 100, MSG_DONTWAIT) == -1 && errno == EAGAIN);
	CHECK(send(fds[1], "abcdef", 6, 0) == 6);
	CHECK(recv(fds[0], buf, 100, MSG_PEEK) == 6);
	CHECK(recv(fds[0], buf, 3, MSG_PEEK | MSG_TRUNC) == 6);
	CHECK(recv(fds[0], buf, 3, 0) == 3);
	CHECK(recv(fds[0], buf, 3, MSG_DONTWAIT) == -1 && errno == EAGAIN);
	/* Nothing is something, in a datagram, but not to read(). */
	CHECK(send(fds[1], "", 0, 0) == 0 && send(fds[1], "x", 1, 0) == 1);
	CHECK(recv(fds[0], buf, 100, 0) == 0);
	CHECK(read(fds[0], buf, 0) == 0);
	CHECK(recv(fds[0], buf, 100, 0) == 1);
	CHECK(read(fds[0], bad, 0) == 0 || errno == EFAULT);
	close_both(fds);

	make_tcp(fds);
	CHECK(send(fds[1], "abc", 3, MSG_OOB) == 3);
	struct pollfd p = {.fd = fds[0], .events = POLLPRI};
	CHECK(poll(&p, 1, 5000) == 1 && p.revents == POLLPRI);
	CHECK(recv(fds[0], buf, 100, MSG_OOB) == 1 && buf[0] == 'c');
	CHECK(recv(fds[0], buf, 100, MSG_OOB) == -1 && errno == EINVAL);
	CHECK(recv(fds[0], buf, 100, MSG_ERRQUEUE) == -1 && errno == EAGAIN);
	CHECK(read(fds[0], bad, 100) == -1 && errno == EFAULT);
	CHECK(write(fds[0], bad, 100) == -1 && errno == EFAULT);
	close_both(fds);
	CHECK(read(fds[0], buf, 1) == -1 && errno == EBADF);
	CHECK(write(-1, buf, 1) == -1 && errno == EBADF);
	CHECK(recv(1 << 30, buf, 1, 0) == -1 && errno == EBADF);
	make_pipe(fds);
	CHECK(recv(fds[0], buf, 1, 0) == -1 && errno == ENOTSOCK);
	CHECK(read(fds[1], buf, 1) == -1 && errno == EBADF);
	CHECK(write(fds[0], buf, 1) == -1 && errno == EBADF);
	CHECK(pread(fds[0], buf, 1, 0) == -1 && errno == ESPIPE);
	CHECK(readv(fds[0], NULL, 0) == 0);
	CHECK(readv(fds[0], bad, 2000) == -1 && errno == EINVAL);
	CHECK(readv(fds[0], bad, 1) == -1 && errno == EFAULT);
	close_both(fds);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(recv(fd, buf, 1, 0) == -1 && errno == ENOTCONN);
	CHECK(accept(fd, NULL, NULL) == -1 && errno == EINVAL);
	close(fd);
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	CHECK(accept(fd, NULL, NULL) == -1 && errno == EOPNOTSUPP);
	close(fd);
}

/* O_NONBLOCK, set while somebody waits: by another number, by another process. */
static void check_nonblock(void (*make)(int fds[2]), bool by_process)
{
	struct reading r;
	int fds[2];
	pid_t pid;

	make(fds);
	pthread_t thread = begin_reading(&r, fds[0]);
	if (by_process) {
		pid = fork();
		if (pid == 0)
			_exit(fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0 ? 0 : 1);
		CHECK(waitpid(pid, NULL, 0) == pid);
	} else {
		int fd = dup(fds[0]);

		CHECK(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
		close(fd);
	}
	/* Who waits goes on; who comes does not begin to. */
	sleep_ms(5);
	CHECK(!r.done);
	CHECK(read(fds[0], r.buf, 1) == -1 && errno == EAGAIN);
	CHECK(write(fds[1], "a", 1) == 1);
	join(thread);
	CHECK(r.result == 1);
	CHECK(read(fds[0], r.buf, 1) == -1 && errno == EAGAIN);
	CHECK(fcntl(fds[0], F_GETFL) & O_NONBLOCK);
	CHECK(fcntl(fds[0], F_SETFL, 0) == 0);
	thread = begin_reading(&r, fds[0]);
	CHECK(!(fcntl(fds[0], F_GETFL) & O_NONBLOCK));
	CHECK(write(fds[1], "a", 1) == 1);
	join(thread);
	CHECK(r.result == 1);
	close_both(fds);
}

static void test_nonblock(void)
{
	become_threaded();
	for (int by_process = 0; by_process < 2; by_process++) {
		check_nonblock(make_pipe, by_process);
		check_nonblock(make_fifo, by_process);
		check_nonblock(make_unix, by_process);
		check_nonblock(make_tcp, by_process);
	}
}

/* --- what was there before the call, after many reads that had to wait -------------------------- */

struct reader {
	int fd;
	bool by_recv, over;
	sem_t start, done;
	ssize_t result;
	int error;
};

static void wait_for(sem_t *sem)
{
	while (sem_wait(sem) != 0)
		CHECK(errno == EINTR);
}

static void *read_when_told(void *arg)
{
	struct reader *r = arg;
	char c;

	for (;;) {
		wait_for(&r->start);
		if (r->over)
			return NULL;
		r->result = r->by_recv ? recv(r->fd, &c, 1, 0) : read(r->fd, &c, 1);
		r->error = errno;
		sem_post(&r->done);
	}
}

static ssize_t read_now(struct reader *r)
{
	sem_post(&r->start);
	wait_for(&r->done);
	errno = r->error;
	return r->result;
}

static void read_in_vain(struct reader *r, int out)
{
	for (int i = 0; i < 8; i++) {
		sem_post(&r->start);
		sleep_ms(1);
		CHECK(write(out, "a", 1) == 1);
		wait_for(&r->done);
		/* The last signal of before came to this one. */
		if (r->result == -1 && r->error == EINTR)
			CHECK(read_now(r) == 1);
		CHECK(r->result == 1);
	}
}

static void set_timeout(int fd, int us)
{
	const struct timeval tv = {.tv_usec = us};

	CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) == 0);
}

/* What is no good, or asks for nothing, is answered without a wait. */
static void check_refusals(int fd, bool is_socket)
{
	static struct iovec many[5000];
	struct msghdr m = {.msg_iov = many, .msg_iovlen = 5000};
	struct iovec none = {many, 0};
	void *beyond = (void *)-4096L;

	CHECK(readv(fd, &none, 1) == 0);
	CHECK(readv(fd, many, 0) == 0);
	CHECK(readv(fd, many, IOV_MAX + 1) == -1 && errno == EINVAL);
	CHECK(recvmsg(fd, &m, 0) == -1 && errno == (is_socket ? EMSGSIZE : ENOTSOCK));
	if (is_socket)
		CHECK(read(fd, beyond, 8) == -1 && errno == EFAULT);
	else
		CHECK(recv(fd, many, 1, 0) == -1 && errno == ENOTSOCK);
}

static void check_expectations(const int fds[2], bool is_socket, bool by_recv)
{
	struct reader r = {.fd = fds[0], .by_recv = by_recv};

	sem_init(&r.start, 0, 0);
	sem_init(&r.done, 0, 0);
	pthread_t thread = start(read_when_told, &r);
	/* A handler that comes then does not end the call. */
	for (int i = 0; i < 20; i++) {
		read_in_vain(&r, fds[1]);
		CHECK(write(fds[1], "a", 1) == 1);
		sem_post(&r.start);
		for (int k = 0; k < 3; k++) {
			sched_yield();
			CHECK_OK(pthread_kill(thread, SIGUSR1));
		}
		wait_for(&r.done);
		errno = r.error;
		CHECK(r.result == 1);
	}
	/* Nor does the shortest timeout. */
	for (int i = 0; is_socket && i < 5; i++) {
		read_in_vain(&r, fds[1]);
		set_timeout(fds[0], 1);
		CHECK(read_now(&r) == -1 && errno == EAGAIN);
		CHECK(write(fds[1], "a", 1) == 1);
		CHECK(read_now(&r) == 1);
		set_timeout(fds[0], 0);
	}
	read_in_vain(&r, fds[1]);
	check_refusals(fds[0], is_socket);
	/* O_NONBLOCK, which another process sets. */
	for (int i = 0; i < 3; i++) {
		read_in_vain(&r, fds[1]);
		if (i > 0)
			CHECK(write(fds[1], "a", 1) == 1);
		pid_t pid = fork();
		if (pid == 0)
			_exit(fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0 ? 0 : 1);
		CHECK(waitpid(pid, NULL, 0) == pid);
		CHECK(i == 0 || read_now(&r) == 1);
		CHECK(read_now(&r) == -1 && errno == EAGAIN);
		CHECK(fcntl(fds[0], F_SETFL, 0) == 0);
	}
	r.over = true;
	sem_post(&r.start);
	join(thread);
}

static void ignore(int sig)
{
	(void)sig;
}

static void test_expectations(void)
{
	static void (*const makes[])(int fds[2]) = {make_pipe, make_fifo, make_unix,
						    make_tcp};
	struct sigaction sa = {.sa_handler = ignore};
	int fds[2];

	CHECK(sigaction(SIGUSR1, &sa, NULL) == 0);
	for (int i = 0; i < 4; i++) {
		makes[i](fds);
		for (int by_recv = 0; by_recv < (i < 2 ? 1 : 2); by_recv++)
			check_expectations(fds, i >= 2, by_recv);
		close_both(fds);
	}
}

static void test_low_mark(void)
{
	struct reading r;
	int fds[2], mark = 3;

	make_tcp(fds);
	CHECK(setsockopt(fds[0], SOL_SOCKET, SO_RCVLOWAT, &mark, sizeof(mark)) == 0);
	pthread_t thread = begin_reading(&r, fds[0]);
	CHECK(send(fds[1], "ab", 2, 0) == 2);
	sleep_ms(10);
	CHECK(!r.done);
	CHECK(send(fds[1], "c", 1, 0) == 1);
	join(thread);
	CHECK(r.result == 3 && memcmp(r.buf, "abc", 3) == 0);
	close_both(fds);
}

/* --- one file, several numbers and processes ------------------------------------------------------ */

static void test_dup(void)
{
	static void (*const makes[])(int fds[2]) = {make_pipe, make_unix, make_tcp};
	struct reading a, b;
	int fds[2];

	for (int i = 0; i < 3; i++) {
		makes[i](fds);
		int other = dup(fds[0]), writer = dup(fds[1]);
		pthread_t first = begin_reading(&a, fds[0]);
		pthread_t second = begin_reading(&b, other);
		/* Each byte is read once, by whichever. */
		CHECK(write(writer, "x", 1) == 1);
		while (!a.done && !b.done)
			sleep_ms(1);
		sleep_ms(5);
		CHECK(!a.done || !b.done);
		/* The file goes on when one of its numbers goes. */
		close(fds[1]);
		CHECK(write(writer, "y", 1) == 1);
		join(first);
		join(second);
		CHECK(a.result == 1 && b.result == 1);
		CHECK(a.buf[0] + b.buf[0] == 'x' + 'y');
		/* All of them gone, it ends. */
		first = begin_reading(&a, other);
		close(writer);
		join(first);
		CHECK(a.result == 0);
		close(other);
		close(fds[0]);
	}
}

static void send_fd(int to, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = {0}, byte = 'x';
	struct iovec v = {&byte, 1};
	struct msghdr m = {.msg_iov = &v,
			   .msg_iovlen = 1,
			   .msg_control = control,
			   .msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	CHECK(sendmsg(to, &m, 0) == 1);
}

static int receive_fd(int from)
{
	char control[CMSG_SPACE(sizeof(int))] = {0}, byte;
	struct iovec v = {&byte, 1};
	struct msghdr m = {.msg_iov = &v,
			   .msg_iovlen = 1,
			   .msg_control = control,
			   .msg_controllen = sizeof(control)};
	int fd;

	CHECK(recvmsg(from, &m, 0) == 1);
	CHECK(CMSG_FIRSTHDR(&m) != NULL);
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
	return fd;
}

static _Atomic int receiver_tid;

static void *receive_and_read(void *arg)
{
	struct reading *r = arg;
	int fd = receive_fd(r->fd);

	receiver_tid = kernel_tid();
	r->result = read(fd, r->buf, sizeof(r->buf));
	close(fd);
	return NULL;
}

/* A descriptor that another process has sent, and reads and closes itself. */
static void test_passed(void)
{
	static void (*const makes[])(int fds[2]) = {make_pipe, make_unix, make_tcp};
	int channel[2], fds[2];

	make_unix(channel);
	become_threaded();
	for (int i = 0; i < 3; i++) {
		struct reading r = {.fd = channel[0]};

		receiver_tid = 0;
		pthread_t thread = start(receive_and_read, &r);

		makes[i](fds);
		pid_t pid = fork();
		if (pid == 0) {
			send_fd(channel[1], fds[0]);
			close(fds[0]);
			_exit(0);
		}
		close(fds[0]);
		until_waits(&receiver_tid);
		CHECK(waitpid(pid, NULL, 0) == pid);
		ssize_t n = write(fds[1], "abc", 3);
		join(thread);
		/* Half of it may have been read when the reader goes. */
		CHECK(is_shaken() ? n > 0 && r.result > 0 : n == 3 && r.result == 3);
		close(fds[1]);
	}
}

/* --- from descriptor to descriptor ----------------------------------------------------------------- */

struct sending {
	int out, in;
	bool is_pipe;
	ssize_t result;
};

static void *send_file(void *arg)
{
	struct sending *s = arg;
	off_t offset = 0;

	/* A pipe takes what it has room for, a socket all. */
	while (offset < BIG) {
		off_t before = offset;

		s->result = sendfile(s->out, s->in, &offset, BIG + 100);
		CHECK(s->result > 0 && offset - before == s->result);
		CHECK(s->is_pipe || s->result == BIG);
	}
	return NULL;
}

static void test_sendfile(void)
{
	static void (*const makes[])(int fds[2]) = {make_pipe, make_unix, make_tcp};
	char path[] = "/tmp/streams.XXXXXX", *block = make_block();
	int file = mkstemp(path), fds[2];

	unlink(path);
	CHECK(write(file, block, BIG) == BIG);
	for (int i = 0; i < 3; i++) {
		makes[i](fds);
		struct sending s = {.out = fds[1], .in = file, .is_pipe = i == 0};
		pthread_t thread = start(send_file, &s);
		read_whole(fds[0]);
		join(thread);
		close_both(fds);
	}
	free(block);
}

/* --- several messages ------------------------------------------------------------------------------ */

static void *send_later(void *arg)
{
	int fd = *(int *)arg;

	for (int i = 0; i < 5; i++) {
		sleep_ms(10);
		CHECK(send(fd, "abcde", 1 + i, 0) == 1 + i);
	}
	return NULL;
}

static void test_messages(void)
{
	char bufs[5][10];
	struct iovec v[5];
	struct mmsghdr m[5] = {0};
	struct timespec ts = {.tv_nsec = 25000000};
	int fds[2];

	for (int i = 0; i < 5; i++) {
		v[i] = (struct iovec){bufs[i], 10};
		m[i].msg_hdr = (struct msghdr){.msg_iov = &v[i], .msg_iovlen = 1};
	}
	CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds) == 0);
	pthread_t thread = start(send_later, &fds[1]);
	CHECK(recvmmsg(fds[0], m, 5, 0, NULL) == 5);
	for (int i = 0; i < 5; i++)
		CHECK(m[i].msg_len == 1U + i);
	join(thread);
	/* The first alone; and as many as there are when the time is up, but for one. */
	thread = start(send_later, &fds[1]);
	CHECK(recvmmsg(fds[0], m, 5, MSG_WAITFORONE, NULL) >= 1);
	join(thread);
	while (recv(fds[0], bufs[0], 10, MSG_DONTWAIT) > 0)
		;
	thread = start(send_later, &fds[1]);
	int n = recvmmsg(fds[0], m, 5, 0, &ts);
	CHECK(n >= 1 && n < 5 && ts.tv_sec == 0 && ts.tv_nsec == 0);
	join(thread);
	while (recv(fds[0], bufs[0], 10, MSG_DONTWAIT) > 0)
		;
	ts = (struct timespec){.tv_nsec = 1000000000};
	CHECK(recvmmsg(fds[0], m, 5, 0, &ts) == -1 && errno == EINVAL);
	for (int i = 0; i < 5; i++)
		v[i].iov_len = 1 + (size_t)i;
	CHECK(sendmmsg(fds[1], m, 5, 0) == 5);
	for (int i = 0; i < 5; i++)
		CHECK(recv(fds[0], bufs[0], 10, 0) == 1 + i);
	CHECK(sendmmsg(fds[1], m, 0, 0) == 0);
	/* To one who is not connected, and whose queue is full. */
	close(fds[0]);
	CHECK(sendmmsg(fds[1], m, 5, 0) == -1 && errno == ECONNREFUSED);
	close(fds[1]);
}

static void *send_one(void *arg)
{
	const int *fds = arg;
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);

	CHECK(getsockname(fds[0], (struct sockaddr *)&addr, &len) == 0);
	CHECK(sendto(fds[1], "last", 4, 0, (struct sockaddr *)&addr, len) == 4);
	return NULL;
}

/* Poll calls a socket writable whose peer's queue is full, when it is not connected. */
static void test_full_queue(void)
{
	struct sockaddr addr = {.sa_family = AF_UNIX};
	struct sockaddr_storage name;
	socklen_t len = sizeof(name);
	int fds[2], n = 0;
	char buf[10];

	fds[0] = socket(AF_UNIX, SOCK_DGRAM, 0);
	fds[1] = socket(AF_UNIX, SOCK_DGRAM, 0);
	CHECK(bind(fds[0], &addr, sizeof(addr.sa_family)) == 0);
	CHECK(getsockname(fds[0], (struct sockaddr *)&name, &len) == 0);
	while (sendto(fds[1], "x", 1, MSG_DONTWAIT, (struct sockaddr *)&name, len) == 1)
		n++;
	CHECK(errno == EAGAIN);
	pthread_t thread = start(send_one, fds);
	sleep_ms(20);
	for (; n > 0; n--)
		CHECK(recv(fds[0], buf, sizeof(buf), 0) == 1);
	CHECK(recv(fds[0], buf, sizeof(buf), 0) == 4);
	join(thread);
	close_both(fds);
}

/* --- terminals ------------------------------------------------------------------------------------- */

static void test_terminal(void)
{
	struct termios tty;
	struct reading r;
	int master, slave;
	char buf[10];

	become_threaded();
	CHECK(openpty(&master, &slave, NULL, NULL, NULL) == 0);
	CHECK(tcgetattr(slave, &tty) == 0);
	/* The other end, which is no terminal of anybody's jobs. */
	pthread_t thread = begin_reading(&r, master);
	CHECK(write(slave, "x", 1) == 1);
	join(thread);
	CHECK(r.result == 1);
	/* A line at a time. */
	thread = begin_reading(&r, slave);
	CHECK(write(master, "ab", 2) == 2);
	sleep_ms(5);
	CHECK(!r.done);
	CHECK(write(master, "c\n", 2) == 2);
	join(thread);
	CHECK(r.result == 4);
	/* What is there, at once. */
	cfmakeraw(&tty);
	tty.c_cc[VMIN] = 0;
	tty.c_cc[VTIME] = 0;
	CHECK(tcsetattr(slave, TCSANOW, &tty) == 0);
	CHECK(read(slave, buf, 10) == 0);
	/* Or for a tenth of a second. */
	tty.c_cc[VTIME] = 1;
	CHECK(tcsetattr(slave, TCSANOW, &tty) == 0);
	long long before = now_ms();
	CHECK(read(slave, buf, 10) == 0);
	CHECK(now_ms() - before >= 50);
	/* Three bytes. */
	tty.c_cc[VMIN] = 3;
	tty.c_cc[VTIME] = 0;
	CHECK(tcsetattr(slave, TCSANOW, &tty) == 0);
	thread = begin_reading(&r, slave);
	CHECK(write(master, "ab", 2) == 2);
	sleep_ms(5);
	CHECK(!r.done);
	CHECK(write(master, "c", 1) == 1);
	join(thread);
	CHECK(r.result == 3);
	thread = begin_reading(&r, slave);
	close(master);
	join(thread);
	CHECK(r.result == 0 || r.error == EIO);
	close(slave);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
	    {"whole", test_whole},
	    {"vectors", test_vectors},
	    {"atomic", test_atomic},
	    {"partial", test_partial},
	    {"raises", test_raises},
	    {"raises-under-handlers", test_raises_under_handlers},
	    {"waitall", test_waitall},
	    {"flags", test_flags},
	    {"nonblock", test_nonblock},
	    {"expectations", test_expectations},
	    {"low-mark", test_low_mark},
	    {"dup", test_dup},
	    {"passed", test_passed},
	    {"sendfile", test_sendfile},
	    {"messages", test_messages},
	    {"full-queue", test_full_queue},
	    {"terminal", test_terminal},
	};

	become_threaded();
	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
