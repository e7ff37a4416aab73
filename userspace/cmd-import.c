// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * dmchain import: a qcow2 image and what it stands on become layers.
 *
 * Data is written into the new layers by the controller itself, not through an open
 * disk: so neither the module nor a device is needed, each block gets the state that
 * it has in the image (a disk would make data of zeroes, or the other way round), and
 * nothing has to be undone if it ends half way: all layers are files without a name
 * until the last byte is durable. Then they get their names, the lowest first. A
 * block device has a name; it gets its header last.
 */
#include "convert.h"
#include "online.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define CHUNK	(1024 * 1024)

/**
 * struct target - one of the layers
 * @path: where it is to be; a raw base: where it is
 * @file: under way; not of a device
 * @device: it is a block device
 * @begun: something was written to it
 * @count: bytes of data that it is to hold
 * @data_bytes: that it holds
 * @zero_bytes: in blocks that are zero
 */
struct target {
	char *path;
	struct newfile file;
	bool device;
	bool begun;
	uint64_t count;
	uint64_t data_bytes;
	uint64_t zero_bytes;
};

/**
 * struct import - what is asked for, and what comes of it
 * @dest: of the top, or a folder, as the user named it
 * @lower: folder of what is below
 * @shift: of the block size
 * @overwrite: a device's contents are given up
 * @verify: compare in the end
 * @onto: layer that takes the place of what the image stands on; or NULL
 * @src: the images
 * @nr: of them, those that become layers
 * @w: the layers, in the same order
 * @t: the same
 * @below: of @onto: that and what it stands on
 * @sealed: it was sealed by this, so that undoing takes it back
 */
struct import {
	const char *dest;
	const char *lower;
	const char *block_size;
	bool overwrite;
	bool verify;
	const char *onto;
	uint32_t shift;
	struct qchain src;
	unsigned int nr;
	struct walk w;
	struct target *t;
	struct walk below;
	bool sealed;
};

static int parse_block_size(struct import *m)
{
	uint64_t bytes = 1ULL << DM_CHAIN_MIN_BLOCK_SHIFT;
	int ret = m->block_size ? size_parse(m->block_size, NULL, &bytes) : 0;

	if (ret)
		return ret;
	for (m->shift = DM_CHAIN_MIN_BLOCK_SHIFT;
	     m->shift <= DM_CHAIN_MAX_BLOCK_SHIFT; m->shift++)
		if (bytes == 1ULL << m->shift)
			return 0;
	return msg_fail(EXIT_USAGE,
			"%s: no block size; say a power of two from 4K to 1M",
			m->block_size);
}

/* --- Where the layers are to be --- */

static int no_memory(const struct import *m)
{
	return msg_fail(EXIT_FAILED, "%s: out of memory", m->dest);
}

static int name_top(struct import *m)
{
	char *none = NULL, *folder;
	struct target *t = m->t;

	if (!convert_is_folder(m->dest)) {
		t->path = path_absolute(m->dest);
		t->device = device_bytes(m->dest);
		return t->path ? 0 : msg_fail_errno(EXIT_FAILED, errno,
						    "%s: can't make it", m->dest);
	}
	folder = realpath(m->dest, NULL);
	if (folder)
		t->path = convert_name(folder, m->src.images[0].path, ".qcow2",
				       ".img", &none);
	free(folder);
	return t->path ? 0 : no_memory(m);
}

static int lower_folder(const struct import *m, char **folder)
{
	if (!m->lower && m->t[0].device)
		return msg_fail(EXIT_USAGE,
				"%s: is a device, and there are layers below it; say where they are to be by --lower-in FOLDER",
				m->dest);
	if (m->lower && !convert_is_folder(m->lower))
		return msg_fail(EXIT_FAILED, "%s: is no folder", m->lower);
	*folder = m->lower ? realpath(m->lower, NULL) :
			     convert_folder(m->t[0].path);
	return *folder ? 0 : no_memory(m);
}

