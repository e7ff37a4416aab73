/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the parts of the job engine share:
 *
 *	dm-chain-job.c		life of a job: states, verbs, its thread, errors
 *	dm-chain-monitor.c	who wants to know of all that
 *	dm-chain-plan.c		what has to be copied so that a layer can take a
 *				range in
 *	dm-chain-copy.c		copying it
 *	dm-chain-stream.c	the steps of a stream
 *	dm-chain-commit.c	the steps of a commit
 *	dm-chain-mirror.c	the steps of a mirror; see dm-chain-mirror.h
 */
#ifndef DM_CHAIN_JOB_H
#define DM_CHAIN_JOB_H

#include <linux/kthread.h>
#include <linux/wait.h>

#include "dm-chain.h"

struct chain_job;
struct dm_kcopyd_client;

/**
 * struct chain_job_ops - what a kind of job does
 * @check: may it start; nothing is written. Pinned.
 * @estimate: how much there is to do. Pinned, and again when it runs.
 * @record: durably, what the job is about
 * @prepare: durable marks, before anything is moved
 * @step: move some: 1; nothing is left: 0; -EAGAIN: try again; or an error
 * @skip: go on behind what a step failed at
 * @resumed: NULL, or called when it goes on behind an error that has paused it
 * @finish: all is moved: change headers and topology; -EBUSY: try again
 * @settle: nothing is left to move: before it is ready. Not busy
 * @more: while it is ready: there is something to move again
 * @pivot: it is ready: the disk moves on, or several do, whose jobs are all of this
 *	kind. Claimed, noio; job->installed is false of those that have
 * @cancel: ends without having finished, with an error, or another one that is
 *	returned; the disk is there
 * @free: what the kind of job has in job->m; the disk may be gone
 * @bind: the table is another one, or its layers have moved. registry_mutex
 *
 * They return 0 or a negative errno if nothing else is said. step and skip run
 * busy: the disk is not suspended meanwhile. The others enter by themselves.
 */
struct chain_job_ops {
	int (*check)(struct chain_job *job, u32 flags);
	int (*estimate)(struct chain_job *job, struct dm_chain_job_start *arg);
	int (*record)(struct chain_job *job);
	int (*prepare)(struct chain_job *job);
	int (*step)(struct chain_job *job);
	void (*skip)(struct chain_job *job);
	void (*resumed)(struct chain_job *job);
	int (*finish)(struct chain_job *job);
	int (*settle)(struct chain_job *job);
	bool (*more)(struct chain_job *job);
	int (*pivot)(struct chain_member *m, unsigned int nr);
	int (*cancel)(struct chain_job *job, int err);
	void (*free)(struct chain_job *job);
	void (*bind)(struct chain_job *job);
};

extern const struct chain_job_ops chain_stream_ops;
extern const struct chain_job_ops chain_commit_ops;
extern const struct chain_job_ops chain_mirror_ops;

/** chain_mirror_forget() - drop the record that one has left; pinned */
int chain_mirror_forget(struct chain_job *job);

/* --- Plans --- */

enum chain_want {
	CHAIN_WANT_COPY,	/* data of a layer */
	CHAIN_WANT_ZERO,	/* zeroes */
	CHAIN_WANT_KEEP,	/* nothing: stays what it is at the target */
	CHAIN_WANT_BAD,		/* cannot be known: EIO */
};

#define CHAIN_PIECES		1024U
#define CHAIN_PIECE_SECTORS	2048U			/* 1 MiB */
#define CHAIN_PLAN_SECTORS	(128U << (20 - SECTOR_SHIFT))	/* span */
#define CHAIN_PLAN_BLOCKS	(CHAIN_PLAN_SECTORS >> 3)

/**
 * struct chain_piece - a run to be copied, or to be zeroed
 * @plan: its plan
 * @from: where its data is; NULL: zeroes
 * @sector: of the disk
 * @n: sectors
 * @failed: has to be tried again
 */
struct chain_piece {
	struct chain_plan *plan;
	struct chain_att *from;
	sector_t sector;
	sector_t n;
	bool failed;
};

