/* SPDX-License-Identifier: MIT */
/*
 * popen.c: popen() and pclose().
 *
 * Not libc's: it would spawn the shell with the worker's signal mask, and for as long as
 * that is exposed its malloc must not park.  posix_spawn() knows better.
 */
#include "popen.h"

#include "io.h"

#include <wchar.h>

struct shell_pipe {
	struct shell_pipe *next;
	FILE *f;
	pid_t pid; /* 0: libc's own, from before the runtime woke */
};

/*
 * Held while a shell is started: it must not inherit another's pipe that is just being
 * made, and all older ones are closed in it.  No cancel acts meanwhile.  Fork does not wait
 * for the holder, who may wait for an allocator that its own handlers keep from all others:
 * the list is changed by one store, and whole in the child, which forgets the lock.
 */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct shell_pipe
    *_Atomic pipes; /* lock; read without by who looks if there is one */

static void acquire(void)
{
	pthread_mutex_lock(&lock);
}

static void release(void)
{
	pthread_mutex_unlock(&lock);
}

void popen_fork_child(void)
{
	lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
}

struct mode {
	bool reads, writes, closes_on_exec;
};

static bool mode_of(const char *text, struct mode *m)
{
	*m = (struct mode){0};
	for (; *text != '\0'; text++) {
		if (*text == 'r')
			m->reads = true;
		else if (*text == 'w')
			m->writes = true;
		else if (*text == 'e')
			m->closes_on_exec = true;
		else
			return false;
	}
	return m->reads != m->writes;
}

/* Starts the shell with the pipe's end theirs as its stdin or stdout.  0 or an errno. */
static int start_shell(const char *command, int theirs, int as, pid_t *pid)
{
	char *argv[] = {"sh", "-c", (char *)command, NULL};
	posix_spawn_file_actions_t actions;
	int r = posix_spawn_file_actions_init(&actions);

	if (r != 0)
		return r;
	r = posix_spawn_file_actions_adddup2(&actions, theirs, as);
	for (struct shell_pipe *p = pipes; p != NULL && r == 0; p = p->next)
		if (fileno(p->f) != as)
			r = posix_spawn_file_actions_addclose(&actions, fileno(p->f));
	if (r == 0)
		r = posix_spawn(pid, "/bin/sh", &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	return r;
}

/* p, with the shell at its other end; NULL and errno.  No cancellation point. */
static FILE *open_pipe(struct task *t, struct shell_pipe *p, const char *command,
		       struct mode m)
{
	int fds[2], r;

	if (pipe2(fds, O_CLOEXEC) != 0)
		return NULL;
	int ours = fds[m.writes], theirs = fds[m.reads];
	p->f = fdopen(ours, m.reads ? "r" : "w");
	if (p->f == NULL) {
		r = errno;
		io_close(t, false, ours);
	} else {
		r = start_shell(command, theirs, m.reads ? 1 : 0, &p->pid);
		if (r != 0)
			real.fclose(p->f);
		else if (!m.closes_on_exec)
			real.fcntl(ours, F_SETFD, 0);
		if (r == 0)
			fwide(p->f, -1); /* POSIX: it is byte-oriented */
	}
	io_close(t, false, theirs);
	errno = r;
	return r == 0 ? p->f : NULL;
}

/* The same, by libc, which knows its own pipes alone. */
static FILE *open_libcs(struct shell_pipe *p, const char *command, const char *mode)
{
	p->pid = 0;
	p->f = real.popen(command, mode);
	return p->f;
}

EXPORT FILE *popen(const char *command, const char *mode)
{
	struct task *t = task_self();
	struct shell_pipe *p;
	struct mode m;

	if (!mode_of(mode, &m)) {
		errno = EINVAL;
		return NULL;
	}
	p = malloc(sizeof(*p));
	if (p == NULL)
		return NULL;
	int before = errno;
	acquire();
	FILE *f = t == NULL ? open_libcs(p, command, mode) : open_pipe(t, p, command, m);
	if (f != NULL) {
		p->next = pipes;
		pipes = p;
		errno = before;
	}
	release();
	if (f == NULL)
		free(p);
	return f;
}

/* Takes f's entry out of the list, or returns NULL. */
static struct shell_pipe *forget(FILE *f)
{
	struct shell_pipe *before = NULL, *p;

	acquire();
	for (p = pipes; p != NULL && p->f != f; p = p->next)
		before = p;
	if (p != NULL && before != NULL)
		before->next = p->next;
	else if (p != NULL)
		pipes = p->next;
	release();
	return p;
}

bool popen_close(FILE *f, int *status)
{
	struct shell_pipe *p = pipes != NULL ? forget(f) : NULL;
	long r;

	if (p == NULL)
		return false;
	pid_t pid = p->pid;
	free(p);
	if (pid == 0)
		return false;
	fclose(f);
	/* Whatever comes between, and cancelled or not: a shell that nobody waits for stays. */
	do
		r = kernel_call(SYS_wait4, pid, (long)status, 0, 0, 0, 0);
	while (r == -EINTR);
	if (r < 0)
		*status = (int)ret_errno(r);
	else
		child_ended(task_self());
	return true;
}

EXPORT int pclose(FILE *f)
{
	int status;

	if (popen_close(f, &status))
		return status;
	if (task_self() == NULL)
		return real.pclose(f);
	int fd = fileno(f);
	fds_closing((unsigned)fd, (unsigned)fd);
	enter_kernel();
	status = real.pclose(f);
	leave_kernel();
	fds_closed((unsigned)fd, (unsigned)fd);
	return status;
}
