// SPDX-License-Identifier: GPL-2.0-only
/*
 * Suite for the table line: what is a line, and which rule each wrong one
 * breaks.
 */
#include <kunit/test.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "../dm-chain-args.h"
#include <linux/dm-chain-format.h>

#define MAX_WORDS	(3 * 1040 + 8)
#define LINE_BYTES	(32 * 1040)

/* A line and its words, cut as dm core cuts them (no quoting needed here). */
struct line {
	unsigned int argc;
	char *argv[MAX_WORDS];
	char text[LINE_BYTES];
	char back[LINE_BYTES];
};

static struct line *make_line(struct kunit *test, const char *text)
{
	struct line *l = kunit_kzalloc(test, sizeof(*l), GFP_KERNEL);
	char *rest, *word;

	KUNIT_ASSERT_NOT_NULL(test, l);
	strscpy(l->text, text, sizeof(l->text));
	rest = l->text;
	while ((word = strsep(&rest, " ")) && l->argc < MAX_WORDS)
		if (*word)
			l->argv[l->argc++] = word;
	return l;
}

static int parse(struct line *l, struct chain_args *args, const char **error)
{
	*error = NULL;
	return chain_args_parse(l->argc, l->argv, args, error);
}

/* A good line, and what it says. */
static const struct good {
	const char *line;
	const char *printed;	/* NULL: as it is */
	unsigned int nr, nr_next;
	bool force;
} good_lines[] = {
	{ "1 /dev/a chain rw", NULL, 1, 0 },
	{ "1 /dev/a chain ro", NULL, 1, 0 },
	{ "1 /dev/a raw rw", NULL, 1, 0 },
	{ "1 7:0 raw ro", NULL, 1, 0 },
	{ "2 7:0 chain rw 7:1 chain ro", NULL, 2, 0 },
	{ "2 7:0 chain ro 7:1 raw ro", NULL, 2, 0 },
	{ "3 a chain rw b chain ro c raw ro", NULL, 3, 0 },
	{ "2 n chain next a chain rw", NULL, 2, 1 },
	{ "2 n chain next a raw rw", NULL, 2, 1 },
	{ "4 n chain next a chain rw b chain ro c raw ro", NULL, 4, 1 },
	{ "3 n chain next m chain next a chain ro", NULL, 3, 2 },
	{ "2 n raw target a chain rw", NULL, 2, 1 },
	{ "3 n chain target a chain rw b raw ro", NULL, 3, 1 },
	{ "1 a chain rw 0", "1 a chain rw", 1, 0 },
	{ "1 a chain rw 1 force", NULL, 1, 0, true },
	{ "2 a chain rw b raw ro 1 force", NULL, 2, 0, true },
	/* For a job that may write it: whether there is one is not grammar. */
	{ "2 a chain rw b chain rw", NULL, 2, 0 },
	{ "3 a chain rw b chain ro c raw rw", NULL, 3, 0 },
	{ "3 n chain next a chain rw b chain rw", NULL, 3, 1 },
	/* Words of the grammar are device names like any others. */
	{ "2 raw chain rw chain raw ro", NULL, 2, 0 },
	{ "1 1 chain rw 1 force", NULL, 1, 0, true },
};

