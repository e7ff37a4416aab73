// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The target of a mirror: a layer that is made, incomplete from its first header
 * on, or one that the user has prepared.
 */
#include "mirror.h"
#include "offline.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static bool raw(const struct mirror *m)
{
	return m->format == DM_CHAIN_FORMAT_RAW;
}

static const struct dm_chain_layer *top(const struct mirror *m)
{
	return &m->layers[0];
}

static int unfit(const struct mirror *m, const char *why)
{
	return msg_fail(EXIT_IMAGE, "%s: can't become a copy of %s, %s",
			m->path, m->name, why);
}

static int too_small(const struct mirror *m, uint64_t has)
{
	return msg_fail(EXIT_FAILED,
			"%s: is too small for a copy of %s, it has %llu bytes and must have %llu; take a larger one",
			m->path, m->name, (unsigned long long)has,
			(unsigned long long)top(m)->size);
}

/* What the source says of its parent; NONE: there is none. */
static int source_link(const struct mirror *m, struct chain_link *link)
{
	struct image img;
	int ret;

	memset(link, 0, sizeof(*link));
	if (top(m)->format == DM_CHAIN_FORMAT_RAW)
		return 0;
	ret = image_open(&img, m->source, DM_CHAIN_FORMAT_CHAIN, IMAGE_ANY_MARK);
	if (ret)
		return ret;
	*link = img.hdr.parent;
	image_close(&img);
	return 0;
}

/* --- A new one --- */

static uint32_t block_shift(const struct mirror *m)
{
	uint32_t shift = DM_CHAIN_MIN_BLOCK_SHIFT;

	while (1U << shift < top(m)->block_size)
		shift++;
	return shift;
}

static int set_parent(struct mirror *m)
{
	struct chain_header *h = &m->hdr;
	char *path;
	int ret;

	if (!m->shallow || m->nr < 2)
		return 0;
	ret = source_link(m, &h->parent);
	if (ret)
		return ret;
	h->limit = top(m)->limit;
	path = disk_layer_path(makedev(m->layers[1].major, m->layers[1].minor));
	if (!path)
		return msg_fail(EXIT_FAILED, "%s: out of memory", m->name);
	ret = hint_make_near(h->parent_path, m->path, path, false);
	free(path);
	return ret;
}

static int set_header(struct mirror *m)
{
	uint64_t size = top(m)->size, bytes = device_bytes(m->arg);
	uint32_t shift = block_shift(m);
	uint64_t max = bytes ? chain_max_size_for(bytes, shift) :
			       chain_default_max_size(size);
	struct chain_header *h = &m->hdr;

	/* Too small a device is told of when it is opened, with the figures. */
	if (chain_header_init(h, size, max < size ? size : max, shift))
		return msg_fail(EXIT_FAILED, "%s: no layer can have its size",
				m->name);
	h->marks = DM_CHAIN_MARK_INCOMPLETE;
	id_random(&h->uuid);
	id_random(&h->cid);
	while (getrandom(&h->map_seed, sizeof(h->map_seed), 0) !=
	       sizeof(h->map_seed))
		;
	return set_parent(m);
}

static json_object *note(const struct mirror *m)
{
	json_object *o = note_new("mirror");
	char id[37];

	if (m->existing || device_bytes(m->arg))
		return o;
	/* Byte for byte: it is to be found by that. */
	json_object_object_add(o, "made", json_object_new_string(m->path));
	json_object_object_add(o, "bytes", json_object_new_uint64(
		raw(m) ? top(m)->size : chain_layer_bytes(&m->hdr)));
	json_object_object_add(o, "uuid", json_text(id_text(&m->hdr.uuid, id)));
	if (raw(m))
		json_object_object_add(o, "raw", json_text("raw"));
	if (arg_fd(m->arg) >= 0)
		json_object_object_add(o, "given", json_text(m->arg));
	return o;
}

/* Before the note: what it tells of was not there, and is ours to remove. */
static int check_absent(const struct mirror *m)
{
	struct stat st;

	/* Of a given file it is seen later whether it is empty. */
	if (arg_fd(m->arg) >= 0 || lstat(m->path, &st) || device_bytes(m->arg))
		return 0;
	return msg_fail(EXIT_FAILED,
			"%s: exists already; choose another name, or say --existing if it was made for this",
			m->path);
}

static int make_chain(struct mirror *m)
{
	int ret = image_make(&m->img, m->arg, &m->hdr);

	if (ret)
		return ret;
	m->made = true;
	return image_make_commit(&m->img);
}

static int make_raw(struct mirror *m)
{
	int ret = image_make_raw(m->arg, m->path, top(m)->size);

	if (ret)
		return ret;
	m->made = true;
	m->start.flags |= DM_CHAIN_JOB_ZEROED;
	return image_open(&m->img, m->arg, DM_CHAIN_FORMAT_RAW, IMAGE_WRITE);
}

static int make_new(struct mirror *m, struct disk_lock *l)
{
	int ret = check_absent(m);

	if (!ret && !raw(m))
		ret = set_header(m);
	if (!ret)
		ret = disk_lock_note(l, note(m));
	if (ret)
		return ret;
	return raw(m) ? make_raw(m) : make_chain(m);
}

/* --- One that is there --- */

static bool same_link(const struct chain_link *a, const struct chain_link *b)
{
	return a->format == b->format && a->size == b->size &&
	       chain_id_equal(&a->uuid, &b->uuid) &&
	       chain_id_equal(&a->cid, &b->cid);
}

