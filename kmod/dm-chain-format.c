// SPDX-License-Identifier: GPL-2.0-only
/*
 * Codec of the on-disk format: bytes to structs and back, with every check
 * that needs no device. What it accepts, the rest of the code may compute
 * with: sizes, shifts and offsets of a decoded header can't overflow.
 */
#include "dm-chain-format.h"

static_assert(sizeof(struct dm_chain_disk_header) == DM_CHAIN_HEADER_BYTES);
static_assert(sizeof(struct dm_chain_disk_sector) == 512);
static_assert(offsetof(struct dm_chain_disk_header, parent) == 144);
static_assert(offsetof(struct dm_chain_disk_header, record) == 320);
static_assert(sizeof(struct dm_chain_disk_record) == 80);
static_assert(offsetof(struct dm_chain_disk_header, parent_path) == 512);
static_assert(offsetof(struct dm_chain_disk_header, coordinator_path) == 2560);

const char *chain_header_strerror(enum chain_header_status status)
{
	switch (status) {
	case CHAIN_HEADER_OK:
		return "valid";
	case CHAIN_HEADER_NONE:
		return "no chain header";
	case CHAIN_HEADER_VERSION:
		return "format version unknown";
	case CHAIN_HEADER_CRC:
		return "header checksum wrong";
	case CHAIN_HEADER_INCOMPAT:
		return "incompatible feature unknown";
	case CHAIN_HEADER_GEOMETRY:
		return "header contradicts itself";
	case CHAIN_HEADER_SPLIT:
		return "two headers of one generation differ";
	case CHAIN_HEADER_UNREAD:
		return "header cannot be read";
	}
	return "unknown";
}

static u64 round_up_u64(u64 n, u64 to)
{
	return (n + to - 1) / to * to;
}

static u64 presence_bytes(u64 groups)
{
	u64 sectors = (groups + DM_CHAIN_PRESENCE_GROUPS - 1) /
		      DM_CHAIN_PRESENCE_GROUPS;

	return round_up_u64(sectors * 512, 4096);
}

/* Where the parts lie. A whole header would be much for a kernel stack. */
struct layout {
	u64 map_offset;
	u64 data_offset;
};

static struct layout layout_for(u64 max_size, u32 block_shift)
{
	u64 blocks = ((max_size - 1) >> block_shift) + 1;
	u64 groups = chain_blocks_to_groups(blocks);
	struct layout at;

	at.map_offset = DM_CHAIN_PRESENCE_OFFSET + presence_bytes(groups);
	at.data_offset = round_up_u64(at.map_offset +
				      groups * DM_CHAIN_GROUP_BYTES,
				      DM_CHAIN_ALIGN);
	return at;
}

static bool size_valid(u64 size)
{
	return size && size <= DM_CHAIN_MAX_SIZE && size % 512 == 0;
}

static bool block_shift_valid(u32 shift)
{
	return shift >= DM_CHAIN_MIN_BLOCK_SHIFT &&
	       shift <= DM_CHAIN_MAX_BLOCK_SHIFT;
}

static bool sizes_valid(u64 size, u64 max_size, u32 block_shift)
{
	return size_valid(size) && size_valid(max_size) && max_size >= size &&
	       block_shift_valid(block_shift);
}

int chain_header_init(struct chain_header *h, u64 size, u64 max_size,
		      u32 block_shift)
{
	struct layout at;

	if (!sizes_valid(size, max_size, block_shift))
		return -EINVAL;
	at = layout_for(max_size, block_shift);
	memset(h, 0, sizeof(*h));
	h->size = size;
	h->max_size = max_size;
	h->block_shift = block_shift;
	h->presence_offset = DM_CHAIN_PRESENCE_OFFSET;
	h->map_offset = at.map_offset;
	h->data_offset = at.data_offset;
	return 0;
}

u64 chain_default_max_size(u64 size)
{
	u64 max = 1ULL << 40;

	if (size > max / 16)
		max = size > DM_CHAIN_MAX_SIZE / 16 ? DM_CHAIN_MAX_SIZE : size * 16;
	return max;
}

