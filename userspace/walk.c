// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A chain from its top image down: each parent is found by its child's hint,
 * and must be the very one that the child was made on.
 */
#include "dmchain.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* Each layer keeps a descriptor; the soft limit is often just 1024. */
void raise_file_limit(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) || r.rlim_cur == r.rlim_max)
		return;
	r.rlim_cur = r.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &r);
}

static struct image *grow(struct walk *w)
{
	struct image *more = realloc(w->images,
				     (w->nr + 1) * sizeof(*w->images));

	if (!more) {
		msg_fail(EXIT_FAILED, "out of memory for %u layers", w->nr + 1);
		return NULL;
	}
	w->images = more;
	return &more[w->nr];
}

static int no_parent(const struct image *child, const char *path, int err)
{
	const struct chain_header *h = &child->hdr;
	char id[37];

	if (!*h->parent_path)
		return msg_fail(EXIT_IMAGE,
				"%s: its parent is not found, the header has no path for layer %s; restore this image from a backup",
				child->path, id_text(&h->parent.uuid, id));
	return msg_fail(EXIT_IMAGE,
			"%s: its parent is not found (%s): the header says %s, that is %s (layer %s); put it there",
			child->path, strerror(err), h->parent_path, path,
			id_text(&h->parent.uuid, id));
}

static int wrong_uuid(const struct image *child, const struct image *parent)
{
	char want[37], got[37];

	return msg_fail(EXIT_IMAGE,
			"%s: not the parent of %s: that stands on layer %s, this is layer %s; put the right image there",
			parent->path, child->path,
			id_text(&child->hdr.parent.uuid, want),
			id_text(&parent->hdr.uuid, got));
}

static int wrong_cid(const struct image *child, const struct chain_id *cid,
		     const char *hint)
{
	const struct image *parent = child + 1;
	char want[37], got[37];

	return msg_fail(EXIT_IMAGE,
			"%s: was modified after %s was made on it: that expects content id %s, this has %s%s; restore it, or throw the child away",
			parent->path, child->path,
			id_text(&child->hdr.parent.cid, want),
			id_text(cid, got), hint);
}

static int wrong_chain_cid(const struct image *child)
{
	const struct image *parent = child + 1;

	/* Else nothing could write it, so that there's nothing to explain. */
	return wrong_cid(child, &parent->hdr.cid,
			 parent->hdr.marks & DM_CHAIN_MARK_SEALED ? "" :
			 " (and is not sealed: it was unsealed, or a snapshot was cut off and it still is the disk)");
}

static int wrong_size(const struct image *child, const struct image *parent)
{
	return msg_fail(EXIT_IMAGE,
			"%s: not the parent of %s, or resized: that expects a raw image of %llu bytes, this has %llu; put the right image there",
			parent->path, child->path,
			(unsigned long long)child->hdr.parent.size,
			(unsigned long long)parent->bytes);
}

static const struct chain_header *header_of(const struct image *img)
{
	return img->format == DM_CHAIN_FORMAT_CHAIN ? &img->hdr : NULL;
}

const struct chain_header *walk_through(const struct walk *w, unsigned int i)
{
	const struct chain_header *through = NULL;
	unsigned int at;

	for (at = 0; at <= i; at++)
		through = chain_through(through, header_of(&w->images[at]));
	return through;
}

static int spoiled(const struct image *child, const struct image *parent)
{
	char job[37];

	return msg_fail(EXIT_IMAGE,
			"%s: was spoiled by a commit (job %s), which %s is not part of; open the disk that is committed, or throw the child away",
			parent->path, id_text(&parent->hdr.job, job),
			child->path);
}

static int not_taken(const struct image *child, const struct image *parent)
{
	return msg_fail(EXIT_IMAGE,
			"%s: made for a change of several disks that was not made, so it never was the disk; open %s and remove this one",
			child->path, parent->path);
}

/* What is frozen says so before anything is written above it. */
static int settle_parent(const struct walk *w, struct image *parent,
			 const struct image *child, int flags)
{
	struct image img;
	int ret = image_open_parent(&img, parent->path, DM_CHAIN_FORMAT_CHAIN,
				    IMAGE_WRITE | IMAGE_ANY_MARK, child->path);

	if (ret)
		return ret;
	ret = pending_settle(&img, w, true, flags & WALK_FORCE);
	if (!ret)
		parent->hdr = img.hdr;
	image_close(&img);
	return ret;
}

/* The child fits, if the set of disks was switched. */
static int check_pending(const struct walk *w, struct image *parent, int flags)
{
	const struct image *child = parent - 1;
	bool committed = false;
	int ret = pending_ask(parent, w, &committed);

	if (ret)
		return ret;
	if (!committed)
		return not_taken(child, parent);
	if (flags & (WALK_READ_ONLY | WALK_LAX))
		return 0;
	/* The lock of ours would be in the way. */
	(void)flock(parent->fd, LOCK_UN);
	return settle_parent(w, parent, child, flags);
}

/* The parent of images[i] follows it in the array. */
static int check_link(const struct walk *w, unsigned int i, int flags)
{
	const struct chain_header *through = walk_through(w, i);
	struct image *child = &w->images[i], *parent = child + 1;
	const struct chain_header *h = header_of(parent);
	struct chain_id fp;
	int ret;

	memset(&fp, 0, sizeof(fp));
	if (!h && chain_link_raw_by_id(through) &&
	    (ret = raw_fingerprint(parent, &fp)))
		return ret;
	switch (chain_link_check(&child->hdr.parent, through, h, parent->bytes,
				 &fp)) {
	case CHAIN_LINK_OK:
		return 0;
	case CHAIN_LINK_CID:
		return h ? wrong_chain_cid(child) : wrong_cid(child, &fp, "");
	case CHAIN_LINK_SIZE:
		return wrong_size(child, parent);
	case CHAIN_LINK_SPOILED:
		return spoiled(child, parent);
	case CHAIN_LINK_PENDING:
		return check_pending(w, parent, flags);
	default:
		return wrong_uuid(child, parent);
	}
}

