"""Hostile bytes at the HTTP door: each is refused with a clear error, in bounded time and memory, on real sockets.

After every attack the same gate still answers an honest request, and where a decision was asked for by a caller who
is known, the refusal is on the ledger.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import resource
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from door import ROW, USE, OpenGate, read_all

BODY = json.dumps({"use_case": USE, "subject": "s", "features": ROW}).encode()
LIMITS: dict[str, Any] = {
    "max_body_bytes": 64 * 1024,
    "max_header_bytes": 4096,
    "max_connections": 60,
    "max_rows": 20,
    "header_timeout_s": 0.5,
    "body_timeout_s": 0.5,
    "idle_timeout_s": 1.5,
}


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenGate]:
    made = OpenGate(tmp_path_factory.mktemp("gate"), **LIMITS)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def honest_requests_still_work(gate: OpenGate) -> Iterator[None]:
    yield
    deadline = time.monotonic() + 5
    while True:
        try:
            reply = gate.ask()
            if reply.status == 200:
                return
        except OSError:
            pass
        assert time.monotonic() < deadline, "the gate does not answer honest requests any more"
        time.sleep(0.05)


def statuses(raw: bytes) -> list[int]:
    """The status codes of a run of answers."""
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) [A-Z]", raw)]


# --- JSON -----------------------------------------------------------------------------------------------------


def features(text: str) -> str:
    return f'{{"use_case": "{USE}", "subject": "s", "features": {text}}}'


SHOWN = json.dumps(ROW)
START = f'{{"use_case": "{USE}", '
JSON_ATTACKS = {
    "unknown key": START + '"subject": "s", "features": {}, "admin": true}',
    "duplicate use case": START + f'"use_case": "{USE}", "subject": "s", "features": {SHOWN}}}',
    "duplicate subject": START + f'"subject": "a", "subject": "b", "features": {SHOWN}}}',
    "duplicate features": START + f'"subject": "a", "features": {SHOWN}, "features": {SHOWN}}}',
    "duplicate with an escape": START + f'"subject": "a", "\\u0073ubject": "b", "features": {SHOWN}}}',
    "duplicate feature": features(
        '{"utilisation": 0.1, "utilisation": 0.9, "late_payments": 1, "housing": "owner"}'
    ),
    "duplicate feature with an escape": features(
        '{"utilisation": 0.1, "utilisatio\\u006e": 0.9, "late_payments": 1, "housing": "owner"}'
    ),
    "duplicate in a row": START + f'"rows": [{{"subject": "a", "subject": "b", "features": {SHOWN}}}]}}',
    "1e309": features('{"utilisation": 1e309, "late_payments": 1, "housing": "owner"}'),
    "-1e309": features('{"utilisation": -1e309, "late_payments": 1, "housing": "owner"}'),
    "NaN": features('{"utilisation": NaN, "late_payments": 1, "housing": "owner"}'),
    "Infinity": features('{"utilisation": Infinity, "late_payments": 1, "housing": "owner"}'),
    "many digits": features('{"utilisation": %s, "late_payments": 1, "housing": "owner"}' % ("9" * 5000)),
    "deep arrays": features("[" * 20_000 + "]" * 20_000),
    "deep objects": features('{"a":' * 8_000 + "1" + "}" * 8_000),
    "deep envelope": "[" * 60_000,
    "nul": f'{{"use_case": "{USE}\\u0000", "subject": "s", "features": {SHOWN}}}',
    "lone surrogate": START + f'"subject": "\\ud800", "features": {SHOWN}}}',
    "trailing": BODY.decode() + "x",
    "two documents": BODY.decode() * 2,
    "byte order mark": "\ufeff" + BODY.decode(),
    "too many rows": json.dumps({"use_case": USE, "rows": [{"subject": "s", "features": ROW}] * 21}),
}


@pytest.mark.parametrize("body", JSON_ATTACKS.values(), ids=JSON_ATTACKS.keys())
def test_hostile_json_is_refused_and_recorded(gate: OpenGate, body: str) -> None:
    before = len(gate.records())
    reply = gate.post(body.encode())
    assert reply.status in (400, 403, 413, 422), reply.body
    assert reply.kind in ("malformed-request", "limit", "contract", "permission-denied")
    assert [record.outcome for record in gate.records()[before:]] == ["refused"]


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xfe" + BODY,
        BODY.replace(b'"s"', b'"\xff\xfe"'),
        BODY.replace(b'"renter"', b'"rent\xe9r"'),
        BODY.replace(b'"utilisation"', b'"utilis\xc3tion"'),
        BODY.decode().encode("utf-16"),
        b"\x00" * 100,
    ],
)
def test_bytes_that_are_not_utf8_are_refused_and_recorded(gate: OpenGate, body: bytes) -> None:
    before = len(gate.records())
    assert gate.post(body).status in (400, 422)
    assert [record.outcome for record in gate.records()[before:]] == ["refused"]


# --- size -----------------------------------------------------------------------------------------------------


def test_a_body_of_100_mb_is_refused_at_its_header(gate: OpenGate) -> None:
    answer = gate.raw(gate.head(Content_Length=100_000_000) + b"\r\n", wait=3)
    assert statuses(answer) == [413] and b"connection: close" in answer


def test_100_mb_of_chunks_are_cut_off_and_memory_stays_bounded(gate: OpenGate) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sent, answer = 0, b""
    with gate.connect() as connection:
        connection.sendall(gate.head(Transfer_Encoding="chunked") + b"\r\n")
        piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        try:
            while sent < 100_000_000:
                connection.sendall(piece)
                sent += len(piece)
        except OSError:
            pass
        else:
            pytest.fail("100 MB were taken")
        answer = read_all(connection, 1)
    assert statuses(answer) in (
        [413],
        [],
    )  # the refusal can be lost to the reset that our own sending provokes
    assert sent < 20_000_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024


def test_a_client_that_stops_at_the_limit_can_read_the_refusal(gate: OpenGate) -> None:
    with gate.connect() as connection:
        connection.sendall(gate.head(Transfer_Encoding="chunked") + b"\r\n")
        connection.sendall(b"10001\r\n" + b"x" * 65537 + b"\r\n")
        assert statuses(read_all(connection, 3)) == [413]


def test_tiny_chunks_cannot_stretch_the_limit(gate: OpenGate) -> None:
    with gate.connect() as connection:
        connection.sendall(gate.head(Transfer_Encoding="chunked") + b"\r\n")
        try:
            for _ in range(100):
                connection.sendall(b"1;" + b"e" * 1000 + b"\r\nx\r\n" * 8)
        except OSError:
            pass
        assert statuses(read_all(connection, 3)) in ([413], [400], [])


@pytest.mark.parametrize(
    "head",
    [
        b"GET /health/live HTTP/1.1\r\nHost: g\r\nX: " + b"x" * 5000 + b"\r\n\r\n",
        b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: g\r\n\r\n",
        b"GET /health/live HTTP/1.1\r\nHost: g\r\n" + b"A: b\r\n" * 101 + b"\r\n",
        b"GET /health/live HTTP/1.1\r\nHost: g\r\n" + b"x" * 400_000,
        b"GET /health/live HTTP/1.1\r\nHost: g\r\nX: " + b"y" * 400_000,
        b"GET /" + b"z" * 400_000,
    ],
    ids=["long value", "long target", "many fields", "endless name", "endless value", "endless target"],
)
def test_long_headers_are_refused(gate: OpenGate, head: bytes) -> None:
    try:
        answer = gate.raw(head, wait=3)
    except OSError:  # reset while we were still sending
        return
    assert statuses(answer) in ([431], [])


# --- two readings of one request (RFC 9112 sections 2.2, 5.2, 6.3, 11.2) -----------------------------------------

HOST = b"Host: g\r\n"
POST = b"POST /v1/decisions HTTP/1.1\r\n" + HOST
NEXT = b"GET /health/live HTTP/1.1\r\n" + HOST + b"\r\n"
SMUGGLING = {
    "length and chunked": POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + NEXT,
    "chunked and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + NEXT,
    "two lengths": POST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde" + NEXT,
    "two equal lengths": POST + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\nabcd" + NEXT,
    "length list": POST + b"Content-Length: 4, 4\r\n\r\nabcd" + NEXT,
    "length with a sign": POST + b"Content-Length: +4\r\n\r\nabcd" + NEXT,
    "length negative": POST + b"Content-Length: -4\r\n\r\nabcd" + NEXT,
    "length in hex": POST + b"Content-Length: 0x4\r\n\r\nabcd" + NEXT,
    "length overflow": POST + b"Content-Length: 18446744073709551620\r\n\r\nabcd" + NEXT,
    "length empty": POST + b"Content-Length: \r\n\r\n" + NEXT,
    "space before colon": POST + b"Content-Length : 4\r\n\r\nabcd" + NEXT,
    "tab before colon": POST + b"Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n" + NEXT,
    "folded header": POST + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n" + NEXT,
    "folded encoding": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + NEXT,
    "first header folded": b"POST /v1/decisions HTTP/1.1\r\n Host: g\r\n\r\n" + NEXT,
    "bare line feed": b"GET /health/live HTTP/1.1\nHost: g\n\n" + NEXT,
    "one bare line feed": b"GET /health/live HTTP/1.1\r\nHost: g\nX: y\r\n\r\n" + NEXT,
    "bare carriage return": b"GET /health/live HTTP/1.1\r\nHost: g\rX: y\r\n\r\n" + NEXT,
    "nul in a value": b"GET /health/live HTTP/1.1\r\nHost: g\x00\r\n\r\n" + NEXT,
    "unknown encoding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + NEXT,
    "encoding list": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + NEXT,
    "chunked not last": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + NEXT,
    "two encodings": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + NEXT,
    "identity and chunked": POST + b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "vertical tab chunked": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + NEXT,
    "quoted chunked": POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n' + NEXT,
    "bad chunk size": POST + b"Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n" + NEXT,
    "chunk size overflow": POST + b"Transfer-Encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n0\r\n\r\n" + NEXT,
    "chunk size negative": POST + b"Transfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n" + NEXT,
    "chunk size with a space": POST + b"Transfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n" + NEXT,
    "chunk with bare line feed": POST + b"Transfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n" + NEXT,
    "chunk longer than said": POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n" + NEXT,
    "two hosts": b"GET /health/live HTTP/1.1\r\nHost: g\r\nHost: h\r\n\r\n" + NEXT,
    "no host": b"GET /health/live HTTP/1.1\r\n\r\n" + NEXT,
    "two authorizations": POST + b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n" + NEXT,
    "two content types": POST + b"Content-Type: text/plain\r\nContent-Type: application/json\r\n\r\n" + NEXT,
    "chunked in HTTP/1.0": b"POST /v1/decisions HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + NEXT,
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + NEXT,
    "HTTP/0.9": b"GET /health/live\r\n" + NEXT,
    "HTTP/1.2": b"GET /health/live HTTP/1.2\r\nHost: g\r\n\r\n" + NEXT,
    "no such method": b"DECIDE /v1/decisions HTTP/1.1\r\nHost: g\r\n\r\n" + NEXT,
    "connect": b"CONNECT g:1 HTTP/1.1\r\nHost: g\r\n\r\n" + NEXT,
    "upgrade": b"GET /health/live HTTP/1.1\r\nHost: g\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + NEXT,
    "upgrade to HTTP/2": b"GET /health/live HTTP/1.1\r\nHost: g\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    b"Upgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n" + NEXT,
    "target with a space": b"GET /health/live x HTTP/1.1\r\nHost: g\r\n\r\n" + NEXT,
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: g\r\n\r\n" + NEXT,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 60,
}  # fmt: skip


@pytest.mark.parametrize("sent", SMUGGLING.values(), ids=SMUGGLING.keys())
def test_what_two_servers_could_read_in_two_ways_is_refused_and_nothing_behind_it_is_answered(
    gate: OpenGate, sent: bytes
) -> None:
    answer = gate.raw(sent, wait=3)
    codes = statuses(answer)
    assert len(codes) == 1 and codes[0] in (400, 417, 501, 505), answer
    assert b"connection: close" in answer and b"live" not in answer.split(b"\r\n\r\n", 1)[1].replace(
        b"alive", b""
    )


def test_trailers_of_a_chunked_body_mean_nothing(gate: OpenGate) -> None:
    chunk = b"%x\r\n%b\r\n0\r\nAuthorization: Bearer x\r\nIdempotency-Key: k\r\n\r\n" % (len(BODY), BODY)
    head = gate.head(Transfer_Encoding="chunked", Connection="close") + b"\r\n"
    assert statuses(gate.raw(head + chunk, wait=3)) == [200]
    assert gate.records()[-1].idempotency_key == ""


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, identity"])
def test_encoded_bodies_are_refused(gate: OpenGate, encoding: str) -> None:
    reply = gate.post(gzip.compress(b" " * 10_000_000), Content_Encoding=encoding)
    assert (reply.status, reply.kind) == (415, "malformed-request")


# --- slow and many --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["header", "body", "chunks", "idle", "nothing"])
def test_slow_clients_are_cut_off(gate: OpenGate, part: str) -> None:
    start = {
        "header": b"POST /v1/decisions HTTP/1.1\r\nHost: g\r\n",
        "body": gate.head(Content_Length=len(BODY)) + b"\r\n",
        "chunks": gate.head(Transfer_Encoding="chunked") + b"\r\n",
        "idle": NEXT,
        "nothing": b"",
    }[part]
    drip = {"header": b"X: y\r\n", "body": b" ", "chunks": b"1\r\n \r\n"}.get(part, b"")
    began = time.monotonic()
    with gate.connect() as connection:
        connection.sendall(start)
        answer = b""
        while time.monotonic() - began < 8:
            connection.settimeout(0.1)
            try:
                got = connection.recv(65536)
                if not got:
                    break
                answer += got
            except TimeoutError:
                try:
                    connection.sendall(drip)
                except OSError:
                    break
            except OSError:
                break
        else:
            pytest.fail("the connection is still open")
    assert statuses(answer) == {"idle": [200], "nothing": []}.get(part, [408])


def test_a_client_that_does_not_read_is_cut_off(gate: OpenGate) -> None:
    with gate.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(0.2)
        ask = b"GET /openapi.json HTTP/1.1\r\nHost: g\r\n\r\n"
        began = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - began < 15:
                try:
                    connection.sendall(ask)
                except TimeoutError:
                    time.sleep(0.1)
        assert time.monotonic() - began < 15


def test_a_flood_of_pipelined_requests_is_answered_in_order_and_cut(gate: OpenGate) -> None:
    one = gate.head(Content_Length=len(BODY)) + b"\r\n" + BODY
    answer = gate.raw(one * 2000, wait=10)
    codes = statuses(answer)
    assert 1 <= len(codes) <= 17 and codes[:-1] == [200] * (len(codes) - 1) and codes[-1] == 503
    indexes = [
        json.loads(part.split(b"\r\n\r\n", 1)[1])["ledger"]["index"]
        for part in answer.split(b"HTTP/1.1 ")[1:-1]
    ]
    assert indexes == sorted(indexes)


def test_a_few_pipelined_requests_are_answered_in_order(gate: OpenGate) -> None:
    slow = b"GET /openapi.json HTTP/1.1\r\nHost: g\r\n\r\n"
    decide = gate.head(Content_Length=len(BODY)) + b"\r\n" + BODY
    last = b"GET /health/live HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n"
    answer = gate.raw(slow + decide + decide + slow + last, wait=5)
    parts = [part.split(b"\r\n\r\n", 1)[1] for part in answer.split(b"HTTP/1.1 200 OK\r\n")[1:]]
    assert [b"openapi" in p[:20] or (b"gate-0" in p and b"decision") or p for p in parts] == [
        True, b"decision", b"decision", True, b'{"live":true}',
    ]  # fmt: skip


def test_too_many_connections_are_turned_away_and_the_others_served(gate: OpenGate) -> None:
    held = []
    try:
        for _ in range(LIMITS["max_connections"]):
            held.append(gate.connect())
        time.sleep(0.2)
        with gate.connect() as extra:
            answer = read_all(extra, 2)
        assert statuses(answer) == [503]
        held[0].sendall(NEXT)
        assert b"200 OK" in held[0].recv(4096)
    finally:
        for connection in held:
            connection.close()


def test_expect_100_continue_is_answered_before_the_body_and_refused_before_a_large_one(
    gate: OpenGate,
) -> None:
    with gate.connect() as connection:
        connection.sendall(
            gate.head(Content_Length=len(BODY), Expect="100-continue", Connection="close") + b"\r\n"
        )
        assert connection.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BODY)
        assert statuses(read_all(connection, 3)) == [200]
    refused = gate.raw(gate.head(Content_Length=10**9, Expect="100-continue") + b"\r\n", wait=3)
    assert statuses(refused) == [413]
    assert statuses(gate.raw(gate.head(Content_Length=5, Expect="a-pony") + b"\r\n", wait=3)) == [417]


def test_bytes_one_by_one_are_a_request_too(gate: OpenGate) -> None:
    with gate.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in NEXT:
            connection.sendall(bytes((byte,)))
        assert b'{"live":true}' in connection.recv(4096)


def test_http_1_0_and_half_closed_connections_are_served(gate: OpenGate) -> None:
    answer = gate.raw(b"GET /health/live HTTP/1.0\r\n\r\n", wait=3)
    assert statuses(answer) == [200] and b"connection: close" in answer
    with gate.connect() as connection:
        connection.sendall(gate.head(Content_Length=len(BODY)) + b"\r\n" + BODY)
        connection.shutdown(socket.SHUT_WR)
        assert statuses(read_all(connection, 3)) == [200]


def test_absolute_targets_are_read_as_their_path(gate: OpenGate) -> None:
    answer = gate.raw(
        b"GET http://elsewhere/health/live HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n", wait=3
    )
    assert statuses(answer) == [200]


def test_a_caller_who_leaves_is_still_recorded(gate: OpenGate) -> None:
    before = len(gate.records())
    for _ in range(20):
        connection = gate.connect()
        connection.sendall(gate.head(Content_Length=len(BODY)) + b"\r\n" + BODY)
        connection.close()
    deadline = time.monotonic() + 5
    while len(gate.records()) < before + 20 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(gate.records()) == before + 20


KNOWN = {200, 400, 401, 403, 404, 405, 408, 409, 413, 415, 417, 422, 431, 501, 505}


def test_random_damage_to_a_request_is_answered_with_a_known_status_or_a_closed_connection(
    gate: OpenGate,
) -> None:
    whole = gate.head(Content_Length=len(BODY)) + b"\r\n" + BODY
    seen: list[int] = []

    def attack(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(40):
            sent = bytearray(whole)
            for _ in range(rng.randint(1, 8)):
                place = rng.randrange(len(sent) or 1)
                action = rng.randrange(3)
                if action == 0:
                    sent[place : place + 1] = bytes((rng.randrange(256),))
                elif action == 1:
                    del sent[place : place + rng.randint(1, 20)]
                else:
                    sent[place:place] = rng.choice(
                        [b"\r\n", b"\n", b"\0", b":", b" ", b"chunked", b"99999", b"{" * 50]
                    )
            try:
                with gate.connect() as connection:
                    connection.sendall(bytes(sent))
                    connection.shutdown(socket.SHUT_WR)
                    seen.extend(statuses(read_all(connection, 3)))
            except OSError:
                continue

    threads = [threading.Thread(target=attack, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(seen) <= KNOWN and len(seen) > 50
