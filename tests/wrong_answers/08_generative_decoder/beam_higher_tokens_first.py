"""sorted(reverse=True) on pairs turns the order of equals around as well."""

import math

QUESTION = "beam_search"
REJECTED_BY = "test_ties_go_to_the_lower_tokens"


def beam_search(step, valid, width, alpha=0.0):
    if width < 1:
        raise ValueError(f"the width is {width}; it must be at least 1")
    follow = {}
    for sequence in valid:
        if not all(0 < token < len(step) for token in sequence):
            raise ValueError(f"{sequence} holds a token outside 1 ... {len(step) - 1}")
        path = (*sequence, 0)
        for n, token in enumerate(path):
            follow.setdefault(path[:n], set()).add(token)
    beam, ended = [(0.0, ())], []
    while beam:
        grown = []
        for total, path in beam:
            after = path[-1] if path else 0
            for token in follow.get(path, ()):
                grown.append((total + float(step[after, token]), (*path, token)))
        grown = [pair for pair in grown if pair[0] > -math.inf]
        kept = sorted(grown, reverse=True)[:width]
        ended += [pair for pair in kept if pair[1][-1] == 0]
        beam = [pair for pair in kept if pair[1][-1] != 0]
    ranked = [(total / len(path) ** alpha, path) for total, path in ended]
    ranked = sorted(ranked, reverse=True)[:width]
    return [(list(path[:-1]), score) for score, path in ranked]
