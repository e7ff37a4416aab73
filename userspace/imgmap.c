// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * State maps of closed layers, read as the kernel reads them: a group whose
 * presence bit is off is absent, whatever is there (a round that a crash cut
 * off may have left it, and it has read as absent since); of a group that is
 * present, a sector that isn't valid is damaged; and all that a lost presence
 * sector speaks for is damaged.
 */
#include "offline.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHUNK_GROUPS	256
#define PRESENCE_WORDS(sector)	((sector) * CHAIN_SECTOR_WORDS)

static void presence_read(struct presence *p, struct image *img)
{
	const struct chain_header *h = &img->hdr;
	uint8_t buf[512];
	uint64_t i;

	for (i = 0; i < p->sectors; i++) {
		uint64_t *words = p->words + PRESENCE_WORDS(i);

		if (!image_try_read(img, buf, sizeof(buf),
				    h->presence_offset + i * sizeof(buf)) &&
		    chain_sector_decode(DM_CHAIN_PRESENCE_MAGIC, h->map_seed, i,
					buf, words))
			continue;
		/* What may have been written must not pass for absent. */
		memset(words, 0xff, CHAIN_SECTOR_WORDS * sizeof(*words));
		p->bad[i] = true;
		p->damaged++;
	}
}

int presence_load(struct presence *p, struct image *img)
{
	memset(p, 0, sizeof(*p));
	p->sectors = chain_presence_sectors(&img->hdr);
	p->words = calloc(PRESENCE_WORDS(p->sectors), sizeof(*p->words));
	p->bad = calloc(p->sectors, sizeof(*p->bad));
	if (!p->words || !p->bad) {
		presence_free(p);
		return msg_fail(EXIT_FAILED, "%s: out of memory", img->label);
	}
	presence_read(p, img);
	return 0;
}

void presence_free(struct presence *p)
{
	free(p->words);
	free(p->bad);
	memset(p, 0, sizeof(*p));
}

static uint64_t group_offset(const struct image *img, uint64_t group)
{
	return img->hdr.map_offset + group * DM_CHAIN_GROUP_BYTES;
}

static bool any_present(const struct presence *p, uint64_t first, uint64_t nr)
{
	uint64_t g;

	for (g = first; g < first + nr; g++)
		if (presence_get(p, g))
			return true;
	return false;
}

/* Where the file holds nothing there is nothing to read. */
static bool is_hole(const struct image *img, uint64_t first, uint64_t nr)
{
	uint64_t start = group_offset(img, first);
	off_t data;

	if (img->is_bdev)
		return false;
	data = lseek(img->fd, (off_t)start, SEEK_DATA);
	if (data < 0)
		return errno == ENXIO;
	return (uint64_t)data >= start + nr * DM_CHAIN_GROUP_BYTES;
}

/* A sector that can't be read is as good as one that is damaged. */
static void read_sectors(struct image *img, uint64_t group, uint8_t *buf)
{
	unsigned int i;

	memset(buf, 0, DM_CHAIN_GROUP_BYTES);
	for (i = 0; i < DM_CHAIN_GROUP_SECTORS; i++)
		(void)image_try_read(img, buf + i * 512, 512,
				     group_offset(img, group) + i * 512);
}

static void read_groups(struct image *img, uint64_t first, uint64_t nr,
			uint8_t *buf)
{
	uint64_t i;

	/* A header may tell of far more than its file has, or holds. */
	if (group_offset(img, first) >= img->bytes || is_hole(img, first, nr)) {
		memset(buf, 0, nr * DM_CHAIN_GROUP_BYTES);
		return;
	}
	if (!image_try_read(img, buf, nr * DM_CHAIN_GROUP_BYTES,
			    group_offset(img, first)))
		return;
	for (i = 0; i < nr; i++)
		read_sectors(img, first + i, buf + i * DM_CHAIN_GROUP_BYTES);
}

/* What was never written is absent, not damaged. */
static void decode_group(const struct image *img, const struct presence *p,
			 struct map_group *g, const uint8_t *buf)
{
	unsigned int i;

	g->blank = all_zero(buf, DM_CHAIN_GROUP_BYTES);
	g->invalid = chain_group_decode(img->hdr.map_seed, g->index, buf,
					g->words, &g->changed);
	g->present = presence_get(p, g->index);
	g->lost = p->bad[g->index / DM_CHAIN_PRESENCE_GROUPS];
	g->damaged = g->present ? g->invalid : 0;
	g->changed &= ~(g->invalid & ~g->damaged);
	for (i = 0; i < DM_CHAIN_GROUP_SECTORS; i++)
		if (g->invalid & ~g->damaged & 1U << i)
			memset(g->words + i * CHAIN_SECTOR_WORDS, 0,
			       CHAIN_SECTOR_WORDS * sizeof(*g->words));
}

