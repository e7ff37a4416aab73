// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * dmchain pivot JOB|NAME: a commit of the active layer, or a mirror, which has
 * nothing left to move, ends: its base, or target, is the disk from then on.
 */
#include "job.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static int not_active(const struct job_entry *e)
{
	char id[JOB_ID_TEXT];

	return msg_fail(EXIT_FAILED,
			"%s: job %s ends by itself; only a mirror and a commit of the active layer are pivoted to",
			e->job.disk, job_id(e, id));
}

/* It was not ready since the two sides were not equal. */
static int differs(const struct job_entry *e)
{
	char id[JOB_ID_TEXT];

	return msg_fail(EXIT_FAILED,
			"%s: cannot pivot, the copy differs from the disk, first in %llu bytes at %llu (job %s)",
			e->job.disk, (unsigned long long)e->job.bad_bytes,
			(unsigned long long)e->job.bad_start, job_id(e, id));
}

/* The last one of those that had its record. */
static const struct job_entry *last_run(const struct job_list *l,
					const struct job_entry *e)
{
	const struct job_entry *last = e;
	unsigned int i;

	for (i = 0; i < l->nr; i++)
		if (!l->jobs[i].left && !memcmp(l->jobs[i].job.uuid, e->job.uuid,
						sizeof(e->job.uuid)))
			last = &l->jobs[i];
	return last;
}

static int not_running(const struct job_list *l, const struct job_entry *e)
{
	char id[JOB_ID_TEXT];

	job_id(e, id);
	if (last_run(l, e)->job.error == -EILSEQ)
		return differs(last_run(l, e));
	if (e->left)
		return msg_fail(EXIT_FAILED,
				"%s: job %s was interrupted; dmchain job resume %s first",
				e->job.disk, id, id);
	return msg_fail(EXIT_FAILED,
			"%s: job %s has ended already; dmchain job show %s tells how",
			e->job.disk, id, id);
}

static int not_ready(const struct dm_chain_job *job)
{
	char done[32], total[32];

	if (job->bad_bytes && job->status == DM_CHAIN_JOB_PAUSED)
		return msg_fail(EXIT_FAILED,
				"%s: cannot pivot, the copy differs from the disk, first in %llu bytes at %llu; dmchain job resume %llu copies and compares that again",
				job->disk, (unsigned long long)job->bad_bytes,
				(unsigned long long)job->bad_start,
				(unsigned long long)job->id);

	return msg_fail(EXIT_FAILED,
			"%s: job %llu is not ready, but %s, with %s of %s moved; dmchain job wait %llu",
			job->disk, (unsigned long long)job->id,
			job_status_name(job->status),
			size_text(job->current_bytes, done),
			size_text(job->total_bytes, total),
			(unsigned long long)job->id);
}

static int report(int ctl, uint64_t id)
{
	struct dm_chain_job job;
	int ret = control_job(ctl, id, &job);

	if (ret)
		return ret;
	if (opt_json)
		show_json(job_kernel_json(&job));
	else
		printf("%s: %s done, the disk goes on in its %s (job %llu)\n",
		       job.disk, job_type_name(job.type),
		       job.type == DM_CHAIN_JOB_MIRROR ? "copy" : "base",
		       (unsigned long long)job.id);
	return 0;
}

static int pivot(int ctl, const struct job_list *l, const struct job_entry *e)
{
	struct dm_chain_job job = e->job;
	int ret;

	if (job.type != DM_CHAIN_JOB_ACTIVE_COMMIT &&
	    job.type != DM_CHAIN_JOB_MIRROR)
		return not_active(e);
	if (e->left || !job_live(&job))
		return not_running(l, e);
	ret = job_pivot(ctl, job.disk);
	if (ret < 0)
		return ret;
	if (!ret)
		return report(ctl, job.id);
	ret = control_job(ctl, job.id, &job);
	return ret ? ret : not_ready(&job);
}

static int find_and_pivot(int ctl, const char *arg)
{
	const struct job_entry *e;
	struct job_list l;
	int ret = job_list_read(ctl, NULL, &l);

	if (ret)
		return ret;
	ret = job_find(&l, arg, &e);
	if (!ret)
		ret = pivot(ctl, &l, e);
	job_list_free(&l);
	return ret;
}

int cmd_pivot(int argc, char **argv)
{
	int ctl, ret = args_parse(&argc, &argv, NULL, 1, 1);

	if (ret)
		return ret;
	if (!module_present())
		return msg_fail(EXIT_FAILED,
				"%s: no such job, and no disk that has one; dmchain job list shows them",
				argv[0]);
	ctl = control_open();
	if (ctl < 0)
		return ctl;
	ret = find_and_pivot(ctl, argv[0]);
	close(ctl);
	return ret;
}
