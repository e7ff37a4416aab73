#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug,kcsan long=6.1,debug,kcsan mem=1024 smp=2 timeout=300 group=main
# allow: Buffer I/O error
# allow: I/O error, dev
# allow: map group [0-9]+ damaged
#
# A disk appears before its layers' maps have been read: I/O waits for the part that it
# is about and for no more, what needs maps as a whole reads them, the rest is read in
# the background. The maps are on devices that take their time to be read.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"

cd "$TMP" || exit 1
modprobe dm-delay
size=256 groups=8 layer=$((272 * 2048)) layers=4

truncate -s $((layers * 272))M back.img
back=$(losetup -f --show back.img)
for ((i = 0; i < layers; i++)); do
	dmsetup create lay$i --table "0 $layer linear $back $((i * layer))"
done

table()		# table I: swapped in, from standard input
{
	dmsetup load lay"$1" && dmsetup suspend --noflush lay"$1" && dmsetup resume lay"$1"
}

map_at()	# map_at I: first sector of its map, by its header
{
	echo $(($(od -An -t u8 -j 112 -N 8 "/dev/mapper/lay$1") / 512))
}

# with_map I GROUPS TARGET...: so many groups of its map are on this
with_map()
{
	local at=$(($1 * layer)) from to
	from=$(map_at "$1") to=$((from + $2 * 8))
	table "$1" <<-END
		0 $from linear $back $at
		$from $((to - from)) ${*:3}
		$to $((layer - to)) linear $back $((at + to))
	END
}

slow()		# slow MS
{
	local i at
	for ((i = 0; i < layers; i++)); do
		[ "$(dd if=/dev/mapper/lay$i bs=8 count=1 status=none | tr -d '\0')" ] || continue
		at=$((i * layer + $(map_at $i)))
		with_map $i $groups delay "$back" $at "$1" "$back" $at 0
	done
}

unread()
{
	status_of d | grep -o 'unread=[0-9]*' | cut -d = -f 2
}

# opened NAME: and there is something left to be read
opened()	# opened NAME [OPTION]
{
	slow "${ms-200}"
	run_ok "$1: open" dmchain open d "$top" "${@:2}"
	like "$(unread)" '^[1-9]' "$1: its maps have not been read"
}

closed()
{
	run_ok "$1: close" dmchain close d
}

# Layers with data in every second group, so that each of these is read for itself
top=/dev/mapper/lay0
run_ok "create" dmchain create $top --size ${size}M
run_ok "open" dmchain open d $top
for i in 0 1 2; do
	if [ $i != 0 ]; then
		top=/dev/mapper/lay$i
		run_ok "snapshot" dmchain snapshot d=$top
	fi
	for at in 0 64 128 192; do
		fill d $((at + i)) 3 "$i"
		blkdiscard -o $((at + 16 + i))M -l 2M /dev/mapper/d
	done
done
run_ok "a model" iomodel run /dev/mapper/d --model m --init-from-dev --ops 50 --max 64K
counts=$(json '[.layers[]|."data-bytes",."zero-bytes"]' dmchain info d)
closed "made"

opened "counts"
is "$(json '[.layers[]|."data-bytes",."zero-bytes"]' dmchain info d)" "$counts" "counts: all of the maps"
is "$(unread)" 0 "counts: now they have been read"
closed "counts"

opened "background"
wait_for 60 eval '[ "$(unread)" = 0 ]'
is $? 0 "background: all have been read"
run_ok "background: as the model" iomodel verify /dev/mapper/d --model m
closed "background"

opened "I/O"
run_ok "I/O: as the model" iomodel run /dev/mapper/d --model m --threads 6 --ops 300 \
	--max 256K --seed 2 --verify-end
closed "I/O"
opened "I/O of parts"
run_ok "I/O of parts: as the model" iomodel run /dev/mapper/d --model m --threads 6 \
	--ops 300 --max 8K --seed 3 --overlap --verify-end
# What was flushed is there, whatever has been read by then
dd if=/dev/zero of=/dev/mapper/d bs=4k count=1 seek=100 oflag=direct conv=notrunc,fsync status=none
dd if=/dev/zero of=m bs=4k count=1 seek=100 conv=notrunc status=none
cp --sparse=always back.img cut.img
closed "I/O of parts"
cp --sparse=always cut.img back.img && rm cut.img && blockdev --flushbufs "$back"
opened "after a crash" --force
run_ok "after a crash: as the model" iomodel verify /dev/mapper/d --model m
closed "after a crash"

opened "a discard of it all"
run_ok "a discard of it all: it ends" blkdiscard /dev/mapper/d
truncate -s 0 m && truncate -s ${size}M m
run_ok "a discard of it all: zeroes" iomodel verify /dev/mapper/d --model m
run_ok "a discard of it all: written" iomodel run /dev/mapper/d --model m --ops 200 --seed 4 --verify-end
closed "a discard of it all"

ms=2000 opened "snapshot"
run_ok "snapshot: while they are read" dmchain snapshot d=/dev/mapper/lay3
like "$(unread)" '^[1-9]' "snapshot: it did not wait for them"
slow 0
top=/dev/mapper/lay3
run_ok "snapshot: as the model" iomodel run /dev/mapper/d --model m --threads 4 --ops 200 \
	--seed 5 --verify-end
closed "snapshot"

opened "close"
within 60 "close: at once" dmchain close d

# What can't be read is an error where it is, and there only
slow 200
with_map 0 1 error
with_map 2 1 error
run_ok "unreadable: open" dmchain open d $top
for what in "pread -q 0 4k" "pread -q 31m 1m"; do
	xfs_io -d -c "$what" /dev/mapper/d >.out 2>&1
	like "$(cat .out)" "Input/output error" "unreadable: $what"
done
run_ok "unreadable: a part without map" xfs_io -d -c "pread -q 34m 4k" /dev/mapper/d
run_ok "unreadable: is written" xfs_io -d -c "pwrite -q 0 4k" /dev/mapper/d
run_ok "unreadable: and read" xfs_io -d -c "pread -q 0 4k" /dev/mapper/d
closed "unreadable"
xfs_io -c "pwrite -q 0 4k" m

# The top's own: what would be lost is not written
slow 200
with_map 3 1 error
run_ok "unreadable top: open" dmchain open d $top
for what in "pwrite -q 0 4k" "pwrite -q 512 512" "pwrite -q 64k 128k" "fzero 0 1m"; do
	xfs_io -d -c "$what" /dev/mapper/d >.out 2>&1
	like "$(cat .out)" "(Input/output|I/O) error" "unreadable top: $what"
done
closed "unreadable top"
opened "mended"
run_ok "mended: as the model" iomodel verify /dev/mapper/d --model m
closed "mended"

opened "job"
run_ok "job: stream" dmchain stream d
run_ok "job: as the model" iomodel verify /dev/mapper/d --model m
closed "job"

ms=3000 opened "resize"
run_ok "resize: grow" dmchain resize d 260M
truncate -s 260M m
run_ok "resize: as the model" iomodel run /dev/mapper/d --model m --ops 100 --seed 6 --verify-end
no_violations "the gate refused nothing"
closed "resize"

for ((i = 0; i < layers; i++)); do
	run_ok "no lay$i" dmsetup remove lay$i
done
losetup -d "$back"

done_testing
