// SPDX-License-Identifier: GPL-2.0-only
/*
 * Suite for the merged lookup, against a plain array of owners.
 */
#include <kunit/test.h>
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/prandom.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>

#include "../dm-chain-format.h"
#include "../dm-chain-merge.h"

#define N	CHAIN_CHUNK_BLOCKS
/* As the header of ranks and its owners come to: see dm-chain-merge.c. */
#define RUNS_IN_1K	340

static struct chain_merge *make_merge(struct kunit *test, u64 blocks)
{
	struct chain_merge *m = chain_merge_create(blocks, GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, m);
	return m;
}

static u16 *make_owners(struct kunit *test, unsigned int chunks)
{
	u16 *owners = kunit_kcalloc(test, chunks * N, sizeof(*owners),
				    GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, owners);
	return owners;
}

/* Exactly @nr runs of random lengths. Neighbours never have equal owners. */
static void fill_runs(struct rnd_state *rnd, u16 *owners, unsigned int nr)
{
	unsigned int left = nr - 1, i;
	u16 owner = prandom_u32_state(rnd) % CHAIN_OWNER_MAX;

	for (i = 0; i < N; i++) {
		/* Choose @left borders among the places that remain. */
		if (i && prandom_u32_state(rnd) % (N - i) < left) {
			left--;
			owner ^= 1 + prandom_u32_state(rnd) % 1024;
		}
		owners[i] = owner;
	}
}

static void fill_random(struct rnd_state *rnd, u16 *owners)
{
	static const u16 special[] = {
		CHAIN_OWNER_ZERO, CHAIN_OWNER_WALK, CHAIN_OWNER_DAMAGED,
		CHAIN_OWNER_MAX, 0,
	};
	unsigned int i, end = 0, style = prandom_u32_state(rnd) % 8;
	u16 owner = 0;

	for (i = 0; i < N; i++) {
		u32 r = prandom_u32_state(rnd);

		if (i == end) {
			end += 1 + r % (1U << (style + 5));
			owner = r >> 20;
			if (r >> 28 < ARRAY_SIZE(special))
				owner = special[r >> 28];
		}
		owners[i] = owner;
	}
}

static u32 model_run(const u16 *owners, u32 at)
{
	u32 i = at;

	while (i < N && owners[i] == owners[at])
		i++;
	return i - at;
}

static void check_lookup(struct kunit *test, struct chain_merge *m, u64 chunk,
			 const u16 *owners, u32 at, u32 max)
{
	u32 run = ~0U;
	u16 owner = chain_merge_lookup(m, chunk * N + at, max, &run);

	KUNIT_ASSERT_EQ_MSG(test, owner, owners[at], "block %u", at);
	KUNIT_ASSERT_EQ_MSG(test, chain_merge_owner(m, chunk * N + at), owner,
			    "block %u", at);
	KUNIT_ASSERT_EQ_MSG(test, run, min(max, model_run(owners, at)),
			    "block %u, max %u", at, max);
}

static void check_chunk(struct kunit *test, struct chain_merge *m, u64 chunk,
			const u16 *owners)
{
	static const u32 max[] = { 0, 1, 2, 7, 256, N, ~0U };
	u16 *got = kmalloc_array(N, sizeof(*got), GFP_KERNEL);
	u32 at;

	KUNIT_ASSERT_NOT_NULL(test, got);
	KUNIT_ASSERT_TRUE(test, chain_merge_built(m, chunk));
	chain_merge_expand(m, chunk, got);
	KUNIT_EXPECT_MEMEQ(test, got, owners, N * sizeof(*got));
	kfree(got);
	for (at = 0; at < N; at++)
		check_lookup(test, m, chunk, owners, at,
			     max[at % ARRAY_SIZE(max)]);
	check_lookup(test, m, chunk, owners, 0, N);
	check_lookup(test, m, chunk, owners, N - 1, N);
}

