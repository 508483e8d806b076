"""Divides the weighted rewards by the number of rounds where SNIPS divides by the sum of the weights."""

import numpy as np

QUESTION = "off_policy_values"
REJECTED_BY = "test_what_snips_and_dr_are_good_for"


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
        half = 1.96 * terms.std(ddof=1) / np.sqrt(n) if n > 1 else np.inf
        return (value, value - half, value + half)

    found = {"ips": interval(weights * rewards)}
    if weights.sum() > 0:
        found["snips"] = interval(weights * rewards)
    else:
        found["snips"] = (np.nan, np.nan, np.nan)
    model = (target * predicted).sum(axis=1)
    found["dr"] = interval(model + weights * (rewards - predicted[rows, actions]))
    return found
