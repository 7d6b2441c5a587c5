#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# signals.bats: masks, handlers, and signals to threads and to the process,
# natively and green.

load helpers

setup_file() {
	build_prog signals
}

setup() {
	export PGREEN_TEST_LIMIT=40
}

# everywhere CASE: native, and green at several GOMAXPROCS.
everywhere() {
	local prog=$BATS_FILE_TMPDIR/signals
	echo "native:"
	native "$prog" "$@"
	at_procs 1 2 8 -- green "$prog" "$@"
}

@test "every thread has a mask and pending signals of its own" {
	everywhere masks
}

@test "sa_mask, SA_NODEFER, SA_RESETHAND, and what is pending when it becomes ignored" {
	everywhere handlers
}

@test "sigaction tells what it was told, and refuses what it must" {
	everywhere actions
}

@test "a handler repairs a fault" {
	everywhere fault
}

@test "a handler sees the registers of what it interrupted, and may change them" {
	everywhere context
}

@test "a handler may change the mask of what it interrupted" {
	everywhere context-mask
}

@test "siglongjmp out of a handler puts the mask back" {
	everywhere jump
}

@test "siglongjmp without a mask leaves blocked what the handler's mask blocked" {
	everywhere jump-masked
}

@test "what a hundred threads with different masks block is blocked" {
	everywhere many-masks
}

@test "pthread_kill reaches threads parked on a condition, a semaphore, a mutex" {
	everywhere parked
}

@test "and one that a condition has just let go to wait for its mutex" {
	everywhere signalled
}

@test "after a handler a thread goes on waiting for its condition, and loses no signal" {
	everywhere resumed
}

@test "handlers of signals that wait for one another's end do not pile up on the stack" {
	everywhere again
}

@test "pthread_kill reaches threads that compute" {
	everywhere computing
}

@test "also one that was queued just then, and computes alone from then on" {
	everywhere computing-alone
}

@test "and when the queue of signals was full" {
	everywhere full-queue
}

@test "and does not fill that queue, however often one signal is sent" {
	everywhere no-pile
}

@test "pthread_kill, raise, kill and tgkill fail as they should" {
	everywhere errors
}

@test "tgkill finds a thread by its id" {
	everywhere tids
}

@test "one thread takes the process's signals by sigwait" {
	everywhere sigwait
}

@test "real-time signals queue with their values" {
	everywhere queue
}

@test "real-time signals are handled in the order in which they were sent" {
	everywhere in-order
}

@test "no real-time signal is lost that the sender was told is sent" {
	everywhere many-queued
}

@test "what is sent to threads as they end takes no room" {
	everywhere ended
}

@test "a timer's signal tells how often it has expired meanwhile" {
	everywhere overrun
}

@test "sigtimedwait: timeouts, and what is pending already" {
	everywhere timedwait
}

@test "sigtimedwait without a wait finds what is pending" {
	everywhere at-once
}

@test "what main waits for is main's, though other threads leave it open" {
	everywhere main-waits
}

@test "sigsuspend: what is pending already, and what comes later" {
	everywhere suspend
}

@test "sigsuspend ends by a handler that runs right before the wait" {
	everywhere suspend-alone
}

@test "sigpause, X/Open's and BSD's" {
	everywhere pause
}

@test "a signal to oneself is handled before the call returns" {
	everywhere self
}

@test "also where the kernel sends it: to a group, by a pidfd, by syscall()" {
	everywhere self-by-kernel
}

@test "a process signal is handled when all threads are parked" {
	everywhere all-parked
}

@test "a process signal that is pending is handled before who unblocks it goes on" {
	everywhere unblock
}

@test "who ends the process by a signal that another thread lets in does not come back" {
	everywhere last
}

@test "a process signal goes to main first, whichever thread sends it" {
	everywhere main-first
}

@test "a process signal goes to the one thread that does not block it" {
	everywhere one-open
}

@test "a fault's signal that another process sends is handled like any other" {
	everywhere sent-faults
}

@test "setitimer and alarm" {
	everywhere timer
}

@test "timers of CPU time tick for who computes" {
	everywhere ticks
}

@test "a timer's handler has run when the timer is disarmed" {
	everywhere disarm
}

@test "so it has when a timer of timer_create() is disarmed or deleted" {
	everywhere disarm-posix
}

@test "main's timers and children from before the first thread stay with it" {
	everywhere early-timers
}

@test "signals may come while the first thread is created" {
	everywhere first-thread
}

@test "SIGCHLD of twenty children" {
	everywhere children
}

@test "signals without a handler end the process, with the right status" {
	everywhere default
}

@test "a process is stopped and continued as a whole" {
	everywhere stop
}

@test "signal, sysv_signal, sigset, sighold, siginterrupt, sigblock" {
	everywhere old
}

@test "real-time signals to twelve threads, none lost, none astray" {
	everywhere storm
}

@test "a child that was forked while another thread sent a signal sends its own" {
	everywhere forked
}

@test "all of it again in a child forked by a thread" {
	local name
	for name in masks handlers actions context-mask parked computing sigwait queue timedwait \
		main-waits at-once suspend suspend-alone self all-parked one-open sent-faults timer children; do
		echo "$name"
		at_procs 2 -- green "$BATS_FILE_TMPDIR/signals" "$name" in-child
	done
}
