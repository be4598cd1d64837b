"""Folds: which samples are held out, and that the file is used only for its own samples."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import StratifiedKFold

from product_cls.data.fold_names import fold_number
from product_cls.data.folds import (
    groups_in_several_folds,
    make_folds,
    split_rows,
    stratified_folds,
)
from product_cls.data.folds_file import automatic_file, load_or_make_folds
from product_cls.data.readers import read_competition


@pytest.fixture
def samples(tiny_root: Path) -> pd.DataFrame:
    return read_competition(tiny_root)


def table(labels: str, **columns: Any) -> pd.DataFrame:
    names = [f"{n}.jpg" for n in range(len(labels))]
    return pd.DataFrame({"id": names, "split": "train", "label": list(labels), **columns})


def test_stratified(samples: pd.DataFrame) -> None:
    folds = make_folds(samples, "stratified", n_splits=5, seed=0, label="label")
    assert len(folds) == 40  # the test part has no fold
    label = samples.set_index("id")["label"]
    for k in range(5):
        held_out = folds.index[folds == k]
        assert label[held_out].value_counts().to_dict() == {"0": 2, "1": 2, "2": 2, "10": 2}
    again = make_folds(samples, "stratified", n_splits=5, seed=0, label="label")
    other = make_folds(samples, "stratified", n_splits=5, seed=1, label="label")
    assert folds.equals(again) and not folds.equals(other)


def test_stratified_group_keeps_groups_together() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 6)
    samples = table("".join(rng.choice(list("ab"), 120)), group=groups)
    folds = make_folds(samples, "stratified_group", n_splits=4, seed=0, label="label")
    of_group = folds.groupby(samples.set_index("id")["group"]).nunique()
    assert of_group.max() == 1
    assert sorted(folds.unique()) == [0, 1, 2, 3]
    assert folds.value_counts().min() >= 20


def test_view_holds_out_one_view_per_fold(samples: pd.DataFrame) -> None:
    folds = make_folds(samples, "view", label="label")
    view = samples.set_index("id")["view"]
    for k, pitch in enumerate((0, 30)):
        assert set(view[folds.index[folds == k]]) == {pitch}
    assert sorted(folds.unique()) == [0, 1]


def test_own_holds_out_the_validation_part(refused: Any) -> None:
    samples = table("aabbaabb")
    with refused("strategy=own", "validation part"):
        make_folds(samples, "own", label="label")
    samples["split"] = ["train"] * 4 + ["val"] * 4
    folds = make_folds(samples, "own", label="label")
    train, val = split_rows(folds, 0)
    assert (
        val.tolist() == samples["id"].tolist()[4:] and train.tolist() == samples["id"].tolist()[:4]
    )


def test_all_holds_out_nothing(samples: pd.DataFrame) -> None:
    folds = make_folds(samples, "stratified", label="label")
    train, val = split_rows(folds, "all")
    assert len(train) == 40 and len(val) == 0
    for k in range(5):
        train, val = split_rows(folds, k)
        assert len(val) == 8 and not set(train) & set(val) and len({*train, *val}) == 40


@pytest.mark.parametrize("fold", [5, -1, "3", "none"])
def test_fold_out_of_range(samples: pd.DataFrame, refused: Any, fold: Any) -> None:
    folds = make_folds(samples, "stratified", label="label")
    with refused(f"fold={fold} does not exist", "0, 1, 2, 3, 4, all"):
        fold_number(folds, fold, None)


def test_samples_that_cannot_be_split(samples: pd.DataFrame, refused: Any) -> None:
    with refused("n_splits=5 exceeds the pictures of 2 classes", "'b' with 3"):
        make_folds(table("aaaaabbbcccc"), "stratified", n_splits=5, label="label")
    with refused("n_splits=1; allowed: 2 or more"):
        make_folds(samples, "stratified", n_splits=1, label="label")
    with refused("needs a group"):
        make_folds(samples, "stratified_group", label="label")
    with refused("n_splits=3 exceeds the 2 groups"):
        make_folds(table("ab" * 6, group=[0, 1] * 6), "stratified_group", n_splits=3, label="label")
    with refused("needs a known view"):
        make_folds(samples.drop(columns="view"), "view", label="label")
    with refused("at least 2 views"):
        make_folds(table("aabb", view=0), "view", label="label")
    with refused("strategy=random; allowed", "stratified, stratified_group, view, own"):
        make_folds(samples, "random", label="label")  # type: ignore[arg-type]


def test_groups_in_several_folds() -> None:
    samples = table("abababab", group=list("uuvvwwxx"))
    folds = pd.Series([0, 1, 0, 0, 1, 1, 0, 1], index=samples["id"])
    assert groups_in_several_folds(samples, folds) == 2
    assert groups_in_several_folds(samples.drop(columns="group"), folds) == 0


def test_group_that_holds_a_whole_class(refused: Any) -> None:
    """Holding it out would leave none of the class to learn from."""
    samples = table("aaaabbbb", group=[0, 0, 1, 1, 2, 2, 2, 2])
    with refused("'b'", "one group"):
        make_folds(samples, "stratified_group", n_splits=2, label="label")


def test_file_is_kept_byte_for_byte(samples: pd.DataFrame, tmp_path: Path) -> None:
    file = tmp_path / "cache" / "folds.csv"
    written_folds = load_or_make_folds(file, samples, "stratified", n_splits=4, seed=3)
    written, when = file.read_bytes(), file.stat().st_mtime_ns
    read = load_or_make_folds(file, samples, "stratified", n_splits=4, seed=3)
    pd.testing.assert_series_equal(written_folds, read)
    assert file.read_bytes() == written and file.stat().st_mtime_ns == when
    # The file counts, not what scikit-learn would return today.
    lines = written.decode().splitlines()
    name, _, fold = lines[2].rpartition(",")
    lines[2] = f"{name},{(int(fold) + 1) % 4}"
    file.write_text("\n".join(lines) + "\n")
    assert load_or_make_folds(file, samples, "stratified", n_splits=4, seed=3)[name] != int(fold)


def test_file_of_other_samples_or_settings_is_refused(
    samples: pd.DataFrame, tmp_path: Path, refused: Any
) -> None:
    file = tmp_path / "folds.csv"
    load_or_make_folds(file, samples, "stratified", n_splits=4, seed=3)
    before = file.read_bytes()
    for other in (samples[samples["label"] != "2"], samples.replace({"label": {"2": "3"}})):
        with refused(f"file={file}: ", "other samples", "name another"):
            load_or_make_folds(file, other, "stratified", n_splits=4, seed=3)
    for strategy, splits, seed in (("view", 4, 3), ("stratified", 5, 3), ("stratified", 4, 0)):
        with refused(str(file), "strategy=stratified n_splits=4 seed=3"):
            load_or_make_folds(file, samples, strategy, n_splits=splits, seed=seed)  # type: ignore[arg-type]
    assert file.read_bytes() == before


def test_test_pictures_do_not_change_the_folds(samples: pd.DataFrame, tmp_path: Path) -> None:
    file = tmp_path / "folds.csv"
    written_folds = load_or_make_folds(file, samples, "stratified")
    fewer = samples.drop(samples.index[samples["split"] == "test"][:5])
    pd.testing.assert_series_equal(load_or_make_folds(file, fewer, "stratified"), written_folds)


def test_users_own_file(samples: pd.DataFrame, tmp_path: Path, refused: Any) -> None:
    file = tmp_path / "own_folds.csv"
    ids = samples["id"][samples["split"] == "train"]
    own_folds = pd.DataFrame({"id": ids, "fold": np.arange(40) % 3}).sample(frac=1, random_state=0)
    own_folds.to_csv(file, index=False)
    folds = load_or_make_folds(file, samples, "stratified", n_splits=5)
    assert folds.index.tolist() == ids.tolist()
    assert folds.tolist() == (np.arange(40) % 3).tolist()
    # Reading needs no write permission.
    assert [path.name for path in tmp_path.iterdir()] == ["own_folds.csv"]
    own_folds.iloc[1:].to_csv(file, index=False)
    with refused(str(file), "other ids", "it lacks 1 of 40"):
        load_or_make_folds(file, samples, "stratified")
    pd.concat([own_folds, own_folds[:1]]).to_csv(file, index=False)
    with refused(str(file), "twice"):
        load_or_make_folds(file, samples, "stratified")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"id;fold\na;0\n",
        b"id,fold\na,x\n",
        b"id,fold\na,\n",
        b"id,fold\na,1.5\n",
        b"id,fold\na,1%s\n" % (b"0" * 30),
        b"id,fold\na,%s\n" % (b"9" * 5000),
        b"a" * 200_000,
        b"\xff\xd8\xff",
    ],
)
def test_file_that_is_not_a_folds_file(
    samples: pd.DataFrame, tmp_path: Path, refused: Any, content: bytes
) -> None:
    file = tmp_path / "folds.csv"
    file.write_bytes(content)
    with refused(str(file), "cannot be read", "'id,fold'"):
        load_or_make_folds(file, samples, "stratified")
    assert file.read_bytes() == content


def test_a_folds_file_that_a_spreadsheet_wrote(tmp_path: Path) -> None:
    samples = pd.DataFrame({"id": ["a", "b"], "split": "train", "label": "x"})
    file = tmp_path / "folds.csv"
    file.write_text("id, fold\r\nb, 1.0\r\na,-1.0\r\n")
    assert load_or_make_folds(file, samples, "stratified").tolist() == [-1, 1]


@pytest.mark.parametrize(
    "name", ["{n}", "0{n}", "Coke #{n}.jpg", "#{n}.jpg", 'a,"{n}".jpg', "1e{n}", "콜라 {n}.jpg"]
)
def test_any_id_survives_the_file(tmp_path: Path, name: str) -> None:
    samples = table("aabb" * 3)
    samples["id"] = [name.format(n=n) for n in range(11)] + ["NA"]
    written_folds = load_or_make_folds(tmp_path / "folds.csv", samples, "stratified", n_splits=3)
    read = load_or_make_folds(tmp_path / "folds.csv", samples, "stratified", n_splits=3)
    assert written_folds.index.tolist() == read.index.tolist() == samples["id"].tolist()
    assert written_folds.tolist() == read.tolist()


def test_file_that_cannot_be_written(samples: pd.DataFrame, tmp_path: Path, refused: Any) -> None:
    (tmp_path / "file").write_text("")
    with refused("file=", "cannot be written", "name another"):
        load_or_make_folds(tmp_path / "file" / "folds.csv", samples, "stratified")
    (tmp_path / "folds.csv").mkdir()
    with refused("file=", "cannot be written", "name another"):
        load_or_make_folds(tmp_path / "folds.csv", samples, "stratified")


def test_a_changed_validation_part_is_another_split(tmp_path: Path, refused: Any) -> None:
    """All columns that the strategy reads are part of the file's fingerprint."""
    file = tmp_path / "folds.csv"
    rows = [("a", "train", "x"), ("b", "val", "x"), ("c", "train", "y"), ("d", "val", "y")]
    samples = pd.DataFrame(rows, columns=["id", "split", "label"])
    load_or_make_folds(file, samples, "own", label="label")
    moved = samples.assign(split=["val", "train", "val", "train"])
    with refused("made for other samples"):
        load_or_make_folds(file, moved, "own", label="label")