static int name_lower(struct import *m, const char *folder)
{
	char **taken = calloc(m->nr + 1, sizeof(*taken));
	unsigned int i;
	int ret = taken ? 0 : no_memory(m);

	for (i = 0; i < m->nr && !ret; i++) {
		struct target *t = &m->t[i];
		const struct qimage *q = &m->src.images[i];

		if (i && q->raw)
			t->path = strdup(q->path);
		else if (i)
			t->path = convert_name(folder, q->path, ".qcow2", ".img",
					       taken);
		taken[i] = t->path;
		ret = t->path ? 0 : no_memory(m);
	}
	free(taken);
	return ret;
}

static int is_source(const struct import *m, const char *path)
{
	return msg_fail(EXIT_REFUSED,
			"%s: holds %s, which the import reads; choose another device",
			m->dest, path);
}

/* Nobody gives up what is to be read, whatever else --overwrite allows. */
static int check_no_source(const struct import *m)
{
	struct image dest = { .is_bdev = true };
	struct stat st;
	unsigned int i;

	if (arg_stat(m->dest, &st))
		return 0;	/* opening it will tell */
	dest.dev = st.st_rdev;
	for (i = 0; i < m->src.nr; i++) {
		const struct qimage *q = &m->src.images[i];
		struct image img = {
			.is_bdev = q->is_bdev, .dev = q->dev, .ino = q->ino,
		};

		if (image_same(&dest, &img))
			return is_source(m, q->path);
	}
	for (i = 0; i < m->below.nr; i++)
		if (image_same(&dest, &m->below.images[i]))
			return is_source(m, m->below.images[i].path);
	return 0;
}

static int check_device(const struct import *m)
{
	if (m->overwrite)
		return check_no_source(m);
	return msg_fail(EXIT_FAILED,
			"%s: is a device, and would lose its contents; if it may, say --overwrite",
			m->dest);
}

static int check_free(const struct import *m)
{
	unsigned int i;
	int ret = m->t[0].device ? check_device(m) : 0;

	for (i = m->t[0].device; i < m->nr && !ret; i++)
		if (!m->src.images[i].raw)
			ret = newfile_free(m->t[i].path);
	return ret;
}

/* Those that the images' names are to give. */
static int check_names(const struct import *m)
{
	unsigned int i;
	int ret = 0;

	for (i = !convert_is_folder(m->dest); i < m->nr && !ret; i++)
		if (!m->src.images[i].raw)
			ret = convert_check_name(m->src.images[i].path);
	return ret;
}

static int name_all(struct import *m)
{
	char *folder = NULL;
	int ret = check_names(m);

	if (ret)
		return ret;

	m->t = calloc(m->nr, sizeof(*m->t));
	m->w.images = calloc(m->nr, sizeof(*m->w.images));
	if (!m->t || !m->w.images)
		return no_memory(m);
	ret = name_top(m);
	if (!ret && m->nr > 1 && !m->src.images[1].raw)
		ret = lower_folder(m, &folder);
	if (!ret)
		ret = name_lower(m, folder);
	free(folder);
	return ret ? ret : check_free(m);
}

/* --- What there is to do --- */

/**
 * struct layer_run - one image is gone through
 * @s: serves it
 * @img: the layer that it becomes
 * @fill: of that
 * @blocks: makes blocks of what the server says
 * @bytes: of data, so far
 */
struct layer_run {
	struct qserver s;
	struct image *img;
	struct layer_fill fill;
	struct blockrun blocks;
	uint64_t bytes;
};

static unsigned int state_of(const struct qextent *e)
{
	return e->depth != 1 ? DM_CHAIN_ABSENT :
	       e->zero ? DM_CHAIN_ZERO : DM_CHAIN_DATA;
}

static int add_extent(const struct qextent *e, void *arg)
{
	return blockrun_add(arg, e->length, state_of(e));
}

/*
 * If the image holds less than whole blocks, what is below it has to be in them,
 * too. Else QEMU needn't open that.
 */
