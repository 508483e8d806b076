"""The co-occurrence prior: what EASE and a Markov chain know, as log-probabilities to add to logits.

The one idea: a network on little data spends itself on learning that neighbours go together, which
counting knows at once. So counting speaks first, as two log-distributions over the items, and the
network only adds what it knows better. The prior is one named part: it ranks by itself ("no
network", the row that a network has to beat), and it can be left out to see what it was worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32
from scipy.special import log_softmax

from m6rec_mini.baselines import EASEConfig, Markov, MarkovConfig, RecencyEASE, total_ndcg
from m6rec_mini.catalog import History
from m6rec_mini.evaluation import Cases, Split

SMALLEST = 1e-9  # a probability under this is as good as none, and its log stays finite


@dataclass(frozen=True)
class PriorConfig:
    """Grids of the two parts, of the temperature of EASE, and of its weight against Markov's."""

    ease: EASEConfig = field(default_factory=lambda: EASEConfig(half_lives=(10.0, 5.0, 3.0, 2.0)))
    markov: MarkovConfig = field(default_factory=MarkovConfig)
    temperatures: Sequence[float] = (0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.3, 0.5)
    ease_weights: Sequence[float] = tuple(n / 10 for n in range(11))


class CooccurrencePrior:
    """log_prior = a * log softmax(EASE / temperature) + (1 - a) * log Markov, `a` from validation."""

    name = "EASE + Markov"

    def __init__(self, config: PriorConfig | None = None) -> None:
        self.config = config or PriorConfig()
        self.ease, self.markov = RecencyEASE(self.config.ease), Markov(self.config.markov)
        self.temperature, self.ease_weight = 1.0, 0.5

    def fit(self, split: Split) -> CooccurrencePrior:
        """Fit both parts; the temperature by likelihood and then the weight by NDCG@10, on validation."""
        self.ease.fit(split)
        self.markov.fit(split)
        cases = split.validation
        scores = self.ease.scores(cases.histories)
        self.temperature = max(self.config.temperatures, key=lambda t: _log_likelihood(scores / np.float32(t), cases))
        parts = self.parts(cases.histories)
        self.ease_weight = max(self.config.ease_weights, key=lambda a: total_ndcg(self._join(parts, a), split))
        return self

    def parts(self, histories: Sequence[History]) -> dict[str, Float32[np.ndarray, "cases items"]]:
        """The two log-distributions over all items, for whoever joins them by own weights."""
        ease = log_softmax(self.ease.scores(histories) / np.float32(self.temperature), axis=1)
        markov = self.markov.scores(histories)
        share = markov / np.maximum(markov.sum(axis=1, keepdims=True), SMALLEST)
        return {"ease": ease, "markov": np.log(np.maximum(share, SMALLEST))}

    def scores(self, histories: Sequence[History]) -> Float32[np.ndarray, "cases items"]:
        """The two parts, joined; a log-distribution but for its constant."""
        return self._join(self.parts(histories), self.ease_weight)

    @property
    def weights(self) -> dict[str, float]:
        """What validation gave to each part."""
        return {"ease": self.ease_weight, "markov": 1 - self.ease_weight}

    def arrays(self) -> dict[str, np.ndarray]:
        """All that was learnt, as arrays to save; `from_arrays` is the way back."""
        settings = [self.ease.half_life, self.markov.half_life, self.temperature, self.ease_weight]
        return {
            "ease": self.ease.matrix,
            "markov": self.markov.matrix,
            "popularity": self.ease.fallback,
            "settings": np.array(settings, np.float64),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> CooccurrencePrior:
        """The prior that gave these arrays; it scores the same. Raises ValueError if one is missing."""
        missing = {"ease", "markov", "popularity", "settings"} - set(arrays)
        if missing:
            raise ValueError(f"a saved prior needs the arrays {', '.join(sorted(missing))} too; save it again")
        prior = cls()
        prior.ease.matrix, prior.markov.matrix = arrays["ease"], arrays["markov"]
        prior.ease.fallback = prior.markov.fallback = arrays["popularity"]
        settings = (float(x) for x in arrays["settings"])
        prior.ease.half_life, prior.markov.half_life, prior.temperature, prior.ease_weight = settings
        return prior

    @staticmethod
    def _join(parts: Mapping[str, Float32[np.ndarray, "cases items"]], a: float) -> Float32[np.ndarray, "cases items"]:
        return np.float32(a) * parts["ease"] + np.float32(1 - a) * parts["markov"]


def _log_likelihood(logits: Float32[np.ndarray, "cases items"], cases: Cases) -> float:
    """Mean log-probability of the targets among items that the history does not hold."""
    unseen = logits.copy()
    for row, history in enumerate(cases.histories):
        unseen[row, history.items[history.items != cases.targets[row]]] = -np.inf
    return float(log_softmax(unseen, axis=1)[np.arange(len(cases)), cases.targets].sum())