def people(count: int, rng: np.random.Generator, missing: float = 0.0) -> pd.DataFrame:
    """Seven pictures per person with mask, gender and age; a share of each label is missing."""
    rows = []
    for person in range(count):
        gender, age = rng.choice(["male", "female"]), rng.choice(["<30", "30-59", ">=60"])
        for n, mask in enumerate(["mask"] * 5 + ["incorrect", "normal"]):
            rows.append((f"{person}/{n}", "train", str(person), mask, gender, age))
    table = pd.DataFrame(rows, columns=["id", "split", "group", "mask", "gender", "age"])
    for column in ("mask", "gender", "age"):
        table.loc[rng.random(len(table)) < missing, column] = None
    return table


HEADS = ("mask", "gender", "age")


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_several_labels_are_stratified_and_people_stay_in_one_fold(missing: float) -> None:
    samples = people(100, np.random.default_rng(0), missing)
    folds = make_folds(samples, "stratified_group", n_splits=5, seed=1, label=HEADS)
    assert folds.groupby(samples.set_index("id")["group"]).nunique().max() == 1
    for k in range(5):
        held_out = samples[(folds == k).to_numpy()]
        assert len(held_out) == pytest.approx(140, abs=14)
        for column in HEADS:
            share = held_out[column].value_counts(normalize=True)
            whole = samples[column].value_counts(normalize=True)
            assert (share - whole).abs().max() < 0.08


