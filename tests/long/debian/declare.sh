#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# In the Debian that was installed: the rest of the tutorial, behind its reboot; then
# disks are declared, for the next boot. Image files lie on a file system of their own,
# those of disk b on disk a. Some declarations are no good.

here=$(dirname "$0")
. "$here/../../lib/tap.sh"

"$here/../../lib/tutorial" "$here/../../../Documentation/tutorial.rst" 2
is $? 0 "second part of the tutorial"
is "$(ls /run/dmchain/layers | wc -l)" 0 "no marker is left"
is "$(losetup -n -O NAME | wc -l)" 0 "no loop device is left"

# shellcheck source=/dev/null
. /usr/share/bash-completion/completions/dmchain
run_ok "bash completes its commands" test "$(complete -p dmchain)" = "complete -F _dmchain dmchain"
run_ok "there is a manual page" man -w dmchain

mkfs.ext4 -q -L images /dev/vdb
mkdir -p /srv/images /srv/a /srv/b /srv/bad
cat >>/etc/fstab <<END
/dev/vdb /srv/images ext4 defaults 0 2
/dev/mapper/a /srv/a ext4 defaults 0 2
/dev/mapper/b /srv/b ext4 defaults 0 2
/dev/mapper/bad /srv/bad ext4 nofail 0 2
END
systemctl daemon-reload
mount /srv/images
cd /srv/images || exit 1
truncate -s 128M golden.raw
mkfs.ext4 -q -L inside golden.raw
run_ok "create a" dmchain create a.img --backing golden.raw --backing-format raw
run_ok "enable a, by its path" dmchain enable a /srv/images/a.img
run_ok "systemd brings it up" systemctl start dmchain@a.service
run_ok "mount" mount /srv/a
run_ok "create b" dmchain create /srv/a/b.img --size 32M
run_ok "open b" dmchain open b /srv/a/b.img
mkfs.ext4 -q -L inside-b /dev/mapper/b
run_ok "enable b, which is open" dmchain enable b
run_ok "mount" mount /srv/b
sleep 2
is "$(systemctl is-active dmchain@b.service)" active "systemd knows that it is up"
echo "still here" >/srv/b/file
head -c 24M /dev/urandom >/srv/a/random
sha256sum /srv/a/random >/srv/images/sum
sync
# What was declared is no longer the top; and there is a job to be cut off
run_ok "snapshot" dmchain snapshot a=a-2.img
run_ok "a stream that takes its time" dmchain stream a --background --speed 512K
echo '{ "path": "/srv/images/none.img" }' >/etc/dmchain/bad.json
echo '{ "path": "/srv/images/a.img", "size": 7 }' >/etc/dmchain/broken.json
done_testing
