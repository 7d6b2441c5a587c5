/* SPDX-License-Identifier: MIT */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "report.h"

enum unit { COUNT, BYTES, SECONDS };

static const struct {
	const char *name, *key;
	enum unit unit;
} metrics[N_METRICS] = {
    [PEAK_THREADS] = {"peak kernel threads", "peak_threads", COUNT},
    [THREADS_CREATED] = {"threads created", "threads_created", COUNT},
    [PEAK_RSS] = {"peak memory", "peak_rss_bytes", BYTES},
    [VOLUNTARY] = {"voluntary switches", "voluntary_switches", COUNT},
    [INVOLUNTARY] = {"involuntary switches", "involuntary_switches", COUNT},
    [USER_TIME] = {"user time", "user_seconds", SECONDS},
    [SYSTEM_TIME] = {"system time", "system_seconds", SECONDS},
    [WALL_TIME] = {"wall time", "wall_seconds", SECONDS},
};
static const char *const sides[] = {[NATIVE] = "native", [GREEN] = "green"};
static const char *const streams[] = {"stdout", "stderr"};

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* NAN when any run's figure is unknown. */
static double median(const struct comparison *c, int side, enum metric m)
{
	double x[MAX_RUNS], middle;
	int n = c->n_runs;

	for (int i = 0; i < n; i++) {
		x[i] = c->run[side][i].metric[m];
		if (isnan(x[i]))
			return NAN;
	}
	qsort(x, (size_t)n, sizeof(x[0]), compare_doubles);
	middle = x[n / 2];
	return n % 2 ? middle : (x[n / 2 - 1] + middle) / 2;
}

/* NAN when it means nothing. */
static double ratio(const struct comparison *c, enum metric m)
{
	double native = median(c, NATIVE, m);

	return native > 0 ? median(c, GREEN, m) / native : NAN;
}

struct agreement report_agreement(const struct comparison *c)
{
	const struct run *first = &c->run[NATIVE][0];
	struct agreement same = {true, {true, true}};

	for (int side = NATIVE; side <= GREEN; side++) {
		for (int i = 0; i < c->n_runs; i++) {
			const struct run *r = &c->run[side][i];

			same.status &= r->wait_status == first->wait_status;
			for (int s = 0; s < 2; s++)
				same.output[s] &=
				    output_equal(&r->output[s], &first->output[s]);
		}
	}
	return same;
}

static void format_metric(char *text, size_t size, double x, enum unit unit)
{
	if (isnan(x))
		snprintf(text, size, "-");
	else if (unit == BYTES)
		snprintf(text, size, "%.1f MiB", x / (1 << 20));
	else if (unit == SECONDS)
		snprintf(text, size, "%.3f s", x);
	else
		snprintf(text, size, "%.0f", x);
}

static void format_status(char *text, size_t size, int wait_status)
{
	if (WIFSIGNALED(wait_status))
		snprintf(text, size, "SIG%s", sigabbrev_np(WTERMSIG(wait_status)) ?: "?");
	else
		snprintf(text, size, "%d", WEXITSTATUS(wait_status));
}

static void format_hash(char *text, size_t size, const struct output *o)
{
	if (o->size == 0)
		snprintf(text, size, "empty");
	else
		snprintf(text, size, "%016llx", (unsigned long long)o->hash.high64);
}

static void print_row(FILE *to, const char *name, const char *native, const char *green,
		      const char *verdict)
{
	fprintf(to, "%-22s %16s %16s   %s\n", name, native, green, verdict);
}

static void print_metric(const struct comparison *c, FILE *to, enum metric m)
{
	double x = ratio(c, m);
	char text[2][32], ratio_text[32];

	for (int side = NATIVE; side <= GREEN; side++)
		format_metric(text[side], sizeof(text[side]), median(c, side, m),
			      metrics[m].unit);
	snprintf(ratio_text, sizeof(ratio_text), isnan(x) ? "-" : "%.2f", x);
	print_row(to, metrics[m].name, text[NATIVE], text[GREEN], ratio_text);
}

/* A run of @side that shows how it differs from the first native one, else its first. */
static const struct run *telling_run(const struct comparison *c, int side, int stream)
{
	const struct run *first = &c->run[NATIVE][0], *r;

	for (int i = 0; i < c->n_runs; i++) {
		r = &c->run[side][i];
		if (stream < 0
			? r->wait_status != first->wait_status
			: !output_equal(&r->output[stream], &first->output[stream]))
			return r;
	}
	return &c->run[side][0];
}

static void print_agreement(const struct comparison *c, FILE *to)
{
	struct agreement same = report_agreement(c);
	char text[2][32];

	for (int side = NATIVE; side <= GREEN; side++)
		format_status(text[side], sizeof(text[side]),
			      telling_run(c, side, -1)->wait_status);
	print_row(to, "exit status", text[NATIVE], text[GREEN],
		  same.status ? "same" : "DIFFERENT");
	for (int s = 0; s < 2; s++) {
		for (int side = NATIVE; side <= GREEN; side++)
			format_hash(text[side], sizeof(text[side]),
				    &telling_run(c, side, s)->output[s]);
		print_row(to, streams[s], text[NATIVE], text[GREEN],
			  same.output[s] ? "same" : "DIFFERENT");
	}
}

