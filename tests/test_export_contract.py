"""The guide's program, with the file alone, sees the pixels and gives the scores of `predict`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doc_blocks import ROOT, blocks
from PIL import Image
from test_export import TASKS, checkpoint

from product_cls.inference.onnx_export import FIT_RULES, export_onnx
from product_cls.inference.onnx_model import OnnxModel
from product_cls.inference.predictor import Predictor
from product_cls.retrieval.open_model import open_model

SIZE = (40, 32)


def odd_pictures(folder: Path) -> list[Path]:
    """Pictures that differ in everything that the contract is about."""
    rng = np.random.default_rng(0)
    files: list[Path] = []

    def save(name: str, picture: Image.Image, **options: Any) -> None:
        files.append(folder / name)
        picture.save(files[-1], **options)

    def noise(*shape: int) -> np.ndarray:
        # Smooth enough that a shift of the window shows in the scores, and JPEG keeps it.
        coarse = rng.integers(0, 256, (5, 4, *shape[2:]), dtype=np.uint8)
        blocks = coarse.repeat(-(-shape[0] // 5), axis=0).repeat(-(-shape[1] // 4), axis=1)
        return np.ascontiguousarray(blocks[: shape[0], : shape[1]])

    for height, width in ((1, 1), (3, 2), (40, 32), (900, 700), (9, 700), (700, 9), (41, 31)):
        save(f"{height}x{width}.png", Image.fromarray(noise(height, width, 3)))
    save("rgba.png", Image.fromarray(noise(70, 50, 4)))
    save("rgba-small.webp", Image.fromarray(noise(20, 60, 4)), lossless=True)
    save("la.png", Image.fromarray(noise(70, 50, 2), mode="LA"))
    save("grey.jpg", Image.fromarray(noise(50, 70)))
    save("bits.png", Image.fromarray(noise(50, 70) > 127))
    save("deep.png", Image.fromarray(noise(50, 70).astype(np.uint16) * 251))
    save("deep.tif", Image.fromarray(noise(30, 20).astype(np.uint16) * 77))
    save("cmyk.jpg", Image.fromarray(noise(50, 70, 3)).convert("CMYK"))
    palette = Image.fromarray(noise(50, 70, 3)).convert("P", palette=Image.Palette.ADAPTIVE)
    save("palette.png", palette, transparency=0)
    save("frames.gif", palette, save_all=True, append_images=[Image.new("P", palette.size)])
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        save(f"turn{turn}.jpg", Image.fromarray(noise(90, 60, 3)), exif=exif, quality=95)
    return files


@pytest.mark.parametrize("fit", FIT_RULES)
def test_the_guides_program_agrees_with_predict(
    fit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx", reason="the extra `export` is not installed")
    pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    file = checkpoint(tmp_path / "best.ckpt", TASKS["single_label"])
    content = torch.load(file, weights_only=True)
    content["hyper_parameters"]["image"]["fit"] = fit
    for key, tensor in content["state_dict"].items():
        if key.startswith("network.head") and key.endswith("weight"):
            tensor *= 300  # so that scores depend on the pixels
    torch.save(content, file)
    predictor = Predictor.load(file)
    assert export_onnx(predictor, tmp_path / "model.onnx") < 1e-4
    monkeypatch.chdir(tmp_path)
    ((_, program),) = blocks(ROOT / "docs" / "guides" / "predict-and-export.md", "python")
    names: dict[str, Any] = {}
    exec(program, names)

    files = odd_pictures(tmp_path)
    for each in files:
        assert (names["prepare"](each) == predictor.picture(each).numpy()).all(), each.name
    expected = open_model(file).predict(files)
    assert np.abs(names["scores"](files) - expected).max() < 1e-4
    assert expected.std(axis=0).max() > 0.02  # the pictures do matter


def test_the_metadata_hold_the_whole_contract(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    pytest.importorskip("onnx", reason="the extra `export` is not installed")
    predictor = Predictor.load(checkpoint(tmp_path / "best.ckpt", TASKS["single_label"]))
    export_onnx(predictor, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    raw = session.get_modelmeta().custom_metadata_map
    about = {key: json.loads(value) for key, value in raw.items()}
    assert about["size"] == list(SIZE) and about["fit"] == "pad"
    assert about["fit_rule"] == FIT_RULES["pad"]
    words = {
        "channels": "RGB",
        "layout": "uint8",
        "views": "mirror image",
        "preparation": "EXIF white 257 INTER_AREA INTER_LINEAR",
    }
    for key, expected in words.items():
        assert all(word in raw[key] for word in expected.split()), key
    guide = (ROOT / "docs" / "guides" / "predict-and-export.md").read_text()
    assert all(f"`{key}`" in guide for key in about if key != "backbone")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("fit", "stretch", "fit=stretch; allowed: squash, crop, pad"),
        ("fit", None, "fit=None; allowed"),
        ("size", [20000, 20000], "allowed: at most 4096"),
        ("size", [32, 32], "but it takes"),
        ("size", 32, "is not an ONNX file that product_cls exported"),
        ("classes", ["a", "b"], "its metadata name two lists of classes"),
    ],
)
def test_metadata_that_cannot_be_right_are_refused(
    tmp_path: Path, refused: Any, key: str, value: Any, said: str
) -> None:
    onnx = pytest.importorskip("onnx", reason="the extra `export` is not installed")
    pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    file = tmp_path / "model.onnx"
    export_onnx(Predictor.load(checkpoint(tmp_path / "a.ckpt", TASKS["single_label"])), file)
    model = onnx.load(file)
    for prop in model.metadata_props:
        if prop.key == key:
            prop.value = json.dumps(value)
    assert model.metadata_props.pop().key == "sha256"  # as a program that changes a file does
    onnx.save(model, file)
    with refused("model.onnx", said):
        OnnxModel(file)


def test_a_full_disk_is_one_sentence(
    tmp_path: Path, refused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx", reason="the extra `export` is not installed")
    pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("product_cls.inference.onnx_export.write_bytes_whole", full)
    predictor = Predictor.load(checkpoint(tmp_path / "a.ckpt", TASKS["single_label"]))
    with refused("model.onnx cannot be written: No space left on device"):
        export_onnx(predictor, tmp_path / "model.onnx")
