#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# In the VM, with two processors and no counting of instructions: how much more is done
# by two jobs, each on a processor of its own, than by one. An emulated processor shares
# the host with all else there is: the spread says what a figure is worth.

set -euo pipefail
# shellcheck source=tests/bench/lib.sh
. "$(dirname "$0")/lib.sh"

load_module
ram_disks 10 400
gains=/tmp/gains
[ "$(nproc)" = 2 ] || die "there have to be two processors"

# ios_per_second NAME DEVICE RW JOBS IOS [OPTIONS]: in $rate; each job has a half
ios_per_second()
{
	local half=$((size / 2))
	jobs=$4
	run_fio "$1" "$2" "$3" "$5" --numjobs="$4" --cpus_allowed=0-1 \
		--cpus_allowed_policy=split --offset_increment=$half "${@:6}" --size=$half
	rate=$(($4 * $5 * 1000 / ms))
}

gain()		# gain NAME ONE TWO
{
	echo "$1 $2 $3" >>$gains
	echo "# $1 $2 $3" >&2
}

# in_place NAME DEVICE RW
in_place()
{
	local one
	wanted "$1" || return 0
	need "$2"
	ios_per_second "$1" "$2" "$3" 1 $((2 * blocks)) --norandommap
	one=$rate
	ios_per_second "$1" "$2" "$3" 2 $((2 * blocks)) --norandommap
	gain "$1" "$one" "$rate"
}

# Each block once: a new chain for each
chain_firsts()
{
	local n rates=()
	wanted first:chain || return 0
	for n in 1 2; do
		dd if=/dev/zero of="$first_ram" bs=4k count=1 oflag=direct status=none
		dmchain create "$first_ram" --size $size --force >/dev/null
		dmchain open first "$first_ram"
		ios_per_second first:chain /dev/mapper/first randwrite $n $((blocks / 2)) \
			--random_generator=lfsr
		rates+=("$rate")
		dmchain close first
	done
	gain first:chain "${rates[@]}"
}

linear_firsts()
{
	local n rates=()
	wanted first:linear || return 0
	need /dev/mapper/linear
	for n in 1 2; do
		ios_per_second first:linear /dev/mapper/linear randwrite $n $((blocks / 2)) \
			--random_generator=lfsr
		rates+=("$rate")
	done
	gain first:linear "${rates[@]}"
}

take_ram
first_ram=$ram
fill "$first_ram" 160
for ((round = 1; round <= ROUNDS; round++)); do
	echo "# round $round" >&2
	in_place read:linear /dev/mapper/linear randread
	in_place read:chain /dev/mapper/one randread
	in_place rewrite:linear /dev/mapper/linear randwrite
	in_place rewrite:chain /dev/mapper/one randwrite
	linear_firsts
	chain_firsts
done
[ -s $gains ] || exit 0
echo
echo "Linux $(uname -r), $(fio --version), 4 KiB, two processors, $ROUNDS rounds;"
echo "I/Os a second of one job and of two (medians), what the second one adds, and how"
echo "far that lies apart:"
echo
gawk '
{ n[$1]++; one[$1][n[$1]] = $2; two[$1][n[$1]] = $3; gain[$1][n[$1]] = $3 / $2 }
function middle(a, k) { asort(a); return a[int((k + 1) / 2)] }
END {
	printf "%-18s %9s %9s %8s %8s %8s\n", "", "one", "two", "gain", "least", "most"
	PROCINFO["sorted_in"] = "@ind_str_asc"
	for (w in n) {
		k = asort(gain[w])
		printf "%-18s %9d %9d %8.2f %8.2f %8.2f\n", w, middle(one[w], k), middle(two[w], k),
			gain[w][int((k + 1) / 2)], gain[w][1], gain[w][k]
	}
}' $gains
