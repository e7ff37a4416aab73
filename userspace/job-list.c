// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which jobs there are: those in the kernel, and those that were cut off, of
 * which only the record in a layer's header is left.
 */
#include "job.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/sysmacros.h>

/**
 * struct reading - on the way through the disks
 * @ctl: control device
 * @only: the disk that is asked about, or NULL
 * @list: so far
 */
struct reading {
	int ctl;
	const char *only;
	struct job_list *list;
};

bool job_live(const struct dm_chain_job *job)
{
	return job->status != DM_CHAIN_JOB_CONCLUDED;
}

bool job_tracked(const struct dm_chain_job *job)
{
	static const uint8_t raw[sizeof(job->top)];

	return memcmp(job->top, raw, sizeof(raw)) &&
	       memcmp(job->into, raw, sizeof(raw));
}

static struct job_entry *add(struct job_list *l)
{
	struct job_entry *more = realloc(l->jobs, (l->nr + 1) * sizeof(*more));

	if (!more) {
		msg_fail(EXIT_FAILED, "out of memory");
		return NULL;
	}
	l->jobs = more;
	memset(&more[l->nr], 0, sizeof(*more));
	return &more[l->nr++];
}

static int add_kernel_jobs(struct reading *r)
{
	struct dm_chain_job *jobs;
	unsigned int i, nr;
	int ret = control_jobs(r->ctl, 0, &jobs, &nr);

	if (ret)
		return ret;
	for (i = 0; !ret && i < nr; i++) {
		struct job_entry *e = add(r->list);

		if (e)
			e->job = jobs[i];
		else
			ret = -EXIT_FAILED;
	}
	free(jobs);
	return ret;
}

/* A disk may have another name by now. */
static void name_jobs(struct job_list *l, dev_t dev, const char *name)
{
	unsigned int i;

	for (i = 0; i < l->nr; i++) {
		struct dm_chain_job *job = &l->jobs[i].job;

		if (makedev(job->major, job->minor) == dev && job->major)
			snprintf(job->disk, sizeof(job->disk), "%s", name);
	}
}

static bool runs(const struct job_list *l, const struct dm_chain_layer *layer)
{
	unsigned int i;

	for (i = 0; i < l->nr; i++)
		if (!l->jobs[i].left && job_live(&l->jobs[i].job) &&
		    !memcmp(l->jobs[i].job.uuid, layer->job,
			    sizeof(layer->job)))
			return true;
	return false;
}

static uint32_t record_type(const struct dm_chain_layer *layer,
			    unsigned int index)
{
	if (layer->record_type == DM_CHAIN_RECORD_STREAM)
		return DM_CHAIN_JOB_STREAM;
	if (layer->record_type == DM_CHAIN_RECORD_MIRROR)
		return DM_CHAIN_JOB_MIRROR;
	return index ? DM_CHAIN_JOB_COMMIT : DM_CHAIN_JOB_ACTIVE_COMMIT;
}

static int add_record(struct job_list *l, const char *name, dev_t dev,
		      const struct dm_chain_layer *layer, unsigned int index)
{
	struct job_entry *e = add(l);

	if (!e)
		return -EXIT_FAILED;
	e->left = true;
	e->index = index;
	e->job.type = record_type(layer, index);
	e->job.status = DM_CHAIN_JOB_PAUSED;
	e->job.major = major(dev);
	e->job.minor = minor(dev);
	memcpy(e->job.uuid, layer->job, sizeof(e->job.uuid));
	memcpy(e->job.top, layer->uuid, sizeof(e->job.top));
	snprintf(e->job.disk, sizeof(e->job.disk), "%s", name);
	return 0;
}

static int disk_cb(const char *name, dev_t dev, void *arg)
{
	struct reading *r = arg;
	struct dm_chain_layer *layers;
	struct dm_state s;
	unsigned int i, nr;
	int ret;

	name_jobs(r->list, dev, name);
	/* One that is being made or taken down has no layers to speak of. */
	if (dm_state(name, &s) || !s.live)
		return 0;
	ret = control_layers(r->ctl, dev, &layers, &nr);
	if (ret)
		return ret;
	for (i = 0; !ret && i < nr && layers[i].role == DM_CHAIN_ROLE_LAYER; i++)
		if (layers[i].flags & DM_CHAIN_LAYER_RECORD &&
		    !runs(r->list, &layers[i]))
			ret = add_record(r->list, name, dev, &layers[i], i);
	free(layers);
	return ret;
}

