// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Images to devices that a table can name.
 */
#include "online.h"

#include <stdlib.h>
#include <unistd.h>

int attach_image(struct attached *a, struct image *img, bool write,
		 struct loops *known)
{
	int ret;

	a->fd = -1;
	if (!img->is_bdev) {
		a->fd = loop_attach(img, write, known, &a->dev);
		ret = a->fd < 0 ? a->fd : 0;
	} else {
		/* Claimed for writing by us so far; dm wants to claim it now. */
		image_release(img);
		a->dev = img->dev;
		ret = layer_marker_set(a->dev);
	}
	if (!ret && img->given >= 0 && fd_read_only(img->given))
		ret = layer_cap_set(a->dev);
	return ret;
}

void attach_drop(struct attached *a)
{
	if (a->fd < 0)
		return;
	close(a->fd);
	a->fd = -1;
	/* A loop that nothing else holds is gone by now, unless udev looks. */
	loop_wait_gone(a->dev);
}
