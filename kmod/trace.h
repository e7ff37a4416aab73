/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Trace events, in /sys/kernel/tracing/events/dm_chain: what became of a bio, what was
 * copied up, when a map became durable, how jobs get on, what was refused to whom.
 *
 * Devices are those of the disk and of the layer, errors negative errnos. An event that is
 * off costs a no-op.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM dm_chain

#if !defined(_DM_CHAIN_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _DM_CHAIN_TRACE_H

#include <linux/tracepoint.h>
#include <linux/blktrace_api.h>

#include "dm-chain.h"
#include "dm-chain-job.h"

#define CHAIN_TRACE_NAME	24	/* room for any of the permission matrix */
#define CHAIN_TRACE_RWBS	16	/* and for what blk_fill_rwbs() writes on any kernel */

TRACE_EVENT(dm_chain_io,
	TP_PROTO(const struct bio *bio, dev_t layer, unsigned int action),

	TP_ARGS(bio, layer, action),

	TP_STRUCT__entry(
		__field(dev_t, disk)
		__field(dev_t, layer)
		__field(sector_t, sector)
		__field(unsigned int, nr_sector)
		__field(unsigned int, action)
		__array(char, rwbs, CHAIN_TRACE_RWBS)
	),

	TP_fast_assign(
		__entry->disk = bio_dev(bio);
		__entry->layer = layer;
		__entry->sector = bio->bi_iter.bi_sector;
		__entry->nr_sector = bio_sectors(bio);
		__entry->action = action;
		blk_fill_rwbs(__entry->rwbs, bio->bi_opf);
	),

	TP_printk("%d:%d %s %llu + %u %s %d:%d",
		  MAJOR(__entry->disk), MINOR(__entry->disk), __entry->rwbs,
		  (unsigned long long)__entry->sector, __entry->nr_sector,
		  __print_symbolic(__entry->action,
				   { CHAIN_TO_LAYER, "layer" },
				   { CHAIN_ZEROES, "zeroes" },
				   { CHAIN_MAP_ONLY, "map" },
				   { CHAIN_DEFERRED, "deferred" },
				   { CHAIN_FAILED, "failed" }),
		  MAJOR(__entry->layer), MINOR(__entry->layer))
);

TRACE_EVENT(dm_chain_copy_up,
	TP_PROTO(dev_t disk, dev_t layer, sector_t sector, unsigned int nr_sector, int error),

	TP_ARGS(disk, layer, sector, nr_sector, error),

	TP_STRUCT__entry(
		__field(dev_t, disk)
		__field(dev_t, layer)
		__field(sector_t, sector)
		__field(unsigned int, nr_sector)
		__field(int, error)
	),

	TP_fast_assign(
		__entry->disk = disk;
		__entry->layer = layer;
		__entry->sector = sector;
		__entry->nr_sector = nr_sector;
		__entry->error = error;
	),

	TP_printk("%d:%d %llu + %u to %d:%d error %d",
		  MAJOR(__entry->disk), MINOR(__entry->disk),
		  (unsigned long long)__entry->sector, __entry->nr_sector,
		  MAJOR(__entry->layer), MINOR(__entry->layer), __entry->error)
);

/* All that has been written by its start is durable, map and data, at its end. */
TRACE_EVENT(dm_chain_round,
	TP_PROTO(dev_t layer, bool done, int error),

	TP_ARGS(layer, done, error),

	TP_STRUCT__entry(
		__field(dev_t, layer)
		__field(bool, done)
		__field(int, error)
	),

	TP_fast_assign(
		__entry->layer = layer;
		__entry->done = done;
		__entry->error = error;
	),

	TP_printk("%d:%d %s error %d", MAJOR(__entry->layer), MINOR(__entry->layer),
		  __entry->done ? "done" : "begins", __entry->error)
);

