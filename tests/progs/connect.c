/* SPDX-License-Identifier: MIT */
/*
 * connect.c: connections that come late, or not at all; listeners that many wait at.
 */
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "check.h"

static struct sockaddr_in tcp_addr;

static int listen_tcp(int backlog)
{
	socklen_t len = sizeof(tcp_addr);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	tcp_addr = (struct sockaddr_in){.sin_family = AF_INET,
					.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	CHECK(bind(fd, (struct sockaddr *)&tcp_addr, len) == 0 &&
	      listen(fd, backlog) == 0);
	CHECK(getsockname(fd, (struct sockaddr *)&tcp_addr, &len) == 0);
	return fd;
}

static int connect_tcp(int fd)
{
	return connect(fd, (struct sockaddr *)&tcp_addr, sizeof(tcp_addr));
}

/* A listener whose queue is full: who connects now is answered when he asks again, after a
 * second. */
static int listen_full(int fillers[2])
{
	int fd = listen_tcp(0);

	for (int i = 0; i < 2; i++) {
		fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		connect_tcp(fillers[i]);
		sleep_ms(5);
	}
	return fd;
}

struct connecting {
	int fd;
	_Atomic bool done;
	int result, error;
};

static void *connect_one(void *arg)
{
	struct connecting *c = arg;

	c->result = connect_tcp(c->fd);
	c->error = errno;
	c->done = true;
	return NULL;
}

static pthread_t begin(struct connecting *c)
{
	*c = (struct connecting){.fd = socket(AF_INET, SOCK_STREAM, 0)};
	pthread_t thread = start_waiting(connect_one, c);

	CHECK(!c->done);
	return thread;
}

static void expect(const struct connecting *c, int error)
{
	errno = c->error;
	CHECK(error == 0 ? c->result == 0 : c->result == -1 && c->error == error);
}

static bool has_no_timeout(int fd)
{
	struct timeval tv;
	socklen_t len = sizeof(tv);

	CHECK(getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, &len) == 0);
	return tv.tv_sec == 0 && tv.tv_usec == 0;
}

/* At last it is accepted. */
static void test_late(void)
{
	struct connecting c;
	int fillers[2], listener = listen_full(fillers);
	pthread_t thread = begin(&c);

	for (int i = 0; i < 2; i++)
		accept(listener, NULL, NULL);
	join(thread);
	expect(&c, 0);
	CHECK(has_no_timeout(c.fd) && !(fcntl(c.fd, F_GETFL) & O_NONBLOCK));
	CHECK(connect_tcp(c.fd) == -1 && errno == EISCONN);
	CHECK(send(c.fd, "x", 1, 0) == 1);
}

/* Nobody is there: at once, or when it has waited. */
static void test_refused(void)
{
	struct connecting c;
	int fillers[2], listener = listen_full(fillers);
	pthread_t thread = begin(&c);

	close(listener);
	join(thread);
	expect(&c, ECONNREFUSED);
	in_thread(connect_one, &c);
	expect(&c, ECONNREFUSED);
	CHECK(has_no_timeout(c.fd));
}

static void handler(int sig)
{
	(void)sig;
}

