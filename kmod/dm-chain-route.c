// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guest I/O while the active layer is committed into its base.
 *
 * A block of the top that it holds, or a layer between it and the base, is
 * written at the top, as ever. All others are written at the base, so that what
 * is held only shrinks. "Block" is the top's: if any part of one is held, all
 * of it is written at the top. Else a copy-up of one part could read another
 * part from the base before a write to that has landed there, and bury it.
 *
 * Straight from map() go writes to what nobody above the base holds and the base
 * has as data, if their blocks can be locked at once: the top may take another
 * write to the same block, that the base has refused, and what the copy-up for it
 * reads from the base must have landed there. All else goes to a worker, which
 * waits for the lock, and looks again: that keeps the job from moving blocks under
 * a write in place, and other writes from the same block of the base. Its lock is
 * for as many blocks of the top as make up the largest block of all layers.
 *
 * A flush covers the top, then the base. So does a FUA write that went to both.
 *
 * A job must not make a guest's write fail. If the base refuses one (it has no
 * space, say) the top takes it, as if it had held the block, and the job has
 * one more block to move.
 *
 * Reads are counted while a commit runs, the active one or another: the space
 * that it gives back may be that which a read was sent to.
 */
#include <linux/sched/mm.h>

#include "dm-chain.h"

static int end(struct bio *bio, blk_status_t status)
{
	bio->bi_status = status;
	bio_endio(bio);
	return DM_MAPIO_SUBMITTED;
}

static struct chain_att *base_of(const struct chain_inst *ci)
{
	return ci->order[ci->disk->route];
}

static bool is_raw(const struct chain_att *att)
{
	return att->layer->format == DM_CHAIN_FORMAT_RAW;
}

/* Sectors of the largest block from the top to the base. */
static sector_t cell(const struct chain_inst *ci)
{
	sector_t n = CHAIN_UNIT_SECTORS;
	unsigned int i;

	for (i = 0; i <= ci->disk->route; i++)
		if (!is_raw(ci->order[i]))
			n = max_t(sector_t, n, block_sectors(ci->order[i]->layer));
	return n;
}

/* Whole blocks of the top around a range, within the disk. */
static void whole_blocks(const struct chain_inst *ci, sector_t *from, sector_t *to)
{
	const struct chain_layer *l = chain_top(ci)->layer;
	sector_t size = block_sectors(l);

	*from = round_down(*from, size);
	*to = min(round_up(*to, size), l->size);
}

/*
 * From a block's start on: sectors of whole blocks that nobody above the base
 * holds; 0: somebody holds the first one, or a part of it.
 */
static sector_t unheld(const struct chain_inst *ci, sector_t from, sector_t to)
{
	const struct chain_layer *l = chain_top(ci)->layer;
	struct chain_att *owner;
	unsigned int state;
	sector_t n;

	n = chain_walk(ci, 0, ci->disk->route, from, to - from, &owner, &state);
	if (state != DM_CHAIN_ABSENT)
		return 0;
	return n == to - from ? n : round_down(n, block_sectors(l));
}

/* How much of it the base has as data. */
static sector_t in_base(const struct chain_inst *ci, sector_t sector, sector_t max)
{
	struct chain_att *owner;
	unsigned int state;
	sector_t n;

	n = chain_walk(ci, ci->disk->route, ci->disk->route + 1, sector, max,
		       &owner, &state);
	return state == DM_CHAIN_DATA ? n : 0;
}

/* --- Writes to the base that may fail --- */

static void route_work(struct work_struct *work);

static void defer(struct chain_inst *ci, struct bio *bio, bool to_top)
{
	struct chain_bio *cb = chain_bio(bio);

	cb->inst = ci;
	cb->to_top = to_top;
	INIT_WORK(&cb->work, route_work);
	queue_work(ci->disk->wq, &cb->work);
}

