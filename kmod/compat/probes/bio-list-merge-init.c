// SPDX-License-Identifier: GPL-2.0-only
#include <linux/bio.h>

void probe(struct bio_list *a, struct bio_list *b);
void probe(struct bio_list *a, struct bio_list *b)
{
	bio_list_merge_init(a, b);
}
