// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guest I/O: what becomes of a bio.
 *
 * A read goes to who owns its first block, cut to the run of that owner. A
 * write to blocks that the top holds goes there in place. A write of whole
 * blocks that it doesn't hold goes there, too, under a block lock, and the map
 * says so when the data has been written. What has to wait, or to read first,
 * goes to the slow path (dm-chain-slow.c). Zeroing whole blocks changes the
 * map; where there was data, zeroes are written before, in the way that lets the
 * device give up the space.
 *
 * Nothing here sleeps, and nothing is allocated in a way that could.
 *
 * Locking: a hit takes no lock. Block locks (dm-chain-lock.c) exclude from each
 * other what changes the state of a block: first writes, copy-ups, zeroing. A
 * copy-up that ran beside a discard would bring back what was discarded; one
 * beside a first write would bury it.
 *
 * Crash order: data first. The state turns to data, and the group gets dirty,
 * when the write has completed and before the lock goes and the bio ends: a
 * flush that arrives later takes it along. A FUA write ends when a round has
 * made its state durable; it passes straight down only if its blocks' states
 * are durable already and no lock says that they might just be changing.
 *
 * Space is given back before the state says zero, and so before that is durable: a cut
 * finds data of before, or zeroes, sector by sector, which is what a discard under
 * way may leave. For the same reason reads and writes in place need not be waited
 * for. A REQ_OP_DISCARD, of which a device may make anything, would have to wait for both.
 */
#include "dm-chain.h"
#include "trace.h"

/* --- Ends of a bio --- */

int chain_remap(struct chain_att *att, struct bio *bio)
{
	if (!chain_allowed(att, CHAIN_GUEST, bio->bi_opf)) {
		bio_io_error(bio);
		return DM_MAPIO_SUBMITTED;
	}
	trace_dm_chain_io(bio, att->bdev->bd_dev, CHAIN_TO_LAYER);
	bio_set_dev(bio, att->bdev);
	bio->bi_iter.bi_sector += att->data_sector;
	return DM_MAPIO_REMAPPED;
}

static int end(struct bio *bio, blk_status_t status)
{
	if (status)
		trace_dm_chain_io(bio, 0, CHAIN_FAILED);
	bio->bi_status = status;
	bio_endio(bio);
	return DM_MAPIO_SUBMITTED;
}

static int read_zeroes(struct bio *bio)
{
	trace_dm_chain_io(bio, 0, CHAIN_ZEROES);
	zero_fill_bio(bio);
	return end(bio, BLK_STS_OK);
}

static int defer(struct chain_inst *ci, struct bio *bio)
{
	if (bio->bi_opf & REQ_NOWAIT) {
		chain_gave_up(ci->disk);
		bio_wouldblock_error(bio);
		return DM_MAPIO_SUBMITTED;
	}
	trace_dm_chain_io(bio, 0, CHAIN_DEFERRED);
	chain_defer(ci, bio);
	return DM_MAPIO_SUBMITTED;
}

void chain_unlock_blocks(struct chain_disk *disk, u64 block, u32 n)
{
	if (unlikely(chain_locks_release(&disk->locks, block, n)))
		chain_unpark(disk);
}

void chain_end_write(struct chain_att *att, struct bio *bio, bool fua)
{
	if (!fua || bio->bi_status) {
		bio_endio(bio);
		return;
	}
	chain_bio(bio)->then = NULL;
	chain_meta_flush(att->layer, chain_bio(bio), false);
}

/* --- Writes that do something at their end --- */

