// SPDX-License-Identifier: GPL-2.0-only
/*
 * Suite for the state map of a layer in memory, against an array of states.
 */
#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/prandom.h>
#include <linux/sched.h>

#include "../dm-chain-statemap.h"

#define ENTRY	CHAIN_PAGE_BLOCKS
#define GROUP	DM_CHAIN_GROUP_BLOCKS

struct fixture {
	struct chain_statemap map;
	u8 *model;
	u64 words[CHAIN_PAGE_WORDS];
};

/* A map of @blocks whose model has room for @max. */
static struct fixture *make_map_to_grow(struct kunit *test, u64 blocks, u64 max)
{
	struct fixture *f = kunit_kzalloc(test, sizeof(*f), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, f);
	f->model = kunit_kzalloc(test, max, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, f->model);
	KUNIT_ASSERT_EQ(test, chain_statemap_init(&f->map, blocks), 0);
	return f;
}

static struct fixture *make_map(struct kunit *test, u64 blocks)
{
	return make_map_to_grow(test, blocks, blocks);
}

static void grow(struct kunit *test, struct fixture *f, u64 blocks)
{
	unsigned long *dir = chain_statemap_grow_alloc(blocks);

	KUNIT_ASSERT_NOT_NULL(test, dir);
	chain_statemap_grow(&f->map, blocks, dir);
	KUNIT_ASSERT_EQ(test, f->map.blocks, blocks);
}

/* As a writer does it; a damaged block stays so. */
static void change(struct kunit *test, struct fixture *f, u64 block, u64 n,
		   unsigned int state)
{
	u64 i;

	KUNIT_ASSERT_EQ(test, chain_statemap_prepare(&f->map, block, n, state,
						     GFP_KERNEL), 0);
	chain_statemap_set(&f->map, block, n, state);
	for (i = block; i < block + n; i++)
		if (f->model[i] != DM_CHAIN_DAMAGED)
			f->model[i] = state;
}

static u64 model_run(const struct fixture *f, u64 block, u64 max)
{
	u64 i = block;

	while (i < block + max && f->model[i] == f->model[block])
		i++;
	return i - block;
}

static void check_states(struct kunit *test, const struct fixture *f)
{
	u64 i;

	for (i = 0; i < f->map.blocks; i++)
		if (chain_statemap_get(&f->map, i) != f->model[i])
			break;
	KUNIT_ASSERT_EQ(test, i, f->map.blocks);
}

/* All runs, from first to last, and what is left of each from its middle. */
static void check_runs(struct kunit *test, const struct fixture *f)
{
	unsigned int state;
	u64 at, left, want;

	for (at = 0; at < f->map.blocks; at += want) {
		left = f->map.blocks - at;
		want = model_run(f, at, left);
		KUNIT_ASSERT_EQ(test, chain_statemap_run(&f->map, at, left,
							 &state), want);
		KUNIT_ASSERT_EQ(test, state, f->model[at]);
		KUNIT_ASSERT_EQ(test, chain_statemap_run(&f->map, at + want / 2,
							 left - want / 2,
							 &state),
				want - want / 2);
		KUNIT_ASSERT_EQ(test, chain_statemap_run(&f->map, at,
							 min(left, 7ULL),
							 &state),
				min(want, 7ULL));
	}
}

static void check_count(struct kunit *test, const struct fixture *f)
{
	u64 want[4] = {}, count[4], i;

	for (i = 0; i < f->map.blocks; i++)
		want[f->model[i]]++;
	chain_statemap_count(&f->map, count);
	KUNIT_EXPECT_MEMEQ(test, count, want, sizeof(want));
}

/* A group's sectors have what the group has. */
static void check_sectors(struct kunit *test, struct fixture *f, u64 group)
{
	u64 words[CHAIN_SECTOR_WORDS];
	unsigned int i;

	for (i = 0; i < DM_CHAIN_GROUP_SECTORS; i++) {
		memset(words, 0xee, sizeof(words));
		chain_statemap_read_sector(&f->map, group * DM_CHAIN_GROUP_SECTORS + i,
					   words);
		KUNIT_EXPECT_MEMEQ(test, words, f->words + i * CHAIN_SECTOR_WORDS,
				   sizeof(words));
	}
}

