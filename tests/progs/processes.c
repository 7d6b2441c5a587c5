/* SPDX-License-Identifier: MIT */
/*
 * processes.c: fork, exec, spawn and wait from threads.
 *
 * Started again by itself with the argument "child", it exits with 0 if its signal mask is
 * what the next argument says, in hexadecimal, and it could create a thread.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <wchar.h>

#include "check.h"

extern char **environ;

enum { TEST_MASK = 1 << (SIGUSR1 - 1) | 1 << (SIGHUP - 1) };

static const char *self;

static unsigned long mask_now(void)
{
	sigset_t set;

	CHECK_OK(pthread_sigmask(SIG_SETMASK, NULL, &set));
	return set.__val[0];
}

static void mask_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGHUP);
	CHECK_OK(pthread_sigmask(SIG_SETMASK, &set, NULL));
	CHECK(mask_now() == TEST_MASK);
}

/* Waits for pid, which must exit with this status. */
static void expect_exit(pid_t pid, int status)
{
	int got;

	CHECK(pid > 0);
	CHECK(waitpid(pid, &got, 0) == pid);
	CHECK(WIFEXITED(got));
	CHECK(WEXITSTATUS(got) == status);
}

static int run_child(const char *mask)
{
	CHECK(mask_now() == strtoul(mask, NULL, 16));
	CHECK(in_thread(do_nothing, &self) == &self);
	return 0;
}

static char *const *child_argv(void)
{
	static char mask[20];
	static char *argv[] = {NULL, "child", mask, NULL};

	argv[0] = (char *)self;
	snprintf(mask, sizeof(mask), "%x", TEST_MASK);
	return argv;
}

/* --- fork -------------------------------------------------------------------------------- */

static __thread int my_number;

static void *add_one(void *arg)
{
	++*(int *)arg;
	CHECK(my_number == 0);
	return NULL;
}

/* What every child must be able to do. */
static void use_threads(void)
{
	pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	int n = 0;

	for (int i = 0; i < 20; i++) {
		CHECK_OK(pthread_mutex_lock(&mutex));
		in_thread(add_one, &n);
		CHECK_OK(pthread_mutex_unlock(&mutex));
	}
	CHECK(n == 20);
	void *p = malloc(100000);
	CHECK(p != NULL);
	free(p);
	CHECK(gettid() == getpid());
	sleep_ms(1);
}

static void *fork_once(void *arg)
{
	pthread_t me = pthread_self();
	pid_t tid = gettid();

	my_number = 5;
	pid_t pid = fork();
	if (pid == 0) {
		CHECK(pthread_equal(me, pthread_self()));
		CHECK(my_number == 5);
		use_threads();
		_exit(7);
	}
	CHECK(gettid() == tid);
	CHECK(syscall(SYS_gettid) == tid);
	expect_exit(pid, 7);
	return arg;
}

static void test_fork(void)
{
	in_thread(fork_once, NULL);
	fork_once(NULL);
	use_threads();
}

static void *fork_deep(void *arg)
{
	int depth = *(int *)arg;

	if (depth == 0)
		return NULL;
	pid_t pid = fork();
	if (pid == 0) {
		depth--;
		in_thread(fork_deep, &depth);
		use_threads();
		exit(depth);
	}
	expect_exit(pid, depth - 1);
	return NULL;
}

static void test_generations(void)
{
	int depth = 4;

	in_thread(fork_deep, &depth);
}

static _Atomic bool stop;

static void *churn(void *arg)
{
	for (unsigned i = 0; !stop; i++) {
		void *p = malloc(i % 5000 + 1);

		CHECK(p != NULL);
		free(p);
		if (i % 100 == 0)
			sleep_ms(1);
	}
	return arg;
}

static void *fork_often(void *arg)
{
	for (int i = 0; i < 20; i++)
		fork_once(arg);
	return NULL;
}

/* Threads fork while others allocate, sleep and come and go. */
static void test_crowd(void)
{
	pthread_t busy[8], forking[4];

	for (int i = 0; i < 8; i++)
		busy[i] = start(churn, NULL);
	for (int i = 0; i < 4; i++)
		forking[i] = start(fork_often, NULL);
	for (int i = 0; i < 4; i++)
		join(forking[i]);
	stop = true;
	for (int i = 0; i < 8; i++)
		join(busy[i]);
}

/* --- atfork and locks ----------------------------------------------------------------------- */

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static char order[32];
static size_t n_order;

