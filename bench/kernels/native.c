// The native build of a kernel as a child process: compiled with -DKERNEL='"matmul.c"', it says `ready`, then answers
// each `n` that it reads with the checksum's bits and the CPU time of the call in nanoseconds.
#include KERNEL

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

static uint64_t bits_of_f64(f64 value) {
    uint64_t bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    return bits;
}

static uint64_t bits_of_i64(i64 value) {
    return (uint64_t)value;
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

int main(void) {
    puts("ready");
    fflush(stdout);
    int n;
    while (scanf("%d", &n) == 1) {
        int64_t start = now();
        __typeof__(run(0)) result = run(n);
        int64_t end = now();
        printf("%016" PRIx64 " %" PRId64 "\n", _Generic(result, f64: bits_of_f64, default: bits_of_i64)(result),
               end - start);
        fflush(stdout);
    }
    return 0;
}