/* Groups as they go to disk; beyond the end there is nothing. */
static void check_groups(struct kunit *test, struct fixture *f)
{
	u64 groups = round_up(f->map.blocks, ENTRY) / GROUP;
	u64 g, i, block;

	for (g = 0; g < groups; g++) {
		memset(f->words, 0xee, sizeof(f->words));
		chain_statemap_read_group(&f->map, g, f->words);
		for (i = 0; i < GROUP; i++) {
			block = g * GROUP + i;
			if (chain_state_get(f->words, i) !=
			    (block < f->map.blocks ? f->model[block] :
						     DM_CHAIN_ABSENT))
				break;
		}
		KUNIT_EXPECT_EQ_MSG(test, i, GROUP, "group %llu", g);
		check_sectors(test, f, g);
	}
}

static void check_all(struct kunit *test, struct fixture *f)
{
	check_states(test, f);
	check_runs(test, f);
	check_count(test, f);
	check_groups(test, f);
}

static void map_empty(struct kunit *test)
{
	struct fixture *f = make_map(test, 2 * ENTRY + 1);

	check_all(test, f);
	KUNIT_EXPECT_EQ(test, chain_statemap_bytes(&f->map),
			3 * sizeof(unsigned long));
	chain_statemap_exit(&f->map);
	KUNIT_EXPECT_NULL(test, f->map.dir);
	chain_statemap_exit(&f->map);
}

/* Borders of words, groups, entries and of the map. */
static void map_borders(struct kunit *test)
{
	static const u64 at[] = {
		0, 1, 31, 32, 33, GROUP - 1, GROUP, ENTRY - 1, ENTRY,
		ENTRY + 32, 2 * ENTRY - 1, 2 * ENTRY, 2 * ENTRY + 99
	};
	const u64 blocks = 2 * ENTRY + 100;
	struct fixture *f = make_map(test, blocks);
	unsigned int i, j, state = 0;

	for (i = 0; i < ARRAY_SIZE(at); i++) {
		for (j = i; j < ARRAY_SIZE(at); j++) {
			state = (state + 1) % 3;
			change(test, f, at[i], at[j] + 1 - at[i], state);
			check_states(test, f);
		}
		check_all(test, f);
	}
	change(test, f, 0, blocks, DM_CHAIN_ZERO);
	check_all(test, f);
	chain_statemap_exit(&f->map);
}

/* What is the same all over an entry takes no page, but for the last one. */
static void map_whole_entries(struct kunit *test)
{
	struct fixture *f = make_map(test, 4 * ENTRY + 10);
	size_t dir = 5 * sizeof(unsigned long) + PAGE_SIZE;

	change(test, f, 0, 4 * ENTRY + 10, DM_CHAIN_DATA);
	check_all(test, f);
	KUNIT_EXPECT_EQ(test, chain_statemap_bytes(&f->map), dir);
	/* The same again in part, too. */
	change(test, f, 5, 100, DM_CHAIN_DATA);
	KUNIT_EXPECT_EQ(test, chain_statemap_bytes(&f->map), dir);
	change(test, f, ENTRY + 5, 1, DM_CHAIN_ZERO);
	KUNIT_EXPECT_EQ(test, chain_statemap_bytes(&f->map), dir + PAGE_SIZE);
	change(test, f, 4 * ENTRY, 10, DM_CHAIN_ABSENT);
	check_all(test, f);
	KUNIT_EXPECT_EQ(test, chain_statemap_bytes(&f->map), dir + PAGE_SIZE);
	chain_statemap_exit(&f->map);
}

/* @n groups of an entry from f->words, which has all of the entry. */
static void load(struct kunit *test, struct fixture *f, u64 group, u64 n)
{
	u64 i, at = group % 2 * GROUP;

	for (i = 0; i < ENTRY; i++)
		if (i < at || i >= at + n * GROUP)
			chain_state_put(f->words, i, DM_CHAIN_ABSENT);
	KUNIT_ASSERT_EQ(test, chain_statemap_load(&f->map, group, n, f->words), 0);
	for (i = 0; i < n * GROUP && group * GROUP + i < f->map.blocks; i++)
		f->model[group * GROUP + i] = chain_state_get(f->words, at + i);
}

static void map_load(struct kunit *test)
{
	struct fixture *f = make_map(test, 5 * GROUP + 77);
	struct rnd_state rnd;
	u64 group;

	prandom_seed_state(&rnd, 1);
	memset(f->words, 0, sizeof(f->words));
	load(test, f, 1, 1);
	KUNIT_EXPECT_EQ(test, atomic64_read(&f->map.pages), 0);
	for (group = 0; group < 6; group += 1 + group % 2) {
		prandom_bytes_state(&rnd, f->words, sizeof(f->words));
		load(test, f, group, 1);
		check_all(test, f);
	}
	chain_statemap_exit(&f->map);
}