/* Content of an unbuilt chunk: nobody knows. */
static void check_unbuilt(struct kunit *test, struct chain_merge *m, u64 chunk)
{
	u16 *got = kmalloc_array(N, sizeof(*got), GFP_KERNEL);
	u32 run, i;

	KUNIT_ASSERT_NOT_NULL(test, got);
	KUNIT_EXPECT_FALSE(test, chain_merge_built(m, chunk));
	KUNIT_EXPECT_EQ(test, chain_merge_lookup(m, chunk * N + 5, ~0U, &run),
			CHAIN_OWNER_WALK);
	KUNIT_EXPECT_EQ(test, run, N - 5);
	KUNIT_EXPECT_EQ(test, chain_merge_lookup(m, chunk * N, 3, &run),
			CHAIN_OWNER_WALK);
	KUNIT_EXPECT_EQ(test, run, 3);
	chain_merge_expand(m, chunk, got);
	for (i = 0; i < N; i++)
		KUNIT_ASSERT_EQ(test, got[i], CHAIN_OWNER_WALK);
	kfree(got);
}

static void merge_empty(struct kunit *test)
{
	struct chain_merge *m = make_merge(test, 5 * N);

	check_unbuilt(test, m, 0);
	check_unbuilt(test, m, 4);
	check_unbuilt(test, m, 5);
	check_unbuilt(test, m, 1ULL << 40);
	chain_merge_drop(m, 4);
	chain_merge_destroy(m);
	chain_merge_destroy(NULL);
}

/* Memory of a chunk with so many runs. */
static size_t model_bytes(unsigned int nr)
{
	if (nr == 1)
		return 0;
	if (nr > RUNS_IN_1K)
		return PAGE_SIZE;
	return kmalloc_size_roundup(nr <= 32 ? 20 + 4 * (nr + 1) : 344 + 2 * nr);
}

static const unsigned int run_counts[] = {
	1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 18, 31, 32, 33, 34, 63, 64, 65, 100, 300,
	RUNS_IN_1K - 1, RUNS_IN_1K, RUNS_IN_1K + 1, 1000, N - 1, N
};

static void merge_encodings(struct kunit *test)
{
	struct chain_merge *m = make_merge(test, 4 * N);
	u16 *owners = make_owners(test, 1);
	struct rnd_state rnd;
	size_t base, want;
	unsigned int i;

	prandom_seed_state(&rnd, 1);
	fill_runs(&rnd, owners, 1);
	KUNIT_ASSERT_EQ(test, chain_merge_install(m, 2, owners, GFP_KERNEL), 0);
	base = chain_merge_bytes(m);
	for (i = 0; i < ARRAY_SIZE(run_counts); i++) {
		fill_runs(&rnd, owners, run_counts[i]);
		KUNIT_ASSERT_EQ(test, chain_merge_install(m, 2, owners,
							  GFP_KERNEL), 0);
		check_chunk(test, m, 2, owners);
		want = base + model_bytes(run_counts[i]);
		KUNIT_EXPECT_EQ_MSG(test, chain_merge_bytes(m), want,
				    "%u runs", run_counts[i]);
		check_unbuilt(test, m, 1);
		check_unbuilt(test, m, 3);
	}
	chain_merge_drop(m, 2);
	check_unbuilt(test, m, 2);
	KUNIT_EXPECT_EQ(test, chain_merge_bytes(m), base);
	chain_merge_destroy(m);
}

/* From each encoding to each other, and to nothing and back. */
static void merge_transitions(struct kunit *test)
{
	static const unsigned int nr[] = { 1, 3, 33, 200, RUNS_IN_1K, 600 };
	struct chain_merge *m = make_merge(test, N);
	u16 *owners = make_owners(test, 1);
	unsigned int a, b, base = 0;
	struct rnd_state rnd;

	prandom_seed_state(&rnd, 2);
	for (a = 0; a < ARRAY_SIZE(nr); a++) {
		for (b = 0; b < ARRAY_SIZE(nr); b++) {
			fill_runs(&rnd, owners, nr[a]);
			KUNIT_ASSERT_EQ(test, chain_merge_install(m, 0, owners,
								  GFP_KERNEL),
					0);
			fill_runs(&rnd, owners, nr[b]);
			KUNIT_ASSERT_EQ(test, chain_merge_install(m, 0, owners,
								  GFP_KERNEL),
					0);
			check_chunk(test, m, 0, owners);
			chain_merge_drop(m, 0);
			check_unbuilt(test, m, 0);
			base = base ?: chain_merge_bytes(m);
			KUNIT_EXPECT_EQ(test, chain_merge_bytes(m), base);
		}
	}
	chain_merge_destroy(m);
}

