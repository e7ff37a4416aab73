// SPDX-License-Identifier: GPL-2.0-or-later
// sources: tests/unit/images.c tests/unit/stub-online.c kmod/dm-chain-format.c userspace/lib-crc.c userspace/msg.c userspace/size.c userspace/args.c userspace/fdarg.c userspace/path.c userspace/host.c userspace/image.c userspace/image-io.c userspace/marks.c userspace/make.c userspace/raw.c userspace/walk.c userspace/pending.c userspace/imgmap.c userspace/walkmap.c userspace/view.c userspace/seal.c userspace/rebase-copy.c userspace/show.c userspace/cmd-create.c userspace/cmd-info.c userspace/cmd-map.c userspace/cmd-check.c userspace/cmd-compare.c userspace/cmd-new-id.c userspace/cmd-unseal.c userspace/cmd-rebase.c userspace/cmd-resize.c userspace/picture.c userspace/picture-svg.c userspace/picture-text.c userspace/show-tree.c
// libs: -ljson-c
/*
 * Headers and links of closed images: how they are made, that each update
 * survives a cut at any point, and that each chain that doesn't fit together is
 * refused with its exit code and the words that help.
 */
#include "images.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <fcntl.h>
#include <unistd.h>

#define BACKING(path, format) "--backing", path, "--backing-format", format

static void make_chain(void)
{
	assert_int_equal(run("create", "base", "--size", "64M", NULL), 0);
	assert_int_equal(run("create", "mid", BACKING("base", "chain"), NULL), 0);
	assert_int_equal(run("create", "top", BACKING("mid", "chain"), NULL), 0);
}

static int open_rw(const char *path)
{
	struct walk w;
	int ret = walk_open(&w, path, DM_CHAIN_FORMAT_CHAIN, 0);

	walk_close(&w);
	return -ret;
}

static int open_ro(const char *path)
{
	struct walk w;
	int ret = walk_open(&w, path, DM_CHAIN_FORMAT_CHAIN, WALK_READ_ONLY);

	walk_close(&w);
	return -ret;
}

/* create */

static void create_plain(void **state)
{
	static struct chain_header h;
	struct stat st;

	(void)state;
	assert_int_equal(run("create", "a", "--size", "10G", NULL), 0);
	load("a", &h);
	assert_int_equal(h.size, 10 * GIB);
	assert_int_equal(h.max_size, TIB);
	assert_int_equal(h.block_shift, 12);
	assert_int_equal(h.generation, 1);
	assert_int_equal(h.marks, 0);
	assert_int_equal(h.limit, 0);
	assert_int_equal(h.parent.format, DM_CHAIN_FORMAT_NONE);
	assert_false(chain_id_is_null(&h.cid));
	assert_int_equal(stat("a", &st), 0);
	assert_int_equal(st.st_size, chain_layer_bytes(&h));
	assert_true(st.st_blocks * 512 < (off_t)MIB);
	assert_int_equal(run("check", "a", NULL), 0);
}

static void create_with_all_options(void **state)
{
	static struct chain_header a, b;

	(void)state;
	assert_int_equal(run("create", "a", "--size=1.5G", "--block-size", "64K",
			     "--max-size", "2G", NULL), 0);
	assert_int_equal(run("create", "b", "--size", "8T", "--block-size",
			     "1M", NULL), 0);
	load("a", &a);
	load("b", &b);
	assert_int_equal(a.size, 3 * GIB / 2);
	assert_int_equal(a.block_shift, 16);
	assert_int_equal(a.max_size, 2 * GIB);
	assert_int_equal(b.size, 8 * TIB);
	assert_int_equal(b.max_size, 64 * TIB);
	assert_int_not_equal(a.map_seed, b.map_seed);
	assert_false(chain_id_equal(&a.uuid, &b.uuid));
	assert_false(chain_id_equal(&a.cid, &b.cid));
}

