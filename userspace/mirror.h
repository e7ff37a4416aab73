/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the parts of dmchain mirror share.
 */
#ifndef DMCHAIN_MIRROR_H
#define DMCHAIN_MIRROR_H

#include "job.h"

/**
 * struct mirror - of one disk
 * @name: of the disk
 * @arg: the target, as the user named it: path or descriptor
 * @format: of the target
 * @shallow: it gets only what the top holds
 * @existing: it was made before
 * @verify: both sides are compared before it is ready
 * @pivot: when it is ready the disk moves on
 * @background: don't wait
 * @quiet: nor say that it has started
 * @speed: bytes a second, 0: no limit
 * @on_error: DM_CHAIN_ON_ERROR_*
 * @path: of the target, absolute
 * @ctl: control device
 * @disk: device number
 * @old: the table before
 * @layers: what the kernel says of the layers
 * @nr: of these
 * @source: where the top lives
 * @hdr: of a new target
 * @img: the target
 * @made: it is a file, or the contents of a device, that we made
 * @at: the target's device
 * @token: descriptor, or -1
 * @start: question and answer
 */
struct mirror {
	const char *name;
	const char *arg;
	uint32_t format;
	bool shallow;
	bool existing;
	bool verify;
	bool pivot;
	bool background;
	bool quiet;
	uint64_t speed;
	uint32_t on_error;
	char *path;
	int ctl;
	dev_t disk;
	struct table old;
	struct dm_chain_layer *layers;
	unsigned int nr;
	char *source;
	struct chain_header hdr;
	struct image img;
	bool made;
	struct attached at;
	int token;
	struct dm_chain_job_start start;
};

/* cmd-mirror.c */

/** mirror_path() - where a copy is to lie, absolute (malloc) */
int mirror_path(const char *arg, char **path);

/* mirror-target.c */

/** mirror_target() - make the target, or see that it can be one; @l gets a note */
int mirror_target(struct mirror *m, struct disk_lock *l);
/** mirror_target_undo() - what was made goes again */
void mirror_target_undo(struct mirror *m);

#endif
