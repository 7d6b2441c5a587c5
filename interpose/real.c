/* SPDX-License-Identifier: MIT */
/*
 * real.c: finds libc's own functions, once, before anything of the program runs.
 *
 * It asks what dlsym(RTLD_NEXT, name) and dlvsym would: the first object behind
 * ourselves in the search order that has the symbol, which is another preloaded library
 * if it wraps the same function, else libc.  But it walks the symbol tables itself: a
 * lookup by dlsym that fails calls malloc, which may be an allocator that is in the
 * middle of calling us.
 *
 * Nothing here allocates, takes a lock of ours, or uses a thread-local.
 */
#include "real.h"

#include <elf.h>
#include <link.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct real real;

struct row {
	const char *name;
	const char *version; /* NULL: the default one */
	size_t offset;       /* of the pointer in struct real */
	bool is_needed;      /* without it we can't run green */
};

#define ROW(name, version, is_needed) \
	{#name, (const char *)(version), offsetof(struct real, name), is_needed},
#define ROW_WRAP(name, version) ROW(name, version, true)
#define ROW_TWIN(name, version) ROW(name, version, false)
#define ROW_PASS(name, version)
#define ROW_LATER(name, version)
static const struct row rows[] = {
#define SYM(name, family, version, verdict, why) ROW_##verdict(name, version)
#define REALONLY(name, version) ROW(name, version, true)
#include "symbols.def"
#undef SYM
};
enum { N_ROWS = sizeof(rows) / sizeof(rows[0]) };

static void **pointer_of(const struct row *row)
{
	return (void **)((char *)&real + row->offset);
}

/* What a loaded object's dynamic section says about its symbols. */
struct object {
	Elf64_Addr base;
	const Elf64_Sym *symbols;
	const char *strings;
	const uint32_t *gnu_hash;
	const Elf64_Half *versions; /* NULL: no symbol has one */
	const char *definitions;    /* its list of Elf64_Verdef, NULL if it has none */
	Elf64_Addr soname;          /* where in strings, 0 if it has none */
};

extern Elf64_Dyn _DYNAMIC[] __attribute__((visibility("hidden")));

/* ld.so relocates an object's dynamic section in place, except the vDSO's. */
static const void *object_address(Elf64_Addr base, Elf64_Addr value)
{
	return (const void *)(value < base ? base + value : value);
}

static bool object_read(struct object *o, Elf64_Addr base, const Elf64_Dyn *d)
{
	*o = (struct object){.base = base};
	for (; d->d_tag != DT_NULL; d++) {
		const void *at = object_address(base, d->d_un.d_ptr);

		switch (d->d_tag) {
		case DT_SYMTAB:
			o->symbols = at;
			break;
		case DT_STRTAB:
			o->strings = at;
			break;
		case DT_GNU_HASH:
			o->gnu_hash = at;
			break;
		case DT_VERSYM:
			o->versions = at;
			break;
		case DT_VERDEF:
			o->definitions = at;
			break;
		case DT_SONAME:
			o->soname = d->d_un.d_val;
			break;
		}
	}
	return o->symbols && o->strings && o->gnu_hash;
}

static uint32_t gnu_hash(const char *name)
{
	uint32_t hash = 5381; /* the format's */

	for (; *name; name++)
		hash = hash * 33 + (unsigned char)*name;
	return hash;
}

/* strcmp may be somebody's who is not ready: a sanitizer's. */
static bool is_same(const char *a, const char *b)
{
	while (*a != '\0' && *a == *b)
		a++, b++;
	return *a == *b;
}

/* The name of the version that an object defines under this index. */
static const char *version_name(const struct object *o, unsigned int index)
{
	const char *at = o->definitions;

	while (at) {
		const Elf64_Verdef *def = (const void *)at;
		const Elf64_Verdaux *aux = (const void *)(at + def->vd_aux);

		if (def->vd_ndx == index)
			return o->strings + aux->vda_name;
		at = def->vd_next ? at + def->vd_next : NULL;
	}
	return "";
}

/*
 * As ld.so's own: a symbol without a version answers any request; a request without a
 * version wants the default one, the one that is not hidden from new programs.
 */
static bool is_version(const struct object *o, size_t i, const char *version)
{
	const unsigned int hidden = 0x8000;

	if (!o->versions)
		return true;
	unsigned int index = o->versions[i];
	if (!version)
		return !(index & hidden);
	return is_same(version_name(o, index & ~hidden), version);
}

static bool is_function(const Elf64_Sym *s)
{
	const int type = ELF64_ST_TYPE(s->st_info);

	return s->st_shndx != SHN_UNDEF && (type == STT_FUNC || type == STT_GNU_IFUNC);
}

static const Elf64_Sym *object_lookup(const struct object *o, const char *name,
				      const char *version)
{
	const uint32_t hash = gnu_hash(name);
	const uint32_t n_buckets = o->gnu_hash[0];
	const uint32_t first = o->gnu_hash[1]; /* index of the first symbol hashed */
	const uint32_t n_bloom = o->gnu_hash[2];
	const Elf64_Addr *bloom = (const void *)(o->gnu_hash + 4);
	const uint32_t *buckets = (const void *)(bloom + n_bloom);
	const uint32_t *chains = buckets + n_buckets;

	if (!n_buckets || buckets[hash % n_buckets] < first)
		return NULL;
	for (size_t i = buckets[hash % n_buckets];; i++) {
		const Elf64_Sym *s = &o->symbols[i];
		const uint32_t link = chains[i - first]; /* bit 0: the bucket's last */

		if ((link | 1) == (hash | 1) && is_function(s) &&
		    is_same(o->strings + s->st_name, name) && is_version(o, i, version))
			return s;
		if (link & 1)
			return NULL;
	}
}

/* An indirect function's symbol is that of a function which answers with the address. */
static void *symbol_address(const struct object *o, const Elf64_Sym *s)
{
	void *at = (void *)(o->base + s->st_value);

	if (ELF64_ST_TYPE(s->st_info) == STT_GNU_IFUNC)
		at = ((void *(*)(void))at)();
	return at;
}

/* Fills what is still empty from one object. */
static void fill_from(const struct object *o)
{
	for (size_t i = 0; i < N_ROWS; i++) {
		void **pointer = pointer_of(&rows[i]);
		const Elf64_Sym *s =
		    *pointer ? NULL : object_lookup(o, rows[i].name, rows[i].version);

		if (s)
			*pointer = symbol_address(o, s);
	}
}

/* From those that a lookup finds behind us.  ld.so's own list: dl_iterate_phdr may be a
 * sanitizer's too, and nobody loads anything yet. */
static void fill(void)
{
	const struct link_map *m = _r_debug.r_map;
	struct object o;

	while (m && m->l_ld != _DYNAMIC)
		m = m->l_next;
	for (m = m ? m->l_next : NULL; m; m = m->l_next)
		if (object_read(&o, m->l_addr, m->l_ld))
			fill_from(&o);
}

bool real_is_loaded(const char *function)
{
	const struct link_map *m = _r_debug.r_map;
	struct object o;

	for (; m; m = m->l_next)
		if (object_read(&o, m->l_addr, m->l_ld) &&
		    object_lookup(&o, function, NULL))
			return true;
	return false;
}

void *real_in_libc(const char *function)
{
	const struct link_map *m = _r_debug.r_map;
	struct object o;

	for (; m; m = m->l_next) {
		if (!object_read(&o, m->l_addr, m->l_ld) ||
		    !is_same(o.strings + o.soname, "libc.so.6"))
			continue;
		const Elf64_Sym *s = object_lookup(&o, function, NULL);

		return s ? symbol_address(&o, s) : NULL;
	}
	return NULL;
}

const char *real_init(void)
{
	static _Atomic bool is_done;
	static const char *missing;

	/* Pairs with the store below: the table, and missing, are complete. */
	if (atomic_load_explicit(&is_done, memory_order_acquire))
		return missing;

	fill();
	for (size_t i = 0; i < N_ROWS && !missing; i++)
		if (rows[i].is_needed && !*pointer_of(&rows[i]))
			missing = rows[i].name;

	/* Pairs with the load above. Two threads that meet here write the same values. */
	atomic_store_explicit(&is_done, true, memory_order_release);
	return missing;
}
