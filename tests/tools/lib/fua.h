/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef DMCHAIN_TESTS_TOOLS_FUA_H
#define DMCHAIN_TESTS_TOOLS_FUA_H

#include "../common.h"

/* One write that is durable when it returns, without a flush beside it. */
int fua_write(struct dev *d, const void *buf, u64 len, u64 off);

#endif
