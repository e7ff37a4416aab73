/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * User space's side of dm-chain-env.h: kernel types and helpers by other means.
 */
#ifndef ENV_USER_H
#define ENV_USER_H

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
