/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of JSON objects as a table on stdout. */
#ifndef CLI_TABLE_H
#define CLI_TABLE_H

#include <jansson.h>
#include <stddef.h>

struct cli_column {
    const char *title, *field;
    char kind; /* s: text, n: number, m: milliseconds, t: seconds, f: real, b: yes or blank, l: list of texts
                */
};
enum { CLI_COLUMNS = 16 };

/* What stands in a row's cell. */
void cli_cell_text(const struct cli_column *c, const json_t *row, char *to, size_t size);
/* Prints the rows, under a title if there is one; nothing when there are none. */
void cli_table(const char *title, const struct cli_column *columns, size_t n, const json_t *rows);
#define CLI_TABLE(title, columns, rows) cli_table(title, columns, sizeof columns / sizeof columns[0], rows)

#endif
