#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug long=6.1,debug mem=1024 smp=2 timeout=600 group=jobs
#
# Streams, commits and mirrors as others test them, by the numbers of
# Documentation/scenarios.rst: those that the scripts for jobs leave out. What is
# shown, and by which layer, is compared with the map from before.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"
. "$(dirname "$0")/../lib/jobverbs.sh"

cd "$TMP" || exit 1
id=
seconds=4
[ -z "${LONG-}" ] || seconds=60

# map DEPTH...: what is data, what reads zeroes, with each depth replaced by that
# of the layer which is to have it in the end
map()
{
	dmchain map d --json | jq -r '.[] | "\(.start) \(.length) \(.data) \(.depth)"' |
		awk -v to="$*" '
		BEGIN { split(to, depth, " ") }
		{
			what = $3 == "true" ? depth[$4 + 1] : "-"
			if (what != last)
				printf "%s%d:%s", (NR > 1 ? " " : ""), $1, what
			last = what
		}'
}

unlimited()	# unlimited ID...: they go on without limit, and end
{
	local job
	for job; do
		dmchain job speed "$job" 0 >/dev/null 2>&1
		run_ok "job $job ends" dmchain job wait "$job" --timeout 100
	done
}

# in_use RANGE: how many of the files of these layers have a loop device
in_use()
{
	losetup -n -O BACK-FILE 2>/dev/null | grep -c "/d[$1].img"
}

# --- S1, S2: what is pulled in, and no more

stack 6
blkdiscard -o 13M -l 1M /dev/mapper/d
sha256sum </dev/mapper/d >sum
want=$(map 0 0 0 0 0 0 0)
run_ok "S1: stream of all" dmchain stream d
is "$(map 0)" "$want" "S1: the top maps what the layers did"
is "$(json 'map(select(.status != "concluded")) | length' dmchain job list d)" 0 "S1: no job is left"
is "$(in_use 0-5)" 0 "S1: no lower layer is in use"
rm d[0-5].img
run_ok "S1: close" dmchain close d
run_ok "S1: it opens without them" dmchain open d d6.img
same "S1: and is what it was"
dmchain close d

stack 6
want=$(map 0 0 0 1 2 3 4)
run_ok "S2: stream down to a base" dmchain stream d --base 3
is "$(paths)" "d6 d3 d2 d1 d0" "S2: the base stays"
is "$(map 0 1 2 3 4)" "$want" "S2: only what was between is the top's"
same "S2: the disk is what it was"
dmchain close d

echo "# $SECONDS s"

# --- S5, S7: disjoint parts, at the same time

for second in "stream d --into 3 --base 6" "commit d --top 3 --base 5"; do
	name=S5 left="d6 d4 d3 d0"
	[ "${second%% *}" = stream ] || name=S7 left="d6 d4 d1 d0"
	stack 6
	want=$(map 0 0 1 2 2 2 3)
	begin "$name: a stream" dmchain stream d --into 0 --base 2 --speed 64K
	first=$id
	# shellcheck disable=SC2086 # words
	begin "$name: beside it $second" dmchain $second --speed 64K
	is "$(of status "$first") $(of status)" "running running" "$name: both run"
	wait_for 30 at_least 1 "$first" && wait_for 30 at_least 1
	is $? 0 "$name: both move"
	unlimited "$first" "$id"
	is "$(paths)" "$left" "$name: what both dropped is gone"
	is "$(map 0 1 2 3)" "$want" "$name: each layer maps what it should"
	same "$name: the disk is what it was"
	dmchain close d
	run_ok "$name: check" dmchain check d6.img
done

echo "# $SECONDS s"

# --- S6: parts that overlap: the second is refused, the first unharmed

