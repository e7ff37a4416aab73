// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copying for jobs, by kcopyd.
 *
 * Owns: nothing but the pieces of a plan while they are under way. All data
 * that a job moves passes here, and so the gate.
 *
 * A few pieces are under way at a time, so that the guest's requests don't queue
 * behind too many of ours. kcopyd says that something failed, not why: what
 * failed is done again with requests of our own, which know. That is the
 * bounded retry at the same time. Out of space is no reason to try again.
 *
 * Locking: none. kcopyd's callback counts down, atomically.
 *
 * A suspend is waited for by nobody here: if one comes, pieces that have not
 * been submitted are left, and the caller gives its batch up.
 */
#include <linux/delay.h>
#include <linux/dm-io.h>
#include <linux/dm-kcopyd.h>
#include <linux/module.h>

#include "dm-chain-job.h"

#define UNDER_WAY	8	/* pieces */
#define TRIES		3	/* of our own, for each part of a piece */

/* All jobs together: the core of kcopyd reads the percentage each time. */
#define THROTTLE_TEXT	"Percent of the time in which jobs may copy, all of them together"
DECLARE_DM_KCOPYD_THROTTLE_WITH_MODULE_PARM(job_throttle, THROTTLE_TEXT);

struct dm_kcopyd_client *chain_copy_create(void)
{
	return dm_kcopyd_client_create(&dm_kcopyd_throttle);
}

static void piece_done(int read_err, unsigned long write_err, void *context)
{
	struct chain_piece *piece = context;
	struct chain_plan *p = piece->plan;

	if (read_err || write_err)
		WRITE_ONCE(piece->failed, true);
	/* The plan goes after the client, and that waits for our return. */
	if (atomic_dec_return(&p->pending) < UNDER_WAY)
		wake_up(&p->idle);
}

static struct dm_io_region region(const struct chain_att *att, sector_t sector,
				  sector_t n)
{
	return (struct dm_io_region){
		.bdev = att->bdev,
		.sector = att->data_sector + sector,
		.count = n,
	};
}

static void submit(struct chain_job *job, struct chain_piece *piece)
{
	struct chain_plan *p = piece->plan;
	struct dm_io_region from, to = region(p->to, piece->sector, piece->n);

	if (!chain_allowed(piece->from, CHAIN_JOB, REQ_OP_READ) ||
	    !chain_allowed(p->to, CHAIN_JOB, REQ_OP_WRITE)) {
		piece->failed = true;
		return;
	}
	from = region(piece->from, piece->sector, piece->n);
	atomic_inc(&p->pending);
	dm_kcopyd_copy(job->kc, &from, 1, &to, 0, piece_done, piece);
}

/* --- Again, by ourselves --- */

static int copy_part(struct chain_job *job, struct chain_piece *piece,
		     sector_t sector, unsigned int len)
{
	struct chain_att *from = piece->from, *to = piece->plan->to;
	int r;

	r = chain_rw(from, CHAIN_JOB, (from->data_sector + sector) << SECTOR_SHIFT,
		     job->buf, len, REQ_OP_READ);
	if (r)
		return r;
	return chain_rw(to, CHAIN_JOB, (to->data_sector + sector) << SECTOR_SHIFT,
			job->buf, len, REQ_OP_WRITE);
}

static int try_part(struct chain_job *job, struct chain_piece *piece,
		    sector_t sector, unsigned int len)
{
	unsigned int i;
	int r = 0;

	for (i = 0; i < TRIES; i++) {
		if (i)
			msleep(20U << i);
		r = copy_part(job, piece, sector, len);
		if (!r || r == -ENOSPC || r == -EPERM)
			break;
		if (chain_job_should_stop(job))
			return -EAGAIN;
	}
	return r;
}

static int try_again(struct chain_job *job, struct chain_piece *piece)
{
	sector_t done = 0;
	unsigned int n;
	int r = 0;

	for (; done < piece->n && !r; done += n) {
		n = min_t(sector_t, piece->n - done,
			  job->buf_bytes >> SECTOR_SHIFT);
		r = try_part(job, piece, piece->sector + done, n << SECTOR_SHIFT);
	}
	return r;
}

static int zero_piece(struct chain_piece *piece)
{
	struct chain_att *to = piece->plan->to;

	if (!chain_allowed(to, CHAIN_JOB, REQ_OP_WRITE_ZEROES))
		return -EPERM;
	return blkdev_issue_zeroout(to->bdev, to->data_sector + piece->sector,
				    piece->n, GFP_NOIO, 0);
}

/* --- A plan --- */

static void wait_below(struct chain_plan *p, int n)
{
	wait_event(p->idle, atomic_read(&p->pending) < n);
}

/* Zeroes go out in between: they take no turn in kcopyd. */
static int submit_all(struct chain_job *job, struct chain_plan *p)
{
	unsigned int i;
	int r = 0;

	for (i = 0; i < p->nr && !r; i++) {
		struct chain_piece *piece = &p->piece[i];

		if (chain_job_should_stop(job)) {
			r = -EAGAIN;
		} else if (!piece->from) {
			r = zero_piece(piece);
		} else {
			wait_below(p, UNDER_WAY);
			submit(job, piece);
		}
	}
	return r;
}

static int copy_plan(struct chain_job *job, struct chain_plan *p)
{
	unsigned int i;
	int r;

	r = submit_all(job, p);
	wait_below(p, 1);
	for (i = 0; i < p->nr && !r; i++)
		if (READ_ONCE(p->piece[i].failed))
			r = try_again(job, &p->piece[i]);
	return r;
}

int chain_carry_out(struct chain_job *job)
{
	int r, idx = srcu_read_lock(&job->disk->reads);

	r = chain_plan_make(job->plan);
	if (!r)
		r = copy_plan(job, job->plan);
	srcu_read_unlock(&job->disk->reads, idx);
	return r ?: chain_plan_mark(job->plan);
}

void chain_give_back(struct chain_att *att, sector_t sector, sector_t n)
{
	if (!bdev_max_discard_sectors(att->bdev) ||
	    !chain_allowed(att, CHAIN_JOB, REQ_OP_DISCARD))
		return;
	/* Best effort: what can't be given back is just not given back. */
	blkdev_issue_discard(att->bdev, att->data_sector + sector, n, GFP_NOIO);
}