static void merge_specials(struct kunit *test)
{
	static const u16 special[] = {
		CHAIN_OWNER_ZERO, CHAIN_OWNER_WALK, CHAIN_OWNER_DAMAGED,
		CHAIN_OWNER_MAX, 0,
	};
	struct chain_merge *m = make_merge(test, N);
	u16 *owners = make_owners(test, 1);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(special); i++) {
		memset16(owners, special[i], N);
		KUNIT_ASSERT_EQ(test, chain_merge_install(m, 0, owners,
							  GFP_KERNEL), 0);
		check_chunk(test, m, 0, owners);
	}
	chain_merge_destroy(m);
}

/* Install, replace and drop at random in several leaves. */
static void merge_random(struct kunit *test)
{
	static const u64 chunk_of[] = { 0, 1, 511, 512, 1023, 1024, 4095 };
	struct chain_merge *m = make_merge(test, 4096ULL * N);
	u16 *owners = make_owners(test, ARRAY_SIZE(chunk_of));
	bool built[ARRAY_SIZE(chunk_of)] = {};
	struct rnd_state rnd;
	unsigned int i, c;

	prandom_seed_state(&rnd, 3);
	for (i = 0; i < 300; i++) {
		c = prandom_u32_state(&rnd) % ARRAY_SIZE(chunk_of);
		if (prandom_u32_state(&rnd) % 5 == 0) {
			chain_merge_drop(m, chunk_of[c]);
			built[c] = false;
			check_unbuilt(test, m, chunk_of[c]);
			continue;
		}
		fill_random(&rnd, owners + c * N);
		KUNIT_ASSERT_EQ(test, chain_merge_install(m, chunk_of[c],
							  owners + c * N,
							  GFP_KERNEL), 0);
		built[c] = true;
		if (i % 10 == 0)
			check_chunk(test, m, chunk_of[c], owners + c * N);
	}
	for (c = 0; c < ARRAY_SIZE(chunk_of); c++)
		if (built[c])
			check_chunk(test, m, chunk_of[c], owners + c * N);
	chain_merge_destroy(m);
}

/*
 * The last chunk ends with the disk: what comes after is neither read from the
 * caller's array (KASAN looks on) nor said to be anybody's.
 */
static void merge_tail(struct kunit *test)
{
	static const unsigned int tails[] = { 1, 2, 100, N - 1 };
	static const unsigned int nr[] = { 1, 5, 600 };
	u16 *full = make_owners(test, 1), *part;
	struct chain_merge *m;
	struct rnd_state rnd;
	unsigned int t, i;

	prandom_seed_state(&rnd, 4);
	for (t = 0; t < ARRAY_SIZE(tails); t++) {
		m = make_merge(test, N + tails[t]);
		for (i = 0; i < ARRAY_SIZE(nr); i++) {
			fill_runs(&rnd, full, nr[i]);
			part = kmemdup(full, tails[t] * sizeof(*full), GFP_KERNEL);
			KUNIT_ASSERT_NOT_NULL(test, part);
			KUNIT_EXPECT_EQ(test, chain_merge_install(m, 1, part,
								  GFP_KERNEL),
					0);
			kfree(part);
			memset16(full + tails[t], CHAIN_OWNER_WALK,
				 N - tails[t]);
			check_chunk(test, m, 1, full);
		}
		memset16(full, CHAIN_OWNER_WALK, N);
		KUNIT_EXPECT_EQ(test, chain_merge_install(m, 1, full,
							  GFP_KERNEL), 0);
		check_chunk(test, m, 1, full);
		check_unbuilt(test, m, 2);
		chain_merge_destroy(m);
	}
}