static void base_end_io(struct bio *bio)
{
	struct chain_bio *cb = chain_bio(bio);
	struct chain_inst *ci = cb->inst;
	bool again = bio->bi_status;

	bio->bi_end_io = cb->end_io;
	bio->bi_private = cb->private;
	if (!again && cb->nr)
		chain_meta_set(cb->att->layer, cb->block, cb->nr, DM_CHAIN_DATA);
	if (cb->nr_locked)
		chain_unlock_blocks(ci->disk, cb->lock, cb->nr_locked);
	if (!again) {
		chain_end_write(cb->att, bio, cb->fua);
		return;
	}
	bio->bi_status = BLK_STS_OK;
	bio->bi_iter = cb->iter;
	if (cb->fua)
		bio->bi_opf |= REQ_FUA;
	defer(ci, bio, true);
}

static void hook_base(struct chain_inst *ci, struct bio *bio, u64 block, u32 nr,
		      u64 lock, u32 nr_locked)
{
	chain_hook_write(ci, base_of(ci), bio, block, nr, lock, nr_locked);
	chain_bio(bio)->iter = bio->bi_iter;
	bio->bi_end_io = base_end_io;
}

/* --- From map() --- */

/* The most that a worker may lock for one bio. */
static sector_t lockable(const struct chain_inst *ci)
{
	const struct chain_layer *l = chain_top(ci)->layer;

	return ((sector_t)CHAIN_LOCK_BLOCKS << l->block_sectors_shift) / 2;
}

/* How much from the bio's start on goes to the base, in place. */
static sector_t direct(const struct chain_inst *ci, const struct bio *bio)
{
	sector_t sector = bio->bi_iter.bi_sector;
	sector_t from = sector, to = bio_end_sector(bio), n;

	whole_blocks(ci, &from, &to);
	n = unheld(ci, from, to);
	if (!n)
		return 0;
	return in_base(ci, sector, min(from + n, bio_end_sector(bio)) - sector);
}

/* False: the worker waits for the lock. */
static bool lock_direct(struct chain_inst *ci, const struct bio *bio, u64 *block,
			u32 *nr)
{
	const struct chain_layer *l = chain_top(ci)->layer;

	*block = sector_to_block(l, bio->bi_iter.bi_sector);
	*nr = sector_to_block(l, bio_end_sector(bio) - 1) + 1 - *block;
	if (!chain_locks_try(&ci->disk->locks, *block, *nr))
		return false;
	/* The top may have got one of them since we have looked. */
	if (direct(ci, bio) == bio_sectors(bio))
		return true;
	chain_unlock_blocks(ci->disk, *block, *nr);
	return false;
}

static int map_write(struct chain_inst *ci, struct bio *bio)
{
	sector_t n;
	u64 block;
	u32 nr;

	chain_clip(bio, lockable(ci));
	n = direct(ci, bio);
	if (n)
		chain_clip(bio, n);
	if (!n || !lock_direct(ci, bio, &block, &nr)) {
		defer(ci, bio, false);
		return DM_MAPIO_SUBMITTED;
	}
	hook_base(ci, bio, 0, 0, block, nr);
	return chain_remap(base_of(ci), bio);
}

/* Whole blocks, or one that a write-zeroes covers in part. */
static int map_zero(struct chain_inst *ci, struct bio *bio)
{
	const struct chain_layer *l = chain_top(ci)->layer;
	sector_t into = bio->bi_iter.bi_sector & (block_sectors(l) - 1);
	sector_t n = bio_sectors(bio);
	u64 block, blocks;

	if (bio_op(bio) == REQ_OP_WRITE_ZEROES) {
		if (into || n < block_sectors(l))
			n = block_sectors(l) - into;
		else
			n = round_down(n, block_sectors(l));
	}
	chain_clip(bio, min(n, lockable(ci)));
	chain_clip_punch(ci, bio);
	chain_zero_range(l, bio, &block, &blocks);
	if (!blocks && bio_op(bio) == REQ_OP_DISCARD)
		return end(bio, BLK_STS_OK);
	defer(ci, bio, false);
	return DM_MAPIO_SUBMITTED;
}

