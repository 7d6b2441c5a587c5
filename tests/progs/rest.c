/* SPDX-License-Identifier: MIT */
/*
 * rest.c: a program whose threads have all ended has one kernel thread again, whatever main
 * does meanwhile; and when it has threads anew everything is as it was.
 */
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "check.h"

enum { N_THREADS = 10, PATIENCE_MS = 20000, ROUNDS = 3 };

static bool has_one_kernel_thread(pid_t pid)
{
	char path[40];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	CHECK(stat(path, &st) == 0);
	return st.st_nlink == 3;
}

static void wait_until_alone(void)
{
	long long end = now_ms() + PATIENCE_MS;

	while (!has_one_kernel_thread(getpid())) {
		CHECK(now_ms() < end && "it still has other kernel threads");
		sleep_ms(2);
	}
}

static _Atomic int count;

static void *add_one(void *arg)
{
	sleep_ms(1);
	count++;
	return arg;
}

/* Threads come and go, and do what they shall. */
static void have_threads(void)
{
	pthread_t threads[N_THREADS];
	int before = count;

	for (int i = 0; i < N_THREADS; i++)
		threads[i] = start(add_one, &threads[i]);
	for (int i = 0; i < N_THREADS; i++)
		CHECK(join(threads[i]) == &threads[i]);
	CHECK(count == before + N_THREADS);
}

static void again_and_again(void)
{
	for (int i = 0; i < ROUNDS; i++) {
		have_threads();
		wait_until_alone();
	}
	have_threads();
}

static void computes(void)
{
	struct stat st;

	for (int i = 0; i < ROUNDS; i++) {
		long long end = now_ms() + PATIENCE_MS;

		have_threads();
		do {
			for (volatile int k = 0; k < 1000000; k++)
				;
			CHECK(now_ms() < end);
			CHECK(stat("/proc/self/task", &st) == 0);
		} while (st.st_nlink != 3);
	}
	have_threads();
}

/* --- waits that somebody ends who sees that there is one kernel thread ------------------------- */

static int pair[2];
static pid_t observer;

/* A process that does act(pid) when this one has one kernel thread, and a while has passed in
 * which it can come to its wait. */
static void observe(void (*act)(pid_t))
{
	pid_t pid = getpid();

	observer = fork();
	CHECK(observer >= 0);
	if (observer != 0)
		return;
	long long end = now_ms() + PATIENCE_MS;
	sleep_ms(50);
	while (!has_one_kernel_thread(pid) && now_ms() < end)
		sleep_ms(2);
	bool alone = has_one_kernel_thread(pid);
	act(pid);
	_exit(alone ? 0 : 1);
}

static void check_observer(void)
{
	int status;

	CHECK(waitpid(observer, &status, 0) == observer);
	CHECK(status == 0 && "it had other kernel threads while it waited");
}

static void send_byte(pid_t pid)
{
	(void)pid;
	CHECK(write(pair[1], "x", 1) == 1);
}

static void send_usr1(pid_t pid)
{
	kill(pid, SIGUSR1);
}

static void do_nothing_to(pid_t pid)
{
	(void)pid;
}

static void take_byte(void)
{
	char c;

	CHECK(read(pair[0], &c, 1) == 1 && c == 'x');
}

static void wait_in_read(void)
{
	observe(send_byte);
	take_byte();
}

static void wait_in_poll(void)
{
	struct pollfd p = {.fd = pair[0], .events = POLLIN};

	observe(send_byte);
	CHECK(poll(&p, 1, -1) == 1 && p.revents == POLLIN);
	take_byte();
}

static void wait_in_select(void)
{
	fd_set set;

	FD_ZERO(&set);
	FD_SET(pair[0], &set);
	observe(send_byte);
	CHECK(select(pair[0] + 1, &set, NULL, NULL, NULL) == 1);
	take_byte();
}

static void wait_in_epoll(void)
{
	struct epoll_event ev = {.events = EPOLLIN};
	int fd = epoll_create1(0);

	CHECK(fd >= 0 && epoll_ctl(fd, EPOLL_CTL_ADD, pair[0], &ev) == 0);
	observe(send_byte);
	CHECK(epoll_wait(fd, &ev, 1, -1) == 1);
	take_byte();
	close(fd);
}

