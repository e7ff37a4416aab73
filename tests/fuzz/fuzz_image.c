// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A whole image, through what the controller has to read closed ones: header, marks,
 * chain, presence and state map, and the commands info, map and check, which is to
 * mend, too. What the maps say is compared with what the file has, sector by sector.
 *
 * Input: flags, sizes and block_shift of a valid image of which the first groups are
 * used; then parts of it that are changed, see change().
 */
#include "fuzz.h"
#include "offline.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define PARENT_CHAIN	1
#define PARENT_RAW	2
#define JSON		4
#define HUGE_SIZE	8	/* up to 1 TiB; else 4 GiB */
#define LOSSY		16
#define NO_PRESENCE	32	/* the presence map was never written */

#define USED_GROUPS	3
#define PLACES		4

bool opt_json;

static struct chain_header hdr;
static uint8_t slots[2][DM_CHAIN_HEADER_BYTES] __attribute__((aligned(8)));
static int fd = -1;

static void put(const void *buf, size_t len, uint64_t at)
{
	must(pwrite(fd, buf, len, (off_t)at) == (ssize_t)len);
}

static void get(void *buf, size_t len, uint64_t at)
{
	memset(buf, 0, len);
	must(pread(fd, buf, len, (off_t)at) >= 0);
}

static void new_file(const char *name)
{
	if (fd >= 0)
		close(fd);
	fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	must(fd >= 0);
}

static void make_maps(bool presence)
{
	uint64_t words[CHAIN_SECTOR_WORDS] = { (1 << USED_GROUPS) - 1 };
	uint64_t states[CHAIN_GROUP_WORDS], i, n = chain_presence_sectors(&hdr);
	uint8_t buf[DM_CHAIN_GROUP_BYTES];

	for (i = 0; presence && i < n; i++) {
		chain_sector_encode(DM_CHAIN_PRESENCE_MAGIC, hdr.map_seed, i, words, buf);
		put(buf, 512, hdr.presence_offset + i * 512);
		words[0] = 0;
	}
	for (i = 0; i < CHAIN_GROUP_WORDS; i++)
		states[i] = 0x0000aa5515ULL << i % 23;
	for (i = 0; i < USED_GROUPS && i < chain_max_groups(&hdr); i++) {
		chain_group_encode(hdr.map_seed, i, states, i, buf);
		put(buf, sizeof(buf), hdr.map_offset + i * sizeof(buf));
	}
}

static void put_slots(void)
{
	put(slots[0], DM_CHAIN_HEADER_BYTES, DM_CHAIN_SLOT0_OFFSET);
	put(slots[1], DM_CHAIN_HEADER_BYTES, DM_CHAIN_SLOT1_OFFSET);
}

static void make_file(const char *name, bool presence)
{
	uint64_t bytes = chain_layer_bytes(&hdr);

	new_file(name);
	must(!ftruncate(fd, (off_t)bytes));
	chain_header_encode(&hdr, slots[0]);
	memcpy(slots[1], slots[0], sizeof(slots[0]));
	put_slots();
	put(slots[0], DM_CHAIN_HEADER_BYTES, bytes - DM_CHAIN_HEADER_BYTES);
	make_maps(presence);
}

static void ids(uint8_t seed)
{
	memset(hdr.uuid.b, seed, sizeof(hdr.uuid.b));
	memset(hdr.cid.b, seed + 1, sizeof(hdr.cid.b));
	hdr.map_seed = seed * 0x0101010101010101ULL;
	hdr.generation = seed;
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	own_folder();
	must(!chain_header_init(&hdr, 1 << 20, 1 << 20, 12));
	ids(7);
	make_file("base", true);
	new_file("raw");
	must(!ftruncate(fd, 1 << 20));
	return 0;
}

