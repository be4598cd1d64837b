"""The wheel, installed into a folder and used outside the checkout, as `pip install` leaves it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from runs_in_process import ROOT, TINY

pytestmark = pytest.mark.slow

PYTHON_LINES = """
import product_cls
assert product_cls.__file__.startswith(SITE), product_cls.__file__
model = product_cls.load("multirun/small")
answers = model.predict(PICTURES, top=2)
assert len(answers) == 2 and len(answers[0]) == 2
assert list(model.predict(PICTURES, as_frame=True)["label_1"]) == [a[0][0] for a in answers]
assert model.embed(PICTURES).shape[0] == 2
config = product_cls.compose(*WORDS, "name=api")
run = product_cls.train(config)
assert run.state == "done" and 0 <= run.metrics["test"]["accuracy"] <= 1
table = product_cls.ensemble(["multirun/small", "multirun/api"])
assert len(table) > 2
assert {"id", "target"} < set(product_cls.read_predictions(run.path, "test").columns)
print(sorted(product_cls.runs("multirun")["state"]))
"""


def installed(tmp_path: Path) -> Path:
    """The wheel's files; its dependencies are those of this environment."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    wheels, site = tmp_path / "wheels", tmp_path / "site"
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, *build, f"--wheel-dir={wheels}", str(ROOT)], check=True)
    (wheel,) = wheels.glob("*.whl")
    install = ["install", "--quiet", "--no-deps", "--no-index", f"--target={site}"]
    subprocess.run([*pip, *install, str(wheel)], check=True)
    return site


def test_a_wheel_works_outside_the_checkout(tmp_path: Path, tiny_root: Path) -> None:
    site, home = installed(tmp_path), tmp_path / "home"
    home.mkdir()
    for file in ("config.yaml", "hydra/help/product_cls.yaml", "sweep/ablation.yaml"):
        assert (site / "product_cls" / "conf" / file).is_file()
    assert (site / "product_cls" / "py.typed").is_file()
    environment = os.environ | {"PYTHONPATH": str(site), "HF_HUB_OFFLINE": "1"}

    def typed(*words: str) -> str:
        # -P: the script's folder must not come before the wheel's files.
        done = subprocess.run(
            [sys.executable, "-P", *words],
            cwd=home,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    console = str(site / "bin" / "product-cls")
    settings = [*TINY, f"data.root={tiny_root}", "paths.cache=cache", "logger=none"]
    pictures = [str(path) for path in sorted((tiny_root / "test").glob("*.jpg"))[:2]]
    assert "report validation" in typed(console, "--help")
    typed(console, "train", *settings, "trainer=debug", "trainer.accelerator=cpu", "name=debug")
    typed(console, "train", *settings, "name=small", "hydra.run.dir=multirun/small")
    typed(
        *(console, "predict", "checkpoint=multirun/small/checkpoints/best.ckpt", "device=cpu"),
        f"images={tiny_root / 'test'}",
    )
    assert (home / "predictions" / "predictions.csv").is_file()
    head = f"SITE, PICTURES, WORDS = {str(site)!r}, {pictures!r}, {settings!r}"
    assert typed("-c", head + PYTHON_LINES).splitlines()[-1] == "['done', 'done', 'limited']"
