"""Which files of a folder are pictures: the one table of suffixes, and the one of ignored names."""

import importlib.util
import logging
import os
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import features

from product_cls.core.errors import UserError
from product_cls.core.names import is_text, nfc, shown
from product_cls.data.pictures import FORMATS
from product_cls.data.samples import natural_key

log = logging.getLogger(__name__)

SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
# What systems and tools leave in folders, in lower case: thumbnails, settings, deleted files. Names
# that begin with a dot are ignored, too.
IGNORED = {
    *("@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot"),  # network drives
    *("__macosx", "icon\r"),
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),
    *("lost+found", "__pycache__"),
}


def is_ignored(name: str) -> bool:
    """Whether a file or folder is hidden or was left by a system or tool."""
    return name.startswith(".") or name.lower() in IGNORED


def leads_to_file(path: Path) -> bool:
    """Whether a path leads to a regular file, not to a pipe or a device, whose reading may never
    end; False for a path that no file can have."""
    try:
        return path.is_file()
    except OSError:  # the name is too long
        return False


def leads_to_folder(path: Path) -> bool:
    """Whether a path leads to a folder; False for a path that no folder can have."""
    try:
        return path.is_dir()
    except OSError:
        return False


def unopenable(suffix: str) -> str | None:
    """Why pictures with a suffix of ``SUFFIXES`` cannot be opened here; None if they can.

    Args:
        suffix: in lower case.
    """
    if suffix in FORMATS["HEIF"] and importlib.util.find_spec("pillow_heif") is None:
        return 'pip install "product-cls[heif]" reads them'
    if suffix == ".avif" and not features.check("avif"):
        return "a newer Pillow reads them"
    return None


@dataclass
class Listing:
    """What was found in folders.

    Attributes:
        pictures: the picture files.
        left_out: what else was found, such as ``.txt`` -> number of files.
        not_text: pictures and folders whose names are not UTF-8.
    """

    pictures: list[Path] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    not_text: list[Path] = field(default_factory=list)

    def add(self, other: "Listing") -> None:
        """Add what was found in another folder."""
        self.pictures += other.pictures
        self.left_out += other.left_out
        self.not_text += other.not_text


def scan(folder: Path) -> Listing:
    """List a folder and all folders in it, links to folders included.

    Each folder is listed once, however many links lead to it, so that circles of links end.

    Returns:
        The pictures in natural order of their paths, and what was left out.

    Raises:
        UserError: a folder that cannot be listed.
    """
    found = Listing()
    real = os.path.realpath(folder)
    seen: set[str] = set()
    folders, links = deque([(str(folder), real)]), deque[tuple[str, str]]()
    while folders or links:  # links come last, so that a picture has its own path, not a link's
        place, target = folders.popleft() if folders else links.popleft()
        if target in seen or (target != real and f"{real}/".startswith(target.rstrip("/") + "/")):
            found.left_out["links to folders that are listed already"] += 1
            continue
        seen.add(target)
        for entry in _entries(place):
            path, is_link = Path(entry.path), entry.is_symlink()
            if is_ignored(entry.name):
                continue
            if leads_to_folder(path) if is_link else entry.is_dir():
                if not is_text(entry.name):
                    found.not_text.append(path)
                elif is_link:
                    links.append((entry.path, os.path.realpath(entry.path)))
                else:
                    folders.append((entry.path, f"{target.rstrip('/')}/{entry.name}"))
            elif not (leads_to_file(path) if is_link else entry.is_file()):
                found.left_out["links to no file" if is_link else "pipes, sockets or devices"] += 1
            elif kind := _left_out_as(path):
                found.left_out[kind] += 1
            elif not is_text(entry.name):
                found.not_text.append(path)
            else:
                found.pictures.append(path)
    found.pictures.sort(key=lambda path: _order(path.relative_to(folder)))
    return found


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{shown(folder)} cannot be listed: {error.strerror}.") from None


def _left_out_as(file: Path) -> str | None:
    """The kind of a file that is no picture; None for a picture."""
    suffix = file.suffix.lower()
    if suffix in SUFFIXES:
        return f"{suffix} ({why})" if (why := unopenable(suffix)) else None
    return shown(suffix) if suffix else "files without a suffix"


def _order(path: Path) -> list[tuple[int, int, str]]:
    # The full name decides between 1.jpg and 1.png, and the name as written between two Unicode
    # forms of one name: folds must not depend on the file system.
    parts = [nfc(part) for part in (*path.parent.parts, path.stem, path.name)]
    return [*map(natural_key, parts), (2, 0, str(path))]


def list_pictures(folder: Path) -> list[Path]:
    """All picture files below ``folder``, in natural order of their paths.

    Logs a warning that counts the files left out.

    Raises:
        UserError: a folder that cannot be listed, or names that are not UTF-8.
    """
    found = scan(folder)
    if sentence := not_text_sentence([folder] if not is_text(str(folder)) else found.not_text):
        raise UserError(sentence)
    warn_left_out(folder, found.left_out)
    return found.pictures


def warn_left_out(folder: Path, left_out: Mapping[str, int]) -> None:
    """Log a warning that counts the files that are no pictures, if there are any."""
    if left_out:
        kinds = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
        listed = ", ".join(f"{count} {kind}" for kind, count in kinds[:10])
        more = f" and {len(kinds) - 10} other kinds" if len(kinds) > 10 else ""
        log.warning("%s: left out as no pictures: %s%s.", shown(folder), listed, more)


def not_text_sentence(paths: Iterable[Path]) -> str | None:
    """A sentence that refuses files and folders whose names are not UTF-8; None without any."""
    names = list(paths)
    if not names:
        return None
    return (
        f"{len(names)} files or folders have names that are not UTF-8, the first is "
        f"{shown(names[0])}; rename them (`convmv -r -f cp949 -t utf-8 --notest FOLDER`), or "
        f"unpack their archive with its encoding (`unzip -O cp949 FILE`)."
    )


def class_folders(folder: Path) -> list[Path]:
    """The folders in ``folder``, links to folders included, in natural order of their names.

    Raises:
        UserError: the folder cannot be listed.
    """
    entries = [Path(entry.path) for entry in _entries(str(folder)) if not is_ignored(entry.name)]
    return sorted(filter(leads_to_folder, entries), key=lambda p: _order(Path(p.name)))
