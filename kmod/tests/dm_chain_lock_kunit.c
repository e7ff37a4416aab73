// SPDX-License-Identifier: GPL-2.0-only
/*
 * Suite for the block locks: against an array of flags, and with threads that
 * get in each other's way. A waiter whose kick never comes fails the suite.
 */
#include <kunit/test.h>
#include <linux/delay.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/prandom.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/wait.h>

#include "../dm-chain-lock.h"

#define TABLE	CHAIN_LOCK_BITS

static struct chain_locks *make_locks(struct kunit *test)
{
	struct chain_locks *l = kunit_kzalloc(test, sizeof(*l), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, l);
	KUNIT_ASSERT_EQ(test, chain_locks_init(l), 0);
	return l;
}

static bool bit_held(struct chain_locks *l, u32 bit)
{
	return atomic_long_read(&l->word[bit / BITS_PER_LONG]) >>
	       bit % BITS_PER_LONG & 1;
}

/* The table is as the model says, bit by bit. */
static void check_table(struct kunit *test, struct chain_locks *l,
			const bool *model)
{
	u32 i;

	for (i = 0; i < TABLE && bit_held(l, i) == model[i]; i++)
		;
	KUNIT_ASSERT_EQ(test, i, TABLE);
}

static void check_free(struct kunit *test, struct chain_locks *l)
{
	KUNIT_ASSERT_NULL(test, memchr_inv(l->word, 0, TABLE / 8));
}

static bool *make_model(struct kunit *test)
{
	bool *model = kunit_kcalloc(test, TABLE, sizeof(*model), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, model);
	return model;
}

static void mark(bool *model, u64 block, u32 n, bool held)
{
	while (n--)
		model[block++ % TABLE] = held;
}

struct lock_range {
	u64 block;
	u32 n;
};

/* Borders of words and of the table, and blocks of the largest disk. */
static const struct lock_range ranges[] = {
	{ 0, 1 }, { 63, 1 }, { 64, 1 }, { 0, 64 }, { 1, 64 }, { 63, 2 },
	{ 63, 66 }, { 100, 1000 }, { 0, CHAIN_LOCK_MAX },
	{ TABLE - 1, 1 }, { TABLE - 1, 2 }, { TABLE - 64, 64 },
	{ TABLE - 64, 65 }, { TABLE - 70, 140 }, { TABLE - 5, CHAIN_LOCK_MAX },
	{ TABLE / 2 + 1, CHAIN_LOCK_MAX }, { TABLE, 3 }, { 3ULL * TABLE + 7, 9 },
	{ (1ULL << 34) - 3, 6 }, { ~0ULL - 1, 2 }, { ~0ULL - 9, 20 },
};

static void lock_ranges(struct kunit *test)
{
	struct chain_locks *l = make_locks(test);
	bool *model = make_model(test);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(ranges); i++) {
		const struct lock_range *r = &ranges[i];

		mark(model, r->block, r->n, true);
		KUNIT_EXPECT_TRUE(test, chain_locks_try(l, r->block, r->n));
		check_table(test, l, model);
		KUNIT_EXPECT_FALSE(test, chain_locks_try(l, r->block, r->n));
		check_table(test, l, model);
		KUNIT_EXPECT_FALSE(test, chain_locks_release(l, r->block, r->n));
		mark(model, r->block, r->n, false);
		check_free(test, l);
	}
	chain_locks_exit(l);
}

/* One held bit anywhere in a range refuses it, and nothing else is left set. */
static void lock_roll_back(struct kunit *test)
{
	struct chain_locks *l = make_locks(test);
	bool *model = make_model(test);
	unsigned int i, j;

	for (i = 0; i < ARRAY_SIZE(ranges); i++) {
		const struct lock_range *r = &ranges[i];
		const u32 at[] = { 0, r->n / 3, r->n / 2, r->n - 1 };

		for (j = 0; j < ARRAY_SIZE(at); j++) {
			u64 held = r->block + at[j];

			KUNIT_EXPECT_TRUE(test, chain_locks_try(l, held, 1));
			KUNIT_EXPECT_FALSE(test, chain_locks_try(l, r->block,
								 r->n));
			mark(model, held, 1, true);
			check_table(test, l, model);
			mark(model, held, 1, false);
			chain_locks_release(l, held, 1);
			check_free(test, l);
		}
	}
	chain_locks_exit(l);
}

