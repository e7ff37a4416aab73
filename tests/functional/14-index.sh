#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug long=6.1,debug mem=1024 smp=2 timeout=300 group=main
#
# Files and their loop devices: which has which is known by an index. It is a hint:
# what is wrong in it, or missing, changes nothing. And what a command costs doesn't
# grow with the number of open disks.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"

cd "$TMP" || exit 1
load_module
truncate -s 16M base.img
index=/run/dmchain/loops

layer()		# layer NAME: on the base
{
	dmchain create "$1" --backing base.img --backing-format raw >/dev/null
}

key()		# key FILE: as the index has it
{
	stat -c '%Hd:%Ld:%i' "$1"
}

loops_with()	# loops_with FILE: how many loop devices
{
	losetup -n -O NAME -j "$1" | wc -l
}

layer a.img
layer b.img
run_ok "open" dmchain open a a.img
is "$(readlink "$index/$(key base.img)" "$index/$(key a.img)" | wc -l)" 2 "its files are in the index"
is "/dev/loop$(readlink "$index/$(key base.img)" | cut -d : -f 2)" "$(loop_of base.img)" "with their devices"

# --- hints that are wrong

rm "$index/$(key base.img)"
ln -s 7:99 "$index/$(key b.img)"
refused 3 "in use.*disk a" "no hint: the layer is held, as others see" dmchain open x a.img
ln -sf "$(readlink "$index/$(key a.img)")" "$index/$(key base.img)"
run_ok "a hint to another file's device: open" dmchain open b b.img
is "$(dmchain info b --json | jq -r '[.layers[].path | sub(".*/"; "")] | join(" ")')" "b.img base.img" \
	"it has its own files"
run_ok "close" dmchain close b

# --- what was open before there was an index

rm -r "$index"
run_ok "no index at all: open" dmchain open b b.img
is "$(loops_with base.img)" 1 "the base has one loop device"
refused 3 "disk a" "the other's layer is held" dmchain open x a.img
refused 3 "disk a" "and for whom writes the image itself" dmchain new-id a.img
run_ok "close" dmchain close a
run_ok "close" dmchain close b
is "$(ls $index)" ready "nothing is left in it"

# --- loop devices of others

loop=$(losetup -f --show -r base.img)
run_ok "the base has a loop device already: open" dmchain open a a.img
is "$(loop_of base.img) $(loops_with base.img)" "$loop 1" "that is the one"
run_ok "close" dmchain close a
losetup -d "$loop"
loop=$(losetup -f --show a.img)
below=$(losetup -f --show -r base.img)
dmsetup create plain --table "$(dmchain open a a.img && dmsetup table a && dmchain close a)" 2>.err
if dmsetup info plain >/dev/null 2>&1; then
	refused 3 "disk plain" "a disk that dmsetup made has its layer" dmchain new-id a.img
	dmsetup remove plain
else
	fail "a disk that dmsetup made has its layer" "$(cat .err)"
fi
losetup -d "$loop" "$below"

# A file with two: writers want another one than a reader has
loop=$(losetup -f --show -r b.img)
run_ok "a read-only loop device is there: open" dmchain open b b.img
is "$(readlink "$index/$(key b.img)")" "$(losetup -n -O MAJ:MIN -j b.img | tr -d ' ' | grep -vx "$(losetup -n -O MAJ:MIN "$loop" | tr -d ' ')")" \
	"the index has the one that was made"
refused 3 "disk b" "held, by another device than a reader's" dmchain new-id b.img
run_ok "close" dmchain close b
losetup -d "$loop"

# A descriptor that can't be opened anew is duplicated, and then counts once, not twice
dmchain create f.img --size 4M >/dev/null
loop=$(losetup -f --show f.img)
exec 9<>f.img
if chattr +i f.img 2>/dev/null; then
	run_ok "a descriptor of a file that may not be opened: open" dmchain open f fd:9
	is "$(loops_with f.img)" 1 "the loop device that somebody else has made is seen"
	run_ok "close" dmchain close f
	chattr -i f.img
