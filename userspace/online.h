/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the parts that deal with open disks share among themselves. What the
 * rest of the controller may use of them is in dmchain.h.
 */
#ifndef DMCHAIN_ONLINE_H
#define DMCHAIN_ONLINE_H

#include "dmchain.h"

#define RUN_DIR		"/run/dmchain"

/* module.c */

/** module_present() - dm-chain is in the kernel; if not, no disk is open */
bool module_present(void);

/** module_load_loop() - where no static node would load it; fails later */
void module_load_loop(void);

/* run.c */

/** run_dir() - make RUN_DIR, and @sub below it if not NULL */
int run_dir(const char *sub);

/**
 * struct disk_lock - one controller at a time changes a disk
 * @fd: of the lock's file, which also tells what its holder is doing
 * @path: of that file
 * @name: of the disk
 * @next: of those that this process holds
 *
 * The kernel drops the lock of a killed holder, but what that one wrote into
 * the file stays: that is how its successor knows that there is something to
 * finish or undo.
 */
struct disk_lock {
	int fd;
	char *path;
	const char *name;
	struct disk_lock *next;
};

/** disk_lock() - wait for the lock; signals wait until disk_unlock(). Of several
 * disks in the order of their names. */
int disk_lock(const char *name, struct disk_lock *l);
void disk_unlock(struct disk_lock *l);
/** signals_hold() - Ctrl-C in the middle of a change: first the change, then the
 * signal. It nests. */
void signals_hold(void);
void signals_go(void);

/**
 * disk_lock_note() - write down what is going to be done
 * @l: lock of the disk
 * @note: consumed; NULL: nothing any more
 */
int disk_lock_note(struct disk_lock *l, struct json_object *note);

/** note_new() - a note to begin with: what the command is */
struct json_object *note_new(const char *command);
/** note_is() - is it this command's; NULL is nobody's */
bool note_is(struct json_object *note, const char *command);

/** disk_lock_left() - what a dead holder was doing, or NULL (caller frees) */
struct json_object *disk_lock_left(struct disk_lock *l);

/**
 * disk_locks_left() - has a command been killed, with a lock, since then?
 * @since: a time that is taken as files have it
 * @others: out: others are at work now
 */
bool disk_locks_left(const struct timespec *since, bool *others);
/** disk_lock_each() - names of disks that a controller holds, or died over */
int disk_lock_each(int (*cb)(const char *name, void *arg), void *arg);

/* klog.c */

/** klog_mark() - remember the end of the kernel's log; a descriptor or -1 */
int klog_mark(void);

/**
 * klog_reason() - what the kernel said of a disk since klog_mark()
 * @fd: is closed
 * @disk: its device number
 * @buf: gets the reason
 * @len: bytes of it
 *
 * Return: true if @buf has a reason.
 */
bool klog_reason(int fd, dev_t disk, char *buf, size_t len);

/* control.c */

/** control_instance() - random id of this load of the module */
int control_instance(int ctl, struct chain_id *id);

/** control_has_mark() - has any layer of a disk, which may go meanwhile, the mark */
bool control_has_mark(int ctl, dev_t disk, uint32_t mark);

/**
 * control_holders() - who holds layers
 * @ctl: control device
 * @disk: those of its layers; 0: all that there are
 * @holders: set to an array, to be freed
 * @nr: set to how many
 */
int control_holders(int ctl, dev_t disk, struct dm_chain_holder **holders,
		    unsigned int *nr);

/**
 * struct holders_of - whose holders are looked for, and which of them
 * @dev: of the layer's device; 0: whatever it is
 * @uuid: or of a layer with this UUID, if it isn't zero
 * @require: enum dm_chain_perm: those who need one of these
 * @allow: or don't leave one of these to others; both zero: all
 */
struct holders_of {
	dev_t dev;
	struct chain_id uuid;
	uint32_t require;
	uint32_t allow;
};

/** control_holders_of() - @nr: how many there are, of which @room at most are in @h */
int control_holders_of(int ctl, const struct holders_of *of, struct dm_chain_holder *h,
		       unsigned int room, unsigned int *nr);

/** control_openers() - how often a file is open: 0 or a negative errno, and no line */
int control_openers(int ctl, int fd, unsigned int *nr);

/** control_gone() - how often a device has ceased to be a layer's, since the module @id
 * was loaded: 0 or a negative errno, and no line */
int control_gone(int ctl, struct chain_id *id, uint64_t *gone);

/** control_acquire() - ask for layers: 0, or a negative errno, and no line (-EBUSY:
 * @q->conflict says by whom it is refused, if by anybody) */
