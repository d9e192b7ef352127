"""Requests and answers of every kind that a dialect can hold, and bodies that none of them expects."""

from __future__ import annotations

from hypothesis import strategies as st

from swebench_lab.formats.dialects.exchange import Answer, Request, ToolUse, Usage, assistant_message, canonical_json

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
names = st.text("abcdefgh_XYZ", min_size=1, max_size=12)
arguments = st.dictionaries(names, values, max_size=3).map(canonical_json)
texts = st.text(max_size=80)
some = st.text(min_size=1, max_size=80).filter(lambda text: text.strip("\n") == text and "x-anthropic" not in text)
NO_SYSTEM_INSIDE = ("google",)


@st.composite
def requests(draw, dialect: str) -> Request:
    """A request that this dialect can hold whole."""
    messages = []
    if draw(st.booleans()):
        messages.append({"role": "system", "content": draw(some)})
    for turn in range(draw(st.integers(0, 4))):
        roles = ["user"] if dialect in NO_SYSTEM_INSIDE or not messages else ["user", "system"]
        messages.append({"role": draw(st.sampled_from(roles)), "content": draw(texts)})
        reasoning = draw(st.just("") | some)
        calls = [
            {"id": f"call_{turn}_{n}", "name": draw(names), "arguments": draw(arguments)}
            for n in range(draw(st.integers(0, 3)))
        ]
        signature = draw(st.just("") | some) if reasoning else ""
        messages.append(assistant_message(draw(texts), reasoning, signature, calls))
        for call in draw(st.permutations(calls)):
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": draw(texts)})
    tools = tuple(
        {"name": f"tool_{n}", "description": draw(texts), "parameters": {"type": "object", "properties": {}}}
        for n in range(draw(st.integers(0, 3)))
    )
    asked = {"temperature": draw(st.floats(0, 2)), "max_tokens": draw(st.integers(1, 1 << 16))}
    stream = draw(st.booleans()) if dialect != "google" else False
    model = draw(names) if dialect != "google" else ""
    return Request(dialect, model, tuple(messages), tools, stream, asked)


@st.composite
def answers(draw, dialect: str) -> Answer:
    """An answer that this dialect can hold whole."""
    calls = tuple(ToolUse(f"call_{n}", draw(names), draw(arguments)) for n in range(draw(st.integers(0, 3))))
    finish = draw(st.sampled_from(["length", "tool_calls" if calls else "stop"]))
    reasoning = draw(st.just("") | some)
    cached, reasoned = draw(st.integers(0, 1000)), draw(st.integers(0, 1000)) if dialect != "anthropic" else 0
    usage = Usage(cached + draw(st.integers(0, 1000)), reasoned + draw(st.integers(0, 1000)), cached, reasoned)
    created = draw(st.integers(0, 2**31)) if dialect in ("chat", "responses") else 0
    signature = draw(st.just("") | some) if reasoning else ""
    return Answer(draw(names), draw(texts), calls, finish, reasoning, signature, usage, draw(names), created)


KEYS = [
    "messages",
    "input",
    "instructions",
    "system",
    "contents",
    "systemInstruction",
    "parts",
    "role",
    "content",
    "text",
    "type",
    "tools",
    "name",
    "function",
    "parameters",
    "input_schema",
    "functionDeclarations",
    "functionCall",
    "functionResponse",
    "response",
    "args",
    "id",
    "call_id",
    "arguments",
    "tool_calls",
    "tool_call_id",
    "tool_use_id",
    "is_error",
    "stream",
    "stream_options",
    "include_usage",
    "n",
    "custom",
    "action",
    "command",
    "output",
    "summary",
    "encrypted_content",
    "thinking",
    "signature",
    "mcp_servers",
    "previous_response_id",
    "thought",
    "thoughtSignature",
    "model",
]
WORDS = [
    "user",
    "assistant",
    "system",
    "developer",
    "model",
    "tool",
    "text",
    "thinking",
    "tool_use",
    "tool_result",
    "function",
    "custom",
    "local_shell",
    "message",
    "reasoning",
    "function_call",
    "function_call_output",
    "custom_tool_call",
    "local_shell_call",
    "web_search_20250305",
    "image",
    "input_text",
]
bodies = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(WORDS) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=40,
)
