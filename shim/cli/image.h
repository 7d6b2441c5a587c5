/* SPDX-License-Identifier: MIT */
/*
 * image.h: the ELF files that another process has mapped: their unwind tables and names.
 *
 * What unwinding needs is read from the process's own memory, so a library that was
 * deleted or replaced since is as good as any.  Names come from the file where it is still
 * the one that is mapped (its .symtab, its debug file), else from the dynamic symbols in
 * memory.
 */
#ifndef CLI_IMAGE_H
#define CLI_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "remote.h"

struct symbol {
	uint64_t at; /* in the process */
	uint64_t size;
	char *name; /* as it is to be shown, once it has been asked for */
	const char *raw;
	int rank;
	bool is_exported;
};

struct symbol_table {
	struct symbol *symbol; /* by address */
	size_t n, room;
};

struct image {
	uint64_t start, end;
	uint64_t bias; /* address in the process less that in the file */
	const char *path;
	const char *name;      /* the last part of it */
	uint64_t dynamic;      /* PT_DYNAMIC, or 0 */
	uint64_t unwind_table; /* .eh_frame_hdr, or 0 */
	bool has_names;        /* the tables are filled in */
	char *dynamic_names;
	struct symbol_table functions, objects;
};

struct images {
	struct remote *remote;
	struct image *image; /* by address */
	size_t n;
};

/* Finds the images of @remote's maps. */
void images_find(struct images *all, struct remote *remote);

struct image *image_at(const struct images *all, uint64_t at);

/* The function or object that holds @at, or NULL; and its name. */
struct symbol *image_symbol(const struct images *all, struct image *i, uint64_t at,
			    bool function);
const char *symbol_name(struct symbol *s);

/* The address of a dynamic symbol by its name, from the process's memory; 0: none. */
uint64_t image_lookup(const struct images *all, const struct image *i, const char *name);

#endif
