#!/bin/sh
# SPDX-License-Identifier: MIT
#
# deps.sh NAME...: installs the Debian packages that are missing.  A NAME is a
# package, or a group of those below.  As root or with a sudo that asks no
# password it installs them; otherwise it names them and fails.
set -eu

group() {
	case $1 in
	@build) echo gcc libc6-dev make libjansson-dev libunwind-dev libxxhash-dev ;;
	@check) echo bats bats-assert bats-support binutils gdb procps util-linux ;;
	@demo) echo pigz tar ;;
	@bench) echo golang-go jq ;;
	@lint) echo clang-format clang-tidy shellcheck mandoc ;;
	@*) echo "deps.sh: no group $1" >&2 && exit 2 ;;
	*) echo "$1" ;;
	esac
}

is_installed() {
	dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'
}

if ! command -v dpkg-query >/dev/null; then
	echo "deps.sh: not Debian or Ubuntu; trusting that the tools are here" >&2
	exit 0
fi

missing=
for name in "$@"; do
	for package in $(group "$name"); do
		is_installed "$package" || missing="$missing $package"
	done
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
	as_root=
elif sudo -n true 2>/dev/null; then
	as_root="sudo -n"
else
	echo "deps.sh: please install:$missing" >&2
	exit 1
fi

echo "deps.sh: installing$missing" >&2
# A fresh machine may be installing its updates: wait for it.
install="$as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 install -qq -y --no-install-recommends"
# A fresh image has no package lists, or stale ones: fetch them only if needed.
# shellcheck disable=SC2086 # the words are meant to be split
if ! $install $missing >/dev/null 2>&1; then
	$as_root apt-get update -qq >/dev/null
	$install $missing >/dev/null
fi
