"""The test double of the providers: what the official clients get from it, and that it does what a prompt asks."""

import hashlib
import json
import time
import uuid
from collections.abc import Iterator

import anthropic
import httpx
import openai
import pytest

from upstream.upstream import DIRECTIVE, prompt_of, running, words

CHAT = "/v1/chat/completions"
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]


@pytest.fixture(scope="module")
def double() -> Iterator[str]:
    with running() as address:
        yield address


@pytest.fixture(scope="module")
def client(double: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{double}/v1", api_key="sk-double", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def claude(double: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=double, api_key="sk-double", max_retries=0) as client:
        yield client


@pytest.fixture
def marker() -> str:
    return uuid.uuid4().hex


def ask(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def calls(double: str, marker: str) -> dict:
    return httpx.get(f"{double}/_calls", params={"marker": marker}).json()


def test_prompt_is_found_in_every_form_of_a_request() -> None:
    parts = [{"type": "text", "text": "b"}, {"type": "image_url", "image_url": {"url": "data:"}}]
    assert prompt_of({"system": "a", "messages": [{"content": parts}, {"content": "c"}]}) == "a\nb\nc"
    assert prompt_of({"input": ["a", "b"]}) == "a\nb"
    assert prompt_of({"input": [{"role": "user", "content": [{"type": "input_text", "text": "a"}]}]}) == "a"
    assert prompt_of({"model": "m"}) == ""


def test_directives_have_names_and_values() -> None:
    assert dict(DIRECTIVE.findall("x [[delay=1.5]] [[hang]]\n[[marker=a-b]] [not=one]")) == {
        "delay": "1.5",
        "hang": "",
        "marker": "a-b",
    }


def test_chat_repeats_the_prompt_and_counts_its_words(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="m", messages=ask("größe 漢字 🎉"))
    assert answer.choices[0].message.content == "You said: größe 漢字 🎉"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (3, 5, 8)
    assert answer.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("with_usage", [True, False])
def test_streamed_chat_is_the_chat_in_pieces(client: openai.OpenAI, with_usage: bool) -> None:
    options = {"stream_options": {"include_usage": True}} if with_usage else {}
    chunks = list(client.chat.completions.create(model="m", messages=ask("[[chunks=7]]"), stream=True, **options))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "word0 word1 word2 word3 word4 word5 word6 "
    assert [chunk.usage.completion_tokens for chunk in chunks if chunk.usage] == ([7] if with_usage else [])


@pytest.mark.parametrize("stream", [False, True])
def test_tool_is_called_when_the_prompt_asks_for_it(client: openai.OpenAI, stream: bool) -> None:
    request = {"model": "m", "messages": ask("[[tool]]"), "tools": TOOLS}
    if stream:
        chunks = list(client.chat.completions.create(**request, stream=True))
        deltas = [call.function for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
        name, arguments = deltas[0].name, "".join(delta.arguments for delta in deltas)
        finish = chunks[-1].choices[0].finish_reason
    else:
        choice = client.chat.completions.create(**request).choices[0]
        function = choice.message.tool_calls[0].function
        name, arguments, finish = function.name, function.arguments, choice.finish_reason
    assert (name, json.loads(arguments), finish) == ("weather", {"city": "Zürich", "days": 3}, "tool_calls")


def test_tools_alone_call_nothing(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="m", messages=ask("hi"), tools=TOOLS)
    assert answer.choices[0].message.tool_calls is None


def test_embeddings_are_the_same_in_both_encodings(client: openai.OpenAI) -> None:
    floats = client.embeddings.create(model="m", input=["a b", "c"], encoding_format="float")
    packed = client.embeddings.create(model="m", input=["a b", "c"])  # the client asks for base64 and decodes it
    assert floats.usage.prompt_tokens == 3
    for one, other in zip(floats.data, packed.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding)
    assert floats.data[0].embedding != floats.data[1].embedding


def test_images_are_pictures(client: openai.OpenAI) -> None:
    assert client.images.generate(model="m", prompt="a dot").data[0].b64_json.startswith("iVBOR")


def test_response_and_its_stream_agree(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="m", input="hello there")
    assert answer.output_text == "You said: hello there"
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (2, 4)
    events = list(client.responses.create(model="m", input="hello there", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == answer.output_text
    assert events[-1].response.output_text == answer.output_text


def test_response_calls_a_tool(client: openai.OpenAI) -> None:
    tools = [{"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}]
    answer = client.responses.create(model="m", input="[[tool]]", tools=tools)
    assert (answer.output[0].type, answer.output[0].name) == ("function_call", "weather")
    events = list(client.responses.create(model="m", input="[[tool]]", tools=tools, stream=True))
    assert events[-1].response.output[0].name == "weather"


def test_message_and_its_stream_agree(claude: anthropic.Anthropic) -> None:
    request = {"model": "m", "max_tokens": 99, "messages": ask("hello there")}
    answer = claude.messages.create(**request)
    assert answer.content[0].text == "You said: hello there"
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (2, 4)
    with claude.messages.stream(**request) as stream:
        final = stream.get_final_message()
    assert (final.content[0].text, final.stop_reason) == (answer.content[0].text, "end_turn")
    assert final.usage.output_tokens == 4


def test_message_calls_a_tool(claude: anthropic.Anthropic) -> None:
    tools = [{"name": "weather", "input_schema": {"type": "object"}}]
    request = {"model": "m", "max_tokens": 99, "messages": ask("[[tool]]"), "tools": tools}
    with claude.messages.stream(**request) as stream:
        final = stream.get_final_message()
    for message in (claude.messages.create(**request), final):
        assert (message.content[0].name, message.content[0].input) == ("weather", {"city": "Zürich", "days": 3})
        assert message.stop_reason == "tool_use"


@pytest.mark.parametrize(("status", "error"), [(429, openai.RateLimitError), (500, openai.InternalServerError)])
def test_status_on_request(client: openai.OpenAI, status: int, error: type[openai.APIStatusError]) -> None:
    with pytest.raises(error) as raised:
        client.chat.completions.create(model="m", messages=ask(f"[[status={status}]]"))
    assert (raised.value.status_code, raised.value.code) == (status, str(status))


def test_status_on_request_of_the_model_name_and_in_anthropics_form(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.InternalServerError, match="api_error"):
        claude.messages.create(model="m[[status=500]]", max_tokens=9, messages=ask("hi"))


def test_first_attempts_fail_and_are_counted(client: openai.OpenAI, double: str, marker: str) -> None:
    request = {"model": "m", "messages": ask(f"[[fail=2]] [[marker={marker}]]")}
    for _ in range(2):
        with pytest.raises(openai.InternalServerError):
            client.chat.completions.create(**request)
    assert client.chat.completions.create(**request).choices
    seen = calls(double, marker)
    assert seen["count"] == 3
    assert [attempt["outcome"] for attempt in seen["attempts"]] == ["refused", "refused", "answered"]
    assert calls(double, "another marker")["count"] == 0


def test_credential_is_needed_and_remembered_as_a_hash(double: str, marker: str) -> None:
    body = {"model": "m", "messages": ask(f"[[marker={marker}]]")}
    assert httpx.post(double + CHAT, json=body).status_code == 401
    assert calls(double, marker)["count"] == 0
    assert httpx.post(double + CHAT, json=body, headers={"Authorization": "Bearer sk-1"}).status_code == 200
    hashes = [attempt["credential_sha256"] for attempt in calls(double, marker)["attempts"]]
    assert hashes == [hashlib.sha256(b"sk-1").hexdigest()]


def test_delay_on_request(client: openai.OpenAI) -> None:
    start = time.monotonic()
    client.chat.completions.create(model="m", messages=ask("[[delay=0.3]]"))
    assert 0.3 <= time.monotonic() - start < 5


def test_hanging_call_ends_when_the_client_leaves(client: openai.OpenAI, double: str, marker: str) -> None:
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.3).chat.completions.create(
            model="m", messages=ask(f"[[hang]] [[marker={marker}]]")
        )
    deadline = time.monotonic() + 5
    while (outcome := calls(double, marker)["attempts"][0]["outcome"]) == "open" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert outcome == "client_gone"


def test_broken_stream_breaks_half_way(double: str, marker: str) -> None:
    body = {"model": "m", "messages": ask(f"[[broken_stream]] [[chunks=10]] [[marker={marker}]]"), "stream": True}
    received = []
    with (
        pytest.raises(httpx.RemoteProtocolError),
        httpx.stream("POST", double + CHAT, json=body, headers={"x-api-key": "k"}) as response,
    ):
        received.extend(response.iter_lines())
    assert any("word4" in line for line in received)
    assert not any("word5" in line or "[DONE]" in line for line in received)
    assert calls(double, marker)["attempts"][0]["outcome"] == "broken"


def test_stalled_stream_stays_open(double: str) -> None:
    body = {"model": "m", "messages": ask("[[stall]] [[chunks=10]]"), "stream": True}
    received = []
    with (
        pytest.raises(httpx.ReadTimeout),
        httpx.stream("POST", double + CHAT, json=body, headers={"x-api-key": "k"}, timeout=0.5) as response,
    ):
        received.extend(response.iter_lines())
    assert any("word4" in line for line in received)
    assert not any("word5" in line for line in received)


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"messages": []}', b"[" * 100_000])
def test_bad_bodies_are_refused(double: str, body: bytes) -> None:
    answer = httpx.post(double + CHAT, content=body, headers={"x-api-key": "k"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


def test_large_prompts_are_taken(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="m", messages=ask("word " * 1_048_576))
    assert answer.usage.prompt_tokens == words("word " * 1_048_576) == 1_048_576
