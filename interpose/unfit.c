/* SPDX-License-Identifier: MIT */
/*
 * unfit.c: programs whose threads we leave native.
 *
 * A sanitizer follows each thread's stack and %fs, which would move under its feet.  Go's
 * run-time system multiplexes threads itself, and makes the system calls for it without
 * libc: signal stacks and masks, signals from one of its threads to another.  So does QEMU
 * where it runs another machine's program: that one's system calls are instructions of
 * QEMU's, which a signal of the thread must find the thread in, and they name threads by
 * the kernel's ids.
 */
#include "unfit.h"

#include <link.h>
#include <string.h>

static const struct {
	const char *function, *says;
} marks[] = {
    {"__asan_init", "it is built with AddressSanitizer"},
    {"__hwasan_init", "it is built with HWAddressSanitizer"},
    {"__msan_init", "it is built with MemorySanitizer"},
    {"__tsan_init", "it is built with ThreadSanitizer"},
    {"safe_syscall_base", "it is QEMU, which makes its program's system calls itself"},
};

/* A note of the program's file: its sizes, the owner's name, and what it says. */
static bool is_go_note(const ElfW(Nhdr) * note)
{
	enum { GO_BUILD_ID = 4 };

	return note->n_type == GO_BUILD_ID && note->n_namesz == sizeof("Go\0") &&
	       memcmp(note + 1, "Go\0", note->n_namesz) == 0;
}

static bool has_go_note(const char *at, size_t size)
{
	while (size >= sizeof(ElfW(Nhdr))) {
		const ElfW(Nhdr) *note = (const void *)at;
		size_t length = sizeof(*note) + ((note->n_namesz + 3) & ~3U) +
				((note->n_descsz + 3) & ~3U);

		if (is_go_note(note))
			return true;
		if (length > size)
			return false;
		at += length;
		size -= length;
	}
	return false;
}

static int look_for_go(struct dl_phdr_info *info, size_t size, void *found)
{
	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];

		if (ph->p_type == PT_NOTE && ph->p_align <= 4 &&
		    has_go_note((const char *)info->dlpi_addr + ph->p_vaddr, ph->p_memsz))
			*(bool *)found = true;
	}
	return *(bool *)found;
}

const char *unfit_reason(void)
{
	bool is_go = false;

	for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++)
		if (real_is_loaded(marks[i].function))
			return marks[i].says;
	dl_iterate_phdr(look_for_go, &is_go);
	return is_go ? "it is written in Go, which has green threads of its own" : NULL;
}
