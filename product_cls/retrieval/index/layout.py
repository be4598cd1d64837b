"""Files of an index's folder. Imports nothing heavy, because commands look for an index first."""

import os
from pathlib import Path

from product_cls.core.cli import command_words
from product_cls.core.errors import UserError

META, EMBEDDINGS, PICTURES, FAISS = "index.json", "embeddings.npy", "pictures.csv", "gallery.faiss"
COLUMNS = ["id", "path", "label"]  # of pictures.csv
CURVE, PLOT, EXCEL = "rejection.csv", "rejection.png", "pictures-excel.csv"


def check_index(folder: Path) -> None:
    """Refuse a folder that holds no index.

    Raises:
        UserError: the folder holds no index.
    """
    try:
        if (folder / META).is_file():
            return
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise UserError(f"{folder} cannot be opened: {error.strerror}.") from None
    if not os.path.lexists(folder) and (earlier := leftovers(folder, "earlier")):
        raise UserError(
            f"There is no index {folder}: a command was killed while it replaced it. The earlier "
            f"index is {earlier[0]}; rename it to {folder}."
        )
    raise UserError(
        f"{folder} is not an index: it has no {META} ({command_words('index')} "
        "runs=... out=... builds one)."
    )


def leftovers(folder: Path, kind: str) -> list[Path]:
    """Folders that a killed writer has left beside an index, newest first.

    Args:
        kind: ``partial`` or ``earlier``.
    """
    start = f".{folder.name}.{kind}-"
    try:
        found = [other for other in folder.parent.iterdir() if other.name.startswith(start)]
        return sorted(found, key=lambda other: other.stat().st_mtime, reverse=True)
    except OSError:
        return []
