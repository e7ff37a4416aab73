#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug,kcsan long=6.1,debug,kcsan mem=1024 smp=2 timeout=400 group=jobs
#
# Mirrors under random I/O, byte by byte as a plain file would read: the whole disk or
# only its top, chain and raw, to new and to prepared targets. Pivoted, the disk goes
# on as the model says; cancelled when it is ready, the copy is the disk of that
# instant. What is not a copy is refused.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"
. "$(dirname "$0")/../lib/jobs.sh"

cd "$TMP" || exit 1
ops=100 sizes=4K
[ "$KERNEL" != debug ] || ops=50
[ -z "${LONG-}" ] || ops=1500 sizes="4K 64K 4K,64K 64K,4K 4K,1M,16K"

status_is()
{
	[ "$(json '.[-1].status' dmchain job list d)" = "$1" ]
}

copied()	# copied MIB, by job $id
{
	[ "$(json '."current-progress"' dmchain job show "$id")" -ge $(($1 << 20)) ]
}

marks()		# marks PATH
{
	json '.layers[0].marks | join(" ")' dmchain info "$1"
}

# mirrored NAME OPTIONS...: it is made under load, and ready; load goes on
mirrored()
{
	local name=$1
	shift
	under "$name: mirror" dmchain mirror d "$@"
	is "$(json '.[-1] | [.type, .status] | join(" ")' dmchain job list d)" "mirror ready" "$name: it is ready"
	write --ops $ops --seed $((++seed)) --verify-end && ok "$name: mirrored, as the model"
}

# pivots NAME TOP OPEN-OPTIONS...: under load, and all is there afterwards
pivots()
{
	local name=$1 top=$2
	shift 2
	under "$name: pivot" dmchain pivot d
	is "$(layers)" "$top" "$name: the disk goes on there"
	is "$(dmsetup table d | grep -oE '(chain|raw) (rw|target)' | wc -l)" 1 "$name: one layer is rw"
	write --ops 40 --seed $((++seed)) --verify-end
	run_ok "$name: all is there" iomodel verify /dev/mapper/d --model m
	closed "$name" "${top%% *}.img" "$@"
	dmchain close d
}

# blocks LIST: the disk's discards are of the size of its top's blocks
blocks()
{
	local list
	IFS=, read -r -a list <<<"$1"
	kind="--block-size ${list[2 % ${#list[@]}]}"
}

for size in $sizes; do
	blocks $size
	# --- all of it, to a new chain
	stack 3 8M "${size//,/ }"
	mirrored "$size: full" t.img --format chain
	refused 3 "snapshot refused: .*held by d .mirror, source" "$size: no snapshot meanwhile" dmchain snapshot d=s.img
	refused 3 "resize refused: .*held by d .mirror, source" "$size: no resize" dmchain resize d 16M
	refused 3 "a mirror of it is under way" "$size: nor a second mirror" dmchain mirror d t2.img --format chain
	[ ! -e t2.img ]
	is $? 0 "$size: nothing is left of that"
	pivots "$size: full, pivot" t
	refused 4 "retired, the disk went on elsewhere" "$size: the old top is refused" dmchain open d 2.img

	# --- only the top
	stack 3 8M "${size//,/ }"
	mirrored "$size: shallow" t.img --format chain --shallow
	is "$(json '.[-1] | ."total-progress" == ."current-progress"' dmchain job list d)" true "$size: shallow: all is done"
	pivots "$size: shallow, pivot" "t 1 0"

	# --- to raw
	stack 3 8M "${size//,/ }"
	mirrored "$size: raw" t.img --format raw
	kind=--no-discard
	pivots "$size: raw, pivot" t --format raw
	cmp t.img m
	is $? 0 "$size: raw: the image is the model"
	kind=
done

# Blocks of the target that are larger than those of the source, and the other way
for shape in "64K 4K" "4K 64K"; do
	read -r source target <<<"$shape"
	kind="--block-size $source"
	stack 2 8M "$source"
	dmchain create t.img --size 8M --block-size "$target" >/dev/null
	mirrored "$source to $target" t.img --format chain --existing
	run_ok "$source to $target: cancel" dmchain job cancel d
	run_ok "$source to $target: the copy is the disk" dmchain compare t.img m --format-b raw
	run_ok "$source to $target: and sound" dmchain check t.img
	dmchain close d
	rm t.img
