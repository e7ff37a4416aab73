// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A job from the question whether it may run to its start.
 *
 * Under the disk's lock, with a note for a successor: a token for the layers,
 * an estimate and whether there is room, the layers that it writes opened for
 * writing, the base's file grown, the start. Killed before the start, the
 * kernel takes everything back with the token, and recover does the rest; after
 * it the job is the kernel's, whatever becomes of us.
 */
#include "job.h"
#include "perm.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/**
 * struct run - a job on its way to its start
 * @layers: of the disk, @nr
 * @top: index: takes in, or top of the range
 * @base: index; stream: @nr if nothing is kept
 * @rows: DM_CHAIN_OPROLE_* of each layer
 * @token: descriptor, or -1
 * @start: question and answer
 * @prepared: its record is there, and it waits for its start
 */
struct run {
	const struct job_ask *ask;
	int ctl;
	dev_t disk;
	struct dm_chain_layer *layers;
	unsigned int nr;
	unsigned int top;
	unsigned int base;
	uint32_t *rows;
	int token;
	struct dm_chain_job_start start;
	bool prepared;
};

static bool stream(const struct run *r)
{
	return r->ask->op == DM_CHAIN_OP_STREAM;
}

static const char *verb(const struct run *r)
{
	return stream(r) ? "stream" : "commit";
}

static dev_t layer_dev(const struct dm_chain_layer *l)
{
	return makedev(l->major, l->minor);
}

/* The layer that takes the data in. */
static const struct dm_chain_layer *into(const struct run *r)
{
	return &r->layers[stream(r) ? r->top : r->base];
}

/* --- May it run? --- */

static int check_commit(const struct run *r)
{
	const struct dm_chain_layer *top = &r->layers[r->top], *base = into(r);
	char size[32];

	if (stream(r))
		return 0;
	if (base->format == DM_CHAIN_FORMAT_RAW && base->size > top->size)
		return msg_fail(EXIT_FAILED,
				"%s: commit refused: the base is raw and larger than layer %u, and a raw image has no header to say where it ends; dmchain resize layer %u first",
				r->ask->name, r->top, r->top);
	if (base->format == DM_CHAIN_FORMAT_CHAIN && base->max_size &&
	    top->size > base->max_size)
		return msg_fail(EXIT_FAILED,
				"%s: commit refused: layer %u has room for %s in its maps, and would have to become as large as layer %u; choose another base",
				r->ask->name, r->base,
				size_text(base->max_size, size), r->top);
	return 0;
}

/* What was seen, and may not be so any more. */
static void forget(struct run *r)
{
	if (r->ctl >= 0)
		close(r->ctl);
	free(r->layers);
	free(r->rows);
	r->ctl = -1;
	r->layers = NULL;
	r->rows = NULL;
}

static int look(struct run *r)
{
	bool suspended;
	int ret;

	forget(r);
	r->ctl = disk_layers(r->ask->name, &r->disk, &suspended, &r->layers,
			     &r->nr);
	if (r->ctl < 0)
		return r->ctl;
	ret = job_range(r->ask, r->layers, r->nr, &r->top, &r->base);
	if (ret)
		return ret;
	if (r->layers[0].access != DM_CHAIN_ACCESS_RW)
		return msg_fail(EXIT_REFUSED,
				"%s: open read-only, its layers can't be changed; close it and open it without --read-only",
				r->ask->name);
	ret = check_commit(r);
	if (ret)
		return ret;
	r->rows = calloc(r->nr + 1, sizeof(*r->rows));
	if (!r->rows || chain_perm_plan(r->ask->op, r->top, r->base, r->nr,
					r->rows))
		return msg_fail(EXIT_FAILED, "%s: out of memory", r->ask->name);
	return 0;
}

static int look_to_take(struct take *t, void *arg)
{
	struct run *r = arg;
	int ret = look(r);

	t->ctl = r->ctl;
	t->disk = r->disk;
	t->layers = r->layers;
	t->nr = r->nr;
	t->top = r->top;
	t->base = r->base;
	return ret;
}

static int take_token(struct run *r)
{
	struct take t = { .name = r->ask->name, .op = r->ask->op };

	return perm_take(&t, look_to_take, r, &r->token);
}

