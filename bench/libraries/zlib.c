// zlib: deflate with its default effort, inflate, and the Adler checksum that goes with them.
#include "library.h"

#include "zlib.h"

static i32 there(u8 *to, i32 capacity, const u8 *from, i32 length) {
    uLongf size = (uLongf)capacity;
    return compress2(to, &size, from, (uLong)length, 6) == Z_OK ? (i32)size : 0;
}

static i32 back(u8 *to, i32 capacity, const u8 *from, i32 length) {
    uLongf size = (uLongf)capacity;
    return uncompress(to, &size, from, (uLong)length) == Z_OK ? (i32)size : 0;
}

EXPORT i64 run(i32 n) {
    return round_trip(n, (i32)compressBound((uLong)n), there, back);
}
