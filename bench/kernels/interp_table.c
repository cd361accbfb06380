// The register machine of interp.h with a function for each opcode, called through a table.
#include "interp.h"

typedef i32 (*handler)(machine *m, u32 code, i32 pc);

#define HANDLER(name, body)                                                                                            \
    static i32 name(machine *m, u32 code, i32 pc) {                                                                    \
        u32 *r = m->registers;                                                                                         \
        body;                                                                                                          \
        return pc + 1;                                                                                                 \
    }

HANDLER(set, r[A(code)] = (u32)IMM(code))
HANDLER(move, r[A(code)] = r[B(code)])
HANDLER(add, r[A(code)] = r[B(code)] + r[C(code)])
HANDLER(sub, r[A(code)] = r[B(code)] - r[C(code)])
HANDLER(mul, r[A(code)] = r[B(code)] * r[C(code)])
HANDLER(xor, r[A(code)] = r[B(code)] ^ r[C(code)])
HANDLER(shift, r[A(code)] = r[B(code)] >> SHIFT_BY(code))
HANDLER(mask, r[A(code)] = r[B(code)] & ((1u << SHIFT_BY(code)) - 1))
HANDLER(load, r[A(code)] = m->memory[r[B(code)] % WORDS])
HANDLER(store, m->memory[r[B(code)] % WORDS] = r[A(code)])

static i32 halt(machine *m, u32 code, i32 pc) {
    (void)m, (void)code, (void)pc;
    return -1;
}

static i32 jump(machine *m, u32 code, i32 pc) {
    (void)m;
    return pc + IMM(code);
}

static i32 less(machine *m, u32 code, i32 pc) {
    return pc + (m->registers[A(code)] < m->registers[B(code)] ? 1 : 2);
}

static i32 zero(machine *m, u32 code, i32 pc) {
    return pc + (m->registers[A(code)] == 0 ? IMM(code) : 1);
}

static const handler handlers[OPS] = {
    [HALT] = halt,   [SET] = set,   [MOVE] = move, [ADD] = add,   [SUB] = sub,   [MUL] = mul,   [XOR] = xor,
    [SHIFT] = shift, [MASK] = mask, [LOAD] = load, [STORE] = store, [JUMP] = jump, [LESS] = less, [ZERO] = zero,
};

EXPORT i64 run(i32 n) {
    reset(n);
    u64 steps = 0;
    for (i32 pc = 0; pc >= 0; steps++)
        pc = handlers[OP(program[pc])](&guest, program[pc], pc);
    guest.steps = steps;
    return checksum();
}
