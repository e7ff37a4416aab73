/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Layered copy-on-write disks: private header of the module.
 *
 * The objects, and who owns them:
 *
 *	layer	 host-wide, one for each UUID (raw: device): header, state map,
 *		 who uses it. Outlives tables, so that swapping them reads nothing.
 *	att	 attachment: a layer through one device of one table, with its
 *		 access. All I/O names an attachment, never a layer.
 *	inst	 a table: its attachments and the topology made of them.
 *	disk	 a mapped device: what its tables share (merged lookup, block
 *		 locks, workers).
 *	meta	 of a layer that is open read-write: dirty groups and the one
 *		 writer of its map.
 *	holder	 what somebody holds on some of a disk's layers, by the matrix of
 *		 uapi/linux/dm-chain-perm.h: a token, or an operation under way.
 *		 The tables of a disk hold what their uses say.
 *
 * Documentation/locking.rst has the lock order; in short, outermost first:
 * several_mutex, layer->rw_mutex (header I/O), registry_mutex (no I/O), the
 * spinlocks (irq) meta->lock, disk->lock.
 */
#ifndef DM_CHAIN_H
#define DM_CHAIN_H

#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/completion.h>
#include <linux/device-mapper.h>
#include <linux/list.h>
#include <linux/mempool.h>
#include <linux/mutex.h>
#include <linux/rwsem.h>
#include <linux/srcu.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>
#include <linux/dm-chain.h>

#include "dm-chain-args.h"
#include "dm-chain-format.h"
#include "dm-chain-lock.h"
#include "dm-chain-merge.h"
#include "dm-chain-perm.h"
#include "dm-chain-statemap.h"

#define DM_MSG_PREFIX "chain"

/* The unit of lookups below the top: 4 KiB, whatever a layer's block size. */
#define CHAIN_UNIT_SHIFT	12
#define CHAIN_UNIT_SECTORS	(1U << (CHAIN_UNIT_SHIFT - SECTOR_SHIFT))

/* A discard is cut to as many blocks as one call may lock. */
#define CHAIN_LOCK_BLOCKS	32768U
/*
 * Those whose space is given back are locked until the device has done that: too
 * few to keep much of the disk's first writes waiting.
 */
#define CHAIN_PUNCH_BLOCKS	1024U

struct chain_disk;
struct chain_inst;
struct chain_job;
struct chain_meta;
struct chain_mirror;
struct chain_monitor;

/**
 * struct chain_place - a device that a layer is on
 * @devt: of the device; 0: none
 * @nr: attachments
 */
struct chain_place {
	dev_t devt;
	unsigned int nr;
};

/**
 * struct chain_layer - one layer, however many disks have it
 * @list: registry_mutex
 * @uses: struct chain_use; registry_mutex
 * @grants: struct chain_grant; registry_mutex
 * @format: constant
 * @place: where it is, and where it goes while a job writes it; registry_mutex
 * @uuid: zero for raw; constant
 * @loaded: completed when @load_error is set
 * @load_error: 0, or why it could not be loaded
 * @rw_mutex: held over every header update, opening and closing read-write
 * @hdr: newest header; rw_mutex, and stable without while no disk has it rw
 * @size: virtual size, sectors; changes only while its one user is suspended
 * @limit: see-through limit, sectors: above it nothing below shows
 * @block_sectors_shift: sectors of a block, as a shift
 * @data_sector: sectors from the start of the device to virtual offset 0
 * @map: chain layers only
 * @meta: NULL unless open read-write; changes under rw_mutex and
 *	registry_mutex, stable while written
 * @todo: a bit for each group of the map: on disk, and not read yet
 * @nr_todo: such groups, changes under load_mutex
 * @load_mutex: held over the reading of groups
 * @failed: a flush or metadata write failed: no more writes until re-opened
 * @lifted: in the range of a commit, and marked so on disk: where it ends means nothing
 * @track: a bit for each sector of the map: flagged as changed; NULL: nobody asks.
 *	Changes while its one user is suspended, or before it has one
 * @tracked: the same, durably
 * @tracks: it has a record by which they have to be right
 */
struct chain_layer {
	struct list_head list;
	struct list_head uses;
	struct list_head grants;
	u32 format;
	struct chain_place place[2];
	struct chain_id uuid;
	struct completion loaded;
	int load_error;
	struct mutex rw_mutex;		/* header updates */
	struct chain_header hdr;
	sector_t size;
	sector_t limit;
	unsigned int block_sectors_shift;
	sector_t data_sector;
	struct chain_statemap map;
	struct chain_meta *meta;
	unsigned long *todo;
	u64 nr_todo;
	struct mutex load_mutex;	/* reading groups */
	bool failed;
	bool lifted;
	bool tracks;
	unsigned long *track;
	unsigned long *tracked;
};

/* Who wants an I/O done: the gate asks. */
enum chain_who {
	CHAIN_GUEST,
	CHAIN_META,		/* maps and headers */
	CHAIN_JOB,
	CHAIN_WHO_NR,
};

/**
 * struct chain_att - a layer through one device of one table
 * @layer: referenced by a use
 * @dev: of the table
 * @bdev: of @dev, for the hit path
 * @data_sector: copy of the layer's, for the hit path
 * @access: DM_CHAIN_ACCESS_* of each initiator: what the gate allows
 * @word: role in the table line
 * @row: DM_CHAIN_OPROLE_*: what its table holds on the layer by it;
 *	registry_mutex
 * @dropped: a job took it out of the topology; changes while suspended
 * @slot: number of the layer in its disk's merged lookup
 */
struct chain_att {
	struct chain_layer *layer;
	struct dm_dev *dev;
	struct block_device *bdev;
	sector_t data_sector;
	u8 access[CHAIN_WHO_NR];
	u8 word;
	u8 row;
	bool dropped;
	u16 slot;
};

/**
 * struct chain_inst - a table
 * @ti: its target
 * @disk: referenced
 * @list: in disk->insts; registry_mutex
 * @nr_atts: attachments, in @atts
 * @atts: in the order of the table line
 * @nr: layers of the topology
 * @order: the topology: top first; changes only while suspended, with
 *	disk->shape and registry_mutex held
 * @by_slot: attachment of each slot of the disk, or NULL
 * @nr_slots: entries of @by_slot
 * @next: attached in role "next", or NULL
 * @target: attached in role "target", or NULL
 * @spare: an empty merged lookup, should the topology be another; after the
 *	resume the old one, to be freed
 */
