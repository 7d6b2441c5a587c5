/* SPDX-License-Identifier: MIT */
/*
 * signals.c: masks, handlers, waiting for signals and sending them, in a program with
 * threads.
 */
#include <poll.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>

#include "check.h"

enum { ROUNDS = 20 };

static sigset_t set_of(int sig)
{
	sigset_t set;

	sigemptyset(&set);
	if (sig != 0)
		sigaddset(&set, sig);
	return set;
}

static void block(int sig)
{
	sigset_t set = set_of(sig);

	CHECK_OK(pthread_sigmask(SIG_BLOCK, &set, NULL));
}

static void unblock(int sig)
{
	sigset_t set = set_of(sig);

	CHECK_OK(pthread_sigmask(SIG_UNBLOCK, &set, NULL));
}

static bool is_pending(int sig)
{
	sigset_t set = set_of(0);

	CHECK(sigpending(&set) == 0);
	return sigismember(&set, sig);
}

static void handle(int sig, void (*handler)(int), int flags)
{
	struct sigaction act = {.sa_handler = handler, .sa_flags = flags};

	CHECK(sigaction(sig, &act, NULL) == 0);
}

/* Waits until *n is at least least. */
static void wait_until(_Atomic int *n, int least)
{
	for (long long end = now_ms() + 15000; *n < least; sleep_ms(1))
		CHECK(now_ms() < end);
}

static long long now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000LL + ts.tv_nsec / 1000;
}

static void compute_until(long long end)
{
	while (now_us() < end)
		;
}

static _Atomic int n_handled;
static pthread_t handled_by;
static siginfo_t info_handled;

static void note(int sig)
{
	(void)sig;
	handled_by = pthread_self();
	n_handled++;
}

static void note_info(int sig, siginfo_t *info, void *context)
{
	CHECK(context != NULL);
	CHECK(info->si_signo == sig);
	info_handled = *info;
	note(sig);
}

static void handle_info(int sig)
{
	struct sigaction act = {.sa_sigaction = note_info, .sa_flags = SA_SIGINFO};

	CHECK(sigaction(sig, &act, NULL) == 0);
}

/* --- masks ------------------------------------------------------------------------------- */

static void *masks_thread(void *arg)
{
	/* Inherited; and changes here are nobody else's. */
	CHECK(is_blocked(SIGUSR2) && !is_blocked(SIGUSR1));
	block(SIGUSR1);
	unblock(SIGUSR2);
	CHECK(pthread_kill(pthread_self(), SIGUSR1) == 0);
	CHECK(raise(SIGUSR1) == 0);
	CHECK(is_pending(SIGUSR1));
	CHECK(n_handled == 0);
	/* A standard signal is pending once, and is handled before the mask change is over. */
	unblock(SIGUSR1);
	CHECK(n_handled == 1);
	CHECK(pthread_equal(handled_by, pthread_self()));
	CHECK(!is_pending(SIGUSR1));
	n_handled = 0;
	return arg;
}

static void test_masks(void)
{
	sigset_t set = set_of(SIGUSR1), old;

	handle(SIGUSR1, note, 0);
	block(SIGUSR2);
	for (int i = 0; i < ROUNDS; i++)
		in_thread(masks_thread, NULL);
	CHECK(is_blocked(SIGUSR2) && !is_blocked(SIGUSR1));
	/* What is pending for a thread is not for the others. */
	CHECK(!is_pending(SIGUSR1));

	CHECK(pthread_sigmask(99, &set, NULL) == EINVAL);
	CHECK(pthread_sigmask(99, NULL, &old) == 0);
	CHECK(sigprocmask(99, &set, NULL) == -1 && errno == EINVAL);
	CHECK(sigprocmask(SIG_SETMASK, &set, &old) == 0);
	CHECK(sigismember(&old, SIGUSR2) && !sigismember(&old, SIGUSR1));
	/* These cannot be blocked. */
	sigfillset(&set);
	CHECK(sigprocmask(SIG_SETMASK, &set, NULL) == 0);
	CHECK(!is_blocked(SIGKILL) && !is_blocked(SIGSTOP) && is_blocked(SIGTERM));
}

/* --- handlers ---------------------------------------------------------------------------- */

static int depth, deepest;

static void nest(int sig)
{
	n_handled++;
	if (++depth > deepest)
		deepest = depth;
	CHECK(is_blocked(SIGUSR2));
	if (n_handled < 4) {
		CHECK(raise(sig) == 0);
		CHECK(raise(SIGUSR2) == 0);
		CHECK(is_pending(SIGUSR2));
	}
	depth--;
}

static void *handlers_thread(void *arg)
{
	struct sigaction act = {.sa_handler = nest}, old;

	n_handled = deepest = 0;
	handle(SIGUSR2, note, 0);
	act.sa_mask = set_of(SIGUSR2);
	CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
	CHECK(raise(SIGUSR1) == 0);
	CHECK(deepest == 1);
	CHECK(!is_blocked(SIGUSR1) && !is_blocked(SIGUSR2));

	n_handled = deepest = 0;
	act.sa_flags = SA_NODEFER;
	CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
	CHECK(raise(SIGUSR1) == 0);
	CHECK(deepest == 4);

	n_handled = 0;
	act.sa_handler = note;
	act.sa_flags = SA_RESETHAND;
	CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
	CHECK(raise(SIGUSR1) == 0);
	CHECK(n_handled == 1);
	CHECK(sigaction(SIGUSR1, NULL, &old) == 0);
	CHECK(old.sa_handler == SIG_DFL);

	/* A pending signal whose action becomes "ignore" is gone. */
	handle(SIGUSR1, note, 0);
	block(SIGUSR1);
	CHECK(raise(SIGUSR1) == 0);
	CHECK(is_pending(SIGUSR1));
	handle(SIGUSR1, SIG_IGN, 0);
	CHECK(!is_pending(SIGUSR1));
	handle(SIGUSR1, note, 0);
	unblock(SIGUSR1);
	CHECK(n_handled == 1);
	return arg;
}

static void test_handlers(void)
{
	in_thread(handlers_thread, NULL);
	handlers_thread(NULL);
}

/* What sigaction() tells is what it was told. */
static void test_actions(void)
{
	struct sigaction act = {.sa_handler = note, .sa_flags = SA_RESTART | SA_ONSTACK},
			 old;

	handle_info(SIGUSR2);
	become_threaded();
	CHECK(sigaction(SIGUSR2, NULL, &old) == 0);
	CHECK(old.sa_sigaction == note_info);
	CHECK((old.sa_flags & (SA_SIGINFO | SA_RESTART)) == SA_SIGINFO);

	act.sa_mask = set_of(SIGALRM);
	CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
	CHECK(sigaction(SIGUSR1, NULL, &old) == 0);
	CHECK(old.sa_handler == note);
	CHECK((old.sa_flags & (SA_RESTART | SA_ONSTACK | SA_SIGINFO)) ==
	      (SA_RESTART | SA_ONSTACK));
	CHECK(sigismember(&old.sa_mask, SIGALRM) && !sigismember(&old.sa_mask, SIGUSR1));

	CHECK(sigaction(0, &act, NULL) == -1 && errno == EINVAL);
	CHECK(sigaction(65, &act, NULL) == -1 && errno == EINVAL);
	CHECK(sigaction(32, &act, NULL) == -1 && errno == EINVAL);
	CHECK(sigaction(33, &act, NULL) == -1 && errno == EINVAL);
	CHECK(sigaction(SIGKILL, &act, NULL) == -1 && errno == EINVAL);
	CHECK(sigaction(SIGSTOP, &act, NULL) == -1 && errno == EINVAL);
	CHECK(sigaction(SIGKILL, NULL, &old) == 0);
}

/* A handler may change what it interrupted: a fault is repaired. */
static int good = 5;

static void repair(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	(void)sig;
	CHECK(info->si_addr == (void *)16);
	CHECK(uc->uc_mcontext.gregs[REG_RDX] == 16);
	uc->uc_mcontext.gregs[REG_RDX] = (greg_t)&good;
	n_handled++;
}

static void *fault_thread(void *arg)
{
	for (int i = 1; i <= ROUNDS; i++) {
		int got, *from = (int *)16;

		__asm__ volatile("movl (%1), %0" : "=r"(got), "+d"(from));
		CHECK(got == 5 && from == &good);
		CHECK(n_handled == i);
	}
	n_handled = 0;
	return arg;
}

static void test_fault(void)
{
	struct sigaction act = {.sa_sigaction = repair, .sa_flags = SA_SIGINFO};

	CHECK(sigaction(SIGSEGV, &act, NULL) == 0);
	in_thread(fault_thread, NULL);
	fault_thread(NULL);
}