/* Neighbours on both sides are no obstacle. */
static void lock_neighbours(struct kunit *test)
{
	struct chain_locks *l = make_locks(test);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(ranges); i++) {
		const struct lock_range *r = &ranges[i];

		KUNIT_EXPECT_TRUE(test, chain_locks_try(l, r->block - 1, 1));
		KUNIT_EXPECT_TRUE(test, chain_locks_try(l, r->block + r->n, 1));
		KUNIT_EXPECT_TRUE(test, chain_locks_try(l, r->block, r->n));
		chain_locks_release(l, r->block - 1, 1);
		chain_locks_release(l, r->block + r->n, 1);
		KUNIT_EXPECT_FALSE(test, chain_locks_try(l, r->block + r->n - 1,
							 1));
		/* In parts. */
		chain_locks_release(l, r->block, 1);
		if (r->n > 1)
			chain_locks_release(l, r->block + 1, r->n - 1);
		check_free(test, l);
	}
	chain_locks_exit(l);
}

static bool model_free(const bool *model, u64 block, u32 n)
{
	while (n--)
		if (model[block++ % TABLE])
			return false;
	return true;
}

static void lock_random(struct kunit *test)
{
	struct chain_locks *l = make_locks(test);
	bool *model = make_model(test);
	struct lock_range held[16] = {};
	struct rnd_state rnd;
	unsigned int i, h, got = 0;

	prandom_seed_state(&rnd, 1);
	for (i = 0; i < 4000; i++) {
		u64 block = prandom_u32_state(&rnd);
		u32 n = 1 + (prandom_u32_state(&rnd) >> 17 >> (i % 15));
		bool want = model_free(model, block, n);

		h = prandom_u32_state(&rnd) % ARRAY_SIZE(held);
		if (held[h].n) {
			chain_locks_release(l, held[h].block, held[h].n);
			mark(model, held[h].block, held[h].n, false);
			held[h].n = 0;
			continue;
		}
		KUNIT_ASSERT_EQ(test, chain_locks_try(l, block, n), want);
		if (want) {
			got++;
			held[h] = (struct lock_range){ block, n };
			mark(model, block, n, true);
		}
		if (i % 100 == 0)
			check_table(test, l, model);
	}
	check_table(test, l, model);
	KUNIT_EXPECT_GT(test, got, 500);
	chain_locks_exit(l);
}

static void lock_waiters(struct kunit *test)
{
	struct chain_locks *l = make_locks(test);

	KUNIT_EXPECT_TRUE(test, chain_locks_try(l, 5, 10));
	KUNIT_EXPECT_FALSE(test, chain_locks_waiting(l));
	chain_locks_wait_begin(l);
	chain_locks_wait_begin(l);
	KUNIT_EXPECT_TRUE(test, chain_locks_waiting(l));
	KUNIT_EXPECT_TRUE(test, chain_locks_release(l, 5, 4));
	chain_locks_wait_end(l);
	KUNIT_EXPECT_TRUE(test, chain_locks_release(l, 9, 5));
	chain_locks_wait_end(l);
	KUNIT_EXPECT_FALSE(test, chain_locks_release(l, 14, 1));
	check_free(test, l);
	chain_locks_exit(l);
	KUNIT_EXPECT_NULL(test, l->word);
	chain_locks_exit(l);
}

/*
 * Threads that contend. Each cell is a variable that only the holder of its
 * bits may touch, without atomics. Several cells share a word of the table.
 */
#define CELL_BITS	16
#define CELLS		(TABLE / CELL_BITS)
#define THREADS		4

struct contest {
	struct chain_locks *l;
	u32 cell[CELLS];
	u32 expected[THREADS][CELLS];
	spinlock_t park;	/* that all who park share */
	bool parked[THREADS];
	wait_queue_head_t queue;
	atomic_t id;
	atomic_t running;
	atomic_t waits;
	atomic_t lost;		/* kicks that did not come */
	atomic_t intruders;	/* others in a cell that was held */
	unsigned int rounds;
	u32 region;		/* cells around the table's end to fight for */
	u32 max_cells;		/* in one range */
};

static void kick(struct contest *c)
{
	unsigned int i;

	spin_lock(&c->park);
	for (i = 0; i < THREADS; i++) {
		if (c->parked[i])
			chain_locks_wait_end(c->l);
		c->parked[i] = false;
	}
	spin_unlock(&c->park);
	wake_up_all(&c->queue);
}

