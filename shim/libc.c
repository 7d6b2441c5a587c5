/* SPDX-License-Identifier: MIT */
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <gnu/libc-version.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#include "libc.h"
#include "lock.h"
#include "shim.h"

struct libc_facts libc_facts;

static void *(*allocate_tls)(void *);
static void *(*allocate_tls_init)(void *, bool);
static struct list *stack_user;      /* ld.so's list of TCBs on memory it did not map */
static struct lock *stack_list_lock; /* NULL: not found, TCBs are not linked */

/* The beginning of struct pthread: tcbhead_t of sysdeps/x86_64/nptl/tls.h, fixed by the
 * compiler's and the kernel's ABI where it matters (self, guards). */
struct tcb_head {
	void *tcb;
	void *dtv;
	void *self;
	int multiple_threads;
	int gscope_flag;
	uintptr_t sysinfo;
	uintptr_t stack_guard;
	uintptr_t pointer_guard;
};
_Static_assert(offsetof(struct tcb_head, stack_guard) == 0x28, "the compiler's ABI");
_Static_assert(offsetof(struct tcb_head, pointer_guard) == 0x30, "libc's ABI");

/* nptl/descr.h, cancelhandling.  A thread that is ending in libc's eyes is not cancelled, and
 * nptl_setxid.c passes it by.  Libc makes a thread's type asynchronous while it is in a
 * system call that is a cancellation point; what the program asks for does not reach it. */
enum {
	CANCELSTATE_BITMASK = 0x01, /* disabled */
	CANCELTYPE_BITMASK = 0x02,  /* asynchronous */
	CANCELED_BITMASK = 0x08,
	EXITING_BITMASK = 0x10,
};

/* Of a jmp_buf (sysdeps/x86_64/jmpbuf-offsets.h), and how often PTR_MANGLE rotates
 * (sysdeps/unix/sysv/linux/x86_64/pointer_guard.h). */
enum { JUMP_RSP = 6, MANGLE_ROTATES = 17 };

/* Keys' values lie in 32 blocks of 32 (bits/local_lim.h: PTHREAD_KEYS_MAX 1024, and
 * PTHREAD_DESTRUCTOR_ITERATIONS 4). */
enum { KEYS_FIRST_BLOCK = 32, KEYS_ROUNDS = 4 };

/* The rseq ABI: the kernel did not register this area; sched_getcpu then asks it. */
enum { RSEQ_CPU_ID = 4, RSEQ_REGISTRATION_FAILED = -2 };

/* --- where code lies --------------------------------------------------------------- */

struct range {
	uintptr_t low, high;
};

static struct range no_preempt[8]; /* libc, ld.so, the vDSO */
static size_t n_no_preempt;

static struct range text_of(struct dl_phdr_info *info)
{
	struct range r = {UINTPTR_MAX, 0};

	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
		if (ph->p_type != PT_LOAD || !(ph->p_flags & PF_X))
			continue;
		uintptr_t low = info->dlpi_addr + ph->p_vaddr;
		if (low < r.low)
			r.low = low;
		if (low + ph->p_memsz > r.high)
			r.high = low + ph->p_memsz;
	}
	return r;
}

static bool contains(struct range r, uintptr_t pc)
{
	return pc >= r.low && pc < r.high;
}

static int visit_object(struct dl_phdr_info *info, size_t size, void *fs)
{
	struct range r = text_of(info);
	bool is_libc = contains(r, (uintptr_t)gnu_get_libc_version);

	(void)size;
	if (is_libc || contains(r, (uintptr_t)allocate_tls) ||
	    info->dlpi_addr == getauxval(AT_SYSINFO_EHDR))
		if (n_no_preempt < ARRAY_SIZE(no_preempt))
			no_preempt[n_no_preempt++] = r;
	for (int i = 0; is_libc && i < info->dlpi_phnum; i++) {
		if (info->dlpi_phdr[i].p_type != PT_TLS || info->dlpi_tls_data == NULL)
			continue;
		libc_facts.tls = (char *)info->dlpi_tls_data - (char *)fs;
		libc_facts.tls_size = info->dlpi_phdr[i].p_memsz;
	}
	return 0;
}

