// SPDX-License-Identifier: GPL-2.0-or-later
// libs: -luring
// sources: tests/tools/common.c
/*
 * Random reads (or writes) through io_uring, and how many worker threads that
 * took: none, if the device never has to wait in submission (REQ_NOWAIT).
 */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common.h"

#define MAX_DEPTH	256

static struct {
	struct dev dev;
	struct io_uring ring;
	struct rng rng;
	u64 count, issued, done, seed, size, block;
	unsigned int depth, in_flight, workers;
	long max_workers;
	bool write, force_async;
	u8 *room;
	u8 *free[MAX_DEPTH];
} ur = { .depth = 32, .seed = 1, .block = 4096, .max_workers = -1 };

static bool is_worker(const char *task)
{
	char path[288], comm[32] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%s/comm", task);
	f = fopen(path, "r");
	if (!f)
		return false;
	if (!fgets(comm, sizeof(comm), f))
		comm[0] = 0;
	fclose(f);
	return !strncmp(comm, "iou-wrk", 7);
}

static void count_workers(void)
{
	DIR *dir = opendir("/proc/self/task");
	unsigned int n = 0;
	struct dirent *e;

	if (!dir)
		die("/proc/self/task: %s", strerror(errno));
	while ((e = readdir(dir)))
		n += e->d_name[0] != '.' && is_worker(e->d_name);
	closedir(dir);
	if (n > ur.workers)
		ur.workers = n;
}

static void prepare(struct io_uring_sqe *sqe, u8 *buf)
{
	u64 off = rnd_below(&ur.rng, ur.dev.size / ur.block) * ur.block;
	struct stamp_id id = { .seed = ur.seed, .seq = ur.issued };

	if (ur.write) {
		stamp_fill(buf, off, ur.block, &id);
		io_uring_prep_write(sqe, ur.dev.fd, buf, ur.block, off);
	} else {
		io_uring_prep_read(sqe, ur.dev.fd, buf, ur.block, off);
	}
	if (ur.force_async)
		sqe->flags |= IOSQE_ASYNC;
	io_uring_sqe_set_data(sqe, buf);
}

static void submit(void)
{
	int r;

	while (ur.issued < ur.count && ur.in_flight < ur.depth) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&ur.ring);

		if (!sqe)
			break;
		prepare(sqe, ur.free[ur.depth - 1 - ur.in_flight]);
		ur.in_flight++;
		ur.issued++;
	}
	r = io_uring_submit_and_wait(&ur.ring, 1);
	if (r < 0 && r != -EINTR)
		die("io_uring_submit: %s", strerror(-r));
}

static void reap(void)
{
	struct io_uring_cqe *cqe;

	while (!io_uring_peek_cqe(&ur.ring, &cqe)) {
		if (cqe->res != (int)ur.block) {
			bad("%s: %s", ur.dev.path,
			    cqe->res < 0 ? strerror(-cqe->res) : "short");
			exit(EX_BAD);
		}
		ur.in_flight--;
		ur.free[ur.depth - 1 - ur.in_flight] = io_uring_cqe_get_data(cqe);
		io_uring_cqe_seen(&ur.ring, cqe);
		if (++ur.done % 512 == 0)
			count_workers();
	}
}

static void usage(void)
{
	fprintf(stderr,
"usage: uringread DEV N [--write] [--depth 32] [--bs 4096] [--size BYTES] [--seed X]\n"
"               [--max-workers K] [--force-async]\n"
"--max-workers: more than K io-wq threads are a failure;\n"
"--force-async: every request takes one (control)\n");
	exit(EX_USE);
}

enum { OPT_WRITE = 256, OPT_DEPTH, OPT_BS, OPT_SIZE, OPT_SEED, OPT_WORKERS, OPT_ASYNC };

static const struct option options[] = {
	{ "write", 0, NULL, OPT_WRITE }, { "depth", 1, NULL, OPT_DEPTH },
	{ "bs", 1, NULL, OPT_BS }, { "size", 1, NULL, OPT_SIZE },
	{ "seed", 1, NULL, OPT_SEED }, { "max-workers", 1, NULL, OPT_WORKERS },
	{ "force-async", 0, NULL, OPT_ASYNC },
	{ }
};

static void take_option(int o)
{
	switch (o) {
	case OPT_WRITE:
		ur.write = true;
		break;
	case OPT_DEPTH:
		ur.depth = parse_num(optarg);
		break;
	case OPT_BS:
		ur.block = parse_size(optarg);
		break;
	case OPT_SIZE:
		ur.size = parse_size(optarg);
		break;
	case OPT_SEED:
		ur.seed = parse_num(optarg);
		break;
	case OPT_WORKERS:
		ur.max_workers = parse_num(optarg);
		break;
	case OPT_ASYNC:
		ur.force_async = true;
		break;
	default:
		usage();
	}
}

static void set_up(const char *path)
{
	unsigned int i;
	int r;

	if (!ur.depth || ur.depth > MAX_DEPTH || !ur.block || ur.block % SECTOR)
		die("--depth: 1 to %u; --bs: a multiple of 512", MAX_DEPTH);
	dev_open(&ur.dev, path, ur.write ? 0 : DEV_RO);
	if (ur.size)
		ur.dev.size = min_u64(ur.size, ur.dev.size);
	if (ur.dev.size < ur.block)
		die("%s is too small", path);
	ur.room = xalloc_aligned(ur.depth * ur.block);
	for (i = 0; i < ur.depth; i++)
		ur.free[i] = ur.room + i * ur.block;
	rng_init(&ur.rng, ur.seed, 0);
	r = io_uring_queue_init(ur.depth, &ur.ring, 0);
	if (r)
		die("io_uring: %s", strerror(-r));
}

int main(int argc, char **argv)
{
	u64 start;
	bool ok;
	int o;

	set_prog("uringread");
	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1)
		take_option(o);
	if (argc - optind != 2)
		usage();
	ur.count = parse_num(argv[optind + 1]);
	set_up(argv[optind]);
	start = now_ns();
	while (ur.done < ur.count) {
		submit();
		reap();
	}
	count_workers();
	ok = ur.max_workers < 0 || ur.workers <= ur.max_workers;
	printf("uringread: %s %s %llu workers %u seconds %.2f\n",
	       ok ? "ok" : "FAILED", ur.write ? "writes" : "reads",
	       (unsigned long long)ur.done, ur.workers,
	       (now_ns() - start) / 1e9);
	io_uring_queue_exit(&ur.ring);
	free(ur.room);
	return ok ? EX_OK : EX_BAD;
}
