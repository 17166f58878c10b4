"""Cut an evidence folder: records with their proofs, the releases behind them, who approved what, a verifier.

What it discloses: the decisions asked for in clear (that is its purpose: handle it as personal data), the
headers of their neighbours (nothing personal), and the control log's events.
"""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from fiduciary.errors import ConflictError, IntegrityError, NotFoundError
from fiduciary.evidence import _verify_folder as offline
from fiduciary.evidence._changes import changes, changes_csv, changes_jsonl
from fiduciary.evidence._gemara import evaluation_log
from fiduciary.evidence._oscal import assessment_results
from fiduciary.evidence._parquet import write_decisions
from fiduciary.evidence._reports import (
    attested_kinds,
    check_runs,
    file_name,
    technical_file,
    validation_report,
)
from fiduciary.ledger import Kind, Ledger, Record, Tiles, Tree, decode_header, read_cosigned
from fiduciary.registry import Registry, digest_text

RANGE_RECORDS = 1_024
"""Most headers in one line of proofs.jsonl."""
MAX_DECISIONS = 1_000_000
CONTROL = "control"
PACK = ("pack", "version", "digest", "document")
Progress = Callable[[str, int, int], None]


class Scope(msgspec.Struct, frozen=True):
    """What the folder is about: single decisions, or a use case over a period (`until_ns` not included)."""

    kind: Literal["decisions", "use-case"]
    decisions: tuple[str, ...] = ()
    use_case: str = ""
    since_ns: int = 0
    until_ns: int = 0


class _Head(msgspec.Struct):
    """One log as it stood when the folder was cut."""

    name: str
    note: bytes
    size: int
    tree: Tree
    tiles: Tiles