bool libc_owns_pc(uintptr_t pc)
{
	for (size_t i = 0; i < n_no_preempt; i++)
		if (contains(no_preempt[i], pc))
			return true;
	return false;
}

bool runtime_owns_pc(uintptr_t pc)
{
	/* The linker's names for the ends of the section that the Makefile puts the code of
	 * shim/ into. */
	extern const char __start_shim_text[] __attribute__((visibility("hidden")));
	extern const char __stop_shim_text[] __attribute__((visibility("hidden")));

	return pc >= (uintptr_t)__start_shim_text && pc < (uintptr_t)__stop_shim_text;
}

/* --- facts ------------------------------------------------------------------------- */

/* A row of nptl_db's: { size in bits, count, offset }. */
static bool offset_of(const char *name, size_t *offset)
{
	const uint32_t *row = dlsym(RTLD_DEFAULT, name);

	if (row == NULL)
		return false;
	*offset = row[2];
	return true;
}

static bool size_of(const char *name, size_t *size)
{
	const uint32_t *row = dlsym(RTLD_DEFAULT, name);

	if (row == NULL)
		return false;
	*size = row[0];
	return true;
}

/* glibc's version as 100 * major + minor. */
static int libc_version(void)
{
	char *end;
	long major = strtol(gnu_get_libc_version(), &end, 10);

	return major * 100 + (*end == '.' ? strtol(end + 1, NULL, 10) : 0);
}

/*
 * The lists of threads and their lock lie together in ld.so's rtld_global
 * (sysdeps/generic/ldsodefs.h): stack_used, stack_user, stack_cache, cache_actsize,
 * in_flight_stack, stack_cache_lock.  Only the first two have exported offsets.  The
 * lock's place is believed if everything between looks as it must.
 */
static void find_stack_lists(void)
{
	struct lists {
		struct list used, user, cache;
		size_t cache_size;
		uintptr_t in_flight;
		struct lock lock;
	} * lists;
	size_t used, user;
	char *const *global = dlsym(RTLD_DEFAULT, "__nptl_rtld_global");

	if (global == NULL ||
	    !offset_of("_thread_db_rtld_global__dl_stack_used", &used) ||
	    !offset_of("_thread_db_rtld_global__dl_stack_user", &user))
		return;
	lists = (struct lists *)(*global + used);
	if (user - used != offsetof(struct lists, user) ||
	    lists->cache.next->prev != &lists->cache ||
	    lists->cache.prev->next != &lists->cache || lists->in_flight != 0 ||
	    load_relaxed(&lists->lock.word) > 2)
		return;
	stack_user = &lists->user;
	stack_list_lock = &lists->lock;
}

