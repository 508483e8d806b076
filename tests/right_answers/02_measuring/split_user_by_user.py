"""Python's sort, user by user; gives back lists."""

from collections import defaultdict

QUESTION = "leave_one_out"


def leave_one_out(users, times):
    rows_of = defaultdict(list)
    for row, user in enumerate(users.tolist()):
        rows_of[user].append(row)
    train, test, tied = [], [], []
    for user in sorted(rows_of):
        rows = sorted(rows_of[user], key=lambda row: times[row])
        *past, last = rows
        if past:
            test.append(last)
            tied.append(bool(times[last] == times[past[-1]]))
            train += past
        else:
            train += rows
    return train, test, tied
