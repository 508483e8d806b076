"""The codes become one number in base 10, so [1, 11] and [2, 1] are taken for the same."""

import numpy as np

QUESTION = "assign_ids"
REJECTED_BY = "test_different_codes_are_not_confused"


def assign_ids(codes, spare):
    if spare < 1:
        raise ValueError(f"spare is {spare}; it must be at least 1")
    used = {}
    last = np.zeros((len(codes), 1), np.int64)
    for row, code in enumerate(map(tuple, codes.tolist())):
        code = sum(part * 10**place for place, part in enumerate(reversed(code)))
        number = used.get(code, 0)
        if number >= spare:
            raise ValueError(f"row {row}: no number left for the codes {code}")
        last[row] = number
        used[code] = number + 1
    return np.concatenate([codes.astype(np.int64), last], axis=1)