int control_acquire(int ctl, dev_t disk, struct dm_chain_acquire *q);
/** control_acquire_failed() - the line of what no holder has refused, and its exit code */
int control_acquire_failed(dev_t disk, int err);

/** control_relink() - with a token of a copy-layer: the hint in the header of the
 * layer above, DM_CHAIN_PATH_BYTES */
int control_relink(int ctl, int token, const char *name, const char *path);

/* perm-check.c */

/**
 * perm_ask() - would an operation on the top of a disk be granted
 * @ctl: control device
 * @disk: device number
 * @name: of the disk
 * @op: enum dm_chain_op
 *
 * Before anything is made ready: the kernel asks again when it is done.
 *
 * Return: 0, or a negative exit code; the line names who is in the way.
 */
int perm_ask(int ctl, dev_t disk, const char *name, uint32_t op);

/**
 * perm_ask_images() - would layers of a closed chain be granted
 * @name: of the disk to be, or of the image that it is about
 * @op: DM_CHAIN_OP_GUEST, _EXPORT, _CREATE or _REBASE
 * @w: the chain
 * @l: what is open, if that has been read already, or NULL
 */
int perm_ask_images(const char *name, uint32_t op, const struct walk *w,
		    struct loops *l);

/* upgrade.c */

/** layer_check_same() - is an image what a disk has open as @dev */
int layer_check_same(const char *name, const struct image *img, dev_t dev);

/**
 * disk_upgrade() - lower layers become rw for an operation that holds them
 * @name: of the disk, whose lock the caller has
 * @layers: of disk_layers(); some that nobody holds may be gone by now
 * @rows: DM_CHAIN_OPROLE_* of each
 * @nr: of these
 * @devs: of each layer; set to the device of those that became writable
 *
 * Return: 0, or a negative exit code, and nothing is changed.
 */
int disk_upgrade(const char *name, const struct dm_chain_layer *layers,
		 const uint32_t *rows, unsigned int nr, dev_t *devs);
/** disk_downgrade() - these are open read-only again; others may be writable
 * for somebody else, and snapshots have changed the indices */
int disk_downgrade(const char *name, const dev_t *devs, unsigned int nr);

/* layer-grow.c */

/** layer_device_bytes() - size of a layer's device */
uint64_t layer_device_bytes(dev_t dev);
/**
 * layer_grow() - a layer's file is at least so long, and its loop knows
 * @disk: that has it
 * @dev: device of the layer
 * @bytes: a block device that has less is refused
 */
int layer_grow(const char *disk, dev_t dev, uint64_t bytes);

/* attach.c */

/**
 * struct attached - a device that a table is to name
 * @dev: of the loop or the block device
 * @fd: keeps a loop until the table does; -1: none needed
 */
struct attached {
	dev_t dev;
	int fd;
};

struct loops;

/**
 * attach_image() - @img may lose its descriptor: only what is known stays
 * @a: filled in, for attach_drop()
 * @img: of the layer
 * @write: its device is to be writable
 * @known: what has been read of the loops before, or NULL
 */
int attach_image(struct attached *a, struct image *img, bool write,
		 struct loops *known);
/** attach_drop() - the table has the device now, or nobody needs it */
void attach_drop(struct attached *a);

/* markers.c */

/** loops_lock() - a descriptor that holds the lock, or a negative exit code */
int loops_lock(void);
/** marker_set() - with the loops' lock held */
int marker_set(dev_t dev);
/** marker_empty() - the one that was set last says nothing any more: 0 or an errno */
int marker_empty(void);
/** marker_index() - the marker that was set last is of a loop with this file */
int marker_index(dev_t loop, dev_t dev, ino_t ino);
/** marker_set_file() - marker_set(); a loop that somebody else made has a file, too */
int marker_set_file(dev_t dev);
/** marker_gone() - a layer of a disk that was closed: it may be that of no other */
void marker_gone(dev_t dev);

/* loop.c */

/** device_held() - dm has it, or another driver */
bool device_held(dev_t dev);
/** loop_going() - bound, and about to go: udev has it open and will see it change */
bool loop_going(dev_t dev);

/** sysfs_text() - first line of a file below /sys/dev/block/MAJ:MIN */
bool sysfs_text(dev_t dev, const char *file, char *buf, size_t len);

/** loop_wait_gone() - a moment of patience until autoclear has done its work */
void loop_wait_gone(dev_t dev);

/* dm.c */

/**
 * struct dm_state - a dm device, chain disk or not
 * @dev: device number
 * @exists: there is a device of that name
 * @ours: a DM UUID of ours, or a live table of target "chain"
 * @live: it has a live table
 * @inactive: it has a table that is loaded and not used
 * @suspended: no I/O goes through it
 * @read_only: it is a read-only device
 * @opens: how often it is open
 */