int chain_map_route(struct chain_inst *ci, struct bio *bio)
{
	/* It may have to wait, and only a worker would know. */
	if (bio->bi_opf & REQ_NOWAIT) {
		bio_wouldblock_error(bio);
		return DM_MAPIO_SUBMITTED;
	}
	switch (bio_op(bio)) {
	case REQ_OP_WRITE:
		return map_write(ci, bio);
	case REQ_OP_DISCARD:
	case REQ_OP_WRITE_ZEROES:
		return map_zero(ci, bio);
	default:
		return DM_MAPIO_KILL;
	}
}

/* --- The worker: its blocks are locked --- */

struct locked {
	struct chain_inst *ci;
	struct bio *bio;
	u64 block;		/* of the top */
	u32 n;
	bool to_top;
};

static void unlock(const struct locked *k)
{
	chain_unlock_blocks(k->ci->disk, k->block, k->n);
}

int chain_write_top(struct chain_inst *ci, struct bio *bio, sector_t sector,
		    sector_t n)
{
	struct chain_att *top = chain_top(ci);
	u64 block = sector_to_block(top->layer, sector);
	unsigned int state = chain_statemap_get(&top->layer->map, block);

	if (state == DM_CHAIN_DAMAGED)
		return -EIO;
	if (state == DM_CHAIN_DATA)
		return chain_write_part(ci, top, bio, sector, n);
	return chain_copy_up(ci, 0, bio, block, state == DM_CHAIN_ZERO, sector,
			     sector + n);
}

/* Within a block of the base. */
static int part_to_base(const struct locked *k, sector_t sector, sector_t n)
{
	struct chain_att *base = base_of(k->ci);
	unsigned int state;
	u64 block;

	if (is_raw(base))
		return chain_write_part(k->ci, base, k->bio, sector, n);
	block = sector_to_block(base->layer, sector);
	state = chain_statemap_get(&base->layer->map, block);
	if (state == DM_CHAIN_DAMAGED)
		return -EIO;
	if (state == DM_CHAIN_DATA)
		return chain_write_part(k->ci, base, k->bio, sector, n);
	return chain_copy_up(k->ci, k->ci->disk->route, k->bio, block,
			     state == DM_CHAIN_ZERO, sector, sector + n);
}

static int write_base(const struct locked *k, sector_t sector, sector_t n)
{
	const struct chain_att *base = base_of(k->ci);
	sector_t size = is_raw(base) ? n : block_sectors(base->layer), part;
	int r = 0;

	for (; n && !r; sector += part, n -= part) {
		part = is_raw(base) ? n :
		       min(n, size - (sector & (size - 1)));
		r = part_to_base(k, sector, part);
	}
	return r;
}

/* A block of the top, or a part of one: to where it belongs. */
static int write_block(const struct locked *k, sector_t sector, sector_t n)
{
	sector_t from = sector, to = sector + n;
	int r;

	whole_blocks(k->ci, &from, &to);
	if (k->to_top || !unheld(k->ci, from, to))
		return chain_write_top(k->ci, k->bio, sector, n);
	r = write_base(k, sector, n);
	if (!r || r == -EPERM)
		return r;
	WRITE_ONCE(k->ci->disk->rescan, true);
	return chain_write_top(k->ci, k->bio, sector, n);
}

static int write_blocks(const struct locked *k, sector_t sector, sector_t n)
{
	const struct chain_layer *l = chain_top(k->ci)->layer;
	sector_t size = block_sectors(l), part;
	int r = 0;

	if (k->to_top)
		WRITE_ONCE(k->ci->disk->rescan, true);
	for (; n && !r; sector += part, n -= part) {
		part = min(n, size - (sector & (size - 1)));
		r = write_block(k, sector, part);
	}
	return r;
}

/* --- As one request, where that can be --- */

