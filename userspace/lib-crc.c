// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * crc32c (Castagnoli) as the kernel's crc32c() computes it: no inversion before
 * or after. Eight tables take eight bytes a step, since loading the map of a
 * large device checks some hundred megabytes.
 */
#include "dm-chain-format.h"

#define POLYNOMIAL 0x82f63b78U	/* reflected */

static u32 table[8][256];

__attribute__((constructor)) static void make_tables(void)
{
	unsigned int i, k;

	for (i = 0; i < 256; i++) {
		u32 crc = i;

		for (k = 0; k < 8; k++)
			crc = crc & 1 ? crc >> 1 ^ POLYNOMIAL : crc >> 1;
		table[0][i] = crc;
	}
	for (i = 0; i < 256; i++)
		for (k = 1; k < 8; k++)
			table[k][i] = table[k - 1][i] >> 8 ^
				      table[0][table[k - 1][i] & 0xff];
}

static u32 eight_bytes(u32 crc, const u8 *p)
{
	u64 v;
	u32 out = 0;
	unsigned int k;

	memcpy(&v, p, sizeof(v));
	v = le64toh(v) ^ crc;
	for (k = 0; k < 8; k++, v >>= 8)
		out ^= table[7 - k][v & 0xff];
	return out;
}

u32 chain_crc32c(u32 crc, const void *buf, size_t len)
{
	const u8 *p = buf;

	for (; len >= 8; p += 8, len -= 8)
		crc = eight_bytes(crc, p);
	while (len--)
		crc = crc >> 8 ^ table[0][(crc ^ *p++) & 0xff];
	return crc;
}
