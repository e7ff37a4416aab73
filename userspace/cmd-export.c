// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * dmchain export: a layer and what it stands on become qcow2 images.
 *
 * Each is made and written by QEMU's programs, alone: what the layer holds as data is
 * written, what it holds as zero is zeroed, and the rest is left alone. The images are
 * files without a name until all of them are durable.
 *
 * (What permissions call an export is something else: to open a disk read-only.)
 */
#include "convert.h"
#include "online.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK		(1024 * 1024)
#define MAX_CLUSTER	(2 * 1024 * 1024)
#define SUBCLUSTERS	32

/**
 * struct made - one of the images
 * @path: where it is to be; a raw base: where it is
 * @file: under way
 * @cluster: bytes
 * @extended: its clusters have parts of their own
 * @data_bytes: written to it
 * @zero_bytes: zeroed in it
 */
struct made {
	char *path;
	struct newfile file;
	uint64_t cluster;
	bool extended;
	uint64_t data_bytes;
	uint64_t zero_bytes;
};

/**
 * struct export - what is asked for, and what comes of it
 * @dest: of the top, or a folder
 * @lower: folder of what is below
 * @cluster_given: size of all clusters
 * @cluster: 0: so that each block can be held by itself
 * @verify: compare in the end
 * @w: the layers
 * @t: the images, in the same order
 */
struct export {
	const char *dest;
	const char *lower;
	const char *cluster_given;
	uint64_t cluster;
	bool verify;
	struct walk w;
	struct made *t;
};

static int parse_cluster(struct export *x)
{
	uint64_t n = 0;
	int ret = x->cluster_given ? size_parse(x->cluster_given, NULL, &n) : 0;

	x->cluster = n;
	if (ret || !x->cluster_given ||
	    (n >= 512 && n <= MAX_CLUSTER && !(n & (n - 1))))
		return ret;
	return msg_fail(EXIT_USAGE, "%s: no cluster size; say a power of two from 512 to 2M",
			x->cluster_given);
}

static bool is_raw(const struct export *x, unsigned int i)
{
	return x->w.images[i].format == DM_CHAIN_FORMAT_RAW;
}

static uint64_t layer_size(const struct image *img)
{
	return img->format == DM_CHAIN_FORMAT_RAW ? img->bytes : img->hdr.size;
}

/* --- May it be? --- */

static int check_images(const struct walk *w)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < w->nr && !ret; i++) {
		const struct image *img = &w->images[i];
		char *disk = NULL;

		if (img->format == DM_CHAIN_FORMAT_CHAIN)
			ret = image_check_job(img, "export");
		if (!ret)
			ret = disk_holding(img, true, &disk);
		if (!ret && disk)
			ret = msg_fail(EXIT_REFUSED,
				       "%s: in use, disk %s writes it; a snapshot freezes it (dmchain snapshot %s=NEW), then export it",
				       img->label, disk, disk);
		free(disk);
	}
	return ret;
}

static int open_layers(struct export *x, const char *path, uint32_t format)
{
	int ret = walk_open(&x->w, path, format, WALK_READ_ONLY);

	if (!ret && is_raw(x, 0))
		ret = msg_fail(EXIT_FAILED, "%s: is raw, and needs no dmchain to become another: qemu-img convert -f raw -O qcow2",
			       path);
	if (!ret)
		ret = check_images(&x->w);
	/* Without the module nothing is open. */
	if (!ret && module_present())
		ret = perm_ask_images(path, DM_CHAIN_OP_EXPORT, &x->w, NULL);
	return ret;
}

/* Locks of layers are advice to commands: a job of an open disk asks none. */
static int check_unchanged(const struct export *x, const char *path)
{
	struct walk now;
	unsigned int i;
	bool same;
	int ret = walk_open(&now, path, DM_CHAIN_FORMAT_CHAIN, WALK_READ_ONLY);

	if (ret)
		return ret;
	same = now.nr == x->w.nr;
	for (i = 0; i < now.nr && same; i++)
		same = is_raw(x, i) ||
		       chain_id_equal(&now.images[i].hdr.cid, &x->w.images[i].hdr.cid);
	walk_close(&now);
	return same ? 0 : msg_fail(EXIT_REFUSED,
				   "%s: was changed meanwhile; see dmchain job list, and export it when that is done",
				   path);
}

/* --- Where the images are to be --- */

static int no_memory(const struct export *x)
{
	return msg_fail(EXIT_FAILED, "%s: out of memory", x->dest);
}

static char *name_top(const struct export *x)
{
	char *none = NULL, *folder, *path;

	if (!convert_is_folder(x->dest))
		return path_absolute(x->dest);
	folder = realpath(x->dest, NULL);
	if (!folder)
		return NULL;
	path = convert_name(folder, x->w.images[0].path, ".img", ".qcow2", &none);
	free(folder);
	return path;
}