/* And sees it: a loop of one instruction ends when the handler has met it there. */
static void leave_loop(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	const unsigned char *at = (const unsigned char *)uc->uc_mcontext.gregs[REG_RIP];

	(void)sig;
	(void)info;
	/* jmp to itself */
	if (at[0] == 0xeb && at[1] == 0xfe)
		uc->uc_mcontext.gregs[REG_RIP] += 2;
}

static void *loop_thread(void *arg)
{
	_Atomic bool *in_loop = arg;

	*in_loop = true;
	__asm__ volatile("1: .byte 0xeb, 0xfe");
	*in_loop = false;
	return arg;
}

static void test_context(void)
{
	struct sigaction act = {.sa_sigaction = leave_loop, .sa_flags = SA_SIGINFO};
	static _Atomic bool in_loop;

	CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
	pthread_t thread = start(loop_thread, &in_loop);
	while (!in_loop)
		sleep_ms(1);
	for (long long end = now_ms() + 15000; in_loop; sleep_ms(1)) {
		CHECK(now_ms() < end);
		CHECK_OK(pthread_kill(thread, SIGUSR1));
	}
	join(thread);
}

/* Another process sends it to this one. */
static void be_sent(int sig)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(kill(getppid(), sig) == 0 ? 0 : 1);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

/* Signals come all the time while the first thread is created. */
static void test_first_thread(void)
{
	handle(SIGUSR1, note, SA_RESTART);
	for (int i = 0; i < 20; i++) {
		pid_t pid = fork();
		int status;

		if (pid == 0) {
			pid_t parent = getpid();
			if (fork() == 0) {
				while (getppid() == parent && kill(parent, SIGUSR1) == 0)
					usleep(10);
				_exit(0);
			}
			while (n_handled == 0)
				;
			become_threaded();
			_exit(0);
		}
		CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	}
}

static _Atomic int n_blocked;

static void block_usr2(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)info;
	sigaddset(&((ucontext_t *)context)->uc_sigmask, SIGUSR2);
	n_blocked++;
}

/* The mask that a handler leaves in its context is the thread's, and the kernel knows it. */
static void test_context_mask(void)
{
	struct sigaction act = {.sa_sigaction = block_usr2,
				.sa_flags = SA_SIGINFO | SA_RESTART};

	become_threaded();
	handle(SIGUSR2, note, SA_RESTART);
	CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
	be_sent(SIGUSR1);
	wait_until(&n_blocked, 1);
	CHECK(is_blocked(SIGUSR2));
	be_sent(SIGUSR2);
	CHECK(n_handled == 0 && is_pending(SIGUSR2));
	unblock(SIGUSR2);
	CHECK(n_handled == 1);
}

/* siglongjmp out of a handler: the mask is what it was at sigsetjmp. */
static __thread sigjmp_buf place;

static void jump(int sig)
{
	CHECK(is_blocked(sig));
	siglongjmp(place, sig);
}

static void *jump_thread(void *arg)
{
	for (volatile int i = 0; i < ROUNDS; i++) {
		int sig = sigsetjmp(place, 1);

		CHECK(!is_blocked(SIGSEGV) && !is_blocked(SIGUSR1));
		if (sig == 0) {
			raise(SIGSEGV);
			CHECK(false);
		}
		if (sig == SIGSEGV) {
			raise(SIGUSR1);
			CHECK(false);
		}
		CHECK(sig == SIGUSR1);
		/* Without the mask nothing is put back. */
		if (sigsetjmp(place, 0) == 0)
			raise(SIGUSR1);
		CHECK(is_blocked(SIGUSR1));
		unblock(SIGUSR1);
	}
	return arg;
}

static void test_jump(void)
{
	handle(SIGSEGV, jump, 0);
	handle(SIGUSR1, jump, 0);
	/* A buffer from before the first thread. */
	volatile bool again = false;
	sigset_t usr2 = set_of(SIGUSR2);
	CHECK(sigprocmask(SIG_BLOCK, &usr2, NULL) == 0);
	if (sigsetjmp(place, 1) == 0) {
		become_threaded();
		unblock(SIGUSR2);
		again = true;
		siglongjmp(place, 1);
	}
	CHECK(again && is_blocked(SIGUSR2));
	in_thread(jump_thread, NULL);
	jump_thread(NULL);
}

static void *park_on_sem(void *arg);
static sem_t sem;

/* All threads block it, one since it jumped out of a handler: it does not end the process. */
static void test_jump_masked(void)
{
	struct sigaction act = {.sa_handler = jump, .sa_mask = set_of(SIGTERM)};

	CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
	sem_init(&sem, 0, 0);
	block(SIGTERM);
	pthread_t thread = start(park_on_sem, NULL);
	unblock(SIGTERM);
	if (sigsetjmp(place, 0) == 0)
		raise(SIGUSR1);
	CHECK(is_blocked(SIGTERM) && !is_pending(SIGTERM));
	be_sent(SIGTERM);
	CHECK(is_pending(SIGTERM));
	sem_post(&sem);
	join(thread);
}

/* The same where each has a mask of its own. */
static void *park_masked(void *arg)
{
	for (int i = 0; i < 7; i++)
		if ((long)arg >> i & 1)
			block(SIGRTMIN + 1 + i);
	return park_on_sem(arg);
}

static void test_many_masks(void)
{
	enum { N = 100 };
	pthread_t threads[N];

	sem_init(&sem, 0, 0);
	block(SIGTERM);
	for (long i = 0; i < N; i++)
		threads[i] = start_waiting(park_masked, (void *)i);
	be_sent(SIGTERM);
	CHECK(is_pending(SIGTERM));
	/* And one that a few let in is theirs. */
	handle(SIGRTMIN + 7, note, SA_RESTART);
	block(SIGRTMIN + 7);
	be_sent(SIGRTMIN + 7);
	wait_until(&n_handled, 1);
	for (int i = 0; i < N; i++)
		sem_post(&sem);
	for (int i = 0; i < N; i++)
		join(threads[i]);
}

/* --- to a thread --------------------------------------------------------------------------- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static bool leave;
static _Atomic int n_ready;
static _Atomic bool stop;

static void *park_on_cond(void *arg)
{
	CHECK_OK(pthread_mutex_lock(&mutex));
	n_ready++;
	while (!leave)
		CHECK_OK(pthread_cond_wait(&cond, &mutex));
	CHECK_OK(pthread_mutex_unlock(&mutex));
	return arg;
}

static void *park_on_sem(void *arg)
{
	n_ready++;
	while (sem_wait(&sem) != 0)
		CHECK(errno == EINTR);
	return arg;
}

static void *park_on_mutex(void *arg)
{
	n_ready++;
	CHECK_OK(pthread_mutex_lock(&mutex));
	CHECK_OK(pthread_mutex_unlock(&mutex));
	return arg;
}

static void *compute(void *arg)
{
	n_ready++;
	while (!stop)
		;
	return arg;
}

/* Computes in libc, where nothing may be preempted for long stretches. */
static void *compute_in_libc(void *arg)
{
	static char from[1 << 20], to[1 << 20];

	n_ready++;
	while (!stop)
		memcpy(to, from, sizeof(to));
	return arg;
}

static void check_reached(pthread_t thread)
{
	for (int i = 0; i < ROUNDS; i++) {
		int before = n_handled;

		CHECK_OK(pthread_kill(thread, SIGUSR1));
		wait_until(&n_handled, before + 1);
		CHECK(pthread_equal(handled_by, thread));
		CHECK(n_handled == before + 1);
	}
}

static void test_parked(void)
{
	handle(SIGUSR1, note, 0);
	sem_init(&sem, 0, 0);
	pthread_t waits = start(park_on_cond, NULL), sems = start(park_on_sem, NULL);
	wait_until(&n_ready, 2);
	check_reached(waits);
	check_reached(sems);
	CHECK_OK(pthread_mutex_lock(&mutex));
	pthread_t locks = start(park_on_mutex, NULL);
	wait_until(&n_ready, 3);
	check_reached(locks);
	leave = true;
	CHECK_OK(pthread_cond_broadcast(&cond));
	CHECK_OK(pthread_mutex_unlock(&mutex));
	sem_post(&sem);
	join(waits);
	join(sems);
	join(locks);
}

/*
 * A handler runs while its thread waits for the mutex of the condition that was signalled, also
 * one that is sent just then: who holds the mutex may wait for it.
 */
enum { N_CROWD = 300, N_SIGNALLED = 50 };
static int broadcasts, n_back;
static pthread_t last_of_crowd;
static _Atomic int send_no, n_sent, send_after;

static void *wait_for_broadcasts(void *arg)
{
	CHECK_OK(pthread_mutex_lock(&mutex));
	for (int i = 0; i < N_SIGNALLED; i++) {
		last_of_crowd = pthread_self();
		n_back++;
		while (broadcasts == i)
			CHECK_OK(pthread_cond_wait(&cond, &mutex));
	}
	CHECK_OK(pthread_mutex_unlock(&mutex));
	return arg;
}

