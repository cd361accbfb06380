// Counts the words of files, or of standard input, and prints the most frequent ones.
//
//     wordcount [-n COUNT] [FILE...]
//
// A word is a run of ASCII letters, digits and apostrophes, bytes above 127 included; case is ignored. The table is
// sorted by frequency, then by the word itself. Exit codes: 0, 1 if a file could not be read, 2 for wrong usage.
//
// Built with `examples/build` into wordcount.wasm, which needs nothing of its host but WASI preview 1; the binary
// contains the parts of wasi-libc (MIT, Apache-2.0) that it calls.
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct word {
    char *text;
    unsigned long count;
};

struct table { // open addressing, a power of two in size, at most three quarters full
    struct word *slots;
    size_t size, used;
};

struct totals {
    unsigned long lines, words, bytes;
};

static void *checked(void *memory) {
    if (!memory) {
        fprintf(stderr, "wordcount: out of memory\n");
        exit(1);
    }
    return memory;
}

static struct word *find(struct table *table, const char *text) {
    size_t hash = 5381;
    for (const char *c = text; *c; c++)
        hash = hash * 33 ^ (unsigned char)*c;
    for (size_t i = hash;; i++) {
        struct word *slot = &table->slots[i & (table->size - 1)];
        if (!slot->text || strcmp(slot->text, text) == 0)
            return slot;
    }
}

static void grow(struct table *table) {
    struct table larger = {NULL, table->size ? 2 * table->size : 256, table->used};
    larger.slots = checked(calloc(larger.size, sizeof(struct word)));
    for (size_t i = 0; i < table->size; i++)
        if (table->slots[i].text)
            *find(&larger, table->slots[i].text) = table->slots[i];
    free(table->slots);
    *table = larger;
}

static void count_word(struct table *table, const char *text) {
    if (4 * table->used >= 3 * table->size)
        grow(table);
    struct word *slot = find(table, text);
    if (!slot->text) {
        slot->text = checked(strdup(text));
        table->used++;
    }
    slot->count++;
}

static int belongs_to_word(int c) {
    return isalnum(c) || c == '\'' || c > 127;
}

// Returns 0, or the `errno` of the read that failed.
static int count_stream(FILE *stream, struct table *table, struct totals *totals) {
    size_t length = 0, capacity = 32;
    char *word = checked(malloc(capacity));
    int c;
    do {
        c = getc(stream);
        totals->bytes += c != EOF;
        totals->lines += c == '\n';
        if (c != EOF && belongs_to_word(c)) {
            if (length + 1 == capacity)
                word = checked(realloc(word, capacity *= 2));
            word[length++] = (char)tolower(c);
        } else if (length > 0) {
            word[length] = '\0';
            count_word(table, word);
            totals->words++;
            length = 0;
        }
    } while (c != EOF);
    free(word);
    return ferror(stream) ? errno : 0;
}

static int count_file(const char *path, struct table *table, struct totals *totals) {
    FILE *stream = fopen(path, "r");
    int failure = stream ? count_stream(stream, table, totals) : errno;
    if (stream)
        fclose(stream);
    if (failure)
        fprintf(stderr, "wordcount: %s: %s\n", path, strerror(failure));
    return failure != 0;
}

static int by_frequency(const void *left, const void *right) {
    const struct word *a = left, *b = right;
    if (a->count != b->count)
        return a->count < b->count ? 1 : -1;
    return strcmp(a->text, b->text);
}

static void print_table(struct table *table, const struct totals *totals, unsigned long limit) {
    size_t kept = 0;
    for (size_t i = 0; i < table->size; i++)
        if (table->slots[i].text)
            table->slots[kept++] = table->slots[i];
    if (kept > 1)
        qsort(table->slots, kept, sizeof(struct word), by_frequency);
    for (size_t i = 0; i < kept && i < limit; i++) {
        const struct word *word = &table->slots[i];
        unsigned long permille = (1000 * word->count + totals->words / 2) / totals->words;
        printf("%7lu  %3lu.%lu %%  %s\n", word->count, permille / 10, permille % 10, word->text);
    }
    printf("%lu lines, %lu words, %zu different, %lu bytes\n", totals->lines, totals->words, kept, totals->bytes);
}

static int usage(void) {
    fprintf(stderr, "usage: wordcount [-n COUNT] [FILE...]\n");
    return 2;
}

int main(int argc, char **argv) {
    unsigned long limit = 10;
    int next = 1;
    for (; next < argc && argv[next][0] == '-' && argv[next][1]; next++) {
        if (strcmp(argv[next], "--") == 0) {
            next++;
            break;
        }
        if (strcmp(argv[next], "-n") != 0 || next + 1 == argc)
            return usage();
        char *end;
        limit = strtoul(argv[++next], &end, 10);
        if (end == argv[next] || *end)
            return usage();
    }

    struct table table = {0};
    struct totals totals = {0};
    int failed = 0;
    if (next == argc)
        failed = count_stream(stdin, &table, &totals) != 0;
    for (; next < argc; next++)
        failed |= count_file(argv[next], &table, &totals);
    print_table(&table, &totals, limit);
    return failed || fflush(stdout) != 0;
}