struct chain_inst {
	struct dm_target *ti;
	struct chain_disk *disk;
	struct list_head list;
	unsigned int nr_atts;
	unsigned int nr;
	unsigned int nr_slots;
	struct chain_merge *spare;
	struct chain_att *next;
	struct chain_att *target;
	struct chain_att **order;
	struct chain_att **by_slot;
	struct chain_att *atts;
};

/**
 * struct chain_disk - what the tables of a mapped device share
 * @list: registry_mutex
 * @insts: registry_mutex
 * @holders: struct chain_holder; registry_mutex
 * @back_work: takes back what jobs could write
 * @md: key; valid while a table exists
 * @devt: of the mapped device
 * @name: of the mapped device, for messages
 * @switching: a switch or resize is under way: no tables come; registry_mutex
 * @dying: the live table goes, with no other in its place: none comes or is resumed
 *	until its jobs have ended; registry_mutex
 * @failed: a switch could not be made durable: no more writes
 * @pin: held shared by queries and switches; exclusively, in passing, by who
 *	tears a table down
 * @shape: topology and sizes of the live table: held shared by queries,
 *	exclusively by a switch, from before it suspends the disk to after it
 *	has resumed it
 * @slots: layer of each slot; registry_mutex
 * @nr_slots: entries of @slots
 * @merge: merged lookup of what is below the top; swapped while suspended
 * @unmerged: layers right below the top that @merge lacks; they are asked one
 *	by one. Lowered by the worker while guests read.
 * @full: @merge has reached its cap: no more chunks are asked for
 * @shrunk: when it gave chunks back, jiffies
 * @merge_mutex: contents of @merge
 * @owners: an entry a block of a chunk, for @merge_work
 * @merge_work: builds chunks that were asked for, adds unmerged layers
 * @pinned: layers below the top, from the first on, that jobs change: they are
 *	never merged. Changes while suspended
 * @want: chunk to build next + 1, or 0
 * @stop: the worker shall return at once; set before it is suspended
 * @unread: there may be layers whose maps have not been read as a whole. Set while
 *	suspended, taken back by the worker
 * @live: the table it runs on; changes under registry_mutex, and only while
 *	@merge_work is stopped
 * @locks: block locks of the top
 * @lock: protects @parked
 * @parked: bios that wait for a block lock
 * @wq: deferred bios, metadata
 * @pages: bounce blocks for copy-ups
 * @jobs: that run on it; registry_mutex
 * @jobs_lock: the next four
 * @jobs_stop: no job may become busy: suspended
 * @jobs_hurry: busy ones shall come to an end
 * @jobs_busy: jobs that do I/O now
 * @jobs_wait: for all of these
 * @tracked: reads below the top are counted in @reads; changes while suspended
 * @reads: reads of layers that a commit drops data from
 * @reads_ready: @reads can be used
 * @route: depth of the base of the active commit, or 0: writes to what no layer
 *	above it holds go there. Changes while suspended
 * @route_flush: the same: flushes cover that layer, too; off when its base is durable
 * @rescan: the base refused a write, and a layer above it has it
 * @mirror: where all that the guest writes goes, too; changes while suspended
 * @tracking: writes to what is not flagged as changed wait until it is. Set while
 *	suspended
 */
struct chain_disk {
	/* What each I/O looks at, apart from what is written while there is I/O. */
	struct chain_merge *merge;
	struct chain_mirror *mirror;
	unsigned int unmerged;
	unsigned int tracked;
	unsigned int route;
	unsigned int route_flush;
	bool failed;
	bool unread;
	bool tracking;
	struct list_head list ____cacheline_aligned_in_smp;
	struct list_head insts;
	struct list_head holders;
	struct work_struct back_work;
	struct mapped_device *md;
	dev_t devt;
	char name[16];
	bool switching;
	bool dying;
	struct rw_semaphore pin;
	struct rw_semaphore shape;
	struct chain_layer **slots;
	unsigned int nr_slots;
	unsigned int pinned;
	bool full;
	unsigned long shrunk;
	struct mutex merge_mutex;	/* contents of @merge */
	u16 *owners;
	struct work_struct merge_work;
	atomic64_t want;
	bool stop;
	struct chain_inst *live;
	struct chain_locks locks;
	spinlock_t lock;		/* @parked */
	struct list_head parked;
	struct workqueue_struct *wq;
	mempool_t pages;
	struct list_head jobs;
	spinlock_t jobs_lock;		/* jobs_* below */
	bool jobs_stop;
	bool jobs_hurry;
	unsigned int jobs_busy;
	wait_queue_head_t jobs_wait;
	struct srcu_struct reads;
	bool reads_ready;
	bool rescan;
};

/**
 * struct chain_bio - per-bio data; not zeroed, set up by who uses it
 * @inst: table that mapped the bio
 * @work: deferred bio
 * @list: in disk->parked, or in a meta's list of waiters
 * @end_io: saved of the clone
 * @private: saved of the clone
 * @att: written: what the next four are about
 * @block: first block of a first write
 * @nr: its blocks
 * @lock: first locked block of the top
 * @nr_locked: such blocks
 * @iter: of a routed write, to be done again elsewhere if it fails
 * @srcu: of a counted read
 * @fua: the bio waits for the map as a flush does
 * @state: of those @nr blocks when it ends well; zero: also if it doesn't
 * @opf: of a bio that goes down as a write-zeroes, what it had before
 * @to_top: a routed write that the base refused
 * @missed: mirrored: the target does not have it
 * @then: in a meta's list of waiters: what is done at the end of the round; NULL:
 *	the bio ends
 * @pending: mirrored: requests under way
 * @status: mirrored: of the source
 * @to_status: mirrored: of the target
 * @to_block: mirrored: @to_nr blocks of the target from it on become data
 * @to_nr: 0: none do
 */
struct chain_bio {
	struct chain_inst *inst;
	struct work_struct work;
	struct list_head list;
	bio_end_io_t *end_io;
	void *private;
	struct chain_att *att;
	u64 block;
	u64 lock;
	u32 nr;
	u32 nr_locked;
	struct bvec_iter iter;
	blk_opf_t opf;
	int srcu;
	bool fua;
	u8 state;
	bool to_top;
	bool missed;
	void (*then)(struct chain_bio *cb, blk_status_t status);
	atomic_t pending;
	blk_status_t status;
	blk_status_t to_status;
	u64 to_block;
	u32 to_nr;
};

static inline struct bio *chain_bio_to_bio(struct chain_bio *cb)
{
	return dm_bio_from_per_bio_data(cb, sizeof(*cb));
}

