/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "pids.h"
#include "say.h"
#include "tasks.h"

enum {
	MOST_TASKS = 1 << 23, /* more are not believed */
	MOST_WORKERS = 1 << 16,
	MOST_FOREIGN = 1 << 20,
};

/* --- the layout --------------------------------------------------------------------- */

/* A member of the struct whose bytes these are, as an unsigned number. */
static uint64_t member(const struct runtime *rt, const void *bytes, enum debug_field f)
{
	const struct debug_place *p = &rt->layout.field[f];
	uint64_t value = 0;

	memcpy(&value, (const char *)bytes + p->offset,
	       p->size < sizeof(value) ? p->size : sizeof(value));
	return value;
}

/* One member of a struct in the process. */
static uint64_t remote_member(const struct runtime *rt, uint64_t at, enum debug_field f)
{
	const struct debug_place *p = &rt->layout.field[f];
	uint64_t value = 0;

	remote_read(rt->remote, at + p->offset, &value,
		    p->size < sizeof(value) ? p->size : sizeof(value));
	return value;
}

static bool has_sound_layout(const struct pgreen_debug *d)
{
	static const enum debug_struct of[DEBUG_N_FIELDS] = {
#define OF_task DEBUG_SIZE_TASK
#define OF_worker DEBUG_SIZE_WORKER
#define OF_proc DEBUG_SIZE_PROC
#define OF_sched DEBUG_SIZE_SCHED
#define SIZE_OF_STRUCT(name, type, member) [DEBUG_##name] = OF_##type,
	    DEBUG_FIELDS(SIZE_OF_STRUCT)};

	for (int i = 0; i < DEBUG_N_FIELDS; i++)
		if (d->field[i].offset + d->field[i].size > d->struct_size[of[i]] ||
		    d->struct_size[of[i]] > 1 << 20)
			return false;
	return true;
}

static enum runtime_found read_layout(struct runtime *rt, uint64_t at)
{
	struct pgreen_debug *d = &rt->layout;
	const size_t head = offsetof(struct pgreen_debug, address);

	if (remote_read(rt->remote, at, d, head) < 0 ||
	    memcmp(d->magic, DEBUG_MAGIC, sizeof(d->magic)) != 0 ||
	    d->version != DEBUG_VERSION || d->size != sizeof(*d) ||
	    remote_read(rt->remote, at, d, sizeof(*d)) < 0 || !has_sound_layout(d))
		return RUNTIME_OTHER;
	return RUNTIME_FOUND;
}

static void read_sched(struct runtime *rt)
{
	uint64_t at = rt->layout.address[DEBUG_SCHED];

	if (at == 0)
		return;
	rt->is_awake = remote_member(rt, at, DEBUG_SCHED_LIVE) != 0;
	rt->n_procs = (int)remote_member(rt, at, DEBUG_SCHED_N_PROCS);
	rt->poller = remote_member(rt, at, DEBUG_SCHED_POLLER);
	rt->ns_per_tick = remote_member(rt, at, DEBUG_SCHED_NS_PER_TICK);
}

enum runtime_found runtime_find(struct runtime *rt, const struct images *all)
{
	enum runtime_found found = RUNTIME_NONE;

	*rt = (struct runtime){.remote = all->remote};
	for (size_t i = 0; i < all->n && found == RUNTIME_NONE; i++) {
		uint64_t at = image_lookup(all, &all->image[i], "pgreen_debug");

		/* One from before there was such a thing has this. */
		if (at == 0 &&
		    image_lookup(all, &all->image[i], "pgreen_gomaxprocs") == 0)
			continue;
		rt->library = &all->image[i];
		found = at == 0 ? RUNTIME_OTHER : read_layout(rt, at);
	}
	if (found == RUNTIME_FOUND)
		read_sched(rt);
	return found;
}

/* --- one of each -------------------------------------------------------------------- */

static pid_t our_number(const struct runtime *rt, uint64_t tid)
{
	return pid_from_inside(rt->remote->pid, (pid_t)tid);
}

