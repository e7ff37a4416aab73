// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The header codec, both copies, and the choice between them, against the rules of
 * Documentation/format.rst written down once more. Also what is computed from a
 * decoded header, and links between two of them.
 *
 * Input: flags, size, max_size and block_shift of a valid header; patches to slot 0;
 * patches to slot 1, which starts as a copy of it.
 */
#include "fuzz.h"
#include "dm-chain-format.h"

#define FIX_CRC0	1	/* the slot's checksum is made to fit */
#define FIX_CRC1	2
#define LOST0		4	/* it can't be read */
#define LOST1		8
#define VALID		16	/* sizes are forced into their limits */

static uint8_t slots[2][DM_CHAIN_HEADER_BYTES] __attribute__((aligned(8)));

static const struct dm_chain_disk_header *disk(const void *slot)
{
	return slot;
}

static uint32_t sum(const void *slot)
{
	uint8_t copy[DM_CHAIN_HEADER_BYTES];

	memcpy(copy, slot, sizeof(copy));
	memset(copy + 12, 0, 4);
	return chain_crc32c(~0U, copy, sizeof(copy));
}

static bool a_size(uint64_t n)
{
	return n && !(n & 511) && n <= 1ULL << 46;
}

/* Offsets that follow from max_size and block_shift. */
static bool place_fits(const struct dm_chain_disk_header *d)
{
	uint64_t block = 1ULL << d->block_shift;
	uint64_t groups = (d->max_size / block + !!(d->max_size % block) + 8191) / 8192;
	uint64_t presence = ((groups + 2047) / 2048 * 512 + 4095) / 4096 * 4096;
	uint64_t data = (1 << 20) + presence + groups * 4096;

	return d->presence_offset == 1 << 20 && d->map_offset == (1 << 20) + presence &&
	       d->data_offset == (data + (1 << 20) - 1) >> 20 << 20;
}

static bool record_fits(const struct dm_chain_disk_header *d)
{
	const struct dm_chain_disk_record *r = &d->record;

	if (!(d->marks & DM_CHAIN_MARK_JOB))
		return true;
	if (r->flags > 1 || r->type < 1 || r->type > 3)
		return false;
	if (r->type == DM_CHAIN_RECORD_STREAM)
		return r->base_format <= 2;
	if (r->type == DM_CHAIN_RECORD_MIRROR)
		return r->base_format == 2;
	return r->base_format == 2 || (r->base_format == 1 && a_size(r->base_size));
}

static bool has_end(const uint8_t *path)
{
	return !path[DM_CHAIN_PATH_BYTES - 1];
}

static bool fields_fit(const struct dm_chain_disk_header *d)
{
	static const uint8_t null[16];

	return a_size(d->size) && a_size(d->max_size) && d->size <= d->max_size &&
	       d->block_shift >= 12 && d->block_shift <= 20 && place_fits(d) &&
	       d->limit <= d->size && memcmp(d->uuid, null, 16) &&
	       d->parent.format <= 2 && (!d->parent.format || a_size(d->parent.size)) &&
	       record_fits(d) && has_end(d->parent_path) && has_end(d->child_path) &&
	       has_end(d->coordinator_path);
}

static enum chain_header_status expected(const void *slot)
{
	const struct dm_chain_disk_header *d = slot;

	if (!slot)
		return CHAIN_HEADER_UNREAD;
	if (memcmp(d->magic, "DMCHAIN\n", 8))
		return CHAIN_HEADER_NONE;
	if (d->crc != sum(slot))
		return CHAIN_HEADER_CRC;
	if (d->version != 1)
		return CHAIN_HEADER_VERSION;
	if (d->incompat || d->marks > 0x1ff)
		return CHAIN_HEADER_INCOMPAT;
	return fields_fit(d) ? CHAIN_HEADER_OK : CHAIN_HEADER_GEOMETRY;
}

static bool refuses(enum chain_header_status s)
{
	return s == CHAIN_HEADER_VERSION || s == CHAIN_HEADER_INCOMPAT ||
	       s == CHAIN_HEADER_GEOMETRY;
}

/* The slot that holds, or -1 with the status. */
static int expected_slot(const void *a, const void *b, enum chain_header_status *s)
{
	enum chain_header_status sa = expected(a), sb = expected(b);

	*s = sa == CHAIN_HEADER_NONE || sb == CHAIN_HEADER_UNREAD ? sb : sa;
	*s = refuses(sa) ? sa : refuses(sb) ? sb : *s;
	if (refuses(sa) || refuses(sb) || (sa && sb))
		return -1;
	*s = CHAIN_HEADER_OK;
	if (sa || sb)
		return !!sa;
	if (disk(a)->generation != disk(b)->generation)
		return disk(a)->generation < disk(b)->generation;
	if (memcmp(a, b, DM_CHAIN_HEADER_BYTES))
		*s = CHAIN_HEADER_SPLIT;
	return *s ? -1 : 0;
}

/* Who has a decoded header computes with it. */
static void compute(const struct chain_header *h)
{
	uint64_t bytes = chain_layer_bytes(h), max = chain_max_size_for(bytes, h->block_shift);
	struct chain_header again;

	must(bytes > h->data_offset + h->size && bytes < 1ULL << 48);
	must(chain_trailer_offset(h) % 4096 == 0);
	must(chain_blocks(h) <= chain_max_blocks(h) && chain_max_blocks(h) <= 1ULL << 34);
	must(chain_presence_sectors(h) * 512 <= h->map_offset - h->presence_offset);
	must(h->map_offset + chain_max_groups(h) * 4096 <= h->data_offset);
	must(!chain_header_init(&again, h->size, h->max_size, h->block_shift));
	must(chain_layer_bytes(&again) == bytes);
	must(!max || !chain_header_init(&again, max, max, h->block_shift));
	must(!max || chain_layer_bytes(&again) <= bytes);
	must(chain_default_max_size(h->size) >= h->size);
}

