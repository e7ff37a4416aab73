// SPDX-License-Identifier: GPL-2.0-or-later
// sources: tests/unit/images.c tests/unit/stub-online.c kmod/dm-chain-format.c userspace/lib-crc.c userspace/msg.c userspace/size.c userspace/args.c userspace/fdarg.c userspace/path.c userspace/host.c userspace/image.c userspace/image-io.c userspace/marks.c userspace/make.c userspace/raw.c userspace/walk.c userspace/pending.c userspace/imgmap.c userspace/layer-copy.c userspace/walkmap.c userspace/view.c userspace/seal.c userspace/rebase-copy.c userspace/show.c userspace/cmd-create.c userspace/cmd-info.c userspace/cmd-map.c userspace/cmd-check.c userspace/cmd-compare.c userspace/cmd-new-id.c userspace/cmd-unseal.c userspace/cmd-rebase.c userspace/cmd-resize.c userspace/picture.c userspace/picture-svg.c userspace/picture-text.c userspace/show-tree.c
// libs: -ljson-c
/*
 * What closed images hold: maps against a model, damage of each kind found and
 * mended, and the commands that change a closed layer.
 */
#include "images.h"
#include "layer-move.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BACKING(path, format) "--backing", path, "--backing-format", format
#define BLOCK	4096ULL

static void create(const char *path, const char *size)
{
	assert_int_equal(run("create", path, "--size", size, NULL), 0);
}

static void create_on(const char *path, const char *parent)
{
	assert_int_equal(run("create", path, BACKING(parent, "chain"), NULL), 0);
}

static int open_ro(const char *path)
{
	struct walk w;
	int ret = walk_open(&w, path, DM_CHAIN_FORMAT_CHAIN, WALK_READ_ONLY);

	walk_close(&w);
	return -ret;
}

/* map */

static void map_is_as_qemu_prints_it(void **state)
{
	static const struct {
		uint64_t start, length;
		unsigned int depth;
		bool present, zero, data;
	} want[] = {
		{ 0, BLOCK, 1, true, false, true },
		{ BLOCK, 2 * BLOCK, 0, true, true, false },
		{ 3 * BLOCK, BLOCK, 0, true, false, true },
		{ 4 * BLOCK, 8 * MIB - 4 * BLOCK, 1, false, true, false },
	};
	json_object *map;
	size_t i;

	(void)state;
	create("base", "8M");
	put_blocks("base", 0, 2, DM_CHAIN_DATA, 1);
	create_on("top", "base");
	put_blocks("top", 1, 2, DM_CHAIN_ZERO, 0);
	put_blocks("top", 3, 1, DM_CHAIN_DATA, 2);
	map = run_json("map", "./top", NULL);
	assert_int_equal(json_object_array_length(map), ARRAY_SIZE(want));
	for (i = 0; i < ARRAY_SIZE(want); i++) {
		json_object *e = json_object_array_get_idx(map, i);

		assert_int_equal(json_object_object_length(e), 6);
		assert_int_equal(json_number(e, "start"), want[i].start);
		assert_int_equal(json_number(e, "length"), want[i].length);
		assert_int_equal(json_number(e, "depth"), want[i].depth);
		assert_int_equal(json_object_get_boolean(json_at(e, "present")),
				 want[i].present);
		assert_int_equal(json_object_get_boolean(json_at(e, "zero")),
				 want[i].zero);
		assert_int_equal(json_object_get_boolean(json_at(e, "data")),
				 want[i].data);
	}
	json_object_put(map);
	assert_int_equal(run("map", "./top", NULL), 0);
	assert_non_null(strstr(output(), "absent"));
	make_raw("raw", 1536);
	map = run_json("map", "raw", "--format", "raw", NULL);
	assert_int_equal(json_object_array_length(map), 1);
	json_object_put(map);
}

/* A chain of random layers, and what each sector of its disk must come from. */
#define MODEL_LAYERS	4
#define MODEL_SECTORS	(48 * MIB / 512)

struct model {
	uint8_t depth[MODEL_SECTORS];
	uint8_t state[MODEL_SECTORS];
	uint64_t at;
};

struct layer_model {
	uint64_t size;
	uint64_t limit;
	uint32_t shift;
	bool raw;
	uint8_t states[48 * MIB / BLOCK];
};

static void random_states(const char *path, struct layer_model *l)
{
	uint64_t blocks = ((l->size - 1) >> l->shift) + 1;
	int i;

	for (i = 0; i < 40; i++) {
		uint64_t first = rng() % blocks;
		uint64_t n = 1 + rng() % (i % 4 ? 5 : 300);
		unsigned int s = rng() % 3;

		/* The states are what counts here: little data will do. */
		if (s == DM_CHAIN_DATA && n > 3)
			n = 3;
		if (n > blocks - first)
			n = blocks - first;
		put_blocks(path, first, n, s, 7);
		memset(l->states + first, (int)s, n);
	}
}

/* As a shrink or a re-link leaves it. */
static void lower_limit(const char *path, struct layer_model *l)
{
	static struct chain_header h;

	load(path, &h);
	assert_int_equal(h.limit, l->limit);
	l->limit -= 1 + rng() % 8 * MIB;
	l->limit -= l->limit % 512;
	h.limit = l->limit;
	store(path, &h);
}

static void make_layer(struct layer_model *l, int i, const char *path,
		       const char *parent, uint64_t parent_size)
{
	static const char * const block_sizes[] = { "4K", "64K", "4K", "1M" };
	char size[32];

	memset(l, 0, sizeof(*l));
	l->size = (20 + rng() % 28) * MIB + rng() % 8 * 512;
	l->shift = i == 1 ? 16 : i == 3 ? 20 : 12;
	snprintf(size, sizeof(size), "%llu", (unsigned long long)l->size);
	assert_int_equal(run("create", path, "--size", size, "--block-size",
			     block_sizes[i], parent ? "--backing" : NULL, parent,
			     "--backing-format", i == 1 ? "raw" : "chain", NULL),
			 0);
	l->limit = parent_size < l->size ? parent_size : l->size;
	if (i > 1)
		lower_limit(path, l);
	random_states(path, l);
}

