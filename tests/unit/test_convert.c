// SPDX-License-Identifier: GPL-2.0-or-later
// sources: tests/unit/images.c tests/unit/stub-online.c kmod/dm-chain-format.c userspace/lib-crc.c userspace/msg.c userspace/size.c userspace/args.c userspace/fdarg.c userspace/path.c userspace/host.c userspace/image.c userspace/image-io.c userspace/marks.c userspace/make.c userspace/raw.c userspace/walk.c userspace/pending.c userspace/imgmap.c userspace/walkmap.c userspace/view.c userspace/seal.c userspace/rebase-copy.c userspace/show.c userspace/show-tree.c userspace/picture.c userspace/picture-svg.c userspace/picture-text.c userspace/cmd-create.c userspace/cmd-info.c userspace/cmd-map.c userspace/cmd-check.c userspace/cmd-compare.c userspace/cmd-new-id.c userspace/cmd-unseal.c userspace/cmd-rebase.c userspace/cmd-resize.c userspace/blockrun.c userspace/layer-fill.c userspace/names.c userspace/newfile.c userspace/qemu-image.c userspace/tool.c
// libs: -ljson-c
/*
 * What import and export are made of: extents of any length become blocks, a layer
 * gets its map in one go, names, files without a name, and what is taken of the texts
 * that QEMU and a hostile header give.
 */
#include "images.h"
#include "convert.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- blockrun, against states of single bytes --- */

#define BYTES	(64 * 4096)

static uint8_t bytes[BYTES], blocks[BYTES / 4096];
static uint64_t next_block;

static int note_run(uint64_t block, uint64_t nr, unsigned int state, void *arg)
{
	uint64_t i;

	(void)arg;
	assert_int_equal(block, next_block);
	for (i = 0; i < nr; i++)
		blocks[block + i] = state;
	next_block = block + nr;
	return 0;
}

static unsigned int expected(uint64_t block, uint64_t size)
{
	uint64_t i, end = (block + 1) * 4096 < size ? (block + 1) * 4096 : size;
	unsigned int seen = 0;

	for (i = block * 4096; i < end; i++)
		seen |= 1U << bytes[i];
	return seen == 1U << DM_CHAIN_ABSENT ? DM_CHAIN_ABSENT :
	       seen == 1U << DM_CHAIN_ZERO ? DM_CHAIN_ZERO : DM_CHAIN_DATA;
}

static void one_disk(uint64_t size)
{
	struct blockrun b = { .shift = 12, .size = size, .cb = note_run };
	uint64_t at = 0, len, i;

	next_block = 0;
	while (at < size) {
		unsigned int state = rng() % 3;

		len = rng() % 3 ? rng() % 9000 + 1 : (rng() % 4 + 1) * 4096;
		len = len < size - at ? len : size - at;
		memset(bytes + at, state, len);
		assert_int_equal(blockrun_add(&b, len, state), 0);
		at += len;
	}
	assert_int_equal(next_block, (size + 4095) / 4096);
	for (i = 0; i < next_block; i++)
		assert_int_equal(blocks[i], expected(i, size));
}

static void test_blocks_of_extents(void **state)
{
	unsigned int i;

	(void)state;
	for (i = 0; i < 2000; i++)
		one_disk((rng() % 500 + 1) * 512);
}

/* What a server tells beyond the end counts for nothing. */
static void test_too_much(void **state)
{
	struct blockrun b = { .shift = 12, .size = 5000, .cb = note_run };

	(void)state;
	next_block = 0;
	assert_int_equal(blockrun_add(&b, 1ULL << 40, DM_CHAIN_ZERO), 0);
	assert_int_equal(blockrun_add(&b, 1ULL << 40, DM_CHAIN_DATA), 0);
	assert_int_equal(next_block, 2);
}

static int refuse(uint64_t block, uint64_t nr, unsigned int state, void *arg)
{
	(void)block;
	(void)nr;
	(void)state;
	(void)arg;
	return -EXIT_FAILED;
}

static void test_error_stops(void **state)
{
	struct blockrun b = { .shift = 12, .size = 1 << 20, .cb = refuse };

	(void)state;
	assert_int_equal(blockrun_add(&b, 1 << 20, DM_CHAIN_DATA), -EXIT_FAILED);
}

/* --- layer-fill: what was put is read back --- */

static void make_header(struct chain_header *h, uint64_t size, uint32_t shift)
{
	assert_int_equal(chain_header_init(h, size, size * 4, shift), 0);
	id_random(&h->uuid);
	id_random(&h->cid);
	h->map_seed = 0x1234567;
}

static void begin_layer(struct image *img, struct newfile *f,
			struct layer_fill *fill, uint64_t size, uint32_t shift)
{
	struct chain_header h;

	make_header(&h, size, shift);
	assert_int_equal(newfile_make(f, "layer"), 0);
	assert_int_equal(image_make_given(img, "layer", f->fd, &h), 0);
	assert_int_equal(layer_fill_begin(fill, img), 0);
}

