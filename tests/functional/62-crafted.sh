#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.12,debug long=debug mem=1024 smp=2 timeout=300 group=crafted
#
# Crafted images: layers of a chain spoiled by tools/craft, mostly with checksums that
# are right, are opened by the controller and by the kernel alone. Either it is refused,
# in one line and with an exit code that says why, or there is a disk that reads as its
# maps say. In bounded time and memory, and a look changes nothing.
# FUZZ_SECONDS: for how long, FUZZ_SEED: where the second half of the seeds begins.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"

seconds=${FUZZ_SECONDS:-30}
slow=${TIMEOUT_SCALE:-1}
[ "$KERNEL" != debug ] || slow=$((slow * 3))
limit=$((10 * slow))	# seconds for one step
cd "$TMP" || exit 1
load_module
modprobe loop max_loop=0 2>/dev/null

# --- what is spoiled: three layers, and two on a raw one

made()	# made FILE OFFSET-KIB: data, zeroes and holes in it
{
	dmchain open m "$1" && xfs_io -d -c "pwrite -q -S 0x$2 ${2}k 300k" \
		-c "pwrite -q -S 0x$2 $((2048 - $2))k 100k" /dev/mapper/m &&
		blkdiscard -o $(($2 * 4096 * 4)) -l 65536 /dev/mapper/m && dmchain close m ||
		fail "fill $1"
}
dmchain create base.img --size 4M --max-size 64M >/dev/null
made base.img 16
dmchain create mid.img --backing base.img --backing-format chain >/dev/null
made mid.img 64
dmchain create top.img --backing mid.img --backing-format chain --block-size 16K >/dev/null
made top.img 128
truncate -s 2M raw
dmchain create lower.img --backing raw --backing-format raw --size 4M >/dev/null
made lower.img 32
dmchain create upper.img --backing lower.img --backing-format chain >/dev/null
made upper.img 96
mkdir made
mv ./*.img raw made/

# --- one image

why='no chain header|format version unknown|header checksum wrong|incompatible feature unknown'
why+='|header contradicts itself|two headers of one generation differ'

changed()	# of the files of the chain
{
	stat -c "%y %s %n" "${chain[@]}"
}

available()
{
	echo 3 >/proc/sys/vm/drop_caches
	awk '/^MemAvailable/ { print $2 }' /proc/meminfo
}

# step COMMAND...: its status is in $status, its output in out and err; in time, or else
step()
{
	local begin=$EPOCHREALTIME
	status=0
	timeout -k 5 $((limit * 3)) "$@" >out 2>err || status=$?
	took=$(((${EPOCHREALTIME/./} - ${begin/./}) / 1000))
	[ $took -lt $((limit * 1000)) ] || fail "$what: in bounded time" "$* took $took ms"
	[ $took -lt "$longest" ] || longest=$took
}

# A refusal is one line that says why, and has a code that says whose fault it is
judge_refusal()
{
	local lines
	lines=$(grep -vc '^dmchain: warning: ' err)
	case $status in
	3|4)	;;
	*)	fail "$what: refused as an image" "exit status $status: $(head -c 400 err)";;
	esac
	[ "$lines" = 1 ] || fail "$what: refused in one line" "$(head -c 800 err)"
}

# The disk d: as long as it says, what its map says, and read to its end or an error
judge_disk()
{
	local size before now
	size=$(blockdev --getsize64 /dev/mapper/d)
	[ "$size" -gt 0 ] || fail "$what: it has a size"
	step dmchain map d --json
	[ $status = 0 ] || fail "$what: its map" "$(<err)"
	cmp -s out closed || fail "$what: the kernel's map is the controller's" \
		"$(diff closed out | head -n 5 | paste -sd ' ')"
	# Its first and last MiB: errors where the map says so, nowhere else
	for where in 0 $((size > 1048576 ? size / 65536 - 16 : 0)); do
		step dd if=/dev/mapper/d of=/dev/null bs=64K skip=$where count=17 iflag=direct
		[ $status = 0 ] || grep -q damaged closed ||
			fail "$what: it can be read" "$(<err)"
	done
	now=$(awk '/^MemAvailable/ { print $2 }' /proc/meminfo)
	[ "$now" -gt $((memory - 300000)) ] || fail "$what: in bounded memory" "$memory, now $now KiB"
	step dmchain close d
	[ $status = 0 ] || fail "$what: closed" "$(<err)"
}

# What the kernel says of the same layers, without a controller that looks first
kernel_alone()
{
	local table="0 8 chain ${#chain[@]}" file loop loops=()
	for file in "${chain[@]}"; do
		loop=$(losetup --show -r -f "$file" 2>err) || break
		loops+=("$loop")
		table+=" $loop $([ "$file" = raw ] && echo raw || echo chain) ro"
	done
	if [ ${#loops[@]} = ${#chain[@]} ]; then
		dmesg -C
		step dmsetup create k -r --table "$table"
		kernel=$(dmesg | grep -oE "$why" | head -n 1)
		if [ $status = 0 ]; then
			taken=$((taken + 1))
			step dd if=/dev/mapper/k of=/dev/null bs=4K count=1 iflag=direct
			step dmsetup remove k
			[ $status = 0 ] || fail "$what: removed" "$(<err)"
		fi
	fi
	[ ${#loops[@]} = 0 ] || losetup -d "${loops[@]}"
}

# one SEED CHAIN...: the layer that is spoiled is one of the files
one()
{
	local seed=$1 victim before status kernel='' said writable accepted
	shift
	chain=("$@")
	rm -rf ./*.img raw
	for file in "${chain[@]}"; do
		cp --sparse=always made/"$file" .
	done
	victim=${chain[$((seed / 2 % ${#chain[@]}))]}
	[ "$victim" != raw ] || victim=${chain[0]}
	what="$victim, $(craft "$victim" "$seed")"
	echo "$what" >last
	before=$(changed)
	step dmchain map "${chain[0]}" --json
	cp out closed
	step dmchain open d "${chain[0]}" --read-only
	said=$(grep -oE "$why" err | head -n 1) accepted=0
	if [ $status = 0 ]; then
		accepted=1
		opened=$((opened + 1))
		judge_disk
	else
		refused=$((refused + 1))
		judge_refusal
	fi
	[ "$before" = "$(changed)" ] || fail "$what: a look changes nothing" \
		"$(diff <(echo "$before") <(changed) | paste -sd ' ')"
	# What is a disk by the controller's means is one by the kernel's
	[ $accepted = 1 ] || kernel_alone
	[ "$before" = "$(changed)" ] || fail "$what: nor does the kernel's" "$(changed | paste -sd ' ')"
	# One codec: what a header is refused for, both refuse it for
	[ -z "$said$kernel" ] || [ "$said" = "$kernel" ] ||
		fail "$what: both say the same of the header" "controller '$said', kernel '$kernel'"
	[ $((seed % 3)) = 0 ] || return 0
	writable=$(stat -c "%y %s %n" "${chain[@]:1}")
	step dmchain open d "${chain[0]}"
	if [ $status = 0 ]; then
		written=$((written + 1))
		step dd if=/dev/urandom of=/dev/mapper/d bs=4K count=4 oflag=direct conv=fsync
		step dmchain close d
		[ $status = 0 ] || fail "$what: closed after a write" "$(<err)"
		[ "$writable" = "$(stat -c "%y %s %n" "${chain[@]:1}")" ] ||
			fail "$what: a write changes the top only" "$(stat -c "%y %s %n" "${chain[@]}" | paste -sd ' ')"
	else
		judge_refusal
	fi
}

# --- go

memory=$(available)
opened=0 refused=0 taken=0 written=0 longest=0
# What lands is judged by the same ones each time; those of chance are for the long run
chance=1000
[ -z "${LONG-}" ] || chance=$(($(date +%s) % 1000000 * 1000))
for first in 1 "${FUZZ_SEED:-$chance}"; do
	end=$((SECONDS + seconds / 2))
	echo "# seeds from $first on; to repeat seed N: FUZZ_SEED=N FUZZ_SECONDS=1"
	failed=$tap_failed
	for ((seed = first; ; seed++)); do
		if [ $((seed % 2)) = 0 ]; then
			one $seed top.img mid.img base.img
		else
			one $seed upper.img lower.img raw
		fi
		[ $SECONDS -lt $end ] || break
	done
	is $tap_failed "$failed" "seeds $first to $seed: refused, or as they say"
done
echo "# $opened opened, $refused refused, $written written; $taken taken by the kernel alone; longest step $longest ms"
[ $opened -gt 0 ] && [ $refused -gt 0 ]
is $? 0 "some were opened, some were refused"
rm -rf ./*.img
is "$(losetup -n -l)" "" "no loop device is left"
now=$(available)
[ "$now" -gt $((memory - 65536)) ]
is $? 0 "memory is free again: $memory KiB before, $now KiB now"

# A layer of 8 TiB of which nothing is known: a few KiB on disk, all of it damaged
dmchain create huge.img --size 8T >/dev/null
dd if=/dev/zero of=huge.img bs=512K seek=2 count=1 conv=notrunc status=none
what="a huge layer" chain=(huge.img)
# A GiB of map is read for it
limit=$((limit * 4))
for command in info check "map --json"; do
	# shellcheck disable=SC2086 # words
	step prlimit --as=200000000 dmchain $command huge.img
	[ $status = 0 ] || [ "$command$status" = check1 ]
	is $? 0 "8 TiB of damage: $command in little memory, $took ms"
done
like "$(<out)" "damaged" "it says so"
cp out closed
run_ok "it can be looked at" dmchain open d huge.img --read-only
failed=$tap_failed
judge_disk
is $tap_failed "$failed" "the kernel says the same, in bounded time and memory"
done_testing
