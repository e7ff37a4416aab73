// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Labels of layers: their transitions.
 *
 *	open		top: none -> rw (--read-only: ro); lower layers: none -> ro
 *	snapshot	new top: none -> rw; old top: rw -> ro
 *	commit		base: ro -> rw while the job runs, then ro again
 *	close		all: -> none
 *
 * Crash order: templates of the disk, record of the file, memory in the file,
 * change; and back: change, memory, record, templates. So whoever finds a
 * record can restore the file, and label_sync() brings all files of a disk in
 * line with its table, from wherever a controller was killed.
 *
 * A transition that fails leaves the file and its record as they were. What the
 * operation has changed in other files is taken back by label_sync(), too: the
 * table still is what it was.
 *
 * A file that several disks have keeps its label until the last one drops it.
 * Callers hold the disk's lock; one lock for all records is taken inside.
 */
#include "label.h"
#include "online.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

const char *label_name(enum label_kind kind)
{
	return kind == LABEL_RW ? "rw" : kind == LABEL_RO ? "ro" : "none";
}

/* Users of a record. */

static int user_index(const struct label_record *r, const char *disk)
{
	int i, n = (int)json_object_array_length(r->users);

	for (i = 0; i < n; i++) {
		const char *name = json_object_get_string(
			json_object_array_get_idx(r->users, i));

		if (name && !strcmp(name, disk))
			return i;
	}
	return -1;
}

static void user_add(struct label_record *r, const char *disk)
{
	if (user_index(r, disk) < 0)
		json_object_array_add(r->users, json_object_new_string(disk));
}

static void user_drop(struct label_record *r, const char *disk)
{
	int i = user_index(r, disk);

	if (i >= 0)
		json_object_array_del_idx(r->users, i, 1);
}

/* Any other disk that has the file, or NULL. */
static const char *other_user(const struct label_record *r, const char *disk)
{
	size_t i;

	for (i = 0; i < json_object_array_length(r->users); i++) {
		const char *name = json_object_get_string(
			json_object_array_get_idx(r->users, i));

		if (name && strcmp(name, disk))
			return name;
	}
	return NULL;
}

/* Somebody is just opening or closing it. */
static bool disk_locked(const char *name)
{
	char path[PATH_MAX];
	bool locked;
	int fd;

	snprintf(path, sizeof(path), RUN_DIR "/lock.%s", name);
	fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return false;
	locked = flock(fd, LOCK_EX | LOCK_NB);
	close(fd);
	return locked;
}

static bool disk_gone(const char *name)
{
	struct dm_state s;

	return (!module_present() || dm_state(name, &s)) && !disk_locked(name);
}

/* A disk that went without us, by dmsetup remove, counts no more. */
static void prune_users(struct label_record *r, const char *disk)
{
	const char *name = other_user(r, disk);

	while (name && disk_gone(name)) {
		user_drop(r, name);
		name = other_user(r, disk);
	}
}

/* Templates of a disk. */

static bool has_templates(const char *disk)
{
	json_object *o = templates_load(disk);
	bool has = o;

	json_object_put(o);
	return has;
}

int label_disk_set(const char *disk, const char *rw, const char *ro)
{
	struct label l_rw = { 0 }, l_ro = { 0 };
	json_object *o;
	int lock, ret = label_check_texts(rw, ro);

	/* None also takes the place of what a disk of this name has left. */
	if (ret || (!rw && !ro && !has_templates(disk)))
		return ret;
	lock = labels_lock();
	if (lock < 0)
		return lock;
	o = json_object_new_object();
	if (rw && !label_parse(rw, &l_rw))
		json_object_object_add(o, "rw", label_to_json(&l_rw));
	if (ro && !label_parse(ro, &l_ro))
		json_object_object_add(o, "ro", label_to_json(&l_ro));
	label_free(&l_rw);
	label_free(&l_ro);
	ret = templates_save(disk, o);
	close(lock);
	return ret;
}

int label_check_texts(const char *rw, const char *ro)
{
	struct label l;
	int ret = 0;

	if (rw) {
		ret = label_parse(rw, &l);
		label_free(&l);
	}
	if (!ret && ro) {
		ret = label_parse(ro, &l);
		label_free(&l);
	}
	return ret;
}

/* Without a template for it a layer has no label. */
static enum label_kind template(const char *disk, enum label_kind want,
				struct label *l)
{
	json_object *o = want == LABEL_NONE ? NULL : templates_load(disk), *v;

	memset(l, 0, sizeof(*l));
	if (!o || !json_object_object_get_ex(o, label_name(want), &v) ||
	    !label_from_json(v, l))
		want = LABEL_NONE;
	json_object_put(o);
	return want;
}

/* One file. */

