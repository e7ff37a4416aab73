// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The copy of a layer that nobody writes, as its map tells: data at its own
 * place, then the groups of the map that speak of it.
 *
 *	data | map groups | presence bits | ... | trailer | header
 *
 * A group counts only when its bit is on, so the target's map is the progress:
 * cut off, the copy goes on behind the last batch that was complete. Until its
 * last header it is marked incomplete and has another UUID, so it is taken for
 * nothing else.
 *
 * A raw layer has no map: what reads zero needn't be written into a new file,
 * and a copy that was cut off begins anew.
 */
#include "layer-move.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHUNK		(1024 * 1024)
#define BLOCK		4096
#define BATCH_GROUPS	256
#define BATCH_BYTES	(64ULL << 20)

static uint8_t from_bytes[CHUNK], to_bytes[CHUNK];

/**
 * struct copying - a copy on its way
 * @c: what is asked for
 * @has: groups that the target has already
 * @groups: of the source, whose data is written
 * @nr: of these
 * @unflushed: bytes written since the last batch
 */
struct copying {
	struct layer_copy *c;
	struct presence has;
	struct map_group *groups;
	unsigned int nr;
	uint64_t unflushed;
};

static int step(struct layer_copy *c, uint64_t bytes)
{
	c->done += bytes;
	return c->tick ? c->tick(c) : 0;
}

static int write_presence(struct copying *x)
{
	uint64_t sector, last = UINT64_MAX;
	unsigned int i;
	int ret = 0;

	for (i = 0; i < x->nr && !ret; i++) {
		sector = x->groups[i].index / DM_CHAIN_PRESENCE_GROUPS;
		if (sector != last)
			ret = presence_write(x->c->to, &x->has, sector);
		last = sector;
	}
	return ret;
}

static int end_batch(struct copying *x)
{
	unsigned int i;
	int ret = x->nr ? image_flush(x->c->to) : 0;

	for (i = 0; i < x->nr && !ret; i++)
		ret = map_group_write(x->c->to, &x->groups[i]);
	if (!ret && x->nr)
		ret = image_flush(x->c->to);
	for (i = 0; i < x->nr; i++)
		x->has.words[x->groups[i].index / 64] |=
			1ULL << (x->groups[i].index % 64);
	if (!ret)
		ret = write_presence(x);
	x->nr = 0;
	x->unflushed = 0;
	return ret;
}

/* Bytes of a group that are data, from block to block. */
static int each_run(struct layer_copy *c, const struct map_group *g,
		    int (*cb)(struct layer_copy *c, uint64_t pos, size_t len))
{
	const struct chain_header *h = &c->from->hdr;
	uint64_t first = g->index * DM_CHAIN_GROUP_BLOCKS;
	unsigned int i, n, most = CHUNK >> h->block_shift;
	int ret = 0;

	for (i = 0; i < DM_CHAIN_GROUP_BLOCKS && !ret; i += n) {
		n = 1;
		if (chain_state_get(g->words, i) != DM_CHAIN_DATA)
			continue;
		while (n < most && i + n < DM_CHAIN_GROUP_BLOCKS &&
		       chain_state_get(g->words, i + n) == DM_CHAIN_DATA)
			n++;
		ret = cb(c, (first + i) << h->block_shift,
			 (size_t)n << h->block_shift);
	}
	return ret;
}

static int copy_run(struct layer_copy *c, uint64_t pos, size_t len)
{
	uint64_t at = c->from->hdr.data_offset + pos;
	int ret = image_read(c->from, from_bytes, len, at);

	if (!ret)
		ret = image_write(c->to, from_bytes, len, at);
	c->copied += len;
	return ret ? ret : step(c, len);
}

static int differs(const struct layer_copy *c, uint64_t pos)
{
	return msg_fail(EXIT_IMAGE, "%s: is no copy of %s, they differ at byte %llu; see what is wrong with where it lies",
			c->to->path, c->from->path, (unsigned long long)pos);
}

