#!/usr/bin/env python3
"""Verify an evidence folder: python3 verify.py [FOLDER] [--log-key KEY ...] [--json]

Standard library only, no network, no install. It trusts nothing but SHA-256, Ed25519 and the log keys you
give it (or, with a warning, those in the folder). What it checks, in this order:

1. every file of the folder against manifest.json, and that there is no other file;
2. each checkpoint's signature (Ed25519 over a C2SP signed note);
3. each record's place in its log (RFC 6962: leaf hashes and the roots beside the range give the signed root),
   and that the records of a range are contiguous, none left out;
4. each disclosed payload against the commitment in its record;
5. each release: the digest of every file, the signature of its author, the approval by another person with
   another key, enrolled for that role, before it was promoted; what was live when each decision was made;
6. each scorecard decision again, from the row and the points: score, outcome and reasons, bit for bit.
   Other model families: `fiduciary replay`.

Exit code 0: everything holds. 1: something does not, one line each. 2: the folder cannot be read.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import json
import math
import struct
import sys
from bisect import bisect_right
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

# --- Ed25519 verification, RFC 8032 section 5.1.7 ---

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)
Point = tuple[int, int, int, int]
"""Extended coordinates X, Y, Z, T with x = X/Z, y = Y/Z, x*y = T/Z."""


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


# --- Signed notes and checkpoints, C2SP signed-note and tlog-checkpoint ---


def parse_log_key(text: str) -> tuple[str, bytes, bytes]:
    """`name+hash+base64(0x01 || public key)` to (name, key hash, public key); raises `ValueError`."""
    name, hash_hex, encoded = text.strip().split("+", 2)
    raw = base64.b64decode(encoded, validate=True)
    if len(raw) != 33 or raw[0] != 1:
        raise ValueError("not an Ed25519 log key")
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
                if not lines[1].isascii() or not lines[1].isdigit() or len(root) != 32:
                    raise ValueError("its size or root is malformed")
                return lines[0], int(lines[1]), root
    raise ValueError("no valid signature of the log")


# --- Records: docs/formats/record.md ---

HEADER = struct.Struct(">4sBBQQ32s32s32sIB")
DECISION, EVENT = 0, 1


class Header:
    """The fields of a record header that are checked here; raises `ValueError` for other bytes."""

    def __init__(self, data: bytes) -> None:
        if len(data) < HEADER.size + 33:
            raise ValueError("a record header is too short")
        magic, self.kind, _, self.index, self.time_ns, self.commitment, release, rules, _, n = (
            HEADER.unpack_from(data)
        )
        end = HEADER.size + n
        if magic != b"FDH1" or end >= len(data) - 32 or end + 1 + data[end] + 32 != len(data):
            raise ValueError("not a record header of version 1")
        self.release, self.rules = named_digest(release), named_digest(rules)
        self.use_case = data[HEADER.size : end].decode()


def named_digest(raw: bytes) -> str:
    return "" if raw == bytes(32) else "sha256:" + raw.hex()


# --- Canonical JSON, RFC 8785 ---


def canonical(value: Any) -> str:
    """The one spelling of a JSON value that digests and signatures are over."""
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, (int, float)):
        return number(value)
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be"))
        return "{" + ",".join(f"{canonical(n)}:{canonical(value[n])}" for n in names) + "}"
    return "[" + ",".join(canonical(item) for item in value) + "]"


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
GOVERNING = {
    "party.enrolled": {"officer"},
    "party.removed": {"officer"},
    "usecase.defined": {"officer"},
    "release.proposed": {"developer"},
    "release.checked": {"developer", "validator", "operator"},
    "release.approved": {"validator"},
    "release.rejected": {"validator", "developer"},
    "release.promoted": {"operator", "officer"},
    "release.suspended": {"operator", "officer", "validator"},
    "release.resumed": {"operator", "officer"},
    "release.rolled_back": {"operator", "officer"},
    "release.retired": {"operator", "officer"},
}
MAY_BE_UNSIGNED = {"release.suspended"}


class History:
    """The governed state over time, from the control log's events in order. Bad events change nothing."""

    def __init__(self, scope: str) -> None:
        self.scope = scope
        self.parties: dict[str, dict[str, Any]] = {}
        self.key_owner: dict[str, str] = {}
        self.nonces: set[str] = set()
        self.rules: dict[str, dict[str, Any]] = {}
        """Every version of every use case, by digest."""
        self.in_force: dict[str, dict[str, Any]] = {}
        """The present version of every use case, by name."""
        self.releases: dict[str, dict[str, Any]] = {}
        self.served: dict[str, list[str]] = {}
        self.spans: list[tuple[str, int, str | None]] = []
        """(use case, from ns, digest of the release that may answer from then on)."""
        self.refused: list[str] = []

    def apply(self, index: int, time_ns: int, payload: dict[str, Any]) -> None:
        event = payload.get("event")
        if event not in GOVERNING:
            return
        try:
            self._signed(event, payload)
            getattr(self, "_" + event.replace(".", "_"))(payload, index)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            self.refused.append(f"control event {index} ({event}) does not hold: {error}")
            return
        if "nonce" in payload:
            self.nonces.add(payload["nonce"])
        for use_case in self.served:
            live = self.live_now(use_case)
            if live != next((d for u, _, d in reversed(self.spans) if u == use_case), None):
                self.spans.append((use_case, time_ns, live))

    def live_now(self, use_case: str) -> str | None:
        history = self.served.get(use_case)
        return history[-1] if history and self._servable(self.releases[history[-1]]) else None

    def live_within(self, use_case: str, since: int, until: int) -> set[str]:
        """Releases that might answer for a use case at some moment of [since, until] (ns)."""
        found: set[str] = set()
        current: str | None = None
        for use, start, digest in self.spans:
            if use == use_case:
                if start > until:
                    break
                if start > since and current:
                    found.add(current)
                current = digest
        return found | {current} if current else found

    @staticmethod
    def _servable(release: dict[str, Any]) -> bool:
        return bool(release["approved"]) and not (
            release["rejected"] or release["suspended"] or release["retired"]
        )

    def _signed(self, event: str, payload: dict[str, Any]) -> None:
        if "signature" not in payload and event in MAY_BE_UNSIGNED:
            return
        if payload["scope"] != self.scope:
            raise ValueError(f"it was signed for {payload['scope']!r}")
        if payload["nonce"] in self.nonces:
            raise ValueError("its statement was used before")
        by = payload["by"]
        party = payload if event == "party.enrolled" and not self.parties else self.parties.get(by)
        if party is None or (party is payload and payload["party"] != by):
            raise ValueError(f"{by} is not enrolled")
        if not GOVERNING[event] & set(party["roles"]):
            raise ValueError(f"{by} has no role for it")
        public = bytes.fromhex(party["public"])
        statement = {name: value for name, value in payload.items() if name != "signature"}
        signature = base64.b64decode(payload["signature"], validate=True)
        if not ed25519_verify(public, signature, STATEMENT + canonical(statement).encode()):
            raise ValueError(f"the signature is not {by}'s")

    def _release(self, payload: dict[str, Any]) -> dict[str, Any]:
        release = self.releases[payload["release"]]
        if release["retired"]:
            raise ValueError("the release is retired")
        return release

    def _party_enrolled(self, p: dict[str, Any], index: int) -> None:
        if self.key_owner.setdefault(p["public"], p["party"]) != p["party"]:
            raise ValueError("the key belongs to another party")
        before = self.parties.get(p["party"])
        if p["party"] == p["by"] and self.parties and (before is None or before["roles"] != p["roles"]):
            raise ValueError(f"{p['by']} changes the own roles")
        enrolled_by = before["enrolled_by"] if before and p["party"] == p["by"] else p["by"]
        self.parties[p["party"]] = {**p, "enrolled_by": enrolled_by}

    def _party_removed(self, p: dict[str, Any], index: int) -> None:
        del self.parties[p["party"]]

    def _usecase_defined(self, p: dict[str, Any], index: int) -> None:
        if digest_of(canonical(p["document"]).encode()) != p["digest"]:
            raise ValueError("its digest is not the document's")
        self.rules[p["digest"]] = p["document"]
        self.in_force[p["document"]["name"]] = p["document"]
        self.served.setdefault(p["document"]["name"], [])

    def _release_proposed(self, p: dict[str, Any], index: int) -> None:
        if p["release"] in self.releases:
            raise ValueError("it was proposed before")
        self.releases[p["release"]] = {
            "use_case": p["use_case"],
            "author": p["by"],
            "author_key": self.parties[p["by"]]["public"],
            "signers": p["signers"],
            "checks": None,
            "approvals": [],
            "approved": False,
            "rejected": False,
            "suspended": False,
            "retired": False,
        }

    def _release_checked(self, p: dict[str, Any], index: int) -> None:
        green = all(r["ok"] or r.get("severity") == "warn" for r in p["results"])
        if p["green"] is not green:
            raise ValueError("it calls itself green and is not, or the other way round")
        self._release(p)["checks"] = (index, green)

    def _release_approved(self, p: dict[str, Any], index: int) -> None:
        release, by, approver = self._release(p), p["by"], self.parties[p["by"]]
        if by == release["author"] or approver["public"] == release["author_key"]:
            raise ValueError("the author approves the own release")
        if p["key"] in release["signers"] or approver["enrolled_by"] == release["author"]:
            raise ValueError("the approver is not independent of the author")
        if (
            release["checks"] is None
            or release["checks"] != (p["checked"], True)
            or by in release["approvals"]
        ):
            raise ValueError("it is not about the latest, green checks, or counts twice")
        release["approvals"].append(by)
        needed = self.in_force[release["use_case"]]["approvals"]
        release["approved"] = release["approved"] or len(release["approvals"]) >= needed

    def _release_rejected(self, p: dict[str, Any], index: int) -> None:
        self._release(p)["rejected"] = True

    def _release_promoted(self, p: dict[str, Any], index: int) -> None:
        release = self._release(p)
        if (
            not self._servable(release)
            or p["by"] == release["author"]
            or p["use_case"] != release["use_case"]
        ):
            raise ValueError("the release may not go live, or its author puts it there")
        self.served[release["use_case"]].append(p["release"])

    def _release_suspended(self, p: dict[str, Any], index: int) -> None:
        self._release(p)["suspended"] = True

    def _release_resumed(self, p: dict[str, Any], index: int) -> None:
        self._release(p)["suspended"] = False

    def _release_rolled_back(self, p: dict[str, Any], index: int) -> None:
        history = self.served[p["use_case"]]
        if p["release"] not in history or not self._servable(self._release(p)):
            raise ValueError("there is no such release to go back to")
        while history[-1] != p["release"]:
            history.pop()

    def _release_retired(self, p: dict[str, Any], index: int) -> None:
        self._release(p)["retired"] = True


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


