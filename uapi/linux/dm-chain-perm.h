/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * Who may do what with a layer, and beside whom: the one table that the kernel
 * enforces and the controller explains. Documentation/permissions.rst is made
 * of it.
 *
 * Each layer has holders: disks that have it open and jobs. A holder requires
 * some permissions for itself and allows some to others. Two holders can be on
 * one layer iff neither requires what the other doesn't allow, whoever came
 * first.
 *
 * Numbers are ABI: new permissions, operations and rows go to the end of their
 * list.
 */
#ifndef _UAPI_LINUX_DM_CHAIN_PERM_H
#define _UAPI_LINUX_DM_CHAIN_PERM_H

/**
 * enum dm_chain_perm - permissions, as bits of a mask
 * @DM_CHAIN_PERM_CR: consistent-read: what is read is one state of the disk
 * @DM_CHAIN_PERM_W: write: change what is seen at the layer
 * @DM_CHAIN_PERM_WU: write-unchanged: place or remove data without changing
 *	what is seen
 * @DM_CHAIN_PERM_MD: metadata: change the layer's header
 * @DM_CHAIN_PERM_RS: resize: change the layer's size
 * @DM_CHAIN_PERM_LK: link: change what is above or below the layer in a chain
 */
enum dm_chain_perm {
	DM_CHAIN_PERM_CR	= 1,
	DM_CHAIN_PERM_W		= 2,
	DM_CHAIN_PERM_WU	= 4,
	DM_CHAIN_PERM_MD	= 8,
	DM_CHAIN_PERM_RS	= 16,
	DM_CHAIN_PERM_LK	= 32,
};

#define DM_CHAIN_PERM_ALL	63

/* X(NAME, name in text): the permissions, from the lowest bit up */
#define DM_CHAIN_PERMS(X)		\
	X(CR, "consistent-read")	\
	X(W,  "write")			\
	X(WU, "write-unchanged")	\
	X(MD, "metadata")		\
	X(RS, "resize")			\
	X(LK, "link")

/*
 * X(NAME, name in text). guest: a disk that is open read-write; export: one
 * that is open read-only.
 */
#define DM_CHAIN_OPS(X)			\
	X(GUEST, "guest")		\
	X(EXPORT, "export")		\
	X(SNAPSHOT, "snapshot")		\
	X(RESIZE, "resize")		\
	X(COMMIT, "commit")		\
	X(ACTIVE_COMMIT, "active-commit")	\
	X(STREAM, "stream")		\
	X(MIRROR, "mirror")		\
	X(COPY_LAYER, "copy-layer")	\
	X(REBASE, "rebase")		\
	X(UNSAFE_REBASE, "unsafe-rebase")	\
	X(CREATE, "create")		\
	X(UNSEAL, "unseal")		\
	X(NEW_ID, "new-id")		\
	X(CHECK, "check")		\
	X(REPAIR, "repair")		\
	X(COMPARE, "compare")

/*
 * X(OPERATION, ROLE, name of the role in text, require, allow): what an
 * operation holds on a layer that has that role in it.
 *
 * guest: a second writer, and whoever needs the bytes to stay as they are, is
 * refused on the active layer. "through" takes the place of "lower" where a
 * job of the same disk changes the layer: the disk reads it by way of the job,
 * which holds what has to be held. Other disks never do.
 *
 * snapshot: it stops nobody, least of all the guest, whose writes go on
 * elsewhere from one instant on. What may not be cut in two does not allow it
 * the header: mirror and active commit. The link that it makes is above the
 * top, where nobody else has anything.
 *
 * commit: nobody may see the range or write the base. The base's header and
 * link can change beside it: another commit may end on it. The overlay is
 * never written, its parent changes: so nothing else may relink or drop it.
 *
 * active-commit: the guest goes on, nothing else does on the active layer.
 *
 * stream: a source is dropped in the end, which "link" stands for: it must not
 * be an edge of somebody else's.
 *
 * mirror, copy-layer: the layer stays as it is, or is written by the guest
 * alone. The copy of a lower layer takes the place of its original below the
 * overlay, whose header says where.
 */
