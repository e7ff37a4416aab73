// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guest I/O while the disk is mirrored: what has been copied, or need not be, is
 * written at both sides, and is done when both are. What the job has yet to copy
 * is written at the source alone. Reads go to the source as ever.
 *
 * Each write holds the locks of its blocks for as long as it takes at either
 * side, also one in place: so overlapping writes land in one order at both, and
 * none meets the job copying the same. The lock is for as many blocks of the top
 * as make up the larger block of the two sides. Under it is decided where the
 * write goes.
 *
 * A write that is one request at each side is sent from map(), with a clone for
 * the target. All else goes to a worker: it does it at the source as on any other
 * day, waiting, and then brings the blocks at the target in line, from what is
 * seen at the source. The same is done with zeroes.
 *
 * A flush covers the source, then the target. So does a FUA write.
 *
 * Failure: what the target fails at is noted for the job, before the blocks are
 * unlocked, and is not the guest's concern. While a pivot is being made durable it
 * might be: then such a bio waits until that is known (DECIDING), and so does one that
 * goes to the source alone, where the target has missed something. What the source
 * fails at the guest is told; the two sides may differ there, so it is copied.
 *
 * Locking: block locks; m->lock for the phase. Nothing waits in map().
 */
#include <linux/sched/mm.h>

#include "dm-chain-mirror.h"

static int end(struct bio *bio, blk_status_t status)
{
	bio->bi_status = status;
	bio_endio(bio);
	return DM_MAPIO_SUBMITTED;
}

static bool is_raw(const struct chain_layer *l)
{
	return l->format == DM_CHAIN_FORMAT_RAW;
}

/* --- What the target fails at --- */

void chain_mirror_missed(struct chain_mirror *m, u64 region, int error)
{
	/* In this order: the job clears the last two, then looks at the first. */
	set_bit(region, m->missed);
	/* Pairs with the one in region_done(). */
	smp_mb__after_atomic();
	set_bit(region, m->changed);
	set_bit(region, m->todo);
	if (error)
		cmpxchg(&m->error, 0, error);
	wake_up(&m->job->wait);
}

void chain_mirror_lost(struct chain_mirror *m, int error)
{
	WRITE_ONCE(m->fatal, true);
	cmpxchg(&m->error, 0, error);
	wake_up(&m->job->wait);
}

/* --- The end of a bio --- */

/*
 * Which of the two sides the guest hears of; false: that is not known yet. Once the
 * target is the disk it hears of both: reads go to the source until the switch, and
 * what is brought in line at the target comes from there, so what only the target has
 * is not seen, and is not safe.
 */
static bool judge(struct chain_mirror *m, struct chain_bio *cb,
		  blk_status_t *status)
{
	unsigned long flags;
	bool known = true;

	spin_lock_irqsave(&m->lock, flags);
	if (m->phase == CHAIN_MIRROR_TARGET) {
		if (cb->missed && !*status)
			*status = BLK_STS_IOERR;
	} else if (m->phase == CHAIN_MIRROR_DECIDING && cb->missed && !*status) {
		list_add_tail(&cb->list, &m->parked);
		known = false;
	}
	spin_unlock_irqrestore(&m->lock, flags);
	return known;
}

static void end_both(struct chain_bio *cb, blk_status_t status)
{
	struct chain_mirror *m = cb->inst->disk->mirror;

	if (judge(m, cb, &status))
		end(chain_bio_to_bio(cb), status);
}

void chain_mirror_decide(struct chain_mirror *m, enum chain_mirror_phase phase)
{
	struct chain_bio *cb, *next;
	LIST_HEAD(parked);

	spin_lock_irq(&m->lock);
	m->phase = phase;
	list_splice_init(&m->parked, &parked);
	spin_unlock_irq(&m->lock);
	list_for_each_entry_safe(cb, next, &parked, list) {
		list_del(&cb->list);
		end_both(cb, BLK_STS_OK);
	}
}

/* --- Flushes --- */

