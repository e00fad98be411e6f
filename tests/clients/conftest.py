"""One server for the tests of a module, and clients that are there or visibly missing."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from _pytest.mark.structures import ParameterSet

from ..corpus import real
from .drivers import CLIENTS, Client


def _logins(clients: Iterable[Client]) -> list[ParameterSet]:
    """Each client by APOP, and by USER and PASS."""
    return [
        pytest.param(client, apop, id=f"{client!r}-{'apop' if apop else 'pass'}")
        for client in clients
        for apop in (True, False)
        if apop or client.can_plain
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`client, apop`: for each client and mechanism; `keeper`: only those that remember; `verbatim`: that alter nothing."""
    if "client" in metafunc.fixturenames:
        metafunc.parametrize(("client", "apop"), _logins(CLIENTS))
    if "keeper" in metafunc.fixturenames:
        metafunc.parametrize(("keeper", "apop"), _logins(client for client in CLIENTS if client.keeps_state))
    if "verbatim" in metafunc.fixturenames:
        metafunc.parametrize(("verbatim", "apop"), _logins(client for client in CLIENTS if client.verbatim))


@pytest.fixture(autouse=True)
def _client_is_there(request: pytest.FixtureRequest) -> None:
    callspec = getattr(request.node, "callspec", None)
    for value in callspec.params.values() if callspec else ():
        if isinstance(value, Client) and (why := value.missing()):
            unavailable(why)


@pytest.fixture(scope="session")
def corpus() -> list[real.Mail]:
    """All 6,046 real messages."""
    try:
        return real.load()
    except real.Unavailable as error:
        unavailable(str(error))
        raise


def unavailable(why: str) -> None:
    """Skip the test, and say why; in CI nothing may be missing, and it fails."""
    (pytest.fail if real.in_ci() else pytest.skip)(why)
