/* The tree kernel: exact scores and exact path-dependent Shapley values of tree ensembles, in float64.
 *
 * Value function: that of TreeSHAP (Lundberg et al. 2020, "path-dependent"): at a split on a feature outside the
 * coalition, both branches are followed, weighted by their share of the training rows. For one leaf with value w,
 * whose path reads d distinct features with shares z_j, and a row that does (o_j = 1) or does not (o_j = 0) satisfy
 * all the path's splits on feature j, the Shapley value of feature i is
 *
 *     w (o_i - z_i) * integral over t in [0, 1] of  prod_{j != i} (z_j (1 - t) + o_j t)
 *
 * (the Beta integral of the Shapley weights), a polynomial of degree d - 1, so a Gauss-Legendre rule with
 * ceil(d / 2) points is exact. All factors are positive: nothing cancels.
 *
 * Tables (after FastTreeSHAP v2, Yang 2021). A *unit* is a whole bottom subtree. What it adds to the answer depends
 * on few bits only: per feature of the path above it, is the row cold (1) or hot (0); per split inside it, does the
 * row go left. Its table holds one 64-byte line per combination: the margin it adds, and up to 7 features' values.
 * A row then costs one line per unit. Trees with more than 14 features on a path, or beyond the memory budget, are
 * computed edge by edge instead (after Linear TreeSHAP, Yu et al. 2022, with the quadrature above): any depth,
 * O(nodes * depth).
 *
 * Splits are compared on ranks: a value is replaced by its rank among all thresholds of its feature, once a row. Missing
 * values and categories become columns of ranks of their own, so that every split is one comparison of two int16.
 *
 * Bits. Every sum has one fixed order, no fused multiply-add, no libm: a row gives the same bits alone, in a batch
 * and on another machine. The margin is the sum of leaf values in tree order, as LightGBM computes it; a unit that
 * the row does not reach adds exactly 0.0. Tests: tests/models_trees/.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MAX_FEATURES 4096
#define MAX_COLUMNS 32768
#define MAX_NODES (1 << 24)
#define MAX_RANK 32766
#define MISSING_RIGHT 32767 /* beyond every rank: goes right */
#define MAX_POINTS 64       /* 127 distinct features on one path */
#define LINE 8              /* doubles in a line of 64 bytes */
#define WIDEST 14           /* features of a unit of two lines: 16 less the margin, less one to spare */
#define SMALLEST_SHARE 1e-30 /* of a branch no training row took: below rounding, and never divided by zero */
#define NEAR_ZERO ((double)1e-35f) /* LightGBM's kZeroThreshold */
#define COMPARE 4           /* comparisons of a unit are padded to a multiple of this */
#define WIDE 32             /* rows of a block */

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define CLONES __attribute__((target_clones("avx2", "default")))
#else
#define CLONES
#endif
#define INLINE static inline __attribute__((always_inline))

enum { AS_IS = 0, NARROW = 1, FLUSH = 2 }; /* how inputs are read: as they are, as float32, near zero as zero */
enum { PLAIN = 0, ZERO = 1, NAN_MISSING = 2, CATEGORY = 3, CATEGORY_RIGHT = 4 };

typedef struct { /* a column of ranks: one way of reading a feature */
    int32_t feature, kind, left_if_missing;
    const uint32_t *bits; /* categories that go left (CATEGORY) or right (CATEGORY_RIGHT) */
    int64_t words;
} Column;

typedef struct { int32_t kid[2]; uint16_t column; int16_t rank; } Node; /* kid[0]: left; a leaf is its own kid */
typedef struct { uint16_t column; int16_t rank; uint16_t in, bit; } Upper; /* writes slots 1 + 2i (left), 2 + 2i */
typedef struct { uint16_t column; int16_t rank; } Compare;
typedef struct {
    int64_t table; /* in doubles */
    int32_t compares, compare_count;
    uint16_t in, shift, lines, target[16];
} Unit;
typedef struct { int32_t parent, before, feature, node, left; double share; } Edge; /* before: same feature above */
typedef struct {
    int32_t node, nodes, depth;
    int32_t uppers, upper_count, units, unit_count; /* a tree of tables */
    int32_t edges, edge_count, points;              /* points > 0: a tree of edges */
} Tree;

typedef struct {
    PyObject_HEAD
    int32_t features, columns, trees, reading, strict, dummies, width;
    int32_t upper_total, unit_total, compare_total, edge_total, most_upper, most_units, most_edges, most_points;
    double base, bias;
    Column *column;
    uint32_t *bitwords;
    double *cut; /* all thresholds, feature by feature, ascending */
    int64_t *cut_at;
    Node *node;
    double *value; /* of a leaf node */
    double *cover;
    int32_t *split; /* feature of a node, -1 for a leaf */
    Tree *tree;
    Upper *upper;
    Unit *unit;
    Compare *compare;
    Edge *edge;
    double *table, *table_raw;
    int64_t table_size, table_room;
    int32_t bits_limit;
    double point[MAX_POINTS + 1][MAX_POINTS], weight[MAX_POINTS + 1][MAX_POINTS];
} Ensemble;

/* ---- Gauss-Legendre on [0, 1], without libm so that every machine has the same points ---- */

static double plain_cos(double x) {
    double term = 1.0, sum = 1.0;
    for (int k = 1; k <= 20; k++) {
        term *= -x * x / ((2.0 * k - 1.0) * (2.0 * k));
        sum += term;
    }
    return sum;
}

