/* SPDX-License-Identifier: MIT */
/*
 * many.c N: N threads alive at once, each with thread-locals, errno and keys of its own,
 * which it finds again after a wait.  Tells what a thread costs, on stderr.
 */
#include <semaphore.h>

#include "check.h"

enum { N_KEYS = 3, STACK_SIZE = 64 * 1024, KERNEL_STACK_KIB = 16 };

static __thread int own = 42;
static __thread int own_zero;
static pthread_key_t keys[N_KEYS];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t all_here = PTHREAD_COND_INITIALIZER;
static pthread_cond_t go_on = PTHREAD_COND_INITIALIZER;
static sem_t gate;
static int n_threads, n_here;
static bool may_go;

static void arrive(void)
{
	pthread_mutex_lock(&mutex);
	if (++n_here == n_threads)
		pthread_cond_signal(&all_here);
	pthread_mutex_unlock(&mutex);
}

/* Half of them wait at a condition variable, half at a semaphore. */
static void wait_here(int number)
{
	arrive();
	if (number % 2 == 0) {
		while (sem_wait(&gate) != 0)
			CHECK(errno == EINTR);
		return;
	}
	pthread_mutex_lock(&mutex);
	while (!may_go)
		pthread_cond_wait(&go_on, &mutex);
	pthread_mutex_unlock(&mutex);
}

static void *thread_key(int number, int key)
{
	return (void *)(intptr_t)(number * N_KEYS + key + 1);
}

static void *live(void *arg)
{
	int number = (int)(intptr_t)arg;
	pthread_t self = pthread_self();

	CHECK(own == 42 && own_zero == 0 && errno == 0);
	for (int k = 0; k < N_KEYS; k++)
		CHECK(pthread_getspecific(keys[k]) == NULL);
	own = own_zero = number;
	for (int k = 0; k < N_KEYS; k++)
		CHECK_OK(pthread_setspecific(keys[k], thread_key(number, k)));
	errno = 1000 + number % 1000;

	wait_here(number);

	CHECK(errno == 1000 + number % 1000);
	CHECK(own == number && own_zero == number && pthread_self() == self);
	for (int k = 0; k < N_KEYS; k++)
		CHECK(pthread_getspecific(keys[k]) == thread_key(number, k));
	return arg;
}

/* KiB that the process takes of the machine, kernel stacks included. */
static long memory_kib(long *n_kernel_threads)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[256];
	long rss = 0, page_tables = 0;

	CHECK(f != NULL);
	*n_kernel_threads = 0;
	while (fgets(line, sizeof(line), f) != NULL) {
		sscanf(line, "VmRSS: %ld", &rss);
		sscanf(line, "VmPTE: %ld", &page_tables);
		sscanf(line, "Threads: %ld", n_kernel_threads);
	}
	fclose(f);
	return rss + page_tables + *n_kernel_threads * KERNEL_STACK_KIB;
}

static void tell_cost(long before)
{
	long n_kernel_threads, after = memory_kib(&n_kernel_threads);

	fprintf(stderr, "%ld kernel threads\n", n_kernel_threads);
	fprintf(stderr, "%ld bytes per thread\n", (after - before) * 1024 / n_threads);
}

static void create_all(pthread_t *threads)
{
	pthread_attr_t attr;

	CHECK_OK(pthread_attr_init(&attr));
	CHECK_OK(pthread_attr_setstacksize(&attr, STACK_SIZE));
	for (intptr_t i = 0; i < n_threads; i++)
		CHECK_OK(pthread_create(&threads[i], &attr, live, (void *)i));
	CHECK_OK(pthread_attr_destroy(&attr));
}

static void release_all(void)
{
	pthread_mutex_lock(&mutex);
	may_go = true;
	pthread_cond_broadcast(&go_on);
	pthread_mutex_unlock(&mutex);
	for (int i = 0; i < n_threads; i += 2)
		CHECK(sem_post(&gate) == 0);
}

int main(int argc, char **argv)
{
	long n_kernel_threads, before;
	pthread_t *threads;

	n_threads = argc > 1 ? atoi(argv[1]) : 1000;
	threads = calloc(n_threads, sizeof(*threads));
	CHECK(threads != NULL);
	memset(threads, 1, n_threads * sizeof(*threads)); /* no part of a thread's cost */
	CHECK(sem_init(&gate, 0, 0) == 0);
	for (int k = 0; k < N_KEYS; k++)
		CHECK_OK(pthread_key_create(&keys[k], NULL));
	before = memory_kib(&n_kernel_threads);

	create_all(threads);
	pthread_mutex_lock(&mutex);
	while (n_here < n_threads)
		pthread_cond_wait(&all_here, &mutex);
	pthread_mutex_unlock(&mutex);
	tell_cost(before);
	release_all();
	for (intptr_t i = 0; i < n_threads; i++)
		CHECK(join(threads[i]) == (void *)i);
	free(threads);
	printf("%d threads, each as it was\n", n_threads);
	return 0;
}
