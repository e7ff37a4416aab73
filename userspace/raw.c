// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fingerprint of a raw layer.
 */
#include "dmchain.h"

#include <string.h>

int raw_fingerprint(struct image *img, struct chain_id *fp)
{
	static uint8_t buf[CHAIN_RAW_EDGE_BYTES];
	unsigned int i;

	memset(fp, 0, sizeof(*fp));
	for (i = 0; i < CHAIN_RAW_SAMPLES; i++) {
		uint64_t offset;
		uint32_t len;
		int ret;

		chain_raw_sample(img->bytes, i, &offset, &len);
		if (!len)
			continue;
		ret = image_read(img, buf, len, offset);
		if (ret)
			return ret;
		chain_raw_fingerprint_update(fp, i, buf, len);
	}
	return 0;
}