static int name_lower(struct export *x, const char *folder, char **taken)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < x->w.nr && !ret; i++) {
		struct made *t = &x->t[i];

		if (i && is_raw(x, i))
			t->path = strdup(x->w.images[i].path);
		else if (i)
			t->path = convert_name(folder, x->w.images[i].path,
					       ".img", ".qcow2", taken);
		taken[i] = t->path;
		if (!t->path)
			ret = no_memory(x);
		else if (!is_raw(x, i))
			ret = newfile_free(t->path);
	}
	return ret;
}

/* Those that the layers' names are to give. */
static int check_names(const struct export *x)
{
	unsigned int i;
	int ret = 0;

	for (i = !convert_is_folder(x->dest); i < x->w.nr && !ret; i++)
		if (!is_raw(x, i))
			ret = convert_check_name(x->w.images[i].path);
	return ret;
}

static int name_all(struct export *x)
{
	char **taken = calloc(x->w.nr + 1, sizeof(*taken)), *folder = NULL;
	int ret = check_names(x);

	x->t = calloc(x->w.nr, sizeof(*x->t));
	if (!ret && (!taken || !x->t))
		ret = no_memory(x);
	else if (!ret && x->lower && !convert_is_folder(x->lower))
		ret = msg_fail(EXIT_FAILED, "%s: is no folder", x->lower);
	if (!ret) {
		x->t[0].path = name_top(x);
		if (!x->t[0].path)
			ret = msg_fail_errno(EXIT_FAILED, errno, "%s: can't make it",
					     x->dest);
	}
	if (!ret) {
		folder = x->lower ? realpath(x->lower, NULL) :
				    convert_folder(x->t[0].path);
		ret = folder ? name_lower(x, folder, taken) : no_memory(x);
	}
	free(folder);
	free(taken);
	return ret;
}

/* --- One image --- */

/*
 * Blocks of which each can be held by itself: clusters of that size, or, as large
 * ones are faster, parts of clusters.
 */
static void choose_cluster(const struct export *x, unsigned int i)
{
	uint64_t block = 1ULL << x->w.images[i].hdr.block_shift;
	struct made *t = &x->t[i];

	t->cluster = x->cluster ? x->cluster : block;
	if (x->cluster || block * SUBCLUSTERS > MAX_CLUSTER)
		return;
	t->cluster = block * SUBCLUSTERS;
	t->extended = true;
}

/* As its header is to name it: a plain path, whatever QEMU finds in a name. */
static char *backing_name(const struct export *x, unsigned int i)
{
	const char *own = x->t[i].path, *below = x->t[i + 1].path;
	const char *slash = strrchr(own, '/'), *name = strrchr(below, '/');
	char *text = NULL;

	if (slash - own != name - below || strncmp(own, below, (size_t)(slash - own)))
		return strdup(below);
	if (asprintf(&text, "%s%s", strchr(name + 1, ':') ? "./" : "", name + 1) < 0)
		return NULL;
	return text;
}

static int create(struct export *x, unsigned int i)
{
	char size[24], options[80], file[32], *backing = NULL;
	const char *argv[16] = { "qemu-img", "create", "-q", "-f", "qcow2", "-o",
				 options };
	bool top = i + 1 == x->w.nr;
	struct made *t = &x->t[i];
	int n = 7, ret;

	snprintf(size, sizeof(size), "%llu",
		 (unsigned long long)x->w.images[i].hdr.size);
	snprintf(file, sizeof(file), "/dev/fd/%d", t->file.fd);
	snprintf(options, sizeof(options), "compat=1.1,cluster_size=%llu%s",
		 (unsigned long long)t->cluster,
		 t->extended ? ",extended_l2=on" : "");
	if (!top) {
		backing = backing_name(x, i);
		if (!backing)
			return no_memory(x);
		/* -u: it has no name yet. */
		argv[n++] = "-u";
		argv[n++] = "-F";
		argv[n++] = is_raw(x, i + 1) ? "raw" : "qcow2";
		argv[n++] = "-b";
		argv[n++] = backing;
	}
	argv[n++] = file;
	argv[n++] = size;
	ret = tool_run(EXIT_FAILED, argv, t->path, NULL);
	free(backing);
	return ret;
}

/* An image that is under way, alone or with what is below it. */
static json_object *node(const struct export *x, unsigned int i, bool deep)
{
	json_object *below = NULL;
	char file[32];

	if (deep && i + 1 < x->w.nr)
		below = node(x, i + 1, true);
	if (is_raw(x, i))
		return qnode_image("raw", qnode_file(x->t[i].path,
						     x->w.images[i].is_bdev), NULL);
	snprintf(file, sizeof(file), "/dev/fd/%d", x->t[i].file.fd);
	return qnode_image("qcow2", qnode_file(file, false), below);
}

