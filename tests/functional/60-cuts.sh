#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug long=6.1,debug mem=1024 smp=2 timeout=1200 group=cuts
# allow: Buffer I/O error|I/O error, dev|lost async page write|layer .* failed|job [0-9]+ ended with error
# allow: (map write|map commit|header update|second header copy|switch|flush|relink) failed
# allow: block nbd[0-9]+: |nbd[0-9]+: detected capacity change
#
# A power cut after each request. Each layer is a disk of its own with a volatile cache
# of its own, so that one that isn't flushed loses what it was given, whatever was
# flushed elsewhere; all are cut at one instant. Caches keep none, all, some, or torn
# writes, or those of some disks all and those of others none. Each operation on layers
# runs once, mostly under a load; behind the requests of that run the disk must open
# without help, hold what a completed flush covered, show each sector as before or as
# written, and the operation is not begun, done, or is finished by the same command or
# "job resume"; and then the disk reads the same. Some are cut again in that.
#
# Disks that only say that they have flushed must turn this red: each operation is
# judged with such, too. And some runs happen on disks whose power is gone meanwhile.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"
. "$(dirname "$0")/../lib/cuts.sh"

cd "$TMP" || exit 1
RANDOM=${SEED:-1}
resumed=0 twice=0 states=${STATES:-2} every=${EVERY-} ops=${OPS:-100} second=3 second_cuts=2

# Each request; where that takes too long, every tenth
if [ -n "${LONG-}" ]; then
	every=${EVERY-1} second_cuts=4
	[ "$KERNEL" = 6.12 ] || every=${EVERY-10}
fi

run_ok "disks" start_disks

# loaded TOP COMMAND...: it runs while the disk is written ($load_options), and longer
load_options=""
loaded()
{
	local top=$1 load status=0
	shift
	dmchain open d "/dev/nbd$top" || return
	# shellcheck disable=SC2086 # a list
	load $load_options &
	load=$!
	sleep 0.1
	tell mark before
	"$@" >op.out 2>&1 || status=$?
	tell mark behind
	wait $load || status=$?
	[ $status = 0 ] || tail -n 3 load.out op.out
	dmchain close d && return $status
}
# open_disk: the first of $tops that isn't refused because it is no longer the disk
open_disk()
{
	local top
	for top in $tops; do
		! dmchain open d "/dev/nbd$top" >.open 2>&1 || return 0
		grep -qE "$refusals" .open || return
	done
	return 1
}