static inline struct chain_bio *chain_bio(struct bio *bio)
{
	return dm_per_bio_data(bio, sizeof(struct chain_bio));
}

static inline struct chain_att *chain_top(const struct chain_inst *ci)
{
	return ci->order[0];
}

/* Is it attached for writing, whoever it is that may write? */
static inline bool chain_att_rw(const struct chain_att *att)
{
	return READ_ONCE(att->access[CHAIN_META]) == DM_CHAIN_ACCESS_RW;
}

/* May the guest write? */
static inline bool chain_guest_rw(const struct chain_att *att)
{
	return READ_ONCE(att->access[CHAIN_GUEST]) == DM_CHAIN_ACCESS_RW;
}

static inline u64 sector_to_block(const struct chain_layer *l, sector_t s)
{
	return s >> l->block_sectors_shift;
}

static inline sector_t block_to_sector(const struct chain_layer *l, u64 b)
{
	return b << l->block_sectors_shift;
}

static inline u32 block_sectors(const struct chain_layer *l)
{
	return 1U << l->block_sectors_shift;
}

/* Blocks of the layer; a raw one has none, but is locked by the like of them. */
static inline u64 layer_blocks(const struct chain_layer *l)
{
	return sector_to_block(l, l->size + block_sectors(l) - 1);
}

/* dm-chain-io.c: the gate, and I/O of the target's own */

bool __chain_refuse(const struct chain_att *att, enum chain_who who);
extern atomic64_t chain_violations;

/**
 * chain_allowed() - the gate: may an I/O pass
 * @att: through which attachment
 * @who: for whom
 * @opf: operation and flags
 *
 * A refusal is a bug in the module: it is counted and warned of once.
 * Context: any.
 */
static inline bool chain_allowed(const struct chain_att *att,
				 enum chain_who who, blk_opf_t opf)
{
	u8 need = op_is_write(opf) ? DM_CHAIN_ACCESS_RW : DM_CHAIN_ACCESS_RO;

	/* To measure what it costs, nothing else: tests/bench. */
	if (IS_ENABLED(CONFIG_DM_CHAIN_UNGATED))
		return true;
	if (likely(READ_ONCE(att->access[who]) >= need))
		return true;
	return __chain_refuse(att, who);
}

/**
 * chain_can_punch() - can a device give space back, and reads zeroes there?
 * @att: attachment
 *
 * Context: any.
 */
static inline bool chain_can_punch(const struct chain_att *att)
{
	return bdev_max_discard_sectors(att->bdev) &&
	       bdev_write_zeroes_sectors(att->bdev);
}

/**
 * chain_punch() - zero sectors of a layer, so that its device can give space back
 * @att: through which attachment, for the guest
 * @sector: first sector of the layer's data
 * @n: sectors, below 4 GiB
 *
 * Best effort: where the device can't, nothing happens, or a part.
 *
 * Context: process, may sleep; NOIO inside.
 */
void chain_punch(struct chain_att *att, sector_t sector, sector_t n);

/**
 * chain_rw() - read or write memory of the target's own and wait
 * @att: through which attachment
 * @who: for whom
 * @offset: bytes from the start of the device
 * @buf: kernel memory that virt_to_page() takes (kmalloc, pages), one piece
 * @len: bytes
 * @opf: REQ_OP_READ or REQ_OP_WRITE and flags
 *
 * Context: process, may sleep; NOIO inside. Return: 0 or a negative errno.
 */
int chain_rw(struct chain_att *att, enum chain_who who, u64 offset, void *buf,
	     unsigned int len, blk_opf_t opf);
int chain_flush_dev(struct chain_att *att);

/* dm-chain-grant.c: who holds which layer */

/* What the tables of a disk can hold: GUEST_*, EXPORT_*, MIRROR_TARGET. */
#define CHAIN_USE_ROWS	(DM_CHAIN_OPROLE_MIRROR_TARGET + 1)

/**
 * struct chain_use - the tables of a disk have a layer
 * @list: in layer->uses
 * @disk: whose
 * @nr: attachments by row of the matrix
 */
struct chain_use {
	struct list_head list;
	struct chain_disk *disk;
	unsigned int nr[CHAIN_USE_ROWS];
};

/**
 * struct chain_grant - a holder holds a layer
 * @list: in layer->grants
 * @layer: one of the disk's, which keeps it
 * @holder: who
 * @row: DM_CHAIN_OPROLE_*
 */
struct chain_grant {
	struct list_head list;
	struct chain_layer *layer;
	struct chain_holder *holder;
	u32 row;
};

/**
 * struct chain_holder - a token, or an operation under way
 * @list: in disk->holders; registry_mutex
 * @disk: NULL when that is gone, and with it the grants; registry_mutex
 * @id: of the token, or 0
 * @nr: entries of @grants
 * @begun: a job does what it was given for; registry_mutex
 * @grants: room for all layers of the disk
 * @gone: the disk has been closed; called with registry_mutex held
 */
struct chain_holder {
	struct list_head list;
	struct chain_disk *disk;
	u64 id;
	unsigned int nr;
	bool begun;
	struct chain_grant *grants;
	void (*gone)(struct chain_holder *h);
};

struct chain_use *chain_find_use(const struct chain_layer *l,
				 const struct chain_disk *disk);

/**
 * chain_use_add() - a table of a disk wants a layer
 * @l: the layer
 * @disk: whose table
 * @att: its row
 * @spare: becomes the use if it is the disk's first one
 *
 * Context: registry_mutex held. Return: 0 or -EBUSY, with a line in the log.
 */
int chain_use_add(struct chain_layer *l, struct chain_disk *disk,
		  const struct chain_att *att, struct chain_use *spare);

/** chain_use_drop() - undo chain_use_add(); registry_mutex held */
void chain_use_drop(struct chain_layer *l, struct chain_disk *disk,
		    const struct chain_att *att);

/** chain_use_change() - an attachment gets another row; registry_mutex held */
void chain_use_change(struct chain_disk *disk, struct chain_att *att, u8 row);

/** chain_layer_users() - disks that have it; registry_mutex held */
unsigned int chain_layer_users(const struct chain_layer *l);

/** chain_written_by_job() - has the disk a token that may write the layer */
bool chain_written_by_job(const struct chain_layer *l,
			  const struct chain_disk *disk);

/** chain_copied_by_token() - has the disk a token to move the layer */
bool chain_copied_by_token(const struct chain_layer *l,
			   const struct chain_disk *disk);

