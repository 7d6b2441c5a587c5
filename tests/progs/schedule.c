/* SPDX-License-Identifier: MIT */
/*
 * schedule.c: what belongs to one thread: its priority, CPUs, CPU time, credentials and
 * namespaces.
 */
#include "check.h"

#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static _Atomic int go, stop;
static _Atomic pid_t other_tid;

static void wait_for(_Atomic int *flag)
{
	while (!atomic_load(flag))
		sleep_ms(1);
}

/* Until told to stop; computes, or sleeps when arg is not NULL. */
static void *idle_or_busy(void *arg)
{
	atomic_store(&other_tid, gettid());
	while (!atomic_load(&stop))
		if (arg != NULL)
			sleep_ms(1);
	return NULL;
}

static pthread_t start_other(void *sleeps)
{
	atomic_store(&stop, 0);
	atomic_store(&other_tid, 0);
	pthread_t t = start(idle_or_busy, sleeps);
	while (atomic_load(&other_tid) == 0)
		sleep_ms(1);
	return t;
}

static void end_other(pthread_t t)
{
	atomic_store(&stop, 1);
	join(t);
}

/* What the kernel itself says of the calling kernel thread, past all wrappers. */
static long raw(long nr, long a, long b, long c)
{
	register long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c)
			 : "rcx", "r11", "memory");
	return ret;
}

static int kernel_policy(void)
{
	return (int)raw(SYS_sched_getscheduler, 0, 0, 0);
}

static int kernel_nice(void)
{
	return 20 - (int)raw(SYS_getpriority, PRIO_PROCESS, 0, 0);
}

static void check_default(void)
{
	struct sched_param param = {.sched_priority = 99};
	int policy = -1;

	CHECK_OK(pthread_getschedparam(pthread_self(), &policy, &param));
	CHECK(policy == SCHED_OTHER && param.sched_priority == 0);
	CHECK(sched_getscheduler(0) == SCHED_OTHER);
	CHECK(sched_getscheduler(gettid()) == SCHED_OTHER);
	CHECK(getpriority(PRIO_PROCESS, 0) == 0);
}

/* --- policy ------------------------------------------------------------------------------ */

static void *become_real_time(void *arg)
{
	struct sched_param param = {.sched_priority = 3};
	struct timespec ts;
	int policy;

	(void)arg;
	check_default();
	CHECK_OK(pthread_setschedparam(pthread_self(), SCHED_RR, &param));
	CHECK_OK(pthread_getschedparam(pthread_self(), &policy, &param));
	CHECK(policy == SCHED_RR && param.sched_priority == 3);
	CHECK(kernel_policy() == SCHED_RR);
	CHECK(sched_getscheduler(gettid()) == SCHED_RR);
	CHECK(sched_rr_get_interval(gettid(), &ts) == 0);
	CHECK_OK(pthread_setschedprio(pthread_self(), 5));
	CHECK(sched_getparam(0, &param) == 0 && param.sched_priority == 5);
	CHECK(pthread_setschedprio(pthread_self(), 100) == EINVAL);
	/* What it starts inherits. */
	in_thread((void *(*)(void *))arg, NULL);
	param.sched_priority = 0;
	CHECK(sched_setscheduler(0, SCHED_OTHER, &param) == 0);
	CHECK(kernel_policy() == SCHED_OTHER);
	sleep_ms(2);
	return NULL;
}

static void *expect_real_time(void *arg)
{
	(void)arg;
	CHECK(kernel_policy() == SCHED_RR);
	CHECK(sched_getscheduler(0) == SCHED_RR);
	sleep_ms(2);
	CHECK(kernel_policy() == SCHED_RR);
	return NULL;
}

static void *expect_default(void *arg)
{
	(void)arg;
	check_default();
	CHECK(kernel_policy() == SCHED_OTHER && kernel_nice() == 0);
	return NULL;
}

static void may_be_real_time(void)
{
	struct sched_param param = {.sched_priority = 1};

	if (raw(SYS_sched_setscheduler, 0, SCHED_FIFO, (long)&param) != 0)
		exit(77);
	param.sched_priority = 0;
	CHECK(raw(SYS_sched_setscheduler, 0, SCHED_OTHER, (long)&param) == 0);
}

static void policy_own(void)
{
	may_be_real_time();
	become_threaded();
	in_thread(become_real_time, (void *)expect_real_time);
	for (int i = 0; i < 20; i++)
		in_thread(expect_default, NULL);
	check_default();
}

