// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The picture in letters, for a terminal.
 */
#include "picture.h"

#include <stdlib.h>
#include <string.h>

#define FEW_EMPTY 3	/* rows that have nothing are told one by one */

static char letter(const struct picture *p, unsigned int layer, unsigned int c)
{
	const struct picture_cell *cell = &p->cells[(size_t)layer * p->columns + c];
	uint64_t of = picture_column(p, c + 1) - picture_column(p, c);

	if (cell->damaged)
		return '!';
	if (cell->data)
		return " .:+#"[picture_level(cell->data, of)];
	return cell->zero ? '0' : ' ';
}

static bool is_empty(const struct picture *p, unsigned int layer)
{
	const struct picture_cell *row = &p->rows[layer];

	return !row->data && !row->zero && !row->damaged;
}

static void print_row(const struct picture *p, unsigned int layer)
{
	char *label = strdup(picture_label(p, layer));
	char data[32], zero[32];
	unsigned int c;

	printf("%5u |", layer);
	for (c = 0; c < p->columns; c++)
		putchar(letter(p, layer, c));
	printf("| %s", label ? text_clean(label) : "?");
	printf(" (%s", size_text(p->rows[layer].data, data));
	if (p->rows[layer].zero)
		printf(", zeroes %s", size_text(p->rows[layer].zero, zero));
	puts(")");
	free(label);
}

/* How many layers from this one on show nothing. */
static unsigned int empty_run(const struct picture *p, unsigned int layer)
{
	unsigned int n = 0;

	while (layer + n < p->nr && is_empty(p, layer + n))
		n++;
	return n;
}

void picture_text(const struct picture *p)
{
	char size[32];
	unsigned int i, n;

	printf("%s: %s; # all of that part of the disk is seen here, . a bit, 0 zeroes that hide what is below\n",
	       p->name, size_text(p->size, size));
	for (i = 0; i < p->nr; i += n) {
		n = empty_run(p, i);
		if (n > FEW_EMPTY) {
			printf("%5u |%*s| to %u: nothing of them is seen\n", i,
			       (int)p->columns, "", i + n - 1);
			continue;
		}
		n = 1;
		print_row(p, i);
	}
	printf("%5s  0%*s\n", "", (int)p->columns - 1, size_text(p->size, size));
}
