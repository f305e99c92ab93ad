/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How much a service logs: each level with those before it. Layer: service. */
#pragma once

enum hf_log_level { HF_LOG_ERROR, HF_LOG_INFO, HF_LOG_DEBUG };
