// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a reader of a disk sees, piece by piece from its start on: extents, of
 * which zeroes need no reading, and bytes.
 */
#include "dmchain.h"

#include <stdlib.h>
#include <string.h>

int view_keep(const struct dm_chain_extent *e, void *arg)
{
	struct view *v = arg;

	if (v->nr == v->room) {
		size_t room = v->room ? 2 * v->room : 64;
		void *more = realloc(v->extents, room * sizeof(*v->extents));

		if (!more)
			return msg_fail(EXIT_FAILED, "%s: out of memory",
					v->label);
		v->extents = more;
		v->room = room;
	}
	v->extents[v->nr++] = *e;
	return 0;
}

int view_of_walk(struct view *v, const char *label, struct walk *w)
{
	const struct image *top = &w->images[0];

	memset(v, 0, sizeof(*v));
	v->label = label;
	v->walk = w;
	v->size = top->format == DM_CHAIN_FORMAT_RAW ? top->bytes :
						       top->hdr.size;
	return walk_map(w, view_keep, v);
}

void view_free(struct view *v)
{
	free(v->extents);
	memset(v, 0, sizeof(*v));
}

void view_look(struct view *v, uint64_t pos, struct dm_chain_extent *e)
{
	while (v->at < v->nr &&
	       v->extents[v->at].start + v->extents[v->at].length <= pos)
		v->at++;
	e->start = pos;
	e->state = DM_CHAIN_ABSENT;
	e->length = UINT64_MAX - pos;
	if (v->at == v->nr)
		return;
	*e = v->extents[v->at];
	e->length -= pos - e->start;
	e->start = pos;
}

bool view_zeroes(const struct dm_chain_extent *e)
{
	return e->state == DM_CHAIN_ABSENT || e->state == DM_CHAIN_ZERO;
}

/* The image that has an extent's data; of an open disk its device. */
struct image *view_owner(const struct view *v, const struct dm_chain_extent *e)
{
	return &v->walk->images[v->open ? 0 : e->depth];
}

int view_read_extent(struct view *v, const struct dm_chain_extent *e, void *buf,
		     size_t len)
{
	uint64_t offset = e->start;
	struct image *img;

	if (view_zeroes(e)) {
		memset(buf, 0, len);
		return 0;
	}
	if (e->state == DM_CHAIN_DAMAGED)
		return msg_fail(EXIT_IMAGE,
				"%s: byte %llu can't be read, the map is damaged there; see dmchain check",
				v->label, (unsigned long long)e->start);
	img = view_owner(v, e);
	if (img->format == DM_CHAIN_FORMAT_CHAIN)
		offset += img->hdr.data_offset;
	return image_read(img, buf, len, offset);
}

int view_read(struct view *v, uint64_t pos, void *buf, size_t len)
{
	struct dm_chain_extent e;
	int ret = 0;

	while (len && !ret) {
		size_t part = len;

		view_look(v, pos, &e);
		if (e.length < part)
			part = e.length;
		ret = view_read_extent(v, &e, buf, part);
		buf = (uint8_t *)buf + part;
		pos += part;
		len -= part;
	}
	return ret;
}
