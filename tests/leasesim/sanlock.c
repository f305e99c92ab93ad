/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "leasesim.h"
void ls_san_start(struct ls_world *w, struct ls_machine *m)
{
	(void)w;
	(void)m;
}
void ls_san_io(struct ls_world *w, struct ls_machine *m, const struct ls_io *io)
{
	(void)w;
	(void)m;
	(void)io;
}
void ls_san_wake(struct ls_world *w, struct ls_machine *m, const struct ls_event *ev)
{
	(void)w;
	(void)m;
	(void)ev;
}
void ls_san_tick(struct ls_world *w, struct ls_machine *m)
{
	(void)w;
	(void)m;
}
bool ls_san_can_act(const struct ls_world *w, const struct ls_machine *m, int lease)
{
	(void)w;
	(void)m;
	(void)lease;
	return false;
}
