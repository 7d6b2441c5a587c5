#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# dump.bats: what `pgreen dump` shows of the programs in tests/progs/dump.c, and that it leaves
# them as they are.
#
# shellcheck disable=SC2016 # sed's and awk's own dollars

load helpers

setup_file() {
	export PGREEN
	PGREEN=$(cd "$BATS_TEST_DIRNAME/.." && realpath -m "${B:-build}/pgreen")
	# Frames as they are written, for gdb tells inlined functions too.
	build_prog dump -O1 -fno-inline -fno-optimize-sibling-calls -fno-ipa-sra -fno-ipa-cp
}

setup() {
	requires "$PGREEN"
	requires_green 'there are no tasks natively'
	cd "$BATS_TEST_DIRNAME/.." || return
	pid=
}

teardown() {
	stop
}

# begin HOW CASE [LIBRARY]: starts a program of progs/dump.c, green or native, and waits until
# it is ready.  Leaves its process id in pid; it lives until stop, or the end of what is
# written to descriptor $hold.
begin() {
	local fifos=$BATS_TEST_TMPDIR/fifos.$RANDOM line library=${3-$PGREEN_LIB}
	mkdir -p "$fifos"
	mkfifo "$fifos/in" "$fifos/out"
	[[ $1 == green ]] || library=
	LD_PRELOAD=$library "$BATS_FILE_TMPDIR/dump" "$2" \
		<"$fifos/in" >"$fifos/out" 2>"$BATS_TEST_TMPDIR/stderr" 3>&- &
	pid=$!
	exec {hold}>"$fifos/in" {from}<"$fifos/out"
	read -r -t 20 line <&"$from"
	[[ $line == ready ]] || fail "$2 is not ready: $(cat "$BATS_TEST_TMPDIR/stderr")"
}

# stop: ends the program that begin started, if it has not ended.
stop() {
	[[ ! $pid ]] || { kill "$pid" && wait "$pid"; } 2>/dev/null || :
	pid=
}

# dump [OPTION...]: leaves the dump of the program in output, and its status.
dump() {
	run timeout 60 "$PGREEN" dump "$@" "$pid"
}

# dump_until N WORDS [OPTION...]: dumps until N tasks are as WORDS say: a task that has been
# started need not have come to its wait.
dump_until() {
	local end=$((SECONDS + 30)) n=$1 words=$2
	shift 2
	until dump "$@" && [[ $(grep -cE "^  [0-9]+ \"[^\"]*\", .*: $words" <<<"$output") == "$n" ]]; do
		((SECONDS < end)) || fail "never $n of $words: $output" || return
		sleep 0.05
	done
}

# task NAME: the line of the task that is called so, and the backtrace that goes with it.
task() {
	awk -v name="\"$1\"," '
	/^$/ { if (found) exit; line = "" }
	index($0, name) && /^  [0-9]/ { found = 1; line = $0 }
	/^    #/ && found { if (line != "") print line; line = ""; print }
	' <<<"$output"
}

# shows NAME PATTERN FRAME...: the task's line matches, and its backtrace begins with calls of
# these.
shows() {
	local name=$1 pattern=$2 got frame i=0
	shift 2
	got=$(task "$name")
	[[ $(head -n 1 <<<"$got") =~ $pattern ]] || fail "$name does not match $pattern: $got" || return
	for frame; do
		grep -qE "^    #$i +($frame)(\+0x[0-9a-f]+ \(|$)" <<<"$got" ||
			fail "$name's frame $i is not $frame: $got" || return
		i=$((i + 1))
	done
}

# ---- deadlocks ----------------------------------------------------------------

