// Gravity between eight bodies, n leapfrog steps; the result is the total energy.
#include "kernel.h"

#define BODIES 8
static struct body {
    f64 x, y, z, vx, vy, vz, mass;
} bodies[BODIES];

static void place(void) {
    u64 seed = 99;
    for (i32 i = 0; i < BODIES; i++) {
        struct body *body = &bodies[i];
        body->x = 20.0 * next_unit(&seed) - 10.0;
        body->y = 20.0 * next_unit(&seed) - 10.0;
        body->z = 20.0 * next_unit(&seed) - 10.0;
        body->vx = next_unit(&seed) - 0.5;
        body->vy = next_unit(&seed) - 0.5;
        body->vz = next_unit(&seed) - 0.5;
        body->mass = 0.1 + next_unit(&seed);
    }
}

static void step(f64 dt) {
    for (i32 i = 0; i < BODIES; i++) {
        struct body *a = &bodies[i];
        for (i32 j = i + 1; j < BODIES; j++) {
            struct body *b = &bodies[j];
            f64 dx = a->x - b->x, dy = a->y - b->y, dz = a->z - b->z;
            f64 square = dx * dx + dy * dy + dz * dz + 0.01;
            f64 pull = dt / (square * __builtin_sqrt(square));
            a->vx -= dx * b->mass * pull;
            a->vy -= dy * b->mass * pull;
            a->vz -= dz * b->mass * pull;
            b->vx += dx * a->mass * pull;
            b->vy += dy * a->mass * pull;
            b->vz += dz * a->mass * pull;
        }
    }
    for (i32 i = 0; i < BODIES; i++) {
        bodies[i].x += dt * bodies[i].vx;
        bodies[i].y += dt * bodies[i].vy;
        bodies[i].z += dt * bodies[i].vz;
    }
}

static f64 energy(void) {
    f64 sum = 0.0;
    for (i32 i = 0; i < BODIES; i++) {
        struct body *a = &bodies[i];
        sum += 0.5 * a->mass * (a->vx * a->vx + a->vy * a->vy + a->vz * a->vz);
        for (i32 j = i + 1; j < BODIES; j++) {
            struct body *b = &bodies[j];
            f64 dx = a->x - b->x, dy = a->y - b->y, dz = a->z - b->z;
            sum -= a->mass * b->mass / __builtin_sqrt(dx * dx + dy * dy + dz * dz + 0.01);
        }
    }
    return sum;
}

EXPORT f64 run(i32 n) {
    place();
    for (i32 i = 0; i < n; i++)
        step(0.001);
    return energy();
}
