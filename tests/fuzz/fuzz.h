/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the fuzz targets share: an input that is eaten up from its start, and a
 * way to say what is wrong. An input that is too short reads as zeroes.
 */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A rule that must hold; libFuzzer keeps the input that breaks it. */
#define must(cond) do {							\
	if (!(cond)) {							\
		fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #cond); \
		abort();						\
	}								\
} while (0)

struct in {
	const uint8_t *at;
	size_t left;
};

static inline void take(struct in *in, void *buf, size_t len)
{
	size_t n = len < in->left ? len : in->left;

	memset(buf, 0, len);
	if (n)
		memcpy(buf, in->at, n);
	in->at += n;
	in->left -= n;
}

static inline uint64_t take_number(struct in *in, size_t bytes)
{
	uint64_t n = 0;

	take(in, &n, bytes);	/* little-endian, as all hosts that fuzz are */
	return n;
}

/* The rest, or what is before the next byte @end of it, as text; malloc. */
static inline char *take_text(struct in *in, int end)
{
	const uint8_t *stop = in->left && end >= 0 ? memchr(in->at, end, in->left) : NULL;
	size_t len = stop ? (size_t)(stop - in->at) : in->left, skip = stop ? len + 1 : len;
	char *text = malloc(len + 1);

	must(text);
	if (len)
		memcpy(text, in->at, len);
	text[len] = '\0';
	in->at += skip;
	in->left -= skip;
	return text;
}

/*
 * Patches laid over a buffer, until one has no length: place (2 bytes), length (1),
 * bytes. So that a small input reaches every field, and most of them stay valid.
 */
static inline void take_patches(struct in *in, uint8_t *buf, size_t len)
{
	for (;;) {
		size_t at = take_number(in, 2) % len, n = take_number(in, 1);

		if (!n)
			return;
		take(in, buf + at, n < len - at ? n : len - at);
	}
}

/* In memory: tests/fuzz/run removes what is in its own. */
static inline void own_folder(void)
{
	const char *tmp = getenv("TMPDIR");
	char folder[256];

	snprintf(folder, sizeof(folder), "%s/fuzz-XXXXXX", tmp ? tmp : "/dev/shm");
	must(mkdtemp(folder) && !chdir(folder));
}

#endif
