/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Model checker of the on-disk protocol: an executable version of it, small
 * enough that every interleaving of small scripts and every crash image of
 * every state can be looked at.
 *
 * The parts, from the disk up:
 *
 *   struct unit	a logical sector (or a header slot) of a device with a
 *			volatile cache: what it may read as after a power cut
 *   struct layer	what the kernel holds in memory of an open layer
 *   struct disk	a chain in use, and what its guest may expect of it
 *   struct actor	somebody who acts: a list of steps and a place in it
 *   struct state	all of these; the checker walks the graph of states
 *   struct scenario	where it starts, and who acts
 *
 * Operations are arrays of struct step, in the order of the protocol; a step
 * is what happens between two instants at which somebody else may act or the
 * power may fail. See Documentation/protocol-model.rst.
 */
#ifndef DM_CHAIN_TESTS_MODEL_H
#define DM_CHAIN_TESTS_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

#define NR_BLOCKS	2
#define NR_SECTORS	2	/* in a block: enough to tear it */
#define NR_LAYERS	5
#define NR_DISKS	2
#define NR_ACTORS	7
#define NR_VALUES	5	/* of a unit: the durable one and later ones */
#define NR_WRITES	8	/* of a block between two flushes, and the base */
#define NR_GHOSTS	8

#define BIT(n)		(1U << (n))
#define ALL_BLOCKS	(BIT(NR_BLOCKS) - 1)

/* Defects that can be planted: each must be found. */
enum plant {
	NO_DEFECT,

	/* flush rounds and map sectors */
	BUILD_FROM_CUR,		/* sectors show the map as it is after FLUSH 1 */
	BIT_AT_SUBMIT,		/* `data` when the write starts, not when done */
	DIRTY_LATE,		/* others see `data` before flushes see a change */
	NO_FIRST_FLUSH,
	NO_SECOND_FLUSH,
	FUA_ONLY,		/* FUA sectors in a round without a FLUSH */
	JOIN_RUNNING_ROUND,	/* a flush shares a round that has captured */
	NO_EMPTY_GROUP,		/* presence together with a group's first write */
	PRESENCE_LATE,		/* presence one round after the sectors */
	EMPTY_GROUP_SKIPPED,	/* after load: valid sectors there are trusted */
	STALE_SECTORS_USED,	/* load reads them; first use empties them */
	PRESENCE_LOST_ABSENT,	/* a damaged presence sector reads as zeroes */
	PRESENCE_LOST_PRESENT,	/* ... as ones */
	DAMAGE_FORGOTTEN,	/* a damaged sector is rewritten as absent */
	DAMAGE_WRITABLE,	/* a write into damage succeeds */
	PUNCH_EARLY,		/* before the change to `zero` is durable */
	PUNCH_RACE,		/* a write does not wait for a punch */
	FUA_BEFORE_BIT,		/* FUA in place though the bit isn't durable */
	RETRY_FLUSH,		/* a failed flush is tried again, and succeeds */
	BLOCK_ATOMIC,		/* claims that rewrites in place don't tear */

	/* headers */
	ALTERNATE_SLOTS,	/* an update writes one slot only */
	FIRST_SLOT_FIRST,	/* no repair at open, slot 0 first */
	SLOTS_TOGETHER,		/* no wait between the two slots */
	OPEN_WITHOUT_FLUSH,	/* trusts what may only be in the cache */
	OPEN_FLUSHES_TOP,	/* ... of the layers below */
	OPEN_FLUSHES_HEADERS,	/* ... of the maps */
	OPEN_SAME_CID,
	OPEN_MARK_LATE,		/* guest writes before the header is durable */
	UNSEAL_SAME_CID,
	REBASE_SAME_CID,
	NEW_ID_CHANGES_SEED,
	CREATE_OVER_HEADERS,	/* former headers not erased */
	CREATE_NO_BARRIER,	/* ... erased, but not durably first */
	BACKING_IN_USE,		/* create --backing of a layer open rw */
	SHRINK_KEEPS_LIMIT,
	GROW_KEEPS_BITS,

