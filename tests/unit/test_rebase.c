// SPDX-License-Identifier: GPL-2.0-or-later
// sources: tests/unit/images.c tests/unit/stub-online.c kmod/dm-chain-format.c userspace/lib-crc.c userspace/msg.c userspace/size.c userspace/args.c userspace/fdarg.c userspace/path.c userspace/host.c userspace/image.c userspace/image-io.c userspace/marks.c userspace/make.c userspace/raw.c userspace/walk.c userspace/pending.c userspace/imgmap.c userspace/walkmap.c userspace/view.c userspace/seal.c userspace/rebase-copy.c userspace/show.c userspace/cmd-create.c userspace/cmd-info.c userspace/cmd-map.c userspace/cmd-check.c userspace/cmd-compare.c userspace/cmd-new-id.c userspace/cmd-unseal.c userspace/cmd-rebase.c userspace/cmd-resize.c userspace/picture.c userspace/picture-svg.c userspace/picture-text.c userspace/show-tree.c
// libs: -ljson-c
/*
 * Rebase: whatever old and new parents hold, the layer shows what it did, byte
 * for byte; cut anywhere by a power failure, too, and run again.
 */
#include "images.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * --- A power cut, at a write or a flush: of what was written since the last
 * flush any part is lost ---
 */

#define MAX_WRITES 4096

static long budget;	/* steps until the cut, if it is recording */
static long steps;
static bool recording;
static struct lost {
	int fd;
	size_t len;
	off_t offset;
	void *before;
} pending[MAX_WRITES];
static unsigned int nr_pending;

static ssize_t raw_write(int fd, const void *buf, size_t len, off_t offset)
{
	return syscall(SYS_pwrite64, fd, buf, len, offset);
}

static void cut(void)
{
	while (nr_pending) {
		struct lost *l = &pending[--nr_pending];

		if (rng() & 1)
			raw_write(l->fd, l->before, l->len, l->offset);
	}
	_exit(77);
}

static void step(void)
{
	if (steps++ >= budget)
		cut();
}

static void remember(int fd, size_t len, off_t offset)
{
	struct lost *l = &pending[nr_pending++];

	assert_true(nr_pending < MAX_WRITES);
	*l = (struct lost){ .fd = fd, .len = len, .offset = offset };
	assert_int_equal(posix_memalign(&l->before, 4096, len), 0);
	memset(l->before, 0, len);
	(void)syscall(SYS_pread64, fd, l->before, len, offset);
}

/* --- A file that fails once another one has been written: from then on dead --- */

static struct {
	const char *name;
	const char *behind;
	bool reads;
	bool now;
} dead;

static bool is_file(int fd, const char *name)
{
	char link[32], path[4096];
	ssize_t n;

	if (!name)
		return false;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	assert_true(n > 0);
	path[n] = '\0';
	return !strcmp(strrchr(path, '/') + 1, name);
}

ssize_t pread64(int fd, void *buf, size_t len, off64_t offset);
ssize_t pread64(int fd, void *buf, size_t len, off64_t offset)
{
	if (dead.now && dead.reads && is_file(fd, dead.name)) {
		errno = EIO;
		return -1;
	}
	return syscall(SYS_pread64, fd, buf, len, offset);
}

ssize_t pwrite64(int fd, const void *buf, size_t len, off64_t offset);
ssize_t pwrite64(int fd, const void *buf, size_t len, off64_t offset)
{
	if (dead.now && is_file(fd, dead.name)) {
		errno = EIO;
		return -1;
	}
	if (is_file(fd, dead.behind))
		dead.now = true;
	if (!recording)
		return raw_write(fd, buf, len, offset);
	step();
	remember(fd, len, offset);
	return raw_write(fd, buf, len, offset);
}

int fsync(int fd)
{
	unsigned int i, kept = 0;

	if (recording)
		step();
	for (i = 0; i < nr_pending; i++) {
		if (pending[i].fd == fd)
			free(pending[i].before);
		else
			pending[kept++] = pending[i];
	}
	nr_pending = kept;
	return (int)syscall(SYS_fsync, fd);
}

/* --- What is seen --- */

