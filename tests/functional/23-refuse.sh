#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug long=6.1,debug mem=1024 smp=2 timeout=400 group=main
#
# What must be refused, by the controller and, with dmsetup directly, by the
# kernel: with a message, the right exit code, and nothing changed on disk.
# Damage is kept to what it hit.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"

cd "$TMP" || exit 1

images()
{
	local file
	# To the nanosecond: what was written at all counts
	for file in *.img *.raw; do
		[ ! -e "$file" ] || stat -c "%y %s %n" "$file"
	done
}

# kept STATUS REGEX NAME COMMAND...: refused, and no image was changed
kept()
{
	local before after name=$3
	before=$(images)
	refused "$@"
	after=$(images)
	[ "$before" = "$after" ] || fail "$name: nothing is changed" \
		"$(diff <(echo "$before") <(echo "$after") | tail -n 3 | paste -sd ' ')"
	dmsetup info d >/dev/null 2>&1 && fail "$name: there is no disk" && dmchain close d
	[ -z "$(losetup -n -l 2>/dev/null)" ] || fail "$name: no loop device is left" "$(losetup -n -l)"
}

create()	# create FILE OPTIONS...
{
	dmchain create "$@" --max-size 2M >/dev/null || fail "create $1"
}

write()		# write FILE PATTERN OFFSET: into the disk that the file is the top of
{
	dmchain open w "$1" && xfs_io -d -c "pwrite -q -S $2 $3 64k" /dev/mapper/w &&
		dmchain close w || fail "write to $1"
}