u64 chain_layer_bytes(const struct chain_header *h)
{
	return h->data_offset + (chain_blocks(h) << h->block_shift) +
	       DM_CHAIN_TRAILER_BYTES;
}

u64 chain_max_size_for(u64 bytes, u32 block_shift)
{
	u64 low = 0, high;

	if (!block_shift_valid(block_shift))
		return 0;
	high = (bytes < DM_CHAIN_MAX_SIZE ? bytes : DM_CHAIN_MAX_SIZE) >>
	       block_shift;
	/* Blocks that fit: monotonous, so halve the interval. */
	while (low < high) {
		u64 mid = low + (high - low + 1) / 2;
		u64 size = mid << block_shift;

		if (bytes >= layout_for(size, block_shift).data_offset + size +
			     DM_CHAIN_TRAILER_BYTES)
			low = mid;
		else
			high = mid - 1;
	}
	return low << block_shift;
}

static bool geometry_valid(const struct chain_header *h)
{
	struct layout at;

	if (!sizes_valid(h->size, h->max_size, h->block_shift))
		return false;
	at = layout_for(h->max_size, h->block_shift);
	return h->presence_offset == DM_CHAIN_PRESENCE_OFFSET &&
	       h->map_offset == at.map_offset &&
	       h->data_offset == at.data_offset && h->limit <= h->size;
}

static bool link_valid(const struct chain_link *l)
{
	switch (l->format) {
	case DM_CHAIN_FORMAT_NONE:
		return true;
	case DM_CHAIN_FORMAT_RAW:
	case DM_CHAIN_FORMAT_CHAIN:
		return size_valid(l->size);
	default:
		return false;
	}
}

static void decode_link(const struct dm_chain_disk_link *d,
			struct chain_link *l)
{
	l->format = le32_to_cpu(d->format);
	memcpy(l->uuid.b, d->uuid, sizeof(l->uuid.b));
	memcpy(l->cid.b, d->cid, sizeof(l->cid.b));
	l->size = le64_to_cpu(d->size);
}

static void encode_link(const struct chain_link *l,
			struct dm_chain_disk_link *d)
{
	d->format = cpu_to_le32(l->format);
	memcpy(d->uuid, l->uuid.b, sizeof(d->uuid));
	memcpy(d->cid, l->cid.b, sizeof(d->cid));
	d->size = cpu_to_le64(l->size);
}

static bool record_valid(const struct chain_header *h)
{
	const struct chain_record *r = &h->record;

	if (!(h->marks & DM_CHAIN_MARK_JOB))
		return true;
	if (r->flags & ~DM_CHAIN_RECORD_FLAGS_KNOWN)
		return false;
	switch (r->type) {
	case DM_CHAIN_RECORD_STREAM:
		return r->base_format <= DM_CHAIN_FORMAT_CHAIN;
	case DM_CHAIN_RECORD_COMMIT:
		return r->base_format == DM_CHAIN_FORMAT_CHAIN ||
		       (r->base_format == DM_CHAIN_FORMAT_RAW &&
			size_valid(r->base_size));
	case DM_CHAIN_RECORD_MIRROR:
		return r->base_format == DM_CHAIN_FORMAT_CHAIN;
	default:
		return false;
	}
}

static void decode_record(const struct dm_chain_disk_record *d,
			  struct chain_record *r)
{
	r->type = le32_to_cpu(d->type);
	r->flags = le32_to_cpu(d->flags);
	r->base_format = le32_to_cpu(d->base_format);
	memcpy(r->base.b, d->base, sizeof(r->base.b));
	memcpy(r->c0.b, d->c0, sizeof(r->c0.b));
	memcpy(r->c1.b, d->c1, sizeof(r->c1.b));
	r->base_size = le64_to_cpu(d->base_size);
}

static void encode_record(const struct chain_record *r,
			  struct dm_chain_disk_record *d)
{
	d->type = cpu_to_le32(r->type);
	d->flags = cpu_to_le32(r->flags);
	d->base_format = cpu_to_le32(r->base_format);
	memcpy(d->base, r->base.b, sizeof(d->base));
	memcpy(d->c0, r->c0.b, sizeof(d->c0));
	memcpy(d->c1, r->c1.b, sizeof(d->c1));
	d->base_size = cpu_to_le64(r->base_size);
}

