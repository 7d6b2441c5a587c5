#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# alone.bats: coroutines in threads, forks among thousands of threads, daemons.

load helpers

setup_file() {
	build_prog alone
}

everywhere() {
	local prog=$BATS_FILE_TMPDIR/alone
	echo "natively:"
	native "$prog" "$@"
	at_procs 1 2 8 -- green "$prog" "$@"
	PGREEN_SHAKE=preempt,handoff at_procs 2 -- green "$prog" "$@"
	echo "all bound:"
	PGREEN_NATIVE='*' at_procs 2 -- green "$prog" "$@"
}

@test "threads switch among contexts of their own making, which sleep and are preempted" {
	everywhere coroutines
}

@test "a daemon forked by a thread has threads again" {
	everywhere daemons
}

@test "children of a process with 4000 threads have threads, and children with threads" {
	everywhere forks
}
