// SPDX-License-Identifier: GPL-2.0-or-later
// sources: tests/tools/common.c kmod/dm-chain-format.c userspace/lib-crc.c
/*
 * Spoils a valid layer by a seed: header fields at their limits, whole geometries that
 * fit together and say far more than there is, map sectors, the length of the file. With
 * checksums that are right, mostly, so that what is behind them is reached. Says in a line
 * what it did.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dm-chain-format.h"
#undef ARRAY_SIZE
#include "common.h"

static const u64 slot_offset[] = { DM_CHAIN_SLOT0_OFFSET, DM_CHAIN_SLOT1_OFFSET };

static const struct {
	const char *name;
	size_t off, len;
} fields[] = {
#define FIELD(name) \
	{ #name, offsetof(struct dm_chain_disk_header, name), \
	  sizeof(((struct dm_chain_disk_header *)0)->name) }
	FIELD(size), FIELD(max_size), FIELD(block_shift), FIELD(presence_offset),
	FIELD(map_offset), FIELD(data_offset), FIELD(limit), FIELD(map_seed), FIELD(marks),
	FIELD(parent.format), FIELD(parent.size), FIELD(parent.flags), FIELD(parent.uuid),
	FIELD(parent.cid), FIELD(uuid), FIELD(cid), FIELD(generation), FIELD(version),
	FIELD(compat), FIELD(compat_ro), FIELD(incompat), FIELD(sealed_by), FIELD(use_host),
	FIELD(use_boot), FIELD(group), FIELD(coordinator), FIELD(decision), FIELD(job),
	FIELD(record.type), FIELD(record.flags), FIELD(record.base_format), FIELD(record.base),
	FIELD(record.base_size), FIELD(parent_path), FIELD(child_path),
	FIELD(coordinator_path), FIELD(reserved0), FIELD(magic),
};

static struct rng rng;
static int fd;
static struct chain_header hdr;
static u8 slots[2][DM_CHAIN_HEADER_BYTES] __attribute__((aligned(8)));

static void get(void *buf, u64 len, u64 at)
{
	memset(buf, 0, len);
	if (pread(fd, buf, len, at) < 0)
		die("read: %s", strerror(errno));
}

static void put(const void *buf, u64 len, u64 at)
{
	if (full_pwrite(fd, buf, len, at))
		die("write: %s", strerror(errno));
}

/* At @at of the @len bytes is their checksum. */
static void fix(u8 *buf, size_t len, size_t at)
{
	u32 crc = 0;

	memcpy(buf + at, &crc, 4);
	crc = htole32(chain_crc32c(~0U, buf, len));
	memcpy(buf + at, &crc, 4);
}

static u64 a_number(void)
{
	static const u64 edges[] = {
		0, 1, 2, 3, 9, 11, 12, 20, 21, 31, 32, 63, 64, 255, 511, 512, 513, 4096,
		1 << 20, (1 << 20) + 512, 1ULL << 32, (1ULL << 32) - 1, 1ULL << 40, 1ULL << 46,
		(1ULL << 46) + 512, (1ULL << 46) - 512, 1ULL << 63, ~0ULL, ~511ULL,
	};
	u64 k = rnd_below(&rng, 10);

	if (k < 6)
		return edges[rnd_below(&rng, ARRAY_SIZE(edges))];
	return k < 8 ? 1ULL << rnd_below(&rng, 64) : rnd(&rng) >> rnd_below(&rng, 64);
}

/* --- Headers --- */

static void change_field(u8 *slot, size_t i)
{
	u64 old = 0, v = a_number();
	size_t k;

	if (fields[i].len <= 8) {
		memcpy(&old, slot + fields[i].off, fields[i].len);
		if (rnd_chance(&rng, 40))
			v = old + 512 * (rnd_below(&rng, 9) - 4);
		memcpy(slot + fields[i].off, &v, fields[i].len);
		return;
	}
	for (k = 0; k < fields[i].len; k++)
		if (fields[i].len <= 16 || rnd_chance(&rng, 5))
			slot[fields[i].off + k] = rnd(&rng);
}

static void change_header(void)
{
	u32 which = rnd_below(&rng, 4), n = 1 + rnd_below(&rng, 3), s;
	bool right = rnd_chance(&rng, 90);
	size_t i;

	printf(" header (%s%s)", which < 2 ? "both" : which == 2 ? "0" : "1",
	       right ? "" : ", no sum");
	while (n--) {
		/* The first ones are what others are computed from. */
		i = rnd_below(&rng, rnd_chance(&rng, 50) ? 10 : ARRAY_SIZE(fields));
		printf(" %s", fields[i].name);
		change_field(slots[which == 3], i);
		if (which < 2)
			memcpy(slots[1] + fields[i].off, slots[0] + fields[i].off, fields[i].len);
	}
	for (s = 0; s < 2; s++) {
		if (right)
			fix(slots[s], sizeof(slots[s]), offsetof(struct dm_chain_disk_header, crc));
		put(slots[s], sizeof(slots[s]), slot_offset[s]);
	}
}

