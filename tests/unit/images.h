/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the tests of closed images share: a folder of their own, commands run
 * in this process, images with something in them.
 */
#ifndef TESTS_UNIT_IMAGES_H
#define TESTS_UNIT_IMAGES_H

#include "offline.h"
#include "rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define KIB	1024ULL
#define MIB	(1024 * KIB)
#define GIB	(1024 * MIB)
#define TIB	(1024 * GIB)

/* stub-online.c: a part of the paths of images that the disk vm1 has */
extern const char *stub_holder;
extern bool stub_holder_writes;
/* it has it only since whoever asks has opened it */
extern bool stub_holder_late;

/** images_setup() - a new folder as working directory, for each test */
int images_setup(void **state);
/** images_setup_memory() - in a file system that flushes at no cost, if any */
int images_setup_memory(void **state);
/** images_teardown() - back, and the folder is gone */
int images_teardown(void **state);

/**
 * run() - a command as main() would run it; its output goes to a file
 * @command: "create"; then its arguments, the last is NULL
 *
 * Return: the exit code.
 */
int run(const char *command, ...) __attribute__((sentinel));
/** output() - what the last command wrote to stdout; valid until the next */
const char *output(void);
/** run_json() - run() with --json; must succeed; the caller puts the object */
json_object *run_json(const char *command, ...) __attribute__((sentinel));
/** json_at() - a member, which must be there (it may be null) */
json_object *json_at(json_object *o, const char *key);
uint64_t json_number(json_object *o, const char *key);

/** assert_said() - the last error has each of these words; the last is NULL */
void assert_said(const char *word, ...) __attribute__((sentinel));

/** exists() - of a path */
bool exists(const char *path);
void make_raw(const char *path, uint64_t bytes);
/** poke() - overwrite bytes of a file */
void poke(const char *path, uint64_t offset, const void *buf, size_t len);
void peek(const char *path, uint64_t offset, void *buf, size_t len);
/** spoil() - change 16 bytes of a file */
void spoil(const char *path, uint64_t offset);

/** load() - header of an image, whatever its marks */
void load(const char *path, struct chain_header *h);
/** store() - the same fields, ids and marks, durably back */
void store(const char *path, const struct chain_header *h);

/** put_blocks() - set states, write sectors and presence as the kernel does;
 * data blocks are filled with bytes of @fill */
void put_blocks(const char *path, uint64_t block, uint64_t blocks,
		unsigned int state, uint8_t fill);
unsigned int get_block(const char *path, uint64_t block);
/** map_sector_offset() - where the state of a block is */
uint64_t map_sector_offset(const char *path, uint64_t block);

#endif