static void *send_when_told(void *arg)
{
	for (int i = 1; i <= N_SIGNALLED; i++) {
		while (send_no < i)
			sched_yield();
		for (int spins = send_after; spins > 0; spins--)
			__builtin_ia32_pause();
		CHECK_OK(pthread_kill(last_of_crowd, SIGUSR1));
		n_sent = i;
	}
	return arg;
}

static void test_signalled(void)
{
	pthread_t threads[N_CROWD], sender;

	handle(SIGUSR1, note, 0);
	for (int i = 0; i < N_CROWD; i++)
		threads[i] = start(wait_for_broadcasts, NULL);
	sender = start(send_when_told, NULL);
	for (int i = 1; i <= N_SIGNALLED; i++) {
		CHECK_OK(pthread_mutex_lock(&mutex));
		while (n_back < i * N_CROWD) {
			CHECK_OK(pthread_mutex_unlock(&mutex));
			sleep_ms(1);
			CHECK_OK(pthread_mutex_lock(&mutex));
		}
		broadcasts = i;
		send_after = i * 20;
		send_no = i;
		CHECK_OK(pthread_cond_broadcast(&cond));
		wait_until(&n_sent, i);
		wait_until(&n_handled, i);
		CHECK_OK(pthread_mutex_unlock(&mutex));
	}
	for (int i = 0; i < N_CROWD; i++)
		join(threads[i]);
	join(sender);
}

static _Atomic bool is_back;

/* Natively it comes back only when it is signalled, or not even then: many count on that. */
static void *wait_once(void *arg)
{
	CHECK_OK(pthread_mutex_lock(&mutex));
	n_ready++;
	CHECK_OK(pthread_cond_wait(&cond, &mutex));
	is_back = true;
	CHECK_OK(pthread_mutex_unlock(&mutex));
	return arg;
}

static void note_and_stay(int sig)
{
	note(sig);
	while (!leave)
		sleep_ms(1);
}

static void test_resumed(void)
{
	pthread_t thread = start(wait_once, NULL);

	handle(SIGUSR1, note, 0);
	wait_until(&n_ready, 1);
	CHECK_OK(pthread_mutex_lock(&mutex));
	CHECK_OK(pthread_mutex_unlock(&mutex));
	check_reached(thread);
	sleep_ms(10);
	CHECK(!is_back);
	/* And a signal that comes while its handler runs is not lost. */
	int before = n_handled;
	handle(SIGUSR1, note_and_stay, 0);
	CHECK_OK(pthread_kill(thread, SIGUSR1));
	wait_until(&n_handled, before + 1);
	CHECK_OK(pthread_cond_signal(&cond));
	leave = true;
	join(thread);
	CHECK(is_back);
}

enum { N_AGAIN = 2000 };

/* Blocked here, it is pending when this returns. */
static void note_and_send(int sig)
{
	if (++n_handled < N_AGAIN)
		CHECK_OK(pthread_kill(pthread_self(), sig));
}

static void *send_first(void *arg)
{
	CHECK_OK(pthread_kill(pthread_self(), SIGUSR1));
	CHECK(n_handled == N_AGAIN);
	return arg;
}

/* As many as there are, they need no more stack than one. */
static void test_again(void)
{
	pthread_attr_t attr;
	pthread_t thread;

	handle(SIGUSR1, note_and_send, 0);
	CHECK_OK(pthread_attr_init(&attr));
	CHECK_OK(pthread_attr_setstacksize(&attr, 65536));
	CHECK_OK(pthread_create(&thread, &attr, send_first, NULL));
	join(thread);
}

static sem_t reached;

static void note_and_post(int sig)
{
	note(sig);
	sem_post(&reached);
}

/* The signal comes while the thread is queued, in the middle of its computation, and then
 * nothing happens that would make it look up once more. */
static void test_computing_alone(void)
{
	struct timespec end;

	handle(SIGUSR1, note_and_post, 0);
	sem_init(&reached, 0, 0);
	pthread_t thread = start(compute, NULL);
	for (int i = 0; i < ROUNDS; i++) {
		for (long long at = now_ms() + 20; now_ms() < at;)
			;
		CHECK_OK(pthread_kill(thread, SIGUSR1));
		clock_gettime(CLOCK_REALTIME, &end);
		end.tv_sec += 15;
		while (sem_timedwait(&reached, &end) != 0)
			CHECK(errno == EINTR);
		CHECK(pthread_equal(handled_by, thread));
	}
	stop = true;
	join(thread);
}

static void test_computing(void)
{
	handle(SIGUSR1, note, 0);
	pthread_t loops = start(compute, NULL), copies = start(compute_in_libc, NULL);
	wait_until(&n_ready, 2);
	check_reached(loops);
	check_reached(copies);
	stop = true;
	join(loops);
	join(copies);
}

static int held_fd;

static void *wait_in_flock(void *arg)
{
	CHECK(flock(held_fd, LOCK_EX) == -1 && errno == EINTR);
	return arg;
}

/* The user's queue of signals is full, and has room again. */
static void test_full_queue(void)
{
	char path[] = "/tmp/signals.XXXXXX";
	int fd = mkstemp(path);
	struct rlimit limit, none;

	held_fd = open(path, O_RDWR);
	unlink(path);
	CHECK(fd >= 0 && held_fd >= 0 && flock(fd, LOCK_EX) == 0);
	CHECK(getrlimit(RLIMIT_SIGPENDING, &limit) == 0);
	none = (struct rlimit){0, limit.rlim_max};
	handle(SIGUSR1, note, 0);
	pthread_t waits = start_waiting(wait_in_flock, NULL);
	pthread_t loops = start(compute, NULL);
	wait_until(&n_ready, 1);
	CHECK(setrlimit(RLIMIT_SIGPENDING, &none) == 0);
	CHECK_OK(pthread_kill(waits, SIGUSR1));
	CHECK_OK(pthread_kill(loops, SIGUSR1));
	CHECK(setrlimit(RLIMIT_SIGPENDING, &limit) == 0);
	join(waits);
	wait_until(&n_handled, 2);
	stop = true;
	join(loops);
	close(fd);
	close(held_fd);
}

/* Of the user, in all his processes. */
static int n_queued(void)
{
	char line[100];
	int n = -1;
	FILE *f = fopen("/proc/self/status", "r");

	CHECK(f != NULL);
	while (n < 0 && fgets(line, sizeof(line), f) != NULL)
		sscanf(line, "SigQ: %d/", &n);
	fclose(f);
	return n;
}

static void *rain_on(void *thread)
{
	while (!stop)
		CHECK_OK(pthread_kill(*(pthread_t *)thread, SIGUSR1));
	return NULL;
}

/* A standard signal is pending once, however often it is sent. */
static void test_no_pile(void)
{
	/* A user whom nobody else is: what other processes have queued does not count. */
	if (geteuid() == 0)
		CHECK(setuid(1000000 + (uid_t)getpid()) == 0);
	int before = n_queued(), most = 0;

	handle(SIGUSR1, note, 0);
	pthread_t loops = start(compute_in_libc, NULL), others[3];
	wait_until(&n_ready, 1);
	for (int i = 0; i < 3; i++)
		others[i] = start(rain_on, &loops);
	for (int i = 0; i < 100; i++) {
		int now = n_queued();

		most = now > most ? now : most;
		sleep_ms(3);
	}
	stop = true;
	for (int i = 0; i < 3; i++)
		join(others[i]);
	join(loops);
	CHECK(most - before < 500);
}

static void test_errors(void)
{
	pthread_t thread = start(do_nothing, NULL);
	union sigval value = {.sival_int = 1};

	sleep_ms(20);
	/* It has ended, and is not joined yet. */
	CHECK_OK(pthread_kill(thread, 0));
	CHECK_OK(pthread_kill(thread, SIGUSR1));
	join(thread);
	CHECK_OK(pthread_kill(pthread_self(), 0));
	CHECK(pthread_kill(pthread_self(), 65) == EINVAL);
	CHECK(pthread_kill(pthread_self(), -1) == EINVAL);
	CHECK(pthread_kill(pthread_self(), 32) == EINVAL);
	CHECK(pthread_kill(pthread_self(), 33) == EINVAL);
	CHECK(pthread_sigqueue(pthread_self(), 33, value) == EINVAL);
	CHECK(raise(65) == -1 && errno == EINVAL);
	CHECK(raise(0) == 0);
	CHECK(kill(getpid(), 0) == 0);
	CHECK(kill(getpid(), 65) == -1 && errno == EINVAL);
	CHECK(tgkill(getpid(), gettid(), 0) == 0);
	CHECK(tgkill(getpid(), 0x3fffffff, 0) == -1 && errno == ESRCH);
	CHECK(tgkill(getpid(), -1, 0) == -1 && errno == EINVAL);
	CHECK(sigqueue(getpid(), 65, value) == -1 && errno == EINVAL);
}

