/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a device must read as: a sparse file, mapped. */
#ifndef DMCHAIN_TESTS_TOOLS_MODEL_H
#define DMCHAIN_TESTS_TOOLS_MODEL_H

#include "../common.h"

struct model {
	const char *path;		/* NULL: in memory only */
	int fd;
	u64 size;
	u8 *mem;
};

/* A file that exists keeps its contents: it says what the device holds now. */
void model_open(struct model *m, const char *path, u64 size, bool writable);
void model_init_from_file(struct model *m, const char *path);
void model_init_from_dev(struct model *m, struct dev *d);
void model_zero(struct model *m, u64 off, u64 len);
/* Copies it to PATH.no. */
void model_save(const struct model *m, unsigned int no);

u64 first_difference(const u8 *a, const u8 *b, u64 len);
void print_mismatch(const char *what, const char *path, const u8 *seen,
		    const u8 *want, u64 off, u64 len, u64 block);

#endif
