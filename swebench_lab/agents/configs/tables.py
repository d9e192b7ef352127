"""Tables: what becomes of every option of SWE-agent 1.x, SWE-MiniSandbox and mini-swe-agent, or why not."""

from __future__ import annotations

from collections.abc import Mapping

from swebench_lab.agents.configs.options import Option


def _map_to(becomes: str, tree: bool = False) -> Option:
    return Option("mapped", becomes, tree=tree)


def _elsewhere(becomes: str, tree: bool = False) -> Option:
    return Option("elsewhere", becomes, tree=tree)


def _nothing(why: str, tree: bool = False) -> Option:
    return Option("no effect", why, tree=tree)


def _refuse(why: str, *harmless: object, tree: bool = True) -> Option:
    return Option("refused", why, (None, "", False, 0, [], {}, *harmless), tree)


def _all(options: Mapping[str, Option], *places: str) -> dict[str, Option]:
    return {f"{place}.{name}": option for place in places for name, option in options.items()}


_TEMPLATES = {
    "system_template": _map_to("the flavour's system prompt"),
    "instance_template": _map_to("the flavour's first message"),
    "next_step_template": _map_to("the frame around an observation"),
    "next_step_truncated_observation_template": _map_to("the frame around an observation that is too long"),
    "max_observation_length": _map_to("`Agent.observation_limit`"),
    "next_step_no_output_template": _map_to("what is shown where a call brought no text"),
    "strategy_template": _map_to("follows the first message"),
    "demonstration_template": _map_to("the frame around a demonstration"),
    "demonstrations": _map_to("recorded attempts, each as one message before the task", tree=True),
    "put_demos_in_history": _map_to(
        "each message of a demonstration is one before the task, marked so that its replies are not taken for the model's own"
    ),
    "disable_image_processing": _nothing("messages hold text only"),
    "shell_check_error_template": _map_to("what is shown for a command that bash cannot read"),
    "command_cancelled_timeout_template": _map_to("what is shown for a command that took too long"),
}

_TOOLS = {
    "filter.blocklist_error_template": _map_to("what is shown for a command that is not allowed"),
    "filter.blocklist": _map_to("commands that begin so are not run"),
    "filter.blocklist_standalone": _map_to("commands that are just this are not run"),
    "filter.block_unless_regex": _map_to("commands of this name are run only if they fit", tree=True),
    "bundles[].path": _map_to("copied to /root/tools, unwritable, and installed by its own install.sh"),
    "bundles[].hidden_tools": _map_to("tools of the bundle that are not offered", tree=True),
    "propagate_env_variables": _map_to("variables of this process that the shell is given, where they are set"),
    "env_variables": _map_to("variables of the shell, and names for templates", tree=True),
    "registry_variables": _map_to("what /root/.swe-agent-env begins with", tree=True),
    "submit_command": _map_to(
        "the tool that hands in: a call ends the attempt when it prints the mark of a submission"
    ),
    "parse_function.type": _map_to("how replies are read; the parsers for people who type are not taken over"),
    "parse_function.error_message": _map_to("what is shown for a reply that cannot be read"),
    "enable_bash_tool": _map_to("whether `bash` is a tool"),
    "format_error_template": _map_to("what is shown for a reply that cannot be read"),
    "command_docs": _nothing("made from the bundles, as there"),
    "multi_line_command_endings": _nothing("made from the bundles' `end_name`, as there", tree=True),
    "submit_command_end_name": _nothing("made from the bundles' `end_name`, as there"),
    "reset_commands": _map_to("commands after the tools are installed", tree=True),
    "execution_timeout": _map_to("`Agent.command_timeout`"),
    "install_timeout": _map_to("seconds for installing one bundle"),
    "total_execution_timeout": _map_to("`Agent.tool_time`"),
    "max_consecutive_execution_timeouts": _map_to("`Agent.max_timeouts`"),
    "str_replace_editor": _nothing("SWE-agent does not read it either: a bundle's own config.yaml says it", tree=True),
}

