// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * dmchain rebase: a closed layer stands on another parent from then on.
 *
 * Safe: what it shows stays the same. It gets what it lacks first, then one
 * header names the new parent. --unsafe: the header, and whoever asked for it
 * knows that the new parent shows what the old one did.
 */
#include "offline.h"
#include "online.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/**
 * struct rebase - what is asked for, and what comes of it
 * @path: of the layer, as the user named it
 * @backing: of the new parent
 * @format: of the new parent
 * @old: the layer and what it stands on; without --unsafe
 * @img: the layer
 * @new: the new parent and what that stands on
 * @link: what the header is to say
 * @limit: the same
 * @parent_path: the same
 * @parent: path of the new parent
 * @data_bytes: copied
 * @zero_bytes: made zero
 */
struct rebase {
	const char *path;
	const char *backing;
	const char *backing_format;
	bool unsafe;
	bool force;
	uint32_t format;
	struct walk old;
	struct image img;
	struct walk new;
	struct chain_link link;
	uint64_t limit;
	char parent_path[DM_CHAIN_PATH_BYTES];
	char *parent;
	uint64_t data_bytes;
	uint64_t zero_bytes;
};

static int parse(struct rebase *r, int argc, char **argv)
{
	const struct arg_opt opts[] = {
		{ "backing", &r->backing, NULL },
		{ "backing-format", &r->backing_format, NULL },
		{ "unsafe", NULL, &r->unsafe },
		{ "force", NULL, &r->force },
		{ NULL, NULL, NULL },
	};
	int ret = args_parse_layer(&argc, &argv, opts, 1, 1, 0);

	if (ret)
		return ret;
	r->path = argv[0];
	if (!r->backing || !r->backing_format)
		return msg_fail(EXIT_USAGE,
				"%s: on what? say --backing and --backing-format, as a format is never guessed",
				r->path);
	ret = arg_layer_check(r->backing);
	return ret ? ret : args_format(r->backing_format, &r->format);
}

/* --- The new parent --- */

static int check_not_below(const struct rebase *r, const struct image *self)
{
	unsigned int i;

	for (i = 0; i < r->new.nr; i++)
		if (image_same(self, &r->new.images[i]))
			return msg_fail(EXIT_IMAGE,
					"%s: can't stand on %s, it would be below itself",
					self->path, r->backing);
	if (r->new.nr < DM_CHAIN_MAX_LAYERS)
		return 0;
	return msg_fail(EXIT_FAILED,
			"%s: has %u layers already, more can't be; merge some first",
			r->backing, r->new.nr);
}

/* Before the layer is opened: a circle would wait for its own lock. */
static int check_circle(const struct rebase *r)
{
	struct image self;
	int ret = image_init(&self, r->path, DM_CHAIN_FORMAT_CHAIN, NULL);

	if (!ret)
		ret = image_identify(&self);
	if (!ret)
		ret = check_not_below(r, &self);
	image_close(&self);
	return ret;
}

/* A job that runs changes what is read; one that was cut off will. */
static int check_images(const struct walk *w)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < w->nr && !ret; i++) {
		const struct image *img = &w->images[i];
		char *disk = NULL;

		/* What is spoiled below has its way down from the walk. */
		if (image_has_commit(img))
			ret = image_check_job(img, "rebase by way of");
		if (!ret)
			ret = disk_holding(img, true, &disk);
		if (!ret && disk)
			ret = msg_fail(EXIT_REFUSED,
				       "%s: in use, disk %s writes it; close that first (dmchain close %s)",
				       img->label, disk, disk);
		free(disk);
	}
	return ret;
}

static int ask_kernel(const struct walk *w, uint32_t op)
{
	/* Without the module nothing is open. */
	return module_present() ? perm_ask_images(w->images[0].path, op, w, NULL) : 0;
}

static int open_new(struct rebase *r)
{
	int ret = walk_open(&r->new, r->backing, r->format, WALK_READ_ONLY);

	if (!ret)
		ret = parent_check(&r->new.images[0], "rebase", r->force);
	if (!ret)
		ret = check_images(&r->new);
	if (!ret)
		ret = ask_kernel(&r->new, DM_CHAIN_OP_CREATE);
	if (!ret && r->new.images[0].nameless)
		ret = msg_fail(EXIT_FAILED,
			       "%s: has no path by which its child could find it; pass a file that has a name",
			       r->backing);
	return ret ? ret : check_circle(r);
}

