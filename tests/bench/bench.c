/* SPDX-License-Identifier: MIT */
/*
 * bench.c: what threads cost, one subcommand for each measurement.
 *
 * One binary, run natively and green; bench.go does the same work with goroutines, and
 * tests/bench/run sets the three side by side.  How many processors there are is decided
 * outside: taskset natively, GOMAXPROCS green.  Servers are not measured here, but by
 * samples/client.
 *
 * usage: bench MEASUREMENT [COUNT]
 * prints one line "FIGURE NUMBER" for each figure; exits 0, 1 when it failed.
 */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum {
	STACK_SIZE = 64 << 10, /* for thousands at once; one by one has the default */
	MIN_NS = 200000000,    /* a measurement grows until it takes so long */
	N_CONTENDERS = 8,
	CONTEND_NS = 300000000,
	SETTLE_NS = 300000000, /* between the last one's start and the look at memory */
};

typedef int64_t ns_t;

static ns_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static void sleep_ns(ns_t length)
{
	struct timespec left = {.tv_sec = length / 1000000000,
				.tv_nsec = length % 1000000000};

	while (nanosleep(&left, &left) && errno == EINTR)
		continue;
}

static void check(int error, const char *what)
{
	if (!error)
		return;
	fprintf(stderr, "bench: %s: %s\n", what, strerror(error));
	exit(EXIT_FAILURE);
}

static void start(pthread_t *thread, void *(*routine)(void *), void *arg)
{
	check(pthread_create(thread, NULL, routine, arg), "pthread_create");
}

static void join(pthread_t thread)
{
	check(pthread_join(thread, NULL), "pthread_join");
}

/* ns per operation, of the first batch that takes MIN_NS; smaller ones warm up. */
static double per_operation(void (*batch)(long n))
{
	for (long n = 1000;; n *= 4) {
		ns_t begin = now();
		batch(n);
		ns_t took = now() - begin;
		if (took >= MIN_NS)
			return (double)took / n;
	}
}

/* ---- create and join ---- */

static void *nothing(void *arg)
{
	return arg;
}

static void create_join_batch(long n)
{
	pthread_t thread;

	while (n--) {
		start(&thread, nothing, NULL);
		join(thread);
	}
}

static void create_join(long unused)
{
	(void)unused;
	printf("create_join %.1f\n", per_operation(create_join_batch));
}

static void with_small_stack(pthread_attr_t *attr)
{
	pthread_attr_init(attr);
	check(pthread_attr_setstacksize(attr, STACK_SIZE), "pthread_attr_setstacksize");
}

static double create_all_then_join(pthread_t *threads, long n)
{
	pthread_attr_t attr;

	with_small_stack(&attr);
	ns_t begin = now();
	for (long i = 0; i < n; i++)
		check(pthread_create(&threads[i], &attr, nothing, NULL),
		      "pthread_create");
	for (long i = 0; i < n; i++)
		join(threads[i]);
	return (double)(now() - begin) / n;
}

/* The first batch pays for memory that the second finds ready. */
static void create_many(long n)
{
	pthread_t *threads = calloc(n, sizeof(*threads));

	check(threads ? 0 : ENOMEM, "calloc");
	printf("create_many_first %.1f\n", create_all_then_join(threads, n));
	printf("create_many_warm %.1f\n", create_all_then_join(threads, n));
	free(threads);
}

/* ---- yield ---- */

static pthread_barrier_t both_here;

static void *yield_many(void *n)
{
	pthread_barrier_wait(&both_here);
	for (long i = (intptr_t)n; i > 0; i--)
		sched_yield();
	return NULL;
}

/* n yields in all, by two threads in turn. */
static void yield_batch(long n)
{
	pthread_t threads[2];

	pthread_barrier_init(&both_here, NULL, 2);
	for (int i = 0; i < 2; i++)
		start(&threads[i], yield_many, (void *)(intptr_t)(n / 2));
	for (int i = 0; i < 2; i++)
		join(threads[i]);
	pthread_barrier_destroy(&both_here);
}

static void yield(long unused)
{
	(void)unused;
	printf("yield %.2f\n", per_operation(yield_batch));
}

/* ---- condition variables ---- */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t turned[2]; /* one for each player */
	int turn;                 /* under lock: whose turn it is */
} table = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .turned = {PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER},
};

static void play(int me, long n)
{
	pthread_mutex_lock(&table.lock);
	while (n--) {
		while (table.turn != me)
			pthread_cond_wait(&table.turned[me], &table.lock);
		table.turn = !me;
		pthread_cond_signal(&table.turned[!me]);
	}
	pthread_mutex_unlock(&table.lock);
}

static void *play_second(void *n)
{
	play(1, (intptr_t)n);
	return NULL;
}