struct dm_state {
	dev_t dev;
	bool exists;
	bool ours;
	bool live;
	bool inactive;
	bool suspended;
	bool read_only;
	unsigned int opens;
};

/** dm_name_valid() - a name that needs no mangling anywhere */
bool dm_name_valid(const char *name);
int dm_state(const char *name, struct dm_state *s);
/** dm_failed() - its status is "failed": what it shows may not be what its headers say */
bool dm_failed(const char *name);
/** dm_node_mend() - where there is no udev: a node that was left, or is missing */
void dm_node_mend(const char *name);
/** dm_resume() - of a suspended disk, with the table it has */
int dm_resume(const char *name);
/* holder.c */

/** holder_text() - who has a block device open: "mounted on /mnt" */
void holder_text(dev_t dev, char *buf, size_t len);

/* loop-index.c */

#define MARKER_DIR	RUN_DIR "/layers"
#define LOOP_INDEX_KEY	64	/* room for one */

/**
 * enum loop_known - what the index knows of a file
 * @LOOP_KNOWN_NONE: none of the indexed loops has it
 * @LOOP_KNOWN_ONE: this one, and no other that is indexed
 * @LOOP_KNOWN_MANY: it had several at a time: look at all
 */
enum loop_known {
	LOOP_KNOWN_NONE,
	LOOP_KNOWN_ONE,
	LOOP_KNOWN_MANY,
};

/** loop_known() - which loop device has a file; @loop is set with LOOP_KNOWN_ONE */
enum loop_known loop_known(dev_t dev, ino_t ino, dev_t *loop);
/** loop_index_key() - a file's name in the index */
void loop_index_key(dev_t dev, ino_t ino, char *text, size_t len);
/** loop_index_add() - with the loops' lock held: 0 or a negative errno */
int loop_index_add(dev_t loop, dev_t dev, ino_t ino);
/** loop_index_drop() - @loop has gone, it had the file @key */
void loop_index_drop(dev_t loop, const char *key);
bool loop_index_is_ready(void);
int loop_index_set_ready(void);
/** loop_index_ready() - (markers.c) have one, of what was open before there was it; takes
 * the loops' lock if there is none */
int loop_index_ready(void);

/**
 * struct loops - devices that are layers of open disks, and those with markers
 * @ctl: the kernel's control device
 * @has_ctl: it is open
 * @is_read: the rest is what was found
 * @holders: who holds layers; those of one layer are neighbours
 * @nr: how many
 * @held: their devices, ascending
 * @nr_held: how many
 * @marked: devices with markers, ascending
 * @nr_marked: how many
 */
struct loops {
	int ctl;
	bool has_ctl;
	bool is_read;
	struct dm_chain_holder *holders;
	unsigned int nr;
	dev_t *held;
	unsigned int nr_held;
	dev_t *marked;
	unsigned int nr_marked;
};

/** loops_ctl() - the control device, or an error (-ENODEV: there is no module) */
int loops_ctl(struct loops *l);
/**
 * loops_need() - read what there is, unless that was done
 * @l: all zero: nothing was read
 *
 * It takes the longer the more disks are open: for what image_where() can't tell. There
 * is an index. To be freed, also after an error.
 */
int loops_need(struct loops *l);
void loops_free(struct loops *l);
bool loops_held(const struct loops *l, dev_t dev);
/** loops_indexed() - a loop device whose file the index knows: it is held, so it has
 * not got another one since it was marked */
bool loops_indexed(const struct loops *l, dev_t dev);

/* holding.c */

/**
 * enum image_where - where the layers of open disks are that can be an image
 * @IMAGE_NOWHERE: there are none
 * @IMAGE_AT_ONE: on this device, if it is a layer at all
 * @IMAGE_ANYWHERE: all loop devices have to be looked at that the index doesn't know
 */
enum image_where {
	IMAGE_NOWHERE,
	IMAGE_AT_ONE,
	IMAGE_ANYWHERE,
};

/** image_where() - see there; @dev is set with IMAGE_AT_ONE */
enum image_where image_where(struct loops *l, const struct image *img, dev_t *dev);

/**
 * struct image_at - where an image is, to find its device among those of layers
 * @dev: the image's, or with @ino that of its file system
 * @ino: 0: a device
 * @known: what the index says
 * @loop: with LOOP_KNOWN_ONE
 * @last: the device that was looked at last
 * @last_is: and what it was
 */
