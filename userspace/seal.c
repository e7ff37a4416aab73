// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A layer gets a child: by create, or by rebase.
 */
#include "offline.h"

#include <stdlib.h>
#include <string.h>

/* A disk writes the parent: only a snapshot can freeze it. */
static int refuse_open_parent(const struct image *parent, const char *path,
			      const char *child)
{
	char *disk = NULL;
	int ret = disk_holding(parent, true, &disk);

	if (ret || !disk)
		return ret;
	ret = msg_fail(EXIT_REFUSED,
		       "%s: open read-write as part of disk %s; take a snapshot instead (dmchain snapshot %s=%s)",
		       path, disk, disk, child);
	free(disk);
	return ret;
}

/*
 * How to open the parent: for writing, to seal it, unless somebody reads it or
 * it has no marks. Whoever writes it already refuses.
 */
static int parent_mode(const char *path, uint32_t format, const char *child,
		       int *flags)
{
	struct image probe;
	char *disk = NULL;
	int ret = image_init(&probe, path, format, NULL);

	*flags = IMAGE_ANY_MARK;
	if (!ret)
		ret = image_identify(&probe);
	if (!ret)
		ret = refuse_open_parent(&probe, path, child);
	if (!ret && format == DM_CHAIN_FORMAT_CHAIN)
		ret = disk_holding(&probe, false, &disk);
	if (!ret && format == DM_CHAIN_FORMAT_CHAIN && !disk)
		*flags |= IMAGE_TRY_WRITE;
	free(disk);
	image_close(&probe);
	return ret;
}

int parent_open(struct image *parent, const char *path, uint32_t format,
		const char *child)
{
	int flags, ret = parent_mode(path, format, child, &flags);

	if (!ret)
		ret = image_open(parent, path, format, flags);
	/* It may have become a disk's top while its lock was waited for. */
	if (ret || parent->writable)
		return ret;
	ret = refuse_open_parent(parent, path, child);
	if (ret)
		image_close(parent);
	return ret;
}

int parent_check(const struct image *parent, const char *what, bool force)
{
	int ret = image_check_marks(parent, MARKS_NEW_PARENT, false);

	return ret ? ret : image_check_in_use(parent, what, force);
}

int parent_set_link(struct image *parent, struct chain_link *link)
{
	memset(link, 0, sizeof(*link));
	link->format = parent->format;
	if (parent->format == DM_CHAIN_FORMAT_RAW) {
		link->size = parent->bytes;
		return raw_fingerprint(parent, &link->cid);
	}
	link->size = parent->hdr.size;
	link->uuid = parent->hdr.uuid;
	link->cid = parent->hdr.cid;
	return 0;
}

/* What was forced may have been written since its children were made. */
static void drop_stale_use(struct image *parent)
{
	if (!(parent->hdr.marks & DM_CHAIN_MARK_IN_USE))
		return;
	image_clear_use(parent);
	id_random(&parent->hdr.cid);
}

static int seal(struct image *parent, const struct chain_id *child,
		const char *child_path, bool *now)
{
	struct chain_header *p = &parent->hdr;
	int ret;

	if (p->marks & DM_CHAIN_MARK_SEALED) {
		if (p->marks & DM_CHAIN_MARK_MANY_CHILDREN ||
		    chain_id_equal(&p->sealed_by, child))
			return 0;
		p->marks |= DM_CHAIN_MARK_MANY_CHILDREN;
		return image_write_header(parent);
	}
	/* Just for messages: a child without a path leaves none. */
	ret = child_path ? hint_make(p->child_path, parent->path, child_path) : 0;
	if (ret)
		return ret;
	drop_stale_use(parent);
	p->marks |= DM_CHAIN_MARK_SEALED;
	p->sealed_by = *child;
	*now = true;
	return image_write_header(parent);
}

int parent_seal(struct image *parent, const struct chain_id *child,
		const char *child_path, bool *now)
{
	*now = false;
	if (parent->format == DM_CHAIN_FORMAT_RAW)
		return 0;
	if (parent->writable)
		return seal(parent, child, child_path, now);
	if (!(parent->hdr.marks & DM_CHAIN_MARK_MANY_CHILDREN) &&
	    !chain_id_equal(&parent->hdr.sealed_by, child))
		msg_warn("%s: in use or read-only, so it can't note that it has another child; don't commit into it while that one is needed",
			 parent->label);
	return 0;
}

/* By rule H3 a seal never comes off without a new content id. */
void parent_unseal(struct image *parent)
{
	image_clear_seal(parent);
	id_random(&parent->hdr.cid);
	(void)image_write_header(parent);
}

/*
 * With the content id that it has: nobody came between, and no child has been
 * there. What others were made of is still what it was.
 */
void parent_take_back(struct image *parent)
{
	int ret;

	image_clear_seal(parent);
	/* What made it useless has been said. */
	msg_mute(true);
	ret = image_write_header(parent);
	msg_mute(false);
	if (ret)
		msg_warn("%s: may be sealed by a layer that is not there; then dmchain unseal it",
			 parent->label);
}
