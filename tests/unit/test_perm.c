// SPDX-License-Identifier: GPL-2.0-or-later
// sources: kmod/dm-chain-perm.c
/*
 * The permission matrix: which operations of one disk, and of disks that share
 * layers, go together. A chain n0 (base) to n6 (active) is held as the kernel
 * holds it; operations are named as
 *
 *	commit 4>3		n4 into n3
 *	stream 4..3		what is in n3 into n4; down to n3, which is dropped
 *	mirror, snapshot	of the top
 *	copy-layer 3		of a layer
 *
 * An oracle that knows layers and edges, but no masks, says what should be.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "dm-chain-perm.h"
#include "rng.h"
#include <linux/dm-chain.h>

#define NR	7
#define TOP	(NR - 1)

struct op {
	u32 op;
	u32 top, base;	/* indices, as in chain_perm_plan() */
	u32 rows[NR];
};

static int plan(struct op *o)
{
	return chain_perm_plan(o->op, o->top, o->base, NR, o->rows);
}

/* Index of a layer by its number: n6 is 0. */
static u32 layer_index(unsigned int n)
{
	return TOP - n;
}

static struct op parse(const char *text)
{
	unsigned int upper = TOP, lower = 0;
	char name[32], dots[3] = "";
	struct op o = { 0 };

	sscanf(text, "%31s %u%2[.>]%u", name, &upper, dots, &lower);
	o.op = chain_perm_op(name);
	assert_int_not_equal(o.op, DM_CHAIN_OP_NONE);
	o.top = layer_index(upper);
	if (o.op == DM_CHAIN_OP_STREAM)
		o.base = layer_index(lower) + 1;
	else if (dots[0])
		o.base = layer_index(lower);
	assert_int_equal(plan(&o), 0);
	return o;
}

/* What the disk itself has on layer @i while these jobs are on it. */
static u32 guest_row(u32 i, const struct op *a, const struct op *b)
{
	if (!i)
		return DM_CHAIN_OPROLE_GUEST_ACTIVE;
	if ((a && chain_perm_through(a->rows[i])) ||
	    (b && chain_perm_through(b->rows[i])))
		return DM_CHAIN_OPROLE_GUEST_THROUGH;
	return DM_CHAIN_OPROLE_GUEST_LOWER;
}

static bool clash(u32 held, u32 want)
{
	return chain_perm_clashes(chain_perm_rows_conflict(held, want));
}

/* Can @want start on a disk where @held runs? Either may be NULL. */
static bool fits(const struct op *held, const struct op *want)
{
	u32 i;

	for (i = 0; i < NR; i++) {
		u32 guest = guest_row(i, held, want);

		if (held && (clash(held->rows[i], want->rows[i]) ||
			     clash(guest, held->rows[i])))
			return false;
		if (clash(guest, want->rows[i]))
			return false;
	}
	return true;
}

static bool together(const char *first, const char *second)
{
	struct op a = parse(first), b = parse(second);
	bool yes = fits(&a, &b);

	assert_int_equal(fits(&b, &a), yes);
	return yes;
}

/*
 * Can @want start on a disk that shares all its layers but the upper @own ones
 * with another disk, on which nothing or @job runs? @other is DM_CHAIN_OP_GUEST
 * or _EXPORT; the disks meet in n(6 - own).
 */
static bool shared(u32 other, const char *job, unsigned int own, const char *want)
{
	struct op w = parse(want), j = { 0 }, o = { .op = other };
	u32 i, row;

	assert_int_equal(plan(&o), 0);
	if (job)
		j = parse(job);
	if (!fits(NULL, &w))
		return false;
	for (i = own; i < NR; i++) {
		row = other == DM_CHAIN_OP_EXPORT ? o.rows[i - own] :
		      guest_row(i, &j, NULL);
		if (clash(row, w.rows[i]) || clash(j.rows[i], w.rows[i]))
			return false;
		/* The two disks do not stand in each other's way anyhow. */
		if (!chain_perm_through(w.rows[i]))
			assert_false(clash(row, guest_row(i, &w, NULL)));
	}
	return true;
}

