/* SPDX-License-Identifier: MIT */
/*
 * thread.c: a thread's life as the program sees it.
 */
#include <dlfcn.h>
#include <locale.h>
#include <netdb.h>
#include <resolv.h>
#include <setjmp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "bind.h"
#include "inlined.h"
#include "mutex.h"
#include "schedule.h"
#include "thread.h"
#include "unfit.h"

/* --- waking the runtime ------------------------------------------------------------------ */

/* A libc that the runtime cannot stand on: it never wakes, and threads are native. */
static bool runs_native;

/* Whether threads can be green in this program and with this libc; says once if not. */
static bool is_fit(void)
{
	const char *missing = real_init(), *unfit = unfit_reason();
	char text[128];

	if (missing == NULL && unfit == NULL)
		return true;
	if (missing != NULL)
		snprintf(text, sizeof(text), "this libc lacks %s: threads run native",
			 missing);
	else
		snprintf(text, sizeof(text), "%s: threads run native", unfit);
	message(text);
	return false;
}

static void *probe_thread(void *probe)
{
	((void (*)(void))probe)();
	return NULL;
}

static int first_thread(void (*probe)(void))
{
	pthread_t id;
	int r;

	/* With the default stack: libc takes the thread-locals of all libraries from the
	 * stack's size, and says EINVAL when a small one has no room for them. */
	r = real.pthread_create(&id, NULL, probe_thread, (void *)probe);
	return r != 0 ? r : real.pthread_join(id, NULL);
}

static pthread_key_t adopted_key;

static void adopted_ends(void *t)
{
	mutex_task_ends(t);
	task_unadopt(t);
}

static void adopted(struct task *t)
{
	pthread_setspecific(adopted_key, t);
}

static void task_main(struct task *t);

/* Whether there are other kernel threads, which libc started for timers and the like. */
static bool have_elders(void)
{
	int saved_errno = errno;
	struct stat st;
	bool have = stat("/proc/self/task", &st) != 0 || st.st_nlink > 3;

	errno = saved_errno;
	return have;
}

/* Wakes the runtime if it sleeps: 0 or an errno. */
static int wake_runtime(void)
{
	int r;

	if (likely(runtime_is_running()))
		return 0;
	if (!is_fit()) {
		runs_native = true;
		return ENOSYS;
	}
	host = (struct host){
	    .first_thread = first_thread,
	    .task_main = task_main,
	    .adopted = adopted,
	    .exit_process = exit,
	    .abort_process = abort,
	    .cancel_now = cancel_now,
	    .asked = sched_asked,
	    .system_call = serve_system_call,
	    .clock_gettime = real_in_libc("clock_gettime"),
	};
	if (adopted_key == 0)
		pthread_key_create(&adopted_key, adopted_ends);
	/* Whoever begins to wait later is a task, or adopted. */
	if (!runtime_is_live())
		elders_wait = have_elders();
	bool sleeps = task_self() == NULL;
	r = -runtime_start();
	if (r == ENOSYS) /* and has said why */
		runs_native = true;
	if (r == 0 && sleeps && task_is_main(task_self()))
		cancel_take_over(task_self());
	if (r == 0)
		native_look(task_self());
	return r;
}

/* --- a task's beginning and end ------------------------------------------------------------- */

/* What start_thread does in libc: puts libc's own thread-locals, which a used TCB keeps,
 * into a new thread's state. */
static void begin_libc(void)
{
	real.__ctype_init();
	uselocale(LC_GLOBAL_LOCALE);
	/* The first tells of a failure, the second frees what the first told. */
	dlerror();
	dlerror();
	errno = 0;
	h_errno = 0;
}

static void end_libc(void)
{
	/* The resolver's sockets and configuration, if the task has used it. */
	if (_res.options & RES_INIT || _res.nscount != 0) {
		real.__res_nclose(&_res);
		memset(&_res, 0, sizeof(_res));
	}
}

_Noreturn void thread_end(struct task *t)
{
	struct task_ext *ext = task_ext(t);

	end_begins(t);
	ext->frames = NULL;
	ext->buffers = NULL;
	real.__call_tls_dtors();
	keys_destroy();
	end_libc();
	mutex_task_ends(t);
	task_exit(ext->result);
}

