/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "clones.h"
#include "interrupt.h"
#include "measure.h"
#include "tree.h"

enum {
	PIPE_SIZE = 1 << 20,     /* fewer wake-ups for a program that writes much */
	SAMPLE_MIN_NS = 200000,  /* a short program's threads are gone in a millisecond */
	SAMPLE_MAX_NS = 5000000, /* a long one's are not worth more than 1 % of a CPU */
	ORPHAN_WAIT_S = 2,       /* for what still holds the streams after the end */
	STOP_WAIT_S = 2,         /* from SIGTERM to SIGKILL */
};

/* A run under way. */
struct active {
	pid_t pid;
	int pidfd;
	int go;        /* closing it lets the child exec */
	int stream[2]; /* read ends; -1 after the end of file */
	double start_s, end_s;
	bool has_ended;
	struct rusage usage;
	struct clones clones;
	struct tree tree;
	XXH3_state_t *hash[2];
};

bool output_equal(const struct output *a, const struct output *b)
{
	return a->size == b->size && XXH128_isEqual(a->hash, b->hash);
}

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* The child: waits until it is watched, then becomes the program.  Never returns. */
static void become(const struct subject *s, const struct launch *l, bool green, int go,
		   const int out[2])
{
	char byte;

	interrupt_restore();
	setpgid(0, 0); /* so that a stop reaches all that it starts */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)!read(go, &byte, 1);
	dup2(s->stdin_fd, STDIN_FILENO);
	dup2(out[0], STDOUT_FILENO);
	dup2(out[1], STDERR_FILENO);
	if (green)
		launch_make_green(l);
	else
		launch_make_native(l);
	_exit(launch_exec(s->path, s->argv));
}

static int fork_child(struct active *a, const struct subject *s, const struct launch *l,
		      bool green, int pipes[3][2])
{
	int out[2] = {pipes[0][1], pipes[1][1]};

	a->pid = fork();
	if (a->pid < 0)
		return -errno;
	if (a->pid == 0) {
		close(pipes[2][1]);
		become(s, l, green, pipes[2][0], out);
	}
	setpgid(a->pid, a->pid);
	a->pidfd = (int)syscall(SYS_pidfd_open, a->pid, 0);
	if (a->pidfd >= 0)
		return 0;
	int r = -errno;

	kill(a->pid, SIGKILL);
	waitpid(a->pid, NULL, 0);
	return r;
}

static void close_pipes(int pipes[3][2], int end)
{
	for (int i = 0; i < 3; i++)
		if (pipes[i][end] >= 0)
			close(pipes[i][end]);
}

/* Three pipes: stdout, stderr, and the one that holds the child back. */
static int start(struct active *a, const struct subject *s, const struct launch *l,
		 bool green)
{
	int pipes[3][2] = {{-1, -1}, {-1, -1}, {-1, -1}}, r = 0;

	for (int i = 0; i < 3 && r == 0; i++)
		r = pipe2(pipes[i], O_CLOEXEC) < 0 ? -errno : 0;
	if (r == 0)
		r = fork_child(a, s, l, green, pipes);
	if (r < 0) {
		close_pipes(pipes, 0);
		close_pipes(pipes, 1);
		return r;
	}
	for (int i = 0; i < 2; i++) {
		a->stream[i] = pipes[i][0];
		fcntl(a->stream[i], F_SETPIPE_SZ, PIPE_SIZE);
		fcntl(a->stream[i], F_SETFL, O_NONBLOCK);
		close(pipes[i][1]);
	}
	close(pipes[2][0]);
	a->go = pipes[2][1];
	return 0;
}

/* Hashes what stream @i holds by now. */
static void drain(struct active *a, struct run *run, int i)
{
	static char buffer[256 << 10];

	while (a->stream[i] >= 0) {
		ssize_t n = read(a->stream[i], buffer, sizeof(buffer));

		if (n < 0)
			return; /* EAGAIN; there is no other */
		if (n == 0) {
			close(a->stream[i]);
			a->stream[i] = -1;
			return;
		}
		XXH3_128bits_update(a->hash[i], buffer, (size_t)n);
		run->output[i].size += (uint64_t)n;
	}
}

static void reap(struct active *a, struct run *run)
{
	if (wait4(a->pid, &run->wait_status, WNOHANG, &a->usage) != a->pid)
		return;
	a->end_s = now_s();
	a->has_ended = true;
}