static void policy_other(void)
{
	struct sched_param param = {.sched_priority = 2};
	int policy;

	may_be_real_time();
	for (int sleeps = 0; sleeps < 2; sleeps++) {
		pthread_t t = start_other(sleeps ? &go : NULL);

		CHECK(sched_getscheduler(other_tid) == SCHED_OTHER);
		CHECK(setpriority(PRIO_PROCESS, other_tid, 7) == 0);
		CHECK(getpriority(PRIO_PROCESS, other_tid) == 7);
		CHECK(getpriority(PRIO_PROCESS, 0) == 0);
		if (sleeps) {
			CHECK_OK(pthread_setschedparam(t, SCHED_FIFO, &param));
			CHECK_OK(pthread_getschedparam(t, &policy, &param));
			CHECK(policy == SCHED_FIFO && param.sched_priority == 2);
		} else {
			CHECK(sched_setscheduler(other_tid, SCHED_BATCH,
						 &(struct sched_param){0}) == 0);
			CHECK(sched_getscheduler(other_tid) == SCHED_BATCH);
		}
		CHECK(pthread_setschedparam(t, SCHED_FIFO, &(struct sched_param){100}) ==
		      EINVAL);
		CHECK(pthread_setschedparam(t, 4711, &param) == EINVAL);
		check_default();
		end_other(t);
		/* Natively it can be joined a little before the kernel forgets it. */
		while (sched_getscheduler(other_tid) != -1)
			sleep_ms(1);
		CHECK(errno == ESRCH);
	}
}

static void attr_of(pthread_attr_t *attr, int policy, int priority)
{
	struct sched_param param = {.sched_priority = priority};

	CHECK_OK(pthread_attr_init(attr));
	CHECK_OK(pthread_attr_setinheritsched(attr, PTHREAD_EXPLICIT_SCHED));
	CHECK_OK(pthread_attr_setschedpolicy(attr, policy));
	CHECK_OK(pthread_attr_setschedparam(attr, &param));
}

static void *tell_policy(void *arg)
{
	struct sched_param param;

	(void)arg;
	CHECK(sched_getparam(0, &param) == 0);
	CHECK(kernel_policy() == sched_getscheduler(0));
	return (void *)(intptr_t)(sched_getscheduler(0) * 100 + param.sched_priority);
}

static void policy_attr(void)
{
	pthread_attr_t attr;
	pthread_t t;

	may_be_real_time();
	become_threaded();
	attr_of(&attr, SCHED_FIFO, 4);
	CHECK_OK(pthread_create(&t, &attr, tell_policy, NULL));
	CHECK(join(t) == (void *)(intptr_t)(SCHED_FIFO * 100 + 4));
	CHECK_OK(pthread_attr_setinheritsched(&attr, PTHREAD_INHERIT_SCHED));
	CHECK_OK(pthread_create(&t, &attr, tell_policy, NULL));
	CHECK(join(t) == (void *)(intptr_t)(SCHED_OTHER * 100));
	attr_of(&attr, SCHED_OTHER, 0);
	CHECK_OK(pthread_create(&t, &attr, tell_policy, NULL));
	CHECK(join(t) == (void *)(intptr_t)(SCHED_OTHER * 100));
}

enum { N_ORDERED = 4 };
static pthread_mutex_t ordered = PTHREAD_MUTEX_INITIALIZER;
static _Atomic int n_come, n_served;
static int served[N_ORDERED];

static void *be_served(void *arg)
{
	atomic_fetch_add(&n_come, 1);
	CHECK_OK(pthread_mutex_lock(&ordered));
	served[atomic_fetch_add(&n_served, 1)] = (int)(intptr_t)arg;
	CHECK_OK(pthread_mutex_unlock(&ordered));
	return NULL;
}

/* Who has the highest priority gets the mutex first, and of equals who came first. */
static void policy_order(void)
{
	static const int priorities[N_ORDERED] = {2, 4, 4, 6}, order[] = {3, 1, 2, 0};
	pthread_t threads[N_ORDERED];
	pthread_attr_t attr;

	may_be_real_time();
	CHECK_OK(pthread_mutex_lock(&ordered));
	for (int i = 0; i < N_ORDERED; i++) {
		attr_of(&attr, SCHED_FIFO, priorities[i]);
		CHECK_OK(
		    pthread_create(&threads[i], &attr, be_served, (void *)(intptr_t)i));
		while (atomic_load(&n_come) <= i)
			sleep_ms(1);
		sleep_ms(50);
	}
	CHECK_OK(pthread_mutex_unlock(&ordered));
	for (int i = 0; i < N_ORDERED; i++)
		join(threads[i]);
	for (int i = 0; i < N_ORDERED; i++)
		CHECK(served[i] == order[i]);
}

