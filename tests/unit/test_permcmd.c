// SPDX-License-Identifier: GPL-2.0-or-later
// sources: kmod/dm-chain-perm.c userspace/args.c userspace/fdarg.c userspace/cmd-perm.c userspace/layer-arg.c userspace/msg.c userspace/path.c userspace/perm-check.c userspace/perm-show.c userspace/perm-take.c userspace/size.c
// libs: -ljson-c
/*
 * `dmchain perm` and LAYER arguments, with a kernel of paper: two disks that
 * are open and share a base, and a token that holds layers of the first.
 */
#include "perm.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <cmocka.h>

#include <linux/major.h>

#define NR	4
#define SHARED	2	/* layers of vm-b, the lowest of vm-a */

bool opt_json;

/* The layers of vm-a are 7:0 to 7:3, top first. vm-b has 7:9, 7:2 and 7:3. */
static struct dm_chain_layer layers[NR];
static struct dm_chain_holder held[32];
static unsigned int nr_held;
static bool loaded, old_module;
static struct stat behind_1;	/* a real file behind 7:1 */
static json_object *shown;

static void hold(const char *disk, uint32_t row, unsigned int minor, uint64_t id)
{
	const struct chain_perm_rule *r = chain_perm_rule(row);
	struct dm_chain_holder *h = &held[nr_held++];

	*h = (struct dm_chain_holder){
		.major = LOOP_MAJOR, .minor = minor, .row = row, .op = r->op,
		.require = r->require, .allow = r->allow, .id = id,
		.disk_major = 253,
	};
	strcpy(h->disk, disk);
	if (minor < NR)
		memcpy(h->uuid, layers[minor].uuid, sizeof(h->uuid));
}

/* A job on vm-a: what it changes the disk reads by way of it. */
static void start_job(uint32_t op, uint32_t top, uint32_t base)
{
	uint32_t rows[NR], row;
	unsigned int i, j;

	assert_int_equal(chain_perm_plan(op, top, base, NR, rows), 0);
	for (i = 0; i < NR; i++) {
		if (!rows[i])
			continue;
		for (j = 0; j < nr_held && chain_perm_through(rows[i]); j++)
			if (held[j].minor == i && !strcmp(held[j].disk, "vm-a")) {
				row = DM_CHAIN_OPROLE_GUEST_THROUGH;
				held[j].row = row;
				held[j].require = chain_perm_rule(row)->require;
				held[j].allow = chain_perm_rule(row)->allow;
			}
		hold("vm-a", rows[i], i, 5);
	}
}

static int setup(void **state)
{
	unsigned int i;

	(void)state;
	loaded = true;
	old_module = false;
	opt_json = false;
	nr_held = 0;
	for (i = 0; i < NR; i++) {
		layers[i] = (struct dm_chain_layer){ .major = LOOP_MAJOR, .minor = i };
		/* The lowest is raw; the others are a1..., a2..., a3... */
		if (i < NR - 1)
			memset(layers[i].uuid, 0xa1 + (int)i, sizeof(layers[i].uuid));
		hold("vm-a", i ? DM_CHAIN_OPROLE_GUEST_LOWER :
				 DM_CHAIN_OPROLE_GUEST_ACTIVE, i, 0);
	}
	return 0;
}

static void open_vm_b(void)
{
	unsigned int i;

	hold("vm-b", DM_CHAIN_OPROLE_GUEST_ACTIVE, 9, 0);
	for (i = NR - SHARED; i < NR; i++)
		hold("vm-b", DM_CHAIN_OPROLE_GUEST_LOWER, i, 0);
}

static int teardown(void **state)
{
	(void)state;
	json_object_put(shown);
	shown = NULL;
	return 0;
}

/* --- The kernel, and what the controller knows of it --- */

bool module_present(void)
{
	return loaded;
}

int control_open(void)
{
	assert_true(loaded);
	return dup(STDERR_FILENO);
}

int disk_find(const char *name, dev_t *dev)
{
	*dev = makedev(253, 0);
	return strcmp(name, "vm-a") ?
		msg_fail(EXIT_FAILED, "%s: no such disk", name) : 0;
}

int disk_layers(const char *name, dev_t *dev, bool *suspended,
		struct dm_chain_layer **l, unsigned int *nr)
{
	int ret = disk_find(name, dev);