static void write_end_io(struct bio *bio)
{
	struct chain_bio *cb = chain_bio(bio);
	struct chain_inst *ci = cb->inst;

	bio->bi_end_io = cb->end_io;
	bio->bi_private = cb->private;
	if (cb->nr && cb->state == DM_CHAIN_ZERO) {
		/* What can't be given back is just not given back. */
		bio->bi_status = BLK_STS_OK;
		bio->bi_opf = cb->opf;
	}
	if (cb->nr && !bio->bi_status)
		chain_meta_set(cb->att->layer, cb->block, cb->nr, cb->state);
	if (cb->nr_locked)
		chain_unlock_blocks(ci->disk, cb->lock, cb->nr_locked);
	chain_end_write(cb->att, bio, cb->fua);
}

void chain_hook_write(struct chain_inst *ci, struct chain_att *att,
		      struct bio *bio, u64 block, u32 nr, u64 lock,
		      u32 nr_locked)
{
	struct chain_bio *cb = chain_bio(bio);

	cb->inst = ci;
	cb->att = att;
	cb->block = block;
	cb->nr = nr;
	cb->state = DM_CHAIN_DATA;
	cb->lock = lock;
	cb->nr_locked = nr_locked;
	cb->end_io = bio->bi_end_io;
	cb->private = bio->bi_private;
	bio->bi_end_io = write_end_io;
	/* A raw layer has no map to wait for. */
	cb->fua = bio->bi_opf & REQ_FUA && att->layer->meta;
	if (cb->fua)
		bio->bi_opf &= ~REQ_FUA;
}

static bool durable(struct chain_inst *ci, u64 block, u32 n)
{
	struct chain_layer *l = chain_top(ci)->layer;
	u64 b;

	if (n > CHAIN_LOCK_BLOCKS)
		return false;
	/* Who has a lock has set a state, maybe, and not yet said so. */
	if (!chain_locks_try(&ci->disk->locks, block, n)) {
		chain_gave_up(ci->disk);
		return false;
	}
	chain_unlock_blocks(ci->disk, block, n);
	for (b = block; b < block + n; b += DM_CHAIN_GROUP_BLOCKS)
		if (!chain_meta_durable(l, b))
			return false;
	return chain_meta_durable(l, block + n - 1);
}

static int write_in_place(struct chain_inst *ci, struct bio *bio, u64 block,
			  u32 n)
{
	if (unlikely(bio->bi_opf & REQ_FUA) && !durable(ci, block, n))
		chain_hook_write(ci, chain_top(ci), bio, 0, 0, 0, 0);
	return chain_remap(chain_top(ci), bio);
}

/* Whole blocks that the top doesn't hold. */
static int first_write(struct chain_inst *ci, struct bio *bio, u64 block, u32 n)
{
	struct chain_layer *l = chain_top(ci)->layer;

	if (unlikely(!chain_locks_try(&ci->disk->locks, block, n)))
		return defer(ci, bio);
	if (unlikely(chain_statemap_prepare(&l->map, block, n, DM_CHAIN_DATA,
					    GFP_NOWAIT | __GFP_NOWARN))) {
		chain_unlock_blocks(ci->disk, block, n);
		return defer(ci, bio);
	}
	chain_hook_write(ci, chain_top(ci), bio, block, n, block, n);
	return chain_remap(chain_top(ci), bio);
}

/* --- By operation --- */

/* State of the first block of a bio, and how many sectors share it. */
static sector_t top_run(const struct chain_layer *l, const struct bio *bio,
			unsigned int *state)
{
	sector_t sector = bio->bi_iter.bi_sector, n = bio_sectors(bio);
	sector_t into = sector & (block_sectors(l) - 1);
	u64 block = sector_to_block(l, sector);

	if (likely(into + n <= block_sectors(l))) {
		*state = chain_statemap_get(&l->map, block);
		return n;
	}
	return min(n, block_to_sector(l, chain_statemap_run(&l->map, block,
			sector_to_block(l, into + n - 1) + 1, state)) - into);
}

static int read_below(struct chain_inst *ci, struct bio *bio)
{
	struct chain_att *owner;
	unsigned int state;

	chain_clip(bio, chain_below(ci, bio->bi_iter.bi_sector,
				    bio_sectors(bio), &owner, &state));
	if (state == DM_CHAIN_DATA)
		return chain_remap(owner, bio);
	if (state == DM_CHAIN_ZERO)
		return read_zeroes(bio);
	return end(bio, BLK_STS_IOERR);
}

