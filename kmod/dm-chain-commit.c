// SPDX-License-Identifier: GPL-2.0-only
/*
 * Commit: what a range of layers (top T to the layer above the base B) holds is
 * moved down into the base.
 *
 * Before the base is written:
 *
 *	S1 where a layer of the range ends before T does, what reads zeroes for
 *	   that reason alone becomes `zero` in T's map, durably
 *	C1 header T: the record
 *	C2 headers of the layers between and of B: spoiled, new ids; B grows. Where a
 *	   layer between ends means nothing once it is spoiled; T's zeroes cover that
 *	C3 the disk knows: lookups ask these layers, reads are counted; active: what
 *	   nobody above B holds is written there (dm-chain-route.c)
 *
 * For a batch of blocks that the range holds, with the guest kept off them if
 * T is the top, and what T's map says of them durable:
 *
 *	C4 what is seen of them is copied to B
 *	C5 B's map says so: a round; raw: a flush
 *	C6 layer by layer, from the one above B up to T: a round that clears what
 *	   it holds of them. Lookups pass when that is durable
 *	C7 let the guest go on
 *
 * When reads that were under way then have ended, the space is given back: that
 * of blocks that the layer lacks, under the lock. What the base refuses is
 * written at the top, so they may have come back.
 *
 * T's map first: what the base refused was written at T with nothing between the
 * two. It is there as a whole or not at all, while in B it is laid over what it
 * hides. (What M holds, or T has held since the record, needs no such care.)
 *
 * Bottom-up: when a layer's copy goes, all that could show in its place is B,
 * durable, with what is seen at T. So it doesn't matter of which size blocks
 * are, as long as a batch ends where blocks of all layers do. It costs a round
 * for each layer that holds anything of a batch.
 *
 * The end: commit_finish(), commit_pivot().
 *
 * Crash: T reads right all the time, by way of the record. The maps are the
 * progress. A block is in the range, or durably in B.
 *
 * Cancelled, failed: the same, with the disk running. The record stays; only the
 * same commit can follow.
 */
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "dm-chain-job.h"

static struct chain_att *base_att(const struct chain_job *job)
{
	return chain_job_att(job, job->b);
}

static struct chain_att *top_att(const struct chain_job *job)
{
	return chain_job_att(job, job->t);
}

static struct chain_layer *layer_at(const struct chain_job *job, unsigned int i)
{
	return chain_job_att(job, i)->layer;
}

static bool raw_base(const struct chain_job *job)
{
	return job->base->format == DM_CHAIN_FORMAT_RAW;
}

/* The guest writes T, and by way of it the base. */
static bool is_active(const struct chain_job *job)
{
	return job->type == DM_CHAIN_JOB_ACTIVE_COMMIT;
}

static void commit_bind(struct chain_job *job)
{
	job->t = chain_job_depth(job, job->top);
	job->b = chain_job_depth(job, job->base);
	if (!is_active(job))
		return;
	if (job->installed || job->settles)
		job->disk->route_flush = job->b;
	if (!job->installed)
		return;
	job->disk->route = job->b;
	WRITE_ONCE(base_att(job)->access[CHAIN_GUEST], DM_CHAIN_ACCESS_RW);
}

/* Sectors at whose multiples blocks of all these layers end. */
static sector_t cell(const struct chain_job *job)
{
	sector_t n = CHAIN_UNIT_SECTORS;
	unsigned int i;

	for (i = job->t; i <= job->b; i++)
		if (layer_at(job, i)->format == DM_CHAIN_FORMAT_CHAIN)
			n = max_t(sector_t, n, block_sectors(layer_at(job, i)));
	return n;
}

/* --- What has to be moved --- */

static enum chain_want want_of(unsigned int state)
{
	switch (state) {
	case DM_CHAIN_DATA:
		return CHAIN_WANT_COPY;
	case DM_CHAIN_ZERO:
		return CHAIN_WANT_ZERO;
	case DM_CHAIN_DAMAGED:
		return CHAIN_WANT_BAD;
	default:
		return CHAIN_WANT_KEEP;
	}
}

/* What is seen in the range; KEEP: no layer of it holds this. */
static sector_t commit_want(struct chain_job *job, sector_t sector, sector_t max,
			    enum chain_want *want, struct chain_att **from)
{
	unsigned int state;

	max = chain_walk(job->ci, job->t, job->b, sector, max, from, &state);
	*want = want_of(state);
	return max;
}

/* What is seen below a layer that is seen through up to @limit. */
static sector_t below(struct chain_job *job, unsigned int depth, sector_t limit,
		      sector_t sector, sector_t max, enum chain_want *want,
		      struct chain_att **from)
{
	unsigned int state;

	*want = CHAIN_WANT_ZERO;
	if (sector >= limit || depth + 1 >= job->ci->nr)
		return max;
	max = chain_walk(job->ci, depth + 1, job->ci->nr, sector,
			 min(max, limit - sector), from, &state);
	*want = want_of(state);
	return max;
}

