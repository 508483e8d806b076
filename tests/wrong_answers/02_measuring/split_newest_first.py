"""Sorts from new to old and takes the first row: stable, but of equal times it now takes the earliest in the log."""

import numpy as np

QUESTION = "leave_one_out"
REJECTED_BY = "test_equal_times_keep_the_order_of_the_log"


def leave_one_out(users, times):
    order = np.lexsort((-times, users))[::-1]
    order = order[np.argsort(users[order], kind="stable")]
    by_user = users[order]
    last = np.append(by_user[1:] != by_user[:-1], True)[: len(order)]
    held = last & np.append(False, ~last[:-1])[: len(order)]
    tied = (times[order] == np.roll(times[order], 1))[held]
    return order[~held], order[held], tied
