// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Devices with a volatile cache, and what is written on them: header slots,
 * presence and map sectors.
 */
#include <assert.h>
#include <string.h>

#include "model.h"

void unit_set(struct unit *u, u8 v)
{
	memset(u, 0, sizeof(*u));
	u->n = 1;
	u->v[0] = v;
}

u8 unit_read(const struct unit *u)
{
	return u->v[u->n - 1];
}

/* From here on a power cut may leave @v. The same again changes nothing. */
void unit_write(struct unit *u, u8 v)
{
	if (unit_read(u) == v)
		return;
	assert(u->n < NR_VALUES);
	u->v[u->n++] = v;
	u->flying = 1;
}

void unit_done(struct unit *u)
{
	u->flying = 0;
}

/* Drop what is older than v[@first]. */
static void unit_forget(struct unit *u, u8 first)
{
	memmove(u->v, u->v + first, u->n - first);
	u->n -= first;
	memset(u->v + u->n, 0, first);
}

/* A FUA write completed: durable without a FLUSH, other units untouched. */
void unit_fua_done(struct unit *u)
{
	u->flying = 0;
	u->mark = 0;
	unit_forget(u, u->n - 1);
}

/* A FLUSH covers what had completed when it was submitted, and no more. */
void flush_begin(struct state *s, int l)
{
	for (int i = 0; i < NR_UNITS; i++) {
		struct unit *u = &s->u[l][i];

		u->mark = u->n - 1 - u->flying;
	}
}

void flush_end(struct state *s, int l)
{
	for (int i = 0; i < NR_UNITS; i++) {
		unit_forget(&s->u[l][i], s->u[l][i].mark);
		s->u[l][i].mark = 0;
	}
}

/* A failed FLUSH: the cache calls the data clean, and it is gone. */
void drop_cache(struct state *s, int l)
{
	for (int i = 0; i < NR_UNITS; i++) {
		struct unit *u = &s->u[l][i];
		u8 last = unit_read(u), flying = u->flying;

		unit_set(u, u->v[0]);
		if (flying)
			unit_write(u, last);
	}
}

/* --- headers --- */

static struct hdr headers[TORN];
static int nr_headers;

void headers_reset(void)
{
	memset(headers, 0, sizeof(headers));
	nr_headers = 1;		/* number 0: no header */
}

u8 header_number(const struct hdr *h)
{
	for (int i = 1; i < nr_headers; i++)
		if (!memcmp(&headers[i], h, sizeof(*h)))
			return i;
	assert(nr_headers < TORN);
	headers[nr_headers] = *h;
	return nr_headers++;
}

const struct hdr *hdr(u8 number)
{
	assert(number < nr_headers);
	return &headers[number];
}

/* The highest valid generation holds; one generation, two contents: refused. */
u8 pick_header(u8 slot0, u8 slot1)
{
	if (!slot_valid(slot0))
		return slot_valid(slot1) ? slot1 : 0;
	if (!slot_valid(slot1) || slot0 == slot1)
		return slot0;
	if (hdr(slot0)->gen == hdr(slot1)->gen)
		return 0;
	return hdr(slot0)->gen > hdr(slot1)->gen ? slot0 : slot1;
}

/* --- maps --- */

int map_sector_of(int b)
{
	return model.sc->geometry == ONE_SECTOR ? 0 : b;
}

int group_of(int b)
{
	return model.sc->geometry == TWO_GROUPS ? b : 0;
}

u8 group_blocks(int group)
{
	u8 mask = 0;

	for (int b = 0; b < NR_BLOCKS; b++)
		if (group_of(b) == group)
			mask |= BIT(b);
	return mask;
}

u8 sector_blocks(int sector)
{
	u8 mask = 0;

	for (int b = 0; b < NR_BLOCKS; b++)
		if (map_sector_of(b) == sector)
			mask |= BIT(b);
	return mask;
}

static bool sector_ok(u8 v, u8 seed)
{
	return (v & SECTOR_VALID) && !(v & SECTOR_SEED) == !seed;
}

/*
 * What a map says of a block. A group whose presence bit is 0 is absent, and
 * its sectors are not even read: what is there may be left over from a round
 * that nobody waited for. A present group's invalid sector is damage, and so
 * is all under an invalid presence sector: EIO, never what lies below.
 */
enum block_state sector_state(u8 presence, u8 sector, u8 seed, int b)
{
	bool present = presence & BIT(group_of(b));

	if (!sector_ok(presence, seed)) {
		if (planted(PRESENCE_LOST_ABSENT))
			present = false;
		else if (planted(PRESENCE_LOST_PRESENT))
			present = true;
		else
			return DAMAGED;
	}
	if (planted(STALE_SECTORS_USED) && sector_ok(sector, seed))
		present = true;
	if (!present)
		return ABSENT;
	if (!sector_ok(sector, seed))
		return DAMAGED;
	return (sector >> (2 * b)) & 3;
}
