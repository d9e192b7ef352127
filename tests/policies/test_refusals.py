"""What an endpoint's error means, by its codes, its wording and its status: bodies as providers, gateways and servers write them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from swebench_lab.policies.refusals import Kind, Refusal, in_body

OVER = "This model's maximum context length is 8192 tokens. However, you requested 9000"

FULL: list[tuple[int, Any]] = [
    # by the code
    (400, {"error": {"type": "context_exceeded", "message": "?"}}),
    (400, {"error": {"code": "model_max_prompt_tokens_exceeded", "message": "?"}}),
    (400, {"error": {"code": "bad_request", "inner": {"code": "ContextLengthExceeded"}}}),
    (400, {"error": {"code": "OutOfContext", "message": "?"}}),
    (400, {"error": {"code": "1261", "message": "?"}}),
    (502, {"error": {"code": "context_length_exceeded", "message": "upstream"}}),
    # an error within an error, as routers hand it on
    (
        400,
        {
            "error": {
                "code": 400,
                "message": "Provider returned error",
                "metadata": {"raw": json.dumps({"error": {"message": OVER}})},
            }
        },
    ),
    (400, {"error": {"code": 400, "metadata": {"raw": '{"error":{"code":"context_length_exceeded"}}'}}}),
    (400, "litellm.ContextWindowExceededError: litellm.BadRequestError: AnthropicException - x"),
    (500, "litellm.InternalServerError: the input token count (1200000) exceeds the maximum number of tokens allowed"),
    # by the wording
    (400, "Prompt is 11543 tokens but the model context window is 4096 tokens."),
    (400, "The total length of all messages is too long."),
    (
        400,
        "Trying to keep the first 111490 tokens when context the overflows. However, the model is loaded with context length of only 32768",
    ),
    (400, "total tokens exceeds the model's max of 4096"),
    (
        400,
        {
            "errors": [
                {
                    "message": "AiError: the estimated number of input and maximum output tokens (33000) exceeded this model context window limit"
                }
            ]
        },
    ),
    (400, {"error": {"message": "Prompt 超长"}}),
    (400, "输入的tokens长度超过模型最大限制"),
    (400, "Conversation too long, please start a new session"),
    (400, "You have reached the context limit for this model. Remove earlier messages and retry."),
    (400, "Input is longer than the model supports: 140k vs 128k tokens"),
    (400, "input_ids length 9000 exceeds max_input_len 8192"),
    (400, "Malformed input request: expected maxLength: 400000, actual: 500000, please reformat your input"),
    (503, OVER),
    (
        400,
        {
            "error": {
                "message": f"'max_tokens' or 'max_completion_tokens' is too large: 5000. {OVER} (5000 > 8192 - 4000).",
                "param": "max_tokens",
            }
        },
    ),
    (
        400,
        {
            "error": {
                "code": "string_above_max_length",
                "message": "Invalid 'messages[3].content': string too long. Expected a string with maximum length 1048576",
            }
        },
    ),
    # by the numbers, whatever the words
    (400, "Le nombre de tokens (9000) dépasse 8192"),
    (400, "This request needs 140,112 tokens; the deployment is limited to 131,072."),
    (400, "prompt truncated not allowed: n_prompt=9000 n_ctx=8192"),
    (422, {"detail": [{"loc": ["body", "messages"], "msg": "ensure total tokens <= 16384, got 17001"}]}),
    (400, "prompt_tokens 140000 > max_prompt_tokens 131072"),
    # one request beyond the tokens of a whole minute never passes
    (429, "Request too large for m on tokens per min (TPM): Limit 30000, Requested 41237. The tokens must be reduced"),
    # with status 200
    (200, {"error": {"message": "context window exceeds limit", "code": 400}}),
    (
        200,
        {
            "choices": None,
            "base_resp": {"status_code": 2013, "status_msg": "invalid params, context window exceeds limit"},
        },
    ),
    (200, {"base_resp": {"status_code": 1039, "status_msg": "token limit"}}),
    (200, {"object": "error", "message": OVER, "code": 400}),
    (200, {"detail": "Input is too long for requested model."}),
]
PASSING: list[tuple[int, Any]] = [
    (429, "Too many tokens, please wait before trying again."),
    (400, {"message": "Too many tokens, please wait before trying again.", "__type": "ThrottlingException"}),
    (429, "Rate limit reached for m on tokens per min (TPM): Limit 30000, Used 29000, Requested 2000. Please try again in 2s."),
    (400, "Rate limit: 1000000 tokens per minute, current 1200000"),
    (500, "CUDA error: an illegal memory access, tokens 8192, blocks 4096"),
    (500, "Request queue is too long (max 128)"),
    (503, "no healthy upstream: request queue exceeds the maximum length"),
    (500, "upstream request timeout exceeded the limit of 300 seconds"),
    (503, "KV cache is full; request preempted, try again in 5 seconds"),
    (424, "Model is loading"),
    (529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
    (200, {"base_resp": {"status_code": 1002, "status_msg": "rate limit"}}),
    (200, {"error": "overloaded"}),
]  # fmt: skip
FINAL: list[tuple[int, Any]] = [
    (400, "max_tokens must be at most 8192"),
    (400, "max_tokens (20000) exceeds the model limit of 8192 output tokens"),
    (400, {"error": {"message": "Invalid 'max_output_tokens': integer above maximum value. Expected a value <= 32768"}}),
    (400, "The maximum tokens you requested exceeds the model limit of 4096."),
    (422, {"detail": [{"loc": ["body", "max_tokens"], "msg": "Input should be less than or equal to 8192", "input": 16384}]}),
    (400, "max_tokens is limited to 8192, but 16384 was given"),
    (400, "you requested 16000 completion tokens, the model supports 8192"),
    (400, "Function name is too long: maximum length 64"),
    (400, "Invalid 'tools[0].function.description': string too long. Expected a string with maximum length 1024"),
    (400, {"error": {"code": "string_above_max_length", "message": "Invalid 'prompt_cache_key': string too long. Expected a string with maximum length 64"}}),
    (400, "Invalid 'messages[2].tool_calls[0].id': string too long. Expected a string with maximum length 40"),
    (400, "stop: too many items, max length 4"),
    (400, "temperature must be between 0 and 2"),
    (400, "messages.5: `tool_use` ids were found without `tool_result` blocks immediately after"),
    (400, "API key not valid. Please pass a valid API key."),
    (402, "You requested up to 64000 tokens, but can only afford 1200."),
    (429, {"error": {"code": "1113", "message": "Insufficient balance or no resource package. Please recharge."}}),
    (200, {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}),
    (200, {"base_resp": {"status_code": 1004, "status_msg": "login fail: check the api key"}}),
]  # fmt: skip
KINDS = [
    (kind, *row) for kind, rows in ((Kind.FULL, FULL), (Kind.PASSING, PASSING), (Kind.FINAL, FINAL)) for row in rows
]


@pytest.mark.parametrize(
    ("kind", "status", "body"), KINDS, ids=[f"{kind.value}-{str(body)[:40]}" for kind, _, body in KINDS]
)
def test_an_error_is_what_it_says_wherever_it_says_it(kind: Kind, status: int, body: Any) -> None:
    if status == 200:
        refusal = in_body(body)
        assert refusal is not None and refusal.kind is kind
        return
    bodies = (
        [body] if isinstance(body, dict) else [body, {"error": {"message": body}}, {"detail": body}, {"error": body}]
    )
    for one in bodies:
        assert Refusal.of(status, one if isinstance(one, str) else json.dumps(one)).kind is kind, one


@pytest.mark.parametrize("answer", [
    {"choices": [{"message": {"content": "message"}}], "message": "hello"}, {"content": [], "type": "message"},
    {"output": [], "error": None, "status": "completed"}, {}, [], None, "text", {"base_resp": {"status_code": 0, "status_msg": "success"}, "choices": []},
])  # fmt: skip
def test_an_answer_is_no_error(answer: Any) -> None:
    assert in_body(answer) is None
