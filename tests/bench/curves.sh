#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# In the VM: what a random read of 4 KiB costs against the depth of a chain, its size,
# and the length of the runs that one layer has. Prints a table; /out/curves has lines
# "CURVE X SERIES NS" for curves.awk.

set -euo pipefail
# shellcheck source=tests/bench/lib.sh
. "$(dirname "$0")/lib.sh"

size=$((32 << 20))
sectors=$((size / 512))
disks=$((1024 + 1))

load_module
modprobe brd rd_nr=$disks rd_size=$((72 << 30)) max_part=0
next_ram=$disks

# A chain's layers lie on the first RAM disks, one chain after the other: they keep
# their memory, so there is enough for all
make_again()	# make_again SIZE AREAS LAYERS
{
	next_ram=0
	make_chain curve "$@"
	warm_at "$2"
}

# The lookup is built for what is read, twice: most of the large disks is holes
warm_at()
{
	local area from len i
	for area in ${1//,/ }; do
		IFS=: read -r from len _ <<<"$area"
		for i in 1 2 3; do
			dd if=/dev/mapper/curve of=/dev/null bs=1M skip=$((from >> 20)) \
				count=$((len >> 20)) iflag=direct status=none
			sleep 0.1
		done
	done
	[[ $(dmsetup status curve) == *unmerged=0* ]] || die "the lookup does not settle"
}

# point NAME DEVICE OFFSET CURVE X SERIES
point()
{
	measure "$1" "$2" randread $((2 * blocks)) --norandommap --offset="$3"
	echo "$4 $5 $6 $((ms * 1000000 / (2 * blocks)))" >>/tmp/curves
}

# beside NAME FROM CURVE X: dm-linear at the very place where the top's data is, for the
# RAM disk's own lookup gets slower with the address
beside()
{
	local dev=${rams[-1]}
	dmsetup create beside --table "0 $sectors linear $dev $((($(data_offset "$dev") + $2) / 512))"
	point "$1:linear" /dev/mapper/beside 0 "$3" "$4" linear
	dmsetup remove beside
}

# Where a layer's data begins, as its header says (struct dm_chain_disk_header)
data_offset()
{
	dd if="$1" bs=4k count=1 iflag=direct status=none | od -A n -t u8 -j 120 -N 8 | tr -d ' '
}

# Two areas: all in the top, and each block in another layer
two_areas()	# two_areas CURVE X SIZE FROM LAYERS
{
	local from=$4 below=$(($4 + size))
	wanted "$1-$2" || return 0
	make_again "$3" "$from:$size:0,$below:$size:4K" "$5"
	beside "$1-$2" "$from" "$1" "$2"
	point "$1-$2:top" /dev/mapper/curve "$from" "$1" "$2" top
	[ "$5" = 1 ] || point "$1-$2:spread" /dev/mapper/curve $below "$1" "$2" spread
	dmchain close curve
}

depths()
{
	local n
	for n in 1 4 16 64 256 1024; do
		two_areas depth $n $((2 * size)) 0 $n
	done
}

# What is read lies at the end
sizes()
{
	local gib bytes
	for gib in 1 16 256 4096 65536; do
		bytes=$((gib << 30))
		two_areas size $gib $bytes $((bytes - 2 * size)) 16
	done
}

# Runs are nothing to dm-linear: it is measured once
fragments()
{
	local kib at=$size areas="0:$size:0"
	for kib in 4 8 16 32 64 128 256 512 1024; do
		areas+=,$at:$size:${kib}K
		at=$((at + size))
	done
	make_again $at "$areas" 64
	beside run 0 run 4
	at=$size
	for kib in 4 8 16 32 64 128 256 512 1024; do
		point "run:${kib}k" /dev/mapper/curve $at run $kib spread
		at=$((at + size))
	done
	dmchain close curve
}

: >/tmp/curves
depths
sizes
! wanted run || fragments
cp /tmp/curves /out/curves
ROUNDS=1 tables "random reads of 4 KiB, queue depth 1"