static void model_sector(const struct layer_model *l, struct model *m,
			 uint64_t sector)
{
	uint64_t pos = sector * 512;
	int i;

	m->depth[sector] = MODEL_LAYERS;
	m->state[sector] = DM_CHAIN_ABSENT;
	for (i = 0; i < MODEL_LAYERS && pos < l[i].size; i++) {
		uint8_t s = l[i].raw ? DM_CHAIN_DATA :
				       l[i].states[pos >> l[i].shift];

		if (s != DM_CHAIN_ABSENT) {
			m->depth[sector] = (uint8_t)i;
			m->state[sector] = s;
			return;
		}
		if (pos >= l[i].limit)
			return;
	}
}

static int compare_extent(const struct dm_chain_extent *e, void *arg)
{
	struct model *m = arg;
	uint64_t sector = e->start / 512, end = sector + e->length / 512;

	assert_int_equal(e->start, m->at);
	assert_int_equal(e->length % 512, 0);
	assert_true(e->length > 0);
	for (; sector < end; sector++) {
		assert_int_equal(e->depth, m->depth[sector]);
		assert_int_equal(e->state, m->state[sector]);
	}
	m->at += e->length;
	/* Equal neighbours are one extent. */
	if (end < MODEL_SECTORS && m->depth[end] != 0xff)
		assert_false(m->depth[end] == m->depth[end - 1] &&
			     m->state[end] == m->state[end - 1]);
	return 0;
}

static void maps_against_a_model(void **state)
{
	static struct layer_model layers[MODEL_LAYERS];
	static struct model m;
	struct walk w;
	uint64_t i;

	(void)state;
	memset(&m, 0xff, sizeof(m));
	m.at = 0;
	layers[3].raw = true;
	layers[3].size = 30 * MIB + 1024;
	make_raw("raw", layers[3].size);
	make_layer(&layers[2], 1, "l2", "raw", layers[3].size);
	make_layer(&layers[1], 2, "l1", "l2", layers[2].size);
	make_layer(&layers[0], 3, "l0", "l1", layers[1].size);
	for (i = 0; i < layers[0].size / 512; i++)
		model_sector(layers, &m, i);
	assert_int_equal(walk_open(&w, "l0", DM_CHAIN_FORMAT_CHAIN,
				   WALK_READ_ONLY), 0);
	assert_int_equal(walk_map(&w, compare_extent, &m), 0);
	walk_close(&w);
	assert_int_equal(m.at, layers[0].size);
}

/* info */

static void info_counts_blocks(void **state)
{
	static struct chain_header top, base;
	json_object *o, *layers, *l;
	char id[37];

	(void)state;
	create("base", "40M");
	create_on("top", "base");
	put_blocks("top", 8190, 4, DM_CHAIN_DATA, 1);
	put_blocks("top", 0, 3, DM_CHAIN_ZERO, 0);
	load("top", &top);
	load("base", &base);
	o = run_json("info", "./top", NULL);
	assert_int_equal(json_object_object_length(o), 7);
	assert_null(json_at(o, "name"));
	assert_null(json_at(o, "device"));
	assert_int_equal(json_number(o, "virtual-size"), 40 * MIB);
	assert_int_equal(json_number(o, "block-size"), BLOCK);
	assert_string_equal(json_object_get_string(json_at(o, "state")),
			    "closed");
	assert_int_equal(json_object_array_length(json_at(o, "jobs")), 0);
	layers = json_at(o, "layers");
	assert_int_equal(json_object_array_length(layers), 2);
	l = json_object_array_get_idx(layers, 0);
	assert_int_equal(json_number(l, "index"), 0);
	assert_non_null(strstr(json_object_get_string(json_at(l, "path")),
			       "/top"));
	assert_null(json_at(l, "device"));
	assert_string_equal(json_object_get_string(json_at(l, "format")),
			    "chain");
	assert_string_equal(json_object_get_string(json_at(l, "uuid")),
			    id_text(&top.uuid, id));
	assert_string_equal(json_object_get_string(json_at(l, "parent-uuid")),
			    id_text(&base.uuid, id));
	assert_string_equal(json_object_get_string(json_at(l, "access")), "none");
	assert_int_equal(json_number(l, "data-bytes"), 4 * BLOCK);
	assert_int_equal(json_number(l, "zero-bytes"), 3 * BLOCK);
	assert_int_equal(json_object_array_length(json_at(l, "marks")), 0);
	assert_int_equal(json_object_array_length(json_at(l, "users")), 0);
	l = json_object_array_get_idx(layers, 1);
	assert_null(json_at(l, "parent-uuid"));
	assert_string_equal(json_object_get_string(json_object_array_get_idx(
				json_at(l, "marks"), 0)), "sealed");
	json_object_put(o);
}

static void info_names_users(void **state)
{
	json_object *o, *users;

	(void)state;
	create("base", "8M");
	stub_holder = "base";
	o = run_json("info", "./base", NULL);
	users = json_at(json_object_array_get_idx(json_at(o, "layers"), 0),
			"users");
	assert_string_equal(json_object_get_string(
				json_object_array_get_idx(users, 0)), "vm1");
	json_object_put(o);
	assert_int_equal(run("info", "no-such-disk", NULL), EXIT_FAILED);
	assert_int_equal(run("map", "no-such-disk", NULL), EXIT_FAILED);
}

/* check */

/* Finds @kind (exit code 1), is mended by @lossy (or can't be), is clean. */
static void damage_is_found(const char *path, const char *kind, bool mendable,
			    bool lossy)
{
	char line[32];

	snprintf(line, sizeof(line), "%s: ", kind);
	assert_int_equal(run("check", path, NULL), EXIT_FAILED);
	assert_non_null(strstr(output(), line));
	assert_int_equal(run("check", path, "--repair", NULL),
			 mendable && !lossy ? 0 : EXIT_FAILED);
	assert_non_null(strstr(output(), line));
	if (lossy)
		assert_int_equal(run("check", path, "--repair", "--lossy", NULL),
				 0);
	if (mendable)
		assert_int_equal(run("check", path, NULL), 0);
}