/* --- Start --- */

static int start_failed(const struct run *r, int err)
{
	const char *name = r->ask->name, *what = verb(r);

	switch (-err) {
	case EBUSY:
		return msg_fail(EXIT_REFUSED,
				"%s: %s refused: one of the layers is part of another job that has not ended (dmchain job list %s shows it, finish that first), or was emptied by a commit",
				name, what, name);
	case EMLINK:
		return msg_fail(EXIT_REFUSED,
				"%s: %s refused: the base, or a layer between, has other children, which would be lost; say --force if none is needed",
				name, what);
	case ESTALE:
		return msg_fail(EXIT_REFUSED,
				"%s: %s refused: an unfinished one has another base; dmchain job resume %s goes on with that",
				name, what, name);
	case EROFS:
		return msg_fail(EXIT_REFUSED,
				"%s: %s refused: a layer cannot be written; see whether its device is read-only",
				name, what);
	case ENOSPC:
		return msg_fail(EXIT_FAILED,
				"%s: %s refused: the base's device is too small; enlarge it first",
				name, what);
	case EFBIG:
		return msg_fail(EXIT_FAILED,
				"%s: %s refused: the base's maps have no room for that size; choose another base",
				name, what);
	case ERANGE:
		return msg_fail(EXIT_FAILED,
				"%s: %s refused: the base is larger than layer %u, the top of the range; resize that first",
				name, what, r->top);
	case EIO:
		return msg_fail(EXIT_FAILED,
				"%s: %s refused: a layer has failed, or its map is damaged; close the disk and dmchain check its layers",
				name, what);
	default:
		return msg_fail_errno(EXIT_FAILED, -err, "%s: cannot %s", name,
				      what);
	}
}

static int call_start(struct run *r, uint32_t flags)
{
	int err;

	r->start.token = r->token;
	r->start.flags = flags | (r->ask->force ? DM_CHAIN_JOB_FORCE : 0);
	/* What is to be dropped at once needn't get far before. */
	r->start.speed = r->ask->cancel ? 1 : r->ask->speed;
	r->start.on_error = r->ask->on_error;
	err = control_job_start(r->ctl, &r->start);
	return err ? start_failed(r, err) : 0;
}

static int estimate(struct run *r, struct job_space *s)
{
	int ret = call_start(r, DM_CHAIN_JOB_ESTIMATE);

	if (ret)
		return ret;
	job_space_look(s, &r->start, into(r), &r->layers[r->top],
		       stream(r) ? 0 : r->base - r->top);
	if (r->ask->dry_run) {
		job_space_show(s, r->ask->name);
		return 0;
	}
	if (r->ask->cancel)
		return 0;
	/* What is resumed has leave to lose children, not to run out of space. */
	return job_space_check(s, r->ask->name, into(r),
			       r->ask->force && !r->ask->record);
}

/* --- Where the new parent lies --- */

static int make_hint(struct run *r)
{
	unsigned int above = stream(r) ? r->top : r->top - 1;

	/* An active commit ends with the base as top. */
	if (r->base == r->nr || (!stream(r) && !r->top))
		return 0;
	return layer_link(r->ask->name, &r->layers[above], &r->layers[r->base],
			  r->base, r->start.parent_path);
}

/* --- Layers for writing, and room in the base --- */

static bool upgrades(const struct run *r)
{
	unsigned int i;

	for (i = 1; i < r->nr; i++)
		if (chain_perm_writes(r->rows[i]))
			return true;
	return false;
}

static int upgrade(struct run *r)
{
	dev_t *devs = calloc(r->nr + 1, sizeof(*devs));
	int ret;

	if (!devs)
		return msg_fail(EXIT_FAILED, "%s: out of memory", r->ask->name);
	ret = disk_upgrade(r->ask->name, r->layers, r->rows, r->nr, devs);
	/* A loop that was made read-only has been replaced. */
	if (!ret && !stream(r) && devs[r->base]) {
		r->layers[r->base].major = major(devs[r->base]);
		r->layers[r->base].minor = minor(devs[r->base]);
	}
	free(devs);
	return ret;
}

/*
 * A raw base is known by its size: before it grows there has to be the record
 * that makes either size right.
 */
