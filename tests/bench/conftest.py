"""The load generator, compiled once."""

from __future__ import annotations

import pytest
from bench.generator import Generator, NoCompiler


@pytest.fixture(scope="session")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    try:
        return Generator(tmp_path_factory.mktemp("load"))
    except NoCompiler as error:
        pytest.skip(str(error))
