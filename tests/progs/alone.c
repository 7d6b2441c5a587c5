/* SPDX-License-Identifier: MIT */
/*
 * alone.c: stacks that a program switches itself, and processes that threads bring forth:
 * coroutines of makecontext in threads, forks among thousands of threads, daemon().
 */
#include <stdint.h>
#include "check.h"
#include <ucontext.h>
#include <semaphore.h>
#include <signal.h>
struct co {
	ucontext_t self, back;
	int n;
	char stack[32768];
};
static void body(unsigned lo, unsigned hi)
{
	struct co *c = (void *)((uintptr_t)lo | (uintptr_t)hi << 32);
	for (;;) {
		c->n++;
		errno = c->n;
		if (c->n % 7 == 0)
			sleep_ms(1);
		if (c->n % 5 == 0)
			sched_yield();
		CHECK(errno == c->n || c->n % 7 == 0 || c->n % 5 == 0);
		swapcontext(&c->self, &c->back);
	}
}
static void *coro(void *a)
{
	struct co *c[3];
	for (int i = 0; i < 3; i++) {
		c[i] = calloc(1, sizeof(struct co));
		getcontext(&c[i]->self);
		c[i]->self.uc_stack.ss_sp = c[i]->stack;
		c[i]->self.uc_stack.ss_size = sizeof c[i]->stack;
		makecontext(&c[i]->self, (void (*)(void))body, 2,
			    (unsigned)(uintptr_t)c[i], (unsigned)((uintptr_t)c[i] >> 32));
	}
	volatile double x = 1;
	for (int r = 0; r < 200; r++) {
		for (int i = 0; i < 3; i++)
			swapcontext(&c[i]->back, &c[i]->self);
		for (int k = 0; k < 2000; k++)
			x = x * 1.0000001;
	}
	for (int i = 0; i < 3; i++)
		CHECK(c[i]->n == 200);
	return a;
}
static void coroutines(void)
{
	pthread_t t[30];
	for (int i = 0; i < 30; i++)
		t[i] = start(coro, 0);
	for (int i = 0; i < 30; i++)
		join(t[i]);
}
static sem_t sem;
static void *park(void *a)
{
	sem_wait(&sem);
	return a;
}
static void *forker(void *a)
{
	for (int k = 0; k < 5; k++) {
		pid_t p = fork();
		if (p == 0) {
			pthread_t t[50];
			for (int i = 0; i < 50; i++)
				t[i] = start(do_nothing, (void *)(long)i);
			for (int i = 0; i < 50; i++)
				CHECK(join(t[i]) == (void *)(long)i);
			if (k == 2) {
				pid_t q = fork();
				if (q == 0) {
					in_thread(do_nothing, 0);
					_exit(3);
				}
				int st;
				CHECK(waitpid(q, &st, 0) == q && WEXITSTATUS(st) == 3);
			}
			exit(0);
		}
		int st;
		CHECK(waitpid(p, &st, 0) == p);
		CHECK(st == 0);
	}
	return a;
}
static void forks(void)
{
	enum { N = 4000 };
	static pthread_t t[N];
	pthread_attr_t at;
	pthread_attr_init(&at);
	pthread_attr_setstacksize(&at, 65536);
	sem_init(&sem, 0, 0);
	for (int i = 0; i < N; i++)
		CHECK_OK(pthread_create(&t[i], &at, park, 0));
	pthread_t f[4];
	for (int i = 0; i < 4; i++)
		f[i] = start(forker, 0);
	for (int i = 0; i < 4; i++)
		join(f[i]);
	forker(0);
	for (int i = 0; i < N; i++)
		sem_post(&sem);
	for (int i = 0; i < N; i++)
		join(t[i]);
}
static void *adaemon(void *a)
{
	int fds[2];
	CHECK(pipe(fds) == 0);
	pid_t p = fork();
	if (p == 0) {
		CHECK(daemon(1, 1) == 0);
		in_thread(do_nothing, 0);
		pthread_t t[20];
		for (int i = 0; i < 20; i++)
			t[i] = start(coro, 0);
		for (int i = 0; i < 20; i++)
			join(t[i]);
		CHECK(write(fds[1], "k", 1) == 1);
		exit(0);
	}
	int st;
	char c = 0;
	waitpid(p, &st, 0);
	CHECK(st == 0);
	CHECK(read(fds[0], &c, 1) == 1 && c == 'k');
	return a;
}
static void daemons(void)
{
	in_thread(adaemon, 0);
	in_thread(adaemon, 0);
	adaemon(0);
}
int main(int c, char **v)
{
	static const struct test_case cs[] = {
	    {"coroutines", coroutines}, {"forks", forks}, {"daemons", daemons}};
	return run_case(c, v, cs, 3);
}
