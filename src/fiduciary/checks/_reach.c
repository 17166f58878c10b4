/* Exact reachability on tree ensembles: can a row's outcome be turned by moving some of its features?
 *
 * Between two thresholds nothing changes, so a feature that may move has finitely many *cells*: the caller lists one
 * candidate value per cell (the cheapest one) with its cost. The question is a search over combinations of cells
 * whose total cost is within a budget, and it is answered by branch and bound:
 *
 *   - Trees are reduced to what the row's domain can still reach. A tree that reads one moving feature is added to that
 *     feature's table (one number a cell), so tables are summed before they are minimised. The bound of a domain is
 *     constant + sum of table minima + sum of the least reachable leaves of the other trees.
 *   - A domain is split where the bounds of the two halves rise most; the half with the lower bound goes first.
 *   - Reduced trees share their unchanged parts with those they came from, each node keeps its subtree's minimum,
 *     and only trees that read the split feature are looked at again.
 *
 * Bounds add leaves in another order than the serving kernel does; `slack` covers that rounding (the sum of
 * |leaves| times the unit roundoff times the number of additions, with room). A candidate is decided by the sum in
 * the kernel's own order, to the bit. Splits read values as _kernel.c does: same columns, same ranks; that both agree
 * is tested on 100,000 rows, thresholds and their neighbours included (tests/checks_robust/test_converter.py).
 *
 * The answer is CERTIFIED only when every domain was bounded or decided; FOUND with the cells; OPEN when the
 * steps ran out or a candidate was turned away by the caller (`accept`) and nothing else was found.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MISSING_RIGHT 32767
#define NEAR_ZERO ((double)1e-35f) /* LightGBM's kZeroThreshold */
#define MOST_MOVING 64             /* moving features that the trees read */
#define MOST_IN_SET 64             /* cells of a feature that some split does not read in order */
#define MOST_DEPTH 1000
#define MOST_LOCAL (1 << 22) /* reduced nodes alive at once */

enum { AS_IS = 0, NARROW = 1, FLUSH = 2 };
enum { PLAIN = 0, ZERO = 1, NAN_MISSING = 2, CATEGORY = 3, CATEGORY_RIGHT = 4 };
enum { CERTIFIED = 0, FOUND = 1, OPEN = 2, FAILED = -1 };

typedef struct { int32_t kid[2], column, rank; } Node; /* column -1: a leaf */

typedef struct {
    PyObject_HEAD
    int32_t features, columns, trees, nodes, reading, strict;
    double base, size; /* size: |base| + sum over trees of the largest |leaf| */
    int32_t *start;
    Node *node;
    double *value;
    int32_t *column; /* feature, kind, left if missing, first word, words */
    uint32_t *words;
    double *cut;
    int64_t *cut_at;
} Search;

/* ---- reading values: the same words as in _kernel.c ---- */

static int in_set(const Search *e, const int32_t *c, double x) {
    if (!(x > -1.0 && x < 2147483648.0)) return 0;
    int64_t category = (int64_t)x;
    return category >> 5 < c[4] && (e->words[c[3] + (category >> 5)] >> (category & 31)) & 1;
}

static int16_t rank_of(const Search *e, int32_t column, double x) {
    const int32_t *c = e->column + 5 * (int64_t)column;
    if (e->reading == NARROW) x = (double)(float)x;
    else if (e->reading == FLUSH && x >= -NEAR_ZERO && x <= NEAR_ZERO) x = 0.0;
    int missing = x != x;
    if (c[1] == CATEGORY) return !in_set(e, c, x);
    if (c[1] == CATEGORY_RIGHT) return missing ? !c[2] : in_set(e, c, x);
    if (c[1] == ZERO) missing |= x >= -NEAR_ZERO && x <= NEAR_ZERO;
    if (c[1] != PLAIN && missing) return c[2] ? 0 : MISSING_RIGHT;
    if (x != x) x = 0.0;
    int64_t low = e->cut_at[c[0]], high = e->cut_at[c[0] + 1];
    const int64_t first = low;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (e->strict ? e->cut[middle] <= x : e->cut[middle] < x) low = middle + 1;
        else high = middle;
    }
    return (int16_t)(low - first);
}

static double score_row(const Search *e, const double *row, int16_t *rank) {
    for (int32_t i = 0; i < e->columns; i++) rank[i] = rank_of(e, i, row[e->column[5 * (int64_t)i]]);
    double margin = e->base;
    for (int32_t t = 0; t < e->trees; t++) {
        int32_t n = e->start[t];
        while (e->node[n].column >= 0) n = e->node[n].kid[rank[e->node[n].column] > e->node[n].rank];
        margin += e->value[n];
    }
    return margin;
}

/* ---- one question ---- */

typedef struct { int32_t lo, hi; uint64_t mask; } Domain; /* a range of cells, or (a set) their mask */
typedef struct { /* a node of a reduced tree; feature -1: a leaf of value min */
    int32_t feature, cut, kid[2];
    uint64_t left, right, reads;
    double min;
} Local;
typedef struct {
    Domain domain[MOST_MOVING];
    double cheapest[MOST_MOVING], least[MOST_MOVING]; /* per feature: least cost, least table entry */
    double constant, bound;
    int32_t trees, roots; /* number of reduced trees, and where their roots begin in the root stack */
    int64_t table;        /* where this level's tables begin in the table stack */
    int dead;
} Level;

