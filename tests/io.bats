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
	build_prog streams
	build_prog terminal
	build_prog connect
	build_prog closing
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

@test "a signal ends or restarts what waits inside libc: streams, aio_suspend" {
	everywhere interrupted libc
}

@test "and nothing ends it when nobody sends a signal" {
	everywhere interrupted undisturbed
	PGREEN_SHAKE=preempt,handoff at_procs 1 2 8 -- green "$BATS_FILE_TMPDIR/interrupted" undisturbed
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

@test "a signal that the mask of a wait lets in ends it, whenever it comes" {
	everywhere interrupted masks
}

@test "a signal fails no call for a file" {
	cd "$BATS_TEST_TMPDIR"
	everywhere interrupted files
}

@test "without a signal of the program's nothing comes in part" {
	cd "$BATS_TEST_TMPDIR"
	everywhere interrupted whole
}

@test "a signal ends or restarts waitpid and waitid" {
	everywhere interrupted wait
}

@test "a signal ends or restarts mq_receive and mq_timedreceive, which end in time" {
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

@test "poll and select wait for what they were called with, whatever becomes of the memory" {
	everywhere_shaken pollers changed
}

@test "a signal ends poll, select and epoll_wait when the data that woke them is gone" {
	everywhere_shaken pollers overtaken
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

# everywhere_shaken PROG CASE: and green with the fault injector.
everywhere_shaken() {
	everywhere "$@"
	[[ -n $PGREEN_LIB ]] || return 0
	echo "with a fault injector:"
	PGREEN_SHAKE=io at_procs 1 2 8 -- green "$BATS_FILE_TMPDIR/$1" "$2"
}

@test "a write to a pipe, a FIFO or a stream is whole, however slowly it is read" {
	everywhere_shaken streams whole
}

@test "a job in the background that reads its terminal is stopped until it may" {
	everywhere terminal reader
}

@test "one that writes too, where the terminal says so" {
	everywhere terminal writer
}

@test "one that ignores or blocks that gets EIO" {
	everywhere terminal deaf
}

@test "vectors go whole, in whichever buffer they had to wait" {
	everywhere_shaken streams vectors
}

@test "writes of PIPE_BUF bytes are atomic" {
	everywhere_shaken streams atomic
}

@test "a write that is interrupted, timed out or broken off tells how far it came" {
	everywhere_shaken streams partial
}

@test "SIGPIPE and SIGXFSZ come to the thread that wrote, at once, and only there" {
	everywhere_shaken streams raises
}

@test "and when a handler runs about the time of the write" {
	everywhere streams raises-under-handlers
}

@test "MSG_WAITALL waits for all, but for the end, a handler or a timeout" {
	everywhere_shaken streams waitall
}

@test "MSG_PEEK, MSG_TRUNC, MSG_DONTWAIT, MSG_OOB, empty datagrams, and errors" {
	everywhere_shaken streams flags
}

@test "O_NONBLOCK set by another number or process: who waits goes on, who comes does not wait" {
	everywhere_shaken streams nonblock
}

@test "what was there before a read is its answer, also after many that had to wait" {
	everywhere_shaken streams expectations
}

@test "SO_RCVLOWAT is obeyed" {
	everywhere_shaken streams low-mark
}

@test "a file known by several numbers" {
	everywhere_shaken streams dup
}

@test "a descriptor that was passed over a Unix socket" {
	everywhere_shaken streams passed
}

@test "sendfile sends all, however slowly it is read" {
	everywhere_shaken streams sendfile
}

@test "recvmmsg waits for all, one, or a while; sendmmsg sends all" {
	everywhere_shaken streams messages
}

@test "a socket that can be written, says poll, and still has to wait" {
	everywhere_shaken streams full-queue
}

@test "terminals: a line, so many bytes, or so much time" {
	everywhere_shaken streams terminal
}

@test "connect: a connection that comes late" {
	everywhere_shaken connect late
}

@test "connect: ECONNREFUSED, at once and after a wait" {
	everywhere_shaken connect refused
}

@test "connect: interrupted it goes on by itself, with SA_RESTART it does not end" {
	everywhere_shaken connect interrupted
}

@test "connect: cancelled" {
	everywhere_shaken connect cancelled
}

@test "connect: EINPROGRESS after SO_SNDTIMEO, EALREADY after that" {
	everywhere_shaken connect timeout
}

@test "connect: fifty wait on hardly more kernel threads than processors" {
	everywhere_shaken connect many
}

@test "connect: Unix sockets wait for the listener's queue" {
	everywhere_shaken connect unix
}

@test "a listener shared by tasks and preforked processes: no connection waits" {
	everywhere_shaken connect shared
}

@test "a listener with fifty that wait" {
	everywhere_shaken connect herd
}

@test "a listener with O_NONBLOCK, and without again" {
	everywhere_shaken connect nonblock
}

@test "descriptor numbers that are used again, also behind the library's back" {
	everywhere_shaken closing reused
}

@test "who reads what is closed and opened again gets nobody else's bytes" {
	everywhere_shaken closing churned
}

@test "the library's own descriptors cannot be closed or replaced" {
	everywhere_shaken closing ours
}

@test "who polls what a thread with a kernel thread of its own closes goes on" {
	everywhere closing bound
}

@test "close and dup2 that fail end nobody's wait" {
	everywhere_shaken closing errors
}

@test "what is closed is closed at once, whatever the library looks at" {
	everywhere closing at-once
}

@test "poll: hang-ups alone, several at one descriptor, hundreds" {
	everywhere_shaken closing polls
}

@test "select: exceptions, hundreds" {
	everywhere_shaken closing selects
}

@test "popen and pclose" {
	everywhere_shaken closing shells
}

@test "getaddrinfo and its kin" {
	everywhere_shaken closing names
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