static int compare_run(struct layer_copy *c, uint64_t pos, size_t len)
{
	uint64_t at = c->from->hdr.data_offset + pos;
	int ret = image_read(c->from, from_bytes, len, at);
	size_t i;

	if (!ret)
		ret = image_read(c->to, to_bytes, len, at);
	if (ret)
		return ret;
	for (i = 0; i < len && from_bytes[i] == to_bytes[i]; i++)
		;
	return i < len ? differs(c, pos + i) : step(c, len);
}

static int damaged(const struct layer_copy *c)
{
	return msg_fail(EXIT_IMAGE, "%s: its map is damaged; close the disk, and dmchain check --repair it first",
			c->from->path);
}

static uint64_t group_data(const struct chain_header *h, const struct map_group *g)
{
	unsigned int i;
	uint64_t n = 0;

	for (i = 0; i < DM_CHAIN_GROUP_BLOCKS; i++)
		n += chain_state_get(g->words, i) == DM_CHAIN_DATA;
	return n << h->block_shift;
}

static int copy_group(struct map_group *g, void *arg)
{
	struct copying *x = arg;
	int ret;

	if (g->damaged || g->lost)
		return damaged(x->c);
	if (!g->present)
		return 0;
	if (presence_get(&x->has, g->index)) {
		x->c->done += group_data(&x->c->from->hdr, g);
		return 0;
	}
	ret = each_run(x->c, g, copy_run);
	if (ret)
		return ret;
	x->unflushed += group_data(&x->c->from->hdr, g);
	x->groups[x->nr] = *g;
	/* Flags of a mirror that it was the source of once. */
	x->groups[x->nr++].changed = 0;
	return x->nr == BATCH_GROUPS || x->unflushed >= BATCH_BYTES ?
	       end_batch(x) : 0;
}

static int count_group(struct map_group *g, void *arg)
{
	struct layer_copy *c = arg;

	if (g->present)
		c->total += group_data(&c->from->hdr, g);
	return 0;
}

/* All groups of the source that may hold anything. */
static int source_groups(struct layer_copy *c,
			 int (*cb)(struct map_group *g, void *arg), void *arg)
{
	const struct chain_header *h = &c->from->hdr;
	struct presence p;
	int ret = presence_load(&p, c->from);

	if (!ret && p.damaged)
		ret = damaged(c);
	if (!ret)
		ret = map_groups(c->from, &p,
				 chain_blocks_to_groups(chain_blocks(h)), cb, arg);
	presence_free(&p);
	return ret;
}

static int copy_chain(struct layer_copy *c)
{
	struct copying x = { .c = c };
	int ret = presence_load(&x.has, c->to);

	if (!ret && x.has.damaged)
		ret = msg_fail(EXIT_IMAGE, "%s: its map is damaged; remove it and begin anew",
			       c->to->path);
	x.groups = malloc(BATCH_GROUPS * sizeof(*x.groups));
	if (!ret && !x.groups)
		ret = msg_fail(EXIT_FAILED, "%s: out of memory", c->to->path);
	if (!ret)
		ret = source_groups(c, copy_group, &x);
	if (!ret)
		ret = end_batch(&x);
	free(x.groups);
	presence_free(&x.has);
	return ret ? ret : image_flush(c->to);
}

/* --- Comparing --- */

struct comparing {
	struct layer_copy *c;
	const struct imgmap *map;
	uint64_t blocks;
};

/* What the target holds, and the source has not in this group. */
static int compare_group(struct map_group *g, void *arg)
{
	struct comparing *x = arg;
	uint64_t first = g->index * DM_CHAIN_GROUP_BLOCKS;
	uint64_t end = chain_blocks(&x->c->from->hdr);
	uint32_t shift = x->c->from->hdr.block_shift;
	unsigned int i, state;

	if (g->damaged || g->lost)
		return damaged(x->c);
	for (i = 0; i < DM_CHAIN_GROUP_BLOCKS; i++) {
		state = g->present ? chain_state_get(g->words, i) : DM_CHAIN_ABSENT;
		if (imgmap_state(x->map, first + i) != state)
			return differs(x->c, (first + i) << shift);
		/* What a shrink cut off has a state, and nobody counts it. */
		x->blocks += state != DM_CHAIN_ABSENT && first + i < end;
	}
	return g->present ? each_run(x->c, g, compare_run) : 0;
}

