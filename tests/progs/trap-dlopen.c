/* SPDX-License-Identifier: MIT */
/*
 * trap-dlopen.c LIBRARY: threads that were there before a library was loaded find its
 * thread-locals as they should be.  With -DLIBRARY this is that library.
 */
#ifdef LIBRARY

#ifdef INITIAL_EXEC
#define MODEL __attribute__((tls_model("initial-exec")))
#else
#define MODEL
#endif

__thread int value MODEL = 42;
static __thread char zeroed[200] MODEL;

int *library_value(void);
char *library_zeroed(void);

int *library_value(void)
{
	return &value;
}

char *library_zeroed(void)
{
	return zeroed;
}

#else

#include <dlfcn.h>
#include <stdint.h>

#include "check.h"

enum {
	N_PARKED = 8,
	N_SLEEPING = 4,
	N_COMPUTING = 4,
	N = N_PARKED + N_SLEEPING + N_COMPUTING
};
enum { N_ROUNDS = 6 };

static const char *path;
static int *(*library_value)(void);
static char *(*library_zeroed)(void);

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER,
		      all_ready = PTHREAD_COND_INITIALIZER;
static _Atomic int round_open; /* the last round whose library is loaded; mutex */
static int n_ready, n_done;
static int *address_of[N];

static void look(int me)
{
	int *v = library_value();
	char *z = library_zeroed();

	CHECK(*v == 42);
	for (int i = 0; i < 200; i++)
		CHECK(z[i] == 0);
	*v = me;
	memset(z, me + 1, 200);
	address_of[me] = v;
	sleep_ms(1);
	sched_yield();
	CHECK(library_value() == v && *v == me && z[199] == me + 1);
}

static void wait_for(int me, int round)
{
	if (me < N_PARKED) {
		CHECK_OK(pthread_mutex_lock(&mutex));
		while (round_open < round)
			CHECK_OK(pthread_cond_wait(&cond, &mutex));
		CHECK_OK(pthread_mutex_unlock(&mutex));
	} else if (me < N_PARKED + N_SLEEPING) {
		while (round_open < round)
			sleep_ms(1);
	} else {
		while (round_open < round)
			;
	}
}

static void *live(void *arg)
{
	int me = (int)(intptr_t)arg;

	for (int round = 1; round <= N_ROUNDS; round++) {
		CHECK_OK(pthread_mutex_lock(&mutex));
		n_ready++;
		CHECK_OK(pthread_cond_broadcast(&all_ready));
		CHECK_OK(pthread_mutex_unlock(&mutex));
		wait_for(me, round);
		look(me);
		CHECK_OK(pthread_mutex_lock(&mutex));
		n_done++;
		CHECK_OK(pthread_cond_broadcast(&all_ready));
		CHECK_OK(pthread_mutex_unlock(&mutex));
	}
	return NULL;
}

static void wait_until(const int *count, int n)
{
	CHECK_OK(pthread_mutex_lock(&mutex));
	while (*count < n)
		CHECK_OK(pthread_cond_wait(&all_ready, &mutex));
	CHECK_OK(pthread_mutex_unlock(&mutex));
}

static void *fresh(void *arg)
{
	CHECK(*library_value() == 42);
	*library_value() = 0;
	return arg;
}

static void *load(void *arg)
{
	void *library = dlopen(path, RTLD_NOW);

	(void)arg;
	if (library == NULL)
		fprintf(stderr, "%s\n", dlerror());
	CHECK(library != NULL);
	library_value = (int *(*)(void))dlsym(library, "library_value");
	library_zeroed = (char *(*)(void))dlsym(library, "library_zeroed");
	CHECK(library_value != NULL && library_zeroed != NULL);
	return library;
}

int main(int argc, char **argv)
{
	pthread_t threads[N];

	CHECK(argc == 2);
	path = argv[1];
	for (int i = 0; i < N; i++)
		threads[i] = start(live, (void *)(intptr_t)i);
	for (int round = 1; round <= N_ROUNDS; round++) {
		void *library;

		wait_until(&n_ready, round * N);
		library = round % 2 ? load(NULL) : in_thread(load, NULL);
		CHECK(*library_value() == 42);
		in_thread(fresh, NULL);
		in_thread(fresh, NULL); /* with what the one before left */
		CHECK_OK(pthread_mutex_lock(&mutex));
		round_open = round;
		CHECK_OK(pthread_cond_broadcast(&cond));
		CHECK_OK(pthread_mutex_unlock(&mutex));
		wait_until(&n_done, round * N);
		for (int i = 0; i < N; i++)
			for (int j = 0; j < i; j++)
				CHECK(address_of[i] != address_of[j]);
		CHECK(dlclose(library) == 0);
		CHECK(dlopen(path, RTLD_NOW | RTLD_NOLOAD) == NULL);
	}
	for (int i = 0; i < N; i++)
		join(threads[i]);
	return 0;
}

#endif
