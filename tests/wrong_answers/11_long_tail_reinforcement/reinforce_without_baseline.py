"""Multiplies by the bare reward. Unbiased, and so noisy with rewards far from zero that it hardly learns."""

import numpy as np

QUESTION = "reinforce_gradient"
REJECTED_BY = "test_the_baseline_cuts_the_variance"


def reinforce_gradient(weights, contexts, actions, rewards):
    n = len(actions)
    if n == 0:
        raise ValueError("an empty batch")
    logits = contexts @ weights
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    policy = odds / odds.sum(axis=1, keepdims=True)
    onehot = np.eye(weights.shape[1])[actions]
    baseline = 0.0
    advantage = rewards - baseline
    gradient = contexts.T @ (advantage[:, None] * (onehot - policy)) / n
    return gradient.astype(weights.dtype)
