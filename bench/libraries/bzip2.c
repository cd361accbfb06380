// bzip2: block sorting, then Huffman codes; and back.
#include "library.h"

#include "bzlib.h"

void bz_internal_error(int code) {
    (void)code;
    __builtin_trap();
}

static i32 there(u8 *to, i32 capacity, const u8 *from, i32 length) {
    u32 size = (u32)capacity;
    return BZ2_bzBuffToBuffCompress((char *)to, &size, (char *)from, (u32)length, 5, 0, 0) == BZ_OK ? (i32)size : 0;
}

static i32 back(u8 *to, i32 capacity, const u8 *from, i32 length) {
    u32 size = (u32)capacity;
    return BZ2_bzBuffToBuffDecompress((char *)to, &size, (char *)from, (u32)length, 0, 0) == BZ_OK ? (i32)size : 0;
}

EXPORT i64 run(i32 n) {
    return round_trip(n, n + n / 64 + 1024, there, back);
}