static void end_layer(struct image *img, struct newfile *f, struct layer_fill *fill)
{
	assert_int_equal(layer_fill_end(fill), 0);
	assert_int_equal(image_make_commit(img), 0);
	assert_false(exists("layer"));
	assert_int_equal(newfile_place(f), 0);
	layer_fill_free(fill);
	image_close(img);
	newfile_close(f);
}

static void test_fill(void **state)
{
	static uint8_t want[100000];
	struct layer_fill fill;
	struct newfile f;
	struct image img;
	struct imgmap map;
	uint64_t at, nr = sizeof(want), len, count[4] = { 0 };

	(void)state;
	begin_layer(&img, &f, &fill, nr * 4096, 12);
	for (at = 0; at < nr; at += len) {
		unsigned int s = rng() % 3;

		len = rng() % 4 ? rng() % 50 + 1 : rng() % 20000 + 1;
		len = len < nr - at ? len : nr - at;
		memset(want + at, s, len);
		count[s] += len;
		if (s != DM_CHAIN_ABSENT)
			assert_int_equal(layer_fill_states(&fill, at, len, s), 0);
	}
	assert_int_equal(fill.data_bytes, count[DM_CHAIN_DATA] * 4096);
	assert_int_equal(fill.zero_bytes, count[DM_CHAIN_ZERO] * 4096);
	end_layer(&img, &f, &fill);
	assert_int_equal(image_open(&img, "layer", DM_CHAIN_FORMAT_CHAIN, 0), 0);
	assert_int_equal(imgmap_load(&map, &img), 0);
	assert_int_equal(map.damaged, 0);
	for (at = 0; at < nr; at++)
		assert_int_equal(imgmap_state(&map, at), want[at]);
	imgmap_free(&map);
	image_close(&img);
	assert_int_equal(run("check", "layer", NULL), 0);
}

/* Nothing at all is a layer, too. */
static void test_fill_nothing(void **state)
{
	struct layer_fill fill;
	struct newfile f;
	struct image img;

	(void)state;
	begin_layer(&img, &f, &fill, 512, 16);
	end_layer(&img, &f, &fill);
	assert_int_equal(run("check", "layer", NULL), 0);
	assert_int_equal(run("map", "layer", NULL), 0);
}

/* --- newfile --- */

static void test_newfile_never_replaces(void **state)
{
	struct newfile f;
	char c = 'x';

	(void)state;
	make_raw("there", 4096);
	assert_int_equal(newfile_make(&f, "there"), -EXIT_FAILED);
	assert_said("exists already", NULL);
	newfile_close(&f);
	assert_int_equal(newfile_make(&f, "late"), 0);
	assert_true(f.fd >= 10);
	make_raw("late", 4096);
	poke("late", 0, &c, 1);
	assert_int_equal(newfile_place(&f), -EXIT_FAILED);
	assert_said("exists already", NULL);
	newfile_remove(&f);
	newfile_close(&f);
	peek("late", 0, &c, 1);
	assert_int_equal(c, 'x');
}

/* A link that leads nowhere is a name that is taken. */
static void test_newfile_dangling(void **state)
{
	struct newfile f;

	(void)state;
	assert_int_equal(symlink("nowhere", "link"), 0);
	assert_int_equal(newfile_make(&f, "link"), -EXIT_FAILED);
	newfile_close(&f);
	assert_false(exists("nowhere"));
}

static void test_newfile_undone(void **state)
{
	struct newfile f;

	(void)state;
	assert_int_equal(newfile_make(&f, "a"), 0);
	newfile_close(&f);
	assert_false(exists("a"));
	assert_int_equal(newfile_make(&f, "a"), 0);
	assert_int_equal(newfile_place(&f), 0);
	assert_true(exists("a"));
	newfile_remove(&f);
	assert_false(exists("a"));
	newfile_close(&f);
	assert_int_equal(newfile_make(&f, "no/such/a"), -EXIT_FAILED);
	newfile_close(&f);
}

/* --- names --- */

static void name_is(const char *folder, const char *source, char *const *taken,
		    const char *want)
{
	char *name = convert_name(folder, source, ".qcow2", ".img", taken);

	assert_string_equal(name, want);
	free(name);
}

static void test_names(void **state)
{
	char *none[] = { NULL };
	char *taken[] = { "/d/a.img", "/d/a-2.img", NULL };

	(void)state;
	name_is("/d", "/x/a.qcow2", none, "/d/a.img");
	name_is("/", "/x/a.qcow2", none, "/a.img");
	name_is("/d", "a", none, "/d/a.img");
	name_is("/d", "/x/.qcow2", none, "/d/.qcow2.img");
	name_is("/d", "/x/a.b.qcow2", none, "/d/a.b.img");
	name_is("/d", "/y/a.qcow2", taken, "/d/a-3.img");
}