static void prepare(void)
{
	CHECK_OK(pthread_mutex_lock(&guard));
	n_order = 0;
	order[n_order++] = 'p';
}

static void parent(void)
{
	order[n_order++] = 'P';
	CHECK_OK(pthread_mutex_unlock(&guard));
}

static void child(void)
{
	order[n_order++] = 'c';
	CHECK_OK(pthread_mutex_unlock(&guard));
	/* Waits, which needs the runtime in the child. */
	in_thread(do_nothing, NULL);
	sleep_ms(1);
	order[n_order++] = 'C';
}

static void *contend(void *arg)
{
	while (!stop) {
		CHECK_OK(pthread_mutex_lock(&guard));
		CHECK_OK(pthread_mutex_unlock(&guard));
	}
	return arg;
}

static void *fork_guarded(void *arg)
{
	for (int i = 0; i < 20; i++) {
		pid_t pid = fork();
		if (pid == 0) {
			CHECK(strcmp(order, "pcC") == 0);
			CHECK_OK(pthread_mutex_lock(&guard));
			use_threads();
			_exit(3);
		}
		expect_exit(pid, 3);
	}
	return arg;
}

static void test_atfork(void)
{
	pthread_t threads[4];

	CHECK_OK(pthread_atfork(prepare, parent, child));
	for (int i = 0; i < 4; i++)
		threads[i] = start(contend, NULL);
	in_thread(fork_guarded, NULL);
	stop = true;
	for (int i = 0; i < 4; i++)
		join(threads[i]);
	CHECK(strcmp(order, "pP") == 0);
}

/* What the forking thread held, its child holds and can give up. */
static void *fork_holding(void *arg)
{
	pthread_mutex_t *mutex = arg;

	CHECK_OK(pthread_mutex_lock(mutex));
	pid_t pid = fork();
	if (pid == 0) {
		CHECK(pthread_mutex_trylock(mutex) == EBUSY);
		CHECK_OK(pthread_mutex_unlock(mutex));
		CHECK_OK(pthread_mutex_lock(mutex));
		_exit(4);
	}
	expect_exit(pid, 4);
	CHECK_OK(pthread_mutex_unlock(mutex));
	return arg;
}

static void test_held(void)
{
	static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

	in_thread(fork_holding, &mutex);
	CHECK_OK(pthread_mutex_lock(&mutex));
}

/* The child of a thread has that thread's mask. */
static void *fork_masked(void *arg)
{
	mask_signals();
	pid_t pid = fork();
	if (pid == 0)
		execv(self, child_argv());
	expect_exit(pid, 0);
	pid = fork();
	if (pid == 0)
		_exit(mask_now() == TEST_MASK ? 0 : 1);
	expect_exit(pid, 0);
	pid = _Fork();
	if (pid == 0)
		_exit(mask_now() == TEST_MASK ? 0 : 1);
	expect_exit(pid, 0);
	CHECK(mask_now() == TEST_MASK);
	return arg;
}

static void test_fork_mask(void)
{
	in_thread(fork_masked, NULL);
	CHECK(mask_now() == 0);
}

/* ld.so walks the list of threads there, for a library with thread-locals of its own. */
static void *fork_and_load(void *arg)
{
	pid_t pid = fork();
	if (pid == 0) {
		/* It need not be there; this has to return. */
		dlopen("libgomp.so.1", RTLD_NOW);
		_exit(5);
	}
	expect_exit(pid, 5);
	return arg;
}

static void test_load(void)
{
	in_thread(fork_and_load, NULL);
}

/* --- vfork ---------------------------------------------------------------------------------- */

static void *vfork_exec(void *arg)
{
	mask_signals();
	for (int i = 0; i < 5; i++) {
		pid_t pid = vfork();
		if (pid == 0) {
			execv(self, child_argv());
			_exit(127);
		}
		expect_exit(pid, 0);
		pid = vfork();
		if (pid == 0) {
			execl("/nonexistent", "x", NULL);
			_exit(errno == ENOENT ? 8 : 9);
		}
		expect_exit(pid, 8);
	}
	return arg;
}

static void test_vfork(void)
{
	volatile int shared = 1;
	pid_t pid = vfork();

	if (pid == 0) {
		/* No thread yet: a real one, that runs in our memory before we do. */
		shared = 2;
		_exit(6);
	}
	CHECK(shared == 2);
	expect_exit(pid, 6);
	in_thread(vfork_exec, NULL);
	vfork_exec(NULL);
}