static const char * const run_together[][2] = {
	{ "commit 2>1", "commit 4>3" },
	{ "commit 4>3", "commit 6>5" },
	{ "commit 2>1", "commit 6>3" },
	{ "commit 2>1", "commit 6>5" },
	{ "commit 3>2", "stream 6..5" },
	{ "commit 2>1", "stream 5..4" },
	{ "commit 4>3", "stream 2..1" },
	{ "commit 6>5", "stream 4..3" },
	{ "commit 6>5", "stream 4..0" },
	{ "stream 4..3", "stream 2..1" },
	{ "stream 6..5", "stream 4..3" },
	{ "stream 6..5", "stream 4..0" },
	{ "snapshot", "commit 4>3" },
	{ "snapshot", "commit 5>4" },	/* the active layer is the overlay */
	{ "snapshot", "stream 6..5" },
	{ "snapshot", "stream 6..0" },
	{ "snapshot", "stream 4..3" },
	{ "snapshot", "copy-layer 5" },
	{ "snapshot", "resize" },
	{ "snapshot", "snapshot" },
	{ "resize", "commit 4>3" },
	{ "resize", "commit 5>4" },
	{ "resize", "stream 6..5" },
	{ "resize", "copy-layer 5" },
	{ "mirror", "commit 4>3" },
	{ "mirror", "stream 5..4" },
	{ "mirror", "copy-layer 3" },
	{ "mirror", "mirror" },
	{ "copy-layer 4", "commit 2>1" },
	{ "copy-layer 3", "commit 6>5" },
	{ "copy-layer 3", "commit 5>4" },	/* base and overlay are one layer */
	{ "copy-layer 3", "stream 6..5" },
	{ "copy-layer 3", "stream 2..1" },
	{ "copy-layer 3", "copy-layer 4" },
	{ "create 3", "mirror" },
	{ "create 3", "commit 6>5" },
	{ "create 3", "stream 4..3" },
	{ "check 3", "snapshot" },
	{ "compare 3", "stream 6..3" },
	{ "rebase 3", "snapshot" },
};

static const char * const never_together[][2] = {
	{ "commit 4>3", "commit 4>3" },
	{ "commit 4>3", "commit 3>2" },
	{ "commit 4>2", "commit 3>2" },
	{ "commit 4>3", "commit 5>4" },
	{ "commit 6>3", "commit 4>3" },
	{ "commit 6>5", "commit 6>5" },
	{ "commit 4>3", "stream 4..3" },
	{ "commit 4>3", "stream 5..4" },
	{ "commit 4>3", "stream 3..2" },
	{ "commit 2>1", "stream 4..3" },
	{ "commit 4>3", "stream 6..5" },	/* n5 is the edge of both */
	{ "commit 6>5", "stream 6..5" },
	{ "commit 6>5", "stream 5..4" },
	{ "stream 6..0", "commit 2>1" },
	{ "stream 6..5", "stream 5..4" },
	{ "stream 6..3", "stream 4..3" },
	{ "stream 6..5", "stream 6..5" },
	{ "snapshot", "mirror" },
	{ "snapshot", "commit 6>5" },
	{ "snapshot", "active-commit 6>2" },
	{ "resize", "mirror" },
	{ "resize", "commit 6>5" },
	{ "resize", "resize" },
	{ "mirror", "commit 6>5" },
	{ "mirror", "commit 5>4" },	/* changes the link of the source */
	{ "mirror", "stream 6..5" },
	{ "mirror", "copy-layer 5" },
	{ "copy-layer 3", "stream 4..3" },
	{ "copy-layer 4", "stream 5..4" },
	{ "copy-layer 3", "stream 5..4" },	/* drops the overlay */
	{ "copy-layer 3", "commit 4>3" },
	{ "copy-layer 3", "commit 3>2" },
	{ "copy-layer 3", "stream 3..2" },
	{ "copy-layer 3", "commit 2>1" },	/* changes the link of what is copied */
	{ "create 3", "commit 4>3" },
	{ "create 3", "stream 3..2" },
	{ "check 3", "commit 4>3" },
	{ "rebase 3", "stream 4..3" },
	{ "rebase 3", "commit 4>3" },
	{ "rebase 3", "copy-layer 3" },
};

