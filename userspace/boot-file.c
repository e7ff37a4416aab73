// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Declarations of disks that come up with the machine, as they lie in /etc/dmchain.
 * People write them, and so do we: what is not understood is refused, lest it be
 * lost when it is written again.
 */
#include "boot.h"
#include "offline.h"
#include "online.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX	65536
#define NEEDS_MAX	64

const char *boot_dir;

/* Root's environment is root's business. */
static const char *folder(void)
{
	if (!boot_dir)
		boot_dir = secure_getenv("DMCHAIN_ETC");
	if (!boot_dir || !*boot_dir)
		boot_dir = BOOT_DIR;
	return boot_dir;
}

char *boot_path(const char *name)
{
	char *path;

	return asprintf(&path, "%s/%s" BOOT_SUFFIX, folder(), name) < 0 ?
	       NULL : path;
}

bool boot_declared(const char *name)
{
	char *path = boot_path(name);
	bool yes = path && !access(path, F_OK);

	free(path);
	return yes;
}

void boot_free(struct boot_decl *d)
{
	unsigned int i;

	for (i = 0; i < d->nr_needs; i++)
		free(d->needs[i]);
	free(d->needs);
	free(d->name);
	free(d->path);
	free(d->label_rw);
	free(d->label_ro);
	free(d->next);
	memset(d, 0, sizeof(*d));
}

static int no_memory(const char *name)
{
	return msg_fail(EXIT_FAILED, "%s: out of memory", name);
}

/* --- From text --- */

/**
 * struct reading - on the way through a file
 * @file: its path
 * @d: what it has said so far
 */
struct reading {
	const char *file;
	struct boot_decl *d;
};

static int bad(const struct reading *r, const char *key, const char *want)
{
	return msg_fail(EXIT_USAGE, "%s: %s has to be %s", r->file, key, want);
}

/* @out: malloc. A NUL in it would let others see another text than we do. */
static int take_text(const struct reading *r, const char *key, json_object *v,
		     char **out)
{
	const char *text = json_object_get_string(v);
	const unsigned char *p = (const unsigned char *)text;

	if (!json_object_is_type(v, json_type_string) || !*text)
		return bad(r, key, "a text, and not an empty one");
	if (strlen(text) != (size_t)json_object_get_string_len(v))
		return bad(r, key, "without a NUL");
	for (; *p; p++)
		if (*p < 0x20 || *p == 0x7f)
			return bad(r, key, "without control characters");
	free(*out);
	*out = strdup(text);
	return *out ? 0 : no_memory(r->file);
}

static int take_path(const struct reading *r, const char *key, json_object *v,
		     char **out)
{
	int ret = take_text(r, key, v, out);

	if (!ret && **out != '/')
		ret = bad(r, key, "an absolute path");
	if (!ret && (strlen(*out) >= PATH_MAX || arg_fd(*out) >= 0))
		ret = bad(r, key, "a path that lasts, and is not too long");
	return ret;
}

static int take_bool(const struct reading *r, const char *key, json_object *v,
		     bool *out)
{
	if (!json_object_is_type(v, json_type_boolean))
		return bad(r, key, "true or false");
	*out = json_object_get_boolean(v);
	return 0;
}

static int take_format(const struct reading *r, const char *key, json_object *v,
		       uint32_t *out)
{
	const char *text = json_object_is_type(v, json_type_string) ?
			   json_object_get_string(v) : "";

	*out = !strcmp(text, "raw") ? DM_CHAIN_FORMAT_RAW :
				      DM_CHAIN_FORMAT_CHAIN;
	if (strcmp(text, "raw") && strcmp(text, "chain"))
		return bad(r, key, "\"chain\" or \"raw\"");
	return 0;
}

static int take_jobs(const struct reading *r, json_object *v)
{
	const char *text = json_object_is_type(v, json_type_string) ?
			   json_object_get_string(v) : "";

	r->d->report = !strcmp(text, "report");
	if (!r->d->report && strcmp(text, "resume"))
		return bad(r, "jobs", "\"resume\" or \"report\"");
	return 0;
}

static int take_name(const struct reading *r, json_object *v)
{
	char *name = NULL;
	int ret = take_text(r, "name", v, &name);

	/* Two files for one disk would be two answers to one question. */
	if (!ret && strcmp(name, r->d->name))
		ret = msg_fail(EXIT_USAGE,
			       "%s: is about a disk named %s; its name would have to be %s" BOOT_SUFFIX,
			       r->file, name, name);
	free(name);
	return ret;
}

