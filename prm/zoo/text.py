"""Text and special tokens to ids, as a tokenizer would have read them in one piece.

A tokenizer cuts a text at its special tokens and reads what lies between as one piece. A format
that is built from special tokens and whole pieces (`encode`) therefore gives the ids that published
code gets for the joined text, without the danger that text which spells a special token becomes
one. Where the tag of a step is no special token but text, the joined text is tokenised and the tags
are found by the characters where they were put (`encode_tagged`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from prm.errors import CheckpointError
from prm.render import Rendered, token_ids


class Special(str):
    """The name of a special token, as against text."""


def cut_specials(tokenizer: Any, text: str) -> list[str]:
    """A template's text, cut into special tokens and what lies between."""
    names = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    pattern = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    pieces = re.split(f"({pattern})", text) if names else [text]
    return [Special(piece) if piece in names else piece for piece in pieces if piece]


def encode(tokenizer: Any, *pieces: str) -> list[int]:
    """Ids of pieces in a row: text that stands side by side is read as one.

    Args:
        tokenizer: a Hugging Face tokenizer.
        pieces: text, or `Special` tokens.

    Raises:
        CheckpointError: the tokenizer has no such special token.
    """
    ids: list[int] = []
    text = ""
    for piece in pieces:
        if not isinstance(piece, Special):
            text += piece
            continue
        ids += token_ids(tokenizer, text, special=False)
        ids.append(one_id(tokenizer, piece))
        text = ""
    return ids + token_ids(tokenizer, text, special=False)


def encode_tagged(tokenizer: Any, pieces: Sequence[str], tag: str, tag_id: int) -> Rendered:
    """Ids of `piece tag piece tag …` read as one text, and the place of each tag.

    The ids are those of the joined text as far as its tags come out as tokens of their own. Where
    one does not (the end of the text before it or the start of the text after it grew together with
    it), that piece is tokenised alone, the tag's id follows, and the rest is read as a new text.

    Args:
        tokenizer: a fast Hugging Face tokenizer.
        pieces: text; whatever it spells stays text, a further tag too.
        tag: the text after each piece.
        tag_id: the token that this text is, in most company.
    """
    ids = opening(tokenizer)
    ends: list[int] = []
    rest = list(pieces)
    while rest:
        found, read = _find_tags(tokenizer, rest, tag, tag_id)
        if found:
            ends += [len(ids) + place for place in found]
            ids += read[: found[-1] + 1]
            del rest[: len(found)]
        if rest:
            ids += [*token_ids(tokenizer, rest.pop(0), special=False), tag_id]
            ends.append(len(ids) - 1)
    return Rendered(ids, ends)


def _find_tags(
    tokenizer: Any, pieces: Sequence[str], tag: str, tag_id: int
) -> tuple[list[int], list[int]]:
    """The tokens that are the tags, up to the first tag that has none, and all ids."""
    encoded = tokenizer(
        "".join(piece + tag for piece in pieces),
        add_special_tokens=False,
        split_special_tokens=True,
        return_offsets_mapping=True,
    )
    ids: list[int] = encoded["input_ids"]
    offsets: list[tuple[int, int]] = encoded["offset_mapping"]
    found: list[int] = []
    place = end = 0
    for piece in pieces:
        start = end + len(piece)
        end = start + len(tag)
        # Offsets of some tokenizers leave out a token's first space: within, not equal.
        while place < len(ids) and offsets[place][0] < start:
            place += 1
        while place < len(ids) and offsets[place][1] <= end and ids[place] != tag_id:
            place += 1
        if place == len(ids) or offsets[place][1] > end:
            break
        found.append(place)
        place += 1
    return found, ids


def opening(tokenizer: Any) -> list[int]:
    """The token that a tokenizer puts before every text, if it does."""
    around: list[int] = tokenizer("")["input_ids"]
    return around[:1] if around[:1] == [tokenizer.bos_token_id] else []


def one_id(tokenizer: Any, text: str) -> int:
    """The id of a text that is one token: a special one, a tag, a label.

    A text that begins with a space is looked up after a word: at the beginning of a text some
    tokenizers write a space of their own, and some do not, as they were converted.

    Raises:
        CheckpointError: the tokenizer does not have it as one token.
    """
    word = "x" if text.startswith(" ") else ""
    before = token_ids(tokenizer, word, special=True)
    *others, found = token_ids(tokenizer, word + text, special=True)
    if others != before or found == tokenizer.unk_token_id:
        raise CheckpointError(
            f"the tokenizer has no token {text!r}; the checkpoint is not of the family that it is "
            "used as"
        )
    return found
