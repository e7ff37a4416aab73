// SPDX-License-Identifier: GPL-2.0-only
/*
 * Mirror: all that a disk shows is copied to a target, or what its top holds;
 * meanwhile and from then on what the guest writes goes to both.
 *
 * Owns: struct chain_mirror, from the record to the end of the job. The disk
 * points to it from one suspend to another.
 *
 *	R1 header D: incomplete, by this job. It is refused by everybody. Chain to
 *	   chain: header S: the record, by which it can go on later
 *	R2 the disk knows: writes of the guest come by dm-chain-both.c
 *	R3 region by region, batch by batch, with the guest kept off its blocks:
 *	   what D lacks is copied; D's map says so. From then on the guest writes
 *	   there at both sides; till then at S alone
 *	R4 nothing is left to copy: ready. What D fails at, or S, is left again
 *
 * Pivot: dm-chain-pivot.c.
 *
 * Cancel, when ready: while the disk is suspended D is left, with all that was
 * acknowledged and nothing else. D durable, then its header: complete. Else D stays
 * incomplete.
 *
 * Resume: with the record changes of S are tracked (dm-chain-track.c), as long as
 * S is opened by those who do, whether it is mirrored just then or not. Where S
 * has not changed D's map is right; so it goes on with what D lacks and with what
 * is flagged. S is durable before anything is copied: what has been written when
 * there were no flags may be lost with a cut at S alone. When all is there, flags of
 * what both sides have durably are cleared. The record goes when D is complete, or is
 * the disk.
 *
 * Verify: when all is there both sides are read and compared, with the guest kept off
 * (dm-chain-verify.c), before it is ready.
 *
 * Zeroes: where D, a chain, stands on nothing, and has nothing, it reads zeroes; so
 * does a raw D that is new. There they cost nothing.
 *
 * Locking: block locks for batches, and for whole regions in passing. The maps of
 * regions are bits that are set from any context; m->at and m->cursor are the
 * thread's to write. Reads of lower layers are counted (SRCU), as a commit below may
 * give back what they were sent to. rw_mutex over headers. Nothing of this is held
 * while it waits for its turn.
 *
 * Failure: what a batch fails at, or a write of the guest at D, is up to the job's
 * policy. A failed flush or map of D ends the job. The guest hears of D only once D
 * is the disk.
 */
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "dm-chain-mirror.h"

#define CLONES		64	/* in reserve */
#define LOOKS		4096	/* regions with nothing to copy in one step */

static struct chain_att *source(const struct chain_job *job)
{
	return chain_job_att(job, 0);
}

static void mirror_bind(struct chain_job *job)
{
	job->t = 0;
	job->b = job->ci->nr;
	if (!job->installed)
		return;
	job->m->to = job->ci->target;
	WRITE_ONCE(job->m->to->access[CHAIN_JOB], DM_CHAIN_ACCESS_RW);
}

/* --- What has to be copied --- */

/* Sectors that share the state of a block of the target. */
static sector_t target_run(const struct chain_job *job, sector_t sector,
			   sector_t max, unsigned int *state)
{
	const struct chain_layer *l = job->target;
	sector_t into = sector & (block_sectors(l) - 1);
	u64 block = sector_to_block(l, sector);
	u64 n = sector_to_block(l, into + max - 1) + 1;

	*state = DM_CHAIN_ABSENT;
	if (chain_raw_target(job))
		return max;
	n = chain_statemap_run(&l->map, block, min(n, l->map.blocks - block),
			       state);
	return min(max, block_to_sector(l, n) - into);
}

/* All that is seen at the source. */
static sector_t mirror_fill(struct chain_job *job, sector_t sector, sector_t max,
			    enum chain_want *want, struct chain_att **from)
{
	unsigned int state;

	max = chain_walk(job->ci, 0, job->ci->nr, sector, max, from, &state);
	*want = state == DM_CHAIN_DATA ? CHAIN_WANT_COPY :
		state == DM_CHAIN_ZERO ? CHAIN_WANT_ZERO : CHAIN_WANT_BAD;
	return max;
}