/* By thread id, from another thread and from the own one. */
static void *tid_thread(void *arg)
{
	_Atomic int *tid = arg;

	*tid = gettid();
	while (!stop)
		sleep_ms(1);
	return arg;
}

static void test_tids(void)
{
	static _Atomic int tid;
	pthread_t thread = start(tid_thread, &tid);

	handle(SIGUSR1, note, 0);
	wait_until(&tid, 1);
	CHECK(tgkill(getpid(), tid, SIGUSR1) == 0);
	wait_until(&n_handled, 1);
	CHECK(pthread_equal(handled_by, thread));
	CHECK(syscall(SYS_tgkill, getpid(), tid, SIGUSR1) == 0);
	wait_until(&n_handled, 2);
	CHECK(pthread_equal(handled_by, thread));
	CHECK(tgkill(getpid(), gettid(), SIGUSR1) == 0);
	CHECK(n_handled == 3 && pthread_equal(handled_by, pthread_self()));
	/* Elsewhere a thread's id stands for its process. */
	CHECK(kill(tid, 0) == 0);
	CHECK(kill(tid, SIGUSR1) == 0);
	wait_until(&n_handled, 4);
	CHECK(sigqueue(tid, SIGUSR1, (union sigval){.sival_int = 1}) == 0);
	wait_until(&n_handled, 5);
	CHECK(syscall(SYS_kill, tid, SIGUSR1) == 0);
	wait_until(&n_handled, 6);
	stop = true;
	join(thread);
}

/* --- sigwait ------------------------------------------------------------------------------- */

static void *signal_taker(void *arg)
{
	sigset_t set = set_of(SIGUSR1);
	int sig;

	(void)arg;
	sigaddset(&set, SIGTERM);
	for (;;) {
		CHECK(sigwait(&set, &sig) == 0);
		if (sig == SIGTERM)
			return NULL;
		CHECK(sig == SIGUSR1);
		n_handled++;
	}
}

/* All threads block the signals; one takes them, whoever sends them. */
static void test_sigwait(void)
{
	block(SIGUSR1);
	block(SIGTERM);
	pthread_t thread = start(signal_taker, NULL);
	for (int i = 0; i < ROUNDS; i++) {
		CHECK(i % 2 == 0 ? kill(getpid(), SIGUSR1) == 0
				 : pthread_kill(thread, SIGUSR1) == 0);
		wait_until(&n_handled, i + 1);
	}
	pid_t pid = fork();
	if (pid == 0)
		_exit(kill(getppid(), SIGTERM) == 0 ? 0 : 1);
	join(thread);
	CHECK(waitpid(pid, NULL, 0) == pid);
}

static void *queue_thread(void *arg)
{
	sigset_t set = set_of(SIGRTMIN);
	siginfo_t info;

	for (int i = 0; i < ROUNDS; i++) {
		CHECK(sigwaitinfo(&set, &info) == SIGRTMIN);
		CHECK(info.si_code == SI_QUEUE);
		CHECK(info.si_pid == getpid());
		CHECK(info.si_value.sival_int == i);
	}
	return arg;
}

/* Real-time signals queue, in order, each with its value. */
static void test_queue(void)
{
	union sigval value;

	block(SIGRTMIN);
	for (int round = 0; round < 2; round++) {
		pthread_t thread = start(queue_thread, NULL);

		for (int i = 0; i < ROUNDS; i++) {
			value.sival_int = i;
			if (round == 0)
				CHECK(sigqueue(getpid(), SIGRTMIN, value) == 0);
			else
				CHECK_OK(pthread_sigqueue(thread, SIGRTMIN, value));
		}
		join(thread);
	}
}

static pid_t sender;
static _Atomic int n_out_of_order;

static void wait_for_sender(int sig, siginfo_t *info, void *context)
{
	int status;

	(void)sig;
	(void)context;
	if (n_handled == 0)
		CHECK(waitpid(sender, &status, 0) == sender && status == 0);
	n_out_of_order += info->si_value.sival_int != n_handled;
	n_handled++;
}

/* Of count none that the sender was told is sent is lost, nor overtaken, while the first is
 * being handled. */
static void check_queued(int count)
{
	struct sigaction act = {.sa_sigaction = wait_for_sender,
				.sa_flags = SA_SIGINFO | SA_RESTART};
	int sent[2], n;

	CHECK(sigaction(SIGRTMIN, &act, NULL) == 0 && pipe(sent) == 0);
	sem_init(&sem, 0, 0);
	block(SIGRTMIN);
	pthread_t thread = start(park_on_sem, NULL);
	sender = fork();
	if (sender == 0) {
		n = 0;
		for (int i = 0; i < count; i++) {
			union sigval value = {.sival_int = n};

			if (sigqueue(getppid(), SIGRTMIN, value) == 0)
				n++;
		}
		_exit(write(sent[1], &n, sizeof(n)) == sizeof(n) ? 0 : 1);
	}
	unblock(SIGRTMIN);
	CHECK(read(sent[0], &n, sizeof(n)) == sizeof(n) && n > 0);
	wait_until(&n_handled, n);
	sleep_ms(20);
	CHECK(n_handled == n && n_out_of_order == 0);
	sem_post(&sem);
	join(thread);
}

static void test_in_order(void)
{
	check_queued(3000);
}

/* More than the library has room for. */
static void test_many_queued(void)
{
	check_queued(6000);
}

/* How many can be queued for the caller, but no more than most. */
static int room_for(int most)
{
	struct timespec zero = {0};
	sigset_t set = set_of(SIGRTMIN);
	int n = 0;

	while (n < most &&
	       pthread_sigqueue(pthread_self(), SIGRTMIN, (union sigval){0}) == 0)
		n++;
	for (int i = 0; i < n; i++)
		CHECK(sigtimedwait(&set, NULL, &zero) == SIGRTMIN);
	return n;
}

static _Atomic(pthread_t) ending;
static _Atomic bool ends;
static _Atomic int n_ended;

static void *end_soon(void *arg)
{
	(void)arg;
	while (ending == 0)
		sched_yield();
	ends = true;
	return NULL;
}

static void *send_to_ending(void *arg)
{
	for (; !stop; sched_yield()) {
		if (!ends)
			continue;
		for (int i = 0; i < 60; i++)
			pthread_kill(ending, SIGRTMIN);
		ends = false;
		ending = 0;
		n_ended++;
	}
	return arg;
}

/* What is sent to threads as they end takes no room. */
static void test_ended(void)
{
	block(SIGRTMIN);
	pthread_t sends = start(send_to_ending, NULL);
	int before = room_for(5000);
	for (int i = 0; i < 4000; i++) {
		pthread_t thread = start(end_soon, NULL);

		ending = thread;
		while (n_ended <= i)
			sched_yield();
		join(thread);
	}
	CHECK(room_for(5000) == before);
	stop = true;
	join(sends);
}

static _Atomic int first_overrun;

static void count_overrun(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	CHECK(info->si_code == SI_TIMER);
	if (n_handled == 0)
		compute_until(now_us() + 50000);
	else if (n_handled == 1)
		first_overrun = info->si_overrun;
	n_handled++;
}

/* A timer has one signal pending, which tells how often it has expired meanwhile. */
static void test_overrun(void)
{
	struct sigaction act = {.sa_sigaction = count_overrun, .sa_flags = SA_SIGINFO};
	struct itimerspec often = {.it_value.tv_nsec = 500000,
				   .it_interval.tv_nsec = 500000};
	const int signals[] = {SIGRTMIN, SIGUSR1};
	timer_t timer;

	sem_init(&sem, 0, 0);
	block(SIGRTMIN);
	block(SIGUSR1);
	pthread_t thread = start(park_on_sem, NULL);
	for (int i = 0; i < 2; i++) {
		struct sigevent event = {.sigev_notify = SIGEV_SIGNAL,
					 .sigev_signo = signals[i]};

		n_handled = 0;
		CHECK(sigaction(signals[i], &act, NULL) == 0);
		unblock(signals[i]);
		CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
		CHECK(timer_settime(timer, 0, &often, NULL) == 0);
		wait_until(&n_handled, 2);
		CHECK(timer_delete(timer) == 0);
		CHECK(first_overrun >= 10);
		/* What it has sent is there by now. */
		sleep_ms(20);
	}
	sem_post(&sem);
	join(thread);
}

