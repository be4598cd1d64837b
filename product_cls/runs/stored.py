"""Mappings read from the files of a run, in which a missing key is a sentence."""

from pathlib import Path
from typing import Any

from product_cls.core.errors import UserError


class Stored(dict[str, Any]):
    """A mapping from a file of a run; a missing key is named with the file."""

    file: Path
    key: str

    @classmethod
    def of(cls, mapping: dict[Any, Any], file: Path, key: str = "") -> "Stored":
        """The mapping, and all mappings in it.

        Args:
            mapping: content of the file, or of a part of it.
            file: for messages.
            key: dotted key of the part, with a dot at the end.
        """
        stored = cls(
            (name, cls.of(value, file, f"{key}{name}.") if isinstance(value, dict) else value)
            for name, value in mapping.items()
        )
        stored.file, stored.key = file, key
        return stored

    def __missing__(self, name: str) -> Any:
        raise UserError(f"{self.file} is damaged: it holds no '{self.key}{name}'.")
