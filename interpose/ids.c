/* SPDX-License-Identifier: MIT */
/*
 * ids.c: user and group ids.
 *
 * They are the process's by POSIX and each kernel thread's in Linux.  libc reaches the
 * threads that it knows; ours are reached by setid_call().
 */
#include "wrap.h"

EXPORT int setuid(uid_t id)
{
	return task_self() == NULL ? real.setuid(id)
				   : ret_errno(setid_call(SYS_setuid, id, 0, 0));
}

EXPORT int setgid(gid_t id)
{
	return task_self() == NULL ? real.setgid(id)
				   : ret_errno(setid_call(SYS_setgid, id, 0, 0));
}

/* -1 leaves an id as it is. */
EXPORT int seteuid(uid_t id)
{
	if (task_self() == NULL)
		return real.seteuid(id);
	return ret_errno(id == (uid_t)-1 ? -EINVAL
					 : setid_call(SYS_setresuid, -1, id, -1));
}

EXPORT int setegid(gid_t id)
{
	if (task_self() == NULL)
		return real.setegid(id);
	return ret_errno(id == (gid_t)-1 ? -EINVAL
					 : setid_call(SYS_setresgid, -1, id, -1));
}

EXPORT int setreuid(uid_t real_id, uid_t effective)
{
	if (task_self() == NULL)
		return real.setreuid(real_id, effective);
	return ret_errno(setid_call(SYS_setreuid, real_id, effective, 0));
}

EXPORT int setregid(gid_t real_id, gid_t effective)
{
	if (task_self() == NULL)
		return real.setregid(real_id, effective);
	return ret_errno(setid_call(SYS_setregid, real_id, effective, 0));
}

EXPORT int setresuid(uid_t real_id, uid_t effective, uid_t saved)
{
	if (task_self() == NULL)
		return real.setresuid(real_id, effective, saved);
	return ret_errno(setid_call(SYS_setresuid, real_id, effective, saved));
}

EXPORT int setresgid(gid_t real_id, gid_t effective, gid_t saved)
{
	if (task_self() == NULL)
		return real.setresgid(real_id, effective, saved);
	return ret_errno(setid_call(SYS_setresgid, real_id, effective, saved));
}

EXPORT int setgroups(size_t n, const gid_t *groups)
{
	if (task_self() == NULL)
		return real.setgroups(n, groups);
	return ret_errno(setid_call(SYS_setgroups, (long)n, (long)groups, 0));
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
	long r = setid_call(SYS_setgroups, n, (long)groups, 0);
	free(groups);
	return ret_errno(r);
}
