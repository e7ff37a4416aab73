// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * dmchain mirror NAME PATH --layer LAYER: a lower layer is copied elsewhere, and
 * the disk goes on with the copy, which has the layer's UUID and content id.
 *
 * A token (copy-layer) keeps the layer as it is from the first look at it to the
 * end. The disk's lock is held at both ends only, not over the copying:
 *
 *	1 data and map of the copy, durable		  without the lock
 *	  its header: now it is the layer		  with the lock, this
 *	2 table: the layer on its new device, which the	  and all below, and a
 *	  kernel finds to hold the same			  note for a successor
 *	3 header of the layer above: where it is now
 *
 * Crash: before 3 the chain is found at its old place, which nobody has written
 * since; after it at the new one. Killed between 2 and 3, recover does 3, before
 * anything can be written that only one of the places would have.
 */
#include "layer-move.h"
#include "label.h"
#include "mirror.h"
#include "perm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#define NAP_MS 100

/**
 * struct move - of one layer
 * @ask: what the user wants
 * @path: of the copy, absolute
 * @ctl: control device
 * @disk: device number
 * @layers: of the disk, @nr
 * @index: of the layer
 * @token: descriptor, or -1
 * @from: the layer
 * @to: its copy
 * @made: that was made by us
 * @complete: it was one already
 * @at: its device
 * @copy: data on its way
 * @meter: shows how far it is
 * @begin_ms: when that began
 */
struct move {
	const struct move_ask *ask;
	char *path;
	int ctl;
	dev_t disk;
	struct dm_chain_layer *layers;
	unsigned int nr;
	unsigned int index;
	int token;
	struct image from;
	struct image to;
	bool made;
	bool complete;
	struct attached at;
	struct layer_copy copy;
	struct meter meter;
	uint64_t begin_ms;
};

static bool raw(const struct move *m)
{
	return m->from.format == DM_CHAIN_FORMAT_RAW;
}

static const struct dm_chain_layer *layer(const struct move *m)
{
	return &m->layers[m->index];
}

static dev_t layer_dev(const struct dm_chain_layer *l)
{
	return makedev(l->major, l->minor);
}

/* --- May it be moved? --- */

static int check_layer(const struct move *m)
{
	const char *name = m->ask->name;

	if (!m->index)
		return msg_fail(EXIT_USAGE,
				"%s: layer 0 is the active one, a copy has to follow what is written to it; leave --layer out",
				name);
	if (m->layers[0].access != DM_CHAIN_ACCESS_RW)
		return msg_fail(EXIT_REFUSED,
				"%s: open read-only, its layers can't be changed; close it and open it without --read-only",
				name);
	if (m->ask->format && m->ask->format != layer(m)->format)
		return msg_fail(EXIT_USAGE, "%s: layer %u is %s, and stays so when it is moved; say --format %s, or leave it out",
				name, m->index,
				layer(m)->format == DM_CHAIN_FORMAT_RAW ? "raw" : "a chain layer",
				layer(m)->format == DM_CHAIN_FORMAT_RAW ? "raw" : "chain");
	if (layer(m)->users > 1)
		return msg_fail(EXIT_REFUSED,
				"%s: another disk has layer %u, and it can't be in two places; dmchain info %s names the disk, close that first",
				name, m->index, name);
	return 0;
}

static int look(struct move *m)
{
	bool suspended;

	free(m->layers);
	m->layers = NULL;
	if (m->ctl >= 0)
		close(m->ctl);
	m->ctl = disk_layers(m->ask->name, &m->disk, &suspended, &m->layers,
			     &m->nr);
	return m->ctl < 0 ? m->ctl : 0;
}

static int look_to_take(struct take *t, void *arg)
{
	struct move *m = arg;
	int ret = look(m);

	if (!ret)
		ret = layer_arg(m->ask->layer, m->ask->name, m->layers, m->nr,
				&m->index);
	if (!ret)
		ret = check_layer(m);
	if (!ret)
		ret = disk_check_place(m->ask->name, m->disk, m->path);
	t->ctl = m->ctl;
	t->disk = m->disk;
	t->layers = m->layers;
	t->nr = m->nr;
	t->top = m->index;
	return ret;
}

static int begin_locked(struct move *m, struct disk_lock *l)
{
	struct take t = { .name = m->ask->name, .op = DM_CHAIN_OP_COPY_LAYER };
	int ret = disk_recover_locked(l, false, NULL);

	return ret ? ret : perm_take(&t, look_to_take, m, &m->token);
}

