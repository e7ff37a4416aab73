// SPDX-License-Identifier: GPL-2.0-or-later
// sources: tests/unit/images.c tests/unit/stub-online.c kmod/dm-chain-format.c userspace/lib-crc.c userspace/msg.c userspace/size.c userspace/args.c userspace/fdarg.c userspace/path.c userspace/host.c userspace/image.c userspace/image-io.c userspace/marks.c userspace/make.c userspace/raw.c userspace/walk.c userspace/pending.c userspace/recover-closed.c userspace/imgmap.c userspace/walkmap.c userspace/view.c userspace/seal.c userspace/rebase-copy.c userspace/show.c userspace/cmd-create.c userspace/cmd-info.c userspace/cmd-map.c userspace/cmd-check.c userspace/cmd-compare.c userspace/cmd-new-id.c userspace/cmd-unseal.c userspace/cmd-rebase.c userspace/cmd-resize.c userspace/picture.c userspace/picture-svg.c userspace/picture-text.c userspace/show-tree.c
// libs: -ljson-c
/*
 * What a snapshot of several disks that was cut off leaves, while it is closed:
 * a1 with its new top a2 decides, b1 with b2 waits; so does r2 on the raw r1. And
 * what a pivot leaves: a1 with its copy a2 decides, b1 waits, and its copy b2 asks it.
 */
#include "images.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct chain_id group;

static void make_pair(const char *old, const char *new)
{
	assert_int_equal(run("create", old, "--size", "8M", NULL), 0);
	assert_int_equal(run("create", new, "--size", "8M", "--backing", old,
			     "--backing-format", "chain", NULL), 0);
}

/* As the kernel has it before the decision. */
static void make_pending(const char *path)
{
	struct chain_header h, a;

	load(path, &h);
	load("a1", &a);
	h.marks &= ~DM_CHAIN_MARK_SEALED;
	h.marks |= DM_CHAIN_MARK_PENDING;
	h.group = group;
	h.coordinator = a.uuid;
	strcpy(h.coordinator_path, "a1");
	store(path, &h);
}

static void make_set(void)
{
	struct chain_header h;

	make_pair("a1", "a2");
	make_pair("b1", "b2");
	make_raw("r1", 8 * MIB);
	assert_int_equal(run("create", "r2", "--size", "8M", "--backing", "r1",
			     "--backing-format", "raw", NULL), 0);
	id_random(&group);
	load("a1", &h);
	h.marks &= ~DM_CHAIN_MARK_SEALED;
	store("a1", &h);
	make_pending("b1");
	make_pending("r2");
}

static void decide(void)
{
	struct chain_header h;

	load("a1", &h);
	h.marks |= DM_CHAIN_MARK_SEALED;
	h.decision = group;
	store("a1", &h);
}

static int open_as(const char *path, int flags)
{
	struct walk w;
	int ret = walk_open(&w, path, DM_CHAIN_FORMAT_CHAIN, flags);

	if (!ret)
		walk_close(&w);
	return -ret;
}

static uint32_t marks_of(const char *path)
{
	struct chain_header h;

	load(path, &h);
	return h.marks;
}

static void not_decided(void **state)
{
	struct chain_header before, h;

	(void)state;
	make_set();
	load("b1", &before);
	assert_int_equal(open_as("b2", 0), EXIT_IMAGE);
	assert_said("/b2", "not made", "/b1", NULL);
	assert_int_equal(open_as("b2", WALK_READ_ONLY), EXIT_IMAGE);
	assert_int_equal(open_as("r2", 0), EXIT_IMAGE);
	assert_said("/r2", "not made", "r1", NULL);
	assert_int_equal(open_as("r2", WALK_READ_ONLY), EXIT_IMAGE);
	/* To be read it stays as it is; to be written it gets an id of its own. */
	assert_int_equal(open_as("b1", WALK_READ_ONLY), 0);
	load("b1", &h);
	assert_memory_equal(&h, &before, sizeof(h));
	assert_int_equal(open_as("b1", 0), 0);
	load("b1", &h);
	assert_int_equal(h.marks, 0);
	assert_true(chain_id_is_null(&h.sealed_by));
	assert_true(chain_id_is_null(&h.group));
	assert_true(chain_id_is_null(&h.coordinator));
	assert_int_equal(h.coordinator_path[0], 0);
	assert_memory_not_equal(h.cid.b, before.cid.b, sizeof(h.cid.b));
	assert_int_equal(open_as("b2", 0), EXIT_IMAGE);
	assert_said("/b1", "was modified", NULL);
}

