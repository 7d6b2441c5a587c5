/* SPDX-License-Identifier: MIT */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "elf.h"

int elf_open(struct elf *e, const char *path)
{
	struct stat st;
	void *data;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	*e = (struct elf){0};
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size == 0) {
		close(fd);
		return 0; /* nothing in it: ELF_NOT */
	}
	data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (data == MAP_FAILED)
		return -errno;
	e->data = data;
	e->size = (size_t)st.st_size;
	return 0;
}

void elf_close(struct elf *e)
{
	if (e->data)
		munmap((void *)e->data, e->size);
	*e = (struct elf){0};
}

/* @n bytes at @offset, or NULL when the file has not got them. */
static const void *bytes_at(const struct elf *e, size_t offset, size_t n)
{
	if (offset > e->size || n > e->size - offset)
		return NULL;
	return e->data + offset;
}

/* The string at @offset, or "" when it does not end inside the file. */
static const char *string_at(const struct elf *e, size_t offset)
{
	if (offset >= e->size || !memchr(e->data + offset, 0, e->size - offset))
		return "";
	return (const char *)e->data + offset;
}

static const Elf64_Ehdr *header(const struct elf *e)
{
	return bytes_at(e, 0, sizeof(Elf64_Ehdr));
}

static const Elf64_Phdr *segment(const struct elf *e, int i)
{
	const Elf64_Ehdr *h = header(e);

	if (!h || i >= h->e_phnum)
		return NULL;
	return bytes_at(e, h->e_phoff + (size_t)i * sizeof(Elf64_Phdr),
			sizeof(Elf64_Phdr));
}

static const Elf64_Shdr *section(const struct elf *e, unsigned i)
{
	const Elf64_Ehdr *h = header(e);

	if (!h || !h->e_shoff || i >= h->e_shnum)
		return NULL;
	return bytes_at(e, h->e_shoff + i * sizeof(Elf64_Shdr), sizeof(Elf64_Shdr));
}

static const Elf64_Shdr *section_of_type(const struct elf *e, unsigned type)
{
	const Elf64_Shdr *s;

	for (unsigned i = 0; (s = section(e, i)); i++)
		if (s->sh_type == type)
			return s;
	return NULL;
}

const char *elf_loader(const struct elf *e)
{
	const Elf64_Phdr *p;

	for (int i = 0; (p = segment(e, i)); i++)
		if (p->p_type == PT_INTERP)
			return string_at(e, p->p_offset);
	return NULL;
}

enum elf_kind elf_kind(const struct elf *e)
{
	const Elf64_Ehdr *h = header(e);

	if (!bytes_at(e, 0, EI_NIDENT) || memcmp(e->data, ELFMAG, SELFMAG) != 0)
		return ELF_NOT;
	if (e->data[EI_CLASS] != ELFCLASS64)
		return ELF_32_BIT;
	if (!h || h->e_phentsize != sizeof(Elf64_Phdr))
		return ELF_NOT;
	if (h->e_machine != EM_X86_64)
		return ELF_OTHER_MACHINE;
	return elf_loader(e) ? ELF_DYNAMIC : ELF_STATIC;
}

/* The dynamic symbols and the names that belong to them. */
struct symbols {
	const Elf64_Sym *sym;
	size_t n;
	size_t names; /* offset of the string table */
};

static struct symbols dynamic_symbols(const struct elf *e)
{
	const Elf64_Shdr *s = section_of_type(e, SHT_DYNSYM);
	const Elf64_Shdr *names = s ? section(e, s->sh_link) : NULL;
	const Elf64_Sym *sym = s ? bytes_at(e, s->sh_offset, s->sh_size) : NULL;

	if (!names || !sym)
		return (struct symbols){0};
	return (struct symbols){sym, s->sh_size / sizeof(*sym), names->sh_offset};
}

bool elf_has_symbol(const struct elf *e, const char *name)
{
	struct symbols all = dynamic_symbols(e);

	for (size_t i = 0; i < all.n; i++)
		if (strcmp(string_at(e, all.names + all.sym[i].st_name), name) == 0)
			return true;
	return false;
}

