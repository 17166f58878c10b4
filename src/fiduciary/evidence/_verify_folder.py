#!/usr/bin/env python3
"""Verify an evidence folder: python3 verify.py [FOLDER] [--log-key KEY ...] [--witness-key KEY ...] [--json]

Standard library only (Python 3.8+), no network, no install. It trusts nothing but SHA-256, Ed25519 and the log
keys you give it (or, with a warning, those in the folder). Use a copy of this program that you already have, or
compare this one with the published one: the folder comes from those whom you check. What it checks, in this order:

1. every file of the folder against manifest.json, and that there is no other file and no link;
2. each checkpoint's signature (Ed25519 over a C2SP signed note), and that each log's key is the one that the control
   log announced;
3. each record's place in its log (RFC 6962: leaf hashes and the roots beside the range give the signed root), and
   that the records of a range are contiguous, none left out;
4. each disclosed payload against the commitment in its record; that no control event is withheld which was recorded
   in the clear; that what is called erased or pruned is so by events of the control log;
5. each log against every head that the control log holds of it, and against the head that a witness cosigned
   (RFC 9162 consistency proofs); for every witness key you give, that this witness cosigned (C2SP tlog-cosignature);
6. each release: the digest of every file, the signature of its author, the approval by another person with another
   key, enrolled for that role, before it was promoted; what was live, and which cut-offs, at each decision;
7. each scorecard decision again, from the row and the points: score, outcome and reasons, bit for bit. Other model
   families: `fiduciary replay`;
8. that each rulebook is what its packs give for the use case on that day, no rule more or less; that each decision
   names the rulebook in force, announced before it, of packs that an officer had adopted, and was admissible under
   it; that its outcome is the cut-offs', then the referral's, and that notices due are named;
9. that the decisions asked for are here: for a use case over a period, every one of every log;
10. the pages for people (index.html, release.json, approvals.jsonl, checks.jsonl, packs/), made again from the
    proved content.

Exit code 0: everything holds. 1: something does not, one line each. 2: the folder cannot be read.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import json
import math
import os
import re
import stat
import struct
import sys
from bisect import bisect_right
from datetime import datetime, timezone
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Point = tuple[int, int, int, int]
    """Extended coordinates X, Y, Z, T with x = X/Z, y = Y/Z, x*y = T/Z."""

# --- Limits: a folder may be made to hurt its reader ---

MAX_FILES = 100_000
MAX_DOCUMENT = 64 << 20
MAX_LINE = 16 << 20
MAX_RELEASE_FILE = 1 << 30
MAX_TREE = 2**63
MAX_DEPTH = 32


def read_json(raw: bytes | str) -> Any:
    """Strict JSON: no duplicate names, no NaN or infinity, no endless number; raises `ValueError`."""
    try:
        return json.loads(
            raw, object_pairs_hook=_object, parse_int=_int, parse_float=_float, parse_constant=_constant
        )
    except RecursionError:
        raise ValueError("a JSON value is nested too deep") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a JSON object has the same name twice")
    return found


def _int(text: str) -> int:
    if len(text) > 40:
        raise ValueError("a JSON number is too long")
    return int(text)


def _float(text: str) -> float:
    value = float(text) if len(text) <= 1_000 else math.inf
    if not math.isfinite(value):
        raise ValueError("a JSON number is too large")
    return value


def _constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def whole(value: Any, most: int = MAX_TREE) -> int:
    """A whole number of [0, most); raises `ValueError`."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < most:
        raise ValueError(f"{str(value)[:40]!r} is not a whole number in its range")
    return value


def decode64(text: Any) -> bytes:
    """Standard base64; raises `ValueError`."""
    if not isinstance(text, str):
        raise ValueError("base64 text is missing")
    return base64.b64decode(text, validate=True)


# --- Ed25519 verification, RFC 8032 section 5.1.7 ---

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)


def _add(a: Point, b: Point) -> Point:
    s = (a[1] - a[0]) * (b[1] - b[0]) % P
    t = (a[1] + a[0]) * (b[1] + b[0]) % P
    c = 2 * a[3] * b[3] * D % P
    z = 2 * a[2] * b[2] % P
    e, f, g, h = t - s, z - c, z + c, t + s
    return e * f % P, g * h % P, f * g % P, e * h % P


def _multiply(scalar: int, point: Point) -> Point:
    result: Point = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            result = _add(result, point)
        point = _add(point, point)
        scalar >>= 1
    return result


def _decompress(raw: bytes) -> Point | None:
    y = int.from_bytes(raw, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * ROOT_OF_MINUS_ONE % P
    if x * x % P != square or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


_base = _decompress((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))
if _base is None:
    raise AssertionError("the base point of edwards25519 decompresses")
BASE: Point = _base


def ed25519_verify(public: bytes, signature: bytes, message: bytes) -> bool:
    """True when `signature` (64 bytes) of `message` was made with the key of `public` (32 bytes)."""
    if len(public) != 32 or len(signature) != 64:
        return False
    key, r = _decompress(public), _decompress(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if key is None or r is None or s >= ORDER:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % ORDER
    left, right = _multiply(s, BASE), _add(r, _multiply(h, key))
    same_x = (left[0] * right[2] - right[0] * left[2]) % P == 0
    return same_x and (left[1] * right[2] - right[1] * left[2]) % P == 0


def usable_key(text: Any) -> bool:
    """A public key in hexadecimal that only its owner can sign for: not a point of small order."""
    if not isinstance(text, str) or len(text) != 64 or any(c not in "0123456789abcdef" for c in text):
        return False
    point = _decompress(bytes.fromhex(text))
    if point is None:
        return False
    x, y, z, _ = _multiply(8, point)
    return x % P != 0 or (y - z) % P != 0


# --- Merkle tree, RFC 6962 section 2.1 ---


def leaf_hash(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_of_range(leaves: list[bytes], start: int, size: int, beside: list[bytes]) -> bytes:
    """Root of a tree of `size` leaves from the leaf hashes of [start, start + len(leaves)).

    `beside` holds the roots of the maximal subtrees outside that range, from left to right. Raises
    `ValueError` when there are too few or too many of them.
    """
    end = start + len(leaves)
    rest = iter(beside)

    def root(low: int, high: int) -> bytes:
        if high <= start or low >= end:
            found = next(rest, None)
            if found is None:
                raise ValueError("the proof is too short")
            return found
        if high - low == 1:
            return leaves[low - start]
        middle = low + (1 << ((high - low - 1).bit_length() - 1))
        left = root(low, middle)
        return node_hash(left, root(middle, high))

    if not (0 <= start < end <= size):
        raise ValueError("the range lies outside the tree")
    result = root(0, size)
    if next(rest, None) is not None:
        raise ValueError("the proof is too long")
    return result


def consistent(old: int, size: int, old_root: bytes, root: bytes, proof: list[bytes]) -> bool:
    """Is the tree of `old` >= 1 leaves a prefix of the tree of `size` leaves? RFC 9162 section 2.1.4.2."""
    if old == size:
        return not proof and old_root == root
    if not 0 < old < size:
        return False
    path = list(proof) if old & (old - 1) else [old_root, *proof]
    if not path:
        return False
    place, last = old - 1, size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    before = after = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            after = node_hash(after, sibling)
        place, last = place >> 1, last >> 1
    return before == old_root and after == root and last == 0


# --- Signed notes and checkpoints, C2SP signed-note and tlog-checkpoint ---


LOG_KEY, WITNESS_KEY = 0x01, 0x04


def parse_log_key(text: str, kind: int = LOG_KEY) -> tuple[str, bytes, bytes]:
    """`name+hash+base64(kind || public key)` to (name, key hash, public key); raises `ValueError`."""
    name, hash_hex, encoded = text.strip().split("+", 2)
    raw = base64.b64decode(encoded, validate=True)
    if len(raw) != 33 or raw[0] != kind:
        raise ValueError(f"not an Ed25519 key of type {kind:#04x}")
    key_hash = hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4]
    if key_hash.hex() != hash_hex:
        raise ValueError("the key hash does not belong to this name and key")
    return name, key_hash, raw[1:]


def open_checkpoint(note: str, log_key: str) -> tuple[str, int, bytes]:
    """(origin, tree size, root) of a checkpoint signed by `log_key`; raises `ValueError` with the reason."""
    name, key_hash, public = parse_log_key(log_key)
    body, separator, signatures = note.rpartition("\n\n")
    if not separator:
        raise ValueError("it is not a signed note")
    body += "\n"
    lines = body.split("\n")
    if len(lines) < 4 or lines[0] != name:
        raise ValueError(f"it is not a checkpoint of {name}")
    for line in signatures.split("\n"):
        parts = line.split(" ")
        if len(parts) == 3 and parts[0] == "\u2014" and parts[1] == name:
            raw = base64.b64decode(parts[2], validate=True)
            if raw[:4] == key_hash and ed25519_verify(public, raw[4:], body.encode()):
                root = base64.b64decode(lines[2], validate=True)
                size = lines[1]
                if not (size.isascii() and size.isdigit() and len(size) < 20) or len(root) != 32:
                    raise ValueError("its size or root is malformed")
                return name, whole(int(size)), root
    raise ValueError("no valid signature of the log")


def cosigned_at(note: str, witness_key: str) -> int:
    """When (POSIX seconds) a witness cosigned a checkpoint, C2SP tlog-cosignature v1; raises `ValueError`."""
    name, key_hash, public = parse_log_key(witness_key, WITNESS_KEY)
    body, _, signatures = note.rpartition("\n\n")
    for line in signatures.split("\n"):
        parts = line.split(" ")
        if len(parts) == 3 and parts[0] == "\u2014" and parts[1] == name:
            raw = base64.b64decode(parts[2], validate=True)
            when = int.from_bytes(raw[4:12], "big")
            message = f"cosignature/v1\ntime {when}\n{body}\n".encode()
            if raw[:4] == key_hash and when < 1 << 36 and ed25519_verify(public, raw[12:], message):
                return when
    raise ValueError(f"it has no valid cosignature of {name}")


# --- Records: docs/formats/record.md ---

HEADER = struct.Struct(">4sBBQQ32s32s32sIB")
DECISION, EVENT = 0, 1


class Header:
    """The fields of a record header that are checked here; raises `ValueError` for other bytes."""

    __slots__ = (
        "commitment",
        "index",
        "kind",
        "release",
        "retention",
        "rules",
        "sealed",
        "time_ns",
        "use_case",
    )

    def __init__(self, data: bytes) -> None:
        if len(data) < HEADER.size + 33:
            raise ValueError("a record header is too short")
        magic, self.kind, flags, self.index, self.time_ns, self.commitment, release, rules, _, n = (
            HEADER.unpack_from(data)
        )
        end = HEADER.size + n
        if (
            magic != b"FDH1"
            or self.kind > 1
            or flags > 1
            or end >= len(data) - 32
            or end + 1 + data[end] + 32 != len(data)
        ):
            raise ValueError("not a record header of version 1")
        self.sealed = flags == 1
        self.release, self.rules = named_digest(release), named_digest(rules)
        self.use_case = data[HEADER.size : end].decode()
        self.retention = data[end + 1 : -32].decode()


def named_digest(raw: bytes) -> str:
    return "" if raw == bytes(32) else "sha256:" + raw.hex()


# --- Canonical JSON, RFC 8785 ---


def canonical(value: Any, depth: int = 0) -> str:
    """The one spelling of a JSON value that digests and signatures are over."""
    if depth > MAX_DEPTH:
        raise ValueError("a JSON value is nested too deep")
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, (int, float)):
        return number(value)
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be"))
        return "{" + ",".join(f"{canonical(n)}:{canonical(value[n], depth + 1)}" for n in names) + "}"
    return "[" + ",".join(canonical(item, depth + 1) for item in value) + "]"


def number(value: int | float) -> str:
    """A number as ECMAScript prints it."""
    if isinstance(value, int) and abs(value) < 2**53:
        return str(value)
    mantissa, _, exponent = repr(abs(float(value))).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = int(exponent or 0) + len(whole) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    sign, count = "-" if value < 0 else "", len(digits)
    if not digits:
        return "0"
    if count <= point <= 21:
        return sign + digits + "0" * (point - count)
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    return f"{sign}{digits[0]}{'.' + digits[1:] if count > 1 else ''}e{point - 1:+d}"


def digest_of(raw: bytes) -> str:
    return "sha256:" + hashlib.sha256(raw).hexdigest()


# --- Who approved what, and what was live: docs/formats/release.md ---

STATEMENT = b"fiduciary.statement/1\n"
MAX_AGE_NS = 86_400 * 10**9
"""Longest time between signing a statement and recording it."""
ROLES = {"developer", "validator", "operator", "officer", "auditor", "application"}
GOVERNING = {
    "party.enrolled": ({"officer"}, True),
    "party.removed": ({"officer"}, True),
    "usecase.defined": ({"officer"}, True),
    "release.proposed": ({"developer"}, True),
    "release.checked": ({"developer", "validator", "operator"}, False),
    "release.approved": ({"validator"}, True),
    "release.rejected": ({"validator", "developer"}, True),
    "release.promoted": ({"operator"}, False),
    "release.shadowed": ({"operator"}, False),
    "release.suspended": ({"operator", "officer", "validator"}, False),
    "release.resumed": ({"operator"}, True),
    "release.rolled_back": ({"operator"}, False),
    "release.retired": ({"operator"}, False),
    "pack.adopted": ({"officer"}, True),
    "pack.withdrawn": ({"officer"}, True),
    "rules.resolved": (ROLES, False),
    "attestation.filed": ({"officer", "validator", "developer", "operator", "auditor"}, True),
    "finding.raised": ({"validator", "officer", "auditor"}, True),
    "finding.closed": ({"validator", "officer"}, True),
    "waiver.granted": ({"officer", "validator"}, True),
    "overlay.set": ({"officer", "validator"}, True),
    "overlay.ended": ({"officer", "validator"}, True),
}
"""Event -> (roles of which the signer must hold one, must it be a person)."""
MAY_BE_UNSIGNED = {"release.suspended", "rules.resolved"}
ENDS = ("retired", "suspended", "rejected")
PARTY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+:/|=~#-]{0,127}")
RELEASE_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
USE_CASE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
SLUG = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
RULE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,39}")
DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
STAGES = ("release", "serve", "watch", "evidence")
SEVERITIES = ("block", "warn", "record")
REVIEW_TYPE = b"application/vnd.fiduciary.pack-review+json"
BOOK = ("use_case", "rules", "packs", "resolver", "in_force", "obligations", "valid_from", "valid_until")
"""Members of rules.resolved that make up the rulebook."""
MAX_TEXT = 2_000
MAX_RESULTS = 500
MAX_WAIVER_DAYS = 366
MAX_BOOK_RULES = 2_000


