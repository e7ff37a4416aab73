// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The picture as SVG: a strip for what is seen, then a row for each layer, all from
 * the start of the disk to its end.
 */
#include "picture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LEFT	56
#define WIDTH	900
#define RIGHT	420
#define HEAD	56
#define STRIP	26
#define TICKS	8

/* Labels need 13 pixels; of many layers some have one. */
static unsigned int row_height(unsigned int nr)
{
	return nr <= 24 ? 22 : nr <= 80 ? 14 : nr <= 300 ? 6 : 3;
}

/* Neighbours look different, and none of 1024 like another one close by. */
static unsigned int hue(unsigned int layer)
{
	return (210 + layer * 137) % 360;
}

static void put_text(FILE *out, const char *text)
{
	char *copy = strdup(text), *p;

	if (!copy)
		return;
	for (p = text_clean(copy); *p; p++)
		switch (*p) {
		case '&': fputs("&amp;", out); break;
		case '<': fputs("&lt;", out); break;
		case '>': fputs("&gt;", out); break;
		case '"': fputs("&quot;", out); break;
		default: fputc(*p, out);
		}
	free(copy);
}

static double x_of(const struct picture *p, unsigned int column)
{
	return LEFT + (double)column * WIDTH / p->columns;
}

static void rect(const struct picture *p, FILE *out, unsigned int from,
		 unsigned int to, unsigned int y, unsigned int h, const char *fill)
{
	fprintf(out, "<rect x=\"%.2f\" y=\"%u\" width=\"%.2f\" height=\"%u\" %s/>\n",
		x_of(p, from), y, x_of(p, to) - x_of(p, from), h, fill);
}

static uint64_t column_bytes(const struct picture *p, unsigned int c)
{
	return picture_column(p, c + 1) - picture_column(p, c);
}

/* What a cell looks like: levels of data, zeroes, damage. */
static unsigned int look(const struct picture *p, unsigned int layer, unsigned int c)
{
	const struct picture_cell *cell = &p->cells[(size_t)layer * p->columns + c];
	uint64_t of = column_bytes(p, c);

	return picture_level(cell->data, of) | picture_level(cell->zero, of) << 4 |
	       (cell->damaged ? 1U << 8 : 0);
}

static void draw_run(const struct picture *p, FILE *out, unsigned int layer,
		     unsigned int from, unsigned int to, unsigned int what)
{
	unsigned int h = row_height(p->nr), y = HEAD + STRIP + 10 + layer * h;
	char fill[80];

	h -= h > 6 ? 3 : h > 3 ? 1 : 0;
	if (what >> 4 & 7) {
		snprintf(fill, sizeof(fill), "fill=\"#999\" opacity=\"%.2f\"",
			 (what >> 4 & 7) / 5.0);
		rect(p, out, from, to, y, h, fill);
	}
	if (what & 7) {
		snprintf(fill, sizeof(fill),
			 "fill=\"hsl(%u,65%%,45%%)\" opacity=\"%.2f\"",
			 hue(layer), (what & 7) / 4.0);
		rect(p, out, from, to, y, h, fill);
	}
	if (what >> 8)
		rect(p, out, from, to, y, h, "fill=\"#d00\"");
}

/* Equal neighbours are drawn as one. */
static void draw_row(const struct picture *p, FILE *out, unsigned int layer)
{
	unsigned int c, from = 0, what = look(p, layer, 0), next;

	for (c = 1; c <= p->columns; c++) {
		next = c < p->columns ? look(p, layer, c) : ~what;
		if (next == what)
			continue;
		if (what)
			draw_run(p, out, layer, from, c, what);
		from = c;
		what = next;
	}
}

static void draw_label(const struct picture *p, FILE *out, unsigned int layer)
{
	unsigned int h = row_height(p->nr), each = (13 + h - 1) / h;
	unsigned int y = HEAD + STRIP + 10 + layer * h;
	const struct picture_cell *row = &p->rows[layer];
	char data[32], zero[32];

	fprintf(out, "<rect x=\"%d\" y=\"%u\" width=\"%d\" height=\"1\" fill=\"#ddd\"/>\n",
		LEFT, y + h - 1, WIDTH);
	if (layer % each)
		return;
	fprintf(out, "<text x=\"%d\" y=\"%u\" text-anchor=\"end\">%u</text>\n",
		LEFT - 6, y + 11, layer);
	fprintf(out, "<text x=\"%d\" y=\"%u\">", LEFT + WIDTH + 8, y + 11);
	put_text(out, picture_label(p, layer));
	fprintf(out, " <tspan fill=\"#777\">%s%s%s</tspan></text>\n",
		size_text(row->data, data), row->zero ? ", zeroes " : "",
		row->zero ? size_text(row->zero, zero) : "");
}

