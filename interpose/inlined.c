/* SPDX-License-Identifier: MIT */
/*
 * inlined.c: whose system calls do not come by libc's functions.
 *
 * libgomp has futexes of its own, as instructions.  When it creates its first thread we have
 * the runtime stop its calls (shim/dispatch.c); what only loads it, or uses other threads,
 * is left alone, for stopping costs a little at every system call.
 */
#include "inlined.h"

#include <link.h>
#include <string.h>

static const char *const names[] = {"libgomp"};

/* Where creators' code lies that has been looked at, so that it is done once for each.
 * Several may write at once: then one is looked at again. */
enum { N_SEEN = 8 };
static struct {
	_Atomic uintptr_t low, high;
} seen[N_SEEN];
static _Atomic unsigned n_seen;

struct search {
	uintptr_t pc;
	uintptr_t low, high; /* the segment of code that pc is in; 0: none */
	bool is_named;
};

static bool is_named(const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash != NULL ? slash + 1 : path;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strncmp(name, names[i], strlen(names[i])) == 0)
			return true;
	return false;
}

static int visit(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct search *s = arg;

	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
		uintptr_t low = info->dlpi_addr + ph->p_vaddr;

		if (ph->p_type != PT_LOAD || !(ph->p_flags & PF_X) ||
		    s->pc - low >= ph->p_memsz)
			continue;
		s->low = low;
		s->high = low + ph->p_memsz;
		s->is_named = is_named(info->dlpi_name);
		return 1;
	}
	return 0;
}

static bool is_seen(uintptr_t pc)
{
	for (int i = 0; i < N_SEEN; i++)
		if (pc >= seen[i].low && pc < seen[i].high)
			return true;
	return false;
}

void inlined_look_at(const void *caller)
{
	struct search s = {.pc = (uintptr_t)caller};

	if (likely(is_seen(s.pc)))
		return;
	dl_iterate_phdr(visit, &s);
	if (s.is_named)
		calls_dispatch(s.low, s.high - s.low);
	if (s.high == 0)
		return;
	unsigned i = n_seen++ % N_SEEN;
	seen[i].high = 0;
	seen[i].low = s.low;
	seen[i].high = s.high;
}

void inlined_fork_child(void)
{
	memset(seen, 0, sizeof(seen));
}
