#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug,kcsan long=6.1,debug,kcsan mem=1024 smp=2 timeout=120 group=main
#
# What layers can be and who may have them: a base shared by two disks, whose
# map is in memory once; block devices as layers; raw bases; layers of other
# sizes; 512-byte sectors over 4 KiB blocks.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"

cd "$TMP" || exit 1

layer()		# layer DISK INDEX FIELD
{
	json ".layers[$2].\"$3\"" dmchain info "$1"
}

# --- one base, two disks

run_ok "base" dmchain create base.img --size 256M
run_ok "open" dmchain open d base.img
for at in 0 32 64 96 128 160 192 224; do
	xfs_io -d -c "pwrite -q -S 0x5$((at / 32)) ${at}m 64k" \
		-c "pwrite -q -S 0x6$((at / 32)) $((at * 1024 + 999))k 512" /dev/mapper/d
done
run_ok "close" dmchain close d
for disk in a b; do
	run_ok "a disk on it" dmchain create $disk.img --backing base.img --backing-format chain
done
run_ok "open the first" dmchain open a a.img
once=$(layer a 1 map-bytes)
[ "$once" -gt 0 ]
is $? 0 "the base's map takes memory: $once bytes"
run_ok "open the second" dmchain open b b.img
is "$(layer a 1 map-bytes) $(layer b 1 map-bytes)" "$once $once" "the map is there once"
is "$(layer a 1 users)" '["a","b"]' "and has two users"
is "$(layer b 1 users)" '["a","b"]' "whichever of them one asks"
is "$(losetup -n -O BACK-FILE | grep -c base.img)" 1 "it has one loop device"
refused 3 "base.img" "a writer is refused" dmchain open w base.img
run_ok "a reader is not" dmchain open r base.img --read-only
is "$(layer r 0 users)" '["a","b","r"]' "it is the third user"
xfs_io -d -c "pwrite -q -S 0xaa 0 64k" /dev/mapper/a
xfs_io -d -c "pwrite -q -S 0xbb 1m 64k" /dev/mapper/b
run_ok "the base does not see what they write" cmp -n 65536 /dev/mapper/r \
	<(head -c 65536 /dev/zero | tr '\0' '\120')
is "$(xfs_io -r -d -c 'pread -v 0 512' /dev/mapper/b | head -n 1 | grep -c ' 50 ')" 1 "nor does one see what the other writes"
run_ok "a snapshot of one" dmchain snapshot a=a2.img
is "$(layer b 1 users)" '["a","b","r"]' "changes nothing for the others"
for disk in r a; do
	run_ok "close $disk" dmchain close $disk
done
is "$(layer b 1 users)" '["b"]' "the last user is left"
is "$(layer b 1 map-bytes)" "$once" "with the map"
run_ok "close b" dmchain close b
is "$(losetup -n -l 2>/dev/null)" "" "no loop device is left"
rm -f ./*.img

# --- block devices

modprobe brd rd_nr=2 rd_size=49152 max_part=0
run_ok "brd: create" dmchain create /dev/ram0 --size 16M
run_ok "brd: open" dmchain open d /dev/ram0
run_ok "brd: as the model" iomodel run /dev/mapper/d --model m --ops 300 --max 128K --verify-end
run_ok "brd: snapshot to another one" dmchain snapshot d=/dev/ram1
run_ok "brd: as the model" iomodel run /dev/mapper/d --model m --ops 300 --max 128K --seed 2 --verify-end
is "$(losetup -n -l 2>/dev/null)" "" "brd: no loop devices"
is "$(blockdev --getss /dev/mapper/d)" 512 "brd: sectors of 512 bytes"
run_ok "brd: close" dmchain close d
run_ok "brd: open again" dmchain open d /dev/ram1
run_ok "brd: verify" iomodel verify /dev/mapper/d --model m
run_ok "brd: close" dmchain close d
if pvcreate -qq -y /dev/ram0 2>/dev/null && vgcreate -qq tvg /dev/ram0; then
	for lv in base top; do
		lvcreate -qq -an -L 20M -n $lv tvg && lvchange -qq -ay --noudevsync tvg/$lv
	done
	vgmknodes -qq tvg 2>/dev/null
	run_ok "LV: create" dmchain create /dev/tvg/base --size 8M
	run_ok "LV: open" dmchain open d /dev/tvg/base
	run_ok "LV: snapshot to another one" dmchain snapshot d=/dev/tvg/top
	run_ok "LV: as the model" iomodel run /dev/mapper/d --ops 200 --max 64K --init-from-dev --verify-end
	run_ok "LV: close" dmchain close d
	vgchange -qq -an tvg
else
	skip "LV" "no volume group can be made here"
fi
rm -f m

# --- sizes

yes raw | head -c 3000320 >short.raw	# no multiple of 4 KiB
run_ok "short base: create" dmchain create t.img --backing short.raw --backing-format raw --size 8M
run_ok "short base: open" dmchain open d t.img
run_ok "short base: reads, and zeroes behind it" cmp /dev/mapper/d \
	<(cat short.raw; head -c $((8388608 - 3000320)) /dev/zero)
(cat short.raw; head -c $((8388608 - 3000320)) /dev/zero) >init
run_ok "short base: as the model" iomodel run /dev/mapper/d --init init --ops 600 --max 64K --verify-end
run_ok "short base: close" dmchain close d
rm -f t.img
run_ok "long base: create" dmchain create t.img --backing short.raw --backing-format raw --size 1000448
run_ok "long base: open" dmchain open d t.img
is "$(blockdev --getsize64 /dev/mapper/d)" 1000448 "long base: a size that is no multiple of a block"
head -c 1000448 short.raw >init
run_ok "long base: as the model" iomodel run /dev/mapper/d --init init --ops 400 --max 64K --verify-end
run_ok "long base: snapshot" dmchain snapshot d=t2.img
run_ok "long base: resize" dmchain resize d 4M
is "$(dd if=/dev/mapper/d bs=512 skip=1954 iflag=direct status=none | md5sum)" "$(head -c $(((8192 - 1954) * 512)) /dev/zero | md5sum)" \
	"long base: what grows reads zeroes, not what the base has there"
run_ok "long base: close" dmchain close d
# A short layer between hides what is behind its end
rm -f ./*.img
run_ok "short middle: create" dmchain create m.img --backing short.raw --backing-format raw --size 1M
run_ok "short middle: and a longer one on it" dmchain create t.img --backing m.img --backing-format chain --size 4M
run_ok "short middle: open" dmchain open d t.img
run_ok "short middle: reads" cmp /dev/mapper/d <(head -c 1M short.raw; head -c 3M /dev/zero)
run_ok "short middle: close" dmchain close d
no=$(dmsetup ls --target chain)
is "$no" "No devices found" "nothing is left open"

done_testing
