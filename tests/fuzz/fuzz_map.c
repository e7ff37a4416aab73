// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The codec of map sectors: what it takes is what Documentation/format.rst says,
 * and comes back as it was.
 *
 * Input: seed, group, a mask of sectors whose checksums are made to fit, and patches
 * to a valid group.
 */
#include "fuzz.h"
#include "dm-chain-format.h"

static uint8_t buf[DM_CHAIN_GROUP_BYTES] __attribute__((aligned(8)));
static uint64_t words[CHAIN_GROUP_WORDS];

static uint32_t sum(const uint8_t *sector)
{
	uint8_t copy[512];

	memcpy(copy, sector, sizeof(copy));
	memset(copy + 4, 0, 4);
	return chain_crc32c(~0U, copy, sizeof(copy));
}

static bool fits(const uint8_t *sector, uint32_t magic, uint64_t seed, uint64_t index)
{
	const struct dm_chain_disk_sector *d = (const void *)sector;

	return d->magic == magic && d->seed == seed && d->index == index &&
	       d->crc == sum(sector);
}

static void one_sector(uint64_t seed, uint64_t group, unsigned int i, bool damaged,
		       bool changed)
{
	const struct dm_chain_disk_sector *d = (void *)(buf + 512 * i);
	uint64_t index = group * DM_CHAIN_GROUP_SECTORS + i, *w = words + 32 * i;
	uint8_t again[512] __attribute__((aligned(8)));
	uint64_t one[32];
	unsigned int k;

	must(damaged != fits((void *)d, DM_CHAIN_MAP_MAGIC, seed, index));
	must(changed == (damaged || d->flags & DM_CHAIN_SECTOR_CHANGED));
	for (k = 0; k < 32; k++)
		must(w[k] == (damaged ? ~0ULL : d->bits[k]));
	must(chain_sector_decode(DM_CHAIN_MAP_MAGIC, seed, index, d, one) == !damaged);
	must(chain_sector_decode(DM_CHAIN_PRESENCE_MAGIC, seed, index, d, one) ==
	     fits((void *)d, DM_CHAIN_PRESENCE_MAGIC, seed, index));
	chain_map_sector_encode(seed, index, w, changed, again);
	must(fits(again, DM_CHAIN_MAP_MAGIC, seed, index));
	must(chain_sector_decode(DM_CHAIN_MAP_MAGIC, seed, index, again, one));
	must(!memcmp(one, w, sizeof(one)));
}

static void states(uint64_t at)
{
	uint64_t i = at % DM_CHAIN_GROUP_BLOCKS, before[3];
	unsigned int s;

	for (s = 0; s < 4; s++) {
		before[0] = i ? chain_state_get(words, i - 1) : 0;
		before[1] = i + 1 < DM_CHAIN_GROUP_BLOCKS ? chain_state_get(words, i + 1) : 0;
		chain_state_put(words, i, s);
		must(chain_state_get(words, i) == s);
		must(!i || chain_state_get(words, i - 1) == before[0]);
		must(i + 1 == DM_CHAIN_GROUP_BLOCKS ||
		     chain_state_get(words, i + 1) == before[1]);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct in in = { data, size };
	uint64_t seed = take_number(&in, 8), group = take_number(&in, 5);
	uint8_t fix = take_number(&in, 1), changed, again[DM_CHAIN_GROUP_BYTES];
	unsigned int i, damaged;
	uint32_t crc;

	chain_group_encode(seed, group, NULL, fix, buf);
	must(!chain_group_decode(seed, group, buf, words, &changed) && changed == fix);
	take_patches(&in, buf, sizeof(buf));
	for (i = 0; i < DM_CHAIN_GROUP_SECTORS; i++) {
		crc = sum(buf + 512 * i);
		if (fix & 1U << i)
			memcpy(buf + 512 * i + 4, &crc, sizeof(crc));
	}
	damaged = chain_group_decode(seed, group, buf, words, &changed);
	must(damaged < 256);
	for (i = 0; i < DM_CHAIN_GROUP_SECTORS; i++)
		one_sector(seed, group, i, damaged & 1U << i, changed & 1U << i);
	chain_group_encode(seed, group, words, changed, again);
	must(!chain_group_decode(seed, group, again, words, &changed));
	states(seed);
	return 0;
}