/* Does the target read zeroes there, whose state is this, as it is? */
static bool reads_zeroes(const struct chain_mirror *m, u64 region,
			 unsigned int state)
{
	if (m->to->layer->format == DM_CHAIN_FORMAT_RAW)
		return m->zeroed && !test_bit(region, m->changed);
	return state == DM_CHAIN_ZERO ||
	       (state == DM_CHAIN_ABSENT && !m->shallow);
}

/* KEEP: it is there, or need not be. */
static sector_t mirror_want(struct chain_job *job, sector_t sector, sector_t max,
			    enum chain_want *want, struct chain_att **from)
{
	const struct chain_mirror *m = job->m;
	u64 region = chain_region(m, sector);
	unsigned int state, to;

	*want = CHAIN_WANT_KEEP;
	max = min_t(sector_t, max, ((region + 1) << m->shift) - sector);
	max = target_run(job, sector, max, &to);
	if (!test_bit(region, m->todo))
		return max;
	/* It isn't absent, nor is it there, nor can it be copied there. */
	if (to == DM_CHAIN_DAMAGED) {
		*want = CHAIN_WANT_BAD;
		return max;
	}
	if (to != DM_CHAIN_ABSENT && !test_bit(region, m->changed))
		return max;
	if (m->shallow) {
		max = chain_walk(job->ci, 0, 1, sector, max, from, &state);
		if (state == DM_CHAIN_ABSENT && to == DM_CHAIN_ABSENT)
			return max;
	}
	max = mirror_fill(job, sector, max, want, from);
	if (*want == CHAIN_WANT_ZERO && reads_zeroes(m, region, to))
		*want = CHAIN_WANT_KEEP;
	return max;
}

/* The first sector that has to be copied, or the end. */
static sector_t next_wanted(struct chain_job *job, sector_t sector, sector_t end)
{
	struct chain_att *from;
	enum chain_want w;

	end = min(end, job->top->size);
	while (sector < end) {
		sector_t n = mirror_want(job, sector, end - sector, &w, &from);

		if (w != CHAIN_WANT_KEEP)
			break;
		sector += n;
	}
	return sector;
}

static u64 count_wanted(struct chain_job *job)
{
	sector_t sector = 0, size = job->top->size, n;
	struct chain_att *from;
	enum chain_want w;
	u64 sectors = 0;

	for (; sector < size && !chain_job_should_stop(job); sector += n) {
		n = mirror_want(job, sector, size - sector, &w, &from);
		if (w != CHAIN_WANT_KEEP)
			sectors += n;
		cond_resched();
	}
	return sectors;
}

/* Data that will be compared. */
static u64 count_seen(struct chain_job *job)
{
	sector_t sector = 0, size = job->top->size, n;
	struct chain_att *from;
	enum chain_want w;
	u64 sectors = 0;

	if (!job->m->unverified)
		return 0;
	for (; sector < size && !chain_job_should_stop(job); sector += n) {
		n = mirror_fill(job, sector, size - sector, &w, &from);
		if (w == CHAIN_WANT_COPY)
			sectors += n;
		cond_resched();
	}
	return sectors;
}

/* --- Before it begins --- */

static bool is_empty(const struct chain_layer *l)
{
	u64 count[4];

	if (l->format == DM_CHAIN_FORMAT_RAW)
		return true;
	chain_statemap_count(&l->map, count);
	return count[DM_CHAIN_ABSENT] == l->map.blocks;
}

static bool can_track(const struct chain_job *job)
{
	return !chain_raw_source(job) && !chain_raw_target(job);
}

/* Is what the target has a part of what it was to become? */
static bool resumable(const struct chain_job *job)
{
	const struct chain_header *h = &job->top->hdr, *to = &job->target->hdr;

	return can_track(job) && READ_ONCE(job->top->tracks) &&
	       chain_id_equal(&h->record.base, &job->target->uuid) &&
	       chain_id_equal(&h->job, &to->job) &&
	       to->marks & (DM_CHAIN_MARK_INCOMPLETE | DM_CHAIN_MARK_PREPARED);
}

