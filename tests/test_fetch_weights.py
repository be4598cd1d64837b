"""`weights fetch`: a folder that a machine without a network trains from."""

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch

from product_cls.models import backbone as module
from product_cls.models.backbone import Weights, build_backbone
from product_cls.weights import main

Command = Callable[[Callable[[], None]], Callable[..., tuple[int, str, str]]]


def test_a_fetched_folder_is_a_backbone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_command: Command
) -> None:
    # In place of the hub, which tests cannot reach: a network with known weights.
    torch.manual_seed(0)
    hub = timm.create_model("test_vit")
    monkeypatch.setattr(
        module, "build_backbone", lambda name, source: (hub, Weights(source, "hub"))
    )
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: hub)
    out = tmp_path / "vit"
    status, output, errors = run_command(main)("fetch", "tiny_vit", f"out={out}")
    monkeypatch.undo()
    assert (status, errors) == (0, "")
    assert output == (
        f"Fetched tiny_vit: {out}. Use it by model.backbone={out}, model.weights=auto.\n"
    )
    network, weights = build_backbone(str(out))
    assert weights.source == str(out)
    torch.testing.assert_close(network.cls_token, hub.cls_token)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("fetch", "dinov2_s"), "HF_HUB_OFFLINE is set and they are not in the cache"),
        (("fetch", "lite0"), "lite0 needs no fetching: its weights come with the installed"),
        (("fetch", "nosuch"), "backbone=nosuch is unknown"),
        ((), "weights takes the word fetch and a network: weights fetch dinov2_s."),
        (("fetch", "out=x"), "weights takes the word fetch and a network"),
    ],
)
def test_refused(words: tuple[str, ...], sentence: str, run_command: Command) -> None:
    status, _, errors = run_command(main)(*words)
    assert status != 0 and sentence in errors
    assert errors.count("\n") == 1


def test_other_files_are_not_overwritten(tmp_path: Path, run_command: Command) -> None:
    (tmp_path / "mine.txt").write_text("")
    status, _, errors = run_command(main)("fetch", "dinov2_s", f"out={tmp_path}")
    assert (
        status != 0 and errors == f"error: out={tmp_path} holds other files; name another folder.\n"
    )