static u32 header_crc(const struct dm_chain_disk_header *d)
{
	static const __le32 none;
	size_t at = offsetof(struct dm_chain_disk_header, crc);
	const u8 *p = (const u8 *)d;
	u32 crc = chain_crc32c(~0U, p, at);

	crc = chain_crc32c(crc, &none, sizeof(none));
	return chain_crc32c(crc, p + at + sizeof(none),
			    sizeof(*d) - at - sizeof(none));
}

static void decode_ids(const struct dm_chain_disk_header *d,
		       struct chain_header *h)
{
	memcpy(h->uuid.b, d->uuid, sizeof(d->uuid));
	memcpy(h->cid.b, d->cid, sizeof(d->cid));
	memcpy(h->sealed_by.b, d->sealed_by, sizeof(d->sealed_by));
	memcpy(h->use_host.b, d->use_host, sizeof(d->use_host));
	memcpy(h->use_boot.b, d->use_boot, sizeof(d->use_boot));
	memcpy(h->use_nonce.b, d->use_nonce, sizeof(d->use_nonce));
	memcpy(h->group.b, d->group, sizeof(d->group));
	memcpy(h->coordinator.b, d->coordinator, sizeof(d->coordinator));
	memcpy(h->decision.b, d->decision, sizeof(d->decision));
	memcpy(h->job.b, d->job, sizeof(d->job));
}

static void encode_ids(const struct chain_header *h,
		       struct dm_chain_disk_header *d)
{
	memcpy(d->uuid, h->uuid.b, sizeof(d->uuid));
	memcpy(d->cid, h->cid.b, sizeof(d->cid));
	memcpy(d->sealed_by, h->sealed_by.b, sizeof(d->sealed_by));
	memcpy(d->use_host, h->use_host.b, sizeof(d->use_host));
	memcpy(d->use_boot, h->use_boot.b, sizeof(d->use_boot));
	memcpy(d->use_nonce, h->use_nonce.b, sizeof(d->use_nonce));
	memcpy(d->group, h->group.b, sizeof(d->group));
	memcpy(d->coordinator, h->coordinator.b, sizeof(d->coordinator));
	memcpy(d->decision, h->decision.b, sizeof(d->decision));
	memcpy(d->job, h->job.b, sizeof(d->job));
}

static void decode_fields(const struct dm_chain_disk_header *d,
			  struct chain_header *h)
{
	h->generation = le64_to_cpu(d->generation);
	h->compat = le64_to_cpu(d->compat);
	h->compat_ro = le64_to_cpu(d->compat_ro);
	h->incompat = le64_to_cpu(d->incompat);
	h->size = le64_to_cpu(d->size);
	h->max_size = le64_to_cpu(d->max_size);
	h->block_shift = le32_to_cpu(d->block_shift);
	h->marks = le32_to_cpu(d->marks);
	h->presence_offset = le64_to_cpu(d->presence_offset);
	h->map_offset = le64_to_cpu(d->map_offset);
	h->data_offset = le64_to_cpu(d->data_offset);
	h->map_seed = le64_to_cpu(d->map_seed);
	h->limit = le64_to_cpu(d->limit);
	decode_link(&d->parent, &h->parent);
	decode_record(&d->record, &h->record);
	decode_ids(d, h);
	memcpy(h->parent_path, d->parent_path, sizeof(h->parent_path));
	memcpy(h->child_path, d->child_path, sizeof(h->child_path));
	memcpy(h->coordinator_path, d->coordinator_path,
	       sizeof(h->coordinator_path));
}

enum chain_header_status chain_header_decode(const void *buf,
					     struct chain_header *h)
{
	const struct dm_chain_disk_header *d = buf;