static int write_data(struct export *x, unsigned int i, struct qserver *s,
		      uint64_t pos, uint64_t len)
{
	static uint8_t buf[CHUNK];
	struct image *img = &x->w.images[i];
	int ret = 0;

	while (len && !ret) {
		size_t part = len < CHUNK ? len : CHUNK;

		ret = image_read(img, buf, part, img->hdr.data_offset + pos);
		if (!ret)
			ret = qserver_write(s, buf, part, pos);
		work_step(part);
		pos += part;
		len -= part;
	}
	return ret;
}

static int damaged(const struct image *img)
{
	return msg_fail(EXIT_IMAGE, "%s: its map is damaged; dmchain check --repair it first",
			img->path);
}

/* A run of blocks of one state; the last block may end behind the disk. */
static int write_run(struct export *x, unsigned int i, struct qserver *s,
		     uint64_t pos, uint64_t end, unsigned int state)
{
	struct made *t = &x->t[i];

	switch (state) {
	case DM_CHAIN_DATA:
		t->data_bytes += end - pos;
		return write_data(x, i, s, pos, end - pos);
	case DM_CHAIN_ZERO:
		t->zero_bytes += end - pos;
		return qserver_zero(s, end - pos, pos);
	case DM_CHAIN_DAMAGED:
		return damaged(&x->w.images[i]);
	default:
		return 0;
	}
}

/*
 * Above its limit a layer doesn't show its parent, but zeroes. qcow2 knows no such
 * thing, so there they are written.
 */
static int write_absent(struct export *x, unsigned int i, struct qserver *s,
			uint64_t pos, uint64_t end)
{
	const struct chain_header *h = &x->w.images[i].hdr;
	uint64_t below = i + 1 < x->w.nr ? layer_size(&x->w.images[i + 1]) : 0;

	if (pos < h->limit)
		pos = h->limit;
	if (end > below)
		end = below;
	return pos < end ? write_run(x, i, s, pos, end, DM_CHAIN_ZERO) : 0;
}

static int write_all(struct export *x, unsigned int i, struct qserver *s)
{
	const struct chain_header *h = &x->w.images[i].hdr;
	uint64_t block, next, blocks = chain_blocks(h), pos, end;
	struct imgmap map;
	unsigned int state;
	int ret = imgmap_load(&map, &x->w.images[i]);

	if (!ret && (map.damaged || map.damaged_presence))
		ret = damaged(&x->w.images[i]);
	for (block = 0; block < blocks && !ret; block = next) {
		state = imgmap_state(&map, block);
		next = imgmap_run(&map, block, blocks);
		pos = block << h->block_shift;
		end = next << h->block_shift;
		if (end > h->size)
			end = h->size;
		ret = state == DM_CHAIN_ABSENT ? write_absent(x, i, s, pos, end) :
		      write_run(x, i, s, pos, end, state);
	}
	imgmap_free(&map);
	return ret ? ret : qserver_flush(s);
}

/*
 * Is a part of what QEMU allocates at a time to show what is below? That has to be
 * filled up from there: of a cluster of several blocks, and where the limit cuts a
 * block. Else QEMU needn't open what is below.
 */
static bool needs_below(const struct export *x, unsigned int i)
{
	const struct chain_header *h = &x->w.images[i].hdr;
	uint64_t block = 1ULL << h->block_shift;
	uint64_t grain = x->cluster ? x->cluster : block;

	return grain > block || h->limit % grain;
}

static int make_image(struct export *x, unsigned int i)
{
	struct made *t = &x->t[i];
	struct qserver s;
	int ret;

	choose_cluster(x, i);
	ret = newfile_make(&t->file, t->path);
	if (!ret)
		ret = create(x, i);
	if (ret)
		return ret;
	ret = qserver_open(&s, t->path, node(x, i, needs_below(x, i)), true);
	if (ret)
		return ret;
	ret = write_all(x, i, &s);
	qserver_close(&s);
	return ret;
}

static int make_all(struct export *x)
{
	unsigned int i;
	int ret = 0;

	for (i = x->w.nr; i-- && !ret; )
		if (!is_raw(x, i))
			ret = make_image(x, i);
	return ret;
}

static int verify(struct export *x)
{
	struct qserver s;
	struct view v;
	int ret = view_of_walk(&v, x->w.images[0].path, &x->w);

	if (!ret)
		ret = qserver_open(&s, x->t[0].path, node(x, 0, true), false);
	if (!ret) {
		work_begin(x->dest, "verify", x->w.images[0].hdr.size);
		ret = qserver_verify(&s, &v,
				     "see what is wrong with where they lie");
		work_end();
		qserver_close(&s);
	}
	view_free(&v);
	return ret;
}

