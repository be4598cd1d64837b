"""Tables for terminals and for Markdown."""

from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "-" if pd.isna(value) else f"{value:.2f}"
    return str(value)


def markdown(table: pd.DataFrame) -> str:
    """A GitHub table; numbers with two digits, missing ones as '-'."""
    head = "| " + " | ".join(map(str, table.columns)) + " |"
    rule = "|" + "---|" * len(table.columns)
    rows = ["| " + " | ".join(map(_cell, row)) + " |" for row in table.itertuples(index=False)]
    return "\n".join([head, rule, *rows]) + "\n"


def print_table(table: pd.DataFrame, title: str) -> None:
    """Print with aligned columns, never cut: a table in a log file has no terminal's width."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    shown = Table(title=title, title_justify="left")
    for k, column in enumerate(table.columns):
        shown.add_column(str(column), justify="left" if k == 0 else "right", overflow="fold")
    for row in table.itertuples(index=False):
        shown.add_row(*map(_cell, row))
    console.print(shown)
