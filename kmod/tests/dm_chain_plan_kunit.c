// SPDX-License-Identifier: GPL-2.0-only
/*
 * Suite for the plans of jobs: what is copied, zeroed and kept so that a layer
 * can take in a part of a disk. The disk is an array: what is wanted at each
 * unit of 4 KiB, and from where; the plan is judged by what it would make of
 * each unit.
 */
#include <kunit/test.h>
#include <linux/module.h>
#include <linux/prandom.h>
#include <linux/vmalloc.h>

#include "../dm-chain-job.h"

#define UNIT	CHAIN_UNIT_SECTORS
#define UNITS	4096U
#define LAYERS	4

enum fate { KEPT, ZEROED, FROM_0, FILL = 100, UNTOLD = 200 };

struct fixture {
	struct chain_job job;		/* first: the callbacks get it */
	struct chain_plan plan;
	struct chain_layer layer;
	struct chain_att to;
	struct chain_att from[LAYERS];
	struct chain_att below;
	u8 want[UNITS];			/* KEPT, ZEROED, FROM_0 + i; UNTOLD: bad */
	bool fill_zero[UNITS];		/* what lies below: zeroes, or data */
	u8 made[UNITS];
};

static struct fixture *of(struct chain_job *job)
{
	return container_of(job, struct fixture, job);
}

static sector_t run_of(const u8 *list, sector_t sector, sector_t max)
{
	sector_t into = sector % UNIT;
	u64 first = sector / UNIT, i = first;

	while (i < UNITS && list[i] == list[first] &&
	       (i - first) * UNIT < into + max)
		i++;
	return min(max, (i - first) * UNIT - into);
}

static sector_t want(struct chain_job *job, sector_t sector, sector_t max,
		     enum chain_want *w, struct chain_att **from)
{
	struct fixture *f = of(job);
	u8 what = f->want[sector / UNIT];

	*w = what == KEPT ? CHAIN_WANT_KEEP : what == ZEROED ? CHAIN_WANT_ZERO :
	     what == UNTOLD ? CHAIN_WANT_BAD : CHAIN_WANT_COPY;
	if (*w == CHAIN_WANT_COPY)
		*from = &f->from[what - FROM_0];
	return run_of(f->want, sector, max);
}

static sector_t fill(struct chain_job *job, sector_t sector, sector_t max,
		     enum chain_want *w, struct chain_att **from)
{
	struct fixture *f = of(job);

	*w = f->fill_zero[sector / UNIT] ? CHAIN_WANT_ZERO : CHAIN_WANT_COPY;
	*from = &f->below;
	return min(max, UNIT - sector % UNIT);
}

static void fixture_exit(void *p)
{
	struct fixture *f = p;

	if (f->layer.format == DM_CHAIN_FORMAT_CHAIN)
		chain_statemap_exit(&f->layer.map);
	vfree(f);
}

/* A target with blocks of @shift (of bytes), all absent. */
static struct fixture *make(struct kunit *test, unsigned int shift, sector_t size)
{
	struct fixture *f = vzalloc(sizeof(*f));
	u64 blocks;

	KUNIT_ASSERT_NOT_NULL(test, f);
	f->layer.format = DM_CHAIN_FORMAT_CHAIN;
	f->layer.block_sectors_shift = shift - SECTOR_SHIFT;
	f->layer.size = size;
	blocks = sector_to_block(&f->layer, size + block_sectors(&f->layer) - 1);
	KUNIT_ASSERT_EQ(test, chain_statemap_init(&f->layer.map, blocks), 0);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, fixture_exit, f), 0);
	f->to.layer = &f->layer;
	f->plan.want = want;
	f->plan.fill = fill;
	f->plan.job = &f->job;
	f->plan.to = &f->to;
	f->plan.size = size;
	f->plan.grain = block_sectors(&f->layer);
	return f;
}