static void create_usage(void **state)
{
	static const char * const wrong[][6] = {
		{ "a" },
		{ "a", "--size", "0" },
		{ "a", "--size", "1000" },
		{ "a", "--size", "65T" },
		{ "a", "--size", "99999999999999999999" },
		{ "a", "--size", "1G", "--block-size", "5000" },
		{ "a", "--size", "1G", "--block-size", "2K" },
		{ "a", "--size", "1G", "--block-size", "2M" },
		{ "a", "--size", "1G", "--max-size", "1M" },
		{ "a", "--size", "1G", "--backing", "b" },
		{ "a", "--size", "1G", "--backing-format", "raw" },
		{ "a", "--size", "1G", "--nonsense" },
		{ "a", "--size" },
		{ "a", "b", "--size", "1G" },
		{ "--size", "1G" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(wrong); i++) {
		const char * const *w = wrong[i];

		assert_int_equal(run("create", w[0], w[1], w[2], w[3], w[4],
				     w[5], NULL), EXIT_USAGE);
		assert_false(exists("a"));
	}
	assert_int_equal(run("create", "a", "--backing", "b", "--backing-format",
			     "qcow2", NULL), EXIT_USAGE);
}

static void create_seals_its_parent(void **state)
{
	static struct chain_header base, one, two;

	(void)state;
	assert_int_equal(run("create", "base", "--size", "64M", NULL), 0);
	assert_int_equal(run("create", "one", BACKING("base", "chain"), NULL), 0);
	load("base", &base);
	load("one", &one);
	assert_int_equal(base.marks, DM_CHAIN_MARK_SEALED);
	assert_true(chain_id_equal(&base.sealed_by, &one.uuid));
	assert_string_equal(base.child_path, "one");
	assert_int_equal(one.parent.format, DM_CHAIN_FORMAT_CHAIN);
	assert_true(chain_id_equal(&one.parent.uuid, &base.uuid));
	assert_true(chain_id_equal(&one.parent.cid, &base.cid));
	assert_int_equal(one.parent.size, 64 * MIB);
	assert_int_equal(one.size, 64 * MIB);
	assert_int_equal(one.limit, 64 * MIB);
	assert_int_equal(run("create", "two", BACKING("base", "chain"), NULL), 0);
	load("base", &base);
	load("two", &two);
	assert_int_equal(base.marks, DM_CHAIN_MARK_SEALED |
			 DM_CHAIN_MARK_MANY_CHILDREN);
	assert_true(chain_id_equal(&base.sealed_by, &one.uuid));
	assert_int_equal(open_rw("one"), 0);
	assert_int_equal(open_rw("two"), 0);
}

static void create_other_sizes(void **state)
{
	static struct chain_header h;

	(void)state;
	assert_int_equal(run("create", "base", "--size", "64M", NULL), 0);
	assert_int_equal(run("create", "less", "--size", "32M",
			     BACKING("base", "chain"), NULL), 0);
	assert_int_equal(run("create", "more", "--size", "96M",
			     BACKING("base", "chain"), NULL), 0);
	load("less", &h);
	assert_int_equal(h.limit, 32 * MIB);
	load("more", &h);
	assert_int_equal(h.limit, 64 * MIB);
}

static void create_on_raw(void **state)
{
	static struct chain_header h;
	struct chain_id fp;
	struct image raw;

	(void)state;
	make_raw("raw", 5 * MIB + 512);
	spoil("raw", 70000);
	assert_int_equal(run("create", "a", BACKING("raw", "raw"), NULL), 0);
	load("a", &h);
	assert_int_equal(image_open(&raw, "raw", DM_CHAIN_FORMAT_RAW, 0), 0);
	assert_int_equal(raw_fingerprint(&raw, &fp), 0);
	image_close(&raw);
	assert_int_equal(h.size, 5 * MIB + 512);
	assert_int_equal(h.parent.size, 5 * MIB + 512);
	assert_int_equal(h.parent.format, DM_CHAIN_FORMAT_RAW);
	assert_true(chain_id_is_null(&h.parent.uuid));
	assert_true(chain_id_equal(&h.parent.cid, &fp));
	assert_int_equal(open_rw("a"), 0);
	make_raw("odd", 1000);
	assert_int_equal(run("create", "b", BACKING("odd", "raw"), NULL),
			 EXIT_IMAGE);
	make_raw("empty", 0);
	assert_int_equal(run("create", "b", BACKING("empty", "raw"), NULL),
			 EXIT_IMAGE);
	assert_int_equal(run("create", "b", BACKING("raw", "chain"), NULL),
			 EXIT_IMAGE);
	assert_said("raw", "no chain header", NULL);
	assert_false(exists("b"));
}

static void create_keeps_what_is_there(void **state)
{
	char text[4] = "abc", now[4];

	(void)state;
	make_raw("a", 4);
	poke("a", 0, text, 4);
	assert_int_equal(run("create", "a", "--size", "1G", NULL), EXIT_FAILED);
	assert_said("/a: exists", NULL);
	peek("a", 0, now, 4);
	assert_memory_equal(text, now, 4);
	assert_int_equal(symlink("nowhere", "link"), 0);
	assert_int_equal(run("create", "link", "--size", "1G", NULL), EXIT_FAILED);
	assert_false(exists("nowhere"));
	assert_int_equal(run("create", "no/a", "--size", "1G", NULL), EXIT_FAILED);
	assert_int_equal(mkdir("dir", 0700), 0);
	assert_int_equal(run("create", "dir", "--size", "1G", NULL), EXIT_FAILED);
}

/* Hints: relative ones count from the real folder of who has them. */
static void hints_and_moves(void **state)
{
	static struct chain_header h;
	char absolute[4096];

	(void)state;
	assert_int_equal(mkdir("x", 0700) | mkdir("y", 0700), 0);
	assert_int_equal(run("create", "x/base", "--size", "8M", NULL), 0);
	assert_int_equal(run("create", "y/top", BACKING("x/base", "chain"), NULL),
			 0);
	load("y/top", &h);
	assert_string_equal(h.parent_path, "../x/base");
	load("x/base", &h);
	assert_string_equal(h.child_path, "../y/top");
	assert_int_equal(mkdir("z", 0700), 0);
	assert_int_equal(rename("x", "z/x") | rename("y", "z/y"), 0);
	assert_int_equal(open_rw("z/y/top"), 0);
	assert_int_equal(symlink("z/y/top", "link"), 0);
	assert_int_equal(open_rw("link"), 0);
	assert_non_null(realpath("z/x/base", absolute));
	assert_int_equal(run("create", "abs", BACKING(absolute, "chain"), NULL),
			 0);
	load("abs", &h);
	assert_string_equal(h.parent_path, absolute);
	assert_int_equal(rename("abs", "z/x/abs"), 0);
	assert_int_equal(open_rw("z/x/abs"), 0);
}

static void hints_too_long(void **state)
{
	static struct chain_header h;
	char part[202], name[1030];
	int i;

	(void)state;
	assert_int_equal(run("create", "base", "--size", "8M", NULL), 0);
	memset(part, 'd', 200);
	part[200] = '/';
	part[201] = '\0';
	strcpy(name, "./");
	for (i = 0; i < 5; i++) {
		strcat(name, part);
		assert_int_equal(mkdir(name, 0700), 0);
	}
	strcat(name, "long-file-name-xyz123");
	/* As a parent, and as the child that its parent is to name. */
	assert_int_equal(run("create", name, BACKING("base", "chain"), NULL),
			 EXIT_FAILED);
	assert_said("too long", NULL);
	assert_false(exists(name));
	load("base", &h);
	assert_int_equal(h.marks, 0);
	assert_int_equal(run("create", name, "--size", "8M", NULL), 0);
	assert_int_equal(run("create", "top", BACKING(name, "chain"), NULL),
			 EXIT_FAILED);
	assert_false(exists("top"));
}

static void create_on_what_is_in_use(void **state)
{
	static struct chain_header h;

	(void)state;
	assert_int_equal(run("create", "base", "--size", "8M", NULL), 0);
	stub_holder = "base";
	stub_holder_writes = true;
	assert_int_equal(run("create", "a", BACKING("base", "chain"), NULL),
			 EXIT_REFUSED);
	assert_said("base", "vm1", "dmchain snapshot vm1=a", NULL);
	assert_int_equal(run("create", "a", BACKING("base", "raw"), NULL),
			 EXIT_REFUSED);
	assert_false(exists("a"));
	/* Read by a disk: fine, but only the kernel may write its header. */
	stub_holder_writes = false;
	assert_int_equal(run("create", "a", BACKING("base", "chain"), NULL), 0);
	load("base", &h);
	assert_int_equal(h.marks, 0);
	assert_int_equal(h.generation, 1);
}

static void create_on_a_stale_mark(void **state)
{
	static struct chain_header h, child;
	struct chain_id cid;

	(void)state;
	assert_int_equal(run("create", "base", "--size", "8M", NULL), 0);
	load("base", &h);
	h.marks = DM_CHAIN_MARK_IN_USE;
	host_id(&h.use_host);
	id_random(&h.use_nonce);
	cid = h.cid;
	store("base", &h);
	assert_int_equal(run("create", "a", BACKING("base", "chain"), NULL),
			 EXIT_REFUSED);
	assert_said("--force", "not closed", NULL);
	assert_int_equal(run("create", "a", "--force", BACKING("base", "chain"),
			     NULL), 0);
	load("base", &h);
	load("a", &child);
	assert_int_equal(h.marks, DM_CHAIN_MARK_SEALED);
	assert_true(chain_id_is_null(&h.use_nonce));
	assert_false(chain_id_equal(&h.cid, &cid));
	assert_true(chain_id_equal(&child.parent.cid, &h.cid));
	assert_int_equal(open_rw("a"), 0);
}

static void create_on_unfit_parents(void **state)
{
	static const uint32_t marks[] = {
		DM_CHAIN_MARK_INCOMPLETE, DM_CHAIN_MARK_PREPARED,
		DM_CHAIN_MARK_SPOILED, DM_CHAIN_MARK_RETIRED,
		DM_CHAIN_MARK_PENDING,
	};
	static struct chain_header good, h;
	size_t i;

	(void)state;
	assert_int_equal(run("create", "base", "--size", "8M", NULL), 0);
	load("base", &good);
	for (i = 0; i < ARRAY_SIZE(marks); i++) {
		h = good;
		h.marks = marks[i];
		store("base", &h);
		assert_int_equal(run("create", "a", BACKING("base", "chain"),
				     NULL), EXIT_IMAGE);
		assert_false(exists("a"));
	}
	h = good;
	h.compat_ro = 1;
	store("base", &h);
	assert_int_equal(run("create", "a", BACKING("base", "chain"), NULL), 0);
	load("base", &good);
	assert_int_equal(good.marks, 0);
	assert_int_equal(run("create", "b", BACKING("nowhere", "chain"), NULL),
			 EXIT_FAILED);
}

/* Writes behind @bytes of a file fail, until it is said again without. */
static void limit_files(rlim_t bytes)
{
	struct rlimit r;

	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &r), 0);
	r.rlim_cur = bytes ? bytes : r.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &r), 0);
}

