"""Messages about arguments, renamed by callers."""

import pytest

from product_cls.core.arguments import argument_of, renamed_arguments
from product_cls.core.errors import UserError


def test_the_argument_of_a_message() -> None:
    assert argument_of("gamma=-1; allowed: 0 or more.") == "gamma"
    assert argument_of("heads.age-group.weight=0; allowed: above 0.") == "heads.age-group.weight"
    assert argument_of("No training picture has gamma=1.") is None


@pytest.mark.parametrize(
    ("sentence", "renamed"),
    [
        ("kind=big; allowed: log.", "weights=big; allowed: log."),
        ("kind.a=1.", "weights.a=1."),  # an entry of a renamed argument
        ("beta=2.", "loss.beta=2."),
        ("The loss takes no weights.", "loss: The loss takes no weights."),
    ],
)
def test_renamed_arguments(sentence: str, renamed: str) -> None:
    with pytest.raises(ValueError) as caught, renamed_arguments("loss", kind="weights"):
        raise ValueError(sentence)
    assert str(caught.value) == renamed and not isinstance(caught.value, UserError)


def test_later_arguments_are_renamed_where_they_are_known() -> None:
    with (
        pytest.raises(ValueError) as caught,
        renamed_arguments("data", size="data.size", k="k_max"),
    ):
        raise ValueError("k=3 (size=2, 'k=1') needs rows with split=val in /runs/k=1,size=2.")
    assert str(caught.value) == (
        "k_max=3 (data.size=2, 'k_max=1') needs rows with split=val in /runs/k=1,size=2."
    )


def test_messages_for_users_are_unchanged() -> None:
    with pytest.raises(UserError, match=r"^kind=big\.$"), renamed_arguments(kind="weights"):
        raise UserError("kind=big.")
