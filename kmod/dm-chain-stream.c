// SPDX-License-Identifier: GPL-2.0-only
/*
 * Stream: a layer takes in what the layers below it hold, down to one that is
 * kept; then the ones in between are dropped.
 *
 *	1 the layer's header has a record of it (a hint only)
 *	2 for each block that it lacks and a layer to be dropped holds: under the
 *	  block's lock, if the guest may write there: copy; the state changes
 *	3 all that durable
 *	4 its header names another parent, and the lower see-through limit: the
 *	  commit point
 *	5 in memory, while the disk is suspended, the same
 *
 * Lookups may take a block from a source or from the layer while both have it:
 * sources don't change and are never punched.
 *
 * Crash: before 4 the chain is what it was, with more in the layer. The map is
 * the progress. After 4 the layers are out of the chain.
 */
#include "dm-chain-job.h"

static struct chain_att *into_att(const struct chain_job *job)
{
	return chain_job_att(job, job->t);
}

static void stream_bind(struct chain_job *job)
{
	job->t = chain_job_depth(job, job->into);
	job->b = job->base ? chain_job_depth(job, job->base) : job->ci->nr;
}

/* --- What it has to take in --- */

/* The sources' answer; KEEP: none holds it, or nobody would see the difference. */
static enum chain_want want_of(const struct chain_job *job, unsigned int state)
{
	switch (state) {
	case DM_CHAIN_DATA:
		return CHAIN_WANT_COPY;
	case DM_CHAIN_ZERO:
		/* With no parent left, what is absent reads zeroes. */
		return job->b < job->ci->nr ? CHAIN_WANT_ZERO : CHAIN_WANT_KEEP;
	case DM_CHAIN_DAMAGED:
		return CHAIN_WANT_BAD;
	default:
		return CHAIN_WANT_KEEP;
	}
}

/* Sectors that share the state of a block of the layer. */
static sector_t own_run(const struct chain_layer *l, sector_t sector,
			sector_t max, unsigned int *state)
{
	sector_t into = sector & (block_sectors(l) - 1);
	u64 block = sector_to_block(l, sector);
	u64 n = sector_to_block(l, into + max - 1) + 1;

	n = chain_statemap_run(&l->map, block, min(n, l->map.blocks - block),
			       state);
	return min(max, block_to_sector(l, n) - into);
}

static sector_t stream_want(struct chain_job *job, sector_t sector, sector_t max,
			    enum chain_want *want, struct chain_att **from)
{
	const struct chain_layer *l = job->into;
	unsigned int state;

	*want = CHAIN_WANT_KEEP;
	max = own_run(l, sector, max, &state);
	if (state != DM_CHAIN_ABSENT || sector >= l->limit)
		return max;
	max = chain_walk(job->ci, job->t + 1, job->b, sector,
			 min(max, l->limit - sector), from, &state);
	*want = want_of(job, state);
	return max;
}

/* The rest of a block that is taken in: what is seen there. */
static sector_t stream_fill(struct chain_job *job, sector_t sector, sector_t max,
			    enum chain_want *want, struct chain_att **from)
{
	const struct chain_layer *l = job->into;
	unsigned int state;

	*want = CHAIN_WANT_ZERO;
	if (sector >= l->limit)
		return max;
	max = chain_walk(job->ci, job->t + 1, job->ci->nr, sector,
			 min(max, l->limit - sector), from, &state);
	if (state == DM_CHAIN_DATA)
		*want = CHAIN_WANT_COPY;
	else if (state == DM_CHAIN_DAMAGED)
		*want = CHAIN_WANT_BAD;
	return max;
}

/* The first sector from the cursor on that has to be taken in, or the end. */
static sector_t next_wanted(struct chain_job *job)
{
	sector_t size = job->into->size, sector = job->cursor;
	struct chain_att *from;
	enum chain_want w;

	while (sector < size) {
		sector_t n = stream_want(job, sector, size - sector, &w, &from);

		if (w != CHAIN_WANT_KEEP || chain_job_should_stop(job))
			break;
		sector += n;
		cond_resched();
	}
	return sector;
}

/* Whole blocks with something in them that has to be taken in. */
static u64 count_wanted(struct chain_job *job, u64 *zero)
{
	const struct chain_layer *l = job->into;
	sector_t sector = 0, n, mask = block_sectors(l) - 1;
	struct chain_att *from;
	enum chain_want w;
	u64 sectors = 0;

	*zero = 0;
	while (sector < l->size && !fatal_signal_pending(current)) {
		n = stream_want(job, sector, l->size - sector, &w, &from);
		if (w == CHAIN_WANT_KEEP) {
			sector += n;
			continue;
		}
		/* From block to block: what begins in one counts with it. */
		n = ((sector & mask) + n + mask) & ~mask;
		sector &= ~mask;
		if (w == CHAIN_WANT_ZERO)
			*zero += n;
		else
			sectors += n;
		sector += n;
		cond_resched();
	}
	return sectors;
}

