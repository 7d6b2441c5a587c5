/* SPDX-License-Identifier: MIT */
/*
 * names.c: names and addresses of hosts.
 *
 * libc asks servers and files, in ways that are none of our calls: it does so behind the
 * kernel door, so that nobody waits for it.  What a name service module calls of ours in
 * there closes the door.
 */
#include "wrap.h"

#include <netdb.h>

EXPORT int getaddrinfo(const char *node, const char *service,
		       const struct addrinfo *hints, struct addrinfo **found)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.getaddrinfo(node, service, hints, found);
	cancel_enter_libc(t);
	int r = real.getaddrinfo(node, service, hints, found);
	cancel_leave_libc(t);
	return r;
}

EXPORT int getnameinfo(const struct sockaddr *addr, socklen_t addr_len, char *host,
		       socklen_t host_size, char *service, socklen_t service_size,
		       int flags)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.getnameinfo(addr, addr_len, host, host_size, service,
					service_size, flags);
	cancel_enter_libc(t);
	int r = real.getnameinfo(addr, addr_len, host, host_size, service, service_size,
				 flags);
	cancel_leave_libc(t);
	return r;
}

EXPORT struct hostent *gethostbyname(const char *name)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.gethostbyname(name);
	cancel_enter_libc(t);
	struct hostent *r = real.gethostbyname(name);
	cancel_leave_libc(t);
	return r;
}

EXPORT struct hostent *gethostbyname2(const char *name, int family)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.gethostbyname2(name, family);
	cancel_enter_libc(t);
	struct hostent *r = real.gethostbyname2(name, family);
	cancel_leave_libc(t);
	return r;
}

EXPORT struct hostent *gethostbyaddr(const void *addr, socklen_t size, int family)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.gethostbyaddr(addr, size, family);
	cancel_enter_libc(t);
	struct hostent *r = real.gethostbyaddr(addr, size, family);
	cancel_leave_libc(t);
	return r;
}

EXPORT int gethostbyname_r(const char *name, struct hostent *host, char *buf, size_t size,
			   struct hostent **found, int *error)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.gethostbyname_r(name, host, buf, size, found, error);
	cancel_enter_libc(t);
	int r = real.gethostbyname_r(name, host, buf, size, found, error);
	cancel_leave_libc(t);
	return r;
}

EXPORT int gethostbyname2_r(const char *name, int family, struct hostent *host, char *buf,
			    size_t size, struct hostent **found, int *error)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.gethostbyname2_r(name, family, host, buf, size, found, error);
	cancel_enter_libc(t);
	int r = real.gethostbyname2_r(name, family, host, buf, size, found, error);
	cancel_leave_libc(t);
	return r;
}

EXPORT int gethostbyaddr_r(const void *addr, socklen_t addr_size, int family,
			   struct hostent *host, char *buf, size_t size,
			   struct hostent **found, int *error)
{
	struct task *t = task_self();

	if (t == NULL)
		return real.gethostbyaddr_r(addr, addr_size, family, host, buf, size,
					    found, error);
	cancel_enter_libc(t);
	int r =
	    real.gethostbyaddr_r(addr, addr_size, family, host, buf, size, found, error);
	cancel_leave_libc(t);
	return r;
}
