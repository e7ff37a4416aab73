#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# In the VM: writes to what is not there yet, and flushes, beside dm-linear and the
# targets that do copy-on-write. RAM disks have no cache that a flush would have to
# write back, so dm-linear's flushes end above it; null_blk has one.

set -euo pipefail
# shellcheck source=tests/bench/lib.sh
. "$(dirname "$0")/lib.sh"

load_module
ram_disks 80 400
modprobe null_blk nr_devices=0

# Disks that first writes go to: their pages are there, what was on them is not
prepare()
{
	take_rams 5
	base_ram=$ram first_ram=${rams[1]} cow_ram=${rams[2]} pool_ram=${rams[3]} meta_ram=${rams[4]}
	fill "$base_ram"
	fill "$first_ram" 160
	fill "$cow_ram" 160
	fill "$pool_ram" 160
}

# make_cached NAME: 160 MiB with a volatile cache of 64 MiB. Kernels differ in what they
# call it, if NAME is not nullb and a number
make_cached()
{
	local dir=/sys/kernel/config/nullb/$1
	mkdir "$dir"
	echo 1 >"$dir/memory_backed"
	echo 160 >"$dir/size"
	echo 4096 >"$dir/blocksize"
	echo 64 >"$dir/cache_size"
	echo 0 >"$dir/irqmode"
	echo 1 >"$dir/power"
	[ "$(<"/sys/block/$1/queue/write_cache")" = "write back" ] ||
		die "$1 has no cache"
	fill "/dev/$1" 160
}

#----------------------------------------------------------------
# On RAM disks
#----------------------------------------------------------------

# synced NAME DEVICE: each write followed by a flush
synced()
{
	wanted "$1" || return 0
	need "$2"
	measure "$1" "$2" randwrite $blocks --norandommap --fsync=1
}

# first NAME DEVICE [OPTIONS]: each block once
first()
{
	measure "$1" "$2" randwrite $blocks --random_generator=lfsr "${@:3}"
}

# chain_over DISK: a new chain on DISK, over a full base
chain_over()
{
	dd if=/dev/zero of="$1" bs=4k count=1 oflag=direct status=none
	dmchain create "$1" --backing "$base_ram" --backing-format raw \
		--size $size --force >/dev/null
	dmchain open first "$1"
}

chain_first()
{
	wanted "$1" || return 0
	chain_over "$first_ram"
	first "$@"
	dmchain close first
}

linear_first()
{
	wanted "$1" || return 0
	need "$2"
	first "$@"
}

# A writable snapshot of the base, 4 KiB chunks, its exceptions on disk
snapshot_first()
{
	wanted "$1" || return 0
	dd if=/dev/zero of="$cow_ram" bs=1M count=1 oflag=direct status=none
	dmsetup create first --table "0 $sectors snapshot $base_ram $cow_ram P 8"
	first "$@"
	dmsetup remove first
}

# A thin disk; blocks of 64 KiB are the smallest there are
pool_make()
{
	dd if=/dev/zero of="$meta_ram" bs=1M count=1 oflag=direct status=none
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

#----------------------------------------------------------------
# On devices with a cache: how many writes and flushes they see, too
#----------------------------------------------------------------

# Writes, sectors written and flushes that a device has completed
device_ios()
{
	awk '{ print $5, $7, $16 }' "/sys/block/$1/stat"
}

# counted NAME NULLB COMMAND...: for each of the guest's writes, which has a flush
counted()
{
	local name=$1 disk=$2 before
	shift 2
	before=$(device_ios "$disk")
	"$@"
	[ "$before" != "$(device_ios "$disk")" ] || die "$name: $disk has counted nothing"
	echo "$name $before $(device_ios "$disk") $blocks" >>/tmp/counts
}

linear_cached()	# linear_cached NAME COMMAND [OPTIONS]
{
	wanted "$1" || return 0
	dmsetup create cached --table "0 $sectors linear /dev/nullb0 0"
	counted "$1" nullb0 "$2" "$1" /dev/mapper/cached "${@:3}"
	dmsetup remove cached
}

chain_cached()	# chain_cached NAME COMMAND [OPTIONS]
{
	wanted "$1" || return 0
	chain_over /dev/nullb1
	[ "$2" = first ] || fill /dev/mapper/first
	counted "$1" nullb1 "$2" "$1" /dev/mapper/first "${@:3}"
	dmchain close first
}

cached_round()
{
	linear_cached first+fsync-cached:linear first --fsync=1
	limit=1.5
	chain_cached first+fsync-cached:chain first --fsync=1
	limit=
	linear_cached rewrite+fsync-cached:linear synced
	chain_cached rewrite+fsync-cached:chain synced
}

counts()
{
	[ -e /tmp/counts ] || return 0
	echo
	echo "What the device sees of a write and a flush of the guest (a flush without data"
	echo "counts as a write, too):"
	echo
	awk 'BEGIN { printf "%-22s %-15s %9s %8s %8s\n", "workload", "target", "writes", "KiB", "flushes" }
	{
		split($1, name, ":")
		printf "%-22s %-15s %9.2f %8.2f %8.2f\n", name[1], name[2], ($5 - $2) / $8,
			($6 - $3) / 2 / $8, ($7 - $4) / $8
	}' /tmp/counts | awk '!seen[$0]++'
}

#----------------------------------------------------------------

measure_round()
{
	synced rewrite+fsync:linear /dev/mapper/linear
	synced rewrite+fsync:1 /dev/mapper/one
	synced rewrite+fsync:64 /dev/mapper/64

	linear_first first:linear /dev/mapper/linear
	chain_first first:chain /dev/mapper/first
	snapshot_first first:snapshot /dev/mapper/first
	thin_first first:thin /dev/mapper/first

	linear_first first+fsync:linear /dev/mapper/linear --fsync=1
	limit=1.5
	chain_first first+fsync:chain /dev/mapper/first --fsync=1
	limit=
	snapshot_first first+fsync:snapshot /dev/mapper/first --fsync=1
	thin_first first+fsync:thin /dev/mapper/first --fsync=1

	cached_round
}

prepare
make_cached nullb0
make_cached nullb1
for ((round = 1; round <= ROUNDS; round++)); do
	echo "# round $round" >&2
	measure_round
done
tables "4 KiB, queue depth 1"
counts
