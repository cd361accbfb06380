// Sound filters over 16-bit samples in f32: a finite response, a recursive one, saturation back to 16 bits.
#include "kernel.h"

#define MAX (1 << 16)
#define TAPS 32
static i16 input[MAX + TAPS], output[MAX];
static f32 taps[TAPS];

static i16 saturate(f32 value) {
    return (i16)clamp((i32)value, -32768, 32767);
}

static void finite_response(i32 n) {
    for (i32 i = 0; i < n; i++) {
        f32 sum = 0.0f;
        for (i32 k = 0; k < TAPS; k++)
            sum += taps[k] * (f32)input[i + k];
        output[i] = saturate(sum);
    }
}

static void recursive_response(i32 n) {
    f32 x1 = 0.0f, x2 = 0.0f, y1 = 0.0f, y2 = 0.0f;
    for (i32 i = 0; i < n; i++) {
        f32 x = (f32)output[i];
        f32 y = 0.25f * x + 0.5f * x1 + 0.25f * x2 + 0.9f * y1 - 0.4f * y2;
        x2 = x1;
        x1 = x;
        y2 = y1;
        y1 = y;
        output[i] = saturate(y);
    }
}

EXPORT i64 run(i32 n) {
    n = clamp(n, 1, MAX);
    u64 seed = 5;
    for (i32 i = 0; i < n + TAPS; i++)
        input[i] = (i16)next_random(&seed);
    for (i32 k = 0; k < TAPS; k++)
        taps[k] = (f32)(next_unit(&seed) * 0.5);
    u64 hash = 0;
    for (i32 pass = 0; pass < 8; pass++) {
        finite_response(n);
        recursive_response(n);
        hash = mix(hash, (u64)(u16)output[pass * (n - 1) / 7]);
        for (i32 i = 0; i < n; i++)
            input[i] = (i16)(input[i] - (output[i] >> 2));
    }
    for (i32 i = 0; i < n; i++)
        hash = mix(hash, (u64)(i64)output[i]);
    return (i64)hash;
}