/* --- exec ----------------------------------------------------------------------------------- */

static void *exec_self(void *arg)
{
	mask_signals();
	execv(self, child_argv());
	CHECK(arg != NULL);
	return arg;
}

static void *park(void *arg)
{
	for (;;)
		sleep_ms(1000);
	return arg;
}

static void *compute(void *arg)
{
	for (volatile unsigned long i = 0;; i++)
		;
	return arg;
}

/* exec from a thread that is not main, others alive: the status is the new program's. */
static void test_exec(void)
{
	start(park, NULL);
	start(compute, NULL);
	start(exec_self, NULL);
	park(NULL);
}

static void expect_pending(int sig, bool pending)
{
	sigset_t set;

	CHECK(sigpending(&set) == 0 && sigismember(&set, sig) == pending);
}

/* In the new program. */
static int run_pending(void)
{
	const struct timespec now = {0};
	siginfo_t info;
	sigset_t set;

	CHECK((mask_now() & TEST_MASK) == TEST_MASK);
	expect_pending(SIGUSR1, true);
	expect_pending(SIGHUP, true);
	expect_pending(SIGTERM, false);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	for (int i = 1; i <= 3; i++)
		CHECK(sigtimedwait(&set, &info, &now) == SIGRTMIN &&
		      info.si_code == SI_QUEUE && info.si_value.sival_int == i);
	CHECK(sigtimedwait(&set, &info, &now) == -1 && errno == EAGAIN);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	CHECK(sigtimedwait(&set, &info, &now) == SIGUSR1);
	CHECK(sigtimedwait(&set, &info, &now) == -1 && errno == EAGAIN);
	return 0;
}

static void never(int sig)
{
	_exit(sig);
}

static void *exec_with_pending(void *by_number)
{
	char *argv[] = {(char *)self, "pending", NULL};

	CHECK_OK(pthread_kill(pthread_self(), SIGUSR1));
	for (int i = 1; i <= 3; i++)
		CHECK_OK(pthread_sigqueue(pthread_self(), SIGRTMIN,
					  (union sigval){.sival_int = i}));
	CHECK(kill(getpid(), SIGHUP) == 0);
	for (int i = 0; i < 2; i++) {
		CHECK(execv("/nonexistent", argv) == -1 && errno == ENOENT);
		CHECK(syscall(SYS_execve, "/nonexistent", argv, environ) == -1 &&
		      errno == ENOENT);
		expect_pending(SIGUSR1, true);
		expect_pending(SIGRTMIN, true);
		expect_pending(SIGHUP, true);
		sleep_ms(1);
	}
	CHECK(sched_yield() == 0);
	if (by_number != NULL)
		syscall(SYS_execve, self, argv, environ);
	else
		execv(self, argv);
	CHECK(false);
	return NULL;
}

static void exec_pending(void *by_number)
{
	sigset_t set;

	signal(SIGHUP, never);
	signal(SIGRTMIN, never);
	become_threaded();
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGRTMIN);
	CHECK_OK(pthread_sigmask(SIG_BLOCK, &set, NULL));
	start(park, NULL);
	start(exec_with_pending, by_number);
	park(NULL);
}

/* What is pending for the thread and the process stays so, and the mask. */
static void test_exec_pending(void)
{
	exec_pending(NULL);
}

static void test_exec_by_number(void)
{
	exec_pending(&self);
}

static void *exec_nothing(void *arg)
{
	char *argv[] = {"x", NULL};

	mask_signals();
	CHECK(execve("/nonexistent", argv, environ) == -1 && errno == ENOENT);
	CHECK(execv("/nonexistent", argv) == -1 && errno == ENOENT);
	CHECK(execvp("nonexistent-program", argv) == -1 && errno == ENOENT);
	CHECK(execvpe("nonexistent-program", argv, environ) == -1 && errno == ENOENT);
	CHECK(execl("/nonexistent", "x", "y", NULL) == -1 && errno == ENOENT);
	CHECK(execle("/nonexistent", "x", NULL, environ) == -1 && errno == ENOENT);
	CHECK(execlp("nonexistent-program", "x", NULL) == -1 && errno == ENOENT);
	CHECK(execveat(AT_FDCWD, "/nonexistent", argv, environ, 0) == -1 &&
	      errno == ENOENT);
	CHECK(fexecve(-1, argv, environ) == -1);
	CHECK(mask_now() == TEST_MASK);
	return arg;
}

