// SPDX-License-Identifier: GPL-2.0-or-later
// sources: kmod/dm-chain-format.c userspace/lib-crc.c userspace/msg.c userspace/size.c userspace/args.c userspace/host.c userspace/fdarg.c userspace/label-text.c userspace/label-file.c
// libs: -ljson-c
/*
 * Labels and descriptors as users name them: what is one, what it means, and
 * what is refused; and the attributes of a file, as far as this user may change
 * them here.
 */
#include "label.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <cmocka.h>

#define ALL	(LABEL_OWNER | LABEL_GROUP | LABEL_MODE | LABEL_SELINUX)

static void good_labels(void **state)
{
	static const struct {
		const char *text;
		struct label l;
	} cases[] = {
		{ "1:2:640", { LABEL_OWNER | LABEL_GROUP | LABEL_MODE, 1, 2, 0640, NULL, 0 } },
		{ "0:0:0", { LABEL_OWNER | LABEL_GROUP | LABEL_MODE, 0, 0, 0, NULL, 0 } },
		{ "root:root:0777", { LABEL_OWNER | LABEL_GROUP | LABEL_MODE, 0, 0, 0777, NULL, 0 } },
		{ "7::", { LABEL_OWNER, 7, 0, 0, NULL, 0 } },
		{ ":7:", { LABEL_GROUP, 0, 7, 0, NULL, 0 } },
		{ "::440", { LABEL_MODE, 0, 0, 0440, NULL, 0 } },
		{ "4294967294::", { LABEL_OWNER, 4294967294U, 0, 0, NULL, 0 } },
		{ "selinux=a:b:c", { LABEL_SELINUX, 0, 0, 0, "a:b:c", 6 } },
		{ "::,selinux=a:b:c:s0:c1,c2", { LABEL_SELINUX, 0, 0, 0, "a:b:c:s0:c1,c2", 15 } },
		{ "1:2:600,selinux=a:b:c,selinux=d",
		  { ALL, 1, 2, 0600, "a:b:c,selinux=d", 16 } },
	};
	struct label l;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(label_parse(cases[i].text, &l), 0);
		assert_true(label_equal(&l, &cases[i].l));
		label_free(&l);
	}
}

static void bad_labels(void **state)
{
	static const char * const cases[] = {
		"", ":", "::", "1", "1:2", "1:2:3:4", "1:2:8", "1:2:778",
		"1:2:1000", "1:2:4755", "1:2:-1", "1:2:+7", "1:2:0x7", "1:2: 7",
		"1:2:600 ", "-1::", "+1::", " 1::", "1 ::", "0x1::",
		"4294967295::", ":4294967295:", "18446744073709551616::",
		"no-such-user::", ":no-such-group:", "1x::", ":1x:", "::rw",
		"selinux=", "selinux", "selinux=a", "selinux=a:b",
		"selinux=a::c", "selinux=:a:b", "selinux=a:b:", "selinux=a:b:c d",
		"selinux=a:b:c\n", "selinux=a:b:\x7f", "1:2:600,selinux=",
		"1:2:600,mode=3", "1:2:600,", ",selinux=a:b:c", "1:2:600,SELINUX=a:b:c",
	};
	char big[5000];
	struct label l;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		if (label_parse(cases[i], &l) != -EXIT_USAGE)
			fail_msg("taken for a label: %s", cases[i]);
		assert_int_equal(l.parts, 0);
		assert_null(l.selinux);
	}
	memset(big, 'a', sizeof(big));
	memcpy(big, "selinux=a:b:", 12);
	big[sizeof(big) - 1] = '\0';
	assert_int_equal(label_parse(big, &l), -EXIT_USAGE);
}

static void equal_labels(void **state)
{
	struct label a = { LABEL_SELINUX, 1, 2, 3, "a:b:c", 6 }, b = a;

	(void)state;
	b.uid = b.gid = b.mode = 9;
	assert_true(label_equal(&a, &b));
	b.selinux_len = 5;
	assert_true(label_equal(&a, &b));
	b.selinux_len = 4;
	assert_false(label_equal(&a, &b));
	b.selinux = NULL;
	b.selinux_len = 0;
	assert_false(label_equal(&a, &b));
	a.parts = b.parts = LABEL_MODE;
	assert_false(label_equal(&a, &b));
	a.parts = b.parts = 0;
	assert_true(label_equal(&a, &b));
	a.parts = LABEL_MODE;
	assert_false(label_equal(&a, &b));
}

