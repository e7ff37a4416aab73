#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# In the VM: reads and rewrites of data that is there, at depth 1, 64 and 1024, beside
# dm-linear.

set -euo pipefail
# shellcheck source=tests/bench/lib.sh
. "$(dirname "$0")/lib.sh"

load_module
echo 4 >/proc/sys/vm/nr_hugepages
ram_disks 1091 1024

# Areas of a deep chain: in the first three, a layer has every so many blocks of 4 KiB,
# or runs of that length; the fourth is all in the top
below_4k=--offset=0
below_128k=--offset=$size
below_1m=--offset=$((2 * size))
top=--offset=$((3 * size))

make_deep()	# make_deep NAME LAYERS
{
	make_chain "$1" $((4 * size)) \
		"0:$size:4K,$size:$size:128K,$((2 * size)):$size:1M,$((3 * size)):$size:0" "$2"
	warm "$1"
}

make_64()
{
	make_deep 64 64
}

make_1024()
{
	make_deep 1024 1024
}

deep_limit=1.02

# small ENGINE QUEUE [BATCH]: 4 KiB at random places; in batches many I/Os share a
# system call, so that there is less else beside the target's work
small()
{
	local deep name=$1-q$2${3:+b} with=("--ioengine=${1/#aio/libaio}" "--iodepth=$2")
	local reads=read-$name writes=rewrite-$name
	[ -z "${3-}" ] ||
		with+=("--iodepth_batch_submit=$3" "--iodepth_batch_complete_min=$3")
	hit "$reads:linear" /dev/mapper/linear randread "${with[@]}"
	limit=1.015
	hit "$reads:1" /dev/mapper/one randread "${with[@]}"
	limit=$deep_limit
	for deep in 64 1024; do
		hit "$reads:$deep-top" /dev/mapper/$deep randread $top "${with[@]}"
		hit "$reads:$deep-below-128k" /dev/mapper/$deep randread $below_128k "${with[@]}"
		hit "$reads:$deep-below-4k" /dev/mapper/$deep randread $below_4k "${with[@]}"
	done
	limit=
	hit "$writes:linear" /dev/mapper/linear randwrite "${with[@]}"
	limit=1.015
	hit "$writes:1" /dev/mapper/one randwrite "${with[@]}"
	limit=$deep_limit
	hit "$writes:64-top" /dev/mapper/64 randwrite $top "${with[@]}"
	hit "$writes:1024-top" /dev/mapper/1024 randwrite $top "${with[@]}"
	limit=
}

# pass NAME DEVICE RW [OPTIONS]: one behind the other, a GiB or two. From a huge page:
# into how many pieces scattered pages fall, which the block layer tells apart, is luck
pass()
{
	local mib=1024
	wanted "$1" || return 0
	need "$2"
	[ $bs = 65536 ] || mib=2048
	measure "$1" "$2" "$3" $((mib * 1048576 / bs)) --mem=shmhuge --hugepage-size=2m \
		"${@:4}"
}

# large NAME BYTES
large()
{
	local bs=$2
	pass "read-$1:linear" /dev/mapper/linear read
	limit=1.02
	pass "read-$1:1" /dev/mapper/one read
	pass "read-$1:64-top" /dev/mapper/64 read $top
	pass "read-$1:64-below-1m" /dev/mapper/64 read $below_1m
	limit=
	pass "rewrite-$1:linear" /dev/mapper/linear write
	limit=1.02
	pass "rewrite-$1:1" /dev/mapper/one write
	pass "rewrite-$1:64-top" /dev/mapper/64 write $top
	limit=
}

measure_round()
{
	local engine queue
	for engine in aio io_uring; do
		for queue in 1 32; do
			small $engine $queue
		done
	done
	small io_uring 32 32
	large 64k 65536
	large 1m 1048576
}

#----------------------------------------------------------------
# What the gate costs: the same disk, with the module as it is and without it
#----------------------------------------------------------------

with_module()	# with_module FILE NAME
{
	dmchain close one
	rmmod dm-chain
	insmod "$1"
	dmchain open one "$one_ram"
	hit "$2" /dev/mapper/one randread
}

gate_rounds()
{
	local ko
	wanted gate || return 0
	ko=$(modinfo -n dm-chain)
	need /dev/mapper/one
	for disk in 64 1024; do
		[ ! -e /dev/mapper/$disk ] || dmchain close $disk
	done
	for ((round = 1; round <= ROUNDS; round++)); do
		with_module /build/ungated/kmod/dm-chain.ko gate:without
		with_module "$ko" gate:with
	done
}

for ((round = 1; round <= ROUNDS; round++)); do
	echo "# round $round" >&2
	measure_round
done
gate_rounds
tables "data in place"
