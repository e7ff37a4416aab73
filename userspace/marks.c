// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Marks of a closed layer: what has become of it, and what may be done with it.
 */
#include "dmchain.h"

#include <stdlib.h>
#include <string.h>

const char *marks_name(unsigned int i)
{
	static const char * const names[] = {
		"sealed", "many-children", "in-use", "incomplete", "prepared",
		"spoiled", "retired", "pending", "job",
	};

	return i < ARRAY_SIZE(names) ? names[i] : NULL;
}

/* Of another type the header would not be valid. */
const char *record_name(unsigned int type)
{
	static const char * const names[] = {
		[DM_CHAIN_RECORD_STREAM] = "stream",
		[DM_CHAIN_RECORD_COMMIT] = "commit",
		[DM_CHAIN_RECORD_MIRROR] = "mirror",
	};

	return names[type];
}

static int refuse_sealed(const struct image *img)
{
	char *child = hint_resolve(img->path, img->hdr.child_path);
	char id[37];
	int ret;

	ret = msg_fail(EXIT_REFUSED,
		       "%s: sealed, layer %s (%s) stands on it and is the disk now; open that, or dmchain unseal this one (its children are then refused)",
		       img->label, id_text(&img->hdr.sealed_by, id),
		       child && *img->hdr.child_path ? child : "path unknown");
	free(child);
	return ret;
}

static int refuse_retired(const struct image *img)
{
	char *copy = hint_resolve(img->path, img->hdr.child_path);
	char id[37];
	int ret;

	ret = msg_fail(EXIT_IMAGE,
		       "%s: retired, the disk went on elsewhere, in %s (layer %s); open that, or this one --read-only",
		       img->label,
		       copy && *img->hdr.child_path ? copy : "path unknown",
		       id_text(&img->hdr.sealed_by, id));
	free(copy);
	return ret;
}

/**
 * struct mark_rule - a mark that makes an image unfit
 * @mark: DM_CHAIN_MARK_*
 * @uses: mask of 1 << enum marks_use that it forbids
 * @text: what it is; what to do
 */
struct mark_rule {
	uint32_t mark;
	unsigned int uses;
	const char *text;
};

#define RW	(1U << MARKS_TOP_RW)
#define RO	(1U << MARKS_TOP_RO)
#define LOWER	(1U << MARKS_LOWER)
#define NEW	(1U << MARKS_NEW_PARENT)

#define SPOILED_TEXT "spoiled by a commit, so it is no disk by itself; open the disk that was committed, dmchain job resume finishes what was cut off"

static const struct mark_rule rules[] = {
	{ DM_CHAIN_MARK_INCOMPLETE, RW | RO | LOWER | NEW,
	  "the copy into it was never completed; let its mirror run to the end, or make it anew" },
	/* A parent: chain_link_check() knows by way of which commit it is read. */
	{ DM_CHAIN_MARK_SPOILED, RW | RO | NEW,
	  SPOILED_TEXT },
	{ DM_CHAIN_MARK_PREPARED, RW | NEW,
	  "prepared for a pivot that was not decided; open the disk it was copied from" },
	{ DM_CHAIN_MARK_RETIRED, RW | NEW,
	  "retired, the disk went on elsewhere; open it there, or this one --read-only" },
	{ DM_CHAIN_MARK_PENDING, RW | NEW,
	  "part of a snapshot or pivot of several disks that was cut off; dmchain recover with its path decides it" },
};

static int refuse_by_rule(const struct image *img, const struct mark_rule *r)
{
	char job[37];

	if (r->mark == DM_CHAIN_MARK_RETIRED && *img->hdr.child_path)
		return refuse_retired(img);
	if (chain_id_is_null(&img->hdr.job))
		return msg_fail(EXIT_IMAGE, "%s: %s", img->label, r->text);
	return msg_fail(EXIT_IMAGE, "%s: %s (job %s)", img->label, r->text,
			id_text(&img->hdr.job, job));
}

static bool in_use_here(const struct image *img)
{
	struct chain_id host;

	host_id(&host);
	return chain_id_equal(&host, &img->hdr.use_host);
}

static int refuse_other_host(const struct image *img)
{
	char id[37];

	return msg_fail(EXIT_REFUSED,
			"%s: in use by host %s, or was when that went down; make sure that it is not, then say --force",
			img->label, id_text(&img->hdr.use_host, id));
}

bool image_has_commit(const struct image *img)
{
	return img->format == DM_CHAIN_FORMAT_CHAIN &&
	       chain_has_record(&img->hdr) &&
	       !(img->hdr.record.flags & DM_CHAIN_RECORD_DONE);
}

int image_check_job(const struct image *img, const char *what)
{
	static const struct mark_rule rule = { .text = SPOILED_TEXT };
	char job[37];

	if (img->format != DM_CHAIN_FORMAT_CHAIN)
		return 0;
	if (image_pending(img))
		return msg_fail(EXIT_REFUSED,
				"%s: can't %s it, it is part of a snapshot or pivot of several disks that was cut off; dmchain recover %s first",
				img->label, what, img->path);
	if (img->hdr.marks & DM_CHAIN_MARK_SPOILED)
		return refuse_by_rule(img, &rule);
	if (!image_has_commit(img))
		return 0;
	return msg_fail(EXIT_REFUSED,
			"%s: can't %s it, a commit from it downwards is not finished (job %s); open its disk and finish that: dmchain job resume",
			img->label, what, id_text(&img->hdr.job, job));
}

int image_check_marks(const struct image *img, enum marks_use use, bool force)
{
	size_t i;

	if (img->format != DM_CHAIN_FORMAT_CHAIN)
		return 0;
	for (i = 0; i < ARRAY_SIZE(rules); i++)
		if ((img->hdr.marks & rules[i].mark) &&
		    (rules[i].uses & 1U << use))
			return refuse_by_rule(img, &rules[i]);
	if (use == MARKS_NEW_PARENT)
		return image_check_job(img, "make a layer on");
	if (use != MARKS_TOP_RW)
		return 0;
	if (img->hdr.marks & DM_CHAIN_MARK_SEALED)
		return refuse_sealed(img);
	if ((img->hdr.marks & DM_CHAIN_MARK_IN_USE) && !force &&
	    !in_use_here(img))
		return refuse_other_host(img);
	return 0;
}

int image_check_in_use(const struct image *img, const char *what, bool force)
{
	if (!(img->hdr.marks & DM_CHAIN_MARK_IN_USE) || force)
		return 0;
	if (!in_use_here(img))
		return refuse_other_host(img);
	if (!what)
		return 0;
	return msg_fail(EXIT_REFUSED,
			"%s: was not closed before this host went down, or is a copy of an open layer; open and close it once, or %s it with --force",
			img->label, what);
}

void image_clear_use(struct image *img)
{
	struct chain_header *h = &img->hdr;

	h->marks &= ~DM_CHAIN_MARK_IN_USE;
	memset(&h->use_host, 0, sizeof(h->use_host));
	memset(&h->use_boot, 0, sizeof(h->use_boot));
	memset(&h->use_nonce, 0, sizeof(h->use_nonce));
}

void image_clear_seal(struct image *img)
{
	struct chain_header *h = &img->hdr;

	h->marks &= ~DM_CHAIN_MARK_SEALED;
	memset(&h->sealed_by, 0, sizeof(h->sealed_by));
	memset(h->child_path, 0, sizeof(h->child_path));
}