static void state(struct kunit *test, struct fixture *f, u64 block,
		  unsigned int s)
{
	KUNIT_ASSERT_EQ(test, chain_statemap_prepare(&f->layer.map, block, 1, s,
						     GFP_KERNEL), 0);
	chain_statemap_set(&f->layer.map, block, 1, s);
}

static int plan(struct fixture *f, sector_t start, sector_t end)
{
	f->plan.start = start;
	f->plan.end = end;
	return chain_plan_make(&f->plan);
}

/* What each unit of the target is once the plan is done. */
static void carry_out(struct kunit *test, struct fixture *f)
{
	const struct chain_plan *p = &f->plan;
	unsigned int i;
	sector_t s;

	memset(f->made, KEPT, sizeof(f->made));
	for (i = 0; i < p->nr; i++) {
		const struct chain_piece *piece = &p->piece[i];

		KUNIT_ASSERT_GE(test, piece->sector, p->start);
		KUNIT_ASSERT_LE(test, piece->sector + piece->n, p->end);
		KUNIT_ASSERT_LE(test, piece->n, CHAIN_PIECE_SECTORS);
		for (s = piece->sector; s < piece->sector + piece->n; s += UNIT)
			f->made[s / UNIT] = !piece->from ? ZEROED :
				piece->from == &f->below ? FILL :
				FROM_0 + (piece->from - f->from);
	}
}

static bool bit(const unsigned long *bits, const struct fixture *f, u64 block)
{
	return test_bit(block - sector_to_block(&f->layer, f->plan.start), bits);
}

/* Does a block hold what is wanted, and say so? */
static void judge_block(struct kunit *test, struct fixture *f, u64 block)
{
	unsigned int per = block_sectors(&f->layer) / UNIT, i;
	unsigned int was = chain_statemap_get(&f->layer.map, block);
	bool data = bit(f->plan.data, f, block), zero = bit(f->plan.zero, f, block);
	unsigned int kept = 0, zeroes = 0;

	for (i = block * per; i < (block + 1) * per; i++) {
		kept += f->want[i] == KEPT;
		zeroes += f->want[i] == ZEROED;
	}
	KUNIT_EXPECT_EQ_MSG(test, data, kept < per && zeroes < per, "block %llu", block);
	KUNIT_EXPECT_EQ_MSG(test, zero, zeroes == per, "block %llu", block);
	for (i = block * per; i < (block + 1) * per; i++) {
		u8 expected = f->want[i];

		if (!data)
			expected = KEPT;
		else if (f->want[i] == KEPT && was == DM_CHAIN_ZERO)
			expected = ZEROED;
		else if (f->want[i] == KEPT && was == DM_CHAIN_ABSENT)
			expected = f->fill_zero[i] ? ZEROED : FILL;
		KUNIT_EXPECT_EQ_MSG(test, f->made[i], expected, "unit %u", i);
	}
}

static void judge(struct kunit *test, struct fixture *f)
{
	u64 block;

	carry_out(test, f);
	for (block = sector_to_block(&f->layer, f->plan.start);
	     block < sector_to_block(&f->layer, f->plan.end); block++)
		judge_block(test, f, block);
}

static void plan_runs(struct kunit *test)
{
	struct fixture *f = make(test, 12, UNITS * UNIT);

	memset(f->want, FROM_0, 1000);
	memset(f->want + 1000, ZEROED, 24);
	memset(f->want + 1500, FROM_0 + 1, 5);
	memset(f->want + 1505, FROM_0 + 2, 1);
	KUNIT_EXPECT_EQ(test, plan(f, 0, 2048 * UNIT), 0);
	KUNIT_EXPECT_EQ(test, f->plan.end, 2048 * UNIT);
	judge(test, f);
	/* 1000 units are 4 pieces of 1 MiB; zeroes are no work */
	KUNIT_EXPECT_EQ(test, f->plan.nr, 6U);
	KUNIT_EXPECT_EQ(test, f->plan.bytes, 1006ULL * 4096);
	KUNIT_EXPECT_EQ(test, bitmap_weight(f->plan.data, CHAIN_PLAN_BLOCKS), 1006);
	KUNIT_EXPECT_EQ(test, bitmap_weight(f->plan.zero, CHAIN_PLAN_BLOCKS), 24);
}

