"""Capabilities: what each way to train does with every option of the TRL configuration it is built on.

Each field of TRL's configuration is one of three: a field of our settings, an option that is passed on as it is, or
refused with a reason. Nothing is ignored silently and nothing overrides a setting; a test walks TRL's own fields.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from swebench_lab.errors import TrainingError


@dataclass(frozen=True)
class Capabilities:
    """What one way to train honours.

    Args:
        name: `sft`, or the engine of GRPO.
        config: TRL's configuration class.
        allowed: Options of it that `options=` may hold.
        refused: Option → why it may not.
        unsupported: Setting → why this engine has no such thing.
    """

    name: str
    config: str
    allowed: frozenset[str]
    refused: Mapping[str, str]
    unsupported: Mapping[str, str] = field(default_factory=dict)

    def check_options(self, options: Iterable[str], settings: frozenset[str], owner: str) -> None:
        """Refuse options that are settings, that would have no effect, or that TRL does not have.

        Args:
            options: Names in `options=`.
            settings: Names of the settings.
            owner: Name of the settings class, for messages.

        Raises:
            TrainingError: One may not be given; the message says what to do instead.
        """
        for name in options:
            if name in settings:
                raise TrainingError(f"{owner}(options={{{name!r}: …}}): it is a setting; write {owner}({name}=…)")
            if name in self.refused:
                raise TrainingError(f"{owner}(options={{{name!r}: …}}): {self.refused[name]}")
            if name not in self.allowed:
                near = difflib.get_close_matches(name, [*self.allowed, *settings], 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise TrainingError(f"{owner}(options={{{name!r}: …}}): {self.config} has no such option{hint}")

    def check_supported(self, changed: Iterable[str], owner: str) -> None:
        """Refuse settings that this engine cannot honour.

        Args:
            changed: Names of the settings that differ from their defaults.
            owner: Name of the settings class, for messages.

        Raises:
            TrainingError: One of them is unsupported.
        """
        for name in changed:
            if name in self.unsupported:
                raise TrainingError(f"{owner}({name}=…, engine={self.name!r}): {self.unsupported[name]}")


def names(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


def _refusals(*groups: tuple[str, str]) -> dict[str, str]:
    """Return name → reason, of groups of names and their reason; a name in two groups is an error."""
    table: dict[str, str] = {}
    for names, reason in groups:
        for name in names.split():
            if name in table:
                raise ValueError(f"option {name!r} is refused twice")
            table[name] = reason
    return table


# --- transformers.TrainingArguments, which all three share ------------------------------------------------------------

_SHARED = names(
    "lr_scheduler_kwargs optim optim_args adam_beta1 adam_beta2 adam_epsilon optim_target_modules max_grad_norm "
    "bf16 fp16 tf32 activation_checkpointing activation_checkpointing_kwargs gradient_checkpointing_kwargs "
    "torch_compile torch_compile_backend torch_compile_mode torch_empty_cache_steps log_on_each_node "
    "logging_nan_inf_filter log_level log_level_replica disable_tqdm run_name project trackio_space_id trackio_bucket_id "
    "trackio_static_space_id save_on_each_node save_total_limit full_determinism ddp_find_unused_parameters "
    "ddp_bucket_cap_mb ddp_broadcast_buffers ddp_static_graph ddp_backend ddp_timeout fsdp fsdp_config deepspeed debug "
    "skip_memory_metrics restore_callback_states_from_checkpoint router_aux_loss_coef"
)
_NEVER = _refusals(
    ("max_steps", "the length of a training is the setting `updates`; `max_steps` is an attempt's limit"),
    ("data_seed", "it follows the setting `seed`"),
    ("use_cpu", "a GPU is used where torch finds one; hide it with CUDA_VISIBLE_DEVICES"),
    ("use_cache", "a training pass has no use for a key-value cache"),
    ("auto_find_batch_size", "it would change the size of an update; lower per_device_train_batch_size instead"),
    ("logging_strategy", "it follows from how often is logged"),
    ("save_strategy", "it follows from the setting `save_steps`; 0: at the end only"),
    ("save_only_model", "a checkpoint without its optimiser could not be resumed"),
    ("eval_strategy", "it follows from the setting `eval_steps` of SFT; GRPO evaluates through `watch`"),
    ("include_for_metrics batch_eval_metrics", "no metric is computed by TRL; use `watch`"),
    (
        "push_to_hub hub_token hub_private_repo hub_model_id hub_strategy hub_always_push hub_revision",
        "settings are saved with the run, so they hold no account; push the folder `final` when it is finished",
    ),
    ("remove_unused_columns label_names", "the columns are made by this package"),
    ("length_column_name", "rows have no such column"),
    ("do_train do_eval do_predict", "it has no effect in TRL's trainers"),
    ("resume_from_checkpoint", "a rerun with the same output_dir resumes from its last checkpoint"),
    ("local_rank", "the launcher sets it"),
    ("model_init_kwargs trust_remote_code", "the model is loaded by this package before TRL sees it"),
)

# --- SFT --------------------------------------------------------------------------------------------------------------

SFT = Capabilities(
    "sft",
    "SFTConfig",
    _SHARED
    | names(
        "average_tokens_across_devices label_smoothing_factor bf16_full_eval fp16_full_eval use_liger_kernel "
        "liger_kernel_config neftune_noise_alpha logging_first_step include_num_input_tokens_seen eval_delay "
        "per_device_eval_batch_size prediction_loss_only eval_on_start eval_do_concat_batches eval_use_gather_object "
        "eval_accumulation_steps enable_jit_checkpoint load_best_model_at_end metric_for_best_model greater_is_better "
        "ignore_data_skip accelerator_config parallelism_config dataloader_drop_last dataloader_num_workers "
        "dataloader_pin_memory dataloader_persistent_workers dataloader_prefetch_factor "
        "dataloader_multiprocessing_context dataloader_in_order train_sampling_strategy dataset_num_proc "
        "shuffle_dataset packing_strategy padding_free pad_to_multiple_of eval_packing loss_type activation_offloading "
        "pad_token"
    ),
    _NEVER
    | _refusals(
        (
            "chat_template_path dataset_text_field dataset_kwargs eos_token",
            "rows hold token ids already; SFT(renderer=…) decides how messages become ids",
        ),
        ("truncation_mode", "an attempt longer than max_length is left out and reported, never cut"),
        ("completion_only_loss assistant_only_loss", "each row's own mask says which tokens are trained on"),
    ),
)

OWN_LOSS = frozenset({"loss_type", "label_smoothing_factor", "use_liger_kernel", "liger_kernel_config"})
"""Options of SFT without effect where `context_loss_weight` is set, since the loss is this package's then."""
ADAM = frozenset({"optim", "optim_args", "optim_target_modules", "adam_beta1", "adam_beta2", "adam_epsilon"})
"""Options without effect where `muon` is set."""

