#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# In the VM: the measurements. All on RAM disks, so that a target's own work is
# what differs. A result is a line "NAME NS" in $results; table.awk does the
# rest.

set -euo pipefail

blocks=32768				# of 4 KiB: a disk of 128 MiB
size=$((blocks * 4096))
sectors=$((size / 512))
deep=32
results=/tmp/results
: >$results

die()
{
	echo "bench: $*" >&2
	exit 1
}

# What a debug kernel or module does beside the work would be measured, too
if [ -e /proc/lockdep ] || [ -e /sys/kernel/debug/kmemleak ] || grep -qw __kasan_check_read /proc/kallsyms; then
	die "this is a debug kernel: its figures mean nothing"
fi
modprobe dm-chain
! grep -q '__ksymtab_chain_locks_try' /proc/kallsyms ||
	die "dm-chain.ko was built for KUnit: its figures mean nothing"

#----------------------------------------------------------------
# Devices
#----------------------------------------------------------------

modprobe brd rd_nr=44 rd_size=$((400 * 1024)) max_part=0
next_ram=0

# A RAM disk that nobody has, in $ram
take_ram()
{
	ram=/dev/ram$next_ram
	next_ram=$((next_ram + 1))
}

fill()
{
	dd if=/dev/zero of="$1" bs=1M count=128 oflag=direct status=none
}

# warm NAME: reads build the lookup below the top, a chunk for each miss
warm()
{
	local before=none now i
	for ((i = 0; i < 40; i++)); do
		dd if="/dev/mapper/$1" of=/dev/null bs=64k iflag=direct status=none
		now=$(dmsetup status "$1")
		[ "$now" != "$before" ] || [[ $now != *unmerged=0* ]] || return 0
		before=$now
	done
	die "$1: the lookup does not settle: $now"
}

# A chain of $deep layers with three parts of $size each: in the first every
# layer holds a block out of $deep, in the second the same in runs of 128 KiB,
# the third is all in the top
deep_chain()
{
	local i
	take_ram
	dmchain create $ram --size $((3 * size)) >/dev/null
	dmchain open deep $ram
	for ((i = 0; i < deep; i++)); do
		if [ $i -gt 0 ]; then
			take_ram
			dmchain snapshot "deep=$ram" >/dev/null
		fi
		fio --filename=/dev/mapper/deep --direct=1 --ioengine=psync --size=$size \
			--name=a --bs=4k --offset=$((i * 4))k \
			--rw=write:$((4 * (deep - 1)))k --number_ios=$((blocks / deep)) \
			--name=b --bs=128k --offset=$((size / 1024 + i * 128))k \
			--rw=write:$((128 * (deep - 1)))k --number_ios=$((blocks / 32 / deep)) \
			>/dev/null
	done
	dd if=/dev/zero of=/dev/mapper/deep bs=1M count=128 seek=256 oflag=direct \
		status=none
	warm deep
}

setup()
{
	echo "# devices" >&2
	take_ram
	fill $ram
	dmsetup create linear --table "0 $sectors linear $ram 0"
	take_ram
	one_ram=$ram
	dmchain create $ram --size $size >/dev/null
	dmchain open one $ram
	fill /dev/mapper/one
	deep_chain
	take_ram
	first_ram=$ram
	dd if=/dev/zero of=$ram bs=1M count=160 oflag=direct status=none
	take_ram
	base_ram=$ram
	fill $base_ram
	take_ram
	cow_ram=$ram
	dd if=/dev/zero of=$ram bs=1M count=160 oflag=direct status=none
	take_ram
	pool_ram=$ram
	dd if=/dev/zero of=$ram bs=1M count=160 oflag=direct status=none
	take_ram
	meta_ram=$ram
	dmsetup status | sed -n '/: 0 [0-9]* chain /s/^/# /p' >&2
}

#----------------------------------------------------------------
# Measuring
#----------------------------------------------------------------

# measure NAME DEVICE RW IOS [FIO OPTIONS]
measure()
{
	local name=$1 dev=$2 rw=$3 ios=$4 ms out=/tmp/fio.json
	shift 4
	fio --name=m --filename="$dev" --rw="$rw" --bs=4k --size=$size --direct=1 \
		--ioengine=libaio --iodepth=1 --number_ios="$ios" \
		--randrepeat=1 --gtod_reduce=1 --thinktime=0 \
		--output-format=json --output=$out "$@" ||
		die "$name: fio failed"
	ms=$(jq '.jobs[0] | .read.runtime + .write.runtime' $out)
	ran=$(jq '.jobs[0] | .read.total_ios + .write.total_ios' $out)
	[ "$ran" = "$ios" ] || die "$name: $ran of $ios I/Os"
	[ "$ms" -ge 200 ] || die "$name: $ms ms are too few to be measured"
	echo "$name $((ms * 1000000 / ios))" >>$results
	echo "# $name $((ms * 1000000 / ios))" >&2
}

