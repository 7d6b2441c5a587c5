#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# docs.bats: what the documents say of variables, options, files and each other.
#
# shellcheck disable=SC2016 # sed's and bash's own dollars

load helpers

setup() {
	cd "$BATS_TEST_DIRNAME/.." || return
}

# variables: what the library and the launcher read from the environment.
variables() {
	{
		sed -n 's/.*find(envp, "\([A-Z_]*\)").*/\1/p' shim/config.c
		sed -n 's/.*getenv("\([A-Z_]*\)").*/\1/p' shim/cli/*.c | grep '^PGREEN_'
	} | LC_ALL=C sort -u
}

@test "every variable that is read is in README.md and in a manual page" {
	local name
	assert [ "$(variables | wc -l)" -ge 3 ]
	for name in $(variables); do
		echo "$name"
		assert grep -q "^| \`$name\` |" README.md
		assert grep -q "^\.It Ev $name$" docs/man/pgreen.1 docs/man/libpgreen.7
	done
}

@test "every variable that a document names is read" {
	local name
	for name in $(grep -hoE 'PGREEN_[A-Z]+' README.md docs/*.md docs/man/* | sort -u); do
		echo "$name"
		assert grep -qx "$name" <(variables)
	done
}

@test "the usage in README.md is that of --help" {
	local launcher=${B:-build}/pgreen
	requires "$launcher"
	run -0 bash -c '"$1" --help | sed -n "s/^\(Usage:\|  or: \) *//p"' _ "$launcher"
	diff <(sed -n '/^## Usage/,/^## /s/^    pgreen/pgreen/p' README.md) - <<<"$output"
}

@test "the file map of docs/ARCHITECTURE.md has every file, and no other" {
	sed -n '/^## Files/,/^## Locks/p' docs/ARCHITECTURE.md | awk '
	/^    (shim|interpose)\/:/ { dir = $1; sub(/:$/, "", dir); next }
	/^    / { for (i = 1; i <= NF && $i ~ /^[a-z0-9_]+(\.(c|h|S|def)|\/)$/; i++) print dir $i }
	' | LC_ALL=C sort >"$BATS_TEST_TMPDIR/map"
	{
		printf '%s\n' shim/*.* interpose/*.*
		printf '%s\n' shim/*/ interpose/*/ | grep -v '\*'
	} | LC_ALL=C sort >"$BATS_TEST_TMPDIR/files"
	run -0 diff "$BATS_TEST_TMPDIR/files" "$BATS_TEST_TMPDIR/map"
}

@test "a document's links lead to files that are there" {
	local file link
	for file in README.md docs/*.md; do
		for link in $(grep -oE '\]\([^)#:]+[)#]' "$file" | tr -d '])(#'); do
			echo "$file: $link"
			assert [ -e "$(dirname "$file")/$link" ]
		done
	done
}

@test "files that the documents name are there" {
	local name
	for name in $(grep -hoE '\b(shim|interpose|tests)/[a-z0-9_]+\.(c|h|S|def|bats|sh)\b' README.md docs/*.md | sort -u); do
		echo "$name"
		assert [ -e "$name" ]
	done
}

@test "the gdb recipe of docs/HACKING.md finds a hung program's tasks" {
	local launcher
	launcher=$(realpath -m "${B:-build}/pgreen")
	requires gdb "$launcher"
	requires_green 'there are no tasks natively'
	sed -n '/^    set pagination off/,/^Then /p' docs/HACKING.md | sed '$d; s/^    //' \
		>"$BATS_TEST_TMPDIR/recipe"
	cat >"$BATS_TEST_TMPDIR/hung.c" <<-'END'
	#include <pthread.h>
	#include <unistd.h>

	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

	static void *stuck(void *arg)
	{
		pthread_mutex_lock(&lock);
		return arg;
	}

	int main(void)
	{
		pthread_t id;

		pthread_mutex_lock(&lock);
		pthread_create(&id, NULL, stuck, NULL);
		write(STDOUT_FILENO, "up\n", 3);
		pthread_join(id, NULL);
	}
	END
	cd "$BATS_TEST_TMPDIR"
	"${CC:-cc}" -g -pthread -o hung hung.c
	mkfifo up
	LD_PRELOAD=$PGREEN_LIB timeout 60 ./hung >up 3>&- &
	local parent=$! pid tries
	read -r _ <up
	pid=$(pgrep -P "$parent" -x hung)
	# Until both have parked.
	for ((tries = 0; tries < 20; tries++)); do
		run timeout 30 "$launcher" dump --all "$pid"
		[[ $(grep -c 'park 1' <<<"$output") -lt 2 ]] || break
	done
	local task
	task=$(sed -n 's/.* started at stuck: .*struct task \(0x[0-9a-f]*\).*/\1/p' <<<"$output")
	run timeout 30 gdb -nx -batch -p "$pid" -x recipe -ex workers -ex "task-backtrace $task"
	kill "$pid"
	wait "$parent" || :
	[[ $output != *'ptrace: Operation not permitted'* ]] || skip 'gdb may not attach here'
	assert_line --regexp '^worker .* tid [0-9]+ '
	assert_line --regexp '^processor 0 '
	assert_line --regexp '^#[0-9]+ .* stuck \(arg=0x0\)'
}
