/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Disks that come up with the machine. Each has a declaration, a JSON file of its
 * name in /etc/dmchain, which says what `open` would be told.
 */
#ifndef DMCHAIN_BOOT_H
#define DMCHAIN_BOOT_H

#include "dmchain.h"

#define BOOT_DIR	"/etc/dmchain"
#define BOOT_SUFFIX	".json"
#define BOOT_UNIT_MAX	1024	/* of an escaped name: four bytes for each */

/* boot-file.c */

/** boot_dir - where declarations lie; NULL: $DMCHAIN_ETC, or BOOT_DIR */
extern const char *boot_dir;

/**
 * struct boot_decl - a declaration; all pointers are from malloc
 * @name: of the disk, and of the file
 * @path: of the top, absolute
 * @format: enum dm_chain_format
 * @read_only: as of open
 * @report: jobs that were cut off are told of only, else they are resumed
 * @network: comes up when there is a network
 * @label_rw: as of open, or NULL
 * @label_ro: likewise
 * @needs: paths whose file systems are mounted first
 * @nr_needs: of these
 * @next: a change of the top is under way, and this is to be it; or NULL
 * @next_format: of that
 */
struct boot_decl {
	char *name;
	char *path;
	uint32_t format;
	bool read_only;
	bool report;
	bool network;
	char *label_rw;
	char *label_ro;
	char **needs;
	unsigned int nr_needs;
	char *next;
	uint32_t next_format;
};

/** boot_path() - of the declaration of a disk; malloc, or NULL */
char *boot_path(const char *name);
/** boot_declared() - is there one, good or bad? */
bool boot_declared(const char *name);
/**
 * boot_load() - read a declaration
 * @name: of the disk
 * @d: filled in, for boot_free(), also after an error
 *
 * Return: 0; -EXIT_FAILED: there is none, or it can't be read; -EXIT_USAGE: it
 * says what makes no sense. The line names the file.
 */
int boot_load(const char *name, struct boot_decl *d);
/** boot_save() - there as a whole or not at all, and durable */
int boot_save(const struct boot_decl *d);
/** boot_remove() - durably */
int boot_remove(const char *name);
void boot_free(struct boot_decl *d);
/** boot_need() - one more of @needs, unless it has it; of a layer: its folder, or
 * the device. 1: it is new, 0, or a negative exit code */
int boot_need(struct boot_decl *d, const char *layer);
/** boot_names() - of all declarations, sorted; malloc each, ends with a NULL name;
 * what can't be a name of a disk is told and left out */
int boot_names(char ***names, unsigned int *nr);
void boot_names_free(char **names);

/* boot-unit.c */

/** unit_instance() - what stands for a disk's name in dmchain@NAME.service; @buf
 * BOOT_UNIT_MAX bytes */
const char *unit_instance(const char *name, char *buf);
/** unit_unescape() - the way back, in place; false: it is no such text */
bool unit_unescape(char *text);
/** unit_path() - a path in the name of a unit: "dev-mapper-vm\x2da"; malloc */
char *unit_path(const char *path);
/** unit_quote() - a path as a word of a unit's file; malloc */
char *unit_quote(const char *path);
/**
 * unit_write() - all that a generator makes for one disk
 * @dir: of the generator
 * @name: of the disk
 * @d: its declaration, or NULL: it is a bad one, and its unit is to say so
 */
int unit_write(const char *dir, const char *name, const struct boot_decl *d);

/* boot-track.c */

/**
 * boot_before() - the disk is about to get another top
 * @name: of the disk
 * @next: where that lies
 * @format: of it
 *
 * For who has the disk's lock, before what can't be undone. From here on until
 * boot_settle() the declaration has both, and boot_resolve() tells which it is. Of a
 * disk that isn't declared: nothing.
 */
int boot_before(const char *name, const char *next, uint32_t format);
/** boot_before_pivot() - the same: the next one is what the disk's job leads to */
int boot_before_pivot(int ctl, const char *name, dev_t disk);
/**
 * boot_settle() - bring a declaration in line with what the disk is now
 * @name: of the disk
 *
 * When a command lets go of a disk. It says nothing but warnings, for the disk is as
 * it is.
 */
void boot_settle(const char *name);
/**
 * boot_never() - what boot_before() was told of will not be the top
 * @name: of the disk, which need not be open
 * @next: that
 *
 * Before it is removed: what is not there may be the disk, and come back.
 */
void boot_never(const char *name, const char *next);
/**
 * boot_resolve() - which of the two is the disk
 * @d: the declaration
 * @next: set: @d->next, else @d->path
 *
 * Return: 0, or a negative exit code: that can't be told now.
 */
int boot_resolve(const struct boot_decl *d, bool *next);
/** boot_fill() - what a declaration needs to be told of an open disk: where its
 * layers lie */
int boot_fill(struct boot_decl *d, unsigned int *added);

#endif
