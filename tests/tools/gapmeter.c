// SPDX-License-Identifier: GPL-2.0-or-later
// sources: tests/tools/common.c
// libs: -laio
/*
 * How long a command holds writes back: random writes of 4 KiB go to each of some
 * devices, so many at a time, while the command runs.
 *
 *	gapmeter [--depth N] [--span BYTES] [--pace USEC [--burst N]] DEVICE... -- COMMAND...
 *
 * Prints, in ns: the longest time between two completions on one device in half a
 * second before the command, the longest one from its start to its end, and how long
 * it took. Its exit code is the command's.
 *
 * With --pace it has real-time priority, and sleeps so long after each N completions
 * (4): as a guest that has a processor of its own. Where there is one only, what is
 * measured without it is whose turn it was; with longer bursts, how long these are: what
 * waits for the processor between two of them is the command.
 */
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <libaio.h>
#include <linux/fs.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

#define MAX_DEVICES	16
#define BLOCK		4096
#define BEFORE_NS	500000000ULL
#define BEHIND_NS	50000000ULL

static struct target {
	int fd;
	u64 blocks;
	u64 last;
	u64 gap;
} targets[MAX_DEVICES];

static int nr_targets;
static int depth = 32;
static u64 span, pace_us, burst = 4;
static struct iocb *iocbs;
static io_context_t ctx;
static void *buf;
static u64 ios, seed = 88172645463325252ULL;

static u64 next_random(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static void submit(struct iocb *io, struct target *t)
{
	io_prep_pwrite(io, t->fd, buf, BLOCK,
		       (long long)(next_random() % t->blocks * BLOCK));
	io->data = t;
	if (io_submit(ctx, 1, &io) != 1)
		die("io_submit failed");
}

static void completed(const struct io_event *e, u64 now)
{
	struct target *t = e->data;

	if (e->res != BLOCK)
		die("a write failed: %ld", (long)e->res);
	if (now - t->last > t->gap)
		t->gap = now - t->last;
	t->last = now;
	ios++;
	submit(e->obj, t);
}

/* Until @done says so; the longest gap. */
static u64 phase(bool (*done)(u64 began))
{
	struct timespec pace = { .tv_nsec = (long)pace_us * 1000 };
	struct timespec tick = { .tv_nsec = 1000000 };
	u64 began = now_ns(), gap = 0, now;
	struct io_event e;
	int i;

	for (i = 0; i < nr_targets; i++) {
		targets[i].last = began;
		targets[i].gap = 0;
	}
	ios = 0;
	while (!done(began)) {
		/* One by one: those of a RAM disk complete as they are submitted. */
		if (io_getevents(ctx, 1, 1, &e, &tick) == 1)
			completed(&e, now_ns());
		if (pace_us && ios % burst == 0)
			nanosleep(&pace, NULL);
	}
	now = now_ns();
	for (i = 0; i < nr_targets; i++) {
		/* One that still lasts is one, too. */
		if (now - targets[i].last > targets[i].gap)
			targets[i].gap = now - targets[i].last;
		if (targets[i].gap > gap)
			gap = targets[i].gap;
	}
	return gap;
}

static pid_t child;
static int status;
static u64 ended;

static bool before_over(u64 began)
{
	return now_ns() - began > BEFORE_NS;
}

static bool command_over(u64 began)
{
	(void)began;
	if (!ended && waitpid(child, &status, WNOHANG) == child)
		ended = now_ns();
	/* What it has left behind may still hold them. */
	return ended && now_ns() - ended > BEHIND_NS;
}

static void add_target(const char *path)
{
	struct target *t = &targets[nr_targets++];
	u64 bytes;

	if (nr_targets > MAX_DEVICES)
		die("%d devices at most", MAX_DEVICES);
	t->fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (t->fd < 0 || ioctl(t->fd, BLKGETSIZE64, &bytes))
		die("%s: can't open", path);
	if (span && span < bytes)
		bytes = span;
	t->blocks = bytes / BLOCK;
}

static void start_all(void)
{
	int i;

	buf = xalloc_aligned(BLOCK);
	memset(buf, 'g', BLOCK);
	if (io_setup(depth * nr_targets, &ctx))
		die("io_setup failed");
	iocbs = xzalloc(sizeof(*iocbs) * depth * nr_targets);
	for (i = 0; i < depth * nr_targets; i++)
		submit(&iocbs[i], &targets[i % nr_targets]);
}

static void set_priority(void)
{
	struct sched_param p = { .sched_priority = 1 };

	if (sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &p))
		die("no real-time priority");
}

static void run_child(char **argv)
{
	child = fork();
	if (child < 0)
		die("fork failed");
	if (child)
		return;
	dup2(STDERR_FILENO, STDOUT_FILENO);
	execvp(argv[0], argv);
	_exit(127);
}

int main(int argc, char **argv)
{
	static const struct option opts[] = {
		{ "depth", required_argument, NULL, 'd' },
		{ "span", required_argument, NULL, 's' },
		{ "pace", required_argument, NULL, 'p' },
		{ "burst", required_argument, NULL, 'b' },
		{ }
	};
	u64 idle, gap, began;
	int c;

	set_prog("gapmeter");
	while ((c = getopt_long(argc, argv, "+d:s:p:b:", opts, NULL)) != -1) {
		if (c == 'd')
			depth = parse_num(optarg);
		else if (c == 's')
			span = parse_size(optarg);
		else if (c == 'p')
			pace_us = parse_num(optarg);
		else if (c == 'b')
			burst = parse_num(optarg);
		else
			exit(EX_USE);
	}
	for (c = optind; c < argc && strcmp(argv[c], "--"); c++)
		add_target(argv[c]);
	if (!nr_targets || c + 1 >= argc || !depth || !burst)
		die("usage: gapmeter [--depth N] [--span BYTES] [--pace USEC [--burst N]] DEVICE... -- COMMAND...");
	if (pace_us)
		set_priority();
	start_all();
	idle = phase(before_over);
	began = now_ns();
	run_child(argv + c + 1);
	gap = phase(command_over);
	printf("idle=%" PRIu64 " gap=%" PRIu64 " took=%" PRIu64 " ios=%" PRIu64 "\n",
	       idle, gap, ended - began, ios);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