/** chain_back_is_due() - rw for a job that has gone; registry_mutex held */
bool chain_back_is_due(const struct chain_disk *disk,
		       const struct chain_att *att);

/** chain_job_access() - what the gate allows jobs on it; registry_mutex held */
u8 chain_job_access(const struct chain_layer *l, const struct chain_disk *disk);

/**
 * chain_hold() - hold layers of a disk, all or none
 * @ci: live table, pinned
 * @rows: DM_CHAIN_OPROLE_* of each layer of the topology, top first
 * @h: room for them in h->grants; NULL: only ask
 * @c: filled in if somebody is in the way, but for the name of the disk
 *
 * Return: 0; -EBUSY: somebody is, or (c->perm is 0) another table is loaded;
 * -ENODEV: the table goes; -EAGAIN: try again, without the pin in between.
 */
int chain_hold(struct chain_inst *ci, const u32 *rows, struct chain_holder *h,
	       struct dm_chain_conflict *c);

/**
 * chain_release() - undo chain_hold()
 * @h: holder; may have lost its disk
 *
 * What only it allowed to be written refuses writes when this returns; the
 * disk's worker then makes it durable and takes its in-use mark off.
 */
void chain_release(struct chain_holder *h);

/** chain_others_hold() - has a token but that of @id one of the first @n layers */
bool chain_others_hold(const struct chain_inst *ci, u64 id, unsigned int n);

/** chain_makes_ro() - does the table make a layer ro that a job writes */
bool chain_makes_ro(const struct chain_inst *ci);

/** chain_drops_held() - does the table lack a layer that somebody holds */
bool chain_drops_held(const struct chain_inst *ci);

/** chain_holders_gone() - the disk goes: so do what its holders hold */
void chain_holders_gone(struct chain_disk *disk);

/**
 * struct chain_holders_out - holders that are looked for, and found
 * @list: entries
 * @room: in @list
 * @nr: found, which may be more
 * @require: only those who need one of these
 * @allow: and those who don't leave one of these to others; both zero: all
 */
struct chain_holders_out {
	struct dm_chain_holder *list;
	u32 room;
	u32 nr;
	u32 require;
	u32 allow;
};

/**
 * chain_holders_fill() - who holds a layer
 * @l: the layer
 * @out: filled on
 *
 * Context: registry_mutex held.
 */
void chain_holders_fill(const struct chain_layer *l, struct chain_holders_out *out);

/** chain_holder_name() - name of the disk, in place; no lock held */
void chain_holder_name(struct dm_chain_holder *h);

/* dm-chain-token.c: descriptors that hold layers */

struct chain_token;

/**
 * struct chain_scope - what a token was given for
 * @op: enum dm_chain_op
 * @top_depth: index of @top then
 * @top: as in struct dm_chain_acquire, likewise:
 * @base: NULL: none
 * @over: the layer above @top, or NULL
 */
struct chain_scope {
	u32 op;
	u32 top_depth;
	struct chain_layer *top;
	struct chain_layer *base;
	struct chain_layer *over;
};

/** chain_token_of() - of a descriptor, while that is held; NULL: no token */
struct chain_token *chain_token_of(struct file *file);
u64 chain_token_id(const struct chain_token *t);
/** chain_token_scope() - its layers stay while it holds them */
const struct chain_scope *chain_token_scope(const struct chain_token *t);
/** chain_token_devt() - of the disk; 0: gone, or given back */
dev_t chain_token_devt(const struct chain_token *t);
/** chain_token_job() - started with it, or NULL; registry_mutex held */
struct chain_job *chain_token_job(const struct chain_token *t);

/**
 * chain_token_begin() - what it holds is a job's from now on
 * @t: token
 * @job: whose
 * @disk: on which the job is
 *
 * Context: registry_mutex held. Return: 0; -EBUSY: it is another one's;
 * -ENODEV: it holds nothing of the disk (any more).
 */
int chain_token_begin(struct chain_token *t, struct chain_job *job,
		      struct chain_disk *disk);
/** chain_token_end() - the job gives all back */
void chain_token_end(struct chain_token *t);

/**
 * chain_acquire() - DM_CHAIN_IOC_ACQUIRE
 * @arg: checked here
 * @file: set to the token's, for fd_install(arg->fd)
 */
int chain_acquire(struct dm_chain_acquire *arg, struct file **file);

/** chain_token_event() - tell tokens that hold @l for @disk; registry_mutex held */
void chain_token_event(const struct chain_layer *l,
		       const struct chain_disk *disk, u32 type, u32 depth);

/* dm-chain-layer.c: registry of layers and their headers */

extern struct mutex chain_registry_mutex;

/**
 * chain_layer_get() - find or load the layer of an attachment and reserve it
 * @disk: for whom
 * @att: dev, bdev, access set; layer, data_sector are set
 * @format: as the table says
 * @error: set to a constant string that says what was wrong
 *
 * Nothing is written yet. Context: ctr; may sleep, does I/O.
 * Return: 0 or a negative errno.
 */
int chain_layer_get(struct chain_disk *disk, struct chain_att *att, u32 format,
		    char **error);

/**
 * chain_layer_open() - a reserved layer may be written from now on
 * @disk: for whom
 * @att: attachment; one that only reads is left as it is
 * @force: take over an in-use mark of another machine
 * @error: set to a constant string that says what was wrong
 *
 * The first writer marks the layer in use and gives it a new content id,
 * durably, before this returns: when all else about the table is known to be
 * right. Context: ctr; may sleep, does I/O. Return: 0 or a negative errno.
 */
int chain_layer_open(struct chain_disk *disk, struct chain_att *att, bool force,
		     char **error);

/**
 * chain_layer_put() - undo chain_layer_get()
 * @disk: for whom
 * @att: attachment; its layer may be gone afterwards
 *
 * The last writer makes all durable and takes the in-use mark off.
 * Context: dtr; may sleep, does I/O.
 */
void chain_layer_put(struct chain_disk *disk, struct chain_att *att);

/**
 * chain_layer_update() - one durable header update (rule H1)
 * @att: of the layer, writable
 * @hdr: what it shall be; its generation is set here
 * @first: 0: both slots. 1: only the first; chain_layer_update_rest() follows
 *
 * Re-reads the slots first: if they are not as this kernel left them, somebody
 * else writes the layer, and it fails. Caller holds layer->rw_mutex. A failure
 * sets layer->failed.
 */
int chain_layer_update(struct chain_att *att, struct chain_header *hdr,
		       bool first);
int chain_layer_update_rest(struct chain_att *att);

