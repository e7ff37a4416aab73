// SPDX-License-Identifier: GPL-2.0-or-later
// sources: kmod/dm-chain-format.c userspace/lib-crc.c
/*
 * The codec: what it writes is where the format says, what it accepts can be
 * computed with, and what is damaged is never accepted.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "dm-chain-format.h"
#include "rng.h"

#define KIB	1024ULL
#define MIB	(1024 * KIB)
#define GIB	(1024 * MIB)
#define TIB	(1024 * GIB)

static void random_bytes(void *buf, size_t len)
{
	u8 *p = buf;

	while (len--)
		*p++ = (u8)(rng() >> 56);
}

static void random_id(struct chain_id *id)
{
	random_bytes(id->b, sizeof(id->b));
}

/* A valid header with something in every field. */
static void full_header(struct chain_header *h)
{
	assert_int_equal(chain_header_init(h, 3 * GIB + 512, 40 * GIB, 14), 0);
	h->generation = 0x1122334455667788ULL;
	h->compat = 0xa5;
	h->compat_ro = 0x5a;
	h->marks = DM_CHAIN_MARKS_KNOWN;
	h->map_seed = rng();
	h->limit = 1 * GIB + 1024;
	h->parent.format = DM_CHAIN_FORMAT_CHAIN;
	h->parent.size = 2 * GIB;
	random_id(&h->uuid);
	random_id(&h->cid);
	random_id(&h->parent.uuid);
	random_id(&h->parent.cid);
	random_id(&h->sealed_by);
	random_id(&h->use_host);
	random_id(&h->use_boot);
	random_id(&h->use_nonce);
	random_id(&h->group);
	random_id(&h->coordinator);
	random_id(&h->decision);
	random_id(&h->job);
	h->record.type = DM_CHAIN_RECORD_COMMIT;
	h->record.flags = DM_CHAIN_RECORD_DONE;
	h->record.base_format = DM_CHAIN_FORMAT_RAW;
	h->record.base_size = 12345 * 512;
	random_id(&h->record.base);
	random_id(&h->record.c0);
	random_id(&h->record.c1);
	strcpy(h->parent_path, "../base.img");
	strcpy(h->child_path, "/var/lib/vm/top.img");
}

static void assert_headers_equal(const struct chain_header *a,
				 const struct chain_header *b)
{
	assert_int_equal(a->generation, b->generation);
	assert_int_equal(a->compat, b->compat);
	assert_int_equal(a->compat_ro, b->compat_ro);
	assert_int_equal(a->incompat, b->incompat);
	assert_memory_equal(&a->uuid, &b->uuid, 16);
	assert_memory_equal(&a->cid, &b->cid, 16);
	assert_int_equal(a->size, b->size);
	assert_int_equal(a->max_size, b->max_size);
	assert_int_equal(a->block_shift, b->block_shift);
	assert_int_equal(a->record.type, b->record.type);
	assert_int_equal(a->record.flags, b->record.flags);
	assert_int_equal(a->record.base_format, b->record.base_format);
	assert_int_equal(a->record.base_size, b->record.base_size);
	assert_memory_equal(&a->record.base, &b->record.base, 16);
	assert_memory_equal(&a->record.c0, &b->record.c0, 16);
	assert_memory_equal(&a->record.c1, &b->record.c1, 16);
	assert_int_equal(a->marks, b->marks);
	assert_int_equal(a->presence_offset, b->presence_offset);
	assert_int_equal(a->map_offset, b->map_offset);
	assert_int_equal(a->data_offset, b->data_offset);
	assert_int_equal(a->map_seed, b->map_seed);
	assert_int_equal(a->limit, b->limit);
	assert_int_equal(a->parent.format, b->parent.format);
	assert_memory_equal(&a->parent.uuid, &b->parent.uuid, 16);
	assert_memory_equal(&a->parent.cid, &b->parent.cid, 16);
	assert_int_equal(a->parent.size, b->parent.size);
	/* From sealed_by to the end there are only bytes, without gaps. */
	assert_memory_equal(&a->sealed_by, &b->sealed_by,
			    8 * 16 + 2 * DM_CHAIN_PATH_BYTES);
}

static u64 le(const u8 *p, int bytes)
{
	u64 v = 0;

	while (bytes--)
		v = v << 8 | p[bytes];
	return v;
}

/* Makes the checksum right again after a change of the bytes. */
static void sign(u8 *buf)
{
	u32 crc;

	memset(buf + 12, 0, 4);
	crc = chain_crc32c(~0U, buf, DM_CHAIN_HEADER_BYTES);
	buf[12] = (u8)crc;
	buf[13] = (u8)(crc >> 8);
	buf[14] = (u8)(crc >> 16);
	buf[15] = (u8)(crc >> 24);
}

static void crc_known_answers(void **state)
{
	u8 zeroes[32] = { 0 }, up[32];
	unsigned int i;

	(void)state;
	for (i = 0; i < sizeof(up); i++)
		up[i] = (u8)i;
	/* RFC 3720, B.4, which inverts before and after. */
	assert_int_equal(~chain_crc32c(~0U, "123456789", 9), 0xe3069283U);
	assert_int_equal(~chain_crc32c(~0U, zeroes, 32), 0x8a9136aaU);
	assert_int_equal(~chain_crc32c(~0U, up, 32), 0x46dd794eU);
	/* In pieces of any length it is the same. */
	for (i = 0; i <= 32; i++)
		assert_int_equal(chain_crc32c(chain_crc32c(~0U, up, i), up + i,
					      32 - i), ~0x46dd794eU);
}

