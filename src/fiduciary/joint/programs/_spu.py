"""What every program does with the engine: share, compile once, run, reveal only to receivers.

Executables are kept by function, shapes and protocol for the life of the worker, so that a second job of the same
shape compiles nothing. Shares travel as length-prefixed chunks with bounds, never as pickles.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

MAX_PUBLIC = 16 << 20
"""Largest message in the clear, bytes."""
MAX_CHUNKS = 4_096
_compiled: dict[Any, tuple[Any, list[tuple[tuple[int, ...], Any]]]] = {}


class ProgramFailure(Exception):
    """The program stops, on every side alike, because of one revealed bit or of a public fact."""


class Context:
    """One party's view of a running job."""

    def __init__(
        self,
        *,
        link: Any,
        rank: int,
        parties: Sequence[str],
        protocol: str,
        field: str,
        fraction_bits: int | None,
        columns: Mapping[str, Mapping[str, tuple[tuple[int, ...], str]]],
        inputs: Mapping[str, np.ndarray[Any, Any]],
        receivers: Sequence[str],
        progress: Callable[..., None],
        workdir: str,
    ) -> None:
        self.link, self.rank, self.parties, self.protocol = link, rank, list(parties), protocol
        self.columns, self.inputs, self.receivers = columns, inputs, list(receivers)
        self.progress, self.workdir, self.me = progress, workdir, parties[rank]
        self.field, self.fraction_bits = field, fraction_bits
        self._engine: Any = None
        self._shapes: dict[str, tuple[tuple[int, ...], Any]] = {}
        self._steps = 0
        self._compile_seconds = 0.0

    # -- the engine, started at first use ------------------------------------------------------------------

    def _start(self) -> tuple[Any, Any, Any]:
        if self._engine is None:
            import jax
            import spu
            from spu import libspu

            jax.config.update("jax_enable_x64", True)
            kind = {"aby3": "ABY3", "cheetah": "CHEETAH", "semi2k": "SEMI2K", "ref2k": "REF2K"}[self.protocol]
            config = libspu.RuntimeConfig(
                protocol=getattr(libspu.ProtocolKind, kind),
                field=getattr(libspu.FieldType, self.field),
                fxp_fraction_bits=self.fraction_bits or {"FM32": 8, "FM64": 18, "FM128": 26}[self.field],
            )
            self._engine = libspu, spu.Runtime(self.link, config), spu.Io(len(self.parties), config)
        return self._engine  # type: ignore[no-any-return]

    # -- in the clear ---------------------------------------------------------------------------------------

    def gather(self, value: Any) -> list[Any]:
        """Tell every party a public JSON value; everybody's values by rank."""
        mine = json.dumps(value, allow_nan=False).encode()
        for other in self._others():
            self.link.send_async(other, mine)
        self._steps += 1
        return [value if r == self.rank else self._public(r) for r in range(len(self.parties))]

    def tell(self, value: Any, to: Sequence[str]) -> list[Any]:
        """Tell `to` (receivers) a JSON value; at a receiver everybody's values by rank, elsewhere []."""
        self._may_learn(to)
        mine = json.dumps(value, allow_nan=False).encode()
        for other in self._others():
            if self.parties[other] in to:
                self.link.send_async(other, mine)
        self._steps += 1
        if self.me not in to:
            return []
        return [value if r == self.rank else self._public(r) for r in range(len(self.parties))]

    def _public(self, rank: int) -> Any:
        raw = self.link.recv(rank)
        if len(raw) > MAX_PUBLIC:
            raise ProgramFailure(f"{self.parties[rank]} sent a public message over {MAX_PUBLIC} bytes")
        try:
            return json.loads(raw)
        except ValueError:
            raise ProgramFailure(f"{self.parties[rank]} sent a public message that is not JSON") from None

    def _others(self) -> list[int]:
        return [r for r in range(len(self.parties)) if r != self.rank]

    # -- secret ---------------------------------------------------------------------------------------------

    def share(
        self,
        name: str,
        owner: str,
        array: np.ndarray[Any, Any] | None,
        shape: Sequence[int],
        dtype: Any = np.float32,
    ) -> None:
        """Secret-share `array` of `owner` (None at the others) under `name`."""
        libspu, runtime, io = self._start()
        shape, source = tuple(int(n) for n in shape), self.parties.index(owner)
        if self.rank == source:
            if array is None or array.shape != shape:
                raise ValueError(f"{name} has another shape than was agreed")
            shares = io.make_shares(np.ascontiguousarray(array, dtype), libspu.Visibility.VIS_SECRET)
            for other in self._others():
                self.link.send_async(other, _pack(shares[other]))
            runtime.set_var(name, shares[source])
        else:
            runtime.set_var(name, _unpack(libspu, self.link.recv(source)))
        self._shapes[name] = shape, np.dtype(dtype)
        self._steps += 1

    def run(
        self, function: Callable[..., Any], inputs: Sequence[str], outputs: Sequence[str], key: Any = None
    ) -> None:
        """Run a JAX function on named secrets; `key` tells apart closures over different constants."""
        libspu, runtime, _ = self._start()
        shapes = tuple(self._shapes[name] for name in inputs)
        which = (
            function.__module__,
            function.__qualname__,
            key,
            self.protocol,
            self.field,
            self.fraction_bits,
        )
        ident = (*which, tuple(inputs), tuple(outputs), shapes)
        if ident not in _compiled:
            _compiled[ident] = _compile(libspu, function, inputs, outputs, shapes)
        executable, results = _compiled[ident]
        runtime.run(executable)
        self._shapes.update(zip(outputs, results, strict=True))
        self._steps += 1

    def drop(self, *names: str) -> None:
        """Forget secrets that are no longer needed."""
        for name in names:
            self._start()[1].del_var(name)
            self._shapes.pop(name, None)

    def reveal(self, name: str, to: Sequence[str]) -> np.ndarray[Any, Any] | None:
        """Open a secret to receivers; None at the other parties."""
        self._may_learn(to)
        return self._open(name, to)

    def bits(self, name: str) -> list[bool]:
        """Open a small array of bits to every party: control flow that all must follow alike."""
        shape, dtype = self._shapes[name]
        if np.dtype(dtype) != np.bool_ or int(np.prod(shape)) > 8:
            raise ValueError("only a few bits are opened to everybody")
        found = self._open(name, self.parties)
        return [bool(b) for b in np.asarray(found).ravel()]

    def publish(self, name: str) -> np.ndarray[Any, Any]:
        """Open a secret to every party: only for sums that the program's card lists among what it leaks."""
        found = self._open(name, self.parties)
        assert found is not None
        return found

    def _open(self, name: str, to: Sequence[str]) -> np.ndarray[Any, Any] | None:
        libspu, runtime, io = self._start()
        mine = runtime.get_var(name)
        packed = _pack(mine)
        for other in self._others():
            if self.parties[other] in to:
                self.link.send_async(other, packed)
        self._steps += 1
        if self.me not in to:
            return None
        shares = [
            mine if r == self.rank else _unpack(libspu, self.link.recv(r)) for r in range(len(self.parties))
        ]
        return np.asarray(io.reconstruct(shares))

    def _may_learn(self, to: Sequence[str]) -> None:
        strangers = set(to) - set(self.receivers)
        if strangers:
            raise PermissionError(f"{', '.join(sorted(strangers))} may not learn anything in this job")

    def counters(self) -> dict[str, int]:
        """`rounds`: steps (sharing, a run of a circuit, opening) at which this party met the others."""
        return {"rounds": self._steps}