	if (memcmp(d->magic, DM_CHAIN_MAGIC, sizeof(d->magic)))
		return CHAIN_HEADER_NONE;
	/* The checksum first: a rotten version field is no newer version. */
	if (header_crc(d) != le32_to_cpu(d->crc))
		return CHAIN_HEADER_CRC;
	if (le32_to_cpu(d->version) != DM_CHAIN_FORMAT_VERSION)
		return CHAIN_HEADER_VERSION;
	decode_fields(d, h);
	if ((h->incompat & ~DM_CHAIN_INCOMPAT_KNOWN) ||
	    (h->marks & ~DM_CHAIN_MARKS_KNOWN))
		return CHAIN_HEADER_INCOMPAT;
	if (!geometry_valid(h) || !link_valid(&h->parent) ||
	    !record_valid(h) || chain_id_is_null(&h->uuid) ||
	    h->parent_path[DM_CHAIN_PATH_BYTES - 1] ||
	    h->child_path[DM_CHAIN_PATH_BYTES - 1] ||
	    h->coordinator_path[DM_CHAIN_PATH_BYTES - 1])
		return CHAIN_HEADER_GEOMETRY;
	return CHAIN_HEADER_OK;
}

void chain_header_encode(const struct chain_header *h, void *buf)
{
	struct dm_chain_disk_header *d = buf;

	memset(d, 0, sizeof(*d));
	memcpy(d->magic, DM_CHAIN_MAGIC, sizeof(d->magic));
	d->version = cpu_to_le32(DM_CHAIN_FORMAT_VERSION);
	d->generation = cpu_to_le64(h->generation);
	d->compat = cpu_to_le64(h->compat);
	d->compat_ro = cpu_to_le64(h->compat_ro);
	d->incompat = cpu_to_le64(h->incompat);
	d->size = cpu_to_le64(h->size);
	d->max_size = cpu_to_le64(h->max_size);
	d->block_shift = cpu_to_le32(h->block_shift);
	d->marks = cpu_to_le32(h->marks);
	d->presence_offset = cpu_to_le64(h->presence_offset);
	d->map_offset = cpu_to_le64(h->map_offset);
	d->data_offset = cpu_to_le64(h->data_offset);
	d->map_seed = cpu_to_le64(h->map_seed);
	d->limit = cpu_to_le64(h->limit);
	encode_link(&h->parent, &d->parent);
	encode_record(&h->record, &d->record);
	encode_ids(h, d);
	memcpy(d->parent_path, h->parent_path, sizeof(d->parent_path));
	memcpy(d->child_path, h->child_path, sizeof(d->child_path));
	memcpy(d->coordinator_path, h->coordinator_path,
	       sizeof(d->coordinator_path));
	d->crc = cpu_to_le32(header_crc(d));
}

/* A slot whose checksum holds but which this code must not touch. */
static bool slot_refuses(enum chain_header_status s)
{
	return s == CHAIN_HEADER_VERSION || s == CHAIN_HEADER_INCOMPAT ||
	       s == CHAIN_HEADER_GEOMETRY;
}

static enum chain_header_status decode_slot(const void *slot,
					    struct chain_header *h)
{
	return slot ? chain_header_decode(slot, h) : CHAIN_HEADER_UNREAD;
}

static u64 slot_generation(const void *slot)
{
	return le64_to_cpu(((const struct dm_chain_disk_header *)slot)->generation);
}

enum chain_header_status chain_header_pick(const void *slot0, const void *slot1,
					   struct chain_header *h,
					   unsigned int *stale)
{
	/* One decode buffer only: a header is too large for two on the stack. */
	enum chain_header_status s0 = decode_slot(slot0, h);
	enum chain_header_status s1 = decode_slot(slot1, h);

	*stale = 0;
	if (slot_refuses(s0))
		return s0;
	if (slot_refuses(s1))
		return s1;
	if (s0 && s1)
		return s0 == CHAIN_HEADER_NONE || s1 == CHAIN_HEADER_UNREAD ? s1 : s0;
	if (s1) {
		*stale = 2;
		return chain_header_decode(slot0, h);
	}
	if (s0) {
		*stale = 1;
		return CHAIN_HEADER_OK;
	}
	if (slot_generation(slot0) == slot_generation(slot1))
		return memcmp(slot0, slot1, DM_CHAIN_HEADER_BYTES) ?
			CHAIN_HEADER_SPLIT : CHAIN_HEADER_OK;
	if (slot_generation(slot0) < slot_generation(slot1)) {
		*stale = 1;
		return CHAIN_HEADER_OK;
	}
	*stale = 2;
	return chain_header_decode(slot0, h);
}

