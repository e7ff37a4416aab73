/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The little that the freestanding parts (codec, pure logic) need from around
 * them, in the kernel and in user space alike.
 */
#ifndef DM_CHAIN_ENV_H
#define DM_CHAIN_ENV_H

#ifdef __KERNEL__

#include <linux/build_bug.h>
#include <linux/crc32c.h>
#include <linux/errno.h>
#include <linux/export.h>
#include <linux/kernel.h>
#include <linux/limits.h>
#include <linux/minmax.h>
#include <linux/string.h>
#include <linux/types.h>

static inline u32 chain_crc32c(u32 crc, const void *p, size_t len)
{
	return crc32c(crc, p, len);
}

#else
#include "env-user.h"
#endif

/* The suites in tests/ are modules of their own and need what they test. */
#ifdef DM_CHAIN_KUNIT
#define CHAIN_EXPORT_FOR_KUNIT(sym)	EXPORT_SYMBOL_GPL(sym)
#else
#define CHAIN_EXPORT_FOR_KUNIT(sym)	static_assert(sizeof(__typeof__(sym)))
#endif

#endif
