#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# How far a command is: a bar for who waits at a terminal for more than a second, and
# nothing for anybody else. Prints a line for each test.
#
#	DMCHAIN=path/to/dmchain tests/unit/bars.sh

set -u
export LC_ALL=C
top=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=tests/lib/tap.sh
. "$top/tests/lib/tap.sh"
DMCHAIN=$(realpath "${DMCHAIN:-${O:-$top/build}/asan/dmchain}")
cd "$TMP" || exit 1

# bars ARGUMENTS...: of a command at a terminal; what else it says is in the file said
bars()
{
	script -qec "$DMCHAIN $*" /dev/null </dev/null 2>&1 | tr '\r' '\n' >lines
	sed 's/\x1b\[K//' lines | grep -E '\[#*\.*\] [0-9]+ %, .* of .*/s' >bars
	sed 's/\x1b\[K//' lines | grep -vE '\[#*\.*\] [0-9]+ %|^$' >said
	[ ! -s bars ] || echo yes
}

ms()
{
	date +%s%3N
}

# All is read of raw ones, and they take no room: as much as takes a while here
options="--format-a raw --format-b raw"
for ((gib = 1; gib <= 256; gib *= 2)); do
	truncate -s ${gib}G a b
	begin=$(ms)
	# shellcheck disable=SC2086 # options
	"$DMCHAIN" compare a b $options >out 2>err
	is "$?$(cat err)" 0 "no terminal, $gib GiB: nothing"
	[ $(($(ms) - begin)) -lt 2500 ] || break
done
is "$(cat out)" "a and b show the same" "no terminal: but the result"
truncate -s 4M c
is "$(bars compare a b "$options")" yes "a terminal: a bar"
is "$(sed 's/: .*//' bars | sort -u)" a "a terminal: it says what it is about"
is "$(cat said)" "a and b show the same" "a terminal: and goes"
is "$(bars compare c c "$options")" "" "what takes no time has none"
is "$(bars compare a b "$options" --json)" "" "JSON has none"
is "$(jq -c .same said)" true "JSON is JSON"
done_testing
