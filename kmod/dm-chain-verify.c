// SPDX-License-Identifier: GPL-2.0-only
/*
 * Verify: the two sides of a mirror are read from their devices and compared, when
 * all has been copied and before it is ready.
 *
 * Piece by piece, with the guest kept off its blocks. A write behind that goes to both
 * sides, so what was compared stays equal, if the target does not fail; then it is
 * copied, and compared, again. Regions that are to be compared are bits, which the
 * job's thread alone changes.
 *
 * What is found to differ is noted with its place, and is to be copied once more:
 * whether the job goes on with that, its policy says.
 *
 * What reads zeroes by both maps, and what both read from the same place, is not read.
 */
#include "dm-chain-mirror.h"

#define LOCKED		2048U					/* sectors */
#define LOOKS		256U

/* Where something is read from: NULL: zeroes. */
struct place {
	struct chain_att *att;
	bool bad;
};

static struct place place_of(struct chain_att *owner, unsigned int state)
{
	return (struct place){
		.att = state == DM_CHAIN_DATA ? owner : NULL,
		.bad = state == DM_CHAIN_DAMAGED,
	};
}

static sector_t at_source(struct chain_job *job, sector_t sector, sector_t max,
			  struct place *p)
{
	struct chain_att *owner;
	unsigned int state;

	max = chain_walk(job->ci, 0, job->ci->nr, sector, max, &owner, &state);
	*p = place_of(owner, state);
	return max;
}

/* Below it a shallow target has what the source has there. */
static sector_t below_target(struct chain_job *job, sector_t sector, sector_t max,
			     struct place *p)
{
	const struct chain_layer *to = job->target;
	struct chain_att *owner = NULL;
	unsigned int state = DM_CHAIN_ZERO;

	if (job->m->shallow && sector < to->limit && job->ci->nr > 1)
		max = chain_walk(job->ci, 1, job->ci->nr, sector,
				 min(max, to->limit - sector), &owner, &state);
	*p = place_of(owner, state);
	return max;
}

static sector_t at_target(struct chain_job *job, sector_t sector, sector_t max,
			  struct place *p)
{
	const struct chain_layer *to = job->target;
	sector_t into = sector & (block_sectors(to) - 1);
	u64 block = sector_to_block(to, sector), run;
	unsigned int state;

	*p = place_of(job->m->to, DM_CHAIN_DATA);
	if (to->format == DM_CHAIN_FORMAT_RAW)
		return max;
	run = chain_statemap_run(&to->map, block,
				 sector_to_block(to, into + max - 1) + 1, &state);
	max = min(max, block_to_sector(to, run) - into);
	if (state == DM_CHAIN_ABSENT)
		return below_target(job, sector, max, p);
	*p = place_of(job->m->to, state);
	return max;
}

static int read_place(const struct place *p, sector_t sector, sector_t n, void *buf)
{
	if (p->bad)
		return -EIO;
	if (!p->att) {
		memset(buf, 0, n << SECTOR_SHIFT);
		return 0;
	}
	return chain_rw(p->att, CHAIN_JOB,
			(p->att->data_sector + sector) << SECTOR_SHIFT, buf,
			n << SECTOR_SHIFT, REQ_OP_READ);
}

/* The first sectors that differ, of @n that begin with @sector. */
static void note_difference(struct chain_job *job, sector_t sector, sector_t n,
			    const void *a, const void *b)
{
	sector_t first = 0, end;

	while (first < n && !memcmp(a + first * 512, b + first * 512, 512))
		first++;
	for (end = first; end < n; end++)
		if (!memcmp(a + end * 512, b + end * 512, 512))
			break;
	spin_lock(&job->lock);
	job->bad_start = (sector + first) << SECTOR_SHIFT;
	job->bad_bytes = (end - first) << SECTOR_SHIFT;
	spin_unlock(&job->lock);
}

static int compare_piece(struct chain_job *job, sector_t sector, sector_t n,
			 const struct place *source, const struct place *target)
{
	void *a = job->buf, *b = job->buf + job->buf_bytes / 2;
	int r = read_place(source, sector, n, a);

	if (!r)
		r = read_place(target, sector, n, b);
	if (r)
		return r;
	if (source->att)
		chain_job_done(job, n << SECTOR_SHIFT);
	if (!memcmp(a, b, n << SECTOR_SHIFT))
		return 0;
	note_difference(job, sector, n, a, b);
	return -EILSEQ;
}

/* Locked. */
static int compare_range(struct chain_job *job, sector_t sector, sector_t end)
{
	struct place source, target;
	sector_t n;
	int r = 0;

	for (; sector < end && !r; sector += n) {
		n = at_source(job, sector, end - sector, &source);
		n = at_target(job, sector, n, &target);
		if (source.att == target.att && !source.bad && !target.bad)
			continue;
		n = min_t(sector_t, n, (job->buf_bytes / 2) >> SECTOR_SHIFT);
		r = compare_piece(job, sector, n, &source, &target);
	}
	return r;
}

static int compare_locked(struct chain_job *job, sector_t end)
{
	struct chain_mirror *m = job->m;
	sector_t start = m->look;
	int r;

	if (!chain_job_lock(job, start, end))
		return -EAGAIN;
	r = compare_range(job, start, min(end, job->top->size));
	if (r == -EILSEQ)
		chain_mirror_missed(m, chain_region(m, start), 0);
	chain_job_unlock(job, start, end);
	return r;
}

/* The region that it is at, or the next one. */
static bool find_unverified(struct chain_mirror *m)
{
	u64 region = chain_region(m, m->look);

	if (region < m->regions && test_bit(region, m->unverified))
		return true;
	region = find_first_bit(m->unverified, m->regions);
	m->look = (sector_t)region << m->shift;
	return region < m->regions;
}

int chain_verify(struct chain_job *job)
{
	struct chain_mirror *m = job->m;
	sector_t stop, end;
	unsigned int looks;
	u64 region;
	int r;

	for (looks = 0; m->unverified && looks < LOOKS; looks++) {
		if (chain_job_should_stop(job))
			return -EAGAIN;
		if (!find_unverified(m))
			return 0;
		region = chain_region(m, m->look);
		stop = min_t(sector_t, (sector_t)(region + 1) << m->shift,
			     round_up(job->top->size, m->cell));
		end = min(stop, m->look + max_t(sector_t, LOCKED, m->cell));
		r = compare_locked(job, end);
		if (r) {
			/* From its start, when it has been copied once more. */
			if (r == -EILSEQ)
				m->look = (sector_t)region << m->shift;
			return r;
		}
		m->look = end;
		if (end == stop)
			clear_bit(region, m->unverified);
		cond_resched();
	}
	return m->unverified ? 1 : 0;
}
