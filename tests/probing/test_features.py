"""The file of features: computed once, resumed, checked."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from product_cls.core.errors import UserError
from product_cls.probing import features as module
from product_cls.probing.features import FeatureFile, FeatureKey

KEY = FeatureKey("weights", "store", (32, 32), "identity")
ROWS, SHAPE = 10, (2, 3)


class Source:
    """Features that are known, and the rows that were asked for."""

    def __init__(self, fail_after: int | None = None) -> None:
        self.asked: list[int] = []
        self.fail_after = fail_after

    def __call__(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for number, row in enumerate(rows.tolist()):
            if number == self.fail_after:
                raise KeyboardInterrupt
            self.asked.append(row)
            yield np.array([row]), features_of([row])


def features_of(rows: list[int]) -> np.ndarray:
    return np.array([np.full(SHAPE, row) for row in rows], np.float32)


def test_features_are_computed_once(tmp_path: Path) -> None:
    first, second = Source(), Source()
    FeatureFile(tmp_path, KEY, ROWS).fill(SHAPE, first)
    file = FeatureFile(tmp_path, KEY, ROWS)
    file.fill(SHAPE, second)
    assert (first.asked, second.asked) == (list(range(ROWS)), [])
    np.testing.assert_array_equal(file.array, features_of(list(range(ROWS))))
    assert not file.done_file.exists()
    other = FeatureKey("weights", "store", (32, 32), "hflip")
    assert FeatureFile(tmp_path, other, ROWS).data_file != file.data_file


def test_an_interrupted_computation_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAVED_EVERY", 2)
    with pytest.raises(KeyboardInterrupt):
        FeatureFile(tmp_path, KEY, ROWS).fill(SHAPE, Source(fail_after=5))
    assert not FeatureFile(tmp_path, KEY, ROWS).open()
    source, file = Source(), FeatureFile(tmp_path, KEY, ROWS)
    file.fill(SHAPE, source)
    assert source.asked == list(range(4, ROWS))  # the fifth was not noted yet
    np.testing.assert_array_equal(file.array, features_of(list(range(ROWS))))


def test_a_damaged_file_is_computed_again(tmp_path: Path) -> None:
    file = FeatureFile(tmp_path, KEY, ROWS)
    file.fill(SHAPE, Source())
    content = bytearray(file.data_file.read_bytes())
    content[-1] ^= 1
    file.data_file.write_bytes(content)
    source, again = Source(), FeatureFile(tmp_path, KEY, ROWS)
    again.fill(SHAPE, source)
    assert source.asked == list(range(ROWS))
    np.testing.assert_array_equal(again.array, features_of(list(range(ROWS))))


def test_features_of_other_weights_are_refused(tmp_path: Path) -> None:
    file = FeatureFile(tmp_path, KEY, ROWS)
    file.fill(SHAPE, Source())
    note = json.loads(file.note_file.read_text())
    note["key"]["weights"] = "others"
    file.note_file.write_text(json.dumps(note))
    with pytest.raises(UserError, match=r"holds features of other weights than this run's; delete"):
        FeatureFile(tmp_path, KEY, ROWS).fill(SHAPE, Source())


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"set paths\.cache to another place"):
        FeatureFile(tmp_path / "file" / "below", KEY, ROWS).fill(SHAPE, Source())