static void flip_bits(void)
{
	u32 n = 1 + rnd_below(&rng, 8), s = rnd_below(&rng, 2);
	u64 at = rnd_below(&rng, DM_CHAIN_HEADER_BYTES);

	printf(" %u bits of header %u at %llu", n, s, (unsigned long long)at);
	for (; n; n--)
		slots[s][rnd_chance(&rng, 50) ? at : rnd_below(&rng, DM_CHAIN_HEADER_BYTES)] ^=
			1 << rnd_below(&rng, 8);
	put(slots[s], sizeof(slots[s]), slot_offset[s]);
}

/* All fits together; the maps that there are lie elsewhere now. */
static void other_geometry(void)
{
	static const u64 sizes[] = {
		512, 4096, 1 << 20, 3 << 20, 1ULL << 30, 1ULL << 40, 1ULL << 46,
	};
	u64 size = sizes[rnd_below(&rng, 7)] + 512 * rnd_below(&rng, 2);
	u64 max = size << rnd_below(&rng, 3);
	struct chain_header h = hdr, geometry;
	u32 shift = 12 + rnd_below(&rng, 9), s;

	size = min_u64(size, DM_CHAIN_MAX_SIZE);
	max = min_u64(max, DM_CHAIN_MAX_SIZE);
	if (chain_header_init(&geometry, size, max, shift))
		die("no geometry");
	h.size = size;
	h.max_size = max;
	h.block_shift = shift;
	h.map_offset = geometry.map_offset;
	h.data_offset = geometry.data_offset;
	h.limit = rnd_chance(&rng, 50) ? 0 : min_u64(h.limit, size);
	for (s = 0; s < 2; s++) {
		chain_header_encode(&h, slots[s]);
		put(slots[s], sizeof(slots[s]), slot_offset[s]);
	}
	hdr = h;
	printf(" geometry %llu of %llu, shift %u", (unsigned long long)size,
	       (unsigned long long)max, shift);
	if (rnd_chance(&rng, 80) && ftruncate(fd, chain_layer_bytes(&h)))
		printf(" (too long for the file system)");
}

/* --- Maps --- */

static void change_sector(u64 start, u64 nr, const char *what, u32 magic)
{
	u64 i = rnd_below(&rng, min_u64(nr, rnd_chance(&rng, 70) ? 8 : nr));
	u8 buf[512] __attribute__((aligned(8)));
	struct dm_chain_disk_sector *d = (void *)buf;
	u32 how = rnd_below(&rng, 6), k;

	get(buf, sizeof(buf), start + i * 512);
	printf(" %s sector %llu (%u)", what, (unsigned long long)i, how);
	if (how == 0 || how == 1) {
		memset(d->bits, how ? 0xff : 0x55 << rnd_below(&rng, 2), sizeof(d->bits));
	} else if (how == 2) {
		for (k = 0; k < 32; k++)
			d->bits[k] = rnd(&rng);
	} else {
		buf[rnd_below(&rng, 512)] ^= 1 << rnd_below(&rng, 8);
	}
	/* A whole one, where there was none */
	if (how < 3) {
		d->magic = htole32(magic);
		d->index = htole64(i);
		d->seed = htole64(hdr.map_seed);
		d->flags = rnd_chance(&rng, 80) ? 0 : rnd(&rng);
	}
	if (how < 4)
		fix(buf, sizeof(buf), offsetof(struct dm_chain_disk_sector, crc));
	put(buf, sizeof(buf), start + i * 512);
}

static void change_maps(void)
{
	if (rnd_chance(&rng, 50))
		change_sector(hdr.presence_offset, chain_presence_sectors(&hdr), "presence",
			      DM_CHAIN_PRESENCE_MAGIC);
	if (rnd_chance(&rng, 80))
		change_sector(hdr.map_offset, chain_max_groups(&hdr) * DM_CHAIN_GROUP_SECTORS,
			      "map", DM_CHAIN_MAP_MAGIC);
}

static void change_length(void)
{
	u64 bytes = chain_layer_bytes(&hdr), n = rnd_below(&rng, 6);
	u64 list[] = { bytes - 512, bytes - 1, bytes - (1 << 20), rnd_below(&rng, bytes),
		       bytes + 512 * rnd_below(&rng, 100), bytes + rnd_below(&rng, 1 << 20) };

	printf(" length %llu of %llu", (unsigned long long)list[n], (unsigned long long)bytes);
	if (ftruncate(fd, list[n]))
		die("truncate: %s", strerror(errno));
}

int main(int argc, char **argv)
{
	u32 n, stale;

	set_prog("craft");
	if (argc != 3) {
		fprintf(stderr, "usage: craft FILE SEED\n");
		exit(EX_USE);
	}
	rng_init(&rng, parse_num(argv[2]), 62);
	fd = open(argv[1], O_RDWR | O_CLOEXEC);
	if (fd < 0)
		die("%s: %s", argv[1], strerror(errno));
	get(slots[0], sizeof(slots[0]), slot_offset[0]);
	get(slots[1], sizeof(slots[1]), slot_offset[1]);
	if (chain_header_pick(slots[0], slots[1], &hdr, &stale))
		die("%s: not a valid layer", argv[1]);
	printf("seed %s:", argv[2]);
	n = rnd_below(&rng, 100);
	if (n < 20)
		other_geometry();
	if (n < 10 || (n >= 20 && n < 45))
		change_maps();
	if (n >= 45 && n < 88)
		change_header();
	else if (n >= 88 && n < 93)
		flip_bits();
	else if (n >= 93)
		change_length();
	putchar('\n');
	return EX_OK;
}
