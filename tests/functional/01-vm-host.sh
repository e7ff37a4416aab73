#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.12 host=1 timeout=300
#
# tests/vm/run: what it promises about output, exit status and power cuts.

. "$(dirname "$0")/../lib/tap.sh"

# guest OPTIONS -- COMMAND: in a machine; $VM is a command with arguments
guest()
{
	# shellcheck disable=SC2086
	$VM --out "$TMP/out" --timeout "$((60 * ${TIMEOUT_SCALE:-1}))" "$@"
}

truncate -s 1M "$TMP/ro" "$TMP/rw"
# shellcheck disable=SC2016 # for the guest
run_fail 7 "the exit status comes back" guest --disk "$TMP/rw" --disk "$TMP/ro:ro" \
	--env "A=b c" --smp 1 -- /bin/bash -c '
		echo "args: $# $1 $A"; echo problem >&2; echo >/dev/stderr
		echo durable | dd of=/dev/vdb conv=fsync 2>/dev/null
		blockdev --getro /dev/vdb /dev/vdc | tr "\n" " "
		nproc; echo x >/out/file; exit 7' script "one word"
like "$(output)" 'args: 1 one word b c' "words stay words"
like "$(output)" 'problem' "standard error comes back"
like "$(output)" '0 1 1' "a read-only disk, and one processor"
is "$(head -c 7 "$TMP/rw")" durable "a disk keeps what was written"
is "$(cat "$TMP/out/file")" x "/out keeps files"

run_fail 125 "a panic is a failure" guest -- /bin/bash -c 'echo c >/proc/sysrq-trigger; sleep 60'
like "$(output)" 'Kernel panic' "the console says why"

run_fail 137 "a power cut" guest --cut-after 1 --disk "$TMP/rw" -- /bin/bash -c '
	echo before | dd of=/dev/vdb conv=fsync 2>/dev/null; sleep 1000'
is "$(head -c 6 "$TMP/rw")" before "keeps what was written before"

# The emulator itself: when it dies before it has come to the script, once more
mkdir "$TMP/bin"
cat >"$TMP/bin/qemu-system-x86_64" <<'END'
#!/bin/bash
PATH=${PATH#*:}
if [ "$1" = -machine ] && ! [ -e "$CRASHES/done" ]; then
	[ ! -e "$CRASHES/once" ] || touch "$CRASHES/done"
	kill -SEGV $$
fi
exec qemu-system-x86_64 "$@"
END
chmod +x "$TMP/bin/qemu-system-x86_64"
mkdir "$TMP/one" "$TMP/two"
touch "$TMP/one/once"
crashing()	# crashing FOLDER: what it has done is there
{
	CRASHES=$1 PATH=$TMP/bin:$PATH guest -- /bin/true
}
run_ok "the emulator crashes once" crashing "$TMP/one"
like "$(output)" "crashed before" "it says so"
run_fail 125 "it crashes each time" crashing "$TMP/two"

run_fail 124 "no end in time" guest --timeout 15 -- /bin/sleep 1000

done_testing
