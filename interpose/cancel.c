/* SPDX-License-Identifier: MIT */
/*
 * cancel.c: cancellation, cleanup handlers, and the unwinding that pthread_exit shares.
 *
 * A cancel sets cancel_pending and, if the target allows it, makes it look: the target acts
 * at its next cancellation point, or at once when its type is asynchronous.
 *
 * The stack is unwound by libgcc's _Unwind_ForcedUnwind, loaded when first needed as libc
 * does, so that C++ destructors and catch blocks run.  On the way, stop() is asked about
 * every frame: C's cleanup handlers come due when their frame is left.  Those of the
 * current kind are jump buffers: stop() jumps there, and the code that
 * pthread_cleanup_push compiled to runs the handler and comes back through
 * __pthread_unwind_next.  (nptl/unwind.c does the same; the private words of the buffers
 * are ours, so ours are all functions that read them.)
 *
 * An adopted thread is libc's to unwind and to end, with its join and its stack, and may have
 * registered handlers before it called in: its handlers are on libc's lists alone.  Main's
 * from before the runtime woke are taken over.
 */
#include <dlfcn.h>
#include <setjmp.h>

#include "thread.h"

static struct {
	__typeof__(_Unwind_ForcedUnwind) *forced_unwind;
	__typeof__(_Unwind_GetCFA) *get_cfa;
} unwinder;

static bool load_unwinder(void)
{
	static _Atomic bool loaded;

	if (loaded)
		return true;
	void *lib = dlopen("libgcc_s.so.1", RTLD_NOW | RTLD_LOCAL);
	if (lib == NULL)
		return false;
	unwinder.forced_unwind = dlsym(lib, "_Unwind_ForcedUnwind");
	unwinder.get_cfa = dlsym(lib, "_Unwind_GetCFA");
	if (unwinder.forced_unwind == NULL || unwinder.get_cfa == NULL)
		return false;
	loaded = true;
	return true;
}

/*
 * Where an address lies in the order in which frames are left: those of the task's stack come
 * last, the outermost at the end.  A handler's alternate stack comes before, wherever it is;
 * hence counted from the stack's top on, all around (nptl/unwind.c: adj).
 */
static uintptr_t order_of(const struct task *t, uintptr_t address)
{
	void *low;
	size_t size, guard;

	task_get_stack(t, &low, &size, &guard);
	return address - ((uintptr_t)low + size);
}

static void run_list(struct task *t, struct _pthread_cleanup_buffer **list,
		     uintptr_t limit)
{
	while (*list != NULL && order_of(t, (uintptr_t)*list) < limit) {
		struct _pthread_cleanup_buffer *b = *list;

		*list = b->__prev;
		b->__routine(b->__arg);
	}
}

/* Runs the handlers of the old kind that were registered inside frames before limit: libc's
 * own, inside its functions, and the program's. */
static void run_buffers(struct task *t, uintptr_t limit)
{
	run_list(t, libc_cleanup_buffers(), limit);
	run_list(t, &task_ext(t)->buffers, limit);
}

static _Noreturn void jump_to(struct cleanup_frame *f)
{
	/* Its mask was not saved, and so is not read: __sigsetjmp(buf, 0).  The compiler sees
	 * only that a jmp_buf has room for one. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wstringop-overflow"
	_longjmp((struct __jmp_buf_tag *)&f->jump, 1);
#pragma GCC diagnostic pop
}

static _Unwind_Reason_Code stop(int version, _Unwind_Action actions,
				_Unwind_Exception_Class class,
				struct _Unwind_Exception *exception,
				struct _Unwind_Context *context, void *arg)
{
	struct task *t = arg;
	struct task_ext *ext = task_ext(t);
	uintptr_t cfa = order_of(t, unwinder.get_cfa(context));
	struct cleanup_frame *f = ext->frames;
	bool last = (actions & _UA_END_OF_STACK) != 0;

	(void)version;
	(void)class;
	(void)exception;
	/* A frame's locals lie below its CFA: buffers before it are in frames being left. */
	if (f != NULL && (order_of(t, (uintptr_t)f) < cfa || last)) {
		run_buffers(t, order_of(t, (uintptr_t)f));
		jump_to(f);
	}
	run_buffers(t, last ? UINTPTR_MAX : cfa);
	if (last)
		thread_end(t);
	return _URC_NO_REASON;
}

