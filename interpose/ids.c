/* SPDX-License-Identifier: MIT */
/*
 * ids.c: user and group ids.
 *
 * They are the process's by POSIX and each kernel thread's in Linux.  libc reaches the
 * threads that it knows by its signal 33; ours are reached by setid_call().  Both are wanted:
 * libc has threads of its own (the helper of SIGEV_THREAD and its callbacks, asynchronous
 * I/O) that we may not have met, and that create others.
 *
 * Of libc's broadcast our tasks take no notice: it signals the tids in their TCBs, and those
 * of floating tasks are nobody's, main's TCB it passes by (libc_hide_from_setxid), and whose
 * TCB is its kernel thread's own makes the call a second time, which changes nothing.
 */
#include "wrap.h"

/* Held over both broadcasts: of two that call at once all threads have the ids of one. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void forget_lock(void)
{
	lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
}

__attribute__((constructor)) static void watch_fork(void)
{
	at_fork(NULL, NULL, forget_lock);
}

static void broadcast_by_libc(long nr, long a, long b, long c)
{
	/* It waits for each of the threads that it signals. */
	enter_kernel();
	switch (nr) {
	case SYS_setuid:
		real.setuid(a);
		break;
	case SYS_setgid:
		real.setgid(a);
		break;
	case SYS_setreuid:
		real.setreuid(a, b);
		break;
	case SYS_setregid:
		real.setregid(a, b);
		break;
	case SYS_setresuid:
		real.setresuid(a, b, c);
		break;
	case SYS_setresgid:
		real.setresgid(a, b, c);
		break;
	case SYS_setgroups:
		real.setgroups(a, (const gid_t *)b);
		break;
	}
	leave_kernel();
}

static long set_everywhere(long nr, long a, long b, long c)
{
	pthread_mutex_lock(&lock);
	long r = setid_call(nr, a, b, c);
	if (r == 0)
		broadcast_by_libc(nr, a, b, c);
	pthread_mutex_unlock(&lock);
	return r;
}

EXPORT int setuid(uid_t id)
{
	return task_self() == NULL ? real.setuid(id)
				   : ret_errno(set_everywhere(SYS_setuid, id, 0, 0));
}

EXPORT int setgid(gid_t id)
{
	return task_self() == NULL ? real.setgid(id)
				   : ret_errno(set_everywhere(SYS_setgid, id, 0, 0));
}

/* -1 leaves an id as it is. */
EXPORT int seteuid(uid_t id)
{
	if (task_self() == NULL)
		return real.seteuid(id);
	return ret_errno(id == (uid_t)-1 ? -EINVAL
					 : set_everywhere(SYS_setresuid, -1, id, -1));
}

EXPORT int setegid(gid_t id)
{
	if (task_self() == NULL)
		return real.setegid(id);
	return ret_errno(id == (gid_t)-1 ? -EINVAL
					 : set_everywhere(SYS_setresgid, -1, id, -1));
}

EXPORT int setreuid(uid_t real_id, uid_t effective)
{
	if (task_self() == NULL)
		return real.setreuid(real_id, effective);
	return ret_errno(set_everywhere(SYS_setreuid, real_id, effective, 0));
}

EXPORT int setregid(gid_t real_id, gid_t effective)
{
	if (task_self() == NULL)
		return real.setregid(real_id, effective);
	return ret_errno(set_everywhere(SYS_setregid, real_id, effective, 0));
}

EXPORT int setresuid(uid_t real_id, uid_t effective, uid_t saved)
{
	if (task_self() == NULL)
		return real.setresuid(real_id, effective, saved);
	return ret_errno(set_everywhere(SYS_setresuid, real_id, effective, saved));
}

EXPORT int setresgid(gid_t real_id, gid_t effective, gid_t saved)
{
	if (task_self() == NULL)
		return real.setresgid(real_id, effective, saved);
	return ret_errno(set_everywhere(SYS_setresgid, real_id, effective, saved));
}

EXPORT int setgroups(size_t n, const gid_t *groups)
{
	if (task_self() == NULL)
		return real.setgroups(n, groups);
	return ret_errno(set_everywhere(SYS_setgroups, (long)n, (long)groups, 0));
}

/* The groups of user, allocated; NULL for want of memory. */
static gid_t *groups_of(const char *user, gid_t group, int *n)
{
	gid_t *groups = NULL;

	for (*n = 64;;) {
		int room = *n;
		gid_t *more = realloc(groups, room * sizeof(*groups));

		if (more == NULL) {
			free(groups);
			return NULL;
		}
		groups = more;
		if (getgrouplist(user, group, groups, n) >= 0)
			return groups;
		if (*n <= room)
			*n = room * 2;
	}
}

EXPORT int initgroups(const char *user, gid_t group)
{
	int n;

	if (task_self() == NULL)
		return real.initgroups(user, group);
	gid_t *groups = groups_of(user, group, &n);
	if (groups == NULL)
		return ret_errno(-ENOMEM);
	/* The database may have more than the kernel takes. */
	long most = sysconf(_SC_NGROUPS_MAX);
	if (most > 0 && n > most)
		n = (int)most;
	long r = set_everywhere(SYS_setgroups, n, (long)groups, 0);
	free(groups);
	return ret_errno(r);
}