/* The largest disk there may be costs its directory and what is used. */
static void merge_large(struct kunit *test)
{
	u64 blocks = DM_CHAIN_MAX_SIZE >> DM_CHAIN_MIN_BLOCK_SHIFT;
	struct chain_merge *m = make_merge(test, blocks);
	u64 last = (blocks >> CHAIN_CHUNK_SHIFT) - 1;
	u16 *owners = make_owners(test, 1);
	struct rnd_state rnd;

	prandom_seed_state(&rnd, 5);
	fill_runs(&rnd, owners, 33);
	KUNIT_ASSERT_EQ(test, chain_merge_install(m, last, owners, GFP_KERNEL),
			0);
	check_chunk(test, m, last, owners);
	check_unbuilt(test, m, last - 1);
	check_unbuilt(test, m, last + 1);
	KUNIT_EXPECT_LT(test, chain_merge_bytes(m), 140 * 1024);
	chain_merge_destroy(m);
}

/* At the cap chunks stay as they are; those that don't grow still change. */
static void merge_cap(struct kunit *test)
{
	struct chain_merge *m = make_merge(test, 1024ULL * N);
	u16 *few = make_owners(test, 1), *many = make_owners(test, 1);
	struct rnd_state rnd;
	size_t base;

	prandom_seed_state(&rnd, 6);
	fill_runs(&rnd, few, 100);
	fill_runs(&rnd, many, N);
	KUNIT_ASSERT_EQ(test, chain_merge_install(m, 0, few, GFP_KERNEL), 0);
	base = chain_merge_bytes(m);
	chain_merge_set_cap(m, base + PAGE_SIZE - 1);
	KUNIT_EXPECT_EQ(test, chain_merge_install(m, 1, many, GFP_KERNEL),
			-ENOSPC);
	check_unbuilt(test, m, 1);
	/* Another leaf. */
	KUNIT_EXPECT_EQ(test, chain_merge_install(m, 1000, few, GFP_KERNEL),
			-ENOSPC);
	KUNIT_EXPECT_EQ(test, chain_merge_bytes(m), base);

	chain_merge_set_cap(m, 1);
	KUNIT_EXPECT_EQ(test, chain_merge_install(m, 0, many, GFP_KERNEL),
			-ENOSPC);
	check_chunk(test, m, 0, few);
	fill_runs(&rnd, few, 100);
	KUNIT_EXPECT_EQ(test, chain_merge_install(m, 0, few, GFP_KERNEL), 0);
	check_chunk(test, m, 0, few);
	fill_runs(&rnd, few, 1);
	KUNIT_EXPECT_EQ(test, chain_merge_install(m, 1, few, GFP_KERNEL), 0);
	check_chunk(test, m, 1, few);

	chain_merge_set_cap(m, base + PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, chain_merge_install(m, 1, many, GFP_KERNEL), 0);
	KUNIT_EXPECT_EQ(test, chain_merge_bytes(m), base + PAGE_SIZE);
	chain_merge_drop(m, 1);
	chain_merge_set_cap(m, 0);
	KUNIT_EXPECT_EQ(test, chain_merge_install(m, 1000, many, GFP_KERNEL), 0);
	chain_merge_destroy(m);
}

