"""Tables for terminals and for Markdown."""

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text


def format_cell(value: object) -> str:
    """A value as tables show it: floats with two digits, NaN as ``-``."""
    if isinstance(value, float):
        return "-" if pd.isna(value) else f"{value:.2f}"
    return str(value)


def markdown(table: pd.DataFrame) -> str:
    """The table in GitHub's Markdown, without its index; cells as in ``format_cell``."""
    head = "| " + " | ".join(map(str, table.columns)) + " |"
    rule = "|" + "---|" * len(table.columns)
    rows = [
        "| " + " | ".join(map(format_cell, row)) + " |" for row in table.itertuples(index=False)
    ]
    return "\n".join([head, rule, *rows]) + "\n"


def print_table(table: pd.DataFrame, title: str) -> None:
    """Print the table with aligned columns, without its index.

    Outside a terminal, as in a log file, lines may be 200 characters wide, so that nothing is cut.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    # Text, because Rich takes `[blur]` in a string for markup and drops it.
    shown = Table(title=Text(title), title_justify="left")
    for k, column in enumerate(table.columns):
        shown.add_column(Text(str(column)), justify="left" if k == 0 else "right", overflow="fold")
    for row in table.itertuples(index=False):
        shown.add_row(*(Text(format_cell(value)) for value in row))
    console.print(shown)
