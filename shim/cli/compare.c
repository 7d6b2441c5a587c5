/* SPDX-License-Identifier: MIT */
/*
 * compare.c: runs a program natively and green in turn.
 *
 * In turn, not one side after the other, so that a machine that slows down while
 * we measure slows both.  Every run gets the same bytes on its standard input.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compare.h"
#include "interrupt.h"
#include "launch.h"
#include "program.h"
#include "report.h"
#include "say.h"
#include "usage.h"

struct options {
	struct launch launch;
	int n_runs;
	const char *json; /* file name, or NULL */
};

static int parse_runs(const char *argument)
{
	char *end;
	long n = strtol(argument, &end, 10);

	if (end == argument || *end || n < 1 || n > MAX_RUNS)
		refuse(STATUS_REFUSED, "-n wants a number of runs up to %d, not '%s'",
		       MAX_RUNS, argument);
	return (int)n;
}

static void apply_option(struct options *o, int c)
{
	switch (c) {
	case 'n':
		o->n_runs = parse_runs(optarg);
		break;
	case 'p':
		launch_set_procs(&o->launch, optarg);
		break;
	case 's':
		launch_set_stack(&o->launch, optarg);
		break;
	case 'j':
		o->json = optarg;
		break;
	default:
		usage_option(c);
	}
}

/* Parses the options; returns the index of PROGRAM. */
static int parse_options(struct options *o, int argc, char **argv)
{
	static const struct option options[] = {
	    {"runs", required_argument, NULL, 'n'},
	    {"procs", required_argument, NULL, 'p'},
	    {"stack", required_argument, NULL, 's'},
	    {"json", required_argument, NULL, 'j'},
	    {"help", no_argument, NULL, 'h'},
	    {"version", no_argument, NULL, 'V'},
	    {0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "+n:p:hV", options, NULL)) != -1)
		apply_option(o, c);
	if (optind == argc)
		usage_wrong("there is no program to compare");
	return optind;
}

/* A file without a name, in TMPDIR. */
static int open_temporary(void)
{
	const char *dir = getenv("TMPDIR");
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s/pgreen.XXXXXX", dir && *dir ? dir : "/tmp");
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		refuse(STATUS_REFUSED, "%s: %s", path, strerror(errno));
	unlink(path);
	return fd;
}

/* Keeps all that standard input has to say, for every run to read again. */
static int spool_stdin(void)
{
	static char buffer[256 << 10];
	int fd = open_temporary();
	ssize_t n, done, k;

	while ((n = read(STDIN_FILENO, buffer, sizeof(buffer))) > 0) {
		for (done = 0; done < n; done += k) {
			k = write(fd, buffer + done, (size_t)(n - done));
			if (k < 0)
				refuse(STATUS_REFUSED, "cannot keep standard input: %s",
				       strerror(errno));
		}
	}
	if (n < 0)
		refuse(STATUS_REFUSED, "standard input: %s", strerror(errno));
	return fd;
}

/*
 * A descriptor whose bytes can be read again from @start: a file as it is, a
 * pipe or socket copied, and nothing for a terminal, which cannot say all twice.
 */
static int repeatable_stdin(off_t *start)
{
	struct stat st;

	*start = 0;
	if (fstat(STDIN_FILENO, &st) < 0 || S_ISCHR(st.st_mode))
		return open("/dev/null", O_RDONLY);
	if (!S_ISREG(st.st_mode))
		return spool_stdin();
	*start = lseek(STDIN_FILENO, 0, SEEK_CUR);
	return STDIN_FILENO;
}

static void measure_all(struct comparison *c, off_t stdin_start)
{
	static const char *const sides[] = {[NATIVE] = "native", [GREEN] = "green"};
	struct progress progress;

	progress_init(&progress);
	interrupt_catch();
	prctl(PR_SET_CHILD_SUBREAPER, 1); /* so that no descendant escapes the count */
	for (int i = 0; i < 2 * c->n_runs; i++) {
		int side = i % 2, r;

		lseek(c->subject->stdin_fd, stdin_start, SEEK_SET);
		progress_start(&progress, sides[side], i / 2 + 1, c->n_runs);
		r = measure_run(&c->run[side][i / 2], c->subject, c->launch,
				side == GREEN, &progress);
		if (r == -EINTR)
			interrupt_die();
		if (r < 0)
			refuse(STATUS_REFUSED, "cannot start a run: %s", strerror(-r));
	}
	progress_clear(&progress);
}

static int show(const struct comparison *c, const char *json)
{
	struct agreement same = report_agreement(c);

	report_table(c, json && strcmp(json, "-") == 0 ? stderr : stdout);
	if (json && report_json(c, json) < 0)
		refuse(STATUS_REFUSED, "%s: %s", json, strerror(errno));
	return same.status && same.output[0] && same.output[1] ? 0 : 1;
}

int compare_main(int argc, char **argv)
{
	struct options o = {.n_runs = 3};
	struct subject subject = {.argv = argv + parse_options(&o, argc, argv)};
	struct comparison c = {&subject, &o.launch, o.n_runs, {NULL, NULL}};
	struct program p;
	off_t stdin_start;

	program_require(&p, subject.argv[0]);
	program_refuse_impossible(&p);
	if (p.verdict == VERDICT_NATIVE)
		refuse(STATUS_REFUSED, "%s would run natively both times: %s", p.path,
		       p.reason);
	launch_require_library(&o.launch);
	subject.path = p.path;
	subject.stdin_fd = repeatable_stdin(&stdin_start);
	for (int side = NATIVE; side <= GREEN; side++)
		if (!(c.run[side] = calloc((size_t)o.n_runs, sizeof(struct run))))
			refuse(STATUS_REFUSED, "out of memory");
	measure_all(&c, stdin_start);
	return show(&c, o.json);
}
