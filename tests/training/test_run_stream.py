"""Training from shards: the command that writes them, and runs that equal those on the data."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from runs_in_process import refusal, train, train_interrupted, weights

from product_cls.data.readers import read_competition
from product_cls.data.stream.writing import write_stream
from product_cls.inference.predictions import Predictions
from product_cls.stream import main


@pytest.fixture(scope="module")
def shards(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stream") / "shards"
    samples = read_competition(tiny_root)
    write_stream(samples, out, shard_size=7, side=None, on_unreadable="stop")
    return out


def test_the_command_writes_what_training_reads(
    run_command: Callable[..., Callable[..., tuple[int, str, str]]], tmp_path: Path, tiny_root: Path
) -> None:
    call, out = run_command(main), tmp_path / "out"
    words = ("data=competition", f"data.root={tiny_root}")
    status, text, errors = call(f"out={out}", "shard=30", *words)
    assert status == 0, errors
    assert "72 pictures (40 train, 32 test) in 4 shards" in text
    assert text.rstrip().endswith(f"python train.py data=streaming data.root={out}")
    run = train(tmp_path / "run", out, "data=streaming", "trainer=debug", "trainer.accelerator=cpu")
    assert run.status()["state"] == "done"
    for wrong, sentence in {
        "model=b0": "model=b0 has no effect on shards; allowed beside out=...",
        "data=streaming": "in shards already",
        "data.limit=20": "data.limit=20 has no effect on shards; set it to null here, and give",
        "data.size=64": "data.size=64 has no effect on shards, give it to python train.py",
        "data.no=1": "There is no key data.no; a new key begins with +.",
        "side=4": "side=4",
    }.items():
        status, _, errors = call(f"out={tmp_path / 'no'}", *words, wrong)
        assert status == 2 and sentence in errors and errors.count("\n") == 1, errors
    assert not (tmp_path / "no").exists()


def test_a_run_on_shards_equals_one_on_the_data(
    tmp_path: Path, tiny_root: Path, shards: Path
) -> None:
    settings = ("data.limit=30", "fold=1")
    stored = train(tmp_path / "stored", tiny_root, *settings)
    streamed = train(tmp_path / "streamed", shards, "data=streaming", *settings)
    for name, value in weights(stored).items():
        assert value.equal(weights(streamed)[name]), name
    for part in ("val", "test"):
        from_store, from_shards = (
            Predictions.load(run.predictions_file(part)) for run in (stored, streamed)
        )
        assert from_store.id.tolist() == from_shards.id.tolist()
        # Batches of other pictures add up in another order.
        assert np.allclose(from_store.scores, from_shards.scores, atol=1e-6)
        assert np.array_equal(from_store.target, from_shards.target)
    folds = [
        pd.read_csv(next(run.path.parent.glob(f"cache/{name}-*/folds*.csv")), comment="#")
        for run, name in ((stored, "competition"), (streamed, "streaming"))
    ]
    assert folds[0].equals(folds[1])
    assert not list(tmp_path.glob("cache/streaming-*/store*"))


def test_resumed_from_an_address_equals_uninterrupted(tmp_path: Path, shards: Path) -> None:
    overrides = ("data=streaming", "data.stream.window=8", "trainer.max_epochs=3", "mix.p=1")
    whole = train(tmp_path / "whole", shards, *overrides)
    address = f"data.root=file://{shards}"
    broken = train_interrupted(tmp_path / "broken", shards, *overrides, address, epoch=1)
    for name, value in weights(whole).items():
        assert value.equal(weights(broken)[name]), name
    assert broken.metrics()["test"] == whole.metrics()["test"]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (("data.on_unreadable=drop",), "data.on_unreadable=drop has no effect on shards"),
        (("data.stream.window=0",), "data.stream.window=0; allowed"),
        (("data.stream.cache_gb=0",), "data.stream.cache_gb=0; allowed"),
        (("data.fit=no",), "data.fit=no; allowed: squash"),
        (("data.per_class=2", "data.root=file://{}"), "data.per_class=2 draws from all shards"),
        (("data.stream.cache_gb=1e-6", "data.root=file://{}"), "data.stream.cache_gb=1e-06 holds"),
    ],
)
def test_settings_that_shards_refuse(
    tmp_path: Path,
    shards: Path,
    caplog: pytest.LogCaptureFixture,
    overrides: tuple[str, ...],
    sentence: str,
) -> None:
    words = [word.format(shards) for word in overrides]
    assert sentence in refusal(tmp_path / "run", shards, caplog, "data=streaming", *words)
