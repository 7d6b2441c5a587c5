/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "say.h"
#include "show.h"

/* --- the first lines ------------------------------------------------------------------ */

void show_summary(const struct dump *d, size_t n_kernel_threads)
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

void show_tasks(const struct dump *d)
{
	for (size_t i = 0; i < d->stacks.n; i++) {
		const struct stack *s = d->stacks.stack[i];

		print_heading(s);
		for (size_t k = 0; k < s->n_sights && (!d->brief || k == 0); k++)
			print_sight(d, &s->sight[k]);
		if (d->brief && s->n_sights > 1)
			printf("  and %zu more\n", s->n_sights - 1);
		if (s->n == 0 && !s->partial)
			puts(s->is_new ? "    (it has not begun)"
				       : "    (it begins, or has ended)");
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
pid_t *show_list_kernel_threads(const struct dump *d, size_t *n)
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

void show_kernel_threads(const struct dump *d, const pid_t *tid, size_t n)
{
	puts("\nKernel threads:");
	for (size_t i = 0; i < n; i++)
		print_kernel_thread(d, tid[i]);
}

/* --- a program whose runtime sleeps --------------------------------------------------- */

void show_native(struct dump *d)
{
	struct sighting g = {.rt = &d->rt, .images = &d->images, .unwinder = d->unwinder};
	static struct backtrace b;
	struct stack s;
	size_t n;
	pid_t *tid = show_list_kernel_threads(d, &n);

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
