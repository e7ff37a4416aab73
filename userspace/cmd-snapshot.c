// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * dmchain snapshot NAME=PATH...: the tops of open disks are frozen at one instant,
 * each PATH is a new one.
 *
 * The new layers are attached by reloads that change nothing of what is seen;
 * the kernel switches to all of them and seals the old tops; other reloads open
 * these read-only. Until the switch all of it can be undone; then all of it is
 * done, or nothing.
 */
#include "boot.h"
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
 * struct set - the disks of a snapshot
 * @ctl: control device
 * @s: sorted by name: the order in which they are locked
 * @nr: of them
 * @group: name of the set in the headers; one disk: zero
 * @coordinator: UUID of the layer whose header decides for all
 * @coordinator_path: of that layer; NULL: one disk
 * @new_decides: it is the new top of the first disk
 */
struct set {
	int ctl;
	struct snapshot *s;
	unsigned int nr;
	struct chain_id group;
	struct chain_id coordinator;
	const char *coordinator_path;
	bool new_decides;
};

/**
 * struct snapshot - of one disk
 * @set: whose one it is
 * @name: of the disk
 * @given: its place among the arguments
 * @lock: of the disk
 * @begun: there is something to undo
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
	struct set *set;
	const char *name;
	unsigned int given;
	struct disk_lock lock;
	bool begun;
	const char *arg;
	char *path;
	bool existing;
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
		if (table_extra(&t->layers[0]))
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

static int check_apart(const struct snapshot *s, const struct snapshot *on)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < s->old.nr && !ret; i++)
		ret = disk_check_apart(s->name, s->old.layers[i].dev,
				       on->name, on->disk);
	if (!ret && path_place_stands_on(s->path, on->disk))
		ret = disk_nested(s->name, s->path, on->name);
	return ret;
}

static int check_all_apart(const struct set *set)
{
	unsigned int i, j;
	int ret = 0;

	for (i = 0; i < set->nr && !ret; i++)
		for (j = 0; j < set->nr && !ret; j++)
			if (i != j)
				ret = check_apart(&set->s[i], &set->s[j]);
	return ret;
}

static int look(struct snapshot *s)
{
	int ret = disk_find(s->name, &s->disk);

	/* Before the table: this waits for what the kernel takes back just now. */
	if (!ret)
		ret = control_layers(s->set->ctl, s->disk, &s->layers, &s->nr);
	if (!ret)
		ret = dm_table_read(s->name, &s->old, NULL);
	if (!ret)
		ret = perm_ask(s->set->ctl, s->disk, s->name, DM_CHAIN_OP_SNAPSHOT);
	if (!ret)
		ret = check_table(s);
	if (ret)
		return ret;
	if (!s->nr)
		return msg_fail(EXIT_FAILED, "%s: has no layers", s->name);
	s->top_path = disk_layer_path(s->old.layers[0].dev);
	if (!s->top_path)
		return msg_fail(EXIT_FAILED, "%s: out of memory", s->name);
	ret = check_top_path(s);
	return ret ? ret : disk_check_place(s->name, s->disk, s->path);
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
	/* It holds nothing: one that create made may show more than the top had then. */
	h->limit = h->size < link->size ? h->size : link->size;
	if (raw_top(s))
		return;
	memcpy(link->uuid.b, s->layers[0].uuid, sizeof(link->uuid.b));
	id_random(&link->cid);
}

/*
 * Of several disks: which set, and whom to ask, from where the kernel puts it:
 * the header of the old top, or of the new one on a raw layer.
 */
static int set_group(const struct snapshot *s, struct chain_header *h)
{
	const char *owner = raw_top(s) ? s->path : s->top_path;
	struct set *set = s->set;

	if (set->new_decides && s == set->s)
		set->coordinator = h->uuid;
	h->group = set->group;
	h->coordinator = set->coordinator;
	memset(&h->decision, 0, sizeof(h->decision));
	memset(h->coordinator_path, 0, sizeof(h->coordinator_path));
	if (!set->coordinator_path)
		return 0;
	return hint_make_near(h->coordinator_path, owner, set->coordinator_path,
			      false);
}