/* What takes memory of its own goes, in turn; the rest is known as before. */
static void merge_shrink(struct kunit *test)
{
	struct chain_merge *m = make_merge(test, 3000ULL * N);
	static const u64 with[] = { 3, 511, 512, 2999 };
	u16 *owners = make_owners(test, 1);
	unsigned int i;
	u32 run;

	KUNIT_EXPECT_EQ(test, chain_merge_shrink(m, 5), 0);
	KUNIT_ASSERT_EQ(test, chain_merge_install(m, 4, owners, GFP_KERNEL), 0);
	KUNIT_EXPECT_EQ(test, chain_merge_parts(m), 0);
	for (i = 0; i < N; i += 1 + i % 2)
		owners[i] = i;
	for (i = 0; i < ARRAY_SIZE(with); i++)
		KUNIT_ASSERT_EQ(test, chain_merge_install(m, with[i], owners,
							  GFP_KERNEL), 0);
	KUNIT_EXPECT_EQ(test, chain_merge_parts(m), 4);
	KUNIT_EXPECT_EQ(test, chain_merge_shrink(m, 2), 2);
	KUNIT_EXPECT_FALSE(test, chain_merge_built(m, 3));
	KUNIT_EXPECT_FALSE(test, chain_merge_built(m, 511));
	KUNIT_EXPECT_EQ(test, chain_merge_lookup(m, 2999ULL * N + 2, 1, &run), owners[2]);
	KUNIT_ASSERT_EQ(test, chain_merge_install(m, 0, owners, GFP_KERNEL), 0);
	KUNIT_EXPECT_EQ(test, chain_merge_shrink(m, 1), 1);
	KUNIT_EXPECT_FALSE(test, chain_merge_built(m, 512));
	KUNIT_EXPECT_TRUE(test, chain_merge_built(m, 0));
	KUNIT_EXPECT_EQ(test, chain_merge_shrink(m, 5), 2);
	KUNIT_EXPECT_EQ(test, chain_merge_parts(m), 0);
	KUNIT_EXPECT_TRUE(test, chain_merge_built(m, 4));
	chain_merge_destroy(m);
}

static void merge_overlay(struct kunit *test)
{
	static const u32 lengths[] = { 1, 31, 32, 33, 1000, N };
	u16 *owners = make_owners(test, 1), *model = make_owners(test, 1);
	u64 *states = kunit_kcalloc(test, N / 32, sizeof(*states), GFP_KERNEL);
	struct rnd_state rnd;
	unsigned int slot, i, n;

	KUNIT_ASSERT_NOT_NULL(test, states);
	prandom_seed_state(&rnd, 7);
	memset16(owners, CHAIN_OWNER_ZERO, N);
	memset16(model, CHAIN_OWNER_ZERO, N);
	for (slot = 0; slot < 200; slot++) {
		n = lengths[slot % ARRAY_SIZE(lengths)];
		prandom_bytes_state(&rnd, states, N / 4);
		if (slot % 3 == 0)
			memset(states, 0, N / 8);
		chain_merge_overlay(owners, states, slot, n);
		for (i = 0; i < n; i++) {
			switch (chain_state_get(states, i)) {
			case DM_CHAIN_DATA:
				model[i] = slot;
				break;
			case DM_CHAIN_ZERO:
				model[i] = CHAIN_OWNER_ZERO;
				break;
			case DM_CHAIN_DAMAGED:
				model[i] = CHAIN_OWNER_DAMAGED;
				break;
			}
		}
		KUNIT_ASSERT_MEMEQ(test, owners, model, N * sizeof(*owners));
	}
}

/*
 * Readers against a writer. Each content bears its version in the high byte
 * of all owners, so that a mixture of two shows.
 */
#define RACE_CHUNKS	3
#define RACE_READERS	3
#define RACE_VERSIONS	200

struct race {
	struct chain_merge *m;
	atomic_t bad;
	atomic_t looked;
	atomic_t versions;	/* changes of version that readers saw */
};

/* Run lengths that make one owner, runs and a page in turn. */
static u32 race_length(u32 version)
{
	static const u32 length[] = { N, 512, 64, 9, 5, 1 };

	return length[version % ARRAY_SIZE(length)];
}

static u16 race_owner(u32 version, u32 at)
{
	return version << 8 | (at / race_length(version) & 0xff);
}

static bool race_lookup_right(struct race *race, u32 block, u32 *version)
{
	u32 run, length, at = block % N;
	u16 owner = chain_merge_lookup(race->m, block, N, &run);

	*version = owner >> 8;
	if (owner == CHAIN_OWNER_WALK)
		return run == N - at;
	length = race_length(*version);
	return owner == race_owner(*version, at) &&
	       run == min(length - at % length, N - at);
}