static noinline int read_any(struct chain_inst *ci, struct bio *bio)
{
	struct chain_att *top = chain_top(ci);
	unsigned int state;

	chain_clip(bio, top_run(top->layer, bio, &state));
	switch (state) {
	case DM_CHAIN_DATA:
		return chain_remap(top, bio);
	case DM_CHAIN_ABSENT:
		return read_below(ci, bio);
	case DM_CHAIN_ZERO:
		return read_zeroes(bio);
	}
	return end(bio, BLK_STS_IOERR);
}

/*
 * Most I/O lies in one unit, and so in one block, that has data somewhere. That is
 * told from the rest first, by functions that need no stack.
 */
static bool in_unit(const struct bio *bio)
{
	sector_t sector = bio->bi_iter.bi_sector;

	return !((sector ^ (sector + bio_sectors(bio) - 1)) &
		 ~(sector_t)(CHAIN_UNIT_SECTORS - 1));
}

static unsigned int top_state(const struct chain_layer *l, const struct bio *bio)
{
	return chain_statemap_get(&l->map, sector_to_block(l, bio->bi_iter.bi_sector));
}

/* Who has a unit that the top lacks, if that is easily told; else NULL. */
static struct chain_att *unit_below(struct chain_inst *ci, const struct bio *bio)
{
	sector_t sector = bio->bi_iter.bi_sector;
	u16 slot;

	if (ci->nr <= 2 || sector + bio_sectors(bio) > chain_top(ci)->layer->limit)
		return NULL;
	/* Pairs with the release in merge_layer(). */
	if (smp_load_acquire(&ci->disk->unmerged))
		return NULL;
	slot = chain_merge_owner(ci->disk->merge, sector / CHAIN_UNIT_SECTORS);
	return likely(slot <= CHAIN_OWNER_MAX) ? ci->by_slot[slot] : NULL;
}

static int map_read(struct chain_inst *ci, struct bio *bio)
{
	struct chain_att *owner = chain_top(ci);
	unsigned int state;

	if (owner->layer->format == DM_CHAIN_FORMAT_RAW)
		return chain_remap(owner, bio);
	if (unlikely(!in_unit(bio)))
		return read_any(ci, bio);
	state = top_state(owner->layer, bio);
	if (state == DM_CHAIN_ABSENT)
		owner = unit_below(ci, bio);
	else if (state != DM_CHAIN_DATA)
		owner = NULL;
	return likely(owner) ? chain_remap(owner, bio) : read_any(ci, bio);
}

static noinline int write_any(struct chain_inst *ci, struct bio *bio)
{
	const struct chain_layer *l = chain_top(ci)->layer;
	sector_t into = bio->bi_iter.bi_sector & (block_sectors(l) - 1);
	u64 block = sector_to_block(l, bio->bi_iter.bi_sector);
	unsigned int state;

	chain_clip(bio, top_run(l, bio, &state));
	if (likely(state == DM_CHAIN_DATA))
		return write_in_place(ci, bio, block,
				      sector_to_block(l, into + bio_sectors(bio) - 1) + 1);
	if (state == DM_CHAIN_DAMAGED)
		return end(bio, BLK_STS_IOERR);
	if (!into && bio_sectors(bio) >= block_sectors(l)) {
		u32 n = min_t(u64, sector_to_block(l, bio_sectors(bio)),
			      CHAIN_LOCK_BLOCKS);

		chain_clip(bio, block_to_sector(l, n));
		return first_write(ci, bio, block, n);
	}
	chain_clip(bio, block_sectors(l) - into);
	return defer(ci, bio);
}

