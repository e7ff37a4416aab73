#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug long=6.1,6.12,debug mem=1024 smp=2 timeout=900 group=jobs
# allow: Buffer I/O error|I/O error, dev|lost async page write|layer .* failed|job [0-9]+ ended with error
#
# More layers that fail under a job, beside 42-joberrors.sh: what a commit reads,
# flushes that fail for good, maps and headers of the range and of the layer above
# it, a base whose map is damaged, a full file system with a raw base; and disks that
# are closed while a job waits for somebody to mend them.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"
. "$(dirname "$0")/../lib/jobverbs.sh"

cd "$TMP" || exit 1
id=
mib=2048 lay=$((36 * 2048))

# Three layers side by side on one file, on devices whose parts can fail. They
# are filled once.
devices()
{
	local i
	truncate -s 108M back.img
	back=$(losetup -f --show back.img)
	for i in 0 1 2; do
		dmsetup create lay$i --table "0 $lay linear $back $((i * lay))"
	done
	dmchain create /dev/mapper/lay0 --size 24M >/dev/null
	dmchain open d /dev/mapper/lay0
	fill d 0 6 a
	dmchain snapshot d=/dev/mapper/lay1 >/dev/null
	fill d 4 6 b
	dmchain snapshot d=/dev/mapper/lay2 >/dev/null
	fill d 14 2 c
	sha256sum </dev/mapper/d >sum.first
	dmchain close d
	cp --sparse=always back.img saved.img
}

fresh()
{
	cp --sparse=always saved.img back.img
	cp sum.first sum
	dmchain open d /dev/mapper/lay2
}