	/* snapshots */
	SEAL_SAME_CID,		/* N prepared with A's present content id */
	SEAL_BEFORE_FLUSH,
	SWITCH_WITHOUT_DRAIN,	/* a write to A in flight at the switch */
	FLUSH_NOT_HELD,		/* guest flush done before the commit record */
	FUA_NOT_HELD,		/* ... a FUA write */
	HOLD_FOREVER,		/* ... nor ever after: nobody can go on */
	CHILD_NOT_SYNCED,	/* N's file or its name not durable */
	GROUP_NO_PENDING,	/* several disks: a seal each */
	GROUP_DECIDE_EARLY,	/* decision not after all pendings are durable */
	GROUP_DROP_EARLY,	/* decision erased before all are sealed */
	GROUP_ABORT_SAME_CID,
	GROUP_DECIDE_UNFLUSHED,	/* decision before F1 of all old tops */
	GROUP_UNDO_SAME_CID,	/* undone before the switch, keeps the id */
	GROUP_CHILD_OPENS,	/* N2 opens whatever becomes of its A2 */
	GROUP_DECISION_CACHED,	/* decision read from a cache is acted upon */
	GROUP_MEMBER_UNSETTLED,	/* N2 is used while A2 is pending */

	/* stream */
	RELINK_BEFORE_MAPS,
	UNLINK_BEFORE_RELINK,
	STREAM_NO_LOCK,		/* a copy overtakes a guest write */
	STREAM_KEEPS_LIMIT,	/* see-through limit not lowered */

	/* commit */
	CLEAR_TOGETHER,		/* all layers in one round */
	CLEAR_TOP_FIRST,	/* T before what it hides */
	CLEAR_BEFORE_BASE,	/* no wait for the base's data and bits */
	GUEST_TO_BASE,		/* held blocks, too, are written at the base */
	LOOKUP_EARLY,		/* lookups switch when copied */
	LOOKUP_LATE,		/* ... only after the next round captured */
	NO_MOVE_LOCK,		/* writes at T only between C4 and C7 */
	TWO_WRITERS,		/* the job writes map sectors by itself */
	DAMAGE_MOVED,		/* a damaged block is taken for zeroes */
	PENDING_NOT_SEEN,	/* first writes under way when routes change */
	CANCEL_FORGETS_BASE,	/* flushes after a cancel leave the base out */
	BASE_MARKED_FIRST,	/* C2 before C1 */
	MARKS_TOGETHER,		/* C1 and C2 in one round */
	RECORD_OLD_ID_ONLY,	/* job record accepts c0, not c1 */
	BASE_MARKED_LATE,	/* data before C2 */
	MIDDLE_NOT_MARKED,	/* M neither spoiled nor renewed */
	COMMIT_SHARED_BASE,	/* though the base has another child */
	SPOILED_WITHOUT_KEY,	/* any overlay may use a spoiled base */
	RAW_PRINT_KEPT,		/* the record doesn't void the fingerprint */
	TOP_NOT_DURABLE,	/* what is new at T is moved before it is durable */
	CANCEL_NOT_DRAINED,	/* writes to the base under way at a cancel */
	RECORD_MISSING,		/* C2 without C1 */
	DONE_EARLY,		/* record called done before O is re-linked */
	DONE_REUSED,		/* another commit with a done record's c1 */
	PIVOT_SAME_CID,		/* base un-spoiled, then T retired */
	PIVOT_LATE,		/* though the base has refused a write meanwhile */
	PIVOT_RECORDED_FIRST,	/* base's header before the switch in memory */
	PIVOT_UNCLEARED,	/* T's clears not durable at the switch */
	RELINK_FIRST,		/* O re-linked, then base un-spoiled */
	BASE_STAYS_SMALL,	/* base not grown to T's size first */
	SHORT_STAYS_SHORT,	/* M's end still hides the base in the job */
	SHORT_LIFTED_EARLY,	/* ... lifted before T's zeroes are durable */
	SHORT_AT_OPEN,		/* ... lifted while it runs, not when opened */

