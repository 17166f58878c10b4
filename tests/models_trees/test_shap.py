"""The kernel's Shapley values against their definition, at any depth, in any batch, with any table limits."""

from __future__ import annotations

import itertools
import math
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiduciary.errors import ModelError
from fiduciary.models._shap import goes_left, reference_contributions
from fiduciary.models._trees import (
    AS_IS,
    CATEGORY,
    CATEGORY_RIGHT,
    FLUSH,
    NAN,
    NARROW,
    PLAIN,
    ZERO,
    Trees,
    TreeScorer,
)

VALUES = [-1.5, -1e-36, -0.0, 0.0, 1.0, 2.0, 3.0, 2.5, 1e-20, math.nan, math.inf, -math.inf, 70.0, 1e10]


def random_trees(seed: int, features: int, depth: int, count: int, *, chain: bool = False) -> Trees:
    """Random trees with every kind of split; cut-offs repeat, features repeat on a path, some covers are 0."""
    random = np.random.default_rng(seed)
    trees = Trees(
        features,
        base=float(random.normal()),
        strict=bool(random.integers(2)),
        reading=int(random.choice([AS_IS, NARROW, FLUSH])),
    )
    for _ in range(count):
        nodes: list[tuple[int, int, float]] = []

        def grow(level: int, cover: float, nodes: list[tuple[int, int, float]] = nodes) -> int:
            me = len(nodes)
            nodes.append((-1, -1, cover))
            full = chain or random.random() < 0.85
            if level < depth and full:
                part = float(random.choice([0.0, 0.25, 0.5, 0.9, float(random.random())]))
                left = grow(level + 1 if not chain else depth, cover * part)
                nodes[me] = (left, grow(level + 1, cover * (1 - part)), cover)
            return me

        grow(0, 1000.0)
        for left, right, cover in nodes:
            if left < 0:
                trees.leaf(float(random.normal()), cover)
                continue
            kind = int(random.choice([PLAIN, ZERO, NAN, CATEGORY, CATEGORY_RIGHT]))
            members = frozenset(random.choice(80, 12).tolist()) | {0} if kind >= CATEGORY else None
            trees.split(
                int(random.integers(features)),
                float(np.float32(random.choice([-1.5, 0.0, 1.0, 2.0, 2.5, random.normal()]))),
                left,
                right,
                cover,
                kind=kind,
                left_if_missing=bool(random.integers(2)),
                categories=members,
            )
        trees.end_tree()
    return trees


def random_rows(seed: int, count: int, features: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    rows = random.normal(scale=2, size=(count, features))
    special = random.random(rows.shape) < 0.5
    rows[special] = random.choice(VALUES, int(special.sum()))
    return rows


def by_all_coalitions(trees: Trees, row: list[float]) -> tuple[float, list[float]]:
    """The definition: mean gain of a feature over all orders, where unknown features follow both branches."""

    def value(known: frozenset[int], start: int, node: int) -> float:
        f = trees.feature[node]
        if f < 0:
            return trees.value[node]
        left, right = start + trees.left[node], start + trees.right[node]
        if f in known:
            return value(known, start, left if goes_left(trees, node, row[f]) else right)
        above = trees.cover[node]
        part = trees.cover[left] / above if above > 0 else 0.5
        rest = trees.cover[right] / above if above > 0 else 0.5
        return part * value(known, start, left) + rest * value(known, start, right)

    n = trees.features
    coalitions = [frozenset(c) for k in range(n + 1) for c in itertools.combinations(range(n), k)]
    worth = {c: trees.base + sum(value(c, s, s) for s in trees.starts[:-1]) for c in coalitions}
    phi = [0.0] * n
    for c in coalitions:
        for f in set(range(n)) - c:
            phi[f] += (worth[c | {f}] - worth[c]) / (n * math.comb(n - 1, len(c)))
    return worth[frozenset(range(n))], phi


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    features=st.integers(1, 6),
    depth=st.integers(0, 7),
    count=st.integers(0, 5),
    bits=st.integers(1, 10),
    room=st.sampled_from([0, 3_000, 1 << 26]),
    chain=st.booleans(),
)
def test_it_is_the_mean_gain_over_all_coalitions(
    seed: int, features: int, depth: int, count: int, bits: int, room: int, chain: bool
) -> None:
    trees = random_trees(seed, features, depth, count, chain=chain)
    rows = random_rows(seed + 1, 3, features)
    scorer = TreeScorer("test", "identity", trees, table_bits=bits, table_bytes=room)
    margins, shares = scorer.explain(rows)
    for i, row in enumerate(rows.tolist()):
        margin, phi = by_all_coalitions(trees, row)
        assert abs(margins[i] - margin) < 1e-12
        assert np.abs(shares[i] - phi).max() < 1e-12
        assert abs(scorer.bias + sum(phi) - margin) < 1e-11
        plain, reference = reference_contributions(trees, row)
        assert plain == margins[i]
        assert np.abs(shares[i] - reference).max() < 1e-12