static void target_flushed(struct chain_bio *cb, blk_status_t status)
{
	cb->then = NULL;
	if (status) {
		cb->missed = true;
		chain_mirror_lost(cb->inst->disk->mirror,
				  blk_status_to_errno(status));
	}
	end_both(cb, BLK_STS_OK);
}

static void flush_raw_target(struct work_struct *work)
{
	struct chain_bio *cb = container_of(work, struct chain_bio, work);
	int r = chain_flush_dev(cb->inst->disk->mirror->to);

	target_flushed(cb, errno_to_blk_status(r));
}

static void source_flushed(struct chain_bio *cb, blk_status_t status)
{
	struct chain_disk *d = cb->inst->disk;
	struct chain_layer *to = d->mirror->to->layer;

	cb->then = NULL;
	if (status) {
		end_both(cb, status);
	} else if (is_raw(to)) {
		INIT_WORK(&cb->work, flush_raw_target);
		queue_work(d->wq, &cb->work);
	} else {
		cb->then = target_flushed;
		chain_meta_flush(to, cb, false);
	}
}

static void flush_raw_source(struct work_struct *work)
{
	struct chain_bio *cb = container_of(work, struct chain_bio, work);
	int r = chain_flush_dev(chain_top(cb->inst));

	source_flushed(cb, errno_to_blk_status(r));
}

void chain_flush_both(struct chain_inst *ci, struct bio *bio)
{
	struct chain_bio *cb = chain_bio(bio);
	struct chain_layer *top = chain_top(ci)->layer;

	cb->inst = ci;
	if (is_raw(top)) {
		INIT_WORK(&cb->work, flush_raw_source);
		queue_work(ci->disk->wq, &cb->work);
		return;
	}
	cb->then = source_flushed;
	chain_meta_flush(top, cb, false);
}

/* --- Under the locks of a bio's blocks --- */

struct locked {
	struct chain_inst *ci;
	struct chain_mirror *m;
	struct bio *bio;
	u64 block;		/* of the top */
	u32 n;
	bool both;
};

static void lock_range(struct locked *k)
{
	const struct chain_layer *l = chain_top(k->ci)->layer;
	sector_t from = round_down(k->bio->bi_iter.bi_sector, k->m->cell);
	sector_t to = round_up(bio_end_sector(k->bio), k->m->cell);

	k->block = sector_to_block(l, from);
	k->n = min(sector_to_block(l, to), layer_blocks(l)) - k->block;
}

/*
 * A write that goes to the source alone: it is the job's to copy it, whatever
 * the target has there.
 */
static void choose(struct locked *k)
{
	struct chain_mirror *m = k->m;
	sector_t sector = k->bio->bi_iter.bi_sector;
	u64 region = chain_region(m, sector);

	k->both = !test_bit(region, m->todo) ||
		  (READ_ONCE(m->at) == region && sector < READ_ONCE(m->cursor));
	if (!k->both)
		set_bit(region, m->changed);
}

/*
 * What went to the source alone the job copies before it decides, and makes durable
 * there: a bio that has its flush yet to come ends as if it had gone to both.
 */
static void left_to_job(struct chain_mirror *m, struct chain_bio *cb)
{
	unsigned long flags;

	spin_lock_irqsave(&m->lock, flags);
	if (m->phase == CHAIN_MIRROR_SOURCE)
		cb->missed = false;
	spin_unlock_irqrestore(&m->lock, flags);
}

static void finish(const struct locked *k, blk_status_t status)
{
	struct chain_bio *cb = chain_bio(k->bio);
	const struct chain_layer *top = chain_top(k->ci)->layer;
	bool fua = k->bio->bi_opf & REQ_FUA;

	/* Before it ends: what comes to an end later is not covered by a flush. */
	if (k->m->touched)
		set_bit(chain_region(k->m, block_to_sector(top, k->block)),
			k->m->touched);
	/* As long as the blocks are locked their region is not done. */
	if (cb->missed)
		left_to_job(k->m, cb);
	chain_unlock_blocks(k->ci->disk, k->block, k->n);
	if (fua && !status)
		chain_flush_both(k->ci, k->bio);
	else
		end_both(cb, status);
}

