/* SPDX-License-Identifier: MIT */
/* dump.c: every task of a running program, with its backtrace; from outside. */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "deadlock.h"
#include "dump.h"
#include "image.h"
#include "remote.h"
#include "say.h"
#include "sight.h"
#include "stacks.h"
#include "tasks.h"
#include "unwind.h"
#include "usage.h"
#include "waits.h"

enum {
	DEADLOCKED = 1, /* exit status */
	TRIES = 10,
	TRY_AGAIN_US = 10000,
};

struct dump {
	pid_t pid;
	char name[64];
	bool all;   /* the runtime's own frames too */
	bool brief; /* no line for each task */
	struct remote remote;
	struct images images;
	struct runtime rt;
	struct unwinder *unwinder;
	struct waits waits;
	struct stacks stacks;
	size_t n_state[N_SIGHT_STATES];
	size_t n_on_their_own; /* those that will or may run again without another task */
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
	struct sighting g = {
	    .rt = &d->rt, .unwinder = d->unwinder, .now_ns = d->waits.now_ns};
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

/* --- tasks ---------------------------------------------------------------------------- */

static void print_start(const struct dump *d, const struct task_view *t)
{
	struct image *i = image_at(&d->images, t->start);
	struct symbol *s = i ? image_symbol(&d->images, i, t->start, true) : NULL;

	if (t->is_adopted)
		fputs(", a thread that was adopted", stdout);
	else if (t->start == 0)
		fputs(", main", stdout);
	else if (s)
		printf(", started at %s", symbol_name(s));
	else
		printf(", started at 0x%" PRIx64, t->start);
	if (t->is_bound && !t->is_adopted)
		fputs(", bound", stdout);
}

static void print_state(const struct dump *d, const struct sight *s)
{
	switch (s->state) {
	case SIGHT_WAITS:
		wait_print(&d->waits, &s->t, stdout);
		break;
	case SIGHT_READY:
		fputs("is runnable", stdout);
		break;
	case SIGHT_RUNS:
		fputs("runs", stdout);
		break;
	case SIGHT_IN_KERNEL:
		wait_print_call(&d->waits, &s->k, stdout);
		break;
	default:
		break;
	}
	if (s->kernel_tid)
		printf(", on kernel thread %d", s->kernel_tid);
}

static void print_since(const struct sight *s)
{
	if (s->since_ns < 0)
		return;
	fputs(s->state == SIGHT_READY ? "; ran " : "; for ", stdout);
	print_length(s->since_ns, stdout);
	if (s->state == SIGHT_READY)
		fputs(" ago", stdout);
}

static void print_sight(const struct dump *d, const struct sight *s)
{
	fputs("  ", stdout);
	print_task(&s->t, stdout);
	print_start(d, &s->t);
	fputs(": ", stdout);
	print_state(d, s);
	print_since(s);
	if (d->all)
		printf("; struct task 0x%" PRIx64 ", park %" PRIu32, s->t.at, s->t.park);
	putchar('\n');
}

/* What the tasks of a stack do, in one word for all that do the same. */
static const char *words_of(int word, size_t n)
{
	if (word < DEBUG_N_WAITS)
		return wait_words((enum debug_kind)word, n);
	switch (word - DEBUG_N_WAITS) {
	case SIGHT_READY:
		return n == 1 ? "is runnable" : "are runnable";
	case SIGHT_RUNS:
		return n == 1 ? "runs" : "run";
	default:
		return n == 1 ? "is in the kernel" : "are in the kernel";
	}
}

static void print_heading(const struct stack *s)
{
	size_t n[DEBUG_N_WAITS + N_SIGHT_STATES] = {0};
	const char *before = ": ";

	for (size_t i = 0; i < s->n_sights; i++)
		n[s->sight[i].state == SIGHT_WAITS
		      ? (int)wait_kind(&s->sight[i].t)
		      : DEBUG_N_WAITS + (int)s->sight[i].state]++;
	printf("\n%zu task%s", s->n_sights, s->n_sights == 1 ? "" : "s");
	for (int i = 0; i < DEBUG_N_WAITS + N_SIGHT_STATES; i++) {
		if (n[i] == 0)
			continue;
		fputs(before, stdout);
		if (n[i] != s->n_sights)
			printf("%zu ", n[i]);
		fputs(words_of(i, n[i]), stdout);
		before = ", ";
	}
	putchar('\n');
}

static void print_stacks(const struct dump *d)
{
	for (size_t i = 0; i < d->stacks.n; i++) {
		const struct stack *s = d->stacks.stack[i];

		print_heading(s);
		for (size_t k = 0; k < s->n_sights && (!d->brief || k == 0); k++)
			print_sight(d, &s->sight[k]);
		if (d->brief && s->n_sights > 1)
			printf("  and %zu more\n", s->n_sights - 1);
		if (s->n == 0 && !s->partial)
			puts("    (it has not begun)");
		stack_print(s, stdout);
	}
}

/* --- kernel threads ------------------------------------------------------------------- */

static const struct task_view *task_on(const struct dump *d, pid_t tid)
{
	for (size_t i = 0; i < d->rt.n_tasks; i++)
		if (d->rt.task[i].is_bound && d->rt.task[i].kernel_tid == tid)
			return &d->rt.task[i];
	return NULL;
}

static void print_worker(const struct dump *d, const struct worker_view *w)
{
	const struct task_view *t =
	    w->current ? runtime_task_at(&d->rt, w->current) : NULL;
	struct proc_view p;

	fputs("worker", stdout);
	if (w->proc && proc_read(&d->rt, w->proc, &p))
		printf(" on processor %d", p.id);
	if (t) {
		fputs(w->proc ? ", runs " : " without a processor, with ", stdout);
		print_task(t, stdout);
	} else if (w->proc) {
		fputs(", looks for work", stdout);
	} else {
		fputs(w->at == d->rt.poller ? ", idle, waits for timers and descriptors"
					    : ", idle",
		      stdout);
	}
	putchar('\n');
}

/* The kernel's own have names too (iou-wrk-4711). */
static void print_stranger(const struct dump *d, pid_t tid)
{
	char path[64], name[32] = "";

	snprintf(path, sizeof(path), "/proc/%d/task/%d/comm", d->pid, tid);
	FILE *comm = fopen(path, "re");

	if (comm && fgets(name, sizeof(name), comm))
		name[strcspn(name, "\n")] = 0;
	if (comm)
		fclose(comm);
	printf("not the runtime's (%s)\n", name);
}

static const struct worker_view *worker_on(const struct dump *d, pid_t tid)
{
	for (size_t i = 0; i < d->rt.n_workers; i++)
		if (d->rt.worker[i].tid == tid)
			return &d->rt.worker[i];
	return NULL;
}

static void print_kernel_thread(const struct dump *d, pid_t tid)
{
	const struct task_view *bound = task_on(d, tid);
	const struct worker_view *w = worker_on(d, tid);

	printf("  %d ", tid);
	if (bound) {
		fputs(bound->is_adopted
			  ? "not started by the runtime; of the adopted task "
			  : "bound, of ",
		      stdout);
		print_task(bound, stdout);
		putchar('\n');
	} else if (w) {
		print_worker(d, w);
	} else if (tid == d->rt.sysmon.tid) {
		puts("sysmon, watches the others");
	} else if (tid == d->rt.prober.tid) {
		puts("sysmon's helper");
	} else {
		print_stranger(d, tid);
	}
}

static int by_number(const void *a, const void *b)
{
	return *(const pid_t *)a - *(const pid_t *)b;
}

/* The kernel threads of the process; the caller frees them. */
static pid_t *list_kernel_threads(const struct dump *d, size_t *n)
{
	char path[64];
	pid_t *tid = NULL;
	struct dirent *entry;

	snprintf(path, sizeof(path), "/proc/%d/task", d->pid);
	DIR *task = opendir(path);

	*n = 0;
	while (task && (entry = readdir(task))) {
		pid_t number = atoi(entry->d_name);

		if (number <= 0)
			continue;
		tid = realloc(tid, (*n + 1) * sizeof(*tid));
		if (!tid)
			refuse(STATUS_REFUSED, "out of memory");
		tid[(*n)++] = number;
	}
	if (task)
		closedir(task);
	if (tid)
		qsort(tid, *n, sizeof(*tid), by_number);
	return tid;
}

static void print_kernel_threads(const struct dump *d, const pid_t *tid, size_t n)
{
	puts("\nKernel threads:");
	for (size_t i = 0; i < n; i++)
		print_kernel_thread(d, tid[i]);
}

/* --- a program whose runtime sleeps --------------------------------------------------- */

static void print_native(struct dump *d)
{
	struct sighting g = {.rt = &d->rt, .unwinder = d->unwinder};
	static struct backtrace b;
	struct stack s;
	size_t n;
	pid_t *tid = list_kernel_threads(d, &n);

	printf("%s, process %d: it has created no thread, so the runtime sleeps\n",
	       d->name, d->pid);
	for (size_t i = 0; i < n; i++) {
		struct kthread k;
		const char *partial;

		sight_kthread(&g, tid[i], &k, &b, &partial);
		stack_make(&d->stacks, &b, &s);
		s.partial = partial;
		printf("\nkernel thread %d: ", tid[i]);
		if (k.state == KTHREAD_BLOCKED)
			wait_print_call(&d->waits, &k, stdout);
		else
			fputs("runs", stdout);
		putchar('\n');
		stack_print(&s, stdout);
		free(s.frame);
	}
	free(tid);
}

/* --- all of it ------------------------------------------------------------------------ */

static void print_summary(const struct dump *d, size_t n_kernel_threads)
{
	static const char *const words[] = {
	    [SIGHT_RUNS] = "running",
	    [SIGHT_READY] = "runnable",
	    [SIGHT_IN_KERNEL] = "in the kernel",
	    [SIGHT_WAITS] = "waiting",
	};
	static const enum sight_state order[] = {SIGHT_RUNS, SIGHT_READY, SIGHT_IN_KERNEL,
						 SIGHT_WAITS};
	const char *before = "";
	size_t n = d->rt.n_tasks - d->n_state[SIGHT_ENDED];

	printf("%s, process %d: %zu task%s on %d processor%s, %zu kernel thread%s\n",
	       d->name, d->pid, n, n == 1 ? "" : "s", d->rt.n_procs,
	       d->rt.n_procs == 1 ? "" : "s", n_kernel_threads,
	       n_kernel_threads == 1 ? "" : "s");
	for (int i = 0; i < 4; i++) {
		if (!d->n_state[order[i]])
			continue;
		printf("%s%zu %s", before, d->n_state[order[i]], words[order[i]]);
		before = ", ";
	}
	if (d->rt.n_done)
		printf("%s%zu ended and not joined", before, d->rt.n_done);
	putchar('\n');
}

static int print_green(struct dump *d)
{
	size_t n;

	runtime_read(&d->rt);
	look(d);
	pid_t *tid = list_kernel_threads(d, &n);
	if (n == 0)
		refuse(STATUS_REFUSED, "process %d (%s) has ended meanwhile", d->pid,
		       d->name);
	print_summary(d, n);
	print_stacks(d);
	print_kernel_threads(d, tid, n);
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
		print_native(&d);
	fflush(stdout);
	if (ferror(stdout))
		refuse(STATUS_REFUSED, "standard output: %s", strerror(errno));
	return status;
}