	if (ret)
		return ret;
	*suspended = false;
	*l = malloc(sizeof(layers));
	memcpy(*l, layers, sizeof(layers));
	*nr = NR;
	return control_open();
}

int control_holders(int ctl, dev_t disk, struct dm_chain_holder **h,
		    unsigned int *nr)
{
	(void)ctl;
	(void)disk;
	if (old_module)
		return msg_fail(EXIT_FAILED, "too old");
	*h = malloc(sizeof(held));
	memcpy(*h, held, sizeof(held));
	*nr = nr_held;
	return 0;
}

int control_holders_of(int ctl, const struct holders_of *of, struct dm_chain_holder *h,
		       unsigned int room, unsigned int *nr)
{
	(void)ctl;
	(void)of;
	(void)h;
	(void)room;
	(void)nr;
	fail_msg("asked of one layer only");
	return -EXIT_FAILED;
}

int loop_index_ready(void)
{
	return 0;
}

int loops_ctl(struct loops *l)
{
	(void)l;
	return control_open();
}

/* What these images are is said by their devices: all have to be looked at. */
enum image_where image_where(struct loops *l, const struct image *img, dev_t *dev)
{
	(void)l;
	(void)img;
	(void)dev;
	return IMAGE_ANYWHERE;
}

int loops_need(struct loops *l)
{
	int ret = l->is_read ? 0 : control_holders(0, 0, &l->holders, &l->nr);

	l->is_read = !ret;
	return ret;
}

void loops_free(struct loops *l)
{
	free(l->holders);
}

void image_at_init(struct image_at *at, const struct image *img)
{
	at->dev = img->dev;
	at->ino = img->is_bdev ? 0 : img->ino;
	if (img->is_bdev)
		disk_true_identity(&at->dev, &at->ino);
}

bool image_at_device(struct image_at *at, const struct loops *l, dev_t dev)
{
	ino_t ino = 0;

	(void)l;
	disk_true_identity(&dev, &ino);
	return dev == at->dev && ino == at->ino;
}

/* As the kernel does it: vm-a reads by way of its own job. */
static bool own(const struct dm_chain_holder *h, uint32_t row)
{
	return chain_perm_through(row) && !strcmp(h->disk, "vm-a") && !h->id;
}

int control_layers(int ctl, dev_t disk, struct dm_chain_layer **l,
		   unsigned int *nr)
{
	(void)ctl;
	(void)disk;
	*l = malloc(sizeof(layers));
	memcpy(*l, layers, sizeof(layers));
	*nr = NR;
	return 0;
}

int control_acquire(int ctl, dev_t disk, struct dm_chain_acquire *q)
{
	struct dm_chain_conflict *c = &q->conflict;
	uint32_t rows[NR];
	unsigned int i, j;

	(void)ctl;
	(void)disk;
	assert_int_equal(q->flags, DM_CHAIN_ACQUIRE_TEST);
	assert_int_equal(chain_perm_plan(q->op, q->top, q->base, NR, rows), 0);
	for (i = 0; i < NR; i++)
		for (j = 0; j < nr_held; j++) {
			const struct dm_chain_holder *h = &held[j];
			struct chain_perm_clash clash =
				chain_perm_rows_conflict(h->row, rows[i]);

			if (h->minor != i || own(h, rows[i]) ||
			    !chain_perm_clashes(clash))
				continue;
			c->holder = *h;
			c->row = rows[i];
			c->depth = i;
			c->direction = clash.wanted ? DM_CHAIN_CONFLICT_WANTED :
						      DM_CHAIN_CONFLICT_HELD;
			c->perm = clash.wanted ? clash.wanted : clash.held;
			c->perm &= -c->perm;
			return -EBUSY;
		}
	return 0;
}

int control_acquire_failed(dev_t disk, int err)
{
	(void)disk;
	return msg_fail(EXIT_FAILED, "acquire: %s", strerror(-err));
}

/* Needs a kernel: tests/functional/32-perm.sh */
int perm_hold(const struct perm_question *q, char **command)
{
	(void)q;
	(void)command;
	return -EXIT_FAILED;
}

/* A file of inode 100 + N is behind 7:N. */
void disk_true_identity(dev_t *dev, ino_t *ino)
{
	if (major(*dev) != LOOP_MAJOR)
		return;
	*ino = behind_1.st_ino && minor(*dev) == 1 ? behind_1.st_ino :
						     100 + minor(*dev);
	*dev = behind_1.st_ino ? behind_1.st_dev : makedev(8, 1);
}

