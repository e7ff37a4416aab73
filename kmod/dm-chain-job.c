// SPDX-License-Identifier: GPL-2.0-only
/*
 * Jobs: streams, commits and mirrors, which move data between layers of a running
 * disk, or to another place.
 *
 * Owns: struct chain_job, from DM_CHAIN_IOC_JOB_START to the end of the module,
 * or until so many jobs have ended after it that nobody asks for it any more.
 *
 * A job is a thread. It lives on a disk, as long as that has a table, and goes
 * on when the table is replaced or the layers of the topology change: while the
 * disk is suspended no job does I/O, and in resume each learns where its layers
 * are now. What it holds it has from a token; when it ends the token's grants
 * go, unless the descriptor's owner let them go... which it can't: from the
 * start on they are the job's.
 *
 *	created -> running <-> paused
 *		   running -> ready -> pending -> concluded	active commit, mirror
 *		   running -> pending -> concluded		else
 *		   any -> concluded		cancelled, failed, disk closed
 *
 * Nothing of this has to be kept for a crash: maps are the progress, and a
 * record in a layer's header says that there was a job.
 *
 * Busy: a job does I/O only between chain_job_enter() and chain_job_leave().
 * presuspend asks those who are busy to hurry, postsuspend waits for them and
 * lets nobody enter until resume. What a busy job waits for must not need a
 * resume, and who waits for a suspend, a claim or another job is not busy. Who has
 * the claim never waits to enter: a removal that has stopped the jobs waits for
 * the claim to go.
 *
 * A job that is ready is on offer, and who takes it for a pivot has it until that has
 * ended, whatever happens meanwhile: the thread does nothing, a cancel is refused.
 *
 * Locking: registry_mutex for the list of jobs and whose they are; job->lock
 * (spin) for state and verbs; disk->jobs_lock (spin, irq) for who is busy.
 * The thread holds none of them over I/O.
 *
 * Failure: what a layer fails at is tried again (dm-chain-copy.c), then the
 * job's policy says whether it ends, goes on or waits. A layer that has failed
 * for good ends the job. Whatever the end, the chain reads as it did.
 */
#include <linux/delay.h>
#include <linux/dm-kcopyd.h>
#include <linux/file.h>
#include <linux/module.h>
#include <linux/part_stat.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "dm-chain-job.h"
#include "trace.h"

#define KEPT		64				/* jobs that have ended */
#define BATCH		(32U << (20 - SECTOR_SHIFT))	/* sectors, guest idle */
#define SMALL_BATCH	(1U << (20 - SECTOR_SHIFT))	/* ... and not */
#define SYNC_MSECS	1000
#define NSEC		1000000000ULL
#define LATE_NS		(NSEC / 4)			/* is made up for */

static unsigned int job_share = 50;
module_param(job_share, uint, 0644);
MODULE_PARM_DESC(job_share, "Percent of the time that a job takes while the guest does I/O");

/* All jobs, oldest first: registry_mutex. */
static LIST_HEAD(jobs);
static unsigned int nr_jobs;

/* --- Busy or not --- */

static bool try_enter(struct chain_disk *d)
{
	bool in;

	spin_lock_irq(&d->jobs_lock);
	in = !d->jobs_stop;
	d->jobs_busy += in;
	spin_unlock_irq(&d->jobs_lock);
	return in;
}

/* A disk may stay suspended for hours: that is no hung task. */
int chain_job_enter(struct chain_job *job)
{
	struct chain_disk *d = job->disk;

	while (!READ_ONCE(job->dying)) {
		if (try_enter(d))
			return 0;
		wait_event_idle(d->jobs_wait,
				!READ_ONCE(d->jobs_stop) || READ_ONCE(job->dying));
	}
	return -ENODEV;
}

bool chain_job_try_enter(struct chain_job *job)
{
	return try_enter(job->disk);
}

void chain_job_leave(struct chain_job *job)
{
	struct chain_disk *d = job->disk;

	spin_lock_irq(&d->jobs_lock);
	if (!--d->jobs_busy)
		wake_up_all(&d->jobs_wait);
	spin_unlock_irq(&d->jobs_lock);
}

void chain_jobs_hurry(struct chain_disk *d)
{
	WRITE_ONCE(d->jobs_hurry, true);
}

void chain_jobs_stop(struct chain_disk *d)
{
	chain_jobs_hurry(d);
	spin_lock_irq(&d->jobs_lock);
	d->jobs_stop = true;
	wait_event_lock_irq(d->jobs_wait, !d->jobs_busy, d->jobs_lock);
	spin_unlock_irq(&d->jobs_lock);
}

void chain_jobs_go(struct chain_disk *d)
{
	WRITE_ONCE(d->jobs_hurry, false);
	spin_lock_irq(&d->jobs_lock);
	d->jobs_stop = false;
	wake_up_all(&d->jobs_wait);
	spin_unlock_irq(&d->jobs_lock);
}

bool chain_job_should_stop(struct chain_job *job)
{
	return READ_ONCE(job->cancelled) || READ_ONCE(job->dying) ||
	       READ_ONCE(job->disk->jobs_hurry);
}