for pair in "stream d --into 1 --base 3;stream d --base 2;stream d --into 2 --base 4;commit d --top 2 --base 4;commit d --base 1" \
	"commit d --top 1 --base 3;stream d --base 2;stream d --into 3 --base 5;stream d --into 2 --base 4"; do
	IFS=';' read -ra commands <<<"$pair"
	name=${commands[0]%% *}
	stack 6
	if [ "$name" = stream ]; then
		want=$(map 0 1 1 2 3 4 5) left="d6 d5 d3 d2 d1 d0"
	else
		want=$(map 0 1 1 1 2 3 4) left="d6 d3 d2 d1 d0"
	fi
	# shellcheck disable=SC2086 # words
	begin "S6: a $name" dmchain ${commands[0]} --speed 64K
	wait_for 30 at_least 1
	dmchain job pause d >/dev/null
	wait_for 20 status_is paused
	before=$(map 0 1 2 3 4 5 6) moved=$(of current-progress)
	for command in "${commands[@]:1}"; do
		# shellcheck disable=SC2086 # words
		refused 3 "held by d .$name, " "S6: beside a $name: $command" dmchain $command
	done
	is "$(map 0 1 2 3 4 5 6)" "$before" "S6: $name: the map is what it was"
	is "$(of status) $(of current-progress)" "paused $moved" "S6: $name: it stands where it did"
	run_ok "S10: $name: resume" dmchain job resume d
	unlimited "$id"
	is "$(paths) $(map 0 1 2 3 4 5)" "$left ${want}" "S10: $name: paused and resumed, it is complete"
	same "S6: $name: the disk is what it was"
	dmchain close d
done

echo "# $SECONDS s"

# --- S9: no length at all

run_fail any "S9: C6: M4: no image without length" dmchain create none.img --size 0
[ ! -e none.img ]
is $? 0 "S9: and no file"

echo "# $SECONDS s"

# --- S13: the limit is kept, from both sides

now_us()
{
	echo "${EPOCHREALTIME/[.,]/}"
}

rate()		# rate SECONDS: bytes a second; the moment is that in the middle of a look
{
	local from at moved took
	from=$(now_us) moved=$(of current-progress)
	at=$((($(now_us) + from) / 2))
	sleep "$1"
	from=$(now_us) moved=$(($(of current-progress) - moved))
	took=$((($(now_us) + from) / 2 - at))
	echo $((moved * 1000000 / took))
}

limited()	# limited NAME SPEED
{
	local seen
	wait_for 30 at_least 1
	seen=$(rate 3)
	[ "$seen" -ge $(($2 * 8 / 10)) ] && [ "$seen" -le $(($2 * 12 / 10)) ]
	is $? 0 "$1: within 20 % ($seen of $2 bytes a second)"
}

stack 6
# (slow enough to be still under way on the debug kernel)
begin "S13: with a limit" dmchain stream d --speed 512K
limited "S13: from the start" $((512 << 10))
dmchain job speed d 1M
sleep 0.3
limited "S13: while it runs" $((1 << 20))
is "$(of status)" running "S13: it is not done yet"
unlimited "$id"
dmchain close d

echo "# $SECONDS s"

# --- C8: the base is open for writing as long as the commit is, however it ends

ro_of()		# ro_of LAYER-FILE: is its loop device read-only, and so in the table
{
	local loop dev
	loop=$(losetup -n -O NAME -j "$1" | head -n 1)
	dev=$(lsblk -dno MAJ:MIN "$loop" | tr -d ' ')
	echo "$(dmsetup table d | grep -oE "$dev (chain|raw) r[ow]" | cut -d ' ' -f 3)"
}

stack 6
is "$(ro_of d0.img)" ro "C8: the base is read-only before"
begin "C8: a commit" dmchain commit d --top 4 --base 6 --speed 64K
is "$(ro_of d0.img)" rw "C8: and writable while it runs"
dmchain job cancel d >/dev/null
is "$(ro_of d0.img)" ro "C8: cancelled, it is read-only"
run_ok "C8: again" dmchain commit d --top 4 --base 6
is "$(ro_of d0.img) $(paths)" "ro d6 d5 d4 d3 d0" "C8: done, it is read-only"
dmchain close d

echo "# $SECONDS s"

# --- C10: begun and cancelled again and again while the guest works

stack 6
rm -f m
iomodel run /dev/mapper/d --model m --init-from-dev --seconds $seconds --threads 2 --max 64K \
	--verify-end >io.out 2>&1 &
io=$!
rounds=0 cancelled=0 bad=""
while kill -0 $io 2>/dev/null; do
	rounds=$((rounds + 1))
	dmchain commit d --base 6 --speed 1M --background >job.out 2>&1 || bad+=" $rounds: $(tail -n 1 job.out);"
	sleep 0.$((rounds % 4 + 1))
	! dmchain job cancel d >job.out 2>&1 || cancelled=$((cancelled + 1))
