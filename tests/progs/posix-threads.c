/* SPDX-License-Identifier: MIT */
/*
 * posix-threads.c: what POSIX says of pthread_kill, abort, sigwait, fork, pthread_atfork
 * and thread-specific data: one assertion at least for each "shall" that a program can see.
 */
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/times.h>

#include "check.h"

static _Atomic int step, handled;
static pthread_t handler_thread;

static void wait_for(const _Atomic int *n, int least)
{
	for (long long end = now_ms() + 15000; *n < least; sleep_ms(1))
		CHECK(now_ms() < end);
}

static void note(int sig)
{
	(void)sig;
	handler_thread = pthread_self();
	handled++;
}

static void handle(int sig)
{
	struct sigaction act = {.sa_handler = note};

	CHECK(sigaction(sig, &act, NULL) == 0);
}

static sigset_t set_of(int a, int b)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, a);
	if (b != 0)
		sigaddset(&set, b);
	return set;
}

static void change_mask(int how, int sig)
{
	sigset_t set = set_of(sig, 0);

	CHECK_OK(pthread_sigmask(how, &set, NULL));
}

static bool is_pending(int sig)
{
	sigset_t set;

	CHECK(sigpending(&set) == 0);
	return sigismember(&set, sig);
}

/* --- pthread_kill --------------------------------------------------------------------------- */

static void *block_and_look(void *arg)
{
	change_mask(SIG_BLOCK, SIGUSR1);
	step = 1;
	wait_for(&step, 2);
	/* It stays pending for this thread, once. */
	CHECK(handled == 0 && is_pending(SIGUSR1));
	change_mask(SIG_UNBLOCK, SIGUSR1);
	CHECK(handled == 1 && pthread_equal(handler_thread, pthread_self()));
	return arg;
}

static void *end_by_signal(void *arg)
{
	step = 1;
	sleep_ms(20000);
	return arg;
}

static void test_kill(void)
{
	pthread_t thread;

	handle(SIGUSR1);
	thread = start(block_and_look, NULL);
	wait_for(&step, 1);
	CHECK_OK(pthread_kill(thread, 0)); /* only asks */
	CHECK_OK(pthread_kill(thread, SIGUSR1));
	CHECK_OK(pthread_kill(thread, SIGUSR1));
	CHECK(!is_pending(SIGUSR1)); /* here it is not */
	CHECK(pthread_kill(thread, 9999) == EINVAL);
	step = 2;
	join(thread);
	CHECK(handled == 1);
	/* To itself: handled before the call returns. */
	CHECK_OK(pthread_kill(pthread_self(), SIGUSR1));
	CHECK(handled == 2);
	/* One that has ended and is not joined is still a thread. */
	thread = start(do_nothing, NULL);
	sleep_ms(20);
	CHECK_OK(pthread_kill(thread, 0));
	join(thread);
	/* The action is the process's: a default one ends it all, whichever thread gets it. */
	int status;
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		step = 0;
		thread = start(end_by_signal, NULL);
		wait_for(&step, 1);
		CHECK_OK(pthread_kill(thread, SIGTERM));
		sleep_ms(10000);
		_exit(1);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

/* --- abort ------------------------------------------------------------------------------------ */

static sigjmp_buf before_abort;

static void leave(int sig)
{
	(void)sig;
	_exit(5);
}

static void jump(int sig)
{
	(void)sig;
	siglongjmp(before_abort, 1);
}

static void *abort_with(void *handler)
{
	struct sigaction act = {.sa_handler = (__sighandler_t)handler};

	sigfillset(&act.sa_mask);
	if (handler == NULL)
		CHECK_OK(pthread_sigmask(SIG_BLOCK, &act.sa_mask, NULL));
	CHECK(sigaction(SIGABRT, &act, NULL) == 0);
	if (sigsetjmp(before_abort, 1) == 0)
		abort();
	_exit(6);
}

/* Blocked, ignored, or with a handler that comes back: it ends the process all the same. */
static void check_abort(void *handler, bool threaded, int status, int signal)
{
	int how;
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		become_threaded();
		if (threaded)
			in_thread(abort_with, handler);
		abort_with(handler);
	}
	CHECK(waitpid(pid, &how, 0) == pid);
	if (signal != 0)
		CHECK(WIFSIGNALED(how) && WTERMSIG(how) == signal);
	else
		CHECK(WIFEXITED(how) && WEXITSTATUS(how) == status);
}

