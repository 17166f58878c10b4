"""A stub engine for fast joint tests, and the real worker where it is built."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fiduciary.identity import PartyKey
from fiduciary.joint import Allow, Limits, LocalFederation
from fiduciary.joint._contract import Invitation, InvitedParty, PartyRef, ProgramRef, RowPolicy
from fiduciary.joint._programs import program
from fiduciary.joint.worker._digest import ROOT

NAMES = ("bank", "telco", "regulator")
FAST = Limits(link_s=5, stall_s=2.5, quiet_s=2.5, run_s=20)


@pytest.fixture(scope="session")
def stub_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs and an engine that hide nothing, run by the product's own worker."""
    root = tmp_path_factory.mktemp("stub")
    shutil.copytree(Path(__file__).parent / "stub", root, dirs_exist_ok=True)
    shutil.copytree(ROOT / "worker", root / "worker")
    return root


@pytest.fixture(scope="module")
def federation(stub_root: Path) -> Iterator[LocalFederation]:
    with LocalFederation(NAMES, root=stub_root, python=Path(sys.executable), limits=FAST) as fed:
        yield fed


@pytest.fixture(scope="session")
def spu_python() -> Path:
    """The real worker; the tests that need it run in `make test-joint`."""
    folder = os.environ.get("FIDUCIARY_WORKERS__FOLDER", "")
    python = Path(folder) / "worker-spu" / "bin" / "python"
    if os.environ.get("FIDUCIARY_TEST_JOINT") != "1" or not python.exists():
        pytest.skip("needs the spu worker (about 1 GB): make test-joint")
    return python


class Table:
    """Three parties' keys, a coordinator, an invitation and matching allow-lists."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.keys = {name: PartyKey.generate() for name in NAMES}
        self.coordinator = PartyKey.generate()
        self.program = program("stub.total@1", root)
        self.now = time.time()

    def invitation(self, **changes: object) -> Invitation:
        import msgspec

        made = Invitation(
            job="sum",
            nonce=os.urandom(16).hex(),
            issued=int(self.now),
            expires=int(self.now) + 3600,
            coordinator=PartyRef(name="utility", key=self.coordinator.public.hex()),
            program=ProgramRef(id=self.program.id, module=self.program.module, digest=self.program.digest),
            engine="spu",
            protocol="aby3",
            field="FM64",
            fraction_bits=None,
            parameters={},
            parties=[InvitedParty(name=n, key=k.public.hex()) for n, k in self.keys.items()],
            rows=RowPolicy(),
            outputs={"*": ["bank"]},
            privacy=None,
            limits=FAST,
        )
        return msgspec.structs.replace(made, **changes)

    def allow(self, **changes: object) -> Allow:
        import msgspec

        made = Allow(
            coordinators={"utility": self.coordinator.public.hex()},
            peers={n: k.public.hex() for n, k in self.keys.items()},
            programs={self.program.id: self.program.digest},
            receivers=["bank"],
        )
        return msgspec.structs.replace(made, **changes)


@pytest.fixture
def table(stub_root: Path) -> Table:
    return Table(stub_root)