static int mirror_check(struct chain_job *job, u32 flags)
{
	const struct chain_att *to = job->ci->target;

	if (!job->target || !to)
		return -ENXIO;
	if (flags & (DM_CHAIN_JOB_PREPARE | DM_CHAIN_JOB_FORCE) ||
	    (flags & DM_CHAIN_JOB_ZEROED && !chain_raw_target(job)))
		return -EINVAL;
	if (READ_ONCE(job->top->failed) || READ_ONCE(job->target->failed))
		return -EIO;
	if (!chain_att_rw(to) || (!chain_raw_target(job) && !job->target->meta) ||
	    !chain_guest_rw(chain_top(job->ci)))
		return -EROFS;
	/* The top may be another one, or larger, since the table was loaded. */
	if (chain_target_unfit(job->ci))
		return -ESTALE;
	/* Its header is how what is below is read: it can't be retired. */
	if (!chain_raw_source(job) && chain_has_record(&job->top->hdr))
		return -EBUSY;
	return resumable(job) || is_empty(job->target) ? 0 : -ENOTEMPTY;
}

static int mirror_estimate(struct chain_job *job, struct dm_chain_job_start *arg)
{
	return -EINVAL;
}

/* --- R1: the record --- */

static void mirror_free(struct chain_job *job)
{
	struct chain_mirror *m = job->m;

	if (!m)
		return;
	/* Of a disk that goes: nobody writes to it any more. */
	if (job->disk->mirror == m)
		job->disk->mirror = NULL;
	bioset_exit(&m->bios);
	kvfree(m->track);
	kvfree(m->tracked);
	kvfree(m->touched);
	kvfree(m->unverified);
	kvfree(m->missed);
	kvfree(m->changed);
	kvfree(m->todo);
	kfree(m);
	job->m = NULL;
}

static unsigned long *bits_for(const struct chain_mirror *m)
{
	return kvcalloc(BITS_TO_LONGS(m->regions), sizeof(long), GFP_KERNEL);
}

static void set_geometry(struct chain_job *job, struct chain_mirror *m)
{
	const struct chain_layer *top = job->top, *to = job->target;

	m->shift = top->block_sectors_shift + ilog2(CHAIN_REGION_BLOCKS);
	m->regions = chain_region(m, top->size - 1) + 1;
	m->cell = max(block_sectors(top), CHAIN_UNIT_SECTORS);
	if (!chain_raw_target(job))
		m->cell = max_t(sector_t, m->cell, block_sectors(to));
	m->shallow = !chain_raw_target(job) &&
		     to->hdr.parent.format != DM_CHAIN_FORMAT_NONE;
	m->zeroed = job->start_flags & DM_CHAIN_JOB_ZEROED;
}

static int alloc_tracking(struct chain_job *job)
{
	struct chain_mirror *m = job->m;

	m->resumes = resumable(job);
	m->touched = bits_for(m);
	if (!m->touched)
		return -ENOMEM;
	/* Flags of one that was cut off say too much for another, if anything. */
	return job->top->track ? 0 :
	       chain_track_alloc(job->top, &m->track, &m->tracked);
}

static int mirror_alloc(struct chain_job *job)
{
	struct chain_mirror *m = kzalloc(sizeof(*m), GFP_KERNEL);

	if (!m)
		return -ENOMEM;
	job->m = m;
	m->job = job;
	spin_lock_init(&m->lock);
	INIT_LIST_HEAD(&m->parked);
	set_geometry(job, m);
	m->todo = bits_for(m);
	m->changed = bits_for(m);
	m->missed = bits_for(m);
	if (!m->todo || !m->changed || !m->missed)
		return -ENOMEM;
	bitmap_fill(m->todo, m->regions);
	if (can_track(job) && alloc_tracking(job))
		return -ENOMEM;
	if (job->start_flags & DM_CHAIN_JOB_VERIFY) {
		m->unverified = bits_for(m);
		if (!m->unverified)
			return -ENOMEM;
		bitmap_fill(m->unverified, m->regions);
	}
	return bioset_init(&m->bios, CLONES, 0, 0);
}