static void header_round_trip(void **state)
{
	static struct chain_header a, b;
	static u8 buf[DM_CHAIN_HEADER_BYTES], again[DM_CHAIN_HEADER_BYTES];

	(void)state;
	full_header(&a);
	chain_header_encode(&a, buf);
	assert_int_equal(chain_header_decode(buf, &b), CHAIN_HEADER_OK);
	assert_headers_equal(&a, &b);
	chain_header_encode(&b, again);
	assert_memory_equal(buf, again, sizeof(buf));
}

static void header_fields_have_their_place(void **state)
{
	static struct chain_header h;
	static u8 buf[DM_CHAIN_HEADER_BYTES];
	unsigned int i;

	(void)state;
	full_header(&h);
	chain_header_encode(&h, buf);
	assert_memory_equal(buf, "DMCHAIN\n", 8);
	assert_int_equal(le(buf + 8, 4), 1);
	assert_int_equal(le(buf + 16, 8), h.generation);
	assert_int_equal(le(buf + 24, 8), h.compat);
	assert_int_equal(le(buf + 32, 8), h.compat_ro);
	assert_int_equal(le(buf + 40, 8), h.incompat);
	assert_memory_equal(buf + 48, &h.uuid, 16);
	assert_memory_equal(buf + 64, &h.cid, 16);
	assert_int_equal(le(buf + 80, 8), h.size);
	assert_int_equal(le(buf + 88, 8), h.max_size);
	assert_int_equal(le(buf + 96, 4), h.block_shift);
	assert_int_equal(le(buf + 100, 4), h.marks);
	assert_int_equal(le(buf + 104, 8), h.presence_offset);
	assert_int_equal(le(buf + 112, 8), h.map_offset);
	assert_int_equal(le(buf + 120, 8), h.data_offset);
	assert_int_equal(le(buf + 128, 8), h.map_seed);
	assert_int_equal(le(buf + 136, 8), h.limit);
	assert_int_equal(le(buf + 144, 4), h.parent.format);
	assert_int_equal(le(buf + 148, 4), 0);
	assert_memory_equal(buf + 152, &h.parent.uuid, 16);
	assert_memory_equal(buf + 168, &h.parent.cid, 16);
	assert_int_equal(le(buf + 184, 8), h.parent.size);
	assert_memory_equal(buf + 192, &h.sealed_by, 16);
	assert_memory_equal(buf + 208, &h.use_host, 16);
	assert_memory_equal(buf + 224, &h.use_boot, 16);
	assert_memory_equal(buf + 240, &h.use_nonce, 16);
	assert_memory_equal(buf + 256, &h.group, 16);
	assert_memory_equal(buf + 272, &h.coordinator, 16);
	assert_memory_equal(buf + 288, &h.decision, 16);
	assert_memory_equal(buf + 304, &h.job, 16);
	assert_string_equal((char *)buf + 512, h.parent_path);
	assert_string_equal((char *)buf + 1536, h.child_path);
	assert_memory_equal(buf + 336, &h.record.base, 16);
	assert_memory_equal(buf + 352, &h.record.c0, 16);
	assert_memory_equal(buf + 368, &h.record.c1, 16);
	for (i = 392; i < 512; i++)
		assert_int_equal(buf[i], 0);
	for (i = 2560; i < 4096; i++)
		assert_int_equal(buf[i], 0);
}

static void each_header_byte_counts(void **state)
{
	static struct chain_header h, out;
	static u8 buf[DM_CHAIN_HEADER_BYTES];
	unsigned int i;

	(void)state;
	full_header(&h);
	chain_header_encode(&h, buf);
	for (i = 0; i < sizeof(buf); i++) {
		buf[i] ^= (u8)(1 + rng() % 255);
		assert_int_equal(chain_header_decode(buf, &out),
				 i < 8 ? CHAIN_HEADER_NONE : CHAIN_HEADER_CRC);
		chain_header_encode(&h, buf);
	}
}

/* A header with one thing wrong, whose checksum holds. */
static void expect_status(const struct chain_header *h,
			  enum chain_header_status status)
{
	static struct chain_header out;
	static u8 buf[DM_CHAIN_HEADER_BYTES];

	chain_header_encode(h, buf);
	assert_int_equal(chain_header_decode(buf, &out), status);
}

#define EXPECT(change, status)			\
	do {					\
		struct chain_header h = good;	\
						\
		change;				\
		expect_status(&h, status);	\
	} while (0)
#define REFUSED(change)	EXPECT(change, CHAIN_HEADER_GEOMETRY)
#define FINE(change)	EXPECT(change, CHAIN_HEADER_OK)