const char *libc_probe(void)
{
	struct libc_facts *f = &libc_facts;
	size_t key_size = 0, value_size = 0, report_events = 0;
	void *fs = read_fs_base();
	void (*static_info)(size_t *, size_t *);
	char *resp;

	if (libc_version() < 234)
		return "glibc 2.34 or later is needed: threads run native";
	allocate_tls = dlsym(RTLD_DEFAULT, "_dl_allocate_tls");
	allocate_tls_init = dlsym(RTLD_DEFAULT, "_dl_allocate_tls_init");
	static_info = dlsym(RTLD_DEFAULT, "_dl_get_tls_static_info");
	resp = dlsym(RTLD_DEFAULT, "__resp");
	f->keys = dlsym(RTLD_DEFAULT, "__pthread_keys");
	if (allocate_tls == NULL || allocate_tls_init == NULL || static_info == NULL ||
	    resp == NULL || f->keys == NULL ||
	    !size_of("_thread_db_sizeof_pthread", &f->tcb_size) ||
	    !size_of("_thread_db_sizeof_pthread_key_struct", &key_size) ||
	    !size_of("_thread_db_sizeof_pthread_key_data", &value_size) ||
	    !offset_of("_thread_db_pthread_tid", &f->tid) ||
	    !offset_of("_thread_db_pthread_list", &f->list) ||
	    !offset_of("_thread_db_pthread_cancelhandling", &f->cancelhandling) ||
	    !offset_of("_thread_db_pthread_specific", &f->specific) ||
	    !offset_of("_thread_db_pthread_report_events", &report_events))
		return "this libc lacks a symbol that the runtime needs: threads run "
		       "native";
	if (key_size != sizeof(struct pthread_key_slot) ||
	    value_size != sizeof(struct pthread_key_value))
		return "this libc's keys have an unknown layout: threads run native";
	static_info(&f->static_size, &f->static_align);
	/* nptl/descr.h: bool specific_used, report_events, user_stack in a row. */
	f->specific_used = report_events - 1;
	f->user_stack = report_events + 1;
	f->resp = resp - (char *)fs;
	if (libc_version() >= 235) {
		const ptrdiff_t *rseq = dlsym(RTLD_DEFAULT, "__rseq_offset");
		f->rseq = rseq != NULL ? *rseq : 0;
	}
	f->self_task = (char *)&self_task - (char *)fs;
	const uintptr_t *end = dlsym(RTLD_DEFAULT, "__libc_stack_end");
	f->stack_end = end != NULL ? *end : 0;
	f->n_threads = dlsym(RTLD_DEFAULT, "__nptl_nthreads");
	dl_iterate_phdr(visit_object, fs);
	if (f->tls_size == 0)
		return "libc's own thread-local storage was not found: threads run "
		       "native";
	if (*(int *)((char *)fs + f->tid) != sys(SYS_gettid))
		return "the thread id is not where this libc says: threads run native";
	find_stack_lists();
	return NULL;
}

void libc_learn(void *tcb)
{
	char *res = *(char **)((char *)tcb + libc_facts.resp);
	size_t at = res - (char *)tcb;

	/* A thread that glibc made keeps its resolver's state in its struct pthread. */
	if (at < libc_facts.tcb_size)
		libc_facts.res = at;
}

/* --- how many ------------------------------------------------------------------------ */

unsigned libc_count_threads(int by)
{
	if (libc_facts.n_threads == NULL)
		return 0;
	/* Pairs with the ends of other threads, as in nptl/pthread_create.c. */
	return add_acq_rel(libc_facts.n_threads, (unsigned)by) + (unsigned)by;
}

/* --- stacks ------------------------------------------------------------------------- */

/* As nptl/allocatestack.c; the rest is what remains for the thread (pthreaddef.h). */
enum { MINIMAL_REST_STACK = 2048 };

size_t libc_least_stack(void)
{
	return libc_facts.static_size + MINIMAL_REST_STACK;
}

bool libc_takes_sizes(size_t stack, size_t guard)
{
	size_t guard_pages = round_up(guard, PAGE);
	size_t size = stack - stack % libc_facts.static_align + guard_pages;
	size_t pages = round_up(size, PAGE);

	/* The sums may wrap. */
	return guard_pages >= guard && size >= guard_pages && pages >= size &&
	       pages - guard_pages >= round_up(libc_least_stack(), PAGE);
}

/* --- TCBs -------------------------------------------------------------------------- */

static _Atomic int *cancelhandling_of(const void *tcb)
{
	return (_Atomic int *)((char *)tcb + libc_facts.cancelhandling);
}

