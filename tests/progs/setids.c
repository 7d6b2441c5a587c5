/* SPDX-License-Identifier: MIT */
/*
 * setids.c: user and group ids are the process's, whichever thread sets them.
 *
 * For root.  After each change every kernel thread must have the new ids: /proc tells.
 */
#include <dirent.h>
#include <grp.h>
#include <signal.h>
#include <sys/types.h>

#include "check.h"

enum { N_PARKED = 20, N_BLOCKED = 10, N_COMPUTING = 2, ROUNDS = 30 };

static _Atomic bool stop;
static int fds[2];

static void *park(void *arg)
{
	while (!stop)
		sleep_ms(20);
	return arg;
}

static void *block(void *arg)
{
	char c;

	CHECK(read(fds[0], &c, 1) == 0);
	return arg;
}

static void *compute(void *arg)
{
	while (!stop)
		;
	return arg;
}

/* The values of a line "Uid:\t..." of a status file. */
static bool read_status(const char *tid, const char *name, unsigned *values, int n)
{
	char path[300], line[400];
	bool found = false;

	snprintf(path, sizeof(path), "/proc/self/task/%s/status", tid);
	FILE *f = fopen(path, "r");
	if (f == NULL)
		return false; /* it ended meanwhile */
	while (!found && fgets(line, sizeof(line), f) != NULL) {
		char *at = line + strlen(name);

		if (strncmp(line, name, strlen(name)) != 0)
			continue;
		for (int i = 0; i < n; i++)
			values[i] = strtoul(at, &at, 10);
		found = true;
	}
	fclose(f);
	return found;
}

static void check_everywhere(const char *name, unsigned real, unsigned effective,
			     unsigned saved)
{
	unsigned v[3];
	DIR *dir = opendir("/proc/self/task");
	int n = 0;

	CHECK(dir != NULL);
	for (struct dirent *e; (e = readdir(dir)) != NULL;) {
		if (e->d_name[0] == '.' || !read_status(e->d_name, name, v, 3))
			continue;
		CHECK(v[0] == real && v[1] == effective && v[2] == saved);
		n++;
	}
	closedir(dir);
	CHECK(n > 0);
}

static void check_groups(unsigned first, unsigned second)
{
	unsigned v[2];
	DIR *dir = opendir("/proc/self/task");

	CHECK(dir != NULL);
	for (struct dirent *e; (e = readdir(dir)) != NULL;)
		if (e->d_name[0] != '.' && read_status(e->d_name, "Groups:", v, 2))
			CHECK(v[0] == first && v[1] == second);
	closedir(dir);
}

static void change_ids(unsigned id)
{
	gid_t groups[2] = {id, id + 1}, got[2];

	CHECK(setgroups(2, groups) == 0);
	CHECK(getgroups(2, got) == 2 && got[0] == id && got[1] == id + 1);
	check_groups(id, id + 1);
	CHECK(setresgid(id, id + 1, 0) == 0);
	check_everywhere("Gid:", id, id + 1, 0);
	CHECK(setegid(0) == 0);
	check_everywhere("Gid:", id, 0, 0);
	CHECK(setregid(0, id) == 0);
	check_everywhere("Gid:", 0, id, id);
	CHECK(setgid(0) == 0);
	check_everywhere("Gid:", 0, 0, 0);

	CHECK(seteuid(id) == 0);
	check_everywhere("Uid:", 0, id, 0);
	CHECK(geteuid() == id);
	CHECK(seteuid(0) == 0);
	check_everywhere("Uid:", 0, 0, 0);
	CHECK(setreuid(id, 0) == 0);
	check_everywhere("Uid:", id, 0, 0);
	CHECK(setresuid(0, id, 0) == 0);
	check_everywhere("Uid:", 0, id, 0);
	CHECK(seteuid(0) == 0);
	CHECK(seteuid(-1) == -1 && errno == EINVAL);
	CHECK(setegid(-1) == -1 && errno == EINVAL);
}

