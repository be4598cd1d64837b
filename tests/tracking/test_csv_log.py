"""The curves in logs/metrics.csv: kept over kills, and the same after a resumed run."""

import logging
from pathlib import Path

import pytest

from product_cls.tracking.csv_log import ResumableCSVLogger


def logged(folder: Path, *rows: tuple[int, float]) -> str:
    """Logs (epoch, value) rows, and reads the file."""
    logger = ResumableCSVLogger(folder, name=None, version="logs")
    for epoch, value in rows:
        logger.log_metrics({"epoch": epoch, "val/accuracy": value}, step=epoch)
    logger.save()
    return (folder / "logs" / "metrics.csv").read_text()


def test_an_interrupted_epoch_replaces_its_rows(tmp_path: Path) -> None:
    third = 1 / 3  # whose last digit pandas' reader would change
    unbroken = logged(tmp_path / "a", (0, third), (1, 0.5), (2, float("nan")))
    logged(tmp_path / "b", (0, third), (1, 0.5))
    resumed = logged(tmp_path / "b", (1, 0.5), (2, float("nan")))
    assert resumed == unbroken
    assert unbroken == f"epoch,step,val/accuracy\n0,0,{third}\n1,1,0.5\n2,2,nan\n"


def test_a_kill_leaves_the_old_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = logged(tmp_path, (0, 0.5))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        logged(tmp_path, (1, 0.6))
    assert (tmp_path / "logs" / "metrics.csv").read_text() == before


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"epoch,step\n1\n", b"epoch,step\nx,1\n"])
def test_damaged_curves_begin_anew_with_a_warning(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "metrics.csv").write_bytes(content)
    with caplog.at_level(logging.WARNING):
        text = logged(tmp_path, (3, 0.5))
    assert text == "epoch,step,val/accuracy\n3,3,0.5\n"
    assert "the curves begin anew" in caplog.text