/* Without the right to, everywhere. */
static void *refused(void *arg)
{
	struct sched_param param = {.sched_priority = 2};
	pthread_attr_t attr;
	pthread_t t, other = start_other(arg);

	CHECK(pthread_setschedparam(pthread_self(), SCHED_FIFO, &param) == EPERM);
	CHECK(sched_setscheduler(0, SCHED_FIFO, &param) == -1 && errno == EPERM);
	CHECK(pthread_setschedparam(other, SCHED_RR, &param) == EPERM);
	CHECK(setpriority(PRIO_PROCESS, 0, -5) == -1 && errno == EACCES);
	CHECK(setpriority(PRIO_PROCESS, other_tid, -5) == -1 && errno == EACCES);
	errno = 0;
	CHECK(nice(-5) == -1 && errno == EPERM);
	attr_of(&attr, SCHED_RR, 2);
	for (int i = 0; i < 10; i++) {
		CHECK(pthread_create(&t, &attr, tell_policy, NULL) == EPERM);
		pthread_attr_setdetachstate(&attr, i % 2 ? PTHREAD_CREATE_DETACHED
							 : PTHREAD_CREATE_JOINABLE);
	}
	check_default();
	end_other(other);
	return NULL;
}

static void policy_refused(void)
{
	become_threaded();
	if (geteuid() == 0)
		CHECK(setresuid(65534, 65534, 65534) == 0);
	in_thread(refused, NULL);
	in_thread(refused, &go);
}

/* --- nice -------------------------------------------------------------------------------- */

static void *be_nice(void *arg)
{
	CHECK(nice(0) == 0);
	CHECK(nice(3) == 3 && kernel_nice() == 3);
	CHECK(nice(4) == 7 && getpriority(PRIO_PROCESS, gettid()) == 7);
	CHECK(setpriority(PRIO_PROCESS, gettid(), 9) == 0 && kernel_nice() == 9);
	CHECK(syscall(SYS_getpriority, PRIO_PROCESS, 0) == 20 - 9);
	CHECK(setpriority(PRIO_PROCESS, 0, 100) == 0 && kernel_nice() == 19);
	/* Sleeps and locks as before. */
	for (int i = 0; i < 20; i++) {
		sleep_ms(1);
		CHECK(kernel_nice() == 19);
	}
	return arg;
}

static void nice_own(void)
{
	pthread_t many[20];

	for (int i = 0; i < 20; i++)
		many[i] = start(i % 2 ? be_nice : expect_default, NULL);
	for (int i = 0; i < 20; i++)
		join(many[i]);
	in_thread(expect_default, NULL);
	check_default();
}

/* --- CPUs -------------------------------------------------------------------------------- */

static cpu_set_t all_cpus;

static cpu_set_t one_cpu(int n)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &all_cpus) && n-- == 0)
			CPU_SET(i, &one);
	return one;
}

static void check_pinned(const cpu_set_t *to)
{
	cpu_set_t set;

	CHECK(sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_EQUAL(&set, to));
	CHECK_OK(pthread_getaffinity_np(pthread_self(), sizeof(set), &set));
	CHECK(CPU_EQUAL(&set, to));
	for (int i = 0; i < 10; i++) {
		CHECK(CPU_ISSET(sched_getcpu(), to));
		sleep_ms(1);
	}
}

static void *pin(void *arg)
{
	cpu_set_t none, one = one_cpu((int)(intptr_t)arg % CPU_COUNT(&all_cpus));

	CPU_ZERO(&none);
	CHECK(sched_setaffinity(0, sizeof(none), &none) == -1 && errno == EINVAL);
	CHECK(sched_setaffinity(gettid(), sizeof(one), &one) == 0);
	check_pinned(&one);
	CHECK_OK(pthread_setaffinity_np(pthread_self(), sizeof(all_cpus), &all_cpus));
	CHECK(sched_getaffinity(gettid(), sizeof(one), &one) == 0);
	CHECK(CPU_EQUAL(&one, &all_cpus));
	return NULL;
}