typedef struct {
    const Search *e;
    int32_t moving, cells; /* features that move; all cells */
    int32_t feature[MOST_MOVING], at[MOST_MOVING + 1];
    int is_set[MOST_MOVING];
    int32_t *source;       /* cell -> the caller's candidate */
    double *cost;
    int16_t *rank;         /* per column of a moving feature: ranks of its cells */
    int32_t *rank_at;      /* column -> first in `rank`, or -1 when the feature is fixed */
    int16_t *fixed;        /* column -> rank of the row */
    int32_t *place;        /* feature -> moving number or -1 */
    Local *local;
    int32_t locals, local_room;
    int32_t *root;
    int64_t roots, root_room;
    double *table;
    int64_t tables, table_room;
    double *gain[2]; /* per cell, for choosing a split */
    double budget, cut, slack, sign, lowest;
    int64_t steps, limit;
    int failed, tainted, exhausted;
    int32_t pick[MOST_MOVING];
    PyObject *accept;
    PyThreadState **thread;
} Query;

static int32_t new_local(Query *q) {
    if (q->locals == q->local_room) {
        int32_t room = q->local_room ? 2 * q->local_room : 4096;
        Local *grown = room > MOST_LOCAL ? NULL : realloc(q->local, sizeof(Local) * (size_t)room);
        if (!grown) {
            q->exhausted = 1;
            return -1;
        }
        q->local = grown;
        q->local_room = room;
    }
    return q->locals++;
}

static int push_root(Query *q, int32_t n) {
    if (q->roots == q->root_room) {
        int64_t room = q->root_room ? 2 * q->root_room : 1024;
        int32_t *grown = realloc(q->root, sizeof(int32_t) * (size_t)room);
        if (!grown) return -1;
        q->root = grown;
        q->root_room = room;
    }
    q->root[q->roots++] = n;
    return 0;
}

static int64_t new_table(Query *q) {
    if (q->tables + q->cells >= q->table_room) {
        int64_t room = 2 * (q->tables + q->cells) + 1024;
        double *grown = realloc(q->table, sizeof(double) * (size_t)room);
        if (!grown) return -1;
        q->table = grown;
        q->table_room = room;
    }
    int64_t at = q->tables;
    q->tables += q->cells;
    return at;
}

static int32_t leaf(Query *q, double value) {
    int32_t n = new_local(q);
    if (n >= 0) q->local[n] = (Local){-1, 0, {-1, -1}, 0, 0, 0, value};
    return n;
}

static int32_t split(Query *q, int32_t feature, int32_t cut, uint64_t left, uint64_t right, int32_t a, int32_t b) {
    if (a < 0 || b < 0) return -1;
    int32_t n = new_local(q);
    if (n < 0) return -1;
    const Local *x = q->local + a, *y = q->local + b;
    q->local[n] = (Local){feature, cut, {a, b}, left, right, x->reads | y->reads | (uint64_t)1 << feature,
                          x->min < y->min ? x->min : y->min};
    return n;
}

/* First of the cells lo..hi whose rank is beyond the node's: the cells before it go left. */
static int32_t first_right(const int16_t *rank, int32_t lo, int32_t hi, int16_t cut) {
    hi++;
    while (lo < hi) {
        int32_t middle = lo + (hi - lo) / 2;
        if (rank[middle] > cut) hi = middle;
        else lo = middle + 1;
    }
    return lo;
}

/* The model's subtree n within the domain: fixed features decide, moving ones stay where both sides can be reached. */
static int32_t take(Query *q, int32_t n, Domain *domain) {
    const Search *e = q->e;
    for (;;) {
        const Node node = e->node[n];
        if (node.column < 0) return leaf(q, q->sign * e->value[n]);
        if (q->rank_at[node.column] < 0) {
            n = node.kid[q->fixed[node.column] > node.rank];
            continue;
        }
        const int16_t *rank = q->rank + q->rank_at[node.column];
        int32_t f = q->place[e->column[5 * (int64_t)node.column]];
        Domain *d = domain + f, before = *d;
        if (q->is_set[f]) {
            uint64_t left = 0, right;
            for (int32_t c = 0; c < q->at[f + 1] - q->at[f]; c++)
                if (rank[c] <= node.rank) left |= (uint64_t)1 << c;
            right = before.mask & ~left;
            left &= before.mask;
            if (!left || !right) {
                n = node.kid[left == 0];
                continue;
            }
            d->mask = left;
            int32_t a = take(q, node.kid[0], domain);
            d->mask = right;
            int32_t b = a < 0 ? -1 : take(q, node.kid[1], domain);
            *d = before;
            return split(q, f, 0, left, right, a, b);
        }
        int32_t cut = first_right(rank, before.lo, before.hi, (int16_t)node.rank);
        if (cut > before.hi || cut == before.lo) {
            n = node.kid[cut == before.lo];
            continue;
        }
        d->hi = cut - 1;
        int32_t a = take(q, node.kid[0], domain);
        *d = before;
        d->lo = cut;
        int32_t b = a < 0 ? -1 : take(q, node.kid[1], domain);
        *d = before;
        return split(q, f, cut, 0, 0, a, b);
    }
}

