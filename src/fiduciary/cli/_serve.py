"""`fiduciary serve`: open the doors."""

from __future__ import annotations

import click
import msgspec

from fiduciary.cli._output import Output


@click.command()
@click.option("--host", default=None, help="Address to listen on (setting gate.host).")
@click.option("--port", type=int, default=None, help="HTTP port (setting gate.port).")
@click.option(
    "--grpc-port", type=int, default=None, help="Open Inference gRPC port (setting gate.grpc_port)."
)
@click.option("--workers", type=int, default=None, help="Processes (setting gate.workers).")
@click.pass_obj
def serve(
    output: Output, host: str | None, port: int | None, grpc_port: int | None, workers: int | None
) -> None:
    """Serve decisions until told to stop (SIGTERM or Ctrl-C drains first)."""
    from fiduciary.gate import serve as open_doors

    settings = output.settings()
    given = {"host": host, "port": port, "grpc_port": grpc_port, "workers": workers}
    changed = {name: value for name, value in given.items() if value is not None}
    settings = msgspec.structs.replace(settings, gate=msgspec.structs.replace(settings.gate, **changed))
    gate = settings.gate
    output.say(f"the gate of {settings.tenant}.{settings.region} listens on http://{gate.host}:{gate.port}")
    open_doors(settings)
