/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the job that mirrors a disk shares with the guest's I/O:
 *
 *	dm-chain-mirror.c	the steps of the job
 *	dm-chain-verify.c	comparing the two sides
 *	dm-chain-pivot.c	the disk moves on to the target
 *	dm-chain-both.c		writes and flushes of the guest meanwhile
 */
#ifndef DM_CHAIN_MIRROR_H
#define DM_CHAIN_MIRROR_H

#include "dm-chain-job.h"

/* Blocks of the source in a region: as many as a map sector speaks for. */
#define CHAIN_REGION_BLOCKS	DM_CHAIN_SECTOR_BLOCKS

/* Which side is the disk. */
enum chain_mirror_phase {
	CHAIN_MIRROR_SOURCE,	/* the source: what the target fails at is the job's */
	CHAIN_MIRROR_DECIDING,	/* a pivot is being made durable */
	CHAIN_MIRROR_TARGET,	/* the target, for the source is retired */
};

/**
 * struct chain_mirror - a disk that is mirrored
 * @job: whose
 * @to: target, of the live table; changes while suspended
 * @shallow: it stands on what the source stands on
 * @zeroed: it is raw, and reads zeroes where nothing has been written
 * @shift: sectors of a region, as a shift
 * @cell: sectors at whose multiples blocks of both sides end
 * @regions: there are
 * @todo: a bit each: has to be copied. Set: the guest writes the source alone
 * @changed: has been written at the source alone; nothing in it at the target may
 *	be trusted
 * @missed: was written at both sides, and the target has not got it
 * @unverified: was copied, and is to be compared; NULL: nothing is
 * @look: sector at which comparing goes on
 * @comparing: it was the last thing that the job did
 * @touched: a write has ended since the flags of changes were last cleared; NULL:
 *	there are none
 * @track: room for these flags, for the source
 * @tracked: the same
 * @resumes: what the target has counts
 * @at: the region that is being copied: of it the guest writes both sides up to
 * @cursor: this sector
 * @error: first thing that the target failed at since the job has looked
 * @fatal: it can't be tried again
 * @lock: irq; @phase and @parked, and @error against a change of @phase
 * @phase: who decides
 * @parked: bios that the target has failed at while that is open
 * @bios: clones for the target
 *
 * What says where a write goes changes only under the lock of its blocks.
 */
struct chain_mirror {
	struct chain_job *job;
	struct chain_att *to;
	bool shallow;
	bool zeroed;
	unsigned int shift;
	sector_t cell;
	u64 regions;
	unsigned long *todo;
	unsigned long *changed;
	unsigned long *missed;
	unsigned long *unverified;
	sector_t look;
	bool comparing;
	unsigned long *touched;
	unsigned long *track;
	unsigned long *tracked;
	bool resumes;
	u64 at;
	sector_t cursor;
	int error;
	bool fatal;
	spinlock_t lock;		/* @phase, @parked */
	enum chain_mirror_phase phase;
	struct list_head parked;
	struct bio_set bios;
};

static inline u64 chain_region(const struct chain_mirror *m, sector_t sector)
{
	return sector >> m->shift;
}

/**
 * chain_mirror_missed() - the target does not have what the source has
 * @m: mirror
 * @region: where; it is copied again
 * @error: of the target; 0: it is the source that failed
 *
 * Context: any; blocks of it are locked.
 */
void chain_mirror_missed(struct chain_mirror *m, u64 region, int error);

/**
 * chain_verify() - compare some of what has not been compared
 * @job: a mirror that has nothing to copy; busy
 *
 * Return: 1: some; 0: nothing is left; -EILSEQ: it differs, job->bad_start tells
 * where, and it is copied again; -EAGAIN; or a negative errno.
 */
int chain_verify(struct chain_job *job);

static inline bool chain_raw_source(const struct chain_job *job)
{
	return job->top->format == DM_CHAIN_FORMAT_RAW;
}

static inline bool chain_raw_target(const struct chain_job *job)
{
	return job->target->format == DM_CHAIN_FORMAT_RAW;
}

/** chain_mirror_more() - is there anything to copy, or to be told of */
bool chain_mirror_more(struct chain_job *job);

/** chain_mirror_durable() - what was written to both sides is. Busy, or claimed */
int chain_mirror_durable(struct chain_job *job);

/* What the header of a target says. */
void chain_mirror_set_incomplete(struct chain_job *job, struct chain_header *h);
void chain_mirror_set_complete(struct chain_job *job, struct chain_header *h);

/** chain_mirror_pivot() - see chain_job_ops.pivot; several, if all are mirrors */
int chain_mirror_pivot(struct chain_member *m, unsigned int nr);

/** chain_mirror_lost() - a flush failed: the target is of no use. Any context */
void chain_mirror_lost(struct chain_mirror *m, int error);

/**
 * chain_mirror_decide() - it is known which side is the disk
 * @m: mirror; DECIDING
 * @phase: SOURCE or TARGET
 */
void chain_mirror_decide(struct chain_mirror *m, enum chain_mirror_phase phase);

#endif