static void base(struct in *in, unsigned int flags)
{
	uint64_t size = take_number(in, 6), max = take_number(in, 6);
	uint64_t most = 1ULL << (flags & HUGE_SIZE ? 40 : 32);
	uint32_t shift = 12 + take_number(in, 1) % 9;

	size = size % most / 512 * 512 + 512;
	max = max % most / 512 * 512 + 512;
	must(!chain_header_init(&hdr, size, max < size ? size : max, shift));
	ids(9);
	if (flags & PARENT_CHAIN) {
		hdr.parent.format = DM_CHAIN_FORMAT_CHAIN;
		memset(hdr.parent.uuid.b, 7, 16);
		memset(hdr.parent.cid.b, 8, 16);
		strcpy(hdr.parent_path, "base");
	} else if (flags & PARENT_RAW) {
		hdr.parent.format = DM_CHAIN_FORMAT_RAW;
		strcpy(hdr.parent_path, "raw");
	}
	hdr.parent.size = 1 << 20;
	hdr.limit = flags & 3 && size > 1 << 20 ? 1 << 20 : 0;
	make_file("top", !(flags & NO_PRESENCE));
}

static void change_slot(struct in *in, uint8_t *slot)
{
	uint32_t crc = 0;

	take_patches(in, slot, DM_CHAIN_HEADER_BYTES);
	memcpy(slot + 12, &crc, 4);
	crc = chain_crc32c(~0U, slot, DM_CHAIN_HEADER_BYTES);
	memcpy(slot + 12, &crc, 4);
}

/* A sector of a map; @fix: its checksum is made to fit. */
static void change_sector(struct in *in, uint64_t at, bool fix)
{
	uint8_t buf[512];
	uint32_t crc = 0;

	get(buf, sizeof(buf), at);
	take_patches(in, buf, sizeof(buf));
	if (fix) {
		memcpy(buf + 4, &crc, 4);
		crc = chain_crc32c(~0U, buf, sizeof(buf));
		memcpy(buf + 4, &crc, 4);
	}
	put(buf, sizeof(buf), at);
}

static void change_length(uint64_t bytes)
{
	must(!ftruncate(fd, (off_t)(bytes % (1ULL << 47))));
}

static bool change(struct in *in)
{
	uint64_t places[PLACES] = { 0, DM_CHAIN_SLOT1_OFFSET, hdr.presence_offset, hdr.map_offset };
	uint64_t bytes = chain_layer_bytes(&hdr);
	unsigned int kind = take_number(in, 1), n;

	switch (kind % 9) {
	case 1:
	case 2:
		change_slot(in, slots[kind % 9 - 1]);
		put_slots();
		return true;
	case 3:
		n = take_number(in, 2) % chain_presence_sectors(&hdr);
		change_sector(in, hdr.presence_offset + n * 512, kind & 128);
		return true;
	case 4:
		n = take_number(in, 2) % (chain_max_groups(&hdr) * DM_CHAIN_GROUP_SECTORS);
		change_sector(in, hdr.map_offset + n * 512, kind & 128);
		return true;
	case 5:
		change_sector(in, bytes - 4096, false);
		return true;
	case 6:
		change_length(bytes + (int16_t)take_number(in, 2));
		return true;
	case 7:
		change_length(take_number(in, 6));
		return true;
	case 8:
		change_sector(in, places[kind / 9 % PLACES], false);
		return true;
	default:
		return false;
	}
}

/* Of the bytes that commands must leave alone. */
static uint32_t file_sum(void)
{
	uint8_t buf[16384];
	struct stat st;
	uint32_t crc;

	must(!fstat(fd, &st));
	crc = chain_crc32c((uint32_t)st.st_size, slots, 0);
	get(buf, 4096, 0);
	get(buf + 4096, 4096, DM_CHAIN_SLOT1_OFFSET);
	get(buf + 8192, 4096, hdr.presence_offset);
	get(buf + 12288, 4096, hdr.map_offset);
	return chain_crc32c(crc, buf, sizeof(buf));
}

/* What the rules say of a block, from the bytes that the file has. */
static unsigned int expected(const struct chain_header *h, uint64_t block)
{
	uint64_t words[CHAIN_SECTOR_WORDS], group = block / DM_CHAIN_GROUP_BLOCKS;
	uint64_t sector = block / DM_CHAIN_SECTOR_BLOCKS;
	uint8_t buf[512] __attribute__((aligned(8)));

	get(buf, sizeof(buf), h->presence_offset + group / 2048 * 512);
	if (!chain_sector_decode(DM_CHAIN_PRESENCE_MAGIC, h->map_seed, group / 2048, buf, words))
		return DM_CHAIN_DAMAGED;
	if (!(words[group % 2048 / 64] >> group % 64 & 1))
		return DM_CHAIN_ABSENT;
	get(buf, sizeof(buf), h->map_offset + sector * 512);
	if (!chain_sector_decode(DM_CHAIN_MAP_MAGIC, h->map_seed, sector, buf, words))
		return DM_CHAIN_DAMAGED;
	return chain_state_get(words, block % DM_CHAIN_SECTOR_BLOCKS);
}

