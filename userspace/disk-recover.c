// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a killed controller left: finish it or undo it. Running it again, or
 * being killed in it, does no harm.
 */
#include "boot.h"
#include "job.h"
#include "label.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/**
 * struct recovery - of one disk
 * @lock: of it
 * @note: what the dead controller was doing, or NULL
 * @noted: we have left one of our own
 * @ask: the user asked for it
 * @done: texts of what was done, or NULL
 * @changed: the table was loaded anew
 */
struct recovery {
	const char *name;
	struct disk_lock *lock;
	json_object *note;
	bool noted;
	bool ask;
	json_object *done;
	bool changed;
};

static void say(struct recovery *r, const char *text)
{
	if (r->done)
		json_object_array_add(r->done, json_text(text));
}

static const char *note_text(const struct recovery *r, const char *key)
{
	json_object *o;

	if (!r->note || !json_object_object_get_ex(r->note, key, &o))
		return NULL;
	return json_object_get_string(o);
}

/* The top may have grown already, and only the table lags behind. */
static bool longer(struct recovery *r, const struct dm_chain_layer *top,
		   struct table *t)
{
	if (top->format != DM_CHAIN_FORMAT_CHAIN ||
	    top->size / 512 <= t->sectors)
		return false;
	t->sectors = top->size / 512;
	say(r, "table given the size that the top has");
	return true;
}

/* Layers that were attached and never became part of the disk. */
static bool drop_role(struct table *t, const char *role)
{
	unsigned int i, kept = 0;

	for (i = 0; i < t->nr; i++)
		if (strcmp(t->layers[i].role, role))
			t->layers[kept++] = t->layers[i];
	i = t->nr;
	t->nr = kept;
	return kept < i;
}

/*
 * What a job could write: the kernel took it back, its device is still open so.
 * What one writes just now is rw, and not meant.
 */
static bool writable_left(struct recovery *r, const struct dm_chain_layer *l,
			  unsigned int nr)
{
	bool any = false;

	for (; nr; l++, nr--) {
		if (!(l->flags & DM_CHAIN_LAYER_DEV_RW))
			continue;
		any = true;
		say(r, "layer that was open for writing opened read-only");
	}
	return any;
}

/* A job made them needless; the table has them no longer, dm has. */
static bool dropped_left(struct recovery *r, const struct dm_chain_layer *l,
			 unsigned int nr)
{
	bool any = false;

	for (; nr; l++, nr--) {
		if (l->role != DM_CHAIN_ROLE_DROPPED)
			continue;
		any = true;
		say(r, "layer that a job had dropped detached");
	}
	return any;
}

/* Is there a mirror that has not ended? If that can't be told, there may be. */
static bool is_mirrored(int ctl, dev_t disk)
{
	struct dm_chain_job *jobs;
	unsigned int i, nr;
	bool yes = false;

	if (control_jobs(ctl, 0, &jobs, &nr))
		return true;
	for (i = 0; i < nr; i++)
		yes |= job_live(&jobs[i]) &&
		       jobs[i].type == DM_CHAIN_JOB_MIRROR &&
		       makedev(jobs[i].major, jobs[i].minor) == disk;
	free(jobs);
	return yes;
}

/* Who makes one ready has the lock: without a job it is of no use any more. */
static bool target_left(struct recovery *r, int ctl, dev_t disk, struct table *t)
{
	unsigned int i;

	for (i = 0; i < t->nr && strcmp(t->layers[i].role, "target"); i++)
		;
	if (i == t->nr || is_mirrored(ctl, disk) || !drop_role(t, "target"))
		return false;
	say(r, "target of a mirror detached");
	return true;
}

/*
 * Whether the table has to be loaded anew, as @t then. As it is printed it
 * keeps all that a job uses: that is no matter to jobs.
 */
