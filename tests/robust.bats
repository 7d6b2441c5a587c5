#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# robust.bats: mutexes that know their owner's end, lend priority or have a ceiling, and
# objects that a green and a native process share, or two green ones.

load helpers

setup_file() {
	build_prog robust
}

setup() {
	export PGREEN_TEST_LIMIT=40 TMPDIR=$BATS_TEST_TMPDIR
}

# greenly CASE: green at several GOMAXPROCS; with preemption and hand-off at every chance;
# and with all threads bound.
greenly() {
	local prog=$BATS_FILE_TMPDIR/robust
	at_procs 1 2 8 -- green "$prog" "$@"
	PGREEN_SHAKE=preempt,handoff at_procs 1 2 -- green "$prog" "$@"
	echo "all bound:"
	PGREEN_NATIVE='*' at_procs 2 -- green "$prog" "$@"
}

everywhere() {
	echo "natively:"
	native "$BATS_FILE_TMPDIR/robust" "$@"
	greenly "$@"
}

@test "every type, protocol and sharing has native's error rules" {
	at_procs 1 2 8 -- same "$BATS_FILE_TMPDIR/robust" rules
	PGREEN_NATIVE='*' at_procs 2 -- same "$BATS_FILE_TMPDIR/robust" rules
}

@test "so have waits for a condition with it, if it is not held, or held twice" {
	at_procs 1 2 8 -- same "$BATS_FILE_TMPDIR/robust" wait-rules
	PGREEN_NATIVE='*' at_procs 2 -- same "$BATS_FILE_TMPDIR/robust" wait-rules
}

@test "a mutex with a ceiling raises the kernel thread's priority, and refuses as natively" {
	native "$BATS_FILE_TMPDIR/robust" ceilings >/dev/null || skip 'no real-time threads here'
	at_procs 1 2 8 -- same "$BATS_FILE_TMPDIR/robust" ceilings
}

@test "whoever takes a robust mutex learns that its owner has ended, in whatever way" {
	everywhere owner-ends
}

@test "of twenty that wait, one learns it, and the others that the mutex is lost" {
	requires_green 'glibc may lose a wake there'
	greenly waiters
}

@test "owners end in the middle of a crowd, and nothing is lost" {
	everywhere contended
}

@test "pthread_cond_wait says it too" {
	everywhere conditions
}

@test "a handler may wait that interrupts a wait with a mutex of a kernel thread's" {
	everywhere handlers
}

@test "a wait with a robust mutex is cancelled with the mutex held" {
	everywhere cancels
}

@test "a robust mutex held since before the first thread is still held, and given up" {
	everywhere before-threads
}

@test "who waits since before there were threads for a robust mutex gets it" {
	everywhere elders
}

@test "a process-shared condition goes with a mutex of any kind that is not shared" {
	everywhere shared-condition
}

# in_pairs CASE: the program and its peer, each native and green.
in_pairs() {
	local prog=$BATS_FILE_TMPDIR/robust
	echo "both native:"
	PEER_PRELOAD='' native "$prog" "$@"
	echo "native, the peer green:"
	PEER_PRELOAD=$PGREEN_LIB at_procs 1 2 -- native "$prog" "$@"
	echo "green, the peer native:"
	PEER_PRELOAD='' at_procs 1 2 -- green "$prog" "$@"
	echo "both green:"
	PEER_PRELOAD=$PGREEN_LIB at_procs 1 2 8 -- green "$prog" "$@"
}

@test "two processes share mutexes, conditions, semaphores, barriers and read-write locks" {
	in_pairs pair
}

@test "a process that is killed or ends gives its robust mutexes to the other" {
	in_pairs process-ends
}