/* --- As one request at each side --- */

/* Both are done, or the only one. */
static void both_done(struct bio *bio)
{
	struct chain_bio *cb = chain_bio(bio);
	struct chain_mirror *m = cb->inst->disk->mirror;
	const struct chain_layer *top = chain_top(cb->inst)->layer;
	struct locked k = {
		.ci = cb->inst, .m = m, .bio = bio,
		.block = cb->lock, .n = cb->nr_locked,
	};

	bio->bi_end_io = cb->end_io;
	bio->bi_private = cb->private;
	if (cb->fua)
		bio->bi_opf |= REQ_FUA;
	if (!cb->status && cb->nr)
		chain_meta_set(cb->att->layer, cb->block, cb->nr, DM_CHAIN_DATA);
	if (!cb->status && !cb->to_status && cb->to_nr)
		chain_meta_set(m->to->layer, cb->to_block, cb->to_nr,
			       DM_CHAIN_DATA);
	if (cb->to_status)
		cb->missed = true;
	if (cb->to_status || cb->status)
		chain_mirror_missed(m, chain_region(m, block_to_sector(top, cb->lock)),
				    blk_status_to_errno(cb->to_status));
	finish(&k, cb->status);
}

static void source_end_io(struct bio *bio)
{
	struct chain_bio *cb = chain_bio(bio);

	cb->status = bio->bi_status;
	if (atomic_dec_and_test(&cb->pending))
		both_done(bio);
}

static void target_end_io(struct bio *clone)
{
	struct bio *bio = clone->bi_private;
	struct chain_bio *cb = chain_bio(bio);

	cb->to_status = clone->bi_status;
	bio_put(clone);
	if (atomic_dec_and_test(&cb->pending))
		both_done(bio);
}

/*
 * Can one request to a layer do it? In place, or whole blocks, which are then
 * prepared to become data: @nr of them from @block on.
 */
static bool one_request(struct chain_layer *l, const struct bio *bio, gfp_t gfp,
			u64 *block, u32 *nr)
{
	sector_t mask = block_sectors(l) - 1, n = bio_sectors(bio);
	sector_t sector = bio->bi_iter.bi_sector;
	u64 blocks, i, run;
	unsigned int state;
	bool data = true;

	*nr = 0;
	if (is_raw(l))
		return true;
	*block = sector_to_block(l, sector);
	blocks = sector_to_block(l, sector + n - 1) + 1 - *block;
	for (i = 0; i < blocks; i += run) {
		run = chain_statemap_run(&l->map, *block + i, blocks - i, &state);
		if (state == DM_CHAIN_DAMAGED)
			return false;
		data &= state == DM_CHAIN_DATA;
	}
	if (data)
		return true;
	if ((sector | n) & mask)
		return false;
	*nr = blocks;
	return !chain_statemap_prepare(&l->map, *block, blocks, DM_CHAIN_DATA, gfp);
}

static struct bio *clone_for(const struct locked *k, gfp_t gfp)
{
	struct chain_att *to = k->m->to;
	struct bio *clone = bio_alloc_clone(to->bdev, k->bio, gfp, &k->m->bios);

	if (!clone)
		return NULL;
	/* Durable it becomes with the flush that follows. */
	clone->bi_opf &= ~REQ_FUA;
	/* Nobody polls for it. */
	bio_clear_polled(clone);
	clone->bi_iter.bi_sector += to->data_sector;
	clone->bi_private = k->bio;
	clone->bi_end_io = target_end_io;
	return clone;
}

static void hook(const struct locked *k)
{
	struct chain_bio *cb = chain_bio(k->bio);

	cb->inst = k->ci;
	cb->att = chain_top(k->ci);
	cb->lock = k->block;
	cb->nr_locked = k->n;
	cb->status = BLK_STS_OK;
	cb->to_status = BLK_STS_OK;
	cb->missed = !k->both;
	atomic_set(&cb->pending, k->both ? 2 : 1);
	cb->end_io = k->bio->bi_end_io;
	cb->private = k->bio->bi_private;
	k->bio->bi_end_io = source_end_io;
	cb->fua = k->bio->bi_opf & REQ_FUA;
	k->bio->bi_opf &= ~REQ_FUA;
}

