"""Bounded frames between a member and its worker: a JSON header and raw array buffers, never pickle.

    frame = "FJF1" | header length, 4 bytes big-endian | body length, 8 bytes | header | body

The header is a JSON object; its member `arrays` lists name, dtype and shape of the arrays that lie one after
the other, in C order, in the body. A frame that says one thing and carries another is refused whole.
Proof: tests/joint/test_frames.py.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np

MAGIC = b"FJF1"
HEAD = struct.Struct(">4sIQ")
MAX_HEADER = 4 << 20
"""Largest header, bytes."""
MAX_BODY = 8 << 30
"""Largest body, bytes."""
MAX_ARRAYS = 512
MAX_DIMENSIONS = 4
_DTYPE = re.compile(r"[<|](?:f[48]|[iu][1248]|b1|S[1-9]\d{0,3}|U[1-9]\d{0,3})")
_CHUNK = 1 << 20


class FrameError(Exception):
    """The bytes are no frame of ours, or a frame passes a limit."""


def pack(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray[Any, Any]] | None = None) -> list[Any]:
    """The buffers of one frame, to be written one after the other. Raises `FrameError` for what it cannot say."""
    listed, buffers = [], []
    for name, value in (arrays or {}).items():
        array = np.ascontiguousarray(value)
        array = array.reshape(np.shape(value))
        if array.dtype.byteorder == ">":
            array = array.astype(array.dtype.newbyteorder("<"))
        if not _DTYPE.fullmatch(array.dtype.str) or array.ndim > MAX_DIMENSIONS:
            raise FrameError(f"array {name!r} of {array.dtype} with {array.ndim} dimensions cannot be sent")
        listed.append({"name": name, "dtype": array.dtype.str, "shape": list(array.shape)})
        buffers.append(array.reshape(-1).view(np.uint8).data if array.size else b"")
    if len(listed) > MAX_ARRAYS:
        raise FrameError(f"{len(listed)} arrays in one frame; at most {MAX_ARRAYS}")
    text = json.dumps({**header, "arrays": listed}, allow_nan=False).encode()
    size = sum(len(b) for b in buffers)
    if len(text) > MAX_HEADER or size > MAX_BODY:
        raise FrameError(f"a frame of {len(text)} + {size} bytes is larger than {MAX_HEADER} + {MAX_BODY}")
    return [HEAD.pack(MAGIC, len(text), size) + text, *buffers]


def write(
    file: BinaryIO, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray[Any, Any]] | None = None
) -> None:
    """Write one frame and flush it."""
    for part in pack(header, arrays):
        file.write(part)
    file.flush()


def read(
    file: BinaryIO, *, max_body: int = MAX_BODY
) -> tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]] | None:
    """The next frame as header and arrays; None at the end of the stream. Raises `FrameError`."""
    first = file.read(1)
    if not first:
        return None
    magic, header_size, body_size = HEAD.unpack(first + _exactly(file.read, HEAD.size - 1))
    if magic != MAGIC:
        raise FrameError("the bytes do not begin like a frame")
    if header_size > MAX_HEADER or body_size > min(max_body, MAX_BODY):
        raise FrameError(f"a frame announces {header_size} + {body_size} bytes, over the limit")
    header = _header(_exactly(file.read, header_size))
    listed = _listed(header, body_size)
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for name, dtype, shape, size in listed:
        array = np.empty(shape, dtype)
        if size:
            view = memoryview(array.reshape(-1).view(np.uint8).data)
            at = 0
            while at < size:
                part = file.read(min(_CHUNK, size - at))
                if not part:
                    raise FrameError("the stream ended inside a frame")
                view[at : at + len(part)] = part
                at += len(part)
        arrays[name] = array
    return header, arrays


def _exactly(read: Callable[[int], bytes], size: int) -> bytes:
    parts = []
    while size:
        part = read(min(size, _CHUNK))
        if not part:
            raise FrameError("the stream ended inside a frame")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _no_constant(name: str) -> Any:
    raise FrameError(f"{name} is not a JSON number")


def _header(raw: bytes) -> dict[str, Any]:
    try:
        header = json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise FrameError("the header of a frame is not JSON") from None
    if not isinstance(header, dict) or not isinstance(header.get("type"), str):
        raise FrameError("the header of a frame is not an object with a type")
    return header


def _listed(header: dict[str, Any], body_size: int) -> list[tuple[str, str, tuple[int, ...], int]]:
    arrays = header.pop("arrays", [])
    if not isinstance(arrays, list) or len(arrays) > MAX_ARRAYS:
        raise FrameError(f"a frame lists no arrays, or more than {MAX_ARRAYS}")
    found: list[tuple[str, str, tuple[int, ...], int]] = []
    for item in arrays:
        if not isinstance(item, dict) or set(item) != {"name", "dtype", "shape"}:
            raise FrameError("an array of a frame needs name, dtype and shape, and nothing else")
        name, dtype, shape = item["name"], item["dtype"], item["shape"]
        if not isinstance(name, str) or name in {f[0] for f in found}:
            raise FrameError("the arrays of a frame need different names")
        if not isinstance(dtype, str) or not _DTYPE.fullmatch(dtype):
            raise FrameError(f"array {name!r} has a type that is not taken")
        if (
            not isinstance(shape, list)
            or len(shape) > MAX_DIMENSIONS
            or not all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n <= MAX_BODY for n in shape)
        ):
            raise FrameError(f"array {name!r} has a shape that is not taken")
        found.append((name, dtype, tuple(shape), math.prod(shape) * np.dtype(dtype).itemsize))
    if sum(size for *_, size in found) != body_size:
        raise FrameError("the body of a frame is not as long as its arrays")
    return found
