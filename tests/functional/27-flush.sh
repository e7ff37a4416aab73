#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug long=6.1,debug mem=1024 smp=2 timeout=120 group=main
#
# What a guest's flush costs, and what happens when it fails: writes and
# flushes of the device for each kind of flush; a failed one stops writes,
# reads go on, and what was flushed before is there when the disk is opened
# again.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"

cd "$TMP" || exit 1
modprobe null_blk nr_devices=0 && mkdir -p /sys/kernel/config/nullb/nullb0 2>/dev/null
if ! [ -d /sys/kernel/config/nullb/nullb0 ]; then
	skip "flushes" "this kernel has no null_blk"
	done_testing
fi
cd /sys/kernel/config/nullb/nullb0 || exit 1
echo 96 >size
echo 1 >memory_backed
echo 512 >blocksize
echo 16 >cache_size 2>/dev/null	# a volatile cache: flushes are passed down
echo 1 >power
cd "$TMP" || exit 1
# In between, so that it can be made to fail
dev=/dev/nullb0
sectors=$(blockdev --getsz "$dev")
run_ok "a device" dmsetup create low --table "0 $sectors linear $dev 0"
low=$(dmsetup info -c --noheadings -o blkdevname low)

run_ok "create" dmchain create /dev/mapper/low --size 64M
run_ok "open" dmchain open d /dev/mapper/low

# count COMMAND...: writes and flushes of the device that it leads to; the
# statistics of a dm device count both in one
count()
{
	local before after
	read -ra before <"/sys/block/$low/stat"
	"$@" >/dev/null 2>&1 || echo "failed "
	read -ra after <"/sys/block/$low/stat"
	echo $((after[4] - before[4]))
}

io()
{
	xfs_io -d "$@" /dev/mapper/d
}

# Each flush of the guest: writes + flushes
io -c "pwrite -q 0 4k"
is "$(count io -c fsync)" $((3 + 2)) "first block of a group: group twice, presence; two flushes"
io -c "pwrite -q 4k 4k"
is "$(count io -c fsync)" $((1 + 1)) "a further block of it: one write with FUA, one flush"
io -c "pwrite -q 0 8k"
is "$(count io -c fsync)" $((0 + 1)) "rewrites in place: one flush"
is "$(count io -c fsync)" $((0 + 1)) "nothing at all: one flush"
# Unflushed changes are written after five seconds, too: now and then in between
for at in 8 256 512 768 1024; do
	io -c "pwrite -q ${at}k 4k" -c "pwrite -q $((at + 8))k 4k" -c "pwrite -q $((at + 128))k 64k"
	several=$(count io -c fsync)
	[ "$several" != $((1 + 1)) ] || break
done
is "$several" $((1 + 1)) "several changes in one group: one write, one flush"
is "$(count io -c "pwrite -q -D 0 4k")" 1 "a write in place: one write"

# A machine that has crashed may have left in the cache what is about to be read. The
# controller flushes, too: a table by itself, read-only, as nothing is written then
table=$(dmchain table d | sed 's/ rw\b/ ro/')
dmchain close d
is "$(count dmsetup create d --readonly --table "$table")" 1 "a table comes: one flush, before it is read"
dmsetup remove d
run_ok "open again" dmchain open d /dev/mapper/low

# --- a flush ends while somebody keeps writing to new blocks

# Flushes that take longer than such a write: the next one is there before each end
low_is()
{
	dmsetup suspend --noflush low
	dmsetup reload low --table "0 $sectors $*" && dmsetup resume low
}

# In groups here and there, so that no single write can tell of all
writer()
{
	local at i
	for ((at = 0; at < 4096; at += 4)); do
		for ((i = 1; i < 64; i += 4)); do
			echo "pwrite -q $((i * 32768 + at))k 4k"
		done
	done | xfs_io -d /dev/mapper/w >/dev/null
}

# shellcheck disable=SC2317 # called by wait_for
over()		# over PID
{
	! kill -0 "$1" 2>/dev/null
}

modprobe dm-delay
dmchain create w.img --size 2G >/dev/null
truncate -s 3G w.img
loop=$(losetup -f --show w.img)
# Writes too, or there are too many of them
dmsetup create slow --table "0 $((6 << 20)) delay $loop 0 0 $loop 0 20 $loop 0 300"
run_ok "writer: a disk where flushes take their time" dmchain open w /dev/mapper/slow
writer &
writer=$!
sleep 1
xfs_io -c fsync /dev/mapper/w &
flush=$!
wait_for 20 over $flush
is $? 0 "writer: a flush ends"
over $writer
is $? 1 "writer: while there are new blocks being written"
pkill xfs_io
wait
run_ok "writer: close" dmchain close w
dmsetup remove slow
losetup -d "$loop"

# --- failures

# With nothing that its map would have to tell, too
run_ok "passed down: data" io -c "pwrite -q -S 0x11 2m 1m" -c fsync -c "pwrite -q -S 0x12 3m 4k" -c fsync -c "pwrite -q -S 0x13 3m 4k"
run_ok "passed down: the device fails" low_is "flakey $dev 0 0 60 1 error_writes"
run_fail any "passed down: the flush fails" io -c fsync
like "$(status_of d)" "^failed " "passed down: the disk says so"
run_ok "passed down: it is well again" low_is "linear $dev 0"
run_fail any "passed down: no flush says that all is well" io -c fsync
dmchain close d
rmmod dm_chain
run_ok "passed down: open again" dmchain open d /dev/mapper/low

run_ok "failure: data" io -c "pwrite -q -S 0x11 2m 1m" -c fsync
run_ok "failure: data that is not flushed" io -c "pwrite -q -S 0x22 8m 64k"
run_ok "failure: the device fails from now on" low_is "flakey $dev 0 0 60 1 error_writes"
run_fail any "failure: a flush fails" io -c fsync
like "$(status_of d)" "^failed " "failure: the disk says so"
run_fail any "failure: writes are refused" io -c "pwrite -q 2m 4k"
run_fail any "failure: flushes, too" io -c "fsync"
run_ok "failure: reads go on" io -c "pread -q 2m 1m"
low_is "linear $dev 0"
run_fail any "failure: still, when the device is well again" io -c "pwrite -q 2m 4k"
is "$(json .state dmchain info d)" failed "failure: info says so"
run_ok "failure: close" dmchain close d
rmmod dm_chain
run_ok "failure: open again" dmchain open d /dev/mapper/low
like "$(status_of d)" "^rw " "failure: it writes again"
holds /dev/mapper/d 2 1 '\021' "failure: what was flushed is there"
run_ok "failure: and can be written" io -c "pwrite -q 9m 64k" -c fsync
run_ok "failure: close" dmchain close d
run_ok "failure: check" dmchain check /dev/mapper/low
dmsetup remove low
echo 0 >/sys/kernel/config/nullb/nullb0/power
rmdir /sys/kernel/config/nullb/nullb0

done_testing