/* Blocks of 64 KiB over units of 4: what the block has decides what is filled. */
static void plan_parts(struct kunit *test)
{
	struct fixture *f = make(test, 16, UNITS * UNIT);

	f->want[3] = FROM_0;		/* block 0: absent, filled */
	f->fill_zero[7] = true;
	f->want[16 + 5] = ZEROED;	/* block 1: zero there already */
	state(test, f, 1, DM_CHAIN_ZERO);
	f->want[32 + 1] = FROM_0 + 1;	/* block 2: data there already */
	state(test, f, 2, DM_CHAIN_DATA);
	memset(f->want + 48, ZEROED, 16);	/* block 3: zero as a whole */
	KUNIT_EXPECT_EQ(test, plan(f, 0, 64 * UNIT * 16), 0);
	judge(test, f);
	KUNIT_EXPECT_FALSE(test, bit(f->plan.data, f, 4));
}

/* The end of the disk cuts a block: it is filled up with zeroes. */
static void plan_tail(struct kunit *test)
{
	sector_t size = 16 * UNIT * 2 + 3 * UNIT + 5;
	struct fixture *f = make(test, 16, size);

	memset(f->want, FROM_0, UNITS);
	KUNIT_EXPECT_EQ(test, plan(f, 0, 16 * UNIT * 3), 0);
	KUNIT_EXPECT_EQ(test, f->plan.end, 16 * UNIT * 3);
	KUNIT_EXPECT_EQ(test, bitmap_weight(f->plan.data, CHAIN_PLAN_BLOCKS), 3);
	KUNIT_ASSERT_EQ(test, f->plan.nr, 2U);
	KUNIT_EXPECT_EQ(test, f->plan.piece[0].n, size);
	KUNIT_EXPECT_NULL(test, f->plan.piece[1].from);
	KUNIT_EXPECT_EQ(test, f->plan.piece[1].sector, size);
	KUNIT_EXPECT_EQ(test, f->plan.piece[1].n, 16 * UNIT * 3 - size);
}

/* More pieces than there is room for: cut where the grain ends. */
static void plan_full(struct kunit *test)
{
	struct fixture *f = make(test, 12, UNITS * UNIT);
	unsigned int i;

	for (i = 0; i < UNITS; i++)
		f->want[i] = FROM_0 + i % 2;
	f->plan.grain = 256 * UNIT;
	KUNIT_EXPECT_EQ(test, plan(f, 0, 2048 * UNIT), 0);
	KUNIT_EXPECT_EQ(test, f->plan.end, 1024 * UNIT);
	KUNIT_EXPECT_EQ(test, f->plan.nr, CHAIN_PIECES);
	judge(test, f);
	memset(f->want, KEPT, 2);
	KUNIT_EXPECT_EQ(test, plan(f, 0, 2048 * UNIT), 0);
	KUNIT_EXPECT_EQ(test, f->plan.end, 1024 * UNIT);
	KUNIT_EXPECT_EQ(test, bitmap_weight(f->plan.data, CHAIN_PLAN_BLOCKS), 1022);
	judge(test, f);
}

static void plan_bad(struct kunit *test)
{
	struct fixture *f = make(test, 16, UNITS * UNIT);

	f->want[100] = UNTOLD;
	KUNIT_EXPECT_EQ(test, plan(f, 0, 64 * UNIT), 0);
	KUNIT_EXPECT_EQ(test, plan(f, 64 * UNIT, 128 * UNIT), -EIO);
	/* A block of the target that is lost itself */
	f->want[200] = FROM_0;
	state(test, f, 200 / 16, DM_CHAIN_DAMAGED);
	KUNIT_EXPECT_EQ(test, plan(f, 192 * UNIT, 208 * UNIT), -EIO);
}

