#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.12 mem=2048 smp=2 timeout=600 group=cuts
# allow: Buffer I/O error|I/O error, dev|lost async page write|layer .* failed|job [0-9]+ ended with error
# allow: (map write|map commit|header update|second header copy|switch|flush|relink) failed
# allow: block nbd[0-9]+: |nbd[0-9]+: detected capacity change
#
# Power cuts in the midst of what comes by chance. A disk is written while its top
# changes again and again (snapshots, commits of the top, mirrors, pivots), layers move
# to other disks, and jobs run below; some are killed, paused, cancelled. A disk that
# no layer lies on any more is used again at once, so what a command has reported has
# to be durable. Each layer is a disk with a volatile cache, as in 60-cuts.sh. Behind
# some requests of such a run the disk must open by the top that it had then, hold what
# a flush covered, and read the same when each job that was cut off is at its end.
#
#	SEED=N ROUNDS=N SECONDS_EACH=N CUTS=N; each round adds 1000 to the seed

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"
. "$(dirname "$0")/../lib/cuts.sh"
. "$(dirname "$0")/../lib/torture.sh"

cd "$TMP" || exit 1
rounds=${ROUNDS:-2} length=${SECONDS_EACH:-12} cuts=${CUTS:-12} first_seed=${SEED:-1}
if [ -n "${LONG-}" ]; then
	rounds=${ROUNDS:-20} length=${SECONDS_EACH:-20} cuts=${CUTS:-60}
	first_seed=${SEED:-$((RANDOM * 32768 + RANDOM))}
fi
echo "# seed $first_seed"
cut_sizes=(14M 14M 14M 14M 14M 14M 14M)
ops=1000000 check=--no-whole judge=judge_storm new=""

run_ok "disks" start_disks

#----------------------------------------------------------------
# What is done
#----------------------------------------------------------------

layers()	# of the disk d, the top first: nbd3 nbd1 nbd0
{
	local paths
	paths=$(timeout 60 dmchain info d --json 2>/dev/null | jq -r '.layers[].path') || return
	mapfile -t layer <<<"${paths//\/dev\//}"
}

# One that no layer lies on, best of all the one that the disk has just left: what lies
# there now must not be needed for anything
free_disk()
{
	local i none=()
	again=0
	if [[ " ${layer[*]} " == *" $top "* ]]; then
		top=${layer[0]}
	elif chance 60; then
		free=$top top=${layer[0]} again=1
		return
	fi
	for i in "${!cut_sizes[@]}"; do
		[[ " ${layer[*]} " == *" nbd$i "* ]] || none+=("nbd$i")
	done
	[ ${#none[@]} -gt 0 ] && free=${none[RANDOM % ${#none[@]}]}
}

# The judge is told what the top is, and what the command to come may make it
tops()
{
	tell mark "tops:$(paste -sd , <<<"$(printf '%s\n' "$@")")"
}

pick_command()
{
	local depth=${#layer[@]} choice=$((RANDOM % 7))
	to=""
	[ $begun = 1 ] || choice=2
	begun=1
	if ! free_disk || { [ "$depth" -gt 4 ] && chance 60; }; then
		choice=6
	elif [ "$depth" -lt 3 ] || [ $again = 1 ]; then
		choice=$((choice % 3))
	fi
	case $choice in
	0|1)	to=$free command=(snapshot d=/dev/"$free");;
	2)	to=$free command=(mirror d /dev/"$free" --format chain --pivot);;
	3)	to=$free command=(mirror d /dev/"$free" --format chain);;
	4|5)	command=(mirror d /dev/"$free" --layer $((1 + RANDOM % (depth - 1))));;
	6)	to=${layer[1 + RANDOM % (depth - 1)]} command=(commit d --base /dev/"$to");;
	esac
}

# One command that may change the top, until what it began is at its end. False if there
# is no power any more: from then on nobody says what the top is
storm_command()
{
	local status=0
	layers || return
	pick_command
	# shellcheck disable=SC2086 # nothing, or one
	tops "${layer[0]}" $to
	[ $again = 0 ] || tell mark again
	if chance 25; then
		killed dmchain "${command[@]}"
	else
		try dmchain "${command[@]}" || status=$?
		[ $status = 0 ] || [ $status = 3 ] || return
	fi
	try dmchain recover d && finish_jobs && layers && tops "${layer[0]}"
}

storm_below()
{
	local depth at
	RANDOM=$((seed % 32768))
	while [ -e going ]; do
		depth=$(depth)
		if [ "${depth:-0}" -lt 3 ]; then
			sleep 0.1
			continue
		fi
		at=$((1 + RANDOM % (depth - 2)))
		case $((RANDOM % 4)) in
		0)	job=(stream d --into "$at");;
		1)	job=(stream d);;
		*)	job=(commit d --top "$at" --base "$((at + 1))");;
		esac
		if chance 40; then
			try dmchain "${job[@]}" --background --speed $((RANDOM * 32 + 65536)) --json || continue
			id=$(jq -r .id <<<"$said")
			verbs
		else
			try dmchain "${job[@]}"
		fi
	done
}

