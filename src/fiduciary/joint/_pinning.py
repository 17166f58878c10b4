"""TLS 1.3 with one believed certificate per rank, and what to say when another one comes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import ssl
import struct
from pathlib import Path
from typing import Any

PREFACE_LIMIT = 4096
_SIZE = struct.Struct(">I")


class LinkError(Exception):
    """This end, or the other, refuses a link. `rank`: the party of the job that is to blame, -1: a stranger."""

    def __init__(self, reason: str, *, rank: int = -1) -> None:
        super().__init__(reason)
        self.reason = reason
        self.rank = rank


def tls_context(server: bool, certificate: Path, private_key: Path, anchors: str) -> ssl.SSLContext:
    """A context that believes only the certificates in `anchors` (PEM), each as its own root."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # identity is the pinned certificate, not a name in it
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    context.load_cert_chain(certificate, private_key)
    context.load_verify_locations(cadata=anchors)
    if server:
        context.num_tickets = 0
    return context


def pem_fingerprint(certificate: str) -> str:
    """SHA-256 of a certificate's DER bytes, hexadecimal."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate)).hexdigest()


def peer_fingerprint(sock: ssl.SSLSocket) -> str:
    """SHA-256 of the certificate that the other end proved."""
    return hashlib.sha256(sock.getpeercert(binary_form=True) or b"").hexdigest()


def explain(error: Exception) -> str:
    """What a failed handshake means, for people."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if "expired" in error.verify_message:
            return "its certificate has expired"
        return f"its certificate is not one of the contract's ({error.verify_message})"
    text = str(error)
    if isinstance(error, ssl.SSLError):
        if "ALERT_UNKNOWN_CA" in text or "UNKNOWN_CA" in text:
            return "it refused our certificate: not one of its contract's"
        if "CERTIFICATE_EXPIRED" in text:
            return "it refused our certificate: expired"
        if "ALERT" in text:
            return f"it ended the handshake ({error.reason})"
        return f"the handshake failed ({error.reason})"
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens at its address"
    if isinstance(error, socket.gaierror):
        return "its address cannot be found"
    if isinstance(error, EOFError | ConnectionError):
        return "it closed the connection"
    return f"the connection failed ({type(error).__name__})"


def split_address(address: str) -> tuple[str, int]:
    """host:port as a pair."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def listen(address: str) -> socket.socket:
    """A listening TCP socket. Raises `OSError` when the address is taken."""
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(64)
    except OSError:
        sock.close()
        raise
    return sock


def send_preface(sock: socket.socket, message: dict[str, Any]) -> None:
    """Write one length-prefixed JSON message."""
    raw = json.dumps(message).encode()
    sock.sendall(_SIZE.pack(len(raw)) + raw)


def receive_preface(sock: socket.socket) -> dict[str, Any]:
    """Read one length-prefixed JSON message of at most 4 KiB, and not a byte more. Raises `LinkError`, `EOFError`."""
    (size,) = _SIZE.unpack(_exactly(sock, _SIZE.size))
    if size > PREFACE_LIMIT:
        raise LinkError("it does not speak this protocol")
    try:
        message = json.loads(_exactly(sock, size))
    except ValueError:
        raise LinkError("it does not speak this protocol") from None
    if not isinstance(message, dict):
        raise LinkError("it does not speak this protocol")
    return message


def _exactly(sock: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        part = sock.recv(size)
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def close(*socks: Any) -> None:
    """Close sockets, whatever state they are in."""
    for sock in socks:
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.close()
