// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * dmchain snapshot NAME=PATH: the top of an open disk is frozen, PATH is the
 * new one.
 *
 * The new layer is attached by a reload that changes nothing of what is seen;
 * the kernel switches to it and seals the old top; another reload opens that
 * one read-only. Until the switch all of it can be undone.
 */
#include "label.h"
#include "online.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

/**
 * struct snapshot - of one disk
 * @arg: the new top, as the user named it: path or descriptor
 * @path: of the new top, absolute
 * @old: the table before
 * @layers: what the kernel says of the layers
 * @top_path: where the old top lives
 * @hdr: of the new top
 * @img: the new top
 * @made: it is a file or the contents of a device that we made
 */
struct snapshot {
	const char *name;
	const char *arg;
	char *path;
	bool existing;
	int ctl;
	dev_t disk;
	struct table old;
	struct dm_chain_layer *layers;
	unsigned int nr;
	char *top_path;
	struct chain_header hdr;
	struct image img;
	bool made;
	struct attached at;
	uint64_t pause_ns;
};

/* What the disk is now. */

static int check_table(const struct snapshot *s)
{
	const struct table *t = &s->old;

	if (t->read_only || strcmp(t->layers[0].role, "rw")) {
		if (!strcmp(t->layers[0].role, "next"))
			return msg_fail(EXIT_REFUSED,
					"%s: another layer is attached already; dmchain recover %s",
					s->name, s->name);
		return msg_fail(EXIT_REFUSED,
				"%s: open read-only, there is nothing to freeze",
				s->name);
	}
	if (t->nr >= DM_CHAIN_MAX_LAYERS)
		return msg_fail(EXIT_FAILED,
				"%s: has %u layers already, more can't be; merge some first",
				s->name, t->nr);
	return 0;
}

/* The new layer's header has to name it, and close to lose nothing. */
static int check_top_path(const struct snapshot *s)
{
	char path[PATH_MAX];
	struct stat st;
	dev_t fdev;
	ino_t ino;

	if (!loop_backing(s->old.layers[0].dev, path, sizeof(path), &fdev, &ino) ||
	    (!stat(path, &st) && st.st_dev == fdev && st.st_ino == ino))
		return 0;
	return msg_fail(EXIT_FAILED,
			"%s: its top has no path by which a new layer could find it (%s); it was deleted, or opened by a descriptor without one",
			s->name, path);
}

/* The cycle would not even need a second disk: each write would cause another. */
static int check_place(const struct snapshot *s)
{
	char *folder = strdup(s->path), *slash = folder ? strrchr(folder, '/') :
							  NULL;
	bool on = false;

	if (slash) {
		slash[slash == folder] = 0;
		on = path_stands_on(access(s->path, F_OK) ? folder : s->path,
				    s->disk);
	}
	free(folder);
	if (!on)
		return 0;
	return msg_fail(EXIT_REFUSED,
			"%s: lies on the disk %s itself; choose a place that doesn't",
			s->path, s->name);
}

static int look(struct snapshot *s)
{
	int ret = disk_find(s->name, &s->disk);

	/* Before the table: this waits for what the kernel takes back just now. */
	if (!ret)
		ret = control_layers(s->ctl, s->disk, &s->layers, &s->nr);
	if (!ret)
		ret = dm_table_read(s->name, &s->old, NULL);
	if (!ret)
		ret = check_table(s);
	if (!ret)
		ret = perm_ask(s->ctl, s->disk, s->name, DM_CHAIN_OP_SNAPSHOT);
	if (ret)
		return ret;
	if (!s->nr)
		return msg_fail(EXIT_FAILED, "%s: has no layers", s->name);
	s->top_path = disk_layer_path(s->old.layers[0].dev);
	if (!s->top_path)
		return msg_fail(EXIT_FAILED, "%s: out of memory", s->name);
	ret = check_top_path(s);
	return ret ? ret : check_place(s);
}

/* The new top. */

static bool raw_top(const struct snapshot *s)
{
	return s->layers[0].format == DM_CHAIN_FORMAT_RAW;
}

static uint32_t block_shift(const struct snapshot *s)
{
	uint32_t shift = DM_CHAIN_MIN_BLOCK_SHIFT;

	while (!raw_top(s) && 1U << shift < s->layers[0].block_size)
		shift++;
	return shift;
}

/*
 * What the link says of the old top. Its content id is the one that it will get
 * with its seal, so that the new layer fits no other life of it. A raw layer's
 * fingerprint is taken by the kernel, at the switch.
 */