/* The reduced tree n within a smaller domain; unchanged parts are shared. */
static int32_t shrink(Query *q, int32_t n, const Domain *domain, uint64_t changed) {
    for (;;) {
        const Local x = q->local[n];
        if (x.feature < 0 || !(x.reads & changed)) return n;
        const Domain *d = domain + x.feature;
        int left, right;
        if (q->is_set[x.feature]) left = (d->mask & x.left) != 0, right = (d->mask & x.right) != 0;
        else left = d->lo < x.cut, right = d->hi >= x.cut;
        if (!left || !right) {
            n = x.kid[!left];
            continue;
        }
        int32_t a = shrink(q, x.kid[0], domain, changed), b = a < 0 ? -1 : shrink(q, x.kid[1], domain, changed);
        if (a == x.kid[0] && b == x.kid[1]) return n;
        return split(q, x.feature, x.cut, x.left, x.right, a, b);
    }
}

/* Adds a tree that reads feature f alone to f's table, cells lo..hi (a set: those of the mask). */
static void absorb(Query *q, int32_t n, double *table, int set, int32_t lo, int32_t hi, uint64_t mask) {
    const Local *x = q->local + n;
    if (x->feature < 0) {
        if (set)
            for (int32_t c = 0; c < 64 && mask >> c; c++) table[c] += mask >> c & 1 ? x->min : 0.0;
        else
            for (int32_t c = lo; c <= hi; c++) table[c] += x->min;
        return;
    }
    int32_t a = x->kid[0], b = x->kid[1], cut = x->cut;
    uint64_t left = x->left, right = x->right;
    absorb(q, a, table, set, lo, cut - 1 < hi ? cut - 1 : hi, mask & left);
    absorb(q, b, table, set, cut > lo ? cut : lo, hi, mask & right);
}

static int has(const Query *q, const Level *level, int f, int32_t c) {
    const Domain *d = level->domain + f;
    return q->is_set[f] ? (int)(d->mask >> c & 1) : c >= d->lo && c <= d->hi;
}

static int32_t count(const Query *q, const Level *level, int f) {
    const Domain *d = level->domain + f;
    return q->is_set[f] ? __builtin_popcountll(d->mask) : d->hi - d->lo + 1;
}

/* Leaves out cells that no budget can pay. Returns the features whose domain changed; marks an empty one. */
static uint64_t afford(Query *q, Level *level, uint64_t changed) {
    uint64_t all = changed;
    for (int f = 0; f < q->moving; f++) {
        if (!(changed >> f & 1)) continue;
        double least = INFINITY;
        for (int32_t c = level->domain[f].lo; c <= level->domain[f].hi; c++)
            if (has(q, level, f, c) && q->cost[q->at[f] + c] < least) least = q->cost[q->at[f] + c];
        level->cheapest[f] = least;
    }
    if (!(q->budget < INFINITY)) return all;
    double total = 0.0;
    for (int f = 0; f < q->moving; f++) total += level->cheapest[f];
    double room = q->budget - total;
    if (room < 0.0) {
        level->dead = 1;
        return all;
    }
    for (int f = 0; f < q->moving; f++) {
        Domain *d = level->domain + f;
        const double *cost = q->cost + q->at[f];
        double most = level->cheapest[f] + room;
        if (q->is_set[f]) {
            for (int32_t c = d->lo; c <= d->hi; c++)
                if (d->mask >> c & 1 && cost[c] > most) {
                    d->mask &= ~((uint64_t)1 << c);
                    all |= (uint64_t)1 << f;
                }
        } else { /* costs rise away from the row's own cell, so what cannot be paid lies at the ends */
            while (d->lo < d->hi && cost[d->lo] > most) d->lo++, all |= (uint64_t)1 << f;
            while (d->hi > d->lo && cost[d->hi] > most) d->hi--, all |= (uint64_t)1 << f;
        }
    }
    return all;
}

/* Takes the trees from (roots) into the level: constants, tables, the rest. */
static int settle(Query *q, Level *level, int32_t n) {
    const Local *x = q->local + n;
    if (x->feature < 0) {
        level->constant += x->min;
        return 0;
    }
    if (!(x->reads & (x->reads - 1))) {
        int f = x->feature;
        const Domain *d = level->domain + f;
        absorb(q, n, q->table + level->table + q->at[f], q->is_set[f], d->lo, d->hi, d->mask);
        return 0;
    }
    level->trees++;
    return push_root(q, n);
}

static void bound(Query *q, Level *level) {
    double sum = level->constant;
    for (int f = 0; f < q->moving; f++) {
        const double *table = q->table + level->table + q->at[f];
        double least = INFINITY;
        for (int32_t c = level->domain[f].lo; c <= level->domain[f].hi; c++)
            if (table[c] < least && has(q, level, f, c)) least = table[c];
        level->least[f] = least;
        sum += least;
    }
    for (int32_t t = 0; t < level->trees; t++) sum += q->local[q->root[level->roots + t]].min;
    level->bound = sum;
}

/* The part of `parent` whose domain was narrowed in `level` (features `changed`). */
static int narrow(Query *q, const Level *parent, Level *level, uint64_t changed) {
    level->dead = 0;
    level->constant = parent->constant;
    level->trees = 0;
    memcpy(level->cheapest, parent->cheapest, sizeof level->cheapest);
    changed = afford(q, level, changed);
    if (level->dead) return 0;
    level->table = new_table(q);
    if (level->table < 0) return -1;
    memcpy(q->table + level->table, q->table + parent->table, sizeof(double) * (size_t)q->cells);
    level->roots = (int32_t)q->roots;
    for (int32_t t = 0; t < parent->trees; t++) {
        int32_t n = shrink(q, q->root[parent->roots + t], level->domain, changed);
        if (n < 0 || settle(q, level, n) < 0) return -1;
    }
    bound(q, level);
    return 0;
}