/* --- State --- */

void chain_job_fill(struct chain_job *job, struct dm_chain_job *out)
{
	memset(out, 0, sizeof(*out));
	spin_lock(&job->lock);
	out->status = job->status;
	out->flags = job->flags;
	out->on_error = job->on_error;
	out->error = job->error;
	out->speed = job->speed;
	out->current_bytes = job->current_bytes;
	out->total_bytes = max(job->total_bytes, job->current_bytes);
	out->errors = job->errors;
	out->bad_start = job->bad_start;
	out->bad_bytes = job->bad_bytes;
	spin_unlock(&job->lock);
	out->id = job->id;
	out->type = job->type;
	memcpy(out->uuid, job->uuid.b, sizeof(out->uuid));
	memcpy(out->into, job->ids.into.b, sizeof(out->into));
	memcpy(out->top, job->ids.top.b, sizeof(out->top));
	out->major = MAJOR(READ_ONCE(job->devt));
	out->minor = MINOR(READ_ONCE(job->devt));
	memcpy(out->disk, job->name, sizeof(out->disk));
}

/* Says so to all if it is another one. */
static void set_status(struct chain_job *job, u32 status)
{
	bool changed;

	spin_lock(&job->lock);
	changed = job->status != status;
	job->status = status;
	spin_unlock(&job->lock);
	if (changed)
		chain_job_event(job, DM_CHAIN_JOB_EVENT_STATUS);
}

/* What a batch took, and we came late by, counts: else it would be too slow. */
void chain_job_done(struct chain_job *job, u64 bytes)
{
	u64 since = ktime_get_ns() - LATE_NS;

	spin_lock(&job->lock);
	job->current_bytes += bytes;
	if (job->speed)
		job->due_ns = max(job->due_ns, since) +
			      mul_u64_u64_div_u64(bytes, NSEC, job->speed);
	spin_unlock(&job->lock);
}

void chain_job_total(struct chain_job *job, u64 bytes)
{
	spin_lock(&job->lock);
	job->total_bytes = bytes;
	spin_unlock(&job->lock);
}

static bool is_paused(const struct chain_job *job)
{
	return job->flags & (DM_CHAIN_JOB_F_USER | DM_CHAIN_JOB_F_ERROR);
}

/* Ended, by whom? 0: it shall go on. */
static int ended(const struct chain_job *job)
{
	if (READ_ONCE(job->dying))
		return -ENODEV;
	return READ_ONCE(job->cancelled) ? -ECANCELED : 0;
}

static long until_due(struct chain_job *job)
{
	u64 now = ktime_get_ns(), due;

	spin_lock(&job->lock);
	due = job->due_ns;
	spin_unlock(&job->lock);
	if (due <= now)
		return 0;
	/* A new speed is looked at every second at the latest. */
	return max_t(long, 1, nsecs_to_jiffies(min(due - now, NSEC)));
}

/* Until it may do something. Not busy. */
static int wait_turn(struct chain_job *job)
{
	long wait;
	int r;

	for (;;) {
		r = ended(job);
		if (r)
			return r;
		if (is_paused(job)) {
			set_status(job, DM_CHAIN_JOB_PAUSED);
			wait_event_idle(job->wait, !is_paused(job) || ended(job));
			continue;
		}
		set_status(job, DM_CHAIN_JOB_RUNNING);
		wait = until_due(job);
		if (!wait)
			return 0;
		wait_event_idle_timeout(job->wait, is_paused(job) || ended(job), wait);
	}
}

/* --- Its share --- */

static u64 guest_ios(const struct chain_disk *d)
{
	struct block_device *bdev = dm_disk(d->md)->part0;

	return part_stat_read(bdev, ios[STAT_READ]) +
	       part_stat_read(bdev, ios[STAT_WRITE]);
}

sector_t chain_job_batch(struct chain_job *job)
{
	u64 ios = guest_ios(job->disk), speed = READ_ONCE(job->speed);
	sector_t n = BATCH;

	if (ios != job->ios)
		n = SMALL_BATCH;
	job->ios = ios;
	/* Several a second: it shall not come in gusts. */
	if (speed)
		n = clamp_t(u64, speed >> (SECTOR_SHIFT + 3), 128, n);
	return n;
}

/* While the guest works, we rest in proportion to what we have worked. */
static void rest(struct chain_job *job, u64 began)
{
	u64 now = ktime_get_ns(), took = now - began;
	unsigned int share = clamp(READ_ONCE(job_share), 1U, 100U);

	if (guest_ios(job->disk) == job->ios)
		return;
	took = div_u64(took * (100 - share), share);
	spin_lock(&job->lock);
	job->due_ns = max(job->due_ns, now + min(took, NSEC));
	spin_unlock(&job->lock);
}

bool chain_job_sync_due(struct chain_job *job)
{
	if (time_before(jiffies, job->synced + msecs_to_jiffies(SYNC_MSECS)))
		return false;
	job->synced = jiffies;
	return true;
}

/* --- Its layers --- */

