/* SPDX-License-Identifier: MIT */
/*
 * trap-life.c CASE: what libc does at a thread's beginning and end, and what a thread may
 * ask about its own stack.
 */
#include <alloca.h>
#include <ctype.h>
#include <dlfcn.h>
#include <locale.h>
#include <netdb.h>
#include <resolv.h>
#include <signal.h>
#include <stdint.h>
#include <sys/socket.h>

#include "check.h"

/* --- a fresh thread's state ------------------------------------------------------------- */

static __thread int initialised = 7;
static __thread char zeroed[3000];

/* Everything as in a thread that has just begun; leaves it otherwise. */
static void *look_and_soil(void *arg)
{
	locale_t own = newlocale(LC_ALL_MASK, "C", NULL);

	CHECK(errno == 0);
	CHECK(h_errno == 0);
	CHECK(uselocale(NULL) == LC_GLOBAL_LOCALE);
	CHECK(isalpha('a') && !isalpha('1') && toupper('x') == 'X' &&
	      tolower('X') == 'x');
	CHECK(_res.options == 0);
	CHECK(dlerror() == NULL);
	CHECK(initialised == 7);
	for (size_t i = 0; i < sizeof(zeroed); i++)
		CHECK(zeroed[i] == 0);

	CHECK(own != NULL);
	uselocale(own);
	CHECK(res_init() == 0);
	_res.options |= RES_ROTATE;
	_res.retry = 4;
	initialised = 8;
	memset(zeroed, 1, sizeof(zeroed));
	CHECK(dlopen("/nonexistent", RTLD_NOW) == NULL); /* told of by nobody */
	h_errno = HOST_NOT_FOUND;
	errno = EDOM;
	return arg;
}

static void fresh(void)
{
	pthread_t threads[16];

	/* One by one they use what the one before left; then several at once. */
	for (int i = 0; i < 50; i++)
		in_thread(look_and_soil, NULL);
	for (int round = 0; round < 5; round++) {
		for (int i = 0; i < 16; i++)
			threads[i] = start(look_and_soil, NULL);
		for (int i = 0; i < 16; i++)
			join(threads[i]);
	}
}

/* --- the resolver's state ---------------------------------------------------------------- */

static pthread_barrier_t barrier;
static struct __res_state *states[8];

static void *own_resolver(void *arg)
{
	int me = (int)(intptr_t)arg;
	struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *info;

	states[me] = &_res;
	CHECK(res_init() == 0);
	_res.retry = me + 10;
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < 8; i++)
		CHECK(i == me || states[i] != states[me]);
	CHECK(_res.retry == me + 10);
	CHECK(&_res == states[me]);
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < 20; i++) {
		CHECK(getaddrinfo("127.0.0.1", "80", &hints, &info) == 0);
		CHECK(info->ai_addrlen == sizeof(struct sockaddr_in));
		freeaddrinfo(info);
		CHECK(getaddrinfo("localhost", NULL, &hints, &info) == 0);
		freeaddrinfo(info);
	}
	CHECK(_res.retry == me + 10);
	return NULL;
}

static void resolver(void)
{
	pthread_t threads[8];
	struct __res_state *mine = &_res;

	CHECK(res_init() == 0);
	_res.retry = 9;
	CHECK_OK(pthread_barrier_init(&barrier, NULL, 8));
	for (int i = 0; i < 8; i++)
		threads[i] = start(own_resolver, (void *)(intptr_t)i);
	for (int i = 0; i < 8; i++)
		join(threads[i]);
	for (int i = 0; i < 8; i++)
		CHECK(states[i] != mine);
	CHECK(_res.retry == 9 && &_res == mine);
}

/* --- keys ---------------------------------------------------------------------------------- */

enum { N_KEYS = 40 }; /* libc has 32 in the TCB, and more elsewhere */
static pthread_key_t keys[N_KEYS];
static __thread int my_number;

static void ends(void *value)
{
	uintptr_t i = (uintptr_t)value % 100, rounds = (uintptr_t)value / 100;

	CHECK(pthread_getspecific(keys[i]) == NULL);
	printf("%d: key %d, %d to go\n", my_number, (int)i, (int)rounds);
	if (rounds > 0)
		CHECK_OK(pthread_setspecific(keys[i], (void *)(i + 100 * (rounds - 1))));
	sched_yield(); /* the thread still lives as any other */
	CHECK(my_number != 0);
}

static void *use_keys(void *arg)
{
	my_number = (int)(intptr_t)arg;
	for (int i = N_KEYS - 1; i > 0; i--)
		CHECK(pthread_getspecific(keys[i]) == NULL);
	/* For ever: PTHREAD_DESTRUCTOR_ITERATIONS ends it. */
	CHECK_OK(pthread_setspecific(keys[5], (void *)(5UL + 100 * 50)));
	for (uintptr_t i = N_KEYS - 1; i > 0; i -= 3)
		CHECK_OK(pthread_setspecific(keys[i], (void *)(i + 100 * (i % 2))));
	if (my_number == 2)
		pthread_exit(NULL);
	return NULL;
}

static void key_destructors(void)
{
	for (int i = 0; i < N_KEYS; i++)
		CHECK_OK(pthread_key_create(&keys[i], i == 33 ? NULL : ends));
	for (int i = 1; i <= 3; i++)
		in_thread(use_keys, (void *)(intptr_t)i);
	fflush(stdout);
}

static _Atomic int step;

static void wait_for_step(int n)
{
	while (step < n)
		sched_yield();
}

static void never(void *value)
{
	CHECK(value == NULL);
}