def cut(
    ledger: Ledger,
    registry: Registry,
    scope: Scope,
    folder: Path,
    *,
    by: str,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the folder and record on the control log that it was cut. Returns a summary.

    Raises `ConflictError` when the folder exists, `NotFoundError` when a decision does not, and
    `IntegrityError` when anything in the ledger does not hold: a broken ledger gives no evidence.
    """
    if folder.exists():
        raise ConflictError(f"{folder} exists already; evidence is written into a new folder")
    tell = progress or (lambda what, done, total: None)
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    if scope.kind == "use-case":  # the folder speaks for what has happened, not for what will
        scope = msgspec.structs.replace(scope, until_ns=min(scope.until_ns, ledger.clock()))
    try:
        summary = _Cut(ledger, registry, scope, draft, tell).run()
        draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    ledger.emit(
        "evidence.cut",
        {"by": by, "scope": msgspec.to_builtins(scope), "manifest": summary["manifest"]},
        use_case=scope.use_case,
    )
    return summary


class _Cut:
    def __init__(
        self, ledger: Ledger, registry: Registry, scope: Scope, folder: Path, tell: Progress
    ) -> None:
        self.ledger, self.registry, self.scope, self.folder, self.tell = ledger, registry, scope, folder, tell

    def run(self) -> dict[str, Any]:
        self.ledger.heads()
        self.cosigned: set[tuple[str, int]] = set()
        self.heads = {CONTROL: self._head(CONTROL)}
        with (self.folder / "proofs.jsonl").open("w", encoding="utf-8") as self.proofs:
            events = self._control()
            decisions = self._decisions()
        self._consistency(events)
        self._write_keys()
        releases = self._releases({d["release"] for d in decisions if d.get("release")})
        self._lines("approvals.jsonl", offline.approvals_view(events))
        self._lines("checks.jsonl", offline.checks_view(events))
        self._json("release.json", releases)
        size = self.heads[CONTROL].size
        history = [a for a in self.registry.states().pack_history if a.mark.index < size]
        adopted = [{n: getattr(a, n) for n in PACK} for a in history]
        for name, text in offline.pack_views(adopted).items():
            (self.folder / name).parent.mkdir(exist_ok=True)
            (self.folder / name).write_text(text, "utf-8")
        write_decisions(self.folder / "decisions.parquet", decisions)
        scope = {**msgspec.to_builtins(self.scope), "home": self.registry.scope}
        shown = decisions[: offline.SHOWN]
        (self.folder / "index.html").write_text(
            offline.page(scope, shown, len(decisions), releases, events), "utf-8"
        )
        created = max(e["time_ns"] for e in events if e["payload"].get("event") == "heads")
        self._reports(releases, events, offline.time_text(created))
        source = Path(offline.__file__).read_text("utf-8")
        (self.folder / "verify.py").write_text(source, "utf-8")
        files = {
            path.relative_to(self.folder).as_posix(): {
                "sha256": digest_text(path.read_bytes())[7:],
                "size": path.stat().st_size,
            }
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }
        self._json(
            "manifest.json",
            {
                "format": offline.FORMAT,
                "created": offline.time_text(created),
                "scope": scope,
                "files": files,
            },
        )
        manifest = digest_text((self.folder / "manifest.json").read_bytes())
        return {
            "decisions": len(decisions),
            "events": len(events),
            "releases": len(releases),
            "files": len(files) + 1,
            "manifest": manifest,
        }

    def _reports(self, releases: list[dict[str, Any]], events: list[dict[str, Any]], created: str) -> None:
        """What readers are given beside the proved content: made from it, and not checked again."""
        runs = check_runs(events)
        state = self.registry.states()
        for release in releases:
            folder = self.folder / "releases" / release["release"][7:]
            files = {name: (folder / name).read_bytes() for name in ("contract.json", "provenance.json")}
            use_case = state.use(release["use_case"]).use_case.document
            attested = attested_kinds(events, release["use_case"], created[:10])
            stem = f"reports/{file_name(release)}"
            self._page(f"{stem}.validation.html", validation_report(release, runs, events, created))
            self._page(
                f"{stem}.technical-file.html",
                technical_file(release, files, use_case, runs, attested, created),
            )

        scope = self.registry.scope
        self._page("oscal/assessment-results.json", assessment_results(scope, created, releases, runs))
        if log := evaluation_log(scope, created, releases, runs):
            self._page("gemara/evaluation-log.yaml", log)
        population = changes(events)
        self._page("changes/changes.jsonl", changes_jsonl(population))
        self._page("changes/changes.csv", changes_csv(population))

    def _page(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text.encode("utf-8"))

    # --- parts ---

    def _head(self, name: str) -> _Head:
        tiles = Tiles(self.ledger.folder(name))
        cosigned = read_cosigned(self.ledger.folder(name))  # before the checkpoint, which then is not older
        note = tiles.read_checkpoint()
        checkpoint = self.ledger.keys(name).open(note)
        tree = Tree.resume(checkpoint.size, tiles.tile, tiles.tile)
        if tree.root() != checkpoint.root:
            raise IntegrityError(f"the tiles of log {name} do not lead to its signed root")
        (self.folder / "checkpoints").mkdir(exist_ok=True)
        (self.folder / "checkpoints" / f"{name}.txt").write_bytes(note)
        if cosigned is not None:
            self.cosigned.add((name, self.ledger.keys(name).open(cosigned).size))
            (self.folder / "checkpoints" / f"{name}.cosigned.txt").write_bytes(cosigned)
        return _Head(name, note, checkpoint.size, tree, tiles)

    def _prove(self, head: _Head, start: int, headers: list[bytes]) -> None:
        for at in range(0, len(headers), RANGE_RECORDS):
            part = headers[at : at + RANGE_RECORDS]
            first = start + at
            line = {
                "log": head.name,
                "start": first,
                "headers": [_text(h) for h in part],
                "beside": [_text(h) for h in head.tree.beside(first, first + len(part), head.size)],
            }
            self.proofs.write(offline.line_text(line))

    def _consistency(self, events: list[dict[str, Any]]) -> None:
        """Proofs that each log has only grown since every head that was recorded of it or cosigned."""
        recorded = {
            (head["log"], head["size"])
            for event in events
            if event["payload"].get("event") == "heads"
            for head in event["payload"]["heads"]
        }
        lines = []
        for log, size in sorted(recorded | self.cosigned):
            head = self.heads.get(log)
            if head is None or size == 0:
                continue
            if size > head.size:
                raise IntegrityError(f"log {log} is shorter than a head that was recorded of it")
            path = head.tree.consistency(size, head.size)
            lines.append({"log": log, "size": size, "path": [_text(h) for h in path]})
        self._lines("consistency.jsonl", lines)

    def _control(self) -> list[dict[str, Any]]:
        head = self.heads[CONTROL]
        headers: list[bytes] = []
        events: list[dict[str, Any]] = []

        def lines() -> Iterator[dict[str, Any]]:
            for record in self.ledger.records(CONTROL):
                if record.index >= head.size:
                    break
                headers.append(record.header_bytes)
                line = _disclosure(record, sealed_too=False)
                if "payload" in line:
                    found = {
                        "index": record.index,
                        "time_ns": record.header.time_ns,
                        "payload": json.loads(line["payload"]),
                    }
                    events.append(found)
                yield line

        self._lines("events.jsonl", lines())
        self._prove(head, 0, headers)
        return events

    def _decisions(self) -> list[dict[str, Any]]:
        lines: list[dict[str, Any]] = []
        found: list[dict[str, Any]] = []
        records = self._single() if self.scope.kind == "decisions" else self._period()
        for record in records:
            line = _disclosure(record, sealed_too=True)
            lines.append(line)
            header = record.header
            found.append(
                offline.decision_view(
                    record.id, header.time_ns, record.state, header.use_case, line.get("payload")
                )
            )
            if len(found) > MAX_DECISIONS:
                raise ConflictError(f"the period holds over {MAX_DECISIONS} decisions; cut it in parts")
        self._lines("decisions.jsonl", lines)
        return found

    def _single(self) -> Iterator[Record]:
        for done, record_id in enumerate(self.scope.decisions):
            self.tell("proving", done, len(self.scope.decisions))
            record = self.ledger.get(record_id)
            if record.header.kind != Kind.DECISION:
                raise NotFoundError(f"record {record_id} is an event, not a decision")
            head = self.heads.get(record.log)
            if head is None:
                head = self.heads[record.log] = self._head(record.log)
            if record.index >= head.size:
                raise ConflictError(
                    f"record {record_id} is not under a checkpoint yet; try again in a second"
                )
            self._prove(head, record.index, [record.header_bytes])
            yield record

    def _period(self) -> Iterator[Record]:
        """Every record of every log in the period is proved, with a neighbour on each side where there is one."""
        scope = self.scope
        for name in self.ledger.logs():
            if name == CONTROL:
                continue
            head = self.heads[name] = self._head(name)
            first = _lower_bound(head, scope.since_ns)
            end = _lower_bound(head, scope.until_ns)
            start, stop = max(first - 1, 0), min(end + 1, head.size)
            headers: list[bytes] = []
            for record in self.ledger.records(name, start):
                if record.index >= stop:
                    break
                headers.append(record.header_bytes)
                self.tell(f"proving {name}", record.index - start, stop - start)
                header = record.header
                inside = first <= record.index < end
                if inside and header.kind == Kind.DECISION and header.use_case == scope.use_case:
                    yield record
            if headers:
                self._prove(head, start, headers)

    def _releases(self, digests: set[str]) -> list[dict[str, Any]]:
        state = self.registry.states()
        if self.scope.use_case and (live := state.live(self.scope.use_case)):
            digests = digests | {live}
        summary = []
        for digest in sorted(digests):
            bundle = self.registry.verify(digest)
            target = self.folder / "releases" / digest[7:]
            for path, raw in {"manifest.json": bundle.manifest_bytes, **bundle.files}.items():
                (target / path).parent.mkdir(parents=True, exist_ok=True)
                (target / path).write_bytes(raw)
            (target / "signatures").mkdir(exist_ok=True)
            for key_id, envelope in bundle.signatures.items():
                (target / "signatures" / f"{key_id}.dsse.json").write_bytes(envelope)
            known = state.release(digest)
            summary.append(
                offline.release_view(
                    digest,
                    bundle.manifest_bytes,
                    bundle.files["card.md"],
                    known.author,
                    [a.party for a in known.approvals],
                    state.state(digest),
                )
            )
        return summary

    def _write_keys(self) -> None:
        keys = {}
        for name in self.heads:
            keys[name] = next(t for t in self.ledger.keys(name).texts if _is_ed25519(t))
        self._json("keys.json", {"logs": keys})

    def _json(self, name: str, document: Any) -> None:
        (self.folder / name).write_text(offline.json_text(document), "utf-8")

    def _lines(self, name: str, lines: Iterable[Any]) -> None:
        with (self.folder / name).open("w", encoding="utf-8") as file:
            for line in lines:
                file.write(offline.line_text(line))


def _disclosure(record: Record, *, sealed_too: bool) -> dict[str, Any]:
    line: dict[str, Any] = {"log": record.log, "index": record.index}
    if record.payload is None or record.salt is None:
        return {**line, "state": record.state}
    if record.header.sealed and not sealed_too:
        return {**line, "state": "withheld"}
    return {**line, "salt": _text(record.salt), "payload": record.payload.decode("utf-8")}


def _lower_bound(head: _Head, time_ns: int) -> int:
    """First record of the log whose time is not before `time_ns`; times never go backwards in a log."""
    low, high = 0, head.size
    while low < high:
        middle = (low + high) // 2
        width = min(256, head.size - middle // 256 * 256)
        entry = head.tiles.entries(middle // 256, width)[middle % 256]
        if decode_header(entry).time_ns < time_ns:
            low = middle + 1
        else:
            high = middle
    return low


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _is_ed25519(key: str) -> bool:
    try:
        offline.parse_log_key(key)
    except ValueError:
        return False
    return True