static void *expect_all_cpus(void *arg)
{
	cpu_set_t set;

	CHECK(sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_EQUAL(&set, &all_cpus));
	return arg;
}

static void *expect_pinned(void *arg)
{
	check_pinned(arg);
	return NULL;
}

static void cpus(void)
{
	cpu_set_t one, set;
	pthread_attr_t attr;
	pthread_t t, many[10];

	CHECK(sched_getaffinity(0, sizeof(all_cpus), &all_cpus) == 0);
	become_threaded();
	for (int i = 0; i < 10; i++)
		many[i] = start(pin, (void *)(intptr_t)i);
	for (int i = 0; i < 10; i++)
		join(many[i]);
	in_thread(expect_all_cpus, NULL);
	/* Another thread's, that sleeps or computes. */
	one = one_cpu(0);
	for (int sleeps = 0; sleeps < 2; sleeps++) {
		t = start_other(sleeps ? &go : NULL);
		CHECK_OK(pthread_setaffinity_np(t, sizeof(one), &one));
		CHECK(sched_getaffinity(other_tid, sizeof(set), &set) == 0);
		CHECK(CPU_EQUAL(&set, &one));
		CPU_ZERO(&set);
		CHECK_OK(pthread_getattr_np(t, &attr));
		CHECK_OK(pthread_attr_getaffinity_np(&attr, sizeof(set), &set));
		CHECK(CPU_EQUAL(&set, &one));
		pthread_attr_destroy(&attr);
		end_other(t);
	}
	CHECK_OK(pthread_attr_init(&attr));
	CHECK_OK(pthread_attr_setaffinity_np(&attr, sizeof(one), &one));
	CHECK_OK(pthread_create(&t, &attr, expect_pinned, &one));
	join(t);
	CPU_ZERO(&set);
	CPU_SET(CPU_SETSIZE - 1, &set);
	CHECK_OK(pthread_attr_setaffinity_np(&attr, sizeof(set), &set));
	CHECK(pthread_create(&t, &attr, expect_pinned, &one) == EINVAL);
	in_thread(expect_all_cpus, NULL);
	expect_all_cpus(NULL);
}

static void *wait_and_tell_cpu(void *gate)
{
	pthread_barrier_wait(gate);
	return (void *)(intptr_t)sched_getcpu();
}

/* A thread that is pinned pins those that it creates, as soon as it has. */
static void *pin_newborns(void *arg)
{
	enum { N = 50 };
	cpu_set_t first = one_cpu(0), second = one_cpu(1), set;
	const struct sched_param none = {0};
	pthread_t newborns[N];
	pthread_barrier_t gate;
	int policy;
	struct sched_param param;

	CHECK_OK(pthread_barrier_init(&gate, NULL, N + 1));
	CHECK_OK(pthread_setaffinity_np(pthread_self(), sizeof(first), &first));
	for (int i = 0; i < N; i++) {
		newborns[i] = start(wait_and_tell_cpu, &gate);
		CHECK_OK(pthread_setaffinity_np(newborns[i], sizeof(second), &second));
		CHECK_OK(pthread_setschedparam(newborns[i], SCHED_BATCH, &none));
		CHECK_OK(pthread_getaffinity_np(newborns[i], sizeof(set), &set));
		CHECK(CPU_EQUAL(&set, &second));
		CHECK(sched_getaffinity(0, sizeof(set), &set) == 0);
		CHECK(CPU_EQUAL(&set, &first));
		CHECK_OK(pthread_getschedparam(newborns[i], &policy, &param));
		CHECK(policy == SCHED_BATCH);
		CHECK(sched_getscheduler(0) == SCHED_OTHER);
	}
	pthread_barrier_wait(&gate);
	for (int i = 0; i < N; i++)
		CHECK(CPU_ISSET((int)(intptr_t)join(newborns[i]), &second));
	return arg;
}

static void newborns(void)
{
	CHECK(sched_getaffinity(0, sizeof(all_cpus), &all_cpus) == 0);
	if (CPU_COUNT(&all_cpus) < 2)
		exit(77);
	in_thread(pin_newborns, NULL);
}

static _Atomic int n_begun;

static void *begin(void *arg)
{
	n_begun++;
	return arg;
}