/* ---- candidates ---- */

static double walk(const Query *q, int32_t n, const int32_t *pick) {
    for (;;) {
        const Local *x = q->local + n;
        if (x->feature < 0) return x->min;
        int32_t c = pick[x->feature];
        n = x->kid[q->is_set[x->feature] ? !(x->left >> c & 1) : c >= x->cut];
    }
}

/* The margin in the serving kernel's order of additions, times sign. */
static double exact(const Query *q, const int32_t *pick) {
    const Search *e = q->e;
    double margin = e->base;
    for (int32_t t = 0; t < e->trees; t++) {
        int32_t n = e->start[t];
        while (e->node[n].column >= 0) {
            const Node *node = e->node + n;
            int32_t at = q->rank_at[node->column];
            int16_t rank = at < 0 ? q->fixed[node->column] : q->rank[at + pick[q->place[e->column[5 * (int64_t)node->column]]]];
            n = node->kid[rank > node->rank];
        }
        margin += e->value[n];
    }
    return q->sign * margin;
}

/* FOUND when the cells turn the outcome, within the budget, and the caller accepts them. */
static int consider(Query *q, const Level *level, const int32_t *pick, double *value) {
    double sum = level->constant, cost = 0.0;
    for (int f = 0; f < q->moving; f++) {
        sum += q->table[level->table + q->at[f] + pick[f]];
        cost += q->cost[q->at[f] + pick[f]];
    }
    for (int32_t t = 0; t < level->trees; t++) sum += walk(q, q->root[level->roots + t], pick);
    *value = sum;
    if (!(sum < q->cut + q->slack) || cost > q->budget || !(exact(q, pick) < q->cut)) return 0;
    if (q->accept && q->accept != Py_None) {
        PyEval_RestoreThread(*q->thread);
        PyObject *list = PyList_New(q->moving), *answer = NULL;
        for (int f = 0; list && f < q->moving; f++)
            PyList_SET_ITEM(list, f, PyLong_FromLong(q->source[q->at[f] + pick[f]]));
        if (list) answer = PyObject_CallOneArg(q->accept, list);
        int yes = answer ? PyObject_IsTrue(answer) : -1;
        Py_XDECREF(list);
        Py_XDECREF(answer);
        *q->thread = PyEval_SaveThread();
        if (yes < 0) return q->failed = 1, 0;
        if (!yes) return q->tainted = 1, 0;
    }
    memcpy(q->pick, pick, sizeof(int32_t) * (size_t)q->moving);
    return 1;
}

/* Per feature the cell with the least table entry; among equals the cheapest. */
static void best_cells(const Query *q, const Level *level, int32_t *pick) {
    for (int f = 0; f < q->moving; f++) {
        const double *table = q->table + level->table + q->at[f], *cost = q->cost + q->at[f];
        int32_t best = -1;
        for (int32_t c = level->domain[f].lo; c <= level->domain[f].hi; c++)
            if (has(q, level, f, c) &&
                (best < 0 || table[c] < table[best] || (table[c] == table[best] && cost[c] < cost[best])))
                best = c;
        pick[f] = best;
    }
}

static void cheap_cells(const Query *q, const Level *level, int32_t *pick) {
    for (int f = 0; f < q->moving; f++) {
        const double *table = q->table + level->table + q->at[f], *cost = q->cost + q->at[f];
        int32_t best = -1;
        for (int32_t c = level->domain[f].lo; c <= level->domain[f].hi; c++)
            if (has(q, level, f, c) &&
                (best < 0 || cost[c] < cost[best] || (cost[c] == cost[best] && table[c] < table[best])))
                best = c;
        pick[f] = best;
    }
}

/* ---- choosing a split ---- */

typedef struct { int feature; int32_t cut; uint64_t left; } Choice;

static double worth(double a, double b) { return a < b ? 8.0 * a + b : 8.0 * b + a; }

static void weigh_range(const Query *q, const Level *level, int f, double *best, Choice *choice) {
    const Domain *d = level->domain + f;
    double *up[2] = {q->gain[0] + q->at[f], q->gain[1] + q->at[f]};
    const double *table = q->table + level->table + q->at[f];
    /* up[0][s]: what the half of cells before s gains from trees split at s; later splits gain too. */
    double run = 0.0, least = INFINITY;
    for (int32_t s = d->lo + 1; s <= d->hi; s++) { /* the half s..hi: trees split at or before s go right */
        run += up[1][s];
        up[1][s] = run;
    }
    run = 0.0;
    for (int32_t s = d->hi; s > d->lo; s--) {
        run += up[0][s];
        up[0][s] = run;
        if (table[s] < least) least = table[s];
        up[1][s] += least - level->least[f];
    }
    least = INFINITY;
    for (int32_t s = d->lo + 1; s <= d->hi; s++) {
        if (table[s - 1] < least) least = table[s - 1];
        double value = worth(up[0][s] + least - level->least[f], up[1][s]);
        if (value > *best) {
            *best = value;
            *choice = (Choice){f, s, 0};
        }
    }
}

