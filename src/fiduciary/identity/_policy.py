"""May they? Cedar policies (cedarpolicy.com), answered from a cache that cannot tell another answer.

Three things keep the cache honest. Its key holds everything Cedar reads: the frozen principal, action,
resource and context. It belongs to one reading of the policy files, so an answer computed under old policies
cannot be found under new ones. And the files' digest is compared whenever the epoch moves, before the next
answer.
tests/identity/test_policy_cache.py holds cache and no cache to the same answers.

Everything uncertain is a refusal: files that do not parse, do not fit the schema (a misspelt attribute would
silently switch a `forbid` off), or fail while they are evaluated.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

import cedarpy
import msgspec

from fiduciary.errors import ConfigError, ConflictError, PermissionDeniedError
from fiduciary.identity._principal import ACTIONS, ROLES, Context, Principal, Resource

FILES_LIMIT = 256
BYTES_LIMIT = 1 << 20
NO_CONTEXT = Context()
_KNOWN = frozenset(ACTIONS)


class Decision(msgspec.Struct, frozen=True):
    """The answer to one question. `policies`: ids of those that decided; `missing`: why not, in words."""

    allowed: bool
    policies: tuple[str, ...] = ()
    missing: str = ""


class _Reading:
    """One reading of the policy files: what they say, and the answers given under it."""

    __slots__ = ("answers", "digest", "policies", "problem")

    def __init__(self, digest: bytes, policies: Any, problem: str) -> None:
        self.digest = digest
        self.policies = policies
        self.problem = problem
        self.answers: dict[tuple[Principal, str, str, str], Decision] = {}


class Authorizer:
    """Answers whether a principal may do an action to a resource, by the `*.cedar` files of a folder.

    `epoch` gives a number that grows whenever something changed; the files are compared then. `cache` is the
    most answers remembered (0: none). Safe to call from several threads.
    """

    def __init__(self, policy_dir: Path | str, epoch: Callable[[], int], *, cache: int = 50_000) -> None:
        self._folder = Path(policy_dir)
        self._epoch = epoch
        self._limit = cache
        self._schema_text = _shipped("schema.cedarschema")
        self._schema = cedarpy.Schema.from_str(self._schema_text)
        self._lock = threading.Lock()
        self._seen = epoch()
        self._reading = self._read(None)

    @property
    def digest(self) -> bytes:
        """SHA-256 over the names and texts of all policy files and the schema now in force, 32 bytes."""
        self._current()
        return self._reading.digest

    @property
    def problem(self) -> str:
        """Why the policies cannot be used (then nothing is allowed), or an empty string."""
        self._current()
        return self._reading.problem

    def allowed(
        self,
        principal: Principal,
        action: str,
        resource: Resource,
        context: Context | Mapping[str, Any] | None = None,
    ) -> Decision:
        """The answer, remembered where the very same question was asked under the same policies.

        A `Context` made once is faster than a mapping (which is frozen and checked each time: `UsageError`).
        """
        if context is None:
            context = NO_CONTEXT
        elif not isinstance(context, Context):
            context = Context(context)
        reading = self._reading if self._epoch() == self._seen else self._current()
        key = (principal, action, resource.key, context.key)
        found = reading.answers.get(key)
        if found is None:
            found = self._evaluate(reading, principal, action, resource, context)
            if self._limit:
                if len(reading.answers) >= self._limit:
                    reading.answers.clear()
                reading.answers[key] = found
        return found

    def require(
        self,
        principal: Principal,
        action: str,
        resource: Resource,
        context: Context | Mapping[str, Any] | None = None,
    ) -> Decision:
        """The answer if it is yes. Raises `PermissionDeniedError` naming the action and what is missing."""
        decision = self.allowed(principal, action, resource, context)
        if not decision.allowed:
            named = action if action in _KNOWN else "this action"
            raise PermissionDeniedError(
                f"{named} is not allowed here: {decision.missing}", policies=list(decision.policies)
            )
        return decision

    def reload(self) -> bytes:
        """Read the files again now, epoch or not, and return their digest."""
        with self._lock:
            self._reading = self._read(self._reading)
        return self._reading.digest

    def _current(self) -> _Reading:
        epoch = self._epoch()
        if epoch != self._seen:
            with self._lock:
                # The epoch is read before the files: a change in between is seen again at the next call.
                epoch = self._epoch()
                self._reading = self._read(self._reading)
                self._seen = epoch
        return self._reading

    def _read(self, before: _Reading | None) -> _Reading:
        try:
            texts = read_policies(self._folder)
        except ConfigError as error:
            return _Reading(sha256(b"unreadable").digest(), None, error.detail)
        digest = _digest([*texts, ("schema.cedarschema", self._schema_text)])
        if before is not None and before.digest == digest and not before.problem:
            return before
        try:
            return _Reading(digest, parse_policies(texts, self._schema_text), "")
        except ConfigError as error:
            return _Reading(digest, None, error.detail)

    def _evaluate(
        self, reading: _Reading, principal: Principal, action: str, resource: Resource, context: Context
    ) -> Decision:
        if reading.policies is None:
            return Decision(False, (), f"the access policies cannot be used ({reading.problem})")
        if action not in _KNOWN:
            return Decision(False, (), "there is no such action")
        allowed, policies, failed = self._ask(reading, principal, action, resource, context)
        if failed:
            return Decision(False, policies, f"the access policies could not be evaluated: {failed}")
        if allowed:
            return Decision(True, policies)
        if policies:
            return Decision(False, policies, f"forbidden by {' and '.join(policies)}")
        return Decision(False, (), self._missing(reading, principal, action, resource, context))

    def _ask(
        self, reading: _Reading, principal: Principal, action: str, resource: Resource, context: Context
    ) -> tuple[bool, tuple[str, ...], str]:
        kind = "Person" if principal.kind == "person" else "Service"
        entities = [
            {
                "uid": {"type": kind, "id": principal.subject},
                "attrs": {
                    "subject": principal.subject,
                    "department": principal.department,
                    "region": principal.region,
                    "issuer": principal.issuer,
                    "one_time": principal.one_time,
                },
                "parents": [{"type": "Role", "id": role} for role in principal.roles],
            },
            {"uid": {"type": resource.kind, "id": resource.id}, "attrs": resource.attrs, "parents": []},
        ]
        request = {
            "principal": {"type": kind, "id": principal.subject},
            "action": {"type": "Action", "id": action},
            "resource": {"type": resource.kind, "id": resource.id},
            "context": json.loads(context.text),
        }
        try:
            handle = cedarpy.Entities.from_json_str(json.dumps(entities), self._schema)
            result = cedarpy.is_authorized(request, reading.policies, handle, self._schema)
        except ValueError:
            return False, (), f"the question does not fit the policy schema ({resource.kind})"
        names = result.diagnostics.id_annotations_by_reason
        policies = tuple(sorted(names.get(reason, reason) for reason in result.diagnostics.reasons))
        if result.diagnostics.errors or result.decision == cedarpy.Decision.NoDecision:
            return False, policies, f"the question does not fit the policy schema ({resource.kind})"
        return bool(result.allowed), policies, ""

    def _missing(
        self, reading: _Reading, principal: Principal, action: str, resource: Resource, context: Context
    ) -> str:
        """What one change to the caller would turn the answer: found by asking the policies themselves."""
        attrs = resource.attrs
        places = {
            name: attrs[name]
            for name in ("department", "region")
            if isinstance(attrs.get(name), str) and attrs[name] != getattr(principal, name)
        }
        for moved in ({}, *({name: value} for name, value in places.items()), places):
            if moved:
                neighbour = msgspec.structs.replace(principal, **moved)
                if self._ask(reading, neighbour, action, resource, context)[0]:
                    return f"it belongs to another {' and '.join(moved)}"
            helpful = [
                role
                for role in ROLES
                if role not in principal.roles
                and self._ask(
                    reading,
                    msgspec.structs.replace(principal, roles=(*principal.roles, role), **moved),
                    action,
                    resource,
                    context,
                )[0]
            ]
            if helpful:
                elsewhere = f", and it belongs to another {' and '.join(moved)}" if moved else ""
                return f"it needs the role {' or '.join(helpful)}{elsewhere}"
        return "no policy permits it"


def _shipped(name: str) -> str:
    return resources.files("fiduciary.identity").joinpath("policies", name).read_text("utf-8")


def _digest(texts: list[tuple[str, str]]) -> bytes:
    digest = sha256(b"fiduciary policies v1\n")
    for name, text in sorted(texts):
        content = text.encode()
        digest.update(f"{len(name.encode())} {len(content)}\n{name}".encode() + content)
    return digest.digest()


def read_policies(folder: Path) -> list[tuple[str, str]]:
    """Names and texts of a folder's policy files. Raises `ConfigError`: none, too many, too large."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".cedar")
    except OSError:
        raise ConfigError("the policy folder cannot be read") from None
    if not 0 < len(paths) <= FILES_LIMIT:
        raise ConfigError(f"the policy folder must hold 1 to {FILES_LIMIT} .cedar files, not {len(paths)}")
    texts: list[tuple[str, str]] = []
    left = BYTES_LIMIT
    for path in paths:
        try:
            with path.open("rb") as file:
                content = file.read(left + 1)
            left -= len(content)
            texts.append((path.name, content.decode("utf-8")))
        except (OSError, UnicodeDecodeError):
            raise ConfigError(f"the policy file {path.name} cannot be read as UTF-8 text") from None
        if left < 0:
            raise ConfigError(f"the policy files are larger than {BYTES_LIMIT} bytes together")
    return texts


