#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# The launcher by itself: a small library of our own stands in for libpgreen.so,
# so that these tests say nothing about the runtime.

bats_require_minimum_version 1.5.0

setup_file() {
	export PGREEN; PGREEN=$(cd "$BATS_TEST_DIRNAME/.." && realpath -m "${B:-build}/pgreen")
	export LIB_DIR="$BATS_FILE_TMPDIR"
	export PGREEN_LIB="$LIB_DIR/stand-in.so"

	# it shows that it is there only when asked
	compile -shared -fPIC -o "$PGREEN_LIB" <<-'C'
		#include <stdlib.h>
		#include <unistd.h>
		__attribute__((constructor)) static void loaded(void)
		{
			const char *text = getenv("STAND_IN_SAYS");

			if (text)
				(void)!write(2, text, __builtin_strlen(text));
		}
	C
	compile -static -o "$LIB_DIR/static" <<<'int main(void) { return 0; }'
	compile -o "$LIB_DIR/asan" <<-'C'
		void __asan_init(void);
		__attribute__((visibility("default"))) void __asan_init(void) { }
		int main(void) { return 7; }
	C
	compile -o "$LIB_DIR/threads" <<-'C'
		#include <pthread.h>
		#include <unistd.h>
		static void *nap(void *p) { usleep(300000); return p; }
		int main(void)
		{
			pthread_t t[20];
			for (int i = 0; i < 20; i++) pthread_create(&t[i], 0, nap, 0);
			for (int i = 0; i < 20; i++) pthread_join(t[i], 0);
			return 0;
		}
	C
}

compile() {
	"${CC:-cc}" -O1 -pthread -rdynamic -x c - "$@"
}

setup() {
	bats_load_library bats-support
	bats_load_library bats-assert
	unset GOMAXPROCS PGREEN_STACK LD_PRELOAD
}

script() {
	printf '%s\n' "$@" >"$BATS_TEST_TMPDIR/script"
	chmod +x "$BATS_TEST_TMPDIR/script"
}

# ---- run --------------------------------------------------------------------

@test "the library is preloaded, in front of what is preloaded already" {
	run "$PGREEN" sh -c 'echo "$LD_PRELOAD"'
	assert_output "$PGREEN_LIB"
	LD_PRELOAD=libm.so.6 run "$PGREEN" sh -c 'echo "$LD_PRELOAD"'
	assert_output "$PGREEN_LIB:libm.so.6"
	run "$PGREEN" "$PGREEN" sh -c 'echo "$LD_PRELOAD"'
	assert_output "$PGREEN_LIB"
}

@test "the program really runs with the library in it" {
	STAND_IN_SAYS="here I am" run --separate-stderr "$PGREEN" true
	assert_success
	assert_equal "$stderr" "here I am"
}

@test "-p sets GOMAXPROCS and --stack sets PGREEN_STACK in bytes" {
	run "$PGREEN" run -p 3 --stack 64K -- sh -c 'echo "$GOMAXPROCS $PGREEN_STACK"'
	assert_output "3 65536"
	run "$PGREEN" --procs=2 --stack=1M sh -c 'echo "$GOMAXPROCS $PGREEN_STACK"'
	assert_output "2 1048576"
	run "$PGREEN" sh -c 'echo "${GOMAXPROCS-unset} ${PGREEN_STACK-unset}"'
	assert_output "unset unset"
}

@test "options after the program are the program's" {
	run "$PGREEN" echo -p 3 --help
	assert_output -- "-p 3 --help"
	run "$PGREEN" -- sh -c 'echo "$@"' sh --version -n 3
	assert_output -- "--version -n 3"
}

@test "exit status and signals are the program's" {
	run "$PGREEN" sh -c 'exit 42'
	assert_failure 42
	run "$PGREEN" sh -c 'kill -TERM $$'
	assert_failure 143
	run "$PGREEN" sh -c 'kill -SEGV $$'
	assert_failure 139
}

@test "the program has the launcher's process id, streams and arguments" {
	"$PGREEN" sh -c 'cat; echo err >&2; echo "$1"' sh "two  words" \
		<<<"in" >"$BATS_TEST_TMPDIR/out" 2>"$BATS_TEST_TMPDIR/err"
	assert_equal "$(cat "$BATS_TEST_TMPDIR/out")" $'in\ntwo  words'
	assert_equal "$(cat "$BATS_TEST_TMPDIR/err")" err
	run sh -c 'echo $$; exec "$PGREEN" sh -c "echo \$\$"'
	assert_equal "${lines[0]}" "${lines[1]}"
}