/* An entry that has one state takes no page; one that the end cuts has to. */
static void map_load_uniform(struct kunit *test)
{
	struct fixture *f = make_map(test, 3 * ENTRY + 5 * GROUP / 4);
	unsigned int state;

	for (state = DM_CHAIN_DATA; state <= DM_CHAIN_DAMAGED; state++) {
		memset(f->words, state * 0x55, sizeof(f->words));
		load(test, f, 2 * (state - 1), 2);
		check_all(test, f);
	}
	KUNIT_EXPECT_EQ(test, atomic64_read(&f->map.pages), 0);
	change(test, f, 77, 1, DM_CHAIN_ZERO);
	check_all(test, f);
	memset(f->words, 0x55, sizeof(f->words));
	load(test, f, 6, 2);
	check_all(test, f);
	KUNIT_EXPECT_EQ(test, atomic64_read(&f->map.pages), 2);
	chain_statemap_exit(&f->map);
}

/* One half of an entry is in use before the other one has been read. */
static void map_load_beside(struct kunit *test)
{
	struct fixture *f = make_map(test, 2 * ENTRY);

	change(test, f, 0, GROUP, DM_CHAIN_DATA);
	memset(f->words, 0x55, sizeof(f->words));
	load(test, f, 1, 1);
	check_all(test, f);
	memset(f->words, 0xaa, sizeof(f->words));
	load(test, f, 2, 1);
	change(test, f, 3 * GROUP, GROUP, DM_CHAIN_ZERO);
	check_all(test, f);
	chain_statemap_exit(&f->map);
}

/* What a map says of blocks that there aren't is void, also when there are. */
static void map_load_beyond(struct kunit *test)
{
	struct fixture *f = make_map_to_grow(test, 100, 2 * ENTRY);

	memset(f->words, 0x55, sizeof(f->words));
	load(test, f, 0, 1);
	memset(f->words, 0x55, sizeof(f->words));
	load(test, f, 1, 1);
	grow(test, f, 2 * ENTRY);
	check_all(test, f);
	chain_statemap_exit(&f->map);
}

/* Nothing but a repair makes a damaged block good again. */
static void map_damaged(struct kunit *test)
{
	struct fixture *f = make_map(test, 2 * ENTRY);
	unsigned int state;
	u64 i;

	memset(f->words, 0, sizeof(f->words));
	for (i = 0; i < GROUP; i += 1 + i % 5)
		chain_state_put(f->words, i, DM_CHAIN_DAMAGED);
	load(test, f, 2, 1);
	for (state = 0; state < 3; state++) {
		change(test, f, ENTRY + 100, 1000, state);
		check_all(test, f);
		change(test, f, 0, 2 * ENTRY, state);
		check_all(test, f);
	}
	chain_statemap_exit(&f->map);
}

static void map_random(struct kunit *test)
{
	const u64 blocks = 3 * ENTRY + 1000;
	struct fixture *f = make_map(test, blocks);
	struct rnd_state rnd;
	unsigned int i;

	prandom_seed_state(&rnd, 2);
	for (i = 0; i < 1500; i++) {
		u64 block = prandom_u32_state(&rnd) % blocks;
		u64 n = 1 + (prandom_u32_state(&rnd) >> (16 + i % 16));

		change(test, f, block, min(n, blocks - block),
		       prandom_u32_state(&rnd) % 3);
		if (i % 100 == 0)
			check_all(test, f);
	}
	check_all(test, f);
	chain_statemap_exit(&f->map);
}

/* Blocks that a map grows by are absent, whatever the last ones were. */
static void map_grow(struct kunit *test)
{
	static const u64 from[] = { 1, 100, GROUP, GROUP + 1, ENTRY - 1, ENTRY };
	static const u64 by[] = { 1, 31, GROUP, ENTRY, 3 * ENTRY };
	unsigned int i, j, states = 0;
	struct fixture *f;

	for (i = 0; i < ARRAY_SIZE(from) * ARRAY_SIZE(by) * 3; i++) {
		u64 old = from[i / 3 % ARRAY_SIZE(from)];
		u64 new = old + by[i / 3 / ARRAY_SIZE(from)];

		/* Nothing; all of one state; all but the first block. */
		f = make_map_to_grow(test, old, new);
		for (j = 0; j < i % 3 && j < old; j++)
			change(test, f, j, old - j, 1 + (states++ & 1));
		grow(test, f, new);
		check_all(test, f);
		change(test, f, old, new - old, DM_CHAIN_ZERO);
		check_all(test, f);
		chain_statemap_exit(&f->map);
	}
}

