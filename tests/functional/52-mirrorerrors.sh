#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug long=6.1,debug mem=1024 smp=2 timeout=300 group=jobs
# allow: Buffer I/O error|I/O error, dev|lost async page write|layer .* failed|job [0-9]+ ended with error
#
# Sides that fail under a mirror: the target at copies, at writes of the guest, at its
# map, its header, for want of space; the source at reads. Each policy does what it
# says; the guest never hears of the target; a copy that lacks anything is not called
# one; and when the side has been mended the mirror goes on.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"

cd "$TMP" || exit 1
mib=2048

# Layers on devices whose parts can be made to fail
devices()
{
	local i
	truncate -s 200M back.img
	back=$(losetup -f --show back.img)
	for i in 0 1 2 3; do
		dmsetup create lay$i --table "0 $((48 * mib)) linear $back $((i * 48 * mib))"
	done
}

# part_is LAYER FIRST-SECTOR SECTORS TARGET...: and it comes back by mended
part_is()
{
	local at=$(($1 * 48 * mib)) end=$((48 * mib))
	dmsetup load lay"$1" <<-END
		0 $2 linear $back $at
		$2 $3 ${*:4}
		$(($2 + $3)) $((end - $2 - $3)) linear $back $((at + $2 + $3))
	END
	dmsetup suspend --noflush lay"$1" && dmsetup resume lay"$1"
}

part_fails()	# part_fails LAYER FIRST-SECTOR SECTORS
{
	part_is "$@" error
}

# part_waits LAYER FIRST-SECTOR SECTORS DEVICE OFFSET: writes, and end up there. On a
# device of its own, so that they count as being under way
part_waits()
{
	local at="$back $(($1 * 48 * mib + $2)) 0"
	dmsetup create slow --table "0 $3 delay $at $4 $5 4000 $at"
	part_is "$1" "$2" "$3" linear /dev/mapper/slow 0
}

mended()
{
	dmsetup load lay"$1" --table "0 $((48 * mib)) linear $back $(($1 * 48 * mib))"
	dmsetup suspend --noflush lay"$1" && dmsetup resume lay"$1"
}

# fill FIRST-MIB COUNT LETTER
fill()
{
	xfs_io -d -c "pwrite -q -S $(printf %d "'$3") -b 1m ${1}m ${2}m" /dev/mapper/d
}

# What the disk reads as, to be compared later
remember()
{
	dd if=/dev/mapper/d of=was bs=1M iflag=direct status=none
}

same()
{
	local out
	out=$(dd if=/dev/mapper/d bs=1M iflag=direct status=none | cmp was - 2>&1)
	is "$out" "" "$1"
}

# 0 and 1 are the disk, 2 is for the copy
stack()
{
	local i
	for i in 0 1 2 3; do
		dd if=/dev/zero of=/dev/mapper/lay$i bs=1M count=3 oflag=direct status=none
	done
	dmchain create /dev/mapper/lay0 --size 32M >/dev/null
	dmchain open d /dev/mapper/lay0
	fill 0 12 a
	dmchain snapshot d=/dev/mapper/lay1 >/dev/null
	fill 8 12 b
	remember
}

job()		# job FIELD: of the last that the kernel has
{
	json "map(select(.error != \"interrupted\"))[-1].$1" dmchain job list d
}

# shellcheck disable=SC2317 # called by wait_for
job_is()
{
	[ "$(job status)" = "$1" ]
}

paused()
{
	wait_for 20 job_is paused
	is $? 0 "$1: it is paused"
}

# Where a chain's data of an offset lies, in sectors
data_at()	# data_at LAYER MIB
{
	echo $(($(od -An -t u8 -j 120 -N 8 /dev/mapper/lay"$1") / 512 + $2 * mib))
}

# The guest writes, flushes and zeroes, and never hears of it
guest()		# guest NAME LETTER MIB
{
	fill "$3" 1 "$2"
	is $? 0 "$1: the guest writes"
	{
		xfs_io -d -c "pwrite -q -S 0x5a $3m 512" -c "fzero $((($3 << 20) + 16384)) 4k" /dev/mapper/d
		blkdiscard -o ${3}M -l 8K /dev/mapper/d
		xfs_io -d -c "pwrite -q -S 0x41 $((($3 << 20) + 12288)) 4k" -c fsync /dev/mapper/d
	} >xfs.out 2>&1
	is "$(cat xfs.out)" "" "$1: it discards and flushes"
	remember
}