chain()		# chain: base <- mid <- top, each with some data
{
	rm -f ./*.img ./*.raw
	if [ -d made ]; then
		cp --sparse=always made/*.img .
		return
	fi
	create base.img --size 1M
	write base.img 0x11 0
	create mid.img --backing base.img --backing-format chain
	write mid.img 0x22 64k
	create top.img --backing mid.img --backing-format chain
	write top.img 0x33 128k
	mkdir made
	cp --sparse=always ./*.img made/
}

smash()		# smash FILE OFFSET LENGTH
{
	dd if=/dev/urandom of="$1" bs=512 seek=$(($2 / 512)) count=$(($3 / 512)) \
		conv=notrunc status=none
}

opens()		# opens NAME FILE [OPTIONS]
{
	run_ok "$1" dmchain open d "$2" "${@:3}" && dmchain close d
}

# --- parents

chain
opens "the chain opens" top.img
mv mid.img keep
create mid.img --size 1M
kept 4 "mid.img.*not the parent" "wrong parent" dmchain open d top.img
rm mid.img
kept 4 "mid.img" "no parent" dmchain open d top.img
mv keep mid.img
cp --sparse=always top.img keep
dmchain unseal mid.img >/dev/null
kept 4 "mid.img.*modified" "an unsealed parent is no parent any more" dmchain open d top.img
write mid.img 0x44 0
kept 4 "mid.img.*modified" "nor a modified one" dmchain open d top.img
kept 4 "mid.img.*modified" "also not read-only" dmchain open d top.img --read-only

chain
mv base.img x; mv mid.img base.img; mv x mid.img
kept 4 "not the parent|circle" "swapped layers" dmchain open d top.img
chain
headeredit base.img set both parent.format=2 parent.uuid="$(headeredit top.img get 0 uuid)" \
	parent.cid="$(headeredit top.img get 0 cid)" parent.size=1048576 parent_path=top.img
kept 4 "circle" "a cycle in the links" dmchain open d top.img
headeredit base.img set both parent.uuid="$(headeredit base.img get 0 uuid)" \
	parent.cid="$(headeredit base.img get 0 cid)" parent_path=base.img
kept 4 "circle" "a layer that is its own parent" dmchain open d top.img
chain
cp --sparse=always mid.img x.img
headeredit base.img set both parent.format=2 parent.uuid="$(headeredit mid.img get 0 uuid)" \
	parent.cid="$(headeredit mid.img get 0 cid)" parent.size=1048576 parent_path=x.img
kept 4 "same UUID|circle" "a cycle by way of a copy" dmchain open d top.img

# --- a raw base

chain
yes raw | head -c 1M >base.raw
create t.img --backing base.raw --backing-format raw
opens "a raw base" t.img
printf x | dd of=base.raw bs=1 seek=100 conv=notrunc status=none
kept 4 "base.raw.*modified" "one byte at its start is changed" dmchain open d t.img
printf r | dd of=base.raw bs=1 seek=100 conv=notrunc status=none
opens "changed back" t.img
printf x | dd of=base.raw bs=1 seek=1048000 conv=notrunc status=none
kept 4 "base.raw.*modified" "one byte at its end is changed" dmchain open d t.img
yes raw | head -c 1M >base.raw
truncate -s +4K base.raw
kept 4 "base.raw.*bytes" "it has grown" dmchain open d t.img
refused 4 "base.raw|multiple" "it has an odd size" sh -c "truncate -s 1048577 base.raw; dmchain open d t.img; s=\$?; truncate -s 1052672 base.raw; exit \$s"

# --- truncated

chain
size=$(stat -c %s mid.img)
cp --sparse=always mid.img keep
for less in 4096 1048576 $((size - 2048)); do
	cp --sparse=always keep mid.img
	truncate -s -$less mid.img
	kept 4 "mid.img.*(truncated|no chain header)" "truncated by $less" dmchain open d top.img
done
: >mid.img
kept 4 "mid.img" "empty" dmchain open d top.img

# --- headers

other=524288	# offset of the second one
for slot in 0 $other; do
	chain
	smash top.img $slot 4096
	opens "one header is damaged (at $slot)" top.img
	run_ok "which mended it" dmchain check top.img
	chain
	smash base.img $slot 4096
	before=$(images)
	opens "that of a lower layer (at $slot)" top.img --read-only
	is "$(images)" "$before" "which changes nothing, read-only"
	# The newest must still serve: after a seal, ...
	chain
	create more.img --backing top.img --backing-format chain
	smash top.img $slot 4096
	kept 3 "top.img.*sealed" "damaged after a seal (at $slot): it is still sealed" \
		dmchain open d top.img
	opens "... and the child fits" more.img
	# ... a new id, ...
	chain
	run_ok "new id" dmchain new-id mid.img --force
	smash mid.img $slot 4096
	kept 4 "not the parent" "damaged after a new id (at $slot): the new one" dmchain open d top.img
	# ... a resize, ...
	chain
	run_ok "resize" dmchain resize top.img 2M
	smash top.img $slot 4096
	run_ok "damaged after a resize (at $slot)" dmchain open d top.img
	is "$(blockdev --getsize64 /dev/mapper/d)" 2097152 "it has the new size"
	dmchain close d
	# ... and a snapshot
	chain
	run_ok "snapshot" dmchain open d top.img
	dmchain snapshot d=s.img >/dev/null
	dmchain close d
	smash top.img $slot 4096
	kept 3 "top.img.*sealed" "damaged after a snapshot (at $slot): it is still sealed" \
		dmchain open d top.img
	opens "... and the new top fits" s.img
	chain
	smash top.img 0 4096
	smash top.img $other 4096
	kept 4 "top.img.*no chain header" "both headers of the top are damaged" dmchain open d top.img
	smash mid.img 16 512
done
for layer in top mid base; do
	chain
	for slot in 0 $other; do
		dd if=/dev/zero of=$layer.img bs=512 seek=$((slot / 512)) count=8 conv=notrunc status=none
	done
	kept 4 "$layer.img.*(no chain header|no layer)" "both headers of $layer are zeroes" dmchain open d top.img
done
chain
printf '\377' | dd of=mid.img bs=1 seek=200 conv=notrunc status=none
printf '\377' | dd of=mid.img bs=1 seek=$((other + 200)) conv=notrunc status=none
kept 4 "mid.img.*checksum" "both headers of a lower layer are damaged" dmchain open d top.img
chain
headeredit mid.img set 1 cid=00112233445566778899aabbccddeeff
kept 4 "mid.img.*generation" "two headers of one generation differ" dmchain open d top.img

for layer in top mid; do
	chain
	headeredit $layer.img set both incompat=16
	kept 4 "$layer.img.*feature" "an unknown incompatible feature in $layer" dmchain open d top.img
	kept 4 "$layer.img.*feature" "... also read-only" dmchain open d top.img --read-only
	chain
	headeredit $layer.img set both version=2
	kept 4 "$layer.img.*version" "an unknown version of $layer" dmchain open d top.img
	chain
	headeredit $layer.img set both compat=16
	opens "an unknown compatible feature in $layer" top.img
	headeredit $layer.img set both compat_ro=16
	opens "an unknown read-only-compatible feature in $layer, read-only" top.img --read-only
done
opens "an unknown read-only-compatible feature below" top.img
chain
headeredit top.img set both compat_ro=16
kept 4 "top.img.*read" "an unknown read-only-compatible feature in the top" dmchain open d top.img

# --- marks, users

chain
kept 3 "mid.img.*sealed.*top.img" "a sealed layer as top" dmchain open d mid.img
opens "... but read-only" mid.img --read-only
headeredit top.img set both marks=4 use_host=000102030405060708090a0b0c0d0e0f
kept 3 "top.img.*in use by host 00010203" "in use by another host" dmchain open d top.img
kept 3 "top.img.*in use by host" "... also for other commands" dmchain resize top.img 2M
opens "... which --force takes over" top.img --force
for mark in 8:copy 16:pivot 32:commit 64:retired 128:snapshot; do
	chain
	headeredit top.img set both "marks=${mark%:*}"
	kept 4 "top.img.*${mark#*:}" "mark ${mark%:*}: ${mark#*:}" dmchain open d top.img
done

chain
run_ok "open" dmchain open d top.img
cp --sparse=always top.img copy.img
refused 3 "top.img|disk d" "a second writer" dmchain open e top.img
refused 3 "disk d|top.img" "a reader of what is written" dmchain open e top.img --read-only
refused 3 "copy|UUID" "a copy beside its original" dmchain open e copy.img
run_fail 3 "create on a top in use" dmchain create n.img --backing top.img --backing-format chain
run_ok "readers of lower layers" dmchain open e mid.img --read-only
refused 3 "mid.img|disk" "unseal below an open disk" dmchain unseal mid.img
cp --sparse=always base.img basecopy.img
create n.img --size 1M
cp --sparse=always mid.img midcopy.img
refused 3 "copy|UUID" "a copy of a lower layer beside its original" \
	dmchain open f midcopy.img --read-only
dmchain close e
dmchain close d

# --- a damaged map sector: its 4 MiB, and nothing else

rm -f ./*.img ./*.raw
dmchain create m0.img --size 24M --max-size 64M >/dev/null
dmchain open d m0.img
xfs_io -d -c "pwrite -q -S 0x55 0 24m" /dev/mapper/d
dmchain close d
map=$(headeredit m0.img get 0 map_offset)
smash m0.img $((map + 512)) 512
run_fail 1 "check finds a damaged map sector" dmchain check m0.img
run_ok "it opens" dmchain open d m0.img
io()		# io WANT NAME DISK COMMAND: WANT is 0 or any
{
	run_fail "$1" "$2" xfs_io -d -c "$4" "$3"
}
for at in 4m 6m 8388096; do
	io any "damaged: no reads at $at" /dev/mapper/d "pread -q $at 512"
	io any "damaged: no writes at $at" /dev/mapper/d "pwrite -q $at 512"
done
io any "damaged: no whole blocks" /dev/mapper/d "pwrite -q 5m 64k"
for at in 4193792 8m 0 20m; do
	io 0 "others: reads at $at" /dev/mapper/d "pread -q $at 512"
	io 0 "others: writes at $at" /dev/mapper/d "pwrite -q -S 0x66 $at 512"
done
is "$(xfs_io -d -c 'pread -v 8m 512' /dev/mapper/d | head -n 1 | grep -c ' 66 ')" 1 "others: what was written"
# The rest of the group is written anew; the damage must not become a hole
sync /dev/mapper/d
dmchain close d
run_fail 1 "check still finds it" dmchain check m0.img
run_ok "it opens again" dmchain open d m0.img
io any "it is still damaged" /dev/mapper/d "pread -q 5m 4k"
io 0 "others are still fine" /dev/mapper/d "pread -q 9m 4k"
run_ok "a snapshot of it" dmchain snapshot d=m1.img
io 0 "above it whole blocks can be written" /dev/mapper/d "pwrite -q -S 0x77 4m 64k"
io 0 "... and read" /dev/mapper/d "pread -q 4m 64k"
io any "... but not what is damaged" /dev/mapper/d "pread -q 5m 4k"
io any "... nor in part written" /dev/mapper/d "pwrite -q 5m 512"
dmchain close d
smash m0.img "$(headeredit m0.img get 0 presence_offset)" 512
run_ok "a damaged presence sector: it opens" dmchain open d m0.img --read-only
io any "... but nobody knows which map groups count" /dev/mapper/d "pread -q 9m 4k"
dmchain close d
run_fail 1 "... which check says" dmchain check m0.img
like "$(output)" "presence" "... by name"

# --- the kernel itself: tables by hand

# table STATUS-TEXT NAME LINE...
table_refused()
{
	local regex=$1 name=$2
	shift 2
	dmesg -C
	run_fail any "table: $name" dmsetup create t --table "$*"
	like "$(dmesg)" "$regex" "table: $name: the log says why"
	dmsetup remove t 2>/dev/null
}

chain
modprobe dm-chain
for layer in base mid top; do
	losetup -r -f $layer.img
	declare "$layer=$(loop_of $layer.img)"
done
# shellcheck disable=SC2154 # declared in the loop
ro="$mid chain ro $base chain ro"
before=$(images)
table_refused "read-only" "a read-only device for rw" "0 2048 chain 3 $top chain rw $ro"
losetup -d "$top"
losetup -f top.img
top=$(loop_of top.img)
table_refused "drops the layers" "the lowest layer is missing" "0 2048 chain 2 $top chain rw $mid chain ro"
table_refused "another parent" "a layer between is missing" "0 2048 chain 2 $top chain rw $base chain ro"
table_refused "another parent" "wrong order" "0 2048 chain 3 $top chain rw $base chain ro $mid chain ro"
table_refused "one place only" "a device twice" "0 2048 chain 3 $top chain rw $mid chain ro $mid chain ro"
table_refused "longer than its top" "too long" "0 4096 chain 3 $top chain rw $ro"
table_refused "sealed|read-only" "a sealed layer rw" "0 2048 chain 2 $mid chain rw $base chain ro"
table_refused "format" "a chain layer as raw" "0 2048 chain 3 $top chain rw $mid chain ro $base raw ro"
table_refused "chain header|no header" "no chain layer" "0 2048 chain 1 $(truncate -s 8M zero; losetup -f --show zero) chain rw"
table_refused "." "no layers" "0 2048 chain 0"
table_refused "." "words that it does not know" "0 2048 chain 1 $top chain wo"
is "$(images)" "$before" "table: nothing is changed by all these"
headeredit mid.img set both cid=00112233445566778899aabbccddeeff
table_refused "modified after" "a modified parent" "0 2048 chain 3 $top chain rw $ro"
cp --sparse=always made/mid.img x.img && dd if=x.img of=mid.img bs=4k count=129 conv=notrunc status=none

dmsetup create bad --table "0 65536 error"
table_refused "header cannot be read" "a device that can't be read" "0 2048 chain 1 /dev/mapper/bad chain rw"
refused 1 "bad: header cannot be read" "a device that can't be read" dmchain open d /dev/mapper/bad
dmsetup remove bad

run_ok "table: the right one" dmsetup create t --table "0 2048 chain 3 $top chain rw $ro"
create n.img --size 1M
losetup -f n.img
dmesg -C
run_fail any "reload: another top" dmsetup reload t --table "0 2048 chain 1 $(loop_of n.img) chain rw"
like "$(dmesg)" "another top" "reload: another top: the log says why"
losetup -b 4096 -f zero
big=$(losetup -n -O NAME,LOG-SEC | awk '$2 == 4096 { print $1 }')
dmesg -C
run_fail any "reload: larger sectors than the running disk's" dmsetup reload t \
	--table "0 2048 chain 4 $top chain rw $ro $big raw ro"
like "$(dmesg)" "larger logical blocks" "reload: larger sectors: the log says why"
run_ok "reload: the right one" dmsetup reload t --table "0 2048 chain 3 $top chain rw $ro"
run_ok "resume" dmsetup resume t
run_ok "remove" dmsetup remove t
losetup -D

done_testing
