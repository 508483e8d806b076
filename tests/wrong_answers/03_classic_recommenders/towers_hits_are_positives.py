"""Counts accidental hits as further positives, each with its share of the target."""

import numpy as np

QUESTION = "in_batch_softmax_loss"
REJECTED_BY = "test_accidental_hits_take_no_part"


def in_batch_softmax_loss(users, items, item_ids, log_q, temperature):
    if len(users) == 0 or not temperature > 0:
        raise ValueError("give at least one pair, and a temperature above 0")
    rows = np.arange(len(users))
    logits = users @ items.T / temperature
    if log_q is not None:
        logits = logits - log_q[None, :]
    hits = item_ids[:, None] == item_ids[None, :]
    logits = logits - logits.max(axis=1, keepdims=True)
    odds = np.exp(logits)
    loss = np.mean(np.log(odds.sum(axis=1)) - (logits * hits).sum(axis=1) / hits.sum(axis=1))
    gradient = odds / odds.sum(axis=1, keepdims=True)
    gradient -= hits / hits.sum(axis=1, keepdims=True)
    return loss, gradient / len(rows)
