/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which layer holds which part of a disk, as a picture.
 */
#ifndef DMCHAIN_PICTURE_H
#define DMCHAIN_PICTURE_H

#include "dmchain.h"

/**
 * struct picture_cell - what is seen of a layer in a part of the disk
 * @data: bytes of data
 * @zero: bytes that it makes zero
 * @damaged: bytes of which nobody knows
 */
struct picture_cell {
	uint64_t data;
	uint64_t zero;
	uint64_t damaged;
};

/**
 * struct picture - a disk in columns, a row for each layer
 * @name: of the disk
 * @size: bytes
 * @nr: layers
 * @columns: parts of the disk, about equally long
 * @labels: path of each layer
 * @cells: @nr rows of @columns
 * @rows: sum of each row
 */
struct picture {
	const char *name;
	uint64_t size;
	unsigned int nr;
	unsigned int columns;
	char **labels;
	struct picture_cell *cells;
	struct picture_cell *rows;
};

/** picture_begin() - memory depends on layers and columns only; labels are NULL.
 * For picture_free(), also after a failure. */
int picture_begin(struct picture *p, const char *name, uint64_t size,
		  unsigned int nr, unsigned int columns);
void picture_free(struct picture *p);
/** picture_label() - the last part of a layer's path, for a line that is short */
const char *picture_label(const struct picture *p, unsigned int layer);
/** picture_columns() - as many as fit for so many layers, @wish at most */
unsigned int picture_columns(unsigned int nr, unsigned int wish);
/** picture_extent() - callback for walk_map() and control_map(); @arg: picture */
int picture_extent(const struct dm_chain_extent *e, void *arg);
/** picture_column() - byte at which one begins */
uint64_t picture_column(const struct picture *p, unsigned int column);
/** picture_level() - how much of a part is held, 0 to 4: a trace is 1, all is 4 */
unsigned int picture_level(uint64_t bytes, uint64_t of);

/** picture_svg() - draw it; the caller looks for errors of @out */
void picture_svg(const struct picture *p, FILE *out);
/** picture_text() - the same for a terminal, to stdout */
void picture_text(const struct picture *p);
/** picture_write() - into a new file, or over an older picture */
int picture_write(const struct picture *p, const char *path);

/* disk-info.c */

/** disk_picture() - of an open disk */
int disk_picture(const char *name, unsigned int wish, struct picture *p);

#endif
