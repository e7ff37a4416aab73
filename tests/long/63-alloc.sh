#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vm: kernels=debug mem=1024 smp=2 timeout=2400 group=long
# allow: Buffer I/O error|job [0-9]+ ended with error|vmalloc error
#
# tests/functional/63-alloc.sh with each allocation of each command, of those that
# wait for a job with 300.

export SOME=300 OPS=3000
exec "$(dirname "$0")/../functional/63-alloc.sh"