static int map_write(struct chain_inst *ci, struct bio *bio)
{
	struct chain_att *top = chain_top(ci);

	if (likely(in_unit(bio) && top_state(top->layer, bio) == DM_CHAIN_DATA &&
		   !(bio->bi_opf & REQ_FUA)))
		return chain_remap(top, bio);
	return write_any(ci, bio);
}

/*
 * Blocks from @block on that already show zeroes below: they need no map
 * sector. 0: the first one doesn't.
 */
static u64 zeroes_below(struct chain_inst *ci, u64 block, u64 n)
{
	struct chain_layer *l = chain_top(ci)->layer;
	struct chain_att *owner;
	unsigned int state;
	sector_t s;

	s = chain_below(ci, block_to_sector(l, block), block_to_sector(l, n),
			&owner, &state);
	return state == DM_CHAIN_ZERO ? sector_to_block(l, s) : 0;
}

/* Who zeroes may want the space to stay. */
static bool may_punch(const struct chain_inst *ci, const struct bio *bio)
{
	return !(bio->bi_opf & REQ_NOUNMAP) && chain_can_punch(chain_top(ci));
}

void chain_clip_punch(const struct chain_inst *ci, struct bio *bio)
{
	const struct chain_layer *l = chain_top(ci)->layer;
	sector_t into = bio->bi_iter.bi_sector & (block_sectors(l) - 1);

	if (bio_op(bio) != REQ_OP_WRITE && may_punch(ci, bio))
		chain_clip(bio, block_to_sector(l, CHAIN_PUNCH_BLOCKS) +
				(into ? block_sectors(l) - into : 0));
}

static void punch_blocks(struct chain_inst *ci, u64 block, u64 n)
{
	const struct chain_layer *l = chain_top(ci)->layer;
	sector_t sector = block_to_sector(l, block);

	/* The last block may end behind the layer. */
	chain_punch(chain_top(ci), sector,
		    min(block_to_sector(l, n), l->size - sector));
}

int chain_zero_blocks(struct chain_inst *ci, const struct bio *bio, u64 block,
		      u64 n, gfp_t gfp)
{
	bool punch = gfpflags_allow_blocking(gfp) && may_punch(ci, bio);
	struct chain_layer *l = chain_top(ci)->layer;
	unsigned int state;
	u64 run, skip;
	int r;

	for (; n; block += run, n -= run) {
		run = chain_statemap_run(&l->map, block, n, &state);
		/* A discard is a hint; who wants zeroes written is told. */
		if (state == DM_CHAIN_DAMAGED && bio_op(bio) != REQ_OP_DISCARD)
			return -EIO;
		if (state == DM_CHAIN_ZERO || state == DM_CHAIN_DAMAGED)
			continue;
		if (state == DM_CHAIN_ABSENT) {
			skip = zeroes_below(ci, block, run);
			run = skip ?: 1;
			if (skip)
				continue;
		}
		r = chain_statemap_prepare(&l->map, block, run, DM_CHAIN_ZERO, gfp);
		if (r)
			return r;
		if (state == DM_CHAIN_DATA && punch)
			punch_blocks(ci, block, run);
		chain_meta_set(l, block, run, DM_CHAIN_ZERO);
	}
	return 0;
}

void chain_zero_range(const struct chain_layer *l, const struct bio *bio,
		      u64 *block, u64 *n)
{
	sector_t sector = bio->bi_iter.bi_sector;
	sector_t last = sector + bio_sectors(bio);
	u64 stop = last >= l->size ? l->map.blocks : sector_to_block(l, last);

	*block = sector_to_block(l, sector + block_sectors(l) - 1);
	*n = stop > *block ? stop - *block : 0;
}

/* No more whole blocks than one call may lock. */
static void clip_zero(const struct chain_layer *l, struct bio *bio, u64 *block, u64 *n)
{
	chain_zero_range(l, bio, block, n);
	if (*n <= CHAIN_LOCK_BLOCKS)
		return;
	*n = CHAIN_LOCK_BLOCKS;
	chain_clip(bio, block_to_sector(l, *block + *n) - bio->bi_iter.bi_sector);
}

