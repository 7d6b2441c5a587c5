/* SPDX-License-Identifier: MIT */
/*
 * contexts.c: ucontext.h in a program with threads: whose mask a context has, and what else.
 */
#include <fenv.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <sys/wait.h>
#include <ucontext.h>

#include "check.h"

enum { STACK_SIZE = 64 * 1024 };

static ucontext_t back, co;
static char stack[STACK_SIZE] __attribute__((aligned(16)));
static _Atomic int n_handled;

static void set_mask(int sig)
{
	sigset_t set;

	sigemptyset(&set);
	if (sig != 0)
		sigaddset(&set, sig);
	CHECK_OK(pthread_sigmask(SIG_SETMASK, &set, NULL));
}

static void note(int sig)
{
	(void)sig;
	n_handled++;
}

static void handle(int sig, void (*handler)(int, siginfo_t *, void *))
{
	struct sigaction act = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};

	CHECK(sigaction(sig, &act, NULL) == 0);
}

static void make(ucontext_t *uc, void (*body)(void), ucontext_t *link)
{
	CHECK(getcontext(uc) == 0);
	uc->uc_stack.ss_sp = stack;
	uc->uc_stack.ss_size = sizeof(stack);
	uc->uc_link = link;
	makecontext(uc, body, 0);
}

static void *sleep_often(void *arg)
{
	struct timespec ts = {.tv_nsec = 100000};

	for (;;)
		nanosleep(&ts, NULL);
	return arg;
}

/* --- made before the first thread ------------------------------------------------------- */

static void be_signalled(void)
{
	pid_t parent = getpid(), pid = fork();
	int status = 0;

	CHECK(pid >= 0);
	if (pid == 0) {
		struct timespec ts = {.tv_nsec = 100000};

		for (int i = 0; i < 1500 && kill(parent, SIGUSR1) == 0; i++)
			nanosleep(&ts, NULL);
		_exit(0);
	}
	while (waitpid(pid, &status, WNOHANG) == 0)
		sleep_ms(1);
	CHECK(status == 0 && n_handled > 0);
}

/* Its mask is empty, and the signal always finds its handler. */
static void test_made_before(void)
{
	signal(SIGUSR1, note);
	make(&co, be_signalled, &back);
	for (int i = 0; i < 3; i++)
		start(sleep_often, NULL);
	CHECK(swapcontext(&back, &co) == 0);
	CHECK(n_handled > 0);
}

/* --- swapped to when the threads have ended ---------------------------------------------- */

static void be_ended(void)
{
	for (;;)
		pause();
}

/* What another process sends ends it there. */
static void test_at_rest(void)
{
	int status, go[2];
	char c;

	CHECK(pipe(go) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		become_threaded();
		make(&co, be_ended, &back);
		sleep_ms(1000);
		CHECK(write(go[1], "x", 1) == 1);
		swapcontext(&back, &co);
		_exit(1);
	}
	CHECK(read(go[0], &c, 1) == 1);
	sleep_ms(50);
	CHECK(kill(pid, SIGTERM) == 0);
	for (long long end = now_ms() + 10000; waitpid(pid, &status, WNOHANG) == 0;
	     sleep_ms(1))
		if (now_ms() > end)
			CHECK(kill(pid, SIGKILL) == 0);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

/* --- the mask ------------------------------------------------------------------------------ */

static void change_mask(void)
{
	CHECK(is_blocked(SIGUSR1) && !is_blocked(SIGUSR2));
	/* What the other context lets in is handled before swapcontext() is over. */
	CHECK(raise(SIGUSR1) == 0 && n_handled == 0);
	CHECK(swapcontext(&co, &back) == 0);
	CHECK(is_blocked(SIGUSR1) && !is_blocked(SIGUSR2));
	set_mask(0);
	CHECK(swapcontext(&co, &back) == 0);
	CHECK(!is_blocked(SIGUSR1) && !is_blocked(SIGUSR2));
	/* And its end loads the mask of what it is linked to. */
	set_mask(SIGUSR1);
}

static void *masks_thread(void *arg)
{
	volatile int n = 0;

	signal(SIGUSR1, note);
	n_handled = 0;
	set_mask(SIGUSR1);
	make(&co, change_mask, &back);
	CHECK(sigismember(&co.uc_sigmask, SIGUSR1) &&
	      !sigismember(&co.uc_sigmask, SIGUSR2));
	set_mask(SIGUSR2);
	for (int i = 1; i <= 3; i++) {
		CHECK(swapcontext(&back, &co) == 0);
		CHECK(!is_blocked(SIGUSR1) && is_blocked(SIGUSR2));
		CHECK(n_handled == 1);
	}
	/* A context may be loaded again and again. */
	CHECK(getcontext(&back) == 0);
	CHECK(is_blocked(SIGUSR2));
	set_mask(0);
	if (++n < 5)
		setcontext(&back);
	CHECK(n == 5);
	return arg;
}

static void test_masks(void)
{
	masks_thread(NULL);
	for (int i = 0; i < 5; i++)
		in_thread(masks_thread, NULL);
	masks_thread(NULL);
}

/* --- out of a handler ---------------------------------------------------------------------- */

static __thread ucontext_t place;

static void leave(int sig, siginfo_t *info, void *context)
{
	(void)info;
	(void)context;
	CHECK(is_blocked(sig));
	n_handled++;
	setcontext(&place);
}

static void leave_by_own(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)info;
	n_handled++;
	sigaddset(&((ucontext_t *)context)->uc_sigmask, SIGUSR2);
	setcontext(context);
}

