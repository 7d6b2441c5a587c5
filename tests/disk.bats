#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# disk.bats: reads of files that are not in memory.  With PGREEN_SHAKE=io every
# read at an offset goes to io_uring, whatever is in memory.

load helpers

setup_file() {
	build_prog disk
}

setup() {
	export PGREEN_TEST_LIMIT=60
	cd "$BATS_TEST_TMPDIR" || return
}

everywhere() {
	local prog=$BATS_FILE_TMPDIR/disk
	echo "native:"
	native "$prog" "$@"
	at_procs 1 2 8 -- green "$prog" "$@"
	PGREEN_SHAKE=io at_procs 1 2 8 -- green "$prog" "$@"
}

@test "many threads read a file whose pages are not in memory" {
	everywhere many-readers
}

@test "a file ends where it ends, and errors are the kernel's" {
	everywhere ends
}

@test "a signal ends no read of a file" {
	everywhere signals
}

@test "parent and child read at once" {
	everywhere forks
}