static void create_fails_clean(void **state)
{
	static struct chain_header h;
	int ret;

	(void)state;
	assert_int_equal(run("create", "base", "--size", "8M", NULL), 0);
	limit_files(1 * MIB);
	ret = run("create", "a", BACKING("base", "chain"), NULL);
	limit_files(0);
	assert_int_equal(ret, EXIT_FAILED);
	assert_said("/a", NULL);
	assert_false(exists("a"));
	load("base", &h);
	assert_int_equal(h.marks, 0);
}

/* header slots */

static void one_damaged_slot_is_enough(void **state)
{
	static const uint64_t at[] = { 0, DM_CHAIN_SLOT1_OFFSET };
	static struct chain_header h, now;
	size_t i;

	(void)state;
	for (i = 0; i < 2; i++) {
		make_chain();
		load("top", &h);
		spoil("top", at[i] + 700);
		assert_int_equal(open_rw("top"), 0);
		load("top", &now);
		assert_memory_equal(&h, &now, sizeof(h));
		/* The next update mends it. */
		store("top", &h);
		spoil("top", at[!i] + 3000);
		assert_int_equal(open_rw("top"), 0);
		unlink("top");
		unlink("mid");
		unlink("base");
	}
}

static void both_damaged_slots_are_too_much(void **state)
{
	uint8_t slots[2][DM_CHAIN_HEADER_BYTES];
	int i;

	(void)state;
	make_chain();
	for (i = 0; i < 2; i++)
		peek("mid", i * DM_CHAIN_SLOT1_OFFSET, slots[i],
		     sizeof(slots[i]));
	spoil("mid", 100);
	spoil("mid", DM_CHAIN_SLOT1_OFFSET + 100);
	assert_int_equal(open_rw("top"), EXIT_IMAGE);
	assert_said("/mid (parent of", "/top)", "checksum", NULL);
	assert_int_equal(run("info", "mid", NULL), EXIT_IMAGE);
	assert_int_equal(run("check", "mid", "--repair", NULL), EXIT_IMAGE);
	assert_int_equal(run("create", "a", BACKING("mid", "chain"), NULL),
			 EXIT_IMAGE);
	/* One generation, two contents: nobody can tell which holds. */
	poke("mid", 0, slots[0], sizeof(slots[0]));
	slots[1][3000] = 0;
	poke("mid", DM_CHAIN_SLOT1_OFFSET, slots[1], sizeof(slots[1]));
	assert_int_equal(open_rw("top"), 0);
}