/* What another asks of a thread that is about to begin is none of its creation's. */
static void asked_early(void)
{
	cpu_set_t no_cpu;

	CPU_ZERO(&no_cpu);
	CPU_SET(CPU_SETSIZE - 1, &no_cpu);
	become_threaded();
	for (int i = 0; i < 2000; i++) {
		pthread_t t = start(begin, NULL);

		for (volatile int wait = i % 200 * 100; wait > 0; wait--)
			;
		/* EINVAL, or it has ended meanwhile. */
		pthread_setaffinity_np(t, sizeof(no_cpu), &no_cpu);
		join(t);
		CHECK(n_begun == i + 1);
	}
}

static int silent[2];
static _Atomic bool is_asking;

/* In a system call that nobody is told of. */
static void *read_silently(void *arg)
{
	char c;

	CHECK(raw(SYS_read, silent[0], (long)&c, 1) == 1);
	return arg;
}

static void *ask_for_cpu(void *other)
{
	cpu_set_t one = one_cpu(0);

	is_asking = true;
	CHECK_OK(pthread_setaffinity_np(*(pthread_t *)other, sizeof(one), &one));
	return NULL;
}

/* The child of a fork does not wait for who asks in its parent. */
static void fork_while_asked(void)
{
	CHECK(sched_getaffinity(0, sizeof(all_cpus), &all_cpus) == 0);
	for (int i = 0; i < 6; i++) {
		int status;

		CHECK(pipe(silent) == 0);
		pthread_t reader = start(read_silently, NULL);
		sleep_ms(20);
		is_asking = false;
		pthread_t asker = start(ask_for_cpu, &reader);
		while (!is_asking)
			sleep_ms(1);
		sleep_ms(i);
		pid_t pid = fork();
		CHECK(pid >= 0);
		if (pid == 0) {
			struct sched_param param = {0};

			alarm(5);
			CHECK(sched_setscheduler(0, SCHED_BATCH, &param) == 0);
			CHECK(kernel_policy() == SCHED_BATCH);
			_exit(0);
		}
		CHECK(waitpid(pid, &status, 0) == pid && status == 0);
		join(asker);
		CHECK(write(silent[1], "", 1) == 1);
		join(reader);
		close(silent[0]);
		close(silent[1]);
	}
}

/* --- CPU time ---------------------------------------------------------------------------- */

