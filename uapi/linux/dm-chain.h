/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * Interface of /dev/dm-chain, the control device of the device-mapper target
 * "chain". All calls need CAP_SYS_ADMIN.
 *
 * Each struct may grow at its end. The caller's size is part of the ioctl
 * number; the kernel takes a shorter struct as if it were filled up with
 * zeroes, and refuses a longer one with E2BIG if what it doesn't know is not
 * zero. Flags, padding and reserved fields that are not zero: EINVAL.
 */
#ifndef _UAPI_LINUX_DM_CHAIN_H
#define _UAPI_LINUX_DM_CHAIN_H

#include <linux/ioctl.h>
#include <linux/types.h>
#include <linux/dm-chain-perm.h>

#define DM_CHAIN_TARGET		"chain"
#define DM_CHAIN_CONTROL	"dm-chain"	/* misc device */
#define DM_CHAIN_ABI		1

/**
 * struct dm_chain_version - what the module is
 * @abi: out: DM_CHAIN_ABI of the module
 * @flags: zero
 * @instance: out: random id of this load of the module, the "boot" of the
 *	in-use mark
 * @host: in and out: id of this machine for in-use marks. All zero: leave it
 *	as it is. Setting it while it differs from what is set and chains are
 *	open: EBUSY.
 * @gone: out: how often, since the module was loaded, a device has ceased to be a
 *	layer's; begins with 1. While it stays, every device that was one is one.
 */
struct dm_chain_version {
	__u32	abi;
	__u32	flags;
	__u8	instance[16];
	__u8	host[16];
	__u64	gone;
};

/* Operations of DM_CHAIN_IOC_SWITCH. */
#define DM_CHAIN_SWITCH_SNAPSHOT	1	/* the layer in role "next" becomes the top */
#define DM_CHAIN_SWITCH_PIVOT		2	/* to an active commit's base, a mirror's target */

#define DM_CHAIN_SWITCH_MAX		256	/* disks of one switch */

/**
 * struct dm_chain_switch_disk - one disk of a switch
 * @major: in: of the dm device
 * @minor: in
 * @error: out: 0, or what was wrong with this disk, as a negative errno; of
 *	several, 0 also means that another one was in the way
 * @pad: zero
 * @pause_ns: out: how long the disk's I/O was held back
 */
struct dm_chain_switch_disk {
	__u32	major;
	__u32	minor;
	__s32	error;
	__u32	pad;
	__u64	pause_ns;
};

/**
 * struct dm_chain_switch - change what disks are made of, at one instant
 * @op: DM_CHAIN_SWITCH_*
 * @nr_disks: 1 to DM_CHAIN_SWITCH_MAX, each once, in any order
 * @disks: user address of an array of struct dm_chain_switch_disk
 * @flags: zero
 * @decider: pivot of several: index in @disks of the one whose source (if that is
 *	raw: whose target) decides; else zero
 * @hints: pivot of several: user address of DM_CHAIN_PATH_BYTES for each of @disks:
 *	where the layer lies that decides, as seen from its source (raw: target), or
 *	an empty string; else zero
 *
 * Snapshot: each disk has one attached layer in role "next". It returns when
 * the frozen layer, its seal and all that was acknowledged before are durable.
 * Several: the headers of these layers name one group and one coordinator, the
 * old top of one of the disks, or else a new one. All are suspended together,
 * and that layer's header decides for all.
 * Pivot: each disk has an active commit, or a mirror, that is ready (else EAGAIN;
 * ENOENT: it has none). It returns when the base, or the target, is durably the
 * disk. The layers that are not part of it any more stay attached, in role
 * "dropped", until a reload. Several: all have a mirror (else EINVAL), all are
 * suspended together, and one header decides for all.
 *
 * Errors: EINVAL a disk stands twice; ELOOP a layer of one of the disks is on
 * another one; ENODEV no such chain disk; EBUSY suspended, being switched or another
 * table is loaded; ENXIO nothing is attached in the role; ESTALE the attached
 * layer does not fit the top, or the others of the set, or the layer that was to
 * decide can't; EROFS the disk is
 * read-only; EIO the old top could not be made durable. If that was before the
 * switch (@pause_ns is 0) the disks run on with their old tops; else all of them
 * refuse writes until re-opened, and open at their old tops with all that a flush
 * covered.
 */
