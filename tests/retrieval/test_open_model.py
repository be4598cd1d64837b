"""Models opened from runs, sweeps, checkpoints, indexes and ONNX files."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Refused
from PIL import Image, ImageOps
from runs_in_process import INDEXED, train

from product_cls.api import Model
from product_cls.data.pictures import load_picture
from product_cls.inference.align import align
from product_cls.inference.predictions import Predictions
from product_cls.inference.predictor import Predictor
from product_cls.retrieval.index.__main__ import Arguments, build
from product_cls.retrieval.index.embed import load_predictors
from product_cls.retrieval.index.model import IndexModel
from product_cls.retrieval.index.sources import load_embedded_runs
from product_cls.retrieval.index.store import GalleryIndex
from product_cls.retrieval.open_model import open_model
from product_cls.runs.folder import RunFolder

CLOSE = {"rtol": 0, "atol": 2e-6}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory, tiny_root: Path) -> Path:
    """Two softmax runs and one that failed."""
    root = tmp_path_factory.mktemp("models") / "sweep"
    for fold in (0, 1):
        train(root / f"fold={fold},seed=1", tiny_root, f"fold={fold}", "seed=1")
    RunFolder(root / "fold=2,seed=1").update_status(state="failed", error="Out of memory")
    return root


@pytest.fixture(scope="module")
def retrieval(tmp_path_factory: pytest.TempPathFactory, tiny_root: Path) -> Path:
    """Two retrieval runs."""
    root = tmp_path_factory.mktemp("models") / "retrieval"
    for fold in (0, 1):
        train(root / f"fold={fold}", tiny_root, f"fold={fold}", *INDEXED)
    return root


def stored_test_part(folder: Path, root: Path) -> tuple[Predictions, list[Path]]:
    """A run's test predictions, and the files of its pictures."""
    stored = Predictions.load(RunFolder(folder).predictions_file("test"))
    return stored, [root / name for name in stored.id]


def test_run_reproduces_its_predictions(sweep: Path, tiny_root: Path) -> None:
    folder = sweep / "fold=0,seed=1"
    stored, files = stored_test_part(folder, tiny_root)
    model = open_model(folder, device="cpu")
    assert model.classes == stored.classes.tolist() and model.task.name == "single_label"
    np.testing.assert_allclose(model.predict(files, batch_size=5), stored.scores, **CLOSE)
    plain = open_model(folder, device="cpu", tta=["identity"])
    np.testing.assert_allclose(plain.predict(files), stored.scores_no_tta, **CLOSE)
    checkpoint = open_model(folder / "checkpoints" / "best.ckpt", tta=["identity"])
    np.testing.assert_array_equal(checkpoint.predict(files), plain.predict(files))


def test_sweep_votes_and_names_the_runs_it_leaves_out(sweep: Path, tiny_root: Path) -> None:
    stored, files = stored_test_part(sweep / "fold=0,seed=1", tiny_root)
    other, _ = stored_test_part(sweep / "fold=1,seed=1", tiny_root)
    model = open_model(sweep, device="cpu")
    mean = (stored.scores + align([("a", stored), ("b", other)])[1].scores) / 2
    np.testing.assert_allclose(model.predict(files), mean, **CLOSE)
    note, count = model.notes
    assert count == "2 of 3 runs answer."
    assert "fold=2,seed=1" in note and "failed: Out of memory; it is left out." in note


