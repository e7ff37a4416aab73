#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug mem=1024 smp=2 timeout=300
#
# Space that the guest discards goes back to the store, of the top's data and nothing
# else: not what other blocks have, not what lower layers have, not where zeroes were
# written by somebody who wants to keep the space.

. "$(dirname "$0")/../lib/tap.sh"

cd "$TMP" || exit 1
load_module

kib()		# kib FILE: what it takes, with its map
{
	sync /dev/mapper/d
	du -k "$1" | cut -f 1
}

# gives NAME LOW HIGH COMMAND...: top.img takes so much less then, in KiB
gives()
{
	local name=$1 low=$2 high=$3 before after
	shift 3
	before=$(kib top.img)
	run_ok "$name" "$@"
	after=$(kib top.img)
	if [ $((before - after)) -ge "$low" ] && [ $((before - after)) -le "$high" ]; then
		ok "$name: $((before - after)) KiB"
	else
		fail "$name: space" "expected $low to $high KiB less than $before, saw $after"
	fi
}

# zeroed OFFSET LENGTH: so the plain file should read
zeroed()
{
	fallocate -p -o "$1" -l "$2" plain
}

same()		# same NAME
{
	echo 3 >/proc/sys/vm/drop_caches
	run_ok "$1: as a plain file" cmp plain /dev/mapper/d
}

zero_all()	# zero_all BLOCK: a discard as a guest makes it, MiB 4 to 20
{
	blkdiscard -o 4M -l 16M /dev/mapper/d
}

for block in 4K 64K 1M; do
	bytes=$(numfmt --from=iec $block)
	rm -f ./*.img plain
	head -c 32M /dev/urandom >base.img
	cp base.img plain
	base=$(sha256sum <base.img) base_kib=$(du -k base.img)
	run_ok "$block: create" dmchain create top.img --backing base.img --backing-format raw \
		--block-size $block
	run_ok "$block: open" dmchain open d top.img
	head -c 24M /dev/urandom >data
	dd if=data of=/dev/mapper/d bs=1M oflag=direct status=none
	dd if=data of=plain bs=1M conv=notrunc status=none

	gives "$block: a discard" 16384 16384 zero_all
	zeroed 4M 16M
	same "$block: a discard"
	gives "$block: the same again" 0 0 zero_all
	same "$block: the same again"

	# What is covered in part stays
	first=$((((1 << 20) + 512 + bytes - 1) / bytes * bytes))
	last=$((((3 << 20) + 512) / bytes * bytes))
	gives "$block: no whole block at its ends" $(((last - first) >> 10)) $(((last - first) >> 10)) \
		blkdiscard -o $(((1 << 20) + 512)) -l $((2 << 20)) /dev/mapper/d
	zeroed $first $((last - first))
	same "$block: no whole block at its ends"

	# Nor if the discard comes from a device that begins amid a block
	dmsetup create part --table "0 $((30 << 11)) linear /dev/mapper/d 3"
	at=$(((20 << 20) + 3 * 512))
	first=$(((at + bytes - 1) / bytes * bytes))
	last=$(((at + (3 << 20)) / bytes * bytes))
	gives "$block: a device that begins amid a block" $(((last - first) >> 10)) \
		$(((last - first) >> 10)) blkdiscard -o 20M -l 3M /dev/mapper/part
	dmsetup remove part
	zeroed $first $((last - first))
	same "$block: a device that begins amid a block"

	# Blocks that the top has, and some that only the base has
	gives "$block: data and none" 1024 1024 blkdiscard -o 23M -l 5M /dev/mapper/d
	zeroed 23M 5M
	same "$block: data and none"

	# One block has data, the next one none
	for ((i = 0; i < 8; i += 2)); do
		at=$(((4 << 20) / bytes + i))
		dd if=data of=/dev/mapper/d bs=$block seek=$at count=1 oflag=direct status=none
		dd if=data of=plain bs=$block seek=$at count=1 conv=notrunc status=none
	done
	same "$block: written again"
	gives "$block: each other block" $((4 * bytes / 1024)) $((4 * bytes / 1024)) zero_all
	zeroed 4M 16M
	same "$block: each other block"

	# BLKZEROOUT keeps the space, a hole in the device gives it back
	dd if=data of=/dev/mapper/d bs=1M seek=8 count=8 oflag=direct status=none
	gives "$block: zeroes that keep the space" 0 0 blkdiscard -z -o 8M -l 4M /dev/mapper/d
	dd if=data of=/dev/mapper/d bs=1M seek=8 count=8 oflag=direct status=none
	gives "$block: zeroes that need not" 4096 4096 fallocate -p -o 12M -l 4M /dev/mapper/d
	dd if=data of=plain bs=1M seek=8 count=4 conv=notrunc status=none
	zeroed 12M 4M
	same "$block: zeroes that need not"

	# All is durable, and stays so
	run_ok "$block: close" dmchain close d
	run_ok "$block: check" dmchain check top.img
	run_ok "$block: open again" dmchain open d top.img
	same "$block: opened again"

	# Of a frozen layer nothing is given back
	cp plain frozen
	run_ok "$block: snapshot" dmchain snapshot d=next.img
	frozen_kib=$(kib top.img)
	dd if=data of=/dev/mapper/d bs=1M count=8 oflag=direct status=none
	with=$(kib next.img)
	run_ok "$block: discard all" blkdiscard /dev/mapper/d
	without=$(kib next.img)
	[ $((with - without)) -ge 8192 ] && ok "$block: the new top gives its space back" ||
		fail "$block: the new top gives its space back" "expected 8192 KiB less than $with, saw $without"
	zeroed 0 32M
	same "$block: nothing is there"
	is "$(kib top.img)" "$frozen_kib" "$block: the frozen layer takes what it took"
	run_ok "$block: close" dmchain close d
	is "$(sha256sum <base.img) $(du -k base.img)" "$base $base_kib" "$block: the base is what it was"
	run_ok "$block: an overlay of the frozen layer" dmchain create look.img --backing top.img \
		--backing-format chain
	run_ok "$block: open it" dmchain open look look.img
	run_ok "$block: the frozen layer has what it had" cmp frozen /dev/mapper/look
	dmchain close look
done
done_testing
