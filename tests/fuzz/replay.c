/*
 * Runs a fuzz target over the files of its corpus: replay CORPUS_DIR. Fails when there is none, so that a
 * target without a corpus does not pass silently. Each input is also run truncated and with flipped bits,
 * a few fixed mutations, so that the test looks a little beside the corpus too.
 */
#include "base/file.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static void run(const char *data, size_t size)
{
    /* a copy of the exact size, so that a sanitizer sees reads past the end */
    unsigned char *copy = malloc(size ? size : 1);
    if (!copy)
        exit(1);
    memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static void run_mutated(char *data, size_t size)
{
    run(data, size);
    for (size_t i = 1; i <= 4; i++)
        run(data, size * i / 5);
    unsigned long long random = 88172645463325252u + size;
    for (int i = 0; i < 16 && size; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        size_t at = random % size;
        char saved = data[at];
        data[at] ^= (char)(1u << (random >> 60 & 7));
        run(data, size);
        data[at] = saved;
    }
}

int main(int argc, char **argv)
{
    DIR *directory = argc == 2 ? opendir(argv[1]) : NULL;
    if (!directory) {
        fprintf(stderr, "usage: %s CORPUS_DIR\n", argv[0]);
        return 2;
    }
    size_t count = 0;
    for (struct dirent *entry; (entry = readdir(directory));) {
        char *path = emb_path_join(argv[1], entry->d_name), *data;
        size_t size;
        if (path && emb_is_file(path) &&
            emb_read_file(path, (size_t)64 << 20, &data, &size, NULL) == EMB_OK) {
            run_mutated(data, size);
            free(data);
            count++;
        }
        free(path);
    }
    closedir(directory);
    printf("%zu inputs\n", count);
    return count ? 0 : 1;
}