# look: what there is to say of the open disk; $side is how far it is
look()
{
	mapfile -t info < <(dmchain info d --json | jq -r "($where),
		any(.jobs[]; .error == \"interrupted\"), any(.jobs[]; .status == \"ready\"),
		.state + \" \" + .layers[0].access, ([.layers[].path] | join(\" \"))")
	side=${info[0]}
}

interrupted()
{
	[ "${info[1]}" = true ]
}

# Let the operation come to its end, by what there is for that
finish()	# finish WHAT
{
	local out side
	if interrupted && [ $((resumed % 2)) = 0 ]; then
		out=$(dmchain job resume d --wait 2>&1) || out=$($again 2>&1) ||
			echo "$1: resume: $(tail -n 1 <<<"$out");"
	else
		out=$($again 2>&1) || echo "$1: again: $(tail -n 1 <<<"$out");"
	fi
	look
	if [ "${info[2]}" = true ]; then
		out=$(dmchain pivot d 2>&1) || echo "$1: pivot: $out;"
		look
	fi
	[ "$side" = "$new" ] || echo "$1: finished, but it is at $side;"
	same "$1, finished"
}

as_before()
{
	read_disk | cmp initial - 2>&1
}

# one_disk WHAT MARK
one_disk()
{
	local what=$1 out side again_open=
	open_disk || { echo "$what: does not open: $(cat .open);"; return; }
	out=$($verify "$2") || echo "$what: mark $2: $(tail -n 3 <<<"$out" | paste -sd ' ');"
	look
	[ "${info[3]}" = "active rw" ] || echo "$what: it is ${info[3]};"
	[ "$side" = "$old" ] || [ "$side" = "$new" ] || echo "$what: it is at $side;"
	echo "$side$(! interrupted || echo ", to be resumed")" >>sides
	if interrupted || { [ "$side" != "$new" ] && [ $((++others % 3)) = 1 ]; }; then
		again_open=1
		read_disk >was
		to_the_end "$what"
	fi
	out=$(dmchain close d 2>&1) || echo "$what: close: $out;"
	[ -z "$again_open" ] || opened_again "$what"
	# shellcheck disable=SC2086 # a list
	sound "$what" ${info[4]}
}

opened_again()	# opened_again WHAT
{
	local out side
	open_disk || { echo "$1: does not open again: $(cat .open);"; return; }
	same "$1, opened again"
	look
	out=$(dmchain close d 2>&1) || echo "$1: close: $out;"
}

# to_the_end WHAT: some are cut in this, too
to_the_end()
{
	if ! interrupted; then
		finish "$1"
		return
	fi
	resumed=$((resumed + 1))
	if [ $((resumed % second)) = 1 ]; then
		finish_and_cut "$1"
	else
		finish "$1"
	fi
}

finish_and_cut()	# finish_and_cut WHAT
{
	local what=$1 n total i mark
	copy_disks live base2
	tell begin "$PWD/log2"
	finish "$what"
	dmchain close d >.close 2>&1 || echo "$what: close: $(cat .close);"
	tell end
	copy_disks live finished
	reboot
	total=$(cutdisk list log2 | tail -n 1 | cut -d ' ' -f 1)
	for ((i = 1; i <= second_cuts; i++)); do
		# Towards the end, where it is decided
		echo $((total - RANDOM % (1 + total / i)))
	done | sort -nu >.second
	while read -r n; do
		cut_to "$what" "$n" "$(shuf -e -n 1 none disks some)" base2 log2 || return
		twice=$((twice + 1))
		cut_twice "$what, cut again behind request $n"
	done <.second
	all_closed
	copy_disks finished live
	tell end
	open_disk || echo "$what: finished, does not open: $(cat .open);"
}

cut_twice()	# cut_twice WHAT
{
	local out side
	open_disk || { echo "$1: does not open: $(cat .open);"; return; }
	same "$1"
	look
	[ "$side" = "$new" ] || finish "$1"
	out=$(dmchain close d 2>&1) || echo "$1: close: $out;"
}

path_names='[.layers[].path | sub(".*/"; "")] | join(" ")'
where=$path_names
verify=by_log check=--no-whole refusals='modified after|retired|sealed|never completed|no chain header'
others=0

# controls NAME DISK...: disks that lie, in the end also these one by one; and no power
controls()
{
	wanted "$1" || return 0
	if [ -n "${LONG-}" ]; then
		lies "$1" all "${@:2}"
		no_power "$1" 5
	else
		lies "$1" all
		[[ $1 != mirror && $1 != "active commit" ]] || no_power "$1" 1
	fi
}

# --- open, first writes, close

prep()
{
	dmchain create /dev/nbd0 --size 8M >/dev/null && truncate -s 8M initial
}
run()
{
	dmchain open d /dev/nbd0 && load && dmchain close d
}
# A presence bit is there, and nothing that came behind it: the group has to be, too
# shellcheck disable=SC2317 # $also
presence_writes()
{
	local from
	header_writes
	from=$(headeredit start/0 get 0 presence_offset)
	cutdisk list log | awk -v from="$from" '
		$2 == "disk=0" && $3 ~ /^write/ {
			split($4, at, "+")
			if (at[1] >= from && at[1] < from + 4096)
				print $1, "all"
		}' | head -n 8
}
truncate -s 0 initial && truncate -s 8M initial
judge=one_disk tops=0 old=nbd0 new=nbd0 check=--fresh also=presence_writes
operation "first writes" nbd0
also=""
controls "first writes" 0

# --- snapshot

prep()
{
	fill_layers 1
}
run()
{
	cat >hook <<-END
		#!/bin/sh
		cutdisk tell $ctl mark before
		cutdisk tell $ctl slow 0 400
		dmchain snapshot d=/dev/nbd1 || exit
		cutdisk tell $ctl slow 0 0
		cutdisk tell $ctl mark behind
	END
	chmod +x hook
	dmchain open d /dev/nbd0 &&
		load --hook "$PWD/hook" --hook-max 1 --hook-every 30 --flush-percent 25 && dmchain close d
}
# What was flushed at the new top is not the disk's as long as the old one has no seal
# shellcheck disable=SC2317 # $also
before_seal()
{
	header_writes
	cutdisk list log | awk -v from="$first" '$1 > from && $2 == "disk=0" && $3 == "write+fua" &&
		$4 ~ /^(0|524288)[+]/ { print $1 - 1, "none" }' | head -n 2
}
snapshot_again()
{
	dmchain snapshot d=/dev/nbd1
}
tops="0 1" old=nbd0 new="nbd1 nbd0" check="" again=snapshot_again also=before_seal
operation "snapshot" "$old" "$new"
also=""
controls "snapshot" 0 1
check=--no-whole

# --- jobs

prep()
{
	fill_layers 3
}
run()
{
	loaded 2 dmchain stream d
}
tops=2 old="nbd2 nbd1 nbd0" new=nbd2 again="dmchain stream d"
operation "stream" "$old" "$new"
controls "stream" 2

prep()
{
	fill_layers 4
}
run()
{
	loaded 3 dmchain commit d --top 1 --base 3
}
tops=3 old="nbd3 nbd2 nbd1 nbd0" new="nbd3 nbd0" again="dmchain commit d --top 1 --base 3" check=--fresh
operation "commit of lower layers" "$old" "$new"
controls "commit of lower layers" 0 3
check=--no-whole

prep()
{
	fill_layers 3
}
run()
{
	# With speed it would flush the base before the guest has to
	loaded 2 dmchain commit d --base 2 --speed 400K
}
# Where the guest has been told of a flush, which the top got, and the base has the most
# that its own last flush does not cover: nothing of that may be the guest's
# shellcheck disable=SC2317 # $also
told_durable()
{
	header_writes
	cutdisk list log | awk -v from="$first" -v to="$last" '
		$2 == "disk=0" && $3 == "flush" {
			open = 0
		}
		$2 == "disk=0" && $3 == "write" {
			open++
		}
		$2 == "disk=2" && $3 == "flush" {
			flushed = 1
		}
		$2 == "mark" && $1 > from && $1 <= to {
			if (open && flushed)
				print open, $1, "none"
			flushed = 0
		}' | sort -k 1,1nr -k 2,2n | head -n 4 | cut -d ' ' -f 2-
}
tops="2 0" old="nbd2 nbd1 nbd0" new=nbd0 again="dmchain commit d --base 2" also=told_durable
load_options="--ops 800 --flush-percent 12 --fua-percent 2 --max 8K"
operation "active commit" "$old" "$new"
also="" load_options=""
controls "active commit" 0 2

# A write that goes through to the base, where the top has just given a block up: it is
# durable when the top's map that still holds the block would be found. So the guest is
# kept off until that is not so, however long the top takes.
prep()
{
	fill_layers 3 && dmchain open d /dev/nbd2 &&
		crashwrite run /dev/mapper/d --log fill --ops 80 --threads 2 --size 8M \
			--max 128K --seed $((seed + 9)) --parallel-flush >/dev/null &&
		read_disk >initial && dmchain close d
}
run()
{
	local status=0
	tell slow 2 80
	loaded 2 dmchain commit d --base 2 || status=$?
	tell slow 2 0
	return $status
}
# shellcheck disable=SC2317 # $also
map_writes()	# cut before those of the top are durable, if the guest was told anything since the last
{
	local data
	data=$(od -An -t u8 -j 120 -N 8 start/2)
	cutdisk list log | awk -v from="$first" -v to="$last" -v data="$data" '
		$2 == "mark" {
			marked = 1
		}
		$1 <= from || $1 > to || $2 != "disk=2" {
			next
		}
		$3 == "flush" && written && marked {
			print $1 - 1, "none"
		}
		$3 == "flush" {
			marked = marked && !written
			written = 0
			next
		}
		{
			split($4, at, "+")
			if (at[1] <= 4096 || at[1] == 524288 || at[1] >= data + 0)
				next
			if ($3 == "write") {
				written = 1
			} else if (marked) {
				print $1 - 1, "none"
				marked = 0
			}
		}' | tail -n 24
}
# shellcheck disable=SC2317 # $judge
only_opened()	# only_opened WHAT MARK
{
	local out side
	open_disk || { echo "$1: does not open: $(cat .open);"; return; }
	out=$(by_log "$2") || echo "$1: mark $2: $(tail -n 3 <<<"$out" | paste -sd ' ');"
	look
	echo "$side" >>sides
	out=$(dmchain close d 2>&1) || echo "$1: close: $out;"
}
also=map_writes judge=only_opened load_options="--ops 1200 --flush-percent 4 --fua-percent 60 --max 4K"
operation "active commit, slow top" "$old" "$new"
also="" judge=one_disk load_options=""

prep()
{
	fill_layers 1
}
run()
{
	loaded 0 dmchain mirror d /dev/nbd1 --format chain --pivot
}
tops="0 1" old=nbd0 new=nbd1 again="dmchain mirror d /dev/nbd1 --format chain --pivot"
operation "mirror" "$old" "$new"
controls "mirror" 0 1

prep()
{
	fill_layers 2
}
run()
{
	loaded 1 dmchain mirror d /dev/nbd2 --layer 1
}
move_again()
{
	dmchain mirror d /dev/nbd2 --layer 1 --existing || dmchain mirror d /dev/nbd2 --layer 1
}
tops=1 old="nbd1 nbd0" new="nbd1 nbd2" again=move_again
operation "move" "$old" "$new"
controls "move" 1 2

# --- several disks: u, v and the raw w, which get nbd1, nbd3 and nbd5

open_one()	# open_one DISK: says "old" or "new"
{
	local old=nbd0 new=nbd1
	case $1 in
	v)	old=nbd2 new=nbd3;;
	w)	# Of a raw top only the new one knows
		if dmchain open w /dev/nbd5 >.open 2>&1; then
			echo new
		elif grep -qE 'not made|modified after|no chain header' .open &&
		     dmchain open w /dev/nbd4 --format raw >.open 2>&1; then
			echo old
		fi
		return;;
	esac
	if dmchain open "$1" /dev/$old >.open 2>&1; then
		echo old
	elif grep -q sealed .open && dmchain open "$1" /dev/$new >.open 2>&1; then
		echo new
	fi
}

