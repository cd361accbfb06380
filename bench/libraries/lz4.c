// LZ4: the fast compressor and the thorough one, each with the same decompressor.
#include "library.h"

#include "lz4.h"
#include "lz4hc.h"

static i32 fast(u8 *to, i32 capacity, const u8 *from, i32 length) {
    return LZ4_compress_default((const char *)from, (char *)to, length, capacity);
}

static i32 thorough(u8 *to, i32 capacity, const u8 *from, i32 length) {
    return LZ4_compress_HC((const char *)from, (char *)to, length, capacity, LZ4HC_CLEVEL_MIN);
}

static i32 back(u8 *to, i32 capacity, const u8 *from, i32 length) {
    return LZ4_decompress_safe((const char *)from, (char *)to, length, capacity);
}

EXPORT i64 run(i32 n) {
    i64 first = round_trip(n, LZ4_compressBound(n), fast, back);
    return first == round_trip(n, LZ4_compressBound(n), thorough, back) ? first : -1;
}
