"""Takes the gradient of the drawn logit only, and forgets that the softmax divides by the sum of all."""

import numpy as np

QUESTION = "reinforce_gradient"
REJECTED_BY = "test_mean_over_all_draws_is_the_exact_gradient"


def reinforce_gradient(weights, contexts, actions, rewards):
    n = len(actions)
    if n == 0:
        raise ValueError("an empty batch")
    onehot = np.eye(weights.shape[1])[actions]
    baseline = (rewards.sum() - rewards) / max(n - 1, 1)
    advantage = rewards - baseline
    gradient = contexts.T @ (advantage[:, None] * onehot) / n
    return gradient.astype(weights.dtype)
