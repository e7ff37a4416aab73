#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug long=6.1,debug mem=1024 smp=2 timeout=600 group=jobs
#
# What a commit of lower layers leaves: its top still shows what it did, by way of
# its record, and may become a disk of its own. Nothing that is done with that disk
# may be seen at the one that went on above the base, nor lock either of them out.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"
. "$(dirname "$0")/../lib/jobs.sh"

cd "$TMP" || exit 1

# contents DISK
contents()
{
	dd if=/dev/mapper/"$1" bs=1M iflag=direct status=none | sha256sum
}

# Layers 0 to 2 merged into 0, 3 above that; then 2, merged, is opened as e
merged()	# merged NAME
{
	rm -f ./*.img
	dmchain create 0.img --size 8M >/dev/null
	dmchain open d 0.img
	fill d 0 1 a
	fill d 2 1 a
	dmchain snapshot d=1.img >/dev/null
	fill d 1 1 b
	dmchain snapshot d=2.img >/dev/null
	fill d 2 1 c
	range=$(contents d)
	dmchain snapshot d=3.img >/dev/null
	fill d 3 1 d
	above=$(contents d)
	run_ok "$1: commit" dmchain commit d --top 1 --base 3
	is "$(contents d)" "$above" "$1: the disk is what it was"
	run_ok "$1: close" dmchain close d
	run_ok "$1: the range's top is freed" dmchain unseal 2.img
	run_ok "$1: and opens" dmchain open e 2.img
	is "$(contents e)" "$range" "$1: as what it was"
}

merged "into the same base"
fill e 0 1 X
mine=$(contents e)
run_ok "a layer above it" dmchain snapshot e=4.img
refused 3 "has other children" "to merge it again would lose the first disk" dmchain commit e --top 1 --base 3
run_ok "which can be forced" dmchain commit e --top 1 --base 3 --force
is "$(contents e)" "$mine" "its disk is what it was"
dmchain close e
refused 4 "was modified" "the first disk is refused: its base has changed" dmchain open d 3.img
run_ok "the other one opens" dmchain open e 4.img
is "$(contents e)" "$mine" "and is what it was"
dmchain close e

merged "into the same base, active"
fill e 0 1 X
mine=$(contents e)
run_ok "active: a commit into the same base" dmchain commit e --base 2 --force
is "$(contents e)" "$mine" "active: the base is the disk"
dmchain close e
refused 4 "was modified" "active: the first disk is refused" dmchain open d 3.img
refused 4 "was modified" "active: so is the old top" dmchain open e 2.img

merged "streams"
fill e 0 1 X
mine=$(contents e)
refused 3 "emptied by a commit" "stream down to the commit's base" dmchain stream e --base 2
refused 3 "emptied by a commit" "stream into an emptied layer" dmchain stream e --into 1
is "$(contents e)" "$mine" "the disk is what it was"
dmchain close e
run_ok "and opens" dmchain open e 2.img
is "$(contents e)" "$mine" "as it was"
run_ok "stream of all of it" dmchain stream e
dmchain close e
run_ok "it needs no other layer" dmchain open e 2.img
is "$(contents e)" "$mine" "and is what it was"
dmchain close e
run_ok "the first disk opens" dmchain open d 3.img
is "$(contents d)" "$above" "and is what it was"
dmchain close d

# --- the command that lets go of what a job has dropped is killed with a table loaded

killed_with_table()	# killed_with_table COMMAND...: what would look to the end
{
	dmchain create k0.img --size 8M >/dev/null
	dmchain open k k0.img
	fill k 0 1 k
	for i in 1 2 3; do
		dmchain snapshot k=k$i.img >/dev/null
		fill k $i 1 $i
	done
	dmchain commit k --top 1 --base 2 --background >/dev/null
	wait_for 30 sh -c "dmchain job list k --json | grep -q concluded"
	"$@" dmchain job wait k >wait.out 2>&1
}

killed_with_table strace -qq -o calls -e trace=ioctl
dmchain close k
rm -f k?.img
n=$(awk '{ i++ } /DM_TABLE_LOAD/ { loaded = 1 } loaded && /DM_DEV_SUSPEND/ { print i; exit }' calls)
killed_with_table bash -c '"$@"; exit $?' bash strace -qq -o /dev/null -e trace=ioctl \
	-e "inject=ioctl:signal=KILL:when=${n:-1}"
like "$(dmsetup info k)" "LIVE & INACTIVE" "killed: its table is loaded, and not used"
run_ok "killed: the next command does what was left" dmchain stream k --base 2
is "$(dmsetup info k | sed -n 's,^Tables present: *,,p')" LIVE "killed: nothing is"
run_ok "killed: close" dmchain close k
run_ok "killed: open" dmchain open k k3.img
dmsetup load k --table "$(dmsetup table k)"
refused 3 "another table is loaded .*dmchain recover" "a table that somebody else has loaded" dmchain stream k
run_ok "and recover drops it" dmchain recover k
run_ok "then it can begin" dmchain stream k
dmchain close k

# --- A commit gives back the space of what it has moved, but not while somebody reads there

reads_at()	# reads_at DEVICE: there is one under way
{
	local name
	name=$(dmsetup info -c --noheadings -o blkdevname "$1")
	[ "$(awk '{ print $1 }' "/sys/block/$name/inflight")" != 0 ]
}

# The layer's device has two parts: blocks at 0 lie in one, those at 64 KiB in the other,
# where reads take time. A guest's read comes when the job has got what is near, and takes
# longer than the job
rm -f ./*.img
dmchain create 0.img --size 4M >/dev/null
dmchain create mid.img --backing "$PWD/0.img" --backing-format chain >/dev/null
loop=$(losetup --show -f mid.img)
cut=$(($(od -An -t u8 -j 120 -N 8 mid.img) / 512 + 64)) end=$(blockdev --getsz "$loop")
dmsetup create near --table "0 $cut linear $loop 0"
dmsetup create far --table "0 $((end - cut)) delay $loop $cut 5000 $loop $cut 0"
printf '%s\n' "0 $cut linear /dev/mapper/near 0" "$cut $((end - cut)) linear /dev/mapper/far 0" |
	dmsetup create mid
run_ok "given back: a disk" dmchain open d /dev/mapper/mid
fill d 0 1 b
dmchain snapshot d=top.img >/dev/null
dmchain commit d --top 1 --base 2 --background >/dev/null
wait_for 30 reads_at mid
is $? 0 "given back: the job has what is near, and waits for what is far"
dmsetup suspend near
dmsetup load near --table "0 $cut delay $loop 0 9000 $loop 0 0"
dmsetup resume near
begun=$SECONDS
dd if=/dev/mapper/d of=got bs=4k count=1 iflag=direct status=none
[ $((SECONDS - begun)) -ge 8 ]
is $? 0 "given back: a guest's read was on its way there"
is "$(tr -d b <got | wc -c) $(stat -c %s got)" "0 4096" "given back: it finds what was there"
run_ok "given back: the commit ends" dmchain job wait d --timeout 60
is "$(od -An -c -j $(((cut - 64) * 512)) -N 4096 mid.img | tr -d ' *\n')" '\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0' \
	"given back: and the space is free"
dmchain close d
dmsetup remove mid near far
losetup -d "$loop"

# --- A commit that was cut off between its record and its marks

rm -f ./*.img
head -c 12M /dev/zero | tr '\0' a >base.raw
# What is between shows the base up to 8M only, for there was a shorter one
dmchain create short.img --size 8M --backing base.raw --backing-format raw >/dev/null
dmchain create mid.img --size 16M --backing short.img --backing-format chain >/dev/null
run_ok "cut off: open" dmchain open d mid.img
fill d 1 1 b
run_ok "cut off: the short one goes" dmchain stream d --base 2
for i in top over; do
	dmchain snapshot d=$i.img >/dev/null
	fill d 2 1 c
done
want=$(contents d)
strace -qq -o /dev/null -P "$PWD/base.raw" -e trace=ftruncate,fallocate -e inject=ftruncate,fallocate:signal=KILL:when=1 \
	dmchain commit d --top 1 --base 3 >/dev/null 2>&1
is "$? $(json '.layers[1].marks | join(" ")' dmchain info d) $(json '.layers[2].marks | join(" ")' dmchain info d)" \
	"137 sealed job sealed" "cut off: killed when the record was there"
is "$(contents d)" "$want" "cut off: the disk is what it was"
run_ok "cut off: a child of what is between" dmchain create x.img --backing mid.img --backing-format chain
run_ok "cut off: opens" dmchain open x x.img
holds /dev/mapper/x 8 8 '\0' "cut off: it shows zeroes behind the short one's end"
dmchain close x
dmchain close d
run_ok "cut off: another child" dmchain create y.img --backing mid.img --backing-format chain
run_ok "cut off: open again" dmchain open d over.img
refused 3 "other children" "cut off: the commit would spoil the children" dmchain commit d --top 1 --base 3
run_ok "cut off: which opens still" dmchain open x x.img
dmchain close x
run_ok "cut off: the commit, forced" dmchain commit d --top 1 --base 3 --force
is "$(contents d)" "$want" "cut off: the disk is what it was"
run_fail 4 "cut off: and a child is refused" dmchain open x x.img
dmchain close d
rm base.raw

# --- Another job takes time to read what it has found in a layer of the range

rm -f ./*.img
dmchain create 0.img --size 8M >/dev/null
dmchain open d 0.img
fill d 0 8 z
dmchain snapshot d=1.img >/dev/null
fill d 0 8 b
for i in 2 3; do
	dmchain snapshot d=$i.img >/dev/null
done
# A piece in each larger block of the layer above, behind what is moved at first
for ((i = 1024; i < 2048; i += 64)); do
	echo "pwrite -q -S 0x63 ${i}k 4k"
done | xfs_io -d /dev/mapper/d >/dev/null
truncate -s 64M top.store
loop=$(losetup --show -f top.store)
dmsetup create top --table "0 $(blockdev --getsz "$loop") linear $loop 0"
dmchain close d
dmchain create /dev/mapper/top --backing "$PWD/3.img" --backing-format chain --block-size 64K >/dev/null
run_ok "found by a job: open" dmchain open d /dev/mapper/top
want=$(contents d)
run_ok "found by a job: a commit" dmchain commit d --top 3 --base 4 --speed 64K --background
commit=$(json 'map(select(.type == "commit"))[-1].id' dmchain job list d)
# It reads as it can write: some pieces at once, of a MiB that is planned as a whole
dmsetup load top --table "0 $(blockdev --getsz "$loop") delay $loop 0 0 $loop 0 4000"
dmsetup suspend --noflush top && dmsetup resume top
run_ok "found by a job: a stream above it" dmchain stream d --base 2 --background
stream=$(json 'map(select(.type == "stream"))[-1].id' dmchain job list d)
dmchain job speed "$commit" 256K
run_ok "found by a job: the stream ends" dmchain job wait "$stream" --timeout 60
is "$(contents d)" "$want" "found by a job: the disk is what it was"
dmchain job speed "$commit" 0
run_ok "found by a job: the commit ends" dmchain job wait "$commit" --timeout 60
is "$(contents d)" "$want" "found by a job: the disk is what it was"
[ "$(stat -c %b 1.img)" -lt 4096 ]
is $? 0 "found by a job: and the space is free"
dmchain close d
dmsetup remove top
rm top.store
losetup -d "$loop"

# --- The disk is removed while a commit ends: its headers take their time

# slow N SIZE: a device s$N whose writes take longer, N.store below it
slow()
{
	local loop
	truncate -s "$2" $1.store
	loop=$(losetup --show -f $1.store)
	dmsetup create s$1 --table "0 $(blockdev --getsz "$loop") delay $loop 0 0 $loop 0 100"
}

pending()
{
	[ "$(json '.[-1].status' dmchain job list d)" != running ]
}

for n in 0 1 2; do
	slow $n 24M
done
for late in 0 0.1 0.2 0.3 0.4 0.5 0.7 0.9; do
	dmchain create /dev/mapper/s0 --size 4M >/dev/null
	dmchain open d /dev/mapper/s0
	fill d 0 1 a
	dmchain snapshot d=/dev/mapper/s1 >/dev/null
	fill d 1 1 b
	dmchain snapshot d=/dev/mapper/s2 >/dev/null
	fill d 2 1 c
	seen=$(contents d)
	dmchain commit d --top /dev/mapper/s1 --base /dev/mapper/s0 --background >/dev/null
	wait_for 60 pending
	sleep $late
	# It can't be killed where it hangs
	dmsetup remove d >/dev/null 2>&1 &
	wait_for 60 eval "! kill -0 $!" || fail "removed $late s into the end of a commit: it ends" "$(dmsetup info d)"
	run_ok "removed $late s into the end of a commit: opens" dmchain open d /dev/mapper/s2 --force
	is "$(contents d)" "$seen" "removed $late s into the end of a commit: as what it was"
	dmchain close d
	for n in 0 1 2; do
		dd if=/dev/zero of=/dev/mapper/s$n bs=1M count=2 oflag=direct status=none
	done
done
for n in 0 1 2; do
	dmsetup remove s$n
	losetup -d "$(losetup -n -O NAME -j $n.store)"
done

done_testing_jobs