/* The rest of a block that the base lacks: as it is seen at the base now. */
static sector_t commit_fill(struct chain_job *job, sector_t sector, sector_t max,
			    enum chain_want *want, struct chain_att **from)
{
	return below(job, job->b, job->base->limit, sector, max, want, from);
}

/* The first sector from @sector on that the range holds, or the end. */
static sector_t next_held(struct chain_job *job, sector_t sector)
{
	sector_t size = job->top->size;
	struct chain_att *from;
	enum chain_want w;

	while (sector < size) {
		sector_t n = commit_want(job, sector, size - sector, &w, &from);

		if (w != CHAIN_WANT_KEEP)
			break;
		sector += n;
		cond_resched();
	}
	return sector;
}

static void count_held(struct chain_job *job, u64 *data, u64 *zero, u64 *fresh)
{
	const struct chain_layer *base = job->base;
	sector_t sector = 0, size = job->top->size, n;
	struct chain_att *from;
	enum chain_want w;
	unsigned int state;

	*data = *zero = *fresh = 0;
	for (; sector < size && !fatal_signal_pending(current); sector += n) {
		n = commit_want(job, sector, size - sector, &w, &from);
		if (w == CHAIN_WANT_KEEP)
			continue;
		if (w == CHAIN_WANT_ZERO) {
			*zero += n;
			continue;
		}
		n = min(n, chain_walk(job->ci, job->b, job->b + 1, sector, n,
				      &from, &state));
		*data += n;
		if (base->format == DM_CHAIN_FORMAT_CHAIN &&
		    state != DM_CHAIN_DATA)
			*fresh += n;
		cond_resched();
	}
}

/* --- Before it begins --- */

static bool own_record(const struct chain_job *job)
{
	const struct chain_header *h = &job->top->hdr;

	return chain_has_record(h) &&
	       h->record.base_format == job->base->format &&
	       (raw_base(job) ||
		chain_id_equal(&h->record.base, &job->base->uuid));
}

/* It has begun, and goes on. Once it has ended the next one is another. */
static bool goes_on(const struct chain_job *job)
{
	return own_record(job) &&
	       !(job->top->hdr.record.flags & DM_CHAIN_RECORD_DONE);
}

/* Other jobs that have not ended, or whose traces would be lost. */
static int check_records(const struct chain_job *job)
{
	const struct chain_header *top = &job->top->hdr;
	bool own = own_record(job);
	unsigned int i;

	if (chain_has_record(top) && !own)
		return top->record.flags & DM_CHAIN_RECORD_DONE ? -EBUSY : -ESTALE;
	for (i = 0; i < job->t; i++)
		if (chain_has_record(&layer_at(job, i)->hdr) &&
		    chain_job_unfinished(job, job->t))
			return -EBUSY;
	for (i = job->t + 1; i <= job->b; i++) {
		const struct chain_layer *l = layer_at(job, i);

		if (l->format != DM_CHAIN_FORMAT_CHAIN)
			continue;
		if (chain_has_record(&l->hdr) ||
		    (l->hdr.marks & DM_CHAIN_MARK_SPOILED &&
		     !(own && chain_id_equal(&l->hdr.job, &top->job))))
			return -EBUSY;
	}
	return 0;
}

/* Of a commit that goes on; others have refused it since. */
static bool spoiled_before(const struct chain_job *job, const struct chain_layer *l)
{
	return goes_on(job) && l->hdr.marks & DM_CHAIN_MARK_SPOILED &&
	       chain_id_equal(&l->hdr.job, &job->top->hdr.job);
}

/*
 * Children that nobody here knows of, and that would be refused ever after: also some
 * that came between the record and the marks of a commit that was cut off there.
 */
static bool other_children(const struct chain_job *job)
{
	unsigned int i;

	for (i = job->t + 1; i <= job->b; i++) {
		const struct chain_layer *l = layer_at(job, i);

		if (l->format == DM_CHAIN_FORMAT_CHAIN &&
		    l->hdr.marks & DM_CHAIN_MARK_MANY_CHILDREN &&
		    !spoiled_before(job, l))
			return true;
	}
	/* It has been merged before: what was above it is a child of the base. */
	return own_record(job) && !goes_on(job);
}

static u64 base_size_then(const struct chain_job *job)
{
	return max(job->base->size, job->top->size) << SECTOR_SHIFT;
}

static u64 base_needs(struct chain_job *job)
{
	u64 need = base_size_then(job);

	if (!raw_base(job)) {
		struct chain_header *h = kmemdup(&job->base->hdr, sizeof(*h),
						 GFP_KERNEL | __GFP_NOFAIL);

		h->size = need;
		need = chain_layer_bytes(h);
		kfree(h);
	}
	return need;
}

