// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the kernel says of an open disk, in the shape of `info` and `map`.
 */
#include "job.h"
#include "picture.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static const char *access_name(uint32_t access)
{
	return access == DM_CHAIN_ACCESS_RW ? "rw" :
	       access == DM_CHAIN_ACCESS_RO ? "ro" : "none";
}

/* Who else has it: the tables of all disks know. */
struct users {
	struct show_disk *disk;
	const struct dm_chain_layer *layers;
};

static int add_user(struct show_layer *l, const char *name)
{
	unsigned int nr = 0;
	char **more;

	while (l->users && l->users[nr])
		nr++;
	more = realloc(l->users, (nr + 2) * sizeof(*more));
	if (!more)
		return msg_fail(EXIT_FAILED, "out of memory");
	l->users = more;
	more[nr] = strdup(name);
	more[nr + 1] = NULL;
	return more[nr] ? 0 : msg_fail(EXIT_FAILED, "out of memory");
}

static bool table_has(const struct table *t, dev_t dev)
{
	unsigned int i;

	for (i = 0; i < t->nr; i++)
		if (t->layers[i].dev == dev)
			return true;
	return false;
}

/* One layer, one device, in whatever disk: loop_attach() sees to it. */
static int users_cb(const char *name, dev_t dev, void *arg)
{
	struct users *u = arg;
	struct dm_state s;
	struct table t;
	unsigned int i;
	bool gone;
	int ret;

	(void)dev;
	if (dm_state(name, &s) || !s.live)
		return 0;
	ret = dm_table_look(name, &t, &gone);
	if (ret || gone)
		return ret;
	for (i = 0; !ret && i < u->disk->nr; i++)
		if (table_has(&t, makedev(u->layers[i].major,
					  u->layers[i].minor)))
			ret = add_user(&u->disk->layers[i], name);
	dm_table_free(&t);
	return ret;
}

static void fill_layer(struct show_layer *out, const struct dm_chain_layer *l)
{
	dev_t dev = makedev(l->major, l->minor), fdev;
	char path[PATH_MAX];
	ino_t ino;

	if (loop_backing(dev, path, sizeof(path), &fdev, &ino))
		out->label = label_of(fdev, ino);
	out->path = disk_layer_path(dev);
	out->device = disk_device_path(dev);
	out->format = l->format;
	memcpy(out->uuid.b, l->uuid, sizeof(out->uuid.b));
	memcpy(out->parent_uuid.b, l->parent_uuid, sizeof(out->parent_uuid.b));
	out->access = access_name(l->access);
	out->marks = l->marks;
	if (l->flags & DM_CHAIN_LAYER_RECORD)
		out->marks |= DM_CHAIN_MARK_JOB;
	memcpy(out->decision.b, l->decision, sizeof(out->decision.b));
	out->size = l->size;
	out->data_bytes = l->data_bytes;
	out->zero_bytes = l->zero_bytes;
	out->damaged_bytes = l->damaged_bytes;
	out->map_bytes = l->map_bytes;
}

/* Attached devices in other roles come last; they are no layers yet. */
static unsigned int nr_seen(const struct dm_chain_layer *l, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr && l[i].role == DM_CHAIN_ROLE_LAYER; i++)
		;
	return i;
}

static const char *state_name(bool suspended, const struct dm_chain_layer *l,
			      unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		if (l[i].flags & DM_CHAIN_LAYER_FAILED)
			return "failed";
	return suspended ? "suspended" : "active";
}

static int fill(struct show_disk *d, const char *name, dev_t dev,
		bool suspended, const struct dm_chain_layer *l, unsigned int nr)
{
	struct users u = { .disk = d, .layers = l };
	char device[PATH_MAX], sectors[32];
	unsigned int i;

	snprintf(device, sizeof(device), "/dev/mapper/%s", name);
	d->name = strdup(name);
	d->device = strdup(device);
	d->layers = calloc(nr + 1, sizeof(*d->layers));
	if (!d->name || !d->device || !d->layers)
		return msg_fail(EXIT_FAILED, "%s: out of memory", name);
	if (sysfs_text(dev, "size", sectors, sizeof(sectors)))
		d->size = strtoull(sectors, NULL, 10) * 512;
	d->block_size = nr ? l[0].block_size : 0;
	d->state = state_name(suspended, l, nr);
	d->nr = nr;
	for (i = 0; i < nr; i++)
		fill_layer(&d->layers[i], &l[i]);
	return dm_each(users_cb, &u);
}

static int ask(const char *name, dev_t *dev, bool *suspended, bool counted,
	       struct dm_chain_layer **layers, unsigned int *nr)
{
	int ctl, ret = disk_find(name, dev);

	*layers = NULL;
	if (ret || dm_disk(name, dev, suspended))
		return ret ? ret : -EXIT_FAILED;
	ctl = control_open();
	if (ctl < 0)
		return ctl;
	ret = counted ? control_layers_counted(ctl, *dev, layers, nr) :
			control_layers(ctl, *dev, layers, nr);
	if (!ret) {
		*nr = nr_seen(*layers, *nr);
		return ctl;
	}
	close(ctl);
	return ret;
}

