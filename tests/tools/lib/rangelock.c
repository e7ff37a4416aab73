// SPDX-License-Identifier: GPL-2.0-or-later
#include "rangelock.h"

void range_lock_init(struct rangelock *rl)
{
	pthread_mutex_init(&rl->lock, NULL);
	pthread_cond_init(&rl->freed, NULL);
}

static bool conflicts(const struct rangelock *rl, const struct range *want)
{
	const struct range *h;

	for (h = rl->held; h < rl->held + MAX_THREADS; h++)
		if (h->from < want->to && want->from < h->to &&
		    (h->excl || want->excl))
			return true;
	return false;
}

void range_lock(struct rangelock *rl, unsigned int thread, u64 from, u64 to,
		bool excl)
{
	struct range want = { from, to, excl };

	pthread_mutex_lock(&rl->lock);
	while (conflicts(rl, &want))
		pthread_cond_wait(&rl->freed, &rl->lock);
	rl->held[thread] = want;
	pthread_mutex_unlock(&rl->lock);
}

void range_unlock(struct rangelock *rl, unsigned int thread)
{
	pthread_mutex_lock(&rl->lock);
	rl->held[thread] = (struct range){ 0 };
	pthread_cond_broadcast(&rl->freed);
	pthread_mutex_unlock(&rl->lock);
}
