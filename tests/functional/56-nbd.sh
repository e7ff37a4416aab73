#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug long=6.1,6.12,debug mem=1024 smp=2 timeout=600 group=jobs
# allow: Buffer I/O error|I/O error, dev|lost async page write|layer .* failed|job [0-9]+ ended with error
# allow: (map write|map commit|header update|second header copy|switch|flush) failed
# allow: block nbd[0-9]+: |nbd[0-9]+: detected capacity change|Dead connection|Connection timed out
#
# Disks over the network: a base on an NBD export, a running disk mirrored to one,
# pivoted to it and back. Replies that come late, requests that fail, and a server that
# dies: the guest of a disk whose copy is there never hears of it, and what was cut
# off goes on.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"
. "$(dirname "$0")/../lib/jobs.sh"

cd "$TMP" || exit 1
if ! modprobe nbd nbds_max=4 || ! command -v nbdkit >/dev/null; then
	skip "network disks" "no nbd here"
	done_testing
fi
ops=100
[ -z "${LONG-}" ] || ops=800

# serve N FILE FILTERS...: its server, for /dev/nbdN. Requests fail while fail.N is there
serve()
{
	local n=$1 file=$2
	shift 2
	rm -f "sock.$n" "fail.$n" "pid.$n"
	nbdkit -U "$PWD/sock.$n" -P "pid.$n" --filter=error "$@" file "$PWD/$file" \
		error=EIO error-rate=100% error-file="$PWD/fail.$n" "${params[@]}" || return
	wait_for 20 test -s "pid.$n" && connect "$n"
}

connect()	# connect N
{
	nbd-client -unix "$PWD/sock.$1" "/dev/nbd$1" -timeout 60 >nbd.out 2>&1 || { cat nbd.out; return 1; }
	wait_for 20 test "$(blockdev --getsz "/dev/nbd$1")" != 0
	udevadm settle 2>/dev/null
	:
}

# shellcheck disable=SC2317 # called by wait_for
gone()		# gone N: it is no longer connected
{
	[ ! -e "/sys/block/nbd$1/pid" ]
}

disconnect()	# disconnect N: and its server ends
{
	nbd-client -d "/dev/nbd$1" >nbd.out 2>&1
	wait_for 20 gone "$1"
	[ ! -e "pid.$1" ] || kill "$(cat "pid.$1")" 2>/dev/null
	:
}

# The server dies, whatever is under way
dies()		# dies N
{
	kill -9 "$(cat "pid.$1")"
	nbd-client -d "/dev/nbd$1" >nbd.out 2>&1
	wait_for 30 gone "$1"
}

params=()
copied()	# copied MIB
{
	[ "$(json '.[-1]."current-progress"' dmchain job list d)" -ge $(($1 << 20)) ]
}

# shellcheck disable=SC2317 # called by wait_for
job_is()	# job_is STATUS
{
	[ "$(json 'map(select(.error != "interrupted"))[-1].status' dmchain job list d)" = "$1" ]
}

# --- a base over the network

head -c 16M /dev/urandom >golden.raw
run_ok "base: a server" serve 0 golden.raw -r --filter=delay
run_ok "base: a disk on it" dmchain create top.img --backing /dev/nbd0 --backing-format raw
run_ok "base: open" dmchain open d top.img
is "$(dd if=/dev/mapper/d bs=1M iflag=direct status=none | sha256sum)" "$(sha256sum <golden.raw)" \
	"base: it reads as the export"
cp golden.raw m.raw
dd if=/dev/urandom of=new bs=64k count=4 status=none
dd if=new of=/dev/mapper/d bs=64k seek=7 oflag=direct conv=notrunc,fsync status=none
dd if=new of=m.raw bs=64k seek=7 conv=notrunc status=none
touch fail.0
run_fail any "base: it fails: a read of it fails" dd if=/dev/mapper/d of=/dev/null bs=64k count=1 iflag=direct
is "$(dd if=/dev/mapper/d bs=64k skip=7 count=4 iflag=direct status=none | sha256sum)" "$(sha256sum <new)" \
	"base: what is above it reads on"
