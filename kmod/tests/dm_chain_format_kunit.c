// SPDX-License-Identifier: GPL-2.0-only
/*
 * Suite for the codec of the on-disk format. Bytes are checked against the
 * format as uapi/linux/dm-chain-format.h describes it, by offset, not against
 * what the codec itself would write.
 */
#include <kunit/test.h>
#include <linux/module.h>
#include <linux/prandom.h>
#include <linux/sizes.h>

#include "../dm-chain-format.h"

#define BYTES	DM_CHAIN_HEADER_BYTES
#define TIB	BIT_ULL(40)

static void put32(void *buf, size_t at, u32 v)
{
	__le32 le = cpu_to_le32(v);

	memcpy(buf + at, &le, sizeof(le));
}

static void put64(void *buf, size_t at, u64 v)
{
	__le64 le = cpu_to_le64(v);

	memcpy(buf + at, &le, sizeof(le));
}

static u32 get32(const void *buf, size_t at)
{
	__le32 le;

	memcpy(&le, buf + at, sizeof(le));
	return le32_to_cpu(le);
}

static u64 get64(const void *buf, size_t at)
{
	__le64 le;

	memcpy(&le, buf + at, sizeof(le));
	return le64_to_cpu(le);
}

/* Make the checksum of a header right again after a change of its bytes. */
static void reseal(void *buf)
{
	put32(buf, 12, 0);
	put32(buf, 12, crc32c(~0U, buf, BYTES));
}

static void random_bytes(struct rnd_state *rnd, void *buf, size_t n)
{
	prandom_bytes_state(rnd, buf, n);
}

static void random_words(struct rnd_state *rnd, u64 *words, unsigned int n)
{
	prandom_bytes_state(rnd, words, n * sizeof(*words));
}

/* A header with something in each field. */
static struct chain_header *full_header(struct kunit *test, u32 seed)
{
	struct chain_header *h = kunit_kzalloc(test, sizeof(*h), GFP_KERNEL);
	struct rnd_state rnd;

	KUNIT_ASSERT_NOT_NULL(test, h);
	prandom_seed_state(&rnd, seed);
	KUNIT_ASSERT_EQ(test, chain_header_init(h, (5ULL << 30) + 512, TIB, 16), 0);
	h->generation = 0x1122334455667788ULL;
	h->compat = 1ULL << 63;
	h->compat_ro = 1ULL << 40;
	h->marks = DM_CHAIN_MARKS_KNOWN;
	h->map_seed = 0x8877665544332211ULL;
	h->limit = 3ULL << 30;
	h->parent.format = DM_CHAIN_FORMAT_CHAIN;
	h->parent.size = 4ULL << 30;
	random_bytes(&rnd, &h->uuid, sizeof(h->uuid));
	random_bytes(&rnd, &h->cid, sizeof(h->cid));
	random_bytes(&rnd, &h->parent.uuid, sizeof(h->parent.uuid));
	random_bytes(&rnd, &h->parent.cid, sizeof(h->parent.cid));
	random_bytes(&rnd, &h->sealed_by, sizeof(h->sealed_by));
	random_bytes(&rnd, &h->use_host, sizeof(h->use_host));
	random_bytes(&rnd, &h->use_boot, sizeof(h->use_boot));
	random_bytes(&rnd, &h->use_nonce, sizeof(h->use_nonce));
	random_bytes(&rnd, &h->group, sizeof(h->group));
	random_bytes(&rnd, &h->coordinator, sizeof(h->coordinator));
	random_bytes(&rnd, &h->decision, sizeof(h->decision));
	random_bytes(&rnd, &h->job, sizeof(h->job));
	h->record.type = DM_CHAIN_RECORD_STREAM;
	random_bytes(&rnd, &h->record.base, sizeof(h->record.base));
	memset(h->parent_path, 'p', sizeof(h->parent_path) - 1);
	memset(h->child_path, 'c', sizeof(h->child_path) - 1);
	return h;
}

static void *encoded(struct kunit *test, const struct chain_header *h)
{
	void *buf = kunit_kmalloc(test, BYTES, GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, buf);
	memset(buf, 0xee, BYTES);
	chain_header_encode(h, buf);
	return buf;
}

static void header_round_trip(struct kunit *test)
{
	struct chain_header *h = full_header(test, 1);
	struct chain_header *g = kunit_kzalloc(test, sizeof(*g), GFP_KERNEL);
	void *buf = encoded(test, h);

	KUNIT_ASSERT_NOT_NULL(test, g);
	KUNIT_ASSERT_EQ(test, chain_header_decode(buf, g), CHAIN_HEADER_OK);
	/* Both began as zeroes, so that padding compares, too. */
	KUNIT_EXPECT_MEMEQ(test, h, g, sizeof(*h));
}

