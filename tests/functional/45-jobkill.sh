#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug long=6.1,6.12,debug mem=1024 smp=2 timeout=500 group=jobs
#
# dmchain is killed at random points of stream, commit, the commit of the active
# layer with its pivot, and of the verbs of jobs: half of the time after a random
# delay, half at a random system call. Never is a disk suspended, a loop device
# lost or a chain unable to go on; every job ends by itself or can be finished;
# and what was written is there.

. "$(dirname "$0")/../lib/tap.sh"

cd "$TMP" || exit 1
modprobe loop
# Programs start faster from here, and it is all about starting them
mkdir bin && cp "$(command -v dmchain)" bin/
PATH=$TMP/bin:$PATH
rounds=${ROUNDS:-3}
[ -z "${LONG-}" ] || rounds=${ROUNDS:-200}
RANDOM=${SEED:-$$}
echo "# seed $RANDOM"
killed=0 faults=0 resumed=0

# fault MESSAGE...
fault()
{
	faults=$((faults + 1))
	echo "# round $round, $op ($how): $*"
}

# The shell that says "Killed" is not this one
quietly()
{
	bash -c '"$@"; exit $?' bash "$@" >.out 2>&1
}

# What an undisturbed run takes: its time, and its system calls
declare -A span calls
learn()		# learn OP COMMAND...
{
	local from=${EPOCHREALTIME/./}
	quietly "${@:2}" || echo "not ok - ${*:2} undisturbed: $(cat .out)"
	span[$1]=$((${EPOCHREALTIME/./} - from))
}

learn_calls()
{
	quietly strace -qq -o .calls "${@:2}" || echo "not ok - ${*:2} under strace: $(cat .out)"
	calls[$1]=$(awk -F '(' '$1 ~ /^[a-z_0-9]+$/ && $1 != "exit_group" { print $1, ++n[$1] }' .calls)
	echo "# $1: ${span[$1]} us, $(wc -l <.calls) system calls"
}

