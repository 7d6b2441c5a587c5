/* SPDX-License-Identifier: MIT */
/*
 * jump.c: threads that recover from faults, time and again, by siglongjmp out of the
 * handler: the mask that sigsetjmp saved is back each time.  Prints nothing; exit 0 or 1.
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { N_THREADS = 8, N_FAULTS = 200 };

static __thread sigjmp_buf back;
static char *forbidden;

static void on_fault(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	siglongjmp(back, info->si_addr == forbidden ? 1 : 2);
}

static int is_blocked(int sig)
{
	sigset_t mask;

	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	return sigismember(&mask, sig);
}

static void *recover(void *failed)
{
	for (int i = 0; i < N_FAULTS; i++) {
		int how = sigsetjmp(back, 1);

		if (how == 0)
			*(volatile char *)forbidden = 1;
		if (how != 1 || is_blocked(SIGSEGV) || is_blocked(SIGUSR1))
			*(int *)failed = 1;
	}
	return NULL;
}

int main(void)
{
	struct sigaction act = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
	pthread_t threads[N_THREADS];
	int failed = 0;

	forbidden = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	sigaddset(&act.sa_mask, SIGUSR1);
	sigaction(SIGSEGV, &act, NULL);
	for (int i = 0; i < N_THREADS; i++)
		if (pthread_create(&threads[i], NULL, recover, &failed) != 0)
			exit(1);
	for (int i = 0; i < N_THREADS; i++)
		pthread_join(threads[i], NULL);
	if (failed)
		fprintf(stderr,
			"a thread came back with a wrong mask, or from nowhere\n");
	return failed;
}