void task_parse(const struct runtime *rt, uint64_t at, const void *b, struct task_view *t)
{
	uint64_t life = member(rt, b, DEBUG_TASK_LIFE);

	*t = (struct task_view){
	    .at = at,
	    .tid = (int)member(rt, b, DEBUG_TASK_TID),
	    .is_live = life == DEBUG_LIFE_LIVE,
	    .is_done = life == DEBUG_LIFE_DONE,
	    .is_bound = member(rt, b, DEBUG_TASK_BOUND) != 0,
	    .is_main = member(rt, b, DEBUG_TASK_IS_MAIN) != 0,
	    .is_adopted = member(rt, b, DEBUG_TASK_ADOPTED) != 0,
	    .in_door = member(rt, b, DEBUG_TASK_IN_DOOR) != 0,
	    .park = (uint32_t)member(rt, b, DEBUG_TASK_PARK),
	    .worker = member(rt, b, DEBUG_TASK_WORKER),
	    .sp = member(rt, b, DEBUG_TASK_SP),
	    .tcb = member(rt, b, DEBUG_TASK_TCB),
	    .stack_low = member(rt, b, DEBUG_TASK_STACK_LOW),
	    .stack_size = member(rt, b, DEBUG_TASK_STACK_SIZE),
	    .start = member(rt, b, DEBUG_TASK_START),
	    .kernel_tid = our_number(rt, member(rt, b, DEBUG_TASK_KERNEL_TID)),
	    .wait_addr = member(rt, b, DEBUG_TASK_WAIT_ADDR),
	    .wait_word = member(rt, b, DEBUG_TASK_WAIT_WORD),
	    .wait_object = member(rt, b, DEBUG_TASK_WAIT_OBJECT),
	    .never = at + rt->layout.field[DEBUG_TASK_NEVER].offset,
	    .done = at + rt->layout.field[DEBUG_TASK_DONE].offset,
	    .kind = (enum debug_kind)member(rt, b, DEBUG_TASK_WAIT_KIND),
	    .deadline = (int64_t)member(rt, b, DEBUG_TASK_WAIT_DEADLINE),
	    .fd = (int)member(rt, b, DEBUG_TASK_WAIT_FD),
	    .events = (short)member(rt, b, DEBUG_TASK_WAIT_EVENTS),
	    .fds = member(rt, b, DEBUG_TASK_WAIT_FDS),
	    .n_fds = (unsigned)member(rt, b, DEBUG_TASK_N_WAIT_FDS),
	    .sigwait = member(rt, b, DEBUG_TASK_SIGWAIT),
	    .sigmask = member(rt, b, DEBUG_TASK_SIGMASK),
	    .run_start = member(rt, b, DEBUG_TASK_RUN_START),
	    .left_tsc = member(rt, b, DEBUG_TASK_LEFT_TSC),
	    .next = member(rt, b, DEBUG_TASK_NEXT),
	};
	memcpy(t->name, (const char *)b + rt->layout.field[DEBUG_TASK_NAME].offset,
	       sizeof(t->name) - 1);
}

void worker_parse(const struct runtime *rt, uint64_t at, const void *b,
		  struct worker_view *w)
{
	*w = (struct worker_view){
	    .at = at,
	    .tid = our_number(rt, member(rt, b, DEBUG_WORKER_TID)),
	    .is_alive = member(rt, b, DEBUG_WORKER_ALIVE) != 0,
	    .in_runtime = member(rt, b, DEBUG_WORKER_IN_RUNTIME) != 0,
	    .is_spinning = member(rt, b, DEBUG_WORKER_SPINNING) != 0,
	    .is_stray = member(rt, b, DEBUG_WORKER_STRAY) != 0,
	    .proc = member(rt, b, DEBUG_WORKER_PROC),
	    .kernel_proc = member(rt, b, DEBUG_WORKER_KERNEL_PROC),
	    .current = member(rt, b, DEBUG_WORKER_CURRENT),
	    .left = member(rt, b, DEBUG_WORKER_LEFT),
	    .is_switching = member(rt, b, DEBUG_WORKER_AFTER) != 0,
	    .self_tcb = member(rt, b, DEBUG_WORKER_SELF_TCB),
	    .next = member(rt, b, DEBUG_WORKER_NEXT),
	    .lost_since = (int64_t)member(rt, b, DEBUG_WORKER_LOST_SINCE),
	};
}