/* A handler ends the call, and it goes on by itself. */
static void test_interrupted(void)
{
	struct sigaction act = {.sa_handler = handler};
	struct connecting c;
	int fillers[2], listener = listen_full(fillers), error = 1;
	socklen_t len = sizeof(error);

	CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
	pthread_t thread = begin(&c);
	CHECK_OK(pthread_kill(thread, SIGUSR1));
	join(thread);
	expect(&c, EINTR);
	for (int i = 0; i < 2; i++)
		accept(listener, NULL, NULL);
	struct pollfd p = {.fd = c.fd, .events = POLLOUT};
	CHECK(poll(&p, 1, 10000) == 1 && p.revents == POLLOUT);
	CHECK(getsockopt(c.fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error == 0);
	CHECK(connect_tcp(c.fd) == 0);
	close(c.fd);
	close(listener);

	/* With SA_RESTART it does not end. */
	act.sa_flags = SA_RESTART;
	CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
	listener = listen_full(fillers);
	thread = begin(&c);
	for (int i = 0; i < 5; i++) {
		CHECK_OK(pthread_kill(thread, SIGUSR1));
		sleep_ms(2);
	}
	CHECK(!c.done);
	for (int i = 0; i < 2; i++)
		accept(listener, NULL, NULL);
	join(thread);
	expect(&c, 0);
}

static void test_cancelled(void)
{
	struct connecting c;
	void *result;
	int fillers[2];

	listen_full(fillers);
	pthread_t thread = begin(&c);
	CHECK_OK(pthread_cancel(thread));
	CHECK_OK(pthread_join(thread, &result));
	CHECK(result == PTHREAD_CANCELED && has_no_timeout(c.fd));
}

static void test_timeout(void)
{
	struct timeval tv = {.tv_usec = 100000}, after;
	struct connecting c = {.fd = socket(AF_INET, SOCK_STREAM, 0)};
	socklen_t len = sizeof(after);
	int fillers[2];

	listen_full(fillers);
	CHECK(setsockopt(c.fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) == 0);
	long long before = now_ms();
	in_thread(connect_one, &c);
	expect(&c, EINPROGRESS);
	CHECK(now_ms() - before >= 90 && now_ms() - before < 900);
	CHECK(getsockopt(c.fd, SOL_SOCKET, SO_SNDTIMEO, &after, &len) == 0);
	CHECK(after.tv_sec == 0 && after.tv_usec == 100000);
	in_thread(connect_one, &c);
	/* A signal of the runtime's may come between. */
	if (getenv("PGREEN_SHAKE") == NULL || c.error != EINPROGRESS)
		expect(&c, EALREADY);
	c.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	in_thread(connect_one, &c);
	expect(&c, EINPROGRESS);
}

enum { N_CLIENTS = 50 };

static int kernel_threads(void)
{
	char line[256];
	FILE *f = fopen("/proc/self/status", "r");
	int n = 0;

	while (fgets(line, sizeof(line), f) != NULL)
		if (sscanf(line, "Threads: %d", &n) == 1)
			break;
	fclose(f);
	return n;
}

/* Fifty wait for a connection, on hardly any kernel threads. */
static void test_many(void)
{
	static struct connecting c[N_CLIENTS];
	pthread_t threads[N_CLIENTS];
	int fillers[2], listener = listen_full(fillers);
	const char *preload = getenv("LD_PRELOAD"), *procs = getenv("GOMAXPROCS");

	for (int i = 0; i < N_CLIENTS; i++) {
		c[i] = (struct connecting){.fd = socket(AF_INET, SOCK_STREAM, 0)};
		threads[i] = start(connect_one, &c[i]);
	}
	sleep_ms(100);
	/* Workers that each waited for a tick may still be about. */
	if (preload != NULL && strstr(preload, "libpgreen") != NULL && procs != NULL)
		for (long long limit = now_ms() + 5000;
		     kernel_threads() > atoi(procs) + 4; sleep_ms(20))
			CHECK(now_ms() < limit);
	close(listener);
	for (int i = 0; i < N_CLIENTS; i++) {
		join(threads[i]);
		CHECK(c[i].result == -1 &&
		      (c[i].error == ECONNREFUSED || c[i].error == ECONNRESET));
	}
}

/* --- one listener, many waiters ---------------------------------------------------------------- */

enum { N_PROCESSES = 3, N_TASKS = 8, N_CALLS = 300 };

static int shared;
static _Atomic int n_served;

static void *serve(void *arg)
{
	(void)arg;
	for (;;) {
		int fd = accept(shared, NULL, NULL);
		char c;

		CHECK(fd >= 0);
		while (read(fd, &c, 1) == 1 && c != 'q')
			CHECK(write(fd, &c, 1) == 1);
		n_served++;
		close(fd);
	}
	return NULL;
}

static void serve_for_ever(void)
{
	for (int i = 0; i < N_TASKS; i++)
		start(serve, NULL);
	for (;;)
		pause();
}

/* The callers take turns, so that most of the time all wait; each is served at once. */
static void *call(void *arg)
{
	(void)arg;
	for (int i = 0; i < N_CALLS / 3; i++) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		char c;

		CHECK(connect_tcp(fd) == 0);
		CHECK(write(fd, "a", 1) == 1 && read(fd, &c, 1) == 1 && c == 'a');
		CHECK(write(fd, "q", 1) == 1);
		/* The server closes first: its side is done. */
		CHECK(read(fd, &c, 1) == 0);
		close(fd);
	}
	return NULL;
}