static void good_name(const struct good *g, char *name)
{
	strscpy(name, g->line, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(good, good_lines, good_name);

static void args_good(struct kunit *test)
{
	const struct good *g = test->param_value;
	const char *printed = g->printed ?: g->line, *error;
	struct line *l = make_line(test, g->line);
	struct chain_args args;

	KUNIT_ASSERT_EQ_MSG(test, parse(l, &args, &error), 0, "%s", error);
	KUNIT_EXPECT_EQ(test, args.nr, g->nr);
	KUNIT_EXPECT_EQ(test, args.nr_next, g->nr_next);
	KUNIT_EXPECT_EQ(test, args.force, g->force);
	KUNIT_EXPECT_EQ(test, chain_args_print(&args, l->back, LINE_BYTES),
			strlen(printed));
	KUNIT_EXPECT_STREQ(test, l->back, printed);
	chain_args_free(&args);
	KUNIT_EXPECT_NULL(test, args.layers);
	chain_args_free(&args);
}

static void args_fields(struct kunit *test)
{
	struct line *l = make_line(test, "3 n chain next 7:1 chain rw b raw ro");
	struct chain_args args;
	const char *error;

	KUNIT_ASSERT_EQ(test, parse(l, &args, &error), 0);
	KUNIT_EXPECT_STREQ(test, args.layers[0].dev, "n");
	KUNIT_EXPECT_EQ(test, args.layers[0].format, DM_CHAIN_FORMAT_CHAIN);
	KUNIT_EXPECT_EQ(test, args.layers[0].word, CHAIN_WORD_NEXT);
	KUNIT_EXPECT_STREQ(test, args.layers[1].dev, "7:1");
	KUNIT_EXPECT_EQ(test, args.layers[1].format, DM_CHAIN_FORMAT_CHAIN);
	KUNIT_EXPECT_EQ(test, args.layers[1].word, CHAIN_WORD_RW);
	KUNIT_EXPECT_STREQ(test, args.layers[2].dev, "b");
	KUNIT_EXPECT_EQ(test, args.layers[2].format, DM_CHAIN_FORMAT_RAW);
	KUNIT_EXPECT_EQ(test, args.layers[2].word, CHAIN_WORD_RO);
	chain_args_free(&args);
}

/* A line that breaks one rule, and a part of what it is told. */
static const struct bad {
	const char *line;
	const char *rule;
} bad_lines[] = {
	{ "", "Line is empty" },
	{ "x", "Number of layers" },
	{ "0", "Number of layers" },
	{ "0 a chain rw", "Number of layers" },
	{ "-1 a chain rw", "Number of layers" },
	{ "+1 a chain rw", "Number of layers" },
	{ "01 a chain rw", "Number of layers" },
	{ "1x a chain rw", "Number of layers" },
	{ "0x1 a chain rw", "Number of layers" },
	{ "1.0 a chain rw", "Number of layers" },
	{ "1033 a chain rw", "Number of layers" },
	{ "9999 a chain rw", "Number of layers" },
	{ "10000 a chain rw", "Number of layers" },
	{ "4294967297 a chain rw", "Number of layers" },
	{ "18446744073709551617 a chain rw", "Number of layers" },
	{ "/dev/a chain rw", "Number of layers" },
	{ "1", "Fewer layers" },
	{ "1 a", "Fewer layers" },
	{ "1 a chain", "Fewer layers" },
	{ "2 a chain rw", "Fewer layers" },
	{ "2 a chain rw b chain", "Fewer layers" },
	{ "1032 a chain rw", "Fewer layers" },
	{ "1 a qcow2 rw", "chain or raw" },
	{ "1 a CHAIN rw", "chain or raw" },
	{ "1 a chai rw", "chain or raw" },
	{ "1 a none rw", "chain or raw" },
	{ "1 a rw chain", "chain or raw" },
	{ "1 a chain w", "rw, ro, next or target" },
	{ "1 a chain RW", "rw, ro, next or target" },
	{ "1 a chain targets", "rw, ro, next or target" },
	{ "3 a chain ro b chain ro c raw rw", "A lower layer may be rw only if the top is" },
	{ "2 a chain ro b chain rw", "A lower layer may be rw only if the top is" },
	{ "2 a raw rw b chain ro", "Only the lowest layer may be raw" },
	{ "2 a raw rw b raw ro", "Only the lowest layer may be raw" },
	{ "3 a chain rw b raw ro c chain ro", "Only the lowest layer may be raw" },
	{ "2 n raw next a chain rw", "Only the lowest layer may be raw" },
	{ "2 a chain rw n chain next", "next and target must come before" },
	{ "3 a chain rw n chain next b chain ro", "next and target must come before" },
	{ "3 n chain next a chain rw m chain next", "next and target must come before" },
	{ "1 n chain next", "at least one layer" },
	{ "2 n chain next m chain next", "at least one layer" },
	{ "2 a chain rw a chain ro", "one place only" },
	{ "3 a chain rw b chain ro a raw ro", "one place only" },
	{ "2 a chain next a chain rw", "one place only" },
	{ "1 a chain rw b chain ro", "number of features" },
	{ "1 a chain rw force", "number of features" },
	{ "1 a chain rw +1 force", "number of features" },
	{ "1 a chain rw 1", "Number of features" },
	{ "1 a chain rw 2 force", "Number of features" },
	{ "1 a chain rw 0 force", "Number of features" },
	{ "1 a chain rw 1 force force", "Number of features" },
	{ "1 a chain rw 1 forced", "Unknown feature" },
	{ "1 a chain rw 1 Force", "Unknown feature" },
	{ "1 a chain rw 2 force zero", "Unknown feature" },
	{ "1 a chain rw 2 force force", "given twice" },
};

static void bad_name(const struct bad *b, char *name)
{
	strscpy(name, *b->line ? b->line : "(empty)", KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(bad, bad_lines, bad_name);

static void args_bad(struct kunit *test)
{
	const struct bad *b = test->param_value;
	struct line *l = make_line(test, b->line);
	struct chain_args args;
	const char *error;

	memset(&args, 0xee, sizeof(args));
	KUNIT_ASSERT_EQ(test, parse(l, &args, &error), -EINVAL);
	KUNIT_ASSERT_NOT_NULL(test, error);
	KUNIT_EXPECT_TRUE_MSG(test, strstr(error, b->rule), "said: %s", error);
	KUNIT_EXPECT_NULL(test, args.layers);
}

/* A device that is no word at all: dm core makes one of a lone backslash. */
static void args_empty_device(struct kunit *test)
{
	struct line *l = make_line(test, "1 a chain rw");
	struct chain_args args;
	const char *error;

	l->argv[1][0] = '\0';
	KUNIT_ASSERT_EQ(test, parse(l, &args, &error), -EINVAL);
	KUNIT_EXPECT_STREQ(test, error, "Device of a layer is empty");
}

/* A chain of @nr layers under @nr_next in role next. */
static struct line *long_line(struct kunit *test, unsigned int nr_next,
			      unsigned int nr)
{
	struct line *l = kunit_kzalloc(test, sizeof(*l), GFP_KERNEL);
	char *text = kunit_kzalloc(test, LINE_BYTES, GFP_KERNEL);
	unsigned int i, at;

	KUNIT_ASSERT_NOT_NULL(test, l);
	KUNIT_ASSERT_NOT_NULL(test, text);
	at = scnprintf(text, LINE_BYTES, "%u", nr_next + nr);
	for (i = 0; i < nr_next + nr; i++)
		at += scnprintf(text + at, LINE_BYTES - at, " 253:%u chain %s",
				i, i < nr_next ? "next" :
				i == nr_next ? "rw" : "ro");
	return make_line(test, text);
}

static void args_long(struct kunit *test)
{
	struct line *l = long_line(test, 8, 1024);
	struct chain_args args;
	const char *error;

	KUNIT_ASSERT_EQ(test, parse(l, &args, &error), 0);
	KUNIT_EXPECT_EQ(test, args.nr, 1032);
	KUNIT_EXPECT_EQ(test, args.nr_next, 8);
	KUNIT_EXPECT_STREQ(test, args.layers[1031].dev, "253:1031");
	chain_args_free(&args);

	l = long_line(test, 0, 1025);
	KUNIT_ASSERT_EQ(test, parse(l, &args, &error), -EINVAL);
	KUNIT_EXPECT_STREQ(test, error, "A chain has at most 1024 layers");
	l = long_line(test, 8, 1025);
	KUNIT_ASSERT_EQ(test, parse(l, &args, &error), -EINVAL);
	l = long_line(test, 9, 1);
	KUNIT_ASSERT_EQ(test, parse(l, &args, &error), -EINVAL);
	KUNIT_EXPECT_STREQ(test, error,
			   "Roles next and target are possible for at most 8 devices");
}

/* A buffer of any size gets the beginning of the line and no byte more. */
static void args_print_cut(struct kunit *test)
{
	struct line *l = make_line(test, "2 a chain rw b raw ro 1 force");
	struct chain_args args;
	const char *error;
	char full[64];
	size_t room, n;

	KUNIT_ASSERT_EQ(test, parse(l, &args, &error), 0);
	n = chain_args_print(&args, full, sizeof(full));
	for (room = 1; room <= n + 1; room++) {
		memset(l->back, 0xee, sizeof(full));
		KUNIT_EXPECT_EQ(test, chain_args_print(&args, l->back, room),
				room - 1);
		KUNIT_EXPECT_MEMEQ(test, l->back, full, room - 1);
		KUNIT_EXPECT_EQ(test, l->back[room - 1], 0);
		KUNIT_EXPECT_EQ(test, (u8)l->back[room], 0xee);
	}
	chain_args_free(&args);
}

static struct kunit_case cases[] = {
	KUNIT_CASE_PARAM(args_good, good_gen_params),
	KUNIT_CASE(args_fields),
	KUNIT_CASE_PARAM(args_bad, bad_gen_params),
	KUNIT_CASE(args_empty_device),
	KUNIT_CASE(args_long),
	KUNIT_CASE(args_print_cut),
	{}
};

static struct kunit_suite suite = {
	.name = "dm_chain_args",
	.test_cases = cases,
};

kunit_test_suite(suite);

MODULE_DESCRIPTION("KUnit suite of dm-chain: table line");
MODULE_LICENSE("GPL");
