/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A treap (a search tree by offset whose nodes also form a heap by random numbers), with the two
 * operations that ranges need: split at an offset, and join. The random numbers keep it flat whatever
 * offsets a guest chooses. Nodes come from slabs, which are given back when the map is empty.
 */
#include "disk/extents.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define SLAB_NODES 512

struct node {
	struct hf_extent e;
	struct node *left, *right;
	uint32_t priority;
};

struct slab {
	struct slab *next;
	struct node node[SLAB_NODES];
};

struct hf_extents {
	struct node *root;
	struct node *unused; /* linked by right */
	size_t n_unused;
	uint64_t n;
	uint64_t random;
	struct slab *slabs;
	size_t n_slabs;
};

static uint64_t end_of(const struct hf_extent *e)
{
	return e->offset_bytes + e->length_bytes;
}

/* ---- nodes ---- */

/* xorshift64*: nobody can gain by guessing it but time. */
static uint32_t next_random(struct hf_extents *x)
{
	x->random ^= x->random >> 12;
	x->random ^= x->random << 25;
	x->random ^= x->random >> 27;
	return (uint32_t)((x->random * UINT64_C(0x2545F4914F6CDD1D)) >> 32);
}

static int add_slab(struct hf_extents *x)
{
	struct slab *s = malloc(sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->next = x->slabs;
	x->slabs = s;
	x->n_slabs++;
	for (size_t i = 0; i < SLAB_NODES; i++) {
		s->node[i].right = x->unused;
		x->unused = &s->node[i];
	}
	x->n_unused += SLAB_NODES;
	return 0;
}

static void free_slabs(struct hf_extents *x)
{
	while (x->slabs) {
		struct slab *next = x->slabs->next;

		free(x->slabs);
		x->slabs = next;
	}
	x->unused = NULL;
	x->n_unused = x->n_slabs = 0;
}

static struct node *take_node(struct hf_extents *x, const struct hf_extent *e)
{
	struct node *n = x->unused;

	assert(n);
	x->unused = n->right;
	x->n_unused--;
	x->n++;
	*n = (struct node){ .e = *e, .priority = next_random(x) };
	return n;
}

static void put_node(struct hf_extents *x, struct node *n)
{
	n->right = x->unused;
	x->unused = n;
	x->n_unused++;
	x->n--;
}

int hf_extents_new(struct hf_extents **ret)
{
	struct hf_extents *x = calloc(1, sizeof(*x));

	if (!x)
		return -ENOMEM;
	x->random = (uint64_t)(uintptr_t)x | 1;
	*ret = x;
	return 0;
}

void hf_extents_free(struct hf_extents *x)
{
	if (!x)
		return;
	free_slabs(x);
	free(x);
}

/* A set takes a node, and one more where it cuts an extent in two. */
int hf_extents_reserve(struct hf_extents *x, size_t n)
{
	int r = 0;

	while (!r && x->n_unused / 2 < n)
		r = add_slab(x);
	return r;
}

void hf_extents_clear(struct hf_extents *x)
{
	free_slabs(x);
	x->root = NULL;
	x->n = 0;
}

uint64_t hf_extents_count(const struct hf_extents *x)
{
	return x->n;
}

/* ---- the tree ---- */

static struct node *join(struct node *a, struct node *b)
{
	if (!a)
		return b;
	if (!b)
		return a;
	if (a->priority > b->priority) {
		a->right = join(a->right, b);
		return a;
	}
	b->left = join(a, b->left);
	return b;
}

/* Extents that begin before @at, and the others. */
static void split(struct node *n, uint64_t at, struct node **ret_before, struct node **ret_after)
{
	if (!n) {
		*ret_before = *ret_after = NULL;
	} else if (n->e.offset_bytes < at) {
		*ret_before = n;
		split(n->right, at, &n->right, ret_after);
	} else {
		*ret_after = n;
		split(n->left, at, ret_before, &n->left);
	}
}

static struct node *last_of(struct node *n)
{
	while (n && n->right)
		n = n->right;
	return n;
}

static struct hf_extent behind(const struct hf_extent *e, uint64_t at)
{
	struct hf_extent rest = *e;

	rest.offset_bytes = at;
	rest.length_bytes = end_of(e) - at;
	if (!e->is_zero)
		rest.place += at - e->offset_bytes;
	return rest;
}

/* As split(), and the extent that reaches over @at is cut in two. */
static void cut(struct hf_extents *x, struct node *n, uint64_t at, struct node **ret_before,
		struct node **ret_after)
{
	struct node *last;
	struct hf_extent rest;

	split(n, at, ret_before, ret_after);
	last = last_of(*ret_before);
	if (!last || end_of(&last->e) <= at)
		return;
	rest = behind(&last->e, at);
	last->e.length_bytes = at - last->e.offset_bytes;
	*ret_after = join(take_node(x, &rest), *ret_after);
}

static void put_all(struct hf_extents *x, struct node *n)
{
	while (n) {
		struct node *right = n->right;

		put_all(x, n->left);
		put_node(x, n);
		n = right;
	}
}

void hf_extents_set(struct hf_extents *x, const struct hf_extent *e)
{
	struct node *before, *inside, *after;

	assert(e->length_bytes > 0 && e->offset_bytes <= UINT64_MAX - e->length_bytes);
	assert(x->n_unused >= 2);
	cut(x, x->root, e->offset_bytes, &before, &inside);
	if (inside) {
		/* Given back first: an extent that covers the range takes no more than two. */
		cut(x, inside, end_of(e), &inside, &after);
		put_all(x, inside);
	} else {
		after = NULL;
	}
	x->root = join(join(before, take_node(x, e)), after);
}

static void remove_range(struct hf_extents *x, const struct hf_extent *e)
{
	struct node *before, *inside, *after;

	cut(x, x->root, e->offset_bytes, &before, &inside);
	cut(x, inside, end_of(e), &inside, &after);
	put_all(x, inside);
	x->root = join(before, after);
}

/* One by one, so that no extent is cut but one that itself is dropped in part. */
void hf_extents_drop(struct hf_extents *x, uint64_t offset_bytes, uint64_t length_bytes,
		     uint64_t serial)
{
	uint64_t end = offset_bytes + length_bytes;
	struct hf_extent e;

	while (hf_extents_find(x, offset_bytes, end, &e)) {
		offset_bytes = end_of(&e);
		if (e.serial == serial)
			remove_range(x, &e);
	}
	if (x->n == 0 && x->n_slabs > 2)
		hf_extents_clear(x);
}

bool hf_extents_find(const struct hf_extents *x, uint64_t offset_bytes, uint64_t end_bytes,
		     struct hf_extent *ret)
{
	const struct node *found = NULL;

	for (const struct node *n = x->root; n;) {
		if (end_of(&n->e) > offset_bytes) {
			found = n;
			n = n->left;
		} else {
			n = n->right;
		}
	}
	if (!found || found->e.offset_bytes >= end_bytes || offset_bytes >= end_bytes)
		return false;
	*ret = found->e.offset_bytes < offset_bytes ? behind(&found->e, offset_bytes) : found->e;
	if (end_of(ret) > end_bytes)
		ret->length_bytes = end_bytes - ret->offset_bytes;
	return true;
}