/* The target's part is sent, the source's is ready to be. */
static bool as_one(const struct locked *k, gfp_t gfp)
{
	struct chain_bio *cb = chain_bio(k->bio);
	struct chain_att *to = k->m->to;
	struct bio *clone = NULL;

	cb->to_nr = 0;
	if (!one_request(chain_top(k->ci)->layer, k->bio, gfp, &cb->block, &cb->nr))
		return false;
	if (k->both) {
		if (!one_request(to->layer, k->bio, gfp, &cb->to_block, &cb->to_nr))
			return false;
		clone = clone_for(k, gfp);
		if (!clone)
			return false;
	}
	hook(k);
	if (!clone)
		return true;
	if (chain_allowed(to, CHAIN_JOB, clone->bi_opf))
		submit_bio_noacct(clone);
	else
		bio_io_error(clone);
	return true;
}

/* --- Bringing the target in line --- */

/* What is at the source, as the target is to have it. */
static sector_t seen(const struct locked *k, sector_t sector, sector_t max,
		     enum chain_want *want)
{
	struct chain_att *owner;
	unsigned int state;

	*want = CHAIN_WANT_KEEP;
	if (k->m->shallow) {
		max = chain_walk(k->ci, 0, 1, sector, max, &owner, &state);
		if (state == DM_CHAIN_ABSENT)
			return max;
	} else {
		max = chain_walk(k->ci, 0, k->ci->nr, sector, max, &owner, &state);
	}
	*want = state == DM_CHAIN_DATA ? CHAIN_WANT_COPY :
		state == DM_CHAIN_ZERO ? CHAIN_WANT_ZERO : CHAIN_WANT_BAD;
	return max;
}

/* Of all of a block; what is not of one kind is copied. */
static enum chain_want seen_block(const struct locked *k, sector_t sector,
				  sector_t stop)
{
	enum chain_want w, all;

	sector += seen(k, sector, stop - sector, &all);
	while (sector < stop) {
		sector += seen(k, sector, stop - sector, &w);
		if (w != all)
			return CHAIN_WANT_COPY;
	}
	return all;
}

static int set_state(struct chain_layer *l, u64 block, unsigned int state)
{
	int r = chain_statemap_prepare(&l->map, block, 1, state, GFP_NOIO);

	if (!r)
		chain_meta_set(l, block, 1, state);
	return r;
}

static int align_block(const struct locked *k, u64 block)
{
	struct chain_att *to = k->m->to;
	struct chain_layer *l = to->layer;
	sector_t sector = block_to_sector(l, block), n = block_sectors(l);
	unsigned int state = chain_statemap_get(&l->map, block);
	sector_t stop = min(sector + n, chain_top(k->ci)->layer->size);
	enum chain_want want = seen_block(k, sector, stop);
	int r;

	if (want == CHAIN_WANT_BAD || state == DM_CHAIN_DAMAGED)
		return -EIO;
	if (want == CHAIN_WANT_KEEP && state == DM_CHAIN_ABSENT)
		return 0;
	/* Below a target that stands on nothing there are zeroes anyway. */
	if (want == CHAIN_WANT_ZERO)
		return state == DM_CHAIN_ABSENT && !k->m->shallow ? 0 :
		       set_state(l, block, DM_CHAIN_ZERO);
	/* What the target has behind the end of the source stays. */
	if (state == DM_CHAIN_DATA)
		n = stop - sector;
	r = chain_copy_seen(k->ci, to, sector, n);
	return r ?: set_state(l, block, DM_CHAIN_DATA);
}

static int align_chain(const struct locked *k, sector_t from, sector_t to)
{
	struct chain_layer *l = k->m->to->layer;
	u64 block = sector_to_block(l, from);
	u64 stop = sector_to_block(l, to + block_sectors(l) - 1);
	int r = 0;

	for (; block < stop && !r; block++)
		r = align_block(k, block);
	return r;
}

