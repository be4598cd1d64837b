"""Files of an index's folder. Imports nothing heavy, because commands look for an index first."""

from pathlib import Path

from product_cls.core.cli import command_words
from product_cls.core.errors import UserError

META, EMBEDDINGS, PICTURES, FAISS = "index.json", "embeddings.npy", "pictures.csv", "gallery.faiss"
CURVE, PLOT = "rejection.csv", "rejection.png"


def check_index(folder: Path) -> None:
    """Refuse a folder that holds no index.

    Raises:
        UserError: the folder holds no index.
    """
    if not (folder / META).is_file():
        raise UserError(
            f"{folder} is not an index: it has no {META} ({command_words('index')} "
            "runs=... out=... builds one)."
        )
