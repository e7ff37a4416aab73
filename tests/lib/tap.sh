# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# For test scripts: say what holds and what does not. A script sources this,
# calls the functions below and ends with done_testing. It may leave devices
# and modules behind, tests/lib/vm-cleanup removes them and complains if that
# is impossible.

tap_count=0
tap_failed=0
tap_done=0
tap_exit=()

# An empty directory (tmpfs) of the script's own
TMP=$(mktemp -d)
export TMP

ok()
{
	tap_count=$((tap_count + 1))
	echo "ok - $1"
}

# fail NAME [MESSAGE]
fail()
{
	tap_count=$((tap_count + 1))
	tap_failed=$((tap_failed + 1))
	echo "not ok - $1${2:+: $2}"
	# Nobody asks for more: the script and what it runs, when the details are out
	if [ -n "${FIRST_RED-}" ]; then
		(sleep 1 && kill -KILL 0) &
	fi
}

# skip NAME WHY: not tested here, and why
skip()
{
	tap_count=$((tap_count + 1))
	echo "ok - $1 # SKIP $2"
}

# is SEEN EXPECTED NAME
is()
{
	if [ "$1" = "$2" ]; then
		ok "$3"
	else
		fail "$3" "expected '$2', saw '$1'"
	fi
}

# like SEEN REGEX NAME
like()
{
	if [[ $1 =~ $2 ]]; then
		ok "$3"
	else
		fail "$3" "expected something like '$2', saw '$1'"
	fi
}

# run_ok NAME COMMAND...
run_ok()
{
	run_fail 0 "$@"
}

# run_fail STATUS NAME COMMAND...: STATUS "any" is any but 0
run_fail()
{
	local want=$1 name=$2 status=0
	shift 2
	"$@" >"$TMP/.output" 2>&1 || status=$?
	if [ "$status" = "$want" ] || { [ "$want" = any ] && [ $status != 0 ]; }; then
		ok "$name"
		return
	fi
	fail "$name" "expected exit status $want of '$*', saw $status"
	head -n 50 "$TMP/.output" | sed 's/^/#   /'
}

# The output of the last run_ok or run_fail
output()
{
	cat "$TMP/.output"
}

# wait_for SECONDS COMMAND...: until COMMAND succeeds
wait_for()
{
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.1
	done
}

# load_module [PARAMETERS]
load_module()
{
	run_ok "dm-chain.ko loads" modprobe dm-chain "$@"
}

# on_exit COMMAND...: at the end of the script, last come, first served
on_exit()
{
	tap_exit=("$(printf '%q ' "$@")" "${tap_exit[@]}")
}

done_testing()
{
	tap_done=1
	echo "1..$tap_count"
	exit $((tap_failed > 0))
}

tap_end()
{
	local status=$? cmd
	trap - EXIT
	for cmd in "${tap_exit[@]}"; do
		eval "$cmd"
	done
	[ $tap_done = 1 ] || echo "not ok - the script ended early, with status $status"
	rm -rf "$TMP"
	exit $status
}
trap tap_end EXIT