static bool needs_reload(struct recovery *r, const struct dm_chain_layer *layers,
			 unsigned int nr, struct table *t)
{
	/* After the switch the old top is still open for writing. */
	bool change = note_is(r->note, "snapshot");

	if ((r->note || r->ask) && drop_role(t, "next")) {
		change = true;
		say(r, "prepared layer detached");
	}
	if (nr && (r->ask || note_is(r->note, "resize")))
		change |= longer(r, layers, t);
	change |= writable_left(r, layers, nr);
	change |= dropped_left(r, layers, nr);
	return change;
}

/* Killed with a table that is loaded, and not used, it is what somebody has left. */
static int reload(struct recovery *r, struct table *t)
{
	int ret = 0;

	if (!r->note) {
		r->noted = true;
		ret = disk_lock_note(r->lock, note_new("recover"));
	}
	return ret ? ret : dm_reload_resume(r->name, t);
}

/* The layers first: that waits for what the kernel takes back just now. */
static int recover_table_of(struct recovery *r, int ctl, dev_t disk)
{
	struct dm_chain_layer *layers;
	struct table t;
	unsigned int nr;
	int ret = control_layers(ctl, disk, &layers, &nr);

	if (ret)
		return ret;
	ret = dm_table_read(r->name, &t, NULL);
	if (!ret) {
		r->changed = needs_reload(r, layers, nr, &t);
		r->changed |= target_left(r, ctl, disk, &t);
		control_expedite(ctl, r->changed);
		if (r->changed)
			ret = reload(r, &t);
		dm_table_free(&t);
	}
	free(layers);
	return ret;
}

static int recover_table(struct recovery *r, dev_t disk)
{
	int ret, ctl = control_open();

	if (ctl < 0)
		return ctl;
	ret = recover_table_of(r, ctl, disk);
	close(ctl);
	return ret;
}

/* Nobody was killed, but a job may have ended since. Who suspends a disk, or
 * has another table beside the running one, is left alone. */
static int after_jobs(struct recovery *r)
{
	struct dm_state s;

	if (!module_present() || dm_state(r->name, &s) || !s.ours || !s.live ||
	    s.inactive || s.suspended)
		return 0;
	return recover_table(r, s.dev);
}

static int recover_device(struct recovery *r)
{
	struct dm_state s;
	int ret = 0;

	if (!module_present())
		return 0;
	dm_node_mend(r->name);
	if (dm_state(r->name, &s) || !s.ours)
		return 0;
	if (!s.live) {
		say(r, "device without a table removed");
		return dm_remove(r->name);
	}
	if (s.inactive) {
		say(r, "table that was loaded and not used dropped");
		ret = dm_clear(r->name);
	}
	if (!ret && s.suspended) {
		say(r, "resumed");
		ret = dm_resume(r->name);
	}
	/* A layer goes on elsewhere already: before anything else is done with it. */
	if (!ret && note_is(r->note, "move"))
		ret = layer_move_recover(r->name, r->note);
	return ret ? ret : recover_table(r, s.dev);
}

/* One of several disks, and the others say that they were not switched. */
static bool came_to_nothing(const struct image *img)
{
	bool committed = true;

	return image_pending(img) && !pending_ask(img, NULL, &committed) &&
	       !committed;
}

/*
 * The layer was prepared for a seal under the content id in its link. Only if
 * its parent has another one, that seal has never been made.
 */
static bool never_used(const struct image *img)
{
	const struct chain_link *link = &img->hdr.parent;
	struct image parent;
	char *path;
	bool unused;

	if (link->format == DM_CHAIN_FORMAT_RAW)
		return chain_id_is_null(&link->cid) || came_to_nothing(img);
	path = hint_resolve(img->path, img->hdr.parent_path);
	if (!path || image_open_parent(&parent, path, DM_CHAIN_FORMAT_CHAIN,
				       IMAGE_ANY_MARK, img->path)) {
		free(path);
		return false;
	}
	unused = chain_id_equal(&parent.hdr.uuid, &link->uuid) &&
		 (!chain_id_equal(&parent.hdr.cid, &link->cid) ||
		  came_to_nothing(&parent));
	image_close(&parent);
	free(path);
	return unused;
}

