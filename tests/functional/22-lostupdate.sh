#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug,kcsan long=6.1,debug,kcsan mem=1024 smp=2 timeout=150 group=main
#
# Lost updates: concurrent writes of parts of a block that the top does not
# hold, beside writes of the whole block; what an acknowledged write has
# written must be there.

. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/chain.sh"

cd "$TMP" || exit 1
rounds=${ROUNDS:-8000}
[ "$KERNEL" != debug ] || rounds=${ROUNDS:-1200}

# Something to copy up
run_ok "a raw base with data" sh -c "yes base | head -c 8M >base.raw"
for block in 4K 64K; do
	run_ok "$block: create" dmchain create t.img --backing base.raw \
		--backing-format raw --block-size $block
	run_ok "$block: open" dmchain open d t.img
	n=$rounds
	[ $block = 4K ] || n=$((rounds / 8))
	run_ok "$block: no update is lost in $n rounds, by discards" lostupdate \
		/dev/mapper/d --rounds "$n" --block-size $block
	output | sed 's/^/# /'
	# A fresh top for each pass: blocks are absent, not zero
	printf '#!/bin/sh\nexec dmchain snapshot "d=%s/%s-$1.img" >/dev/null\n' \
		"$TMP" $block >hook
	chmod +x hook
	n=$((rounds / 2))
	[ $block = 4K ] || n=$((rounds / 40))
	run_ok "$block: nor in $n, by snapshots" lostupdate /dev/mapper/d \
		--rounds "$n" --threads 8 --block-size $block --no-discard --hook "$TMP/hook" \
		--seed 3
	output | sed 's/^/# /'
	no_violations "$block: the gate refused nothing"
	run_ok "$block: close" dmchain close d
	rm -f ./*.img
done

done_testing
