# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# What 66-torture.sh does to the disk d in an epoch; sourced after chain.sh. What must
# not be is a line in the file "faults", what was done one in "actions". Each of the
# processes has random numbers of its own, from seed and epoch: what it tries is the
# same in each run, but not what the others do just then. $name, $seed, $epoch and
# $length are the script's.
# shellcheck disable=SC2154

half=8					# MiB
snapshots_every=25			# writes

chance()	# chance PERCENT
{
	[ $((RANDOM % 100)) -lt "$1" ]
}

fault()
{
	echo "$*" >>faults
}

# try COMMAND...: done or refused; says in $said what it said. A command whose job
# somebody else has cancelled fails, too, and one that names a layer that has just gone,
# or that a commit has begun to change.
try()
{
	local status=0
	said=$(timeout -k 5 100 "$@" 2>&1) || status=$?
	echo "${EPOCHREALTIME:4:9} $BASHPID $status $* | ${said:0:300}" >>actions
	case $status:$said in
	0:*|3:*)	;;
	[12]:*cancelled*|[124]:*"no layer"*|[12]:*"no such layer"*|[12]:*"no job"*|1:*"has ended already"*|4:*spoiled*|4:*retired*)	status=3;;
	*)		fault "$*: exit status $status: ${said:0:500}";;
	esac
	return $status
}

# killed COMMAND...: after a while by chance
killed()
{
	local ms=$((RANDOM % 400 + 20)) status=0
	bash -c '"$@"; exit $?' bash timeout --foreground -s KILL "$(printf '0.%03d' $ms)" "$@" >/dev/null 2>&1 || status=$?
	echo "${EPOCHREALTIME:4:9} $BASHPID $status (killed after $ms ms if 137) $*" >>actions
}

depth()
{
	dmsetup table d | cut -d ' ' -f 4
}

#----------------------------------------------------------------
# Snapshots: crashwrite calls this, as its hook
#----------------------------------------------------------------

# What it froze is read by a disk of its own, if that may be just now
torture_snapshot()	# torture_snapshot NUMBER
{
	local frozen dump=frozen.$1
	try dmchain snapshot "d=$TMP/s$epoch-$1.img" --json || exit 3
	frozen=$(jq -r .frozen <<<"$said")
	try dmchain open "f$1" "$frozen" --read-only || exit 0
	dd if="/dev/mapper/f$1" of="$dump" bs=1M skip=$half iflag=direct status=none ||
		fault "f$1: cannot be read"
	try dmchain close "f$1" || fault "f$1: cannot be closed: $said"
	exit 0
}

#----------------------------------------------------------------
# Jobs
#----------------------------------------------------------------

pick_job()
{
	local layers at below
	layers=$(depth)
	job=()
	[ "$layers" -ge 2 ] || { pick_mirror; return; }
	at=$((RANDOM % (layers - 1)))
	below=$((at + 1 + RANDOM % (layers - at - 1)))
	case $((RANDOM % 8)) in
	0)	job=(stream d);;
	1)	job=(stream d --into "$at");;
	2)	job=(stream d --into "$at" --base "$below");;
	3|4)	job=(commit d --top "$at" --base "$below");;
	5)	job=(commit d --base "$((1 + RANDOM % (layers - 1)))");;
	6)	pick_mirror;;
	7)	job=(mirror d "$TMP/l$epoch-$((++files)).img" --layer $((at + 1)));;
	esac
}

pick_mirror()
{
	job=(mirror d "$TMP/m$epoch-$((++files)).img" --format chain)
	! chance 40 || job+=(--shallow)
	! chance 50 || job+=(--pivot)
	! chance 20 || job+=(--verify)
}

# Whatever is going on is brought to an end
finish_jobs()
{
	local n state
	for ((n = 0; n < 30; n++)); do
		state=$(timeout -k 5 100 dmchain job list d --json 2>/dev/null |
			jq -r '[.[] | select(.status != "concluded")][0] | "\(.id) \(.status) \(.error)"')
		case $state in
		*" ready "*)
			if chance 60; then
				try dmchain pivot "${state%% *}"
			else
				try dmchain job cancel "${state%% *}"
			fi
			;;
		*" paused "*)
			try dmchain job resume "${state%% *}" --wait;;
		null*|"")
			return 0;;
		*)
			try dmchain job wait "${state%% *}" --timeout 60;;
		esac
	done
	return 1
}

verbs()		# of the job $id that runs in the background
{
	local n=$((RANDOM % 4))
	while [ $((n--)) -gt 0 ]; do
		case $((RANDOM % 4)) in
		0)	try dmchain job pause "$id";;
		1)	try dmchain job resume "$id";;
		2)	try dmchain job speed "$id" $((RANDOM * 64));;
		3)	! chance 30 || try dmchain job cancel "$id";;
		esac
	done
	try dmchain job speed "$id" 0
}

torture_jobs()
{
	RANDOM=$(((seed * 7 + epoch * 3) % 32768))
	files=0
	while [ -e going ]; do
		pick_job
		case $((RANDOM % 10)) in
		0|1)
			killed dmchain "${job[@]}"
			! chance 50 || try dmchain recover
			;;
		2|3)
			[[ ${job[*]} != *--layer* && ${job[*]} != *--pivot* ]] || continue
			try dmchain "${job[@]}" --background --speed $((RANDOM * 32 + 65536)) --json || continue
			id=$(jq -r .id <<<"$said")
			verbs
			;;
		*)
			try dmchain "${job[@]}";;
		esac
		! chance 70 || finish_jobs
	done
}

#----------------------------------------------------------------
# Questions, suspends, tables
#----------------------------------------------------------------

