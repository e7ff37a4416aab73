// SPDX-License-Identifier: GPL-2.0-or-later
// sources: tests/unit/images.c tests/unit/stub-online.c kmod/dm-chain-format.c userspace/lib-crc.c userspace/msg.c userspace/size.c userspace/args.c userspace/fdarg.c userspace/path.c userspace/host.c userspace/image.c userspace/image-io.c userspace/marks.c userspace/make.c userspace/raw.c userspace/walk.c userspace/pending.c userspace/imgmap.c userspace/walkmap.c userspace/view.c userspace/seal.c userspace/rebase-copy.c userspace/show.c userspace/cmd-create.c userspace/cmd-info.c userspace/cmd-map.c userspace/cmd-check.c userspace/cmd-compare.c userspace/cmd-new-id.c userspace/cmd-unseal.c userspace/cmd-rebase.c userspace/cmd-resize.c userspace/picture.c userspace/picture-svg.c userspace/picture-text.c userspace/show-tree.c
// libs: -ljson-c
/*
 * Chains with a commit that was cut off, while they are closed: what they show,
 * and what is refused until it is finished.
 */
#include "images.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK	4096ULL
#define AT(mib)	((mib) * MIB / BLOCK)

static struct chain_id job;

/* base 8M, mid 4M, top 8M: what is above 4M is cut off by mid. */
static void make_chain(void)
{
	assert_int_equal(run("create", "base", "--size", "8M", NULL), 0);
	assert_int_equal(run("create", "mid", "--size", "4M", "--backing",
			     "base", "--backing-format", "chain", NULL), 0);
	assert_int_equal(run("create", "top", "--size", "8M", "--backing",
			     "mid", "--backing-format", "chain", NULL), 0);
	put_blocks("base", AT(1), 4, DM_CHAIN_DATA, 'b');
	put_blocks("base", AT(6), 4, DM_CHAIN_DATA, 'h');
	put_blocks("mid", AT(2), 4, DM_CHAIN_DATA, 'm');
	put_blocks("top", AT(3), 4, DM_CHAIN_DATA, 't');
	make_raw("golden", 8 * MIB);
}

static void golden(uint64_t mib, int fill)
{
	uint8_t buf[4 * BLOCK];

	memset(buf, fill, sizeof(buf));
	poke("golden", mib * MIB, buf, sizeof(buf));
}

static void spoil_layer(const char *path, const struct chain_id *cid)
{
	struct chain_header h;

	load(path, &h);
	h.marks |= DM_CHAIN_MARK_SPOILED;
	h.job = job;
	h.cid = *cid;
	store(path, &h);
}

/* As the kernel begins a commit of top and mid into base. */
static void begin_commit(void)
{
	struct chain_header h, base;
	struct chain_id mid;

	/* What reads zeroes as mid is short is spelled out first. */
	put_blocks("top", AT(4), AT(4), DM_CHAIN_ZERO, 0);
	load("base", &base);
	load("top", &h);
	id_random(&job);
	id_random(&mid);
	h.marks |= DM_CHAIN_MARK_JOB;
	h.job = job;
	h.limit = h.size;
	h.record = (struct chain_record){
		.type = DM_CHAIN_RECORD_COMMIT,
		.base_format = DM_CHAIN_FORMAT_CHAIN,
		.base = base.uuid, .c0 = base.cid, .base_size = base.size,
	};
	id_random(&h.record.c1);
	store("top", &h);
	spoil_layer("mid", &mid);
	spoil_layer("base", &h.record.c1);
}

static void assert_golden(void)
{
	assert_int_equal(run("compare", "./top", "golden", "--format-b", "raw",
			     NULL), 0);
}

static void set_golden(void)
{
	golden(1, 'b');
	golden(2, 'm');
	golden(3, 't');
}

static void reads_as_before(void **state)
{
	(void)state;
	make_chain();
	set_golden();
	assert_golden();
	begin_commit();
	assert_golden();
	/* It moves: base first, then mid, then top. */
	put_blocks("base", AT(2), 4, DM_CHAIN_DATA, 'm');
	assert_golden();
	put_blocks("mid", AT(2), 4, DM_CHAIN_ABSENT, 0);
	assert_golden();
	put_blocks("base", AT(6), 4, DM_CHAIN_ZERO, 0);
	put_blocks("top", AT(6), 4, DM_CHAIN_ABSENT, 0);
	assert_golden();
}

/* A guest that writes where nothing is held writes into the base. */
static void the_end_of_mid_means_nothing(void **state)
{
	json_object *map, *e = NULL;
	size_t i;

	(void)state;
	make_chain();
	set_golden();
	begin_commit();
	put_blocks("top", AT(6), 4, DM_CHAIN_ABSENT, 0);
	put_blocks("base", AT(6), 4, DM_CHAIN_DATA, 'n');
	golden(6, 'n');
	assert_golden();
	map = run_json("map", "./top", NULL);
	for (i = 0; i < json_object_array_length(map); i++) {
		e = json_object_array_get_idx(map, i);
		if (json_number(e, "start") == 6 * MIB)
			break;
	}
	assert_int_equal(json_number(e, "start"), 6 * MIB);
	assert_int_equal(json_number(e, "length"), 4 * BLOCK);
	assert_int_equal(json_number(e, "depth"), 2);
	json_object_put(map);
}

