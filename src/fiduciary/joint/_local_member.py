"""The member process of one party of a local federation: `python -m fiduciary.joint._local_member`."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec

from fiduciary.errors import FiduciaryError
from fiduciary.identity import PartyKey
from fiduciary.joint._allow import Allow, Memory
from fiduciary.joint._contract import Contract, Signed
from fiduciary.joint._engine import Progress
from fiduciary.joint._member import LinkKey, Member
from fiduciary.joint._pinning import listen
from fiduciary.joint.worker._frames import read, write


def main() -> None:
    """Take frames from the federation until its pipe closes."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    source, out = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    lock = threading.Lock()

    def say(header: dict[str, Any], arrays: Any = None) -> None:
        with lock:
            write(out, header, arrays)

    def progress(now: Progress) -> None:
        say({"type": "progress", "progress": msgspec.to_builtins(now)})

    frame = read(source)
    if frame is None:
        return
    setup = frame[0]
    key = PartyKey.generate()
    tap = _tap(Path(setup["tap"]), setup["name"]) if setup["tap"] else None
    say({"type": "hello", "key": key.public.hex()})
    member: Member | None = None
    memory = Memory()
    accepted: tuple[LinkKey, Any, dict[str, Any]] | None = None
    listener: socket.socket | None = None
    try:
        while (frame := read(source)) is not None:
            header, arrays = frame
            try:
                if header["type"] == "allow":
                    allow = msgspec.convert({**header["allow"], "testing": setup["testing"]}, Allow)
                    if member is None:
                        member = Member(
                            name=setup["name"],
                            key=key,
                            allow=allow,
                            memory=memory,
                            python=Path(setup["python"]),
                            tap=tap,
                            root=Path(setup["root"]),
                        )
                        member.prepare()
                        say({"type": "worker", "pid": member.worker_pid})
                    member.allow = allow
                elif header["type"] == "listen":
                    if listener is not None:
                        listener.close()
                    listener = listen("127.0.0.1:0")
                    say({"type": "listening", "address": f"127.0.0.1:{listener.getsockname()[1]}"})
                elif header["type"] == "accept" and member is not None:
                    invitation = msgspec.convert(header["invitation"], Signed)
                    signed, link = member.accept(invitation, arrays, header["address"])
                    accepted = link, listener, arrays
                    listener = None
                    say({"type": "accepted", "acceptance": msgspec.to_builtins(signed)})
                elif header["type"] == "run" and member is not None and accepted is not None:
                    link, opened, columns = accepted
                    accepted = None
                    outcome = member.run(
                        msgspec.convert(header["contract"], Contract),
                        lambda columns=columns: columns,  # type: ignore[misc]
                        link,
                        listener=opened,
                        on_progress=progress,
                    )
                    say({"type": "worker", "pid": member.worker_pid})
                    say(
                        {
                            "type": "outcome",
                            "transcript": msgspec.to_builtins(outcome.transcript),
                            "salt": outcome.salt,
                            "measures": outcome.measures,
                        },
                        outcome.outputs,
                    )
            except FiduciaryError as error:
                say({"type": "error", "kind": error.kind, "detail": error.detail})
            except OSError as error:
                say({"type": "error", "kind": "joint", "detail": f"it cannot go on: {error.strerror}"})
    finally:
        if member is not None:
            member.close()


def _tap(folder: Path, name: str) -> Any:
    file = (folder / f"{name}.wire").open("ab")

    def tap(rank: int, data: bytes) -> None:
        file.write(data)
        file.flush()

    return tap


if __name__ == "__main__":
    main()
