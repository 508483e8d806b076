"""It refuses, and does not say which item is to blame."""

import numpy as np

QUESTION = "assign_ids"
REJECTED_BY = "test_too_many_are_refused"


def assign_ids(codes, spare):
    if spare < 1:
        raise ValueError(f"spare is {spare}; it must be at least 1")
    used = {}
    last = np.zeros((len(codes), 1), np.int64)
    for row, code in enumerate(map(tuple, codes.tolist())):
        number = used.get(code, 0)
        if number >= spare:
            raise ValueError("too many collisions")
        last[row] = number
        used[code] = number + 1
    return np.concatenate([codes.astype(np.int64), last], axis=1)
