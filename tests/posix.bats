#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# posix.bats: conformance, written from POSIX's text: what it says of the functions
# shall hold natively, and green.

load helpers

setup_file() {
	build_prog posix-cancel
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

@test "a cancel ends every call that POSIX lists, while it blocks" {
	everywhere posix-cancel blocked
}

@test "and acts when the call is made, if it is pending" {
	everywhere posix-cancel pending
}

@test "a thread that only prints is cancelled" {
	everywhere posix-cancel stdio
}

@test "a cancel is held pending while it is disabled" {
	everywhere posix-cancel states
}

@test "an asynchronous cancel acts at any time" {
	everywhere posix-cancel async
}

@test "cleanup handlers run in reverse order, then the keys' destructors" {
	everywhere posix-cancel order
}

@test "a cancel acts once, and not on what has ended" {
	everywhere posix-cancel end
}

@test "a cancelled join leaves its target joinable" {
	everywhere posix-cancel join
}

@test "many threads are cancelled, wherever they are" {
	everywhere posix-cancel many
}
