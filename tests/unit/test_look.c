// SPDX-License-Identifier: GPL-2.0-or-later
// sources: tests/unit/images.c tests/unit/stub-online.c kmod/dm-chain-format.c userspace/lib-crc.c userspace/msg.c userspace/size.c userspace/args.c userspace/fdarg.c userspace/path.c userspace/host.c userspace/image.c userspace/image-io.c userspace/marks.c userspace/make.c userspace/raw.c userspace/walk.c userspace/pending.c userspace/imgmap.c userspace/walkmap.c userspace/view.c userspace/seal.c userspace/rebase-copy.c userspace/show.c userspace/show-tree.c userspace/picture.c userspace/picture-svg.c userspace/picture-text.c userspace/cmd-create.c userspace/cmd-info.c userspace/cmd-map.c userspace/cmd-check.c userspace/cmd-compare.c userspace/cmd-new-id.c userspace/cmd-unseal.c userspace/cmd-rebase.c userspace/cmd-resize.c
// libs: -ljson-c
/*
 * Pictures: each byte of a map is in just the column that shows its part of the disk,
 * from 512 bytes to 64 TiB, from one layer to 1024.
 */
#include "images.h"
#include "picture.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uint64_t sum(const struct picture *p, unsigned int layer,
		    unsigned int from, unsigned int to)
{
	uint64_t n = 0;

	for (; from < to; from++) {
		const struct picture_cell *c =
			&p->cells[(size_t)layer * p->columns + from];

		n += c->data + c->zero + c->damaged;
	}
	return n;
}

/* Columns that have nothing of an extent say nothing of it. */
static void check_extent(uint64_t size, unsigned int columns, uint64_t start,
			 uint64_t length)
{
	struct dm_chain_extent e = { start, length, 1, DM_CHAIN_DATA };
	struct picture p;
	unsigned int c;

	assert_int_equal(picture_begin(&p, "d", size, 3, columns), 0);
	assert_int_equal(picture_extent(&e, &p), 0);
	assert_int_equal(p.rows[1].data, length);
	assert_int_equal(sum(&p, 1, 0, p.columns), length);
	assert_int_equal(sum(&p, 0, 0, p.columns), 0);
	for (c = 0; c < p.columns; c++) {
		uint64_t from = picture_column(&p, c), to = picture_column(&p, c + 1);
		uint64_t lo = from > start ? from : start;
		uint64_t hi = to < start + length ? to : start + length;

		assert_int_equal(sum(&p, 1, c, c + 1), hi > lo ? hi - lo : 0);
	}
	picture_free(&p);
}

