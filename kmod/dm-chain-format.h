/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Codec of the on-disk format. Freestanding: the module, the controller and
 * the tests compile the same file. It knows no devices and allocates nothing;
 * all input is hostile.
 */
#ifndef DM_CHAIN_FORMAT_H
#define DM_CHAIN_FORMAT_H

#include "dm-chain-env.h"
#include <linux/dm-chain-format.h>

/**
 * struct chain_id - UUID, content id, or the name of anything else
 * @b: bytes in the order of RFC 4122's text form
 */
struct chain_id {
	u8 b[16];
};

static inline bool chain_id_equal(const struct chain_id *a,
				  const struct chain_id *b)
{
	return !memcmp(a->b, b->b, sizeof(a->b));
}

static inline bool chain_id_is_null(const struct chain_id *a)
{
	static const struct chain_id null;

	return chain_id_equal(a, &null);
}

/**
 * struct chain_link - what a layer says of its parent
 * @format: enum dm_chain_format; NONE: no parent
 * @uuid: of a chain parent
 * @cid: content id; of a raw parent its fingerprint
 * @size: virtual size of the parent, bytes
 */
struct chain_link {
	u32 format;
	struct chain_id uuid;
	struct chain_id cid;
	u64 size;
};

/**
 * struct chain_record - a job that a layer's header tells of
 * @type: DM_CHAIN_RECORD_*
 * @flags: DM_CHAIN_RECORD_DONE
 * @base_format: enum dm_chain_format; NONE: a stream down to nothing
 * @base: UUID
 * @c0: commit: content id of the base before the job; raw: its fingerprint;
 *	mirror: of the source itself, while its changes are tracked
 * @c1: commit: what it has from the job's first write on
 * @base_size: commit: of the base before the job, bytes
 */
struct chain_record {
	u32 type;
	u32 flags;
	u32 base_format;
	struct chain_id base;
	struct chain_id c0;
	struct chain_id c1;
	u64 base_size;
};

/**
 * struct chain_header - a decoded header
 * @generation: of the slot that holds
 * @compat: feature words; unknown bits of this one don't matter
 * @compat_ro: unknown bits: to be read only
 * @incompat: unknown bits: refused
 * @uuid: of the layer
 * @cid: content id: changes before what is seen at the layer does
 * @size: virtual size, bytes
 * @max_size: what the maps have room for, bytes
 * @block_shift: of the block size
 * @marks: DM_CHAIN_MARK_*
 * @presence_offset: bytes from the start of the device
 * @map_offset: likewise
 * @data_offset: likewise
 * @map_seed: in each map sector
 * @limit: see-through limit, bytes
 * @parent: the layer below
 * @sealed_by: UUID of the child that sealed it
 * @use_host: in use: machine
 * @use_boot: in use: instance of the kernel module
 * @use_nonce: in use: this opening
 * @group: pending: set of disks
 * @coordinator: pending: UUID of the layer that decides
 * @decision: group decided by this layer
 * @job: whose record it is; spoiled or incomplete by this job
 * @record: of a job, with DM_CHAIN_MARK_JOB
 * @parent_path: hint
 * @child_path: hint, of @sealed_by; of itself while it is prepared as a top
 * @coordinator_path: hint, of @coordinator
 *
 * As struct dm_chain_disk_header has them. Geometry fields are validated by
 * chain_header_decode(): who has a decoded header may compute with them.
 */
struct chain_header {
	u64 generation;
	u64 compat;
	u64 compat_ro;
	u64 incompat;
	struct chain_id uuid;
	struct chain_id cid;
	u64 size;
	u64 max_size;
	u32 block_shift;
	u32 marks;
	u64 presence_offset;
	u64 map_offset;
	u64 data_offset;
	u64 map_seed;
	u64 limit;
	struct chain_link parent;
	struct chain_id sealed_by;
	struct chain_id use_host;
	struct chain_id use_boot;
	struct chain_id use_nonce;
	struct chain_id group;
	struct chain_id coordinator;
	struct chain_id decision;
	struct chain_id job;
	struct chain_record record;
	char parent_path[DM_CHAIN_PATH_BYTES];
	char child_path[DM_CHAIN_PATH_BYTES];
	char coordinator_path[DM_CHAIN_PATH_BYTES];
};

/* What chain_header_decode() and chain_header_pick() find. */
enum chain_header_status {
	CHAIN_HEADER_OK = 0,
	CHAIN_HEADER_NONE,	/* no magic: not a chain layer */
	CHAIN_HEADER_VERSION,	/* a version this code doesn't know */
	CHAIN_HEADER_CRC,	/* checksum */
	CHAIN_HEADER_INCOMPAT,	/* an unknown incompatible feature or mark */
	CHAIN_HEADER_GEOMETRY,	/* fields that contradict each other */
	CHAIN_HEADER_SPLIT,	/* two slots, one generation, two contents */
	CHAIN_HEADER_UNREAD,	/* none is valid, one or both can't be read */
};

