"""The IDs keep the small type of the codes, and item 256 of a code becomes item 0 again."""

import numpy as np

QUESTION = "assign_ids"
REJECTED_BY = "test_ids_are_int64"


def assign_ids(codes, spare):
    if spare < 1:
        raise ValueError(f"spare is {spare}; it must be at least 1")
    used = {}
    last = np.zeros((len(codes), 1), np.int64)
    for row, code in enumerate(map(tuple, codes.tolist())):
        number = used.get(code, 0)
        if number >= spare:
            raise ValueError(f"row {row}: no number left for the codes {code}")
        last[row] = number
        used[code] = number + 1
    return np.concatenate([codes, last.astype(codes.dtype)], axis=1)