static void test_shared(void)
{
	pid_t pids[N_PROCESSES];
	pthread_t callers[3];

	shared = listen_tcp(100);
	for (int i = 0; i < N_PROCESSES; i++) {
		pids[i] = fork();
		if (pids[i] == 0)
			serve_for_ever();
	}
	for (int i = 0; i < 3; i++)
		callers[i] = start(call, NULL);
	for (int i = 0; i < 3; i++)
		join(callers[i]);
	for (int i = 0; i < N_PROCESSES; i++) {
		kill(pids[i], SIGKILL);
		CHECK(waitpid(pids[i], NULL, 0) == pids[i]);
	}
}

/* All in one process, and a connection for each that waits. */
static void test_herd(void)
{
	pthread_t callers[3];

	shared = listen_tcp(100);
	for (int i = 0; i < 50; i++)
		start(serve, NULL);
	sleep_ms(20);
	for (int i = 0; i < 3; i++)
		callers[i] = start(call, NULL);
	for (int i = 0; i < 3; i++)
		join(callers[i]);
	for (long long limit = now_ms() + 5000; n_served < N_CALLS; sleep_ms(1))
		CHECK(now_ms() < limit);
	CHECK(n_served == N_CALLS);
}

/* A listener that is not to block, and by whom that is changed. */
static void test_nonblock(void)
{
	int listener = listen_tcp(5), fd;

	CHECK(fcntl(listener, F_SETFL, O_NONBLOCK) == 0);
	for (int i = 0; i < 3; i++)
		CHECK(accept(listener, NULL, NULL) == -1 && errno == EAGAIN);
	int client = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(connect_tcp(client) == 0);
	CHECK((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0);
	CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK && fcntl(fd, F_GETFD) & FD_CLOEXEC);
	CHECK(accept(listener, NULL, NULL) == -1 && errno == EAGAIN);
	CHECK(fcntl(listener, F_SETFL, 0) == 0);
	shared = listener;
	start(serve, NULL);
	sleep_ms(5);
	call(NULL);
}

/* Unix sockets: the queue of the listener is full. */
static void *connect_unix(void *arg)
{
	struct sockaddr_un addr;
	socklen_t len = sizeof(addr);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	CHECK(getsockname(*(int *)arg, (struct sockaddr *)&addr, &len) == 0);
	CHECK(connect(fd, (struct sockaddr *)&addr, len) == 0);
	n_served++;
	return NULL;
}

static void test_unix(void)
{
	struct sockaddr addr = {.sa_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_STREAM, 0);
	pthread_t threads[10];

	CHECK(bind(listener, &addr, sizeof(addr.sa_family)) == 0 &&
	      listen(listener, 1) == 0);
	for (int i = 0; i < 10; i++)
		threads[i] = start(connect_unix, &listener);
	sleep_ms(20);
	CHECK(n_served < 10);
	for (int i = 0; i < 10; i++)
		CHECK(accept(listener, NULL, NULL) >= 0);
	for (int i = 0; i < 10; i++)
		join(threads[i]);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
	    {"late", test_late},
	    {"refused", test_refused},
	    {"interrupted", test_interrupted},
	    {"cancelled", test_cancelled},
	    {"timeout", test_timeout},
	    {"many", test_many},
	    {"shared", test_shared},
	    {"herd", test_herd},
	    {"nonblock", test_nonblock},
	    {"unix", test_unix},
	};

	become_threaded();
	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
