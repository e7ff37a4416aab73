// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit suite of the gate: each kind of I/O that has no permission is refused,
 * is counted, and never gets as far as a device. There is none here, so what
 * got through would crash.
 */
#include <kunit/test.h>
#include "../dm-chain.h"

static const u8 levels[] = {
	DM_CHAIN_ACCESS_NONE, DM_CHAIN_ACCESS_RO, DM_CHAIN_ACCESS_RW
};

static const struct {
	blk_opf_t opf;
	u8 need;
} ops[] = {
	{ REQ_OP_READ, DM_CHAIN_ACCESS_RO },
	{ REQ_OP_READ | REQ_META, DM_CHAIN_ACCESS_RO },
	{ REQ_OP_WRITE, DM_CHAIN_ACCESS_RW },
	{ REQ_OP_WRITE | REQ_FUA, DM_CHAIN_ACCESS_RW },
	{ REQ_OP_DISCARD, DM_CHAIN_ACCESS_RW },
	{ REQ_OP_WRITE_ZEROES, DM_CHAIN_ACCESS_RW },
};

static void set_access(struct chain_att *att, enum chain_who who, u8 level)
{
	/* All others may do everything: it must look at the right one. */
	memset(att, 0, sizeof(*att));
	memset(att->access, DM_CHAIN_ACCESS_RW, sizeof(att->access));
	att->access[who] = level;
}

static void gate_kinds(struct kunit *test)
{
	struct chain_att *att = kunit_kzalloc(test, sizeof(*att), GFP_KERNEL);
	unsigned int who, l, o;
	s64 before;

	KUNIT_ASSERT_NOT_NULL(test, att);
	for (who = 0; who < CHAIN_WHO_NR; who++) {
		for (l = 0; l < ARRAY_SIZE(levels); l++) {
			set_access(att, who, levels[l]);
			for (o = 0; o < ARRAY_SIZE(ops); o++) {
				bool may = levels[l] >= ops[o].need;

				before = atomic64_read(&chain_violations);
				KUNIT_EXPECT_EQ(test, chain_allowed(att, who, ops[o].opf),
						may);
				KUNIT_EXPECT_EQ(test, atomic64_read(&chain_violations),
						before + !may);
			}
		}
	}
}

static void gate_no_io(struct kunit *test)
{
	struct chain_att *att = kunit_kzalloc(test, sizeof(*att), GFP_KERNEL);
	void *page = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL);
	unsigned int who;

	KUNIT_ASSERT_NOT_NULL(test, att);
	KUNIT_ASSERT_NOT_NULL(test, page);
	for (who = 0; who < CHAIN_WHO_NR; who++) {
		set_access(att, who, DM_CHAIN_ACCESS_RO);
		KUNIT_EXPECT_EQ(test, chain_rw(att, who, 0, page, 512, REQ_OP_WRITE),
				-EPERM);
		set_access(att, who, DM_CHAIN_ACCESS_NONE);
		KUNIT_EXPECT_EQ(test, chain_rw(att, who, 0, page, 512, REQ_OP_READ),
				-EPERM);
	}
}

static struct kunit_case gate_cases[] = {
	KUNIT_CASE(gate_kinds),
	KUNIT_CASE(gate_no_io),
	{}
};

static struct kunit_suite gate_suite = {
	.name = "dm_chain_gate",
	.test_cases = gate_cases,
};

kunit_test_suite(gate_suite);

MODULE_DESCRIPTION("KUnit tests of the permission gate of dm-chain");
MODULE_LICENSE("GPL");
