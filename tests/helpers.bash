# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# helpers.bash: the words that the bats files here are written in.
#
# A file begins with `load helpers`.  "Green" is under the preloaded library,
# "native" is the same program without it; both get the same environment, the
# same standing on signals and the same limit of time, so that whatever differs
# is the library's doing.
#
#   PGREEN_LIB         the library; build/libpgreen.so unless set.  Set but empty:
#                      green is native too, which tests the tests
#   PGREEN_TEST_LIMIT  seconds that one program may take (60)

bats_require_minimum_version 1.5.0
bats_load_library bats-support
bats_load_library bats-assert

pgreen_root=$(cd "$BATS_TEST_DIRNAME/.." && pwd)
: "${PGREEN_LIB=$(cd "$pgreen_root" && realpath -m "${B:-build}/libpgreen.so")}"

# green PROG...: runs PROG under the library.
green() {
	if [[ -z $PGREEN_LIB ]]; then
		native "$@"
	else
		has_library && native LD_PRELOAD="$PGREEN_LIB${LD_PRELOAD:+:$LD_PRELOAD}" "$@"
	fi
}

# has_library: ld.so would only warn of a missing one, and the program run natively.
has_library() {
	[[ -z $PGREEN_LIB || -r $PGREEN_LIB ]] || {
		echo "no library at $PGREEN_LIB" >&2
		return 1
	}
}

# native [VAR=VALUE...] PROG...: runs PROG.  A shell's background job ignores
# SIGINT and SIGQUIT, and so would all that it starts.
native() {
	bounded env --default-signal=INT,QUIT "$@"
}

# bounded CMD...: runs CMD for PGREEN_TEST_LIMIT seconds at most.  What hangs is
# described on stderr, killed with all its process group, and has status 124.
bounded() {
	local limit=${PGREEN_TEST_LIMIT:-60} program watchdog first group stderr status=0

	# timeout gives the program a process group, and ends it if we are killed.  A
	# subshell, which no signal ends: a job that died so and was told of, between any two
	# commands, is none that wait -n would wait for.
	(
		trap - DEBUG ERR EXIT
		exec {stderr}>&2 2>/dev/null # its words about the program would hold pids
		timeout -k 5 "$((limit + 10))" "$@" 2>&"$stderr" {stderr}>&- || exit
	) <&0 3>&- &
	program=$!
	sleep "$limit" >/dev/null 2>&1 3>&- &
	watchdog=$!
	wait -n -p first "$program" "$watchdog" 2>/dev/null || status=$?
	if [[ $first == "$watchdog" ]]; then
		echo "still running after $limit s: $*" >&2
		describe_tree "$program" >&2
		read -r group <"/proc/$program/task/$program/children" || :
		kill -KILL -- "-$group"
		wait "$program" 2>/dev/null
		return 124
	fi
	# SIGTERM would reach bash if sleep has not begun, which then runs bats's traps.
	{ kill -KILL "$watchdog" && wait "$watchdog"; } 2>/dev/null || return "$status"
}

# same [-i INPUT] [-f FILTER] PROG...: runs PROG native, then green, with stdin
# from the file INPUT (/dev/null), and fails with a diff unless status, stdout
# and stderr are the same once both outputs went through the command FILTER
# (cat).  Leaves the green run's $status and, of its filtered stdout, $output.
same() {
	local input=/dev/null filter=cat dir how stream

	has_library || return
	while [[ $1 == -[if] ]]; do
		[[ $1 == -i ]] && input=$2
		[[ $1 == -f ]] && filter=$2
		shift 2
	done
	dir=$(mktemp -d "$BATS_TEST_TMPDIR/same.XXXXXX")
	for how in native green; do
		status=0
		"$how" "$@" <"$input" >"$dir/stdout" 2>"$dir/stderr" || status=$?
		echo "$status" >"$dir/status.$how"
		for stream in stdout stderr; do
			"$filter" <"$dir/$stream" >"$dir/$stream.$how"
		done
	done
	# shellcheck disable=SC2034 # for the caller, as after run
	output=$(head -c 64K "$dir/stdout.green" | tr -d '\0')
	for stream in status stdout stderr; do
		same_file "$stream of $*" "$dir/$stream".{native,green} || return
	done
}

# same_file WHAT NATIVE GREEN: fails with a diff unless the two files are equal.
same_file() {
	cmp -s "$2" "$3" && return
	{
		echo "$1"
		diff -u --label native --label green "$2" "$3" | head -n 60
	} | batslib_decorate 'native and green differ' | fail
}