static void legendre(int n, double *point, double *weight) {
    for (int i = 0; i < n; i++) {
        double x = plain_cos(3.14159265358979323846 * (i + 0.75) / (n + 0.5)), slope = 1.0;
        for (int round = 0; round < 12; round++) {
            double a = 1.0, b = x;
            for (int k = 2; k <= n; k++) {
                double c = ((2.0 * k - 1.0) * x * b - (k - 1.0) * a) / k;
                a = b;
                b = c;
            }
            slope = n * (x * b - a) / (x * x - 1.0);
            x -= b / slope;
        }
        point[i] = 0.5 * (1.0 - x);
        weight[i] = 1.0 / ((1.0 - x * x) * slope * slope);
    }
}

/* ---- building ---- */

typedef struct { int32_t count, feature[16]; double share[16]; } Path;

static double share_of(const Ensemble *e, int32_t child, int32_t parent) {
    double above = e->cover[parent], below = e->cover[child];
    double share = above > 0.0 ? below / above : 0.5;
    return share > SMALLEST_SHARE ? share : SMALLEST_SHARE;
}

static int find(const Path *path, int32_t feature) {
    for (int i = 0; i < path->count; i++)
        if (path->feature[i] == feature) return i;
    return -1;
}

/* Path after stepping from parent to child: the share of the split's feature is multiplied. -1: too many features. */
static int step(const Ensemble *e, Path *path, int32_t parent, int32_t child) {
    int slot = find(path, e->split[parent]);
    if (slot < 0) {
        if (path->count >= WIDEST) return -1;
        slot = path->count++;
        path->feature[slot] = e->split[parent];
        path->share[slot] = 1.0;
    }
    double share = path->share[slot] * share_of(e, child, parent);
    path->share[slot] = share > SMALLEST_SHARE ? share : SMALLEST_SHARE;
    return slot;
}

/* Adds the features and splits of the subtree; false once there are more splits than a table may have bits. */
static int gather(const Ensemble *e, int32_t n, Path *all, int *splits, int most) {
    if (e->split[n] < 0) return 1;
    if (++*splits > most) return 0;
    if (find(all, e->split[n]) < 0) {
        if (all->count >= WIDEST) return 0;
        all->feature[all->count++] = e->split[n];
    }
    return gather(e, e->node[n].kid[0], all, splits, most) && gather(e, e->node[n].kid[1], all, splits, most);
}

typedef struct {
    Ensemble *e;
    const Path *all;
    int above, bits, next; /* features above; bits of the index; next split's number */
    double *table;
    int line;
} Filling;

/* One leaf's part of every line. mask, want: index bits that must agree for feature j to be hot on this path. */
static void fill_leaf(Filling *f, int32_t leaf, const double *share, const uint32_t *mask, const uint32_t *want) {
    Ensemble *e = f->e;
    int slot[16], d = 0;
    for (int j = 0; j < f->all->count; j++)
        if (mask[j]) slot[d++] = j;
    int points = (d + 1) / 2 > 0 ? (d + 1) / 2 : 1;
    const double *t = e->point[points], *weight = e->weight[points];
    double factor[2][16][8], w = e->value[leaf];
    for (int k = 0; k < d; k++)
        for (int q = 0; q < points; q++) {
            factor[0][k][q] = share[slot[k]] * (1.0 - t[q]);
            factor[1][k][q] = factor[0][k][q] + t[q];
        }
    for (uint32_t index = 0; index < 1u << f->bits; index++) {
        double *line = f->table + (int64_t)index * f->line, left[16][8], right[8];
        int hot[16], all_hot = 1;
        for (int k = 0; k < d; k++) {
            hot[k] = (index & mask[slot[k]]) == want[slot[k]];
            all_hot &= hot[k];
        }
        for (int q = 0; q < points; q++) right[q] = weight[q];
        for (int k = 0; k < d; k++)
            for (int q = 0; q < points; q++) {
                left[k][q] = right[q];
                right[q] *= factor[hot[k]][k][q];
            }
        for (int q = 0; q < points; q++) right[q] = 1.0;
        for (int k = d - 1; k >= 0; k--) {
            double integral = 0.0;
            for (int q = 0; q < points; q++) {
                integral += left[k][q] * right[q];
                right[q] *= factor[hot[k]][k][q];
            }
            line[1 + slot[k]] += w * ((hot[k] ? 1.0 : 0.0) - share[slot[k]]) * integral;
        }
        if (all_hot) line[0] = w;
    }
}

static void fill(Filling *f, int32_t n, const double *share, const uint32_t *mask, const uint32_t *want) {
    Ensemble *e = f->e;
    if (e->split[n] < 0) {
        fill_leaf(f, n, share, mask, want);
        return;
    }
    uint32_t bit = 1u << (f->above + f->next++);
    int j = find(f->all, e->split[n]);
    for (int side = 0; side < 2; side++) {
        double share2[16];
        uint32_t mask2[16], want2[16];
        memcpy(share2, share, sizeof share2);
        memcpy(mask2, mask, sizeof mask2);
        memcpy(want2, want, sizeof want2);
        double both = share2[j] * share_of(e, e->node[n].kid[side], n);
        share2[j] = both > SMALLEST_SHARE ? both : SMALLEST_SHARE;
        mask2[j] |= bit;
        if (side == 0) want2[j] |= bit;
        fill(f, e->node[n].kid[side], share2, mask2, want2);
    }
}

static void list_compares(Ensemble *e, int32_t n) {
    if (e->split[n] < 0) return;
    e->compare[e->compare_total++] = (Compare){e->node[n].column, e->node[n].rank};
    list_compares(e, e->node[n].kid[0]);
    list_compares(e, e->node[n].kid[1]);
}