/* What a cut may leave, and nobody reads: told, no error, and tidied up. */
static void left_over_is_tidied(const char *path, const char *kind)
{
	char line[32];

	snprintf(line, sizeof(line), "%s: ", kind);
	assert_int_equal(run("check", path, NULL), 0);
	assert_non_null(strstr(output(), line));
	assert_non_null(strstr(output(), "--repair tidies it up"));
	assert_non_null(strstr(output(), "no damage\n"));
	assert_int_equal(run("check", path, "--repair", NULL), 0);
	assert_non_null(strstr(output(), "(tidied up)"));
	assert_int_equal(run("check", path, NULL), 0);
	assert_null(strstr(output(), line));
}

static void check_header_slots(void **state)
{
	uint8_t older[DM_CHAIN_HEADER_BYTES];
	static struct chain_header h;

	(void)state;
	create("a", "8M");
	assert_int_equal(run("check", "a", NULL), 0);
	spoil("a", 900);
	damage_is_found("a", "header", true, false);
	spoil("a", DM_CHAIN_SLOT1_OFFSET + 900);
	damage_is_found("a", "header", true, false);
	/* An update that was cut off is no damage, but is mended. */
	peek("a", DM_CHAIN_SLOT1_OFFSET, older, sizeof(older));
	load("a", &h);
	store("a", &h);
	poke("a", DM_CHAIN_SLOT1_OFFSET, older, sizeof(older));
	left_over_is_tidied("a", "header");
}

static void check_trailer(void **state)
{
	static struct chain_header h;

	(void)state;
	create("a", "8M");
	load("a", &h);
	spoil("a", chain_trailer_offset(&h));
	assert_int_equal(open_ro("a"), 0);
	left_over_is_tidied("a", "trailer");
}

static void check_lost_map_sector(void **state)
{
	static struct chain_header before, after;
	json_object *o, *list;

	(void)state;
	create("base", "40M");
	create_on("top", "base");
	put_blocks("top", 1000, 100, DM_CHAIN_ZERO, 0);
	put_blocks("top", 1030, 1, DM_CHAIN_DATA, 1);
	spoil("top", map_sector_offset("top", 1024) + 40);
	assert_int_equal(get_block("top", 1030), DM_CHAIN_DAMAGED);
	assert_int_equal(get_block("top", 1000), DM_CHAIN_ZERO);
	assert_int_equal(run("check", "top", NULL), EXIT_FAILED);
	assert_non_null(strstr(output(), "bytes 4194304 to 8388607"));
	o = run_json("map", "./top", NULL);
	list = json_object_array_get_idx(o, 2);
	assert_int_equal(json_number(list, "start"), 4 * MIB);
	assert_int_equal(json_number(list, "length"), 4 * MIB);
	assert_true(json_object_get_boolean(json_at(list, "damaged")));
	json_object_put(o);
	load("top", &before);
	damage_is_found("top", "map", true, true);
	load("top", &after);
	assert_false(chain_id_equal(&before.cid, &after.cid));
	assert_int_equal(get_block("top", 1030), DM_CHAIN_ABSENT);
	assert_int_equal(get_block("top", 1000), DM_CHAIN_ZERO);
}

static void check_zeroed_map_group(void **state)
{
	static const uint8_t zeroes[DM_CHAIN_GROUP_BYTES];
	static struct chain_header h;

	(void)state;
	create("a", "200M");
	put_blocks("a", 8192 * 2 + 5, 1, DM_CHAIN_DATA, 1);
	load("a", &h);
	/* Lost, which is not the same as never written. */
	poke("a", h.map_offset + 2 * DM_CHAIN_GROUP_BYTES, zeroes,
	     sizeof(zeroes));
	assert_int_equal(get_block("a", 8192 * 2 + 5), DM_CHAIN_DAMAGED);
	assert_int_equal(get_block("a", 8192 * 3), DM_CHAIN_ABSENT);
	damage_is_found("a", "map", true, true);
	assert_int_equal(get_block("a", 8192 * 2 + 5), DM_CHAIN_ABSENT);
}

static void check_presence_sector(void **state)
{
	static struct chain_header before, after;
	struct presence p;
	struct image img;

	(void)state;
	create("a", "200M");
	put_blocks("a", 8192 * 2 + 5, 1, DM_CHAIN_DATA, 1);
	load("a", &before);
	spoil("a", before.presence_offset + 300);
	assert_int_equal(get_block("a", 8192 * 2 + 5), DM_CHAIN_DATA);
	assert_int_equal(get_block("a", 0), DM_CHAIN_DAMAGED);
	damage_is_found("a", "presence", true, false);
	assert_int_equal(get_block("a", 8192 * 2 + 5), DM_CHAIN_DATA);
	assert_int_equal(get_block("a", 0), DM_CHAIN_ABSENT);
	load("a", &after);
	assert_true(chain_id_equal(&before.cid, &after.cid));
	assert_int_equal(image_open(&img, "a", DM_CHAIN_FORMAT_CHAIN, 0), 0);
	assert_int_equal(presence_load(&p, &img), 0);
	assert_int_equal(p.words[0], 4);
	presence_free(&p);
	image_close(&img);
}

static void check_presence_and_a_map_sector(void **state)
{
	static struct chain_header h;

	(void)state;
	create("a", "200M");
	put_blocks("a", 8192 + 5, 1, DM_CHAIN_DATA, 1);
	put_blocks("a", 8192 + 2000, 1, DM_CHAIN_DATA, 1);
	load("a", &h);
	spoil("a", h.presence_offset);
	spoil("a", map_sector_offset("a", 8192 + 5));
	/* Its neighbours tell that the group was written. */
	damage_is_found("a", "map", true, true);
	assert_int_equal(get_block("a", 8192 + 5), DM_CHAIN_ABSENT);
	assert_int_equal(get_block("a", 8192 + 2000), DM_CHAIN_DATA);
}

