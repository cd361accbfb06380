// Sieve of Eratosthenes over n bytes, then a second one over bits; both counts enter the checksum.
#include "kernel.h"

#define MAX (4 << 20)
static u8 composite[MAX + 1];
static u32 bits[MAX / 32 + 1];

static i32 sieve_bytes(i32 n) {
    for (i32 i = 0; i <= n; i++)
        composite[i] = 0;
    for (i32 p = 2; p * p <= n; p++)
        if (!composite[p])
            for (i32 q = p * p; q <= n; q += p)
                composite[q] = 1;
    i32 count = 0;
    for (i32 i = 2; i <= n; i++)
        count += !composite[i];
    return count;
}

static i32 sieve_bits(i32 n) {
    for (i32 i = 0; i <= n / 32; i++)
        bits[i] = 0;
    i32 count = 0;
    for (i32 p = 2; p <= n; p++) {
        if (bits[p >> 5] >> (p & 31) & 1)
            continue;
        count++;
        if (p <= n / p)
            for (i32 q = p * p; q <= n; q += p)
                bits[q >> 5] |= 1u << (q & 31);
    }
    return count;
}

EXPORT i64 run(i32 n) {
    n = clamp(n, 2, MAX);
    return (i64)sieve_bytes(n) << 32 | sieve_bits(n);
}
