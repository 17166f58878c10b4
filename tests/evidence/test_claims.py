"""Every claim names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent
PAGES = [TESTS.parent / "docs" / name for name in ("claims.md", "evidence.md")]


def named() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        text = page.read_text("utf-8")
        for path, test in re.findall(r"`(?:tests/)?([a-z_]+/[a-z_]+\.py)(?:::(test_[a-z_0-9]+))?`", text):
            found.append((path, test))
        found += [
            ("attacks/test_evidence.py", name) for name in re.findall(r"`(test_[a-z_0-9]+)(?:\[|`)", text)
        ]
    return sorted(set(found))


@pytest.mark.parametrize(("path", "test"), named())
def test_the_test_that_backs_a_claim_is_there(path: str, test: str) -> None:
    source = (TESTS / path).read_text("utf-8")
    assert re.search(rf"^(async )?def {test or 'test_'}", source, re.MULTILINE)


def test_the_claims_name_many_tests() -> None:
    assert len(named()) > 40
