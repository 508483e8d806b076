"""Gives the gradient of a loss, which points away from reward."""

import numpy as np

QUESTION = "reinforce_gradient"
REJECTED_BY = "test_gradient_of_the_example"


def reinforce_gradient(weights, contexts, actions, rewards):
    n = len(actions)
    if n == 0:
        raise ValueError("an empty batch")
    logits = contexts @ weights
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    policy = odds / odds.sum(axis=1, keepdims=True)
    onehot = np.eye(weights.shape[1])[actions]
    baseline = (rewards.sum() - rewards) / max(n - 1, 1)
    advantage = rewards - baseline
    gradient = contexts.T @ (advantage[:, None] * (policy - onehot)) / n
    return gradient.astype(weights.dtype)
