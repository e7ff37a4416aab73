#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.12 mem=1024 smp=2 timeout=4500 group=long-fuzz
#
# tests/functional/62-crafted.sh for an hour.

export LONG=1
export FUZZ_SECONDS=${FUZZ_SECONDS:-3600}
exec "$(dirname "$0")/../functional/62-crafted.sh"