_MODEL = {
    "name": _map_to("`ChatPolicy.model`; human: `HumanPolicy`; instant_empty_submit: `NullPolicy`"),
    "timeout": _map_to("`ChatPolicy.timeout`"),
    "per_instance_cost_limit": _map_to("`Agent.max_cost`; costs are counted where `ChatPolicy.prices` says them"),
    "total_cost_limit": _nothing("a limit over a whole run is none of an attempt's; max_cost times attempts bounds it"),
    "per_instance_call_limit": _map_to("`Agent.max_steps`: every reply is a step, those that cannot be read included"),
    "temperature": _map_to("`ChatPolicy.temperature`"),
    "top_p": _map_to("`ChatPolicy.top_p`"),
    "api_base": _map_to("`ChatPolicy.base_url`; $OPENAI_BASE_URL where it is missing"),
    "api_version": _refuse("versions are told to one vendor's cloud only; put a gateway before it"),
    "api_key": _map_to("`ChatPolicy.api_key`; `$NAME` is a variable of this process"),
    "stop": _map_to("`ChatPolicy.stop`", tree=True),
    "completion_kwargs": _map_to("`ChatPolicy.body`", tree=True),
    "convert_system_to_user": _map_to("the role of the system prompt"),
    "retry.retries": _map_to("`ChatPolicy.retries`"),
    "retry.min_wait": _map_to("`ChatPolicy.pause`"),
    "retry.max_wait": _nothing("pauses double up to a minute"),
    "delay": _elsewhere("`Stages(model=…)` bounds how many calls there are at once"),
    "fallbacks": _refuse("attempts by several models would be told apart by nothing; collect with each"),
    "choose_api_key_by_thread": _nothing("there is one key"),
    "max_input_tokens": _map_to("`ChatPolicy.max_length`: checked before asking where the policy is token-exact"),
    "max_output_tokens": _map_to("`ChatPolicy.max_tokens`"),
    "litellm_model_registry": _nothing("prices are `ChatPolicy.prices`"),
    "custom_tokenizer": _nothing(
        "the endpoint counts tokens; `ChatPolicy.tokenizer` makes a policy token-exact", tree=True
    ),
    "replay_path": _refuse("give policy=lab.ReplayPolicy(lab.load_trajectories(…))"),
    "cost_per_call": _nothing("a person costs nothing here"),
    "catch_eof": _nothing("the end of a person's input ends the attempt"),
}

_HISTORY = {
    "type": _map_to(
        "last_n_observations, closed_window, remove_regex: `Agent.history`; cache_control and image_parsing change no "
        "text; tag_tool_call_observations tags replies, which no processor looks at"
    ),
    "n": _map_to("observations that are shown whole"),
    "polling": _map_to("`KeepObservations.every`"),
    "always_remove_output_for_tags": _nothing("observations have no tags", tree=True),
    "always_keep_output_for_tags": _nothing("observations have no tags", tree=True),
    "tags": _nothing("observations have no tags", tree=True),
    "function_names": _nothing("observations have no tags", tree=True),
    "last_n_messages": _nothing("endpoints cache by themselves"),
    "last_n_messages_offset": _nothing("endpoints cache by themselves"),
    "tagged_roles": _nothing("endpoints cache by themselves", tree=True),
    "remove": _map_to(
        "`RemoveText.patterns`; taken out of observations only, as replies stay as they were sampled", tree=True
    ),
    "keep_last": _map_to("`RemoveText.keep_last`"),
    "allowed_mime_types": _nothing("messages hold text only", tree=True),
}

_AGENT = {
    "type": _map_to(
        "default; sandbox and skysbdefault, with their 60 steps, 300 seconds and a reminder of the turns that are left (after "
        "every observation, where theirs begins ten turns before the end); "
        "of others the error says what does it here"
    ),
    "name": _nothing("there is one agent"),
    **_all(_TEMPLATES, "templates"),
    **_all(_TOOLS, "tools"),
    **_all(_MODEL, "model"),
    **_all(_HISTORY, "history_processors[]"),
    "max_requeries": _map_to("`Agent.max_format_errors`; a reply that cannot be read stays in the conversation"),
    "action_sampler": _refuse("several replies to one prompt are not compared by a model; use more attempts"),
    "step_limit": _map_to("`Agent.max_steps`"),
    "total_time_limit": _map_to("`Agent.wall_time`; without it, the Agent's own"),
    "cost_limit": _nothing("SWE-MiniSandbox does not use it; model.per_instance_cost_limit does it"),
    "max_retries": _elsewhere("`Deadlines(retries=…)`: an attempt that an infrastructure error ended is retried"),
    "reward": _elsewhere("`RolloutCollector(reward=…)`"),
    "eval": _elsewhere("every attempt is graded"),
    "pre_check": _elsewhere("`Evaluator.check(tasks)`"),
    "test_output": _elsewhere("`Verdict.log`"),
    "agent_configs": _refuse("see agent.type"),
    "retry_loop": _refuse("see agent.type"),
}