struct dm_chain_switch {
	__u32	op;
	__u32	nr_disks;
	__u64	disks;
	__u32	flags;
	__u32	decider;
	__u64	hints;
};

/**
 * struct dm_chain_resize - give the top layer of an open disk another size
 * @major: of the dm device
 * @minor:
 * @size: new virtual size in bytes, a multiple of 512, not smaller
 * @flags: zero
 * @pad: zero
 *
 * The layer's device must have grown before; a table reload with the new
 * length follows. Errors: ENODEV; EROFS; EBUSY; EFBIG more than the maps have
 * room for; ENOSPC the layer's device is too small; EINVAL smaller, or no
 * multiple of 512, or the top is raw.
 */
struct dm_chain_resize {
	__u32	major;
	__u32	minor;
	__u64	size;
	__u32	flags;
	__u32	pad;
};

/**
 * struct dm_chain_relink - the copy of a layer has taken its place: write down where
 * @token: of a copy-layer, for a layer that is not the top
 * @flags: zero
 * @parent_path: hint of where that layer lies now, seen from the layer above it;
 *	ends with a zero byte
 *
 * The layer above is attached rw before. Nothing but the hint in its header
 * changes; it is durable when the call returns. Errors: EBADF no token; EINVAL
 * one of another operation, or of the top; ENAMETOOLONG no end; ENODEV the disk
 * was closed; EBUSY suspended, being switched or another table is loaded; EROFS
 * the layer above is not attached rw; EIO it has failed.
 */
struct dm_chain_relink {
	__s32	token;
	__u32	flags;
	char	parent_path[1024];
};

#define DM_CHAIN_ACCESS_NONE	0
#define DM_CHAIN_ACCESS_RO	1
#define DM_CHAIN_ACCESS_RW	2

#define DM_CHAIN_ROLE_LAYER	0	/* part of what is seen */
#define DM_CHAIN_ROLE_NEXT	1	/* prepared top, not yet seen */
#define DM_CHAIN_ROLE_DROPPED	2	/* a job needs it no more: goes with a reload */
#define DM_CHAIN_ROLE_TARGET	3	/* of a mirror */

#define DM_CHAIN_LAYER_FAILED	(1U << 0)	/* read-only until re-opened */
#define DM_CHAIN_LAYER_DEV_RW	(1U << 1)	/* ro, its device rw until a reload */
#define DM_CHAIN_LAYER_BACK	(1U << 2)	/* its job has gone: ro in a moment */
#define DM_CHAIN_LAYER_RECORD	(1U << 3)	/* has the record of a job that hasn't ended */
#define DM_CHAIN_LAYER_TRACKED	(1U << 4)	/* that is a mirror, which can go on where it was */

/**
 * struct dm_chain_layer - a layer of an open disk
 * @uuid: zero for a raw layer
 * @cid: content id as it is now
 * @parent_uuid: from the header
 * @major: of the layer's device
 * @minor:
 * @format: enum dm_chain_format
 * @role: DM_CHAIN_ROLE_*
 * @access: DM_CHAIN_ACCESS_*
 * @flags: DM_CHAIN_LAYER_*
 * @marks: DM_CHAIN_MARK_*
 * @block_size: bytes; 0 for a raw layer
 * @size: virtual size in bytes
 * @data_bytes: in blocks held as data; raw: @size
 * @zero_bytes: in blocks held as zero
 * @damaged_bytes: in blocks whose map sector is damaged
 * @map_bytes: memory that the layer's map takes, once for all its users
 * @users: open disks that have the layer
 * @record_type: with DM_CHAIN_LAYER_RECORD: DM_CHAIN_RECORD_*
 * @job: of the record, or that spoiled the layer; else zero
 * @record_base: UUID of the record's base; zero: raw, or none
 * @limit: bytes; above it nothing below shows
 * @max_size: bytes that its maps have room for
 * @decision: set of disks that the layer has decided, and has to tell of
 */