/* The layer of which most is seen there. */
static unsigned int owner(const struct picture *p, unsigned int c)
{
	uint64_t most = 0;
	unsigned int i, best = p->nr;

	for (i = 0; i < p->nr; i++) {
		uint64_t n = p->cells[(size_t)i * p->columns + c].data;

		if (n > most) {
			most = n;
			best = i;
		}
	}
	return best;
}

static void draw_strip(const struct picture *p, FILE *out)
{
	unsigned int c, from = 0, who = owner(p, 0), next;
	char fill[60];

	for (c = 1; c <= p->columns; c++) {
		next = c < p->columns ? owner(p, c) : ~0U;
		if (next == who)
			continue;
		snprintf(fill, sizeof(fill), "fill=\"hsl(%u,65%%,45%%)\"", hue(who));
		if (who < p->nr)
			rect(p, out, from, c, HEAD, STRIP - 6, fill);
		from = c;
		who = next;
	}
	fprintf(out, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"none\" stroke=\"#444\"/>\n",
		LEFT, HEAD, WIDTH, STRIP - 6);
	fprintf(out, "<text x=\"%d\" y=\"%d\">seen</text>\n", LEFT + WIDTH + 8,
		HEAD + 14);
}

static void draw_axis(const struct picture *p, FILE *out, unsigned int bottom)
{
	char text[32];
	unsigned int i;

	for (i = 0; i <= TICKS; i++) {
		unsigned int x = LEFT + WIDTH * i / TICKS;

		fprintf(out, "<line x1=\"%u\" y1=\"%d\" x2=\"%u\" y2=\"%u\" stroke=\"#ccc\" stroke-dasharray=\"2 3\"/>\n",
			x, HEAD, x, bottom);
		fprintf(out, "<text x=\"%u\" y=\"%u\" text-anchor=\"middle\">%s</text>\n",
			x, bottom + 14, size_text(p->size / TICKS * i, text));
	}
}

void picture_svg(const struct picture *p, FILE *out)
{
	unsigned int bottom = HEAD + STRIP + 10 + p->nr * row_height(p->nr);
	char size[32];
	unsigned int i;

	fprintf(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%u\" font-family=\"sans-serif\" font-size=\"11\">\n",
		LEFT + WIDTH + RIGHT, bottom + 44);
	fputs("<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n", out);
	fprintf(out, "<text x=\"%d\" y=\"24\" font-size=\"15\">", LEFT);
	put_text(out, p->name);
	fprintf(out, ", %s, %u layer%s</text>\n", size_text(p->size, size), p->nr,
		p->nr == 1 ? "" : "s");
	fprintf(out, "<text x=\"%d\" y=\"42\" fill=\"#555\">each layer where it is what is seen; the fuller a colour, the more of that part; grey: it hides what is below with zeroes</text>\n",
		LEFT);
	draw_strip(p, out);
	for (i = 0; i < p->nr; i++) {
		draw_label(p, out, i);
		draw_row(p, out, i);
	}
	draw_axis(p, out, bottom);
	fputs("</svg>\n", out);
}

/* A slip of the hand must not cost a layer: only a picture gives way to one. */
static int check_old(const char *path)
{
	char start[4] = "";
	struct stat st;
	ssize_t n = -1;
	int fd;

	if (lstat(path, &st) && errno == ENOENT)
		return 0;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd >= 0) {
		n = read(fd, start, sizeof(start));
		close(fd);
	}
	if (n == sizeof(start) && !memcmp(start, "<svg", sizeof(start)))
		return 0;
	return msg_fail(EXIT_FAILED,
			"%s: exists and is no picture; remove it or choose another name",
			path);
}

static int write_to(const struct picture *p, const char *path, const char *part)
{
	FILE *out = fopen(part, "wxe");
	bool bad;

	if (!out)
		return msg_fail_errno(EXIT_FAILED, errno, "%s: can't make it", part);
	picture_svg(p, out);
	bad = fflush(out) || ferror(out);
	bad = fclose(out) || bad;
	if (!bad && !rename(part, path))
		return 0;
	unlink(part);
	return msg_fail(EXIT_FAILED, "%s: can't be written; is there room?", path);
}

int picture_write(const struct picture *p, const char *path)
{
	char *part;
	int ret = check_old(path);

	if (ret)
		return ret;
	if (asprintf(&part, "%s.%d.part", path, (int)getpid()) < 0)
		return msg_fail(EXIT_FAILED, "%s: out of memory", path);
	ret = write_to(p, path, part);
	free(part);
	return ret;
}
