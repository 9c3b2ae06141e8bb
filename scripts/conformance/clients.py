"""What users of the official clients do, against a server whose URL is the argument. Nothing of the clients is changed.

Run by scripts/conformance/clients.sh.
"""

import json
import math
import sys
import threading
from importlib.metadata import version

import httpx
import ollama
import openai
from pydantic import BaseModel

URL = sys.argv[1].rstrip("/")
MODEL = "tiny-planner"
QUESTION = [{"role": "user", "content": "Question: What is 12% of 350?"}]
GREEDY = {"temperature": 0, "num_predict": 16}

native = ollama.Client(host=URL)
compatible = openai.OpenAI(base_url=f"{URL}/v1", api_key="any", max_retries=0)
checks = []


def check(function):
    checks.append(function)
    return function


class Decision(BaseModel):
    thought: str
    action: str
    action_input: str


def strict(model):
    """The schema as OpenAI's strict mode has it."""
    schema = model.model_json_schema()
    schema["additionalProperties"] = False
    return schema


@check
def ollama_chat_and_stream_agree():
    whole = native.chat(MODEL, QUESTION, options=GREEDY)
    pieces = list(native.chat(MODEL, QUESTION, options=GREEDY, stream=True))
    assert "".join(piece.message.content for piece in pieces) == whole.message.content != ""
    assert whole.message.role == "assistant" and whole.done and whole.done_reason == "length"
    assert pieces[-1].done and not any(piece.done for piece in pieces[:-1]) and len(pieces) > 4
    for end in (whole, pieces[-1]):
        assert end.eval_count == 16 and end.prompt_eval_count > 5
        assert end.total_duration >= end.eval_duration > 0 and end.prompt_eval_duration > 0


@check
def ollama_generate_and_stream_agree():
    prompt = QUESTION[0]["content"]
    whole = native.generate(MODEL, prompt, options=GREEDY)
    pieces = list(native.generate(MODEL, prompt, options=GREEDY, stream=True))
    assert "".join(piece.response for piece in pieces) == whole.response
    assert whole.response == native.chat(MODEL, QUESTION, options=GREEDY).message.content
    more = native.generate(MODEL, "Go on.", context=whole.context, options=GREEDY)
    assert more.prompt_eval_count > len(whole.context)
    raw = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    assert native.generate(MODEL, raw, raw=True, options=GREEDY).response == whole.response


@check
def ollama_structured_output():
    for seed in range(4):
        reply = native.chat(
            MODEL, QUESTION, format=Decision.model_json_schema(), options={"temperature": 1.2, "seed": seed}
        )
        if reply.done_reason == "stop":
            Decision.model_validate_json(reply.message.content)
    reply = native.chat(MODEL, QUESTION, format=Decision.model_json_schema(), options={"temperature": 0})
    assert "350" in Decision.model_validate_json(reply.message.content).action_input
    assert isinstance(json.loads(native.generate(MODEL, "x", format="json", options={"temperature": 0}).response), dict)


@check
def ollama_options_seed_and_stop():
    hot = {"temperature": 2.5, "top_k": 0, "top_p": 1.0, "num_predict": 12}
    first, again, other = (
        native.chat(MODEL, QUESTION, options={**hot, "seed": seed}).message.content for seed in (1, 1, 2)
    )
    assert first == again != other
    free = native.chat(MODEL, QUESTION, options=GREEDY).message.content
    stop = free[9:13]
    reply = native.chat(MODEL, QUESTION, options={**GREEDY, "stop": [stop]})
    assert reply.message.content == free[: free.index(stop)] and reply.done_reason == "stop"


@check
def ollama_logprobs():
    reply = native.chat(MODEL, QUESTION, options=GREEDY, logprobs=True, top_logprobs=2)
    assert len(reply.logprobs) == 16 and all(token.logprob <= 0 for token in reply.logprobs)
    assert "".join(token.token for token in reply.logprobs) == reply.message.content
    assert all(token.top_logprobs[0].token == token.token for token in reply.logprobs)


@check
def ollama_embeddings():
    several = native.embed(MODEL, ["two cats", "two dogs"])
    assert len(several.embeddings) == 2 and len(several.embeddings[0]) == 192
    assert all(math.isclose(math.hypot(*vector), 1, rel_tol=1e-4) for vector in several.embeddings)
    one = native.embed(MODEL, "two cats", dimensions=16).embeddings
    assert len(one) == 1 and len(one[0]) == 16
    assert len(native.embeddings(MODEL, "two cats").embedding) == 192


@check
def ollama_models():
    listed = native.list().models
    assert [model.model for model in listed] == ["tiny-planner:latest"]
    assert listed[0].size > 0 and listed[0].details.family == "qwen3" and listed[0].modified_at
    shown = native.show(MODEL)
    assert "completion" in shown.capabilities and shown.modelinfo["qwen3.block_count"] == 4
    assert "<|im_start|>" in shown.template
    running = native.ps().models
    assert running[0].name == "tiny-planner:latest" and running[0].context_length == 1024


@check
def ollama_errors():
    def fails(status, text, call):
        try:
            call()
        except ollama.ResponseError as error:
            assert error.status_code == status and text in error.error, error
        else:
            raise AssertionError(f"no error, but {status} {text} was expected")

    fails(404, "model 'missing' not found", lambda: native.chat("missing", QUESTION))
    fails(404, "model 'missing' not found", lambda: list(native.chat("missing", QUESTION, stream=True)))
    fails(404, "model 'missing' not found", lambda: native.show("missing"))
    fails(400, "does not support thinking", lambda: native.chat(MODEL, QUESTION, think=True))
    fails(400, "does not support tools", lambda: native.chat(MODEL, QUESTION, tools=[lambda_tool]))
    fails(400, "longer than the context", lambda: native.generate(MODEL, "seven cats " * 2000))
    fails(400, "must be of type integer", lambda: native.chat(MODEL, QUESTION, options={"num_predict": "x"}))
    fails(404, "not served here", lambda: native.pull("x"))