/* The target of a mirror that was never begun. */
static bool never_begun(const struct image *img)
{
	return img->hdr.marks & DM_CHAIN_MARK_INCOMPLETE &&
	       chain_id_is_null(&img->hdr.job);
}

static bool is_made(const struct recovery *r, const struct image *img,
		    const char *uuid)
{
	struct chain_id id;

	return !img->is_bdev && id_parse(uuid, &id) &&
	       chain_id_equal(&id, &img->hdr.uuid) &&
	       (note_is(r->note, "mirror") ? never_begun(img) : never_used(img));
}

static bool zeroes_at(int fd, off_t offset)
{
	char buf[DM_CHAIN_HEADER_BYTES];
	ssize_t i, n = pread(fd, buf, sizeof(buf), offset);

	for (i = 0; i < n; i++)
		if (buf[i])
			return false;
	return n >= 0;
}

/* The target of a mirror without a header: it may be in use elsewhere by now. */
static bool raw_made(const struct recovery *r)
{
	return note_text(r, "raw");
}

/* Made and sized, and no header in it yet. */
static bool half_made(const struct recovery *r, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	json_object *o = NULL;
	struct stat st;
	bool yes;

	if (fd < 0)
		return false;
	json_object_object_get_ex(r->note, "bytes", &o);
	yes = !fstat(fd, &st) && S_ISREG(st.st_mode) && !(raw_made(r) && st.st_blocks) &&
	      (!st.st_size || st.st_size == json_object_get_int64(o)) &&
	      zeroes_at(fd, DM_CHAIN_SLOT0_OFFSET) &&
	      zeroes_at(fd, DM_CHAIN_SLOT1_OFFSET);
	close(fd);
	return yes;
}

/* One that was given by a descriptor was there before, empty. */
static int remove_made(const struct recovery *r, const char *path)
{
	int fd, err;

	if (!note_text(r, "given"))
		return unlink(path);
	fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -1;
	err = ftruncate(fd, 0);
	close(fd);
	return err;
}

/* The file that a snapshot made and did not come to use. */
static void recover_file(struct recovery *r)
{
	const char *path = note_text(r, "made"), *uuid = note_text(r, "uuid");
	struct image img;
	char *holder = NULL;

	if (!path || !uuid || access(path, F_OK) ||
	    disk_holding_path(path, false, &holder))
		return;
	if (holder) {
		free(holder);
		return;
	}
	if (half_made(r, path)) {
		if (!remove_made(r, path))
			say(r, "half-made layer removed");
		return;
	}
	if (raw_made(r) || image_open(&img, path, DM_CHAIN_FORMAT_CHAIN,
				      IMAGE_WRITE | IMAGE_ANY_MARK))
		return;
	if (is_made(r, &img, uuid)) {
		boot_never(r->name, path);
		if (!remove_made(r, path))
			say(r, "prepared layer removed");
	}
	image_close(&img);
}

int disk_recover_locked(struct disk_lock *l, bool ask, json_object *done)
{
	struct recovery r = {
		.name = l->name,
		.lock = l,
		.note = disk_lock_left(l),
		.ask = ask,
		.done = done,
	};
	int ret;

	ret = r.note || ask ? recover_device(&r) : after_jobs(&r);
	if (!ret && r.note)
		recover_file(&r);
	if (!ret && (r.note || ask || r.changed))
		ret = label_sync(l->name, done);
	if (!ret && r.note)
		ret = disk_lock_note(l, NULL);
	else if (r.noted)
		(void)disk_lock_note(l, NULL);
	json_object_put(r.note);
	return ret;
}

int disk_recover(const char *name)
{
	struct disk_lock l;
	int ret = disk_lock(name, &l);

	if (ret)
		return ret;
	ret = disk_recover_locked(&l, true, NULL);
	disk_unlock(&l);
	return ret;
}
