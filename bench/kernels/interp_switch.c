// The register machine of interp.h as one loop around a switch.
#include "interp.h"

EXPORT i64 run(i32 n) {
    reset(n);
    u32 *r = guest.registers;
    u32 *memory = guest.memory;
    u64 steps = 0;
    i32 pc = 0;
    for (;;) {
        u32 code = program[pc++];
        steps++;
        switch (OP(code)) {
        case HALT: guest.steps = steps; return checksum();
        case SET: r[A(code)] = (u32)IMM(code); break;
        case MOVE: r[A(code)] = r[B(code)]; break;
        case ADD: r[A(code)] = r[B(code)] + r[C(code)]; break;
        case SUB: r[A(code)] = r[B(code)] - r[C(code)]; break;
        case MUL: r[A(code)] = r[B(code)] * r[C(code)]; break;
        case XOR: r[A(code)] = r[B(code)] ^ r[C(code)]; break;
        case SHIFT: r[A(code)] = r[B(code)] >> SHIFT_BY(code); break;
        case MASK: r[A(code)] = r[B(code)] & ((1u << SHIFT_BY(code)) - 1); break;
        case LOAD: r[A(code)] = memory[r[B(code)] % WORDS]; break;
        case STORE: memory[r[B(code)] % WORDS] = r[A(code)]; break;
        case JUMP: pc += IMM(code) - 1; break;
        case LESS: pc += r[A(code)] < r[B(code)] ? 0 : 1; break;
        case ZERO: pc += r[A(code)] == 0 ? IMM(code) - 1 : 0; break;
        default: __builtin_trap();
        }
    }
}