/**
 * struct chain_plan - what makes a layer take in a part of a disk
 * @want: what shall be at @sector of the target, and for how many sectors
 * @fill: the same for what @want says KEEP of, where the target has no block
 *	yet and needs a whole one
 * @job: for them
 * @to: target
 * @start: of the part, sectors, a multiple of the target's block
 * @end: behind it, likewise; less if the plan got full
 * @size: sectors of the disk; behind it the last block is filled with zeroes
 * @grain: sectors; @end is a multiple of it, or where it was
 * @bytes: that will be copied or zeroed
 * @nr: pieces
 * @piece: in order
 * @data: a bit for each block of the target from @start on: becomes data
 * @zero: the same: becomes zero
 * @pending: pieces under way
 * @idle: woken when one is done
 */
struct chain_plan {
	sector_t (*want)(struct chain_job *job, sector_t sector, sector_t max,
			 enum chain_want *want, struct chain_att **from);
	sector_t (*fill)(struct chain_job *job, sector_t sector, sector_t max,
			 enum chain_want *want, struct chain_att **from);
	struct chain_job *job;
	struct chain_att *to;
	sector_t start;
	sector_t end;
	sector_t size;
	sector_t grain;
	u64 bytes;
	unsigned int nr;
	struct chain_piece piece[CHAIN_PIECES];
	unsigned long data[BITS_TO_LONGS(CHAIN_PLAN_BLOCKS)];
	unsigned long zero[BITS_TO_LONGS(CHAIN_PLAN_BLOCKS)];
	atomic_t pending;
	wait_queue_head_t idle;
};

/**
 * chain_plan_make() - fill a plan in
 * @p: want, fill, job, to, start, end, size are set; at most
 *	CHAIN_PLAN_SECTORS
 *
 * Each block of the target comes out of it as it was, as data or as zero.
 * Return: 0; -EIO: something in it can't be known.
 */
int chain_plan_make(struct chain_plan *p);

/**
 * chain_plan_mark() - the target's map says what was copied
 * @p: plan; done
 *
 * Return: 0 or -ENOMEM: nothing was changed.
 */
int chain_plan_mark(struct chain_plan *p);

/* --- Copying --- */

/**
 * chain_carry_out() - copy a batch, all of it, and let the map say so
 * @job: with kc, buf and a plan that can be made
 *
 * What fails is tried again, piece by piece.
 *
 * Where the plan found something it stays until it has been read: a commit counts
 * this among the reads for which it keeps what has been moved.
 *
 * Context: busy.
 * Return: 0; -EAGAIN: the disk is about to be suspended; or another negative errno,
 * also of chain_plan_make() and chain_plan_mark().
 */
int chain_carry_out(struct chain_job *job);

/** chain_give_back() - the space that a range of a layer takes, if it can be */
void chain_give_back(struct chain_att *att, sector_t sector, sector_t n);

struct dm_kcopyd_client *chain_copy_create(void);

/* --- Jobs --- */

#define CHAIN_PUNCHES	16

/**
 * struct chain_punch - space of a part of the disk that can be given back
 * @start: sectors
 * @end: behind it
 * @cookie: when this has passed, no read is under way that needs it
 */
struct chain_punch {
	sector_t start;
	sector_t end;
	unsigned long cookie;
};

enum chain_offer {
	CHAIN_NO_OFFER,
	CHAIN_OFFERED,		/* it is ready, and does nothing */
	CHAIN_TAKEN,		/* by a pivot */
};

