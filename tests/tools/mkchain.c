// SPDX-License-Identifier: GPL-2.0-or-later
// sources: tests/tools/common.c kmod/dm-chain-format.c userspace/lib-crc.c
/*
 * Makes all layers of a chain at once, with the data in them. A thousand
 * snapshots, or `dmchain create --backing`, which looks at each layer below,
 * take an emulated processor too long.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "dm-chain-format.h"
#include "common.h"

#define MAX_AREAS	256
#define CHUNK		(1U << 20)

/* From @from on, each @run bytes belong to the next layer; 0: all to the top. */
static struct area {
	u64 from, len, run;
} areas[MAX_AREAS];
static unsigned int nr_areas;

/* All layers have the same map, which is written once; without data. */
static bool same;

static struct chain_header *layers;
static char **paths;
static unsigned int nr;
static u8 *buf;

static void usage(void)
{
	fprintf(stderr,
"usage: mkchain [--same] SIZE FROM:LENGTH:RUN[,FROM:LENGTH:RUN...] DEVICE...\n"
"The bottom is the first DEVICE. Of an area each RUN bytes belong to the next\n"
"layer, from the bottom on and around; all to the top if RUN is 0.\n"
"--same: all layers have the same map, that of the first DEVICE, and no data is\n"
"written; of an area they have each second RUN bytes, or all if RUN is 0.\n");
	exit(EX_USE);
}

static u64 number(const char *text)
{
	return strcmp(text, "0") ? parse_size(text) : 0;
}

static void parse_areas(char *text)
{
	char *part, *len, *run;

	for (; (part = strsep(&text, ",")); nr_areas++) {
		struct area *a = &areas[nr_areas];
		char *from = strsep(&part, ":");

		len = strsep(&part, ":");
		run = part;
		if (nr_areas == MAX_AREAS || !len || !run)
			usage();
		a->from = number(from);
		a->len = number(len);
		a->run = number(run);
		if (!a->len || (a->from | a->len | a->run) % DEF_BLOCK)
			die("areas are made of blocks of 4 KiB");
	}
}

static void check_areas(u64 size)
{
	unsigned int k;

	for (k = 0; k < nr_areas; k++)
		if (areas[k].from + areas[k].len > size)
			die("an area ends behind the disk");
}

static void put(int fd, const char *path, const void *what, u64 len, u64 off)
{
	if (full_pwrite(fd, what, len, off))
		die("%s: can't write at %llu: %s", path, (unsigned long long)off,
		    strerror(errno));
}

static void make_ids(struct chain_header *h)
{
	u8 bytes[2 * sizeof(h->uuid) + sizeof(h->map_seed)];

	if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
		die("no random numbers");
	memcpy(&h->uuid, bytes, sizeof(h->uuid));
	memcpy(&h->cid, bytes + sizeof(h->uuid), sizeof(h->cid));
	memcpy(&h->map_seed, bytes + 2 * sizeof(h->uuid), sizeof(h->map_seed));
}

static void make_headers(u64 size)
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		struct chain_header *h = &layers[i], *below = h - 1;

		if (chain_header_init(h, size, size, DM_CHAIN_MIN_BLOCK_SHIFT))
			die("no layer has such a size");
		h->generation = 1;
		make_ids(h);
		if (!i)
			continue;
		if (same)
			h->map_seed = layers[0].map_seed;
		h->parent.format = DM_CHAIN_FORMAT_CHAIN;
		h->parent.uuid = below->uuid;
		h->parent.cid = below->cid;
		h->parent.size = size;
		h->limit = size;
		snprintf(h->parent_path, sizeof(h->parent_path), "%s", paths[i - 1]);
		below->marks |= DM_CHAIN_MARK_SEALED;
		below->sealed_by = h->uuid;
		snprintf(below->child_path, sizeof(below->child_path), "%s", paths[i]);
	}
}

static void write_header(int fd, unsigned int i)
{
	const struct chain_header *h = &layers[i];

	chain_header_encode(h, buf);
	put(fd, paths[i], buf, DM_CHAIN_HEADER_BYTES, DM_CHAIN_SLOT0_OFFSET);
	put(fd, paths[i], buf, DM_CHAIN_HEADER_BYTES, DM_CHAIN_SLOT1_OFFSET);
	put(fd, paths[i], buf, DM_CHAIN_HEADER_BYTES, chain_trailer_offset(h));
}

/*
 * What layer @i has of @a at or behind *@off: sets *@off to where that begins, and
 * returns where it ends. Nothing more: both are the end of @a, or behind it.
 */
static u64 next_run(const struct area *a, unsigned int i, u64 *off)
{
	u64 end = a->from + a->len, run, more;
	unsigned int turns = same ? 2 : nr;

	if (!a->run) {
		if (i != nr - 1 && !same)
			*off = end;
		return end;
	}
	if (same)
		i = 0;
	run = (*off - a->from) / a->run;
	more = (i + turns - run % turns) % turns;
	if (more)
		*off = a->from + (run + more) * a->run;
	return min_u64(end, a->from + (run + more + 1) * a->run);
}