circle() {
	local id='[0-9]+' at='0x[0-9a-f]+'
	begin green circle
	dump_until 4 'waits for mutex'
	assert_equal "$status" 1
	assert_line '3 tasks: wait for a mutex'
	assert_line --regexp "^DEADLOCK: 3 tasks wait for each other$"
	assert_line --regexp "^  $id \"first\" waits for mutex $at \(lock_b\), held by $id \"second\"$"
	assert_line --regexp "^  $id \"second\" waits for mutex $at \(lock_c\), held by $id \"third\"$"
	assert_line --regexp "^  $id \"third\" waits for mutex $at \(lock_a\), held by $id \"first\"$"
	assert_line '  2 more wait for them'
	shows first "started at lock_both: waits for mutex $at \(lock_b\), held by $id \"second\"; for [0-9]" \
		pthread_mutex_lock take_other lock_both
	shows follower 'held by [0-9]+ "first"' pthread_mutex_lock follow
	shows dump "^  $pid .*, main: waits for the end of $id \"first\"" pthread_join join circle
	stop
}

@test "three tasks that lock in a circle are named, with the locks and who holds them" {
	at_procs 1 2 8 -- circle
}

other_circles() {
	begin green joined
	dump_until 1 'waits for read-write lock'
	assert_equal "$status" 1
	assert_line 'DEADLOCK: 2 tasks wait for each other'
	assert_line --regexp "^  $pid \"dump\" waits for the end of [0-9]+ \"reader\"$"
	assert_line --regexp "^  [0-9]+ \"reader\" waits for read-write lock 0x[0-9a-f]+ \(rwlock\), held by $pid \"dump\"$"
	stop
	begin green alone
	dump_until 1 'waits for mutex'
	assert_equal "$status" 1
	assert_line 'DEADLOCK: a task waits for itself'
	assert_line --regexp '^  [0-9]+ "twice" waits for mutex 0x[0-9a-f]+ \(lock_a\), held by itself$'
	stop
}

@test "a deadlock may be of a join and a read-write lock, or of one task alone" {
	at_procs 1 2 8 -- other_circles
}

@test "a mutex whose owner has ended is no deadlock, and is said" {
	begin green orphan
	dump_until 1 'waits for mutex'
	assert_equal "$status" 0
	refute_output --partial DEADLOCK
	shows heir 'waits for mutex 0x[0-9a-f]+ \(lock_a\), held by [0-9]+, which has ended'
}

never_deadlocked() {
	local i
	begin green turns
	for ((i = 0; i < 50; i++)); do
		dump
		assert_equal "$status" 0
		stacks_are_sound
	done
	stop
}

