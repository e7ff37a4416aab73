// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory pressure: merged lookups give back chunks.
 *
 * The maps of the layers stay, and what a lookup doesn't know is asked of them, layer by
 * layer: slower, never wrong, and never an error. A chunk that has one owner takes no
 * memory of its own and stays, too. Which chunks are read most nobody counts, for that
 * would have to be done by each read: they go in turn, and those that are read are
 * built again, a second later at the earliest.
 *
 * Locking: a shrinker is called by who allocates, with any lock held, so it only tries:
 * registry_mutex, under which the list of disks and their lookups stay, and merge_mutex
 * of a disk, which its worker has while it changes the lookup.
 *
 * Failure: nothing is given back this time.
 */
#include <linux/shrinker.h>

#include "dm-chain.h"

static struct shrinker *shrinker;

static unsigned long count_parts(struct shrinker *s, struct shrink_control *sc)
{
	unsigned long n;

	if (!mutex_trylock(&chain_registry_mutex))
		return SHRINK_EMPTY;
	n = chain_lookup_parts();
	mutex_unlock(&chain_registry_mutex);
	return n ?: SHRINK_EMPTY;
}

static unsigned long drop_parts(struct shrinker *s, struct shrink_control *sc)
{
	unsigned long n;

	if (!mutex_trylock(&chain_registry_mutex))
		return SHRINK_STOP;
	n = chain_lookup_shrink(sc->nr_to_scan);
	mutex_unlock(&chain_registry_mutex);
	sc->nr_scanned = n;
	return n ?: SHRINK_STOP;
}

int chain_shrink_init(void)
{
	int r;

	shrinker = shrinker_alloc(0, "dm-chain");
	if (!shrinker)
		return -ENOMEM;
	shrinker->count_objects = count_parts;
	shrinker->scan_objects = drop_parts;
	shrinker->seeks = DEFAULT_SEEKS;
	r = chain_shrinker_register(shrinker);
	if (r)
		shrinker_free(shrinker);
	return r;
}

void chain_shrink_exit(void)
{
	shrinker_free(shrinker);
}
