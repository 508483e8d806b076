"""Prefers the pair learnt last, since it makes the longest tokens."""

QUESTION = "encode"
REJECTED_BY = "test_the_earliest_learnt_goes_first"


def encode(word, merges):
    rank, tokens = {pair: n for n, pair in enumerate(merges)}, list(word)
    while True:
        known = [(rank[pair], -n) for n, pair in enumerate(zip(tokens, tokens[1:], strict=False)) if pair in rank]
        if not known:
            return tokens
        at = -max(known)[1]
        tokens[at : at + 2] = [tokens[at] + tokens[at + 1]]