int disk_layers(const char *name, dev_t *dev, bool *suspended,
		struct dm_chain_layer **layers, unsigned int *nr)
{
	return ask(name, dev, suspended, false, layers, nr);
}

/* The layer that has an id; raw ones have none, and are the lowest. */
static struct show_layer *layer_of(struct show_disk *d, const uint8_t *uuid)
{
	static const uint8_t none[16];
	unsigned int i;

	for (i = 0; i < d->nr; i++)
		if (!memcmp(d->layers[i].uuid.b, uuid, 16))
			return &d->layers[i];
	return d->nr && !memcmp(uuid, none, 16) ? &d->layers[d->nr - 1] : NULL;
}

static void add_work(struct show_layer *l, const struct job_entry *e,
		     const char *how)
{
	const struct dm_chain_job *job = &e->job;
	char id[JOB_ID_TEXT], *before = l ? l->work : NULL;
	char done[16] = "";

	if (!l)
		return;
	if (!e->left && job->total_bytes)
		snprintf(done, sizeof(done), " %u %%", (unsigned int)
			 ((double)job->current_bytes * 100 / job->total_bytes));
	if (asprintf(&l->work, "%s%s%s %s %s, %s%s", before ? before : "",
		     before ? "; " : "", job_type_name(job->type), job_id(e, id),
		     how, e->left ? "cut off" : job_status_name(job->status),
		     done) < 0)
		l->work = NULL;
	free(before);
}

/* What is told of a job in the picture of the chain. */
static void show_work(struct show_disk *d, const struct job_entry *e)
{
	const struct dm_chain_job *job = &e->job;

	if (e->left) {
		if (e->index < d->nr)
			add_work(&d->layers[e->index], e, "from here");
		return;
	}
	if (job->type == DM_CHAIN_JOB_MIRROR) {
		add_work(layer_of(d, job->top), e, "from here");
	} else if (job->type == DM_CHAIN_JOB_STREAM) {
		add_work(layer_of(d, job->into), e, "into this");
	} else {
		add_work(layer_of(d, job->top), e, "from here down");
		add_work(layer_of(d, job->into), e, "into this");
	}
}

/* Those that have not ended; how the others did `job list` tells. */
static int fill_jobs(struct show_disk *d, int ctl)
{
	struct job_list l;
	unsigned int i;
	int ret = job_list_read(ctl, d->name, &l);

	if (ret)
		return ret;
	d->jobs = json_object_new_array();
	for (i = 0; i < l.nr; i++) {
		if (!job_live(&l.jobs[i].job))
			continue;
		json_object_array_add(d->jobs, job_json(&l.jobs[i]));
		show_work(d, &l.jobs[i]);
	}
	job_list_free(&l);
	return 0;
}

int disk_info(const char *name, bool json)
{
	struct dm_chain_layer *layers;
	struct show_disk d = { 0 };
	bool suspended = false;
	unsigned int nr;
	dev_t dev;
	int ret, ctl = ask(name, &dev, &suspended, true, &layers, &nr);

	if (ctl < 0)
		return ctl;
	ret = fill(&d, name, dev, suspended, layers, nr);
	if (!ret)
		ret = fill_jobs(&d, ctl);
	if (!ret)
		show_disk(&d, json);
	show_disk_free(&d);
	free(layers);
	close(ctl);
	return ret;
}

int disk_map(const char *name, bool json)
{
	struct dm_chain_layer *layers;
	bool suspended;
	struct show_map s;
	unsigned int nr;
	dev_t dev;
	int ret, ctl = disk_layers(name, &dev, &suspended, &layers, &nr);

	if (ctl < 0)
		return ctl;
	show_map_begin(&s, nr, json);
	ret = control_map(ctl, dev, show_map_extent, &s);
	show_map_end(&s);
	free(layers);
	close(ctl);
	return ret;
}

static int draw(struct picture *p, int ctl, dev_t dev,
		const struct dm_chain_layer *layers, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		p->labels[i] = disk_layer_path(makedev(layers[i].major,
						       layers[i].minor));
	return control_map(ctl, dev, picture_extent, p);
}

int disk_picture(const char *name, unsigned int wish, struct picture *p)
{
	struct dm_chain_layer *layers;
	char sectors[32] = "0";
	bool suspended;
	unsigned int nr;
	dev_t dev;
	int ret, ctl = disk_layers(name, &dev, &suspended, &layers, &nr);

	if (ctl < 0)
		return ctl;
	(void)sysfs_text(dev, "size", sectors, sizeof(sectors));
	ret = picture_begin(p, name, strtoull(sectors, NULL, 10) * 512, nr,
			    picture_columns(nr, wish));
	if (!ret)
		ret = draw(p, ctl, dev, layers, nr);
	free(layers);
	close(ctl);
	return ret;
}
