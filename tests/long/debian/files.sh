# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# For those who compare a machine with what it was.

# all_files: what may be left behind by packages; logs, caches and the databases of
# apt and dpkg change all by themselves, and DKMS makes itself a key and folders
all_files()
{
	find / -xdev \( -path /var/log -o -path /var/cache -o -path /var/tmp -o -path /tmp \
		-o -path /root -o -path /srv -o -path /var/lib/dpkg -o -path /var/lib/apt \
		-o -path /var/lib/systemd -o -path /var/backups -o -path /run -o -path /mnt \
		-o -path '/var/lib/dkms/mok*' -o -path /var/lib/dkms/dkms_dbversion \) -prune -o \
		\( ! -type d -o -name '*dm-chain*' -o -name '*dmchain*' \) -print | sort
}