static void fill_head(char *tcb, int tid, void *task)
{
	struct tcb_head *head = (struct tcb_head *)tcb;
	const struct tcb_head *own = read_fs_base();

	head->tcb = head->self = tcb;
	head->multiple_threads = 1;
	head->sysinfo = own->sysinfo;
	head->stack_guard = own->stack_guard;
	head->pointer_guard = own->pointer_guard;
	*(int *)(tcb + libc_facts.tid) = tid;
	*(void **)(tcb + libc_facts.self_task) = task;
	if (libc_facts.rseq != 0)
		*(int *)(tcb + libc_facts.rseq + RSEQ_CPU_ID) = RSEQ_REGISTRATION_FAILED;
}

void libc_tcb_init_worker(void *tcb, int tid, void *task)
{
	fill_head(tcb, tid, task);
}

/* What allocate_stack() and start_thread() set up in a new struct pthread. */
static void fill_fresh(char *tcb)
{
	struct list *node = (struct list *)(tcb + libc_facts.list);
	/* After tid: robust_prev, then robust_head { list, futex_offset, op_pending }. */
	void **robust = (void **)(tcb + libc_facts.tid + 8);
	struct pthread_key_value **specific = (void *)(tcb + libc_facts.specific);

	list_init(node);
	robust[0] = &robust[1];
	robust[1] = &robust[1];
	robust[2] = (void *)(offsetof(pthread_mutex_t, __data.__lock) -
			     offsetof(pthread_mutex_t, __data.__list.__next));
	specific[0] =
	    (struct pthread_key_value *)(tcb + libc_facts.specific) - KEYS_FIRST_BLOCK;
	tcb[libc_facts.user_stack] = 1;
	libc_hide_from_setxid(tcb);
}

/* The thread-local blocks that __tls_get_addr allocated for the TCB's last task, as
 * get_cached_stack() in nptl/allocatestack.c frees them. */
static void free_dynamic_tls(char *tcb)
{
	struct dtv_entry {
		union {
			size_t counter;
			void *value;
		};
		void *to_free;
	} *dtv = ((struct tcb_head *)tcb)->dtv;
	size_t n = dtv[-1].counter;

	for (size_t i = 1; i <= n; i++)
		free(dtv[i].to_free);
	memset(dtv, 0, (n + 1) * sizeof(*dtv));
}

/*
 * Sets all static TLS of a used TCB to its initial image, except libc's own: it holds
 * malloc's cache and more that only __libc_thread_freeres could free, and that is not
 * exported.  What in it belongs to the last task is put back by the new task's first acts.
 */
static void reset_tls(char *tcb)
{
	char kept[libc_facts.tls_size];

	free_dynamic_tls(tcb);
	memcpy(kept, tcb + libc_facts.tls, sizeof(kept));
	allocate_tls_init(tcb, true);
	memcpy(tcb + libc_facts.tls, kept, sizeof(kept));
}

int libc_tcb_init(void *tcb, int tid, bool fresh, void *task)
{
	if (fresh) {
		if (allocate_tls(tcb) == NULL)
			return -ENOMEM;
		fill_fresh(tcb);
	} else {
		reset_tls(tcb);
	}
	fill_head(tcb, tid, task);
	store_relaxed(cancelhandling_of(tcb), EXITING_BITMASK);
	if (libc_facts.res != 0) {
		*(void **)((char *)tcb + libc_facts.resp) = (char *)tcb + libc_facts.res;
	}
	return 0;
}

void libc_link_tcb(void *tcb)
{
	if (stack_list_lock == NULL)
		return;
	lock_acquire(stack_list_lock);
	list_push_back(stack_user, (struct list *)((char *)tcb + libc_facts.list));
	lock_release(stack_list_lock);
}

void libc_hide_from_setxid(void *tcb)
{
	or_acq_rel(cancelhandling_of(tcb), EXITING_BITMASK);
}

bool libc_in_cancel_point(const void *tcb)
{
	return (load_relaxed(cancelhandling_of(tcb)) &
		(CANCELTYPE_BITMASK | CANCELSTATE_BITMASK)) == CANCELTYPE_BITMASK;
}

