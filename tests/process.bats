#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# process.bats: fork, exec, spawn, wait and ids from threads, natively and green.

load helpers

setup_file() {
	build_prog processes
	build_prog setids
	build_prog libc-threads -lrt
	build_prog popen
	"${CC:-cc}" -std=gnu11 -D_GNU_SOURCE -fPIC -shared -DLIBRARY \
		-o "$BATS_FILE_TMPDIR/liblate.so" "$BATS_TEST_DIRNAME/progs/late-fork.c"
	build_prog late-fork -Wl,--no-as-needed "$BATS_FILE_TMPDIR/liblate.so"
}

setup() {
	export PGREEN_TEST_LIMIT=40
}

# everywhere PROG CASE: native, and green at several GOMAXPROCS.
everywhere() {
	local prog=$BATS_FILE_TMPDIR/$1
	shift
	echo "native:"
	native "$prog" "$@"
	at_procs 1 2 8 -- green "$prog" "$@"
}

@test "a thread's fork: the child has it alone, and may use threads again" {
	everywhere processes fork
}

@test "children of threads of children of threads" {
	everywhere processes generations
}

@test "threads fork while others allocate and sleep" {
	everywhere processes crowd
}

@test "pthread_atfork's handlers run in order, and the child's may wait" {
	everywhere processes atfork
}

@test "the child holds the mutex that the forking thread held" {
	everywhere processes held
}

@test "the child has the forking thread's signal mask" {
	everywhere processes fork-mask
}

@test "a child of a thread while another one is in exit()" {
	everywhere late-fork
}

@test "the child may load a library" {
	everywhere processes load
}

@test "vfork and exec; a real vfork before the first thread" {
	everywhere processes vfork
}

@test "exec from a thread, while others sleep and compute" {
	everywhere processes exec
}

@test "exec keeps what is pending and the thread's mask, by number too" {
	everywhere processes exec-pending
	everywhere processes exec-by-number
}

@test "every exec function passes arguments and environment on, or fails and goes on" {
	everywhere processes exec-ways
}

@test "a signal to the process may come in the middle of an exec" {
	everywhere processes exec-signalled
}

@test "a signal or cancel comes through while another thread's exec fails" {
	everywhere processes exec-fails
}

@test "posix_spawn gives the child the thread's mask, or the one asked for" {
	everywhere processes spawn
}

@test "system from six threads at once" {
	everywhere processes system
}

@test "a cancelled system kills its shell and waits for it" {
	everywhere processes system-cancel
}

@test "popen from four threads at once" {
	everywhere processes popen
}

@test "popen holds nothing that a fork must wait for" {
	everywhere popen fork
}

@test "popen is no cancellation point, and holds nothing after it" {
	everywhere popen cancelled
}

@test "popen's shell holds no older pipe open, nor one from before the first thread" {
	everywhere popen older
}

@test "what a child sent before it ended is handled when main's wait returns" {
	everywhere processes sent-before
}

@test "twenty threads each wait for a child of their own" {
	everywhere processes wait
}

requires_root() {
	((EUID == 0)) || skip "ids can be changed by root alone"
	# A user namespace may have no ids beside its root.
	[[ $(awk '{ n += $3 } END { print n }' /proc/self/uid_map) -gt 2000 ]] ||
		skip "this user namespace has too few ids"
}

@test "set*id and setgroups reach every kernel thread" {
	requires_root
	everywhere setids change
}

@test "a thread gives up root for the whole process" {
	requires_root
	everywhere setids drop
}

@test "set*id from four threads at once, while threads come and go" {
	requires_root
	everywhere setids crowd
}

@test "set*id reaches the threads that libc has for itself, and what they start" {
	requires_root
	everywhere setids notify
}

@test "set*id in a child forked by a thread, whose main owns its kernel thread" {
	requires_root
	everywhere setids change in-child
}

# The programs end with status 7.
libc_threads() {
	local -x GOMAXPROCS
	echo "natively:"
	run -7 native "$BATS_FILE_TMPDIR/libc-threads" "$1"
	for GOMAXPROCS in 1 2 8; do
		echo "at GOMAXPROCS=$GOMAXPROCS:"
		run -7 green "$BATS_FILE_TMPDIR/libc-threads" "$1"
	done
}

@test "libc's thread for timers outlives all of the program's" {
	libc_threads timer
}

@test "and the threads that its callbacks create" {
	libc_threads timer-with-threads
	libc_threads timer-at-rest
}

@test "but not those of a forked child" {
	libc_threads children
}

@test "the last of libc's threads ends the process" {
	libc_threads last-one
}

@test "one of libc's may be the first to create a thread" {
	libc_threads first-one
}
