"""Joins the leftmost pair that is in the list at all, whatever its place in the list."""

QUESTION = "encode"
REJECTED_BY = "test_the_earliest_learnt_goes_first"


def encode(word, merges):
    known, tokens, at = set(merges), list(word), 0
    while at < len(tokens) - 1:
        if (tokens[at], tokens[at + 1]) in known:
            tokens[at : at + 2] = [tokens[at] + tokens[at + 1]]
            at = 0
        else:
            at += 1
    return tokens