def parse_policies(texts: list[tuple[str, str]], schema: str | None = None) -> Any:
    """A pre-parsed Cedar policy set of all files, validated against the schema.

    Raises `ConfigError` naming the file: it does not parse, holds a template, lacks an `@id`, repeats one, or
    names something the schema does not have.
    """
    schema = _shipped("schema.cedarschema") if schema is None else schema
    seen: set[str] = set()
    for name, text in texts:
        try:
            document = json.loads(cedarpy.policies_to_json_str(text))
        except ValueError as error:
            raise ConfigError(f"the policy file {name} does not parse: {_first_line(error)}") from None
        if document.get("templates"):
            raise ConfigError(f"the policy file {name} holds a template; write policies without slots")
        for policy in document["staticPolicies"].values():
            annotation = (policy.get("annotations") or {}).get("id")
            if not annotation:
                raise ConfigError(f'a policy of {name} has no @id("...") annotation')
            if annotation in seen:
                raise ConfigError(f"two policies have the id {annotation!r}; one of them is in {name}")
            seen.add(annotation)
        result = cedarpy.validate_policies(text, schema)
        if not result.validation_passed:
            first = min(str(error.error) for error in result.errors)  # Cedar gives them in no fixed order
            raise ConfigError(f"the policy file {name} does not fit the schema: {_first_line(first)}")
    try:
        return cedarpy.PolicySet.from_str("\n".join(text for _, text in texts))
    except ValueError as error:
        raise ConfigError(f"the policy files do not parse together: {_first_line(error)}") from None


def _first_line(error: object) -> str:
    return " ".join(str(error).split())[:300]


def install_default_policies(folder: Path | str) -> Path:
    """Copy the default policies into a folder, for reading and changing. Raises `ConflictError` if there."""
    target = Path(folder) / "default.cedar"
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(_shipped("default.cedar"))
    except FileExistsError:
        raise ConflictError(f"{target} exists already; it is not overwritten") from None
    return target
