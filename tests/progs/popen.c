/* SPDX-License-Identifier: MIT */
/*
 * popen.c CASE: popen() beside cancels, forks and pipes of libc's own.  Its malloc has a lock
 * that is held over a fork, as jemalloc's.
 */
#include "check.h"

/* --- an allocator with a lock ------------------------------------------------------------ */

void *__libc_malloc(size_t size);

static pthread_mutex_t allocator = PTHREAD_MUTEX_INITIALIZER;
static _Atomic bool is_allocating, is_forking;
/* The call of malloc, counted down, in which this thread is overtaken by a fork. */
static __thread int overtaken_in;

void *malloc(size_t size)
{
	if (overtaken_in != 0 && --overtaken_in == 0) {
		is_allocating = true;
		while (!is_forking)
			sleep_ms(1);
	}
	pthread_mutex_lock(&allocator);
	void *p = __libc_malloc(size);
	pthread_mutex_unlock(&allocator);
	return p;
}

static void fork_begins(void)
{
	pthread_mutex_lock(&allocator);
	is_forking = true;
}

static void fork_is_over(void)
{
	pthread_mutex_unlock(&allocator);
}

/* --- the cases --------------------------------------------------------------------------- */

static void use_popen(void)
{
	char line[16] = "";
	FILE *f = popen("echo hello", "r");

	CHECK(f != NULL && fgets(line, sizeof(line), f) != NULL);
	CHECK(strcmp(line, "hello\n") == 0 && pclose(f) == 0);
}

static void *open_overtaken(void *arg)
{
	/* The first may be before anything is held. */
	overtaken_in = 2;
	use_popen();
	overtaken_in = 0;
	return arg;
}

static void fork_in_popen(void)
{
	CHECK_OK(pthread_atfork(fork_begins, fork_is_over, fork_is_over));
	for (int i = 0; i < 10; i++) {
		int status;

		is_allocating = is_forking = false;
		pthread_t t = start(open_overtaken, NULL);
		while (!is_allocating)
			sleep_ms(1);
		pid_t pid = fork();
		CHECK(pid >= 0);
		if (pid == 0)
			_exit(0);
		CHECK(waitpid(pid, &status, 0) == pid && status == 0);
		join(t);
	}
}

static FILE *opened;

static void *open_cancelled(void *arg)
{
	CHECK_OK(pthread_cancel(pthread_self()));
	opened = popen("cat", "w"); /* no cancellation point, as libc's */
	pthread_testcancel();
	return arg;
}

static void cancelled(void)
{
	for (int i = 0; i < 10; i++) {
		int status;

		opened = NULL;
		CHECK(in_thread(open_cancelled, NULL) == PTHREAD_CANCELED);
		CHECK(opened != NULL);
		use_popen();
		CHECK(pclose(opened) == 0);
		pid_t pid = fork();
		CHECK(pid >= 0);
		if (pid == 0) {
			use_popen();
			_exit(0);
		}
		CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	}
}

/* A shell must not hold older pipes open: cat would not find the end of its input. */
static void older(void)
{
	int (*volatile close_it)(FILE *) = fclose;
	FILE *gone = popen("cat", "w");
	CHECK(gone != NULL && pclose(gone) == 0);
	gone = popen("cat", "w");
	CHECK(gone != NULL && close_it(gone) == 0);
	FILE *first = popen("cat", "w"), *second = popen("cat", "w");

	CHECK(first != NULL && second != NULL);
	become_threaded();
	FILE *third = popen("cat", "w"), *fourth = popen("cat", "w");
	CHECK(third != NULL && fourth != NULL);
	CHECK(pclose(first) == 0);
	CHECK(close_it(second) == 0);
	CHECK(pclose(third) == 0);
	CHECK(pclose(fourth) == 0);
	use_popen();
	CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
	    {"fork", fork_in_popen},
	    {"cancelled", cancelled},
	    {"older", older},
	};

	alarm(20); /* what goes wrong hangs */
	return run_case(argc, argv, cases, sizeof(cases) / sizeof(*cases));
}
