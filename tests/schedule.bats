#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# schedule.bats: what belongs to one thread: its priority, CPUs and CPU time, its credentials
# and namespaces; threads that are bound, and PGREEN_NATIVE.

load helpers

setup_file() {
	build_prog schedule -rdynamic
}

setup() {
	# The programs begin at nice value 0.
	(($(nice) == 0)) || renice -n 0 -p $BASHPID >/dev/null 2>&1 || skip "the nice value is $(nice)"
	export PGREEN_TEST_LIMIT=40
}

# everywhere CASE: natively; green at several GOMAXPROCS; and with preemption and hand-off at
# every chance, and with all threads bound.
everywhere() {
	local prog=$BATS_FILE_TMPDIR/schedule status=0
	echo "natively:"
	native "$prog" "$@" || status=$?
	[[ $status != 77 ]] || skip 'the machine does not allow it'
	[[ $status == 0 ]]
	at_procs 1 2 8 -- green "$prog" "$@"
	PGREEN_SHAKE=preempt,handoff at_procs 1 2 -- green "$prog" "$@"
	echo "all bound:"
	PGREEN_NATIVE='*' at_procs 1 2 -- green "$prog" "$@"
}

@test "a thread sets its policy and priority, the kernel obeys, and its threads inherit" {
	everywhere policy-own
}

@test "it sets those of another that sleeps or computes" {
	everywhere policy-other
}

@test "explicit attributes give a new thread its policy" {
	everywhere policy-attr
}

@test "who has the highest priority gets the mutex first" {
	everywhere policy-order
}

@test "without the right to, each of these is refused with native's error" {
	everywhere policy-refused
}

@test "nice values are each thread's own" {
	everywhere nice
}

@test "a thread that is pinned, by itself, another or attributes, runs on its CPU alone" {
	everywhere cpus
}

@test "who is pinned pins a thread that it has just created, and not itself" {
	everywhere newborns
}

@test "one that is asked for something before it has begun begins all the same" {
	everywhere asked-early
}

@test "a fork's child sets its policy, whoever is asking for what in the parent" {
	everywhere fork-while-asked
}

@test "CPU time is what the thread used, not what its kernel thread did, nor its waits" {
	everywhere cpu-time
}

@test "a thread's CPU time never goes back" {
	everywhere cpu-forward
}

@test "each of many threads, one after another, has a CPU clock of its own" {
	everywhere cpu-clocks
}

@test "namespaces, ids and options of one thread are nobody else's, but its threads'" {
	everywhere apart
}

@test "threads may be bound in the middle of a conversation" {
	everywhere together
}

@test "and in a signal handler that interrupted them anywhere" {
	everywhere in-handler
}

@test "kernel threads and stacks of bound threads come and go" {
	everywhere many-end
}

@test "PGREEN_NATIVE binds by start routine, file and thread name" {
	requires_green 'natively all are'
	local -x GOMAXPROCS=2
	run -0 --separate-stderr green "$BATS_FILE_TMPDIR/schedule" named
	assert_output '- -'
	PGREEN_NATIVE='x,named_rout*' run -0 --separate-stderr green "$BATS_FILE_TMPDIR/schedule" named
	assert_output 'routine -'
	PGREEN_NATIVE='special-?' run -0 --separate-stderr green "$BATS_FILE_TMPDIR/schedule" named
	assert_output '- thread'
	PGREEN_NATIVE='sched*le' run -0 --separate-stderr green "$BATS_FILE_TMPDIR/schedule" named
	assert_output 'routine thread'
}

@test "who has ended and is not joined yet has no clock, policy or name" {
	everywhere ended
}