/** chain_header_strerror() - a noun phrase for a status */
const char *chain_header_strerror(enum chain_header_status status);

/**
 * chain_header_decode() - check one slot and decode it
 * @buf: DM_CHAIN_HEADER_BYTES
 * @h: filled in when CHAIN_HEADER_OK
 */
enum chain_header_status chain_header_decode(const void *buf,
					     struct chain_header *h);

/**
 * chain_header_encode() - make the bytes of a slot
 * @h: must satisfy what decode checks
 * @buf: DM_CHAIN_HEADER_BYTES, overwritten
 */
void chain_header_encode(const struct chain_header *h, void *buf);

/**
 * chain_header_same() - do two headers say the same, but for where others lie
 * @a: header
 * @b: header
 * @buf: twice DM_CHAIN_HEADER_BYTES, overwritten
 */
bool chain_header_same(const struct chain_header *a, const struct chain_header *b,
		       void *buf);

/**
 * chain_header_pick() - which of the two slots holds
 * @slot0: bytes of slot 0, or NULL if it could not be read
 * @slot1: the same for slot 1
 * @h: filled in when CHAIN_HEADER_OK
 * @stale: set to a mask of the slots that must be written again (bit 0, 1)
 *
 * The highest valid generation holds. A slot of an unknown version or with
 * unknown incompatible features refuses the layer even if the other is valid
 * and older, since it may be the newer one.
 */
enum chain_header_status chain_header_pick(const void *slot0, const void *slot1,
					   struct chain_header *h,
					   unsigned int *stale);

/**
 * chain_header_init() - geometry of a new layer
 * @h: zeroed and filled in: size, max_size, block_shift, offsets, limit = 0
 * @size: virtual size, a multiple of 512, 1 sector to DM_CHAIN_MAX_SIZE
 * @max_size: room to reserve in the maps, @size to DM_CHAIN_MAX_SIZE
 * @block_shift: DM_CHAIN_MIN_BLOCK_SHIFT to DM_CHAIN_MAX_BLOCK_SHIFT
 *
 * Return: 0 or -EINVAL.
 */
int chain_header_init(struct chain_header *h, u64 size, u64 max_size,
		      u32 block_shift);

/** chain_default_max_size() - room to reserve for a disk of @size in a file */
u64 chain_default_max_size(u64 size);

/** chain_layer_bytes() - how large the layer's device must be */
u64 chain_layer_bytes(const struct chain_header *h);

/**
 * chain_max_size_for() - the largest max_size a device of @bytes can hold
 * @bytes: size of the device
 * @block_shift: of the layer
 *
 * Return: bytes, a multiple of the block size; 0 if the device is too small
 * for any layer.
 */
u64 chain_max_size_for(u64 bytes, u32 block_shift);

static inline u64 chain_trailer_offset(const struct chain_header *h)
{
	return chain_layer_bytes(h) - DM_CHAIN_HEADER_BYTES;
}

static inline u64 chain_blocks(const struct chain_header *h)
{
	return ((h->size - 1) >> h->block_shift) + 1;
}

static inline u64 chain_max_blocks(const struct chain_header *h)
{
	return ((h->max_size - 1) >> h->block_shift) + 1;
}

static inline u64 chain_blocks_to_groups(u64 blocks)
{
	return (blocks + DM_CHAIN_GROUP_BLOCKS - 1) / DM_CHAIN_GROUP_BLOCKS;
}

/** chain_max_groups() - map groups there is room for */
static inline u64 chain_max_groups(const struct chain_header *h)
{
	return chain_blocks_to_groups(chain_max_blocks(h));
}

/** chain_presence_sectors() - 512-byte sectors of the presence map */
static inline u64 chain_presence_sectors(const struct chain_header *h)
{
	return (chain_max_groups(h) + DM_CHAIN_PRESENCE_GROUPS - 1) /
		DM_CHAIN_PRESENCE_GROUPS;
}

/*
 * Map sectors. In memory, states and presence bits are u64 words of 2 and 1
 * bits an entry, entry 0 in the lowest bits; on disk the same words as __le64.
 */
#define CHAIN_SECTOR_WORDS	32
#define CHAIN_GROUP_WORDS	(CHAIN_SECTOR_WORDS * DM_CHAIN_GROUP_SECTORS)
#define CHAIN_STATES_PER_WORD	32