static void test_abort(void)
{
	for (int threaded = 0; threaded < 2; threaded++) {
		check_abort(NULL, threaded, 0, SIGABRT);
		check_abort((void *)SIG_IGN, threaded, 0, SIGABRT);
		check_abort((void *)note, threaded, 0, SIGABRT);
		check_abort((void *)leave, threaded, 5, 0);
		check_abort((void *)jump, threaded, 6, 0);
	}
}

/* --- sigwait ---------------------------------------------------------------------------------- */

static _Atomic int taken[3];

static void *wait_for_signals(void *which)
{
	sigset_t set = set_of(SIGUSR1, SIGUSR2);
	int sig = 0;

	step++;
	CHECK_OK(sigwait(&set, &sig));
	CHECK(sig == SIGUSR1 || sig == SIGUSR2);
	CHECK(!is_pending(sig));
	taken[(intptr_t)which]++;
	return (void *)(intptr_t)sig;
}

static void test_sigwait(void)
{
	sigset_t set = set_of(SIGUSR1, SIGUSR2);
	pthread_t threads[3];
	union sigval value;
	siginfo_t info;
	int sig;

	handle(SIGUSR1); /* which does not run */
	CHECK_OK(pthread_sigmask(SIG_BLOCK, &set, NULL));
	become_threaded();
	/* Pending before the call: taken at once. */
	CHECK(kill(getpid(), SIGUSR2) == 0);
	CHECK_OK(sigwait(&set, &sig));
	CHECK(sig == SIGUSR2 && !is_pending(SIGUSR2));
	CHECK_OK(pthread_kill(pthread_self(), SIGUSR1));
	CHECK_OK(sigwait(&set, &sig));
	CHECK(sig == SIGUSR1 && !is_pending(SIGUSR1));
	/* Several wait for the same: no more than one returns. */
	for (intptr_t i = 0; i < 3; i++)
		threads[i] = start(wait_for_signals, (void *)i);
	wait_for(&step, 3);
	sleep_ms(20);
	for (int n = 1; n <= 2; n++) {
		CHECK(kill(getpid(), SIGUSR1) == 0);
		for (long long end = now_ms() + 15000; taken[0] + taken[1] + taken[2] < n;
		     sleep_ms(1))
			CHECK(now_ms() < end);
		sleep_ms(20);
		CHECK(taken[0] + taken[1] + taken[2] == n);
	}
	/* One sent to a thread is taken by that one. */
	for (int i = 0; i < 3; i++)
		if (taken[i] == 0)
			CHECK_OK(pthread_kill(threads[i], SIGUSR2));
	for (int i = 0; i < 3; i++)
		join(threads[i]);
	CHECK(taken[0] == 1 && taken[1] == 1 && taken[2] == 1 && handled == 0);
	/* Real-time signals are queued, with their values, the lowest number first. */
	set = set_of(SIGRTMIN + 1, SIGRTMIN + 2);
	CHECK_OK(pthread_sigmask(SIG_BLOCK, &set, NULL));
	for (int i = 0; i < 3; i++) {
		value.sival_int = i;
		CHECK(sigqueue(getpid(), SIGRTMIN + 2, value) == 0);
	}
	value.sival_int = 9;
	CHECK(sigqueue(getpid(), SIGRTMIN + 1, value) == 0);
	CHECK(sigwaitinfo(&set, &info) == SIGRTMIN + 1 && info.si_value.sival_int == 9);
	for (int i = 0; i < 3; i++) {
		CHECK(sigwaitinfo(&set, &info) == SIGRTMIN + 2);
		CHECK(info.si_code == SI_QUEUE && info.si_value.sival_int == i);
	}
	struct timespec none = {0};
	CHECK(sigtimedwait(&set, NULL, &none) == -1 && errno == EAGAIN);
	none.tv_nsec = -1;
	CHECK(sigtimedwait(&set, NULL, &none) == -1 && errno == EINVAL);
}

