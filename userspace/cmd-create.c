// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * dmchain create: a new layer, alone or on a parent.
 */
#include "offline.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/**
 * struct create - what is asked for, and what comes of it
 * @path: as the user named it, a path or a descriptor
 * @backing: the same of the parent
 * @size_given: --size is there; else the parent's size counts
 * @child: the new layer
 * @hdr: its header
 * @parent: the layer below; has no path if there is none
 * @sealed_now: the parent was sealed by this, so that undoing takes it back
 */
struct create {
	const char *path;
	const char *size_given;
	const char *block_size_given;
	const char *max_size_given;
	const char *backing;
	const char *backing_format;
	bool force;
	uint64_t size;
	uint64_t max_size;
	uint32_t block_shift;
	uint32_t format;
	struct image child;
	struct chain_header hdr;
	struct image parent;
	bool sealed_now;
};

static int block_shift(const char *text, uint32_t *shift)
{
	uint64_t bytes;
	int ret = size_parse(text, NULL, &bytes);

	if (ret)
		return ret;
	for (*shift = DM_CHAIN_MIN_BLOCK_SHIFT;
	     *shift <= DM_CHAIN_MAX_BLOCK_SHIFT; ++*shift)
		if (bytes == 1ULL << *shift)
			return 0;
	return msg_fail(EXIT_USAGE,
			"%s: no block size; say a power of two from 4K to 1M",
			text);
}

static int parse_size(const char *text, uint64_t *size)
{
	int ret = size_parse(text, NULL, size);

	if (ret || (*size && *size <= DM_CHAIN_MAX_SIZE && *size % 512 == 0))
		return ret;
	return msg_fail(EXIT_USAGE,
			"%s: no size for a disk; it must be a multiple of 512, at most 64T",
			text);
}

static int parse(struct create *c, int argc, char **argv)
{
	const struct arg_opt opts[] = {
		{ "size", &c->size_given, NULL },
		{ "backing", &c->backing, NULL },
		{ "backing-format", &c->backing_format, NULL },
		{ "block-size", &c->block_size_given, NULL },
		{ "max-size", &c->max_size_given, NULL },
		{ "force", NULL, &c->force },
		{ NULL, NULL, NULL },
	};
	int ret = args_parse_layer(&argc, &argv, opts, 1, 1, 0);

	c->block_shift = DM_CHAIN_MIN_BLOCK_SHIFT;
	if (!ret && c->block_size_given)
		ret = block_shift(c->block_size_given, &c->block_shift);
	if (!ret && c->size_given)
		ret = parse_size(c->size_given, &c->size);
	if (!ret && c->max_size_given)
		ret = parse_size(c->max_size_given, &c->max_size);
	if (!ret && c->backing_format)
		ret = args_format(c->backing_format, &c->format);
	if (ret)
		return ret;
	c->path = argv[0];
	if (c->backing && (ret = arg_layer_check(c->backing)))
		return ret;
	if (!c->size_given && !c->backing)
		return msg_fail(EXIT_USAGE, "%s: how large? say --size", c->path);
	if (!c->backing != !c->backing_format)
		return msg_fail(EXIT_USAGE,
				"%s: --backing and --backing-format go together, as a format is never guessed",
				c->path);
	return 0;
}

/* A device that is part of the parent's chain can't be the new layer. */
static int check_chain(struct create *c, struct walk *w)
{
	struct image self;
	unsigned int i;
	int ret;

	if (w->nr == DM_CHAIN_MAX_LAYERS)
		return msg_fail(EXIT_FAILED,
				"%s: has %d layers already, more can't be; merge some first",
				c->backing, DM_CHAIN_MAX_LAYERS);
	if (!device_bytes(c->path))
		return 0;
	ret = image_init(&self, c->path, DM_CHAIN_FORMAT_CHAIN, NULL);
	if (!ret)
		ret = image_identify(&self);
	for (i = 0; !ret && i < w->nr; i++)
		if (image_same(&self, &w->images[i]))
			ret = msg_fail(EXIT_FAILED,
				       "%s: is a layer below itself then; choose another device",
				       c->path);
	image_close(&self);
	return ret;
}

static int open_parent(struct create *c)
{
	struct walk w;
	int ret = parent_open(&c->parent, c->backing, c->format, c->path);

	if (ret)
		return ret;
	/* The parent lives on when the walk is over, so that its lock holds. */
	ret = walk_from(&w, &c->parent, WALK_READ_ONLY);
	memset(&c->parent, 0, sizeof(c->parent));
	if (ret)
		return ret;
	ret = check_chain(c, &w);
	c->parent = w.images[0];
	memset(&w.images[0], 0, sizeof(w.images[0]));
	walk_close(&w);
	return ret ? ret : parent_check(&c->parent, "create", c->force);
}

static uint64_t parent_size(const struct create *c)
{
	return c->format == DM_CHAIN_FORMAT_RAW ? c->parent.bytes :
						  c->parent.hdr.size;
}