/* Can the base become as large as the range's top is? */
static int check_base(struct chain_job *job, u32 flags)
{
	if (job->base->size > job->top->size && (raw_base(job) || is_active(job)))
		return -ERANGE;
	if (!raw_base(job) && base_size_then(job) > job->base->hdr.max_size)
		return -EFBIG;
	if (flags & DM_CHAIN_JOB_PREPARE && raw_base(job))
		return 0;
	return bdev_nr_bytes(base_att(job)->bdev) < base_needs(job) ? -ENOSPC : 0;
}

static bool written(const struct chain_att *att)
{
	return chain_att_rw(att) &&
	       (att->layer->format == DM_CHAIN_FORMAT_RAW || att->layer->meta) &&
	       READ_ONCE(att->access[CHAIN_JOB]) == DM_CHAIN_ACCESS_RW;
}

static int check_access(const struct chain_job *job)
{
	unsigned int i;

	for (i = job->t; i <= job->b; i++) {
		if (READ_ONCE(layer_at(job, i)->failed))
			return -EIO;
		if (!written(chain_job_att(job, i)))
			return -EROFS;
	}
	if (job->over && (!chain_att_rw(chain_job_att(job, job->t - 1)) ||
			  !job->over->meta))
		return -EROFS;
	return 0;
}

static int commit_check(struct chain_job *job, u32 flags)
{
	int r = check_records(job);

	if (!r)
		r = check_base(job, flags);
	if (!r && other_children(job) && !(flags & DM_CHAIN_JOB_FORCE))
		r = -EMLINK;
	return r ?: check_access(job);
}

static int commit_estimate(struct chain_job *job, struct dm_chain_job_start *arg)
{
	u64 data, zero, fresh;
	int r = check_records(job);

	if (r)
		return r;
	count_held(job, &data, &zero, &fresh);
	arg->move_bytes = data << SECTOR_SHIFT;
	arg->zero_bytes = zero << SECTOR_SHIFT;
	arg->new_bytes = fresh << SECTOR_SHIFT;
	arg->need_bytes = base_needs(job);
	r = check_base(job, DM_CHAIN_JOB_PREPARE);
	return r == -ENOSPC ? 0 : r;
}

/* --- S1: what reads zeroes because a layer is short --- */

/* Where the first layer of the range ends, if one ends before T. */
static sector_t shortest(const struct chain_job *job)
{
	sector_t end = job->top->limit;
	unsigned int i;

	for (i = job->t + 1; i < job->b; i++) {
		const struct chain_layer *l = layer_at(job, i);

		if (!l->lifted)
			end = min3(end, l->size, l->limit);
	}
	return end;
}

static sector_t short_want(struct chain_job *job, sector_t sector, sector_t max,
			   enum chain_want *want, struct chain_att **from)
{
	const struct chain_layer *l = job->top;
	unsigned int state;

	max = chain_walk(job->ci, job->t, job->t + 1, sector, max, from, &state);
	*want = CHAIN_WANT_KEEP;
	/* T itself ends nowhere: zero is what its map says, or its limit. */
	if (state == DM_CHAIN_ZERO && sector >= l->limit &&
	    chain_statemap_get(&l->map, sector_to_block(l, sector)) ==
	    DM_CHAIN_ABSENT)
		*want = CHAIN_WANT_ZERO;
	if (state != DM_CHAIN_ABSENT)
		return max;
	max = chain_walk(job->ci, job->t + 1, job->b, sector, max, from, &state);
	if (state == DM_CHAIN_ZERO)
		*want = CHAIN_WANT_ZERO;
	return max;
}

static sector_t short_fill(struct chain_job *job, sector_t sector, sector_t max,
			   enum chain_want *want, struct chain_att **from)
{
	return below(job, job->t, job->top->limit, sector, max, want, from);
}

static void plan_for(struct chain_job *job, struct chain_att *to, sector_t start,
		     sector_t end, sector_t grain)
{
	struct chain_plan *p = job->plan;

	p->job = job;
	p->to = to;
	p->start = start;
	p->end = end;
	p->size = job->top->size;
	p->grain = grain;
}

/* As much as can be locked from @start on; @start: nothing now. */
static sector_t lock_some(struct chain_job *job, sector_t start, sector_t most,
			  sector_t grain)
{
	sector_t end = round_up(job->top->size, grain), n = max(most, grain);

	for (; n >= grain; n >>= 1) {
		n = round_down(n, grain);
		if (!is_active(job) ||
		    chain_job_lock(job, start, min(end, start + n)))
			return min(end, start + n);
	}
	return start;
}

static void unlock(struct chain_job *job, sector_t start, sector_t end)
{
	if (is_active(job))
		chain_job_unlock(job, start, end);
}

/* A batch of it: 1, or 0 if nothing is left. */
static int spell_some(struct chain_job *job, sector_t *at)
{
	sector_t grain = block_sectors(job->top), start, end;
	int r;

	start = round_down(*at, grain);
	if (start >= job->top->size)
		return 0;
	end = lock_some(job, start, 32768, grain);
	if (end == start)
		return -EAGAIN;
	plan_for(job, top_att(job), start, end, grain);
	job->plan->want = short_want;
	job->plan->fill = short_fill;
	r = chain_carry_out(job);
	unlock(job, start, end);
	*at = job->plan->end;
	return r ?: 1;
}

