// SPDX-License-Identifier: GPL-2.0-or-later
// sources: tests/tools/common.c userspace/lib-crc.c
/*
 * Shows or changes fields of the two headers of a chain layer, with a valid
 * checksum, also to what no program would write.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/dm-chain-format.h>
#include "dm-chain-env.h"
#include "common.h"

static const struct field {
	const char *name;
	size_t off, len;
} fields[] = {
#define FIELD(name) \
	{ #name, offsetof(struct dm_chain_disk_header, name), \
	  sizeof(((struct dm_chain_disk_header *)0)->name) }
	FIELD(version), FIELD(generation), FIELD(compat), FIELD(compat_ro),
	FIELD(incompat), FIELD(uuid), FIELD(cid), FIELD(size), FIELD(max_size),
	FIELD(block_shift), FIELD(marks), FIELD(presence_offset),
	FIELD(map_offset), FIELD(data_offset), FIELD(map_seed), FIELD(limit),
	FIELD(parent.format), FIELD(parent.uuid), FIELD(parent.cid),
	FIELD(parent.size), FIELD(sealed_by), FIELD(use_host), FIELD(use_boot),
	FIELD(use_nonce), FIELD(group), FIELD(coordinator), FIELD(decision),
	FIELD(job), FIELD(parent_path), FIELD(child_path),
	FIELD(coordinator_path),
};

static const u64 slots[] = { DM_CHAIN_SLOT0_OFFSET, DM_CHAIN_SLOT1_OFFSET };

static void usage(void)
{
	fprintf(stderr,
"usage: headeredit PATH get 0|1 FIELD\n"
"       headeredit PATH set 0|1|both FIELD=VALUE|FIELD+=NUMBER...\n"
"VALUE: a number, 32 hex digits for an id, or text for a path\n");
	exit(EX_USE);
}

static const struct field *find_field(const char *name, size_t len)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(fields); i++)
		if (strlen(fields[i].name) == len &&
		    !strncmp(fields[i].name, name, len))
			return &fields[i];
	die("no such field: %.*s", (int)len, name);
}

static u64 get_number(const struct field *f, const u8 *buf)
{
	u64 v = 0;

	memcpy(&v, buf + f->off, f->len);
	return le64toh(v);
}

static void show(const struct field *f, const u8 *buf)
{
	size_t i;

	if (f->len <= 8)
		printf("%llu\n", (unsigned long long)get_number(f, buf));
	else if (f->len > 16)
		printf("%.*s\n", (int)f->len, buf + f->off);
	else
		for (i = 0; i < f->len; i++)
			printf("%02x%s", buf[f->off + i], i + 1 < f->len ? "" : "\n");
}

static void put(const struct field *f, u8 *buf, const char *value, bool add)
{
	unsigned int byte;
	u64 v;
	size_t i;

	if (f->len > 16) {
		memset(buf + f->off, 0, f->len);
		strncpy((char *)buf + f->off, value, f->len - 1);
	} else if (f->len > 8) {
		for (i = 0; i < f->len; i++) {
			if (sscanf(value + 2 * i, "%2x", &byte) != 1)
				usage();
			buf[f->off + i] = byte;
		}
	} else {
		v = strtoull(value, NULL, 0);
		v = htole64(add ? get_number(f, buf) + v : v);
		memcpy(buf + f->off, &v, f->len);
	}
}

static void change(u8 *buf, char **args)
{
	struct dm_chain_disk_header *h = (void *)buf;
	const char *eq;
	bool add;

	for (; *args; args++) {
		eq = strchr(*args, '=');
		if (!eq)
			usage();
		add = eq > *args && eq[-1] == '+';
		put(find_field(*args, eq - *args - add), buf, eq + 1, add);
	}
	h->crc = 0;
	h->crc = htole32(chain_crc32c(~0U, buf, DM_CHAIN_HEADER_BYTES));
}

int main(int argc, char **argv)
{
	u8 *buf = xalloc_aligned(DM_CHAIN_HEADER_BYTES);
	bool set;
	int fd, i;

	set_prog("headeredit");
	if (argc < 5 || (strcmp(argv[2], "get") && strcmp(argv[2], "set")))
		usage();
	set = !strcmp(argv[2], "set");
	fd = open(argv[1], set ? O_RDWR : O_RDONLY);
	if (fd < 0)
		die("%s: %s", argv[1], strerror(errno));
	for (i = 0; i < 2; i++) {
		if (strcmp(argv[3], "both") && atoi(argv[3]) != i)
			continue;
		if (full_pread(fd, buf, DM_CHAIN_HEADER_BYTES, slots[i]))
			die("%s: can't read", argv[1]);
		if (!set)
			show(find_field(argv[4], strlen(argv[4])), buf);
		else
			change(buf, argv + 4);
		if (set && full_pwrite(fd, buf, DM_CHAIN_HEADER_BYTES, slots[i]))
			die("%s: can't write", argv[1]);
	}
	if (fsync(fd))
		die("%s: %s", argv[1], strerror(errno));
	return EX_OK;
}
