// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Labels as users write them, and what the controller keeps of them and of its own
 * doings: records of labelled files, a disk's templates, notes of killed commands, the
 * memory in an attribute of the file. All of these are read by root, who acts on them.
 *
 * Input: a byte that says which of these the rest is.
 */
#include "fuzz.h"
#include "label.h"
#include "online.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

/* In the folder that we are in. */
#undef RUN_DIR
#define RUN_DIR		"run"

static const char *attribute;
static size_t attribute_len;

static ssize_t given_attribute(int fd, const char *name, void *buf, size_t room)
{
	(void)fd;
	(void)name;
	if (attribute_len > room) {
		errno = ERANGE;
		return -1;
	}
	if (attribute_len)
		memcpy(buf, attribute, attribute_len);
	return (ssize_t)attribute_len;
}

#define fgetxattr given_attribute
#include "userspace/label-file.c"
#undef fgetxattr
#undef CONTEXT
#include "userspace/label-record.c"
#undef LOCK_FILE
#include "userspace/run.c"

bool opt_json;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	own_folder();
	must(!mkdir("run", 0700) && !mkdir("run/labels", 0700));
	return 0;
}

/* Numbers that chown() and chmod() take for what they say. */
static void limits(const struct label *l, mode_t most)
{
	must(!(l->parts & LABEL_OWNER) || l->uid != (uid_t)-1);
	must(!(l->parts & LABEL_GROUP) || l->gid != (gid_t)-1);
	must(!(l->parts & LABEL_MODE) || l->mode <= most);
	must(!l->selinux || l->parts & LABEL_SELINUX);
}

static void through_json(const struct label *l)
{
	json_object *o = label_to_json(l), *again;
	struct label back;

	again = json_tokener_parse(json_object_to_json_string(o));
	must(again && label_from_json(again, &back) && label_equal(l, &back));
	label_free(&back);
	json_object_put(again);
	json_object_put(o);
}

static void a_text(const char *text)
{
	struct label l;

	if (label_parse(text, &l)) {
		must(!l.parts && !l.selinux && *msg_last());
		return;
	}
	limits(&l, 0777);
	must(l.parts);
	through_json(&l);
	label_free(&l);
}

static void a_json(const char *text)
{
	json_object *o = json_tokener_parse(text);
	struct label l;

	if (label_from_json(o, &l)) {
		limits(&l, 07777);
		through_json(&l);
	}
	label_free(&l);
	json_object_put(o);
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	must(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

static void a_record(const char *text)
{
	struct label_record r, again;
	size_t i;
	int fd;

	write_file("run/labels/file.1:2:3", text);
	if (!record_load(&r, "1:2:3"))
		return;
	must(r.path && r.users && (r.kind == LABEL_RO || r.kind == LABEL_RW));
	limits(&r.label, 07777);
	limits(&r.before, 07777);
	for (i = 0; i < json_object_array_length(r.users); i++)
		must(json_object_is_type(json_object_array_get_idx(r.users, i), json_type_string));
	fd = record_open(&r);
	must(fd < 0);
	(void)record_gone(&r, fd);
	must(!record_save(&r) && record_load(&again, "1:2:3") && record_equal(&r, &again));
	record_free(&again);
	record_free(&r);
}

static void templates(const char *text)
{
	json_object *o;

	write_file("run/labels/disk.d", text);
	o = templates_load("d");
	must(!o || json_object_is_type(o, json_type_object));
	json_object_put(o);
}

static void a_note(const char *text)
{
	struct disk_lock l = { .path = "note" };
	json_object *o;

	write_file("note", text);
	l.fd = open("note", O_RDWR | O_CLOEXEC);
	must(l.fd >= 0);
	o = disk_lock_left(&l);
	/* Something was going on, whatever is left of it. */
	must(!o == !*text && (!o || json_object_is_type(o, json_type_object)));
	json_object_put(o);
	close(l.fd);
}

static void memory(const char *text, size_t len)
{
	struct chain_id host;
	struct label l;
	int fd;

	write_file("file", "");
	attribute = text;
	attribute_len = len;
	fd = open("file", O_RDONLY | O_CLOEXEC);
	must(fd >= 0);
	if (label_recall(fd, &l, &host) != LABEL_UNKNOWN)
		limits(&l, 07777);
	label_free(&l);
	close(fd);
}

static void hex(const char *text)
{
	size_t len;
	void *bytes = hex_bytes(text, &len);
	char *again;

	if (!bytes)
		return;
	again = hex_text(bytes, len);
	must(again && !strcmp(again, text));
	free(again);
	free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct in in = { data, size };
	unsigned int kind = take_number(&in, 1);
	size_t len = in.left;
	char *text = take_text(&in, -1);

	switch (kind % 7) {
	case 0:
		a_text(text);
		break;
	case 1:
		a_json(text);
		break;
	case 2:
		a_record(text);
		break;
	case 3:
		templates(text);
		break;
	case 4:
		a_note(text);
		break;
	case 5:
		memory(text, len);
		break;
	default:
		hex(text);
	}
	free(text);
	return 0;
}
