// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * qemu-nbd serves one image to us, by a socket that it is given: nobody else can
 * reach it, and it ends when we do, however that is. (libnbd could start it, too, but
 * would leave a folder in /tmp when we are killed.)
 */
#include "convert.h"

#include <errno.h>
#include <fcntl.h>
#include <libnbd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEPTH_CONTEXT	"qemu:allocation-depth"
#define ASK_BYTES	(1ULL << 30)	/* of which the state is asked at a time */
#define ZERO_BYTES	(1ULL << 30)
#define CHUNK		(1024 * 1024)
#define SERVER_FD	3	/* the first that it is given */

static int failed(struct qserver *s, const char *what, uint64_t offset)
{
	const char *why = nbd_get_error();

	return msg_fail(EXIT_FAILED, "%s: can't %s at byte %llu: %s", s->label,
			what, (unsigned long long)offset, why ? why : "unknown error");
}

/* It closes its image first. One that never met us might wait for ever. */
static void end_server(struct qserver *s, bool met)
{
	if (s->nbd)
		nbd_close(s->nbd);
	s->nbd = NULL;
	if (s->pid > 0 && !met)
		kill(s->pid, SIGKILL);
	if (s->pid > 0)
		while (waitpid(s->pid, NULL, 0) < 0 && errno == EINTR)
			;
	s->pid = 0;
}

/* It has said why, or its end of the connection tells at least something. */
static int not_started(struct qserver *s)
{
	char *why = strdup(nbd_get_error() ? nbd_get_error() : ""), *said;
	int ret;

	end_server(s, false);
	said = tool_complaint(s->log);
	ret = tool_failed(EXIT_FAILED, s->label, said && *said ? said : why);
	free(said);
	free(why);
	return ret;
}

/*
 * A socket that listens, with our connection in its queue: so its name can go before
 * there is a server, and nobody else can have it.
 */
static int listen_for_us(int *ours)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	char folder[] = "/tmp/dmchain.XXXXXX";
	int fd = -1;

	*ours = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (!mkdtemp(folder))
		return -1;
	snprintf(at.sun_path, sizeof(at.sun_path), "%s/nbd", folder);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && (bind(fd, (struct sockaddr *)&at, sizeof(at)) ||
			listen(fd, 1) ||
			connect(*ours, (struct sockaddr *)&at, sizeof(at)))) {
		close(fd);
		fd = -1;
	}
	unlink(at.sun_path);
	rmdir(folder);
	return fd;
}

/*
 * In the child: a server is told of its socket as systemd tells it. It ends with us,
 * also if that is before it has met us: by a signal that can't be caught, for qemu-nbd
 * forgets those that come while it starts. An image that it had open is lost without
 * us anyway. What it says goes into a file, since an error is one line, and ours.
 */
static void __attribute__((noreturn))
become_server(const struct qserver *s, int sock, char **argv, pid_t parent,
	      const sigset_t *signals)
{
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	if (!prctl(PR_SET_PDEATHSIG, SIGKILL) && getppid() == parent &&
	    dup2(s->log, STDERR_FILENO) >= 0 && dup2(s->log, STDOUT_FILENO) >= 0 &&
	    (sock == SERVER_FD ? !fcntl(sock, F_SETFD, 0) :
				 dup2(sock, SERVER_FD) >= 0) &&
	    !setenv("LISTEN_PID", pid, 1) && !setenv("LISTEN_FDS", "1", 1)) {
		sigprocmask(SIG_SETMASK, signals, NULL);
		execvp(argv[0], argv);
	}
	dprintf(STDERR_FILENO, "%s can't be run: %s; is QEMU's package of programs (qemu-utils) installed?\n",
		argv[0], strerror(errno));
	_exit(127);
}

static int start(struct qserver *s, char **argv, const sigset_t *signals)
{
	pid_t parent = getpid();
	int ours, sock = listen_for_us(&ours), ret;

	if (sock < 0) {
		ret = msg_fail_errno(EXIT_FAILED, errno, "%s: no socket in /tmp to have it served",
				     s->label);
		if (ours >= 0)
			close(ours);
		return ret;
	}
	s->pid = fork();
	if (!s->pid)
		become_server(s, sock, argv, parent, signals);
	/* If it is dead, or dies, nobody listens, and the connection ends. */
	close(sock);
	ret = nbd_connect_socket(s->nbd, ours);
	return s->pid < 0 || ret ? not_started(s) : 0;
}

