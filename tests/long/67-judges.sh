#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.12 mem=1536 smp=2 timeout=1800 group=long
#
# tests/functional/67-judges.sh, for a longer time.

export LONG=1
exec "$(dirname "$0")/../functional/67-judges.sh"