static int align_raw(const struct locked *k, sector_t sector, sector_t stop)
{
	struct chain_att *to = k->m->to;
	enum chain_want want;
	sector_t n;
	int r = 0;

	for (; sector < stop && !r; sector += n) {
		n = seen(k, sector, stop - sector, &want);
		if (want == CHAIN_WANT_COPY)
			r = chain_copy_seen(k->ci, to, sector, n);
		else if (want == CHAIN_WANT_BAD)
			r = -EIO;
		else if (chain_allowed(to, CHAIN_JOB, REQ_OP_WRITE_ZEROES))
			r = blkdev_issue_zeroout(to->bdev, to->data_sector + sector,
						 n, GFP_NOIO, 0);
		else
			r = -EPERM;
	}
	return r;
}

/* Whatever became of the bio at the source: that is what the target gets. */
static void align(const struct locked *k, sector_t from, sector_t to)
{
	int r;

	if (!k->both || from >= to)
		return;
	r = is_raw(k->m->to->layer) ? align_raw(k, from, to) :
				      align_chain(k, from, to);
	if (!r)
		return;
	chain_bio(k->bio)->missed = true;
	chain_mirror_missed(k->m, chain_region(k->m, from), r);
}

/* --- The worker --- */

static int write_source(const struct locked *k)
{
	struct chain_att *top = chain_top(k->ci);
	sector_t sector = k->bio->bi_iter.bi_sector, n = bio_sectors(k->bio), part;
	sector_t size = block_sectors(top->layer);
	int r = 0;

	if (is_raw(top->layer))
		return chain_write_part(k->ci, top, k->bio, sector, n);
	for (; n && !r; sector += part, n -= part) {
		part = min(n, size - (sector & (size - 1)));
		r = chain_write_top(k->ci, k->bio, sector, part);
	}
	return r;
}

static int zero_raw_source(const struct locked *k)
{
	struct chain_att *top = chain_top(k->ci);

	if (!chain_allowed(top, CHAIN_GUEST, REQ_OP_WRITE_ZEROES))
		return -EPERM;
	return blkdev_issue_zeroout(top->bdev,
				    top->data_sector + k->bio->bi_iter.bi_sector,
				    bio_sectors(k->bio), GFP_NOIO, 0);
}

/* Whole blocks; or, a write-zeroes, a part of one: map() has cut it so. */
static int zero_source(const struct locked *k)
{
	const struct chain_layer *l = chain_top(k->ci)->layer;
	u64 block, n;

	if (is_raw(l))
		return zero_raw_source(k);
	chain_zero_range(l, k->bio, &block, &n);
	return n ? chain_zero_blocks(k->ci, k->bio, block, n, GFP_NOIO) :
		   write_source(k);
}

static void in_turn(const struct locked *k)
{
	struct chain_bio *cb = chain_bio(k->bio);
	int r;

	cb->missed = !k->both;
	if (READ_ONCE(chain_top(k->ci)->layer->failed))
		r = -EIO;
	else if (bio_op(k->bio) == REQ_OP_WRITE)
		r = write_source(k);
	else
		r = zero_source(k);
	/* Blocks that a discard covers in part don't change: that costs a look. */
	align(k, k->bio->bi_iter.bi_sector, bio_end_sector(k->bio));
	finish(k, errno_to_blk_status(r));
}

static void both_work(struct work_struct *work)
{
	struct chain_bio *cb = container_of(work, struct chain_bio, work);
	struct locked k = {
		.ci = cb->inst, .m = cb->inst->disk->mirror,
		.bio = chain_bio_to_bio(cb),
	};
	unsigned int noio = memalloc_noio_save();

	lock_range(&k);
	if (chain_lock_or_park(cb, k.block, k.n)) {
		choose(&k);
		if (bio_op(k.bio) == REQ_OP_WRITE && as_one(&k, GFP_NOIO))
			chain_submit(chain_top(k.ci), k.bio);
		else
			in_turn(&k);
	}
	memalloc_noio_restore(noio);
}

