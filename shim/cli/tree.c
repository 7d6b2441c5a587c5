/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tree.h"

enum { SAMPLES_PER_LOOKUP = 16 };

void tree_init(struct tree *t, pid_t first)
{
	t->pid[0] = first;
	t->n = 1;
	t->samples = 0;
}

/* The parent of @pid, or 0 when it is gone. */
static pid_t parent_of(const char *pid)
{
	char path[64], text[512];
	const char *after_name;
	ssize_t n;
	int fd, parent = 0;

	snprintf(path, sizeof(path), "/proc/%.16s/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = 0;
	after_name = strrchr(text, ')'); /* the name itself may hold one */
	if (after_name)
		sscanf(after_name, ") %*c %d", &parent);
	return parent;
}

static bool holds(const struct tree *t, pid_t pid)
{
	for (int i = 0; i < t->n; i++)
		if (t->pid[i] == pid)
			return true;
	return false;
}

/* One pass over /proc; true when it found a descendant that was not known. */
static bool look_up_once(struct tree *t)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	int before = t->n;

	while (proc && (entry = readdir(proc)) && t->n < TREE_MAX) {
		pid_t pid = atoi(entry->d_name), parent;

		if (pid <= 0 || holds(t, pid))
			continue;
		/* we are a subreaper: orphans of the tree become our children */
		parent = parent_of(entry->d_name);
		if (parent && (parent == getpid() || holds(t, parent)))
			t->pid[t->n++] = pid;
	}
	if (proc)
		closedir(proc);
	return t->n > before;
}

long tree_count_threads(struct tree *t)
{
	long n_threads = 0;
	int n_alive = 0;

	if (t->samples++ % SAMPLES_PER_LOOKUP == 0)
		while (look_up_once(t))
			;
	for (int i = 0; i < t->n; i++) {
		char path[64];
		struct stat st;

		snprintf(path, sizeof(path), "/proc/%d/task", t->pid[i]);
		if (stat(path, &st) < 0)
			continue; /* it ended */
		t->pid[n_alive++] = t->pid[i];
		n_threads += (long)st.st_nlink - 2;
	}
	t->n = n_alive;
	return n_threads;
}