char *disk_layer_path(dev_t dev)
{
	char *path = NULL;

	assert_true(asprintf(&path, "/img/%u", minor(dev)) > 0);
	return path;
}

char *disk_device_path(dev_t dev)
{
	char *path = NULL;

	assert_true(asprintf(&path, "/dev/loop%u", minor(dev)) > 0);
	return path;
}

void show_json(json_object *o)
{
	json_object_put(shown);
	shown = o;
}

/* "/img/N" is what 7:N has; "/copy/N" has its UUID and is another file. */
int image_open(struct image *img, const char *path, uint32_t format, int flags)
{
	unsigned int n = (unsigned int)strtoul(strrchr(path, '/') + 1, NULL, 10);

	(void)flags;
	memset(img, 0, sizeof(*img));
	img->path = strdup(path);
	img->format = format;
	img->dev = makedev(8, 1);
	img->ino = (strstr(path, "copy") ? 200 : 100) + n;
	if (format == DM_CHAIN_FORMAT_CHAIN && n < NR)
		memcpy(img->hdr.uuid.b, layers[n].uuid, sizeof(layers[n].uuid));
	return 0;
}

int walk_open(struct walk *w, const char *path, uint32_t format, int flags)
{
	char name[32];
	unsigned int i;

	(void)flags;
	w->nr = NR - (unsigned int)strtoul(strrchr(path, '/') + 1, NULL, 10);
	w->images = calloc(w->nr, sizeof(*w->images));
	for (i = 0; i < w->nr; i++) {
		snprintf(name, sizeof(name), "/img/%u", NR - w->nr + i);
		assert_int_equal(image_open(&w->images[i], name,
					    i == w->nr - 1 ? DM_CHAIN_FORMAT_RAW :
							     format, 0), 0);
	}
	return 0;
}

void walk_close(struct walk *w)
{
	while (w->nr)
		free(w->images[--w->nr].path);
	free(w->images);
}

/* --- Tests --- */