/* --- fork ------------------------------------------------------------------------------------- */

static int order[16], n_order;
static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
static pthread_key_t key;

static void note_order(int what)
{
	order[n_order++] = what;
}

#define ATFORK(n)                     \
	static void prepare_##n(void) \
	{                             \
		note_order(n);        \
	}                             \
	static void parent_##n(void)  \
	{                             \
		note_order(10 + (n)); \
	}                             \
	static void child_##n(void)   \
	{                             \
		note_order(20 + (n)); \
	}
ATFORK(1)
ATFORK(2)

static void *compute(void *arg)
{
	for (;;)
		handled += 0;
	return arg;
}

static void *fork_here(void *arg)
{
	struct tms times_of_child;
	sigset_t mask;
	int status, pipes[2];
	char c;

	CHECK(pipe(pipes) == 0);
	CHECK_OK(pthread_setspecific(key, &key));
	change_mask(SIG_BLOCK, SIGUSR1);
	change_mask(SIG_BLOCK, SIGUSR2);
	CHECK_OK(pthread_kill(pthread_self(), SIGUSR2));
	CHECK(kill(getpid(), SIGUSR1) == 0);
	alarm(100);
	CHECK_OK(pthread_mutex_lock(&held));
	pthread_t self = pthread_self();
	pid_t parent = getpid(), pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		CHECK(getpid() != parent && getppid() == parent);
		CHECK(n_order == 4 && order[0] == 2 && order[1] == 1);
		CHECK(order[2] == 21 && order[3] == 22);
		/* The calling thread alone, with its memory, mask and values. */
		CHECK(pthread_equal(self, pthread_self()));
		CHECK(pthread_getspecific(key) == &key);
		CHECK_OK(pthread_sigmask(SIG_BLOCK, NULL, &mask));
		CHECK(sigismember(&mask, SIGUSR1) && sigismember(&mask, SIGUSR2));
		/* Nothing is pending, no alarm runs, no CPU time is used. */
		CHECK(!is_pending(SIGUSR1) && !is_pending(SIGUSR2));
		CHECK(alarm(0) == 0);
		CHECK(times(&times_of_child) != (clock_t)-1);
		CHECK(times_of_child.tms_cutime == 0 && times_of_child.tms_cstime == 0);
		/* The mutex is the thread's, here too. */
		CHECK(pthread_mutex_trylock(&held) == EBUSY);
		CHECK_OK(pthread_mutex_unlock(&held));
		CHECK_OK(pthread_mutex_lock(&held));
		/* Descriptors are shared; threads can be made. */
		CHECK(write(pipes[1], "x", 1) == 1);
		CHECK(in_thread(do_nothing, &key) == &key);
		_exit(7);
	}
	CHECK(n_order == 4 && order[2] == 11 && order[3] == 12);
	CHECK(is_pending(SIGUSR1) && is_pending(SIGUSR2));
	CHECK(alarm(0) > 0);
	CHECK(read(pipes[0], &c, 1) == 1 && c == 'x');
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
	CHECK_OK(pthread_mutex_unlock(&held));
	return arg;
}

