#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.12 host=1 timeout=7200
#
# dm-chain-dkms in a Debian without a VM, at the speed of the host: the module is built
# for each kernel whose headers are there, for a newer kernel when that is installed,
# and again by an upgrade of the package; and it goes without a trace.

. "$(dirname "$0")/../lib/tap.sh"
top=$(cd "$(dirname "$0")/../.." && pwd)
OUT=${OUT:-$TMP/out}
mkdir -p "$OUT"
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
root=$OUT/root
on_exit $sudo rm -rf "$root" "$OUT/upgrade"

# in_root COMMAND...: with what packages need; all of it goes with the namespace
in_root()
{
	# shellcheck disable=SC2016 # for the other shell
	$sudo unshare --mount --pid --fork --propagation private /bin/bash -c '
		root=$1; shift
		mount -t proc proc "$root/proc" && mount -t sysfs -o ro sys "$root/sys" &&
			mount --bind /dev "$root/dev" &&
			exec chroot "$root" /usr/bin/env -i HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
				PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"' bash "$root" "$@"
}

# built: "version kernel" of all modules that are installed, a line each
built()
{
	in_root dkms status dm-chain | sed -nE 's@^dm-chain/([^,]*), ([^,]*), .*: installed.*@\1 \2@p' | sort
}

modules()	# modules that lie below /lib/modules
{
	(cd "$root/lib/modules" && echo */updates/dkms/dm-chain.ko*)
}

run_ok "make deb" make -s -C "$top" O="${O:-$top/build}" deb
debian=$("$top/tests/vm/debian-root") || fail "there is a fresh Debian"
$sudo rm -rf "$root"
mkdir -p "$root"
run_ok "unpack it" $sudo tar --zstd -C "$root" --numeric-owner -xf "$debian/root.tar.zst"
old=$(<"$debian/release")
deb=$(echo "${O:-$top/build}"/deb/dm-chain-dkms_*_all.deb)
version=$(dpkg-deb -f "$deb" Version)
$sudo cp "$deb" "$root/root/module.deb"

run_ok "install" in_root dpkg -i /root/module.deb
is "$(built)" "$version $old" "it is built for the kernel that is there"
# shellcheck disable=SC2016 # for the other shell
run_ok "a newer kernel's headers come" in_root /bin/bash -c 'dpkg -i /var/local/new-kernel/*.deb'
new=$(basename "$(echo "$root"/lib/modules/6.12*)")
is "$(built)" "$(printf '%s\n' "$version $old" "$version $new" | sort)" "it is built for that, too"
for release in "$old" "$new"; do
	is "$(in_root modinfo -k "$release" -F vermagic dm-chain | cut -d " " -f 1)" "$release" "the module of $release is for it"
done
output | sed 's/^/#   /'

# The same source with another number
mkdir -p "$OUT/upgrade"
dpkg-deb -R "$deb" "$OUT/upgrade/deb"
mv "$OUT/upgrade/deb/usr/src/dm-chain-$version" "$OUT/upgrade/deb/usr/src/dm-chain-$version.1"
sed -i "s/\b$version\b/$version.1/g" "$OUT/upgrade/deb/DEBIAN/"{control,postinst,prerm} \
	"$OUT/upgrade/deb/usr/src/dm-chain-$version.1/dkms.conf"
sed -i "s@usr/src/dm-chain-$version/@usr/src/dm-chain-$version.1/@" "$OUT/upgrade/deb/DEBIAN/md5sums"
run_ok "a newer package" dpkg-deb --root-owner-group -b "$OUT/upgrade/deb" "$OUT/upgrade/module.deb"
$sudo cp "$OUT/upgrade/module.deb" "$root/root/module.deb"
run_ok "upgrade" in_root dpkg -i /root/module.deb
is "$(built)" "$(printf '%s\n' "$version.1 $old" "$version.1 $new" | sort)" "it is built again, for both, and the old one is gone"

# One that can't be built for is no reason for the package to be broken
$sudo mkdir -p "$root/lib/modules/9.9.9-none/build/include"
run_ok "configure, with headers that are none" in_root dpkg-reconfigure dm-chain-dkms
like "$(output)" 'dm-chain-dkms: not built for 9.9.9-none; dkms autoinstall -k 9.9.9-none tries again' "it is told"
is "$(built | wc -l)" 2 "the others are there"
$sudo rm -rf "$root/lib/modules/9.9.9-none"

run_ok "purge" in_root dpkg --purge dm-chain-dkms
is "$(built)" "" "DKMS does not know it"
is "$(modules)" "*/updates/dkms/dm-chain.ko*" "no module is left"
run_fail any "nor its source" test -e "$root/usr/src/dm-chain-$version.1"
run_fail any "nor anything in DKMS's tree" test -e "$root/var/lib/dkms/dm-chain"
done_testing
