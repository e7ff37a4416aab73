/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of kfuzz share. */
#ifndef DMCHAIN_TESTS_KFUZZ_H
#define DMCHAIN_TESTS_KFUZZ_H

#include <stdarg.h>
#include <sys/types.h>
#include "../common.h"

#define KF_DISKS	4
#define KF_TABLES	10
#define KF_DEVICES	64
#define KF_TOKENS	6

/* What is counted: calls of the control device by their numbers, then the rest. */
enum kf_kind {
	KF_UNKNOWN = 14,
	KF_CREATE, KF_LOAD, KF_CLEAR, KF_SUSPEND, KF_RESUME, KF_REMOVE, KF_STATUS, KF_MESSAGE,
	KF_READ, KF_WRITE, KF_DISCARD, KF_FLUSH,
	KF_KINDS,
};

extern const char * const kf_kind_names[KF_KINDS];

struct tally {
	u64 done, refused;
};

/* Tables of a chain, in the order in which they are given; there are two chains. */
enum {
	KF_PLAIN,		/* three layers */
	KF_RW,			/* all of them rw */
	KF_TARGET,		/* a copy's target before them */
	KF_RAW_TARGET,
	KF_RO,			/* without the top */
	KF_PER_CHAIN,
};

/* What operations may name. */
struct pool {
	dev_t disks[KF_DISKS];
	const char *tables[KF_TABLES];
	const char *devices[KF_DEVICES];
	u32 nr_disks, nr_tables, nr_devices;
	u32 nr_owned;		/* of the devices: they are in tables */
};

extern struct pool pool;

/**
 * struct kf - a thread
 * @n: operation
 * @since: when it began; 0: none is under way
 * @ctl: descriptors of the control device
 * @token: descriptors of tokens, 0: none
 * @ids: of tokens, and so of jobs
 * @arg: room for the argument of a call; behind its last byte nothing is mapped
 * @room: the same for arrays
 */
struct kf {
	struct rng rng;
	u64 n;
	u64 since;
	int ctl[2];
	int token[KF_TOKENS];
	u64 ids[KF_TOKENS];
	u8 *arg, *room, *read_only;
};

void kf_init(struct kf *k);
void kf_exit(struct kf *k);
void kf_note(struct kf *k, enum kf_kind kind, int err);
void kf_say(struct kf *k, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void kf_wrong(struct kf *k, const char *what);
/* A number at which something may go wrong. */
u64 kf_edge(struct rng *r);

/* kfuzz-ctl.c */
void kf_drop_tokens(struct kf *k);
void kf_call(struct kf *k);

/* kfuzz-dm.c */
/* Remember what the devices hold, for kf_dm_init(). */
void kf_dm_save(void);
/* Disks without tables, and devices as they were saved. */
void kf_dm_init(void);
void kf_dm(struct kf *k);
/* A table as it is meant, loaded and put in place. */
void kf_dm_table(struct kf *k, u32 disk, u32 table);
void kf_resume_all(void);
/* The disks are gone, and in time. */
bool kf_dm_exit(void);
/* The device number of one of them, or 0. */
dev_t kf_dm_disk(u32 i);

#endif