static int check_marks(const struct move *m)
{
	if (m->from.hdr.marks & ~(DM_CHAIN_MARK_SEALED | DM_CHAIN_MARK_MANY_CHILDREN))
		return msg_fail(EXIT_REFUSED,
				"%s: a job has not ended with it, or failed at it; dmchain info %s shows its marks",
				m->from.path, m->ask->name);
	return 0;
}

static int open_source(struct move *m)
{
	dev_t dev = layer_dev(layer(m));
	char *path = disk_layer_path(dev);
	int ret;

	if (!path)
		return msg_fail(EXIT_FAILED, "%s: out of memory", m->ask->name);
	ret = image_open(&m->from, path, layer(m)->format, IMAGE_ANY_MARK);
	free(path);
	if (!ret)
		ret = layer_check_same(m->ask->name, &m->from, dev);
	return ret || raw(m) ? ret : check_marks(m);
}

/* --- Where it goes to --- */

/*
 * Not the layer yet: it has another UUID. Which layer it is to become, and as of
 * which state, tells the one that goes on with it.
 */
static void set_incomplete(const struct move *m, struct chain_header *h)
{
	*h = m->from.hdr;
	h->marks = DM_CHAIN_MARK_INCOMPLETE;
	h->generation--;
	h->job = h->uuid;
	id_random(&h->uuid);
	memset(h->parent_path, 0, sizeof(h->parent_path));
	memset(h->child_path, 0, sizeof(h->child_path));
}

static bool goes_on(const struct move *m)
{
	const struct chain_header *h = &m->to.hdr, *s = &m->from.hdr;

	return h->marks == DM_CHAIN_MARK_INCOMPLETE &&
	       h->generation == s->generation - 1 &&
	       chain_id_equal(&h->job, &s->uuid) &&
	       chain_id_equal(&h->cid, &s->cid) && h->map_seed == s->map_seed &&
	       h->size == s->size && h->max_size == s->max_size &&
	       h->block_shift == s->block_shift;
}

static bool is_copy(const struct move *m)
{
	static uint8_t buf[2 * DM_CHAIN_HEADER_BYTES];

	return chain_header_same(&m->to.hdr, &m->from.hdr, buf);
}

static int check_raw_size(const struct move *m)
{
	if (m->to.bytes == m->from.bytes)
		return 0;
	return msg_fail(EXIT_FAILED,
			"%s: has %llu bytes, and a raw layer is known by its size, %llu; take one that has as many",
			m->path, (unsigned long long)m->to.bytes,
			(unsigned long long)m->from.bytes);
}

static int take_existing(struct move *m)
{
	int ret = image_open(&m->to, m->ask->arg, m->from.format,
			     IMAGE_WRITE | IMAGE_ANY_MARK);

	if (ret)
		return ret;
	if (raw(m))
		return check_raw_size(m);
	m->complete = is_copy(m);
	if (m->complete || goes_on(m))
		return 0;
	return msg_fail(EXIT_IMAGE,
			"%s: is neither a copy of layer %u of %s, nor one that was cut off; name a place where nothing is",
			m->path, m->index, m->ask->name);
}

static int make_chain(struct move *m)
{
	struct chain_header h;
	int ret;

	set_incomplete(m, &h);
	ret = image_make(&m->to, m->ask->arg, &h);
	if (ret)
		return ret;
	m->made = true;
	return image_make_header(&m->to);
}

static int make_raw(struct move *m)
{
	int ret = image_make_raw(m->ask->arg, m->path, m->from.bytes);

	if (ret)
		return ret;
	m->made = true;
	m->copy.fresh = true;
	return image_open(&m->to, m->ask->arg, DM_CHAIN_FORMAT_RAW, IMAGE_WRITE);
}

static int make_target(struct move *m)
{
	struct stat st;

	if (m->ask->existing || (raw(m) && device_bytes(m->ask->arg)))
		return take_existing(m);
	if (arg_fd(m->ask->arg) < 0 && !lstat(m->path, &st) &&
	    !device_bytes(m->ask->arg))
		return msg_fail(EXIT_FAILED,
				"%s: exists already; choose another name, or say --existing if it was begun before",
				m->path);
	return raw(m) ? make_raw(m) : make_chain(m);
}

