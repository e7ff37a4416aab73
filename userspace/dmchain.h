/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Interfaces between the parts of the controller. Each part has one reason to
 * change:
 *
 *	main.c		command line: finds the command, options common to all
 *	cmd-*.c		one file a command: options, what it does, what it prints
 *	args.c		options and operands of a command
 *	msg.c		errors: one line, and the exit code that goes with it
 *	fdarg.c		layers given as descriptors
 *	path.c		NAME or PATH; hints of where another layer lies
 *	host.c		the id of this machine in in-use marks
 *	image.c		a layer's file or device while no chain has it open: O_DIRECT,
 *			locks, headers in both slots
 *	marks.c		what the marks of a closed layer allow
 *	make.c		a new layer, up to its first header
 *	walk.c		a chain from its top image down the parent links, checked
 *	raw.c		fingerprint of raw layers
 *	imgmap.c	state maps of closed layers
 *	walkmap.c	what a reader of a walked chain sees
 *	view.c		what a disk shows: extents and bytes
 *	seal.c		a layer gets a child
 *	rebase-copy.c	what a layer needs of its old parent
 *	show.c		layers and maps, as text and as JSON, of open and closed disks
 *	show-tree.c	a chain as it stands
 *	picture.c	what is seen of layers, summed up in columns (picture.h)
 *	picture-*.c	the same as SVG, and in letters
 *	work-meter.c	progress of what the controller does itself
 *	tool.c, qemu-*.c	QEMU's programs, and images that they know (convert.h)
 *	blockrun.c	from their extents to blocks
 *	layer-fill.c	a layer is made in one go
 *	newfile.c	files without a name until they are complete
 *	names.c		names of what is converted
 *	lib-crc.c	crc32c for the codec
 *	loop.c		image files on loop devices
 *	dm.c		everything of libdevmapper: tables, UUIDs, cookies
 *	control.c	/dev/dm-chain
 *	module.c	libkmod
 *	disk.c		open disks: who has which layer, where do they live
 *	disk-info.c	what the kernel says of a disk
 *	layer-arg.c	LAYER: which layer of a disk is meant
 *	perm-show.c	the permission matrix and holders, as text and as JSON
 *	perm-check.c	would an operation be allowed, and who is in the way
 *	disk-resize.c	a disk grows while it is in use
 *	layer-grow.c	the file and loop device of a layer grow
 *	control-job.c	/dev/dm-chain: calls that are about jobs
 *	job-range.c	which layers a job is about
 *	job-space.c	is there room for what a job moves
 *	job-run.c	a job from the question whether it may run to its start
 *	mirror-target.c	the target of a mirror, new or prepared
 *	job-wait.c	waiting for a job, with its progress
 *	job-end.c	what is left to do when a job has ended
 *	job-list.c	jobs there are, running or cut off; JOB
 *	job-show.c	jobs as text and as JSON
 *	job-progress.c	rate and time left
 *	disk-recover.c	what a killed controller left
 *	run.c		locks between controllers
 *	holder.c	who has a block device open
 *	klog.c		why the kernel refused
 *	label.c		labels of image files: which, for whom, from when to when
 *	label-*.c	templates; the attributes of a file; records of both
 *	size.c		input and output of sizes and ids
 *	boot-file.c	disks that come up with the machine: declarations in /etc
 *	boot-unit.c	the same for systemd
 *	boot-track.c	the same when a disk gets another top
 *
 * Errors: a function that can fail returns 0 or a negative exit code (see enum
 * dmchain_exit) and has then printed its one line by msg_fail().
 */
#ifndef DMCHAIN_H
#define DMCHAIN_H

/* Include this header first. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

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

/** msg_mute() - print no errors: who only tries something; msg_last() has the line.
 * As often off as on */
void msg_mute(bool on);

/** msg_before_line - called before a line is printed: a bar on the terminal goes */
extern void (*msg_before_line)(void);

/** msg_last() - text of the last error, without "dmchain: "; never NULL; may be part
 * of the next one */
const char *msg_last(void);

/** text_clean() - make text from a header fit for a line: control characters
 * become '?', bytes that are no UTF-8 too; in place */
char *text_clean(char *text);

/** text_controls() - are there control characters in it? */
bool text_controls(const char *text);