/* A creator waits here until its task has what its attributes want.  Who does not wait gives
 * its task none: the frame that this lies in is gone by the time the task begins. */
struct creation {
	struct wish wish;      /* what others ask for is in the task's own */
	_Atomic uint32_t told; /* a futex */
	int error;
};

/* The new task's answer; false: it must not begin. */
static bool can_begin(struct task *t)
{
	struct creation *c = task_ext(t)->creation;
	int error;

	if (likely(c == NULL))
		return true;
	error = sched_fulfil(t, &c->wish);
	c->error = error;
	/* Pairs with wait_for_creation(), which may be over as soon as it sees this. */
	atomic_store_explicit(&c->told, 1, memory_order_release);
	wake(&c->told, INT_MAX);
	return error == 0;
}

static void *call_start(struct task *t)
{
	void *arg;
	bool c11;
	void *start = task_start_routine(t, &arg, &c11);

	if (c11)
		return (void *)(intptr_t)((int (*)(void *))start)(arg);
	return ((void *(*)(void *))start)(arg);
}

static void task_main(struct task *t)
{
	struct task_ext *ext = task_ext(t);
	struct cleanup_frame outermost;
	struct libc_points points;

	begin_libc();
	cancel_in_libc_too(t, &points);
	/* Where pthread_exit and cancel end up: see cancel.c. */
	outermost.outer = NULL;
	ext->frames = &outermost;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wstringop-overflow"
	if (__sigsetjmp((struct __jmp_buf_tag *)&outermost.jump, 0) == 0)
#pragma GCC diagnostic pop
		ext->result = can_begin(t) ? call_start(t) : NULL;
	thread_end(t);
}

_Noreturn void thread_exit(void *result)
{
	struct task *t = task_self();

	if (t != NULL)
		end_begins(t);
	if (t == NULL || task_is_adopted(t))
		real.pthread_exit(result);
	task_ext(t)->result = result;
	cancel_unwind(t);
}

EXPORT void pthread_exit(void *result)
{
	thread_exit(result);
}

/* --- creation ----------------------------------------------------------------------------------- */

/* The defaults, which libc keeps; asking it takes a lock and a copy, so remember. */
static _Atomic size_t default_stack, default_guard;
/* The program has set them: they may say more than sizes. */
static _Atomic bool default_is_set;

static void read_defaults(void)
{
	pthread_attr_t attr;
	size_t size = 0, guard = 0;

	pthread_getattr_default_np(&attr);
	pthread_attr_getstacksize(&attr, &size);
	pthread_attr_getguardsize(&attr, &guard);
	pthread_attr_destroy(&attr);
	if (runtime_stack_size() != 0)
		size = runtime_stack_size();
	default_guard = guard;
	default_stack = size;
}

EXPORT int pthread_setattr_default_np(const pthread_attr_t *attr)
{
	int r = real.pthread_setattr_default_np(attr);

	default_stack = 0;
	if (r == 0)
		default_is_set = true;
	return r;
}

/* The program's own stack, if the attribute has one. */
static void read_stack(const pthread_attr_t *attr, struct task_spec *spec)
{
	void *low = NULL;
	size_t size = 0;

	pthread_attr_getstack(attr, &low, &size);
	/* libc keeps the high end, zero where there is none, and subtracts the size. */
	if ((uintptr_t)low + size == 0)
		return;
	spec->stack = low;
	spec->stack_len = size;
}

static void read_attr(const pthread_attr_t *attr, struct task_spec *spec)
{
	int detach = PTHREAD_CREATE_JOINABLE;
	sigset_t mask;

	pthread_attr_getdetachstate(attr, &detach);
	spec->detached = detach == PTHREAD_CREATE_DETACHED;
	pthread_attr_getstacksize(attr, &spec->stack_size);
	pthread_attr_getguardsize(attr, &spec->guard_size);
	read_stack(attr, spec);
	if (pthread_attr_getsigmask_np(attr, &mask) == 0)
		memcpy(&spec->sigmask, &mask, sizeof(spec->sigmask));
}