# Frozen layers are the disks of one instant
judge_frozen()	# judge_frozen WHAT
{
	local nu nv nw
	dmchain open fu /dev/nbd0 --read-only && dmchain open fv /dev/nbd2 --read-only &&
		dmchain open fw /dev/nbd4 --read-only --format raw || { echo "$1: frozen: does not open;"; return; }
	read -r nu nv nw <<<"$(numbered show /dev/mapper/{fu,fv,fw})"
	dmchain close fu && dmchain close fv && dmchain close fw || echo "$1: frozen: close;"
	[[ "$nu$nv$nw" != *torn* ]] && [ "$nu" -ge "$nv" ] && [ "$nv" -ge "$nw" ] && [ $((nu - nw)) -le 1 ] ||
		echo "$1: frozen: $nu $nv $nw;"
}

# shellcheck disable=SC2317 # $judge
several()	# several WHAT MARK REQUEST
{
	local what=$1 d one got="" number n out
	for d in $(shuf -e u v w); do
		one=$(open_one "$d")
		[ -n "$one" ] || echo "$what: $d does not open: $(cat .open);"
		got+=$one
	done
	case $got in
	oldoldold|newnewnew)	echo "${got:0:3}" >>sides;;
	*)			echo "$what: $got;"; return;;
	esac
	[ "$got" != newnewnew ] || judge_frozen "$what"
	number=$(awk -v end="$3" '$1 <= end && sub(/^num-/, "", $NF) { n = $NF } END { print n + 0 }' marks)
	out=$(numbered show --flush "$number" /dev/mapper/{u,v,w} 2>&1) || echo "$what: $out;"
	[[ $out != *lost* ]] || echo "$what: has $out, $number was flushed;"
	for d in u v w; do
		out=$(dmchain close $d 2>&1) || echo "$what: close: $out;"
	done
	# shellcheck disable=SC2046 # a list
	sound "$what" /dev/nbd0 /dev/nbd2 $([ "$got" != newnewnew ] || echo /dev/nbd1 /dev/nbd3 /dev/nbd5)
}