static void connect_and_send(pid_t pid)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(addr.sun_path + 1, sizeof(addr.sun_path) - 1, "pgreen-rest-%d",
		 (int)pid);
	CHECK(connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0);
	CHECK(write(fd, "x", 1) == 1);
	close(fd);
}

static void wait_in_accept(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	char c;

	snprintf(addr.sun_path + 1, sizeof(addr.sun_path) - 1, "pgreen-rest-%d",
		 (int)getpid());
	CHECK(bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 &&
	      listen(fd, 1) == 0);
	observe(connect_and_send);
	int connection = accept(fd, NULL, NULL);
	CHECK(connection >= 0 && read(connection, &c, 1) == 1);
	close(connection);
	close(fd);
}

static sigset_t usr1;

static void wait_in_sigwait(void)
{
	int sig;

	CHECK_OK(pthread_sigmask(SIG_BLOCK, &usr1, NULL));
	observe(send_usr1);
	CHECK_OK(sigwait(&usr1, &sig));
	CHECK(sig == SIGUSR1);
	CHECK_OK(pthread_sigmask(SIG_UNBLOCK, &usr1, NULL));
}

static _Atomic int n_caught;

static void on_usr1(int sig)
{
	(void)sig;
	n_caught++;
}

static void wait_in_pause(void)
{
	int before = n_caught;

	observe(send_usr1);
	CHECK(pause() == -1 && errno == EINTR);
	CHECK(n_caught == before + 1);
}

static void wait_in_sigsuspend(void)
{
	int before = n_caught;
	sigset_t none;

	sigemptyset(&none);
	CHECK_OK(pthread_sigmask(SIG_BLOCK, &usr1, NULL));
	observe(send_usr1);
	CHECK(sigsuspend(&none) == -1 && errno == EINTR && n_caught == before + 1);
	CHECK_OK(pthread_sigmask(SIG_UNBLOCK, &usr1, NULL));
}

static void wait_in_nanosleep(void)
{
	struct timespec ts = {.tv_sec = 100}, left;

	observe(send_usr1);
	CHECK(nanosleep(&ts, &left) == -1 && errno == EINTR);
	CHECK(left.tv_sec >= 75 && left.tv_sec < 100);
}

static struct timespec in_a_second(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec++;
	return ts;
}

static void wait_in_timedwait(void)
{
	pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
	struct timespec ts = in_a_second();

	observe(do_nothing_to);
	pthread_mutex_lock(&mutex);
	CHECK(pthread_cond_timedwait(&cond, &mutex, &ts) == ETIMEDOUT);
	CHECK_OK(pthread_mutex_unlock(&mutex));
}

static void wait_in_sem(void)
{
	struct timespec ts = in_a_second();
	sem_t sem;

	observe(do_nothing_to);
	CHECK(sem_init(&sem, 0, 0) == 0);
	CHECK(sem_timedwait(&sem, &ts) == -1 && errno == ETIMEDOUT);
}

static void waits(void)
{
	static void (*const ways[])(void) = {
	    wait_in_read,      wait_in_poll,      wait_in_select, wait_in_epoll,
	    wait_in_accept,    wait_in_sigwait,   wait_in_pause,  wait_in_sigsuspend,
	    wait_in_nanosleep, wait_in_timedwait, wait_in_sem,
	};

	CHECK(pipe(pair) == 0);
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		have_threads();
		ways[i]();
		check_observer();
	}
	have_threads();
}

/* --- what main keeps -------------------------------------------------------------------------- */

static long long cpu_ns(void)
{
	struct timespec ts;

	CHECK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts) == 0);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static void *send_usr2(void *thread)
{
	CHECK_OK(pthread_kill(*(pthread_t *)thread, SIGUSR2));
	return NULL;
}

static _Thread_local int own;
static char alternate[64 * 1024];
static _Atomic int n_on_alternate;

static void on_usr2(int sig)
{
	char here;

	(void)sig;
	n_on_alternate += &here >= alternate && &here < alternate + sizeof(alternate);
}

static _Atomic int n_on_own;

static void on_hup(int sig)
{
	char here;

	(void)sig;
	n_on_own += &here < alternate || &here >= alternate + sizeof(alternate);
}