static void read_all(const char *path, uint32_t format, uint8_t **bytes,
		     uint64_t *size)
{
	struct view v;
	struct walk w;

	assert_int_equal(walk_open(&w, path, format, WALK_READ_ONLY), 0);
	assert_int_equal(view_of_walk(&v, path, &w), 0);
	*size = v.size;
	*bytes = malloc(v.size);
	assert_non_null(*bytes);
	assert_int_equal(view_read(&v, 0, *bytes, v.size), 0);
	view_free(&v);
	walk_close(&w);
}

static void assert_shows(const char *path, const uint8_t *want, uint64_t size)
{
	uint64_t now, i;
	uint8_t *bytes;

	read_all(path, DM_CHAIN_FORMAT_CHAIN, &bytes, &now);
	assert_int_equal(now, size);
	for (i = 0; i < size; i++)
		if (bytes[i] != want[i])
			fail_msg("%s: byte %llu is %u, was %u", path,
				 (unsigned long long)i, bytes[i], want[i]);
	free(bytes);
}

static void assert_stands_on(const char *path, const char *parent)
{
	struct chain_header h, p;

	load(path, &h);
	load(parent, &p);
	assert_memory_equal(&h.parent.uuid, &p.uuid, sizeof(p.uuid));
	assert_memory_equal(&h.parent.cid, &p.cid, sizeof(p.cid));
	assert_int_equal(h.parent.size, p.size);
	assert_string_equal(h.parent_path, parent);
}

static int rebase(const char *path, const char *parent, const char *format)
{
	return run("rebase", path, "--backing", parent, "--backing-format",
		   format, NULL);
}

static int create_on(const char *path, const char *size, const char *parent,
		     const char *block)
{
	return run("create", path, "--size", size, "--backing", parent,
		   "--backing-format", "chain", "--block-size", block,
		   "--max-size", "8M", NULL);
}

/* --- Random chains --- */

/* Some runs of data and zeroes; few bytes, so that some are the same. */
static void fill(const char *path)
{
	struct chain_header h;
	uint64_t blocks, at, n;
	unsigned int i;

	load(path, &h);
	blocks = chain_blocks(&h);
	for (i = 0; i < 6; i++) {
		at = rng() % blocks;
		n = 1 + rng() % 20;
		if (n > blocks - at)
			n = blocks - at;
		put_blocks(path, at, n, rng() % 3 ? DM_CHAIN_DATA : DM_CHAIN_ZERO,
			   rng() % 3);
	}
}

static const char *any_size(void)
{
	static const char * const sizes[] = { "1M", "700K", "2M", "1500K" };

	return sizes[rng() % 4];
}

static const char *any_block(void)
{
	static const char * const blocks[] = { "4K", "4K", "16K", "64K" };

	return blocks[rng() % 4];
}

/* top on mid on base, and new on base or on nothing. */
static void make_random(void)
{
	assert_int_equal(run("create", "base", "--size", any_size(),
			     "--block-size", any_block(), "--max-size", "8M", NULL),
			 0);
	fill("base");
	assert_int_equal(create_on("mid", any_size(), "base", any_block()), 0);
	fill("mid");
	if (rng() % 2)
		assert_int_equal(create_on("new", any_size(), "base",
					   any_block()), 0);
	else
		assert_int_equal(run("create", "new", "--size", any_size(),
				     "--max-size", "8M", NULL), 0);
	fill("new");
	assert_int_equal(create_on("top", any_size(), "mid", any_block()), 0);
	/* Else its map has not even one group. */
	if (rng() % 2)
		fill("top");
}

static void unmake(void)
{
	unlink("base");
	unlink("mid");
	unlink("new");
	unlink("top");
}

static void random_chains(void **state)
{
	static const char * const parents[] = { "new", "base", "mid" };
	struct chain_header before, after;
	uint8_t *want;
	uint64_t size;
	int i;

	(void)state;
	for (i = 0; i < 60; i++) {
		const char *parent = parents[rng() % 3];

		make_random();
		read_all("top", DM_CHAIN_FORMAT_CHAIN, &want, &size);
		load("top", &before);
		assert_int_equal(rebase("top", parent, "chain"), 0);
		load("top", &after);
		assert_memory_equal(&before.cid, &after.cid, sizeof(before.cid));
		assert_true(after.limit <= before.limit);
		assert_stands_on("top", parent);
		assert_shows("top", want, size);
		assert_int_equal(run("check", "top", NULL), 0);
		free(want);
		unmake();
	}
}