static void decided(void **state)
{
	struct chain_header before, h;

	(void)state;
	make_set();
	decide();
	load("b1", &before);
	assert_int_equal(open_as("b2", WALK_READ_ONLY), 0);
	assert_int_equal(open_as("b1", WALK_READ_ONLY), 0);
	assert_int_equal(open_as("r2", WALK_READ_ONLY), 0);
	load("b1", &h);
	assert_memory_equal(&h, &before, sizeof(h));
	assert_true(marks_of("r2") & DM_CHAIN_MARK_PENDING);
	/* The new top: what it stands on is sealed first. */
	assert_int_equal(open_as("b2", 0), 0);
	load("b1", &h);
	assert_int_equal(h.marks, DM_CHAIN_MARK_SEALED);
	assert_memory_equal(h.cid.b, before.cid.b, sizeof(h.cid.b));
	assert_memory_equal(h.sealed_by.b, before.sealed_by.b,
			    sizeof(h.sealed_by.b));
	assert_int_equal(open_as("r2", 0), 0);
	assert_false(marks_of("r2") & DM_CHAIN_MARK_PENDING);
}

static void decided_old_top_first(void **state)
{
	(void)state;
	make_set();
	decide();
	assert_int_equal(open_as("b1", 0), EXIT_REFUSED);
	assert_said("/b1: sealed", "/b2", NULL);
	assert_int_equal(marks_of("b1"), DM_CHAIN_MARK_SEALED);
	assert_int_equal(open_as("b2", 0), 0);
}

/* An older or another set is no answer, and neither is none. */
static void another_decision(void **state)
{
	struct chain_header h;

	(void)state;
	make_set();
	load("a1", &h);
	id_random(&h.decision);
	store("a1", &h);
	assert_int_equal(open_as("b2", 0), EXIT_IMAGE);
	load("b1", &h);
	memset(&h.group, 0, sizeof(h.group));
	store("b1", &h);
	load("a1", &h);
	memset(&h.decision, 0, sizeof(h.decision));
	store("a1", &h);
	assert_int_equal(open_as("b2", 0), EXIT_IMAGE);
}

static void no_coordinator(void **state)
{
	char id[37];
	struct chain_header a;

	(void)state;
	make_set();
	decide();
	load("a1", &a);
	id_text(&a.uuid, id);
	assert_int_equal(rename("a1", "elsewhere"), 0);
	assert_int_equal(open_as("b1", 0), EXIT_IMAGE);
	assert_said("/b1", id, "/a1", "recover --assume", NULL);
	assert_int_equal(open_as("b2", 0), EXIT_IMAGE);
	assert_said("recover --assume", NULL);
	assert_int_equal(open_as("b2", WALK_READ_ONLY), EXIT_IMAGE);
	assert_int_equal(open_as("r2", 0), EXIT_IMAGE);
	/* Reading the old top needs no answer. */
	assert_int_equal(open_as("b1", WALK_READ_ONLY), 0);
	/* Another layer of that name is none either. */
	assert_int_equal(run("create", "a1", "--size", "8M", NULL), 0);
	assert_int_equal(open_as("b2", 0), EXIT_IMAGE);
	assert_said("recover --assume", NULL);
	assert_true(marks_of("b1") & DM_CHAIN_MARK_PENDING);
	assert_int_equal(rename("elsewhere", "a1"), 0);
	assert_int_equal(open_as("b2", 0), 0);
}

