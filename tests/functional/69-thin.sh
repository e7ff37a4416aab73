#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug long=6.1,debug mem=1024 smp=2 timeout=400 group=main
# allow: Buffer I/O error|I/O error, dev|lost async page write
# allow: (map write|map commit|flush) failed
#
# Snapshots as dm-thin and qcow2 test theirs, by the numbers of
# Documentation/scenarios.rst: sets of which one disk refuses, a hundred layers,
# many disks on one base, discards of what is shared and what isn't, suspends in any
# order, stores that are full.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"

cd "$TMP" || exit 1

contents()	# contents DISK
{
	dd if="/dev/mapper/$1" bs=1M iflag=direct status=none | sha256sum
}

# --- T1: a set of which one disk refuses: nothing is made for any

for d in a b c; do
	dmchain create $d.img --size 8M >/dev/null
	dmchain open $d $d.img
	fill $d 0 1 $d
done
mkdir full
mount -t tmpfs -o size=64k none full
head -c 64K /dev/zero >full/ballast 2>/dev/null
none()		# none NAME: no disk has another top, no file is there
{
	is "$(for d in a b c; do json '.layers | length' dmchain info $d; done | xargs) $(find . -name '[xyz].img')" \
		"1 1 1 " "T1: $1: no disk has a new layer, no file is left"
}
for set in "a=x.img b=y.img c=full/z.img" "c=full/z.img b=y.img a=x.img"; do
	# shellcheck disable=SC2086 # words
	refused 1 "[Nn]o space" "T1: no space for one: $set" dmchain snapshot $set
	none "no space"
done
umount full
dmchain mirror b b.copy --format chain --background >/dev/null
for set in "a=x.img b=y.img c=z.img" "c=z.img b=y.img a=x.img"; do
	# shellcheck disable=SC2086 # words
	refused 3 "held by b .mirror" "T1: a job has one: $set" dmchain snapshot $set
	none "a job"