marks()
{
	json '.layers[0].marks | join(" ")' dmchain info /dev/mapper/lay2
}

copy_is_disk()
{
	run_ok "$1: cancel" dmchain job cancel d
	is "$(marks)" "" "$1: the copy is complete"
	run_ok "$1: and the disk" dmchain compare /dev/mapper/lay2 was --format-b raw
	run_ok "$1: sound" dmchain check /dev/mapper/lay2
}

devices
stack
dmchain create /dev/mapper/lay2 --size 32M >/dev/null
at=$(data_at 2 10)

# --- the target fails at what is copied

for policy in report ignore; do
	part_fails 2 "$at" 16
	refused 1 "d: mirror failed .*(Input/output|I/O) error" "$policy: the mirror ends" \
		dmchain mirror d /dev/mapper/lay2 --format chain --existing --on-error $policy --json
	is "$(dmsetup table d | grep -c target)" 0 "$policy: the target is detached"
	is "$(marks)" incomplete "$policy: the copy is incomplete"
	same "$policy: the disk is what it was"
	mended 2
done
part_fails 2 "$at" 16
run_ok "stop: it begins" dmchain mirror d /dev/mapper/lay2 --format chain --existing --on-error stop --background
paused stop
is "$(job error)" "Input/output error" "stop: it says why"
guest stop c 10
guest stop c 25
refused 1 "is not ready" "stop: no pivot" dmchain pivot d
mended 2
dmchain job resume d >/dev/null
run_ok "stop: mended, it is ready" dmchain job wait d
copy_is_disk stop

# --- at writes of the guest

for kind in report stop; do
	run_ok "$kind: ready" dmchain mirror d /dev/mapper/lay3 --format chain --on-error $kind
	at3=$(data_at 3 10)
	part_fails 3 "$at3" 16
	guest "$kind, ready" d 10
	if [ $kind = report ]; then
		wait_for 20 job_is concluded
		is "$(job error)" "Input/output error" "report, ready: the job has ended"
		mended 3
		same "report, ready: the disk is what it was"
		dmchain recover d >/dev/null
		is "$(dmsetup table d | grep -c target)" 0 "report, ready: the target is detached"
		run_ok "report, ready: what was missed is copied" dmchain job resume d --wait
	else
		paused "stop, ready"
		guest "stop, paused" e 10
		mended 3
		dmchain job resume d >/dev/null
		run_ok "stop, ready: mended, it is ready again" dmchain job wait d
	fi
	run_ok "$kind, ready: cancel" dmchain job cancel d
	run_ok "$kind, ready: the copy is the disk" dmchain compare /dev/mapper/lay3 was --format-b raw
	dd if=/dev/zero of=/dev/mapper/lay3 bs=1M count=3 oflag=direct status=none
done

# --- its map, or its header: for good

for what in map header; do
	dd if=/dev/zero of=/dev/mapper/lay2 bs=1M count=3 oflag=direct status=none
	run_ok "$what: ready" dmchain mirror d /dev/mapper/lay2 --format chain
	at2=$(($(od -An -t u8 -j 112 -N 8 /dev/mapper/lay2) / 512))
	if [ $what = header ]; then at2=1024; fi
	part_fails 2 "$at2" 8
	if [ $what = header ]; then
		run_fail 1 "header: no pivot" dmchain pivot d
	fi
	guest "$what" f 28
	wait_for 20 job_is concluded
	is $? 0 "$what: the job has ended"
	mended 2
	same "$what: the disk is what it was"
	dmchain recover d >/dev/null
	is "$(json '.layers | length' dmchain info d)" 2 "$what: and stands on what it stood on"
	refused 4 "never completed|not decided" "$what: the copy is refused" dmchain open e /dev/mapper/lay2
	run_ok "$what: it is resumed" dmchain job resume d --wait
	copy_is_disk "$what"
done

# --- the source can't be read

at=$(data_at 0 4)
part_fails 0 "$at" 8
dd if=/dev/zero of=/dev/mapper/lay2 bs=1M count=3 oflag=direct status=none
refused 1 "d: mirror failed .*(Input/output|I/O) error" "source: the mirror ends" dmchain mirror d /dev/mapper/lay2 --format chain --json
run_fail 1 "M5: source, ignore: it ends, and never was ready" \
	dmchain mirror d /dev/mapper/lay2 --format chain --existing --on-error ignore
