// SPDX-License-Identifier: GPL-2.0-only
/* 6.7: a shrinker is allocated, and registered without a name. */
#include <linux/shrinker.h>

struct shrinker *probe(void);
struct shrinker *probe(void)
{
	struct shrinker *s = shrinker_alloc(0, "probe");

	if (s)
		shrinker_register(s);
	return s;
}
