/* SPDX-License-Identifier: MIT */
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "elf.h"
#include "image.h"
#include "say.h"

enum {
	PAGE = 4096,
	MOST_SEGMENTS = 64,
	MOST_SYMBOLS = 1 << 22, /* more are not believed */
	MOST_NAMES = 1 << 28,
};

/* --- which there are --------------------------------------------------------------- */

static void read_segments(struct image *i, const Elf64_Phdr *p, int n, uint64_t base)
{
	bool has_bias = false;

	for (int k = 0; k < n; k++) {
		if (p[k].p_type != PT_LOAD)
			continue;
		if (!has_bias)
			i->bias = base - (p[k].p_vaddr - p[k].p_offset);
		has_bias = true;
		if (i->bias + p[k].p_vaddr + p[k].p_memsz > i->end)
			i->end = i->bias + p[k].p_vaddr + p[k].p_memsz;
	}
	for (int k = 0; k < n; k++) {
		if (p[k].p_type == PT_DYNAMIC)
			i->dynamic = i->bias + p[k].p_vaddr;
		if (p[k].p_type == PT_GNU_EH_FRAME)
			i->unwind_table = i->bias + p[k].p_vaddr;
	}
}

static bool read_image(const struct remote *r, const struct mapping *m, struct image *i)
{
	Elf64_Phdr p[MOST_SEGMENTS];
	Elf64_Ehdr h;

	if (remote_read(r, m->start, &h, sizeof(h)) < 0 ||
	    memcmp(h.e_ident, ELFMAG, SELFMAG) != 0 ||
	    h.e_ident[EI_CLASS] != ELFCLASS64 || h.e_phentsize != sizeof(p[0]) ||
	    h.e_phnum > MOST_SEGMENTS ||
	    remote_read(r, m->start + h.e_phoff, p, h.e_phnum * sizeof(p[0])) < 0)
		return false;
	*i = (struct image){.start = m->start, .path = m->path};
	i->name = strrchr(i->path, '/') ? strrchr(i->path, '/') + 1 : i->path;
	read_segments(i, p, h.e_phnum, m->start);
	return i->end > i->start;
}

void images_find(struct images *all, struct remote *remote)
{
	*all = (struct images){.remote = remote,
			       .image = calloc(remote->n_maps + 1, sizeof(struct image))};
	if (!all->image)
		refuse(STATUS_REFUSED, "out of memory");
	for (size_t k = 0; k < remote->n_maps; k++) {
		const struct mapping *m = &remote->maps[k];
		bool is_file = m->path[0] == '/' || strcmp(m->path, "[vdso]") == 0;

		/* The file may be mapped elsewhere too, to be read. */
		if (is_file && m->offset == 0 &&
		    (all->n == 0 || m->start >= all->image[all->n - 1].end) &&
		    read_image(remote, m, &all->image[all->n]))
			all->n++;
	}
}

struct image *image_at(const struct images *all, uint64_t at)
{
	size_t low = 0, high = all->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		struct image *i = &all->image[middle];

		if (at < i->start)
			high = middle;
		else if (at >= i->end)
			low = middle + 1;
		else
			return i;
	}
	return NULL;
}

/* --- the dynamic symbols, in memory ------------------------------------------------- */

struct dynamic {
	uint64_t symbols, names, names_size, gnu_hash, hash;
};

/* ld.so writes addresses where the file has offsets; but not in the vDSO. */
static uint64_t address(const struct image *i, uint64_t value)
{
	return value >= i->start ? value : value + i->bias;
}

static bool read_dynamic(const struct images *all, const struct image *i,
			 struct dynamic *d)
{
	enum { MOST_ENTRIES = 256 };
	Elf64_Dyn entry;

	*d = (struct dynamic){0};
	for (uint64_t k = 0; i->dynamic && k < MOST_ENTRIES; k++) {
		if (remote_read(all->remote, i->dynamic + k * sizeof(entry), &entry,
				sizeof(entry)) < 0 ||
		    entry.d_tag == DT_NULL)
			break;
		if (entry.d_tag == DT_SYMTAB)
			d->symbols = address(i, entry.d_un.d_ptr);
		if (entry.d_tag == DT_STRTAB)
			d->names = address(i, entry.d_un.d_ptr);
		if (entry.d_tag == DT_STRSZ)
			d->names_size = entry.d_un.d_val;
		if (entry.d_tag == DT_GNU_HASH)
			d->gnu_hash = address(i, entry.d_un.d_ptr);
		if (entry.d_tag == DT_HASH)
			d->hash = address(i, entry.d_un.d_ptr);
	}
	return d->symbols && d->names && d->names_size > 0 && d->names_size < MOST_NAMES;
}