# requires WHAT...: skips the test unless each WHAT, a command or a path, is there.
requires() {
	local what
	for what in "$@"; do
		if [[ $what == */* ]]; then
			[[ -e $what ]] || skip "no $what here"
		else
			command -v "$what" >/dev/null || skip "$what is not installed"
		fi
	done
}

# requires_green WHY: skips the test when green is native.
requires_green() {
	[[ -n $PGREEN_LIB ]] || skip "PGREEN_LIB is empty: $1"
}

# at_procs N... -- CMD...: runs CMD once for each GOMAXPROCS.  Of a failed test
# bats shows the last line printed: it tells which N it was.
at_procs() {
	local counts=()
	while [[ $1 != -- ]]; do
		counts+=("$1")
		shift
	done
	shift

	local -x GOMAXPROCS
	for GOMAXPROCS in "${counts[@]}"; do
		echo "at GOMAXPROCS=$GOMAXPROCS:"
		"$@"
	done
}

# procs: how many processors the runtime takes by itself, at most.
procs() {
	echo "${GOMAXPROCS:-$(nproc)}"
}

# peak_threads [-o FILE] CMD...: runs CMD, with its stdout in FILE (/dev/null),
# and prints the most kernel threads that one of its processes had.  Looks every
# 5 ms at CMD and at what its processes' main threads started.  CMD may be
# `green PROG...`.  Its status is CMD's.
peak_threads() {
	local out=/dev/null
	if [[ $1 == -o ]]; then
		out=$2
		shift 2
	fi
	[[ -e /proc/thread-self/children ]] || fail 'the kernel has no /proc/PID/task/TID/children' || return

	"$@" <&0 >"$out" 3>&- &
	local cmd=$!
	# Not traced: bats's traps would make the sampler compete with what it samples.
	(trap - DEBUG ERR EXIT && sample_threads "$cmd") 3>&-
	wait "$cmd"
}

# sample_threads PID: prints the peak when PID, a child of this shell, is over.
sample_threads() {
	local peak=0 end=$((SECONDS + ${PGREEN_TEST_LIMIT:-60} + 20)) never tree pid n

	exec {never}<> <(:)
	while ((SECONDS < end)) && has_threads n "$1"; do
		find_tree tree "$1"
		for pid in "${tree[@]}"; do
			if has_threads n "$pid" && ((n > peak)); then peak=$n; fi
		done
		read -r -t 0.005 -u "$never" || :
	done
	echo "$peak"
}

# has_threads VAR PID: sets VAR to the count of PID's kernel threads; false when
# PID is a zombie or gone.
has_threads() {
	local stat fields
	{ read -r stat <"/proc/$2/stat"; } 2>/dev/null || return
	read -ra fields <<<"${stat##*) }" # from the third on: a name may hold blanks
	[[ ${fields[0]} != [ZX] ]] && printf -v "$1" %s "${fields[17]}"
}

# find_tree VAR PID: sets the array VAR to PID and its descendants.
find_tree() {
	local -n found=$1
	local at children=()
	found=("$2")
	for ((at = 0; at < ${#found[@]}; at++)); do
		children=()
		{ read -ra children <"/proc/${found[at]}/task/${found[at]}/children"; } 2>/dev/null || :
		found+=("${children[@]}")
	done
}

# describe_tree PID: what each kernel thread of PID and its descendants is at, and each task
# of green ones; with the kernel threads' backtraces where gdb is installed.
describe_tree() {
	local tree pid task
	find_tree tree "$1"
	for pid in "${tree[@]}"; do
		echo "process $pid: $(tr '\0' ' ' <"/proc/$pid/cmdline" | head -c 200)"
		for task in "/proc/$pid/task"/*; do
			echo "  ${task##*/} $(cat "$task/comm")" \
				"$(grep -m 1 ^State "$task/status" | cut -f 2)" \
				"wchan=$(cat "$task/wchan") syscall=$(cut -d ' ' -f 1-3 "$task/syscall")"
		done | head -n 40
		if [[ -x ${B:-build}/pgreen ]]; then
			timeout -k 1 20 "${B:-build}/pgreen" dump --brief "$pid" 2>/dev/null | head -n 200
		fi
		if command -v gdb >/dev/null && [[ $(cat "/proc/$pid/comm") != timeout ]]; then
			timeout -k 1 20 gdb -nx -batch -p "$pid" -ex 'thread apply all backtrace 16' 2>&1 |
				grep -E '^(#|Thread)' | head -n 200
		fi
	done 2>/dev/null
}

# build_prog NAME [FLAG...]: compiles tests/progs/NAME.c to $BATS_FILE_TMPDIR/NAME.
build_prog() {
	local name=$1
	shift
	"${CC:-cc}" -O2 -g -std=gnu11 -D_GNU_SOURCE -pthread \
		-o "$BATS_FILE_TMPDIR/$name" "$BATS_TEST_DIRNAME/progs/$name.c" "$@"
}
