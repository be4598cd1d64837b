"""The Python API: what notebooks and services call."""

import logging
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from runs_in_process import ROOT, TINY

import product_cls
from product_cls.core.errors import UserError
from product_cls.runs.folder import RunFolder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tiny_root: Path) -> Path:
    """A folder with two finished runs, as the API trains them there."""
    folder = tmp_path_factory.mktemp("api")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for fold in (0, 1):
            product_cls.train(product_cls.compose(*words(folder, tiny_root), f"fold={fold}"))
    return folder


def words(folder: Path, data: Path) -> list[str]:
    # The last three do not name the run's folder, see hydra.job.config in conf/config.yaml.
    return [*TINY, "name=shop", "logger=none", f"data.root={data}", f"paths.cache={folder}/cache"]


@pytest.fixture
def at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(home)
    return home


@pytest.fixture
def pictures(tiny_root: Path) -> list[Path]:
    return sorted((tiny_root / "test").glob("*.jpg"))[:3]


def folder_name(fold: int) -> str:
    words = sorted([*TINY, f"fold={fold}"])
    return f"multirun/shop/{','.join(words)}"


def test_import_is_light() -> None:
    code = "import sys, product_cls; dir(product_cls); print({'torch', 'pandas'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    "first",
    [
        "",
        "from product_cls.runs import folder;",
        "import product_cls.ensemble.members, product_cls.api;",
        "import product_cls.api, product_cls.ensemble.members;",
    ],
)
def test_packages_are_functions_in_any_order_of_imports(first: str) -> None:
    code = (
        f"{first}import product_cls; from product_cls import ensemble, runs\n"
        "for function in (product_cls.ensemble, ensemble):\n"
        "    try: function([])\n"
        "    except ValueError as error: print(error)\n"
        "try: runs('no_such_folder')\n"
        "except product_cls.UserError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    empty = "runs is empty; it needs the folder of a run or of a sweep."
    assert done.stdout.splitlines() == [empty, empty, "There is no folder no_such_folder."]


def test_a_package_that_is_a_function_is_still_a_command() -> None:
    command = [sys.executable, "-m", "product_cls.ensemble", "runs=no_such_folder"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.splitlines()[-1] == "error: There is no folder no_such_folder."


def test_the_former_name_of_tune_says_so() -> None:
    command = [sys.executable, "-m", "product_cls.search", "study=a/b"]
    done = subprocess.run(command, capture_output=True, text=True)
    note, error = done.stderr.splitlines()
    assert note.startswith("product_cls.search is now product_cls.tune: ")
    assert done.returncode == 2 and error.startswith("error: study=")


def test_a_run_lies_where_the_command_puts_it(at_home: Path) -> None:
    table = product_cls.runs("multirun")
    assert list(table["run"]) == [folder_name(0), folder_name(1)]
    assert list(table["state"]) == ["done", "done"] and list(table["fold"]) == [0, 1]
    assert "fold=1" in table["overrides"][1].split()
    assert table["test/accuracy"].between(0, 1).all()
    log = (at_home / folder_name(0) / "train.log").read_text()
    assert "[product_cls.training.run][INFO] - Batch: 8 pictures a step." in log


def test_a_finished_run_is_skipped_and_an_edited_config_has_its_own_folder(
    at_home: Path, tiny_root: Path
) -> None:
    config = product_cls.compose(*words(at_home, tiny_root), "fold=0")
    run = product_cls.train(config)
    assert run.path == Path(folder_name(0)) and run.state == "done"
    before = run.checkpoint.stat().st_mtime_ns
    assert product_cls.train(config).checkpoint.stat().st_mtime_ns == before
    assert run.metrics["fold"] == 0 and run.config.model.backbone
    config.trainer.limit_train_batches = 1
    edited = product_cls.train(config)
    assert edited.path.parent == run.path.parent and edited.path.name.startswith("config-")
    elsewhere = product_cls.train(config, folder=at_home / "elsewhere")
    assert elsewhere.metrics["steps"] == edited.metrics["steps"] == 1


def test_train_leaves_logging_and_hydra_alone(
    at_home: Path, tiny_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    # Other tests of this process may have left a config there.
    hydra_before = HydraConfig.instance().cfg
    names = ("product_cls", "pytorch_lightning", "httpx")
    before = [logging.getLogger(name).level for name in names]
    filters = list(warnings.filters)
    product_cls.train(product_cls.compose(*words(at_home, tiny_root), "fold=0"))
    assert [logging.getLogger(name).level for name in names] == before
    assert logging.getLogger("product_cls").handlers == [] and warnings.filters == filters
    assert not GlobalHydra.instance().is_initialized()
    assert HydraConfig.instance().cfg is hydra_before
    assert capsys.readouterr() == ("", "")


def test_models_name_pictures(at_home: Path, pictures: list[Path]) -> None:
    model = product_cls.load("multirun/shop", device="cpu")
    image = Image.open(pictures[1])
    mixed = [str(pictures[0]), image, np.asarray(Image.open(pictures[2]))]
    answers = model.predict(mixed, top=2)
    assert answers == model.predict(pictures, top=2)
    scores = model.scores(pictures)
    assert scores.dtype == np.float32 and scores.shape == (3, len(model.classes))
    assert scores.sum(axis=1) == pytest.approx(1)
    for row, labels in zip(scores, answers, strict=True):
        best = np.argsort(-row, kind="stable")[:2]
        assert labels == [(model.classes[k], pytest.approx(float(row[k]))) for k in best]
    table = model.predict(pictures, top=1, as_frame=True)
    assert list(table.columns) == ["image", "label_1", "score_1"]
    assert list(table["label_1"]) == [labels[0][0] for labels in answers]
    vectors = model.embed(pictures)
    assert vectors.dtype == np.float32 and len(vectors) == 3
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    single = product_cls.load(f"{folder_name(0)}/checkpoints/best.ckpt", tta=["identity"])
    assert single.classes == model.classes


def test_predictions_are_a_table(at_home: Path) -> None:
    table = product_cls.read_predictions(folder_name(0), "val")
    assert list(table.columns[:2]) == ["id", "target"]
    classes = ["0", "1", "2", "10"]
    assert list(table.columns[-4:]) == classes and set(table["target"]) <= set(classes)
    assert table[classes].dtypes.eq(np.float32).all()
    right = (table[classes].idxmax(axis=1) == table["target"]).mean()
    run = product_cls.Run(folder_name(0))
    assert run == product_cls.Run(Path(folder_name(0)))
    assert right == pytest.approx(run.metrics["val"]["accuracy"])
    plain = run.predictions("val", tta=False)
    assert (plain["id"] == table["id"]).all() and not plain[classes].equals(table[classes])


def test_ensemble_is_the_commands_table(at_home: Path) -> None:
    from product_cls.ensemble.__main__ import main

    folders = [folder_name(0), folder_name(1)]
    table = product_cls.ensemble(folders, device="cpu")
    assert table["run"].iloc[-1] == "ensemble of 2 runs (mean)"
    whole = product_cls.ensemble(["multirun/shop"], device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["ensemble", "runs=multirun/shop", "device=cpu"])
        main()
    product_cls.ensemble(folders, device="cpu", weights=[1, 3], out="weighted")
    assert (at_home / "weighted" / "submission.csv").is_file()
    written = pd.read_csv("multirun/shop/ensemble/table.csv").query("tta")
    assert written["run"].tolist() == whole["run"].tolist()


def test_mistakes_are_value_errors_of_one_sentence(
    at_home: Path, tiny_root: Path, pictures: list[Path], tmp_path: Path
) -> None:
    model = product_cls.load(folder_name(0), device="cpu")
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    failed = [*words(at_home, tiny_root), "name=failed", "fold=7"]
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "own.yaml").write_text(
        "# @package _global_\nhydra: {sweeper: {params: {seed: '0,1'}}}\n"
    )
    hollow = copy_run(tmp_path / "hollow", "predictions")
    bare = copy_run(tmp_path / "bare", "config.yaml")
    own_sweep = [f"--config-dir={tmp_path}", "experiment=own"]
    for sentence, call in (
        ("There is no folder or file no_such.", lambda: product_cls.load("no_such")),
        ("empty", lambda: model.predict([])),
        (f"Picture 2 ({broken}) cannot be decoded", lambda: model.predict([pictures[0], broken])),
        ("pass a list", lambda: model.predict(pictures[0])),
        ("top=0; allowed: 1 or more.", lambda: model.predict(pictures, top=0)),
        ("runs is empty; it needs", lambda: product_cls.ensemble([])),
        ("There is no folder nowhere.", lambda: product_cls.ensemble(["nowhere"])),
        ("There is no folder nowhere.", lambda: product_cls.read_predictions("nowhere")),
        ("split=tst; the run", lambda: product_cls.read_predictions(folder_name(0), "tst")),
        ("Did you mean 'optimizer.lr'?", lambda: product_cls.compose("optimizer.lrr=1")),
        ("sweep=ablation is a set of runs", lambda: product_cls.compose("sweep=ablation")),
        ("experiment=own is a set of runs (of seed)", lambda: product_cls.compose(*own_sweep)),
        ("['fold=0'] is not a word", lambda: product_cls.compose(["fold=0"])),  # type: ignore[arg-type]
        (f"{broken} cannot be created", lambda: product_cls.train({"name": "a"}, folder=broken)),
        ("The config has no name; product_cls.compose", lambda: product_cls.train({})),
        ("The config has no trainer; ", lambda: product_cls.train({"name": "part"})),
        (
            "hollow cannot be used: it has no predictions files",
            lambda: product_cls.ensemble([hollow]),
        ),
        (f"{bare}/config.yaml cannot be read", lambda: product_cls.ensemble([bare])),
        (f"{bare}/config.yaml cannot be read", lambda: product_cls.Run(bare).config),
        (f"{broken} cannot be written", lambda: product_cls.ensemble([folder_name(0)], out=broken)),
        ("Missing: data.file=...", lambda: product_cls.train(product_cls.compose("data=csv"))),
        ("fold=7 does not exist", lambda: product_cls.train(product_cls.compose(*failed))),
        ("failed: fold=7 does not exist", lambda: product_cls.load("multirun/failed")),
        (
            "failed: fold=7 does not exist",
            lambda: product_cls.read_predictions(product_cls.runs("multirun/failed")["run"][0]),
        ),
    ):
        with pytest.raises(UserError) as caught:
            call()  # type: ignore[no-untyped-call]
        assert isinstance(caught.value, ValueError)
        assert sentence in str(caught.value) and "\n" not in str(caught.value), caught.value


def copy_run(folder: Path, lacking: str) -> Path:
    """A finished run without one of its files or folders."""
    shutil.copytree(folder_name(0), folder)
    path = folder / lacking
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    return folder


def test_a_refused_run_leaves_the_overrides_of_the_finished_one(
    at_home: Path, tiny_root: Path
) -> None:
    folder = RunFolder(at_home / folder_name(0))
    before = folder.overrides()
    assert "fold=0" in before
    refused = product_cls.compose(*words(at_home, tiny_root), "fold=7")
    with pytest.raises(UserError, match="fold=7 does not exist"):
        product_cls.train(refused, folder=folder.path)
    with folder.locked(), pytest.raises(UserError, match="Another process is training"):
        product_cls.train(product_cls.compose(*words(at_home, tiny_root)), folder=folder.path)
    assert folder.overrides() == before and folder.state().kind == "done"


def test_views_keep_their_names_in_the_table_of_runs(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.update_status(state="done")
    run.metrics_file.write_text('{"test": {"by_view": {"7.5": {"accuracy": 0.5}}}}')
    assert product_cls.runs(tmp_path)["test/by_view/7.5/accuracy"].tolist() == [0.5]


def test_own_groups_and_classes(
    at_home: Path, tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "augment").mkdir()
    (tmp_path / "augment" / "mine.yaml").write_text("defaults: [none]\n")
    option = "augment=mine"
    with pytest.raises(UserError, match="augment=mine; allowed: autoaugment"):
        product_cls.compose(option)
    plain = product_cls.compose("augment=none").augment
    assert product_cls.compose(option, f"--config-dir={tmp_path}").augment == plain
    assert product_cls.compose("--config-dir", str(tmp_path), option).augment == plain
    monkeypatch.setenv("PRODUCT_CLS_CONF", str(tmp_path))
    assert product_cls.compose(option).augment == plain
    monkeypatch.setenv("PRODUCT_CLS_CONF", str(tmp_path / "no"))
    with pytest.raises(UserError, match=r"PRODUCT_CLS_CONF=.*no: there is no such folder"):
        product_cls.compose()


def test_names_are_those_of_the_api_module() -> None:
    import product_cls.api

    assert product_cls.__all__ == product_cls.api.__all__
    assert set(product_cls.__all__) <= set(dir(product_cls))
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        product_cls.lode  # noqa: B018
    assert (ROOT / "product_cls" / "py.typed").is_file()


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: product_cls.compose("-m", "fold=0"), "takes no -m"),
        (lambda: product_cls.compose("fold=0,1"), "`product-cls train -m fold=0,1`"),
        (lambda: product_cls.train("model=tiny"), "train takes a config"),
        (lambda: product_cls.load(None), "load takes the path"),
    ],
)
def test_wrong_arguments_are_one_sentence(call: Any, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        call()
    assert sentence in str(caught.value) and "--multirun" not in str(caught.value)
