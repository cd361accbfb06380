// Escape times of the Mandelbrot set on an n by n grid: float arithmetic without memory.
#include "kernel.h"

#define LIMIT 200

static i32 escape(f64 cx, f64 cy) {
    f64 x = 0.0, y = 0.0;
    i32 step = 0;
    while (step < LIMIT) {
        f64 xx = x * x, yy = y * y;
        if (xx + yy > 4.0)
            break;
        y = 2.0 * x * y + cy;
        x = xx - yy + cx;
        step++;
    }
    return step;
}

EXPORT i64 run(i32 n) {
    n = clamp(n, 1, 1 << 14);
    f64 pitch = 3.0 / (f64)n;
    u64 hash = 0;
    for (i32 row = 0; row < n; row++)
        for (i32 column = 0; column < n; column++)
            hash = mix(hash, (u64)escape(-2.25 + pitch * (f64)column, -1.5 + pitch * (f64)row));
    return (i64)hash;
}
