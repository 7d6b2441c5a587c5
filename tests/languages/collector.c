/* SPDX-License-Identifier: MIT */
/*
 * collector.c: the Boehm collector: threads that allocate lists while others wait with the
 * only pointers to theirs on their stacks and in registers.
 */
#define GC_THREADS
#include <gc.h>
#include <poll.h>
#include <semaphore.h>

#include "../progs/check.h" /* its threads too are the collector's: GC_THREADS */

struct node {
	struct node *next;
	long value;
};

static struct node *list_of(long n)
{
	struct node *list = NULL;

	for (long i = 0; i < n; i++) {
		struct node *node = GC_MALLOC(sizeof(*node));

		node->next = list;
		node->value = i;
		list = node;
	}
	return list;
}

static void check_list(const struct node *list, long n)
{
	for (; n > 0; n--, list = list->next)
		CHECK(list != NULL && list->value == n - 1);
	CHECK(list == NULL);
}

enum { N_WAITING = 30, N_ALLOCATING = 10 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static sem_t sem;
static int pipe_fds[2];
static atomic_int n_waiting;
static atomic_bool over;

static void *wait_with_list(void *arg)
{
	int kind = (int)(long)arg % 5;
	struct node *list = list_of(200);
	struct pollfd fd = {.fd = pipe_fds[0], .events = POLLIN};
	char c;

	n_waiting++;
	if (kind == 0) {
		pthread_mutex_lock(&mutex);
		while (!over)
			pthread_cond_wait(&cond, &mutex);
		pthread_mutex_unlock(&mutex);
	} else if (kind == 1) {
		while (sem_wait(&sem) != 0)
			;
	} else if (kind == 2) {
		CHECK(read(pipe_fds[0], &c, 1) == 0);
	} else if (kind == 3) {
		while (poll(&fd, 1, -1) < 0)
			;
	} else {
		while (!over)
			usleep(1000);
	}
	check_list(list, 200);
	return list;
}

static void *allocate(void *arg)
{
	for (int round = 0; round < 30; round++) {
		struct node *list = list_of(300);
		struct node *volatile other = list_of(50);

		for (int i = 0; i < 20; i++)
			CHECK(GC_MALLOC_ATOMIC(1000) != NULL);
		check_list(list, 300);
		check_list(other, 50);
		if (round % 10 == 0)
			GC_gcollect();
	}
	return arg;
}

static void *compute(void *arg)
{
	struct node *list = list_of(100);
	double x = 1;

	while (!over)
		for (int i = 0; i < 10000; i++)
			x = x * 1.0000001;
	check_list(list, 100);
	return x > 0 ? arg : NULL;
}

int main(void)
{
	pthread_t waiting[N_WAITING], allocating[N_ALLOCATING], computing[2];

	GC_INIT();
	CHECK(sem_init(&sem, 0, 0) == 0 && pipe(pipe_fds) == 0);
	for (long i = 0; i < N_WAITING; i++)
		waiting[i] = start(wait_with_list, (void *)i);
	for (int i = 0; i < 2; i++)
		computing[i] = start(compute, NULL);
	while (n_waiting < N_WAITING)
		sleep_ms(1);
	for (long i = 0; i < N_ALLOCATING; i++)
		allocating[i] = start(allocate, (void *)i);
	for (int i = 0; i < N_ALLOCATING; i++)
		join(allocating[i]);
	for (int i = 0; i < 5; i++)
		GC_gcollect();
	pthread_mutex_lock(&mutex);
	over = true;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&mutex);
	for (int i = 0; i < N_WAITING; i++)
		sem_post(&sem);
	close(pipe_fds[1]);
	for (int i = 0; i < 2; i++)
		join(computing[i]);
	for (int i = 0; i < N_WAITING; i++)
		check_list(join(waiting[i]), 200);
	CHECK(GC_get_gc_no() > 5);
	puts("collected");
	return 0;
}
