import threading
from pathlib import Path

import pytest

from product_cls.core.errors import UserError
from product_cls.runs.fingerprint import fingerprint, has_settings, with_contents
from product_cls.runs.folder import RunFolder, RunState, find_runs

CONFIG = {"seed": 0, "name": "a", "data": {"size": 96, "num_workers": 0}}


def test_fingerprint_covers_settings_that_change_results() -> None:
    mark = fingerprint(CONFIG, "samples")
    assert mark == fingerprint(CONFIG | {"name": "b", "rerun": True}, "samples")
    assert mark == fingerprint(CONFIG | {"data": {"num_workers": 4, "size": 96}}, "samples")
    assert mark != fingerprint(CONFIG | {"seed": 1}, "samples")
    assert mark != fingerprint(CONFIG | {"data": {"size": 64, "num_workers": 0}}, "samples")
    assert mark != fingerprint(CONFIG, "other samples")


def test_a_file_counts_by_its_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("w.ckpt").write_bytes(b"one")
    Path("auto").write_bytes(b"a file called like a word")

    def mark(**values: str) -> str:
        return fingerprint({"model": values, "loss": {"teachers": [values]}})

    first = mark(weights="w.ckpt")
    Path("moved.ckpt").write_bytes(b"one")
    assert mark(weights="moved.ckpt") == mark(weights=str(tmp_path / "w.ckpt")) == first
    Path("w.ckpt").write_bytes(b"two")
    assert mark(weights="w.ckpt") != first
    Path("bare").write_bytes(b"one")
    assert mark(weights="bare") == first  # a file without a suffix
    word = mark(weights="auto")
    Path("auto").unlink()
    assert mark(weights="auto") == word
    # Samples and folds have digests of their own.
    assert fingerprint({"data": {"csv": "w.ckpt"}}) != fingerprint({"data": {"csv": "moved.ckpt"}})
    # Callbacks may write the files that they name.
    before = fingerprint({"callbacks": {"log": {"file": "w.ckpt"}}})
    Path("w.ckpt").write_bytes(b"written by the run")
    assert fingerprint({"callbacks": {"log": {"file": "w.ckpt"}}}) == before


def test_contents_belong_to_the_whole_fingerprint() -> None:
    settings = fingerprint(CONFIG, "samples")
    assert has_settings(with_contents(settings, "0123"), settings)
    assert not has_settings(with_contents(fingerprint(CONFIG), "0123"), settings)
    for recorded in (settings, None, 7, ["a"]):  # of an earlier version, or damaged
        assert not has_settings(recorded, settings)


def test_plan(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.plan("f") == "fresh"
    run.begin("f", fresh=True)
    assert run.plan("f") == "fresh"  # nothing to resume from yet
    run.checkpoints.mkdir()
    run.last_checkpoint.touch()
    assert run.plan("f") == "resume"
    assert run.plan("g") == "fresh"
    run.update_status(state="done")
    assert run.plan("f") == "skip"
    assert run.plan("f", rerun=True) == "fresh"
    assert run.plan("g") == "fresh"


def test_results_of_other_settings_are_moved(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.begin("f", fresh=True)
    run.metrics_file.write_text('{"value": 1}')
    run.begin("g", fresh=True)
    assert not run.metrics_file.exists()
    assert (tmp_path / ".replaced" / "metrics.json").read_text() == '{"value": 1}'
    assert [found.path for found in find_runs(tmp_path)] == [tmp_path]


def test_leftovers_without_results_replace_no_results(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.begin("f", fresh=True)
    run.metrics_file.write_text('{"value": 1}')
    assert run.begin("g", fresh=True) == tmp_path / ".replaced"
    run.config_file.touch()
    (tmp_path / "logs").mkdir()
    assert run.begin("g", fresh=True) is None and run.begin("h", fresh=True) is None
    assert not run.config_file.exists() and not (tmp_path / "logs").exists()
    assert (tmp_path / ".replaced" / "metrics.json").read_text() == '{"value": 1}'
    run.checkpoints.mkdir()
    run.last_checkpoint.touch()
    assert run.begin("i", fresh=True) == tmp_path / ".replaced"
    assert (tmp_path / ".replaced" / "checkpoints" / "last.ckpt").is_file()


def test_a_damaged_status_counts_as_missing(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.status_file.write_text('{"state": "do')
    assert run.status() == {}
    assert run.plan("f") == "fresh"


def test_states_and_shortcomings(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    assert run.state() == RunState("missing", "no run folder")
    run.path.mkdir()
    assert run.state() == RunState("missing", "its folder holds no status.json")
    run.status_file.write_text('{"state": "do')
    assert run.state().kind == "unreadable"
    assert run.shortcoming() == f"cannot be used: {run.status_file} cannot be read"
    run.begin("f", fresh=True)
    assert run.state() == RunState("running", "just started")
    run.update_status(epoch=3, epochs=20)
    assert run.shortcoming() == "is still running (after epoch 3 of 20)"
    run.update_status(state="failed", error="Out of\nmemory.")
    assert run.state() == RunState("failed", "Out of memory")
    assert run.shortcoming() == "failed: Out of memory"
    run.update_status(state="done", error=None, limited=False)
    assert run.state() == RunState("done", "")
    assert run.shortcoming() is None
    run.update_status(limited=True)
    assert run.state().kind == "limited"
    assert run.shortcoming() == "saw a part of the pictures only (trainer=debug)"


def test_a_folder_is_held_by_one_process(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    caught: list[BaseException] = []

    def second() -> None:
        try:
            with RunFolder(tmp_path).locked():
                pass
        except UserError as error:
            caught.append(error)

    with run.locked():
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert "Another process" in str(caught[0])
    second()
    assert len(caught) == 1


def test_find_runs_refuses_folders_without_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no folder"):
        find_runs(tmp_path / "absent")
    with pytest.raises(UserError, match="No run in"):
        find_runs(tmp_path)


def test_files_of_a_run_are_read_or_refused(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for read in (run.config, run.overrides):
        with pytest.raises(UserError, match=r"\.yaml cannot be read: No such file or directory\."):
            read()
    run.config_file.write_text("tta: [identity]\n")
    run.write_overrides(["fold=0", "name=a b"])
    assert run.config() == {"tta": ["identity"]}
    assert run.overrides() == ["fold=0", "name=a b"]
    run.config_file.write_text("tta: [")
    with pytest.raises(UserError, match=r"config\.yaml cannot be read: while parsing"):
        run.config()
    run.overrides_file.write_text("")
    with pytest.raises(UserError, match=r"overrides\.yaml is damaged: it holds no list\."):
        run.overrides()


def test_a_refused_run_leaves_no_new_folder(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "name" / "seed=0")
    with run.locked():
        run.write_overrides(["seed=0"])
        run.log_file.touch()
        run.update_status(state="failed", error="There is no such folder.")
    run.discard_unbegun()
    assert not list(tmp_path.iterdir())
    run.begin("f", fresh=True)
    run.discard_unbegun()
    assert run.state().kind == "running"
    other = RunFolder(tmp_path / "name" / "seed=1")
    other.write_overrides([])
    (other.path / "notes.txt").touch()
    other.discard_unbegun()
    assert [path.name for path in other.path.iterdir()] == ["notes.txt"]


def test_replaced_settings_are_named(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.differences({"seed": 0}) == []
    run.config_file.write_text("seed: 0\ndata: {root: a, limit: null}\nlogger: {}\n")
    now = {"seed": 0, "data": {"root": "b", "limit": None}, "logger": {"csv": {}}}
    assert run.differences(now) == ["data.root=a, now b"]