/* Global before weak before local, and what programs call before what libc calls inside. */
static int rank_of(const Elf64_Sym *sym, const char *name)
{
	static const int of_bind[] = {[STB_LOCAL] = 2, [STB_GLOBAL] = 0, [STB_WEAK] = 1};
	int bind = ELF64_ST_BIND(sym->st_info),
	    rank = bind <= STB_WEAK ? of_bind[bind] : 3;

	return rank + 4 * (int)strspn(name, "_") +
	       (ELF64_ST_TYPE(sym->st_info) == STT_NOTYPE ? 100 : 0);
}

static bool is_wanted_symbol(const Elf64_Sym *sym)
{
	int type = ELF64_ST_TYPE(sym->st_info);

	return sym->st_shndx != SHN_UNDEF && sym->st_shndx != SHN_ABS &&
	       (type == STT_FUNC || type == STT_OBJECT || type == STT_NOTYPE ||
		type == STT_GNU_IFUNC);
}

size_t elf_each_of(const void *symbols, size_t n, const char *names, size_t names_size,
		   void (*fn)(void *arg, const struct elf_symbol *), void *arg)
{
	const Elf64_Sym *sym = symbols;
	size_t n_wanted = 0;

	for (size_t i = 0; i < n; i++, sym++) {
		if (!is_wanted_symbol(sym) || sym->st_name >= names_size ||
		    !names[sym->st_name] ||
		    !memchr(names + sym->st_name, 0, names_size - sym->st_name))
			continue;
		int type = ELF64_ST_TYPE(sym->st_info);
		const char *name = names + sym->st_name;
		struct elf_symbol s = {.at = sym->st_value,
				       .size = sym->st_size,
				       .name = name,
				       .is_function = type != STT_OBJECT,
				       .rank = rank_of(sym, name)};
		fn(arg, &s);
		n_wanted++;
	}
	return n_wanted;
}

size_t elf_each_symbol(const struct elf *e, bool dynamic,
		       void (*fn)(void *arg, const struct elf_symbol *), void *arg)
{
	const Elf64_Shdr *s = section_of_type(e, dynamic ? SHT_DYNSYM : SHT_SYMTAB);
	const Elf64_Shdr *names = s ? section(e, s->sh_link) : NULL;
	const void *symbols = s ? bytes_at(e, s->sh_offset, s->sh_size) : NULL;
	const char *text = names ? bytes_at(e, names->sh_offset, names->sh_size) : NULL;

	if (!symbols || !text)
		return 0;
	return elf_each_of(symbols, s->sh_size / sizeof(Elf64_Sym), text, names->sh_size,
			   fn, arg);
}

/* What the first note of this type and owner says, among those at @at, or NULL. */
static const unsigned char *find_note(const unsigned char *at, size_t size, unsigned type,
				      const char owner[4], size_t *n)
{
	while (at && size >= sizeof(Elf64_Nhdr)) {
		const Elf64_Nhdr *note = (const Elf64_Nhdr *)at;
		size_t name = (note->n_namesz + 3UL) & ~3UL;
		size_t whole = sizeof(*note) + name + ((note->n_descsz + 3UL) & ~3UL);

		if (whole > size)
			break;
		if (note->n_type == type && note->n_namesz == 4 &&
		    memcmp(note + 1, owner, 4) == 0) {
			*n = note->n_descsz;
			return at + sizeof(*note) + name;
		}
		at += whole;
		size -= whole;
	}
	return NULL;
}

static const unsigned char *note_of(const struct elf *e, unsigned type,
				    const char owner[4], size_t *n)
{
	const unsigned char *said = NULL;
	const Elf64_Phdr *p;

	for (int i = 0; !said && (p = segment(e, i)); i++)
		if (p->p_type == PT_NOTE)
			said = find_note(bytes_at(e, p->p_offset, p->p_filesz),
					 p->p_filesz, type, owner, n);
	return said;
}

bool elf_is_go(const struct elf *e)
{
	enum { GO_BUILD_ID = 4 };
	size_t n;

	return note_of(e, GO_BUILD_ID, "Go\0", &n) != NULL;
}

void elf_build_id(const struct elf *e, char *digits, size_t size)
{
	size_t n = 0;
	const unsigned char *id = note_of(e, NT_GNU_BUILD_ID, "GNU", &n);

	digits[0] = 0;
	for (size_t i = 0; id && i < n && 2 * i + 2 < size; i++)
		snprintf(digits + 2 * i, 3, "%02x", id[i]);
}

