#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=debug long=debug mem=1024 smp=2 timeout=600 group=main
# allow: Buffer I/O error|job [0-9]+ ended with error|vmalloc error
#
# Memory that is not there: of all that a command has the module allocate, the
# first allocation fails, then the second and so on, until it passes untouched.
# Each time it says so in one line and the disk stays what it was; the next time
# it comes further. Then threads of the module get nothing now and then, under
# random I/O. What is forgotten on the way out is found by kmemleak, by the next
# attempt, or by the module that can't be unloaded.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"

cd "$TMP" || exit 1
load_module
# How many of a command's allocations fail. Who waits for a job asks for it again
# and again: hundreds of the same, of which not each is needed.
some=${SOME:-2}
inject=/sys/kernel/debug
alike=

set_injection()	# set_injection KEY VALUE
{
	local what
	for what in failslab fail_page_alloc; do
		[ ! -e $inject/$what/"$1" ] || echo "$2" >$inject/$what/"$1"
	done
}

set_injection verbose 0
set_injection probability 0
set_injection times -1
set_injection ignore-gfp-wait N
set_injection ignore-gfp-highmem N
set_injection min-order 0
set_injection stacktrace-depth 32

# Only what functions between the two addresses ask for, or others on their behalf
range()		# range FIRST LAST
{
	set_injection require-start "0x$1"
	set_injection require-end "0x$2"
}

# Those of the module
ours()
{
	local text
	text=$(awk '$3 ~ /[tT]/ && $4 == "[dm_chain]" { print $1 }' /proc/kallsyms | sort)
	range "$(head -n 1 <<<"$text")" "$(tail -n 1 <<<"$text")"
}

# --- the disk: three layers, and a file that is what it reads as

layers=3
for ((i = 0; i < layers; i++)); do
	if [ $i = 0 ]; then
		dmchain create 0.img --size 4M >/dev/null
		dmchain open d 0.img
	else
		dmchain snapshot d=$i.img >/dev/null
	fi
	iomodel run /dev/mapper/d --model m --ops 40 --threads 2 --max 64K --seed $i >iomodel.out 2>&1 ||
		fail "random I/O" "$(tail -n 3 iomodel.out)"
done
dmchain close d
mkdir saved
cp --sparse=always ./?.img m saved/

is_open()
{
	dmsetup info d >/dev/null 2>&1
}