static void split_headers_are_refused(void **state)
{
	uint8_t slot[DM_CHAIN_HEADER_BYTES];
	static struct chain_header h;

	(void)state;
	make_chain();
	load("top", &h);
	id_random(&h.cid);
	chain_header_encode(&h, slot);
	poke("top", DM_CHAIN_SLOT1_OFFSET, slot, sizeof(slot));
	assert_int_equal(open_rw("top"), EXIT_IMAGE);
	assert_said("one generation differ", NULL);
	assert_int_equal(run("check", "top", NULL), EXIT_IMAGE);
}

static void unknown_features(void **state)
{
	static struct chain_header h;

	(void)state;
	make_chain();
	load("top", &h);
	h.compat = 1ULL << 40;
	store("top", &h);
	assert_int_equal(open_rw("top"), 0);
	h.compat_ro = 4;
	store("top", &h);
	assert_int_equal(open_rw("top"), EXIT_IMAGE);
	assert_said("0x4", "--read-only", NULL);
	assert_int_equal(open_ro("top"), 0);
	assert_int_equal(run("resize", "./top", "+1M", NULL), EXIT_IMAGE);
	load("mid", &h);
	h.incompat = 2;
	store("mid", &h);
	assert_int_equal(open_ro("top"), EXIT_IMAGE);
	assert_said("/mid", "incompatible feature unknown", "0x2", NULL);
	assert_int_equal(run("create", "a", BACKING("mid", "chain"), NULL),
			 EXIT_IMAGE);
	assert_said("/mid", NULL);
}

static void no_header_at_all(void **state)
{
	(void)state;
	make_raw("raw", 64 * MIB);
	make_raw("tiny", 512);
	make_raw("empty", 0);
	assert_int_equal(open_ro("raw"), EXIT_IMAGE);
	assert_said("/raw: no chain header", "--format raw", NULL);
	assert_int_equal(open_ro("tiny"), EXIT_IMAGE);
	assert_said("no chain header", NULL);
	assert_int_equal(open_ro("empty"), EXIT_IMAGE);
	assert_int_equal(run("info", "raw", "--format", "raw", NULL), 0);
	assert_int_equal(run("info", "./nowhere", NULL), EXIT_FAILED);
	assert_int_equal(run("info", "/dev/null", NULL), EXIT_IMAGE);
	assert_int_equal(run("info", ".", NULL), EXIT_IMAGE);
}

/* Torn updates */

struct slots {
	uint8_t b[2][DM_CHAIN_HEADER_BYTES];
};

static void read_both(const char *path, struct slots *s)
{
	peek(path, 0, s->b[0], sizeof(s->b[0]));
	peek(path, DM_CHAIN_SLOT1_OFFSET, s->b[1], sizeof(s->b[1]));
}

static void write_both(const char *path, const struct slots *s)
{
	poke(path, 0, s->b[0], sizeof(s->b[0]));
	poke(path, DM_CHAIN_SLOT1_OFFSET, s->b[1], sizeof(s->b[1]));
}

/* The sectors of @mask come from @new. */
static void mix(uint8_t *slot, const uint8_t *new, unsigned int mask)
{
	unsigned int i;

	for (i = 0; i < 8; i++)
		if (mask & 1U << i)
			memcpy(slot + i * 512, new + i * 512, 512);
}

static uint64_t generation_now(const char *path)
{
	static struct chain_header h;

	load(path, &h);
	return h.generation;
}

/*
 * Every subset of the sectors of the first slot to be written while the second
 * is untouched, then of the second with the first complete: the old header, up
 * to the moment when the first slot is whole, and the new one from then on.
 */
static void cut_everywhere(const char *path, int first, const struct slots *old,
			   const struct slots *new, uint64_t generation)
{
	struct slots s;
	unsigned int mask;

	for (mask = 0; mask < 256; mask++) {
		s = *old;
		mix(s.b[first], new->b[first], mask);
		write_both(path, &s);
		assert_int_equal(generation_now(path) - generation,
				 !memcmp(s.b[first], new->b[first],
					 sizeof(s.b[first])));
	}
	for (mask = 0; mask < 256; mask++) {
		s = *new;
		memcpy(s.b[!first], old->b[!first], sizeof(s.b[0]));
		mix(s.b[!first], new->b[!first], mask);
		write_both(path, &s);
		assert_int_equal(generation_now(path) - generation, 1);
	}
}

