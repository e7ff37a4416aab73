#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug long=6.1,6.12,debug mem=1024 smp=2 timeout=900 group=jobs
# allow: Buffer I/O error|I/O error, dev|lost async page write|layer .* failed
#
# A lower layer moves to another place while its disk is written: the chain keeps its
# shape, and is found at the new place. Layers of all kinds, snapshots meanwhile, what is
# no copy, a copy that is cut off and goes on, kill -9 at each step of the change.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"
. "$(dirname "$0")/../lib/jobs.sh"
. "$(dirname "$0")/../lib/several.sh"

cd "$TMP" || exit 1
mkdir -p there else

places()	# where the layers are, seen from here
{
	json '[.layers[].path | sub(".*/(?<d>[^/]+)/"; "\(.d)/") | sub("^'"${TMP##*/}"'/"; "")] | join(" ")' \
		dmchain info "$@"
}

# found TOP PLACES NAME: table and headers agree on them, and the disk is the model
found()
{
	local name=$3
	is "$(places d)" "$2" "$name: the disk has them"
	run_ok "$name: close" dmchain close d
	is "$(places "$1" "${@:4}")" "$2" "$name: the headers name them"
	run_ok "$name: open" dmchain open d "$1" "${@:4}"
	run_ok "$name: all is there" iomodel verify /dev/mapper/d --model m
}

fails()		# fails NAME COMMAND...
{
	"${@:2}" >fails.out 2>&1
	[ $? -ne 0 ]
	is $? 0 "$1"
}

# --- each layer of a chain, under load

stack 3 32M "4K 64K"
before=$(sums 0.img 1.img)
under "the middle" dmchain mirror d there/1.img --layer 1
under "the base" dmchain mirror d there/0.img --layer 2 --format chain --verify
is "$(sums 0.img 1.img)" "$before" "the old ones are what they were"
rm 0.img 1.img
found 2.img "2.img there/1.img there/0.img" "moved"
for i in 0 1; do
	run_ok "moved: $i is sound" dmchain check there/$i.img
done
is "$(json '.layers[].marks | join(" ")' dmchain info there/1.img | head -n 1)" sealed "moved: sealed as before"
run_ok "a layer above" dmchain snapshot d=3.img
under "it is written again" dmchain commit d --top 1 --base 2
found 3.img "3.img there/1.img there/0.img" "written again"
run_ok "and back, with what is left of a link" dmchain mirror d "$PWD/1.img" --layer there/1.img
under "other jobs go on with it" dmchain commit d --top 1 --base 2
found 3.img "3.img there/0.img" "merged"
dmchain close d

# --- a raw base

