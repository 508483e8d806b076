"""The codes are joined to a text without a comma: [1, 11] and [11, 1] are both "111"."""

import numpy as np

QUESTION = "assign_ids"
REJECTED_BY = "test_different_codes_are_not_confused"


def assign_ids(codes, spare):
    if spare < 1:
        raise ValueError(f"spare is {spare}; it must be at least 1")
    used = {}
    last = np.zeros((len(codes), 1), np.int64)
    for row, code in enumerate(map(tuple, codes.tolist())):
        code = "".join(map(str, code))
        number = used.get(code, 0)
        if number >= spare:
            raise ValueError(f"row {row}: no number left for the codes {code}")
        last[row] = number
        used[code] = number + 1
    return np.concatenate([codes.astype(np.int64), last], axis=1)
