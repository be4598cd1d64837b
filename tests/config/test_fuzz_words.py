"""Any words for any key: a config, or one sentence.

``helpers/fuzzing.py`` sets how many.
"""

from pathlib import Path

import pytest
import yaml
from fuzzing import fuzz
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from runs_in_process import ROOT

from product_cls.config.checks import check_settings
from product_cls.config.compose import compose_run
from product_cls.core.errors import UserError
from product_cls.core.nested import flatten

GROUPS = sorted(path.name for path in (ROOT / "conf").iterdir() if path.is_dir())


def keys_of_conf() -> list[str]:
    """Dotted keys of config.yaml and of the files of all groups."""
    keys = {"hydra.run.dir", "hydra.sweep.dir", "hydra.launcher.jobs", "trainer.max_steps", "x"}
    for file in (ROOT / "conf").glob("*/*.yaml"):
        content = yaml.safe_load(file.read_text()) or {}
        keys |= {f"{file.parent.name}.{key}" for key in flatten(content)}
    keys |= set(flatten(yaml.safe_load((ROOT / "conf" / "config.yaml").read_text())))
    return sorted(key for key in keys if "defaults" not in key and "@" not in key)


KEYS = keys_of_conf()
ODD = (
    *(
        "",
        "null",
        "true",
        "0",
        "-1",
        "1e400",
        "nan",
        "2024_10",
        "[]",
        "{}",
        "[[",
        "{a:1}",
        "..",
        "/",
    ),
    *("'", '"', "\\", ",", ",,", "a,b", "데이터", "${", "${x}", "${oc.env:NOPE}", "${oc.env:HOME}"),
    *("choice()", "range(1,2)", "glob(*)", "int(x)", "a\nb", "\x1b", "\udcb0", "~", "=", "???"),
    *(
        "${.x}",
        "${..}",
        "$",
        "a" * 300,
        "[1,2,3]",
        "{_target_: os.getcwd}",
        "!",
        "*",
        "&a",
        "9" * 5000,
    ),
)
VALUES = st.one_of(
    st.sampled_from(ODD),
    st.text(max_size=12),
    st.integers().map(str),
    st.floats().map(str),
    st.lists(st.sampled_from(ODD), max_size=3).map(lambda parts: f"[{','.join(parts)}]"),
    st.tuples(st.sampled_from(ODD), st.sampled_from(ODD)).map("".join),
)
WORDS = st.one_of(
    st.tuples(
        st.sampled_from(("", "", "", "+", "++", "~")),
        st.sampled_from((*KEYS, *GROUPS)),
        st.sampled_from(("=", "=", "=", ".x=", "")),
        VALUES,
    ).map("".join),
    st.text(max_size=12),
)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@fuzz(2)
@given(st.lists(WORDS, min_size=1, max_size=3))
@example(["data.root='"])
@example(["name=${name}"])
def test_any_words_give_a_config_or_a_sentence(words: list[str]) -> None:
    try:
        run = compose_run(words)
        check_settings(run.config)
        OmegaConf.to_container(run.config, resolve=False)
    except UserError as error:
        assert "\n" not in str(error) and str(error).strip(), str(error)
    assert not list(Path.cwd().iterdir())