bool libc_unwind_at_once(void *jump, const void *stack)
{
	uintptr_t *rsp = (uintptr_t *)jump + JUMP_RSP;
	uintptr_t guard = ((const struct tcb_head *)read_fs_base())->pointer_guard;
	uintptr_t now = (*rsp >> MANGLE_ROTATES | *rsp << (64 - MANGLE_ROTATES)) ^ guard;

	if (now - ((uintptr_t)stack - 4096) > 2 * 4096)
		return false;
	*rsp = (1 ^ guard) << MANGLE_ROTATES | (1 ^ guard) >> (64 - MANGLE_ROTATES);
	return true;
}

void libc_allow_cancel(bool on)
{
	_Atomic int *handling = cancelhandling_of(read_fs_base());

	if (on)
		and_acq_rel(handling, ~EXITING_BITMASK);
	else
		or_acq_rel(handling, EXITING_BITMASK);
}

void libc_set_cancel_state(bool disabled)
{
	_Atomic int *handling = cancelhandling_of(read_fs_base());

	if (disabled)
		or_acq_rel(handling, CANCELSTATE_BITMASK);
	else
		and_acq_rel(handling, ~CANCELSTATE_BITMASK);
}

void libc_cancel(void *tcb)
{
	or_acq_rel(cancelhandling_of(tcb), CANCELED_BITMASK);
}

void libc_set_tid(void *tcb, int tid)
{
	*(int *)((char *)tcb + libc_facts.tid) = tid;
}

/* nptl/descr.h: behind tid come robust_prev and robust_head { list, futex_offset,
 * op_pending }; the first two make a node of the list. */
enum { ROBUST_PREV = 8, ROBUST_HEAD = 16, ROBUST_HEAD_SIZE = 24 };

void *libc_robust_list(void)
{
	return (char *)read_fs_base() + libc_facts.tid + ROBUST_PREV;
}

void libc_register_robust(void *tcb)
{
	sys(SYS_set_robust_list, (char *)tcb + libc_facts.tid + ROBUST_HEAD,
	    ROBUST_HEAD_SIZE);
}

/* nptl/descr.h: behind tid come robust_prev, robust_head (three words), then cleanup. */
struct _pthread_cleanup_buffer **libc_cleanup_buffers(void)
{
	return (void *)((char *)read_fs_base() + libc_facts.tid + 8 + 4 * sizeof(void *));
}

/* --- keys ----------------------------------------------------------------------------- */

/* One pass over all values.  Returns whether a destructor may have set others. */
static bool destroy_once(struct pthread_key_value **specific)
{
	bool called = false;

	for (size_t i = 0; i < KEYS_FIRST_BLOCK; i++) {
		struct pthread_key_value *level = specific[i];

		for (size_t k = 0; level != NULL && k < KEYS_FIRST_BLOCK; k++) {
			struct pthread_key_slot *key =
			    &libc_facts.keys[i * KEYS_FIRST_BLOCK + k];
			void *data = level[k].data;

			if (data == NULL)
				continue;
			level[k].data = NULL;
			/* A key that was deleted, and perhaps made anew, has another seq. */
			if (level[k].seq == key->seq && key->destructor != NULL) {
				key->destructor(data);
				called = true;
			}
		}
	}
	return called;
}

void keys_destroy(void)
{
	char *tcb = read_fs_base();
	struct pthread_key_value **specific = (void *)(tcb + libc_facts.specific);
	bool *used = (bool *)(tcb + libc_facts.specific_used);

	if (!*used)
		return;
	/* POSIX: values that destructors set are destroyed too, a few times over. */
	for (int round = 0; round < KEYS_ROUNDS; round++)
		if (!destroy_once(specific))
			break;
	memset(specific[0], 0, KEYS_FIRST_BLOCK * sizeof(**specific));
	for (size_t i = 1; i < KEYS_FIRST_BLOCK; i++) {
		free(specific[i]);
		specific[i] = NULL;
	}
	*used = false;
}
