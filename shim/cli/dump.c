/* SPDX-License-Identifier: MIT */
/* dump.c: every task of a running program, with its backtrace; from outside. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "deadlock.h"
#include "dump.h"
#include "say.h"
#include "show.h"
#include "usage.h"

enum {
	DEADLOCKED = 1, /* exit status */
	TRIES = 10,
	TRY_AGAIN_US = 10000,
};

/* --- opening -------------------------------------------------------------------------- */

static noreturn void refuse_look(pid_t pid, int error)
{
	char scope[8] = "";
	FILE *f = fopen("/proc/sys/kernel/yama/ptrace_scope", "re");

	if (f && !fgets(scope, sizeof(scope), f))
		scope[0] = 0;
	if (f)
		fclose(f);
	if (error == ESRCH || error == ENOENT)
		refuse(STATUS_REFUSED, "process %d: no such process", pid);
	if (error != EPERM && error != EACCES)
		refuse(STATUS_REFUSED, "process %d: %s", pid, strerror(error));
	refuse(STATUS_REFUSED,
	       "process %d may not be looked into: only its user and root may%s", pid,
	       scope[0] > '0' ? ", and kernel.yama.ptrace_scope here says only root"
			      : "");
}

/* The process, when a thread of it was named; its name. */
static void read_status(struct dump *d)
{
	char path[64], line[256];

	snprintf(path, sizeof(path), "/proc/%d/status", d->pid);
	FILE *status = fopen(path, "re");

	if (!status)
		refuse_look(d->pid, errno);
	while (fgets(line, sizeof(line), status)) {
		line[strcspn(line, "\n")] = 0;
		sscanf(line, "Tgid: %d", &d->pid);
		if (strncmp(line, "Name:\t", 6) == 0)
			snprintf(d->name, sizeof(d->name), "%.63s", line + 6);
	}
	fclose(status);
}

/* The list of its memory, of which something can be read.  0 or -errno. */
static int map_process(struct dump *d)
{
	int r = remote_map(&d->remote, d->pid);
	char byte;

	if (r < 0 || d->remote.n_maps == 0)
		return r;
	return remote_read(&d->remote, d->remote.maps[0].start, &byte, 1);
}

static void open_process(struct dump *d)
{
	int r = 0;

	read_status(d);
	/* It may be in the midst of an exec. */
	for (int i = 0; i < TRIES; i++) {
		r = map_process(d);
		if (r != -EFAULT)
			break;
		usleep(TRY_AGAIN_US);
	}
	if (r == 0 && d->remote.n_maps == 0)
		refuse(STATUS_REFUSED,
		       "process %d (%s) has no memory: it has ended, or is the "
		       "kernel's",
		       d->pid, d->name);
	if (r < 0)
		refuse_look(d->pid, -r);
	images_find(&d->images, &d->remote);
}

static void find_runtime(struct dump *d)
{
	switch (runtime_find(&d->rt, &d->images)) {
	case RUNTIME_NONE:
		refuse(
		    STATUS_REFUSED,
		    "process %d (%s) does not run green: its threads are the kernel's, "
		    "and gdb shows them",
		    d->pid, d->name);
	case RUNTIME_OTHER:
		refuse(
		    STATUS_REFUSED,
		    "process %d (%s) has another version of the library, %s, which this "
		    "pgreen cannot read",
		    d->pid, d->name, d->rt.library->path);
	case RUNTIME_FOUND:
		break;
	}
}

static int64_t monotonic_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

/* --- looking -------------------------------------------------------------------------- */

static bool goes_on_alone(const struct sight *s)
{
	enum debug_kind kind = wait_kind(&s->t);

	return s->state != SIGHT_WAITS || s->t.deadline != INT64_MAX ||
	       kind == DEBUG_WAIT_DESCRIPTOR || kind == DEBUG_WAIT_SIGNAL;
}

static void look(struct dump *d)
{
	struct sighting g = {.rt = &d->rt,
			     .images = &d->images,
			     .unwinder = d->unwinder,
			     .now_ns = d->waits.now_ns};
	static struct backtrace b;
	struct sight s;

	for (size_t i = 0; i < d->rt.n_tasks; i++) {
		sight_task(&g, &d->rt.task[i], &s, &b);
		d->n_state[s.state]++;
		if (s.state == SIGHT_ENDED)
			continue;
		d->rt.task[i] = s.t;
		d->n_on_their_own += goes_on_alone(&s);
		stacks_add(&d->stacks, &s, &b);
	}
}

/* --- all of it ------------------------------------------------------------------------ */

static int print_green(struct dump *d)
{
	size_t n;

	runtime_read(&d->rt);
	look(d);
	pid_t *tid = show_list_kernel_threads(d, &n);
	if (n == 0)
		refuse(STATUS_REFUSED, "process %d (%s) has ended meanwhile", d->pid,
		       d->name);
	show_summary(d, n);
	show_tasks(d);
	show_kernel_threads(d, tid, n);
	free(tid);
	int deadlocks = deadlocks_print(&d->waits, stdout);
	if (deadlocks == 0 && d->n_on_their_own == 0 && d->rt.n_tasks > 0)
		puts("\nEvery task waits for another one: none can go on, unless by a "
		     "signal's handler.");
	return deadlocks ? DEADLOCKED : 0;
}

static pid_t parse_pid(const char *text)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (end == text || *end || n < 1 || n > INT32_MAX)
		refuse(STATUS_REFUSED, "dump wants a process ID, not '%s'", text);
	return (pid_t)n;
}

static void parse_options(struct dump *d, int argc, char **argv)
{
	static const struct option options[] = {
	    {"all", no_argument, NULL, 'a'},
	    {"brief", no_argument, NULL, 'b'},
	    {"help", no_argument, NULL, 'h'},
	    {"version", no_argument, NULL, 'V'},
	    {0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "abhV", options, NULL)) != -1) {
		if (c == 'a')
			d->all = true;
		else if (c == 'b')
			d->brief = true;
		else
			usage_option(c);
	}
	if (argc - optind != 1)
		usage_wrong("dump wants the ID of one process");
	d->pid = parse_pid(argv[optind]);
}

int dump_main(int argc, char **argv)
{
	struct dump d = {0};

	parse_options(&d, argc, argv);
	open_process(&d);
	find_runtime(&d);
	d.unwinder = unwinder_new(&d.images);
	d.waits =
	    (struct waits){.rt = &d.rt, .images = &d.images, .now_ns = monotonic_ns()};
	stacks_init(&d.stacks, &d.images, d.all ? NULL : d.rt.library);
	int status = 0;
	if (d.rt.is_awake)
		status = print_green(&d);
	else
		show_native(&d);
	fflush(stdout);
	if (ferror(stdout))
		refuse(STATUS_REFUSED, "standard output: %s", strerror(errno));
	return status;
}
