// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Small texts, of users, headers and the kernel's log: sizes, ids, names of disks,
 * descriptors, paths, options, lines that are printed.
 *
 * Input: a byte that says what the rest is.
 */
#include "fuzz.h"
#include "online.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <unistd.h>

bool opt_json;

static void a_size(char *text)
{
	uint64_t old = 12345 * 512, bytes, again;
	char buf[32];

	if (!size_parse(text, NULL, &bytes)) {
		must(*text != '+' && *text != '-');
		must(strlen(size_text(bytes, buf)) < sizeof(buf));
		snprintf(buf, sizeof(buf), "%llu", (unsigned long long)bytes);
		must(!size_parse(buf, NULL, &again) && again == bytes);
		must(!size_parse(text, &old, &again) && again == bytes);
	} else if (!size_parse(text, &old, &bytes)) {
		must(*text == '+' || *text == '-');
		must(*text == '+' ? bytes >= old : bytes <= old);
	}
}

static void an_id(char *text)
{
	struct chain_id id, again;
	char buf[37];

	if (!id_parse(text, &id))
		return;
	must(strlen(text) == 36 && !strcasecmp(id_text(&id, buf), text));
	must(id_parse(buf, &again) && chain_id_equal(&id, &again));
}

static void a_name(char *text)
{
	const char *c;

	if (!dm_name_valid(text))
		return;
	must(*text && strlen(text) < 128 && strcmp(text, "control"));
	must(strcmp(text, ".") && strcmp(text, ".."));
	for (c = text; *c; c++)
		must(*c > ' ' && *c < 127 && *c != '/' && *c != '=' && *c != '%');
}

static void a_descriptor(char *text)
{
	int fd = arg_fd(text);

	must(fd >= -1);
	must(fd < 0 || !strncmp(text, "fd:", 3) || !strncmp(text, "/dev/", 5) ||
	     !strncmp(text, "/proc/self/fd/", 14));
	if (fd > 2 && fd < 1000)
		return;		/* ours may be among them */
	arg_layer_check(text);
}

/* Nothing that a terminal obeys, and the JSON is what it was made of. */
static void a_line(char *text)
{
	json_object *o = json_text(text), *again;
	const unsigned char *c;

	must(o);
	again = json_tokener_parse(json_object_to_json_string(o));
	must(again && json_object_equal(o, again));
	json_object_put(again);
	json_object_put(o);
	text_clean(text);
	for (c = (unsigned char *)text; *c; c++)
		must(*c >= ' ' && *c != 0x7f && !(c[0] == 0xc2 && c[1] < 0xa0));
	msg_fail(EXIT_FAILED, "%s", text);
	must(!strncmp(msg_last(), text, strlen(msg_last())));
}

/* The way there and back. */
static void a_path(char *owner, char *target)
{
	char hint[DM_CHAIN_PATH_BYTES + 1] = "", *abs, *path;

	/* Only paths that surely lead to nothing. */
	if (strstr(owner, "dev") || strstr(target, "dev"))
		return;
	memset(hint, 'x', sizeof(hint) - 1);
	if (hint_make(hint, owner, target))
		return;
	must(strlen(hint) < DM_CHAIN_PATH_BYTES && hint[DM_CHAIN_PATH_BYTES] == '\0');
	path = hint_resolve(owner, hint);
	abs = path_absolute(target);
	must(*target != '/' || !strcmp(hint, target));
	must(!path || *path == '/');
	must(!abs || *abs == '/');
	free(path);
	free(abs);
}

/* @text: words, each ends with a newline */
static void options(char *text)
{
	const char *a = NULL, *b = NULL;
	bool flag = false;
	const struct arg_opt opts[] = {
		{ "text", &a, NULL }, { "texture", &b, NULL }, { "flag", NULL, &flag }, { 0 },
	};
	char *words[64] = { "command" }, **argv = words;
	int argc = 1, given;

	while (text && argc < 62)
		words[argc++] = strsep(&text, "\n");
	given = argc;
	if (args_parse_layer(&argc, &argv, opts, 1, 2, 0))
		return;
	must(argc >= 1 && argc <= 2 && argc < given + 1 && argv[0]);
	must(!b || b != a);
}

/* @text: a record of /dev/kmsg */
static void a_reason(char *text)
{
	char why[80];
	int fd = memfd_create("log", MFD_CLOEXEC);
	const char *c;

	must(fd >= 0 && write(fd, text, strlen(text)) >= 0 && !lseek(fd, 0, SEEK_SET));
	if (!klog_reason(fd, makedev(253, 0), why, sizeof(why)))
		return;
	for (c = why; *c; c++)
		must(*c >= ' ' && *c < 127);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct in in = { data, size };
	unsigned int kind = take_number(&in, 1);
	char *text = take_text(&in, kind % 8 == 5 ? '\n' : -1), *more;

	switch (kind % 8) {
	case 0:
		a_size(text);
		break;
	case 1:
		an_id(text);
		break;
	case 2:
		a_name(text);
		break;
	case 3:
		a_descriptor(text);
		break;
	case 4:
		a_line(text);
		break;
	case 5:
		more = take_text(&in, -1);
		a_path(text, more);
		free(more);
		break;
	case 6:
		options(text);
		break;
	default:
		a_reason(text);
	}
	free(text);
	return 0;
}
