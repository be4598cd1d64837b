"""One label per picture, by a classifier that is fitted to a frozen backbone's features."""

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import nn

from product_cls.core.errors import UserError
from product_cls.core.view_names import check_view_names
from product_cls.models.heads import Neighbours
from product_cls.probing.classifiers import CLASSIFIERS
from product_cls.tasks.single_label import SingleLabel


class Probe(SingleLabel):
    """A classifier of fixed features.

    What a linear one has learned is a ``SingleLabel`` network like any other, and its ``spec`` says
    so: such a run votes with fine-tuned runs, and fine-tuning can start from it.

    Args:
        label: column of the sample table.
        classifier: a name of ``probing.classifiers.CLASSIFIERS``.
        views: of test-time augmentation, whose features are learned, too.
        classes: only to rebuild a task from a checkpoint, as ``pictures`` and ``k``.
        pictures: number of pictures that vote, with ``knn``.
        k: number of neighbours, with ``knn``.

    Raises:
        ValueError: an unknown classifier, or views that ``tta`` would refuse.
    """

    name: ClassVar[str] = "probe"
    teachable: ClassVar[bool] = False
    fits_features: ClassVar[bool] = True

    def __init__(
        self,
        label: str = "label",
        classifier: str = "logistic",
        views: Sequence[str] = ("identity",),
        classes: list[str] | None = None,
        *,
        pictures: int | None = None,
        k: int | None = None,
    ) -> None:
        super().__init__(label, classes=classes)
        if classifier not in CLASSIFIERS:
            allowed = ", ".join(CLASSIFIERS)
            raise ValueError(f"classifier={classifier}; allowed: {allowed}.")
        self.classifier, self.views = classifier, [str(view) for view in views]
        try:
            check_view_names(self.views)
        except UserError:
            raise ValueError(
                f"views=[{','.join(self.views)}]; allowed: one or more different views of tta."
            ) from None
        self.pictures, self.k = pictures, k

    def head(self, in_features: int) -> nn.Module:
        """A head for a fitted classifier's weights; of ``knn`` only once it is fitted."""
        if self.pictures is None or self.k is None:
            return super().head(in_features)
        return Neighbours(in_features, len(self.classes), self.pictures, self.k)

    def learned(self, head: nn.Module) -> None:
        """Note what ``head`` needs to be built again: the sizes of a fitted ``Neighbours``."""
        if isinstance(head, Neighbours):
            self.pictures, self.k = len(head.features), head.k

    def spec(self) -> dict[str, Any]:
        if self.pictures is None:
            return {**super().spec(), "name": SingleLabel.name}
        return {
            "name": self.name,
            "label": self.label,
            "classes": list(self.classes),
            "classifier": self.classifier,
            "pictures": self.pictures,
            "k": self.k,
        }
