"""Which protocols may run, and why the others may not."""

from __future__ import annotations

from fiduciary.errors import PermissionDeniedError

PARTIES = {"aby3": 3, "cheetah": 2, "rr22": 2, "ecdh": 2}
"""Protocols that run, with the number of parties each takes; rr22 and ecdh are for private set intersection."""

REFUSED = {
    "semi2k": "its multiplication triples come from one of the parties (a trusted first party), who can rebuild "
    "everyone's inputs; the engine has no secure source of triples for it",
    "ref2k": "it is the engine's reference for debugging and hides nothing",
    "securenn": "it is not among the protocols that were reviewed here",
}
FIELDS = ("FM32", "FM64", "FM128")


def check_protocol(name: str, parties: int, *, testing: bool = False) -> None:
    """Raise `PermissionDeniedError`, with the reason, unless `parties` parties may use protocol `name`.

    `testing` lets SEMI2K and REF2K through, for tests of this product; nothing a person can type sets it.
    """
    plain = name.lower()
    if testing and plain in ("semi2k", "ref2k"):
        return
    if plain in REFUSED:
        raise PermissionDeniedError(f"protocol {name} is refused: {REFUSED[plain]}. Use aby3 or cheetah")
    if plain not in PARTIES:
        if parties == 2 and plain.startswith(("shamir", "threshold", "bgw", "mpyc")):
            raise PermissionDeniedError(
                f"protocol {name} is refused: a threshold scheme of two parties hides nothing from either"
            )
        raise PermissionDeniedError(f"protocol {name} is refused: only aby3 and cheetah were reviewed")
    if name != plain:
        raise PermissionDeniedError(f"write the protocol in small letters: {plain}")
    if parties != PARTIES[plain]:
        why = (
            "with two parties use cheetah; a party that holds no data (a regulator, an auditor) makes the third"
            if plain == "aby3"
            else "it was designed and reviewed for exactly two"
        )
        raise PermissionDeniedError(f"{plain} takes {PARTIES[plain]} parties, not {parties}: {why}")