def lambda_tool(a: int) -> int:
    """Doubles.

    Args:
        a: a number
    """
    return 2 * a


@check
def ollama_a_client_that_leaves():
    for _ in range(8):
        for _ in native.chat(MODEL, QUESTION, stream=True, options={"num_predict": 500, "temperature": 3}):
            break
    assert native.chat(MODEL, QUESTION, options=GREEDY).done


@check
def openai_chat_and_stream_agree():
    ask = dict(model=MODEL, messages=QUESTION, temperature=0, max_tokens=16)
    whole = compatible.chat.completions.create(**ask)
    assert whole.choices[0].finish_reason == "length" and whole.usage.completion_tokens == 16
    assert whole.choices[0].message.content == native.chat(MODEL, QUESTION, options=GREEDY).message.content
    chunks = list(compatible.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage and not chunks[-1].choices
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == ["length"]


@check
def openai_stream_helper():
    # Enough to end by itself: the helper raises where a reply was cut off.
    ask = dict(model=MODEL, messages=QUESTION, temperature=0, max_completion_tokens=200)
    with compatible.chat.completions.stream(**ask) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert "".join(deltas) == final.choices[0].message.content != ""


@check
def openai_structured_output():
    parsed = compatible.chat.completions.parse(
        model=MODEL, messages=QUESTION, response_format=Decision, temperature=0
    )
    assert "350" in parsed.choices[0].message.parsed.action_input
    reply = compatible.chat.completions.create(
        model=MODEL,
        messages=QUESTION,
        temperature=0,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "decision", "strict": True, "schema": strict(Decision)},
        },
    )
    Decision.model_validate_json(reply.choices[0].message.content)


@check
def openai_logprobs_seed_and_stop():
    ask = dict(model=MODEL, messages=QUESTION, max_tokens=12)
    reply = compatible.chat.completions.create(**ask, temperature=0, logprobs=True, top_logprobs=3)
    tokens = reply.choices[0].logprobs.content
    assert len(tokens) == 12 and all(len(token.top_logprobs) == 3 for token in tokens)
    assert b"".join(bytes(token.bytes) for token in tokens).decode() == reply.choices[0].message.content
    first, again, other = (
        compatible.chat.completions.create(**ask, temperature=2, seed=seed).choices[0].message.content
        for seed in (1, 1, 2)
    )
    assert first == again != other
    free = reply.choices[0].message.content
    stopped = compatible.chat.completions.create(**ask, temperature=0, stop=free[6:9]).choices[0]
    assert stopped.finish_reason == "stop" and stopped.message.content == free[: free.index(free[6:9])]


@check
def openai_embeddings():
    # Left to itself, the client asks for base64.
    encoded = compatible.embeddings.create(model=MODEL, input=["two cats", "two dogs"])
    floats = compatible.embeddings.create(model=MODEL, input="two cats", encoding_format="float")
    assert len(encoded.data) == 2 and len(encoded.data[0].embedding) == 192
    assert all(
        math.isclose(a, b, abs_tol=1e-6) for a, b in zip(encoded.data[0].embedding, floats.data[0].embedding)
    )
    assert encoded.usage.prompt_tokens > 0


@check
def openai_models():
    assert [model.id for model in compatible.models.list()] == ["tiny-planner:latest"]
    assert compatible.models.retrieve(MODEL).id == MODEL


@check
def openai_errors():
    def fails(kind, text, call):
        try:
            call()
        except kind as error:
            assert text in error.message and error.body["type"], error
        else:
            raise AssertionError(f"no error, but {kind.__name__} {text} was expected")

    create = compatible.chat.completions.create
    fails(openai.NotFoundError, "model 'missing' not found", lambda: create(model="missing", messages=QUESTION))
    fails(openai.BadRequestError, "`n` must be 1", lambda: create(model=MODEL, messages=QUESTION, n=2))
    fails(openai.BadRequestError, "too short", lambda: create(model=MODEL, messages=[]))
    fails(openai.NotFoundError, "model 'missing' not found", lambda: compatible.models.retrieve("missing"))


@check
def many_at_once():
    replies = {}

    def ask(number):
        options = {"temperature": 2, "seed": number, "num_predict": 16}
        replies[number] = native.chat(MODEL, QUESTION, options=options).message.content

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = native.chat(MODEL, QUESTION, options={"temperature": 2, "seed": 7, "num_predict": 16})
    assert len(replies) == 32 and replies[7] == alone.message.content


@check
def the_bare_wire():
    assert httpx.get(URL).text == "Ollama is running" and httpx.head(URL).status_code == 200
    assert httpx.post(f"{URL}/api/chat", content=b"{nonsense").status_code == 400
    assert httpx.post(f"{URL}/api/chat", content=b"").json() == {"error": "missing request body"}
    assert httpx.get(f"{URL}/api/tags", headers={"Origin": "https://example.com"}).status_code == 403


failed = 0
for function in checks:
    try:
        function()
        print(f"ok      {function.__name__}")
    except Exception as error:  # every check is run, whatever the others do
        failed += 1
        print(f"FAILED  {function.__name__}: {type(error).__name__}: {error}")
print(f"{len(checks) - failed} of {len(checks)} checks hold; ollama {version('ollama')}, openai {version('openai')}")
sys.exit(failed > 0)