unsigned int chain_job_depth(const struct chain_job *job,
			     const struct chain_layer *l)
{
	unsigned int i;

	for (i = 0; i < job->ci->nr; i++)
		if (job->ci->order[i]->layer == l)
			return i;
	/* No table without it is let in. */
	WARN_ON_ONCE(1);
	return 0;
}

static const struct chain_header *header_at(const struct chain_job *job,
					    unsigned int depth)
{
	const struct chain_layer *l = chain_job_att(job, depth)->layer;

	return l->format == DM_CHAIN_FORMAT_CHAIN ? &l->hdr : NULL;
}

const struct chain_header *chain_job_through(const struct chain_job *job,
					     unsigned int depth)
{
	const struct chain_header *through = NULL;
	unsigned int i;

	for (i = 0; i < depth; i++)
		through = chain_through(through, header_at(job, i));
	return through;
}

bool chain_job_unfinished(const struct chain_job *job, unsigned int depth)
{
	/* The base, too, is read by way of the commit above it. */
	const struct chain_header *h = chain_job_through(job, depth) ?:
				       chain_through(NULL, header_at(job, depth));

	return h && !(h->record.flags & DM_CHAIN_RECORD_DONE);
}

int chain_job_claim(struct chain_job *job)
{
	if (READ_ONCE(job->dying))
		return -ENODEV;
	return chain_claim(job->disk);
}

void chain_job_unclaim(struct chain_job *job)
{
	chain_unclaim(job->disk);
}

int chain_job_claim_enter(struct chain_job *job)
{
	int r = chain_job_claim(job);

	if (r || try_enter(job->disk))
		return r;
	chain_job_unclaim(job);
	return -EBUSY;
}

/* Until @take says something else than -EBUSY. */
static int take_wait(struct chain_job *job, int (*take)(struct chain_job *job),
		     bool cancellable)
{
	int r;

	for (;;) {
		r = take(job);
		if (r != -EBUSY)
			return r;
		if (cancellable && ended(job))
			return ended(job);
		schedule_timeout_idle(HZ / 50);
	}
}

int chain_job_claim_wait(struct chain_job *job, bool cancellable)
{
	return take_wait(job, chain_job_claim, cancellable);
}

int chain_job_claim_enter_wait(struct chain_job *job)
{
	return take_wait(job, chain_job_claim_enter, true);
}

/* --- Keeping the guest away --- */

static void lock_range(const struct chain_job *job, sector_t start, sector_t end,
		       u64 *block, u64 *n)
{
	const struct chain_layer *l = chain_top(job->ci)->layer;

	*block = sector_to_block(l, start);
	*n = min(sector_to_block(l, end + block_sectors(l) - 1), layer_blocks(l)) -
	     *block;
}

bool chain_job_lock(struct chain_job *job, sector_t start, sector_t end)
{
	struct chain_disk *d = job->disk;
	u64 block, n;

	lock_range(job, start, end, &block, &n);
	if (n <= CHAIN_LOCK_BLOCKS && chain_locks_try(&d->locks, block, n))
		return true;
	chain_gave_up(d);
	return false;
}

void chain_job_unlock(struct chain_job *job, sector_t start, sector_t end)
{
	u64 block, n;

	lock_range(job, start, end, &block, &n);
	chain_unlock_blocks(job->disk, block, n);
}

/* --- The thread --- */

/* 0: try again when it is resumed. 1: leave it out. Else the end. */
static int on_error(struct chain_job *job, int err)
{
	u32 policy = READ_ONCE(job->on_error);
	bool stop = policy == DM_CHAIN_ON_ERROR_STOP ||
		    (policy == DM_CHAIN_ON_ERROR_ENOSPC && err == -ENOSPC);
	bool end = job->fatal || (!stop && policy != DM_CHAIN_ON_ERROR_IGNORE);

	spin_lock(&job->lock);
	job->errors++;
	if (!job->error)
		job->error = err;
	if (stop && !end)
		job->flags |= DM_CHAIN_JOB_F_ERROR;
	/* With the error, which a resume forgets if nothing is left out for it. */
	if (!stop && !end)
		job->skipped = true;
	spin_unlock(&job->lock);
	chain_job_event(job, DM_CHAIN_JOB_EVENT_ERROR);
	if (end)
		return err;
	return stop ? 0 : 1;
}

static int step(struct chain_job *job)
{
	u64 began = ktime_get_ns();
	int r = chain_job_enter(job);

	if (r)
		return r;
	r = job->ops->step(job);
	trace_dm_chain_job(job, r < 0 ? r : 0);
	chain_job_leave(job);
	if (r > 0)
		rest(job, began);
	return r;
}

static int skip(struct chain_job *job)
{
	int r = chain_job_enter(job);

	if (r)
		return r;
	job->ops->skip(job);
	chain_job_leave(job);
	cond_resched();
	return 0;
}

/* Paused by an error: until the user says that it is mended. */
static int wait_resumed(struct chain_job *job)
{
	int r = wait_turn(job);

	if (!r && job->ops->resumed)
		job->ops->resumed(job);
	return r;
}

