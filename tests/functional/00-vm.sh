#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug mem=1024 smp=2 timeout=60 group=main
#
# Does the harness itself work, and does the module come and go?

. "$(dirname "$0")/../lib/tap.sh"

is "$(id -u)" 0 "scripts run as root"
run_ok "/out can be written" touch "/out/$(basename "$0").touched"
run_fail any "/src cannot" touch /src/touched
run_ok "debugfs is there" test -d /sys/kernel/debug/block

for ((i = 0; i < 3; i++)); do
	run_ok "load $i" modprobe dm-chain
	run_ok "the target is registered" dmsetup targets
	like "$(output)" '(^|[[:space:]])chain +v[0-9]' "its name is chain"
	run_ok "unload $i" rmmod dm_chain
done
run_ok "the target is gone" dmsetup targets
is "$(output | grep -c '^chain ')" 0 "no target chain"

done_testing