else
	skip "a descriptor of a file that may not be opened" "no immutable files here"
fi
exec 9>&-
losetup -d "$loop"

# --- markers: nobody else's are looked at, unless there may be something to be found

markers=/run/dmchain/layers
run_ok "open" dmchain open a a.img
run_ok "open another" dmchain open b b.img
strace -f -qq -e trace=openat -o .strace dmchain close b
is "$(grep -cE "$markers\"|/sys/block\"" .strace)" 0 "a close cleans up after itself, and looks at nothing else"
is "$(ls $markers | wc -l)" 2 "its marker has gone, with the base's and the other's still there"
run_ok "open" dmchain open b b.img
dmsetup remove b
is "$(ls $markers | wc -l)" 3 "dmsetup takes a disk away: its marker stays"
run_ok "the next command, of another disk" dmchain snapshot a=a2.img
is "$(ls $markers | sort)" "$(lsblk -ndo MAJ:MIN /dev/loop[0-9]* | tr -d ' ' | sort)" "has cleaned up"
touch $markers/7:77
(exec 9>/run/dmchain/lock.killed)
run_ok "a command was killed: the next one" dmchain snapshot a=a3.img
is "$(ls $markers/7:77 2>/dev/null)" "" "has cleaned up"
touch $markers/7:77
strace -f -qq -e trace=openat -o .strace dmchain snapshot a=a4.img
is "$(grep -cE "$markers\"|/sys/block\"" .strace) $(ls $markers/7:77)" "0 $markers/7:77" \
	"the one after that has nothing to look for"
run_ok "recover looks always" dmchain recover
is "$(ls $markers/7:77 2>/dev/null)" "" "and finds it"
rm -f /run/dmchain/lock.killed
run_ok "close" dmchain close a

# --- what a command costs, in system calls

calls()		# calls COMMAND...
{
	strace -f -qq -o .strace dmchain "$@" >/dev/null || echo "failed: $*" >&2
	wc -l <.strace
}

cost()		# cost N: of create, open, snapshot and close, each
{
	echo "$(calls create "t$1.img" --backing base.img --backing-format raw) $(calls open t "t$1.img")" \
		"$(calls snapshot "t=u$1.img") $(calls close t)"
}

disks()		# disks FROM TO
{
	local i
	for ((i = $1; i <= $2; i++)); do
		layer "c$i.img"
		dmchain open "c$i" "c$i.img"
	done
}

disks 1 3
read -r -a few < <(cost 1)
disks 4 23
read -r -a many < <(cost 2)
echo "# create, open, snapshot, close: ${few[*]} system calls with 3 disks open, ${many[*]} with 23"
strace -f -qq -e trace=openat -o .open dmchain open c24 "$(layer c24.img; echo c24.img)"
for what in "create c25.img --backing base.img --backing-format raw" "snapshot c24=c26.img" "close c24"; do
	# shellcheck disable=SC2086 # words
	strace -f -qq -e trace=openat -o .more dmchain $what >/dev/null
	cat .more >>.open
done
is "$(grep -cE '/run/dmchain/layers"|/sys/block"' .open)" 0 "no list is read of what there is"
for i in 0 1 2 3; do
	what=(create open snapshot close)
	# Each disk more: less than half a call
	[ $((many[i])) -lt $((few[i] + 10)) ] && [ $((few[i])) -gt 100 ] && ok "${what[i]} costs the same" ||
		fail "${what[i]} costs the same" "${few[i]} system calls with 3 disks open, ${many[i]} with 23"
done
for ((i = 1; i <= 23; i++)); do dmchain close "c$i"; done
is "$(ls $index)" ready "nothing is left in the index"
is "$(losetup -n -l)" "" "nor a loop device"

done_testing