/*
 * Those of the open disk @dev (0: none is open by that name), and what is told of
 * jobs whose disk was closed. Others of which that was the name have another now.
 */
static void keep_only(struct job_list *l, const char *name, dev_t dev)
{
	unsigned int i, kept = 0;

	for (i = 0; i < l->nr; i++) {
		const struct dm_chain_job *job = &l->jobs[i].job;

		if (job->major ? makedev(job->major, job->minor) == dev :
				 !strcmp(job->disk, name))
			l->jobs[kept++] = l->jobs[i];
	}
	l->nr = kept;
}

/* Without asking for all disks that there are. */
static int read_one(struct reading *r)
{
	dev_t dev = 0;
	int ret = 0;

	if (!dm_disk(r->only, &dev, NULL))
		ret = disk_cb(r->only, dev, r);
	keep_only(r->list, r->only, dev);
	return ret;
}

int job_list_read(int ctl, const char *name, struct job_list *l)
{
	struct reading r = { .ctl = ctl, .only = name, .list = l };
	int ret;

	memset(l, 0, sizeof(*l));
	ret = add_kernel_jobs(&r);
	if (!ret)
		ret = name ? read_one(&r) : dm_each(disk_cb, &r);
	if (ret)
		job_list_free(l);
	return ret;
}

void job_list_free(struct job_list *l)
{
	free(l->jobs);
	memset(l, 0, sizeof(*l));
}

/* Which job is meant. */

static const struct job_entry *by_number(const struct job_list *l,
					 const char *arg)
{
	char id[JOB_ID_TEXT];
	unsigned int i;

	for (i = 0; i < l->nr; i++)
		if (!l->jobs[i].left && !strcmp(job_id(&l->jobs[i], id), arg))
			return &l->jobs[i];
	return NULL;
}

static bool uuid_starts(const struct dm_chain_job *job, const char *arg)
{
	struct chain_id id;
	char text[37];

	memcpy(id.b, job->uuid, sizeof(id.b));
	return !chain_id_is_null(&id) &&
	       !strncasecmp(id_text(&id, text), arg, strlen(arg));
}

/*
 * A job that was cut off and resumed has its uuid twice in the list: what is
 * going on is meant, then what is left, then the last that has ended.
 */
static int rank(const struct job_entry *e)
{
	return e->left ? 1 : job_live(&e->job) ? 2 : 0;
}

/* @by: whether an entry is one of those that @arg names */
static unsigned int best(const struct job_list *l, const char *arg,
			 bool (*by)(const struct dm_chain_job *job,
				    const char *arg),
			 const struct job_entry **found)
{
	unsigned int i, n = 0;

	*found = NULL;
	for (i = 0; i < l->nr; i++) {
		const struct job_entry *e = &l->jobs[i];

		if (!by(&e->job, arg))
			continue;
		if (*found && rank(e) < rank(*found))
			continue;
		/* Of those that have ended the last one. */
		n = *found && rank(e) == rank(*found) && rank(e) ? n + 1 : 1;
		*found = e;
	}
	return n;
}

static bool is_of(const struct dm_chain_job *job, const char *arg)
{
	return !strcmp(job->disk, arg);
}

static int several(const char *arg, unsigned int n)
{
	return msg_fail(EXIT_USAGE,
			"%s: %u jobs could be meant; dmchain job list shows their numbers",
			arg, n);
}

int job_find(const struct job_list *l, const char *arg,
	     const struct job_entry **found)
{
	unsigned int n;

	*found = by_number(l, arg);
	if (*found)
		return 0;
	n = best(l, arg, is_of, found);
	if (!n && *arg)
		n = best(l, arg, uuid_starts, found);
	if (n == 1)
		return 0;
	return n ? several(arg, n) :
		   msg_fail(EXIT_FAILED,
			    "%s: no such job, and no disk that has one; dmchain job list shows them",
			    arg);
}
