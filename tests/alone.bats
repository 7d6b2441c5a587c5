#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# alone.bats: contexts, coroutines in threads, forks among thousands of threads, daemons.

load helpers

setup_file() {
	build_prog alone
	build_prog contexts -lm
}

# everywhere PROG CASE: native, and green at several GOMAXPROCS, shaken, and bound.
everywhere() {
	local prog=$BATS_FILE_TMPDIR/$1
	shift
	echo "natively:"
	native "$prog" "$@"
	at_procs 1 2 8 -- green "$prog" "$@"
	PGREEN_SHAKE=preempt,handoff at_procs 2 -- green "$prog" "$@"
	echo "all bound:"
	PGREEN_NATIVE='*' at_procs 2 -- green "$prog" "$@"
}

@test "threads switch among contexts of their own making, which sleep and are preempted" {
	everywhere alone coroutines
}

@test "a daemon forked by a thread has threads again" {
	everywhere alone daemons
}

@test "children of a process with 4000 threads have threads, and children with threads" {
	everywhere alone forks
}

@test "a context from before the first thread leaves the worker's mask alone" {
	everywhere contexts made-before
}

@test "a context from among threads is signalled as natively when they have ended" {
	everywhere contexts at-rest
}

@test "a context has its thread's mask" {
	everywhere contexts masks
}

@test "setcontext out of a handler" {
	everywhere contexts handlers
}

@test "a context has arguments, rounding, and an end" {
	everywhere contexts life
}