/* Each way to call exec gives the arguments and the environment on. */
static void *exec_ways(void *arg)
{
	static const char script[] = "test \"$0$1$2\" = abc && test \"$V\" = v";
	char *env[] = {"V=v", NULL};
	char *argv[] = {"sh", "-c", (char *)script, "a", "b", "c", NULL};

	for (int way = 0; way < 8; way++) {
		pid_t pid = fork();

		if (pid != 0) {
			expect_exit(pid, 0);
			continue;
		}
		setenv("V", "v", 1);
		if (way == 0)
			execl("/bin/sh", "sh", "-c", script, "a", "b", "c", NULL);
		else if (way == 1)
			execlp("sh", "sh", "-c", script, "a", "b", "c", NULL);
		else if (way == 2)
			execle("/bin/sh", "sh", "-c", script, "a", "b", "c", NULL, env);
		else if (way == 3)
			execv("/bin/sh", argv);
		else if (way == 4)
			execvp("sh", argv);
		else if (way == 5)
			execvpe("sh", argv, env);
		else if (way == 6)
			execve("/bin/sh", argv, env);
		else
			fexecve(open("/bin/sh", O_RDONLY), argv, env);
		_exit(99);
	}
	return arg;
}

static void test_exec_ways(void)
{
	in_thread(exec_nothing, NULL);
	in_thread(exec_ways, NULL);
	CHECK(mask_now() == 0);
}

static volatile sig_atomic_t n_ended, n_sent;

static void count_signal(int sig)
{
	if (sig == SIGCHLD)
		n_ended++;
	else
		n_sent++;
}

static int lock_fd;
static _Atomic bool exec_ends;

static void *wait_for_lock(void *arg)
{
	struct flock lock = {.l_type = F_WRLCK};

	FAILS(fcntl(lock_fd, F_OFD_SETLKW, &lock), EINTR);
	return arg;
}

static void *exec_in_vain(void *arg)
{
	while (!exec_ends)
		exec_nothing(NULL);
	return arg;
}

static _Atomic int n_under_exec;

static void count_under_exec(int sig)
{
	(void)sig;
	n_under_exec++;
}

static void *exec_with_open_mask(void *arg)
{
	char *argv[] = {"x", NULL};

	while (!exec_ends)
		FAILS(execv("/nonexistent", argv), ENOENT);
	return arg;
}

/* A process signal may come at any moment of an exec, which has others to pass on. */
static void test_exec_signalled(void)
{
	struct sigaction act = {.sa_handler = count_under_exec, .sa_flags = SA_RESTART};
	pid_t parent = getpid(), pid;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
	for (int i = 0; i < 100; i++)
		CHECK(sigqueue(parent, SIGRTMIN, (union sigval){0}) == 0);
	CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
	pthread_t thread = start(exec_with_open_mask, NULL);
	pid = fork();
	if (pid == 0)
		for (;;) {
			if (getppid() != parent || kill(parent, SIGUSR1) != 0)
				_exit(0);
			usleep(100);
		}
	for (long long end = now_ms() + 2000; now_ms() < end || n_under_exec == 0;)
		sleep_ms(1);
	exec_ends = true;
	join(thread);
	CHECK(kill(pid, SIGKILL) == 0);
	CHECK(waitpid(pid, NULL, 0) == pid);
}

/* Who waits in the kernel is reached by a signal, or a cancel, also when an exec of another
 * thread is about to fail. */
static void test_exec_fails(void)
{
	char path[] = "/tmp/processes.XXXXXX";
	struct flock lock = {.l_type = F_WRLCK};
	struct sigaction act = {.sa_handler = count_signal};
	int held_fd = mkstemp(path);

	CHECK(held_fd >= 0 && fcntl(held_fd, F_OFD_SETLKW, &lock) == 0);
	lock_fd = open(path, O_RDWR);
	CHECK(lock_fd >= 0 && unlink(path) == 0);
	CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
	for (int i = 0; i < 40; i++) {
		pthread_t waiter = start_waiting(wait_for_lock, &lock);
		pthread_t other = start(exec_in_vain, NULL);
		struct timespec end = in_ms(CLOCK_REALTIME, 15000);
		void *result;

		sleep_ms(2);
		CHECK_OK(i % 2 ? pthread_kill(waiter, SIGUSR1) : pthread_cancel(waiter));
		sleep_ms(1);
		exec_ends = true;
		join(other);
		exec_ends = false;
		CHECK_OK(pthread_timedjoin_np(waiter, &result, &end));
		CHECK(result == (i % 2 ? (void *)&lock : PTHREAD_CANCELED));
	}
}

