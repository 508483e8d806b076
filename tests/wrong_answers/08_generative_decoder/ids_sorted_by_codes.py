"""The rows come back in order of their codes (as from np.unique): every item has somebody else's ID."""

import numpy as np

QUESTION = "assign_ids"
REJECTED_BY = "test_every_id_is_different"


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
    ids = np.concatenate([codes.astype(np.int64), last], axis=1)
    return np.array(sorted(ids.tolist()), np.int64).reshape(ids.shape)