/* --- The copy --- */

static void show(struct move *m, const char *what)
{
	struct dm_chain_job job = {
		.status = DM_CHAIN_JOB_RUNNING,
		.current_bytes = m->copy.done, .total_bytes = m->copy.total,
	};

	meter_show(&m->meter, m->ask->name, what, &job);
}

static int interrupted(const struct move *m)
{
	bool stays = !raw(m);

	return msg_fail(EXIT_FAILED,
			"%s: the layer stays where it was, its copy was cut off%s%s",
			m->ask->name, stays ? "; the same command with --existing goes on where it is: " : "",
			stays ? m->path : "");
}

/* What was there before has cost no time. */
static bool too_fast(const struct move *m)
{
	double due = (double)m->copy.copied * 1000 / m->ask->speed;

	return job_now_ms() - m->begin_ms < due;
}

static int copy_tick(struct layer_copy *c)
{
	static const struct timespec nap = { .tv_nsec = NAP_MS * 1000000L };
	struct move *m = c->arg;

	show(m, "move");
	while (m->ask->speed && !job_interrupted() && too_fast(m))
		nanosleep(&nap, NULL);
	return job_interrupted() ? interrupted(m) : 0;
}

static int compare_tick(struct layer_copy *c)
{
	struct move *m = c->arg;

	show(m, "verify");
	return job_interrupted() ? interrupted(m) : 0;
}

/* Links of the copy, as seen from where it lies. */
static int set_hint(const struct move *m, char *hint)
{
	char *to = *hint ? hint_resolve(m->from.path, hint) : NULL;
	int ret;

	if (!*hint)
		return 0;
	ret = to ? hint_make_near(hint, m->path, to, *hint != '/') :
		   msg_fail(EXIT_FAILED, "%s: out of memory", m->ask->name);
	free(to);
	return ret;
}

/*
 * Under the lock: others may have changed what the layer's header says of its
 * neighbours since the copy was begun, never what it holds.
 */
static int look_again(struct move *m)
{
	image_close(&m->from);
	return open_source(m);
}

static int wanted_header(const struct move *m, struct chain_header *h)
{
	int ret;

	*h = m->from.hdr;
	ret = set_hint(m, h->parent_path);
	return ret ? ret : set_hint(m, h->child_path);
}

static bool same_paths(const struct chain_header *a, const struct chain_header *b)
{
	return !strcmp(a->parent_path, b->parent_path) &&
	       !strcmp(a->child_path, b->child_path);
}

/*
 * The map is durable: what now says that it is the layer comes last. A copy that was
 * made by other means may have the paths of the original; two headers of one
 * generation must not differ, so it is incomplete in between.
 */
static int complete(struct move *m)
{
	struct chain_header h;
	int ret = look_again(m);

	if (ret || raw(m))
		return ret;
	ret = wanted_header(m, &h);
	if (ret || (is_copy(m) && same_paths(&h, &m->to.hdr)))
		return ret;
	if (m->to.hdr.generation >= h.generation) {
		set_incomplete(m, &m->to.hdr);
		ret = image_write_slots(&m->to);
	}
	m->to.hdr = h;
	return ret ? ret : image_make_header(&m->to);
}

static int copy(struct move *m)
{
	int ret;

	m->copy.from = &m->from;
	m->copy.to = &m->to;
	m->copy.arg = m;
	m->begin_ms = job_now_ms();
	ret = layer_copy_count(&m->copy);
	m->copy.tick = copy_tick;
	if (!ret && !m->complete)
		ret = layer_copy(&m->copy);
	m->copy.tick = compare_tick;
	/* What others have made is not believed. */
	if (!ret && (m->ask->verify || m->complete))
		ret = layer_compare(&m->copy);
	meter_clear(&m->meter);
	return ret;
}

/* --- The disk goes on there --- */

/* Snapshots meanwhile have changed indices, and a commit may have dropped it. */
static int find_again(struct move *m, const struct chain_id *uuid, dev_t dev)
{
	unsigned int i;

	for (i = 1; i < m->nr; i++) {
		if (memcmp(m->layers[i].uuid, uuid->b, sizeof(uuid->b)) ||
		    (chain_id_is_null(uuid) && layer_dev(&m->layers[i]) != dev))
			continue;
		m->index = i;
		return 0;
	}
	return msg_fail(EXIT_FAILED, "%s: the layer is no longer part of it; the copy stays, and is of no use to it: %s",
			m->ask->name, m->path);
}