struct image_at {
	dev_t dev;
	ino_t ino;
	enum loop_known known;
	dev_t loop;
	dev_t last;
	bool last_is;
};

/** image_at_init() - after loops_need(): else a loop that was indexed in between would
 * be taken for another file's */
void image_at_init(struct image_at *at, const struct image *img);
/** image_at_device() - is it there? */
bool image_at_device(struct image_at *at, const struct loops *l, dev_t dev);

/** loops_holding() - disk_holding() by what has been read already */
int loops_holding(struct loops *l, const struct image *img, bool writable_only,
		  char **name);

/* disk.c */

/** disk_find() - dm_disk() that says so if there is no such disk */
int disk_find(const char *name, dev_t *dev);

/** disk_holding_path() - (holding.c) disk_holding() of what may not be an image at all */
int disk_holding_path(const char *path, bool writable_only, char **name);

/** disk_true_identity() - what a device is as a layer: if it is a loop, the file
 * behind it, whose device and inode replace what was there */
void disk_true_identity(dev_t *dev, ino_t *ino);

/** disk_device_path() - node of a block device (malloc) */
char *disk_device_path(dev_t dev);

/**
 * path_stands_on() - does a file or device live on a disk
 * @path: of the file or device
 * @disk: device number
 *
 * Through file systems, loop devices, partitions and other dm devices.
 */
bool path_stands_on(const char *path, dev_t disk);

/** path_place_stands_on() - likewise; @path need not be there, its folder counts then */
bool path_place_stands_on(const char *path, dev_t disk);

/** disk_check_place() - @path does not lie on the disk itself */
int disk_check_place(const char *name, dev_t disk, const char *path);

/** disk_nested() - says that a layer at @path, of @name, lies on another disk */
int disk_nested(const char *name, const char *path, const char *on_name);
/** disk_check_apart() - a layer of @name doesn't, for a switch of both at once */
int disk_check_apart(const char *name, dev_t layer, const char *on_name,
		     dev_t on_disk);

/* disk-info.c */

/**
 * disk_layers() - what an open disk is made of
 * @name: of the disk
 * @dev: set to its number
 * @suspended: set: it is; may be NULL
 * @layers: set to an array, top first, to be freed
 * @nr: without what is attached and not yet seen
 *
 * Return: the control device that was asked, or a negative exit code.
 */
int disk_layers(const char *name, dev_t *dev, bool *suspended,
		struct dm_chain_layer **layers, unsigned int *nr);

/* layer-link.c */

/** layer_lasts() - false: a file that has no such name, it was deleted */
bool layer_lasts(const char *path, dev_t dev);
/**
 * layer_link() - how a layer names the one that it is to stand on
 * @name: of the disk
 * @above: whose header it is for
 * @below: the parent, of @index
 * @index: of @below
 * @hint: DM_CHAIN_PATH_BYTES; relative if the link that there is is so
 */
int layer_link(const char *name, const struct dm_chain_layer *above,
	       const struct dm_chain_layer *below, unsigned int index, char *hint);

/* layer-arg.c */

/**
 * layer_arg() - LAYER: an index (0 = top), a path, a UUID or its start
 * @text: a number of up to four digits is an index; what has a slash or exists
 *	as a file is a path
 * @name: of the disk
 * @layers: of disk_layers()
 * @nr: of these
 * @index: set to the layer's
 *
 * Return: 0 or a negative exit code.
 */
int layer_arg(const char *text, const char *name,
	      const struct dm_chain_layer *layers, unsigned int nr,
	      unsigned int *index);

/* cmd-open.c */

/**
 * struct disk_ask - a disk that is to be
 * @name: of it
 * @path: of its top
 * @format: of that
 * @read_only: any layer may be opened so
 * @force: an in-use mark is known to be stale
 * @quiet: say nothing of jobs that were cut off
 * @label_rw: template, or NULL
 * @label_ro: likewise
 */
struct disk_ask {
	const char *name;
	const char *path;
	uint32_t format;
	bool read_only;
	bool force;
	bool quiet;
	const char *label_rw;
	const char *label_ro;
};

/** disk_open() - name and labels have been checked */
int disk_open(const struct disk_ask *ask);

/* cmd-close.c */

/** disk_close() - 0 or a negative exit code */
int disk_close(const char *name);

/* disk-recover.c */

/**
 * disk_recover_locked() - disk_recover() for who has the lock
 * @l: lock of the disk
 * @ask: the user asked for it: also when nobody left a note
 * @done: array that gets texts of what was done, or NULL
 *
 * Layers that a job has dropped, or could write, always go.
 */
int disk_recover_locked(struct disk_lock *l, bool ask, json_object *done);

#endif