static int change_failed(const char *path, enum label_kind kind, int err)
{
	if (kind == LABEL_NONE)
		return msg_fail(EXIT_FAILED,
				"%s: can't get back the owner, mode or context that it had: %s; see whether it is immutable or its file system read-only, then dmchain recover",
				path, strerror(-err));
	return msg_fail(EXIT_FAILED,
			"%s: can't get its label (%s): %s; see whether it is immutable or its file system has no such attributes, or leave --label-%s out",
			path, label_name(kind), strerror(-err), label_name(kind));
}

/* The template over what the file had, not over another label. */
static struct label overlay(const struct label *before, const struct label *l)
{
	struct label out = *before;

	if (l->parts & LABEL_OWNER)
		out.uid = l->uid;
	if (l->parts & LABEL_GROUP)
		out.gid = l->gid;
	if (l->parts & LABEL_MODE)
		out.mode = l->mode;
	if (l->parts & LABEL_SELINUX) {
		out.selinux = l->selinux;
		out.selinux_len = l->selinux_len;
	}
	return out;
}

/* What a reboot has left unrestored is what the file had before. */
static int find_before(struct label_record *r, int fd)
{
	struct chain_id host;
	enum label_memory known = label_recall(fd, &r->before, &host);
	char id[37];
	int err;

	if (known == LABEL_OURS)
		return 0;
	label_free(&r->before);
	if (known == LABEL_FOREIGN)
		return msg_fail(EXIT_REFUSED,
				"%s: labelled by host %s, or was when that went down; make sure that it is not in use there, then setfattr -x trusted.dmchain.label",
				r->path, id_text(&host, id));
	err = label_read(fd, &r->before);
	return err ? change_failed(r->path, LABEL_RO, err) : 0;
}

static int refuse_mix(const struct label_record *r, const char *disk,
		      const char *other, enum label_kind want)
{
	if (want == LABEL_RO && r->kind == LABEL_RO)
		return msg_fail(EXIT_REFUSED,
				"%s: disk %s has another label for it than %s asks for; give both the same --label-ro",
				r->path, other, disk);
	return msg_fail(EXIT_REFUSED,
			"%s: can't be %s for disk %s, its label is %s for disk %s; dmchain close %s",
			r->path, label_name(want), disk, label_name(r->kind),
			other, other);
}

/* The file as it was, whatever became of the attempt to change it. */
static void put_back(int fd, const struct label_record *r,
		     const struct label_record *old, const struct label *now)
{
	int err = label_write(fd, now);

	if (err) {
		change_failed(r->path, LABEL_NONE, err);
		return;
	}
	if (old)
		(void)record_save(old);
	/* It has a label from before a reboot still: so its memory is needed. */
	else if (!label_equal(now, &r->before) || !label_forget(fd))
		record_remove(r);
}

/* @old: as it was, NULL if the file had none; @r: as it is to be. */
static int label_change(int fd, struct label_record *r,
			const struct label_record *old)
{
	struct label want = overlay(&r->before, &r->label), now;
	int err = label_read(fd, &now);
	int ret = err ? change_failed(r->path, r->kind, err) : record_save(r);

	if (ret) {
		label_free(&now);
		return ret;
	}
	/* A base on a read-only file system may be as it is to be. */
	if (!label_equal(&now, &want) &&
	    (!old || label_equal(&now, &r->before)))
		err = label_remember(fd, &r->before);
	if (!err)
		err = label_write(fd, &want);
	if (err) {
		put_back(fd, r, old, &now);
		ret = change_failed(r->path, r->kind, err);
	}
	label_free(&now);
	return ret;
}

static int label_restore(int fd, const struct label_record *r)
{
	int err = label_write(fd, &r->before);

	if (!err)
		err = label_forget(fd);
	if (err)
		return change_failed(r->path, LABEL_NONE, err);
	record_remove(r);
	return 0;
}

static int drop_user(int fd, struct label_record *r, const char *disk)
{
	if (user_index(r, disk) < 0)
		return 0;
	user_drop(r, disk);
	return other_user(r, disk) ? record_save(r) : label_restore(fd, r);
}

static int give(int fd, struct label_record *r, const struct label_record *old,
		const char *disk, enum label_kind want, const struct label *l)
{
	const char *other = other_user(r, disk);
	bool same = old && r->kind == want && label_equal(&r->label, l);

	if (other && (want == LABEL_RW || !same))
		return refuse_mix(r, disk, other, want);
	user_add(r, disk);
	if (same && other)
		return record_save(r);
	r->kind = want;
	label_free(&r->label);
	r->label = *l;
	r->label.selinux = l->selinux ? strdup(l->selinux) : NULL;
	return label_change(fd, r, old);
}

/* A successor has to find it. */
static int refuse_nameless(const char *path, enum label_kind want)
{
	return msg_fail(EXIT_REFUSED,
			"%s: has no path by which its label could be taken back; pass a file that has a name, or leave --label-%s out",
			path, label_name(want));
}

