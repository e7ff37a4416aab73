#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug long=6.1,debug mem=1024 smp=2 timeout=180 group=main
#
# dm's own commands at any moment, also for disks stacked on each other: load,
# reload, clear, suspend, resume, remove, wipe. Nothing hangs, no I/O gets
# lost. io_uring needs no worker threads.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"

cd "$TMP" || exit 1
mkdir -p mnt

# --- a disk on the file system of another one

run_ok "create the lower one" dmchain create low.img --size 96M
run_ok "open it" dmchain open low low.img
run_ok "a file system" mkfs.ext4 -q /dev/mapper/low
run_ok "mount" mount /dev/mapper/low mnt
run_ok "a disk in it" dmchain create mnt/base.img --size 16M
run_ok "open the upper one" dmchain open up mnt/base.img
run_ok "and another layer in it" dmchain snapshot up=mnt/top.img
iomodel run /dev/mapper/up --seconds 600 --threads 2 --max 64K --init-from-dev >io.out 2>&1 &
io=$!
table() { dmsetup table "$1"; }
# --nolockfs: loop, before 6.16, writes into a frozen file system, and ext4 warns
orders=("low up" "up low")
for order in "${orders[@]}"; do
	read -r a b <<<"$order"
	what="stacked ($a first)"
	within 20 "$what: load" dmsetup reload $a --table "$(table $a)"
	within 20 "$what: load the other" dmsetup reload $b --table "$(table $b)"
	within 20 "$what: clear" dmsetup clear $a
	within 20 "$what: clear the other" dmsetup clear $b
	within 20 "$what: load" dmsetup reload $a --table "$(table $a)"
	within 20 "$what: swap it in" dmsetup resume --nolockfs $a
	within 20 "$what: load the other" dmsetup reload $b --table "$(table $b)"
	within 20 "$what: swap that in" dmsetup resume --nolockfs $b
	# The upper one goes first when both are suspended, as it needs the lower
	within 20 "$what: suspend up" dmsetup suspend --nolockfs up
	within 20 "$what: suspend low" dmsetup suspend --nolockfs --noflush low
	within 20 "$what: resume" dmsetup resume --nolockfs $a
	within 20 "$what: resume the other" dmsetup resume --nolockfs $b
	within 20 "$what: suspend low alone" dmsetup suspend --nolockfs --noflush low
	within 20 "$what: load into it while suspended" dmsetup reload low --table "$(table low)"
	within 20 "$what: resume it" dmsetup resume --nolockfs low
	within 30 "$what: snapshot of the lower one" dmchain snapshot "low=low-$a.img"
	within 30 "$what: and the upper one" dmchain snapshot "up=mnt/up-$a.img"
done
kill -0 $io
is $? 0 "stacked: I/O goes on all the time"
kill $io
wait $io 2>/dev/null
is "$(grep -c FAILED io.out)" 0 "stacked: and reads what it should"
refused 3 "file system|lies on" "a new layer on the disk's own file system" \
	dmchain snapshot low=mnt/no.img
within 30 "close the upper one" dmchain close up
within 30 "unmount" umount mnt
within 30 "close the lower one" dmchain close low

# --- a disk whose layer is another disk

run_ok "device on device: create" dmchain create l.img --size 32M
run_ok "device on device: open" dmchain open low l.img
run_ok "device on device: a layer on it" dmchain create /dev/mapper/low --size 16M
run_ok "device on device: open that" dmchain open up /dev/mapper/low
iomodel run /dev/mapper/up --seconds 600 --threads 2 --max 64K --init-from-dev >io.out 2>&1 &
io=$!
for n in 1 2 3; do
	within 20 "device on device $n: reload low" dmsetup reload low --table "$(table low)"
	within 20 "device on device $n: resume low" dmsetup resume low
	within 20 "device on device $n: suspend up" dmsetup suspend up
	within 20 "device on device $n: suspend low" dmsetup suspend low
	within 20 "device on device $n: resume low" dmsetup resume low
	within 20 "device on device $n: resume up" dmsetup resume up