static void contradictions_are_refused(void **state)
{
	static struct chain_header good;

	(void)state;
	full_header(&good);
	FINE((void)h);
	REFUSED(h.size = 0);
	REFUSED(h.size += 1);
	REFUSED(h.size = h.max_size + 512);
	REFUSED(h.size = ~0ULL);
	REFUSED(h.max_size = DM_CHAIN_MAX_SIZE + 512);
	REFUSED(h.max_size = 0);
	REFUSED(h.block_shift = 11);
	REFUSED(h.block_shift = 21);
	REFUSED(h.block_shift = ~0U);
	REFUSED(h.presence_offset += 512);
	REFUSED(h.map_offset += 4096);
	REFUSED(h.map_offset = 0);
	REFUSED(h.data_offset -= 512);
	REFUSED(h.data_offset = ~0ULL);
	REFUSED(h.limit = h.size + 1);
	REFUSED(h.parent.format = 3);
	REFUSED(h.parent.size = 0);
	REFUSED(h.parent.size = 511);
	REFUSED(h.parent.size = DM_CHAIN_MAX_SIZE + 512);
	REFUSED(memset(&h.uuid, 0, 16));
	REFUSED(memset(h.parent_path, 'x', sizeof(h.parent_path)));
	REFUSED(memset(h.child_path, 'x', sizeof(h.child_path)));
	FINE(h.limit = h.size);
	FINE((h.parent.format = DM_CHAIN_FORMAT_NONE, h.parent.size = 0));
	FINE(h.parent.format = DM_CHAIN_FORMAT_RAW);
	FINE(memset(h.parent_path, 'x', sizeof(h.parent_path) - 1));
	REFUSED(h.record.type = 0);
	REFUSED(h.record.base_size = 511);
}

static void feature_words_by_kind(void **state)
{
	static struct chain_header good, out;
	static u8 buf[DM_CHAIN_HEADER_BYTES];
	unsigned int bit;

	(void)state;
	full_header(&good);
	for (bit = 0; bit < 64; bit++) {
		FINE(h.compat = 1ULL << bit);
		FINE(h.compat_ro = 1ULL << bit);
		EXPECT(h.incompat = 1ULL << bit, CHAIN_HEADER_INCOMPAT);
	}
	for (bit = 0; bit < 9; bit++)
		FINE(h.marks = 1U << bit);
	for (bit = 9; bit < 32; bit++)
		EXPECT(h.marks = 1U << bit, CHAIN_HEADER_INCOMPAT);
	chain_header_encode(&good, buf);
	buf[8] = 2;
	assert_int_equal(chain_header_decode(buf, &out), CHAIN_HEADER_CRC);
	sign(buf);
	assert_int_equal(chain_header_decode(buf, &out), CHAIN_HEADER_VERSION);
}

enum slot_kind {
	UNREADABLE, BLANK, ROTTEN, OLD, CURRENT, OTHER, VERSION, INCOMPAT,
	SLOT_KINDS
};

/* What each kind of slot holds; NULL: it could not be read. */
static const void *slot_bytes(enum slot_kind kind, u8 *buf,
			      const struct chain_header *h)
{
	struct chain_header copy = *h;

	if (kind == OLD)
		copy.generation--;
	if (kind == OTHER)
		random_id(&copy.cid);
	if (kind == INCOMPAT)
		copy.incompat = 1;
	chain_header_encode(&copy, buf);
	if (kind == BLANK)
		memset(buf, 0, DM_CHAIN_HEADER_BYTES);
	if (kind == ROTTEN)
		buf[2000] ^= 1;
	if (kind == VERSION) {
		buf[8] = 9;
		sign(buf);
	}
	return kind == UNREADABLE ? NULL : buf;
}

static bool is_valid(enum slot_kind kind)
{
	return kind == OLD || kind == CURRENT || kind == OTHER;
}

/* The truth, told another way than the codec does. */
static enum chain_header_status expected_pick(enum slot_kind a, enum slot_kind b,
					      unsigned int *stale)
{
	*stale = 0;
	if (a == VERSION || a == INCOMPAT)
		return a == VERSION ? CHAIN_HEADER_VERSION :
				      CHAIN_HEADER_INCOMPAT;
	if (b == VERSION || b == INCOMPAT)
		return b == VERSION ? CHAIN_HEADER_VERSION :
				      CHAIN_HEADER_INCOMPAT;
	if (is_valid(a) && is_valid(b)) {
		if (a == OLD && b != OLD)
			*stale = 1;
		else if (b == OLD && a != OLD)
			*stale = 2;
		else if (a == OTHER || b == OTHER)
			return CHAIN_HEADER_SPLIT;
		return CHAIN_HEADER_OK;
	}
	if (!is_valid(a) && !is_valid(b))
		return a == UNREADABLE || b == UNREADABLE ? CHAIN_HEADER_UNREAD :
		       a == BLANK && b == BLANK ? CHAIN_HEADER_NONE :
						  CHAIN_HEADER_CRC;
	*stale = is_valid(a) ? 2 : 1;
	return CHAIN_HEADER_OK;
}

static void pick_truth_table(void **state)
{
	static u8 slot0[DM_CHAIN_HEADER_BYTES], slot1[DM_CHAIN_HEADER_BYTES];
	static struct chain_header h, out;
	int a, b;

	(void)state;
	full_header(&h);
	for (a = 0; a < SLOT_KINDS; a++) {
		for (b = 0; b < SLOT_KINDS; b++) {
			unsigned int want_stale, stale = 99;
			const void *p0 = slot_bytes(a, slot0, &h);
			const void *p1 = slot_bytes(b, slot1, &h);
			enum chain_header_status want =
				expected_pick(a, b, &want_stale);

			assert_int_equal(chain_header_pick(p0, p1, &out, &stale),
					 want);
			if (want)
				continue;
			assert_int_equal(stale, want_stale);
			assert_int_equal(chain_header_decode(stale == 1 ? p1 : p0,
							     &h), 0);
			assert_headers_equal(&h, &out);
			h.generation = 0x1122334455667788ULL;
		}
	}
}

