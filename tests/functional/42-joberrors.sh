#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug long=6.1,6.12,debug mem=1024 smp=2 timeout=300 group=jobs
# allow: Buffer I/O error|I/O error, dev|lost async page write|layer .* failed|job [0-9]+ ended with error
#
# Layers that fail under a job: reads of a source, writes of data, map and header
# at the target, no space. Each policy does what it says, the disk reads right
# all the time, no write of the guest fails for the job's sake, and when the
# layer has been mended the job goes on to its end.

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

# part_fails LAYER FIRST-SECTOR SECTORS: and it comes back by mended
part_fails()
{
	local at=$(($1 * 48 * mib)) end=$((48 * mib))
	dmsetup load lay"$1" <<-END
		0 $2 linear $back $at
		$2 $3 error
		$(($2 + $3)) $((end - $2 - $3)) linear $back $((at + $2 + $3))
	END
	dmsetup suspend --noflush lay"$1" && dmsetup resume lay"$1"
}

mended()
{
	dmsetup load lay"$1" --table "0 $((48 * mib)) linear $back $(($1 * 48 * mib))"
	dmsetup suspend --noflush lay"$1" && dmsetup resume lay"$1"
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

# stack [LAYERS]: three, or two, with data of their own, in the same and in other places
stack()
{
	local i
	for i in 0 1 2 3; do
		dd if=/dev/zero of=/dev/mapper/lay$i bs=1M count=3 oflag=direct status=none
	done
	dmchain create /dev/mapper/lay0 --size 32M >/dev/null
	dmchain open d /dev/mapper/lay0
	fill d 0 8 a
	dmchain snapshot d=/dev/mapper/lay1 >/dev/null
	fill d 4 12 b
	if [ "${1-3}" = 3 ]; then
		dmchain snapshot d=/dev/mapper/lay2 >/dev/null
		fill d 20 4 c
	fi
	remember
}

layers()
{
	json '[.layers[].path | sub(".*lay"; "")] | join(" ")' dmchain info d
}

paused()
{
	[ "$(json '.[-1] | .status + (.error // "")' dmchain job list d)" != running ] &&
		dmchain job list d --json | jq -e '.[-1].status == "paused" and .[-1].error != null' >/dev/null
}

# Where a layer's data of an offset lies, in sectors
data_at()	# data_at LAYER MIB
{
	echo $(($(od -An -t u8 -j 120 -N 8 /dev/mapper/lay"$1") / 512 + $2 * mib))
}

devices

# --- a source can't be read

stack
at=$(data_at 1 10)
part_fails 1 "$at" 8
refused 1 "d: stream .*(Input/output|I/O) error" "report: the stream ends" dmchain stream d
is "$(layers)" "2 1 0" "no layer is gone"
mended 1
same "the disk is what it was"
part_fails 1 "$at" 8
run_ok "stop: it begins" dmchain stream d --on-error stop --background
wait_for 20 paused
is $? 0 "and is paused for an error"
is "$(json '.[-1] | [.error, .errors] | join(" ")' dmchain job list d)" "Input/output error 1" "which it tells"
dmchain job resume d >/dev/null
wait_for 20 sh -c 'dmchain job list d --json | jq -e ".[-1].errors == 2"'
is $? 0 "resumed, it meets it again"
mended 1
run_ok "mended, it is resumed" dmchain job resume d
run_ok "and ends" dmchain job wait d
is "$(layers)" "2" "one layer is left"
same "the disk is what it was"
dmchain close d

stack
part_fails 1 "$(data_at 1 10)" 8
run_fail 1 "ignore: it goes on, and ends with the error" dmchain stream d --on-error ignore
is "$(layers)" "2 1 0" "no layer is gone"
mended 1
same "the disk is what it was"
run_ok "enospc: not of that kind" dmchain stream d --on-error enospc
is "$(layers)" "2" "mended, it ends"
same "the disk is what it was"
dmchain close d

# --- the target can't be written

stack
part_fails 0 "$(data_at 0 12)" 16
refused 1 "d: commit .*(Input/output|I/O) error" "report: the commit ends" dmchain commit d --top 1 --base 2
is "$(layers)" "2 1 0" "no layer is gone"
is "$(dmsetup table d | grep -o 'chain rw' | wc -l)" 1 "C8: it has failed: only the top is open for writing"
same "the disk is what it was"
run_fail 1 "C9: ignore: it goes on, and ends with the error" dmchain commit d --top 1 --base 2 --on-error ignore
is "$(layers)" "2 1 0" "C9: ignore: no layer is gone"
same "C9: ignore: the disk is what it was"
run_ok "stop: it begins" dmchain commit d --top 1 --base 2 --on-error stop --background
wait_for 20 paused
is $? 0 "and is paused for an error"
same "the disk is what it was"
mended 0
dmchain job resume d >/dev/null
run_ok "mended, it ends" dmchain job wait d
is "$(layers)" "2 0" "the layer is gone"
same "the disk is what it was"
run_ok "close" dmchain close d
run_ok "check of the base" dmchain check /dev/mapper/lay0
dmchain open d /dev/mapper/lay2
same "opened again, too"
dmchain close d

# --- the target's map, or a header, can't be written: for good

for what in map header; do
	stack
	at=$(($(od -An -t u8 -j 112 -N 8 /dev/mapper/lay0) / 512))
	if [ $what = header ]; then at=1024; fi
	dmchain commit d --top 1 --base 2 --speed 1M --background >/dev/null
	sleep 0.5
	part_fails 0 "$at" 8
	dmchain job speed d 0 >/dev/null
	run_fail 1 "$what: the commit ends with an error" dmchain job wait d
	mended 0
	same "$what: the disk is what it was"
	echo x | dd of=/dev/mapper/d bs=4k seek=7000 conv=sync,fsync oflag=direct status=none
	is $? 0 "$what: the guest writes on"
	remember
	run_ok "$what: close" dmchain close d
	run_ok "$what: open" dmchain open d /dev/mapper/lay2 --force
	same "$what: all is there"
	if dmchain job list d --json | jq -e 'any(.[]; .error == "interrupted")' >/dev/null; then
		run_ok "$what: the commit is resumed" dmchain job resume d --wait
	fi
	same "$what: and the disk is what it was"
	dmchain close d
done

# --- no space

# Not a tmpfs: a loop device of 6.1 does no direct I/O there, and says EIO then
truncate -s 128M small.fs
mkfs.ext4 -q -O ^has_journal -m 0 small.fs && mkdir small && mount -o loop small.fs small ||
	fail "a file system"
room()		# room MIB: so much is free there
{
	rm -f small/ballast
	sync -f small
	fallocate -l $(($(stat -f -c '%a * %S' small) - ($1 << 20))) small/ballast || fail "ballast"
}
room 12
space()
{
	dmchain create small/base.img --size 64M >/dev/null
	dmchain create top.img --backing small/base.img --backing-format chain >/dev/null
	dmchain open d top.img
	fill d 0 24 e
	remember
}
space
dmchain snapshot d=next.img >/dev/null
refused 1 "small/base.img: .*(missing|free|space)" "a commit that has no space is refused" dmchain commit d --top 1
for policy in report ignore; do
	run_fail 1 "C9: no space, $policy: it ends" dmchain commit d --top 1 --force --on-error $policy
	is "$(json '.layers | length' dmchain info d)" 3 "C9: no space, $policy: no layer is gone"
	same "C9: no space, $policy: the disk is what it was"
done
run_ok "forced, it begins" dmchain commit d --top 1 --force --on-error enospc --background
wait_for 30 paused
is $? 0 "enospc: it is paused"
is "$(json '.[-1].error' dmchain job list d)" "No space left on device" "for want of space"
same "the disk is what it was"
room 60
dmchain job resume d >/dev/null
run_ok "with more space it ends" dmchain job wait d
same "the disk is what it was"
run_ok "close" dmchain close d
run_ok "check" dmchain check small/base.img
rm -f small/base.img top.img next.img

# The base of an active commit is full: the guest doesn't notice
room 12
space
run_ok "an active commit begins" dmchain commit d --force --on-error enospc --background
wait_for 30 paused
is $? 0 "and is paused"
fill d 40 8 f
is $? 0 "what the guest writes to where the base would take it is written"
xfs_io -d -c "fpunch 2m 1m" -c "pwrite -q -S 0x5a 44m 100k" -c fsync /dev/mapper/d
is $? 0 "so are discards, and flushes"
remember
room 90
dmchain job resume d >/dev/null
wait_for 30 sh -c 'dmchain job list d --json | jq -e ".[-1].status == \"ready\""'
is $? 0 "with more space it is ready"
run_ok "pivot" dmchain pivot d
same "the disk is what it was"
dmchain close d
dmchain open d small/base.img
same "opened again, too"
no_violations "the gate refused nothing"
dmchain close d
umount small
rm small.fs

# --- The base is lost while an active commit is cancelled: no flush says that all is well

modprobe dm-delay
modprobe dm-flakey
stack 2
run_ok "cancelled: an active commit" dmchain commit d --speed 64K --background --force
xfs_io -d -c "pwrite -q -S 0x71 1m 4k" /dev/mapper/d
is $? 0 "cancelled: a write, to the base"
# Flushes of the base take 4 s, then they and writes fail; those of the top take 8
dmsetup create down --table "0 $((48 * mib)) flakey $back 0 0 9999"
dmsetup load lay0 --table "0 $((48 * mib)) delay $back 0 0 /dev/mapper/down 0 0 /dev/mapper/down 0 4000"
dmsetup suspend --noflush lay0 && dmsetup resume lay0
at="$back $((48 * mib))"
dmsetup load lay1 --table "0 $((48 * mib)) delay $at 0 $at 0 $at 8000"
dmsetup suspend --noflush lay1 && dmsetup resume lay1
dmchain job cancel d >cancel.out 2>&1 &
sleep 2
run_fail any "cancelled: a flush that began before that was known" xfs_io -c fsync /dev/mapper/d
like "$(status_of d)" "^failed " "cancelled: the disk has failed"
wait
mended 0
mended 1
dmchain close d
dmsetup remove down

for i in 0 1 2 3; do
	run_ok "no lay$i" dmsetup remove lay$i
done
losetup -d "$back"
done_testing