/* The GNU hash table says nowhere how many symbols there are: its last chain's end does. */
static size_t count_by_gnu_hash(const struct images *all, uint64_t table)
{
	uint32_t head[4], last = 0, link = 0;

	if (remote_read(all->remote, table, head, sizeof(head)) < 0 ||
	    head[0] > MOST_SYMBOLS || head[2] > MOST_SYMBOLS)
		return 0;
	uint64_t buckets = table + sizeof(head) + head[2] * sizeof(uint64_t);
	uint64_t chains = buckets + head[0] * sizeof(uint32_t);
	uint32_t *bucket = calloc(head[0] + 1UL, sizeof(*bucket));

	if (bucket &&
	    remote_read(all->remote, buckets, bucket, head[0] * sizeof(*bucket)) == 0)
		for (uint32_t k = 0; k < head[0]; k++)
			last = bucket[k] > last ? bucket[k] : last;
	free(bucket);
	if (last < head[1])
		return head[1];
	for (; last < MOST_SYMBOLS && !(link & 1); last++)
		if (remote_read(all->remote, chains + (last - head[1]) * sizeof(link),
				&link, sizeof(link)) < 0)
			break;
	return last;
}

static size_t count_symbols(const struct images *all, const struct dynamic *d)
{
	uint32_t head[2] = {0};

	if (d->gnu_hash)
		return count_by_gnu_hash(all, d->gnu_hash);
	if (d->hash)
		remote_read(all->remote, d->hash, head, sizeof(head));
	return head[1] < MOST_SYMBOLS ? head[1] : 0;
}

/* Calls @fn for the dynamic symbols in memory.  Returns their names, for the caller to free
 * or to keep, or NULL. */
static char *each_dynamic(const struct images *all, const struct image *i,
			  void (*fn)(void *, const struct elf_symbol *), void *arg)
{
	struct dynamic d;

	if (!read_dynamic(all, i, &d))
		return NULL;
	size_t n = count_symbols(all, &d);
	Elf64_Sym *symbols = calloc(n + 1, sizeof(*symbols));
	char *names = calloc(1, d.names_size);

	if (!symbols || !names)
		refuse(STATUS_REFUSED, "out of memory");
	if (remote_read(all->remote, d.symbols, symbols, n * sizeof(*symbols)) == 0 &&
	    remote_read(all->remote, d.names, names, d.names_size) == 0)
		elf_each_of(symbols, n, names, d.names_size, fn, arg);
	free(symbols);
	return names;
}

struct lookup {
	const char *name;
	uint64_t at;
};

static void compare_name(void *arg, const struct elf_symbol *s)
{
	struct lookup *l = arg;

	if (strcmp(s->name, l->name) == 0)
		l->at = s->at;
}

uint64_t image_lookup(const struct images *all, const struct image *i, const char *name)
{
	struct lookup l = {.name = name};

	free(each_dynamic(all, i, compare_name, &l));
	return l.at ? l.at + i->bias : 0;
}

/* --- names -------------------------------------------------------------------------- */

struct filling {
	struct image *image;
	bool exported;
};

static void add_symbol(void *arg, const struct elf_symbol *s)
{
	struct filling *f = arg;
	struct symbol_table *t =
	    s->is_function ? &f->image->functions : &f->image->objects;

	if (t->n == t->room) {
		t->room = t->room ? 2 * t->room : 256;
		t->symbol = realloc(t->symbol, t->room * sizeof(*t->symbol));
		if (!t->symbol)
			refuse(STATUS_REFUSED, "out of memory");
	}
	t->symbol[t->n++] = (struct symbol){.at = s->at + f->image->bias,
					    .size = s->size,
					    .raw = s->name,
					    .rank = s->rank - f->exported,
					    .is_exported = f->exported};
}

/* Whether the file's first page, which holds the build ID, is the one that is mapped. */
static bool is_mapped(const struct images *all, const struct image *i,
		      const struct elf *e)
{
	unsigned char page[PAGE];
	size_t n = e->size < PAGE ? e->size : PAGE;

	return n > 0 && remote_read(all->remote, i->start, page, n) == 0 &&
	       memcmp(page, e->data, n) == 0;
}