static void assert_geometry(u64 size, u64 max, u32 shift)
{
	struct chain_header h;
	u64 groups, map_bytes;

	assert_int_equal(chain_header_init(&h, size, max, shift), 0);
	groups = chain_max_groups(&h);
	map_bytes = groups * DM_CHAIN_GROUP_BYTES;
	assert_true(chain_max_blocks(&h) << shift >= max);
	assert_true(groups * DM_CHAIN_GROUP_BLOCKS >= chain_max_blocks(&h));
	assert_true(chain_presence_sectors(&h) * DM_CHAIN_PRESENCE_GROUPS >=
		    groups);
	assert_true(h.presence_offset >=
		    DM_CHAIN_SLOT1_OFFSET + DM_CHAIN_HEADER_BYTES);
	assert_true(h.map_offset >=
		    h.presence_offset + chain_presence_sectors(&h) * 512);
	assert_int_equal(h.map_offset % 4096, 0);
	assert_true(h.data_offset >= h.map_offset + map_bytes);
	assert_int_equal(h.data_offset % DM_CHAIN_ALIGN, 0);
	assert_true(h.data_offset - h.map_offset - map_bytes < DM_CHAIN_ALIGN);
	assert_true(chain_layer_bytes(&h) >=
		    h.data_offset + size + DM_CHAIN_TRAILER_BYTES);
	assert_int_equal(chain_trailer_offset(&h) % 4096, 0);
	assert_int_equal(h.limit, 0);
	assert_int_equal(h.parent.format, DM_CHAIN_FORMAT_NONE);
}

static void geometry_up_to_its_limits(void **state)
{
	static const u64 sizes[] = {
		512, 1024, 4096, 4096 + 512, 32 * MIB, 32 * MIB + 512, GIB,
		64 * GIB, TIB - 512, TIB, 64 * TIB - 512, 64 * TIB,
	};
	u32 shift;
	size_t i, k;

	(void)state;
	for (shift = 12; shift <= 20; shift++)
		for (i = 0; i < ARRAY_SIZE(sizes); i++)
			for (k = i; k < ARRAY_SIZE(sizes); k++)
				assert_geometry(sizes[i], sizes[k], shift);
}

static void geometry_refused(void **state)
{
	struct chain_header h;

	(void)state;
	assert_int_equal(chain_header_init(&h, 0, GIB, 12), -EINVAL);
	assert_int_equal(chain_header_init(&h, 513, GIB, 12), -EINVAL);
	assert_int_equal(chain_header_init(&h, GIB, GIB - 512, 12), -EINVAL);
	assert_int_equal(chain_header_init(&h, GIB, GIB + 1, 12), -EINVAL);
	assert_int_equal(chain_header_init(&h, GIB, 64 * TIB + 512, 12), -EINVAL);
	assert_int_equal(chain_header_init(&h, 65 * TIB, 65 * TIB, 12), -EINVAL);
	assert_int_equal(chain_header_init(&h, GIB, GIB, 11), -EINVAL);
	assert_int_equal(chain_header_init(&h, GIB, GIB, 21), -EINVAL);
}

static void known_geometry(void **state)
{
	struct chain_header h;

	(void)state;
	/* 64 TiB at 4 KiB: 8 GiB of maps, 512 KiB of presence. */
	assert_int_equal(chain_header_init(&h, 64 * TIB, 64 * TIB, 12), 0);
	assert_int_equal(h.map_offset, MIB + 512 * KIB);
	assert_int_equal(h.data_offset, 8 * GIB + 2 * MIB);
	assert_int_equal(chain_layer_bytes(&h), 64 * TIB + 8 * GIB + 3 * MIB);
	/* 1 TiB: 128 MiB, and 8 KiB. */
	assert_int_equal(chain_header_init(&h, GIB, TIB, 12), 0);
	assert_int_equal(h.map_offset, MIB + 8 * KIB);
	assert_int_equal(h.data_offset, 130 * MIB);
	assert_int_equal(chain_default_max_size(512), TIB);
	assert_int_equal(chain_default_max_size(TIB / 16), TIB);
	assert_int_equal(chain_default_max_size(TIB), 16 * TIB);
	assert_int_equal(chain_default_max_size(4 * TIB), 64 * TIB);
	assert_int_equal(chain_default_max_size(64 * TIB), 64 * TIB);
}

static u64 bytes_for(u64 size, u32 shift)
{
	struct chain_header h;

	assert_int_equal(chain_header_init(&h, size, size, shift), 0);
	return chain_layer_bytes(&h);
}

