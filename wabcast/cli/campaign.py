"""`wabcast campaign`: the noun. Its verbs stand in the modules beside this one.

`campaign_draft` makes and changes campaigns, `campaign_look` reads them, `campaign_check` says
whether one is ready, `campaign_test` sends one message, `campaign_run` all, `campaign_control` is
what another terminal does to a run, `campaign_report` tells what became of it.
"""

from __future__ import annotations

from wabcast.cli.campaign_app import app

# Importing them hangs their verbs on `app`, in the order of the help.
from wabcast.cli import campaign_draft  # isort: skip
from wabcast.cli import campaign_look  # isort: skip
from wabcast.cli import campaign_check  # isort: skip
from wabcast.cli import campaign_test  # isort: skip
from wabcast.cli import campaign_run  # isort: skip
from wabcast.cli import campaign_control  # isort: skip
from wabcast.cli import campaign_report  # isort: skip

__all__ = [
    "app",
    "campaign_check",
    "campaign_control",
    "campaign_draft",
    "campaign_look",
    "campaign_report",
    "campaign_run",
    "campaign_test",
]