/* The file that is mapped, by its path as the process sees it or, when that is another file
 * by now, as the kernel does (for root). */
static bool open_file(const struct images *all, const struct image *i, struct elf *e)
{
	const struct mapping *m = remote_mapping(all->remote, i->start);
	char path[128 + 4096];

	snprintf(path, sizeof(path), "/proc/%d/root%.4096s", all->remote->pid, i->path);
	if (elf_open(e, path) == 0 && is_mapped(all, i, e))
		return true;
	elf_close(e);
	if (!m)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/map_files/%llx-%llx", all->remote->pid,
		 (unsigned long long)m->start, (unsigned long long)m->end);
	if (elf_open(e, path) == 0 && is_mapped(all, i, e))
		return true;
	elf_close(e);
	return false;
}

/* Where distributions put what they strip. */
static size_t add_debug_file(struct filling *f, const struct elf *e)
{
	char id[64], path[128];
	struct elf debug;

	elf_build_id(e, id, sizeof(id));
	if (strlen(id) < 4)
		return 0;
	snprintf(path, sizeof(path), "/usr/lib/debug/.build-id/%.2s/%s.debug", id,
		 id + 2);
	if (elf_open(&debug, path) < 0)
		return 0;
	size_t n = elf_each_symbol(&debug, false, add_symbol, f);
	if (n == 0)
		elf_close(&debug); /* else the names lie in it */
	return n;
}

static int by_address(const void *a, const void *b)
{
	const struct symbol *x = a, *y = b;

	if (x->at != y->at)
		return x->at < y->at ? -1 : 1;
	/* A search comes upon the last of an address. */
	if (x->rank != y->rank)
		return x->rank < y->rank ? 1 : -1;
	return (strlen(x->raw) < strlen(y->raw)) - (strlen(x->raw) > strlen(y->raw));
}

static void sort(struct symbol_table *t)
{
	if (t->n)
		qsort(t->symbol, t->n, sizeof(*t->symbol), by_address);
}

static void read_names(const struct images *all, struct image *i)
{
	struct filling f = {.image = i};
	struct elf e;

	i->has_names = true;
	if (i->path[0] == '/' && open_file(all, i, &e) &&
	    elf_each_symbol(&e, false, add_symbol, &f) == 0)
		add_debug_file(&f, &e);
	/* The file stays mapped: names point into it. */
	f.exported = true;
	i->dynamic_names = each_dynamic(all, i, add_symbol, &f);
	sort(&i->functions);
	sort(&i->objects);
}

/* The last one that begins at or before @at. */
static size_t search(const struct symbol_table *t, uint64_t at)
{
	size_t low = 0, high = t->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (t->symbol[middle].at <= at)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct symbol *image_symbol(const struct images *all, struct image *i, uint64_t at,
			    bool function)
{
	enum { LOOK_BACK = 32 }; /* one may lie inside another */
	struct symbol_table *t = function ? &i->functions : &i->objects;

	if (!i->has_names)
		read_names(all, i);
	size_t k = search(t, at), lowest = k > LOOK_BACK ? k - LOOK_BACK : 0;
	struct symbol *label = NULL;

	for (; k > lowest; k--) {
		struct symbol *s = &t->symbol[k - 1];

		if (at < s->at + s->size)
			return s;
		/* Assembler's need not have a size: up to the next one, then. */
		if (s->size == 0 && function && !label)
			label = s;
	}
	return label;
}

/* C++ names as C++ writes them, where its library is on this machine. */
static char *demangle(const char *name)
{
	static char *(*demangler)(const char *, char *, size_t *, int *);
	static bool looked;

	if (strncmp(name, "_Z", 2) != 0)
		return NULL;
	if (!looked) {
		void *library = dlopen("libstdc++.so.6", RTLD_LAZY);

		looked = true;
		if (library)
			demangler = (char *(*)(const char *, char *, size_t *,
					       int *))dlsym(library, "__cxa_demangle");
	}
	return demangler ? demangler(name, NULL, NULL, NULL) : NULL;
}

const char *symbol_name(struct symbol *s)
{
	if (!s->name)
		s->name = demangle(s->raw) ?: strdup(s->raw);
	return s->name ?: s->raw;
}