int map_groups(struct image *img, const struct presence *p, uint64_t nr,
	       int (*cb)(struct map_group *g, void *arg), void *arg)
{
	static uint8_t buf[CHUNK_GROUPS * DM_CHAIN_GROUP_BYTES];
	struct map_group g;
	uint64_t at, i, n;
	int ret;

	for (at = 0; at < nr; at += n) {
		n = nr - at < CHUNK_GROUPS ? nr - at : CHUNK_GROUPS;
		if (!any_present(p, at, n) && is_hole(img, at, n))
			continue;
		read_groups(img, at, n, buf);
		for (i = 0; i < n; i++) {
			g.index = at + i;
			decode_group(img, p, &g,
				     buf + i * DM_CHAIN_GROUP_BYTES);
			ret = cb(&g, arg);
			if (ret)
				return ret;
		}
	}
	return 0;
}

void map_group_read(struct image *img, const struct presence *p, uint64_t index,
		    struct map_group *g)
{
	uint8_t buf[DM_CHAIN_GROUP_BYTES];

	read_groups(img, index, 1, buf);
	g->index = index;
	decode_group(img, p, g, buf);
}

int map_group_write(struct image *img, const struct map_group *g)
{
	uint8_t buf[DM_CHAIN_GROUP_BYTES], old[DM_CHAIN_GROUP_BYTES];
	unsigned int i;

	chain_group_encode(img->hdr.map_seed, g->index, g->words, g->changed,
			   buf);
	if (g->damaged)
		read_sectors(img, g->index, old);
	for (i = 0; i < DM_CHAIN_GROUP_SECTORS; i++)
		if (g->damaged & 1U << i)
			memcpy(buf + i * 512, old + i * 512, 512);
	return image_write(img, buf, sizeof(buf), group_offset(img, g->index));
}

int presence_write(struct image *img, const struct presence *p, uint64_t sector)
{
	uint8_t buf[512];

	chain_sector_encode(DM_CHAIN_PRESENCE_MAGIC, img->hdr.map_seed, sector,
			    p->words + PRESENCE_WORDS(sector), buf);
	return image_write(img, buf, sizeof(buf),
			   img->hdr.presence_offset + sector * sizeof(buf));
}

/* @tail_data: the last block is held as data */
struct clear_beyond {
	struct image *img;
	bool tail_data;
};

static int clear_group(struct map_group *g, void *arg)
{
	struct clear_beyond *c = arg;
	uint64_t first = g->index * DM_CHAIN_GROUP_BLOCKS;
	uint64_t blocks = chain_blocks(&c->img->hdr);
	bool changed = false;
	uint64_t i;

	i = blocks > first ? blocks - first : 0;
	if (i && i <= DM_CHAIN_GROUP_BLOCKS)
		c->tail_data = chain_state_get(g->words, i - 1) == DM_CHAIN_DATA;
	for (; i < DM_CHAIN_GROUP_BLOCKS; i++) {
		if (chain_state_get(g->words, i) != DM_CHAIN_DATA)
			continue;
		chain_state_put(g->words, i, DM_CHAIN_ZERO);
		changed = true;
	}
	return changed ? map_group_write(c->img, g) : 0;
}

int map_clear_beyond(struct image *img)
{
	const struct chain_header *h = &img->hdr;
	uint64_t end = chain_blocks(h) << h->block_shift;
	struct clear_beyond c = { .img = img };
	struct presence p;
	int ret = presence_load(&p, img);

	if (ret)
		return ret;
	ret = map_groups(img, &p, chain_max_groups(h), clear_group, &c);
	presence_free(&p);
	if (ret || !c.tail_data)
		return ret;
	return image_zero(img, end - h->size, h->data_offset + h->size);
}

/*
 * A hostile header, or a full disk, has millions of groups of one state: they share
 * these words.
 */
static uint64_t uniform[4][CHAIN_GROUP_WORDS];

static bool is_shared(const uint64_t *words)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(uniform); i++)
		if (words == uniform[i])
			return true;
	return false;
}

/* The shared words that say the same, or NULL. */
static const uint64_t *find_shared(const uint64_t *words)
{
	unsigned int state = words[0] & 3, i;

	if (uniform[state][0] != words[0])
		for (i = 0; i < CHAIN_GROUP_WORDS; i++)
			uniform[state][i] = state * 0x5555555555555555ULL;
	return memcmp(words, uniform[state], sizeof(uniform[state])) ?
	       NULL : uniform[state];
}