def test_a_damaged_run_is_left_out_of_a_vote_by_name(
    sweep: Path, retrieval: Path, tiny_root: Path, tmp_path: Path, refused: Refused
) -> None:
    for source, damaged in ((sweep, "checkpoints/best.ckpt"), (retrieval, "predictions/val.npz")):
        copy = shutil.copytree(source, tmp_path / source.name)
        first, second = sorted(copy.glob("fold=[01]*"))
        content = bytearray((first / damaged).read_bytes())
        content[len(content) // 2] ^= 1
        (first / damaged).write_bytes(content)
        model = open_model(copy, device="cpu")
        assert any(str(first) in note and "cannot be used" in note for note in model.notes)
        assert model.notes[-1].startswith("1 of ")
        files = [tiny_root / "test" / "3.jpg"]
        alone = open_model(second, device="cpu")
        np.testing.assert_allclose(model.predict(files), alone.predict(files), **CLOSE)
        with refused("damaged"):  # the run that was asked for
            open_model(first)
    runs, left_out = load_embedded_runs([tmp_path / retrieval.name], tta=True)
    assert len(runs) == 1 and "cannot be used" in left_out[0]


def test_debug_run_is_opened_alone_with_a_note(sweep: Path, tmp_path: Path) -> None:
    for fold in (0, 1):
        shutil.copytree(sweep / f"fold={fold},seed=1", tmp_path / "sweep" / f"fold={fold}")
    debug = RunFolder(tmp_path / "sweep" / "fold=0")
    debug.update_status(limited=True)
    (alone,) = open_model(debug.path).notes
    beside, _ = open_model(tmp_path / "sweep").notes
    assert "a part of the pictures only" in alone and "left out" not in alone
    assert "a part of the pictures only" in beside and "left out" in beside


def test_embeddings_of_softmax_networks(sweep: Path, tiny_root: Path) -> None:
    _, files = stored_test_part(sweep / "fold=0,seed=1", tiny_root)
    single, both = (
        open_model(sweep / "fold=0,seed=1", device="cpu"),
        open_model(sweep, device="cpu"),
    )
    embedding, joined = single.embed(files[:3]), both.embed(files[:3])
    predictor = Predictor.load(sweep / "fold=0,seed=1" / "checkpoints" / "best.ckpt")
    assert embedding.shape == (3, predictor.network.head.in_features)
    assert embedding.dtype == joined.dtype == np.float32
    assert np.linalg.norm(embedding, axis=1) == pytest.approx(1, abs=1e-5)
    assert joined.shape == (3, 2 * embedding.shape[1])
    assert np.linalg.norm(joined, axis=1) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(joined[:, : embedding.shape[1]] * 2**0.5, embedding, atol=1e-5)


def test_retrieval_run_is_searched_in_its_gallery(retrieval: Path, tiny_root: Path) -> None:
    stored, files = stored_test_part(retrieval / "fold=0", tiny_root)
    model = open_model(retrieval / "fold=0", device="cpu")
    np.testing.assert_allclose(model.predict(files), stored.scores, rtol=0, atol=1e-4)
    np.testing.assert_allclose(model.embed(files), stored.embedding, rtol=0, atol=1e-5)
    plain = open_model(retrieval / "fold=0", device="cpu", tta=["identity"])
    np.testing.assert_allclose(plain.predict(files), stored.scores_no_tta, rtol=0, atol=1e-4)


def test_best_checkpoint_of_a_run_answers_by_its_gallery(
    retrieval: Path, tiny_root: Path, tmp_path: Path
) -> None:
    stored, files = stored_test_part(retrieval / "fold=0", tiny_root)
    best = retrieval / "fold=0" / "checkpoints" / "best.ckpt"
    model = open_model(best, device="cpu")
    np.testing.assert_allclose(model.predict(files), stored.scores, rtol=0, atol=1e-4)
    assert model.how == "the neighbours among 40 pictures (vote=weighted k=5)"
    assert not model.notes
    alone = shutil.copy(best, tmp_path / "best.ckpt")
    for file in (alone, best.with_name("last.ckpt")):
        head = open_model(file, device="cpu")
        assert "the softmax of its head" in head.how
        (note,) = head.notes
        assert "because it is not the best checkpoint in the folder of a run" in note
    head = open_model(alone, device="cpu")
    np.testing.assert_allclose(head.predict(files), stored.class_scores, rtol=0, atol=1e-4)


def test_damaged_checkpoints_are_refused(
    sweep: Path, tiny_root: Path, tmp_path: Path, refused: Refused
) -> None:
    whole = torch.load(sweep / "fold=0,seed=1" / "checkpoints" / "best.ckpt", weights_only=True)
    file = tmp_path / "best.ckpt"
    for image, words in (
        ({"size": [20000, 20000]}, "size=20000x20000; allowed: at most 4096"),
        ({"size": [32, 1.5]}, "image.size=[32, 1.5]; allowed"),
        ({"size": [32]}, "is not a product_cls checkpoint"),
        ({"fit": "stretch"}, "fit=stretch; allowed: squash"),
    ):
        parameters = whole["hyper_parameters"]
        changed = {**parameters, "image": parameters["image"] | image}
        torch.save({**whole, "hyper_parameters": changed}, file)
        with refused(words):
            open_model(file)
    # Refused before 10^9 numbers for each feature are allocated.
    spec = {"name": "retrieval", "label": "label", "classes": ["a", "b"], "embedding": 10**9}
    torch.save({**whole, "hyper_parameters": {**parameters, "task": spec}}, file)
    with refused("is to be of shape [1000000000, "):
        open_model(file)
    name = next(key for key in whole["state_dict"] if key.endswith("weight"))
    broken = whole["state_dict"][name].clone()
    broken.view(-1)[0] = torch.nan
    torch.save({**whole, "state_dict": {**whole["state_dict"], name: broken}}, file)
    with refused("holds weights that are NaN or infinite"):
        open_model(file)


def test_scores_that_are_not_numbers_are_refused(
    sweep: Path, tiny_root: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = open_model(sweep / "fold=0,seed=1", device="cpu")
    with torch.no_grad():
        next(model.predictor.network.parameters()).fill_(torch.inf)  # type: ignore[attr-defined]
    with refused("gives scores that are NaN or infinite for 1 of 1 pictures"):
        model.predict([tiny_root / "test" / "3.jpg"])
    with refused("NaN or infinite"):
        model.embed([tiny_root / "test" / "3.jpg"])


def test_index_answers_like_its_sweep(retrieval: Path, tiny_root: Path, tmp_path: Path) -> None:
    _, files = stored_test_part(retrieval / "fold=0", tiny_root)
    build(Arguments(runs=str(retrieval), out=str(tmp_path / "index")))
    index, runs = open_model(tmp_path / "index", device="cpu"), open_model(retrieval, device="cpu")
    np.testing.assert_array_equal(index.predict(files), runs.predict(files))
    assert index.embed(files[:2]).shape == (2, 32)


def test_picture_of_the_gallery_is_no_neighbour_of_its_own(retrieval: Path, tmp_path: Path) -> None:
    build(Arguments(runs=str(retrieval), out=str(tmp_path / "index"), k=1))
    index = GalleryIndex.open(tmp_path / "index")
    # It is the only picture of its product, so any correct neighbour would be the picture itself.
    alone = replace(index, target=(np.arange(len(index.id)) == 7).astype(np.int64))
    model = IndexModel(alone, load_predictors(index), torch.device("cpu"))
    file = Path(index.path[7])
    assert model.predict([load_picture(file), file]).argmax(axis=1).tolist() == [1, 0]


def test_both_kinds_of_runs_count_one_half(
    sweep: Path, retrieval: Path, tiny_root: Path, tmp_path: Path
) -> None:
    _, files = stored_test_part(retrieval / "fold=0", tiny_root)
    for folder in (sweep / "fold=0,seed=1", retrieval / "fold=0"):
        shutil.copytree(folder, tmp_path / "both" / folder.name)
    parts = [open_model(p, device="cpu") for p in (sweep / "fold=0,seed=1", retrieval / "fold=0")]
    model = open_model(tmp_path / "both", device="cpu")
    mean = np.mean([part.predict(files) for part in parts], axis=0)
    np.testing.assert_allclose(model.predict(files), mean, **CLOSE)
    sizes = [part.embed(files[:1]).shape[1] for part in parts]
    assert model.embed(files[:1]).shape == (1, sum(sizes))


def test_pictures_in_memory_go_through_the_same_decoding(
    sweep: Path, tiny_root: Path, tmp_path: Path
) -> None:
    model = open_model(sweep / "fold=0,seed=1", device="cpu")
    picture = Image.open(tiny_root / "test" / "3.jpg").convert("RGB").resize((40, 24))
    turned = tmp_path / "turned.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    picture.save(turned, exif=exif)
    upright = np.asarray(picture.transpose(Image.Transpose.ROTATE_270))
    with Image.open(turned) as opened:
        scores = model.predict([turned, opened, upright, Image.fromarray(upright)])
        assert opened.size == (40, 24)  # neither closed nor changed
    assert (scores == scores[0]).all()
    grey, clear = np.asarray(ImageOps.grayscale(picture)), np.full((24, 40, 4), 7, np.uint8)
    clear[..., 3] = 0
    as_rgb = [np.stack([grey] * 3, axis=-1), np.full((24, 40, 3), 255, np.uint8)]
    np.testing.assert_array_equal(model.predict([grey, clear]), model.predict(as_rgb))
    np.testing.assert_array_equal(model.predict(np.stack(as_rgb)), model.predict(as_rgb))


def test_any_series_of_pictures_is_accepted(sweep: Path, tiny_root: Path) -> None:
    model = open_model(sweep / "fold=0,seed=1", device="cpu")
    files = [tiny_root / "test" / f"{k}.jpg" for k in (3, 4)]
    expected = model.predict(files)
    for pictures in (pd.Series(files, index=[7, 9]), (file for file in files), tuple(files)):
        np.testing.assert_array_equal(model.predict(pictures), expected)
    frame = Model(model).predict((file for file in files), as_frame=True)
    assert frame["image"].tolist() == [str(file) for file in files]


def test_index_names_products_that_were_added(
    retrieval: Path, tiny_root: Path, tmp_path: Path
) -> None:
    build(Arguments(runs=str(retrieval / "fold=0"), out=str(tmp_path / "index"), k=1))
    index = GalleryIndex.open(tmp_path / "index")
    grown = replace(index, classes=[*index.classes, "chess"], target=np.full_like(index.target, 4))
    model = IndexModel(grown, load_predictors(index), torch.device("cpu"))
    assert Model(model).predict([tiny_root / "test" / "3.jpg"], top=1)[0][0][0] == "chess"


def test_onnx_file(retrieval: Path, sweep: Path, tiny_root: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the extra `export` is not installed")
    pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    from product_cls.inference.onnx_export import export_onnx

    _, files = stored_test_part(sweep / "fold=0,seed=1", tiny_root)
    for run in (sweep / "fold=0,seed=1", retrieval / "fold=0"):
        checkpoint = RunFolder(run).best_checkpoint
        export_onnx(Predictor.load(checkpoint), tmp_path / "model.onnx")
        exported = open_model(tmp_path / "model.onnx")
        by_head = "the softmax of the head in an ONNX file, not by neighbours"
        assert (exported.how == by_head) == (run.parent == retrieval)
        # A copy, because the checkpoint of a retrieval run would be answered by its gallery.
        alone = shutil.copy(checkpoint, tmp_path / "alone.ckpt")
        network = open_model(alone, device="cpu", tta=["identity"])
        np.testing.assert_allclose(exported.predict(files), network.predict(files), atol=1e-4)
        if run.name == "fold=0":
            np.testing.assert_allclose(exported.embed(files), network.embed(files), atol=1e-4)
        else:
            with pytest.raises(ValueError, match="gives no embeddings"):
                exported.embed(files)
    with pytest.raises(ValueError, match=r"tta=.* has no effect on an ONNX file"):
        open_model(tmp_path / "model.onnx", tta=["hflip"])
    content = (tmp_path / "model.onnx").read_bytes()
    for place in (len(content) // 2, len(content) - 5):  # in the weights, in the checksum
        damaged = bytearray(content)
        damaged[place] ^= 1
        (tmp_path / "damaged.onnx").write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged"):
            open_model(tmp_path / "damaged.onnx")


def test_wrong_input_is_one_sentence(sweep: Path, tmp_path: Path, refused: Refused) -> None:
    for source, parts in (
        ("absent", ("There is no folder or file absent",)),
        (tmp_path, ("No run in", "status.json")),
        (sweep / "fold=2,seed=1", ("fold=2,seed=1", "failed: Out of memory")),
        (__file__, ("is not a product_cls checkpoint",)),
    ):
        with refused(*parts):
            open_model(source)
    (tmp_path / "text.onnx").write_text("not a model")
    with refused("text.onnx"):
        open_model(tmp_path / "text.onnx")
    with refused("tta names 'flip'"):
        open_model(sweep / "fold=0,seed=1", tta=["flip"])
    with refused("device=tpu"):
        open_model(sweep / "fold=0,seed=1", device="tpu")
    model = open_model(sweep / "fold=0,seed=1", device="cpu")
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8 cut")
    pixels = np.zeros((8, 8, 3), np.uint8)
    for pictures, parts in (
        ([], ("list of pictures is empty",)),
        ("a.jpg", ("pass a list",)),
        (pixels, ("pass a list",)),
        ([pixels, tmp_path / "cut.jpg"], ("Picture 2", "cut.jpg) cannot be decoded")),
        (["absent.jpg"], ("Picture 1 (absent.jpg) cannot be decoded",)),
        ([pixels.astype(float)], ("Picture 1 is of type float64 array [8, 8, 3]", "uint8")),
        ([pixels[..., :2]], ("uint8 array [8, 8, 2]",)),
        ([3], ("Picture 1 is of type int",)),
        (3, ("The pictures are of type int; allowed: a list",)),
        ({"a.jpg": pixels}, ("The pictures are of type dict; allowed: a list",)),
        (pd.DataFrame({"path": ["a.jpg"]}), ("The pictures are of type DataFrame",)),
        ((picture for picture in ()), ("list of pictures is empty",)),
    ):
        with refused(*parts):
            model.predict(pictures)  # type: ignore[arg-type]
