// What the drivers of compression libraries share: text to compress, and the checksum of what came back.
//
// Compressed bytes do not enter the checksum, since some libraries choose differently on machines with other word sizes.
#ifndef LIBRARY_H
#define LIBRARY_H

#include "../kernels/kernel.h"

#include <stdlib.h>
#include <string.h>

// Words of a made-up vocabulary, common ones far more often than rare ones, in lines.
static void write_text(u8 *text, i32 n) {
    u64 seed = 2024;
    i32 column = 0;
    for (i32 i = 0; i < n;) {
        u64 rank = next_random(&seed) >> 52;
        rank = rank * rank * rank >> 26; // 0 … 1023, small ones preferred
        u64 spelling = rank * 0x9E3779B97F4A7C15ULL + 0x1234567;
        i32 length = 2 + (i32)(rank % 7) + (rank > 100);
        for (i32 k = 0; k < length && i < n; k++) {
            text[i++] = "etaoinshrdlucmfwypvbgkqjxz"[spelling % 26 * (spelling % 3) / 2];
            spelling = spelling >> 5 | spelling << 59;
        }
        column += length + 1;
        if (i < n)
            text[i++] = column > 70 ? '\n' : ' ';
        if (column > 70)
            column = 0;
    }
}

static u64 checksum_of(const u8 *bytes, i32 n) {
    u64 hash = 0;
    i32 i = 0;
    for (; i + 8 <= n; i += 8) {
        u64 word;
        memcpy(&word, bytes + i, 8);
        hash = mix(hash, word);
    }
    for (; i < n; i++)
        hash = mix(hash, bytes[i]);
    return hash;
}

// Compresses and restores n bytes of text. `there` and `back` return how many bytes they wrote, or 0 for an error.
typedef i32 (*codec)(u8 *to, i32 capacity, const u8 *from, i32 length);

static i64 round_trip(i32 n, i32 bound, codec there, codec back) {
    u8 *text = malloc((size_t)n), *packed = malloc((size_t)bound), *restored = malloc((size_t)n);
    if (!text || !packed || !restored)
        return -1;
    write_text(text, n);
    i32 size = there(packed, bound, text, n);
    i32 length = size > 0 ? back(restored, n, packed, size) : 0;
    i64 result = length == n && size < n ? (i64)(checksum_of(restored, n) | 1) : -1;
    free(restored);
    free(packed);
    free(text);
    return result;
}

#endif