static void check_impossible_states(void **state)
{
	(void)state;
	create("a", "8M");
	put_blocks("a", 7, 2, DM_CHAIN_DAMAGED, 0);
	put_blocks("a", 20, 1, DM_CHAIN_DATA, 1);
	damage_is_found("a", "state", true, true);
	assert_int_equal(get_block("a", 7), DM_CHAIN_ABSENT);
	assert_int_equal(get_block("a", 20), DM_CHAIN_DATA);
}

static void check_behind_the_end(void **state)
{
	static struct chain_header before, after;

	(void)state;
	create("a", "8M");
	put_blocks("a", 2040, 4, DM_CHAIN_DATA, 1);
	put_blocks("a", 2048, 4, DM_CHAIN_DATA, 1);
	put_blocks("a", 9000, 1, DM_CHAIN_DATA, 1);
	load("a", &before);
	left_over_is_tidied("a", "beyond-end");
	load("a", &after);
	assert_true(chain_id_equal(&before.cid, &after.cid));
	assert_int_equal(get_block("a", 2043), DM_CHAIN_DATA);
	assert_int_equal(get_block("a", 2048), DM_CHAIN_ZERO);
	assert_int_equal(get_block("a", 9000), DM_CHAIN_ZERO);
}

/* Lost behind the end, and half behind: only what is inside is a loss. */
static void check_lost_sectors_at_the_end(void **state)
{
	(void)state;
	create("a", "9M");
	put_blocks("a", 2048 + 2, 1, DM_CHAIN_DATA, 1);
	spoil("a", map_sector_offset("a", 3072));
	damage_is_found("a", "map", true, false);
	spoil("a", map_sector_offset("a", 2050));
	damage_is_found("a", "map", true, true);
	assert_non_null(strstr(output(), "no damage"));
}

static void check_truncated_files(void **state)
{
	static struct chain_header h;
	struct stat st;

	(void)state;
	create("a", "8M");
	put_blocks("a", 10, 1, DM_CHAIN_DATA, 1);
	load("a", &h);
	assert_int_equal(truncate("a", (off_t)chain_layer_bytes(&h) - 2 * MIB),
			 0);
	assert_int_equal(open_ro("a"), EXIT_IMAGE);
	damage_is_found("a", "length", true, false);
	assert_int_equal(stat("a", &st), 0);
	assert_int_equal(st.st_size, chain_layer_bytes(&h));
	assert_int_equal(get_block("a", 10), DM_CHAIN_DATA);
	assert_int_equal(truncate("a", (off_t)(h.data_offset + 2 * BLOCK)), 0);
	damage_is_found("a", "length", true, true);
	assert_int_equal(get_block("a", 10), DM_CHAIN_ABSENT);
	assert_int_equal(open_ro("a"), 0);
}

/* All that told of data is gone: that is never mended without loss. */
static void check_cut_off_maps(void **state)
{
	static struct chain_header before, after;

	(void)state;
	create("a", "8M");
	put_blocks("a", 10, 1, DM_CHAIN_DATA, 1);
	load("a", &before);
	assert_int_equal(truncate("a", MIB), 0);
	damage_is_found("a", "presence", true, true);
	load("a", &after);
	assert_false(chain_id_equal(&before.cid, &after.cid));
	assert_int_equal(open_ro("a"), 0);
	assert_int_equal(get_block("a", 10), DM_CHAIN_ABSENT);
}

static void check_parents(void **state)
{
	(void)state;
	create("base", "8M");
	create_on("top", "base");
	assert_int_equal(run("unseal", "base", NULL), 0);
	damage_is_found("top", "parent", false, false);
	assert_non_null(strstr(output(), "was modified"));
	assert_int_equal(run("check", "base", NULL), 0);
}

static void check_refuses(void **state)
{
	static struct chain_header h;

	(void)state;
	create("a", "8M");
	make_raw("raw", 8 * MIB);
	assert_int_equal(run("check", "raw", NULL), EXIT_IMAGE);
	assert_int_equal(run("check", "raw", "--format", "raw", NULL), 0);
	assert_int_equal(run("check", "a", "--lossy", NULL), EXIT_USAGE);
	stub_holder = "/a";
	assert_int_equal(run("check", "a", NULL), 0);
	assert_int_equal(run("check", "a", "--repair", NULL), EXIT_REFUSED);
	stub_holder_writes = true;
	assert_int_equal(run("check", "a", NULL), EXIT_REFUSED);
	assert_said("vm1", NULL);
	stub_holder = NULL;
	load("a", &h);
	h.marks = DM_CHAIN_MARK_IN_USE;
	host_id(&h.use_host);
	store("a", &h);
	assert_int_equal(run("check", "a", "--repair", NULL), 0);
	h.use_host.b[0] ^= 1;
	store("a", &h);
	assert_int_equal(run("check", "a", NULL), 0);
	assert_int_equal(run("check", "a", "--repair", NULL), EXIT_REFUSED);
	assert_int_equal(run("check", "a", "--repair", "--force", NULL), 0);
}

static void check_tells_json(void **state)
{
	json_object *o, *found;

	(void)state;
	create("a", "8M");
	spoil("a", 2000);
	opt_json = true;
	assert_int_equal(run("check", "a", NULL), EXIT_FAILED);
	opt_json = false;
	o = json_tokener_parse(output());
	assert_non_null(o);
	assert_int_equal(json_number(o, "damaged"), 1);
	assert_int_equal(json_number(o, "mended"), 0);
	found = json_object_array_get_idx(json_at(o, "found"), 0);
	assert_string_equal(json_object_get_string(json_at(found, "kind")),
			    "header");
	json_object_put(o);
	o = run_json("check", "a", "--repair", NULL);
	assert_int_equal(json_number(o, "mended"), 1);
	json_object_put(o);
}