/* What it doesn't need it doesn't get. */
static void copies_what_differs(void **state)
{
	json_object *o;

	(void)state;
	assert_int_equal(run("create", "base", "--size", "1M", NULL), 0);
	put_blocks("base", 0, 10, DM_CHAIN_DATA, 'a');
	assert_int_equal(create_on("mid", "1M", "base", "4K"), 0);
	put_blocks("mid", 5, 2, DM_CHAIN_DATA, 'm');	/* differ */
	put_blocks("mid", 7, 2, DM_CHAIN_DATA, 'a');	/* the same bytes */
	put_blocks("mid", 9, 1, DM_CHAIN_ZERO, 0);	/* differs */
	put_blocks("mid", 20, 1, DM_CHAIN_DATA, 0);	/* zeroes in both */
	assert_int_equal(create_on("top", "1M", "mid", "4K"), 0);
	put_blocks("top", 6, 1, DM_CHAIN_DATA, 't');	/* has it already */
	o = run_json("rebase", "top", "--backing", "base", "--backing-format",
		     "chain", NULL);
	assert_int_equal(json_number(o, "data-bytes"), 4096);
	assert_int_equal(json_number(o, "zero-bytes"), 4096);
	json_object_put(o);
	assert_int_equal(get_block("top", 4), DM_CHAIN_ABSENT);
	assert_int_equal(get_block("top", 5), DM_CHAIN_DATA);
	assert_int_equal(get_block("top", 7), DM_CHAIN_ABSENT);
	assert_int_equal(get_block("top", 9), DM_CHAIN_ZERO);
	assert_int_equal(get_block("top", 20), DM_CHAIN_ABSENT);
	/* And once more there is nothing to do. */
	o = run_json("rebase", "top", "--backing", "base", "--backing-format",
		     "chain", NULL);
	assert_int_equal(json_number(o, "data-bytes") +
			 json_number(o, "zero-bytes"), 0);
	json_object_put(o);
}

/* Behind the end of its old parent it shows zeroes, whatever the new one has. */
static void the_limit_needs_no_copy(void **state)
{
	struct chain_header h;
	uint8_t *want;
	uint64_t size;
	json_object *o;

	(void)state;
	assert_int_equal(run("create", "base", "--size", "512K", NULL), 0);
	assert_int_equal(create_on("top", "1M", "base", "4K"), 0);
	assert_int_equal(run("create", "new", "--size", "1M", NULL), 0);
	put_blocks("new", 100, 100, DM_CHAIN_DATA, 'n');
	read_all("top", DM_CHAIN_FORMAT_CHAIN, &want, &size);
	o = run_json("rebase", "top", "--backing", "new", "--backing-format",
		     "chain", NULL);
	assert_int_equal(json_number(o, "zero-bytes"), 28 * 4096);
	assert_int_equal(json_number(o, "data-bytes"), 0);
	json_object_put(o);
	load("top", &h);
	assert_int_equal(h.limit, 512 * KIB);
	assert_shows("top", want, size);
	free(want);
}

/* --- Cut --- */

