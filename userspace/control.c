// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * /dev/dm-chain: the calls of <linux/dm-chain.h>.
 */
#include "online.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define CONTROL_PATH "/dev/" DM_CHAIN_CONTROL
#define NODE_TRIES 200		/* of 10 ms: devtmpfs is faster, udev may not be */
#define MAP_BATCH 4096
#define BACK_TRIES 250		/* of 20 ms */

static int hello(int fd)
{
	struct dm_chain_version v = { 0 };
	struct chain_id host;

	host_id(&host);
	memcpy(v.host, host.b, sizeof(v.host));
	if (ioctl(fd, DM_CHAIN_IOC_VERSION, &v) && errno == EBUSY) {
		/* It has another id since before the chains were opened. */
		memset(&v, 0, sizeof(v));
		if (ioctl(fd, DM_CHAIN_IOC_VERSION, &v))
			return -errno;
	} else if (!v.abi) {
		return -errno;
	}
	return v.abi;
}

static int open_node(void)
{
	unsigned int i;
	int fd;

	for (i = 0; i < NODE_TRIES; i++) {
		fd = open(CONTROL_PATH, O_RDWR | O_CLOEXEC);
		if (fd >= 0 || errno != ENOENT)
			break;
		usleep(10000);
	}
	return fd < 0 ? -errno : fd;
}

int control_open(void)
{
	int ret = module_load();
	int fd, abi;

	if (ret)
		return ret;
	fd = open_node();
	if (fd < 0)
		return msg_fail_errno(EXIT_FAILED, -fd, CONTROL_PATH
				      ": cannot be opened");
	abi = hello(fd);
	if (abi == DM_CHAIN_ABI)
		return fd;
	close(fd);
	if (abi < 0)
		return msg_fail_errno(EXIT_FAILED, -abi, CONTROL_PATH
				      ": does not answer");
	return msg_fail(EXIT_FAILED, CONTROL_PATH
			": the module speaks version %d, dmchain version %d; install both from one release",
			abi, DM_CHAIN_ABI);
}

int control_instance(int ctl, struct chain_id *id)
{
	uint64_t gone;

	return control_gone(ctl, id, &gone) ? -EXIT_FAILED : 0;
}

int control_gone(int ctl, struct chain_id *id, uint64_t *gone)
{
	struct dm_chain_version v = { 0 };

	if (ioctl(ctl, DM_CHAIN_IOC_VERSION, &v))
		return -errno;
	memcpy(id->b, v.instance, sizeof(id->b));
	*gone = v.gone;
	return 0;
}

/* One line of an ioctl that went wrong; what the errno means is the caller's. */
static int call_failed(dev_t disk, const char *what, int err)
{
	return msg_fail_errno(err == EBUSY || err == EROFS ? EXIT_REFUSED :
							     EXIT_FAILED,
			      err, "device %u:%u: %s", major(disk), minor(disk),
			      what);
}

static int get_layers(int ctl, dev_t disk, uint32_t flags,
		      struct dm_chain_layer **layers, unsigned int *nr)
{
	struct dm_chain_layers q;
	struct dm_chain_layer *l = NULL, *more;
	unsigned int room = 16;

	for (;;) {
		more = realloc(l, room * sizeof(*l));
		if (!more) {
			free(l);
			return msg_fail(EXIT_FAILED, "out of memory");
		}
		l = more;
		memset(l, 0, room * sizeof(*l));
		q = (struct dm_chain_layers){
			.major = major(disk), .minor = minor(disk), .nr = room,
			.layer_size = sizeof(*l), .layers = (uintptr_t)l,
			.flags = flags,
		};
		if (ioctl(ctl, DM_CHAIN_IOC_LAYERS, &q)) {
			int err = errno;

			free(l);
			return call_failed(disk, "its layers cannot be asked for",
					   err);
		}
		if (q.nr <= room)
			break;
		room = q.nr;
	}
	*layers = l;
	*nr = q.nr;
	return 0;
}

static bool any_going_back(const struct dm_chain_layer *l, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		if (l[i].flags & DM_CHAIN_LAYER_BACK)
			return true;
	return false;
}

/* What a job could write is read-only again in a moment: who looks waits. */
static int wait_layers(int ctl, dev_t disk, uint32_t flags,
		       struct dm_chain_layer **layers, unsigned int *nr)
{
	unsigned int tries = BACK_TRIES;
	int ret;

	for (;;) {
		ret = get_layers(ctl, disk, flags, layers, nr);
		if (ret || !any_going_back(*layers, *nr) || !tries--)
			return ret;
		free(*layers);
		usleep(20000);
	}
}

int control_layers(int ctl, dev_t disk, struct dm_chain_layer **layers,
		   unsigned int *nr)
{
	return wait_layers(ctl, disk, DM_CHAIN_LAYERS_QUICK, layers, nr);
}

int control_layers_counted(int ctl, dev_t disk, struct dm_chain_layer **layers,
			   unsigned int *nr)
{
	return wait_layers(ctl, disk, 0, layers, nr);
}

