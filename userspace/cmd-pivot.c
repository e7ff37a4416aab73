// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * dmchain pivot JOB|NAME ...: a commit of the active layer, or a mirror, which has
 * nothing left to move, ends: its base, or target, is the disk from then on.
 * Several mirrors: at one instant.
 */
#include "job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/**
 * struct pivots - what was asked for
 * @jobs: in the order of the arguments
 */
struct pivots {
	int ctl;
	struct job_list list;
	unsigned int nr;
	const struct job_entry **jobs;
	uint64_t *pause_ns;
};

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

static json_object *report_json(const struct dm_chain_job *job, uint64_t pause_ns)
{
	json_object *o = job_kernel_json(job);

	json_object_object_add(o, "pause-ns", json_object_new_uint64(pause_ns));
	return o;
}

/* One: an object, several: an array, in the order of the arguments. */
static int report(const struct pivots *p)
{
	json_object *all = json_object_new_array();
	unsigned int i;
	int ret = 0;

	for (i = 0; i < p->nr && !ret; i++) {
		struct dm_chain_job job = p->jobs[i]->job;

		/* What isn't needed can't fail: it is done. */
		if (opt_json)
			ret = control_job(p->ctl, job.id, &job);
		if (ret)
			break;
		json_object_array_add(all, report_json(&job, p->pause_ns[i]));
		if (!opt_json)
			printf("%s: %s done, the disk goes on in its %s (job %llu, paused for %.3f ms)\n",
			       job.disk, job_type_name(job.type),
			       job.type == DM_CHAIN_JOB_MIRROR ? "copy" : "base",
			       (unsigned long long)job.id, p->pause_ns[i] / 1e6);
	}
	if (opt_json && !ret)
		show_json(json_object_get(p->nr > 1 ? all :
					  json_object_array_get_idx(all, 0)));
	json_object_put(all);
	return ret;
}

static int check(const struct pivots *p, const struct job_entry *e)
{
	const struct dm_chain_job *job = &e->job;

	if (job->type != DM_CHAIN_JOB_ACTIVE_COMMIT &&
	    job->type != DM_CHAIN_JOB_MIRROR)
		return not_active(e);
	if (p->nr > 1 && job->type != DM_CHAIN_JOB_MIRROR)
		return msg_fail(EXIT_REFUSED,
				"%s: only mirrors can be pivoted to together, and its job is a commit; dmchain pivot %s by itself",
				job->disk, job->disk);
	if (e->left || !job_live(job))
		return not_running(&p->list, e);
	return 0;
}

/* The first that isn't; by now it may be. */
static int none_ready(const struct pivots *p)
{
	struct dm_chain_job job;
	unsigned int i;
	int ret = 0;

	for (i = 0; i < p->nr && !ret; i++) {
		ret = control_job(p->ctl, p->jobs[i]->job.id, &job);
		if (!ret && (job.status != DM_CHAIN_JOB_READY || i == p->nr - 1))
			ret = not_ready(&job);
	}
	return ret;
}

static int pivot(struct pivots *p)
{
	int ret = p->nr == 1 ?
		  job_pivot(p->ctl, p->jobs[0]->job.disk, p->pause_ns) :
		  pivot_several(p->ctl, p->jobs, p->nr, p->pause_ns);

	if (ret < 0)
		return ret;
	return ret ? none_ready(p) : report(p);
}

static int find_and_pivot(struct pivots *p, char **args)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < p->nr && !ret; i++) {
		ret = job_find(&p->list, args[i], &p->jobs[i]);
		if (!ret)
			ret = check(p, p->jobs[i]);
	}
	return ret ? ret : pivot(p);
}

static int pivot_args(struct pivots *p, char **args)
{
	int ret = job_list_read(p->ctl, NULL, &p->list);

	if (ret)
		return ret;
	p->jobs = calloc(p->nr, sizeof(*p->jobs));
	p->pause_ns = calloc(p->nr, sizeof(*p->pause_ns));
	ret = p->jobs && p->pause_ns ? find_and_pivot(p, args) :
				       msg_fail(EXIT_FAILED, "out of memory");
	free(p->pause_ns);
	free(p->jobs);
	job_list_free(&p->list);
	return ret;
}

int cmd_pivot(int argc, char **argv)
{
	struct pivots p = { 0 };
	int ret = args_parse(&argc, &argv, NULL, 1, DM_CHAIN_SWITCH_MAX);

	if (ret)
		return ret;
	if (!module_present())
		return msg_fail(EXIT_FAILED,
				"%s: no such job, and no disk that has one; dmchain job list shows them",
				argv[0]);
	p.nr = (unsigned int)argc;
	p.ctl = control_open();
	if (p.ctl < 0)
		return p.ctl;
	ret = pivot_args(&p, argv);
	close(p.ctl);
	return ret;
}