/** msg_say() - a line on stdout, made fit for one by text_clean(); without newline */
void msg_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/** json_text() - a JSON string of any bytes; NULL gives null */
json_object *json_text(const char *text);

/* args.c */

/**
 * struct arg_opt - an option of a command
 * @name: without "--"
 * @text: where its value goes, or NULL
 * @flag: set to true when it is given, or NULL
 */
struct arg_opt {
	const char *name;
	const char **text;
	bool *flag;
};

/**
 * args_parse() - take a command's options, leave its operands
 * @argc: from the command word on; set to the number of operands
 * @argv: set to the first operand
 * @opts: ends with a NULL name, or NULL
 * @min: operands needed
 * @max: operands allowed
 *
 * main() has already taken --json and --help, which any command may have.
 * Return: 0, or -EXIT_USAGE with the line printed.
 */
int args_parse(int *argc, char ***argv, const struct arg_opt *opts, int min,
	       int max);

/**
 * args_parse_layer() - args_parse() of a command that has one layer
 * @argc: as of args_parse()
 * @argv: as of args_parse()
 * @opts: as of args_parse()
 * @min: as of args_parse()
 * @max: as of args_parse()
 * @at: operand that names it; --fd N stands for fd:N in its place
 */
int args_parse_layer(int *argc, char ***argv, const struct arg_opt *opts,
		     int min, int max, int at);

/** args_format() - "raw" or "chain"; NULL: chain */
int args_format(const char *text, uint32_t *format);

/* fdarg.c */

struct stat;

/** arg_fd() - N of "fd:N", "/dev/fd/N" and "/proc/self/fd/N", 0 of "/dev/stdin";
 * -1: a path */
int arg_fd(const char *arg);
/** arg_says_fd() - begins with "fd:" and is no path, whatever follows */
bool arg_says_fd(const char *arg);
/**
 * arg_layer_check() - is a layer's argument a path, or an open descriptor?
 * @arg: as the user named it
 *
 * To be called before anything is opened. args_parse_layer() does it.
 * Return: 0, or -EXIT_USAGE with the line printed.
 */
int arg_layer_check(const char *arg);
/** arg_path() - @arg, or the path of its descriptor (malloc); NULL: it has none */
char *arg_path(const char *arg);
/** arg_stat() - of what @arg names */
int arg_stat(const char *arg, struct stat *st);
/** fd_path() - path that leads to a descriptor's file, (malloc), or NULL: it
 * is deleted, or has never had one here */
char *fd_path(int fd);
/** fd_check_access() - may a layer be read, or written, through a descriptor? */
int fd_check_access(int fd, const char *label, bool write);
/** fd_read_only() - a descriptor through which nothing may ever be written */
bool fd_read_only(int fd);
/** fd_reopen() - a descriptor with other flags, or where we may not, the same
 * one again; -1 with errno */
int fd_reopen(int fd, int flags);

/* path.c */

/** arg_is_path() - has a '/', is a file or fd:N; all else names a disk */
bool arg_is_path(const char *arg);

/** path_absolute() - with the folder's real path; the last part may be a link
 * or missing; malloc, NULL with errno */
char *path_absolute(const char *path);

/**
 * hint_make() - how a header names another layer's place
 * @hint: DM_CHAIN_PATH_BYTES
 * @owner: path of the layer whose header it is
 * @target: as the user named it: a relative path is kept, relative to the
 *	folder of @owner; devices are always named absolutely
 */
int hint_make(char *hint, const char *owner, const char *target);

/**
 * hint_make_near() - the same of two absolute paths
 * @hint: filled in, DM_CHAIN_PATH_BYTES
 * @owner: file whose header it is for
 * @target: file that it is to name
 * @relative: the owner's link was relative, and stays so
 *
 * Two files in one folder get a plain name: they stay a pair if that is moved.
 */
int hint_make_near(char *hint, const char *owner, const char *target,
		   bool relative);

/** hint_resolve() - the path that a hint of @owner means; malloc */
char *hint_resolve(const char *owner, const char *hint);

/* host.c */

/** host_id() - this machine in in-use marks: /etc/machine-id, or all zero */
void host_id(struct chain_id *id);

/* size.c */