done
within 30 "device on device: snapshot" dmchain snapshot low=l2.img
kill -0 $io
is $? 0 "device on device: I/O goes on all the time"
kill $io
wait $io 2>/dev/null
is "$(grep -c FAILED io.out)" 0 "device on device: reads what it should"
within 30 "device on device: close" dmchain close up
within 30 "device on device: close the lower one" dmchain close low
rm -f ./*.img

# --- storms under I/O

run_ok "storm: create" dmchain create s.img --size 16M
run_ok "storm: open" dmchain open d s.img
run_ok "storm: snapshot" dmchain snapshot d=s2.img
iomodel run /dev/mapper/d --seconds 600 --threads 3 --max 64K --init-from-dev >io.out 2>&1 &
io=$!
storm()
{
	local i
	for ((i = 0; i < ${1}; i++)); do
		dmsetup suspend d && dmsetup resume d || return
		dmsetup reload d --table "$(dmsetup table d)" && dmsetup resume d || return
		dmsetup suspend --noflush --nolockfs d && dmsetup resume d || return
		dmsetup reload d --table "$(dmsetup table d)" && dmsetup clear d || return
	done
}
rounds=12
[ "$KERNEL" != debug ] || rounds=3
within 100 "storm: suspend, resume, reload, clear" storm $rounds
kill -0 $io
is $? 0 "storm: I/O goes on all the time"
kill $io
wait $io 2>/dev/null
is "$(grep -c FAILED io.out)" 0 "storm: reads what it should"

# --- io_uring: no worker thread may be needed for what is in place

run_ok "nowait: in place" dd if=/dev/zero of=/dev/mapper/d bs=1M count=16 oflag=direct
run_ok "nowait: reads without workers" uringread /dev/mapper/d 2000 --max-workers 0
run_ok "nowait: rewrites without workers" uringread /dev/mapper/d 1000 --write --max-workers 0
run_ok "nowait: snapshot" dmchain snapshot d=s3.img
run_ok "nowait: reads of lower layers without workers" uringread /dev/mapper/d 2000 --max-workers 0

# --- what dmsetup says and does

line=$(dmsetup table d)
run_ok "the table loads onto itself" dmsetup reload d --table "$line"
run_ok "and is swapped in" dmsetup resume d
is "$(dmsetup table d)" "$line" "and stays what it was"
like "$(status_of d)" '^rw 3 lookup-bytes=[0-9]+ unmerged=[0-9]+ violations=0 jobs=0 unread=[0-9]+$' "status"
run_fail any "no messages" dmsetup message d 0 nonsense

# Gone while I/O is under way
iomodel run /dev/mapper/d --seconds 600 --threads 2 --max 64K --init-from-dev >io.out 2>&1 &
io=$!
sleep 1
run_fail any "remove is refused while it is in use" dmsetup remove d
within 30 "remove --deferred" dmsetup remove --deferred d
within 30 "wipe_table" dmsetup wipe_table d
wait $io
is "$(dmsetup info -c --noheadings -o name d 2>/dev/null)" "" "it goes with its last user"
wait_for 10 test -z "$(losetup -n -l 2>/dev/null)"
run_ok "opens again" dmchain open d s3.img
within 30 "remove --force" dmsetup remove --force d
run_ok "and again" dmchain open d s3.img
run_ok "close" dmchain close d

# Two tables that go at once: the last of them closes the layer
bad=""
for i in 1 2 3 4 5 6; do
	dmchain open d s3.img 2>open.out || { bad="$i: $(cat open.out)"; break; }
	dd if=/dev/urandom of=/dev/mapper/d bs=64k count=4 oflag=direct conv=notrunc status=none
	line=$(dmsetup table d)
	dmsetup reload d --table "$line"
	dmsetup reload d --table "0 $(blockdev --getsz /dev/mapper/d) error" &
	[ $((i % 2)) = 0 ] || sleep 0.2
	dmsetup resume d
	wait
	dmsetup resume d
	dmsetup remove d
	# What it left to close the next command does
	dmchain recover >recover.out 2>&1
done
is "$bad" "" "two tables go at once: the disk is closed, and opens"
dmchain close d 2>/dev/null

done_testing