/* What is decoded comes back as it was, but for what nobody knows of. */
static void encode(const struct chain_header *h, const void *slot)
{
	uint8_t buf[DM_CHAIN_HEADER_BYTES] __attribute__((aligned(8))), both[2 * 4096];
	static struct chain_header again;
	struct dm_chain_disk_header d;

	memcpy(&d, slot, sizeof(d));
	memset(d.reserved0, 0, sizeof(d.reserved0));
	memset(d.reserved1, 0, sizeof(d.reserved1));
	d.parent.flags = d.record.reserved = d.record.pad = 0;
	d.crc = sum(&d);
	chain_header_encode(h, buf);
	must(!memcmp(buf, &d, sizeof(d)));
	must(!chain_header_decode(buf, &again));
	must(chain_header_same(h, &again, both));
}

static void still_valid(const struct chain_header *h)
{
	uint8_t buf[DM_CHAIN_HEADER_BYTES] __attribute__((aligned(8)));
	static struct chain_header again;

	chain_header_encode(h, buf);
	must(!chain_header_decode(buf, &again));
}

/* What is done to headers leaves them valid. */
static void change(const struct chain_header *h)
{
	static struct chain_header x;

	x = *h;
	chain_pending_commit(&x);
	must(!(x.marks & DM_CHAIN_MARK_PENDING) && chain_id_is_null(&x.group));
	still_valid(&x);
	x = *h;
	chain_pending_abort(&x, &h->uuid);
	must(!(x.marks & (DM_CHAIN_MARK_PENDING | DM_CHAIN_MARK_RETIRED)));
	must(chain_id_equal(&x.cid, &h->uuid));
	still_valid(&x);
	x = *h;
	chain_drop_mirror(&x);
	still_valid(&x);
	x = *h;
	chain_pending_set(&x, &h->cid, &h->uuid, h->parent_path);
	still_valid(&x);
}

static void linked(const struct chain_header *child, const struct chain_header *parent)
{
	const struct chain_header *through = chain_through(NULL, child);
	enum chain_link_status s;

	s = chain_link_check(&child->parent, through, parent, 0, NULL);
	must(s || (child->parent.format == DM_CHAIN_FORMAT_CHAIN &&
		   chain_id_equal(&child->parent.uuid, &parent->uuid)));
	s = chain_link_check(&child->parent, through, NULL, parent->size, &parent->cid);
	must(s || child->parent.format == DM_CHAIN_FORMAT_RAW);
}

static void pick(const void *a, const void *b)
{
	static struct chain_header h, older;
	enum chain_header_status s;
	unsigned int stale = ~0U;
	int slot = expected_slot(a, b, &s);

	must(chain_header_pick(a, b, &h, &stale) == s);
	must(chain_header_strerror(s));
	if (s) {
		must(!stale);
		return;
	}
	must(stale == 0 || stale == 1U << !slot);
	must(h.generation == disk(slot ? b : a)->generation);
	must(stale || (a && b && !memcmp(a, b, DM_CHAIN_HEADER_BYTES)));
	encode(&h, slot ? b : a);
	compute(&h);
	change(&h);
	if (a && b && !chain_header_decode(slot ? a : b, &older))
		linked(&h, &older);
}

static void decode(const void *slot)
{
	static struct chain_header h;

	must(chain_header_decode(slot, &h) == expected(slot));
}

static void base(struct in *in, unsigned int flags)
{
	uint64_t size = take_number(in, 6), max = take_number(in, 6);
	uint32_t shift = take_number(in, 1);
	struct chain_header h;
	bool valid;

	if (flags & VALID) {
		size = size % (1ULL << 46) / 512 * 512 + 512;
		max = max % (1ULL << 46) / 512 * 512 + 512;
		max = max < size ? size : max;
		shift = 12 + shift % 9;
	}
	valid = a_size(size) && a_size(max) && size <= max && shift >= 12 && shift <= 20;
	must(!chain_header_init(&h, size, max, shift) == valid);
	if (!valid)
		must(!chain_header_init(&h, 1 << 20, 1 << 20, 12));
	memset(h.uuid.b, 0x5a, sizeof(h.uuid.b));
	chain_header_encode(&h, slots[0]);
}

static void fix(uint8_t *slot)
{
	uint32_t crc = sum(slot);

	memcpy(slot + 12, &crc, sizeof(crc));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct in in = { data, size };
	unsigned int flags = take_number(&in, 1);

	base(&in, flags);
	take_patches(&in, slots[0], DM_CHAIN_HEADER_BYTES);
	memcpy(slots[1], slots[0], DM_CHAIN_HEADER_BYTES);
	take_patches(&in, slots[1], DM_CHAIN_HEADER_BYTES);
	if (flags & FIX_CRC0)
		fix(slots[0]);
	if (flags & FIX_CRC1)
		fix(slots[1]);
	decode(slots[0]);
	decode(slots[1]);
	pick(flags & LOST0 ? NULL : slots[0], flags & LOST1 ? NULL : slots[1]);
	return 0;
}