/* --- The layer --- */

static int check_uuid(const struct rebase *r, const struct image *img)
{
	unsigned int i;
	char id[37];

	for (i = 0; i < r->new.nr; i++) {
		const struct image *other = &r->new.images[i];

		if (other->format == DM_CHAIN_FORMAT_CHAIN &&
		    chain_id_equal(&other->hdr.uuid, &img->hdr.uuid))
			return msg_fail(EXIT_IMAGE,
					"%s: has the same UUID %s as %s, one is a copy of the other; give the copy its own by dmchain new-id",
					other->path,
					id_text(&img->hdr.uuid, id), img->path);
	}
	return 0;
}

/* What changes at a sealed layer, its children would see. */
static int check_layer(const struct rebase *r, const struct image *img)
{
	int ret = image_check_job(img, "rebase");

	if (!ret)
		ret = image_check_marks(img, r->unsafe ? MARKS_TOP_RW :
							 MARKS_TOP_RO, r->force);
	if (!ret)
		ret = image_check_in_use(img, "rebase", r->force);
	return ret ? ret : check_uuid(r, img);
}

static int open_old(struct rebase *r)
{
	int ret = image_open(&r->img, r->path, DM_CHAIN_FORMAT_CHAIN,
			     IMAGE_WRITE | IMAGE_ANY_MARK);

	if (ret)
		return ret;
	ret = check_layer(r, &r->img);
	if (ret || r->unsafe)
		return ret;
	ret = walk_from(&r->old, &r->img, WALK_READ_ONLY);
	memset(&r->img, 0, sizeof(r->img));
	r->img.fd = r->img.given = -1;
	if (!ret)
		ret = check_images(&r->old);
	return ret ? ret : ask_kernel(&r->old, DM_CHAIN_OP_REBASE);
}

static struct image *layer(struct rebase *r)
{
	return r->unsafe ? &r->img : &r->old.images[0];
}

/* --- What the header is to say --- */

static int make_hint(struct rebase *r)
{
	const struct image *p = &r->new.images[0];

	if (layer(r)->nameless)
		return hint_make(r->parent_path, p->path, p->path);
	return hint_make(r->parent_path, layer(r)->path,
			 arg_fd(r->backing) >= 0 ? p->path : r->backing);
}

/*
 * Above the limit nothing of a parent has shown, and nothing of the new one
 * shall. A layer that had no parent has none to speak of; made to stand on one
 * unsafely, it is to show that.
 */
static void choose_limit(struct rebase *r)
{
	const struct chain_header *h = &layer(r)->hdr;

	r->limit = h->limit;
	if (r->unsafe && h->parent.format == DM_CHAIN_FORMAT_NONE)
		r->limit = h->size;
	if (r->limit > r->link.size)
		r->limit = r->link.size;
}

static int make_link(struct rebase *r)
{
	struct image *p = &r->new.images[0];
	int ret = parent_set_link(p, &r->link);

	if (!ret && r->link.size > DM_CHAIN_MAX_SIZE)
		ret = msg_fail(EXIT_IMAGE,
			       "%s: larger than the 64T that a layer may have",
			       r->backing);
	if (ret)
		return ret;
	r->parent = strdup(p->path);
	choose_limit(r);
	return make_hint(r);
}

static int copy(struct rebase *r)
{
	struct rebase_copy c = { .img = layer(r), .limit = r->limit };
	struct view old = { 0 }, new = { 0 };
	int ret = view_of_walk(&old, r->path, &r->old);

	if (!ret)
		ret = view_of_walk(&new, r->backing, &r->new);
	c.old = &old;
	c.new = &new;
	if (!ret)
		ret = rebase_copy(&c);
	view_free(&old);
	view_free(&new);
	r->data_bytes = c.data_bytes;
	r->zero_bytes = c.zero_bytes;
	return ret;
}

/* --- The one header write --- */

static int changed(const struct rebase *r)
{
	return msg_fail(EXIT_REFUSED,
			"%s: was changed meanwhile; rebase %s once more, what is copied stays",
			r->backing, r->path);
}