struct dm_chain_layer {
	__u8	uuid[16];
	__u8	cid[16];
	__u8	parent_uuid[16];
	__u32	major;
	__u32	minor;
	__u32	format;
	__u32	role;
	__u32	access;
	__u32	flags;
	__u32	marks;
	__u32	block_size;
	__u64	size;
	__u64	data_bytes;
	__u64	zero_bytes;
	__u64	damaged_bytes;
	__u64	map_bytes;
	__u32	users;
	__u32	record_type;
	__u8	job[16];
	__u8	record_base[16];
	__u64	limit;
	__u64	max_size;
	__u8	decision[16];
};

/* Don't wait: data_bytes, zero_bytes, damaged_bytes count what has been read. */
#define DM_CHAIN_LAYERS_QUICK	0x1

/**
 * struct dm_chain_layers - the layers of an open disk, top first
 * @major: in: of the dm device
 * @minor: in
 * @nr: in: room in the array; out: layers there are (may be more)
 * @layer_size: in: sizeof(struct dm_chain_layer) of the caller
 * @layers: in: user address of the array
 * @flags: in: DM_CHAIN_LAYERS_*
 * @pad: zero
 *
 * Attached devices in other roles come after the layers. Maps are read in the
 * background; without DM_CHAIN_LAYERS_QUICK what is left of them is read before they
 * are counted. Errors: ENODEV, EINTR (killed), ENOMEM.
 */
struct dm_chain_layers {
	__u32	major;
	__u32	minor;
	__u32	nr;
	__u32	layer_size;
	__u64	layers;
	__u32	flags;
	__u32	pad;
};

/**
 * struct dm_chain_extent - a run of the disk with one owner and state
 * @start: bytes
 * @length: bytes
 * @depth: index of the layer that decides, 0 = top; no layer does: the number
 *	of layers
 * @state: enum dm_chain_state; ABSENT: no layer holds it, it reads zeroes
 */
struct dm_chain_extent {
	__u64	start;
	__u64	length;
	__u32	depth;
	__u32	state;
};

/**
 * struct dm_chain_map - which layer holds what of an open disk
 * @major: in: of the dm device
 * @minor: in
 * @start: in: byte to begin at (a multiple of the block size of the top, or
 *	an end that an earlier call gave); out: where the next call goes on, or
 *	the disk's size
 * @extents: in: user address of an array of struct dm_chain_extent
 * @nr: in: room in the array; out: extents filled in
 * @flags: zero
 *
 * Neighbouring extents of one owner and state may come unmerged at the border
 * of two calls. Errors: ENODEV.
 */
struct dm_chain_map {
	__u32	major;
	__u32	minor;
	__u64	start;
	__u64	extents;
	__u32	nr;
	__u32	flags;
};

/**
 * struct dm_chain_expedite - make RCU grace periods short for this descriptor
 * @on: 1 or 0; the last close of the descriptor is a 0, too
 * @flags: zero
 *
 * For the table reloads of one operation: without it each holds the disk's
 * I/O back for a grace period. Don't keep it on for longer than that takes.
 */
struct dm_chain_expedite {
	__u32	on;
	__u32	flags;
};

/**
 * struct dm_chain_holder - who holds a layer, and how
 * @uuid: of the layer; zero: raw
 * @major: of the layer's device
 * @minor:
 * @row: enum dm_chain_oprole
 * @op: enum dm_chain_op, that of @row
 * @require: enum dm_chain_perm, what it needs
 * @allow: what it leaves to others
 * @id: of the token that holds it; 0: the table of a disk does
 * @disk_major: of the disk whose table or job it is
 * @disk_minor:
 * @disk: name of that disk, ends with a zero byte
 */
struct dm_chain_holder {
	__u8	uuid[16];
	__u32	major;
	__u32	minor;
	__u32	row;
	__u32	op;
	__u32	require;
	__u32	allow;
	__u64	id;
	__u32	disk_major;
	__u32	disk_minor;
	char	disk[128];
};

#define DM_CHAIN_HOLDERS_LAYER	(1U << 0)	/* of one layer */