static void write_data(int fd, unsigned int i, const struct area *a)
{
	u64 off, run_end, n;

	memset(buf, 'a' + i % 26, CHUNK);
	for (off = a->from; off < a->from + a->len;) {
		run_end = next_run(a, i, &off);
		for (; off < run_end; off += n) {
			n = min_u64(run_end - off, CHUNK);
			put(fd, paths[i], buf, n, layers[i].data_offset + off);
		}
	}
}

/* What lies in [from, to) of an area; false: nothing. */
static bool area_states(const struct area *a, unsigned int i, u64 from, u64 to,
			u64 *words)
{
	u64 off = max_u64(from, a->from), stop = min_u64(to, a->from + a->len), end;
	bool any = false;

	while (off < stop) {
		end = next_run(a, i, &off);
		for (; off < min_u64(end, stop); off += DEF_BLOCK) {
			chain_state_put(words, (off - from) / DEF_BLOCK, DM_CHAIN_DATA);
			any = true;
		}
	}
	return any;
}

/* A group within one area that is all there is, as the one before it was. */
static bool as_before(u64 group)
{
	const struct area *a = areas;
	u64 bytes = DM_CHAIN_GROUP_BLOCKS * DEF_BLOCK;

	return same && group && nr_areas == 1 && !a->from &&
	       (group + 1) * bytes <= a->len && (!a->run || bytes % (2 * a->run) == 0);
}

/* False: the layer holds nothing of the group. @words has the group before. */
static bool group_states(unsigned int i, u64 group, u64 *words)
{
	u64 bytes = DM_CHAIN_GROUP_BLOCKS * DEF_BLOCK, from = group * bytes;
	bool any = false;
	unsigned int k;

	if (as_before(group))
		return true;
	memset(words, 0, CHAIN_GROUP_WORDS * sizeof(*words));
	for (k = 0; k < nr_areas; k++)
		any |= area_states(&areas[k], i, from, from + bytes, words);
	return any;
}

/* Which groups have areas in them, or lie between such: of 64 TiB few do. */
static void find_groups(u64 *first, u64 *last)
{
	const u64 bytes = DM_CHAIN_GROUP_BLOCKS * DEF_BLOCK;
	unsigned int k;

	*first = ~0ULL;
	*last = 0;
	for (k = 0; k < nr_areas; k++) {
		*first = min_u64(*first, areas[k].from / bytes);
		*last = max_u64(*last, (areas[k].from + areas[k].len - 1) / bytes);
	}
}

/* Returns which groups there are. */
static u64 *write_groups(int fd, unsigned int i)
{
	const struct chain_header *h = &layers[i];
	u64 words[CHAIN_GROUP_WORDS], g, last;
	u64 *presence = xzalloc(chain_presence_sectors(h) * SECTOR);

	for (find_groups(&g, &last); g <= last; g++) {
		if (!group_states(i, g, words))
			continue;
		presence[g / 64] |= 1ULL << (g % 64);
		chain_group_encode(h->map_seed, g, words, 0, buf);
		put(fd, paths[i], buf, DM_CHAIN_GROUP_BYTES,
		    h->map_offset + g * DM_CHAIN_GROUP_BYTES);
	}
	return presence;
}

static void write_map(int fd, unsigned int i)
{
	const struct chain_header *h = &layers[i];
	static u64 *presence;
	u64 s;

	if (!same || !i) {
		free(presence);
		presence = write_groups(fd, i);
	}
	for (s = 0; s < chain_presence_sectors(h); s++) {
		chain_sector_encode(DM_CHAIN_PRESENCE_MAGIC, h->map_seed, s,
				    presence + s * CHAIN_SECTOR_WORDS, buf);
		put(fd, paths[i], buf, SECTOR, h->presence_offset + s * SECTOR);
	}
}

static void write_layer(unsigned int i)
{
	int fd = open(paths[i], O_RDWR | O_DIRECT);
	unsigned int k;

	if (fd < 0)
		die("%s: %s", paths[i], strerror(errno));
	for (k = 0; k < nr_areas && !same; k++)
		write_data(fd, i, &areas[k]);
	write_map(fd, i);
	write_header(fd, i);
	if (close(fd))
		die("%s: %s", paths[i], strerror(errno));
}

int main(int argc, char **argv)
{
	unsigned int i;

	set_prog("mkchain");
	if (argc > 1 && !strcmp(argv[1], "--same")) {
		same = true;
		argv++;
		argc--;
	}
	if (argc < 4)
		usage();
	parse_areas(argv[2]);
	paths = argv + 3;
	nr = argc - 3;
	layers = xzalloc(nr * sizeof(*layers));
	buf = xalloc_aligned(CHUNK);
	check_areas(parse_size(argv[1]));
	make_headers(parse_size(argv[1]));
	for (i = 0; i < nr; i++)
		write_layer(i);
	return EX_OK;
}
