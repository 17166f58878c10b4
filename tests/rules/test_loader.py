"""The loader takes plain data and nothing else: bombs, tags, aliases, twice-said keys and code are refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiduciary import rules
from fiduciary.errors import FiduciaryError, LimitError, UsageError

GOOD = """
pack: small
version: "1"
title: A small pack
jurisdictions: [EU]
sources:
- {id: law, title: The law, kind: statute}
rules:
- id: one
  source: law
  cite: Article 1
  duty: Assess the impact before processing
  status: in_force
  effective: {from: 2020-01-01}
  stage: release
  severity: block
  check: approval.attested
  params: {kinds: [dpia]}
"""


def test_a_plain_pack_loads() -> None:
    pack = rules.load_pack(GOOD.encode())
    assert pack.rules[0].params == {"kinds": ["dpia"]} and str(pack.rules[0].effective.since) == "2020-01-01"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("check: approval.attested", "check: os.system"), "no check"),
        (("check: approval.attested", "check: approval.attested\n  run: x"), "unknown field"),
        (("kinds: [dpia]", "kind: dpia"), "no parameter"),
        (("kinds: [dpia]", "kinds: dpia"), "must be a list"),
        (("severity: block", "severity: fatal"), "severity"),
        (("from: 2020-01-01", "from: 2020-02-30"), "no day of the calendar"),
        (("from: 2020-01-01", "from: soon"), "effective"),
        (("from: 2020-01-01", "from: 2020-01-01, to: 2019-01-01"), "ends before it begins"),
        (("source: law", "source: rumour"), "no source of the pack"),
        (("stage: release", "stage: serve"), "can be run at"),
        (("title: A small pack", "title: A small pack\ntitle: Another"), "stands twice"),
        (("title: A small pack", "title: !!python/object/apply:os.system [ls]"), "tag"),
        (("title: A small pack", "title: &a A small pack"), "anchor"),
        (("duty: Assess", "duty: *a #"), "alias"),
        (("title: A small pack", "<<: {title: merged}"), "merge"),
        (("pack: small", "pack: Small Pack"), "lower-case"),
        (("pack: small", "pack: small\n---\npack: other"), "more than one document"),
    ],
)
def test_what_is_wrong_is_named(change: tuple[str, str], says: str) -> None:
    assert change[0] in GOOD
    with pytest.raises(UsageError, match=says):
        rules.load_pack(GOOD.replace(*change, 1).encode())


def test_two_rules_of_one_name_are_refused() -> None:
    rule = GOOD[GOOD.index("- id: one") :]
    with pytest.raises(UsageError, match="stands twice"):
        rules.load_pack((GOOD + rule).encode())


def test_bombs_are_bounded() -> None:
    laughs = "a: &a [x,x]\n" + "".join(
        f"{c}: &{c} [*{p},*{p}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)
    )
    with pytest.raises(UsageError, match="anchor"):
        rules.load_pack(laughs.encode())
    with pytest.raises(LimitError, match="nested deeper"):
        rules.load_pack(("[" * 400 + "]" * 400).encode())
    with pytest.raises(LimitError, match="at most"):
        rules.load_pack(b"a: " + b"x" * (3 << 20))
    with pytest.raises(LimitError, match="parts"):
        rules.load_pack(b"a: [" + b"1," * 300_000 + b"]")


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_no_bytes_raise_anything_but_our_errors(raw: bytes) -> None:
    try:
        rules.load_pack(raw)
    except FiduciaryError as error:
        assert error.detail


@given(st.text(alphabet="abc:[]{}-,&*!|>'\"#\n 0129.", max_size=120))
@settings(max_examples=300, deadline=None)
def test_yaml_like_text_raises_nothing_else_either(text: str) -> None:
    try:
        rules.read_yaml(text.encode())
    except FiduciaryError as error:
        assert error.detail


def test_words_that_other_yaml_readers_twist_stay_texts() -> None:
    read = rules.read_yaml(
        b"a: no\nb: on\nc: 1_000\nd: 012\ne: 0x1F\nf: 12:30:00\ng: '5'\nh: 5\ni: 5.5\nj: ~\nk: true"
    )
    assert read == {
        "a": "no", "b": "on", "c": "1_000", "d": "012", "e": "0x1F", "f": "12:30:00", "g": "5", "h": 5, "i": 5.5,
        "j": None, "k": True,
    }  # fmt: skip
