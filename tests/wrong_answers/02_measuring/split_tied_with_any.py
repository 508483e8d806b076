"""Compares the time with the row before in the log, which mostly belongs to somebody else."""

import numpy as np

QUESTION = "leave_one_out"
REJECTED_BY = "test_a_log_by_hand"


def leave_one_out(users, times):
    order = np.lexsort((times, users))
    by_user = users[order]
    last = np.append(by_user[1:] != by_user[:-1], True)[: len(order)]
    held = last & np.append(False, ~last[:-1])[: len(order)]
    tied = times[order[held]] == times[order[held] - 1]
    return order[~held], order[held], tied
