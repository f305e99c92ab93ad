/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The ACPI power button (QMP system_powerdown): switch off, as a distribution's guest would. */
#include <fcntl.h>
#include <linux/input.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <unistd.h>

#include "guest.h"

#define INPUTS_MAX 8

static void button_ready(struct guest_source *source, uint32_t events)
{
	struct input_event e;

	(void)events;
	while (read(source->fd, &e, sizeof(e)) == (ssize_t)sizeof(e)) {
		if (e.type != EV_KEY || e.code != KEY_POWER || e.value != 1)
			continue;
		printf("GUEST POWEROFF (button)\n");
		sync();
		(void)reboot(RB_POWER_OFF);
	}
}

static bool has_power_key(int fd)
{
	uint8_t keys[KEY_MAX / 8 + 1] = { 0 };

	return ioctl(fd, EVIOCGBIT(EV_KEY, sizeof(keys)), keys) >= 0 &&
	       (keys[KEY_POWER / 8] >> (KEY_POWER % 8) & 1);
}

void guest_power_open(void)
{
	static struct guest_source buttons[INPUTS_MAX];

	for (int i = 0; i < INPUTS_MAX; i++) {
		char path[32];

		(void)snprintf(path, sizeof(path), "/dev/input/event%d", i);
		buttons[i] = (struct guest_source){ open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC),
						    button_ready };
		if (buttons[i].fd < 0)
			continue;
		if (has_power_key(buttons[i].fd))
			guest_watch(&buttons[i], EPOLLIN);
		else
			(void)close(buttons[i].fd);
	}
}
