/* SPDX-License-Identifier: Apache-2.0 */
/* How commands talk to people: terminals, progress bars, numbers. */
#include "cli/cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

bool cli_terminal(int fd) {
    const char *term = getenv("TERM");
    return isatty(fd) && !(term && strcmp(term, "dumb") == 0);
}

bool cli_colours(int fd) {
    const char *no = getenv("NO_COLOR");
    return cli_terminal(fd) && !(no && *no);
}

void cli_progress(double share, const char *format, ...) {
    enum { WIDTH = 30 };
    if (!cli_terminal(STDERR_FILENO)) return;
    bool colours = cli_colours(STDERR_FILENO);
    int full = (int)((share < 0 ? 0 : share > 1 ? 1 : share) * WIDTH);
    char line[512], text[160];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    char bar[WIDTH + 1];
    memset(bar, '#', (size_t)full);
    memset(bar + full, '.', (size_t)(WIDTH - full));
    bar[WIDTH] = '\0';
    int n = snprintf(line, sizeof line, "\r%s[%s]%s %3d %%  %s\x1b[K", colours ? "\x1b[32m" : "", bar,
                     colours ? "\x1b[0m" : "", (int)(share * 100), text);
    if (write(STDERR_FILENO, line, (size_t)n) < 0) return; /* a bar that cannot be drawn is no failure */
}

void cli_progress_end(void) {
    if (cli_terminal(STDERR_FILENO)) fputs("\r\x1b[K", stderr);
}

const char *cli_number(uint64_t n, char *to, size_t size) {
    char digits[24];
    int count = snprintf(digits, sizeof digits, "%llu", (unsigned long long)n);
    size_t at = 0;
    for (int i = 0; i < count && at + 2 < size; i++) {
        if (i > 0 && (count - i) % 3 == 0) to[at++] = ',';
        to[at++] = digits[i];
    }
    to[at] = '\0';
    return to;
}

const char *cli_time(uint64_t ns, char *to, size_t size) {
    if (ns < 1000000)
        snprintf(to, size, "%.1f us", (double)ns / 1e3);
    else if (ns < 1000000000)
        snprintf(to, size, "%.2f ms", (double)ns / 1e6);
    else
        snprintf(to, size, "%.2f s", (double)ns / 1e9);
    return to;
}