/**
 * struct dm_chain_holders - who holds the layers of a disk, one layer, or all layers
 * @major: in: of the dm device: holders of all of its layers, other disks' too;
 *	0:0: all that there are. With DM_CHAIN_HOLDERS_LAYER: of the layer's device;
 *	0:0: whatever it is.
 * @minor: in
 * @nr: in: room in the array; out: holders there are (may be more)
 * @holder_size: in: sizeof(struct dm_chain_holder) of the caller
 * @holders: in: user address of the array
 * @flags: DM_CHAIN_HOLDERS_*
 * @pad: zero
 * @uuid: in, with DM_CHAIN_HOLDERS_LAYER: layers with this UUID, too; zero: none
 * @require: in: enum dm_chain_perm: only those who need one of these
 * @allow: in: enum dm_chain_perm: and those who don't leave one of these to others;
 *	both zero: all
 *
 * The holders of one layer are neighbours; layers of a disk come top first. That
 * there is no such layer is no error: nobody holds it. Errors: ENODEV no such disk.
 */
struct dm_chain_holders {
	__u32	major;
	__u32	minor;
	__u32	nr;
	__u32	holder_size;
	__u64	holders;
	__u32	flags;
	__u32	pad;
	__u8	uuid[16];
	__u32	require;
	__u32	allow;
};

/* Who of two requires what the other doesn't allow. */
#define DM_CHAIN_CONFLICT_WANTED	1	/* what is wanted; the holder doesn't allow it */
#define DM_CHAIN_CONFLICT_HELD		2	/* the holder; what is wanted doesn't allow it */

/**
 * struct dm_chain_conflict - why something was refused
 * @holder: who is in the way, on which layer
 * @row: enum dm_chain_oprole that was wanted on that layer
 * @perm: enum dm_chain_perm, one bit; 0: it was refused for another reason, and
 *	there is nothing in the other fields
 * @direction: DM_CHAIN_CONFLICT_*
 * @depth: index of the layer in the disk that it was wanted for, 0 = top
 */
struct dm_chain_conflict {
	struct dm_chain_holder holder;
	__u32	row;
	__u32	perm;
	__u32	direction;
	__u32	depth;
};

#define DM_CHAIN_ACQUIRE_TEST	(1U << 0)	/* only ask: nothing is held after it */

/**
 * struct dm_chain_acquire - take what an operation needs on a disk's layers
 * @major: in: of the dm device
 * @minor: in
 * @op: in: enum dm_chain_op; a commit of the active layer can be asked for as
 *	DM_CHAIN_OP_COMMIT
 * @flags: in: DM_CHAIN_ACQUIRE_*
 * @top: in: index of the layer that it is about, 0 = top of the disk; commit:
 *	top of the range; stream: the layer that takes the data in
 * @base: in: commit: the layer that takes the data in; stream: first layer that
 *	is not pulled in, the number of layers: none; else 0
 * @fd: out: the token, close-on-exec; -1 with DM_CHAIN_ACQUIRE_TEST
 * @pad: zero
 * @id: out: of the token; 0 with DM_CHAIN_ACQUIRE_TEST
 * @conflict: out, with EBUSY: the first conflict, from the top layer down
 *
 * All layers are granted, or none. Closing the last reference of the token
 * gives them back. Its poll() and read() deliver struct dm_chain_event.
 * A job that ends drops layers, so indices may mean others than when they were
 * looked up. What is held stays: DM_CHAIN_IOC_LAYERS afterwards shows what it is.
 *
 * Errors: ENODEV no such chain disk; EINVAL no such operation or layers;
 * EBUSY refused: @conflict says by whom, or, with nothing in it, another table
 * is loaded beside the running one.
 */
struct dm_chain_acquire {
	__u32	major;
	__u32	minor;
	__u32	op;
	__u32	flags;
	__u32	top;
	__u32	base;
	__s32	fd;
	__u32	pad;
	__u64	id;
	struct dm_chain_conflict conflict;
};

#define DM_CHAIN_EVENT_ACQUIRED		1	/* the token has its grants */
#define DM_CHAIN_EVENT_UPGRADED		2	/* a layer became rw for it */
#define DM_CHAIN_EVENT_DOWNGRADED	3	/* a layer is no longer rw for it */
#define DM_CHAIN_EVENT_DISK_GONE	4	/* the disk was closed */
#define DM_CHAIN_EVENT_LOST		5	/* events before this one were dropped */