	/* mirror */
	COMPLETE_FIRST,		/* target complete, then source retired */
	RETIRE_FIRST,		/* source retired, then target prepared */
	PIVOT_WITHOUT_FLUSH,
	MIRROR_FLUSH_SOURCE,	/* a guest's flush leaves the target out */
	CANCEL_COMPLETE_FIRST,	/* target complete before its F1 */
	TRACK_FROM_CACHE,	/* source not flushed before copying starts */
	TRACK_LATE,		/* flag not durable before the write */
	TRACK_FROM_CUR,		/* flag written with the map as it is */
	TRACK_NO_PRESENCE,	/* flag in a group that isn't present */
	TRACK_CLEAR_EARLY,	/* cleared without flushing both */
	TRACK_ANY_WRITER,	/* untracked writers don't void the flags */
	TRACK_ENDS_EARLY,	/* no flags, while the target may be resumed */
	PIVOTS_NO_PENDING,	/* several disks: each source retired by itself */
	PIVOTS_DECIDE_EARLY,	/* decision before the others are pending */
	PIVOTS_DROP_EARLY,	/* decision erased before the others are retired */
	PIVOTS_COPY_OPENS,	/* D2 asks S2 alone, which is pending */

	NR_PLANTS
};

enum block_state { ABSENT, DATA, ZERO, DAMAGED };

/* --- the disk: devices with a volatile cache --- */

/* Contents of data sectors that no guest wrote; guest writes are 1 to 99. */
enum content {
	ZEROES = 0,
	FORMER = 0xd0,		/* what lies under a block never written */
	PUNCHED = 0xdd,
	EIO_READ = 0xee,
};

/*
 * A unit is written as a whole or not at all. v[0] is what it durably holds,
 * the others what was written later, in order; after a power cut it reads as
 * any of them. A header slot is 8 sectors, so it may also read as torn.
 */
struct unit {
	u8 n;
	u8 flying;		/* the last one has not completed */
	u8 mark;		/* the FLUSH under way makes v[mark] durable */
	u8 v[NR_VALUES];
};

enum unit_index {
	U_NAME,			/* directory entry of the layer's file */
	U_SLOT0,
	U_SLOT1,
	U_PRESENCE,
	NR_STRUCTURE,		/* the units above decide about the whole layer */
	U_MAP = NR_STRUCTURE,	/* one for each map sector */
	U_DATA = U_MAP + NR_BLOCKS,
	NR_UNITS = U_DATA + NR_BLOCKS * NR_SECTORS,
};

#define TORN		0xff	/* content of a torn header slot */

/* Map and presence sectors. What isn't VALID or of another seed is nothing. */
#define SECTOR_VALID	0x80
#define SECTOR_TRACK	0x40
#define SECTOR_SEED	0x20
#define SECTOR_ROTTEN	0x01

/* Header. Interned: a slot's content is a number, hdr(number) the header. */
enum mirror_mark { NOT_MIRROR, INCOMPLETE, PREPARED };

struct hdr {
	u8 gen;
	u8 uuid;		/* 1 + layer, unless new-id changed it */
	u8 cid;
	u8 seed;		/* 0 or 1 */
	u8 size, limit;		/* blocks */
	u8 parent, parent_cid;	/* UUID, 0: none; raw: 1 + layer, fingerprint */
	u8 sealed;		/* UUID of the child */
	u8 many;		/* sticky: had more than one child */
	u8 in_use;
	u8 pending, coordinator;
	u8 decision;
	u8 job, range;		/* commit record; range: mask of BIT(uuid) */
	u8 base, c0, c1;
	u8 done;		/* the record's job has ended */
	u8 spoiled;		/* by which job */
	u8 mirror, source;	/* of a target: enum mirror_mark */
	u8 retired;		/* to which UUID */
	u8 track_cid;		/* of a source: flags are good for this cid */
};

/* --- what is in memory --- */

enum wait_state { NOT_WAITING, WANTS_ROUND, IN_ROUND, ROUND_DONE };

