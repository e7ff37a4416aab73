#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# In the first machine of tests/long/72-guest.sh: /dev/vdb is a Debian's root file
# system, read-only; /dev/vdc has room for layers. The guest's disk is a chain on it.

. "$(dirname "$0")/../../lib/tap.sh"
. "$(dirname "$0")/../../lib/qmp.sh"

requests=0

# guest NAME COMMANDS [SECONDS]: it does that, and all of it succeeds
guest()
{
	local answer status
	answer=/out/guest/answer.$((++requests))
	printf '%s\n' "set -e" "$2" >/out/guest/request.new
	mv /out/guest/request.new /out/guest/request.$requests
	wait_for "$((${3:-600} * ${TIMEOUT_SCALE:-1}))" test -e "$answer" ||
		{ fail "guest: $1" "no answer"; return 1; }
	status=$(head -n 1 "$answer")
	tail -n +2 "$answer" >"$TMP/answer"
	if [ "$status" = 0 ]; then
		ok "guest: $1"
	else
		fail "guest: $1" "expected exit status 0, saw $status: $(head -c 2000 "$TMP/answer")"
	fi
}

answer()
{
	cat "$TMP/answer"
}

# --- The device, as QEMU has it

share()
{
	qmp '{ "execute": "block-export-add", "arguments": { "type": "nbd", "id": "export", "node-name": "disk", "name": "vm", "writable": true } }'
}

stop_daemon()
{
	kill -KILL $daemon 2>/dev/null || :
}

serve()
{
	mkfifo "$TMP/qmp.in" "$TMP/qmp.out"
	qemu-storage-daemon \
		--blockdev driver=host_device,node-name=disk,filename=/dev/mapper/vm,cache.direct=on,aio=native,discard=unmap \
		--nbd-server addr.type=inet,addr.host=10.0.2.15,addr.port=10809 \
		--chardev "pipe,id=qmp,path=$TMP/qmp" --monitor chardev=qmp \
		>"$TMP/daemon.out" 2>&1 &
	daemon=$!
	on_exit stop_daemon
	qmp_open "$TMP/qmp"
}

load_module
modprobe virtio_net
card=$(basename "$(echo /sys/bus/virtio/drivers/virtio_net/virtio*/net/*)")
ip addr add 10.0.2.15/24 dev "$card" && ip link set "$card" up
mke2fs -q -t ext4 -L store /dev/vdc && mkdir -p /srv/store && mount /dev/vdc /srv/store
on_exit umount /srv/store
on_exit cd /
cd /srv/store || exit 1

run_ok "create" dmchain create vm.img --backing /dev/vdb --backing-format raw --max-size 16G
run_ok "open" dmchain open vm vm.img
serve
is "$(share)" '{"return": {}}' "QEMU has the device open"
sync
touch /out/ready

# --- The guest is up

guest "it boots" true 1500 || exit 1
guest "all of it is up" 'systemctl is-system-running --wait' 900
is "$(answer)" running "nothing in it failed"
guest "its root" 'findmnt -no SOURCE,FSTYPE / | xargs'
is "$(answer)" "/dev/vda ext4" "is the disk"

# It works from here on; we go on when there is something to copy
work()
{
	guest "work begins" 'rm -f /run/load-stop
		systemd-run -q --unit load /bin/bash /run/test/tree/tests/long/guest/load.sh
		until [ -e /srv/load/SUMS ] && [ $(wc -l </srv/load/SUMS) -ge '$((done_then + 15))' ]; do sleep 0.2; done'
}

# works NAME: it goes on, and what it did so far is there
works()
{
	guest "$1: all that was written is there" '
		touch /run/load-stop
		while systemctl -q is-active load; do sleep 0.2; done
		! systemctl -q is-failed load
		sync; echo 3 >/proc/sys/vm/drop_caches
		cd /srv/load && sha256sum --quiet -c SUMS && cmp db /run/db
		wc -l <SUMS'
	done_now=$(answer | tail -n 1)
	[ "$done_now" -gt "$done_then" ] && ok "$1: the guest has worked ($((done_now - done_then)) files)" ||
		fail "$1: the guest has worked" "expected more than $done_then files, saw $done_now"
	done_then=$done_now
	work
}

shape()
{
	dmchain info vm --json | jq -r '[.layers[].path | sub(".*/"; "")] | reverse | join(" <- ")'
}

timed()		# timed NAME COMMAND...
{
	local from=$SECONDS
	run_ok "$@"
	echo "#   $1: $((SECONDS - from)) s"
}

