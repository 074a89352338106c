import json
import time

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers_made import SPECIAL, WORDS, tokenizer_bytes, tokenizer_json

from edgepack.data.text import tokenizer as module
from edgepack.data.text.tokenizer import Filling, WordPiece, _Package, load_tokenizer, read_tokenizer
from edgepack.errors import DataError, ToolchainError

BERT = tokenizer_json()["normalizer"]
# Letters, marks and signs that were there in Unicode 8: Latin, Greek, Cyrillic, Hebrew, Arabic, Hindi, Thai, Hangul,
# kana, Chinese, punctuation, mathematics, emoji.
OLD = st.one_of(
    st.characters(min_codepoint=1, max_codepoint=0x36F),
    st.characters(min_codepoint=0x391, max_codepoint=0x51F),
    st.characters(min_codepoint=0x5D0, max_codepoint=0x5EA),
    st.characters(min_codepoint=0x620, max_codepoint=0x669),
    st.characters(min_codepoint=0x904, max_codepoint=0x94F),
    st.characters(min_codepoint=0xE01, max_codepoint=0xE3A),
    st.characters(min_codepoint=0x2000, max_codepoint=0x2064),
    st.characters(min_codepoint=0x2200, max_codepoint=0x22FF),
    st.characters(min_codepoint=0x3041, max_codepoint=0x30FF, exclude_characters="\u3097\u3098"),
    st.characters(min_codepoint=0x4E00, max_codepoint=0x4E80),
    st.characters(min_codepoint=0xAC00, max_codepoint=0xAC80),
    st.characters(min_codepoint=0xF900, max_codepoint=0xFA6D),
    st.characters(min_codepoint=0x1F600, max_codepoint=0x1F640),
)
TEXTS = st.lists(st.one_of(OLD, st.sampled_from([*WORDS, *SPECIAL, " ", "\t", "\n", "THE", "New ", "x" * 25]))).map(
    "".join
)
CHANGES = {
    "plain": {},
    "cased": {"normalizer": BERT | {"lowercase": False}},
    "accents kept": {"normalizer": BERT | {"strip_accents": False}},
    "accents dropped": {"normalizer": BERT | {"lowercase": False, "strip_accents": True}},
    "not cleaned": {"normalizer": BERT | {"clean_text": False, "handle_chinese_chars": False}},
    "no normalizer": {"normalizer": None},
    "a sequence": {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKD"}, {"type": "StripAccents"}]}},
    "composed": {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]}},
    "blanks": {"pre_tokenizer": {"type": "WhitespaceSplit"}},
    "no special tokens": {"post_processor": None, "added_tokens": []},
    "bert's own": {"post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}},
    "mask takes blanks": {
        "added_tokens": [t | {"lstrip": t["id"] == 4, "rstrip": t["id"] == 1} for t in tokenizer_json()["added_tokens"]]
    },
}  # fmt: skip


def pair(changes: dict) -> tuple[WordPiece, tokenizers.Tokenizer]:
    data = tokenizer_bytes(**changes)
    ours = read_tokenizer(data, "tokenizer.json")
    assert isinstance(ours, WordPiece), "computed here, not by the package"
    return ours, tokenizers.Tokenizer.from_str(data.decode())


@pytest.mark.parametrize("name", CHANGES)
def test_ids_are_those_of_the_package(name):
    ours, theirs = pair(CHANGES[name])

    @given(TEXTS, st.one_of(st.none(), st.integers(2, 12)))
    @settings(max_examples=100, deadline=None)
    def check(text, most):
        found = ours.encode(text, most)
        theirs.no_truncation() if most is None else theirs.enable_truncation(most)
        right = theirs.encode(text)
        assert list(found.ids) == right.ids
        assert list(found.types) == right.type_ids

    check()


@given(st.lists(st.sampled_from([*WORDS, ", ", " ", "Café", "NEW", "日本", "[MASK]", "!", "x" * 25])).map("".join))
def test_places_are_those_of_the_package(text):
    ours, theirs = pair({})
    assert list(ours.encode(text, None).places) == theirs.encode(text).offsets


