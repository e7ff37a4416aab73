// SPDX-License-Identifier: GPL-2.0-only
/*
 * The module: the target and its control device.
 */
#include <linux/module.h>

#include "dm-chain.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

static int __init chain_init(void)
{
	int r = chain_shrink_init();

	if (r)
		return r;
	r = chain_ctl_init();
	if (r)
		goto no_ctl;
	r = dm_register_target(&chain_target);
	if (r)
		goto no_target;
	return 0;

no_target:
	chain_ctl_exit();
no_ctl:
	chain_shrink_exit();
	return r;
}

static void __exit chain_exit(void)
{
	dm_unregister_target(&chain_target);
	chain_ctl_exit();
	chain_jobs_exit();
	chain_layer_exit();
	chain_shrink_exit();
	/* Chunks of merged lookups that wait for their grace period. */
	rcu_barrier();
}

module_init(chain_init);
module_exit(chain_exit);

MODULE_DESCRIPTION("device-mapper chain target: layered copy-on-write disks");
MODULE_AUTHOR("The dm-chain developers");
MODULE_LICENSE("GPL");
