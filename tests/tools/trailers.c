// SPDX-License-Identifier: GPL-2.0-or-later
// sources: tests/tools/common.c
/*
 * What a guest may write to its whole disk, and what a host must not take for
 * its own: members of an md array (at the end or at the head), an LVM physical
 * volume with a volume group, partition tables. All are complete enough that
 * md and LVM would assemble them on a device of that size; the arrays and the
 * group need no second device.
 */
#include <endian.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"

static struct dev dev;
static u64 seed = 1;

static void put(u64 off, const void *data, u64 len)
{
	u64 whole = round_up_to(len, SECTOR);
	u8 *buf = xalloc_aligned(whole);
	int r;

	memcpy(buf, data, len);
	r = dev_write(&dev, buf, whole, off);
	if (r)
		die("%s: write %llu+%llu: %s", dev.path,
		    (unsigned long long)off, (unsigned long long)whole,
		    strerror(-r));
	free(buf);
}

static void make_uuid(u8 *uuid, unsigned int which)
{
	struct rng r;
	unsigned int i;

	rng_init(&r, seed, which);
	for (i = 0; i < 16; i++)
		uuid[i] = rnd(&r);
	uuid[6] = (uuid[6] & 0x0f) | 0x40;
	uuid[8] = (uuid[8] & 0x3f) | 0x80;
}

static u64 sectors(void)
{
	return dev.size / SECTOR;
}

/* md: version 0.90, in the last whole 64 KiB but one boundary; words */

#define MD_MAGIC	0xa92b4efc
#define MD_CREATED	1700000000

enum {
	MD0_WORDS = 1024, MD0_RESERVED = 128,
	MD0_MAGIC = 0, MD0_MINOR = 2, MD0_UUID0 = 5, MD0_CTIME = 6,
	MD0_LEVEL = 7, MD0_SIZE = 8, MD0_NR_DISKS = 9, MD0_RAID_DISKS = 10,
	MD0_MD_MINOR = 11, MD0_UUID1 = 13, MD0_UTIME = 32, MD0_STATE = 33,
	MD0_ACTIVE = 34, MD0_WORKING = 35, MD0_CSUM = 38, MD0_EVENTS = 39,
	MD0_CP_EVENTS = 41, MD0_DISKS = 128, MD0_THIS_DISK = 992,
	MD0_DISK_STATE = 4, MD0_DISK_ACTIVE_SYNC = 6,
};

static u32 fold(u64 sum)
{
	return (u32)sum + (u32)(sum >> 32);
}

static void write_md0(void)
{
	u64 at = round_down_to(sectors(), MD0_RESERVED) - MD0_RESERVED, sum = 0;
	u32 w[MD0_WORDS] = { 0 };
	unsigned int i;
	u8 uuid[16];

	make_uuid(uuid, 90);
	memcpy(&w[MD0_UUID0], uuid, 4);
	memcpy(&w[MD0_UUID1], uuid + 4, 12);
	w[MD0_MAGIC] = MD_MAGIC;
	w[MD0_MINOR] = 90;
	w[MD0_CTIME] = w[MD0_UTIME] = MD_CREATED;
	w[MD0_LEVEL] = 1;
	w[MD0_SIZE] = at / 2;
	w[MD0_NR_DISKS] = w[MD0_RAID_DISKS] = 1;
	w[MD0_MD_MINOR] = 90;
	w[MD0_STATE] = 1;
	w[MD0_ACTIVE] = w[MD0_WORKING] = 1;
	w[MD0_EVENTS] = w[MD0_CP_EVENTS] = 4;
	w[MD0_DISKS + MD0_DISK_STATE] = MD0_DISK_ACTIVE_SYNC;
	w[MD0_THIS_DISK + MD0_DISK_STATE] = MD0_DISK_ACTIVE_SYNC;
	for (i = 0; i < MD0_WORDS; i++)
		sum += w[i];
	w[MD0_CSUM] = fold(sum);
	put(at * SECTOR, w, sizeof(w));
}

/* md: versions 1.0 (end), 1.1 (head), 1.2 (4 KiB from the head) */

