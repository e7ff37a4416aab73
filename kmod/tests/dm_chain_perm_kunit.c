// SPDX-License-Identifier: GPL-2.0-only
/*
 * Suite for the permission matrix: plans, who goes with whom, in both orders.
 * tests/unit/test_perm.c has an oracle for all ranges.
 */
#include <kunit/test.h>
#include <linux/module.h>
#include <linux/random.h>

#include "../dm-chain-perm.h"

#define NR	7

/* An operation on a disk of NR layers: 0 is the top. */
struct op {
	u32 op;
	u32 top;
	u32 base;
	u32 rows[NR];
};

#define OP(o, t, b)	{ .op = DM_CHAIN_OP_##o, .top = t, .base = b }

/* A disk and its jobs: what it reads by way of a job it doesn't hold itself. */
static u32 guest_row(u32 i, const struct op *a, const struct op *b)
{
	if (!i)
		return DM_CHAIN_OPROLE_GUEST_ACTIVE;
	if (chain_perm_through(a->rows[i]) || chain_perm_through(b->rows[i]))
		return DM_CHAIN_OPROLE_GUEST_THROUGH;
	return DM_CHAIN_OPROLE_GUEST_LOWER;
}

static bool clash(u32 held, u32 want)
{
	return chain_perm_clashes(chain_perm_rows_conflict(held, want));
}

static bool fits(const struct op *held, const struct op *want)
{
	u32 i;

	for (i = 0; i < NR; i++) {
		u32 guest = guest_row(i, held, want);

		if (clash(held->rows[i], want->rows[i]) ||
		    clash(guest, held->rows[i]) || clash(guest, want->rows[i]))
			return false;
	}
	return true;
}

static const struct pair {
	const char *name;
	struct op a;
	struct op b;
	bool together;
} pairs[] = {
	{ "commits, apart", OP(COMMIT, 4, 5), OP(COMMIT, 1, 2), true },
	{ "commits, base is overlay", OP(COMMIT, 4, 5), OP(COMMIT, 2, 3), true },
	{ "commits, base is range", OP(COMMIT, 4, 5), OP(COMMIT, 3, 4) },
	{ "commits, one base", OP(COMMIT, 2, 4), OP(COMMIT, 3, 4) },
	{ "commits, the same", OP(COMMIT, 2, 3), OP(COMMIT, 2, 3) },
	{ "active and lower commit", OP(COMMIT, 0, 1), OP(COMMIT, 2, 3), true },
	{ "active commits", OP(COMMIT, 0, 1), OP(ACTIVE_COMMIT, 0, 2) },
	{ "streams, apart", OP(STREAM, 0, 2), OP(STREAM, 4, NR), true },
	{ "streams, neighbours", OP(STREAM, 0, 2), OP(STREAM, 2, 4), true },
	{ "streams, source is into", OP(STREAM, 0, 2), OP(STREAM, 1, 3) },
	{ "streams, one into", OP(STREAM, 0, 2), OP(STREAM, 0, 3) },
	{ "stream above commit", OP(STREAM, 0, 2), OP(COMMIT, 3, 4), true },
	{ "stream drops overlay", OP(STREAM, 1, 3), OP(COMMIT, 3, 4) },
	{ "stream below commit", OP(STREAM, 4, 6), OP(COMMIT, 2, 3), true },
	{ "stream into base", OP(STREAM, 3, 5), OP(COMMIT, 2, 3) },
	{ "snapshot, lower commit", OP(SNAPSHOT, 0, 0), OP(COMMIT, 1, 2), true },
	{ "snapshot, active commit", OP(SNAPSHOT, 0, 0), OP(COMMIT, 0, 1) },
	{ "snapshot, stream", OP(SNAPSHOT, 0, 0), OP(STREAM, 0, NR), true },
	{ "snapshot, mirror", OP(SNAPSHOT, 0, 0), OP(MIRROR, 0, 0) },
	{ "snapshot, copy-layer", OP(SNAPSHOT, 0, 0), OP(COPY_LAYER, 1, 0), true },
	{ "resize, lower commit", OP(RESIZE, 0, 0), OP(COMMIT, 1, 2), true },
	{ "resize, stream", OP(RESIZE, 0, 0), OP(STREAM, 0, 2), true },
	{ "resize, mirror", OP(RESIZE, 0, 0), OP(MIRROR, 0, 0) },
	{ "mirror, lower commit", OP(MIRROR, 0, 0), OP(COMMIT, 2, 3), true },
	{ "mirror, its overlay", OP(MIRROR, 0, 0), OP(COMMIT, 1, 2) },
	{ "mirror, stream", OP(MIRROR, 0, 0), OP(STREAM, 0, 2) },
	{ "copy-layer, stream over it", OP(COPY_LAYER, 3, 0), OP(STREAM, 2, 4) },
	{ "copy-layer, commit over it", OP(COPY_LAYER, 3, 0), OP(COMMIT, 1, 2), true },
	{ "create, commit", OP(CREATE, 3, 0), OP(COMMIT, 2, 3) },
	{ "create, stream of it", OP(CREATE, 3, 0), OP(STREAM, 2, 4), true },
	{ "create on active", OP(CREATE, 0, 0), OP(SNAPSHOT, 0, 0) },
	{ "unseal below", OP(UNSEAL, 3, 0), OP(SNAPSHOT, 0, 0) },
};

