// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Sizes and ids: text to numbers and back.
 */
#include "dmchain.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

typedef unsigned __int128 u128;

/* Power of two of a size's suffix, -1 if it is none. */
static int unit_shift(const char *suffix)
{
	static const char units[] = "kmgtpe";
	const char *at;

	if (!*suffix || !strcasecmp(suffix, "b"))
		return 0;
	at = strchr(units, tolower((unsigned char)*suffix));
	if (!at || suffix[1])
		return -1;
	return 10 * (int)(at - units + 1);
}

/*
 * "10G", "1.5T", "4096": false if it is no number, or too large a one. With a
 * scale of 10^9 and a shift of 60 nothing here can overflow 128 bits.
 */
static bool parse_number(const char *p, uint64_t *bytes)
{
	u128 n = 0, scale = 1;
	int shift;

	if (!isdigit((unsigned char)*p))
		return false;
	for (; isdigit((unsigned char)*p); p++) {
		n = n * 10 + (unsigned int)(*p - '0');
		if (n > UINT64_MAX)
			return false;
	}
	if (*p == '.') {
		for (p++; isdigit((unsigned char)*p); p++) {
			if (scale == 1000000000)
				return false;
			n = n * 10 + (unsigned int)(*p - '0');
			scale *= 10;
		}
		if (scale == 1)
			return false;
	}
	shift = unit_shift(p);
	if (shift < 0 || n >> (127 - shift))
		return false;
	n = (n << shift) / scale;
	*bytes = (uint64_t)n;
	return n <= UINT64_MAX;
}

int size_parse(const char *text, const uint64_t *old, uint64_t *bytes)
{
	bool relative = old && (*text == '+' || *text == '-');
	uint64_t n;

	if (!parse_number(text + relative, &n))
		return msg_fail(EXIT_USAGE,
				"%s: not a size; say 10G, 512M%s or a number of bytes",
				text, old ? ", +4M" : "");
	*bytes = n;
	if (!relative)
		return 0;
	if (*text == '+' ? n > UINT64_MAX - *old : n >= *old)
		return msg_fail(EXIT_USAGE, "%s: too much for a size of %llu",
				text, (unsigned long long)*old);
	*bytes = *text == '+' ? *old + n : *old - n;
	return 0;
}

const char *size_text(uint64_t bytes, char *buf)
{
	static const char units[] = "KMGTPE";
	unsigned int unit = 0;
	uint64_t whole = bytes;
	unsigned int tenth = 0;

	while (whole >= 1024) {
		tenth = (unsigned int)(whole % 1024 * 10 / 1024);
		whole /= 1024;
		unit++;
	}
	if (!unit)
		snprintf(buf, 32, "%u B", (unsigned int)bytes);
	else if (tenth)
		snprintf(buf, 32, "%u.%u %ciB", (unsigned int)whole, tenth,
			 units[unit - 1]);
	else
		snprintf(buf, 32, "%u %ciB", (unsigned int)whole,
			 units[unit - 1]);
	return buf;
}

/* Bytes before which RFC 4122's text has a dash. */
static bool dash_before(unsigned int i)
{
	return i == 4 || i == 6 || i == 8 || i == 10;
}

const char *id_text(const struct chain_id *id, char *buf)
{
	static const char hex[] = "0123456789abcdef";
	char *p = buf;
	unsigned int i;

	for (i = 0; i < sizeof(id->b); i++) {
		if (dash_before(i))
			*p++ = '-';
		*p++ = hex[id->b[i] >> 4];
		*p++ = hex[id->b[i] & 15];
	}
	*p = '\0';
	return buf;
}

bool id_parse(const char *text, struct chain_id *id)
{
	unsigned int i;

	for (i = 0; i < sizeof(id->b); i++) {
		char pair[3] = "";

		if (dash_before(i) && *text++ != '-')
			return false;
		if (!isxdigit((unsigned char)text[0]) ||
		    !isxdigit((unsigned char)text[1]))
			return false;
		memcpy(pair, text, 2);
		id->b[i] = (uint8_t)strtoul(pair, NULL, 16);
		text += 2;
	}
	return !*text;
}

void id_random(struct chain_id *id)
{
	/* Up to 256 bytes come whole, or the pool isn't ready yet. */
	while (getrandom(id->b, sizeof(id->b), 0) != sizeof(id->b))
		;
	id->b[6] = (id->b[6] & 0x0f) | 0x40;
	id->b[8] = (id->b[8] & 0x3f) | 0x80;
}
