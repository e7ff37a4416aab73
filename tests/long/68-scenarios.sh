#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=6.1,6.12,debug mem=1024 smp=2 timeout=900 group=long
#
# tests/functional/68-scenarios.sh: longer under I/O, more lengths.

export LONG=1
exec "$(dirname "$0")/../functional/68-scenarios.sh"
