"""Packages that only some features need: the message when one is missing."""

from product_cls.core.errors import UserError


def missing_extra(need: str, extra: str) -> UserError:
    """The error for a feature whose packages are not installed.

    Args:
        need: what needs which package, without a full stop: ``logger=mlflow needs MLflow``.
        extra: the extra of product-cls that installs the package.
    """
    return UserError(f'{need}, which is not installed: pip install "product-cls[{extra}]".')
