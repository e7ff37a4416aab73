// SPDX-License-Identifier: GPL-2.0-only
/*
 * Grammar of the table line. Owns nothing but the array it makes; no locking.
 * Each error string states the rule that the line broke, since it is all that
 * "dmsetup" users find in the log.
 */
#include "dm-chain-args.h"
#include <linux/ctype.h>
#include <linux/dm-chain-format.h>
#include <linux/slab.h>

#define WORDS_PER_LAYER	3

/* What is left of the line, and where to complain. */
struct words {
	unsigned int n;
	char **at;
	const char **error;
};

static int broken(struct words *w, const char *rule)
{
	*w->error = rule;
	return -EINVAL;
}

static const char *shift(struct words *w)
{
	w->n--;
	return *w->at++;
}

/* Decimal digits only: no sign, no blank, no leading zero, below 10000. */
static bool parse_number(const char *s, unsigned int *n)
{
	unsigned int digits;

	*n = 0;
	for (digits = 0; isdigit(s[digits]) && digits < 4; digits++)
		*n = *n * 10 + (s[digits] - '0');
	return digits && !s[digits] && (s[0] != '0' || digits == 1);
}

static const char * const format_names[] = {
	[DM_CHAIN_FORMAT_RAW] = "raw",
	[DM_CHAIN_FORMAT_CHAIN] = "chain",
};

static const char * const word_names[] = {
	[CHAIN_WORD_RW] = "rw",
	[CHAIN_WORD_RO] = "ro",
	[CHAIN_WORD_NEXT] = "next",
	[CHAIN_WORD_TARGET] = "target",
};

const char *chain_format_name(u32 format)
{
	return format_names[format];
}

const char *chain_word_name(u8 word)
{
	return word_names[word];
}

static int parse_layer(struct words *w, struct chain_arg_layer *layer)
{
	int i;

	layer->dev = shift(w);
	if (!*layer->dev)
		return broken(w, "Device of a layer is empty");
	/* Entry 0, DM_CHAIN_FORMAT_NONE, has no name. */
	i = match_string(format_names + 1, ARRAY_SIZE(format_names) - 1,
			 shift(w));
	if (i < 0)
		return broken(w, "Format of a layer must be chain or raw");
	layer->format = i + 1;
	i = match_string(word_names, ARRAY_SIZE(word_names), shift(w));
	if (i < 0)
		return broken(w, "Role of a layer must be rw, ro, next or target");
	layer->word = i;
	return 0;
}

static int parse_layers(struct words *w, struct chain_args *out)
{
	unsigned int i;
	int r;

	for (i = 0; i < out->nr; i++) {
		r = parse_layer(w, &out->layers[i]);
		if (r)
			return r;
	}
	return 0;
}

static int parse_count(struct words *w, struct chain_args *out)
{
	if (!w->n)
		return broken(w, "Line is empty: number of layers expected");
	if (!parse_number(shift(w), &out->nr) || !out->nr ||
	    out->nr > DM_CHAIN_MAX_LAYERS + CHAIN_ARGS_MAX_NEXT)
		return broken(w, "Number of layers must be 1 to 1024, and up to 8 next");
	if (out->nr > w->n / WORDS_PER_LAYER)
		return broken(w, "Fewer layers than announced: each is <dev> <format> <role>");
	return 0;
}

static int parse_features(struct words *w, struct chain_args *out)
{
	unsigned int nr;

	if (!w->n)
		return 0;
	if (!parse_number(shift(w), &nr))
		return broken(w, "After the announced layers a number of features must follow");
	if (nr != w->n)
		return broken(w, "Number of features must be that of the words after it");
	while (w->n) {
		if (strcmp(shift(w), "force"))
			return broken(w, "Unknown feature: there is only force");
		if (out->force)
			return broken(w, "Feature force is given twice");
		out->force = true;
	}
	return 0;
}

