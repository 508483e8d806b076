"""Adds the rounds up and does not divide, so that the step grows with the batch."""

import numpy as np

QUESTION = "reinforce_gradient"
REJECTED_BY = "test_every_round_against_the_others"


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
    gradient = contexts.T @ (advantage[:, None] * (onehot - policy))
    return gradient.astype(weights.dtype)
