"""Joins every place of the best pair in one pass, as GPT-2's own code does."""

QUESTION = "encode"


def encode(word, merges):
    rank = {tuple(pair): n for n, pair in enumerate(merges)}
    tokens = tuple(word)
    while True:
        known = [pair for pair in zip(tokens, tokens[1:], strict=False) if pair in rank]
        if not known:
            return tokens
        best = min(known, key=rank.get)
        out, at = [], 0
        while at < len(tokens):
            if tokens[at : at + 2] == best:
                out.append("".join(best))
                at += 2
            else:
                out.append(tokens[at])
                at += 1
        tokens = tuple(out)