static int circle(const char *path)
{
	return msg_fail(EXIT_IMAGE,
			"%s: the parent links run in a circle: it is below itself; put the right image there",
			path);
}

static int check_once(const struct walk *w, const struct image *parent)
{
	unsigned int i;
	char id[37];

	for (i = 0; i < w->nr; i++) {
		const struct image *other = &w->images[i];

		if (image_same(other, parent))
			return circle(parent->path);
		if (parent->format == DM_CHAIN_FORMAT_CHAIN &&
		    chain_id_equal(&other->hdr.uuid, &parent->hdr.uuid))
			return msg_fail(EXIT_IMAGE,
					"%s: has the same UUID %s as %s, one is a copy of the other; give the copy its own by dmchain new-id",
					parent->path,
					id_text(&parent->hdr.uuid, id),
					other->path);
	}
	return 0;
}

static int check_parent(struct walk *w, struct image *parent, int flags)
{
	int ret = check_link(w, w->nr - 2, flags);

	if (!ret)
		ret = image_check_marks(parent, MARKS_LOWER, false);
	if (ret && (flags & WALK_LAX)) {
		w->error = w->error ? w->error : ret;
		ret = 0;
	}
	return ret;
}

static bool lies_at(const struct image *img, const struct stat *st)
{
	if (S_ISBLK(st->st_mode))
		return img->is_bdev && img->dev == st->st_rdev;
	return !img->is_bdev && img->dev == st->st_dev && img->ino == st->st_ino;
}

/* Seen before it is opened: the lock of the first time would be in the way. */
static bool opened(const struct walk *w, const char *path)
{
	struct stat st;
	unsigned int i;

	if (stat(path, &st))
		return false;
	for (i = 0; i < w->nr; i++)
		if (lies_at(&w->images[i], &st))
			return true;
	return false;
}

/* A path that leads nowhere is told by the child, which points there. */
static int open_parent(const struct walk *w, struct image *parent,
		       const struct image *child)
{
	const struct chain_header *h = &child->hdr;
	char *path = hint_resolve(child->path, h->parent_path);
	int ret;

	if (!path || !*h->parent_path || access(path, F_OK))
		ret = no_parent(child, path ? path : "nowhere", errno);
	else if (opened(w, path))
		ret = circle(path);
	else
		ret = image_open_parent(parent, path, h->parent.format,
					IMAGE_ANY_MARK, child->path);
	free(path);
	return ret;
}

static int add_parent(struct walk *w, int flags)
{
	struct image *parent;
	int ret;

	if (w->nr == DM_CHAIN_MAX_LAYERS)
		return msg_fail(EXIT_IMAGE, "%s: more than %d layers",
				w->images[0].path, DM_CHAIN_MAX_LAYERS);
	parent = grow(w);
	if (!parent)
		return -EXIT_FAILED;
	ret = open_parent(w, parent, parent - 1);
	if (ret)
		return ret;
	ret = check_once(w, parent);
	if (ret) {
		image_close(parent);
		return ret;
	}
	w->nr++;
	return check_parent(w, parent, flags);
}

static bool has_parent(const struct image *img)
{
	return img->format == DM_CHAIN_FORMAT_CHAIN &&
	       img->hdr.parent.format != DM_CHAIN_FORMAT_NONE;
}

static int add_parents(struct walk *w, int flags)
{
	int ret = 0;

	raise_file_limit();
	while (!ret && has_parent(&w->images[w->nr - 1]))
		ret = add_parent(w, flags);
	if (ret && (flags & WALK_LAX)) {
		/* What is above is known all the same. */
		w->error = w->error ? w->error : ret;
		ret = 0;
	}
	return ret;
}

int walk_from(struct walk *w, struct image *top, int flags)
{
	enum marks_use use = flags & WALK_READ_ONLY ? MARKS_TOP_RO :
						      MARKS_TOP_RW;
	struct image *place;
	int ret = 0;

	memset(w, 0, sizeof(*w));
	place = grow(w);
	if (!place) {
		image_close(top);
		return -EXIT_FAILED;
	}
	*place = *top;
	w->nr = 1;
	if (!(flags & WALK_LAX))
		ret = pending_settle(place, NULL, !(flags & WALK_READ_ONLY),
				     flags & WALK_FORCE);
	if (!ret && !(flags & WALK_LAX))
		ret = copy_settle(place);
	if (!ret && !(flags & WALK_LAX))
		ret = image_check_marks(place, use, flags & WALK_FORCE);
	if (!ret)
		ret = add_parents(w, flags);
	if (ret)
		walk_close(w);
	return ret;
}

int walk_open(struct walk *w, const char *path, uint32_t format, int flags)
{
	struct image top;
	int mode = flags & WALK_READ_ONLY ? 0 : IMAGE_WRITE;
	int ret;

	memset(w, 0, sizeof(*w));
	ret = image_open(&top, path, format, mode | IMAGE_ANY_MARK);
	return ret ? ret : walk_from(w, &top, flags);
}

void walk_close(struct walk *w)
{
	while (w->nr)
		image_close(&w->images[--w->nr]);
	free(w->images);
	w->images = NULL;
}
