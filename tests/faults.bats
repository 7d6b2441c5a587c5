#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# faults.bats: threads that fault and go on.

setup_file() {
	load helpers
	build_prog jump
	build_prog overflow
}

setup() {
	load helpers
}

# native, then green at each number of processors, quiet and shaken
everywhere() {
	native "$BATS_FILE_TMPDIR/$1"
	at_procs 1 2 8 -- green "$BATS_FILE_TMPDIR/$1"
	PGREEN_SHAKE=preempt,handoff at_procs 1 2 8 -- green "$BATS_FILE_TMPDIR/$1"
}

@test "a thread recovers from a fault by siglongjmp, time and again, its mask put back" {
	everywhere jump
}

@test "a full stack is caught on the thread's own alternate stack" {
	everywhere overflow
}
