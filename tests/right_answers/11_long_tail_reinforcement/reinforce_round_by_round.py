"""A loop over rounds and arms, with log-sum-exp by hand."""

import math

import numpy as np

QUESTION = "reinforce_gradient"


def reinforce_gradient(weights, contexts, actions, rewards):
    rounds = len(rewards)
    if not rounds:
        raise ValueError("nothing to learn from")
    total = sum(float(r) for r in rewards)
    result = np.zeros(weights.shape)
    for x, action, reward in zip(contexts, actions, rewards):
        z = x @ weights
        top = max(z)
        log_policy = z - top - math.log(sum(math.exp(v - top) for v in z))
        baseline = (total - float(reward)) / (rounds - 1) if rounds > 1 else 0.0
        for arm in range(len(z)):
            slope = (1 if arm == action else 0) - math.exp(log_policy[arm])
            result[:, arm] += (float(reward) - baseline) * slope * x
    return np.asarray(result / rounds, dtype=weights.dtype)