/**
 * size_parse() - "10G", "512M", "4096", "1T"; with @old also "+4M"
 * @text: as the user gave it
 * @old: size that "+" adds to, or NULL
 * @bytes: set to the size
 *
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
 * @path: absolute
 * @label: what error lines call it: the path, for a parent with its child's
 * @fd: O_DIRECT; -1 after image_release()
 * @given: descriptor that the user gave, which is not ours to close; or -1
 * @nameless: @given has no path; @path is fd:N then
 * @format: enum dm_chain_format, as named by the user or the child
 * @is_bdev: block device, not a file
 * @writable: opened for writing
 * @bytes: size of the file or device
 * @dev: of the inode (files) or st_rdev (devices); with @ino the identity
 * @ino: 0 for devices
 * @hdr: of a chain layer
 * @stale_slots: header slots that are one update behind or damaged
 * @damaged_slots: those of them that are damaged
 */
struct image {
	char *path;
	char *label;
	int fd;
	int given;
	bool nameless;
	uint32_t format;
	bool is_bdev;
	bool writable;
	uint64_t bytes;
	dev_t dev;
	ino_t ino;
	struct chain_header hdr;
	unsigned int stale_slots;
	unsigned int damaged_slots;
};

#define IMAGE_WRITE	1	/* needs to write; takes an exclusive flock */
#define IMAGE_ANY_MARK	2	/* don't refuse by marks, the caller looks */
#define IMAGE_TRY_WRITE	4	/* as IMAGE_WRITE, but reading will do where the
				 * file or its file system is read-only */
#define IMAGE_CHECK	8	/* check: it looks at length and header copies itself */

/**
 * image_open() - open a closed or shared layer and read its header
 * @img: filled in, for image_close()
 * @path: path, or fd:N and the like: see arg_fd()
 * @format: DM_CHAIN_FORMAT_RAW or _CHAIN; nothing is ever probed
 * @flags: IMAGE_*
 *
 * Locks: flock, shared or exclusive (IMAGE_WRITE); a block device is opened
 * O_EXCL for IMAGE_WRITE. An image that an open chain has, in whatever role, is
 * refused for IMAGE_WRITE (kernel is asked; EXIT_REFUSED, names the disk), as
 * only the kernel may write it then.
 *
 * Without IMAGE_ANY_MARK: as image_check_marks() for a top.
 */
int image_open(struct image *img, const char *path, uint32_t format, int flags);
/** image_open_parent() - the same; error lines say whose parent it is */
int image_open_parent(struct image *img, const char *path, uint32_t format,
		      int flags, const char *child);
/** image_release() - let go of file, lock and exclusive claim, and keep what is
 * known: for a device that dm is to claim next */
void image_release(struct image *img);
/** image_close() - may follow a failed open, and image_release() */
void image_close(struct image *img);
/** image_same() - one inode or device, also behind a loop device */
bool image_same(const struct image *a, const struct image *b);

/** image_read() / image_write() - whole or failed; any alignment, bounced */
int image_read(struct image *img, void *buf, size_t len, uint64_t offset);
int image_write(struct image *img, const void *buf, size_t len, uint64_t offset);
int image_flush(struct image *img);

/**
 * image_write_header() - one durable header update by rule H1
 * @img: its header is what is written
 *
 * generation + 1; a stale slot first; flush after each slot. Refused if the
 * header on disk is not the one that was read (another writer).
 */
int image_write_header(struct image *img);

/** image_write_trailer() - a copy of the header at the end of the layer; no
 * flush */
int image_write_trailer(struct image *img);

/* marks.c */

enum marks_use {
	MARKS_TOP_RW,	/* to be written as a disk */
	MARKS_TOP_RO,	/* to be read as a disk */
	MARKS_LOWER,	/* a parent */
	MARKS_NEW_PARENT, /* a parent that gets another child */
};

/**
 * image_check_marks() - may the layer be used like that?
 * @img: the layer
 * @use: what it is wanted for
 * @force: an in-use mark doesn't matter
 *
 * MARKS_TOP_RW refuses an in-use mark of another host only: whether one of
 * this host is stale, the opener tells from the module's instance.
 */
int image_check_marks(const struct image *img, enum marks_use use, bool force);

/**
 * image_check_in_use() - before its header is written while it is closed
 * @img: the layer
 * @what: of the command, for the line: "resize"; NULL: a mark that is left from
 *	before this host went down doesn't matter
 * @force: the user knows that nobody has it
 *
 * Refuses an in-use mark: the layer is open elsewhere, or was when its host
 * went down.
 */
