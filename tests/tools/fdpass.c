// SPDX-License-Identifier: GPL-2.0-or-later
// sources:
/*
 * fdpass PATH ro|rw|append|path|memfd N COMMAND...: run COMMAND with a
 * descriptor N that another process has opened and sent through a socket.
 * memfd: PATH is just its name.
 */
#include <err.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static int open_it(const char *path, const char *how)
{
	static const struct {
		const char *how;
		int flags;
	} modes[] = {
		{ "ro", O_RDONLY }, { "rw", O_RDWR }, { "path", O_PATH },
		{ "append", O_RDWR | O_APPEND }, { "wo", O_WRONLY },
	};
	size_t i;

	if (!strcmp(how, "memfd"))
		return memfd_create(path, 0);
	for (i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (!strcmp(how, modes[i].how))
			return open(path, modes[i].flags);
	errx(2, "%s: what is that?", how);
}

union control {
	struct cmsghdr head;
	char room[CMSG_SPACE(sizeof(int))];
};

static void message(struct msghdr *m, struct iovec *v, union control *c)
{
	static char byte;

	memset(m, 0, sizeof(*m));
	memset(c, 0, sizeof(*c));
	v->iov_base = &byte;
	v->iov_len = 1;
	m->msg_iov = v;
	m->msg_iovlen = 1;
	m->msg_control = c->room;
	m->msg_controllen = sizeof(c->room);
}

static void send_fd(int socket, int fd)
{
	union control c;
	struct msghdr m;
	struct iovec v;

	message(&m, &v, &c);
	c.head.cmsg_level = SOL_SOCKET;
	c.head.cmsg_type = SCM_RIGHTS;
	c.head.cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(&c.head), &fd, sizeof(fd));
	if (sendmsg(socket, &m, 0) != 1)
		err(2, "sendmsg");
}

static int receive_fd(int socket)
{
	union control c;
	struct msghdr m;
	struct iovec v;
	int fd;

	message(&m, &v, &c);
	if (recvmsg(socket, &m, 0) != 1 ||
	    m.msg_controllen < CMSG_LEN(sizeof(fd)))
		errx(2, "no descriptor came");
	memcpy(&fd, CMSG_DATA(&c.head), sizeof(fd));
	return fd;
}

int main(int argc, char **argv)
{
	int pair[2], fd, n;
	pid_t pid;

	if (argc < 5)
		errx(2, "usage: fdpass PATH ro|rw|wo|append|path|memfd N COMMAND...");
	n = atoi(argv[3]);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		err(2, "socketpair");
	pid = fork();
	if (pid < 0)
		err(2, "fork");
	if (!pid) {
		fd = open_it(argv[1], argv[2]);
		if (fd < 0)
			err(2, "%s", argv[1]);
		send_fd(pair[1], fd);
		return 0;
	}
	close(pair[1]);
	fd = receive_fd(pair[0]);
	close(pair[0]);
	if (fd != n && (dup2(fd, n) < 0 || close(fd)))
		err(2, "%d", n);
	waitpid(pid, NULL, 0);
	execvp(argv[4], argv + 4);
	err(2, "%s", argv[4]);
}
