"""The release checks find what they are for, and the reference and probes say what they promise."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bank import USE_CASE, contract, rows, scorecard
from fiduciary.errors import ReleaseError
from fiduciary.models import Contract
from fiduciary.registry import build, read_bundle, release_checks
from fiduciary.registry._checks import developer_checks
from fiduciary.registry._probes import make_probes, probe_rows, read_probes, reproduces
from fiduciary.registry._reference import make_reference, read_reference


def results(tmp_path: Path, terms: Contract, **more: object) -> dict[str, bool]:
    scorecard().save(tmp_path / "m")
    folder = build(tmp_path / "out", tmp_path / "m", terms, USE_CASE, rows(), name="c", version="1", **more)  # type: ignore[arg-type]
    return {r["name"]: r["ok"] for r in release_checks(read_bundle(folder))}


def changed(name: str, **more: object) -> Contract:
    features = tuple(msgspec.structs.replace(f, **more) if f.name == name else f for f in contract().features)
    return Contract(features=features)


def test_a_sound_release_passes_all(tmp_path: Path) -> None:
    assert all(results(tmp_path, contract()).values())


def test_a_direction_that_does_not_hold_is_found(tmp_path: Path) -> None:
    found = results(tmp_path, changed("utilisation", monotone=-1))
    assert [name for name, ok in found.items() if not ok] == ["directions_hold"]


def test_a_protected_input_that_moves_the_score_is_found(tmp_path: Path) -> None:
    found = results(tmp_path, changed("housing", protected=True))
    assert [name for name, ok in found.items() if not ok] == ["protected_do_not_move"]


def test_a_reason_without_a_text_is_found(tmp_path: Path) -> None:
    found = results(tmp_path, changed("housing", reason=""))
    assert [name for name, ok in found.items() if not ok] == ["reasons_have_texts"]


def test_the_developers_own_red_check_counts(tmp_path: Path) -> None:
    found = results(tmp_path, contract(), checks=[{"name": "auc", "ok": False, "detail": "too low"}])
    assert [name for name, ok in found.items() if not ok] == ["developer.auc"]


@pytest.mark.parametrize(
    "document",
    [
        None,
        {},
        {"results": []},
        {"format": "fiduciary.checks/1"},
        {"format": "fiduciary.checks/1", "results": [{}]},
        {"format": "fiduciary.checks/1", "results": [{"name": "x", "ok": "yes"}]},
        {"format": "fiduciary.checks/1", "results": [{"name": "x", "ok": True}] * 201},
    ],
)
def test_malformed_developer_checks_are_refused(document: object) -> None:
    with pytest.raises(ReleaseError):
        developer_checks(document)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(-1e9, 1e9)), min_size=1, max_size=300))
def test_every_row_lies_in_one_bin(values: list[float | None]) -> None:
    from fiduciary.registry._reference import _numeric

    column = np.array([math.nan if v is None else v for v in values])
    histogram = _numeric("x", column)
    assert sum(histogram.counts) + histogram.missing == len(values)
    present = column[~np.isnan(column)]
    again = np.bincount(
        np.searchsorted(histogram.edges, present, side="right"), minlength=len(histogram.edges) + 1
    )
    assert again.tolist() == histogram.counts
    assert all(count > 0 for count in histogram.counts) or len(present) == 0


def test_a_reference_reads_back_and_refuses_what_does_not_add_up() -> None:
    reference = make_reference(contract(), scorecard(), rows())
    document = msgspec.to_builtins(reference)
    assert read_reference(document) == reference
    assert sum(reference.margin.counts) == 2_000
    document["features"][0]["counts"][0] += 1
    with pytest.raises(ReleaseError, match="add up"):
        read_reference(document)
    document["features"][0]["counts"][0] -= 1
    document["features"][0]["edges"].reverse()
    with pytest.raises(ReleaseError, match="rise"):
        read_reference(document)


def test_probes_cover_every_bin_category_and_missing_value() -> None:
    reference = make_reference(contract(), scorecard(), rows())
    probes = probe_rows(contract(), reference)
    utilisation, late, housing = probes.T
    assert utilisation.min() == 0 and utilisation.max() == 1 and len(set(utilisation)) > 15
    assert np.isnan(late).any() and not np.isnan(utilisation).any()
    assert set(housing) == {0.0, 1.0}
    assert (late[~np.isnan(late)] == np.floor(late[~np.isnan(late)])).all()


def test_probes_survive_json_and_notice_the_last_bit() -> None:
    from fiduciary.registry import canonical

    reference = make_reference(contract(), scorecard(), rows())
    probes = make_probes(contract(), reference, scorecard())
    document = msgspec.json.decode(canonical(msgspec.to_builtins(probes)))
    again = read_probes(document, 3)
    assert reproduces(again, scorecard())
    document["margins"][5] = float(np.nextafter(document["margins"][5], 10))
    assert not reproduces(read_probes(document, 3), scorecard())
    document["margins"].pop()
    with pytest.raises(ReleaseError):
        read_probes(document, 3)