@test "a program that is not found is 127, one that cannot be executed 126" {
	run -127 --separate-stderr "$PGREEN" no-such-program
	assert_equal "$status $stderr" "127 pgreen: 'no-such-program': No such file or directory"
	run -127 --separate-stderr "$PGREEN" ./no/such/program
	run --separate-stderr "$PGREEN" /etc/passwd
	assert_equal "$status $stderr" "126 pgreen: '/etc/passwd': Permission denied"
	run -126 --separate-stderr "$PGREEN" /tmp
}

@test "a script runs by its interpreter" {
	script '#!/bin/sh' 'echo "$0 $1 $LD_PRELOAD"'
	run "$PGREEN" "$BATS_TEST_TMPDIR/script" x
	assert_output "$BATS_TEST_TMPDIR/script x $PGREEN_LIB"
}

@test "a command's name can be a program's" {
	printf '#!/bin/sh\necho a doctor\n' >"$BATS_TEST_TMPDIR/doctor"
	chmod +x "$BATS_TEST_TMPDIR/doctor"
	PATH="$BATS_TEST_TMPDIR:$PATH" run "$PGREEN" -- doctor
	assert_output "a doctor"
}

# ---- refusals ---------------------------------------------------------------

refuses() { # PROGRAM REASON
	run --separate-stderr "$PGREEN" "$1"
	assert_failure 125
	assert_equal "$output" ""
	assert_equal "${#stderr_lines[@]}" 1
	[[ $stderr == "pgreen: "*"cannot run green: $2"* ]] || fail "said: $stderr"
}

@test "a static program is refused" {
	refuses "$LIB_DIR/static" "it is statically linked"
}

@test "a script of a static interpreter is refused" {
	script "#!$LIB_DIR/static"
	refuses "$BATS_TEST_TMPDIR/script" "its interpreter is $LIB_DIR/static"
}

@test "a set-user-ID program is refused to those who are not that user" {
	[[ $(id -u) == 0 ]] || skip "needs root to make one"
	cp "$(type -P true)" "$BATS_TEST_TMPDIR/suid"
	chown nobody "$BATS_TEST_TMPDIR/suid"
	chmod u+s "$BATS_TEST_TMPDIR/suid"
	[[ $(findmnt -no OPTIONS -T "$BATS_TEST_TMPDIR") != *nosuid* ]] || skip "mounted nosuid"
	refuses "$BATS_TEST_TMPDIR/suid" "it is set-user-ID"
	chown root "$BATS_TEST_TMPDIR/suid"
	chmod u+s "$BATS_TEST_TMPDIR/suid"
	run "$PGREEN" "$BATS_TEST_TMPDIR/suid"
	assert_success
}

# Copies of true with other bytes at the header: class, machine.
@test "a 32-bit program and one for another machine are refused" {
	cp "$(type -P true)" "$BATS_TEST_TMPDIR/other"
	printf '\xb7' | dd of="$BATS_TEST_TMPDIR/other" bs=1 seek=18 conv=notrunc status=none
	refuses "$BATS_TEST_TMPDIR/other" "it is not an x86-64 program"
	printf '\x01' | dd of="$BATS_TEST_TMPDIR/other" bs=1 seek=4 conv=notrunc status=none
	refuses "$BATS_TEST_TMPDIR/other" "it is a 32-bit program"
}

@test "what is neither ELF nor a script is refused" {
	script "just text"
	refuses "$BATS_TEST_TMPDIR/script" "it is neither an ELF program nor a #! script"
}

@test "a truncated ELF file is refused or fails, without a crash" {
	local n
	for n in 4 16 60 64 100 500 3000 9000; do
		head -c $n "$(type -P true)" >"$BATS_TEST_TMPDIR/cut"
		chmod +x "$BATS_TEST_TMPDIR/cut"
		run "$PGREEN" "$BATS_TEST_TMPDIR/cut"
		((status == 125 || status == 126 || status == 127 || n > 500)) ||
			fail "$n bytes: status $status, $output"
		run "$PGREEN" doctor "$BATS_TEST_TMPDIR/cut"
		((status <= 1)) || fail "doctor, $n bytes: status $status"
	done
}

@test "a sanitizer program runs natively, and that is said" {
	run --separate-stderr "$PGREEN" "$LIB_DIR/asan"
	assert_failure 7
	assert_equal "$stderr" \
		"pgreen: $LIB_DIR/asan runs natively: it is built with AddressSanitizer"
}

