// Byte-wise FNV-1a and a word-wise hash with four lanes of multiply and rotate, over n bytes.
#include "kernel.h"

#define MAX (1 << 20)
static u8 data[MAX];

static u64 fnv(const u8 *bytes, i32 n) {
    u64 hash = 0xCBF29CE484222325ULL;
    for (i32 i = 0; i < n; i++)
        hash = (hash ^ bytes[i]) * 0x100000001B3ULL;
    return hash;
}

static inline u64 rotate(u64 x, i32 by) {
    return x << by | x >> (64 - by);
}

static inline u64 load(const u8 *bytes) {
    u64 word;
    __builtin_memcpy(&word, bytes, sizeof word);
    return word;
}

static u64 lanes(const u8 *bytes, i32 n, u64 seed) {
    const u64 m1 = 0xD6E8FEB86659FD93ULL, m2 = 0xA0761D6478BD642FULL;
    u64 lane[4] = {seed + m1, seed ^ m2, seed, seed - m1};
    i32 i = 0;
    for (; i + 32 <= n; i += 32)
        for (i32 k = 0; k < 4; k++)
            lane[k] = rotate(lane[k] + load(bytes + i + 8 * k) * m2, 31) * m1;
    u64 hash = rotate(lane[0], 1) + rotate(lane[1], 7) + rotate(lane[2], 12) + rotate(lane[3], 18);
    for (; i < n; i++)
        hash = rotate(hash ^ bytes[i] * m1, 11) * m2;
    hash ^= hash >> 33;
    hash *= m2;
    return hash ^ hash >> 29;
}

EXPORT i64 run(i32 n) {
    n = clamp(n, 1, MAX);
    u64 seed = 1234;
    for (i32 i = 0; i < n; i++)
        data[i] = (u8)(next_random(&seed) >> 56);
    u64 hash = 0;
    for (i32 pass = 0; pass < 8; pass++) {
        hash = mix(hash, fnv(data + pass, n - pass > 0 ? n - pass : 0));
        for (i32 k = 0; k < 8; k++)
            hash = mix(hash, lanes(data + k, n - k > 0 ? n - k : 0, hash));
    }
    return (i64)hash;
}