int image_check_in_use(const struct image *img, const char *what, bool force);

/** image_has_commit() - the record of a commit that has not ended */
bool image_has_commit(const struct image *img);
/**
 * image_check_job() - before a closed layer gets another header, or a child
 * @img: the layer
 * @what: is to be done with it: "resize"
 *
 * Refuses what a commit has spoiled, and the top of one that isn't finished:
 * their headers are how the layers between are known.
 */
int image_check_job(const struct image *img, const char *what);

/** image_pending() - waits for the decision of a switch of several disks */
bool image_pending(const struct image *img);

/** image_clear_use() - drop the in-use mark; the header isn't written */
void image_clear_use(struct image *img);
/** image_clear_seal() - drop the seal (H3: that needs a new content id); the
 * mark of many children stays */
void image_clear_seal(struct image *img);

/** marks_name() - of the @i-th mark, or NULL behind the last */
const char *marks_name(unsigned int i);
/** record_name() - of the job that a valid header has a record of */
const char *record_name(unsigned int type);

/* make.c */

/**
 * image_make() - a new layer, complete but for its headers
 * @img: filled in; writable
 * @path: a file to make, or a block device whose contents are given up; or a
 *	descriptor of such a device or of an empty file
 * @hdr: geometry, ids and link are final
 *
 * File: made O_EXCL, sized, presence map, durable. Device: header slots of a
 * former life zeroed | presence map, trailer zeroed. On failure there is no
 * file left; one that was given is empty again.
 */
int image_make(struct image *img, const char *path,
	       const struct chain_header *hdr);
/**
 * image_make_given() - the same of an empty file that is open and will get its name
 * when it is complete
 * @img: filled in, for image_close()
 * @path: that name
 * @fd: the caller's
 * @hdr: of the new layer
 */
int image_make_given(struct image *img, const char *path, int fd,
		     const struct chain_header *hdr);
/** folder_flush() - the entry of a path in its folder is durable */
int folder_flush(const char *path);
/** image_make_commit() - headers and directory entry, durable; @img stays open.
 * What it fails to do image_make_undo() undoes. */
int image_make_commit(struct image *img);
/** image_make_header() - the same, with the generation that the header has */
int image_make_header(struct image *img);
/**
 * image_renew() - a layer that nobody needs begins a new life: it holds nothing
 * @img: the layer, writable
 *
 * Cut off, its map is damaged; so it has a mark by which it is refused.
 */
int image_renew(struct image *img);
/** image_make_raw() - a file of so many zeroes, or such of an empty one that was
 * given; on failure there is none */
int image_make_raw(const char *arg, const char *path, uint64_t bytes);
/** image_make_undo() - remove (or empty) the file, or the headers of a device;
 * closes */
void image_make_undo(struct image *img);
/** device_bytes() - size of a block device; 0 if @path, which may be a
 * descriptor, is none */
uint64_t device_bytes(const char *path);

/**
 * recover_closed() - a closed layer gets what was decided of it
 * @path: layer
 * @assume: "committed", "aborted", or NULL: what to take it for if the layer that
 *	decided is lost
 */
int recover_closed(const char *path, const char *assume);

/* pending.c: what a switch that was cut off has left */

/** copy_prepared() - a copy: is it the disk? its source tells */
bool copy_prepared(const struct image *img);
/** copy_source_reachable() - is that where the copy says; as pending_reachable() */
int copy_source_reachable(const struct image *copy);
/** copy_ask() - did the disk move on to the copy; says if that can't be known */
int copy_ask(const struct image *copy, bool *decided);
/** copy_complete() - in memory: it did */
void copy_complete(struct image *copy);
/** copy_undecided() - the line for one to which it did not */
int copy_undecided(const struct image *copy);
/** copy_settle() - ask, and make up for what the copy's header lacks; else refuse */
int copy_settle(struct image *img);

/** pending_what() - "snapshot" or "pivot": what a pending layer is part of */
const char *pending_what(const struct image *img);

struct walk;

/**
 * pending_ask() - has the coordinator of a pending layer decided for the snapshot
 * @img: the pending layer
 * @w: images that are open already, or NULL
 * @committed: set: it has
 */
