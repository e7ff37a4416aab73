/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the parts of `dmchain perm` share.
 */
#ifndef DMCHAIN_PERM_H
#define DMCHAIN_PERM_H

#include "online.h"
#include "dm-chain-perm.h"

/* perm-show.c */

/** perm_show_matrix() - to stdout; @rst: as a table of reStructuredText */
void perm_show_matrix(bool rst);
/** perm_show_holders() - to stdout, those of one layer below each other */
void perm_show_holders(const struct dm_chain_holder *h, unsigned int nr);
/** perm_holder_json() - a holder and its layer */
json_object *perm_holder_json(const struct dm_chain_holder *h);
/** perm_rule_json() - add role and masks of a row to @o */
void perm_rule_json(json_object *o, const struct chain_perm_rule *rule);
/** perm_role() - of a row that may come from a newer module; never NULL */
const char *perm_role(uint32_t row);

/* perm-check.c */

/**
 * struct perm_question - would this be allowed?
 * @op: name of the operation
 * @object: NAME or PATH
 * @format: of PATH, or NULL
 * @top: LAYER, or NULL: commit, top of the range; else what it is about
 * @base: LAYER, or NULL
 * @into: LAYER, or NULL: stream
 * @writable: hold: make the lower layers writable that it may write
 */
struct perm_question {
	const char *op;
	const char *object;
	const char *format;
	const char *top;
	const char *base;
	const char *into;
	bool writable;
};

/**
 * struct asked - a question on its way to its answer
 * @q: the question
 * @op: enum dm_chain_op
 * @nr: layers
 * @layers: of an open disk, or NULL
 * @rows: enum dm_chain_oprole of each, top first
 * @paths: of each, or NULL
 */
struct asked {
	const struct perm_question *q;
	uint32_t op;
	unsigned int nr;
	struct dm_chain_layer *layers;
	uint32_t *rows;
	char **paths;
};

/** asked_check() - is there such an operation, has it these options */
int asked_check(const struct asked *a);
/** asked_about_disk() - is it about an open disk */
bool asked_about_disk(const struct asked *a);
/**
 * asked_of_disk() - ask the kernel; @a is filled in
 * @a: question and answer
 * @fd: set to a token's descriptor; NULL: only ask
 */
int asked_of_disk(struct asked *a, int *fd);
void asked_free(struct asked *a);

/** perm_refused() - the line of an operation on a disk that the kernel refused
 * for a holder, and its exit code */
int perm_refused(const char *name, uint32_t op,
		 const struct dm_chain_conflict *c);

/** perm_check() - answer it: 0, -EXIT_REFUSED with the line, or another error */
int perm_check(const struct perm_question *q);

/* perm-take.c */

/**
 * struct take - layers that an operation is to hold
 * @name: of the disk
 * @op: enum dm_chain_op
 * @ctl: control device
 * @disk: device number
 * @top: index among @layers, as in struct dm_chain_acquire
 * @base: likewise
 * @layers: of disk_layers(); NULL: it is about the top, whatever that is
 * @nr: of these
 * @conflict: set: who is in the way, if it has a permission
 */
struct take {
	const char *name;
	uint32_t op;
	int ctl;
	dev_t disk;
	unsigned int top;
	unsigned int base;
	const struct dm_chain_layer *layers;
	unsigned int nr;
	struct dm_chain_conflict conflict;
};

/**
 * perm_take() - look at layers and hold them, as they were seen
 * @t: what is to be held
 * @look: fills in @t, and does so again after a job has changed the layers
 *	meanwhile; may be NULL if @t has none
 * @arg: for it
 * @fd: set to a token's descriptor; NULL: only ask
 *
 * Return: 0; what @look has returned if that isn't 0; or a negative exit code.
 */
int perm_take(struct take *t, int (*look)(struct take *t, void *arg), void *arg,
	      int *fd);

/* perm-hold.c */

/**
 * perm_hold() - hold what an operation needs while a command runs
 * @q: what the user asked for
 * @command: its words, NULL at the end
 *
 * Return: the command's exit code, negated, or a negative exit code.
 */
int perm_hold(const struct perm_question *q, char **command);

#endif