static void forget_paths(struct dm_chain_disk_header *d)
{
	memset(d->parent_path, 0, sizeof(d->parent_path));
	memset(d->child_path, 0, sizeof(d->child_path));
	memset(&d->crc, 0, sizeof(d->crc));
}

bool chain_header_same(const struct chain_header *a, const struct chain_header *b,
		       void *buf)
{
	u8 *other = (u8 *)buf + DM_CHAIN_HEADER_BYTES;

	chain_header_encode(a, buf);
	chain_header_encode(b, other);
	forget_paths(buf);
	forget_paths((void *)other);
	return !memcmp(buf, other, DM_CHAIN_HEADER_BYTES);
}

static u32 sector_crc(const struct dm_chain_disk_sector *d)
{
	static const __le32 none;
	size_t at = offsetof(struct dm_chain_disk_sector, crc);
	const u8 *p = (const u8 *)d;
	u32 crc = chain_crc32c(~0U, p, at);

	crc = chain_crc32c(crc, &none, sizeof(none));
	return chain_crc32c(crc, p + at + sizeof(none),
			    sizeof(*d) - at - sizeof(none));
}

static void encode_sector(u32 magic, u64 seed, u64 index, const u64 *words,
			  u64 flags, void *buf)
{
	struct dm_chain_disk_sector *d = buf;
	unsigned int i;

	memset(d, 0, sizeof(*d));
	d->magic = cpu_to_le32(magic);
	d->index = cpu_to_le64(index);
	d->seed = cpu_to_le64(seed);
	d->flags = cpu_to_le64(flags);
	for (i = 0; words && i < CHAIN_SECTOR_WORDS; i++)
		d->bits[i] = cpu_to_le64(words[i]);
	/* The checksum is of what it is 0 in: as it is now. */
	d->crc = cpu_to_le32(chain_crc32c(~0U, d, sizeof(*d)));
}

void chain_sector_encode(u32 magic, u64 seed, u64 index, const u64 *words,
			 void *buf)
{
	encode_sector(magic, seed, index, words, 0, buf);
}

bool chain_sector_decode(u32 magic, u64 seed, u64 index, const void *buf,
			 u64 *words)
{
	const struct dm_chain_disk_sector *d = buf;
	unsigned int i;

	if (le32_to_cpu(d->magic) != magic || le64_to_cpu(d->index) != index ||
	    le64_to_cpu(d->seed) != seed || sector_crc(d) != le32_to_cpu(d->crc))
		return false;
	for (i = 0; i < CHAIN_SECTOR_WORDS; i++)
		words[i] = le64_to_cpu(d->bits[i]);
	return true;
}

void chain_map_sector_encode(u64 seed, u64 sector, const u64 *words, bool changed,
			     void *buf)
{
	encode_sector(DM_CHAIN_MAP_MAGIC, seed, sector, words,
		      changed ? DM_CHAIN_SECTOR_CHANGED : 0, buf);
}

void chain_group_encode(u64 seed, u64 group, const u64 *words, u8 changed,
			void *buf)
{
	unsigned int i;

	for (i = 0; i < DM_CHAIN_GROUP_SECTORS; i++)
		chain_map_sector_encode(seed, group * DM_CHAIN_GROUP_SECTORS + i,
					words ? words + i * CHAIN_SECTOR_WORDS : NULL,
					changed & 1U << i, (u8 *)buf + i * 512);
}

static bool is_changed(const void *buf)
{
	const struct dm_chain_disk_sector *d = buf;

	return le64_to_cpu(d->flags) & DM_CHAIN_SECTOR_CHANGED;
}