@pytest.mark.slow
def test_only_characters_newer_than_the_crates_tables_are_told_apart():
    """Each but the ideographs, between two letters: the 500 that differ are marks and signs of Unicode 9 and later."""
    ours, theirs = pair({})
    codes = [*range(1, 0x3400), *range(0xA000, 0xABFF), *range(0xF900, 0x12000), *range(0x1D000, 0x20000)]
    texts = [f"a{chr(code)}b" for code in codes]
    right = theirs.encode_batch_fast(texts)
    differing = [
        code for code, text, r in zip(codes, texts, right, strict=True) if list(ours.encode(text, None).ids) != r.ids
    ]
    assert len(differing) < 600
    assert min(differing) == 0x61D
    assert not [code for code in differing if 0x2000 <= code <= 0x2BFF and code != 0x2E5D]


def test_a_file_says_how_texts_are_cut_and_filled():
    truncation = {"max_length": 7, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    padding = {
        "strategy": {"Fixed": 9}, "direction": "Left", "pad_to_multiple_of": 4, "pad_id": 5, "pad_type_id": 1,
        "pad_token": "x",
    }  # fmt: skip
    found = read_tokenizer(tokenizer_bytes(truncation=truncation, padding=padding), "x")
    assert found.max_length == 7
    assert found.filling == Filling(5, 1, True, 9, 4)
    assert read_tokenizer(tokenizer_bytes(), "x").filling == Filling()


BPE = {
    "model": {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": False,
        "byte_fallback": False, "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]],
    },
    "normalizer": None, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "added_tokens": [],
}  # fmt: skip


def test_another_kind_is_read_by_the_package():
    found = read_tokenizer(tokenizer_bytes(**BPE), "x")
    assert not isinstance(found, WordPiece)
    assert found.encode("ab ba", None).ids == (2, 1, 0)
    assert found.encode("ab ba", None).places == ((0, 2), (3, 4), (4, 5))
    assert found.encode("ab ba", 2).ids == (2, 1)
    assert found.encode("ab ba", None).ids == (2, 1, 0), "what was cut once is whole again"


def test_what_the_package_cannot_split_is_an_error_of_ours():
    model = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "[UNK]"}
    found = read_tokenizer(tokenizer_bytes(model=model, post_processor=None, added_tokens=[]), "x")
    with pytest.raises(DataError, match="cannot split a text: WordLevel error"):
        found.encode("b", None)


def test_where_the_package_panics_is_an_error_of_ours():
    """It looks a template's token up among the template's special tokens, and ends the process if it is not there."""
    pieces = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    template = {"type": "TemplateProcessing", "single": pieces, "pair": pieces, "special_tokens": {}}
    found = read_tokenizer(tokenizer_bytes(**{**BPE, "post_processor": template}), "x")
    with pytest.raises(DataError, match="cannot split a text: no entry found"):
        found.encode("ab", None)


def test_another_kind_without_the_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(ToolchainError, match=r"x\.json is a BPE tokenizer") as error:
        read_tokenizer(tokenizer_bytes(**BPE), "x.json")
    assert error.value.hint == "pip install tokenizers"
    assert isinstance(read_tokenizer(tokenizer_bytes(), "x.json"), WordPiece)


