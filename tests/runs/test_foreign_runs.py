"""A run folder that someone else made: it runs no code, reads no variable, and breaks no table."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import product_cls
from product_cls.analysis.samples import read_samples
from product_cls.core.errors import UserError
from product_cls.runs.folder import RunFolder


def run_with(folder: Path, samples: Any) -> RunFolder:
    run = RunFolder(folder)
    run.path.mkdir(exist_ok=True)
    run.config_file.write_text(yaml.safe_dump({"data": {"samples": samples}}))
    return run


def table(folder: Path) -> Path:
    file = folder / "t.csv"
    file.write_text("path,label\na.jpg,x\n")
    return file


@pytest.mark.parametrize(
    "target",
    [
        *("pandas.read_pickle", "torch.load", "numpy.load", "shutil.copyfile", "os.system"),
        *("builtins.open", "product_cls.data.readers.pd.read_pickle", "nope.read", None, 3, ["a"]),
        *("product_cls.training.run.train", "hydra.utils.instantiate"),
        "product_cls.data.rendered.render_dataset",
    ],
)
def test_only_readers_are_called(tmp_path: Path, target: Any) -> None:
    run = run_with(tmp_path, {"_target_": target, "file": str(table(tmp_path))})
    with pytest.raises(UserError, match=r"data\.samples\._target_=.* is not a reader"):
        read_samples(run)


@pytest.mark.parametrize(
    ("samples", "word"),
    [
        ({"path_column": {"_target_": "os.getcwd"}}, "path_column is no plain value"),
        ({"path_column": [{"_target_": "os.getcwd"}]}, "path_column is no plain value"),
        ({"_args_": ["x"]}, "_args_ is not an argument"),
        ({"colour": "red"}, "unexpected keyword argument 'colour'"),
        ({"_partial_": True}, "_partial_ is not an argument"),
    ],
)
def test_arguments_are_plain_values(tmp_path: Path, samples: Any, word: str) -> None:
    reader = {"_target_": "product_cls.data.readers.read_csv", "file": str(table(tmp_path))}
    with pytest.raises(UserError, match=word):
        read_samples(run_with(tmp_path, reader | samples))


def test_a_reader_without_its_arguments_is_one_sentence(tmp_path: Path) -> None:
    run = run_with(tmp_path, {"_target_": "product_cls.data.readers.read_csv"})
    with pytest.raises(UserError, match="missing a required argument: 'file'"):
        read_samples(run)


def test_a_stored_config_is_not_interpolated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "secret")
    reader = {"_target_": "product_cls.data.readers.read_csv", "file": str(table(tmp_path))}
    run = run_with(tmp_path, reader | {"path_column": "${oc.env:TOKEN}"})
    with pytest.raises(ValueError) as caught:
        read_samples(run)
    assert "secret" not in str(caught.value)
    for text in ("${oc.env:TOKEN}", r"\${oc.env:TOKEN}", r"\\${oc.env:TOKEN}", "a${b"):
        run.config_file.write_text(yaml.safe_dump({"name": text, "tta": [text]}))
        config = product_cls.Run(tmp_path).config
        assert config.name == config.tta[0] == text


def test_nothing_is_rendered_or_fetched(tmp_path: Path) -> None:
    place = tmp_path / "mine"
    place.mkdir()
    for target, arguments in (
        ("product_cls.data.rendered.read_rendered", {"root": str(place)}),
        ("product_cls.data.letters.read_letters", {"root": str(place)}),
        ("product_cls.data.stream.reading.read_stream", {"root": "http://127.0.0.1:9/x"}),
    ):
        with pytest.raises(FileNotFoundError):
            read_samples(run_with(tmp_path, {"_target_": target} | arguments))
    assert not list(place.iterdir())


def test_readers_of_the_own_folder_are_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "data" / "mine.yaml").write_text("samples: {_target_: my_reader.read}\n")
    (tmp_path / "my_reader.py").write_text(
        "import pandas as pd\ndef read(): return pd.DataFrame({'id': ['a']})\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    run = run_with(tmp_path, {"_target_": "my_reader.read"})
    with pytest.raises(UserError, match="PRODUCT_CLS_CONF"):
        read_samples(run)
    monkeypatch.setenv("PRODUCT_CLS_CONF", str(tmp_path / "conf"))
    assert read_samples(run)["id"].tolist() == ["a"]
    sys.modules.pop("my_reader")


BAD = [
    "[]",
    "3",
    '"text"',
    "null",
    "{",
    "",
    '{"state": ["done"]}',
    '{"state": "done", "epoch": "x"}',
]


@pytest.mark.parametrize("content", [*BAD, b"\xff\x00", None])
def test_one_bad_run_breaks_no_table(tmp_path: Path, content: str | bytes | None) -> None:
    good, bad = RunFolder(tmp_path / "good"), RunFolder(tmp_path / "bad")
    good.update_status(state="done")
    good.metrics_file.write_text('{"val": {"accuracy": 0.5}}')
    bad.path.mkdir()
    for file in (bad.status_file, bad.metrics_file):
        if content is None:
            file.mkdir()
        else:
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
    rows = product_cls.runs(tmp_path).set_index("run")
    assert rows.loc[str(good.path), "val/accuracy"] == 0.5
    assert rows.loc[str(bad.path), "state"] == "unreadable"
    assert str(bad.path) in rows.loc[str(bad.path), "error"]
    assert bad.plan("f") == "fresh"
    bad.begin("f", fresh=True)
    assert bad.state().kind == "running"


def test_a_missing_key_names_the_file(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.config_file.write_text("{model: {}, fold: 0}")
    run.metrics_file.write_text(json.dumps({"val": {}}))
    with pytest.raises(UserError, match=r"config.yaml is damaged: it holds no 'model.backbone'"):
        run.config()["model"]["backbone"]
    with pytest.raises(UserError, match=r"metrics.json is damaged: it holds no 'best_epoch'"):
        run.metrics()["best_epoch"]
    for text, key in (("model: 5", "model"), ("data: [1]", "data"), ("tta: 3", "tta")):
        run.config_file.write_text(text)
        with pytest.raises(UserError, match=f"its '{key}' is no"):
            run.config()
