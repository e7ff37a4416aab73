#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug mem=1024 smp=2 timeout=1200 group=long
#
# tests/functional/11-kill.sh, 200 times.

export ROUNDS=200
exec "$(dirname "$0")/../functional/11-kill.sh"