/* Changes spread over the header, so that its sectors differ. */
static void update(const char *path)
{
	static struct chain_header h;
	struct image img;

	assert_int_equal(image_open(&img, path, DM_CHAIN_FORMAT_CHAIN,
				    IMAGE_WRITE | IMAGE_ANY_MARK), 0);
	id_random(&img.hdr.cid);
	memset(img.hdr.child_path, 'a' + (int)(rng() % 26), 1000);
	memset(img.hdr.parent_path, 'a' + (int)(rng() % 26), 1000);
	assert_int_equal(image_write_header(&img), 0);
	h = img.hdr;
	image_close(&img);
	assert_int_equal(generation_now(path), h.generation);
}

static void updates_cut_anywhere(void **state)
{
	struct slots old, new;

	(void)state;
	assert_int_equal(run("create", "a", "--size", "8M", NULL), 0);
	update("a");
	read_both("a", &old);
	update("a");
	read_both("a", &new);
	cut_everywhere("a", 0, &old, &new, 2);
}

/* Slot 1 was left behind: it goes first, as slot 0 is the only one. */
static void updates_cut_with_a_stale_slot(void **state)
{
	struct slots older, old, new;

	(void)state;
	assert_int_equal(run("create", "a", "--size", "8M", NULL), 0);
	update("a");
	read_both("a", &older);
	update("a");
	read_both("a", &old);
	memcpy(old.b[1], older.b[1], sizeof(old.b[1]));
	write_both("a", &old);
	update("a");
	read_both("a", &new);
	assert_memory_equal(new.b[0], new.b[1], sizeof(new.b[0]));
	cut_everywhere("a", 1, &old, &new, 3);
}

/* Writes to slot 1 fail: what becomes of slot 0 tells which comes first. */
static void fail_slot_1(const char *path)
{
	struct image img;

	assert_int_equal(image_open(&img, path, DM_CHAIN_FORMAT_CHAIN,
				    IMAGE_WRITE), 0);
	limit_files(DM_CHAIN_SLOT1_OFFSET);
	assert_int_equal(image_write_header(&img), -EXIT_FAILED);
	limit_files(0);
	image_close(&img);
}

static void the_stale_slot_comes_first(void **state)
{
	struct slots before, after;

	(void)state;
	assert_int_equal(run("create", "a", "--size", "8M", NULL), 0);
	read_both("a", &before);
	fail_slot_1("a");
	read_both("a", &after);
	assert_memory_equal(before.b[1], after.b[1], sizeof(before.b[1]));
	assert_int_equal(generation_now("a"), 2);
	/* Slot 1 is behind now: slot 0 must not be touched before it. */
	fail_slot_1("a");
	read_both("a", &before);
	assert_memory_equal(&before, &after, sizeof(before));
	spoil("a", DM_CHAIN_SLOT1_OFFSET);
	read_both("a", &before);
	fail_slot_1("a");
	read_both("a", &after);
	assert_memory_equal(&before, &after, sizeof(before));
	update("a");
	assert_int_equal(generation_now("a"), 3);
}

static void another_writer_is_noticed(void **state)
{
	struct image img;

	(void)state;
	assert_int_equal(run("create", "a", "--size", "8M", NULL), 0);
	assert_int_equal(image_open(&img, "a", DM_CHAIN_FORMAT_CHAIN,
				    IMAGE_WRITE), 0);
	/* As a host that knows of no locks would. */
	assert_int_equal(flock(img.fd, LOCK_UN), 0);
	update("a");
	assert_int_equal(image_write_header(&img), -EXIT_REFUSED);
	assert_said("somebody else", NULL);
	image_close(&img);
}

static void locks_and_holders(void **state)
{
	struct image one, two;

	(void)state;
	assert_int_equal(run("create", "a", "--size", "8M", NULL), 0);
	assert_int_equal(image_open(&one, "a", DM_CHAIN_FORMAT_CHAIN, 0), 0);
	assert_int_equal(image_open(&two, "a", DM_CHAIN_FORMAT_CHAIN, 0), 0);
	image_close(&two);
	assert_int_equal(image_open(&two, "a", DM_CHAIN_FORMAT_CHAIN,
				    IMAGE_WRITE), -EXIT_REFUSED);
	assert_said("another command", NULL);
	image_release(&one);
	assert_int_equal(image_open(&two, "a", DM_CHAIN_FORMAT_CHAIN,
				    IMAGE_WRITE), 0);
	image_close(&two);
	image_close(&one);
	stub_holder = "a";
	assert_int_equal(image_open(&two, "a", DM_CHAIN_FORMAT_CHAIN,
				    IMAGE_WRITE), -EXIT_REFUSED);
	assert_said("disk vm1", "dmchain close vm1", NULL);
	image_close(&two);
	assert_int_equal(open_ro("a"), 0);
}

/* Another command had the lock, and what it has made of the image is live now. */
static void open_by_the_time_of_the_lock(void **state)
{
	static struct slots before, after;

	(void)state;
	assert_int_equal(run("create", "base", "--size", "8M", NULL), 0);
	assert_int_equal(run("create", "top", BACKING("base", "chain"), NULL), 0);
	read_both("base", &before);
	stub_holder = "base";
	stub_holder_writes = stub_holder_late = true;
	assert_int_equal(run("unseal", "./base", NULL), EXIT_REFUSED);
	assert_said("/base: in use", "disk vm1", NULL);
	assert_int_equal(run("check", "--repair", "./base", NULL), EXIT_REFUSED);
	assert_int_equal(run("create", "a", BACKING("base", "chain"), NULL),
			 EXIT_REFUSED);
	assert_int_equal(run("create", "a", BACKING("base", "raw"), NULL),
			 EXIT_REFUSED);
	assert_said("open read-write", "dmchain snapshot vm1=a", NULL);
	assert_false(exists("a"));
	read_both("base", &after);
	assert_memory_equal(&before, &after, sizeof(before));
}

