#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.12 host=1 timeout=14400
#
# The packages on a fresh Debian 12, booted with its own kernel, systemd and udev: they
# are installed, the tutorial is typed word for word, declared disks come up and go down
# in order, with what can't come up in no one's way, also after a power cut; and the
# packages go without a trace. OUT/tutorial is a transcript.

. "$(dirname "$0")/../lib/tap.sh"
top=$(cd "$(dirname "$0")/../.." && pwd)
# run-check says where; by hand anywhere
OUT=${OUT:-$TMP/out}
mkdir -p "$OUT"
share=$OUT/share
rm -rf "$share" "$OUT"/*.qcow2 "$OUT/images"
mkdir -p "$share"
on_exit rm -rf "$OUT/root.qcow2" "$OUT/images" "$share/tree"

# boot NAME SCRIPT OPTIONS...: its tests are ours
boot()
{
	local name=$1 script=$2 status=0 n
	shift 2
	"$top/tests/vm/debian-run" --share "$share" --root "$OUT/root.qcow2" \
		--disk "$OUT/images" --timeout $((5400 * ${TIMEOUT_SCALE:-1})) "$@" \
		"tests/long/debian/$script" >"$OUT/$name.log" 2>&1 || status=$?
	cp "$share/console" "$OUT/$name.console"
	tr -d '\r' <"$OUT/$name.log" | grep -v '^1\.\.'
	n=$(grep -cE '^(not )?ok ' "$OUT/$name.log")
	tap_count=$((tap_count + n))
	tap_failed=$((tap_failed + $(grep -c '^not ok ' "$OUT/$name.log")))
	is $status 0 "$name: the script ends well"
}

# A word of systemd's on the console: where it stands, 0: nowhere
said_at()
{
	sed 's/\x1b\[[0-9;]*[mK]//g' "$OUT/$1.console" | grep -nm 1 -E "$2" | cut -d : -f 1 | grep . || echo 0
}

# in_order NAME BOOT REGEX...
in_order()
{
	local name=$1 boot=$2 regex last=0 now
	shift 2
	for regex; do
		now=$(said_at "$boot" "$regex")
		if [ "$now" -le "$last" ]; then
			fail "$name" "expected '$regex' behind line $last of the console, saw it in line $now (0: nowhere)"
			return
		fi
		last=$now
	done
	ok "$name"
}

run_ok "make deb; lintian finds no error" make -s -C "$top" O="${O:-$top/build}" deb
output | sed 's/^/#   /'
cp "${O:-$top/build}"/deb/dmchain_*.deb "${O:-$top/build}"/deb/dm-chain-dkms_*.deb "$share/" || exit 1
run_ok "there is a fresh Debian" "$top/tests/vm/debian-root"
truncate -s 1G "$OUT/images"

boot fresh fresh.sh --then reboot
boot declare declare.sh
in_order "what is mounted goes, then its disk, then what its files lie on" declare \
	'Unmounted.*/srv/b' 'Stopped.*dmchain@b' 'Unmounted.*/srv/a' 'Stopped.*dmchain@a' 'Unmounted.*/srv/images'
is "$(grep -cE 'Failed (unmounting|to unmount).*srv|Failed.*dmchain@[ab]' "$OUT/declare.console")" 0 "nothing is in the way at shutdown"
boot booted booted.sh --then crash
boot crashed crashed.sh
cat "$OUT/fresh.log" "$OUT/declare.log" | sed -n 's/^#   //p' >"$OUT/tutorial"
done_testing