/**
 * struct chain_job - a stream, commit or mirror
 * @list: of all jobs; registry_mutex
 * @on_disk: in disk->jobs; registry_mutex
 * @ref: the list's, and of who waits for it
 * @ops: by @type
 * @id: of the token; constant, as are @type, @name, @ids
 * @type: DM_CHAIN_JOB_*
 * @uuid: that the record has; constant from then on
 * @name: of the disk when it started
 * @ids: for who asks when the layers may be gone
 * @disk: until the thread has exited
 * @token: holds its layers until it ends; registry_mutex
 * @into: stream: the layer that takes data in
 * @top: commit: of the range
 * @base: commit: takes the data in; stream: first that is kept, or NULL
 * @over: commit of lower layers: the layer above @top
 * @target: mirror: takes the data in; @top is the source
 * @m: mirror: the rest of it, from its record on
 * @start_flags: DM_CHAIN_JOB_* that it was started with
 * @path: hint of where the new parent, or the target, lies
 * @ci: table; set while the disk is suspended, stable while busy or pinned. The
 *	depths of its layers in it:
 * @t: of @into or @top; mirror: 0
 * @b: of @base; stream without one: the number of layers
 * @pins: its layers may not be merged; changes while suspended
 * @installed: commit, mirror: the disk knows of it; changes while suspended
 * @settles: active commit, cancelled: flushes still cover its base; changes while
 *	suspended
 * @unbound: its layers are where they were no longer; changes while suspended
 * @lock: what follows, up to @wait
 * @devt: of the disk; 0 when that has gone
 * @status: as struct dm_chain_job has it, likewise:
 * @flags: DM_CHAIN_JOB_F_*
 * @on_error: DM_CHAIN_ON_ERROR_*
 * @error: why it paused, or how it ended
 * @speed: bytes a second, 0: no limit
 * @current_bytes: done
 * @total_bytes: that there are to do
 * @errors: met
 * @bad_start: bytes: mirror: where the copy was found to differ
 * @bad_bytes: for how long
 * @cancelled: was told to end
 * @dying: the disk goes: end at once, touch nothing
 * @held: prepared; waits for the second start
 * @pivoted: the disk has moved on
 * @offer: whether a pivot may take it, or has it
 * @due_ns: before that, speed limit and share let nothing happen
 * @wait: of the thread, for any of these to change
 * @task: the thread
 * @prepared: the first start may return
 * @prepare_error: ... with this
 * @exited: the thread has let go of the disk
 * @kc: while it runs, as are:
 * @plan: of the batch
 * @buf: kernel memory, in one piece
 * @buf_bytes: of it; two pages to CHAIN_JOB_BUF
 * @hdr: scratch
 * @which: CHAIN_PLAN_BLOCKS bits
 * @cursor: sector at which it goes on
 * @punch: commit: what may not be given back yet, oldest first
 * @nr_punch: entries of it
 * @skipped: something was ignored
 * @fatal: the last error can't be ignored or tried again
 * @ready: it was ready when it ended
 * @synced: jiffies of the last time that all was durable
 * @ios: I/Os of the guest so far
 */
struct chain_job {
	struct list_head list;
	struct list_head on_disk;
	refcount_t ref;
	const struct chain_job_ops *ops;
	u64 id;
	u32 type;
	struct chain_id uuid;
	char name[128];
	struct {
		struct chain_id into;
		struct chain_id top;
	} ids;
	struct chain_disk *disk;
	struct chain_token *token;
	struct chain_layer *into;
	struct chain_layer *top;
	struct chain_layer *base;
	struct chain_layer *over;
	struct chain_layer *target;
	struct chain_mirror *m;
	u32 start_flags;
	char path[DM_CHAIN_PATH_BYTES];
	struct chain_inst *ci;
	unsigned int t;
	unsigned int b;
	bool pins;
	bool installed;
	bool settles;
	bool unbound;

	spinlock_t lock;		/* up to @wait */
	dev_t devt;
	u32 status;
	u32 flags;
	u32 on_error;
	int error;
	u64 speed;
	u64 current_bytes;
	u64 total_bytes;
	u64 errors;
	u64 bad_start;
	u64 bad_bytes;
	bool cancelled;
	bool dying;
	bool held;
	bool pivoted;
	enum chain_offer offer;
	u64 due_ns;
	wait_queue_head_t wait;