/* Nothing else may be done with what waits. */
static void others_keep_off(void **state)
{
	(void)state;
	make_set();
	assert_int_equal(run("new-id", "b1", NULL), EXIT_REFUSED);
	assert_said("/b1", "dmchain recover", NULL);
	assert_int_equal(run("resize", "./b1", "9M", NULL), EXIT_REFUSED);
	assert_int_equal(run("unseal", "b1", NULL), EXIT_REFUSED);
	assert_int_equal(run("check", "b1", "--repair", NULL), EXIT_REFUSED);
	assert_int_equal(run("create", "c", "--backing", "b1",
			     "--backing-format", "chain", NULL), EXIT_IMAGE);
	assert_true(marks_of("b1") & DM_CHAIN_MARK_PENDING);
}

static void info_and_check_tell(void **state)
{
	json_object *o, *l;
	char id[37];

	(void)state;
	make_set();
	decide();
	o = run_json("info", "./b1", NULL);
	l = json_object_array_get_idx(json_at(o, "layers"), 0);
	assert_non_null(json_at(l, "coordinator"));
	json_object_put(o);
	o = run_json("info", "./a1", NULL);
	l = json_object_array_get_idx(json_at(o, "layers"), 0);
	assert_string_equal(json_object_get_string(json_at(l, "decision")),
			    id_text(&group, id));
	json_object_put(o);
	assert_int_equal(run("info", "./b1", NULL), 0);
	assert_non_null(strstr(output(), "pending"));
	assert_non_null(strstr(output(), "waits for"));
	assert_int_equal(run("check", "b1", NULL), 0);
	assert_non_null(strstr(output(), "pending: "));
	assert_int_equal(run("check", "a1", NULL), 0);
	assert_non_null(strstr(output(), "decision: "));
}

/* A copy with an id of its own is asked by nobody. */
static void copies_decide_nothing(void **state)
{
	struct chain_header h;

	(void)state;
	make_set();
	decide();
	assert_int_equal(run("new-id", "a1", NULL), 0);
	load("a1", &h);
	assert_true(chain_id_is_null(&h.decision));
}

/* --- pivots --- */

static void retire(const char *source, const char *copy, struct chain_header *h)
{
	struct chain_header c;

	load(source, h);
	load(copy, &c);
	h->marks |= DM_CHAIN_MARK_RETIRED;
	h->sealed_by = c.uuid;
	h->job = c.job;
	strcpy(h->child_path, copy);
}

static void make_copy(const char *source, const char *copy)
{
	struct chain_header h, s;

	assert_int_equal(run("create", source, "--size", "8M", NULL), 0);
	assert_int_equal(run("create", copy, "--size", "8M", NULL), 0);
	load(source, &s);
	load(copy, &h);
	h.marks |= DM_CHAIN_MARK_PREPARED;
	id_random(&h.job);
	h.coordinator = s.uuid;
	strcpy(h.child_path, source);
	store(copy, &h);
}

static void make_pivots(void)
{
	struct chain_header h, a;

	make_copy("a1", "a2");
	make_copy("b1", "b2");
	id_random(&group);
	load("a1", &a);
	retire("b1", "b2", &h);
	h.marks |= DM_CHAIN_MARK_PENDING;
	h.group = group;
	h.coordinator = a.uuid;
	strcpy(h.coordinator_path, "a1");
	/* Its changes are tracked until that is decided. */
	h.marks |= DM_CHAIN_MARK_JOB;
	h.record.type = DM_CHAIN_RECORD_MIRROR;
	h.record.base_format = DM_CHAIN_FORMAT_CHAIN;
	h.record.base = h.sealed_by;
	h.record.c0 = h.cid;
	store("b1", &h);
}

static void decide_pivots(void)
{
	struct chain_header h;

	retire("a1", "a2", &h);
	h.decision = group;
	store("a1", &h);
}

static void pivots_not_decided(void **state)
{
	struct chain_header before, h;

	(void)state;
	make_pivots();
	assert_int_equal(open_as("a2", 0), EXIT_IMAGE);
	assert_said("/a2", "not decided", NULL);
	assert_int_equal(open_as("b2", 0), EXIT_IMAGE);
	assert_said("/b2", "not decided", NULL);
	assert_int_equal(open_as("a1", 0), 0);
	load("b1", &before);
	assert_int_equal(open_as("b1", 0), 0);
	load("b1", &h);
	assert_int_equal(h.marks, 0);
	assert_true(chain_id_is_null(&h.sealed_by));
	assert_true(chain_id_is_null(&h.job));
	assert_true(chain_id_is_null(&h.coordinator));
	assert_memory_not_equal(h.cid.b, before.cid.b, sizeof(h.cid.b));
	assert_int_equal(open_as("b2", 0), EXIT_IMAGE);
}