/* But that of the base, and of what has no commit above it, does. */
static void other_ends_count(void **state)
{
	(void)state;
	make_chain();
	set_golden();
	put_blocks("top", AT(6), 4, DM_CHAIN_ABSENT, 0);
	assert_golden();
	begin_commit();
	put_blocks("top", AT(4), AT(4), DM_CHAIN_ABSENT, 0);
	golden(6, 'h');
	assert_golden();
}

static void checked(void **state)
{
	(void)state;
	make_chain();
	begin_commit();
	assert_int_equal(run("check", "top", NULL), 0);
	assert_non_null(strstr(output(), "unfinished commit"));
	assert_int_equal(run("check", "mid", NULL), 0);
	assert_non_null(strstr(output(), "spoiled"));
	assert_int_equal(run("check", "base", NULL), 0);
	assert_non_null(strstr(output(), "no damage"));
}

static void refused(int code, const char *what, const char *path)
{
	int ret;

	if (!strcmp(what, "resize"))
		ret = run("resize", path, "+1M", NULL);
	else if (!strcmp(what, "check"))
		ret = run("check", path, "--repair", NULL);
	else if (!strcmp(what, "create"))
		ret = run("create", "child", "--backing", path,
			  "--backing-format", "chain", NULL);
	else if (!strcmp(what, "rebase"))
		ret = run("rebase", path, "--backing", "golden",
			  "--backing-format", "raw", NULL);
	else
		ret = run(what, path, NULL);
	assert_int_equal(ret, code);
	assert_said("dmchain job resume", NULL);
	assert_false(exists("child"));
}

static const char * const changes[] = {
	"resize", "check", "create", "new-id", "unseal", "rebase",
};

static void refused_until_it_is_finished(void **state)
{
	struct chain_header before, after;
	size_t i;

	(void)state;
	make_chain();
	begin_commit();
	load("top", &before);
	for (i = 0; i < ARRAY_SIZE(changes); i++) {
		refused(EXIT_REFUSED, changes[i], "./top");
		assert_said("not finished", NULL);
		refused(EXIT_IMAGE, changes[i], "./mid");
		refused(EXIT_IMAGE, changes[i], "./base");
	}
	load("top", &after);
	assert_int_equal(before.generation, after.generation);
	assert_int_equal(run("create", "golden2", "--size", "8M", NULL), 0);
	assert_int_equal(run("rebase", "golden2", "--backing", "./top",
			     "--backing-format", "chain", NULL), EXIT_REFUSED);
	assert_said("not finished", NULL);
}

/* What is done leaves the layers between spoiled, and the top free. */
static void a_finished_one_is_no_hindrance(void **state)
{
	struct chain_header h;

	(void)state;
	make_chain();
	set_golden();
	begin_commit();
	load("top", &h);
	h.record.flags |= DM_CHAIN_RECORD_DONE;
	store("top", &h);
	load("base", &h);
	h.marks &= ~DM_CHAIN_MARK_SPOILED;
	memset(&h.job, 0, sizeof(h.job));
	store("base", &h);
	assert_golden();
	assert_int_equal(run("check", "top", NULL), 0);
	assert_int_equal(run("resize", "./base", "+1M", NULL), EXIT_REFUSED);
	assert_said("sealed", NULL);
	refused(EXIT_IMAGE, "new-id", "./mid");
	assert_int_equal(run("new-id", "./top", NULL), 0);
}

/* The base is raw: the chain ends there, of either size. */
static void a_raw_base(void **state)
{
	uint8_t buf[4 * BLOCK];
	struct chain_header h;

	(void)state;
	make_raw("raw", 4 * MIB);
	assert_int_equal(run("create", "top", "--size", "8M", "--backing",
			     "raw", "--backing-format", "raw", NULL), 0);
	put_blocks("top", AT(3), 4, DM_CHAIN_DATA, 't');
	load("top", &h);
	id_random(&h.job);
	h.marks |= DM_CHAIN_MARK_JOB;
	h.limit = h.size;
	h.record = (struct chain_record){
		.type = DM_CHAIN_RECORD_COMMIT,
		.base_format = DM_CHAIN_FORMAT_RAW, .base_size = 4 * MIB,
	};
	store("top", &h);
	make_raw("golden", 8 * MIB);
	golden(3, 't');
	assert_golden();
	make_raw("raw", 8 * MIB);
	golden(5, 'r');
	memset(buf, 'r', sizeof(buf));
	poke("raw", 5 * MIB, buf, sizeof(buf));
	assert_golden();
	make_raw("raw", 6 * MIB);
	assert_int_equal(run("map", "./top", NULL), EXIT_IMAGE);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, images_setup, images_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(reads_as_before),
		TEST(the_end_of_mid_means_nothing),
		TEST(other_ends_count),
		TEST(checked),
		TEST(refused_until_it_is_finished),
		TEST(a_finished_one_is_no_hindrance),
		TEST(a_raw_base),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