/* One durable change of a side's header; scratch is the job's. */
static int change_header(struct chain_job *job, struct chain_att *att,
			 void (*fn)(struct chain_job *job, struct chain_header *h))
{
	struct chain_layer *l = att->layer;
	int r;

	mutex_lock(&l->rw_mutex);
	*job->hdr = l->hdr;
	fn(job, job->hdr);
	r = chain_layer_update(att, job->hdr, false);
	mutex_unlock(&l->rw_mutex);
	return r;
}

/* Nothing below shows at the target that doesn't at the source. */
void chain_mirror_set_incomplete(struct chain_job *job, struct chain_header *h)
{
	h->marks &= ~DM_CHAIN_MARK_PREPARED;
	h->marks |= DM_CHAIN_MARK_INCOMPLETE;
	h->job = job->uuid;
	h->coordinator = job->top->uuid;
	h->limit = job->m->shallow ? job->top->hdr.limit : 0;
}

/* Of the source, so that it can go on after a cut. */
static void set_record(struct chain_job *job, struct chain_header *h)
{
	struct chain_record *rec = &h->record;

	memset(rec, 0, sizeof(*rec));
	h->marks |= DM_CHAIN_MARK_JOB;
	h->job = job->uuid;
	rec->type = DM_CHAIN_RECORD_MIRROR;
	rec->base_format = DM_CHAIN_FORMAT_CHAIN;
	rec->base = job->target->uuid;
	rec->c0 = h->cid;
	memcpy(h->child_path, job->path, sizeof(h->child_path));
}

static void drop_record(struct chain_job *job, struct chain_header *h)
{
	h->marks &= ~DM_CHAIN_MARK_JOB;
	memset(&h->record, 0, sizeof(h->record));
	memset(&h->job, 0, sizeof(h->job));
	memset(h->child_path, 0, sizeof(h->child_path));
}

static bool has_record(const struct chain_job *job)
{
	const struct chain_header *h = &job->top->hdr;

	return !chain_raw_source(job) && h->marks & DM_CHAIN_MARK_JOB &&
	       h->record.type == DM_CHAIN_RECORD_MIRROR;
}

/* Nobody can go on with it any more, so nobody need say what changes. */
static int forget(struct chain_job *job)
{
	int r = has_record(job) ?
		change_header(job, source(job), drop_record) : 0;

	if (!r)
		WRITE_ONCE(job->disk->tracking, false);
	return r;
}

int chain_mirror_forget(struct chain_job *job)
{
	struct chain_job *other;
	int r = 0;

	mutex_lock(&chain_registry_mutex);
	list_for_each_entry(other, &job->disk->jobs, on_disk)
		if (other->type == DM_CHAIN_JOB_MIRROR)
			r = -EBUSY;
	mutex_unlock(&chain_registry_mutex);
	if (r || !has_record(job))
		return r ?: -ENOENT;
	job->hdr = kmalloc(sizeof(*job->hdr), GFP_KERNEL);
	if (!job->hdr)
		return -ENOMEM;
	r = forget(job);
	kfree(job->hdr);
	job->hdr = NULL;
	return r;
}

static int write_records(struct chain_job *job)
{
	int r;

	if (chain_raw_target(job))
		return 0;
	r = change_header(job, job->ci->target, chain_mirror_set_incomplete);
	if (r)
		return r;
	WRITE_ONCE(job->target->limit, job->target->hdr.limit >> SECTOR_SHIFT);
	if (!can_track(job) || job->m->resumes)
		return 0;
	return change_header(job, source(job), set_record);
}

static int mirror_record(struct chain_job *job)
{
	int r = mirror_alloc(job);

	if (!r)
		r = chain_job_enter(job);
	if (r)
		return r;
	if (job->m->resumes)
		job->uuid = job->top->hdr.job;
	else
		chain_random_id(&job->uuid);
	r = write_records(job);
	chain_job_leave(job);
	return r;
}