/* In a child that dies with the power. Return: its exit code. */
static int rebase_until(long until)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid) {
		budget = until;
		recording = true;
		_exit(rebase("top", "new", "chain"));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void assert_cut_is_well(const uint8_t *want, uint64_t size)
{
	assert_shows("top", want, size);
	assert_int_equal(run("check", "top", NULL), 0);
	assert_int_equal(run("check", "new", NULL), 0);
}

static void keep(void)
{
	assert_int_equal(system("cp --sparse=always top top.kept && "
				"cp --sparse=always new new.kept"), 0);
}

/* What an attempt before has written must not help. */
static void back_to_kept(void)
{
	assert_int_equal(system("cp --sparse=always top.kept top && "
				"cp --sparse=always new.kept new"), 0);
}

static void cut_anywhere(void **state)
{
	uint8_t *want;
	uint64_t size;
	long at, total = 0;
	int round, ret;

	(void)state;
	for (round = 0; round < 3; round++) {
		make_random();
		keep();
		read_all("top", DM_CHAIN_FORMAT_CHAIN, &want, &size);
		for (at = 0, ret = 77; ret == 77; at++) {
			assert_true(at < 500);
			back_to_kept();
			ret = rebase_until(at);
			assert_cut_is_well(want, size);
			total++;
			if (at % 8 != 3)
				continue;
			/* And so it can go on, cut or not. */
			(void)rebase_until(at / 2);
			assert_cut_is_well(want, size);
			assert_int_equal(rebase("top", "new", "chain"), 0);
			assert_stands_on("top", "new");
			assert_shows("top", want, size);
		}
		assert_int_equal(ret, 0);
		free(want);
		unmake();
	}
	assert_true(total > 40);
}

/* --- raw, --unsafe, no parent --- */

static void onto_raw(void **state)
{
	uint8_t block[4096], *want;
	struct chain_header h;
	uint64_t size;

	(void)state;
	assert_int_equal(run("create", "base", "--size", "1M", NULL), 0);
	fill("base");
	assert_int_equal(create_on("top", "1M", "base", "4K"), 0);
	fill("top");
	make_raw("raw", 512 * KIB);
	memset(block, 'r', sizeof(block));
	poke("raw", 100 * 4096, block, sizeof(block));
	read_all("top", DM_CHAIN_FORMAT_CHAIN, &want, &size);
	assert_int_equal(rebase("top", "raw", "raw"), 0);
	assert_shows("top", want, size);
	load("top", &h);
	assert_int_equal(h.parent.format, DM_CHAIN_FORMAT_RAW);
	assert_int_equal(h.parent.size, 512 * KIB);
	assert_true(h.limit <= 512 * KIB);
	poke("raw", 0, block, sizeof(block));
	assert_int_equal(run("map", "./top", NULL), EXIT_IMAGE);
	free(want);
}

static void unsafe(void **state)
{
	struct chain_header before, after;
	uint8_t *want;
	uint64_t size;

	(void)state;
	assert_int_equal(run("create", "base", "--size", "1M", NULL), 0);
	fill("base");
	assert_int_equal(run("create", "other", "--size", "1M", NULL), 0);
	put_blocks("other", 3, 200, DM_CHAIN_DATA, 'o');
	read_all("other", DM_CHAIN_FORMAT_CHAIN, &want, &size);
	assert_int_equal(create_on("top", "1M", "base", "4K"), 0);
	load("top", &before);
	/* The old parent needn't even be there. */
	unlink("base");
	assert_int_equal(rebase("top", "other", "chain"), EXIT_IMAGE);
	assert_int_equal(run("rebase", "top", "--backing", "other",
			     "--backing-format", "chain", "--unsafe", NULL), 0);
	load("top", &after);
	assert_memory_not_equal(&before.cid, &after.cid, sizeof(before.cid));
	assert_int_equal(after.generation, before.generation + 1);
	assert_shows("top", want, size);
	free(want);
	/* One that had none shows its parent, too. */
	assert_int_equal(run("create", "alone", "--size", "1M", NULL), 0);
	assert_int_equal(run("rebase", "alone", "--backing", "top",
			     "--backing-format", "chain", "--unsafe", NULL), 0);
	load("alone", &after);
	assert_int_equal(after.limit, MIB);
}

static void without_a_parent(void **state)
{
	uint8_t *want;
	uint64_t size;

	(void)state;
	assert_int_equal(run("create", "top", "--size", "1M", NULL), 0);
	fill("top");
	assert_int_equal(run("create", "new", "--size", "1M", NULL), 0);
	put_blocks("new", 0, 256, DM_CHAIN_DATA, 'n');
	read_all("top", DM_CHAIN_FORMAT_CHAIN, &want, &size);
	assert_int_equal(rebase("top", "new", "chain"), 0);
	assert_shows("top", want, size);
	free(want);
}

/* --- Seals, refusals --- */

static void seals_the_new_parent(void **state)
{
	struct chain_header top, new;

	(void)state;
	assert_int_equal(run("create", "base", "--size", "1M", NULL), 0);
	assert_int_equal(create_on("top", "1M", "base", "4K"), 0);
	assert_int_equal(run("create", "new", "--size", "1M", NULL), 0);
	assert_int_equal(rebase("top", "new", "chain"), 0);
	load("top", &top);
	load("new", &new);
	assert_true(new.marks & DM_CHAIN_MARK_SEALED);
	assert_false(new.marks & DM_CHAIN_MARK_MANY_CHILDREN);
	assert_memory_equal(&new.sealed_by, &top.uuid, sizeof(top.uuid));
	assert_string_equal(new.child_path, "top");
	/* Again: it is the same child. */
	assert_int_equal(rebase("top", "new", "chain"), 0);
	load("new", &new);
	assert_false(new.marks & DM_CHAIN_MARK_MANY_CHILDREN);
	assert_int_equal(create_on("second", "1M", "base", "4K"), 0);
	assert_int_equal(rebase("second", "new", "chain"), 0);
	load("new", &new);
	assert_true(new.marks & DM_CHAIN_MARK_MANY_CHILDREN);
}

/* dies() - what has been written to @behind, kills @name: it gets no header */
static void dies(const char *name, const char *behind, bool reads)
{
	dead.name = name;
	dead.behind = behind;
	dead.reads = reads;
	dead.now = false;
}

/* A child that could not be made leaves the parent what it was, for others, too. */
static void takes_back_the_seal_of_a_child_unmade(void **state)
{
	struct chain_header before, after;

	(void)state;
	assert_int_equal(run("create", "new", "--size", "1M", NULL), 0);
	/* Its parent is read, and can't be sealed. */
	stub_holder = "/new";
	stub_holder_writes = false;
	assert_int_equal(create_on("first", "1M", "new", "4K"), 0);
	stub_holder = NULL;
	load("new", &before);
	dies("second", "new", false);
	assert_int_equal(create_on("second", "1M", "new", "4K"), EXIT_FAILED);
	assert_true(dead.now);
	dies(NULL, NULL, false);
	assert_false(exists("second"));
	load("new", &after);
	assert_int_equal(after.marks, 0);
	assert_true(chain_id_is_null(&after.sealed_by));
	assert_memory_equal(&after.cid, &before.cid, sizeof(before.cid));
	assert_int_equal(run("map", "./first", NULL), 0);
}

/* What can't even be read has not been written. */
static void takes_back_the_seal_of_a_child_lost(void **state)
{
	struct chain_header before, after;

	(void)state;
	assert_int_equal(run("create", "top", "--size", "1M", NULL), 0);
	assert_int_equal(run("create", "new", "--size", "1M", NULL), 0);
	load("new", &before);
	dies("top", "new", true);
	assert_int_equal(rebase("top", "new", "chain"), EXIT_FAILED);
	assert_true(dead.now);
	dies(NULL, NULL, false);
	load("new", &after);
	assert_int_equal(after.marks, 0);
	assert_memory_equal(&after.cid, &before.cid, sizeof(before.cid));
	assert_int_equal(rebase("top", "new", "chain"), 0);
}

/* A header whose write has failed may be there, and then it names the parent. */
static void keeps_the_seal_if_in_doubt(void **state)
{
	struct chain_header top, new;

	(void)state;
	assert_int_equal(run("create", "top", "--size", "1M", NULL), 0);
	assert_int_equal(run("create", "new", "--size", "1M", NULL), 0);
	dies("top", "new", false);
	assert_int_equal(rebase("top", "new", "chain"), EXIT_FAILED);
	assert_true(dead.now);
	dies(NULL, NULL, false);
	load("top", &top);
	load("new", &new);
	assert_int_equal(new.marks, DM_CHAIN_MARK_SEALED);
	assert_memory_equal(&new.sealed_by, &top.uuid, sizeof(top.uuid));
}

static void refusals(void **state)
{
	struct chain_header h;

	(void)state;
	assert_int_equal(run("create", "base", "--size", "1M", NULL), 0);
	assert_int_equal(create_on("mid", "1M", "base", "4K"), 0);
	assert_int_equal(create_on("top", "1M", "mid", "4K"), 0);
	assert_int_equal(run("create", "new", "--size", "1M", NULL), 0);
	assert_int_equal(rebase("mid", "top", "chain"), EXIT_IMAGE);
	assert_said("below itself", NULL);
	assert_int_equal(rebase("mid", "mid", "chain"), EXIT_IMAGE);
	assert_said("below itself", NULL);
	assert_int_equal(run("rebase", "mid", "--unsafe", "--backing", "new",
			     "--backing-format", "chain", NULL), EXIT_REFUSED);
	assert_said("sealed", NULL);
	assert_int_equal(system("cp top copy"), 0);
	assert_int_equal(rebase("top", "copy", "chain"), EXIT_IMAGE);
	assert_said("same UUID", "new-id", NULL);
	stub_holder = "/mid";
	assert_int_equal(rebase("mid", "new", "chain"), EXIT_REFUSED);
	assert_said("vm1", NULL);
	stub_holder = "/new";
	stub_holder_writes = true;
	assert_int_equal(rebase("mid", "new", "chain"), EXIT_REFUSED);
	assert_said("vm1", NULL);
	stub_holder = "/base";
	assert_int_equal(rebase("mid", "new", "chain"), EXIT_REFUSED);
	assert_said("vm1", NULL);
	stub_holder = NULL;
	load("mid", &h);
	h.marks |= DM_CHAIN_MARK_IN_USE;
	host_id(&h.use_host);
	store("mid", &h);
	assert_int_equal(rebase("mid", "new", "chain"), EXIT_REFUSED);
	assert_said("--force", NULL);
	assert_int_equal(run("rebase", "mid", "--force", "--backing", "new",
			     "--backing-format", "chain", NULL), 0);
	/* A sealed layer that shows what it did keeps its child. */
	assert_int_equal(run("map", "./top", NULL), 0);
	assert_int_equal(run("rebase", "mid", "--backing", "base", NULL),
			 EXIT_USAGE);
	assert_int_equal(run("rebase", "mid", NULL), EXIT_USAGE);
	assert_int_equal(rebase("mid", "base", "qcow2"), EXIT_USAGE);
}

/* The record of a stream that was cut off names layers that are gone then. */
static void drops_a_stream(void **state)
{
	struct chain_header h;

	(void)state;
	assert_int_equal(run("create", "base", "--size", "1M", NULL), 0);
	assert_int_equal(create_on("top", "1M", "base", "4K"), 0);
	load("top", &h);
	h.marks |= DM_CHAIN_MARK_JOB;
	id_random(&h.job);
	h.record.type = DM_CHAIN_RECORD_STREAM;
	store("top", &h);
	assert_int_equal(run("create", "new", "--size", "1M", NULL), 0);
	assert_int_equal(rebase("top", "new", "chain"), 0);
	load("top", &h);
	assert_int_equal(h.marks, 0);
	assert_int_equal(h.record.type, 0);
}

static uint32_t flags(const char *path, const uint32_t *set)
{
	struct map_group g;
	struct presence p;
	struct image img;

	assert_int_equal(image_open(&img, path, DM_CHAIN_FORMAT_CHAIN,
				    IMAGE_WRITE | IMAGE_ANY_MARK), 0);
	assert_int_equal(presence_load(&p, &img), 0);
	map_group_read(&img, &p, 0, &g);
	assert_true(g.present);
	if (set) {
		g.changed = *set;
		assert_int_equal(map_group_write(&img, &g), 0);
	}
	presence_free(&p);
	image_close(&img);
	return g.changed;
}

/* A mirror that was cut off goes on with what is flagged, whatever comes of a
 * rebase behind that. */
static void keeps_what_is_flagged(void **state)
{
	const uint32_t set = 5;

	(void)state;
	assert_int_equal(run("create", "mid", "--size", "1M", NULL), 0);
	put_blocks("mid", 5, 2, DM_CHAIN_DATA, 'm');
	assert_int_equal(create_on("top", "1M", "mid", "4K"), 0);
	put_blocks("top", 6, 1, DM_CHAIN_DATA, 't');
	flags("top", &set);
	assert_int_equal(run("create", "new", "--size", "1M", NULL), 0);
	assert_int_equal(rebase("top", "new", "chain"), 0);
	assert_int_equal(get_block("top", 5), DM_CHAIN_DATA);
	assert_int_equal(flags("top", NULL), set);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, images_setup_memory, images_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(random_chains),
		TEST(copies_what_differs),
		TEST(the_limit_needs_no_copy),
		TEST(cut_anywhere),
		TEST(onto_raw),
		TEST(unsafe),
		TEST(without_a_parent),
		TEST(seals_the_new_parent),
		TEST(takes_back_the_seal_of_a_child_unmade),
		TEST(takes_back_the_seal_of_a_child_lost),
		TEST(keeps_the_seal_if_in_doubt),
		TEST(refusals),
		TEST(drops_a_stream),
		TEST(keeps_what_is_flagged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
