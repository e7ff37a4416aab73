// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Paths: what an argument names, and the hints by which headers name the
 * places of other layers.
 */
#include "dmchain.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool arg_is_path(const char *arg)
{
	return strchr(arg, '/') || arg_fd(arg) >= 0 || !access(arg, F_OK);
}

static bool is_device(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISBLK(st.st_mode);
}

static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* Real path of the folder that @path lies in; malloc. */
static char *real_folder(const char *path)
{
	size_t len = (size_t)(last_part(path) - path);
	char *folder, *real;

	if (!len)
		return realpath(".", NULL);
	folder = strndup(path, len);
	if (!folder)
		return NULL;
	real = realpath(folder, NULL);
	free(folder);
	return real;
}

char *path_absolute(const char *path)
{
	char *folder = real_folder(path);
	char *abs = NULL;

	/* The last part stays: /dev/vg/lv lasts, what it points to doesn't. */
	if (folder && asprintf(&abs, "%s/%s", strcmp(folder, "/") ? folder : "",
			       last_part(path)) < 0)
		abs = NULL;
	free(folder);
	return abs;
}

/*
 * The folder from which hints in a layer's header count: where its file really
 * is, whatever link leads there. The file needn't exist yet.
 */
static char *hint_folder(const char *owner)
{
	char *real = is_device(owner) ? NULL : realpath(owner, NULL);
	char *folder = real_folder(real ? real : owner);

	free(real);
	return folder;
}

/* The way from one absolute folder to an absolute path; malloc. */
static char *relative_path(const char *folder, const char *path)
{
	size_t i, common = 0, ups = 0;
	char *out, *p;

	for (i = 0; folder[i] && folder[i] == path[i]; i++)
		if (folder[i] == '/')
			common = i;
	if (!folder[i] && path[i] == '/')
		common = i;
	for (i = common; folder[i]; i++)
		ups += folder[i] == '/' && folder[i + 1];
	out = malloc(3 * ups + strlen(path + common) + 1);
	if (!out)
		return NULL;
	for (p = out; ups; ups--)
		p = stpcpy(p, "../");
	strcpy(p, path + common + 1);
	return out;
}

static char *hint_text(const char *owner, const char *target, bool relative)
{
	char *abs, *folder, *text;

	if (!relative)
		return strdup(target);
	abs = path_absolute(target);
	if (!abs || is_device(target) || is_device(owner))
		return abs;
	folder = hint_folder(owner);
	text = folder ? relative_path(folder, abs) : NULL;
	free(folder);
	free(abs);
	return text;
}

static int make(char *hint, const char *owner, const char *target, bool relative)
{
	char *text = hint_text(owner, target, relative);
	size_t len;

	if (!text)
		return msg_fail_errno(EXIT_FAILED, errno, "%s: no way to name it",
				      target);
	len = strlen(text);
	memset(hint, 0, DM_CHAIN_PATH_BYTES);
	if (len < DM_CHAIN_PATH_BYTES)
		memcpy(hint, text, len);
	free(text);
	if (len < DM_CHAIN_PATH_BYTES)
		return 0;
	return msg_fail(EXIT_FAILED,
			"%s: the path is too long for a header (%zu bytes, %d at most); use a shorter one",
			target, len, DM_CHAIN_PATH_BYTES - 1);
}

int hint_make(char *hint, const char *owner, const char *target)
{
	return make(hint, owner, target, *target != '/');
}

static bool is_plain(const char *path)
{
	struct stat st;

	return lstat(path, &st) ? errno == ENOENT : S_ISREG(st.st_mode);
}

/* Two files in one folder stay a pair when the folder is moved. */
int hint_make_near(char *hint, const char *owner, const char *target,
		   bool relative)
{
	const char *name = last_part(target);
	size_t own = (size_t)(last_part(owner) - owner);

	if ((size_t)(name - target) != own || strncmp(owner, target, own) ||
	    !own || !is_plain(owner) || !is_plain(target) ||
	    strlen(name) >= DM_CHAIN_PATH_BYTES)
		return make(hint, owner, target, relative);
	memset(hint, 0, DM_CHAIN_PATH_BYTES);
	memcpy(hint, name, strlen(name));
	return 0;
}

char *hint_resolve(const char *owner, const char *hint)
{
	char *folder, *path = NULL;

	if (*hint == '/')
		return strdup(hint);
	/* A descriptor without a path: relative to what? */
	if (arg_fd(owner) >= 0) {
		errno = ENOENT;
		return NULL;
	}
	folder = hint_folder(owner);
	if (folder && asprintf(&path, "%s/%s",
			       strcmp(folder, "/") ? folder : "", hint) < 0)
		path = NULL;
	free(folder);
	return path;
}