/* Neither does a file get longer by it, nor is anything before its end lost. */
static void raw_ends_within_a_window(void **state)
{
	static uint8_t all[MIB + 1536], was[512], is[sizeof(all)];
	struct image img;
	struct stat st;

	(void)state;
	make_raw("r", sizeof(all));
	memset(all, 0x55, sizeof(all));
	memset(was, 0xaa, sizeof(was));
	assert_int_equal(image_open(&img, "r", DM_CHAIN_FORMAT_RAW, IMAGE_WRITE), 0);
	assert_int_equal(image_write(&img, all, sizeof(all), 0), 0);
	assert_int_equal(image_write(&img, was, sizeof(was), MIB + 1024), 0);
	assert_int_equal(image_write(&img, was, sizeof(was), 4096), 0);
	assert_int_equal(image_flush(&img), 0);
	assert_int_equal(image_read(&img, is, sizeof(is), 0), 0);
	image_close(&img);
	memcpy(all + MIB + 1024, was, sizeof(was));
	memcpy(all + 4096, was, sizeof(was));
	assert_memory_equal(is, all, sizeof(all));
	assert_int_equal(stat("r", &st), 0);
	assert_int_equal(st.st_size, sizeof(all));
}

/* walk */

static void parent_not_found(void **state)
{
	(void)state;
	make_chain();
	assert_int_equal(rename("mid", "elsewhere"), 0);
	assert_int_equal(open_rw("top"), EXIT_IMAGE);
	assert_said("/top: its parent is not found", "says mid,", "/mid", NULL);
	assert_int_equal(run("info", "./top", NULL), EXIT_IMAGE);
	assert_non_null(strstr(output(), "/top"));
}

static void parent_is_another_layer(void **state)
{
	static struct chain_header mid, base;
	char want[37], got[37];

	(void)state;
	make_chain();
	load("mid", &mid);
	load("base", &base);
	assert_int_equal(rename("base", "mid"), 0);
	assert_int_equal(open_rw("top"), EXIT_IMAGE);
	assert_said("/mid: not the parent of", "/top", id_text(&mid.uuid, want),
		    id_text(&base.uuid, got), NULL);
}

static void parent_was_modified(void **state)
{
	static struct chain_header before, after;
	char want[37], got[37];

	(void)state;
	make_chain();
	load("base", &before);
	assert_int_equal(run("unseal", "base", NULL), 0);
	load("base", &after);
	assert_int_equal(open_rw("top"), EXIT_IMAGE);
	assert_said("/base: was modified after", "/mid was made",
		    id_text(&before.cid, want), id_text(&after.cid, got), NULL);
	assert_int_equal(open_ro("mid"), EXIT_IMAGE);
	assert_int_equal(open_rw("base"), 0);
	/* info shows it all the same, and says that it isn't well. */
	assert_int_equal(run("info", "./top", NULL), EXIT_IMAGE);
	assert_non_null(strstr(output(), "/base"));
}

static void raw_parent_was_modified(void **state)
{
	(void)state;
	make_raw("raw", 8 * MIB);
	assert_int_equal(run("create", "a", BACKING("raw", "raw"), NULL), 0);
	spoil("raw", 512);
	assert_int_equal(open_rw("a"), EXIT_IMAGE);
	assert_said("/raw: was modified after", "/a", "expects content id", NULL);
	spoil("raw", 512);
	assert_int_equal(open_rw("a"), 0);
	make_raw("raw", 9 * MIB);
	assert_int_equal(open_rw("a"), EXIT_IMAGE);
	assert_said("/raw", "8388608 bytes", "9437184", NULL);
}

static void copies_at_once(void **state)
{
	static struct chain_header h, copy;

	(void)state;
	make_chain();
	assert_int_equal(system("cp base copy"), 0);
	load("copy", &copy);
	load("mid", &h);
	strcpy(h.parent_path, "copy");
	store("mid", &h);
	assert_int_equal(open_rw("top"), 0);
	/* The copy gets a parent link that leads to its original. */
	copy.parent.format = DM_CHAIN_FORMAT_CHAIN;
	copy.parent.uuid = copy.uuid;
	copy.parent.cid = copy.cid;
	copy.parent.size = copy.size;
	strcpy(copy.parent_path, "base");
	store("copy", &copy);
	assert_int_equal(open_rw("top"), EXIT_IMAGE);
	assert_said("same UUID", "/base", "/copy", "new-id", NULL);
}

static void circles(void **state)
{
	static struct chain_header base, top;

	(void)state;
	make_chain();
	load("base", &base);
	load("top", &top);
	base.parent.format = DM_CHAIN_FORMAT_CHAIN;
	base.parent.uuid = top.uuid;
	base.parent.cid = top.cid;
	base.parent.size = top.size;
	strcpy(base.parent_path, "top");
	store("base", &base);
	assert_int_equal(open_ro("top"), EXIT_IMAGE);
	assert_said("/top: the parent links run in a circle", NULL);
	assert_int_equal(run("info", "./top", NULL), EXIT_IMAGE);
	assert_int_equal(run("check", "./top", NULL), EXIT_FAILED);
	/* A hard link is the same file by another name. */
	assert_int_equal(link("top", "link"), 0);
	strcpy(base.parent_path, "link");
	store("base", &base);
	assert_int_equal(open_ro("top"), EXIT_IMAGE);
	assert_said("circle", NULL);
}