/*
 * Threads that change neighbouring blocks: they share words, and a page must
 * come into being but once. They begin each entry together; only the first
 * blocks of it change.
 */
#define RACERS		4
#define RACE_ENTRIES	128
#define RACE_CHANGED	2048

struct race {
	struct chain_statemap map;
	atomic_t there[RACE_ENTRIES];
	atomic_t id;
	atomic_t bad;
	atomic_t running;
	struct completion done;
};

static unsigned int race_state(unsigned int id)
{
	return 1 + id % 2;
}

static void race_entry(struct race *r, u64 first, unsigned int id)
{
	unsigned int state = race_state(id);
	u64 i;

	for (i = first + id; i < first + RACE_CHANGED; i += RACERS) {
		if (chain_statemap_prepare(&r->map, i, 1, state, GFP_KERNEL))
			atomic_inc(&r->bad);
		chain_statemap_set(&r->map, i, 1, race_state(id + 1));
		chain_statemap_set(&r->map, i, 1, state);
		if (chain_statemap_get(&r->map, i) != state)
			atomic_inc(&r->bad);
	}
}

static int racer(void *data)
{
	struct race *r = data;
	unsigned int id = atomic_inc_return(&r->id) - 1;
	unsigned int i;

	for (i = 0; i < RACE_ENTRIES; i++) {
		atomic_inc(&r->there[i]);
		while (atomic_read(&r->there[i]) < RACERS)
			cond_resched();
		race_entry(r, i * (u64)ENTRY, id);
	}
	if (atomic_dec_and_test(&r->running))
		complete(&r->done);
	while (!kthread_should_stop())
		msleep(20);
	return 0;
}

/* All or none of them: one that waits for another must not wait for ever. */
static bool run_racers(struct race *r)
{
	struct task_struct *thread[RACERS];
	unsigned int i, n;

	atomic_set(&r->running, RACERS);
	init_completion(&r->done);
	for (n = 0; n < RACERS; n++) {
		thread[n] = kthread_create(racer, r, "chain_map_%u", n);
		if (IS_ERR(thread[n]))
			break;
	}
	if (n == RACERS) {
		for (i = 0; i < RACERS; i++)
			wake_up_process(thread[i]);
		wait_for_completion(&r->done);
	}
	for (i = 0; i < n; i++)
		kthread_stop(thread[i]);
	return n == RACERS;
}

static void map_race(struct kunit *test)
{
	struct race *r = kunit_kzalloc(test, sizeof(*r), GFP_KERNEL);
	u64 i, bad = 0;

	KUNIT_ASSERT_NOT_NULL(test, r);
	KUNIT_ASSERT_EQ(test, chain_statemap_init(&r->map, RACE_ENTRIES * ENTRY),
			0);
	KUNIT_EXPECT_TRUE(test, run_racers(r));
	for (i = 0; i < RACE_ENTRIES * ENTRY; i++)
		bad += chain_statemap_get(&r->map, i) !=
		       (i % ENTRY < RACE_CHANGED ? race_state(i % RACERS) :
						   DM_CHAIN_ABSENT);
	KUNIT_EXPECT_EQ(test, bad, 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&r->bad), 0);
	KUNIT_EXPECT_EQ(test, atomic64_read(&r->map.pages), RACE_ENTRIES);
	chain_statemap_exit(&r->map);
}

static struct kunit_case cases[] = {
	KUNIT_CASE(map_empty),
	KUNIT_CASE(map_borders),
	KUNIT_CASE(map_whole_entries),
	KUNIT_CASE(map_load),
	KUNIT_CASE(map_load_uniform),
	KUNIT_CASE(map_load_beside),
	KUNIT_CASE(map_load_beyond),
	KUNIT_CASE(map_damaged),
	KUNIT_CASE(map_random),
	KUNIT_CASE(map_grow),
	KUNIT_CASE(map_race),
	{}
};

static struct kunit_suite suite = {
	.name = "dm_chain_statemap",
	.test_cases = cases,
};

kunit_test_suite(suite);

MODULE_DESCRIPTION("KUnit suite of dm-chain: states in memory");
MODULE_LICENSE("GPL");
