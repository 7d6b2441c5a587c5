/* SPDX-License-Identifier: MIT */
/*
 * elf.h: what an ELF file says about itself, without running it.
 *
 * The file is mapped and every offset in it is checked before use, because a
 * program that we are asked to look at may be truncated or hostile.  What needs
 * section headers answers "no" for a file that has none.
 */
#ifndef CLI_ELF_H
#define CLI_ELF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct elf {
	const unsigned char *data;
	size_t size;
};

enum elf_kind {
	ELF_NOT,           /* something else: a script, data */
	ELF_32_BIT,        /* includes x32 */
	ELF_OTHER_MACHINE, /* 64 bits, but not x86-64 */
	ELF_STATIC,        /* no loader is asked for, so nobody reads LD_PRELOAD */
	ELF_DYNAMIC,
};

/* Maps @path.  0 or -errno. */
int elf_open(struct elf *e, const char *path);
void elf_close(struct elf *e);

enum elf_kind elf_kind(const struct elf *e);

/* The loader's path, or NULL. */
const char *elf_loader(const struct elf *e);

/* Whether the dynamic symbols, defined or not, hold @name. */
bool elf_has_symbol(const struct elf *e, const char *name);

/* An undefined symbol that starts with @prefix and is bound to @version, or NULL. */
const char *elf_wants(const struct elf *e, const char *prefix, const char *version);

/* A symbol that the file defines; @at is its address before any relocation. */
struct elf_symbol {
	uint64_t at;
	uint64_t size;
	const char *name;
	bool is_function;
	int rank; /* of several for one address the least one names it best */
};

/* Calls @fn for each function and object that a table defines: all, or those that are left
 * when the file is stripped (@dynamic).  Returns how many. */
size_t elf_each_symbol(const struct elf *e, bool dynamic,
		       void (*fn)(void *arg, const struct elf_symbol *), void *arg);

/* The same for tables that were copied from a process: @n symbols, their names. */
size_t elf_each_of(const void *symbols, size_t n, const char *names, size_t names_size,
		   void (*fn)(void *arg, const struct elf_symbol *), void *arg);

/* The build ID in hexadecimal digits, or "". */
void elf_build_id(const struct elf *e, char *digits, size_t size);

/* Whether Go's compiler made it. */
bool elf_is_go(const struct elf *e);

/* How many places look like a `syscall` instruction: an estimate. */
int elf_count_syscalls(const struct elf *e);

#endif
