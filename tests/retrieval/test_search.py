"""Naming products with an index, including products added later."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Refused
from made_index import made_index
from PIL import Image
from runs_in_process import INDEXED, train

from product_cls.inference.adaptation import adapt_to_files
from product_cls.inference.predictions import Predictions
from product_cls.inference.predictor import Predictor
from product_cls.inference.scoring import predict_embeddings
from product_cls.neighbours.votes import Vote
from product_cls.predict import main as predict_main
from product_cls.retrieval.answers import answer, is_right, named_table, read_threshold
from product_cls.retrieval.gallery import Gallery
from product_cls.retrieval.index.__main__ import Arguments, add_products, build
from product_cls.retrieval.index.queries import Query, list_queries
from product_cls.retrieval.index.store import GalleryIndex, Rejection
from product_cls.retrieval.search import main
from product_cls.runs.folder import RunFolder

Command = Callable[..., tuple[int, str, str]]
NEW = "10"  # the product that training does not see


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_root: Path) -> RunFolder:
    """A run on the tiny data without training pictures of one product."""
    root = shutil.copytree(tiny_root, tmp_path_factory.mktemp("search") / "data")
    shutil.rmtree(root / "train" / NEW)
    return train(root.parent / "run", root, *INDEXED, "trainer.max_epochs=6")


@pytest.fixture(scope="module")
def index(run: RunFolder) -> Path:
    """An index of the three trained products; read-only."""
    out = run.path.parent / "products"
    build(Arguments(runs=str(run.path), out=str(out)))
    return out


@pytest.fixture(scope="module")
def grown(index: Path, tiny_root: Path) -> Path:
    """The same index with 5 pictures of the fourth product."""
    new = index.parent / "new" / NEW
    new.mkdir(parents=True)
    for n in range(5):
        shutil.copy(tiny_root / "train" / NEW / f"{n}.jpg", new)
    out = shutil.copytree(index, index.parent / "grown")
    add_products(Arguments(index=str(out), add=str(new.parent)))
    return out


@pytest.fixture(scope="module")
def asked(run: RunFolder) -> Path:
    """All test pictures as a CSV with labels."""
    views = pd.read_csv(run.path.parent / "data" / "views.csv", dtype=str)
    file = run.path.parent / "data" / "asked.csv"
    test = views[views["split"] == "test"]
    test.rename(columns={"id": "path"})[["path", "label"]].to_csv(file, index=False)
    return file


@pytest.fixture
def command(run_command: Callable[..., Command]) -> Command:
    return run_command(main)


def read(file: Path) -> pd.DataFrame:
    return pd.read_csv(
        file, dtype={"label": str, "prediction": str, "label_1": str, "label_2": str}
    )


@pytest.mark.parametrize("vote", ["weighted", "nearest", "winners"])
def test_search_reproduces_the_runs_predictions(
    run: RunFolder, index: Path, asked: Path, tmp_path: Path, command: Command, vote: str
) -> None:
    words = (
        f"index={index}",
        f"images={asked}",
        f"out={tmp_path}",
        f"vote={vote}",
        "k=3",
        "shown=2",
    )
    status, output, _ = command(*words)
    assert status == 0 and f"32 pictures, vote={vote} k=3 ->" in output
    gallery = Gallery.load(run.predictions_file("gallery"))
    test = Predictions.load(run.predictions_file("test"))
    cosine = test.embedding @ gallery.embedding.T
    nearest = np.argsort(-cosine, axis=1, kind="stable")[:, :3]
    similarity = np.take_along_axis(cosine, nearest, axis=1)
    scores = Vote(vote, 3).scores(similarity, gallery.target[nearest], 3, test.class_scores)
    neighbours = read(tmp_path / "neighbours.csv").set_index("image").loc[test.id]
    assert neighbours["similarity"].to_numpy() == pytest.approx(similarity[:, 0], abs=2e-4)
    for k in range(3):
        column = neighbours[f"similarity_{k + 1}"].to_numpy()
        assert column == pytest.approx(similarity[:, k], abs=2e-4)
    predictions = read(tmp_path / "predictions.csv").set_index("image").loc[test.id]
    assert predictions["prediction"].tolist() == test.classes[scores.argmax(axis=1)].tolist()
    assert predictions["score_1"].to_numpy() == pytest.approx(scores.max(axis=1), abs=1e-3)
    with Image.open(tmp_path / "contact_sheet.png") as sheet:
        assert sheet.width < 4 * 220 + 60  # a query and three neighbours


def test_default_vote_is_the_indexs(
    run: RunFolder, asked: Path, tmp_path: Path, command: Command
) -> None:
    out = tmp_path / "products"
    build(Arguments(runs=str(run.path), out=str(out), vote="nearest", k=2))
    words = (f"index={out}", f"images={asked}", f"out={tmp_path}", "shown=2")
    status, output, _ = command(*words, "threshold=tuned")
    assert status == 0 and "32 pictures, vote=nearest k=2, unknown below similarity 0." in output
    status, output, _ = command(*words, "k=4")
    assert status == 0 and "32 pictures, vote=nearest k=4 ->" in output


def test_predict_answers_as_search_does(
    grown: Path, asked: Path, tmp_path: Path, run_command: Callable[..., Command]
) -> None:
    status, _, errors = run_command(main)(
        f"index={grown}", f"images={asked}", f"out={tmp_path / 'search'}"
    )
    assert status == 0, errors
    status, _, errors = run_command(predict_main)(
        f"model={grown}", f"images={asked}", f"out={tmp_path / 'predict'}"
    )
    assert status == 0, errors
    searched, predicted = (
        read(tmp_path / name / "predictions.csv").set_index("image")
        for name in ("search", "predict")
    )
    assert (searched["label_1"] == predicted["label_1"]).all() and NEW in set(searched["label_1"])


def test_a_product_added_later_is_found(
    index: Path, grown: Path, asked: Path, tmp_path: Path, command: Command
) -> None:
    of = {}
    for name, folder in (("before", index), ("after", grown)):
        out = tmp_path / name
        status, output, _ = command(
            f"index={folder}", f"images={asked}", f"out={out}", "k=3", "shown=2"
        )
        assert status == 0
        of[name] = read(out / "neighbours.csv")
        right = of[name]["prediction"] == of[name]["label"]
        assert f"accuracy {right.mean():.1%} of 32 pictures" in output
        assert ("8 of them show products that are not in the index" in output) == (name == "before")
    new = of["after"]["label"] == NEW
    assert new.sum() == 8 and NEW not in set(of["before"]["prediction"])
    assert (of["after"]["prediction"][new] == NEW).mean() == 1
    assert (of["after"]["prediction"] == of["after"]["label"])[~new].mean() >= 0.9
    assert of["after"]["id_1"][new].str.startswith("new/10/").all()


def test_note_about_products_that_no_head_knows(
    grown: Path, asked: Path, tmp_path: Path, command: Command
) -> None:
    status, output, _ = command(
        f"index={grown}", f"images={asked}", f"out={tmp_path}", "vote=winners", "shown=2"
    )
    assert status == 0 and "no head knows the 1 products" in output


def test_below_the_threshold_the_answer_is_unknown(
    index: Path, asked: Path, tmp_path: Path, command: Command
) -> None:
    words = (f"index={index}", f"images={asked}", f"out={tmp_path}", "shown=2")
    assert command(*words)[0] == 0
    free = read(tmp_path / "neighbours.csv")
    limit = float(np.sort(free["similarity"])[10]) - 5e-5
    status, output, _ = command(*words, f"threshold={limit}")
    table = read(tmp_path / "neighbours.csv")
    refused = table["similarity"] < limit
    assert status == 0 and refused.sum() == 10
    assert (table["prediction"][refused] == "unknown").all()
    assert table["prediction"][~refused].tolist() == free["prediction"][~refused].tolist()
    strange = table["label"] == NEW  # for which `unknown` is correct
    right = np.where(strange, refused, table["prediction"] == table["label"])
    assert f"accuracy {right.mean():.1%}" in output
    assert (
        f"8 of them show products that are not in the index, {(strange & refused).sum()}" in output
    )
    assert command(*words, "threshold=tuned")[0] == 0
    tuned = GalleryIndex.open(index).rejection
    assert tuned is not None
    table = read(tmp_path / "neighbours.csv")
    assert ((table["similarity"] < tuned.threshold) == (table["prediction"] == "unknown")).all()


def test_predictions_say_what_the_threshold_compares(
    index: Path, asked: Path, tmp_path: Path, command: Command
) -> None:
    words = (f"index={index}", f"images={asked}", f"out={tmp_path}", "shown=2")
    assert command(*words, "threshold=0.99")[0] == 0
    table = read(tmp_path / "predictions.csv")
    columns = ["image", "prediction", "known", "similarity", "label_1", "score_1"]
    assert table.columns.tolist()[:6] == columns
    assert set(table["known"]) == {True, False}
    assert (table["known"] == (table["prediction"] != "unknown")).all()
    assert (table["similarity"][~table["known"]] <= 0.99).all()
    assert (table["similarity"][table["known"]] >= 0.99).all()
    # The best product is still named, for those who want to know.
    assert set(table["label_1"]) <= {"0", "1", "2"}
    neighbours = read(tmp_path / "neighbours.csv")
    assert (neighbours["known"] == table["known"]).all()


def test_a_product_called_unknown_is_known() -> None:
    index = replace(made_index(6, 4), classes=["unknown", "b", "c"])
    scores = np.array([[0.9, 0.1, 0], [0.5, 0.4, 0.1], [0.1, 0.2, 0.7]])
    answers = answer(index, scores, np.array([0.8, 0.2, 0.9]), 0.5)
    assert answers.shown.tolist() == ["unknown", "unknown", "c"]
    assert answers.known.tolist() == [True, False, True]
    queries = [Query("q", Path("q"), label) for label in ("unknown", "unknown", "new")]
    right = [is_right(query, answers, row, index.classes) for row, query in enumerate(queries)]
    assert right == [True, False, False]
    assert is_right(Query("q", Path("q"), "new"), answers, 1, index.classes) is True
    table = named_table(queries, answers, np.zeros((3, 0)), np.zeros((3, 0)))
    assert table["known"].tolist() == ["true", "false", "true"]
    assert answers.by_doubt().tolist() == [1, 2, 0] and answers.doubtful.tolist() == [0, 1, 0]


def test_labels_in_another_unicode_form_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "\u1100\u1161").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "\u1100\u1161" / "1.png")
    (query,) = list_queries(tmp_path, ["\uac00", "b"])
    assert query.label == "\uac00"
    table = pd.DataFrame({"path": ["1.png"], "label": ["\u1100\u1161"]})
    table.to_csv(tmp_path / "asked.csv", index=False)
    assert list_queries(tmp_path / "asked.csv", ["\uac00"])[0].label == "\uac00"


def test_tables_for_spreadsheets(
    index: Path, tiny_root: Path, tmp_path: Path, command: Command
) -> None:
    (tmp_path / "images").mkdir()
    shutil.copy(tiny_root / "test" / "3.jpg", tmp_path / "images" / "=1+1\r.jpg")
    words = (f"index={index}", f"images={tmp_path / 'images'}", f"out={tmp_path / 'out'}")
    status, output, _ = command(*words)
    assert status == 0 and "NOTE: a spreadsheet would run 1 of these names" in output
    assert "'=1+1\\r.jpg'; csv=excel" in output and "\r" not in output
    assert (tmp_path / "out" / "predictions.csv").read_bytes().count(b'"=1+1\r.jpg"') == 1
    status, output, _ = command(*words, "csv=excel")
    assert status == 0 and "NOTE: a spreadsheet" not in output
    for name in ("predictions.csv", "neighbours.csv"):
        content = (tmp_path / "out" / name).read_bytes()
        assert content.startswith(b"\xef\xbb\xbf") and b'"\t=1+1\r.jpg"' in content


def test_a_full_disk_is_one_sentence(
    index: Path, tiny_root: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", full)
    words = (f"index={index}", f"images={tiny_root / 'test' / '3.jpg'}", f"out={tmp_path}")
    status, _, errors = command(*words)
    assert status == 2 and "cannot be written to" in errors and "No space left" in errors
    assert errors.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"predictions.csv", "neighbours.csv"}


def test_folders_named_after_products_are_labels(
    index: Path, tiny_root: Path, tmp_path: Path, command: Command
) -> None:
    images = tmp_path / "images"
    for folder in ("0", "2", "holiday"):
        (images / folder).mkdir(parents=True)
        shutil.copy(tiny_root / "train" / "0" / "3.jpg", images / folder)
    (images / "0" / "cut.jpg").write_bytes(b"no picture")
    queries = list_queries(images, ["0", "1", "2"])
    assert {query.name: query.label for query in queries} == {
        "0/3.jpg": "0",
        "0/cut.jpg": "0",
        "2/3.jpg": "2",
        "holiday/3.jpg": None,
    }
    status, output, _ = command(f"index={index}", f"images={images}", f"out={tmp_path / 'out'}")
    assert status == 0 and "LEFT OUT, cannot be decoded: 0/cut.jpg" in output
    assert "accuracy 50.0% of 2 pictures" in output
    # A copy of a gallery picture finds the picture.
    table = pd.read_csv(tmp_path / "out" / "neighbours.csv")
    assert table["id_1"].tolist() == 3 * ["train/0/3.jpg"]
    assert table["similarity"].tolist() == pytest.approx([1, 1, 1], abs=1e-4)
    status, output, _ = command(
        f"index={index}", f"images={images / '0' / '3.jpg'}", f"out={tmp_path / 'out'}"
    )
    assert status == 0 and "No accuracy" in output


@pytest.mark.parametrize(
    "refined", [None, "expand=1", "augment=1", "rerank=true", "prototypes=true"]
)
def test_pictures_of_the_index_are_not_their_own_neighbours(
    run: RunFolder, index: Path, asked: Path, tmp_path: Path, command: Command, refined: str | None
) -> None:
    data = run.path.parent / "data"
    test = pd.read_csv(asked, dtype=str)[:12]
    own = pd.DataFrame({"path": [f"train/{c}/{n}.jpg" for c in "012" for n in range(3)]})
    # Labelled as another product, so that an answer from themselves would be wrong.
    own["label"] = own["path"].str.split("/").str[1].map({"0": "1", "1": "2", "2": "0"})
    pd.concat([test, own]).to_csv(data / "both.csv", index=False)
    words = [f"index={index}", f"images={data / 'both.csv'}", f"out={tmp_path}", "k=3", "shown=2"]
    status, output, _ = command(*words, *([refined] if refined else []))
    assert status == 0 and "NOTE: 9 of the pictures are in the index themselves" in output
    table = read(tmp_path / "neighbours.csv")
    if refined != "prototypes=true":
        ids = table[["id_1", "id_2", "id_3"]]
        assert not ids.eq(table["image"], axis=0).any(axis=None)
    # Refinements let them influence their own answers, so the accuracy excludes them.
    counted = table if refined is None else table[:12]
    right = counted["prediction"] == counted["label"]
    assert f"accuracy {right.mean():.1%} of {len(counted)} pictures" in output
    status, _, errors = command(*words[:3], "k=30")
    assert (
        status == 2 and "k=30; allowed: 1 to 29, because pictures that are in the index" in errors
    )
    own.to_csv(data / "both.csv", index=False)
    status, output, _ = command(*words, "expand=1")
    assert status == 0 and "No accuracy" in output


def test_refinements(index: Path, asked: Path, tmp_path: Path, command: Command) -> None:
    words = (f"index={index}", f"images={asked}", f"out={tmp_path}", "k=3")
    status, output, _ = command(
        *words, "expand=2", "augment=2", "prototypes=true", "rerank=true", "shown=3", "top=2"
    )
    assert status == 0 and "accuracy" in output
    assert "label_3" not in read(tmp_path / "predictions.csv")
    neighbours = read(tmp_path / "neighbours.csv")
    labels = neighbours[["label_1", "label_2", "label_3"]].astype(str)
    assert (labels.nunique(axis=1) == 3).all()  # one prototype per product


def test_queries_are_adapted_to_their_own_statistics(
    run: RunFolder, index: Path, asked: Path, tmp_path: Path, command: Command
) -> None:
    """The similarities are those of a network that is adapted to the queries alone."""
    words = (f"index={index}", f"images={asked}", "vote=nearest", "shown=2")
    for name, extra in (("plain", ()), ("adapted", ("adapt=batchnorm",))):
        status, _, errors = command(*words, *extra, f"out={tmp_path / name}")
        assert status == 0, errors
    plain, adapted = (
        read(tmp_path / name / "neighbours.csv").set_index("image") for name in ("plain", "adapted")
    )
    assert (plain["similarity"] != adapted["similarity"]).all()
    paths = [query.path for query in list_queries(asked, ["0", "1", "2"])]
    device = torch.device("cpu")
    changed = adapt_to_files(Predictor.load(run.best_checkpoint), paths, 1.0, device)
    pictures = torch.stack([changed.picture(path) for path in paths])
    batches = [{"image": pictures, "index": np.arange(len(paths))}]
    views = run.config()["tta"]
    embedding = predict_embeddings(changed.network, changed.task, batches, views, device=device)
    gallery = Gallery.load(run.predictions_file("gallery"))
    ids = [query.name for query in list_queries(asked, ["0", "1", "2"])]
    nearest = (embedding @ gallery.embedding.T).max(axis=1)
    assert adapted.loc[ids, "similarity"].to_numpy() == pytest.approx(nearest, abs=2e-3)
    status, _, errors = command(*words[:1], f"images={paths[0]}", "adapt=batchnorm")
    assert status == 2 and "is one picture, and statistics need at least 2" in errors


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("index={data}", "images={data}"), "is not an index: it has no index.json"),
        (("index={index}", "images=nowhere"), "There is no folder or file nowhere"),
        (("index={index}", "images={data}/views.csv"), "needs a column 'path' or 'filename'"),
        (("index={index}", "images={data}", "k=31"), "k=31; allowed: 1 to 30, the size of the"),
        (("index={index}", "images={data}", "k=0"), "k=0; allowed: a whole number, 1 or more"),
        (("index={index}", "images={data}", "prototypes=true"), "k=5; allowed: 1 to 3"),
        (("index={index}", "images={data}", "vote=best"), "vote=best; allowed: nearest, weighted"),
        (("index={index}", "images={data}", "expand=31"), "expand=31; allowed: 1 to 30"),
        (("index={index}", "images={data}", "augment=30"), "augment=30; allowed: 1 to 29"),
        (("index={index}", "images={data}", "shown=0"), "shown=0; allowed: 1 or more"),
        (("index={index}", "images={data}", "threshold=low"), "threshold=low; allowed: a number"),
        (
            ("index={index}", "images={data}", "threshold=tuned", "vote=winners", "k=3"),
            "tuned with vote=weighted k=5 and does not hold with vote=winners k=3; search with "
            "vote=winners k=5",
        ),
        (
            ("index={index}", "images={data}", "threshold=tuned", "expand=1"),
            "threshold=tuned was tuned without expand",
        ),
        (("index={index}", "images={data}", "out={data}/views.csv"), "views.csv: Not a directory"),
        (("index={index}", "images={data}", "out=/proc/x"), "/proc/x cannot be written (/"),
        (("index={index}",), "Missing: images=..."),
    ],
)
def test_wrong_input_is_one_sentence(
    index: Path,
    tiny_root: Path,
    tmp_path: Path,
    command: Command,
    words: tuple[str, ...],
    expected: str,
) -> None:
    filled = [word.format(data=tiny_root, index=index) for word in words]
    status, _, errors = command(f"out={tmp_path / 'out'}", *filled)
    assert status == 2 and expected in errors and errors.count("\n") == 1, errors
    assert not (tmp_path / "out").exists()


def test_other_or_missing_weights(
    run: RunFolder, index: Path, asked: Path, tmp_path: Path, command: Command
) -> None:
    copy = shutil.copytree(index, tmp_path / "products")
    meta = json.loads((copy / "index.json").read_text())
    checkpoint = torch.load(run.best_checkpoint, weights_only=True)
    name = next(key for key in checkpoint["state_dict"] if key.endswith("neck.0.weight"))
    checkpoint["state_dict"][name][0, 0] += 1e-3
    torch.save(checkpoint, tmp_path / "best.ckpt")
    meta["sources"][0]["checkpoint"] = str(tmp_path / "best.ckpt")
    (copy / "index.json").write_text(json.dumps(meta))
    words = (f"index={copy}", f"images={asked}", f"out={tmp_path / 'out'}")
    status, _, errors = command(*words)
    assert status == 2 and "was built with other weights than" in errors
    (tmp_path / "best.ckpt").unlink()
    status, _, errors = command(*words)
    assert status == 2 and "best.ckpt, which is missing" in errors


def test_thresholds(refused: Refused) -> None:
    index, vote = made_index(6, 4), Vote()
    assert read_threshold(None, index, vote, ["expand"]) is None
    assert read_threshold("0.25", index, Vote("nearest"), ["expand"]) == 0.25
    for wrong in ("high", "nan", "inf", "1.5"):
        with refused(f"threshold={wrong}; allowed: a number, tuned, null"):
            read_threshold(wrong, index, vote, [])
    with refused("threshold=tuned", "no run held out pictures"):
        read_threshold("tuned", index, vote, [])
    index = replace(index, rejection=Rejection(0.7, 0.9, 0.8))
    assert read_threshold("tuned", index, vote, []) == 0.7
    other = replace(index, other_rejections={"nearest": Rejection(0.6, 0.9, 0.8)})
    for k in (5, 1):
        assert read_threshold("tuned", other, Vote("nearest", k), []) == 0.6
    with refused("tuned with vote=weighted k=5 and does not hold with vote=weighted k=3"):
        read_threshold("tuned", index, Vote(k=3), [])
    with refused("threshold=tuned was tuned without rerank"):
        read_threshold("tuned", index, vote, ["rerank"])