static int spell_out(struct chain_job *job)
{
	sector_t at;
	int r = chain_job_enter(job);

	if (r)
		return r;
	at = shortest(job);
	chain_job_leave(job);
	r = 1;
	while (r > 0 || r == -EAGAIN) {
		sector_t was = at;

		if (r == -EAGAIN)
			schedule_timeout_idle(1);
		if (READ_ONCE(job->cancelled))
			return -ECANCELED;
		r = chain_job_enter(job);
		if (r)
			return r;
		r = spell_some(job, &at);
		chain_job_leave(job);
		if (r == -EAGAIN)
			at = was;
	}
	return r;
}

/* --- C1: the record --- */

static int set_record(struct chain_job *job, struct chain_header *h)
{
	struct chain_record *rec = &h->record;
	int r = 0;

	h->limit = h->size;
	if (goes_on(job))
		return 0;
	/*
	 * After one that is done it has the same id, by which the layers between
	 * are spoiled; but what stands on the base now must refuse it from here on.
	 */
	if (!own_record(job))
		chain_random_id(&h->job);
	memset(rec, 0, sizeof(*rec));
	h->marks |= DM_CHAIN_MARK_JOB;
	rec->type = DM_CHAIN_RECORD_COMMIT;
	rec->base_format = job->base->format;
	rec->base = job->base->uuid;
	rec->base_size = (u64)job->base->size << SECTOR_SHIFT;
	chain_random_id(&rec->c1);
	if (raw_base(job))
		r = chain_raw_fingerprint(base_att(job), &rec->c0);
	else
		rec->c0 = job->base->hdr.cid;
	return r;
}

static int write_record(struct chain_job *job)
{
	struct chain_layer *l = job->top;
	int r = chain_meta_sync(l);

	if (r)
		return r;
	mutex_lock(&l->rw_mutex);
	*job->hdr = l->hdr;
	r = set_record(job, job->hdr);
	if (!r)
		r = chain_layer_update(top_att(job), job->hdr, false);
	job->uuid = job->hdr->job;
	mutex_unlock(&l->rw_mutex);
	/* In memory the same: nothing of it changes what is seen. */
	if (!r)
		WRITE_ONCE(job->top->limit, job->top->size);
	return r;
}

static int commit_record(struct chain_job *job)
{
	int r = spell_out(job);

	if (!r)
		r = chain_job_enter(job);
	if (r)
		return r;
	r = write_record(job);
	chain_job_leave(job);
	return r;
}

/* --- C2: marks --- */

static void spoil(const struct chain_job *job, struct chain_header *h)
{
	h->marks |= DM_CHAIN_MARK_SPOILED;
	h->marks &= ~DM_CHAIN_MARK_JOB;	/* of a stream that was cut off */
	memset(&h->record, 0, sizeof(h->record));
	h->job = job->uuid;
}

static bool is_spoiled(const struct chain_job *job, const struct chain_header *h)
{
	return h->marks & DM_CHAIN_MARK_SPOILED &&
	       chain_id_equal(&h->job, &job->uuid);
}

static int mark_between(struct chain_job *job, unsigned int i)
{
	struct chain_layer *l = layer_at(job, i);
	int r = 0;

	mutex_lock(&l->rw_mutex);
	if (!is_spoiled(job, &l->hdr)) {
		*job->hdr = l->hdr;
		spoil(job, job->hdr);
		chain_random_id(&job->hdr->cid);
		r = chain_layer_update(chain_job_att(job, i), job->hdr, false);
	}
	/* Not before: as long as it is sound another disk may see its end. */
	if (!r)
		WRITE_ONCE(l->lifted, true);
	mutex_unlock(&l->rw_mutex);
	return r;
}

/* A chain base, grown if need be: @g has room for that. */
static int mark_base(struct chain_job *job, struct chain_growth *g)
{
	struct chain_layer *l = job->base;
	struct chain_att *att = base_att(job);
	int r = 0;

	mutex_lock(&l->rw_mutex);
	*job->hdr = l->hdr;
	spoil(job, job->hdr);
	job->hdr->cid = job->top->hdr.record.c1;
	if (g)
		r = chain_growth_write(att, g, job->hdr);
	else if (!is_spoiled(job, &l->hdr) ||
		 !chain_id_equal(&l->hdr.cid, &job->hdr->cid))
		r = chain_layer_update(att, job->hdr, false);
	mutex_unlock(&l->rw_mutex);
	return r;
}

static int mark_all(struct chain_job *job, struct chain_growth *g)
{
	unsigned int i;
	int r = 0;

	for (i = job->t + 1; i < job->b && !r; i++)
		r = mark_between(job, i);
	if (!r && raw_base(job))
		r = chain_flush_dev(base_att(job));
	else if (!r)
		r = mark_base(job, g);
	return r;
}

/* --- C3: the disk knows --- */

