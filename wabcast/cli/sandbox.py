"""`wabcast sandbox`: WhatsApp played on this machine, for demos and tests of one's own."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wabcast import stops
from wabcast.cli import Verbs, output
from wabcast.cli.loop import run_loop
from wabcast.errors import UsageError
from wabcast.providers.sandbox_fates import STORMS, table

if TYPE_CHECKING:
    from wabcast.providers.sandbox_app import Sandbox

EXAMPLES = (
    "wabcast sandbox serve --webhook http://127.0.0.1:8080/webhook\n"
    "wabcast sandbox serve --port 0 --latency 80ms --fault cut=0.01 --seed 7\n"
    "wabcast account add play --provider cloud --base-url http://127.0.0.1:8090"
    " --phone-number-id 106540352242922 --token env:ANY\n"
    "curl http://127.0.0.1:8090/_sandbox/stats"
)

app = Verbs("WhatsApp played on loopback: strict, and nobody is messaged.", examples=EXAMPLES)


def serve(
    host: Annotated[str, typer.Option(metavar="HOST", help="A loopback address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="PORT", help="0 takes a free one.")] = 8090,
    uds: Annotated[
        Path | None, typer.Option(metavar="PATH", help="A Unix socket instead of a port.")
    ] = None,
    webhook: Annotated[
        str | None, typer.Option(metavar="URL", help="Where receipts and replies are posted.")
    ] = None,
    app_secret: Annotated[
        str, typer.Option(metavar="SECRET", help="What the webhooks are signed with.")
    ] = "sandbox",  # noqa: S107  # of a WhatsApp that is played
    token: Annotated[
        str | None, typer.Option(metavar="TOKEN", help="The only one taken (else: any).")
    ] = None,
    phone_number_id: Annotated[
        str | None, typer.Option(metavar="ID", help="The only number there is (else: any).")
    ] = None,
    waba_id: Annotated[
        str | None, typer.Option(metavar="ID", help="The only account there is (else: any).")
    ] = None,
    latency: Annotated[
        str, typer.Option(metavar="D", help="How long an answer takes, as 80ms.")
    ] = "0ms",
    rate: Annotated[
        str | None, typer.Option(metavar="RATE", help="Throttle (130429) above it, as 80/s.")
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=P",
            help=f"Strike anybody with probability P: {', '.join(STORMS)}. May be repeated.",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="The same faults on every run.")
    ] = None,
    receipt_delay: Annotated[
        float, typer.Option(metavar="X", help="Stretch the time receipts take; 0: at once.")
    ] = 1.0,
) -> None:
    """Play the Cloud API until Ctrl-C. Prints its base URL when it listens."""
    from wabcast.clock import Clock
    from wabcast.pacing import Rate
    from wabcast.providers.sandbox_app import Sandbox
    from wabcast.providers.sandbox_knobs import PHONE_NUMBER_ID, WABA_ID, Knobs
    from wabcast.times import duration

    if receipt_delay < 0:
        raise UsageError("--receipt-delay cannot be negative", hint="0 is at once, 1 is natural")
    pace = Rate.parse(rate) if rate else None
    knobs = Knobs(
        phone_number_id=phone_number_id or PHONE_NUMBER_ID,
        any_ids=phone_number_id is None and waba_id is None,
        waba_id=waba_id or WABA_ID,
        token=token,
        app_secret=app_secret,
        latency=duration(latency, option="--latency").total_seconds(),
        rate=pace.per_second if pace and not pace.unlimited else None,
        faults=_faults(fault or ()),
        receipt_scale=receipt_delay,
    )
    _play(Sandbox(knobs, Clock(seed)), host, port, uds, webhook)


# The cards are the manual, so `--help` shows them; one table, see sandbox_fates.
serve.__doc__ = f"{serve.__doc__}\n\n\b\nWhat becomes of a number:\n{table()}"
app.verb("serve", examples=EXAMPLES)(serve)


def _play(sandbox: Sandbox, host: str, port: int, uds: Path | None, webhook: str | None) -> None:
    from wabcast.providers.sandbox_serve import serve as play

    async def until_told() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for name in stops.names():
            loop.add_signal_handler(getattr(signal, name), stop.set)
        await play(
            sandbox, host=host, port=port, uds=uds, webhook=webhook, ready=_say_where, stop=stop
        )

    run_loop(until_told())


def _say_where(url: str) -> None:
    output.line(url)
    sys.stdout.flush()  # a script waits for this line behind a pipe


def _faults(words: Sequence[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for word in words:
        name, _, chance = word.partition("=")
        try:
            probability = float(chance)
        except ValueError:
            probability = -1.0
        if name not in STORMS or not 0 <= probability <= 1:
            raise UsageError(
                f"not a fault: {word!r}", hint=f"NAME=P with P from 0 to 1: {', '.join(STORMS)}"
            )
        found[name] = probability
    return found
