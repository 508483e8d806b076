"""A loop over rounds in plain floats; lists come back, and the spread of SNIPS by the delta method."""

import math

QUESTION = "off_policy_values"


def off_policy_values(actions, rewards, propensities, target, predicted, clip=math.inf):
    n, w, dr = len(actions), [], []
    if n < 1:
        raise ValueError("no rounds")
    for a, r, p, pi, q in zip(actions, rewards, propensities, target, predicted):
        if not 0 < p <= 1:
            raise ValueError(f"a propensity of {p}")
        w.append(min(pi[a] / p, clip))
        dr.append(sum(x * y for x, y in zip(pi, q)) + w[-1] * (r - q[a]))

    def around(value, squares):
        half = 1.96 * math.sqrt(squares / (n - 1) / n) if n > 1 else math.inf
        return [float(value), float(value - half), float(value + half)]

    def plain(terms):
        value = sum(terms) / n
        return around(value, sum((x - value) ** 2 for x in terms))

    result = {"dr": plain(dr), "ips": plain([x * r for x, r in zip(w, rewards)]), "snips": [math.nan] * 3}
    if any(w):
        value = sum(x * r for x, r in zip(w, rewards)) / sum(w)
        result["snips"] = around(value, sum((x * (r - value)) ** 2 for x, r in zip(w, rewards)) * (n / sum(w)) ** 2)
    return result
