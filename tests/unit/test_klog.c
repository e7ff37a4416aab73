// SPDX-License-Identifier: GPL-2.0-or-later
// sources: userspace/klog.c
/*
 * Which of the kernel's lines is the reason: a socket gives records as /dev/kmsg does.
 */
#include "online.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define OURS makedev(253, 1)

/* Records, up to NULL; the reason in them, or "". */
static const char *reason(const char *const *records)
{
	static char why[64];
	bool found;
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fd), 0);
	for (; *records; records++)
		assert_int_equal(write(fd[1], *records, strlen(*records)),
				 strlen(*records));
	close(fd[1]);
	found = klog_reason(fd[0], OURS, why, sizeof(why));
	assert_int_equal(found, *why != 0);
	return why;
}

#define REASON(...) reason((const char *const []){ __VA_ARGS__, NULL })

static void both_sides(void **state)
{
	(void)state;
	assert_string_equal(REASON("3,7,1,-;device-mapper: chain: 253:1: layer 2: no header\n"),
			    "layer 2: no header");
	assert_string_equal(REASON("3,7,1,-;device-mapper: table: 253:1: chain: too many (-EINVAL)\n"),
			    "too many (-EINVAL)");
	/* The target's own word says more, whichever came last. */
	assert_string_equal(REASON("3,7,1,-;device-mapper: chain: 253:1: layer 2: no header\n",
				   "3,8,1,-;device-mapper: table: 253:1: chain: bad (-EINVAL)\n"),
			    "layer 2: no header");
	assert_string_equal(REASON("3,7,1,-;device-mapper: chain: 253:1: a\033b\n"), "a?b");
}

static void of_another_disk(void **state)
{
	(void)state;
	assert_string_equal(REASON("3,7,1,-;device-mapper: chain: 253:11: A switch of the disk is under way\n"), "");
	assert_string_equal(REASON("3,7,1,-;device-mapper: table: 253:2: chain: too many (-EINVAL)\n"), "");
	assert_string_equal(REASON("3,7,1,-;device-mapper: table: 253:1: chain: ours (-EINVAL)\n",
				   "3,8,1,-;device-mapper: chain: 253:2: theirs\n",
				   "3,9,1,-;device-mapper: table: 253:2: chain: theirs (-EBUSY)\n"),
			    "ours (-EINVAL)");
}

static void none(void **state)
{
	char why[8];

	(void)state;
	assert_string_equal(REASON("6,7,1,-;loop0: detected capacity change\n",
				   "3,8,1,-;device-mapper: table: 253:1: linear: x: chain: y\n",
				   "3,9,1,-;device-mapper: chain: no number\n", "junk"), "");
	assert_false(klog_reason(-1, OURS, why, sizeof(why)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_sides),
		cmocka_unit_test(of_another_disk),
		cmocka_unit_test(none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
