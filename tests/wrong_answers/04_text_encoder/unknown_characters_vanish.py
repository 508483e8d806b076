"""Keeps only what is in the vocabulary of the merges; other characters are dropped."""

QUESTION = "encode"
REJECTED_BY = "test_unknown_and_empty"


def encode(word, merges):
    rank = {pair: n for n, pair in enumerate(merges)}
    letters = set("".join(left + right for left, right in merges))
    tokens = [letter for letter in word if letter in letters or not merges]
    while True:
        known = [(rank[pair], n) for n, pair in enumerate(zip(tokens, tokens[1:], strict=False)) if pair in rank]
        if not known:
            return tokens
        at = min(known)[1]
        tokens[at : at + 2] = [tokens[at] + tokens[at + 1]]