/* --- Before it begins --- */

/*
 * What a commit has left fits nothing but its record: layers that it has emptied,
 * and the base's id, which no other link has but that of the layer above it.
 */
static bool left_by_commit(const struct chain_job *job)
{
	return job->into->hdr.marks & DM_CHAIN_MARK_SPOILED ||
	       (job->base && chain_job_through(job, job->b));
}

static int stream_check(struct chain_job *job, u32 flags)
{
	const struct chain_att *att = into_att(job);
	unsigned int i;

	if (job->into->format != DM_CHAIN_FORMAT_CHAIN)
		return -EINVAL;
	if (left_by_commit(job))
		return -EBUSY;
	for (i = job->t; i <= job->b && i < job->ci->nr; i++) {
		if (chain_job_unfinished(job, i))
			return -EBUSY;
		if (READ_ONCE(chain_job_att(job, i)->layer->failed))
			return -EIO;
	}
	if (!chain_att_rw(att) || !job->into->meta ||
	    READ_ONCE(att->access[CHAIN_JOB]) != DM_CHAIN_ACCESS_RW)
		return -EROFS;
	return 0;
}

static int stream_estimate(struct chain_job *job, struct dm_chain_job_start *arg)
{
	u64 zero, data;

	if (job->into->format != DM_CHAIN_FORMAT_CHAIN)
		return -EINVAL;
	data = count_wanted(job, &zero);
	arg->move_bytes = data << SECTOR_SHIFT;
	arg->zero_bytes = zero << SECTOR_SHIFT;
	arg->new_bytes = arg->move_bytes;
	arg->need_bytes = chain_layer_bytes(&job->into->hdr);
	return 0;
}

static bool same_record(const struct chain_job *job, const struct chain_header *h)
{
	return h->marks & DM_CHAIN_MARK_JOB &&
	       h->record.type == DM_CHAIN_RECORD_STREAM &&
	       h->record.base_format == (job->base ? job->base->format :
						     DM_CHAIN_FORMAT_NONE) &&
	       (!job->base || chain_id_equal(&h->record.base, &job->base->uuid));
}

static void set_record(const struct chain_job *job, struct chain_header *h)
{
	memset(&h->record, 0, sizeof(h->record));
	h->marks |= DM_CHAIN_MARK_JOB;
	h->job = job->uuid;
	h->record.type = DM_CHAIN_RECORD_STREAM;
	if (!job->base)
		return;
	h->record.base_format = job->base->format;
	h->record.base = job->base->uuid;
}

static void drop_record(struct chain_header *h)
{
	memset(&h->record, 0, sizeof(h->record));
	memset(&h->job, 0, sizeof(h->job));
	h->marks &= ~DM_CHAIN_MARK_JOB;
}

static int write_record(struct chain_job *job)
{
	struct chain_layer *l = job->into;
	int r = 0;

	mutex_lock(&l->rw_mutex);
	*job->hdr = l->hdr;
	if (same_record(job, job->hdr)) {
		job->uuid = job->hdr->job;
	} else {
		chain_random_id(&job->uuid);
		/* One of a commit that has ended still shows the chain below. */
		if (!chain_has_record(job->hdr)) {
			set_record(job, job->hdr);
			r = chain_layer_update(into_att(job), job->hdr, false);
		}
	}
	mutex_unlock(&l->rw_mutex);
	return r;
}

static int stream_record(struct chain_job *job)
{
	int r = chain_job_enter(job);

	if (r)
		return r;
	r = write_record(job);
	chain_job_leave(job);
	return r;
}

static int stream_prepare(struct chain_job *job)
{
	u64 zero, data;
	int r = chain_job_enter(job);

	if (r)
		return r;
	data = count_wanted(job, &zero);
	chain_job_leave(job);
	chain_job_total(job, (data + zero) << SECTOR_SHIFT);
	return 0;
}

/* --- Moving --- */

/* The guest writes only the top. */
static bool needs_lock(const struct chain_job *job)
{
	return !job->t;
}

static sector_t lock_some(struct chain_job *job, sector_t start)
{
	const struct chain_layer *l = job->into;
	sector_t end = round_up(l->size, block_sectors(l));
	sector_t n = max_t(sector_t, chain_job_batch(job), block_sectors(l));

	for (; n >= block_sectors(l); n >>= 1) {
		n = round_down(n, block_sectors(l));
		if (!needs_lock(job) ||
		    chain_job_lock(job, start, min(end, start + n)))
			return min(end, start + n);
	}
	return start;
}