_DEPLOYMENT = {
    "type": _elsewhere("`SandboxFactory(backend)`"),
    "force_rebuild": _elsewhere("`SnapshotCache.rebuild(tasks)`"),
    "eval_timeout": _elsewhere("`Deadlines(grade=…)`"),
    "ds": _elsewhere("`Tasks`", tree=True),
    **{
        name: _elsewhere("Snapshots are found by what went into them; the cache's folder is `SandboxFactory(cache=…)`")
        for name in ("cached", "cache_git", "delete_after_create", "git_base_path", "root_base", "root_dir",
                     "git_folder", "shared_venv", "tool_path", "abs_tool_path", "conda_env", "data_type", "eval_dir")
    },
    "cmd_list": _elsewhere("`Spec.pre_install`", tree=True),
    "needed_packages": _elsewhere("`Spec.packages`", tree=True),
    "bundles": _elsewhere("agent.tools.bundles", tree=True),
    **{
        name: _elsewhere("`SandboxFactory('docker', …)`", tree=True)
        for name in ("host", "image", "port", "docker_args", "startup_timeout", "pull", "remove_images",
                     "python_standalone_dir", "platform", "remove_container", "container_runtime")
    },
}  # fmt: skip

_INSTANCES = {
    "type": _elsewhere("`load_tasks(source)`"),
    **{
        name: _elsewhere("`load_tasks(source, split)`")
        for name in ("path", "dataset_name", "split", "subset", "database", "load_from_disk", "repo_type", "simple")
    },
    "filter": _elsewhere("`Tasks.filter(pattern)`"),
    **{name: _elsewhere("a slice of Tasks") for name in ("slice", "start", "end")},
    "shuffle": _elsewhere("`Tasks.sample(n, seed)`"),
    "num_rollouts_per_instance": _elsewhere("`collect(attempts=…)`"),
    "evaluate": _elsewhere("every attempt is graded"),
    "env_type": _elsewhere("`SandboxFactory(backend)`"),
    "model_patch_file": _elsewhere("`Evaluator.evaluate(predictions, tasks)`"),
    **_all(_DEPLOYMENT, "deployment"),
}

_ENV = {
    "deployment": _elsewhere("`SandboxFactory(backend)`", tree=True),
    "repo": _elsewhere("`Task.source`", tree=True),
    "post_startup_commands": _map_to("commands in the repository before tools are installed", tree=True),
    "post_startup_command_timeout": _nothing("agent.tools.install_timeout holds for them"),
    "name": _nothing("sandboxes have names of their own"),
}

SWE_AGENT: Mapping[str, Option] = {
    **_all(_AGENT, "agent"),
    **_all(_INSTANCES, "instances"),
    **_all(_ENV, "env"),
    "problem_statement": _elsewhere("`Task.issue`", tree=True),
    "env_type": _elsewhere("`SandboxFactory(backend)`"),
    "output_dir": _elsewhere("`RolloutCollector(run_dir=…)`"),
    "suffix": _elsewhere("`RolloutCollector(run_dir=…)`"),
    "num_workers": _elsewhere("`RolloutCollector(workers=…)`"),
    "random_delay_multiplier": _elsewhere("`Stages` bounds how much begins at once"),
    "redo_existing": _elsewhere("a run directory resumes; `collect(retry=True)` makes anew what was not graded"),
    "raise_exceptions": _nothing("a failed attempt is a record"),
    "progress_bar": _elsewhere("`collect(progress=…)`"),
    "env_var_path": _elsewhere("this process's environment"),
    "actions": _elsewhere("`Rollouts.to_predictions`", tree=True),
}
"""SWE-agent 1.x and SWE-MiniSandbox: dotted name → what becomes of it."""