wanted()
{
	[ -z "$ONLY" ] || [[ $1 =~ $ONLY ]]
}

# hit NAME DEVICE RW
hit()
{
	! wanted "$1" || measure "$1" "$2" "$3" $blocks --norandommap "${@:4}"
}

# synced NAME DEVICE: each write followed by a flush
synced()
{
	! wanted "$1" || measure "$1" "$2" randwrite $blocks --norandommap --fsync=1 \
		"${@:3}"
}

# first NAME DEVICE [OPTIONS]: each block once
first()
{
	measure "$1" "$2" randwrite $blocks --random_generator=lfsr "${@:3}"
}

#----------------------------------------------------------------
# First writes: a new disk each time
#----------------------------------------------------------------

# A chain over a full base
chain_first()
{
	wanted "$1" || return 0
	dd if=/dev/zero of=$first_ram bs=4k count=1 oflag=direct status=none
	dmchain create $first_ram --backing $base_ram --backing-format raw \
		--size $size --force >/dev/null
	dmchain open first $first_ram
	first "$@"
	dmchain close first
}

linear_first()
{
	! wanted "$1" || first "$@"
}

# A writable snapshot of the base, 4 KiB chunks, its exceptions on disk
snapshot_first()
{
	wanted "$1" || return 0
	dd if=/dev/zero of=$cow_ram bs=1M count=1 oflag=direct status=none
	dmsetup create first --table "0 $sectors snapshot $base_ram $cow_ram P 8"
	first "$@"
	dmsetup remove first
}

# A thin disk; blocks of 64 KiB are the smallest there are
pool_make()
{
	dd if=/dev/zero of=$meta_ram bs=1M count=1 oflag=direct status=none
	dmsetup create pool --table "0 $((160 * 2048)) thin-pool $meta_ram $pool_ram 128 0 1 skip_block_zeroing"
	dmsetup message pool 0 "create_thin 0"
}

thin_first()
{
	wanted "$1" || return 0
	pool_make
	dmsetup create first --table "0 $sectors thin /dev/mapper/pool 0 $base_ram"
	first "$@"
	dmsetup remove first
	dmsetup remove pool
}

measure_round()
{
	hit read:linear /dev/mapper/linear randread
	hit read:1-layer /dev/mapper/one randread
	hit read:$deep-top /dev/mapper/deep randread --offset=$((2 * size))
	hit read:$deep-below-128k /dev/mapper/deep randread --offset=$size
	hit read:$deep-below-4k /dev/mapper/deep randread

	hit rewrite:linear /dev/mapper/linear randwrite
	hit rewrite:1-layer /dev/mapper/one randwrite
	hit rewrite:$deep-top /dev/mapper/deep randwrite --offset=$((2 * size))

	synced rewrite+fsync:linear /dev/mapper/linear
	synced rewrite+fsync:1-layer /dev/mapper/one
	synced rewrite+fsync:$deep-top /dev/mapper/deep --offset=$((2 * size))

	linear_first first:linear /dev/mapper/linear
	chain_first first:chain /dev/mapper/first
	snapshot_first first:snapshot /dev/mapper/first
	thin_first first:thin /dev/mapper/first

	linear_first first+fsync:linear /dev/mapper/linear --fsync=1
	chain_first first+fsync:chain /dev/mapper/first --fsync=1
	snapshot_first first+fsync:snapshot /dev/mapper/first --fsync=1
	thin_first first+fsync:thin /dev/mapper/first --fsync=1
}

#----------------------------------------------------------------
# What the gate costs: the same disk, with the module as it is and without it
#----------------------------------------------------------------

# with_module FILE NAME
with_module()
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
	dmsetup remove deep
	for ((round = 1; round <= ROUNDS; round++)); do
		with_module /build/ungated/kmod/dm-chain.ko gate:without
		with_module "$ko" gate:with
	done
}

setup
for ((round = 1; round <= ROUNDS; round++)); do
	echo "# round $round" >&2
	measure_round
done
gate_rounds
echo
echo "Linux $(uname -r), $(fio --version), 4 KiB, queue depth 1, $ROUNDS rounds:"
echo
/src/tests/bench/table.awk $results