/* Blocks that have data, all of them: the bio has nothing else in it. */
static int zero_data(struct chain_inst *ci, struct bio *bio, u64 block, u64 n)
{
	struct chain_att *top = chain_top(ci);
	struct chain_layer *l = top->layer;
	unsigned int state;

	if (!chain_locks_try(&ci->disk->locks, block, n))
		return defer(ci, bio);
	/* What they have under the lock stays until we set it. */
	if (chain_statemap_run(&l->map, block, n, &state) < n ||
	    state != DM_CHAIN_DATA ||
	    chain_statemap_prepare(&l->map, block, n, DM_CHAIN_ZERO,
				   GFP_NOWAIT | __GFP_NOWARN)) {
		chain_unlock_blocks(ci->disk, block, n);
		return defer(ci, bio);
	}
	chain_hook_write(ci, top, bio, block, n, block, n);
	chain_bio(bio)->state = DM_CHAIN_ZERO;
	chain_bio(bio)->opf = bio->bi_opf;
	bio->bi_opf = (bio->bi_opf & ~REQ_OP_MASK) | REQ_OP_WRITE_ZEROES;
	return chain_remap(top, bio);
}

static int zero_in_map(struct chain_inst *ci, struct bio *bio, u64 block, u64 n)
{
	int r;

	if (!chain_locks_try(&ci->disk->locks, block, n))
		return defer(ci, bio);
	r = chain_zero_blocks(ci, bio, block, n, GFP_NOWAIT | __GFP_NOWARN);
	chain_unlock_blocks(ci->disk, block, n);
	if (r)
		return defer(ci, bio);
	trace_dm_chain_io(bio, chain_top(ci)->bdev->bd_dev, CHAIN_MAP_ONLY);
	chain_end_write(chain_top(ci), bio, bio->bi_opf & REQ_FUA);
	return DM_MAPIO_SUBMITTED;
}

/* The whole blocks in a discard, or a write-zeroes of whole blocks. */
static int map_zero(struct chain_inst *ci, struct bio *bio)
{
	struct chain_layer *l = chain_top(ci)->layer;
	unsigned int state;
	sector_t head;
	u64 block, n;

	clip_zero(l, bio, &block, &n);
	if (!n)
		return end(bio, BLK_STS_OK);
	if (!may_punch(ci, bio))
		return zero_in_map(ci, bio, block, n);
	head = block_to_sector(l, block) - bio->bi_iter.bi_sector;
	if (head) {
		chain_clip(bio, head);
		return end(bio, BLK_STS_OK);
	}
	n = chain_statemap_run(&l->map, block, n, &state);
	if (state == DM_CHAIN_DATA)
		n = min_t(u64, n, CHAIN_PUNCH_BLOCKS);
	chain_clip(bio, block_to_sector(l, n));
	return state == DM_CHAIN_DATA ? zero_data(ci, bio, block, n) :
					zero_in_map(ci, bio, block, n);
}

/*
 * A write-zeroes that covers no whole block, or the head of a longer one. The
 * zeroes are written, also to a block in place: the device below need not know
 * write-zeroes, and may find out only now.
 */
static int zero_edge(struct chain_inst *ci, struct bio *bio)
{
	struct chain_layer *l = chain_top(ci)->layer;
	u64 block = sector_to_block(l, bio->bi_iter.bi_sector);

	if (chain_statemap_get(&l->map, block) == DM_CHAIN_DAMAGED)
		return end(bio, BLK_STS_IOERR);
	return defer(ci, bio);
}

