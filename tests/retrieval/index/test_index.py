"""The index: built from runs, opened, added to."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Refused
from PIL import Image
from runs_in_process import INDEXED, train

from product_cls.data.pictures import load_picture
from product_cls.data.viewpoint import seen_at
from product_cls.inference.predictions import Predictions
from product_cls.neighbours.votes import Vote
from product_cls.retrieval.gallery import Gallery, neighbour_scores
from product_cls.retrieval.index.__main__ import Arguments, build, main
from product_cls.retrieval.index.embed import embed_pictures, load_predictors
from product_cls.retrieval.index.sources import load_embedded_runs
from product_cls.retrieval.index.store import GalleryIndex
from product_cls.retrieval.index.tune_rejection import search_held_out, tune_rejection
from product_cls.retrieval.index.writing import lock_index
from product_cls.runs.folder import RunFolder

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory, tiny_root: Path) -> Path:
    """Two folds, in folders named as a sweep names them."""
    root = tmp_path_factory.mktemp("index") / "sweep"
    for fold in (0, 1):
        train(root / f"fold={fold},seed=0", tiny_root, *INDEXED, f"fold={fold}")
    return root


@pytest.fixture(scope="module")
def softmax(tmp_path_factory: pytest.TempPathFactory, tiny_root: Path) -> RunFolder:
    return train(tmp_path_factory.mktemp("softmax") / "run", tiny_root)


@pytest.fixture
def command(run_command: Callable[..., Command]) -> Command:
    return run_command(main)


@pytest.fixture(scope="module")
def joint(sweep: Path) -> Path:
    """An index of both folds; read-only."""
    build(Arguments(runs=str(sweep), out=str(sweep.parent / "joint")))
    return sweep.parent / "joint"


@pytest.fixture
def built(joint: Path, tmp_path: Path) -> Path:
    """A writable copy of the index."""
    return shutil.copytree(joint, tmp_path / "index" / "products")


def folders(sweep: Path) -> list[RunFolder]:
    return [RunFolder(sweep / f"fold={fold},seed=0") for fold in (0, 1)]


def galleries(sweep: Path) -> list[Gallery]:
    return [Gallery.load(run.predictions_file("gallery")) for run in folders(sweep)]


def joined(parts: list[np.ndarray], weights: list[float]) -> np.ndarray:
    """The definition: normalise, weight, concatenate, normalise."""
    whole = np.hstack(
        [w * p / np.linalg.norm(p, axis=1)[:, None] for p, w in zip(parts, weights, strict=True)]
    )
    return whole / np.linalg.norm(whole, axis=1, keepdims=True)


def test_joined_index_agrees_with_numpy(sweep: Path, tmp_path: Path, command: Command) -> None:
    out = tmp_path / "products"
    status, output, _ = command(f"runs={sweep}", f"out={out}", "weights=[1,2]")
    assert status == 0 and "40 pictures of 4 products, 32 numbers each, kind=exact" in output
    index = GalleryIndex.open(out)
    first, second = galleries(sweep)
    assert index.id.tolist() == first.id.tolist() != second.id.tolist()
    order = [second.id.tolist().index(name) for name in first.id]
    expected = joined([first.embedding, second.embedding[order]], [1, 2])
    assert index.embedding == pytest.approx(expected, abs=1e-6)
    assert [source.weight for source in index.sources] == [1, 2]
    assert index.sources[0].tta == ["identity", "hflip"]
    tests = [Predictions.load(run.predictions_file("test")) for run in folders(sweep)]
    queries = joined([part.embedding for part in tests], [1, 2]).astype(np.float32)
    found = index.search(queries, 5)
    cosine = queries @ expected.T
    assert found.similarity == pytest.approx(-np.sort(-cosine, axis=1)[:, :5], abs=1e-5)
    assert np.take_along_axis(cosine, found.position, axis=1) == pytest.approx(
        found.similarity, abs=1e-5
    )


def test_opened_index_is_memory_mapped(joint: Path) -> None:
    index = GalleryIndex.open(joint)
    assert isinstance(index.embedding, np.memmap) and not index.embedding.flags.writeable
    assert index.embedding.dtype == np.float32
    pictures = pd.read_csv(joint / "pictures.csv", dtype=str)
    assert pictures.columns.tolist() == ["id", "path", "label"]
    assert pictures["label"].tolist() == [index.classes[k] for k in index.target]
    assert all(name.split("/")[1] == label for name, label in pictures[["id", "label"]].to_numpy())
    # Only the lock file remains beside the folder.
    assert {path.name for path in joint.parent.iterdir()} == {"sweep", "joint", ".joint.lock"}


def test_embeddings_equal_those_of_the_runs(joint: Path) -> None:
    index = GalleryIndex.open(joint)
    rows = np.array([3, 17, 30])
    embedded = embed_pictures(
        index,
        load_predictors(index),
        [Path(path) for path in index.path[rows]],
        batch_size=2,
        device=torch.device("cpu"),
    )
    assert embedded.row.tolist() == [0, 1, 2]
    assert embedded.embedding == pytest.approx(index.embedding[rows], abs=1e-4)
    assert embedded.class_scores.sum(axis=1) == pytest.approx(np.ones(3), abs=1e-5)


def test_without_tta_and_without_a_run(sweep: Path, tmp_path: Path, command: Command) -> None:
    out = tmp_path / "plain"
    assert command(f"runs={sweep}", f"out={out}", "tta=false", "weights=[0,1]")[0] == 0
    index = GalleryIndex.open(out)
    assert [source.tta for source in index.sources] == [["identity"]]
    assert index.embedding == pytest.approx(galleries(sweep)[1].embedding_no_tta, abs=1e-6)
    runs = ",".join(f"'{run.path}'" for run in reversed(folders(sweep)))
    assert command(f"runs=[{runs}]", f"out={out}")[0] == 0  # an index is replaced
    assert [Path(s.name).name for s in GalleryIndex.open(out).sources] == [
        "fold=1,seed=0",
        "fold=0,seed=0",
    ]


@pytest.mark.parametrize("vote", [Vote(), Vote("nearest", 1), Vote("winners", 3)])
def test_threshold_is_tuned_on_held_out_pictures(
    sweep: Path, tmp_path: Path, command: Command, vote: Vote
) -> None:
    out = tmp_path / "index"
    words = () if vote == Vote() else (f"vote={vote.kind}", f"k={vote.k}")  # as the runs say
    status, output, _ = command(f"runs={sweep}", f"out={out}", *words)
    assert status == 0 and f"with {vote} on held-out pictures" in output
    known, right, unknown = [], [], []
    for run, gallery in zip(folders(sweep), galleries(sweep), strict=True):
        val = Predictions.load(run.predictions_file("val"))
        others = gallery.without(val.id)
        assert len(val.id) == 20 and len(others.id) == 20
        cosine = val.embedding @ others.embedding.T
        own = others.target == val.target[:, None]
        known.append(cosine.max(axis=1))
        scores = neighbour_scores(
            val.embedding, others.embedding, others.target, 4, vote, class_scores=val.class_scores
        )
        right.append(scores.argmax(axis=1) == val.target)
        unknown.append(np.where(own, -2, cosine).max(axis=1))
    similar, hits, strange = map(np.concatenate, (known, right, unknown))
    index = GalleryIndex.open(out)
    rejection = index.rejection
    assert rejection is not None and index.vote == vote
    answered = (similar >= rejection.threshold - 1e-6, strange >= rejection.threshold - 1e-6)
    right_answers = (hits & answered[0]).sum()
    total = answered[0].sum() + answered[1].sum()
    assert rejection.recall == pytest.approx(right_answers / 40)
    assert rejection.precision == pytest.approx(right_answers / total)
    curve = pd.read_csv(out / "rejection.csv")
    assert curve.columns.tolist() == ["threshold", "precision", "recall"]
    f1 = 2 * curve["precision"] * curve["recall"] / (curve["precision"] + curve["recall"])
    selected = (curve["threshold"] - rejection.threshold).abs().argmin()
    assert f1[selected] == pytest.approx(f1.max(), abs=1e-5)
    assert curve["precision"][selected] == pytest.approx(rejection.precision, abs=1e-6)
    with Image.open(out / "rejection.png") as plot:
        assert plot.width > 800


def test_runs_of_one_fold_are_joined_before_they_are_pooled(sweep: Path) -> None:
    runs = load_embedded_runs([sweep], tta=True)[0]
    alone = tune_rejection(search_held_out(runs, [Vote()])[0])
    # The same networks with reversed embeddings: cosines are the same, joined or not.
    twins = []
    for run in runs:
        assert run.val is not None and run.val.embedding is not None
        gallery = replace(run.gallery, embedding=run.gallery.embedding[:, ::-1])
        val = replace(run.val, embedding=run.val.embedding[:, ::-1])
        twins.append(replace(run, gallery=gallery, val=val))
    both = tune_rejection(search_held_out([*runs, *twins], [Vote()])[0])
    assert len(both.searched.known_similarity) == len(alone.searched.known_similarity) == 40
    assert both.threshold.thresholds == pytest.approx(alone.threshold.thresholds, abs=1e-5)
    assert both.rejection.recall == pytest.approx(alone.rejection.recall)


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_faiss_kinds_agree(
    sweep: Path, joint: Path, tmp_path: Path, command: Command, kind: str
) -> None:
    pytest.importorskip("faiss")
    out = tmp_path / kind
    assert command(f"runs={sweep}", f"out={out}", f"kind={kind}")[0] == 0
    queries = np.array(GalleryIndex.open(joint).embedding[::4])
    exact, found = (GalleryIndex.open(path).search(queries, 3) for path in (joint, out))
    assert found.position.tolist() == exact.position.tolist()
    status, output, _ = command(f"index={out}", f"add={new_products(tmp_path)}")
    assert status == 0 and "45 pictures of 5 products" in output
    grown = GalleryIndex.open(out)
    assert grown.search(np.array(grown.embedding[40:]), 1).position[:, 0].tolist() == [
        40, 41, 42, 43, 44,
    ]  # fmt: skip


def new_products(folder: Path) -> Path:
    """Five pictures of a product unlike all others: black and white squares."""
    new = folder / "new"
    (new / "chess").mkdir(parents=True)
    rng = np.random.default_rng(5)
    for n in range(5):
        y, x = np.mgrid[:32, :32]
        board = 255.0 * ((x // 8 + y // 8) % 2)[..., None] + rng.normal(0, 5, (32, 32, 3))
        pixels = board.clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(new / "chess" / f"{n}.jpg", quality=95)
    return new


def test_products_are_added(built: Path, tiny_root: Path, tmp_path: Path, command: Command) -> None:
    before = GalleryIndex.open(built)
    old = np.array(before.embedding)
    new = new_products(tmp_path)
    (new / "10").mkdir()
    shutil.copy(tiny_root / "test" / "3.jpg", new / "10")
    (new / "10" / "cut.jpg").write_bytes((tiny_root / "test" / "3.jpg").read_bytes()[:300])
    status, output, _ = command(f"index={built}", f"add={new}")
    assert status == 0
    assert "new product chess: 5 added" in output and "known product 10: 1 added" in output
    assert "LEFT OUT, cannot be decoded" in output and "cut.jpg" in output
    assert "6 pictures added: 46 pictures of 5 products" in output
    index = GalleryIndex.open(built)
    assert index.classes == [*before.classes, "chess"]
    assert (index.embedding[:40] == old).all()
    assert index.id[-5:].tolist() == [f"new/chess/{n}.jpg" for n in range(5)]
    assert [index.classes[k] for k in index.target[40:]] == ["10"] + 5 * ["chess"]
    assert index.rejection == before.rejection and (built / "rejection.png").is_file()
    # An index that is already open does not change.
    assert (before.embedding == old).all()
    # A second time, only new pictures are added.
    shutil.copy(tiny_root / "test" / "4.jpg", new / "chess" / "9.jpg")
    (new / "10" / "cut.jpg").unlink()
    status, output, _ = command(f"index={built}", f"add={new}")
    assert status == 0 and "SKIPPED: 6 pictures" in output and "1 pictures added: 47" in output
    status, _, errors = command(f"index={built}", f"add={new}")
    assert status == 2 and "All 7 pictures in" in errors and "in the index already" in errors


def test_pictures_are_there_once_more_at_other_pitches(
    sweep: Path, tmp_path: Path, command: Command
) -> None:
    out = tmp_path / "views"
    words = (f"runs={sweep}", f"out={out}", "vote=nearest")
    status, output, _ = command(*words, "gallery_views=[20,-30]")
    assert status == 0 and "120 pictures of 4 products" in output
    index = GalleryIndex.open(out)
    assert index.added == 0 and len(set(index.id)) == 120
    assert index.id[40:42].tolist() == [f"{name}#pitch20" for name in index.id[:2]]
    assert index.id[80] == f"{index.id[0]}#pitch-30" and index.path[80] == index.path[0]
    tilted = Image.fromarray(seen_at(load_picture(Path(index.path[1])), 20))
    tilted.save(tmp_path / "tilted.png")
    predictors = load_predictors(index)
    embedded = embed_pictures(
        index, predictors, [tmp_path / "tilted.png"], batch_size=1, device=torch.device("cpu")
    )
    np.testing.assert_allclose(embedded.embedding[0], index.embedding[41], atol=1e-5)
    # Products that join it have the same views, others if they are named, and keep them.
    new = new_products(tmp_path)
    status, output, _ = command(f"index={out}", f"add={new}")
    assert status == 0 and "5 pictures and 10 views of them added: 135 pictures" in output
    other = shutil.copytree(new, tmp_path / "other")
    (other / "chess").rename(other / "go")
    status, output, _ = command(f"index={out}", f"add={other}", "gallery_views=[]")
    assert status == 0 and "5 pictures added: 140 pictures of 6 products" in output
    before = GalleryIndex.open(out)
    status, output, _ = command(*words)
    assert status == 0 and "KEPT: 20 pictures of 2 products" in output
    after = GalleryIndex.open(out)
    assert after.id[40:].tolist() == before.id[120:].tolist()
    np.testing.assert_allclose(after.embedding[40:], before.embedding[120:], atol=1e-5)


@pytest.mark.parametrize(
    ("views", "said"),
    [
        ("[0]", "gallery_views=[0]; allowed: degrees from -75 to 75, without 0"),
        ("[20,80]", "gallery_views=[80]; allowed"),
        ("[20,20]", "names an angle twice"),
    ],
)
def test_impossible_pitches_are_refused(views: str, said: str, command: Command) -> None:
    status, _, errors = command("runs=nowhere", "out=somewhere", f"gallery_views={views}")
    assert status == 2 and said in errors


def test_products_that_others_can_outvote_are_noted(
    built: Path, tiny_root: Path, tmp_path: Path, command: Command
) -> None:
    new = new_products(tmp_path)
    for product, count in (("few", 2), ("half", 3), ("10", 1)):
        (new / product).mkdir()
        for n in range(count):
            shutil.copy(tiny_root / "test" / f"{n}.jpg", new / product)
    status, output, _ = command(f"index={built}", f"add={new}")
    assert status == 0 and "NOTE: fewer than 3 pictures" in output
    assert "with vote=weighted k=5" in output and "however near they are: few; add" in output
    shutil.copy(tiny_root / "test" / "9.jpg", new / "few")
    status, output, _ = command(f"index={built}", f"add={new}")
    assert status == 0 and "1 pictures added" in output and "NOTE" not in output


def test_products_added_earlier_survive_a_rebuilding(
    sweep: Path, built: Path, tmp_path: Path, command: Command
) -> None:
    new = new_products(tmp_path)
    assert command(f"index={built}", f"add={new}")[0] == 0
    before = GalleryIndex.open(built)
    assert before.added == 5
    status, output, errors = command(f"runs={sweep}", f"out={built}", "weights=[1,2]")
    assert status == 0, errors
    assert "KEPT: 5 pictures of 1 products that were added to" in output
    index = GalleryIndex.open(built)
    assert index.added == 5 and index.id.tolist() == before.id.tolist()
    assert index.classes == before.classes and index.target.tolist() == before.target.tolist()
    (new / "chess" / "0.jpg").unlink()
    status, output, _ = command(f"runs={sweep}", f"out={built}")
    assert status == 0 and "LEFT OUT" in output and "chess/0.jpg" in output
    assert GalleryIndex.open(built).added == 4
    status, output, _ = command(f"runs={sweep}", f"out={built}", "keep_added=false")
    assert status == 0 and "KEPT" not in output and GalleryIndex.open(built).added == 0
    (built / "pictures.csv").write_text("id,path,label\n")
    status, output, _ = command(f"runs={sweep}", f"out={built}")
    assert status == 0 and "damaged index" in output and "have to be added again" in output


def test_every_vote_has_its_threshold(joint: Path, sweep: Path) -> None:
    index = GalleryIndex.open(joint)
    runs = load_embedded_runs([sweep], tta=True)[0]
    votes = [Vote("nearest", 5), Vote("weighted", 5), Vote("winners", 5)]
    assert index.vote == votes[1]
    for vote, searched in zip(votes, search_held_out(runs, votes), strict=True):
        assert index.rejection_for(vote) == tune_rejection(searched).rejection
    assert index.rejection_for(Vote("nearest", 2)) == index.rejection_for(Vote("nearest", 5))
    assert (
        index.rejection_for(Vote("weighted", 2)) is index.rejection_for(Vote("winners", 1)) is None
    )


def test_tables_for_spreadsheets(sweep: Path, tmp_path: Path, command: Command) -> None:
    out = tmp_path / "out"
    assert command(f"runs={sweep}", f"out={out}", "csv=excel")[0] == 0
    for name in ("pictures-excel.csv", "rejection.csv"):
        assert (out / name).read_bytes().startswith(b"\xef\xbb\xbf")
    assert "\t10\n" not in (out / "pictures-excel.csv").read_text()  # 10 stays as it is
    assert not (out / "pictures.csv").read_bytes().startswith(b"\xef")
    status, _, errors = command(f"runs={sweep}", f"out={out}", "csv=xls")
    assert status == 2 and "csv=xls; allowed: plain, excel" in errors


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("runs={sweep}",), "Pass runs=... and out=... to build an index"),
        (("runs={sweep}", "out={out}", "add={data}"), "add=... has no effect when an index is"),
        (("index={out}", "add={data}", "kind=flat"), "kind=... has no effect when products"),
        (
            ("runs={sweep}", "out={out}", "kind=tree"),
            "kind=tree; allowed: exact, flat, hnsw, ivfpq",
        ),
        (("runs={sweep}", "out={out}", "kind=ivfpq"), "kind=ivfpq needs at least 256"),
        (("runs={sweep}", "out={data}"), "exists and is not an index"),
        (("runs={sweep}", "out={out}", "weights=[1]"), "allowed: 2 numbers, one each for "),
        (("runs={sweep}", "out={data}/views.csv/x/y"), "views.csv: Not a directory"),
        (("runs={sweep}", "out=/proc/nope/x"), "/proc/nope cannot be written (/"),
        (("runs={sweep}", "out={out}", "device=meta"), "device=meta; allowed: auto, cpu"),
        (("runs={sweep}", "out={out}", "weights=[0,0]"), "allowed: 0 or more, not all of them 0"),
        (("runs={sweep}", "out={out}", "vote=best"), "vote=best; allowed: nearest, weighted"),
        (("runs={sweep}", "out={out}", "k=41"), "k=41; allowed: 1 to 40, the size of the gallery"),
        (("index={out}", "add={data}", "vote=nearest"), "vote=... has no effect when products"),
        (("runs={sweep}", "out={out}", "precision=2"), "precision=2.0; allowed: above 0"),
        (("runs=['{sweep}','{sweep}']", "out={out}"), "fold=0,seed=0 twice"),
        (("runs={softmax}", "out={out}"), "is of task=single_label, not retrieval"),
        (("runs={data}", "out={out}"), "No run in"),
        (("runs=nowhere", "out={out}"), "There is no folder nowhere"),
        (("index={data}", "add={data}"), "is not an index: it has no index.json"),
    ],
)
def test_wrong_input_is_one_sentence(
    sweep: Path,
    softmax: RunFolder,
    tiny_root: Path,
    tmp_path: Path,
    command: Command,
    words: tuple[str, ...],
    expected: str,
) -> None:
    places = {"sweep": sweep, "softmax": softmax.path, "data": tiny_root, "out": tmp_path / "out"}
    status, _, errors = command(*(word.format(**places) for word in words))
    assert status == 2 and expected in errors and errors.count("\n") == 1, errors
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_refused_before_any_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, refused: Refused
) -> None:
    monkeypatch.setattr(
        "product_cls.retrieval.index.sources.load_embedded_runs", lambda *_, **__: pytest.fail()
    )
    (tmp_path / "index.json").touch()
    out = tmp_path / "index.json" / "z"
    with refused("cannot be written", f"({out.parent}: Not a directory)", "choose another folder"):
        build(Arguments(runs="sweep", out=str(out)))
    with refused("cannot be locked"), lock_index(out):
        pytest.fail()
    assert [path.name for path in tmp_path.iterdir()] == ["index.json"]


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("absent", "There is no folder"),
        ("empty", "holds no pictures"),
        ("loose", "holds 1 loose pictures, the first is 3.jpg"),
    ],
)
def test_wrong_folders_to_add(
    joint: Path, tiny_root: Path, tmp_path: Path, command: Command, folder: str, expected: str
) -> None:
    for name in ("empty", "loose"):
        (tmp_path / name).mkdir()
    shutil.copy(tiny_root / "test" / "3.jpg", tmp_path / "loose")
    status, _, errors = command(f"index={joint}", f"add={tmp_path / folder}")
    assert status == 2 and expected in errors and errors.count("\n") == 1


def test_runs_that_do_not_fit(sweep: Path, tmp_path: Path, command: Command) -> None:
    copy = tmp_path / "sweep"
    shutil.copytree(sweep, copy, ignore=shutil.ignore_patterns("last.ckpt", "cache"))
    out = tmp_path / "out"
    words = (f"runs={copy}", f"out={out}")
    second = folders(copy)[1]
    file = second.predictions_file("gallery")
    gallery = Gallery.load(file)
    gallery.rows(np.arange(39)).save(file)
    status, _, errors = command(*words)
    assert (
        status == 2
        and "cannot be joined: their galleries hold different pictures (40 and 39" in errors
    )
    gallery.rows(np.arange(0)).save(file)
    status, _, errors = command(f"runs={second.path}", f"out={out}")
    assert status == 2 and "The gallery of run" in errors and "is empty" in errors
    file.unlink()
    status, output, _ = command(*words)
    assert status == 0 and "has no gallery" in output and "Indexed: 1 of 2 runs." in output
    second.update_status(state="failed", error="Out of memory.")
    status, output, _ = command(*words)
    assert status == 0 and "LEFT OUT" in output and "failed: Out of memory." in output
    assert len(GalleryIndex.open(out).sources) == 1


def test_without_held_out_pictures_there_is_no_threshold(
    sweep: Path, tmp_path: Path, command: Command
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(folders(sweep)[0].path, copy)
    RunFolder(copy).predictions_file("val").unlink()  # as with fold=all
    words = (f"runs={copy}", f"out={tmp_path / 'out'}")
    status, output, _ = command(*words)
    assert status == 0 and "No run held out pictures" in output
    assert GalleryIndex.open(tmp_path / "out").rejection is None
    assert not (tmp_path / "out" / "rejection.csv").exists()
    status, _, errors = command(*words, "precision=0.9")
    assert status == 2 and "precision=0.9 needs held-out pictures" in errors


def test_checkpoints_that_do_not_fit(joint: Path, refused: Refused) -> None:
    index = GalleryIndex.open(joint)
    first, second = index.sources
    # The other fold's checkpoint is one whose weights differ.
    swapped = replace(index, sources=[replace(first, checkpoint=second.checkpoint), second])
    with refused("was built with other weights than", "fold=1,seed=0", "build it again"):
        load_predictors(swapped)
    missing = replace(index, sources=[replace(first, checkpoint="/absent/best.ckpt"), second])
    with refused("embeds with the checkpoint /absent/best.ckpt, which is missing"):
        load_predictors(missing)
