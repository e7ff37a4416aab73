// SPDX-License-Identifier: GPL-2.0-or-later
// sources: tests/tools/common.c
/*
 * failnth N REPORT COMMAND [ARGS...]: run COMMAND with the N-th call that fault
 * injection may let fail failing, counted in its first thread. REPORT gets
 * "injected", or "passed CALLS" when there were not that many; the exit status is
 * that of the command, 128 and the signal's number if that was killed.
 *
 * What counts as a call is set under /sys/kernel/debug (failslab and so on):
 * see Documentation/fault-injection in the kernel's source.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"

static void set_nth(u64 n)
{
	char text[24];
	int fd = open("/proc/thread-self/fail-nth", O_WRONLY | O_CLOEXEC), len;

	len = snprintf(text, sizeof(text), "%" PRIu64, n);
	if (fd < 0 || write(fd, text, len) != len)
		die("/proc/thread-self/fail-nth: %s", strerror(errno));
	/* Closing it is a system call like any other: let exec do that */
}

/* How many calls were left, once it has ended and before it is gone. */
static u64 left_of(pid_t pid)
{
	char path[48], text[24] = "";
	siginfo_t info;
	int fd;

	if (waitid(P_PID, pid, &info, WEXITED | WNOWAIT))
		die("waitid: %s", strerror(errno));
	snprintf(path, sizeof(path), "/proc/%d/fail-nth", pid);
	fd = open(path, O_RDONLY);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
		die("%s: %s", path, strerror(errno));
	close(fd);
	return strtoull(text, NULL, 10);
}

static void report(const char *path, u64 n, u64 left)
{
	FILE *f = fopen(path, "we");

	if (!f)
		die("%s: %s", path, strerror(errno));
	if (left)
		fprintf(f, "passed %" PRIu64 "\n", n - left);
	else
		fprintf(f, "injected\n");
	if (fclose(f))
		die("%s: %s", path, strerror(errno));
}

int main(int argc, char **argv)
{
	int status;
	pid_t pid;
	u64 n;

	set_prog("failnth");
	if (argc < 4)
		die("usage: failnth N REPORT COMMAND [ARGS...]");
	n = parse_num(argv[1]);
	if (!n)
		die("calls are counted from 1");
	pid = fork();
	if (pid < 0)
		die("fork: %s", strerror(errno));
	if (!pid) {
		set_nth(n);
		execvp(argv[3], argv + 3);
		die("%s: %s", argv[3], strerror(errno));
	}
	report(argv[2], n, left_of(pid));
	if (waitpid(pid, &status, 0) != pid)
		die("waitpid: %s", strerror(errno));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