/* All blocks are held by the top itself: in place. */
static bool top_in_place(const struct locked *k)
{
	const struct chain_layer *l = chain_top(k->ci)->layer;
	sector_t sector = k->bio->bi_iter.bi_sector;
	u64 block = sector_to_block(l, sector);
	u64 n = sector_to_block(l, bio_end_sector(k->bio) - 1) + 1 - block;
	unsigned int state;

	if (chain_statemap_run(&l->map, block, n, &state) < n ||
	    state != DM_CHAIN_DATA)
		return false;
	chain_hook_write(k->ci, chain_top(k->ci), k->bio, 0, 0, k->block, k->n);
	chain_submit(chain_top(k->ci), k->bio);
	return true;
}

static bool aligned(const struct bio *bio, const struct chain_layer *l)
{
	sector_t mask = block_sectors(l) - 1;

	return !((bio->bi_iter.bi_sector | bio_sectors(bio)) & mask);
}

/* Whole blocks that the top lacks and a layer above the base has. */
static bool top_first(const struct locked *k)
{
	struct chain_att *top = chain_top(k->ci);
	struct chain_layer *l = top->layer;
	sector_t at = k->bio->bi_iter.bi_sector;
	u64 block = sector_to_block(l, at), n;
	unsigned int state;

	if (!aligned(k->bio, l))
		return false;
	for (; at < bio_end_sector(k->bio); at += block_sectors(l)) {
		state = chain_statemap_get(&l->map, sector_to_block(l, at));
		if (state == DM_CHAIN_DAMAGED ||
		    unheld(k->ci, at, at + block_sectors(l)))
			return false;
	}
	n = sector_to_block(l, bio_sectors(k->bio));
	if (chain_statemap_prepare(&l->map, block, n, DM_CHAIN_DATA, GFP_NOIO))
		return false;
	chain_hook_write(k->ci, top, k->bio, block, n, k->block, k->n);
	chain_submit(top, k->bio);
	return true;
}

static bool all_unheld(const struct locked *k)
{
	sector_t from = k->bio->bi_iter.bi_sector;
	sector_t to = bio_end_sector(k->bio);

	whole_blocks(k->ci, &from, &to);
	return unheld(k->ci, from, to) == to - from;
}

static bool base_in_place(const struct locked *k)
{
	sector_t n = bio_sectors(k->bio);

	if (in_base(k->ci, k->bio->bi_iter.bi_sector, n) < n)
		return false;
	hook_base(k->ci, k->bio, 0, 0, k->block, k->n);
	chain_submit(base_of(k->ci), k->bio);
	return true;
}

/* Whole blocks of the base. */
static bool base_first(const struct locked *k)
{
	struct chain_layer *l = base_of(k->ci)->layer;
	u64 block, n;

	if (is_raw(base_of(k->ci)) || !aligned(k->bio, l))
		return false;
	block = sector_to_block(l, k->bio->bi_iter.bi_sector);
	n = sector_to_block(l, bio_sectors(k->bio));
	if (chain_statemap_damaged(&l->map, block, n))
		return false;
	if (chain_statemap_prepare(&l->map, block, n, DM_CHAIN_DATA, GFP_NOIO))
		return false;
	hook_base(k->ci, k->bio, block, n, k->block, k->n);
	chain_submit(base_of(k->ci), k->bio);
	return true;
}

static bool as_one(const struct locked *k)
{
	if (bio_op(k->bio) != REQ_OP_WRITE || k->to_top)
		return false;
	if (all_unheld(k))
		return base_in_place(k) || base_first(k);
	return top_in_place(k) || top_first(k);
}

/* --- Zeroes --- */