static int take_next(const struct reading *r, json_object *v)
{
	json_object *path, *format;
	int ret;

	if (!json_object_is_type(v, json_type_object) ||
	    json_object_object_length(v) != 2 ||
	    !json_object_object_get_ex(v, "path", &path) ||
	    !json_object_object_get_ex(v, "format", &format))
		return bad(r, "next", "an object with path and format");
	ret = take_path(r, "next's path", path, &r->d->next);
	return ret ? ret : take_format(r, "next's format", format,
				       &r->d->next_format);
}

static int add_need(struct boot_decl *d, const char *path)
{
	char **more = realloc(d->needs, (d->nr_needs + 1) * sizeof(*more));

	if (!more)
		return no_memory(d->name);
	d->needs = more;
	more[d->nr_needs] = strdup(path);
	return more[d->nr_needs] ? (d->nr_needs++, 0) : no_memory(d->name);
}

static int take_needs(const struct reading *r, json_object *v)
{
	size_t i, n = json_object_is_type(v, json_type_array) ?
		      json_object_array_length(v) : SIZE_MAX;
	int ret = 0;

	if (n > NEEDS_MAX)
		return bad(r, "needs", "a list of paths, not more than 64");
	for (i = 0; i < n && !ret; i++) {
		char *path = NULL;

		ret = take_path(r, "each of needs",
				json_object_array_get_idx(v, i), &path);
		if (!ret)
			ret = add_need(r->d, path);
		free(path);
	}
	return ret;
}

static int take(const struct reading *r, const char *key, json_object *v)
{
	struct boot_decl *d = r->d;

	if (!strcmp(key, "name"))
		return take_name(r, v);
	if (!strcmp(key, "path"))
		return take_path(r, key, v, &d->path);
	if (!strcmp(key, "format"))
		return take_format(r, key, v, &d->format);
	if (!strcmp(key, "read-only"))
		return take_bool(r, key, v, &d->read_only);
	if (!strcmp(key, "network"))
		return take_bool(r, key, v, &d->network);
	if (!strcmp(key, "jobs"))
		return take_jobs(r, v);
	if (!strcmp(key, "label-rw"))
		return take_text(r, key, v, &d->label_rw);
	if (!strcmp(key, "label-ro"))
		return take_text(r, key, v, &d->label_ro);
	if (!strcmp(key, "needs"))
		return take_needs(r, v);
	if (!strcmp(key, "next"))
		return take_next(r, v);
	return msg_fail(EXIT_USAGE,
			"%s: what is %.64s? It can have name, path, format, read-only, network, jobs, label-rw, label-ro, needs and next",
			r->file, key);
}

static int take_all(const struct reading *r, json_object *o)
{
	int ret = 0;

	if (!json_object_is_type(o, json_type_object))
		return msg_fail(EXIT_USAGE,
				"%s: has to be one JSON object, such as {\"path\": \"/srv/%s.img\"}",
				r->file, r->d->name);
	json_object_object_foreach(o, key, v) {
		ret = take(r, key, v);
		if (ret)
			return ret;
	}
	if (!r->d->path)
		return msg_fail(EXIT_USAGE,
				"%s: says no path, that of the disk's top layer",
				r->file);
	return 0;
}

static int parse(const struct reading *r, const char *text, size_t len)
{
	struct json_tokener *tok = json_tokener_new_ex(8);
	enum json_tokener_error err;
	json_object *o;
	int ret;

	if (!tok)
		return no_memory(r->file);
	json_tokener_set_flags(tok, JSON_TOKENER_STRICT |
				    JSON_TOKENER_VALIDATE_UTF8);
	/* With the NUL, for a number or word may go on until there is one. */
	o = json_tokener_parse_ex(tok, text, (int)len + 1);
	err = json_tokener_get_error(tok);
	if (err != json_tokener_success)
		ret = msg_fail(EXIT_USAGE, "%s: is no JSON, at byte %zu: %s",
			       r->file, json_tokener_get_parse_end(tok),
			       json_tokener_error_desc(err));
	else if (strlen(text) != len)
		ret = msg_fail(EXIT_USAGE, "%s: is no JSON, it has a NUL",
			       r->file);
	else
		ret = take_all(r, o);
	json_object_put(o);
	json_tokener_free(tok);
	return ret;
}

/* --- Files --- */

