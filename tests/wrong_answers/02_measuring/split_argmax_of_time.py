"""Takes the row of the largest time by argmax (or idxmax), which is the first of equals, not the last."""

import numpy as np

QUESTION = "leave_one_out"
REJECTED_BY = "test_equal_times_keep_the_order_of_the_log"


def leave_one_out(users, times):
    train, test, tied = [], [], []
    for user in np.unique(users):
        rows = np.flatnonzero(users == user)
        rows = rows[np.argsort(times[rows], kind="stable")]
        if len(rows) > 1:
            last = rows[np.argmax(times[rows])]
            rows = rows[rows != last]
            test.append(last)
            tied.append(bool(times[rows].max() == times[last]))
        train += rows.tolist()
    return np.array(train, int), np.array(test, int), np.array(tied, bool)
