"""LoRA: matrices that learn beside a transformer's linear layers and are merged at the end."""

from pathlib import Path

import pytest
import torch
from runs_in_process import refusal, train, train_interrupted
from torch import nn

from product_cls.core.checkpoint_file import read_checkpoint
from product_cls.core.errors import UserError
from product_cls.inference.predictor import Predictor
from product_cls.models.lora import add_adapters, has_adapters, merge_adapters
from product_cls.models.network import Network
from product_cls.runs.folder import RunFolder
from product_cls.training.checkpoints import merge_checkpoint

pytest.importorskip("peft", reason="needs the extra lora")


def build(backbone: str, size: tuple[int, int] = (64, 64)) -> Network:
    torch.manual_seed(0)
    return Network(backbone, lambda features: nn.Linear(features, 3), weights="none", size=size)


@pytest.mark.parametrize(
    "backbone", ["test_vit", "test_vit2", "test_convnext", "eva02_tiny_patch14_224"]
)
def test_every_added_matrix_learns_and_merging_changes_no_answer(backbone: str) -> None:
    network = build(backbone, (56, 56) if "eva" in backbone else (64, 64)).eval()
    pictures = torch.rand(2, 3, *network.architecture.example)
    before, names = network(pictures), set(network.state_dict())
    added = add_adapters(network, 2, 16)
    assert network(pictures).equal(before)  # the product begins at 0
    learning = {n: p for n, p in network.backbone.named_parameters() if p.requires_grad}
    assert sum(p.numel() for p in learning.values()) == added > 0
    assert all(".lora_" in name for name in learning)
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=0.01)
    for _ in range(2):  # the first matrix has a gradient once the second is not 0
        optimizer.zero_grad()
        network(pictures).square().sum().backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.any() for p in learning.values())
    learned = network(pictures)
    assert (learned - before).abs().max() > 1e-3
    merge_adapters(network)
    torch.testing.assert_close(network(pictures), learned, atol=1e-4, rtol=1e-4)
    assert set(network.state_dict()) == names
    assert all(p.requires_grad for p in network.parameters())


def test_a_run_learns_resumes_and_ends_with_merged_weights(tmp_path: Path, tiny_root: Path) -> None:
    words = ("model=tiny_vit", "trainer.max_epochs=2", "finetune.lora=2", "finetune.lora_alpha=8")
    whole = train(tmp_path / "whole", tiny_root, *words)
    resumed = train_interrupted(tmp_path / "resumed", tiny_root, *words, epoch=1)
    merged = weights_of(whole.best_checkpoint)
    assert not has_adapters(merged) and has_adapters(weights_of(whole.last_checkpoint))
    for name, value in merged.items():
        assert value.equal(weights_of(resumed.best_checkpoint)[name]), name
    run = train(tmp_path / "plain", tiny_root, "model=tiny_vit", "finetune.freeze=all")
    plain = weights_of(run.best_checkpoint)
    moved = {name for name, value in plain.items() if not value.equal(merged[name])}
    assert moved - {"network.head.weight", "network.head.bias"}  # merged weights have changed
    assert all(".attn." in name or ".mlp." in name or "head" in name for name in moved)
    assert set(merged) == set(plain)
    Predictor.load(whole.best_checkpoint)
    with pytest.raises(UserError, match="holds LoRA's matrices, which a run merges"):
        Predictor.load(whole.last_checkpoint)


def weights_of(file: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = read_checkpoint(file)["state_dict"]
    return state


def test_a_run_killed_after_merging_ends_with_the_same_weights(
    tmp_path: Path, tiny_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("model=tiny_vit", "trainer.max_epochs=1", "finetune.lora=2")

    def killed(file: Path, module: object) -> None:
        merge_checkpoint(file, module)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("product_cls.training.run.merge_checkpoint", killed)
        with pytest.raises(SystemExit):
            train(tmp_path / "run", tiny_root, *words)
    folder = RunFolder(tmp_path / "run")
    merged = weights_of(folder.best_checkpoint)
    train(folder.path, tiny_root, *words)
    assert folder.status()["state"] == "done"
    again = weights_of(folder.best_checkpoint)
    assert all(value.equal(again[name]) for name, value in merged.items())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("finetune.lora=0",), "finetune.lora=0; allowed: a rank of 1 or more, or null"),
        (("finetune.lora=2.5",), "finetune.lora=2.5; allowed: a rank of 1 or more, or null"),
        (("finetune.lora=2", "finetune.lora_alpha=0"), "finetune.lora_alpha=0; allowed: above 0"),
        (
            ("finetune.lora=2", "finetune.freeze=all"),
            "finetune.lora=2 has no effect with finetune.freeze=all",
        ),
        (
            ("finetune.lora=2",),
            "finetune.lora=2: test_efficientnet has no linear layers; allowed: null, or a",
        ),
        (("finetune.lora=2", "task=probe"), "finetune.lora=2 has no effect with task=probe"),
    ],
)
def test_wrong_values_are_one_sentence(
    tmp_path: Path,
    tiny_root: Path,
    caplog: pytest.LogCaptureFixture,
    words: tuple[str, ...],
    sentence: str,
) -> None:
    assert sentence in refusal(tmp_path / "run", tiny_root, caplog, *words)
