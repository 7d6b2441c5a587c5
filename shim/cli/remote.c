/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "remote.h"
#include "say.h"

static void forget_maps(struct remote *r)
{
	for (size_t i = 0; i < r->n_maps; i++)
		free(r->maps[i].path);
	free(r->maps);
	r->maps = NULL;
	r->n_maps = 0;
}

/* One line of /proc/PID/maps; what is no mapping of memory that can be read is left out. */
static void add_line(struct remote *r, char *line)
{
	struct mapping m = {0};
	char flags[5] = "";
	int path = 0;

	line[strcspn(line, "\n")] = 0;
	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %*s %*s %n", &m.start,
		   &m.end, flags, &m.offset, &path) < 4 ||
	    flags[0] != 'r')
		return;
	m.is_writable = flags[1] == 'w';
	m.path = strdup(path ? line + path : "");
	struct mapping *more = realloc(r->maps, (r->n_maps + 1) * sizeof(m));
	if (!more || !m.path)
		refuse(STATUS_REFUSED, "out of memory");
	r->maps = more;
	r->maps[r->n_maps++] = m;
}

int remote_map(struct remote *r, pid_t pid)
{
	char path[64], *line = NULL;
	size_t size = 0;
	FILE *maps;
	int r_error = 0;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	maps = fopen(path, "re");
	if (!maps)
		return -errno;
	forget_maps(r);
	r->pid = pid;
	errno = 0;
	while (getline(&line, &size, maps) > 0)
		add_line(r, line);
	if (ferror(maps))
		r_error = errno ? -errno : -EIO;
	free(line);
	fclose(maps);
	return r_error;
}

void remote_close(struct remote *r)
{
	forget_maps(r);
}

const struct mapping *remote_mapping(const struct remote *r, uint64_t at)
{
	size_t low = 0, high = r->n_maps;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct mapping *m = &r->maps[middle];

		if (at < m->start)
			high = middle;
		else if (at >= m->end)
			low = middle + 1;
		else
			return m;
	}
	return NULL;
}

ssize_t remote_read_pieces(const struct remote *r, const struct iovec *to,
			   const struct iovec *from, int n)
{
	return process_vm_readv(r->pid, to, (unsigned long)n, from, (unsigned long)n, 0);
}

int remote_read(const struct remote *r, uint64_t at, void *to, size_t n)
{
	struct iovec here = {to, n}, there = {(void *)(uintptr_t)at, n};
	ssize_t got = remote_read_pieces(r, &here, &there, 1);

	if (got < 0)
		return -errno;
	return (size_t)got == n ? 0 : -EFAULT;
}