_Noreturn void cancel_unwind(struct task *t)
{
	struct task_ext *ext = task_ext(t);

	ext->exception = (struct _Unwind_Exception){0};
	if (load_unwinder())
		unwinder.forced_unwind(&ext->exception, stop, t);
	/* No unwinder, or a frame that it cannot pass: C's handlers at least. */
	if (ext->frames != NULL) {
		run_buffers(t, order_of(t, (uintptr_t)ext->frames));
		jump_to(ext->frames);
	}
	run_buffers(t, UINTPTR_MAX);
	thread_end(t);
}

static void set_async(struct task *t, bool on)
{
	task_ext(t)->cancel_async = on;
	task_set_cancel_anywhere(t, on);
}

/* --- cleanup handlers ------------------------------------------------------------------ */

static bool keeps_libcs(const struct task *t)
{
	return t == NULL || task_is_adopted(t);
}

void cancel_take_over(struct task *t)
{
	struct task_ext *ext = task_ext(t);
	struct cleanup_frame here, *f, **end = &ext->frames;
	int state, type;

	/* To learn which is the innermost. */
	real.__pthread_register_cancel((__pthread_unwind_buf_t *)&here);
	real.__pthread_unregister_cancel((__pthread_unwind_buf_t *)&here);
	/* The outermost is libc's own, around main(), for an end that is not main's here. */
	for (f = here.outer; f != NULL && f->outer != NULL; f = f->outer) {
		*end = f;
		end = &f->outer;
	}
	*end = NULL;
	ext->buffers = *libc_cleanup_buffers();
	*libc_cleanup_buffers() = NULL;
	/* Whether and how it lets itself be cancelled, too. */
	real.pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	real.pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type);
	ext->cancel_disabled = state == PTHREAD_CANCEL_DISABLE;
	libc_set_cancel_state(ext->cancel_disabled);
	set_async(t, type == PTHREAD_CANCEL_ASYNCHRONOUS);
}

EXPORT void __pthread_register_cancel(__pthread_unwind_buf_t *buf)
{
	struct task *t = task_self();
	struct cleanup_frame *f = (struct cleanup_frame *)buf;

	if (keeps_libcs(t)) {
		real.__pthread_register_cancel(buf);
		return;
	}
	f->outer = task_ext(t)->frames;
	task_ext(t)->frames = f;
}

EXPORT void __pthread_unregister_cancel(__pthread_unwind_buf_t *buf)
{
	struct task *t = task_self();

	if (keeps_libcs(t))
		real.__pthread_unregister_cancel(buf);
	else if (task_ext(t)->frames == (struct cleanup_frame *)buf)
		task_ext(t)->frames = ((struct cleanup_frame *)buf)->outer;
}

EXPORT void __pthread_register_cancel_defer(__pthread_unwind_buf_t *buf)
{
	struct task *t = task_self();

	if (t == NULL) {
		real.__pthread_register_cancel_defer(buf);
		return;
	}
	__pthread_register_cancel(buf);
	struct cleanup_frame *f = (struct cleanup_frame *)buf;
	f->was_async = task_ext(t)->cancel_async;
	set_async(t, false);
}

EXPORT void __pthread_unregister_cancel_restore(__pthread_unwind_buf_t *buf)
{
	struct task *t = task_self();

	if (t == NULL) {
		real.__pthread_unregister_cancel_restore(buf);
		return;
	}
	__pthread_unregister_cancel(buf);
	if (((struct cleanup_frame *)buf)->was_async)
		pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
}

EXPORT void __pthread_unwind_next(__pthread_unwind_buf_t *buf)
{
	struct task *t = task_self();

	if (keeps_libcs(t))
		real.__pthread_unwind_next(buf);
	task_ext(t)->frames = ((struct cleanup_frame *)buf)->outer;
	cancel_unwind(t);
}