rm -f there/*
stack 3 16M 4K raw
under "raw" dmchain mirror d there/raw --layer 2 --format raw
cmp 0.img there/raw
is $? 0 "raw: the same bytes"
[ "$(used there/raw)" -le "$(used 0.img)" ]
is $? 0 "raw: it takes no more room"
rm 0.img
found 2.img "2.img 1.img there/raw" "raw"

# Of a size that is no multiple of 4 KiB, which has to stay what it is
bytes=$(((6 << 20) + 2560))
odd()		# odd NAME TARGET ARGS...
{
	local name=$1
	shift
	run_ok "odd size: $name" dmchain mirror o "$1" --layer 1 --format raw "${@:2}"
	cmp odd.raw "$1"
	is $? 0 "odd size: $name: the same bytes"
	run_ok "odd size: $name: close" dmchain close o
	run_ok "odd size: $name: open" dmchain open o o.img
}
head -c $bytes /dev/urandom >odd.raw
dmchain create o.img --backing odd.raw --backing-format raw >/dev/null
run_ok "odd size: open" dmchain open o o.img
odd "a file" there/odd
truncate -s $bytes else/odd
odd "one that is there" "$PWD/else/odd" --existing
is "$(stat -c %s there/odd else/odd | xargs)" "$bytes $bytes" "odd size: it stays"
truncate -s $bytes device
loop=$(losetup -f --show device)
odd "a device" "$loop"
dmchain close o
losetup -d "$loop"
rm odd.raw o.img there/odd else/odd device

# --- snapshots meanwhile

dmchain mirror d there/1.img --layer 1 --speed 1M >move.out 2>&1 &
wait_for 10 test -e there/1.img
run_ok "a snapshot meanwhile" dmchain snapshot d=3.img
write --ops 50 --seed $((++seed))
wait $!
is $? 0 "it ends well ($(tail -n 1 move.out))"
found 3.img "3.img 2.img there/1.img there/raw" "snapshot meanwhile"

# --- what can't be

refused 2 "active one.* leave --layer out" "the active layer" dmchain mirror d x.img --layer 0
refused 1 "no such layer" "no layer" dmchain mirror d x.img --layer 7
refused 2 "is raw, and stays so" "another format" dmchain mirror d x.img --layer 3 --format chain
refused 2 "shallow: does not go with --layer" "shallow" dmchain mirror d x.img --layer 1 --shallow
refused 2 "background: does not go" "background" dmchain mirror d x.img --layer 1 --background
refused 1 "exists already" "what is there" dmchain mirror d there/1.img --layer 2
dmchain create other.img --size 16M >/dev/null
refused 4 "neither a copy" "what is none" dmchain mirror d other.img --layer 2 --existing
refused 3 "in use, a layer of disk d" "onto itself" dmchain mirror d there/1.img --layer 1 --existing
truncate -s 17M x
refused 1 "known by its size" "another size" dmchain mirror d x --layer 3 --existing
rm x
dmchain stream d --into 1 --base 3 --speed 1 --background >/dev/null
refused 3 "stream" "a layer that a job is to drop" dmchain mirror d x.img --layer 2
[ ! -e x.img ]
is $? 0 "nothing was begun"
run_ok "cancel" dmchain job cancel d
dmchain create e.img --backing there/1.img --backing-format chain >/dev/null
dmchain open e e.img
refused 3 "another disk has layer 2" "a shared layer" dmchain mirror d x.img --layer 2
dmchain close e
# The kernel knows of no other child, but its header does
run_ok "a layer with another child" dmchain mirror d x.img --layer 2
found 3.img "3.img 2.img x.img there/raw" "another child"
refused 3 "in use on another device" "which is refused while that is in use" dmchain open e e.img --read-only
dmchain close d
run_ok "and finds it where it was" dmchain open e e.img --read-only
dmchain close e
run_ok "read-only: open" dmchain open d 3.img --read-only
refused 3 "open read-only" "read-only" dmchain mirror d y.img --layer 1
dmchain close d
rm -f ./*.img there/*

# --- the kernel takes a true copy, and for who has copied the layer only

stack 2 16M
cp 0.img there/0.img
table=$(dmsetup table d)
loop=$(losetup -f --show -r there/0.img)
# shellcheck disable=SC2001 # the last device of the line
with=$(sed "s/\(.* \)[0-9]*:[0-9]*\( chain ro.*\)/\1$(stat -c '%Hr:%Lr' "$loop")\2/" <<<"$table")
fails "a copy by itself" dmsetup load d --table "$with"
dmsetup clear d
run_ok "a copy with a token" dmchain perm hold copy-layer d --top 1 -- dmsetup load d --table "$with"
dmsetup clear d
losetup -d "$loop"
# Its header is right, its map is not
dd if=/dev/urandom of=there/0.img bs=512 count=1 conv=notrunc status=none \
	seek=$(($(headeredit there/0.img get 0 map_offset) / 512))
loop=$(losetup -f --show -r there/0.img)
fails "a copy with another map" dmchain perm hold copy-layer d --top 1 -- dmsetup load d --table "$with"
dmsetup clear d
losetup -d "$loop"
refused 4 "its map is damaged" "nor does the controller take it" dmchain mirror d there/0.img --layer 1 --existing
cp 0.img there/0.img
block=$(json '.[] | select(.data) | .start' dmchain map 0.img | head -n 1)
printf x | dd of=there/0.img bs=1 conv=notrunc status=none \
	seek=$(($(headeredit there/0.img get 0 data_offset) + block + 5))
refused 4 "is no copy of .*differ at byte $((block + 5))" "a copy with another byte" \
	dmchain mirror d there/0.img --layer 1 --existing
run_ok "the disk is what it was" iomodel verify /dev/mapper/d --model m
cp 0.img there/0.img
run_ok "one that somebody has made" dmchain mirror d there/0.img --layer 1 --existing
found 1.img "1.img there/0.img" "made by hand"
dmchain close d
rm -f ./*.img there/*

# Links that are relative to where the original lies; and two at once
stack 3 16M
cp 1.img there/
run_ok "one with the links of the original" dmchain mirror d there/1.img --layer 1 --existing
found 2.img "2.img there/1.img 0.img" "links of the original"
dmchain mirror d else/1.img --layer 1 --speed 300K >move.1 2>&1 &
move=$!
wait_for 20 test -e else/1.img
run_ok "the one below meanwhile" dmchain mirror d else/0.img --layer 2
kill -0 $move
is $? 0 "the first is not done"
wait $move
is $? 0 "both have moved ($(tail -n 1 move.1))"
found 2.img "2.img else/1.img else/0.img" "two at once"
dmchain close d
rm -f ./*.img there/* else/*

# Its parent stays; the header is written by the disk that has the old one in mind
stack 3 16M
run_ok "only the middle" dmchain mirror d there/1.img --layer 1
rm 1.img
under "it becomes the top" dmchain commit d --base 1
found there/1.img "there/1.img 0.img" "written where it is now"
dmchain close d
rm -f ./*.img there/* else/*

# --- cut off, and it goes on

dmchain create 0.img --size 160M >/dev/null
dmchain open d 0.img
yes "a layer" | dd of=/dev/mapper/d bs=1M count=150 iflag=fullblock oflag=direct status=none
dmchain snapshot d=1.img >/dev/null
before=$(dd if=/dev/mapper/d bs=1M iflag=direct status=none | sha256sum)
dmchain mirror d there/0.img --layer 1 --speed 20M >move.out 2>&1 &
move=$!
wait_for 30 grep -q "move [6-9][0-9] %" move.out
kill -INT $move
wait $move
is $? 1 "interrupted: it says so"
like "$(tail -n 1 move.out)" "stays where it was.*--existing goes on" "interrupted: and what to do"
refused 4 "incomplete|never completed" "interrupted: it is no layer" dmchain open e there/0.img
copied=$(json .copied dmchain mirror d there/0.img --layer 1 --existing)
[ "${copied:-0}" -gt $((20 << 20)) ] && [ "$copied" -lt $((100 << 20)) ]
is $? 0 "it goes on where it was ($((copied >> 20)) MiB were left)"
rm 0.img
dmchain close d
run_ok "and opens" dmchain open d 1.img
is "$(dd if=/dev/mapper/d bs=1M iflag=direct status=none | sha256sum)" "$before" "it is what it was"
dmchain close d
rm -f ./*.img there/*

# --- killed at each call of the second half

killed()	# killed N [PATH]: at the n-th ioctl; true if it was
{
	local status=0
	strace -qq -o /dev/null -e trace=ioctl -e "inject=ioctl:signal=KILL:when=$1" \
		dmchain mirror d "${2-else/0.img}" --layer 2 >kill.out 2>&1 || status=$?
	[ $status = 137 ]
}

stack 3 8M
strace -qq -o calls -e trace=ioctl dmchain mirror d else/0.img --layer 2 >/dev/null
total=$(wc -l <calls)
first=$(awk '{ i++ } /DM_TABLE_LOAD/ { print i; exit }' calls)
echo "# calls $first to $total"
dmchain mirror d 0.img --layer 2 --existing >/dev/null
step=12 bad="" kills=0 new=0
[ -z "${LONG-}" ] || step=2
for ((n = first - 1; n <= total; n += step)); do
	rm -f else/*
	killed "$n" || continue
	kills=$((kills + 1))
	# Whoever comes next has to finish it
	write --ops 10 --seed $((++seed)) || bad+=" $n: writes;"
	dmchain job list d >/dev/null 2>&1
	dmchain recover d >rec.out 2>&1 || bad+=" $n: recover: $(cat rec.out);"
	has=$(places d)
	iomodel verify /dev/mapper/d --model m >/dev/null || bad+=" $n: differs;"
	dmchain close d >rec.out 2>&1 || bad+=" $n: close: $(cat rec.out);"
	[ "$(places 2.img)" = "$has" ] || bad+=" $n: table $has, headers $(places 2.img);"
	dmchain open d 2.img >rec.out 2>&1 || bad+=" $n: open: $(cat rec.out);"
	iomodel verify /dev/mapper/d --model m >/dev/null || bad+=" $n: differs after open;"
	if [ "$has" = "2.img 1.img else/0.img" ]; then
		new=$((new + 1))
		rm 0.img
		dmchain mirror d 0.img --layer 2 >rec.out 2>&1 || bad+=" $n: back: $(cat rec.out);"
	fi
done
is "$bad" "" "killed $kills times, $new of them moved: all is consistent"
[ $kills -ge 3 ] && [ $new -gt 0 ] && [ $new -lt $kills ]
is $? 0 "some before it is decided, some behind it"
no_violations "the gate refused nothing"
dmchain close d
rm -f ./*.img there/* else/*

runs_on()	# runs_on FILE: the live table has its loop device
{
	local dev
	dev=$(losetup -n -O MAJ:MIN -j "$1" | tr -d ' ')
	[ -n "$dev" ] && dmsetup table d | grep -q " $dev "
}

# What was moved and killed has another name by the time that it is finished, or one
# that is no UTF-8
moved_again()	# moved_again NAME FOLDER NEW-NAME
{
	local n
	mkdir -p "$2"
	# How many calls there are before depends on the loop devices that there are
	for ((n = resumed - 10; n < resumed + 10; n++)); do
		stack 3 8M
		killed $n "$2/0.img"
		if runs_on "$2/0.img"; then break; fi
		dmchain recover d >/dev/null
		dmchain close d
		rm -rf ./*.img "$2/0.img"
	done
	echo "# killed at call $n"
	is "$(json '.layers[2].path' dmchain info 2.img)" "$PWD/0.img" "$1: killed when the disk has the copy, and its header doesn't say so"
	[ "$2/0.img" = "$3" ] || mv "$2/0.img" "$3"
	run_ok "$1: recover" dmchain recover d
	mv 0.img was.img
	run_ok "$1: close" dmchain close d
	run_ok "$1: opens where it is" dmchain open d 2.img
	run_ok "$1: all is there" iomodel verify /dev/mapper/d --model m
	dmchain close d
	rm -rf ./*.img there/* else/* "$2/0.img"
}
resumed=$(awk '/DM_TABLE_LOAD/ { load = 1 } load && /DM_DEV_SUSPEND/ { print NR + 1; exit }' calls)
moved_again "renamed" else else/renamed.img
moved_again "no UTF-8" $'el\xffse' $'el\xffse/0.img'

# --- what is to say where it is can't be written: closing the disk is the way out

# no_header NAME AT-CLOSE...: one copy of the header of the layer above fails when it is
# written, and these sectors when the disk is closed
no_header()
{
	local name="no header, $1" reader
	dd if=/dev/zero of=/dev/mapper/lay0 bs=1M count=3 oflag=direct status=none
	dmchain create /dev/mapper/lay1 --size 8M >/dev/null
	dmchain open d /dev/mapper/lay1
	rm -f m
	write --ops 60 --seed $((++seed))
	dmchain snapshot d=/dev/mapper/lay0 >/dev/null
	write --ops 30 --seed $((++seed))
	xfs_io -d -c fsync /dev/mapper/d
	broken 0 1024 1032
	run_fail 1 "$name: the move fails" dmchain mirror d /dev/mapper/lay2 --layer 1
	like "$(places d)" "lay0 .*lay2$" "$name: the disk has the copy"
	broken 0 "${@:2}"
	run_fail 1 "$name: nothing else is begun" dmchain recover d
	exec {reader}</dev/mapper/d
	run_fail 3 "$name: in use, it stays open" dmchain close d
	run_fail 1 "$name: and what has moved is not forgotten" dmchain recover d
	exec {reader}<&-
	run_ok "$name: close" dmchain close d
	like "$(output)" "warning: .*old place" "$name: it says where the layer is"
	is "$(compgen -G "/run/dmchain/lock.*")" "" "$name: nothing is left to do"
	broken 0
	run_ok "$name: opens" dmchain open d /dev/mapper/lay0 --force
	like "$(places d)" "lay0 .*lay1$" "$name: on the old layer"
	run_ok "$name: all is there" iomodel verify /dev/mapper/d --model m
	run_ok "$name: now it can move" dmchain mirror d /dev/mapper/lay2 --layer 1 --existing
	run_ok "$name: and close" dmchain close d
	dd if=/dev/zero of=/dev/mapper/lay1 bs=1M count=3 oflag=direct status=none
	dd if=/dev/zero of=/dev/mapper/lay2 bs=1M count=3 oflag=direct status=none
}

truncate -s $((3 * layer_mib))M data
data=$(losetup -f --show data)
layers_on "$data" 3
no_header once
no_header "for long" 0 1032
layers_off 3
losetup -d "$data"
rm -f data

# --- power cuts: layers and copy lie on one device whose writes are logged

modprobe dm-log-writes || modprobe dm_log_writes
if ! dmsetup targets | grep -q log-writes; then
	skip "power cuts" "this kernel has no log-writes target"
	done_testing_jobs
fi
cuts=6
[ -z "${LONG-}" ] || cuts=300

# state WHAT IMAGE MARK: a message if it is bad
state()
{
	local out base
	cp --sparse=always "$2" scratch
	if ! out=$(dmchain open d /dev/mapper/lay0 2>&1); then
		echo "$1: $out;"
		return
	fi
	base=$(json '.layers[1].path' dmchain info d)
	case $base in
	*/lay1)	echo old;;
	*/lay2)	echo new;;
	*)	echo "$base";;
	esac >>sides
	out=$(dmchain compare d was --format-b raw 2>&1) || echo "$1: on $base: $out;"
	out=$(dmchain close d 2>&1) || echo "$1: close: $out;"
	out=$(dmchain check "$base" 2>&1) || echo "$1: check: $(tail -n 1 <<<"$out");"
}

