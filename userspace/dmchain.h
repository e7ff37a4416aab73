/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Interfaces between the parts of the controller. Each part has one reason to
 * change:
 *
 *	main.c		command line: finds the command, options common to all
 *	cmd-*.c		one file a command: options, what it does, what it prints
 *	msg.c		errors: one line, and the exit code that goes with it
 *	image.c		a layer's file or device while no chain has it open: O_DIRECT,
 *			locks, headers in both slots
 *	walk.c		a chain from its top image down the parent links, checked
 *	raw.c		fingerprint of raw layers
 *	imgmap.c	state maps of closed layers, and of a walked chain as a whole
 *	lib-crc.c	crc32c for the codec
 *	loop.c		image files on loop devices
 *	dm.c		everything of libdevmapper: tables, UUIDs, cookies
 *	control.c	/dev/dm-chain
 *	module.c	libkmod
 *	disk.c		an open disk: what the kernel says of it, and its files
 *	json.c, size.c	output and input of numbers
 *
 * Errors: a function that can fail returns 0 or a negative exit code (see enum
 * dmchain_exit) and has then printed its one line by msg_fail().
 */
#ifndef DMCHAIN_H
#define DMCHAIN_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include <json-c/json.h>

#include "dm-chain-format.h"
#include <linux/dm-chain.h>

enum dmchain_exit {
	EXIT_DONE = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_REFUSED = 3,	/* permissions, or in use: the holder is named */
	EXIT_IMAGE = 4,		/* no valid image, or not the parent it should be */
};

/* msg.c */

/**
 * msg_fail() - print the one line of an error on stderr
 * @code: enum dmchain_exit
 * @fmt: "OBJECT: what, why; what to do" without a final newline
 *
 * Return: -@code, so that callers write `return msg_fail(...)`.
 */
