/* SPDX-License-Identifier: MIT */
/*
 * terminal.c: threads of a job in the background, and its terminal.
 *
 * The process that starts a case is the terminal's other end; its child is the session's
 * leader, a shell; whose child is the job.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>

#include "check.h"

enum { FINE = 7 };

static int terminal;

static void *read_line(void *arg)
{
	char line[100];
	ssize_t n = read(terminal, line, sizeof(line));

	CHECK(n == 5 && memcmp(line, "line\n", 5) == 0);
	exit(FINE);
	return arg;
}

static void *read_nothing(void *arg)
{
	char c;

	CHECK(read(terminal, &c, 1) == -1 && errno == EIO);
	exit(FINE);
	return arg;
}

static void *write_line(void *arg)
{
	CHECK(write(terminal, "line\n", 5) == 5);
	exit(FINE);
	return arg;
}

static pid_t start_job(void *(*thread)(void *))
{
	pid_t job = fork();

	CHECK(job >= 0);
	if (job == 0) {
		sigset_t set;

		setpgid(0, 0);
		sigemptyset(&set);
		sigaddset(&set, SIGTTOU);
		sigprocmask(SIG_UNBLOCK, &set, NULL);
		start(thread, NULL);
		for (;;)
			pause();
	}
	setpgid(job, job);
	return job;
}

static void expect_stopped(pid_t job, int sig)
{
	int status;

	CHECK(waitpid(job, &status, WUNTRACED) == job);
	CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == sig);
}

static void expect_fine(pid_t job)
{
	int status;

	CHECK(waitpid(job, &status, WUNTRACED) == job);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == FINE);
}

/* Stopped each time that it is continued where it is. */
static void stops_until_foreground(void *(*thread)(void *), int sig)
{
	pid_t job = start_job(thread);

	expect_stopped(job, sig);
	CHECK(kill(-job, SIGCONT) == 0);
	expect_stopped(job, sig);
	CHECK(tcsetpgrp(terminal, job) == 0);
	CHECK(kill(-job, SIGCONT) == 0);
	expect_fine(job);
	CHECK(tcsetpgrp(terminal, getpgrp()) == 0);
}

static void lead_reader(void)
{
	stops_until_foreground(read_line, SIGTTIN);
}

static void lead_writer(void)
{
	struct termios tty;

	/* Unasked it may write from anywhere. */
	expect_fine(start_job(write_line));
	CHECK(tcgetattr(terminal, &tty) == 0);
	tty.c_lflag |= TOSTOP;
	CHECK(tcsetattr(terminal, TCSANOW, &tty) == 0);
	stops_until_foreground(write_line, SIGTTOU);
	signal(SIGTTOU, SIG_IGN);
	expect_fine(start_job(write_line));
}

static void lead_deaf(void)
{
	signal(SIGTTIN, SIG_IGN);
	expect_fine(start_job(read_nothing));
	signal(SIGTTIN, SIG_DFL);

	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTTIN);
	sigprocmask(SIG_BLOCK, &set, NULL);
	expect_fine(start_job(read_nothing));
}

static void in_session(void (*lead)(void))
{
	int master = posix_openpt(O_RDWR | O_NOCTTY);
	int status;

	CHECK(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
	pid_t leader = fork();
	if (leader == 0) {
		CHECK(setsid() > 0);
		terminal = open(ptsname(master), O_RDWR);
		CHECK(terminal >= 0);
		CHECK(tcsetpgrp(terminal, getpgrp()) == 0);
		/* It gives the terminal away and takes it back. */
		sigset_t set;
		sigemptyset(&set);
		sigaddset(&set, SIGTTOU);
		sigprocmask(SIG_BLOCK, &set, NULL);
		lead();
		exit(0);
	}
	CHECK(write(master, "line\n", 5) == 5);
	CHECK(waitpid(leader, &status, 0) == leader);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	close(master);
}

static void test_reader(void)
{
	in_session(lead_reader);
}

static void test_writer(void)
{
	in_session(lead_writer);
}

static void test_deaf(void)
{
	in_session(lead_deaf);
}

int main(int argc, char **argv)
{
	const struct test_case cases[] = {
	    {"reader", test_reader},
	    {"writer", test_writer},
	    {"deaf", test_deaf},
	};

	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
