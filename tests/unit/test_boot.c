// SPDX-License-Identifier: GPL-2.0-or-later
// sources: userspace/boot-file.c userspace/boot-unit.c userspace/msg.c userspace/fdarg.c
// libs: -ljson-c
/*
 * Declarations of disks that come up with the machine: what is read is what was
 * written, what is not understood is refused; and the names that systemd has for them.
 */
#include "boot.h"
#include "online.h"
#include "rng.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static char dir[] = "/tmp/test_boot.XXXXXX";

/* As dm.c has it. */
bool dm_name_valid(const char *name)
{
	return *name && !strchr(name, '/') && !strchr(name, ' ');
}

static void put(const char *name, const char *text, size_t len)
{
	char *path = boot_path(name);
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
	free(path);
}

static int load_text(const char *text, struct boot_decl *d)
{
	put("t", text, strlen(text));
	return boot_load("t", d);
}

static int load_code(const char *text)
{
	struct boot_decl d;
	int ret;

	msg_mute(true);
	ret = load_text(text, &d);
	msg_mute(false);
	boot_free(&d);
	return -ret;
}

static void all_keys(void **state)
{
	struct boot_decl d;

	(void)state;
	assert_int_equal(load_text("{ \"name\": \"t\", \"path\": \"/a/\\u00e4 b\", \"format\": \"raw\",\n"
				   "\"read-only\": true, \"network\": true, \"jobs\": \"report\",\n"
				   "\"label-rw\": \"0:0:600\", \"label-ro\": \"::440\",\n"
				   "\"needs\": [\"/x\", \"/dev/y\"],\n"
				   "\"next\": {\"path\": \"/n\", \"format\": \"raw\"} }\n\n", &d), 0);
	assert_string_equal(d.name, "t");
	assert_string_equal(d.path, "/a/\xc3\xa4 b");
	assert_int_equal(d.format, DM_CHAIN_FORMAT_RAW);
	assert_true(d.read_only && d.network && d.report);
	assert_string_equal(d.label_rw, "0:0:600");
	assert_string_equal(d.label_ro, "::440");
	assert_int_equal(d.nr_needs, 2);
	assert_string_equal(d.needs[1], "/dev/y");
	assert_string_equal(d.next, "/n");
	assert_int_equal(d.next_format, DM_CHAIN_FORMAT_RAW);
	boot_free(&d);
}

static void defaults(void **state)
{
	struct boot_decl d;

	(void)state;
	assert_int_equal(load_text("{\"path\":\"/p\"}", &d), 0);
	assert_int_equal(d.format, DM_CHAIN_FORMAT_CHAIN);
	assert_false(d.read_only || d.network || d.report);
	assert_null(d.label_rw);
	assert_null(d.next);
	assert_int_equal(d.nr_needs, 0);
	boot_free(&d);
}

static void refused(void **state)
{
	static const char * const cases[] = {
		"", " ", "{", "{}", "[]", "null", "7", "\"/p\"", "{\"path\":\"/p\"",
		"{\"path\":\"/p\"}x", "{\"path\":\"/p\"} {}", "{'path':'/p'}",
		"{\"path\":\"/p\",}", "{\"path\":null}", "{\"path\":{}}",
		"{\"path\":\"\"}", "{\"path\":\"p\"}", "{\"path\":\"/p\\u0000\"}",
		"{\"path\":\"/p\\n\"}", "{\"path\":\"/p\\u007f\"}",
		"{\"path\":\"/dev/fd/0\"}", "{\"path\":\"/p\",\"Path\":\"/p\"}",
		"{\"path\":\"/p\",\"\":1}", "{\"path\":\"/p\",\"name\":\"u\"}",
		"{\"path\":\"/p\",\"format\":\"RAW\"}",
		"{\"path\":\"/p\",\"format\":0}",
		"{\"path\":\"/p\",\"read-only\":1}",
		"{\"path\":\"/p\",\"network\":\"true\"}",
		"{\"path\":\"/p\",\"jobs\":null}",
		"{\"path\":\"/p\",\"label-rw\":[]}",
		"{\"path\":\"/p\",\"needs\":{}}",
		"{\"path\":\"/p\",\"needs\":[\"\"]}",
		"{\"path\":\"/p\",\"needs\":[[\"/x\"]]}",
		"{\"path\":\"/p\",\"next\":\"/n\"}",
		"{\"path\":\"/p\",\"next\":{\"path\":\"/n\"}}",
		"{\"path\":\"/p\",\"next\":{\"path\":\"n\",\"format\":\"raw\"}}",
		"{\"path\":\"/p\",\"next\":{\"path\":\"/n\",\"format\":\"raw\",\"x\":1}}",
		"[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]",
		"{\"path\":\"/p\xff\"}", "{\"path\":NaN}", "/* */ {\"path\":\"/p\"}",
	};
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		int code = load_code(cases[i]);

		if (code != EXIT_USAGE)
			print_message("# %s: exit code %d\n", cases[i], code);
		assert_int_equal(code, EXIT_USAGE);
		assert_null(strchr(msg_last(), '\n'));
		assert_non_null(strstr(msg_last(), "/t.json: "));
	}
}

