"""Uses that the advantage against the others is n/(n-1) times the one against the mean of all."""

import numpy as np

QUESTION = "reinforce_gradient"


def reinforce_gradient(weights, contexts, actions, rewards):
    n, arms = len(contexts), weights.shape[1]
    if n < 1:
        raise ValueError("no rounds")
    rewards = np.asarray(rewards, dtype=np.float64)
    advantage = (rewards - rewards.mean()) * n / (n - 1) if n >= 2 else rewards
    logits = np.einsum("nw,wa->na", contexts, weights)
    policy = np.exp(logits - np.logaddexp.reduce(logits, axis=1)[:, None])
    score = (np.arange(arms) == np.asarray(actions)[:, None]) - policy
    return np.einsum("n,nw,na->wa", advantage, contexts, score).astype(weights.dtype) / weights.dtype.type(n)
