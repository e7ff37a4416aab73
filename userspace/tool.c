// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Programs that do a part of the work, and what they say.
 */
#include "convert.h"

#include <errno.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_OUTPUT	(64 << 20)

extern char **environ;

/* What was written into a memory file, as a string. */
static char *contents(int fd)
{
	struct stat st;
	char *text;
	ssize_t n;

	if (fstat(fd, &st) || st.st_size > MAX_OUTPUT)
		return NULL;
	text = malloc((size_t)st.st_size + 1);
	if (!text)
		return NULL;
	n = pread(fd, text, (size_t)st.st_size, 0);
	text[n > 0 ? n : 0] = '\0';
	return text;
}

/* "qemu-img: Could not open ..." is told as a part of our line. */
static const char *skip_name(const char *line)
{
	static const char * const names[] = { "qemu-img: ", "qemu-nbd: " };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(names); i++)
		if (!strncmp(line, names[i], strlen(names[i])))
			return line + strlen(names[i]);
	return line;
}

/* The first line that says something: others are hints that follow it. */
char *tool_complaint(int fd)
{
	char *text = contents(fd), *line, *end, *copy;

	if (!text)
		return NULL;
	line = text + strspn(text, "\n");
	end = strchr(line, '\n');
	if (end)
		*end = '\0';
	copy = strdup(skip_name(line));
	free(text);
	return copy;
}

int tool_failed(int code, const char *object, const char *complaint)
{
	/* QEMU's way to say that somebody has the image open. */
	bool locked = complaint && strstr(complaint, "\" lock");

	if (!complaint || !*complaint)
		return msg_fail(code, "%s: QEMU can't work with it, and doesn't say why; see qemu-img check",
				object);
	return msg_fail(locked ? EXIT_REFUSED : code, "%s: %s%s", object,
			complaint, locked ?
			"; somebody has it in use, end that first" : "");
}

static int spawn(const char *const *argv, int out, int err, pid_t *pid)
{
	posix_spawn_file_actions_t fa;
	int ret = posix_spawn_file_actions_init(&fa);

	if (ret)
		return ret;
	ret = posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", 0, 0);
	if (!ret)
		ret = posix_spawn_file_actions_adddup2(&fa, out, 1);
	if (!ret)
		ret = posix_spawn_file_actions_adddup2(&fa, err, 2);
	if (!ret)
		ret = posix_spawnp(pid, argv[0], &fa, NULL,
				   (char *const *)argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	return ret;
}

static int run(int code, const char *const *argv, const char *object, int out,
	       int err)
{
	int status = 0, ret;
	char *complaint;
	pid_t pid;

	ret = spawn(argv, out, err, &pid);
	if (ret)
		return msg_fail(EXIT_FAILED, "%s: %s can't be run: %s; is QEMU's package of programs (qemu-utils) installed?",
				object, argv[0], strerror(ret));
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return 0;
	complaint = tool_complaint(err);
	ret = tool_failed(code, object, complaint);
	free(complaint);
	return ret;
}

int tool_run(int code, const char *const *argv, const char *object, char **out)
{
	int to = memfd_create("output", MFD_CLOEXEC);
	int err = memfd_create("errors", MFD_CLOEXEC);
	int ret = -EXIT_FAILED;

	if (to < 0 || err < 0)
		msg_fail_errno(EXIT_FAILED, errno, "%s: no memory for what %s says",
			       object, argv[0]);
	else
		ret = run(code, argv, object, to, err);
	if (!ret && out) {
		*out = contents(to);
		if (!*out)
			ret = msg_fail(EXIT_FAILED, "%s: out of memory", object);
	}
	if (to >= 0)
		close(to);
	if (err >= 0)
		close(err);
	return ret;
}
