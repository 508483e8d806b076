"""Content-kNN as strong as it gets without training: whole texts as TF-IDF, features standardised.

The one idea: an opponent for cold items must read what the model reads. Words and every ready-made
feature are blocks of one vector, each of length 1, so a cosine adds up what the blocks say.
TF-IDF: Spärck Jones 1972, over byte-pair tokens, most of which are words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy import sparse

from m6rec_mini.baselines import ContentKNN, total_ndcg
from m6rec_mini.catalog import Catalog
from m6rec_mini.content import ContentReader, Scale
from m6rec_mini.evaluation import Split


def content_knn(catalog: Catalog, reader: ContentReader, split: Split) -> ContentKNN:
    """Neighbours by words and by the features that `reader` reads; how much features count, validation chooses."""
    seen = split.train.item_counts > 0
    words = tf_idf(token_lists(catalog, reader), reader.shapes.vocab, seen)
    blocks = [features_of(catalog, name, seen) for name in reader.shapes.widths]
    found = [
        ContentKNN(np.hstack([words, *(weight * block for block in blocks)]))
        for weight in ((0.0, 0.3, 1.0) if blocks else (0.0,))
    ]
    for knn in found:
        knn.fit(split)
    return max(found, key=lambda knn: total_ndcg(knn.scores(split.validation.histories), split))


def token_lists(catalog: Catalog, reader: ContentReader) -> list[list[int]]:
    """The tokens of each item's whole text, however long."""
    return [list(reader.tokenizer.encode(item.text or "", add_special_tokens=False).ids) for item in catalog.items]


def tf_idf(
    tokens: Sequence[Sequence[int]], vocab: int, seen: Bool[np.ndarray, " items"]
) -> Float[np.ndarray, "items vocab"]:
    """log(1 + count) * log(items / items with the token), rows of length 1; items counted are the seen ones."""
    rows = np.repeat(np.arange(len(tokens)), [len(ids) for ids in tokens])
    columns = np.array([i for ids in tokens for i in ids], np.int64)
    ones = np.ones(len(rows))
    counts = sparse.csr_array((ones, (rows, columns)), shape=(len(tokens), vocab)).toarray()
    rarity = np.log((1 + seen.sum()) / (1 + (counts[seen] > 0).sum(0)))
    return unit_rows(np.log1p(counts) * rarity)


def features_of(catalog: Catalog, name: str, seen: Bool[np.ndarray, " items"]) -> Float[np.ndarray, "items width"]:
    """One ready-made modality, standardised on seen items, rows of length 1; zeros where it is missing."""
    having = [row for row, item in enumerate(catalog.items) if name in item.features]
    vectors = np.stack([catalog.items[row].features[name] for row in having])
    scaled = np.zeros((len(catalog.items), vectors.shape[1]))
    scaled[having] = Scale.fit(vectors[seen[having]])(vectors)
    return unit_rows(scaled)


def unit_rows(matrix: Float[np.ndarray, "rows width"]) -> Float[np.ndarray, "rows width"]:
    """Every row divided by its length; a row of zeros stays."""
    return np.asarray(matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12))
