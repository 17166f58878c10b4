"""Frames between member and worker: what goes in comes out, and nothing else is taken."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiduciary.joint.worker._frames import HEAD, MAGIC, FrameError, read, write

DTYPES = st.sampled_from(["<f4", "<f8", "<i8", "|u1", "|b1", "|S7", "<U3"])


@given(dtype=DTYPES, shape=st.lists(st.integers(0, 4), max_size=4), text=st.text(max_size=20))
@settings(max_examples=100, deadline=None)
def test_what_is_written_is_read(dtype: str, shape: list[int], text: str) -> None:
    array = np.zeros(shape, dtype)
    if array.size and array.dtype.kind in "fiu":
        array += np.arange(array.size).reshape(shape).astype(array.dtype)
    file = io.BytesIO()
    write(file, {"type": "job", "text": text}, {"x": array, "y": np.arange(3.0)})
    file.seek(0)
    found = read(file)
    assert found is not None
    header, arrays = found
    assert header == {"type": "job", "text": text}
    assert arrays["x"].dtype == array.dtype and arrays["x"].shape == array.shape
    assert np.array_equal(arrays["x"], array) and np.array_equal(arrays["y"], np.arange(3.0))
    assert read(file) is None


def frame(header: Any, body: bytes = b"", magic: bytes = MAGIC, claim: int | None = None) -> io.BytesIO:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return io.BytesIO(HEAD.pack(magic, len(raw), len(body) if claim is None else claim) + raw + body)


def one(**changes: Any) -> dict[str, Any]:
    return {"type": "job", "arrays": [{"name": "x", "dtype": "<f8", "shape": [1], **changes}]}


@pytest.mark.parametrize(
    "file",
    [
        frame({"type": "job"}, magic=b"nope"),
        frame(b"not json"),
        frame([1]),
        frame({"no": "type"}),
        frame(b'{"type": "job", "x": NaN}'),
        frame(one(dtype="O"), b"8" * 8),
        frame(one(dtype="|O"), b"8" * 8),
        frame(one(shape=[-1]), b"8" * 8),
        frame(one(shape=[True]), b"8" * 8),
        frame(one(shape=[1] * 5), b"8" * 8),
        frame(one(shape=[2]), b"8" * 8),
        frame(one(more=1), b"8" * 8),
        frame(one(), b"8" * 7, claim=8),
        frame(one(), b"", claim=1 << 60),
        frame({"type": "job", "arrays": [one()["arrays"][0]] * 2}, b"8" * 16),
        frame({"type": "job", "arrays": "x"}),
        io.BytesIO(b"FJ"),
    ],
)
def test_anything_else_is_refused(file: io.BytesIO) -> None:
    with pytest.raises(FrameError):
        read(file)


def test_objects_are_never_sent() -> None:
    with pytest.raises(FrameError, match="cannot be sent"):
        write(io.BytesIO(), {"type": "job"}, {"x": np.array([object()])})
