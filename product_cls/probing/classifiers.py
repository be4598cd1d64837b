"""Classifiers of fixed features. The solvers are those of torch, scikit-learn and SciPy.

Features are float32 ``[N, D]``, targets int64 ``[N]`` in [0, C). Features are standardised first,
to mean 0 and variance 1 over the pictures that are learned.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from product_cls.models.heads import Neighbours

LEAST_DEVIATION = 1e-6  # of a feature; smaller ones are constant but for rounding


@dataclass(frozen=True)
class Standard:
    """Mean and deviation of each feature, float32 ``[D]``."""

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> "Standard":
        """The statistics of features ``[N, D]``; a constant feature has deviation 1."""
        mean = features.mean(axis=0, dtype=np.float64)
        square = np.einsum("nd,nd->d", features, features, dtype=np.float64) / len(features)
        deviation = np.sqrt(np.maximum(square - mean**2, 0))
        deviation[deviation < LEAST_DEVIATION * np.maximum(1, np.abs(mean))] = 1
        return cls(mean.astype(np.float32), deviation.astype(np.float32))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Standardised features, float32 ``[N, D]``."""
        result = (features - self.mean) / self.deviation
        return np.asarray(result, np.float32)


class Fitted(ABC):
    """A classifier after fitting."""

    @abstractmethod
    def logits(self, features: np.ndarray) -> np.ndarray:
        """Features as they are, ``[N, D]``, to logits float32 ``[N, C]``."""

    @abstractmethod
    def cooled(self, temperature: float) -> "Fitted":
        """The classifier with its logits divided by a temperature above 0."""

    @abstractmethod
    def head(self) -> nn.Module:
        """A network's head: features as they are, ``[B, D]``, to logits ``[B, C]``."""


@dataclass(frozen=True)
class Linear(Fitted):
    """Weights ``[C, D]`` and biases ``[C]``, float64, of features as they are."""

    weight: np.ndarray
    bias: np.ndarray

    @classmethod
    def of_standardised(cls, weight: np.ndarray, bias: np.ndarray, standard: Standard) -> "Linear":
        """The same function of features as they are; the arguments are of standardised ones."""
        weight = weight.astype(np.float64) / standard.deviation
        return cls(weight, bias - weight @ standard.mean)

    def logits(self, features: np.ndarray) -> np.ndarray:
        product = features @ self.weight.T.astype(np.float32)
        return np.asarray(product + self.bias.astype(np.float32), np.float32)

    def cooled(self, temperature: float) -> "Linear":
        return Linear(self.weight / temperature, self.bias / temperature)

    def head(self) -> nn.Module:
        head = nn.Linear(self.weight.shape[1], len(self.weight))
        with torch.no_grad():
            head.weight.copy_(torch.from_numpy(self.weight))
            head.bias.copy_(torch.from_numpy(self.bias))
        return head


@dataclass(frozen=True)
class NearestPictures(Fitted):
    """Votes of the most similar of N learned pictures."""

    layer: Neighbours

    @torch.inference_mode()
    def logits(self, features: np.ndarray) -> np.ndarray:
        self.layer.eval()
        parts = [self.layer(part) for part in torch.from_numpy(features).split(1024)]
        return torch.cat(parts).numpy()

    def cooled(self, temperature: float) -> "NearestPictures":
        return replace(self, layer=self.layer.cooled(temperature))

    def head(self) -> nn.Module:
        return self.layer


class Classifier(ABC):
    """A kind of classifier.

    Attributes:
        settings: values of its one setting to choose from, the most cautious first.
        tempered: whether its logits need a temperature to become probabilities.
    """

    settings: ClassVar[tuple[float, ...]] = (0.0,)
    tempered: ClassVar[bool] = True

    @abstractmethod
    def fit(self, features: np.ndarray, target: np.ndarray, classes: int, setting: float) -> Fitted:
        """Fit it to features and targets with a setting."""

    def path(self, features: np.ndarray, target: np.ndarray, classes: int) -> Any:
        """Yield ``(setting, fitted)`` for each setting."""
        for setting in self.settings:
            yield setting, self.fit(features, target, classes, setting)