/* --- R2: the disk knows --- */

static void install(struct chain_inst *ci, void *arg)
{
	struct chain_job *job = arg;
	struct chain_mirror *m = job->m;

	job->installed = true;
	ci->disk->mirror = m;
	if (m->track) {
		swap(job->top->track, m->track);
		swap(job->top->tracked, m->tracked);
	}
	if (m->touched)
		job->top->tracks = true;
	if (m->resumes)
		bitmap_copy(m->changed, job->top->track, m->regions);
	/* The rest is done in resume: mirror_bind(). */
}

static int mirror_prepare(struct chain_job *job)
{
	int r = chain_job_claim_wait(job, true);

	if (r)
		return r;
	chain_change(job->ci, install, job);
	chain_job_unclaim(job);
	r = chain_job_enter(job);
	if (r)
		return r;
	if (job->m->touched)
		r = chain_meta_sync(job->top);
	chain_job_total(job, (count_wanted(job) + count_seen(job)) << SECTOR_SHIFT);
	chain_job_leave(job);
	return r;
}

/* --- R3: copying --- */

static sector_t region_end(const struct chain_job *job)
{
	const struct chain_mirror *m = job->m;

	return min_t(sector_t, (m->at + 1) << m->shift,
		     round_up(job->top->size, m->cell));
}

/* The one that it is at, or the next one that there is something to do for. */
static bool find_region(struct chain_job *job)
{
	struct chain_mirror *m = job->m;
	u64 next;

	if (test_bit(m->at, m->todo) && m->cursor < region_end(job))
		return true;
	next = find_next_bit(m->todo, m->regions, m->at);
	if (next >= m->regions)
		next = find_first_bit(m->todo, m->regions);
	if (next >= m->regions)
		return false;
	/* A write in between goes to both, or is one that the job will copy. */
	WRITE_ONCE(m->cursor, next << m->shift);
	WRITE_ONCE(m->at, next);
	return true;
}

/* All of the region is there, unless the target has missed something meanwhile. */
static void region_done(struct chain_mirror *m)
{
	if (m->unverified) {
		set_bit(m->at, m->unverified);
		/* All of it, not only from where comparing had got to. */
		if (chain_region(m, m->look) == m->at)
			m->look = (sector_t)m->at << m->shift;
	}
	clear_bit(m->at, m->todo);
	clear_bit(m->at, m->changed);
	/* Pairs with the one in chain_mirror_missed(). */
	smp_mb__after_atomic();
	if (!test_and_clear_bit(m->at, m->missed))
		return;
	set_bit(m->at, m->changed);
	set_bit(m->at, m->todo);
}

/* The blocks behind the cursor, up to @to, are locked. */
static void advance(struct chain_job *job, sector_t to)
{
	struct chain_mirror *m = job->m;

	WRITE_ONCE(m->cursor, to);
	if (to >= region_end(job))
		region_done(m);
}

/* As much as can be locked from the cursor on; the cursor: nothing now. */
static sector_t lock_some(struct chain_job *job)
{
	sector_t cell = job->m->cell, start = job->m->cursor;
	sector_t end = region_end(job), n = end - start;

	for (; n >= cell; n >>= 1) {
		n = round_down(n, cell);
		if (chain_job_lock(job, start, min(end, start + n)))
			return min(end, start + n);
	}
	return start;
}

static void unlock(struct chain_job *job, sector_t start, sector_t end)
{
	if (start < end)
		chain_job_unlock(job, start, end);
}

static u64 done_bytes(const struct chain_job *job)
{
	const struct chain_plan *p = job->plan;
	u64 bytes = p->bytes;

	if (!chain_raw_target(job))
		bytes += (u64)bitmap_weight(p->zero, CHAIN_PLAN_BLOCKS) <<
			 (job->target->block_sectors_shift + SECTOR_SHIFT);
	return bytes;
}