static int check_link(const struct mirror *m)
{
	const struct chain_link *has = &m->img.hdr.parent;
	struct chain_link want = { 0 };
	int ret = m->shallow ? source_link(m, &want) : 0;

	if (ret || same_link(has, &want))
		return ret;
	if (!m->shallow)
		return unfit(m, "it stands on another layer; say --shallow if that is what the top of the disk stands on, or make it without --backing");
	return unfit(m, "it does not stand on what the top of the disk stands on, as that is now");
}

/* One of this disk that was cut off, and nothing has been written untracked since. */
static bool resumes(const struct mirror *m)
{
	const struct dm_chain_layer *t = top(m);

	return t->flags & DM_CHAIN_LAYER_TRACKED &&
	       !memcmp(t->record_base, m->img.hdr.uuid.b, sizeof(t->record_base)) &&
	       !memcmp(t->job, m->img.hdr.job.b, sizeof(t->job));
}

/* What was to become a copy of something is of use to nobody else. */
static int begin_anew(struct mirror *m)
{
	struct chain_header *h = &m->img.hdr;

	if (!(h->marks & (DM_CHAIN_MARK_INCOMPLETE | DM_CHAIN_MARK_PREPARED)))
		return unfit(m, "it holds data already, or its map is damaged");
	msg_warn("%s: can't go on as a copy of %s where it was, so that begins anew",
		 m->path, m->name);
	h->marks = DM_CHAIN_MARK_INCOMPLETE;
	memset(&h->job, 0, sizeof(h->job));
	return image_renew(&m->img);
}

static int check_empty(struct mirror *m)
{
	const struct chain_header *h = &m->img.hdr;
	struct imgmap map;
	bool empty;
	int ret = imgmap_load(&map, &m->img);

	if (ret)
		return ret;
	empty = !map.damaged && !map.damaged_presence &&
		imgmap_count(&map, h, DM_CHAIN_ABSENT) >= h->size;
	imgmap_free(&map);
	return empty ? 0 : begin_anew(m);
}

static int check_marks(const struct mirror *m)
{
	const struct chain_header *h = &m->img.hdr;
	unsigned int i;

	if (h->marks & (DM_CHAIN_MARK_SEALED | DM_CHAIN_MARK_SPOILED |
			DM_CHAIN_MARK_PENDING | DM_CHAIN_MARK_RETIRED |
			DM_CHAIN_MARK_JOB))
		return unfit(m, "its marks say that it is of use to another disk; dmchain info shows them");
	for (i = 0; i < m->nr; i++)
		if (!memcmp(h->uuid.b, m->layers[i].uuid, sizeof(h->uuid.b)))
			return unfit(m, "a layer with its UUID is in the chain; dmchain new-id gives a copy one of its own");
	return 0;
}

/*
 * Between the word of its source and its own header, a copy is the disk that was
 * moved there, though it looks like one that was begun.
 */
static int check_no_disk(const struct mirror *m)
{
	bool decided = false;
	int ret;

	if (!copy_prepared(&m->img) || resumes(m))
		return 0;
	ret = copy_ask(&m->img, &decided);
	if (ret || !decided)
		return ret;
	return unfit(m, "a pivot has made a disk of it; open that, or name another place");
}

/* The map and what the disk shows are to be what is in the image now. */
static int check_chain(struct mirror *m)
{
	int ret = image_check_in_use(&m->img, NULL, false);

	if (!ret)
		ret = check_marks(m);
	if (!ret)
		ret = check_no_disk(m);
	if (!ret && m->img.hdr.size < top(m)->size)
		ret = too_small(m, m->img.hdr.size);
	if (!ret)
		ret = check_link(m);
	return ret || resumes(m) ? ret : check_empty(m);
}

static int take_existing(struct mirror *m, struct disk_lock *l)
{
	int ret = image_open(&m->img, m->arg, m->format,
			     IMAGE_WRITE | IMAGE_ANY_MARK);

	if (ret)
		return ret;
	if (raw(m))
		ret = m->img.bytes < top(m)->size ? too_small(m, m->img.bytes) : 0;
	else
		ret = check_chain(m);
	return ret ? ret : disk_lock_note(l, note(m));
}

/* --- Both --- */

/*
 * The two sides tell of each other, for who comes by the wrong one: the source
 * by what the kernel writes into it when it retires it.
 */
static int tell_places(struct mirror *m)
{
	int ret = hint_make_near(m->start.parent_path, m->source, m->path,
				 false);

	if (ret || raw(m))
		return ret;
	ret = hint_make_near(m->img.hdr.child_path, m->path, m->source,
			     false);
	return ret ? ret : image_write_header(&m->img);
}

int mirror_target(struct mirror *m, struct disk_lock *l)
{
	/* A device that has no header to be asked about is just written. */
	bool there = m->existing || (raw(m) && device_bytes(m->arg));
	int ret = there ? take_existing(m, l) : make_new(m, l);

	return ret ? ret : tell_places(m);
}

void mirror_target_undo(struct mirror *m)
{
	if (!m->made)
		return;
	/* A device was let go for dm to have it. */
	if (m->img.is_bdev && m->img.fd < 0) {
		image_close(&m->img);
		if (image_open(&m->img, m->arg, m->format,
			       IMAGE_WRITE | IMAGE_ANY_MARK))
			return;
	}
	if (!raw(m)) {
		image_make_undo(&m->img);
		return;
	}
	if (arg_fd(m->arg) < 0)
		unlink(m->path);
	else if (ftruncate(arg_fd(m->arg), 0))
		msg_warn("%s: can't be emptied", m->path);
}