/* Nothing goes into blocks of the target that are lost, not as a whole either. */
static void plan_lost(struct kunit *test)
{
	struct fixture *f = make(test, 16, UNITS * UNIT);

	state(test, f, 5, DM_CHAIN_DAMAGED);
	KUNIT_EXPECT_EQ(test, plan(f, 0, 256 * UNIT), 0);
	memset(f->want + 3 * 16, FROM_0, 5 * 16);
	KUNIT_EXPECT_EQ(test, plan(f, 0, 256 * UNIT), -EIO);
	KUNIT_EXPECT_EQ(test, plan(f, 6 * 16 * UNIT, 256 * UNIT), 0);
	KUNIT_EXPECT_EQ(test, plan(f, 0, 5 * 16 * UNIT), 0);
	memset(f->want + 3 * 16, ZEROED, 5 * 16);
	KUNIT_EXPECT_EQ(test, plan(f, 0, 256 * UNIT), -EIO);
	memset(f->want + 3 * 16, KEPT, 5 * 16);
	f->want[5 * 16 + 1] = ZEROED;
	KUNIT_EXPECT_EQ(test, plan(f, 0, 256 * UNIT), -EIO);
	f->want[5 * 16 + 1] = KEPT;
	KUNIT_EXPECT_EQ(test, plan(f, 0, 256 * UNIT), 0);
}

static void plan_raw(struct kunit *test)
{
	struct fixture *f = make(test, 12, UNITS * UNIT);

	chain_statemap_exit(&f->layer.map);
	f->layer.format = DM_CHAIN_FORMAT_RAW;
	f->want[1] = FROM_0;
	f->want[2] = ZEROED;
	KUNIT_EXPECT_EQ(test, plan(f, 0, 64 * UNIT), 0);
	carry_out(test, f);
	KUNIT_EXPECT_EQ(test, f->made[0], KEPT);
	KUNIT_EXPECT_EQ(test, f->made[1], FROM_0);
	KUNIT_EXPECT_EQ(test, f->made[2], ZEROED);
	KUNIT_EXPECT_EQ(test, f->plan.nr, 2U);
	KUNIT_EXPECT_TRUE(test, bitmap_empty(f->plan.data, CHAIN_PLAN_BLOCKS));
}

static void plan_random(struct kunit *test)
{
	struct rnd_state rnd;
	unsigned int round, i;

	prandom_seed_state(&rnd, 7);
	for (round = 0; round < 60; round++) {
		struct fixture *f = make(test, 12 + round % 5, UNITS * UNIT);
		u64 block;

		for (i = 0; i < UNITS; ) {
			u32 n = 1 + prandom_u32_state(&rnd) % 40;
			u8 what = prandom_u32_state(&rnd) % (FROM_0 + LAYERS);

			for (; n-- && i < UNITS; i++) {
				f->want[i] = what;
				f->fill_zero[i] = prandom_u32_state(&rnd) % 2;
			}
		}
		for (block = 0; block < f->layer.map.blocks; block++)
			state(test, f, block, prandom_u32_state(&rnd) % 3);
		f->plan.grain = 256 * UNIT;
		KUNIT_EXPECT_EQ(test, plan(f, 256 * UNIT, UNITS * UNIT), 0);
		judge(test, f);
	}
}

static struct kunit_case cases[] = {
	KUNIT_CASE(plan_runs),
	KUNIT_CASE(plan_parts),
	KUNIT_CASE(plan_tail),
	KUNIT_CASE(plan_full),
	KUNIT_CASE(plan_bad),
	KUNIT_CASE(plan_lost),
	KUNIT_CASE(plan_raw),
	KUNIT_CASE(plan_random),
	{}
};

static struct kunit_suite suite = {
	.name = "dm_chain_plan",
	.test_cases = cases,
};

kunit_test_suite(suite);

MODULE_DESCRIPTION("KUnit suite of dm-chain: plans of jobs");
MODULE_LICENSE("GPL");
