# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# The headers of test scripts, for the host and for the VM:
#
#	# vm: kernels=6.1,6.12,debug mem=1024 smp=2 timeout=120 group=a
#	# allow: REGULAR EXPRESSION for kernel messages that are meant to come

# header FILE KEY DEFAULT
header()
{
	local value
	value=$(sed -nE "1,20s/^# vm:(.*[[:space:]])?$2=([^[:space:]]*).*/\2/p" "$1" | head -n 1)
	echo "${value:-$3}"
}

# The seconds that a script may take. The debug kernels are that much slower;
# TIMEOUT_SCALE is for hosts that are.
script_timeout()
{
	local t
	t=$(($(header "$1" timeout 120) * ${TIMEOUT_SCALE:-1}))
	case ${2-} in
	debug|kcsan) t=$((t * 3));;
	esac
	echo "$t"
}