static void pivots_decided(void **state)
{
	(void)state;
	make_pivots();
	decide_pivots();
	assert_int_equal(open_as("a1", 0), EXIT_IMAGE);
	assert_said("/a1: retired", "/a2", NULL);
	assert_int_equal(open_as("b2", WALK_READ_ONLY), 0);
	assert_true(marks_of("b2") & DM_CHAIN_MARK_PREPARED);
	assert_int_equal(open_as("b2", 0), 0);
	assert_int_equal(marks_of("b2"), 0);
	assert_int_equal(open_as("b1", 0), EXIT_IMAGE);
	assert_said("/b1: retired", "/b2", NULL);
	assert_int_equal(marks_of("b1"), DM_CHAIN_MARK_RETIRED);
	assert_int_equal(open_as("a2", 0), 0);
}

/* A raw copy has no id, by which its source could be sealed. */
static void make_pivots_to_raw(void)
{
	struct chain_header h;

	make_pivots();
	load("b1", &h);
	memset(&h.sealed_by, 0, sizeof(h.sealed_by));
	h.marks &= ~DM_CHAIN_MARK_JOB;
	memset(&h.record, 0, sizeof(h.record));
	store("b1", &h);
}

static void pivots_to_raw(void **state)
{
	(void)state;
	make_pivots_to_raw();
	assert_int_equal(open_as("b1", WALK_READ_ONLY), 0);
	assert_int_equal(open_as("b1", 0), 0);
	assert_int_equal(marks_of("b1"), 0);
	assert_int_equal(unlink("a1") | unlink("a2") | unlink("b1") | unlink("b2"), 0);
	make_pivots_to_raw();
	decide_pivots();
	assert_int_equal(open_as("b1", 0), EXIT_IMAGE);
	assert_said("/b1: retired", "/b2", NULL);
	assert_int_equal(marks_of("b1"), DM_CHAIN_MARK_RETIRED);
}

static void recover_with_a_raw_copy(void **state)
{
	(void)state;
	make_pivots_to_raw();
	assert_int_equal(recover_closed("b1", NULL), 0);
	assert_int_equal(marks_of("b1"), 0);
	assert_int_equal(open_as("b1", 0), 0);
}

/* Of another job than the one that made the copy. */
static void pivot_of_another_job(void **state)
{
	struct chain_header h;

	(void)state;
	make_pivots();
	decide_pivots();
	load("a1", &h);
	id_random(&h.job);
	store("a1", &h);
	assert_int_equal(open_as("a2", 0), EXIT_IMAGE);
	assert_said("/a2", "not decided", NULL);
}

/* --- recover PATH --- */

static void recover_asks(void **state)
{
	(void)state;
	make_pivots();
	assert_int_equal(-recover_closed("a2", NULL), EXIT_IMAGE);
	assert_int_equal(-recover_closed("a2", "committed"), EXIT_REFUSED);
	assert_said("/a2: was aborted", NULL);
	decide_pivots();
	assert_int_equal(-recover_closed("b1", "aborted"), EXIT_REFUSED);
	assert_said("/b1: was committed", NULL);
	assert_int_equal(recover_closed("b1", NULL), 0);
	assert_int_equal(marks_of("b1"), DM_CHAIN_MARK_RETIRED);
	assert_int_equal(recover_closed("b2", NULL), 0);
	assert_int_equal(marks_of("b2"), 0);
	assert_int_equal(recover_closed("a2", "committed"), 0);
	assert_int_equal(-recover_closed("a2", "committed"), EXIT_FAILED);
	assert_said("nothing to assume", NULL);
}

