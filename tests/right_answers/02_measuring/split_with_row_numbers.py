"""Makes the order total with the row number as the last key, so that any sort will do; a list of arrays."""

import numpy as np

QUESTION = "leave_one_out"


def leave_one_out(users, times):
    rows = np.arange(len(users))
    order = np.array(sorted(rows, key=lambda row: (users[row], times[row], row)), int)
    _, first, count = np.unique(users[order], return_index=True, return_counts=True)
    last = (first + count - 1)[count > 1]
    return [np.delete(order, last), order[last], times[order][last] == times[order][last - 1]]
