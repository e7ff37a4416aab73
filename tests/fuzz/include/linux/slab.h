/* SPDX-License-Identifier: GPL-2.0-or-later */
/* For kmod/dm-chain-args.c in user space: what it takes of the kernel. */
#ifndef FUZZ_LINUX_SLAB_H
#define FUZZ_LINUX_SLAB_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GFP_KERNEL		0
#define kvcalloc(n, size, gfp)	calloc(n, size)
#define kvfree(p)		free(p)

static inline int match_string(const char * const *array, size_t n, const char *string)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (array[i] && !strcmp(array[i], string))
			return (int)i;
	return -EINVAL;
}

/* What it wrote, which is never more than there is room for. */
static inline __attribute__((format(printf, 3, 4)))
int scnprintf(char *buf, size_t room, const char *fmt, ...)
{
	va_list args;
	int n;

	if (!room)
		return 0;
	va_start(args, fmt);
	n = vsnprintf(buf, room, fmt, args);
	va_end(args);
	return n < (int)room ? n : (int)room - 1;
}

#endif
