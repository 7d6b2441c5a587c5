/* SPDX-License-Identifier: MIT */
/*
 * c11.c: <threads.h>, which is <pthread.h> with other names and other errors.  libc's own
 * calls its functions without the dynamic linker, and so would not reach ours.
 */
#include "thread.h"

static int thrd_error_of(int e)
{
	switch (e) {
	case 0:
		return thrd_success;
	case ENOMEM:
		return thrd_nomem;
	case ETIMEDOUT:
		return thrd_timedout;
	case EBUSY:
		return thrd_busy;
	default:
		return thrd_error;
	}
}

static pthread_mutex_t *mutex_of(mtx_t *m)
{
	return (pthread_mutex_t *)m;
}

static pthread_cond_t *cond_of(cnd_t *c)
{
	return (pthread_cond_t *)c;
}

/* --- threads ------------------------------------------------------------------------- */

EXPORT int thrd_create(thrd_t *id, thrd_start_t start, void *arg)
{
	int r = thread_create(id, NULL, (void *(*)(void *))(void *)start, arg, true,
			      __builtin_return_address(0));

	return r == ENOSYS ? real.thrd_create(id, start, arg) : thrd_error_of(r);
}

EXPORT int thrd_join(thrd_t id, int *result)
{
	void *value = NULL;
	int r = pthread_join(id, &value);

	if (result != NULL && r == 0)
		*result = (int)(intptr_t)value;
	return thrd_error_of(r);
}

EXPORT int thrd_detach(thrd_t id)
{
	return thrd_error_of(pthread_detach(id));
}

EXPORT void thrd_exit(int result)
{
	if (task_self() == NULL)
		real.thrd_exit(result);
	thread_exit((void *)(intptr_t)result);
}

EXPORT int thrd_sleep(const struct timespec *time, struct timespec *left)
{
	switch (clock_nanosleep(CLOCK_REALTIME, 0, time, left)) {
	case 0:
		return 0;
	case EINTR:
		return -1;
	default:
		return -2;
	}
}

EXPORT void thrd_yield(void)
{
	if (task_self() != NULL)
		task_yield();
	else
		real.thrd_yield();
}

/* --- mutexes ------------------------------------------------------------------------- */

EXPORT int mtx_init(mtx_t *m, int type)
{
	return real.mtx_init(m, type);
}

EXPORT void mtx_destroy(mtx_t *m)
{
	pthread_mutex_destroy(mutex_of(m));
}

EXPORT int mtx_lock(mtx_t *m)
{
	return thrd_error_of(pthread_mutex_lock(mutex_of(m)));
}

EXPORT int mtx_trylock(mtx_t *m)
{
	return thrd_error_of(pthread_mutex_trylock(mutex_of(m)));
}

EXPORT int mtx_timedlock(mtx_t *restrict m, const struct timespec *restrict time)
{
	return thrd_error_of(pthread_mutex_timedlock(mutex_of(m), time));
}

EXPORT int mtx_unlock(mtx_t *m)
{
	return thrd_error_of(pthread_mutex_unlock(mutex_of(m)));
}

/* --- condition variables ------------------------------------------------------------- */

EXPORT int cnd_init(cnd_t *c)
{
	return real.cnd_init(c);
}

EXPORT void cnd_destroy(cnd_t *c)
{
	pthread_cond_destroy(cond_of(c));
}

EXPORT int cnd_wait(cnd_t *c, mtx_t *m)
{
	return thrd_error_of(pthread_cond_wait(cond_of(c), mutex_of(m)));
}

EXPORT int cnd_timedwait(cnd_t *restrict c, mtx_t *restrict m,
			 const struct timespec *restrict time)
{
	return thrd_error_of(pthread_cond_timedwait(cond_of(c), mutex_of(m), time));
}

EXPORT int cnd_signal(cnd_t *c)
{
	return thrd_error_of(pthread_cond_signal(cond_of(c)));
}

EXPORT int cnd_broadcast(cnd_t *c)
{
	return thrd_error_of(pthread_cond_broadcast(cond_of(c)));
}