/** chain_layer_write_trailer() - copy of a header at the end of the device */
int chain_layer_write_trailer(struct chain_att *att,
			      const struct chain_header *hdr);

/**
 * chain_layer_take_back() - a lower layer that a job wrote is read-only again
 * @disk: whose
 * @att: of the live table
 *
 * Makes its map durable and takes its in-use mark off. Does I/O.
 */
void chain_layer_take_back(struct chain_disk *disk, struct chain_att *att);

/** chain_layers_fill() - chain_holders_fill() of all layers there are */
void chain_layers_fill(struct chain_holders_out *out);

/** chain_layer_fill() - the same of those on a device, or with a UUID that isn't zero */
void chain_layer_fill(dev_t devt, const struct chain_id *uuid, struct chain_holders_out *out);

/** chain_layers_gone() - how often a device has ceased to be a layer's; from 1 on */
u64 chain_layers_gone(void);

/** chain_raw_fingerprint() - of a raw layer; see chain_raw_sample() */
int chain_raw_fingerprint(struct chain_att *att, struct chain_id *fp);

void chain_random_id(struct chain_id *id);
void chain_layer_exit(void);

/* dm-chain-shrink.c: memory pressure */

int chain_shrink_init(void);
void chain_shrink_exit(void);

/* dm-chain-load.c: maps are read on demand, and in the background */

/**
 * chain_presence_read() - which groups of a map there are
 * @att: of the layer
 * @groups: of its map
 * @present: a bit for each; those of damaged sectors are left as they are
 * @lost: a bit for each sector that is damaged
 * @page: to be used
 *
 * Return: 0 or -EIO: some could not be read; their sectors are among the damaged.
 */
int chain_presence_read(struct chain_att *att, u64 groups, unsigned long *present,
			unsigned long *lost, void *page);

/** chain_map_open() - learn what there is of a layer's map; 0, -ENOMEM, -EINTR */
int chain_map_open(struct chain_att *att);

/** chain_map_read_all() - read all of it; 0, -ENOMEM, -EINTR */
int chain_map_read_all(struct chain_att *att);

/** chain_map_is_read() - has all of it been read */
static inline bool chain_map_is_read(const struct chain_layer *l)
{
	/* Pairs with the release in take_entry(). */
	return !smp_load_acquire(&l->nr_todo);
}

/** chain_blocks_read() - has all that is about these blocks */
bool chain_blocks_read(const struct chain_layer *l, u64 block, u64 n);

/** chain_range_read() - has it in all layers of the topology; any context */
bool chain_range_read(const struct chain_inst *ci, sector_t sector, sector_t n);

/**
 * chain_read_sectors() - read what an attachment's layer has of a range
 * @att: of the live table
 * @sector: of the disk
 * @n: sectors, at least one
 *
 * Context: process; does I/O. Return: 0 or -ENOMEM.
 */
int chain_read_sectors(struct chain_att *att, sector_t sector, sector_t n);

/** chain_read_range() - the same for all layers of the topology */
int chain_read_range(struct chain_inst *ci, sector_t sector, sector_t n);

/** chain_read_more() - the worker's next step; false: there is none, or no memory */
bool chain_read_more(struct chain_disk *disk);

/** chain_unread() - groups that the topology's layers have still to read */
u64 chain_unread(const struct chain_inst *ci);

/**
 * chain_disk_pin_read() - chain_disk_pin() when all maps have been read
 * @devt: of the disk
 * @ci: set to its live table
 *
 * Return: as chain_disk_pin(), or -ENOMEM.
 */
int chain_disk_pin_read(dev_t devt, struct chain_inst **ci);

/* dm-chain-meta.c: dirty groups of a layer and their way to disk */

/** chain_meta_create() - the layer is opened read-write; rounds run on @wq */
int chain_meta_create(struct chain_att *att, struct workqueue_struct *wq);
void chain_meta_destroy(struct chain_layer *l);

/** chain_meta_bind() - its I/O goes through this attachment from now on */
void chain_meta_bind(struct chain_att *att);

/**
 * chain_meta_set() - the state of prepared blocks changes
 * @l: open read-write
 * @block: first
 * @n: blocks
 * @state: new one
 *
 * What it speaks for has been written: the next round may take it.
 * Context: any.
 */
void chain_meta_set(struct chain_layer *l, u64 block, u64 n, unsigned int state);

/**
 * chain_meta_flag() - a sector of the map is flagged as changed, or not
 * @l: open read-write, with @track
 * @sector: of the map
 * @on: if so
 *
 * On disk with the next round. Context: any.
 */
void chain_meta_flag(struct chain_layer *l, u64 sector, bool on);

/** chain_meta_durable() - is what the map says of @block on disk, flushed */
bool chain_meta_durable(struct chain_layer *l, u64 block);

/**
 * chain_meta_flush() - complete a bio when all acknowledged before is durable, map included
 * @l: open read-write
 * @cb: of the bio, with @then
 * @can_submit: the caller is map(): a round may be submitted from here
 *
 * Context: any; does not wait.
 * Return: true if it was taken; false: nothing to write, a flush of the device
 * alone will do (map() passes it down).
 */
bool chain_meta_flush(struct chain_layer *l, struct chain_bio *cb,
		      bool can_submit);

/** chain_meta_sync() - the same for a caller that waits */
int chain_meta_sync(struct chain_layer *l);

/**
 * struct chain_clear - blocks that turn absent
 * @block: first
 * @n: blocks
 * @which: a bit each, those that do
 */
struct chain_clear {
	u64 block;
	u64 n;
	const unsigned long *which;
};

/**
 * chain_meta_clear() - chain_meta_sync() that also makes blocks absent
 * @l: open read-write
 * @c: nobody else changes the state of these blocks meanwhile
 *
 * What they held is durable below. Lookups find them until the round is
 * durable, and not after this returns. Context: may sleep.
 * Return: 0, or a negative errno: nothing is absent, the layer has failed
 * (-ENOMEM: it has not).
 */
int chain_meta_clear(struct chain_layer *l, const struct chain_clear *c);

/**
 * chain_meta_hold() - no round starts until chain_meta_release()
 * @l: open read-write
 *
 * chain_meta_release() with @failed: those who wait get an error.
 */
void chain_meta_hold(struct chain_layer *l);
void chain_meta_release(struct chain_layer *l, bool failed);

/** chain_meta_quiesce() / chain_meta_resume() - no I/O in between */
void chain_meta_quiesce(struct chain_layer *l);
void chain_meta_resume(struct chain_layer *l);

