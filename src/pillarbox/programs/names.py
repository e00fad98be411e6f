"""The classic programs: the name of each, and the module that is it."""

from __future__ import annotations

import os
import signal
from importlib import import_module

from . import chain

TYPE_CHECKING = False  # typing takes longer to load than all else here
if TYPE_CHECKING:
    from typing import NoReturn

PROGRAMS = (
    "checkpw", "checkapoppw", "selectcheckpw", "loginlog",
    "qmail-popup", "qmail-pop3d",
    "qmail-smtpd", "qmail-queue", "qmail-start", "qmail-qread", "qmail-qstat", "qmail-showctl", "maildirmake",
    "tcpserver", "tcprules", "tcprulescheck",
    "envdir", "setuidgid", "softlimit",
    "relay-ctrl-chdir", "relay-ctrl-allow", "relay-ctrl-check", "relay-ctrl-age", "relay-ctrl-send", "relay-ctrl-udp",
    "splogger",
)  # fmt: skip


def run(name: str, arguments: list[bytes]) -> NoReturn:
    """Be that one of PROGRAMS until its end. Each module has `main(arguments, environment) -> exit status`."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a Ctrl-C ends it as any program, without a word
    module = import_module("." + name.replace("-", "_"), __package__)
    try:
        status = module.main(arguments, chain.inherited())
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else chain.TROUBLE
    except Exception as error:  # its text might hold a secret
        chain.complain(f"{name}: fatal: a fault in this program: {type(error).__name__} at {_place(error)}")
        status = chain.TROUBLE
    os._exit(status)  # nothing is left to do, and the interpreter's own farewell takes milliseconds


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}" if trace else "its start"