@pytest.mark.parametrize(
    "changes",
    [
        {"pre_tokenizer": {"type": "Whitespace"}},
        {"normalizer": {"type": "Replace", "pattern": {"String": "a"}, "content": "b"}},
        {"added_tokens": [tokenizer_json()["added_tokens"][0] | {"single_word": True}]},
        {"truncation": {"max_length": 7, "strategy": "LongestFirst", "stride": 0, "direction": "Left"}},
    ],
    ids=["pre_tokenizer", "normalizer", "single_word", "left"],
)
def test_wordpiece_with_a_part_that_is_not_computed_here_is_read_by_the_package(changes):
    found = read_tokenizer(tokenizer_bytes(**changes), "x")
    assert not isinstance(found, WordPiece)
    theirs = tokenizers.Tokenizer.from_str(tokenizer_bytes(**changes).decode())
    assert list(found.encode("the card", None).ids) == theirs.encode("the card").ids


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xff\xfe", b"[]", b"{}", b'{"model": 3}', b"[" * 100_000, b'{"model": {"type": "WordPiece"}}',
        json.dumps(tokenizer_json(model=tokenizer_json()["model"] | {"unk_token": "nothing"})).encode(),
        json.dumps(tokenizer_json(model=tokenizer_json()["model"] | {"vocab": {"a": "b", "[UNK]": 0}})).encode(),
        json.dumps(tokenizer_json(post_processor={"type": "TemplateProcessing"})).encode(),
        json.dumps(tokenizer_json(added_tokens=[{"id": 1}])).encode(),
        json.dumps(tokenizer_json(normalizer=[1])).encode(),
        json.dumps(tokenizer_json(padding={"strategy": {"Fixed": 1 << 40}})).encode(),
        json.dumps(tokenizer_json(padding={"strategy": "BatchLongest", "pad_to_multiple_of": 1 << 40})).encode(),
        json.dumps(tokenizer_json(padding={"strategy": "BatchLongest", "pad_id": -1})).encode(),
        json.dumps(tokenizer_json(truncation={"max_length": 1e9, "strategy": "LongestFirst"})).encode(),
        json.dumps(tokenizer_json(model=tokenizer_json()["model"] | {"vocab": {"a": 1 << 70, "[UNK]": 0}})).encode(),
        json.dumps(tokenizer_json(model=tokenizer_json()["model"] | {"max_input_chars_per_word": 1 << 40})).encode(),
        tokenizer_bytes(added_tokens=[tokenizer_json()["added_tokens"][0] | {"content": "a" * 1001}]),
        tokenizer_bytes(normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}] * 40}),
        tokenizer_bytes(normalizer={"type": "Sequence", "normalizers": [{"type": "Sequence", "normalizers": []}] * 40}),
        tokenizer_bytes(
            post_processor={
                "type": "TemplateProcessing", "special_tokens": {"x": {"ids": [1]}},
                "single": [{"SpecialToken": {"id": "x", "type_id": 0}}] * 1001,
            }
        ),
    ],
)  # fmt: skip
def test_what_is_no_tokenizer_is_named(data):
    with pytest.raises(DataError, match=r"bad\.json (is not a tokenizer|cannot be read)") as error:
        read_tokenizer(data, "bad.json")
    assert error.value.hint


def test_a_broken_one_of_another_kind_is_named():
    with pytest.raises(DataError, match=r"bad\.json cannot be read by tokenizers"):
        read_tokenizer(b'{"model": {"type": "Unigram"}}', "bad.json")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match="cannot read the tokenizer"):
        load_tokenizer(tmp_path / "tokenizer.json")


def test_a_text_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(module, "MOST_CHARACTERS", 10)
    with pytest.raises(DataError, match="a text of 11 characters"):
        read_tokenizer(tokenizer_bytes(), "x").encode("a" * 11, None)


def hostile() -> tuple[WordPiece, str]:
    """Many pieces, some of every length, and added tokens that all begin alike, and a word that goes on otherwise."""
    model = tokenizer_json()["model"]
    vocab = {"[UNK]": 0, "a": 1, "##a": 2, **{f"##{'a' * n}!": n + 1 for n in range(2, 990)}}
    vocab |= {f"##a!{n}": 1000 + n for n in range(30_000)}
    added = [
        {"id": n, "content": "a" * n + "!", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        for n in range(1, 1000)
    ]
    model |= {"vocab": vocab, "max_input_chars_per_word": 1000}
    found = read_tokenizer(tokenizer_bytes(model=model, added_tokens=added, post_processor=None), "x")
    assert isinstance(found, WordPiece)
    return found, "a" * 1000


def test_a_strangers_pieces_take_no_time_without_end():
    """At every place every length was tried, and every added token."""
    tokenizer, word = hostile()
    began = time.process_time()
    assert tokenizer.encode(" ".join([word] * 20), None).ids == (1, *[2] * 999) * 20
    assert time.process_time() - began < 10


def test_no_more_is_split_than_is_kept(monkeypatch):
    """Of a text of a million characters the first words are enough."""
    ours, _ = pair({})
    seen = []
    monkeypatch.setattr(WordPiece, "_of_word", lambda _, word: seen.append(word) or [(1, 0, len(word))])
    assert len(ours.encode("card " * 200_000, 8).ids) == 8
    assert len(seen) == 7  # one more says that there are more


@pytest.mark.parametrize("kind", ["ours", "package"])
def test_a_text_with_more_tokens_than_asked_for_is_said_to_be_cut(kind):
    tokenizer = pair({})[kind == "package"]
    if kind == "package":
        tokenizer = _Package(tokenizer, None, Filling())
    assert [tokenizer.encode("the card the card", most).cut for most in (None, 6, 5, 0)] == [False, False, True, True]
