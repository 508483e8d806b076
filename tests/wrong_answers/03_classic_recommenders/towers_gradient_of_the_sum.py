"""The loss is a mean, the gradient that of the sum: a learning rate that grows with the batch."""

import numpy as np

QUESTION = "in_batch_softmax_loss"
REJECTED_BY = "test_plain_in_batch_softmax"


def in_batch_softmax_loss(users, items, item_ids, log_q, temperature):
    if len(users) == 0 or not temperature > 0:
        raise ValueError("give at least one pair, and a temperature above 0")
    rows = np.arange(len(users))
    logits = users @ items.T / temperature
    if log_q is not None:
        logits = logits - log_q[None, :]
    hits = item_ids[:, None] == item_ids[None, :]
    hits[rows, rows] = False
    logits = np.where(hits, -np.inf, logits)
    logits = logits - logits.max(axis=1, keepdims=True)
    odds = np.exp(logits)
    loss = np.mean(np.log(odds.sum(axis=1)) - logits[rows, rows])
    gradient = odds / odds.sum(axis=1, keepdims=True)
    gradient[rows, rows] -= 1
    return loss, gradient
