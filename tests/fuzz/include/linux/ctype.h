/* SPDX-License-Identifier: GPL-2.0-or-later */
/* For kmod/dm-chain-args.c in user space. */
#ifndef FUZZ_LINUX_CTYPE_H
#define FUZZ_LINUX_CTYPE_H

/* The kernel's knows no locale, and takes signed characters. */
static inline int isdigit(int c)
{
	return c >= '0' && c <= '9';
}

#endif