/* Move all that there is. */
static int move_all(struct chain_job *job)
{
	int r = 1, action;

	while (r) {
		r = wait_turn(job);
		if (r)
			return r;
		r = step(job);
		if (r == -EAGAIN || r == -ENOMEM) {
			/* A lock, a suspend, memory: not for long. */
			schedule_timeout_idle(r == -ENOMEM ? HZ / 10 : 1);
			continue;
		}
		if (r >= 0)
			continue;
		if (ended(job))
			return ended(job);
		action = on_error(job, r);
		if (action < 0)
			return action;
		r = action > 0 ? skip(job) : wait_resumed(job);
		if (r)
			return r;
		r = 1;
	}
	return 0;
}

/* It is done but for what was ignored: then headers stay as they are. */
static int finish(struct chain_job *job)
{
	int r;

	if (job->skipped)
		return job->error ?: -EIO;
	set_status(job, DM_CHAIN_JOB_PENDING);
	for (;;) {
		r = ended(job);
		if (r)
			return r;
		r = job->ops->finish(job);
		if (r != -EBUSY)
			return r;
		/* Somebody loads tables, or has it suspended. */
		schedule_timeout_idle(HZ / 20);
	}
}

/* The user ends it: when it is ready. */
static bool ends_by_user(const struct chain_job *job)
{
	return job->type == DM_CHAIN_JOB_ACTIVE_COMMIT ||
	       job->type == DM_CHAIN_JOB_MIRROR;
}

static void offer(struct chain_job *job)
{
	spin_lock(&job->lock);
	job->status = DM_CHAIN_JOB_READY;
	WRITE_ONCE(job->offer, CHAIN_OFFERED);
	spin_unlock(&job->lock);
	chain_job_event(job, DM_CHAIN_JOB_EVENT_STATUS);
}

/* false: a pivot was faster. */
static bool withdraw(struct chain_job *job)
{
	bool mine;

	spin_lock(&job->lock);
	mine = job->offer != CHAIN_TAKEN;
	if (mine)
		WRITE_ONCE(job->offer, CHAIN_NO_OFFER);
	spin_unlock(&job->lock);
	return mine;
}

/*
 * Nothing but its end is of any interest while a pivot has the job: it decides
 * by what there is to move, which only we could hide from it, and has the
 * disk's claim, which we would wait for to end.
 */
static bool no_longer_ready(struct chain_job *job)
{
	if (READ_ONCE(job->pivoted))
		return true;
	return READ_ONCE(job->offer) != CHAIN_TAKEN &&
	       (ended(job) || job->ops->more(job));
}

/* Ready: until the pivot, or until there is something to move again. */
static int wait_ready(struct chain_job *job)
{
	offer(job);
	/* Who writes to the top because the base refused can't wake us up. */
	do {
		while (!no_longer_ready(job))
			wait_event_idle_timeout(job->wait, no_longer_ready(job), HZ);
	} while (!withdraw(job));
	if (READ_ONCE(job->pivoted))
		return 0;
	job->ready = !job->ops->more(job);
	return ended(job) ?: -EAGAIN;
}

/*
 * A device that is offline has the same error as a disk that goes, and that has nothing
 * to be undone at.
 */
static int not_ours(struct chain_job *job, int r)
{
	return r == -ENODEV && !READ_ONCE(job->dying) && READ_ONCE(job->disk->live) ?
	       -EIO : r;
}

static int run(struct chain_job *job)
{
	int r = job->ops->prepare(job);

	while (!r) {
		r = move_all(job);
		if (r)
			break;
		if (ends_by_user(job) && !job->skipped)
			r = (job->ops->settle ? job->ops->settle(job) : 0) ?:
			    wait_ready(job);
		else
			return finish(job);
		if (r != -EAGAIN)
			break;
		r = 0;
	}
	return r;
}

int chain_job_run(struct chain_job *job)
{
	return not_ours(job, run(job));
}

/* The first start has what it came for; a second one lets it begin. */
static int record(struct chain_job *job)
{
	bool held = job->held;
	int r = not_ours(job, job->ops->record(job));

	job->prepare_error = r;
	/* A second start waits for it, too. */
	complete_all(&job->prepared);
	if (r || !held)
		return r;
	wait_event_idle(job->wait, !READ_ONCE(job->held) || ended(job));
	return ended(job);
}

static void free_work(struct chain_job *job)
{
	/* First who might still wake up somebody in the plan. */
	if (job->kc)
		dm_kcopyd_client_destroy(job->kc);
	job->kc = NULL;
	if (job->ops->free)
		job->ops->free(job);
	kvfree(job->plan);
	job->plan = NULL;
	free_pages((unsigned long)job->buf, get_order(job->buf_bytes));
	job->buf = NULL;
	kfree(job->hdr);
	job->hdr = NULL;
	kvfree(job->which);
	job->which = NULL;
}

static void job_put(struct chain_job *job)
{
	if (refcount_dec_and_test(&job->ref)) {
		WARN_ON_ONCE(job->plan || job->kc);
		kfree(job);
	}
}