/* Reads a struct's bytes; the caller frees them.  NULL: it cannot be read. */
static void *read_struct(const struct runtime *rt, uint64_t at, enum debug_struct which)
{
	void *bytes = malloc(rt->layout.struct_size[which]);

	if (!bytes)
		refuse(STATUS_REFUSED, "out of memory");
	if (at != 0 &&
	    remote_read(rt->remote, at, bytes, rt->layout.struct_size[which]) == 0)
		return bytes;
	free(bytes);
	return NULL;
}

bool task_read(const struct runtime *rt, uint64_t at, struct task_view *t)
{
	void *bytes = read_struct(rt, at, DEBUG_SIZE_TASK);

	if (!bytes)
		return false;
	task_parse(rt, at, bytes, t);
	free(bytes);
	return true;
}

bool worker_read(const struct runtime *rt, uint64_t at, struct worker_view *w)
{
	void *bytes = read_struct(rt, at, DEBUG_SIZE_WORKER);

	if (!bytes)
		return false;
	worker_parse(rt, at, bytes, w);
	free(bytes);
	return true;
}

bool proc_read(const struct runtime *rt, uint64_t at, struct proc_view *p)
{
	void *b = read_struct(rt, at, DEBUG_SIZE_PROC);

	if (!b)
		return false;
	*p = (struct proc_view){
	    .id = (int)member(rt, b, DEBUG_PROC_ID),
	    .status = (uint32_t)member(rt, b, DEBUG_PROC_STATUS),
	    .calls = (uint32_t)member(rt, b, DEBUG_PROC_CALLS),
	    .seen_calls = (uint32_t)member(rt, b, DEBUG_PROC_SEEN_CALLS),
	    .owner = member(rt, b, DEBUG_PROC_OWNER),
	    .seen_since = (int64_t)member(rt, b, DEBUG_PROC_SEEN_SINCE),
	};
	free(b);
	return true;
}

/* --- all of them -------------------------------------------------------------------- */

static void add_task(struct runtime *rt, const struct task_view *t)
{
	rt->n_done += t->is_done;
	if (!t->is_live)
		return;
	if ((rt->n_tasks & (rt->n_tasks - 1)) == 0) {
		size_t room = rt->n_tasks ? 2 * rt->n_tasks : 1;

		rt->task = realloc(rt->task, room * sizeof(*rt->task));
		if (!rt->task)
			refuse(STATUS_REFUSED, "out of memory");
	}
	rt->task[rt->n_tasks++] = *t;
}

/* Reads up to IOV_MAX structs in one call. */
static void read_batch(struct runtime *rt, const uint64_t *at, int n, char *bytes)
{
	enum { BATCH = 256 };
	size_t size = rt->layout.struct_size[DEBUG_SIZE_TASK];
	struct iovec here[BATCH], there[BATCH];
	struct task_view t;

	for (int i = 0; i < n; i++) {
		here[i] = (struct iovec){bytes + (size_t)i * size, size};
		there[i] = (struct iovec){(void *)(uintptr_t)at[i], size};
	}
	ssize_t got = remote_read_pieces(rt->remote, here, there, n);
	for (int i = 0; got > 0 && i < got / (ssize_t)size; i++) {
		task_parse(rt, at[i], bytes + (size_t)i * size, &t);
		add_task(rt, &t);
	}
}

static void read_slots(struct runtime *rt)
{
	enum { BATCH = 256 };
	uint64_t table = remote_word(rt->remote, rt->layout.address[DEBUG_SLOT_TABLE]);
	uint32_t n = 0;
	uint64_t at[BATCH];
	char *bytes = malloc(BATCH * (size_t)rt->layout.struct_size[DEBUG_SIZE_TASK]);

	if (!bytes)
		refuse(STATUS_REFUSED, "out of memory");
	remote_read(rt->remote, rt->layout.address[DEBUG_SLOT_COUNT], &n, sizeof(n));
	for (uint32_t i = 1; table != 0 && i < n && n <= MOST_TASKS;) {
		uint32_t batch = n - i < BATCH ? n - i : BATCH;

		if (remote_read(rt->remote, table + i * sizeof(at[0]), at,
				batch * sizeof(at[0])) < 0)
			break;
		read_batch(rt, at, (int)batch, bytes);
		i += batch;
	}
	free(bytes);
}

