// SPDX-License-Identifier: GPL-2.0-or-later
// sources: tests/tools/common.c tests/tools/lib/dmmark.c
/*
 * One writer on several devices: number n goes to block n % BLOCKS of the first,
 * then of the second and so on, each when the one before is acknowledged. So at
 * any instant a device has no number that one before it lacks, and those before
 * it have one more at most.
 *
 *	numbered write [--count N] [--until FILE] [--flush EVERY] [--mark DEV] DEVICE...
 *	numbered show [--flush N] DEVICE...
 *
 * write goes on after the highest number that all have. With --mark a device of
 * target log-writes, or the socket of cutdisk, is told of each number that all devices
 * have flushed. show prints for each device the highest number, "torn" if one is missing
 * below, and "lost" if that is one up to N.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common.h"
#include "lib/dmmark.h"

#define BLOCKS	64
#define BLOCK	4096
#define MAGIC	0x6e756d6265726564ULL

struct block {
	u64 magic;
	u64 n;
	u8 rest[BLOCK - 16];
};

static struct {
	struct dev dev[16];
	int nr;
	struct block *buf;
	u64 count, every;
	const char *until, *mark;
} nu = { .count = ~0ULL };

static void check(int r, const char *what, int i)
{
	if (r)
		die("%s of device %d: %s", what, i, strerror(-r));
}

static u64 number_at(int i, u64 block)
{
	check(dev_read(&nu.dev[i], nu.buf, BLOCK, block * BLOCK), "read", i);
	return nu.buf->magic == MAGIC && nu.buf->n % BLOCKS == block ? nu.buf->n : 0;
}

static u64 highest(int i, u64 *there)
{
	u64 max = 0;

	for (u64 b = 0; b < BLOCKS; b++) {
		there[b] = number_at(i, b);
		max = max_u64(max, there[b]);
	}
	return max;
}

/* Numbers begin with 1; those that were overwritten needn't be there. */
static bool lacks(const u64 *there, u64 upto)
{
	for (u64 n = upto; n && n + BLOCKS > upto; n--)
		if (there[n % BLOCKS] < n)
			return true;
	return false;
}

static void flush_all(u64 n)
{
	char text[32];

	for (int i = 0; i < nu.nr; i++)
		check(dev_flush(&nu.dev[i], false), "flush", i);
	snprintf(text, sizeof(text), "num-%" PRIu64, n);
	if (nu.mark && dm_mark(nu.mark, text))
		die("%s: cannot be told of %" PRIu64, nu.mark, n);
}

static int do_write(void)
{
	u64 there[BLOCKS], n = ~0ULL, end;

	for (int i = 0; i < nu.nr; i++)
		n = min_u64(n, highest(i, there));
	end = nu.count == ~0ULL ? ~0ULL : n + nu.count;
	while (n < end && !(nu.until && !access(nu.until, F_OK))) {
		n++;
		memset(nu.buf, n & 0xff, BLOCK);
		nu.buf->magic = MAGIC;
		nu.buf->n = n;
		for (int i = 0; i < nu.nr; i++)
			check(dev_write(&nu.dev[i], nu.buf, BLOCK,
					n % BLOCKS * BLOCK), "write", i);
		if (nu.every && n % nu.every == 0)
			flush_all(n);
	}
	printf("%" PRIu64 "\n", n);
	return 0;
}

static int do_show(void)
{
	u64 there[BLOCKS];

	for (int i = 0; i < nu.nr; i++) {
		u64 n = highest(i, there);

		printf("%" PRIu64 "%s%s%s", n, lacks(there, n) ? "torn" : "",
		       lacks(there, nu.every) ? "lost" : "",
		       i + 1 < nu.nr ? " " : "\n");
	}
	return 0;
}

static const struct option options[] = {
	{ "count", required_argument, NULL, 'c' },
	{ "until", required_argument, NULL, 'u' },
	{ "flush", required_argument, NULL, 'f' },
	{ "mark", required_argument, NULL, 'm' },
	{ NULL, 0, NULL, 0 },
};

int main(int argc, char **argv)
{
	bool write;
	int c;

	set_prog("numbered");
	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (c) {
		case 'c':
			nu.count = parse_num(optarg);
			break;
		case 'u':
			nu.until = optarg;
			break;
		case 'f':
			nu.every = parse_num(optarg);
			break;
		case 'm':
			nu.mark = optarg;
			break;
		default:
			return 2;
		}
	}
	if (argc - optind < 2 || argc - optind > 17)
		die("usage: numbered write|show DEVICE...");
	write = !strcmp(argv[optind++], "write");
	nu.buf = xalloc_aligned(BLOCK);
	for (; optind < argc; optind++)
		dev_open(&nu.dev[nu.nr++], argv[optind], write ? 0 : DEV_RO);
	return write ? do_write() : do_show();
}
