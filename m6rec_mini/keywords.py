"""Key words: the few words of an item's text that say something about taste.

No list of stop words and no language is built in. A word matters if items with it follow each other
in histories more often than chance: then it names something that people come back for. "The" does
not; "jazz" and "爵士" do. The decoder learns to write these words as topics and as reasons.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float64, Int64
from scipy import sparse
from tokenizers import Tokenizer
from torch import Tensor

from m6rec_mini.catalog import Interactions, Item
from m6rec_mini.content import PAD, ContentReader

LEAST_LIFT = 0.1  # log of how much more often than chance
CHANCE = 10.0  # pairs of events that a word must outweigh before its lift is believed


def key_words(
    items: Sequence[Item], reader: ContentReader, train: Interactions, count: int = 3
) -> Int64[Tensor, "items words"]:
    """Token ids of each item's best words, the most telling first; PAD where there are fewer."""
    texts = [item.text or "" for item in items]
    words = word_matrix(texts, reader.tokenizer)
    lift = log_lift(words, train)
    best = np.full((len(items), count), PAD, np.int64)
    for row in range(len(items)):
        mine = words.indices[words.indptr[row] : words.indptr[row + 1]]
        mine = mine[lift[mine] > LEAST_LIFT]
        chosen = mine[np.argsort(-lift[mine], kind="stable")][:count]
        best[row, : len(chosen)] = chosen
    return torch.from_numpy(best)


def word_matrix(texts: Sequence[str], tokenizer: Tokenizer) -> sparse.csr_array:
    """Items x vocabulary: 1 where a token that is a whole word occurs in the text."""
    rows, columns = [], []
    spelt = [tokenizer.decode([token]) for token in range(tokenizer.get_vocab_size())]
    for row, encoding in enumerate(tokenizer.encode_batch(list(texts), add_special_tokens=False)):
        parts = Counter(encoding.word_ids)
        for token, word in zip(encoding.ids, encoding.word_ids, strict=True):
            # Where words have spaces between them, a token is a word if it is all of it. Chinese has none, so
            # any token of two characters or more that recurred often enough to be merged counts as a word.
            if is_word(spelt[token]) and (parts[word] == 1 or ideographs(spelt[token]) >= 2):
                rows.append(row)
                columns.append(token)
    matrix = sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(texts), tokenizer.get_vocab_size()))
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def is_word(text: str) -> bool:
    """Letters only, long enough to mean something: three of an alphabet, two Chinese characters."""
    word = text.strip()
    return word.isalpha() and (ideographs(word) >= 2 or len(word) >= 3)


def ideographs(text: str) -> int:
    """How many letters are of a script without upper and lower case, such as Chinese."""
    return sum(unicodedata.category(c) == "Lo" for c in text)


def log_lift(words: sparse.csr_array, train: Interactions) -> Float64[np.ndarray, " vocab"]:
    """log of (how often two neighbouring events share a word / how often by chance), drawn towards 0.

    Neighbours are events of one user on different items: who views an item and then likes it has not
    come back for its words.
    """
    same = (train.users[1:] == train.users[:-1]) & (train.items[1:] != train.items[:-1])
    before, after = words[train.items[:-1][same]], words[train.items[1:][same]]
    both = np.asarray(before.multiply(after).sum(axis=0), np.float64)
    pairs = max(before.shape[0], 1)
    chance = np.asarray(before.sum(axis=0), np.float64) * np.asarray(after.sum(axis=0), np.float64) / pairs
    return np.asarray(np.log((both + CHANCE) / (chance + CHANCE)))
