"""Styles of CSV files, the word ``csv=...`` of commands. Imports nothing heavy."""

from typing import Literal, get_args

from product_cls.core.errors import UserError

CsvStyle = Literal["plain", "excel"]


def check_style(style: str) -> None:
    """Check the word ``csv=...`` of a command.

    Raises:
        UserError: an unknown style.
    """
    if style not in get_args(CsvStyle):
        raise UserError(f"csv={style}; allowed: {', '.join(get_args(CsvStyle))}.")