/* A word with all its 32 states DM_CHAIN_DAMAGED. */
#define CHAIN_WORD_DAMAGED	(~0ULL)

/**
 * chain_sector_encode() - make a sector of a map
 * @magic: DM_CHAIN_MAP_MAGIC or DM_CHAIN_PRESENCE_MAGIC
 * @seed: map_seed of the header
 * @index: of the sector in its map
 * @words: CHAIN_SECTOR_WORDS
 * @buf: 512 bytes, overwritten
 */
void chain_sector_encode(u32 magic, u64 seed, u64 index, const u64 *words,
			 void *buf);

/**
 * chain_sector_decode() - check a sector of a map and take it apart
 * @magic: DM_CHAIN_MAP_MAGIC or DM_CHAIN_PRESENCE_MAGIC
 * @seed: map_seed of the header
 * @index: of the sector in its map
 * @buf: 512 bytes
 * @words: CHAIN_SECTOR_WORDS, filled in if valid
 *
 * Return: true if it is valid: magic, checksum, seed and place.
 */
bool chain_sector_decode(u32 magic, u64 seed, u64 index, const void *buf,
			 u64 *words);

/**
 * chain_map_sector_encode() - make a sector of a state map
 * @seed: map_seed
 * @sector: index in the map
 * @words: CHAIN_SECTOR_WORDS, or NULL for an empty but valid one
 * @changed: it is flagged as changed
 * @buf: 512 bytes, overwritten
 */
void chain_map_sector_encode(u64 seed, u64 sector, const u64 *words, bool changed,
			     void *buf);

/**
 * chain_group_encode() - make the 8 sectors of a group
 * @seed: map_seed
 * @group: index
 * @words: CHAIN_GROUP_WORDS, or NULL for an empty but valid group
 * @changed: a bit each for the sectors that are flagged as changed
 * @buf: DM_CHAIN_GROUP_BYTES
 */
void chain_group_encode(u64 seed, u64 group, const u64 *words, u8 changed,
			void *buf);

/**
 * chain_group_decode() - check and take apart the 8 sectors of a present group
 * @seed: map_seed
 * @group: index
 * @buf: DM_CHAIN_GROUP_BYTES
 * @words: CHAIN_GROUP_WORDS; a damaged sector's states are DM_CHAIN_DAMAGED
 * @changed: a bit each for the sectors that are flagged as changed, or damaged
 *
 * Return: a mask of the sectors that were damaged.
 */
unsigned int chain_group_decode(u64 seed, u64 group, const void *buf,
				u64 *words, u8 *changed);

static inline unsigned int chain_state_get(const u64 *words, u64 i)
{
	return (words[i / CHAIN_STATES_PER_WORD] >>
		(2 * (i % CHAIN_STATES_PER_WORD))) & 3;
}

static inline void chain_state_put(u64 *words, u64 i, unsigned int state)
{
	unsigned int shift = 2 * (i % CHAIN_STATES_PER_WORD);
	u64 *w = &words[i / CHAIN_STATES_PER_WORD];

	*w = (*w & ~(3ULL << shift)) | ((u64)state << shift);
}

/* What chain_link_check() finds. */
enum chain_link_status {
	CHAIN_LINK_OK = 0,
	CHAIN_LINK_FORMAT,	/* the parent has another format */
	CHAIN_LINK_UUID,	/* another layer */
	CHAIN_LINK_CID,		/* the right layer, but modified since */
	CHAIN_LINK_SIZE,	/* raw: another size */
	CHAIN_LINK_SPOILED,	/* a commit changed it, and not one above the child */
	CHAIN_LINK_PENDING,	/* it fits, if its set of disks was switched */
};

/**
 * chain_pending_old() - is a pending layer the old top of its disk
 * @h: header with DM_CHAIN_MARK_PENDING
 *
 * If not, it is a new top on a raw layer, which has no marks. One that is retired to a
 * raw copy is sealed by nobody, for that has no id.
 */
static inline bool chain_pending_old(const struct chain_header *h)
{
	return h->marks & DM_CHAIN_MARK_RETIRED ||
	       !chain_id_is_null(&h->sealed_by);
}

/**
 * chain_pending_decided() - was the set of a pending layer switched
 * @h: header with DM_CHAIN_MARK_PENDING
 * @coordinator: header of the layer that it names
 *
 * To be asked of a header that is durable. If the answer is no, it never will
 * be another one.
 */
static inline bool chain_pending_decided(const struct chain_header *h,
					 const struct chain_header *coordinator)
{
	return !chain_id_is_null(&h->group) &&
	       chain_id_equal(&h->group, &coordinator->decision);
}