struct install {
	struct chain_job *job;
	struct chain_growth *g;
};

static void install(struct chain_inst *ci, void *arg)
{
	struct install *in = arg;
	struct chain_job *job = in->job;

	if (in->g)
		chain_growth_swap(job->base, in->g);
	if (raw_base(job))
		job->base->size = max(job->base->size, job->top->size);
	job->installed = true;
	job->pins = true;
	ci->disk->tracked++;
	/* The rest is done in resume: chain_jobs_bind(), commit_bind(). */
}

/* Claimed, and busy until its layers are marked. */
static int install_claimed(struct chain_job *job, struct chain_growth *g)
{
	struct install in = { .job = job, .g = g };
	int r = mark_all(job, g);

	chain_job_leave(job);
	if (!r)
		chain_change(job->ci, install, &in);
	return r;
}

static int check_room(struct chain_job *job)
{
	int r = chain_job_enter(job);

	if (r)
		return r;
	if (bdev_nr_bytes(base_att(job)->bdev) < base_needs(job))
		r = -ENOSPC;
	chain_job_leave(job);
	return r;
}

static int commit_prepare(struct chain_job *job)
{
	struct chain_growth *g = NULL;
	u64 data, zero, fresh;
	int r = check_room(job);

	if (r)
		return r;
	if (!raw_base(job) && job->base->size < job->top->size) {
		g = chain_growth_alloc(job->base, base_size_then(job));
		if (!g)
			return -ENOMEM;
	}
	r = chain_job_claim_enter_wait(job);
	if (!r) {
		r = install_claimed(job, g);
		chain_job_unclaim(job);
	}
	chain_growth_free(g);
	if (!r)
		r = chain_job_enter(job);
	if (r)
		return r;
	count_held(job, &data, &zero, &fresh);
	chain_job_leave(job);
	chain_job_total(job, (data + zero) << SECTOR_SHIFT);
	return 0;
}

/* --- C4, C5: into the base --- */

/* The blocks of a layer in a part of the disk. */
static bool blocks_in(const struct chain_layer *l, sector_t start, sector_t end,
		      struct chain_clear *c)
{
	c->block = sector_to_block(l, start);
	if (c->block >= l->map.blocks)
		return false;
	c->n = min(sector_to_block(l, end), l->map.blocks) - c->block;
	return c->n;
}

static int base_durable(struct chain_job *job)
{
	if (!raw_base(job))
		return chain_meta_sync(job->base);
	return chain_flush_dev(base_att(job));
}

/* What was data there and reads zeroes now: nobody has seen it for long. */
static void give_back_zeroes(struct chain_job *job)
{
	const struct chain_plan *p = job->plan;
	const struct chain_layer *l = job->base;
	unsigned long from, to;

	if (raw_base(job))
		return;
	for_each_set_bitrange(from, to, p->zero, CHAIN_PLAN_BLOCKS)
		chain_give_back(p->to, p->start + block_to_sector(l, from),
				block_to_sector(l, to - from));
}

/* Only the guest changes what a map says of these blocks without a round. */
static int top_durable(struct chain_job *job, sector_t start, sector_t end)
{
	struct chain_layer *l = job->top;
	struct chain_clear c;
	u64 block;

	if (!is_active(job) || !blocks_in(l, start, end, &c))
		return 0;
	for (block = c.block; block < c.block + c.n;
	     block = round_down(block, DM_CHAIN_GROUP_BLOCKS) + DM_CHAIN_GROUP_BLOCKS)
		if (!chain_meta_durable(l, block))
			return chain_meta_sync(l);
	return 0;
}

/*
 * Damage below what is seen would show when that has gone, and what was lost
 * there nobody knows.
 */
static bool damaged(struct chain_job *job, sector_t start, sector_t end)
{
	struct chain_clear c;
	unsigned int i;

	for (i = job->t; i < job->b; i++) {
		const struct chain_layer *l = layer_at(job, i);

		if (blocks_in(l, start, end, &c) &&
		    chain_statemap_damaged(&l->map, c.block, c.n))
			return true;
	}
	return false;
}

static int move_down(struct chain_job *job, sector_t start, sector_t end)
{
	struct chain_plan *p = job->plan;
	int r;

	p->end = end;
	job->fatal = false;
	if (damaged(job, start, end))
		return -EIO;
	r = top_durable(job, start, end);
	job->fatal = r;
	if (r)
		return r;
	plan_for(job, base_att(job), start, end, cell(job));
	p->want = commit_want;
	p->fill = commit_fill;
	r = chain_carry_out(job);
	if (r)
		return r;
	r = base_durable(job);
	job->fatal = r;
	if (!r)
		give_back_zeroes(job);
	return r;
}

/* --- C6: out of the range --- */

/* Blocks that a layer holds in a part of the disk, as bits; how many? */
static u64 held_by(struct chain_job *job, const struct chain_layer *l,
		   struct chain_clear *c)
{
	u64 block, end = c->block + c->n, n, held = 0;
	unsigned int state;