struct layer {
	u8 hdr;			/* header in force */
	u8 hdr_new;		/* being written */
	u8 hdr_busy;		/* slots differ */
	u8 cur[NR_BLOCKS];	/* for lookups: enum block_state */
	u8 dirty;		/* blocks changed since the last capture */
	u8 present;		/* groups: as on disk, or about to be */
	u8 present_due;		/* planted PRESENCE_LATE */
	u8 captured;		/* blocks in the round under way */
	u8 cap[NR_BLOCKS];	/* their states: the round's write buffers */
	u8 clear;		/* commit: blocks to be written `absent` */
	u8 clearing;		/* ... by the round under way */
	u8 lifted;		/* in a commit's range: it has no end */
	u8 track, track_cap;	/* change flags: in memory, in the round, */
	u8 tracked;		/* durable */
	u8 punch, punching;	/* blocks to be punched, being punched */
	u8 fail_next, failed;	/* next FLUSH fails; read-only-failed */
	u8 busy;		/* a round is under way */
	u8 one_flush;		/* ... which has no first FLUSH */
	u16 waiting;		/* 2 bits an actor: enum wait_state */
};

struct chain {
	u8 n;
	u8 l[NR_LAYERS];	/* top first */
};

/* A guest's write to a block and what the block held when it was done. */
struct write {
	u8 v[NR_SECTORS];
	u8 whole;		/* first write: all or nothing */
};

/* Reference: op[0] is covered by a flush, the others may survive or not. */
struct history {
	u8 base;		/* number of op[0] */
	u8 n;
	u8 eio;			/* lost: must read EIO */
	struct write op[NR_WRITES];
};

struct disk {
	u8 opened;
	u8 paused;		/* suspended */
	u8 hold;		/* flushes wait for a commit record */
	u8 lock;		/* blocks under a job's lock */
	u8 inflight;		/* blocks with a guest write under way */
	u8 touched;		/* blocks written since a cleaner looked */
	u8 to_base;		/* active commit: 1 + base layer */
	u8 mirror;		/* 1 + target layer */
	u8 tracking;
	u8 written;		/* layers that guest writes went to */
	struct chain chain;
	struct history h[NR_BLOCKS];
};

struct actor {
	u8 pc;
	u8 done;
	u8 op;			/* guest: place in its script */
	u8 b, x, y;		/* block, and what the operation remembers */
	u8 fua;			/* guest: the write itself is durable */
	u8 cover[NR_BLOCKS];	/* guest flush: what it promises */
};

/* What was seen at a layer under a content id when a child recorded it. */
struct ghost {
	u8 uuid, cid;
	u8 v[NR_BLOCKS][NR_SECTORS];
};

struct state {
	struct unit u[NR_LAYERS][NR_UNITS];
	struct layer l[NR_LAYERS];
	struct disk d[NR_DISKS];
	struct actor a[NR_ACTORS];
	struct ghost ghost[NR_GHOSTS];
	u8 nr_ghosts;
	u8 next_cid;
	u8 crashes;		/* survived */
};

/* --- scenarios --- */

/* What a step returns: where to go on, if it is not a step's number. */
enum { STEP_WAIT = -1, STEP_NEXT = -2, STEP_END = -3 };

struct step {
	const char *what;
	int (*run)(struct state *s, int me);
	u8 layers;		/* mask; 0: the top of the actor's disk */
	void (*build)(struct state *s, int me, int l, struct hdr *h);
};

#define STEP(what, run)	{ what, run, 0, NULL }

enum guest_op_kind { GUEST_END, WRITE, WRITE_HALF, WRITE_FUA, DISCARD, FLUSH };

struct guest_op {
	u8 kind;
	u8 disk;
	u8 b;
	u8 value;
};

struct actor_def {
	const char *name;
	const struct step *steps;
	const struct guest_op *script;
	u8 arg;			/* disk or layer it works on */
	bool daemon;		/* need not come to an end */
};

enum layer_kind { NO_LAYER, CHAIN, RAW };
enum geometry { ONE_SECTOR, TWO_SECTORS, TWO_GROUPS };
enum warmth { COLD = 1, WARM = 2 };

/* Before the first crash, and after each. */
#define NR_PHASES	2

struct scenario {
	const char *name;
	void (*init)(struct state *s);
	struct actor_def actor[NR_PHASES][NR_ACTORS];
	enum geometry geometry;
	u8 kind[NR_LAYERS];
	u8 disks;
	u8 tops[NR_DISKS];	/* layers of which exactly one opens */
	u8 crashes;		/* after each it goes on with phase 1 */
	u8 warmth;		/* of these crashes */
	bool rot;		/* also look at single sectors going bad */
	bool fua;		/* the device has it */
	bool may_be_none;	/* create: nothing there yet is right, too */
	u8 raw_top;		/* 1 + raw layer that is the disk until frozen */
	bool one_side;		/* several disks: all switched or none */
	bool resume_mirror;	/* check what a resumed mirror would copy */
	u8 commit_top, commit_base, commit_over;	/* over: 0 if top is active */
	u8 refused;		/* blocks whose writes the base refuses */
};

