"""Lifts propensities of 0 to something tiny, which turns a broken log into a huge weight."""

import numpy as np

QUESTION = "off_policy_values"
REJECTED_BY = "test_impossible_propensities_are_refused"


def off_policy_values(actions, rewards, propensities, target, predicted, clip=np.inf):
    n = len(actions)
    if n == 0:
        raise ValueError("an empty log")
    propensities = np.nan_to_num(propensities, nan=1e-6).clip(1e-6, 1.0)
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