static void check_map(struct image *img)
{
	uint64_t blocks = chain_blocks(&img->hdr), block, bytes = 0, i;
	struct imgmap m;

	if (imgmap_load(&m, img))
		return;
	for (i = 0; i < 4; i++)
		bytes += imgmap_count(&m, &img->hdr, i);
	must(bytes == blocks << img->hdr.block_shift);
	for (i = 0; i < 160; i++) {
		block = i < 64 ? i * 37 : i < 128 ? (i - 64) * 1021 : i * 8191;
		if (block >= blocks)
			continue;
		must(imgmap_state(&m, block) == expected(&img->hdr, block));
		must(imgmap_run(&m, block, blocks) > block);
	}
	must(imgmap_state(&m, blocks - 1) == expected(&img->hdr, blocks - 1));
	imgmap_free(&m);
}

struct seen {
	uint64_t end;
	unsigned int nr;
};

static int extent(const struct dm_chain_extent *e, void *arg)
{
	struct seen *seen = arg;

	must(e->start == seen->end && e->length);
	must(e->state <= DM_CHAIN_DAMAGED && e->depth <= seen->nr);
	must((e->depth == seen->nr) == (e->state == DM_CHAIN_ABSENT));
	seen->end += e->length;
	return 0;
}

static void check_chain(void)
{
	struct seen seen = { 0 };
	struct walk w;

	if (walk_open(&w, "top", DM_CHAIN_FORMAT_CHAIN, WALK_READ_ONLY))
		return;
	seen.nr = w.nr;
	must(w.nr == (hdr.parent.format || w.images[0].hdr.parent.format ? 2 : 1));
	must(w.images[0].bytes >= chain_layer_bytes(&w.images[0].hdr));
	if (!walk_map(&w, extent, &seen))
		must(seen.end == w.images[0].hdr.size);
	walk_close(&w);
}

static int run(int (*cmd)(int argc, char **argv), const char *name, const char *a,
	       const char *b, const char *c)
{
	char *argv[6] = { (char *)name, "top", (char *)a, (char *)b, (char *)c };
	int argc = c ? 5 : b ? 4 : a ? 3 : 2;
	int ret = -cmd(argc, argv);

	must(ret == EXIT_DONE || ret == EXIT_FAILED || ret == EXIT_REFUSED || ret == EXIT_IMAGE);
	fflush(stdout);
	return ret;
}

/* Who says that all is mended has mended all. */
static void mend(bool lossy)
{
	struct image img;

	if (run(cmd_check, "check", "--repair", "--force", lossy ? "--lossy" : NULL))
		return;
	must(!run(cmd_check, "check", NULL, NULL, NULL));
	must(!image_open(&img, "top", DM_CHAIN_FORMAT_CHAIN, IMAGE_ANY_MARK));
	must(!img.stale_slots && image_trailer_valid(&img));
	image_close(&img);
}

static void look(void)
{
	uint32_t before = file_sum();
	struct image img;
	bool good;

	good = !image_open(&img, "top", DM_CHAIN_FORMAT_CHAIN, IMAGE_ANY_MARK);
	if (good) {
		must(img.bytes >= chain_layer_bytes(&img.hdr));
		check_map(&img);
		image_close(&img);
	}
	check_chain();
	good &= !run(cmd_info, "info", NULL, NULL, NULL);
	run(cmd_map, "map", NULL, NULL, NULL);
	must(run(cmd_check, "check", NULL, NULL, NULL) != EXIT_IMAGE || !good);
	must(file_sum() == before);
}

static int free_descriptor(void)
{
	int n = dup(0);

	close(n);
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct in in = { data, size };
	unsigned int flags = take_number(&in, 1), i;
	int next;

	opt_json = flags & JSON;
	base(&in, flags);
	for (i = 0; i < 32 && change(&in); i++)
		;
	next = free_descriptor();
	look();
	mend(flags & LOSSY);
	must(free_descriptor() == next);
	return 0;
}