/**
 * struct dm_chain_event - something that happened to a token
 * @type: DM_CHAIN_EVENT_*
 * @flags: zero
 * @id: of the token
 * @seq: one more than that of the token's event before, dropped ones count
 * @time_ns: CLOCK_REALTIME
 * @depth: index of the layer, if one is meant
 * @pad: zero
 * @uuid: of that layer; zero: raw, or none is meant
 *
 * A read() returns whole events, as many as there are and fit; with O_NONBLOCK
 * EAGAIN if there are none. A buffer that has no room for one: EINVAL.
 */
struct dm_chain_event {
	__u32	type;
	__u32	flags;
	__u64	id;
	__u64	seq;
	__u64	time_ns;
	__u32	depth;
	__u32	pad;
	__u8	uuid[16];
};

/* Kinds of jobs. */
#define DM_CHAIN_JOB_STREAM		1
#define DM_CHAIN_JOB_COMMIT		2	/* of layers below the top */
#define DM_CHAIN_JOB_ACTIVE_COMMIT	3	/* of the top: ends by a pivot */
#define DM_CHAIN_JOB_MIRROR		4	/* of the disk: ends by a pivot, or cancelled */

/* States of a job. */
#define DM_CHAIN_JOB_CREATED	1
#define DM_CHAIN_JOB_RUNNING	2
#define DM_CHAIN_JOB_PAUSED	3	/* by the user, or for an error */
#define DM_CHAIN_JOB_READY	4	/* waits for the pivot; follows the guest */
#define DM_CHAIN_JOB_PENDING	5	/* all is moved; the disk is about to change */
#define DM_CHAIN_JOB_CONCLUDED	6	/* dm_chain_job.error says how */

/* What to do at an error of a layer, after it was tried again in vain. */
#define DM_CHAIN_ON_ERROR_REPORT	0	/* the job ends */
#define DM_CHAIN_ON_ERROR_IGNORE	1	/* go on; it ends with the first error */
#define DM_CHAIN_ON_ERROR_STOP		2	/* pause; resuming tries again */
#define DM_CHAIN_ON_ERROR_ENOSPC	3	/* pause at ENOSPC; else the job ends */

#define DM_CHAIN_JOB_ESTIMATE	(1U << 0)	/* only count: nothing starts */
#define DM_CHAIN_JOB_FORCE	(1U << 1)	/* other children may be lost */
#define DM_CHAIN_JOB_PREPARE	(1U << 2)	/* only write the record; start it later */
#define DM_CHAIN_JOB_ZEROED	(1U << 3)	/* mirror: a raw target reads zeroes */
#define DM_CHAIN_JOB_FORGET	(1U << 4)	/* mirror: only drop what one has left */
#define DM_CHAIN_JOB_VERIFY	(1U << 5)	/* mirror: compare before it is ready */

/**
 * struct dm_chain_job_start - let a token's operation begin
 * @token: in: its descriptor, from DM_CHAIN_IOC_ACQUIRE of a stream, commit or
 *	mirror
 * @flags: in: DM_CHAIN_JOB_*
 * @speed: in: bytes a second; 0: no limit
 * @on_error: in: DM_CHAIN_ON_ERROR_*
 * @pad: zero
 * @id: out: of the job, that of the token
 * @uuid: out: that its record has; a commit that was cut off keeps its own
 * @move_bytes: out, ESTIMATE: bytes of data to be copied
 * @zero_bytes: out, ESTIMATE: bytes that become zeroes
 * @new_bytes: out, ESTIMATE: bytes for which the layer that takes the data in
 *	holds no data yet (raw: 0)
 * @need_bytes: out, ESTIMATE: how large the device of that layer must be
 * @parent_path: in: hint of where the new parent lies: of the base, seen from
 *	the layer that will stand on it; mirror: of the target, seen from the
 *	source; ends with a zero byte
 *
 * The layers that are written are attached rw before. The job goes on when the
 * descriptor is closed; what it holds is given back when it ends.
 *
 * Mirror: the target is attached in role "target". Its header says what it is to
 * hold: without a parent all that the disk shows, with that of the top only what
 * the top holds. From a chain to a chain it goes on where it was cut off, if
 * the source has its record and has been tracked since.
 *
 * Prepare, for a raw base that has to grow: the record makes the chain open
 * with a base of either size. The caller lets it grow, and starts the job.
 *
 * Errors: EBADF no token; EBUSY it is started already, another unfinished job
 * has one of the layers, or another table is loaded; EINVAL the operation is none
 * that runs as a job; ENOSPC the base's device is too small; EFBIG more than its
 * maps have room for; ERANGE a raw base is larger than the top of the range; EMLINK
 * the base or a layer of the range has other children (DM_CHAIN_JOB_FORCE takes
 * it); EROFS a layer is not attached rw; EIO a layer has failed, or its map is
 * damaged; ESTALE the record that there is names another base, or the
 * target does not fit the top any more; ENXIO nothing is attached in role "target";
 * ENOTEMPTY the target holds something.
 */