/**
 * chain_pending_set() - a layer waits for the decision of a set of disks
 * @h: header, with what it says if that is made
 * @group: id of the set
 * @coordinator: UUID of the layer that decides
 * @path: where that lies, DM_CHAIN_PATH_BYTES
 */
void chain_pending_set(struct chain_header *h, const struct chain_id *group,
		       const struct chain_id *coordinator, const char *path);
/** chain_pending_clear() - it does not, and is as if it never had */
void chain_pending_clear(struct chain_header *h);
/** chain_pending_commit() - it was switched: an old top is sealed, or retired */
void chain_pending_commit(struct chain_header *h);
/** chain_pending_abort() - it was not: an old top gets @cid, a fresh one */
void chain_pending_abort(struct chain_header *h, const struct chain_id *cid);

/**
 * chain_has_record() - has a layer the record of a commit
 * @h: header, or NULL: a raw layer
 */
static inline bool chain_has_record(const struct chain_header *h)
{
	return h && h->marks & DM_CHAIN_MARK_JOB &&
	       h->record.type == DM_CHAIN_RECORD_COMMIT;
}

/**
 * chain_is_tracked() - has a layer the record of a mirror that can go on
 * @h: header of a chain layer
 */
static inline bool chain_is_tracked(const struct chain_header *h)
{
	return h->marks & DM_CHAIN_MARK_JOB &&
	       h->record.type == DM_CHAIN_RECORD_MIRROR &&
	       chain_id_equal(&h->record.c0, &h->cid);
}

/**
 * chain_drop_mirror() - the record of a mirror goes, if there is one
 * @h: header of a chain layer
 *
 * One that was cut off can't go on from another top, or of another size.
 */
void chain_drop_mirror(struct chain_header *h);

/** chain_retired_final() - a retired source is that for good: its record goes */
void chain_retired_final(struct chain_header *h);

/**
 * chain_is_base() - is this where a commit's range ends
 * @through: header with the commit's record
 * @h: of the layer, or NULL: a raw one
 */
static inline bool chain_is_base(const struct chain_header *through,
				 const struct chain_header *h)
{
	if (!h)
		return through->record.base_format == DM_CHAIN_FORMAT_RAW;
	return through->record.base_format == DM_CHAIN_FORMAT_CHAIN &&
	       chain_id_equal(&through->record.base, &h->uuid);
}

/**
 * chain_through() - by way of which commit are the layers below one read
 * @through: by way of which it is itself; NULL: none
 * @h: its header, or NULL: a raw one
 *
 * For a walk from the top down. Return: header with the record, or NULL.
 */
static inline const struct chain_header *
chain_through(const struct chain_header *through, const struct chain_header *h)
{
	if (through && chain_is_base(through, h))
		through = NULL;
	return chain_has_record(h) ? h : through;
}

/**
 * chain_link_check() - is this the parent that the child was made on
 * @link: of the child
 * @through: chain_through() of the child, by way of which the parent is read
 * @parent: header of a chain parent, or NULL for a raw one
 * @raw_size: bytes of a raw parent
 * @raw_cid: fingerprint of a raw parent
 */
enum chain_link_status chain_link_check(const struct chain_link *link,
					const struct chain_header *through,
					const struct chain_header *parent,
					u64 raw_size,
					const struct chain_id *raw_cid);

/**
 * chain_link_raw_by_id() - does the fingerprint of a raw parent count
 * @through: as in chain_link_check()
 */
static inline bool chain_link_raw_by_id(const struct chain_header *through)
{
	return !through || !chain_is_base(through, NULL);
}

/*
 * Fingerprint of a raw layer: the size is compared by itself; these samples
 * catch any mount, partitioning or boot, not every change in the middle.
 */
#define CHAIN_RAW_EDGE_BYTES	65536
#define CHAIN_RAW_SAMPLE_BYTES	4096
#define CHAIN_RAW_SAMPLES	34

/**
 * chain_raw_sample() - where a sample lies
 * @size: of the raw layer, a multiple of 512
 * @i: 0 to CHAIN_RAW_SAMPLES - 1
 * @offset: bytes, a multiple of 512 (of 4096 if @size is one)
 * @length: bytes, at most CHAIN_RAW_EDGE_BYTES; 0: skip it
 */
void chain_raw_sample(u64 size, unsigned int i, u64 *offset, u32 *length);

/**
 * chain_raw_fingerprint_update() - add a piece of a sample
 * @fp: zeroed before the first sample
 * @i: number of the sample; they come in order
 * @buf: the next bytes of the sample
 * @length: of @buf
 */
void chain_raw_fingerprint_update(struct chain_id *fp, unsigned int i,
				  const void *buf, u32 length);

#endif