prep()
{
	fill_layers 3
}

run()
{
	local writer below status=0
	: >faults
	: >actions
	dmchain open d /dev/nbd2 || return
	RANDOM=$(((seed * 3) % 32768))
	top=nbd2 begun=0
	touch going
	tops nbd2
	load --seconds "$length" --threads 2 &
	writer=$!
	storm_below &
	below=$!
	while kill -0 $writer 2>/dev/null; do
		storm_command || break
	done
	wait $writer || status=$?
	rm going
	wait $below
	[ $status = 0 ] || return
	finish_jobs || return
	dmchain close d
}

#----------------------------------------------------------------
# What is left
#----------------------------------------------------------------

refusals='modified after|retired|sealed|never completed|no chain header|not finished'

open_top()
{
	local top
	for top in "$@"; do
		! dmchain open d "/dev/$top" >.open 2>&1 || return 0
		grep -qE "$refusals" .open || return
	done
	return 1
}

# Each job that was cut off is resumed, and brought to an end
resume_all()	# resume_all WHAT
{
	local out id
	for id in $(dmchain job list d --json | jq -r '.[] | select(.error == "interrupted").id'); do
		out=$(dmchain job resume "$id" --wait 2>&1) || echo "$1: resume: $(tail -n 1 <<<"$out");"
		resumed=$((resumed + 1))
	done
	finish_jobs || echo "$1: jobs do not end;"
}

judge_storm()	# judge_storm WHAT MARK REQUEST
{
	local what=$1 out tops state
	tops=$(awk -v end="$3" '$1 <= end && sub(/^tops:/, "", $3) { t = $3 } END { gsub(",", " ", t); print t }' marks)
	: >faults
	# shellcheck disable=SC2086 # a list
	open_top $tops || { echo "$what: none of $tops opens: $(cat .open);"; return; }
	out=$(by_log "$2") || echo "$what: mark $2: $(tail -n 3 <<<"$out" | paste -sd ' ');"
	state=$(json '.state + " " + .layers[0].access' dmchain info d)
	[ "$state" = "active rw" ] || echo "$what: it is $state;"
	read_disk >was
	echo "depth $(depth)" >>sides
	resume_all "$what"
	same "$what, finished"
	layers
	out=$(dmchain close d 2>&1) || echo "$what: close: $out;"
	if ! open_top "${layer[0]}"; then
		echo "$what: ${layer[0]} does not open again: $(cat .open);"
		return
	fi
	same "$what, opened again"
	out=$(dmchain close d 2>&1) || echo "$what: close: $out;"
	sound "$what" "${layer[@]/#//dev/}"
	paste -sd ' ' faults
}

# Up to half of them where a disk just left has been taken again
points()
{
	local n i=0 keeps=(torn some disks none none)
	RANDOM=$((seed % 32768))
	{
		shuf -i "0-$total" -n $((cuts / 2)) --random-source=<(yes $seed)
		awk '/again$/ { from = $1 } /tops:/ && from { print from, $1; from = 0 }' marks |
			while read -r from to; do
				echo $((from + (RANDOM * 32768 + RANDOM) % (to - from + 1)))
				echo $((from + (RANDOM * 32768 + RANDOM) % (to - from + 1)))
			done | head -n $((cuts / 2))
	} | sort -nu | while read -r n; do
		echo "$n ${keeps[i++ % ${#keeps[@]}]}"
	done
}

# One run, and what is behind some of its requests
cut_round()	# cut_round NAME
{
	local name=$1 n keep bad=""
	blank
	run_ok "$name: layers" prep
	reboot
	run_ok "$name" record log run
	is "$(head -n 5 faults)" "" "$name: no command failed"
	awk '$3 == 0 { done++ } $3 == 3 { refused++ } $3 == 137 { killed++ }
		END { printf "# %d commands done, %d refused, %d killed\n", done, refused, killed }' actions
	reboot
	find_marks
	points >.points
	copy_disks start base
	: >sides
	while read -r n keep; do
		judge_cut "$n" "$keep" >.bad
		bad+=$(cat .bad)
	done <.points
	echo "# $name: $total requests, $(wc -l <.points) states; $resumed jobs were resumed"
	sort sides | uniq -c | sed 's/^/# /'
	[ -s sides ]
	is $? 0 "$name: disks were looked at"
	is "$bad" "" "$name: all states after power cuts are good"
}

for ((round = 1; round <= rounds; round++)); do
	seed=$((first_seed + 1000 * (round - 1)))
	cut_round "round $round (seed $seed)"
done
lies "cuts by chance" all
no_power "cuts by chance" 1
done_testing