static void sample(struct active *a, struct run *run, struct progress *progress)
{
	long n_threads = tree_count_threads(&a->tree);

	if (run->metric[PEAK_THREADS] < (double)n_threads)
		run->metric[PEAK_THREADS] = (double)n_threads;
	clones_read(&a->clones);
	progress_tick(progress, now_s() - a->start_s, n_threads,
		      run->output[0].size + run->output[1].size);
}

/* Sleeps until output, the end, a signal to us, or the next sample's time. */
static int wait_for_news(struct active *a)
{
	double interval_s = (now_s() - a->start_s) / 50;
	long ns = (long)(interval_s * 1e9);
	struct timespec timeout = {0, ns < SAMPLE_MIN_NS   ? SAMPLE_MIN_NS
				      : ns > SAMPLE_MAX_NS ? SAMPLE_MAX_NS
							   : ns};
	struct pollfd fds[3] = {
	    {a->stream[0], POLLIN, 0},
	    {a->stream[1], POLLIN, 0},
	    {a->has_ended ? -1 : a->pidfd, POLLIN, 0},
	};

	ppoll(fds, 3, &timeout, interrupt_mask());
	return interrupt_signal() ? -EINTR : 0;
}

static bool is_over(const struct active *a)
{
	if (!a->has_ended)
		return false;
	if (a->stream[0] < 0 && a->stream[1] < 0)
		return true;
	/* a daemon that it left behind holds them: do not wait for it to end */
	return now_s() - a->end_s > ORPHAN_WAIT_S;
}

/* SIGTERM to all that it started, then SIGKILL to what is left. */
static void stop(struct active *a, struct run *run)
{
	double from_s = now_s();
	struct timespec pause = {0, SAMPLE_MAX_NS};

	kill(-a->pid, SIGTERM);
	kill(-a->pid, SIGCONT); /* what is stopped would not see it */
	while (!a->has_ended && now_s() - from_s < STOP_WAIT_S) {
		nanosleep(&pause, NULL);
		reap(a, run);
	}
	kill(-a->pid, SIGKILL);
	if (!a->has_ended)
		waitpid(a->pid, &run->wait_status, 0);
}

static int follow(struct active *a, struct run *run, struct progress *progress)
{
	for (;;) {
		int r = wait_for_news(a);

		if (r < 0) {
			stop(a, run);
			return r;
		}
		/* before the streams: what the end left in them is then seen */
		if (!a->has_ended)
			reap(a, run);
		drain(a, run, 0);
		drain(a, run, 1);
		if (is_over(a))
			return 0;
		if (!a->has_ended)
			sample(a, run, progress);
	}
}

static double seconds(struct timeval t)
{
	return (double)t.tv_sec + (double)t.tv_usec * 1e-6;
}

static void finish(struct active *a, struct run *run)
{
	long created = clones_stop(&a->clones);

	run->metric[THREADS_CREATED] = created < 0 ? NAN : (double)created;
	run->metric[PEAK_RSS] = (double)a->usage.ru_maxrss * 1024;
	run->metric[VOLUNTARY] = (double)a->usage.ru_nvcsw;
	run->metric[INVOLUNTARY] = (double)a->usage.ru_nivcsw;
	run->metric[USER_TIME] = seconds(a->usage.ru_utime);
	run->metric[SYSTEM_TIME] = seconds(a->usage.ru_stime);
	run->metric[WALL_TIME] = a->end_s - a->start_s;
	for (int i = 0; i < 2; i++) {
		run->output[i].hash = XXH3_128bits_digest(a->hash[i]);
		XXH3_freeState(a->hash[i]);
		if (a->stream[i] >= 0)
			close(a->stream[i]);
	}
	close(a->pidfd);
	while (waitpid(-1, NULL, WNOHANG) > 0) /* orphans: we are their reaper */
		;
}

int measure_run(struct run *run, const struct subject *s, const struct launch *l,
		bool green, struct progress *progress)
{
	struct active a = {0};
	int r = start(&a, s, l, green);

	if (r < 0)
		return r;
	*run = (struct run){0};
	run->metric[PEAK_THREADS] = 1;
	for (int i = 0; i < 2; i++) {
		a.hash[i] = XXH3_createState();
		XXH3_128bits_reset(a.hash[i]);
	}
	tree_init(&a.tree, a.pid);
	clones_start(&a.clones, a.pid); /* may fail: then unknown */
	a.start_s = now_s();
	close(a.go);
	r = follow(&a, run, progress);
	finish(&a, run);
	if (r == 0)
		progress_end(progress, run->metric[WALL_TIME],
			     (long)run->metric[PEAK_THREADS]);
	return r;
}
