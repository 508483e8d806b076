"""Leaves out ln t: then an arm with bad luck at the start is never tried again."""

import numpy as np

QUESTION = "run_bandit"
REJECTED_BY = "test_ucb_pulls_the_highest_bound"


def run_bandit(rewards, means, rule, strength, rng):
    rounds, num_arms = rewards.shape
    if rule not in ("epsilon-greedy", "ucb"):
        raise ValueError(f"no rule {rule!r}")
    if strength < 0 or (rule == "epsilon-greedy" and strength > 1):
        raise ValueError(f"strength {strength} is out of range")
    counts, sums, arms = np.zeros(num_arms), np.zeros(num_arms), []
    for t in range(rounds):
        if t < num_arms:
            arm = t
        elif rule == "ucb":
            arm = int(np.argmax(sums / counts + strength * np.sqrt(2 / counts)))
        elif rng.random() < strength:
            arm = int(rng.integers(num_arms))
        else:
            arm = int(np.argmax(sums / counts))
        counts[arm] += 1
        sums[arm] += rewards[t, arm]
        arms.append(arm)
    arms = np.array(arms, dtype=int)
    return arms, np.cumsum(means.max() - means[arms])
