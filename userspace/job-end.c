// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The end of a job. The kernel has changed headers and topology; what is left
 * is to let go of the devices of the layers that were dropped, to have dm open
 * read-only what nobody writes any more, and to set labels right. Whoever sees
 * the end first does that; it is part of every command's look at what was left.
 */
#include "boot.h"
#include "job.h"

#include <errno.h>
#include <unistd.h>

#define RETRY_US 20000

int job_finish(const char *name)
{
	struct disk_lock l;
	dev_t dev;
	int ret;

	/* A disk that was closed has let go of everything. */
	if (dm_disk(name, &dev, NULL))
		return 0;
	ret = disk_lock(name, &l);
	if (ret)
		return ret;
	ret = disk_recover_locked(&l, false, NULL);
	disk_unlock(&l);
	return ret;
}

void job_pivot_tidy(struct disk_lock *l)
{
	if (disk_recover_locked(l, false, NULL))
		msg_warn("%s: the pivot itself is done; the next command about this disk (dmchain recover %s) tidies up the rest",
			 l->name, l->name);
}

static int pivot_locked(int ctl, const char *name, struct disk_lock *l,
			uint64_t *pause_ns)
{
	dev_t dev;
	int ret = disk_recover_locked(l, false, NULL);

	if (!ret)
		ret = disk_find(name, &dev);
	if (!ret)
		ret = boot_before_pivot(ctl, name, dev);
	if (!ret)
		ret = control_pivot(ctl, dev, name, pause_ns);
	if (!ret)
		job_pivot_tidy(l);
	return ret;
}

/* Under the lock: a snapshot meanwhile would be of a top that is no longer. */
int job_pivot(int ctl, const char *name, uint64_t *pause_ns)
{
	struct disk_lock l;
	int ret = disk_lock(name, &l);

	if (ret)
		return ret;
	ret = pivot_locked(ctl, name, &l, pause_ns);
	disk_unlock(&l);
	return ret;
}

static int mirror_ended(const struct dm_chain_job *job)
{
	unsigned long long id = job->id;
	struct job_entry e = { .job = *job };
	bool tracked = job_tracked(job);
	const char *more = tracked ? "; to go on where it was: dmchain job resume " : "";
	const char *more_disk = tracked ? job->disk : "";

	if (job->error == -EILSEQ)
		return msg_fail(EXIT_FAILED,
				"%s: mirror failed (job %llu): the copy differs, first in %llu bytes at %llu; see what is wrong with where it lies%s%s",
				job->disk, id,
				(unsigned long long)job->bad_bytes,
				(unsigned long long)job->bad_start, more,
				more_disk);
	if (job->error == -ECANCELED)
		return msg_fail(EXIT_FAILED,
				"%s: mirror cancelled (job %llu) before it was ready: the copy is incomplete%s%s",
				job->disk, id, more, more_disk);
	if (job->error == -ENODEV)
		return msg_fail(EXIT_FAILED,
				"%s: mirror stopped (job %llu), the disk was closed: the copy is incomplete%s%s",
				job->disk, id, more, more_disk);
	return msg_fail(EXIT_FAILED,
			"%s: mirror failed (job %llu): %s; the copy is incomplete, the disk itself goes on%s%s",
			job->disk, id, job_error_text(&e), more, more_disk);
}

static int cancelled(const struct dm_chain_job *job)
{
	unsigned long long id = job->id;

	if (job->type == DM_CHAIN_JOB_STREAM)
		return msg_fail(EXIT_FAILED,
				"%s: stream cancelled (job %llu), what it has moved stays; dmchain stream %s goes on where it was",
				job->disk, id, job->disk);
	return msg_fail(EXIT_FAILED,
			"%s: commit cancelled (job %llu), what it has moved stays; dmchain job resume %s goes on where it was",
			job->disk, id, job->disk);
}

int job_ended(const struct dm_chain_job *job)
{
	const char *type = job_type_name(job->type);
	struct job_entry e = { .job = *job };

	if (job->error && job->type == DM_CHAIN_JOB_MIRROR)
		return mirror_ended(job);
	if (job->error == -ECANCELED)
		return cancelled(job);
	if (job->error == -ENODEV)
		return msg_fail(EXIT_FAILED,
				"%s: %s stopped (job %llu), the disk was closed; open it again, dmchain job resume %s then goes on",
				job->disk, type, (unsigned long long)job->id,
				job->disk);
	if (job->error)
		return msg_fail(EXIT_FAILED,
				"%s: %s failed (job %llu): %s; mend that, dmchain job resume %s then goes on",
				job->disk, type, (unsigned long long)job->id,
				job_error_text(&e), job->disk);
	return 0;
}

static void report(const struct dm_chain_job *job)
{
	unsigned long long id = job->id;
	char bytes[32];

	if (opt_json)
		show_json(job_kernel_json(job));
	else if (job_live(job))
		printf("%s: %s is ready (job %llu); dmchain pivot %s ends it\n",
		       job->disk, job_type_name(job->type), id, job->disk);
	else
		printf("%s: %s done, %s moved (job %llu)\n", job->disk,
		       job_type_name(job->type),
		       size_text(job->current_bytes, bytes), id);
}

/* Ready is a matter of moments while the guest writes: it is asked again. */
static int wait_and_pivot(int ctl, struct job_waiting *w, bool no_pivot)
{
	uint64_t pause_ns;
	int ret;

	for (;;) {
		ret = job_wait(ctl, w);
		if (ret || w->job.status != DM_CHAIN_JOB_READY || no_pivot)
			return ret;
		ret = job_pivot(ctl, w->job.disk, &pause_ns);
		if (ret < 0)
			return ret;
		if (ret)
			usleep(RETRY_US);
	}
}

int job_follow(int ctl, uint64_t id, bool no_pivot)
{
	struct job_waiting w = {
		.id = id, .until_ready = true, .show = true, .cancel = true,
	};
	int end = 0, ret = wait_and_pivot(ctl, &w, no_pivot);

	if (ret)
		return ret;
	if (!job_live(&w.job)) {
		ret = job_finish(w.job.disk);
		end = job_ended(&w.job);
	}
	if (!end)
		report(&w.job);
	return end ? end : ret;
}