static int check_parent_size(const struct create *c)
{
	if (parent_size(c) <= DM_CHAIN_MAX_SIZE)
		return 0;
	return msg_fail(EXIT_IMAGE, "%s: larger than the 64T that a layer may have",
			c->backing);
}

/* Room in the maps: as asked for; a device: what fits; else by rule. */
static int choose_max_size(struct create *c)
{
	uint64_t bytes = device_bytes(c->path);

	if (!c->max_size && bytes)
		c->max_size = chain_max_size_for(bytes, c->block_shift);
	else if (!c->max_size)
		c->max_size = chain_default_max_size(c->size);
	if (c->max_size_given && c->max_size < c->size)
		return msg_fail(EXIT_USAGE, "%s: --max-size is less than the size",
				c->path);
	/* Too small a device is told of when it is opened, with the figures. */
	if (c->max_size < c->size)
		c->max_size = c->size;
	return 0;
}

/* How the child finds its parent again. A relative way begins at a path. */
static int make_parent_hint(struct create *c)
{
	char *child = arg_path(c->path), *parent;
	int ret;

	if (c->parent.nameless) {
		free(child);
		return msg_fail(EXIT_FAILED,
				"%s: has no path by which its child could find it; pass a file that has a name",
				c->backing);
	}
	parent = arg_fd(c->backing) >= 0 || !child ? strdup(c->parent.path) :
						     strdup(c->backing);
	ret = !parent ? msg_fail(EXIT_FAILED, "%s: out of memory", c->path) :
	      hint_make(c->hdr.parent_path, child ? child : parent, parent);
	free(child);
	free(parent);
	return ret;
}

static int set_link(struct create *c)
{
	struct chain_header *h = &c->hdr;
	int ret = make_parent_hint(c);

	if (!ret)
		ret = parent_set_link(&c->parent, &h->parent);
	h->limit = h->size < h->parent.size ? h->size : h->parent.size;
	return ret;
}

static int set_header(struct create *c)
{
	int ret = choose_max_size(c);

	if (ret)
		return ret;
	if (chain_header_init(&c->hdr, c->size, c->max_size, c->block_shift))
		return msg_fail(EXIT_USAGE, "%s: no such layer can be made", c->path);
	id_random(&c->hdr.uuid);
	id_random(&c->hdr.cid);
	while (getrandom(&c->hdr.map_seed, sizeof(c->hdr.map_seed), 0) !=
	       sizeof(c->hdr.map_seed))
		;
	return c->backing ? set_link(c) : 0;
}

static int mark_parent(struct create *c)
{
	char *child;
	int ret;

	if (!c->backing)
		return 0;
	child = arg_path(c->path);
	ret = parent_seal(&c->parent, &c->hdr.uuid, child, &c->sealed_now);
	free(child);
	/* Sealing a forced parent gave it a new id. */
	if (c->format == DM_CHAIN_FORMAT_CHAIN)
		c->child.hdr.parent.cid = c->parent.hdr.cid;
	return ret;
}

static int make(struct create *c)
{
	int ret = image_make(&c->child, c->path, &c->hdr);

	if (ret)
		return ret;
	ret = mark_parent(c);
	if (!ret)
		ret = image_make_commit(&c->child);
	if (ret) {
		image_make_undo(&c->child);
		if (c->sealed_now)
			parent_take_back(&c->parent);
	}
	return ret;
}

static void report_json(const struct create *c)
{
	json_object *o = json_object_new_object();
	char id[37];

	json_object_object_add(o, "path", json_text(c->child.path));
	json_object_object_add(o, "uuid",
		json_object_new_string(id_text(&c->hdr.uuid, id)));
	json_object_object_add(o, "virtual-size",
			       json_object_new_uint64(c->hdr.size));
	json_object_object_add(o, "max-size",
			       json_object_new_uint64(c->hdr.max_size));
	json_object_object_add(o, "block-size",
			       json_object_new_int64(1 << c->hdr.block_shift));
	json_object_object_add(o, "parent",
			       c->backing ? json_text(c->parent.path) : NULL);
	show_json(o);
}

static void report(const struct create *c)
{
	char size[32], block[32], id[37];

	if (opt_json) {
		report_json(c);
		return;
	}
	msg_say("%s: %s, blocks of %s, uuid %s%s%s", c->path,
		size_text(c->hdr.size, size),
		size_text(1ULL << c->hdr.block_shift, block),
		id_text(&c->hdr.uuid, id), c->backing ? ", on " : "",
		c->backing ? c->backing : "");
}

static int create(struct create *c)
{
	int ret = 0;

	if (c->backing) {
		ret = open_parent(c);
		if (!ret)
			ret = check_parent_size(c);
		if (!ret && !c->size_given)
			c->size = parent_size(c);
	}
	if (!ret)
		ret = set_header(c);
	if (!ret)
		ret = make(c);
	if (!ret)
		report(c);
	return ret;
}

int cmd_create(int argc, char **argv)
{
	struct create c = { 0 };
	int ret = parse(&c, argc, argv);

	if (!ret)
		ret = create(&c);
	image_close(&c.child);
	image_close(&c.parent);
	return ret;
}