static void test_fork(void)
{
	CHECK_OK(pthread_key_create(&key, NULL));
	CHECK_OK(pthread_atfork(prepare_1, parent_1, child_1));
	CHECK_OK(pthread_atfork(prepare_2, parent_2, child_2));
	/* In every thread: a signal to the process stays pending. */
	change_mask(SIG_BLOCK, SIGUSR1);
	for (int i = 0; i < 3; i++)
		CHECK_OK(pthread_detach(start(compute, NULL)));
	in_thread(fork_here, NULL);
}

/* --- thread-specific data ------------------------------------------------------------------- */

static pthread_key_t keys[3];
static _Atomic int destroyed[3], again;

static void destroy_0(void *value)
{
	CHECK(value == &keys[0]);
	CHECK(pthread_getspecific(keys[0]) == NULL);
	destroyed[0]++;
}

/* Sets its own value anew: it is called again, a number of times. */
static void destroy_1(void *value)
{
	destroyed[1]++;
	if (again-- > 0)
		CHECK_OK(pthread_setspecific(keys[1], value));
}

static void *use_keys(void *arg)
{
	for (int i = 0; i < 3; i++) {
		CHECK(pthread_getspecific(keys[i]) == NULL);
		CHECK_OK(pthread_setspecific(keys[i], &keys[i]));
	}
	sched_yield();
	for (int i = 0; i < 3; i++)
		CHECK(pthread_getspecific(keys[i]) == &keys[i]);
	if (arg == NULL)
		return NULL;
	CHECK_OK(pthread_setspecific(keys[0], NULL)); /* no destructor for it */
	pthread_exit(NULL);
}

static void *use_deleted(void *arg)
{
	CHECK_OK(pthread_setspecific(keys[0], &keys[0]));
	step = 1;
	wait_for(&step, 2);
	return arg;
}

static void test_keys(void)
{
	pthread_key_t many[PTHREAD_KEYS_MAX + 1];
	int n = 0;

	CHECK_OK(pthread_key_create(&keys[0], destroy_0));
	CHECK_OK(pthread_key_create(&keys[1], destroy_1));
	CHECK_OK(pthread_key_create(&keys[2], NULL));
	CHECK(pthread_getspecific(keys[0]) == NULL);
	in_thread(use_keys, NULL);
	CHECK(destroyed[0] == 1 && destroyed[1] == 1);
	again = 2;
	in_thread(use_keys, &n);
	CHECK(destroyed[0] == 1 && destroyed[1] == 4);
	again = 1000; /* not for ever */
	in_thread(use_keys, NULL);
	CHECK(destroyed[1] >= 4 + PTHREAD_DESTRUCTOR_ITERATIONS && destroyed[1] < 1000);
	/* After a delete no destructor runs, and a new key begins with NULL in all threads. */
	pthread_t thread = start(use_deleted, NULL);
	wait_for(&step, 1);
	int before = destroyed[0];
	CHECK_OK(pthread_key_delete(keys[0]));
	CHECK_OK(pthread_key_create(&keys[0], destroy_0));
	CHECK(pthread_getspecific(keys[0]) == NULL);
	step = 2;
	join(thread);
	CHECK(destroyed[0] == before);
	for (int i = 0; i < 3; i++)
		CHECK_OK(pthread_key_delete(keys[i]));
	/* As many as POSIX says at least, and then EAGAIN. */
	while (n <= PTHREAD_KEYS_MAX && pthread_key_create(&many[n], NULL) == 0)
		n++;
	CHECK(n >= _POSIX_THREAD_KEYS_MAX && n <= PTHREAD_KEYS_MAX);
	CHECK(pthread_key_create(&many[n], NULL) == EAGAIN);
	while (--n >= 0)
		CHECK_OK(pthread_key_delete(many[n]));
	CHECK(pthread_setspecific(many[0], &n) == EINVAL);
	CHECK(pthread_key_delete(many[0]) == EINVAL);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
	    {"kill", test_kill}, {"abort", test_abort}, {"sigwait", test_sigwait},
	    {"fork", test_fork}, {"keys", test_keys},
	};

	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