static int run_layer(struct import *m, unsigned int i, struct layer_run *r,
		     int (*cb)(uint64_t block, uint64_t nr, unsigned int state,
			       void *arg))
{
	const struct qimage *q = &m->src.images[i];
	bool deep = q->grain < 1ULL << m->shift;
	int ret = qserver_open(&r->s, q->path, qchain_node(&m->src, i, deep), false);

	if (ret)
		return ret;
	r->blocks = (struct blockrun){
		.shift = m->shift, .size = q->size, .cb = cb, .arg = r,
	};
	if (r->s.size != q->size)
		ret = msg_fail(EXIT_REFUSED, "%s: has changed meanwhile; see who writes it",
			       q->path);
	if (!ret)
		ret = qserver_map(&r->s, add_extent, &r->blocks);
	qserver_close(&r->s);
	return ret;
}

static int count_run(uint64_t block, uint64_t nr, unsigned int state, void *arg)
{
	struct layer_run *r = arg;

	(void)block;
	if (state == DM_CHAIN_DATA)
		r->bytes += nr << r->blocks.shift;
	return 0;
}

static int count_all(struct import *m, uint64_t *total)
{
	unsigned int i;
	int ret = 0;

	*total = 0;
	for (i = 0; i < m->nr && !ret; i++) {
		struct layer_run r = { .bytes = 0 };

		if (m->src.images[i].raw)
			continue;
		ret = run_layer(m, i, &r, count_run);
		m->t[i].count = r.bytes;
		*total += r.bytes;
	}
	return ret;
}

/* What all layers need that go where the @i-th goes. */
static int check_space(const struct import *m, unsigned int i)
{
	char *folder = convert_folder(m->t[i].path), need_text[32], has_text[32];
	uint64_t need = 0, has;
	struct stat st, other;
	struct statvfs fs;
	unsigned int j;
	int ret = 0;

	if (!folder || stat(folder, &st) || statvfs(folder, &fs)) {
		free(folder);
		return 0;	/* making the file will tell */
	}
	for (j = 0; j < m->nr; j++) {
		char *at = convert_folder(m->t[j].path);

		if (at && !stat(at, &other) && other.st_dev == st.st_dev)
			need += m->t[j].device ? 0 : m->t[j].count;
		free(at);
	}
	has = (uint64_t)fs.f_bavail * fs.f_frsize;
	if (need > has)
		ret = msg_fail(EXIT_FAILED,
			       "%s: not enough space: the layers need %s, %s are free in %s; make room or choose another place",
			       m->t[i].path, size_text(need, need_text),
			       size_text(has, has_text), folder);
	free(folder);
	return ret;
}

static int check_spaces(const struct import *m)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < m->nr && !ret; i++)
		if (!m->src.images[i].raw && !m->t[i].device)
			ret = check_space(m, i);
	return ret;
}

/* --- One layer --- */

static int copy_data(struct layer_run *r, uint64_t pos, uint64_t len)
{
	static uint8_t buf[CHUNK];
	const struct chain_header *h = &r->img->hdr;
	int ret = 0;

	while (len && !ret) {
		size_t part = len < CHUNK ? len : CHUNK, there = part;

		/* The disk may end within its last block. */
		if (pos + part > h->size) {
			there = h->size - pos;
			memset(buf + there, 0, part - there);
		}
		ret = qserver_read(&r->s, buf, there, pos);
		if (!ret)
			ret = image_write(r->img, buf, part, h->data_offset + pos);
		work_step(part);
		pos += part;
		len -= part;
	}
	return ret;
}

static int fill_run(uint64_t block, uint64_t nr, unsigned int state, void *arg)
{
	struct layer_run *r = arg;
	int ret;

	if (state == DM_CHAIN_ABSENT)
		return 0;
	ret = layer_fill_states(&r->fill, block, nr, state);
	if (!ret && state == DM_CHAIN_DATA)
		ret = copy_data(r, block << r->blocks.shift,
				nr << r->blocks.shift);
	return ret;
}

static int fill_layer(struct import *m, unsigned int i)
{
	struct layer_run r = { .img = &m->w.images[i] };
	int ret = layer_fill_begin(&r.fill, r.img);

	if (!ret)
		ret = run_layer(m, i, &r, fill_run);
	if (!ret)
		ret = layer_fill_end(&r.fill);
	m->t[i].data_bytes = r.fill.data_bytes;
	m->t[i].zero_bytes = r.fill.zero_bytes;
	layer_fill_free(&r.fill);
	return ret;
}

