"""The real engine: built and run by `make test-joint`."""

from __future__ import annotations

import os

import pytest

from fiduciary.errors import NotFoundError
from fiduciary.joint import worker_python


@pytest.fixture(autouse=True, scope="session")
def real_worker() -> None:
    if os.environ.get("FIDUCIARY_TEST_JOINT") != "1":
        pytest.skip("needs the spu worker (about 1 GB): make test-joint")
    try:
        worker_python("spu")
    except NotFoundError as error:
        pytest.skip(error.detail)