static int choose(Query *q, const Level *level, const int32_t *pick, Choice *choice) {
    double best = 0.0;
    choice->feature = -1;
    uint64_t masks[MOST_IN_SET];
    double gains[MOST_IN_SET][2];
    for (int f = 0; f < q->moving; f++)
        for (int32_t c = level->domain[f].lo; c <= level->domain[f].hi; c++)
            q->gain[0][q->at[f] + c] = q->gain[1][q->at[f] + c] = 0.0;
    for (int32_t t = 0; t < level->trees; t++) {
        const Local *x = q->local + q->root[level->roots + t];
        if (q->is_set[x->feature]) continue;
        q->gain[0][q->at[x->feature] + x->cut] += q->local[x->kid[0]].min - x->min;
        q->gain[1][q->at[x->feature] + x->cut] += q->local[x->kid[1]].min - x->min;
    }
    for (int f = 0; f < q->moving; f++) {
        if (count(q, level, f) < 2) continue;
        if (!q->is_set[f]) {
            weigh_range(q, level, f, &best, choice);
            continue;
        }
        int known = 0;
        for (int32_t t = 0; t < level->trees; t++) {
            const Local *x = q->local + q->root[level->roots + t];
            if (x->feature != f) continue;
            uint64_t left = x->left & level->domain[f].mask;
            int k = 0;
            while (k < known && masks[k] != left) k++;
            if (k == known) {
                if (known == MOST_IN_SET) continue;
                masks[known] = left;
                gains[known][0] = gains[known][1] = 0.0;
                known++;
            }
            gains[k][0] += q->local[x->kid[0]].min - x->min;
            gains[k][1] += q->local[x->kid[1]].min - x->min;
        }
        for (int k = 0; k < known; k++)
            if (worth(gains[k][0], gains[k][1]) > best && masks[k] && masks[k] != level->domain[f].mask) {
                best = worth(gains[k][0], gains[k][1]);
                *choice = (Choice){f, 0, masks[k]};
            }
    }
    if (choice->feature >= 0 && best > 0.0) return 1;
    double dearest = -1.0; /* nothing to gain: set apart the cell of the candidate that costs most */
    for (int f = 0; f < q->moving; f++) {
        if (count(q, level, f) < 2) continue;
        double more = q->cost[q->at[f] + pick[f]] - level->cheapest[f];
        if (more > dearest) {
            dearest = more;
            int32_t c = pick[f];
            *choice = (Choice){f, c > level->domain[f].lo ? c : c + 1, (uint64_t)1 << c};
        }
    }
    return choice->feature >= 0;
}

static int search(Query *q, const Level *level, int depth) {
    if (q->steps++ >= q->limit || depth > MOST_DEPTH || q->exhausted) {
        q->exhausted = 1;
        return OPEN;
    }
    if (level->bound >= q->cut + q->slack) {
        if (level->bound < q->lowest) q->lowest = level->bound;
        return CERTIFIED;
    }
    int32_t pick[MOST_MOVING];
    double value;
    best_cells(q, level, pick);
    if (consider(q, level, pick, &value)) return FOUND;
    if (q->failed) return FAILED;
    int32_t open = 0;
    for (int f = 0; f < q->moving; f++) open += count(q, level, f) > 1;
    if (!open) { /* one combination, and it was decided to the bit */
        if (level->bound < q->lowest) q->lowest = level->bound;
        return CERTIFIED;
    }
    if (q->budget < INFINITY && !depth) {
        int32_t cheap[MOST_MOVING];
        cheap_cells(q, level, cheap);
        if (consider(q, level, cheap, &value)) return FOUND;
        if (q->failed) return FAILED;
    }
    Choice choice;
    if (!choose(q, level, pick, &choice)) return OPEN;
    int32_t locals = q->locals;
    int64_t roots = q->roots, tables = q->tables;
    Level *half = malloc(2 * sizeof(Level));
    if (!half) return q->exhausted = 1, OPEN;
    int f = choice.feature, result = CERTIFIED;
    for (int side = 0; side < 2; side++) {
        memcpy(half[side].domain, level->domain, sizeof level->domain);
        Domain *d = half[side].domain + f;
        if (q->is_set[f]) d->mask &= side ? ~choice.left : choice.left;
        else if (side) d->lo = choice.cut;
        else d->hi = choice.cut - 1;
        if (narrow(q, level, half + side, (uint64_t)1 << f) < 0) {
            q->exhausted = 1;
            free(half);
            return OPEN;
        }
    }
    int first = !half[1].dead && (half[0].dead || half[1].bound < half[0].bound);
    for (int i = 0; i < 2 && result == CERTIFIED; i++)
        if (!half[first ^ i].dead) result = search(q, half + (first ^ i), depth + 1);
    q->locals = locals;
    q->roots = roots;
    q->tables = tables;
    free(half);
    return result;
}

/* ---- from Python ---- */

static void *copy_of(const void *source, size_t bytes) {
    void *copy = malloc(bytes ? bytes : 1);
    if (copy && bytes) memcpy(copy, source, bytes);
    return copy;
}

static void Search_dealloc(Search *e) {
    PyTypeObject *type = Py_TYPE(e);
    free(e->start);
    free(e->node);
    free(e->value);
    free(e->column);
    free(e->words);
    free(e->cut);
    free(e->cut_at);
    type->tp_free((PyObject *)e);
    Py_DECREF(type);
}

/* Search(features, base, strict, reading, arrays): starts i4, feature i4, column i4, rank i4, left i4, right i4,
 * value f8, columns i4 (n, 5), words u4, cuts f8, cuts_at i8; as fiduciary.models._trees gives them to the kernel. */