is "$(marks)" incomplete "M5: source, ignore: the copy is incomplete"
run_fail 1 "source, ignore, compared: it ends, too" timeout 60 \
	dmchain mirror d /dev/mapper/lay2 --format chain --existing --on-error ignore --verify
is "$(marks)" incomplete "source, ignore, compared: the copy is incomplete"
run_ok "source, stop: it begins" dmchain mirror d /dev/mapper/lay2 --format chain --existing --on-error stop --background
paused "source, stop"
mended 0
dmchain job resume d >/dev/null
run_ok "source: mended, it is ready" dmchain job wait d
copy_is_disk source

# --- no space

# Not tmpfs: before 6.6 it has no direct I/O, and then loop devices make an I/O error
# of a lack of space.
mkdir small
truncate -s 128M small.fs
mkfs.ext4 -q -O ^has_journal -m 0 small.fs
mount -o loop small.fs small

# space MIB: so much is left of it
space()
{
	local left
	rm -f small/fill
	left=$(df -B 1K --output=avail small | tail -n 1)
	fallocate -l $((left - $1 * 1024))K small/fill
}

space 12
for format in chain raw; do
	run_ok "$format, full: it begins" dmchain mirror d small/t.img --format $format --on-error enospc --background
	paused "$format, full"
	is "$(job error)" "No space left on device" "$format, full: for want of space"
	guest "$format, full" g 30
	space 78
	# A map that could not be written has failed for good: then another goes on
	dmchain job resume d --wait >/dev/null 2>&1 || dmchain job resume d --wait >/dev/null
	is $? 0 "$format, full: with more space it is ready"
	guest "$format, no longer full" h 31
	run_ok "$format, full: cancel" dmchain job cancel d
	run_ok "$format, full: the copy is the disk" dmchain compare small/t.img was --format-a $format --format-b raw
	rm small/t.img
	space 12
done

# Ready, and then full: what the guest writes has no room there
run_ok "full when ready: it begins" dmchain mirror d small/t.img --format raw --on-error enospc --background
space 30
dmchain job resume d >/dev/null 2>&1
run_ok "full when ready: ready" dmchain job wait d
dd if=/dev/zero of=small/fill bs=1M count=200 status=none 2>/dev/null
sync -f small/fill
guest "full when ready" i 22
guest "full when ready" j 23
rm small/fill
dmchain job resume d >/dev/null 2>&1
run_ok "full when ready: again" dmchain job wait d
run_ok "full when ready: cancel" dmchain job cancel d
cmp small/t.img was
is $? 0 "full when ready: the copy is the disk"
no_violations "the gate refused nothing"
dmchain close d
umount small

# --- a pivot is decided, and before the disk has moved on a side fails

# told FILE NAME: its write is an error
told()
{
	like "$(cat "$1")" "(Input/output|I/O) error" "$2"
}

modprobe dm-delay
dmsetup create err --table "0 $mib error"
stack
run_ok "decided, source: ready" dmchain mirror d /dev/mapper/lay2 --format chain
part_waits 1 "$(data_at 1 28)" $mib /dev/mapper/err 0
# As one request at each side, and in turn
xfs_io -d -c "pwrite -q -S 0x70 -b 64k 28m 64k" /dev/mapper/d >one.out 2>&1 &
xfs_io -d -c "pwrite -q -S 0x71 $(((28 << 20) + 524288)) 512" /dev/mapper/d >turn.out 2>&1 &
wait_for 30 in_flight d 2
is $? 0 "decided, source: two writes are under way"
run_ok "decided, source: pivot" dmchain pivot d
wait
told one.out "decided, source: the guest hears of what only the target has"
told turn.out "decided, source: and of what neither has"
mended 1
dmsetup remove slow
same "decided, source: nothing else has changed"
run_ok "decided, source: close" dmchain close d

stack
run_ok "decided, target: ready" dmchain mirror d /dev/mapper/lay2 --format chain
# In a region that isn't the last one copied, of which all goes to both sides anyway;
# flagged as changed, so that nothing else has to be done at the source then
fill 22 1 c
remember
part_waits 1 1024 8 "$back" $((1 * 48 * mib + 1024))
part_fails 2 "$(data_at 2 20)" 128
dmchain pivot d >/dev/null &
pivot=$!
wait_for 30 in_flight lay1 1
is $? 0 "decided, target: the source is being retired"
xfs_io -d -c "pwrite -q -S 0x70 -b 64k 20m 64k" /dev/mapper/d >missed.out 2>&1 &
wait_for 30 in_flight d 1
is $? 0 "decided, target: what it fails at waits"
xfs_io -d -c "pwrite -q -S 0x71 -b 64k 21m 64k" /dev/mapper/d >alone.out 2>&1
wait $pivot
is $? 0 "decided, target: pivot"
wait
told missed.out "decided, target: the guest hears of it"
told alone.out "decided, target: and of what went to the source alone behind it"
mended 1
mended 2
dmsetup remove slow
same "decided, target: nothing else has changed"
no_violations "decided: the gate refused nothing"
run_ok "decided, target: close" dmchain close d
run_ok "no err" dmsetup remove err

