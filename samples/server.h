/* SPDX-License-Identifier: MIT */
/*
 * server.h: what echo and http have in common: a thread for each connection, and an end.
 *
 * The main thread waits for SIGINT or SIGTERM, which all others block; one thread accepts,
 * and starts a thread for each connection.  At the end no connection is accepted any more,
 * and those that are open read an end of file, so that each thread finishes the request
 * that it is at.  Who has not done so after GRACE_S seconds loses the connection.
 *
 * Listens on 127.0.0.1 alone: these are samples, not services.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	DEFAULT_STACK_KIB = 64, /* ten thousand of them are 640 MB of addresses */
	BACKLOG = 4096,
	RETRY_NS = 10000000, /* after accept found no descriptor or memory */
	GRACE_S = 2,
	EXIT_CANNOT_RUN = 77,
};

/* An open connection.  Lies on its thread's stack. */
struct connection {
	struct connection *next, *previous;
	int fd;
};

static struct server {
	const char *name;
	long (*serve)(
	    int fd); /* until the end of the connection; returns what it served */
	int listener;
	pthread_attr_t attr; /* of the connections' threads */

	pthread_mutex_t lock; /* of all below */
	pthread_cond_t none_open;
	struct connection open; /* the head of a ring */
	int n_open;             /* with threads that have not begun yet */
	long n_accepted, n_served;
	bool ending;
} server = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .open = {.next = &server.open, .previous = &server.open},
};

/* Says it, and ends.  Errors that stand for a limit of the machine have another status. */
static void server_fail(const char *what, int error)
{
	fprintf(stderr, "%s: %s: %s\n", server.name, what, strerror(error));
	exit(error == EAGAIN ? EXIT_CANNOT_RUN : EXIT_FAILURE);
}

static void *connection_thread(void *fd)
{
	struct connection c = {.fd = (int)(intptr_t)fd};

	pthread_mutex_lock(&server.lock);
	if (server.ending)
		shutdown(c.fd, SHUT_RD);
	c.next = &server.open;
	c.previous = server.open.previous;
	c.next->previous = c.previous->next = &c;
	pthread_mutex_unlock(&server.lock);

	long n = server.serve(c.fd);

	pthread_mutex_lock(&server.lock);
	c.previous->next = c.next;
	c.next->previous = c.previous;
	server.n_served += n;
	if (--server.n_open == 0)
		pthread_cond_signal(&server.none_open);
	pthread_mutex_unlock(&server.lock);
	close(c.fd); /* not earlier: shut_all_down would meet another's descriptor */
	return NULL;
}

/* Takes fd, and closes it where there can be no thread for it. */
static void start_connection(int fd)
{
	pthread_t thread;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
	pthread_mutex_lock(&server.lock);
	server.n_open++;
	server.n_accepted++;
	pthread_mutex_unlock(&server.lock);

	int error = pthread_create(&thread, &server.attr, connection_thread,
				   (void *)(intptr_t)fd);
	if (!error)
		return;
	fprintf(stderr, "%s: no thread for a connection: %s\n", server.name,
		strerror(error));
	close(fd);
	pthread_mutex_lock(&server.lock);
	server.n_accepted--;
	if (--server.n_open == 0)
		pthread_cond_signal(&server.none_open);
	pthread_mutex_unlock(&server.lock);
}

/* Says that accept failed, once for each kind of error in a row. */
static void report_accept(int error)
{
	static int last;

	if (error != last)
		fprintf(stderr, "%s: accept: %s\n", server.name, strerror(error));
	last = error;
}

/* Until main shuts the listener down, which accept reports as EINVAL. */
static void *accept_thread(void *unused)
{
	const struct timespec pause = {.tv_nsec = RETRY_NS};

	for (;;) {
		int fd = accept(server.listener, NULL, NULL);
		if (fd >= 0) {
			start_connection(fd);
		} else if (errno == EINVAL || errno == EBADF) {
			return unused;
		} else if (errno != EINTR && errno != ECONNABORTED) {
			report_accept(errno);
			nanosleep(&pause, NULL);
		}
	}
}

/* Lets as many connections be open as the machine allows. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static void listen_on(int port)
{
	struct sockaddr_in address = {
	    .sin_family = AF_INET,
	    .sin_port = htons(port),
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t size = sizeof(address);

	server.listener = socket(AF_INET, SOCK_STREAM, 0);
	if (server.listener < 0)
		server_fail("socket", errno);
	setsockopt(server.listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
	if (bind(server.listener, (struct sockaddr *)&address, sizeof(address)) ||
	    listen(server.listener, BACKLOG)) {
		fprintf(stderr, "%s: cannot listen on 127.0.0.1:%d: %s\n", server.name,
			port, strerror(errno));
		exit(EXIT_FAILURE);
	}
	getsockname(server.listener, (struct sockaddr *)&address, &size);
	printf("%s: listening on 127.0.0.1:%d\n", server.name, ntohs(address.sin_port));
	fflush(stdout);
}

static void shut_all_down(int how)
{
	for (struct connection *c = server.open.next; c != &server.open; c = c->next)
		shutdown(c->fd, how);
}

/* Waits until every connection's thread is done, and helps those that take too long. */
static void end_connections(void)
{
	struct timespec deadline;
	int error = 0;

	pthread_mutex_lock(&server.lock);
	server.ending = true;
	shut_all_down(SHUT_RD);
	clock_gettime(CLOCK_REALTIME, &deadline);
	deadline.tv_sec += GRACE_S;
	while (server.n_open > 0 && error != ETIMEDOUT)
		error =
		    pthread_cond_timedwait(&server.none_open, &server.lock, &deadline);
	shut_all_down(SHUT_RDWR);
	while (server.n_open > 0)
		pthread_cond_wait(&server.none_open, &server.lock);
	pthread_mutex_unlock(&server.lock);
}

/* Serves until SIGINT or SIGTERM.  What serve returned is added up, and told as so many
 * units. */
static int server_run(const char *name, int port, size_t stack_size, const char *units,
		      long (*serve)(int fd))
{
	pthread_t acceptor;
	sigset_t ends;
	int signal_number, error;

	server.name = name;
	server.serve = serve;
	pthread_cond_init(&server.none_open, NULL);
	pthread_attr_init(&server.attr);
	pthread_attr_setdetachstate(&server.attr, PTHREAD_CREATE_DETACHED);
	error = pthread_attr_setstacksize(&server.attr, stack_size);
	if (error)
		server_fail("stack size", error);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&ends);
	sigaddset(&ends, SIGINT);
	sigaddset(&ends, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &ends, NULL);

	raise_descriptor_limit();
	listen_on(port);
	error = pthread_create(&acceptor, NULL, accept_thread, NULL);
	if (error)
		server_fail("cannot create a thread", error);

	sigwait(&ends, &signal_number);
	shutdown(server.listener, SHUT_RDWR);
	pthread_join(acceptor, NULL);
	end_connections();
	close(server.listener);
	printf("%s: %ld connections, %ld %s\n", name, server.n_accepted, server.n_served,
	       units);
	return fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* The number that text is, or -1. */
static long number_in(const char *text, long least, long most)
{
	char *end;
	long n;

	errno = 0;
	n = strtol(text, &end, 10);
	return errno || end == text || *end || n < least || n > most ? -1 : n;
}

static bool write_all(int fd, const char *data, size_t size)
{
	while (size > 0) {
		ssize_t n = write(fd, data, size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		data += n;
		size -= n;
	}
	return true;
}