bool control_has_mark(int ctl, dev_t disk, uint32_t mark)
{
	struct dm_chain_layer *l = calloc(DM_CHAIN_MAX_LAYERS, sizeof(*l));
	struct dm_chain_layers q = {
		.major = major(disk), .minor = minor(disk),
		.nr = DM_CHAIN_MAX_LAYERS, .layer_size = sizeof(*l),
		.layers = (uintptr_t)l, .flags = DM_CHAIN_LAYERS_QUICK,
	};
	bool has = false;
	unsigned int i;

	if (l && !ioctl(ctl, DM_CHAIN_IOC_LAYERS, &q))
		for (i = 0; i < q.nr && i < DM_CHAIN_MAX_LAYERS; i++)
			has |= (l[i].marks & mark) != 0;
	free(l);
	return has;
}

static uint64_t disk_bytes(dev_t disk)
{
	char text[32];

	if (!sysfs_text(disk, "size", text, sizeof(text)))
		return 0;
	return strtoull(text, NULL, 10) * 512;
}

int control_map(int ctl, dev_t disk,
		int (*cb)(const struct dm_chain_extent *e, void *arg), void *arg)
{
	struct dm_chain_extent *e = calloc(MAP_BATCH, sizeof(*e));
	uint64_t start = 0, size = disk_bytes(disk);
	unsigned int i;
	int ret = 0;

	if (!e)
		return msg_fail(EXIT_FAILED, "out of memory");
	while (!ret && start < size) {
		struct dm_chain_map q = {
			.major = major(disk), .minor = minor(disk),
			.start = start, .extents = (uintptr_t)e, .nr = MAP_BATCH,
		};

		if (ioctl(ctl, DM_CHAIN_IOC_MAP, &q)) {
			ret = call_failed(disk, "its map cannot be asked for",
					  errno);
			break;
		}
		if (q.start <= start)
			break;
		for (i = 0; !ret && i < q.nr; i++)
			ret = cb(&e[i], arg);
		start = q.start;
	}
	free(e);
	return ret;
}

/* What the errnos of DM_CHAIN_IOC_SWITCH mean for the user. */
static int switch_failed(dev_t disk, int err)
{
	unsigned int ma = major(disk), mi = minor(disk);

	switch (err) {
	case EBUSY:
		return msg_fail(EXIT_REFUSED, "device %u:%u: cannot switch, it is suspended or another table is loaded; dmchain recover",
				ma, mi);
	case EROFS:
		return msg_fail(EXIT_REFUSED, "device %u:%u: cannot switch, it is read-only",
				ma, mi);
	case ESTALE:
		return msg_fail(EXIT_IMAGE, "device %u:%u: cannot switch, the new layer was not made for this top",
				ma, mi);
	case ELOOP:
		return msg_fail(EXIT_REFUSED, "device %u:%u: cannot switch, one of its layers is on another disk of the set; take them one by one",
				ma, mi);
	case EIO:
		return msg_fail(EXIT_FAILED, "device %u:%u: the old top could not be made durable, it refuses writes now; close the disk and open it at its old top",
				ma, mi);
	default:
		return call_failed(disk, "cannot switch", err);
	}
}

/* Behind the switch there is no way back: all of them have to be opened again. */
static int set_failed(const dev_t *disks, const struct dm_chain_switch_disk *d,
		      unsigned int nr, int err)
{
	unsigned int i, bad = 0;

	for (i = nr; i--; )
		if (d[i].error)
			bad = i;
	if (err == EIO && nr > 1 && d[bad].pause_ns)
		return msg_fail(EXIT_FAILED, "device %u:%u: the old top could not be made durable, so no disk of the set has a snapshot, and all refuse writes now; close them and open them at their old tops",
				major(disks[bad]), minor(disks[bad]));
	return switch_failed(disks[bad], d[bad].error ? -d[bad].error : err);
}

int control_snapshot(int ctl, const dev_t *disks, unsigned int nr,
		     uint64_t *pause_ns)
{
	struct dm_chain_switch_disk *d = calloc(nr, sizeof(*d));
	struct dm_chain_switch q = {
		.op = DM_CHAIN_SWITCH_SNAPSHOT, .nr_disks = nr,
		.disks = (uintptr_t)d,
	};
	unsigned int i;
	int ret = 0;

	if (!d)
		return msg_fail(EXIT_FAILED, "out of memory");
	for (i = 0; i < nr; i++) {
		d[i].major = major(disks[i]);
		d[i].minor = minor(disks[i]);
	}
	if (ioctl(ctl, DM_CHAIN_IOC_SWITCH, &q))
		ret = set_failed(disks, d, nr, errno);
	for (i = 0; i < nr; i++)
		pause_ns[i] = d[i].pause_ns;
	free(d);
	return ret;
}

int control_resize(int ctl, dev_t disk, uint64_t size)
{
	struct dm_chain_resize q = {
		.major = major(disk), .minor = minor(disk), .size = size,
	};

	if (!ioctl(ctl, DM_CHAIN_IOC_RESIZE, &q))
		return 0;
	return call_failed(disk, "cannot be resized", errno);
}

