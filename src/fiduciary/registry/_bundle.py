"""A release bundle: a folder whose manifest names every file by SHA-256, and nothing else may lie in it.

The release digest is SHA-256 of the bytes of `manifest.json` (RFC 8785 JSON), written `sha256:<hex>`. Only
`signatures/` stands outside the manifest: signatures are made after it. Verification reads each file once,
without following a link in any part of its path, into memory; callers use those bytes, so what was verified
is what is used (tests/attacks/test_releases.py). Format: docs/formats/release.md.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from fiduciary.errors import FiduciaryError, LimitError, ReleaseError
from fiduciary.registry._canonical import canonical, parse

FORMAT = "fiduciary.release/1"
MANIFEST = "manifest.json"
SIGNATURES = "signatures"
CONTRACT = "contract.json"
BASELINE = "baseline.json"
REFERENCE = "reference.json"
PROBES = "probes.json"
CHECKS = "checks.json"
CARD = "card.md"
PROVENANCE = "provenance.json"
MODEL = "model"
REQUIRED = (BASELINE, CARD, CHECKS, CONTRACT, f"{MODEL}/model.json", PROBES, PROVENANCE, REFERENCE)

MAX_FILES = 256
MAX_DEPTH = 6
MAX_PATH = 200
MAX_FILE_BYTES = 512 << 20
MAX_TOTAL_BYTES = 1 << 30
MAX_MANIFEST_BYTES = 1 << 20
MAX_JSON_BYTES = 16 << 20
MAX_SIGNATURES = 16
MAX_SIGNATURE_BYTES = 2 << 20

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_HEX = re.compile(r"[0-9a-f]{64}")
_SIGNATURE_NAME = re.compile(r"[0-9a-f]{16}\.dsse\.json")


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a bundle: SHA-256 in hexadecimal and size in bytes."""

    sha256: str
    size: int


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a release is. Holds no time: the same inputs give the same digest."""

    format: str
    name: str
    version: str
    use_case: str
    """The use case this release was made for; it can be promoted nowhere else."""
    family: str
    files: dict[str, File]


class Bundle(msgspec.Struct, frozen=True):
    """A verified bundle, wholly in memory."""

    digest: str
    manifest: Manifest
    manifest_bytes: bytes
    files: dict[str, bytes]
    signatures: dict[str, bytes]
    """Envelope bytes by key id; not verified here, since whose key counts is the ledger's to say."""

    def document(self, name: str) -> Any:
        """A JSON file of the bundle, parsed strictly. Raises `ReleaseError`."""
        try:
            return parse(self.files[name], f"{name} of release {self.digest}", MAX_JSON_BYTES)
        except KeyError:
            raise ReleaseError(f"the bundle holds no {name}") from None
        except ReleaseError:
            raise
        except FiduciaryError as error:
            raise ReleaseError(error.detail) from None


def digest_text(raw: bytes) -> str:
    """`sha256:<hex>` of some bytes."""
    return "sha256:" + hashlib.sha256(raw).hexdigest()


def digest_hex(digest: str) -> str:
    """The 64 hexadecimal digits of `sha256:<hex>`. Raises `ReleaseError` for anything else."""
    prefix, _, rest = digest.partition(":")
    if prefix != "sha256" or not _HEX.fullmatch(rest):
        raise ReleaseError(f"{digest[:80]!r} is not a release digest (sha256:<64 hexadecimal digits>)")
    return rest


def check_path(path: str) -> str:
    """A bundle path is relative: 1 to 6 plain segments of ASCII letters, digits, `.`, `_`, `-`, none hidden.

    Returns it. Raises `ReleaseError`.
    """
    segments = path.split("/")
    plain = all(_SEGMENT.fullmatch(s) for s in segments)
    if not plain or len(segments) > MAX_DEPTH or len(path) > MAX_PATH:
        raise ReleaseError(
            f"{path[:80]!r} is not a bundle path: relative, at most {MAX_DEPTH} segments of a-z A-Z 0-9 . _ -"
        )
    if path == MANIFEST or segments[0] == SIGNATURES:
        raise ReleaseError(f"{path!r} cannot be listed in the manifest: it stands beside the listed files")
    return path


def make_manifest(
    *, name: str, version: str, use_case: str, family: str, files: Mapping[str, bytes]
) -> tuple[Manifest, bytes]:
    """The manifest of `files` (path -> bytes) and its canonical bytes. Raises `ReleaseError`."""
    manifest = Manifest(
        format=FORMAT,
        name=name,
        version=version,
        use_case=use_case,
        family=family,
        files={path: File(hashlib.sha256(raw).hexdigest(), len(raw)) for path, raw in files.items()},
    )
    _check_manifest(manifest)
    return manifest, canonical(msgspec.to_builtins(manifest))


