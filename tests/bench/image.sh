#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# In the VM: a chain in an image file, by way of a loop device with direct I/O, beside
# that loop device alone, one under dm-linear, and direct I/O to a file; all on one ext4.

set -euo pipefail
# shellcheck source=tests/bench/lib.sh
. "$(dirname "$0")/lib.sh"

load_module
modprobe loop
ram_disks 1 1024
dir=/tmp/ext4

# Data is in place, but for first writes: ext4 then has its blocks, too
prepare()
{
	take_ram
	fill "$ram" 1000
	mke2fs -q -t ext4 "$ram"
	mkdir $dir
	mount "$ram" $dir
	fill $dir/plain
	fill $dir/raw
	loop=$(losetup --show --find --direct-io=on $dir/raw)
	dmchain create $dir/full --size $size >/dev/null
	dmchain open full $dir/full
	fill /dev/mapper/full
	dmsetup create linear --table "0 $sectors linear $loop 0"
	[ "$(losetup --list --noheadings --output DIO | sort -u | tr -d ' ')" = 1 ] ||
		die "a loop device goes through the page cache"
}

# beside NAME RW
beside()
{
	hit "$1:loop" "$loop" "$2"
	hit "$1:linear-on-loop" /dev/mapper/linear "$2"
	hit "$1:ext4" $dir/plain "$2"
	hit "$1:chain-on-loop" /dev/mapper/full "$2"
}

first()		# first NAME DEVICE
{
	measure "$1" "$2" randwrite $blocks --random_generator=lfsr
}

# Into new files that are holes; each is removed, so that all find the same free space
firsts()
{
	local new
	if wanted first:loop; then
		truncate -s $size $dir/new
		new=$(losetup --show --find --direct-io=on $dir/new)
		first first:loop "$new"
		losetup -d "$new"
		rm $dir/new
	fi
	if wanted first:ext4; then
		truncate -s $size $dir/new
		first first:ext4 $dir/new
		rm $dir/new
	fi
	if wanted first:chain-on-loop; then
		dmchain create $dir/new --size $size >/dev/null
		dmchain open first $dir/new
		first first:chain-on-loop /dev/mapper/first
		dmchain close first
		rm $dir/new
	fi
}

prepare
for ((round = 1; round <= ROUNDS; round++)); do
	echo "# round $round" >&2
	beside read randread
	beside rewrite randwrite
	firsts
done
tables "4 KiB, queue depth 1, image files on ext4" loop
