/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/table.h"
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

void cli_cell_text(const struct cli_column *c, const json_t *row, char *to, size_t size) {
    const json_t *v = json_object_get(row, c->field);
    size_t at = 0;
    *to = '\0';
    switch (c->kind) {
    case 'n':
        cli_number((uint64_t)json_integer_value(v), to, size);
        break;
    case 'm':
        if (json_number_value(v) > 0)
            cli_time((uint64_t)(json_number_value(v) * 1e6), to, size);
        else
            snprintf(to, size, "0");
        break;
    case 't':
        snprintf(to, size, "%.0f s", json_number_value(v));
        break;
    case 'f':
        snprintf(to, size, "%.1f", json_number_value(v));
        break;
    case 'b':
        snprintf(to, size, "%s", json_is_true(v) ? "yes" : "");
        break;
    case 'l':
        for (size_t i = 0; i < json_array_size(v) && at + 1 < size; i++)
            at += (size_t)snprintf(to + at, size - at, "%s%s", i ? "," : "",
                                   json_string_value(json_array_get(v, i)));
        break;
    default:
        snprintf(to, size, "%s", json_is_string(v) ? json_string_value(v) : "");
    }
}

static bool left(const struct cli_column *c) {
    return strchr("slb", c->kind) != NULL;
}

static void print_cell(const struct cli_column *c, const char *text, int width, bool last) {
    if (left(c) && last)
        printf("%s", text);
    else if (left(c))
        printf("%-*s  ", width, text);
    else
        printf("%*s%s", width, text, last ? "" : "  ");
}

void cli_table(const char *title, const struct cli_column *columns, size_t n, const json_t *rows) {
    char text[256];
    int widths[CLI_COLUMNS] = {0};
    bool bold = cli_colours(STDOUT_FILENO);
    size_t count = json_array_size(rows);
    if (count == 0) return;
    for (size_t c = 0; c < n; c++) {
        widths[c] = (int)strlen(columns[c].title);
        for (size_t i = 0; i < count; i++) {
            cli_cell_text(&columns[c], json_array_get(rows, i), text, sizeof text);
            if ((int)strlen(text) > widths[c]) widths[c] = (int)strlen(text);
        }
    }
    if (title) printf("\n%s\n", title);
    printf("%s", bold ? "\x1b[1m" : "");
    for (size_t c = 0; c < n; c++) print_cell(&columns[c], columns[c].title, widths[c], c + 1 == n);
    puts(bold ? "\x1b[0m" : "");
    for (size_t i = 0; i < count; i++) {
        for (size_t c = 0; c < n; c++) {
            cli_cell_text(&columns[c], json_array_get(rows, i), text, sizeof text);
            print_cell(&columns[c], text, widths[c], c + 1 == n);
        }
        putchar('\n');
    }
}
