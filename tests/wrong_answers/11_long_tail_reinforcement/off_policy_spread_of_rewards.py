"""Takes the standard error of the logged rewards, as if weighting had cost nothing: far too narrow."""

import numpy as np

QUESTION = "off_policy_values"
REJECTED_BY = "test_intervals_come_from_the_spread_of_the_terms"


def off_policy_values(actions, rewards, propensities, target, predicted, clip=np.inf):
    n = len(actions)
    if n == 0:
        raise ValueError("an empty log")
    if not ((propensities > 0) & (propensities <= 1)).all():
        raise ValueError("a propensity must be above 0 and at most 1")
    rows = np.arange(n)
    weights = np.minimum(target[rows, actions] / propensities, clip)

    def interval(terms):
        value = terms.mean()
        half = 1.96 * rewards.std(ddof=1) / np.sqrt(n) if n > 1 else np.inf
        return (value, value - half, value + half)

    found = {"ips": interval(weights * rewards)}
    if weights.sum() > 0:
        v = (weights * rewards).sum() / weights.sum()
        found["snips"] = interval(v + weights * (rewards - v) / weights.mean())
    else:
        found["snips"] = (np.nan, np.nan, np.nan)
    model = (target * predicted).sum(axis=1)
    found["dr"] = interval(model + weights * (rewards - predicted[rows, actions]))
    return found