done
kind=

# --- raw to chain, and to raw

for format in chain raw; do
	[ $format = chain ] || [ "${LONG-}" ] || continue
	stack 1 8M 4K raw
	kind=--no-discard
	mirrored "raw to $format" t.img --format $format
	pivots "raw to $format, pivot" t --format $format
	kind=
done

# --- cancelled when ready: the copy is that instant, whatever comes then

for format in chain raw; do
	for shallow in "" --shallow; do
		[ $format$shallow != raw--shallow ] || continue
		[ $format = chain ] || [ "${LONG-}" ] || continue
		stack 3 8M
		# shellcheck disable=SC2086 # an option or none
		mirrored "cancel $format $shallow" t.img --format $format $shallow
		run_ok "cancel $format $shallow: cancel" dmchain job cancel d
		is "$(json '.[-1] | [.status, .error] | join(" ")' dmchain job list d)" "concluded " "it ended well"
		cp --sparse=always m m.then
		write --ops 60 --seed $((++seed))
		is "$(dmsetup table d | grep -c target)" 0 "the target is detached"
		run_ok "the copy is the disk of that instant" dmchain compare t.img m.then --format-a $format --format-b raw
		[ $format = raw ] || run_ok "and sound" dmchain check t.img
		[ $format = raw ] || is "$(marks t.img)" "" "and has no mark"
		closed "cancel $format $shallow" 2.img
		dmchain close d
		[ "$shallow" ] || run_ok "it opens" dmchain open d t.img --format $format
		[ "$shallow" ] || run_ok "and is that" iomodel verify /dev/mapper/d --model m.then
		[ "$shallow" ] || dmchain close d
	done
done

# --- before it is ready

stack 2 8M
run_ok "slowly" dmchain mirror d t.img --format chain --speed 32K --background
wait_for 20 status_is running
refused 1 "is not ready" "no pivot before it is ready" dmchain pivot d
write --ops 40 --seed $((++seed))
run_ok "cancel" dmchain job cancel d
is "$(json 'map(select(.error != "interrupted"))[-1].error' dmchain job list d)" cancelled "it was cancelled"
is "$(marks t.img)" incomplete "the copy is incomplete"
refused 4 "never completed" "and refused" dmchain open e t.img
refused 4 "never completed" "also read-only" dmchain open e t.img --read-only
refused 4 "never completed" "and as a parent" dmchain create c.img --backing t.img --backing-format chain
closed "cancelled" 1.img
dmchain close d

# --- verified

stack 2 8M
mirrored "verify" t.img --format chain --verify
run_ok "verify, shallow: cancel" dmchain job cancel d
rm t.img
mirrored "verify, shallow" t.img --format chain --shallow --verify
dmchain job cancel d >/dev/null
dmchain close d

