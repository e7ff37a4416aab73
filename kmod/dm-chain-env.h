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

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <linux/types.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

#define cpu_to_le32(x)	((__le32)htole32(x))
#define cpu_to_le64(x)	((__le64)htole64(x))
#define le32_to_cpu(x)	le32toh((u32)(x))
#define le64_to_cpu(x)	le64toh((u64)(x))
#define DIV_ROUND_UP_ULL(n, d)	(((n) + (d) - 1) / (d))
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

/* crc32c as the kernel's: no inversion before or after. In lib-crc.c. */
u32 chain_crc32c(u32 crc, const void *p, size_t len);

#endif

/* The suites in tests/ are modules of their own and need what they test. */
#ifdef DM_CHAIN_KUNIT
#define CHAIN_EXPORT_FOR_KUNIT(sym)	EXPORT_SYMBOL_GPL(sym)
#else
#define CHAIN_EXPORT_FOR_KUNIT(sym)	static_assert(sizeof(__typeof__(sym)))
#endif

#endif
