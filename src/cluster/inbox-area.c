/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cluster/inbox-internal.h"

static size_t round_up(size_t n, size_t to)
{
	return (n + to - 1) / to * to;
}

int hf_area_open(struct hf_area *a, size_t size)
{
	size_t mapped = size > 0 ? size : 1;
	void *p;

	p = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		 -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	(void)madvise(p, mapped, MADV_DONTDUMP); /* a guest's memory has no place in a core dump */
	*a = (struct hf_area){ .base = p, .size = size };
	return 0;
}

void hf_area_close(struct hf_area *a)
{
	if (a->base)
		(void)munmap(a->base, a->size > 0 ? a->size : 1);
	a->base = NULL;
}

uint8_t *hf_area_add(struct hf_area *a, size_t n)
{
	uint8_t *p = a->base + a->used;

	if (n > a->size - a->used)
		return NULL;
	a->used += n;
	if (a->used > a->touched)
		a->touched = a->used;
	return p;
}

static size_t largest_of_window(const struct hf_area *a)
{
	size_t largest = 0;

	for (unsigned int i = 0; i < HF_AREA_WINDOW; i++)
		if (a->window[i] > largest)
			largest = a->window[i];
	return largest;
}

/* If the kernel refuses, the memory is merely kept, and offered again the next time. */
static void keep_only(struct hf_area *a, size_t keep)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	keep = round_up(keep, page);
	if (a->touched <= keep)
		return;
	if (madvise(a->base + keep, round_up(a->touched, page) - keep, MADV_DONTNEED) == 0)
		a->touched = keep;
}

void hf_area_recycle(struct hf_area *a)
{
	a->window[a->window_at] = a->used;
	a->window_at = (a->window_at + 1) % HF_AREA_WINDOW;
	a->used = 0;
	keep_only(a, largest_of_window(a));
}

void hf_area_release(struct hf_area *a)
{
	memset(a->window, 0, sizeof(a->window));
	a->used = 0;
	keep_only(a, 0);
}
