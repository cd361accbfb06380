// Zstandard at a middle level, and its decompressor: the largest module of the bench.
#include "library.h"

#include "zstd.h"

static i32 there(u8 *to, i32 capacity, const u8 *from, i32 length) {
    size_t size = ZSTD_compress(to, (size_t)capacity, from, (size_t)length, 5);
    return ZSTD_isError(size) ? 0 : (i32)size;
}

static i32 back(u8 *to, i32 capacity, const u8 *from, i32 length) {
    size_t size = ZSTD_decompress(to, (size_t)capacity, from, (size_t)length);
    return ZSTD_isError(size) ? 0 : (i32)size;
}

EXPORT i64 run(i32 n) {
    return round_trip(n, (i32)ZSTD_compressBound((size_t)n), there, back);
}
