// Five-point stencil on a square grid, n sweeps back and forth between two arrays.
#include "kernel.h"

#define SIDE 256
static f64 front[SIDE][SIDE], back[SIDE][SIDE];

static void sweep(f64 (*restrict to)[SIDE], f64 (*restrict from)[SIDE]) {
    for (i32 i = 1; i < SIDE - 1; i++)
        for (i32 j = 1; j < SIDE - 1; j++)
            to[i][j] = 0.2 * (from[i][j] + from[i][j - 1] + from[i][j + 1] + from[i - 1][j] + from[i + 1][j]);
}

EXPORT f64 run(i32 n) {
    u64 seed = 7;
    for (i32 i = 0; i < SIDE; i++)
        for (i32 j = 0; j < SIDE; j++)
            front[i][j] = back[i][j] = next_unit(&seed);
    for (i32 step = 0; step < n; step++) {
        sweep(back, front);
        sweep(front, back);
    }
    f64 sum = 0.0;
    for (i32 i = 0; i < SIDE; i++)
        for (i32 j = 0; j < SIDE; j++)
            sum += front[i][j] * (f64)(1 + (i ^ j) % 5);
    return sum;
}