/* Units of a subtree. First call with write = 0 counts doubles of tables (or returns -1: not a tree of tables). */
static int64_t plan(Ensemble *e, Tree *tree, int32_t n, const Path *path, int in, int write) {
    Path all = *path;
    int splits = 0, leaf = e->split[n] < 0;
    int fits = gather(e, n, &all, &splits, e->bits_limit) && path->count + splits <= e->bits_limit && all.count < LINE;
    int last = leaf || (e->split[e->node[n].kid[0]] < 0 && e->split[e->node[n].kid[1]] < 0);
    if (!fits && last) { /* cannot be cut further: a wide unit, if it is not too wide */
        if (all.count > WIDEST || path->count + splits > 10) return -1;
        fits = 1;
    }
    if (!fits) {
        int64_t total = 0;
        int slots = tree->upper_count;
        if (write) {
            int slot = find(path, e->split[n]);
            e->upper[tree->uppers + slots] = (Upper){e->node[n].column, e->node[n].rank, (uint16_t)in,
                                                     (uint16_t)(slot < 0 ? path->count : slot)};
        }
        tree->upper_count++;
        for (int side = 0; side < 2; side++) {
            Path below = *path;
            if (step(e, &below, n, e->node[n].kid[side]) < 0) return -1;
            int64_t size = plan(e, tree, e->node[n].kid[side], &below, 1 + 2 * slots + side, write);
            if (size < 0) return -1;
            total += size;
        }
        return total;
    }
    int lines = all.count < LINE ? 1 : 2, bits = path->count + splits;
    int64_t size = ((int64_t)LINE * lines) << bits;
    if (!write) {
        tree->unit_count++;
        return size;
    }
    Unit *unit = &e->unit[e->unit_total++];
    tree->unit_count++;
    unit->table = e->table_size;
    unit->in = (uint16_t)in;
    unit->shift = (uint16_t)path->count;
    unit->lines = (uint16_t)lines;
    unit->compares = e->compare_total;
    list_compares(e, n);
    while ((e->compare_total - unit->compares) % COMPARE) e->compare[e->compare_total++] = (Compare){0, -1};
    unit->compare_count = e->compare_total - unit->compares;
    /* Two accumulators a feature, used in turn, halve the chains of dependent additions; spare slots add 0.0. */
    int turn = e->unit_total & 1;
    unit->target[0] = 0;
    for (int k = 1; k < 16; k++)
        unit->target[k] = (uint16_t)(k <= all.count ? 1 + turn * e->features + all.feature[k - 1]
                                                     : 1 + 2 * e->features + (k + e->unit_total) % e->dummies);
    Filling filling = {e, &all, path->count, bits, 0, e->table + e->table_size, LINE * lines};
    double share[16];
    uint32_t mask[16] = {0}, want[16] = {0};
    for (int j = 0; j < 16; j++) share[j] = j < path->count ? path->share[j] : 1.0;
    for (int j = 0; j < path->count; j++) mask[j] = 1u << j;
    fill(&filling, n, share, mask, want);
    e->table_size += size;
    return size;
}

/* Edges of a tree, parents first. Returns the largest number of distinct features on a path, -1 if too many. */
static int list_edges(Ensemble *e, Tree *tree, int32_t n, int32_t parent, int32_t edge, int distinct, int write) {
    int most = distinct;
    if (e->split[n] < 0) return most;
    int32_t before = -1;
    for (int32_t up = edge; write && up >= 0; up = e->edge[tree->edges + up].parent)
        if (e->edge[tree->edges + up].feature == e->split[n]) {
            before = up;
            break;
        }
    (void)parent;
    for (int side = 0; side < 2; side++) {
        int32_t kid = e->node[n].kid[side], me = tree->edge_count++;
        if (write) {
            double share = share_of(e, kid, n) * (before >= 0 ? e->edge[tree->edges + before].share : 1.0);
            e->edge[tree->edges + me] = (Edge){edge, before, e->split[n], kid, side == 0,
                                               share > SMALLEST_SHARE ? share : SMALLEST_SHARE};
        }
        int below = list_edges(e, tree, kid, n, me, write ? distinct + (before < 0) : 0, write);
        most = below > most ? below : most;
    }
    return most;
}

static double expected(const Ensemble *e, int32_t n) {
    if (e->split[n] < 0) return e->value[n];
    double sum = 0.0;
    for (int side = 0; side < 2; side++) sum += share_of(e, e->node[n].kid[side], n) * expected(e, e->node[n].kid[side]);
    return sum;
}