static void what_runs_together(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(run_together); i++)
		if (!together(run_together[i][0], run_together[i][1]))
			fail_msg("%s is refused beside %s", run_together[i][1],
				 run_together[i][0]);
	for (i = 0; i < ARRAY_SIZE(never_together); i++)
		if (together(never_together[i][0], never_together[i][1]))
			fail_msg("%s is allowed beside %s", never_together[i][1],
				 never_together[i][0]);
}

/* What a disk that runs refuses, and allows, when no job is on it. */
static void what_a_guest_leaves(void **state)
{
	static const char * const refused[] = {
		"create 6", "check 6", "compare 6", "unseal 6", "repair 6", "new-id 6",
		"unseal 3", "unseal 0", "repair 3", "new-id 3", "rebase 6",
		"unsafe-rebase 3", "unsafe-rebase 6", "guest", "export", "copy-layer 6",
	};
	static const char * const allowed[] = {
		"create 5", "create 0", "check 5", "compare 0", "rebase 3", "snapshot",
		"resize", "mirror", "copy-layer 5", "commit 6>5", "commit 1>0",
		"stream 6..0", "stream 1..0",
	};
	struct op o;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(refused); i++) {
		o = parse(refused[i]);
		if (fits(NULL, &o))
			fail_msg("%s is allowed", refused[i]);
	}
	for (i = 0; i < ARRAY_SIZE(allowed); i++) {
		o = parse(allowed[i]);
		if (!fits(NULL, &o))
			fail_msg("%s is refused", allowed[i]);
	}
}

/* Another disk has n3 and what is below it as lower layers, or reads n3. */
static void disks_that_share_layers(void **state)
{
	static const u32 others[] = { DM_CHAIN_OP_GUEST, DM_CHAIN_OP_EXPORT };
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(others); i++) {
		u32 o = others[i];

		assert_false(shared(o, NULL, 3, "commit 4>3"));
		assert_false(shared(o, NULL, 3, "commit 6>3"));
		assert_false(shared(o, NULL, 3, "commit 3>2"));
		assert_false(shared(o, NULL, 3, "commit 1>0"));
		assert_false(shared(o, NULL, 3, "stream 3..2"));
		assert_false(shared(o, NULL, 3, "rebase 3"));
		assert_true(shared(o, NULL, 3, "rebase 4"));
		assert_true(shared(o, NULL, 3, "commit 5>4"));
		assert_true(shared(o, NULL, 3, "commit 6>4"));
		assert_true(shared(o, NULL, 3, "stream 6..0"));
		assert_true(shared(o, NULL, 3, "stream 4..3"));
		assert_true(shared(o, NULL, 3, "copy-layer 3"));
		assert_true(shared(o, NULL, 3, "snapshot"));
		assert_true(shared(o, NULL, 3, "mirror"));
		assert_true(shared(o, NULL, 3, "create 3"));
		assert_false(shared(o, NULL, 3, "unseal 3"));
		assert_false(shared(o, NULL, 3, "unseal 0"));
	}
	/* Nobody opens what a job changes; what it only drops, anybody may. */
	assert_true(shared(DM_CHAIN_OP_EXPORT, NULL, 3, "stream 4..2"));
	assert_true(shared(DM_CHAIN_OP_EXPORT, NULL, 1, "snapshot"));
	assert_true(shared(DM_CHAIN_OP_EXPORT, NULL, 2, "commit 6>5"));
}

/* Jobs as layers and edges: what they change or drop, what they hang on. */
struct shape {
	u32 first, last;	/* changed or dropped */
	u32 edge;		/* overlay; NR: none */
	u32 base;		/* of a commit; NR: none */
};

static struct shape shape_of(const struct op *o)
{
	if (o->op == DM_CHAIN_OP_STREAM)
		return (struct shape){ o->top, o->base - 1, NR, NR };
	return (struct shape){ o->top, o->base, o->top ? o->top - 1 : NR, o->base };
}

static bool has(const struct shape *s, u32 i)
{
	return i >= s->first && i <= s->last;
}

/* An overlay stays where it is, and may be written: as the base of a commit. */
static bool edge_fits(const struct shape *a, const struct shape *b)
{
	return a->edge == NR || !has(b, a->edge) || a->edge == b->base;
}