def test_rare_combinations_of_labels_are_allowed(tmp_path: Path, refused: Any) -> None:
    """But every class needs a picture to learn from and one to hold out."""
    samples = table("aaaaaabb", other=list("uuuuvvuv"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folds = make_folds(samples, "stratified", n_splits=3, seed=0, label=("label", "other"))
    assert folds.value_counts().max() <= 4
    with refused("The class 'w' (other) has a single picture"):
        make_folds(
            samples.assign(other=list("uuuuvvuw")), "stratified", n_splits=3, label=("other",)
        )
    with refused("'v' (other)", "one group"):
        grouped = samples.assign(group=list("abcdefgf"), other=list("uuuuuvuv"))
        make_folds(grouped, "stratified_group", n_splits=2, label=("label", "other"))
    with refused("n_splits=5 exceeds the pictures of 4 classes", "at most 4"):
        make_folds(samples, "stratified", n_splits=5, label=("label", "other"))
    # The label columns are part of the file's fingerprint.
    file = tmp_path / "folds.csv"
    load_or_make_folds(file, samples, "stratified", n_splits=3, label=("label", "other"))
    with refused("made for other samples"):
        load_or_make_folds(file, samples, "stratified", n_splits=3, label=("label",))


@pytest.mark.parametrize("seed", [0, 7])
def test_stratified_folds_equal_scikit_learns(seed: int) -> None:
    draw = np.random.default_rng(seed)
    labels = np.concatenate([draw.choice(list("zbxa"), 203), ["rare", "rare", "rare"]])
    labels = draw.permutation(labels)
    expected = np.empty(len(labels), dtype=np.int64)
    splitter = StratifiedKFold(4, shuffle=True, random_state=seed)
    with pytest.warns(UserWarning, match="least populated"):
        for k, (_, held_out) in enumerate(splitter.split(labels, labels)):
            expected[held_out] = k
    assert stratified_folds(labels, 4, seed).tolist() == expected.tolist()


def test_carriage_returns_in_ids_survive_the_file(tmp_path: Path) -> None:
    ids = [f"a\rb/{k}.jpg" for k in range(3)] + [f"a\nb/{k}.jpg" for k in range(3)]
    samples = pd.DataFrame({"id": ids, "label": ["a\rb"] * 3 + ["a\nb"] * 3, "split": "train"})
    made, read = (
        load_or_make_folds(tmp_path / "folds.csv", samples, "stratified", n_splits=3)
        for _ in range(2)
    )
    assert read.index.tolist() == ids and read.tolist() == made.tolist()


def test_automatic_files_are_named_by_contents(samples: pd.DataFrame, tmp_path: Path) -> None:
    prefix = tmp_path / "folds-label"
    file, earlier = automatic_file(prefix, samples, "stratified")
    assert file.name.startswith("folds-label-") and earlier is None
    load_or_make_folds(file, samples, "stratified", automatic=True)
    assert automatic_file(prefix, samples, "stratified") == (file, None)
    fewer = samples.drop(samples.index[0])
    other, earlier = automatic_file(prefix, fewer, "stratified")
    assert other != file and earlier == file
    # Another column is no change of the samples.
    assert automatic_file(tmp_path / "folds-brand", fewer, "stratified")[1] is None


def test_only_an_automatic_file_is_called_to_be_deleted(
    samples: pd.DataFrame, tmp_path: Path, refused: Any
) -> None:
    file = tmp_path / "folds.csv"
    for content in ("nonsense", "id,fold\nx,0\n", "# strategy=own samples=1\nid,fold\n"):
        file.write_text(content)
        with pytest.raises(ValueError, match=r"name another") as own:
            load_or_make_folds(file, samples, "stratified")
        assert "delete" not in str(own.value)
        with refused("delete it, and it is made anew"):
            load_or_make_folds(file, samples, "stratified", automatic=True)


def test_ids_of_another_unicode_form(tmp_path: Path) -> None:
    samples = table("aabb")
    samples["id"] = ["\uac00.jpg", "b.jpg", "c.jpg", "d\r.jpg"]
    (tmp_path / "own.csv").write_bytes(
        '\ufeffid,fold\r\n\u1100\u1161.jpg,0\r\nb.jpg,1\r\nc.jpg,-1\r\n"d\r.jpg",0\r\n'.encode()
    )
    folds = load_or_make_folds(tmp_path / "own.csv", samples, "stratified")
    assert folds.index.tolist() == samples["id"].tolist() and folds.tolist() == [0, 1, -1, 0]
