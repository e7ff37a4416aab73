#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=debug mem=1024 smp=2 timeout=2600 group=long-fuzz
#
# tests/functional/61-fuzz.sh for an hour.

export LONG=1
export FUZZ_SECONDS=${FUZZ_SECONDS:-1800}
exec "$(dirname "$0")/../functional/61-fuzz.sh"