/* --- Headers: all are known before the first is written --- */

static int set_sizes(const struct import *m, unsigned int i, struct chain_header *h)
{
	uint64_t size = m->src.images[i].size, max = chain_default_max_size(size);

	if (m->t[i].device)
		max = chain_max_size_for(device_bytes(m->dest), m->shift);
	/* Too small a device is told of when it is written, with the figures. */
	if (max < size)
		max = size;
	if (chain_header_init(h, size, max, m->shift))
		return msg_fail(EXIT_FAILED, "%s: no such layer can be made",
				m->t[i].path);
	return 0;
}

static struct image *parent_of(struct import *m, unsigned int i)
{
	if (m->onto)
		return &m->below.images[0];
	return i + 1 < m->nr ? &m->w.images[i + 1] : NULL;
}

/* It names its parent, which is complete, and its child, which is to come. */
static int set_links(struct import *m, unsigned int i, struct chain_header *h)
{
	const struct chain_id *child = i ? &m->w.images[i - 1].hdr.uuid : NULL;
	struct image *parent = parent_of(m, i);
	int ret = 0;

	if (parent) {
		ret = parent_set_link(parent, &h->parent);
		if (!ret)
			ret = hint_make_near(h->parent_path, m->t[i].path,
					     parent->path, false);
		h->limit = h->size < h->parent.size ? h->size : h->parent.size;
	}
	if (!child || ret)
		return ret;
	h->marks = DM_CHAIN_MARK_SEALED;
	h->sealed_by = *child;
	return hint_make_near(h->child_path, m->t[i].path, m->t[i - 1].path, false);
}

static void set_ids(struct import *m)
{
	unsigned int i;

	for (i = 0; i < m->nr; i++)
		id_random(&m->w.images[i].hdr.uuid);
}

static int make_header(struct import *m, unsigned int i, struct chain_header *h)
{
	int ret = set_sizes(m, i, h);

	if (ret)
		return ret;
	h->uuid = m->w.images[i].hdr.uuid;
	id_random(&h->cid);
	while (getrandom(&h->map_seed, sizeof(h->map_seed), 0) !=
	       sizeof(h->map_seed))
		;
	return set_links(m, i, h);
}

static int make_layer(struct import *m, unsigned int i)
{
	struct image *img = &m->w.images[i];
	struct target *t = &m->t[i];
	struct chain_header h;
	int ret;

	if (m->src.images[i].raw)
		return parent_open(img, t->path, DM_CHAIN_FORMAT_RAW,
				   m->t[i - 1].path);
	ret = make_header(m, i, &h);
	if (!ret && !t->device)
		ret = newfile_make(&t->file, t->path);
	if (ret)
		return ret;
	ret = t->device ? image_make(img, m->dest, &h) :
			  image_make_given(img, t->path, t->file.fd, &h);
	t->begun = !ret;
	if (!ret)
		ret = fill_layer(m, i);
	/* A device's name is known: the others come first. */
	if (!ret && !t->device)
		ret = image_make_commit(img);
	return ret;
}

static int make_all(struct import *m)
{
	unsigned int i;
	int ret = 0;

	set_ids(m);
	m->w.nr = m->nr;
	for (i = m->nr; i-- && !ret; )
		ret = make_layer(m, i);
	return ret;
}

/* --- The layers as a disk --- */

/* What was made, and what it stands on, as one chain; the images stay where they are. */
static int join(const struct import *m, struct walk *all)
{
	unsigned int i;

	all->nr = m->nr + m->below.nr;
	all->images = calloc(all->nr, sizeof(*all->images));
	if (!all->images)
		return no_memory(m);
	for (i = 0; i < all->nr; i++)
		all->images[i] = i < m->nr ? m->w.images[i] :
					     m->below.images[i - m->nr];
	return 0;
}