struct dm_chain_job_start {
	__s32	token;
	__u32	flags;
	__u64	speed;
	__u32	on_error;
	__u32	pad;
	__u64	id;
	__u8	uuid[16];
	__u64	move_bytes;
	__u64	zero_bytes;
	__u64	new_bytes;
	__u64	need_bytes;
	char	parent_path[1024];
};

#define DM_CHAIN_JOB_F_ERROR	(1U << 0)	/* paused for @error */
#define DM_CHAIN_JOB_F_USER	(1U << 1)	/* paused by the user */
#define DM_CHAIN_JOB_F_CANCEL	(1U << 2)	/* was cancelled */

/**
 * struct dm_chain_job - a job as it is
 * @id: number
 * @uuid: that its record has
 * @major: of the disk; 0:0 if that was closed
 * @minor:
 * @type: DM_CHAIN_JOB_STREAM ...
 * @status: DM_CHAIN_JOB_CREATED ...
 * @flags: DM_CHAIN_JOB_F_*
 * @on_error: DM_CHAIN_ON_ERROR_*
 * @error: 0 or a negative errno: why it paused, or how it ended (ECANCELED:
 *	cancelled, ENODEV: the disk was closed, EILSEQ: the copy differs)
 * @pad: zero
 * @speed: bytes a second, 0: no limit
 * @current_bytes: done
 * @total_bytes: that there are to do
 * @errors: I/O errors met, retries not counted
 * @into: UUID of the layer that takes the data in; raw: zero
 * @top: UUID of the top of the range; stream: as @into; mirror: of the source
 * @disk: name of the disk when it started
 * @bad_start: bytes: with EILSEQ: where the copy differs first
 * @bad_bytes: for how long
 */
struct dm_chain_job {
	__u64	id;
	__u8	uuid[16];
	__u32	major;
	__u32	minor;
	__u32	type;
	__u32	status;
	__u32	flags;
	__u32	on_error;
	__s32	error;
	__u32	pad;
	__u64	speed;
	__u64	current_bytes;
	__u64	total_bytes;
	__u64	errors;
	__u8	into[16];
	__u8	top[16];
	char	disk[128];
	__u64	bad_start;
	__u64	bad_bytes;
};

/**
 * struct dm_chain_jobs - jobs there are, and the last ones that have ended
 * @id: in: only this one; 0: all
 * @nr: in: room in the array; out: jobs there are (may be more)
 * @job_size: in: sizeof(struct dm_chain_job) of the caller
 * @jobs: in: user address of the array
 * @flags: zero
 * @pad: zero
 *
 * In the order in which they began. Errors: ENOENT no job has the id.
 */
struct dm_chain_jobs {
	__u64	id;
	__u32	nr;
	__u32	job_size;
	__u64	jobs;
	__u32	flags;
	__u32	pad;
};

#define DM_CHAIN_VERB_PAUSE	1
#define DM_CHAIN_VERB_RESUME	2	/* also after an error: tries again */
#define DM_CHAIN_VERB_SPEED	3	/* @arg: bytes a second, 0: no limit */
#define DM_CHAIN_VERB_CANCEL	4

/**
 * struct dm_chain_job_verb - what a job is to do
 * @id: of the job
 * @verb: DM_CHAIN_VERB_*
 * @flags: zero
 * @arg: of the verb, else zero
 *
 * It returns at once; the events tell of the effect. Errors: ENOENT no job has
 * the id; ESRCH it has concluded; EBUSY it is about to conclude; EINVAL.
 */
