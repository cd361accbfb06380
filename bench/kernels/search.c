// Three ways to count a word in n bytes of generated text: naive, Horspool's skip table, Knuth-Morris-Pratt.
#include "kernel.h"

#define MAX (1 << 20)
#define LONGEST 32
static u8 text[MAX];

static i32 naive(const u8 *word, i32 length, i32 n) {
    i32 count = 0;
    for (i32 i = 0; i + length <= n; i++) {
        i32 k = 0;
        while (k < length && text[i + k] == word[k])
            k++;
        count += k == length;
    }
    return count;
}

static i32 horspool(const u8 *word, i32 length, i32 n) {
    u8 skip[256];
    for (i32 c = 0; c < 256; c++)
        skip[c] = (u8)length;
    for (i32 k = 0; k < length - 1; k++)
        skip[word[k]] = (u8)(length - 1 - k);
    i32 count = 0;
    for (i32 i = 0; i + length <= n; i += skip[text[i + length - 1]]) {
        i32 k = length - 1;
        while (k >= 0 && text[i + k] == word[k])
            k--;
        count += k < 0;
    }
    return count;
}

static i32 prefixes(const u8 *word, i32 length, i32 n) {
    i32 fallback[LONGEST];
    fallback[0] = 0;
    for (i32 i = 1, k = 0; i < length; i++) {
        while (k > 0 && word[i] != word[k])
            k = fallback[k - 1];
        k += word[i] == word[k];
        fallback[i] = k;
    }
    i32 count = 0;
    for (i32 i = 0, k = 0; i < n; i++) {
        while (k > 0 && text[i] != word[k])
            k = fallback[k - 1];
        k += text[i] == word[k];
        if (k == length) {
            count++;
            k = fallback[k - 1];
        }
    }
    return count;
}

EXPORT i64 run(i32 n) {
    n = clamp(n, 2 * LONGEST, MAX);
    static const u8 letters[16] = "eeeettaaonis hr ";
    u64 seed = 3;
    for (i32 i = 0; i < n; i++)
        text[i] = letters[next_random(&seed) >> 60];
    u64 hash = 0;
    for (i32 length = 2; length <= 20; length += 3) {
        const u8 *word = text + (i32)(next_random(&seed) % (u64)(n - LONGEST));
        i32 count = naive(word, length, n);
        hash = mix(hash, (u64)count);
        hash += horspool(word, length, n) != count;
        hash += prefixes(word, length, n) != count;
    }
    return (i64)hash;
}