static void largest_layer_of_a_device(void **state)
{
	unsigned int i;
	u32 shift;

	(void)state;
	for (shift = 12; shift <= 20; shift++) {
		u64 block = 1ULL << shift;

		assert_int_equal(chain_max_size_for(0, shift), 0);
		assert_int_equal(chain_max_size_for(bytes_for(block, shift) - 1,
						    shift), 0);
		assert_int_equal(chain_max_size_for(bytes_for(block, shift),
						    shift), block);
		assert_int_equal(chain_max_size_for(~0ULL, shift), 64 * TIB);
		for (i = 0; i < 500; i++) {
			u64 bytes = 4 * MIB + rng() % (1ULL << (23 + i % 24));
			u64 max = chain_max_size_for(bytes, shift);

			assert_int_equal(max % block, 0);
			if (max)
				assert_true(bytes_for(max, shift) <= bytes);
			if (max < 64 * TIB)
				assert_true(bytes_for(max + block, shift) > bytes);
		}
	}
	assert_int_equal(chain_max_size_for(GIB, 11), 0);
	assert_int_equal(chain_max_size_for(GIB, 21), 0);
}

static void states_in_words(void **state)
{
	u64 words[CHAIN_SECTOR_WORDS] = { 0 };
	u8 model[DM_CHAIN_SECTOR_BLOCKS] = { 0 };
	unsigned int i;

	(void)state;
	for (i = 0; i < 20000; i++) {
		unsigned int at = rng() % DM_CHAIN_SECTOR_BLOCKS;

		model[at] = rng() % 4;
		chain_state_put(words, at, model[at]);
	}
	for (i = 0; i < DM_CHAIN_SECTOR_BLOCKS; i++)
		assert_int_equal(chain_state_get(words, i), model[i]);
	memset(words, 0, sizeof(words));
	chain_state_put(words, 33, DM_CHAIN_ZERO);
	assert_int_equal(words[1], 2ULL << 2);
}

static void sector_round_trip(void **state)
{
	u64 words[CHAIN_SECTOR_WORDS], out[CHAIN_SECTOR_WORDS];
	u8 buf[512];
	unsigned int i;

	(void)state;
	random_bytes(words, sizeof(words));
	chain_sector_encode(DM_CHAIN_MAP_MAGIC, 77, 5, words, buf);
	assert_true(chain_sector_decode(DM_CHAIN_MAP_MAGIC, 77, 5, buf, out));
	assert_memory_equal(words, out, sizeof(words));
	assert_int_equal(le(buf, 4), 0x50414d43);
	assert_int_equal(le(buf + 8, 8), 5);
	assert_int_equal(le(buf + 16, 8), 77);
	assert_int_equal(le(buf + 24, 8), 0);
	for (i = 0; i < CHAIN_SECTOR_WORDS; i++)
		assert_int_equal(le(buf + 32 + 8 * i, 8), words[i]);
	for (i = 288; i < 512; i++)
		assert_int_equal(buf[i], 0);
}

static void each_sector_byte_counts(void **state)
{
	u64 words[CHAIN_SECTOR_WORDS], out[CHAIN_SECTOR_WORDS];
	u8 buf[512];
	unsigned int i;

	(void)state;
	random_bytes(words, sizeof(words));
	chain_sector_encode(DM_CHAIN_MAP_MAGIC, 77, 5, words, buf);
	for (i = 0; i < 512 * 8; i++) {
		buf[i / 8] ^= (u8)(1U << i % 8);
		assert_false(chain_sector_decode(DM_CHAIN_MAP_MAGIC, 77, 5, buf,
						 out));
		buf[i / 8] ^= (u8)(1U << i % 8);
	}
}

static void sectors_know_their_place(void **state)
{
	u64 out[CHAIN_SECTOR_WORDS];
	u8 buf[512], none[512] = { 0 };

	(void)state;
	chain_sector_encode(DM_CHAIN_MAP_MAGIC, 77, 5, NULL, buf);
	assert_true(chain_sector_decode(DM_CHAIN_MAP_MAGIC, 77, 5, buf, out));
	assert_false(chain_sector_decode(DM_CHAIN_MAP_MAGIC, 77, 6, buf, out));
	assert_false(chain_sector_decode(DM_CHAIN_MAP_MAGIC, 78, 5, buf, out));
	assert_false(chain_sector_decode(DM_CHAIN_PRESENCE_MAGIC, 77, 5, buf,
					 out));
	assert_false(chain_sector_decode(DM_CHAIN_MAP_MAGIC, 0, 0, none, out));
}

static void groups_lose_single_sectors(void **state)
{
	static u64 words[CHAIN_GROUP_WORDS], out[CHAIN_GROUP_WORDS];
	static u8 buf[DM_CHAIN_GROUP_BYTES];
	unsigned int lost, i;
	u8 changed;

	(void)state;
	random_bytes(words, sizeof(words));
	for (lost = 0; lost < 256; lost++) {
		u8 flags = rng();

		chain_group_encode(42, 9, words, flags, buf);
		for (i = 0; i < DM_CHAIN_GROUP_SECTORS; i++)
			if (lost & 1U << i)
				buf[i * 512 + rng() % 512] ^= 0x10;
		assert_int_equal(chain_group_decode(42, 9, buf, out, &changed), lost);
		/* What is lost may have been flagged. */
		assert_int_equal(changed, flags | lost);
		for (i = 0; i < CHAIN_GROUP_WORDS; i++)
			assert_int_equal(out[i],
				lost & 1U << i / CHAIN_SECTOR_WORDS ?
				CHAIN_WORD_DAMAGED : words[i]);
	}
	assert_int_equal(chain_group_decode(42, 8, buf, out, &changed), 0xff);
	chain_group_encode(42, 9, words, 0x24, buf);
	for (i = 0; i < DM_CHAIN_GROUP_SECTORS; i++) {
		u8 sector[512];

		chain_map_sector_encode(42, 9 * DM_CHAIN_GROUP_SECTORS + i,
					words + i * CHAIN_SECTOR_WORDS,
					0x24 & 1U << i, sector);
		assert_memory_equal(sector, buf + i * 512, 512);
	}
	chain_group_encode(42, 9, NULL, 0, buf);
	assert_int_equal(chain_group_decode(42, 9, buf, out, &changed), 0);
	assert_int_equal(changed, 0);
	for (i = 0; i < CHAIN_GROUP_WORDS; i++)
		assert_int_equal(out[i], 0);
}