/* It is locked from the cursor to @end. */
static int copy_range(struct chain_job *job, sector_t end)
{
	struct chain_mirror *m = job->m;
	struct chain_plan *p = job->plan;
	int r;

	p->want = mirror_want;
	p->fill = mirror_fill;
	p->job = job;
	p->to = m->to;
	p->start = m->cursor;
	p->end = end;
	p->size = job->top->size;
	p->grain = m->cell;
	r = chain_carry_out(job);
	if (r)
		return r;
	advance(job, p->end);
	chain_job_done(job, done_bytes(job));
	return 0;
}

/*
 * What is locked and need not be copied is passed at once, however much it is; the
 * guest has to wait for a batch at most.
 */
static int copy_locked(struct chain_job *job, sector_t end)
{
	struct chain_mirror *m = job->m;
	sector_t start = m->cursor, first = next_wanted(job, start, end), stop;
	int r;

	if (first >= min(end, job->top->size)) {
		advance(job, end);
		unlock(job, start, end);
		return 0;
	}
	first = round_down(first, m->cell);
	if (first > start)
		advance(job, first);
	stop = min(end, first + round_up(chain_job_batch(job), m->cell));
	unlock(job, start, first);
	unlock(job, stop, end);
	r = copy_range(job, stop);
	unlock(job, first, stop);
	return r ?: 1;
}

/* 1: something was copied, 0: there is nothing left. */
static int copy_some(struct chain_job *job)
{
	unsigned int looks;
	sector_t end;
	int r = 0;

	for (looks = 0; looks < LOOKS && !r; looks++) {
		if (chain_job_should_stop(job))
			return -EAGAIN;
		if (!find_region(job))
			return 0;
		end = lock_some(job);
		r = end > job->m->cursor ? copy_locked(job, end) : -EAGAIN;
		cond_resched();
	}
	return r ?: 1;
}

static int target_durable(struct chain_job *job)
{
	/* Not m->to: a table that comes when it is uninstalled does not tell it. */
	int r = chain_raw_target(job) ? chain_flush_dev(job->ci->target) :
				  chain_meta_sync(job->target);

	job->fatal |= r;
	return r;
}

int chain_mirror_durable(struct chain_job *job)
{
	int r = chain_raw_source(job) ? chain_flush_dev(source(job)) :
					chain_meta_sync(job->top);

	if (r)
		return r;
	r = target_durable(job);
	if (r)
		chain_mirror_lost(job->m, r);
	return r;
}

/* What has gone wrong beside us, at writes of the guest. */
static int look_for_errors(struct chain_job *job)
{
	int r = xchg(&job->m->error, 0);

	job->fatal = READ_ONCE(job->m->fatal) || READ_ONCE(job->target->failed);
	/* Whoever took the error away, or whatever it was: there is no second try. */
	if (READ_ONCE(job->m->fatal) && (!r || r == -ENOMEM || r == -EAGAIN))
		r = -EIO;
	return r;
}

static int mirror_step(struct chain_job *job)
{
	int idx, r = look_for_errors(job);

	job->m->comparing = false;
	if (r)
		return r;
	idx = srcu_read_lock(&job->disk->reads);
	r = copy_some(job);
	if (!r) {
		job->m->comparing = true;
		r = chain_verify(job);
	}
	srcu_read_unlock(&job->disk->reads, idx);
	if (!r || (r == 1 && chain_job_sync_due(job)))
		r = target_durable(job) ?: r;
	job->fatal |= READ_ONCE(job->target->failed);
	return r;
}

/*
 * What the guest's writes have failed at while it was paused is mended, too, or
 * else fails again: it is to be copied.
 */
static void mirror_resumed(struct chain_job *job)
{
	if (!READ_ONCE(job->m->fatal))
		xchg(&job->m->error, 0);
}

/*
 * Behind what failed: the job will end with its error. What can't be compared is
 * neither copied nor compared again.
 */
static void mirror_skip(struct chain_job *job)
{
	struct chain_mirror *m = job->m;
	u64 region = m->comparing ? chain_region(m, m->look) : m->at;

	if (m->comparing && m->unverified)
		clear_bit(region, m->unverified);
	if (!test_bit(region, m->todo))
		return;
	clear_bit(region, m->todo);
	clear_bit(region, m->missed);
}

