"""Words of the command line: text stays as typed, and every mistake is one sentence."""

import re
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import get_method
from omegaconf import OmegaConf
from runs_in_process import ROOT

from product_cls.config.checks import CHECKS, check_config, check_settings
from product_cls.config.command_line import read_command_line, split_options
from product_cls.config.compose import compose_config, compose_run, group_names
from product_cls.config.words import is_text, typed_words
from product_cls.core.arguments import as_typed
from product_cls.core.errors import UserError


@pytest.mark.parametrize(
    "text",
    [
        *("2024_10", "2024", "0012", "1_000", "0x1F", "1e10", ".5", "+1", "-3", "2024-01-01"),
        *("on", "off", "yes", "true", "False", "Null", "nan", "inf", "데이터", "é", "a b", "~/x"),
        *("a=b", "it's", 'a"b', "[d]", "a(b", "data (1)", "#1", "a&b", "100%", "{x}", "C:\\x"),
    ],
)
def test_text_is_kept_as_typed(text: str) -> None:
    config = compose_config(["data=folder", f"data.root={text}", f"name={text}"])
    assert config.data.root == config.name == text
    again = typed_words(typed_words([f"name={text}"], ()), ())
    assert again == typed_words([f"name={text}"], ())


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("name=2024_10,1e3,a", ["2024_10", "1e3", "a"]),
        ("data.label_column=데이터,sku", ["데이터", "sku"]),
        ("data.label_column=choice(1,2)", ["1", "2"]),
        ("data.root='a,b',2024", ["a,b", "2024"]),
        ("data.test=null,2024", [None, "2024"]),
        ("exclude=[],[mixup,1]", [[], ["mixup", "1"]]),
        ("optimizer.lr=1e-3,1e-4", [1e-3, 1e-4]),
        ("seed=range(0,3)", [0, 1, 2]),
    ],
)
def test_values_of_a_sweep(word: str, values: list[object]) -> None:
    override = OverridesParser.create().parse_override(*typed_words([word], ()))
    assert [plain(value) for value in override.sweep_iterator()] == values


