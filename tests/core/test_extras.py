"""Messages about missing optional packages."""

import re
import tomllib
from pathlib import Path

from product_cls.core.extras import missing_extra

ROOT = Path(__file__).parents[2]


def test_message_names_package_and_extra() -> None:
    assert str(missing_extra("logger=mlflow needs MLflow", "mlflow")) == (
        'logger=mlflow needs MLflow, which is not installed: pip install "product-cls[mlflow]".'
    )


def test_messages_suit_users_of_the_wheel_and_name_extras_that_exist() -> None:
    text = "".join(file.read_text() for file in (ROOT / "product_cls").rglob("*.py"))
    assert "pip install -e" not in text
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = set(re.findall(r'missing_extra\([^()]*"(\w+)"\s*\)', text))
    assert len(named) >= 6 and named <= set(project["optional-dependencies"])
