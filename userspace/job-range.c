// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which layers a job is about: as its options say, or as the record of one that
 * was cut off does.
 */
#include "job.h"

#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

static bool null_id(const __u8 *id)
{
	static const __u8 null[16];

	return !memcmp(id, null, sizeof(null));
}

static bool stream(const struct job_ask *ask)
{
	return ask->op == DM_CHAIN_OP_STREAM;
}

static bool has_record(const struct dm_chain_layer *l, const struct job_ask *ask)
{
	return l->flags & DM_CHAIN_LAYER_RECORD &&
	       (l->record_type == DM_CHAIN_RECORD_STREAM) == stream(ask);
}

/*
 * A record that names no base is that of a stream down to nothing, or its base
 * is raw, as that of a commit must be: only the header tells.
 */
static bool raw_is_kept(const struct dm_chain_layer *l)
{
	char *path = disk_layer_path(makedev(l->major, l->minor));
	struct image img;
	bool kept = false;

	if (path && !image_open(&img, path, DM_CHAIN_FORMAT_CHAIN,
				IMAGE_ANY_MARK)) {
		kept = img.hdr.record.base_format == DM_CHAIN_FORMAT_RAW;
		image_close(&img);
	}
	free(path);
	return kept;
}

static int no_base(const struct job_ask *ask)
{
	return msg_fail(EXIT_FAILED,
			"%s: the base that the unfinished job has is not among the layers; dmchain info %s shows them",
			ask->name, ask->name);
}

static int record_base(const struct job_ask *ask,
		       const struct dm_chain_layer *l, unsigned int nr,
		       unsigned int top, unsigned int *base)
{
	bool raw_lowest = l[nr - 1].format == DM_CHAIN_FORMAT_RAW;

	if (!null_id(l[top].record_base)) {
		for (*base = top + 1; *base < nr; ++*base)
			if (!memcmp(l[*base].uuid, l[top].record_base,
				    sizeof(l[top].record_base)))
				return 0;
		return no_base(ask);
	}
	if (stream(ask)) {
		*base = raw_lowest && raw_is_kept(&l[top]) ? nr - 1 : nr;
		return 0;
	}
	*base = nr - 1;
	return raw_lowest && *base > top ? 0 : no_base(ask);
}

static int range_of_record(const struct job_ask *ask,
			   const struct dm_chain_layer *l, unsigned int nr,
			   unsigned int *top, unsigned int *base)
{
	for (*top = 0; *top < nr; ++*top)
		if (has_record(&l[*top], ask) &&
		    !memcmp(l[*top].job, ask->record->b, sizeof(l->job)))
			return record_base(ask, l, nr, *top, base);
	return msg_fail(EXIT_FAILED,
			"%s: the unfinished job is no longer there; dmchain job list %s",
			ask->name, ask->name);
}

static int no_layers(const struct job_ask *ask, unsigned int top,
		     unsigned int base, unsigned int nr)
{
	if (stream(ask) && top < nr && base >= top && base - top < 2)
		return msg_fail(EXIT_FAILED,
				"%s: there is no layer between %u and what is kept, so there is nothing to stream; dmchain info %s shows the layers",
				ask->name, top, ask->name);
	if (!stream(ask) && nr && top == nr - 1)
		return msg_fail(EXIT_FAILED,
				"%s: there is no layer below %u to commit into; dmchain info %s shows the layers",
				ask->name, top, ask->name);
	return msg_fail(EXIT_USAGE,
			"%s: no %s from layer %u to %u of %u: the base lies below; dmchain info %s shows them",
			ask->name, stream(ask) ? "stream" : "commit", top, base,
			nr, ask->name);
}

static int range_of_options(const struct job_ask *ask,
			    const struct dm_chain_layer *l, unsigned int nr,
			    unsigned int *top, unsigned int *base)
{
	int ret = 0;

	*top = 0;
	if (ask->top)
		ret = layer_arg(ask->top, ask->name, l, nr, top);
	if (ret)
		return ret;
	if (ask->base)
		return layer_arg(ask->base, ask->name, l, nr, base);
	*base = stream(ask) ? nr : *top + 1;
	/* One that was cut off can only go on into the base that it has. */
	if (!stream(ask) && *top < nr && has_record(&l[*top], ask))
		return record_base(ask, l, nr, *top, base);
	return 0;
}

static int check_formats(const struct job_ask *ask,
			 const struct dm_chain_layer *l, unsigned int top)
{
	char *path;
	int ret;

	/* Only the lowest layer can be raw, so a commit's top is none. */
	if (!stream(ask) || l[top].format == DM_CHAIN_FORMAT_CHAIN)
		return 0;
	path = disk_layer_path(makedev(l[top].major, l[top].minor));
	ret = msg_fail(EXIT_FAILED,
		       "%s: is raw and has nothing below it to take in",
		       path ? path : ask->name);
	free(path);
	return ret;
}

int job_range(const struct job_ask *ask, const struct dm_chain_layer *l,
	      unsigned int nr, unsigned int *top, unsigned int *base)
{
	bool fits;
	int ret;

	*top = *base = 0;
	if (!nr)
		return msg_fail(EXIT_FAILED, "%s: has no layers", ask->name);
	ret = ask->record ? range_of_record(ask, l, nr, top, base) :
			    range_of_options(ask, l, nr, top, base);
	if (!ret)
		ret = check_formats(ask, l, *top);
	if (ret)
		return ret;
	fits = stream(ask) ? *base >= *top + 2 && *base <= nr :
			     *base > *top && *base < nr;
	return fits ? 0 : no_layers(ask, *top, *base, nr);
}
