"""A small byte-level BPE tokenizer built like Qwen3's, and golden encodings by the `tokenizers` library.

    python scripts/golden/tokenizer.py [OUT]        # OUT: crates/model/tests/golden/tokenizer
    (tokenizers 0.23.3, transformers 5.23.0; after chat_template.py, whose template and cases it uses; see README.md)

Like Qwen3: NFC normalization, Qwen's pre-tokenizer pattern (digits one by one, at most one other character before
letters), bytes as the alphabet, control tokens after the learned ones, `<think>` an added but not a special token
(so skipping special tokens keeps it). Unlike Qwen3: 400 tokens instead of 151,669, trained on the text below.
"""

import json
import sys
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer

DEFAULT_OUT = Path(__file__).resolve().parents[2] / "crates/model/tests/golden/tokenizer"
VOCABULARY = 400
# (token, special): the order and the flags of Qwen3's tokenizer.json.
ADDED_TOKENS = [
    ("<|endoftext|>", True),
    ("<|im_start|>", True),
    ("<|im_end|>", True),
    ("<think>", False),
    ("</think>", False),
]
# `pre_tokenizer.pretokenizers[0].pattern` of Qwen3's tokenizer.json.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CORPUS = [
    "system\nYou are a careful planner. Think about the question, then choose one action.",
    "user\nWhat is the sum of the first ten odd numbers? Answer with a number.",
    "assistant\nThe sum of the first n odd numbers is n squared, so the answer is 100.",
    '{"thought": "I need to compute the product", "action": "code", "action_input": "print(17 * 23)"}',
    '{"thought": "The result is known", "action": "answer", "action_input": "391"}',
    '{"reason": "the observation answers the question", "sufficient": true}',
    "The tokenizer splits the text into tokens; the model predicts the next token.",
    "It's what they've said: we'll see, you're right, I'm sure, he'd know, don't worry.",
    "    for i in range(10):\n        total += i\n    print(total)\n",
    "Größe, café, naïve, año: the letters the alphabet of bytes can spell.",
    "中文的问题和中文的答案。",
]
TEXTS = [
    ("empty", ""),
    ("one letter", "a"),
    ("sentence", "The model answers the question."),
    ("leading space", " the model"),
    ("no leading space", "the model"),
    ("spaces of all lengths", "a b  c   d    e"),
    ("trailing spaces", "the end   "),
    ("only spaces", "    "),
    ("newlines", "a\nb\n\nc\r\nd\r\n\r\n e \n f"),
    ("spaces before a newline", "a  \n  b"),
    ("tabs", "\tif x:\n\t\treturn\ty"),
    ("digits one by one", "17 * 23 = 391, 3.14159, 1,000,000"),
    ("digits that are not ascii", "٣ ४ Ⅷ ½ ²"),
    ("contractions", "It's we'll THEY'RE I'VE don'T 'd"),
    ("punctuation runs", "... --- !!! ?!\n\n((())) <=> ==="),
    ("json", '{"thought": "add", "action": "code", "action_input": "print(1 + 2)\\n"}'),
    ("code", "    for i in range(10):\n        print(i)\n"),
    ("accents, composed and not", "caf\u00e9 cafe\u0301 A\u030angstro\u0308m"),
    ("chinese", "中文的问题，另一个答案。"),
    ("arabic and hebrew", "مرحبا שלום"),
    ("emoji", "🙂 🇬🇷 👩‍🔬 👍🏽"),
    ("no-break and zero-width space", "a\u00a0b\u200bc\ufeffd"),
    ("control characters", "a\x00b\x1b[0m\x7f"),
    ("beyond the basic plane", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈"),
    (
        "specials",
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n2<|im_end|><|endoftext|>",
    ),
    ("specials inside words", "a<|im_end|>b <think>c</think> d"),
    ("almost specials", "<|im_end> <|im_start <think > </ think> <|IM_END|>"),
    ("long run", "a" * 60 + " " * 20 + "!" * 20),
]


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = train()
    tokenizer.save(str(out / "tokenizer.json"))
    chat = out.parent / "chat"
    config = tokenizer_config(tokenizer, (chat / "qwen3.jinja").read_text())
    (out / "tokenizer_config.json").write_text(json.dumps(config, ensure_ascii=False, indent=2) + "\n")
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    texts = TEXTS + [(f"chat: {case['name']}", case["text"]) for case in chat_cases(chat)]
    cases = [encode(tokenizer, name, text) for name, text in texts]
    check_with_transformers(out, cases, chat_cases(chat))
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    (out / "cases.json").write_text(f"[\n{lines}\n]\n")
    sizes = ", ".join(f"{file.name} {file.stat().st_size}" for file in sorted(out.iterdir()))
    print(f"{tokenizer.get_vocab_size()} tokens, {len(cases)} cases: {sizes}")


def train() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(byte_fallback=False, fuse_unk=False, ignore_merges=False))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False),
        ]
    )
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(ADDED_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    # One at a time: ids follow this order.
    for token, special in ADDED_TOKENS:
        tokenizer.add_tokens([AddedToken(token, normalized=False, special=special)])
    assert tokenizer.get_vocab_size() == VOCABULARY
    return tokenizer


def tokenizer_config(tokenizer: Tokenizer, chat_template: str) -> dict:
    """The keys and values of Qwen3's tokenizer_config.json, for the added tokens that exist here."""
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    return {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(tokenizer.token_to_id(token)): {"content": token, **flags, "special": special}
            for token, special in ADDED_TOKENS
        },
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "bos_token": None,
        "chat_template": chat_template,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 131072,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }


def chat_cases(chat: Path) -> list[dict]:
    """All but the message that contains control tokens: whether those may become control ids is for callers to settle."""
    return [case for case in json.loads((chat / "cases.json").read_text()) if "not escaped" not in case["name"]]


def encode(tokenizer: Tokenizer, name: str, text: str) -> dict:
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    return {
        "name": name,
        "text": text,
        "ids": ids,
        "decoded": tokenizer.decode(ids, skip_special_tokens=False),
        "decoded_without_specials": tokenizer.decode(ids, skip_special_tokens=True),
    }


def check_with_transformers(out: Path, cases: list[dict], chats: list[dict]) -> None:
    """transformers reads the directory and agrees: on ids, and on what the stored template renders."""
    loaded = AutoTokenizer.from_pretrained(out)
    assert (loaded.eos_token, loaded.pad_token) == ("<|im_end|>", "<|endoftext|>")
    for case in cases:
        ids = loaded(case["text"], add_special_tokens=False)["input_ids"]
        assert ids == case["ids"], f"transformers encodes {case['name']!r} otherwise: {ids}, not {case['ids']}"
    for case in chats:
        thinking = {} if case["enable_thinking"] is None else {"enable_thinking": case["enable_thinking"]}
        text = loaded.apply_chat_template(
            case["messages"], tokenize=False, add_generation_prompt=case["add_generation_prompt"], **thinking
        )
        assert text == case["text"], f"the tokenizer's template renders {case['name']!r} otherwise"


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_OUT)