static long long cpu_ms(clockid_t clock)
{
	struct timespec ts;

	CHECK(clock_gettime(clock, &ts) == 0);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

static void burn(int ms)
{
	long long end = cpu_ms(CLOCK_THREAD_CPUTIME_ID) + ms;

	while (cpu_ms(CLOCK_THREAD_CPUTIME_ID) < end)
		;
}

static void *burner(void *arg)
{
	int ms = (int)(intptr_t)arg;
	struct rusage usage;

	CHECK(cpu_ms(CLOCK_THREAD_CPUTIME_ID) < 20);
	for (int i = 0; i < 10; i++) {
		burn(ms / 10);
		sleep_ms(2);
	}
	CHECK(getrusage(RUSAGE_THREAD, &usage) == 0);
	long long used = (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000LL +
			 (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000;
	CHECK(used >= ms - 12 && used < 2 * ms);
	used = cpu_ms(CLOCK_THREAD_CPUTIME_ID);
	CHECK(used >= ms && used < 2 * ms);
	return NULL;
}

/* Blocked in the kernel without a word, and in a wrapper: neither is use. */
static void *sleeper(void *arg)
{
	int fds[2];
	char c;

	CHECK(pipe(fds) == 0);
	for (int i = 0; i < 30; i++) {
		struct timespec ts = {.tv_nsec = 3000000};

		raw(SYS_nanosleep, (long)&ts, 0, 0);
		sleep_ms(2);
		CHECK(write(fds[1], "x", 1) == 1 && read(fds[0], &c, 1) == 1);
	}
	CHECK(cpu_ms(CLOCK_THREAD_CPUTIME_ID) < 30);
	return arg;
}

/* Its own clock, or another thread's. */
static void *clock_reader(void *arg)
{
	const clockid_t *of = arg;
	long long end = now_ms() + 1000, last = 0;

	for (int i = 1; i % 1000 != 0 || now_ms() < end; i++) {
		struct timespec ts;

		CHECK(clock_gettime(of == NULL ? CLOCK_THREAD_CPUTIME_ID : *of, &ts) ==
		      0);
		long long now = ts.tv_sec * 1000000000LL + ts.tv_nsec;

		CHECK(now >= last);
		last = now;
		if (i % 3000 == 0)
			sched_yield();
	}
	return arg;
}

/* Those that sleep take turns with all others, which makes these change workers. */
static void cpu_forward(void)
{
	pthread_t readers[4], watchers[4], others[4];
	clockid_t clocks[4];

	for (int i = 0; i < 4; i++) {
		readers[i] = start(clock_reader, NULL);
		others[i] = start_other(i % 2 ? others : NULL);
		CHECK_OK(pthread_getcpuclockid(others[i], &clocks[i]));
		watchers[i] = start(clock_reader, &clocks[i]);
	}
	for (int i = 0; i < 4; i++) {
		join(readers[i]);
		join(watchers[i]);
	}
	for (int i = 0; i < 4; i++)
		end_other(others[i]);
}

static void cpu_time(void)
{
	pthread_t many[8], t;
	clockid_t clock;
	struct timespec ts, until = {0};

	for (int i = 0; i < 8; i++)
		many[i] = i % 2 ? start(sleeper, NULL) : start(burner, (void *)100);
	for (int i = 0; i < 8; i++)
		join(many[i]);
	t = start_other(NULL);
	CHECK_OK(pthread_getcpuclockid(t, &clock));
	CHECK(clock_getres(clock, &ts) == 0);
	until.tv_nsec = 60000000;
	CHECK_OK(clock_nanosleep(clock, TIMER_ABSTIME, &until, NULL));
	CHECK(cpu_ms(clock) >= 60);
	CHECK(cpu_ms(CLOCK_THREAD_CPUTIME_ID) < 100);
	CHECK(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &until, NULL) == EINVAL);
	/* It goes on where it was when the thread is bound. */
	CHECK(setpriority(PRIO_PROCESS, other_tid, 1) == 0);
	long long begun = now_ms(), before = cpu_ms(clock), now;
	CHECK(before >= 60 && before < 2000);
	while ((now = cpu_ms(clock)) == before && now_ms() < begun + 15000)
		sleep_ms(1);
	CHECK(now > before && now - before <= now_ms() - begun + 1);
	end_other(t);
}

enum { LAST = 32 }; /* the ids of so many that have ended are nobody's */

static clockid_t last_clocks[LAST];

static void *own_clock(void *arg)
{
	int n = (int)(intptr_t)arg;
	struct timespec ts;
	clockid_t clock;
	timer_t timer;

	CHECK_OK(pthread_getcpuclockid(pthread_self(), &clock));
	CHECK(clock_gettime(clock, &ts) == 0 && ts.tv_sec < 10);
	CHECK(clock_getres(clock, &ts) == 0);
	if (n % 16 == 0) {
		CHECK(timer_create(clock, NULL, &timer) == 0);
		CHECK(timer_delete(timer) == 0);
	}
	for (int i = 0; i < LAST; i++)
		CHECK(last_clocks[i] != clock);
	last_clocks[n % LAST] = clock;
	return NULL;
}

/* However many threads there have been, a thread's clock is its own. */
static void cpu_clocks(void)
{
	for (int i = 0; i < 300; i++)
		in_thread(own_clock, (void *)(intptr_t)i);
}

/* --- what one thread has alone --------------------------------------------------------------- */

static ino_t namespace_of_hosts(void)
{
	struct stat st;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/task/%d/ns/uts",
		 (int)raw(SYS_gettid, 0, 0, 0));
	CHECK(stat(path, &st) == 0);
	return st.st_ino;
}

static ino_t common;

static void *expect_common(void *arg)
{
	char cwd[256];

	CHECK(namespace_of_hosts() == common);
	CHECK((int)raw(SYS_setfsuid, -1, 0, 0) == (int)geteuid());
	CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0);
	CHECK(getcwd(cwd, sizeof(cwd)) != NULL);
	return arg;
}

static void *expect_apart(void *apart)
{
	CHECK(namespace_of_hosts() == *(ino_t *)apart);
	sleep_ms(3);
	CHECK(namespace_of_hosts() == *(ino_t *)apart);
	return NULL;
}