static void read_foreign(struct runtime *rt, uint64_t main_task)
{
	uint64_t at = remote_word(rt->remote, rt->layout.address[DEBUG_FOREIGN_TASKS]);
	struct task_view t;

	for (int i = 0; at != 0 && i < MOST_FOREIGN && task_read(rt, at, &t);
	     i++, at = t.next)
		if (at != main_task)
			add_task(rt, &t);
}

static void read_tasks(struct runtime *rt)
{
	uint64_t main_task = remote_word(rt->remote, rt->layout.address[DEBUG_MAIN_TASK]);
	struct task_view t;
	size_t first;

	if (main_task != 0 && task_read(rt, main_task, &t))
		add_task(rt, &t);
	read_foreign(rt, main_task);
	first = rt->n_tasks;
	read_slots(rt);
	/* A forked child's main has a slot. */
	for (size_t i = first; i < rt->n_tasks; i++)
		if (rt->task[i].at == main_task)
			rt->task[i--] = rt->task[--rt->n_tasks];
}

static void read_workers(struct runtime *rt)
{
	uint64_t at =
	    remote_member(rt, rt->layout.address[DEBUG_SCHED], DEBUG_SCHED_WORKERS);
	struct worker_view w;

	worker_read(rt, rt->layout.address[DEBUG_SYSMON], &rt->sysmon);
	worker_read(rt, rt->layout.address[DEBUG_PROBER], &rt->prober);
	for (int i = 0; at != 0 && i < MOST_WORKERS && worker_read(rt, at, &w);
	     i++, at = w.next) {
		if (!w.is_alive || at == rt->layout.address[DEBUG_PROBER])
			continue;
		if ((rt->n_workers & (rt->n_workers - 1)) == 0) {
			size_t room = rt->n_workers ? 2 * rt->n_workers : 1;

			rt->worker = realloc(rt->worker, room * sizeof(*rt->worker));
			if (!rt->worker)
				refuse(STATUS_REFUSED, "out of memory");
		}
		rt->worker[rt->n_workers++] = w;
	}
}

static int by_tid(const void *a, const void *b)
{
	const struct task_view *const *x = a, *const *y = b;

	return ((*x)->tid > (*y)->tid) - ((*x)->tid < (*y)->tid);
}

static int by_place(const void *a, const void *b)
{
	const struct task_view *const *x = a, *const *y = b;

	return ((*x)->at > (*y)->at) - ((*x)->at < (*y)->at);
}

static const struct task_view **make_index(const struct runtime *rt,
					   int (*compare)(const void *, const void *))
{
	const struct task_view **index =
	    calloc(rt->n_tasks + 1, sizeof(struct task_view *));

	if (!index)
		refuse(STATUS_REFUSED, "out of memory");
	for (size_t i = 0; i < rt->n_tasks; i++)
		index[i] = &rt->task[i];
	qsort(index, rt->n_tasks, sizeof(struct task_view *), compare);
	return index;
}

void runtime_read(struct runtime *rt)
{
	read_tasks(rt);
	read_workers(rt);
	rt->by_tid = make_index(rt, by_tid);
	rt->by_place = make_index(rt, by_place);
}

void runtime_free(struct runtime *rt)
{
	free(rt->task);
	free(rt->worker);
	free(rt->by_tid);
	free(rt->by_place);
}

static const struct task_view *find(const struct runtime *rt,
				    const struct task_view **index,
				    const struct task_view *key,
				    int (*compare)(const void *, const void *))
{
	const struct task_view **found =
	    bsearch(&key, index, rt->n_tasks, sizeof(struct task_view *), compare);

	return found ? *found : NULL;
}

const struct task_view *runtime_task_of_tid(const struct runtime *rt, int tid)
{
	const struct task_view key = {.tid = tid};

	return find(rt, rt->by_tid, &key, by_tid);
}

const struct task_view *runtime_task_at(const struct runtime *rt, uint64_t at)
{
	const struct task_view key = {.at = at};

	return find(rt, rt->by_place, &key, by_place);
}

bool runtime_calls_start(const struct runtime *rt, const struct images *all, uint64_t pc)
{
	struct image *i = image_at(all, pc);
	struct symbol *s = i && i == rt->library ? image_symbol(all, i, pc, true) : NULL;

	return s &&
	       (strcmp(s->raw, "task_main") == 0 || strcmp(s->raw, "call_start") == 0);
}