/* What the holder does: each step would be lost if two did it at a time. */
static void use_cells(struct contest *c, unsigned int id, u32 first, u32 n)
{
	u32 i, at, seen;

	for (i = 0; i < n; i++) {
		at = (first + i) % CELLS;
		seen = READ_ONCE(c->cell[at]);
		if (i == 0)
			cond_resched();
		cpu_relax();
		if (READ_ONCE(c->cell[at]) != seen)
			atomic_inc(&c->intruders);
		WRITE_ONCE(c->cell[at], seen + 1);
		c->expected[id][at]++;
	}
}

/* The waiter's part, as dm-chain-lock.h has it. */
static bool lock_or_park(struct contest *c, unsigned int id, u64 block, u32 n)
{
	bool got;

	if (chain_locks_try(c->l, block, n))
		return true;
	spin_lock(&c->park);
	chain_locks_wait_begin(c->l);
	got = chain_locks_try(c->l, block, n);
	if (got)
		chain_locks_wait_end(c->l);
	else
		c->parked[id] = true;
	spin_unlock(&c->park);
	return got;
}

static bool lock_at_last(struct contest *c, unsigned int id, u64 block, u32 n)
{
	while (!lock_or_park(c, id, block, n)) {
		atomic_inc(&c->waits);
		if (!wait_event_timeout(c->queue, !READ_ONCE(c->parked[id]),
					10 * HZ)) {
			atomic_inc(&c->lost);
			return false;
		}
	}
	return true;
}

static bool lock_or_give_up(struct contest *c, u64 block, u32 n)
{
	if (chain_locks_try(c->l, block, n))
		return true;
	if (chain_locks_waiting(c->l))
		kick(c);
	return false;
}

static void contend(struct contest *c, unsigned int id, struct rnd_state *rnd)
{
	u32 first = (CELLS - c->region / 2 +
		     prandom_u32_state(rnd) % c->region) % CELLS;
	u32 n = 1 + prandom_u32_state(rnd) % c->max_cells;
	u64 block = (u64)first * CELL_BITS + (u64)TABLE * id;
	u32 blocks = n * CELL_BITS;

	if (prandom_u32_state(rnd) % 4 ?
	    !lock_at_last(c, id, block, blocks) :
	    !lock_or_give_up(c, block, blocks))
		return;
	use_cells(c, id, first, n);
	if (chain_locks_release(c->l, block, blocks))
		kick(c);
}

static int contestant(void *data)
{
	struct contest *c = data;
	unsigned int i, id = atomic_inc_return(&c->id) - 1;
	struct rnd_state rnd;

	prandom_seed_state(&rnd, 100 + id);
	for (i = 0; i < c->rounds && !atomic_read(&c->lost); i++) {
		contend(c, id, &rnd);
		if (i % 64 == 0)
			cond_resched();
	}
	atomic_dec(&c->running);
	while (!kthread_should_stop())
		msleep(20);
	return 0;
}

static void check_cells(struct kunit *test, const struct contest *c)
{
	u32 i, t, sum;

	for (i = 0; i < CELLS; i++) {
		for (sum = 0, t = 0; t < THREADS; t++)
			sum += c->expected[t][i];
		KUNIT_EXPECT_EQ_MSG(test, c->cell[i], sum, "cell %u", i);
	}
}

static void run_contest(struct kunit *test, unsigned int rounds, u32 region,
			u32 max_cells)
{
	struct contest *c = kunit_kzalloc(test, sizeof(*c), GFP_KERNEL);
	struct task_struct *thread[THREADS];
	unsigned int n;

	KUNIT_ASSERT_NOT_NULL(test, c);
	c->l = make_locks(test);
	c->rounds = rounds;
	c->region = region;
	c->max_cells = max_cells;
	atomic_set(&c->running, THREADS);
	spin_lock_init(&c->park);
	init_waitqueue_head(&c->queue);
	for (n = 0; n < THREADS; n++) {
		thread[n] = kthread_run(contestant, c, "chain_lock_%u", n);
		if (IS_ERR(thread[n]))
			break;
	}
	while (n == THREADS && atomic_read(&c->running))
		msleep(20);
	KUNIT_EXPECT_EQ(test, n, THREADS);
	while (n--)
		kthread_stop(thread[n]);
	KUNIT_EXPECT_EQ(test, atomic_read(&c->lost), 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&c->intruders), 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&c->l->waiters), 0);
	KUNIT_EXPECT_GT(test, atomic_read(&c->waits), 0);
	kunit_info(test, "%d waits", atomic_read(&c->waits));
	check_cells(test, c);
	check_free(test, c->l);
	chain_locks_exit(c->l);
}