static void recover_is_told(void **state)
{
	(void)state;
	make_pivots();
	decide_pivots();
	assert_int_equal(unlink("a1"), 0);
	assert_int_equal(-recover_closed("a2", NULL), EXIT_IMAGE);
	assert_said("/a2", "recover --assume", NULL);
	assert_int_equal(-recover_closed("a2", "aborted"), EXIT_IMAGE);
	assert_int_equal(recover_closed("a2", "committed"), 0);
	assert_int_equal(open_as("a2", 0), 0);
	assert_int_equal(-recover_closed("b1", NULL), EXIT_IMAGE);
	assert_int_equal(recover_closed("b1", "committed"), 0);
	assert_int_equal(open_as("b1", 0), EXIT_IMAGE);
	assert_int_equal(open_as("b2", 0), 0);
}

static void recover_is_told_of_a_snapshot(void **state)
{
	(void)state;
	make_set();
	assert_int_equal(unlink("a1"), 0);
	assert_int_equal(recover_closed("b1", "aborted"), 0);
	assert_int_equal(open_as("b1", 0), 0);
	assert_int_equal(-recover_closed("r2", "aborted"), EXIT_IMAGE);
	assert_int_equal(recover_closed("r2", "committed"), 0);
	assert_int_equal(open_as("r2", 0), 0);
}

/* It is there, and only can't be read now: what it says is not to be overruled. */
static void recover_is_not_told_of_what_is_there(void **state)
{
	struct chain_header before, h;
	struct image writer;

	(void)state;
	make_pivots();
	decide_pivots();
	load("b1", &before);
	assert_int_equal(image_open(&writer, "a1", DM_CHAIN_FORMAT_CHAIN,
				    IMAGE_WRITE | IMAGE_ANY_MARK), 0);
	assert_int_equal(-recover_closed("b1", "aborted"), EXIT_REFUSED);
	assert_said("/a1", "another command", NULL);
	assert_int_equal(-recover_closed("a2", "committed"), EXIT_REFUSED);
	image_close(&writer);
	assert_int_equal(rename("a1", "elsewhere"), 0);
	assert_int_equal(mkdir("a1", 0700), 0);
	assert_int_equal(-recover_closed("b1", "aborted"), EXIT_IMAGE);
	assert_said("/a1", NULL);
	assert_int_equal(rmdir("a1"), 0);
	assert_int_equal(symlink("a1", "a1"), 0);
	assert_int_equal(-recover_closed("b1", "aborted"), EXIT_FAILED);
	assert_int_equal(-recover_closed("a2", "committed"), EXIT_FAILED);
	load("b1", &h);
	assert_memory_equal(&h, &before, sizeof(h));
	assert_true(marks_of("a2") & DM_CHAIN_MARK_PREPARED);
	/* Another layer there: then it is lost. */
	assert_int_equal(unlink("a1"), 0);
	assert_int_equal(run("create", "a1", "--size", "8M", NULL), 0);
	assert_int_equal(recover_closed("b1", "committed"), 0);
	assert_int_equal(recover_closed("a2", "committed"), 0);
}

/* Relative to what? */
static void no_path_to_ask_from(void **state)
{
	char arg[16];
	int fd;

	(void)state;
	make_set();
	fd = open("b1", O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(unlink("b1"), 0);
	snprintf(arg, sizeof(arg), "fd:%d", fd);
	assert_int_equal(open_as(arg, 0), EXIT_FAILED);
	assert_said(arg, "has no path", "(a1)", NULL);
	close(fd);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, images_setup, images_teardown)
	const struct CMUnitTest tests[] = {
		TEST(not_decided),
		TEST(decided),
		TEST(decided_old_top_first),
		TEST(another_decision),
		TEST(no_coordinator),
		TEST(others_keep_off),
		TEST(info_and_check_tell),
		TEST(copies_decide_nothing),
		TEST(pivots_not_decided),
		TEST(pivots_decided),
		TEST(pivots_to_raw),
		TEST(recover_with_a_raw_copy),
		TEST(pivot_of_another_job),
		TEST(recover_asks),
		TEST(recover_is_told),
		TEST(recover_is_told_of_a_snapshot),
		TEST(recover_is_not_told_of_what_is_there),
		TEST(no_path_to_ask_from),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
