"""Data sets of the Hugging Face hub, and local Parquet files, by the ``datasets`` library.

Their pictures are inside the tables. They are written once to files, byte by byte, so that stores,
pages and predictions treat them as any other pictures.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock
from PIL import Image

from product_cls.core.errors import UserError, reason
from product_cls.core.extras import missing_extra
from product_cls.core.files import digest, write_bytes_whole, write_text_whole
from product_cls.core.progress import progress_bar
from product_cls.data.samples import check_samples

# Names of splits on the hub -> of the sample table.
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "val"),
    "test": "test",
}
ORDER = ("train", "val", "test")
SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif"}
VERSION = 1  # raise it after a change of the files that are written


def read_huggingface(
    root: str,
    *,
    picture_folder: str | Path,
    subset: str | None = None,
    image_column: str = "image",
    label_column: str = "label",
    view_column: str | None = None,
    group_column: str | None = None,
    splits: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """A data set of the hub, or local Parquet files; columns of text and numbers become labels.

    Ids are ``SPLIT/NUMBER``, the row of the picture in its split.

    Args:
        root: ``OWNER/NAME`` on the hub, a Parquet file (all of it is ``train``), or a folder with
            files that begin with the name of their split: ``train-00000.parquet``.
        picture_folder: folder that the pictures are written to.
        subset: the hub's name of a configuration of the data set; None for its only one.
        image_column, label_column: columns of the picture and of the label.
        view_column, group_column: columns that become ``view`` and ``group``.
        splits: name of a split in the data set -> ``train``, ``val`` or ``test``; None for the
            usual names. Splits that it does not name are left out.

    Raises:
        ValueError: an argument that the data set does not suit.
        UserError: ``datasets`` is not installed, the data set is out of reach or damaged, or
            whatever ``check_samples`` refuses.
    """
    parts = _load(root, subset)
    roles = _roles(parts, splits, root)
    asked = {
        "image_column": image_column,
        "label_column": label_column,
        "view_column": view_column,
        "group_column": group_column,
    }
    rows: list[dict[str, Any]] = []
    for name, split in roles.items():
        part = parts[name]
        for argument, column in asked.items():
            if column is not None and column not in part.column_names:
                raise ValueError(
                    f"{argument}={column} is no column of split '{name}' of {root}; it has "
                    f"{', '.join(part.column_names)}."
                )
        files = _written(part, image_column, Path(picture_folder), f"{root}, split {name}")
        columns = {
            column: _values(part, column)
            for column, feature in part.features.items()
            if column != image_column and type(feature).__name__ in ("Value", "ClassLabel")
        }
        columns["label"] = _values(part, label_column)
        for key, column in (("view", view_column), ("group", group_column)):
            if column is not None:
                columns[key] = _values(part, column)
        columns = {k: v for k, v in columns.items() if k not in ("id", "path", "split")}
        for number, file in enumerate(files):
            row = {column: values[number] for column, values in columns.items()}
            rows.append({"id": f"{split}/{number:06d}", "path": str(file), "split": split, **row})
    return check_samples(pd.DataFrame(rows), root)


def _load(root: str, subset: str | None) -> Mapping[str, Any]:
    """The splits by name, with pictures as bytes or paths."""
    try:
        import datasets
    except ImportError:
        raise missing_extra("data=huggingface needs datasets", "huggingface") from None
    place = Path(root).expanduser()
    try:
        datasets.disable_progress_bars()
        if place.is_file():
            loaded = datasets.load_dataset("parquet", data_files={"train": str(place)})
        elif place.is_dir():
            loaded = datasets.load_dataset("parquet", data_files=_files_by_split(place))
        else:
            loaded = datasets.load_dataset(root, subset)
    except UserError:
        raise
    except Exception as error:  # the library raises many kinds
        where = "is no file or folder, and " if not place.exists() else ""
        raise UserError(
            f"data.root={root} {where}cannot be read as a data set of the hub or as Parquet: "
            f"{reason(error).splitlines()[0].rstrip('.')}."
        ) from None
    return dict(loaded)


def _files_by_split(folder: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for file in sorted(folder.rglob("*.parquet")):
        found.setdefault(file.stem.partition("-")[0], []).append(str(file))
    if not found:
        raise UserError(
            f"data.root={folder} holds no Parquet file; allowed: SPLIT.parquet or "
            f"SPLIT-NUMBER.parquet, as train-00000.parquet."
        )
    return found


def _roles(parts: Mapping[str, Any], splits: Mapping[str, str] | None, root: str) -> dict[str, str]:
    """Name of each split that is read -> ``train``, ``val`` or ``test``."""
    known = ", ".join(parts)
    if splits is None:
        if unknown := [name for name in parts if name not in SPLITS]:
            raise ValueError(
                f"splits=null: {root} has the splits {known}, and '{unknown[0]}' is no usual name; "
                f"say what they are, as splits={{{unknown[0]}:train}}."
            )
        roles = {name: SPLITS[name] for name in parts}
        return dict(sorted(roles.items(), key=lambda role: ORDER.index(role[1])))
    for name, split in splits.items():
        if name not in parts:
            raise ValueError(f"splits names '{name}', and {root} has the splits {known}.")
        if split not in ORDER:
            raise ValueError(f"splits.{name}={split}; allowed: {', '.join(ORDER)}.")
    return dict(splits)


def _values(part: Any, column: str) -> list[Any]:
    """Values of a column; names of classes in place of their numbers, None for unknown ones."""
    feature, values = part.features[column], part[column]
    if hasattr(feature, "int2str"):
        return [None if v is None or v < 0 else feature.int2str(v) for v in values]
    return list(values)


def _written(part: Any, column: str, folder: Path, name: str) -> list[Path]:
    """Files of a split's pictures, which are written if they are missing.

    Raises:
        UserError: the column holds no pictures, or a file cannot be written.
    """
    import datasets

    try:
        part = part.cast_column(column, datasets.Image())
    except Exception as error:  # of Arrow, of many kinds
        raise UserError(
            f"data.image_column={column} of {name} holds no pictures ({reason(error)})."
        ) from None
    part = part.cast_column(column, datasets.Image(decode=False))
    place = folder / digest([VERSION, part._fingerprint, column])[:16]
    names = place / "names.txt"
    try:
        place.mkdir(parents=True, exist_ok=True)
        with FileLock(place.with_name(f".{place.name}.lock")):
            if names.is_file():
                return [Path(line) for line in names.read_text("utf-8").splitlines()]
            bar = progress_bar(_pictures(part, column), name, len(part), unit="img", leave=False)
            files = [_write(place, number, picture, column) for number, picture in enumerate(bar)]
            write_text_whole(names, "".join(f"{file}\n" for file in files))
            return files
    except OSError as error:
        raise UserError(f"The pictures cannot be written to {place}: {reason(error)}.") from None


def _pictures(part: Any, column: str) -> Iterator[Mapping[str, Any]]:
    for row in part.select_columns([column]):
        yield row[column] or {}


def _write(place: Path, number: int, picture: Mapping[str, Any], column: str) -> Path:
    """The file of a picture: its own, or a new one with its bytes."""
    content, path = picture.get("bytes"), picture.get("path")
    if content is None and path:
        if not Path(path).is_file():
            raise UserError(
                f"data.image_column={column}: picture {number} is the file '{path}', which does "
                f"not exist."
            )
        return Path(path).absolute()
    file = place / f"{number:06d}{_suffix(content or b'')}"
    write_bytes_whole(file, content or b"")  # an empty file is reported as unreadable
    return file.absolute()


def _suffix(content: bytes) -> str:
    import io

    try:
        with Image.open(io.BytesIO(content)) as picture:
            return SUFFIXES.get(str(picture.format), ".img")
    except Exception:  # Pillow raises many kinds; the store names the picture
        return ".img"
