// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Labels as users write them and as records keep them. Changes nothing, so that
 * a bad template is refused before anything is.
 */
#include "label.h"

#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#define SELINUX_KEY	"selinux="
#define CONTEXT_MAX	4095
/* (uid_t)-1 means "leave it" to the system, so it is no owner. */
#define ID_MAX		(UINT32_MAX - 1)
#define MODE_MAX	0777	/* an image is no program: no set-id bits */

static bool number(const char *text, int base, unsigned long max,
		   unsigned long *n)
{
	char *end;

	if (!isdigit((unsigned char)*text))
		return false;
	errno = 0;
	*n = strtoul(text, &end, base);
	return !errno && !*end && *n <= max;
}

static bool all_digits(const char *text)
{
	return text[strspn(text, "0123456789")] == '\0';
}

static int parse_owner(const char *text, struct label *l)
{
	const struct passwd *p;
	unsigned long n;

	if (!*text)
		return 0;
	l->parts |= LABEL_OWNER;
	if (number(text, 10, ID_MAX, &n)) {
		l->uid = (uid_t)n;
		return 0;
	}
	p = all_digits(text) ? NULL : getpwnam(text);
	if (!p)
		return msg_fail(EXIT_USAGE, "%s: no such user", text);
	l->uid = p->pw_uid;
	return 0;
}

static int parse_group(const char *text, struct label *l)
{
	const struct group *g;
	unsigned long n;

	if (!*text)
		return 0;
	l->parts |= LABEL_GROUP;
	if (number(text, 10, ID_MAX, &n)) {
		l->gid = (gid_t)n;
		return 0;
	}
	g = all_digits(text) ? NULL : getgrnam(text);
	if (!g)
		return msg_fail(EXIT_USAGE, "%s: no such group", text);
	l->gid = g->gr_gid;
	return 0;
}

static int parse_mode(const char *text, struct label *l)
{
	unsigned long n;

	if (!*text)
		return 0;
	l->parts |= LABEL_MODE;
	if (!number(text, 8, MODE_MAX, &n))
		return msg_fail(EXIT_USAGE,
				"%s: not a mode; say three octal digits, such as 640",
				text);
	l->mode = (mode_t)n;
	return 0;
}

/* user:role:type, and a range that may have colons and commas of its own. */
static bool is_context(const char *text)
{
	unsigned int colons = 0;
	const char *p;

	for (p = text; *p; p++) {
		if (!isgraph((unsigned char)*p))
			return false;
		if (*p == ':' && (p == text || p[-1] == ':' || !p[1]))
			return false;
		colons += *p == ':';
	}
	return colons >= 2 && p - text <= CONTEXT_MAX;
}

static int parse_context(const char *text, struct label *l)
{
	if (!is_context(text))
		return msg_fail(EXIT_USAGE,
				"%s: not an SELinux context; say user:role:type or user:role:type:range",
				text);
	l->parts |= LABEL_SELINUX;
	l->selinux = strdup(text);
	if (!l->selinux)
		return msg_fail(EXIT_FAILED, "out of memory");
	l->selinux_len = strlen(text) + 1;
	return 0;
}

static int parse_parts(char *text, struct label *l)
{
	char *owner = strsep(&text, ":");
	char *group = strsep(&text, ":");
	char *mode = text;
	int ret;

	if (!group || !mode)
		return msg_fail(EXIT_USAGE,
				"%s: not a label; say OWNER:GROUP:MODE, with ,selinux=CONTEXT behind or alone",
				owner);
	ret = parse_owner(owner, l);
	if (!ret)
		ret = parse_group(group, l);
	return ret ? ret : parse_mode(mode, l);
}

int label_parse(const char *text, struct label *l)
{
	char *copy = strdup(text), *context = copy;
	int ret = 0;

	memset(l, 0, sizeof(*l));
	if (!copy)
		return msg_fail(EXIT_FAILED, "out of memory");
	/* The context comes last, for it may have all the other characters. */
	if (strncmp(copy, SELINUX_KEY, strlen(SELINUX_KEY))) {
		context = strstr(copy, "," SELINUX_KEY);
		if (context)
			*context++ = '\0';
		ret = parse_parts(copy, l);
	}
	if (!ret && context)
		ret = parse_context(context + strlen(SELINUX_KEY), l);
	if (!ret && !l->parts)
		ret = msg_fail(EXIT_USAGE,
			       "%s: a label of nothing; leave it out, or say what is to change",
			       text);
	free(copy);
	if (ret)
		label_free(l);
	return ret;
}