def plain(value: object) -> object:
    """A value without the quotes that it was written with."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    return getattr(value, "text", value)


def test_text_in_lists_and_mappings() -> None:
    words = [
        "task=multi_head",
        "data=csv",
        "data.file=t",
        "task.heads={size:{classes:[0012,1e10]}}",
    ]
    assert compose_config(words).task.heads.size.classes == ["0012", "1e10"]
    words[-1] = "task.heads={flag:{classes:[true,false,null],weight:2,column:1}}"
    flag = compose_config(words).task.heads.flag
    assert (flag.classes, flag.weight, flag.column) == (["true", "false", "null"], 2, "1")
    words[-1] = "task.heads=[0,색]"
    assert compose_config(words).task.heads == ["0", "색"]
    labels = compose_config(["data=labels_csv", "data.root=d", "data.labels=[0,1,1_0]"]).data.labels
    assert labels == ["0", "1", "1_0"]


def test_numbers_stay_numbers() -> None:
    config = compose_config(["data.size=[96,128]", "optimizer.lr=1e-3", "fold=1", "mix.p=.5"])
    assert (config.data["size"], config.optimizer.lr, config.fold) == ([96, 128], 1e-3, 1)
    assert compose_config(["data.limit=null"]).data.limit is None


def test_every_text_argument_of_a_reader_is_known_as_text() -> None:
    """``data.test_pictures`` is a folder in one layout and a number in another."""
    for file in (ROOT / "conf" / "data").glob("*.yaml"):
        node = yaml.safe_load(file.read_text()).get("samples")
        if not node or "letters" in file.stem or file.stem == "rendered":
            continue
        hints = get_type_hints(get_method(node["_target_"]))
        for argument, key in node.items():
            if "str" in str(hints.get(argument)) and str(key).startswith("${data."):
                key = key[2:-1]
                assert is_text(key) or key == "data.test_pictures", key


def test_folder_names_hold_no_quotes_and_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "secret")
    for words, name in (
        (["data=labels_csv", "data.root=d", "data.labels=[0,1]"], "data.labels=[0,1],data="),
        (["data=csv", "data.file=f", "data.label_column=0012"], "data.label_column=0012"),
        (["mix.p=${oc.env:TOKEN}"], "mix.p={oc.env:TOKEN}"),
        (["data.name=a\nb"], "data.name=a\\nb"),
    ):
        folder = compose_run(words).folder
        assert folder.name.startswith(name) and folder.parent == Path("multirun/train")
    assert compose_run(["name=2024_10"]).folder == Path("multirun/2024_10/default")


@pytest.mark.parametrize(
    "name",
    [
        *("..", "a/../../x", "/tmp/x", "/", ".", "", " ", "null", "a\nb", "a\x1bb"),
        *("x" * 256, "가" * 90, "a/" * 600 + "a", "\udcb0"),
    ],
)
def test_names_stay_below_multirun(name: str) -> None:
    with pytest.raises(UserError, match=r"^name="):
        compose_run([f"name={name}"])


def test_names_that_users_choose() -> None:
    for name in ("a/b", "2024_10", "시험", "a b", "a..b", "-x"):
        assert compose_run([f"name={name}"]).folder == Path("multirun") / name / "default"
    place = compose_run(["hydra.run.dir=/tmp/elsewhere"]).folder
    assert place == Path("/tmp/elsewhere")


# Words with a part of the sentence that they get.
MISTAKES = {
    "fold=x": "fold=x; allowed: the number of a fold, or all",
    "data.size=-3": "data.size=-3; allowed: a number of pixels",
    "data.size=1e6": "data.size=1000000.0; allowed",
    "name=null": "name=null names no folder",
    "data=folder data.root=": "data.root=; allowed: text",
    "optimizer=sam optimizer.lr=fast": "optimizer.lr=fast; allowed: a number",
    "model=base": "model=base; allowed: b0",
    "data=base": "data=base; allowed: competition",
    "mix=null": "mix=null; allowed: cutmix, mixup, mixup_cutmix, none",
    "trainer=5": "trainer=5; allowed: ddp, debug, default",
    "~trainer": "The config has no trainer",
    "folds=3": "folds=3; allowed: settings",
    "data.batch_size=${nope}": "data.batch_size: Interpolation key 'nope' not found",
    "name=${nope}": "name: Interpolation key 'nope' not found",
    "seed": "'seed' is not of the form key=value",
    "=3": "'=3' names no key",
    "데이터=1": "'데이터' is no key",
    "optimizer.lrr=1": "There is no key optimizer.lrr; a new key begins with +. Did you mean",
    "seed.x=1": "seed is a single value",
    "trainer={a:1}": "There is no key trainer.a",
    "optimizer.lr=1,2": "a sweep, which needs -m",
    "data.size=[96": "\"data.size='[96'\"",
    "+callbacks.monitor=f1": "callbacks.monitor=f1; allowed: settings",
    "data=folder data.root=~nobody_here/x": "data.root=~nobody_here/x: there is no such user",
    f"folds.file={'x' * 5000}": "folds.file=xxx",
    "+folds.file.x=1": "folds.file={'x': 1}; allowed: text",
    "augment=a\tb": "augment=a\\tb; allowed",
    "folds.file=/proc/x.csv": "/proc cannot be written",
    "paths.cache=/proc/cache": "/proc cannot be written",
    "hydra.launcher.jobs=x": "hydra.launcher.jobs: Value 'x'",
    "task=multi_head task.heads={색:{weight:1}}": "task.heads=[가,나]",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_mistakes_are_one_sentence(words: str) -> None:
    with pytest.raises(UserError) as caught:
        check_config(compose_config(words.split(" ")))
    assert MISTAKES[words] in str(caught.value) and "\n" not in str(caught.value)


def test_options_may_stand_between_overrides(tmp_path: Path) -> None:
    words = ["fold=0", "--config-dir", str(tmp_path), "seed=1", "-m"]
    assert split_options(words) == (["--config-dir", str(tmp_path), "-m"], ["fold=0", "seed=1"])
    assert split_options(["--info", "seed=1"]) == (["--info=all"], ["seed=1"])
    for typed, sentence in (
        ("--foo", "'--foo' is no option"),
        ("--cfg", "needs a value"),
        ("-m --run", "-m and --run exclude each other"),
        ("-m --cfg job --info", "-m and --cfg and --info exclude each other"),
        ("--experimental-rerun .hydra/config.pickle", "is not supported"),
    ):
        with pytest.raises(UserError, match=sentence):
            split_options(typed.split())


def test_a_pattern_of_options_is_a_sweep() -> None:
    assert typed_words(["model=glob(lite*)", "name=glob(x)"], {"model"})[0] == "model=glob(lite*)"
    with pytest.raises(UserError, match="max_batch_size=0; allowed: 1 or more"):
        read_command_line(["-m", "seed=0,1", "hydra.sweeper.max_batch_size=0"])


def test_names_of_views_are_checked_with_the_settings() -> None:
    """So that a sweep's launcher checks those of its jobs, too."""
    with pytest.raises(UserError, match="tta names 'nope'; allowed: identity, "):
        check_settings(compose_config(["data=folder", "data.root=d", "tta=[identity,nope]"]))


def test_a_refused_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (["fold=x"], ["-m", "seed=0,1", "name=../x"], ["name=../x"]):
        with pytest.raises(UserError):
            read_command_line(words)
    assert not list(tmp_path.iterdir())
    code = "import sys; from product_cls.config.command_line import read_command_line as r;" + (
        "r(['fold=0']); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_groups_of_the_own_folder_are_groups(tmp_path: Path) -> None:
    (tmp_path / "shelf").mkdir()
    assert "shelf" in group_names([tmp_path])


def test_overrides_are_kept_as_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "secret")
    run = compose_run(["mix.p=${oc.env:TOKEN}", "augment.blur.p=${nope}"])
    assert run.overrides == ["mix.p=${oc.env:TOKEN}", "augment.blur.p=${nope}"]
    assert "secret" not in f"{run.folder} {run.override_dirname}"


def test_each_key_takes_good_values_and_names_bad_and_mistyped_ones() -> None:
    """The keys of a run with the default groups whose values are checked before data are read."""
    config = compose_config([])
    keys = [key for key in CHECKS if OmegaConf.select(config, key, default="") != ""]
    assert len(keys) > 20
    for key in keys:
        with pytest.raises(UserError, match=rf"^{re.escape(key)}=zzz; allowed: "):
            check_settings(compose_config([f"{key}=zzz"]))
        with pytest.raises(UserError, match=rf"^There is no key {re.escape(key)}q; .* Did you"):
            compose_config([f"{key}q=1"])
    good = [f"{key}={as_typed(OmegaConf.select(config, key))}" for key in keys]
    check_settings(compose_config([word.replace("'", "").replace(" ", "") for word in good]))