static PyObject *Search_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"features", "base", "strict", "reading", "arrays", NULL};
    int features, strict, reading;
    double base;
    PyObject *arrays;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "idpiO!", names, &features, &base, &strict, &reading, &PyTuple_Type, &arrays))
        return NULL;
    if (features < 1 || PyTuple_GET_SIZE(arrays) != 11 || reading < AS_IS || reading > FLUSH || !(fabs(base) < 1e300)) {
        PyErr_SetString(PyExc_ValueError, "features, a finite base, a known reading and 11 arrays");
        return NULL;
    }
    Py_buffer v[11];
    int got = 0;
    for (; got < 11; got++)
        if (PyObject_GetBuffer(PyTuple_GET_ITEM(arrays, got), &v[got], PyBUF_C_CONTIGUOUS) < 0) break;
    Search *e = NULL;
    const char *wrong = NULL;
    if (got < 11) goto end;
    e = (Search *)type->tp_alloc(type, 0);
    if (!e) goto end;
    int64_t nodes = v[1].len / 4, trees = v[0].len / 4 - 1, columns = v[7].len / 20, words = v[8].len / 4, cuts = v[9].len / 8;
    const int32_t *start = v[0].buf, *column = v[2].buf, *rank = v[3].buf, *left = v[4].buf, *right = v[5].buf, *col = v[7].buf;
    const int64_t *cut_at = v[10].buf;
    if (trees < 0 || nodes > 1 << 24 || v[6].len != nodes * 8 || v[10].len != (features + 1) * 8) wrong = "the arrays differ in length";
    for (int k = 2; k < 6 && !wrong; k++)
        if (v[k].len != nodes * 4) wrong = "the arrays differ in length";
    for (int64_t i = 0; i < columns && !wrong; i++)
        if (col[5 * i] < 0 || col[5 * i] >= features || col[5 * i + 3] < 0 || col[5 * i + 4] < 0 ||
            (int64_t)col[5 * i + 3] + col[5 * i + 4] > words)
            wrong = "a column is wrong";
    for (int f = 0; f <= features && !wrong; f++)
        if (cut_at[f] < (f ? cut_at[f - 1] : 0) || cut_at[f] > cuts) wrong = "the thresholds are wrong";
    for (int64_t n = 0; n < nodes && !wrong; n++)
        if (column[n] >= 0 && (column[n] >= columns || left[n] <= n || right[n] <= n || left[n] >= nodes || right[n] >= nodes))
            wrong = "a node is wrong";
    for (int64_t t = 0; t < trees && !wrong; t++)
        if (start[t] < 0 || start[t] >= nodes) wrong = "a tree is wrong";
    if (wrong) goto end;
    e->features = features;
    e->base = base;
    e->strict = strict;
    e->reading = reading;
    e->trees = (int32_t)trees;
    e->nodes = (int32_t)nodes;
    e->columns = (int32_t)columns;
    e->start = copy_of(v[0].buf, (size_t)v[0].len);
    e->node = malloc(sizeof(Node) * (size_t)(nodes ? nodes : 1));
    e->value = copy_of(v[6].buf, (size_t)v[6].len);
    e->column = copy_of(v[7].buf, (size_t)v[7].len);
    e->words = copy_of(v[8].buf, (size_t)v[8].len);
    e->cut = copy_of(v[9].buf, (size_t)v[9].len);
    e->cut_at = copy_of(v[10].buf, (size_t)v[10].len);
    if (!e->start || !e->node || !e->value || !e->column || !e->words || !e->cut || !e->cut_at) {
        PyErr_NoMemory();
        Py_CLEAR(e);
        goto end;
    }
    for (int64_t n = 0; n < nodes; n++) e->node[n] = (Node){{left[n], right[n]}, column[n] < 0 ? -1 : column[n], rank[n]};
    e->size = fabs(base);
    for (int64_t t = 0; t < trees; t++) {
        double most = 0.0;
        for (int64_t n = start[t]; n < start[t + 1] && n < nodes; n++)
            if (e->node[n].column < 0 && fabs(e->value[n]) > most) most = fabs(e->value[n]);
        e->size += most;
    }
end:
    if (wrong) {
        PyErr_SetString(PyExc_ValueError, wrong);
        Py_CLEAR(e);
    }
    while (got--) PyBuffer_Release(&v[got]);
    return (PyObject *)e;
}

static PyObject *Search_score(Search *e, PyObject *args) {
    Py_buffer rows, out;
    if (!PyArg_ParseTuple(args, "y*w*", &rows, &out)) return NULL;
    int64_t n = rows.len / 8 / e->features;
    int16_t *rank = malloc(sizeof(int16_t) * (size_t)(e->columns + 1));
    int bad = rows.len != n * 8 * e->features || out.len != n * 8 || !rank;
    for (int64_t i = 0; i < n && !bad; i++)
        ((double *)out.buf)[i] = score_row(e, (const double *)rows.buf + i * e->features, rank);
    free(rank);
    PyBuffer_Release(&rows);
    PyBuffer_Release(&out);
    if (bad) return PyErr_SetString(PyExc_ValueError, "rows (n, features) and margins (n,) are needed"), NULL;
    Py_RETURN_NONE;
}

