/* SPDX-License-Identifier: MIT */
/*
 * crowd.c: many threads block at once, in a program where no thread has before, each in a
 * read of a pipe of its own.  Prints how many kernel threads that took.
 */
#include <dirent.h>

#include "check.h"

enum { N = 64 };

static pthread_barrier_t all_here;
static int pipes[N][2];

static void *reader(void *arg)
{
	const int *ends = arg;
	char byte;

	pthread_barrier_wait(&all_here);
	CHECK(read(ends[0], &byte, 1) == 1);
	return NULL;
}

static int kernel_threads(void)
{
	DIR *dir = opendir("/proc/self/task");
	int n = 0;

	CHECK(dir != NULL);
	for (struct dirent *e; (e = readdir(dir)) != NULL;)
		n += e->d_name[0] != '.';
	closedir(dir);
	return n;
}

int main(void)
{
	pthread_t threads[N];

	pthread_barrier_init(&all_here, NULL, N + 1);
	for (int i = 0; i < N; i++) {
		CHECK(pipe(pipes[i]) == 0);
		threads[i] = start(reader, pipes[i]);
	}
	pthread_barrier_wait(&all_here);
	/* Those that were too many stay for a second. */
	sleep_ms(200);
	printf("%d\n", kernel_threads());
	for (int i = 0; i < N; i++) {
		CHECK(write(pipes[i][1], "", 1) == 1);
		join(threads[i]);
	}
	return 0;
}
