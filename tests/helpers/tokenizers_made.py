"""tokenizer.json files that tests make: a small WordPiece vocabulary, and one with every part that can be changed."""

import json
import string

WORDS = (
    "the", "a", "card", "money", "lost", "my", "is", "not", "where", "in", "new", "york", "hello", "world", "un",
    "##able", "##ing", "##s", "##ed", "##ly", "run", "walk", "talk", "##er", "cafe", "日", "本", "été", "Été", "œ",
)  # fmt: skip
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def vocabulary() -> dict[str, int]:
    letters = string.ascii_lowercase + string.digits + string.punctuation + "àé€¿«»—αβ"
    pieces = [*SPECIAL, *WORDS, *letters, *(f"##{letter}" for letter in letters)]
    return {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}


def tokenizer_json(**changes) -> dict:
    """Return the parsed file of a BERT tokenizer; ``changes`` replace whole entries."""
    special = {
        token: {"id": token, "ids": [number], "tokens": [token]}
        for number, token in enumerate(SPECIAL)
        if number in (2, 3)
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": number, "special": True, "content": token, "single_word": False, "lstrip": False,
                "rstrip": False, "normalized": False,
            }
            for number, token in enumerate(SPECIAL)
        ],
        "normalizer": {
            "type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": special,
        },
        "decoder": None,
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 20, "vocab": vocabulary(),
        },
    } | changes  # fmt: skip


def tokenizer_bytes(**changes) -> bytes:
    return json.dumps(tokenizer_json(**changes)).encode()
