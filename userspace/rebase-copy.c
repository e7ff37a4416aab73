// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a layer needs of its old parent before it can stand on another: each
 * block that it lacks and that would read differently. Like everything that
 * only places data it changes nothing of what is seen at the layer.
 *
 * A batch: data | map groups | presence bits. A group counts only when its bit
 * is on, so a cut anywhere leaves blocks absent that are copied once more.
 */
#include "offline.h"

#include <stdlib.h>
#include <string.h>

#define CHUNK		(1U << DM_CHAIN_MAX_BLOCK_SHIFT)	/* at least a block */
#define BATCH_BYTES	(64ULL << 20)
#define BATCH_GROUPS	256

/**
 * struct copying - on its way
 * @map: of the layer, as it is to become
 * @presence: the same
 * @dirty: groups of @map that the file doesn't have yet
 * @nr: of these
 * @unflushed: bytes of data since the last batch
 */
struct copying {
	struct rebase_copy *r;
	struct imgmap map;
	struct presence presence;
	uint64_t dirty[BATCH_GROUPS];
	unsigned int nr;
	uint64_t unflushed;
};

static uint8_t old_bytes[CHUNK], new_bytes[CHUNK];

/* --- Into the layer --- */

static int write_group(struct copying *c, uint64_t group)
{
	struct map_group g;

	/* What a mirror has yet to copy stays flagged: it may still go on. */
	map_group_read(c->r->img, &c->presence, group, &g);
	if (!g.present)
		g.changed = 0;
	memcpy(g.words, c->map.words[group], sizeof(g.words));
	return map_group_write(c->r->img, &g);
}

static int write_presence(struct copying *c)
{
	uint64_t sector, last = UINT64_MAX;
	unsigned int i;
	int ret = 0;

	/* Blocks come in order, and so do groups. */
	for (i = 0; i < c->nr; i++)
		c->presence.words[c->dirty[i] / 64] |= 1ULL << (c->dirty[i] % 64);
	for (i = 0; i < c->nr && !ret; i++) {
		sector = c->dirty[i] / DM_CHAIN_PRESENCE_GROUPS;
		if (sector != last)
			ret = presence_write(c->r->img, &c->presence, sector);
		last = sector;
	}
	return ret;
}

static int end_batch(struct copying *c)
{
	unsigned int i;
	int ret = c->unflushed ? image_flush(c->r->img) : 0;

	for (i = 0; i < c->nr && !ret; i++)
		ret = write_group(c, c->dirty[i]);
	if (!ret && c->nr)
		ret = image_flush(c->r->img);
	if (!ret)
		ret = write_presence(c);
	if (!ret && c->nr)
		ret = image_flush(c->r->img);
	c->nr = 0;
	c->unflushed = 0;
	return ret;
}

/* The group of a block is known to be written with the batch. */
static int touch(struct copying *c, uint64_t block)
{
	uint64_t group = block / DM_CHAIN_GROUP_BLOCKS;
	int ret = 0;

	if (c->nr && c->dirty[c->nr - 1] == group)
		return 0;
	if (c->nr == BATCH_GROUPS)
		ret = end_batch(c);
	if (ret)
		return ret;
	c->dirty[c->nr++] = group;
	return 0;
}

static int set_state(struct copying *c, uint64_t block, unsigned int state)
{
	if (!imgmap_put(&c->map, block, state))
		return msg_fail(EXIT_FAILED, "%s: out of memory",
				c->r->img->label);
	return touch(c, block);
}

/* @buf: a block as it is seen now, zeroes behind the disk's end. */
static int take_block(struct copying *c, uint64_t block, const uint8_t *buf)
{
	const struct chain_header *h = &c->r->img->hdr;
	size_t bytes = 1U << h->block_shift;
	int ret;

	if (all_zero(buf, bytes)) {
		c->r->zero_bytes += bytes;
		return set_state(c, block, DM_CHAIN_ZERO);
	}
	if (c->unflushed >= BATCH_BYTES && (ret = end_batch(c)))
		return ret;
	ret = image_write(c->r->img, buf, bytes,
			  h->data_offset + (block << h->block_shift));
	if (ret)
		return ret;
	c->unflushed += bytes;
	c->r->data_bytes += bytes;
	return set_state(c, block, DM_CHAIN_DATA);
}