	bitmap_zero(job->which, c->n);
	for (block = c->block; block < end; block += n) {
		n = chain_statemap_run(&l->map, block, end - block, &state);
		if (state == DM_CHAIN_ABSENT)
			continue;
		bitmap_set(job->which, block - c->block, n);
		held += n;
	}
	return held;
}

/* Bytes that it held; or a negative errno. */
static s64 clear_layer(struct chain_job *job, struct chain_layer *l,
		       sector_t start, sector_t end)
{
	struct chain_clear c = { .which = job->which };
	u64 held;
	int r;

	if (!blocks_in(l, start, end, &c))
		return 0;
	held = held_by(job, l, &c);
	if (!held)
		return 0;
	r = chain_meta_clear(l, &c);
	if (r)
		return r;
	return held << (l->block_sectors_shift + SECTOR_SHIFT);
}

static int clear_range(struct chain_job *job, sector_t start, sector_t end)
{
	unsigned int i;
	s64 n;

	for (i = job->b; i-- > job->t; ) {
		n = clear_layer(job, layer_at(job, i), start, end);
		if (n >= 0)
			continue;
		/* For want of memory it can be done again. */
		job->fatal = n != -ENOMEM;
		return n;
	}
	return 0;
}

/* --- C7: space --- */

/* What a layer lacks there: nobody will look for that at this layer again. */
static void punch_layer(struct chain_att *att, sector_t start, sector_t end)
{
	const struct chain_layer *l = att->layer;
	struct chain_clear c;
	unsigned int state;
	u64 block, n;

	if (!blocks_in(l, start, end, &c))
		return;
	for (block = c.block; block < c.block + c.n; block += n) {
		n = chain_statemap_run(&l->map, block, c.block + c.n - block,
				       &state);
		if (state == DM_CHAIN_ABSENT)
			chain_give_back(att, block_to_sector(l, block),
					block_to_sector(l, n));
	}
}

/* Locked: else the top could be written there just now, if the base refuses. */
static bool punch(struct chain_job *job, sector_t start, sector_t end)
{
	unsigned int i;

	if (is_active(job) && !chain_job_lock(job, start, end))
		return false;
	for (i = job->t; i < job->b; i++)
		punch_layer(chain_job_att(job, i), start, end);
	unlock(job, start, end);
	return true;
}

/* As much as reads that are under way allow, or all of it. */
static void punch_some(struct chain_job *job, bool all)
{
	struct chain_punch *p = job->punch;
	unsigned int n = 0;

	if (all && job->nr_punch)
		synchronize_srcu_expedited(&job->disk->reads);
	while (n < job->nr_punch &&
	       (all || poll_state_synchronize_srcu(&job->disk->reads, p[n].cookie))) {
		if (punch(job, p[n].start, p[n].end))
			n++;
		else if (all)
			schedule_timeout_idle(1);
		else
			break;
	}
	job->nr_punch -= n;
	memmove(p, p + n, job->nr_punch * sizeof(*p));
}

static bool can_punch(const struct chain_job *job)
{
	unsigned int i;

	for (i = job->t; i < job->b; i++)
		if (bdev_max_discard_sectors(chain_job_att(job, i)->bdev))
			return true;
	return false;
}

/* A read that found the range holding a block may be under way. */
static void punch_later(struct chain_job *job, sector_t start, sector_t end)
{
	if (!can_punch(job))
		return;
	if (job->nr_punch == CHAIN_PUNCHES)
		punch_some(job, true);
	job->punch[job->nr_punch++] = (struct chain_punch){
		start, end, start_poll_synchronize_srcu(&job->disk->reads),
	};
}

/* --- A batch --- */

static void done(struct chain_job *job)
{
	const struct chain_plan *p = job->plan;
	u64 bytes = p->bytes;

	if (!raw_base(job))
		bytes += (u64)bitmap_weight(p->zero, CHAIN_PLAN_BLOCKS) <<
			 (job->base->block_sectors_shift + SECTOR_SHIFT);
	chain_job_done(job, bytes);
}

static int commit_step(struct chain_job *job)
{
	sector_t start, end, grain = cell(job);
	int r;

	/* The guest had to write above the base: from the start again. */
	if (READ_ONCE(job->disk->rescan) && is_active(job)) {
		WRITE_ONCE(job->disk->rescan, false);
		/* What is cleared again has reads of its own to wait for. */
		punch_some(job, true);
		job->cursor = 0;
	}
	punch_some(job, false);
	job->cursor = next_held(job, job->cursor);
	if (job->cursor >= job->top->size)
		punch_some(job, true);
	if (job->cursor >= job->top->size)
		return is_active(job) && READ_ONCE(job->disk->rescan) ? 1 : 0;
	start = round_down(job->cursor, grain);
	end = lock_some(job, start, chain_job_batch(job), grain);
	if (end == start)
		return -EAGAIN;
	r = move_down(job, start, end);
	if (!r)
		r = clear_range(job, start, job->plan->end);
	unlock(job, start, end);
	if (r)
		return r;
	punch_later(job, start, job->plan->end);
	job->cursor = job->plan->end;
	done(job);
	return 1;
}

