// Calls and little else: Fibonacci, Ackermann, Takeuchi and the queens problem.
#include "kernel.h"

static u32 fibonacci(i32 n) {
    return n < 2 ? (u32)n : fibonacci(n - 1) + fibonacci(n - 2);
}

static u32 ackermann(u32 m, u32 n) {
    if (m == 0)
        return n + 1;
    return ackermann(m - 1, n == 0 ? 1 : ackermann(m, n - 1));
}

static i32 takeuchi(i32 x, i32 y, i32 z) {
    if (y >= x)
        return z;
    return takeuchi(takeuchi(x - 1, y, z), takeuchi(y - 1, z, x), takeuchi(z - 1, x, y));
}

// Ways to complete a board: columns and the two diagonals that are attacked in the next row, as bits.
static u32 queens(u32 full, u32 columns, u32 left, u32 right) {
    if (columns == full)
        return 1;
    u32 count = 0;
    for (u32 open = full & ~(columns | left | right); open; open &= open - 1) {
        u32 place = open & (0u - open);
        count += queens(full, columns | place, (left | place) << 1, (right | place) >> 1);
    }
    return count;
}

// n is the size of the board; the others follow it.
EXPORT i64 run(i32 n) {
    n = clamp(n, 4, 14);
    u64 hash = fibonacci(2 * n + 6);
    hash = mix(hash, ackermann(2, (u32)n * 40));
    hash = mix(hash, (u64)takeuchi(n + 6, n, n / 2));
    return (i64)mix(hash, queens((1u << n) - 1, 0, 0, 0));
}
