/* SPDX-License-Identifier: MIT */
/*
 * remote.h: another process's memory, read while it runs on.
 *
 * process_vm_readv stops nobody and changes nothing; the kernel allows it to the same user
 * and to root (ptrace(2), PTRACE_MODE_ATTACH_REALCREDS).  What is read may change as it is
 * read: who reads has to notice.
 */
#ifndef CLI_REMOTE_H
#define CLI_REMOTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct mapping {
	uint64_t start, end, offset;
	bool is_writable;
	char *path; /* "" for anonymous memory */
};

struct remote {
	pid_t pid;
	struct mapping *maps; /* by address */
	size_t n_maps;
};

/* Reads the list of mappings, anew when there is one.  0 or -errno. */
int remote_map(struct remote *r, pid_t pid);
void remote_close(struct remote *r);

/* The mapping that holds @at, or NULL. */
const struct mapping *remote_mapping(const struct remote *r, uint64_t at);

/* Copies @n bytes at @at.  0 or -errno; there is no half of it. */
int remote_read(const struct remote *r, uint64_t at, void *to, size_t n);

/* Copies several pieces, in their order, in one call.  Returns how many bytes. */
ssize_t remote_read_pieces(const struct remote *r, const struct iovec *to,
			   const struct iovec *from, int n);

/* A word; 0 when it cannot be read. */
static inline uint64_t remote_word(const struct remote *r, uint64_t at)
{
	uint64_t word = 0;

	remote_read(r, at, &word, sizeof(word));
	return word;
}

#endif
