/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The one place that knows kernel versions: force-included before every file.
 * The sources are written for the newest kernel; what an older one lacks is
 * made up for here. Features are probed by what the headers define, and by
 * compiling (compat-config.h, from the probes beside this file) where a macro
 * doesn't tell.
 */
#ifndef DM_CHAIN_COMPAT_H
#define DM_CHAIN_COMPAT_H

#include <linux/blkdev.h>
#include <linux/device-mapper.h>
#include <linux/shrinker.h>
#include <linux/slab.h>

#include "compat-config.h"

#ifndef CONFIG_64BIT
#error "dm-chain needs a 64-bit kernel"
#endif

/* blk_mode_t came with 6.5. */
#ifndef BLK_OPEN_READ
typedef fmode_t blk_mode_t;
#define BLK_OPEN_READ	FMODE_READ
#define BLK_OPEN_WRITE	FMODE_WRITE
#endif

/*
 * Exported for GPL modules on all supported kernels, but declared in headers
 * that no package ships (drivers/md/dm.h, kernel/rcu/rcu.h). The probes fail
 * the build if one of them is gone.
 */
void dm_internal_suspend_noflush(struct mapped_device *md);
void dm_internal_resume(struct mapped_device *md);
void rcu_expedite_gp(void);
void rcu_unexpedite_gp(void);

/* Device number of a path or "major:minor", without opening it. */
static inline int chain_devt(const char *path, dev_t *devt)
{
#ifdef CHAIN_HAVE_DM_DEVT_FROM_PATH
	return dm_devt_from_path(path, devt);
#else
	*devt = dm_get_dev_t(path);
	return *devt ? 0 : -ENODEV;
#endif
}

/* shrinker_alloc() came with 6.7. */
#ifdef CHAIN_HAVE_SHRINKER_ALLOC
static inline int chain_shrinker_register(struct shrinker *s)
{
	shrinker_register(s);
	return 0;
}
#else
static inline struct shrinker *shrinker_alloc(unsigned int flags, const char *fmt)
{
	struct shrinker *s = kzalloc(sizeof(*s), GFP_KERNEL);

	if (s)
		s->flags = flags;
	return s;
}

static inline int chain_shrinker_register(struct shrinker *s)
{
	return register_shrinker(s, "dm-chain");
}

static inline void shrinker_free(struct shrinker *s)
{
	unregister_shrinker(s);
	kfree(s);
}
#endif

#endif
