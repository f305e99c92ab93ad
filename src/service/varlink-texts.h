/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The definitions of our Varlink interfaces, data/varlink/NAME.varlink, as they were at the build. Layer:
 * service. Any thread. */
#pragma once

extern const char hf_varlink_text_service[]; /* org.varlink.service */
extern const char hf_varlink_text_host[]; /* org.holdfast.Host */
extern const char hf_varlink_text_keeper[]; /* org.holdfast.Keeper */