static void *timed_thread(void *arg)
{
	struct timespec ts = {.tv_nsec = 30000000}, zero = {0}, bad = {.tv_nsec = -1};
	sigset_t set = set_of(SIGUSR1);
	siginfo_t info;

	block(SIGUSR1);
	long long before = now_ms();
	CHECK(sigtimedwait(&set, &info, &ts) == -1 && errno == EAGAIN);
	CHECK(now_ms() - before >= 29);
	CHECK(sigtimedwait(&set, &info, &zero) == -1 && errno == EAGAIN);
	CHECK(sigtimedwait(&set, &info, &bad) == -1 && errno == EINVAL);
	CHECK(raise(SIGUSR1) == 0);
	CHECK(sigtimedwait(&set, &info, &zero) == SIGUSR1);
	CHECK(info.si_signo == SIGUSR1 && info.si_pid == getpid());
	CHECK(!is_pending(SIGUSR1));
	CHECK(raise(SIGUSR1) == 0);
	CHECK(sigtimedwait(&set, NULL, &ts) == SIGUSR1);
	return arg;
}

static void test_timedwait(void)
{
	in_thread(timed_thread, NULL);
	timed_thread(NULL);
}

/* What is pending a look without a wait finds, also right after one that has waited. */
static void test_at_once(void)
{
	struct timespec zero = {0}, little = {.tv_nsec = 20000};
	sigset_t set = set_of(SIGUSR1);
	siginfo_t info;

	block(SIGUSR1);
	sem_init(&sem, 0, 0);
	pthread_t thread = start(park_on_sem, NULL);
	for (int i = 0; i < 2000; i++) {
		FAILS(sigtimedwait(&set, &info, i % 2 ? &little : &zero), EAGAIN);
		CHECK(kill(getpid(), SIGUSR1) == 0);
		CHECK(sigtimedwait(&set, &info, &zero) == SIGUSR1);
	}
	sem_post(&sem);
	join(thread);
}

/* Sends the process sig until told to stop, or once after delay. */
struct sender {
	int sig, delay_ms;
};

static void *send_from_thread(void *arg)
{
	const struct sender *s = arg;

	do {
		sleep_ms(s->delay_ms);
		CHECK(kill(getpid(), s->sig) == 0);
	} while (!stop);
	return arg;
}

static pid_t send_from_child(const struct sender *s)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	do
		sleep_ms(s->delay_ms);
	while (kill(getppid(), s->sig) == 0 && s->sig == SIGWINCH);
	_exit(0);
}

static void take_by_main(struct sender *s, bool by_child)
{
	sigset_t set = set_of(s->sig);
	struct timespec ts = {.tv_sec = 10};
	pthread_t thread;
	pid_t pid = 0;

	stop = s->sig != SIGWINCH;
	sem_init(&sem, 0, 0);
	pthread_t open = start(park_on_sem, NULL);
	if (!by_child)
		thread = start(send_from_thread, s);
	/* Only now: the others leave it open. */
	block(s->sig);
	if (by_child)
		pid = send_from_child(s);
	CHECK(sigtimedwait(&set, NULL, &ts) == s->sig);
	stop = true;
	if (by_child) {
		kill(pid, SIGKILL);
		CHECK(waitpid(pid, NULL, 0) == pid);
	} else {
		join(thread);
	}
	sem_post(&sem);
	join(open);
}

/*
 * The kernel asks main first: what main waits for is not fatal, nor lost, though other threads
 * leave it open and it has no handler.  One that is fatal may come before main waits, on a busy
 * machine: later, then.
 */
static void test_main_waits(void)
{
	const int signals[] = {SIGTERM, SIGRTMIN, SIGUSR1};
	struct sender s = {SIGWINCH, 1};
	int status = 0;

	for (int by_child = 0; by_child < 2; by_child++) {
		pid_t pid = fork();
		if (pid == 0) {
			take_by_main(&s, by_child);
			_exit(0);
		}
		CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	}
	for (int i = 0; i < 6; i++) {
		s.sig = signals[i % 3];
		for (s.delay_ms = 20; s.delay_ms < 2000; s.delay_ms *= 2) {
			pid_t pid = fork();
			if (pid == 0) {
				take_by_main(&s, i / 3);
				_exit(0);
			}
			CHECK(waitpid(pid, &status, 0) == pid);
			if (status == 0)
				break;
		}
		CHECK(status == 0);
	}
}

static void *suspended_thread(void *arg)
{
	sigset_t none = set_of(0);
	int before;

	block(SIGUSR1);
	before = n_handled;
	CHECK(raise(SIGUSR1) == 0);
	CHECK(n_handled == before);
	CHECK(sigsuspend(&none) == -1 && errno == EINTR);
	CHECK(n_handled == before + 1);
	CHECK(is_blocked(SIGUSR1));
	n_ready++;
	CHECK(sigsuspend(&none) == -1 && errno == EINTR);
	CHECK(n_handled == before + 2);
	CHECK(is_blocked(SIGUSR1));
	return arg;
}

/* The old forms; glibc's header renames the one, so both are named here. */
extern int bsd_sigpause(int mask) __asm__("sigpause");
extern int xpg_sigpause(int sig) __asm__("__xpg_sigpause");

static void *paused_thread(void *arg)
{
	int which = *(int *)arg;

	block(SIGUSR1);
	CHECK(raise(SIGUSR1) == 0 && n_handled == 0);
	errno = 0;
	CHECK((which == 0 ? xpg_sigpause(SIGUSR1) : bsd_sigpause(0)) == -1);
	CHECK(errno == EINTR && n_handled == 1 && is_blocked(SIGUSR1));
	/* Now one that comes while it is parked. */
	CHECK((which == 0 ? xpg_sigpause(SIGUSR1) : bsd_sigpause(0)) == -1);
	CHECK(errno == EINTR && n_handled == 2 && is_blocked(SIGUSR1));
	if (which == 0)
		CHECK(xpg_sigpause(0) == -1 && errno == EINVAL);
	return NULL;
}

static void test_pause(void)
{
	handle(SIGUSR1, note, 0);
	for (int which = 0; which < 2; which++) {
		n_handled = 0;
		pthread_t thread = start(paused_thread, &which);

		wait_until(&n_handled, 1);
		sleep_ms(50);
		CHECK_OK(pthread_kill(thread, SIGUSR1));
		join(thread);
	}
}

static void test_suspend(void)
{
	handle(SIGUSR1, note, SA_RESTART);
	for (int i = 0; i < ROUNDS; i++) {
		pthread_t thread = start(suspended_thread, NULL);

		wait_until(&n_ready, i + 1);
		CHECK_OK(pthread_kill(thread, SIGUSR1));
		join(thread);
		CHECK(pthread_equal(handled_by, thread));
	}
}

static void too_late(int sig)
{
	(void)sig;
	CHECK(!"the wait has ended");
}

/* Both sides of the moment at which the wait begins. */
static long long random_delay_us(void)
{
	static unsigned seed = 7;

	return rand_r(&seed) % 60;
}

/* A handler that runs right before the wait is begun ends it. */
static void test_suspend_alone(void)
{
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	struct itimerspec once = {.it_value.tv_nsec = 30000};
	sigset_t none = set_of(0);
	timer_t timer;

	become_threaded();
	handle(SIGUSR1, note, 0);
	handle(SIGALRM, too_late, 0);
	block(SIGUSR1);
	CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
	alarm(20);
	for (int i = 0; i < 3000; i++) {
		long long begin = now_us();

		CHECK(timer_settime(timer, 0, &once, NULL) == 0);
		compute_until(begin + random_delay_us());
		CHECK(sigsuspend(&none) == -1 && errno == EINTR);
		CHECK(n_handled == i + 1 && is_blocked(SIGUSR1));
	}
}

/* --- to the process ------------------------------------------------------------------------ */

/* Delivered before the call returns, as POSIX has it when nobody else could take it. */
static void *send_to_self(void *arg)
{
	union sigval value = {.sival_int = 42};

	for (int i = 0; i < ROUNDS; i++) {
		n_handled = 0;
		CHECK(kill(getpid(), SIGUSR1) == 0);
		CHECK(n_handled == 1);
		CHECK(info_handled.si_code == SI_USER && info_handled.si_pid == getpid());
		CHECK(raise(SIGUSR1) == 0);
		CHECK(n_handled == 2 && pthread_equal(handled_by, pthread_self()));
		CHECK(info_handled.si_code == SI_TKILL &&
		      info_handled.si_pid == getpid());
		CHECK(sigqueue(getpid(), SIGUSR1, value) == 0);
		CHECK(n_handled == 3);
		CHECK(info_handled.si_code == SI_QUEUE);
		CHECK(info_handled.si_value.sival_int == 42);
		CHECK_OK(pthread_sigqueue(pthread_self(), SIGUSR1, value));
		CHECK(n_handled == 4 && pthread_equal(handled_by, pthread_self()));
	}
	return arg;
}

static void test_self(void)
{
	handle_info(SIGUSR1);
	become_threaded();
	send_to_self(NULL);
}

