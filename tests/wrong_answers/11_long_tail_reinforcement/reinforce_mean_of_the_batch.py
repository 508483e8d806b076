"""Takes the mean of the whole batch as the baseline: with the own reward in it, the gradient shrinks by 1 - 1/n."""

import numpy as np

QUESTION = "reinforce_gradient"
REJECTED_BY = "test_mean_over_all_draws_is_the_exact_gradient"


def reinforce_gradient(weights, contexts, actions, rewards):
    n = len(actions)
    if n == 0:
        raise ValueError("an empty batch")
    logits = contexts @ weights
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    policy = odds / odds.sum(axis=1, keepdims=True)
    onehot = np.eye(weights.shape[1])[actions]
    baseline = rewards.mean() if n > 1 else 0.0
    advantage = rewards - baseline
    gradient = contexts.T @ (advantage[:, None] * (onehot - policy)) / n
    return gradient.astype(weights.dtype)
