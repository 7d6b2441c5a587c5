/* SPDX-License-Identifier: MIT */
/*
 * pipering: a ring of threads that pass a token on, each through a pipe to the next.
 *
 * One thread has the token, all others wait in read: what counts is how fast a byte that
 * comes for a thread makes it run.  The token is the number of hops that are left.
 *
 * usage: pipering [THREADS [HOPS]]	1000 and 100000
 * prints:
 *	1000 threads passed the token on 100000 times
 * and on stderr how long a hop took.
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { STACK_SIZE = 64 << 10, EXIT_CANNOT_RUN = 77 };

struct member {
	pthread_t thread;
	int in, out;
	long n_passed; /* its own, until it is joined */
};

static _Noreturn void fail(const char *what, int error)
{
	fprintf(stderr, "pipering: %s: %s\n", what, strerror(error));
	exit(error == EAGAIN || error == EMFILE || error == ENFILE ? EXIT_CANNOT_RUN
								   : EXIT_FAILURE);
}

static bool get(int fd, long *left)
{
	ssize_t n;

	while ((n = read(fd, left, sizeof(*left))) < 0 && errno == EINTR)
		continue;
	if (n < 0)
		fail("read", errno);
	return n == sizeof(*left); /* or the end: a pipe never parts so few bytes */
}

static void put(int fd, long left)
{
	ssize_t n;

	while ((n = write(fd, &left, sizeof(left))) < 0 && errno == EINTR)
		continue;
	if (n != sizeof(left))
		fail("write", errno);
}

/* Until no hop is left.  Who sees that closes its pipe, and so does each one after it. */
static void *pass_on(void *arg)
{
	struct member *m = arg;
	long left;

	while (get(m->in, &left) && left > 0) {
		put(m->out, left - 1);
		m->n_passed++;
	}
	close(m->out);
	return NULL;
}

static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static void make_pipes(struct member *ring, int n)
{
	for (int i = 0; i < n; i++) {
		int ends[2];
		if (pipe(ends))
			fail("pipe", errno);
		ring[i].in = ends[0];
		ring[(i + n - 1) % n].out = ends[1];
	}
}

static void start_all(struct member *ring, int n)
{
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	for (int i = 0; i < n; i++) {
		int error = pthread_create(&ring[i].thread, &attr, pass_on, &ring[i]);
		if (error)
			fail("cannot create a thread", error);
	}
	pthread_attr_destroy(&attr);
}

static long number_in(const char *text, long most)
{
	char *end;
	long n;

	errno = 0;
	n = strtol(text, &end, 10);
	return errno || end == text || *end || n < 1 || n > most ? -1 : n;
}

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	int n = argc > 1 ? (int)number_in(argv[1], 1000000) : 1000;
	long hops = argc > 2 ? number_in(argv[2], 1000000000) : 100000, passed = 0;
	struct member *ring =
	    n > 0 && hops > 0 && argc < 4 ? calloc(n, sizeof(*ring)) : NULL;

	if (!ring) {
		fprintf(stderr, "usage: pipering [THREADS [HOPS]]\n");
		return EXIT_FAILURE;
	}
	raise_descriptor_limit();
	make_pipes(ring, n);
	start_all(ring, n);

	double start = now_s();
	put(ring[n - 1].out, hops);
	for (int i = 0; i < n; i++) {
		pthread_join(ring[i].thread, NULL);
		close(ring[i].in);
		passed += ring[i].n_passed;
	}
	fprintf(stderr, "pipering: %.0f ns for a hop\n", (now_s() - start) * 1e9 / hops);
	free(ring);
	if (passed != hops) {
		fprintf(stderr, "pipering: %ld hops of %ld\n", passed, hops);
		return EXIT_FAILURE;
	}
	printf("%d threads passed the token on %ld times\n", n, passed);
	return EXIT_SUCCESS;
}