/* By hand, as create looks at all of the chain each time. */
static void put_on(const char *child, const char *parent)
{
	static struct chain_header h, p;

	load(parent, &p);
	load(child, &h);
	h.parent.format = DM_CHAIN_FORMAT_CHAIN;
	h.parent.uuid = p.uuid;
	h.parent.cid = p.cid;
	h.parent.size = p.size;
	h.limit = p.size;
	strcpy(h.parent_path, parent);
	store(child, &h);
}

static void too_deep(void **state)
{
	char name[16], below[16];
	struct walk w;
	int i;

	(void)state;
	for (i = 1; i <= DM_CHAIN_MAX_LAYERS; i++) {
		snprintf(name, sizeof(name), "l%d", i);
		snprintf(below, sizeof(below), "l%d", i - 1);
		assert_int_equal(run("create", name, "--size", "1M",
				     "--max-size", "1M", NULL), 0);
		if (i > 1)
			put_on(name, below);
	}
	assert_int_equal(walk_open(&w, name, DM_CHAIN_FORMAT_CHAIN, 0), 0);
	assert_int_equal(w.nr, DM_CHAIN_MAX_LAYERS);
	walk_close(&w);
	assert_int_equal(run("create", "one-more", BACKING(name, "chain"), NULL),
			 EXIT_FAILED);
	assert_said("1024 layers", NULL);
	assert_int_equal(run("create", "one-more", "--size", "1M", NULL), 0);
	put_on("one-more", name);
	assert_int_equal(open_ro("one-more"), EXIT_IMAGE);
	assert_said("more than 1024", NULL);
}

static void truncated(void **state)
{
	static struct chain_header h;

	(void)state;
	make_chain();
	load("base", &h);
	assert_int_equal(truncate("base", (off_t)chain_layer_bytes(&h) - 4096),
			 0);
	assert_int_equal(open_rw("top"), EXIT_IMAGE);
	assert_said("/base", "truncated", NULL);
	assert_int_equal(truncate("base", 4096), 0);
	assert_int_equal(open_rw("top"), EXIT_IMAGE);
}

static void hostile_hints(void **state)
{
	static struct chain_header h;

	(void)state;
	make_chain();
	load("top", &h);
	strcpy(h.parent_path, "no\nsuch\x1b[31m\xff file");
	store("top", &h);
	assert_int_equal(open_rw("top"), EXIT_IMAGE);
	assert_null(strchr(msg_last(), '\n'));
	assert_null(strchr(msg_last(), '\x1b'));
	assert_null(strchr(msg_last(), '\xff'));
	strcpy(h.parent_path, "/dev/zero");
	store("top", &h);
	assert_int_equal(open_rw("top"), EXIT_IMAGE);
	*h.parent_path = '\0';
	store("top", &h);
	assert_int_equal(open_rw("top"), EXIT_IMAGE);
	assert_said("no path", NULL);
	strcpy(h.parent_path, "./././base/../base");
	store("top", &h);
	assert_int_equal(open_rw("top"), EXIT_IMAGE);
}

struct mark_case {
	uint32_t marks;
	int rw;
	int ro;
	int lower;
};

static void marks_decide(void **state)
{
	static const struct mark_case cases[] = {
		{ 0, 0, 0, 0 },
		{ DM_CHAIN_MARK_SEALED, EXIT_REFUSED, 0, 0 },
		{ DM_CHAIN_MARK_MANY_CHILDREN, 0, 0, 0 },
		{ DM_CHAIN_MARK_IN_USE, EXIT_REFUSED, 0, 0 },
		{ DM_CHAIN_MARK_INCOMPLETE, EXIT_IMAGE, EXIT_IMAGE, EXIT_IMAGE },
		{ DM_CHAIN_MARK_PREPARED, EXIT_IMAGE, EXIT_IMAGE, 0 },
		{ DM_CHAIN_MARK_SPOILED, EXIT_IMAGE, EXIT_IMAGE, EXIT_IMAGE },
		{ DM_CHAIN_MARK_RETIRED, EXIT_IMAGE, 0, 0 },
		{ DM_CHAIN_MARK_PENDING, EXIT_IMAGE, 0, EXIT_IMAGE },
	};
	static struct chain_header h;
	size_t i;

	(void)state;
	make_chain();
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		load("mid", &h);
		h.marks = cases[i].marks;
		memset(&h.use_host, 0xee, sizeof(h.use_host));
		store("mid", &h);
		assert_int_equal(open_rw("mid"), cases[i].rw);
		assert_int_equal(open_ro("mid"), cases[i].ro);
		assert_int_equal(open_ro("top"), cases[i].lower);
		assert_int_equal(open_rw("top"), cases[i].lower);
	}
}

/* copy: prepared by job 7 for a pivot of top */
static void make_prepared(struct chain_header *copy, struct chain_header *top)
{
	make_chain();
	assert_int_equal(run("create", "copy", "--size", "8M", NULL), 0);
	load("top", top);
	load("copy", copy);
	copy->marks = DM_CHAIN_MARK_PREPARED;
	memset(&copy->job, 7, sizeof(copy->job));
	copy->coordinator = top->uuid;
	strcpy(copy->child_path, "top");
	store("copy", copy);
}

