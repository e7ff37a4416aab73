// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the tests of closed images share.
 */
#include "images.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[64];
static char captured[1 << 20];

static int setup(const char *where)
{
	snprintf(folder, sizeof(folder), "%s/dmchain-XXXXXX", where);
	if (!mkdtemp(folder) || chdir(folder))
		return -1;
	stub_holder = NULL;
	stub_holder_writes = stub_holder_late = false;
	opt_json = false;
	return 0;
}

int images_setup(void **state)
{
	const char *tmp = getenv("TMPDIR");

	(void)state;
	return setup(tmp ? tmp : "/tmp");
}

int images_setup_memory(void **state)
{
	if (access("/dev/shm", W_OK))
		return images_setup(state);
	return setup("/dev/shm");
}

int images_teardown(void **state)
{
	char command[96];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	return chdir("/") || system(command);
}

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
} commands[] = {
	{ "create", cmd_create }, { "info", cmd_info }, { "map", cmd_map },
	{ "check", cmd_check }, { "compare", cmd_compare },
	{ "new-id", cmd_new_id }, { "unseal", cmd_unseal },
	{ "resize", cmd_resize }, { "rebase", cmd_rebase },
};

/* Output of what follows goes to a file, until finish_capture(). */
static int start_capture(void)
{
	int saved = dup(STDOUT_FILENO);
	int fd = open(".stdout", O_RDWR | O_CREAT | O_TRUNC, 0600);

	assert_true(saved >= 0 && fd >= 0);
	fflush(stdout);
	dup2(fd, STDOUT_FILENO);
	close(fd);
	return saved;
}

static void finish_capture(int saved)
{
	ssize_t n;

	fflush(stdout);
	n = pread(STDOUT_FILENO, captured, sizeof(captured) - 1, 0);
	captured[n > 0 ? n : 0] = '\0';
	dup2(saved, STDOUT_FILENO);
	close(saved);
}

static int run_args(const char *command, va_list args)
{
	char *argv[32] = { (char *)command };
	int argc = 1, saved, ret = -99;
	size_t i;

	while ((argv[argc] = va_arg(args, char *)))
		assert_true(++argc < 31);
	saved = start_capture();
	for (i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(commands[i].name, command))
			ret = commands[i].run(argc, argv);
	finish_capture(saved);
	assert_true(ret <= 0 && ret >= -EXIT_IMAGE);
	return -ret;
}

int run(const char *command, ...)
{
	va_list args;
	int ret;

	va_start(args, command);
	ret = run_args(command, args);
	va_end(args);
	return ret;
}

const char *output(void)
{
	return captured;
}

json_object *run_json(const char *command, ...)
{
	json_object *o;
	va_list args;

	opt_json = true;
	va_start(args, command);
	assert_int_equal(run_args(command, args), 0);
	va_end(args);
	opt_json = false;
	o = json_tokener_parse(captured);
	assert_non_null(o);
	return o;
}

json_object *json_at(json_object *o, const char *key)
{
	json_object *value = NULL;

	assert_true(json_object_object_get_ex(o, key, &value));
	return value;
}

uint64_t json_number(json_object *o, const char *key)
{
	return json_object_get_uint64(json_at(o, key));
}

void assert_said(const char *word, ...)
{
	va_list args;

	va_start(args, word);
	for (; word; word = va_arg(args, const char *))
		if (!strstr(msg_last(), word))
			fail_msg("\"%s\" is not in \"%s\"", word, msg_last());
	va_end(args);
}

bool exists(const char *path)
{
	return !access(path, F_OK);
}

static int open_for(const char *path, int flags)
{
	int fd = open(path, flags, 0600);

	if (fd < 0)
		fail_msg("%s: can't open", path);
	return fd;
}

void make_raw(const char *path, uint64_t bytes)
{
	int fd = open_for(path, O_RDWR | O_CREAT);

	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	close(fd);
}

