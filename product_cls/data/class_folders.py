"""Rows of the sample table from folders of pictures."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from product_cls.core.names import is_text, nfc, shown
from product_cls.data.faults import Faults, listed
from product_cls.data.listing import (
    SUFFIXES,
    Listing,
    class_folders,
    is_ignored,
    leads_to_file,
    not_text_sentence,
    scan,
    warn_left_out,
)

log = logging.getLogger(__name__)

OnEmpty = Literal["stop", "drop"]


class Row(NamedTuple):
    """A row of the sample table; ``label`` is None if unknown."""

    id: str
    path: str
    split: str
    label: str | None


def check_on_empty(on_empty: str) -> None:
    """Refuse an unknown way to treat empty class folders.

    Raises:
        ValueError: about the argument ``on_empty``.
    """
    if on_empty not in get_args(OnEmpty):
        raise ValueError(f"on_empty={on_empty}; allowed: {', '.join(get_args(OnEmpty))}.")


def folder_rows(
    folder: Path,
    split: str,
    faults: Faults,
    *,
    on_empty: OnEmpty = "stop",
    classes: Sequence[Path] | None = None,
) -> list[Row]:
    """The pictures of one folder per class; their ids are paths relative to ``folder``.

    Labels and ids are in Unicode NFC, so folders of one name in two forms are one class. Logs
    warnings about what was left out.

    Args:
        folder: the folder of the class folders.
        split: of all rows.
        faults: gets sentences about empty classes, names that are not UTF-8, or no classes at all.
        on_empty: ``stop`` makes class folders without a picture a fault; ``drop`` logs a warning.
        classes: the class folders; None for all folders.

    Raises:
        UserError: a folder that cannot be listed.
    """
    found, labels, empty = Listing(), list[str](), list[str]()
    empty_holds: Counter[str] = Counter()
    classes = class_folders(folder) if classes is None else classes
    for entry in classes:
        if not is_text(entry.name):
            found.not_text.append(entry)
            continue
        part = scan(entry)
        found.add(part)
        labels += [nfc(entry.name)] * len(part.pictures)
        if not part.pictures and not part.not_text:
            empty.append(entry.name)
            empty_holds += part.left_out
    if not classes:
        faults.add(
            f"{folder} holds no folders; expected one folder per class with pictures.",
            pictures_lost=True,
        )
    if loose := [path for path in _files(folder) if path.suffix.lower() in SUFFIXES]:
        log.warning(
            "%s: left out %d pictures that are in no class folder, the first is %s.",
            folder,
            len(loose),
            shown(loose[0].name),
        )
    if sentence := not_text_sentence(found.not_text):
        faults.add(sentence, pictures_lost=True)
    warn_left_out(folder, found.left_out)
    if empty:
        _report_empty(folder, empty, empty_holds, faults, on_empty)
    return [
        Row(name, str(path), split, label)
        for name, path, label in zip(
            picture_ids(found.pictures, folder), found.pictures, labels, strict=True
        )
    ]


def _files(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.iterdir() if not is_ignored(path.name) and leads_to_file(path)
    )


def _report_empty(
    folder: Path, empty: Sequence[str], holds: "Counter[str]", faults: Faults, on_empty: OnEmpty
) -> None:
    """Add a fault about empty class folders, or log a warning.

    Args:
        folder, empty, on_empty: their place and names, and what to do with them.
        holds: kinds of other files in them -> number.
        faults: gets the sentence.
    """
    one = len(empty) == 1
    found = (
        f"the class folder {shown(folder / empty[0])} holds no picture"
        if one
        else f"{len(empty)} class folders in {folder} hold no picture ({listed(empty)})"
    )
    if holds:
        kinds = listed([f"{count} {kind}" for kind, count in holds.most_common()])
        found += f", only other files: {kinds}"
    if on_empty == "drop":
        log.warning("Left out: %s.", found)
    else:
        faults.add(
            f"on_empty=stop: {found}; pictures end in {', '.join(SUFFIXES)}. Add pictures, or set "
            f"it to drop, which leaves {'it' if one else 'them'} out.",
            pictures_lost=True,
        )


def loose_pictures(folder: Path, split: str, faults: Faults) -> list[Row] | None:
    """The pictures to predict that lie loose in a folder; None if all are in folders.

    Args:
        folder: the folder.
        split: of all rows.
        faults: gets sentences about loose pictures beside others, and names that are not UTF-8.

    Raises:
        UserError: a folder that cannot be listed.
    """
    found = scan(folder)
    loose = [path for path in found.pictures if path.parent == folder]
    if not loose and not found.not_text:
        return None
    if sentence := not_text_sentence(found.not_text):
        faults.add(sentence, pictures_lost=True)
    elif len(loose) < len(found.pictures):
        faults.add(
            f"{folder} holds both loose pictures and pictures in folders; expected either one "
            f"folder per class or loose files."
        )
    warn_left_out(folder, found.left_out)
    names = picture_ids(loose, folder)
    return [Row(name, str(path), split, None) for name, path in zip(names, loose, strict=True)]


def picture_ids(pictures: Sequence[Path], folder: Path) -> list[str]:
    """Ids of pictures: their paths relative to ``folder`` in Unicode NFC, each once.

    A path that is the same as an earlier one in NFC gets ``~2``, ``~3``, ... at its end, with a
    warning.
    """
    ids: list[str] = []
    taken: set[str] = set()
    twice: list[str] = []
    for path in pictures:
        name = full = nfc(str(path.relative_to(folder)))
        number = 1
        while full in taken:
            number += 1
            full = f"{name}~{number}"
        if number > 1:
            twice.append(name)
        taken.add(full)
        ids.append(full)
    if twice:
        log.warning(
            "%s: %d pictures have the name of another in a second Unicode form (%s); their ids end "
            "in ~2.",
            folder,
            len(twice),
            listed(twice),
        )
    return ids
