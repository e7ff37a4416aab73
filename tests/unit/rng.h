/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TESTS_UNIT_RNG_H
#define TESTS_UNIT_RNG_H

#include <stdint.h>

/** rng() - xorshift64*: the same run each time */
static inline uint64_t rng(void)
{
	static uint64_t s = 0x9e3779b97f4a7c15ULL;

	s ^= s >> 12;
	s ^= s << 25;
	s ^= s >> 27;
	return s * 0x2545f4914f6cdd1dULL;
}

#endif