static int compare(const struct import *m, struct walk *all)
{
	struct qserver s;
	struct view v;
	int ret = view_of_walk(&v, m->dest, all);

	if (!ret)
		ret = qserver_open(&s, m->src.images[0].path,
				   qchain_node(&m->src, 0, true), false);
	if (!ret) {
		work_begin(m->dest, "verify", m->src.images[0].size);
		ret = qserver_verify(&s, &v, m->onto ?
			"does the layer under it show what its backing file shows?" :
			"see what is wrong with where they lie");
		work_end();
		qserver_close(&s);
	}
	view_free(&v);
	return ret;
}

static int verify(const struct import *m)
{
	struct walk all = { .nr = 0 };
	int ret = join(m, &all);

	if (!ret)
		ret = compare(m, &all);
	free(all.images);
	return ret;
}

/* --- On a layer that is there --- */

/*
 * Images that share a backing file are to share a layer: the first import makes it,
 * the others stand on it. That it shows what the backing file shows is compared.
 */
static int open_onto(struct import *m)
{
	int ret;

	if (m->src.nr == 1)
		return msg_fail(EXIT_USAGE,
				"%s: stands on nothing, so it can't stand on %s instead; leave --onto out",
				m->src.images[0].path, m->onto);
	ret = walk_open(&m->below, m->onto, DM_CHAIN_FORMAT_CHAIN, WALK_READ_ONLY);
	if (!ret)
		ret = parent_check(&m->below.images[0], "import", false);
	/* Without the module nothing is open. */
	if (!ret && module_present())
		ret = perm_ask_images(m->onto, DM_CHAIN_OP_CREATE, &m->below, NULL);
	if (!ret && m->below.nr == DM_CHAIN_MAX_LAYERS)
		ret = msg_fail(EXIT_FAILED,
			       "%s: has %u layers already, more can't be; merge some first",
			       m->onto, m->below.nr);
	if (!ret && m->below.images[0].nameless)
		ret = msg_fail(EXIT_FAILED,
			       "%s: has no path by which its child could find it; pass a file that has a name",
			       m->onto);
	m->verify = true;
	m->nr = 1;
	return ret;
}

/*
 * It was locked for reading; to be sealed it is opened anew. Who came between has
 * changed its content id.
 */
static int seal_onto(struct import *m)
{
	const struct chain_header *h = &m->w.images[0].hdr;
	struct image parent;
	int ret;

	walk_close(&m->below);
	ret = parent_open(&parent, m->onto, DM_CHAIN_FORMAT_CHAIN, m->t[0].path);
	if (ret)
		return ret;
	ret = parent_check(&parent, "import", false);
	if (!ret && !chain_id_equal(&parent.hdr.cid, &h->parent.cid))
		ret = msg_fail(EXIT_REFUSED, "%s: was changed meanwhile; import once more",
			       m->onto);
	if (!ret)
		ret = parent_seal(&parent, &h->uuid, m->t[0].path, &m->sealed);
	image_close(&parent);
	return ret;
}

static void unseal_onto(const struct import *m)
{
	struct image parent;

	if (!m->sealed || parent_open(&parent, m->onto, DM_CHAIN_FORMAT_CHAIN,
				      m->t[0].path))
		return;
	if (parent.writable)
		parent_unseal(&parent);
	image_close(&parent);
}

/* --- The end --- */

static int place_all(struct import *m)
{
	unsigned int i;
	int ret = 0;

	for (i = m->nr; i-- && !ret; ) {
		if (m->t[i].device)
			ret = image_make_commit(&m->w.images[i]);
		else if (!m->src.images[i].raw)
			ret = newfile_place(&m->t[i].file);
	}
	for (i = 0; i < m->nr && ret; i++)
		newfile_remove(&m->t[i].file);
	return ret;
}

/* An interrupt comes before the first name, or after the last. */
static int place(struct import *m)
{
	int ret;

	signals_hold();
	ret = m->onto ? seal_onto(m) : 0;
	if (!ret)
		ret = place_all(m);
	if (!ret)
		m->t[0].begun = false;
	else if (m->onto)
		unseal_onto(m);
	signals_go();
	return ret;
}