done
wait $io
is "$? $(grep -c FAILED io.out)$bad" "0 0" "C10: commit and cancel $rounds times under I/O: as the model"
[ $cancelled -ge 3 ]
is $? 0 "C10: $cancelled were cancelled"
run_ok "C10: at last it ends" dmchain commit d --base 6
is "$(paths)" d0 "C10: the base is the disk"
run_ok "C10: all is there" iomodel verify /dev/mapper/d --model m
run_ok "C10: close" dmchain close d
run_ok "C10: check" dmchain check d0.img

echo "# $SECONDS s"

# --- M2: cancelled before it is ready the target is let go

stack 6
begin "M2: a mirror" dmchain mirror d t.img --format chain --speed 64K
wait_for 30 at_least 1
run_ok "M2: cancel" dmchain job cancel d
is "$(dmsetup table d | grep -c target) $(losetup -n -l | grep -c '/t.img')" "0 0" "M2: the target is free"
same "M2: the disk is what it was"
rm t.img

echo "# $SECONDS s"

# --- M4: pause and resume

begin "M4: a mirror" dmchain mirror d t.img --format chain --speed 1M
wait_for 30 at_least 1
run_ok "M4: pause" dmchain job pause d
wait_for 20 status_is paused
moved=$(of current-progress)
fill d 1 1 p
fill d 40 1 q
sha256sum </dev/mapper/d >sum
sleep 1
is "$(of status) $(of current-progress)" "paused $moved" "M4: it stands still"
run_ok "M4: resume" dmchain job resume d
dmchain job speed d 0 >/dev/null
run_ok "M4: it is ready" dmchain job wait d --timeout 60
run_ok "M4: pivot" dmchain pivot d
is "$(paths)" t "M4: the disk is the copy"
same "M4: which has what was written meanwhile"
dmchain close d
rm t.img

echo "# $SECONDS s"

# --- M9: a target that somebody has

dmchain create e0.img --size 48M >/dev/null
dmchain open e e0.img
stack 6
begin "M9: a mirror of another disk" dmchain mirror e t.img --format chain
dmchain job wait e >/dev/null
truncate -s 64M fs.img
mkfs.ext4 -q fs.img
mkdir -p fs
mount -o loop fs.img fs
table=$(dmsetup table d)
for target in d6.img d5.img d0.img e0.img t.img "$(loop_of fs.img)"; do
	run_fail any "M9: $target as a target is refused" dmchain mirror d "$target" --format chain --existing
	is "$(wc -l <"$TMP/.output")" 1 "M9: in a line: $(head -c 120 "$TMP/.output")"
done
is "$(dmsetup table d)" "$table" "M9: nothing is attached"
same "M9: the disk is what it was"
umount fs
dmchain job cancel e >/dev/null
dmchain close e
dmchain close d
rm -f t.img fs.img e0.img

echo "# $SECONDS s"

# --- M4: odd lengths

odd=("$((1025 << 10)) chain" "$(((3 << 20) + 512)) raw")
[ -z "${LONG-}" ] || odd+=("512 chain" "512 raw" "$((1025 << 10)) raw" "$(((9 << 20) + 4608)) chain")
for shape in "${odd[@]}"; do
	read -r size format <<<"$shape"
	rm -f o.img t.img
	dmchain create o.img --size "$size" >/dev/null
	dmchain open d o.img
	head -c "$size" /dev/urandom >was
	dd if=was of=/dev/mapper/d bs=256K oflag=direct status=none
	run_ok "M4: $size bytes to $format" dmchain mirror d t.img --format "$format" --pivot
	is "$(cmp was /dev/mapper/d 2>&1)" "" "M4: $size bytes to $format: the disk is what it was"
	is "$(blockdev --getsize64 /dev/mapper/d)" "$size" "M4: $size bytes to $format: and as long"
	dmchain close d
	run_ok "M4: $size bytes to $format: the image" dmchain compare t.img was --format-a "$format" --format-b raw
done
rm -f o.img t.img was

echo "# $SECONDS s"

# --- M6: the guest writes where a slow copy is under way, and the limit changes

