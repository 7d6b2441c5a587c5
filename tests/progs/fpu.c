/* SPDX-License-Identifier: MIT */
/*
 * fpu.c: the floating-point unit's state is each thread's own, and a handler's is fresh.
 */
#include <fenv.h>
#include <signal.h>
#include <stdint.h>

#include "check.h"

enum { N_THREADS = 64, RUN_MS = 300 };

static _Atomic bool over;

/* Holds values on the x87 stack all the time; what is computed with them is always the same. */
static void *compute(void *arg)
{
	long double factor = 1.0001L, one = 1;

	while (!over) {
		volatile long double x = one;

		for (int i = 0; i < 100; i++)
			x = x * factor;
		CHECK(x > 1.0100L && x < 1.0101L);
	}
	return arg;
}

/* Each value that is left on the stack by somebody else is one that does not fit any more. */
static void check_x87_is_empty(void)
{
	uint32_t env[7];

	__asm__ volatile("fnstenv %0" : "=m"(env));
	__asm__ volatile("fldenv %0" : : "m"(env));
	CHECK((env[2] & 0xffff) == 0xffff);
}

static void *visit(void *arg)
{
	check_x87_is_empty();
	sleep_ms(1);
	check_x87_is_empty();
	return arg;
}

static void x87_values(void)
{
	pthread_t threads[N_THREADS];
	long long end = now_ms() + RUN_MS;

	for (int i = 0; i < N_THREADS; i++)
		threads[i] = start(compute, NULL);
	while (now_ms() < end)
		join(start(visit, NULL));
	over = true;
	for (int i = 0; i < N_THREADS; i++)
		join(threads[i]);
}

static _Atomic int rounding_in_handler;

static void change_rounding(int sig)
{
	(void)sig;
	check_x87_is_empty();
	rounding_in_handler = fegetround();
	fesetround(FE_DOWNWARD);
	feraiseexcept(FE_DIVBYZERO);
}

static void check_after(void)
{
	CHECK(rounding_in_handler == FE_TONEAREST);
	CHECK(fegetround() == FE_UPWARD);
	CHECK(fetestexcept(FE_ALL_EXCEPT) == 0);
}

static void prepare(void)
{
	rounding_in_handler = -1;
	CHECK(fesetround(FE_UPWARD) == 0);
	CHECK(feclearexcept(FE_ALL_EXCEPT) == 0);
}

static void *raise_it(void *arg)
{
	prepare();
	CHECK(raise(SIGUSR1) == 0);
	check_after();
	return arg;
}

static void *let_it_in(void *arg)
{
	sigset_t set;

	prepare();
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	CHECK_OK(pthread_sigmask(SIG_BLOCK, &set, NULL));
	CHECK(raise(SIGUSR1) == 0);
	CHECK(rounding_in_handler == -1);
	CHECK_OK(pthread_sigmask(SIG_UNBLOCK, &set, NULL));
	check_after();
	return arg;
}

static _Atomic bool is_ready;

static void *get_it_computing(void *arg)
{
	prepare();
	is_ready = true;
	while (rounding_in_handler == -1)
		;
	check_after();
	return arg;
}

static void *get_it_sleeping(void *arg)
{
	prepare();
	is_ready = true;
	while (rounding_in_handler == -1)
		sleep_ms(1000);
	check_after();
	return arg;
}

static void send_to(void *(*routine)(void *))
{
	is_ready = false;
	pthread_t thread = start(routine, NULL);

	while (!is_ready)
		sleep_ms(1);
	sleep_ms(5);
	CHECK_OK(pthread_kill(thread, SIGUSR1));
	join(thread);
}

/* A handler begins as a new process does, and what it changes is undone, as by the kernel. */
static void in_handlers(void)
{
	struct sigaction act = {.sa_handler = change_rounding};

	CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
	in_thread(raise_it, NULL);
	in_thread(let_it_in, NULL);
	send_to(get_it_computing);
	send_to(get_it_sleeping);
	raise_it(NULL);
}

int main(int argc, char **argv)
{
	const struct test_case cases[] = {
	    {"x87-values", x87_values},
	    {"in-handlers", in_handlers},
	};

	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
