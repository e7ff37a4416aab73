#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Does the harness turn red when it should? A test that cannot fail is none.

set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
. "$top/tests/lib/header.sh"
. "$top/tests/lib/tap.sh"

# verdicts LINE...: what the driver makes of a script's output
verdicts()
{
	printf '%s\n' "$@" | "$top/tests/lib/by-script" 6.12 | grep -v '^#'
}

is "$(verdicts '##start a/x.sh' 'noise' 'ok - one' '1..1' '##end a/x.sh 0')" \
	"ok - x 6.12: one" "a good script is good"
like "$(verdicts '##start x' 'not ok - one: why' '1..1' '##end x 1')" \
	'^not ok - x 6.12: one: why$' "a bad test is bad"
like "$(verdicts '##start x' 'ok - one' '1..2' '##end x 0')" \
	'not ok - x 6.12: expected 2 tests, saw 1' "a test is missing"
like "$(verdicts '##start x' 'ok - one' '1..1' '##end x 7')" \
	'not ok - x 6.12: expected exit status 0, saw 7' "a bad exit status"
like "$(verdicts '##start x' '##end x 0')" \
	'not ok - x 6.12: no test ran' "no test at all"
is "$(verdicts '##start x' 'ok - one' '##start y' 'ok - two' | wc -l)" 2 \
	"what a machine said before it died is not lost"

# A script's own end
tap()
{
	printf '. "%s/tests/lib/tap.sh"\n%s\n' "$top" "$1" >"$TMP/script"
	bash "$TMP/script" 2>&1
}

like "$(tap 'ok a; exit 0')" 'not ok - the script ended early' "done_testing is missing"
like "$(tap 'is 1 2 a; done_testing')" "not ok - a: expected '2', saw '1'" "is"
like "$(tap 'like 1 2 a; done_testing')" "not ok - a: " "like"
like "$(tap 'run_ok a false; done_testing')" "not ok - a: " "run_ok"
like "$(tap 'run_fail 1 a true; done_testing')" "not ok - a: " "run_fail"
like "$(tap 'run_fail any a true; done_testing')" "not ok - a: " "run_fail any"
run_fail 1 "a failure is the script's exit status" bash -c \
	". '$top/tests/lib/tap.sh'; fail a; done_testing"

# Kernel messages
scan()
{
	printf '%s\n' "$1" >"$TMP/log"
	"$top/tests/lib/scan-log" "$TMP/log" "${@:2}"
}

while read -r line; do
	run_fail 1 "the log may not say: $line" scan "[    1.000000] $line"
done <<'END'
BUG: KASAN: slab-use-after-free in chain_map+0x1/0x2 [dm_chain]
BUG: kernel NULL pointer dereference, address: 0000000000000008
BUG: sleeping function called from invalid context at mm/slab.h:1
WARNING: CPU: 1 PID: 2 at kmod/dm-chain-map.c:3 chain_map+0x1/0x2
WARNING: possible circular locking dependency detected
WARNING: inconsistent lock state
WARNING: suspicious RCU usage
UBSAN: array-index-out-of-bounds in kmod/dm-chain-map.c:3:4
INFO: task fio:123 blocked for more than 120 seconds.
rcu: INFO: rcu_preempt self-detected stall on CPU
watchdog: BUG: soft lockup - CPU#0 stuck for 22s!
Oops: general protection fault, probably for non-canonical address
refcount_t: underflow; use-after-free.
ODEBUG: free active (active state 0) object
list_del corruption. prev->next should be
kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)
BUG: KCSAN: data-race in chain_map [dm_chain] / meta_work [dm_chain]
BUG: KCSAN: data-race in bio_endio / chain_map [dm_chain]
BUG: KCSAN: data-race in chain_map+0x10/0x80 [dm_chain]
END
run_ok "races of others are not looked at" scan "[    1.000000] BUG: KCSAN: data-race in bio_endio / bio_init"
run_ok "it may say other things" scan "[    1.000000] device-mapper: chain: opened"
printf '# allow: planted [a-z]+\n' >"$TMP/allows"
run_ok "and what a script allows" scan "[ 1.0] WARNING: planted fault" "$TMP/allows"
run_fail 1 "but nothing else" scan "[ 1.0] WARNING: other" "$TMP/allows"

# Headers
echo '# vm: kernels=6.1,debug mem=512 timeout=7 group=a' >"$TMP/h"
is "$(header "$TMP/h" kernels 6.12)" "6.1,debug" "the first key"
is "$(header "$TMP/h" group main)" a "the last key"
is "$(header "$TMP/h" smp 2)" 2 "a default"
is "$(TIMEOUT_SCALE=2 script_timeout "$TMP/h")" 14 "timeouts are scaled"
is "$(unset TIMEOUT_SCALE; script_timeout "$TMP/h" debug)" 21 "the debug kernel has more time"
is "$(unset TIMEOUT_SCALE; script_timeout "$TMP/h" kcsan)" 21 "so has the one for data races"

done_testing
