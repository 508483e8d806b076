"""The first item of a code gets 1, and one number of the last level is never used."""

import numpy as np

QUESTION = "assign_ids"
REJECTED_BY = "test_four_items_by_hand"


def assign_ids(codes, spare):
    if spare < 1:
        raise ValueError(f"spare is {spare}; it must be at least 1")
    used = {}
    last = np.zeros((len(codes), 1), np.int64)
    for row, code in enumerate(map(tuple, codes.tolist())):
        number = used.get(code, 0)
        if number >= spare:
            raise ValueError(f"row {row}: no number left for the codes {code}")
        last[row] = number + 1
        used[code] = number + 1
    return np.concatenate([codes.astype(np.int64), last], axis=1)