def replay_scorecard(
    files: dict[str, bytes], rules: dict[str, Any], features: dict[str, Any]
) -> tuple[str, float, float, float, list[dict[str, Any]]]:
    """(outcome, score, margin, baseline margin, reasons) of a row under a scorecard release and a use case."""
    contract, card = json.loads(files["contract.json"]), json.loads(files["model/scorecard.json"])
    baseline = json.loads(files["baseline.json"])
    margin = card["intercept"]
    groups: dict[str, list[Any]] = {}
    for feature, bins, mean in zip(contract["features"], card["features"], baseline["contributions"]):
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
    high = rules["adverse"] == "high"
    approve, decline = rules["approve_below"], rules["decline_from"]
    if high:
        outcome = "approve" if score < approve else "decline" if score >= decline else "refer"
    else:
        outcome = "approve" if score > approve else "decline" if score <= decline else "refer"
    ranked = sorted(groups.items(), key=lambda item: -item[1][0] if high else item[1][0])
    reasons = [
        {"code": code, "text": text or plain(code), "contribution": total}
        for code, (total, text) in ranked[: rules["reason_count"]]
        if (total > 0 if high else total < 0)
    ]
    return outcome, score, margin, baseline["margin"], reasons


def plain(name: str) -> str:
    words = name
    for mark in "_-.":
        words = words.replace(mark, " ")
    words = " ".join(words.split()) or name
    return words[0].upper() + words[1:]