@test "a library path that LD_PRELOAD cannot hold is refused" {
	local dir
	for dir in "a b" "a:b" 'a$b'; do
		mkdir -p "$BATS_TEST_TMPDIR/$dir"
		cp "$PGREEN_LIB" "$BATS_TEST_TMPDIR/$dir/lib.so"
		PGREEN_LIB="$BATS_TEST_TMPDIR/$dir/lib.so" run "$PGREEN" true
		assert_failure 125
		assert_output --partial "LD_PRELOAD cannot hold"
	done
	PGREEN_LIB=/no/such.so run "$PGREEN" true
	assert_failure 125
	assert_output "pgreen: PGREEN_LIB is '/no/such.so': No such file or directory"
}

@test "the library is found beside the launcher and in ../lib/pgreen" {
	unset PGREEN_LIB
	mkdir -p "$BATS_TEST_TMPDIR"/{bin,lib/pgreen}
	cp "$PGREEN" "$BATS_TEST_TMPDIR/bin/"
	run "$BATS_TEST_TMPDIR/bin/pgreen" true
	assert_failure 125
	cp "$LIB_DIR/stand-in.so" "$BATS_TEST_TMPDIR/lib/pgreen/libpgreen.so"
	run "$BATS_TEST_TMPDIR/bin/pgreen" sh -c 'echo "$LD_PRELOAD"'
	assert_output "$BATS_TEST_TMPDIR/lib/pgreen/libpgreen.so"
	cp "$LIB_DIR/stand-in.so" "$BATS_TEST_TMPDIR/bin/libpgreen.so"
	run "$BATS_TEST_TMPDIR/bin/pgreen" sh -c 'echo "$LD_PRELOAD"'
	assert_output "$BATS_TEST_TMPDIR/bin/libpgreen.so"
}

@test "wrong options are 125 and point at --help" {
	local args
	for args in "-p 0 true" "-p x true" "--stack 12Q true" "--stack -1 true" "--nonsense" "" \
		"compare -n 0 true" "compare" "doctor a b"; do
		# shellcheck disable=SC2086 # the words are meant to be split
		run "$PGREEN" $args
		assert_failure 125
		refute_output ""
	done
	run "$PGREEN" --nonsense
	assert_output --partial "pgreen --help"
}

@test "--help and --version go to standard output and succeed" {
	run --separate-stderr "$PGREEN" --help
	assert_success
	assert_line --partial "Usage: pgreen [run]"
	assert_equal "$stderr" ""
	run "$PGREEN" --version
	assert_success
	assert_output "pgreen $(cat "$BATS_TEST_DIRNAME/../VERSION")"
}

# ---- compare ----------------------------------------------------------------

@test "compare shows both sides, agrees with 0, and JSON says the same" {
	run --separate-stderr "$PGREEN" compare -n 2 --json "$BATS_TEST_TMPDIR/c.json" -- \
		sh -c 'seq 1000; echo no >&2; exit 3'
	assert_success
	assert_line --regexp '^wall time +[0-9.]+ s +[0-9.]+ s +[0-9.]+$'
	assert_line --regexp '^exit status +3 +3 +same$'
	assert_line --regexp '^stdout +([0-9a-f]{16}) +[0-9a-f]{16} +same$'
	assert_equal "${#stderr_lines[@]}" 4
	run cat "$BATS_TEST_TMPDIR/c.json"
	assert_line --regexp '"n_runs": 2'
	assert_line --regexp '"exit_status": 3'
	assert_line --regexp '"bytes": 3893'
}

@test "compare differs with 1 in output and in status" {
	# shellcheck disable=SC2016 # for the inner shell
	run --separate-stderr "$PGREEN" compare -n 1 sh -c 'echo "${LD_PRELOAD-none}"'
	assert_failure 1
	assert_line --regexp '^stdout .* DIFFERENT$'
	# shellcheck disable=SC2016
	run --separate-stderr "$PGREEN" compare -n 1 sh -c '[ -z "$LD_PRELOAD" ] || kill -9 $$'
	assert_failure 1
	assert_line --regexp '^exit status +0 +SIGKILL +DIFFERENT$'
}

@test "compare gives every run the same standard input, from a pipe and from a file" {
	run --separate-stderr bash -c 'seq 50000 | "$PGREEN" compare -n 2 --json - md5sum'
	assert_success
	assert_equal "$(grep -c '"bytes": 36' <<<"$output")" 4
	seq 50000 >"$BATS_TEST_TMPDIR/in"
	run --separate-stderr bash -c \
		'{ read -r first; "$PGREEN" compare -n 2 --json - cat; } <"$1"' sh "$BATS_TEST_TMPDIR/in"
	assert_success
	assert_equal "$(grep -c "\"bytes\": $(($(stat -c %s "$BATS_TEST_TMPDIR/in") - 2))" \
		<<<"$output")" 4
}