/* --- What differs --- */

/* The new parent shows up to the limit only. */
static void look_new(struct rebase_copy *r, uint64_t pos,
		     struct dm_chain_extent *e)
{
	view_look(r->new, pos, e);
	if (pos >= r->limit) {
		e->state = DM_CHAIN_ABSENT;
		e->length = UINT64_MAX - pos;
	} else if (e->length > r->limit - pos) {
		e->length = r->limit - pos;
	}
}

static int read_new(struct rebase_copy *r, uint64_t pos, uint8_t *buf, size_t len)
{
	size_t shown = pos >= r->limit ? 0 :
		       r->limit - pos < len ? r->limit - pos : len;

	memset(buf + shown, 0, len - shown);
	return view_read(r->new, pos, buf, shown);
}

/* Layers have all data at its own place: one image is one content. */
static bool same_source(const struct rebase_copy *r,
			const struct dm_chain_extent *old,
			const struct dm_chain_extent *new)
{
	if (view_zeroes(old) || view_zeroes(new))
		return view_zeroes(old) && view_zeroes(new);
	return old->state == DM_CHAIN_DATA && new->state == DM_CHAIN_DATA &&
	       image_same(view_owner(r->old, old), view_owner(r->new, new));
}

/* Bytes from @pos on that are the same for sure. */
static uint64_t same_bytes(struct rebase_copy *r, uint64_t pos)
{
	struct dm_chain_extent old, new;

	view_look(r->old, pos, &old);
	look_new(r, pos, &new);
	if (!same_source(r, &old, &new))
		return 0;
	return old.length < new.length ? old.length : new.length;
}

/* Whole blocks, as much as there is room for; the last one may be cut. */
static int compare_blocks(struct copying *c, uint64_t block, uint64_t n)
{
	const struct chain_header *h = &c->r->img->hdr;
	size_t bytes = 1U << h->block_shift, len = n << h->block_shift;
	uint64_t i, pos = block << h->block_shift;
	int ret;

	if (len > h->size - pos) {
		memset(old_bytes, 0, len);
		memset(new_bytes, 0, len);
		len = h->size - pos;
	}
	ret = view_read(c->r->old, pos, old_bytes, len);
	if (!ret)
		ret = read_new(c->r, pos, new_bytes, len);
	for (i = 0; i < n && !ret; i++)
		if (memcmp(old_bytes + i * bytes, new_bytes + i * bytes, bytes))
			ret = take_block(c, block + i, old_bytes + i * bytes);
	return ret;
}

/* Blocks that the layer lacks. */
static int copy_run(struct copying *c, uint64_t block, uint64_t end)
{
	uint32_t shift = c->r->img->hdr.block_shift;
	uint64_t n, same;
	int ret = 0;

	for (; block < end && !ret; block += n) {
		same = same_bytes(c->r, block << shift) >> shift;
		n = end - block;
		work_at(block << shift);
		if (same) {
			n = n < same ? n : same;
			continue;
		}
		if (n > CHUNK >> shift)
			n = CHUNK >> shift;
		ret = compare_blocks(c, block, n);
	}
	return ret;
}

static int copy_all(struct copying *c)
{
	uint64_t block, next, end = chain_blocks(&c->r->img->hdr);
	int ret = 0;

	work_begin(c->r->img->path, "rebase", c->r->img->hdr.size);
	for (block = 0; block < end && !ret; block = next) {
		next = imgmap_run(&c->map, block, end);
		if (imgmap_state(&c->map, block) == DM_CHAIN_ABSENT)
			ret = copy_run(c, block, next);
	}
	work_end();
	return ret ? ret : end_batch(c);
}

int rebase_copy(struct rebase_copy *r)
{
	struct copying c = { .r = r };
	int ret = imgmap_load(&c.map, r->img);

	if (ret)
		return ret;
	if (c.map.damaged || c.map.damaged_presence)
		ret = msg_fail(EXIT_IMAGE,
			       "%s: its map is damaged; dmchain check --repair first",
			       r->img->label);
	if (!ret)
		ret = presence_load(&c.presence, r->img);
	if (!ret)
		ret = copy_all(&c);
	presence_free(&c.presence);
	imgmap_free(&c.map);
	return ret;
}
