/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What import and export share: disks of other formats, read and written by QEMU's
 * own programs. They run as servers of one image each, and are asked by NBD: what
 * QEMU knows of a format is not done again here.
 */
#ifndef DMCHAIN_CONVERT_H
#define DMCHAIN_CONVERT_H

#include "offline.h"

/* tool.c */

/**
 * tool_run() - run a program to its end
 * @code: the exit code if it fails
 * @argv: found in PATH; ends with NULL
 * @object: what it is about, for the line if it fails
 * @out: set to what it printed (malloc); NULL: not wanted
 *
 * Return: 0, -@code, -EXIT_REFUSED: somebody else has the image, or -EXIT_FAILED: it
 * can't be run at all.
 */
int tool_run(int code, const char *const *argv, const char *object, char **out);
/** tool_complaint() - the first line of what a program said on @fd; malloc */
char *tool_complaint(int fd);
/** tool_failed() - the line for that, with the exit code that goes with it */
int tool_failed(int code, const char *object, const char *complaint);

/* newfile.c */

/**
 * struct newfile - a file that is there when it is complete, and not before
 * @path: its name to be
 * @part: name that it has meanwhile, where files can't be without one; else NULL
 * @fd: not close-on-exec, at least 10; -1: none
 * @placed: it has its name
 */
struct newfile {
	char *path;
	char *part;
	int fd;
	bool placed;
};

/** newfile_free() - is a name free for one? */
int newfile_free(const char *path);
/** newfile_make() - without a name yet; whatever ends the program, it is gone then */
int newfile_make(struct newfile *f, const char *path);
/** newfile_place() - durable, and under its name, if nobody has that by now */
int newfile_place(struct newfile *f);
/** newfile_remove() - undo newfile_place() */
void newfile_remove(struct newfile *f);
void newfile_close(struct newfile *f);

/* names.c */

/**
 * convert_name() - path for the copy of an image
 * @folder: where it is to be
 * @source: path of the image
 * @from: suffix that makes room: ".qcow2"
 * @to: for this: ".img"
 * @taken: names that others have; ends with NULL
 *
 * Return: malloc; NULL without memory.
 */
char *convert_name(const char *folder, const char *source, const char *from,
		   const char *to, char *const *taken);
/** convert_check_name() - may another image get a name from @source's? Not one that
 * a terminal would obey: it may be a hostile header's */
int convert_check_name(const char *source);
/** convert_folder() - of a path; malloc */
char *convert_folder(const char *path);
/** convert_is_folder() - is it one? */
bool convert_is_folder(const char *path);

/* qemu-image.c */

/**
 * struct qimage - a layer of a chain that QEMU knows
 * @path: absolute
 * @raw: plain, else qcow2
 * @is_bdev: a block device
 * @dev: with @ino what it is
 * @ino: of a file
 * @size: virtual size
 * @grain: bytes of which it holds all or nothing
 * @backing: name of the one below as the image has it; NULL: none
 * @backing_format: as the image has it; NULL: it doesn't say
 */
struct qimage {
	char *path;
	bool raw;
	bool is_bdev;
	dev_t dev;
	ino_t ino;
	uint64_t size;
	uint64_t grain;
	char *backing;
	char *backing_format;
};

/**
 * struct qchain - such a chain, top first
 * @nr: layers
 * @images: of them
 * @trust: take backing files wherever they lie
 * @format: of a backing file whose child doesn't say it; NULL: refuse
 */
struct qchain {
	unsigned int nr;
	struct qimage *images;
	bool trust;
	const char *format;
};

/** qchain_open() - from the top down, checked; nothing of it stays open */
int qchain_open(struct qchain *c, const char *path);
void qchain_close(struct qchain *c);
/** qimage_parse() - what qemu-img info says of it (JSON) */
int qimage_parse(struct qimage *q, const char *text);
/** qimage_backing() - path of the backing file; malloc, NULL with the line said */
char *qimage_backing(const struct qimage *q);

/** qnode_file() - a file for QEMU, by which nothing but that file is meant */
json_object *qnode_file(const char *path, bool is_bdev);
/** qnode_image() - of a format, on @backing (consumed); NULL: on nothing */
json_object *qnode_image(const char *format, json_object *file,
			 json_object *backing);
/** qchain_node() - layer @i, alone or with what is below it */
json_object *qchain_node(const struct qchain *c, unsigned int i, bool deep);

/* qemu-server.c */

struct nbd_handle;

/**
 * struct qserver - QEMU serves one image to us
 * @nbd: connection; with its end the server ends
 * @pid: of the server
 * @label: what error lines call the image
 * @size: bytes
 * @log: what the server said
 */
struct qserver {
	struct nbd_handle *nbd;
	pid_t pid;
	const char *label;
	uint64_t size;
	int log;
};

/** qserver_open() - @node: of qchain_node(), consumed */
int qserver_open(struct qserver *s, const char *label, json_object *node,
		 bool write);
void qserver_close(struct qserver *s);

/**
 * struct qextent - what a server says of a part of its image
 * @start: bytes
 * @length: bytes
 * @depth: 1: the image itself holds it; more: one below; 0: none
 * @zero: reads zeroes
 */
struct qextent {
	uint64_t start;
	uint64_t length;
	uint32_t depth;
	bool zero;
};

/** qserver_map() - all of it, in order; @cb nonzero stops */
int qserver_map(struct qserver *s,
		int (*cb)(const struct qextent *e, void *arg), void *arg);
int qserver_read(struct qserver *s, void *buf, size_t len, uint64_t offset);
int qserver_write(struct qserver *s, const void *buf, size_t len, uint64_t offset);
int qserver_zero(struct qserver *s, uint64_t len, uint64_t offset);
int qserver_flush(struct qserver *s);

/** qserver_verify() - does a view show what a server shows? @hint: if not, what to do */
int qserver_verify(struct qserver *s, struct view *v, const char *hint);

/* blockrun.c */

/**
 * struct blockrun - extents of any length become runs of whole blocks
 * @shift: of the block size
 * @size: of the disk; the last block may be a part of one
 * @at: up to where it has come
 * @seen: states in the block that is not complete, a bit each
 * @cb: gets each run; a block of which only a part is held comes as data
 * @arg: for @cb
 *
 * A block that is held in part must be held as a whole: it then has to be read with
 * what is below.
 */
struct blockrun {
	uint32_t shift;
	uint64_t size;
	uint64_t at;
	unsigned int seen;
	int (*cb)(uint64_t block, uint64_t nr, unsigned int state, void *arg);
	void *arg;
};

/** blockrun_add() - the next @length bytes have @state */
int blockrun_add(struct blockrun *b, uint64_t length, unsigned int state);

/* layer-fill.c */

/**
 * struct layer_fill - a new layer gets its map, from its start on
 * @img: of image_make(); its header is not written yet
 * @group: the one that is filled
 * @presence: bits of those that hold something
 * @data_bytes: in blocks held as data
 * @zero_bytes: in blocks held as zero
 */
struct layer_fill {
	struct image *img;
	struct map_group group;
	struct presence presence;
	uint64_t data_bytes;
	uint64_t zero_bytes;
};

int layer_fill_begin(struct layer_fill *f, struct image *img);
/** layer_fill_states() - the next blocks that are not absent */
int layer_fill_states(struct layer_fill *f, uint64_t block, uint64_t nr,
		      unsigned int state);
/** layer_fill_end() - all is durable but the header */
int layer_fill_end(struct layer_fill *f);
void layer_fill_free(struct layer_fill *f);

#endif