int pending_ask(const struct image *img, const struct walk *w, bool *committed);
/**
 * pending_reachable() - is the coordinator where it is said to be
 * @img: the pending layer
 *
 * Return: 1, 0: it is lost, nothing or another layer is there, or a negative exit
 * code: what is there can't be opened now.
 */
int pending_reachable(const struct image *img);
/** pending_set() - header of a pending layer for which that is known; not written */
void pending_set(struct image *img, bool committed);
/** pending_never() - the line for a new top that has come to nothing */
int pending_never(const struct image *img);
/**
 * pending_settle() - a top that may be pending is a layer as any other
 * @img: the top
 * @w: images that are open already, or NULL
 * @write: img is open for writing: durable; else the header in memory is changed,
 *	where that matters for what is seen
 * @force: an in-use mark of another host doesn't matter
 *
 * An old top is sealed, or gets a new content id. Return: 0 or a negative exit
 * code.
 */
int pending_settle(struct image *img, const struct walk *w, bool write, bool force);

/* raw.c */

/** raw_fingerprint() - of a raw image: see chain_raw_sample() */
int raw_fingerprint(struct image *img, struct chain_id *fp);

/* walk.c */

/**
 * struct walk - a chain as its images tell it, top first
 * @nr: how many layers there are
 * @images: the layers, top first
 * @error: WALK_LAX: the first -EXIT_* that was passed over
 *
 * images[0] is the top. walk_open() has checked each parent link.
 */
struct walk {
	unsigned int nr;
	struct image *images;
	int error;	/* WALK_LAX: the first -EXIT_* that was passed over */
};

#define WALK_READ_ONLY	1	/* the top won't be written: seals don't matter */
#define WALK_LAX	2	/* info, check: go on after a link that doesn't fit */
#define WALK_FORCE	4	/* an in-use mark of another host doesn't matter */

/** raise_file_limit() - for a descriptor or two for each layer of a long chain */
void raise_file_limit(void);

/**
 * walk_open() - open a chain from its top down
 * @w: filled in, for walk_close()
 * @path: of the top
 * @format: of the top
 * @flags: WALK_*
 *
 * Relative parent hints are taken relative to the child's folder. Refuses
 * cycles, more than DM_CHAIN_MAX_LAYERS, one inode or UUID twice, wrong,
 * replaced and modified parents (EXIT_IMAGE; the line names both ids).
 *
 * Without WALK_READ_ONLY the top is opened as by IMAGE_WRITE, so a device is
 * claimed: walk_close() or image_release() before dm is to have it.
 */
int walk_open(struct walk *w, const char *path, uint32_t format, int flags);
/** walk_from() - the same from an open top, which is moved into @w in any case */
int walk_from(struct walk *w, struct image *top, int flags);
/** walk_through() - by way of which commit the parent of images[i] is read:
 * see chain_through() */
const struct chain_header *walk_through(const struct walk *w, unsigned int i);
void walk_close(struct walk *w);

/* imgmap.c */

/**
 * struct imgmap - state map of a closed chain layer in memory
 * @groups: number of groups, from the header's size
 * @words: per group NULL (absent) or CHAIN_GROUP_WORDS states; those of groups of one
 *	state are shared
 * @damaged: map sectors found damaged
 * @damaged_presence: presence sectors found damaged
 */
struct imgmap {
	uint64_t groups;
	const uint64_t **words;
	uint64_t damaged;
	uint64_t damaged_presence;
};

int imgmap_load(struct imgmap *m, struct image *img);
void imgmap_free(struct imgmap *m);
unsigned int imgmap_state(const struct imgmap *m, uint64_t block);
/** imgmap_put() - in memory only; false: no memory */
bool imgmap_put(struct imgmap *m, uint64_t block, unsigned int state);
/** imgmap_run() - first block after @block with another state, at most @end */
uint64_t imgmap_run(const struct imgmap *m, uint64_t block, uint64_t end);
/** imgmap_count() - bytes in blocks of a state */
uint64_t imgmap_count(const struct imgmap *m, const struct chain_header *h,
		      unsigned int state);

/* walkmap.c */

/**
 * walk_map() - what a reader of a walked chain sees, as extents
 * @w: the chain
 * @cb: called in order; return nonzero to stop
 * @arg: for @cb
 */
int walk_map(struct walk *w, int (*cb)(const struct dm_chain_extent *e, void *arg),
	     void *arg);

