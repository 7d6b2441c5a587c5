/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <linux/perf_event.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "clones.h"

/* 64 pages: some 5,000 records per CPU, and what perf_event_mlock_kb allows anybody. */
enum { RING_PAGES = 64 };

struct fork_record {
	struct perf_event_header header;
	uint32_t pid, parent_pid, tid, parent_tid;
	uint64_t time;
};

static size_t ring_size(void)
{
	return (RING_PAGES + 1) * (size_t)sysconf(_SC_PAGESIZE);
}

static int open_event(pid_t pid, int cpu)
{
	struct perf_event_attr attr = {
	    .type = PERF_TYPE_SOFTWARE,
	    .size = sizeof(attr),
	    .config = PERF_COUNT_SW_DUMMY,
	    .task = 1,
	    .inherit = 1,
	    .disabled = 1,
	    .enable_on_exec = 1,
	    .exclude_kernel = 1,
	    .exclude_hv = 1,
	};

	return (int)syscall(SYS_perf_event_open, &attr, pid, cpu, -1,
			    PERF_FLAG_FD_CLOEXEC);
}

static int add_ring(struct clones *c, pid_t pid, int cpu)
{
	int fd = open_event(pid, cpu);
	void *ring;

	if (fd < 0)
		return errno == ENODEV ? 0 : -errno; /* an offline CPU runs nothing */
	ring = mmap(NULL, ring_size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (ring == MAP_FAILED) {
		int r = -errno;

		close(fd);
		return r;
	}
	c->fd[c->n_cpus] = fd;
	c->ring[c->n_cpus++] = ring;
	return 0;
}

static void close_rings(struct clones *c)
{
	for (int i = 0; i < c->n_cpus; i++) {
		munmap(c->ring[i], ring_size());
		close(c->fd[i]);
	}
	free(c->fd);
	free(c->ring);
	c->n_cpus = 0;
}

int clones_start(struct clones *c, pid_t pid)
{
	int n = get_nprocs_conf(), r = 0;

	*c = (struct clones){
	    .fd = calloc((size_t)n, sizeof(*c->fd)),
	    .ring = calloc((size_t)n, sizeof(*c->ring)),
	};
	if (!c->fd || !c->ring)
		r = -ENOMEM;
	/* an inherited event may have a ring only if it is bound to one CPU */
	for (int cpu = 0; cpu < n && r == 0; cpu++)
		r = add_ring(c, pid, cpu);
	if (r < 0)
		close_rings(c);
	return r;
}

/* Copies out of the ring, where a record may wrap around the end. */
static void copy_out(void *to, const char *data, size_t size, uint64_t at, size_t n)
{
	size_t offset = at & (size - 1);
	size_t first = n < size - offset ? n : size - offset;

	memcpy(to, data + offset, first);
	memcpy((char *)to + first, data, n - first);
}

static void count_record(struct clones *c, const struct fork_record *r)
{
	if (r->header.type == PERF_RECORD_FORK && r->pid == r->parent_pid)
		c->n_threads++;
	else if (r->header.type == PERF_RECORD_LOST)
		c->n_lost++;
}

static void read_ring(struct clones *c, struct perf_event_mmap_page *page)
{
	size_t size = ring_size() - (size_t)sysconf(_SC_PAGESIZE);
	const char *data = (const char *)page + sysconf(_SC_PAGESIZE);
	uint64_t at = page->data_tail;
	/* Pairs with the kernel's store: the records before the head are whole. */
	uint64_t head = __atomic_load_n(&page->data_head, __ATOMIC_ACQUIRE);

	while (at < head) {
		struct fork_record r = {0};

		copy_out(&r.header, data, size, at, sizeof(r.header));
		if (r.header.size < sizeof(r.header))
			break;
		copy_out(&r, data, size, at,
			 r.header.size < sizeof(r) ? r.header.size : sizeof(r));
		count_record(c, &r);
		at += r.header.size;
	}
	/* Pairs with the kernel's load: we are done with what it may now overwrite. */
	__atomic_store_n(&page->data_tail, at, __ATOMIC_RELEASE);
}

void clones_read(struct clones *c)
{
	for (int i = 0; i < c->n_cpus; i++)
		read_ring(c, c->ring[i]);
}

long clones_stop(struct clones *c)
{
	long n;

	if (c->n_cpus == 0)
		return -1;
	clones_read(c);
	n = c->n_lost ? -1 : c->n_threads;
	close_rings(c);
	return n;
}
