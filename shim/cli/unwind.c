/* SPDX-License-Identifier: MIT */
#include <libunwind-x86_64.h>
#include <stdlib.h>
#include <string.h>

#include "say.h"
#include "unwind.h"

/* In libunwind-x86_64, for who reads tables from elsewhere; no header declares it. */
extern int _Ux86_64_dwarf_search_unwind_table(unw_addr_space_t as, unw_word_t ip,
					      unw_dyn_info_t *info,
					      unw_proc_info_t *result,
					      int need_unwind_info, void *arg);

enum {
	PAGE = 4096,
	PAGES_KEPT = 4096, /* 16 MiB of unwind tables and code */
	FRAMES_CACHED = 1 << 12,
};

struct page {
	uint64_t at;   /* 0: empty, for nothing is ever mapped there */
	uint64_t walk; /* the one it was read for; what cannot be written serves all */
	bool is_writable;
	unsigned char *bytes;
};

struct unwinder {
	const struct images *images;
	unw_addr_space_t space;
	struct page page[PAGES_KEPT];
	/* Of the walk that is under way. */
	const struct registers *regs;
	const struct stack_copy *stack;
	uint64_t walk;
	bool wants_more, read_more;
};

/* --- memory ------------------------------------------------------------------------- */

static struct page *page_at(struct unwinder *u, uint64_t at)
{
	struct page *p = &u->page[at / PAGE % PAGES_KEPT];
	const struct mapping *m;

	if (at == 0)
		return NULL;
	/* What can be written may have changed since another stack was walked. */
	if (p->at == at && (!p->is_writable || p->walk == u->walk))
		return p;
	m = remote_mapping(u->images->remote, at);
	p->at = 0;
	p->bytes = p->bytes ?: malloc(PAGE);
	if (!p->bytes)
		refuse(STATUS_REFUSED, "out of memory");
	if (remote_read(u->images->remote, at, p->bytes, PAGE) < 0)
		return NULL;
	p->at = at;
	p->walk = u->walk;
	p->is_writable = !m || m->is_writable;
	return p;
}

static int access_mem(unw_addr_space_t as, unw_word_t at, unw_word_t *value, int write,
		      void *arg)
{
	struct unwinder *u = arg;
	const struct stack_copy *s = u->stack;
	struct page *p;

	(void)as;
	if (write || at % PAGE > PAGE - sizeof(*value))
		return -UNW_EINVAL;
	if (at >= s->at && at - s->at + sizeof(*value) <= s->n) {
		memcpy(value, s->bytes + (at - s->at), sizeof(*value));
		return 0;
	}
	p = page_at(u, at - at % PAGE);
	if (!p)
		return -UNW_EINVAL;
	u->read_more |= p->is_writable;
	memcpy(value, p->bytes + at % PAGE, sizeof(*value));
	return 0;
}

static int access_reg(unw_addr_space_t as, unw_regnum_t number, unw_word_t *value,
		      int write, void *arg)
{
	struct unwinder *u = arg;

	(void)as;
	if (write || number < 0 || number >= N_REGS)
		return -UNW_EREADONLYREG;
	if (!(u->regs->known >> number & 1)) {
		u->wants_more = true;
		return -UNW_EBADREG;
	}
	*value = u->regs->value[number];
	return 0;
}

static int access_fpreg(unw_addr_space_t as, unw_regnum_t number, unw_fpreg_t *value,
			int write, void *arg)
{
	(void)as;
	(void)number;
	(void)value;
	(void)write;
	(void)arg;
	return -UNW_EBADREG;
}

/* --- tables ------------------------------------------------------------------------- */

/* The size of a pointer that .eh_frame_hdr encodes so; 0: it cannot be skipped. */
static size_t encoded_size(unsigned char encoding)
{
	switch (encoding & 0x0f) {
	case 0x02: /* DW_EH_PE_udata2 */
	case 0x0a:
		return 2;
	case 0x03: /* DW_EH_PE_udata4 */
	case 0x0b:
		return 4;
	case 0x00: /* DW_EH_PE_absptr */
	case 0x04:
	case 0x0c:
		return 8;
	default:
		return 0;
	}
}

/* Tells libunwind of the sorted table in @i's .eh_frame_hdr.  0 or -UNW_E. */
static int describe_table(struct unwinder *u, const struct image *i, unw_dyn_info_t *info)
{
	enum { DATAREL_SDATA4 = 0x3b, VERSION = 1 };
	unsigned char head[4];
	uint64_t count = 0;

	if (!i || !i->unwind_table ||
	    remote_read(u->images->remote, i->unwind_table, head, sizeof(head)) < 0 ||
	    head[0] != VERSION || head[3] != DATAREL_SDATA4)
		return -UNW_ENOINFO;
	size_t pointer = encoded_size(head[1]), size = encoded_size(head[2]);
	uint64_t at = i->unwind_table + sizeof(head) + pointer;

	if (!pointer || !size || remote_read(u->images->remote, at, &count, size) < 0)
		return -UNW_ENOINFO;
	*info = (unw_dyn_info_t){
	    .start_ip = i->start,
	    .end_ip = i->end,
	    .format = UNW_INFO_FORMAT_REMOTE_TABLE,
	    .u.rti = {.segbase = i->unwind_table,
		      .table_len = count, /* in words: each entry is one */
		      .table_data = at + size},
	};
	return 0;
}