/* The same where the kernel must send it, by main, which it prefers. */
static void test_self_by_kernel(void)
{
	siginfo_t info = {.si_code = SI_QUEUE, .si_pid = getpid(), .si_uid = getuid()};
	int pidfd;

	handle_info(SIGUSR1);
	become_threaded();
	CHECK(setpgid(0, 0) == 0);
	pidfd = syscall(SYS_pidfd_open, getpid(), 0);
	CHECK(pidfd >= 0);
	for (int i = 0; i < ROUNDS; i++) {
		n_handled = 0;
		CHECK(kill(0, SIGUSR1) == 0 && n_handled == 1);
		CHECK(kill(-getpgrp(), SIGUSR1) == 0 && n_handled == 2);
		CHECK(killpg(getpgrp(), SIGUSR1) == 0 && n_handled == 3);
		CHECK(info_handled.si_code == SI_USER && info_handled.si_pid == getpid());
		CHECK(syscall(SYS_kill, getpid(), SIGUSR1) == 0 && n_handled == 4);
		CHECK(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, &info) == 0);
		CHECK(n_handled == 5 && info_handled.si_code == SI_QUEUE);
		CHECK(syscall(SYS_pidfd_send_signal, pidfd, SIGUSR1, NULL, 0) == 0);
		CHECK(n_handled == 6);
	}
	close(pidfd);
}

/* The child signals its parent n times, each time when the parent has seen the last. */
static pid_t start_sender(int sig, int n, int from)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	for (int i = 0; i < n; i++) {
		char c;

		if (kill(getppid(), sig) != 0 || read(from, &c, 1) != 1)
			_exit(1);
	}
	_exit(0);
}

static int go[2];

static void note_and_answer(int sig)
{
	note(sig);
	CHECK(write(go[1], "x", 1) == 1);
}

/* Everybody is parked when the signal comes; somebody runs the handler. */
static void test_all_parked(void)
{
	pthread_t threads[4];
	int status;

	CHECK(pipe(go) == 0);
	handle(SIGUSR1, note_and_answer, SA_RESTART);
	sem_init(&sem, 0, 0);
	threads[0] = start(park_on_cond, NULL);
	for (int i = 1; i < 4; i++)
		threads[i] = start(park_on_sem, NULL);
	pid_t pid = start_sender(SIGUSR1, ROUNDS, go[0]);
	/* In the kernel: main is parked there. */
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	CHECK(n_handled == ROUNDS);
	pid = start_sender(SIGUSR1, ROUNDS, go[0]);
	for (int i = 1; i < 4; i++)
		sem_post(&sem);
	for (int i = 1; i < 4; i++)
		join(threads[i]);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	CHECK(n_handled == 2 * ROUNDS);
	CHECK_OK(pthread_mutex_lock(&mutex));
	leave = true;
	CHECK_OK(pthread_cond_broadcast(&cond));
	CHECK_OK(pthread_mutex_unlock(&mutex));
	join(threads[0]);
}

static pthread_t only_taker;

static void *open_thread(void *arg)
{
	unblock(SIGUSR1);
	n_ready++;
	while (sem_wait(&sem) != 0)
		CHECK(errno == EINTR);
	CHECK(n_handled == ROUNDS);
	return arg;
}

/* Of all threads one does not block the signal: it is that one's. */
static void test_one_open(void)
{
	pthread_t threads[4];
	int status;

	CHECK(pipe(go) == 0);
	handle(SIGUSR1, note_and_answer, 0);
	sem_init(&sem, 0, 0);
	block(SIGUSR1);
	for (int i = 0; i < 4; i++)
		threads[i] = start(i == 2 ? open_thread : park_on_cond, NULL);
	only_taker = threads[2];
	wait_until(&n_ready, 4);
	pid_t pid = start_sender(SIGUSR1, ROUNDS, go[0]);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	CHECK(pthread_equal(handled_by, only_taker));
	sem_post(&sem);
	join(threads[2]);
	/* Now nobody takes it, and it stays pending for the process. */
	CHECK(kill(getpid(), SIGUSR1) == 0);
	sleep_ms(20);
	CHECK(n_handled == ROUNDS);
	CHECK(is_pending(SIGUSR1));
	unblock(SIGUSR1);
	wait_until(&n_handled, ROUNDS + 1);
}

static void *sleep_often(void *arg)
{
	struct timespec ts = {.tv_nsec = 300000};

	while (!stop)
		nanosleep(&ts, NULL);
	return arg;
}

/* A fault's signal that another process sends is one like others. */
static void test_sent_faults(void)
{
	static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
	pthread_t threads[3];
	int status;

	for (int i = 0; i < 5; i++)
		handle_info(signals[i]);
	for (int i = 0; i < 3; i++)
		threads[i] = start(sleep_often, NULL);
	pid_t pid = fork();
	if (pid == 0) {
		for (int i = 0; i < 4000; i++) {
			struct timespec ts = {.tv_nsec = 50000};

			CHECK(kill(getppid(), signals[i % 5]) == 0);
			nanosleep(&ts, NULL);
		}
		_exit(0);
	}
	/* No SA_RESTART. */
	while (waitpid(pid, &status, 0) < 0)
		CHECK(errno == EINTR);
	CHECK(status == 0 && n_handled > 0);
	CHECK(info_handled.si_code == SI_USER && info_handled.si_pid == pid);
	stop = true;
	for (int i = 0; i < 3; i++)
		join(threads[i]);
	n_handled = 0;
	test_fault();
}

static void test_timer(void)
{
	struct itimerval often = {{.tv_usec = 5000}, {.tv_usec = 5000}}, never = {0};
	pthread_t thread;

	handle(SIGALRM, note, SA_RESTART);
	thread = start(compute, NULL);
	CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
	/* pause() waits for a handler of its own thread, which this one need not be. */
	wait_until(&n_handled, ROUNDS);
	CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
	stop = true;
	join(thread);
	/* Main is alone again: the alarm is its own. */
	CHECK(alarm(1) == 0);
	CHECK(pause() == -1 && errno == EINTR);
}

enum { N_TICKS = 60 };

static int tick_timer;
static _Atomic int n_ticks, ticks[4];
static __thread int tick_index;
static sem_t ticked, all_ticked;

static void tick(int sig)
{
	struct itimerval never = {0};

	(void)sig;
	ticks[tick_index]++;
	if (++n_ticks < N_TICKS)
		return;
	CHECK(setitimer(tick_timer, &never, NULL) == 0);
	sem_post(&ticked);
}

/* The first arms the timer, when all others, and main, are at their work. */
static void begin_with_ticks(void *arg)
{
	struct itimerval often = {{.tv_usec = 4000}, {.tv_usec = 4000}};

	tick_index = (int)(long)arg;
	if (tick_index != 1)
		return;
	sleep_ms(50);
	CHECK(setitimer(tick_timer, &often, NULL) == 0);
}

static void *compute_with_ticks(void *arg)
{
	begin_with_ticks(arg);
	while (!stop)
		;
	return NULL;
}

static void *wait_with_ticks(void *arg)
{
	begin_with_ticks(arg);
	CHECK(sem_wait(&all_ticked) == 0);
	return NULL;
}

static void *take_turns_with_ticks(void *arg)
{
	static int turn;
	int me = (int)(long)arg;

	begin_with_ticks(arg);
	CHECK_OK(pthread_mutex_lock(&mutex));
	while (!stop) {
		turn = me;
		CHECK_OK(pthread_cond_signal(&cond));
		while (turn == me && !stop)
			CHECK_OK(pthread_cond_wait(&cond, &mutex));
	}
	CHECK_OK(pthread_cond_signal(&cond));
	CHECK_OK(pthread_mutex_unlock(&mutex));
	return NULL;
}

/* They tick for who computes, and for nobody who waits: nothing ends that. */
static void expect_ticks(int which, int sig, int computing, void *(*routine)(void *))
{
	pthread_t threads[4];

	tick_timer = which;
	sem_init(&ticked, 0, 0);
	sem_init(&all_ticked, 0, 0);
	handle(sig, tick, 0);
	memset(ticks, 0, sizeof(ticks));
	n_ticks = 0;
	stop = false;
	for (long i = 3; i > 0; i--)
		threads[i] = start(i <= computing ? routine : wait_with_ticks, (void *)i);
	CHECK(sem_wait(&ticked) == 0);
	stop = true;
	for (int i = computing + 1; i < 4; i++)
		sem_post(&all_ticked);
	for (int i = 1; i < 4; i++)
		join(threads[i]);
	for (int i = 1; i <= computing; i++)
		CHECK(ticks[i] >= N_TICKS / computing / 4);
}

static void test_ticks(void)
{
	expect_ticks(ITIMER_PROF, SIGPROF, 1, compute_with_ticks);
	expect_ticks(ITIMER_VIRTUAL, SIGVTALRM, 3, compute_with_ticks);
	expect_ticks(ITIMER_PROF, SIGPROF, 2, take_turns_with_ticks);
}

