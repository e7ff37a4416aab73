// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a reader of a walked chain sees: for each run of the disk the layer
 * that decides, and how.
 */
#include "dmchain.h"

#include <stdlib.h>

/**
 * struct cursor - a layer on the way through the disk
 * @map: of a chain layer
 * @lifted: in the range of a commit that isn't finished: where it ends means
 *	nothing, what reads zeroes for that is in the map of the range's top
 * @end: where the run ends that was looked up last, bytes
 * @state: of that run
 */
struct cursor {
	struct image *img;
	struct imgmap map;
	bool lifted;
	uint64_t end;
	unsigned int state;
};

static uint64_t layer_size(const struct image *img)
{
	return img->format == DM_CHAIN_FORMAT_RAW ? img->bytes : img->hdr.size;
}

/* Runs are found once, however often another layer cuts them. */
static void look_up(struct cursor *c, uint64_t pos)
{
	const struct chain_header *h = &c->img->hdr;
	uint64_t block;

	if (pos < c->end)
		return;
	if (c->img->format == DM_CHAIN_FORMAT_RAW) {
		c->state = DM_CHAIN_DATA;
		c->end = c->img->bytes;
		return;
	}
	block = pos >> h->block_shift;
	c->state = imgmap_state(&c->map, block);
	c->end = imgmap_run(&c->map, block, chain_blocks(h)) << h->block_shift;
}

static uint64_t lesser(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* As the kernel does it when it opens the chain. */
static bool is_lifted(const struct walk *w, unsigned int i)
{
	const struct chain_header *through = i ? walk_through(w, i - 1) : NULL;
	const struct image *img = &w->images[i];

	return through && img->format == DM_CHAIN_FORMAT_CHAIN &&
	       !chain_is_base(through, &img->hdr) &&
	       img->hdr.marks & DM_CHAIN_MARK_SPOILED;
}

/*
 * The extent at @pos. A layer that is absent there shows the next one up to
 * its see-through limit; above that, and behind the end of the next one, all
 * is zeroes.
 */
static void find_extent(struct cursor *c, unsigned int nr, uint64_t pos,
			struct dm_chain_extent *e)
{
	uint64_t end = layer_size(c[0].img);
	unsigned int i;

	e->start = pos;
	e->state = DM_CHAIN_ABSENT;
	for (i = 0; i < nr; i++) {
		uint64_t size = layer_size(c[i].img);

		if (pos >= size && c[i].lifted)
			continue;
		if (pos >= size)
			break;
		end = lesser(end, size);
		look_up(&c[i], pos);
		end = lesser(end, c[i].end);
		e->state = c[i].state;
		if (e->state == DM_CHAIN_ABSENT && c[i].lifted)
			continue;
		if (e->state != DM_CHAIN_ABSENT || pos >= c[i].img->hdr.limit)
			break;
		end = lesser(end, c[i].img->hdr.limit);
	}
	e->depth = e->state == DM_CHAIN_ABSENT ? nr : i;
	e->length = end - pos;
}

static int walk_extents(struct walk *w, struct cursor *c, struct extents *x)
{
	uint64_t pos = 0, size = layer_size(&w->images[0]);
	struct dm_chain_extent e;
	int ret = 0;

	while (pos < size && !ret) {
		find_extent(c, w->nr, pos, &e);
		pos += e.length;
		ret = extents_add(&e, x);
	}
	return ret ? ret : extents_end(x);
}

static int load_maps(struct walk *w, struct cursor *c)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < w->nr && !ret; i++) {
		c[i].img = &w->images[i];
		c[i].lifted = is_lifted(w, i);
		if (c[i].img->format == DM_CHAIN_FORMAT_CHAIN)
			ret = imgmap_load(&c[i].map, c[i].img);
	}
	return ret;
}

int walk_map(struct walk *w, int (*cb)(const struct dm_chain_extent *e, void *arg),
	     void *arg)
{
	struct cursor *c = calloc(w->nr, sizeof(*c));
	struct extents x = { .cb = cb, .arg = arg };
	unsigned int i;
	int ret;

	if (!c)
		return msg_fail(EXIT_FAILED, "out of memory for the map");
	ret = load_maps(w, c);
	if (!ret)
		ret = walk_extents(w, c, &x);
	for (i = 0; i < w->nr; i++)
		imgmap_free(&c[i].map);
	free(c);
	return ret;
}

int extents_add(const struct dm_chain_extent *e, void *arg)
{
	struct extents *x = arg;
	struct dm_chain_extent last = x->last;

	if (last.length && last.start + last.length == e->start &&
	    last.depth == e->depth && last.state == e->state) {
		x->last.length += e->length;
		return 0;
	}
	x->last = *e;
	return last.length ? x->cb(&last, x->arg) : 0;
}

int extents_end(struct extents *x)
{
	struct dm_chain_extent last = x->last;

	x->last.length = 0;
	return last.length ? x->cb(&last, x->arg) : 0;
}