static void check_names_jobs(void **state)
{
	static const char * const names[] = {
		[DM_CHAIN_RECORD_STREAM] = "has an unfinished stream (job ",
		[DM_CHAIN_RECORD_COMMIT] = "has an unfinished commit (job ",
		[DM_CHAIN_RECORD_MIRROR] = "has an unfinished mirror (job ",
	};
	static struct chain_header h;
	unsigned int i;

	(void)state;
	create("base", "8M");
	create_on("a", "base");
	for (i = DM_CHAIN_RECORD_STREAM; i <= DM_CHAIN_RECORD_MIRROR; i++) {
		load("a", &h);
		h.marks |= DM_CHAIN_MARK_JOB;
		id_random(&h.job);
		h.record.type = i;
		h.record.base_format = DM_CHAIN_FORMAT_CHAIN;
		store("a", &h);
		assert_int_equal(run("check", "a", NULL), 0);
		assert_non_null(strstr(output(), names[i]));
	}
}

/* Damage anywhere in the metadata: never a crash, and mended it is clean. */
static void check_random_damage(void **state)
{
	static struct chain_header h;
	int round, i, ret;

	(void)state;
	for (round = 0; round < 25; round++) {
		create("a", "100M");
		put_blocks("a", 100, 50, DM_CHAIN_ZERO, 0);
		put_blocks("a", 9000, 3, DM_CHAIN_DATA, 3);
		load("a", &h);
		for (i = 0; i < 1 + round % 6; i++)
			spoil("a", h.presence_offset +
			      rng() % (h.map_offset + 6 * 4096 -
				       h.presence_offset - 16));
		spoil("a", round % 2 * DM_CHAIN_SLOT1_OFFSET + rng() % 4000);
		ret = run("check", "a", NULL);
		assert_int_equal(ret, EXIT_FAILED);
		assert_int_equal(run("check", "a", "--repair", "--lossy", NULL),
				 0);
		assert_int_equal(run("check", "a", NULL), 0);
		assert_int_equal(run("map", "./a", NULL), 0);
		assert_int_equal(unlink("a"), 0);
	}
}

/* compare */

static void compare_layers(void **state)
{
	uint8_t byte = 9;
	static struct chain_header h;
	json_object *o;

	(void)state;
	create("a", "8M");
	put_blocks("a", 3, 2, DM_CHAIN_DATA, 5);
	assert_int_equal(system("cp a b"), 0);
	assert_int_equal(run("compare", "./a", "./b", NULL), 0);
	/* A block of zeroes is the same whichever way it is held. */
	put_blocks("b", 100, 1, DM_CHAIN_ZERO, 0);
	put_blocks("b", 101, 1, DM_CHAIN_DATA, 0);
	assert_int_equal(run("compare", "./a", "./b", NULL), 0);
	load("b", &h);
	poke("b", h.data_offset + 4 * BLOCK + 77, &byte, 1);
	assert_int_equal(run("compare", "./a", "./b", NULL), EXIT_FAILED);
	assert_non_null(strstr(output(), "first at byte 16461\n"));
	opt_json = true;
	assert_int_equal(run("compare", "./a", "./b", NULL), EXIT_FAILED);
	opt_json = false;
	o = json_tokener_parse(output());
	assert_int_equal(json_number(o, "first-difference"), 4 * BLOCK + 77);
	json_object_put(o);
}

static void compare_chain_and_raw(void **state)
{
	static struct chain_header h;
	uint8_t block[BLOCK];

	(void)state;
	make_raw("raw", 8 * MIB);
	make_raw("model", 8 * MIB);
	memset(block, 1, sizeof(block));
	poke("raw", 5 * BLOCK, block, sizeof(block));
	poke("raw", 6 * BLOCK, block, sizeof(block));
	assert_int_equal(run("create", "mid", BACKING("raw", "raw"), NULL), 0);
	put_blocks("mid", 6, 1, DM_CHAIN_ZERO, 0);
	create_on("top", "mid");
	put_blocks("top", 7, 1, DM_CHAIN_DATA, 2);
	poke("model", 5 * BLOCK, block, sizeof(block));
	memset(block, 2, sizeof(block));
	poke("model", 7 * BLOCK, block, sizeof(block));
	assert_int_equal(run("compare", "./top", "model", "--format-b", "raw",
			     NULL), 0);
	assert_int_equal(run("compare", "model", "./top", "--format-a", "raw",
			     NULL), 0);
	load("top", &h);
	spoil("top", h.data_offset + 7 * BLOCK);
	assert_int_equal(run("compare", "./top", "model", "--format-b", "raw",
			     NULL), EXIT_FAILED);
	assert_non_null(strstr(output(), "28672"));
	assert_int_equal(run("compare", "./top", "model", NULL), EXIT_IMAGE);
	assert_int_equal(run("compare", "./top", "nowhere", NULL), EXIT_FAILED);
	assert_int_equal(run("compare", "./top", NULL), EXIT_USAGE);
}

static void compare_sizes(void **state)
{
	uint8_t byte = 1;

	(void)state;
	make_raw("a", MIB);
	make_raw("b", 2 * MIB + 512);
	assert_int_equal(run("compare", "./a", "./b", "--format-a", "raw",
			     "--format-b", "raw", NULL), 0);
	assert_non_null(strstr(output(), "1048576 bytes"));
	poke("b", 2 * MIB + 511, &byte, 1);
	assert_int_equal(run("compare", "./a", "./b", "--format-a", "raw",
			     "--format-b", "raw", NULL), EXIT_FAILED);
	assert_non_null(strstr(output(), "2097663"));
}