static void pair_name(const struct pair *p, char *name)
{
	strscpy(name, p->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(pair, pairs, pair_name);

static int plan(struct op *o)
{
	return chain_perm_plan(o->op, o->top, o->base, NR, o->rows);
}

static void perm_pairs(struct kunit *test)
{
	const struct pair *p = test->param_value;
	struct op a = p->a, b = p->b;

	KUNIT_ASSERT_EQ(test, plan(&a), 0);
	KUNIT_ASSERT_EQ(test, plan(&b), 0);
	KUNIT_EXPECT_EQ(test, fits(&a, &b), p->together);
	KUNIT_EXPECT_EQ(test, fits(&b, &a), p->together);
}

static u32 op_of(u32 row)
{
	return chain_perm_rule(row)->op;
}

/* A layer that another disk has, whichever way, is not written. */
static void perm_shared(struct kunit *test)
{
	static const u32 readers[] = {
		DM_CHAIN_OPROLE_GUEST_LOWER, DM_CHAIN_OPROLE_EXPORT_TOP,
		DM_CHAIN_OPROLE_EXPORT_LOWER, DM_CHAIN_OPROLE_CREATE_BACKING,
	};
	u32 i, row;

	for (i = 0; i < ARRAY_SIZE(readers); i++)
		for (row = 1; row < DM_CHAIN_OPROLE_NR; row++) {
			const u32 change = DM_CHAIN_PERM_W | DM_CHAIN_PERM_WU |
					   DM_CHAIN_PERM_RS;

			if (chain_perm_rule(row)->require & change)
				KUNIT_EXPECT_TRUE_MSG(test, clash(readers[i], row),
						      "rows %u and %u",
						      readers[i], row);
		}
	for (row = 1; row < DM_CHAIN_OPROLE_NR; row++)
		if (op_of(row) == DM_CHAIN_OP_UNSEAL ||
		    op_of(row) == DM_CHAIN_OP_NEW_ID)
			for (i = 1; i < DM_CHAIN_OPROLE_NR; i++)
				if (i != DM_CHAIN_OPROLE_GUEST_THROUGH &&
				    i != DM_CHAIN_OPROLE_SNAPSHOT_TOP)
					KUNIT_EXPECT_TRUE(test, clash(i, row));
}

static void perm_symmetric(struct kunit *test)
{
	struct chain_perm_clash c, d;
	unsigned int i;

	for (i = 0; i < 10000; i++) {
		u32 m = get_random_u32();
		u32 hr = m & 63, ha = m >> 6 & 63, wr = m >> 12 & 63, wa = m >> 18 & 63;

		c = chain_perm_conflict(hr, ha, wr, wa);
		d = chain_perm_conflict(wr, wa, hr, ha);
		KUNIT_ASSERT_EQ(test, c.wanted, d.held);
		KUNIT_ASSERT_EQ(test, c.held, d.wanted);
		KUNIT_ASSERT_EQ(test, chain_perm_clashes(c),
				(wr & ha) != wr || (hr & wa) != hr);
	}
}

static void perm_names(struct kunit *test)
{
	u32 i;

	for (i = 1; i < DM_CHAIN_OP_NR; i++)
		KUNIT_EXPECT_EQ(test, chain_perm_op(chain_perm_op_name(i)), i);
	for (i = 1; i <= DM_CHAIN_PERM_ALL; i <<= 1)
		KUNIT_EXPECT_EQ(test, chain_perm(chain_perm_name(i)), i);
	KUNIT_EXPECT_STREQ(test, chain_perm_name(DM_CHAIN_PERM_CR), "consistent-read");
	KUNIT_EXPECT_NULL(test, chain_perm_name(3));
	KUNIT_EXPECT_NULL(test, chain_perm_op_name(DM_CHAIN_OP_NR));
	KUNIT_EXPECT_NULL(test, chain_perm_rule(DM_CHAIN_OPROLE_NR));
	KUNIT_EXPECT_EQ(test, chain_perm("no"), 0);
	KUNIT_EXPECT_EQ(test, chain_perm_op("no"), DM_CHAIN_OP_NONE);
}

/* Whatever numbers come in, nothing outside of the array is written. */
static void perm_plan_bounds(struct kunit *test)
{
	u32 rows[NR + 2], op, top, base, nr;

	for (op = 0; op <= DM_CHAIN_OP_NR; op++)
		for (nr = 0; nr <= NR; nr++)
			for (top = 0; top <= NR + 1; top++)
				for (base = 0; base <= NR + 1; base++) {
					rows[0] = ~0U;
					rows[nr + 1] = ~0U;
					chain_perm_plan(op, top, base, nr, rows + 1);
					KUNIT_ASSERT_EQ(test, rows[0], ~0U);
					KUNIT_ASSERT_EQ(test, rows[nr + 1], ~0U);
				}
}

static struct kunit_case cases[] = {
	KUNIT_CASE_PARAM(perm_pairs, pair_gen_params),
	KUNIT_CASE(perm_shared),
	KUNIT_CASE(perm_symmetric),
	KUNIT_CASE(perm_names),
	KUNIT_CASE(perm_plan_bounds),
	{}
};

static struct kunit_suite suite = {
	.name = "dm_chain_perm",
	.test_cases = cases,
};

kunit_test_suite(suite);

MODULE_DESCRIPTION("KUnit suite of dm-chain: permission matrix");
MODULE_LICENSE("GPL");