# --- a flush at the target that began long before the pivot, and outlasts it

# shellcheck disable=SC2317 # called by wait_for
retired()
{
	[ "$(json '.layers[0].marks | contains(["retired"])' dmchain info /dev/mapper/lay1)" = true ]
}

# paths DEVICE: it is the first, lay2 the other; which is taken a message says
paths()
{
	echo "0 $((48 * mib)) multipath 2 queue_mode bio 0 2 1" \
		"round-robin 0 1 1 /dev/mapper/$1 1 round-robin 0 1 1 /dev/mapper/lay2 1"
}

if modprobe dm-multipath && modprobe dm-round-robin; then
	stack
	# Only flushes take long there
	dmsetup create slow --table "0 $((48 * mib)) delay /dev/mapper/lay2 0 0 /dev/mapper/lay2 0 0 /dev/mapper/lay2 0 25000"
	dmsetup create two --table "$(paths slow)"
	run_ok "late flush: it begins" dmchain mirror d /dev/mapper/two --format raw --existing --speed 64K --background
	xfs_io -d -s -c "pwrite -q -S 0x72 -b 4k 28m 4k" /dev/mapper/d >late.out 2>&1 &
	late=$!
	wait_for 20 in_flight two 1
	is $? 0 "late flush: a write is at the source, and its flush under way"
	run_ok "late flush: the other path" dmsetup message two 0 switch_group 2
	run_ok "late flush: go on" dmchain job speed d 0
	wait_for 20 job_is ready
	is $? 0 "late flush: ready"
	dmchain pivot d >pivot.out 2>&1 &
	pivot=$!
	wait_for 20 retired
	is $? 0 "late flush: the pivot is decided"
	in_flight two 1
	is $? 0 "late flush: and the flush not at its end"
	wait $pivot
	is $? 0 "late flush: pivot"
	wait $late
	is "$? $(cat late.out)" "0 " "late flush: the guest hears of nothing"
	head -c 4K /dev/zero | tr '\0' r | dd of=was bs=1M seek=28 conv=notrunc status=none
	same "late flush: and the disk is what it was, with that"
	run_ok "late flush: close" dmchain close d
	run_ok "no two" dmsetup remove two
	run_ok "no slow" dmsetup remove slow
else
	skip "late flush" "no multipath in this kernel"
fi

# --- a raw target that has lost what was written to it, and then is well again

# lay2_is TARGET...
lay2_is()
{
	dmsetup load lay2 --table "0 $((48 * mib)) $*"
	dmsetup suspend --noflush lay2 && dmsetup resume lay2
}

modprobe dm-flakey
at="$back $((2 * 48 * mib))"
stack
dmsetup create down --table "0 $((48 * mib)) flakey $at 0 9999"
run_ok "lost flush: ready" dmchain mirror d /dev/mapper/lay2 --format raw --existing --on-error stop
part_fails 2 $((28 * mib)) 8
run_ok "lost flush: the target fails a write, the guest's does not" xfs_io -d -c "pwrite -q -S 0x73 -b 4k 28m 4k" /dev/mapper/d
paused "lost flush"
run_ok "lost flush: flushes fail there" lay2_is delay "$at 0 $at 0 /dev/mapper/down 0 0"
run_ok "lost flush: the guest's does not" xfs_io -d -c fsync /dev/mapper/d
run_ok "lost flush: all is well again" mended 2
run_ok "lost flush: go on" dmchain job resume d
wait_for 20 job_is concluded
is "$(job status) $(job error)" "concluded Input/output error" "lost flush: no trying again helps it"
refused 1 "has ended already" "lost flush: no pivot to it" dmchain pivot d
run_ok "lost flush: close" dmchain close d
run_ok "no down" dmsetup remove down

for i in 0 1 2 3; do
	run_ok "no lay$i" dmsetup remove lay$i
done
losetup -d "$back"
done_testing
