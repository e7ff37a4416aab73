#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug mem=1024 smp=2 timeout=1800 group=long
#
# tests/functional/24-crash.sh at many more points of other runs.

STATES=100 SEED=$RANDOM
export STATES SEED
echo "# SEED=$SEED"
exec "$(dirname "$0")/../functional/24-crash.sh"