rm -f ./*.img
dmchain create 0.img --size 16M >/dev/null
dmchain open d 0.img
yes "good" | dd of=/dev/mapper/d bs=1M count=16 iflag=fullblock oflag=direct status=none
for policy in report stop; do
	rm -f t.img
	id=$(dmchain mirror d t.img --format chain --verify --speed 512K --on-error $policy --background --json | jq -r .id)
	wait_for 30 copied 2
	at=$(od -An -t u8 -j 120 -N 8 t.img)
	printf 'rotten' | dd of=t.img bs=1 seek=$((at + (1 << 20) + 1024)) conv=notrunc status=none
	dmchain job speed d 0 >/dev/null
	if [ $policy = report ]; then
		refused 1 "the copy differs, first in 512 bytes at 1049600" "it is found, and where" dmchain job wait "$id"
		refused 1 "cannot pivot, the copy differs .*512 bytes at 1049600" "no pivot" dmchain pivot d
	else
		wait_for 20 sh -c "dmchain job show $id --json | jq -e '.status == \"paused\"'"
		is "$(json '.[-1] | ."bad-start", ."bad-bytes"' dmchain job list d | xargs)" "1049600 512" "stop: it is paused for it"
		refused 1 "cannot pivot, the copy differs .*512 bytes at 1049600" "stop: no pivot" dmchain pivot d
		dmchain job resume d >/dev/null
		run_ok "stop: copied and compared again it is ready" dmchain job wait d
		run_ok "stop: pivot" dmchain pivot d
	fi
done
is "$(dd if=/dev/mapper/d bs=1M iflag=direct status=none | sha256sum)" "$(yes good | head -c 16M | sha256sum)" \
	"and the disk is right"
dmchain close d

# --- prepared targets

stack 2 8M
dmchain create small.img --size 4M >/dev/null
refused 1 "too small" "a target that is smaller is refused" dmchain mirror d small.img --format chain --existing
truncate -s 4M small.raw
refused 1 "too small" "a raw one, too" dmchain mirror d small.raw --format raw --existing
dmchain create other.img --backing 0.img --backing-format chain >/dev/null 2>&1
refused 4 "stands on another layer" "one that stands on something" dmchain mirror d other.img --format chain --existing
dmchain create alone.img --size 8M >/dev/null
refused 4 "does not stand on" "a shallow one that does not" dmchain mirror d alone.img --format chain --existing --shallow
dmchain open e alone.img
echo x | dd of=/dev/mapper/e bs=4k conv=sync oflag=direct status=none
dmchain close e
refused 4 "holds data" "one that is not empty" dmchain mirror d alone.img --format chain --existing
refused 1 "exists already" "one that is there" dmchain mirror d alone.img --format chain
refused 2 "say .*format" "no format" dmchain mirror d n.img
refused 4 "no chain header" "another format than it has" dmchain mirror d small.raw --format chain --existing
is "$(dmsetup table d | grep -c target)" 0 "nothing is attached"
mkdir sub
(cd sub && dmchain create t.img --backing ../0.img --backing-format chain >/dev/null 2>&1)
mirrored "existing, shallow" sub/t.img --format chain --existing --shallow
is "$(json '.layers[0].path' dmchain info d | sed 's/.*\///')" 1.img "its parent is the disk's"
under "existing, shallow: pivot" dmchain pivot d
is "$(layers)" "t 0" "the disk goes on there"
closed "existing, shallow" sub/t.img
dmchain close d

stack 2 8M
dmchain create large.img --size 12M --block-size 16K >/dev/null
mirrored "existing, larger" large.img --format chain --existing
dmchain pivot d >/dev/null
run_ok "existing, larger: all is there" iomodel verify /dev/mapper/d --model m
run_ok "existing, larger: close" dmchain close d
run_ok "existing, larger: check" dmchain check large.img
dmchain open d large.img
is "$(blockdev --getsize64 /dev/mapper/d)" $((12 << 20)) "it has its own size then"
truncate -s 12M m
run_ok "existing, larger: and zeroes behind the copy" iomodel verify /dev/mapper/d --model m
dmchain close d

stack 2 8M
yes tail | head -c 12M >large.raw
tail -c 4M large.raw | sha256sum >tail.sum
mirrored "raw, larger" large.raw --format raw --existing
run_ok "raw, larger: cancel" dmchain job cancel d
cmp -n 8388608 large.raw m
is $? 0 "raw, larger: the copy is there"
is "$(tail -c 4M large.raw | sha256sum)" "$(<tail.sum)" "and its tail is what it was"
run_ok "pivot at once" dmchain mirror d p.img --format chain --pivot
is "$(layers)" p "the disk goes on there"
no_violations "the gate refused nothing"
dmchain close d

# Killed when the file is there and no header in it, whatever its name says
stack 2 8M
for name in m.img $'m\xff.img'; do
	for format in chain raw; do
		status=0
		bash -c '"$@"; exit $?' bash strace -qq -o /dev/null -e trace=fsync \
			-e inject=fsync:signal=KILL:when=1 \
			dmchain mirror d "$name" --format $format >kill.out 2>&1 || status=$?
		[ $status = 137 ] && [ -e "$name" ]
		is $? 0 "half made, $format, $(printf %q "$name"): killed"
		run_ok "half made, $format, $(printf %q "$name"): recover" dmchain recover d
		[ ! -e "$name" ]
		is $? 0 "half made, $format, $(printf %q "$name"): it is gone"
		rm -f "$name"
	done
done
dmchain close d

done_testing_jobs