/* --- R4: flags of what both have --- */

/* Suspended: no write is under way. */
static void clear_flags(struct chain_inst *ci, void *arg)
{
	struct chain_job *job = arg;
	struct chain_mirror *m = job->m;
	struct chain_layer *l = job->top;
	unsigned long i;

	if (READ_ONCE(m->error) || !bitmap_empty(m->todo, m->regions))
		return;
	for_each_set_bit(i, l->track, m->regions) {
		if (test_bit(i, m->touched))
			continue;
		clear_bit(i, l->tracked);
		chain_meta_flag(l, i, false);
	}
}

/* What ends after this is not covered by the flushes that follow. */
static void forget_touched(struct chain_mirror *m)
{
	unsigned long i;

	for (i = 0; i < BITS_TO_LONGS(m->regions); i++)
		if (READ_ONCE(m->touched[i]))
			xchg(&m->touched[i], 0);
}

static int mirror_settle(struct chain_job *job)
{
	struct chain_mirror *m = job->m;
	int r;

	if (!m->touched || bitmap_empty(job->top->track, m->regions))
		return 0;
	r = chain_job_enter(job);
	if (r)
		return r;
	forget_touched(m);
	r = chain_mirror_durable(job);
	chain_job_leave(job);
	/* It can wait for another time; what has failed the next step finds. */
	if (r || chain_job_claim(job))
		return 0;
	chain_change(job->ci, clear_flags, job);
	chain_job_unclaim(job);
	return 0;
}

bool chain_mirror_more(struct chain_job *job)
{
	const struct chain_mirror *m = job->m;

	return READ_ONCE(m->error) || READ_ONCE(m->fatal) ||
	       !bitmap_empty(m->todo, m->regions);
}

/* --- Cancelled, failed --- */

void chain_mirror_set_complete(struct chain_job *job, struct chain_header *h)
{
	h->marks &= ~(DM_CHAIN_MARK_INCOMPLETE | DM_CHAIN_MARK_PREPARED);
	memset(&h->job, 0, sizeof(h->job));
	memset(&h->coordinator, 0, sizeof(h->coordinator));
	memset(h->child_path, 0, sizeof(h->child_path));
}

static int complete_target(struct chain_job *job, struct chain_att *to)
{
	return chain_raw_target(job) ? 0 : change_header(job, to, chain_mirror_set_complete);
}

/* Suspended: this is the instant of which the target is a copy. */
static void uninstall(struct chain_inst *ci, void *arg)
{
	struct chain_job *job = arg;

	job->ready &= !chain_mirror_more(job);
	job->installed = false;
	ci->disk->mirror = NULL;
	WRITE_ONCE(job->m->to->access[CHAIN_JOB], DM_CHAIN_ACCESS_NONE);
}

static int mirror_cancel(struct chain_job *job, int err)
{
	int r;

	if (!job->installed || chain_job_claim_wait(job, false))
		return err;
	chain_change(job->ci, uninstall, job);
	chain_job_unclaim(job);
	if (chain_job_enter(job))
		return err;
	r = READ_ONCE(job->target->failed) ? -EIO : target_durable(job);
	if (err == -ECANCELED && job->ready)
		err = r ?: complete_target(job, job->ci->target) ?: forget(job);
	chain_job_leave(job);
	return err;
}

const struct chain_job_ops chain_mirror_ops = {
	.check = mirror_check,
	.estimate = mirror_estimate,
	.record = mirror_record,
	.prepare = mirror_prepare,
	.step = mirror_step,
	.skip = mirror_skip,
	.resumed = mirror_resumed,
	/* No finish: it is ended by the user, or by an error that was ignored. */
	.settle = mirror_settle,
	.more = chain_mirror_more,
	.pivot = chain_mirror_pivot,
	.cancel = mirror_cancel,
	.free = mirror_free,
	.bind = mirror_bind,
};