static int build(Ensemble *e) {
    for (int n = 1; n <= MAX_POINTS; n++) legendre(n, e->point[n], e->weight[n]);
    int64_t room = 0, uppers = 0, units = 0, edges = 0, compares = 0;
    Path root = {0};
    e->bias = e->base;
    for (int i = 0; i < e->trees; i++) {
        Tree *tree = &e->tree[i];
        int64_t size = plan(e, tree, tree->node, &root, 0, 0);
        if (size < 0 || room + size > e->table_room || tree->upper_count > 30000) {
            tree->points = 1;
            list_edges(e, tree, tree->node, -1, -1, 0, 0);
            tree->edges = (int32_t)edges;
            edges += tree->edge_count;
            tree->edge_count = tree->upper_count = tree->unit_count = 0;
        } else {
            room += size;
            compares += (int64_t)tree->nodes + COMPARE * (int64_t)tree->unit_count;
            tree->uppers = (int32_t)uppers;
            tree->units = (int32_t)units;
            uppers += tree->upper_count;
            units += tree->unit_count;
            tree->upper_count = tree->unit_count = 0;
        }
        e->bias += expected(e, tree->node);
    }
    e->table_raw = calloc((size_t)room * sizeof(double) + 64, 1);
    e->upper = calloc((size_t)uppers + 1, sizeof(Upper));
    e->unit = calloc((size_t)units + 1, sizeof(Unit));
    e->compare = calloc((size_t)compares + 1, sizeof(Compare));
    e->edge = calloc((size_t)edges + 1, sizeof(Edge));
    if (!e->table_raw || !e->upper || !e->unit || !e->compare || !e->edge) {
        PyErr_NoMemory();
        return -1;
    }
    e->table = (double *)(((uintptr_t)e->table_raw + 63) & ~(uintptr_t)63);
    for (int i = 0; i < e->trees; i++) {
        Tree *tree = &e->tree[i];
        if (tree->points) {
            int distinct = list_edges(e, tree, tree->node, -1, -1, 0, 1);
            if (distinct > 2 * MAX_POINTS - 1) {
                PyErr_Format(PyExc_ValueError, "tree %d reads %d distinct features on one path, at most %d are possible",
                             i, distinct, 2 * MAX_POINTS - 1);
                return -1;
            }
            tree->points = distinct > 1 ? (distinct + 1) / 2 : 1;
            if (tree->edge_count > e->most_edges) e->most_edges = tree->edge_count;
            if (tree->points > e->most_points) e->most_points = tree->points;
            e->edge_total += tree->edge_count;
        } else {
            plan(e, tree, tree->node, &root, 0, 1);
            e->upper_total += tree->upper_count;
            if (tree->upper_count > e->most_upper) e->most_upper = tree->upper_count;
            if (tree->unit_count > e->most_units) e->most_units = tree->unit_count;
        }
    }
    return 0;
}

/* ---- a row ---- */

INLINE int in_set(const Column *c, double x) {
    if (!(x > -1.0 && x < 2147483648.0)) return 0; /* also NaN; (int)x of -0.5 is category 0, as in LightGBM */
    int64_t category = (int64_t)x;
    return category >> 5 < c->words && (c->bits[category >> 5] >> (category & 31)) & 1;
}

/* Ranks of one row, columns `stride` apart. */
static void ranks_of(const Ensemble *e, const double *row, int16_t *out, int stride) {
    int32_t seen = -1;
    int16_t rank = 0, rank_zero = 0;
    for (int32_t i = 0; i < e->columns; i++) {
        const Column *c = &e->column[i];
        double x = row[c->feature];
        if (e->reading == NARROW) x = (double)(float)x;
        else if (e->reading == FLUSH && x >= -NEAR_ZERO && x <= NEAR_ZERO) x = 0.0;
        int code;
        if (c->kind >= CATEGORY) {
            if (c->kind == CATEGORY) code = !in_set(c, x);
            else if (x != x) code = !c->left_if_missing;
            else code = in_set(c, x);
        } else {
            if (c->feature != seen) {
                const double *cut = e->cut + e->cut_at[c->feature];
                int64_t count = e->cut_at[c->feature + 1] - e->cut_at[c->feature];
                for (int again = 0; again < 2; again++) {
                    double y = again ? 0.0 : x;
                    if (again && x == x) break;
                    const double *low = cut;
                    int64_t left = count;
                    while (left > 1) { /* branch-free halving */
                        int64_t half = left >> 1;
                        low += (e->strict ? low[half - 1] <= y : low[half - 1] < y) ? half : 0;
                        left -= half;
                    }
                    int64_t at = low - cut + (left && (e->strict ? *low <= y : *low < y));
                    if (again) rank_zero = (int16_t)at;
                    else rank = (int16_t)at;
                }
                seen = c->feature;
            }
            int missing = x != x;
            code = missing ? rank_zero : rank;
            if (c->kind == ZERO) missing |= x >= -NEAR_ZERO && x <= NEAR_ZERO;
            if (c->kind != PLAIN && missing) code = c->left_if_missing ? 0 : MISSING_RIGHT;
        }
        out[(int64_t)i * stride] = (int16_t)code;
    }
}

/* ---- scores ---- */

INLINE int32_t go(const Node *node, int32_t n, const int16_t *rank, int stride) {
    return node[n].kid[rank[(int64_t)node[n].column * stride] > node[n].rank];
}

static double score_one(const Ensemble *e, const int16_t *rank) {
    const Node *node = e->node;
    double margin = e->base;
    int32_t i = 0;
    for (; i + 4 <= e->trees; i += 4) { /* four walks at once: they wait for different loads */
        int32_t at[4], depth = 0;
        for (int k = 0; k < 4; k++) {
            at[k] = e->tree[i + k].node;
            depth = e->tree[i + k].depth > depth ? e->tree[i + k].depth : depth;
        }
        for (int32_t d = 0; d < depth; d++)
            for (int k = 0; k < 4; k++) at[k] = go(node, at[k], rank, 1);
        for (int k = 0; k < 4; k++) margin += e->value[at[k]];
    }
    for (; i < e->trees; i++) {
        int32_t at = e->tree[i].node;
        for (int32_t d = 0; d < e->tree[i].depth; d++) at = go(node, at, rank, 1);
        margin += e->value[at];
    }
    return margin;
}

static void score_block(const Ensemble *e, const int16_t *rank, int count, double *margin) {
    for (int r = 0; r < count; r++) margin[r] = e->base;
    for (int32_t i = 0; i < e->trees; i++)
        for (int start = 0; start < count; start += 8) {
            int32_t at[8];
            for (int k = 0; k < 8; k++) at[k] = e->tree[i].node;
            for (int32_t d = 0; d < e->tree[i].depth; d++)
                for (int k = 0; k < 8; k++) at[k] = go(e->node, at[k], rank + start + k, WIDE);
            for (int k = 0; k < 8 && start + k < count; k++) margin[start + k] += e->value[at[k]];
        }
}

