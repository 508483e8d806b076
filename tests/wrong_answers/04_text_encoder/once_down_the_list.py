"""Goes down the list once. A pair that becomes possible later than its turn is never joined."""

QUESTION = "encode"
REJECTED_BY = "test_from_the_top_again"


def encode(word, merges):
    tokens = list(word)
    for left, right in merges:
        at = 0
        while at < len(tokens) - 1:
            if tokens[at] == left and tokens[at + 1] == right:
                tokens[at : at + 2] = [left + right]
            at += 1
    return tokens