static int swap_device(struct move *m)
{
	dev_t old = layer_dev(layer(m));
	struct table t;
	unsigned int i;
	int ret = dm_table_read(m->ask->name, &t, NULL);

	if (ret)
		return ret;
	for (i = 0; i < t.nr; i++)
		if (!table_extra(&t.layers[i]) && t.layers[i].dev == old)
			t.layers[i].dev = m->at.dev;
	ret = dm_reload_resume(m->ask->name, &t);
	dm_table_free(&t);
	return ret;
}

/* Whatever becomes of the copy's name, the disk has what these two say. */
static json_object *note(const struct move *m)
{
	json_object *o = note_new("move");
	dev_t dev = m->to.dev;
	ino_t ino = m->to.ino;

	if (m->to.is_bdev)
		disk_true_identity(&dev, &ino);
	json_object_object_add(o, "path", json_text(m->path));
	json_object_object_add(o, "dev", json_object_new_uint64(dev));
	json_object_object_add(o, "ino", json_object_new_uint64(ino));
	return o;
}

static int attach(struct move *m)
{
	int ret = m->to.is_bdev ?
		  label_apply_device(m->ask->name, m->to.dev, LABEL_RO) :
		  label_apply(m->ask->name, m->to.fd, m->path, LABEL_RO);

	return ret ? ret : attach_image(&m->at, &m->to, false, NULL);
}

/* With the token: what the layer above is written for. */
static int relink(const char *name, int ctl, int token,
		  const struct dm_chain_layer *layers, unsigned int nr,
		  unsigned int index)
{
	uint32_t *rows = calloc(nr, sizeof(*rows));
	dev_t *devs = calloc(nr, sizeof(*devs));
	char hint[DM_CHAIN_PATH_BYTES];
	int ret = 0;

	if (!rows || !devs ||
	    chain_perm_plan(DM_CHAIN_OP_COPY_LAYER, index, 0, nr, rows))
		ret = msg_fail(EXIT_FAILED, "%s: out of memory", name);
	if (!ret)
		ret = layer_link(name, &layers[index - 1], &layers[index], index,
				 hint);
	if (!ret && index > 1)
		ret = disk_upgrade(name, layers, rows, nr, devs);
	if (!ret)
		ret = control_relink(ctl, token, name, hint);
	free(devs);
	free(rows);
	return ret;
}

static int relink_moved(struct move *m)
{
	struct dm_chain_layer *l = &m->layers[m->index];

	l->major = major(m->at.dev);
	l->minor = minor(m->at.dev);
	return relink(m->ask->name, m->ctl, m->token, m->layers, m->nr, m->index);
}

static int move_now(struct move *m, struct disk_lock *l)
{
	int ret = disk_lock_note(l, note(m));

	if (!ret)
		ret = attach(m);
	if (!ret)
		ret = swap_device(m);
	if (!ret)
		ret = relink_moved(m);
	attach_drop(&m->at);
	return ret;
}

static void drop_token(struct move *m)
{
	if (m->token >= 0)
		close(m->token);
	m->token = -1;
}

static int finish_locked(struct move *m, struct disk_lock *l)
{
	dev_t dev = layer_dev(layer(m));
	struct chain_id uuid;
	int end, ret;

	memcpy(uuid.b, layer(m)->uuid, sizeof(uuid.b));
	ret = disk_recover_locked(l, false, NULL);
	if (!ret)
		ret = look(m);
	if (!ret)
		ret = find_again(m, &uuid, dev);
	if (!ret)
		ret = complete(m);
	if (ret)
		return ret;
	control_expedite(m->ctl, true);
	ret = move_now(m, l);
	control_expedite(m->ctl, false);
	drop_token(m);
	/* What is left is a successor's, as is what failed half way. */
	end = disk_recover_locked(l, false, NULL);
	return ret ? ret : end;
}

static bool number_at(json_object *note, const char *key, uint64_t *value)
{
	json_object *o;

	if (!json_object_object_get_ex(note, key, &o))
		return false;
	*value = json_object_get_uint64(o);
	return true;
}