#define DM_CHAIN_OPROLES(X)						\
	X(GUEST, ACTIVE, "active",					\
	  DM_CHAIN_PERM_CR | DM_CHAIN_PERM_W,				\
	  DM_CHAIN_PERM_CR | DM_CHAIN_PERM_WU | DM_CHAIN_PERM_MD |	\
	  DM_CHAIN_PERM_RS | DM_CHAIN_PERM_LK)				\
	X(GUEST, LOWER, "lower",					\
	  DM_CHAIN_PERM_CR,						\
	  DM_CHAIN_PERM_CR | DM_CHAIN_PERM_MD | DM_CHAIN_PERM_LK)	\
	X(GUEST, THROUGH, "through",					\
	  0,								\
	  DM_CHAIN_PERM_ALL)						\
	X(GUEST, NEXT, "next",						\
	  DM_CHAIN_PERM_W | DM_CHAIN_PERM_MD | DM_CHAIN_PERM_LK,	\
	  0)								\
	X(EXPORT, TOP, "top",						\
	  DM_CHAIN_PERM_CR,						\
	  DM_CHAIN_PERM_CR | DM_CHAIN_PERM_MD | DM_CHAIN_PERM_LK)	\
	X(EXPORT, LOWER, "lower",					\
	  DM_CHAIN_PERM_CR,						\
	  DM_CHAIN_PERM_CR | DM_CHAIN_PERM_MD | DM_CHAIN_PERM_LK)	\
	X(SNAPSHOT, TOP, "top",						\
	  DM_CHAIN_PERM_MD,						\
	  DM_CHAIN_PERM_ALL)						\
	X(RESIZE, ACTIVE, "active",					\
	  DM_CHAIN_PERM_MD | DM_CHAIN_PERM_RS,				\
	  DM_CHAIN_PERM_CR | DM_CHAIN_PERM_W | DM_CHAIN_PERM_WU |	\
	  DM_CHAIN_PERM_MD | DM_CHAIN_PERM_LK)				\
	X(COMMIT, BASE, "base",						\
	  DM_CHAIN_PERM_W | DM_CHAIN_PERM_WU | DM_CHAIN_PERM_MD |	\
	  DM_CHAIN_PERM_RS,						\
	  DM_CHAIN_PERM_MD | DM_CHAIN_PERM_LK)				\
	X(COMMIT, RANGE, "range",					\
	  DM_CHAIN_PERM_W | DM_CHAIN_PERM_WU | DM_CHAIN_PERM_MD |	\
	  DM_CHAIN_PERM_LK,						\
	  0)								\
	X(COMMIT, OVERLAY, "overlay",					\
	  DM_CHAIN_PERM_MD | DM_CHAIN_PERM_LK,				\
	  DM_CHAIN_PERM_CR | DM_CHAIN_PERM_W | DM_CHAIN_PERM_WU |	\
	  DM_CHAIN_PERM_MD | DM_CHAIN_PERM_RS)				\
	X(ACTIVE_COMMIT, BASE, "base",					\
	  DM_CHAIN_PERM_W | DM_CHAIN_PERM_WU | DM_CHAIN_PERM_MD |	\
	  DM_CHAIN_PERM_RS,						\
	  DM_CHAIN_PERM_MD | DM_CHAIN_PERM_LK)				\
	X(ACTIVE_COMMIT, RANGE, "range",				\
	  DM_CHAIN_PERM_W | DM_CHAIN_PERM_WU | DM_CHAIN_PERM_MD |	\
	  DM_CHAIN_PERM_LK,						\
	  0)								\
	X(ACTIVE_COMMIT, ACTIVE, "active",				\
	  DM_CHAIN_PERM_WU | DM_CHAIN_PERM_MD | DM_CHAIN_PERM_LK,	\
	  DM_CHAIN_PERM_CR | DM_CHAIN_PERM_W)				\
	X(STREAM, INTO, "into",						\
	  DM_CHAIN_PERM_WU | DM_CHAIN_PERM_MD | DM_CHAIN_PERM_LK,	\
	  DM_CHAIN_PERM_CR | DM_CHAIN_PERM_W | DM_CHAIN_PERM_MD |	\
	  DM_CHAIN_PERM_RS)						\
	X(STREAM, SOURCE, "source",					\
	  DM_CHAIN_PERM_CR | DM_CHAIN_PERM_LK,				\
	  DM_CHAIN_PERM_CR | DM_CHAIN_PERM_MD | DM_CHAIN_PERM_LK)	\
	X(MIRROR, SOURCE, "source",					\
	  DM_CHAIN_PERM_CR,						\
	  DM_CHAIN_PERM_CR | DM_CHAIN_PERM_W | DM_CHAIN_PERM_WU)	\
	X(MIRROR, TARGET, "target",					\
	  DM_CHAIN_PERM_W | DM_CHAIN_PERM_WU | DM_CHAIN_PERM_MD |	\
	  DM_CHAIN_PERM_RS | DM_CHAIN_PERM_LK,				\
	  0)								\
	X(COPY_LAYER, LAYER, "layer",					\
	  DM_CHAIN_PERM_CR,						\
	  DM_CHAIN_PERM_CR | DM_CHAIN_PERM_MD)				\
	X(COPY_LAYER, OVERLAY, "overlay",				\
	  DM_CHAIN_PERM_MD,						\
	  DM_CHAIN_PERM_CR | DM_CHAIN_PERM_W | DM_CHAIN_PERM_WU |	\
	  DM_CHAIN_PERM_MD | DM_CHAIN_PERM_RS)				\
	X(COPY_LAYER, TARGET, "target",					\
	  DM_CHAIN_PERM_W | DM_CHAIN_PERM_WU | DM_CHAIN_PERM_MD |	\
	  DM_CHAIN_PERM_RS | DM_CHAIN_PERM_LK,				\
	  0)								\
	X(REBASE, LAYER, "layer",					\
	  DM_CHAIN_PERM_WU | DM_CHAIN_PERM_MD | DM_CHAIN_PERM_LK,	\
	  DM_CHAIN_PERM_CR)						\
	X(REBASE, PARENT, "parent",					\
	  DM_CHAIN_PERM_CR,						\
	  DM_CHAIN_PERM_CR | DM_CHAIN_PERM_MD | DM_CHAIN_PERM_LK)	\
	X(UNSAFE_REBASE, LAYER, "layer",				\
	  DM_CHAIN_PERM_W | DM_CHAIN_PERM_WU | DM_CHAIN_PERM_MD |	\
	  DM_CHAIN_PERM_LK,						\
	  0)								\
	X(CREATE, BACKING, "backing",					\
	  DM_CHAIN_PERM_CR | DM_CHAIN_PERM_MD,				\
	  DM_CHAIN_PERM_CR | DM_CHAIN_PERM_MD | DM_CHAIN_PERM_LK)	\
	X(UNSEAL, LAYER, "layer",					\
	  DM_CHAIN_PERM_W | DM_CHAIN_PERM_MD,				\
	  0)								\
	X(NEW_ID, LAYER, "layer",					\
	  DM_CHAIN_PERM_W | DM_CHAIN_PERM_MD | DM_CHAIN_PERM_LK,	\
	  0)								\
	X(CHECK, LAYER, "layer",					\
	  DM_CHAIN_PERM_CR,						\
	  DM_CHAIN_PERM_CR | DM_CHAIN_PERM_MD | DM_CHAIN_PERM_LK)	\
	X(REPAIR, LAYER, "layer",					\
	  DM_CHAIN_PERM_W | DM_CHAIN_PERM_MD,				\
	  0)								\
	X(COMPARE, LAYER, "layer",					\
	  DM_CHAIN_PERM_CR,						\
	  DM_CHAIN_PERM_CR | DM_CHAIN_PERM_MD | DM_CHAIN_PERM_LK)

/* Operations: DM_CHAIN_OP_GUEST is 1 */
enum dm_chain_op {
	DM_CHAIN_OP_NONE,
#define DM_CHAIN_OP_ENUM(op, name)	DM_CHAIN_OP_##op,
	DM_CHAIN_OPS(DM_CHAIN_OP_ENUM)
#undef DM_CHAIN_OP_ENUM
	DM_CHAIN_OP_NR
};

/* Rows of the table: DM_CHAIN_OPROLE_GUEST_ACTIVE is 1 */
enum dm_chain_oprole {
	DM_CHAIN_OPROLE_NONE,
#define DM_CHAIN_OPROLE_ENUM(op, role, name, require, allow)	\
	DM_CHAIN_OPROLE_##op##_##role,
	DM_CHAIN_OPROLES(DM_CHAIN_OPROLE_ENUM)
#undef DM_CHAIN_OPROLE_ENUM
	DM_CHAIN_OPROLE_NR
};

#endif