static void *play_first(void *n)
{
	play(0, (intptr_t)n);
	return NULL;
}

/* n round trips between two threads, while main only waits. */
static void ping_pong_batch(long n)
{
	pthread_t first, second;

	start(&first, play_first, (void *)(intptr_t)n);
	start(&second, play_second, (void *)(intptr_t)n);
	join(first);
	join(second);
}

static void ping_pong(long unused)
{
	(void)unused;
	printf("ping_pong %.1f\n", per_operation(ping_pong_batch));
}

/* ---- mutexes ---- */

static pthread_mutex_t the_lock = PTHREAD_MUTEX_INITIALIZER;
static volatile long the_counter; /* under the_lock */

static void *lock_and_unlock(void *n)
{
	for (long i = (intptr_t)n; i > 0; i--) {
		pthread_mutex_lock(&the_lock);
		pthread_mutex_unlock(&the_lock);
	}
	return NULL;
}

/* In a thread of its own: libc has a cheaper way while there is only one. */
static void uncontended_batch(long n)
{
	pthread_t thread;

	start(&thread, lock_and_unlock, (void *)(intptr_t)n);
	join(thread);
}

static void uncontended(long unused)
{
	(void)unused;
	printf("uncontended %.2f\n", per_operation(uncontended_batch));
}

static atomic_bool enough;

struct contender {
	_Alignas(64) pthread_t thread;
	long n; /* how often it had the lock; its own, until it is joined */
};

static void *contend(void *arg)
{
	struct contender *c = arg;
	long n = 0;

	while (!atomic_load_explicit(&enough, memory_order_relaxed)) {
		pthread_mutex_lock(&the_lock);
		the_counter++;
		pthread_mutex_unlock(&the_lock);
		n++;
	}
	c->n = n;
	return NULL;
}

/* Throughput, and Jain's index of fairness: 1 when all had the same share, 1/8 when one
 * had it all. */
static void contended(long unused)
{
	static struct contender contenders[N_CONTENDERS];
	double sum = 0, sum_of_squares = 0;

	(void)unused;
	ns_t begin = now();
	for (int i = 0; i < N_CONTENDERS; i++)
		start(&contenders[i].thread, contend, &contenders[i]);
	sleep_ns(CONTEND_NS);
	atomic_store(&enough, true);
	ns_t took = now() - begin;
	for (int i = 0; i < N_CONTENDERS; i++) {
		join(contenders[i].thread);
		sum += contenders[i].n;
		sum_of_squares += (double)contenders[i].n * contenders[i].n;
	}
	if (sum != the_counter) {
		fprintf(stderr, "bench: %.0f additions made %ld\n", sum, the_counter);
		exit(EXIT_FAILURE);
	}
	printf("contended %.3f\n", sum * 1e3 / took);
	printf("contended_fairness %.3f\n", sum * sum / (N_CONTENDERS * sum_of_squares));
}

/* ---- pipes ---- */

/* The token is the number of hops that are left. */
struct passer {
	int in, out;
};

static bool get_token(int fd, long *left)
{
	ssize_t n = read(fd, left, sizeof(*left));

	check(n < 0 ? errno : 0, "read");
	return n == sizeof(*left);
}

static void put_token(int fd, long left)
{
	check(write(fd, &left, sizeof(left)) < 0 ? errno : 0, "write");
}

static struct passer *ring; /* whose threads have no end */
static int last_hop[2];     /* a pipe to main: the token is used up */
static int first_pipe;      /* to the ring's first member */

static void *pass_on(void *arg)
{
	struct passer *p = arg;
	long left;

	while (get_token(p->in, &left))
		put_token(left > 0 ? p->out : last_hop[1], left - 1);
	return NULL;
}

static void make_ring(long n)
{
	struct rlimit limit;

	ring = calloc(n, sizeof(*ring));
	check(ring ? 0 : ENOMEM, "calloc");
	check(getrlimit(RLIMIT_NOFILE, &limit) ? errno : 0, "getrlimit");
	limit.rlim_cur = limit.rlim_max;
	check(setrlimit(RLIMIT_NOFILE, &limit) ? errno : 0, "setrlimit");
	check(pipe(last_hop) ? errno : 0, "pipe");
	for (long i = 0; i < n; i++) {
		int ends[2];
		check(pipe(ends) ? errno : 0, "pipe");
		ring[i].in = ends[0];
		ring[(i + n - 1) % n].out = ends[1];
	}
	first_pipe = ring[n - 1].out;
}

/* n hops, while main only waits. */
static void pass_batch(long n)
{
	long left;

	put_token(first_pipe, n - 1);
	get_token(last_hop[0], &left);
}