@pytest.mark.parametrize(("features", "depth", "chain"), [(30, 13, False), (40, 60, True), (100, 110, True)])
def test_deep_trees_are_exact_too(features: int, depth: int, chain: bool) -> None:
    trees = random_trees(5, features, depth, 2, chain=chain)
    scorer = TreeScorer("test", "identity", trees)
    assert scorer.kernel.facts()["trees by edges"] > 0
    rows = random_rows(6, 2, features)
    margins, shares = scorer.explain(rows)
    for i, row in enumerate(rows.tolist()):
        margin, phi = reference_contributions(trees, row)
        assert margin == margins[i]
        assert np.abs(shares[i] - phi).max() < 1e-11


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(0, 70), room=st.sampled_from([0, 20_000, 1 << 26]))
def test_a_row_has_the_same_bits_in_any_batch(seed: int, n: int, room: int) -> None:
    trees = random_trees(seed, 9, 8, 12)
    scorer = TreeScorer("test", "identity", trees, table_bytes=room)
    rows = random_rows(seed, n, 9)
    margins, shares = scorer.explain(rows)
    assert scorer.score(rows).tobytes() == margins.tobytes()
    for i in range(n):
        one, share = scorer.explain(rows[i : i + 1])
        assert one[0] == margins[i] == scorer.score(rows[i : i + 1])[0]
        assert share.tobytes() == shares[i : i + 1].tobytes()


def test_threads_do_not_disturb_each_other() -> None:
    scorer = TreeScorer("test", "identity", random_trees(1, 12, 8, 20))
    rows = random_rows(2, 64, 12)
    wanted = scorer.explain(rows)[1].tobytes()
    wrong: list[int] = []

    def work() -> None:
        for _ in range(50):
            if scorer.explain(rows)[1].tobytes() != wanted:
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_buffers_are_checked() -> None:
    kernel = TreeScorer("test", "identity", random_trees(1, 3, 3, 2)).kernel
    good = np.zeros((2, 3)), np.zeros(2), np.zeros((2, 3))
    kernel.explain(*good)
    frozen = np.zeros(2)
    frozen.flags.writeable = False
    bad = [
        (np.zeros((2, 4)), good[1], good[2]),
        (good[0], np.zeros(1), good[2]),
        (good[0], good[1], np.zeros((1, 3))),
        (good[0].astype(np.float32), good[1], good[2]),
        (good[0], frozen, good[2]),
        (np.zeros((6, 2))[::2], good[1], good[2]),
        good[:2],
    ]
    for buffers in bad:
        with pytest.raises((TypeError, ValueError, BufferError)):
            kernel.explain(*buffers)


@pytest.mark.parametrize("branches", [(0, 1), (1, 1), (1, 5), (-1, 2), (2, 0)])
def test_what_is_no_tree_is_refused(branches: tuple[int, int]) -> None:
    trees = Trees(2)
    trees.split(0, 1.0, *branches, 10.0)
    trees.leaf(1.0, 5.0)
    trees.leaf(2.0, 5.0)
    trees.end_tree()
    with pytest.raises(ModelError):
        TreeScorer("test", "identity", trees)


@pytest.mark.parametrize("number", [math.nan, math.inf, 1e301])
def test_numbers_that_are_not_finite_are_refused(number: float) -> None:
    trees = Trees(1)
    trees.leaf(number, 5.0)
    trees.end_tree()
    with pytest.raises(ModelError, match="finite"):
        TreeScorer("test", "identity", trees)
