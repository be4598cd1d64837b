"""Tables for terminals and for Markdown."""

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from product_cls.core.names import shown


def format_cell(value: object) -> str:
    """A value as tables show it: floats with two digits, NaN as ``-``."""
    if isinstance(value, float):
        return "-" if pd.isna(value) else f"{value:.2f}"
    return str(value)


def markdown(table: pd.DataFrame) -> str:
    """The table in GitHub's Markdown, without its index; cells as in ``format_cell``.

    What ends a cell or a line is escaped.
    """
    head = "| " + " | ".join(map(_markdown_cell, table.columns)) + " |"
    rule = "|" + "---|" * len(table.columns)
    rows = [
        "| " + " | ".join(map(_markdown_cell, row)) + " |" for row in table.itertuples(index=False)
    ]
    return "\n".join([head, rule, *rows]) + "\n"


def _markdown_cell(value: object) -> str:
    return shown(format_cell(value)).replace("|", "\\|")


def print_table(table: pd.DataFrame, title: str) -> None:
    """Print the table with aligned columns, without its index.

    Outside a terminal, as in a log file, lines may be 200 characters wide, so that nothing is cut.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    # Text, because Rich takes `[blur]` in a string for markup and drops it.
    printed = Table(title=Text(title), title_justify="left")
    for k, column in enumerate(table.columns):
        heading = Text(shown(column))
        printed.add_column(heading, justify="left" if k == 0 else "right", overflow="fold")
    for row in table.itertuples(index=False):
        printed.add_row(*(Text(shown(format_cell(value))) for value in row))
    console.print(printed)
