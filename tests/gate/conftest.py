"""One open gate for the tests that leave it as they found it, and a fresh one for those that do not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from door import OpenGate


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenGate]:
    made = OpenGate(tmp_path_factory.mktemp("gate"), grpc_port=0)
    yield made
    made.close()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Callable[..., OpenGate]]:
    """Opens gates with other limits: `fresh(max_rows=3)`."""
    made: list[OpenGate] = []

    def make(**options: Any) -> OpenGate:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(OpenGate(folder, **options))
        return made[-1]

    yield make
    for gate in made:
        gate.close()