/* --- spawn, system, popen ------------------------------------------------------------------- */

static void *spawn_self(void *arg)
{
	posix_spawnattr_t attr;
	sigset_t set;
	pid_t pid;

	mask_signals();
	CHECK_OK(posix_spawn(&pid, self, NULL, NULL, child_argv(), environ));
	expect_exit(pid, 0);
	/* A mask that the program asks for goes first. */
	CHECK_OK(posix_spawnattr_init(&attr));
	sigfillset(&set);
	CHECK_OK(posix_spawnattr_setsigmask(&attr, &set));
	CHECK_OK(posix_spawn(&pid, self, NULL, &attr, child_argv(), environ));
	expect_exit(pid, 0);
	CHECK_OK(posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK));
	CHECK_OK(posix_spawn(&pid, self, NULL, &attr, child_argv(), environ));
	expect_exit(pid, 1);
	CHECK(posix_spawn(&pid, "/nonexistent", NULL, NULL, child_argv(), environ) ==
	      ENOENT);
	CHECK(mask_now() == TEST_MASK);
	return arg;
}

static void test_spawn(void)
{
	CHECK(freopen("/dev/null", "w", stderr) !=
	      NULL); /* the child that must fail says so */
	in_thread(spawn_self, NULL);
	CHECK(mask_now() == 0);
}

static _Atomic int n_chld;

static void on_chld(int sig)
{
	(void)sig;
	n_chld++;
}

static void *run_shell(void *arg)
{
	char command[300];

	mask_signals();
	for (int i = 0; i < 5; i++) {
		CHECK(WEXITSTATUS(system("exit 3")) == 3);
		int status = system("kill -TERM $$");
		CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
		CHECK(WEXITSTATUS(system("/nonexistent 2>/dev/null")) == 127);
		CHECK(system(NULL) != 0);
		snprintf(command, sizeof(command), "exec %s child %x", self, TEST_MASK);
		CHECK(system(command) == 0);
	}
	CHECK(mask_now() == TEST_MASK);
	return arg;
}

static void test_system(void)
{
	struct sigaction act = {.sa_handler = on_chld}, old;
	pthread_t threads[6];

	CHECK(sigaction(SIGINT, &act, NULL) == 0);
	CHECK(sigaction(SIGCHLD, &act, NULL) == 0);
	for (int i = 0; i < 6; i++)
		threads[i] = start(run_shell, NULL);
	for (int i = 0; i < 6; i++)
		join(threads[i]);
	CHECK(sigaction(SIGINT, NULL, &old) == 0);
	CHECK(old.sa_handler == on_chld);
	CHECK(sigaction(SIGQUIT, NULL, &old) == 0);
	CHECK(old.sa_handler == SIG_DFL);
	/* The one thread that is left blocks SIGCHLD while the shell runs, and that is all. */
	for (long long end = now_ms() + 10000; n_chld == 0; sleep_ms(1))
		CHECK(now_ms() < end);
}

static void *cancelled_shell(void *arg)
{
	system("exec sleep 1000");
	return arg;
}

/* A cancelled system() leaves no shell behind. */
static void test_system_cancel(void)
{
	void *result;

	for (int i = 0; i < 10; i++) {
		pthread_t thread = start(cancelled_shell, NULL);

		if (i % 2 == 0)
			sleep_ms(20);
		CHECK_OK(pthread_cancel(thread));
		CHECK_OK(pthread_join(thread, &result));
		CHECK(result == PTHREAD_CANCELED);
	}
	CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
}

static void *run_popen(void *arg)
{
	char command[300], line[64];

	mask_signals();
	for (int i = 0; i < 10; i++) {
		FILE *f = popen("echo one; sleep 0.01; echo two", "r");

		CHECK(f != NULL && fwide(f, 0) < 0);
		CHECK(fgets(line, sizeof(line), f) != NULL && strcmp(line, "one\n") == 0);
		CHECK(fgets(line, sizeof(line), f) != NULL && strcmp(line, "two\n") == 0);
		CHECK(fgets(line, sizeof(line), f) == NULL);
		CHECK(pclose(f) == 0);
		snprintf(command, sizeof(command), "exec %s child %x", self, TEST_MASK);
		CHECK((f = popen(command, "w")) != NULL);
		CHECK(pclose(f) == 0);
	}
	CHECK(mask_now() == TEST_MASK);
	return arg;
}