/* An adopted thread's unwinding is libc's, which looks at its own list. */
void cleanup_push(struct task *t, struct _pthread_cleanup_buffer *b,
		  void (*routine)(void *), void *arg)
{
	if (keeps_libcs(t)) {
		real._pthread_cleanup_push(b, routine, arg);
		return;
	}
	b->__routine = routine;
	b->__arg = arg;
	b->__prev = task_ext(t)->buffers;
	task_ext(t)->buffers = b;
}

void cleanup_pop(struct task *t, struct _pthread_cleanup_buffer *b)
{
	if (keeps_libcs(t))
		real._pthread_cleanup_pop(b, 0);
	else
		task_ext(t)->buffers = b->__prev;
}

/* As libc's own jump does (nptl/cleanup_compat.c): to another stack, such as a handler's, it leaves
 * nothing behind. */
void cleanup_jump(struct task *t, uintptr_t sp)
{
	run_list(t, &task_ext(t)->buffers, order_of(t, sp));
}

EXPORT void _pthread_cleanup_push(struct _pthread_cleanup_buffer *b,
				  void (*routine)(void *), void *arg)
{
	cleanup_push(task_self(), b, routine, arg);
}

EXPORT void _pthread_cleanup_pop(struct _pthread_cleanup_buffer *b, int execute)
{
	cleanup_pop(task_self(), b);
	if (execute)
		b->__routine(b->__arg);
}

EXPORT void _pthread_cleanup_push_defer(struct _pthread_cleanup_buffer *b,
					void (*routine)(void *), void *arg)
{
	struct task *t = task_self();

	if (t == NULL) {
		real._pthread_cleanup_push_defer(b, routine, arg);
		return;
	}
	_pthread_cleanup_push(b, routine, arg);
	b->__canceltype = task_ext(t)->cancel_async;
	set_async(t, false);
}

EXPORT void _pthread_cleanup_pop_restore(struct _pthread_cleanup_buffer *b, int execute)
{
	struct task *t = task_self();

	if (t == NULL) {
		real._pthread_cleanup_pop_restore(b, execute);
		return;
	}
	if (b->__canceltype)
		pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	_pthread_cleanup_pop(b, execute);
}

/* --- cancelling -------------------------------------------------------------------------- */

static bool is_allowed(struct task_ext *ext)
{
	return ext->cancel_pending && !ext->cancel_disabled && !ext->exiting;
}

static _Noreturn void act(struct task *t)
{
	struct task_ext *ext = task_ext(t);

	end_begins(t);
	ext->result = PTHREAD_CANCELED;
	if (ext->cancel_in_libc)
		cancel_leave_libc(t);
	task_clear_cancel(t);
	task_set_cancel_point(t, false);
	task_set_cancel_anywhere(t, false);
	if (task_is_adopted(t))
		real.pthread_exit(PTHREAD_CANCELED);
	cancel_unwind(t);
}

void end_begins(struct task *t)
{
	task_ext(t)->exiting = 1;
	task_leave_waits(t);
	libc_allow_cancel(false);
}

/* Called by libc's unwinding, with libc's frames still on the stack. */
static void cancelled_in_libc(void *arg)
{
	struct task *t = arg;

	/* Our own unwinding calls it too, as the outermost of libc's buffers. */
	if (task_ext(t)->exiting)
		return;
	*libc_cleanup_buffers() = NULL; /* the others have been called */
	act(t);
}

/*
 * Libc's functions that are cancellation points inside (fgets, lockf, syslog) look at libc's
 * record of a cancel, which task_notice_cancel keeps, and unwind by libc's own means: those
 * know nothing of our frames.  But they call a thread's cleanup buffers first, if the
 * unwinding is to stop at once: so we are called, as from where the cancel acted.
 */
void cancel_in_libc_too(struct task *t, struct libc_points *p)
{
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wstringop-overflow"
	if (__sigsetjmp((struct __jmp_buf_tag *)&p->jump, 0) != 0)
		abort(); /* nobody jumps there */
#pragma GCC diagnostic pop
	if (!libc_unwind_at_once(&p->jump, p))
		return;
	*libc_cleanup_buffers() = NULL; /* what a former task left there */
	real.__pthread_register_cancel(&p->jump);
	p->first = (struct _pthread_cleanup_buffer){
	    .__routine = cancelled_in_libc,
	    .__arg = t,
	};
	*libc_cleanup_buffers() = &p->first;
	libc_allow_cancel(true);
}