open_three()
{
	dmchain open u /dev/nbd0 && dmchain open v /dev/nbd2 && dmchain open w /dev/nbd4 --format raw
}
close_three()
{
	dmchain close u && dmchain close v && dmchain close w
}
prep()
{
	dmchain create /dev/nbd0 --size 8M >/dev/null && dmchain create /dev/nbd2 --size 8M >/dev/null &&
		open_three && numbered write --count 4 --flush 2 /dev/mapper/{u,v,w} >/dev/null &&
		close_three
}
run()
{
	local writer status=0
	rm -f stop
	open_three || return
	numbered write --until stop --flush 3 --mark "$ctl" /dev/mapper/{u,v,w} >load.out 2>&1 &
	writer=$!
	sleep 0.3
	tell mark before
	dmchain snapshot w=/dev/nbd5 v=/dev/nbd3 u=/dev/nbd1 >op.out 2>&1 || status=$?
	tell mark behind
	sleep 0.2
	touch stop
	wait $writer || status=$?
	close_three && return $status
}
# The kernel's, not those of the controller, which makes the new layers
# shellcheck disable=SC2317 # $also
fua_headers()
{
	cutdisk list log | awk -v from="$first" -v to="$last" '
		$1 >= from && $1 <= to && $3 == "write+fua" && $4 ~ /^(0|524288)[+]/ {
			if (disk && disk != $2)
				print number, "none"
			disk = $2
			number = $1
		}' | head -n 8
}
judge=several new=new also=fua_headers
operation "several disks" old new
also=""
controls "several disks" 0 2 5
judge=one_disk