static int apply_locked(const char *disk, int fd, const char *path,
			enum label_kind want, const struct label *l)
{
	struct label_record r, old = { 0 };
	bool had;
	int ret;

	if (*path != '/' && want != LABEL_NONE)
		return refuse_nameless(path, want);
	ret = record_new(&r, fd, path);
	if (ret)
		return ret;
	had = record_load(&old, r.key) && record_is(&old, fd);
	if (had) {
		record_free(&r);
		record_load(&r, old.key);
		prune_users(&r, disk);
	}
	if (want == LABEL_NONE)
		ret = had ? drop_user(fd, &r, disk) : 0;
	else if (!had)
		ret = find_before(&r, fd);
	if (!ret && want != LABEL_NONE)
		ret = give(fd, &r, had ? &old : NULL, disk, want, l);
	record_free(&r);
	record_free(&old);
	return ret;
}

int label_apply(const char *disk, int fd, const char *path,
		enum label_kind want)
{
	struct label l;
	struct stat st;
	int lock, ret;

	if (!labels_any() || fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode))
		return 0;
	lock = labels_lock();
	if (lock < 0)
		return lock;
	want = template(disk, want, &l);
	ret = apply_locked(disk, fd, path, want, &l);
	label_free(&l);
	close(lock);
	return ret;
}

int label_drop(const char *disk, int fd, const char *path)
{
	return label_apply(disk, fd, path, LABEL_NONE);
}

/* A record may be of a deleted file that had the same inode number. */
enum label_kind label_of(dev_t dev, ino_t ino)
{
	struct label_record r;
	enum label_kind kind = LABEL_NONE;
	char key[64];
	int fd;

	record_key(dev, ino, key, sizeof(key));
	if (!labels_any() || !record_load(&r, key))
		return kind;
	fd = record_open(&r);
	if (!record_gone(&r, fd))
		kind = r.kind;
	if (fd >= 0)
		close(fd);
	record_free(&r);
	return kind;
}

/* A label that outlived its boot, on a file that gets none now. */
static int heal_locked(int fd, const char *path)
{
	struct label_record r, old;
	struct chain_id host;
	int err, ret = record_new(&r, fd, path);

	if (ret)
		return ret;
	if (record_load(&old, r.key)) {
		record_free(&old);
	} else if (label_recall(fd, &r.before, &host) == LABEL_OURS) {
		err = label_write(fd, &r.before);
		if (!err)
			err = label_forget(fd);
		if (err)
			msg_warn("%s: has a label from before a reboot, which can't be taken back: %s",
				 path, strerror(-err));
	}
	record_free(&r);
	return 0;
}

/* Asked of every file that is opened, so the folder isn't made for nothing. */
int label_heal(int fd, const char *path)
{
	struct label l;
	struct chain_id host;
	enum label_memory known = label_recall(fd, &l, &host);
	int lock, ret;

	label_free(&l);
	if (known != LABEL_OURS)
		return 0;
	lock = labels_lock();
	if (lock < 0)
		return lock;
	ret = heal_locked(fd, path);
	close(lock);
	return ret;
}

/* All files of a disk. */

/**
 * struct sync - a disk's labels and its table
 * @keys: of the files that are layers, separated and ended by blanks
 * @open: the disk has a table
 * @check: look only whether labels could be taken back
 * @left: a record has to wait until its file is found again
 * @done: texts of what was done, or NULL
 */
struct sync {
	const char *disk;
	char *keys;
	bool open;
	bool check;
	bool left;
	json_object *done;
	int ret;
};

static int open_layer(const char *path, dev_t dev, ino_t ino)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct label_record r;
	struct stat st;
	char key[64];

	if (fd >= 0 && !fstat(fd, &st) && st.st_dev == dev && st.st_ino == ino)
		return fd;
	if (fd >= 0)
		close(fd);
	fd = -ENOENT;
	record_key(dev, ino, key, sizeof(key));
	if (record_load(&r, key)) {
		fd = record_open(&r);
		record_free(&r);
	}
	return fd;
}

int label_apply_device(const char *disk, dev_t dev, enum label_kind want)
{
	struct label l = { 0 };
	char path[PATH_MAX];
	dev_t fdev;
	ino_t ino;
	int fd, ret;

	if (!labels_any() || !loop_backing(dev, path, sizeof(path), &fdev, &ino))
		return 0;
	fd = open_layer(path, fdev, ino);
	/* Deleted, or out of reach: that matters if it is to have a label. */
	if (fd < 0 && template(disk, want, &l) == LABEL_NONE)
		return 0;
	label_free(&l);
	if (fd < 0)
		return msg_fail_errno(EXIT_FAILED, -fd,
				      "%s: can't get its label (%s)", path,
				      label_name(want));
	ret = label_apply(disk, fd, path, want);
	close(fd);
	return ret;
}

