// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * dmchain open NAME PATH: a chain becomes a disk.
 */
#include "label.h"
#include "online.h"

#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

struct opening {
	const char *name;
	const char *path;
	uint32_t format;
	bool read_only;
	bool force;
	bool quiet;
	const char *label_rw;
	const char *label_ro;
	int ctl;
	struct walk walk;
	struct loops loops;	/* what is open already */
	struct table table;
	struct attached *layers;	/* as many as walk has images */
};

static int name_free(const char *name)
{
	struct dm_state s;

	if (dm_state(name, &s))
		return 0;
	return msg_fail(EXIT_REFUSED,
			s.ours ? "%s: a disk of this name is open already; dmchain close %s, or take another name" :
				 "%s: a device of this name is there already, which is none of ours; take another name",
			name, name);
}

/* A mark of this very boot that no open disk answers for. */
static int check_mark(struct opening *o)
{
	const struct image *top = &o->walk.images[0];
	struct chain_id host, boot;

	if (o->read_only || o->force || top->format == DM_CHAIN_FORMAT_RAW ||
	    !(top->hdr.marks & DM_CHAIN_MARK_IN_USE))
		return 0;
	host_id(&host);
	if (control_instance(o->ctl, &boot) ||
	    !chain_id_equal(&host, &top->hdr.use_host) ||
	    !chain_id_equal(&boot, &top->hdr.use_boot))
		return 0;
	return msg_fail(EXIT_REFUSED,
			"%s: in use since this boot, but by no open disk: a copy of an open layer, or its close failed; make sure which, then say --force",
			top->path);
}

/* The kernel would refuse it, too, but can't name who is in the way. */
static int check_holders(struct opening *o)
{
	unsigned int i;

	for (i = 0; i < o->walk.nr; i++) {
		char *holder = NULL;
		int ret = loops_holding(&o->loops, &o->walk.images[i],
					i || o->read_only, &holder);

		if (ret)
			return ret;
		if (!holder)
			continue;
		ret = msg_fail(EXIT_REFUSED, "%s: in use, disk %s %s; dmchain close %s",
			       o->walk.images[i].path, holder,
			       i || o->read_only ? "writes it" :
						   "has it as a layer",
			       holder);
		free(holder);
		return ret;
	}
	return 0;
}

static int attach_layer(struct opening *o, unsigned int i)
{
	bool write = !i && !o->read_only;
	struct image *img = &o->walk.images[i];
	int ret = attach_image(&o->layers[i], img, write, &o->loops);

	if (ret)
		return ret;
	o->table.nr = i + 1;
	o->table.layers[i] = (struct table_layer){
		.dev = o->layers[i].dev,
		.format = img->format,
		.role = write ? "rw" : "ro",
	};
	return 0;
}

static int attach_layers(struct opening *o)
{
	const struct image *top = &o->walk.images[0];
	unsigned int i;
	int ret = 0;

	o->layers = calloc(o->walk.nr, sizeof(*o->layers));
	o->table.layers = calloc(o->walk.nr, sizeof(*o->table.layers));
	if (!o->layers || !o->table.layers)
		return msg_fail(EXIT_FAILED, "%s: out of memory", o->name);
	o->table.sectors = (top->format == DM_CHAIN_FORMAT_RAW ?
			    top->bytes : top->hdr.size) / 512;
	o->table.read_only = o->read_only;
	for (i = 0; !ret && i < o->walk.nr; i++)
		ret = attach_layer(o, i);
	return ret;
}

/*
 * The UUID of the device. A layer has one writer, but as many readers as you
 * like, also while it is a lower layer of the disk that was opened with it.
 */
static void make_uuid(const struct opening *o, char *buf, size_t len)
{
	const struct image *top = &o->walk.images[0];
	char text[40], rest[16] = "";
	struct chain_id id;

	if (o->read_only) {
		id_random(&id);
		snprintf(rest, sizeof(rest), "-%02x%02x%02x%02x", id.b[0],
			 id.b[1], id.b[2], id.b[3]);
	}
	if (top->format == DM_CHAIN_FORMAT_RAW)
		snprintf(text, sizeof(text), "raw-%u-%u",
			 major(o->layers[0].dev), minor(o->layers[0].dev));
	else
		id_text(&top->hdr.uuid, text);
	snprintf(buf, len, DMCHAIN_DM_UUID_PREFIX "%s%s", text, rest);
}

static int give_labels(struct opening *o)
{
	unsigned int i;
	int ret = label_disk_set(o->name, o->label_rw, o->label_ro);

	for (i = 0; !ret && i < o->walk.nr; i++) {
		const struct image *img = &o->walk.images[i];

		enum label_kind want = i || o->read_only ? LABEL_RO : LABEL_RW;

		/* A loop device has a file, too: as all other commands see it. */
		ret = img->is_bdev ?
		      label_apply_device(o->name, img->dev, want) :
		      label_apply(o->name, img->fd, img->path, want);
	}
	return ret;
}

