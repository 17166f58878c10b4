"""Worker environments: built from a lock with hashes, checked, found again; never imported.

An environment is a folder `worker-<engine>` below the workers' folder: the setting `workers.folder`, else
`FIDUCIARY_WORKERS__FOLDER`, else `fiduciary/workers` below the user's data folder. It is built beside its final
place and moved there whole, so that a broken download leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from fiduciary.errors import ConfigError, ConflictError, IntegrityError, NotFoundError, UsageError

VARIABLE = "FIDUCIARY_WORKERS__FOLDER"
LOCKS = Path(__file__).resolve().parent / "locks"
MARK = "fiduciary-worker.json"
BUILD_S = 3600


class EngineSpec(msgspec.Struct, frozen=True, kw_only=True):
    """An engine that a worker can carry."""

    name: str
    pythons: tuple[tuple[int, int], ...]
    """Versions of Python that its packages exist for."""
    module: str
    summary: str


ENGINES = {
    "spu": EngineSpec(
        name="spu",
        pythons=((3, 11), (3, 10)),
        module="spu",
        summary="secure multi-party computation and private set intersection (about 1.1 GB)",
    ),
    "tenseal": EngineSpec(
        name="tenseal",
        pythons=((3, 11), (3, 12), (3, 10)),
        module="tenseal",
        summary="homomorphic encryption: encrypted scoring",
    ),
    "openfhe": EngineSpec(
        name="openfhe",
        pythons=((3, 10),),
        module="openfhe",
        summary="homomorphic encryption with bootstrapping and threshold keys: encrypted training",
    ),
}


class WorkerState(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an environment. `state`: ready, absent, outdated (another lock) or broken."""

    engine: str
    state: str
    folder: str
    python: str = ""
    lock: str = ""
    detail: str = ""


def workers_folder(setting: str | None = None) -> Path:
    """Where the environments lie."""
    chosen = setting or os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / "fiduciary" / "workers"


def engine_spec(engine: str) -> EngineSpec:
    """The engine of a name. Raises `UsageError` naming those there are."""
    if engine not in ENGINES:
        raise UsageError(f"there is no worker {engine!r}; there are: {', '.join(ENGINES)}")
    return ENGINES[engine]


def worker_python(engine: str, folder: Path | None = None) -> Path:
    """The interpreter of an environment. Raises `NotFoundError` saying how to build one."""
    engine_spec(engine)
    python = (folder or workers_folder()) / f"worker-{engine}" / "bin" / "python"
    if not python.exists():
        raise NotFoundError(
            f"there is no {engine} worker in {python.parent.parent.parent}: "
            f"build it with `fiduciary worker create {engine}`"
        )
    return python


def lock_digest(engine: str) -> str:
    """`sha256:` of the lock this product carries for an engine. Raises `NotFoundError`."""
    return "sha256:" + hashlib.sha256(_lock(engine).read_bytes()).hexdigest()


def _lock(engine: str) -> Path:
    path = LOCKS / f"{engine_spec(engine).name}.lock"
    if not path.exists():
        raise NotFoundError(f"this product carries no lock for the {engine} worker")
    return path


def create_worker(
    engine: str,
    *,
    folder: Path | None = None,
    python: Path | None = None,
    replace: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> WorkerState:
    """Build an environment and check it. Raises `ConflictError` when there is one, `ConfigError` when it fails."""
    spec = engine_spec(engine)
    lock = _lock(engine)
    root = folder or workers_folder()
    target = root / f"worker-{engine}"
    if target.exists() and not replace:
        raise ConflictError(
            f"{target} exists already; `fiduciary worker check {engine}` looks at it, --replace renews it"
        )
    interpreter = find_python(spec, python)
    try:
        root.mkdir(mode=0o755, parents=True, exist_ok=True)
        if target.exists():
            shutil.rmtree(target)
        with tempfile.TemporaryDirectory(prefix=f".{engine}-", dir=root) as cache:
            say(f"making {target} with {interpreter}")
            _run([str(interpreter), "-m", "venv", str(target)], cache, "the environment cannot be made")
            say(
                f"installing {sum(' --hash' not in x and '==' in x for x in lock.read_text().splitlines())} packages"
            )
            _run(
                [
                    str(target / "bin" / "python"),
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                    "--require-hashes",
                    "--no-deps",
                    "-r",
                    str(lock),
                ],
                cache,
                "the packages cannot be installed",
            )
    except OSError as error:
        shutil.rmtree(target, ignore_errors=True)
        raise ConfigError(f"the worker cannot be built in {root}: {error.strerror}") from None
    except ConfigError:
        shutil.rmtree(target, ignore_errors=True)
        raise
    (target / MARK).write_text(json.dumps({"engine": engine, "lock": lock_digest(engine)}))
    found = check_worker(engine, folder=root)
    if found.state != "ready":
        shutil.rmtree(target, ignore_errors=True)
        raise ConfigError(f"the {engine} worker was built and does not work: {found.detail}")
    return found


def _run(command: list[str], temporary: str, what: str) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=BUILD_S, env={**os.environ, "TMPDIR": temporary}
        )
    except subprocess.TimeoutExpired:
        raise ConfigError(f"{what}: no end within {BUILD_S} s") from None
    if done.returncode:
        lines = [x for x in done.stderr.splitlines() if x.startswith("ERROR")] or done.stderr.splitlines()
        raise ConfigError(f"{what}: {(lines[-1] if lines else 'no reason given')[:300]}")