/* The new task's part of our state, before it may run. */
static void prepare(struct task *t, const void *creation)
{
	task_ext(t)->creation = (struct creation *)creation;
}

static int wait_for_creation(struct creation *c, pthread_t id, bool detached)
{
	void *result;

	/* Pairs with can_begin(). */
	while (atomic_load_explicit(&c->told, memory_order_acquire) == 0)
		park_on(&c->told, 0, NO_DEADLINE);
	if (c->error != 0 && !detached)
		while (task_join(task_of(id), NO_DEADLINE, &result) == -EINTR)
			;
	return c->error;
}

int thread_create(pthread_t *id, const pthread_attr_t *attr, void *(*start)(void *),
		  void *arg, bool c11, const void *caller)
{
	struct task *self;
	struct creation creation = {0};
	pthread_attr_t defaults;
	int r;

	r = runs_native ? ENOSYS : wake_runtime();
	if (r != 0)
		return r;
	inlined_look_at(caller);
	self = task_self();
	if (default_stack == 0)
		read_defaults();

	struct task_spec spec = {
	    .stack_size = default_stack,
	    .guard_size = default_guard,
	    .sigmask = signal_get_mask(self),
	    .c11 = c11,
	    .start = start,
	    .arg = arg,
	};
	bool has_defaults = attr == NULL && default_is_set;
	if (has_defaults && pthread_getattr_default_np(&defaults) == 0)
		attr = &defaults;
	if (attr != NULL) {
		read_attr(attr, &spec);
		creation.wish.what = sched_read_attr(attr, &creation.wish);
	}
	if (has_defaults && attr == &defaults)
		pthread_attr_destroy(&defaults);
	bool waits = creation.wish.what != 0;
	spec.bound = waits || native_wants(self, (void *)start);
	if (waits) {
		spec.prepare = prepare;
		spec.prepare_arg = &creation;
	}
	r = -task_create(&spec, id);
	return r == 0 && waits ? wait_for_creation(&creation, *id, spec.detached) : r;
}

EXPORT int pthread_create(pthread_t *id, const pthread_attr_t *attr,
			  void *(*start)(void *), void *arg)
{
	int r = thread_create(id, attr, start, arg, false, __builtin_return_address(0));

	return r == ENOSYS ? real.pthread_create(id, attr, start, arg) : r;
}

/* --- joining --------------------------------------------------------------------------------------- */

static int join_until(pthread_t id, void **result, ns_t deadline)
{
	struct task *self = task_self(), *t = task_of(id);
	void *value = NULL;
	int r;

	if (t == NULL)
		return -task_gone_error(id);
	/* As libc's, which is a cancellation point where it waits. */
	bool waits = !task_is_done(t);
	if (waits)
		cancel_enter(self);
	r = task_join(t, deadline, &value);
	if (waits)
		cancel_leave(self, r != -EINTR);
	if (r == 0 && result != NULL)
		*result = value;
	return -r;
}

/* A thread that libc made, by another library's call, is libc's to join. */
static bool joins_libcs(pthread_t id)
{
	return task_self() == NULL || task_is_libcs(id);
}

/* As real.pthread_clockjoin_np(); no time: for ever. */
static int join_libcs(pthread_t id, void **result, clockid_t clock,
		      const struct timespec *abstime)
{
	struct task *self = task_self();

	if (self != NULL)
		cancel_enter_libc(self);
	int r = abstime == NULL ? real.pthread_join(id, result)
				: real.pthread_clockjoin_np(id, result, clock, abstime);
	if (self != NULL)
		cancel_leave_libc(self);
	return r;
}

EXPORT int pthread_join(pthread_t id, void **result)
{
	if (joins_libcs(id))
		return join_libcs(id, result, CLOCK_REALTIME, NULL);
	return join_until(id, result, NO_DEADLINE);
}

EXPORT int pthread_tryjoin_np(pthread_t id, void **result)
{
	struct task *t;

	if (joins_libcs(id))
		return real.pthread_tryjoin_np(id, result);
	t = task_of(id);
	if (t == NULL)
		return -task_gone_error(id);
	return task_is_done(t) ? join_until(id, result, NO_DEADLINE) : EBUSY;
}