done
dmchain job cancel b >/dev/null
run_ok "T1: then all are willing" dmchain snapshot a=x.img b=y.img c=z.img
refused 3 "in use" "T2: a top that another disk has" dmchain snapshot a=y.img --existing
for d in a b c; do dmchain close $d; done
rm -f ./*.img ./*.copy
echo "# $SECONDS s"

# --- T4: a hundred, one above the other; the last of them, or all, with the disk open

# RAM disks: no loop device has to be made for each
layers=100 made=88
[ -z "${LONG-}" ] || made=1
modprobe brd rd_nr=$((layers + 2)) rd_size=$((11 << 10)) max_part=0
mapfile -t rams < <(seq -f /dev/ram%g 0 $((layers + 1)))
run_ok "T4: $made layers" mkchain 8M 0:6M:64K "${rams[@]:0:made}"
dmchain open d "${rams[made - 1]}"
dd if=/dev/mapper/d of=was bs=1M iflag=direct status=none
bad=""
for ((i = made; i <= layers; i++)); do
	dmchain snapshot "d=${rams[i]}" >snap.out 2>&1 || bad+=" $i: $(cat snap.out);"
	printf 'layer %d\n' $i >word
	for at in $i $((i / 10)) $((1600 + i)); do
		dd if=word of=/dev/mapper/d bs=4k seek=$at conv=sync oflag=direct status=none
		dd if=word of=was bs=4k seek=$at conv=sync,notrunc status=none
	done
	[ $i != $((layers - 5)) ] || cp was instant
done
is "$bad $(json '.layers | length' dmchain info d)" " $((layers + 1))" "T4: $layers snapshots"
is "$(cmp was /dev/mapper/d 2>&1)" "" "T4: what all have written is there"
run_ok "T4: close" dmchain close d
run_ok "T4: open" dmchain open d "${rams[layers]}"
is "$(cmp was /dev/mapper/d 2>&1)" "" "T4: opened again, too"
run_ok "T4: what one of them froze" dmchain compare "${rams[layers - 5]}" instant --format-b raw
run_ok "T4: a stream of all" dmchain stream d
is "$(json '.layers | length' dmchain info d) $(cmp was /dev/mapper/d 2>&1)" "1 " "T4: into one that is the same"
dmchain close d
rm -f was instant
echo "# $SECONDS s"

# --- many disks on one base, all written at once

disks=6 ops=100
[ "$KERNEL" != debug ] || disks=4 ops=40
dmchain create base.img --size 8M >/dev/null
dmchain open d base.img
head -c 8M /dev/urandom >init
dd if=init of=/dev/mapper/d bs=1M oflag=direct status=none
dmchain close d
for ((i = 1; i <= disks; i++)); do
	dmchain create s$i.img --backing base.img --backing-format chain >/dev/null
done
for ((i = 1; i <= disks; i++)); do
	dmchain open s$i s$i.img
done
before=$(sums base.img)
pids=() bad=""
for ((i = 1; i <= disks; i++)); do
	iomodel run /dev/mapper/s$i --model m$i --init init --ops $ops --threads 2 --max 64K \
		--seed $i --overlap --verify-end >io.$i 2>&1 &
	pids+=($!)
done
for pid in "${pids[@]}"; do
	wait "$pid" || bad+=" $pid"
done
is "$bad" "" "siblings: $disks disks on one base at once: each as its model"
for ((i = 1; i <= disks; i++)); do
	iomodel verify /dev/mapper/s$i --model m$i >/dev/null 2>&1 || bad+=" $i"
	dmchain close s$i
done
is "$bad" "" "siblings: none has what another has written"
is "$(sums base.img)" "$before" "siblings: the base is untouched"
rm -f ./*.img m? io.?
echo "# $SECONDS s"

# --- discards: of what is shared, what isn't, what nobody has; whole blocks and parts

# A RAM disk takes none, a loop device hands them on to its file
stores=${rams[layers + 1]}
[ -z "${LONG-}" ] || stores+=" top.img"
for store in $stores; do
	name="discards, ${store##*/}"
	dmchain create base.img --size 8M >/dev/null
	dmchain open d base.img
	fill d 0 4 b
	dmchain close d
	dmchain create $store --backing base.img --backing-format chain >/dev/null
	dmchain create other.img --backing base.img --backing-format chain >/dev/null
	dmchain open d $store
	dmchain open e other.img
	other=$(contents e) sum=$(sums base.img)
	# MiB 0, 1: base alone. 2, 3: both. 4, 5: top alone. 6, 7: nobody
	fill d 2 4 t
	dd if=/dev/mapper/d of=was bs=1M iflag=direct status=none
	for at in 0 2 4 6; do
		blkdiscard -o ${at}M -l 64K /dev/mapper/d
		xfs_io -c "pwrite -q -S 0 ${at}m 64k" was
		# Blocks in part: 512 bytes on, 512 less; a part of one; one and two halves
		blkdiscard -o $(((at << 20) + (128 << 10) + 512)) -l 3072 /dev/mapper/d
		blkdiscard -o $(((at << 20) + (256 << 10) + 2048)) -l 8192 /dev/mapper/d
		xfs_io -c "pwrite -q -S 0 $(((at << 20) + (260 << 10))) 4k" was
		# Zeroes are written wherever they are asked for
		blkdiscard -z -o $(((at << 20) + (512 << 10) + 2048)) -l 8192 /dev/mapper/d
		xfs_io -c "pwrite -q -S 0 $(((at << 20) + (512 << 10) + 2048)) 8k" was
		# All of a MiB, and written again in part
		blkdiscard -o $((at + 1))M -l 1M /dev/mapper/d
		xfs_io -d -c "pwrite -q -S 0x5a $(((at + 1 << 20) + 8192)) 512" /dev/mapper/d
		xfs_io -c "pwrite -q -S 0 $((at + 1))m 1m" -c "pwrite -q -S 0x5a $(((at + 1 << 20) + 8192)) 512" was
	done
	is "$(cmp was /dev/mapper/d 2>&1)" "" "$name: zeroes where whole blocks went, and nowhere else"
	run_ok "$name: close" dmchain close d
	run_ok "$name: open" dmchain open d $store
	is "$(cmp was /dev/mapper/d 2>&1)" "" "$name: so it stays"
	is "$(contents e) $(sums base.img)" "$other $sum" "$name: who shares the base sees nothing of it"
	dmchain snapshot d=next.img >/dev/null
	blkdiscard /dev/mapper/d
	is "$(contents d)" "$(head -c 8M /dev/zero | sha256sum)" "$name: all of it, from another layer"
	dmchain close d
	# Then the layer goes: what it hid must not come back, in the base neither
	run_ok "$name: frozen, it is what it was" dmchain compare $store was --format-b raw
	dmchain close e
	rm other.img
	dmchain open d next.img
	run_ok "$name: and the layers go" dmchain commit d --base 2 --force
	is "$(contents d)" "$(head -c 8M /dev/zero | sha256sum)" "$name: no layer brings back what was discarded"
	dmchain close d
	rm -f ./*.img
done
echo "# $SECONDS s"

# --- suspends: twice, and of disk and layers in any order

truncate -s 64M data
data=$(losetup -f --show data)
for i in 0 1; do
	dmsetup create lay$i --table "0 65536 linear $data $((i * 65536))"
done
dmchain create /dev/mapper/lay0 --size 16M >/dev/null
dmchain open d /dev/mapper/lay0
fill d 0 8 a
dmchain snapshot d=/dev/mapper/lay1 >/dev/null
iomodel run /dev/mapper/d --seconds 600 --threads 2 --max 64K --init-from-dev >io.out 2>&1 &
io=$!
within 20 "suspend: once" dmsetup suspend d
within 20 "suspend: while suspended" dmsetup suspend d
within 20 "suspend: otherwise, while suspended" dmsetup suspend --noflush --nolockfs d
is "$(dmsetup info -c --noheadings -o suspended d)" Suspended "suspend: it is that"
within 20 "suspend: resume" dmsetup resume d
is "$(dmsetup info -c --noheadings -o suspended d)" Active "suspend: one resume will do"
within 20 "suspend: resume what runs" dmsetup resume d
orders=("lay0 d lay1" "lay1 lay0 d" "d lay1 lay0")
[ -z "${LONG-}" ] || orders+=("d lay0 lay1" "lay0 lay1 d" "lay1 d lay0")
for order in "${orders[@]}"; do
	# Who waits for a layer that is suspended goes on when that does
	pids=()
	for dev in $order; do
		dmsetup suspend --noflush "$dev" & pids+=($!)
		sleep 0.2
	done
	for dev in $order; do
		within 20 "suspend: $order: resume $dev" dmsetup resume "$dev"
	done
	bad=""
	for pid in "${pids[@]}"; do
		within 20 "suspend: $order: ends" tail --pid="$pid" -f /dev/null
	done
	for dev in $order; do
		dmsetup resume "$dev"
		[ "$(dmsetup info -c --noheadings -o suspended "$dev")" = Active ] || bad+=" $dev"
	done
	is "$bad" "" "suspend: $order: all run"
done
kill -0 $io
is $? 0 "suspend: I/O goes on all the time"
kill $io
wait $io 2>/dev/null
is "$(grep -c FAILED io.out)" 0 "suspend: and reads what it should"
no_violations "suspend: the gate refused nothing"
within 20 "suspend: close" dmchain close d
dmsetup remove lay0
dmsetup remove lay1
losetup -d "$data"
rm data
echo "# $SECONDS s"

# --- a store that is full: of data, then of what maps need

# Not a tmpfs: a loop device of 6.1 does no direct I/O there, and says EIO then
truncate -s 128M small.fs
mkfs.ext4 -q -O ^has_journal -m 0 small.fs
mkdir small
mount -o loop small.fs small
room()		# room MIB: so much is free there
{
	rm -f small/ballast
	sync -f small
	fallocate -l $(($(stat -f -c '%a * %S' small) - ($1 << 20))) small/ballast || fail "ballast"
}
full()		# nothing is free there
{
	dd if=/dev/zero of=small/ballast bs=4k oflag=append conv=notrunc status=none 2>/dev/null
	sync -f small
}
writes()	# writes MIB BYTE: 256 KiB there
{
	xfs_io -d -c "pwrite -q -S $2 -b 64k ${1}m 256k" /dev/mapper/d
}
same()
{
	is "$(cmp was /dev/mapper/d 2>&1)" "" "$1"
}

dmchain create small/a.img --size 32M >/dev/null
dmchain open d small/a.img
# Each group of the map is there, so that these need nothing more
for at in 0 4 8 12 16 20 24 28; do
	writes $at 0x11
done
xfs_io -c fsync /dev/mapper/d
room 2
n=0 failed=0
for at in 1 2 3 5 6 7 9 10 11 13 14 15; do
	if writes $at 0x22 2>>full.err; then n=$((n + 1)); else failed=$((failed + 1)); fi
done
[ $n -ge 4 ] && [ $failed -ge 2 ]
is $? 0 "full: of 12 writes $n went, $failed did not"
like "$(sort -u full.err | paste -sd ' ')" "No space left on device" "full: and said why"
run_ok "full: a flush" xfs_io -c fsync /dev/mapper/d
like "$(status_of d)" "^rw " "full: the disk is well"
dd if=/dev/mapper/d of=was bs=1M iflag=direct status=none
is $? 0 "full: all of it can be read"
run_ok "full: what is there can be written" writes 1 0x33
xfs_io -c "pwrite -q -S 0x33 1m 256k" was
run_ok "full: and discarded, and flushed" sh -c \
	'blkdiscard -o 2M -l 128K /dev/mapper/d && xfs_io -c fsync /dev/mapper/d'
xfs_io -c "pwrite -q -S 0 2m 128k" was
same "full: it is what it should be"
run_ok "full: close" dmchain close d
run_ok "full: check" dmchain check small/a.img
run_ok "full: open" dmchain open d small/a.img
same "full: all is there"
# The discard has made room
run_ok "full: and written again" xfs_io -d -c "pwrite -q -S 0x34 -b 64k 2m 128k" /dev/mapper/d
xfs_io -c "pwrite -q -S 0x34 2m 128k" was
refused 1 "[Nn]o space" "full: no room for a new layer" dmchain snapshot d=small/b.img
[ ! -e small/b.img ]
is $? 0 "full: and no file"
room 40
run_ok "full: with more room it goes on, without more ado" writes 15 0x44
run_ok "full: and is flushed" xfs_io -c fsync /dev/mapper/d
dmchain close d
rm small/a.img

# Data has its place, the map has not
# (a block of the file system has the map of 32 MiB)
dmchain create small/a.img --size 64M >/dev/null
dmchain open d small/a.img
writes 0 0x11
xfs_io -c fsync /dev/mapper/d
dd if=/dev/mapper/d of=was bs=1M count=4 iflag=direct status=none
fallocate -n -o "$(headeredit small/a.img get 0 data_offset)" -l 64M small/a.img
room 1
full
run_ok "map full: data is written" writes 40 0x22
run_fail any "map full: a flush says that it isn't there" xfs_io -c fsync /dev/mapper/d
like "$(status_of d)" "^failed " "map full: the disk says so"
run_fail any "map full: nothing more is written" writes 41 0x22
is "$(cmp -n $((4 << 20)) was /dev/mapper/d 2>&1)" "" "map full: it can be read"
is "$(json .state dmchain info d)" failed "map full: info has it"
run_ok "map full: its table loads" dmsetup reload d --table "$(dmsetup table d)"
run_ok "map full: and is swapped in" dmsetup resume d
like "$(status_of d)" "^failed " "map full: which makes it no better"
room 10
run_fail any "map full: nor does room" writes 41 0x22
dmchain close d 2>/dev/null
run_ok "map full: but to open it again" dmchain open d small/a.img --force
# That was acknowledged, and no flush: it may be there or not, as a whole
case $(dd if=/dev/mapper/d bs=256k skip=160 count=1 iflag=direct status=none | sha256sum) in
"$(head -c 256K /dev/zero | sha256sum)"|"$(head -c 256K /dev/zero | tr '\0' '\42' | sha256sum)")
	ok "map full: what was not flushed is there or not";;
*)	fail "map full: what was not flushed is there or not";;
esac
is "$(cmp -n $((4 << 20)) was /dev/mapper/d 2>&1)" "" "map full: what was is there"
run_ok "map full: it can be written" writes 41 0x22
run_ok "map full: and flushed" xfs_io -c fsync /dev/mapper/d
run_ok "map full: close" dmchain close d
run_ok "map full: check" dmchain check small/a.img
umount small
rm small.fs
echo "# $SECONDS s"

is "$(losetup -n -l 2>/dev/null)" "" "no loop device is left"
done_testing