static void compare_damaged(void **state)
{
	(void)state;
	create("a", "8M");
	create("b", "8M");
	put_blocks("a", 3, 2, DM_CHAIN_DATA, 5);
	spoil("a", map_sector_offset("a", 3));
	assert_int_equal(run("compare", "./a", "./b", NULL), EXIT_IMAGE);
	assert_said("map is damaged", NULL);
}

/* new-id, unseal */

static void new_id_makes_a_layer_of_a_copy(void **state)
{
	static struct chain_header old, new;

	(void)state;
	create("base", "8M");
	put_blocks("base", 3, 1, DM_CHAIN_DATA, 5);
	create_on("top", "base");
	create_on("other", "base");
	assert_int_equal(system("cp base copy"), 0);
	load("base", &old);
	assert_int_equal(run("new-id", "copy", NULL), 0);
	load("copy", &new);
	assert_false(chain_id_equal(&old.uuid, &new.uuid));
	assert_false(chain_id_equal(&old.cid, &new.cid));
	assert_int_equal(old.map_seed, new.map_seed);
	assert_int_equal(new.marks, 0);
	assert_true(chain_id_is_null(&new.sealed_by));
	assert_int_equal(run("compare", "./base", "./copy", NULL), 0);
	assert_int_equal(run("check", "copy", NULL), 0);
	assert_int_equal(open_ro("top"), 0);
	stub_holder = "copy";
	assert_int_equal(run("new-id", "copy", NULL), EXIT_REFUSED);
	stub_holder = NULL;
	new.marks = DM_CHAIN_MARK_IN_USE;
	host_id(&new.use_host);
	store("copy", &new);
	assert_int_equal(run("new-id", "copy", NULL), EXIT_REFUSED);
	assert_said("copy of an open layer", NULL);
	assert_int_equal(run("new-id", "copy", "--force", NULL), 0);
	load("copy", &new);
	assert_int_equal(new.marks, 0);
}

static void unseal_refuses_children(void **state)
{
	static struct chain_header before, after;
	json_object *o;

	(void)state;
	create("base", "8M");
	assert_int_equal(run("unseal", "base", NULL), EXIT_FAILED);
	create_on("one", "base");
	create_on("two", "base");
	load("base", &before);
	stub_holder = "base";
	assert_int_equal(run("unseal", "base", NULL), EXIT_REFUSED);
	assert_int_equal(run("unseal", "base", "--force", NULL), EXIT_REFUSED);
	stub_holder = NULL;
	o = run_json("unseal", "base", NULL);
	assert_non_null(strstr(json_object_get_string(json_at(o, "child-path")),
			       "/one"));
	assert_true(json_object_get_boolean(json_at(o, "more-children")));
	json_object_put(o);
	load("base", &after);
	assert_int_equal(after.marks, DM_CHAIN_MARK_MANY_CHILDREN);
	assert_true(chain_id_equal(&before.uuid, &after.uuid));
	assert_false(chain_id_equal(&before.cid, &after.cid));
	assert_int_equal(open_ro("one"), EXIT_IMAGE);
	assert_int_equal(open_ro("two"), EXIT_IMAGE);
	assert_int_equal(open_ro("base"), 0);
}

/* resize */

static void resize_grows(void **state)
{
	static struct chain_header before, after;
	struct stat st;

	(void)state;
	create("base", "40M");
	put_blocks("base", 0, 1, DM_CHAIN_DATA, 3);
	assert_int_equal(run("create", "top", "--size", "32M",
			     BACKING("base", "chain"), NULL), 0);
	put_blocks("top", 1, 1, DM_CHAIN_DATA, 4);
	load("top", &before);
	assert_int_equal(run("resize", "./top", "+32M", NULL), 0);
	load("top", &after);
	assert_int_equal(after.size, 64 * MIB);
	assert_int_equal(after.limit, 32 * MIB);
	assert_false(chain_id_equal(&before.cid, &after.cid));
	assert_int_equal(stat("top", &st), 0);
	assert_int_equal(st.st_size, chain_layer_bytes(&after));
	assert_int_equal(run("check", "top", NULL), 0);
	assert_int_equal(get_block("top", 1), DM_CHAIN_DATA);
	assert_int_equal(run("resize", "./top", "64M", NULL), 0);
}

static void resize_shrinks(void **state)
{
	static struct chain_header before, after;
	struct stat st;

	(void)state;
	create("a", "64M");
	put_blocks("a", 2047, 3, DM_CHAIN_DATA, 4);
	put_blocks("a", 10000, 1, DM_CHAIN_DATA, 4);
	load("a", &before);
	assert_int_equal(run("resize", "./a", "8M", NULL), EXIT_USAGE);
	assert_said("--shrink", NULL);
	assert_int_equal(run("resize", "./a", "8M", "--shrink", NULL), 0);
	load("a", &after);
	assert_int_equal(after.size, 8 * MIB);
	assert_false(chain_id_equal(&before.cid, &after.cid));
	assert_int_equal(stat("a", &st), 0);
	assert_int_equal(st.st_size, chain_layer_bytes(&after));
	assert_int_equal(run("check", "a", NULL), 0);
	assert_int_equal(get_block("a", 2047), DM_CHAIN_DATA);
	assert_int_equal(get_block("a", 2048), DM_CHAIN_ZERO);
	assert_int_equal(get_block("a", 10000), DM_CHAIN_ZERO);
}

/* --- A copy of a layer, as a move makes it --- */

static void open_copy(struct layer_copy *c, const char *from, const char *to)
{
	assert_int_equal(image_open(c->from, from, DM_CHAIN_FORMAT_CHAIN,
				    IMAGE_ANY_MARK), 0);
	assert_int_equal(image_open(c->to, to, DM_CHAIN_FORMAT_CHAIN,
				    IMAGE_WRITE | IMAGE_ANY_MARK), 0);
}

static void close_copy(struct layer_copy *c)
{
	image_close(c->from);
	image_close(c->to);
}