static void headers_are_the_same_but_for_paths(void **state)
{
	static u8 buf[2 * DM_CHAIN_HEADER_BYTES];
	static struct chain_header a, b;

	(void)state;
	full_header(&a);
	b = a;
	assert_true(chain_header_same(&a, &b, buf));
	b.parent_path[0] ^= 1;
	b.child_path[0] ^= 1;
	assert_true(chain_header_same(&a, &b, buf));
	b.map_seed++;
	assert_false(chain_header_same(&a, &b, buf));
	b = a;
	b.generation++;
	assert_false(chain_header_same(&a, &b, buf));
	b = a;
	b.parent.cid.b[15] ^= 1;
	assert_false(chain_header_same(&a, &b, buf));
}

static void links_name_what_is_wrong(void **state)
{
	static struct chain_header parent;
	struct chain_link link;
	struct chain_id other;

	(void)state;
	full_header(&parent);
	parent.marks &= ~(DM_CHAIN_MARK_SPOILED | DM_CHAIN_MARK_PENDING);
	random_id(&other);
	link.format = DM_CHAIN_FORMAT_CHAIN;
	link.uuid = parent.uuid;
	link.cid = parent.cid;
	link.size = 77 * 512;
	assert_int_equal(chain_link_check(&link, NULL, &parent, 0, NULL),
			 CHAIN_LINK_OK);
	assert_int_equal(chain_link_check(&link, NULL, NULL, 77 * 512, &link.cid),
			 CHAIN_LINK_FORMAT);
	parent.marks |= DM_CHAIN_MARK_PENDING;
	assert_int_equal(chain_link_check(&link, NULL, &parent, 0, NULL),
			 CHAIN_LINK_PENDING);
	link.cid = other;
	assert_int_equal(chain_link_check(&link, NULL, &parent, 0, NULL),
			 CHAIN_LINK_CID);
	link.uuid = other;
	assert_int_equal(chain_link_check(&link, NULL, &parent, 0, NULL),
			 CHAIN_LINK_UUID);
	link.format = DM_CHAIN_FORMAT_RAW;
	assert_int_equal(chain_link_check(&link, NULL, &parent, 0, NULL),
			 CHAIN_LINK_FORMAT);
	assert_int_equal(chain_link_check(&link, NULL, NULL, 77 * 512, &other),
			 CHAIN_LINK_OK);
	assert_int_equal(chain_link_check(&link, NULL, NULL, 78 * 512, &other),
			 CHAIN_LINK_SIZE);
	assert_int_equal(chain_link_check(&link, NULL, NULL, 77 * 512, &parent.cid),
			 CHAIN_LINK_CID);
}

/* A commit's record in the top of its range vouches for what it has changed. */
static void links_by_way_of_a_commit(void **state)
{
	struct chain_header t, m, b;
	struct chain_link link;
	struct chain_id id;

	(void)state;
	full_header(&t);
	full_header(&m);
	full_header(&b);
	t.record.base_format = DM_CHAIN_FORMAT_CHAIN;
	t.record.base = b.uuid;
	t.marks = DM_CHAIN_MARK_JOB;
	m.marks = b.marks = DM_CHAIN_MARK_SPOILED;
	m.job = b.job = t.job;
	link.format = DM_CHAIN_FORMAT_CHAIN;
	link.uuid = m.uuid;
	random_id(&link.cid);

	assert_ptr_equal(chain_through(NULL, &t), &t);
	assert_ptr_equal(chain_through(&t, &m), &t);
	assert_null(chain_through(&t, &b));
	assert_null(chain_through(NULL, NULL));
	assert_int_equal(chain_link_check(&link, &t, &m, 0, NULL), CHAIN_LINK_OK);
	assert_int_equal(chain_link_check(&link, NULL, &m, 0, NULL), CHAIN_LINK_SPOILED);
	link.cid = m.cid;
	assert_int_equal(chain_link_check(&link, NULL, &m, 0, NULL), CHAIN_LINK_SPOILED);
	random_id(&m.job);
	assert_int_equal(chain_link_check(&link, &t, &m, 0, NULL), CHAIN_LINK_SPOILED);
	/* Not yet marked: then its id still counts */
	m.marks = 0;
	assert_int_equal(chain_link_check(&link, &t, &m, 0, NULL), CHAIN_LINK_OK);
	random_id(&link.cid);
	assert_int_equal(chain_link_check(&link, &t, &m, 0, NULL), CHAIN_LINK_CID);

	link.uuid = b.uuid;
	assert_int_equal(chain_link_check(&link, &t, &b, 0, NULL), CHAIN_LINK_CID);
	b.cid = t.record.c0;
	assert_int_equal(chain_link_check(&link, &t, &b, 0, NULL), CHAIN_LINK_OK);
	b.cid = t.record.c1;
	assert_int_equal(chain_link_check(&link, &t, &b, 0, NULL), CHAIN_LINK_OK);
	b.marks = 0;
	assert_int_equal(chain_link_check(&link, &t, &b, 0, NULL), CHAIN_LINK_OK);
	assert_int_equal(chain_link_check(&link, NULL, &b, 0, NULL), CHAIN_LINK_CID);

	t.record.base_format = DM_CHAIN_FORMAT_RAW;
	link.format = DM_CHAIN_FORMAT_RAW;
	link.size = t.record.base_size = 1024;
	random_id(&id);
	assert_null(chain_through(&t, NULL));
	assert_false(chain_link_raw_by_id(&t));
	assert_int_equal(chain_link_check(&link, &t, NULL, 1024, &id), CHAIN_LINK_OK);
	assert_int_equal(chain_link_check(&link, &t, NULL, t.size, &id), CHAIN_LINK_OK);
	assert_int_equal(chain_link_check(&link, &t, NULL, 2048, &id), CHAIN_LINK_SIZE);
	assert_int_equal(chain_link_check(&link, NULL, NULL, 1024, &id), CHAIN_LINK_CID);
}

