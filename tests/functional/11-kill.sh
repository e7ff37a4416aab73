#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug long=6.1,debug mem=1024 smp=2 timeout=400 group=main
#
# dmchain is killed at random points of open, snapshot, resize and close: half of
# the time after a random delay, half at a random system call.
# Never is a disk suspended, a loop device lost, or a chain unable to open; and
# what was written is there.

. "$(dirname "$0")/../lib/tap.sh"

cd "$TMP" || exit 1
# Programs start faster from here, and it is all about starting them
mkdir bin && cp "$(command -v dmchain)" bin/
PATH=$TMP/bin:$PATH
rounds=${ROUNDS:-25}
RANDOM=${SEED:-$$}
echo "# seed $RANDOM"

dmchain create 0.img --size 64M >/dev/null
top=0.img next=1 writes=0 killed=0 faults=0

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

# In the foreground: else timeout kills itself, too, and nobody waits for the
# command, which may be in the middle of a call of the kernel
kill_after()	# MICROSECONDS COMMAND...
{
	quietly timeout --foreground -s KILL "$(printf '%d.%06d' $(($1 / 1000000)) $(($1 % 1000000)))" "${@:2}"
}

kill_at()	# CALL NUMBER COMMAND...: at the n-th system call of that name
{
	quietly strace -qq -o /dev/null -e "trace=$1" -e "inject=$1:signal=KILL:when=$2" "${@:3}"
}