def find_python(spec: EngineSpec, given: Path | None = None) -> Path:
    """An interpreter that the engine's packages exist for. Raises `NotFoundError` saying how to get one."""
    wanted = " or ".join(f"{a}.{b}" for a, b in spec.pythons)
    if given is not None:
        version = _version(given)
        if version not in spec.pythons:
            told = f"Python {version[0]}.{version[1]}" if version else "no Python"
            raise UsageError(f"{given} is {told}; the {spec.name} worker needs {wanted}")
        return given
    for a, b in spec.pythons:
        if sys.version_info[:2] == (a, b):
            return Path(sys.executable)
        found = shutil.which(f"python{a}.{b}")
        if found and _version(Path(found)) == (a, b):
            return Path(found)
    first = ".".join(map(str, spec.pythons[0]))
    raise NotFoundError(
        f"the {spec.name} worker needs Python {wanted}, and there is none here: install it (`uv python install "
        f"{first}`, `pyenv install {first}`, or your system's python{first} with its venv module) and name it with "
        "--python PATH"
    )


def _version(python: Path) -> tuple[int, int] | None:
    try:
        done = subprocess.run(
            [str(python), "-I", "-c", "import sys; print(*sys.version_info[:2])"],
            capture_output=True,
            text=True,
            timeout=20,
        )
        major, minor = done.stdout.split()
        return int(major), int(minor)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


def check_worker(engine: str, *, folder: Path | None = None) -> WorkerState:
    """Look at an environment: is it there, from this lock, are the pinned versions in it, does its engine load?"""
    spec = engine_spec(engine)
    target = (folder or workers_folder()) / f"worker-{engine}"
    python = target / "bin" / "python"
    if not python.exists():
        return WorkerState(engine=engine, state="absent", folder=str(target))
    try:
        lock = _lock(engine)
        found = _installed(python, spec.module)
    except (NotFoundError, IntegrityError) as error:
        return WorkerState(engine=engine, state="broken", folder=str(target), detail=error.detail)
    pins = pinned(lock.read_text())
    wrong = [
        f"{n} {found.packages.get(n, 'absent')} for {v}"
        for n, v in pins.items()
        if found.packages.get(n) != v
    ]
    try:
        mark = json.loads((target / MARK).read_text())["lock"]
    except (OSError, ValueError, KeyError, TypeError):
        mark = ""
    state, detail = "ready", f"Python {found.python}, {spec.module} {found.version}"
    if wrong:
        state, detail = "outdated", f"not the locked versions: {'; '.join(wrong[:5])}"
    elif mark and mark != lock_digest(engine):
        state, detail = "outdated", "built from another lock, with the same versions"
    return WorkerState(
        engine=engine, state=state, folder=str(target), python=found.python, lock=mark, detail=detail
    )


_LOOK = (
    "import importlib, json, sys\n"
    "from importlib import metadata\n"
    "m = importlib.import_module(sys.argv[1])\n"
    "names = {d.metadata['Name'].lower().replace('_', '-').replace('.', '-'): d.version\n"
    "    for d in metadata.distributions()}\n"
    "version = str(getattr(m, '__version__', ''))\n"
    "print('@' + json.dumps({'python': sys.version.split()[0], 'version': version, 'packages': names}))\n"
)


class _Look(msgspec.Struct, frozen=True):
    python: str
    version: str
    packages: dict[str, str]


def _installed(python: Path, module: str) -> _Look:
    try:
        done = subprocess.run(
            [str(python), "-I", "-c", _LOOK, module], capture_output=True, text=True, timeout=120
        )
    except (OSError, subprocess.TimeoutExpired):
        raise IntegrityError("its interpreter does not run") from None
    lines = [line for line in done.stdout.splitlines() if line.startswith("@")]
    if done.returncode or not lines:
        last = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise IntegrityError(f"its engine does not load: {last[0][:200]}")
    return msgspec.json.decode(lines[-1][1:], type=_Look)


def pinned(lock: str) -> dict[str, str]:
    """Package -> version of a lock's text."""
    found = {}
    for line in lock.splitlines():
        name, separator, rest = line.partition("==")
        if separator and not line.startswith((" ", "#")):
            found[name.strip().lower().replace("_", "-").replace(".", "-")] = (
                rest.split()[0].rstrip("\\").strip()
            )
    return found