static void *park(void *arg)
{
	CHECK(sem_wait(arg) == 0);
	return NULL;
}

/* Disarmed just when it expires: the handler has run by then or never will, though it gives
 * way to the default action, which would end the process. */
static void test_disarm(void)
{
	struct itimerval once = {.it_value.tv_usec = 300}, never = {0};
	pthread_t thread;

	sem_init(&sem, 0, 0);
	thread = start(park, &sem);
	for (int i = 0; i < 1000; i++) {
		handle(SIGALRM, note, i % 3 ? SA_RESTART : 0);
		long long now = now_us();
		CHECK(setitimer(ITIMER_REAL, &once, NULL) == 0);
		compute_until(now + 290 + i % 50);
		if (i % 2) {
			CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
			int n = n_handled;
			compute_until(now + 500);
			CHECK(n_handled == n);
		}
		/* It may expire while it is ignored, but not meet the default action. */
		handle(SIGALRM, i % 2 ? SIG_DFL : SIG_IGN, 0);
		CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
	}
	CHECK(n_handled > 0);
	sem_post(&sem);
	join(thread);
}

static _Atomic(int *) expected; /* what the handler counts in; freed when it is over */

static void count_expiry(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	CHECK(info->si_code == SI_TIMER && info->si_value.sival_ptr == expected);
	++*expected;
}

/* A timer of timer_create(), disarmed or deleted long after it expired or just then: its handler
 * has run, or never will. */
static void test_disarm_posix(void)
{
	struct sigaction act = {.sa_sigaction = count_expiry, .sa_flags = SA_SIGINFO};
	struct itimerspec once = {.it_value.tv_nsec = 300000}, never = {{0}, {0}};
	pthread_t thread;

	sem_init(&sem, 0, 0);
	thread = start(park, &sem);
	CHECK(sigaction(SIGRTMIN, &act, NULL) == 0);
	for (int i = 0; i < 1000; i++) {
		struct sigevent event = {.sigev_notify = SIGEV_SIGNAL,
					 .sigev_signo = SIGRTMIN};
		bool is_late = i % 4 == 0;
		timer_t timer;

		int *count = calloc(1, sizeof(int));
		event.sigev_value.sival_ptr = count;
		expected = count;
		CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
		CHECK(timer_settime(timer, 0, &once, NULL) == 0);
		compute_until(now_us() + (is_late ? 800 : 270 + i % 40));
		if (i % 2)
			CHECK(timer_settime(timer, 0, &never, NULL) == 0);
		else
			CHECK(timer_delete(timer) == 0);
		int n = *expected;
		CHECK(n == 1 || (n == 0 && !is_late));
		compute_until(now_us() + 100);
		CHECK(*expected == n);
		free(expected);
		expected = NULL;
		if (i % 2)
			CHECK(timer_delete(timer) == 0);
	}
	sem_post(&sem);
	join(thread);
}

static timer_t make_timer(clockid_t clock, int notify, int sig)
{
	struct sigevent event = {.sigev_notify = notify, .sigev_signo = sig};
	timer_t timer;

	event._sigev_un._tid = gettid();
	CHECK(timer_create(clock, &event, &timer) == 0);
	return timer;
}

static long long cpu_ms(void)
{
	struct timespec ts;

	CHECK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts) == 0);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

/* Timers of main's from before the first thread count its CPU time, and notify it, afterwards.
 * And what it traces stays its own. */
static void test_early_timers(void)
{
	struct itimerspec once = {.it_value.tv_nsec = 50000000};
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
			_exit(2);
		raise(SIGSTOP);
		_exit(3);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	bool traces = WIFSTOPPED(status);
	if (traces)
		CHECK(ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_EXITKILL) == 0);

	timer_t cpu = make_timer(CLOCK_THREAD_CPUTIME_ID, SIGEV_SIGNAL, SIGRTMIN);
	timer_t own = make_timer(CLOCK_MONOTONIC, SIGEV_THREAD_ID, SIGRTMIN + 1);
	handle(SIGRTMIN, note, 0);
	handle(SIGRTMIN + 1, note, 0);
	sem_init(&sem, 0, 0);
	block(SIGRTMIN);
	pthread_t thread = start(park_on_sem, NULL);
	unblock(SIGRTMIN);

	CHECK(timer_settime(cpu, 0, &once, NULL) == 0);
	for (long long end = cpu_ms() + 300; n_handled == 0;)
		CHECK(cpu_ms() < end);
	CHECK(pthread_equal(handled_by, pthread_self()));
	/* This one only if it is main's: the other thread has it open too. */
	CHECK(timer_settime(own, 0, &once, NULL) == 0);
	wait_until(&n_handled, 2);
	CHECK(pthread_equal(handled_by, pthread_self()));
	if (traces) {
		CHECK(ptrace(PTRACE_CONT, pid, NULL, NULL) == 0);
		CHECK(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 3);
	}
	sem_post(&sem);
	join(thread);
}

/* SIGCHLD of many children, by a handler that only posts. */
static void post(int sig)
{
	(void)sig;
	sem_post(&sem);
}

static void test_children(void)
{
	int n = 0;

	sem_init(&sem, 0, 0);
	handle(SIGCHLD, post, SA_RESTART);
	pthread_t thread = start(compute, NULL);
	for (int i = 0; i < ROUNDS; i++)
		if (fork() == 0)
			_exit(0);
	while (n < ROUNDS) {
		while (sem_wait(&sem) != 0)
			CHECK(errno == EINTR);
		while (waitpid(-1, NULL, WNOHANG) > 0)
			n++;
	}
	stop = true;
	join(thread);
}

/* --- default actions ------------------------------------------------------------------------ */

static void *kill_main(void *arg)
{
	pthread_kill(*(pthread_t *)arg, SIGTERM);
	return arg;
}

static void die(int how)
{
	static pthread_t main_thread;

	main_thread = pthread_self();
	become_threaded();
	if (how == 0)
		raise(SIGTERM);
	else if (how == 1)
		kill(getpid(), SIGTERM);
	else if (how == 2)
		pthread_kill(start(park_on_cond, NULL), SIGTERM);
	else if (how == 3)
		start(kill_main, &main_thread);
	else if (how == 4)
		kill(getpid(), SIGKILL);
	else if (how == 5)
		abort();
	else
		*(volatile int *)(long)(getpid() % 4096) =
		    0; /* the first page: a fault */
	if (how == 2 || how == 3)
		for (;;)
			sleep_ms(100);
	_exit(1);
}

static void test_default(void)
{
	static const int fatal[] = {SIGTERM, SIGTERM, SIGTERM, SIGTERM,
				    SIGKILL, SIGABRT, SIGSEGV};
	int status;

	for (int how = 0; how < 7; how++) {
		pid_t pid = fork();

		if (pid == 0)
			die(how);
		CHECK(waitpid(pid, &status, 0) == pid);
		errno = status;
		CHECK(WIFSIGNALED(status));
		CHECK(WTERMSIG(status) == fatal[how]);
	}
}

static void *count_on(void *arg)
{
	_Atomic int *n = arg;

	for (;;) {
		++*n;
		CHECK(write(go[1], "x", 1) == 1);
		sleep_ms(1);
	}
}

static void expect_stop(pid_t pid, int sig)
{
	int status;

	CHECK(waitpid(pid, &status, WUNTRACED) == pid);
	CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == sig);
}

