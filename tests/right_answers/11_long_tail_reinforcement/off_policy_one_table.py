"""All three estimates as columns of one table of terms, and arrays for a result."""

import numpy as np

QUESTION = "off_policy_values"


def off_policy_values(actions, rewards, propensities, target, predicted, clip=np.inf):
    if not len(rewards):
        raise ValueError("the log has no rounds")
    if np.any(~(propensities > 0)) or propensities.max() > 1:
        raise ValueError("propensities must lie in (0, 1]")
    pick = np.asarray(actions)[:, None]
    w = np.take_along_axis(target, pick, 1)[:, 0] / propensities
    w[w > clip] = clip
    error = rewards - np.take_along_axis(predicted, pick, 1)[:, 0]
    with np.errstate(invalid="ignore"):
        share = w / w.sum()
    ratio = share @ rewards
    n = len(w)
    terms = np.column_stack(
        [w * rewards, ratio + n * share * (rewards - ratio), np.einsum("na,na->n", target, predicted) + w * error]
    )
    mean = terms.mean(axis=0)
    if n == 1:
        half = np.full(3, np.inf)
    else:
        half = 1.96 * np.sqrt(np.var(terms, axis=0) / (n - 1))
    return {
        name: np.array([mean[k], mean[k] - half[k], mean[k] + half[k]]) for k, name in enumerate(("ips", "snips", "dr"))
    }
