// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Names of images that are made from others.
 */
#include "convert.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

char *convert_folder(const char *path)
{
	const char *slash = strrchr(path, '/');

	if (!slash)
		return strdup(".");
	return strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

bool convert_is_folder(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISDIR(st.st_mode);
}

static bool is_taken(const char *name, char *const *taken)
{
	for (; *taken; taken++)
		if (!strcmp(name, *taken))
			return true;
	return false;
}

/* Without the suffix, if there is more than that. */
static int stem(const char *name, const char *suffix)
{
	size_t len = strlen(name), end = strlen(suffix);

	if (len > end && !strcmp(name + len - end, suffix))
		len -= end;
	return (int)len;
}

static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

int convert_check_name(const char *source)
{
	if (!text_controls(last_part(source)))
		return 0;
	return msg_fail(EXIT_IMAGE,
			"%s: its name has control characters, and no other image gets one like that; rename it (and tell the image that stands on it)",
			source);
}

char *convert_name(const char *folder, const char *source, const char *from,
		   const char *to, char *const *taken)
{
	const char *name = last_part(source);
	int len = stem(name, from);
	unsigned int i;
	char *path;

	/* Of two folders two images may have one name. */
	for (i = 1;; i++) {
		char number[16] = "";

		if (i > 1)
			snprintf(number, sizeof(number), "-%u", i);
		if (asprintf(&path, "%s/%.*s%s%s", strcmp(folder, "/") ?
			     folder : "", len, name, number, to) < 0)
			return NULL;
		if (!is_taken(path, taken))
			return path;
		free(path);
	}
}