/* ---- explanations ---- */

/* Table indexes of a tree's units for a block of R rows, and a hint to fetch their lines. */
INLINE void index_tree(const Ensemble *e, const Tree *tree, const int16_t *rank, int16_t *slot, int16_t *index,
                       const int R, int count) {
    for (int r = 0; r < R; r++) slot[r] = 0;
    const Upper *u = e->upper + tree->uppers;
    for (int32_t i = 0; i < tree->upper_count; i++, u++) {
        const int16_t *in = slot + (int)u->in * R, *value = rank + (int)u->column * R;
        int16_t *left = slot + (1 + 2 * i) * R, *right = left + R, bit = (int16_t)(1 << u->bit), cut = u->rank;
        for (int r = 0; r < R; r++) {
            int16_t goes_right = (int16_t)(-(value[r] > cut) & bit);
            left[r] = in[r] | goes_right;
            right[r] = in[r] | (goes_right ^ bit);
        }
    }
    const Unit *unit = e->unit + tree->units;
    for (int32_t i = 0; i < tree->unit_count; i++, unit++, index += R) {
        const int16_t *in = slot + (int)unit->in * R;
        int16_t found[WIDE];
        for (int r = 0; r < R; r++) found[r] = in[r];
        const Compare *c = e->compare + unit->compares;
        int shift = unit->shift;
        for (int done = 0; done < unit->compare_count; done += COMPARE, c += COMPARE, shift += COMPARE)
            for (int k = 0; k < COMPARE; k++) {
                const int16_t *value = rank + (int)c[k].column * R;
                int16_t bit = (int16_t)(1 << (shift + k)), cut = c[k].rank;
                for (int r = 0; r < R; r++) found[r] |= (int16_t)(-(value[r] <= cut) & bit);
            }
        const double *table = e->table + unit->table;
        int line = LINE * unit->lines;
        for (int r = 0; r < R; r++) index[r] = found[r];
        for (int r = 0; r < count; r++) __builtin_prefetch(table + (int)found[r] * line);
    }
}

INLINE void add_tree(const Ensemble *e, const Tree *tree, const int16_t *index, double *sums, const int R, int count) {
    const Unit *unit = e->unit + tree->units;
    for (int32_t i = 0; i < tree->unit_count; i++, unit++, index += R) {
        const double *table = e->table + unit->table;
        const uint16_t *to = unit->target;
        double *sum = sums;
        if (__builtin_expect(unit->lines == 1, 1)) {
            for (int r = 0; r < count; r++, sum += e->width) {
                const double *line = table + (int)index[r] * LINE;
                sum[0] += line[0];
                sum[to[1]] += line[1];
                sum[to[2]] += line[2];
                sum[to[3]] += line[3];
                sum[to[4]] += line[4];
                sum[to[5]] += line[5];
                sum[to[6]] += line[6];
                sum[to[7]] += line[7];
            }
        } else {
            for (int r = 0; r < count; r++, sum += e->width) {
                const double *line = table + (int)index[r] * 2 * LINE;
                for (int k = 0; k < 2 * LINE; k++) sum[to[k]] += line[k];
            }
        }
    }
}

/* One tree of edges, one row. room: most_edges * (3 * points + 1) doubles. */
static void add_edges(const Ensemble *e, const Tree *tree, const int16_t *rank, int stride, double *sum, double *room) {
    int Q = tree->points;
    int32_t count = tree->edge_count, at = tree->node;
    const double *t = e->point[Q], *weight = e->weight[Q];
    double *factor = room, *product = factor + (int64_t)count * Q, *below = product + (int64_t)count * Q;
    double *hot = below + (int64_t)count * Q;
    const Edge *edges = e->edge + tree->edges;
    for (int32_t i = 0; i < count; i++) {
        const Edge *g = &edges[i];
        const Node *from = &e->node[g->parent < 0 ? tree->node : edges[g->parent].node];
        int goes_left = rank[(int64_t)from->column * stride] <= from->rank;
        hot[i] = goes_left == g->left ? (g->before < 0 ? 1.0 : hot[g->before]) : 0.0;
        for (int q = 0; q < Q; q++) {
            double f = g->share * (1.0 - t[q]) + hot[i] * t[q];
            double above = g->parent < 0 ? weight[q] : product[(int64_t)g->parent * Q + q];
            factor[(int64_t)i * Q + q] = f;
            above *= f;
            if (g->before >= 0) above /= factor[(int64_t)g->before * Q + q];
            product[(int64_t)i * Q + q] = above;
            below[(int64_t)i * Q + q] = e->split[g->node] < 0 ? e->value[g->node] * above : 0.0;
        }
    }
    for (int32_t i = count - 1; i >= 0; i--) {
        const Edge *g = &edges[i];
        double here = 0.0, over = 0.0;
        for (int q = 0; q < Q; q++) {
            double s = below[(int64_t)i * Q + q];
            here += s / factor[(int64_t)i * Q + q];
            if (g->before >= 0) over += s / factor[(int64_t)g->before * Q + q];
            if (g->parent >= 0) below[(int64_t)g->parent * Q + q] += s;
        }
        double part = (hot[i] - g->share) * here;
        if (g->before >= 0) part -= (hot[g->before] - edges[g->before].share) * over;
        sum[1 + g->feature] += part;
    }
    while (e->split[at] >= 0) at = go(e->node, at, rank, stride);
    sum[0] += e->value[at];
}

