// Linked structures over an allocator of our own: a treap and a chained hash table, filled, searched, half emptied.
#include "kernel.h"

#define ARENA (16 << 20)
#define CLASSES 8 // blocks of 16, 32, … 128 bytes
static u8 arena[ARENA] __attribute__((aligned(16)));
static u8 *top;
static struct block { struct block *next; } *unused[CLASSES];

static void *allocate(u32 size) {
    u32 class = (size + 15) / 16 - 1;
    struct block *block = unused[class];
    if (block) {
        unused[class] = block->next;
        return block;
    }
    u8 *start = top;
    if (start + 16 * (class + 1) > arena + ARENA)
        __builtin_trap();
    top = start + 16 * (class + 1);
    return start;
}

static void release(void *memory, u32 size) {
    u32 class = (size + 15) / 16 - 1;
    struct block *block = memory;
    block->next = unused[class];
    unused[class] = block;
}

typedef struct tree {
    struct tree *left, *right;
    u32 key, priority;
} tree;

// Splits by key: smaller ones to `*left`, the others to `*right`.
static void split(tree *t, u32 key, tree **left, tree **right) {
    while (t) {
        if (t->key < key) {
            *left = t;
            left = &t->right;
            t = t->right;
        } else {
            *right = t;
            right = &t->left;
            t = t->left;
        }
    }
    *left = *right = 0;
}

static void insert(tree **link, u32 key, u32 priority) {
    while (*link && (*link)->priority > priority) {
        if ((*link)->key == key)
            return;
        link = key < (*link)->key ? &(*link)->left : &(*link)->right;
    }
    tree *t = allocate(sizeof(tree));
    t->key = key;
    t->priority = priority;
    tree *old = *link;
    *link = t;
    split(old, key, &t->left, &t->right);
}

static void erase(tree **link, u32 key) {
    while (*link && (*link)->key != key)
        link = key < (*link)->key ? &(*link)->left : &(*link)->right;
    tree *dead = *link;
    if (!dead)
        return;
    tree *a = dead->left, *b = dead->right;
    while (a && b) { // merge the children by priority
        if (a->priority > b->priority) {
            *link = a;
            link = &a->right;
            a = a->right;
        } else {
            *link = b;
            link = &b->left;
            b = b->left;
        }
    }
    *link = a ? a : b;
    release(dead, sizeof(tree));
}

static i32 depth_of(tree *t, u32 key) {
    i32 depth = 1;
    for (; t && t->key != key; depth++)
        t = key < t->key ? t->left : t->right;
    return t ? depth : -depth;
}

typedef struct entry {
    struct entry *next;
    u64 value;
    u32 key;
} entry;

#define BUCKETS 8192
static entry *buckets[BUCKETS];

static entry **find(u32 key) {
    entry **link = &buckets[key * 2654435769u >> 19];
    while (*link && (*link)->key != key)
        link = &(*link)->next;
    return link;
}

static u64 trees(i32 n) {
    u64 seed = 17, hash = 0;
    tree *root = 0;
    for (i32 i = 0; i < n; i++) {
        u32 key = (u32)(next_random(&seed) >> 45);
        insert(&root, key, (u32)next_random(&seed));
    }
    for (u32 key = 0; key < (u32)n; key++)
        hash += (u64)(i64)depth_of(root, key * 8);
    for (i32 i = 0; i < n / 2; i++)
        erase(&root, (u32)(next_random(&seed) >> 45));
    for (u32 key = 0; key < (u32)n; key++)
        hash = mix(hash, (u64)(i64)depth_of(root, key * 8 + 3));
    return hash;
}

static u64 tables(i32 n) {
    u64 seed = 18, hash = 0;
    for (i32 i = 0; i < BUCKETS; i++)
        buckets[i] = 0;
    for (i32 i = 0; i < 4 * n; i++) {
        u32 key = (u32)(next_random(&seed) >> 48);
        entry **link = find(key);
        if (!*link) {
            entry *fresh = allocate(sizeof(entry));
            fresh->next = 0;
            fresh->value = 0;
            fresh->key = key;
            *link = fresh;
        }
        (*link)->value += (u64)i;
        if (i % 3 == 0) {
            entry *dead = *link;
            hash = mix(hash, dead->value);
            *link = dead->next;
            release(dead, sizeof(entry));
        }
    }
    for (i32 i = 0; i < BUCKETS; i++)
        for (entry *e = buckets[i]; e; e = e->next)
            hash += e->value * e->key;
    return hash;
}

EXPORT i64 run(i32 n) {
    n = clamp(n, 1, 1 << 17);
    top = arena;
    for (i32 i = 0; i < CLASSES; i++)
        unused[i] = 0;
    return (i64)mix(trees(n), tables(n));
}
