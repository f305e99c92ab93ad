/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Orders over the control socket that take their time: each answers its request itself. Layer: keeper.
 * Main thread only. @ctx is the keeper.
 */
#pragma once

#include "service/varlink-server.h"

hf_varlink_method hf_order_freeze, hf_order_release, hf_order_offload, hf_order_hand_over;