struct md1 {
	u32 magic, major, features, pad0;
	u8 set_uuid[16];
	char set_name[32];
	u64 ctime;
	u32 level, layout;
	u64 size;
	u32 chunk, raid_disks, bitmap_offset, new_level;
	u64 reshape_position;
	u32 delta_disks, new_layout, new_chunk, new_offset;
	u64 data_offset, data_size, super_offset, recovery_offset;
	u32 dev_number, corrected;
	u8 device_uuid[16];
	u8 devflags, bblog_shift;
	u16 bblog_size;
	u32 bblog_offset;
	u64 utime, events, resync_offset;
	u32 csum, max_dev;
	u8 pad3[32];
	u16 roles[2];
};
_Static_assert(offsetof(struct md1, csum) == 216, "md superblock");
_Static_assert(offsetof(struct md1, roles) == 256, "md superblock");

static u32 md1_csum(const struct md1 *sb)
{
	const u8 *p = (const u8 *)sb;
	u64 sum = 0;
	size_t i;
	u32 w;

	for (i = 0; i < offsetof(struct md1, roles) + 4; i += 4) {
		memcpy(&w, p + i, 4);
		sum += le32toh(w);
	}
	return fold(sum);
}

static u64 md1_place(unsigned int minor)
{
	if (minor == 0)
		return round_down_to(sectors() - 16, 8);
	return minor == 1 ? 0 : 8;
}

static void write_md1(unsigned int minor)
{
	u64 at = md1_place(minor), data = minor ? 2048 : 0;
	struct md1 sb = {
		.magic = htole32(MD_MAGIC), .major = htole32(1),
		.ctime = htole64(MD_CREATED), .utime = htole64(MD_CREATED),
		.level = htole32(1), .raid_disks = htole32(1),
		.size = htole64(round_down_to(minor ? sectors() - data : at, 8)),
		.data_offset = htole64(data),
		.data_size = htole64(minor ? sectors() - data : at),
		.super_offset = htole64(at), .resync_offset = htole64(~0ULL),
		.events = htole64(4), .max_dev = htole32(2),
		.roles = { htole16(0), htole16(0xffff) },
	};

	snprintf(sb.set_name, sizeof(sb.set_name), "guest:1%u", minor);
	make_uuid(sb.set_uuid, 100 + minor);
	make_uuid(sb.device_uuid, 110 + minor);
	sb.csum = htole32(md1_csum(&sb));
	put(at * SECTOR, &sb, sizeof(sb));
}

/* LVM */

#define LVM_CRC		0xf597a6cf
#define LVM_MDA		4096ULL
#define LVM_DATA	(1ULL << 20)

struct lvm_area {
	u64 offset, size;
};

struct lvm_label {
	char id[8];
	u64 sector;
	u32 crc, offset;
	char type[8];
	/* PV header */
	char pv_uuid[32];
	u64 device_size;
	struct lvm_area data[2], meta[2];
	/* its extension */
	u32 version, flags;
	struct lvm_area boot[1];
	u8 rest[SECTOR - 32 - 40 - 64 - 8 - 16];
} __attribute__((packed));
_Static_assert(sizeof(struct lvm_label) == SECTOR, "LVM label");

struct lvm_mda {
	u32 crc;
	u8 magic[16];
	u32 version;
	u64 start, size;
	struct {
		u64 offset, size;
		u32 crc, flags;
	} text[2];
	u8 rest[SECTOR - 40 - 48];
} __attribute__((packed));
_Static_assert(sizeof(struct lvm_mda) == SECTOR, "LVM metadata area");