static void commit_skip(struct chain_job *job)
{
	job->cursor = max(job->plan->end, job->cursor + 1);
}

/* --- The end of a commit of lower layers --- */

/* The base is itself again, and what stands on it knows it by its id. */
static int free_base(struct chain_job *job)
{
	struct chain_layer *l = job->base;
	struct chain_header *h = job->hdr;
	int r;

	if (raw_base(job))
		return 0;
	mutex_lock(&l->rw_mutex);
	*h = l->hdr;
	h->marks &= ~DM_CHAIN_MARK_SPOILED;
	h->marks |= DM_CHAIN_MARK_SEALED;
	memset(&h->job, 0, sizeof(h->job));
	h->sealed_by = job->over->uuid;
	memcpy(h->child_path, job->top->hdr.child_path, sizeof(h->child_path));
	r = chain_layer_update(base_att(job), h, false);
	mutex_unlock(&l->rw_mutex);
	return r;
}

static int link_to_base(struct chain_job *job, struct chain_header *h)
{
	memset(&h->parent, 0, sizeof(h->parent));
	h->parent.format = job->base->format;
	h->parent.size = (u64)job->base->size << SECTOR_SHIFT;
	h->limit = min(h->limit, job->top->hdr.size);
	memcpy(h->parent_path, job->path, sizeof(h->parent_path));
	if (raw_base(job))
		return chain_raw_fingerprint(base_att(job), &h->parent.cid);
	h->parent.uuid = job->base->uuid;
	h->parent.cid = job->base->hdr.cid;
	return 0;
}

/* The commit point. */
static int relink_over(struct chain_job *job)
{
	struct chain_layer *l = job->over;
	struct chain_att *att = chain_job_att(job, job->t - 1);
	int r = raw_base(job) ? chain_flush_dev(base_att(job)) : 0;

	if (r)
		return r;
	mutex_lock(&l->rw_mutex);
	*job->hdr = l->hdr;
	r = link_to_base(job, job->hdr);
	if (!r)
		r = chain_layer_update(att, job->hdr, false);
	mutex_unlock(&l->rw_mutex);
	return r;
}

/* T still shows what it did, while it and the base are there. */
static void end_record(struct chain_job *job, struct chain_att *att)
{
	struct chain_layer *l = job->top;

	mutex_lock(&l->rw_mutex);
	if (l->meta && !READ_ONCE(l->failed)) {
		*job->hdr = l->hdr;
		job->hdr->record.flags |= DM_CHAIN_RECORD_DONE;
		chain_layer_update(att, job->hdr, false);
	}
	mutex_unlock(&l->rw_mutex);
}

static void unpin(struct chain_inst *ci, void *arg)
{
	struct chain_job *job = arg;

	WRITE_ONCE(job->pins, false);
	if (!job->installed)
		return;
	job->installed = false;
	ci->disk->tracked--;
	if (!is_active(job))
		return;
	ci->disk->route = 0;
	WRITE_ONCE(base_att(job)->access[CHAIN_GUEST], DM_CHAIN_ACCESS_RO);
}

/* The same when the range has gone. */
static void let_go(struct chain_inst *ci, void *arg)
{
	struct chain_job *job = arg;

	unpin(ci, arg);
	job->unbound = true;
}

/* Claimed, and busy up to the commit point: its layers stay where they are. */
static int finish_claimed(struct chain_job *job)
{
	struct chain_att *top = top_att(job);
	struct chain_drop drop = {
		.first = job->t, .n = job->b - job->t, .above = job->over,
		.also = let_go, .arg = job,
	};
	int r = free_base(job);

	if (!r)
		r = relink_over(job);
	chain_job_leave(job);
	if (r)
		return r;
	drop.limit = job->over->hdr.limit >> SECTOR_SHIFT;
	chain_drop_layers(job->ci, &drop);
	/* T is nobody's now: if the disk goes, it is left with its record. */
	if (chain_job_try_enter(job)) {
		end_record(job, top);
		chain_job_leave(job);
	}
	return 0;
}

static int commit_finish(struct chain_job *job)
{
	int r;

	/* The disk has moved on by a pivot. */
	if (is_active(job))
		return 0;
	r = chain_job_claim_enter(job);
	if (r)
		return r;
	r = finish_claimed(job);
	chain_job_unclaim(job);
	return r;
}

/* --- Cancelled, failed --- */

/*
 * Guest flushes cover the base until what is in it is durable. If that can't be
 * had, no flush may say that all is well, until the disk is opened again.
 */
static void settle_base(struct chain_job *job)
{
	if (chain_job_enter(job))
		return;
	if (READ_ONCE(job->base->failed) || base_durable(job)) {
		chain_layer_fail(job->base, "flush", -EIO);
		WRITE_ONCE(job->disk->failed, true);
	}
	chain_job_leave(job);
}