static void test_popen(void)
{
	pthread_t threads[4];

	for (int i = 0; i < 4; i++)
		threads[i] = start(run_popen, NULL);
	for (int i = 0; i < 4; i++)
		join(threads[i]);
}

/* --- what a child sent before it ended ------------------------------------------------------- */

static void *wait_for_ever(void *arg)
{
	for (;;)
		pause();
	return arg;
}

/* Main has handled it when its wait returns, as the kernel has main do. */
static void test_sent_before(void)
{
	struct sigaction count = {.sa_handler = count_signal, .sa_flags = SA_RESTART};
	sigset_t all, before;
	siginfo_t info;

	CHECK(sigaction(SIGCHLD, &count, NULL) == 0 &&
	      sigaction(SIGUSR1, &count, NULL) == 0);
	/* It takes none, also while system() has main block SIGCHLD. */
	sigfillset(&all);
	CHECK_OK(pthread_sigmask(SIG_BLOCK, &all, &before));
	start(wait_for_ever, NULL);
	CHECK_OK(pthread_sigmask(SIG_SETMASK, &before, NULL));
	for (int i = 0; i < 200; i++) {
		n_ended = n_sent = 0;
		if (i % 8 == 7) {
			CHECK(system("kill -USR1 $PPID") == 0);
		} else if (i % 4 == 3) {
			FILE *f = popen("kill -USR1 $PPID", "r");

			CHECK(f != NULL && pclose(f) == 0);
		} else {
			pid_t pid = fork();

			CHECK(pid >= 0);
			if (pid == 0) {
				kill(getppid(), SIGUSR1);
				_exit(0);
			}
			if (i % 4 == 2)
				sleep_ms(1);
			if (i % 4 == 1)
				CHECK(waitid(P_PID, (id_t)pid, &info, WEXITED) == 0);
			else
				CHECK(waitpid(pid, NULL, 0) == pid);
		}
		CHECK(n_sent == 1 && n_ended == 1);
	}
}

/* --- wait ----------------------------------------------------------------------------------- */

static void *wait_for_own(void *arg)
{
	int status = *(int *)arg, got;
	siginfo_t info;
	pid_t pid;

	for (int way = 0; way < 3; way++) {
		pid = fork();
		if (pid == 0) {
			sleep_ms(30);
			_exit(status);
		}
		if (way == 0) {
			CHECK(waitpid(pid, &got, 0) == pid && WEXITSTATUS(got) == status);
		} else if (way == 1) {
			CHECK(wait4(pid, &got, 0, NULL) == pid &&
			      WEXITSTATUS(got) == status);
		} else {
			CHECK(waitid(P_PID, pid, &info, WEXITED) == 0);
			CHECK(info.si_pid == pid && info.si_status == status);
		}
	}
	CHECK(waitpid(pid, &got, 0) == -1 && errno == ECHILD);
	return NULL;
}

static void test_wait(void)
{
	pthread_t threads[20];
	int status[20];

	for (int i = 0; i < 20; i++) {
		status[i] = i;
		threads[i] = start(wait_for_own, &status[i]);
	}
	for (int i = 0; i < 20; i++)
		join(threads[i]);
	CHECK(wait(NULL) == -1 && errno == ECHILD);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
	    {"fork", test_fork},
	    {"generations", test_generations},
	    {"crowd", test_crowd},
	    {"atfork", test_atfork},
	    {"held", test_held},
	    {"fork-mask", test_fork_mask},
	    {"load", test_load},
	    {"vfork", test_vfork},
	    {"exec", test_exec},
	    {"exec-ways", test_exec_ways},
	    {"exec-fails", test_exec_fails},
	    {"exec-signalled", test_exec_signalled},
	    {"exec-pending", test_exec_pending},
	    {"exec-by-number", test_exec_by_number},
	    {"spawn", test_spawn},
	    {"system", test_system},
	    {"system-cancel", test_system_cancel},
	    {"popen", test_popen},
	    {"sent-before", test_sent_before},
	    {"wait", test_wait},
	};

	self = realpath("/proc/self/exe", NULL);
	if (argc == 3 && strcmp(argv[1], "child") == 0)
		return run_child(argv[2]);
	if (argc == 2 && strcmp(argv[1], "pending") == 0)
		return run_pending();
	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