/*
 * Memory that a larger map needs, got before the disk is suspended. grow()
 * puts the old one in its place: free it afterwards.
 */
void *chain_meta_grow_alloc(u64 blocks);
void chain_meta_grow_free(void *mem);
void chain_meta_grow(struct chain_layer *l, void *mem);

/**
 * chain_meta_clear_beyond() - nothing behind the old end may come to life
 * @att: of the layer that is to grow
 * @mem: from chain_meta_grow_alloc()
 *
 * Durable before this returns; before the header tells of the new size.
 * Return: 0 or a negative errno.
 */
int chain_meta_clear_beyond(struct chain_att *att, void *mem);

/** chain_layer_fail() - no more writes; a line in the log */
void chain_layer_fail(struct chain_layer *l, const char *what, int err);

/* dm-chain-topo.c: what lies below the top */

/**
 * chain_walk() - ask layers one by one
 * @ci: table
 * @first: depth to begin at
 * @end: depth to end before
 * @sector: of the disk
 * @max: sectors, at least 1
 * @owner: set to the attachment, or NULL
 * @state: DATA with an owner; ZERO: reads zeroes; ABSENT: nobody of these,
 *	those below count; DAMAGED: EIO
 * Return: sectors from @sector on that this holds for, 1 to @max.
 */
sector_t chain_walk(const struct chain_inst *ci, unsigned int first,
		    unsigned int end, sector_t sector, sector_t max,
		    struct chain_att **owner, unsigned int *state);

/**
 * chain_below() - the same for all below the top, by the merged lookup
 * @ci: table
 * @sector: of the disk
 * @max: sectors, at least 1
 * @owner: set to the attachment, or NULL
 * @state: as chain_walk(); ABSENT never comes
 */
sector_t chain_below(struct chain_inst *ci, sector_t sector, sector_t max,
		     struct chain_att **owner, unsigned int *state);

void chain_merge_work(struct work_struct *work);

/** chain_worker_stop() - of lookup and maps; waits for the I/O that it does */
void chain_worker_stop(struct chain_disk *disk);
void chain_worker_start(struct chain_disk *disk);

/** chain_lookup_create() - an empty merged lookup, with the module's cap */
struct chain_merge *chain_lookup_create(sector_t sectors);

/** chain_same_below() - do two tables show the same below their tops */
bool chain_same_below(const struct chain_inst *a, const struct chain_inst *b);

/* dm-chain-map.c: guest I/O */
int chain_map(struct dm_target *ti, struct bio *bio);
void chain_unlock_blocks(struct chain_disk *disk, u64 block, u32 n);
/** chain_end_write() - a write to @att is done; FUA: but for the map */
void chain_end_write(struct chain_att *att, struct bio *bio, bool fua);

/** chain_clip() - cut a bio to its first @sectors, if it has more */
static inline void chain_clip(struct bio *bio, sector_t sectors)
{
	if (sectors < bio_sectors(bio))
		dm_accept_partial_bio(bio, sectors);
}

/* What becomes of a bio. */
enum chain_action {
	CHAIN_TO_LAYER,		/* it goes to a layer's device */
	CHAIN_ZEROES,		/* no layer holds it: read as zeroes */
	CHAIN_MAP_ONLY,		/* zeroed, in the map only */
	CHAIN_DEFERRED,		/* it has to wait, or to read first */
	CHAIN_FAILED,
};

/** chain_remap() - DM_MAPIO_*; past the gate, for the guest */
int chain_remap(struct chain_att *att, struct bio *bio);

/**
 * chain_hook_write() - what becomes of a write to @att at its end
 * @ci: table
 * @att: it goes to
 * @bio: the write
 * @block: of @att's layer: @nr blocks from it on become data
 * @nr: 0: none do
 * @lock: of the top: @nr_locked blocks from it on are unlocked
 * @nr_locked: 0: none are
 *
 * FUA waits for the map.
 */
void chain_hook_write(struct chain_inst *ci, struct chain_att *att,
		      struct bio *bio, u64 block, u32 nr, u64 lock,
		      u32 nr_locked);

/**
 * chain_touched() - what of a disk a bio is about
 * @ci: table
 * @bio: not empty
 * @from: set to the first sector
 *
 * Return: sectors, in whole blocks of the top: a copy-up reads the rest of them.
 */
sector_t chain_touched(const struct chain_inst *ci, const struct bio *bio,
		       sector_t *from);

/** chain_clip_punch() - cut a discard or write-zeroes to as much as is given back at once */
void chain_clip_punch(const struct chain_inst *ci, struct bio *bio);

/** chain_zero_range() - the blocks that a discard or write-zeroes covers */
void chain_zero_range(const struct chain_layer *l, const struct bio *bio,
		      u64 *block, u64 *n);

/**
 * chain_zero_blocks() - let blocks of the top read zeroes
 * @ci: table
 * @bio: for which this is done
 * @block: first block; all are locked by the caller
 * @n: blocks
 * @gfp: with one that may block, space goes back to the store where there was data
 *
 * Return: 0; -ENOMEM: some of them may not, do it again; -EIO: a write-zeroes has
 * met a damaged one.
 */
int chain_zero_blocks(struct chain_inst *ci, const struct bio *bio, u64 block,
		      u64 n, gfp_t gfp);

/* dm-chain-slow.c: bios that have to wait */
void chain_defer(struct chain_inst *ci, struct bio *bio);
void chain_unpark(struct chain_disk *disk);

/*
 * chain_lock_or_park(): lock blocks, or park the bio: false, and it must not be
 * touched any more; its work starts again.
 */
bool chain_lock_or_park(struct chain_bio *cb, u64 block, u32 n);

/** chain_write_top() - a part of a block is written, or zeroed; it is locked */
int chain_write_top(struct chain_inst *ci, struct bio *bio, sector_t sector,
		    sector_t n);

/**
 * chain_copy_seen() - what is seen in a range is written elsewhere; waits
 * @ci: table
 * @to: attachment, for jobs
 * @sector: of the disk
 * @n: behind the disk's end zeroes are written
 */
int chain_copy_seen(struct chain_inst *ci, struct chain_att *to, sector_t sector,
		    sector_t n);

/** chain_submit() - a deferred bio goes to @att, past the gate */
void chain_submit(struct chain_att *att, struct bio *bio);

/**
 * chain_copy_up() - a part of a block is written that the layer doesn't hold
 * @ci: table
 * @depth: of the layer
 * @bio: what is written
 * @block: of the layer, locked
 * @zero_below: what isn't written reads zeroes
 * @from: sectors of the disk that are zeroed, if that is what @bio does
 * @to: behind them
 *
 * Context: the slow path. Return: 0 or a negative errno.
 */