struct dm_chain_job_verb {
	__u64	id;
	__u32	verb;
	__u32	flags;
	__u64	arg;
};

#define DM_CHAIN_JOB_EVENT_STATUS	1	/* a job's status has changed */
#define DM_CHAIN_JOB_EVENT_ERROR	2	/* a job met an error */
#define DM_CHAIN_JOB_EVENT_LOST		3	/* events before this one were dropped */

/**
 * struct dm_chain_job_event - what read() of a monitor delivers
 * @type: DM_CHAIN_JOB_EVENT_*
 * @pad: zero
 * @seq: one more than that of the event before, dropped ones count
 * @time_ns: CLOCK_REALTIME
 * @job: the job as it was then
 */
struct dm_chain_job_event {
	__u32	type;
	__u32	pad;
	__u64	seq;
	__u64	time_ns;
	struct dm_chain_job job;
};

/**
 * struct dm_chain_monitor - from now on this descriptor tells of jobs
 * @flags: zero
 * @event_size: in: sizeof(struct dm_chain_job_event) of the caller; out: what
 *	each read() delivers, for one event
 *
 * poll() and read() of the descriptor of /dev/dm-chain then deliver events of
 * all jobs; with O_NONBLOCK EAGAIN if there are none. A buffer that has no room
 * for one: EINVAL. Errors: EBUSY it does already.
 */
struct dm_chain_monitor {
	__u32	flags;
	__u32	event_size;
};

/**
 * struct dm_chain_openers - how often a file is open
 * @fd: in: descriptor of a regular file, may be one with O_PATH
 * @flags: zero
 * @readers: out: those who can only read; descriptors with O_PATH don't count
 * @writers: out: those who can write
 *
 * Loop devices count, which no other call finds by their file: one that nobody has
 * open but the caller has none. Descriptors that share a description (dup, fork)
 * are one. Errors: EBADF; EINVAL no regular file.
 */
struct dm_chain_openers {
	__s32	fd;
	__u32	flags;
	__u32	readers;
	__u32	writers;
};

#define DM_CHAIN_IOC_TYPE	0xdc
#define DM_CHAIN_IOC_VERSION	_IOWR(DM_CHAIN_IOC_TYPE, 0, struct dm_chain_version)
#define DM_CHAIN_IOC_SWITCH	_IOWR(DM_CHAIN_IOC_TYPE, 1, struct dm_chain_switch)
#define DM_CHAIN_IOC_RESIZE	_IOWR(DM_CHAIN_IOC_TYPE, 2, struct dm_chain_resize)
#define DM_CHAIN_IOC_LAYERS	_IOWR(DM_CHAIN_IOC_TYPE, 3, struct dm_chain_layers)
#define DM_CHAIN_IOC_MAP	_IOWR(DM_CHAIN_IOC_TYPE, 4, struct dm_chain_map)
#define DM_CHAIN_IOC_EXPEDITE	_IOWR(DM_CHAIN_IOC_TYPE, 5, struct dm_chain_expedite)
#define DM_CHAIN_IOC_HOLDERS	_IOWR(DM_CHAIN_IOC_TYPE, 6, struct dm_chain_holders)
#define DM_CHAIN_IOC_ACQUIRE	_IOWR(DM_CHAIN_IOC_TYPE, 7, struct dm_chain_acquire)
#define DM_CHAIN_IOC_JOB_START	_IOWR(DM_CHAIN_IOC_TYPE, 8, struct dm_chain_job_start)
#define DM_CHAIN_IOC_JOBS	_IOWR(DM_CHAIN_IOC_TYPE, 9, struct dm_chain_jobs)
#define DM_CHAIN_IOC_JOB_VERB	_IOWR(DM_CHAIN_IOC_TYPE, 10, struct dm_chain_job_verb)
#define DM_CHAIN_IOC_MONITOR	_IOWR(DM_CHAIN_IOC_TYPE, 11, struct dm_chain_monitor)
#define DM_CHAIN_IOC_RELINK	_IOWR(DM_CHAIN_IOC_TYPE, 12, struct dm_chain_relink)
#define DM_CHAIN_IOC_OPENERS	_IOWR(DM_CHAIN_IOC_TYPE, 13, struct dm_chain_openers)

#endif