/* As they are; of what has one state, one for all. */
static bool put_words(struct imgmap *m, uint64_t group, const uint64_t *words)
{
	size_t bytes = CHAIN_GROUP_WORDS * sizeof(*words);
	uint64_t *copy;

	m->words[group] = find_shared(words);
	if (m->words[group])
		return true;
	copy = malloc(bytes);
	if (copy)
		memcpy(copy, words, bytes);
	m->words[group] = copy;
	return copy;
}

static int keep_group(struct map_group *g, void *arg)
{
	struct imgmap *m = arg;

	m->damaged += (unsigned int)__builtin_popcount(g->damaged);
	if (g->lost)
		memset(g->words, 0xff, sizeof(g->words));
	if (!g->present || all_zero((uint8_t *)g->words, sizeof(g->words)) ||
	    put_words(m, g->index, g->words))
		return 0;
	return msg_fail(EXIT_FAILED, "out of memory for a map");
}

int imgmap_load(struct imgmap *m, struct image *img)
{
	struct presence p;
	int ret = presence_load(&p, img);

	memset(m, 0, sizeof(*m));
	if (ret)
		return ret;
	m->damaged_presence = p.damaged;
	m->groups = chain_blocks_to_groups(chain_blocks(&img->hdr));
	m->words = calloc(m->groups, sizeof(*m->words));
	if (m->words)
		ret = map_groups(img, &p, m->groups, keep_group, m);
	else
		ret = msg_fail(EXIT_FAILED, "%s: out of memory", img->label);
	presence_free(&p);
	if (ret)
		imgmap_free(m);
	return ret;
}

void imgmap_free(struct imgmap *m)
{
	uint64_t i;

	for (i = 0; m->words && i < m->groups; i++)
		if (!is_shared(m->words[i]))
			free((void *)m->words[i]);
	free(m->words);
	memset(m, 0, sizeof(*m));
}

bool imgmap_put(struct imgmap *m, uint64_t block, unsigned int state)
{
	uint64_t group = block / DM_CHAIN_GROUP_BLOCKS, words[CHAIN_GROUP_WORDS] = { 0 };
	const uint64_t *old = m->words[group];

	if (old && !is_shared(old)) {
		chain_state_put((uint64_t *)old, block % DM_CHAIN_GROUP_BLOCKS, state);
		return true;
	}
	if (old)
		memcpy(words, old, sizeof(words));
	chain_state_put(words, block % DM_CHAIN_GROUP_BLOCKS, state);
	return put_words(m, group, words);
}

static const uint64_t *block_words(const struct imgmap *m, uint64_t block)
{
	uint64_t group = block / DM_CHAIN_GROUP_BLOCKS;

	return group < m->groups ? m->words[group] : NULL;
}

unsigned int imgmap_state(const struct imgmap *m, uint64_t block)
{
	const uint64_t *words = block_words(m, block);

	return words ? chain_state_get(words, block % DM_CHAIN_GROUP_BLOCKS) :
		       DM_CHAIN_ABSENT;
}

/* How many blocks from @block on surely have @state: a group, a word, or none. */
static uint64_t same_blocks(const struct imgmap *m, uint64_t block,
			    unsigned int state)
{
	const uint64_t *words = block_words(m, block);
	uint64_t in_group = block % DM_CHAIN_GROUP_BLOCKS;

	if (!words)
		return state == DM_CHAIN_ABSENT ?
		       DM_CHAIN_GROUP_BLOCKS - in_group : 0;
	if (is_shared(words))
		return state == (words[0] & 3) ?
		       DM_CHAIN_GROUP_BLOCKS - in_group : 0;
	if (block % CHAIN_STATES_PER_WORD == 0 &&
	    words[in_group / CHAIN_STATES_PER_WORD] ==
	    state * 0x5555555555555555ULL)
		return CHAIN_STATES_PER_WORD;
	return chain_state_get(words, in_group) == state;
}

uint64_t imgmap_run(const struct imgmap *m, uint64_t block, uint64_t end)
{
	unsigned int state = imgmap_state(m, block);
	uint64_t n;

	while (block < end && (n = same_blocks(m, block, state)))
		block += n;
	return block < end ? block : end;
}

uint64_t imgmap_count(const struct imgmap *m, const struct chain_header *h,
		      unsigned int state)
{
	uint64_t block, next, end = chain_blocks(h), blocks = 0;

	for (block = 0; block < end; block = next) {
		next = imgmap_run(m, block, end);
		if (imgmap_state(m, block) == state)
			blocks += next - block;
	}
	return blocks << h->block_shift;
}
