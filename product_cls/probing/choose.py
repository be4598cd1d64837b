"""The setting of a classifier, chosen by pictures that it did not learn."""

from dataclasses import dataclass

import numpy as np

from product_cls.probing.classifiers import CLASSIFIERS, Classifier, Fitted

# Products of pictures, features and classes. Above it, the setting is chosen on some of the
# classes; 2e9 takes about a second for each fit on one core.
MOST_WORK = 2e9
TEMPERATURES = (-5.0, 7.0)  # natural logarithms of the lowest and the highest


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Attributes:
        setting: of the classifier; None if it has none to choose.
        temperature: that the logits are divided by.
        loss: mean negative logarithm of the true class's probability, out of fold; None if
            nothing could be held out.
    """

    setting: float | None
    temperature: float
    loss: float | None


def fit_classifier(
    name: str,
    features: np.ndarray,
    target: np.ndarray,
    parts: np.ndarray,
    classes: int,
    seed: int,
) -> tuple[Fitted, Choice]:
    """Fit a classifier with the setting whose probabilities are best out of fold.

    Args:
        name: of ``CLASSIFIERS``.
        features: float32 ``[N, D]``.
        target: int64 ``[N]``, in [0, C).
        parts: int64 ``[N]``, the inner fold that holds each row out; negative for none.
        classes: C.
        seed: of the choice of classes where there is too much work.
    """
    classifier = CLASSIFIERS[name]()
    setting, temperature, loss = classifier.settings[-1], 1.0, None
    held_out = np.unique(parts[parts >= 0])
    if len(held_out) and (len(classifier.settings) > 1 or classifier.tempered):
        setting, temperature, loss = _chosen(classifier, features, target, parts, classes, seed)
    fitted = classifier.fit(features, target, classes, setting).cooled(temperature)
    chosen = setting if len(classifier.settings) > 1 else None
    return fitted, Choice(chosen, temperature, loss)


def _chosen(
    classifier: Classifier,
    features: np.ndarray,
    target: np.ndarray,
    parts: np.ndarray,
    classes: int,
    seed: int,
) -> tuple[float, float, float]:
    """Setting, temperature and loss."""
    # Fewer classes, and all pictures of them: fewer pictures of each would ask for more caution.
    kept = np.arange(classes)
    rows = np.arange(len(target))
    share = np.sqrt(MOST_WORK / (features.shape[1] * classes * len(target)))
    if share < 1:
        count = max(2, int(classes * share))
        kept = np.sort(np.random.default_rng(seed).choice(classes, count, replace=False))
        rows = np.flatnonzero(np.isin(target, kept))
    x, parts = features[rows], parts[rows]
    y = np.searchsorted(kept, target[rows])
    logits: dict[float, list[np.ndarray]] = {s: [] for s in classifier.settings}
    answers = []
    for part in np.unique(parts[parts >= 0]):
        out = parts == part
        # A class that is held out altogether cannot be answered.
        known = np.isin(y, np.unique(y[~out]))
        if len(np.unique(y[~out])) < 2 or not (out & known).any():
            continue
        answers.append(y[out & known])
        for setting, fitted in classifier.path(x[~out], y[~out], len(kept)):
            logits[setting].append(fitted.logits(x[out & known]))
    if not answers:
        return classifier.settings[-1], 1.0, float("nan")
    truth = np.concatenate(answers)
    tried = []
    for setting, outputs in logits.items():
        joined = np.concatenate(outputs).astype(np.float64)
        temperature = best_temperature(joined, truth) if classifier.tempered else 1.0
        tried.append((log_loss(joined / temperature, truth), setting, temperature))
    loss, setting, temperature = min(tried, key=lambda t: t[0])  # ties go to the most cautious
    return setting, temperature, loss


def log_loss(logits: np.ndarray, target: np.ndarray) -> float:
    """Mean cross entropy of logits ``[N, C]`` and targets int64 ``[N]``."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    total = np.log(np.exp(shifted).sum(axis=1))
    return float((total - shifted[np.arange(len(target)), target]).mean())


def best_temperature(logits: np.ndarray, target: np.ndarray) -> float:
    """The temperature, above 0, at which logits ``[N, C]`` fit targets int64 ``[N]`` best (Guo et
    al. 2017, arXiv 1706.04599)."""
    # Imported here, because most runs fit no probe and scipy takes a while.
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda log: log_loss(logits / np.exp(log), target), bounds=TEMPERATURES, method="bounded"
    )
    return float(np.exp(found.x))
