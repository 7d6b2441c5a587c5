#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# io.bats: calls that wait for descriptors or in the kernel: what they return, when,
# and what ends them, natively and green.

load helpers

setup_file() {
	build_prog interrupted
	build_prog pollers
	build_prog waits
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

@test "a signal ends or restarts read and readv, as SA_RESTART says" {
	everywhere interrupted read
}

@test "a signal ends or restarts write" {
	everywhere interrupted write
}

@test "a signal ends or restarts recv and recvmsg" {
	everywhere interrupted recv
}

@test "a signal ends or restarts accept" {
	everywhere interrupted accept
}

@test "a signal ends or restarts open of a FIFO" {
	everywhere interrupted open
}

@test "a signal ends or restarts flock" {
	everywhere interrupted flock
}

@test "a signal ends or restarts fcntl's wait for a record lock" {
	everywhere interrupted fcntl
}

@test "a signal ends or restarts waitpid and waitid" {
	everywhere interrupted wait
}

@test "a signal ends or restarts mq_receive" {
	[[ -d /dev/mqueue || -e /proc/sys/fs/mqueue ]] || skip "the kernel has no message queues"
	everywhere interrupted mq_receive
}

@test "a signal ends poll, SA_RESTART or not" {
	everywhere interrupted poll
}

@test "a signal ends select, SA_RESTART or not" {
	everywhere interrupted select
}

@test "a signal ends epoll_wait, SA_RESTART or not" {
	everywhere interrupted epoll_wait
}

@test "a signal ends semop and semtimedop, SA_RESTART or not" {
	everywhere interrupted semop
}

@test "a signal ends msgrcv, SA_RESTART or not" {
	everywhere interrupted msgrcv
}

@test "a signal ends sigwaitinfo, SA_RESTART or not" {
	everywhere interrupted sigwaitinfo
}

@test "a signal ends pause, SA_RESTART or not" {
	everywhere interrupted pause
}

@test "poll waits as long as it should and no longer" {
	everywhere pollers poll
}

@test "ppoll waits as long as it should and no longer" {
	everywhere pollers ppoll
}

@test "select waits as long as it should and no longer" {
	everywhere pollers select
}

@test "pselect waits as long as it should and no longer" {
	everywhere pollers pselect
}

@test "epoll_wait and epoll_pwait wait as long as they should and no longer" {
	everywhere pollers epoll
}

@test "poll and select without descriptors are sleeps" {
	everywhere pollers sleep
}

@test "poll, select and epoll_wait refuse what the kernel refuses" {
	everywhere pollers errors
}

@test "ppoll, pselect and epoll_pwait open their mask to signals, and only theirs" {
	everywhere pollers masks
}

@test "sixty threads in read, one in poll over all of them" {
	everywhere pollers many
}

@test "signals of another process end what main waits in" {
	everywhere interrupted main
}

@test "the same in a forked child, whose main owns its kernel thread" {
	everywhere interrupted main in-child
}

@test "every call that waits: fifty threads at a time, on hardly more kernel threads than processors" {
	everywhere waits many
}

@test "every call that waits: a cancel ends it where that is a cancellation point, and only there" {
	everywhere waits cancel
}

@test "every call that waits: a signal ends or restarts it, as SA_RESTART says" {
	everywhere waits signal
}

@test "every call that waits: with O_NONBLOCK it does not" {
	everywhere waits nonblock
}

@test "every call that waits: a socket's timeout ends it" {
	everywhere waits timeout
}

@test "every call that waits: closing its descriptor ends it" {
	everywhere waits close
}

@test "every call that waits, with a fault injector: nothing is lost, nothing hangs" {
	requires_green "the injector is the library's"
	local how
	export PGREEN_SHAKE=io
	for how in many cancel signal nonblock timeout close; do
		echo "$how"
		at_procs 1 2 8 -- green "$BATS_FILE_TMPDIR/waits" "$how"
	done
}