# --- GRPO -------------------------------------------------------------------------------------------------------------

_SAMPLED = "attempts are sampled by the agent's policy, not by TRL; set it on the policy"
_SERVED = "TRL talks to no vLLM server here; lab.serve starts one, and its policy() asks it"
_LOADER = "rows come from attempts as they are made, not from a data loader"
_EVALUATED = "TRL evaluates nothing here; GRPO(watch=…) attempts held-out tasks"
_GRPO = _NEVER | _refusals(
    ("num_train_epochs", "the length of a training is the setting `updates`"),
    ("logging_steps logging_first_step", "every update is logged: `table` is made of it"),
    ("average_tokens_across_devices", "the loss of GRPO counts tokens over all devices already"),
    ("label_smoothing_factor", "there are no labels to smooth"),
    ("use_liger_kernel liger_kernel_config", "it would bypass the forward pass that leaves masked rows out"),
    ("neftune_noise_alpha", "noise would make trainer and sampler disagree about log-probabilities"),
    ("include_num_input_tokens_seen", "`table` has the tokens of every update"),
    ("enable_jit_checkpoint", "a checkpoint lies between two updates, never within one"),
    ("ignore_data_skip", "the engine decides how a resumed run finds its place"),
    ("accelerator_config parallelism_config", "the engine decides how batches reach the processes"),
    (
        "load_best_model_at_end metric_for_best_model greater_is_better",
        "TRL measures nothing to choose by; use `watch`",
    ),
    (
        "bf16_full_eval fp16_full_eval eval_steps eval_delay per_device_eval_batch_size prediction_loss_only "
        "eval_on_start eval_do_concat_batches eval_use_gather_object eval_accumulation_steps",
        _EVALUATED,
    ),
    (
        "dataloader_drop_last dataloader_num_workers dataloader_pin_memory dataloader_persistent_workers "
        "dataloader_prefetch_factor dataloader_multiprocessing_context dataloader_in_order train_sampling_strategy",
        _LOADER,
    ),
    ("top_p top_k min_p repetition_penalty chat_template_kwargs", _SAMPLED),
    ("max_tool_calling_iterations", "the agent's max_steps is the limit"),
    ("vllm_server_base_url vllm_server_timeout", _SERVED),
)

