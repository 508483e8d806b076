"""Takes log q off before dividing by the temperature, which makes the correction 14 times too strong at 0.07."""

import numpy as np

QUESTION = "in_batch_softmax_loss"
REJECTED_BY = "test_log_q_comes_off_every_column"


def in_batch_softmax_loss(users, items, item_ids, log_q, temperature):
    if len(users) == 0 or not temperature > 0:
        raise ValueError("give at least one pair, and a temperature above 0")
    rows = np.arange(len(users))
    logits = users @ items.T
    if log_q is not None:
        logits = logits - log_q[None, :]
    logits = logits / temperature
    hits = item_ids[:, None] == item_ids[None, :]
    hits[rows, rows] = False
    logits = np.where(hits, -np.inf, logits)
    logits = logits - logits.max(axis=1, keepdims=True)
    odds = np.exp(logits)
    loss = np.mean(np.log(odds.sum(axis=1)) - logits[rows, rows])
    gradient = odds / odds.sum(axis=1, keepdims=True)
    gradient[rows, rows] -= 1
    return loss, gradient / len(rows)
