"""Jobs between real processes on a stub engine: results, faults, and a rerun after every one of them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fiduciary.errors import FiduciaryError, IntegrityError, JointError, UsageError
from fiduciary.joint import LocalFederation, read_transcript
from fiduciary.joint._transcript import commitment

INPUTS: dict[str, Any] = {"bank": {"x": np.arange(5.0)}, "telco": {"x": np.ones(3)}}


def total(federation: LocalFederation, **params: Any) -> Any:
    return federation.run("stub.total@1", params, INPUTS, ["bank"])


def test_a_job_ends_with_its_output_and_a_transcript_all_signed(federation: LocalFederation) -> None:
    seen = []
    result = federation.run("stub.total@1", {}, INPUTS, ["bank"], on_progress=seen.append)
    assert result.outputs["total"].tolist() == [13.0] and set(result.by_party) == {"bank"}
    assert {p.phase for p in seen} >= {"linking", "adding"}
    made = read_transcript(result.transcript.document())
    bank, telco, _ = made.parties
    assert bank["rows"] == 5 and bank["rounds"] == 3 and not telco["outputs"] and made.sent_bytes > 0
    opened = commitment(result.outputs["total"], bytes.fromhex(result.salts["bank"]))
    assert opened == bank["outputs"]["total"]


@pytest.mark.parametrize("change", ["rows", "receiver", "signature", "party"])
def test_a_changed_transcript_does_not_hold(federation: LocalFederation, change: str) -> None:
    document = total(federation).transcript.document()
    document.pop("digest")
    body = document["transcript"]
    if change == "rows":
        body["parties"][1]["rows"] = 4
    elif change == "receiver":
        body["outputs"] = {"*": ["telco"]}
    elif change == "signature":
        document["signatures"]["bank"] = document["signatures"]["telco"]
    else:
        body["parties"].pop()
    with pytest.raises(IntegrityError):
        read_transcript(document)


FAULTS = [
    ("raise", "at telco: the sum passed its range"),
    ("exit", "at telco: the worker process ended"),
    ("garbage", "at telco: the worker sent garbage"),
    ("lie", "names rank 2 as its sender on the link of rank 1"),
    ("tell", "handed output 'total' to telco, who may not learn it"),
    ("sleep", "TimeoutError"),
]


@pytest.mark.parametrize(("fault", "reason"), FAULTS, ids=[f[0] for f in FAULTS])
def test_a_fault_ends_the_job_with_its_reason_and_a_rerun_works(
    federation: LocalFederation, fault: str, reason: str
) -> None:
    started = time.monotonic()
    with pytest.raises(JointError, match=reason):
        total(federation, fault={"telco": fault})
    assert time.monotonic() - started < 12
    assert total(federation).outputs["total"].tolist() == [13.0]


def strike(federation: LocalFederation, act: Callable[[], None]) -> str:
    """Start a slow job, act in its middle, and return the reason with which it ended."""
    caught: list[FiduciaryError] = []
    running = threading.Event()

    def job() -> None:
        try:
            federation.run(
                "stub.total@1",
                {"steps": 400, "pause": 0.05},
                INPUTS,
                ["bank"],
                on_progress=lambda p: running.set() if p.done > 2 else None,
            )
        except FiduciaryError as error:
            caught.append(error)

    thread = threading.Thread(target=job)
    thread.start()
    assert running.wait(15)
    act()
    thread.join(15)
    assert not thread.is_alive() and caught, "the job hangs, or ended as if nothing had happened"
    return caught[0].detail


@pytest.mark.parametrize("party", ["bank", "telco", "regulator"])
@pytest.mark.parametrize("which", [0, 1], ids=["member", "worker"])
def test_a_killed_process_ends_the_job_everywhere(
    federation: LocalFederation, party: str, which: int
) -> None:
    total(federation)
    pid = federation.pids[party][which]
    reason = strike(federation, lambda: os.kill(pid, signal.SIGKILL))  # type: ignore[arg-type]
    assert party in reason, reason
    assert total(federation).outputs["total"].tolist() == [13.0]


@pytest.mark.parametrize("which", [0, 1], ids=["member", "worker"])
def test_a_stalled_process_ends_the_job_within_its_limit(federation: LocalFederation, which: int) -> None:
    total(federation)
    pid = federation.pids["telco"][which]
    assert pid is not None
    if which == 1:
        reason = strike(federation, lambda: os.kill(pid, signal.SIGSTOP))
        assert "sign of life" in reason or "TimeoutError" in reason
    else:
        timer = threading.Timer(6, lambda: os.kill(pid, signal.SIGCONT))
        timer.start()
        reason = strike(federation, lambda: os.kill(pid, signal.SIGSTOP))
        assert (
            "telco gave no sign of life for 2.5 s" in reason
            or "link with telco" in reason
            or "telco" in reason
        )
        timer.join()
    assert total(federation).outputs["total"].tolist() == [13.0]


def test_objects_and_strangers_are_refused_before_anything_starts(federation: LocalFederation) -> None:
    with pytest.raises(UsageError, match="array 'x' of bank"):
        federation.run("stub.total@1", {}, {"bank": {"x": np.array([object()])}}, ["bank"])
    with pytest.raises(UsageError, match="no party"):
        federation.run("stub.total@1", {}, {"other": {"x": np.ones(1)}}, ["bank"])
    with pytest.raises(FiduciaryError, match="not a party of the job"):
        federation.run("stub.total@1", {}, INPUTS, ["other"])
