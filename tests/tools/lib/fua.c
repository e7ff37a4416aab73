// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * On a block device a synchronous write with O_DSYNC is a FUA write and then a
 * flush; only an asynchronous one comes without the flush.
 */
#include <errno.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fua.h"

static __thread aio_context_t context;

static int aio_write(int fd, const void *buf, u64 len, u64 off)
{
	struct iocb io = {
		.aio_lio_opcode = IOCB_CMD_PWRITE, .aio_fildes = fd,
		.aio_buf = (uintptr_t)buf, .aio_nbytes = len, .aio_offset = off,
		.aio_rw_flags = RWF_DSYNC,
	};
	struct iocb *list[1] = { &io };
	struct io_event event;
	long r;

	if (!context && syscall(SYS_io_setup, 1, &context))
		return -errno;
	if (syscall(SYS_io_submit, context, 1, list) != 1)
		return -errno;
	do {
		r = syscall(SYS_io_getevents, context, 1, 1, &event, NULL);
	} while (r < 0 && errno == EINTR);
	if (r != 1)
		return -EIO;
	if (event.res < 0)
		return event.res;
	return (u64)event.res == len ? 0 : -EIO;
}

int fua_write(struct dev *d, const void *buf, u64 len, u64 off)
{
	struct iovec iov = { (void *)buf, len };
	bool plain = dev_planted(d, d->plant == PLANT_NOFUA);
	int r;

	if (d->is_block)
		r = aio_write(d->fd, buf, len, off);
	else
		r = pwritev2(d->fd, &iov, 1, off, RWF_DSYNC) == (ssize_t)len ?
		    0 : -EIO;
	if (!r)
		dev_tell(d, plain ? EV_WRITE : EV_FUA, buf, off, len);
	return r;
}