/* The kernel copies the child's path into the seal of the old top. */
static int set_paths(const struct snapshot *s, struct chain_header *h)
{
	int ret = hint_make_near(h->parent_path, s->path, s->top_path, false);

	if (!ret)
		ret = hint_make(h->child_path, s->path, s->path);
	return ret ? ret : set_group(s, h);
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

static int make_new(struct snapshot *s)
{
	int ret = check_absent(s);

	if (!ret)
		ret = set_header(s);
	if (!ret)
		ret = disk_lock_note(&s->lock, note(s));
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
	int ret = attach_image(&s->at, &s->img, true, NULL);

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

static void undo(struct snapshot *s)
{
	/* What can't be undone now is left to recover: the note stays. */
	if (s->at.dev && detach_next(s))
		return;
	attach_drop(&s->at);
	if (label_drop(s->name, s->img.fd, s->path))
		return;
	if (s->made) {
		boot_never(s->name, s->path);
		unmake(s);
	}
	disk_lock_note(&s->lock, NULL);
}

/* The old top is still open for writing, though nobody does any more. */
static void reopen_old_top(struct snapshot *s)
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
		disk_lock_note(&s->lock, NULL);
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

static void clean_up(struct snapshot *s)
{
	switch (outcome(s)) {
	case NOT_SWITCHED:
		undo(s);
		break;
	case SWITCHED:
		disk_lock_note(&s->lock, NULL);
		break;
	case UNKNOWN:
		/* The note stays: recover decides. */
		break;
	}
}

/* All that can be undone. */
static int prepare(struct snapshot *s)
{
	int ret = s->existing ? disk_lock_note(&s->lock, note(s)) : 0;

	s->begun = true;
	if (!ret)
		ret = s->existing ? take_existing(s) : make_new(s);
	if (!ret)
		ret = give_labels(s);
	return ret ? ret : attach_next(s);
}

static int prepare_all(struct set *set)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < set->nr && !ret; i++)
		ret = prepare(&set->s[i]);
	return ret;
}

/* Disks that come up with the machine: which top will it be then? */
static int declare_all(struct set *set)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < set->nr && !ret; i++)
		ret = boot_before(set->s[i].name, set->s[i].path,
				  DM_CHAIN_FORMAT_CHAIN);
	return ret;
}

static int switch_all(struct set *set)
{
	dev_t *disks = calloc(set->nr, sizeof(*disks));
	uint64_t *pause = calloc(set->nr, sizeof(*pause));
	unsigned int i;
	int ret;

	for (i = 0; disks && i < set->nr; i++)
		disks[i] = set->s[i].disk;
	ret = disks && pause ?
	      control_snapshot(set->ctl, disks, set->nr, pause) :
	      msg_fail(EXIT_FAILED, "out of memory");
	for (i = 0; pause && i < set->nr; i++)
		set->s[i].pause_ns = pause[i];
	free(pause);
	free(disks);
	return ret;
}

static int change(struct set *set)
{
	int ret = prepare_all(set);
	unsigned int i;

	if (!ret)
		ret = declare_all(set);
	if (!ret)
		ret = switch_all(set);
	for (i = 0; i < set->nr; i++) {
		struct snapshot *s = &set->s[i];

		if (ret && s->begun) {
			clean_up(s);
		} else if (!ret) {
			attach_drop(&s->at);
			reopen_old_top(s);
		}
	}
	return ret;
}

/* What is said of it. */

static json_object *report_json(const struct snapshot *s)
{
	json_object *o = json_object_new_object();
	char id[37];

	json_object_object_add(o, "name", json_text(s->name));
	json_object_object_add(o, "path", json_text(s->path));
	json_object_object_add(o, "uuid",
			       json_text(id_text(&s->img.hdr.uuid, id)));
	json_object_object_add(o, "frozen", json_text(s->top_path));
	json_object_object_add(o, "pause-ns",
			       json_object_new_uint64(s->pause_ns));
	return o;
}

static const struct snapshot *given_as(const struct set *set, unsigned int i)
{
	const struct snapshot *s = set->s;

	while (s->given != i)
		s++;
	return s;
}

/* In the order of the arguments; one disk: an object, several: an array. */
static void report(const struct set *set)
{
	json_object *all = json_object_new_array();
	unsigned int i;

	for (i = 0; i < set->nr; i++) {
		const struct snapshot *s = given_as(set, i);

		json_object_array_add(all, report_json(s));
		if (!opt_json)
			msg_say("%s: %s is the top now, %s is frozen (paused for %.3f ms)",
				s->name, s->path, s->top_path, s->pause_ns / 1e6);
	}
	if (opt_json && set->nr == 1)
		show_json(json_object_get(json_object_array_get_idx(all, 0)));
	else if (opt_json)
		show_json(json_object_get(all));
	json_object_put(all);
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

static int look_at_all(struct set *set)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < set->nr && !ret; i++) {
		ret = look(&set->s[i]);
		/* While we waited the descriptor's path may have gone. */
		if (!ret && arg_fd(set->s[i].arg) >= 0)
			ret = check_given(&set->s[i]);
	}
	return ret ? ret : check_all_apart(set);
}

/*
 * The old top of one disk decides: it stays whatever becomes of the snapshot. Not
 * one that has an older decision, which others may still have to ask for. If there
 * is none, a new top.
 */
static void choose_coordinator(struct set *set)
{
	struct chain_id decision;
	unsigned int i;

	if (set->nr == 1)
		return;
	id_random(&set->group);
	for (i = 0; i < set->nr; i++) {
		const struct snapshot *s = &set->s[i];

		memcpy(decision.b, s->layers[0].decision, sizeof(decision.b));
		if (raw_top(s) || !chain_id_is_null(&decision))
			continue;
		memcpy(set->coordinator.b, s->layers[0].uuid,
		       sizeof(set->coordinator.b));
		set->coordinator_path = s->top_path;
		return;
	}
	set->new_decides = true;
	set->coordinator_path = set->s[0].path;
}