static void set_link(const struct snapshot *s, struct chain_header *h)
{
	struct chain_link *link = &h->parent;

	memset(link, 0, sizeof(*link));
	link->format = s->layers[0].format;
	link->size = s->layers[0].size;
	if (h->limit > link->size)
		h->limit = link->size;
	if (raw_top(s))
		return;
	memcpy(link->uuid.b, s->layers[0].uuid, sizeof(link->uuid.b));
	id_random(&link->cid);
}

/* The kernel copies the child's path into the seal of the old top. */
static int set_paths(const struct snapshot *s, struct chain_header *h)
{
	int ret = hint_make_near(h->parent_path, s->path, s->top_path, false);

	return ret ? ret : hint_make(h->child_path, s->path, s->path);
}

static int set_header(struct snapshot *s)
{
	uint64_t size = s->old.sectors * 512, bytes = device_bytes(s->arg);
	uint32_t shift = block_shift(s);
	uint64_t max = bytes ? chain_max_size_for(bytes, shift) :
			       chain_default_max_size(size);
	struct chain_header *h = &s->hdr;

	/* Too small a device is told of when it is opened, with the figures. */
	if (chain_header_init(h, size, max < size ? size : max, shift))
		return msg_fail(EXIT_FAILED, "%s: no layer can have its size",
				s->name);
	h->limit = size;
	id_random(&h->uuid);
	id_random(&h->cid);
	while (getrandom(&h->map_seed, sizeof(h->map_seed), 0) !=
	       sizeof(h->map_seed))
		;
	set_link(s, h);
	return set_paths(s, h);
}

static json_object *note(const struct snapshot *s)
{
	json_object *o = note_new("snapshot");
	char id[37];

	if (!s->existing) {
		json_object_object_add(o, "made",
				       json_object_new_string(s->path));
		json_object_object_add(o, "bytes", json_object_new_uint64(
			chain_layer_bytes(&s->hdr)));
		json_object_object_add(o, "uuid", json_text(
			id_text(&s->hdr.uuid, id)));
		if (arg_fd(s->arg) >= 0)
			json_object_object_add(o, "given", json_text(s->arg));
	}
	return o;
}

/* Before the note: what it tells of was not there, and is ours to remove. */
static int check_absent(const struct snapshot *s)
{
	struct stat st;

	/* Of a given file image_make() sees whether it is empty. */
	if (arg_fd(s->arg) >= 0 || lstat(s->path, &st) || device_bytes(s->arg))
		return 0;
	return msg_fail(EXIT_FAILED,
			"%s: exists already; choose another name, or say --existing if create made it for this",
			s->path);
}

static int make_new(struct snapshot *s, struct disk_lock *l)
{
	int ret = check_absent(s);

	if (!ret)
		ret = set_header(s);
	if (!ret)
		ret = disk_lock_note(l, note(s));
	if (!ret)
		ret = image_make(&s->img, s->arg, &s->hdr);
	if (ret)
		return ret;
	s->made = true;
	return image_make_commit(&s->img);
}

/* --existing */

static int unfit(const struct snapshot *s, const char *why)
{
	return msg_fail(EXIT_IMAGE, "%s: can't become the top of %s, %s",
			s->path, s->name, why);
}

/* A raw layer has no id: its child must lead to it. */
static bool leads_to_top(const struct snapshot *s)
{
	char *path = hint_resolve(s->img.path, s->img.hdr.parent_path);
	char *holder = NULL;
	bool leads;

	leads = path && !disk_holding_path(path, true, &holder) && holder &&
		!strcmp(holder, s->name);
	free(holder);
	free(path);
	return leads;
}

static int check_link(const struct snapshot *s)
{
	const struct chain_link *link = &s->img.hdr.parent;

	if (link->format != s->layers[0].format)
		return unfit(s, "its header names a parent of another format, or none");
	if (raw_top(s) ? !leads_to_top(s) :
	    memcmp(link->uuid.b, s->layers[0].uuid, sizeof(link->uuid.b)))
		return unfit(s, "it was made on another parent");
	return 0;
}

static int check_empty(struct snapshot *s)
{
	const struct chain_header *h = &s->img.hdr;
	struct imgmap m;
	bool empty;
	int ret = imgmap_load(&m, &s->img);

	if (ret)
		return ret;
	empty = !m.damaged && !m.damaged_presence &&
		imgmap_count(&m, h, DM_CHAIN_ABSENT) >= h->size;
	imgmap_free(&m);
	return empty ? 0 : unfit(s, "it holds data already, or its map is damaged");
}