static void copied(const char *path, const char *to)
{
	struct image a, b;
	struct layer_copy c = { .from = &a, .to = &b };

	assert_int_equal(image_open(&a, path, DM_CHAIN_FORMAT_CHAIN,
				    IMAGE_ANY_MARK), 0);
	assert_int_equal(image_make(&b, to, &a.hdr), 0);
	assert_int_equal(image_make_header(&b), 0);
	close_copy(&c);
	open_copy(&c, path, to);
	assert_int_equal(layer_copy_count(&c), 0);
	assert_int_equal(layer_copy(&c), 0);
	close_copy(&c);
}

static int compared(const char *path, const char *to)
{
	struct image a, b;
	struct layer_copy c = { .from = &a, .to = &b };
	int ret;

	open_copy(&c, path, to);
	ret = layer_compare(&c);
	close_copy(&c);
	return -ret;
}

/* What was cut off reads as zeroes, and is no part of the disk. */
static void copy_of_a_shrunk_layer(void **state)
{
	(void)state;
	create("a", "64M");
	put_blocks("a", 100, 3, DM_CHAIN_DATA, 7);
	put_blocks("a", 10 * MIB / BLOCK, 10 * MIB / BLOCK, DM_CHAIN_DATA, 7);
	assert_int_equal(run("resize", "./a", "8M", "--shrink", NULL), 0);
	copied("a", "b");
	assert_int_equal(compared("a", "b"), 0);
	put_blocks("b", 200, 1, DM_CHAIN_ZERO, 0);
	assert_int_equal(compared("a", "b"), EXIT_IMAGE);
	assert_said("differ at byte 819200", NULL);
}

static void copy_that_holds_more(void **state)
{
	(void)state;
	create("a", "100M");
	put_blocks("a", 0, 3, DM_CHAIN_DATA, 7);
	copied("a", "b");
	assert_int_equal(compared("a", "b"), 0);
	put_blocks("b", DM_CHAIN_GROUP_BLOCKS + 1, 1, DM_CHAIN_DATA, 7);
	assert_int_equal(compared("a", "b"), EXIT_IMAGE);
	assert_said("is no copy", NULL);
}

static void assert_zeroes(const char *path, uint64_t offset, size_t len)
{
	static uint8_t buf[MIB];

	peek(path, offset, buf, len);
	while (len--)
		assert_int_equal(buf[len], 0);
}

/* What was once cut off never comes back. */
static void resize_there_and_back(void **state)
{
	static struct chain_header h;

	(void)state;
	create("a", "8M");
	create("zeroes", "8M");
	put_blocks("a", 0, 2048, DM_CHAIN_DATA, 0xdd);
	assert_int_equal(run("resize", "./a", "--shrink", "513K", NULL),
			 EXIT_DONE);
	load("a", &h);
	assert_zeroes("a", h.data_offset + 513 * KIB, 3 * KIB);
	assert_int_equal(run("resize", "./a", "8M", NULL), 0);
	assert_int_equal(run("check", "a", NULL), 0);
	assert_int_equal(run("resize", "./zeroes", "--shrink", "513K", NULL), 0);
	put_blocks("zeroes", 0, 129, DM_CHAIN_DATA, 0xdd);
	assert_int_equal(run("resize", "./zeroes", "8M", NULL), 0);
	assert_int_equal(run("compare", "./a", "./zeroes", NULL), 0);
}

/* Cut off right behind its header write: growing clears what it left. */
static void resize_after_a_cut_shrink(void **state)
{
	static struct chain_header h;

	(void)state;
	create("a", "8M");
	create("b", "8M");
	put_blocks("a", 0, 2048, DM_CHAIN_DATA, 0xdd);
	put_blocks("b", 0, 256, DM_CHAIN_DATA, 0xdd);
	load("a", &h);
	h.size = 1 * MIB;
	id_random(&h.cid);
	store("a", &h);
	assert_int_equal(open_ro("a"), 0);
	assert_int_equal(run("check", "a", NULL), 0);
	assert_int_equal(run("resize", "./a", "8M", NULL), 0);
	assert_int_equal(run("compare", "./a", "./b", NULL), 0);
	assert_int_equal(run("check", "a", NULL), 0);
}

static void resize_keeps_damaged_sectors(void **state)
{
	uint8_t before[512], after[512];
	uint64_t sector;

	(void)state;
	create("a", "64M");
	put_blocks("a", 3000, 1, DM_CHAIN_DATA, 4);
	put_blocks("a", 4000, 2000, DM_CHAIN_ZERO, 0);
	put_blocks("a", 6000, 1, DM_CHAIN_DATA, 4);
	sector = map_sector_offset("a", 3000);
	spoil("a", sector);
	peek("a", sector, before, sizeof(before));
	assert_int_equal(run("resize", "./a", "20M", "--shrink", NULL), 0);
	/* It must not become a valid one that says something. */
	peek("a", sector, after, sizeof(after));
	assert_memory_equal(before, after, sizeof(before));
	assert_int_equal(get_block("a", 3000), DM_CHAIN_DAMAGED);
	assert_int_equal(get_block("a", 4000), DM_CHAIN_ZERO);
	assert_int_equal(get_block("a", 6000), DM_CHAIN_ZERO);
}

