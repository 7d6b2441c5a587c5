#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# posix.bats: conformance, written from POSIX's text: what it says of the functions
# shall hold natively, and green.

load helpers

setup_file() {
	build_prog posix-cancel
	build_prog posix-sync
	build_prog posix-threads
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

@test "also in waits that are no cancellation points" {
	everywhere posix-cancel async-waits
}

@test "whoever leaves the wait for a condition otherwise has its mutex" {
	everywhere posix-cancel cond
}

@test "who is cancelled there and waits for its mutex uses no CPU" {
	everywhere posix-cancel cond-held
}

@test "cleanup handlers run in reverse order, then the keys' destructors" {
	everywhere posix-cancel order
}

@test "also those that main registered before the first thread" {
	everywhere posix-cancel order-of-main
	everywhere posix-cancel type-of-main
}

@test "a cancel acts once, and not on what has ended" {
	everywhere posix-cancel end
}

@test "what a cancel interrupted leaves no trace in the clean-up, nor in the next thread" {
	everywhere posix-cancel traces
}

@test "a pending cancel does not act where there is no cancellation point" {
	everywhere posix-cancel no-points
}

@test "a cancelled join leaves its target joinable" {
	everywhere posix-cancel join
}

@test "many threads are cancelled, wherever they are" {
	everywhere posix-cancel many
}

@test "a cancel ends a read though what it reads is closed at once" {
	everywhere posix-cancel closed
}

@test "mutexes: each type's rules" {
	everywhere posix-sync types
}

@test "a handler runs while its thread waits for a mutex" {
	everywhere posix-sync mutex-signal
}

@test "robust mutexes" {
	everywhere posix-sync robust
}

@test "condition variables" {
	everywhere posix-sync cond
}

@test "a condition is destroyed as soon as all have been woken" {
	everywhere posix-sync cond-destroy
}

@test "read-write locks" {
	everywhere posix-sync rwlock
}

@test "barriers" {
	everywhere posix-sync barrier
}

@test "pthread_kill" {
	everywhere posix-threads kill
}

@test "abort ends the process, whatever is done with SIGABRT" {
	everywhere posix-threads abort
}

@test "sigwait and its kin" {
	everywhere posix-threads sigwait
}

@test "fork: what the child has, and pthread_atfork" {
	everywhere posix-threads fork
}

@test "thread-specific data" {
	everywhere posix-threads keys
}