static int check_new(const struct snapshot *s)
{
	const struct chain_header *h = &s->img.hdr;
	unsigned int i;

	for (i = 0; i < s->nr; i++)
		if (!memcmp(h->uuid.b, s->layers[i].uuid, sizeof(h->uuid.b)))
			return unfit(s, "a layer with its UUID is in the chain; dmchain new-id gives a copy one of its own");
	if (h->size < s->old.sectors * 512)
		return unfit(s, "it is smaller");
	return 0;
}

static int take_existing(struct snapshot *s)
{
	struct chain_header *h = &s->img.hdr;
	int ret = image_open(&s->img, s->arg, DM_CHAIN_FORMAT_CHAIN,
			     IMAGE_WRITE);

	if (ret)
		return ret;
	ret = image_check_in_use(&s->img, "snapshot", false);
	if (!ret)
		ret = check_new(s);
	if (!ret)
		ret = check_link(s);
	if (!ret)
		ret = check_empty(s);
	if (ret)
		return ret;
	set_link(s, h);
	ret = set_paths(s, h);
	return ret ? ret : image_write_header(&s->img);
}

/* Attach, switch, detach. */

static int attach_next(struct snapshot *s)
{
	struct table t = s->old;
	int ret = attach_image(&s->at, &s->img, true);

	if (ret)
		return ret;
	t.nr++;
	t.layers = calloc(t.nr, sizeof(*t.layers));
	if (!t.layers)
		return msg_fail(EXIT_FAILED, "%s: out of memory", s->name);
	t.layers[0] = (struct table_layer){
		.dev = s->at.dev, .format = DM_CHAIN_FORMAT_CHAIN, .role = "next",
	};
	memcpy(t.layers + 1, s->old.layers, s->old.nr * sizeof(*t.layers));
	ret = dm_reload_resume(s->name, &t);
	free(t.layers);
	return ret;
}

enum outcome { NOT_SWITCHED, SWITCHED, UNKNOWN };

/* A switch that failed late has happened nevertheless. */
static enum outcome outcome(const struct snapshot *s)
{
	struct table t;
	bool gone, yes;

	if (!s->at.dev)
		return NOT_SWITCHED;
	if (dm_table_look(s->name, &t, &gone) || gone)
		return UNKNOWN;
	yes = t.layers[0].dev == s->at.dev && strcmp(t.layers[0].role, "next");
	dm_table_free(&t);
	return yes ? SWITCHED : NOT_SWITCHED;
}

static int detach_next(struct snapshot *s)
{
	struct table t;
	bool attached;

	if (dm_table_read(s->name, &t, NULL))
		return -EXIT_FAILED;
	attached = !strcmp(t.layers[0].role, "next");
	dm_table_free(&t);
	return attached ? dm_reload_resume(s->name, &s->old) : 0;
}

/* A device was let go for dm to have it. */
static void unmake(struct snapshot *s)
{
	if (s->img.is_bdev && s->img.fd < 0) {
		image_close(&s->img);
		if (image_open(&s->img, s->arg, DM_CHAIN_FORMAT_CHAIN,
			       IMAGE_WRITE | IMAGE_ANY_MARK))
			return;
	}
	image_make_undo(&s->img);
}

static void undo(struct snapshot *s, struct disk_lock *l)
{
	/* What can't be undone now is left to recover: the note stays. */
	if (s->at.dev && detach_next(s))
		return;
	attach_drop(&s->at);
	if (label_drop(s->name, s->img.fd, s->path))
		return;
	if (s->made)
		unmake(s);
	disk_lock_note(l, NULL);
}

/* The old top is still open for writing, though nobody does any more. */
static void reopen_old_top(struct snapshot *s, struct disk_lock *l)
{
	struct table t;
	int ret = dm_table_read(s->name, &t, NULL);

	if (!ret) {
		ret = dm_reload_resume(s->name, &t);
		dm_table_free(&t);
	}
	if (!ret)
		ret = label_apply_device(s->name, s->old.layers[0].dev,
					 LABEL_RO);
	if (!ret)
		disk_lock_note(l, NULL);
	else
		msg_warn("%s: the snapshot is made, but %s is still open for writing, or labelled so; dmchain recover %s",
			 s->name, s->top_path, s->name);
}

/* The new top's label before it is needed; whether the old one's can be taken
 * away is known before the switch, which can't be undone. */
static int give_labels(struct snapshot *s)
{
	int ret = label_probe_device(s->name, s->old.layers[0].dev);

	return ret ? ret : label_apply(s->name, s->img.fd, s->path, LABEL_RW);
}

