#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug mem=2048 smp=2 timeout=14400 group=long
#
# tests/functional/59-cutstorm.sh, more and longer, with a seed of chance.
export LONG=1
exec "$(dirname "$0")/../functional/59-cutstorm.sh"