/* The number under which one needed library's entry knows @version, or 0. */
static unsigned number_in(const struct elf *e, const Elf64_Verneed *need, size_t names,
			  const char *version)
{
	size_t at = (size_t)((const unsigned char *)need - e->data) + need->vn_aux;
	const Elf64_Vernaux *aux;

	for (int i = 0; i < need->vn_cnt; i++, at += aux->vna_next) {
		aux = bytes_at(e, at, sizeof(*aux));
		if (!aux)
			break;
		if (strcmp(string_at(e, names + aux->vna_name), version) == 0)
			return aux->vna_other;
	}
	return 0;
}

/* Another library may give a version of its own the same name. */
static bool is_libc(const char *soname)
{
	return strncmp(soname, "libc.so.", 8) == 0 ||
	       strncmp(soname, "libpthread.so.", 14) == 0;
}

/* Whether symbol version @number is libc's @version. */
static bool is_version(const struct elf *e, unsigned number, const char *version)
{
	const Elf64_Shdr *s = section_of_type(e, SHT_GNU_verneed);
	const Elf64_Shdr *names = s ? section(e, s->sh_link) : NULL;
	size_t at = s ? s->sh_offset : 0;
	const Elf64_Verneed *need;

	for (unsigned i = 0; names && i < s->sh_info; i++, at += need->vn_next) {
		need = bytes_at(e, at, sizeof(*need));
		if (!need)
			break;
		if (is_libc(string_at(e, names->sh_offset + need->vn_file)) &&
		    number_in(e, need, names->sh_offset, version) == number)
			return true;
	}
	return false;
}

const char *elf_wants(const struct elf *e, const char *prefix, const char *version)
{
	struct symbols all = dynamic_symbols(e);
	const Elf64_Shdr *s = section_of_type(e, SHT_GNU_versym);
	const Elf64_Half *numbers = s ? bytes_at(e, s->sh_offset, all.n * 2) : NULL;

	for (size_t i = 1; numbers && i < all.n; i++) {
		const char *name = string_at(e, all.names + all.sym[i].st_name);

		if (all.sym[i].st_shndx == SHN_UNDEF &&
		    strncmp(name, prefix, strlen(prefix)) == 0 && numbers[i] > 1 &&
		    is_version(e, numbers[i] & 0x7fff, version))
			return name;
	}
	return NULL;
}

/*
 * Whether an instruction at @q sets %eax to what may be a system call's number: a
 * constant, or another register where the compiler keeps one for several calls.
 */
static bool loads_number(const unsigned char *q, size_t room)
{
	enum { MAX_NUMBER = 512 };

	if (room >= 2 && q[0] == 0x89 && (q[1] & 0xc7) == 0xc0)
		return true;
	if (room >= 5 && q[0] == 0xb8 && q[2] < MAX_NUMBER / 256 && !q[3] && !q[4])
		return true;
	return room >= 7 && q[0] == 0x48 && q[1] == 0xc7 && q[2] == 0xc0 &&
	       q[4] < MAX_NUMBER / 256 && !q[5] && !q[6];
}

/*
 * Two bytes alone say little: any large library holds 0f 05 by chance, most often in
 * a distance, whose next byte is 0, which begins nothing that a compiler emits.
 */
static bool looks_like_syscall(const unsigned char *start, const unsigned char *p,
			       const unsigned char *end)
{
	enum { LOOK_BACK = 32 };

	if (end - p < 3 || p[1] != 0x05 || p[2] == 0)
		return false;
	if (p - start >= 2 && p[-2] == 0x31 && p[-1] == 0xc0) /* xor %eax,%eax: read */
		return true;
	for (const unsigned char *q = p - 2; q >= start && q >= p - LOOK_BACK; q--)
		if (loads_number(q, (size_t)(p - q)))
			return true;
	return false;
}

static int count_syscalls_in(const unsigned char *start, size_t size)
{
	const unsigned char *end = start + size;
	const unsigned char *p = start;
	int n = 0;

	for (; p < end && (p = memchr(p, 0x0f, (size_t)(end - p))); p++)
		n += looks_like_syscall(start, p, end);
	return n;
}

int elf_count_syscalls(const struct elf *e)
{
	const Elf64_Phdr *p;
	int n = 0;

	for (int i = 0; (p = segment(e, i)); i++) {
		const unsigned char *code = bytes_at(e, p->p_offset, p->p_filesz);

		if (p->p_type == PT_LOAD && p->p_flags & PF_X && code)
			n += count_syscalls_in(code, p->p_filesz);
	}
	return n;
}
