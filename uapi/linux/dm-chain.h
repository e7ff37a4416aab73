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
 */
struct dm_chain_version {
	__u32	abi;
	__u32	flags;
	__u8	instance[16];
	__u8	host[16];
};

/* Operations of DM_CHAIN_IOC_SWITCH. */
#define DM_CHAIN_SWITCH_SNAPSHOT	1	/* the layer in role "next" becomes the top */

/**
 * struct dm_chain_switch_disk - one disk of a switch
 * @major: in: of the dm device
 * @minor: in
 * @error: out: 0, or what was wrong with this disk, as a negative errno
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
 * @nr_disks: 1 (more: EINVAL until several disks are supported)
 * @disks: user address of an array of struct dm_chain_switch_disk
 * @flags: zero
 * @pad: zero
 *
 * Snapshot: each disk has one attached layer in role "next". It returns when
 * the frozen layer, its seal and all that was acknowledged before are durable.
 *
 * Errors: ENODEV no such chain disk; EBUSY suspended, being switched or another
 * table is loaded; ENXIO nothing is attached in the role; ESTALE the attached
 * layer does not fit the top; EROFS the disk is read-only; EIO the old top
 * could not be made durable (the disk then refuses writes until re-opened,
 * and opens at its old top with all that a flush covered).
 */
struct dm_chain_switch {
	__u32	op;
	__u32	nr_disks;
	__u64	disks;
	__u32	flags;
	__u32	pad;
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

#define DM_CHAIN_ACCESS_NONE	0
#define DM_CHAIN_ACCESS_RO	1
#define DM_CHAIN_ACCESS_RW	2

#define DM_CHAIN_ROLE_LAYER	0	/* part of what is seen */
#define DM_CHAIN_ROLE_NEXT	1	/* prepared top, not yet seen */

#define DM_CHAIN_LAYER_FAILED	(1U << 0)	/* read-only until re-opened */

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
 * @pad: zero
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
	__u32	pad;
};

/**
 * struct dm_chain_layers - the layers of an open disk, top first
 * @major: in: of the dm device
 * @minor: in
 * @nr: in: room in the array; out: layers there are (may be more)
 * @layer_size: in: sizeof(struct dm_chain_layer) of the caller
 * @layers: in: user address of the array
 * @flags: zero
 * @pad: zero
 *
 * Attached devices in other roles come after the layers. Errors: ENODEV.
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
 * I/O back for some 16 ms. Don't keep it on for longer than that takes.
 */
struct dm_chain_expedite {
	__u32	on;
	__u32	flags;
};

#define DM_CHAIN_IOC_TYPE	0xdc
#define DM_CHAIN_IOC_VERSION	_IOWR(DM_CHAIN_IOC_TYPE, 0, struct dm_chain_version)
#define DM_CHAIN_IOC_SWITCH	_IOWR(DM_CHAIN_IOC_TYPE, 1, struct dm_chain_switch)
#define DM_CHAIN_IOC_RESIZE	_IOWR(DM_CHAIN_IOC_TYPE, 2, struct dm_chain_resize)
#define DM_CHAIN_IOC_LAYERS	_IOWR(DM_CHAIN_IOC_TYPE, 3, struct dm_chain_layers)
#define DM_CHAIN_IOC_MAP	_IOWR(DM_CHAIN_IOC_TYPE, 4, struct dm_chain_map)
#define DM_CHAIN_IOC_EXPEDITE	_IOWR(DM_CHAIN_IOC_TYPE, 5, struct dm_chain_expedite)

#endif
