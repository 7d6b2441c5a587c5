#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# rest.bats: when all threads have ended the process has one kernel thread again, as natively.

load helpers

setup_file() {
	build_prog rest
}

everywhere() {
	local prog=$BATS_FILE_TMPDIR/rest
	echo "natively:"
	native "$prog" "$@"
	at_procs 1 2 8 -- green "$prog" "$@"
	PGREEN_SHAKE=rest at_procs 1 2 -- green "$prog" "$@"
	PGREEN_SHAKE=preempt,handoff,io,rest at_procs 2 -- green "$prog" "$@"
}

@test "one kernel thread, threads again, and so on" {
	everywhere again
}

@test "while main computes" {
	everywhere computes
}

@test "while main waits, for descriptors, signals and time" {
	everywhere waits
}

@test "main keeps its mask, pending signals, signal stack, name and CPU clock" {
	everywhere state
}

@test "handlers run on main's stack, or on its alternate one, as they were installed" {
	everywhere stacks
}

@test "what main changes meanwhile its next threads inherit" {
	everywhere inherited
}

@test "a namespace for processes with one thread" {
	everywhere namespace
}

@test "a handler that interrupts main creates a thread" {
	everywhere handler
}

@test "the threads of a timer come and go meanwhile" {
	everywhere timers
}

@test "its children have threads, and so has it" {
	everywhere forks
}