/* By another process, while main computes. */
static void be_sent(int sig, const _Atomic int *n, int least)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(kill(getppid(), sig) == 0 ? 0 : 1);
	for (long long end = now_ms() + PATIENCE_MS; *n < least;)
		CHECK(now_ms() < end);
	CHECK(waitpid(pid, NULL, 0) == pid);
}

/* Handlers run on the stack that they were installed for. */
static void stacks(void)
{
	struct sigaction on = {.sa_handler = on_usr2, .sa_flags = SA_ONSTACK},
			 off = {.sa_handler = on_hup};
	stack_t stack = {.ss_sp = alternate, .ss_size = sizeof(alternate)};
	int status;

	CHECK(sigaltstack(&stack, NULL) == 0 && sigaction(SIGUSR2, &on, NULL) == 0);
	for (int i = 0; i < ROUNDS; i++) {
		/* Installed also while there are threads, and while there are none. */
		if (i < 2)
			CHECK(sigaction(SIGHUP, &off, NULL) == 0);
		have_threads();
		wait_until_alone();
		if (i > 0)
			CHECK(sigaction(SIGHUP, &off, NULL) == 0);
		be_sent(SIGUSR2, &n_on_alternate, i + 1);
		be_sent(SIGHUP, &n_on_own, i + 1);
	}
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		be_sent(SIGUSR2, &n_on_alternate, ROUNDS + 1);
		be_sent(SIGHUP, &n_on_own, ROUNDS + 1);
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

static void check_kept(pthread_t self, const char *name, const sigset_t *mask)
{
	char now[16];
	stack_t stack;
	sigset_t set;

	CHECK(pthread_equal(pthread_self(), self) && own == 7);
	CHECK(syscall(SYS_gettid) == getpid() && gettid() == getpid());
	CHECK_OK(pthread_getname_np(self, now, sizeof(now)));
	CHECK(strcmp(now, name) == 0);
	CHECK_OK(pthread_sigmask(SIG_SETMASK, NULL, &set));
	CHECK(memcmp(&set, mask, sizeof(unsigned long)) == 0);
	CHECK(sigaltstack(NULL, &stack) == 0 && stack.ss_sp == alternate);
}

/* What main used before its first thread counts as well. */
static void burn(void)
{
	for (volatile int i = 0; i < 20000000; i++)
		;
}

static void keeps_its_state(void)
{
	struct sigaction act = {.sa_handler = on_usr2, .sa_flags = SA_ONSTACK};
	stack_t stack = {.ss_sp = alternate, .ss_size = sizeof(alternate)};
	pthread_t self = pthread_self();
	sigset_t mask, pending;
	long long cpu, later;

	own = 7;
	burn();
	cpu = cpu_ns();
	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR2);
	CHECK(sigaction(SIGUSR2, &act, NULL) == 0 && sigaltstack(&stack, NULL) == 0);
	CHECK_OK(pthread_sigmask(SIG_SETMASK, &mask, NULL));
	CHECK_OK(pthread_setname_np(self, "first"));
	for (int i = 0; i < ROUNDS; i++) {
		have_threads();
		/* Pending over the change, either way. */
		in_thread(send_usr2, &self);
		check_kept(self, "first", &mask);
		wait_until_alone();
		check_kept(self, "first", &mask);
		CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGUSR2));
		CHECK_OK(pthread_sigmask(SIG_UNBLOCK, &mask, NULL));
		CHECK(n_on_alternate == 2 * i + 1);
		CHECK_OK(pthread_sigmask(SIG_BLOCK, &mask, NULL));
		CHECK_OK(pthread_kill(self, SIGUSR2));
		have_threads();
		CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGUSR2));
		CHECK_OK(pthread_sigmask(SIG_UNBLOCK, &mask, NULL));
		CHECK(n_on_alternate == 2 * i + 2);
		CHECK_OK(pthread_sigmask(SIG_BLOCK, &mask, NULL));
		for (volatile int k = 0; k < 3000000; k++)
			;
		later = cpu_ns();
		CHECK(later > cpu && later - cpu < 5000000000LL);
		cpu = later;
	}
}

/* --- what goes over to the threads after it ---------------------------------------------------- */

