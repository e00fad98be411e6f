"""docs/classic.md shows the tables that the tests run."""

from __future__ import annotations

import pytest

from . import agreement

AT_LEAST = 30
WANTED = ("checkpw", "checkapoppw", "selectcheckpw", "tcprules", "tcprulescheck", "tcpserver", "envdir")


def test_the_page_is_as_the_tables_are() -> None:
    assert agreement.PAGE.read_text("utf-8") == agreement.written(), "run: python -m tests.classic.agreement"


@pytest.mark.parametrize("program", WANTED)
def test_a_table_is_long_enough_and_no_row_is_there_twice(program: str) -> None:
    titles = [case.title for case in dict(agreement.tables())[program]]
    assert len(set(titles)) == len(titles) >= AT_LEAST