# frozen IMAGE: what a snapshot has kept is what a power cut would leave, and has what
# was durable in the guest before it, by the list /out/guest/durable
frozen()
{
	local sums
	run_ok "$1: somebody else's overlay" dmchain create look.img --backing "$1" --backing-format chain
	run_ok "$1: open" dmchain open look look.img
	e2fsck -fy /dev/mapper/look >"$TMP/fsck" 2>&1
	run_ok "$1: a whole file system behind its journal" e2fsck -fn /dev/mapper/look
	mkdir -p /run/look
	run_ok "$1: mount" mount -o ro /dev/mapper/look /run/look
	sums=$(realpath "$TMP")/durable
	tr -d '\r' </out/guest/durable >"$sums"
	run_ok "$1: what was durable is there ($(wc -l <"$sums") files)" \
		bash -c 'cd /run/look/srv/load && sha256sum --quiet -c "$1"' bash "$sums"
	umount /run/look
	run_ok "$1: close" dmchain close look
	rm look.img
}

done_then=0
work
guest "what is durable" 'cp /srv/load/SUMS /run/test/durable; wc -l </run/test/durable'
timed "snapshot" dmchain snapshot vm=s1.img
frozen vm.img
works "snapshot"
guest "what is durable" 'cp /srv/load/SUMS /run/test/durable'
timed "a second one" dmchain snapshot vm=s2.img
frozen s1.img
works "two snapshots"

timed "commit of a layer between" dmchain commit vm --top s1.img --base vm.img
is "$(shape)" "vdb <- vm.img <- s2.img" "s1 is in vm.img"
works "commit"
timed "snapshot" dmchain snapshot vm=s3.img
timed "stream" dmchain stream vm --base vm.img
is "$(shape)" "vdb <- vm.img <- s3.img" "s3 has what s2 had"
works "stream"
timed "mirror and pivot" dmchain mirror vm copy.img --format chain --pivot
is "$(shape)" "copy.img" "one layer has all"
works "mirror"
timed "snapshot" dmchain snapshot vm=s4.img
works "snapshot of the copy"
timed "commit of the top" dmchain commit vm
is "$(shape)" "copy.img" "the copy is the top again"
works "commit of the top"

# --- Space comes back

kib()
{
	sync
	du -k copy.img | cut -f 1
}

guest "a large file" 'head -c 256M /dev/urandom >/srv/big; sync; rm -rf /srv/none'
with=$(kib)
guest "it goes, and the guest says so" 'rm /srv/big; sync; fstrim -v /'
without=$(kib)
[ $((with - without)) -ge $((250 << 10)) ] && ok "the image gives $(((with - without) >> 10)) MiB back" ||
	fail "the image gives 256 MiB back" "expected 250 MiB less than $with KiB, saw $without KiB"
works "discard"

# --- More of it

old=$(blockdev --getsize64 /dev/mapper/vm)
new=$((old + (1 << 30)))
run_ok "resize" dmchain resize vm +1G
is "$(blockdev --getsize64 /dev/mapper/vm)" $new "the device has a GiB more"
# An export's size is that of its beginning, and nobody may change it meanwhile: the
# guest's QEMU connects again
is "$(qmp '{ "execute": "block-export-del", "arguments": { "id": "export", "mode": "hard" } }')" '{"return": {}}' \
	"the connection is cut"
sleep 1
like "$(qmp "{ \"execute\": \"block_resize\", \"arguments\": { \"node-name\": \"disk\", \"size\": $((new + 4096)) } }")" error \
	"QEMU: not more than the device has"
is "$(qmp "{ \"execute\": \"block_resize\", \"arguments\": { \"node-name\": \"disk\", \"size\": $new } }")" '{"return": {}}' \
	"QEMU: block_resize"
is "$(share)" '{"return": {}}' "it can be made again"
echo $new >/out/resize.new
mv /out/resize.new /out/resize
wait_for 300 test -e /out/resized
guest "sees it" 'until [ $(blockdev --getsize64 /dev/vda) = '$new' ]; do sleep 0.5; done' 120
guest "its file system grows" 'resize2fs /dev/vda 2>&1; df --output=size -B1 / | tail -n 1'
[ "$(answer | tail -n 1)" -gt $((old - (64 << 20))) ] && ok "the guest has a GiB more" ||
	fail "the guest has a GiB more" "$(answer)"
works "resize"

# --- The end

guest "work ends" 'touch /run/load-stop; while systemctl -q is-active load; do sleep 0.2; done; sync
	cp /srv/load/SUMS /run/test/durable; wc -l </run/test/durable'
echo off >/out/guest/request.new
mv /out/guest/request.new /out/guest/request.$((requests + 1))
touch /out/off
wait_for 900 test -e /out/is-off
qmp '{ "execute": "quit" }' >/dev/null
wait $daemon
run_ok "the root file system is clean" e2fsck -fn /dev/mapper/vm
run_ok "close" dmchain close vm
run_ok "check of the image" dmchain check copy.img
frozen copy.img
done_testing