# --- Views: derived from the proved content, so that the verifier can make them again ---


def approvals_view(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Who did what to which release: the lines of approvals.jsonl."""
    return [
        {"record": f"control.{e['index']}", "time": time_text(e["time_ns"]), **e["payload"]}
        for e in events
        if str(e["payload"].get("event", "")).startswith(("release.", "usecase.", "party."))
    ]


def checks_view(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every result of every release check: the lines of checks.jsonl."""
    return [
        {"record": f"control.{e['index']}", "release": e["payload"]["release"], **result}
        for e in events
        if e["payload"].get("event") == "release.checked"
        for result in e["payload"]["results"]
    ]


def time_text(time_ns: int) -> str:
    """RFC 3339 in UTC with nanoseconds."""
    whole = datetime.fromtimestamp(time_ns // 10**9, timezone.utc)
    return whole.strftime("%Y-%m-%dT%H:%M:%S") + f".{time_ns % 10**9:09d}Z"


# --- The folder ---

FORMAT = "fiduciary.evidence/1"
SLACK_NS = 10 * 10**9
"""A decision may be recorded this long after it was scored; a release that was live then may have answered."""


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


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


class Verifier:
    """Checks one folder; `report` says what was found."""

    def __init__(self, folder: Path, log_keys: list[str]) -> None:
        self.folder = folder
        self.given = {parse_log_key(text)[0]: text.strip() for text in log_keys}
        self.report = Report()
        self.manifest: dict[str, Any] = {}
        self.heads: dict[str, tuple[int, bytes]] = {}
        self.headers: dict[str, dict[int, Header]] = {}
        self.events: list[dict[str, Any]] = []

    def run(self) -> Report:
        self.check_files()
        self.check_checkpoints()
        self.check_proofs()
        self.check_events()
        bundles = self.check_releases()
        self.check_decisions(bundles)
        self.check_completeness()
        self.check_views()
        return self.report

    def check_files(self) -> None:
        self.manifest = json.loads((self.folder / "manifest.json").read_bytes())
        if self.manifest.get("format") != FORMAT:
            raise ValueError(f"the folder's format is {self.manifest.get('format')!r}; this reads {FORMAT!r}")
        listed = self.manifest["files"]
        for name, file in listed.items():
            path = self.folder / name
            if not path.is_file() or path.is_symlink():
                self.report.bad(f"{name}: listed in the manifest and not there")
            elif hashlib.sha256(path.read_bytes()).hexdigest() != file["sha256"]:
                self.report.bad(f"{name}: its bytes are not the ones the manifest lists")
            else:
                self.report.ok("files")
        for path in self.folder.rglob("*"):
            name = path.relative_to(self.folder).as_posix()
            if not path.is_dir() and name not in listed and name not in ("manifest.json",):
                self.report.bad(f"{name}: it is not listed in the manifest")

    def check_checkpoints(self) -> None:
        keys = json.loads((self.folder / "keys.json").read_bytes())["logs"]
        for log, key in keys.items():
            name = parse_log_key(key)[0]
            if name in self.given:
                if self.given[name] != key.strip():
                    self.report.bad(f"keys.json: the key of {name} is not the one you gave")
                    continue
            else:
                self.report.notes.append(
                    f"log key taken from the folder, compare it with a published one: {key}"
                )
            try:
                note = (self.folder / "checkpoints" / f"{log}.txt").read_text("utf-8")
                _, size, root = open_checkpoint(note, key)
            except (OSError, ValueError) as error:
                self.report.bad(f"checkpoint of {log}: {error}")
                continue
            self.heads[log] = (size, root)
            self.report.ok("checkpoint signatures")

    def check_proofs(self) -> None:
        for line in read_lines(self.folder / "proofs.jsonl"):
            log, start = line["log"], line["start"]
            headers = [base64.b64decode(h, validate=True) for h in line["headers"]]
            place = f"records {log}.{start} to {log}.{start + len(headers) - 1}"
            if log not in self.heads:
                self.report.bad(f"{place}: there is no valid checkpoint of {log}")
                continue
            size, root = self.heads[log]
            try:
                leaves = [leaf_hash(h) for h in headers]
                beside = [base64.b64decode(h, validate=True) for h in line["beside"]]
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

    def disclosed(self, name: str) -> Iterator[tuple[str, Header, dict[str, Any], str]]:
        """(record id, header, line, payload text) of every disclosed payload that is the recorded one."""
        for line in read_lines(self.folder / name):
            record = f"{line['log']}.{line['index']}"
            header = self.headers.get(line["log"], {}).get(line["index"])
            if header is None:
                self.report.bad(f"{name}: {record} has no proof")
            elif "payload" not in line:
                self.report.ok(f"records whose content is {line.get('state', 'withheld')}")
            else:
                salt, payload = base64.b64decode(line["salt"]), line["payload"].encode()
                if hmac.new(salt, payload, hashlib.sha256).digest() != header.commitment:
                    self.report.bad(f"{name}: the content of {record} is not the recorded one")
                else:
                    self.report.ok("contents equal to what was recorded")
                    yield record, header, line, line["payload"]

    def check_events(self) -> None:
        self.history = History(self.manifest["scope"]["home"])
        for _, header, line, payload in self.disclosed("events.jsonl"):
            document = json.loads(payload)
            self.events.append({"index": line["index"], "time_ns": header.time_ns, "payload": document})
            self.history.apply(line["index"], header.time_ns, document)
        size = self.heads.get("control", (0, b""))[0]
        missing = size - len(self.headers.get("control", {}))
        if missing:
            self.report.bad(
                f"{missing} of {size} control events are left out, so the approvals may be incomplete"
            )
        hidden = size - missing - len(self.events)
        if hidden:
            self.report.notes.append(f"{hidden} control events are proved but their content is not disclosed")
        self.report.notes.extend(self.history.refused)
        self.report.ok("signed governance events", len(self.history.nonces))

    def check_releases(self) -> dict[str, dict[str, bytes]]:
        bundles: dict[str, dict[str, bytes]] = {}
        for folder in sorted((self.folder / "releases").glob("*")):
            digest = "sha256:" + folder.name
            raw = (folder / "manifest.json").read_bytes()
            manifest = json.loads(raw)
            known = self.history.releases.get(digest)
            files = {n: (folder / n).read_bytes() for n in manifest["files"] if (folder / n).is_file()}
            wrong = [
                n
                for n, f in manifest["files"].items()
                if hashlib.sha256(files.get(n, b"")).hexdigest() != f["sha256"]
            ]
            if digest_of(raw) != digest or wrong:
                self.report.bad(
                    f"release {digest}: {', '.join(wrong) or 'manifest.json'} is not what was released"
                )
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
            envelope = json.loads(path.read_bytes())
            kind, payload = envelope["payloadType"].encode(), base64.b64decode(envelope["payload"])
            signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
            if payload == manifest and any(
                ed25519_verify(bytes.fromhex(release["author_key"]), base64.b64decode(s["sig"]), signed)
                for s in envelope["signatures"]
            ):
                return True
        return False

    def check_decisions(self, bundles: dict[str, dict[str, bytes]]) -> None:
        for record, header, _, payload in self.disclosed("decisions.jsonl"):
            decision = json.loads(payload)
            if decision["outcome"] == "refused":
                self.report.ok("recorded refusals")
                continue
            release = decision["release"]
            live = self.history.live_within(decision["use_case"], header.time_ns - SLACK_NS, header.time_ns)
            if (header.release, header.rules, header.use_case) != (
                release,
                decision["rules"],
                decision["use_case"],
            ):
                self.report.bad(f"{record}: header and content name different releases, rules or use cases")
            elif release not in live:
                self.report.bad(f"{record}: release {release} was not live for {decision['use_case']} then")
            elif release not in bundles:
                self.report.bad(f"{record}: its release is not in the folder or does not hold")
            elif decision["rules"] not in self.history.rules:
                self.report.bad(f"{record}: its cut-offs {decision['rules']} were never defined")
            else:
                self.report.ok("decisions of a release that was live, under defined cut-offs")
                self.replay(record, decision, bundles[release])

    def replay(self, record: str, decision: dict[str, Any], files: dict[str, bytes]) -> None:
        if json.loads(files["model/model.json"])["family"] != "scorecard":
            self.report.ok("decisions of other model families (replay them with: fiduciary replay)")
            return
        rules = self.history.rules[decision["rules"]]
        outcome, score, margin, baseline, reasons = replay_scorecard(files, rules, decision["features"])
        recorded = [decision[name] for name in ("outcome", "score", "margin", "baseline")]
        same = recorded == [outcome, score, margin, baseline]
        if decision.get("explained"):
            same = same and decision.get("reasons", []) == reasons
        elif rules["reasons"] == "always" or outcome != "approve":
            same = False
        if same:
            self.report.ok("scorecard decisions replayed, equal bit for bit")
        else:
            self.report.bad(
                f"{record}: a replay gives {outcome} {score!r}, the record says {recorded[0]} {recorded[1]!r}"
            )

    def check_completeness(self) -> None:
        """For a use case over a period: every record of every log in that period is here."""
        scope = self.manifest["scope"]
        if scope["kind"] != "use-case":
            return
        known = {e["payload"]["log"] for e in self.events if e["payload"].get("event") == "shard.opened"}
        decisions = {(line["log"], line["index"]) for line in read_lines(self.folder / "decisions.jsonl")}
        for log in sorted(known):
            if log not in self.heads:
                self.report.bad(f"log {log} was opened and is not in the folder: a dropped shard")
                continue
            size, headers = self.heads[log][0], self.headers.get(log, {})
            inside = sorted(headers)
            if size and not inside:
                self.report.bad(
                    f"log {log}: no record of it is here, not even to show that none is in the period"
                )
                continue
            if not inside:
                continue
            if inside != list(range(inside[0], inside[-1] + 1)):
                self.report.bad(f"log {log}: the records shown are not contiguous")
            if inside[0] > 0 and headers[inside[0]].time_ns >= scope["since_ns"]:
                self.report.bad(f"log {log}: records at the beginning of the period are left out")
            if inside[-1] < size - 1 and headers[inside[-1]].time_ns < scope["until_ns"]:
                self.report.bad(f"log {log}: records at the end of the period are left out")
            for index in inside:
                header = headers[index]
                wanted = header.use_case == scope["use_case"] and header.kind == DECISION
                in_time = scope["since_ns"] <= header.time_ns < scope["until_ns"]
                if wanted and in_time and (log, index) not in decisions:
                    self.report.bad(f"{log}.{index}: a decision of the use case in the period is left out")
            self.report.ok("logs complete over the period")

    def check_views(self) -> None:
        for name, view in (("approvals.jsonl", approvals_view), ("checks.jsonl", checks_view)):
            if list(read_lines(self.folder / name)) != view(self.events):
                self.report.bad(f"{name}: it does not say what the proved events say")
            else:
                self.report.ok("views equal to the proved content")


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
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)
    try:
        verifier = Verifier(options.folder, options.log_key)
        report = verifier.run()
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        text = f"the folder cannot be read as evidence: {type(error).__name__}: {error}"
        print(json.dumps({"verified": False, "error": text}) if options.json else text)
        return 2
    verified = not report.problems
    if options.json:
        document = {
            "verified": verified,
            "holds": report.holds,
            "problems": report.problems,
            "notes": report.notes,
        }
        print(json.dumps(document, indent=2))
        return 0 if verified else 1
    for what, count in report.holds.items():
        print(f"  ok  {count:>7}  {what}")
    for note in report.notes:
        print(f"note  {note}")
    for problem in report.problems[:50]:
        print(f" BAD  {problem}")
    if len(report.problems) > 50:
        print(f" BAD  and {len(report.problems) - 50} more")
    print("VERIFIED: everything in this folder holds." if verified else "NOT VERIFIED.")
    return 0 if verified else 1


if __name__ == "__main__":
    sys.exit(main())
