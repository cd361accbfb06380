// What every kernel shares: types of fixed width, a random sequence, and the one exported function.
//
// A kernel is freestanding C with the function `run(n)`: `n` scales the work, the result is a checksum that every
// engine and the native build must agree on bit for bit. Data lives in static arrays, so that a kernel needs neither
// an allocator nor imports; an `n` beyond what they hold is clamped, never out of bounds.
#ifndef KERNEL_H
#define KERNEL_H

typedef signed char i8;
typedef short i16;
typedef int i32;
typedef long long i64;
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef float f32;
typedef double f64;

#ifdef __wasm__
#define EXPORT __attribute__((export_name("run")))
#else
#define EXPORT __attribute__((noinline))
#endif

#define LENGTH(array) ((i32)(sizeof(array) / sizeof((array)[0])))

static inline i32 clamp(i32 value, i32 low, i32 high) {
    return value < low ? low : value > high ? high : value;
}

// xorshift with a multiplied output: cheap, the same everywhere. The state must not be zero.
static inline u64 next_random(u64 *state) {
    u64 x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * 0x2545F4914F6CDD1DULL;
}

static inline f64 next_unit(u64 *state) {
    return (f64)(i64)(next_random(state) >> 12) * (1.0 / 4503599627370496.0);
}

// One step of an order-sensitive checksum.
static inline u64 mix(u64 hash, u64 value) {
    hash ^= value;
    hash *= 0x9E3779B97F4A7C15ULL;
    return hash ^ (hash >> 29);
}

#endif