int chain_copy_up(struct chain_inst *ci, unsigned int depth, struct bio *bio,
		  u64 block, bool zero_below, sector_t from, sector_t to);

/** chain_write_part() - the bio's bytes in a range, or zeroes, in place; waits */
int chain_write_part(struct chain_inst *ci, struct chain_att *att,
		     struct bio *bio, sector_t sector, sector_t n);
/** chain_gave_up() - a try for a lock failed, and its bio won't park for it */
void chain_gave_up(struct chain_disk *disk);

/* dm-chain-disk.c */

/**
 * chain_disk_join() - a table becomes one of its mapped device's
 * @ci: table
 * @error: set on failure
 *
 * Makes the disk with the first table. Context: ctr.
 */
int chain_disk_join(struct chain_inst *ci, char **error);
void chain_disk_leave(struct chain_inst *ci);

/** chain_disk_slots() - slots for the layers of a table, by_slot filled in */
int chain_disk_slots(struct chain_inst *ci);

/** chain_disk_find() - by device number; registry_mutex held */
struct chain_disk *chain_disk_find(dev_t devt);
bool chain_any_disk(void);

/** chain_lookup_parts() - what all lookups could give back; registry_mutex held */
unsigned long chain_lookup_parts(void);
/** chain_lookup_shrink() - so many of these, about; how many were; registry_mutex held */
unsigned long chain_lookup_shrink(unsigned long nr);

/** chain_disk_take_back() - see soon what no job may write any more */
void chain_disk_take_back(struct chain_disk *disk);
/** chain_disk_dying() - a table goes: nobody finds or uses it any more */
void chain_disk_dying(struct chain_inst *ci);

/**
 * chain_disk_pin() - keep the tables of a disk, and what they show, as they are
 * @devt: of the mapped device
 * @ci: set to the live one
 *
 * For queries; not over I/O. Return: 0, -ENODEV or -EINTR.
 */
int chain_disk_pin(dev_t devt, struct chain_inst **ci);
void chain_disk_unpin(struct chain_disk *disk);

/* dm-chain-switch.c: what changes a running disk at one instant */
int chain_switch(const struct dm_chain_switch *arg);
int chain_resize(const struct dm_chain_resize *arg);
int chain_relink(struct dm_chain_relink *arg);

/**
 * struct chain_drop - layers leave the topology
 * @first: depth
 * @n: layers
 * @above: NULL, or whose see-through limit becomes
 * @limit: sectors
 * @also: NULL, or called then
 * @arg: for @also
 * @fresh: an empty lookup, or NULL
 */
struct chain_drop {
	unsigned int first;
	unsigned int n;
	struct chain_layer *above;
	sector_t limit;
	void (*also)(struct chain_inst *ci, void *arg);
	void *arg;
	struct chain_merge *fresh;
};

/**
 * struct chain_member - one of the disks of a switch
 * @index: in the caller's array
 * @devt: of the mapped device
 * @md: referenced
 * @ci: live table, claimed while @claimed
 * @claimed: nobody else changes its table
 * @holder: what the switch holds of it
 * @grant: of @holder
 * @error: what was wrong with it
 * @pause_ns: how long its I/O was held back
 * @start: of the pause
 * @old: snapshot: top that is frozen
 * @new: snapshot: layer that becomes the top
 * @hdr: room for a header
 * @fp: snapshot: fingerprint of a raw @old
 * @pending: a header of it waits for the decision
 * @job: pivot: the one that ends
 * @drop: pivot: layers that go
 * @path: pivot of several: where the header lies that decides, as seen from the
 *	one that waits for it; DM_CHAIN_PATH_BYTES
 * @decides: pivot of several: by one of its headers
 * @deciding: pivot: what its target fails at waits
 */
struct chain_member {
	u32 index;
	dev_t devt;
	struct mapped_device *md;
	struct chain_inst *ci;
	bool claimed;
	struct chain_holder holder;
	struct chain_grant grant;
	int error;
	u64 pause_ns;
	ktime_t start;
	struct chain_att *old;
	struct chain_att *new;
	struct chain_header *hdr;
	struct chain_id fp;
	bool pending;
	struct chain_job *job;
	struct chain_drop drop;
	const char *path;
	bool decides;
	bool deciding;
};

/**
 * chain_member_update() - change the header of one of a disk's layers, durably
 * @m: disk of a switch
 * @att: of the layer, open for writing
 * @first: the other slot is left for later
 * @fn: changes it; rw_mutex held
 * @arg: for @fn
 */
int chain_member_update(struct chain_member *m, struct chain_att *att, bool first,
			void (*fn)(struct chain_member *m, struct chain_header *h,
				   const void *arg), const void *arg);

/**
 * chain_claim() - nobody else changes the disk's table
 * @d: a disk that doesn't go meanwhile
 *
 * Return: 0; -EBUSY: somebody does, or it is suspended, or another table is
 * loaded; -ENODEV: it has no table.
 */
int chain_claim(struct chain_disk *d);
void chain_unclaim(struct chain_disk *d);

/**
 * chain_next_unfit() - may what is attached in role next become the top?
 * @ci: table
 *
 * Asked when the table comes and when it is used: the top may have changed between.
 *
 * Return: what is wrong, or NULL.
 */
const char *chain_next_unfit(const struct chain_inst *ci);

/** chain_target_unfit() - may the mirror's target be one of this top? As above. */
const char *chain_target_unfit(const struct chain_inst *ci);

/** chain_quiesce() - no round of a map runs, and no timer starts one, until resume */
void chain_quiesce(struct chain_inst *ci);

/** chain_check_writable() - -EROFS, or -EIO for a disk that has failed */
int chain_check_writable(struct chain_inst *ci);

/**
 * chain_change_all() - change running disks while all of them are suspended
 * @m: claimed; their pause is set. Sorted by device number, so that nobody waits
 *	for somebody who does it in another order; more than one: several_mutex held
 * @nr: of them
 * @fn: registry_mutex held; can't fail, doesn't wait
 * @arg: for @fn
 */
void chain_change_all(struct chain_member *m, unsigned int nr,
		      void (*fn)(void *arg), void *arg);

/**
 * chain_change() - change a running disk while it is suspended
 * @ci: claimed
 * @fn: registry_mutex held; can't fail, doesn't wait
 * @arg: for @fn
 *
 * Return: ns that I/O was held back.
 */