static PyObject *Search_ranks(Search *e, PyObject *args) {
    int feature;
    Py_buffer values;
    if (!PyArg_ParseTuple(args, "iy*", &feature, &values)) return NULL;
    int64_t n = values.len / 8;
    PyObject *list = PyList_New(0);
    for (int32_t i = 0; list && i < e->columns; i++) {
        if (e->column[5 * (int64_t)i] != feature) continue;
        PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)n * 2);
        if (!bytes || PyList_Append(list, bytes) < 0) Py_CLEAR(list);
        else {
            int16_t *out = (int16_t *)PyBytes_AS_STRING(bytes);
            for (int64_t k = 0; k < n; k++) out[k] = rank_of(e, i, ((const double *)values.buf)[k]);
        }
        Py_XDECREF(bytes);
    }
    PyBuffer_Release(&values);
    return list;
}

/* Cells of the moving features: ranks by column, equal neighbours merged to the cheaper, sets where order fails. */
static const char *lay_out(Query *q, const double *row, const int32_t *features, const int32_t *at, int32_t given,
                           const double *values, const double *costs, int *much) {
    const Search *e = q->e;
    int64_t ranks = 0, widest = 0;
    for (int32_t f = 0; f < e->features; f++) q->place[f] = -1;
    for (int32_t i = 0; i < given; i++) {
        if (features[i] < 0 || features[i] >= e->features || q->place[features[i]] >= 0 || at[i + 1] <= at[i]) return "a moving feature is wrong";
        q->place[features[i]] = i;
        q->feature[i] = features[i];
        if (at[i + 1] - at[i] > widest) widest = at[i + 1] - at[i];
    }
    for (int32_t c = 0; c < e->columns; c++) {
        int32_t f = q->place[e->column[5 * (int64_t)c]];
        q->rank_at[c] = f < 0 ? -1 : 0;
        if (f < 0) q->fixed[c] = rank_of(e, c, row[e->column[5 * (int64_t)c]]);
        else ranks += at[f + 1] - at[f];
    }
    q->rank = malloc(sizeof(int16_t) * (size_t)(ranks + 1));
    if (!q->rank) return "memory";
    q->moving = given;
    q->cells = 0;
    ranks = 0;
    for (int32_t i = 0; i < given; i++) {
        int32_t n = at[i + 1] - at[i], kept = 0, mine = 0;
        int32_t first = q->cells;
        int64_t begin = ranks;
        for (int32_t c = 0; c < e->columns; c++)
            if (q->place[e->column[5 * (int64_t)c]] == i) mine++;
        /* ranks of all candidates, one line of `n` a column, then squeezed in place */
        int32_t line = 0;
        for (int32_t c = 0; c < e->columns; c++) {
            if (q->place[e->column[5 * (int64_t)c]] != i) continue;
            q->rank_at[c] = (int32_t)(begin + (int64_t)line * n);
            for (int32_t k = 0; k < n; k++) q->rank[q->rank_at[c] + k] = rank_of(e, c, values[at[i] + k]);
            line++;
        }
        int16_t *base = q->rank + begin;
        int set = 0;
        for (int32_t k = 0; k < n; k++) {
            int same = kept > 0;
            for (int32_t l = 0; l < mine && same; l++) same = base[(int64_t)l * n + kept - 1] == base[(int64_t)l * n + k];
            if (same) {
                if (costs[at[i] + k] < q->cost[first + kept - 1]) {
                    q->cost[first + kept - 1] = costs[at[i] + k];
                    q->source[first + kept - 1] = k;
                }
                continue;
            }
            for (int32_t l = 0; l < mine; l++) {
                if (kept && base[(int64_t)l * n + k] < base[(int64_t)l * n + kept - 1]) set = 1;
                base[(int64_t)l * n + kept] = base[(int64_t)l * n + k];
            }
            q->cost[first + kept] = costs[at[i] + k];
            q->source[first + kept] = k;
            kept++;
        }
        if (q->budget < INFINITY && !set) { /* the search shortens ranges at their ends: costs must fall, then rise */
            int rising = 0;
            for (int32_t k = 1; k < kept; k++) {
                if (q->cost[first + k] > q->cost[first + k - 1]) rising = 1;
                else if (rising && q->cost[first + k] < q->cost[first + k - 1]) set = 1;
            }
        }
        if (set && kept > MOST_IN_SET) *much = 1;
        q->is_set[i] = set;
        q->at[i] = first;
        q->cells += kept;
        ranks += (int64_t)mine * n;
    }
    q->at[given] = q->cells;
    return NULL;
}

static int begin(Query *q, Level *top) {
    for (int f = 0; f < q->moving; f++) {
        int32_t n = q->at[f + 1] - q->at[f];
        top->domain[f] = (Domain){0, n - 1, q->is_set[f] ? (n == 64 ? ~(uint64_t)0 : ((uint64_t)1 << n) - 1) : 0};
    }
    top->dead = 0;
    top->trees = 0;
    top->roots = 0;
    top->constant = q->sign * q->e->base;
    afford(q, top, q->moving == 64 ? ~(uint64_t)0 : ((uint64_t)1 << q->moving) - 1);
    top->table = new_table(q);
    if (top->table < 0) return -1;
    memset(q->table + top->table, 0, sizeof(double) * (size_t)q->cells);
    if (top->dead) return 0;
    Domain domain[MOST_MOVING];
    memcpy(domain, top->domain, sizeof domain);
    for (int32_t t = 0; t < q->e->trees; t++) {
        int32_t mark = q->locals, n = take(q, q->e->start[t], domain), rest = top->trees;
        if (n < 0 || settle(q, top, n) < 0) return -1;
        if (top->trees == rest) q->locals = mark; /* it became a constant or part of a table */
    }
    bound(q, top);
    return 0;
}

