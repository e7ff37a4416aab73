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

static volatile sig_atomic_t child;

/* What is to end us ends the command: what it holds is given back after that. */
static void pass_on(int sig)
{
	if (child > 0)
		kill(child, sig);
}

static const struct {
	int sig;
	void (*handler)(int sig);
} signals[] = {
	/* As system() does: the command decides what an interrupt means. */
	{ SIGINT, SIG_IGN }, { SIGQUIT, SIG_IGN },
	{ SIGTERM, pass_on }, { SIGHUP, pass_on },
};

#define NR_SIGNALS	(sizeof(signals) / sizeof(signals[0]))

static pid_t start(char **command, const struct sigaction *old)
{
	pid_t pid = fork();
	size_t i;

	if (pid)
		return pid;
	for (i = 0; i < NR_SIGNALS; i++)
		sigaction(signals[i].sig, &old[i], NULL);
	signal(SIGPIPE, SIG_DFL);
	execvp(command[0], command);
	fprintf(stderr, "dmchain: %s: %s\n", command[0], strerror(errno));
	_exit(127);
}

static int run_command(char **command)
{
	struct sigaction old[NR_SIGNALS];
	int status = 0;
	pid_t pid;
	size_t i;

	for (i = 0; i < NR_SIGNALS; i++) {
		struct sigaction sa = { .sa_handler = signals[i].handler };

		sigaction(signals[i].sig, &sa, &old[i]);
	}
	/* Inherited as ignored, it would take the exit code from us. */
	signal(SIGCHLD, SIG_DFL);
	pid = start(command, old);
	child = pid;
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	child = 0;
	for (i = 0; i < NR_SIGNALS; i++)
		sigaction(signals[i].sig, &old[i], NULL);
	if (pid < 0)
		return msg_fail_errno(EXIT_FAILED, errno, "%s: cannot be run",
				      command[0]);
	/* Its own code is passed on, whatever that is. */
	return WIFEXITED(status) ? -WEXITSTATUS(status) :
				   -(128 + WTERMSIG(status));
}

/*
 * Under the disk's lock, from the question to the table: a snapshot between
 * them would shift the layers. The note is for a successor: labels come before
 * the table, and go after it.
 */
static int take(struct asked *a, dev_t *devs, unsigned int room,
		struct disk_lock *l, int *fd)
{
	int ret = disk_recover_locked(l, false, NULL);

	if (!ret)
		ret = asked_of_disk(a, fd);
	if (ret || !a->q->writable)
		return ret;
	if (a->nr > room)
		return msg_fail(EXIT_FAILED, "%s: too many layers",
				a->q->object);
	ret = disk_lock_note(l, note_new("hold"));
	if (!ret)
		ret = disk_upgrade(a->q->object, a->layers, a->rows, a->nr,
				   devs);
	disk_lock_note(l, NULL);
	return ret;
}

static int give_back(struct asked *a, const dev_t *devs)
{
	struct disk_lock l;
	int ret;

	if (!a->q->writable)
		return 0;
	ret = disk_lock(a->q->object, &l);
	if (ret)
		return ret;
	ret = disk_recover_locked(&l, false, NULL);
	if (!ret)
		ret = disk_lock_note(&l, note_new("hold"));
	if (!ret)
		ret = disk_downgrade(a->q->object, devs, a->nr);
	if (!ret)
		disk_lock_note(&l, NULL);
	disk_unlock(&l);
	return ret;
}

#define MAX_LAYERS	2048	/* more than a chain can have */

static int hold_disk(struct asked *a, char **command)
{
	dev_t *devs = calloc(MAX_LAYERS, sizeof(*devs));
	struct disk_lock l;
	int fd = -1, down, ret;

	if (!devs)
		return msg_fail(EXIT_FAILED, "%s: out of memory", a->q->object);
	ret = disk_lock(a->q->object, &l);
	if (!ret) {
		ret = take(a, devs, MAX_LAYERS, &l, &fd);
		disk_unlock(&l);
	}
	if (!ret) {
		ret = run_command(command);
		down = give_back(a, devs);
		ret = ret ? ret : down;
	}
	free(devs);
	if (fd >= 0)
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