static void header_offsets(struct kunit *test)
{
	struct chain_header *h = full_header(test, 2);
	u8 *buf = encoded(test, h);

	KUNIT_EXPECT_MEMEQ(test, buf, "DMCHAIN\n", 8);
	KUNIT_EXPECT_EQ(test, get32(buf, 8), 1);
	KUNIT_EXPECT_EQ(test, get64(buf, 16), h->generation);
	KUNIT_EXPECT_EQ(test, get64(buf, 24), h->compat);
	KUNIT_EXPECT_EQ(test, get64(buf, 32), h->compat_ro);
	KUNIT_EXPECT_EQ(test, get64(buf, 40), h->incompat);
	KUNIT_EXPECT_MEMEQ(test, buf + 48, h->uuid.b, 16);
	KUNIT_EXPECT_MEMEQ(test, buf + 64, h->cid.b, 16);
	KUNIT_EXPECT_EQ(test, get64(buf, 80), h->size);
	KUNIT_EXPECT_EQ(test, get64(buf, 88), h->max_size);
	KUNIT_EXPECT_EQ(test, get32(buf, 96), h->block_shift);
	KUNIT_EXPECT_EQ(test, get32(buf, 100), h->marks);
	KUNIT_EXPECT_EQ(test, get64(buf, 104), 1024 * 1024);
	KUNIT_EXPECT_EQ(test, get64(buf, 112), h->map_offset);
	KUNIT_EXPECT_EQ(test, get64(buf, 120), h->data_offset);
	KUNIT_EXPECT_EQ(test, get64(buf, 128), h->map_seed);
	KUNIT_EXPECT_EQ(test, get64(buf, 136), h->limit);
	KUNIT_EXPECT_EQ(test, get32(buf, 144), h->parent.format);
	KUNIT_EXPECT_EQ(test, get32(buf, 148), 0);
	KUNIT_EXPECT_MEMEQ(test, buf + 152, h->parent.uuid.b, 16);
	KUNIT_EXPECT_MEMEQ(test, buf + 168, h->parent.cid.b, 16);
	KUNIT_EXPECT_EQ(test, get64(buf, 184), h->parent.size);
}

static void header_offsets_of_ids(struct kunit *test)
{
	struct chain_header *h = full_header(test, 3);
	u8 *buf = encoded(test, h);
	u32 crc = get32(buf, 12);

	KUNIT_EXPECT_MEMEQ(test, buf + 192, h->sealed_by.b, 16);
	KUNIT_EXPECT_MEMEQ(test, buf + 208, h->use_host.b, 16);
	KUNIT_EXPECT_MEMEQ(test, buf + 224, h->use_boot.b, 16);
	KUNIT_EXPECT_MEMEQ(test, buf + 240, h->use_nonce.b, 16);
	KUNIT_EXPECT_MEMEQ(test, buf + 256, h->group.b, 16);
	KUNIT_EXPECT_MEMEQ(test, buf + 272, h->coordinator.b, 16);
	KUNIT_EXPECT_MEMEQ(test, buf + 288, h->decision.b, 16);
	KUNIT_EXPECT_MEMEQ(test, buf + 304, h->job.b, 16);
	KUNIT_EXPECT_MEMEQ(test, buf + 512, h->parent_path, 1024);
	KUNIT_EXPECT_MEMEQ(test, buf + 1536, h->child_path, 1024);
	KUNIT_EXPECT_NULL(test, memchr_inv(buf + 352, 0, 160));
	KUNIT_EXPECT_NULL(test, memchr_inv(buf + 2560, 0, 1536));
	reseal(buf);
	KUNIT_EXPECT_EQ(test, get32(buf, 12), crc);
}

/* One byte wrong anywhere, reserved ones included, is seen. */
static void header_each_byte(struct kunit *test)
{
	struct chain_header *h = full_header(test, 4);
	u8 *buf = encoded(test, h);
	unsigned int i;

	for (i = 0; i < BYTES; i++) {
		enum chain_header_status want = i < 8 ? CHAIN_HEADER_NONE :
							CHAIN_HEADER_CRC;
		u8 flip = 1U << i % 8;

		buf[i] ^= flip;
		KUNIT_ASSERT_EQ_MSG(test, chain_header_decode(buf, h), want,
				    "byte %u", i);
		buf[i] ^= flip;
	}
	KUNIT_EXPECT_EQ(test, chain_header_decode(buf, h), CHAIN_HEADER_OK);
}

