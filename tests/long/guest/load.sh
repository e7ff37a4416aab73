#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# In the guest: work on its root file system until /run/load-stop is there. Files whose
# sums are durable as soon as SUMS says them, and one file that is written to here and
# there, of which /run/db is what it should be.

dir=/srv/load
mkdir -p $dir
[ -e $dir/db ] || truncate -s 32M $dir/db
[ -e /run/db ] || cp $dir/db /run/db
for ((i = $(wc -l <$dir/SUMS 2>/dev/null || echo 0); ; i++)); do
	[ ! -e /run/load-stop ] || exit 0
	head -c $((RANDOM * 8 + 1)) /dev/urandom >$dir/file.$i
	sync $dir/file.$i
	(cd $dir && sha256sum file.$i >>SUMS)
	sync $dir/SUMS $dir
	head -c $(((RANDOM % 16 + 1) * 4096)) /dev/urandom >/run/piece
	at=$((RANDOM % 8176))
	dd if=/run/piece of=/run/db bs=4K seek=$at conv=notrunc status=none
	dd if=/run/piece of=$dir/db bs=4K seek=$at conv=notrunc,fdatasync status=none
	sleep 0.1
done
