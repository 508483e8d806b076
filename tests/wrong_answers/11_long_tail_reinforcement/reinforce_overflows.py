"""Exponentiates the logits as they are: exp(1000) is infinite, and infinity over infinity is no number."""

import numpy as np

QUESTION = "reinforce_gradient"
REJECTED_BY = "test_large_logits_stay_finite"


def reinforce_gradient(weights, contexts, actions, rewards):
    n = len(actions)
    if n == 0:
        raise ValueError("an empty batch")
    logits = contexts @ weights
    odds = np.exp(logits)
    policy = odds / odds.sum(axis=1, keepdims=True)
    onehot = np.eye(weights.shape[1])[actions]
    baseline = (rewards.sum() - rewards) / max(n - 1, 1)
    advantage = rewards - baseline
    gradient = contexts.T @ (advantage[:, None] * (onehot - policy)) / n
    return gradient.astype(weights.dtype)
