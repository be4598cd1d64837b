"""W&B runs, written offline and read back by W&B's own reader."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pandas as pd
import pytest
import wandb
from fake_wandb import KEY, FakeWandb
from pytorch_lightning import Callback
from runs_in_process import RETRIEVAL, train, train_interrupted

from product_cls.core.errors import UserError
from product_cls.ensemble import __main__ as ensemble
from product_cls.ensemble.blend_folders import EnsembleResult
from product_cls.ensemble.members import Member
from product_cls.runs.folder import RunFolder
from product_cls.tracking import wandb_ensemble, wandb_run
from product_cls.tracking.sync import main, unsynced
from product_cls.tracking.wandb_run import within_limits


class Offline:
    """The records of an offline run, read by `wandb leet inspect`."""

    def __init__(self, file: Path) -> None:
        self.file = file
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        self.records = [json.loads(line) for line in done.stdout.splitlines()]

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [record[kind] for record in self.records if record["type"] == kind]

    @property
    def run(self) -> dict[str, Any]:
        return self.all("run")[0]

    @property
    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = self.run["config"]["update"]
        return config

    @property
    def summary(self) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for record in self.all("summary"):
            merged |= record["update"]
        return merged

    def curve(self, name: str) -> list[tuple[int, float]]:
        """(step, value) of a metric, in the order logged."""
        items = [record["item"] for record in self.all("history")]
        return [(item["trainer/global_step"], item[name]) for item in items if name in item]

    def artifacts(self, *, used: bool) -> dict[str, dict[str, Any]]:
        """Input or output artifacts by name, without those that W&B creates for tables."""
        return {
            artifact["name"]: artifact
            for artifact in self.all("artifact")
            if artifact["type"] != "run_table" and bool(artifact.get("use_after_commit")) == used
        }

    def table(self, name: str) -> dict[str, Any]:
        """A logged table, columns and rows, from its artifact, which describes pictures too."""
        manifests = [artifact["manifest"]["contents"] for artifact in self.all("artifact")]
        files = {file["path"]: file["local_path"] for contents in manifests for file in contents}
        table: dict[str, Any] = json.loads(Path(files[f"{name}.table.json"]).read_text())
        return table


def offline_runs(folder: Path) -> list[Offline]:
    return [Offline(file) for file in sorted(folder.rglob("offline-run-*/*.wandb"))]


@pytest.mark.slow
def test_four_jobs_and_their_ensemble(
    tmp_path: Path, tiny_root: Path, run_command: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    root = tmp_path / "sweep"
    for backbone in ("tiny", "tiny model.drop_rate=0.1"):
        for fold in (0, 1):
            name = f"fold={fold},model={backbone.replace(' ', ',')}"
            words = [f"model={backbone.split()[0]}", *backbone.split()[1:], f"fold={fold}"]
            train(
                root / name,
                tiny_root,
                *words,
                "logger=wandb",
                "name=sweep",
                "logger.wandb.tags=[mine]",
            )
            assert wandb.run is None
    logged = [r.getMessage() for r in caplog.records if r.name == "product_cls.tracking.wandb_run"]
    assert len(logged) == 4 and all("offline" in m and "make wandb-sync" in m for m in logged)

    folders = [RunFolder(path.parent) for path in sorted(root.glob("*/status.json"))]
    runs = offline_runs(root)
    assert len(runs) == len(folders) == 4
    ids = {folder.status()["tracking_id"] for folder in folders}
    assert {run.run["run_id"] for run in runs} == ids and len(ids) == 4
    folds = set()
    for folder, run in zip(folders, runs, strict=True):
        fold = int(folder.path.name[5])
        mark = folder.status()["tracking_id"]
        assert run.run["run_group"] == "sweep" and run.run["job_type"] == "train"
        assert {f"fold={fold}", "competition", "mine"} < set(run.run["tags"])
        assert run.config["fold"] == fold and run.config["data"]["batch_size"] == 8
        metrics = folder.metrics()
        assert run.summary["result/test/accuracy"] == metrics["test"]["accuracy"]
        by_view = {view: of["accuracy"] for view, of in metrics["test"]["by_view"].items()}
        assert {v: run.summary[f"result/test/view_{v}/accuracy"] for v in by_view} == by_view
        bars = run.table("result/by_view_table")
        assert [[v, pytest.approx(a)] for v, a in bars["data"]] == list(map(list, by_view.items()))
        assert run.curve("val/accuracy") == [(2, pytest.approx(folder.status()["value"]))]
        assert run.all("stats") and run.all("exit")[0].get("exit_code", 0) == 0
        used, made = run.artifacts(used=True), run.artifacts(used=False)
        folds |= set(used)
        (split,) = used.values()
        assert split["type"] == "folds"
        text = Path(split["manifest"]["contents"][0]["local_path"]).read_text()
        assert text.startswith("id,fold\ntrain/") and len(text.splitlines()) == 41
        assert set(made) == {f"model-{mark}", f"predictions-{mark}"}
        assert "best" in made[f"model-{mark}"]["aliases"]
        assert (folder.path / "logs" / "metrics.csv").is_file()
    assert len(folds) == 1  # the same split, the same artifact

    status, out, err = run_command(ensemble.main)(f"runs={root}", "wandb=shop")
    assert status == 0 and "W&B: offline" in out, err
    (blend,) = offline_runs(root / "ensemble")
    assert (blend.run["project"], blend.run["job_type"]) == ("shop", "ensemble")
    assert blend.run["run_group"] == "sweep"
    used = blend.artifacts(used=True)
    assert set(used) == {f"{kind}-{mark}" for kind in ("model", "predictions") for mark in ids}
    # They have the content that the runs have logged, so W&B recognises them.
    for run in runs:
        for name, artifact in run.artifacts(used=False).items():
            assert used[name]["digest"] == artifact["digest"]
    assert set(blend.artifacts(used=False)) == {"predictions-ensemble-sweep", "submission-sweep"}
    assert blend.table("result/table")["columns"][:3] == ["run", "val", "test"]
    files, training = unsynced(tmp_path)
    assert len(files) == 5 and training == []


def test_wrong_pictures_and_confused_products(tmp_path: Path, tiny_root: Path) -> None:
    run = train(tmp_path / "run", tiny_root, "logger=wandb", *RETRIEVAL)
    (offline,) = offline_runs(run.path)
    wrong = offline.table("result/wrong_pictures")
    columns = ["picture", "id", "view", "target", "decided", "top"]
    assert wrong["columns"] == [*columns, "neighbour 1", "neighbour 2", "neighbour 3"]
    test = run.metrics()["test"]
    assert len(wrong["data"]) == round((1 - test["accuracy"]) * test["count"]) > 0
    for row in wrong["data"]:
        cell = dict(zip(wrong["columns"], row, strict=True))
        assert cell["target"] != cell["decided"]
        assert len(cell["top"].splitlines()) == 4 and cell["view"] in ("0", "30", "60")
        for name in ("picture", "neighbour 1", "neighbour 3"):
            assert cell[name]["_type"] == "image-file" and cell[name]["width"] == 32
        assert cell["neighbour 1"]["caption"].split()[0] in ("0", "1", "2", "10")
    pairs = offline.table("result/worst_pairs")
    total = sum(row[pairs["columns"].index("pictures")] for row in pairs["data"])
    assert 0 < total <= len(wrong["data"])


@pytest.mark.slow
def test_a_killed_job_resumes_its_run_and_a_changed_one_does_not(
    tmp_path: Path, tiny_root: Path
) -> None:
    words = ("logger=wandb", "trainer.max_epochs=3")
    run = train_interrupted(tmp_path / "run", tiny_root, *words, epoch=1)
    first, second = offline_runs(run.path)
    mark = run.status()["tracking_id"]
    assert first.run["run_id"] == second.run["run_id"] == mark
    assert first.all("exit")[0]["exit_code"] == 1
    assert [step for step, _ in first.curve("val/accuracy")] == [2]
    assert [step for step, _ in second.curve("val/accuracy")] == [5, 8]
    assert "result/test/accuracy" in second.summary
    train(run.path, tiny_root, *words, "optimizer.lr=0.002")
    third = offline_runs(run.path)[2]
    assert third.run["run_id"] == run.status()["tracking_id"] != mark


def test_ids_are_kept_until_a_run_is_done(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)

    def begun(mark: str, *, fresh: bool) -> str:
        run.begin(mark, fresh=fresh)
        return str(run.status()["tracking_id"])

    one = begun("a", fresh=True)
    assert begun("a", fresh=False) == one  # resumed
    assert begun("a", fresh=True) == one  # killed in its first epoch, before there was a checkpoint
    other = begun("b", fresh=True)
    run.update_status(state="done")
    again = begun("b", fresh=True)  # rerun=true
    assert len({one, other, again}) == 3


def test_an_error_of_w_and_b_gives_a_warning(
    tmp_path: Path,
    tiny_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise wandb.errors.CommError("no route to host.")

    monkeypatch.setattr(wandb_run, "use", broken)
    run = train(tmp_path / "run", tiny_root, "logger=wandb")
    assert run.status()["state"] == "done" and run.metrics_file.is_file()
    (message,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert message == (
        f"WandbRun did not receive all results (no route to host); they are in {run.path}."
    )
    assert wandb.run is None


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeWandb]:
    """A reachable W&B server, with a key."""
    fake = FakeWandb()
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_BASE_URL", fake.url)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    wandb.teardown()  # W&B caches the environment
    yield fake
    wandb.teardown()


class Cut(Callback):
    """The network fails in the second epoch."""

    server: FakeWandb

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:  # type: ignore[no-untyped-def]
        Cut.server.down = trainer.current_epoch == 1


@pytest.mark.slow
def test_nothing_is_lost_when_the_network_fails(
    tmp_path: Path,
    tiny_root: Path,
    server: FakeWandb,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    run_command: Any,
) -> None:
    monkeypatch.setattr(wandb_run, "FINISH_SECONDS", 2)
    monkeypatch.setattr(Cut, "server", server, raising=False)
    cut = "+callbacks.cut={_target_: test_wandb.Cut}"
    run = train(tmp_path / "run", tiny_root, "logger=wandb", "trainer.max_epochs=2", cut)
    assert run.status()["state"] == "done"
    assert any("make wandb-sync" in record.getMessage() for record in caplog.records)
    mark = run.status()["tracking_id"]
    assert set(server.received.runs) == {mark} and not server.received.logged

    server.down = False
    monkeypatch.setenv("WANDB_MODE", "online")
    status, out, err = run_command(main)(f"runs={tmp_path}")
    assert status == 0, (out, err)
    received = server.received
    assert set(received.runs) == {mark}  # both parts belong to one run
    history = received.history[mark]
    numbers = [row["_step"] for row in history]
    assert numbers == sorted(set(numbers))
    assert [row[wandb_run.STEP] for row in history if "val/accuracy" in row][-2:] == [2, 5]
    assert any("result/wrong_pictures" in row for row in history)
    assert {(mark, f"model-{mark}"), (mark, f"predictions-{mark}")} <= set(received.logged)
    assert [name.split("-")[0] for of, name in received.used if of == mark] == ["folds"]
    assert "best.ckpt" in received.files
    assert unsynced(tmp_path) == ([], [])


def test_without_w_and_b_in_reach_a_run_is_offline(
    monkeypatch: pytest.MonkeyPatch, server: FakeWandb, caplog: pytest.LogCaptureFixture
) -> None:
    modes = []

    def init(**arguments: Any) -> str:
        modes.append(arguments.get("mode"))
        if modes[-1] == "online":
            raise wandb.errors.CommError("no route to host")
        return "run"

    monkeypatch.setattr(wandb, "init", init)
    assert wandb_run.start(dir="here") == "run"
    assert modes == ["online", "offline"]
    (message,) = [r.getMessage() for r in caplog.records if r.name.endswith("_run")]
    assert message.startswith(
        "W&B cannot be reached (no route to host); the run is kept in here/wandb"
    )


@pytest.mark.parametrize("word", [{"offline": True}, {"mode": "offline"}])
def test_offline_by_a_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: FakeWandb, word: dict[str, Any]
) -> None:
    modes: list[Any] = []
    tracker = wandb_run.WandbRun(save_dir=str(tmp_path), **word)
    monkeypatch.setattr(wandb, "init", lambda **arguments: modes.append(arguments["mode"]))
    monkeypatch.setattr(tracker, "_take", lambda run: None)
    _ = tracker.experiment  # with a key and a network
    monkeypatch.delenv("WANDB_API_KEY")
    wandb.teardown()
    _ = tracker.experiment
    assert modes == ["offline", "offline"]


def test_a_setting_takes_precedence_over_the_environment(
    monkeypatch: pytest.MonkeyPatch, server: FakeWandb
) -> None:
    modes: list[Any] = []
    monkeypatch.setattr(wandb, "init", lambda **arguments: modes.append(arguments["mode"]))
    monkeypatch.setenv("WANDB_MODE", "offline")
    wandb.teardown()
    wandb_run.start(mode="online", dir="here")
    wandb_run.start(mode="disabled", dir="here")
    wandb_run.start(dir="here")
    assert modes == ["online", "disabled", "offline"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"mode": "ofline"}, "logger.wandb.mode=ofline; allowed: online, offline, disabled."),
        ({"setings": {}}, "logger.wandb.setings=...: W&B has no such setting, or a run sets it."),
        ({"settings": {}}, "logger.wandb.settings=...: W&B has no such setting, or a run sets it."),
    ],
)
def test_bad_settings_fail_before_training(
    tmp_path: Path, arguments: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError) as caught:
        wandb_run.WandbRun(save_dir=str(tmp_path), **arguments)
    assert str(caught.value) == sentence


def test_the_inputs_of_an_ensemble_are_the_runs_in_its_vote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not a finished run that was left out, nor one of weight 0."""
    folders = [RunFolder(tmp_path / "sweep" / name) for name in "abcd"]
    for folder in folders:
        folder.update_status(state="done", tracking_id=folder.path.name)
    start, inputs = Mock(), []
    monkeypatch.setattr(wandb_ensemble, "start", start)
    monkeypatch.setattr(wandb_ensemble, "use", lambda run, artifact: inputs.append(artifact.name))
    table, out = pd.DataFrame({"run": ["a"]}), tmp_path / "out"
    members = [Member(folder.path.name, "g", {}, folder=folder) for folder in folders[1:]]
    result = EnsembleResult(members, ["a is damaged"], Mock(), {}, [2.0, 0.0, 1.0], {}, None, [])
    wandb_ensemble.keep_ensemble("shop", "sweep", result.inputs, out, {}, table, {})
    assert inputs == ["predictions-b", "predictions-d"]
    begun = start.call_args.kwargs
    assert begun["name"] == "ensemble of 2 runs" and len(begun["config"]["of"]) == 2
    assert "did not receive" not in capsys.readouterr().out
    start.side_effect = OSError("no network")
    wandb_ensemble.keep_ensemble("shop", "sweep", result.inputs, out, {}, table, {})
    assert "did not receive the whole ensemble (no network)" in capsys.readouterr().out


def test_no_login_of_the_command_line_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "data.root=https://me:secret@host/shop"])
    wandb_run.start(project="shop", dir=str(tmp_path))
    wandb_run.finish(0)
    (run,) = offline_runs(tmp_path)
    assert "https://host/shop" in str(run.records)  # among W&B's data on the machine
    assert "secret" not in str(run.records)


def test_long_names_are_cut_and_stay_different() -> None:
    names = [f"{'data.root=x,' * 20}seed={seed}" for seed in (1, 2)]
    cut = [within_limits({"name": n, "group": n, "tags": [n, n, "ab"], "id": n}) for n in names]
    assert all(len(x["name"]) == len(x["group"]) == 128 for x in cut)
    assert cut[0]["name"] != cut[1]["name"] and cut[0]["id"] == names[0]
    assert [len(tag) for tag in cut[0]["tags"]] == [64, 2]
    assert within_limits({"name": "short", "group": None}) == {"name": "short", "group": None}
