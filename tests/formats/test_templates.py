"""Chat templates as models have them: without a system role, with roles in turns, with a thought that the prompt opens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from swebench_lab.errors import PolicyError
from swebench_lab.formats.calls import parse_xml
from swebench_lab.formats.renderer import Renderer
from swebench_lab.formats.token_ledger import force
from swebench_lab.records.reply import Message, Reply
from swebench_lab.records.step import Step
from swebench_lab.records.trajectory import Trajectory
from tests.tokens import PairTokenizer

NO_SYSTEM = """{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"""
IN_TURNS = (
    """{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"""
    """{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"""
)
DROPS_SYSTEM = "{% for m in messages %}{% if m.role != 'system' %}"
SAYS = "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
ASKS = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
THINKS = "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
TEMPLATES = {
    "no system role": NO_SYSTEM + SAYS + "{% endfor %}" + ASKS,
    "roles in turns": IN_TURNS + SAYS + "{% endfor %}" + ASKS,
    "the system prompt dropped in silence": DROPS_SYSTEM + SAYS + "{% endif %}{% endfor %}" + ASKS,
    "a thought opened": "{% for m in messages %}" + SAYS + "{% endfor %}" + THINKS,
    "no system role, and a thought opened": NO_SYSTEM + SAYS + "{% endfor %}" + THINKS,
    "roles in turns, and a thought opened": IN_TURNS + SAYS + "{% endfor %}" + THINKS,
}
OPENING: list[Message] = [{"role": "system", "content": "You repair."}, {"role": "user", "content": "It breaks."}]


class Templated(PairTokenizer):
    """A tokenizer that renders a Jinja template as transformers does."""

    def apply_chat_template(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None = None,
        chat_template: str = "",
        add_generation_prompt: bool = False,
        tokenize: bool = False,
        **options: Any,
    ) -> str:
        import jinja2.sandbox

        def refuse(problem: str) -> None:
            raise jinja2.TemplateError(problem)

        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = refuse
        shown = environment.from_string(chat_template)
        return shown.render(messages=messages, tools=tools, add_generation_prompt=add_generation_prompt, **options)


def renderer(name: str) -> Renderer:
    return Renderer.from_template(Templated(), TEMPLATES[name])


def text(renderer: Renderer, ids: Sequence[int]) -> str:
    return str(renderer.tokenizer.decode(list(ids), skip_special_tokens=False))


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_shows_the_system_prompt_and_all_that_users_say(name: str) -> None:
    made = renderer(name)
    shown = text(made, made.opening([*OPENING, {"role": "user", "content": "And so does that."}]))
    assert all(part in shown for part in ("You repair.", "It breaks.", "And so does that."))
    turn = text(made, made.turn([{"role": "user", "content": "One."}, {"role": "user", "content": "Two."}]))
    assert turn.index("One.") < turn.index("Two.")


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize(
    ("reply", "reasoning"),
    [
        ("<think>\nThe cause is a.\n</think>\n\nI edit.", ""),
        ("<think>The cause is a.</think>I edit.", ""),
        ("The cause is a.\n</think>\n\nI edit.", ""),
        ("I edit.", "The cause is a."),
        ("I edit.", ""),
        ("I write <think> into a file.", "It is <think> that the file lacks."),
    ],
)
def test_no_thought_is_opened_twice_and_none_is_left_open(name: str, reply: str, reasoning: str) -> None:
    made = renderer(name)
    call = "<function=bash>\n<parameter=command>\nls\n</parameter>\n</function>"
    step = Step.of(0, Reply(f"{reply}\n\n{call}", reasoning=reasoning), tool="bash", observation="a.py")
    (segment,) = force(Trajectory("t", opening=tuple(OPENING), steps=(step,)), made)
    whole = text(made, segment.ids.tolist())
    said = text(made, [i for i, spoke in zip(segment.ids.tolist(), segment.mask, strict=True) if spoke])
    assert "<think><think>" not in whole.replace("\n", "")
    if made.opens_thought:
        assert not said.startswith("<think>") and "</think>" in said
        assert reasoning in said
    elif reasoning:
        assert reasoning not in said
    assert dict(parse_xml(said.removesuffix("<|im_end|>")).arguments) == {"command": "ls"}


def test_a_template_that_refuses_a_role_says_what_to_do() -> None:
    made = renderer("roles in turns")
    with pytest.raises(PolicyError, match="another template, or the agent a flavour"):
        made.turn([{"role": "tool", "content": "a"}])