/**
 * struct extents - merges equal neighbours on their way to @cb
 * @last: the one that may still grow
 * @cb: gets each merged extent; nonzero stops
 * @arg: for @cb
 */
struct extents {
	struct dm_chain_extent last;
	int (*cb)(const struct dm_chain_extent *e, void *arg);
	void *arg;
};

/** extents_add() - the next extent; @arg is a struct extents, so that this can
 * be the callback of walk_map() and control_map() */
int extents_add(const struct dm_chain_extent *e, void *arg);
/** extents_end() - hand on what is still kept */
int extents_end(struct extents *x);

/* view.c */

/**
 * struct view - what a disk shows, read from its start on
 * @label: what error lines call it
 * @walk: of a closed chain; of an open disk just its device, as a raw image
 * @open: it is an open disk
 * @size: bytes
 * @extents: what the map says
 * @nr: number of them
 * @room: allocated
 * @at: the extent that the last look was at
 */
struct view {
	const char *label;
	struct walk *walk;
	bool open;
	uint64_t size;
	struct dm_chain_extent *extents;
	size_t nr;
	size_t room;
	size_t at;
};

/** view_of_walk() - of a closed chain; @w is to live as long */
int view_of_walk(struct view *v, const char *label, struct walk *w);
/** view_keep() - add an extent; callback, @arg is the view */
int view_keep(const struct dm_chain_extent *e, void *arg);
void view_free(struct view *v);
/** view_look() - what is at @pos, which never goes back, and up to where; behind
 * the end all is zeroes */
void view_look(struct view *v, uint64_t pos, struct dm_chain_extent *e);
bool view_zeroes(const struct dm_chain_extent *e);
/** view_owner() - the image that has the data of an extent */
struct image *view_owner(const struct view *v, const struct dm_chain_extent *e);
/** view_read_extent() - bytes from the start of an extent on */
int view_read_extent(struct view *v, const struct dm_chain_extent *e, void *buf,
		     size_t len);
/** view_read() - any bytes, from @pos on, which never goes back */
int view_read(struct view *v, uint64_t pos, void *buf, size_t len);

/* label.c: the rest is in label.h */

enum label_kind {
	LABEL_NONE,
	LABEL_RO,
	LABEL_RW,
};

/** label_of() - the label that a file has now */
enum label_kind label_of(dev_t dev, ino_t ino);
/** label_name() - "none", "ro", "rw" */
const char *label_name(enum label_kind kind);

/* show.c */

/**
 * struct show_layer - a layer for `info`
 * @path: where its data lives
 * @device: block device path, or NULL
 * @format: enum dm_chain_format
 * @uuid: of a raw layer: zero
 * @parent_uuid: zero: none, or a raw parent
 * @access: "none", "ro", "rw"
 * @label: that an image file has
 * @marks: DM_CHAIN_MARK_*
 * @coordinator: of a pending layer of a closed disk; else zero
 * @decision: set of disks that it has decided; else zero
 * @size: virtual size
 * @data_bytes: in blocks held as data
 * @zero_bytes: in blocks held as zero
 * @damaged_bytes: in blocks whose map sector is damaged
 * @map_bytes: memory that its map takes, once for all its users; 0: not open
 * @users: names of the open disks that have it, ends with NULL; or NULL
 * @work: what a job does to it, or has left; or NULL
 */
struct show_layer {
	char *path;
	char *device;
	uint32_t format;
	struct chain_id uuid;
	struct chain_id parent_uuid;
	const char *access;
	enum label_kind label;
	uint32_t marks;
	struct chain_id coordinator;
	struct chain_id decision;
	uint64_t size;
	uint64_t data_bytes;
	uint64_t zero_bytes;
	uint64_t damaged_bytes;
	uint64_t map_bytes;
	char **users;
	char *work;
};

/**
 * struct show_disk - a disk for `info`
 * @name: of an open disk, or NULL
 * @device: /dev/mapper/..., or NULL
 * @size: virtual size
 * @block_size: of the top; 0 if it is raw
 * @state: "closed", "active", ...
 * @nr: layers
 * @layers: top first
 * @jobs: array of job_json(), or NULL: none
 */
struct show_disk {
	char *name;
	char *device;
	uint64_t size;
	uint32_t block_size;
	const char *state;
	unsigned int nr;
	struct show_layer *layers;
	json_object *jobs;
};