static bool equal(const struct boot_decl *a, const struct boot_decl *b)
{
	unsigned int i;

	if (strcmp(a->path, b->path) || a->format != b->format ||
	    a->read_only != b->read_only || a->network != b->network ||
	    a->report != b->report || a->nr_needs != b->nr_needs ||
	    !a->next != !b->next || !a->label_rw != !b->label_rw ||
	    !a->label_ro != !b->label_ro)
		return false;
	for (i = 0; i < a->nr_needs; i++)
		if (strcmp(a->needs[i], b->needs[i]))
			return false;
	return (!a->next || (!strcmp(a->next, b->next) &&
			     a->next_format == b->next_format)) &&
	       (!a->label_rw || !strcmp(a->label_rw, b->label_rw)) &&
	       (!a->label_ro || !strcmp(a->label_ro, b->label_ro));
}

/* What was spoiled is refused, or is something that can be written and read again. */
static void spoiled(void **state)
{
	static const char text[] =
		"{\"name\":\"t\",\"path\":\"/a/b\",\"format\":\"raw\",\"read-only\":true,"
		"\"network\":false,\"jobs\":\"report\",\"label-rw\":\"0:0:600\","
		"\"needs\":[\"/x\",\"/dev/y\"],\"next\":{\"path\":\"/n\",\"format\":\"chain\"}}";
	struct boot_decl d, again;
	char copy[sizeof(text)];
	unsigned int i, good = 0;

	(void)state;
	msg_mute(true);
	for (i = 0; i < 4000; i++) {
		unsigned int n = (unsigned int)(rng() % 3) + 1;
		int ret;

		memcpy(copy, text, sizeof(text));
		while (n--)
			copy[rng() % (sizeof(text) - 1)] = rng() % 3 ?
				"{}[]\",:\\/tfn0u"[rng() % 14] : (char)rng();
		put("t", copy, sizeof(text) - 1);
		ret = boot_load("t", &d);
		assert_true(ret == 0 || ret == -EXIT_USAGE);
		if (!ret) {
			good++;
			assert_int_equal(boot_save(&d), 0);
			assert_int_equal(boot_load("t", &again), 0);
			assert_true(equal(&d, &again));
			boot_free(&again);
		}
		boot_free(&d);
	}
	msg_mute(false);
	assert_in_range(good, 20, 3900);
}

static void saved_whole(void **state)
{
	struct boot_decl d, again;
	char *path = boot_path("t");
	struct stat st;

	(void)state;
	assert_int_equal(load_text("{\"path\":\"/p\"}", &d), 0);
	free(d.path);
	d.path = strdup("/with\nline");
	msg_mute(true);
	assert_int_equal(boot_save(&d), -EXIT_USAGE);
	msg_mute(false);
	boot_free(&d);
	assert_int_equal(boot_load("t", &again), 0);
	assert_string_equal(again.path, "/p");
	boot_free(&again);
	assert_int_equal(stat(path, &st), 0);
	free(path);
	assert_true(boot_declared("t"));
	assert_int_equal(boot_remove("t"), 0);
	assert_false(boot_declared("t"));
}

static void not_obeyed(void **state)
{
	char *path = boot_path("t");
	struct boot_decl d;

	(void)state;
	put("t", "{\"path\":\"/p\"}", 13);
	assert_int_equal(chmod(path, 0664), 0);
	msg_mute(true);
	assert_int_equal(boot_load("t", &d), -EXIT_FAILED);
	msg_mute(false);
	assert_non_null(strstr(msg_last(), "others than root"));
	boot_free(&d);
	unlink(path);
	free(path);
}