static void make_plan(struct chain_job *job, sector_t start, sector_t end)
{
	struct chain_plan *p = job->plan;

	p->want = stream_want;
	p->fill = stream_fill;
	p->job = job;
	p->to = into_att(job);
	p->start = start;
	p->end = end;
	p->size = job->into->size;
	p->grain = block_sectors(job->into);
}

static u64 done_bytes(const struct chain_plan *p)
{
	u64 blocks = bitmap_weight(p->data, CHAIN_PLAN_BLOCKS) +
		     bitmap_weight(p->zero, CHAIN_PLAN_BLOCKS);

	return blocks << (p->to->layer->block_sectors_shift + SECTOR_SHIFT);
}

static int take_in(struct chain_job *job, sector_t start, sector_t end)
{
	make_plan(job, start, end);
	return chain_carry_out(job);
}

static int sync_now(struct chain_job *job)
{
	int r = chain_meta_sync(job->into);

	job->fatal = r;
	return r;
}

static int stream_step(struct chain_job *job)
{
	sector_t start, end;
	int r;

	job->cursor = next_wanted(job);
	if (job->cursor >= job->into->size)
		return 0;
	start = round_down(job->cursor, block_sectors(job->into));
	end = lock_some(job, start);
	if (end == start)
		return -EAGAIN;
	r = take_in(job, start, end);
	if (needs_lock(job))
		chain_job_unlock(job, start, end);
	if (r) {
		job->fatal = READ_ONCE(job->into->failed);
		return r;
	}
	job->cursor = job->plan->end;
	chain_job_done(job, done_bytes(job->plan));
	if (chain_job_sync_due(job))
		r = sync_now(job);
	return r ?: 1;
}

/* Behind the batch that failed. */
static void stream_skip(struct chain_job *job)
{
	job->cursor = max(job->plan->end, job->cursor + 1);
}

/* --- The end --- */

/* What is gone no longer ends what shows through: the limit does. */
static u64 new_limit(const struct chain_job *job, u64 limit)
{
	unsigned int i;

	if (job->b == job->ci->nr)
		return 0;
	for (i = job->t + 1; i < job->b; i++) {
		const struct chain_layer *l = chain_job_att(job, i)->layer;

		limit = min3(limit, l->hdr.size, l->hdr.limit);
	}
	return limit;
}

static void relink(const struct chain_job *job, struct chain_header *h)
{
	const struct chain_layer *last = chain_job_att(job, job->b - 1)->layer;

	h->limit = new_limit(job, h->limit);
	drop_record(h);
	memset(h->parent_path, 0, sizeof(h->parent_path));
	if (job->b == job->ci->nr) {
		memset(&h->parent, 0, sizeof(h->parent));
		return;
	}
	h->parent = last->hdr.parent;
	memcpy(h->parent_path, job->path, sizeof(h->parent_path));
}

static int write_link(struct chain_job *job)
{
	struct chain_layer *l = job->into;
	int r = sync_now(job);

	if (r)
		return r;
	mutex_lock(&l->rw_mutex);
	*job->hdr = l->hdr;
	relink(job, job->hdr);
	r = chain_layer_update(into_att(job), job->hdr, false);
	mutex_unlock(&l->rw_mutex);
	return r;
}

static void let_go(struct chain_inst *ci, void *arg)
{
	struct chain_job *job = arg;

	job->unbound = true;
}

static int stream_finish(struct chain_job *job)
{
	struct chain_drop drop = {
		.above = job->into, .also = let_go, .arg = job,
	};
	int r = chain_job_claim_enter(job);

	if (r)
		return r;
	/* Claimed, entered: its layers stay where they are. */
	drop.first = job->t + 1;
	drop.n = job->b - job->t - 1;
	r = write_link(job);
	chain_job_leave(job);
	if (!r) {
		drop.limit = job->hdr->limit >> SECTOR_SHIFT;
		chain_drop_layers(job->ci, &drop);
	}
	chain_job_unclaim(job);
	return r;
}

/* Cancelled by the user: nobody has to be told that there was a job. */
static int stream_cancel(struct chain_job *job, int err)
{
	struct chain_layer *l = job->into;

	if (chain_job_enter(job))
		return err;
	if (!READ_ONCE(l->failed) && !chain_meta_sync(l) &&
	    READ_ONCE(job->cancelled)) {
		mutex_lock(&l->rw_mutex);
		if (same_record(job, &l->hdr)) {
			*job->hdr = l->hdr;
			drop_record(job->hdr);
			chain_layer_update(into_att(job), job->hdr, false);
		}
		mutex_unlock(&l->rw_mutex);
	}
	chain_job_leave(job);
	return err;
}

const struct chain_job_ops chain_stream_ops = {
	.check = stream_check,
	.estimate = stream_estimate,
	.record = stream_record,
	.prepare = stream_prepare,
	.step = stream_step,
	.skip = stream_skip,
	.finish = stream_finish,
	.cancel = stream_cancel,
	.bind = stream_bind,
};
