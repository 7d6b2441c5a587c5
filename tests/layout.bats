#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# layout.bats: what may lie where, include what and call what.  The order of includes is that
# of the file map in docs/ARCHITECTURE.md.
#
# shellcheck disable=SC2016 # awk's own dollars

load helpers

setup() {
	cd "$BATS_TEST_DIRNAME/.." || return
	objects=${B:-build}/shim
}

# file_map: the files of the map, as lines "LINE DIRECTORY/FILE".
file_map() {
	awk '
	/^## / { inside = /^## Files/ }
	!inside || !/^    / { next }
	/^    (shim|interpose)\/:/ { dir = $1; sub(/:$/, "", dir); next }
	{
		for (i = 1; i <= NF && $i ~ /^[a-z0-9_]+\.(c|h|S|def)$/; i++)
			print NR, dir $i
	}' docs/ARCHITECTURE.md
}

# includes DIRECTORY: what its files include of ours, as lines "FILE INCLUDED".
includes() {
	local line file name
	grep -H '^#include "' "$1"/*.[chS] | while IFS= read -r line; do
		file=${line%%:*}
		name=${line#*\"}
		name=${name%\"*}
		if [[ -e $1/$name ]]; then
			echo "$file $1/$name"
		else
			echo "$file shim/$name"
		fi
	done
}

@test "a file includes only what stands above it in the map of docs/ARCHITECTURE.md" {
	file_map >"$BATS_TEST_TMPDIR/map"
	assert [ "$(wc -l <"$BATS_TEST_TMPDIR/map")" -gt 40 ]
	{ includes shim && includes interpose; } >"$BATS_TEST_TMPDIR/includes"
	run -0 awk '
	function stem(file) { sub(/\.[a-z]+$/, "", file); return file }
	NR == FNR { line[$2] = $1; next }
	!($1 in line) { print $1 " is not in the map" }
	!($2 in line) { print $2 " is not in the map" }
	stem($1) != stem($2) && line[$2] >= line[$1] { print $1 " includes " $2 }
	' "$BATS_TEST_TMPDIR/map" "$BATS_TEST_TMPDIR/includes"
	assert_output ''
}

@test "nobody includes a C file" {
	run -1 grep -n '^#include ".*\.[cS]"' shim/*.[chS] shim/cli/*.[ch] interpose/*.[ch]
}

@test "interpose/ includes shim.h of shim/, and nothing else" {
	# wrap.c: the constructor hands the environment on, which no task asks for.
	includes interpose | awk '$2 ~ /^shim\// && $2 != "shim/shim.h"' >"$BATS_TEST_TMPDIR/odd"
	run -0 grep -vxF 'interpose/wrap.c shim/config.h' <(cat "$BATS_TEST_TMPDIR/odd" && echo end)
	assert_output end
}

@test "a wrapper file includes wrap.h first, or a header that does" {
	local file first
	for file in interpose/*.c; do
		[[ $file == interpose/real.c ]] && continue
		first=$(grep -m 1 '^#include "' "$file" | cut -d '"' -f 2)
		echo "$file: $first"
		[[ $first == wrap.h || $first == signal.h ]] ||
			assert grep -q '^#include "wrap.h"' "interpose/$first"
	done
}

@test "the launcher shares debug.h with the library, and no other header" {
	local name
	for name in $(grep -h '^#include "' shim/cli/*.[ch] | cut -d '"' -f 2 | sort -u); do
		echo "$name"
		[[ $name == ../debug.h || ($name != */* && -e shim/cli/$name) ]] || fail "shared: $name"
	done
	run -1 grep '^#include "' shim/debug.h
}

@test "the runtime calls only what takes no lock, no memory and no thread-local" {
	local all=("$objects"/*.o)
	[[ -e ${all[0]} ]] || skip "no objects in $objects"
	nm -A -u "${all[@]}" | awk '{ print $1, $NF }' | sed 's,^.*/,,; s/: / /; s/:.* / /' \
		>"$BATS_TEST_TMPDIR/wanted"
	run -1 grep -m 1 -E ' __(asan|tsan|ubsan)_' "$BATS_TEST_TMPDIR/wanted"
	nm --defined-only "${all[@]}" | awk 'NF == 3 { print $3 }' >"$BATS_TEST_TMPDIR/defined"
	cat >"$BATS_TEST_TMPDIR/allowed" <<-'END'
	any _GLOBAL_OFFSET_TABLE_ memcpy memmove memset memcmp strlen strncmp strstr strrchr strcspn
	any __popcountdi2 __start_shim_text __stop_shim_text
	runtime.o getauxval
	signal.o __libc_current_sigrtmin
	libc.o dl_iterate_phdr dlsym getauxval gnu_get_libc_version strtol free
	END
	run -0 awk '
	FILENAME ~ /defined$/ { known["any", $1] = 1; next }
	FILENAME ~ /allowed$/ { for (i = 2; i <= NF; i++) known[$1, $i] = 1; next }
	!(("any", $2) in known) && !(($1, $2) in known) { print $1 " calls " $2 }
	' "$BATS_TEST_TMPDIR/defined" "$BATS_TEST_TMPDIR/allowed" "$BATS_TEST_TMPDIR/wanted"
	assert_output ''
}

@test "the runtime's code lies in the section that is never preempted" {
	local all=("$objects"/*.o)
	[[ -e ${all[0]} ]] || skip "no objects in $objects"
	run -0 bash -c 'for o; do objdump -h "$o" | awk -v o="${o##*/}" "\$2 ~ /^\.text/ && \$3 !~ /^0+\$/ { print o, \$2, \$3 }"; done' _ "${all[@]}"
	assert_output ''
	run -0 bash -c 'objdump -h "$1" | grep -c shim_text' _ "$objects/sched.o"
}

@test "the library needs libc and the dynamic linker, and no other library" {
	requires_green 'there is no library to look at'
	run -0 bash -c 'readelf -d "$1" | sed -n "s/.*(NEEDED).*\[\(.*\)\]/\1/p" | grep -vE "^(libc\.so\.6|ld-linux-x86-64\.so\.2)$" || :' _ "$PGREEN_LIB"
	assert_output ''
}

# Rounding, flags and traps are the program's; a division of ours would set the flags.
@test "the library computes without floating-point numbers" {
	requires_green 'there is no library to look at'
	run -0 bash -c 'objdump -d --no-show-raw-insn "$1" | awk "\$2 ~ /^v?(cvt|(add|sub|mul|div|sqrt|u?comi)[sp][sd]\$)/ || \$2 ~ /^f(add|sub|mul|div|ild|ist)/" | head' _ "$PGREEN_LIB"
	assert_output ''
}
