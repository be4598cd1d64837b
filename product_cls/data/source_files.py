"""Checked access to the folders and picture files of a data set, for readers."""

import os
from collections.abc import Iterable
from pathlib import Path, PurePath

import pandas as pd

from product_cls.core.arguments import as_typed
from product_cls.core.errors import UserError
from product_cls.core.names import is_text, nfc, shown
from product_cls.data.faults import Faults, listed
from product_cls.data.listing import SUFFIXES, leads_to_file, leads_to_folder


def existing_folder(root: str | Path, expected: str, *, argument: str = "root") -> Path:
    """A reader's argument as the path of an existing folder.

    Args:
        root: the folder; ``~`` is expanded, and another Unicode form of its name is found.
        expected: what the folder should hold, for the message.
        argument: name of the reader's argument.

    Raises:
        ValueError: there is no such folder, or its path is not UTF-8.
    """
    folder = expanded(root)
    if not leads_to_folder(folder):
        others = [
            path for path in FileFinder(Path()).spellings(str(folder)) if leads_to_folder(path)
        ]
        if not others:
            raise ValueError(
                f"{argument}={shown(root)}: there is no such folder; expected {expected}."
            )
        folder = others[0]
    if not is_text(str(folder)):
        raise ValueError(
            f"{argument}={shown(root)}: the path is not UTF-8; rename its folders "
            f"(`convmv -r -f cp949 -t utf-8 --notest FOLDER`)."
        )
    return folder


def expanded(path: str | Path) -> Path:
    """A path with ``~`` expanded; one of an unknown user stays as it is."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def require_folder(folder: Path, content: str) -> Path:
    """Check that a folder inside a data set exists.

    Args:
        folder: is returned.
        content: what the folder should hold, for the message.

    Raises:
        UserError: there is no such folder.
    """
    if not leads_to_folder(folder):
        raise UserError(f"There is no folder {shown(folder)} ({content}).")
    return folder


class FileFinder:
    """Finds the files that a table names, also if their names have another Unicode form (macOS
    writes NFD) or lack the suffix.

    Args:
        base: folder that the names are relative to.
        suffix: added to names that do not end in it; None finds the suffix of names without one.

    Attributes:
        ambiguous: name -> its files, for names without a suffix that have several.
    """

    def __init__(self, base: Path, suffix: str | None = None) -> None:
        self.base, self.suffix = base, suffix
        self.ambiguous: dict[str, list[str]] = {}
        self._names: dict[str, dict[str, list[str]]] = {}  # folder -> NFC or stem -> names in it

    def find(self, name: str) -> Path | None:
        """The file of a name; None if there is no such regular file, or if there are several."""
        wanted = [name]
        if self.suffix and not name.lower().endswith(self.suffix.lower()):
            wanted = [f"{name}{dot}{self.suffix}" for dot in ("", ".")]
        for full in wanted:
            if leads_to_file(path := self.base / full):
                return path
        for path in [path for full in wanted for path in self.spellings(full)]:
            if leads_to_file(path):
                return path
        if self.suffix is not None or not PurePath(name).name:
            return None
        parent, stem = os.path.split(name)
        found = [
            file
            for folder in ([self.base] if not parent else self.spellings(parent))
            for entry in self._listed(str(folder), stems=True).get(nfc(stem), [])
            if leads_to_file(file := folder / entry)
        ]
        if len(found) > 1:
            self.ambiguous[name] = [file.name for file in found]
        return found[0] if len(found) == 1 else None

    def spellings(self, name: str) -> list[Path]:
        """Existing files and folders that have the name in any mix of Unicode forms."""
        places = [self.base]
        for part in PurePath(name).parts:
            if part in (os.sep, os.pardir):
                places = [place / part for place in places]
            else:
                places = [
                    place / entry
                    for place in places
                    for entry in self._listed(str(place)).get(nfc(part), [])
                ]
        return places

    def _listed(self, folder: str, *, stems: bool = False) -> dict[str, list[str]]:
        """The names in a folder by NFC, or the pictures in it by the NFC of their stems."""
        key = f"{folder}\0" if stems else folder
        if key not in self._names:
            self._names[key] = {}
            try:
                entries = sorted(Path(folder).iterdir())
            except (OSError, ValueError):  # ValueError: a zero byte in the name
                entries = []
            for entry in entries:
                if is_text(entry.name) and (not stems or entry.suffix.lower() in SUFFIXES):
                    name = nfc(entry.stem if stems else entry.name)
                    self._names[key].setdefault(name, []).append(entry.name)
        return self._names[key]


def find_files(
    names: Iterable[str], base: Path, source: Path, faults: Faults, *, suffix: str | None = None
) -> list[str]:
    """The paths of the files that a table names.

    Args:
        names: relative to ``base``, or absolute.
        base: the folder.
        source: the table, for messages.
        faults: gets a sentence about the files that do not exist.
        suffix: see ``FileFinder``.

    Returns:
        A path for each name, also for those that do not exist.
    """
    finder, names = FileFinder(base, suffix), list(names)
    found = [finder.find(name) for name in names]
    absent = [name for name, path in zip(names, found, strict=True) if path is None]
    if finder.ambiguous:
        name, files = next(iter(finder.ambiguous.items()))
        faults.add(
            f"suffix={as_typed(None)}: {shown(source)} names {len(finder.ambiguous)} pictures that "
            f"have several files, the first is {shown(name)}: {listed(files)}; set the suffix of "
            f"those that are meant."
        )
        absent = [name for name in absent if name not in finder.ambiguous]
    if absent:
        wanted = base / f"{absent[0]}{suffix or ''}"
        rest = f"; others are {listed(absent[1:])}" if len(absent) > 1 else ""
        faults.add(
            f"{shown(source)} names {len(absent)} pictures that do not exist, the first is "
            f"{shown(wanted)}{rest}."
        )
    return [
        str(base / name if path is None else path) for name, path in zip(names, found, strict=True)
    ]


def with_paths(
    table: pd.DataFrame,
    base: Path,
    source: Path,
    faults: Faults,
    *,
    what: str,
    suffix: str | None = None,
) -> pd.DataFrame:
    """Find the pictures of a table.

    Args:
        table: ``id`` holds the names of the files; rows without one are a fault.
        base, source, faults, suffix: see ``find_files``.
        what: the column's name in the file, for messages.

    Returns:
        The other rows, with the column ``path`` and a new index.
    """
    empty = table["id"].isna()
    if empty.any():
        rows = [number + 2 for number in empty.to_numpy().nonzero()[0]]
        more = f" ({len(rows)} such rows: {listed(rows)})" if len(rows) > 1 else ""
        faults.add(f"{source}: row {rows[0]} has no {what}{more}.")
    table = table[~empty].reset_index(drop=True)
    return table.assign(path=find_files(table["id"], base, source, faults, suffix=suffix))