static void *leave_thread(void *arg)
{
	handle(SIGUSR1, leave);
	set_mask(0);
	n_handled = 0;
	CHECK(getcontext(&place) == 0);
	CHECK(!is_blocked(SIGUSR1));
	if (n_handled < 20) {
		raise(SIGUSR1);
		CHECK(false);
	}
	handle(SIGUSR1, leave_by_own);
	CHECK(raise(SIGUSR1) == 0 && n_handled == 21);
	CHECK(!is_blocked(SIGUSR1) && is_blocked(SIGUSR2));
	return arg;
}

static void test_handlers(void)
{
	leave_thread(NULL);
	in_thread(leave_thread, NULL);
	leave_thread(NULL);
}

/* --- the rest --------------------------------------------------------------------------------- */

static void take_arguments(int a, int b, int c, int d, int e, int f, int g, int h, int i)
{
	CHECK(a == 1 && b == 2 && c == 3 && d == 4 && e == 5 && f == 6 && g == 7 &&
	      h == 8 && i == 9);
	CHECK((uintptr_t)__builtin_frame_address(0) % 16 == 0);
	CHECK(fegetround() == FE_UPWARD);
	fesetround(FE_DOWNWARD);
	n_handled++;
}

static void end_thread(void)
{
	pthread_exit(&co);
}

static void *arguments_thread(void *arg)
{
	n_handled = 0;
	fesetround(FE_UPWARD);
	make(&co, end_thread, &back);
	makecontext(&co, (void (*)(void))take_arguments, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9);
	fesetround(FE_TOWARDZERO);
	CHECK(swapcontext(&back, &co) == 0);
	CHECK(n_handled == 1 && fegetround() == FE_TOWARDZERO);
	fesetround(FE_TONEAREST);
	return arg;
}

static void *exit_thread(void *arg)
{
	make(&co, end_thread, &back);
	swapcontext(&back, &co);
	return arg;
}

static void say_bye(void)
{
	_exit(7);
}

/* Arguments, rounding, the end of a thread there, and of the process. */
static void test_life(void)
{
	int status;

	arguments_thread(NULL);
	in_thread(arguments_thread, NULL);
	CHECK(in_thread(exit_thread, NULL) == &co);
	pid_t pid = fork();
	if (pid == 0) {
		atexit(say_bye);
		make(&co, (void (*)(void))become_threaded, NULL);
		setcontext(&co);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
	    {"made-before", test_made_before},
	    {"at-rest", test_at_rest},
	    {"masks", test_masks},
	    {"handlers", test_handlers},
	    {"life", test_life},
	};

	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