static void prepared_waits_for_its_source(void **state)
{
	static struct chain_header copy, top;

	(void)state;
	make_prepared(&copy, &top);
	assert_int_equal(open_rw("copy"), EXIT_IMAGE);
	assert_said("not decided", "copied from", NULL);
	assert_int_equal(open_ro("copy"), EXIT_IMAGE);
	assert_int_equal(open_rw("top"), 0);
	/* Retired by another job: then to another copy. */
	top.marks = DM_CHAIN_MARK_RETIRED;
	memset(&top.job, 8, sizeof(top.job));
	store("top", &top);
	assert_int_equal(open_rw("copy"), EXIT_IMAGE);
	assert_said("not decided", NULL);
	/* Nobody knows. */
	assert_int_equal(rename("top", "away"), 0);
	assert_int_equal(open_rw("copy"), EXIT_IMAGE);
	assert_said("about to go on in", "/top", NULL);
	assert_int_equal(run("create", "top", "--size", "8M", NULL), 0);
	assert_int_equal(open_rw("copy"), EXIT_IMAGE);
	load("copy", &copy);
	assert_int_equal(copy.marks, DM_CHAIN_MARK_PREPARED);
}

static void prepared_opens_when_its_source_is_retired(void **state)
{
	static struct chain_header copy, top;

	(void)state;
	make_prepared(&copy, &top);
	top.marks = DM_CHAIN_MARK_RETIRED;
	memset(&top.job, 7, sizeof(top.job));
	top.sealed_by = copy.uuid;
	strcpy(top.child_path, "copy");
	store("top", &top);
	assert_int_equal(open_rw("top"), EXIT_IMAGE);
	assert_said("retired", "/copy", NULL);
	assert_int_equal(open_ro("top"), 0);
	assert_int_equal(open_ro("copy"), 0);
	load("copy", &copy);
	assert_int_equal(copy.marks, DM_CHAIN_MARK_PREPARED);
	assert_int_equal(open_rw("copy"), 0);
	load("copy", &copy);
	assert_int_equal(copy.marks, 0);
	assert_true(chain_id_is_null(&copy.job));
	/* By now it needs nobody to say so. */
	assert_int_equal(unlink("top"), 0);
	assert_int_equal(open_rw("copy"), 0);
}

static void seals_tell_where_the_disk_is(void **state)
{
	static struct chain_header h;
	char id[37];

	(void)state;
	make_chain();
	load("mid", &h);
	assert_int_equal(open_rw("base"), EXIT_REFUSED);
	assert_said("/base: sealed", id_text(&h.uuid, id), "/mid", "unseal",
		    NULL);
}

static void in_use_marks_by_host(void **state)
{
	static struct chain_header h;
	struct walk w;

	(void)state;
	make_chain();
	load("top", &h);
	h.marks = DM_CHAIN_MARK_IN_USE;
	host_id(&h.use_host);
	store("top", &h);
	assert_int_equal(open_rw("top"), 0);
	memset(&h.use_host, 0xee, sizeof(h.use_host));
	store("top", &h);
	assert_int_equal(open_rw("top"), EXIT_REFUSED);
	assert_said("in use by host eeeeeeee", "--force", NULL);
	assert_int_equal(walk_open(&w, "top", DM_CHAIN_FORMAT_CHAIN, WALK_FORCE),
			 0);
	walk_close(&w);
	assert_int_equal(open_ro("top"), 0);
}

/* A refusal leaves every byte as it was. */
static void refusals_write_nothing(void **state)
{
	struct slots before, after;

	(void)state;
	make_chain();
	assert_int_equal(run("unseal", "base", NULL), 0);
	read_both("top", &before);
	assert_int_equal(open_rw("top"), EXIT_IMAGE);
	assert_int_equal(run("create", "a", BACKING("top", "chain"), NULL),
			 EXIT_IMAGE);
	assert_false(exists("a"));
	read_both("top", &after);
	assert_memory_equal(&before, &after, sizeof(before));
	read_both("mid", &before);
	assert_int_equal(open_rw("mid"), EXIT_REFUSED);
	assert_int_equal(run("resize", "./mid", "+1M", NULL), EXIT_REFUSED);
	read_both("mid", &after);
	assert_memory_equal(&before, &after, sizeof(before));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, images_setup, images_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(create_plain),
		TEST(create_with_all_options),
		TEST(create_usage),
		TEST(create_seals_its_parent),
		TEST(create_other_sizes),
		TEST(create_on_raw),
		TEST(create_keeps_what_is_there),
		TEST(hints_and_moves),
		TEST(hints_too_long),
		TEST(create_on_what_is_in_use),
		TEST(create_on_a_stale_mark),
		TEST(create_on_unfit_parents),
		TEST(create_fails_clean),
		TEST(one_damaged_slot_is_enough),
		TEST(both_damaged_slots_are_too_much),
		TEST(split_headers_are_refused),
		TEST(unknown_features),
		TEST(no_header_at_all),
		TEST(updates_cut_anywhere),
		TEST(updates_cut_with_a_stale_slot),
		TEST(the_stale_slot_comes_first),
		TEST(another_writer_is_noticed),
		TEST(locks_and_holders),
		TEST(open_by_the_time_of_the_lock),
		TEST(raw_ends_within_a_window),
		TEST(parent_not_found),
		TEST(parent_is_another_layer),
		TEST(parent_was_modified),
		TEST(raw_parent_was_modified),
		TEST(copies_at_once),
		TEST(circles),
		cmocka_unit_test_setup_teardown(too_deep, images_setup_memory,
						images_teardown),
		TEST(truncated),
		TEST(hostile_hints),
		TEST(marks_decide),
		TEST(prepared_waits_for_its_source),
		TEST(prepared_opens_when_its_source_is_retired),
		TEST(seals_tell_where_the_disk_is),
		TEST(in_use_marks_by_host),
		TEST(refusals_write_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