static int map_write_zeroes(struct chain_inst *ci, struct bio *bio)
{
	const struct chain_layer *l = chain_top(ci)->layer;
	sector_t into = bio->bi_iter.bi_sector & (block_sectors(l) - 1);
	sector_t n = bio_sectors(bio);
	unsigned int state;

	if (into || n < block_sectors(l)) {
		chain_clip(bio, block_sectors(l) - into);
		return zero_edge(ci, bio);
	}
	chain_clip(bio, n & ~(sector_t)(block_sectors(l) - 1));
	chain_clip(bio, top_run(l, bio, &state));
	if (state == DM_CHAIN_DAMAGED)
		return end(bio, BLK_STS_IOERR);
	return map_zero(ci, bio);
}

/*
 * What it was to make durable may be gone, also of a first write that ended since: a
 * round must not tell of that, and is not to come.
 */
static void flush_end_io(struct bio *bio)
{
	struct chain_bio *cb = chain_bio(bio);

	bio->bi_end_io = cb->end_io;
	bio->bi_private = cb->private;
	if (bio->bi_status)
		chain_layer_fail(cb->att->layer, "flush",
				 blk_status_to_errno(bio->bi_status));
	bio_endio(bio);
}

static int pass_flush(struct chain_att *top, struct bio *bio)
{
	struct chain_bio *cb = chain_bio(bio);

	if (top->layer->meta) {
		cb->att = top;
		cb->end_io = bio->bi_end_io;
		cb->private = bio->bi_private;
		bio->bi_end_io = flush_end_io;
	}
	bio_set_dev(bio, top->bdev);
	return DM_MAPIO_REMAPPED;
}

static int map_flush(struct chain_inst *ci, struct bio *bio)
{
	struct chain_att *top = chain_top(ci);

	/* A device opened read-only has nothing of ours to flush. */
	if (!chain_guest_rw(top))
		return end(bio, BLK_STS_OK);
	if (unlikely(ci->disk->mirror)) {
		chain_bio(bio)->missed = false;
		chain_flush_both(ci, bio);
		return DM_MAPIO_SUBMITTED;
	}
	chain_bio(bio)->then = NULL;
	if (unlikely(ci->disk->route_flush)) {
		chain_bio(bio)->inst = ci;
		chain_bio(bio)->then = chain_flush_base;
		chain_meta_flush(top->layer, chain_bio(bio), false);
		return DM_MAPIO_SUBMITTED;
	}
	if (top->layer->meta && chain_meta_flush(top->layer, chain_bio(bio), true))
		return DM_MAPIO_SUBMITTED;
	return pass_flush(top, bio);
}

/*
 * The base of a commit may have become the top, and no table been loaded that
 * tells of its limits: what is discarded must read zeroes, there it would not.
 */
static int map_raw(struct chain_inst *ci, struct bio *bio)
{
	if (bio_op(bio) == REQ_OP_DISCARD)
		return end(bio, BLK_STS_NOTSUPP);
	return chain_remap(chain_top(ci), bio);
}

static bool writes_refused(const struct chain_inst *ci)
{
	const struct chain_att *top = chain_top(ci);

	return READ_ONCE(top->layer->failed) || READ_ONCE(ci->disk->failed);
}

/* --- Before the maps have been read --- */

sector_t chain_touched(const struct chain_inst *ci, const struct bio *bio,
		       sector_t *from)
{
	sector_t block = block_sectors(chain_top(ci)->layer);

	*from = round_down(bio->bi_iter.bi_sector, block);
	return round_up(bio_end_sector(bio), block) - *from;
}

/* Within a unit a layer has one state, but where it ends, or what it shows through. */
static void clip_read(const struct chain_inst *ci, struct bio *bio)
{
	sector_t sector = bio->bi_iter.bi_sector;
	unsigned int i;

	chain_clip(bio, CHAIN_UNIT_SECTORS - sector % CHAIN_UNIT_SECTORS);
	for (i = 0; i < ci->nr; i++) {
		const struct chain_layer *l = ci->order[i]->layer;

		if (l->size > sector)
			chain_clip(bio, l->size - sector);
		if (l->limit > sector)
			chain_clip(bio, l->limit - sector);
	}
}

