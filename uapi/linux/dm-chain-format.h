/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * What a chain layer looks like on its device.
 *
 *	0		header, slot 0 (4 KiB)
 *	512 KiB		header, slot 1
 *	1 MiB		presence map: a bit for each map group, 512-byte sectors
 *	map_offset	state map: 2 bits a block, 512-byte sectors, 8 to a group
 *	data_offset	data of virtual offset 0, identity-mapped from here on
 *	... size rounded up to a block
 *	the rest	trailer, at least 1 MiB; a copy of the header in the last
 *			4 KiB of it, so that what a guest writes at the end of its
 *			disk is never at the end of the device
 *
 * All numbers are little-endian. Documentation/format.rst explains each field
 * and the order in which they may change.
 */
#ifndef _UAPI_LINUX_DM_CHAIN_FORMAT_H
#define _UAPI_LINUX_DM_CHAIN_FORMAT_H

#include <linux/types.h>

#define DM_CHAIN_MAGIC			"DMCHAIN\n"
#define DM_CHAIN_FORMAT_VERSION		1

#define DM_CHAIN_HEADER_BYTES		4096
#define DM_CHAIN_SLOT0_OFFSET		0
#define DM_CHAIN_SLOT1_OFFSET		(512 * 1024)
#define DM_CHAIN_PRESENCE_OFFSET	(1024 * 1024)
#define DM_CHAIN_ALIGN			(1024 * 1024)
#define DM_CHAIN_TRAILER_BYTES		(1024 * 1024)

#define DM_CHAIN_MIN_BLOCK_SHIFT	12
#define DM_CHAIN_MAX_BLOCK_SHIFT	20
#define DM_CHAIN_MAX_SIZE		(1ULL << 46)	/* 64 TiB */
#define DM_CHAIN_MAX_LAYERS		1024
#define DM_CHAIN_PATH_BYTES		1024

/* Map geometry: it does not depend on the block size. */
#define DM_CHAIN_SECTOR_BLOCKS		1024		/* blocks in a map sector */
#define DM_CHAIN_GROUP_SECTORS		8		/* map sectors in a group */
#define DM_CHAIN_GROUP_BLOCKS		8192
#define DM_CHAIN_GROUP_BYTES		4096
#define DM_CHAIN_PRESENCE_GROUPS	2048		/* groups in a presence sector */

/* State of a block: what a map holds for it, 2 bits. */
enum dm_chain_state {
	DM_CHAIN_ABSENT		= 0,	/* look below */
	DM_CHAIN_DATA		= 1,	/* here */
	DM_CHAIN_ZERO		= 2,	/* reads zeroes, hides what is below */
	DM_CHAIN_DAMAGED	= 3,	/* the sector that said it was lost: EIO */
};

/* Formats of a layer. Never guessed: named by the user or by the child. */
enum dm_chain_format {
	DM_CHAIN_FORMAT_NONE	= 0,
	DM_CHAIN_FORMAT_RAW	= 1,
	DM_CHAIN_FORMAT_CHAIN	= 2,
};

/* Marks: what has become of a layer. */
#define DM_CHAIN_MARK_SEALED		(1U << 0)	/* frozen: a child stands on it */
#define DM_CHAIN_MARK_MANY_CHILDREN	(1U << 1)	/* sticky: had more than one */
#define DM_CHAIN_MARK_IN_USE		(1U << 2)	/* opened read-write, not closed */
#define DM_CHAIN_MARK_INCOMPLETE	(1U << 3)	/* mirror target, copy not done */
#define DM_CHAIN_MARK_PREPARED		(1U << 4)	/* mirror target before the pivot */
#define DM_CHAIN_MARK_SPOILED		(1U << 5)	/* a commit changed what it shows */
#define DM_CHAIN_MARK_RETIRED		(1U << 6)	/* the disk went on elsewhere */
#define DM_CHAIN_MARK_PENDING		(1U << 7)	/* one of several disks, undecided */
#define DM_CHAIN_MARK_JOB		(1U << 8)	/* has the record of a job */
#define DM_CHAIN_MARKS_KNOWN		0x1ffU

/* Records of jobs: of which kind. */
#define DM_CHAIN_RECORD_STREAM		1U	/* into this layer, down to the base */
#define DM_CHAIN_RECORD_COMMIT		2U	/* of it and those below, into the base */
#define DM_CHAIN_RECORD_MIRROR		3U	/* of what it shows, to the base */

#define DM_CHAIN_RECORD_DONE		(1U << 0)	/* ended; the layer shows what it did */
#define DM_CHAIN_RECORD_FLAGS_KNOWN	1U

/* Feature words: none is defined yet; unknown ones are honoured by kind. */
#define DM_CHAIN_COMPAT_KNOWN		0ULL
#define DM_CHAIN_COMPAT_RO_KNOWN	0ULL
#define DM_CHAIN_INCOMPAT_KNOWN		0ULL

