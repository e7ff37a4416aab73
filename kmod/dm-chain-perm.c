// SPDX-License-Identifier: GPL-2.0-only
/*
 * The permission matrix of <linux/dm-chain-perm.h> at work. Pure functions of
 * constant tables: no state, no locks, any context.
 */
#include "dm-chain-perm.h"

#define RULE(o, r, name, req, all)					\
	[DM_CHAIN_OPROLE_##o##_##r] = {					\
		.op = DM_CHAIN_OP_##o, .role = name,			\
		.require = req, .allow = all,				\
	},

static const struct chain_perm_rule rules[DM_CHAIN_OPROLE_NR] = {
	DM_CHAIN_OPROLES(RULE)
};

#define OP_NAME(o, name)						\
	[DM_CHAIN_OP_##o] = name,

static const char * const op_names[DM_CHAIN_OP_NR] = {
	DM_CHAIN_OPS(OP_NAME)
};

#define PERM_NAME(p, name)						\
	{ DM_CHAIN_PERM_##p, name },

static const struct {
	u32 bit;
	const char *name;
} perms[] = {
	DM_CHAIN_PERMS(PERM_NAME)
};

static_assert(DM_CHAIN_PERM_ALL == (1U << ARRAY_SIZE(perms)) - 1);

const struct chain_perm_rule *chain_perm_rule(u32 row)
{
	if (row == DM_CHAIN_OPROLE_NONE || row >= DM_CHAIN_OPROLE_NR)
		return NULL;
	return &rules[row];
}

const char *chain_perm_op_name(u32 op)
{
	return op < DM_CHAIN_OP_NR ? op_names[op] : NULL;
}

u32 chain_perm_op(const char *name)
{
	u32 op;

	for (op = DM_CHAIN_OP_NONE + 1; op < DM_CHAIN_OP_NR; op++)
		if (!strcmp(op_names[op], name))
			return op;
	return DM_CHAIN_OP_NONE;
}

const char *chain_perm_name(u32 perm)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(perms); i++)
		if (perms[i].bit == perm)
			return perms[i].name;
	return NULL;
}

u32 chain_perm(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(perms); i++)
		if (!strcmp(perms[i].name, name))
			return perms[i].bit;
	return 0;
}

struct chain_perm_clash chain_perm_conflict(u32 held_require, u32 held_allow,
					    u32 want_require, u32 want_allow)
{
	return (struct chain_perm_clash){
		.wanted = want_require & ~held_allow,
		.held = held_require & ~want_allow,
	};
}

struct chain_perm_clash chain_perm_rows_conflict(u32 held, u32 want)
{
	const struct chain_perm_rule *h = chain_perm_rule(held);
	const struct chain_perm_rule *w = chain_perm_rule(want);

	if (!h || !w)
		return (struct chain_perm_clash){ 0 };
	return chain_perm_conflict(h->require, h->allow, w->require, w->allow);
}

bool chain_perm_through(u32 row)
{
	switch (row) {
	case DM_CHAIN_OPROLE_COMMIT_BASE:
	case DM_CHAIN_OPROLE_COMMIT_RANGE:
	case DM_CHAIN_OPROLE_ACTIVE_COMMIT_BASE:
	case DM_CHAIN_OPROLE_ACTIVE_COMMIT_RANGE:
	case DM_CHAIN_OPROLE_STREAM_INTO:
	case DM_CHAIN_OPROLE_REBASE_LAYER:
		return true;
	default:
		return false;
	}
}

bool chain_perm_places(u32 row)
{
	const struct chain_perm_rule *r = chain_perm_rule(row);

	return r && r->require & (DM_CHAIN_PERM_W | DM_CHAIN_PERM_WU);
}

bool chain_perm_writes(u32 row)
{
	const struct chain_perm_rule *r = chain_perm_rule(row);
	const u32 header = DM_CHAIN_PERM_MD | DM_CHAIN_PERM_CR;

	return chain_perm_places(row) ||
	       (r && (r->require & header) == DM_CHAIN_PERM_MD);
}

/*
 * Operations by the layers they are about: @at has @top; @above the layer above
 * it and @below the one below it, if there are such.
 */
