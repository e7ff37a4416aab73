#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug long=6.1,6.12,debug mem=2048 smp=2 timeout=400 group=jobs
#
# All at once, by chance. Writers work on both halves of a disk; meanwhile a second
# process makes snapshots, a third starts streams, commits, mirrors and pivots,
# pauses, cancels and kills them, a fourth asks, suspends and loads tables; at times
# another disk stands on the same base. A command may be refused, and fail for no
# other reason. In one half each read is compared with a model; in the other each
# sector names its write, so that what a snapshot froze can be judged: it is the disk
# of one instant. After each epoch all jobs are brought to an end, the disk is
# compared, closed, its layers checked, and opened again.
#
#	SEED=N EPOCHS=N EPOCH_SECONDS=N, ONLY_EPOCH=N: with the choices of that one

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"
. "$(dirname "$0")/../lib/torture.sh"

cd "$TMP" || exit 1
epochs=${EPOCHS:-3} length=${EPOCH_SECONDS:-20} seed=${SEED:-1}
if [ -n "${LONG-}" ]; then
	epochs=${EPOCHS:-90} length=${EPOCH_SECONDS:-20} seed=${SEED:-$((RANDOM * 32768 + RANDOM))}
fi
[ "$KERNEL" != debug ] || length=$((length * 2))
echo "# seed $seed"

load_module
dmchain create 0.img --size 16M >/dev/null
run_ok "open" dmchain open d 0.img
judged=0
for ((epoch = ${ONLY_EPOCH:-1}; epoch < ${ONLY_EPOCH:-1} + epochs; epoch++)); do
	name="epoch $epoch (seed $seed)"
	: >faults
	: >actions
	torture_begin
	torture_run
	torture_end
	torture_judge
	if [ -s faults ]; then
		fail "$name: nothing is wrong" "$(wc -l <faults) faults"
		sed 's/^/#   /' faults | head -n 30
		echo "#   the last actions:"
		tail -n 25 actions | sed 's/^/#   /'
		break
	fi
	ok "$name: nothing is wrong: $(torture_counts)"
	judged=$((judged + $(compgen -G 'frozen.*' | wc -l)))
done
# One epoch may have had none
[ $judged -gt 0 ] || [ "${ONLY_EPOCH-}" ]
is $? 0 "frozen layers were judged"
no_violations "the gate refused nothing"
run_ok "close" dmchain close d
is "$(losetup -n -l 2>/dev/null)" "" "no loop device is left"
done_testing
