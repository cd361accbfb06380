// Big integers in 32-bit limbs: n factorial, its square by the school method, the decimal digits of the first.
#include "kernel.h"

#define MAX 4096
static u32 factorial[MAX], square[2 * MAX];

static i32 multiply_small(u32 *limbs, i32 length, u32 factor) {
    u64 carry = 0;
    for (i32 i = 0; i < length; i++) {
        carry += (u64)limbs[i] * factor;
        limbs[i] = (u32)carry;
        carry >>= 32;
    }
    if (carry)
        limbs[length++] = (u32)carry;
    return length;
}

static void multiply(u32 *restrict product, const u32 *a, i32 a_length, const u32 *b, i32 b_length) {
    for (i32 i = 0; i < a_length + b_length; i++)
        product[i] = 0;
    for (i32 i = 0; i < a_length; i++) {
        u64 carry = 0;
        for (i32 j = 0; j < b_length; j++) {
            carry += (u64)a[i] * b[j] + product[i + j];
            product[i + j] = (u32)carry;
            carry >>= 32;
        }
        product[i + b_length] = (u32)carry;
    }
}

static u32 divide_small(u32 *limbs, i32 length, u32 divisor) {
    u64 rest = 0;
    for (i32 i = length - 1; i >= 0; i--) {
        rest = rest << 32 | limbs[i];
        limbs[i] = (u32)(rest / divisor);
        rest %= divisor;
    }
    return (u32)rest;
}

EXPORT i64 run(i32 n) {
    n = clamp(n, 1, 10000); // 10000! has 3703 limbs
    i32 length = 1;
    factorial[0] = 1;
    for (i32 i = 2; i <= n; i++)
        length = multiply_small(factorial, length, (u32)i);
    multiply(square, factorial, length, factorial, length);
    u64 hash = 0;
    for (i32 i = 0; i < 2 * length; i++)
        hash = mix(hash, square[i]);
    while (length > 0) {
        hash = mix(hash, divide_small(factorial, length, 1000000000));
        while (length > 0 && factorial[length - 1] == 0)
            length--;
    }
    return (i64)hash;
}