/* Fields that no checksum can make right. */
static const struct header_lie {
	const char *name;
	size_t at;
	unsigned int bytes;
	u64 value;
	enum chain_header_status status;
} header_lies[] = {
	{ "version 0", 8, 4, 0, CHAIN_HEADER_VERSION },
	{ "version 2", 8, 4, 2, CHAIN_HEADER_VERSION },
	{ "incompatible bit 0", 40, 8, 1, CHAIN_HEADER_INCOMPAT },
	{ "incompatible bit 63", 40, 8, 1ULL << 63, CHAIN_HEADER_INCOMPAT },
	{ "mark 9", 100, 4, 1U << 9, CHAIN_HEADER_INCOMPAT },
	{ "mark 31", 100, 4, 1U << 31, CHAIN_HEADER_INCOMPAT },
	{ "size 0", 80, 8, 0, CHAIN_HEADER_GEOMETRY },
	{ "size no sectors", 80, 8, 513, CHAIN_HEADER_GEOMETRY },
	{ "size over max", 80, 8, TIB + 512, CHAIN_HEADER_GEOMETRY },
	{ "size over limit", 80, 8, 128 * TIB, CHAIN_HEADER_GEOMETRY },
	{ "size below see-through limit", 80, 8, SZ_1G, CHAIN_HEADER_GEOMETRY },
	{ "max 0", 88, 8, 0, CHAIN_HEADER_GEOMETRY },
	{ "max no sectors", 88, 8, TIB + 1, CHAIN_HEADER_GEOMETRY },
	{ "max over limit", 88, 8, 64 * TIB + 512, CHAIN_HEADER_GEOMETRY },
	{ "max all ones", 88, 8, ~0ULL, CHAIN_HEADER_GEOMETRY },
	{ "max of other offsets", 88, 8, 64 * TIB, CHAIN_HEADER_GEOMETRY },
	{ "block shift 11", 96, 4, 11, CHAIN_HEADER_GEOMETRY },
	{ "block shift 12 of other offsets", 96, 4, 12, CHAIN_HEADER_GEOMETRY },
	{ "block shift 21", 96, 4, 21, CHAIN_HEADER_GEOMETRY },
	{ "block shift 64", 96, 4, 64, CHAIN_HEADER_GEOMETRY },
	{ "block shift all ones", 96, 4, ~0U, CHAIN_HEADER_GEOMETRY },
	{ "presence map elsewhere", 104, 8, 2 << 20, CHAIN_HEADER_GEOMETRY },
	{ "map elsewhere", 112, 8, 0, CHAIN_HEADER_GEOMETRY },
	{ "data elsewhere", 120, 8, 0, CHAIN_HEADER_GEOMETRY },
	{ "data far away", 120, 8, ~0ULL, CHAIN_HEADER_GEOMETRY },
	{ "limit over size", 136, 8, 6ULL << 30, CHAIN_HEADER_GEOMETRY },
	{ "parent format 3", 144, 4, 3, CHAIN_HEADER_GEOMETRY },
	{ "parent size 0", 184, 8, 0, CHAIN_HEADER_GEOMETRY },
	{ "parent size no sectors", 184, 8, 1, CHAIN_HEADER_GEOMETRY },
	{ "parent size over limit", 184, 8, ~511ULL, CHAIN_HEADER_GEOMETRY },
	{ "parent path endless", 1535, 1, 'p', CHAIN_HEADER_GEOMETRY },
	{ "child path endless", 2559, 1, 'c', CHAIN_HEADER_GEOMETRY },
	{ "compatible bit", 24, 8, 2, CHAIN_HEADER_OK },
	{ "read-only-compatible bit", 32, 8, 2, CHAIN_HEADER_OK },
	{ "no parent", 144, 4, DM_CHAIN_FORMAT_NONE, CHAIN_HEADER_OK },
	{ "raw parent", 144, 4, DM_CHAIN_FORMAT_RAW, CHAIN_HEADER_OK },
};

