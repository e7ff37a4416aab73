#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.12 host=1 timeout=5400
#
# A stock Debian lives on a disk while snapshots, commits, a stream, a mirror and pivots
# run under it. Two machines, since emulation in emulation is far too slow: in the one
# are the module and QEMU's block layer, with the device open as QEMU would have it; the
# guest reaches that by NBD. The tests are those of tests/long/guest/disk.sh in the
# first machine; this script starts both, and does what the guest's owner would.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/qmp.sh"
top=$(cd "$(dirname "$0")/../.." && pwd)
# run-check says where; by hand anywhere
OUT=${OUT:-$TMP/out}
scale=${TIMEOUT_SCALE:-1}
mkdir -p "$OUT"
# Of the first machine, who is asked for things in it, and the guest's share below
disk=$OUT/disk share=$OUT/disk/guest
rm -rf "$disk"
mkdir -p "$share"
on_exit rm -rf "$OUT/store" "$share/tree"

free_port()
{
	local port
	for ((port = 20000 + RANDOM % 10000; ; port++)); do
		(: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
	done
	echo "$port"
}

stop()
{
	kill "$@" 2>/dev/null || :
}

run_ok "there is a fresh Debian" "$top/tests/vm/debian-root"
debian=$(output | tail -n 1)
rm -f "$OUT/store"
truncate -s 16G "$OUT/store"
port=$(free_port)

# shellcheck disable=SC2086 # $VM is a command with arguments
$VM --mem 1536 --timeout $((5000 * scale)) --out "$disk" \
	--disk "$debian/root.img:ro" --disk "$OUT/store" \
	--qemu -netdev --qemu "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:$port-10.0.2.15:10809" \
	--qemu -device --qemu virtio-net-pci,netdev=net \
	-- tests/long/guest/disk.sh >"$OUT/disk.log" 2>&1 &
first=$!
on_exit stop $first

alive()
{
	kill -0 "$1" 2>/dev/null
}

# asked NAME: the first machine has come that far, or to its end
asked()
{
	[ -e "$disk/$1" ] || ! alive $first
}

# Its connection was cut, and what it knows of the size is from the last one: once more
# until a request of the guest has made it connect
resized()
{
	answer=$(qmp "{ \"execute\": \"block_resize\", \"arguments\": { \"node-name\": \"disk\", \"size\": $(<"$disk/resize") } }")
	[ "$answer" = '{"return": {}}' ]
}

wait_for $((600 * scale)) asked ready
if [ -e "$disk/ready" ]; then
	mkfifo "$OUT/qmp.in" "$OUT/qmp.out"
	"$top/tests/vm/debian-run" --share "$share" --root "nbd:127.0.0.1:$port:vm" \
		--qmp "$OUT/qmp" --timeout $((5000 * scale)) \
		tests/long/guest/agent.sh >"$OUT/guest.log" 2>&1 &
	guest=$!
	on_exit rm -f "$OUT/qmp.in" "$OUT/qmp.out"
	on_exit stop $guest
	qmp_open "$OUT/qmp"
	wait_for $((5000 * scale)) asked resize
	if [ -e "$disk/resize" ]; then
		wait_for $((120 * scale)) resized
		is "$answer" '{"return": {}}' "QEMU is told of the new size"
		touch "$disk/resized"
	fi
	wait_for $((5000 * scale)) asked off
	status=0
	if [ -e "$disk/off" ]; then
		wait $guest || status=$?
		is $status 0 "the guest shuts down"
		touch "$disk/is-off"
	fi
fi
status=0
wait $first || status=$?
tr -d '\r' <"$OUT/disk.log" | grep -v '^1\.\.'
tap_count=$((tap_count + $(grep -cE '^(not )?ok ' "$OUT/disk.log")))
tap_failed=$((tap_failed + $(grep -c '^not ok ' "$OUT/disk.log")))
is $status 0 "the script of the first machine ends well"
cp "$share/console" "$OUT/guest.console" 2>/dev/null || :
is "$(grep -cE 'I/O error|EXT4-fs (error|warning)|blk_update_request|BUG:|hung task' "$OUT/guest.console")" 0 \
	"no error on the guest's console"
done_testing