/* What others may write they could let root open. */
static int check_file(const char *file, int fd)
{
	struct stat st;

	if (fstat(fd, &st))
		return msg_fail_errno(EXIT_FAILED, errno, "%s: cannot be read",
				      file);
	if (!S_ISREG(st.st_mode))
		return msg_fail(EXIT_FAILED, "%s: is no file", file);
	if ((st.st_uid && st.st_uid != geteuid()) ||
	    st.st_mode & (S_IWGRP | S_IWOTH))
		return msg_fail(EXIT_FAILED,
				"%s: others than root can write it, so it is not obeyed; chown root and chmod go-w",
				file);
	if (st.st_size > FILE_MAX)
		return msg_fail(EXIT_USAGE, "%s: is too long for a declaration, more than %d bytes",
				file, FILE_MAX);
	return 0;
}

static int read_text(const char *file, char *text, size_t *len)
{
	/* Not to wait for the other end of a pipe. */
	int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	ssize_t n = 0;
	int ret;

	if (fd < 0)
		return msg_fail_errno(EXIT_FAILED, errno, "%s: cannot be read",
				      file);
	ret = check_file(file, fd);
	for (*len = 0; !ret && *len < FILE_MAX; *len += (size_t)n) {
		n = read(fd, text + *len, FILE_MAX - *len);
		if (n <= 0)
			break;
	}
	if (n < 0)
		ret = msg_fail_errno(EXIT_FAILED, errno, "%s: cannot be read",
				     file);
	close(fd);
	return ret;
}

static int load(const char *file, struct boot_decl *d)
{
	struct reading r = { .file = file, .d = d };
	char *text = calloc(1, FILE_MAX + 1);
	size_t len = 0;
	int ret;

	if (!text)
		return no_memory(file);
	ret = read_text(file, text, &len);
	if (!ret)
		ret = parse(&r, text, len);
	free(text);
	return ret;
}

int boot_load(const char *name, struct boot_decl *d)
{
	char *file;
	int ret;

	memset(d, 0, sizeof(*d));
	d->format = DM_CHAIN_FORMAT_CHAIN;
	/* Files of a leading dot are the leftovers of editors. */
	if (!dm_name_valid(name) || *name == '.')
		return msg_fail(EXIT_USAGE,
				"%s: no name for a disk that comes up by itself",
				name);
	file = boot_path(name);
	d->name = strdup(name);
	if (!file || !d->name)
		ret = no_memory(name);
	else if (access(file, F_OK) && errno == ENOENT)
		ret = msg_fail(EXIT_FAILED,
			       "%s: is not declared, there is no %s; dmchain enable %s makes one",
			       name, file, name);
	else
		ret = load(file, d);
	free(file);
	return ret;
}

/* --- To text --- */

static void add_text(json_object *o, const char *key, const char *text)
{
	if (text)
		json_object_object_add(o, key, json_object_new_string(text));
}

static const char *format_name(uint32_t format)
{
	return format == DM_CHAIN_FORMAT_RAW ? "raw" : "chain";
}

static void add_flag(json_object *o, const char *key, bool on)
{
	if (on)
		json_object_object_add(o, key, json_object_new_boolean(true));
}

static json_object *to_json(const struct boot_decl *d)
{
	json_object *o = json_object_new_object(), *list, *next;
	unsigned int i;

	add_text(o, "name", d->name);
	add_text(o, "path", d->path);
	add_text(o, "format", format_name(d->format));
	add_flag(o, "read-only", d->read_only);
	add_flag(o, "network", d->network);
	add_text(o, "jobs", d->report ? "report" : "resume");
	add_text(o, "label-rw", d->label_rw);
	add_text(o, "label-ro", d->label_ro);
	list = json_object_new_array();
	for (i = 0; i < d->nr_needs; i++)
		json_object_array_add(list,
				      json_object_new_string(d->needs[i]));
	json_object_object_add(o, "needs", list);
	if (d->next) {
		next = json_object_new_object();
		add_text(next, "path", d->next);
		add_text(next, "format", format_name(d->next_format));
		json_object_object_add(o, "next", next);
	}
	return o;
}

