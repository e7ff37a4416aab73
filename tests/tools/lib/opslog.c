// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "opslog.h"

static void append(struct opslog *l, const struct rec *r)
{
	if (write(l->fd, r, sizeof(*r)) != sizeof(*r))
		die("%s: %s", l->path, strerror(errno));
}

void opslog_create(struct opslog *l, const char *path, u64 seed, u64 size, u64 block)
{
	struct rec head = {
		.type = REC_HEAD, .seq = seed, .off = size, .len = block,
	};

	pthread_mutex_init(&l->lock, NULL);
	l->path = path;
	l->next_seq = 1;
	l->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
	if (l->fd < 0)
		die("%s: %s", path, strerror(errno));
	append(l, &head);
}

u64 opslog_issue(struct opslog *l, enum rec_type type, u32 thread, u64 off, u64 len)
{
	struct rec r = { .type = type, .thread = thread, .off = off, .len = len };

	pthread_mutex_lock(&l->lock);
	r.seq = l->next_seq++;
	append(l, &r);
	pthread_mutex_unlock(&l->lock);
	return r.seq;
}

void opslog_add(struct opslog *l, enum rec_type type, u32 thread, u64 seq)
{
	struct rec r = { .type = type, .thread = thread, .seq = seq };

	pthread_mutex_lock(&l->lock);
	append(l, &r);
	pthread_mutex_unlock(&l->lock);
}

struct rec *opslog_load(const char *path, u64 *count)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), r;
	struct rec *recs;
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		die("%s: %s", path, strerror(errno));
	*count = st.st_size / sizeof(*recs);
	recs = xzalloc(st.st_size);
	r = full_pread(fd, recs, *count * sizeof(*recs), 0);
	if (r)
		die("%s: %s", path, strerror(-r));
	if (!*count || recs[0].type != REC_HEAD)
		die("%s is no log of crashwrite", path);
	close(fd);
	return recs;
}