unsigned int chain_group_decode(u64 seed, u64 group, const void *buf,
				u64 *words, u8 *changed)
{
	unsigned int i, damaged = 0;

	*changed = 0;

	for (i = 0; i < DM_CHAIN_GROUP_SECTORS; i++) {
		const u8 *sector = (const u8 *)buf + i * 512;
		u64 *w = words + i * CHAIN_SECTOR_WORDS;
		bool valid = chain_sector_decode(DM_CHAIN_MAP_MAGIC, seed,
				group * DM_CHAIN_GROUP_SECTORS + i, sector, w);

		/* What is lost may have been flagged. */
		if (!valid || is_changed(sector))
			*changed |= 1U << i;
		if (valid)
			continue;
		memset(w, 0xff, CHAIN_SECTOR_WORDS * sizeof(*w));
		damaged |= 1U << i;
	}
	return damaged;
}

static enum chain_link_status check_raw(const struct chain_link *link,
					const struct chain_header *through,
					u64 size, const struct chain_id *cid)
{
	if (link->format != DM_CHAIN_FORMAT_RAW)
		return CHAIN_LINK_FORMAT;
	if (!chain_link_raw_by_id(through)) {
		/* It grows to the size of the range's top, if it is smaller. */
		return size == through->record.base_size ||
		       size == through->size ? CHAIN_LINK_OK : CHAIN_LINK_SIZE;
	}
	if (link->size != size)
		return CHAIN_LINK_SIZE;
	return chain_id_equal(&link->cid, cid) ? CHAIN_LINK_OK : CHAIN_LINK_CID;
}

/* What a commit above the child has done to a parent in its range, or its base. */
static bool fits_commit(const struct chain_header *through,
			const struct chain_header *parent)
{
	const struct chain_record *r = &through->record;

	if (chain_is_base(through, parent))
		return chain_id_equal(&parent->cid, &r->c0) ||
		       chain_id_equal(&parent->cid, &r->c1);
	return parent->marks & DM_CHAIN_MARK_SPOILED &&
	       chain_id_equal(&parent->job, &through->job);
}

enum chain_link_status chain_link_check(const struct chain_link *link,
					const struct chain_header *through,
					const struct chain_header *parent,
					u64 raw_size,
					const struct chain_id *raw_cid)
{
	if (!parent)
		return check_raw(link, through, raw_size, raw_cid);
	if (link->format != DM_CHAIN_FORMAT_CHAIN)
		return CHAIN_LINK_FORMAT;
	if (!chain_id_equal(&link->uuid, &parent->uuid))
		return CHAIN_LINK_UUID;
	if (parent->marks & DM_CHAIN_MARK_SPOILED &&
	    !(through && chain_id_equal(&parent->job, &through->job)))
		return CHAIN_LINK_SPOILED;
	if (through && fits_commit(through, parent))
		return CHAIN_LINK_OK;
	if (!chain_id_equal(&link->cid, &parent->cid))
		return CHAIN_LINK_CID;
	return parent->marks & DM_CHAIN_MARK_PENDING ? CHAIN_LINK_PENDING :
						       CHAIN_LINK_OK;
}

void chain_pending_set(struct chain_header *h, const struct chain_id *group,
		       const struct chain_id *coordinator, const char *path)
{
	h->marks |= DM_CHAIN_MARK_PENDING;
	h->group = *group;
	h->coordinator = *coordinator;
	memmove(h->coordinator_path, path, sizeof(h->coordinator_path));
}

void chain_pending_clear(struct chain_header *h)
{
	h->marks &= ~DM_CHAIN_MARK_PENDING;
	memset(&h->group, 0, sizeof(h->group));
	memset(&h->coordinator, 0, sizeof(h->coordinator));
	memset(h->coordinator_path, 0, sizeof(h->coordinator_path));
}

void chain_drop_mirror(struct chain_header *h)
{
	if (!(h->marks & DM_CHAIN_MARK_JOB) ||
	    h->record.type != DM_CHAIN_RECORD_MIRROR)
		return;
	h->marks &= ~DM_CHAIN_MARK_JOB;
	memset(&h->record, 0, sizeof(h->record));
	memset(&h->job, 0, sizeof(h->job));
}