/* What a layer says of the one below it. */
struct dm_chain_disk_link {
	__le32	format;			/*   0: enum dm_chain_format */
	__le32	flags;			/*   4: zero */
	__u8	uuid[16];		/*   8: of the parent; raw: zero */
	__u8	cid[16];		/*  24: content id; raw: fingerprint */
	__le64	size;			/*  40: bytes */
};

/*
 * What a job that has not ended is about. A commit's stands in the top of its
 * range: as long as it is there, layers of the range are known by UUID and by
 * the job that spoiled them, the base by either of two content ids (raw: by
 * its size), and where layers of the range end means nothing. A mirror's stands
 * in the source, and says that changes are tracked: as long as c0 is the
 * source's content id. (Of a commit with a raw base it is the fingerprint.)
 */
struct dm_chain_disk_record {
	__le32	type;			/*   0: DM_CHAIN_RECORD_* */
	__le32	flags;			/*   4 */
	__le32	base_format;		/*   8: enum dm_chain_format; mirror: of the target */
	__le32	reserved;		/*  12: zero */
	__u8	base[16];		/*  16: UUID; raw, none: zero */
	__u8	c0[16];			/*  32: commit: id of the base before; mirror: own */
	__u8	c1[16];			/*  48: commit: id of the base while and after */
	__le64	base_size;		/*  64: commit: of the base before, bytes */
	__le64	pad;			/*  72: zero */
};

/*
 * group, coordinator, coordinator_path: of a layer that is PENDING; without the
 * mark they count only for a prepared top, and say of which set it is to be.
 */
struct dm_chain_disk_header {
	__u8	magic[8];		/*    0 */
	__le32	version;		/*    8 */
	__le32	crc;			/*   12: crc32c of all 4096 bytes, this as 0 */
	__le64	generation;		/*   16: the higher valid slot holds */
	__le64	compat;			/*   24: unknown bits: no matter */
	__le64	compat_ro;		/*   32: unknown bits: open read-only */
	__le64	incompat;		/*   40: unknown bits: refuse */
	__u8	uuid[16];		/*   48 */
	__u8	cid[16];		/*   64: content id */
	__le64	size;			/*   80: virtual size in bytes */
	__le64	max_size;		/*   88: what the maps have room for */
	__le32	block_shift;		/*   96 */
	__le32	marks;			/*  100: DM_CHAIN_MARK_* */
	__le64	presence_offset;	/*  104: bytes from the start of the layer */
	__le64	map_offset;		/*  112 */
	__le64	data_offset;		/*  120 */
	__le64	map_seed;		/*  128: in each map sector; set at create */
	__le64	limit;			/*  136: see-through limit, bytes */
	struct dm_chain_disk_link parent; /* 144 */
	__u8	sealed_by[16];		/*  192: UUID of the child */
	__u8	use_host[16];		/*  208: in use: machine, */
	__u8	use_boot[16];		/*  224: kernel instance, */
	__u8	use_nonce[16];		/*  240: opening */
	__u8	group[16];		/*  256: pending: set of disks; see below */
	__u8	coordinator[16];	/*  272: pending: layer that decides */
	__u8	decision[16];		/*  288: group decided by this layer */
	__u8	job[16];		/*  304: of the record; spoiled, incomplete: by which */
	struct dm_chain_disk_record record; /* 320 */
	__u8	reserved0[112];		/*  400: zero */
	__u8	parent_path[DM_CHAIN_PATH_BYTES]; /* 512: hint, NUL-terminated */
	__u8	child_path[DM_CHAIN_PATH_BYTES]; /* 1536: hint, of sealed_by */
	__u8	coordinator_path[DM_CHAIN_PATH_BYTES]; /* 2560: hint */
	__u8	reserved1[512];		/* 3584: zero */
};

#define DM_CHAIN_MAP_MAGIC		0x50414d43U	/* "CMAP" */
#define DM_CHAIN_PRESENCE_MAGIC		0x45525043U	/* "CPRE" */

/*
 * With the record of a mirror: blocks of this sector may have been written since
 * the target got them. Durable before such a write is submitted.
 */
#define DM_CHAIN_SECTOR_CHANGED		1ULL

/*
 * A sector of the state map or of the presence map. Its own checksum, place
 * and seed tell a damaged, misplaced or former one from a valid one.
 */
struct dm_chain_disk_sector {
	__le32	magic;			/*   0 */
	__le32	crc;			/*   4: crc32c of all 512 bytes, this as 0 */
	__le64	index;			/*   8: counted from the start of its map */
	__le64	seed;			/*  16: map_seed of the header */
	__le64	flags;			/*  24: DM_CHAIN_SECTOR_* */
	__le64	bits[32];		/*  32: 1024 states, or 2048 presence bits */
	__u8	reserved[224];		/* 288: zero */
};

#endif