/* Its layers are free when others hear that it has ended. */
static void conclude(struct chain_job *job, int r)
{
	struct chain_token *t;

	free_work(job);
	mutex_lock(&chain_registry_mutex);
	list_del_init(&job->on_disk);
	t = job->token;
	job->token = NULL;
	mutex_unlock(&chain_registry_mutex);
	chain_token_end(t);
	spin_lock(&job->lock);
	job->error = r;
	job->flags &= ~(DM_CHAIN_JOB_F_USER | DM_CHAIN_JOB_F_ERROR);
	if (r == -ECANCELED || (job->cancelled && !r))
		job->flags |= DM_CHAIN_JOB_F_CANCEL;
	if (r == -ENODEV)
		job->devt = 0;
	spin_unlock(&job->lock);
	set_status(job, DM_CHAIN_JOB_CONCLUDED);
	if (r && r != -ECANCELED)
		DMWARN("%s: job %llu ended with error %d", job->name, job->id, r);
}

static int job_thread(void *arg)
{
	struct chain_job *job = arg;
	unsigned int noio = memalloc_noio_save();
	int r = record(job);

	if (!r)
		r = chain_job_run(job);
	if (r && r != -ENODEV)
		r = job->ops->cancel(job, r);
	conclude(job, r);
	memalloc_noio_restore(noio);
	complete_all(&job->exited);
	return 0;
}

/* --- Disks that come and go --- */

void chain_jobs_bind(struct chain_disk *d)
{
	struct chain_job *job;
	unsigned int pinned = 0;

	lockdep_assert_held(&chain_registry_mutex);
	list_for_each_entry(job, &d->jobs, on_disk) {
		if (job->unbound)
			continue;
		job->ci = d->live;
		job->ops->bind(job);
		if (job->pins)
			pinned = max(pinned, job->b);
	}
	d->pinned = pinned;
	d->unmerged = max(d->unmerged, pinned);
}

static struct chain_job *first_job(struct chain_disk *d)
{
	struct chain_job *job;

	mutex_lock(&chain_registry_mutex);
	job = list_first_entry_or_null(&d->jobs, struct chain_job, on_disk);
	if (job)
		refcount_inc(&job->ref);
	mutex_unlock(&chain_registry_mutex);
	return job;
}

void chain_jobs_end(struct chain_disk *d)
{
	struct chain_job *job;

	while ((job = first_job(d))) {
		WRITE_ONCE(job->dying, true);
		wake_up_all(&job->wait);
		spin_lock_irq(&d->jobs_lock);
		wake_up_all(&d->jobs_wait);
		spin_unlock_irq(&d->jobs_lock);
		wait_for_completion(&job->exited);
		job_put(job);
	}
}

/* --- Starting --- */

static const struct chain_job_ops *ops_of(u32 type)
{
	switch (type) {
	case DM_CHAIN_JOB_STREAM:
		return &chain_stream_ops;
	case DM_CHAIN_JOB_MIRROR:
		return &chain_mirror_ops;
	default:
		return &chain_commit_ops;
	}
}

static u32 type_of(u32 op, u32 top)
{
	switch (op) {
	case DM_CHAIN_OP_STREAM:
		return DM_CHAIN_JOB_STREAM;
	case DM_CHAIN_OP_COMMIT:
	case DM_CHAIN_OP_ACTIVE_COMMIT:
		return top ? DM_CHAIN_JOB_COMMIT : DM_CHAIN_JOB_ACTIVE_COMMIT;
	case DM_CHAIN_OP_MIRROR:
		return DM_CHAIN_JOB_MIRROR;
	default:
		return 0;
	}
}

/*
 * Less is slower where it is used, and no reason not to begin. Two pages: who
 * compares reads a half of it from each side, in logical blocks of either.
 */
static void *alloc_buf(u32 *bytes)
{
	unsigned int order = get_order(CHAIN_JOB_BUF);
	void *buf;

	do {
		buf = (void *)__get_free_pages(GFP_KERNEL | __GFP_COMP |
			(order > 1 ? __GFP_NORETRY | __GFP_NOWARN : 0), order);
		*bytes = PAGE_SIZE << order;
	} while (!buf && order-- > 1);
	return buf;
}

static int alloc_work(struct chain_job *job)
{
	job->plan = kvzalloc(sizeof(*job->plan), GFP_KERNEL);
	job->buf = alloc_buf(&job->buf_bytes);
	job->hdr = kmalloc(sizeof(*job->hdr), GFP_KERNEL);
	job->which = kvcalloc(BITS_TO_LONGS(CHAIN_PLAN_BLOCKS), sizeof(long),
			      GFP_KERNEL);
	if (!job->plan || !job->buf || !job->hdr || !job->which)
		return -ENOMEM;
	init_waitqueue_head(&job->plan->idle);
	job->kc = chain_copy_create();
	if (IS_ERR(job->kc)) {
		int r = PTR_ERR(job->kc);

		job->kc = NULL;
		return r;
	}
	return 0;
}

static struct chain_job *job_alloc(struct chain_inst *ci, u32 type)
{
	struct chain_job *job = kzalloc(sizeof(*job), GFP_KERNEL);