static int perm(const char *words)
{
	char text[200], *argv[16] = { (char *)"perm" };
	int argc = 1, ret;
	char *word, *rest;

	strcpy(text, words);
	for (word = strtok_r(text, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
		argv[argc++] = word;
	ret = cmd_perm(argc, argv);
	return ret < 0 ? -ret : ret;
}

static json_object *at(json_object *o, const char *key)
{
	json_object *value = NULL;

	assert_true(json_object_object_get_ex(o, key, &value));
	return value;
}

static const char *text_at(json_object *o, const char *key)
{
	return json_object_get_string(at(o, key));
}

static void assert_said(const char *line)
{
	assert_string_equal(msg_last(), line);
}

static void check_allows(void **state)
{
	json_object *l;

	(void)state;
	opt_json = true;
	assert_int_equal(perm("check stream vm-a"), 0);
	l = at(shown, "layers");
	assert_true(json_object_get_boolean(at(shown, "allowed")));
	assert_null(at(shown, "conflict"));
	assert_int_equal(json_object_array_length(l), NR);
	assert_string_equal(text_at(json_object_array_get_idx(l, 0), "role"), "into");
	assert_string_equal(text_at(json_object_array_get_idx(l, 3), "layer"), "/img/3");
	assert_int_equal(perm("check commit vm-a"), 0);
	l = at(shown, "layers");
	assert_int_equal(json_object_array_length(l), 2);
	assert_string_equal(text_at(json_object_array_get_idx(l, 0), "role"), "active");
	assert_int_equal(perm("check commit vm-a --top 1"), 0);
	assert_int_equal(json_object_array_length(at(shown, "layers")), 3);
	assert_int_equal(perm("check commit vm-a --top 1 --base 3"), 0);
	assert_int_equal(json_object_array_length(at(shown, "layers")), 4);
	assert_int_equal(perm("check stream vm-a --into 1 --base 3"), 0);
	assert_int_equal(json_object_array_length(at(shown, "layers")), 2);
	assert_int_equal(perm("check snapshot vm-a"), 0);
	assert_int_equal(perm("check copy-layer vm-a --top 2"), 0);
	assert_int_equal(json_object_array_length(at(shown, "layers")), 2);
}

static void a_shared_base_is_not_written(void **state)
{
	json_object *why;

	(void)state;
	open_vm_b();
	assert_int_equal(perm("check commit vm-a --top 1"), EXIT_REFUSED);
	assert_said("vm-a: commit refused: /img/2 is held by vm-b (guest, lower), which does not allow write; close vm-b first");
	opt_json = true;
	assert_int_equal(perm("check commit vm-a --top 1"), EXIT_REFUSED);
	assert_false(json_object_get_boolean(at(shown, "allowed")));
	why = at(shown, "conflict");
	assert_int_equal(json_object_get_int(at(why, "index")), 2);
	assert_string_equal(text_at(why, "role"), "base");
	assert_string_equal(text_at(why, "permission"), "write");
	assert_string_equal(text_at(why, "required-by"), "operation");
	assert_string_equal(text_at(at(why, "holder"), "disk"), "vm-b");
	assert_int_equal(perm("check commit vm-a"), 0);
	assert_int_equal(perm("check stream vm-a"), 0);
}

static void a_job_is_in_the_way(void **state)
{
	(void)state;
	opt_json = true;
	start_job(DM_CHAIN_OP_MIRROR, 0, 0);
	assert_int_equal(perm("check snapshot vm-a"), EXIT_REFUSED);
	assert_said("vm-a: snapshot refused: /img/0 is held by vm-a (mirror, source), which does not allow metadata; wait until that is done, or cancel it");
	assert_int_equal(perm("check resize vm-a"), EXIT_REFUSED);
	setup(NULL);
	opt_json = true;
	start_job(DM_CHAIN_OP_COMMIT, 1, 2);
	assert_int_equal(perm("check snapshot vm-a"), 0);
	assert_int_equal(perm("check resize vm-a"), 0);
	assert_int_equal(perm("check stream vm-a --into 1"), EXIT_REFUSED);
}

/* It requires nothing that the top's guest doesn't allow, but needs peace. */
static void what_the_holder_requires(void **state)
{
	(void)state;
	assert_int_equal(perm("check create /img/0"), EXIT_REFUSED);
	assert_said("/img/0: create refused: /img/0 is held by vm-a (guest, active), which requires write and could not go on; close vm-a first");
}

static void images_are_known_by_uuid_or_place(void **state)
{
	(void)state;
	opt_json = true;
	open_vm_b();
	assert_int_equal(perm("check create /img/1"), 0);
	assert_int_equal(perm("check create /img/3 --format raw"), 0);
	assert_int_equal(perm("check unseal /img/3 --format raw"), EXIT_REFUSED);
	assert_int_equal(perm("check unseal /img/2"), EXIT_REFUSED);
	assert_int_equal(perm("check unseal /copy/2"), EXIT_REFUSED);
	assert_int_equal(perm("check new-id /img/2"), EXIT_REFUSED);
	assert_int_equal(perm("check new-id /copy/2"), 0);
	assert_int_equal(perm("check export /img/1"), 0);
	assert_int_equal(perm("check export /img/0"), EXIT_REFUSED);
	assert_int_equal(perm("check guest /img/0"), EXIT_REFUSED);
	start_job(DM_CHAIN_OP_STREAM, 1, 3);
	assert_int_equal(perm("check export /img/1"), EXIT_REFUSED);
	assert_int_equal(perm("check export /img/2"), 0);
	loaded = false;
	assert_int_equal(perm("check guest /img/0"), 0);
	loaded = true;
	old_module = true;
	assert_int_equal(perm("check guest /img/0"), EXIT_FAILED);
}

static void usage(void **state)
{
	static const char * const wrong[] = {
		"check", "check stream", "check stream vm-a more", "check nothing vm-a",
		"check stream vm-a --top 1", "check commit vm-a --into 1",
		"check snapshot vm-a --base 1", "check create /img/1 --top 0",
		"check stream /img/1", "check create vm-a", "check stream vm-a --format raw",
		"check commit vm-a --top 3", "check commit vm-a --top 2 --base 1",
		"check stream vm-a --into 3", "check stream vm-a --into 1 --base 2",
		"check active-commit vm-a --top 1", "check create /img/1 --format qcow2",
		"vm-a more", "matrix more", "matrix --base 1", "--rst", "vm-a --rst",
	};
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(wrong); i++)
		if (perm(wrong[i]) != EXIT_USAGE)
			fail_msg("perm %s is taken", wrong[i]);
	assert_int_equal(perm("check stream vm-x"), EXIT_FAILED);
	assert_int_equal(perm("vm-x"), EXIT_FAILED);
}

static void holders_as_json(void **state)
{
	json_object *o;

	(void)state;
	opt_json = true;
	start_job(DM_CHAIN_OP_COMMIT, 1, 2);
	assert_int_equal(perm("vm-a"), 0);
	assert_int_equal(json_object_array_length(shown), nr_held);
	o = json_object_array_get_idx(shown, 0);
	assert_int_equal(json_object_object_length(o), 9);
	assert_string_equal(text_at(o, "layer"), "/img/0");
	assert_string_equal(text_at(o, "device"), "/dev/loop0");
	assert_string_equal(text_at(o, "uuid"), "a1a1a1a1-a1a1-a1a1-a1a1-a1a1a1a1a1a1");
	assert_string_equal(text_at(o, "operation"), "guest");
	assert_string_equal(text_at(o, "role"), "active");
	assert_null(at(o, "token"));
	assert_string_equal(json_object_to_json_string_ext(at(o, "require"),
			    JSON_C_TO_STRING_PLAIN), "[\"consistent-read\",\"write\"]");
	o = json_object_array_get_idx(shown, 3);
	assert_null(at(o, "uuid"));
	o = json_object_array_get_idx(shown, (size_t)nr_held - 1);
	assert_int_equal(json_object_get_int(at(o, "token")), 5);
	assert_string_equal(text_at(o, "role"), "base");
	/* Of a module that knows more than this dmchain. */
	held[0].row = DM_CHAIN_OPROLE_NR;
	held[0].op = DM_CHAIN_OP_NR;
	assert_int_equal(perm("vm-a"), 0);
	o = json_object_array_get_idx(shown, 0);
	assert_string_equal(text_at(o, "role"), "unknown");
	loaded = false;
	assert_int_equal(perm(""), 0);
	assert_int_equal(json_object_array_length(shown), 0);
}

static int find(const char *text)
{
	unsigned int index = 99;
	int ret = layer_arg(text, "vm-a", layers, NR, &index);

	return ret ? ret : (int)index;
}

static void layers_by_any_name(void **state)
{
	(void)state;
	assert_int_equal(find("0"), 0);
	assert_int_equal(find("3"), 3);
	assert_int_equal(find("0003"), 3);
	assert_int_equal(find("4"), -EXIT_FAILED);
	assert_int_equal(find("9999"), -EXIT_FAILED);
	assert_int_equal(find(""), -EXIT_FAILED);
	assert_int_equal(find("a2"), 1);
	assert_int_equal(find("A2A2"), 1);
	assert_int_equal(find("a3a3a3a3-a3a3-a3a3-a3a3-a3a3a3a3a3a3"), 2);
	assert_int_equal(find("a3a3a3a3-a3a3-a3a3-a3a3-a3a3a3a3a3a3x"), -EXIT_FAILED);
	assert_int_equal(find("a"), -EXIT_USAGE);
	assert_said("a: 3 layers of vm-a have a UUID that starts so; say more of it");
	/* A raw layer has none. */
	assert_int_equal(find("00000"), -EXIT_FAILED);
	assert_int_equal(find("-1"), -EXIT_FAILED);
	assert_int_equal(find("./nowhere"), -EXIT_FAILED);
	assert_int_equal(find("/"), -EXIT_FAILED);
	assert_int_equal(find("/proc/self/exe"), -EXIT_FAILED);
	assert_int_equal(stat("/proc/self/exe", &behind_1), 0);
	assert_int_equal(find("/proc/self/exe"), 1);
	behind_1.st_ino = 0;
	/* More than four digits are the start of a UUID. */
	memset(layers[1].uuid, 0x12, sizeof(layers[1].uuid));
	assert_int_equal(find("12121"), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(check_allows, setup, teardown),
		cmocka_unit_test_setup_teardown(a_shared_base_is_not_written, setup, teardown),
		cmocka_unit_test_setup_teardown(a_job_is_in_the_way, setup, teardown),
		cmocka_unit_test_setup_teardown(what_the_holder_requires, setup, teardown),
		cmocka_unit_test_setup_teardown(images_are_known_by_uuid_or_place, setup, teardown),
		cmocka_unit_test_setup_teardown(usage, setup, teardown),
		cmocka_unit_test_setup_teardown(holders_as_json, setup, teardown),
		cmocka_unit_test_setup_teardown(layers_by_any_name, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
