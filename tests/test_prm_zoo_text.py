"""Tags of plain text: each has its token and its place, whatever stands around it."""

from __future__ import annotations

import published
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from prm.errors import CheckpointError
from prm.zoo.text import encode_tagged, one_id

LLAMA3, MISTRAL = published.llama3_tokenizer(), published.mistral_tokenizer()
BREAKS = " \n\n\n\n"
CASES = [(LLAMA3, BREAKS), (LLAMA3, " ки"), (MISTRAL, " ки")]

texts = st.lists(
    st.sampled_from([" ", "\n", "ки", BREAKS, "a", "Step 1:", ".", "+", "<s>", "и", "数", "5", "к"])
    | st.text(max_size=3),
    max_size=6,
).map("".join)


@settings(max_examples=200)
@given(st.sampled_from(CASES), st.lists(texts, min_size=1, max_size=6))
@example((LLAMA3, BREAKS), ["x", "\n", "y ", ""])
@example((LLAMA3, " ки"), ["ки", "ий", " "])
@example((MISTRAL, " ки"), ["", " ", "ки ки"])
def test_every_tag_is_a_token_of_its_own(case, pieces):
    tokenizer, tag = case
    tag_id = one_id(tokenizer, tag)
    rendered = encode_tagged(tokenizer, pieces, tag, tag_id)
    ids, ends = rendered.input_ids, rendered.step_ends
    assert len(ends) == len(pieces)
    assert ends == sorted(set(ends))
    assert [ids[end] for end in ends] == [tag_id] * len(pieces)
    assert ids[0] == tokenizer.bos_token_id
    assert ends[-1] == len(ids) - 1
    # A tokenizer that searches for its tags finds as many in the joined text, if all is ordinary.
    joined = "".join(piece + tag for piece in pieces)
    whole = tokenizer(joined, split_special_tokens=True)["input_ids"]
    if whole.count(tag_id) == len(pieces) and not any(tag.strip("\n") in text for text in pieces):
        assert ids == whole
    if tokenizer is LLAMA3:
        assert tokenizer.decode(ids[1:]) == joined


def test_a_token_is_looked_up_as_it_stands_after_a_word():
    assert one_id(MISTRAL, " +") == MISTRAL.encode("+ -")[1]
    assert one_id(LLAMA3, " +") == LLAMA3.encode(" +")[-1]
    assert one_id(LLAMA3, "+") == 10
    assert one_id(LLAMA3, "<|eot_id|>") == LLAMA3.eos_token_id
    for tokenizer, text in [(LLAMA3, "ки"), (MISTRAL, BREAKS), (MISTRAL, " ÿ"), (LLAMA3, "<s>")]:
        with pytest.raises(CheckpointError, match="the tokenizer has no token"):
            one_id(tokenizer, text)


def test_the_unknown_token_is_no_tag():
    backend = Tokenizer(models.WordLevel({"[UNK]": 0, "x": 1}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")
    with pytest.raises(CheckpointError, match="the tokenizer has no token ' ки'"):
        one_id(tokenizer, " ки")
