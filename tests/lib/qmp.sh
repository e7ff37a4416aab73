# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# For test scripts: QEMU's monitor protocol over a pair of fifos, PATH.in and PATH.out,
# which QEMU has as "-chardev pipe,path=PATH".

# qmp_open PATH: wait for it, and greet it
qmp_open()
{
	# Both ways, or opening would wait for QEMU and hang if it dies
	exec {qmp_in}<>"$1.in" {qmp_out}<>"$1.out"
	qmp '{ "execute": "qmp_capabilities" }' >/dev/null
}

# qmp COMMAND: prints what it returns, or its error; events are passed over
qmp()
{
	local line
	printf '%s\n' "$1" >&"$qmp_in"
	while IFS= read -r -t 300 line <&"$qmp_out"; do
		line=${line%$'\r'}
		case $line in
		'{"return"'* | '{"error"'*)
			echo "$line"
			return
			;;
		esac
	done
	echo "no answer"
	return 1
}