static void test_columns(void **state)
{
	static const uint64_t sizes[] = {
		512, 4096, 4608, 1000 * 512, 1 * GIB, 3 * GIB + 512, 64 * TIB,
	};
	unsigned int i, j;

	(void)state;
	for (i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
		for (j = 0; j < 100; j++) {
			uint64_t start = rng() % sizes[i];

			check_extent(sizes[i], rng() % 900 + 1, start,
				     rng() % (sizes[i] - start) + 1);
		}
	check_extent(64 * TIB, 900, 0, 64 * TIB);
	check_extent(512, 900, 511, 1);
}

/* What a map says beyond the disk, or of layers that came since, is not drawn. */
static void test_hostile_extents(void **state)
{
	struct dm_chain_extent beyond = { 4096, 1ULL << 45, 0, DM_CHAIN_DATA };
	struct dm_chain_extent deep = { 0, 4096, 7, DM_CHAIN_DATA };
	struct dm_chain_extent behind = { 1 << 20, 4096, 0, DM_CHAIN_DATA };
	struct picture p;

	(void)state;
	assert_int_equal(picture_begin(&p, "d", 8192, 2, 10), 0);
	picture_extent(&beyond, &p);
	picture_extent(&deep, &p);
	picture_extent(&behind, &p);
	assert_int_equal(sum(&p, 0, 0, 10), 4096);
	assert_int_equal(sum(&p, 1, 0, 10), 0);
	picture_free(&p);
}

static void test_levels(void **state)
{
	(void)state;
	assert_int_equal(picture_level(0, 100), 0);
	assert_int_equal(picture_level(1, 1ULL << 46), 1);
	assert_int_equal(picture_level(1ULL << 46, 1ULL << 46), 4);
	assert_int_equal(picture_level(50, 100), 2);
	assert_int_equal(picture_level(0, 0), 0);
}

/* 1024 layers that alternate: what is drawn stays legible and small. */
static void test_bounded(void **state)
{
	unsigned int columns = picture_columns(1024, 900), i;
	struct picture p;
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	(void)state;
	assert_true(columns >= 200 && columns * 1024 <= 300000);
	assert_int_equal(picture_columns(1, 900), 900);
	assert_int_equal(picture_begin(&p, "d<&>", 64 * TIB, 1024, columns), 0);
	for (i = 0; i < 100000; i++) {
		struct dm_chain_extent e = {
			(uint64_t)i * 512 * MIB, 512 * MIB, i % 1024,
			1 + i % 2,
		};

		picture_extent(&e, &p);
	}
	picture_svg(&p, out);
	fclose(out);
	assert_true(len < 40 * MIB);
	assert_non_null(strstr(text, "d&lt;&amp;&gt;"));
	assert_null(strstr(text, "d<&>"));
	assert_non_null(strstr(text, "</svg>"));
	free(text);
	picture_free(&p);
}

/* --- The commands --- */

static void two_layers(void)
{
	assert_int_equal(run("create", "base", "--size", "64M", NULL), 0);
	put_blocks("base", 0, 8192, DM_CHAIN_DATA, 1);
	assert_int_equal(run("create", "top", "--backing", "base",
			     "--backing-format", "chain", NULL), 0);
	put_blocks("top", 0, 2048, DM_CHAIN_DATA, 2);
	put_blocks("top", 4096, 2048, DM_CHAIN_ZERO, 0);
}

static void test_draw(void **state)
{
	(void)state;
	two_layers();
	assert_int_equal(run("map", "top", "--draw", NULL), 0);
	/* An eighth, zeroes for as much from a quarter on; below, the rest of half. */
	assert_non_null(strstr(output(), "    0 |########        00000000                                        | top (8 MiB, zeroes 8 MiB)"));
	assert_non_null(strstr(output(), "    1 |        ########        ########                                | base (16 MiB)"));
}

static void test_picture(void **state)
{
	char start[4];
	json_object *o, *l;

	(void)state;
	two_layers();
	o = run_json("map", "top", "--picture", "p.svg", NULL);
	l = json_object_array_get_idx(json_at(o, "layers"), 0);
	assert_int_equal(json_number(l, "seen-data-bytes"), 8 * MIB);
	assert_int_equal(json_number(l, "seen-zero-bytes"), 8 * MIB);
	l = json_object_array_get_idx(json_at(o, "layers"), 1);
	assert_int_equal(json_number(l, "seen-data-bytes"), 16 * MIB);
	json_object_put(o);
	peek("p.svg", 0, start, sizeof(start));
	assert_memory_equal(start, "<svg", sizeof(start));
	/* Once more over the old one, but over nothing else. */
	assert_int_equal(run("map", "top", "--picture", "p.svg", NULL), 0);
	assert_int_equal(run("map", "top", "--picture", "base", NULL), EXIT_FAILED);
	assert_said("exists and is no picture", NULL);
	assert_int_equal(symlink("nowhere", "link"), 0);
	assert_int_equal(run("map", "top", "--picture", "link", NULL), EXIT_FAILED);
	assert_false(exists("nowhere"));
	assert_int_equal(run("check", "base", NULL), 0);
}

static void test_tree(void **state)
{
	(void)state;
	two_layers();
	assert_int_equal(run("info", "top", NULL), 0);
	assert_non_null(strstr(output(),
		"chain:\n"
		"    0  top           none  [##........] 8 MiB + 8 MiB zeroes\n"
		"    |\n"
		"    1  base          none  [#####.....] 32 MiB\n"
		"layers:\n"
		"    0  chain  none  data 8 MiB, zero 8 MiB\n"));
}

/* Another disk has just the base. */
static void test_tree_shared(void **state)
{
	(void)state;
	two_layers();
	stub_holder = "base";
	assert_int_equal(run("info", "top", NULL), 0);
	stub_holder = NULL;
	assert_non_null(strstr(output(),
		"    |\n"
		"    |  .-- vm1\n"
		"    | /\n"
		"    1  base"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_columns),
		cmocka_unit_test(test_hostile_extents),
		cmocka_unit_test(test_levels),
		cmocka_unit_test(test_bounded),
		cmocka_unit_test_setup_teardown(test_draw, images_setup, images_teardown),
		cmocka_unit_test_setup_teardown(test_picture, images_setup,
						images_teardown),
		cmocka_unit_test_setup_teardown(test_tree, images_setup, images_teardown),
		cmocka_unit_test_setup_teardown(test_tree_shared, images_setup,
						images_teardown),
	};

	return cmocka_run_group_tests_name("look", tests, NULL, NULL);
}