	struct task_struct *task;
	struct completion prepared;
	struct completion exited;
	int prepare_error;
	struct dm_kcopyd_client *kc;
	struct chain_plan *plan;
	void *buf;
	u32 buf_bytes;
	struct chain_header *hdr;
	unsigned long *which;
	sector_t cursor;
	struct chain_punch punch[CHAIN_PUNCHES];
	unsigned int nr_punch;
	bool skipped;
	bool fatal;
	bool ready;
	unsigned long synced;
	u64 ios;
};

#define CHAIN_JOB_BUF	65536U

/** chain_job_should_stop() - leave off: cancelled, dying, or a suspend comes */
bool chain_job_should_stop(struct chain_job *job);

/** chain_job_done() - so many bytes more are done */
void chain_job_done(struct chain_job *job, u64 bytes);

/** chain_job_lock() - keep the guest off sectors of the top; false: try again */
bool chain_job_lock(struct chain_job *job, sector_t start, sector_t end);
void chain_job_unlock(struct chain_job *job, sector_t start, sector_t end);

/** chain_job_batch() - sectors to move at once */
sector_t chain_job_batch(struct chain_job *job);

/*
 * chain_job_sync_due() - is it time to make durable what is done? Not more than
 * a second's work is to be lost with a crash.
 */
bool chain_job_sync_due(struct chain_job *job);

/*
 * chain_job_enter(): busy from now on, the disk isn't suspended until
 * chain_job_leave(). 0, or -ENODEV: the disk goes.
 */
int chain_job_enter(struct chain_job *job);

/* chain_job_try_enter(): false: it is suspended, or about to be. For who has the claim. */
bool chain_job_try_enter(struct chain_job *job);

/* chain_job_claim_enter(): both at once. 0, -ENODEV, or -EBUSY: neither, try again. */
int chain_job_claim_enter(struct chain_job *job);

/* chain_job_claim_enter_wait(): until it has both, is cancelled, or the disk goes. */
int chain_job_claim_enter_wait(struct chain_job *job);
void chain_job_leave(struct chain_job *job);

/** chain_job_total() - so many bytes there are to do */
void chain_job_total(struct chain_job *job, u64 bytes);

/*
 * chain_job_claim(): the disk's table is the job's to change; not busy. 0;
 * -EBUSY: not now; -ENODEV: the disk goes.
 */
int chain_job_claim(struct chain_job *job);
void chain_job_unclaim(struct chain_job *job);

/** chain_job_claim_wait() - chain_job_claim() that waits; -ECANCELED, -ENODEV */
int chain_job_claim_wait(struct chain_job *job, bool cancellable);

/** chain_job_depth() - of a layer in the job's table */
unsigned int chain_job_depth(const struct chain_job *job,
			     const struct chain_layer *l);

/** chain_job_through() - header of the commit by way of which a layer is read */
const struct chain_header *chain_job_through(const struct chain_job *job,
					     unsigned int depth);

/** chain_job_unfinished() - is a layer read by way of a commit that has not ended */
bool chain_job_unfinished(const struct chain_job *job, unsigned int depth);

/**
 * chain_job_att() - attachment of the layer at a depth
 * @job: busy, or the disk is claimed or pinned; else a table swap may free it
 * @depth: in the job's table
 */
static inline struct chain_att *chain_job_att(const struct chain_job *job,
					      unsigned int depth)
{
	return job->ci->order[depth];
}

/**
 * chain_job_run() - from its record to its end: moves, pauses, waits, finishes
 * @job: job; of its own thread
 *
 * Return: 0: it has done what it was for; or a negative errno: why not.
 */
int chain_job_run(struct chain_job *job);

/** chain_job_apply() - a verb to a job; 0, -ESRCH: it has ended, -EBUSY, -EINVAL */
int chain_job_apply(struct chain_job *job, const struct dm_chain_job_verb *arg);

/* dm-chain-monitor.c */

/** chain_job_event() - tell those who listen; job->lock not held */
void chain_job_event(struct chain_job *job, u32 type);
/** chain_job_fill() - the job as it is now */
void chain_job_fill(struct chain_job *job, struct dm_chain_job *out);

#endif