/* ns for each hop in a ring of so many threads. */
static double hops_in_ring(long n)
{
	pthread_attr_t attr;
	pthread_t thread;

	make_ring(n);
	with_small_stack(&attr);
	for (long i = 0; i < n; i++)
		check(pthread_create(&thread, &attr, pass_on, &ring[i]),
		      "pthread_create");
	return per_operation(pass_batch);
}

static void pipe_ping_pong(long unused)
{
	(void)unused;
	printf("pipe_ping_pong %.1f\n", 2 * hops_in_ring(2));
}

static void pipe_ring(long n)
{
	printf("pipe_ring %.1f\n", hops_in_ring(n));
}

/* ---- many sleeping ---- */

/* The number after a name at the start of a line, or 0. */
static long read_field(const char *path, const char *name)
{
	FILE *file = fopen(path, "r");
	char line[256];
	long value = 0;

	check(file ? 0 : errno, path);
	while (fgets(line, sizeof(line), file))
		if (!strncmp(line, name, strlen(name)))
			sscanf(line + strlen(name), "%ld", &value);
	fclose(file);
	return value;
}

/* What the process and, for its sake, the kernel hold, in KiB.  The last two are known
 * only for the whole machine: a noisy neighbour shows in them. */
struct memory {
	long rss, page_tables, kernel_stack, slab;
};

static struct memory memory_now(void)
{
	return (struct memory){
	    .rss = read_field("/proc/self/status", "VmRSS:"),
	    .page_tables = read_field("/proc/self/status", "VmPTE:"),
	    .kernel_stack = read_field("/proc/meminfo", "KernelStack:"),
	    .slab = read_field("/proc/meminfo", "Slab:"),
	};
}

static atomic_long n_asleep;

static void *sleeper(void *unused)
{
	atomic_fetch_add(&n_asleep, 1);
	for (;;)
		sleep_ns(3600 * 1000000000LL);
	return unused;
}

static long max_long(long a, long b)
{
	return a > b ? a : b;
}

/* Ends at n or where the system says EAGAIN; the figures are of those there are. */
static void sleepers(long n)
{
	pthread_attr_t attr;
	pthread_t thread;
	long n_created, peak = 0;

	with_small_stack(&attr);
	struct memory before = memory_now();
	ns_t begin = now();
	for (n_created = 0; n_created < n; n_created++) {
		int error = pthread_create(&thread, &attr, sleeper, NULL);
		if (error == EAGAIN)
			break;
		check(error, "pthread_create");
		if (n_created % 10000 == 0)
			peak =
			    max_long(peak, read_field("/proc/self/status", "Threads:"));
	}
	while (n_asleep < n_created)
		sleep_ns(1000000);
	ns_t took = now() - begin;
	check(n_created ? 0 : EAGAIN, "no sleepers");

	sleep_ns(SETTLE_NS);
	struct memory after = memory_now();
	double bytes = 1024.0 / n_created;
	double rss = (after.rss - before.rss) * bytes;
	double page_tables = (after.page_tables - before.page_tables) * bytes;
	double kernel_stack = (after.kernel_stack - before.kernel_stack) * bytes;
	double slab = (after.slab - before.slab) * bytes;
	peak = max_long(peak, read_field("/proc/self/status", "Threads:"));

	printf("sleepers %ld\n", n_created);
	printf("sleepers_create %.1f\n", (double)took / n_created);
	printf("sleepers_memory %.0f\n", rss + page_tables + kernel_stack + slab);
	printf("sleepers_rss %.0f\n", rss);
	printf("sleepers_page_tables %.0f\n", page_tables);
	printf("sleepers_kernel_stack %.0f\n", kernel_stack);
	printf("sleepers_slab %.0f\n", slab);
	printf("sleepers_kernel_threads %ld\n", peak);
}

/* ---- */

static const struct measurement {
	const char *name;
	void (*run)(long n);
	long n; /* if none is given */
} measurements[] = {
    {"create_join", create_join, 0},
    {"create_many", create_many, 10000},
    {"yield", yield, 0},
    {"ping_pong", ping_pong, 0},
    {"uncontended", uncontended, 0},
    {"contended", contended, 0},
    {"pipe_ping_pong", pipe_ping_pong, 0},
    {"pipe_ring", pipe_ring, 1000},
    {"sleepers", sleepers, 100000},
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc > 1 && i < sizeof(measurements) / sizeof(*measurements);
	     i++) {
		const struct measurement *m = &measurements[i];
		if (strcmp(m->name, argv[1]) != 0)
			continue;
		m->run(argc > 2 ? atol(argv[2]) : m->n);
		return fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
	}
	fprintf(stderr, "usage: bench MEASUREMENT [COUNT]\n");
	return EXIT_FAILURE;
}
