// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The table line, as the kernel takes it apart: what it accepts is within the limits
 * of Documentation/dm-chain.rst, and what it prints parses to the same. And the
 * controller's own reading of such a line, which has to go together with it.
 *
 * Input: the line. A form feed stands for "253:N chain ro ", a vertical tab for 64 of
 * these, with N counting, so that long lines are within reach.
 */
#include "fuzz.h"
#include "dm-chain-args.h"
#include <linux/dm-chain.h>

#include "userspace/dm.c"

#define MAX_WORDS	8192

static char *expand(struct in *in)
{
	char *text = calloc(1, 65536 + 64 * 32);
	unsigned int n = 0, k;
	size_t at = 0;

	must(text);
	for (; in->left && at < 65000; in->at++, in->left--) {
		uint8_t c = *in->at;

		if (c != '\f' && c != '\v') {
			text[at++] = c ? c : ' ';
			continue;
		}
		for (k = 0; k < (c == '\f' ? 1 : 64); k++)
			at += sprintf(text + at, "253:%u chain ro ", n++);
	}
	return text;
}

/* As dm core does, without its escapes. */
static unsigned int split(char *text, char **words)
{
	unsigned int n = 0;
	char *word;

	while ((word = strsep(&text, " \t\n")) && n < MAX_WORDS)
		if (*word)
			words[n++] = word;
	return n;
}

static void limits(const struct chain_args *a)
{
	unsigned int i, j;

	must(a->nr > a->nr_next && a->nr - a->nr_next <= DM_CHAIN_MAX_LAYERS);
	must(a->nr_next <= CHAIN_ARGS_MAX_NEXT);
	for (i = 0; i < a->nr; i++) {
		const struct chain_arg_layer *l = &a->layers[i];
		bool extra = l->word == CHAIN_WORD_NEXT || l->word == CHAIN_WORD_TARGET;

		must(*l->dev && l->word <= CHAIN_WORD_TARGET);
		must(l->format == DM_CHAIN_FORMAT_CHAIN || i + 1 == a->nr ||
		     (l->format == DM_CHAIN_FORMAT_RAW && l->word == CHAIN_WORD_TARGET));
		must(extra == (i < a->nr_next));
		must(l->word != CHAIN_WORD_RW || a->layers[a->nr_next].word == CHAIN_WORD_RW);
		for (j = 0; j < i; j++)
			must(strcmp(l->dev, a->layers[j].dev));
	}
}

static void same(const struct chain_args *a, const struct chain_args *b)
{
	unsigned int i;

	must(a->nr == b->nr && a->nr_next == b->nr_next && a->force == b->force);
	for (i = 0; i < a->nr; i++)
		must(!strcmp(a->layers[i].dev, b->layers[i].dev) &&
		     a->layers[i].format == b->layers[i].format &&
		     a->layers[i].word == b->layers[i].word);
}

/* A line of the kernel's, which has numbers for devices. */
static void controller(const char *line, const struct chain_args *a)
{
	struct table t = { 0 };
	unsigned int i, major, minor;

	for (i = 0; a && i < a->nr; i++)
		if (sscanf(a->layers[i].dev, "%u:%u", &major, &minor) != 2)
			return;
	if (!table_parse(&t, line)) {
		must(!a);
		return;
	}
	for (i = 0; a && i < a->nr; i++)
		must(t.layers[i].format == a->layers[i].format &&
		     !strcmp(t.layers[i].role, chain_word_name(a->layers[i].word)));
	must(!a || t.nr == a->nr);
	dm_table_free(&t);
}

static void print(const struct chain_args *a)
{
	static char line[1 << 17], cut[64];
	static char *words[MAX_WORDS];
	size_t len = chain_args_print(a, line, sizeof(line));
	struct chain_args again;
	const char *error = NULL;
	size_t room = 1 + len % sizeof(cut);

	must(len == strlen(line) && len < sizeof(line) - 1);
	must(chain_args_print(a, cut, room) == strlen(cut) && strlen(cut) < room);
	must(!strncmp(cut, line, strlen(cut)));
	controller(line, a);
	must(!chain_args_parse(split(line, words), words, &again, &error));
	same(a, &again);
	chain_args_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char *words[MAX_WORDS];
	struct in in = { data, size };
	char *line = expand(&in);
	const char *error = NULL;
	struct chain_args a;
	int r;

	controller(line, NULL);
	r = chain_args_parse(split(line, words), words, &a, &error);
	must(!r == !error);
	if (r) {
		must(r == -EINVAL && *error && strlen(error) < 120);
		must(!a.layers);
	} else {
		limits(&a);
		print(&a);
		chain_args_free(&a);
	}
	free(line);
	return 0;
}