static int defer(struct chain_inst *ci, struct bio *bio)
{
	struct chain_bio *cb = chain_bio(bio);

	cb->inst = ci;
	INIT_WORK(&cb->work, both_work);
	queue_work(ci->disk->wq, &cb->work);
	return DM_MAPIO_SUBMITTED;
}

/* What it is about to change has been flagged as changed. */
static void flagged(struct chain_bio *cb, blk_status_t status)
{
	cb->then = NULL;
	if (status) {
		end(chain_bio_to_bio(cb), status);
		return;
	}
	chain_flagged(cb);
	defer(cb->inst, chain_bio_to_bio(cb));
}

/* --- From map() --- */

sector_t chain_one_run(const struct chain_layer *l, const struct bio *bio,
		       unsigned int *state)
{
	sector_t sector = bio->bi_iter.bi_sector, n = bio_sectors(bio);
	sector_t size = block_sectors(l), into = sector & (size - 1);
	u64 block = sector_to_block(l, sector), run;

	*state = DM_CHAIN_DATA;
	if (is_raw(l))
		return n;
	run = chain_statemap_run(&l->map, block,
				 sector_to_block(l, into + n - 1) + 1, state);
	n = min(n, block_to_sector(l, run) - into);
	if (*state == DM_CHAIN_DATA)
		return n;
	return into || n < size ? min(n, size - into) : round_down(n, size);
}

static int map_write(struct chain_inst *ci, struct bio *bio)
{
	struct chain_mirror *m = ci->disk->mirror;
	struct locked k = { .ci = ci, .m = m, .bio = bio };
	unsigned int state;

	chain_clip(bio, chain_one_run(chain_top(ci)->layer, bio, &state));
	if (state == DM_CHAIN_DAMAGED)
		return end(bio, BLK_STS_IOERR);
	chain_clip(bio, chain_one_run(m->to->layer, bio, &state));
	if (!chain_is_flagged(ci, bio->bi_iter.bi_sector)) {
		chain_flag(ci, bio, flagged);
		return DM_MAPIO_SUBMITTED;
	}
	lock_range(&k);
	if (!chain_locks_try(&ci->disk->locks, k.block, k.n))
		return defer(ci, bio);
	choose(&k);
	if (as_one(&k, GFP_NOWAIT | __GFP_NOWARN))
		return chain_remap(chain_top(ci), bio);
	chain_unlock_blocks(ci->disk, k.block, k.n);
	return defer(ci, bio);
}

static int map_zero(struct chain_inst *ci, struct bio *bio)
{
	const struct chain_layer *l = chain_top(ci)->layer;
	sector_t into = bio->bi_iter.bi_sector & (block_sectors(l) - 1);
	sector_t n = bio_sectors(bio);
	u64 block, blocks;

	if (is_raw(l))
		return bio_op(bio) == REQ_OP_DISCARD ?
		       end(bio, BLK_STS_NOTSUPP) : defer(ci, bio);
	if (bio_op(bio) == REQ_OP_WRITE_ZEROES)
		chain_clip(bio, into || n < block_sectors(l) ?
			   block_sectors(l) - into :
			   round_down(n, block_sectors(l)));
	chain_zero_range(l, bio, &block, &blocks);
	if (!blocks && bio_op(bio) == REQ_OP_DISCARD)
		return end(bio, BLK_STS_OK);
	if (chain_is_flagged(ci, bio->bi_iter.bi_sector))
		return defer(ci, bio);
	chain_flag(ci, bio, flagged);
	return DM_MAPIO_SUBMITTED;
}

int chain_map_both(struct chain_inst *ci, struct bio *bio)
{
	const struct chain_mirror *m = ci->disk->mirror;
	sector_t into = bio->bi_iter.bi_sector & ((1ULL << m->shift) - 1);

	/* It may have to wait, and only a worker would know. */
	if (bio->bi_opf & REQ_NOWAIT) {
		bio_wouldblock_error(bio);
		return DM_MAPIO_SUBMITTED;
	}
	chain_clip(bio, (1ULL << m->shift) - into);
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