_MINI_AGENT = {
    "system_template": _map_to("the flavour's system prompt"),
    "instance_template": _map_to("the flavour's first message"),
    "step_limit": _map_to("`Agent.max_steps`; without it, 250"),
    "cost_limit": _map_to("`Agent.max_cost`; costs are counted where `ChatPolicy.prices` says them"),
    "wall_time_limit_seconds": _map_to("`Agent.wall_time`; without it, the Agent's own"),
    "max_consecutive_format_errors": _map_to("`Agent.max_format_errors`"),
    "output_path": _elsewhere("`RolloutCollector(run_dir=…)`"),
    "agent_class": _nothing("the loop is the same for all of them"),
    "mode": _nothing("nobody is asked to confirm commands in a sandbox"),
    "whitelist_actions": _nothing("nobody is asked to confirm commands in a sandbox", tree=True),
    "confirm_exit": _nothing("nobody is asked to confirm commands in a sandbox"),
    "action_observation_template": _map_to("the frame around an observation (1.x)"),
    "timeout_template": _map_to("what is shown for a command that took too long (1.x)"),
    "format_error_template": _map_to("what is shown for a reply that cannot be read (1.x)"),
    "action_regex": _map_to("how replies are read (1.x)"),
}

_MINI_ENVIRONMENT = {
    "cwd": _nothing("commands run in the repository, /testbed"),
    "env": _map_to("variables of each command", tree=True),
    "forward_env": _map_to("variables of this process that each command is given, where they are set", tree=True),
    "timeout": _map_to("`Agent.command_timeout`"),
    "interpreter": _map_to("runs each command; a login shell becomes an ordinary one, as the environment is active", tree=True),
    "environment_class": _elsewhere("`SandboxFactory(backend)`"),
    **{
        name: _elsewhere("`SandboxFactory('docker', …)`", tree=True)
        for name in ("image", "executable", "run_args", "container_timeout", "pull_timeout", "sandbox_build_retries",
                     "global_args", "exec_args", "wrapper_args", "deployment_extra_kwargs", "startup_timeout",
                     "runtime_timeout", "deployment_timeout", "install_pipx", "modal_sandbox_kwargs",
                     "contree_config", "image_tag", "cwd_auto_create", "import_username", "import_password")
    },
}  # fmt: skip

_MINI_MODEL = {
    "model_name": _map_to("`ChatPolicy.model`"),
    "model_class": _map_to("whether replies hold tool calls or text"),
    "model_kwargs": _map_to("sampling, stop, api_base, api_key: `ChatPolicy`; others its `body`", tree=True),
    "observation_template": _map_to("the frame around an observation"),
    "format_error_template": _map_to("what is shown for a reply that cannot be read"),
    "action_regex": _map_to("how replies are read"),
    "multimodal_regex": _refuse("messages hold text only"),
    "litellm_model_registry": _nothing("prices are `ChatPolicy.prices`"),
    "litellm_model_name_override": _nothing("prices are `ChatPolicy.prices`"),
    "provider": _nothing("what answers is the endpoint that is named"),
    "set_cache_control": _nothing("endpoints cache by themselves"),
    "cost_tracking": _nothing("costs are counted where `ChatPolicy.prices` says them"),
}

MINI: Mapping[str, Option] = {
    **_all(_MINI_AGENT, "agent"),
    **_all(_MINI_ENVIRONMENT, "environment"),
    **_all(_MINI_MODEL, "model"),
    "run": _elsewhere("`load_tasks`, `RolloutCollector`", tree=True),
}
"""mini-swe-agent 1.x and 2.x: dotted name → what becomes of it."""

TABLES: Mapping[str, Mapping[str, Option]] = {"swe-agent": SWE_AGENT, "mini": MINI}
_TITLES = {
    "swe-agent": "SWE-agent 1.x and SWE-MiniSandbox",
    "mini": "mini-swe-agent",
}


def markdown() -> str:
    """Return the tables as a page's sections."""
    parts = []
    for kind, table in TABLES.items():
        rows = [f"| `{name}` | {option.fate} | {option.becomes} |" for name, option in table.items()]
        head = f"## {_TITLES[kind]}\n\n| option | fate | what becomes of it, or why not |\n| --- | --- | --- |"
        parts.append("\n".join([head, *rows]))
    return "\n\n".join(parts) + "\n"