static int connect_server(struct qserver *s, const char *node, bool write)
{
	char *argv[] = {
		"qemu-nbd", "--allocation-depth", "--discard=unmap",
		write ? "--cache=writeback" : "--read-only", (char *)node, NULL,
	};
	sigset_t set, before;
	int ret;

	s->nbd = nbd_create();
	if (!s->nbd || s->log < 0 ||
	    nbd_add_meta_context(s->nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) ||
	    nbd_add_meta_context(s->nbd, DEPTH_CONTEXT))
		return msg_fail(EXIT_FAILED, "%s: out of memory", s->label);
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, &before);
	ret = start(s, argv, &before);
	sigprocmask(SIG_SETMASK, &before, NULL);
	return ret;
}

static int check_server(struct qserver *s)
{
	int64_t size = nbd_get_size(s->nbd);

	if (size < 0)
		return failed(s, "tell the size", 0);
	s->size = (uint64_t)size;
	if (nbd_can_meta_context(s->nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) == 1 &&
	    nbd_can_meta_context(s->nbd, DEPTH_CONTEXT) == 1)
		return 0;
	return msg_fail(EXIT_FAILED, "%s: this qemu-nbd can't tell what the image holds; a newer QEMU can (6.1)",
			s->label);
}

int qserver_open(struct qserver *s, const char *label, json_object *node,
		 bool write)
{
	char *text = NULL;
	int ret;

	memset(s, 0, sizeof(*s));
	s->label = label;
	s->log = memfd_create("qemu-nbd", MFD_CLOEXEC);
	if (asprintf(&text, "json:%s", json_object_to_json_string_ext(node,
			JSON_C_TO_STRING_PLAIN)) < 0)
		text = NULL;
	json_object_put(node);
	ret = text ? connect_server(s, text, write) :
		     msg_fail(EXIT_FAILED, "%s: out of memory", label);
	free(text);
	if (!ret)
		ret = check_server(s);
	if (ret)
		qserver_close(s);
	return ret;
}

void qserver_close(struct qserver *s)
{
	if (s->nbd)
		(void)nbd_shutdown(s->nbd, 0);
	end_server(s, true);
	if (s->log > 0)
		close(s->log);
	memset(s, 0, sizeof(*s));
}

/* --- What it holds --- */

/**
 * struct answer - to one question of what an image holds
 * @entries: pairs of a length and flags; [0] the bytes, [1] the depth
 * @nr: entries
 * @lost: no memory for them
 */
struct answer {
	uint32_t *entries[2];
	size_t nr[2];
	bool lost;
};

static int keep_answer(void *arg, const char *context, uint64_t offset,
		       uint32_t *entries, size_t nr, int *error)
{
	unsigned int which = !strcmp(context, DEPTH_CONTEXT);
	struct answer *a = arg;

	(void)offset;
	(void)error;
	free(a->entries[which]);
	a->entries[which] = malloc(nr * sizeof(*entries));
	a->nr[which] = nr;
	if (a->entries[which])
		memcpy(a->entries[which], entries, nr * sizeof(*entries));
	else
		a->lost = true;
	return 0;
}