def require(holds: Any, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


def require_text(payload: dict[str, Any], name: str, *, given: bool = False) -> None:
    text = payload.get(name, "")
    require(isinstance(text, str) and len(text) <= MAX_TEXT, f"{name} is not a short text")
    require(text.strip() or not given, f"it gives no {name}")


def require_match(pattern: re.Pattern[str], text: Any, otherwise: str) -> None:
    require(isinstance(text, str) and pattern.fullmatch(text), otherwise)


def require_date(text: Any, otherwise: str) -> None:
    require_match(DATE, text, otherwise)
    start_of(text)


def start_of(day: str) -> int:
    """The first nanosecond of a UTC date, since 1970; raises `ValueError`."""
    return int(datetime.strptime(day + "+0000", "%Y-%m-%d%z").timestamp()) * 10**9


def day_of(time_ns: int, later: int = 0) -> str:
    """The UTC date of a time, `later` days on."""
    return datetime.fromtimestamp(time_ns // 10**9 + later * 86_400, timezone.utc).strftime("%Y-%m-%d")


def key_id(public: str) -> str:
    return hashlib.sha256(bytes.fromhex(public)).hexdigest()[:16]


class History:
    """The governed state over time, from the control log's events in order. Bad events change nothing."""

    def __init__(self, scope: str) -> None:
        self.scope = scope
        self.parties: dict[str, dict[str, Any] | None] = {}
        """Present enrolment by name; None after removal."""
        self.key_owner: dict[str, str] = {}
        self.nonces: set[str] = set()
        self.rules: dict[str, dict[str, Any]] = {}
        """Every version of every use case, by digest."""
        self.in_force: dict[str, dict[str, Any]] = {}
        """The present version of every use case, by name."""
        self.releases: dict[str, dict[str, Any]] = {}
        self.served: dict[str, list[str]] = {}
        self.shadows: set[str] = set()
        self.live_spans: dict[str, list[tuple[int, str | None]]] = {}
        """By use case: (from ns, digest of the release that may answer from then on)."""
        self.rule_spans: dict[str, list[tuple[int, str | None]]] = {}
        """By use case: (from ns, digest of the cut-offs in force from then on)."""
        self.packs: dict[str, dict[str, Any]] = {}
        """The packs in force, by name: the payload of the event that adopted each."""
        self.adopted: list[dict[str, Any]] = []
        """Every adoption that holds, with the time it began and ended."""
        self.books: dict[str, dict[str, Any]] = {}
        """Every rulebook announced, by digest."""
        self.present_books: dict[str, dict[str, Any]] = {}
        """By use case: the rulebook announced last, until a pack of it or the use case changes."""
        self.book_spans: dict[str, list[tuple[int, str | None]]] = {}
        """By use case: (from ns, digest of the rulebook in force from then on; None: to be resolved first)."""
        self.waivers: list[dict[str, Any]] = []
        self.findings: dict[str, dict[str, Any]] = {}
        self.overlays: dict[str, dict[str, Any]] = {}
        self.refused: list[str] = []
        self.now_ns = 0

    def apply(self, index: int, time_ns: int, payload: dict[str, Any]) -> None:
        self.now_ns, event = time_ns, payload.get("event")
        if not isinstance(event, str) or event not in GOVERNING:
            return
        try:
            who = self._signer(event, payload, time_ns)
            getattr(self, "_" + event.replace(".", "_"))(payload, index, who)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            self.refused.append(f"control event {index} ({event}) does not hold and changes nothing: {error}")
            return
        if "signature" in payload:
            self.nonces.add(payload["nonce"])
        for use_case, history in self.served.items():
            live = history[-1] if history and self._servable(self.releases[history[-1]]) else None
            spans = self.live_spans.setdefault(use_case, [])
            if live != (spans[-1][1] if spans else None):
                spans.append((time_ns, live))

    def live_within(self, use_case: str, since: int, until: int) -> set[str]:
        """Releases that might answer for a use case at some moment of [since, until] (ns)."""
        return within(self.live_spans.get(use_case, []), since, until)

    def rules_within(self, use_case: str, since: int, until: int) -> set[str]:
        """Digests of the cut-offs that were in force for a use case at some moment of [since, until] (ns)."""
        return within(self.rule_spans.get(use_case, []), since, until)

    def books_within(self, use_case: str, since: int, until: int) -> set[str | None]:
        """Rulebooks in force for a use case at some moment of [since, until] (ns), by digest.

        Empty text: it named no packs then. None: it named packs, and the rules were not resolved.
        """
        spans = self.book_spans.get(use_case, [])
        found: set[str | None] = set()
        if not spans or since < spans[0][0]:
            found.add("")
        for i, (start, digest) in enumerate(spans):
            end = spans[i + 1][0] if i + 1 < len(spans) else MAX_TREE
            last = self.books[digest]["valid_until"] if digest else ""
            lapse = start_of(last) if last else MAX_TREE
            if start <= until and min(end, lapse) > since:
                found.add(digest)
            if lapse < end and lapse <= until and end > since:
                found.add(None)
        return found

    def blocked(self, release: dict[str, Any], digest: str) -> str:
        """Why the latest check run keeps a release from approval and service now; empty when it does not."""
        use_case, today = release["use_case"], day_of(self.now_ns)
        if release["checks"] is None:
            return "the release has not been checked"
        if self.in_force[use_case].get("packs"):
            book = self.book_on(use_case, today)
            if book is None or release["rulebook"] != book["rulebook"]:
                return "the rules in force are not the ones that the release was checked on"
        for r in release["results"]:
            if r.get("severity", "block") != "block" or r["ok"] is True:
                continue
            lifted = "rule" in r and any(
                w["release"] == digest and w["rule"] == r["rule"] and today < w["expires"]
                for w in self.waivers
            )
            if not lifted:
                what = f"rule {r['rule']}" if "rule" in r else str(r["name"])
                return f"its checks are not green: {what} is not met, and no waiver in force lifts it"
        return ""

    def book_on(self, use_case: str, day: str) -> dict[str, Any] | None:
        book = self.present_books.get(use_case)
        if book is None or book["valid_from"] > day:
            return None
        return None if book["valid_until"] and day >= book["valid_until"] else book

    def state(self, digest: str) -> str:
        """The one word for a release's state after all events."""
        release = self.releases[digest]
        for word in ENDS:
            if release[word]:
                return word
        spans = self.live_spans.get(release["use_case"])
        if spans and spans[-1][1] == digest:
            return "live"
        if digest in self.shadows:
            return "shadow"
        if release["approved"]:
            return "approved"
        return "checked" if release["checks"] and release["checks"][1] else "proposed"

    @staticmethod
    def _servable(release: dict[str, Any]) -> bool:
        return release["approved"] and not any(release[word] for word in ENDS)

    def _signer(self, event: str, payload: dict[str, Any], time_ns: int) -> dict[str, Any] | None:
        by = payload["by"]
        require(isinstance(by, str) and PARTY_NAME.fullmatch(by), "it does not say who acts")
        if "signature" not in payload and event in MAY_BE_UNSIGNED:
            return None
        require(payload["scope"] == self.scope, f"it was signed for {payload['scope']!r}")
        signed = datetime.strptime(payload["signed"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
        require(abs(int(signed.timestamp()) * 10**9 - time_ns) <= MAX_AGE_NS, "it was signed at another time")
        nonce = payload["nonce"]
        require(len(nonce) == 32 and not set(nonce) - set("0123456789abcdef"), "it has no nonce")
        require(nonce not in self.nonces, "its statement was used before")
        if event == "party.enrolled" and not self.parties:
            require(
                payload["party"] == by and usable_key(payload["public"]), "the first party is not its own"
            )
            who: dict[str, Any] | None = payload
        else:
            who = self.parties.get(by)
        if who is None:
            raise ValueError(f"{by} is not enrolled")
        roles, person = GOVERNING[event]
        require(payload["key"] == key_id(who["public"]), f"the key named is not {by}'s")
        require(roles & set(who["roles"]), f"{by} has no role for it")
        require(who["kind"] == "person" or not person, f"{by} is a service; this takes a person")
        statement = {name: value for name, value in payload.items() if name != "signature"}
        message = STATEMENT + canonical(statement).encode()
        holds = ed25519_verify(bytes.fromhex(who["public"]), decode64(payload["signature"]), message)
        require(holds, f"the signature is not {by}'s")
        return who

    def _party_enrolled(self, p: dict[str, Any], index: int, who: dict[str, Any]) -> None:
        name, roles, by = p["party"], p["roles"], p["by"]
        require(isinstance(name, str) and PARTY_NAME.fullmatch(name), "the party has no name")
        require(usable_key(p["public"]), "the public key is not usable")
        require(p["kind"] in ("person", "service"), "a party is a person or a service")
        require(isinstance(roles, list), "the roles are not right")
        require(roles and len(set(roles)) == len(roles) and set(roles) <= ROLES, "the roles are not right")
        require(self.key_owner.get(p["public"], name) == name, "the key belongs to another party")
        before = self.parties.get(name)
        if name == by and self.parties:
            same = before is not None and before["roles"] == roles and before["kind"] == p["kind"]
            require(same, f"{by} changes the own roles")
        enrolled_by = before["enrolled_by"] if before and name == by else by
        self.parties[name] = {**p, "enrolled_by": enrolled_by}
        self.key_owner[p["public"]] = name

    def _party_removed(self, p: dict[str, Any], index: int, who: dict[str, Any]) -> None:
        name = p["party"]
        require(self.parties.get(name), f"{name} is not enrolled")
        left = [q for n, q in self.parties.items() if q and n != name and "officer" in q["roles"]]
        require(left, "the last officer cannot be removed")
        require_text(p, "reason")
        self.parties[name] = None

    def _usecase_defined(self, p: dict[str, Any], index: int, who: dict[str, Any]) -> None:
        document = p["document"]
        name, approve, decline = document["name"], document["approve_below"], document["decline_from"]
        require(
            p["use_case"] == name and isinstance(name, str), "it names another use case than its document"
        )
        require(USE_CASE_NAME.fullmatch(name), "the use case has no name")
        require(digest_of(canonical(document).encode()) == p["digest"], "its digest is not the document's")
        require(document["adverse"] in ("high", "low"), "adverse is high or low")
        high = document["adverse"] == "high"
        require(approve <= decline if high else approve >= decline, "the cut-offs cross")
        require(
            document["reasons"] in ("always", "adverse"), "reasons are given always or on adverse outcomes"
        )
        require(whole(document["approvals"], 9) >= 1, "a release needs an approval")
        require(whole(document["reason_count"], 33) >= 1, "reason_count is 1 to 32")
        self.rules[p["digest"]] = document
        self.in_force[name] = document
        self.served.setdefault(name, [])
        self.rule_spans.setdefault(name, []).append((self.now_ns, p["digest"]))
        self._unresolve(name)

    def _release(self, p: dict[str, Any]) -> dict[str, Any]:
        release = self.releases[p["release"]]
        require(p["use_case"] == release["use_case"], "the release was made for another use case")
        require(not release["retired"], "the release is retired")
        return release

    def _release_proposed(self, p: dict[str, Any], index: int, who: dict[str, Any]) -> None:
        require(p["release"] not in self.releases, "it was proposed before")
        require(RELEASE_DIGEST.fullmatch(p["release"]), "it names no release")
        require(p["use_case"] in self.in_force, "its use case is not defined")
        said = (p["name"], p["version"], p["family"], *p["signers"])
        require(all(isinstance(text, str) for text in said), "it does not describe the release")
        require(isinstance(p["signers"], list), "it does not say who signed the bundle")
        require(p["key"] in p["signers"], "the proposer has not signed the bundle")
        require_text(p, "note")
        self.releases[p["release"]] = {
            "use_case": p["use_case"],
            "author": p["by"],
            "author_key": who["public"],
            "signers": p["signers"],
            "checks": None,
            "results": [],
            "rulebook": "",
            "approvals": [],
            "approved": False,
            "rejected": False,
            "suspended": False,
            "retired": False,
        }

    def _release_checked(self, p: dict[str, Any], index: int, who: dict[str, Any]) -> None:
        release, results = self._release(p), p["results"]
        require(not release["rejected"], "the release was rejected")
        require(isinstance(results, list) and 0 < len(results) <= MAX_RESULTS, "it has no results")
        for r in results:
            ruled = "rule" in r
            require(isinstance(r["name"], str), "a result does not say what it is of")
            if ruled:
                require_match(RULE_ID, r["rule"], "a result's rule has no id")
            require(
                isinstance(r["ok"], bool) or (ruled and r["ok"] is None), "a result is neither ok nor not"
            )
            known = SEVERITIES if ruled else ("block", "warn")
            require(r.get("severity", "block") in known, "a severity is unknown")
        green = all(r["ok"] is True or r.get("severity") in ("warn", "record") for r in results)
        require(p["green"] is green, "it calls itself green and is not, or the other way round")
        self._covers(release, results, p.get("rulebook", ""))
        release["checks"] = (index, green)
        release["results"], release["rulebook"] = results, p.get("rulebook", "")

    def _covers(self, release: dict[str, Any], results: list[dict[str, Any]], digest: Any) -> None:
        """A run that names a rulebook is of the one in force, and leaves none of its release rules out."""
        require(isinstance(digest, str), "its rulebook is not a digest")
        ruled = {r["rule"]: r for r in results if "rule" in r}
        if not digest:
            require(not ruled, "it has results of rules and names no rulebook")
            return
        book = self.book_on(release["use_case"], day_of(self.now_ns))
        require(book and digest == book["rulebook"], "it is on another rulebook than the one in force")
        for rule in book["in_force"] if book else []:
            if rule["stage"] == "release":
                result = ruled.get(rule["rule"])
                require(result, f"it leaves out rule {rule['rule']}")
                same = result is not None and result.get("severity", "block") == rule["severity"]
                require(same, f"it gives rule {rule['rule']} another severity")

    def _release_approved(self, p: dict[str, Any], index: int, who: dict[str, Any]) -> None:
        release, by = self._release(p), p["by"]
        own = by == release["author"] or who["public"] == release["author_key"]
        require(not own and p["key"] not in release["signers"], "the author approves the own release")
        require(who["enrolled_by"] != release["author"], "the author enrolled the approver")
        require(not release["rejected"] and not release["suspended"], "the release is rejected or suspended")
        blocked = self.blocked(release, p["release"])
        require(not blocked, blocked)
        require(release["checks"][0] == p["checked"], "it is not about the latest checks")
        require(by not in release["approvals"], f"{by} has approved before; it counts once")
        require_text(p, "note")
        release["approvals"].append(by)
        needed = self.in_force[release["use_case"]]["approvals"]
        release["approved"] = release["approved"] or len(release["approvals"]) >= needed

    def _release_rejected(self, p: dict[str, Any], index: int, who: dict[str, Any]) -> None:
        release = self._release(p)
        allowed = p["by"] == release["author"] or "validator" in who["roles"]
        require(allowed and not release["rejected"], "by neither a validator nor the author, or done before")
        require(p["release"] not in self.served[release["use_case"]], "the release has been live")
        require_text(p, "reason", given=True)
        release["rejected"] = True
        self.shadows.discard(p["release"])

    def _to_use(self, p: dict[str, Any]) -> dict[str, Any]:
        release = self._release(p)
        require(p["by"] != release["author"], "its author puts it into service")
        needed = self.in_force[release["use_case"]]["approvals"]
        enough = len(release["approvals"]) >= needed
        require(self._servable(release) and enough, "the release may not go live")
        blocked = self.blocked(release, p["release"])
        require(not blocked, blocked)
        spans = self.live_spans.get(release["use_case"])
        require(not spans or spans[-1][1] != p["release"], "the release is live already")
        require_text(p, "note")
        return release

    def _release_promoted(self, p: dict[str, Any], index: int, who: dict[str, Any]) -> None:
        self.served[self._to_use(p)["use_case"]].append(p["release"])
        self.shadows.discard(p["release"])

    def _release_shadowed(self, p: dict[str, Any], index: int, who: dict[str, Any]) -> None:
        self._to_use(p)
        require(p["release"] not in self.shadows, "the release is a shadow already")
        self.shadows.add(p["release"])

    def _release_suspended(self, p: dict[str, Any], index: int, who: dict[str, Any] | None) -> None:
        release = self._release(p)
        require(not release["suspended"], "the release is suspended already")
        require_text(p, "reason", given=True)
        release["suspended"] = True

    def _release_resumed(self, p: dict[str, Any], index: int, who: dict[str, Any]) -> None:
        release = self._release(p)
        require(release["suspended"] and p["by"] != release["author"], "not suspended, or by its author")
        require_text(p, "reason", given=True)
        release["suspended"] = False

    def _release_rolled_back(self, p: dict[str, Any], index: int, who: dict[str, Any]) -> None:
        history = self.served[self._release(p)["use_case"]]
        require(p["from"] == history[-1], "it does not start from the last release")
        earlier = [d for d in history if d != history[-1] and self._servable(self.releases[d])]
        require(earlier and earlier[-1] == p["release"], "there is no such release to go back to")
        require_text(p, "reason", given=True)
        while history[-1] != p["release"]:
            history.pop()
        self.shadows.discard(p["release"])

    def _release_retired(self, p: dict[str, Any], index: int, who: dict[str, Any]) -> None:
        release = self._release(p)
        require_text(p, "reason", given=True)
        release["retired"] = True
        self.shadows.discard(p["release"])

    # packs, rulebooks, and what people say beside approving: registry/_oversight.py

    def _unresolve(self, use_case: str) -> None:
        """The rules must be resolved anew before they are named."""
        self.present_books.pop(use_case, None)
        spans = self.book_spans.setdefault(use_case, [])
        if self.in_force[use_case].get("packs") or spans:
            spans.append((self.now_ns, None if self.in_force[use_case].get("packs") else ""))

    def _end_pack(self, pack: str) -> None:
        present = self.packs.pop(pack, None)
        if present is not None:
            present["until_ns"] = self.now_ns
        for use_case, document in self.in_force.items():
            if pack in document.get("packs", []):
                self._unresolve(use_case)

    def _pack_adopted(self, p: dict[str, Any], index: int, who: dict[str, Any]) -> None:
        document = p["document"]
        require_match(SLUG, p["pack"], "it names no pack")
        require_match(VERSION, p["version"], "it names no version")
        require(isinstance(document, dict), "it does not carry the pack's document")
        same = document.get("pack") == p["pack"] and document.get("version") == p["version"]
        require(same, "it names another pack or version than its document")
        own = digest_of(canonical(document).encode())
        require(
            own == p["digest"], f"the document of pack {p['pack']} is forged: it is not the one of its digest"
        )
        present = self.packs.get(p["pack"])
        require(present is None or present["digest"] != p["digest"], "this version is in force already")
        self._review(p)
        require_text(p, "note")
        self._end_pack(p["pack"])
        known = {name: p[name] for name in ("pack", "version", "digest", "document")}
        self.packs[p["pack"]] = {**known, "since_ns": self.now_ns, "until_ns": MAX_TREE}
        self.adopted.append(self.packs[p["pack"]])

    def _review(self, p: dict[str, Any]) -> None:
        """A pack that says counsel reviewed it comes with a signature of that, not by who adopts it."""
        document, review = p["document"], p.get("review")
        counsel = document.get("reviewed_by_counsel")
        if counsel is None:
            require(review is None, "the pack says of no review, and the event brings one")
            return
        if not isinstance(review, dict):
            raise ValueError(f"pack {p['pack']} says that counsel reviewed it, and nobody signed that")
        owner = self.key_owner.get(review["public"])
        require(owner is not None, "the review is signed with a key that nobody was enrolled with")
        require(owner != p["by"], f"{owner} signed the review and adopts the pack")
        name = counsel.get("name") if isinstance(counsel, dict) else None
        said = {"pack": p["pack"], "version": p["version"], "digest": p["digest"], "counsel": name}
        payload = canonical(said).encode()
        signed = b"DSSEv1 %d %s %d %s" % (len(REVIEW_TYPE), REVIEW_TYPE, len(payload), payload)
        holds = ed25519_verify(bytes.fromhex(review["public"]), decode64(review["signature"]), signed)
        require(holds, f"the signature of the review is not {owner}'s for this pack")

    def _pack_withdrawn(self, p: dict[str, Any], index: int, who: dict[str, Any]) -> None:
        require(isinstance(p["pack"], str) and p["pack"] in self.packs, "the pack is not in force")
        require_text(p, "reason", given=True)
        self._end_pack(p["pack"])

    def _rules_resolved(self, p: dict[str, Any], index: int, who: dict[str, Any] | None) -> None:
        use_case, until = p["use_case"], p["valid_until"]
        document = self.in_force[use_case]
        require(p["rules"] == self.rule_spans[use_case][-1][1], "it is for another version of the use case")
        own = digest_of(canonical({name: p.get(name) for name in BOOK}).encode())
        require(p["rulebook"] == own, "its digest is not that of the rulebook")
        packs = document.get("packs", [])
        wanted = [{n: self.packs[name][n] for n in ("pack", "version", "digest")} for name in packs]
        require(wanted and p["packs"] == wanted, "the rulebook is of other packs than those in force")
        require_date(p["valid_from"], "valid_from is not a date")
        if until != "":
            require_date(until, "valid_until is not a date")
        today = day_of(self.now_ns)
        require(
            p["valid_from"] <= today and not (until and today >= until), "the rulebook is not in force today"
        )
        require(isinstance(p["obligations"], dict), "it does not say what binds the serving path")
        rules = p["in_force"]
        require(isinstance(rules, list) and len(rules) <= MAX_BOOK_RULES, "it does not list its rules")
        seen = set()
        for rule in rules:
            require_match(RULE_ID, rule["rule"], "a rule has no id")
            require(isinstance(rule["pack"], str) and rule["pack"] in packs, "a rule is of another pack")
            known = rule["stage"] in STAGES and rule["severity"] in SEVERITIES
            require(known, f"rule {rule['rule']} does not say its stage and severity")
            require(rule["rule"] not in seen, f"rule {rule['rule']} stands twice")
            seen.add(rule["rule"])
        book = {**p, "since_ns": self.now_ns, "index": index}
        book["documents"] = [self.packs[name]["document"] for name in packs]
        book["use_case_document"] = document
        self.books.setdefault(p["rulebook"], book)
        self.present_books[use_case] = book
        self.book_spans.setdefault(use_case, []).append((self.now_ns, p["rulebook"]))

    def _about(self, p: dict[str, Any], anywhere: bool = False) -> None:
        name, digest = p.get("use_case", ""), p.get("release", "")
        if name == "" and digest == "" and anywhere:
            return
        require(isinstance(name, str) and name in self.in_force, "its use case is not defined")
        if digest != "":
            known = isinstance(digest, str) and self.releases.get(digest)
            require(known and known["use_case"] == name, "the release is not one of the use case")

    def _attestation_filed(self, p: dict[str, Any], index: int, who: dict[str, Any]) -> None:
        require_match(SLUG, p["kind"], "it has no kind")
        self._about(p, anywhere=True)
        require_match(RELEASE_DIGEST, p["digest"], "it names no document")
        expires = p.get("expires", "")
        if expires != "":
            require_date(expires, "expires is not a date")
            require(expires > day_of(self.now_ns), "it has expired")
        require_text(p, "title", given=True)
        require_text(p, "note")

    def _finding_raised(self, p: dict[str, Any], index: int, who: dict[str, Any]) -> None:
        require_match(LABEL, p["finding"], "it has no id")
        require(p["finding"] not in self.findings, "it was raised before")
        require(p["severity"] in ("high", "medium", "low"), "its severity is unknown")
        if p.get("due", "") != "":
            require_date(p["due"], "due is not a date")
        self._about(p)
        require_text(p, "title", given=True)
        require_text(p, "note")
        self.findings[p["finding"]] = {**p, "closed": False}

    def _finding_closed(self, p: dict[str, Any], index: int, who: dict[str, Any]) -> None:
        finding = self.findings[p["finding"]]
        require(finding["use_case"] == p.get("use_case"), "the finding is of another use case")
        require(not finding["closed"], "it was closed before")
        about = self.releases.get(finding.get("release", ""))
        require(about is None or about["author"] != p["by"], "the author of the release closes the finding")
        require_text(p, "reason", given=True)
        finding["closed"] = True

    def _waiver_granted(self, p: dict[str, Any], index: int, who: dict[str, Any]) -> None:
        release, by = self._release(p), p["by"]
        own = by == release["author"] or who["public"] == release["author_key"]
        require(not own and p["key"] not in release["signers"], "a waiver by the author of the release")
        require(who["enrolled_by"] != release["author"], "a waiver by somebody whom the author enrolled")
        require_match(RULE_ID, p["rule"], "it names no rule")
        require_date(p["expires"], "it has no end")
        last = day_of(self.now_ns, MAX_WAIVER_DAYS)
        require(day_of(self.now_ns) < p["expires"] <= last, "its end is past, or too far away")
        require_text(p, "reason", given=True)
        self.waivers.append(p)

    def _overlay_set(self, p: dict[str, Any], index: int, who: dict[str, Any]) -> None:
        require_match(LABEL, p["overlay"], "it has no id")
        require(p["overlay"] not in self.overlays, "it was set before")
        require_date(p["expires"], "it has no end")
        require(p["expires"] > day_of(self.now_ns), "its end is past")
        self._about(p)
        require_text(p, "title", given=True)
        require_text(p, "reason", given=True)
        self.overlays[p["overlay"]] = {**p, "ended": False}

    def _overlay_ended(self, p: dict[str, Any], index: int, who: dict[str, Any]) -> None:
        overlay = self.overlays[p["overlay"]]
        require(overlay["use_case"] == p.get("use_case") and not overlay["ended"], "there is no such overlay")
        require_text(p, "reason", given=True)
        overlay["ended"] = True


def within(spans: list[tuple[int, str | None]], since: int, until: int) -> set[str]:
    """Values in force at some moment of [since, until]; each span lasts until the next begins."""
    found: set[str] = set()
    current: str | None = None
    for start, value in spans:
        if start > until:
            break
        if start > since and current:
            found.add(current)
        current = value
    return found | {current} if current else found


# --- Scorecards: docs/formats/scorecard.md ---

LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
TAYLOR = [1.0 / math.factorial(n) for n in range(13, -1, -1)]


def logistic(margin: float) -> float:
    """1 / (1 + exp(-margin)) in basic IEEE operations, the same bits as the gate's."""
    x = min(max(-margin, -700.0), 700.0)
    k = float(round(x * 1.4426950408889634))
    r = (x - k * LN2_HIGH) - k * LN2_LOW
    p = TAYLOR[0]
    for c in TAYLOR[1:]:
        p = p * r + c
    return 1.0 / (1.0 + math.ldexp(p, int(k)))


class Scorecard:
    """A scorecard release's points, bins, baseline and reason texts."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.contract = read_json(files["contract.json"])["features"]
        self.card = read_json(files["model/scorecard.json"])
        self.baseline = read_json(files["baseline.json"])

    @classmethod
    def of(cls, files: dict[str, bytes]) -> Scorecard | None:
        """The scorecard of a release, or None when it is of another family."""
        return cls(files) if read_json(files["model/model.json"])["family"] == "scorecard" else None

    def decide(
        self, rules: dict[str, Any], features: dict[str, Any]
    ) -> tuple[str, float, float, float, list[dict[str, Any]]]:
        """(outcome, score, margin, baseline margin, reasons) of a row under a version of the use case."""
        card, baseline = self.card, self.baseline
        margin = card["intercept"]
        groups: dict[str, list[Any]] = {}
        for feature, bins, mean in zip(self.contract, card["features"], baseline["contributions"]):
            value, weights = features.get(feature["name"]), bins["weights"]
            if value is None:
                weight = bins["missing"]
            elif feature["type"] == "category":
                weight = weights[bins["categories"].index(value)]
            elif feature["type"] == "boolean":
                weight = weights[int(value)]
            else:
                weight = weights[bisect_right(bins.get("edges", []), float(value))]
            margin += weight
            group = groups.setdefault(feature.get("group") or feature["name"], [None, ""])
            group[0] = weight - mean if group[0] is None else group[0] + (weight - mean)
            group[1] = group[1] or feature.get("reason", "")
        score = logistic(margin) if card["link"] == "logit" else margin
        high, outcome = rules["adverse"] == "high", cut_off(rules, score)
        ranked = sorted(groups.items(), key=lambda item: -item[1][0] if high else item[1][0])
        reasons = [
            {"code": code, "text": text or plain(code), "contribution": total}
            for code, (total, text) in ranked[: rules["reason_count"]]
            if (total > 0 if high else total < 0)
        ]
        return outcome, score, margin, baseline["margin"], reasons


def cut_off(rules: dict[str, Any], score: float) -> str:
    """The outcome by the cut-offs of a use case."""
    approve, decline = rules["approve_below"], rules["decline_from"]
    if rules["adverse"] == "high":
        return "approve" if score < approve else "decline" if score >= decline else "refer"
    return "approve" if score > approve else "decline" if score <= decline else "refer"


# --- The rules of the day: docs/serving-rules.md; the same as decision/_duties.py ---


def inadmissible(duties: dict[str, Any], rules: dict[str, Any], decision: dict[str, Any]) -> str:
    """Why a decision should have been refused under these duties; empty when it might be made."""
    purpose, basis = decision.get("purpose", ""), rules.get("lawful_basis", "")
    same = purpose == rules["name"] or plain_words(purpose) == plain_words(rules["purpose"])
    if (purpose and not same) or (not purpose and duties.get("purpose_required")):
        return "it states no purpose, or another than the use case's"
    if duties.get("lawful_bases") is not None and basis not in duties["lawful_bases"]:
        return f"the lawful basis {basis or 'none'} is not accepted"
    if decision.get("basis", "") != basis:
        return "it names another lawful basis than its use case"
    if (duties.get("consent_required") or basis == "consent") and not decision.get("consent"):
        return "it names no consent"
    for allowed in (duties.get("residency"), rules.get("regions") or None):
        if allowed is not None and not inside(decision.get("region", ""), allowed):
            return f"region {decision.get('region', '')!r} is not allowed"
    return ""


def plain_words(text: str) -> str:
    return " ".join(text.casefold().split())


def inside(region: str, allowed: list[str]) -> bool:
    low = region.casefold()
    return any(low == a.casefold() or low.startswith(a.casefold() + "-") for a in allowed)


def referral(
    duties: dict[str, Any],
    rules: dict[str, Any],
    decision: dict[str, Any],
    outcome: str,
    reasons: list[dict[str, Any]],
) -> str:
    """The rule that gives a decision to a person; empty when the outcome of the cut-offs stands."""
    if outcome == "refer":
        return ""
    if decision.get("opted_out"):
        return duties.get("opt_out") or "opted-out"
    if outcome == "decline":
        ground = rules.get("automated_ground", "")
        if duties.get("referral") and (not ground or (ground == "consent" and not decision.get("consent"))):
            return str(duties["referral"])
        if len(reasons) < duties.get("reasons_min", 0):
            return "reasons"
    return ""


def notices(duties: dict[str, Any], outcome: str) -> list[dict[str, Any]]:
    """The notices due after an outcome, as records name them."""
    found = []
    for n in duties.get("notices", []):
        if n.get("when", "adverse") == "always" or outcome == "decline":
            days = n.get("within_days")
            found.append(
                {"code": n["code"], "rule": n["rule"], **({} if days is None else {"within_days": days})}
            )
    return found


def reason_count(duties: dict[str, Any], rules: dict[str, Any]) -> int:
    """How many reasons are given at most."""
    count = max(rules["reason_count"], duties.get("reasons_min", 0))
    most = duties.get("reasons_max", 0)
    return min(count, most) if most else int(count)


def plain(name: str) -> str:
    words = name
    for mark in "_-.":
        words = words.replace(mark, " ")
    words = " ".join(words.split()) or name
    return words[0].upper() + words[1:]


# --- Which rules bind on a day: docs/packs.md; the same as rules/_resolve.py and rules/_obligations.py ---

PACK_FORMAT, RESOLVER = "fiduciary.pack/1", "fiduciary.resolve/1"
PREVIEW = ("proposed", "deferred", "adopted")
STRICTER = {"record": 0, "warn": 1, "block": 2}
DURATION = re.compile(
    r"P(?=\d|T\d)(?:(\d{1,4})Y)?(?:(\d{1,4})M)?(?:(\d{1,4})W)?(?:(\d{1,5})D)?"
    r"(?:T(?=\d)(?:(\d{1,5})H)?(?:(\d{1,5})M)?(?:(\d{1,6})S)?)?"
)


def resolve_rules(packs: list[dict[str, Any]], use_case: dict[str, Any], day: str) -> dict[str, Any]:
    """The rulebook that pack documents give for a use case on a UTC date: the members of rules.resolved."""
    bound: dict[str, dict[str, Any]] = {}
    params: dict[str, dict[str, Any]] = {}
    days: set[str] = set()
    for pack in sorted(packs, key=lambda pack: str(pack["pack"])):
        for rule in pack["rules"]:
            if not rule_applies(rule.get("applies", {}), use_case):
                continue
            effective, changes = rule.get("effective", {}), rule.get("changes", [])
            since, until = effective.get("from"), effective.get("to")
            days |= {d for d in (since, until, *(c["from"] for c in changes)) if d}
            if (since and day < since) or (until and day >= until):
                continue
            severity, status, given = rule["severity"], rule["status"], dict(rule.get("params", {}))
            for change in changes:
                if change["from"] <= day:
                    severity = change.get("severity") or severity
                    status = change.get("status") or status
                    given.update(change.get("params", {}))
            if status == "rescinded":
                continue
            if status in PREVIEW and not since:
                severity = "record"
            given.update({name: pack["tables"][table] for name, table in rule.get("tables", {}).items()})
            found = {
                "rule": rule["id"],
                "pack": pack["pack"],
                "version": pack["version"],
                "severity": severity,
            }
            found.update({name: rule[name] for name in ("stage", "check", "cite", "duty")}, status=status)
            other = bound.get(rule["id"])
            if other is None or _strictness(found) > _strictness(other):
                bound[rule["id"]], params[rule["id"]] = found, given
    rules = [bound[name] for name in sorted(bound)]
    serving = [(r, params[r["rule"]]) for r in rules if r["stage"] == "serve" and r["severity"] != "record"]
    kept = [k for pack in sorted(packs, key=lambda p: str(p["pack"])) for k in pack.get("retention", [])]
    return {
        "in_force": rules,
        "obligations": obligations_of(serving, [k for k in kept if k["record"] == "decision"]),
        "valid_from": max((d for d in days if d <= day), default="1970-01-01"),
        "valid_until": min((d for d in days if d > day), default=""),
    }


def _strictness(rule: dict[str, Any]) -> tuple[int, str]:
    return STRICTER[rule["severity"]], rule["pack"]


def rule_applies(scope: dict[str, Any], use_case: dict[str, Any]) -> bool:
    """Does a rule apply? What the use case leaves unsaid never frees it."""
    kind = use_case.get("attributes", {}).get("kind", "")
    wanted = scope.get("use_cases", [])
    if wanted and kind and kind not in wanted and "all" not in wanted:
        return False
    for name, said in (("subjects", use_case.get("subject", "")), ("tiers", use_case.get("tier", ""))):
        if scope.get(name) and said and said not in scope[name]:
            return False
    places, wanted = use_case.get("jurisdictions", []), scope.get("jurisdictions", [])
    return not wanted or not places or any(inside(place, wanted) for place in places)


def obligations_of(
    serving: list[tuple[dict[str, Any], dict[str, Any]]], kept: list[dict[str, Any]]
) -> dict[str, Any]:
    """What the serving rules (with their parameters) and the retention of decisions oblige the gate to."""
    found: dict[str, Any] = {
        "purpose_required": False,
        "lawful_bases": None,
        "consent_required": False,
        "residency": None,
        "referral": "",
        "opt_out": "",
    }
    fewest, most = 0, 0
    due: dict[str, dict[str, Any]] = {}
    least = [_days(k["minimum"], 366, 31, True) for k in kept if k.get("minimum")]
    longest = [_days(k["maximum"], 365, 28, False) for k in kept if k.get("maximum")]
    for rule, given in serving:
        check, name = rule["check"], rule["rule"]
        if check == "refusal.purpose":
            found["purpose_required"] = True
        elif check == "approval.lawful_basis":
            found["lawful_bases"] = _common(found["lawful_bases"], given["accepted"])
        elif check == "refusal.residency":
            found["residency"] = _common(found["residency"], [str(r).casefold() for r in given["regions"]])
        elif check == "oversight.human_review":
            found["referral"] = found["referral"] or name
        elif check == "oversight.opt_out":
            found["opt_out"] = found["opt_out"] or name
        elif check in ("reasons.recorded", "reasons.count"):
            limit = int(given.get("maximum", 4))
            fewest, most = max(fewest, int(given.get("minimum", 1))), min(most, limit) if most else limit
        elif check == "reasons.notice":
            notice = {"code": given["code"], "rule": name, "when": given.get("when", "adverse")}
            notice.update(within_days=given.get("within_days"), letter=given.get("letter", ""))
            due[notice["code"]] = _sooner(due.get(notice["code"]), notice)
        elif check == "retention.minimum":
            least.append(int(given["days"]))
        elif check == "retention.maximum":
            longest.append(int(given["days"]))
    named = [(_days(k["minimum"], 366, 31, True), k["name"]) for k in kept if k.get("minimum")]
    found.update(
        reasons_min=fewest,
        reasons_max=max(most, fewest) if most else 0,
        notices=[due[code] for code in sorted(due)],
        retention_class=max(named)[1] if named else "",
        retention_min_days=max(least, default=None),
        retention_max_days=min(longest, default=None),
    )
    return found


def _common(held: list[str] | None, asked: list[str]) -> list[str]:
    return sorted(set(asked) if held is None else set(held) & set(asked))


def _sooner(a: dict[str, Any] | None, b: dict[str, Any]) -> dict[str, Any]:
    if a is None:
        return b
    days = [n["within_days"] for n in (a, b) if n["within_days"] is not None]
    when = "always" if "always" in (a["when"], b["when"]) else "adverse"
    return {**a, "within_days": min(days, default=None), "when": when, "letter": a["letter"] or b["letter"]}


def _days(text: str, year: int, month: int, up: bool) -> int:
    """An ISO 8601 duration in days; a broken day counts as a whole one (`up`) or as none."""
    match = DURATION.fullmatch(text)
    require(match, f"{text[:40]!r} is no duration")
    years, months, weeks, days, hours, minutes, seconds = (
        (int(g or 0) for g in match.groups()) if match else (0,) * 7
    )
    rest = 3600 * hours + 60 * minutes + seconds
    years, months = years + months // 12, months % 12
    return year * years + month * months + 7 * weeks + days + (-(-rest // 86_400) if up else rest // 86_400)


# --- Pages for people: made from the proved content only, so that the verifier can make them again ---

SHOWN = 200
"""Decisions listed on the page; all of them are in decisions.jsonl."""
ABOUT = ("release.", "usecase.", "party.", "pack.", "waiver.", "finding.", "attestation.", "overlay.")


def pack_views(adopted: list[dict[str, Any]]) -> dict[str, str]:
    """The files of packs/: each rule pack that was adopted, by name, version and digest."""
    return {
        f"packs/{p['pack']}-{p['version']}-{p['digest'][7:19]}.json": json_text(p["document"])
        for p in adopted
    }


def approvals_view(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Who did what to which release or rule: the lines of approvals.jsonl. Packs themselves lie in packs/."""
    return [
        {
            "record": f"control.{e['index']}",
            "time": time_text(e["time_ns"]),
            **{k: v for k, v in e["payload"].items() if k != "document" or "pack" not in e["payload"]},
        }
        for e in events
        if str(e["payload"].get("event", "")).startswith(ABOUT)
    ]


def checks_view(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every result of every release check: the lines of checks.jsonl."""
    return [
        {"record": f"control.{e['index']}", "release": e["payload"]["release"], **result}
        for e in events
        if e["payload"].get("event") == "release.checked"
        for result in e["payload"]["results"]
    ]


def release_view(
    digest: str, manifest: bytes, card: bytes, author: str, approved_by: list[str], state: str
) -> dict[str, Any]:
    """One release as release.json shows it."""
    said = read_json(manifest)
    return {
        "release": digest,
        **{name: said[name] for name in ("name", "version", "family", "use_case")},
        "author": author,
        "approved_by": approved_by,
        "state_when_cut": state,
        "card": card.decode("utf-8"),
    }


def decision_view(
    record: str, time_ns: int, state: str, use_case: str, payload: str | None
) -> dict[str, Any]:
    """One decision as the page shows it; `payload` is the recorded JSON text, or None when it is gone."""
    content = {"outcome": state, "use_case": use_case} if payload is None else read_json(payload)
    return {**content, "id": record, "time": time_text(time_ns)}


def json_text(document: Any) -> str:
    """A JSON file of the folder: one spelling, so that no byte of it is free."""
    return json.dumps(document, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def line_text(document: Any) -> str:
    """A line of a JSON lines file."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n"


def time_text(time_ns: int) -> str:
    """RFC 3339 in UTC with nanoseconds."""
    at = datetime.fromtimestamp(time_ns // 10**9, timezone.utc)
    return at.strftime("%Y-%m-%dT%H:%M:%S") + f".{time_ns % 10**9:09d}Z"


def scope_text(scope: dict[str, Any]) -> str:
    """What the folder is about, in words."""
    if scope["kind"] == "decisions":
        return (
            f"{len(scope['decisions'])} decision(s) asked for by number: {', '.join(scope['decisions'][:20])}"
        )
    period = f"from {time_text(scope['since_ns'])} to {time_text(scope['until_ns'])}"
    return f"all decisions of use case {scope['use_case']} {period}"


STYLE = """
:root{color-scheme:light dark;--ink:#1b2430;--soft:#5b6675;--line:#d6dce4;--paper:#fff;--accent:#1d4e89}
@media(prefers-color-scheme:dark){:root{--ink:#e8ecf1;--soft:#9aa7b6;--line:#33404f;--paper:#141a21;--accent:#7fb2ec}}
*{box-sizing:border-box}body{margin:0 auto;max-width:62rem;padding:2rem 1.25rem;background:var(--paper);
color:var(--ink);font:16px/1.5 system-ui,sans-serif}h1{font-size:1.7rem;margin:0 0 .25rem}
h2{font-size:1.15rem;margin:2.2rem 0 .5rem;
border-bottom:1px solid var(--line);padding-bottom:.3rem}p{margin:.4rem 0}.soft{color:var(--soft)}
table{border-collapse:collapse;width:100%;font-size:.92rem}th{text-align:left;color:var(--soft);font-weight:600}
td,th{padding:.35rem .6rem .35rem 0;border-bottom:1px solid var(--line);vertical-align:top}
td.n{font-variant-numeric:tabular-nums;text-align:right}code,pre{font:0.86rem/1.45 ui-monospace,monospace}
code{overflow-wrap:anywhere}td code{overflow-wrap:normal}
pre{white-space:pre-wrap;border-left:3px solid var(--line);padding-left:1rem}
.wide{overflow-x:auto}.outcome{font-weight:600}
.flag{border-left:3px solid #a33;padding-left:.8rem}ul{margin:.4rem 0;padding-left:1.3rem}a{color:var(--accent)}
@media print{body{max-width:none;padding:0;font-size:11pt}h2{break-after:avoid}tr{break-inside:avoid}
pre{font-size:8pt}}
"""


def page(
    scope: dict[str, Any],
    decisions: list[dict[str, Any]],
    count: int,
    releases: list[dict[str, Any]],
    events: list[dict[str, Any]],
) -> str:
    """index.html: readable by anybody, printable, with no reference to anything outside.

    `decisions`: the first `SHOWN` of `count`. `releases`: the lines of release.json.
    """
    if scope["kind"] == "decisions":
        title = "Evidence of " + ("one decision" if count == 1 else f"{count} decisions")
    else:
        title = f"Evidence of use case {scope['use_case']}"
    parts = [
        f"<h1>{escape(title)}</h1><p class=soft>{escape(scope_text(scope))} &middot; {escape(scope['home'])}</p>",
        "<h2>How to check it</h2><p>You need nothing from the institution: on any machine with Python 3, with no "
        "network, run</p><pre>python3 verify.py</pre><p>It checks every file, signature and proof, that nothing "
        "was left out, who approved the model, and decides scorecard decisions again. Compare the log key it "
        "prints with one that the institution has published. This page is a rendering; what is proved is in "
        "<code>decisions.jsonl</code> and <code>events.jsonl</code>.</p>",
        "<h2>Decisions</h2>",
        _decisions(decisions, count),
    ]
    if count == 1 and decisions[0].get("reasons"):
        parts += ["<h2>Reasons given</h2>", _reasons(decisions[0])]
    parts.append(_under_rules(scope, decisions, events))
    for release in releases:
        parts.append(_checked(release, events))
    parts += ["<h2>Who did what</h2>", _approvals(events)]
    for release in releases:
        parts.append(f"<h2>Release {escape(release['name'])}@{escape(release['version'])}</h2>")
        parts.append(f"<p><code>{escape(release['release'])}</code></p><pre>{escape(release['card'])}</pre>")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _under_rules(scope: dict[str, Any], decisions: list[dict[str, Any]], events: list[dict[str, Any]]) -> str:
    """Which rulebooks bound the decisions shown: packs and days, what they ask of a decision, what they did to it."""
    named = {str(d["rulebook"]) for d in decisions if d.get("rulebook")}
    books = {
        str(e["payload"]["rulebook"]): e["payload"]
        for e in events
        if e["payload"].get("event") == "rules.resolved" and e["payload"].get("rulebook") in named
    }
    reviewed = {
        (e["payload"]["pack"], e["payload"]["version"]): e["payload"]["document"].get("reviewed_by_counsel")
        for e in events
        if e["payload"].get("event") == "pack.adopted"
    }
    if not books:
        return ""
    parts = ["<h2>Under which rules</h2>"]
    for digest in sorted(books, key=lambda d: str(books[d]["valid_from"])):
        book = books[digest]
        until = f"until {book['valid_until']}" if book["valid_until"] else "with no end known"
        parts.append(
            f"<p>From {escape(str(book['valid_from']))} {escape(until)}: "
            + ", ".join(f"<b>{escape(p['pack'])}</b> {escape(p['version'])}" for p in book["packs"])
            + f" <span class=soft><code>{escape(digest[:19])}</code></span></p>"
        )
        lacking = [p["pack"] for p in book["packs"] if not reviewed.get((p["pack"], p["version"]))]
        if lacking:
            parts.append(f"<p class=flag>Not reviewed by counsel: {escape(', '.join(lacking))}.</p>")
        rows = [
            f"<tr><td><code>{escape(r['rule'])}</code></td><td>{escape(r['pack'])}</td>"
            f"<td>{escape(r['stage'])}</td><td>{escape(r['severity'])}</td></tr>"
            for r in book["in_force"]
            if r["stage"] == "serve"
        ]
        if rows:
            parts.append("<p>Of its rules, these bind each decision:</p>")
            parts.append(_table(["Rule", "Pack", "Where", "If not met"], rows))
    touched = [d for d in decisions if d.get("referred_by") or d.get("notices")]
    if touched:
        parts.append("<p>What they did to the decisions shown:</p>")
        parts.append(
            _table(
                ["Record", "Given to a person by", "Who", "Notices due"],
                [
                    f"<tr><td><code>{escape(d['id'])}</code></td><td>{escape(str(d.get('referred_by', '')))}</td>"
                    f"<td>{escape(str(d.get('human', '')))}</td><td>"
                    + escape(", ".join(_notice(n) for n in d.get("notices", [])))
                    + "</td></tr>"
                    for d in touched
                ],
            )
        )
    return "".join(parts)


def _notice(notice: dict[str, Any]) -> str:
    days = notice.get("within_days")
    return str(notice["code"]) + (f" within {days} days" if days is not None else "")


def _checked(release: dict[str, Any], events: list[dict[str, Any]]) -> str:
    """What the last check run before the cut found of a release, what could not be judged, and what was waived."""
    name = f"{release['name']}@{release['version']}"
    runs = [
        e
        for e in events
        if e["payload"].get("event") == "release.checked"
        and e["payload"].get("release") == release["release"]
    ]
    if not runs:
        return f"<h2>What was checked of {escape(name)}</h2><p class=flag>No check run is recorded.</p>"
    last = runs[-1]
    waived = {
        str(e["payload"]["rule"]): e["payload"]
        for e in events
        if e["payload"].get("event") == "waiver.granted" and e["payload"].get("release") == release["release"]
    }
    rows, missing = [], []
    for result in last["payload"]["results"]:
        rule = str(result.get("rule", ""))
        ok = result.get("ok")
        word = "holds" if ok is True else "does not hold" if ok is False else "not judged"
        if ok is None and result.get("lacking"):
            missing.append(f"<li><code>{escape(rule)}</code>: {escape(str(result['lacking']))}</li>")
        if rule in waived and ok is not True:
            word += f", waived until {waived[rule]['expires']} by {waived[rule]['by']}"
        value = result.get("value")
        number = f"{value:.4g}" if isinstance(value, (int, float)) else ""
        rows.append(
            f"<tr><td><code>{escape(rule or str(result['name']))}</code></td>"
            f"<td>{escape(str(result['name']) if rule else '')}</td><td class=outcome>{escape(word)}</td>"
            f"<td class=n>{escape(number)}</td><td>{escape(str(result.get('severity', 'block')))}</td>"
            f"<td>{escape(str(result.get('detail', '')))}</td></tr>"
        )
    when, by = time_text(last["time_ns"])[:19], str(last["payload"].get("by", ""))
    parts = [
        f"<h2>What was checked of {escape(name)}</h2>",
        f"<p class=soft>{escape(when)}Z, by {escape(by)}; record control.{last['index']}.</p>",
        _table(["Rule or check", "Check", "Result", "Number", "If not met", "In words"], rows),
    ]
    if missing:
        parts += ["<p>What nobody has shown yet:</p><ul>", *missing, "</ul>"]
    return "".join(parts)


def _table(head: list[str], rows: list[str]) -> str:
    cells = "".join(f"<th scope=col>{escape(h)}</th>" for h in head)
    body = f"<thead><tr>{cells}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f"<div class=wide><table>{body}</table></div>"


def _decisions(decisions: list[dict[str, Any]], count: int) -> str:
    rows = []
    for d in decisions:
        score = f"{d['score']:.4f}" if isinstance(d.get("score"), float) else "&ndash;"
        rows.append(
            f"<tr><td><code>{escape(d['id'])}</code></td><td>{escape(d['time'][:19])}Z</td>"
            f"<td class=outcome>{escape(str(d.get('outcome', '')))}</td><td class=n>{score}</td>"
            f"<td>{escape(str(d.get('caller', '')))}</td></tr>"
        )
    more = f"<p class=soft>and {count - len(decisions)} more</p>" if count > len(decisions) else ""
    return _table(["Record", "Time", "Outcome", "Score", "Asked by"], rows) + more


def _reasons(decision: dict[str, Any]) -> str:
    rows = [
        f"<tr><td>{escape(r['text'])}</td><td class=n>{r['contribution']:+.4f}</td></tr>"
        for r in decision["reasons"]
    ]
    note = (
        "<p class=soft>Each number is how far the item moved the score (log-odds) from the mean of the approved "
        f"population, {decision['baseline']:.4f}; this decision's is {decision['margin']:.4f}.</p>"
    )
    return _table(["What counted against the applicant", "Weight"], rows) + note


def _approvals(events: list[dict[str, Any]]) -> str:
    rows = []
    for event in events:
        payload = event["payload"]
        name = str(payload.get("event", ""))
        if name.startswith(ABOUT):
            named = ("release", "party", "pack", "finding", "overlay", "kind", "use_case")
            what = next((str(payload[name]) for name in named if payload.get(name)), "")
            why = str(payload.get("note") or payload.get("reason") or "")
            rows.append(
                f"<tr><td>{escape(time_text(event['time_ns'])[:19])}Z</td><td>{escape(name)}</td>"
                f"<td>{escape(str(payload.get('by', '')))}</td><td><code>{escape(what[:19])}</code></td>"
                f"<td>{escape(why)}</td></tr>"
            )
    return _table(["Time", "Event", "By", "About", "Note"], rows)


# --- The folder: docs/formats/evidence.md ---

FORMAT = "fiduciary.evidence/1"
CONTROL = "control"
SLACK_NS = 10 * 10**9
"""A decision may be recorded this long after it was scored; a release that was live then may have answered."""
UNCHECKED = ("decisions.parquet", "reports/", "oscal/", "gemara/", "changes/", "letters/")
"""Copies for analysts and pages for readers: held to their digests in the manifest, and to nothing else."""
GONE = ("erased", "pruned")


class Report:
    """What was found: counts of what holds, one line for each thing that does not."""

    def __init__(self) -> None:
        self.holds: dict[str, int] = {}
        self.problems: list[str] = []
        self.notes: list[str] = []

    def ok(self, what: str, count: int = 1) -> None:
        self.holds[what] = self.holds.get(what, 0) + count

    def bad(self, problem: str) -> None:
        self.problems.append(problem)


def read_file(path: Path, most: int = MAX_DOCUMENT) -> bytes:
    """The bytes of a plain file; raises `ValueError` for anything else, or when it is larger than `most`."""
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path.name} is not a plain file")
    if found.st_size > most:
        raise ValueError(f"{path.name} has {found.st_size} bytes; the most that is read is {most}")
    return path.read_bytes()


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """JSON objects of a JSON lines file, read one at a time."""
    with path.open("rb") as file:
        while True:
            line = file.readline(MAX_LINE + 1)
            if not line:
                return
            if len(line) > MAX_LINE:
                raise ValueError(f"{path.name} has a line of over {MAX_LINE} bytes")
            document = read_json(line)
            if not isinstance(document, dict):
                raise ValueError(f"{path.name} has a line that is not a JSON object")
            yield document


def plain_name(name: str) -> bool:
    """A relative path of plain segments: it cannot lead out of the folder."""
    parts = name.split("/")
    safe = all(part and part[0] != "." and not set(part) & set('\\:\0*?"<>|') for part in parts)
    return safe and len(parts) <= 8 and len(name) <= 400


class Verifier:
    """Checks one folder; `report` says what was found."""

    def __init__(self, folder: Path, log_keys: list[str], witness_keys: Sequence[str] = ()) -> None:
        self.folder = folder
        self.given: dict[str, str] = {}
        for text in log_keys:
            try:
                self.given[parse_log_key(text)[0]] = text.strip()
            except ValueError as error:
                raise ValueError(f"--log-key {text[:80]!r} is not a log key: {error}") from None
        for text in witness_keys:
            try:
                parse_log_key(text, WITNESS_KEY)
            except ValueError as error:
                raise ValueError(f"--witness-key {text[:80]!r} is not a witness key: {error}") from None
        self.witnesses = list(witness_keys)
        self.grown: dict[tuple[str, int], list[bytes]] = {}
        self.report = Report()
        self.manifest: dict[str, Any] = {}
        self.scope: dict[str, Any] = {}
        self.keys: dict[str, str] = {}
        self.heads: dict[str, tuple[int, bytes]] = {}
        self.headers: dict[str, dict[int, Header]] = {}
        self.events: list[dict[str, Any]] = []
        self.last_heads = 0
        self.shown: set[tuple[str, int]] = set()
        self.first: list[dict[str, Any]] = []
        self.gone: dict[tuple[str, str], list[Header]] = {}

    def run(self) -> Report:
        self.check_files()
        self.check_checkpoints()
        self.check_proofs()
        self.check_events()
        self.check_heads()
        self.check_witnesses()
        bundles = self.check_releases()
        self.check_decisions(bundles)
        self.check_gone()
        self.check_scope()
        self.check_views(bundles)
        return self.report

    # files

    def check_files(self) -> None:
        raw = read_file(self.folder / "manifest.json")
        self.manifest = read_json(raw)
        if self.manifest.get("format") != FORMAT:
            raise ValueError(f"the folder's format is {self.manifest.get('format')!r}; this reads {FORMAT!r}")
        if json_text(self.manifest).encode() != raw:
            self.report.bad("manifest.json: it is not spelled in the one way that it may be")
        self.scope, listed = self.manifest["scope"], self.manifest["files"]
        self.report.notes.append(f"this folder is about {scope_text(self.scope)}")
        present = self.present()
        for name, file in listed.items():
            path = self.folder / name
            if not plain_name(name) or name not in present:
                self.report.bad(f"{name[:200]}: listed in the manifest and not there as a plain file")
            elif present[name] != whole(file["size"]) or file_digest(path) != file["sha256"]:
                self.report.bad(f"{name}: its bytes are not the ones the manifest lists")
            else:
                self.report.ok("files")
        for name in sorted(present.keys() - listed.keys() - {"manifest.json"}):
            self.report.bad(f"{name}: it is not listed in the manifest")
        for name in UNCHECKED:
            if any(n == name or (name.endswith("/") and n.startswith(name)) for n in listed):
                self.report.notes.append(
                    f"{name} is made for readers and is not proved: it has its digest in the manifest, which whoever "
                    "made the folder could have written; decisions.jsonl, events.jsonl and releases/ are proved"
                )
        own = Path(__file__)
        if own.is_file() and file_digest(own) != listed.get("verify.py", {}).get("sha256"):
            self.report.notes.append(
                "verify.py of the folder is another program than the one that checks it now"
            )

    def present(self) -> dict[str, int]:
        """Sizes of the plain files in the folder by name. Links and devices are problems."""
        found: dict[str, int] = {}
        for here, folders, names in os.walk(self.folder):
            for name in [*folders, *names]:
                path = Path(here) / name
                mode = path.lstat()
                relative = path.relative_to(self.folder).as_posix()
                if stat.S_ISREG(mode.st_mode):
                    found[relative] = mode.st_size
                elif not stat.S_ISDIR(mode.st_mode):
                    self.report.bad(f"{relative}: it is a link or a device")
            if len(found) > MAX_FILES:
                raise ValueError(f"it holds over {MAX_FILES} files")
        return found

    # logs

    def check_checkpoints(self) -> None:
        home = self.scope["home"]
        self.keys = read_json(read_file(self.folder / "keys.json"))["logs"]
        unused = dict(self.given)
        for log, key in self.keys.items():
            try:
                name = parse_log_key(key)[0]
                require(name == f"{home}/{log}", f"its key is of {name}")
                require(unused.pop(name, key.strip()) == key.strip(), "its key is not the one you gave")
                note = read_file(self.folder / "checkpoints" / f"{log}.txt", 1 << 20).decode("utf-8")
                _, size, root = open_checkpoint(note, key)
            except (OSError, ValueError) as error:
                self.report.bad(f"checkpoint of log {log}: {error}")
                continue
            self.heads[log] = (size, root)
            self.report.ok("checkpoint signatures")
        for name in unused:
            self.report.bad(f"you gave a key of {name}, and the folder holds no log of that name")
        if CONTROL in self.heads and f"{home}/{CONTROL}" not in self.given:
            self.report.notes.append(
                f"log key taken from the folder, compare it with a published one: {self.keys[CONTROL]}"
            )

    def check_proofs(self) -> None:
        for line in read_lines(self.folder / "proofs.jsonl"):
            log, start = str(line["log"]), whole(line["start"])
            headers = [decode64(h) for h in line["headers"]]
            place = f"records {log}.{start} to {log}.{start + len(headers) - 1}"
            if log not in self.heads:
                self.report.bad(f"{place}: there is no valid checkpoint of {log}")
                continue
            size, root = self.heads[log]
            try:
                leaves = [leaf_hash(h) for h in headers]
                beside = [decode64(h) for h in line["beside"]]
                if root_of_range(leaves, start, size, beside) != root:
                    raise ValueError("the hashes do not lead to the signed root")
                parsed = [Header(h) for h in headers]
                if [h.index for h in parsed] != list(range(start, start + len(parsed))):
                    raise ValueError("a header names another place than its own")
            except ValueError as error:
                self.report.bad(f"{place}: {error}")
                continue
            self.headers.setdefault(log, {}).update((h.index, h) for h in parsed)
            self.report.ok("records proved to be in their log", len(parsed))
        for log, found in self.headers.items():
            times = [found[index].time_ns for index in sorted(found)]
            if any(a > b for a, b in zip(times, times[1:])):
                self.report.bad(f"log {log}: time goes backwards")

    def disclosed(self, name: str) -> Iterator[tuple[str, Header, dict[str, Any], str | None]]:
        """(record id, header, line, payload text or None) of every line whose content is the recorded one."""
        for line in read_lines(self.folder / name):
            log, index = str(line["log"]), whole(line["index"])
            record = f"{log}.{index}"
            header = self.headers.get(log, {}).get(index)
            if header is None:
                self.report.bad(f"{name}: {record} has no proof")
            elif "payload" not in line:
                yield record, header, line, None
            else:
                salt, payload = decode64(line["salt"]), line["payload"].encode()
                if hmac.new(salt, payload, hashlib.sha256).digest() != header.commitment:
                    self.report.bad(f"{name}: the content of {record} is not the recorded one")
                else:
                    self.report.ok("contents equal to what was recorded")
                    yield record, header, line, line["payload"]

    def check_events(self) -> None:
        self.history = History(self.scope["home"])
        size, expected, withheld = self.heads.get(CONTROL, (0, b""))[0], 0, 0
        for record, header, line, payload in self.disclosed("events.jsonl"):
            if line["log"] != CONTROL or line["index"] != expected:
                self.report.bad(f"events.jsonl: {record} stands where control.{expected} should")
                break
            expected += 1
            if header.kind != EVENT:
                self.report.bad(f"{record}: it is a decision on the control log")
            elif payload is not None:
                document = read_json(payload)
                event = {"index": line["index"], "time_ns": header.time_ns, "payload": document}
                self.events.append(event)
                self.history.apply(line["index"], header.time_ns, document)
            elif not header.sealed or header.release:
                self.report.bad(f"{record}: an event that was recorded in the clear is left out")
            else:
                withheld += 1
        if expected != size or size == 0:
            self.report.bad(
                f"only {expected} of {size} control events are here, so approvals may be incomplete"
            )
        if withheld:
            self.report.notes.append(f"{withheld} events about a person are proved and not disclosed")
        self.report.notes.extend(self.history.refused)
        self.report.ok("signed governance events", len(self.history.nonces))
        for digest, book in self.history.books.items():
            self.check_book(digest, book)

    def check_book(self, digest: str, book: dict[str, Any]) -> None:
        """Is an announced rulebook what its packs give for the use case on that day, no rule more or less?"""
        place = f"rulebook {digest} (control.{book['index']})"
        documents = book["documents"]
        if book.get("resolver") != RESOLVER or any(d.get("format") != PACK_FORMAT for d in documents):
            self.report.notes.append(f"{place}: which rules of its packs bind cannot be told by this program")
            return
        try:
            found = resolve_rules(documents, book["use_case_document"], day_of(book["since_ns"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.report.bad(f"{place}: its packs cannot be resolved: {type(error).__name__}: {error}")
            return
        ours, theirs = ({r["rule"]: r for r in rules} for rules in (found["in_force"], book["in_force"]))
        missing, added = sorted(ours.keys() - theirs.keys()), sorted(theirs.keys() - ours.keys())
        changed = sorted(name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name])
        for names, why in ((missing, "leaves out"), (added, "puts in"), (changed, "changes")):
            if names:
                self.report.bad(f"{place}: it {why} what its packs say: {', '.join(names[:10])}")
        given = {name: value for name, value in book["obligations"].items() if name != "clocks"}
        days = [(b["valid_from"], b["valid_until"]) for b in (found, book)]
        if given != found["obligations"] or days[0] != days[1]:
            self.report.bad(f"{place}: its obligations or days are not the ones that its rules give")
        elif not missing and not added and not changed:
            self.report.ok("rulebooks that are what their packs give on that day")

    def named(self, event: str) -> Iterator[dict[str, Any]]:
        return (e["payload"] for e in self.events if e["payload"].get("event") == event)

    def check_heads(self) -> None:
        """Every log is the one that was announced, and has only grown since each head that was recorded of it."""
        self.announced: dict[str, list[str]] = {}
        for opened in self.named("shard.opened"):
            log = str(opened["log"])
            if log in self.announced:
                self.report.bad(f"log {log} was announced twice on the control log")
            self.announced.setdefault(log, opened["keys"])
        for log, key in self.keys.items():
            if log != CONTROL and key not in self.announced.get(log, []):
                self.report.bad(f"log {log}: the control log does not announce it with this key")
        self.grown = {
            (str(line["log"]), whole(line["size"])): [decode64(h) for h in line["path"]]
            for line in read_lines(self.folder / "consistency.jsonl")
        }
        for event in self.events:
            if event["payload"].get("event") != "heads":
                continue
            self.last_heads = event["time_ns"]
            for head in event["payload"]["heads"]:
                log, old, root = str(head["log"]), whole(head["size"]), bytes.fromhex(head["root"])
                if log not in self.heads or old == 0:
                    continue
                size, now = self.heads[log]
                if consistent(old, size, root, now, self.grown.get((log, old), [])):
                    self.report.ok("recorded heads that the logs are consistent with")
                else:
                    place = f"control.{event['index']}"
                    self.report.bad(f"log {log}: it is not the one of {old} records that {place} recorded")
        if not self.last_heads:
            self.report.bad("the control log records no heads of the logs")
        elif self.manifest.get("created") != time_text(self.last_heads):
            self.report.bad("manifest.json: created is not the time of the last heads on the control log")

    def check_witnesses(self) -> None:
        """Every log has only grown since the head that a witness cosigned; the named witnesses did cosign."""
        for log, (size, now) in self.heads.items():
            path = self.folder / "checkpoints" / f"{log}.cosigned.txt"
            if not path.exists():
                if self.witnesses:
                    self.report.bad(f"log {log}: the folder holds no head of it that a witness cosigned")
                continue
            try:
                note = read_file(path, 1 << 20).decode("utf-8")
                _, old, root = open_checkpoint(note, self.keys[log])
                grown = old and consistent(old, size, root, now, self.grown.get((log, old), []))
                require(bool(grown), f"the log is not the one of {old} records that was cosigned")
                for key in self.witnesses:
                    when = time_text(cosigned_at(note, key) * 10**9)
                    name = parse_log_key(key, WITNESS_KEY)[0]
                    self.report.notes.append(
                        f"log {log}: {name} cosigned its first {old} of {size} records, {when}"
                    )
                    self.report.ok("cosignatures of the witnesses you named")
            except ValueError as error:
                self.report.bad(f"cosigned head of log {log}: {error}")

    # releases

    def check_releases(self) -> dict[str, dict[str, bytes]]:
        bundles: dict[str, dict[str, bytes]] = {}
        place = self.folder / "releases"
        for folder in sorted(place.iterdir()) if place.is_dir() else []:
            digest = "sha256:" + folder.name
            raw = read_file(folder / "manifest.json")
            if digest_of(raw) != digest:
                self.report.bad(f"release {digest}: manifest.json is not what was released")
                continue
            files: dict[str, bytes] = {"manifest.json": raw}
            wrong = []
            for name, file in read_json(raw)["files"].items():
                path = folder / name
                content = read_file(path, MAX_RELEASE_FILE) if plain_name(name) and path.is_file() else None
                if content is None or hashlib.sha256(content).hexdigest() != file["sha256"]:
                    wrong.append(name)
                else:
                    files[name] = content
            inside = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
            wrong += sorted(n for n in inside - files.keys() - set(wrong) if not n.startswith("signatures/"))
            known = self.history.releases.get(digest)
            if wrong:
                self.report.bad(f"release {digest}: {', '.join(wrong)} is not what was released")
            elif known is None:
                self.report.bad(f"release {digest}: nobody proposed it on the control log")
            elif not self.author_signed(folder, raw, known):
                self.report.bad(f"release {digest}: it lacks the signature of its author {known['author']}")
            elif not known["approved"]:
                self.report.bad(f"release {digest}: it was never approved by an independent party")
            else:
                bundles[digest] = files
                self.report.ok("releases signed by their author and approved by another person")
        return bundles

    @staticmethod
    def author_signed(folder: Path, manifest: bytes, release: dict[str, Any]) -> bool:
        for path in sorted((folder / "signatures").glob("*.dsse.json")):
            envelope = read_json(read_file(path))
            kind, payload = envelope["payloadType"].encode(), decode64(envelope["payload"])
            signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
            if payload == manifest and any(
                ed25519_verify(bytes.fromhex(release["author_key"]), decode64(s["sig"]), signed)
                for s in envelope["signatures"][:16]
            ):
                return True
        return False

    # decisions

    def check_decisions(self, bundles: dict[str, dict[str, bytes]]) -> None:
        self.parsed = {digest: Scorecard.of(files) for digest, files in bundles.items()}
        for record, header, line, payload in self.disclosed("decisions.jsonl"):
            place = (line["log"], line["index"])
            if place in self.shown:
                self.report.bad(f"decisions.jsonl: {record} is there twice")
            self.shown.add(place)
            if header.kind != DECISION:
                self.report.bad(f"decisions.jsonl: {record} is an event, not a decision")
            if header.time_ns > self.last_heads:
                self.report.bad(f"{record}: it is later than the last heads on the control log")
            state = str(line.get("state", ""))
            if len(self.first) < SHOWN:
                shown = decision_view(record, header.time_ns, state, header.use_case, payload)
                self.first.append(shown)
            if payload is None:
                self.gone.setdefault((line["log"], state), []).append(header)
            else:
                self.check_decision(record, header, read_json(payload), bundles)

    def check_decision(
        self, record: str, header: Header, decision: dict[str, Any], bundles: dict[str, dict[str, bytes]]
    ) -> None:
        if decision["outcome"] == "refused":
            if any(decision.get(name) is not None for name in ("score", "margin", "reasons")):
                self.report.bad(f"{record}: it calls itself refused and was scored")
            self.report.ok("recorded refusals")
            return
        release, rules, use_case = decision["release"], decision["rules"], decision["use_case"]
        since, until = header.time_ns - SLACK_NS, header.time_ns
        if (header.release, header.rules, header.use_case) != (release, rules, use_case):
            self.report.bad(f"{record}: header and content name different releases, rules or use cases")
        elif release not in self.history.live_within(use_case, since, until):
            self.report.bad(f"{record}: release {release} was not live for {use_case} then")
        elif rules not in self.history.rules_within(use_case, since, until):
            self.report.bad(f"{record}: its cut-offs {rules} were not in force for {use_case} then")
        elif release not in bundles:
            self.report.bad(f"{record}: its release is not in the folder or does not hold")
        else:
            self.report.ok("decisions of a release that was live, under the cut-offs in force")
            duties = self.check_rulebook(record, decision, since, until)
            if duties is not None:
                self.replay(record, decision, duties)

    def check_rulebook(
        self, record: str, decision: dict[str, Any], since: int, until: int
    ) -> dict[str, Any] | None:
        """What the rules in force obliged the gate to, or None when the rulebook named is not the one in force."""
        use_case, named = decision["use_case"], decision.get("rulebook", "")
        allowed = self.history.books_within(use_case, since, until)
        if named not in allowed:
            if not named:
                why = f"it names no rulebook, and {use_case} was under rule packs then"
            elif named not in self.history.books:
                why = f"its rulebook {named} was never announced on the control log, or not of packs adopted then"
            else:
                why = f"its rulebook {named} was not in force for {use_case} then"
            self.report.bad(f"{record}: {why}")
            return None
        duties: dict[str, Any] = self.history.books[named]["obligations"] if named else {}
        why = inadmissible(duties, self.history.rules[decision["rules"]], decision)
        if why:
            self.report.bad(f"{record}: the rules in force forbade it: {why}")
            return None
        if not named:
            return {}
        self.report.ok("decisions under the rulebook that was announced, of packs adopted then")
        return duties

    def replay(self, record: str, decision: dict[str, Any], duties: dict[str, Any]) -> None:
        """The outcome is the cut-offs', then the referral's; a scorecard is computed again to the bit."""
        rules = self.history.rules[decision["rules"]]
        card = self.parsed[decision["release"]]
        names = ("score", "margin", "baseline")
        given = decision.get("reasons", [])
        if card is None:
            cut, score, reasons, same = cut_off(rules, decision["score"]), decision["score"], given, True
        else:
            count = {"reason_count": reason_count(duties, rules)}
            cut, score, margin, baseline, reasons = card.decide({**rules, **count}, decision["features"])
            same = [decision[name] for name in names] == [score, margin, baseline]
            if decision.get("explained"):
                same = same and given == reasons
        if not decision.get("explained") and (rules["reasons"] == "always" or cut != "approve" or given):
            same = False
        rule = referral(duties, rules, decision, cut, reasons)
        outcome = "refer" if rule else cut
        due = notices(duties, outcome)
        if not same or decision["outcome"] != outcome:
            said = f"the record says {decision['outcome']} {decision['score']!r}"
            why = f" (by rule {rule})" if rule else ""
            self.report.bad(f"{record}: a replay gives {outcome}{why} {score!r} or other reasons; {said}")
        elif decision.get("referred_by", "") != rule:
            named = decision.get("referred_by") or "no rule"
            self.report.bad(f"{record}: it was referred by {rule or 'no rule'}, and the record says {named}")
        elif decision.get("notices", []) != due:
            self.report.bad(f"{record}: the notices in the record are not the ones that were due")
        elif card is None:
            self.report.ok("decisions of other model families (replay them with: fiduciary replay)")
        else:
            self.report.ok("scorecard decisions replayed, equal bit for bit")

    def check_gone(self) -> None:
        """Content may be missing only where events of the control log say that it was destroyed."""
        for (log, state), headers in self.gone.items():
            if state not in GONE:
                self.report.bad(f"log {log}: {len(headers)} decision(s) are shown without their content")
                continue
            if state == "erased":
                allowed = sum(whole(e["records"].get(log, 0)) for e in self.named("subject.erased"))
            else:
                sweeps = [e for e in self.named("retention.swept") if e["log"] == log]
                allowed = sum(whole(e["records"]) for e in sweeps)
                if not all(any(h.time_ns < e["before"].get(h.retention, 0) for e in sweeps) for h in headers):
                    self.report.bad(f"log {log}: a decision is called pruned before its retention ended")
            if len(headers) > allowed:
                self.report.bad(
                    f"log {log}: {len(headers)} decision(s) are called {state}, and the control log accounts for "
                    f"{allowed}"
                )
            else:
                self.report.ok(f"decisions whose content is {state}, as the control log says", len(headers))

    def check_scope(self) -> None:
        """What was asked for is here, and nothing else: each decision, or every one of the period."""
        scope = self.scope
        if scope["kind"] == "decisions":
            asked = {tuple(name.rsplit(".", 1)) for name in scope["decisions"]}
            shown = {(log, str(index)) for log, index in self.shown}
            for log, index in sorted(asked - shown):
                self.report.bad(f"{log}.{index}: it was asked for and is not in decisions.jsonl")
            for log, index in sorted(shown - asked):
                self.report.bad(f"{log}.{index}: it is in decisions.jsonl and was not asked for")
            return
        require(scope["kind"] == "use-case", "the scope is neither decisions nor a use case")
        since, until = whole(scope["since_ns"]), whole(scope["until_ns"])
        if self.last_heads < until:
            self.report.bad(
                "the period ends after the last heads on the control log: what came later is unknown"
            )
        wanted: set[tuple[str, int]] = set()
        for log in sorted(self.announced):
            if log not in self.heads:
                self.report.bad(f"log {log} was opened and is not in the folder: a dropped shard")
                continue
            size, headers = self.heads[log][0], self.headers.get(log, {})
            inside = sorted(headers)
            if size and not inside:
                self.report.bad(f"log {log}: no record is here, not even to show that none is in the period")
            elif inside:
                if inside[-1] - inside[0] + 1 != len(inside):
                    self.report.bad(f"log {log}: the records shown are not contiguous")
                if inside[0] > 0 and headers[inside[0]].time_ns >= since:
                    self.report.bad(f"log {log}: records at the beginning of the period are left out")
                if inside[-1] < size - 1 and headers[inside[-1]].time_ns < until:
                    self.report.bad(f"log {log}: records at the end of the period are left out")
                wanted |= {
                    (log, i)
                    for i, h in headers.items()
                    if h.kind == DECISION and h.use_case == scope["use_case"] and since <= h.time_ns < until
                }
            self.report.ok("logs shown over the whole period")
        for log, index in sorted(wanted - self.shown):
            self.report.bad(f"{log}.{index}: a decision of the use case in the period is left out")
        for log, index in sorted(self.shown - wanted):
            self.report.bad(f"{log}.{index}: a decision outside the use case or the period is put in")

    # pages

    def check_views(self, bundles: dict[str, dict[str, bytes]]) -> None:
        releases = [self.release_line(digest, files) for digest, files in bundles.items()]
        views = {
            "approvals.jsonl": "".join(map(line_text, approvals_view(self.events))),
            "checks.jsonl": "".join(map(line_text, checks_view(self.events))),
            "release.json": json_text(releases),
            "index.html": page(self.scope, self.first, len(self.shown), releases, self.events),
        }
        packs = pack_views(self.history.adopted)
        place = self.folder / "packs"
        lying = {p.relative_to(self.folder).as_posix() for p in place.rglob("*")} if place.is_dir() else set()
        for name in sorted(lying ^ packs.keys()):
            self.report.bad(f"{name}: a pack nobody adopted, or an adopted pack that is not here")
            packs.pop(name, None)
        for name, text in {**views, **packs}.items():
            if read_file(self.folder / name, MAX_RELEASE_FILE) != text.encode():
                forged = "a forged pack: " if name in packs else ""
                self.report.bad(f"{name}: {forged}it does not say what the proved content says")
            else:
                self.report.ok("pages equal to the proved content")

    def release_line(self, digest: str, files: dict[str, bytes]) -> dict[str, Any]:
        known = self.history.releases[digest]
        manifest, card = files["manifest.json"], files["card.md"]
        approvals, state = known["approvals"], self.history.state(digest)
        return release_view(digest, manifest, card, known["author"], approvals, state)


def file_digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for part in iter(lambda: file.read(1 << 20), b""):
            digest.update(part)
    return digest.hexdigest()


UNREADABLE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    MemoryError,
    struct.error,
)
"""What a folder that is not evidence makes this program meet; all of it means: not verified."""


def main(arguments: list[str] | None = None) -> int:
    """The program; returns the exit code."""
    parser = argparse.ArgumentParser(description="Verify an evidence folder, offline and with no install.")
    here = Path(__file__).resolve().parent
    parser.add_argument(
        "folder", nargs="?", type=Path, default=here, help="the folder (default: this program's)"
    )
    parser.add_argument(
        "--log-key", action="append", default=[], help="a log key you trust (name+hash+base64)"
    )
    parser.add_argument(
        "--witness-key", action="append", default=[], help="a witness that must have cosigned (type 0x04)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)
    report = Report()
    try:
        verifier = Verifier(options.folder, options.log_key, options.witness_key)
        report = verifier.report
        verifier.run()
    except UNREADABLE as error:
        text = f"the folder cannot be read as evidence: {type(error).__name__}: {error}"[:500]
        if not report.problems:
            print(
                json.dumps({"verified": False, "error": text}) if options.json else f"{text}\nNOT VERIFIED."
            )
            return 2
        report.bad(f"the rest could not be checked: {text}")
    verified = not report.problems
    if options.json:
        found = {"holds": report.holds, "problems": report.problems, "notes": report.notes}
        print(json.dumps({"verified": verified, **found}, indent=2))
        return 0 if verified else 1
    for what, count in report.holds.items():
        print(f"  ok  {count:>7}  {what}")
    for note in report.notes[:200]:
        print(f"note  {printable(note)}")
    for problem in report.problems[:50]:
        print(f" BAD  {printable(problem)}")
    if len(report.problems) > 50:
        print(f" BAD  and {len(report.problems) - 50} more")
    print("VERIFIED: everything in this folder holds." if verified else "NOT VERIFIED.")
    return 0 if verified else 1


def printable(text: str) -> str:
    """One line of plain characters: a folder cannot write to the terminal what it likes."""
    return (
        "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)[:1_000]
        .encode(sys.stdout.encoding or "utf-8", "backslashreplace")
        .decode(sys.stdout.encoding or "utf-8")
    )


if __name__ == "__main__":
    sys.exit(main())
