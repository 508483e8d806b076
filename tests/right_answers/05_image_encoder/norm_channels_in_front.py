"""Brings the channels to the front and flattens the rest, so that all statistics are of rows."""

import numpy as np

QUESTION = "batch_norm"


def batch_norm(x, gamma, beta, running_mean, running_var, training, momentum=0.1, eps=1e-5):
    front = np.moveaxis(x, 1, 0)
    rows = front.reshape(len(front), -1) if x.size else front.reshape(len(front), 0)
    mean, var = running_mean, running_var
    if training:
        if rows.shape[1] <= 1:
            raise ValueError("not enough values for a variance")
        mean, var = rows.mean(axis=1), rows.var(axis=1)
        running_mean = running_mean + momentum * (mean - running_mean)
        running_var = running_var + momentum * (rows.var(axis=1, ddof=1) - running_var)
    out = (rows - mean[:, None]) / np.sqrt(var[:, None] + eps) * gamma[:, None] + beta[:, None]
    return np.moveaxis(out.reshape(front.shape), 0, 1), running_mean, running_var