class Logistic(Classifier):
    """Multinomial logistic regression by torch's L-BFGS.

    The loss is the mean cross entropy plus ``setting / 2`` times the sum of squared weights.
    """

    settings = (1.0, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001, 0.00003, 0.00001)
    tempered = False
    # Steps and least change of the loss: of the final fit, and of each fit on the path, which goes
    # on from the last one and only has to rank the settings.
    FINAL, ON_PATH = (100, 1e-6), (30, 1e-5)

    def fit(self, features: np.ndarray, target: np.ndarray, classes: int, setting: float) -> Fitted:
        standard = Standard.of(features)
        start = torch.zeros(classes, features.shape[1] + 1)
        return self._fitted(standard(features), target, setting, start, standard, self.FINAL)

    def path(self, features: np.ndarray, target: np.ndarray, classes: int) -> Any:
        standard = Standard.of(features)
        standardised = standard(features)
        start = torch.zeros(classes, features.shape[1] + 1)  # each fit goes on from the last
        for setting in self.settings:
            yield (
                setting,
                self._fitted(standardised, target, setting, start, standard, self.ON_PATH),
            )

    @staticmethod
    def _fitted(
        features: np.ndarray,
        target: np.ndarray,
        penalty: float,
        start: Tensor,
        standard: Standard,
        effort: tuple[int, float],
    ) -> Linear:
        x, y = torch.from_numpy(features), torch.from_numpy(target)
        weight, bias = start[:, :-1].clone(), start[:, -1].clone()
        parameters = [weight.requires_grad_(), bias.requires_grad_()]
        solver = torch.optim.LBFGS(
            parameters,
            max_iter=effort[0],
            tolerance_grad=1e-5,
            tolerance_change=effort[1],
            line_search_fn="strong_wolfe",
        )

        def closure() -> Tensor:
            solver.zero_grad()
            loss = cross_entropy(x @ weight.T + bias, y) + penalty / 2 * weight.square().sum()
            loss.backward()
            return loss

        solver.step(closure)
        with torch.no_grad():
            start.copy_(torch.cat([weight, bias[:, None]], dim=1))
        return Linear.of_standardised(weight.detach().numpy(), bias.detach().numpy(), standard)


class Centroid(Classifier):
    """Nearest class mean of standardised features."""

    def fit(self, features: np.ndarray, target: np.ndarray, classes: int, setting: float) -> Fitted:
        standard = Standard.of(features)
        present, numbers = np.unique(target, return_inverse=True)
        means = class_means(standard(features), numbers)
        # |x - m|^2 / 2 without |x|^2 / 2, which is the same for all classes.
        return _of_present(means, -np.square(means).sum(axis=1) / 2, present, classes, standard)


class Discriminant(Classifier):
    """Linear discriminant analysis with the shrinkage of Ledoit and Wolf (scikit-learn)."""

    def fit(self, features: np.ndarray, target: np.ndarray, classes: int, setting: float) -> Fitted:
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        standard = Standard.of(features)
        present = np.unique(target)
        equal = np.full(len(present), 1 / len(present))
        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=equal)
        model.fit(standard(features), target)
        coefficients, intercept = model.coef_, model.intercept_
        if len(present) == 2:  # scikit-learn keeps the difference of two classes only
            coefficients = np.concatenate([-coefficients, coefficients]) / 2
            intercept = np.concatenate([-intercept, intercept]) / 2
        return _of_present(coefficients, intercept, present, classes, standard)


class Ridge(Classifier):
    """Ridge regression of class indicators (scikit-learn); its setting is the penalty."""

    settings = (100_000.0, 10_000.0, 3_000.0, 1_000.0, 300.0, 100.0, 10.0)

    def fit(self, features: np.ndarray, target: np.ndarray, classes: int, setting: float) -> Fitted:
        from sklearn import linear_model

        standard = Standard.of(features)
        present, numbers = np.unique(target, return_inverse=True)
        indicators = np.zeros((len(target), len(present)), np.float32)
        indicators[np.arange(len(target)), numbers] = 1
        model = linear_model.Ridge(alpha=setting, solver="cholesky")
        model.fit(standard(features), indicators)
        return _of_present(model.coef_, model.intercept_, present, classes, standard)


class Nearest(Classifier):
    """Votes of the nearest pictures by cosine of standardised features; k is the setting."""

    settings = (20.0, 10.0, 5.0, 3.0, 1.0)

    def fit(self, features: np.ndarray, target: np.ndarray, classes: int, setting: float) -> Fitted:
        standard = Standard.of(features)
        layer = Neighbours(features.shape[1], classes, len(features), int(setting))
        layer.learn(
            torch.from_numpy(features),
            torch.from_numpy(target),
            torch.from_numpy(standard.mean),
            torch.from_numpy(standard.deviation),
        )
        return NearestPictures(layer)


CLASSIFIERS: dict[str, type[Classifier]] = {
    "logistic": Logistic,
    "lda": Discriminant,
    "ridge": Ridge,
    "centroid": Centroid,
    "knn": Nearest,
}


def class_means(features: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Mean of each class's features, float64 ``[C, D]``; each class has a picture."""
    sums = np.zeros((target.max() + 1, features.shape[1]))
    np.add.at(sums, target, features)
    return sums / np.bincount(target)[:, None]


def _of_present(
    weight: np.ndarray, bias: np.ndarray, present: np.ndarray, classes: int, standard: Standard
) -> Linear:
    """A linear classifier of all classes; those that were not learned have the least logits."""
    whole = np.zeros((classes, weight.shape[1]))
    whole[present] = weight
    # Far below the others, but finite, because checkpoints hold finite numbers only.
    biases = np.full(classes, bias.min() - 1e4)
    biases[present] = bias
    return Linear.of_standardised(whole, biases, standard)