/* A block of at most R rows: trees in order; a tree's lines are fetched while the tree before it is added up. */
INLINE void explain_block(const Ensemble *e, const int16_t *rank, int16_t *slot, int16_t *index[2], double *sums,
                          double *room, const int R, int count) {
    const Tree *waiting = NULL;
    int turn = 0;
    for (int32_t i = 0; i < e->trees; i++) {
        const Tree *tree = &e->tree[i];
        if (tree->points) {
            if (waiting) add_tree(e, waiting, index[!turn], sums, R, count);
            waiting = NULL;
            for (int r = 0; r < count; r++) add_edges(e, tree, rank + r, R, sums + (int64_t)r * e->width, room);
        } else {
            index_tree(e, tree, rank, slot, index[turn], R, count);
            if (waiting) add_tree(e, waiting, index[!turn], sums, R, count);
            waiting = tree;
            turn = !turn;
        }
    }
    if (waiting) add_tree(e, waiting, index[!turn], sums, R, count);
}

static void explain_1(const Ensemble *e, const int16_t *rank, int16_t *slot, int16_t *index[2], double *sums,
                      double *room) {
    explain_block(e, rank, slot, index, sums, room, 1, 1);
}
CLONES static void explain_8(const Ensemble *e, const int16_t *rank, int16_t *slot, int16_t *index[2], double *sums,
                             double *room, int count) {
    explain_block(e, rank, slot, index, sums, room, 8, count);
}
CLONES static void explain_32(const Ensemble *e, const int16_t *rank, int16_t *slot, int16_t *index[2], double *sums,
                              double *room, int count) {
    explain_block(e, rank, slot, index, sums, room, WIDE, count);
}

/* All rows. contributions NULL: scores only. Returns -1 when memory is short. */
static int work(const Ensemble *e, const double *rows, int64_t n, double *margins, double *contributions) {
    int R = n == 1 ? 1 : (contributions && n <= 8 ? 8 : WIDE);
    int64_t ranks = ((int64_t)e->columns + 1) * R, slots = contributions ? (1 + 2 * (int64_t)e->most_upper) * R : 0;
    int64_t indexes = contributions ? (int64_t)e->most_units * R : 0;
    int64_t sums = contributions ? (int64_t)e->width * R : 0;
    int64_t room = contributions ? (int64_t)e->most_edges * (3 * (int64_t)e->most_points + 1) : 0;
    char *memory = malloc((size_t)(sums + room) * sizeof(double) +
                          (size_t)(ranks + slots + 2 * indexes) * sizeof(int16_t) + 64);
    if (!memory) return -1;
    double *sum = (double *)memory, *space = sum + sums;
    int16_t *rank = (int16_t *)(space + room), *slot = rank + ranks;
    int16_t *index[2] = {slot + slots, slot + slots + indexes};
    if (R > 1) memset(rank, 0, (size_t)ranks * sizeof(int16_t));
    for (int64_t start = 0; start < n; start += R) {
        int count = (int)(n - start < R ? n - start : R);
        for (int r = 0; r < count; r++) ranks_of(e, rows + (start + r) * e->features, rank + r, R);
        if (!contributions) {
            if (R == 1) margins[0] = score_one(e, rank);
            else score_block(e, rank, count, margins + start);
            continue;
        }
        memset(sum, 0, (size_t)e->width * (size_t)count * sizeof(double));
        for (int r = 0; r < count; r++) sum[(int64_t)r * e->width] = e->base;
        if (R == 1) explain_1(e, rank, slot, index, sum, space);
        else if (R == 8) explain_8(e, rank, slot, index, sum, space, count);
        else explain_32(e, rank, slot, index, sum, space, count);
        for (int r = 0; r < count; r++) {
            const double *from = sum + (int64_t)r * e->width;
            double *to = contributions + (start + r) * e->features;
            margins[start + r] = from[0];
            for (int32_t f = 0; f < e->features; f++) to[f] = from[1 + f] + from[1 + e->features + f];
        }
    }
    free(memory);
    return 0;
}

/* ---- Python ---- */

static void Ensemble_dealloc(Ensemble *e) {
    free(e->column), free(e->bitwords), free(e->cut), free(e->cut_at), free(e->node), free(e->value), free(e->cover);
    free(e->split), free(e->tree), free(e->upper), free(e->unit), free(e->compare), free(e->edge), free(e->table_raw);
    PyTypeObject *type = Py_TYPE(e);
    type->tp_free((PyObject *)e);
    Py_DECREF(type);
}

static int refuse(const char *why) {
    PyErr_Format(PyExc_ValueError, "tree arrays: %s", why);
    return -1;
}