static void resize_refuses(void **state)
{
	static struct chain_header h;

	(void)state;
	assert_int_equal(run("create", "a", "--size", "8M", "--max-size", "16M",
			     NULL), 0);
	assert_int_equal(run("resize", "./a", "17M", NULL), EXIT_FAILED);
	assert_said("16777216 bytes", NULL);
	assert_int_equal(run("resize", "./a", "16M", NULL), 0);
	assert_int_equal(run("resize", "./a", "0", "--shrink", NULL), EXIT_USAGE);
	assert_int_equal(run("resize", "./a", "1000", "--shrink", NULL),
			 EXIT_USAGE);
	assert_int_equal(run("resize", "./a", "big", NULL), EXIT_USAGE);
	assert_int_equal(run("resize", "./a", NULL), EXIT_USAGE);
	assert_int_equal(run("resize", "no-disk", "1G", NULL), EXIT_FAILED);
	stub_holder = "/a";
	assert_int_equal(run("resize", "./a", "1M", "--shrink", NULL),
			 EXIT_REFUSED);
	stub_holder = NULL;
	create_on("top", "a");
	assert_int_equal(run("resize", "./a", "1M", "--shrink", NULL),
			 EXIT_REFUSED);
	assert_said("sealed", NULL);
	load("top", &h);
	h.marks = DM_CHAIN_MARK_RETIRED;
	store("top", &h);
	assert_int_equal(run("resize", "./top", "1M", "--shrink", NULL),
			 EXIT_IMAGE);
	h.marks = DM_CHAIN_MARK_IN_USE;
	host_id(&h.use_host);
	store("top", &h);
	assert_int_equal(run("resize", "./top", "1M", "--shrink", NULL),
			 EXIT_REFUSED);
	assert_int_equal(run("resize", "./top", "1M", "--shrink", "--force",
			     NULL), 0);
	load("top", &h);
	assert_int_equal(h.marks, 0);
}

/* sizes and ids */

static void sizes_as_in_qemu_img(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {
		{ "0", 0 }, { "512", 512 }, { "4k", 4096 }, { "4K", 4096 },
		{ "10G", 10 * GIB }, { "1.5M", 3 * MIB / 2 }, { "1T", TIB },
		{ "15E", 15ULL << 60 }, { "18446744073709551615", UINT64_MAX },
		{ "7b", 7 }, { "0.5K", 512 },
	};
	static const char * const bad[] = {
		"", "G", "-1", "+1", "1X", "1GG", "1G ", " 1G", "1.", ".5G",
		"16E", "18446744073709551616", "1e3", "0x10", "1.0000000001G",
	};
	uint64_t old = GIB, n;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(size_parse(good[i].text, NULL, &n), 0);
		assert_int_equal(n, good[i].bytes);
	}
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(size_parse(bad[i], NULL, &n), -EXIT_USAGE);
	assert_int_equal(size_parse("+4M", &old, &n), 0);
	assert_int_equal(n, GIB + 4 * MIB);
	assert_int_equal(size_parse("-4M", &old, &n), 0);
	assert_int_equal(n, GIB - 4 * MIB);
	assert_int_equal(size_parse("-1G", &old, &n), -EXIT_USAGE);
	assert_int_equal(size_parse("+18446744073709551615", &old, &n),
			 -EXIT_USAGE);
}

static void sizes_for_people(void **state)
{
	char buf[32];

	(void)state;
	assert_string_equal(size_text(0, buf), "0 B");
	assert_string_equal(size_text(1023, buf), "1023 B");
	assert_string_equal(size_text(4096, buf), "4 KiB");
	assert_string_equal(size_text(3 * MIB / 2, buf), "1.5 MiB");
	assert_string_equal(size_text(10 * GIB, buf), "10 GiB");
	assert_string_equal(size_text(UINT64_MAX, buf), "15.9 EiB");
}

static void ids_as_text(void **state)
{
	struct chain_id a, b;
	char text[37];

	(void)state;
	id_random(&a);
	assert_int_equal(a.b[6] >> 4, 4);
	assert_int_equal(a.b[8] >> 6, 2);
	assert_true(id_parse(id_text(&a, text), &b));
	assert_true(chain_id_equal(&a, &b));
	assert_true(id_parse("00112233-4455-6677-8899-AAbbccddeeff", &a));
	assert_string_equal(id_text(&a, text),
			    "00112233-4455-6677-8899-aabbccddeeff");
	assert_false(id_parse("", &a));
	assert_false(id_parse("00112233-4455-6677-8899-aabbccddeef", &a));
	assert_false(id_parse("00112233-4455-6677-8899-aabbccddeeff0", &a));
	assert_false(id_parse("0011223344556677-8899-aabbccddeeff", &a));
	assert_false(id_parse("0011223x-4455-6677-8899-aabbccddeeff", &a));
}

static void texts_are_cleaned(void **state)
{
	char text[] = "a\nb\x1b\x7f\xc3\xa4\xff\xc2\x85\xed\xa0\x80z";
	json_object *o = json_text("x\xff\ny");

	(void)state;
	assert_string_equal(text_clean(text), "a?b??\xc3\xa4??????z");
	assert_string_equal(json_object_get_string(o), "x?\ny");
	json_object_put(o);
	assert_null(json_text(NULL));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, images_setup, images_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(map_is_as_qemu_prints_it),
		TEST(maps_against_a_model),
		TEST(info_counts_blocks),
		TEST(info_names_users),
		TEST(check_header_slots),
		TEST(check_trailer),
		TEST(check_lost_map_sector),
		TEST(check_zeroed_map_group),
		TEST(check_presence_sector),
		TEST(check_presence_and_a_map_sector),
		TEST(check_impossible_states),
		TEST(check_behind_the_end),
		TEST(check_lost_sectors_at_the_end),
		TEST(check_truncated_files),
		TEST(check_cut_off_maps),
		TEST(check_parents),
		TEST(check_refuses),
		TEST(check_tells_json),
		TEST(check_names_jobs),
		TEST(check_random_damage),
		TEST(compare_layers),
		TEST(compare_chain_and_raw),
		TEST(compare_sizes),
		TEST(compare_damaged),
		TEST(new_id_makes_a_layer_of_a_copy),
		TEST(unseal_refuses_children),
		TEST(resize_grows),
		TEST(resize_shrinks),
		TEST(copy_of_a_shrunk_layer),
		TEST(copy_that_holds_more),
		TEST(resize_there_and_back),
		TEST(resize_after_a_cut_shrink),
		TEST(resize_keeps_damaged_sectors),
		TEST(resize_refuses),
		cmocka_unit_test(sizes_as_in_qemu_img),
		cmocka_unit_test(sizes_for_people),
		cmocka_unit_test(ids_as_text),
		cmocka_unit_test(texts_are_cleaned),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