static bool same_link(const struct chain_link *a, const struct chain_link *b)
{
	return a->format == b->format && a->size == b->size &&
	       chain_id_equal(&a->uuid, &b->uuid) &&
	       chain_id_equal(&a->cid, &b->cid);
}

/*
 * Its layers were locked for reading, some of them twice; to be sealed the
 * parent is opened anew. Who came between has changed its content id.
 */
static int seal_new(struct rebase *r, struct image *parent, bool *sealed)
{
	char *child = arg_path(r->path);
	struct chain_link now;
	int ret = parent_check(parent, "rebase", r->force);

	if (!ret)
		ret = parent_set_link(parent, &now);
	if (!ret && !same_link(&now, &r->link))
		ret = changed(r);
	if (!ret)
		ret = parent_seal(parent, &layer(r)->hdr.uuid, child, sealed);
	if (!ret && parent->format == DM_CHAIN_FORMAT_CHAIN)
		r->link.cid = parent->hdr.cid;
	free(child);
	return ret;
}

/* Of a stream that was cut off, or a commit that is done: of no use with
 * another parent. */
static void drop_record(struct chain_header *h)
{
	if (!(h->marks & DM_CHAIN_MARK_JOB))
		return;
	h->marks &= ~DM_CHAIN_MARK_JOB;
	memset(&h->record, 0, sizeof(h->record));
	memset(&h->job, 0, sizeof(h->job));
}

static int write_link(struct rebase *r)
{
	struct chain_header *h = &layer(r)->hdr;

	image_clear_use(layer(r));
	drop_record(h);
	h->parent = r->link;
	h->limit = r->limit;
	memcpy(h->parent_path, r->parent_path, sizeof(h->parent_path));
	/* H3: in the safe case nothing changes of what is seen. */
	if (r->unsafe)
		id_random(&h->cid);
	return image_write_header(layer(r));
}

/*
 * A header whose write has failed may be there all the same, and then its parent
 * is to be sealed. The generation tells whether one was begun.
 */
static int move_link(struct rebase *r)
{
	uint64_t generation = layer(r)->hdr.generation;
	struct image parent;
	bool sealed = false;
	int ret = parent_open(&parent, r->backing, r->format, r->path);

	if (ret)
		return ret;
	ret = seal_new(r, &parent, &sealed);
	if (!ret)
		ret = write_link(r);
	if (ret && sealed && layer(r)->hdr.generation == generation)
		parent_take_back(&parent);
	image_close(&parent);
	return ret;
}

/* All but the layer itself: they are read no more. */
static void close_others(struct rebase *r)
{
	walk_close(&r->new);
	while (r->old.nr > 1)
		image_close(&r->old.images[--r->old.nr]);
}

static void report(struct rebase *r)
{
	char id[37], data[32], zero[32];
	json_object *o;

	if (!opt_json) {
		printf("%s: stands on %s now, %s copied, %s made zero\n",
		       layer(r)->path, r->backing,
		       size_text(r->data_bytes, data),
		       size_text(r->zero_bytes, zero));
		return;
	}
	o = json_object_new_object();
	json_object_object_add(o, "path", json_text(layer(r)->path));
	json_object_object_add(o, "uuid",
			       json_text(id_text(&layer(r)->hdr.uuid, id)));
	json_object_object_add(o, "parent", json_text(r->parent));
	json_object_object_add(o, "data-bytes",
			       json_object_new_uint64(r->data_bytes));
	json_object_object_add(o, "zero-bytes",
			       json_object_new_uint64(r->zero_bytes));
	show_json(o);
}

static int rebase(struct rebase *r)
{
	int ret = open_new(r);

	if (!ret)
		ret = open_old(r);
	if (!ret)
		ret = make_link(r);
	if (!ret && !r->unsafe)
		ret = copy(r);
	if (ret)
		return ret;
	close_others(r);
	ret = move_link(r);
	if (!ret)
		report(r);
	return ret;
}

int cmd_rebase(int argc, char **argv)
{
	struct rebase r = { .img = { .fd = -1, .given = -1 } };
	int ret = parse(&r, argc, argv);

	if (!ret)
		ret = rebase(&r);
	image_close(&r.img);
	walk_close(&r.new);
	walk_close(&r.old);
	free(r.parent);
	return ret;
}
