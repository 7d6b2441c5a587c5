/* SPDX-License-Identifier: MIT */
/*
 * trap-malloc.c [LIBRARY]: threads that allocate, and free what others allocated.  malloc
 * must be that of the file whose name begins with LIBRARY.
 */
#include <dlfcn.h>
#include <stdint.h>

#include "check.h"

enum { N_THREADS = 24, N_ROUNDS = 3000, N_SHARED = 64 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct block {
	size_t size;
	unsigned char bytes[];
} * shared[N_SHARED];

static struct block *new_block(unsigned seed)
{
	size_t size = seed % 64 == 0 ? 100000 : 16 + seed % 2000;
	struct block *b = malloc(sizeof(*b) + size);

	CHECK(b != NULL);
	b->size = size;
	memset(b->bytes, (int)(size & 0xff), size);
	return b;
}

static void check_and_free(struct block *b)
{
	if (b == NULL)
		return;
	for (size_t i = 0; i < b->size; i += 61)
		CHECK(b->bytes[i] == (b->size & 0xff));
	free(b);
}

static void *work(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg * 2654435761U + 1;

	for (int i = 0; i < N_ROUNDS; i++) {
		struct block *mine, *old;

		seed = seed * 1103515245 + 12345;
		mine = new_block(seed >> 8);
		CHECK_OK(pthread_mutex_lock(&mutex));
		old = shared[seed >> 16 & (N_SHARED - 1)];
		shared[seed >> 16 & (N_SHARED - 1)] = mine;
		CHECK_OK(pthread_mutex_unlock(&mutex));
		check_and_free(old);
		if (i % 500 == 0)
			sleep_ms(1);
	}
	return arg;
}

int main(int argc, char **argv)
{
	pthread_t threads[N_THREADS];

	if (argc > 1) {
		Dl_info info;
		void *p = dlsym(RTLD_DEFAULT, "malloc");

		CHECK(p != NULL && dladdr(p, &info) != 0);
		if (strstr(info.dli_fname, argv[1]) == NULL) {
			fprintf(stderr, "malloc is of %s\n", info.dli_fname);
			return 1;
		}
	}
	for (int round = 0; round < 3; round++) {
		for (uintptr_t i = 0; i < N_THREADS; i++)
			threads[i] = start(work, (void *)i);
		for (int i = 0; i < N_THREADS; i++)
			join(threads[i]);
	}
	for (int i = 0; i < N_SHARED; i++)
		check_and_free(shared[i]);
	return 0;
}
