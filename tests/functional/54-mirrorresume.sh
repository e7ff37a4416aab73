#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug long=6.1,debug mem=1024 smp=2 timeout=300 group=jobs
#
# A mirror from a chain to a chain that was cancelled, or whose disk was closed, goes
# on where it was: it copies what is left, and where the disk has been written since,
# and nothing else. If that can't be known it begins anew.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"
. "$(dirname "$0")/../lib/jobs.sh"

cd "$TMP" || exit 1

stack_large()
{
	rm -f ./*.img
	dmchain create 0.img --size 64M >/dev/null
	dmchain open d 0.img
	yes "a region" | dd of=/dev/mapper/d bs=1M count=64 iflag=fullblock oflag=direct status=none
}

copied()	# copied MIB
{
	[ "$(json '.[-1]."current-progress"' dmchain job list d)" -ge $(($1 << 20)) ]
}

spot()		# spot MIB LETTER: 4 KiB there
{
	head -c 4096 /dev/zero | tr '\0' "$2" |
		dd of=/dev/mapper/d bs=4k seek=$(($1 * 256)) oflag=direct status=none
}

copy_is_disk()	# copy_is_disk NAME
{
	run_ok "$1: cancel" dmchain job cancel d
	cmp <(dmchain info t.img --json | jq -c '.layers[0].marks') <(echo '[]')
	is $? 0 "$1: the copy is complete"
	dd if=/dev/mapper/d of=now bs=1M iflag=direct status=none
	run_ok "$1: and the disk" dmchain compare t.img now --format-b raw
	run_ok "$1: sound" dmchain check t.img
}

stack_large
dmchain mirror d t.img --format chain --speed 16M --background >/dev/null
wait_for 30 copied 24
spot 1 x
run_ok "in the middle: cancel" dmchain job cancel d
is "$(json '.[] | select(.error == "interrupted") | [.type, .status] | join(" ")' dmchain job list d)" "mirror paused" \
	"it can go on"
spot 5 y
spot 60 z
xfs_io -d -c "fpunch 9m 1m" /dev/mapper/d
run_ok "close" dmchain close d
run_ok "open" dmchain open d 0.img
like "$(output)" "unfinished mirror .*dmchain job resume d" "it says so"
spot 13 w
run_ok "it is resumed" dmchain job resume d --wait
# At most what was not there, and the regions of 4 MiB that were written
left=$(json '.[-1]."total-progress"' dmchain job list d)
[ "$left" -le $((64 - 20 + 4 * 4 << 20)) ] && [ "$left" -ge $((24 << 20)) ]
is $? 0 "it had the rest and the changes to do ($((left >> 20)) MiB)"
copy_is_disk "resumed"
is "$(json '.layers[0].marks | join(" ")' dmchain info d)" in-use "nothing is left of it"

# Ready and cut off: nothing but what was written then
run_ok "begun anew, to another" dmchain mirror d t2.img --format chain
spot 33 v
run_ok "close" dmchain close d
dmchain open d 0.img 2>/dev/null
run_ok "resumed" dmchain mirror d t2.img --format chain --existing
is "$(json '.[-1]."total-progress"' dmchain job list d)" $((4 << 20)) "one region was copied"

# What begins in a region of 4 MiB that is flagged already, and reaches into others
run_ok "across: close" dmchain close d
dmchain open d 0.img 2>/dev/null
spot 49 u
spot 17 t
spot 37 s
xfs_io -d -c "pwrite -q -S 0x72 -b 64k $(((52 << 20) - 32768)) 64k" /dev/mapper/d
blkdiscard -o 18M -l 7M /dev/mapper/d
xfs_io -d -c "fzero 39m 2m" /dev/mapper/d
run_ok "across: close again" dmchain close d
dmchain open d 0.img 2>/dev/null
run_ok "across: resumed" dmchain mirror d t2.img --format chain --existing
is "$(json '.[-1]."total-progress"' dmchain job list d)" $((7 * 4 << 20)) "across: seven regions were copied"
mv t2.img t.img
copy_is_disk "resumed when it was ready"

# Nobody can go on with what was written by others, or is no longer what it was
run_ok "to a third" dmchain mirror d t3.img --format chain --speed 1M --background
run_ok "cancel" dmchain job cancel d
run_ok "a snapshot" dmchain snapshot d=top.img
is "$(json 'map(select(.error == "interrupted")) | length' dmchain job list d)" 0 "its record is gone"
run_ok "mirror of what is there now" dmchain mirror d t3.img --format chain --existing
like "$(output)" "begins anew" "which begins anew"
mv t3.img t.img
copy_is_disk "anew"
run_ok "to a fourth" dmchain mirror d t4.img --format chain --speed 1M --background
run_ok "cancel" dmchain job cancel d
run_ok "and forget it" dmchain job cancel d
is "$(json 'map(select(.error == "interrupted")) | length' dmchain job list d)" 0 "it is gone"
is "$(json '.layers[0].marks | join(" ")' dmchain info d)" in-use "its mark, too"
dmchain close d

# --- a copy that a pivot has made the disk, though its own header doesn't say so yet

prepared()	# prepared JOB: as a cut before the last step of the pivot leaves it
{
	headeredit t.img set both marks=16 job="$1" coordinator="$(headeredit 0.img get 0 uuid)" \
		child_path="$PWD/0.img"
}

rm -f ./*.img
dmchain create 0.img --size 8M >/dev/null
dmchain open d 0.img
fill d 0 8 a
run_ok "cut in a pivot: mirror" dmchain mirror d t.img --format chain
run_ok "cut in a pivot: pivot" dmchain pivot d
run_ok "cut in a pivot: close" dmchain close d
prepared "$(headeredit 0.img get 0 job)"
before=$(sums t.img)
dmchain create other.img --size 8M >/dev/null
dmchain open other other.img
refused 4 "a pivot has made a disk of it" "cut in a pivot: it is nobody's target" \
	dmchain mirror other t.img --format chain --existing
mv 0.img elsewhere
refused 4 "whether it did tells layer" "cut in a pivot: nor if that can't be known" \
	dmchain mirror other t.img --format chain --existing
mv elsewhere 0.img
is "$(sums t.img)" "$before" "cut in a pivot: it is what it was"
run_ok "cut in a pivot: it opens" dmchain open d t.img
holds /dev/mapper/d 0 8 a "cut in a pivot: and is the disk"
dmchain close d
prepared "$(printf '%032x' 7)"
run_ok "prepared and not decided: a target" dmchain mirror other t.img --format chain --existing
like "$(output)" "begins anew" "prepared and not decided: which begins anew"
run_ok "close" dmchain close other

# --- the map of what is there is damaged: that is not there, and can't be copied there

stack_large
dmchain mirror d t5.img --format chain --speed 16M --background >/dev/null
wait_for 30 copied 24
run_ok "damaged: cancel" dmchain job cancel d
at=$(($(od -An -t u8 -j 112 -N 8 t5.img) + 512))
dd if=/dev/urandom of=t5.img bs=512 count=1 seek=$((at / 512)) conv=notrunc status=none
refused 1 "(Input/output|I/O) error" "damaged: it goes on, and ends with an error" \
	dmchain mirror d t5.img --format chain --existing
run_fail any "damaged: what there is of the copy is no disk" dmchain open e t5.img
run_ok "damaged: close" dmchain close d

# --- written while the map of a layer below has not been read

rm -f ./*.img
truncate -s 160M back
back=$(losetup -f --show back)
dmsetup create lay0 --table "0 $(blockdev --getsz "$back") linear $back 0"
dmchain create /dev/mapper/lay0 --size 64M >/dev/null
dmchain open d /dev/mapper/lay0
fill d 0 64 a
dmchain snapshot d=top.img >/dev/null
run_ok "below unread: mirror" dmchain mirror d t.img --format chain
run_ok "below unread: close" dmchain close d
at=$(($(od -An -t u8 -j 112 -N 8 /dev/mapper/lay0) / 512))
# Its two groups are read from a device that stands still; flushes pass
modprobe dm-delay
dmsetup create still --table "0 16 linear $back $at"
dmsetup load lay0 <<-END
	0 $at linear $back 0
	$at 16 delay /dev/mapper/still 0 0 $back $at 0
	$((at + 16)) $(($(blockdev --getsz "$back") - at - 16)) linear $back $((at + 16))
END
dmsetup suspend --noflush lay0 && dmsetup resume lay0
dmsetup suspend --nolockfs still
run_ok "below unread: open" dmchain open d top.img
xfs_io -d -c "pwrite -q -S 0x62 -b 64k 9m 64k" /dev/mapper/d &
xfs_io -d -c "pwrite -q -S 0x63 17m 512" /dev/mapper/d &
blkdiscard -f -o 25M -l 1M /dev/mapper/d 2>/dev/null &
wait_for 30 in_flight d 3
is $? 0 "below unread: three writes wait"
like "$(status_of d)" 'unread=[1-9]' "below unread: for the map"
dmsetup resume still
wait
run_ok "below unread: resumed" dmchain job resume d --wait
is "$(json '.[-1]."total-progress"' dmchain job list d)" $((12 << 20)) "below unread: three regions were copied"
copy_is_disk "below unread"
run_ok "below unread: close" dmchain close d
dmsetup remove lay0
dmsetup remove still
losetup -d "$back"
rm back

# --- under load: cut off at many moments, and resumed each time

rm -f ./*.img m
dmchain create 0.img --size 32M >/dev/null
dmchain open d 0.img
write --ops 300 --seed $((++seed))
rounds=3
[ -z "${LONG-}" ] || rounds=20
dmchain mirror d t.img --format chain --speed 200K --background >/dev/null
for ((i = 1; i <= rounds; i++)); do
	write --ops 60 --seed $((++seed)) --verify-end
	run_ok "cut off, $i: cancel" dmchain job cancel d
	write --ops 20 --seed $((++seed)) --verify-end
	if [ $((i % 2)) = 0 ]; then
		dmchain close d
		dmchain open d 0.img 2>/dev/null
		write --ops 20 --seed $((++seed)) --verify-end
	fi
	run_ok "cut off, $i: it goes on" dmchain mirror d t.img --format chain --existing --speed 200K --background
done
dmchain job speed d 0 >/dev/null
run_ok "cut off: wait" dmchain job wait d
write --ops 60 --seed $((++seed)) --verify-end
copy_is_disk "cut off"
run_ok "cut off: the copy is the model" dmchain compare t.img m --format-b raw
run_ok "cut off: the disk is" iomodel verify /dev/mapper/d --model m
no_violations "the gate refused nothing"
dmchain close d

done_testing_jobs