static void *keep_value(void *arg)
{
	CHECK_OK(pthread_setspecific(keys[0], &keys));
	step = 1;
	wait_for_step(2);
	CHECK(pthread_getspecific(keys[1]) == NULL);
	return arg;
}

/* A deleted key's values have no destructor, and are not the next key's. */
static void key_deleted(void)
{
	pthread_t thread;

	CHECK_OK(pthread_key_create(&keys[0], never));
	thread = start(keep_value, NULL);
	wait_for_step(1);
	CHECK_OK(pthread_key_delete(keys[0]));
	CHECK_OK(pthread_key_create(&keys[1], never));
	CHECK(keys[0] == keys[1]);
	step = 2;
	join(thread);
}

/* --- stacks -------------------------------------------------------------------------------- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static bool over;
static void *_Atomic local_of[4], *_Atomic handler_of[4];
static __thread int my_index;

static void in_handler(int sig)
{
	volatile char local = (char)sig;

	/* Only compared, never followed. */
	handler_of[my_index] = (void *)&local;
} /* NOLINT(clang-analyzer-core.StackAddressEscape) */

static void *park(void *arg)
{
	volatile char local = 0;
	char *below = alloca(200 * 1024);

	my_index = (int)(intptr_t)arg;
	below[0] = local;
	CHECK_OK(pthread_mutex_lock(&mutex));
	local_of[my_index] = below; /* under it lies what the wait has on the stack */
	while (!over)
		CHECK_OK(pthread_cond_wait(&cond, &mutex));
	CHECK_OK(pthread_mutex_unlock(&mutex));
	return arg; /* NOLINT(clang-analyzer-core.StackAddressEscape) */
}

static bool covers(pthread_t thread, const void *p)
{
	pthread_attr_t attr;
	void *low;
	size_t size;

	CHECK_OK(pthread_getattr_np(thread, &attr));
	CHECK_OK(pthread_attr_getstack(&attr, &low, &size));
	CHECK_OK(pthread_attr_destroy(&attr));
	return (const char *)p >= (char *)low && (const char *)p < (char *)low + size;
}

static void *covers_own(void *arg)
{
	volatile char local = 0;

	CHECK(covers(pthread_self(), (void *)&local));
	return arg;
}

/* What collectors do: signal each thread, and look at all of its stack. */
static void stack_of_parked(void)
{
	pthread_t threads[4];
	volatile char local = 0;
	struct sigaction sa = {.sa_handler = in_handler, .sa_flags = SA_RESTART};

	CHECK(sigaction(SIGUSR1, &sa, NULL) == 0);
	for (int i = 0; i < 4; i++)
		threads[i] = start(park, (void *)(intptr_t)i);
	for (int i = 0; i < 4; i++) {
		while (local_of[i] == NULL)
			sched_yield();
		CHECK_OK(pthread_mutex_lock(&mutex)); /* it has let go of it: it waits */
		CHECK_OK(pthread_mutex_unlock(&mutex));
	}
	in_thread(covers_own, NULL);
	CHECK(covers(pthread_self(), (void *)&local));
	for (int i = 0; i < 4; i++) {
		CHECK_OK(pthread_kill(threads[i], SIGUSR1));
		for (long long begun = now_ms(); handler_of[i] == NULL;) {
			CHECK(now_ms() - begun < 10000);
			sched_yield();
		}
		for (int j = 0; j < 4; j++) {
			CHECK(covers(threads[j], local_of[i]) == (i == j));
			CHECK(covers(threads[j], handler_of[i]) == (i == j));
		}
		CHECK(!covers(pthread_self(), local_of[i]));
		CHECK((char *)handler_of[i] < (char *)local_of[i]);
	}
	CHECK_OK(pthread_mutex_lock(&mutex));
	over = true;
	CHECK_OK(pthread_cond_broadcast(&cond));
	CHECK_OK(pthread_mutex_unlock(&mutex));
	for (int i = 0; i < 4; i++)
		join(threads[i]);
}

static __attribute__((noinline)) unsigned recurse(unsigned depth)
{
	volatile unsigned char frame[1000];

	memset((void *)frame, (int)(depth & 0xff), sizeof(frame));
	if (depth % 512 == 0)
		sched_yield();
	unsigned below = depth == 0 ? 0 : recurse(depth - 1);
	for (size_t i = 0; i < sizeof(frame); i += 99)
		CHECK(frame[i] == (depth & 0xff));
	return below + frame[depth % sizeof(frame)];
}

static void *deep(void *arg)
{
	enum { DEPTH = 6500, BIG = 200 * 1024 }; /* some 7 of 8 MiB */
	unsigned expected = 0;

	for (unsigned i = 0; i <= DEPTH; i++)
		expected += i & 0xff;
	for (int round = 0; round < 3; round++) {
		unsigned char *big = alloca(BIG);

		memset(big, round, BIG);
		sched_yield();
		CHECK(recurse(DEPTH) == expected);
		for (int i = 0; i < BIG; i++)
			CHECK(big[i] == round);
	}
	return arg;
}

static void deep_stacks(void)
{
	pthread_t threads[8];

	for (int i = 0; i < 8; i++)
		threads[i] = start(deep, NULL);
	for (int i = 0; i < 8; i++)
		join(threads[i]);
}

int main(int argc, char **argv)
{
	const struct test_case cases[] = {
	    {"fresh", fresh},
	    {"resolver", resolver},
	    {"key-destructors", key_destructors},
	    {"key-deleted", key_deleted},
	    {"stack-of-parked", stack_of_parked},
	    {"deep-stacks", deep_stacks},
	};

	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
