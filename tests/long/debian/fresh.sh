#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# In a fresh Debian: the first part of the tutorial, which begins with the packages.

here=$(dirname "$0")
. "$here/../../lib/tap.sh"
. "$here/files.sh"

is "$(systemctl is-system-running --wait)" running "a fresh machine comes up"
all_files >/var/tmp/files-before
cp /run/test/*.deb /root/
SECONDS=0
"$here/../../lib/tutorial" "$here/../../../Documentation/tutorial.rst" 1
is $? 0 "first part of the tutorial, in $SECONDS s"
like "$(modinfo -F filename dm-chain)" "/updates/dkms/dm-chain.ko" "the module is that of DKMS"
done_testing