static void test_names_that_are_none(void **state)
{
	(void)state;
	assert_int_equal(convert_check_name("/d\n/a b-\303\244.qcow2"), 0);
	assert_int_equal(convert_check_name("/d/\344.qcow2"), 0);
	assert_int_equal(-convert_check_name("/d/a\033[2J.qcow2"), EXIT_IMAGE);
	assert_said("/d/a?[2J.qcow2", "rename", NULL);
	assert_int_equal(-convert_check_name("/d/a\n"), EXIT_IMAGE);
	assert_int_equal(-convert_check_name("a\302\233m"), EXIT_IMAGE);
	assert_int_equal(-convert_check_name("a\177"), EXIT_IMAGE);
}

/* --- What QEMU says --- */

#define INFO(more) "{\"format\": \"qcow2\", \"virtual-size\": 1048576, " \
		   "\"cluster-size\": 65536" more "}"
#define DATA(more) ", \"format-specific\": {\"type\": \"qcow2\", \"data\": {" more "}}"

static int parse(const char *text, struct qimage *q)
{
	memset(q, 0, sizeof(*q));
	q->path = "/d/top.qcow2";
	return qimage_parse(q, text);
}

static void drop(struct qimage *q)
{
	free(q->backing);
	free(q->backing_format);
}

static void test_info(void **state)
{
	struct qimage q;

	(void)state;
	assert_int_equal(parse(INFO(", \"backing-filename\": \"b\", \"backing-filename-format\": \"raw\""), &q), 0);
	assert_int_equal(q.size, 1048576);
	assert_int_equal(q.grain, 65536);
	assert_string_equal(q.backing, "b");
	assert_string_equal(q.backing_format, "raw");
	drop(&q);
	assert_int_equal(parse(INFO(DATA("\"extended-l2\": true")), &q), 0);
	assert_int_equal(q.grain, 2048);
	assert_null(q.backing);
	assert_null(q.backing_format);
}

static void refused_info(const char *text, const char *why)
{
	struct qimage q;

	assert_int_equal(parse(text, &q), -EXIT_IMAGE);
	assert_said(why, NULL);
	assert_null(q.backing);
}

static void test_info_refused(void **state)
{
	(void)state;
	refused_info("", "understood");
	refused_info("[]", "understood");
	refused_info("{}", "understood");
	refused_info("7", "understood");
	refused_info("{\"format\": \"raw\", \"virtual-size\": 512}", "understood");
	refused_info("{\"format\": \"qcow2\"}", "0 bytes");
	refused_info("{\"format\": \"qcow2\", \"virtual-size\": -512}", "-512 bytes");
	refused_info("{\"format\": \"qcow2\", \"virtual-size\": 1000}", "1000 bytes");
	refused_info("{\"format\": \"qcow2\", \"virtual-size\": 70368744178176}",
		     "64T");
	refused_info(INFO(", \"encrypted\": true"), "encrypted");
	refused_info(INFO(DATA("\"encrypt\": {}")), "encrypted");
	refused_info(INFO(DATA("\"data-file\": \"x\"")), "another file");
	refused_info(INFO(DATA("\"corrupt\": true")), "corrupt");
}

static void backing_is(char *name, const char *want)
{
	struct qimage q = { .path = "/d/top.qcow2", .backing = name };
	char *path = qimage_backing(&q);

	if (want)
		assert_string_equal(path, want);
	else
		assert_null(path);
	free(path);
}

static void test_backing(void **state)
{
	(void)state;
	backing_is("base", "/d/base");
	backing_is("../base", "/d/../base");
	backing_is("/x/base", "/x/base");
	backing_is("./a:b", "/d/./a:b");
	backing_is("/x/a:b", "/x/a:b");
	backing_is("nbd://h/x", NULL);
	backing_is("json:{\"driver\":\"file\"}", NULL);
	backing_is("file:base", NULL);
	backing_is("fat:rw:/etc", NULL);
	backing_is(":", NULL);
}

/* A name can't become more than a name in what QEMU is told. */
static void test_node(void **state)
{
	json_object *o, *file;

	(void)state;
	o = qnode_image("qcow2", qnode_file("/d/a\",\"backing\":\"x", false), NULL);
	assert_string_equal(json_object_get_string(json_at(o, "driver")), "qcow2");
	assert_null(json_at(o, "backing"));
	file = json_at(o, "file");
	assert_string_equal(json_object_get_string(json_at(file, "filename")),
			    "/d/a\",\"backing\":\"x");
	json_object_put(o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_blocks_of_extents),
		cmocka_unit_test(test_too_much),
		cmocka_unit_test(test_error_stops),
		cmocka_unit_test_setup_teardown(test_fill, images_setup, images_teardown),
		cmocka_unit_test_setup_teardown(test_fill_nothing, images_setup,
						images_teardown),
		cmocka_unit_test_setup_teardown(test_newfile_never_replaces,
						images_setup, images_teardown),
		cmocka_unit_test_setup_teardown(test_newfile_dangling, images_setup,
						images_teardown),
		cmocka_unit_test_setup_teardown(test_newfile_undone, images_setup,
						images_teardown),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_names_that_are_none),
		cmocka_unit_test(test_info),
		cmocka_unit_test(test_info_refused),
		cmocka_unit_test(test_backing),
		cmocka_unit_test(test_node),
	};

	return cmocka_run_group_tests_name("convert", tests, NULL, NULL);
}