int msg_fail(int code, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/** msg_warn() - a line on stderr that changes nothing of the result */
void msg_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/** msg_fail_errno() - as msg_fail(), with ": strerror(err)" behind */
int msg_fail_errno(int code, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* size.c */

/**
 * size_parse() - "10G", "512M", "4096", "1T"; with @old also "+4M"
 * Return: 0, or -EXIT_USAGE with the line printed.
 */
int size_parse(const char *text, const uint64_t *old, uint64_t *bytes);
/** size_text() - for people: "10 GiB", "4 KiB"; @buf at least 32 bytes */
const char *size_text(uint64_t bytes, char *buf);
/** id_text() - RFC 4122 text of an id; @buf at least 37 bytes */
const char *id_text(const struct chain_id *id, char *buf);
bool id_parse(const char *text, struct chain_id *id);
/** id_random() - version-4 UUID from getrandom() */
void id_random(struct chain_id *id);

/* image.c */

/**
 * struct image - a layer's file or block device, opened by the controller
 * @path: as given (absolute after image_open())
 * @fd: O_DIRECT
 * @format: enum dm_chain_format, as named by the user or the child
 * @is_bdev: block device, not a file
 * @writable: opened for writing
 * @bytes: size of the file or device
 * @dev: of the inode (files) or st_rdev (devices); with @ino the identity
 * @ino: 0 for devices
 * @hdr: of a chain layer
 * @stale_slots: header slots that image_write_header() must mend
 */
struct image {
	char *path;
	int fd;
	uint32_t format;
	bool is_bdev;
	bool writable;
	uint64_t bytes;
	dev_t dev;
	ino_t ino;
	struct chain_header hdr;
	unsigned int stale_slots;
};

#define IMAGE_WRITE	1	/* needs to write; takes an exclusive flock */
#define IMAGE_ANY_MARK	2	/* don't refuse by marks, the caller looks */

/**
 * image_open() - open a closed or shared layer and read its header
 * @format: DM_CHAIN_FORMAT_RAW or _CHAIN; nothing is ever probed
 *
 * Locks: flock, shared or exclusive (IMAGE_WRITE); a block device is opened
 * O_EXCL for IMAGE_WRITE. An image that an open chain has rw is refused for
 * IMAGE_WRITE (kernel is asked; EXIT_REFUSED, names the disk).
 */
int image_open(struct image *img, const char *path, uint32_t format, int flags);
void image_close(struct image *img);

/** image_read() / image_write() - whole or failed; any alignment, bounced */
int image_read(struct image *img, void *buf, size_t len, uint64_t offset);
int image_write(struct image *img, const void *buf, size_t len, uint64_t offset);
int image_flush(struct image *img);

/**
 * image_write_header() - one durable header update by rule H1
 *
 * generation + 1; a stale slot first; flush after each slot.
 */
int image_write_header(struct image *img);

/* raw.c */

/** raw_fingerprint() - of a raw image: see chain_raw_sample() */
int raw_fingerprint(struct image *img, struct chain_id *fp);

/* walk.c */

/**
 * struct walk - a chain as its images tell it, top first
 *
 * images[0] is the top. walk_open() has checked each parent link.
 */
struct walk {
	unsigned int nr;
	struct image *images;
};

#define WALK_READ_ONLY	1	/* the top won't be written: seals don't matter */
#define WALK_LAX	2	/* info, check: go on after a link that doesn't fit */

/**
 * walk_open() - open a chain from its top down
 * @path: of the top
 * @format: of the top
 *
 * Relative parent hints are taken relative to the child's folder. Refuses
 * cycles, more than DM_CHAIN_MAX_LAYERS, one inode or UUID twice, wrong,
 * replaced and modified parents (EXIT_IMAGE; the line names both ids).
 */
int walk_open(struct walk *w, const char *path, uint32_t format, int flags);
void walk_close(struct walk *w);

/* imgmap.c */

/**
 * struct imgmap - state map of a closed chain layer in memory
 * @groups: number of groups, from the header's size
 * @words: per group NULL (absent) or CHAIN_GROUP_WORDS states
 * @damaged: map sectors found damaged
 * @damaged_presence: presence sectors found damaged
 */
struct imgmap {
	uint64_t groups;
	uint64_t **words;
	uint64_t damaged;
	uint64_t damaged_presence;
};

int imgmap_load(struct imgmap *m, struct image *img);
void imgmap_free(struct imgmap *m);
unsigned int imgmap_state(const struct imgmap *m, uint64_t block);

/**
 * walk_map() - what a reader of a walked chain sees, as extents
 * @cb: called in order; return nonzero to stop
 */
int walk_map(struct walk *w, int (*cb)(const struct dm_chain_extent *e, void *arg),
	     void *arg);

/* module.c */

/** module_load() - dm-chain is loaded, or its line printed */
int module_load(void);

/* control.c */

/** control_open() - /dev/dm-chain, module loaded if need be, ABI checked, host
 * id set; the descriptor or a negative exit code */
int control_open(void);
int control_layers(int ctl, dev_t disk, struct dm_chain_layer **layers,
		   unsigned int *nr);
int control_map(int ctl, dev_t disk,
		int (*cb)(const struct dm_chain_extent *e, void *arg), void *arg);
int control_snapshot(int ctl, dev_t disk, uint64_t *pause_ns);
int control_resize(int ctl, dev_t disk, uint64_t size);
int control_expedite(int ctl, bool on);

/* loop.c */

/**
 * loop_attach() - the loop device of an image file; made if there is none
 * @img: a file
 * @write: a writable one is needed; a read-only one serves read-only layers
 * @dev: set to the loop's device number
 *
 * Return: an open descriptor of the loop device (autoclear: it goes with its
 * last user, so hold it until the table has it), or a negative exit code.
 */
int loop_attach(const struct image *img, bool write, dev_t *dev);

/** loop_backing() - file behind a loop device; false if it is no loop */
bool loop_backing(dev_t dev, char *path, size_t len, dev_t *fdev, ino_t *ino);

/** loop_grow() - let a loop device see its file's new size */
int loop_grow(dev_t dev);

/** layer_marker_set() - keep udev's hands off a layer's device: marker file
 * in /run/dmchain/layers that the udev rule looks for */
int layer_marker_set(dev_t dev);
void layer_markers_clean(void);

/* dm.c */

struct table_layer {
	dev_t dev;
	uint32_t format;
	const char *role;	/* "rw", "ro", "next" */
};

struct table {
	uint64_t sectors;
	unsigned int nr;
	struct table_layer *layers;
	bool read_only;
};

/** dm_uuid prefix of all disks: DMCHAIN- followed by the top's UUID at open */
#define DMCHAIN_DM_UUID_PREFIX "DMCHAIN-"

int dm_create(const char *name, const struct table *t);
int dm_reload_resume(const char *name, const struct table *t);
int dm_remove(const char *name);
int dm_clear(const char *name);
/** dm_disk() - device number of a disk; -EXIT_FAILED if there is none */
int dm_disk(const char *name, dev_t *dev, bool *suspended);
int dm_table_read(const char *name, struct table *t, char **text);
void dm_table_free(struct table *t);
/** dm_each() - every chain disk; @cb nonzero stops */
int dm_each(int (*cb)(const char *name, dev_t dev, void *arg), void *arg);

/* disk.c */

/**
 * disk_holding() - open disks that have an image as a layer
 * @img: file or device
 * @writable_only: only if they have it rw
 * @name: set to the name of the first such disk (malloc), or NULL
 *
 * Return: 0, also if there is none or the module isn't loaded.
 */
int disk_holding(const struct image *img, bool writable_only, char **name);

/** disk_layer_path() - where a layer of an open disk lives: file or device */
char *disk_layer_path(dev_t dev);

/** disk_info() - `info NAME`: text to stdout, or the JSON object */
int disk_info(const char *name, bool json);
int disk_map(const char *name, bool json);
/** disk_recover() - finish or undo what is half done on a disk; idempotent */
int disk_recover(const char *name);

/* commands: argc/argv from the command word on; return an exit code */
extern bool opt_json;

int cmd_create(int argc, char **argv);
int cmd_info(int argc, char **argv);	/* NAME: disk_info(), else the images */
int cmd_map(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_compare(int argc, char **argv);
int cmd_new_id(int argc, char **argv);
int cmd_unseal(int argc, char **argv);
int cmd_resize(int argc, char **argv);	/* NAME: disk_resize() */
int cmd_open(int argc, char **argv);
int cmd_close(int argc, char **argv);
int cmd_list(int argc, char **argv);
int cmd_table(int argc, char **argv);
int cmd_snapshot(int argc, char **argv);
int cmd_recover(int argc, char **argv);

int disk_resize(const char *name, const char *size);

#endif
