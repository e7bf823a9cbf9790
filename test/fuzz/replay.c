/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay DIRECTORY...: runs a fuzz target once on every file of its corpus, without a fuzz engine, so
 * that plain `make test` does so too. Fails when a directory has no file: then nothing was tested.
 */
#include "fuzz.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static int run_file(const char *path, size_t size) {
    FILE *f = fopen(path, "rb");
    uint8_t *data = malloc(size ? size : 1); /* the exact size: the sanitizer sees a step past the end */
    int bad = !f || !data || fread(data, 1, size, f) != size;
    if (bad)
        perror(path);
    else
        LLVMFuzzerTestOneInput(data, size);
    free(data);
    if (f) fclose(f);
    return bad ? -1 : 0;
}

/* How many files were run; -1 when one could not be read. */
static long run_directory(const char *directory) {
    DIR *dir = opendir(directory);
    if (!dir) {
        perror(directory);
        return -1;
    }
    long count = 0;
    for (struct dirent *entry; count >= 0 && (entry = readdir(dir));) {
        char path[4096];
        struct stat st;
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        if (stat(path, &st) != 0 || !S_ISREG(st.st_mode)) continue;
        count = run_file(path, (size_t)st.st_size) == 0 ? count + 1 : -1;
    }
    closedir(dir);
    return count;
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: %s DIRECTORY...\n", argv[0]);
        return 2;
    }
    for (int i = 1; i < argc; i++) {
        long count = run_directory(argv[i]);
        printf("%ld files of %s\n", count, argv[i]);
        if (count <= 0) return 1;
    }
    return 0;
}
