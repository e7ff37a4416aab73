#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# In the Debian with declared disks, when it is up: they are, in order; what can't come
# up said so and kept nobody waiting; what the usual tools show.

here=$(dirname "$0")
. "$here/../../lib/tap.sh"

# When it was there, in microseconds
since()
{
	systemctl show -P ActiveEnterTimestampMonotonic "$1"
}

# in_order NAME UNIT...
in_order()
{
	local name=$1 unit last=0 now
	shift
	for unit; do
		now=$(since "$unit")
		if [ "$now" = 0 ] || [ "$now" -lt "$last" ]; then
			fail "$name" "expected $* one after the other, saw $unit at $now us behind $last us"
			return
		fi
		last=$now
	done
	ok "$name"
}

log()		# log UNIT: of this boot
{
	journalctl -q -b -o cat -u "$1"
}

# Links that udev made by contents
labels()
{
	(cd /dev/disk/by-label && echo *)
}

is "$(systemctl is-active srv-a.mount srv-b.mount | xargs)" "active active" "what lies on disks is mounted"
in_order "behind its files, before local file systems" \
	srv-images.mount dmchain@a.service srv-a.mount dmchain@b.service srv-b.mount local-fs.target
is "$(cat /srv/b/file)" "still here" "a disk on a disk has what it had"
run_ok "so has the other" sha256sum --quiet -c /srv/images/sum
is "$(dmchain list --json | jq -r '.[] | select(.name == "a").top')" /srv/images/a-2.img "the top is that of the snapshot"

# --- what can't come up

is "$(systemctl list-units --failed --plain --no-legend | awk '{ print $1 }' | sort | xargs)" \
	"dmchain@bad.service dmchain@broken.service" "these failed, and nothing else"
like "$(log dmchain@bad)" "dmchain: /srv/images/none.img: can't open: No such file" "it says why"
like "$(log dmchain@broken)" "dmchain: /etc/dmchain/broken.json: what is size\?" "so does a bad declaration"
like "$(journalctl -q -b -o cat)" "Dependency failed for .*/srv/bad" "its mount fails at once"
is "$(journalctl -q -b -o cat | grep -c 'Timed out waiting for device')" 0 "nobody waits for what does not come"
is "$(systemctl is-active multi-user.target)" active "the machine is up all the same"

# --- unfinished jobs

like "$(log dmchain@a)" "a: its unfinished stream \(job [0-9a-f]{8}\) goes on" "the journal says that the job goes on"
is "$(dmchain job list a --json | jq -r '.[-1].type')" stream "it does"

# --- what tools show

run_ok "lsblk" lsblk -o NAME,TYPE,FSTYPE,MOUNTPOINTS
like "$(output)" "loop[0-9]+ +loop +dm_chain_layer" "lsblk: a layer is one"
like "$(output)" "─a +dmchain .*/srv/a" "lsblk: the disk, where it is mounted"
output | sed 's/^/#   /'
run_ok "dmsetup ls --tree" dmsetup ls --tree
like "$(output)" $'a \\(25[0-9]:[0-9]+\\)\n.*\\(7:[0-9]+\\)' "dmsetup: the disk and its loop devices"
output | sed 's/^/#   /'
run_ok "blkid of the disk" blkid /dev/mapper/a
like "$(output)" 'LABEL="inside".*TYPE="ext4"' "blkid: who asks for the disk is told what it holds"
loop=$(losetup -n -O NAME -j /srv/images/a-2.img)
run_fail 2 "blkid of a layer: nothing" blkid "$loop"
like "$(udevadm info -q property "$loop")" "ID_FS_TYPE=dm_chain_layer" "udev: a layer"
like "$(udevadm info -q property "$loop")" "SYSTEMD_READY=0" "udev: not for systemd"
like "$(udevadm info -q property /dev/mapper/a)" "DM_UUID=DMCHAIN-" "udev: a disk"
is "$(udevadm info -q property /dev/mapper/a | grep -c ID_FS_)" 0 "udev: nobody has looked into it"
is "$(labels)" "dmchain-debian images" "no links by what disks and layers hold"

# Somebody asks for all events again: nothing is unmounted, nothing is scanned
udevadm trigger --action=add --subsystem-match=block
udevadm trigger --action=change --subsystem-match=block
udevadm settle --timeout=120
sleep 3
is "$(systemctl is-active srv-a.mount srv-b.mount 'dev-mapper-a.device' | xargs)" \
	"active active active" "all events again: what is mounted stays so"
is "$(labels)" "dmchain-debian images" "and there are no links"
is "$(udevadm info -q property /dev/mapper/a | grep -c ID_FS_)" 0 "and nobody looks into it"

# --- by hand, with systemd

run_ok "stop a disk" systemctl stop dmchain@a.service
is "$(dmchain list --json | jq -c .)" "[]" "what lies on it went before it did"
is "$(systemctl is-active srv-a.mount srv-b.mount srv-images.mount | xargs)" "inactive inactive active" \
	"nothing of it is mounted"
is "$(journalctl -q -b -o cat | grep -c 'dmchain: [ab]: ')" 0 "nothing was in the way"
run_ok "mount what lies on both" systemctl start srv-b.mount
is "$(dmchain list --json | jq -r 'map(.name) | sort | join(" ")')" "a b" "that brings both up"
run_fail any "a disk that is in use stays" dmchain down b
is "$(cat /srv/b/file)" "still here" "with what it has"
done_testing