static int grow_base(struct run *r)
{
	const struct dm_chain_layer *base = into(r);
	uint64_t need = r->start.need_bytes;
	int ret = 0;

	if (stream(r) || layer_device_bytes(layer_dev(base)) >= need)
		return 0;
	if (base->format == DM_CHAIN_FORMAT_RAW) {
		ret = call_start(r, DM_CHAIN_JOB_PREPARE);
		r->prepared = !ret;
	}
	return ret ? ret : layer_grow(r->ask->name, layer_dev(base), need);
}

/* One that was only prepared must not wait for ever, holding its layers. */
static void stop_prepared(struct run *r)
{
	struct job_waiting w = { .id = r->start.id };

	if (!control_job_verb(r->ctl, w.id, DM_CHAIN_VERB_CANCEL, 0))
		(void)job_wait(r->ctl, &w);
}

static int start(struct run *r)
{
	int ret = upgrades(r) ? upgrade(r) : 0;

	if (!ret)
		ret = grow_base(r);
	if (!ret)
		ret = call_start(r, 0);
	if (ret && r->prepared)
		stop_prepared(r);
	return ret;
}

static void drop_token(struct run *r)
{
	if (r->token >= 0)
		close(r->token);
	r->token = -1;
}

static int run_locked(struct run *r, struct disk_lock *l)
{
	struct job_space space;
	int ret = disk_recover_locked(l, false, NULL);

	if (!ret)
		ret = take_token(r);
	if (!ret)
		ret = estimate(r, &space);
	if (ret || r->ask->dry_run)
		return ret;
	ret = make_hint(r);
	if (!ret)
		ret = disk_lock_note(l, note_new(verb(r)));
	if (ret)
		return ret;
	control_expedite(r->ctl, true);
	ret = start(r);
	control_expedite(r->ctl, false);
	drop_token(r);
	if (ret)
		(void)disk_recover_locked(l, false, NULL);
	else
		disk_lock_note(l, NULL);
	return ret;
}

/* --- And then --- */

static void report_started(const struct run *r)
{
	struct job_entry e = { .job.id = r->start.id };
	json_object *o = json_object_new_object();
	char id[JOB_ID_TEXT], uuid[37];
	struct chain_id u;

	memcpy(u.b, r->start.uuid, sizeof(u.b));
	json_object_object_add(o, "id", json_text(job_id(&e, id)));
	json_object_object_add(o, "uuid", json_text(id_text(&u, uuid)));
	json_object_object_add(o, "type", json_text(verb(r)));
	json_object_object_add(o, "chain", json_text(r->ask->name));
	if (opt_json) {
		show_json(o);
		return;
	}
	json_object_put(o);
	printf("job %s\n", id);
}

/* Started to be dropped: what it says then is what was asked for. */
static int cancel_at_once(struct run *r)
{
	struct job_waiting w = { .id = r->start.id };
	int end, ret = control_job_verb(r->ctl, r->start.id,
					DM_CHAIN_VERB_CANCEL, 0);

	if (!ret)
		ret = job_wait(r->ctl, &w);
	if (ret)
		return ret;
	ret = job_finish(r->ask->name);
	end = w.job.error == -ECANCELED ? 0 : job_ended(&w.job);
	return end ? end : ret;
}

static int see_through(struct run *r)
{
	if (r->ask->dry_run)
		return 0;
	if (r->ask->cancel)
		return cancel_at_once(r);
	if (!r->ask->background)
		return job_follow(r->ctl, r->start.id, r->ask->no_pivot);
	if (!r->ask->quiet)
		report_started(r);
	return 0;
}

int job_run(const struct job_ask *ask)
{
	struct run r = { .ask = ask, .ctl = -1, .token = -1 };
	struct disk_lock l;
	dev_t dev;
	int ret = disk_find(ask->name, &dev);

	if (!ret)
		ret = disk_lock(ask->name, &l);
	if (ret)
		return ret;
	/* While the lock is held they wait; then they mean the job. */
	if (!ask->background && !ask->dry_run)
		job_signals();
	ret = run_locked(&r, &l);
	disk_unlock(&l);
	drop_token(&r);
	if (!ret)
		ret = see_through(&r);
	forget(&r);
	return ret;
}
