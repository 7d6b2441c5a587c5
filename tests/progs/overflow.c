/* SPDX-License-Identifier: MIT */
/*
 * overflow.c: threads that run into the end of their stack, catch that on an alternate
 * stack of their own, and go on.  Prints nothing; exit 0 or 1.
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { N_THREADS = 4, N_TIMES = 3, ALT_SIZE = 64 * 1024 };

static __thread sigjmp_buf back;
static __thread char *alternate;

static void on_fault(int sig)
{
	char here;

	(void)sig;
	siglongjmp(back, &here > alternate && &here < alternate + ALT_SIZE ? 1 : 2);
}

static int recurse(int depth)
{
	volatile char room[512];

	room[0] = depth;
	return recurse(depth + 1) + room[0];
}

static void *overflow(void *failed)
{
	stack_t stack = {.ss_size = ALT_SIZE};
	stack_t now;

	alternate = mmap(NULL, ALT_SIZE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	stack.ss_sp = alternate;
	if (sigaltstack(&stack, NULL) != 0)
		*(int *)failed = 1;
	for (int i = 0; i < N_TIMES; i++) {
		int how = sigsetjmp(back, 1);

		if (how == 0)
			recurse(0);
		if (how != 1 || sigaltstack(NULL, &now) != 0 || now.ss_sp != alternate)
			*(int *)failed = 1;
	}
	stack.ss_flags = SS_DISABLE;
	sigaltstack(&stack, NULL);
	munmap(alternate, ALT_SIZE);
	return NULL;
}

int main(void)
{
	struct sigaction act = {.sa_handler = on_fault, .sa_flags = SA_ONSTACK};
	pthread_t threads[N_THREADS];
	pthread_attr_t attr;
	int failed = 0;

	sigaction(SIGSEGV, &act, NULL);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 128 * 1024);
	for (int i = 0; i < N_THREADS; i++)
		if (pthread_create(&threads[i], &attr, overflow, &failed) != 0)
			exit(1);
	for (int i = 0; i < N_THREADS; i++)
		pthread_join(threads[i], NULL);
	if (failed)
		fprintf(
		    stderr,
		    "an overflow was not caught on the thread's own alternate stack\n");
	return failed;
}