# fails LAYER FIRST-SECTOR SECTORS [TARGET ARGS...]: until it is mended
fails()
{
	local from=$(($1 * lay)) layer=$1 at=$2 n=$3
	shift 3
	{
		echo "0 $at linear $back $from"
		if [ $# = 0 ]; then
			echo "$at $n error"
		else
			echo "$at $n $1 $back $((from + at)) ${*:2}"
		fi
		echo "$((at + n)) $((lay - at - n)) linear $back $((from + at + n))"
	} >table
	dmsetup load "lay$layer" table && dmsetup suspend --noflush "lay$layer" &&
		dmsetup resume "lay$layer" || fail "lay$layer: a table with faults"
}

# Data can be written, flushes fail: a flush goes to all parts, and nothing else
# goes to this one
flushes_fail()
{
	fails "$1" $((lay - 2 * mib)) 8 flakey 0 60 1 error_writes
}

mended()
{
	dmsetup load "lay$1" --table "0 $lay linear $back $(($1 * lay))"
	dmsetup suspend --noflush "lay$1" && dmsetup resume "lay$1"
}

header_at()	# header_at LAYER OFFSET: a number of the header, in sectors
{
	echo $(($(od -An -t u8 -j "$2" -N 8 "/dev/mapper/lay$1") / 512))
}

data_at()	# data_at LAYER MIB
{
	echo $(($(header_at "$1" 120) + $2 * mib))
}

chain()
{
	json '[.layers[].path | sub(".*lay"; "")] | join(" ")' dmchain info d
}

paused_for()	# paused_for ERROR
{
	[ "$(of status) $(of error)" = "paused $1" ]
}

remember()
{
	sha256sum </dev/mapper/d >sum
}

# finished NAME LAYERS: it is resumed, if it has to be, and ends
finished()
{
	if dmchain job list d --json | jq -e 'any(.[]; .error == "interrupted")' >/dev/null; then
		run_ok "$1: resume" dmchain job resume d --wait
	elif [ "$(chain)" = "2 1 0" ] && [ "$2" = "2 0" ]; then
		# It had not begun
		run_ok "$1: again" dmchain commit d --top 1 --base 2
	fi
	is "$(chain)" "$2" "$1: layers are gone"
	same "$1: done, the disk is what it was"
	run_ok "$1: close" dmchain close d
	for layer in $2; do
		run_ok "$1: check of layer $layer" dmchain check "/dev/mapper/lay$layer"
	done
	run_ok "$1: open" dmchain open d "/dev/mapper/lay${2%% *}"
	same "$1: opened again, too"
	no_violations "$1: the gate refused nothing"
	dmchain close d
}

devices

# --- a layer of the range can't be read

fresh
fails 1 "$(data_at 1 8)" 8
run_fail 1 "read: ignore: it goes on, and ends with the error" dmchain commit d --top 1 --base 2 --on-error ignore
is "$(chain)" "2 1 0" "read: no layer is gone"
is "$(json '[.[] | select(.status == "concluded")][-1].error' dmchain job list d)" "Input/output error" "read: which it tells"
begin "read: stop" dmchain commit d --top 1 --base 2 --on-error stop
wait_for 30 paused_for "Input/output error"
is "$(of status) $(of error)" "paused Input/output error" "read: it is paused for it"
moved=$(of current-progress)
run_ok "read: resume" dmchain job resume "$id"
wait_for 30 sh -c "dmchain job show $id --json | jq -e '.errors == 2 and .status == \"paused\"'"
is "$(of status) $(of errors) $(of current-progress)" "paused 2 $moved" "read: it meets it again"
run_ok "read: close, with that pending" dmchain close d
run_ok "read: open" dmchain open d /dev/mapper/lay2
mended 1
finished "read" "2 0"

# --- flushes of the base fail: the layer is lost until it is opened again

fresh
flushes_fail 0
refused 1 "(Input/output|I/O) error" "flush: the commit ends, whatever the policy" \
	dmchain commit d --top 1 --base 2 --on-error stop
mended 0
is "$(chain)" "2 1 0" "flush: no layer is gone"
same "flush: the disk is what it was"
fill d 20 1 d
xfs_io -c fsync /dev/mapper/d
is $? 0 "flush: the guest writes on, and flushes"
remember
dmchain close d 2>/dev/null
run_ok "flush: open" dmchain open d /dev/mapper/lay2 --force
same "flush: all is there"
finished "flush" "2 0"

fresh
begin "active flush: a commit" dmchain commit d --base 2 --speed 1M
wait_for 30 at_least 1
flushes_fail 0
dmchain job speed "$id" 0 >/dev/null 2>&1
wait_for 30 status_is concluded
is "$(of status) $(of error)" "concluded Input/output error" "active flush: it ends"
run_fail any "active flush: no flush of the guest says that all is well" xfs_io -c fsync /dev/mapper/d
same "active flush: the disk reads on"
mended 0
dmchain close d 2>/dev/null
run_ok "active flush: open" dmchain open d /dev/mapper/lay2 --force
same "active flush: all is there"
finished "active flush" 0

# --- data of the base: the guest's writes go to the top then

fresh
fails 0 "$(data_at 0 9)" $((12 * mib))
begin "data: a commit" dmchain commit d --base 2 --on-error stop
wait_for 30 paused_for "Input/output error"
is "$(of status) $(of error)" "paused Input/output error" "data: it is paused"
same "data: the disk is what it was"
fill d 11 2 e
is $? 0 "data: what the guest writes where the base fails is written"
# (a device with an error target can't write zeroes, so fpunch would be refused)
xfs_io -d -c "pwrite -q -S 0x55 $((18 << 20)) 5k" /dev/mapper/d &&
	blkdiscard -o $((19 << 20)) -l $((1 << 20)) /dev/mapper/d &&
	xfs_io -d -c fsync /dev/mapper/d
is $? 0 "data: so are parts of blocks, discards and flushes"
remember
is "$(dmsetup status d | cut -d ' ' -f 4)" rw "data: the disk is well"
mended 0
run_ok "data: resume" dmchain job resume "$id"
wait_for 30 status_is ready
is "$(of status)" ready "data: it is ready"
run_ok "data: pivot" dmchain pivot d
finished "data" 0

# --- data of the base, while another write to the same block of the top is on its way

# slow_base [FAULTS]: its 4 KiB at 1 MiB can't be written, the next take 3 s
slow_base()
{
	{
		if [ -z "${1-}" ]; then
			echo "0 $((16 * mib)) linear $slow 0"
		else
			echo "0 $mib linear $slow 0"
			echo "$mib 8 flakey $slow $mib 0 60 1 error_writes"
			echo "$((mib + 8)) 8 delay $slow $((mib + 8)) 0 $slow $((mib + 8)) 3000"
			echo "$((mib + 16)) $((15 * mib - 16)) linear $slow $((mib + 16))"
		fi
	} >table
	dmsetup load slow table && dmsetup suspend --noflush slow && dmsetup resume slow ||
		fail "the slow base: a table"
}

unit()		# unit NUMBER LETTER
{
	head -c 4096 /dev/zero | tr '\0' "$2" |
		dd of=/dev/mapper/d bs=4k seek="$1" oflag=direct status=none
}

reads()		# reads NUMBER
{
	dd if=/dev/mapper/d bs=4k skip="$1" count=1 iflag=direct status=none | head -c 1
}

modprobe dm-delay
truncate -s 16M slow.img
slow=$(losetup -f --show slow.img)
dmsetup create slow --table "0 $((16 * mib)) linear $slow 0"
dmchain create landing.img --backing /dev/mapper/slow --backing-format raw --block-size 64K >/dev/null
dmchain open d landing.img
begin "landing: a commit" dmchain commit d --on-error stop
wait_for 30 status_is ready
fill d 0 4 e
slow_base faults
unit 257 f &
sleep 1
unit 256 g
is $? 0 "landing: a write that the base refuses is written"
wait $!
is $? 0 "landing: so is the one that was on its way"
is "$(reads 256)$(reads 257)$(reads 258)" gfe "landing: and both are read"
remember
slow_base
run_ok "landing: resume" dmchain job resume "$id"
wait_for 30 status_is ready
run_ok "landing: pivot" dmchain pivot d
same "landing: the disk is what it was"
run_ok "landing: close" dmchain close d
run_ok "landing: no device" dmsetup remove slow
losetup -d "$slow"

# --- maps and headers of the range, and above it

for what in "map 1 112" "header 1 0"; do
	read -r name layer field <<<"$what"
	fresh
	sums=$(sha256sum </dev/mapper/lay0)
	at=1024
	[ "$field" = 0 ] || at=$(header_at 1 "$field")
	fails "$layer" "$at" 8
	refused 1 "(Input/output|I/O) error|has failed|Cannot mark a layer" "range, $name: the commit ends" \
		dmchain commit d --top 1 --base 2 --on-error stop
	[ $name != header ] || is "$(sha256sum </dev/mapper/lay0)" "$sums" "range, $name: no record, no byte is moved"
	mended "$layer"
	same "range, $name: the disk is what it was"
	fill d 20 1 f
	xfs_io -c fsync /dev/mapper/d
	is $? 0 "range, $name: the guest writes on"
	remember
	dmchain close d 2>/dev/null
	run_ok "range, $name: open" dmchain open d /dev/mapper/lay2 --force
	same "range, $name: all is there"
	finished "range, $name" "2 0"
done

fresh
begin "overlay: a commit" dmchain commit d --top 1 --base 2 --speed 2M
wait_for 30 at_least 1
fails 2 1024 8
dmchain job speed "$id" 0 >/dev/null 2>&1
wait_for 30 status_is concluded
is "$(of status) $(of error)" "concluded Input/output error" "overlay: its header can't be written: it ends"
mended 2
same "overlay: the disk is what it was"
dmchain close d 2>/dev/null
run_ok "overlay: open" dmchain open d /dev/mapper/lay2 --force
same "overlay: all is there"
finished "overlay" "2 0"

# --- a damaged map of the base: what hides those 4 MiB is all that there is of them

fresh_damaged()
{
	cp --sparse=always saved.img back.img
	cp sum.first sum
	dd if=/dev/urandom of=back.img bs=512 count=1 conv=notrunc status=none \
		seek=$(($(header_at 0 112) + 1))
	dmchain open d /dev/mapper/lay2
}

fresh_damaged
same "damaged: the disk shows nothing of it"
for policy in report ignore; do
	run_fail 1 "damaged: $policy: the commit ends with an error" \
		dmchain commit d --top 1 --base 2 --on-error $policy
	is "$(json '[.[] | select(.status == "concluded")][-1].error' dmchain job list d)" "Input/output error" \
		"damaged: $policy: which it tells"
	is "$(chain)" "2 1 0" "damaged: $policy: no layer is gone"
	same "damaged: $policy: the disk is what it was"
done
begin "damaged: stop" dmchain commit d --top 1 --base 2 --on-error stop
wait_for 30 paused_for "Input/output error"
is "$(of status) $(of error)" "paused Input/output error" "damaged: stop: it is paused"
run_ok "damaged: close, with that pending" dmchain close d
run_ok "damaged: open" dmchain open d /dev/mapper/lay2
same "damaged: opened again, the disk is what it was"
dmchain close d

fresh_damaged
begin "active damaged: a commit" dmchain commit d --base 2 --on-error stop
wait_for 30 paused_for "Input/output error"
is "$(of status) $(of error)" "paused Input/output error" "active damaged: it is paused"
same "active damaged: the disk is what it was"
fill d 5 1 d
is $? 0 "active damaged: what the guest writes there is written"
xfs_io -d -c "pwrite -q -S 0x33 6m 5k" -c fsync /dev/mapper/d &&
	blkdiscard -z -o $((7 << 20)) -l $((1 << 20)) /dev/mapper/d
is $? 0 "active damaged: so are parts of blocks, and zeroes"
is "$(xfs_io -d -c 'pread -v 7m 512' /dev/mapper/d | head -n 1 | grep -c '00 00 00 00')" 1 "active damaged: which it reads"
remember
run_ok "active damaged: resume" dmchain job resume "$id"
wait_for 30 sh -c "dmchain job show $id --json | jq -e '.errors == 2 and .status == \"paused\"'"
is "$(of status) $(of errors)" "paused 2" "active damaged: it meets it again"
same "active damaged: all is there"
no_violations "active damaged: the gate refused nothing"
run_ok "active damaged: close" dmchain close d
run_ok "active damaged: open" dmchain open d /dev/mapper/lay2
same "active damaged: opened again, too"
dmchain close d

# --- a damaged map of the base where nothing hides it, and of the top

damage()	# damage LAYER MIB: 4 MiB of it
{
	dd if=/dev/urandom of="/dev/mapper/lay$1" bs=512 count=1 oflag=direct conv=notrunc \
		status=none seek=$(($(header_at "$1" 112) + $2 / 4))
}

fresh
dmchain close d
damage 0 0
dmchain open d /dev/mapper/lay2
run_fail 1 "seen damage: there is nothing to read" dd if=/dev/mapper/d of=/dev/null bs=4k count=1 iflag=direct
begin "seen damage: a commit" dmchain commit d --base 2 --no-pivot --on-error stop
wait_for 30 sh -c "dmchain job show $id --json | jq -e '.status == \"ready\"'"
is "$(of status)" ready "seen damage: it does not meet it"
holds()		# holds KIB BYTES LETTER
{
	dd if=/dev/mapper/d iflag=skip_bytes,count_bytes,direct bs=64k skip=$(($1 << 10)) count="$2" status=none |
		cmp - <(head -c "$2" /dev/zero | tr '\0' "$3")
}
io_at()		# io_at KIB BYTES LETTER: written and read
{
	xfs_io -d -c "pwrite -q -S $(printf %d "'$3") $1k $2" -c fsync /dev/mapper/d && holds "$@"
}
run_ok "seen damage: whole blocks are written" io_at 1024 65536 e
run_ok "seen damage: zeroes are written" blkdiscard -f -z -o $((3 << 20)) -l $((512 << 10)) /dev/mapper/d
run_fail 1 "seen damage: of a part nobody knows the rest" xfs_io -d -c "pwrite -q 2m 512" /dev/mapper/d
wait_for 30 paused_for "Input/output error"
is "$(of status) $(of error)" "paused Input/output error" "seen damage: what can't be moved pauses it"
run_ok "seen damage: close" dmchain close d
run_ok "seen damage: open" dmchain open d /dev/mapper/lay2
run_ok "seen damage: what was written is there" holds 1024 65536 e
run_ok "seen damage: and the zeroes" holds 3072 524288 '\0'
dmchain close d

fresh
dmchain close d
damage 2 12
dmchain open d /dev/mapper/lay2
begin "damaged top: a commit" dmchain commit d --base 2 --on-error stop
wait_for 30 paused_for "Input/output error"
is "$(of status) $(of error)" "paused Input/output error" "damaged top: it is paused"
run_fail 1 "damaged top: no zeroes are written" blkdiscard -f -z -o $((14 << 20)) -l $((1 << 20)) /dev/mapper/d
run_fail 1 "damaged top: no data" io_at 15360 65536 e
run_ok "damaged top: elsewhere zeroes are" blkdiscard -f -z -o $((20 << 20)) -l $((1 << 20)) /dev/mapper/d
run_ok "damaged top: close" dmchain close d

# --- a stream: what takes in can't be written, then can't be made durable

fresh
fails 2 "$(data_at 2 5)" 8
begin "stream: into" dmchain stream d --on-error stop
wait_for 30 paused_for "Input/output error"
is "$(of status) $(of error)" "paused Input/output error" "stream: it is paused"
same "stream: the disk is what it was"
run_ok "stream: close, with that pending" dmchain close d
run_ok "stream: open" dmchain open d /dev/mapper/lay2
mended 2
run_ok "stream: resume" dmchain job resume d --wait
finished "stream" 2

fresh
flushes_fail 2
refused 1 "d: stream .*(Input/output|I/O) error" "stream: no flush: it ends" dmchain stream d --on-error stop
is "$(chain)" "2 1 0" "stream: no layer is gone"
same "stream: the disk is what it was"
mended 2
dmchain close d 2>/dev/null
run_ok "stream: open" dmchain open d /dev/mapper/lay2 --force
same "stream: all is there"
run_ok "stream: again" dmchain stream d
finished "stream without flushes" 2

# --- bad sectors that a write mends

if modprobe dm-dust 2>/dev/null; then
	fresh
	fails 1 "$(data_at 1 5)" $((2 * mib)) dust 512
	dmsetup message lay1 0 addbadblock 100
	dmsetup message lay1 0 enable
	begin "dust: a commit" dmchain commit d --top 1 --base 2 --on-error stop
	wait_for 30 paused_for "Input/output error"
	is "$(of status)" paused "dust: it is paused"
	dmsetup message lay1 0 disable
	run_ok "dust: resume" dmchain job resume "$id"
	run_ok "dust: it ends" dmchain job wait "$id"
	mended 1
	finished "dust" "2 0"
else
	skip "dust" "no dm-dust in this kernel"
fi

# --- a raw base on a file system that is full

truncate -s 40M fs.img
mkfs.ext4 -q fs.img && mkdir fs && mount fs.img fs || fail "a file system"
truncate -s 24M fs/raw.img
dmchain create top.img --backing fs/raw.img --backing-format raw >/dev/null
dmchain open d top.img
fill d 0 12 g
remember
ballast=$(($(stat -f -c '%a * %S' fs) - (4 << 20)))
fallocate -l $ballast fs/ballast
refused 1 "fs/raw.img: .*(missing|free)|No space" "full: a commit that has no space is refused" dmchain commit d
begin "full: forced, a commit" dmchain commit d --force --on-error enospc
wait_for 60 paused_for "No space left on device"
is "$(of status) $(of error)" "paused No space left on device" "full: it is paused"
same "full: the disk is what it was"
fill d 16 4 h
is $? 0 "full: what the guest writes is written"
xfs_io -c fsync /dev/mapper/d
is $? 0 "full: and flushed"
remember
rm fs/ballast
sync -f fs
run_ok "full: resume" dmchain job resume "$id"
wait_for 60 status_is ready
is "$(of status)" ready "full: with more space it is ready"
run_ok "full: pivot" dmchain pivot d
same "full: the disk is what it was"
run_ok "full: close" dmchain close d
is "$(sha256sum <fs/raw.img)" "$(<sum)" "full: so is the image"
umount fs

for i in 0 1 2; do
	run_ok "no lay$i" dmsetup remove lay$i
done
losetup -d "$back"
is "$(losetup -n -l 2>/dev/null)" "" "no loop device is left"
done_testing
