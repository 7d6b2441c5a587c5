/* SPDX-License-Identifier: MIT */
/*
 * reading.h: a thread that reads, for programs that look at what becomes of it.
 */
#ifndef READING_H
#define READING_H

#include "check.h"

struct reading {
	int fd;
	_Atomic bool done;
	ssize_t result;
	int error;
	char buf[100];
};

static inline void *read_some(void *arg)
{
	struct reading *r = arg;

	r->result = read(r->fd, r->buf, sizeof(r->buf));
	r->error = errno;
	r->done = true;
	return NULL;
}

/* Starts it, and waits until it has to wait. */
static inline pthread_t begin_reading(struct reading *r, int fd)
{
	*r = (struct reading){.fd = fd};
	pthread_t thread = start_waiting(read_some, r);

	CHECK(!r->done);
	return thread;
}

#endif
