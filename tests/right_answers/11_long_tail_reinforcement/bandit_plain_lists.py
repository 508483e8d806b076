"""Running means in plain Python lists, and lists for a result."""

import math

QUESTION = "run_bandit"


def run_bandit(rewards, means, rule, strength, rng):
    if rule != "ucb" and rule != "epsilon-greedy":
        raise ValueError("unknown rule: " + repr(rule))
    if strength < 0 or (rule != "ucb" and strength > 1):
        raise ValueError("strength out of range")
    table, best = rewards.tolist(), max(means)
    number = rewards.shape[1]
    pulled, lost = [], []
    count, average = [0] * number, [0.0] * number
    for t, row in enumerate(table):
        unseen = [a for a in range(number) if count[a] == 0]
        if unseen:
            arm = unseen[0]
        elif rule == "ucb":
            width = [strength * math.sqrt(2 * math.log(t) / n) for n in count]
            arm = max(range(number), key=lambda a: (average[a] + width[a], -a))
        else:
            explore = rng.uniform() < strength
            arm = int(rng.choice(number)) if explore else average.index(max(average))
        count[arm] += 1
        average[arm] += (row[arm] - average[arm]) / count[arm]
        pulled.append(arm)
        lost.append((lost[-1] if lost else 0.0) + float(best - means[arm]))
    return pulled, lost