static bool oracle(const struct op *x, const struct op *y)
{
	struct shape a = shape_of(x), b = shape_of(y);

	return (a.last < b.first || b.last < a.first) && edge_fits(&a, &b) &&
	       edge_fits(&b, &a);
}

/* Every job with a range that the chain has room for. */
static unsigned int all_ranges(struct op *ops)
{
	static const u32 kinds[] = { DM_CHAIN_OP_COMMIT, DM_CHAIN_OP_STREAM };
	unsigned int n = 0;
	u32 kind, top, base;

	for (kind = 0; kind < ARRAY_SIZE(kinds); kind++)
		for (top = 0; top < NR; top++)
			for (base = 0; base <= NR; base++) {
				ops[n] = (struct op){ .op = kinds[kind], .top = top,
						      .base = base };
				n += !plan(&ops[n]);
			}
	return n;
}

static void all_ranges_as_the_oracle_says(void **state)
{
	struct op ops[2 * NR * (NR + 1) + 1];
	unsigned int i, j, n = all_ranges(ops), yes = 0;

	(void)state;
	assert_int_equal(n, 2 * (NR * (NR - 1) / 2));
	for (i = 0; i < n; i++) {
		assert_true(fits(NULL, &ops[i]));
		for (j = 0; j < n; j++) {
			bool want = oracle(&ops[i], &ops[j]);

			yes += want;
			if (fits(&ops[i], &ops[j]) != want)
				fail_msg("%s %u..%u beside %s %u..%u: should be %s",
					 chain_perm_op_name(ops[j].op), ops[j].top,
					 ops[j].base, chain_perm_op_name(ops[i].op),
					 ops[i].top, ops[i].base,
					 want ? "allowed" : "refused");
		}
	}
	assert_in_range(yes, 1, n * n - 1);
}

/* Every operation at every place, against every other: order never matters. */
static unsigned int all_operations(struct op *ops)
{
	unsigned int n = 0;
	u32 op, top, base;

	for (op = 0; op < DM_CHAIN_OP_NR; op++)
		for (top = 0; top < NR; top++)
			for (base = 0; base <= NR; base++) {
				bool ranged = op == DM_CHAIN_OP_COMMIT ||
					      op == DM_CHAIN_OP_ACTIVE_COMMIT ||
					      op == DM_CHAIN_OP_STREAM;

				if (!ranged && base)
					break;
				ops[n] = (struct op){ .op = op, .top = top,
						      .base = base };
				n += !plan(&ops[n]);
			}
	return n;
}

static void order_never_matters(void **state)
{
	static struct op ops[DM_CHAIN_OP_NR * NR * (NR + 1) + 1];
	unsigned int i, j, n = all_operations(ops);

	(void)state;
	for (i = 0; i < n; i++)
		for (j = 0; j < n; j++)
			assert_int_equal(fits(&ops[i], &ops[j]),
					 fits(&ops[j], &ops[i]));
}

static void random_masks_are_symmetric(void **state)
{
	unsigned int i;

	(void)state;
	for (i = 0; i < 100000; i++) {
		u32 m[4] = { rng() & 63, rng() & 63, rng() & 63, rng() & 63 };
		struct chain_perm_clash c =
			chain_perm_conflict(m[0], m[1], m[2], m[3]);
		struct chain_perm_clash d =
			chain_perm_conflict(m[2], m[3], m[0], m[1]);

		assert_int_equal(c.wanted, d.held);
		assert_int_equal(c.held, d.wanted);
		assert_int_equal(c.wanted & (m[1] | ~m[2]), 0);
		assert_int_equal(chain_perm_clashes(c),
				 (m[2] & m[1]) != m[2] || (m[0] & m[3]) != m[0]);
	}
}

/*
 * All pairs of rows that go together, each under the upper of the two: NULL is
 * every row. Whoever changes a mask has to say here what that changes.
 */