static void clip_write(const struct chain_layer *l, struct bio *bio)
{
	sector_t into = bio->bi_iter.bi_sector & (block_sectors(l) - 1);
	u64 n = sector_to_block(l, bio_sectors(bio));

	if (into || !n)
		chain_clip(bio, block_sectors(l) - into);
	else
		chain_clip(bio, block_to_sector(l, min_t(u64, n, CHAIN_LOCK_BLOCKS)));
}

/*
 * A bio whose maps are unread can't be cut to a run of one state: it is cut so that
 * the slow path needs no cut. false: they are read, or not asked.
 */
static noinline bool wait_for_map(struct chain_inst *ci, struct bio *bio)
{
	const struct chain_layer *l = chain_top(ci)->layer;
	sector_t from, n = chain_touched(ci, bio, &from);
	u64 block, blocks;

	if (chain_range_read(ci, from, n))
		return false;
	switch (bio_op(bio)) {
	case REQ_OP_READ:
		clip_read(ci, bio);
		break;
	case REQ_OP_DISCARD:
		clip_zero(l, bio, &block, &blocks);
		if (!blocks)
			return false;
		chain_clip_punch(ci, bio);
		break;
	default:
		clip_write(l, bio);
		chain_clip_punch(ci, bio);
	}
	defer(ci, bio);
	return true;
}

static bool unread(const struct chain_inst *ci)
{
	/* Pairs with the release in chain_read_more(). */
	return smp_load_acquire(&ci->disk->unread);
}

/*
 * Has what it changes to be flagged first? That is asked before it is deferred for
 * anything: the slow path doesn't ask. A mirror does so by itself; of a disk that is
 * committed there is none to go on with.
 */
static bool unflagged(const struct chain_inst *ci, struct bio *bio)
{
	const struct chain_disk *disk = ci->disk;

	if (likely(!disk->tracking) || disk->mirror || disk->route)
		return false;
	chain_clip_flag(chain_top(ci)->layer, bio);
	return !chain_is_flagged(ci, bio->bi_iter.bi_sector);
}

static noinline int map_change(struct chain_inst *ci, struct bio *bio)
{
	if (unlikely(writes_refused(ci)))
		return end(bio, BLK_STS_IOERR);
	if (unlikely(bio->bi_opf & REQ_PREFLUSH))
		return map_flush(ci, bio);
	if (!chain_guest_rw(chain_top(ci)))
		return DM_MAPIO_KILL;
	if (unflagged(ci, bio))
		return chain_map_track(ci, bio);
	if (unlikely(unread(ci)) && wait_for_map(ci, bio))
		return DM_MAPIO_SUBMITTED;
	if (unlikely(ci->disk->mirror))
		return chain_map_both(ci, bio);
	if (chain_top(ci)->layer->format == DM_CHAIN_FORMAT_RAW)
		return map_raw(ci, bio);
	if (unlikely(ci->disk->route))
		return chain_map_route(ci, bio);
	switch (bio_op(bio)) {
	case REQ_OP_WRITE:
		return map_write(ci, bio);
	case REQ_OP_DISCARD:
		return map_zero(ci, bio);
	case REQ_OP_WRITE_ZEROES:
		return map_write_zeroes(ci, bio);
	default:
		return DM_MAPIO_KILL;
	}
}

int chain_map(struct dm_target *ti, struct bio *bio)
{
	struct chain_inst *ci = ti->private;

	if (bio_op(bio) != REQ_OP_READ)
		return map_change(ci, bio);
	if (unlikely(unread(ci)) && wait_for_map(ci, bio))
		return DM_MAPIO_SUBMITTED;
	return unlikely(ci->disk->tracked) ?
		chain_map_tracked(ci, bio, map_read) : map_read(ci, bio);
}