/* --- The end --- */

static int place_all(struct export *x)
{
	unsigned int i;
	int ret = 0;

	for (i = x->w.nr; i-- && !ret; )
		if (!is_raw(x, i))
			ret = newfile_place(&x->t[i].file);
	for (i = 0; i < x->w.nr && ret; i++)
		newfile_remove(&x->t[i].file);
	return ret;
}

/* An interrupt comes before the first name, or after the last. */
static int place(struct export *x)
{
	int ret;

	signals_hold();
	ret = place_all(x);
	signals_go();
	return ret;
}

static json_object *image_json(const struct export *x, unsigned int i)
{
	json_object *o = json_object_new_object();
	uint64_t size = layer_size(&x->w.images[i]);

	json_object_object_add(o, "path", json_text(x->t[i].path));
	json_object_object_add(o, "source", json_text(x->w.images[i].path));
	json_object_object_add(o, "format",
			       json_text(is_raw(x, i) ? "raw" : "qcow2"));
	json_object_object_add(o, "virtual-size", json_object_new_uint64(size));
	json_object_object_add(o, "data-bytes", json_object_new_uint64(
			       is_raw(x, i) ? size : x->t[i].data_bytes));
	json_object_object_add(o, "zero-bytes",
			       json_object_new_uint64(x->t[i].zero_bytes));
	return o;
}

static void report(const struct export *x)
{
	json_object *o, *a;
	char data[32], zero[32];
	unsigned int i;

	for (i = 0; i < x->w.nr && !opt_json; i++)
		if (is_raw(x, i))
			msg_say("%s: raw, stays where it is", x->t[i].path);
		else
			msg_say("%s: from %s, data %s, zero %s", x->t[i].path,
				x->w.images[i].path,
				size_text(x->t[i].data_bytes, data),
				size_text(x->t[i].zero_bytes, zero));
	if (!opt_json)
		return;
	o = json_object_new_object();
	a = json_object_new_array();
	for (i = 0; i < x->w.nr; i++)
		json_object_array_add(a, image_json(x, i));
	json_object_object_add(o, "path", json_text(x->t[0].path));
	json_object_object_add(o, "layers", a);
	show_json(o);
}

/* Bytes of data in all layers, for the progress. */
static int count_data(struct export *x, uint64_t *total)
{
	unsigned int i;
	int ret = 0;

	*total = 0;
	for (i = 0; i < x->w.nr && !ret; i++) {
		struct image *img = &x->w.images[i];
		struct imgmap map;

		if (is_raw(x, i))
			continue;
		ret = imgmap_load(&map, img);
		if (ret)
			break;
		*total += imgmap_count(&map, &img->hdr, DM_CHAIN_DATA);
		imgmap_free(&map);
	}
	return ret;
}

static int export(struct export *x, const char *path, uint32_t format)
{
	uint64_t total;
	int ret = open_layers(x, path, format);

	if (!ret)
		ret = name_all(x);
	if (!ret)
		ret = count_data(x, &total);
	if (ret)
		return ret;
	work_begin(path, "export", total);
	ret = make_all(x);
	work_end();
	if (!ret && x->verify)
		ret = verify(x);
	if (!ret)
		ret = check_unchanged(x, path);
	if (!ret)
		ret = place(x);
	if (!ret)
		report(x);
	return ret;
}

static void drop(struct export *x)
{
	unsigned int i;

	for (i = 0; i < x->w.nr && x->t; i++) {
		if (x->t[i].file.path)
			newfile_close(&x->t[i].file);
		free(x->t[i].path);
	}
	free(x->t);
	walk_close(&x->w);
}

static int not_a_path(const char *arg)
{
	return msg_fail(EXIT_USAGE, "%s: is no image; an open disk's frozen layers can be exported, dmchain info %s shows where they are",
			arg, arg);
}

int cmd_export(int argc, char **argv)
{
	struct export x = { .dest = NULL };
	const struct arg_opt opts[] = {
		{ "lower-in", &x.lower, NULL },
		{ "cluster-size", &x.cluster_given, NULL },
		{ "verify", NULL, &x.verify },
		{ NULL, NULL, NULL },
	};
	int ret = args_parse_layer(&argc, &argv, opts, 2, 2, 0);

	if (!ret)
		ret = parse_cluster(&x);
	if (!ret && !arg_is_path(argv[0]))
		ret = not_a_path(argv[0]);
	if (ret)
		return ret;
	x.dest = argv[1];
	ret = export(&x, argv[0], DM_CHAIN_FORMAT_CHAIN);
	drop(&x);
	return ret;
}