	if (!job)
		return NULL;
	refcount_set(&job->ref, 1);
	INIT_LIST_HEAD(&job->list);
	INIT_LIST_HEAD(&job->on_disk);
	spin_lock_init(&job->lock);
	init_waitqueue_head(&job->wait);
	init_completion(&job->prepared);
	init_completion(&job->exited);
	job->type = type;
	job->ops = ops_of(type);
	job->disk = ci->disk;
	job->devt = ci->disk->devt;
	job->ci = ci;
	job->status = DM_CHAIN_JOB_CREATED;
	job->synced = jiffies;
	dm_copy_name_and_uuid(ci->disk->md, job->name, NULL);
	return job;
}

/* The source is the token's, the target what is attached. */
static void find_both(struct chain_job *job, const struct chain_scope *s)
{
	job->top = s->top;
	job->ids.top = s->top->uuid;
	if (!job->ci->target)
		return;
	job->target = job->ci->target->layer;
	job->ids.into = job->target->uuid;
}

/* Which layers it is about: those that the token was given for. */
static void find_layers(struct chain_job *job, const struct chain_scope *s)
{
	if (job->type == DM_CHAIN_JOB_MIRROR) {
		find_both(job, s);
		return;
	}
	job->into = job->type == DM_CHAIN_JOB_STREAM ? s->top : NULL;
	job->top = job->into ? NULL : s->top;
	job->base = s->base;
	job->over = job->type == DM_CHAIN_JOB_COMMIT ? s->over : NULL;
	job->ids.top = s->top->uuid;
	if (job->into)
		job->ids.into = job->into->uuid;
	else
		job->ids.into = job->base->uuid;
	job->ops->bind(job);
}

static int make_job(struct chain_inst *ci, struct chain_token *t,
		    struct chain_job **out)
{
	const struct chain_scope *s = chain_token_scope(t);
	u32 type = type_of(s->op, s->top_depth);
	struct chain_job *job;

	if (!type)
		return -EINVAL;
	job = job_alloc(ci, type);
	if (!job)
		return -ENOMEM;
	job->id = chain_token_id(t);
	find_layers(job, s);
	*out = job;
	return 0;
}

/* Those that ended long ago make room; @gone is freed without the lock. */
static void trim(struct list_head *gone)
{
	struct chain_job *job, *next;

	list_for_each_entry_safe(job, next, &jobs, list) {
		if (nr_jobs <= KEPT)
			break;
		if (READ_ONCE(job->status) != DM_CHAIN_JOB_CONCLUDED)
			continue;
		list_move_tail(&job->list, gone);
		nr_jobs--;
	}
}

static void free_jobs(struct list_head *gone)
{
	struct chain_job *job, *next;

	list_for_each_entry_safe(job, next, gone, list) {
		list_del(&job->list);
		/* It has done its work; its last instructions may be ours. */
		kthread_stop(job->task);
		put_task_struct(job->task);
		job_put(job);
	}
}

/*
 * A table with another target, or none, or with layers ro, may have been loaded since
 * the token was given; and there is one target only.
 */
static int check_tables(const struct chain_job *job)
{
	const struct chain_job *other;

	if (!list_is_singular(&job->disk->insts))
		return -EBUSY;
	if (!job->target)
		return 0;
	list_for_each_entry(other, &job->disk->jobs, on_disk)
		if (other->target)
			return -EBUSY;
	return 0;
}

bool chain_jobs_lack_target(const struct chain_inst *ci)
{
	const struct chain_job *job;
	bool lacks = false;

	mutex_lock(&chain_registry_mutex);
	list_for_each_entry(job, &ci->disk->jobs, on_disk)
		lacks |= job->target && !job->unbound &&
			 !(ci->target && ci->target->layer == job->target);
	mutex_unlock(&chain_registry_mutex);
	return lacks;
}

/* From here on it is one of the disk's, and the token the job's. */
static int publish(struct chain_job *job, struct chain_token *t)
{
	LIST_HEAD(gone);
	int r;

	mutex_lock(&chain_registry_mutex);
	r = job->disk->live == job->ci ? check_tables(job) : -ENODEV;
	if (!r)
		r = chain_token_begin(t, job, job->disk);
	if (!r) {
		job->token = t;
		list_add_tail(&job->list, &jobs);
		list_add_tail(&job->on_disk, &job->disk->jobs);
		nr_jobs++;
		trim(&gone);
	}
	mutex_unlock(&chain_registry_mutex);
	free_jobs(&gone);
	return r;
}

static int launch(struct chain_job *job, struct chain_token *t)
{
	struct task_struct *task;
	int r = alloc_work(job);

	if (r)
		return r;
	task = kthread_create(job_thread, job, "dm-chain/job%llu", job->id);
	if (IS_ERR(task))
		return PTR_ERR(task);
	job->task = get_task_struct(task);
	r = publish(job, t);
	if (r) {
		/* It has not run: it ends without calling job_thread(). */
		kthread_stop(task);
		put_task_struct(task);
		return r;
	}
	/* For who waits in here while others may forget it. */
	refcount_inc(&job->ref);
	wake_up_process(task);
	return 0;
}

