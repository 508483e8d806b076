"""A trie of dictionaries whose nodes the beams carry; stable sorts from the last key to the first; lists for pairs."""

import numpy as np

QUESTION = "beam_search"


def beam_search(step, valid, width, alpha=0.0):
    if not width >= 1:
        raise ValueError("a beam needs a place")
    root = {}
    for sequence in valid:
        node = root
        for token in sequence:
            if token <= 0 or token >= len(step):
                raise ValueError(f"token {token}")
            node = node.setdefault(token, {})
        node[0] = None

    def cut(found):
        found = sorted(found, key=lambda one: one[0])
        return sorted(found, key=lambda one: one[1], reverse=True)[:width]

    open_, ended = [([], 0.0, root)], []
    while open_:
        grown = []
        for tokens, total, node in open_:
            last = tokens[-1] if tokens else 0
            for token, child in node.items():
                if step[last, token] != -np.inf:
                    grown.append(([*tokens, token], total + step[last, token], child))
        grown = cut(grown)
        ended.extend((tokens, total) for tokens, total, node in grown if node is None)
        open_ = [one for one in grown if one[2] is not None]
    scored = [(tokens, total / len(tokens) ** alpha) for tokens, total in ended]
    return [[np.array(tokens[:-1]), score] for tokens, score in cut(scored)]