/* One run of the checker; the steps read it. */
struct model {
	const struct scenario *sc;
	enum plant plant;
};

extern struct model model;

static inline bool planted(enum plant p)
{
	return model.plant == p;
}

static inline const struct actor_def *actor_def(const struct state *s, int i)
{
	return &model.sc->actor[s->crashes ? 1 : 0][i];
}

struct result {
	bool violated;
	u32 states;
	u64 images;		/* crash images, counted with multiplicity */
	u32 depth;		/* steps of the longest shortest path */
	char why[256];
};

/* model.c */
void explore(const struct scenario *sc, enum plant plant, struct result *r);
void explain(FILE *f);		/* the trace of the last violation */

/* model_disk.c: devices and headers */
void unit_set(struct unit *u, u8 v);
void unit_write(struct unit *u, u8 v);
void unit_done(struct unit *u);
void unit_fua_done(struct unit *u);
u8 unit_read(const struct unit *u);
void flush_begin(struct state *s, int l);
void flush_end(struct state *s, int l);
void drop_cache(struct state *s, int l);
void headers_reset(void);
u8 header_number(const struct hdr *h);
const struct hdr *hdr(u8 number);
static inline bool slot_valid(u8 v)
{
	return v && v != TORN;
}
u8 pick_header(u8 slot0, u8 slot1);
static inline int data_unit(int b, int sector)
{
	return U_DATA + b * NR_SECTORS + sector;
}
int map_sector_of(int b);
int group_of(int b);
u8 group_blocks(int group);
u8 sector_blocks(int sector);
enum block_state sector_state(u8 presence, u8 sector, u8 seed, int b);

/* model_io.c: guest, flush rounds, punching */
extern const struct step guest[], flusher[], puncher[], background[];
void ask_round(struct state *s, int l, int me);
bool rounds_done(struct state *s, int me);
void live_block(const struct state *s, int d, int b, u8 v[NR_SECTORS]);
void set_block(struct state *s, int l, int b, enum block_state st);
bool uncommitted(const struct state *s, int l, int b);
bool is_lifted(const struct hdr *record, const struct hdr *h);
int held_at(const struct state *s, int d, int b);
void load_layer(struct state *s, int l);

/* model_ops.c: operations */
extern const struct step op_open[], op_open_after[], op_offline[], op_new_id[],
	op_rebase[], op_create[], op_late_backing[], op_shrink[], op_grow[],
	op_snapshot[], op_abandon[], op_snapshot_raw[], op_undo[], op_group[],
	op_group_raw[], op_group_undo[], op_group_recover[],
	op_open_member[], op_open_last[], op_stream[], op_commit[], op_commit_again[],
	op_commit_cancel[],
	op_spoiled_child[], op_mirror[], op_mirror_copy[], op_mirror_cancel[],
	op_pivots[], op_open_copy[],
	op_clean_flags[], op_fail_flush[];
void record_ghost(struct state *s, u8 uuid, u8 cid, u8 v[NR_BLOCKS][NR_SECTORS]);

/* model_check.c: opening, and what must hold at each instant */
struct image {
	const struct state *s;
	u8 v[NR_LAYERS][NR_STRUCTURE];
	u8 hdr[NR_LAYERS];
	int rot_layer, rot_unit;	/* -1: none */
};

const char *open_chain(const struct image *im, int top, bool rw,
		       struct chain *c);
void image_latest(const struct state *s, struct image *im);
int open_disk(const struct image *im, int d, struct chain *c);
void image_block(const struct image *im, const struct chain *c, int b,
		 u8 v[NR_SECTORS]);
void latest_block(const struct image *im, const struct chain *c, int b,
		  u8 v[NR_SECTORS]);
const char *check_state(const struct state *s, u64 *images);

#endif