@test "compare counts kernel threads, alive at once and created" {
	run --separate-stderr "$PGREEN" compare -n 1 "$LIB_DIR/threads"
	assert_success
	assert_line --regexp '^peak kernel threads +21 +21 +1.00$'
	if [[ $output != *"not known"* ]]; then
		assert_line --regexp '^threads created +20 +20 +1.00$'
	fi
}

@test "compare -p passes GOMAXPROCS to the green side alone" {
	# shellcheck disable=SC2016
	run --separate-stderr "$PGREEN" compare -n 1 -p 5 --json - \
		sh -c 'echo "${GOMAXPROCS-}"'
	assert_failure 1
	assert_line --regexp '"gomaxprocs": "5"'
	assert_line --regexp '"bytes": 1,'
	assert_line --regexp '"bytes": 2,'
}

@test "an interrupted compare stops its children and dies of the signal" {
	local fifo="$BATS_TEST_TMPDIR/fifo" pid status=0
	mkfifo "$fifo"
	# the shell's children hold the fifo open as long as they live; a job in the
	# background would ignore SIGINT, so the signal is SIGTERM
	# shellcheck disable=SC2016
	"$PGREEN" compare -n 1 sh -c 'exec 9>"$0"; echo up >&9; sleep 60 & sleep 60' "$fifo" \
		2>/dev/null 3>&- &
	pid=$!
	exec 8<"$fifo"
	read -r -u 8
	kill -TERM $pid
	wait $pid || status=$?
	assert_equal $status 143
	run timeout 10 cat <&8
	assert_success
}

@test "compare does not wait for a daemon that holds the output" {
	run --separate-stderr timeout 20 "$PGREEN" compare -n 1 sh -c 'sleep 100 & echo $! >>'"$BATS_TEST_TMPDIR/pids"
	assert_success
	xargs kill <"$BATS_TEST_TMPDIR/pids" || :
}

@test "compare refuses what run refuses" {
	run "$PGREEN" compare "$LIB_DIR/static"
	assert_failure 125
	run -127 "$PGREEN" compare no-such-program
	run "$PGREEN" compare "$LIB_DIR/asan"
	assert_failure 125
}

# ---- doctor -----------------------------------------------------------------

@test "doctor's lines begin with ok, note or no, and this machine will do" {
	local line
	run "$PGREEN" doctor
	assert_success
	for line in "${lines[@]}"; do
		[[ $line =~ ^(ok|note|no)\ +[A-Za-z] ]] || fail "$line"
	done
	assert_line --partial "libc: glibc"
	assert_line --partial "FSGSBASE:"
	assert_line --partial "stack guards:"
	assert_line --partial "processors:"
}

@test "doctor says what is wrong with a program" {
	run "$PGREEN" doctor "$(type -P true)"
	assert_success
	run "$PGREEN" doctor "$LIB_DIR/static"
	assert_failure 1
	assert_line --regexp '^no .*statically linked'
	run "$PGREEN" doctor "$LIB_DIR/asan"
	assert_success
	assert_line --regexp '^note .*AddressSanitizer'
	run "$PGREEN" doctor no-such-program
	assert_failure 1
}

@test "doctor finds system calls in a program and in its libraries" {
	compile -shared -fPIC -o "$BATS_TEST_TMPDIR/libwaits.so" <<-'C'
		long waits(void) { long r; __asm__ volatile("syscall" : "=a"(r) : "0"(24L) : "rcx", "r11", "memory"); return r; }
	C
	compile -o "$BATS_TEST_TMPDIR/program" - -L"$BATS_TEST_TMPDIR" -lwaits \
		-Wl,-rpath,"$BATS_TEST_TMPDIR" <<<'long waits(void); int main(void) { return (int)waits(); }' ||
		fail "cannot build"
	run "$PGREEN" doctor "$BATS_TEST_TMPDIR/program"
	assert_success
	assert_line --regexp '^note  system calls: libwaits.so has about 1 '
}

@test "a program that wants the condition variables of before 2003 is refused" {
	compile -o "$BATS_TEST_TMPDIR/old" <<-'C'
		#include <pthread.h>
		__asm__(".symver pthread_cond_signal,pthread_cond_signal@GLIBC_2.2.5");
		int main(void) { pthread_cond_t c = PTHREAD_COND_INITIALIZER; return pthread_cond_signal(&c); }
	C
	refuses "$BATS_TEST_TMPDIR/old" "it uses pthread_cond_signal of before 2003"
}