static const char * const beside[][2] = {
	{ "guest.active",
	  "guest.through snapshot.top resize.active commit.overlay active-"
	  "commit.active stream.into mirror.source copy-layer.overlay" },
	{ "guest.lower",
	  "guest.lower guest.through export.top export.lower snapshot.top "
	  "commit.overlay stream.source mirror.source copy-layer.layer copy-"
	  "layer.overlay rebase.parent create.backing check.layer "
	  "compare.layer" },
	{ "guest.through",
	  NULL },
	{ "export.top",
	  "export.top export.lower snapshot.top commit.overlay stream.source "
	  "mirror.source copy-layer.layer copy-layer.overlay rebase.parent "
	  "create.backing check.layer compare.layer" },
	{ "export.lower",
	  "export.lower snapshot.top commit.overlay stream.source "
	  "mirror.source copy-layer.layer copy-layer.overlay rebase.parent "
	  "create.backing check.layer compare.layer" },
	{ "snapshot.top",
	  "snapshot.top resize.active commit.base commit.overlay active-"
	  "commit.base stream.into stream.source copy-layer.layer copy-"
	  "layer.overlay rebase.parent create.backing check.layer "
	  "compare.layer" },
	{ "resize.active",
	  "commit.overlay stream.into copy-layer.overlay" },
	{ "commit.base",
	  "commit.overlay copy-layer.overlay" },
	{ "commit.overlay",
	  "active-commit.base rebase.parent create.backing check.layer "
	  "compare.layer" },
	{ "active-commit.base",
	  "copy-layer.overlay" },
	{ "stream.source",
	  "stream.source rebase.parent create.backing check.layer "
	  "compare.layer" },
	{ "mirror.source",
	  "mirror.source copy-layer.layer rebase.parent check.layer "
	  "compare.layer" },
	{ "copy-layer.layer",
	  "copy-layer.layer copy-layer.overlay rebase.parent create.backing "
	  "check.layer compare.layer" },
	{ "copy-layer.overlay",
	  "copy-layer.overlay rebase.parent create.backing check.layer "
	  "compare.layer" },
	{ "rebase.parent",
	  "rebase.parent create.backing check.layer compare.layer" },
	{ "create.backing",
	  "create.backing check.layer compare.layer" },
	{ "check.layer",
	  "check.layer compare.layer" },
	{ "compare.layer",
	  "compare.layer" },
};

static void row_name(u32 row, char *name)
{
	const struct chain_perm_rule *r = chain_perm_rule(row);

	sprintf(name, " %s.%s ", chain_perm_op_name(r->op), r->role);
}

static bool listed(const char *a, const char *b)
{
	char list[1024];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(beside); i++) {
		if (strlen(a) != strlen(beside[i][0]) + 2 ||
		    strncmp(a + 1, beside[i][0], strlen(beside[i][0])))
			continue;
		snprintf(list, sizeof(list), " %s ", beside[i][1] ?: b);
		return strstr(list, b);
	}
	return false;
}

static void rows_go_together_as_listed(void **state)
{
	char names[2][40];
	u32 a, b;

	(void)state;
	for (a = 1; a < DM_CHAIN_OPROLE_NR; a++)
		for (b = 1; b < DM_CHAIN_OPROLE_NR; b++) {
			row_name(a, names[0]);
			row_name(b, names[1]);
			if (clash(a, b) == (listed(names[0], names[1]) ||
					    listed(names[1], names[0])))
				fail_msg("%s and %s: %s", names[0], names[1],
					 clash(a, b) ? "refused" : "allowed");
		}
}

/* Two jobs never change one layer. */
static void one_job_changes_a_layer(void **state)
{
	const u32 change = DM_CHAIN_PERM_W | DM_CHAIN_PERM_WU | DM_CHAIN_PERM_RS;
	u32 a, b;

	(void)state;
	for (a = 1; a < DM_CHAIN_OPROLE_NR; a++)
		for (b = 1; b < DM_CHAIN_OPROLE_NR; b++) {
			if (!(chain_perm_rule(a)->require & change) ||
			    !(chain_perm_rule(b)->require & change) ||
			    chain_perm_rule(a)->op == DM_CHAIN_OP_GUEST ||
			    chain_perm_rule(b)->op == DM_CHAIN_OP_GUEST)
				continue;
			/* To grow a layer is not to write into it. */
			if ((a == DM_CHAIN_OPROLE_RESIZE_ACTIVE) !=
			    (b == DM_CHAIN_OPROLE_RESIZE_ACTIVE))
				continue;
			if (!clash(a, b))
				fail_msg("rows %u and %u go together", a, b);
		}
}