modprobe dm-delay
rm -f m back.img
truncate -s 12M back.img
back=$(losetup -f --show back.img)
dmsetup create slow --table "0 $((12 << 11)) delay $back 0 0 $back 0 20"
dmchain create o.img --size 8M >/dev/null
dmchain open d o.img
head -c 8M /dev/urandom | dd of=/dev/mapper/d bs=1M iflag=fullblock oflag=direct status=none
iomodel run /dev/mapper/d --model m --init-from-dev --seconds $seconds --threads 4 --max 64K \
	--verify-end >io.out 2>&1 &
io=$!
begin "M6: a mirror to a slow device" dmchain mirror d /dev/mapper/slow --format chain --speed 512K
changes=0
while kill -0 $io 2>/dev/null; do
	for speed in 2M 256K 1M; do
		dmchain job speed "$id" $speed >/dev/null 2>&1 && changes=$((changes + 1))
		sleep 0.2
	done
done
wait $io
is "$? $(grep -c FAILED io.out)" "0 0" "M6: the limit changed $changes times: as the model"
dmchain job speed "$id" 0 >/dev/null 2>&1
run_ok "M6: it is ready" dmchain job wait "$id" --timeout 100
run_ok "M6: cancel" dmchain job cancel d
run_ok "M6: the copy has the newer" dmchain compare /dev/mapper/slow m --format-b raw
run_ok "M6: and is sound" dmchain check /dev/mapper/slow
dmchain close d
dmsetup remove slow
losetup -d "$back"
rm -f o.img m back.img

echo "# $SECONDS s"

# --- M10, M11: what is sparse stays so; discards and zeroes meanwhile

used()
{
	echo $(($(stat -c %b "$1") * 512))
}

for format in chain raw; do
	rm -f o.img t.img
	dmchain create o.img --size 64M >/dev/null
	dmchain open d o.img
	yes data | dd of=/dev/mapper/d bs=1M count=4 seek=20 iflag=fullblock oflag=direct status=none
	yes more | dd of=/dev/mapper/d bs=1M count=4 seek=50 iflag=fullblock oflag=direct status=none
	blkdiscard -o 21M -l 1M /dev/mapper/d
	begin "M10: $format: a mirror" dmchain mirror d t.img --format $format
	run_ok "M10: $format: it is ready" dmchain job wait d
	# 7 MiB, and the maps of it
	[ "$(used t.img)" -ge $((7 << 20)) ] && [ "$(used t.img)" -le $((15 << 19)) ]
	is $? 0 "M10: $format: the copy takes the space of what is there ($(used t.img) bytes)"
	# Behind what is ready; ahead of what is copied and in it
	for when in ready "under way"; do
		[ "${LONG-}" ] || [ "$format $when" = "raw ready" ] || [ "$format $when" = "chain under way" ] || continue
		if [ "$when" != ready ]; then
			dmchain job cancel d >/dev/null
			rm t.img
			yes again | dd of=/dev/mapper/d bs=1M count=12 seek=20 iflag=fullblock oflag=direct status=none
			begin "M11: $format: a slow mirror" dmchain mirror d t.img --format $format --speed 512K
			wait_for 30 at_least $((1 << 20))
		fi
		for at in 20 22 27 52; do
			blkdiscard -o $(((at << 20) + 1024)) -l 300K /dev/mapper/d
			blkdiscard -z -o $(((at << 20) + 700 * 1024)) -l 65K /dev/mapper/d
		done
		dd if=/dev/mapper/d of=was bs=1M iflag=direct status=none
		if [ "$when" != ready ]; then
			is "$(of status)" running "M11: $format: it is under way"
			unlimited "$id"
		fi
		is "$(of status)" ready "M11: $format, $when: it is ready"
		sync t.img
		if [ $format = raw ]; then
			is "$(cmp t.img was 2>&1)" "" "M11: $format, $when: the copy has them"
		fi
	done
	run_ok "M11: $format: cancel" dmchain job cancel d
	run_ok "M11: $format: the copy is the disk" dmchain compare t.img was --format-a $format --format-b raw
	no_violations "M11: $format: the gate refused nothing"
	dmchain close d
done

is "$(losetup -n -l 2>/dev/null)" "" "no loop device is left"
done_testing
