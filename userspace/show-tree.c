// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A chain as it stands: the top above, a line for each layer, how much of it each
 * holds, who else stands there, and what jobs do to it.
 */
#include "dmchain.h"

#include <stdlib.h>
#include <string.h>

#define BAR_WIDTH	10
#define NAME_MIN	12
#define NAME_MAX	40

static const char *last_part(const char *path)
{
	const char *slash = path ? strrchr(path, '/') : NULL;

	return slash ? slash + 1 : path ? path : "?";
}

static void print_clean(const char *before, const char *text, int width)
{
	char *clean = strdup(text);

	if (clean)
		printf("%s%-*s", before, width, text_clean(clean));
	free(clean);
}

/* A little is more than nothing, and only all of it is full. */
static const char *bar(const struct show_layer *l, char *buf)
{
	uint64_t held = l->data_bytes + l->zero_bytes;
	unsigned int n = 0;

	if (held && l->size)
		n = (unsigned int)((double)held * BAR_WIDTH / (double)l->size);
	n += held && !n;
	n = n > BAR_WIDTH ? BAR_WIDTH : n;
	n -= n == BAR_WIDTH && held < l->size;
	memset(buf, '.', BAR_WIDTH);
	memset(buf, '#', n);
	buf[BAR_WIDTH] = '\0';
	return buf;
}

static bool has_user(char **users, const char *name)
{
	for (; users && *users; users++)
		if (!strcmp(*users, name))
			return true;
	return false;
}

/* Disks that come in here: they don't have the layer above. */
static void print_branches(const struct show_disk *d, unsigned int i)
{
	char **above = i ? d->layers[i - 1].users : NULL, **user;
	unsigned int nr = 0;

	for (user = d->layers[i].users; user && *user; user++) {
		if ((d->name && !strcmp(*user, d->name)) || has_user(above, *user))
			continue;
		print_clean(nr++ ? ", " : i ? "    |  .-- " : "       .-- ", *user, 0);
	}
	if (nr)
		printf("\n    %c /\n", i ? '|' : ' ');
}

/* @of: the disk; of a layer that is as large it needn't be told */
static void print_line(const struct show_layer *l, unsigned int i, uint64_t of,
		       int width)
{
	char held[32], size[32], text[BAR_WIDTH + 1];

	printf("%5u  ", i);
	print_clean("", last_part(l->path), width);
	printf("  %-4s  [%s] %s", l->access, bar(l, text),
	       size_text(l->data_bytes, held));
	if (l->zero_bytes)
		printf(" + %s zeroes", size_text(l->zero_bytes, held));
	if (l->size != of)
		printf(" of %s", size_text(l->size, size));
	if (l->damaged_bytes)
		printf(", DAMAGED");
	if (l->work)
		printf("  <- %s", l->work);
	putchar('\n');
}

static int name_width(const struct show_disk *d)
{
	size_t width = NAME_MIN, len;
	unsigned int i;

	for (i = 0; i < d->nr; i++) {
		len = strlen(last_part(d->layers[i].path));
		width = len > width ? len : width;
	}
	return (int)(width < NAME_MAX ? width : NAME_MAX);
}

void show_tree(const struct show_disk *d)
{
	int width = name_width(d);
	unsigned int i;

	puts("chain:");
	for (i = 0; i < d->nr; i++) {
		if (i)
			puts("    |");
		print_branches(d, i);
		print_line(&d->layers[i], i, d->size, width);
	}
}