void chain_retired_final(struct chain_header *h)
{
	if (!(h->marks & DM_CHAIN_MARK_RETIRED))
		return;
	h->marks &= ~DM_CHAIN_MARK_JOB;
	memset(&h->record, 0, sizeof(h->record));
}

void chain_pending_commit(struct chain_header *h)
{
	chain_retired_final(h);
	if (chain_pending_old(h) && !(h->marks & DM_CHAIN_MARK_RETIRED)) {
		h->marks |= DM_CHAIN_MARK_SEALED;
		chain_drop_mirror(h);
	}
	chain_pending_clear(h);
}

void chain_pending_abort(struct chain_header *h, const struct chain_id *cid)
{
	chain_pending_clear(h);
	if (h->marks & DM_CHAIN_MARK_RETIRED) {
		chain_retired_final(h);
		h->marks &= ~DM_CHAIN_MARK_RETIRED;
		memset(&h->job, 0, sizeof(h->job));
	}
	memset(&h->sealed_by, 0, sizeof(h->sealed_by));
	memset(h->child_path, 0, sizeof(h->child_path));
	h->cid = *cid;
}

/* Sample 0 is the head, 1 the tail, the others lie evenly between. */
void chain_raw_sample(u64 size, unsigned int i, u64 *offset, u32 *length)
{
	u64 edge = size < CHAIN_RAW_EDGE_BYTES ? size : CHAIN_RAW_EDGE_BYTES;

	*offset = 0;
	*length = edge;
	if (i == 0)
		return;
	if (i == 1) {
		*offset = size - edge;
		return;
	}
	*length = 0;
	if (size < 4 * CHAIN_RAW_EDGE_BYTES)
		return;
	*offset = size / CHAIN_RAW_SAMPLES * i & ~(u64)(CHAIN_RAW_SAMPLE_BYTES - 1);
	*length = CHAIN_RAW_SAMPLE_BYTES;
}

void chain_raw_fingerprint_update(struct chain_id *fp, unsigned int i,
				  const void *buf, u32 length)
{
	u8 *at = fp->b + 4 * (i < 2 ? i : 2 + i % 2);
	__le32 word;
	u32 crc;

	memcpy(&word, at, sizeof(word));
	crc = chain_crc32c(~le32_to_cpu(word), buf, length);
	word = cpu_to_le32(~crc);
	memcpy(at, &word, sizeof(word));
}

CHAIN_EXPORT_FOR_KUNIT(chain_header_strerror);
CHAIN_EXPORT_FOR_KUNIT(chain_header_init);
CHAIN_EXPORT_FOR_KUNIT(chain_default_max_size);
CHAIN_EXPORT_FOR_KUNIT(chain_layer_bytes);
CHAIN_EXPORT_FOR_KUNIT(chain_max_size_for);
CHAIN_EXPORT_FOR_KUNIT(chain_header_decode);
CHAIN_EXPORT_FOR_KUNIT(chain_header_encode);
CHAIN_EXPORT_FOR_KUNIT(chain_header_same);
CHAIN_EXPORT_FOR_KUNIT(chain_header_pick);
CHAIN_EXPORT_FOR_KUNIT(chain_sector_encode);
CHAIN_EXPORT_FOR_KUNIT(chain_map_sector_encode);
CHAIN_EXPORT_FOR_KUNIT(chain_sector_decode);
CHAIN_EXPORT_FOR_KUNIT(chain_group_encode);
CHAIN_EXPORT_FOR_KUNIT(chain_group_decode);
CHAIN_EXPORT_FOR_KUNIT(chain_link_check);
CHAIN_EXPORT_FOR_KUNIT(chain_drop_mirror);
CHAIN_EXPORT_FOR_KUNIT(chain_retired_final);
CHAIN_EXPORT_FOR_KUNIT(chain_pending_set);
CHAIN_EXPORT_FOR_KUNIT(chain_pending_commit);
CHAIN_EXPORT_FOR_KUNIT(chain_pending_abort);
CHAIN_EXPORT_FOR_KUNIT(chain_raw_sample);
CHAIN_EXPORT_FOR_KUNIT(chain_raw_fingerprint_update);