static int sync_dir(void)
{
	int fd = open(folder(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int err = fd < 0 || fsync(fd) ? errno : 0;

	if (fd >= 0)
		close(fd);
	return err;
}

static int write_text(const char *tmp, const char *text)
{
	int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
		      0644);
	size_t len = strlen(text);
	int err = 0;

	if (fd < 0)
		return errno;
	errno = 0;
	if (write(fd, text, len) != (ssize_t)len || fsync(fd))
		err = errno ? errno : ENOSPC;
	close(fd);
	return err;
}

static int replace(const char *file, const char *text)
{
	char *tmp;
	int err;

	/* Without the suffix it is no declaration. */
	if (asprintf(&tmp, "%s.new", file) < 0)
		return ENOMEM;
	err = write_text(tmp, text);
	if (!err && rename(tmp, file))
		err = errno;
	if (err)
		unlink(tmp);
	else
		err = sync_dir();
	free(tmp);
	return err;
}

/* A path or label that could not be read back. */
static int check_text(const char *file, const char *text)
{
	struct boot_decl d = { .format = DM_CHAIN_FORMAT_CHAIN };
	struct reading r = { .file = file, .d = &d };
	const char *name = strrchr(file, '/') + 1;
	int ret;

	d.name = strndup(name, strlen(name) - strlen(BOOT_SUFFIX));
	ret = d.name ? parse(&r, text, strlen(text)) : no_memory(file);
	boot_free(&d);
	return ret;
}

int boot_save(const struct boot_decl *d)
{
	json_object *o = to_json(d);
	char *file = boot_path(d->name), *text = NULL;
	int err, ret;

	if (asprintf(&text, "%s\n", json_object_to_json_string_ext(o,
			JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
			JSON_C_TO_STRING_NOSLASHESCAPE)) < 0)
		text = NULL;
	json_object_put(o);
	ret = file && text ? check_text(file, text) : no_memory(d->name);
	if (!ret) {
		err = mkdir(folder(), 0755) && errno != EEXIST ? errno :
		      replace(file, text);
		if (err)
			ret = msg_fail_errno(EXIT_FAILED, err,
					     "%s: cannot be written", file);
	}
	free(text);
	free(file);
	return ret;
}

int boot_remove(const char *name)
{
	char *file = boot_path(name);
	int ret = 0;

	if (!file)
		return no_memory(name);
	if (unlink(file))
		ret = errno == ENOENT ?
		      msg_fail(EXIT_FAILED, "%s: is not declared, there is no %s",
			       name, file) :
		      msg_fail_errno(EXIT_FAILED, errno,
				     "%s: cannot be removed", file);
	else
		sync_dir();
	free(file);
	return ret;
}

int boot_need(struct boot_decl *d, const char *layer)
{
	struct stat st;
	char *path = strdup(layer);
	unsigned int i;
	int ret;

	if (!path)
		return no_memory(d->name);
	if (!stat(path, &st) && !S_ISBLK(st.st_mode) && strrchr(path, '/') > path)
		*strrchr(path, '/') = 0;
	for (i = 0; i < d->nr_needs && strcmp(d->needs[i], path); i++)
		;
	if (i < d->nr_needs || i == NEEDS_MAX)
		ret = 0;
	else
		ret = add_need(d, path) ? -EXIT_FAILED : 1;
	free(path);
	return ret;
}

/* --- All of them --- */

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool has_suffix(const char *file)
{
	size_t len = strlen(file);

	return len > strlen(BOOT_SUFFIX) && *file != '.' &&
	       !strcmp(file + len - strlen(BOOT_SUFFIX), BOOT_SUFFIX);
}

static int add_name(char ***names, unsigned int *nr, const char *file)
{
	char *name = strndup(file, strlen(file) - strlen(BOOT_SUFFIX));
	char **more;

	if (name && !dm_name_valid(name)) {
		msg_warn("%s/%s: its name is none for a disk, so it is left out",
			 folder(), file);
		free(name);
		return 0;
	}
	more = name ? realloc(*names, (*nr + 2) * sizeof(*more)) : NULL;
	if (!more) {
		free(name);
		return no_memory(file);
	}
	*names = more;
	more[(*nr)++] = name;
	more[*nr] = NULL;
	return 0;
}

int boot_names(char ***names, unsigned int *nr)
{
	DIR *dir = opendir(folder());
	struct dirent *e;
	int ret = 0;

	*nr = 0;
	*names = calloc(1, sizeof(**names));
	if (!*names)
		ret = no_memory(folder());
	else if (!dir && errno != ENOENT)
		ret = msg_fail_errno(EXIT_FAILED, errno, "%s: cannot be read",
				     folder());
	while (dir && !ret && (e = readdir(dir)))
		if (has_suffix(e->d_name))
			ret = add_name(names, nr, e->d_name);
	if (dir)
		closedir(dir);
	if (*nr)
		qsort(*names, *nr, sizeof(**names), by_text);
	return ret;
}

void boot_names_free(char **names)
{
	char **p;

	for (p = names; p && *p; p++)
		free(*p);
	free(names);
}
