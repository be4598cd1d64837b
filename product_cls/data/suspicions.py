"""Finds what is probably a mistake in a data set: labels written in two ways, copied pictures."""

import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from product_cls.core.cpu_count import usable_cores
from product_cls.core.names import shown
from product_cls.data.faults import listed
from product_cls.data.pictures import place_in_shard
from product_cls.data.samples import Strata, combined_labels, natural_key, strata_columns

PROBE = 4096  # bytes of a file that are compared before all of it


def suspicions(samples: pd.DataFrame, label: Strata) -> list[str]:
    """Sentences about labels that differ by white space or case only, and about equal pictures that
    training and test share or that have different labels.

    Args:
        samples: the sample table.
        label: the columns of labels, as for ``take_subset``.
    """
    if isinstance(label, list):  # 0/1 columns
        spellings = similar_labels(label)
    else:
        spellings = [
            text
            for column in strata_columns(label)
            for text in similar_labels(samples[column].dropna().astype(str).unique())
        ]
    return spellings + copied_pictures(samples, label)


def similar_labels(labels: Iterable[str]) -> list[str]:
    """A sentence about labels that differ by white space or case only; none without any."""
    spellings: dict[str, set[str]] = defaultdict(set)
    for label in labels:
        # Cf: characters without a width, such as the zero width space and the byte order mark.
        visible = (c for c in label if not c.isspace() and unicodedata.category(c) != "Cf")
        spellings["".join(visible).casefold()].add(label)
    alike = [sorted(group, key=natural_key) for group in spellings.values() if len(group) > 1]
    if not alike:
        return []
    groups = [" = ".join(f"'{shown(name)}'" for name in group) for group in alike]
    return [
        f"{len(alike)} groups of labels differ by white space or case only and are different "
        f"classes: {listed(groups)}."
    ]


def copied_pictures(samples: pd.DataFrame, label: Strata) -> list[str]:
    """Sentences about files with equal bytes in training and test, or under different labels.

    Files are read only if another file of the same size is in another part or has another label,
    and read whole only if their ends are equal, too.

    Args:
        samples, label: as for ``suspicions``.
    """
    if isinstance(label, list):
        labels = samples[label].map(str).agg(" ".join, axis=1)
    else:
        labels = combined_labels(samples, label)
    known = samples[strata_columns(label)].notna().any(axis=1).to_numpy()
    kinds = [
        (str(split), name if is_known else None)
        for split, name, is_known in zip(samples["split"], labels, known, strict=True)
    ]
    paths = samples["path"].tolist()
    equal: list[list[int]] = [list(range(len(paths)))]
    with ThreadPoolExecutor(usable_cores()) as pool:
        for key in (_size, _end, _content):
            smaller = []
            for group in equal:
                by_key = defaultdict(list)
                for row, value in zip(
                    group, pool.map(key, [paths[row] for row in group]), strict=True
                ):
                    if value is not None:
                        by_key[value].append(row)
                smaller += [rows for rows in by_key.values() if len({kinds[r] for r in rows}) > 1]
            equal = smaller
    shared: list[str] = []
    mislabelled: list[str] = []
    ids = samples["id"].tolist()
    for rows in equal:
        learned = [row for row in rows if kinds[row][0] == "train"]
        others = [row for row in rows if kinds[row][0] != "train"]
        if learned and others:
            shared.append(f"{ids[learned[0]]} = {ids[others[0]]}")
        first: dict[str, int] = {}
        for row in rows:
            if (name := kinds[row][1]) is not None:
                first.setdefault(name, row)
        if len(first) > 1:
            mislabelled.append(" = ".join(f"{ids[row]} ('{n}')" for n, row in first.items()))
    sentences = []
    if shared:
        sentences.append(
            f"{len(shared)} pictures are identical in training and in validation or test, so their "
            f"results are too good: {listed(shared)}."
        )
    if mislabelled:
        sentences.append(
            f"{len(mislabelled)} identical pictures have different labels: {listed(mislabelled)}."
        )
    return sentences


def _size(path: str) -> int | None:
    """Bytes of a picture; None if it is empty, or no local file."""
    if (place := place_in_shard(path)) is not None:
        return place[2]
    try:
        return Path(path).stat().st_size or None
    except OSError:
        return None


def _end(path: str) -> bytes | None:
    return _read(path, PROBE)


def _content(path: str) -> bytes | None:
    content = _read(path, None)
    return None if content is None else hashlib.blake2b(content, digest_size=16).digest()


def _read(path: str, last: int | None) -> bytes | None:
    """The last bytes of a picture, or all of them; None if it cannot be read."""
    file, start, size = place_in_shard(path) or (path, 0, _size(path) or 0)
    skipped = 0 if last is None else max(size - last, 0)
    try:
        with Path(file).open("rb") as stream:
            stream.seek(start + skipped)
            return stream.read(size - skipped)
    except OSError:  # unreadable, or in a shard at an address
        return None
