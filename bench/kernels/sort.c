// Quicksort, heapsort and bottom-up merge sort of the same n numbers.
#include "kernel.h"

#define MAX (1 << 18)
static i32 original[MAX], values[MAX], scratch[MAX];

static void insertion(i32 *a, i32 n) {
    for (i32 i = 1; i < n; i++) {
        i32 value = a[i], j = i;
        for (; j > 0 && a[j - 1] > value; j--)
            a[j] = a[j - 1];
        a[j] = value;
    }
}

static i32 median(i32 a, i32 b, i32 c) {
    i32 low = a < b ? a : b, high = a < b ? b : a;
    return c < low ? low : c > high ? high : c;
}

static void quick(i32 *a, i32 n) {
    while (n > 16) {
        i32 pivot = median(a[0], a[n / 2], a[n - 1]);
        i32 i = 0, j = n - 1;
        while (i <= j) {
            while (a[i] < pivot)
                i++;
            while (a[j] > pivot)
                j--;
            if (i <= j) {
                i32 swap = a[i];
                a[i++] = a[j];
                a[j--] = swap;
            }
        }
        if (j + 1 < n - i) { // the smaller part by recursion, the larger one here
            quick(a, j + 1);
            a += i;
            n -= i;
        } else {
            quick(a + i, n - i);
            n = j + 1;
        }
    }
    insertion(a, n);
}

static void sift(i32 *a, i32 root, i32 n) {
    i32 value = a[root];
    for (;;) {
        i32 child = 2 * root + 1;
        if (child >= n)
            break;
        if (child + 1 < n && a[child + 1] > a[child])
            child++;
        if (a[child] <= value)
            break;
        a[root] = a[child];
        root = child;
    }
    a[root] = value;
}

static void heap(i32 *a, i32 n) {
    for (i32 i = n / 2 - 1; i >= 0; i--)
        sift(a, i, n);
    for (i32 end = n - 1; end > 0; end--) {
        i32 top = a[0];
        a[0] = a[end];
        a[end] = top;
        sift(a, 0, end);
    }
}

static void merge(i32 *a, i32 n) {
    for (i32 width = 1; width < n; width *= 2) {
        for (i32 low = 0; low < n; low += 2 * width) {
            i32 middle = low + width < n ? low + width : n;
            i32 high = low + 2 * width < n ? low + 2 * width : n;
            i32 i = low, j = middle;
            for (i32 k = low; k < high; k++)
                scratch[k] = i < middle && (j >= high || a[i] <= a[j]) ? a[i++] : a[j++];
        }
        for (i32 k = 0; k < n; k++)
            a[k] = scratch[k];
    }
}

static u64 sorted(void (*sort)(i32 *, i32), i32 n) {
    for (i32 i = 0; i < n; i++)
        values[i] = original[i];
    sort(values, n);
    u64 hash = 0;
    for (i32 i = 0; i < n; i++)
        hash = mix(hash, (u64)(i64)values[i]);
    for (i32 i = 1; i < n; i++)
        hash += values[i - 1] > values[i];
    return hash;
}

EXPORT i64 run(i32 n) {
    n = clamp(n, 1, MAX);
    u64 seed = 31;
    for (i32 i = 0; i < n; i++)
        original[i] = (i32)next_random(&seed) >> (i & 7);
    u64 expected = sorted(quick, n);
    u64 wrong = (expected != sorted(heap, n)) + (expected != sorted(merge, n));
    return (i64)(expected + wrong);
}