kill_it()	# kill_it COMMAND...
{
	local us status=0 list
	if [ $((RANDOM % 2)) = 0 ]; then
		us=$(((RANDOM * 32768 + RANDOM) % ${span[$op]}))
		how="after $us us"
		quietly timeout --foreground -s KILL "$(printf '%d.%06d' $((us / 1000000)) $((us % 1000000)))" "$@" || status=$?
	else
		mapfile -t list <<<"${calls[$op]}"
		how=${list[RANDOM % ${#list[@]}]}
		quietly strace -qq -o /dev/null -e "trace=${how% *}" \
			-e "inject=${how% *}:signal=KILL:when=${how#* }" "$@" || status=$?
	fi
	[ $status != 137 ] || killed=$((killed + 1))
}

model=0		# writes so far; the n-th is in block n
put()
{
	model=$((model + 1))
	printf 'write %d\n' $model | dd of=/dev/mapper/d bs=4k seek=$((model - 1)) conv=sync oflag=direct status=none ||
		fault "cannot write"
}

check_data()
{
	local seen
	seen=$(dd if=/dev/mapper/d bs=4k count=$model iflag=direct status=none | tr -d '\0' | md5sum)
	[ "$seen" = "$(seq 1 $model | sed 's/^/write /' | md5sum)" ] || fault "data differ"
}

# A disk of five layers, each with a write of its own and 4 MiB for a job to move:
# made once, then copied
build()
{
	[ ! -e /dev/mapper/d ] || dmchain close d >.out 2>&1 || fault "close: $(cat .out)"
	rm -f ./*.img
	model=0
	[ -e saved ] || build_saved
	cp --sparse=always saved/* .
	dmchain open d 4.img >/dev/null || fault "open"
	model=4
	put
}

build_saved()
{
	local i
	dmchain create 0.img --size 64M >/dev/null
	dmchain open d 0.img
	for i in 1 2 3 4; do
		put
		dd if=/dev/urandom of=/dev/mapper/d bs=1M seek=$((8 * i)) count=4 oflag=direct status=none
		dmchain snapshot d=$i.img >/dev/null
	done
	dmchain close d
	mkdir saved
	mv ./*.img saved
}

check_running()
{
	local file
	for file in /sys/block/dm-*/dm/suspended; do
		[ ! -e "$file" ] || [ "$(cat "$file")" = 0 ] || fault "a disk is suspended"
	done
}

# Not in a pipe: faults are counted here
list_jobs()
{
	dmchain job list d --json >.jobs 2>.out || fault "job list: $(cat .out)"
}

any_job()	# any_job KEY VALUE
{
	grep -q "\"$1\":\"$2\"" .jobs
}

# Whoever comes next: let what was going on come to its end
finish()
{
	dmchain job wait d >.out 2>&1
	list_jobs
	if any_job error interrupted; then
		resumed=$((resumed + 1))
		dmchain job resume d --wait >.out 2>&1 || fault "resume: $(cat .out)"
		list_jobs
	fi
	if any_job status ready; then
		dmchain pivot d >.out 2>&1 || fault "pivot: $(cat .out)"
		list_jobs
	fi
	! grep '"status"' .jobs | grep -qv concluded || fault "a job is left: $(cat .jobs)"
	dmchain recover >.out 2>&1 || fault "recover: $(cat .out)"
	dmchain recover --json >.recover 2>.out || fault "recover: $(cat .out)"
	! tr -d ' \n' <.recover | grep -q '"done":\["' || fault "recover was not done: $(cat .recover)"
}

check_left()
{
	local want loops marks
	want=$(dmchain table d | cut -d ' ' -f 4)
	loops=$(compgen -G '/sys/block/loop*/loop' | wc -l)
	marks=$(compgen -G '/run/dmchain/layers/*' | wc -l)
	[ "$loops" = "$want" ] || fault "$want layers, $loops loop devices"
	[ "$marks" = "$want" ] || fault "$want layers, $marks markers"
	! compgen -G '/run/dmchain/lock.*' >/dev/null || fault "a lock is left"
	[ "$(dmsetup table d | grep -oE 'chain (rw|ro)' | grep -c rw)" = 1 ] ||
		fault "more than the top is open for writing: $(dmsetup table d)"
}

round=0 op=none how=none
commands="stream commit active verbs"
declare -A args=([stream]="stream d --base 3" [commit]="commit d --top 1 --base 3"
	[active]="commit d --base 2")
for op in stream commit active; do
	build
	# shellcheck disable=SC2086 # words
	learn $op dmchain ${args[$op]}
	build
	# shellcheck disable=SC2086 # words
	learn_calls $op dmchain ${args[$op]}
done
build
dmchain stream d --speed 64K --background >/dev/null
learn verbs dmchain job speed d 32K
learn_calls verbs dmchain job cancel d

for ((round = 1; round <= rounds; round++)); do
	[ $((round % 10)) != 0 ] || echo "# round $round: $killed killed, $resumed resumed, $faults faults, $SECONDS s"
	for op in $commands; do
		build
		if [ $op = verbs ]; then
			dmchain commit d --base 2 --speed 1M --background >.out 2>&1 || fault "commit: $(cat .out)"
			case $((RANDOM % 4)) in
			0)	kill_it dmchain job pause d; dmchain job resume d >.out 2>&1;;
			1)	kill_it dmchain job speed d 0;;
			2)	kill_it dmchain job cancel d;;
			3)	kill_it dmchain job list;;
			esac
			dmchain job speed d 0 >.out 2>&1
		else
			# shellcheck disable=SC2086 # words
			kill_it dmchain ${args[$op]}
		fi
		check_running
		put
		finish
		check_data
		check_left
		dmchain close d >.out 2>&1 || fault "close: $(cat .out)"
		top=$(ls ./*.img | sort -V | tail -n 1)
		for top in $(ls ./*.img | sort -rV); do
			! dmchain open d "$top" >.out 2>&1 || break
		done
		[ -e /dev/mapper/d ] && check_data || fault "does not open: $(cat .out)"
		[ $faults -lt 10 ] || break 2
	done
done
echo "# $resumed jobs had to be resumed"
is "$faults" 0 "$((round - 1)) rounds, dmchain was killed $killed times"
[ "$killed" -gt $((rounds)) ] && ok "often in time" || fail "often in time" "$killed of $((rounds * 4))"
run_ok "close" dmchain close d
is "$(losetup -n -l 2>/dev/null)" "" "no loop device is left"
done_testing
