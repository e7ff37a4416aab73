#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What systemd makes of declared disks, without starting anything: the units that the
# generator and fstab make together can be loaded, and nobody waits for itself.

set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
. "$top/tests/lib/tap.sh"
DMCHAIN=$(realpath "${DMCHAIN:-${O:-$top/build}/asan/dmchain}")
fstab=/usr/lib/systemd/system-generators/systemd-fstab-generator
cd "$TMP" || exit 1
if [ ! -x $fstab ] || ! command -v systemd-analyze >/dev/null; then
	skip "units" "no systemd here"
	done_testing
fi

# Images on a file system of their own, a disk on a disk, one that needs the network,
# one of devices, and one that is no good
export DMCHAIN_ETC=$TMP/etc
mkdir etc gen fs early late units
echo '{"path": "/srv/images/a b%.img"}' >etc/a.json
echo '{"path": "/srv/a/b.img", "needs": ["/srv/images"]}' >etc/b.json
echo '{"path": "/nfs/x.img", "network": true}' >etc/x+1.json
echo '{"path": "/dev/vg-1/lv", "format": "raw"}' >etc/v-1.json
echo '{' >etc/bad.json
cat >fstab <<'END'
/dev/vda / ext4 defaults 0 1
/dev/vdb /srv/images ext4 defaults 0 2
/dev/mapper/a /srv/a ext4 defaults 0 2
/dev/mapper/b /srv/b ext4 nofail 0 2
server:/nfs /nfs nfs defaults 0 0
/dev/mapper/x+1 /srv/x ext4 _netdev 0 2
END
sed "s@/usr/sbin/dmchain@$DMCHAIN@" "$top/userspace/systemd/dmchain@.service" >units/dmchain@.service
run_ok "the generator" "$DMCHAIN" units gen
run_ok "that of fstab" env SYSTEMD_FSTAB="$TMP/fstab" $fstab fs early late

# verify UNIT: what systemd says of it, and of all that comes with it, that is about us
verify()
{
	SYSTEMD_UNIT_PATH=$TMP/gen:$TMP/fs:$TMP/units:/usr/lib/systemd/system \
		timeout 300 systemd-analyze --man=no --generators=no verify "$1" 2>&1 |
		grep -E 'dmchain|dev-mapper|srv-|cycle|local-fs|remote-fs'
}

for unit in dmchain@a.service 'dmchain@x\x2b1.service' dmchain@v-1.service dmchain@bad.service \
	srv-b.mount srv-x.mount local-fs.target remote-fs.target; do
	is "$(verify "$unit")" "" "$unit can be loaded, and waits for nobody who waits for it"
done

# Does it notice?
echo 'After=local-fs.target' >>gen/dmchain@a.service.d/50-declared.conf
like "$(verify local-fs.target)" "ordering cycle" "one that waits for itself is found"
done_testing
