"""Golden renderings of Qwen3's chat template, by transformers' own Jinja environment.

    python scripts/golden/chat_template.py [OUT]        # OUT: crates/model/tests/golden/chat
    (transformers 5.23.0, jinja2 3.1.6, trl 1.16.0 installed with --no-deps; see README.md)

The template is not ours: it is taken, byte for byte, from the trl package, which ships it as "Original Qwen3 chat
template", and is stored beside the cases with its licence. `enable_thinking: null` means that the variable is not
defined, which the template tells apart from false.
"""

import hashlib
import importlib.metadata
import json
import shutil
import sys
from pathlib import Path

from transformers.utils.chat_template_utils import render_jinja_template

DEFAULT_OUT = Path(__file__).resolve().parents[2] / "crates/model/tests/golden/chat"
TEMPLATE_SHA256 = "a55ee1b1660128b7098723e0abcd92caa0788061051c62d51cbe87d9cf1974d8"


def system(content: str) -> dict:
    return {"role": "system", "content": content}


def user(content: str) -> dict:
    return {"role": "user", "content": content}


def assistant(content: str) -> dict:
    return {"role": "assistant", "content": content}


def tool(content: str) -> dict:
    return {"role": "tool", "content": content}


SUM = [system("You are a careful planner."), user("What is 17 * 23?")]
CHAT = [user("Hi."), assistant("Hello! How can I help?"), user("Name a prime.")]
THOUGHT = "<think>\n2 is the smallest, so it is safe.\n</think>\n\n2"
TOOL_RUN = [
    user("Add 1 and 2, then 3 and 4."),
    assistant("<think>\nTwo calls.\n</think>\n\nLet me compute."),
    tool('{"ok": true, "stdout": "3\\n"}'),
    tool('{"ok": true, "stdout": "7\\n"}'),
]

# (name, messages, enable_thinking, add_generation_prompt)
CASES = [
    ("system and user", SUM, None, True),
    ("system and user, thinking", SUM, True, True),
    ("system and user, not thinking", SUM, False, True),
    ("system and user, no generation prompt", SUM, None, False),
    ("not thinking, no generation prompt", SUM, False, False),
    ("no system", [user("What is 2 + 2?")], None, True),
    ("no system, not thinking", [user("What is 2 + 2?")], False, True),
    ("system only", [system("Say nothing.")], None, True),
    ("second system message", [system("A"), user("B"), system("C"), user("D")], None, True),
    ("several turns", CHAT, None, True),
    ("several turns, not thinking", CHAT, False, True),
    # The last assistant turn gets an empty think block; earlier ones get none.
    ("ends with assistant", CHAT + [assistant("2")], None, False),
    ("ends with assistant, two replies", [user("A"), assistant("B"), user("C"), assistant("D")], None, False),
    ("two assistant turns after the question", [user("A"), assistant("B"), assistant("C")], None, False),
    # Thoughts of turns before the last question are dropped, those after it are kept.
    ("thought before the last question", [CHAT[2], assistant(THOUGHT), user("Another.")], None, True),
    ("thought after the last question", [CHAT[2], assistant(THOUGHT)], None, False),
    ("thought before and after", [CHAT[2], assistant(THOUGHT), user("Another."), assistant(THOUGHT)], None, False),
    ("thought without opening tag", [user("A"), assistant("so\n</think>\n\nB")], None, False),
    ("thought never closed", [user("A"), assistant("<think>\nso")], None, False),
    ("thought twice", [user("A"), assistant("<think>\na\n</think>\n\nb<think>\nc\n</think>\n\nd")], None, False),
    (
        "thought padded with newlines",
        [user("A"), assistant("<think>\n\n\n a \n\n\n</think>\n\n\n\nB\n\n")],
        None,
        False,
    ),
    ("thought in a user message", [user("<think>\nmine\n</think>\n\nkeep it"), assistant("B"), user("C")], None, True),
    (
        "thought as a field",
        [user("A"), {"role": "assistant", "content": "B", "reasoning_content": "\nbecause\n"}],
        None,
        False,
    ),
    ("one tool result", TOOL_RUN[:3], None, True),
    ("two tool results in a row", TOOL_RUN, None, True),
    ("two tool results in a row, not thinking", TOOL_RUN, False, True),
    ("tool results in two rounds", TOOL_RUN + [assistant("3 and"), tool("again"), tool("and")], None, True),
    ("tool results, then a question", TOOL_RUN + [assistant("3 and 7."), user("Sum?")], None, True),
    # A user message that is itself a tool response is no question: thoughts before it stay.
    (
        "tool response from the user",
        [user("A"), assistant(THOUGHT), user("<tool_response>\n3\n</tool_response>")],
        None,
        True,
    ),
    ("tool role first", [tool("3"), user("What was that?")], None, True),
    ("unicode", [system("Réponds en 中文。"), user("Ελλάδα 🇬🇷 👩‍🔬 e\u0301 \u00a0 ʕ•ᴥ•ʔ −∞ ≤ ½")], None, True),
    ("whitespace at both ends", [system("  A \n\n"), user("\n\t B  \n"), assistant(" C \n"), user(" ")], None, True),
    ("carriage returns", [user("A\r\nB\r")], None, True),
    ("empty contents", [system(""), user("")], None, True),
    ("template-like text", [user("{{ x }} {% if y %} {# z #} {{- messages -}} %}")], None, True),
    ("markup is not escaped", [user("<b>a & b</b> \"c\" 'd' \\n <|im_end|> <|im_start|>user")], None, True),
]


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    template = store_template(out)
    cases = [render(template, *case) for case in CASES]
    assert len({case["name"] for case in cases}) == len(cases)
    (out / "cases.json").write_text(json.dumps(cases, ensure_ascii=False, indent=1) + "\n")
    print(f"{len(cases)} cases, {(out / 'cases.json').stat().st_size} bytes")


def store_template(out: Path) -> str:
    """Copies the template and its licence out of the installed trl package, which is not imported."""
    trl = importlib.metadata.distribution("trl")
    source = Path(trl.locate_file("trl/chat_templates/qwen3.jinja"))
    template = source.read_bytes()
    found = hashlib.sha256(template).hexdigest()
    assert found == TEMPLATE_SHA256, f"trl {trl.version} ships another qwen3.jinja ({found}): look at it first"
    (out / "qwen3.jinja").write_bytes(template)
    licence = next(file for file in trl.files if file.name == "LICENSE")
    shutil.copyfile(trl.locate_file(licence), out / "LICENSE-APACHE-2.0")
    return template.decode()


def render(template: str, name: str, messages: list, enable_thinking: bool | None, add_generation_prompt: bool) -> dict:
    variables = {} if enable_thinking is None else {"enable_thinking": enable_thinking}
    rendered = render_jinja_template(
        conversations=[messages],
        chat_template=template,
        add_generation_prompt=add_generation_prompt,
        **variables,
    )
    texts = rendered[0] if isinstance(rendered, tuple) else rendered
    return {
        "name": name,
        "messages": messages,
        "enable_thinking": enable_thinking,
        "add_generation_prompt": add_generation_prompt,
        "text": texts[0],
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_OUT)
