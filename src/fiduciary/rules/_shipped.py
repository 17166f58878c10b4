"""The packs that come with the product: starter packs, none reviewed by counsel."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources

from fiduciary.rules._pack import Pack, pack_from_document
from fiduciary.rules._yaml import read_yaml


def load_pack(raw: bytes) -> Pack:
    """A pack from YAML, wholly checked. Raises `UsageError` naming line or place, or `LimitError`."""
    return pack_from_document(read_yaml(raw))


@lru_cache(maxsize=1)
def _all() -> tuple[Pack, ...]:
    folder = resources.files("fiduciary.rules") / "packs"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".yaml")), key=lambda f: f.name)
    return tuple(load_pack(f.read_bytes()) for f in files)


def shipped_packs() -> list[Pack]:
    """Every shipped pack, in order of their names."""
    return list(_all())