def read_manifest(raw: bytes) -> Manifest:
    """Parse and check manifest bytes: canonical, known format, safe paths, limits. Raises `ReleaseError`."""
    try:
        document = parse(raw, MANIFEST, MAX_MANIFEST_BYTES)
        manifest = msgspec.convert(document, Manifest)
        same = canonical(document) == raw
    except (FiduciaryError, msgspec.ValidationError) as error:
        raise ReleaseError(f"{MANIFEST} is not a release manifest: {error}") from None
    if not same:
        raise ReleaseError(f"{MANIFEST} is not in canonical form (RFC 8785), so its digest is not unique")
    _check_manifest(manifest)
    return manifest


def _check_manifest(manifest: Manifest) -> None:
    if manifest.format != FORMAT:
        raise ReleaseError(f"the manifest has format {manifest.format[:40]!r}; this program reads {FORMAT!r}")
    for field in ("name", "version", "use_case", "family"):
        value = getattr(manifest, field)
        if not _NAME.fullmatch(value):
            raise ReleaseError(
                f"the manifest's {field} {value[:80]!r} must be 1 to 63 lower-case letters, digits, . _ - "
                "and start with a letter or digit"
            )
    if len(manifest.files) > MAX_FILES:
        raise LimitError(f"a bundle holds at most {MAX_FILES} files, not {len(manifest.files)}")
    seen: dict[str, str] = {}
    total = 0
    for path, file in manifest.files.items():
        check_path(path)
        folded = path.lower()
        if folded in seen:
            raise ReleaseError(f"{path!r} and {seen[folded]!r} are one file where case is not told apart")
        seen[folded] = path
        if not _HEX.fullmatch(file.sha256):
            raise ReleaseError(f"the SHA-256 of {path!r} is not 64 hexadecimal digits")
        if not 0 <= file.size <= MAX_FILE_BYTES:
            raise LimitError(f"{path!r} has {file.size} bytes; a file of a bundle may have {MAX_FILE_BYTES}")
        total += file.size
    if total > MAX_TOTAL_BYTES:
        raise LimitError(f"the bundle has {total} bytes; at most {MAX_TOTAL_BYTES} are allowed")
    missing = [path for path in REQUIRED if path not in manifest.files]
    if missing:
        raise ReleaseError(f"the bundle lacks {', '.join(missing)}")


def read_bundle(folder: Path, digest: str | None = None) -> Bundle:
    """Read and verify a bundle folder, each file once, into memory.

    `digest`: the digest it must have. Raises `ReleaseError` (a wrong digest or size, a file missing or not
    listed, a link, a device) or `LimitError`.
    """
    top = _open_folder(folder)
    try:
        raw = _read(top, MANIFEST, MAX_MANIFEST_BYTES)
        found = digest_text(raw)
        if digest is not None and found != digest:
            raise ReleaseError(f"the manifest in {folder} has digest {found}, not {digest}")
        manifest = read_manifest(raw)
        _check_listing(top, manifest)
        files: dict[str, bytes] = {}
        for path, file in manifest.files.items():
            content = _read(top, path, file.size)
            if len(content) != file.size or hashlib.sha256(content).hexdigest() != file.sha256:
                raise ReleaseError(
                    f"{path} of release {found} is not the file the manifest names", where=path
                )
            files[path] = content
        signatures = _read_signatures(top)
    finally:
        os.close(top)
    return Bundle(found, manifest, raw, files, signatures)


def _open_folder(folder: Path) -> int:
    try:
        return os.open(folder, _READ | os.O_DIRECTORY)
    except OSError as error:
        raise ReleaseError(f"there is no release bundle at {folder}: {error.strerror}") from None


def _check_listing(top: int, manifest: Manifest) -> None:
    """Every file that lies in the folder is listed; every folder leads to a listed file."""
    folders = {str(parent) for path in manifest.files for parent in PurePosixPath(path).parents}
    count = 0
    for path, mode in _walk(top):
        count += 1
        if count > 2 * MAX_FILES + MAX_SIGNATURES:
            raise LimitError(f"the bundle folder holds more than {2 * MAX_FILES} entries")
        if path in (MANIFEST, SIGNATURES) or path.startswith(SIGNATURES + "/"):
            continue
        if stat.S_ISDIR(mode):
            if path not in folders:
                raise ReleaseError(f"the bundle holds the folder {path!r}, which the manifest does not list")
        elif not stat.S_ISREG(mode):
            raise ReleaseError(f"{path!r} of the bundle is a link or a device, not a file", where=path)
        elif path not in manifest.files:
            raise ReleaseError(f"the bundle holds {path!r}, which the manifest does not list", where=path)