static void records_that_make_no_sense(void **state)
{
	u8 buf[4096];
	struct chain_header h, out;

	(void)state;
	full_header(&h);
	h.record.type = 77;
	chain_header_encode(&h, buf);
	assert_int_equal(chain_header_decode(buf, &out), CHAIN_HEADER_GEOMETRY);
	h.record.type = DM_CHAIN_RECORD_COMMIT;
	h.record.base_format = DM_CHAIN_FORMAT_NONE;
	chain_header_encode(&h, buf);
	assert_int_equal(chain_header_decode(buf, &out), CHAIN_HEADER_GEOMETRY);
	h.record.type = DM_CHAIN_RECORD_STREAM;
	chain_header_encode(&h, buf);
	assert_int_equal(chain_header_decode(buf, &out), CHAIN_HEADER_OK);
	h.record.flags = 2;
	chain_header_encode(&h, buf);
	assert_int_equal(chain_header_decode(buf, &out), CHAIN_HEADER_GEOMETRY);
	h.marks &= ~DM_CHAIN_MARK_JOB;
	chain_header_encode(&h, buf);
	assert_int_equal(chain_header_decode(buf, &out), CHAIN_HEADER_OK);
}

static void samples_stay_inside(void **state)
{
	static const u64 sizes[] = {
		512, 4096, 65536, 65536 + 512, 256 * KIB - 512, 256 * KIB, MIB,
		GIB + 512, 64 * TIB,
	};
	size_t k;
	unsigned int i;

	(void)state;
	for (k = 0; k < ARRAY_SIZE(sizes); k++) {
		for (i = 0; i < CHAIN_RAW_SAMPLES; i++) {
			u64 offset;
			u32 len;

			chain_raw_sample(sizes[k], i, &offset, &len);
			assert_true(len <= CHAIN_RAW_EDGE_BYTES);
			assert_true(offset + len <= sizes[k]);
			assert_int_equal(offset % 512, 0);
			if (i == 0)
				assert_int_equal(offset, 0);
			if (i == 1)
				assert_int_equal(offset + len, sizes[k]);
			if (i > 1 && sizes[k] >= 256 * KIB)
				assert_int_equal(len, 4096);
		}
	}
}

static void fingerprint(const u8 *disk, u64 size, struct chain_id *fp)
{
	unsigned int i;

	memset(fp, 0, sizeof(*fp));
	for (i = 0; i < CHAIN_RAW_SAMPLES; i++) {
		u64 offset;
		u32 len;

		chain_raw_sample(size, i, &offset, &len);
		if (len)
			chain_raw_fingerprint_update(fp, i, disk + offset, len);
	}
}

static void fingerprint_sees_its_samples(void **state)
{
	const u64 size = 2 * MIB;
	u8 *disk = malloc(size);
	struct chain_id fp, now;
	unsigned int i;

	(void)state;
	assert_non_null(disk);
	random_bytes(disk, size);
	fingerprint(disk, size, &fp);
	for (i = 0; i < CHAIN_RAW_SAMPLES; i++) {
		u64 offset;
		u32 len;

		chain_raw_sample(size, i, &offset, &len);
		disk[offset + len / 2] ^= 1;
		fingerprint(disk, size, &now);
		assert_false(chain_id_equal(&fp, &now));
		disk[offset + len / 2] ^= 1;
	}
	fingerprint(disk, size, &now);
	assert_true(chain_id_equal(&fp, &now));
	free(disk);
}

/* What decode accepts must be safe to compute with. */
static void assert_usable(const struct chain_header *h)
{
	assert_true(h->size && h->size <= h->max_size);
	assert_true(h->max_size <= DM_CHAIN_MAX_SIZE);
	assert_true(chain_layer_bytes(h) > h->data_offset);
	assert_true(chain_layer_bytes(h) < 1ULL << 48);
	assert_true(chain_blocks(h) <= chain_max_blocks(h));
	assert_true(strlen(h->parent_path) < DM_CHAIN_PATH_BYTES);
	assert_true(strlen(h->child_path) < DM_CHAIN_PATH_BYTES);
}