static void *slack_is_main_s(void *arg)
{
	CHECK(prctl(PR_GET_TIMERSLACK) == 123456);
	return arg;
}

static void *has_main_s_cpu(void *want)
{
	cpu_set_t set;

	CHECK(sched_getaffinity(0, sizeof(set), &set) == 0);
	CHECK(CPU_EQUAL(&set, (cpu_set_t *)want));
	return NULL;
}

static void is_inherited(void)
{
	cpu_set_t all, one;
	int cpu = 0;

	have_threads();
	wait_until_alone();
	CHECK(sched_getaffinity(0, sizeof(all), &all) == 0);
	while (!CPU_ISSET(cpu, &all))
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	CHECK(sched_setaffinity(0, sizeof(one), &one) == 0);
	CHECK(prctl(PR_SET_TIMERSLACK, 123456UL) == 0);
	for (int i = 0; i < N_THREADS; i++) {
		in_thread(has_main_s_cpu, &one);
		in_thread(slack_is_main_s, NULL);
	}
	CHECK(prctl(PR_GET_TIMERSLACK) == 123456);
}

/* The kernel gives such a namespace to processes with one thread. */
static void user_namespace(void)
{
	int status, error;
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0)
		_exit(unshare(CLONE_NEWUSER) == 0 ? 0 : errno);
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	/* Natively a joined thread may be the process's still, for a moment. */
	for (int i = 0; i < 20; i++) {
		have_threads();
		error = unshare(CLONE_NEWUSER) == 0 ? 0 : errno;
		if (error != EINVAL)
			break;
	}
	CHECK(error == WEXITSTATUS(status));
	have_threads();
}

/* --- who comes between --------------------------------------------------------------------------- */

static void start_one(int sig)
{
	(void)sig;
	in_thread(add_one, NULL);
}

static void thread_in_handler(void)
{
	struct sigaction act = {.sa_handler = start_one};

	CHECK(sigaction(SIGALRM, &act, NULL) == 0);
	for (int i = 0; i < ROUNDS; i++) {
		int before = count;

		have_threads();
		if (i == 0)
			wait_until_alone();
		alarm(1);
		CHECK(pause() == -1 && errno == EINTR);
		CHECK(count == before + N_THREADS + 1);
	}
	have_threads();
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int n_ticks;

static void on_tick(union sigval value)
{
	(void)value;
	in_thread(add_one, NULL);
	pthread_mutex_lock(&mutex);
	n_ticks++;
	pthread_cond_signal(&cond);
	pthread_mutex_unlock(&mutex);
}

/* libc's own threads, for a timer, call and create threads whenever it is time. */
static void timer_threads(void)
{
	struct sigevent event = {.sigev_notify = SIGEV_THREAD,
				 .sigev_notify_function = on_tick};
	struct itimerspec every = {.it_value.tv_nsec = 7000000,
				   .it_interval.tv_nsec = 7000000};
	timer_t timer;

	have_threads();
	CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
	CHECK(timer_settime(timer, 0, &every, NULL) == 0);
	for (int i = 0; i < 100; i++) {
		int before;

		pthread_mutex_lock(&mutex);
		for (before = n_ticks; n_ticks == before;)
			pthread_cond_wait(&cond, &mutex);
		pthread_mutex_unlock(&mutex);
		if (i % 8 == 0)
			in_thread(add_one, NULL);
	}
	CHECK(timer_delete(timer) == 0);
}

static void forks(void)
{
	int status;

	for (int i = 0; i < ROUNDS; i++) {
		have_threads();
		wait_until_alone();
		pid_t pid = fork();
		CHECK(pid >= 0);
		if (pid == 0) {
			have_threads();
			_exit(0);
		}
		have_threads();
		CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	}
}

/* --- which case -------------------------------------------------------------------------------------- */

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
	    {"again", again_and_again},
	    {"computes", computes},
	    {"waits", waits},
	    {"state", keeps_its_state},
	    {"stacks", stacks},
	    {"inherited", is_inherited},
	    {"namespace", user_namespace},
	    {"handler", thread_in_handler},
	    {"timers", timer_threads},
	    {"forks", forks},
	};
	struct sigaction act = {.sa_handler = on_usr1};

	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