static int check_start(struct chain_job *job,
		       const struct dm_chain_job_start *arg)
{
	int r = job->ops->check(job, arg->flags);

	if (!r && job->type != DM_CHAIN_JOB_MIRROR &&
	    arg->flags & (DM_CHAIN_JOB_ZEROED | DM_CHAIN_JOB_VERIFY))
		r = -EINVAL;
	if (r)
		return r;
	job->speed = arg->speed;
	job->on_error = arg->on_error;
	job->held = arg->flags & DM_CHAIN_JOB_PREPARE;
	job->start_flags = arg->flags;
	memcpy(job->path, arg->parent_path, sizeof(job->path));
	job->path[sizeof(job->path) - 1] = 0;
	return 0;
}

/* The first start of a token; pinned. */
static int start(struct chain_inst *ci, struct chain_token *t,
		 struct dm_chain_job_start *arg, struct chain_job **out)
{
	struct chain_job *job;
	int r = make_job(ci, t, &job);

	if (r)
		return r;
	if (arg->flags & DM_CHAIN_JOB_ESTIMATE) {
		r = job->ops->estimate(job, arg);
		job_put(job);
		return r;
	}
	if (arg->flags & DM_CHAIN_JOB_FORGET) {
		r = job->type == DM_CHAIN_JOB_MIRROR ?
		    chain_mirror_forget(job) : -EINVAL;
		job_put(job);
		return r;
	}
	r = check_start(job, arg);
	if (!r)
		r = launch(job, t);
	if (r) {
		free_work(job);
		job_put(job);
		return r;
	}
	*out = job;
	return 0;
}

/* The second one, of a job that was only prepared. */
static int go_on(struct chain_job *job, const struct dm_chain_job_start *arg)
{
	int r;

	if (!job->held || arg->flags & (DM_CHAIN_JOB_ESTIMATE | DM_CHAIN_JOB_PREPARE))
		return -EBUSY;
	r = job->ops->check(job, arg->flags);
	if (r)
		return r;
	WRITE_ONCE(job->held, false);
	wake_up_all(&job->wait);
	return 0;
}

static int start_pinned(struct chain_token *t, struct dm_chain_job_start *arg,
			struct chain_job **out)
{
	struct chain_job *job;
	struct chain_inst *ci;
	dev_t devt = chain_token_devt(t);
	int r;

	if (!devt)
		return -ENODEV;
	/* No job has to know that maps can be unread. */
	r = chain_disk_pin_read(devt, &ci);
	if (r)
		return r;
	/* It may have been another's since. */
	if (chain_token_devt(t) != devt) {
		chain_disk_unpin(ci->disk);
		return -ENODEV;
	}
	mutex_lock(&chain_registry_mutex);
	job = chain_token_job(t);
	if (job)
		refcount_inc(&job->ref);
	mutex_unlock(&chain_registry_mutex);
	if (job)
		r = go_on(job, arg);
	else
		r = start(ci, t, arg, &job);
	chain_disk_unpin(ci->disk);
	if (!r)
		*out = job;
	else if (job && job != *out)
		job_put(job);
	return r;
}

int chain_job_start(struct dm_chain_job_start *arg)
{
	struct chain_job *job = NULL;
	struct chain_token *t;
	struct file *file;
	int r;

	if (arg->pad || arg->on_error > DM_CHAIN_ON_ERROR_ENOSPC ||
	    arg->flags & ~(DM_CHAIN_JOB_ESTIMATE | DM_CHAIN_JOB_FORCE |
			   DM_CHAIN_JOB_PREPARE | DM_CHAIN_JOB_ZEROED |
			   DM_CHAIN_JOB_FORGET | DM_CHAIN_JOB_VERIFY))
		return -EINVAL;
	file = fget(arg->token);
	t = file ? chain_token_of(file) : NULL;
	r = t ? start_pinned(t, arg, &job) : -EBADF;
	if (file)
		fput(file);
	if (r || !job)
		return r;
	/* Its record is there, or why it is not. */
	r = wait_for_completion_killable(&job->prepared) ?: job->prepare_error;
	arg->id = job->id;
	memcpy(arg->uuid, job->uuid.b, sizeof(arg->uuid));
	job_put(job);
	return r;
}

/* --- Questions and verbs --- */

static struct chain_job *find_job(u64 id)
{
	struct chain_job *job;

	lockdep_assert_held(&chain_registry_mutex);
	list_for_each_entry(job, &jobs, list)
		if (job->id == id)
			return job;
	return NULL;
}

void chain_job_orphan(struct chain_job *job)
{
	lockdep_assert_held(&chain_registry_mutex);
	if (!READ_ONCE(job->held))
		return;
	WRITE_ONCE(job->cancelled, true);
	wake_up_all(&job->wait);
}

static int cancel(struct chain_job *job)
{
	int r = 0;

	spin_lock(&job->lock);
	if (job->status == DM_CHAIN_JOB_PENDING)
		r = -EBUSY;
	else
		WRITE_ONCE(job->cancelled, true);
	spin_unlock(&job->lock);
	return r;
}