/** show_disk() - `info`: text, or the JSON object, to stdout */
void show_disk(const struct show_disk *d, bool json);
/** show_tree() - (show-tree.c) the chain as it stands, a line for each layer */
void show_tree(const struct show_disk *d);
/** show_disk_free() - the strings and arrays, all from malloc */
void show_disk_free(struct show_disk *d);
/** show_json() - print a JSON object and drop it */
void show_json(json_object *o);

/**
 * struct show_map - `map` on its way to stdout, as `qemu-img map` prints it
 * @json: JSON, else a table
 * @nr: layers of the disk
 * @count: extents printed
 * @merge: merges equal neighbours
 */
struct show_map {
	bool json;
	unsigned int nr;
	uint64_t count;
	struct extents merge;
};

void show_map_begin(struct show_map *s, unsigned int nr, bool json);
/** show_map_extent() - callback for walk_map() and control_map(); @arg is the
 * struct show_map */
int show_map_extent(const struct dm_chain_extent *e, void *arg);
void show_map_end(struct show_map *s);

/* module.c */

/** module_load() - dm-chain is loaded, or its line printed */
int module_load(void);


/* control.c */

/** control_open() - /dev/dm-chain, module loaded if need be, ABI checked, host
 * id set; the descriptor or a negative exit code */
int control_open(void);
/** control_layers() - of an open disk; how much is in them may not be known yet */
int control_layers(int ctl, dev_t disk, struct dm_chain_layer **layers,
		   unsigned int *nr);
/** control_layers_counted() - waits until it is: their maps are read */
int control_layers_counted(int ctl, dev_t disk, struct dm_chain_layer **layers,
			   unsigned int *nr);
/** control_map() - neighbours of one owner and state may come unmerged */
int control_map(int ctl, dev_t disk,
		int (*cb)(const struct dm_chain_extent *e, void *arg), void *arg);
/**
 * control_snapshot() - switch to the layers attached in role "next"
 * @ctl: control device
 * @disks: all of them, at one instant
 * @nr: how many disks
 * @pause_ns: how long the I/O of each was held back
 */
int control_snapshot(int ctl, const dev_t *disks, unsigned int nr,
		     uint64_t *pause_ns);
int control_resize(int ctl, dev_t disk, uint64_t size);
int control_expedite(int ctl, bool on);

/* loop.c */

struct loops;

/**
 * loop_attach() - the loop device of an image file; made if there is none
 * @img: a file
 * @write: a writable one is needed; a read-only one serves read-only layers
 * @known: what has been read of the loops before, or NULL. Of any age: what has got
 *	another file since by one of our commands is found by the index
 * @dev: set to the loop's device number
 *
 * Return: an open descriptor of the loop device (autoclear: it goes with its
 * last user, so hold it until the table has it), or a negative exit code.
 */
int loop_attach(const struct image *img, bool write, struct loops *known, dev_t *dev);

/** loop_backing() - file behind a loop device; false if it is no loop */
bool loop_backing(dev_t dev, char *path, size_t len, dev_t *fdev, ino_t *ino);

/** loop_grow() - let a loop device see its file's new size */
int loop_grow(dev_t dev);

/* markers.c */

/** layer_marker_set() - keep udev's hands off a layer's device: marker file
 * in /run/dmchain/layers that the udev rule looks for */
int layer_marker_set(dev_t dev);
/**
 * layer_markers_clean() - drop those of devices that are no layers (any more)
 * @all: look at all, also where nothing can be
 *
 * What this controller has set counts as long as a table has it.
 */
void layer_markers_clean(bool all);
/** layer_cap_set() - a layer whose descriptor was read-only: in its marker, as
 * long as that is there, for those who would write it later */
int layer_cap_set(dev_t dev);
/** layer_capped() - may never be written, whatever its path allows */
bool layer_capped(dev_t dev);

/* dm.c */

struct table_layer {
	dev_t dev;
	uint32_t format;
	const char *role;	/* "rw", "ro", "next", "target" */
};

/**
 * struct table - what a disk is made of
 * @sectors: length
 * @nr: entries of @layers
 * @layers: top first
 * @read_only: of the device
 * @was: as it was read, to load it with the same changes if a job has ended since
 * @was_nr: entries of @was
 * @was_sectors: length then
 */