rm -f data log target copy scratch
truncate -s $((3 * layer_mib))M data
truncate -s 200M log
data=$(losetup -f --show data)
logdev=$(losetup -f --show log)
layers_on "$data" 3
dmchain create /dev/mapper/lay1 --size 8M >/dev/null
dmchain open d /dev/mapper/lay1
rm -f m
write --ops 100 --seed $((++seed))
dmchain snapshot d=/dev/mapper/lay0 >/dev/null
write --ops 30 --seed $((++seed))
dd if=/dev/mapper/d of=was bs=1M iflag=direct status=none
dmchain close d
layers_off 3
cp --sparse=always data target
dmsetup create lw --table "0 $(blockdev --getsz "$data") log-writes $data $logdev"
layers_on /dev/mapper/lw 3
dmchain open d /dev/mapper/lay0
dmsetup message lw 0 mark before
run_ok "power cuts: it moves" dmchain mirror d /dev/mapper/lay2 --layer 1
dmsetup message lw 0 mark behind
dmchain close d
# A mark of this boot would mean that a copy of an open layer is opened
run_ok "power cuts: as if booted again" rmmod dm_chain
layers_off 3
dmsetup remove lw
losetup -d "$logdev"
losetup -d "$data"
truncate -s $((3 * layer_mib))M scratch
data=$(losetup -f --show scratch)
layers_on "$data" 3
judge_cuts $cuts
layers_off 3
losetup -d "$data"
done_testing_jobs