/* Attached, and not part of what is seen. */
static bool is_extra(const struct chain_arg_layer *l)
{
	return l->word == CHAIN_WORD_NEXT || l->word == CHAIN_WORD_TARGET;
}

static int check_next(struct words *w, struct chain_args *out)
{
	unsigned int i;

	while (out->nr_next < out->nr && is_extra(&out->layers[out->nr_next]))
		out->nr_next++;
	for (i = out->nr_next; i < out->nr; i++)
		if (is_extra(&out->layers[i]))
			return broken(w, "Roles next and target must come before all layers");
	if (out->nr_next > CHAIN_ARGS_MAX_NEXT)
		return broken(w, "Roles next and target are possible for at most 8 devices");
	if (out->nr_next == out->nr)
		return broken(w, "A chain has at least one layer beside next and target");
	if (out->nr - out->nr_next > DM_CHAIN_MAX_LAYERS)
		return broken(w, "A chain has at most 1024 layers");
	return 0;
}

static int check_layers(struct words *w, const struct chain_args *args)
{
	const struct chain_arg_layer *l = args->layers;
	unsigned int i;

	for (i = args->nr_next + 1; i < args->nr; i++)
		if (l[i].word != CHAIN_WORD_RO &&
		    l[args->nr_next].word == CHAIN_WORD_RO)
			return broken(w, "A lower layer may be rw only if the top is");
	for (i = 0; i + 1 < args->nr; i++)
		if (l[i].format == DM_CHAIN_FORMAT_RAW &&
		    l[i].word != CHAIN_WORD_TARGET)
			return broken(w, "Only the lowest layer may be raw");
	return 0;
}

static int check_devices(struct words *w, const struct chain_args *args)
{
	unsigned int i, j;

	for (i = 1; i < args->nr; i++)
		for (j = 0; j < i; j++)
			if (!strcmp(args->layers[i].dev, args->layers[j].dev))
				return broken(w, "A device may stand in one place only");
	return 0;
}

static int parse_line(struct words *w, struct chain_args *out)
{
	int r;

	r = parse_count(w, out);
	if (r)
		return r;
	out->layers = kvcalloc(out->nr, sizeof(*out->layers), GFP_KERNEL);
	if (!out->layers) {
		*w->error = "Cannot allocate the list of layers";
		return -ENOMEM;
	}
	r = parse_layers(w, out);
	if (!r)
		r = parse_features(w, out);
	if (!r)
		r = check_next(w, out);
	if (!r)
		r = check_layers(w, out);
	if (!r)
		r = check_devices(w, out);
	return r;
}

int chain_args_parse(unsigned int argc, char **argv, struct chain_args *out,
		     const char **error)
{
	struct words w = { .n = argc, .at = argv, .error = error };
	int r;

	memset(out, 0, sizeof(*out));
	r = parse_line(&w, out);
	if (r)
		chain_args_free(out);
	return r;
}

void chain_args_free(struct chain_args *args)
{
	kvfree(args->layers);
	memset(args, 0, sizeof(*args));
}

size_t chain_args_print(const struct chain_args *args, char *buf, size_t room)
{
	size_t at = scnprintf(buf, room, "%u", args->nr);
	unsigned int i;

	for (i = 0; i < args->nr; i++) {
		const struct chain_arg_layer *l = &args->layers[i];

		at += scnprintf(buf + at, room - at, " %s %s %s", l->dev,
				chain_format_name(l->format),
				chain_word_name(l->word));
	}
	if (args->force)
		at += scnprintf(buf + at, room - at, " 1 force");
	return at;
}

CHAIN_EXPORT_FOR_KUNIT(chain_format_name);
CHAIN_EXPORT_FOR_KUNIT(chain_word_name);
CHAIN_EXPORT_FOR_KUNIT(chain_args_parse);
CHAIN_EXPORT_FOR_KUNIT(chain_args_free);
CHAIN_EXPORT_FOR_KUNIT(chain_args_print);