static int find_proc_info(unw_addr_space_t as, unw_word_t ip, unw_proc_info_t *result,
			  int need_unwind_info, void *arg)
{
	struct unwinder *u = arg;
	unw_dyn_info_t info;
	int r = describe_table(u, image_at(u->images, ip), &info);

	if (r < 0)
		return r;
	return _Ux86_64_dwarf_search_unwind_table(as, ip, &info, result, need_unwind_info,
						  arg);
}

static void put_unwind_info(unw_addr_space_t as, unw_proc_info_t *info, void *arg)
{
	(void)as;
	(void)info;
	(void)arg;
}

static int get_dyn_info_list_addr(unw_addr_space_t as, unw_word_t *at, void *arg)
{
	(void)as;
	(void)at;
	(void)arg;
	return -UNW_ENOINFO;
}

static int resume(unw_addr_space_t as, unw_cursor_t *cursor, void *arg)
{
	(void)as;
	(void)cursor;
	(void)arg;
	return -UNW_EINVAL;
}

static int get_proc_name(unw_addr_space_t as, unw_word_t at, char *name, size_t size,
			 unw_word_t *offset, void *arg)
{
	(void)as;
	(void)at;
	(void)name;
	(void)size;
	(void)offset;
	(void)arg;
	return -UNW_ENOINFO;
}

/* --- walking ------------------------------------------------------------------------ */

struct unwinder *unwinder_new(const struct images *all)
{
	static unw_accessors_t accessors = {
	    .find_proc_info = find_proc_info,
	    .put_unwind_info = put_unwind_info,
	    .get_dyn_info_list_addr = get_dyn_info_list_addr,
	    .access_mem = access_mem,
	    .access_reg = access_reg,
	    .access_fpreg = access_fpreg,
	    .resume = resume,
	    .get_proc_name = get_proc_name,
	};
	struct unwinder *u = calloc(1, sizeof(*u));

	if (u)
		u->space = unw_create_addr_space(&accessors, 0);
	if (!u || !u->space)
		refuse(STATUS_REFUSED, "out of memory");
	u->images = all;
	unw_set_caching_policy(u->space, UNW_CACHE_GLOBAL);
	unw_set_cache_size(u->space, FRAMES_CACHED, 0);
	return u;
}

void unwinder_free(struct unwinder *u)
{
	unw_destroy_addr_space(u->space);
	for (int i = 0; i < PAGES_KEPT; i++)
		free(u->page[i].bytes);
	free(u);
}

/* Whether this is where a handler returns to: the code says so, as to debuggers. */
static bool is_signal_return(struct unwinder *u, uint64_t pc)
{
	/* mov $15,%rax (libc's and ours, for the kernel), and lea 8(%rbx),%rsp; mov $15,%eax
	 * (preempt_trampoline's); syscall. */
	static const unsigned char code[][11] = {
	    {0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05},
	    {0x48, 0x8d, 0x63, 0x08, 0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05}};
	static const size_t size[] = {9, 11};
	const struct page *p = page_at(u, pc - pc % PAGE);

	for (int i = 0; p && i < 2; i++)
		if (pc % PAGE <= PAGE - size[i] &&
		    memcmp(p->bytes + pc % PAGE, code[i], size[i]) == 0)
			return true;
	return false;
}

void unwind(struct unwinder *u, const struct registers *regs,
	    const struct stack_copy *stack, struct backtrace *b)
{
	unw_cursor_t c;
	unw_word_t ip = 0;
	bool is_exact = true; /* the innermost one's is */
	int r = 1;

	*b = (struct backtrace){0};
	u->regs = regs;
	u->stack = stack;
	u->walk++;
	u->wants_more = u->read_more = false;
	if (unw_init_remote(&c, u->space, u) < 0)
		return;
	while (b->n < MOST_FRAMES && unw_get_reg(&c, UNW_REG_IP, &ip) == 0 && ip != 0) {
		bool is_signal = is_signal_return(u, ip);

		b->frame[b->n++] = (struct frame){
		    .pc = ip, .is_exact = is_exact || is_signal, .is_signal = is_signal};
		is_exact = is_signal;
		r = unw_step(&c);
		/* What it guesses without them is worth nothing. */
		if (r <= 0 || u->wants_more)
			break;
	}
	b->wants_more = u->wants_more;
	b->is_whole = !u->wants_more && (r == 0 || ip == 0);
	b->read_more = u->read_more;
}