void cancel_test(struct task *t)
{
	if (unlikely(is_allowed(task_ext(t))))
		act(t);
}

void cancel_enter(struct task *t)
{
	struct task_ext *ext = task_ext(t);

	if (unlikely(is_allowed(ext)))
		act(t);
	task_set_cancel_point(t, !ext->cancel_disabled && !ext->exiting);
}

void cancel_leave(struct task *t, bool acted)
{
	task_set_cancel_point(t, false);
	if (!acted)
		cancel_test(t);
}

bool cancel_hold(struct task *t)
{
	bool async = task_ext(t)->cancel_async;

	task_set_cancel_point(t, false);
	set_async(t, false);
	return async;
}

void cancel_release(struct task *t, bool async)
{
	if (unlikely(async)) {
		set_async(t, true);
		cancel_test(t);
	}
}

void cancel_now(struct task *t)
{
	struct task_ext *ext = task_ext(t);

	if ((ext->cancel_async || task_at_wait(t)) && is_allowed(ext))
		act(t);
}

void cancel_enter_libc(struct task *t)
{
	struct task_ext *ext = task_ext(t);

	cancel_test(t);
	enter_kernel();
	ext->cancel_in_libc = 1;
	/* One that came between the test and now has not been acted on. */
	atomic_signal_fence(memory_order_seq_cst);
	cancel_test(t);
}

void cancel_leave_libc(struct task *t)
{
	task_ext(t)->cancel_in_libc = 0;
	leave_kernel();
}

EXPORT int pthread_cancel(pthread_t id)
{
	struct task *self = task_self(), *t = self == NULL ? NULL : task_of(id);

	if (self == NULL)
		return real.pthread_cancel(id);
	if (t == NULL)
		return ESRCH;
	struct task_ext *ext = task_ext(t);

	if (task_is_done(t) || atomic_exchange(&ext->cancel_pending, 1))
		return 0;
	if (!ext->cancel_disabled && !ext->exiting) {
		task_notice_cancel(t);
		if (t == self && ext->cancel_async)
			cancel_now(t);
	}
	return 0;
}

EXPORT void pthread_testcancel(void)
{
	struct task *t = task_self();

	if (t == NULL)
		real.pthread_testcancel();
	else
		cancel_test(t);
}

EXPORT int pthread_setcancelstate(int state, int *old)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.pthread_setcancelstate(state, old);
	if (state != PTHREAD_CANCEL_ENABLE && state != PTHREAD_CANCEL_DISABLE)
		return EINVAL;
	struct task_ext *ext = task_ext(t);

	if (old != NULL)
		*old =
		    ext->cancel_disabled ? PTHREAD_CANCEL_DISABLE : PTHREAD_CANCEL_ENABLE;
	ext->cancel_disabled = state == PTHREAD_CANCEL_DISABLE;
	libc_set_cancel_state(ext->cancel_disabled);
	/* Pairs with pthread_cancel: it sees the state, or we see that it is pending. */
	atomic_thread_fence(memory_order_seq_cst);
	if (ext->cancel_disabled)
		task_clear_cancel(t);
	else if (is_allowed(ext))
		task_notice_cancel(t);
	cancel_now(t);
	return 0;
}

EXPORT int pthread_setcanceltype(int type, int *old)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.pthread_setcanceltype(type, old);
	if (type != PTHREAD_CANCEL_DEFERRED && type != PTHREAD_CANCEL_ASYNCHRONOUS)
		return EINVAL;
	struct task_ext *ext = task_ext(t);

	if (old != NULL)
		*old = ext->cancel_async ? PTHREAD_CANCEL_ASYNCHRONOUS
					 : PTHREAD_CANCEL_DEFERRED;
	set_async(t, type == PTHREAD_CANCEL_ASYNCHRONOUS);
	cancel_now(t);
	return 0;
}