/* Return: 0: @index is the copy, 1: none is, the table was never changed. */
static int find_copy(const char *name, json_object *note,
		     const struct dm_chain_layer *layers, unsigned int nr,
		     unsigned int *index)
{
	uint64_t dev, ino;

	if (!number_at(note, "dev", &dev) || !number_at(note, "ino", &ino))
		return msg_fail(EXIT_FAILED,
				"%s: a move of one of its layers was cut off, and the note of it doesn't say to what; see by dmchain info %s whether the layer has moved, then remove " RUN_DIR "/lock.%s",
				name, name, name);
	for (*index = 0; *index < nr; ++*index) {
		dev_t at = layer_dev(&layers[*index]);
		ino_t at_ino = 0;

		disk_true_identity(&at, &at_ino);
		if (at == dev && at_ino == ino)
			return !*index;
	}
	return 1;
}

/**
 * struct left - of a move that was cut off
 * @name: of the disk
 * @note: what the dead one was doing
 * @layers: of the disk
 */
struct left {
	const char *name;
	json_object *note;
	struct dm_chain_layer *layers;
};

static int look_at_left(struct take *t, void *arg)
{
	struct left *l = arg;
	bool suspended;

	free(l->layers);
	if (t->ctl >= 0)
		close(t->ctl);
	t->ctl = disk_layers(l->name, &t->disk, &suspended, &l->layers, &t->nr);
	if (t->ctl < 0)
		return t->ctl;
	t->layers = l->layers;
	return find_copy(l->name, l->note, l->layers, t->nr, &t->top);
}

int layer_move_recover(const char *name, json_object *note)
{
	struct take t = { .name = name, .op = DM_CHAIN_OP_COPY_LAYER, .ctl = -1 };
	struct left l = { .name = name, .note = note };
	int token = -1, ret = perm_take(&t, look_at_left, &l, &token);

	if (!ret)
		ret = relink(name, t.ctl, token, l.layers, t.nr, t.top);
	if (token >= 0)
		close(token);
	if (t.ctl >= 0)
		close(t.ctl);
	free(l.layers);
	return ret > 0 ? 0 : ret;
}

/* --- All of it --- */

static void report(const struct move *m)
{
	json_object *o;
	char uuid[37];

	if (!opt_json) {
		msg_say("%s: layer %u now lies at %s; %s is not used by it any more",
			m->ask->name, m->index, m->path, m->from.path);
		return;
	}
	o = json_object_new_object();
	json_object_object_add(o, "chain", json_text(m->ask->name));
	json_object_object_add(o, "layer", json_object_new_int64(m->index));
	json_object_object_add(o, "uuid", raw(m) ? NULL :
			       json_text(id_text(&m->from.hdr.uuid, uuid)));
	json_object_object_add(o, "from", json_text(m->from.path));
	json_object_object_add(o, "to", json_text(m->path));
	json_object_object_add(o, "bytes", json_object_new_uint64(m->copy.total));
	json_object_object_add(o, "copied", json_object_new_uint64(m->copy.copied));
	show_json(o);
}

/* A copy of a layer goes on later; half a raw image is of no use. */
static void undo(struct move *m)
{
	if (m->made && raw(m))
		image_make_undo(&m->to);
}

static int locked(struct move *m, int (*fn)(struct move *m, struct disk_lock *l))
{
	struct disk_lock l;
	int ret = disk_lock(m->ask->name, &l);

	if (ret)
		return ret;
	ret = fn(m, &l);
	disk_unlock(&l);
	return ret;
}

static int run(struct move *m)
{
	int ret = locked(m, begin_locked);

	if (ret)
		return ret;
	job_signals();
	ret = open_source(m);
	if (!ret)
		ret = make_target(m);
	if (!ret)
		ret = copy(m);
	if (ret) {
		undo(m);
		return ret;
	}
	ret = locked(m, finish_locked);
	if (!ret)
		report(m);
	return ret;
}

static void free_move(struct move *m)
{
	drop_token(m);
	if (m->ctl >= 0)
		close(m->ctl);
	image_close(&m->to);
	image_close(&m->from);
	free(m->layers);
	free(m->path);
}

int layer_move(const struct move_ask *ask)
{
	struct move m = { .ask = ask };
	int ret = disk_find(ask->name, &m.disk);

	m.ctl = m.token = m.at.fd = -1;
	m.from.fd = m.from.given = m.to.fd = m.to.given = -1;
	if (!ret)
		ret = mirror_path(ask->arg, &m.path);
	if (!ret)
		ret = run(&m);
	free_move(&m);
	return ret;
}