EXPORT int pthread_clockjoin_np(pthread_t id, void **result, clockid_t clock,
				const struct timespec *abstime)
{
	ns_t deadline;

	if (joins_libcs(id))
		return join_libcs(id, result, clock, abstime);
	if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC)
		return EINVAL;
	if (deadline_at(clock, abstime, &deadline) != 0)
		return EINVAL;
	return join_until(id, result, deadline);
}

EXPORT int pthread_timedjoin_np(pthread_t id, void **result,
				const struct timespec *abstime)
{
	return pthread_clockjoin_np(id, result, CLOCK_REALTIME, abstime);
}

EXPORT int pthread_detach(pthread_t id)
{
	struct task *t;

	if (joins_libcs(id))
		return real.pthread_detach(id);
	t = task_of(id);
	return -(t == NULL ? task_gone_error(id) : task_detach(t));
}

/* --- attributes of a running thread -------------------------------------------------------------------- */

/* NULL: none of ours, the real function answers. */
static struct task *green_task(pthread_t id)
{
	struct task *t = task_self() == NULL ? NULL : task_of(id);

	return t != NULL && !task_is_adopted(t) ? t : NULL;
}

EXPORT int pthread_getattr_np(pthread_t id, pthread_attr_t *attr)
{
	struct task *t = green_task(id);
	void *low;
	size_t size, guard;

	/* Main's stack is libc's to find, also when a forked child's main was a task. */
	if (t == NULL || !task_has_stack(t))
		return real.pthread_getattr_np(id, attr);
	task_get_stack(t, &low, &size, &guard);
	pthread_attr_init(attr);
	pthread_attr_setstack(attr, low, size);
	pthread_attr_setguardsize(attr, guard);
	pthread_attr_setdetachstate(attr, task_is_detached(t) ? PTHREAD_CREATE_DETACHED
							      : PTHREAD_CREATE_JOINABLE);
	sched_tell(t, attr);
	return 0;
}

enum { NAME_SIZE = 16 }; /* the kernel's TASK_COMM_LEN */

/* The process's name is its first kernel thread's.  No cancellation point. */
static void name_process(const char *name, size_t n)
{
	long fd =
	    real.syscall(SYS_openat, AT_FDCWD, "/proc/self/comm", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	real.syscall(SYS_write, fd, name, n);
	real.syscall(SYS_close, fd);
}

void thread_set_name(struct task *t, const char *name)
{
	size_t n = strnlen(name, NAME_SIZE - 1);

	memset(task_name(t), 0, NAME_SIZE);
	memcpy(task_name(t), name, n);
	if (task_is_main(t))
		name_process(name, n);
	if (t == task_self() && task_is_bound(t))
		real.prctl(PR_SET_NAME, task_name(t));
	native_look(t);
}

EXPORT int pthread_setname_np(pthread_t id, const char *name)
{
	struct task *t = green_task(id);

	if (t == NULL)
		return real.pthread_setname_np(id, name);
	if (strlen(name) >= NAME_SIZE)
		return ERANGE;
	if (task_is_done(t))
		return ENOENT; /* libc looks for its directory in /proc */
	thread_set_name(t, name);
	return 0;
}

EXPORT int pthread_getname_np(pthread_t id, char *name, size_t size)
{
	struct task *t = green_task(id);

	if (t == NULL)
		return real.pthread_getname_np(id, name, size);
	if (size < NAME_SIZE)
		return ERANGE;
	if (task_is_done(t))
		return ENOENT;
	memcpy(name, task_name(t), NAME_SIZE);
	return 0;
}

/* --- the one call of the library's own ------------------------------------------------------------------------ */

/* Sets the number of processors while the program runs, as Go's runtime.GOMAXPROCS; 0 only
 * asks.  Returns the former number, or -1 with errno EINVAL. */
EXPORT int pgreen_gomaxprocs(int n)
{
	return ret_errno(procs_set(n));
}
