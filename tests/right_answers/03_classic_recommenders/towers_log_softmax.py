"""A log-softmax of the square with a large finite mask; the loss is its trace; a NumPy number comes back."""

import numpy as np

QUESTION = "in_batch_softmax_loss"


def in_batch_softmax_loss(users, items, item_ids, log_q, temperature):
    if len(users) == 0 or not (temperature > 0):
        raise ValueError("there must be pairs and a positive temperature")
    square = np.einsum("id,jd->ij", users, items) / temperature - (0 if log_q is None else log_q)
    square[(item_ids[:, None] - item_ids[None] == 0) & (np.eye(len(users)) == 0)] = -1e300
    square -= square.max(1, keepdims=True)
    log_softmax = square - np.log(np.exp(square).sum(1, keepdims=True))
    return -np.trace(log_softmax) / len(users), (np.exp(log_softmax) - np.identity(len(users))) / len(users)