static void *change_often(void *arg)
{
	for (unsigned i = 1; i <= ROUNDS; i++)
		change_ids(1000 + i);
	return arg;
}

static void *drop(void *arg)
{
	CHECK(initgroups("root", 12) == 0);
	CHECK(setgid(1234) == 0);
	CHECK(setuid(1234) == 0);
	check_everywhere("Uid:", 1234, 1234, 1234);
	check_everywhere("Gid:", 1234, 1234, 1234);
	CHECK(setuid(0) == -1 && errno == EPERM);
	CHECK(setgroups(0, NULL) == -1 && errno == EPERM);
	CHECK(initgroups("root", 12) == -1 && errno == EPERM);
	return arg;
}

static pthread_t threads[N_PARKED + N_BLOCKED + N_COMPUTING];

static void start_all(void)
{
	CHECK(pipe(fds) == 0);
	for (int i = 0; i < N_PARKED + N_BLOCKED + N_COMPUTING; i++)
		threads[i] = start(i < N_PARKED               ? park
				   : i < N_PARKED + N_BLOCKED ? block
							      : compute,
				   NULL);
}

static void join_all(void)
{
	stop = true;
	close(fds[1]);
	for (int i = 0; i < N_PARKED + N_BLOCKED + N_COMPUTING; i++)
		join(threads[i]);
}

static void test_change(void)
{
	start_all();
	in_thread(change_often, NULL);
	change_often(NULL);
	join_all();
}

static void test_drop(void)
{
	start_all();
	in_thread(drop, NULL);
	CHECK(getuid() == 1234);
	/* New threads have them too. */
	in_thread(do_nothing, NULL);
	check_everywhere("Uid:", 1234, 1234, 1234);
	join_all();
}

static void *change_own(void *arg)
{
	for (int i = 0; i < 50; i++)
		CHECK(setresuid(-1, 0, -1) == 0);
	return arg;
}

/* Several at once, while threads come and go. */
static void test_crowd(void)
{
	pthread_t changers[4];

	start_all();
	for (int i = 0; i < 4; i++)
		changers[i] = start(change_own, NULL);
	for (int i = 0; i < 50; i++)
		in_thread(do_nothing, NULL);
	for (int i = 0; i < 4; i++)
		join(changers[i]);
	join_all();
}

static int called[2];
static _Atomic unsigned id_now;

/* In a thread of libc's, which libc's helper has just made. */
static void look_at_ids(union sigval arg)
{
	unsigned id = id_now;

	(void)arg;
	CHECK(id == 0 || (getuid() == id && geteuid() == id && getgid() == id));
	CHECK(write(called[1], id == 0 ? "o" : "n", 1) == 1);
}

static void until_called(char how)
{
	for (char c = 0; c != how;)
		CHECK(read(called[0], &c, 1) == 1);
}

static void *drop_all(void *arg)
{
	CHECK(setgroups(0, NULL) == 0);
	CHECK(setresgid(1234, 1234, 1234) == 0);
	CHECK(setresuid(1234, 1234, 1234) == 0);
	id_now = 1234;
	return arg;
}

/* When the call is over libc's own threads have them too, and what those start.  (A thread that
 * is just ending libc passes by.) */
static void test_notify(void)
{
	struct sigevent event = {.sigev_notify = SIGEV_THREAD,
				 .sigev_notify_function = look_at_ids};
	const struct itimerspec every = {{0, 5000000}, {0, 5000000}};
	timer_t timer;

	CHECK(pipe(called) == 0);
	start_all();
	CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
	CHECK(timer_settime(timer, 0, &every, NULL) == 0);
	until_called('o');
	in_thread(drop_all, NULL);
	until_called('n');
	_exit(0);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
	    {"change", test_change},
	    {"drop", test_drop},
	    {"crowd", test_crowd},
	    {"notify", test_notify},
	};

	return run_case(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