rm fail.0
is "$(dd if=/dev/mapper/d bs=1M iflag=direct status=none | cmp - m.raw 2>&1)" "" "base: it is well again, and so is all"
run_fail 1 "base: a stream whose base fails" sh -c 'touch fail.0; dmchain stream d'
rm fail.0
is "$(dd if=/dev/mapper/d bs=1M iflag=direct status=none | cmp - m.raw 2>&1)" "" "base: nothing is lost by that"
run_ok "base: stream" dmchain stream d
is "$(layers)" top "base: it is needed no more"
disconnect 0
is "$(dd if=/dev/mapper/d bs=1M iflag=direct status=none | cmp - m.raw 2>&1)" "" "base: the disk has all of it"
dmchain close d
rm -f ./*.img golden.raw m.raw

# --- to a server, and back

truncate -s 64M far0 far1
run_ok "servers" serve 0 far0
params=(wdelay=2ms rdelay=2ms)
run_ok "one that is slow" serve 1 far1 --filter=delay
params=()
stack 2 16M
under "to a chain" dmchain mirror d /dev/nbd0 --format chain --pivot
is "$(json '.layers[0].path' dmchain info d)" /dev/nbd0 "to a chain: there it goes on"
under "to a chain, slow, verified" dmchain mirror d /dev/nbd1 --format chain --verify --pivot
run_ok "chains: close" dmchain close d
run_ok "chains: open" dmchain open d /dev/nbd1
run_ok "chains: all is there" iomodel verify /dev/mapper/d --model m
under "back" dmchain mirror d home.img --format chain --pivot
is "$(layers)" home "back: it is at home"
closed "back" home.img
disconnect 1
disconnect 0
truncate -s 0 far0
truncate -s 16M far0
run_ok "a raw one" serve 0 far0
under "to a raw one" dmchain mirror d /dev/nbd0 --format raw --existing
run_ok "to a raw one: cancel when ready" dmchain job cancel d
is "$(dd if=/dev/mapper/d bs=1M iflag=direct status=none | cmp - far0 2>&1)" "" "to a raw one: it is the disk"
disconnect 0
run_ok "the disk is left" iomodel verify /dev/mapper/d --model m

# --- requests fail

rm -f far0 && truncate -s 64M far0
run_ok "failures: a server" serve 0 far0
run_ok "failures: mirror" dmchain mirror d /dev/nbd0 --format chain --speed 1M --on-error stop --background
wait_for 30 copied 1
touch fail.0
write --ops 20 --seed $((++seed)) --verify-end && ok "failures: the guest goes on"
wait_for 20 job_is paused
is $? 0 "failures: the job is paused"
rm fail.0
run_ok "failures: resume" dmchain job resume d
dmchain job speed d 0 >/dev/null
# A map of the copy that could not be written has ended it: then it is cut off
if ! dmchain job wait d >wait.out 2>&1; then
	sed 's/^/# /' wait.out
	run_ok "failures: it is resumed" dmchain job resume d --wait
fi
wait_for 20 job_is ready
is $? 0 "failures: it is ready"
run_ok "failures: cancel" dmchain job cancel d
dd if=/dev/mapper/d of=was bs=1M iflag=direct status=none
run_ok "failures: the copy is the disk" dmchain compare /dev/nbd0 was --format-b raw
disconnect 0

# --- the server dies

rm -f far0 && truncate -s 64M far0
run_ok "dead: a server" serve 0 far0
run_ok "dead: mirror" dmchain mirror d /dev/nbd0 --format chain --speed 2M --background
wait_for 30 copied 2
dies 0
write --ops 40 --seed $((++seed)) --verify-end && ok "dead: the guest goes on"
run_fail 1 "dead: the mirror has failed" dmchain job wait d
write --ops 20 --seed $((++seed)) --verify-end && ok "dead: the guest goes on still"
run_ok "dead: the disk lets go of it" dmchain recover d
run_ok "dead: it is served again" serve 0 far0
refused 4 "never completed" "dead: what is there is no disk" dmchain open e /dev/nbd0
run_ok "dead: it goes on" dmchain mirror d /dev/nbd0 --format chain --existing
write --ops 20 --seed $((++seed)) --verify-end && ok "dead: ready, the guest goes on"
run_ok "dead: pivot" dmchain pivot d
run_ok "dead: all is there" iomodel verify /dev/mapper/d --model m
run_ok "dead: close" dmchain close d
run_ok "dead: the copy is the model" dmchain compare /dev/nbd0 m --format-b raw
refused 4 "retired" "dead: what it was copied from is retired" dmchain open d home.img

# --- the disk's own server dies, and comes back

run_ok "own: open" dmchain open d /dev/nbd0
write --ops 20 --seed $((++seed)) --verify-end
run_ok "own: flush" xfs_io -c fsync /dev/mapper/d
dies 0
run_fail any "own: reads fail" dd if=/dev/mapper/d of=/dev/null bs=1M iflag=direct
dmchain close d >/dev/null 2>&1
run_ok "own: it is served again" serve 0 far0
run_ok "own: open" dmchain open d /dev/nbd0 --force
run_ok "own: what was flushed is there" iomodel verify /dev/mapper/d --model m
run_ok "own: sound" sh -c 'dmchain close d && dmchain check /dev/nbd0'
disconnect 0

done_testing_jobs
