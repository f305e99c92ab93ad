/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "codec/savenote.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/json.h"

#define VERSION 1

/* ---- encoding ---- */

static struct json_object *encode_image(const struct hf_saved_image *i)
{
	struct json_object *o = json_object_new_object();

	hf_json_add_str(o, "location", i->location);
	hf_json_add_bool(o, "is_file", i->is_file);
	hf_json_add_u64(o, "bytes", i->bytes);
	hf_json_add_u64(o, "inode", i->inode);
	json_object_object_add(o, "mtime_ns", json_object_new_int64(i->mtime_ns));
	return o;
}

struct json_object *hf_savenote_encode(const struct hf_savenote *n)
{
	struct json_object *o = json_object_new_object();
	struct json_object *images = json_object_new_array();

	if (!o || !images) {
		json_object_put(o);
		json_object_put(images);
		return NULL;
	}
	hf_json_add_u64(o, "version", VERSION);
	hf_json_add_str(o, "vm", n->vm);
	hf_json_add_str(o, "host", n->host);
	hf_json_add_u64(o, "saved_time_ns", n->saved_time_ns);
	hf_json_add_str(o, "qemu_version", n->qemu_version);
	hf_json_add_str(o, "machine", n->machine);
	hf_json_add_u64(o, "ram_bytes", n->ram_bytes);
	hf_json_add_u64(o, "device_state_bytes", n->device_state_bytes);
	hf_json_add_u64(o, "device_state_crc", n->device_state_crc);
	hf_json_add_bool(o, "was_running", n->was_running);
	hf_json_add_u64(o, "lver", n->lver);
	hf_json_add_bool(o, "is_settled", n->is_settled);
	for (unsigned int i = 0; i < n->n_images; i++)
		json_object_array_add(images, encode_image(&n->image[i]));
	json_object_object_add(o, "images", images);
	return o;
}

/* ---- decoding ---- */

static int take_name(const struct json_object *o, const char *key, char *to, struct hf_err *err)
{
	int r = hf_json_copy_str(o, key, to, HF_NAME_MAX + 1, err);

	if (r == 0 && !hf_is_valid_name(to)) {
		hf_err_set(err, "\"%s\" is not a name", key);
		return -EINVAL;
	}
	return r;
}

static int take_u64(const struct json_object *o, const char *key, uint64_t min, uint64_t max,
		    uint64_t *ret, struct hf_err *err)
{
	int r = hf_json_u64(o, key, ret, err);

	if (r == 0 && (*ret < min || *ret > max)) {
		hf_err_set(err, "\"%s\" is not from %llu to %llu", key, (unsigned long long)min,
			   (unsigned long long)max);
		return -EINVAL;
	}
	return r;
}

static int take_image(const struct json_object *o, struct hf_saved_image *i, struct hf_err *err)
{
	int r = hf_json_copy_str(o, "location", i->location, sizeof(i->location), err);

	if (!r)
		r = hf_json_bool(o, "is_file", &i->is_file, err);
	if (!r)
		r = take_u64(o, "bytes", 0, INT64_MAX, &i->bytes, err);
	if (!r)
		r = hf_json_u64(o, "inode", &i->inode, err);
	return r ? r : hf_json_i64(o, "mtime_ns", &i->mtime_ns, err);
}

static int take_images(const struct json_object *o, struct hf_savenote *n, struct hf_err *err)
{
	struct json_object *images;
	int r = hf_json_array(o, "images", &images, err);
	size_t count = r ? 0 : json_object_array_length(images);

	if (count > HF_SAVENOTE_IMAGES_MAX) {
		hf_err_set(err, "there are %zu images, and %d are the limit", count,
			   HF_SAVENOTE_IMAGES_MAX);
		return -E2BIG;
	}
	for (size_t i = 0; !r && i < count; i++) {
		r = take_image(json_object_array_get_idx(images, i), &n->image[i], err);
		if (r < 0)
			hf_err_prefix(err, "image %zu: ", i);
	}
	n->n_images = (unsigned int)count;
	return r;
}

static int take_all(const struct json_object *o, struct hf_savenote *n, struct hf_err *err)
{
	uint64_t version, crc = 0;
	int r = take_u64(o, "version", 1, UINT32_MAX, &version, err);

	if (!r)
		r = take_name(o, "vm", n->vm, err);
	if (!r)
		r = hf_json_copy_str(o, "host", n->host, sizeof(n->host), err);
	if (!r)
		r = hf_json_u64(o, "saved_time_ns", &n->saved_time_ns, err);
	if (!r)
		r = hf_json_copy_str(o, "qemu_version", n->qemu_version, sizeof(n->qemu_version),
				     err);
	if (!r)
		r = hf_json_copy_str(o, "machine", n->machine, sizeof(n->machine), err);
	if (!r)
		r = take_u64(o, "ram_bytes", 1, INT64_MAX, &n->ram_bytes, err);
	if (!r)
		r = take_u64(o, "device_state_bytes", 1, INT64_MAX, &n->device_state_bytes, err);
	if (!r)
		r = take_u64(o, "device_state_crc", 0, UINT32_MAX, &crc, err);
	if (!r)
		r = hf_json_bool(o, "was_running", &n->was_running, err);
	if (!r)
		r = hf_json_u64(o, "lver", &n->lver, err);
	if (!r)
		r = hf_json_bool(o, "is_settled", &n->is_settled, err);
	if (r < 0)
		return r;
	n->device_state_crc = (uint32_t)crc;
	return take_images(o, n, err);
}

int hf_savenote_decode(const char *name, const char *text, size_t len, struct hf_savenote *ret,
		       struct hf_err *err)
{
	struct hf_savenote *n;
	struct json_object *o;
	int r;

	if (len > HF_SAVENOTE_MAX_BYTES) {
		hf_err_set(err, "%.300s has more than %u bytes", name, HF_SAVENOTE_MAX_BYTES);
		return -E2BIG;
	}
	r = hf_json_parse(text, len, &o, err);
	if (r < 0) {
		hf_err_prefix(err, "%.300s: ", name);
		return r;
	}
	n = calloc(1, sizeof(*n));
	r = n ? take_all(o, n, err) : -ENOMEM;
	if (r == 0)
		*ret = *n;
	else if (n)
		hf_err_prefix(err, "%.300s: ", name);
	free(n);
	json_object_put(o);
	return r;
}