static void print_notes(const struct comparison *c, FILE *to)
{
	const struct run *first = &c->run[NATIVE][0];
	bool steady = true;

	for (int i = 1; i < c->n_runs; i++)
		for (int s = 0; s < 2; s++)
			steady &=
			    output_equal(&c->run[NATIVE][i].output[s], &first->output[s]);
	if (!steady)
		fprintf(to,
			"\nThe native runs differ among themselves: the program's output "
			"is not the same twice.\n");
	if (isnan(median(c, NATIVE, THREADS_CREATED)))
		fprintf(to,
			"\nThreads created are not known: perf_event_open is not allowed "
			"here (kernel.perf_event_paranoid), or its buffers ran over.\n");
}

void report_table(const struct comparison *c, FILE *to)
{
	const char *procs = c->launch->procs ?: getenv("GOMAXPROCS");

	for (char **word = c->subject->argv; *word; word++)
		fprintf(to, "%s%s", word == c->subject->argv ? "" : " ", *word);
	fprintf(to, "\nmedians of %d run%s each%s%s\n\n", c->n_runs,
		c->n_runs > 1 ? "s" : "", procs ? ", GOMAXPROCS=" : "", procs ?: "");
	print_row(to, "", sides[NATIVE], sides[GREEN], "green/native");
	for (int m = 0; m < N_METRICS; m++)
		print_metric(c, to, m);
	print_agreement(c, to);
	print_notes(c, to);
}

/* JSON has no NAN; whole numbers stay whole. */
static json_t *json_figure(double x, enum unit unit)
{
	if (isnan(x))
		return json_null();
	return unit != SECONDS && x == floor(x) ? json_integer((json_int_t)x)
						: json_real(x);
}

static json_t *json_output(const struct output *o)
{
	char hash[33];

	snprintf(hash, sizeof(hash), "%016llx%016llx", (unsigned long long)o->hash.high64,
		 (unsigned long long)o->hash.low64);
	return json_pack("{s:I, s:s}", "bytes", (json_int_t)o->size, "xxh128", hash);
}

static json_t *json_run(const struct run *r)
{
	json_t *object = json_object();
	int status = r->wait_status;

	for (int m = 0; m < N_METRICS; m++)
		json_object_set_new(object, metrics[m].key,
				    json_figure(r->metric[m], metrics[m].unit));
	json_object_set_new(object, "exit_status",
			    WIFEXITED(status) ? json_integer(WEXITSTATUS(status))
					      : json_null());
	json_object_set_new(object, "signal",
			    WIFSIGNALED(status) ? json_integer(WTERMSIG(status))
						: json_null());
	for (int s = 0; s < 2; s++)
		json_object_set_new(object, streams[s], json_output(&r->output[s]));
	return object;
}

static json_t *json_side(const struct comparison *c, int side)
{
	json_t *runs = json_array(), *medians = json_object();

	for (int i = 0; i < c->n_runs; i++)
		json_array_append_new(runs, json_run(&c->run[side][i]));
	for (int m = 0; m < N_METRICS; m++)
		json_object_set_new(medians, metrics[m].key,
				    json_figure(median(c, side, m), metrics[m].unit));
	return json_pack("{s:o, s:o}", "median", medians, "runs", runs);
}

static json_t *json_comparison(const struct comparison *c)
{
	struct agreement same = report_agreement(c);
	const char *procs = c->launch->procs ?: getenv("GOMAXPROCS");
	json_t *words = json_array(), *ratios = json_object();

	/* an argument need not be UTF-8, which JSON wants: say null then */
	for (char **word = c->subject->argv; *word; word++)
		json_array_append_new(words, json_string(*word) ?: json_null());
	for (int m = 0; m < N_METRICS; m++)
		json_object_set_new(ratios, metrics[m].key,
				    json_figure(ratio(c, m), SECONDS));
	return json_pack("{s:s, s:o, s:i, s:s?, s:o, s:o, s:o, s:{s:b, s:b, s:b}}",
			 "pgreen", PGREEN_VERSION, "program", words, "n_runs", c->n_runs,
			 "gomaxprocs", procs, "native", json_side(c, NATIVE), "green",
			 json_side(c, GREEN), "ratio", ratios, "same", "status",
			 same.status, "stdout", same.output[0], "stderr", same.output[1]);
}

int report_json(const struct comparison *c, const char *path)
{
	json_t *all = json_comparison(c);
	int flags = JSON_INDENT(2) | JSON_REAL_PRECISION(9), r;

	if (strcmp(path, "-") == 0) {
		r = json_dumpf(all, stdout, flags);
		putchar('\n');
	} else {
		r = json_dump_file(all, path, flags);
	}
	json_decref(all);
	return r;
}