static json_object *layer_json(const struct import *m, unsigned int i)
{
	const struct qimage *q = &m->src.images[i];
	json_object *o = json_object_new_object();
	char id[37];

	json_object_object_add(o, "path", json_text(m->t[i].path));
	json_object_object_add(o, "source", json_text(q->path));
	json_object_object_add(o, "format", json_text(q->raw ? "raw" : "chain"));
	json_object_object_add(o, "uuid", q->raw ? NULL :
			       json_text(id_text(&m->w.images[i].hdr.uuid, id)));
	json_object_object_add(o, "virtual-size", json_object_new_uint64(q->size));
	json_object_object_add(o, "data-bytes", json_object_new_uint64(q->raw ?
			       q->size : m->t[i].data_bytes));
	json_object_object_add(o, "zero-bytes",
			       json_object_new_uint64(m->t[i].zero_bytes));
	return o;
}

static void report_json(const struct import *m)
{
	json_object *o = json_object_new_object(), *a = json_object_new_array();
	unsigned int i;

	for (i = 0; i < m->nr; i++)
		json_object_array_add(a, layer_json(m, i));
	json_object_object_add(o, "path", json_text(m->t[0].path));
	json_object_object_add(o, "layers", a);
	show_json(o);
}

static void report(const struct import *m)
{
	char data[32], zero[32];
	unsigned int i;

	if (opt_json) {
		report_json(m);
		return;
	}
	for (i = 0; i < m->nr; i++) {
		const struct target *t = &m->t[i];

		if (m->src.images[i].raw)
			msg_say("%s: raw, stays where it is", t->path);
		else
			msg_say("%s: from %s, data %s, zero %s", t->path,
				m->src.images[i].path,
				size_text(t->data_bytes, data),
				size_text(t->zero_bytes, zero));
	}
}

static int import(struct import *m, const char *source)
{
	uint64_t total;
	int ret = qchain_open(&m->src, source);

	/* Two descriptors for each layer. */
	raise_file_limit();
	m->nr = m->src.nr;
	if (!ret && m->onto)
		ret = open_onto(m);
	if (!ret)
		ret = name_all(m);
	if (!ret)
		ret = count_all(m, &total);
	if (!ret)
		ret = check_spaces(m);
	if (ret)
		return ret;
	work_begin(m->dest, "import", total);
	ret = make_all(m);
	work_end();
	if (!ret && m->verify)
		ret = verify(m);
	if (!ret)
		ret = place(m);
	if (!ret)
		report(m);
	return ret;
}

static void drop(struct import *m)
{
	unsigned int i;

	for (i = 0; i < m->nr; i++) {
		struct image *img = m->w.images ? &m->w.images[i] : NULL;
		struct target *t = m->t ? &m->t[i] : NULL;

		if (t && t->device && t->begun)
			image_make_undo(img);
		else if (img && img->path)
			image_close(img);
		if (t && t->file.path)
			newfile_close(&t->file);
		if (t)
			free(t->path);
	}
	free(m->w.images);
	free(m->t);
	walk_close(&m->below);
	qchain_close(&m->src);
}

int cmd_import(int argc, char **argv)
{
	struct import m = { .dest = NULL };
	const struct arg_opt opts[] = {
		{ "lower-in", &m.lower, NULL },
		{ "onto", &m.onto, NULL },
		{ "block-size", &m.block_size, NULL },
		{ "backing-format", &m.src.format, NULL },
		{ "trust-backing", NULL, &m.src.trust },
		{ "overwrite", NULL, &m.overwrite },
		{ "verify", NULL, &m.verify },
		{ NULL, NULL, NULL },
	};
	int ret = args_parse(&argc, &argv, opts, 2, 2);

	if (!ret)
		ret = parse_block_size(&m);
	if (!ret && m.onto)
		ret = arg_layer_check(m.onto);
	if (ret)
		return ret;
	m.dest = argv[1];
	ret = import(&m, argv[0]);
	drop(&m);
	return ret;
}