/* Ranges of up to half the table: they wrap, and all meet. */
static void lock_contest_wide(struct kunit *test)
{
	run_contest(test, 2000, CELLS, CELLS / 2);
}

/* Short ranges: tries and releases cross at high speed. */
static void lock_contest_narrow(struct kunit *test)
{
	run_contest(test, 100000, 32, 8);
}

/*
 * The two sides of the barrier, alone: one thread releases while the other
 * becomes a waiter and tries. Never may both miss each other. Many locks in a
 * row, since meeting for each of them would take longer than what is tested.
 */
#define DUELS	64

struct duel {
	struct chain_locks l[DUELS];
	bool kick[DUELS];
	bool got[DUELS];
	atomic_t round;		/* that the waiter may play */
	atomic_t begun;		/* that it is playing */
	atomic_t done;		/* that it has played */
};

static int duel_waiter(void *data)
{
	struct duel *d = data;
	unsigned int i;
	int round = 0;

	while (!kthread_should_stop()) {
		if (atomic_read_acquire(&d->round) == round) {
			usleep_range(10, 20);
			continue;
		}
		atomic_set(&d->begun, ++round);
		for (i = 0; i < DUELS; i++) {
			chain_locks_wait_begin(&d->l[i]);
			d->got[i] = chain_locks_try(&d->l[i], 100, 1);
		}
		atomic_set_release(&d->done, round);
	}
	return 0;
}

static void duel_round(struct duel *d, int round, u32 delay)
{
	unsigned int i;

	for (i = 0; i < DUELS; i++)
		chain_locks_try(&d->l[i], 100, 1);
	atomic_set_release(&d->round, round);
	/* Now and then let the waiter go ahead: waking up, it is late. */
	while (delay % 2 && atomic_read(&d->begun) != round)
		cond_resched();
	while (delay--)
		cpu_relax();
	for (i = 0; i < DUELS; i++)
		d->kick[i] = chain_locks_release(&d->l[i], 100, 1);
	while (atomic_read_acquire(&d->done) != round)
		usleep_range(10, 20);
	for (i = 0; i < DUELS; i++) {
		chain_locks_wait_end(&d->l[i]);
		if (d->got[i])
			chain_locks_release(&d->l[i], 100, 1);
	}
}

static void lock_duel(struct kunit *test)
{
	unsigned long end = jiffies + 3 * HZ;
	struct duel *d = kunit_kzalloc(test, sizeof(*d), GFP_KERNEL);
	unsigned int i, missed = 0, both = 0, kicked = 0;
	struct task_struct *waiter;
	struct rnd_state rnd;
	int round;

	KUNIT_ASSERT_NOT_NULL(test, d);
	for (i = 0; i < DUELS; i++)
		KUNIT_ASSERT_EQ(test, chain_locks_init(&d->l[i]), 0);
	prandom_seed_state(&rnd, 2);
	waiter = kthread_run(duel_waiter, d, "chain_lock_duel");
	KUNIT_ASSERT_FALSE(test, IS_ERR(waiter));
	for (round = 1; round <= 2000 && time_before(jiffies, end); round++) {
		duel_round(d, round, prandom_u32_state(&rnd) % 512);
		for (i = 0; i < DUELS; i++) {
			missed += !d->kick[i] && !d->got[i];
			both += d->kick[i] && d->got[i];
			kicked += d->kick[i];
		}
	}
	kthread_stop(waiter);
	KUNIT_EXPECT_EQ(test, missed, 0);
	kunit_info(test, "%d rounds, %u kicks, %u of them needless", round - 1,
		   kicked, both);
	for (i = 0; i < DUELS; i++)
		chain_locks_exit(&d->l[i]);
}

static struct kunit_case cases[] = {
	KUNIT_CASE(lock_ranges),
	KUNIT_CASE(lock_roll_back),
	KUNIT_CASE(lock_neighbours),
	KUNIT_CASE(lock_random),
	KUNIT_CASE(lock_waiters),
	KUNIT_CASE(lock_contest_wide),
	KUNIT_CASE(lock_contest_narrow),
	KUNIT_CASE(lock_duel),
	{}
};

static struct kunit_suite suite = {
	.name = "dm_chain_lock",
	.test_cases = cases,
};

kunit_test_suite(suite);

MODULE_DESCRIPTION("KUnit suite of dm-chain: block locks");
MODULE_LICENSE("GPL");