static void *stand_apart(void *arg)
{
	char name[64];

	(void)arg;
	CHECK(unshare(CLONE_NEWUTS) == 0);
	ino_t mine = namespace_of_hosts();
	CHECK(mine != common);
	CHECK(sethostname("apart", 5) == 0);
	for (int i = 0; i < 10; i++) {
		pthread_t t = start(expect_apart, &mine);
		sleep_ms(1);
		CHECK(namespace_of_hosts() == mine);
		CHECK(gethostname(name, sizeof(name)) == 0 && strcmp(name, "apart") == 0);
		join(t);
	}
	CHECK(setfsuid(1234) == 0);
	CHECK(setfsuid(-1) == 1234);
	return NULL;
}

static void *without_new_rights(void *arg)
{
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	sleep_ms(3);
	CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
	return arg;
}

/* syscall() changes this thread's ids alone, unlike setuid(). */
static void *other_user(void *arg)
{
	CHECK(syscall(SYS_setresuid, -1, 1000, -1) == 0);
	sleep_ms(3);
	CHECK((int)raw(SYS_geteuid, 0, 0, 0) == 1000);
	return arg;
}

static void *expect_root(void *arg)
{
	sleep_ms(1);
	CHECK((int)raw(SYS_geteuid, 0, 0, 0) == 0);
	return arg;
}

static void apart(void)
{
	pthread_t many[40];

	become_threaded();
	common = namespace_of_hosts();
	if (geteuid() != 0 || raw(SYS_unshare, 0, 0, 0) != 0)
		exit(77);
	in_thread(stand_apart, NULL);
	in_thread(without_new_rights, NULL);
	for (int round = 0; round < 5; round++) {
		for (int i = 0; i < 40; i++)
			many[i] = start(i % 10 == 1   ? stand_apart
					: i % 10 == 2 ? other_user
					: i % 10 == 3 ? without_new_rights
					: i % 2 == 0  ? expect_root
						      : expect_common,
					NULL);
		for (int i = 0; i < 40; i++)
			join(many[i]);
	}
	expect_common(NULL);
	expect_root(NULL);
}

/* --- bound threads take part ------------------------------------------------------------------ */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turn = PTHREAD_COND_INITIALIZER;
static int whose;
static _Atomic int handled;

static void handler(int sig)
{
	(void)sig;
	atomic_fetch_add(&handled, 1);
}

/* Half of them bind in the middle of it. */
static void *take_turns(void *arg)
{
	int me = (int)(intptr_t)arg;

	for (int round = 0; round < 50; round++) {
		pthread_mutex_lock(&lock);
		while (whose % 8 != me)
			pthread_cond_wait(&turn, &lock);
		whose++;
		if (round == 10 + me && me % 2)
			CHECK(nice(1) == 1);
		pthread_cond_broadcast(&turn);
		pthread_mutex_unlock(&lock);
		if (round == 20)
			pthread_kill(pthread_self(), SIGUSR1);
	}
	return arg;
}

static void together(void)
{
	pthread_t many[8];
	struct sigaction act = {.sa_handler = handler};

	sigaction(SIGUSR1, &act, NULL);
	for (int i = 0; i < 8; i++)
		many[i] = start(take_turns, (void *)(intptr_t)i);
	for (int i = 0; i < 8; i++)
		CHECK(join(many[i]) == (void *)(intptr_t)i);
	CHECK(whose == 400 && atomic_load(&handled) == 8);
}

/* In a handler of a thread that was parked, or computing. */
static void bind_in_handler(int sig)
{
	(void)sig;
	CHECK(nice(2) == 2);
	atomic_fetch_add(&handled, 1);
}

static void in_handler(void)
{
	struct sigaction act = {.sa_handler = bind_in_handler};
	double x = 1.5;

	sigaction(SIGUSR1, &act, NULL);
	for (int sleeps = 0; sleeps < 2; sleeps++) {
		pthread_t t = start_other(sleeps ? &go : NULL);

		atomic_store(&handled, 0);
		CHECK_OK(pthread_kill(t, SIGUSR1));
		wait_for(&handled);
		x = x * 2;
		CHECK(getpriority(PRIO_PROCESS, other_tid) == 2);
		sleep_ms(20);
		end_other(t);
	}
	CHECK(x == 6);
}

static void *bind_and_end(void *arg)
{
	CHECK(nice(1) == 1);
	return arg;
}

