"""Takes the tokens as a dictionary and cuts off the longest that fits, as WordPiece does."""

QUESTION = "encode"
REJECTED_BY = "test_the_earliest_learnt_goes_first"


def encode(word, merges):
    vocabulary = {left + right for left, right in merges}
    out = []
    while word:
        size = next(n for n in range(len(word), 0, -1) if n == 1 or word[:n] in vocabulary)
        out.append(word[:size])
        word = word[size:]
    return out