static void rows_and_names(void **state)
{
	u32 i;

	(void)state;
	assert_null(chain_perm_rule(DM_CHAIN_OPROLE_NONE));
	assert_null(chain_perm_rule(DM_CHAIN_OPROLE_NR));
	assert_null(chain_perm_rule(~0U));
	for (i = 1; i < DM_CHAIN_OPROLE_NR; i++) {
		const struct chain_perm_rule *r = chain_perm_rule(i);

		assert_in_range(r->op, 1, DM_CHAIN_OP_NR - 1);
		assert_true(i == 1 || r->op >= chain_perm_rule(i - 1)->op);
		assert_int_equal((r->require | r->allow) & ~DM_CHAIN_PERM_ALL, 0);
		assert_true(*r->role);
	}
	assert_null(chain_perm_op_name(DM_CHAIN_OP_NONE));
	assert_null(chain_perm_op_name(DM_CHAIN_OP_NR));
	for (i = 1; i < DM_CHAIN_OP_NR; i++)
		assert_int_equal(chain_perm_op(chain_perm_op_name(i)), i);
	assert_int_equal(chain_perm_op("map"), DM_CHAIN_OP_NONE);
	for (i = 1; i <= DM_CHAIN_PERM_ALL; i <<= 1)
		assert_int_equal(chain_perm(chain_perm_name(i)), i);
	assert_int_equal(chain_perm("write-unchanged"), DM_CHAIN_PERM_WU);
	assert_int_equal(chain_perm("writ"), 0);
	assert_null(chain_perm_name(0));
	assert_null(chain_perm_name(3));
	assert_null(chain_perm_name(64));
}

/* Numbers that are in use out there. */
static void numbers_stay(void **state)
{
	(void)state;
	assert_int_equal(DM_CHAIN_OP_GUEST, 1);
	assert_int_equal(DM_CHAIN_OP_COMPARE, 17);
	assert_int_equal(DM_CHAIN_OPROLE_GUEST_ACTIVE, 1);
	assert_int_equal(DM_CHAIN_OPROLE_SNAPSHOT_TOP, 7);
	assert_int_equal(DM_CHAIN_OPROLE_STREAM_INTO, 15);
	assert_int_equal(DM_CHAIN_OPROLE_COMPARE_LAYER, 30);
	assert_int_equal(sizeof(struct dm_chain_holder), 184);
	assert_int_equal(sizeof(struct dm_chain_holders), 56);
	assert_int_equal(sizeof(struct dm_chain_conflict), 200);
	assert_int_equal(sizeof(struct dm_chain_acquire), 240);
	assert_int_equal(sizeof(struct dm_chain_event), 56);
}

static void plans_of_nonsense(void **state)
{
	static const struct op bad[] = {
		{ .op = DM_CHAIN_OP_NONE },
		{ .op = DM_CHAIN_OP_NR },
		{ .op = ~0U },
		{ .op = DM_CHAIN_OP_CHECK, .top = NR },
		{ .op = DM_CHAIN_OP_CHECK, .top = ~0U },
		{ .op = DM_CHAIN_OP_SNAPSHOT, .top = 1 },
		{ .op = DM_CHAIN_OP_RESIZE, .top = 1 },
		{ .op = DM_CHAIN_OP_MIRROR, .top = 1 },
		{ .op = DM_CHAIN_OP_GUEST, .top = 1 },
		{ .op = DM_CHAIN_OP_EXPORT, .top = 1 },
		{ .op = DM_CHAIN_OP_COMMIT, .top = 1, .base = 1 },
		{ .op = DM_CHAIN_OP_COMMIT, .top = 2, .base = 1 },
		{ .op = DM_CHAIN_OP_COMMIT, .top = 1, .base = NR },
		{ .op = DM_CHAIN_OP_COMMIT, .top = 0, .base = ~0U },
		{ .op = DM_CHAIN_OP_COMMIT, .top = TOP, .base = TOP },
		{ .op = DM_CHAIN_OP_ACTIVE_COMMIT, .top = 1, .base = 2 },
		{ .op = DM_CHAIN_OP_ACTIVE_COMMIT, .top = 0, .base = 0 },
		{ .op = DM_CHAIN_OP_STREAM, .top = 1, .base = 0 },
		{ .op = DM_CHAIN_OP_STREAM, .top = 1, .base = 1 },
		{ .op = DM_CHAIN_OP_STREAM, .top = 1, .base = 2 },
		{ .op = DM_CHAIN_OP_STREAM, .top = 1, .base = NR + 1 },
		{ .op = DM_CHAIN_OP_STREAM, .top = 1, .base = ~0U },
		{ .op = DM_CHAIN_OP_STREAM, .top = TOP, .base = NR },
	};
	u32 row;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		struct op o = bad[i];

		assert_int_equal(plan(&o), -EINVAL);
	}
	assert_int_equal(chain_perm_plan(DM_CHAIN_OP_CHECK, 0, 0, 0, &row), -EINVAL);
}