def _compile(libspu: Any, function: Any, inputs: Any, outputs: Any, shapes: Any) -> Any:
    import jax
    from spu.utils import frontend

    secret = [libspu.Visibility.VIS_SECRET] * len(inputs)
    arguments = [np.zeros(shape, dtype) for shape, dtype in shapes]
    executable, found = frontend.compile(
        frontend.Kind.JAX, function, arguments, {}, list(inputs), secret, lambda _: list(outputs)
    )
    leaves = jax.tree_util.tree_leaves(found)
    if len(leaves) != len(outputs):
        raise ValueError("a circuit returned another number of arrays than it names")
    return executable, [(tuple(leaf.shape), np.dtype(leaf.dtype)) for leaf in leaves]


def _pack(share: Any) -> bytes:
    parts = [share.meta, *share.share_chunks]
    return struct.pack(">I", len(parts)) + b"".join(struct.pack(">Q", len(p)) + p for p in parts)


def _unpack(libspu: Any, raw: bytes) -> Any:
    count = struct.unpack_from(">I", raw)[0] if len(raw) >= 4 else 0
    if not 2 <= count <= MAX_CHUNKS:
        raise ProgramFailure("a share has no chunks, or too many")
    at, parts = 4, []
    for _ in range(count):
        size = struct.unpack_from(">Q", raw, at)[0] if at + 8 <= len(raw) else len(raw) + 1
        if at + 8 + size > len(raw):
            raise ProgramFailure("a share is cut short")
        parts.append(bytes(raw[at + 8 : at + 8 + size]))
        at += 8 + size
    if at != len(raw):
        raise ProgramFailure("a share is longer than it says")
    share = libspu.Share()
    share.meta, share.share_chunks = parts[0], parts[1:]
    return share
