/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include "base/slice.h"

/* Takes the first character off text: its code point, or -1 when it is not UTF-8 (RFC 3629: no surrogates,
   nothing over U+10FFFF, no longer form than needed), or text is empty. */
int32_t utf8_next(struct slice *text);
/* All of it is UTF-8. */
bool utf8_valid(struct slice text);

#endif
