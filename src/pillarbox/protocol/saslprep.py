"""SASLprep (RFC 4013): one form for each name and password, however a keyboard or an operating system writes it."""

from __future__ import annotations

import stringprep
import unicodedata

_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def saslprep(text: str) -> str:
    """The prepared text, of a *stored string* (RFC 3454 section 7). Raises ValueError for one that may not stand."""
    if text.isascii() and text.isprintable():
        return text
    mapped = "".join(
        " " if stringprep.in_table_c12(letter) else letter for letter in text if not stringprep.in_table_b1(letter)
    )
    prepared = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    for letter in set(prepared):  # each once: U+FDFA alone becomes eighteen
        if stringprep.in_table_a1(letter) or any(prohibited(letter) for prohibited in _PROHIBITED):
            raise ValueError("a character that SASLprep prohibits, or does not know")
    _check_direction(prepared)
    return prepared


def _check_direction(text: str) -> None:
    """RFC 3454 section 6: text from right to left begins and ends so, and holds none from left to right."""
    if any(map(stringprep.in_table_d1, text)) and (
        any(map(stringprep.in_table_d2, text))
        or not (stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1]))
    ):
        raise ValueError("text that runs both ways")