/* Nodes come parents first within a tree, as `_trees.py` writes them; everything is checked again here. */
static int read_arrays(Ensemble *e, Py_buffer *b) {
    enum { STARTS, FEATURE, COLUMN, RANK, LEFT, RIGHT, VALUE, COVER, COLUMNS, BITS, CUTS, CUTS_AT };
    int64_t nodes = b[FEATURE].len / 4;
    e->trees = (int32_t)(b[STARTS].len / 4) - 1;
    e->columns = (int32_t)(b[COLUMNS].len / 20);
    int64_t words = b[BITS].len / 4, cuts = b[CUTS].len / 8;
    if (e->trees < 0 || nodes > MAX_NODES || e->columns > MAX_COLUMNS) return refuse("too large, or no starts");
    if (b[COLUMN].len != nodes * 4 || b[RANK].len != nodes * 4 || b[LEFT].len != nodes * 4 || b[RIGHT].len != nodes * 4 ||
        b[VALUE].len != nodes * 8 || b[COVER].len != nodes * 8 || b[CUTS_AT].len != ((int64_t)e->features + 1) * 8)
        return refuse("lengths differ");
    const int32_t *starts = b[STARTS].buf, *feature = b[FEATURE].buf, *column = b[COLUMN].buf, *rank = b[RANK].buf;
    const int32_t *left = b[LEFT].buf, *right = b[RIGHT].buf, *columns = b[COLUMNS].buf;
    e->column = calloc((size_t)e->columns + 1, sizeof(Column));
    e->bitwords = malloc((size_t)words * 4 + 4);
    e->cut = malloc((size_t)cuts * 8 + 8);
    e->cut_at = malloc((size_t)b[CUTS_AT].len);
    e->node = calloc((size_t)nodes + 1, sizeof(Node));
    e->value = malloc((size_t)nodes * 8 + 8);
    e->cover = malloc((size_t)nodes * 8 + 8);
    e->split = malloc((size_t)nodes * 4 + 4);
    e->tree = calloc((size_t)e->trees + 1, sizeof(Tree));
    int32_t *depth = calloc((size_t)nodes + 1, 4);
    if (!e->column || !e->bitwords || !e->cut || !e->cut_at || !e->node || !e->value || !e->cover || !e->split || !e->tree ||
        !depth) {
        free(depth);
        PyErr_NoMemory();
        return -1;
    }
    memcpy(e->bitwords, b[BITS].buf, (size_t)words * 4);
    memcpy(e->cut, b[CUTS].buf, (size_t)cuts * 8);
    memcpy(e->cut_at, b[CUTS_AT].buf, (size_t)b[CUTS_AT].len);
    memcpy(e->value, b[VALUE].buf, (size_t)nodes * 8);
    memcpy(e->cover, b[COVER].buf, (size_t)nodes * 8);
    memcpy(e->split, b[FEATURE].buf, (size_t)nodes * 4);
    const char *wrong = NULL;
    if (e->cut_at[0] != 0 || e->cut_at[e->features] != cuts) wrong = "cuts do not cover the features";
    for (int32_t f = 0; f < e->features && !wrong; f++) {
        int64_t from = e->cut_at[f], to = e->cut_at[f + 1];
        if (from < 0 || to < from || to > cuts || to - from > MAX_RANK) wrong = "a feature has too many cuts";
        else
            for (int64_t i = from; i < to && !wrong; i++)
                if (!(e->cut[i] == e->cut[i]) || (i > from && !(e->cut[i - 1] < e->cut[i]))) wrong = "cuts must increase";
    }
    for (int32_t i = 0; i < e->columns && !wrong; i++) { /* feature, kind, left if missing, first word, words */
        const int32_t *c = columns + 5 * (int64_t)i;
        if (c[0] < 0 || c[0] >= e->features || c[1] < PLAIN || c[1] > CATEGORY_RIGHT) wrong = "a column reads no feature";
        else if (c[3] < 0 || c[4] < 0 || (int64_t)c[3] + c[4] > words) wrong = "a column's categories lie outside";
        else e->column[i] = (Column){c[0], c[1], c[2] != 0, e->bitwords + c[3], c[4]};
    }
    if (starts[0] != 0 || starts[e->trees] != nodes) wrong = "trees do not cover the nodes";
    for (int32_t i = 0; i < e->trees && !wrong; i++) {
        int32_t from = starts[i], to = starts[i + 1];
        if (from < 0 || to <= from || to > nodes) {
            wrong = "a tree has no nodes";
            break;
        }
        e->tree[i].node = from;
        e->tree[i].nodes = to - from;
        int32_t parents = 0;
        for (int32_t n = from; n < to && !wrong; n++) {
            if (!(fabs(e->value[n]) < 1e300) || !(e->cover[n] >= 0.0) || !(e->cover[n] < 1e300)) wrong = "a number is not finite";
            else if (n > from && depth[n] == 0) wrong = "a node has no parent";
            else if (depth[n] > e->tree[i].depth) e->tree[i].depth = depth[n];
            if (wrong) break;
            if (feature[n] < 0) {
                e->split[n] = -1;
                e->node[n] = (Node){{n, n}, 0, MAX_RANK};
                continue;
            }
            if (feature[n] >= e->features || column[n] < 0 || column[n] >= e->columns || rank[n] < 0 || rank[n] >= MAX_RANK ||
                e->column[column[n]].feature != feature[n])
                wrong = "a split reads no column";
            else if (left[n] <= n || left[n] >= to || right[n] <= n || right[n] >= to || left[n] == right[n] ||
                     depth[left[n]] || depth[right[n]])
                wrong = "a split's branches are not below it";
            else if (depth[n] >= 1000) wrong = "a tree is deeper than 1000";
            else {
                depth[left[n]] = depth[right[n]] = depth[n] + 1;
                e->node[n] = (Node){{left[n], right[n]}, (uint16_t)column[n], (int16_t)rank[n]};
                parents++;
            }
        }
    }
    free(depth);
    return wrong ? refuse(wrong) : 0;
}