# Where the FSGSBASE instructions are missing a switch spends most of its time in a system call.
@test "wherever it is met, a switch says that its frame has what it saved" {
	requires_green 'the switch is the library'"'"'s'
	local at
	at=$(nm "$PGREEN_LIB" | awk '$3 == "switch_to" { print $1 }')
	output=$(readelf -wF "$PGREEN_LIB" 2>/dev/null | awk -v "at=$at" '
		/ FDE / { is_it = index($0, "pc=" at ".") }
		is_it && $2 == "rsp+64" { $1 = ""; seen[$0] = 1 }
		END { for (row in seen) print row }')
	assert_output ' rsp+64 c-24 c-16 c-32 c-40 c-48 c-56 c-8'
}

@test "tasks that wait for each other in turns are never taken for a deadlock" {
	at_procs 1 2 8 -- never_deadlocked
}

@test "that nobody can go on is said, where it is no deadlock" {
	begin green asleep
	dump_until 1 'waits for condition'
	dump_until 1 'waits for the end'
	assert_equal "$status" 0
	assert_line --partial 'Every task waits for another one'
	refute_output --partial DEADLOCK
	stop
	begin green orphan
	dump_until 1 'waits for mutex'
	refute_output --partial 'Every task waits' # main sleeps
}

# ---- waits --------------------------------------------------------------------

waits() {
	local at='0x[0-9a-f]+' fd='descriptor [0-9]+'
	# Until all have come to their waits.
	begin green waits
	dump_until 5 'sleeps'
	dump_until 0 '(is runnable|runs)'
	assert_equal "$status" 0
	shows mutex "started at in_mutex: waits for mutex $at \(held\), held by $pid \"dump\"; for [0-9]" \
		pthread_mutex_lock in_mutex
	shows cond "waits for condition $at \(cond\), with mutex $at \(mutex\); for" \
		pthread_cond_wait in_cond
	shows timed-cond "waits for condition $at \(cond\), .*, at most 2 h 46 min longer; for" \
		pthread_cond_timedwait in_timed_cond
	shows rdlock "waits for read-write lock $at \(written_by_main\) to read, written by $pid \"dump\"; for" \
		pthread_rwlock_rdlock in_rdlock
	shows wrlock "waits for read-write lock $at \(read_by_main\) to write, read by 1 task; for" \
		pthread_rwlock_wrlock in_wrlock
	shows barrier "waits at barrier $at \(barrier\), 1 of 3 are there; for" \
		pthread_barrier_wait in_barrier
	shows sem "waits for semaphore $at \(semaphore\); for" sem_wait in_sem
	shows sleep "sleeps, 5 h 33 min more; for" sleep in_sleep
	shows join "waits for the end of [0-9]+ \"sleep\"; for" pthread_join join in_join
	shows futex "waits for futex $at \(word\); for" syscall in_futex
	shows sigwait "waits for signal 10; for" sigwait in_sigwait
	shows once "waits for pthread_once $at \(once\); for" pthread_once in_once
	shows read "(in the kernel: read of|waits for) $fd \(pipe:\[[0-9]+\]\).*; for" read in_read
	shows recv "(in the kernel: recv of|waits for) $fd \(Unix socket\).*; for" recv in_recv
	shows poll "$fd \(pipe:\[[0-9]+\]\) to be readable, or $fd \(Unix socket\) to be readable.*; for" \
		poll in_poll
	shows flock "in the kernel: fcntl of $fd \(/tmp/dump\..* \(deleted\)\), on kernel thread [0-9]+; for" \
		fcntl in_flock
	shows inline "in the kernel: read of $fd \(pipe:\[[0-9]+\]\), on kernel thread [0-9]+" \
		read_by_itself in_inline
	shows routine "sleeps" sleep sleep_for_ever run_once
	shows sem-handler "sleeps" sleep sleep_for_ever handle "<signal handler called>" sem_wait in_sem_handler
	shows loop-handler "sleeps" sleep sleep_for_ever handle "<signal handler called>" in_loop_handler
	assert_line --regexp "^  $pid sysmon, watches the others$"
	assert_line --regexp '^  [0-9]+ worker'
	refute_output --partial 'the rest is not known'
	stop
}

@test "each wait shows what it is on, until when, for how long, and its backtrace" {
	at_procs 1 2 8 -- waits
}

# program_frames: of gdb's or our backtraces those of the program's functions, a line for each
# stack, sorted.
program_frames() {
	awk '
	function flush() { if (line != "") print line; line = "" }
	/^Thread / || /^[0-9]+ tasks?:/ || /^Kernel/ { flush(); next }
	!/^ *#[0-9]+ / { next }
	/signal handler called/ { line = line " <signal>"; next }
	/ at [^ ]*(dump\.c|check\.h):[0-9]+$/ || /\(dump\)$/ {
		sub(/^ *#[0-9]+ +(0x[0-9a-f]+ in )?/, "")
		sub(/[+ ].*/, "")
		if ($0 != "_start") line = line " " $0
	}
	END { flush() }
	' | sort
}

gdb_frames() {
	begin native "$1"
	[[ $1 != waits ]] || sleep "$2"
	run timeout 60 gdb -nx -batch -p "$pid" -ex 'thread apply all backtrace'
	[[ $output != *'ptrace: Operation not permitted'* ]] || skip 'gdb may not attach here'
	program_frames <<<"$output" >"$BATS_TEST_TMPDIR/gdb"
	stop
}

dump_frames() {
	begin green "$1"
	dump_until "$2" "$3"
	[[ $1 != waits ]] || { sleep "$4" && dump_until "$2" "$3"; }
	# One for each task: equal ones are together.
	awk '/^[0-9]+ tasks?:/ { n = $1; block = "" } { block = block $0 "\n" }
		/^$/ { while (n-- > 0) printf "%s", block }' <<<"$output" |
		program_frames >"$BATS_TEST_TMPDIR/dump"
	stop
	assert [ -s "$BATS_TEST_TMPDIR/dump" ]
}

# same_as_gdb CASE TASKS STATE.  Natively nothing tells when all threads have come to where
# they wait: the longer they get, the surer it is, on a busy machine too.
same_as_gdb() {
	local pause

	requires gdb
	for pause in 0.2 1 5; do
		gdb_frames "$1" "$pause"
		dump_frames "$@" "$pause"
		run diff "$BATS_TEST_TMPDIR/gdb" "$BATS_TEST_TMPDIR/dump"
		((status != 0)) || return 0
	done
	fail "$output"
}

@test "the stacks are those that gdb shows of the same program run natively" {
	same_as_gdb circle 4 'waits for mutex'
	same_as_gdb waits 5 sleeps
}

@test "tasks with equal stacks stand together, and --brief shows one" {
	begin green sleepers
	dump_until 301 sleeps
	assert_line '300 tasks: sleep'
	assert_equal "$(grep -c '^    #0 ' <<<"$output")" 2
	dump --brief
	assert_line '300 tasks: sleep'
	assert_line '  and 299 more'
	assert_equal "$(grep -c 'sleeps,' <<<"$output")" 2
}

computes() {
	begin green computes
	dump_until 1 runs
	shows computing 'started at computing: runs, on kernel thread [0-9]+; for [0-9]' \
		compute_for_ever computing
	assert_line --regexp '^  [0-9]+ worker on processor [0-9], runs [0-9]+ "computing"$'
	stop
}

@test "a task that computes is seen at its computation" {
	at_procs 1 2 8 -- computes
}

@test "--all also shows the library's frames, and where a task lies" {
	begin green circle
	dump_until 4 'waits for mutex'
	refute_output --partial switch_first
	dump --all
	assert_output --partial 'switch_first'
	assert_line --regexp 'held by .*; for .*; struct task 0x[0-9a-f]+, park 1$'
}

# ---- whose threads --------------------------------------------------------------

@test "a thread that was adopted, and a forked child's main, are shown as what they are" {
	begin green adopted
	dump_until 1 'waits for mutex'
	assert_line --regexp '^  [0-9]+ "dump", a thread that was adopted: waits for mutex .*, held by [0-9]+ "dump", on kernel thread [0-9]+'
	assert_line --regexp '^    #1 +on_timer\+'
	assert_line --regexp '^    #[0-9]+ +clone3?\+'
	assert_line --regexp '^  [0-9]+ not started by the runtime; of the adopted task [0-9]+ "dump"$'
	assert_line --regexp "^  [0-9]+ not the runtime's \(.*\)$" # libc's, which waits for timers
	stop

	LD_PRELOAD=$PGREEN_LIB "$BATS_FILE_TMPDIR/dump" circle in-child >"$BATS_TEST_TMPDIR/out" 3>&- &
	local parent=$! end=$((SECONDS + 20))
	until [[ -s $BATS_TEST_TMPDIR/out ]]; do
		((SECONDS < end)) || fail 'the child is not ready'
		sleep 0.05
	done
	pid=$(pgrep -P "$parent")
	dump_until 4 'waits for mutex'
	assert_equal "$status" 1
	assert_line --regexp "^  $pid \"dump\", started at fork_and_run, bound: waits for the end of .*, on kernel thread $pid"
	assert_line --regexp "^  $pid bound, of $pid \"dump\"$"
	kill "$pid" "$parent"
	wait "$parent" 2>/dev/null || :
	pid=
}

@test "a process in another PID namespace is shown as well" {
	requires unshare
	[[ $(id -u) == 0 ]] || skip 'needs root to make a namespace'
	unshare --pid --fork true 2>/dev/null || skip 'no PID namespaces here'
	LD_PRELOAD=$PGREEN_LIB unshare --pid --fork "$BATS_FILE_TMPDIR/dump" circle \
		>"$BATS_TEST_TMPDIR/out" 3>&- &
	local parent=$! end=$((SECONDS + 20))
	until [[ -s $BATS_TEST_TMPDIR/out ]]; do
		((SECONDS < end)) || fail 'it is not ready'
		sleep 0.05
	done
	pid=$(pgrep -P "$parent")
	dump_until 4 'waits for mutex'
	assert_equal "$status" 1
	assert_line --regexp '^  1 "dump", main: waits for the end of'
	assert_line --regexp "^  $pid sysmon, watches the others$"
	assert_line --regexp '^  [0-9]+ worker'
	refute_line --partial "not the runtime's"
	kill -KILL "$pid"
	wait "$parent" 2>/dev/null || :
	pid=
}

@test "before its first thread a program's kernel thread is shown" {
	begin green no-thread
	dump
	assert_equal "$status" 0
	assert_line --index 0 "dump, process $pid: it has created no thread, so the runtime sleeps"
	assert_line --regexp "^kernel thread $pid: in the kernel: clock_nanosleep"
	assert_line --regexp '^    #[0-9]+ +no_thread\+0x'
}

@test "a library that is stripped, and deleted meanwhile, serves as well" {
	requires strip
	strip -o "$BATS_TEST_TMPDIR/stripped.so" "$PGREEN_LIB"
	begin green circle "$BATS_TEST_TMPDIR/stripped.so"
	rm "$BATS_TEST_TMPDIR/stripped.so"
	dump_until 4 'waits for mutex'
	assert_line 'DEADLOCK: 3 tasks wait for each other'
	shows first 'lock_b' pthread_mutex_lock take_other lock_both
}

# ---- refusals -----------------------------------------------------------------

# refuses LINE: the dump is one line, on stderr, with status 125.
refuses() {
	run --separate-stderr timeout 60 "${@:2}" "$PGREEN" dump "$pid"
	assert_equal "$status" 125
	assert_output ''
	[[ ${#stderr_lines[@]} == 1 && $stderr == "pgreen: process $pid "$1 ]] ||
		fail "said: $stderr"
}

@test "a process that does not run green, is gone, or is the kernel's, is refused in a line" {
	begin native no-thread
	refuses '(dump) does not run green: *'
	stop
	pid=4194304 # above any that there can be
	run -125 --separate-stderr "$PGREEN" dump "$pid"
	assert_equal "$stderr" "pgreen: process $pid: no such process"
	pid=
	run -125 --separate-stderr "$PGREEN" dump nobody
	assert_equal "$stderr" "pgreen: dump wants a process ID, not 'nobody'"
}

@test "a library of another version is refused in a line" {
	echo 'int pgreen_gomaxprocs(int n) { return n; }' >"$BATS_TEST_TMPDIR/old.c"
	"${CC:-cc}" -shared -fPIC -o "$BATS_TEST_TMPDIR/old.so" "$BATS_TEST_TMPDIR/old.c"
	begin green no-thread "$BATS_TEST_TMPDIR/old.so"
	refuses '(dump) has another version of the library, *old.so,*'
	stop
	# The real one with another number in the place of its own.
	local at
	at=$(grep -abo 'pgreen!' "$PGREEN_LIB" | cut -d : -f 1 | head -n 1)
	cp "$PGREEN_LIB" "$BATS_TEST_TMPDIR/new.so"
	printf '\377' | dd of="$BATS_TEST_TMPDIR/new.so" bs=1 seek=$((at + 8)) conv=notrunc status=none
	begin green no-thread "$BATS_TEST_TMPDIR/new.so"
	refuses '(dump) has another version of the library, *new.so,*'
}

@test "another user may not look" {
	requires setpriv
	[[ $(id -u) == 0 ]] || skip 'needs root to be another user'
	cp "$PGREEN" "$BATS_TEST_TMPDIR/pgreen"
	chmod 755 "$BATS_TEST_TMPDIR" "$BATS_TEST_TMPDIR/pgreen"
	begin green circle
	run --separate-stderr setpriv --reuid=65534 --regid=65534 --clear-groups \
		"$BATS_TEST_TMPDIR/pgreen" dump "$pid"
	[[ $status != 126 && $status != 127 ]] || skip 'the other user cannot run the launcher there'
	assert_equal "$status" 125
	assert_equal "$output" ''
	[[ $stderr == "pgreen: process $pid may not be looked into: only its user and root may"* ]]
}

# ---- nobody is disturbed --------------------------------------------------------

# stacks_are_sound: a stack ends with its tasks' start routine; or it is said why it does not:
# they were too fast, or had not begun, or waited for a page where the kernel stops nobody; or
# the routine has returned, and destructors of thread-locals are being run.
stacks_are_sound() {
	awk '
	function check() {
		if (start != "" && last != start && last != "__call_tls_dtors" && !excused) { print start ": " block; bad = 1 }
		start = last = block = ""
		excused = 0
	}
	/^[0-9]+ tasks?:/ || /^Kernel threads/ { check() }
	{ block = block "\n" $0 }
	/, started at [^:]*:/ { start = $0; sub(/.*, started at /, "", start); sub(/[:,].*/, "", start) }
	/^    \((the rest is not known: |it has not begun|it begins, or has ended)/ { excused = 1 }
	/^    #/ { last = $2; sub(/\+.*/, "", last) }
	END { exit bad }
	' <<<"$output" || fail "a stack ends elsewhere"
}

# looked_at_50_times CASE: its output, and its status, are as if nobody had looked.
looked_at_50_times() {
	local i line='' code=0
	begin green "$1"
	for ((i = 0; i < 50; i++)); do
		dump
		assert_equal "$status" 0
		assert_line --regexp "^dump, process $pid: [0-9]+ tasks? on "
		stacks_are_sound
	done
	exec {hold}>&-
	read -r -t 60 line <&"$from"
	wait "$pid" || code=$?
	pid=
	assert_equal "$code $line $(cat "$BATS_TEST_TMPDIR/stderr")" "0 $2 "
}

@test "a program does the same while it is looked at 50 times" {
	local result
	result=$("$BATS_FILE_TMPDIR/dump" busy </dev/null | tail -n 1)
	at_procs 1 2 8 -- looked_at_50_times busy "$result"
}

@test "a system call that a stop would end is left alone" {
	at_procs 8 -- looked_at_50_times unannounced 'done'
}

# ---- a real program -------------------------------------------------------------

# start_mariadb HOW: starts the server on a fresh port of its own socket.
start_mariadb() {
	local dir=$BATS_TEST_TMPDIR library=$PGREEN_LIB end=$((SECONDS + 60))
	[[ $1 == green ]] || library=
	LD_PRELOAD=$library mariadbd --no-defaults --user="$(id -un)" --datadir="$dir/data" \
		--socket="$dir/socket" --skip-networking --back-log=400 --max-connections=400 --thread-cache-size=0 \
		--skip-log-bin >"$dir/server.log" 2>&1 3>&- &
	pid=$!
	until mariadb-admin -uroot -S "$dir/socket" ping >/dev/null 2>&1; do
		((SECONDS < end)) || fail "the server does not start: $(tail -n 5 "$dir/server.log")"
		sleep 0.1
	done
}

# with_200_connections CMD...: runs CMD while 200 connections are in a query.
with_200_connections() {
	local end=$((SECONDS + 60)) slap
	mariadb-slap -uroot -S "$BATS_TEST_TMPDIR/socket" --concurrency=200 --iterations=1 \
		--number-of-queries=200 --create-schema=mysql --no-drop --query='select sleep(100)' >/dev/null 2>&1 3>&- &
	slap=$!
	until [[ $(mariadb -uroot -S "$BATS_TEST_TMPDIR/socket" -Ne \
		"select count(*) from information_schema.processlist where state = 'User sleep'") == 200 ]]; do
		((SECONDS < end)) || fail 'the connections do not come' || return
		sleep 0.1
	done
	"$@"
	kill "$slap" 2>/dev/null
	wait "$slap" 2>/dev/null || :
}

# sleeping_connections: how many threads sleep for a client; then their backtrace, from the
# condition variable out, by the functions whose names both know.
sleeping_connections() {
	awk '
	function flush() {
		if (stack ~ / Item_func_sleep::val_int .* handle_one_connection /) count[stack] += n
		stack = " "
	}
	/^Thread / || /^[0-9]+ tasks?:/ || /^Kernel/ { flush(); n = /^Thread/ ? 1 : $1; next }
	!/^ *#[0-9]+ / { next }
	{
		sub(/^ *#[0-9]+ +(0x[0-9a-f]+ in )?/, "")
		name = $0
		sub(/[+(@ ].*/, "", name)
		sub(/^_*pthread_cond_timedwait(64)?$/, "pthread_cond_timedwait", name)
	}
	name == "pthread_cond_timedwait" { stack = " " }
	name ~ /^(0x|\?|start_thread|clone)/ { next }
	{ stack = stack name " " }
	END { flush(); for (s in count) print count[s] s }
	'
}

@test "MariaDB's 200 connections have the stacks that gdb shows natively" {
	"$BATS_TEST_DIRNAME/deps.sh" mariadb-server >&2 || :
	requires mariadbd mariadb-install-db mariadb-slap mariadb-admin mariadb gdb
	mkdir "$BATS_TEST_TMPDIR/data"
	run -0 mariadb-install-db --no-defaults --user="$(id -un)" --datadir="$BATS_TEST_TMPDIR/data" \
		--auth-root-authentication-method=normal --skip-test-db
	start_mariadb native
	with_200_connections run timeout 120 gdb -nx -batch -p "$pid" -ex 'set width 0' \
		-ex 'thread apply all backtrace'
	[[ $output != *'ptrace: Operation not permitted'* ]] || skip 'gdb may not attach here'
	sleeping_connections <<<"$output" >"$BATS_TEST_TMPDIR/native"
	stop
	start_mariadb green
	with_200_connections dump
	sleeping_connections <<<"$output" >"$BATS_TEST_TMPDIR/green"
	stop
	assert_equal "$(cut -d ' ' -f 1 "$BATS_TEST_TMPDIR/green")" 200
	run -0 diff "$BATS_TEST_TMPDIR/native" "$BATS_TEST_TMPDIR/green"
}

@test "an interrupted task is seen from the first instruction of its frame on" {
	requires gdb
	local hold
	mkfifo "$BATS_TEST_TMPDIR/in"
	exec {hold}<>"$BATS_TEST_TMPDIR/in" # the program ends at the end of its input
	run timeout 60 gdb -q -batch -ex "set exec-wrapper env GOMAXPROCS=1 LD_PRELOAD=$PGREEN_LIB" \
		-ex 'handle SIG32 nostop noprint pass' -ex 'catch load libpgreen' -ex 'run busy' \
		-ex 'break *preempt_trampoline' -ex continue -ex 'backtrace 2' -ex kill \
		"$BATS_FILE_TMPDIR/dump" 3>&- <&"$hold"
	exec {hold}>&-
	# Most often it is of a computation.
	assert_line --regexp '^#1 +(0x[0-9a-f]+ in )?[a-z_]+ \(.*\) (at|from) '
}