static uint32_t lesser(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* Both lists cut each other; up to the end of the shorter one. */
static int tell(struct answer *a, struct qextent *e,
		int (*cb)(const struct qextent *e, void *arg), void *arg)
{
	size_t i = 0, j = 0;
	int ret = 0;

	while (!ret && i + 1 < a->nr[0] && j + 1 < a->nr[1]) {
		uint32_t *bytes = &a->entries[0][i], *depth = &a->entries[1][j];
		uint32_t n = lesser(bytes[0], depth[0]);

		e->length = n;
		e->zero = bytes[1] & LIBNBD_STATE_ZERO;
		e->depth = depth[1];
		if (n)
			ret = cb(e, arg);
		e->start += n;
		bytes[0] -= n;
		depth[0] -= n;
		i += bytes[0] ? 0 : 2;
		j += depth[0] ? 0 : 2;
	}
	return ret;
}

static int ask(struct qserver *s, uint64_t offset, struct answer *a)
{
	nbd_extent_callback cb = { .callback = keep_answer, .user_data = a };
	uint64_t len = s->size - offset;

	if (len > ASK_BYTES)
		len = ASK_BYTES;
	if (nbd_block_status(s->nbd, len, offset, cb, 0))
		return failed(s, "tell what it holds", offset);
	return a->lost ? msg_fail(EXIT_FAILED, "%s: out of memory", s->label) : 0;
}

int qserver_map(struct qserver *s,
		int (*cb)(const struct qextent *e, void *arg), void *arg)
{
	struct qextent e = { .start = 0 };
	int ret = 0;

	while (!ret && e.start < s->size) {
		struct answer a = { .lost = false };
		uint64_t before = e.start;

		ret = ask(s, e.start, &a);
		if (!ret)
			ret = tell(&a, &e, cb, arg);
		free(a.entries[0]);
		free(a.entries[1]);
		if (!ret && e.start == before)
			ret = msg_fail(EXIT_FAILED, "%s: qemu-nbd doesn't say what there is at byte %llu",
				       s->label, (unsigned long long)before);
	}
	return ret;
}

/* --- Bytes --- */

int qserver_read(struct qserver *s, void *buf, size_t len, uint64_t offset)
{
	return nbd_pread(s->nbd, buf, len, offset, 0) ?
	       failed(s, "read", offset) : 0;
}

int qserver_write(struct qserver *s, const void *buf, size_t len, uint64_t offset)
{
	return nbd_pwrite(s->nbd, buf, len, offset, 0) ?
	       failed(s, "write", offset) : 0;
}

int qserver_zero(struct qserver *s, uint64_t len, uint64_t offset)
{
	while (len) {
		uint64_t part = len < ZERO_BYTES ? len : ZERO_BYTES;

		if (nbd_zero(s->nbd, part, offset, 0))
			return failed(s, "write zeroes", offset);
		offset += part;
		len -= part;
	}
	return 0;
}

int qserver_flush(struct qserver *s)
{
	return nbd_flush(s->nbd, 0) ? failed(s, "flush", s->size) : 0;
}

/* --- Comparing --- */

struct verify {
	struct qserver *s;
	struct view *v;
	const char *hint;
};

static int differ(const struct verify *x, uint64_t pos)
{
	return msg_fail(EXIT_FAILED, "%s: its copy differs from it, first at byte %llu; %s",
			x->s->label, (unsigned long long)pos, x->hint);
}

static int verify_bytes(struct verify *x, const struct dm_chain_extent *e,
			size_t len, bool zero)
{
	static uint8_t ours[CHUNK], theirs[CHUNK];
	int ret = view_read_extent(x->v, e, ours, len);
	size_t i;

	if (zero)
		memset(theirs, 0, len);
	else if (!ret)
		ret = qserver_read(x->s, theirs, len, e->start);
	if (ret || !memcmp(ours, theirs, len))
		return ret;
	for (i = 0; ours[i] == theirs[i]; i++)
		;
	return differ(x, e->start + i);
}

static int verify_extent(const struct qextent *q, void *arg)
{
	uint64_t pos = q->start, end = q->start + q->length;
	struct verify *x = arg;
	int ret = 0;

	while (!ret && pos < end) {
		struct dm_chain_extent e;
		uint64_t len = end - pos;

		view_look(x->v, pos, &e);
		if (len > e.length)
			len = e.length;
		if (!(q->zero && view_zeroes(&e))) {
			len = len < CHUNK ? len : CHUNK;
			ret = verify_bytes(x, &e, len, q->zero);
		}
		work_step(len);
		pos += len;
	}
	return ret;
}

int qserver_verify(struct qserver *s, struct view *v, const char *hint)
{
	struct verify x = { .s = s, .v = v, .hint = hint };

	if (s->size != v->size)
		return msg_fail(EXIT_FAILED, "%s: has %llu bytes, its copy %llu",
				s->label, (unsigned long long)s->size,
				(unsigned long long)v->size);
	return qserver_map(s, verify_extent, &x);
}
