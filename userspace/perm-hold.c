// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * dmchain perm hold: what an operation needs is held while a command runs. If
 * we die the kernel takes it back; recover then has dm open the layers
 * read-only again.
 */
#include "perm.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int run_command(char **command)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN }, intr, quit;
	int status = 0;
	pid_t pid;

	/* As system() does: the command decides what an interrupt means. */
	sigaction(SIGINT, &ignore, &intr);
	sigaction(SIGQUIT, &ignore, &quit);
	pid = fork();
	if (!pid) {
		sigaction(SIGINT, &intr, NULL);
		sigaction(SIGQUIT, &quit, NULL);
		execvp(command[0], command);
		fprintf(stderr, "dmchain: %s: %s\n", command[0], strerror(errno));
		_exit(127);
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	sigaction(SIGINT, &intr, NULL);
	sigaction(SIGQUIT, &quit, NULL);
	if (pid < 0)
		return msg_fail_errno(EXIT_FAILED, errno, "%s: cannot be run",
				      command[0]);
	/* Its own code is passed on, whatever that is. */
	return WIFEXITED(status) ? -WEXITSTATUS(status) :
				   -(128 + WTERMSIG(status));
}

static int change_access(struct asked *a, bool up)
{
	struct disk_lock l;
	int ret = disk_lock(a->q->object, &l);

	if (ret)
		return ret;
	ret = disk_recover_locked(&l, false, NULL);
	if (!ret)
		ret = up ? disk_upgrade(a->q->object, a->rows, a->nr) :
			   disk_downgrade(a->q->object);
	disk_unlock(&l);
	return ret;
}

static int hold_disk(struct asked *a, char **command)
{
	int fd = -1, down, ret = asked_of_disk(a, &fd);

	if (ret)
		return ret;
	if (a->q->writable)
		ret = change_access(a, true);
	if (!ret) {
		ret = run_command(command);
		down = a->q->writable ? change_access(a, false) : 0;
		ret = ret ? ret : down;
	}
	close(fd);
	return ret;
}

int perm_hold(const struct perm_question *q, char **command)
{
	struct asked a = { .q = q, .op = chain_perm_op(q->op) };
	int ret = asked_check(&a);

	if (!ret && !asked_about_disk(&a))
		ret = msg_fail(EXIT_USAGE, "%s: is not about an open disk; see dmchain perm --help",
			       q->op);
	if (!ret)
		ret = hold_disk(&a, command);
	asked_free(&a);
	return ret;
}