# fresh [COMMAND...]: as in the beginning, then what COMMAND does
# shellcheck disable=SC2120 # "each" passes some
fresh()
{
	! is_open || dmchain close d
	rm -f ./*.img
	cp --sparse=always saved/* .
	dmchain open d 2.img
	[ $# = 0 ] || "$@" >.out 2>&1 || fail "before: $*" "$(head -n 3 .out)"
}

# Is the disk right, or if it is closed nothing left of it?
right()
{
	if is_open; then
		iomodel verify /dev/mapper/d --model m --size 4M >.out 2>&1 || tail -n 1 .out
	elif [ -n "$(losetup -n -l)" ]; then
		losetup -n -O BACK-FILE
	fi
}

# wrong STATUS: what a command that failed did wrong, if anything
wrong()
{
	[ "$1" -lt 128 ] || echo "exit status $1"
	[ "$(grep -vc '^dmchain: warning: ' err)" = 1 ] || echo "says: $(head -c 300 err)"
	right
}

# each NAME "PREPARE" COMMAND...; what only asks gets the same answer or none
each()
{
	local name=$1 prepare=$2 n=1 step=1 calls status seen bad="" failed=0 ignored=0
	shift 2
	[[ $name =~ ${ONLY:-.} ]] || return 0
	eval "$prepare"
	failnth 1000000 report "$@" >out 2>err
	is $? 0 "$name: it passes"
	calls=$(sed -n 's/^passed //p' report)
	mv out answer
	step=$(((calls + some - 1) / some))
	[ $step != 0 ] || step=1
	eval "$prepare"
	for ((; ; n += step)); do
		failnth $n report "$@" >out 2>err
		status=$?
		[ "$(cat report)" = injected ] || break
		if [ $status = 0 ]; then
			ignored=$((ignored + 1))
			seen=$(right)
			[ -z "$alike" ] || cmp -s out answer || seen+="another answer"
			eval "$prepare" || seen+="can't be tried again"
		else
			failed=$((failed + 1))
			seen=$(wrong $status)
			sed "s/^/# $name, $n: /" err
		fi
		[ -z "$seen" ] || bad+=" $n: $seen;"
		[ ${#bad} -lt 1000 ] || break
	done
	is "$bad" "" "$name: of $calls allocations $failed fail the command, $ignored don't; nothing else happens"
	[ $((failed + ignored)) -gt 0 ]
	is $? 0 "$name: some allocations were failed"
	is $status 0 "$name: then it passes"
	[ $status = 0 ] || sed 's/^/#   /' err
	is "$(right)" "" "$name: the disk is right"
}

# Its functions are not there yet: those of all modules
range ffffffffa0000000 ffffffffff000000
each "load" 'rmmod dm_chain 2>/dev/null' modprobe dm_chain
ours
each "open" 'fresh dmchain close d' dmchain open d 2.img
[[ ! open =~ ${ONLY:-.} ]] ||
	like "$(cat report)" "^passed [0-9][0-9]+" "allocations of an open are seen"
alike=1
each "map" 'fresh' dmchain map d
each "info" 'fresh' dmchain info d
each "holders" 'fresh' dmchain perm d
alike=
each "hold" 'fresh' dmchain perm hold commit d --top 1 --base 2 -- true
each "snapshot" 'fresh' dmchain snapshot d=3.img
each "stream" 'fresh' dmchain stream d
each "commit" 'fresh' dmchain commit d --top 1 --base 2
each "commit of the top" 'fresh' dmchain commit d
each "mirror" 'fresh' dmchain mirror d t.img --format chain
each "pivot" 'fresh dmchain mirror d t.img --format chain' dmchain pivot d
each "larger" 'fresh' dmchain resize d +4M
# What was closed opens again, as after any other close
fresh
each "close" 'is_open || dmchain open d 2.img' dmchain close d

# --- random I/O, then jobs beside it: now and then nothing, for whoever asks

guest()		# guest NAME OPS SEED: what goes wrong with random I/O
{
	local out
	out=$(iomodel run /dev/mapper/d --model m --ops "$2" --threads 4 --max 64K --seed "$3" \
		--verify-end 2>&1)
	is "$?$(grep -i error <<<"$out" | head -n 3)" 0 "$1: the guest reads and writes as the model, without errors"
}

again()	# again COMMAND...: until there is memory for all of it
{
	local tries
	for ((tries = 0; tries < 30; tries++)); do
		"$@" >.out 2>&1 && return
		# What came before failed when it had done it
		[ $tries = 0 ] || ! grep -q 'nothing to stream' .out || return 0
		grep -q -e 'memory' -e '(-12)' .out || break
	done
	cat .out
	return 1
}

fresh
set_injection probability 10
guest "one in ten fails" "${OPS:-200}" 9
top=2.img
if [ -n "${LONG-}" ]; then
	# A command has hundreds of them
	set_injection interval 150
	set_injection probability 50
	guest "jobs with one in 300 failing" "${OPS:-400}" 10 >guest.out &
	guest=$!
	name="one in 300 fails"
	run_ok "$name: snapshot" again dmchain snapshot d=3.img
	run_ok "$name: commit" again dmchain commit d --top 1 --base 2
	run_ok "$name: stream" again dmchain stream d
	run_ok "$name: mirror" again dmchain mirror d t.img --format chain
	run_ok "$name: pivot" again dmchain pivot d
	wait $guest
	like "$(cat guest.out)" "^ok" "$name: $(cat guest.out)"
	run_ok "$name: larger" again dmchain resize d +4M
	run_ok "$name: close" again dmchain close d
	run_ok "$name: open" again dmchain open d t.img
	top=t.img
fi
set_injection probability 0
run_ok "once there is memory: all is there" iomodel verify /dev/mapper/d --model m --size 4M
no_violations "the gate refused nothing"
run_ok "close" dmchain close d
run_ok "the layer is sound" dmchain check $top

done_testing