u64 chain_change(struct chain_inst *ci,
		 void (*fn)(struct chain_inst *ci, void *arg), void *arg);

/* dm-chain-snapshot.c */

/**
 * chain_snapshot() - the attached layers become the tops of their disks
 * @m: disks, sorted, claimed
 * @nr: of them
 *
 * All or none. Return: 0 or a negative errno; the errors of those that were in
 * the way are set.
 */
int chain_snapshot(struct chain_member *m, unsigned int nr);

/** chain_change_lookup() - the same, and what is merged is forgotten */
void chain_change_lookup(struct chain_inst *ci,
			 void (*fn)(struct chain_inst *ci, void *arg), void *arg);

/*
 * chain_drop_layers(): drop them while the disk is suspended; claimed. Its three
 * steps, for who has more to do then: before, suspended, after.
 */
void chain_drop_layers(struct chain_inst *ci, struct chain_drop *drop);
void chain_drop_prepare(struct chain_inst *ci, struct chain_drop *drop);
void chain_drop_now(struct chain_inst *ci, struct chain_drop *drop);
void chain_drop_done(struct chain_drop *drop);

/*
 * A chain layer grows. alloc: memory for @size bytes, before. write: durably;
 * @hdr is the header it gets, its size is set; rw_mutex held. swap: in memory,
 * suspended.
 */
struct chain_growth;
struct chain_growth *chain_growth_alloc(const struct chain_layer *l, u64 size);
void chain_growth_free(struct chain_growth *g);
int chain_growth_write(struct chain_att *att, struct chain_growth *g,
		       struct chain_header *hdr);
void chain_growth_swap(struct chain_layer *l, struct chain_growth *g);

/* dm-chain-job.c */
int chain_job_start(struct dm_chain_job_start *arg);
int chain_job_verb(const struct dm_chain_job_verb *arg);
/** chain_jobs_fill() - all, or the one with an id; returns how many there are */
u32 chain_jobs_fill(u64 id, struct dm_chain_job *out, u32 room);
/** chain_job_orphan() - the token's descriptor was closed; registry_mutex held */
void chain_job_orphan(struct chain_job *job);

/*
 * hurry: presuspend, busy jobs come to an end. stop: none is busy when it
 * returns, nor becomes so. go: resumed.
 */
void chain_jobs_hurry(struct chain_disk *d);
void chain_jobs_stop(struct chain_disk *d);
void chain_jobs_go(struct chain_disk *d);
/** chain_jobs_bind() - in resume: where their layers are; registry_mutex held */
void chain_jobs_bind(struct chain_disk *d);
/** chain_jobs_end() - the disk goes: they end, and touch nothing any more */
void chain_jobs_end(struct chain_disk *d);

/** chain_jobs_lack_target() - is it a table without the target of a mirror */
bool chain_jobs_lack_target(const struct chain_inst *ci);

/**
 * chain_jobs_pivot() - disks go on where an active commit or mirrors lead
 * @m: disks, claimed; several: all have a mirror
 * @nr: of them
 *
 * All or none. Return: 0 when the jobs have ended; -ENOENT: there is none; -EAGAIN:
 * not ready; -EINVAL: of several, one is no mirror. The errors of those that were
 * in the way are set.
 */
int chain_jobs_pivot(struct chain_member *m, unsigned int nr);
void chain_jobs_exit(void);

/* dm-chain-monitor.c */
struct chain_monitor *chain_monitor_create(struct dm_chain_monitor *arg);
void chain_monitor_destroy(struct chain_monitor *m);
ssize_t chain_monitor_read(struct chain_monitor *m, struct file *file,
			   char __user *buf, size_t len);
__poll_t chain_monitor_poll(struct chain_monitor *m, struct file *file,
			    struct poll_table_struct *wait);

/* dm-chain-route.c: guest I/O while the top is committed */

/** chain_map_route() - a write, discard or write-zeroes, instead of chain_map() */
int chain_map_route(struct chain_inst *ci, struct bio *bio);
/** chain_flush_base() - a flush is done for the top: now for the base */
void chain_flush_base(struct chain_bio *cb, blk_status_t status);
/** chain_map_tracked() - count a read; @map is what maps it */
int chain_map_tracked(struct chain_inst *ci, struct bio *bio,
		      int (*map)(struct chain_inst *ci, struct bio *bio));

/* dm-chain-track.c: what has been written since a mirror was cut off */

/** chain_track_alloc() - room for flags of @l, none is set; -ENOMEM */
int chain_track_alloc(const struct chain_layer *l, unsigned long **track,
		      unsigned long **tracked);

/** chain_clip_flag() - cut a bio to what one flag speaks for, which is asked next */
void chain_clip_flag(const struct chain_layer *l, struct bio *bio);

/** chain_is_flagged() - may this be written, as far as flags go */
static inline bool chain_is_flagged(const struct chain_inst *ci, sector_t sector)
{
	const struct chain_layer *l = chain_top(ci)->layer;

	return !READ_ONCE(ci->disk->tracking) ||
	       test_bit(sector_to_block(l, sector) / DM_CHAIN_SECTOR_BLOCKS,
			l->tracked);
}

/**
 * chain_flag() - flag what a bio is about to write, durably
 * @ci: table
 * @bio: within one sector of the map of the top
 * @then: called when it is; who gets a status has to end the bio
 *
 * Context: any; doesn't wait.
 */
void chain_flag(struct chain_inst *ci, struct bio *bio,
		void (*then)(struct chain_bio *cb, blk_status_t status));
/** chain_flagged() - in @then: it is durable */
void chain_flagged(struct chain_bio *cb);

/** chain_map_track() - a write, cut so, whose place is not flagged yet */
int chain_map_track(struct chain_inst *ci, struct bio *bio);

/* dm-chain-both.c: guest I/O while the disk is mirrored */

/** chain_one_run() - as much from the start of a bio on as can be one request */
sector_t chain_one_run(const struct chain_layer *l, const struct bio *bio,
		       unsigned int *state);

/** chain_map_both() - a write, discard or write-zeroes, instead of chain_map() */
int chain_map_both(struct chain_inst *ci, struct bio *bio);
/** chain_flush_both() - a flush, or a FUA write that was written */
void chain_flush_both(struct chain_inst *ci, struct bio *bio);

/* dm-chain-ctl.c */
extern struct chain_id chain_instance;
void chain_host_id(struct chain_id *host);
int chain_ctl_init(void);
void chain_ctl_exit(void);

/* dm-chain-target.c */
extern struct target_type chain_target;

#endif