/* What has happened to it, and each time that it has moved some. */
TRACE_EVENT(dm_chain_job,
	TP_PROTO(const struct chain_job *job, int error),

	TP_ARGS(job, error),

	TP_STRUCT__entry(
		__field(dev_t, disk)
		__field(u64, id)
		__field(u32, type)
		__field(u32, status)
		__field(u64, current_bytes)
		__field(u64, total_bytes)
		__field(int, error)
	),

	TP_fast_assign(
		__entry->disk = READ_ONCE(job->devt);
		__entry->id = job->id;
		__entry->type = job->type;
		__entry->status = READ_ONCE(job->status);
		__entry->current_bytes = READ_ONCE(job->current_bytes);
		__entry->total_bytes = READ_ONCE(job->total_bytes);
		__entry->error = error;
	),

	TP_printk("%d:%d job %llu %s %s %llu/%llu error %d",
		  MAJOR(__entry->disk), MINOR(__entry->disk), __entry->id,
		  __print_symbolic(__entry->type,
				   { DM_CHAIN_JOB_STREAM, "stream" },
				   { DM_CHAIN_JOB_COMMIT, "commit" },
				   { DM_CHAIN_JOB_ACTIVE_COMMIT, "active-commit" },
				   { DM_CHAIN_JOB_MIRROR, "mirror" }),
		  __print_symbolic(__entry->status,
				   { DM_CHAIN_JOB_CREATED, "created" },
				   { DM_CHAIN_JOB_RUNNING, "running" },
				   { DM_CHAIN_JOB_PAUSED, "paused" },
				   { DM_CHAIN_JOB_READY, "ready" },
				   { DM_CHAIN_JOB_PENDING, "pending" },
				   { DM_CHAIN_JOB_CONCLUDED, "concluded" }),
		  __entry->current_bytes, __entry->total_bytes, __entry->error)
);

/* @disk wanted to hold a layer in a way that somebody who has it does not allow. */
TRACE_EVENT(dm_chain_refused,
	TP_PROTO(dev_t disk, const struct dm_chain_conflict *c),

	TP_ARGS(disk, c),

	TP_STRUCT__entry(
		__field(dev_t, disk)
		__field(dev_t, layer)
		__field(dev_t, holder)
		__field(u64, token)
		__array(char, op, CHAIN_TRACE_NAME)
		__array(char, role, CHAIN_TRACE_NAME)
		__array(char, holder_op, CHAIN_TRACE_NAME)
		__array(char, holder_role, CHAIN_TRACE_NAME)
		__array(char, perm, CHAIN_TRACE_NAME)
	),

	TP_fast_assign(
		const struct chain_perm_rule *want = chain_perm_rule(c->row);
		const struct chain_perm_rule *held = chain_perm_rule(c->holder.row);

		__entry->disk = disk;
		__entry->layer = MKDEV(c->holder.major, c->holder.minor);
		__entry->holder = MKDEV(c->holder.disk_major, c->holder.disk_minor);
		__entry->token = c->holder.id;
		strscpy(__entry->op, chain_perm_op_name(want->op), CHAIN_TRACE_NAME);
		strscpy(__entry->role, want->role, CHAIN_TRACE_NAME);
		strscpy(__entry->holder_op, chain_perm_op_name(held->op), CHAIN_TRACE_NAME);
		strscpy(__entry->holder_role, held->role, CHAIN_TRACE_NAME);
		strscpy(__entry->perm, chain_perm_name(c->perm), CHAIN_TRACE_NAME);
	),

	TP_printk("%d:%d %s %s of %d:%d: held by %d:%d %s %s token %llu, %s",
		  MAJOR(__entry->disk), MINOR(__entry->disk), __entry->op, __entry->role,
		  MAJOR(__entry->layer), MINOR(__entry->layer),
		  MAJOR(__entry->holder), MINOR(__entry->holder), __entry->holder_op,
		  __entry->holder_role, __entry->token, __entry->perm)
);

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
