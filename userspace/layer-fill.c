// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The map of a layer that is made in one go, from its start to its end.
 *
 * Nobody can take the layer for one before its header is there, so the order of
 * writes doesn't matter until then: one flush of all is enough.
 */
#include "convert.h"

#include <stdlib.h>
#include <string.h>

int layer_fill_begin(struct layer_fill *f, struct image *img)
{
	memset(f, 0, sizeof(*f));
	f->img = img;
	f->presence.sectors = chain_presence_sectors(&img->hdr);
	f->presence.words = calloc(f->presence.sectors * CHAIN_SECTOR_WORDS,
				   sizeof(*f->presence.words));
	return f->presence.words ? 0 :
	       msg_fail(EXIT_FAILED, "%s: out of memory", img->label);
}

void layer_fill_free(struct layer_fill *f)
{
	presence_free(&f->presence);
}

/* The group is complete: on to another one. */
static int end_group(struct layer_fill *f, uint64_t next)
{
	struct map_group *g = &f->group;
	int ret = 0;

	if (g->present) {
		ret = map_group_write(f->img, g);
		f->presence.words[g->index / 64] |= 1ULL << (g->index % 64);
	}
	memset(g, 0, sizeof(*g));
	g->index = next;
	return ret;
}

/* Whole words at once: a zero extent can have billions of blocks. */
static void put_states(struct map_group *g, uint64_t at, uint64_t nr,
		       unsigned int state)
{
	g->present = true;
	while (nr) {
		uint64_t n = 1;

		if (at % CHAIN_STATES_PER_WORD == 0 &&
		    nr >= CHAIN_STATES_PER_WORD) {
			n = CHAIN_STATES_PER_WORD;
			g->words[at / n] = state * 0x5555555555555555ULL;
		} else {
			chain_state_put(g->words, at, state);
		}
		at += n;
		nr -= n;
	}
}

int layer_fill_states(struct layer_fill *f, uint64_t block, uint64_t nr,
		      unsigned int state)
{
	uint64_t bytes = nr << f->img->hdr.block_shift;
	int ret = 0;

	*(state == DM_CHAIN_DATA ? &f->data_bytes : &f->zero_bytes) += bytes;
	while (nr && !ret) {
		uint64_t at = block % DM_CHAIN_GROUP_BLOCKS;
		uint64_t n = DM_CHAIN_GROUP_BLOCKS - at;

		if (n > nr)
			n = nr;
		if (f->group.index != block / DM_CHAIN_GROUP_BLOCKS)
			ret = end_group(f, block / DM_CHAIN_GROUP_BLOCKS);
		put_states(&f->group, at, n, state);
		block += n;
		nr -= n;
	}
	return ret;
}

int layer_fill_end(struct layer_fill *f)
{
	const uint64_t *words = f->presence.words;
	int ret = end_group(f, 0);
	uint64_t i;

	for (i = 0; i < f->presence.sectors && !ret; i++)
		if (!all_zero((const uint8_t *)(words + i * CHAIN_SECTOR_WORDS),
			      CHAIN_SECTOR_WORDS * sizeof(*words)))
			ret = presence_write(f->img, &f->presence, i);
	return ret ? ret : image_flush(f->img);
}