int control_relink(int ctl, int token, const char *name, const char *path)
{
	struct dm_chain_relink q = { .token = token };

	memcpy(q.parent_path, path, sizeof(q.parent_path));
	if (!ioctl(ctl, DM_CHAIN_IOC_RELINK, &q))
		return 0;
	if (errno == EBUSY)
		return msg_fail(EXIT_REFUSED,
				"%s: where its layer lies now can't be written down, it is suspended or another table is loaded; dmchain recover %s",
				name, name);
	return msg_fail_errno(EXIT_FAILED, errno,
			      "%s: where its layer lies now can't be written down; try again, or dmchain close %s, which lets it lie where it was",
			      name, name);
}

int control_expedite(int ctl, bool on)
{
	struct dm_chain_expedite q = { .on = on };

	/* It makes pauses short and nothing else: no reason to give up. */
	if (ioctl(ctl, DM_CHAIN_IOC_EXPEDITE, &q))
		return -EXIT_FAILED;
	return 0;
}

/* ENOTTY, or EINVAL for what it should know: it was made before that was. */
static int module_too_old(const char *what)
{
	return msg_fail(EXIT_FAILED, CONTROL_PATH
			": the module cannot tell %s, it is older than this dmchain; install both from one release",
			what);
}

static int holders_failed(dev_t disk, int err)
{
	if (err == ENOTTY || err == EINVAL)
		return module_too_old("who holds a layer");
	return call_failed(disk, "its holders cannot be asked for", err);
}

/* @nr: holders there are, which may be more than there is room for. */
static int ask_holders(int ctl, dev_t disk, struct dm_chain_holder *h,
		       unsigned int room, unsigned int *nr)
{
	struct dm_chain_holders q = {
		.major = major(disk), .minor = minor(disk), .nr = room,
		.holder_size = sizeof(*h), .holders = (uintptr_t)h,
	};

	memset(h, 0, room * sizeof(*h));
	if (ioctl(ctl, DM_CHAIN_IOC_HOLDERS, &q))
		return holders_failed(disk, errno);
	*nr = q.nr;
	return 0;
}

int control_holders_of(int ctl, const struct holders_of *of, struct dm_chain_holder *h,
		       unsigned int room, unsigned int *nr)
{
	struct dm_chain_holders q = {
		.major = major(of->dev), .minor = minor(of->dev), .nr = room,
		.holder_size = sizeof(*h), .holders = (uintptr_t)h,
		.flags = DM_CHAIN_HOLDERS_LAYER, .require = of->require, .allow = of->allow,
	};
	unsigned int i;

	memset(h, 0, room * sizeof(*h));
	memcpy(q.uuid, of->uuid.b, sizeof(q.uuid));
	if (ioctl(ctl, DM_CHAIN_IOC_HOLDERS, &q))
		return holders_failed(of->dev, errno);
	*nr = q.nr;
	for (i = 0; i < room; i++)
		h[i].disk[sizeof(h[i].disk) - 1] = '\0';
	return 0;
}

int control_openers(int ctl, int fd, unsigned int *nr)
{
	struct dm_chain_openers q = { .fd = fd };

	if (ioctl(ctl, DM_CHAIN_IOC_OPENERS, &q))
		return -errno;
	*nr = q.readers + q.writers;
	return 0;
}

int control_holders(int ctl, dev_t disk, struct dm_chain_holder **holders,
		    unsigned int *nr)
{
	struct dm_chain_holder *h = NULL, *more;
	unsigned int i, room = 64;
	int ret;

	for (;; room = *nr) {
		more = realloc(h, room * sizeof(*h));
		if (!more) {
			free(h);
			return msg_fail(EXIT_FAILED, "out of memory");
		}
		h = more;
		ret = ask_holders(ctl, disk, h, room, nr);
		if (ret || *nr <= room)
			break;
	}
	if (ret) {
		free(h);
		return ret;
	}
	for (i = 0; i < *nr; i++)
		h[i].disk[sizeof(h[i].disk) - 1] = '\0';
	*holders = h;
	return 0;
}

int control_acquire(int ctl, dev_t disk, struct dm_chain_acquire *q)
{
	int err;

	q->major = major(disk);
	q->minor = minor(disk);
	err = ioctl(ctl, DM_CHAIN_IOC_ACQUIRE, q) ? -errno : 0;
	q->conflict.holder.disk[sizeof(q->conflict.holder.disk) - 1] = '\0';
	return err;
}

int control_acquire_failed(dev_t disk, int err)
{
	switch (-err) {
	case ENOTTY:
	case EINVAL:
		return module_too_old("whether that would be allowed");
	case EBUSY:
		return msg_fail(EXIT_REFUSED,
				"device %u:%u: another table is loaded beside the running one, so its layers can't be had now; dmchain recover drops what a command has left",
				major(disk), minor(disk));
	default:
		return call_failed(disk, "cannot be asked", -err);
	}
}