static u32 crc32_of(u32 crc, const void *data, size_t n)
{
	const u8 *p = data;
	unsigned int i;

	while (n--) {
		crc ^= *p++;
		for (i = 0; i < 8; i++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
	}
	return crc;
}

/* 32 characters; with dashes 6-4-4-4-4-4-6 in the text. */
static void lvm_uuid(char *id, unsigned int which)
{
	static const char set[] = "0123456789abcdefghijklmnopqrstuvwxyz";
	struct rng r;
	unsigned int i;

	rng_init(&r, seed, which);
	for (i = 0; i < 32; i++)
		id[i] = set[rnd_below(&r, sizeof(set) - 1)];
}

static const char *lvm_uuid_text(char *text, unsigned int which)
{
	char id[32];

	lvm_uuid(id, which);
	sprintf(text, "%.6s-%.4s-%.4s-%.4s-%.4s-%.4s-%.6s", id, id + 6, id + 10,
		id + 14, id + 18, id + 22, id + 26);
	return text;
}

enum { UUID_PV = 200, UUID_VG, UUID_LV };

static size_t lvm_text(char *text, size_t n)
{
	char vg[40], pv[40], lv[40];
	int len = snprintf(text, n,
		"guestvg {\nid = \"%s\"\nseqno = 2\nformat = \"lvm2\"\n"
		"status = [\"RESIZEABLE\", \"READ\", \"WRITE\"]\nflags = []\n"
		"extent_size = 2048\nmax_lv = 0\nmax_pv = 0\nmetadata_copies = 0\n\n"
		"physical_volumes {\n\npv0 {\nid = \"%s\"\ndevice = \"/dev/vda\"\n\n"
		"status = [\"ALLOCATABLE\"]\nflags = []\ndev_size = %llu\n"
		"pe_start = %llu\npe_count = %llu\n}\n}\n\n"
		"logical_volumes {\n\nlv0 {\nid = \"%s\"\n"
		"status = [\"READ\", \"WRITE\", \"VISIBLE\"]\nflags = []\n"
		"creation_time = %u\ncreation_host = \"guest\"\nsegment_count = 1\n\n"
		"segment1 {\nstart_extent = 0\nextent_count = 1\n\ntype = \"striped\"\n"
		"stripe_count = 1\n\nstripes = [\n\"pv0\", 0\n]\n}\n}\n}\n\n}\n"
		"# Generated\ncontents = \"Text Format Volume Group\"\nversion = 1\n\n"
		"description = \"\"\n\ncreation_host = \"guest\"\ncreation_time = %u\n\n",
		lvm_uuid_text(vg, UUID_VG), lvm_uuid_text(pv, UUID_PV),
		(unsigned long long)sectors(), LVM_DATA / SECTOR,
		(unsigned long long)(dev.size - LVM_DATA) >> 20,
		lvm_uuid_text(lv, UUID_LV), MD_CREATED, MD_CREATED);

	return len + 1;			/* the 0 counts */
}

static void write_lvm_metadata(void)
{
	static const u8 magic[16] = {
		' ', 'L', 'V', 'M', '2', ' ', 'x', '[',
		'5', 'A', '%', 'r', '0', 'N', '*', '>',
	};
	char text[4096];
	size_t len = lvm_text(text, sizeof(text));
	struct lvm_mda mda = {
		.version = htole32(1), .start = htole64(LVM_MDA),
		.size = htole64(LVM_DATA - LVM_MDA),
		.text[0].offset = htole64(SECTOR), .text[0].size = htole64(len),
		.text[0].crc = htole32(crc32_of(LVM_CRC, text, len)),
	};

	memcpy(mda.magic, magic, sizeof(magic));
	mda.crc = htole32(crc32_of(LVM_CRC, mda.magic, sizeof(mda) - 4));
	put(LVM_MDA, &mda, sizeof(mda));
	put(LVM_MDA + SECTOR, text, len);
}

static void write_lvm(void)
{
	struct lvm_label l = {
		.sector = htole64(1), .offset = htole32(32),
		.device_size = htole64(dev.size),
		.data[0] = { htole64(LVM_DATA), 0 },
		.meta[0] = { htole64(LVM_MDA), htole64(LVM_DATA - LVM_MDA) },
		.version = htole32(2), .flags = htole32(1),
	};

	memcpy(l.id, "LABELONE", 8);
	memcpy(l.type, "LVM2 001", 8);
	lvm_uuid(l.pv_uuid, UUID_PV);
	l.crc = htole32(crc32_of(LVM_CRC, &l.offset, sizeof(l) - 20));
	put(SECTOR, &l, sizeof(l));
	write_lvm_metadata();
}

/* Partition tables */

struct mbr_part {
	u8 boot, first_chs[3], type, last_chs[3];
	u32 first, count;
} __attribute__((packed));

static void write_table(u8 type, u64 first, u64 count)
{
	struct mbr_part p = {
		.first_chs = { 0xfe, 0xff, 0xff }, .type = type,
		.last_chs = { 0xfe, 0xff, 0xff }, .first = htole32(first),
		.count = htole32(min_u64(count, 0xffffffff)),
	};
	u8 sector[SECTOR] = { 0 };

	sector[440] = 0xd1;		/* disk signature */
	memcpy(sector + 446, &p, sizeof(p));
	sector[510] = 0x55;
	sector[511] = 0xaa;
	put(0, sector, sizeof(sector));
}

static void write_mbr(void)
{
	write_table(0x83, 2048, sectors() - 2048);
}

struct gpt {
	char magic[8];
	u32 revision, header_size, crc, reserved;
	u64 here, other, first, last;
	u8 uuid[16];
	u64 entries;
	u32 nr_entries, entry_size, entries_crc;
} __attribute__((packed));
_Static_assert(sizeof(struct gpt) == 92, "GPT header");

struct gpt_entry {
	u8 type[16], uuid[16];
	u64 first, last, flags;
	u16 name[36];
} __attribute__((packed));

#define GPT_ENTRIES	128
#define GPT_SECTORS	32

static void put_gpt(struct gpt *h, u64 here, u64 other, u64 entries)
{
	h->here = htole64(here);
	h->other = htole64(other);
	h->entries = htole64(entries);
	h->crc = 0;
	h->crc = htole32(~crc32_of(~0U, h, sizeof(*h)));
	put(here * SECTOR, h, sizeof(*h));
}

static void write_gpt(void)
{
	static const u8 linux_data[16] = {
		0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47,
		0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4,
	};
	struct gpt_entry e[GPT_ENTRIES] = { 0 };
	u64 end = sectors() - 1;
	struct gpt h = {
		.revision = htole32(0x10000), .header_size = htole32(sizeof(h)),
		.first = htole64(2 + GPT_SECTORS),
		.last = htole64(end - GPT_SECTORS - 1),
		.nr_entries = htole32(GPT_ENTRIES), .entry_size = htole32(sizeof(e[0])),
	};

	memcpy(h.magic, "EFI PART", 8);
	memcpy(e[0].type, linux_data, sizeof(linux_data));
	make_uuid(e[0].uuid, 301);
	e[0].first = htole64(2048);
	e[0].last = htole64(end - GPT_SECTORS - 1);
	e[0].name[0] = htole16('g');
	make_uuid(h.uuid, 300);
	h.entries_crc = htole32(~crc32_of(~0U, e, sizeof(e)));
	write_table(0xee, 1, end);
	put(2 * SECTOR, e, sizeof(e));
	put((end - GPT_SECTORS) * SECTOR, e, sizeof(e));
	put_gpt(&h, 1, end, 2);
	put_gpt(&h, end, 1, end - GPT_SECTORS);
}

static void wipe(void)
{
	u64 head = min_u64(dev.size, 2 << 20), tail = min_u64(dev.size, 256 << 10);
	u8 *zeroes = xzalloc(2 << 20);

	put(0, zeroes, head);
	put(dev.size - tail, zeroes, tail);
	free(zeroes);
}

static bool write_kind(const char *kind)
{
	if (!strcmp(kind, "md0.90"))
		write_md0();
	else if (!strcmp(kind, "md1.0"))
		write_md1(0);
	else if (!strcmp(kind, "md1.1"))
		write_md1(1);
	else if (!strcmp(kind, "md1.2"))
		write_md1(2);
	else if (!strcmp(kind, "lvm"))
		write_lvm();
	else if (!strcmp(kind, "mbr"))
		write_mbr();
	else if (!strcmp(kind, "gpt"))
		write_gpt();
	else if (!strcmp(kind, "wipe"))
		wipe();
	else
		return false;
	return true;
}

static void usage(void)
{
	fprintf(stderr,
"usage: trailers DEV [--size BYTES] [--seed X] KIND...\n"
"KIND: md0.90 md1.0 (at the end)  md1.1 md1.2 lvm mbr (at the head)\n"
"      gpt (both)  wipe (zeroes the first 2 MiB and the last 256 KiB)\n"
"later ones overwrite earlier ones where they meet; --seed: other UUIDs\n");
	exit(EX_USE);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "size", 1, NULL, 's' }, { "seed", 1, NULL, 'x' }, { }
	};
	u64 size = 0;
	int o;

	set_prog("trailers");
	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1)
		if (o == 's')
			size = parse_size(optarg);
		else if (o == 'x')
			seed = parse_num(optarg);
		else
			usage();
	if (argc - optind < 2)
		usage();
	dev_open(&dev, argv[optind], 0);
	if (size > dev.size)
		die("%s is smaller than --size", argv[optind]);
	if (size)
		dev.size = round_down_to(size, SECTOR);
	if (dev.size < 4 << 20)
		die("%s: at least 4 MiB", argv[optind]);
	while (++optind < argc)
		if (!write_kind(argv[optind]))
			usage();
	return EX_OK;
}