static void hostile_bytes(void **state)
{
	static u8 buf[DM_CHAIN_HEADER_BYTES];
	static struct chain_header h, out;
	unsigned int i, k, accepted = 0;

	(void)state;
	full_header(&h);
	for (i = 0; i < 20000; i++) {
		chain_header_encode(&h, buf);
		if (i % 8 == 0)
			random_bytes(buf + 8, sizeof(buf) - 8);
		/* Changes where the fields are, and a checksum that holds. */
		for (k = 0; k < 1 + i % 4; k++)
			buf[16 + rng() % 304] = (u8)rng();
		if (i % 16 != 1)
			sign(buf);
		if (chain_header_decode(buf, &out))
			continue;
		assert_usable(&out);
		accepted++;
	}
	assert_true(accepted > 1000);
}

static void hostile_slots_and_sectors(void **state)
{
	static u8 slot0[DM_CHAIN_HEADER_BYTES], slot1[DM_CHAIN_HEADER_BYTES];
	static u64 words[CHAIN_GROUP_WORDS];
	static struct chain_header h, out;
	unsigned int i, stale;
	u8 changed;

	(void)state;
	full_header(&h);
	for (i = 0; i < 5000; i++) {
		slot_bytes(rng() % SLOT_KINDS, slot0, &h);
		slot_bytes(rng() % SLOT_KINDS, slot1, &h);
		slot0[16 + rng() % 400] ^= (u8)rng();
		slot1[16 + rng() % 400] ^= (u8)rng();
		if (i & 1)
			sign(slot0);
		if (i & 2)
			sign(slot1);
		if (!chain_header_pick(slot0, slot1, &out, &stale))
			assert_usable(&out);
		assert_true(stale < 3);
		random_bytes(slot0, sizeof(slot0));
		assert_int_equal(chain_group_decode(rng(), rng(), slot0, words, &changed),
				 0xff);
	}
}

static void every_status_has_words(void **state)
{
	int i;

	(void)state;
	for (i = 0; i <= CHAIN_HEADER_SPLIT; i++)
		assert_string_not_equal(chain_header_strerror(i), "unknown");
	assert_string_equal(chain_header_strerror(99), "unknown");
}

/* Changes are tracked while the record has the layer's own content id. */
static void mirrors_are_tracked_by_content_id(void **state)
{
	static struct chain_header h, out;
	static u8 slot[DM_CHAIN_HEADER_BYTES];

	(void)state;
	assert_int_equal(chain_header_init(&h, 1 << 20, 1 << 20, 12), 0);
	memset(&h.uuid, 1, sizeof(h.uuid));
	memset(&h.cid, 2, sizeof(h.cid));
	h.marks = DM_CHAIN_MARK_JOB;
	h.record.type = DM_CHAIN_RECORD_MIRROR;
	h.record.base_format = DM_CHAIN_FORMAT_CHAIN;
	memset(&h.record.base, 3, sizeof(h.record.base));
	h.record.c0 = h.cid;
	chain_header_encode(&h, slot);
	assert_int_equal(chain_header_decode(slot, &out), CHAIN_HEADER_OK);
	assert_true(chain_is_tracked(&out));
	assert_false(chain_has_record(&out));
	out.cid.b[0] ^= 1;
	assert_false(chain_is_tracked(&out));
	out = h;
	out.marks = 0;
	assert_false(chain_is_tracked(&out));
	h.record.base_format = DM_CHAIN_FORMAT_RAW;
	chain_header_encode(&h, slot);
	assert_int_equal(chain_header_decode(slot, &out), CHAIN_HEADER_GEOMETRY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(crc_known_answers),
		cmocka_unit_test(header_round_trip),
		cmocka_unit_test(header_fields_have_their_place),
		cmocka_unit_test(each_header_byte_counts),
		cmocka_unit_test(contradictions_are_refused),
		cmocka_unit_test(feature_words_by_kind),
		cmocka_unit_test(pick_truth_table),
		cmocka_unit_test(geometry_up_to_its_limits),
		cmocka_unit_test(geometry_refused),
		cmocka_unit_test(known_geometry),
		cmocka_unit_test(largest_layer_of_a_device),
		cmocka_unit_test(states_in_words),
		cmocka_unit_test(sector_round_trip),
		cmocka_unit_test(each_sector_byte_counts),
		cmocka_unit_test(sectors_know_their_place),
		cmocka_unit_test(groups_lose_single_sectors),
		cmocka_unit_test(mirrors_are_tracked_by_content_id),
		cmocka_unit_test(headers_are_the_same_but_for_paths),
		cmocka_unit_test(links_name_what_is_wrong),
		cmocka_unit_test(links_by_way_of_a_commit),
		cmocka_unit_test(records_that_make_no_sense),
		cmocka_unit_test(samples_stay_inside),
		cmocka_unit_test(fingerprint_sees_its_samples),
		cmocka_unit_test(hostile_bytes),
		cmocka_unit_test(hostile_slots_and_sectors),
		cmocka_unit_test(every_status_has_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