# kill_it COMMAND...: run it and kill it somewhere
kill_it()
{
	local delay status=0 list
	if [ $((RANDOM % 2)) = 0 ]; then
		delay=$(((RANDOM * 32768 + RANDOM) % ${span[$op]}))
		how="after $delay us"
		kill_after $delay "$@" || status=$?
	else
		mapfile -t list <<<"${calls[$op]}"
		how=${list[RANDOM % ${#list[@]}]}
		kill_at ${how% *} ${how#* } "$@" || status=$?
	fi
	case $status in
	137)	killed=$((killed + 1));;
	# 124: it ended by itself, just when the time was up
	0|124)	;;
	*)	fault "exit status $status: $(<.out)";;
	esac
}

# Nobody may have to wait for recover for that
check_running()
{
	local file
	for file in /sys/block/dm-*/dm/suspended; do
		[ ! -e "$file" ] || [ "$(<"$file")" = 0 ] || fault "a disk is suspended"
	done
}

is_open()
{
	[ -e /dev/mapper/d ]
}

# Names that a pattern matches, in one word each
names()
{
	local list
	list=$(compgen -G "$1")
	echo "${list//$'\n'/ }"
}

check_recovered()
{
	local devs loops marks want=0 table=
	dmchain recover >.out 2>&1 || fault "recover: $(<.out)"
	! is_open || table=$(dmchain table d 2>&1) || fault "no table: $table"
	[ -z "$table" ] || want=$(cut -d ' ' -f 4 <<<"$table")
	devs=$(names '/sys/block/dm-*')
	loops=$(names '/sys/block/loop*/loop')
	marks=$(names '/run/dmchain/layers/*')
	[ "$(wc -w <<<"$devs")" = $((want > 0)) ] || fault "devices: $devs"
	[ "$(wc -w <<<"$loops")" = "$want" ] || fault "$want layers, loops: $loops"
	[ "$(wc -w <<<"$marks")" = "$want" ] || fault "$want layers, markers: $marks"
	[ -z "$(names '/run/dmchain/lock.*')" ] || fault "a lock is left"
	[[ $table != *next* ]] || fault "a prepared layer is attached: $table"
	if [ $((round % 10)) = 0 ]; then
		dmchain recover >.out 2>&1
		[ ! -s .out ] || fault "recover was not done: $(<.out)"
	fi
}

# The top is the newest that was switched to: the disk knows, or the seals
find_top()
{
	if is_open; then
		top=$(dmchain list | awk '$1 == "d" { sub(".*/", ""); print }')
	else
		dmchain open d "$top" >.out 2>&1 || {
			# It went on in the new one
			top=$(sed -nE 's/.*layer .*\/([0-9]+\.img) .*/\1/p' .out)
			dmchain open d "${top:-none}" >.out 2>&1 || fault "the chain does not open: $(<.out)"
		}
	fi
	# A file that no chain has is left of an undone snapshot
	for f in *.img; do
		[ "${f%.img}" -le "${top%.img}" ] || fault "$f was left"
	done
}

check_data()
{
	local seen
	[ $writes = 0 ] || {
		seen=$(dd if=/dev/mapper/d bs=4k count=$writes iflag=direct status=none | tr -d '\0' | md5sum)
		[ "$seen" = "$(seq 1 $writes | while read -r i; do printf '%s\n' "write $i"; done | md5sum)" ] ||
			fault "data differ"
	}
	writes=$((writes + 1))
	printf '%s\n' "write $writes" | dd of=/dev/mapper/d bs=4k seek=$((writes - 1)) \
		conv=sync,fsync oflag=direct status=none || fault "cannot write"
}

# What an undisturbed run takes: its time, and its system calls by name and
# number of each
declare -A span calls
op=none how=none round=0
learn()
{
	local from=${EPOCHREALTIME/./}
	"${@:2}" >/dev/null || fault "${*:2} failed undisturbed"
	span[$1]=$((${EPOCHREALTIME/./} - from))
}
learn_calls()
{
	strace -qq -o .calls "${@:2}" >/dev/null || fault "${*:2} failed under strace"
	calls[$1]=$(awk -F '(' '$1 ~ /^[a-z_0-9]+$/ && $1 != "exit_group" { print $1, ++n[$1] }' .calls)
	echo "# $1: ${span[$1]} us, $(wc -l <.calls) system calls"
}
dmchain open d 0.img
for i in 1 2; do
	learn snapshot dmchain snapshot d=s$i.img
	learn resize dmchain resize d +1M
	learn close dmchain close d
	learn open dmchain open d s$i.img
done
learn_calls snapshot dmchain snapshot d=s3.img
learn_calls resize dmchain resize d +1M
learn_calls close dmchain close d
learn_calls open dmchain open d s3.img
dmchain close d
rm -f ./*.img
dmchain create 0.img --size 64M >/dev/null

# Where it has made a file that no disk has yet, each time: by chance that is rare
op=snapshot
dmchain open d 0.img
strace -qq -o .calls dmchain snapshot d=s4.img >/dev/null
how=$(awk -F '(' '{ n[$1]++ } made { print $1, n[$1]; exit } /O_CREAT.*s4\.img|s4\.img.*O_CREAT/ { made = 1 }' .calls)
dmchain close d
rm s4.img 0.img
dmchain create 0.img --size 64M >/dev/null
dmchain open d 0.img
# shellcheck disable=SC2086 # a call and its number
kill_at $how dmchain snapshot d=1.img
is "$? $(names '*.img')" "137 0.img 1.img" "killed when the file is there"
check_running
check_recovered
find_top
is "$faults $(names '*.img')" "0 0.img" "killed when the file is there: it goes"
check_data
killed=$((killed + 1))

for ((round = 1; round <= rounds; round++)); do
	if is_open; then
		case $((RANDOM % 5)) in
		0|1)	op=snapshot; kill_it dmchain snapshot "d=$next.img";;
		2)	op=resize; kill_it dmchain resize d +1M;;
		*)	op=close; kill_it dmchain close d;;
		esac
	else
		op=open
		kill_it dmchain open d "$top"
	fi
	check_running
	check_recovered
	find_top
	next=$((${top%.img} + 1))
	check_data
	# A chain that only grows takes longer and longer
	if [ $next -gt 12 ] || [ $((RANDOM % 2)) = 0 ]; then
		dmchain close d || fault "close"
	fi
	if [ $next -gt 12 ]; then
		rm -f ./*.img
		dmchain create 0.img --size 64M >/dev/null
		top=0.img next=1 writes=0
	fi
	[ $faults -lt 10 ] || break
done
is "$faults" 0 "$((round - 1)) rounds, dmchain was killed $killed times"
[ "$killed" -gt $((rounds / 3)) ] && ok "most of them in time" || fail "most of them in time" "$killed of $rounds"
[ ! -e /dev/mapper/d ] || run_ok "close" dmchain close d

done_testing
