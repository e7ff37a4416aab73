/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The permission matrix at work: rules, names, who is in whose way, and which
 * layers an operation touches. Numbers only: holders, layers and locks are
 * the caller's.
 */
#ifndef DM_CHAIN_PERM_H
#define DM_CHAIN_PERM_H

#include "dm-chain-env.h"
#include <linux/dm-chain-perm.h>

/**
 * struct chain_perm_rule - a row of the matrix
 * @op: enum dm_chain_op
 * @role: name of the role
 * @require: enum dm_chain_perm, what the holder needs
 * @allow: what it leaves to others
 */
struct chain_perm_rule {
	u32 op;
	const char *role;
	u32 require;
	u32 allow;
};

/**
 * chain_perm_rule() - a row by its number
 * @row: enum dm_chain_oprole
 *
 * Return: NULL if there is no such row.
 */
const struct chain_perm_rule *chain_perm_rule(u32 row);

/** chain_perm_op_name() - "active-commit"; NULL: no such operation */
const char *chain_perm_op_name(u32 op);

/** chain_perm_op() - enum dm_chain_op by its name; DM_CHAIN_OP_NONE: none */
u32 chain_perm_op(const char *name);

/** chain_perm_name() - of one permission, as a bit; NULL: not one of them */
const char *chain_perm_name(u32 perm);

/** chain_perm() - bit of a permission by its name; 0: none */
u32 chain_perm(const char *name);

/**
 * struct chain_perm_clash - what keeps two holders from one layer
 * @wanted: required by the newcomer, not allowed by the holder
 * @held: required by the holder, not allowed by the newcomer
 */
struct chain_perm_clash {
	u32 wanted;
	u32 held;
};

/**
 * chain_perm_conflict() - can a newcomer be on a layer beside a holder
 * @held_require: enum dm_chain_perm, of the holder
 * @held_allow: of the holder
 * @want_require: of the newcomer
 * @want_allow: of the newcomer
 *
 * Symmetric: with the two exchanged, so are the fields of the answer.
 *
 * Return: both zero if it can.
 */
struct chain_perm_clash chain_perm_conflict(u32 held_require, u32 held_allow,
					    u32 want_require, u32 want_allow);

/** chain_perm_clashes() - is there a conflict at all */
static inline bool chain_perm_clashes(struct chain_perm_clash c)
{
	return c.wanted | c.held;
}

/**
 * chain_perm_rows_conflict() - chain_perm_conflict() of two rows
 * @held: enum dm_chain_oprole of the holder
 * @want: of the newcomer
 *
 * DM_CHAIN_OPROLE_NONE, and any number that is no row, is in nobody's way.
 *
 * Return: both zero if they go together.
 */
struct chain_perm_clash chain_perm_rows_conflict(u32 held, u32 want);

/**
 * chain_perm_through() - does a disk read a layer by way of its own job
 * @row: that the job holds on one of the disk's lower layers
 *
 * The disk then has DM_CHAIN_OPROLE_GUEST_THROUGH there in place of
 * DM_CHAIN_OPROLE_GUEST_LOWER, for as long as the job holds the layer. Disks
 * other than the job's own keep what they have.
 *
 * Return: true if so.
 */
bool chain_perm_through(u32 row);

/**
 * chain_perm_writes() - does a row write to the layer's device
 * @row: enum dm_chain_oprole
 *
 * Data, or, of an overlay, its header. Who only notes something in the header
 * of a layer that others read does that when it is closed.
 */
bool chain_perm_writes(u32 row);

/** chain_perm_places() - does it write data */
bool chain_perm_places(u32 row);

/**
 * chain_perm_plan() - which layers of a disk an operation touches
 * @op: enum dm_chain_op
 * @top: layer that it is about, 0 = top of the chain; commit: top of the
 *	range; stream: the layer that takes the data in
 * @base: commit: the layer that takes the data in; stream: first layer that is
 *	not pulled in, @nr: all are. Other operations: not looked at.
 * @nr: layers of the disk
 * @rows: @nr numbers, filled in: enum dm_chain_oprole of each layer,
 *	DM_CHAIN_OPROLE_NONE where it touches nothing
 *
 * A commit of layer 0 is an active commit, whichever of the two was asked for.
 * What an operation needs outside of the disk (the target of a mirror) has
 * rows of its own, which are not in the plan.
 *
 * Return: 0, or -EINVAL: no such layers, nothing between @top and @base, or
 * the operation has no place in an open chain.
 */
int chain_perm_plan(u32 op, u32 top, u32 base, u32 nr, u32 *rows);

#endif
