"""Counter on the bytes of each row, and an array filled place by place."""

from collections import Counter

import numpy as np

QUESTION = "assign_ids"


def assign_ids(codes, spare):
    if spare <= 0:
        raise ValueError(f"spare {spare}")
    ids = np.zeros((codes.shape[0], codes.shape[1] + 1), dtype="int64")
    ids[:, :-1] = codes
    seen = Counter()
    for n in range(len(codes)):
        key = ids[n, :-1].tobytes()
        if seen[key] == spare:
            raise ValueError(f"no ID for row {n}; {spare} others have its codes")
        ids[n, -1] = seen[key]
        seen[key] += 1
    return ids