def _walk(top: int, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, int]]:
    if depth > MAX_DEPTH:
        raise LimitError(f"the bundle's folders are nested deeper than {MAX_DEPTH}")
    with os.scandir(top) as entries:
        for entry in entries:
            mode = entry.stat(follow_symlinks=False).st_mode
            path = prefix + entry.name
            yield path, mode
            if stat.S_ISDIR(mode):
                inner = _open_at(top, entry.name, os.O_DIRECTORY)
                try:
                    yield from _walk(inner, path + "/", depth + 1)
                finally:
                    os.close(inner)


def _open_at(folder: int, name: str, flags: int = 0) -> int:
    try:
        # O_NONBLOCK: opening a named pipe must fail the file test below, not wait for a writer.
        return os.open(name, _READ | os.O_NONBLOCK | flags, dir_fd=folder)
    except OSError as error:
        raise ReleaseError(f"{name!r} of the bundle cannot be read: {error.strerror}", where=name) from None


def _read(top: int, path: str, limit: int) -> bytes:
    """The bytes of a regular file below `top`; no part of the path may be a link. At most `limit` bytes."""
    *folders, name = path.split("/")
    opened = [top]
    try:
        for folder in folders:
            opened.append(_open_at(opened[-1], folder, os.O_DIRECTORY))
        opened.append(_open_at(opened[-1], name))
        status = os.fstat(opened[-1])
        if not stat.S_ISREG(status.st_mode):
            raise ReleaseError(f"{path!r} of the bundle is not a regular file", where=path)
        if status.st_size > limit:
            raise ReleaseError(
                f"{path!r} has {status.st_size} bytes, more than the {limit} it may", where=path
            )
        with os.fdopen(os.dup(opened[-1]), "rb") as file:
            return file.read(limit + 1)
    finally:
        for descriptor in opened[1:]:
            os.close(descriptor)


def _read_signatures(top: int) -> dict[str, bytes]:
    try:
        folder = os.open(SIGNATURES, _READ | os.O_DIRECTORY, dir_fd=top)
    except FileNotFoundError:
        return {}
    except OSError:
        raise ReleaseError(f"{SIGNATURES} of the bundle is not a folder") from None
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - a Path cannot hold an open folder
        if len(names) > MAX_SIGNATURES:
            raise LimitError(f"a bundle carries at most {MAX_SIGNATURES} signatures, not {len(names)}")
        for name in names:
            if not _SIGNATURE_NAME.fullmatch(name):
                raise ReleaseError(f"{SIGNATURES}/{name[:80]} is not a signature file (<key id>.dsse.json)")
        return {name[:16]: _read(folder, name, MAX_SIGNATURE_BYTES) for name in names}
    finally:
        os.close(folder)


def write_bundle(parent: Path, manifest_bytes: bytes, files: Mapping[str, bytes]) -> Path:
    """Write a bundle as `<parent>/<digest hex>`, durable and whole or not at all; returns its folder.

    Files are made read-only. Where that bundle lies there already it is verified and left as it is.
    """
    digest = digest_text(manifest_bytes)
    target = parent / digest_hex(digest)
    parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        read_bundle(target, digest)
        return target
    building = parent / f".building-{os.getpid()}-{os.urandom(4).hex()}"
    building.mkdir(mode=0o755)
    try:
        folders = {building}
        for path, raw in [*files.items(), (MANIFEST, manifest_bytes)]:
            place = building / (path if path == MANIFEST else check_path(path))
            place.parent.mkdir(parents=True, exist_ok=True)
            folders.update(p for p in place.parents if p.is_relative_to(building))
            write_durable(place, raw)
        for folder in folders:
            sync_folder(folder)
        read_bundle(building, digest)  # what was written is what was meant
        try:
            building.rename(target)
        except OSError:  # another process was first with the same digest
            read_bundle(target, digest)
        sync_folder(parent)
    finally:
        remove_tree(building)
    return target


def write_durable(place: Path, raw: bytes, mode: int = 0o444) -> None:
    """Create a file (it must not exist) with its bytes on disk before the return."""
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_tree(folder: Path) -> None:
    """Remove a folder of ours that may be half-written; nothing happens where there is none."""
    import shutil

    if folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
