"""Where settings come from: the package's folder, and a folder of the user."""

from pathlib import Path

import pytest
from runs_in_process import ROOT

from product_cls.config import compose


def test_an_installed_package_reads_its_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``site-packages/conf`` may be the folder of another package."""
    assert compose.conf_folder() == ROOT / "conf"
    package = tmp_path / "product_cls"
    for folder in (package / "config", package / "conf", tmp_path / "conf"):
        folder.mkdir(parents=True)
        (folder / "config.yaml").touch()
    monkeypatch.setattr(compose, "__file__", str(package / "config" / "compose.py"))
    assert compose.conf_folder() == package / "conf"


def test_options_of_the_user_join_those_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "scheduler"
    own.mkdir()
    for name in ("cosine", "mine"):
        (own / f"{name}.yaml").touch()
    monkeypatch.setenv("PRODUCT_CLS_CONF", str(tmp_path))
    files = compose.group_files("scheduler")
    assert files["mine"] == own / "mine.yaml"
    assert files["cosine"] == ROOT / "conf" / "scheduler" / "cosine.yaml"
    assert list(files) == sorted(files)


def test_a_set_of_runs_is_known_whatever_file_holds_it(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "own.yaml").write_text(
        "# @package _global_\nhydra: {sweeper: {params: {seed: '0,1'}}}\n"
    )
    for words, keys in (
        (["sweep=models"], ["fold", "model"]),
        (["experiment=gap"], ["recipe", "seed"]),
        ([f"--config-dir={tmp_path}", "experiment=own"], ["seed"]),
        ([], []),
    ):
        assert sorted(compose.compose_run(words).swept) == keys
