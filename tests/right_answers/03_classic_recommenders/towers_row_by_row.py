"""Each row by itself, from the columns that take part; lists come back."""

import numpy as np

QUESTION = "in_batch_softmax_loss"


def in_batch_softmax_loss(users, items, item_ids, log_q, temperature):
    count = len(item_ids)
    if count < 1:
        raise ValueError("no pairs")
    if temperature <= 0 or temperature != temperature:
        raise ValueError("the temperature must be positive")
    losses, gradient = [], [[0.0] * count for _ in range(count)]
    for i in range(count):
        taking = [j for j in range(count) if j == i or item_ids[j] != item_ids[i]]
        line = np.array([users[i] @ items[j] / temperature for j in taking])
        if log_q is not None:
            line = line - log_q[taking]
        total = np.logaddexp.reduce(line)
        losses.append(total - line[taking.index(i)])
        for j, logit in zip(taking, line):
            gradient[i][j] = float(np.exp(logit - total) - (i == j)) / count
    return [float(np.mean(losses)), gradient]