# What it reloads may be old by then: that is refused, or harmless
torture_storm()
{
	RANDOM=$(((seed * 5 + epoch * 11) % 32768))
	while [ -e going ]; do
		case $((RANDOM % 8)) in
		0)	try dmchain info d;;
		1)	try dmchain map d;;
		2)	try dmchain job list;;
		3)	try dmchain list;;
		4)	try dmsetup status d;;
		*)	[ "$storm" = 0 ] || storm_table;;
		esac
		sleep 0.$((RANDOM % 4))
	done
}

storm_table()
{
	local flags=()
	! chance 30 || flags+=(--noflush)
	! chance 30 || flags+=(--nolockfs)
	if chance 40; then
		dmsetup table d | dmsetup reload d >/dev/null 2>&1
	fi
	dmsetup suspend "${flags[@]}" d >/dev/null 2>&1
	dmsetup resume d >/dev/null 2>&1 || { dmsetup clear d; dmsetup resume d; } >/dev/null 2>&1
}

#----------------------------------------------------------------
# An epoch
#----------------------------------------------------------------

# The halves are devices of their own; in some epochs another disk has the same base
torture_begin()
{
	local sectors=$((half * 2048)) base
	storm=$((epoch % 3 == 0)) shared=$((epoch % 2))
	dmsetup create lo --table "0 $sectors linear /dev/mapper/d 0"
	dmsetup create hi --table "0 $sectors linear /dev/mapper/d $sectors"
	dd if=/dev/mapper/hi of=initial bs=1M iflag=direct status=none
	rm -f frozen.* e.img
	[ "$shared" = 1 ] || return 0
	base=$(dmchain info d --json | jq -r '.layers[-1].path')
	# The base is the top yet: one more above it
	[ "$(depth)" -gt 1 ] || dmchain snapshot "d=$TMP/u$epoch.img" >/dev/null
	run_ok "$name: another disk on its base" dmchain create e.img --backing "$base" --backing-format chain
	dmchain open e e.img
}

torture_run()
{
	local pids=() pid
	touch going
	cat >hook <<-END
		#!/bin/bash
		seed=$seed epoch=$epoch TMP=$TMP
		cd "$TMP"
		. /src/tests/lib/torture.sh
		torture_snapshot "\$1"
	END
	chmod +x hook
	iomodel run /dev/mapper/lo --model model --seconds "$length" --threads 2 --max 64K \
		--seed $((seed + epoch)) --verify-end >lo.out 2>&1 &
	pids+=($!)
	crashwrite run /dev/mapper/hi --log ops --seconds "$length" --threads 3 --max 64K \
		--seed $((seed + epoch)) --hook "$TMP/hook" --hook-every $snapshots_every >hi.out 2>&1 &
	pids+=($!)
	if [ "$shared" = 1 ]; then
		iomodel run /dev/mapper/e --init-from-dev --seconds "$length" --threads 1 --max 64K \
			--seed $((seed + epoch + 1)) --verify-end >e.out 2>&1 &
		pids+=($!)
	fi
	torture_jobs &
	torture_storm &
	for pid in "${pids[@]}"; do
		wait "$pid" || fault "a writer failed: $(tail -qn 5 ./*.out)"
	done
	rm going
	wait
}

torture_end()
{
	dmsetup resume d 2>/dev/null
	try dmchain recover
	finish_jobs || fault "jobs do not end: $(dmchain job list d)"
	[ "$shared" = 0 ] || try dmchain close e || fault "e cannot be closed: $said"
	top=$(dmchain info d --json | jq -r '.layers[0].path')
}

torture_judge()
{
	local n file
	iomodel verify /dev/mapper/lo --model model >.out 2>&1 || fault "its lower half: $(tail -n 5 .out)"
	crashwrite check /dev/mapper/hi --log ops --mark end --initial initial >.out 2>&1 ||
		fault "its upper half: $(tail -n 5 .out)"
	for file in frozen.*; do
		[ -e "$file" ] || continue
		n=${file#frozen.}
		crashwrite check "$file" --log ops --snapshot "$n" --initial initial >.out 2>&1 ||
			fault "what snapshot $n froze: $(tail -n 5 .out)"
	done
	dmsetup remove lo
	dmsetup remove hi
	torture_layers
}

# All layers are sound, nothing else is left, and the disk opens again
torture_layers()
{
	local files file loops
	dmchain info d >.out 2>&1 || fault "info: $(cat .out)"
	mapfile -t files < <(dmchain info d --json | jq -r '.layers[].path')
	loops=$(compgen -G '/sys/block/loop*/loop' | wc -l)
	[ "$loops" = ${#files[@]} ] || fault "${#files[@]} layers, $loops loop devices: $(losetup -n -l -O NAME,BACK-FILE)"
	try dmchain close d || fault "d cannot be closed: $said"
	for file in "${files[@]}"; do
		dmchain check "$file" >.out 2>&1 || fault "$file: $(tail -n 2 .out)"
	done
	for file in "$TMP"/*.img; do
		[[ " ${files[*]} " == *" $file "* ]] || rm "$file"
	done
	dmchain open d "$top" >.out 2>&1 || fault "it does not open: $(cat .out)"
	iomodel verify /dev/mapper/d --model model --size ${half}M >.out 2>&1 ||
		fault "its lower half, opened again: $(tail -n 5 .out)"
}

torture_counts()
{
	local ends
	ends=$(awk '$3 == 0 { done++ } $3 == 3 { refused++ } $3 == 137 { killed++ }
		END { printf "%d done, %d refused, %d killed", done, refused, killed }' actions)
	echo "$ends; $(compgen -G 'frozen.*' | wc -l) frozen layers judged; $(depth) layers at the end"
}