static void *bind_and_fork(void *arg)
{
	int status;

	CHECK(nice(1) == 1);
	pid_t pid = fork();
	if (pid == 0) {
		CHECK(kernel_nice() == 1);
		in_thread(do_nothing, NULL);
		CHECK(kernel_nice() == 1);
		_exit(kernel_nice());
	}
	CHECK(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 1);
	return arg;
}

/* Their kernel threads and stacks come and go, and are used again by floating ones. */
static void many_end(void)
{
	for (int round = 0; round < 100; round++) {
		pthread_t many[10];

		for (int i = 0; i < 10; i++)
			many[i] = start(i % 2 ? bind_and_end : do_nothing, NULL);
		for (int i = 0; i < 10; i++)
			join(many[i]);
		in_thread(expect_default, NULL);
	}
	for (int i = 0; i < 5; i++)
		in_thread(bind_and_fork, NULL);
}

static void *wait_and_tell(void *arg)
{
	(void)arg;
	sleep_ms(20);
	return (void *)(intptr_t)raw(SYS_gettid, 0, 0, 0);
}

/* Prints whether threads keep their kernel thread: for PGREEN_NATIVE. */
void *named_routine(void *arg)
{
	long tid = raw(SYS_gettid, 0, 0, 0);
	bool same = true;

	(void)arg;
	for (int i = 0; i < 200; i++) {
		sched_yield();
		sleep_ms(i % 20 == 0);
		same &= raw(SYS_gettid, 0, 0, 0) == tid;
	}
	return (void *)(intptr_t)same;
}

static void *named_thread(void *arg)
{
	CHECK_OK(pthread_setname_np(pthread_self(), "special-7"));
	return named_routine(arg);
}

static void named(void)
{
	pthread_t many[40];
	int kept[2] = {0};

	for (int i = 0; i < 40; i++)
		many[i] = start(i % 2 ? named_thread : named_routine, NULL);
	for (int i = 0; i < 40; i++)
		kept[i % 2] += join(many[i]) != NULL;
	printf("%s %s\n", kept[0] == 20 ? "routine" : "-",
	       kept[1] == 20 ? "thread" : "-");
	join(start(wait_and_tell, NULL));
}

/* --- a thread that has ended ----------------------------------------------------------------- */

static void *end_at_once(void *arg)
{
	return arg;
}

static void is_not_found(pthread_t t)
{
	clockid_t clock;
	int policy;
	struct sched_param param = {0};

	CHECK(pthread_getcpuclockid(t, &clock) == ESRCH);
	CHECK(pthread_getschedparam(t, &policy, &param) == ESRCH);
	CHECK(pthread_setschedparam(t, SCHED_OTHER, &param) == ESRCH);
	CHECK(pthread_setschedprio(t, 0) == ESRCH);
}

static void ended(void)
{
	pthread_t t;
	clockid_t clock;
	char name[16];

	CHECK_OK(pthread_create(&t, NULL, end_at_once, NULL));
	for (long long end = now_ms() + 15000; pthread_getcpuclockid(t, &clock) == 0;
	     sched_yield())
		CHECK(now_ms() < end);
	is_not_found(t);
	CHECK(pthread_sigqueue(t, SIGUSR1, (union sigval){0}) == ESRCH);
	CHECK(pthread_getname_np(t, name, sizeof(name)) == ENOENT);
	CHECK(pthread_setname_np(t, "ended") == ENOENT);
	CHECK_OK(pthread_kill(t, SIGUSR1));
	CHECK_OK(pthread_cancel(t));
	CHECK_OK(pthread_join(t, NULL));
	/* POSIX leaves open what an id means now; glibc tells as long as it knows. */
	is_not_found(t);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
	    {"policy-own", policy_own},
	    {"policy-other", policy_other},
	    {"policy-attr", policy_attr},
	    {"policy-order", policy_order},
	    {"policy-refused", policy_refused},
	    {"nice", nice_own},
	    {"cpus", cpus},
	    {"newborns", newborns},
	    {"asked-early", asked_early},
	    {"fork-while-asked", fork_while_asked},
	    {"cpu-time", cpu_time},
	    {"cpu-forward", cpu_forward},
	    {"cpu-clocks", cpu_clocks},
	    {"apart", apart},
	    {"together", together},
	    {"in-handler", in_handler},
	    {"many-end", many_end},
	    {"named", named},
	    {"ended", ended},
	};

	return run_case(argc, argv, cases, sizeof(cases) / sizeof(*cases));
}
