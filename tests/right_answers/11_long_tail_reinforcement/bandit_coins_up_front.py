"""All chance is drawn before the game; 32-bit integers and floats come back."""

import numpy as np

QUESTION = "run_bandit"


def run_bandit(rewards, means, rule, strength, rng):
    """A coin and a random arm for every round, whether they are used or not."""
    rounds, k = rewards.shape
    limits = {"epsilon-greedy": 1.0, "ucb": np.inf}
    if rule not in limits or not 0 <= strength <= limits[rule]:
        raise ValueError("rule or strength is not one of those that I know")
    arm_drawn, explores = rng.integers(0, k, rounds), rng.random(rounds) < strength
    history = np.zeros((rounds, k))  # one-hot of the pulls
    arms = np.zeros(rounds, np.int32)
    for t in range(rounds):
        n = history[:t].sum(axis=0)
        mean = (history[:t] * rewards[:t]).sum(axis=0) / np.maximum(n, 1)
        bonus = np.sqrt(2 * np.log(max(t, 1)) / np.maximum(n, 1)) * (strength if rule == "ucb" else 0)
        arms[t] = np.where(n == 0, np.inf, mean + bonus).argmax()
        if rule == "epsilon-greedy" and t >= k and explores[t]:
            arms[t] = arm_drawn[t]
        history[t, arms[t]] = 1
    return [arms, np.cumsum(np.max(means) - np.asarray(means)[arms]).astype(np.float32)]
