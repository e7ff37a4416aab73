// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Errors: one line on stderr each, whatever bytes a hostile header or a file
 * name brings along.
 */
#include "dmchain.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static char last[16384];
static unsigned int muted;

void msg_mute(bool on)
{
	muted = on ? muted + 1 : muted - 1;
}

void (*msg_before_line)(void);

/* Length of the UTF-8 sequence at @p, 0 if it is none. */
static size_t utf8_length(const unsigned char *p)
{
	size_t i, n = p[0] < 0x80 ? 1 : p[0] >= 0xc2 && p[0] < 0xe0 ? 2 :
		      (p[0] & 0xf0) == 0xe0 ? 3 :
		      p[0] >= 0xf0 && p[0] < 0xf5 ? 4 : 0;

	for (i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	/* Overlong forms and surrogates have no business in a text. */
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
	    (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return n;
}

/* C0 and C1 controls: a terminal would obey them. */
static bool is_control(const unsigned char *p)
{
	return p[0] < 0x20 || p[0] == 0x7f || (p[0] == 0xc2 && p[1] < 0xa0);
}

char *text_clean(char *text)
{
	unsigned char *p = (unsigned char *)text;

	while (*p) {
		size_t n = utf8_length(p);

		if (n && !is_control(p)) {
			p += n;
			continue;
		}
		*p++ = '?';
	}
	return text;
}

bool text_controls(const char *text)
{
	const unsigned char *p = (const unsigned char *)text;
	size_t n;

	for (; *p; p += n ? n : 1) {
		n = utf8_length(p);
		if (n && is_control(p))
			return true;
	}
	return false;
}

json_object *json_text(const char *text)
{
	char *copy = text ? strdup(text) : NULL;
	unsigned char *p = (unsigned char *)copy;
	json_object *o;

	if (!copy)
		return NULL;
	/* json-c escapes controls itself; what is no UTF-8 is no JSON. */
	while (*p) {
		size_t n = utf8_length(p);

		if (!n)
			*p = '?';
		p += n ? n : 1;
	}
	o = json_object_new_string(copy);
	free(copy);
	return o;
}

static void put_line(void)
{
	text_clean(last);
	if (muted)
		return;
	if (msg_before_line)
		msg_before_line();
	fprintf(stderr, "dmchain: %s\n", last);
}

/* msg_last() may be among the arguments. */
static void set_last(const char *fmt, va_list args)
{
	char line[sizeof(last)];

	vsnprintf(line, sizeof(line), fmt, args);
	memcpy(last, line, strlen(line) + 1);
}

int msg_fail(int code, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	set_last(fmt, args);
	va_end(args);
	put_line();
	return -code;
}

int msg_fail_errno(int code, int err, const char *fmt, ...)
{
	va_list args;
	size_t n;

	va_start(args, fmt);
	set_last(fmt, args);
	va_end(args);
	n = strlen(last);
	snprintf(last + n, sizeof(last) - n, ": %s", strerror(err));
	put_line();
	return -code;
}

void msg_warn(const char *fmt, ...)
{
	char line[sizeof(last)];
	va_list args;

	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	if (msg_before_line)
		msg_before_line();
	fprintf(stderr, "dmchain: warning: %s\n", text_clean(line));
}

void msg_say(const char *fmt, ...)
{
	va_list args;
	char *line;

	va_start(args, fmt);
	if (vasprintf(&line, fmt, args) < 0)
		line = NULL;
	va_end(args);
	if (line)
		puts(text_clean(line));
	free(line);
}

const char *msg_last(void)
{
	return last;
}
