/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/conffile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "codec/conf.h"
#include "sys/fd.h"

/* One byte more than allowed shows that there is too much. */
static int read_all(int fd, char *text, size_t *ret_len)
{
	size_t len = 0;
	ssize_t n;

	while (len <= HF_CONF_FILE_MAX) {
		n = read(fd, text + len, HF_CONF_FILE_MAX + 1 - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	*ret_len = len;
	return len > HF_CONF_FILE_MAX ? -EFBIG : 0;
}

static int read_fd(int fd, char **ret, size_t *ret_len)
{
	struct stat st;
	char *text;
	int r;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	text = malloc(HF_CONF_FILE_MAX + 1);
	r = text ? read_all(fd, text, ret_len) : -ENOMEM;
	if (r < 0)
		free(text);
	else
		*ret = text;
	return r;
}

int hf_conffile_read(const char *path, char **ret, size_t *ret_len, struct hf_err *err)
{
	/* Non-blocking, so that a FIFO does not hang us before fstat() can refuse it. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	int r = fd < 0 ? -errno : read_fd(fd, ret, ret_len);

	hf_fd_close(&fd);
	if (r == -EFBIG)
		hf_err_set(err, "%.300s: larger than %u bytes", path, HF_CONF_FILE_MAX);
	else if (r == -EINVAL)
		hf_err_set(err, "%.300s: no regular file", path);
	else if (r < 0)
		hf_err_set(err, "cannot read %.300s: %s", path, strerror(-r));
	return r;
}