void label_free(struct label *l)
{
	free(l->selinux);
	memset(l, 0, sizeof(*l));
}

/* Some tools write the NUL at the end, others don't; it means nothing. */
static size_t context_len(const struct label *l)
{
	size_t len = l->selinux_len;

	return len && !l->selinux[len - 1] ? len - 1 : len;
}

static bool same_context(const struct label *a, const struct label *b)
{
	if (!a->selinux || !b->selinux)
		return !a->selinux && !b->selinux;
	return context_len(a) == context_len(b) &&
	       !memcmp(a->selinux, b->selinux, context_len(a));
}

bool label_equal(const struct label *a, const struct label *b)
{
	return a->parts == b->parts &&
	       (!(a->parts & LABEL_OWNER) || a->uid == b->uid) &&
	       (!(a->parts & LABEL_GROUP) || a->gid == b->gid) &&
	       (!(a->parts & LABEL_MODE) || a->mode == b->mode) &&
	       (!(a->parts & LABEL_SELINUX) || same_context(a, b));
}

char *hex_text(const void *bytes, size_t len)
{
	char *text = calloc(2, len + 1);
	const uint8_t *b = bytes;
	size_t i;

	for (i = 0; text && i < len; i++)
		sprintf(text + 2 * i, "%02x", b[i]);
	return text;
}

void *hex_bytes(const char *text, size_t *len)
{
	uint8_t *bytes;
	size_t i;

	*len = strlen(text) / 2;
	if (strlen(text) % 2 || text[strspn(text, "0123456789abcdef")])
		return NULL;
	bytes = calloc(1, *len + 1);
	for (i = 0; bytes && i < *len; i++) {
		char pair[3] = { text[2 * i], text[2 * i + 1], 0 };

		bytes[i] = (uint8_t)strtoul(pair, NULL, 16);
	}
	return bytes;
}

json_object *label_to_json(const struct label *l)
{
	json_object *o = json_object_new_object();
	char *hex;

	if (l->parts & LABEL_OWNER)
		json_object_object_add(o, "uid", json_object_new_int64(l->uid));
	if (l->parts & LABEL_GROUP)
		json_object_object_add(o, "gid", json_object_new_int64(l->gid));
	if (l->parts & LABEL_MODE)
		json_object_object_add(o, "mode",
				       json_object_new_int64(l->mode));
	if (l->parts & LABEL_SELINUX) {
		/* Any bytes, and none is something else than an empty one. */
		hex = l->selinux ? hex_text(l->selinux, l->selinux_len) : NULL;
		json_object_object_add(o, "selinux", hex ?
				       json_object_new_string(hex) : NULL);
		free(hex);
	}
	return o;
}

/* What is beyond @max would be cut to another owner, or to "leave it". */
static bool take_number(json_object *o, const char *key, unsigned int part,
			struct label *l, unsigned int *n, int64_t max)
{
	json_object *v;
	int64_t value;

	if (!json_object_object_get_ex(o, key, &v))
		return true;
	value = json_object_get_int64(v);
	if (!json_object_is_type(v, json_type_int) || value < 0 || value > max)
		return false;
	*n = (unsigned int)value;
	l->parts |= part;
	return true;
}

static bool take_context(json_object *o, struct label *l)
{
	json_object *v;

	if (!json_object_object_get_ex(o, "selinux", &v))
		return true;
	l->parts |= LABEL_SELINUX;
	if (!v)
		return true;
	if (!json_object_is_type(v, json_type_string))
		return false;
	l->selinux = hex_bytes(json_object_get_string(v), &l->selinux_len);
	return l->selinux;
}

bool label_from_json(json_object *o, struct label *l)
{
	memset(l, 0, sizeof(*l));
	if (json_object_is_type(o, json_type_object) &&
	    take_number(o, "uid", LABEL_OWNER, l, &l->uid, ID_MAX) &&
	    take_number(o, "gid", LABEL_GROUP, l, &l->gid, ID_MAX) &&
	    take_number(o, "mode", LABEL_MODE, l, &l->mode, 07777) &&
	    take_context(o, l))
		return true;
	label_free(l);
	return false;
}
