// Dense matrix product, n by n, f64: three nested loops and rows that are walked in order.
#include "kernel.h"

#define MAX 512
static f64 a[MAX][MAX], b[MAX][MAX], c[MAX][MAX];

EXPORT f64 run(i32 n) {
    n = clamp(n, 1, MAX);
    u64 seed = 42;
    for (i32 i = 0; i < n; i++)
        for (i32 j = 0; j < n; j++) {
            a[i][j] = next_unit(&seed) - 0.5;
            b[i][j] = next_unit(&seed) - 0.5;
            c[i][j] = 0.0;
        }
    for (i32 i = 0; i < n; i++)
        for (i32 k = 0; k < n; k++) {
            f64 scale = a[i][k];
            for (i32 j = 0; j < n; j++)
                c[i][j] += scale * b[k][j];
        }
    f64 sum = 0.0;
    for (i32 i = 0; i < n; i++)
        for (i32 j = 0; j < n; j++)
            sum += c[i][j] * (f64)(1 + ((i + j) & 3));
    return sum;
}