static const struct single {
	u32 at;
	u32 above;
	u32 below;
	bool top_only;
} singles[DM_CHAIN_OP_NR] = {
	[DM_CHAIN_OP_SNAPSHOT] = { .at = DM_CHAIN_OPROLE_SNAPSHOT_TOP, .top_only = true },
	[DM_CHAIN_OP_RESIZE] = { .at = DM_CHAIN_OPROLE_RESIZE_ACTIVE, .top_only = true },
	[DM_CHAIN_OP_MIRROR] = { .at = DM_CHAIN_OPROLE_MIRROR_SOURCE, .top_only = true },
	[DM_CHAIN_OP_COPY_LAYER] = {
		.at = DM_CHAIN_OPROLE_COPY_LAYER_LAYER,
		.above = DM_CHAIN_OPROLE_COPY_LAYER_OVERLAY,
	},
	[DM_CHAIN_OP_REBASE] = {
		.at = DM_CHAIN_OPROLE_REBASE_LAYER,
		.below = DM_CHAIN_OPROLE_REBASE_PARENT,
	},
	[DM_CHAIN_OP_UNSAFE_REBASE] = { .at = DM_CHAIN_OPROLE_UNSAFE_REBASE_LAYER },
	[DM_CHAIN_OP_CREATE] = { .at = DM_CHAIN_OPROLE_CREATE_BACKING },
	[DM_CHAIN_OP_UNSEAL] = { .at = DM_CHAIN_OPROLE_UNSEAL_LAYER },
	[DM_CHAIN_OP_NEW_ID] = { .at = DM_CHAIN_OPROLE_NEW_ID_LAYER },
	[DM_CHAIN_OP_CHECK] = { .at = DM_CHAIN_OPROLE_CHECK_LAYER },
	[DM_CHAIN_OP_REPAIR] = { .at = DM_CHAIN_OPROLE_REPAIR_LAYER },
	[DM_CHAIN_OP_COMPARE] = { .at = DM_CHAIN_OPROLE_COMPARE_LAYER },
};

static int plan_single(const struct single *s, u32 top, u32 nr, u32 *rows)
{
	if (!s->at || (s->top_only && top))
		return -EINVAL;
	rows[top] = s->at;
	if (top)
		rows[top - 1] = s->above;
	if (top + 1 < nr)
		rows[top + 1] = s->below;
	return 0;
}

/* All of a disk's own layers. */
static void plan_disk(u32 first, u32 lower, u32 nr, u32 *rows)
{
	u32 i;

	rows[0] = first;
	for (i = 1; i < nr; i++)
		rows[i] = lower;
}

static int plan_commit(u32 top, u32 base, u32 nr, u32 *rows)
{
	u32 i;

	if (base <= top || base >= nr)
		return -EINVAL;
	for (i = top; i < base; i++)
		rows[i] = top ? DM_CHAIN_OPROLE_COMMIT_RANGE :
				DM_CHAIN_OPROLE_ACTIVE_COMMIT_RANGE;
	if (top) {
		rows[base] = DM_CHAIN_OPROLE_COMMIT_BASE;
		rows[top - 1] = DM_CHAIN_OPROLE_COMMIT_OVERLAY;
	} else {
		rows[base] = DM_CHAIN_OPROLE_ACTIVE_COMMIT_BASE;
		rows[0] = DM_CHAIN_OPROLE_ACTIVE_COMMIT_ACTIVE;
	}
	return 0;
}

static int plan_stream(u32 into, u32 base, u32 nr, u32 *rows)
{
	u32 i;

	if (base <= into || base - into < 2 || base > nr)
		return -EINVAL;
	rows[into] = DM_CHAIN_OPROLE_STREAM_INTO;
	for (i = into + 1; i < base; i++)
		rows[i] = DM_CHAIN_OPROLE_STREAM_SOURCE;
	return 0;
}

int chain_perm_plan(u32 op, u32 top, u32 base, u32 nr, u32 *rows)
{
	if (op >= DM_CHAIN_OP_NR || top >= nr)
		return -EINVAL;
	memset(rows, 0, nr * sizeof(*rows));
	switch (op) {
	case DM_CHAIN_OP_GUEST:
		plan_disk(DM_CHAIN_OPROLE_GUEST_ACTIVE,
			  DM_CHAIN_OPROLE_GUEST_LOWER, nr, rows);
		return top ? -EINVAL : 0;
	case DM_CHAIN_OP_EXPORT:
		plan_disk(DM_CHAIN_OPROLE_EXPORT_TOP,
			  DM_CHAIN_OPROLE_EXPORT_LOWER, nr, rows);
		return top ? -EINVAL : 0;
	case DM_CHAIN_OP_ACTIVE_COMMIT:
		return top ? -EINVAL : plan_commit(top, base, nr, rows);
	case DM_CHAIN_OP_COMMIT:
		return plan_commit(top, base, nr, rows);
	case DM_CHAIN_OP_STREAM:
		return plan_stream(top, base, nr, rows);
	default:
		return plan_single(&singles[op], top, nr, rows);
	}
}

CHAIN_EXPORT_FOR_KUNIT(chain_perm_rule);
CHAIN_EXPORT_FOR_KUNIT(chain_perm_op_name);
CHAIN_EXPORT_FOR_KUNIT(chain_perm_op);
CHAIN_EXPORT_FOR_KUNIT(chain_perm_name);
CHAIN_EXPORT_FOR_KUNIT(chain_perm);
CHAIN_EXPORT_FOR_KUNIT(chain_perm_conflict);
CHAIN_EXPORT_FOR_KUNIT(chain_perm_rows_conflict);
CHAIN_EXPORT_FOR_KUNIT(chain_perm_through);
CHAIN_EXPORT_FOR_KUNIT(chain_perm_places);
CHAIN_EXPORT_FOR_KUNIT(chain_perm_writes);
CHAIN_EXPORT_FOR_KUNIT(chain_perm_plan);