/* Blocks of the base that are covered as a whole. */
static int zero_base_blocks(struct chain_inst *ci, sector_t sector, sector_t n)
{
	unsigned int depth = ci->disk->route, state;
	struct chain_layer *l = base_of(ci)->layer;
	struct chain_att *owner;
	sector_t run;
	u64 block;
	int r = 0;

	/* As with data: what would not be seen there the top takes. */
	if (chain_statemap_damaged(&l->map, sector_to_block(l, sector),
				   sector_to_block(l, n)))
		return -EIO;
	for (; n && !r; sector += run, n -= run) {
		run = chain_walk(ci, depth, ci->nr, sector, n, &owner, &state);
		run = max_t(sector_t, round_down(run, block_sectors(l)),
			    block_sectors(l));
		block = sector_to_block(l, sector);
		/* What shows zeroes already needs no state of its own. */
		if (state == DM_CHAIN_ZERO &&
		    chain_walk(ci, depth, ci->nr, sector, run, &owner, &state) == run)
			continue;
		r = chain_statemap_prepare(&l->map, block,
					   sector_to_block(l, run),
					   DM_CHAIN_ZERO, GFP_NOIO);
		if (!r)
			chain_meta_set(l, block, sector_to_block(l, run),
				       DM_CHAIN_ZERO);
	}
	return r;
}

static int zero_raw(struct chain_att *base, sector_t sector, sector_t n)
{
	if (!chain_allowed(base, CHAIN_GUEST, REQ_OP_WRITE_ZEROES))
		return -EPERM;
	return blkdev_issue_zeroout(base->bdev, base->data_sector + sector, n,
				    GFP_NOIO, 0);
}

/* Blocks of the top that nobody above the base holds. */
static int zero_base(const struct locked *k, sector_t sector, sector_t n)
{
	struct chain_att *base = base_of(k->ci);
	sector_t size, head, tail;
	int r = 0;

	if (is_raw(base))
		return zero_raw(base, sector, n);
	size = block_sectors(base->layer);
	head = min(n, (size - (sector & (size - 1))) & (size - 1));
	tail = (n - head) & (size - 1);
	/* The disk's end cuts a block that is covered as a whole. */
	if (sector + n == chain_top(k->ci)->layer->size && tail) {
		n += size - tail;
		tail = 0;
	}
	if (head)
		r = write_base(k, sector, head);
	if (!r)
		r = zero_base_blocks(k->ci, sector + head, n - head - tail);
	if (!r && tail)
		r = write_base(k, sector + n - tail, tail);
	return r;
}

static int zero_run(const struct locked *k, sector_t sector, sector_t n)
{
	const struct chain_layer *l = chain_top(k->ci)->layer;
	u64 block = sector_to_block(l, sector);
	u64 blocks = sector_to_block(l, n + block_sectors(l) - 1);

	return chain_zero_blocks(k->ci, k->bio, block, blocks, GFP_NOIO);
}

static int zero_blocks(const struct locked *k, sector_t sector, sector_t end)
{
	sector_t size = block_sectors(chain_top(k->ci)->layer), n;
	int r = 0;

	for (; sector < end && !r; sector += n) {
		n = unheld(k->ci, sector, end);
		if (n) {
			r = zero_base(k, sector, n);
			if (r && r != -EPERM) {
				WRITE_ONCE(k->ci->disk->rescan, true);
				r = zero_run(k, sector, n);
			}
		} else {
			n = min(size, end - sector);
			r = zero_run(k, sector, n);
		}
	}
	return r;
}

static int zero(const struct locked *k)
{
	const struct chain_layer *l = chain_top(k->ci)->layer;
	u64 block, n;

	chain_zero_range(l, k->bio, &block, &n);
	/* A write-zeroes of a part of a block; map() has cut it so. */
	if (!n)
		return write_blocks(k, k->bio->bi_iter.bi_sector,
				    bio_sectors(k->bio));
	return zero_blocks(k, block_to_sector(l, block),
			   min(block_to_sector(l, block + n), l->size));
}

/* --- A deferred bio --- */

