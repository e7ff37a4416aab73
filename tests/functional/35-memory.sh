#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug,kcsan long=6.1,debug,kcsan mem=1024 smp=2 timeout=240 group=main
#
# The merged lookup is given back under memory pressure, and built again: what is read
# is right all the time, and the memory is free.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"

cd "$TMP" || exit 1

lookup_bytes()
{
	status_of d | grep -o 'lookup-bytes=[0-9]*' | cut -d = -f 2
}

read_all()
{
	dd if=/dev/mapper/d of=/dev/null bs=128k iflag=direct status=none
}

# more_than BYTES: the lookup is built by what is read
more_than()
{
	read_all
	[ "$(lookup_bytes)" -gt "$1" ]
}

run_ok "create" dmchain create 0.img --size 64M
run_ok "open" dmchain open d 0.img
for i in 1 2 3 4 5 6; do
	run_ok "layer $i: as the model" iomodel run /dev/mapper/d --model m --ops 300 --max 16K \
		--seed $i
	run_ok "layer $i: snapshot" dmchain snapshot d=$i.img
done
run_ok "as the model" iomodel verify /dev/mapper/d --model m
wait_for 30 more_than 8192
is $? 0 "the lookup has been built"
built=$(lookup_bytes)

echo 2 >/proc/sys/vm/drop_caches
less=$(lookup_bytes)
echo "# $built bytes, $less when dropped"
[ "$less" -lt "$built" ]
is $? 0 "memory is given back"
run_ok "asked layer by layer: as the model" iomodel verify /dev/mapper/d --model m
wait_for 30 more_than $((built - 4096))
is $? 0 "and taken again"

(while [ ! -e stop ]; do echo 2 >/proc/sys/vm/drop_caches; sleep 0.2; done) &
run_ok "dropped all the time: as the model" iomodel run /dev/mapper/d --model m --threads 6 \
	--ops 600 --max 64K --seed 9 --verify-end
for i in 7 8 9; do
	run_ok "dropped all the time: snapshot" dmchain snapshot d=$i.img
	run_ok "dropped all the time: as the model" iomodel run /dev/mapper/d --model m \
		--threads 6 --ops 200 --max 64K --seed $i --verify-end
done
touch stop
wait

# A small cap, and none
for mib in 1 0; do
	run_ok "cap of $mib MiB: close" dmchain close d
	echo $mib >/sys/module/dm_chain/parameters/lookup_mib
	run_ok "cap of $mib MiB: open" dmchain open d 9.img
	run_ok "cap of $mib MiB: as the model" iomodel verify /dev/mapper/d --model m
	echo "# $(status_of d)"
done
no_violations "the gate refused nothing"
run_ok "close" dmchain close d

done_testing
