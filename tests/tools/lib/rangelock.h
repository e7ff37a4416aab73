/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Byte ranges, shared or exclusive, one held by a thread at a time. */
#ifndef DMCHAIN_TESTS_TOOLS_RANGELOCK_H
#define DMCHAIN_TESTS_TOOLS_RANGELOCK_H

#include <pthread.h>

#include "../common.h"

struct range {
	u64 from, to;			/* empty: none held */
	bool excl;
};

struct rangelock {
	pthread_mutex_t lock;
	pthread_cond_t freed;
	struct range held[MAX_THREADS];
};

void range_lock_init(struct rangelock *rl);
void range_lock(struct rangelock *rl, unsigned int thread, u64 from, u64 to,
		bool excl);
void range_unlock(struct rangelock *rl, unsigned int thread);

#endif
