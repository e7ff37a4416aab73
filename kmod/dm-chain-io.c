// SPDX-License-Identifier: GPL-2.0-only
/*
 * The gate that every bio to a layer passes, and the synchronous I/O of the
 * target's own: headers, maps, what copy-ups read.
 *
 * Nothing here takes a lock. The callers may sleep and are never in map().
 */
#include <linux/highmem.h>
#include <linux/sched/mm.h>

#include "dm-chain.h"

/* Refusals since the module was loaded: each one is a bug. */
atomic64_t chain_violations = ATOMIC64_INIT(0);

bool __chain_refuse(const struct chain_att *att, enum chain_who who)
{
	atomic64_inc(&chain_violations);
	WARN_ONCE(1, "device-mapper: chain: I/O by %d without a permission (access %u)\n",
		  who, att->access[who]);
	return false;
}

/* Submit one bio for a piece of kernel memory and wait. */
static int rw_piece(struct chain_att *att, u64 offset, void *buf,
		    unsigned int len, blk_opf_t opf)
{
	struct bio_vec bvec;
	struct bio bio;
	int r;

	bio_init(&bio, att->bdev, &bvec, 1, opf);
	bio.bi_iter.bi_sector = offset >> SECTOR_SHIFT;
	__bio_add_page(&bio, virt_to_page(buf), len, offset_in_page(buf));
	r = submit_bio_wait(&bio);
	bio_uninit(&bio);
	return r;
}

int chain_rw(struct chain_att *att, enum chain_who who, u64 offset, void *buf,
	     unsigned int len, blk_opf_t opf)
{
	unsigned int noio;
	int r;

	if (!chain_allowed(att, who, opf))
		return -EPERM;
	if (who == CHAIN_META)
		opf |= REQ_META;
	noio = memalloc_noio_save();
	r = rw_piece(att, offset, buf, len, opf | REQ_SYNC);
	memalloc_noio_restore(noio);
	return r;
}

void chain_punch(struct chain_att *att, sector_t sector, sector_t n)
{
	struct bio bio;
	unsigned int noio;

	if (!chain_can_punch(att) ||
	    !chain_allowed(att, CHAIN_GUEST, REQ_OP_WRITE_ZEROES))
		return;
	noio = memalloc_noio_save();
	bio_init(&bio, att->bdev, NULL, 0, REQ_OP_WRITE_ZEROES);
	bio.bi_iter.bi_sector = att->data_sector + sector;
	bio.bi_iter.bi_size = n << SECTOR_SHIFT;
	submit_bio_wait(&bio);
	bio_uninit(&bio);
	memalloc_noio_restore(noio);
}

int chain_flush_dev(struct chain_att *att)
{
	struct bio bio;
	int r;

	if (!bdev_write_cache(att->bdev))
		return 0;
	/* It changes nothing that is seen: to read is enough. */
	if (!chain_allowed(att, CHAIN_META, REQ_OP_READ))
		return -EPERM;
	bio_init(&bio, att->bdev, NULL, 0, REQ_OP_WRITE | REQ_PREFLUSH | REQ_SYNC);
	r = submit_bio_wait(&bio);
	bio_uninit(&bio);
	return r;
}

CHAIN_EXPORT_FOR_KUNIT(__chain_refuse);
CHAIN_EXPORT_FOR_KUNIT(chain_violations);
CHAIN_EXPORT_FOR_KUNIT(chain_rw);