static void expect_rows(const char *text, const u32 *rows)
{
	struct op o = parse(text);
	u32 i;

	for (i = 0; i < NR; i++)
		if (o.rows[i] != rows[i])
			fail_msg("%s: layer %u has row %u, not %u", text, i,
				 o.rows[i], rows[i]);
}

#define ROW(r)	DM_CHAIN_OPROLE_##r

static void plans(void **state)
{
	(void)state;
	expect_rows("commit 4>2", (const u32[NR]){
		0, ROW(COMMIT_OVERLAY), ROW(COMMIT_RANGE), ROW(COMMIT_RANGE),
		ROW(COMMIT_BASE), 0, 0 });
	expect_rows("commit 6>4", (const u32[NR]){
		ROW(ACTIVE_COMMIT_ACTIVE), ROW(ACTIVE_COMMIT_RANGE),
		ROW(ACTIVE_COMMIT_BASE), 0, 0, 0, 0 });
	expect_rows("active-commit 6>5", (const u32[NR]){
		ROW(ACTIVE_COMMIT_ACTIVE), ROW(ACTIVE_COMMIT_BASE), 0, 0, 0, 0, 0 });
	expect_rows("stream 3..1", (const u32[NR]){
		0, 0, 0, ROW(STREAM_INTO), ROW(STREAM_SOURCE), ROW(STREAM_SOURCE),
		0 });
	expect_rows("stream 1..0", (const u32[NR]){
		0, 0, 0, 0, 0, ROW(STREAM_INTO), ROW(STREAM_SOURCE) });
	expect_rows("snapshot", (const u32[NR]){ ROW(SNAPSHOT_TOP) });
	expect_rows("mirror", (const u32[NR]){ ROW(MIRROR_SOURCE) });
	expect_rows("copy-layer 5", (const u32[NR]){
		ROW(COPY_LAYER_OVERLAY), ROW(COPY_LAYER_LAYER) });
	expect_rows("copy-layer 6", (const u32[NR]){ ROW(COPY_LAYER_LAYER) });
	expect_rows("rebase 5", (const u32[NR]){
		0, ROW(REBASE_LAYER), ROW(REBASE_PARENT) });
	expect_rows("rebase 0", (const u32[NR]){
		0, 0, 0, 0, 0, 0, ROW(REBASE_LAYER) });
	expect_rows("unseal 0", (const u32[NR]){
		0, 0, 0, 0, 0, 0, ROW(UNSEAL_LAYER) });
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_and_names),
		cmocka_unit_test(numbers_stay),
		cmocka_unit_test(plans),
		cmocka_unit_test(plans_of_nonsense),
		cmocka_unit_test(what_runs_together),
		cmocka_unit_test(what_a_guest_leaves),
		cmocka_unit_test(disks_that_share_layers),
		cmocka_unit_test(all_ranges_as_the_oracle_says),
		cmocka_unit_test(order_never_matters),
		cmocka_unit_test(rows_go_together_as_listed),
		cmocka_unit_test(one_job_changes_a_layer),
		cmocka_unit_test(random_masks_are_symmetric),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
