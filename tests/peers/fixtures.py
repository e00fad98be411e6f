"""Fixtures for tests that deliver: import those that you need into your conftest or test file.

from ..peers.fixtures import authority, names, postfix_exchanger  # noqa: F401
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .certificates import Authority
from .dns import NameServer, name_server
from .exchanger import Exchanger
from .opensmtpd import opensmtpd
from .postfix import NAME as POSTFIX_NAME
from .postfix import postfix


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def names() -> Iterator[NameServer]:
    """An empty name server of this test alone."""
    with name_server() as running:
        yield running


@pytest.fixture(scope="module")
def postfix_exchanger(authority: Authority) -> Iterator[Exchanger]:
    """Postfix with everything it can, STARTTLS and SMTPUTF8 included."""
    with postfix(certificate=authority.issue(POSTFIX_NAME)) as running:
        yield running


@pytest.fixture(scope="module")
def opensmtpd_exchanger() -> Iterator[Exchanger]:
    """OpenSMTPD without TLS."""
    with opensmtpd() as running:
        yield running