void poke(const char *path, uint64_t offset, const void *buf, size_t len)
{
	int fd = open_for(path, O_WRONLY);

	assert_int_equal(pwrite(fd, buf, len, (off_t)offset), len);
	close(fd);
}

void peek(const char *path, uint64_t offset, void *buf, size_t len)
{
	int fd = open_for(path, O_RDONLY);

	assert_int_equal(pread(fd, buf, len, (off_t)offset), len);
	close(fd);
}

void spoil(const char *path, uint64_t offset)
{
	uint8_t bytes[16];
	size_t i;

	peek(path, offset, bytes, sizeof(bytes));
	for (i = 0; i < sizeof(bytes); i++)
		bytes[i] ^= 0xa5;
	poke(path, offset, bytes, sizeof(bytes));
}

static void open_any(struct image *img, const char *path, int flags)
{
	assert_int_equal(image_open(img, path, DM_CHAIN_FORMAT_CHAIN,
				    flags | IMAGE_ANY_MARK | IMAGE_CHECK), 0);
}

void load(const char *path, struct chain_header *h)
{
	struct image img;

	open_any(&img, path, 0);
	*h = img.hdr;
	image_close(&img);
}

void store(const char *path, const struct chain_header *h)
{
	struct image img;
	uint64_t generation;

	open_any(&img, path, IMAGE_WRITE);
	generation = img.hdr.generation;
	img.hdr = *h;
	img.hdr.generation = generation;
	assert_int_equal(image_write_header(&img), 0);
	image_close(&img);
}

static void put_group(struct image *img, struct presence *p, uint64_t group,
		      uint64_t block, uint64_t end, unsigned int state)
{
	struct map_group g;
	uint64_t first = group * DM_CHAIN_GROUP_BLOCKS;

	map_group_read(img, p, group, &g);
	for (; block < end && block < first + DM_CHAIN_GROUP_BLOCKS; block++)
		chain_state_put(g.words, block - first, state);
	assert_int_equal(map_group_write(img, &g), 0);
	p->words[group / 64] |= 1ULL << (group % 64);
	assert_int_equal(presence_write(img, p,
					group / DM_CHAIN_PRESENCE_GROUPS), 0);
}

static void put_data(struct image *img, uint64_t block, uint8_t fill)
{
	size_t len = 1UL << img->hdr.block_shift;
	uint8_t *buf = malloc(len);

	assert_non_null(buf);
	memset(buf, fill, len);
	assert_int_equal(image_write(img, buf, len, img->hdr.data_offset +
				     (block << img->hdr.block_shift)), 0);
	free(buf);
}

void put_blocks(const char *path, uint64_t block, uint64_t blocks,
		unsigned int state, uint8_t fill)
{
	uint64_t group, at, end = block + blocks;
	struct presence p;
	struct image img;

	open_any(&img, path, IMAGE_WRITE);
	assert_int_equal(presence_load(&p, &img), 0);
	for (group = block / DM_CHAIN_GROUP_BLOCKS;
	     group <= (end - 1) / DM_CHAIN_GROUP_BLOCKS; group++) {
		at = group * DM_CHAIN_GROUP_BLOCKS;
		put_group(&img, &p, group, at > block ? at : block, end, state);
	}
	for (at = block; state == DM_CHAIN_DATA && at < end; at++)
		put_data(&img, at, fill);
	presence_free(&p);
	image_close(&img);
}

unsigned int get_block(const char *path, uint64_t block)
{
	struct map_group g;
	struct presence p;
	struct image img;

	open_any(&img, path, 0);
	assert_int_equal(presence_load(&p, &img), 0);
	map_group_read(&img, &p, block / DM_CHAIN_GROUP_BLOCKS, &g);
	presence_free(&p);
	image_close(&img);
	return chain_state_get(g.words, block % DM_CHAIN_GROUP_BLOCKS);
}

uint64_t map_sector_offset(const char *path, uint64_t block)
{
	struct chain_header h;

	load(path, &h);
	return h.map_offset + block / DM_CHAIN_SECTOR_BLOCKS * 512;
}
