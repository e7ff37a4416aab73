#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# In the Debian with declared disks, after its power was cut: they are up again. Then
# the packages go, and nothing of them is left.

here=$(dirname "$0")
. "$here/../../lib/tap.sh"
. "$here/files.sh"

is "$(systemctl is-active srv-a.mount srv-b.mount | xargs)" "active active" "after a power cut all is mounted"
is "$(cat /srv/b/file)" "still here" "a disk on a disk has what it had"
run_ok "so has the other" sha256sum --quiet -c /srv/images/sum
run_ok "a job is there, or its end" dmchain job list a
rm /etc/dmchain/b*.json
cd / || exit 1

run_ok "the controller can be removed" apt-get -q -y remove dmchain
is "$(systemctl list-units --plain --no-legend 'dmchain@*' | grep -c ' active ')" 0 "no service is left"
is "$(dmsetup ls --target chain | grep -c :)" 0 "no disk is open"
is "$(losetup -n -O NAME | wc -l)" 0 "no loop device is there"
run_fail any "nothing of it is running on" test -e /run/dmchain
run_ok "what was declared stays" test -e /etc/dmchain/a.json
run_ok "the module can be removed" apt-get -q -y remove dm-chain-dkms
run_fail any "it is not loaded" test -e /sys/module/dm_chain
is "$(dkms status)" "" "DKMS does not know it"
run_ok "purge" apt-get -q -y purge dmchain dm-chain-dkms
run_fail any "what was declared is gone" test -e /etc/dmchain
all_files >/var/tmp/files-after
is "$(comm -13 /var/tmp/files-before /var/tmp/files-after | head -n 20 | xargs)" "" "no file is left"
is "$(systemctl daemon-reload 2>&1)" "" "systemd misses nothing"
done_testing