/* Suspended: no flush is on its way to the base. */
static void unroute(struct chain_inst *ci, void *arg)
{
	struct chain_job *job = arg;

	job->settles = false;
	ci->disk->route_flush = 0;
}

static int commit_cancel(struct chain_job *job, int err)
{
	bool active = is_active(job) && job->installed;

	if (!job->installed || chain_job_enter(job))
		return err;
	punch_some(job, true);
	chain_job_leave(job);
	if (chain_job_claim_wait(job, false))
		return err;
	job->settles = active;
	chain_change_lookup(job->ci, unpin, job);
	chain_job_unclaim(job);
	if (!active)
		return err;
	settle_base(job);
	/* Else the disk is going, and has no flushes. */
	if (chain_job_claim_wait(job, false))
		return err;
	chain_change(job->ci, unroute, job);
	chain_job_unclaim(job);
	return err;
}

/* --- Pivot: the end of an active commit --- */

struct pivot {
	struct chain_job *job;
	struct chain_drop drop;
	bool late;
};

/* Suspended: the base becomes the top. Nothing above it holds anything. */
static void pivot_now(struct chain_inst *ci, void *arg)
{
	struct pivot *p = arg;
	struct chain_job *job = p->job;
	struct chain_att *top = chain_top(ci), *base = base_att(job);

	p->late = READ_ONCE(ci->disk->rescan);
	if (p->late)
		return;
	let_go(ci, job);
	ci->disk->route_flush = 0;
	chain_drop_now(ci, &p->drop);
	WRITE_ONCE(top->access[CHAIN_GUEST], DM_CHAIN_ACCESS_NONE);
	chain_use_change(ci->disk, top, DM_CHAIN_OPROLE_GUEST_THROUGH);
	WRITE_ONCE(base->access[CHAIN_GUEST], DM_CHAIN_ACCESS_RW);
	WRITE_ONCE(base->access[CHAIN_JOB], DM_CHAIN_ACCESS_RO);
	base->word = CHAIN_WORD_RW;
	chain_use_change(ci->disk, base, DM_CHAIN_OPROLE_GUEST_ACTIVE);
}

/* The base's new id closes T, which accepts two others: the commit point. */
static int open_base(struct chain_att *att, struct chain_header *h)
{
	struct chain_layer *l = att->layer;
	int r;

	mutex_lock(&l->rw_mutex);
	*h = l->hdr;
	h->marks &= ~(DM_CHAIN_MARK_SPOILED | DM_CHAIN_MARK_SEALED);
	memset(&h->job, 0, sizeof(h->job));
	memset(&h->sealed_by, 0, sizeof(h->sealed_by));
	memset(h->child_path, 0, sizeof(h->child_path));
	chain_random_id(&h->cid);
	r = chain_layer_update(att, h, false);
	mutex_unlock(&l->rw_mutex);
	return r;
}

/* A raw base can carry no mark: T says that the disk is there now. */
static int retire(struct chain_att *att, struct chain_header *h)
{
	struct chain_layer *l = att->layer;
	int r;

	mutex_lock(&l->rw_mutex);
	*h = l->hdr;
	h->marks |= DM_CHAIN_MARK_RETIRED;
	h->record.flags |= DM_CHAIN_RECORD_DONE;
	r = chain_layer_update(att, h, false);
	mutex_unlock(&l->rw_mutex);
	return r;
}

static bool commit_more(struct chain_job *job)
{
	return READ_ONCE(job->disk->rescan);
}

/* One disk: several are for mirrors. */
static int commit_pivot(struct chain_member *m, unsigned int nr)
{
	struct chain_job *job = m->job;
	struct chain_inst *ci = m->ci;
	struct chain_att *top = chain_top(ci), *base = base_att(job);
	struct pivot p = {
		.job = job, .drop = { .first = 0, .n = job->b },
	};
	int r;

	/* What is on its way has less to wait for in the pause. */
	r = chain_meta_sync(top->layer);
	if (!r)
		r = base_durable(job);
	if (r)
		return r;
	chain_drop_prepare(ci, &p.drop);
	m->pause_ns = chain_change(ci, pivot_now, &p);
	chain_drop_done(&p.drop);
	if (p.late)
		return -EAGAIN;
	/* T holds nothing: till then it shows the same, by way of its record. */
	r = raw_base(job) ? retire(top, job->hdr) : open_base(base, job->hdr);
	if (!r)
		return 0;
	WRITE_ONCE(ci->disk->failed, true);
	DMERR("%s: pivot is not durable (%d): open the disk again at its old top",
	      ci->disk->name, r);
	return -EIO;
}

const struct chain_job_ops chain_commit_ops = {
	.check = commit_check,
	.estimate = commit_estimate,
	.record = commit_record,
	.prepare = commit_prepare,
	.step = commit_step,
	.skip = commit_skip,
	.finish = commit_finish,
	.more = commit_more,
	.pivot = commit_pivot,
	.cancel = commit_cancel,
	.bind = commit_bind,
};
