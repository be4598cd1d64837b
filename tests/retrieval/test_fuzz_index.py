"""Odd names and damaged files of an index: nothing but a ``UserError``, and no damage is believed.

``helpers/fuzzing.py`` sets how many inputs are tried.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import fuzz
from hypothesis import given
from hypothesis import strategies as st
from made_index import forge, made_index

from product_cls.core.errors import UserError
from product_cls.core.names import is_text, nfc
from product_cls.retrieval.index.meta import Rejection
from product_cls.retrieval.index.sheet import SheetCell, neighbour_sheet
from product_cls.retrieval.index.store import GalleryIndex
from product_cls.retrieval.index.writing import write_index

NAMES = st.text(st.characters(exclude_categories=()), max_size=12) | st.sampled_from(
    ["a\rb", "a\r\nb", "=1+1", '"', "a,b", "a\udcb0", "\u1100\u1161", "x" * 255, "\ufeff", "#"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=4,
)
Damage = Callable[[bytes], bytes]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "products"
    write_index(replace(made_index(6, 3), rejection=Rejection(0.5, 0.9, 0.8)), folder)
    return folder


@st.composite
def damages(draw: st.DrawFn) -> Damage:
    """A change of a file's bytes: flipped bits, a cut, an insertion, or other content."""
    kind = draw(st.sampled_from(["flip", "cut", "insert", "other"]))
    place, data = draw(st.floats(0, 1)), draw(st.binary(min_size=1, max_size=20))

    def damage(content: bytes) -> bytes:
        start = min(int(place * len(content)), len(content) - 1)
        if kind == "flip":
            flipped = content[start] ^ (data[0] or 1)
            return content[:start] + bytes([flipped]) + content[start + 1 :]
        return {"cut": content[:start], "insert": content[:start] + data + content[start:]}.get(
            kind, data
        )

    return damage


def opened(folder: Path) -> GalleryIndex | None:
    """The index, after a search; None if it is refused. Any other error fails the test."""
    try:
        index = GalleryIndex.open(folder)
    except UserError as error:
        assert "\n" not in str(error)
        return None
    found = index.search(np.array(index.embedding[:2]), 1)
    assert np.isfinite(found.similarity).all()
    return index


def equal(first: GalleryIndex, second: GalleryIndex) -> bool:
    names = ("id", "path", "target", "embedding")
    plain = ("classes", "kind", "vote", "rejection", "other_rejections", "added")
    # A checkpoint may be moved: its weights have a digest.
    networks = [[replace(source, checkpoint="") for source in i.sources] for i in (first, second)]
    return (
        all(np.array_equal(getattr(first, n), getattr(second, n)) for n in names)
        and all(getattr(first, n) == getattr(second, n) for n in plain)
        and networks[0] == networks[1]
    )


@fuzz(2)
@given(name=st.sampled_from(["index.json", "embeddings.npy", "pictures.csv"]), damage=damages())
def test_damaged_bytes_are_not_believed(built: Path, name: str, damage: Damage) -> None:
    original, content = GalleryIndex.open(built), (built / name).read_bytes()
    try:
        (built / name).write_bytes(damage(content))
        index = opened(built)
        assert index is None or equal(index, original)  # white space of JSON may change
    finally:
        (built / name).write_bytes(content)


@fuzz(2)
@given(name=st.sampled_from(["embeddings.npy", "pictures.csv"]), damage=damages())
def test_forged_files_are_refused_or_opened(built: Path, name: str, damage: Damage) -> None:
    saved = {file: (built / file).read_bytes() for file in ("index.json", name)}
    try:
        (built / name).write_bytes(damage(saved[name]))
        forge(built, json.loads(saved["index.json"]))
        opened(built)
    finally:
        for file, content in saved.items():
            (built / file).write_bytes(content)


@fuzz(2)
@given(data=st.data(), value=VALUES)
def test_forged_settings_are_refused_or_opened(
    built: Path, data: st.DataObject, value: Any
) -> None:
    content = (built / "index.json").read_bytes()
    meta = json.loads(content)
    place: Any = meta
    while True:  # a random place in the settings
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = value
    try:
        forge(built, meta)
        opened(built)
    finally:
        (built / "index.json").write_bytes(content)


@fuzz(2)
@given(classes=st.lists(NAMES, min_size=1, max_size=3), ids=st.lists(NAMES, min_size=3, max_size=3))
def test_odd_names_are_written_as_they_are_or_refused(
    tmp_path: Path, classes: list[str], ids: list[str]
) -> None:
    index = replace(
        made_index(3, 2),
        classes=classes,
        target=np.arange(3) % len(classes),
        id=np.array(ids, np.str_),
        path=np.array([f"/{name}" for name in ids], np.str_),
    )
    try:
        write_index(index, tmp_path / "products")
    except UserError as error:
        assert "\n" not in str(error)
        twice = len({nfc(name) for name in classes}) < len(classes) or len(set(index.id)) < 3
        odd = [name for name in (*classes, *ids) if not is_text(name) or "\0" in name]
        assert twice or odd
        assert not (tmp_path / "products").exists()
        return
    assert equal(GalleryIndex.open(tmp_path / "products"), index)
    shutil.rmtree(tmp_path / "products")


@fuzz(0.3)
@given(lines=st.lists(NAMES | st.text(max_size=400), min_size=1, max_size=3))
def test_sheets_show_odd_names(tiny_root: Path, lines: list[str]) -> None:
    neighbour_sheet([[SheetCell(tiny_root / "test" / "3.jpg", lines, False)]])