int label_probe_device(const char *disk, dev_t dev)
{
	json_object *o = labels_any() ? templates_load(disk) : NULL;
	bool labelled = o;
	char path[PATH_MAX];
	dev_t fdev;
	ino_t ino;
	int fd, err;

	json_object_put(o);
	if (!labelled || !loop_backing(dev, path, sizeof(path), &fdev, &ino))
		return 0;
	fd = open_layer(path, fdev, ino);
	err = fd < 0 ? fd : label_probe(fd, NULL);
	if (fd >= 0)
		close(fd);
	return err ? change_failed(path, LABEL_RO, err) : 0;
}

static void note_key(struct sync *s, dev_t dev)
{
	char path[PATH_MAX], key[64], *more;
	dev_t fdev;
	ino_t ino;

	if (!loop_backing(dev, path, sizeof(path), &fdev, &ino))
		return;
	record_key(fdev, ino, key, sizeof(key));
	if (asprintf(&more, "%s%s ", s->keys ? s->keys : " ", key) < 0)
		return;
	free(s->keys);
	s->keys = more;
}

static int sync_layers(struct sync *s)
{
	struct dm_state state;
	struct table t;
	unsigned int i;
	int one, ret;

	if (!module_present() || dm_state(s->disk, &state) || !state.ours ||
	    !state.live)
		return 0;
	ret = dm_table_read(s->disk, &t, NULL);
	if (ret)
		return ret;
	s->open = true;
	for (i = 0; i < t.nr; i++) {
		note_key(s, t.layers[i].dev);
		one = !strcmp(t.layers[i].role, "next") ? 0 :
		      label_apply_device(s->disk, t.layers[i].dev,
					 !strcmp(t.layers[i].role, "ro") ?
					 LABEL_RO : LABEL_RW);
		ret = ret ? ret : one;
	}
	dm_table_free(&t);
	return ret;
}

static bool is_layer(const struct sync *s, const char *key)
{
	char word[70];

	snprintf(word, sizeof(word), " %s ", key);
	return s->keys && strstr(s->keys, word);
}

static void say_done(struct sync *s, const struct label_record *r)
{
	char *text;

	if (!s->done || asprintf(&text, "label of %s taken back", r->path) < 0)
		return;
	json_object_array_add(s->done, json_text(text));
	free(text);
}

/*
 * Deleted: there is nothing that could get anything back. By now the record
 * may be of another file that has got the inode number, for whatever disk.
 */
static int drop_deleted(struct sync *s, const struct label_record *r)
{
	struct label_record now;
	int lock = s->check ? 0 : labels_lock();

	if (s->check || lock < 0)
		return lock;
	if (record_load(&now, r->key)) {
		if (record_equal(r, &now))
			record_remove(&now);
		else
			s->left |= user_index(&now, s->disk) >= 0;
		record_free(&now);
	}
	close(lock);
	return 0;
}

static int drop_record(struct sync *s, const struct label_record *r)
{
	int fd = record_open(r), err = 0, ret;

	if (record_gone(r, fd))
		return drop_deleted(s, r);
	if (fd < 0) {
		s->left = true;
		if (!s->check)
			msg_warn("%s: can't be found to take its label back (%s); mount its file system there, then dmchain recover",
				 r->path, strerror(-fd));
		return 0;
	}
	if (s->check && !other_user(r, s->disk))
		err = label_probe(fd, &r->before);
	ret = err ? change_failed(r->path, LABEL_NONE, err) :
	      s->check ? 0 : label_drop(s->disk, fd, r->path);
	close(fd);
	if (!ret && !s->check)
		say_done(s, r);
	return ret;
}

/* One that can't be helped must not keep the others from being helped. */
static int sync_record(const char *key, void *arg)
{
	struct label_record r;
	struct sync *s = arg;
	int ret;

	if (is_layer(s, key) || !record_load(&r, key))
		return 0;
	ret = user_index(&r, s->disk) < 0 ? 0 : drop_record(s, &r);
	record_free(&r);
	s->ret = s->ret ? s->ret : ret;
	return 0;
}

int label_sync(const char *disk, json_object *done)
{
	struct sync s = { .disk = disk, .done = done };

	if (!labels_any())
		return 0;
	s.ret = sync_layers(&s);
	record_each(sync_record, &s);
	free(s.keys);
	if (!s.ret && !s.open && !s.left)
		templates_remove(disk);
	return s.ret;
}

int label_check_drop(const char *disk)
{
	struct sync s = { .disk = disk, .check = true };

	if (labels_any())
		record_each(sync_record, &s);
	return s.ret;
}
