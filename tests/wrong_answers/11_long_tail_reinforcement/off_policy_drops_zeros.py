"""Leaves rounds with a bad propensity out, so that the estimate is about another, unknown population."""

import numpy as np

QUESTION = "off_policy_values"
REJECTED_BY = "test_impossible_propensities_are_refused"


def off_policy_values(actions, rewards, propensities, target, predicted, clip=np.inf):
    good = (propensities > 0) & (propensities <= 1)
    actions, rewards, propensities = actions[good], rewards[good], propensities[good]
    target, predicted, n = target[good], predicted[good], int(good.sum())
    if n == 0:
        raise ValueError("an empty log")
    rows = np.arange(n)
    weights = np.minimum(target[rows, actions] / propensities, clip)

    def interval(terms):
        value = terms.mean()
        half = 1.96 * terms.std(ddof=1) / np.sqrt(n) if n > 1 else np.inf
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