static bool race_expand_right(struct race *race, u32 chunk, u16 *owners)
{
	u32 i, version;

	chain_merge_expand(race->m, chunk, owners);
	version = owners[0] >> 8;
	for (i = 0; i < N; i++) {
		if (owners[0] == CHAIN_OWNER_WALK) {
			if (owners[i] != CHAIN_OWNER_WALK)
				return false;
		} else if (owners[i] != race_owner(version, i)) {
			return false;
		}
	}
	return true;
}

static int race_reader(void *data)
{
	u16 *owners = kmalloc_array(N, sizeof(*owners), GFP_KERNEL);
	u32 i = 0, version, last = 0;
	struct race *race = data;
	struct rnd_state rnd;

	prandom_seed_state(&rnd, (u64)(unsigned long)owners);
	while (owners && !kthread_should_stop()) {
		u32 block = prandom_u32_state(&rnd) % (RACE_CHUNKS * N);

		if (!race_lookup_right(race, block, &version))
			atomic_inc(&race->bad);
		if (version != last)
			atomic_inc(&race->versions);
		last = version;
		if (i % 16 == 0 && !race_expand_right(race, block / N, owners))
			atomic_inc(&race->bad);
		atomic_inc(&race->looked);
		if (++i % 64 == 0)
			cond_resched();
	}
	kfree(owners);
	while (!kthread_should_stop())
		msleep(20);
	return 0;
}

static int race_write(struct race *race, u16 *owners, u32 version, u32 chunk)
{
	u32 i;

	if (version % 13 == 12) {
		chain_merge_drop(race->m, chunk);
		return 0;
	}
	for (i = 0; i < N; i++)
		owners[i] = race_owner(version, i);
	return chain_merge_install(race->m, chunk, owners, GFP_KERNEL);
}

static void merge_race(struct kunit *test)
{
	struct task_struct *reader[RACE_READERS];
	u16 *owners = make_owners(test, 1);
	struct race race = { .m = make_merge(test, RACE_CHUNKS * N) };
	int err = 0;
	u32 i, n;

	for (n = 0; n < RACE_READERS; n++) {
		reader[n] = kthread_run(race_reader, &race, "chain_merge_%u", n);
		if (IS_ERR(reader[n]))
			break;
	}
	for (i = 0; i < 2000 && n; i++) {
		err = err ?: race_write(&race, owners, i % RACE_VERSIONS,
					i % RACE_CHUNKS);
		if (i % 16 == 0)
			usleep_range(100, 200);
	}
	KUNIT_EXPECT_EQ(test, n, RACE_READERS);
	while (n--)
		kthread_stop(reader[n]);
	KUNIT_EXPECT_EQ(test, err, 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&race.bad), 0);
	KUNIT_EXPECT_GT(test, atomic_read(&race.looked), 1000);
	KUNIT_EXPECT_GT(test, atomic_read(&race.versions), 100);
	kunit_info(test, "%d lookups, %d changes seen",
		   atomic_read(&race.looked), atomic_read(&race.versions));
	chain_merge_destroy(race.m);
	rcu_barrier();
}

static struct kunit_case cases[] = {
	KUNIT_CASE(merge_empty),
	KUNIT_CASE(merge_encodings),
	KUNIT_CASE(merge_transitions),
	KUNIT_CASE(merge_specials),
	KUNIT_CASE(merge_random),
	KUNIT_CASE(merge_tail),
	KUNIT_CASE(merge_large),
	KUNIT_CASE(merge_cap),
	KUNIT_CASE(merge_shrink),
	KUNIT_CASE(merge_overlay),
	KUNIT_CASE(merge_race),
	{}
};

static struct kunit_suite suite = {
	.name = "dm_chain_merge",
	.test_cases = cases,
};

kunit_test_suite(suite);

MODULE_DESCRIPTION("KUnit suite of dm-chain: merged lookup");
MODULE_LICENSE("GPL");