static PyObject *Ensemble_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"features", "base", "strict", "reading", "table_bytes", "table_bits", "arrays", NULL};
    int features, strict, reading, bits;
    double base;
    long long bytes;
    PyObject *arrays;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "idpiLiO!", names, &features, &base, &strict, &reading, &bytes, &bits,
                                     &PyTuple_Type, &arrays))
        return NULL;
    if (features < 1 || features > MAX_FEATURES || bits < 1 || bits > 10 || bytes < 0 || reading < AS_IS || reading > FLUSH || PyTuple_GET_SIZE(arrays) != 12 ||
        !(fabs(base) < 1e300)) {
        refuse("1 to 4096 features, 1 to 10 table bits, 12 arrays");
        return NULL;
    }
    Ensemble *e = (Ensemble *)type->tp_alloc(type, 0);
    if (!e) return NULL;
    e->features = features;
    e->base = base;
    e->strict = strict;
    e->reading = reading;
    e->table_room = bytes / 8;
    e->bits_limit = bits;
    e->dummies = 8;
    e->width = (1 + 2 * features + e->dummies + 7) / 8 * 8;
    Py_buffer views[12];
    int got = 0, failed = 0;
    for (; got < 12; got++)
        if (PyObject_GetBuffer(PyTuple_GET_ITEM(arrays, got), &views[got], PyBUF_C_CONTIGUOUS) < 0) {
            failed = 1;
            break;
        }
    if (!failed) failed = read_arrays(e, views) < 0 || build(e) < 0;
    while (got--) PyBuffer_Release(&views[got]);
    if (failed) {
        Py_DECREF(e);
        return NULL;
    }
    return (PyObject *)e;
}

static int float64_buffer(PyObject *object, Py_buffer *view, int writable, const char *name) {
    if (PyObject_GetBuffer(object, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0)) < 0) return -1;
    if (!view->format || strcmp(view->format, "d") != 0) {
        PyBuffer_Release(view);
        PyErr_Format(PyExc_TypeError, "%s must be float64", name);
        return -1;
    }
    return 0;
}

static PyObject *run(Ensemble *e, PyObject *const *args, Py_ssize_t given, int explain) {
    static const char *const names[] = {"rows", "margins", "contributions"};
    Py_buffer views[3];
    Py_ssize_t wanted = explain ? 3 : 2;
    int got = 0, failed = -1;
    if (given != wanted) {
        PyErr_Format(PyExc_TypeError, "%zd buffers are needed", wanted);
        return NULL;
    }
    for (; got < wanted; got++)
        if (float64_buffer(args[got], &views[got], got > 0, names[got]) < 0) goto end;
    int64_t n = views[0].len / 8 / e->features;
    if (views[0].len != n * 8 * e->features || views[1].len != n * 8 || (explain && views[2].len != views[0].len)) {
        PyErr_Format(PyExc_ValueError, "rows must be (n, %d), margins (n,), contributions (n, %d)", e->features, e->features);
        goto end;
    }
    double *contributions = explain ? views[2].buf : NULL;
    if (n == 0) failed = 0;
    else if (n < 4) failed = work(e, views[0].buf, n, views[1].buf, contributions);
    else {
        Py_BEGIN_ALLOW_THREADS
        failed = work(e, views[0].buf, n, views[1].buf, contributions);
        Py_END_ALLOW_THREADS
    }
    if (failed) PyErr_NoMemory();
end:
    while (got--) PyBuffer_Release(&views[got]);
    if (failed) return NULL;
    Py_RETURN_NONE;
}

static PyObject *Ensemble_score(Ensemble *e, PyObject *const *args, Py_ssize_t given) { return run(e, args, given, 0); }
static PyObject *Ensemble_explain(Ensemble *e, PyObject *const *args, Py_ssize_t given) { return run(e, args, given, 1); }

static PyObject *Ensemble_facts(Ensemble *e, PyObject *unused) {
    (void)unused;
    int32_t deep = 0;
    for (int32_t i = 0; i < e->trees; i++) deep += e->tree[i].points > 0;
    return Py_BuildValue("{s:i,s:i,s:i,s:i,s:L,s:d}", "trees", e->trees, "units", e->unit_total, "splits above units",
                         e->upper_total, "trees by edges", deep, "table bytes", (long long)e->table_size * 8, "bias", e->bias);
}

static PyObject *Ensemble_get_bias(Ensemble *e, void *unused) {
    (void)unused;
    return PyFloat_FromDouble(e->bias);
}

static PyMethodDef Ensemble_methods[] = {
    {"score", (PyCFunction)(void (*)(void))Ensemble_score, METH_FASTCALL, "score(rows, margins): fill float64 margins (n,)."},
    {"explain", (PyCFunction)(void (*)(void))Ensemble_explain, METH_FASTCALL,
     "explain(rows, margins, contributions): fill margins (n,) and contributions (n, features)."},
    {"facts", (PyCFunction)Ensemble_facts, METH_NOARGS, "Counts of trees, units and table bytes."},
    {NULL, NULL, 0, NULL}};
static PyGetSetDef Ensemble_getset[] = {
    {"bias", (getter)Ensemble_get_bias, NULL, "Expected margin when no feature is known.", NULL}, {NULL, NULL, NULL, NULL, NULL}};
static PyType_Slot Ensemble_slots[] = {{Py_tp_new, Ensemble_new},
                                       {Py_tp_dealloc, Ensemble_dealloc},
                                       {Py_tp_methods, Ensemble_methods},
                                       {Py_tp_getset, Ensemble_getset},
                                       {Py_tp_doc, "An ensemble of trees, with its tables."},
                                       {0, NULL}};
static PyType_Spec Ensemble_spec = {"fiduciary.models._kernel.Ensemble", sizeof(Ensemble), 0, Py_TPFLAGS_DEFAULT, Ensemble_slots};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_kernel", "Tree kernel.", -1, NULL, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__kernel(void) {
    PyObject *m = PyModule_Create(&module);
    if (!m) return NULL;
    PyObject *type = PyType_FromSpec(&Ensemble_spec);
    if (!type || PyModule_AddObject(m, "Ensemble", type) < 0) {
        Py_XDECREF(type);
        Py_DECREF(m);
        return NULL;
    }
    return m;
}