static int create(struct opening *o, struct disk_lock *l)
{
	char uuid[128];
	int ret;

	make_uuid(o, uuid, sizeof(uuid));
	ret = disk_lock_note(l, note_new("open"));
	/* Who is to use the disk may need the files with it. */
	if (!ret)
		ret = give_labels(o);
	if (!ret)
		ret = dm_create(o->name, uuid, &o->table, o->force);
	/* The disk is gone already, its labels go now; if not, by recover. */
	if (!ret || !label_sync(o->name, NULL))
		disk_lock_note(l, NULL);
	return ret;
}

/* Of a disk of this name that went by dmsetup, and from before a reboot. */
static int old_labels(struct opening *o)
{
	int ret = label_sync(o->name, NULL);
	unsigned int i;

	for (i = 0; !ret && i < o->walk.nr; i++)
		if (!o->walk.images[i].is_bdev)
			ret = label_heal(o->walk.images[i].fd,
					 o->walk.images[i].path);
	return ret;
}

static int open_layers(struct opening *o, struct disk_lock *l)
{
	unsigned int i;
	int ret = check_mark(o);

	if (!ret)
		ret = loop_index_ready();
	if (!ret)
		ret = check_holders(o);
	if (!ret)
		ret = perm_ask_images(o->name, o->read_only ?
				      DM_CHAIN_OP_EXPORT : DM_CHAIN_OP_GUEST,
				      &o->walk, &o->loops);
	if (!ret)
		ret = old_labels(o);
	if (!ret)
		ret = attach_layers(o);
	if (!ret)
		ret = create(o, l);
	/* From here on only the table holds the loops. */
	for (i = 0; o->layers && i < o->table.nr; i++)
		attach_drop(&o->layers[i]);
	free(o->layers);
	loops_free(&o->loops);
	dm_table_free(&o->table);
	return ret;
}

/* A job that was cut off; of a commit, the top needs that it is finished. */
static void tell_record(const struct opening *o, const struct image *img)
{
	const struct chain_header *h = &img->hdr;
	char job[37];

	if (img->format != DM_CHAIN_FORMAT_CHAIN ||
	    !(h->marks & DM_CHAIN_MARK_JOB) ||
	    h->record.flags & DM_CHAIN_RECORD_DONE)
		return;
	msg_warn("%s: has an unfinished %s (job %.8s), of layer %s; %sdmchain job resume %s goes on with it",
		 o->name, record_name(h->record.type), id_text(&h->job, job), img->path,
		 o->read_only ? "open it for writing, then " : "", o->name);
}

static int open_locked(struct opening *o, struct disk_lock *l)
{
	unsigned int i;

	int ret = name_free(o->name);

	if (!ret)
		ret = walk_open(&o->walk, o->path, o->format,
				(o->read_only ? WALK_READ_ONLY : 0) |
				(o->force ? WALK_FORCE : 0));
	if (ret)
		return ret;
	o->ctl = control_open();
	ret = o->ctl < 0 ? o->ctl : open_layers(o, l);
	for (i = 0; !ret && !o->quiet && i < o->walk.nr; i++)
		tell_record(o, &o->walk.images[i]);
	if (o->ctl >= 0)
		close(o->ctl);
	walk_close(&o->walk);
	return ret;
}

static int open_disk(struct opening *o)
{
	struct disk_lock l;
	int ret = disk_lock(o->name, &l);

	if (ret)
		return ret;
	ret = disk_recover_locked(&l, false, NULL);
	if (!ret)
		ret = open_locked(o, &l);
	disk_unlock(&l);
	return ret;
}

static void show(const char *name)
{
	json_object *o = json_object_new_object();
	char device[160];

	snprintf(device, sizeof(device), "/dev/mapper/%s", name);
	json_object_object_add(o, "name", json_text(name));
	json_object_object_add(o, "device", json_text(device));
	show_json(o);
}

int disk_open(const struct disk_ask *ask)
{
	struct opening o = {
		.name = ask->name, .path = ask->path, .format = ask->format,
		.read_only = ask->read_only, .force = ask->force,
		.quiet = ask->quiet, .label_rw = ask->label_rw,
		.label_ro = ask->label_ro,
	};

	return open_disk(&o);
}

int cmd_open(int argc, char **argv)
{
	struct disk_ask o = { 0 };
	const char *format = NULL;
	const struct arg_opt opts[] = {
		{ "format", &format, NULL },
		{ "read-only", NULL, &o.read_only },
		{ "force", NULL, &o.force },
		{ "label-rw", &o.label_rw, NULL },
		{ "label-ro", &o.label_ro, NULL },
		{ NULL, NULL, NULL },
	};
	int ret = args_parse_layer(&argc, &argv, opts, 2, 2, 1);

	if (!ret)
		ret = args_format(format, &o.format);
	/* Where a name or a layer may stand, fd: begins a layer. */
	if (!ret && (!dm_name_valid(argv[0]) || arg_says_fd(argv[0])))
		ret = msg_fail(EXIT_USAGE,
			       "%s: no name for a disk; letters, digits and any of #+-.:@_ (127 at most), and no fd: at its beginning",
			       argv[0]);
	if (!ret)
		ret = label_check_texts(o.label_rw, o.label_ro);
	if (ret)
		return -ret;
	o.name = argv[0];
	o.path = argv[1];
	ret = disk_open(&o);
	if (!ret && opt_json)
		show(o.name);
	return -ret;
}
