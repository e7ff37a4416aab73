// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a switch that was cut off has left. What a snapshot, or pivot, of several disks that was cut off has left: a layer that
 * waits for the decision of another one, the coordinator. image_open() has flushed
 * what is read of either, so that no power cut takes a decision back.
 */
#include "dmchain.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool image_pending(const struct image *img)
{
	return img->format == DM_CHAIN_FORMAT_CHAIN &&
	       img->hdr.marks & DM_CHAIN_MARK_PENDING;
}

const char *pending_what(const struct image *img)
{
	return img->hdr.marks & DM_CHAIN_MARK_RETIRED ? "pivot" : "snapshot";
}

static int not_found(const struct image *img)
{
	char *path = *img->hdr.coordinator_path ?
		     hint_resolve(img->path, img->hdr.coordinator_path) : NULL;
	char id[37];
	int ret;

	ret = msg_fail(EXIT_IMAGE,
		       "%s: part of a %s of several disks that was cut off, and the layer that decides it (%s) is not at %s; put it there, or decide by dmchain recover --assume committed|aborted %s",
		       img->label, pending_what(img), id_text(&img->hdr.coordinator, id),
		       path ? path : "a path that is known", img->path);
	free(path);
	return ret;
}

static const struct image *in_walk(const struct walk *w, const struct chain_id *uuid)
{
	unsigned int i;

	for (i = 0; w && i < w->nr; i++)
		if (w->images[i].format == DM_CHAIN_FORMAT_CHAIN &&
		    chain_id_equal(&w->images[i].hdr.uuid, uuid))
			return &w->images[i];
	return NULL;
}

/* Nothing has that name. All that keeps us from seeing it is something else. */
static bool absent(const char *path)
{
	return access(path, F_OK) && (errno == ENOENT || errno == ENOTDIR);
}

static int unresolved(const struct image *img, const char *hint)
{
	if (!img->nameless)
		return msg_fail(EXIT_FAILED, "%s: out of memory", img->label);
	return msg_fail(EXIT_FAILED,
			"%s: has no path, from which the layer that decides about it could be found (%s); pass the file by its name",
			img->label, hint);
}

/*
 * The layer that decides: 1: it is there, 0: it is not, or is another one. One that
 * can't be opened just now is not lost, so that is an error.
 */
static int open_decider(const struct image *img, const char *hint,
			struct image *decider)
{
	char *path = *hint ? hint_resolve(img->path, hint) : NULL;
	int ret = 0;

	if (*hint && !path)
		return unresolved(img, hint);
	if (path && !absent(path)) {
		ret = image_open(decider, path, DM_CHAIN_FORMAT_CHAIN,
				 IMAGE_ANY_MARK);
		ret = ret ? ret : 1;
	}
	free(path);
	if (ret <= 0 || chain_id_equal(&decider->hdr.uuid, &img->hdr.coordinator))
		return ret;
	image_close(decider);
	return 0;
}

int pending_reachable(const struct image *img)
{
	struct image c;
	int ret = open_decider(img, img->hdr.coordinator_path, &c);

	if (ret > 0)
		image_close(&c);
	return ret;
}

int pending_ask(const struct image *img, const struct walk *w, bool *committed)
{
	const struct image *here = in_walk(w, &img->hdr.coordinator);
	struct image c;
	int ret;

	if (here) {
		*committed = chain_pending_decided(&img->hdr, &here->hdr);
		return 0;
	}
	ret = open_decider(img, img->hdr.coordinator_path, &c);
	if (ret <= 0)
		return ret ? ret : not_found(img);
	*committed = chain_pending_decided(&img->hdr, &c.hdr);
	image_close(&c);
	return 0;
}

void pending_set(struct image *img, bool committed)
{
	struct chain_id cid;

	if (committed) {
		/* Frozen: whoever had it open for writing has not any more. */
		if (chain_pending_old(&img->hdr))
			image_clear_use(img);
		chain_pending_commit(&img->hdr);
		return;
	}
	id_random(&cid);
	chain_pending_abort(&img->hdr, &cid);
}

int pending_never(const struct image *img)
{
	return msg_fail(EXIT_IMAGE,
			"%s: made for a change of several disks that was not made, so it never was the disk; open %s and remove this one",
			img->label, *img->hdr.parent_path ?
			img->hdr.parent_path : "what it was made from");
}

int pending_settle(struct image *img, const struct walk *w, bool write, bool force)
{
	bool committed = false;
	int ret;

	if (!image_pending(img))
		return 0;
	/* An old top shows the same in both cases. */
	if (!write && chain_pending_old(&img->hdr))
		return 0;
	ret = pending_ask(img, w, &committed);
	if (ret)
		return ret;
	if (!committed && !chain_pending_old(&img->hdr))
		return pending_never(img);
	if (!write) {
		pending_set(img, committed);
		return 0;
	}
	ret = image_check_in_use(img, NULL, force);
	if (ret)
		return ret;
	pending_set(img, committed);
	return image_write_header(img);
}

/* --- A copy that a disk was about to go on in --- */

bool copy_prepared(const struct image *img)
{
	return img->format == DM_CHAIN_FORMAT_CHAIN &&
	       img->hdr.marks & DM_CHAIN_MARK_PREPARED;
}

static int no_source(const struct image *copy)
{
	char *path = *copy->hdr.child_path ?
		     hint_resolve(copy->path, copy->hdr.child_path) : NULL;
	char id[37];
	int ret;

	ret = msg_fail(EXIT_IMAGE,
		       "%s: a copy that the disk was about to go on in by a pivot; whether it did tells layer %s, which is not at %s; put it there, or open that, or decide by dmchain recover --assume committed|aborted %s",
		       copy->label, id_text(&copy->hdr.coordinator, id),
		       path ? path : "a path that is known", copy->path);
	free(path);
	return ret;
}

int copy_source_reachable(const struct image *copy)
{
	struct image source;
	int ret = open_decider(copy, copy->hdr.child_path, &source);

	if (ret > 0)
		image_close(&source);
	return ret;
}

/* Its source says so, by the same job; what it says is durable. */
int copy_ask(const struct image *copy, bool *decided)
{
	struct image source;
	int ret = open_decider(copy, copy->hdr.child_path, &source);

	if (ret <= 0)
		return ret ? ret : no_source(copy);
	ret = 0;
	*decided = source.hdr.marks & DM_CHAIN_MARK_RETIRED &&
		   chain_id_equal(&source.hdr.job, &copy->hdr.job);
	/* Of several disks: then another one has decided for it. */
	if (*decided && image_pending(&source))
		ret = pending_ask(&source, NULL, decided);
	image_close(&source);
	return ret;
}

void copy_complete(struct image *copy)
{
	struct chain_header *h = &copy->hdr;

	h->marks &= ~DM_CHAIN_MARK_PREPARED;
	memset(&h->job, 0, sizeof(h->job));
	memset(&h->coordinator, 0, sizeof(h->coordinator));
	memset(h->child_path, 0, sizeof(h->child_path));
}

int copy_undecided(const struct image *copy)
{
	return msg_fail(EXIT_IMAGE,
			"%s: prepared for a pivot that was not decided; open the disk it was copied from",
			copy->label);
}

/* Then the copy is the disk; that its own header says so is made up for. */
int copy_settle(struct image *img)
{
	bool decided = false;
	int ret;

	if (!copy_prepared(img))
		return 0;
	ret = copy_ask(img, &decided);
	if (ret)
		return ret;
	if (!decided)
		return copy_undecided(img);
	copy_complete(img);
	return img->writable ? image_write_header(img) : 0;
}
