// The guest of both interpreter kernels: a register machine with 16 registers and 4096 words, and its program.
//
// The program runs a sieve over the words, then scrambles them with a pseudo-random walk, and repeats.
#include "kernel.h"

#define REGISTERS 16
#define WORDS 4096

enum op { HALT, SET, MOVE, ADD, SUB, MUL, XOR, SHIFT, MASK, LOAD, STORE, JUMP, LESS, ZERO, OPS };

typedef struct machine {
    u32 registers[REGISTERS];
    u32 memory[WORDS];
    u64 steps;
} machine;

// An instruction: opcode, then three operands of a byte each; `b` and `c` together are a signed 16-bit immediate.
#define I(op, a, b, c) ((u32)(op) << 24 | (u32)(a) << 16 | (u32)(b) << 8 | (u32)(c))
#define J(op, a, imm) ((u32)(op) << 24 | (u32)(a) << 16 | ((u32)(imm) & 0xFFFF))
#define OP(code) ((code) >> 24)
#define A(code) ((code) >> 16 & (REGISTERS - 1))
#define B(code) ((code) >> 8 & (REGISTERS - 1))
#define C(code) ((code) & (REGISTERS - 1))
#define SHIFT_BY(code) ((code) & 31)
#define IMM(code) ((i32)(i16)(code))

// r0 is the number of rounds, r15 the checksum; a jump's target is relative to its own place.
static const u32 program[] = {
    /*  0 */ J(SET, 1, 2), // p = 2
    /*  1 */ J(SET, 7, 1),
    /*  2 */ J(SET, 8, 4000), // limit
    /*  3 */ J(SET, 3, 0),    // i = 0
    /*  4 */ J(SET, 4, 0),
    /*  5 */ I(STORE, 4, 3, 0), // clear: memory[i] = 0
    /*  6 */ I(ADD, 3, 3, 7),
    /*  7 */ I(LESS, 3, 8, 0),
    /*  8 */ J(JUMP, 0, -3),
    /*  9 */ I(LOAD, 5, 1, 0), // next p: already struck?
    /* 10 */ J(ZERO, 5, 2),    // zero: to 12
    /* 11 */ J(JUMP, 0, 8),    // to 19
    /* 12 */ I(ADD, 15, 15, 1),
    /* 13 */ I(MUL, 3, 1, 1), // q = p * p
    /* 14 */ I(LESS, 3, 8, 0),
    /* 15 */ J(JUMP, 0, 2), // less: to 17
    /* 16 */ J(JUMP, 0, 3), // to 19
    /* 17 */ I(STORE, 7, 3, 0),
    /* 18 */ J(JUMP, 0, 12), // to 30: q += p
    /* 19 */ I(ADD, 1, 1, 7),
    /* 20 */ I(LESS, 1, 8, 0),
    /* 21 */ J(JUMP, 0, -12), // to 9
    /* 22 */ J(SET, 9, 3000), // walk 3000 steps
    /* 23 */ I(MUL, 10, 15, 8),
    /* 24 */ I(SHIFT, 11, 10, 7),
    /* 25 */ I(XOR, 15, 10, 11),
    /* 26 */ I(MASK, 12, 15, 12),
    /* 27 */ I(LOAD, 13, 12, 0),
    /* 28 */ I(ADD, 15, 15, 13),
    /* 29 */ J(JUMP, 0, 3), // to 32
    /* 30 */ I(ADD, 3, 3, 1),
    /* 31 */ J(JUMP, 0, -17), // to 14
    /* 32 */ I(STORE, 15, 12, 0),
    /* 33 */ I(SUB, 9, 9, 7),
    /* 34 */ J(ZERO, 9, 2), // zero: to 36
    /* 35 */ J(JUMP, 0, -12), // to 23
    /* 36 */ I(SUB, 0, 0, 7),
    /* 37 */ J(ZERO, 0, 3), // zero: to 40
    /* 38 */ I(MOVE, 14, 15, 0),
    /* 39 */ J(JUMP, 0, -39),
    /* 40 */ I(HALT, 0, 0, 0),
};

static machine guest;

static void reset(i32 n) {
    for (i32 i = 0; i < REGISTERS; i++)
        guest.registers[i] = 0;
    for (i32 i = 0; i < WORDS; i++)
        guest.memory[i] = 0;
    guest.registers[0] = (u32)clamp(n, 1, 1 << 20);
    guest.registers[15] = 1;
    guest.steps = 0;
}

static i64 checksum(void) {
    u64 hash = guest.steps;
    for (i32 i = 0; i < REGISTERS; i++)
        hash = mix(hash, guest.registers[i]);
    for (i32 i = 0; i < WORDS; i++)
        hash = mix(hash, guest.memory[i]);
    return (i64)hash;
}