static void finish(const struct locked *k, int err)
{
	struct chain_bio *cb = chain_bio(k->bio);

	unlock(k);
	k->bio->bi_status = errno_to_blk_status(err);
	if (err || !(k->bio->bi_opf & REQ_FUA)) {
		bio_endio(k->bio);
		return;
	}
	/* It may have gone to both. */
	cb->then = chain_flush_base;
	chain_meta_flush(chain_top(k->ci)->layer, cb, false);
}

static void lock_range(const struct chain_inst *ci, const struct bio *bio,
		       u64 *block, u32 *n)
{
	const struct chain_layer *l = chain_top(ci)->layer;
	sector_t size = cell(ci);
	sector_t from = round_down(bio->bi_iter.bi_sector, size);
	sector_t to = round_up(bio_end_sector(bio), size);

	*block = sector_to_block(l, from);
	*n = min(sector_to_block(l, to), l->map.blocks) - *block;
}

static void route_work(struct work_struct *work)
{
	struct chain_bio *cb = container_of(work, struct chain_bio, work);
	struct bio *bio = chain_bio_to_bio(cb);
	struct locked k = { .ci = cb->inst, .bio = bio, .to_top = cb->to_top };
	unsigned int noio = memalloc_noio_save();
	int r;

	lock_range(k.ci, bio, &k.block, &k.n);
	if (chain_lock_or_park(cb, k.block, k.n) && !as_one(&k)) {
		if (bio_op(bio) == REQ_OP_WRITE)
			r = write_blocks(&k, bio->bi_iter.bi_sector,
					 bio_sectors(bio));
		else
			r = zero(&k);
		finish(&k, r);
	}
	memalloc_noio_restore(noio);
}

/* --- Flushes --- */

static void flush_raw_work(struct work_struct *work)
{
	struct chain_bio *cb = container_of(work, struct chain_bio, work);
	struct bio *bio = chain_bio_to_bio(cb);
	unsigned int depth = cb->inst->disk->route_flush;
	int r = chain_flush_dev(cb->inst->order[depth]);

	if (r)
		chain_layer_fail(cb->inst->order[depth]->layer, "flush", r);
	bio->bi_status = errno_to_blk_status(r);
	bio_endio(bio);
}

void chain_flush_base(struct chain_bio *cb, blk_status_t status)
{
	struct chain_inst *ci = cb->inst;
	unsigned int depth = ci->disk->route_flush;

	cb->then = NULL;
	if (status) {
		chain_bio_to_bio(cb)->bi_status = status;
		bio_endio(chain_bio_to_bio(cb));
	} else if (is_raw(ci->order[depth])) {
		INIT_WORK(&cb->work, flush_raw_work);
		queue_work(ci->disk->wq, &cb->work);
	} else {
		chain_meta_flush(ci->order[depth]->layer, cb, false);
	}
}

/* --- Reads --- */

/* They end in another context: past what lockdep and sparse would say of that. */
static int reads_begin(struct chain_disk *disk)
{
	int idx = __srcu_read_lock(&disk->reads);

	__release(&disk->reads);
	return idx;
}

static void reads_end(struct chain_disk *disk, int idx)
{
	__acquire(&disk->reads);
	__srcu_read_unlock(&disk->reads, idx);
}

static void read_end_io(struct bio *bio)
{
	struct chain_bio *cb = chain_bio(bio);

	bio->bi_end_io = cb->end_io;
	bio->bi_private = cb->private;
	reads_end(cb->inst->disk, cb->srcu);
	bio_endio(bio);
}

int chain_map_tracked(struct chain_inst *ci, struct bio *bio,
		      int (*map)(struct chain_inst *ci, struct bio *bio))
{
	struct chain_bio *cb = chain_bio(bio);
	int idx = reads_begin(ci->disk);
	int r = map(ci, bio);

	if (r != DM_MAPIO_REMAPPED) {
		reads_end(ci->disk, idx);
		return r;
	}
	cb->inst = ci;
	cb->srcu = idx;
	cb->end_io = bio->bi_end_io;
	cb->private = bio->bi_private;
	bio->bi_end_io = read_end_io;
	return r;
}
