#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# random.bats: some programs of tests/random/run.  The same ones each time; `make random` is
# for others.

load helpers

setup_file() {
	# The runner takes the program from a build directory, and keeps there what it finds.
	mkdir -p "$BATS_FILE_TMPDIR/progs"
	build_prog random -Wl,--no-as-needed -lm
	mv "$BATS_FILE_TMPDIR/random" "$BATS_FILE_TMPDIR/progs/"
}

random() {
	has_library
	B=$BATS_FILE_TMPDIR PGREEN_LIB=$PGREEN_LIB "$BATS_TEST_DIRNAME/random/run" "$@"
}

@test "programs drawn from seeds end green as they do natively" {
	random -s 1 -n 20
}

@test "so they do when each is preempted, handed off and refused at every chance" {
	requires_green 'there is nothing to shake'
	random -s 101 -n 6 -p 1 -k preempt,handoff,io
	random -s 107 -n 6 -p 2 -k preempt,handoff,io
}