SYNC = Capabilities(
    "sync",
    "GRPOConfig",
    _SHARED
    | names(
        "disable_dropout cast_lm_head_to_fp32 pad_to_multiple_of delta sapo_temperature_neg sapo_temperature_pos "
        "vespo_k_pos vespo_lambda_pos vespo_k_neg vespo_lambda_neg importance_sampling_level sync_ref_model "
        "ref_model_mixup_alpha ref_model_sync_steps top_entropy_quantile entropy_coef use_adaptive_entropy "
        "entropy_coef_min entropy_coef_max entropy_coef_delta entropy_target vllm_importance_sampling_correction "
        "vllm_importance_sampling_mode vllm_importance_sampling_clip_min off_policy_mask_threshold "
        "use_bias_correction_kl log_completions num_completions_to_print log_unique_prompts"
    ),
    _GRPO
    | _refusals(
        ("num_generations_eval", _EVALUATED),
        ("generation_batch_size", "it is num_generations × tasks_per_update"),
        (
            "ds3_gather_for_generation generation_kwargs cache_implementation use_transformers_continuous_batching "
            "transformers_continuous_batching_config use_transformers_paged",
            _SAMPLED,
        ),
        (
            "use_vllm vllm_mode vllm_model_impl vllm_enable_sleep_mode vllm_structured_outputs_regex vllm_server_host "
            "vllm_server_port vllm_group_port vllm_gpu_memory_utilization vllm_max_model_length "
            "vllm_tensor_parallel_size",
            _SERVED,
        ),
        ("reward_weights multi_objective_aggregation", "there is one reward, the collector's"),
        ("mask_truncated_completions", "write rules=Rules(truncated='mask'), which asks whether the attempt ended"),
        ("log_completions_hub_repo", "nothing is published while a run goes on; its rollouts are in output_dir"),
        ("log_multimodal", "attempts hold no images"),
        ("vllm_importance_sampling_cap", "TRL renamed it: the setting vllm_importance_sampling_clip_max"),
    ),
    {"max_staleness": "nothing is stale where attempts and training take turns"},
)

ASYNC = Capabilities(
    "async",
    "AsyncGRPOConfig",
    _SHARED,
    _GRPO
    | _refusals(
        ("request_timeout weight_sync_timeout", _SERVED),
        ("fork_threshold_tokens", "rows are the sampled ids themselves; nothing is tokenised again"),
        ("token_budget", "a forward pass holds per_device_train_batch_size rows"),
        ("max_inflight_tasks queue_maxsize", "it follows from max_staleness and from the collector's workers"),
        ("weight_sync_steps", "the policy takes the new weights after every update"),
        ("heartbeat_stale_after_s", "the collector's Deadlines bound every attempt"),
        ("log_completions num_completions_to_print", "only TRL's own worker does; rollouts are kept in output_dir"),
    ),
    {
        "steps_per_generation": "attempts are made without end; the size of an update is tasks_per_update",
        "gradient_accumulation_steps": "an update is one optimiser step; use fewer tasks_per_update",
        "num_iterations": "every attempt is seen once; use smaller updates",
        "refill": "an update is filled with groups that can be trained on anyway, however many are made",
        "muon": "TRL's AsyncGRPOTrainer makes its own optimiser; use engine='sync'",
        "distillation": "TRL's AsyncGRPOTrainer has one advantage for all tokens of a row; use engine='sync'",
        "beta": "TRL's AsyncGRPOTrainer has no KL term; use engine='sync'",
        "loss_type": "TRL's AsyncGRPOTrainer has one loss, the clipped mean over tokens; use engine='sync'",
    },
)

ENGINES: Mapping[str, Capabilities] = {"sync": SYNC, "async": ASYNC}
"""Engine of GRPO → what it honours."""