struct table {
	uint64_t sectors;
	unsigned int nr;
	struct table_layer *layers;
	bool read_only;
	struct table_layer *was;
	unsigned int was_nr;
	uint64_t was_sectors;
};

/** dm_uuid prefix of all disks: DMCHAIN- followed by the top's UUID at open */
#define DMCHAIN_DM_UUID_PREFIX "DMCHAIN-"

/**
 * dm_create() - a new disk, running
 * @name: of the disk
 * @uuid: all of the DM UUID
 * @t: its table
 * @force: take over an in-use mark of another host
 */
int dm_create(const char *name, const char *uuid, const struct table *t,
	      bool force);
/**
 * dm_reload_resume() - another table; after a failure the old one runs on
 * @name: of the disk
 * @t: the table
 *
 * A job of the disk may end at any time, and drop layers: what was changed in @t
 * since it was read is then changed in the table that there is by now. A disk that
 * somebody has suspended is waited for, then refused.
 */
int dm_reload_resume(const char *name, const struct table *t);
int dm_remove(const char *name);
int dm_clear(const char *name);
/**
 * dm_disk() - device number of a chain disk
 * @name: of the disk
 * @dev: set to its number
 * @suspended: may be NULL
 *
 * Return: 0, or -EXIT_FAILED if there is none: says nothing then, @name may be
 * something else.
 */
int dm_disk(const char *name, dev_t *dev, bool *suspended);
/**
 * dm_table_read() - live table of a disk
 * @name: of the disk
 * @t: filled in, for dm_table_free(); may be NULL
 * @text: the line as the kernel prints it (malloc); may be NULL
 */
int dm_table_read(const char *name, struct table *t, char **text);
/**
 * dm_table_look() - the same of a disk that anybody may close meanwhile
 * @name: of the disk
 * @t: filled in, for dm_table_free()
 * @gone: set if there is no table (any more); @t is not to be used then
 *
 * Return: 0, also if it is gone, or a negative exit code.
 */
int dm_table_look(const char *name, struct table *t, bool *gone);
void dm_table_free(struct table *t);
/** table_extra() - attached beside the layers, not part of what is seen */
bool table_extra(const struct table_layer *l);
/** dm_each() - every chain disk; @cb nonzero stops */
int dm_each(int (*cb)(const char *name, dev_t dev, void *arg), void *arg);

/* holding.c */

/**
 * disk_holding() - open disks that have an image as a layer
 * @img: file or device
 * @writable_only: only if they have it rw
 * @name: set to the name of the first such disk (malloc), or NULL
 *
 * Return: 0, also if there is none or the module isn't loaded.
 */
int disk_holding(const struct image *img, bool writable_only, char **name);

/* disk.c */

/** disk_layer_path() - where a layer of an open disk lives: file or device */
char *disk_layer_path(dev_t dev);

/** disk_info() - `info NAME`: text to stdout, or the JSON object */
int disk_info(const char *name, bool json);
int disk_map(const char *name, bool json);
/** disk_recover() - finish or undo what is half done on a disk; idempotent */
int disk_recover(const char *name);

/* work-meter.c: progress of what the controller does itself, for a terminal */

/** work_begin() - @object and @what live until work_end() */
void work_begin(const char *object, const char *what, uint64_t total);
/** work_at() - so many bytes are done */
void work_at(uint64_t bytes);
/** work_step() - so many bytes more are done */
void work_step(uint64_t bytes);
void work_end(void);
/** work_clear() - something else is printed now: the bar goes until the next step */
void work_clear(void);

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
int cmd_perm(int argc, char **argv);
int cmd_stream(int argc, char **argv);
int cmd_commit(int argc, char **argv);
int cmd_pivot(int argc, char **argv);
int cmd_mirror(int argc, char **argv);
int cmd_job(int argc, char **argv);
int cmd_monitor(int argc, char **argv);
int cmd_rebase(int argc, char **argv);
int cmd_import(int argc, char **argv);
int cmd_export(int argc, char **argv);
int cmd_top(int argc, char **argv);

int cmd_enable(int argc, char **argv);
int cmd_disable(int argc, char **argv);
int cmd_up(int argc, char **argv);
int cmd_down(int argc, char **argv);
int cmd_units(int argc, char **argv);

int disk_resize(const char *name, const char *size);

#endif
