/* SPDX-License-Identifier: MIT */
/*
 * trap-files.c CASE: stdio shared by threads, the files that other processes share with us,
 * and children, which inherit LD_PRELOAD.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>

#include "check.h"

static const char *self;

/* --- one FILE -------------------------------------------------------------------------- */

enum { N_THREADS = 64, N_LINES = 200 };

static void *print(void *arg)
{
	int me = (int)(intptr_t)arg;
	char text[40];

	memset(text, 'a' + me % 26, sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	for (int i = 0; i < N_LINES; i++) {
		printf("%d %d %s %d\n", me, i, text, me * i);
		if (i % 50 == 0)
			sched_yield();
		if (i % 100 == 99)
			fflush(stdout);
	}
	return arg;
}

static void print_lines(void)
{
	pthread_t threads[N_THREADS];

	for (int i = 0; i < N_THREADS; i++)
		threads[i] = start(print, (void *)(intptr_t)i);
	for (int i = 0; i < N_THREADS; i++)
		join(threads[i]);
}

/* flockfile: several calls that belong together. */
static void *print_parts(void *arg)
{
	for (int i = 0; i < 50; i++) {
		flockfile(stdout);
		printf("%d", (int)(intptr_t)arg);
		sched_yield();
		fflush(stdout);
		printf(" %d", i);
		putchar_unlocked('\n');
		funlockfile(stdout);
	}
	return arg;
}

static void print_locked(void)
{
	pthread_t threads[16];

	for (int i = 0; i < 16; i++)
		threads[i] = start(print_parts, (void *)(intptr_t)i);
	for (int i = 0; i < 16; i++)
		join(threads[i]);
}

/* --- files of others ------------------------------------------------------------------- */

static void *read_stdin(void *arg)
{
	char c;

	while (read(0, &c, 1) == 1)
		CHECK(write(1, &c, 1) == 1);
	return arg;
}

static void copy(void)
{
	pthread_t threads[2] = {start(read_stdin, NULL), start(read_stdin, NULL)};

	join(threads[0]);
	join(threads[1]);
}

/* O_NONBLOCK is the file's, which others have open too: it stays as it was. */
static void flags(void)
{
	int in[2], out[2], status;
	char c;
	pid_t pid;

	CHECK(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		execl(self, self, "copy", NULL);
		_exit(127);
	}
	for (int i = 0; i < 20; i++) {
		sleep_ms(1); /* the reader waits */
		CHECK(write(in[1], "x", 1) == 1);
		CHECK(read(out[0], &c, 1) == 1);
		CHECK((fcntl(in[0], F_GETFL) & O_NONBLOCK) == 0);
		CHECK((fcntl(out[1], F_GETFL) & O_NONBLOCK) == 0);
	}
	close(in[1]);
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(status == 0);
	CHECK((fcntl(in[0], F_GETFL) & O_NONBLOCK) == 0);
	CHECK((fcntl(out[1], F_GETFL) & O_NONBLOCK) == 0);
}

/* --- children -------------------------------------------------------------------------- */

static _Atomic bool over;

static void *compute(void *arg)
{
	while (!over)
		;
	return arg;
}

static void *run_shell(void *arg)
{
	char command[4200];
	FILE *f;

	for (int i = 0; i < 3; i++) {
		CHECK(system("seq 1 1000 | sort -n | tail -n 1 | grep -qx 1000") == 0);
		CHECK(system("seq 1 5 | (read -r x; exit $((x + 4)))") == 5 << 8);
	}
	snprintf(command, sizeof(command), "'%s' children-print | sort | uniq | wc -l",
		 self);
	f = popen(command, "r");
	CHECK(f != NULL);
	CHECK(fgets(command, sizeof(command), f) != NULL);
	CHECK(atoi(command) == N_THREADS * N_LINES);
	CHECK(pclose(f) == 0);
	return arg;
}

static void shell(void)
{
	pthread_t computing = start(compute, NULL), threads[4];

	for (int i = 0; i < 4; i++)
		threads[i] = start(run_shell, NULL);
	for (int i = 0; i < 4; i++)
		join(threads[i]);
	over = true;
	join(computing);
}

static void *compare_preload(void *arg)
{
	const char *mine = getenv("LD_PRELOAD");

	if (mine != NULL)
		CHECK(setenv("EXPECTED", mine, 1) == 0);
	/* The shell has it, and what it starts has the library. */
	CHECK(system("test \"$LD_PRELOAD\" = \"$EXPECTED\"") == 0);
	if (mine != NULL)
		CHECK(system("cat /proc/self/maps | grep -qF \"${EXPECTED%%:*}\"") == 0);
	return arg;
}

static void inherits(void)
{
	in_thread(compare_preload, NULL);
}

int main(int argc, char **argv)
{
	const struct test_case cases[] = {
	    {"print", print_lines},
	    {"print-locked", print_locked},
	    {"children-print", print_lines},
	    {"copy", copy},
	    {"flags", flags},
	    {"shell", shell},
	    {"inherits", inherits},
	};

	self = argv[0];
	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
