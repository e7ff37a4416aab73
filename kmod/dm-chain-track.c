// SPDX-License-Identifier: GPL-2.0-only
/*
 * Change tracking: what has been written since a mirror was begun, so that it can go
 * on where it was cut off. A flag for each sector of the map of the top (1024
 * blocks), in that sector.
 *
 * Crash order: the flag is durable before the first write to its blocks is
 * submitted; the opposite of a state, which follows its data. So it may say too
 * much, never too little. It goes out with a round, as states do. Flags are cleared
 * only while the disk is suspended (dm-chain-mirror.c): a write that has found its
 * flag durable needs no lock to rely on it.
 *
 * Whether they are right says the header: the record of a mirror with the layer's
 * own content id. Each opening for writing renews that; whoever changes the layer
 * without tracking changes the content id alone.
 *
 * Locking: bits, set under meta->lock together with the group's dirty bit. Nothing
 * here waits; a bio waits for its flag in the meta's list of waiters.
 *
 * Failure: with a round the layer fails, and so do the bios.
 */
#include <linux/vmalloc.h>

#include "dm-chain.h"

static u64 sectors_of(const struct chain_layer *l)
{
	return chain_blocks_to_groups(l->map.blocks) * DM_CHAIN_GROUP_SECTORS;
}

int chain_track_alloc(const struct chain_layer *l, unsigned long **track,
		      unsigned long **tracked)
{
	u64 longs = BITS_TO_LONGS(sectors_of(l));

	*track = kvcalloc(longs, sizeof(long), GFP_KERNEL);
	*tracked = kvcalloc(longs, sizeof(long), GFP_KERNEL);
	return *track && *tracked ? 0 : -ENOMEM;
}

static u64 sector_of(const struct chain_layer *l, const struct bio *bio)
{
	return sector_to_block(l, bio->bi_iter.bi_sector) / DM_CHAIN_SECTOR_BLOCKS;
}

void chain_clip_flag(const struct chain_layer *l, struct bio *bio)
{
	sector_t span = block_to_sector(l, DM_CHAIN_SECTOR_BLOCKS);

	chain_clip(bio, span - (bio->bi_iter.bi_sector & (span - 1)));
}

void chain_flag(struct chain_inst *ci, struct bio *bio,
		void (*then)(struct chain_bio *cb, blk_status_t status))
{
	struct chain_layer *l = chain_top(ci)->layer;
	struct chain_bio *cb = chain_bio(bio);

	cb->inst = ci;
	cb->then = then;
	chain_meta_flag(l, sector_of(l, bio), true);
	/* The round that it waits for begins after this. */
	chain_meta_flush(l, cb, false);
}

/* Nothing has cleared it meanwhile: that needs a suspend, which waits for bios. */
void chain_flagged(struct chain_bio *cb)
{
	struct chain_layer *l = chain_top(cb->inst)->layer;

	set_bit(sector_of(l, chain_bio_to_bio(cb)), l->tracked);
}

/* --- Of a disk that is not mirrored just now --- */

static void write_it(struct chain_bio *cb, blk_status_t status)
{
	struct bio *bio = chain_bio_to_bio(cb);

	cb->then = NULL;
	if (status) {
		bio->bi_status = status;
		bio_endio(bio);
		return;
	}
	chain_flagged(cb);
	chain_defer(cb->inst, bio);
}

static int end(struct bio *bio, blk_status_t status)
{
	bio->bi_status = status;
	bio_endio(bio);
	return DM_MAPIO_SUBMITTED;
}

/* As much as the slow path takes at a time; 0: there is nothing to write. */
static sector_t cut(const struct chain_layer *l, struct bio *bio,
		    unsigned int *state)
{
	sector_t into = bio->bi_iter.bi_sector & (block_sectors(l) - 1);
	sector_t n = bio_sectors(bio);
	u64 block, blocks;

	*state = DM_CHAIN_ABSENT;
	/* Of one state, as it is now; but by then it may be another one. */
	if (bio_op(bio) == REQ_OP_WRITE)
		n = chain_one_run(l, bio, state);
	if (bio_op(bio) != REQ_OP_DISCARD)
		return into || n < block_sectors(l) ?
		       min(n, block_sectors(l) - into) :
		       round_down(n, block_sectors(l));
	chain_zero_range(l, bio, &block, &blocks);
	return blocks ? n : 0;
}

int chain_map_track(struct chain_inst *ci, struct bio *bio)
{
	const struct chain_layer *l = chain_top(ci)->layer;
	unsigned int state;
	sector_t n;

	if (bio->bi_opf & REQ_NOWAIT) {
		bio_wouldblock_error(bio);
		return DM_MAPIO_SUBMITTED;
	}
	if (bio_op(bio) != REQ_OP_WRITE && bio_op(bio) != REQ_OP_DISCARD &&
	    bio_op(bio) != REQ_OP_WRITE_ZEROES)
		return DM_MAPIO_KILL;
	n = cut(l, bio, &state);
	if (!n)
		return end(bio, BLK_STS_OK);
	if (state == DM_CHAIN_DAMAGED)
		return end(bio, BLK_STS_IOERR);
	chain_clip(bio, n);
	chain_flag(ci, bio, write_it);
	return DM_MAPIO_SUBMITTED;
}
