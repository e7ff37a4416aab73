// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What is seen of each layer, summed up in columns: however long the map of a disk
 * is, a picture of it takes the memory of its cells.
 */
#include "picture.h"

#include <stdlib.h>
#include <string.h>

#define MAX_CELLS	300000

unsigned int picture_columns(unsigned int nr, unsigned int wish)
{
	unsigned int fit = MAX_CELLS / (nr ? nr : 1);

	return fit < wish ? fit : wish;
}

int picture_begin(struct picture *p, const char *name, uint64_t size,
		  unsigned int nr, unsigned int columns)
{
	memset(p, 0, sizeof(*p));
	p->name = name;
	p->size = size;
	p->nr = nr;
	/* A disk of a few bytes has no more parts than that. */
	p->columns = size < columns ? size : columns;
	p->columns += !p->columns;
	p->labels = calloc(nr, sizeof(*p->labels));
	p->rows = calloc(nr, sizeof(*p->rows));
	p->cells = calloc((size_t)nr * p->columns, sizeof(*p->cells));
	return p->labels && p->rows && p->cells ? 0 :
	       msg_fail(EXIT_FAILED, "%s: out of memory", name);
}

const char *picture_label(const struct picture *p, unsigned int layer)
{
	const char *path = p->labels[layer], *slash = path ? strrchr(path, '/') : NULL;

	return slash ? slash + 1 : path ? path : "?";
}

void picture_free(struct picture *p)
{
	unsigned int i;

	for (i = 0; i < p->nr && p->labels; i++)
		free(p->labels[i]);
	free(p->labels);
	free(p->rows);
	free(p->cells);
	memset(p, 0, sizeof(*p));
}

/* At most 2^46 bytes and some thousands of columns: that fits. */
uint64_t picture_column(const struct picture *p, unsigned int column)
{
	return p->size * column / p->columns;
}

/* As both round down, it may be the one that ends there: that gets nothing. */
static unsigned int column_at(const struct picture *p, uint64_t pos)
{
	return (unsigned int)(pos * p->columns / p->size);
}

static void add(struct picture_cell *c, unsigned int state, uint64_t bytes)
{
	if (state == DM_CHAIN_DATA)
		c->data += bytes;
	else if (state == DM_CHAIN_ZERO)
		c->zero += bytes;
	else if (state == DM_CHAIN_DAMAGED)
		c->damaged += bytes;
}

int picture_extent(const struct dm_chain_extent *e, void *arg)
{
	uint64_t pos = e->start, end = e->start + e->length, next;
	struct picture *p = arg;
	unsigned int c;

	if (end > p->size)
		end = p->size;
	/* A snapshot may have come since the layers were counted. */
	if (e->state == DM_CHAIN_ABSENT || e->depth >= p->nr || pos >= end)
		return 0;
	add(&p->rows[e->depth], e->state, end - pos);
	for (c = column_at(p, pos); pos < end; c++, pos = next) {
		next = picture_column(p, c + 1);
		if (next > end)
			next = end;
		add(&p->cells[(size_t)e->depth * p->columns + c], e->state,
		    next - pos);
	}
	return 0;
}

unsigned int picture_level(uint64_t bytes, uint64_t of)
{
	unsigned int level;

	if (!bytes || !of)
		return 0;
	level = (unsigned int)((double)bytes * 4 / (double)of + 0.5);
	return level < 1 ? 1 : level > 4 ? 4 : level;
}