static void records(void **state)
{
	static const char * const bad[] = {
		"[]", "{\"uid\": \"x\"}", "{\"selinux\": 1}",
		"{\"selinux\": \"abc\"}", "{\"selinux\": \"xy\"}", "{\"mode\": 1.5}",
	};
	char bytes[] = "any\0by\377tes";
	struct label l = { ALL, 4294967294U, 5, 07777, bytes, sizeof(bytes) };
	struct label back;
	json_object *o;
	size_t i;

	(void)state;
	for (i = 0; i < 3; i++) {
		o = label_to_json(&l);
		assert_true(label_from_json(o, &back));
		assert_true(label_equal(&l, &back));
		label_free(&back);
		json_object_put(o);
		/* Then none at all, then an empty one. */
		l.selinux = i ? bytes : NULL;
		l.selinux_len = 0;
	}
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		o = json_tokener_parse(bad[i]);
		assert_false(label_from_json(o, &back));
		json_object_put(o);
	}
	assert_false(label_from_json(NULL, &back));
}

static int new_file(char *path)
{
	int fd;

	strcpy(path, "/var/tmp/dmchain-label.XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	return fd;
}

static void file_changes(void **state)
{
	struct label l = { LABEL_MODE, 0, 0, 0640, NULL, 0 }, before, now;
	char path[40];
	int fd = new_file(path);

	(void)state;
	assert_int_equal(label_read(fd, &before), 0);
	assert_int_equal(before.parts, ALL);
	assert_int_equal(before.mode, 0600);
	assert_int_equal(label_probe(fd, NULL), 0);
	assert_int_equal(label_write(fd, &l), 0);
	if (!geteuid()) {
		l.parts = LABEL_OWNER | LABEL_GROUP;
		l.uid = 12345;
		l.gid = 23456;
		assert_int_equal(label_write(fd, &l), 0);
	}
	assert_int_equal(label_read(fd, &now), 0);
	assert_int_equal(now.mode, 0640);
	assert_int_equal(now.uid, geteuid() ? before.uid : 12345);
	assert_int_equal(now.gid, geteuid() ? before.gid : 23456);
	label_free(&now);
	assert_int_equal(label_write(fd, &before), 0);
	assert_int_equal(label_read(fd, &now), 0);
	assert_true(label_equal(&now, &before));
	label_free(&now);
	label_free(&before);
	close(fd);
	unlink(path);
}

/* Root on a file system with trusted attributes; others skip it. */
static void file_memory(void **state)
{
	struct label before, back;
	char path[40], copy[40], text[1000];
	struct chain_id host;
	int fd = new_file(path), other;
	ssize_t len;

	(void)state;
	assert_int_equal(label_read(fd, &before), 0);
	before.mode = 0123;
	assert_int_equal(label_recall(fd, &back, &host), LABEL_UNKNOWN);
	if (geteuid() || label_remember(fd, &before) ||
	    fgetxattr(fd, "trusted.dmchain.label", NULL, 0) < 0) {
		label_free(&before);
		close(fd);
		unlink(path);
		skip();
	}
	assert_int_equal(label_recall(fd, &back, &host), LABEL_OURS);
	assert_true(label_equal(&before, &back));
	label_free(&back);
	/* A copy of the file has its attributes, but not its inode. */
	len = fgetxattr(fd, "trusted.dmchain.label", text, sizeof(text) - 1);
	other = new_file(copy);
	assert_int_equal(fsetxattr(other, "trusted.dmchain.label", text,
				   (size_t)len, 0), 0);
	assert_int_equal(label_recall(other, &back, &host), LABEL_UNKNOWN);
	assert_int_equal(fsetxattr(fd, "trusted.dmchain.label", "{", 1, 0), 0);
	assert_int_equal(label_recall(fd, &back, &host), LABEL_UNKNOWN);
	text[len] = '\0';
	memcpy(strstr(text, "\"host\": \"") + 9, "ffff", 4);
	assert_int_equal(fsetxattr(fd, "trusted.dmchain.label", text,
				   (size_t)len, 0), 0);
	assert_int_equal(label_recall(fd, &back, &host), LABEL_FOREIGN);
	label_free(&back);
	assert_int_equal(label_forget(fd), 0);
	assert_int_equal(label_forget(fd), 0);
	assert_int_equal(label_recall(fd, &back, &host), LABEL_UNKNOWN);
	label_free(&before);
	close(fd);
	close(other);
	unlink(path);
	unlink(copy);
}

static void descriptors(void **state)
{
	static const struct {
		const char *arg;
		int fd;
	} cases[] = {
		{ "fd:0", 0 }, { "/dev/stdin", 0 }, { "fd:17", 17 }, { "/dev/fd/3", 3 },
		{ "/proc/self/fd/2147483647", 2147483647 }, { "fd:", -1 },
		{ "fd:-1", -1 }, { "fd:1x", -1 }, { "fd:x", -1 }, { "fd: 1", -1 },
		{ "fd:2147483648", -1 }, { "fd:99999999999", -1 }, { "fd", -1 },
		{ "./fd:1", -1 }, { "/dev/fd/", -1 }, { "/dev/fd/../fd/1", -1 },
		{ "/proc/1/fd/1", -1 }, { "", -1 },
	};
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(arg_fd(cases[i].arg), cases[i].fd);
	assert_int_equal(arg_layer_check("fd:0"), 0);
	assert_int_equal(arg_layer_check("file"), 0);
	assert_int_equal(arg_layer_check("fd:1/file"), 0);
	assert_int_equal(arg_layer_check("fd:x"), -EXIT_USAGE);
	assert_int_equal(arg_layer_check("fd:12345"), -EXIT_USAGE);
	assert_int_equal(arg_layer_check("/dev/fd/12345"), -EXIT_USAGE);
}

static int parse(int *argc, char ***argv, ...)
{
	static char *args[8];
	va_list list;

	va_start(list, argv);
	for (*argc = 0; (args[*argc] = va_arg(list, char *)); ++*argc)
		;
	va_end(list);
	*argv = args;
	return args_parse_layer(argc, argv, NULL, 2, 2, 1);
}

static void fd_option(void **state)
{
	char **argv;
	int argc;

	(void)state;
	assert_int_equal(parse(&argc, &argv, "open", "d", "--fd", "0", NULL), 0);
	assert_int_equal(argc, 2);
	assert_string_equal(argv[0], "d");
	assert_string_equal(argv[1], "fd:0");
	assert_int_equal(parse(&argc, &argv, "open", "d", "path", NULL), 0);
	assert_string_equal(argv[1], "path");
	assert_int_equal(parse(&argc, &argv, "open", "d", NULL), -EXIT_USAGE);
	assert_int_equal(parse(&argc, &argv, "open", "--fd", "0", NULL),
			 -EXIT_USAGE);
	assert_int_equal(parse(&argc, &argv, "open", "d", "path", "--fd", "0",
			       NULL), -EXIT_USAGE);
	assert_int_equal(parse(&argc, &argv, "open", "d", "--fd", "", NULL),
			 -EXIT_USAGE);
	assert_int_equal(parse(&argc, &argv, "open", "d", "--fd", "x", NULL),
			 -EXIT_USAGE);
	assert_int_equal(parse(&argc, &argv, "open", "d", "--fd", "777", NULL),
			 -EXIT_USAGE);
}

static void access_modes(void **state)
{
	static const struct {
		int flags, read, write;
	} cases[] = {
		{ O_RDWR, 0, 0 },
		{ O_RDONLY, 0, -EXIT_REFUSED },
		{ O_WRONLY, -EXIT_REFUSED, -EXIT_REFUSED },
		{ O_PATH, -EXIT_REFUSED, -EXIT_REFUSED },
		{ O_RDWR | O_APPEND, 0, -EXIT_REFUSED },
	};
	char path[40], *named;
	int file = new_file(path);
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		int fd = open(path, cases[i].flags);

		assert_int_equal(fd_check_access(fd, "x", false), cases[i].read);
		assert_int_equal(fd_check_access(fd, "x", true), cases[i].write);
		assert_int_equal(fd_read_only(fd), cases[i].write != 0);
		close(fd);
	}
	named = fd_path(file);
	assert_string_equal(named, path);
	free(named);
	unlink(path);
	assert_null(fd_path(file));
	/* Another file in its place is another file. */
	close(open(path, O_CREAT | O_RDWR, 0600));
	assert_null(fd_path(file));
	unlink(path);
	close(file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_labels),
		cmocka_unit_test(bad_labels),
		cmocka_unit_test(equal_labels),
		cmocka_unit_test(records),
		cmocka_unit_test(file_changes),
		cmocka_unit_test(file_memory),
		cmocka_unit_test(descriptors),
		cmocka_unit_test(fd_option),
		cmocka_unit_test(access_modes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