# --- closed layers

prep()
{
	fill_layers 2 && dmchain create /dev/nbd2 --size 8M >/dev/null && dmchain open e /dev/nbd2 &&
		crashwrite run /dev/mapper/e --log fill --ops 40 --threads 2 --size 8M --max 64K \
			--seed $((seed + 7)) --parallel-flush >/dev/null &&
		dd if=/dev/mapper/e of=life bs=1M iflag=direct status=none && dmchain close e
}
run()
{
	tell mark before
	dmchain rebase /dev/nbd1 --backing /dev/nbd2 --backing-format chain >op.out || return
	tell mark behind
}
rebase_again()
{
	dmchain close d && dmchain rebase /dev/nbd1 --backing /dev/nbd2 --backing-format chain &&
		dmchain open d /dev/nbd1
}
tops=1 old="nbd1 nbd0" new="nbd1 nbd2" again=rebase_again verify=as_before
operation "rebase" "$old" "$new"
controls "rebase" 1

# A layer on a device that has had another life
run()
{
	tell mark before
	dmchain create /dev/nbd2 --backing /dev/nbd1 --backing-format chain >op.out || return
	tell mark behind
}
shows()		# shows WHAT PATH FILE
{
	dmchain open d "$2" >.open 2>&1 || { echo "$1: $2 does not open: $(cat .open);"; return 1; }
	read_disk | cmp -s "$3" -
	same=$?
	dmchain close d >.close 2>&1 || echo "$1: close: $(cat .close);"
	return $same
}
# shellcheck disable=SC2317 # $judge
created()	# created WHAT
{
	local out
	if ! out=$(dmchain open d /dev/nbd2 2>&1); then
		grep -q "no chain header" <<<"$out" || echo "$1: nbd2: $out;"
		echo none >>sides
	else
		case $(layers_of d) in
		nbd2)			echo "old life" >>sides;;
		"nbd2 nbd1 nbd0")	echo new >>sides;;
		*)			echo "$1: it is $(layers_of d);";;
		esac
		read_disk >was
		dmchain close d
	fi
	[ "$(tail -n 1 sides)" != "old life" ] || cmp -s was life || echo "$1: its former life has changed;"
	if [ "$(tail -n 1 sides)" != new ]; then
		out=$(dmchain create /dev/nbd2 --backing /dev/nbd1 --backing-format chain 2>&1) ||
			echo "$1: again: $out;"
	fi
	shows "$1" /dev/nbd2 initial || echo "$1: it shows something else;"
	sound "$1" /dev/nbd1 /dev/nbd2
}
layers_of()
{
	json "$path_names" dmchain info "$1"
}
judge=created new=new
operation "create" "old life" new
controls "create" 2

# What a shrink has cut off stays away
prep()
{
	fill_layers 1
}
run()
{
	tell mark before
	dmchain resize /dev/nbd0 4M --shrink >op.out || return
	tell mark behind
}
# shellcheck disable=SC2317 # $judge
shrunk()	# shrunk WHAT
{
	local out size
	dmchain open d /dev/nbd0 >.open 2>&1 || { echo "$1: does not open: $(cat .open);"; return; }
	size=$(blockdev --getsize64 /dev/mapper/d)
	echo "$((size >> 20)) MiB" >>sides
	read_disk | cmp -s -n "$size" - initial || echo "$1: $size bytes, not as it was;"
	dmchain close d || echo "$1: close;"
	sound "$1" /dev/nbd0
	[ "$size" = 4194304 ] || out=$(dmchain resize /dev/nbd0 4M --shrink 2>&1) || echo "$1: again: $out;"
	out=$(dmchain resize /dev/nbd0 8M 2>&1) || echo "$1: grow: $out;"
	{ head -c 4M initial; head -c 4M /dev/zero; } >expected
	shows "$1" /dev/nbd0 expected || echo "$1: grown, it shows something else;"
	sound "$1" /dev/nbd0
}
judge=shrunk new='4 MiB'
operation "shrink" "4 MiB" "8 MiB"
controls "shrink" 0
judge=one_disk verify=by_log

# --- a disk grows

run()
{
	loaded 0 dmchain resize d 9M
}
tops=0 old=8 new=9 where='."virtual-size" / 1048576' again="dmchain resize d 9M"
operation "grow" 8 9
controls "grow" 0

done_testing