/* find(row, features, at, values, costs, budget, cut, sign, steps, accept) -> (status, steps, bound, picks) */
static PyObject *Search_find(Search *e, PyObject *args) {
    Py_buffer row, features, at, values, costs;
    double budget, cut, sign;
    long long steps;
    PyObject *accept, *result = NULL;
    if (!PyArg_ParseTuple(args, "y*y*y*y*y*dddLO", &row, &features, &at, &values, &costs, &budget, &cut, &sign, &steps, &accept))
        return NULL;
    int32_t given = (int32_t)(features.len / 4), candidates = (int32_t)(values.len / 8);
    const int32_t *spans = at.buf;
    const char *wrong = NULL;
    if (row.len != (Py_ssize_t)e->features * 8 || at.len != (given + 1) * 4 || costs.len != values.len ||
        (sign != 1.0 && sign != -1.0) || !(budget >= 0.0) || spans[0] != 0 || spans[given] != candidates)
        wrong = "the question's arrays do not fit together";
    int status = OPEN, much = given > MOST_MOVING;
    Query q = {.e = e, .budget = budget * (1.0 + 1e-12), .cut = sign * cut, .sign = sign, .limit = steps, .accept = accept,
               .lowest = INFINITY};
    q.slack = 4.0 * (e->trees + 64) * DBL_EPSILON * (e->size + fabs(cut));
    if (!wrong && !much) {
        q.source = malloc(sizeof(int32_t) * (size_t)(candidates + 1));
        q.cost = malloc(sizeof(double) * (size_t)(candidates + 1));
        q.rank_at = malloc(sizeof(int32_t) * (size_t)(e->columns + 1));
        q.fixed = malloc(sizeof(int16_t) * (size_t)(e->columns + 1));
        q.place = malloc(sizeof(int32_t) * (size_t)e->features);
        q.gain[0] = malloc(sizeof(double) * (size_t)(candidates + 1));
        q.gain[1] = malloc(sizeof(double) * (size_t)(candidates + 1));
        if (!q.source || !q.cost || !q.rank_at || !q.fixed || !q.place || !q.gain[0] || !q.gain[1]) q.exhausted = 1;
        else wrong = lay_out(&q, row.buf, features.buf, spans, given, values.buf, costs.buf, &much);
    }
    if (!wrong && !much && !q.exhausted) {
        Level *top = malloc(sizeof(Level));
        PyThreadState *thread = PyEval_SaveThread();
        q.thread = &thread;
        if (!top || begin(&q, top) < 0) status = OPEN;
        else status = top->dead ? CERTIFIED : search(&q, top, 0);
        PyEval_RestoreThread(thread);
        free(top);
        if (status == CERTIFIED && q.tainted) status = OPEN;
    }
    if (wrong) PyErr_SetString(PyExc_ValueError, wrong);
    else if (!q.failed) {
        PyObject *list = PyList_New(status == FOUND ? given : 0);
        for (int32_t f = 0; list && status == FOUND && f < given; f++)
            PyList_SET_ITEM(list, f, PyLong_FromLong(q.source[q.at[f] + q.pick[f]]));
        const char *why = status != OPEN ? "" : much ? "much" : q.tainted ? "refused" : "steps";
        if (list) result = Py_BuildValue("(iLdNs)", status, (long long)q.steps, sign * q.lowest, list, why);
    }
    free(q.source);
    free(q.cost);
    free(q.rank);
    free(q.rank_at);
    free(q.fixed);
    free(q.place);
    free(q.gain[0]);
    free(q.gain[1]);
    free(q.local);
    free(q.root);
    free(q.table);
    PyBuffer_Release(&row);
    PyBuffer_Release(&features);
    PyBuffer_Release(&at);
    PyBuffer_Release(&values);
    PyBuffer_Release(&costs);
    return result;
}

static PyMethodDef Search_methods[] = {
    {"score", (PyCFunction)Search_score, METH_VARARGS, "score(rows, margins): the margins as the search reads the trees."},
    {"ranks", (PyCFunction)Search_ranks, METH_VARARGS, "ranks(feature, values): int16 ranks of values, for each of its columns."},
    {"find", (PyCFunction)Search_find, METH_VARARGS,
     "find(row, features, at, values, costs, budget, cut, sign, steps, accept) -> (status, steps, bound, picks, why)."},
    {NULL, NULL, 0, NULL}};
static PyType_Slot Search_slots[] = {{Py_tp_new, Search_new},
                                     {Py_tp_dealloc, Search_dealloc},
                                     {Py_tp_methods, Search_methods},
                                     {Py_tp_doc, "An ensemble to be searched."},
                                     {0, NULL}};
static PyType_Spec Search_spec = {"fiduciary.checks._reach.Search", sizeof(Search), 0, Py_TPFLAGS_DEFAULT, Search_slots};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_reach", "Exact reachability on trees.", -1, NULL, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__reach(void) {
    PyObject *m = PyModule_Create(&module);
    if (!m) return NULL;
    PyObject *type = PyType_FromSpec(&Search_spec);
    if (!type || PyModule_AddObject(m, "Search", type) < 0) {
        Py_XDECREF(type);
        Py_DECREF(m);
        return NULL;
    }
    return m;
}