static void clean_up(struct snapshot *s, struct disk_lock *l)
{
	switch (outcome(s)) {
	case NOT_SWITCHED:
		undo(s, l);
		break;
	case SWITCHED:
		disk_lock_note(l, NULL);
		break;
	case UNKNOWN:
		/* The note stays: recover decides. */
		break;
	}
}

static int change(struct snapshot *s, struct disk_lock *l)
{
	int ret = s->existing ? disk_lock_note(l, note(s)) : 0;

	if (!ret)
		ret = s->existing ? take_existing(s) : make_new(s, l);
	if (!ret)
		ret = give_labels(s);
	if (!ret)
		ret = attach_next(s);
	if (!ret)
		ret = control_snapshot(s->ctl, s->disk, &s->pause_ns);
	if (!ret) {
		attach_drop(&s->at);
		reopen_old_top(s, l);
		return 0;
	}
	clean_up(s, l);
	return ret;
}

static void report(const struct snapshot *s)
{
	json_object *o;
	char id[37];

	if (!opt_json) {
		printf("%s: %s is the top now, %s is frozen (paused for %.3f ms)\n",
		       s->name, s->path, s->top_path, s->pause_ns / 1e6);
		return;
	}
	o = json_object_new_object();
	json_object_object_add(o, "name", json_text(s->name));
	json_object_object_add(o, "path", json_text(s->path));
	json_object_object_add(o, "uuid",
			       json_text(id_text(&s->img.hdr.uuid, id)));
	json_object_object_add(o, "frozen", json_text(s->top_path));
	json_object_object_add(o, "pause-ns",
			       json_object_new_uint64(s->pause_ns));
	show_json(o);
}

static int check_given(const struct snapshot *s)
{
	char *path = arg_path(s->arg);
	bool same = path && !strcmp(path, s->path);

	free(path);
	if (same)
		return 0;
	return msg_fail(EXIT_FAILED,
			"%s: is no longer at %s, and the disk could not be opened without it again; pass a file that has a name",
			s->arg, s->path);
}

static int snapshot_locked(struct snapshot *s, struct disk_lock *l)
{
	int ret = disk_recover_locked(l, false, NULL);

	if (ret)
		return ret;
	s->ctl = control_open();
	if (s->ctl < 0)
		return s->ctl;
	ret = look(s);
	/* While we waited the descriptor's path may have gone. */
	if (!ret && arg_fd(s->arg) >= 0)
		ret = check_given(s);
	/* For both reloads and what comes between; gone with the descriptor. */
	control_expedite(s->ctl, true);
	if (!ret)
		ret = change(s, l);
	close(s->ctl);
	if (!ret)
		report(s);
	image_close(&s->img);
	dm_table_free(&s->old);
	free(s->layers);
	free(s->top_path);
	return ret;
}

static int snapshot(char *name, const char *path, bool existing)
{
	struct snapshot s = { .name = name, .arg = path, .existing = existing };
	struct disk_lock l;
	dev_t dev;
	int ret = disk_find(name, &dev);

	if (ret)
		return ret;
	s.img.fd = s.img.given = s.at.fd = -1;
	s.path = arg_fd(path) < 0 ? path_absolute(path) : arg_path(path);
	if (!s.path && arg_fd(path) >= 0)
		return msg_fail(EXIT_FAILED,
				"%s: has no path, and the disk could not be opened without one again; pass a file that has a name",
				path);
	if (!s.path)
		return msg_fail_errno(EXIT_FAILED, errno, "%s: no such place",
				      path);
	ret = disk_lock(name, &l);
	if (!ret) {
		ret = snapshot_locked(&s, &l);
		disk_unlock(&l);
	}
	free(s.path);
	return ret;
}

int cmd_snapshot(int argc, char **argv)
{
	bool existing = false;
	const struct arg_opt opts[] = {
		{ "existing", NULL, &existing },
		{ NULL, NULL, NULL },
	};
	int ret = args_parse(&argc, &argv, opts, 1, 1);
	char *sep;

	if (ret)
		return ret;
	sep = strchr(argv[0], '=');
	if (!sep || sep == argv[0] || !sep[1])
		return msg_fail(EXIT_USAGE,
				"%s: say NAME=PATH, the disk and its new top",
				argv[0]);
	*sep = 0;
	ret = arg_layer_check(sep + 1);
	if (ret)
		return ret;
	return snapshot(argv[0], sep + 1, existing);
}