static void header_lie_name(const struct header_lie *lie, char *name)
{
	strscpy(name, lie->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(header_lie, header_lies, header_lie_name);

static void header_refuses(struct kunit *test)
{
	const struct header_lie *lie = test->param_value;
	struct chain_header *h = full_header(test, 5);
	u8 *buf = encoded(test, h);

	if (lie->bytes == 8)
		put64(buf, lie->at, lie->value);
	else if (lie->bytes == 4)
		put32(buf, lie->at, lie->value);
	else
		buf[lie->at] = lie->value;
	reseal(buf);
	KUNIT_EXPECT_EQ(test, chain_header_decode(buf, h), lie->status);
	KUNIT_EXPECT_GT(test, strlen(chain_header_strerror(lie->status)), 0);
}

static void header_needs_uuid(struct kunit *test)
{
	struct chain_header *h = full_header(test, 6);
	u8 *buf = encoded(test, h);

	memset(buf + 48, 0, 16);
	reseal(buf);
	KUNIT_EXPECT_EQ(test, chain_header_decode(buf, h),
			CHAIN_HEADER_GEOMETRY);
}

/* What may stand in a slot. The number is the generation. */
enum slot {
	UNREAD,		/* read error */
	EMPTY,		/* zeroes */
	TORN,		/* checksum wrong */
	NEWER,		/* unknown version */
	FEATURE,	/* unknown incompatible feature */
	ABSURD,		/* checksum right, geometry wrong */
	GEN5,
	GEN5B,		/* the same generation, other content */
	GEN6,
	NR_SLOTS
};

static void *make_slot(struct kunit *test, enum slot kind)
{
	struct chain_header *h = full_header(test, kind == GEN5B ? 8 : 7);
	u8 *buf;

	if (kind == UNREAD)
		return NULL;
	h->generation = kind == GEN6 ? 6 : 5;
	buf = encoded(test, h);
	if (kind == EMPTY)
		memset(buf, 0, BYTES);
	else if (kind == TORN)
		memset(buf + 512, 0, BYTES - 512);
	else if (kind == NEWER)
		put32(buf, 8, 2);
	else if (kind == FEATURE)
		put64(buf, 40, 1);
	else if (kind == ABSURD)
		put64(buf, 120, 4096);
	if (kind == NEWER || kind == FEATURE || kind == ABSURD)
		reseal(buf);
	return buf;
}

struct picked {
	enum chain_header_status status;
	unsigned int stale;
	u64 generation;
};

#define OK(stale, gen)	{ CHAIN_HEADER_OK, stale, gen }
#define NO(status)	{ CHAIN_HEADER_##status, 0, 0 }

/* Row: slot 0; column: slot 1, in the order of enum slot. */
static const struct picked truth[NR_SLOTS][NR_SLOTS] = {
	[UNREAD] = { NO(UNREAD), NO(UNREAD), NO(UNREAD),
		     NO(VERSION), NO(INCOMPAT), NO(GEOMETRY),
		     OK(1, 5), OK(1, 5), OK(1, 6) },
	[EMPTY] = { NO(UNREAD), NO(NONE), NO(CRC),
		    NO(VERSION), NO(INCOMPAT), NO(GEOMETRY),
		    OK(1, 5), OK(1, 5), OK(1, 6) },
	[TORN] = { NO(UNREAD), NO(CRC), NO(CRC),
		   NO(VERSION), NO(INCOMPAT), NO(GEOMETRY),
		   OK(1, 5), OK(1, 5), OK(1, 6) },
	[NEWER] = { [0 ... NR_SLOTS - 1] = NO(VERSION) },
	[FEATURE] = { [0 ... NR_SLOTS - 1] = NO(INCOMPAT) },
	[ABSURD] = { [0 ... NR_SLOTS - 1] = NO(GEOMETRY) },
	[GEN5] = { OK(2, 5), OK(2, 5), OK(2, 5),
		   NO(VERSION), NO(INCOMPAT), NO(GEOMETRY),
		   OK(0, 5), NO(SPLIT), OK(1, 6) },
	[GEN5B] = { OK(2, 5), OK(2, 5), OK(2, 5),
		    NO(VERSION), NO(INCOMPAT), NO(GEOMETRY),
		    NO(SPLIT), OK(0, 5), OK(1, 6) },
	[GEN6] = { OK(2, 6), OK(2, 6), OK(2, 6),
		   NO(VERSION), NO(INCOMPAT), NO(GEOMETRY),
		   OK(2, 6), OK(2, 6), OK(0, 6) },
};

static void header_pick(struct kunit *test)
{
	struct chain_header *h = full_header(test, 9);
	void *slot[NR_SLOTS];
	unsigned int a, b;

	for (a = 0; a < NR_SLOTS; a++)
		slot[a] = make_slot(test, a);
	for (a = 0; a < NR_SLOTS; a++) {
		for (b = 0; b < NR_SLOTS; b++) {
			const struct picked *want = &truth[a][b];
			unsigned int stale = ~0U;

			KUNIT_EXPECT_EQ_MSG(test, chain_header_pick(slot[a],
								    slot[b], h,
								    &stale),
					    want->status, "slots %u, %u", a, b);
			if (want->status)
				continue;
			KUNIT_EXPECT_EQ_MSG(test, stale, want->stale,
					    "slots %u, %u", a, b);
			KUNIT_EXPECT_EQ_MSG(test, h->generation,
					    want->generation,
					    "slots %u, %u", a, b);
		}
	}
}

/* Each part of a layer is large enough, and none overlaps the next. */
static void check_geometry(struct kunit *test, const struct chain_header *h)
{
	u64 groups = DIV_ROUND_UP_ULL(DIV_ROUND_UP_ULL(h->max_size,
						       1ULL << h->block_shift),
				      DM_CHAIN_GROUP_BLOCKS);
	u64 bytes = chain_layer_bytes(h);

	KUNIT_EXPECT_EQ(test, chain_max_groups(h), groups);
	KUNIT_EXPECT_EQ(test, h->presence_offset, SZ_1M);
	KUNIT_EXPECT_GE(test, (h->map_offset - h->presence_offset) / 512 * 2048,
			groups);
	KUNIT_EXPECT_EQ(test, h->map_offset % 4096, 0);
	KUNIT_EXPECT_GE(test, h->data_offset,
			h->map_offset + groups * DM_CHAIN_GROUP_BYTES);
	KUNIT_EXPECT_EQ(test, h->data_offset % DM_CHAIN_ALIGN, 0);
	KUNIT_EXPECT_LT(test, h->data_offset - h->map_offset -
			groups * DM_CHAIN_GROUP_BYTES, DM_CHAIN_ALIGN);
	KUNIT_EXPECT_EQ(test, chain_trailer_offset(h), bytes - BYTES);
	KUNIT_EXPECT_EQ(test, bytes, h->data_offset + SZ_1M +
			round_up(h->size, 1ULL << h->block_shift));
}

static void geometry_sweep(struct kunit *test)
{
	static const u64 sizes[] = {
		512, 4096, 4608, SZ_1M, SZ_32M, SZ_32M + 512, SZ_1G,
		64ULL << 30, TIB - 512, TIB, 63 * TIB + 512, 64 * TIB
	};
	struct chain_header *h = full_header(test, 10);
	unsigned int i, j;
	u32 shift;

	for (shift = 12; shift <= 20; shift++) {
		for (i = 0; i < ARRAY_SIZE(sizes); i++) {
			for (j = i; j < ARRAY_SIZE(sizes); j++) {
				KUNIT_ASSERT_EQ(test,
						chain_header_init(h, sizes[i],
								  sizes[j],
								  shift), 0);
				check_geometry(test, h);
			}
		}
	}
}

static void geometry_known(struct kunit *test)
{
	struct chain_header *h = full_header(test, 11);

	/* 2^18 blocks: 32 groups, 1 presence sector, 128 KiB of map. */
	KUNIT_ASSERT_EQ(test, chain_header_init(h, SZ_1G, SZ_1G, 12), 0);
	KUNIT_EXPECT_EQ(test, h->map_offset, SZ_1M + 4096);
	KUNIT_EXPECT_EQ(test, h->data_offset, SZ_2M);
	KUNIT_EXPECT_EQ(test, chain_layer_bytes(h), SZ_1G + 3 * SZ_1M);
	KUNIT_EXPECT_EQ(test, chain_presence_sectors(h), 1);
	KUNIT_EXPECT_EQ(test, h->limit, 0);
	/* 2^34 blocks: 2^21 groups, 512 KiB presence map, 8 GiB of map. */
	KUNIT_ASSERT_EQ(test, chain_header_init(h, 64 * TIB, 64 * TIB, 12), 0);
	KUNIT_EXPECT_EQ(test, h->map_offset, SZ_1M + SZ_512K);
	KUNIT_EXPECT_EQ(test, h->data_offset, (8ULL << 30) + SZ_2M);
	KUNIT_EXPECT_EQ(test, chain_presence_sectors(h), 1024);
}

static void geometry_refuses(struct kunit *test)
{
	static const struct {
		u64 size, max;
		u32 shift;
	} bad[] = {
		{ 0, SZ_1M, 12 }, { 511, SZ_1M, 12 }, { 513, SZ_1M, 12 },
		{ SZ_1M, 0, 12 }, { SZ_1M, SZ_1M - 512, 12 },
		{ SZ_1M, SZ_1M + 1, 12 }, { SZ_1M, 64 * TIB + 512, 12 },
		{ 64 * TIB + 512, 64 * TIB + 512, 12 },
		{ SZ_1M, SZ_1M, 0 }, { SZ_1M, SZ_1M, 11 },
		{ SZ_1M, SZ_1M, 21 }, { ~511ULL, ~511ULL, 12 },
	};
	struct chain_header *h = full_header(test, 12);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		KUNIT_EXPECT_EQ_MSG(test, chain_header_init(h, bad[i].size,
							    bad[i].max,
							    bad[i].shift),
				    -EINVAL, "line %u", i);
}

/* The answer fits into the device, and a block more would not. */
static void geometry_of_device(struct kunit *test)
{
	struct chain_header *h = full_header(test, 13);
	struct rnd_state rnd;
	unsigned int i;

	prandom_seed_state(&rnd, 14);
	for (i = 0; i < 2000; i++) {
		u32 shift = 12 + i % 9;
		u64 bytes = ((u64)prandom_u32_state(&rnd) << 15) >> (i % 24);
		u64 max = chain_max_size_for(bytes, shift);

		KUNIT_ASSERT_EQ(test, max & ((1ULL << shift) - 1), 0);
		if (max) {
			chain_header_init(h, max, max, shift);
			KUNIT_ASSERT_LE(test, chain_layer_bytes(h), bytes);
		}
		max += 1ULL << shift;
		if (!chain_header_init(h, max, max, shift))
			KUNIT_ASSERT_GT(test, chain_layer_bytes(h), bytes);
	}
	KUNIT_EXPECT_EQ(test, chain_max_size_for(0, 12), 0);
	KUNIT_EXPECT_EQ(test, chain_max_size_for(SZ_1G, 11), 0);
	KUNIT_EXPECT_EQ(test, chain_max_size_for(SZ_1G, 21), 0);
	KUNIT_EXPECT_EQ(test, chain_max_size_for(~0ULL, 12), 64 * TIB);
}

static void geometry_default(struct kunit *test)
{
	struct chain_header *h = full_header(test, 15);
	u64 size;

	KUNIT_EXPECT_EQ(test, chain_default_max_size(512), TIB);
	KUNIT_EXPECT_EQ(test, chain_default_max_size(TIB), 16 * TIB);
	KUNIT_EXPECT_EQ(test, chain_default_max_size(5 * TIB), 64 * TIB);
	for (size = 512; size <= 64 * TIB; size *= 2)
		KUNIT_EXPECT_EQ(test, chain_header_init(h, size,
							chain_default_max_size(size),
							12), 0);
}

#define MAGIC	DM_CHAIN_MAP_MAGIC
#define SEED	0x0123456789abcdefULL

/* Buffers for a group; the first parts of them for a sector. */
struct group {
	u64 words[CHAIN_GROUP_WORDS];
	u64 back[CHAIN_GROUP_WORDS];
	u8 buf[DM_CHAIN_GROUP_BYTES];
};

static struct group *random_group(struct kunit *test, u32 seed)
{
	struct group *g = kunit_kzalloc(test, sizeof(*g), GFP_KERNEL);
	struct rnd_state rnd;

	KUNIT_ASSERT_NOT_NULL(test, g);
	prandom_seed_state(&rnd, seed);
	random_words(&rnd, g->words, CHAIN_GROUP_WORDS);
	chain_group_encode(SEED, 5, g->words, 0, g->buf);
	return g;
}

static void sector_round_trip(struct kunit *test)
{
	struct group *g = random_group(test, 16);
	size_t bytes = CHAIN_SECTOR_WORDS * sizeof(*g->words);
	unsigned int i;

	memset(g->buf, 0xee, 512);
	chain_sector_encode(MAGIC, SEED, 77, g->words, g->buf);
	KUNIT_EXPECT_MEMEQ(test, g->buf, "CMAP", 4);
	KUNIT_EXPECT_EQ(test, get64(g->buf, 8), 77);
	KUNIT_EXPECT_EQ(test, get64(g->buf, 16), SEED);
	KUNIT_EXPECT_EQ(test, get64(g->buf, 24), 0);
	for (i = 0; i < CHAIN_SECTOR_WORDS; i++)
		KUNIT_EXPECT_EQ(test, get64(g->buf, 32 + 8 * i), g->words[i]);
	KUNIT_EXPECT_NULL(test, memchr_inv(g->buf + 288, 0, 224));
	KUNIT_EXPECT_TRUE(test, chain_sector_decode(MAGIC, SEED, 77, g->buf,
						    g->back));
	KUNIT_EXPECT_MEMEQ(test, g->words, g->back, bytes);
}

/* The checksum is the one that the format says, not any that fits. */
static void sector_checksum(struct kunit *test)
{
	struct group *g = random_group(test, 17);
	u32 crc = get32(g->buf, 4);

	put32(g->buf, 4, 0);
	KUNIT_EXPECT_EQ(test, crc32c(~0U, g->buf, 512), crc);
}

static void sector_each_byte(struct kunit *test)
{
	struct group *g = random_group(test, 18);
	unsigned int i;

	chain_sector_encode(MAGIC, SEED, 77, g->words, g->buf);
	for (i = 0; i < 512; i++) {
		u8 flip = 1U << i % 8;

		g->buf[i] ^= flip;
		KUNIT_EXPECT_FALSE_MSG(test,
				       chain_sector_decode(MAGIC, SEED, 77,
							   g->buf, g->back),
				       "byte %u", i);
		g->buf[i] ^= flip;
	}
	KUNIT_EXPECT_TRUE(test, chain_sector_decode(MAGIC, SEED, 77, g->buf,
						    g->back));
}

static bool sector_valid(struct group *g, u32 magic, u64 seed, u64 index)
{
	return chain_sector_decode(magic, seed, index, g->buf, g->back);
}

/* A valid sector of another place, map or layer is none here. */
static void sector_elsewhere(struct kunit *test)
{
	struct group *g = random_group(test, 19);

	chain_sector_encode(MAGIC, SEED, 77, g->words, g->buf);
	g->back[0] = 9;
	KUNIT_EXPECT_FALSE(test, sector_valid(g, MAGIC, SEED, 78));
	KUNIT_EXPECT_FALSE(test, sector_valid(g, MAGIC, SEED, 77 | 1ULL << 32));
	KUNIT_EXPECT_FALSE(test, sector_valid(g, MAGIC, SEED + 1, 77));
	KUNIT_EXPECT_FALSE(test, sector_valid(g, DM_CHAIN_PRESENCE_MAGIC, SEED,
					      77));
	memset(g->buf, 0, 512);
	KUNIT_EXPECT_FALSE(test, sector_valid(g, MAGIC, SEED, 77));
	KUNIT_EXPECT_FALSE(test, sector_valid(g, 0, 0, 0));
	KUNIT_EXPECT_EQ(test, g->back[0], 9);
}

/* Any set of damaged sectors costs just their own states. */
static void group_damage(struct kunit *test)
{
	struct group *g = random_group(test, 18);
	unsigned int mask, i, at;
	u8 changed;

	for (mask = 0; mask < 256; mask++) {
		chain_group_encode(SEED, 5, g->words, 0, g->buf);
		memset(g->back, 0xee, sizeof(g->back));
		for (i = 0; i < 8; i++)
			if (mask & 1U << i)
				g->buf[i * 512 + mask * 2] ^= 0x10;
		KUNIT_ASSERT_EQ(test, chain_group_decode(SEED, 5, g->buf,
							 g->back, &changed), mask);
		for (i = 0; i < CHAIN_GROUP_WORDS; i++) {
			at = i / CHAIN_SECTOR_WORDS;
			KUNIT_ASSERT_EQ(test, g->back[i],
					mask & 1U << at ? CHAIN_WORD_DAMAGED :
							  g->words[i]);
		}
	}
}

/* Sectors that changed places, or went with a group, are damaged. */
static void group_misplaced(struct kunit *test)
{
	struct group *g = random_group(test, 19);
	u8 sector[512];
	u8 changed;

	memcpy(sector, g->buf, 512);
	memcpy(g->buf, g->buf + 3 * 512, 512);
	memcpy(g->buf + 3 * 512, sector, 512);
	KUNIT_EXPECT_EQ(test, chain_group_decode(SEED, 5, g->buf, g->back, &changed),
			1 << 0 | 1 << 3);
	chain_group_encode(SEED, 5, g->words, 0, g->buf);
	KUNIT_EXPECT_EQ(test, chain_group_decode(SEED, 6, g->buf, g->back, &changed),
			0xff);
	KUNIT_EXPECT_EQ(test, chain_group_decode(SEED ^ 1, 5, g->buf, g->back, &changed),
			0xff);
	memset(g->buf, 0, sizeof(g->buf));
	KUNIT_EXPECT_EQ(test, chain_group_decode(SEED, 5, g->buf, g->back, &changed),
			0xff);
}

static void group_empty(struct kunit *test)
{
	struct group *g = random_group(test, 20);
	u8 changed;

	chain_group_encode(SEED, 1ULL << 20, NULL, 0, g->buf);
	KUNIT_EXPECT_EQ(test, chain_group_decode(SEED, 1ULL << 20, g->buf,
						 g->back, &changed), 0);
	KUNIT_EXPECT_NULL(test, memchr_inv(g->back, 0, sizeof(g->back)));
}

static void states(struct kunit *test)
{
	struct group *g = random_group(test, 21);
	u8 *model = kunit_kzalloc(test, DM_CHAIN_GROUP_BLOCKS, GFP_KERNEL);
	struct rnd_state rnd;
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, model);
	prandom_seed_state(&rnd, 22);
	memset(g->words, 0, sizeof(g->words));
	for (i = 0; i < 20000; i++) {
		u32 r = prandom_u32_state(&rnd);
		u32 block = r % DM_CHAIN_GROUP_BLOCKS;

		model[block] = r >> 30;
		chain_state_put(g->words, block, r >> 30);
	}
	for (i = 0; i < DM_CHAIN_GROUP_BLOCKS; i++)
		KUNIT_ASSERT_EQ(test, chain_state_get(g->words, i), model[i]);
}

static void link_of_chain(struct kunit *test)
{
	struct chain_header *h = full_header(test, 23);
	struct chain_link link = {
		.format = DM_CHAIN_FORMAT_CHAIN, .uuid = h->uuid,
		.cid = h->cid, .size = 512,
	};

	KUNIT_EXPECT_EQ(test, chain_link_check(&link, NULL, h, 0, NULL),
			CHAIN_LINK_SPOILED);
	h->marks = 0;
	/* The parent may have grown since. */
	KUNIT_EXPECT_EQ(test, chain_link_check(&link, NULL, h, 0, NULL),
			CHAIN_LINK_OK);
	h->marks = DM_CHAIN_MARK_PENDING;
	KUNIT_EXPECT_EQ(test, chain_link_check(&link, NULL, h, 0, NULL),
			CHAIN_LINK_PENDING);
	link.cid.b[15] ^= 1;
	KUNIT_EXPECT_EQ(test, chain_link_check(&link, NULL, h, 0, NULL),
			CHAIN_LINK_CID);
	link.uuid.b[0] ^= 1;
	KUNIT_EXPECT_EQ(test, chain_link_check(&link, NULL, h, 0, NULL),
			CHAIN_LINK_UUID);
	link.format = DM_CHAIN_FORMAT_RAW;
	KUNIT_EXPECT_EQ(test, chain_link_check(&link, NULL, h, 0, NULL),
			CHAIN_LINK_FORMAT);
	link.format = DM_CHAIN_FORMAT_NONE;
	KUNIT_EXPECT_EQ(test, chain_link_check(&link, NULL, h, 0, NULL),
			CHAIN_LINK_FORMAT);
}

static void link_of_raw(struct kunit *test)
{
	struct chain_id cid = { { 1, 2, 3 } };
	struct chain_link link = {
		.format = DM_CHAIN_FORMAT_RAW, .cid = cid, .size = SZ_1M,
	};

	KUNIT_EXPECT_EQ(test, chain_link_check(&link, NULL, NULL, SZ_1M, &cid),
			CHAIN_LINK_OK);
	KUNIT_EXPECT_EQ(test, chain_link_check(&link, NULL, NULL, SZ_1M + 512, &cid),
			CHAIN_LINK_SIZE);
	cid.b[3] ^= 1;
	KUNIT_EXPECT_EQ(test, chain_link_check(&link, NULL, NULL, SZ_1M, &cid),
			CHAIN_LINK_CID);
	link.format = DM_CHAIN_FORMAT_CHAIN;
	KUNIT_EXPECT_EQ(test, chain_link_check(&link, NULL, NULL, SZ_1M, &cid),
			CHAIN_LINK_FORMAT);
}

static void raw_samples(struct kunit *test)
{
	static const u64 sizes[] = {
		512, 4096, 65024, SZ_64K, SZ_64K + 512, SZ_256K - 512, SZ_256K,
		SZ_256K + 512, SZ_1M, SZ_1G + 512, TIB, 64 * TIB
	};
	unsigned int s, i, unit, used;
	u32 length;
	u64 at;

	for (s = 0; s < ARRAY_SIZE(sizes); s++) {
		unit = sizes[s] % 4096 ? 512 : 4096;
		used = 0;
		for (i = 0; i < CHAIN_RAW_SAMPLES; i++) {
			chain_raw_sample(sizes[s], i, &at, &length);
			if (!length)
				continue;
			used++;
			KUNIT_EXPECT_LE(test, length, CHAIN_RAW_EDGE_BYTES);
			KUNIT_EXPECT_LE(test, at + length, sizes[s]);
			KUNIT_EXPECT_EQ(test, at % unit, 0);
			KUNIT_EXPECT_EQ(test, length % 512, 0);
			if (i == 0)
				KUNIT_EXPECT_EQ(test, at, 0);
			if (i == 1)
				KUNIT_EXPECT_EQ(test, at + length, sizes[s]);
		}
		KUNIT_EXPECT_EQ(test, used, sizes[s] < SZ_256K ? 2 :
				CHAIN_RAW_SAMPLES);
	}
}

/* @wrong: the sample with another byte, or none */
static struct chain_id fingerprint(int wrong)
{
	struct chain_id fp = {};
	int i;

	for (i = 0; i < CHAIN_RAW_SAMPLES; i++) {
		u8 sample[64] = { i, i == wrong };

		chain_raw_fingerprint_update(&fp, i, sample, sizeof(sample));
	}
	return fp;
}

static void raw_fingerprint(struct kunit *test)
{
	struct chain_id good = fingerprint(-1), again = fingerprint(-1), other;
	int i;

	KUNIT_EXPECT_TRUE(test, chain_id_equal(&good, &again));
	KUNIT_EXPECT_FALSE(test, chain_id_is_null(&good));
	for (i = 0; i < CHAIN_RAW_SAMPLES; i++) {
		other = fingerprint(i);
		KUNIT_EXPECT_FALSE_MSG(test, chain_id_equal(&good, &other),
				       "sample %d", i);
	}
}

static struct kunit_case cases[] = {
	KUNIT_CASE(header_round_trip),
	KUNIT_CASE(header_offsets),
	KUNIT_CASE(header_offsets_of_ids),
	KUNIT_CASE(header_each_byte),
	KUNIT_CASE_PARAM(header_refuses, header_lie_gen_params),
	KUNIT_CASE(header_needs_uuid),
	KUNIT_CASE(header_pick),
	KUNIT_CASE(geometry_sweep),
	KUNIT_CASE(geometry_known),
	KUNIT_CASE(geometry_refuses),
	KUNIT_CASE(geometry_of_device),
	KUNIT_CASE(geometry_default),
	KUNIT_CASE(sector_round_trip),
	KUNIT_CASE(sector_checksum),
	KUNIT_CASE(sector_each_byte),
	KUNIT_CASE(sector_elsewhere),
	KUNIT_CASE(group_damage),
	KUNIT_CASE(group_misplaced),
	KUNIT_CASE(group_empty),
	KUNIT_CASE(states),
	KUNIT_CASE(link_of_chain),
	KUNIT_CASE(link_of_raw),
	KUNIT_CASE(raw_samples),
	KUNIT_CASE(raw_fingerprint),
	{}
};

static struct kunit_suite suite = {
	.name = "dm_chain_format",
	.test_cases = cases,
};

kunit_test_suite(suite);

MODULE_DESCRIPTION("KUnit suite of dm-chain: on-disk format");
MODULE_LICENSE("GPL");