static int recover_all(struct set *set)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < set->nr && !ret; i++)
		ret = disk_recover_locked(&set->s[i].lock, false, NULL);
	return ret;
}

static int snapshot_locked(struct set *set)
{
	int ret = recover_all(set);

	if (ret)
		return ret;
	set->ctl = control_open();
	if (set->ctl < 0)
		return set->ctl;
	ret = look_at_all(set);
	/* For all reloads and what comes between; gone with the descriptor. */
	control_expedite(set->ctl, true);
	if (!ret) {
		choose_coordinator(set);
		ret = change(set);
	}
	close(set->ctl);
	if (!ret)
		report(set);
	return ret;
}

/* Who locks several does it in one order, and so nobody waits for ever. */
static int snapshot_all(struct set *set)
{
	unsigned int i, locked;
	int ret = 0;

	for (locked = 0; locked < set->nr && !ret; locked++)
		ret = disk_lock(set->s[locked].name, &set->s[locked].lock);
	if (ret)
		locked--;
	if (!ret)
		ret = snapshot_locked(set);
	for (i = 0; i < locked; i++)
		disk_unlock(&set->s[i].lock);
	return ret;
}

/* What can be told before anybody is kept waiting. */

static int set_path(struct snapshot *s)
{
	dev_t dev;
	int ret = disk_find(s->name, &dev);

	if (ret)
		return ret;
	s->img.fd = s->img.given = s->at.fd = -1;
	s->path = arg_fd(s->arg) < 0 ? path_absolute(s->arg) : arg_path(s->arg);
	if (!s->path && arg_fd(s->arg) >= 0)
		return msg_fail(EXIT_FAILED,
				"%s: has no path, and the disk could not be opened without one again; pass a file that has a name",
				s->arg);
	if (!s->path)
		return msg_fail_errno(EXIT_FAILED, errno, "%s: no such place",
				      s->arg);
	return 0;
}

static int check_once(const struct set *set, unsigned int i)
{
	unsigned int j;

	for (j = 0; j < i; j++) {
		if (!strcmp(set->s[j].name, set->s[i].name))
			return msg_fail(EXIT_USAGE,
					"%s: stands twice; a disk has one top",
					set->s[i].name);
		if (!strcmp(set->s[j].path, set->s[i].path))
			return msg_fail(EXIT_USAGE,
					"%s: stands twice; each disk needs a new top of its own",
					set->s[i].path);
	}
	return 0;
}

static int set_paths_of_all(struct set *set)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < set->nr && !ret; i++) {
		ret = set_path(&set->s[i]);
		if (!ret)
			ret = check_once(set, i);
	}
	return ret;
}

static int by_name(const void *a, const void *b)
{
	const struct snapshot *sa = a, *sb = b;

	return strcmp(sa->name, sb->name);
}

static int snapshot(struct set *set)
{
	unsigned int i;
	int ret;

	qsort(set->s, set->nr, sizeof(*set->s), by_name);
	ret = set_paths_of_all(set);
	if (!ret)
		ret = snapshot_all(set);
	for (i = 0; i < set->nr; i++) {
		struct snapshot *s = &set->s[i];

		if (s->path)
			image_close(&s->img);
		dm_table_free(&s->old);
		free(s->layers);
		free(s->top_path);
		free(s->path);
	}
	return ret;
}

static int parse_disk(struct snapshot *s, char *arg)
{
	char *sep = strchr(arg, '=');

	if (!sep || sep == arg || !sep[1])
		return msg_fail(EXIT_USAGE,
				"%s: say NAME=PATH, the disk and its new top",
				arg);
	*sep = 0;
	s->name = arg;
	s->arg = sep + 1;
	return arg_layer_check(s->arg);
}

int cmd_snapshot(int argc, char **argv)
{
	bool existing = false;
	const struct arg_opt opts[] = {
		{ "existing", NULL, &existing },
		{ NULL, NULL, NULL },
	};
	struct set set = { 0 };
	int ret = args_parse(&argc, &argv, opts, 1, DM_CHAIN_SWITCH_MAX);

	if (ret)
		return ret;
	set.s = calloc((size_t)argc, sizeof(*set.s));
	if (!set.s)
		return msg_fail(EXIT_FAILED, "out of memory");
	for (; !ret && set.nr < (unsigned int)argc; set.nr++) {
		struct snapshot *s = &set.s[set.nr];

		s->set = &set;
		s->given = set.nr;
		s->existing = existing;
		ret = parse_disk(s, argv[set.nr]);
	}
	if (!ret)
		ret = snapshot(&set);
	free(set.s);
	return ret;
}