int chain_job_apply(struct chain_job *job, const struct dm_chain_job_verb *arg)
{
	int r = 0;

	if (READ_ONCE(job->status) == DM_CHAIN_JOB_CONCLUDED)
		return -ESRCH;
	if (arg->verb == DM_CHAIN_VERB_CANCEL)
		r = cancel(job);
	spin_lock(&job->lock);
	switch (arg->verb) {
	case DM_CHAIN_VERB_PAUSE:
		job->flags |= DM_CHAIN_JOB_F_USER;
		break;
	case DM_CHAIN_VERB_RESUME:
		job->flags &= ~(DM_CHAIN_JOB_F_USER | DM_CHAIN_JOB_F_ERROR);
		job->error = job->skipped ? job->error : 0;
		break;
	case DM_CHAIN_VERB_SPEED:
		WRITE_ONCE(job->speed, arg->arg);
		job->due_ns = 0;
		break;
	case DM_CHAIN_VERB_CANCEL:
		break;
	default:
		r = -EINVAL;
	}
	spin_unlock(&job->lock);
	wake_up_all(&job->wait);
	return r;
}

int chain_job_verb(const struct dm_chain_job_verb *arg)
{
	struct chain_job *job;
	int r = -ENOENT;

	if (arg->flags || (arg->arg && arg->verb != DM_CHAIN_VERB_SPEED))
		return -EINVAL;
	mutex_lock(&chain_registry_mutex);
	job = find_job(arg->id);
	if (job)
		r = chain_job_apply(job, arg);
	mutex_unlock(&chain_registry_mutex);
	return r;
}

u32 chain_jobs_fill(u64 id, struct dm_chain_job *out, u32 room)
{
	struct chain_job *job;
	u32 n = 0;

	mutex_lock(&chain_registry_mutex);
	list_for_each_entry(job, &jobs, list) {
		if (id && job->id != id)
			continue;
		if (n < room)
			chain_job_fill(job, &out[n]);
		n++;
	}
	mutex_unlock(&chain_registry_mutex);
	return n;
}

/*
 * The job of a disk that can be pivoted; -ENOENT: there is none; -EAGAIN: it is not
 * ready. It can't be cancelled then until pivoted().
 */
static struct chain_job *take_ready(struct chain_disk *d, int *error)
{
	struct chain_job *job;

	lockdep_assert_held(&chain_registry_mutex);
	*error = -ENOENT;
	list_for_each_entry(job, &d->jobs, on_disk) {
		if (!ends_by_user(job))
			continue;
		*error = -EAGAIN;
		spin_lock(&job->lock);
		if (job->offer == CHAIN_OFFERED && !ended(job) &&
		    !job->ops->more(job)) {
			WRITE_ONCE(job->offer, CHAIN_TAKEN);
			job->status = DM_CHAIN_JOB_PENDING;
			refcount_inc(&job->ref);
			*error = 0;
		}
		spin_unlock(&job->lock);
		return *error ? NULL : job;
	}
	return NULL;
}

/* 0: it was; waits until the job has ended. */
static void pivoted(struct chain_job *job, int error)
{
	if (!error)
		chain_job_event(job, DM_CHAIN_JOB_EVENT_STATUS);
	spin_lock(&job->lock);
	if (error)
		job->status = DM_CHAIN_JOB_READY;
	else
		WRITE_ONCE(job->pivoted, true);
	WRITE_ONCE(job->offer, error ? CHAIN_OFFERED : CHAIN_NO_OFFER);
	spin_unlock(&job->lock);
	wake_up_all(&job->wait);
	if (!error)
		wait_for_completion(&job->exited);
	job_put(job);
}

static int take_all(struct chain_member *m, unsigned int nr)
{
	unsigned int i;
	int r = 0;

	mutex_lock(&chain_registry_mutex);
	for (i = 0; i < nr && !r; i++) {
		m[i].job = take_ready(m[i].ci->disk, &r);
		if (!r && nr > 1 && m[i].job->type != DM_CHAIN_JOB_MIRROR)
			r = -EINVAL;
		m[i].error = r;
	}
	mutex_unlock(&chain_registry_mutex);
	return r;
}

int chain_jobs_pivot(struct chain_member *m, unsigned int nr)
{
	unsigned int i, noio;
	int r = take_all(m, nr);

	if (!r) {
		noio = memalloc_noio_save();
		r = m->job->ops->pivot(m, nr);
		memalloc_noio_restore(noio);
	}
	/* Once the disk has moved on the job is over, durable or not. */
	for (i = 0; i < nr; i++)
		if (m[i].job)
			pivoted(m[i].job, m[i].job->installed ? r : 0);
	return r;
}

void chain_jobs_exit(void)
{
	LIST_HEAD(gone);

	/* No table is left, so all have ended. */
	list_splice_init(&jobs, &gone);
	free_jobs(&gone);
}

CHAIN_EXPORT_FOR_KUNIT(chain_job_run);
CHAIN_EXPORT_FOR_KUNIT(chain_jobs_pivot);
CHAIN_EXPORT_FOR_KUNIT(chain_job_apply);
CHAIN_EXPORT_FOR_KUNIT(chain_job_fill);
CHAIN_EXPORT_FOR_KUNIT(chain_job_done);
CHAIN_EXPORT_FOR_KUNIT(chain_jobs_stop);
CHAIN_EXPORT_FOR_KUNIT(chain_jobs_go);