static int compare_chain(struct layer_copy *c)
{
	const struct chain_header *h = &c->from->hdr;
	struct comparing x = { .c = c };
	struct imgmap map;
	uint64_t bytes;
	int ret = imgmap_load(&map, c->to);

	if (ret)
		return ret;
	x.map = &map;
	if (map.damaged || map.damaged_presence)
		ret = msg_fail(EXIT_IMAGE, "%s: its map is damaged", c->to->path);
	if (!ret)
		ret = source_groups(c, compare_group, &x);
	bytes = imgmap_count(&map, h, DM_CHAIN_DATA) +
		imgmap_count(&map, h, DM_CHAIN_ZERO);
	/* Groups that the source doesn't have at all were not looked at. */
	if (!ret && bytes != x.blocks << h->block_shift)
		ret = msg_fail(EXIT_IMAGE, "%s: is no copy of %s, it holds more",
			       c->to->path, c->from->path);
	imgmap_free(&map);
	return ret;
}

/* --- Raw --- */

/* Where the next byte that may not be zero is. */
static uint64_t next_data(const struct layer_copy *c, uint64_t pos)
{
	off_t at = c->from->is_bdev ? -1 : lseek(c->from->fd, (off_t)pos, SEEK_DATA);

	return at >= (off_t)pos ? (uint64_t)at / BLOCK * BLOCK : pos;
}

/* From block to block, so that the copy takes no more room. */
static int write_data(struct layer_copy *c, uint64_t pos, size_t len)
{
	size_t at, n, part;
	int ret = 0;

	for (at = 0; at < len && !ret; at += n) {
		for (n = 0; at + n < len; n += part) {
			part = len - at - n < BLOCK ? len - at - n : BLOCK;
			if (all_zero(from_bytes + at + n, part))
				break;
		}
		if (n)
			ret = image_write(c->to, from_bytes + at, n, pos + at);
		else
			n = BLOCK;
	}
	return ret;
}

static int copy_raw(struct layer_copy *c)
{
	uint64_t pos, at;
	size_t len;
	int ret = 0;

	for (pos = 0; pos < c->total && !ret; pos += len) {
		at = c->fresh ? next_data(c, pos) : pos;
		if (at > pos) {
			c->done += at - pos;
			pos = at;
		}
		len = c->total - pos < CHUNK ? c->total - pos : CHUNK;
		ret = image_read(c->from, from_bytes, len, pos);
		if (!ret)
			ret = c->fresh ? write_data(c, pos, len) :
					 image_write(c->to, from_bytes, len, pos);
		c->copied += len;
		if (!ret)
			ret = step(c, len);
	}
	return ret ? ret : image_flush(c->to);
}

static int compare_raw(struct layer_copy *c)
{
	uint64_t pos;
	size_t len;
	int ret = 0;

	for (pos = 0; pos < c->total && !ret; pos += len) {
		len = c->total - pos < CHUNK ? c->total - pos : CHUNK;
		ret = compare_run(c, pos, len);
	}
	return ret;
}

/* --- Both --- */

static bool raw(const struct layer_copy *c)
{
	return c->from->format == DM_CHAIN_FORMAT_RAW;
}

int layer_copy_count(struct layer_copy *c)
{
	c->total = c->done = 0;
	if (!raw(c))
		return source_groups(c, count_group, c);
	c->total = c->from->bytes;
	return 0;
}

int layer_copy(struct layer_copy *c)
{
	c->done = 0;
	return raw(c) ? copy_raw(c) : copy_chain(c);
}

int layer_compare(struct layer_copy *c)
{
	c->done = 0;
	return raw(c) ? compare_raw(c) : compare_chain(c);
}