/* An error may tell of the one before. */
static void lines(void **state)
{
	(void)state;
	msg_mute(true);
	msg_fail(EXIT_FAILED, "/etc/dmchain/d.json: cannot be written");
	msg_fail(EXIT_FAILED, "d: %s; mend that", msg_last());
	assert_string_equal(msg_last(), "d: /etc/dmchain/d.json: cannot be written; mend that");
	msg_fail_errno(EXIT_FAILED, ENOENT, "e: %s", msg_last());
	assert_string_equal(msg_last(), "e: d: /etc/dmchain/d.json: cannot be written; mend that: No such file or directory");
	msg_mute(false);
}

static void needs(void **state)
{
	struct boot_decl d = { .name = strdup("t") };
	unsigned int i;
	char text[32];

	(void)state;
	/* Of a file the folder, of what is no file itself */
	assert_int_equal(boot_need(&d, "/etc/passwd"), 1);
	assert_string_equal(d.needs[0], "/etc");
	assert_int_equal(boot_need(&d, "/etc/group"), 0);
	assert_int_equal(d.nr_needs, 1);
	assert_int_equal(boot_need(&d, "/dev/no/device"), 1);
	for (i = 0; i < 100; i++) {
		snprintf(text, sizeof(text), "/no/%u", i);
		assert_true(boot_need(&d, text) >= 0);
	}
	assert_int_equal(d.nr_needs, 64);
	boot_free(&d);
}

static void names(void **state)
{
	char **list;
	unsigned int nr;

	(void)state;
	put("b", "{}", 2);
	put("a", "{}", 2);
	put("c d", "{}", 2);
	put(".hidden", "{}", 2);
	msg_mute(true);
	assert_int_equal(boot_names(&list, &nr), 0);
	msg_mute(false);
	assert_int_equal(nr, 2);
	assert_string_equal(list[0], "a");
	assert_string_equal(list[1], "b");
	assert_null(list[2]);
	boot_names_free(list);
	boot_remove("a");
	boot_remove("b");
	boot_remove("c d");
	boot_remove(".hidden");
}

static void instances(void **state)
{
	static const char ok[] = "ABCXYZabcxyz0189#+-.:@_";
	char name[16], buf[BOOT_UNIT_MAX];
	unsigned int i, j;

	(void)state;
	assert_string_equal(unit_instance("vm-a.1:2@x_", buf), "vm-a.1:2@x_");
	assert_string_equal(unit_instance("a+b#c", buf), "a\\x2bb\\x23c");
	for (i = 0; i < 2000; i++) {
		for (j = 0; j < sizeof(name) - 1; j++)
			name[j] = ok[rng() % (sizeof(ok) - 1)];
		name[j] = 0;
		unit_instance(name, buf);
		assert_true(unit_unescape(buf));
		assert_string_equal(buf, name);
	}
	for (i = 0; i < 4; i++) {
		strcpy(buf, ((const char *[]){ "\\", "a\\x2", "\\x00", "\\y41" })[i]);
		assert_false(unit_unescape(buf));
	}
}

/* As systemd-escape --path says. */
static void paths(void **state)
{
	static const char * const cases[][2] = {
		{ "/", "-" },
		{ "/dev/mapper/vm-a", "dev-mapper-vm\\x2da" },
		{ "//dev//sda/", "dev-sda" },
		{ "/dev/mapper/a+b", "dev-mapper-a\\x2bb" },
		{ "/.x/.y", "\\x2ex-.y" },
		{ "/a b/\xc3\xa4", "a\\x20b-\\xc3\\xa4" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		char *text = unit_path(cases[i][0]);

		assert_string_equal(text, cases[i][1]);
		free(text);
	}
}

static void quotes(void **state)
{
	char *text = unit_quote("/a \"b\" 100%/\\n");

	(void)state;
	assert_string_equal(text, "\"/a \\\"b\\\" 100%%/\\\\n\"");
	free(text);
}

static int make_dir(void **state)
{
	(void)state;
	boot_dir = mkdtemp(dir);
	return !boot_dir;
}

static int remove_dir(void **state)
{
	(void)state;
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_keys),
		cmocka_unit_test(defaults),
		cmocka_unit_test(refused),
		cmocka_unit_test(spoiled),
		cmocka_unit_test(saved_whole),
		cmocka_unit_test(not_obeyed),
		cmocka_unit_test(lines),
		cmocka_unit_test(needs),
		cmocka_unit_test(names),
		cmocka_unit_test(instances),
		cmocka_unit_test(paths),
		cmocka_unit_test(quotes),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
