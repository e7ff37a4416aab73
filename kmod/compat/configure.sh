#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Compile each probe against the kernel of this build and write what was found.
# usage: configure.sh OUTPUT COMPILER FLAGS...
set -eu
out=$1
shift
here=$(dirname "$0")
tmp=$out.new
trap 'rm -f "$tmp" "$tmp.o" "$tmp.o.d"' EXIT
echo "/* Written by compat/configure.sh. */" > "$tmp"
for probe in "$here"/probes/*.c; do
	name=$(basename "$probe" .c | tr 'a-z-' 'A-Z_')
	if "$@" -c -o "$tmp.o" "$probe" 2> /dev/null; then
		echo "#define CHAIN_HAVE_$name 1" >> "$tmp"
	fi
done
cmp -s "$tmp" "$out" || cp "$tmp" "$out"
