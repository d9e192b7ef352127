"""Kits: what it takes to run an agent that somebody else wrote, as small frozen values.

`{{url}}` (of the gateway, without a path), `{{key}}`, `{{model}}`, `{{prompt}}` and `{{agent}}` (the folder it is
installed in) are filled in. A kit is listed here only if its agent has fixed a bug in a box without a network.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

PORT = 13131
"""Where agents find the gateway, on the loopback of their box."""

URL = f"http://127.0.0.1:{PORT}"


@dataclass(frozen=True)
class Kit:
    """How one agent is installed, configured and started.

    Args:
        name: What it is called.
        source: Where it comes from: `npm`, `pypi`, or empty where every box has it already.
        packages: What is installed; `{{version}}` is filled in.
        version: The version it was tried with.
        dialect: The dialect it asks in.
        command: The program and its arguments; the program is a path below `{{agent}}`, or one of the box.
        env: Variables.
        files: Path in the box to the content of a configuration file.
        resume: The same as `command`, to go on from its own session; empty: it cannot, or its session lags behind.
        shell: Name of its shell tool, and of the argument that holds the command.
        volatile: Patterns of what differs between two runs of the same work: dates, ids, times.
        node: The oldest major version of Node.js that runs it; 0: it needs none.
        python: The version of Python that runs it, such as `3.12`; empty: that of this process.
        notes: Known limits.
    """

    name: str
    source: str
    packages: tuple[str, ...]
    version: str
    dialect: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict, hash=False)
    files: Mapping[str, str] = field(default_factory=dict, hash=False)
    resume: tuple[str, ...] = ()
    shell: tuple[str, str] = ("bash", "command")
    volatile: tuple[str, ...] = ()
    node: int = 0
    python: str = ""
    notes: str = ""

    def requirement(self, version: str = "") -> tuple[str, ...]:
        """Return what a package manager is asked for."""
        return tuple(package.replace("{{version}}", version or self.version) for package in self.packages)

    def install_key(self, version: str = "") -> str:
        """Return the name of the folder that this version is installed in: a hash over all that goes in."""
        recipe = json.dumps([self.source, self.requirement(version), *([self.python] if self.python else [])])
        return f"{self.name}-{version or self.version}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"

    def identity(self) -> dict[str, object]:
        """Return all that changes what the agent does, as plain JSON values."""
        facts = asdict(self)
        left_out = ("notes", "python", "shell", "volatile", "version")
        return {name: value for name, value in facts.items() if name not in left_out}


def fill(text: str, values: Mapping[str, str]) -> str:
    """Return a text with its names in double braces filled in."""
    for name, value in values.items():
        text = text.replace("{{" + name + "}}", value)
    return text


_CODEX = Kit(
    "codex",
    "npm",
    ("@openai/codex@{{version}}",),
    "0.171.0",
    "responses",
    (
        "{{agent}}/node_modules/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex",
        "exec",
        "--json",
        "--skip-git-repo-check",
        "--dangerously-bypass-approvals-and-sandbox",
        "{{prompt}}",
    ),
    env={"CODEX_HOME": "/root/.codex", "LAB_KEY": "{{key}}"},
    files={
        "/root/.codex/config.toml": (
            'model = "{{model}}"\nmodel_provider = "lab"\n\n[model_providers.lab]\nname = "lab"\n'
            'base_url = "{{url}}/v1"\nenv_key = "LAB_KEY"\nwire_api = "responses"\nsupports_websockets = false\n'
        )
    },
    resume=(
        "{{agent}}/node_modules/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex",
        "exec",
        "--json",
        "--skip-git-repo-check",
        "--dangerously-bypass-approvals-and-sandbox",
        "resume",
        "--last",
        "{{prompt}}",
    ),
    shell=("exec_command", "cmd"),
    volatile=(
        r"Chunk ID: \w+",
        r"Wall time: [\d.]+ seconds",
        r"<current_date>[^<]*</current_date>",
        r"<timezone>[^<]*</timezone>",
    ),
    notes="sub-agent tools and web search are left out of its requests",
)

_CLAUDE_CODE = Kit(
    "claude-code",
    "npm",
    ("@anthropic-ai/claude-code@{{version}}",),
    "2.1.197",
    "anthropic",
    (
        "{{agent}}/node_modules/@anthropic-ai/claude-code-linux-x64/claude",
        "-p",
        "{{prompt}}",
        "--output-format",
        "stream-json",
        "--verbose",
        "--dangerously-skip-permissions",
    ),
    env={
        "CLAUDE_CONFIG_DIR": "/root/.claude",
        "ANTHROPIC_BASE_URL": "{{url}}",
        "ANTHROPIC_API_KEY": "{{key}}",
        "ANTHROPIC_MODEL": "{{model}}",
        "ANTHROPIC_SMALL_FAST_MODEL": "{{model}}",
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": "{{model}}",
        "ANTHROPIC_DEFAULT_SONNET_MODEL": "{{model}}",
        "ANTHROPIC_DEFAULT_OPUS_MODEL": "{{model}}",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "IS_SANDBOX": "1",
    },
    shell=("Bash", "command"),
    volatile=(r"Today's date is[^\n]*", r"toolu?_\w+", r"\ba[0-9a-f]{16}\b", r"duration_ms: \d+"),
    notes="its prompt and tools take about 20,000 tokens; its own session lags one turn behind, so branches replay",
)

_QWEN_CODE = Kit(
    "qwen-code",
    "npm",
    ("@qwen-code/qwen-code@{{version}}",),
    "0.15.10",
    "chat",
    ("node", "{{agent}}/node_modules/@qwen-code/qwen-code/cli.js", "-y", "-p", "{{prompt}}"),
    env={
        "OPENAI_API_KEY": "{{key}}",
        "OPENAI_BASE_URL": "{{url}}/v1",
        "OPENAI_MODEL": "{{model}}",
        "QWEN_TELEMETRY_ENABLED": "false",
    },
    files={
        "/root/.qwen/settings.json": (
            '{"security": {"auth": {"selectedType": "openai"}}, "privacy": {"usageStatisticsEnabled": false},'
            ' "general": {"disableAutoUpdate": true}}'
        )
    },
    shell=("run_shell_command", "command"),
    volatile=(r"Today's date is[^\n]*", r"Process Group PGID: \d+"),
    node=20,
)

_GEMINI_CLI = Kit(
    "gemini-cli",
    "npm",
    ("@google/gemini-cli@{{version}}",),
    "0.61.0",
    "google",
    (
        "node",
        "{{agent}}/node_modules/@google/gemini-cli/bundle/gemini.js",
        "-y",
        "--skip-trust",
        "-m",
        "{{model}}",
        "-p",
        "{{prompt}}",
    ),
    env={"GOOGLE_GEMINI_BASE_URL": "{{url}}", "GEMINI_API_KEY": "{{key}}", "GEMINI_CLI_TRUST_WORKSPACE": "true"},
    files={
        "/root/.gemini/settings.json": (
            '{"security": {"auth": {"selectedType": "gemini-api-key"}}, "privacy": {"usageStatisticsEnabled": false},'
            ' "general": {"disableAutoUpdate": true, "enableAutoUpdate": false}}'
        )
    },
    shell=("run_shell_command", "command"),
    volatile=(r"Today's date is[^\n]*", r"Process Group PGID: \d+"),
    node=20,
)

_OPENCODE = Kit(
    "opencode",
    "npm",
    ("opencode-ai@{{version}}", "opencode-linux-x64@{{version}}"),
    "1.18.33",
    "chat",
    ("{{agent}}/node_modules/opencode-linux-x64/bin/opencode", "run", "{{prompt}}"),
    env={"OPENCODE_CONFIG": "/root/.config/opencode/opencode.json", "OPENCODE_DISABLE_AUTOUPDATE": "1"},
    files={
        "/root/.config/opencode/opencode.json": (
            '{"provider": {"lab": {"npm": "@ai-sdk/openai-compatible", "name": "lab", "options": {"baseURL": "{{url}}/v1",'
            ' "apiKey": "{{key}}"}, "models": {"{{model}}": {"name": "{{model}}"}}}}, "model": "lab/{{model}}",'
            ' "small_model": "lab/{{model}}", "permission": "allow", "autoupdate": false, "share": "disabled",'
            ' "tools": {"webfetch": false}}'
        )
    },
    shell=("bash", "command"),
    volatile=(r"Today's date: [^\n]*", r"\bses_\w+"),
)


def _python(name: str, module: str, what: str) -> tuple[str, ...]:
    """Return how a program from PyPI is started: by the interpreter that came along, whose library its children do not see."""
    return (
        "env", "LD_LIBRARY_PATH={{agent}}/python/lib", "{{agent}}/python/bin/python3", "-I", "-c",
        "import os, sys; del os.environ['LD_LIBRARY_PATH']; sys.path.insert(0, sys.argv.pop(1)); "
        f"sys.argv[0] = {name!r}; from {module} import {what} as main; main()",
        "{{agent}}/site",
    )  # fmt: skip


_MINI = Kit(
    "mini-swe-agent",
    "pypi",
    ("mini-swe-agent=={{version}}",),
    "2.4.6",
    "chat",
    (
        *_python("mini", "minisweagent.run.mini", "app"),
        "-y",
        "--exit-immediately",
        "-m",
        "openai/{{model}}",
        "-t",
        "{{prompt}}",
    ),
    env={
        "OPENAI_API_KEY": "{{key}}",
        "OPENAI_BASE_URL": "{{url}}/v1",
        "OPENAI_API_BASE": "{{url}}/v1",
        "MSWEA_CONFIGURED": "true",
        "MSWEA_COST_TRACKING": "ignore_errors",
        "MSWEA_SILENT_STARTUP": "1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    },
    shell=("bash", "command"),
)

_OPENHANDS = Kit(
    "openhands",
    "pypi",
    ("openhands=={{version}}",),
    "1.16.0",
    "chat",
    (
        *_python("openhands", "openhands_cli.entrypoint", "main"),
        "--headless",
        "--override-with-envs",
        "-t",
        "{{prompt}}",
    ),
    env={
        "LLM_API_KEY": "{{key}}",
        "LLM_BASE_URL": "{{url}}/v1",
        "LLM_MODEL": "openai/{{model}}",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "OPENHANDS_SUPPRESS_BANNER": "1",
    },
    shell=("terminal", "command"),
    python="3.12",
)

KITS: Mapping[str, Kit] = {
    kit.name: kit for kit in (_CODEX, _CLAUDE_CODE, _OPENCODE, _QWEN_CODE, _GEMINI_CLI, _MINI, _OPENHANDS)
}
"""The agents that were run here."""


def kit_named(name: str) -> Kit:
    """Return a bundled kit.

    Raises:
        ValueError: There is none of this name.
    """
    if name not in KITS:
        raise ValueError(f"unknown agent {name!r}; bundled are {', '.join(KITS)}; for others, give a Kit of your own")
    return KITS[name]