/* Stopped and continued as a whole, by itself and by others. */
static void test_stop(void)
{
	char buf[4096];
	int status;

	CHECK(pipe(go) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		static _Atomic int n;

		/* Its parent is of the same session: the group is not orphaned. */
		setpgid(0, 0);
		start(count_on, &n);
		wait_until(&n, 5);
		raise(SIGTSTP);
		for (;;)
			pause();
	}
	close(go[1]);
	expect_stop(pid, SIGTSTP);
	for (int round = 0; round < 3; round++) {
		struct pollfd p = {.fd = go[0], .events = POLLIN};

		/* What was written before is all there is. */
		for (int n = 0; poll(&p, 1, 20) == 1; n++)
			CHECK(n < 10 && read(go[0], buf, sizeof(buf)) > 0);
		CHECK(kill(pid, SIGCONT) == 0);
		for (int i = 0; i < 20; i++)
			CHECK(read(go[0], buf, 1) == 1);
		CHECK(kill(pid, SIGSTOP) == 0);
		expect_stop(pid, SIGSTOP);
	}
	CHECK(kill(pid, SIGTERM) == 0);
	CHECK(kill(pid, SIGCONT) == 0);
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

/* --- old interfaces --------------------------------------------------------------------------- */

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

static void test_old(void)
{
	struct sigaction act;

	become_threaded();
	CHECK(signal(SIGUSR1, note) == SIG_DFL);
	CHECK(signal(SIGUSR1, note) == note);
	CHECK(sigaction(SIGUSR1, NULL, &act) == 0 && (act.sa_flags & SA_RESTART));
	CHECK(raise(SIGUSR1) == 0 && n_handled == 1);
	CHECK(gsignal(SIGUSR1) == 0 && n_handled == 2);
	n_handled = 1;
	CHECK(signal(0, note) == SIG_ERR && errno == EINVAL);
	CHECK(signal(SIGKILL, note) == SIG_ERR && errno == EINVAL);
	CHECK(siginterrupt(SIGUSR1, 1) == 0);
	CHECK(sigaction(SIGUSR1, NULL, &act) == 0 && !(act.sa_flags & SA_RESTART));
	CHECK(signal(SIGUSR1, note) == note);
	CHECK(sigaction(SIGUSR1, NULL, &act) == 0 && !(act.sa_flags & SA_RESTART));
	CHECK(siginterrupt(SIGUSR1, 0) == 0);
	CHECK(sigaction(SIGUSR1, NULL, &act) == 0 && (act.sa_flags & SA_RESTART));

	CHECK(sysv_signal(SIGUSR1, note) == note);
	CHECK(raise(SIGUSR1) == 0 && n_handled == 2);
	CHECK(sigaction(SIGUSR1, NULL, &act) == 0 && act.sa_handler == SIG_DFL);

	CHECK(sigset(SIGUSR1, note) == SIG_DFL);
	CHECK(sigset(SIGUSR1, SIG_HOLD) == note && is_blocked(SIGUSR1));
	CHECK(raise(SIGUSR1) == 0 && n_handled == 2);
	CHECK(sigset(SIGUSR1, note) == SIG_HOLD && !is_blocked(SIGUSR1));
	CHECK(n_handled == 3);
	CHECK(sighold(SIGUSR1) == 0 && is_blocked(SIGUSR1));
	CHECK(sigrelse(SIGUSR1) == 0 && !is_blocked(SIGUSR1));
	CHECK(sighold(0) == -1 && errno == EINVAL);
	CHECK(sigignore(SIGUSR1) == 0);
	CHECK(raise(SIGUSR1) == 0 && n_handled == 3);

	CHECK(sigblock(1 << (SIGUSR1 - 1)) == 0);
	CHECK(sigblock(0) == 1 << (SIGUSR1 - 1));
	CHECK(sigsetmask(1 << (SIGUSR2 - 1)) == 1 << (SIGUSR1 - 1));
	CHECK(is_blocked(SIGUSR2) && !is_blocked(SIGUSR1));
	CHECK(sigsetmask(0) == 1 << (SIGUSR2 - 1));
}

/* --- all at once ------------------------------------------------------------------------------ */

enum { N_THREADS = 12 };

static _Atomic int hits[N_THREADS];
static __thread int my_index;

static void hit(int sig)
{
	(void)sig;
	hits[my_index]++;
}

static void *target(void *arg)
{
	my_index = (int)(long)arg;
	n_ready++;
	while (!stop) {
		if (my_index % 3 == 0)
			continue;
		CHECK_OK(pthread_mutex_lock(&mutex));
		CHECK_OK(pthread_mutex_unlock(&mutex));
		if (my_index % 3 == 1)
			sleep_ms(1);
	}
	return NULL;
}

/* Real-time signals are never lost, and each runs on the thread that it was sent to. */
static void test_storm(void)
{
	pthread_t threads[N_THREADS];

	handle(SIGRTMIN, hit, SA_RESTART);
	for (long i = 0; i < N_THREADS; i++)
		threads[i] = start(target, (void *)i);
	wait_until(&n_ready, N_THREADS);
	for (int round = 0; round < 100; round++)
		for (int i = 0; i < N_THREADS; i++)
			CHECK_OK(pthread_kill(threads[i], SIGRTMIN));
	for (int i = 0; i < N_THREADS; i++)
		wait_until(&hits[i], 100);
	stop = true;
	for (int i = 0; i < N_THREADS; i++)
		join(threads[i]);
	for (int i = 0; i < N_THREADS; i++)
		CHECK(hits[i] == 100);
}

/* --- forked in the middle ------------------------------------------------------------------- */

static _Atomic bool first_begins;

static void take_none(int sig)
{
	(void)sig;
}

static void *send_itself(void *arg)
{
	first_begins = true;
	CHECK_OK(pthread_kill(pthread_self(), SIGUSR1));
	return arg;
}

static void *fork_meanwhile(void *delay)
{
	int status;

	while (!first_begins)
		;
	for (volatile long i = 0; i < (long)delay; i++)
		;
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		in_thread(send_itself, NULL);
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	return NULL;
}

/* Each in a process of its own: one thread sends the first signal of all, and another forks. */
static void test_forked(void)
{
	struct sigaction act = {.sa_handler = take_none};
	int status;

	CHECK(sigaction(SIGUSR1, &act, NULL) == 0);
	for (long delay = 0; delay < 20000; delay += 400) {
		pid_t pid = fork();
		CHECK(pid >= 0);
		if (pid == 0) {
			pthread_t forker = start(fork_meanwhile, (void *)delay);
			sleep_ms(1);
			in_thread(send_itself, NULL);
			join(forker);
			_exit(0);
		}
		CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	}
}

/* --- what is pending when it is unblocked -------------------------------------------------- */

/* It is handled before the call returns. */
static void test_unblock(void)
{
	sem_init(&sem, 0, 0);
	handle(SIGUSR1, note, 0);
	block(SIGUSR1);
	pthread_t thread = start(park_on_sem, NULL);
	for (int i = 0; i < 50; i++) {
		be_sent(SIGUSR1);
		CHECK(n_handled == i && is_pending(SIGUSR1));
		unblock(SIGUSR1);
		CHECK(n_handled == i + 1 && pthread_equal(handled_by, pthread_self()));
		block(SIGUSR1);
	}
	sem_post(&sem);
	join(thread);
}

static void *kill_own(void *arg)
{
	sleep_ms(10);
	CHECK(kill(getpid(), SIGUSR1) == 0);
	return arg;
}

/* Main comes first, whoever sends: its wait ends. */
static void test_main_first(void)
{
	handle(SIGUSR1, note, 0);
	sem_init(&sem, 0, 0);
	for (int i = 0; i < ROUNDS; i++) {
		pthread_t thread = start(kill_own, NULL);

		CHECK(sem_wait(&sem) == -1 && errno == EINTR);
		CHECK(n_handled == i + 1 && pthread_equal(handled_by, pthread_self()));
		join(thread);
	}
}

/* Who sends the process a signal that another thread lets in, and whose action is to end it,
 * does not come back. */
static void test_last(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		signal(SIGPIPE, SIG_DFL);
		sem_init(&sem, 0, 0);
		start(park_on_sem, NULL);
		sleep_ms(10);
		block(SIGPIPE);
		kill(getpid(), SIGPIPE);
		_exit(3);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
	    {"masks", test_masks},
	    {"forked", test_forked},
	    {"handlers", test_handlers},
	    {"actions", test_actions},
	    {"fault", test_fault},
	    {"context", test_context},
	    {"context-mask", test_context_mask},
	    {"jump", test_jump},
	    {"jump-masked", test_jump_masked},
	    {"many-masks", test_many_masks},
	    {"parked", test_parked},
	    {"signalled", test_signalled},
	    {"resumed", test_resumed},
	    {"again", test_again},
	    {"computing", test_computing},
	    {"computing-alone", test_computing_alone},
	    {"full-queue", test_full_queue},
	    {"no-pile", test_no_pile},
	    {"errors", test_errors},
	    {"tids", test_tids},
	    {"sigwait", test_sigwait},
	    {"queue", test_queue},
	    {"in-order", test_in_order},
	    {"many-queued", test_many_queued},
	    {"ended", test_ended},
	    {"overrun", test_overrun},
	    {"timedwait", test_timedwait},
	    {"at-once", test_at_once},
	    {"main-waits", test_main_waits},
	    {"suspend", test_suspend},
	    {"suspend-alone", test_suspend_alone},
	    {"pause", test_pause},
	    {"self", test_self},
	    {"self-by-kernel", test_self_by_kernel},
	    {"all-parked", test_all_parked},
	    {"one-open", test_one_open},
	    {"unblock", test_unblock},
	    {"main-first", test_main_first},
	    {"last", test_last},
	    {"sent-faults", test_sent_faults},
	    {"timer", test_timer},
	    {"ticks", test_ticks},
	    {"disarm", test_disarm},
	    {"disarm-posix", test_disarm_posix},
	    {"early-timers", test_early_timers},
	    {"children", test_children},
	    {"first-thread", test_first_thread},
	    {"default", test_default},
	    {"stop", test_stop},
	    {"old", test_old},
	    {"storm", test_storm},
	};

	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
