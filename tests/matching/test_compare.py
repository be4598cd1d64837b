"""Local features on disk, and pictures compared with candidates."""

from pathlib import Path

import numpy as np
import pytest
from labels import photographed, write_picture

from product_cls.matching import compare
from product_cls.matching.compare import FeatureFolder, count_points, most_points


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    files = [tmp_path / "pictures" / f"{label}.png" for label in range(4)]
    for label, file in enumerate(files):
        write_picture(file, photographed(label, 0))
    return files


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the pictures whose features have been computed."""
    names: list[str] = []
    real = compare.features_of

    def counted(path: Path) -> compare.LocalFeatures:
        names.append(path.name)
        return real(path)

    monkeypatch.setattr(compare, "features_of", counted)
    return names


def test_features_are_computed_once_and_again_for_changed_pictures(
    pictures: list[Path], tmp_path: Path, computed: list[str]
) -> None:
    first = FeatureFolder(pictures, tmp_path / "features")
    assert sorted(computed) == ["0.png", "1.png", "2.png", "3.png"]
    computed.clear()
    again = FeatureFolder(pictures, tmp_path / "features")
    assert computed == []
    np.testing.assert_array_equal(first[2].points, again[2].points)
    write_picture(pictures[1], photographed(9, 0))
    grown = FeatureFolder([*pictures[1:], pictures[0]], tmp_path / "features")
    assert computed == ["1.png"]
    np.testing.assert_array_equal(grown[3].descriptors, first[0].descriptors)
    np.testing.assert_array_equal(grown[1].points, first[2].points)


@pytest.mark.parametrize("damage", ["table", "points", "no points"])
def test_damaged_features_are_replaced(
    damage: str, pictures: list[Path], tmp_path: Path, computed: list[str]
) -> None:
    whole = FeatureFolder(pictures, tmp_path / "features")[0]
    file = tmp_path / "features" / ("pictures.npz" if damage == "table" else "points.bin")
    if damage == "no points":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-100])
    computed.clear()
    again = FeatureFolder(pictures, tmp_path / "features")[0]
    assert len(computed) == 4
    np.testing.assert_array_equal(again.descriptors, whole.descriptors)


def test_kept_features_are_those_of_the_picture(pictures: list[Path], tmp_path: Path) -> None:
    direct, kept = compare.features_of(pictures[0]), FeatureFolder(pictures, tmp_path / "f")[0]
    np.testing.assert_array_equal(kept.descriptors, direct.descriptors)
    np.testing.assert_allclose(kept.points, direct.points, atol=1e-4)


def test_unreadable_pictures_have_no_points(pictures: list[Path], tmp_path: Path) -> None:
    pictures[0].write_bytes(b"no picture")
    features = FeatureFolder([*pictures, tmp_path / "missing.png"], tmp_path / "features")
    assert len(features[0].points) == len(features[4].points) == 0
    only = FeatureFolder(pictures[:1], tmp_path / "other")
    assert len(only[0].points) == 0
    counts = count_points([pictures[0], pictures[1]], features, np.array([[0, 1, 4], [0, 1, -1]]))
    assert counts[0].tolist() == [0, 0, 0] and counts[1, 1] > 50 and counts[1, 2] == 0


def test_the_most_points_of_each_class() -> None:
    points = np.array([[5, 9, 2, 7]])
    labels = np.array([[1, 1, 0, -1]])
    assert most_points(points, labels, np.array([[0, 1, 2]])).tolist() == [[2, 9, 0]]
